/*
 * channel_port.c - a channel as a port: a stack here, a switch or another stack
 * in the other process.
 *
 * A payload byte is copied once on its way across, by the sender, who finishes
 * an open checksum in the same pass (a super-segment stays open: its segments
 * have sums of their own). The receiver lends what came in place, except
 * its first CP_HEADERS bytes: those are parsed, and the other process could
 * change them after they are checked, so they are copied and only the copy is
 * looked at. A packet that fits into them costs that copy and is returned at once.
 *
 * A stack that does not read what it got must not hold all the other end's
 * packets: when half of them are lent, packets are copied whole.
 *
 * The descriptor is an epoll of the channel's two, so it polls readable also
 * when a full ring has room again, and never writable.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "nic/port.h"
#include "skywalk/channel/channel_var.h"

#define CP_HEADERS 192 /* link, IPv6 with options, TCP with options */
#define CP_IPMAX 65535
#define CP_HEADROOM 64
#define CP_CAPS                                                                \
	(PORT_TXCSUM | PORT_TSO4 | PORT_TSO6 | PORT_USO | PORT_RXCSUM |        \
	    PORT_LRO | PORT_SG)
#define CP_UDPSUM 6 /* offset of the checksum in a UDP header */

struct channel_port;

struct lent {
	struct pkt_ext ln_ext;
	struct channel_port *ln_cp;
	uint32_t ln_idx;
};

struct channel_port {
	struct port cp_port;
	struct channel *cp_ch;
	struct lent *cp_lent; /* one for each packet of the other end */
	atomic_uint cp_refs;  /* the port and what it has lent */
	int cp_ep;
	struct sk_batch cp_batch; /* received, not yet handed up */
	uint32_t cp_at;
	/* Packets were refused: the descriptor stays readable from when there
	 * is room again until sending is tried. */
	bool cp_txblocked;
};

static struct channel_port *
cp_of(struct port *pt)
{
	return (struct channel_port *)(void *)((char *)pt -
	    offsetof(struct channel_port, cp_port));
}

static void
cp_drop(struct channel_port *cp)
{
	if (atomic_fetch_sub_explicit(&cp->cp_refs, 1, memory_order_acq_rel) ==
	    1) {
		channel_drop(cp->cp_ch);
		free(cp->cp_lent);
		free(cp);
	}
}

/* ---- Sending ---- */

/* Copy, and add up 16-bit words as they lie in memory. */
static uint64_t
copy_sum(uint8_t *to, const uint8_t *from, size_t n)
{
	uint64_t sum = 0, w;

	for (; n >= 8; n -= 8, to += 8, from += 8) {
		memcpy(&w, from, 8);
		memcpy(to, &w, 8);
		sum += (w & 0xffffffff) + (w >> 32);
	}
	if (n > 0) {
		w = 0;
		memcpy(&w, from, n);
		memcpy(to, &w, n);
		sum += (w & 0xffffffff) + (w >> 32);
	}
	while (sum >> 16 != 0) {
		sum = (sum & 0xffff) + (sum >> 16);
	}
	return sum;
}

/* Byte at of a packet that lies in to. */
static uint8_t *
byte_at(const struct iovec *to, uint32_t at)
{
	while (at >= to->iov_len) {
		at -= (uint32_t)(to++)->iov_len;
	}
	return (uint8_t *)to->iov_base + at;
}

/* The chain p into to; the sum of everything from start on. */
static uint16_t
copy_chain(const struct pkt *p, const struct iovec *to, uint32_t start)
{
	uint32_t at = 0, used = 0;
	uint64_t sum = 0, part;

	for (; p != NULL; p = p->p_next) {
		for (uint32_t i = 0, k; i < p->p_len; i += k) {
			uint8_t *dst;

			while (used == to->iov_len) {
				to++;
				used = 0;
			}
			dst = (uint8_t *)to->iov_base + used;
			k = p->p_len - i;
			k = k < to->iov_len - used ?
			    k :
			    (uint32_t)to->iov_len - used;
			if (at < start) {
				k = k < start - at ? k : start - at;
				memcpy(dst, p->p_data + i, k);
			} else {
				part = copy_sum(dst, p->p_data + i, k);
				if (((at - start) & 1) != 0) {
					part = (part << 8 | part >> 8) & 0xffff;
				}
				sum += part;
			}
			at += k;
			used += k;
		}
	}
	while (sum >> 16 != 0) {
		sum = (sum & 0xffff) + (sum >> 16);
	}
	return (uint16_t)sum;
}

static void
meta_of(const struct pkt *p, struct sk_meta *m)
{
	*m = (struct sk_meta){
		.flowid = p->p_flowid,
		.origin = p->p_origin,
		.csum_start = p->p_csum_start,
		.csum_offset = p->p_csum_offset,
		.gso_size = p->p_gso_size,
		.hdrlen = p->p_hdrlen,
		.gso_type = p->p_gso_type,
		.flags = p->p_flags,
		.svc = p->p_svc,
	};
}

