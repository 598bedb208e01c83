/*
 * ip_output.c - the way out: route, source, header, fragments.
 *
 * Transports hand over packets that start at their own header; the one header
 * writer is ip_fill(). A connected socket passes its cached route, and
 * then this is one comparison of generations, twenty bytes of header and the
 * interface's output function.
 */
#include "bsdcore/net/if.h"
#include "bsdcore/net/route.h"
#include "bsdcore/netinet/in_pcb.h"
#include "bsdcore/netinet/ip.h"
#include "bsdcore/netinet/ip_var.h"

void
ip_fillsum(struct ip *ip)
{
	ip->ip_sum = 0;
	ip->ip_sum =
	    (uint16_t)~in_cksum_fold(in_cksum_add(0, ip, ip_hlen(ip), false));
}

/* RFC 6864: unique per source, destination and protocol, and not to be
 * guessed (RFC 7739 3). */
uint16_t
ip_newid(struct stack *s, uint32_t src, uint32_t dst, uint8_t proto)
{
	uint32_t key[3] = { src, dst, proto };

	return htons((uint16_t)(stack_hash(s, SH_IPID, key, sizeof(key)) +
	    s->s_ip->ips_idctr++));
}

/* Where to when no route says so: a given interface is taken to be on the same
 * link, and groups and 255.255.255.255 go out by the first interface. */
static struct ifnet *
ip_onlink(struct stack *s, const union inaddr *dst, uint32_t scope)
{
	struct ifnet *ifp;

	if (scope != 0) {
		ifp = if_byindex(s, scope);
		return ifp != NULL && (ifp->if_flags & IFF_UP_) ? ifp : NULL;
	}
	if (!in_ismulticast(dst) && !in_isbroadcast4(dst)) {
		return NULL;
	}
	TAILQ_FOREACH (ifp, &s->s_if->ifs_list, if_link) {
		if ((ifp->if_flags & (IFF_UP_ | IFF_LOOPBACK_)) == IFF_UP_) {
			return ifp;
		}
	}
	return NULL;
}

int
ip_route(struct stack *s, struct route *ro, const union inaddr *dst,
    uint32_t scope, struct rtentry **rtp, struct ifnet **ifp)
{
	struct rtentry *rt = ro != NULL ? route_get(s, ro, dst, scope) :
					  rt_lookup(s, dst, scope);

	*rtp = rt;
	if (rt != NULL) {
		if (rt->rt_flags & (RTF_REJECT | RTF_BLACKHOLE)) {
			return rt->rt_flags & RTF_REJECT ? EHOSTUNREACH : EINVAL;
		}
		*ifp = rt->rt_ifp;
		return 0;
	}
	*ifp = ip_onlink(s, dst, scope);
	return *ifp != NULL ? 0 : ENETUNREACH;
}

bool
ip_source(struct stack *s, struct ifnet *ifp, const union inaddr *dst,
    union inaddr *src)
{
	const struct ifaddr *ifa;

	if (ifp->if_flags & IFF_LOOPBACK_) {
		/* To oneself: from where it goes to, as Linux has it. */
		ifa = ifa_ifwithaddr(s, dst);
		if (ifa != NULL) {
			*src = ifa->ifa_addr;
			return true;
		}
	}
	ifa = ifa_forsource(ifp, dst);
	if (ifa == NULL) {
		return false;
	}
	*src = ifa->ifa_addr;
	return true;
}

int
ip_route_src(struct stack *s, const union inaddr *dst, uint32_t scope,
    struct route *ro, union inaddr *src, struct ifnet **ifp)
{
	struct rtentry *rt;
	int error = ip_route(s, ro, dst, scope, &rt, ifp);

	if (error != 0) {
		return error;
	}
	return ip_source(s, *ifp, dst, src) ? 0 : EADDRNOTAVAIL;
}

uint32_t
ip_pathmtu(struct stack *s, struct route *ro, const union inaddr *dst,
    uint32_t scope, struct ifnet **ifp)
{
	struct ifnet *out;
	struct rtentry *rt;

	if (ip_route(s, ro, dst, scope, &rt, &out) != 0) {
		return 0;
	}
	if (ifp != NULL) {
		*ifp = out;
	}
	return rt != NULL ? rt_getmtu(rt) : out->if_mtu;
}

