/*
 * fsw_output.c - down to DEV: link headers, what DEV has no room for, and the
 * RSTs of those who cannot send them any more.
 *
 * Backlog. DEV takes what it can; the rest waits here, in order, and nothing is
 * sent before it. A flow that has packets waiting is suspended in the advisory
 * table, so its sender stops by itself; when the backlog is empty all of them
 * are resumed and told. A client that goes on all the same finds its port full.
 */
#include "skywalk/flowswitch/fsw.h"

#include <errno.h>
#include <string.h>

#define BACK_RETRY 100000u /* ns between tries of clients */
/* Bursts of RSTs a call sends: receivers in this process get to drain. */
#define ABORT_BURSTS 8

static void
flow_suspend(struct fsw *f, uint32_t id)
{
	struct flow_adv *fa = flow_advisory(&f->f_ns->ns_advtab, id);

	if (fa == NULL || f->f_nsusp == f->f_backcap ||
	    (atomic_fetch_or_explicit(&fa->fa_flags, FLOWADV_SUSPENDED,
		 memory_order_acq_rel) &
		FLOWADV_SUSPENDED)) {
		return;
	}
	f->f_susp[f->f_nsusp++] = id;
	fsw_count(f, FS_TX_SUSPENDED, 1);
}

static void
flow_resume_all(struct fsw *f)
{
	struct flow_advtab *ft = &f->f_ns->ns_advtab;

	if (f->f_nsusp == 0) {
		return;
	}
	for (uint32_t i = 0; i < f->f_nsusp; i++) {
		struct flow_adv *fa = flow_advisory(ft, f->f_susp[i]);

		if (fa != NULL) {
			atomic_fetch_and_explicit(&fa->fa_flags,
			    ~(unsigned)FLOWADV_SUSPENDED, memory_order_acq_rel);
		}
	}
	fsw_count(f, FS_TX_RESUMED, f->f_nsusp);
	f->f_nsusp = 0;
	atomic_fetch_add_explicit(&ft->ft_gen, 1, memory_order_release);
	ft->ft_notify(ft->ft_arg);
}

static void
client_at(struct fsw *f, uint64_t at)
{
	atomic_store_explicit(&f->f_clientat, at, memory_order_relaxed);
}

/* Packets that DEV refuses for good. */
static void
tx_fail(struct fsw *f, struct pkt **v, int n)
{
	for (int i = 0; i < n; i++) {
		fsw_drop(f, v[i], FS_TX_DEV_ERROR);
	}
}

/* Offer v to DEV: how many it took, or was rid of. */
static int
tx_offer(struct fsw *f, struct pkt **v, int n)
{
	int done = 0;

	while (done < n) {
		int burst = n - done < PORT_BURST ? n - done : PORT_BURST;
		int k = f->f_dev->pt_output(f->f_dev, v + done, burst, f->f_now);

		if (k < 0 && k != -EAGAIN && k != -EINTR && k != -ENOBUFS) {
			tx_fail(f, v + done, burst);
			k = burst;
		}
		done += k > 0 ? k : 0;
		if (k < burst) {
			break;
		}
	}
	return done;
}

bool
fsw_drain(struct fsw *f)
{
	while (f->f_nback > 0) {
		uint32_t run = f->f_backcap - f->f_backhead;
		int k;

		run = run < f->f_nback ? run : f->f_nback;
		k = tx_offer(f, f->f_back + f->f_backhead, (int)run);
		f->f_nback -= (uint32_t)k;
		f->f_backhead = (f->f_backhead + (uint32_t)k) % f->f_backcap;
		if ((uint32_t)k < run) {
			client_at(f, f->f_now + BACK_RETRY);
			return false;
		}
	}
	if (f->f_dev->pt_npend > 0) {
		/* Segments that its door has cut are not out yet. */
		(void)f->f_dev->pt_output(f->f_dev, f->f_back, 0, f->f_now);
		if (f->f_dev->pt_npend > 0) {
			client_at(f, f->f_now + BACK_RETRY);
			return false;
		}
	}
	client_at(f, PORT_NEVER);
	flow_resume_all(f);
	return true;
}

void
fsw_tx(struct fsw *f, struct pkt **v, int n)
{
	int k = 0;

	fsw_count(f, FS_TX_WIRE, (uint64_t)n);
	if (f->f_nback == 0) {
		k = tx_offer(f, v, n);
	}
	for (; k < n; k++) {
		uint32_t at = (f->f_backhead + f->f_nback) % f->f_backcap;

		flow_suspend(f, v[k]->p_flowid);
		if (f->f_nback == f->f_backcap) {
			fsw_drop(f, v[k], FS_TX_NOBUFS);
			continue;
		}
		f->f_back[at] = v[k];
		f->f_nback++;
		fsw_count(f, FS_TX_BACKLOG, 1);
	}
	if (f->f_nback > 0 || f->f_dev->pt_npend > 0) {
		client_at(f, f->f_now + BACK_RETRY);
	}
}

