/*
 * fsw_input.c - where a packet belongs: it is parsed once, its owner is looked
 * up, and it goes onto the ring of his port. What has no owner is HOST's.
 */
#include "skywalk/flowswitch/fsw.h"

#include <string.h>

void
fsw_touch(struct fsw *f, struct fsw_end *e)
{
	if (!e->e_touched) {
		e->e_touched = true;
		e->e_touch = f->f_touched;
		f->f_touched = e;
	}
}

void
fsw_push(struct fsw *f, struct fsw_end *e, struct pkt *p)
{
	if (!ring_put(&e->e_ring, p)) {
		fsw_portadd(&e->e_port.pt_stats.ps_rxdrops, 1);
		fsw_drop(f, p,
		    e->e_host ? FS_RX_HOST_RING_FULL : FS_RX_DST_RING_FULL);
		return;
	}
	fsw_touch(f, e);
}

void
fsw_tohost(struct fsw *f, struct pkt *p, bool framed)
{
	if (f->f_host == NULL) {
		fsw_drop(f, p, FS_RX_HOST_RING_FULL);
		return;
	}
	if (!framed && f->f_l2 != 0) {
		p = fsw_encap(f, p, f->f_dev->pt_mac, f->f_dev->pt_mac);
		if (p == NULL) {
			return;
		}
	}
	fsw_push(f, f->f_host, p);
}

/* What was sent in memory is received: its checksum needs no check. */
static void
packet_turn(struct fsw *f, struct pkt *p)
{
	p->p_time = f->f_now;
	p->p_flags &= (uint8_t)~PKT_TX;
	if (p->p_flags & PKT_CSUM_PARTIAL) {
		p->p_flags |= PKT_CSUM_VALID;
	}
}

/* Take n bytes off the front of the first buffer. */
static void
packet_strip(struct pkt *p, uint32_t n)
{
	p->p_data += n;
	p->p_len -= n;
	p->p_pktlen -= n;
	p->p_csum_start =
	    (uint16_t)(p->p_csum_start > n ? p->p_csum_start - n : 0);
	p->p_hdrlen = (uint16_t)(p->p_hdrlen > n ? p->p_hdrlen - n : 0);
}

struct flow *
fsw_owner(struct fsw *f, const struct hdr *h)
{
	struct flow *fl = flow_lookup(f->f_ns, &h->h_key);

	/* A port at any address is one at any of our addresses. */
	if (fl != NULL && fl->fl_mask == FLOW_2TUPLE && !f->f_loop &&
	    !fsw_is_own(f, h->h_key.fk_laddr, true)) {
		return NULL;
	}
	return fl;
}

bool
fsw_deliver(struct fsw *f, struct flow *fl, struct pkt *p, const struct hdr *h)
{
	struct fsw_end *e;

	if (fl->fl_owner == NULL) {
		fsw_count(f, FS_RX_LINGER, 1);
		fsw_reply(f, fl, h);
		pkt_free(p);
		return true;
	}
	e = fl->fl_owner->no_end[f->f_index];
	if (e == NULL) {
		return false;
	}
	if (p->p_len < h->h_l3) {
		fsw_drop(f, p, FS_RX_BADLINK);
		return true;
	}
	fl->fl_rxpkts++;
	fl->fl_rxbytes += p->p_pktlen - h->h_l3;
	fl->fl_fsw = f->f_index;
	if (h->h_l3 == ETHER_LEN) {
		memcpy(fl->fl_mac, p->p_data + 6, 6);
		fl->fl_hasmac = true;
	}
	if (h->h_kind == HDR_FLOW && fl->fl_mask == FLOW_5TUPLE &&
	    h->h_key.fk_proto == FLOW_IPPROTO_TCP) {
		track_segment(&fl->fl_track, h, false);
	}
	p->p_flowid = fl->fl_id;
	fsw_count(f, FS_RX_CLIENT, 1);
	if (h->h_l3 != 0) {
		packet_strip(p, h->h_l3);
	}
	if (f->f_now + FSW_TICK < f->f_tick) {
		f->f_tick = f->f_now + FSW_TICK; /* the watchdog looks */
	}
	if (!agg_join(f, e, p, h)) {
		fsw_push(f, e, p);
	}
	return true;
}

/* A copy that shares the storage. */
static struct pkt *
packet_share(struct fsw *f, const struct pkt *p)
{
	struct pkt *top = NULL, **tail = &top;

	for (const struct pkt *b = p; b != NULL; b = b->p_next) {
		pkt_ext_hold(b->p_ext);
		*tail = pkt_wrap(f->f_pool, b->p_data, b->p_len, b->p_ext);
		if (*tail == NULL) {
			pkt_ext_drop(b->p_ext);
			pkt_free(top);
			return NULL;
		}
		tail = &(*tail)->p_next;
	}
	top->p_time = p->p_time;
	top->p_pktlen = p->p_pktlen;
	top->p_svc = p->p_svc;
	top->p_flags = p->p_flags;
	top->p_csum_start = p->p_csum_start;
	top->p_csum_offset = p->p_csum_offset;
	top->p_gso_size = p->p_gso_size;
	top->p_gso_type = p->p_gso_type;
	top->p_hdrlen = p->p_hdrlen;
	return top;
}

