/*
 * if_loop.c - lo0 and the way back: packets that this stack sends to itself.
 *
 * Nothing is copied and nothing is cut: a packet, super-segment or not, waits
 * on lo0's queue until the lock is about to be given back and then goes up as
 * it is (if_flush), so whoever receives must not write into payload that the
 * sender still holds. Its checksums are never made: the bytes do not leave
 * memory.
 *
 * Where several stacks have the same addresses, lo0 has a port that leads to
 * the others. A packet goes there once the transport here has found nobody
 * for it, so that what stays inside costs nothing more; what came by
 * the port never goes back, and is refused in the usual way.
 */
#include "bsdcore/net/if.h"
#include "bsdcore/net/route.h"

int
looutput(struct ifnet *ifp, struct mbuf *m, const union inaddr *gw,
    struct rtentry *rt)
{
	struct stack *s = ifp->if_stack;
	struct ifnet *lo = s->s_if->ifs_lo;
	struct pkthdr *h = &m->m_pkthdr;

	(void)gw;
	if (rt != NULL && (rt->rt_flags & (RTF_REJECT | RTF_BLACKHOLE))) {
		int error = rt->rt_flags & RTF_BLACKHOLE ? 0 :
		    rt->rt_flags & RTF_HOST		 ? EHOSTUNREACH :
							   ENETUNREACH;

		s->s_if->ifs_stat.ift_loreject++;
		m_freem(m);
		return error;
	}
	if (lo == NULL || !(lo->if_flags & IFF_UP_)) {
		s->s_if->ifs_stat.ift_txdown++;
		m_freem(m);
		return ENETDOWN;
	}
	if (s->s_if->ifs_loq.mq_len >= lo->if_sndmax) {
		s->s_if->ifs_stat.ift_lofull++;
		lo->if_data.oqdrops++;
		m_freem(m);
		return ENOBUFS;
	}
	h->seg_count = 1;
	if (h->csum_flags & CSUM_TSO) {
		h->seg_count = h->len / h->tso_segsz + 1;
	}
	h->csum_flags = CSUM_DATA_VALID | CSUM_IP_VALID;
	h->rcvif = ifp; /* of a multicast copy: where it was sent */
	h->tstamp = s->s_now;
	h->l3off = 0;
	m->m_flags |= M_LOOP;
	lo->if_data.opackets++;
	lo->if_data.obytes += h->len;
	s->s_if->ifs_stat.ift_looped++;
	mbufq_put(&s->s_if->ifs_loq, m);
	return 0;
}

bool
lomiss(struct stack *s, struct mbuf *m)
{
	struct ifnet *lo = s->s_if->ifs_lo;
	struct pkthdr *h = &m->m_pkthdr;

	if (lo == NULL || lo->if_port == NULL || !(m->m_flags & M_LOOP) ||
	    (m->m_flags & (M_BCAST | M_MCAST))) {
		return false;
	}
	/* As it was before looutput(): the sums are still to be made. */
	h->csum_flags = CSUM_DATA_VALID;
	if (h->csum_stuff != 0) {
		h->csum_flags = CSUM_PARTIAL;
	}
	if (h->tso_segsz != 0 && h->seg_count > 1) {
		h->csum_flags |= CSUM_TSO;
	}
	m->m_flags &= (uint16_t)~M_LOOP;
	s->s_if->ifs_stat.ift_lomissed++;
	(void)if_enqueue(lo, m);
	return true;
}