/* Copy p into the channel. 1, 0: no room, or an error: it can never go. */
static int
cp_send(struct channel_port *cp, const struct pkt *p)
{
	struct channel *ch = cp->cp_ch;
	bool finish = (p->p_flags & PKT_CSUM_PARTIAL) != 0 &&
	    p->p_gso_type == PKT_GSO_NONE;
	uint32_t field = (uint32_t)p->p_csum_start + p->p_csum_offset;
	struct iovec to[SK_MAX_FRAGS];
	struct sk_meta meta;
	uint16_t sum;
	uint32_t idx;
	int result;

	if (finish && field + 2 > p->p_pktlen) {
		return -EINVAL;
	}
	result = channel_tx_begin(ch, p->p_pktlen, &idx);
	if (result <= 0) {
		return result;
	}
	meta_of(p, &meta);
	channel_tx_iov(ch, idx, p->p_pktlen, to);
	sum = copy_chain(p, to, finish ? p->p_csum_start : UINT32_MAX);
	if (finish) {
		sum = (uint16_t)~sum;
		if (sum == 0 && p->p_csum_offset == CP_UDPSUM) {
			sum = 0xffff;
		}
		memcpy(byte_at(to, field), &sum, 1);
		memcpy(byte_at(to, field + 1), (uint8_t *)&sum + 1, 1);
		meta.flags &= (uint8_t)~PKT_CSUM_PARTIAL;
		meta.flags |= PKT_CSUM_VALID;
	}
	channel_tx_commit(ch, idx, p->p_pktlen, &meta);
	return 1;
}

static int
cp_tx(struct port *pt, struct pkt **v, int n, uint64_t now)
{
	struct channel_port *cp = cp_of(pt);
	int k = 0, sent = 0, result;
	uint64_t bytes = 0;

	(void)now;
	cp->cp_txblocked = false;
	while (k < n) {
		result = cp_send(cp, v[k]);
		if (result == 0) {
			/* Only now, so that what is there can be taken. */
			channel_tx_flush(cp->cp_ch);
			if (sk_channel_arm(cp->cp_ch, SK_TX) != 1) {
				cp->cp_txblocked = true;
				break;
			}
			continue;
		}
		if (result > 0) {
			sent++;
			bytes += v[k]->p_pktlen;
		} else {
			stat_add(&pt->pt_stats.ps_txdrops, 1);
		}
		pkt_free(v[k++]);
	}
	channel_tx_flush(cp->cp_ch);
	stat_add(&pt->pt_stats.ps_txpkts, (uint64_t)sent);
	stat_add(&pt->pt_stats.ps_txbytes, bytes);
	return k;
}

/* ---- Receiving ---- */

static void
lent_free(struct pkt_ext *ext)
{
	struct lent *ln =
	    (struct lent *)(void *)((char *)ext - offsetof(struct lent, ln_ext));
	struct channel_port *cp = ln->ln_cp;

	sk_release(cp->cp_ch, &ln->ln_idx, 1);
	cp_drop(cp);
}

/* What the other end says is left to be done makes sense. */
static bool
meta_good(const struct sk_meta *m, uint32_t len)
{
	bool partial = (m->flags & PKT_CSUM_PARTIAL) != 0;

	if (partial && (uint32_t)m->csum_start + m->csum_offset + 2 > len) {
		return false;
	}
	switch (m->gso_type) {
	case PKT_GSO_NONE:
		return m->gso_size == 0;
	case PKT_GSO_TCPV4:
	case PKT_GSO_TCPV6:
	case PKT_GSO_UDP_L4:
		return partial && m->gso_size != 0;
	default:
		return false;
	}
}

static void
meta_to(const struct sk_meta *m, struct pkt *p, uint32_t len, uint64_t now)
{
	p->p_time = now;
	p->p_pktlen = len;
	p->p_flowid = m->flowid;
	p->p_origin = m->origin;
	p->p_csum_start = m->csum_start;
	p->p_csum_offset = m->csum_offset;
	p->p_gso_size = m->gso_size;
	p->p_hdrlen = m->hdrlen;
	p->p_gso_type = m->gso_type;
	p->p_svc = m->svc;
	p->p_flags = m->flags &
	    (PKT_CSUM_PARTIAL | PKT_CSUM_VALID | PKT_BCAST | PKT_MCAST |
		PKT_REXMT);
	if ((p->p_flags & PKT_CSUM_PARTIAL) != 0) {
		p->p_flags |= PKT_CSUM_VALID;
	}
}