struct multicast {
	struct fsw *mc_fsw;
	const struct pkt *mc_pkt;
	const struct hdr *mc_hdr;
};

static void
multicast_one(void *arg, struct netns_owner *no)
{
	struct multicast *mc = arg;
	struct fsw *f = mc->mc_fsw;
	struct fsw_end *e = no->no_end[f->f_index];
	struct pkt *copy;

	if (e == NULL || mc->mc_pkt->p_len < mc->mc_hdr->h_l3) {
		return;
	}
	copy = packet_share(f, mc->mc_pkt);
	if (copy == NULL) {
		fsw_count(f, FS_RX_NOBUFS, 1);
		return;
	}
	packet_strip(copy, mc->mc_hdr->h_l3);
	fsw_count(f, FS_RX_MULTICAST, 1);
	fsw_push(f, e, copy);
}

/* Every client that has bound its port gets a copy; p stays HOST's. */
static void
fsw_multicast(struct fsw *f, const struct pkt *p, const struct hdr *h)
{
	struct multicast mc = { f, p, h };

	if (h->h_kind == HDR_FLOW && !h->h_isfrag &&
	    h->h_key.fk_proto == FLOW_IPPROTO_UDP) {
		netns_each(f->f_ns, &h->h_key, multicast_one, &mc);
	}
}

/* true: p is taken; else HOST's. */
static bool
fsw_sort(struct fsw *f, struct pkt *p, const struct hdr *h)
{
	struct flow *fl;

	if (h->h_kind == HDR_BAD) {
		fsw_count(f, FS_RX_BAD, 1);
		return false;
	}
	if (h->h_multicast) {
		fsw_multicast(f, p, h);
		return false;
	}
	if (h->h_isfrag) {
		frag_input(f, p, h);
		return true;
	}
	if (h->h_kind != HDR_FLOW && h->h_kind != HDR_ICMP_ERROR) {
		return false;
	}
	fl = fsw_owner(f, h);
	if (fl == NULL) {
		return false;
	}
	if (h->h_kind == HDR_ICMP_ERROR) {
		if (fl->fl_owner == NULL) {
			return false;
		}
		fsw_count(f, FS_RX_ICMP, 1);
	}
	return fsw_deliver(f, fl, p, h);
}

/* Whether DEV's frame p carries IP that may be ours. */
static bool
frame_read(struct fsw *f, const struct pkt *p, struct hdr *h)
{
	const uint8_t *b = p->p_data;
	unsigned type;

	if (f->f_l2 == 0) {
		hdr_parse(p, 0, false, h);
		return true;
	}
	if (p->p_len < ETHER_LEN) {
		return false;
	}
	type = rd16(b + 12);
	if ((type != 0x0800 && type != 0x86dd) ||
	    ((b[0] & 1) == 0 && memcmp(b, f->f_dev->pt_mac, 6) != 0)) {
		return false;
	}
	hdr_parse(p, ETHER_LEN, false, h);
	if (h->h_version != (type == 0x0800 ? 4 : 6)) {
		return false;
	}
	h->h_multicast |= (b[0] & 1) != 0;
	return true;
}

int
fsw_demux(struct fsw *f, struct pkt **v, int n)
{
	struct netns *ns = f->f_ns;
	struct hdr h;
	int kept = 0;

	fsw_count(f, FS_RX_PKTS, (uint64_t)n);
	if (atomic_load_explicit(&ns->ns_entries, memory_order_relaxed) == 0) {
		fsw_count(f, FS_RX_HOST, (uint64_t)n);
		return n;
	}
	pthread_mutex_lock(&ns->ns_lock);
	netns_time(ns, f->f_now);
	for (int i = 0; i < n; i++) {
		if (i + 1 < n) {
			__builtin_prefetch(v[i + 1]->p_data);
		}
		if (!frame_read(f, v[i], &h) || !fsw_sort(f, v[i], &h)) {
			v[kept++] = v[i];
		}
	}
	pthread_mutex_unlock(&ns->ns_lock);
	fsw_count(f, FS_RX_HOST, (uint64_t)kept);
	fsw_replies(f);
	return kept;
}

void
fsw_local(struct fsw *f, struct pkt *p, const struct hdr *h)
{
	packet_turn(f, p);
	p->p_flowid = 0;
	if (!fsw_sort(f, p, h)) {
		fsw_tohost(f, p, false);
	}
}

void
fsw_loop(struct fsw *f, struct pkt **v, int n)
{
	struct netns *ns = f->f_ns;
	bool alone =
	    atomic_load_explicit(&ns->ns_entries, memory_order_relaxed) == 0;
	struct hdr h;

	if (alone) {
		for (int i = 0; i < n; i++) {
			packet_turn(f, v[i]);
			fsw_tohost(f, v[i], false);
		}
		return;
	}
	pthread_mutex_lock(&ns->ns_lock);
	netns_time(ns, f->f_now);
	for (int i = 0; i < n; i++) {
		hdr_parse(v[i], 0, false, &h);
		fsw_local(f, v[i], &h);
	}
	pthread_mutex_unlock(&ns->ns_lock);
	fsw_replies(f);
}
