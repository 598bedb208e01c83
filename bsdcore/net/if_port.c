/*
 * if_port.c - an interface over a struct port: bursts of NIC packets become
 * mbufs without a copy, and queued frames become bursts.
 *
 * Up: if_input_poll() takes a burst, wraps each packet and walks it all the
 * way up before the next one. Down: the output doors put frames on if_snd;
 * if_start() hands them to the port, 64 at a time, when the lock is about to
 * be given back (if_flush) or when a burst has come together. What the port
 * does not take stays in if_txv, in order, and if_txblocked keeps everybody
 * from trying again until the netisr has seen room (if_restart).
 *
 * Checksums. A received packet with PKT_CSUM_PARTIAL never left memory, so it
 * is as good as verified: CSUM_DATA_VALID; CSUM_PARTIAL is kept beside it,
 * with csum_start from the IP header, because such a packet may be forwarded
 * and then has to be finished by the port it leaves by.
 */
#include "bsdcore/net/ethernet.h"
#include "bsdcore/net/if.h"
#include "bsdcore/netinet/ip_var.h"
#include "bsdcore/sys/kernel.h"

/* Packets that lo0 passes on before others get the lock. */
#define LO_BUDGET 2048
/* How long to leave a port alone that has no descriptor to wait for. */
#define IF_TXRETRY (50 * NSEC_PER_USEC)

static void
if_rxmeta(struct ifnet *ifp, struct mbuf *m, const struct pkt *pk)
{
	struct pkthdr *h = &m->m_pkthdr;
	uint32_t l2 = ifp->if_hdrlen;

	h->rcvif = ifp;
	h->tstamp = pk->p_time;
	h->flowid = pk->p_flowid;
	h->origin = pk->p_origin;
	h->svc = pk->p_svc;
	h->csum_flags = 0;
	h->tso_segsz = pk->p_gso_size;
	h->gso_type = pk->p_gso_type;
	h->seg_count = 1;
	h->l3off = (uint16_t)l2;
	if (pk->p_flags & PKT_CSUM_VALID) {
		h->csum_flags = CSUM_DATA_VALID;
	}
	if ((pk->p_flags & PKT_CSUM_PARTIAL) && pk->p_csum_start >= l2) {
		h->csum_flags = CSUM_DATA_VALID | CSUM_PARTIAL;
		h->csum_start = (uint16_t)(pk->p_csum_start - l2);
		h->csum_stuff = pk->p_csum_offset;
	}
	if (pk->p_gso_size != 0) {
		uint32_t hdr = u32max(pk->p_hdrlen, l2 + 40);

		if (pk->p_pktlen > hdr) {
			h->seg_count =
			    (pk->p_pktlen - hdr + pk->p_gso_size - 1) /
			    pk->p_gso_size;
		}
		if (h->csum_flags & CSUM_PARTIAL) {
			h->csum_flags |= CSUM_TSO;
		}
		ifp->if_stack->s_if->ifs_stat.ift_rxmerged++;
	}
}

/* A bare IP packet: the version nibble says whose it is. */
static void
rawip_input(struct ifnet *ifp, struct mbuf *m)
{
	struct stack *s = ifp->if_stack;
	unsigned version = 0;

	while (m != NULL && m->m_len == 0 && m->m_next != NULL) {
		m = m_pullup(m, 1);
	}
	if (m == NULL) {
		return;
	}
	if (m->m_len > 0) {
		version = *mtod(m, uint8_t *) >> 4;
	}
	if (version == 4) {
		ip_input(s, m);
	} else if (version == 6) {
		ip6_input(s, m);
	} else {
		s->s_if->ifs_stat.ift_rxversion++;
		ifp->if_data.noproto++;
		m_freem(m);
	}
}

static void
if_input(struct ifnet *ifp, struct pkt *pk)
{
	struct stack *s = ifp->if_stack;
	struct pkt meta;
	struct mbuf *m;

	ifp->if_data.ipackets++;
	ifp->if_data.ibytes += pk->p_pktlen;
	if (!(ifp->if_flags & IFF_UP_)) {
		s->s_if->ifs_stat.ift_rxdown++;
		pkt_free(pk);
		return;
	}
	meta = *pk;
	m = m_frompkt(s->s_mb, pk);
	if (m == NULL) {
		s->s_if->ifs_stat.ift_rxnobufs++;
		ifp->if_data.iqdrops++;
		return;
	}
	if_rxmeta(ifp, m, &meta);
	if (ifp->if_hdrlen != 0) {
		ether_input(ifp, m);
	} else {
		rawip_input(ifp, m);
	}
}

bool
if_input_poll(struct ifnet *ifp)
{
	struct stack *s = ifp->if_stack;
	struct pkt *v[PORT_BURST];
	int64_t budget = s->s_if->ifs_burst;
	int n, want;

	/* Until the port says that it has nothing: only then does it promise
	 * to make its descriptor readable for the next packet. */
	do {
		want = budget < PORT_BURST ? (int)budget : PORT_BURST;
		n = ifp->if_port->pt_input(ifp->if_port, v, want, s->s_now);
		if (n < 0) {
			if (n != -EAGAIN && n != -EINTR) {
				ifp->if_data.ierrors++;
				s->s_if->ifs_stat.ift_rxerror++;
			}
			return false;
		}
		for (int i = 0; i < n; i++) {
			if (i + 1 < n) {
				__builtin_prefetch(v[i + 1]->p_data);
			}
			if_input(ifp, v[i]);
		}
		budget -= n;
	} while (n > 0 && budget > 0);
	return n > 0;
}