void
fsw_backlog_fini(struct fsw *f)
{
	while (f->f_nback > 0) {
		fsw_drop(f, f->f_back[f->f_backhead], FS_TX_DEV_ERROR);
		f->f_backhead = (f->f_backhead + 1) % f->f_backcap;
		f->f_nback--;
	}
	flow_resume_all(f);
}

struct pkt *
fsw_encap(struct fsw *f, struct pkt *p, const uint8_t dst[6],
    const uint8_t src[6])
{
	uint8_t version = p->p_data[0] >> 4;
	struct pkt *q = p;

	if (p->p_data - p->p_buf < ETHER_LEN || !pkt_writable(p)) {
		uint32_t room = f->f_dev->pt_headroom;

		/* The first buffer carries the metadata. */
		q = pkt_alloc(f->f_pool, room + ETHER_LEN, room + ETHER_LEN);
		if (q == NULL) {
			fsw_drop(f, p, FS_TX_NOBUFS);
			return NULL;
		}
		q->p_time = p->p_time;
		q->p_pktlen = p->p_pktlen;
		q->p_flowid = p->p_flowid;
		q->p_origin = p->p_origin;
		q->p_csum_start = p->p_csum_start;
		q->p_csum_offset = p->p_csum_offset;
		q->p_gso_size = p->p_gso_size;
		q->p_hdrlen = p->p_hdrlen;
		q->p_gso_type = p->p_gso_type;
		q->p_flags = p->p_flags;
		q->p_svc = p->p_svc;
		q->p_next = p;
	}
	q->p_data -= ETHER_LEN;
	q->p_len += ETHER_LEN;
	q->p_pktlen += ETHER_LEN;
	q->p_csum_start = (uint16_t)(q->p_csum_start + ETHER_LEN);
	if (q->p_hdrlen != 0) {
		q->p_hdrlen = (uint16_t)(q->p_hdrlen + ETHER_LEN);
	}
	memcpy(q->p_data, dst, 6);
	memcpy(q->p_data + 6, src, 6);
	wr16(q->p_data + 12, version == 4 ? 0x0800 : 0x86dd);
	return q;
}

/* ---- RSTs ---- */

static void
rst_tcp(uint8_t *th, const struct flow_key *k, uint32_t seq, uint32_t ack,
    uint8_t flags)
{
	memset(th, 0, 20);
	wr16(th, k->fk_lport);
	wr16(th + 2, k->fk_fport);
	wr32(th + 4, seq);
	wr32(th + 8, ack);
	th[12] = 0x50;
	th[13] = flags;
}

/* A whole packet from k's local side; NULL: no memory. */
static struct pkt *
rst_make(struct fsw *f, const struct flow_key *k, uint32_t seq, uint32_t ack,
    uint8_t flags)
{
	bool v4 = addr_is4(k->fk_laddr);
	uint32_t l4 = v4 ? 20 : 40, room = f->f_dev->pt_headroom + ETHER_LEN;
	struct pkt *p = pkt_alloc(f->f_pool, room + l4 + 20, room);
	uint16_t sum;
	uint8_t *b;

	if (p == NULL) {
		fsw_count(f, FS_TX_NOBUFS, 1);
		return NULL;
	}
	b = p->p_data;
	memset(b, 0, l4);
	if (v4) {
		b[0] = 0x45;
		wr16(b + 2, 40);
		wr16(b + 6, 0x4000);
		b[8] = 64;
		b[9] = FLOW_IPPROTO_TCP;
		memcpy(b + 12, k->fk_laddr + 12, 4);
		memcpy(b + 16, k->fk_faddr + 12, 4);
		sum = (uint16_t)~fsw_fold(fsw_sum(b, 20, 0));
		memcpy(b + 10, &sum, 2);
	} else {
		b[0] = 0x60;
		wr16(b + 4, 20);
		b[6] = FLOW_IPPROTO_TCP;
		b[7] = 64;
		memcpy(b + 8, k->fk_laddr, 16);
		memcpy(b + 24, k->fk_faddr, 16);
	}
	rst_tcp(b + l4, k, seq, ack, flags);
	sum = (uint16_t)~fsw_fold(fsw_sum(b + l4, 20,
	    fsw_sum_pseudo(b, v4 ? 4 : 6, FLOW_IPPROTO_TCP, 20)));
	memcpy(b + l4 + 16, &sum, 2);
	p->p_len = p->p_pktlen = l4 + 20;
	p->p_hdrlen = (uint16_t)(l4 + 20);
	p->p_csum_start = (uint16_t)l4;
	p->p_csum_offset = 16;
	p->p_flags = PKT_TX;
	return p;
}

