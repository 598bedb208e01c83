/*
 * ip6_output.c - the way out of IPv6: route, source, header. Packets too long
 * for the path are refused; nothing is fragmented.
 */
#include "bsdcore/net/if.h"
#include "bsdcore/net/route.h"
#include "bsdcore/netinet/in_pcb.h"
#include "bsdcore/netinet6/ip6_var.h"

static struct mbuf *
ip6_fill(struct stack *s, struct mbuf *m, const struct ip_outargs *ioa,
    const union inaddr *src, int *error)
{
	uint32_t len = m->m_pkthdr.len;
	uint8_t hlim = ioa->ioa_ttl;
	struct ip6_hdr *ip6;

	if (len > UINT16_MAX) {
		*error = EMSGSIZE;
		m_freem(m);
		return NULL;
	}
	m->m_pkthdr.csum_start += (uint16_t)IP6_HDRLEN;
	m = m_prepend(m, IP6_HDRLEN);
	if (m == NULL) {
		s->s_ip->ips_stat.ips6_nomem++;
		*error = ENOBUFS;
		return NULL;
	}
	if (hlim == 0 && !in_ismulticast(ioa->ioa_dst)) {
		hlim = (uint8_t)s->s_ip->ips_ttl;
	}
	ip6 = mtod(m, struct ip6_hdr *);
	ip6->ip6_flow = htonl(6u << 28 | (uint32_t)ioa->ioa_tos << 20);
	ip6->ip6_plen = htons((uint16_t)len);
	ip6->ip6_nxt = ioa->ioa_proto;
	ip6->ip6_hlim = hlim;
	memcpy(ip6->ip6_src, src, sizeof(ip6->ip6_src));
	memcpy(ip6->ip6_dst, ioa->ioa_dst, sizeof(ip6->ip6_dst));
	m->m_pkthdr.proto = ioa->ioa_proto;
	return m;
}

int
ip6_output(struct stack *s, struct mbuf *m, const struct ip_outargs *ioa)
{
	struct ip_stat *st = &s->s_ip->ips_stat;
	const union inaddr *dst = ioa->ioa_dst, *gw = dst;
	union inaddr src = *ioa->ioa_src;
	struct rtentry *rt;
	struct ifnet *ifp;
	uint32_t mtu;
	int error;

	error = ip_route(s, ioa->ioa_route, dst, ioa->ioa_scope, &rt, &ifp);
	if (error == 0 && (ioa->ioa_flags & IPO_ROUTETOIF) && rt != NULL &&
	    (rt->rt_flags & RTF_GATEWAY)) {
		error = ENETUNREACH;
	}
	if (error == 0 && in_isany(&src) && !ip_source(s, ifp, dst, &src)) {
		error = EADDRNOTAVAIL;
	}
	if (error != 0) {
		st->ips6_onoroute++;
		m_freem(m);
		return error;
	}
	if (qos_refuse(s, ifp, m)) {
		m_freem(m);
		return ENOBUFS;
	}
	mtu = rt != NULL ? rt_getmtu(rt) : ifp->if_mtu;
	m = ip6_fill(s, m, ioa, &src, &error);
	if (m == NULL) {
		return error;
	}
	qos_output(s, ifp, m, true);
	if (m->m_pkthdr.len > mtu && !(m->m_pkthdr.csum_flags & CSUM_TSO)) {
		st->ips_cantfrag++;
		m_freem(m);
		return EMSGSIZE;
	}
	if (in_ismulticast(dst)) {
		m->m_flags |= M_MCAST;
		if (!(ifp->if_flags & IFF_LOOPBACK_) &&
		    !(ioa->ioa_flags & IPO_NOMLOOP) && if_hasmulti(ifp, dst)) {
			ip_loopback(s, ifp, m);
		}
		if (ioa->ioa_ttl == 0 || dst->ia_b[1] == 0x01) {
			m_freem(m); /* not beyond this node */
			return 0;
		}
	} else if (rt != NULL && (rt->rt_flags & RTF_GATEWAY)) {
		gw = &rt->rt_gateway;
	}
	st->ips6_localout++;
	return ifp->if_output(ifp, m, gw, rt);
}