/* Link, IP and transport header bytes of a super-segment; 0: not there. */
static uint32_t
if_gsohdrlen(const struct mbuf *m, uint32_t l4)
{
	uint8_t off;

	if (m->m_pkthdr.gso_type == PKT_GSO_UDP_L4) {
		return l4 + 8;
	}
	if (l4 + 20 > m->m_pkthdr.len) {
		return 0;
	}
	m_copydata(m, l4 + 12, 1, &off);
	return l4 + ((uint32_t)(off >> 4) << 2);
}

/* The metadata of a frame for the port; false: it makes no sense. */
static bool
if_txmeta(struct ifnet *ifp, const struct mbuf *m, struct pkt *meta)
{
	const struct pkthdr *h = &m->m_pkthdr;

	memset(meta, 0, sizeof(*meta));
	meta->p_flowid = h->flowid;
	meta->p_origin = h->origin;
	meta->p_svc = h->svc;
	meta->p_flags = PKT_TX;
	if (m->m_flags & (M_BCAST | M_MCAST)) {
		meta->p_flags |= m->m_flags & M_BCAST ? PKT_BCAST : PKT_MCAST;
	}
	if (h->pkt_flags & PKTF_TCP_REXMT) {
		meta->p_flags |= PKT_REXMT;
	}
	if (h->pkt_flags & PKTF_ORDERED) {
		meta->p_flags |= PKT_ORDERED;
	}
	if (h->csum_flags & CSUM_PARTIAL) {
		uint32_t start = (uint32_t)h->csum_start + ifp->if_hdrlen;

		if (start + h->csum_stuff + 2 > h->len) {
			return false;
		}
		meta->p_flags |= PKT_CSUM_PARTIAL;
		meta->p_csum_start = (uint16_t)start;
		meta->p_csum_offset = h->csum_stuff;
	} else if (h->csum_flags & CSUM_DATA_VALID) {
		meta->p_flags |= PKT_CSUM_VALID;
	}
	if (h->csum_flags & CSUM_TSO) {
		uint32_t hdrlen = if_gsohdrlen(m, meta->p_csum_start);

		if (!(h->csum_flags & CSUM_PARTIAL) || h->tso_segsz == 0 ||
		    hdrlen == 0 || hdrlen > h->len || hdrlen > UINT16_MAX) {
			return false;
		}
		if (h->len > hdrlen + h->tso_segsz) {
			meta->p_gso_type = h->gso_type;
			meta->p_gso_size = h->tso_segsz;
			meta->p_hdrlen = (uint16_t)hdrlen;
			ifp->if_stack->s_if->ifs_stat.ift_txgso++;
		}
	}
	return true;
}

/* A frame as a NIC packet; NULL: dropped and counted. */
static struct pkt *
if_topkt(struct ifnet *ifp, struct mbuf *m)
{
	struct ifstat *st = &ifp->if_stack->s_if->ifs_stat;
	uint32_t len = m->m_pkthdr.len;
	struct pkt meta, *pk;

	if (!if_txmeta(ifp, m, &meta)) {
		st->ift_txmeta++;
		ifp->if_data.oerrors++;
		m_freem(m);
		return NULL;
	}
	pk = m_topkt(m, ifp->if_port->pt_pool);
	if (pk == NULL) {
		st->ift_txnobufs++;
		ifp->if_data.oqdrops++;
		return NULL;
	}
	pk->p_pktlen = len;
	pk->p_flowid = meta.p_flowid;
	pk->p_origin = meta.p_origin;
	pk->p_csum_start = meta.p_csum_start;
	pk->p_csum_offset = meta.p_csum_offset;
	pk->p_gso_size = meta.p_gso_size;
	pk->p_hdrlen = meta.p_hdrlen;
	pk->p_gso_type = meta.p_gso_type;
	pk->p_flags = meta.p_flags;
	pk->p_svc = meta.p_svc;
	return pk;
}

/* Drop the whole burst: the port is broken. */
static void
if_txfail(struct ifnet *ifp)
{
	for (uint32_t i = 0; i < ifp->if_txn; i++) {
		pkt_free(ifp->if_txv[i]);
	}
	ifp->if_stack->s_if->ifs_stat.ift_txerror += ifp->if_txn;
	ifp->if_data.oerrors += ifp->if_txn;
	ifp->if_txn = 0;
}