/* The first most bytes of packet i, copied into a buffer of our own. */
static struct pkt *
cp_head(struct channel_port *cp, uint32_t i, uint32_t most)
{
	const struct sk_batch *b = &cp->cp_batch;
	struct pkt *p =
	    pkt_alloc(cp->cp_port.pt_pool, CP_HEADROOM + most, CP_HEADROOM);
	uint32_t len;

	for (uint32_t f = 0; p != NULL && f < b->nfrags[i] && p->p_len < most;
	    f++) {
		const uint8_t *data =
		    sk_packet_frag(cp->cp_ch, b->idx[i], f, &len);

		len = len < most - p->p_len ? len : most - p->p_len;
		memcpy(p->p_data + p->p_len, data, len);
		p->p_len += len;
	}
	return p;
}

/* Hang everything behind the first skip bytes to p, in place. The packet is
 * given back when the last piece is freed. */
static bool
cp_rest(struct channel_port *cp, uint32_t i, uint32_t skip, struct pkt *p)
{
	const struct sk_batch *b = &cp->cp_batch;
	struct lent *ln = &cp->cp_lent[b->idx[i]];
	bool good = true;
	uint32_t len;

	atomic_fetch_add_explicit(&cp->cp_refs, 1, memory_order_relaxed);
	atomic_store_explicit(&ln->ln_ext.e_refs, 1, memory_order_relaxed);
	for (uint32_t f = 0; good && f < b->nfrags[i]; f++) {
		const uint8_t *data =
		    sk_packet_frag(cp->cp_ch, b->idx[i], f, &len);

		if (len <= skip) {
			skip -= len;
			continue;
		}
		pkt_ext_hold(&ln->ln_ext);
		p->p_next = pkt_wrap(cp->cp_port.pt_pool,
		    (void *)(uintptr_t)(data + skip), len - skip, &ln->ln_ext);
		skip = 0;
		good = p->p_next != NULL;
		if (!good) {
			pkt_ext_drop(&ln->ln_ext);
			break;
		}
		p = p->p_next;
	}
	pkt_ext_drop(&ln->ln_ext);
	return good;
}

/* Packet i of the batch as one of ours, or NULL: dropped and counted. */
static struct pkt *
cp_receive(struct channel_port *cp, uint32_t i, uint64_t now)
{
	struct sk_batch *b = &cp->cp_batch;
	struct channel *ch = cp->cp_ch;
	uint32_t len = b->len[i], most = len;
	struct pkt *p = NULL;

	if (len == 0 || !meta_good(&b->meta[i], len)) {
		stat_add(&cp->cp_port.pt_stats.ps_rxerrs, 1);
		sk_release(ch, &b->idx[i], 1);
		return NULL;
	}
	if (len > CP_HEADERS &&
	    atomic_load_explicit(&ch->ch_lent, memory_order_relaxed) <=
		ch->ch_params.packets / 2) {
		most = CP_HEADERS;
	}
	p = cp_head(cp, i, most);
	if (p == NULL || most == len) {
		sk_release(ch, &b->idx[i], 1);
	} else if (!cp_rest(cp, i, most, p)) {
		pkt_free(p);
		p = NULL;
	}
	if (p == NULL) {
		stat_add(&cp->cp_port.pt_stats.ps_rxdrops, 1);
		return NULL;
	}
	meta_to(&b->meta[i], p, len, now);
	return p;
}

static int
cp_rx(struct port *pt, struct pkt **v, int n, uint64_t now)
{
	struct channel_port *cp = cp_of(pt);
	struct sk_batch *b = &cp->cp_batch;
	uint64_t bytes = 0;
	int k = 0;

	while (k < n) {
		if (cp->cp_at == b->n) {
			cp->cp_at = 0;
			if (sk_receive(cp->cp_ch, b, SK_BATCH) <= 0 &&
			    (k > 0 || sk_channel_arm(cp->cp_ch, SK_RX) != 1)) {
				break;
			}
			continue;
		}
		v[k] = cp_receive(cp, cp->cp_at++, now);
		if (v[k] != NULL) {
			bytes += v[k++]->p_pktlen;
		}
	}
	if (k == 0 && !cp->cp_txblocked) {
		channel_quieten(cp->cp_ch, DIR_TX);
	}
	stat_add(&pt->pt_stats.ps_rxpkts, (uint64_t)k);
	stat_add(&pt->pt_stats.ps_rxbytes, bytes);
	return k;
}

/* ---- The rest of a port ---- */

static int
cp_fd(struct port *pt)
{
	return cp_of(pt)->cp_ep;
}

static uint64_t
cp_poll_at(struct port *pt)
{
	struct channel_port *cp = cp_of(pt);

	return cp->cp_at < cp->cp_batch.n || sk_rx_pending(cp->cp_ch) > 0 ?
	    0 :
	    PORT_NEVER;
}

