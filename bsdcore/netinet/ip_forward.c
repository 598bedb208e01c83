/*
 * ip_forward.c - packets that are on their way to somebody else
 * (net.inet.ip.forwarding; RFC 1812 5).
 */
#include "bsdcore/net/if.h"
#include "bsdcore/net/route.h"
#include "bsdcore/netinet/ip.h"
#include "bsdcore/netinet/ip_icmp.h"
#include "bsdcore/netinet/ip_var.h"

/* Addresses that stay where they are (RFC 3927 7, RFC 1812 5.3.7). */
static bool
forwardable(const union inaddr *a)
{
	uint32_t h = ntohl(a->ia_w[3]);

	return (h >> 28) < 14 && (h >> 24) != 0 && (h >> 24) != 127 &&
	    (h >> 16) != 0xa9fe;
}

/* Segments merged on the way in leave as one long packet to be cut again, and
 * a checksum that nobody looked at may never have been made: make both the
 * outgoing interface's business. */
static bool
forward_offload(struct mbuf *m, const union inaddr *src,
    const union inaddr *dst, uint8_t proto, uint32_t hlen)
{
	uint16_t stuff = proto == IPPROTO_TCP ? 16 : 6, sum;
	uint32_t len = m->m_pkthdr.len - hlen;

	if (proto != IPPROTO_TCP && proto != IPPROTO_UDP) {
		/* Finish here what the sender left to do. */
		if (m->m_pkthdr.csum_flags & CSUM_PARTIAL) {
			if ((uint32_t)m->m_pkthdr.csum_start +
				m->m_pkthdr.csum_stuff + 2 >
			    m->m_pkthdr.len) {
				return false;
			}
			in_delayed_cksum(m);
		}
		m->m_pkthdr.csum_flags = 0;
		m->m_pkthdr.tso_segsz = 0;
		return true;
	}
	if (!(m->m_pkthdr.csum_flags & CSUM_DATA_VALID) || len < stuff + 2u) {
		m->m_pkthdr.csum_flags = 0;
		m->m_pkthdr.tso_segsz = 0;
		return true;
	}
	m->m_pkthdr.csum_flags = CSUM_PARTIAL;
	m->m_pkthdr.csum_start = (uint16_t)hlen;
	m->m_pkthdr.csum_stuff = stuff;
	if (m->m_pkthdr.tso_segsz != 0) {
		m->m_pkthdr.csum_flags |= CSUM_TSO;
		m->m_pkthdr.gso_type =
		    proto == IPPROTO_TCP ? PKT_GSO_TCPV4 : PKT_GSO_UDP_L4;
	}
	sum = in_pseudo(src, dst, proto, len);
	return m_copyback(m, hlen + stuff, sizeof(sum), &sum) == 0;
}

/* The length of the longest of the packets that m was merged from. */
static uint32_t
forward_wirelen(const struct mbuf *m, uint8_t proto, uint32_t hlen)
{
	uint32_t thlen = 8;
	uint8_t doff;

	if (m->m_pkthdr.tso_segsz == 0) {
		return m->m_pkthdr.len;
	}
	if (proto == IPPROTO_TCP && m->m_pkthdr.len > hlen + 12) {
		m_copydata(m, hlen + 12, 1, &doff);
		thlen = (uint32_t)(doff >> 4) << 2;
	}
	return u32min(hlen + thlen + m->m_pkthdr.tso_segsz, m->m_pkthdr.len);
}

/* The sender could have sent it to the next hop itself (RFC 1812 5.2.7.2). */
static void
forward_redirect(struct stack *s, const struct mbuf *m,
    const struct rtentry *rt, const union inaddr *src, const union inaddr *gw)
{
	const struct rtentry *back;
	struct mbuf *copy;

	if (!s->s_ip->ips_sendredirects || rt->rt_ifp != m->m_pkthdr.rcvif) {
		return;
	}
	back = rt_lookup(s, src, rt->rt_ifp->if_index);
	if (back == NULL || (back->rt_flags & RTF_GATEWAY)) {
		return;
	}
	copy = m_copym(m, 0, u32min(m->m_pkthdr.len, 128));
	if (copy != NULL) {
		s->s_ip->ips_stat.ips_redirectsent++;
		icmp_error(s, copy, ICMP_REDIRECT, ICMP_REDIRECT_HOST,
		    gw->ia_w[3]);
	}
}

void
ip_forward(struct stack *s, struct mbuf *m)
{
	struct ip_stat *st = &s->s_ip->ips_stat;
	struct ip *ip = mtod(m, struct ip *);
	union inaddr src = in_map4(ip->ip_src), dst = in_map4(ip->ip_dst);
	const union inaddr *gw = &dst;
	struct rtentry *rt;
	struct ifnet *ifp;
	uint32_t hlen = ip_hlen(ip), mtu, one;

	if (!forwardable(&src) || !forwardable(&dst)) {
		st->ips_cantforward++;
		m_freem(m);
		return;
	}
	if (ip->ip_ttl <= 1) {
		st->ips_ttl++;
		icmp_error(s, m, ICMP_TIMXCEED, ICMP_TIMXCEED_INTRANS, 0);
		return;
	}
	if (ip_route(s, NULL, &dst, 0, &rt, &ifp) != 0) {
		st->ips_noroute++;
		icmp_error(s, m, ICMP_UNREACH, ICMP_UNREACH_HOST, 0);
		return;
	}
	gw = rt->rt_flags & RTF_GATEWAY ? &rt->rt_gateway : &dst;
	mtu = rt_getmtu(rt);
	one = forward_wirelen(m, ip->ip_p, hlen);
	if (one > mtu && (ip->ip_off & htons(IP_DF))) {
		st->ips_cantfrag++;
		icmp_error(s, m, ICMP_UNREACH, ICMP_UNREACH_NEEDFRAG, mtu);
		return;
	}
	forward_redirect(s, m, rt, &src, gw);
	m = m_makewritable(m, 0, hlen);
	if (m == NULL ||
	    !forward_offload(m, &src, &dst, mtod(m, struct ip *)->ip_p, hlen)) {
		st->ips_nomem++;
		m_freem(m);
		return;
	}
	ip = mtod(m, struct ip *);
	ip->ip_ttl--;
	m->m_pkthdr.pkt_flags |= PKTF_FORWARDED;
	m->m_flags &= (uint16_t)~(M_PROMISC | M_LOOP);
	st->ips_forwarded++;
	ip_transmit(s, ifp, m, gw, rt, mtu);
}