/* Offer if_txv to the port; false: it could not send all of it. */
static bool
if_txburst(struct ifnet *ifp)
{
	struct port *pt = ifp->if_port;
	uint32_t taken;
	int n;

	n = pt->pt_output(pt, ifp->if_txv, (int)ifp->if_txn,
	    ifp->if_stack->s_now);
	if (n < 0 && n != -EAGAIN && n != -EINTR && n != -ENOBUFS) {
		if_txfail(ifp);
		return true;
	}
	taken = n > 0 ? (uint32_t)n : 0;
	ifp->if_txn -= taken;
	if (ifp->if_txn == 0) {
		return pt->pt_npend == 0; /* or it has more of its own */
	}
	memmove(ifp->if_txv, ifp->if_txv + taken,
	    ifp->if_txn * sizeof(struct pkt *));
	return false;
}

void
if_start(struct ifnet *ifp)
{
	struct stack *s = ifp->if_stack;
	struct mbuf *m;

	if (ifp->if_txblocked || ifp->if_port == NULL) {
		return;
	}
	for (;;) {
		while (ifp->if_txn < PORT_BURST &&
		    (m = mbufq_get(&ifp->if_snd)) != NULL) {
			struct pkt *pk = if_topkt(ifp, m);

			if (pk != NULL) {
				ifp->if_txv[ifp->if_txn++] = pk;
			}
		}
		if (ifp->if_txn == 0 && ifp->if_port->pt_npend == 0) {
			return;
		}
		if (!if_txburst(ifp)) {
			ifp->if_txblocked = true;
			s->s_if->ifs_stat.ift_txblocked++;
			netisr_want_write(ifp, true);
			return;
		}
	}
}

void
if_restart(struct ifnet *ifp)
{
	if (!ifp->if_txblocked) {
		return;
	}
	ifp->if_txblocked = false;
	if_start(ifp);
	if (!ifp->if_txblocked) {
		netisr_want_write(ifp, false);
	}
}

int
if_enqueue(struct ifnet *ifp, struct mbuf *frame)
{
	struct ifstat *st = &ifp->if_stack->s_if->ifs_stat;

	if (!(ifp->if_flags & IFF_UP_)) {
		st->ift_txdown++;
		ifp->if_data.oerrors++;
		m_freem(frame);
		return ENETDOWN;
	}
	if (ifp->if_snd.mq_len >= ifp->if_sndmax) {
		st->ift_txfull++;
		ifp->if_data.oqdrops++;
		m_freem(frame);
		return ENOBUFS;
	}
	ifp->if_data.opackets++;
	ifp->if_data.obytes += frame->m_pkthdr.len;
	if (frame->m_flags & M_MCAST) {
		ifp->if_data.omcasts++;
	}
	mbufq_put(&ifp->if_snd, frame);
	if (ifp->if_snd.mq_len >= PORT_BURST) {
		if_start(ifp);
	}
	return 0;
}

int
rawip_output(struct ifnet *ifp, struct mbuf *m, const union inaddr *gw,
    struct rtentry *rt)
{
	(void)gw;
	(void)rt;
	return if_enqueue(ifp, m);
}

/* lo0's packets go up, at most budget of them; answers what is left of it. */
static uint32_t
if_flush_lo(struct stack *s, uint32_t budget)
{
	struct ifnet *lo = s->s_if->ifs_lo;
	struct mbuf *m;

	while (budget > 0 && (m = mbufq_get(&s->s_if->ifs_loq)) != NULL) {
		budget--;
		lo->if_data.ipackets++;
		lo->if_data.ibytes += m->m_pkthdr.len;
		rawip_input(lo, m);
	}
	return budget;
}

void
if_flush(struct stack *s)
{
	struct ifnet *lo = s->s_if->ifs_lo, *ifp;

	if (lo != NULL && s->s_if->ifs_loq.mq_head != NULL) {
		if_flush_lo(s, LO_BUDGET);
	}
	TAILQ_FOREACH (ifp, &s->s_if->ifs_list, if_link) {
		if (ifp->if_port != NULL && !ifp->if_txblocked &&
		    ifp->if_snd.mq_head != NULL) {
			if_start(ifp);
		}
	}
}

bool
if_poll_all(struct stack *s)
{
	struct ifnet *ifp, *next;
	bool more = false;

	for (ifp = TAILQ_FIRST(&s->s_if->ifs_list); ifp != NULL; ifp = next) {
		next = TAILQ_NEXT(ifp, if_link);
		if (ifp->if_port != NULL) {
			more |= if_input_poll(ifp);
		}
	}
	return more;
}

uint64_t
if_poll_at(struct ifnet *ifp)
{
	struct stack *s = ifp->if_stack;
	uint64_t at;

	if (ifp == s->s_if->ifs_lo && s->s_if->ifs_loq.mq_head != NULL) {
		return s->s_now;
	}
	if (ifp->if_port == NULL) {
		return PORT_NEVER;
	}
	at = port_poll_at(ifp->if_port);
	if (!ifp->if_txblocked) {
		return ifp->if_snd.mq_head != NULL ? u64min(at, s->s_now) : at;
	}
	/* Nobody waits for room in the port: look again. */
	if (!(s->s_flags & STACK_THREADED) || port_fd(ifp->if_port) < 0) {
		at = u64min(at, s->s_now + IF_TXRETRY);
	}
	return at;
}