static int
cp_ctl(struct port *pt, int cmd, void *arg)
{
	struct channel_port *cp = cp_of(pt);
	uint32_t l2 = pt->pt_link == PORT_ETHER ? 14 : 0;

	switch (cmd) {
	case PORT_CTL_LINK:
		*(int *)arg = sk_channel_reason(cp->cp_ch) == SK_ACTIVE;
		return 0;
	case PORT_CTL_MTU:
		return *(const uint32_t *)arg + l2 <= pt->pt_gsomax ? 0 :
								      -EINVAL;
	case PORT_CTL_PROMISC:
	case PORT_CTL_MCAST_ADD:
	case PORT_CTL_MCAST_DEL:
	case PORT_CTL_MAC:
		return 0;
	default:
		return -EOPNOTSUPP;
	}
}

static void
cp_close(struct port *pt)
{
	struct channel_port *cp = cp_of(pt);

	sk_release(cp->cp_ch, cp->cp_batch.idx + cp->cp_at,
	    cp->cp_batch.n - cp->cp_at);
	sk_channel_close(cp->cp_ch);
	close(cp->cp_ep);
	cp_drop(cp);
}

static const struct port_ops cp_ops = {
	.po_name = "channel",
	.po_rx = cp_rx,
	.po_tx = cp_tx,
	.po_fd = cp_fd,
	.po_poll_at = cp_poll_at,
	.po_ctl = cp_ctl,
	.po_close = cp_close,
};

static int
cp_open_ep(struct channel_port *cp)
{
	cp->cp_ep = epoll_create1(EPOLL_CLOEXEC);
	if (cp->cp_ep < 0) {
		return -errno;
	}
	for (int dir = 0; dir < 2; dir++) {
		struct epoll_event ev = { .events = EPOLLIN };

		if (epoll_ctl(cp->cp_ep, EPOLL_CTL_ADD, cp->cp_ch->ch_ep[dir],
			&ev) != 0) {
			int error = -errno;

			close(cp->cp_ep);
			return error;
		}
	}
	return 0;
}

static void
cp_setup(struct channel_port *cp, struct pkt_pool *pool, int link, uint32_t mtu,
    uint32_t longest)
{
	static const uint8_t mac[2][6] = { { 0x02, 's', 'k', 'c', 'h', 0 },
		{ 0x02, 's', 'k', 'c', 'h', 1 } };
	struct port *pt = &cp->cp_port;
	uint32_t l2 = link == 0 ? 14 : 0;

	pt->pt_ops = &cp_ops;
	/* It can all that a sender may leave, so the doors add nothing. */
	pt->pt_input = cp_rx;
	pt->pt_output = cp_tx;
	pt->pt_pool = pool;
	pt->pt_caps = CP_CAPS | (link == 0 ? PORT_BROADCAST : 0);
	pt->pt_mtu = mtu;
	pt->pt_gsomax = longest < CP_IPMAX + l2 ? longest : CP_IPMAX + l2;
	pt->pt_link = link == 0 ? PORT_ETHER : PORT_RAWIP;
	pt->pt_headroom = link == 0 ? 2 : 0;
	memcpy(pt->pt_mac, mac[cp->cp_ch->ch_side], 6);
	memcpy(pt->pt_name, "channel", sizeof("channel"));
}

int
sk_channel_port(struct channel *ch, struct pkt_pool *pool, int link,
    uint32_t mtu, struct port **out)
{
	const struct sk_params *p = &ch->ch_params;
	uint32_t most =
	    p->max_frags - 1 < p->buflets ? p->max_frags : p->buflets + 1;
	uint32_t longest = most * p->buffer;
	struct channel_port *cp = NULL;
	int error = -EINVAL;

	if (link >= 0 && link <= 1 && mtu >= 68 && mtu <= CP_IPMAX &&
	    mtu + (link == 0 ? 14 : 0) <= longest) {
		cp = calloc(1, sizeof(*cp));
		error = -ENOMEM;
	}
	if (cp != NULL) {
		cp->cp_ch = ch;
		cp->cp_lent = calloc(p->packets, sizeof(*cp->cp_lent));
		error = cp->cp_lent == NULL ? -ENOMEM : cp_open_ep(cp);
	}
	if (error != 0) {
		if (cp != NULL) {
			free(cp->cp_lent);
			free(cp);
		}
		sk_channel_free(ch);
		return error;
	}
	atomic_init(&cp->cp_refs, 1);
	for (uint32_t i = 0; i < p->packets; i++) {
		cp->cp_lent[i].ln_ext.e_free = lent_free;
		cp->cp_lent[i].ln_cp = cp;
		cp->cp_lent[i].ln_idx = i;
	}
	cp_setup(cp, pool, link, mtu, longest);
	*out = &cp->cp_port;
	return 0;
}