void
ip_loopback(struct stack *s, struct ifnet *ifp, const struct mbuf *m)
{
	struct mbuf *copy = m_dup(m);
	union inaddr src, dst;

	if (copy == NULL) {
		s->s_ip->ips_stat.ips_nomem++;
		return;
	}
	in_pktaddrs(copy, &src, &dst);
	looutput(ifp, copy, &dst, NULL);
}

/* Options a fragment other than the first carries. Answers their length. */
static uint32_t
frag_options(const struct ip *ip, uint8_t *out)
{
	const uint8_t *o = (const uint8_t *)(ip + 1);
	uint32_t left = ip_hlen(ip) - IP_HDRLEN, n = 0;

	while (left > 0 && o[0] != IPOPT_EOL) {
		uint32_t len = o[0] == IPOPT_NOP || left < 2 ? 1 : o[1];

		if (len == 0 || len > left) {
			break;
		}
		if (o[0] != IPOPT_NOP && IPOPT_COPIED(o[0])) {
			memcpy(out + n, o, len);
			n += len;
		}
		o += len;
		left -= len;
	}
	while (n % 4 != 0) {
		out[n++] = IPOPT_EOL;
	}
	return n;
}

/* One fragment: hlen bytes of header at h, len bytes of m from off. */
static struct mbuf *
frag_make(const struct mbuf *m, const void *h, uint32_t hlen, uint32_t off,
    uint32_t len)
{
	struct mbuf *f = m_gethdr(m->m_pool, MT_HEADER);

	if (f == NULL) {
		return NULL;
	}
	f->m_data += MAX_HDR;
	memcpy(f->m_data, h, hlen);
	f->m_len = hlen;
	f->m_pkthdr.rcvif = m->m_pkthdr.rcvif;
	f->m_pkthdr.flowid = m->m_pkthdr.flowid;
	f->m_pkthdr.origin = m->m_pkthdr.origin;
	f->m_pkthdr.svc = m->m_pkthdr.svc;
	f->m_pkthdr.proto = m->m_pkthdr.proto;
	f->m_flags |= (m->m_flags & (M_BCAST | M_MCAST)) | M_FRAG;
	f->m_pkthdr.len = hlen + len;
	f->m_next = m_copym(m, off, len);
	if (f->m_next == NULL) {
		m_freem(f);
		return NULL;
	}
	f->m_next->m_flags &= (uint16_t)~M_PKTHDR;
	return f;
}

/* Cut m, whose transport checksum is complete, into pieces of mtu. */
static int
ip_fragment(struct stack *s, struct ifnet *ifp, struct mbuf *m,
    const union inaddr *gw, struct rtentry *rt, uint32_t mtu)
{
	uint8_t h[IP_HDRLEN + IP_MAXOPTLEN];
	struct ip *ip = (void *)h;
	uint32_t hlen = ip_hlen(mtod(m, const struct ip *));
	uint32_t total = m->m_pkthdr.len, at = hlen, off, step;
	uint16_t more;
	int error = 0;

	memcpy(h, m->m_data, hlen);
	off = (uint32_t)(ntohs(ip->ip_off) & IP_OFFMASK);
	more = ntohs(ip->ip_off) & IP_MF;
	while (at < total && error == 0) {
		uint32_t len = (mtu - hlen) & ~7u;
		struct mbuf *f;

		step = len < total - at ? len : total - at;
		ip->ip_vhl = (uint8_t)(4 << 4 | hlen >> 2);
		ip->ip_len = htons((uint16_t)(hlen + step));
		ip->ip_off =
		    htons((uint16_t)(off | (at + step < total ? IP_MF : more)));
		ip_fillsum(ip);
		f = frag_make(m, h, hlen, at, step);
		if (f == NULL) {
			error = ENOBUFS;
			break;
		}
		error = ifp->if_output(ifp, f, gw, rt);
		s->s_ip->ips_stat.ips_ofragments++;
		at += step;
		off += step >> 3;
		if (hlen > IP_HDRLEN) {
			uint8_t opts[IP_MAXOPTLEN];

			hlen = IP_HDRLEN + frag_options(ip, opts);
			memcpy(h + IP_HDRLEN, opts, hlen - IP_HDRLEN);
		}
	}
	m_freem(m);
	return error;
}