static void
reply_queue(struct fsw *f, const struct flow *fl, struct pkt *p)
{
	if (p == NULL) {
		return;
	}
	if (f->f_nreplies == PORT_BURST) {
		fsw_drop(f, p, FS_TX_NOBUFS);
		return;
	}
	f->f_reply[f->f_nreplies].rp_pkt = p;
	f->f_reply[f->f_nreplies].rp_hasmac = fl->fl_hasmac;
	memcpy(f->f_reply[f->f_nreplies].rp_mac, fl->fl_mac, 6);
	f->f_nreplies++;
	fsw_count(f, FS_TX_RST, 1);
}

/* RFC 9293, 3.10.7.1: what a connection that does not exist answers. */
void
fsw_reply(struct fsw *f, const struct flow *fl, const struct hdr *in)
{
	uint32_t end;

	if (in->h_kind != HDR_FLOW || (in->h_flags & TH_RST) ||
	    fl->fl_key.fk_proto != FLOW_IPPROTO_TCP ||
	    fl->fl_track.tk_state == TRACK_CLOSED) {
		return; /* after both FINs: as quiet as TIME-WAIT */
	}
	if (in->h_flags & TH_ACK) {
		reply_queue(f, fl,
		    rst_make(f, &fl->fl_key, in->h_ack, 0, TH_RST));
		return;
	}
	end = in->h_seq + in->h_paylen + ((in->h_flags & TH_SYN) != 0) +
	    ((in->h_flags & TH_FIN) != 0);
	reply_queue(f, fl, rst_make(f, &fl->fl_key, 0, end, TH_RST | TH_ACK));
}

/* Its sequence number is what the peer waits for as far as we know; if it
 * knows better it sends a challenge (RFC 5961), and fsw_reply() meets it. */
static void
rst_abort(struct fsw *f, const struct flow *fl)
{
	const struct track *tk = &fl->fl_track;
	uint32_t seq = tk->tk_rxacked ? tk->tk_rxack : tk->tk_txend;

	reply_queue(f, fl,
	    rst_make(f, &fl->fl_key, seq, tk->tk_txacked ? tk->tk_txack : 0,
		tk->tk_txacked ? TH_RST | TH_ACK : TH_RST));
}

void
fsw_replies(struct fsw *f)
{
	struct pkt *out[PORT_BURST];
	int n = 0;

	if (f->f_nreplies == 0) {
		return;
	}
	for (uint32_t i = 0; i < f->f_nreplies; i++) {
		struct pkt *p = f->f_reply[i].rp_pkt;

		if (f->f_l2 != 0) {
			if (!f->f_reply[i].rp_hasmac) {
				fsw_drop(f, p, FS_TX_UNREACH);
				continue;
			}
			p = fsw_encap(f, p, f->f_reply[i].rp_mac,
			    f->f_dev->pt_mac);
		}
		if (p != NULL) {
			out[n++] = p;
		}
	}
	f->f_nreplies = 0;
	if (f->f_loop) {
		fsw_loop(f, out, n);
	} else {
		fsw_tx(f, out, n);
	}
}

void
fsw_aborts(struct fsw *f)
{
	struct netns *ns = f->f_ns;
	struct flow *fl, *next;
	uint32_t took = 1;

	for (int i = 0; i < ABORT_BURSTS && took > 0; i++) {
		took = 0;
		pthread_mutex_lock(&ns->ns_lock);
		for (fl = STAILQ_FIRST(&ns->ns_aborts);
		    fl != NULL && f->f_nreplies < PORT_BURST; fl = next) {
			next = STAILQ_NEXT(fl, fl_alink);
			if (fl->fl_fsw != f->f_index) {
				continue;
			}
			STAILQ_REMOVE(&ns->ns_aborts, fl, flow, fl_alink);
			fl->fl_aborting = false;
			atomic_fetch_sub_explicit(&ns->ns_naborts, 1,
			    memory_order_relaxed);
			rst_abort(f, fl);
			took++;
		}
		pthread_mutex_unlock(&ns->ns_lock);
		fsw_replies(f);
	}
}