int
ip_transmit(struct stack *s, struct ifnet *ifp, struct mbuf *m,
    const union inaddr *gw, struct rtentry *rt, uint32_t mtu)
{
	struct ip *ip = mtod(m, struct ip *);

	if (m->m_pkthdr.len <= mtu || (m->m_pkthdr.csum_flags & CSUM_TSO)) {
		ip_fillsum(ip);
		return ifp->if_output(ifp, m, gw, rt);
	}
	if (ip->ip_off & htons(IP_DF)) {
		s->s_ip->ips_stat.ips_cantfrag++;
		m_freem(m);
		return EMSGSIZE;
	}
	in_delayed_cksum(m);
	return ip_fragment(s, ifp, m, gw, rt, mtu);
}

/* Room for the header and options, and all of the header but the checksum.
 * NULL: no memory, or too long (*error). */
static struct mbuf *
ip_fill(struct stack *s, struct mbuf *m, const struct ip_outargs *ioa,
    uint32_t src, uint32_t mtu, int *error)
{
	const struct mbuf *opt = ioa->ioa_options;
	uint32_t hlen = IP_HDRLEN + (opt != NULL ? opt->m_len : 0), len;
	struct ip *ip;

	m->m_pkthdr.csum_start += (uint16_t)hlen;
	len = m->m_pkthdr.len + hlen;
	if (len > IP_MAXPACKET) {
		*error = EMSGSIZE;
		m_freem(m);
		return NULL;
	}
	m = m_prepend(m, hlen);
	if (m == NULL) {
		*error = ENOBUFS;
		return NULL;
	}
	ip = mtod(m, struct ip *);
	if (opt != NULL) {
		memcpy(ip + 1, opt->m_data, opt->m_len);
	}
	ip->ip_vhl = (uint8_t)(4 << 4 | hlen >> 2);
	ip->ip_tos = ioa->ioa_tos;
	ip->ip_len = htons((uint16_t)len);
	ip->ip_ttl = ioa->ioa_ttl != 0 || in_ismulticast(ioa->ioa_dst) ?
	    ioa->ioa_ttl :
	    (uint8_t)s->s_ip->ips_ttl;
	ip->ip_p = ioa->ioa_proto;
	ip->ip_src = src;
	ip->ip_dst = ioa->ioa_dst->ia_w[3];
	if ((ioa->ioa_flags & IPO_DF) ||
	    ((ioa->ioa_flags & IPO_PMTU) &&
		(len <= mtu || (m->m_pkthdr.csum_flags & CSUM_TSO)))) {
		ip->ip_off = htons(IP_DF);
		ip->ip_id = 0;
	} else {
		ip->ip_off = 0;
		ip->ip_id = ip_newid(s, src, ip->ip_dst, ip->ip_p);
	}
	m->m_pkthdr.proto = ioa->ioa_proto;
	return m;
}

/* IP_HDRINCL: the user's header, with what ip(7) says is filled in. */
static struct mbuf *
ip_fillraw(struct stack *s, struct mbuf *m, uint32_t src, int *error)
{
	struct ip *ip;
	uint32_t len = m->m_pkthdr.len;

	m = len < IP_HDRLEN ? (m_freem(m), NULL) :
			      m_makewritable(m, 0, IP_HDRLEN);
	m = m != NULL ? m_pullup(m, IP_HDRLEN) : NULL;
	if (m == NULL) {
		*error = EINVAL;
		s->s_ip->ips_stat.ips_hdrinclbad++;
		return NULL;
	}
	ip = mtod(m, struct ip *);
	if (ip_hlen(ip) < IP_HDRLEN || ip_hlen(ip) > len || len > IP_MAXPACKET ||
	    (ip->ip_vhl >> 4) != 4 || (m = m_pullup(m, ip_hlen(ip))) == NULL) {
		*error = len > IP_MAXPACKET ? EMSGSIZE : EINVAL;
		s->s_ip->ips_stat.ips_hdrinclbad++;
		m_freem(m);
		return NULL;
	}
	ip = mtod(m, struct ip *);
	ip->ip_len = htons((uint16_t)len);
	if (ip->ip_src == 0) {
		ip->ip_src = src;
	}
	if (ip->ip_id == 0 && !(ip->ip_off & htons(IP_DF))) {
		ip->ip_id = ip_newid(s, ip->ip_src, ip->ip_dst, ip->ip_p);
	}
	s->s_ip->ips_stat.ips_rawout++;
	m->m_pkthdr.proto = ip->ip_p;
	return m;
}

/* Broadcasts and groups: may it, and a copy for ourselves. Answers an errno;
 * *sent: the copy was all there is to send. Does not consume m. */
static int
ip_many(struct stack *s, struct ifnet *ifp, struct mbuf *m,
    const struct ip_outargs *ioa, bool mcast, bool *sent)
{
	const struct ip *ip = mtod(m, const struct ip *);

	if (!mcast && !(ioa->ioa_flags & (IPO_BCAST | IPO_RAW))) {
		return EACCES;
	}
	m->m_flags |= mcast ? M_MCAST : M_BCAST;
	if (ifp->if_flags & IFF_LOOPBACK_) {
		return 0;
	}
	if (mcast ? !(ioa->ioa_flags & IPO_NOMLOOP) &&
		    if_hasmulti(ifp, ioa->ioa_dst) :
		    true) {
		ip_loopback(s, ifp, m);
	}
	*sent = mcast && ip->ip_ttl == 0;
	return 0;
}

/* Is dst for many at once out of ifp? */
static bool
ip_ismany(const struct ifnet *ifp, const struct rtentry *rt,
    const union inaddr *dst, bool *mcast)
{
	uint32_t top = ntohl(dst->ia_w[3]) >> 28;

	*mcast = top == 14;
	if (top >= 14) {
		return *mcast || dst->ia_w[3] == INADDR_BROADCAST;
	}
	return (ifp->if_flags & IFF_BROADCAST_) &&
	    (rt == NULL || !(rt->rt_flags & RTF_GATEWAY)) &&
	    in_broadcast(ifp, dst);
}

int
ip_output(struct stack *s, struct mbuf *m, const struct ip_outargs *ioa)
{
	struct ip_stat *st = &s->s_ip->ips_stat;
	const union inaddr *dst = ioa->ioa_dst, *gw = dst;
	union inaddr src = *ioa->ioa_src;
	bool mcast, many, sent = false;
	struct rtentry *rt;
	struct ifnet *ifp;
	uint32_t mtu;
	int error;

	if (!in_is4(dst)) {
		return ip6_output(s, m, ioa);
	}
	error = ip_route(s, ioa->ioa_route, dst, ioa->ioa_scope, &rt, &ifp);
	if (error == 0 && (ioa->ioa_flags & IPO_ROUTETOIF) && rt != NULL &&
	    (rt->rt_flags & RTF_GATEWAY)) {
		error = ENETUNREACH;
	}
	if (error != 0) {
		st->ips_onoroute++;
		m_freem(m);
		return error;
	}
	if (qos_refuse(s, ifp, m)) {
		m_freem(m);
		return ENOBUFS;
	}
	if (src.ia_w[3] == INADDR_ANY && !ip_source(s, ifp, dst, &src) &&
	    !(ioa->ioa_flags & (IPO_RAW | IPO_BCAST))) {
		st->ips_onosrc++;
		m_freem(m);
		return EADDRNOTAVAIL;
	}
	many = ip_ismany(ifp, rt, dst, &mcast);
	if (!many && rt != NULL && (rt->rt_flags & RTF_GATEWAY)) {
		gw = &rt->rt_gateway;
	}
	mtu = rt != NULL && !(ioa->ioa_flags & IPO_PROBE) ? rt_getmtu(rt) :
							    ifp->if_mtu;
	m = ioa->ioa_flags & IPO_RAW ?
	    ip_fillraw(s, m, src.ia_w[3], &error) :
	    ip_fill(s, m, ioa, src.ia_w[3], mtu, &error);
	if (m == NULL) {
		return error;
	}
	qos_output(s, ifp, m, !(ioa->ioa_flags & IPO_RAW));
	if (many) {
		error = ip_many(s, ifp, m, ioa, mcast, &sent);
		if (error != 0 || sent) {
			m_freem(m);
			return error;
		}
	}
	st->ips_localout++;
	error = ip_transmit(s, ifp, m, gw, rt, mtu);
	if (error != 0) {
		st->ips_ofailed++;
	}
	return error;
}
