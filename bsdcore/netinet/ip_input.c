/*
 * ip_input.c - the door of IPv4: every packet is checked here, once.
 *
 * After ip_check() the header is contiguous, its lengths fit the packet, the
 * packet holds exactly what the header says, its checksum is right, and its
 * source is one that may be answered. Then options, then whose it is: ours
 * (reassembled, handed to a transport), somebody else's (ip_forward), or
 * dropped with a reason.
 */
#include "bsdcore/net/if.h"
#include "bsdcore/netinet/in_pcb.h"
#include "bsdcore/netinet/ip.h"
#include "bsdcore/netinet/ip_icmp.h"
#include "bsdcore/netinet/ip_var.h"
#include "bsdcore/sys/protosw.h"

/* clang-format off */
#define IPT(name, member, def, min, max, doc)                                  \
	{ "net.inet.ip." name, offsetof(struct ip_state, member), def, min, max, doc }
static const struct sysctl_def ip_tunables[] = {
	IPT("forwarding", ips_forwarding, 0, 0, 1, "forward packets that are not ours"),
	IPT("redirect", ips_sendredirects, 1, 0, 1, "send ICMP redirects when forwarding"),
	IPT("ttl", ips_ttl, 64, 1, 255, "TTL and hop limit of new sockets (RFC 1700)"),
	IPT("portrange.first", ips_portfirst, 32768, 1, 65535, "first ephemeral port (Linux)"),
	IPT("portrange.last", ips_portlast, 60999, 1, 65535, "last ephemeral port (Linux)"),
	IPT("maxfragsperpacket", ips_maxfrags, 128, 1, 8192, "fragments of one packet"),
	IPT("maxfragpackets", ips_maxfragpackets, 1024, 0, 65536, "packets being reassembled"),
	IPT("maxfragbytes", ips_maxfragbytes, 4 << 20, 0, 1 << 30, "bytes of mbufs in reassembly"),
	IPT("maxfragpersource", ips_maxfragsrc, 64, 1, 65536, "packets being reassembled from one source"),
	IPT("fragttl", ips_fragttl, 60 * (int64_t)NSEC_PER_SEC, (int64_t)NSEC_PER_SEC,
	    120 * (int64_t)NSEC_PER_SEC, "ns a fragment waits (RFC 1122 3.3.2)"),
	IPT("maxmemberships", ips_maxmemberships, 20, 1, 4095, "multicast groups of one socket (Linux)"),
};

#define IPS(name, member) { name, offsetof(struct ip_state, ips_stat.member) }
static const struct stat_def ip_counters[] = {
	IPS("ip.total", ips_total),
	IPS("ip.delivered", ips_delivered),
	IPS("ip.forwarded", ips_forwarded),
	IPS("ip.redirectsent", ips_redirectsent),
	IPS("ip.drop.tooshort", ips_tooshort),
	IPS("ip.drop.badvers", ips_badvers),
	IPS("ip.drop.badhlen", ips_badhlen),
	IPS("ip.drop.badsum", ips_badsum),
	IPS("ip.drop.badlen", ips_badlen),
	IPS("ip.drop.badsrc", ips_badsrc),
	IPS("ip.drop.martian", ips_martian),
	IPS("ip.drop.linkbcast", ips_linkbcast),
	IPS("ip.drop.srcroute", ips_srcroute),
	IPS("ip.drop.badoption", ips_badoption),
	IPS("ip.drop.notours", ips_notours),
	IPS("ip.drop.promisc", ips_promisc),
	IPS("ip.drop.mcastnotours", ips_mcastnotours),
	IPS("ip.drop.noproto", ips_noproto),
	IPS("ip.drop.ttl", ips_ttl),
	IPS("ip.drop.noroute", ips_noroute),
	IPS("ip.drop.cantforward", ips_cantforward),
	IPS("ip.drop.nomem", ips_nomem),
	IPS("ip.drop.toolong", ips_toolong),
	IPS("ip.fragments", ips_fragments),
	IPS("ip.reassembled", ips_reassembled),
	IPS("ip.fragdup", ips_fragdup),
	IPS("ip.drop.fragbad", ips_fragbad),
	IPS("ip.drop.fragoverlap", ips_fragoverlap),
	IPS("ip.drop.fragtoomany", ips_fragtoomany),
	IPS("ip.drop.fragfull", ips_fragfull),
	IPS("ip.drop.fragtimeout", ips_fragtimeout),
	IPS("ip.drop.fragdrained", ips_fragdrained),
	IPS("ip.localout", ips_localout),
	IPS("ip.rawout", ips_rawout),
	IPS("ip.ofragments", ips_ofragments),
	IPS("ip.odrop.cantfrag", ips_cantfrag),
	IPS("ip.odrop.noroute", ips_onoroute),
	IPS("ip.odrop.nosource", ips_onosrc),
	IPS("ip.odrop.failed", ips_ofailed),
	IPS("ip.odrop.badheader", ips_hdrinclbad),
	IPS("ip6.total", ips6_total),
	IPS("ip6.delivered", ips6_delivered),
	IPS("ip6.drop.tooshort", ips6_tooshort),
	IPS("ip6.drop.badvers", ips6_badvers),
	IPS("ip6.drop.badlen", ips6_badlen),
	IPS("ip6.drop.badsrc", ips6_badsrc),
	IPS("ip6.drop.notours", ips6_notours),
	IPS("ip6.drop.linkbcast", ips6_linkbcast),
	IPS("ip6.drop.badext", ips6_badext),
	IPS("ip6.drop.option", ips6_optdrop),
	IPS("ip6.drop.fragment", ips6_fragments),
	IPS("ip6.drop.noproto", ips6_noproto),
	IPS("ip6.localout", ips6_localout),
	IPS("ip6.odrop.noroute", ips6_onoroute),
	IPS("ip6.odrop.nomem", ips6_nomem),
};
/* clang-format on */

int
ip_init(struct stack *s)
{
	struct ip_state *ips = calloc(1, sizeof(*ips));
	int error;

	if (ips == NULL) {
		return ENOMEM;
	}
	s->s_ip = ips;
	ip_reass_init(s);
	error = callout_reserve(s, 1);
	if (error != 0) {
		s->s_ip = NULL;
		free(ips);
		return error;
	}
	error = sysctl_register(s, ip_tunables, nitems(ip_tunables), ips);
	if (error == 0) {
		error = stat_register(s, ip_counters, nitems(ip_counters), ips);
	}
	if (error == 0) {
		error = qos_init(s);
	}
	if (error == 0) {
		ips->ips_idctr = stack_random(s);
		for (size_t i = 0; i < nitems(s->s_ip_protox); i++) {
			s->s_ip_protox[i] = in_protorow((uint8_t)i);
		}
	}
	return error;
}

void
ip_fini(struct stack *s)
{
	if (s->s_ip == NULL) {
		return;
	}
	ip_reass_drain(s);
	callout_drain(s, &s->s_ip->ips_reasstimer);
	callout_reserve(s, -1);
	qos_fini(s);
	free(s->s_ip);
	s->s_ip = NULL;
}

void
ip_drain(struct stack *s)
{
	ip_reass_drain(s);
}

static void
ip_drop(struct mbuf *m, uint64_t *counter)
{
	(*counter)++;
	m_freem(m);
}

/* Lengths, version, checksum. NULL: dropped and counted. */
static struct mbuf *
ip_check(struct stack *s, struct mbuf *m)
{
	struct ip_stat *st = &s->s_ip->ips_stat;
	const struct ip *ip;
	uint32_t hlen, len;

	if (m->m_pkthdr.len < IP_HDRLEN) {
		ip_drop(m, &st->ips_tooshort);
		return NULL;
	}
	if (m->m_len < IP_HDRLEN && (m = m_pullup(m, IP_HDRLEN)) == NULL) {
		st->ips_nomem++;
		return NULL;
	}
	ip = mtod(m, const struct ip *);
	if ((ip->ip_vhl >> 4) != 4) {
		ip_drop(m, &st->ips_badvers);
		return NULL;
	}
	hlen = ip_hlen(ip);
	if (hlen < IP_HDRLEN || hlen > m->m_pkthdr.len) {
		ip_drop(m, &st->ips_badhlen);
		return NULL;
	}
	if (m->m_len < hlen) {
		if ((m = m_pullup(m, hlen)) == NULL) {
			st->ips_nomem++;
			return NULL;
		}
		ip = mtod(m, const struct ip *);
	}
	if (!(m->m_pkthdr.csum_flags & CSUM_IP_VALID) && !(m->m_flags & M_LOOP) &&
	    in_cksum_fold(in_cksum_add(0, ip, hlen, false)) != 0xffff) {
		ip_drop(m, &st->ips_badsum);
		return NULL;
	}
	len = ntohs(ip->ip_len);
	if (len < hlen) {
		ip_drop(m, &st->ips_badlen);
		return NULL;
	}
	if (len > m->m_pkthdr.len) {
		ip_drop(m, &st->ips_tooshort);
		return NULL;
	}
	if (len < m->m_pkthdr.len) { /* padding of the link */
		m_adj(m, -(int32_t)(m->m_pkthdr.len - len));
	}
	return m;
}

/* A source nobody may have, or that cannot come from there (RFC 1122
 * 3.2.1.3, RFC 1812 5.3.7)? */
static bool
ip_martian(struct stack *s, const struct mbuf *m, const struct ifnet *ifp)
{
	const struct ip *ip = mtod(m, const struct ip *);
	uint32_t src = ip->ip_src, dst = ip->ip_dst, h = ntohl(src);
	union inaddr a;

	if ((h >> 28) >= 14) { /* multicast, class E, broadcast */
		return true;
	}
	if ((ifp->if_flags & IFF_LOOPBACK_) || (m->m_flags & M_LOOP)) {
		return false;
	}
	if ((h >> 24) == 127 || (ntohl(dst) >> 24) == 127) {
		return true;
	}
	if ((h >> 24) == 0) { /* who has no address yet may broadcast */
		return h != 0 || dst != INADDR_BROADCAST;
	}
	a = in_map4(src);
	if (!(ifp->if_flags & IFF_ANYIP_) && ifa_ifwithaddr(s, &a) != NULL) {
		return true; /* we did not send that */
	}
	return (ifp->if_flags & IFF_BROADCAST_) && in_broadcast(ifp, &a);
}

enum ip_whose { IP_OURS, IP_FORWARD, IP_DROP };

/* Whose is it? Broadcasts and multicasts are marked in m_flags. */
static enum ip_whose
ip_whose(struct stack *s, struct mbuf *m, const struct ifnet *ifp)
{
	struct ip_stat *st = &s->s_ip->ips_stat;
	union inaddr dst = in_map4(mtod(m, const struct ip *)->ip_dst);
	bool linkbcast = m->m_flags & (M_BCAST | M_MCAST);

	if (in_ismulticast(&dst)) {
		m->m_flags |= M_MCAST;
		if (dst.ia_w[3] == htonl(INADDR_ALLHOSTS_GROUP) ||
		    if_hasmulti(ifp, &dst)) {
			return IP_OURS;
		}
		st->ips_mcastnotours++;
		return IP_DROP;
	}
	if (in_isbroadcast4(&dst) ||
	    ((ifp->if_flags & IFF_BROADCAST_) && in_broadcast(ifp, &dst))) {
		m->m_flags |= M_BCAST;
		return IP_OURS;
	}
	if (linkbcast) { /* RFC 1122 3.3.6 */
		st->ips_linkbcast++;
		return IP_DROP;
	}
	if ((ifp->if_flags & (IFF_LOOPBACK_ | IFF_ANYIP_)) ||
	    ifa_ifwithaddr(s, &dst) != NULL) {
		return IP_OURS;
	}
	if (m->m_flags & M_PROMISC) {
		st->ips_promisc++;
		return IP_DROP;
	}
	if (s->s_ip->ips_forwarding) {
		return IP_FORWARD;
	}
	st->ips_notours++;
	return IP_DROP;
}

/* Is the option list well-formed and without a source route? Records and
 * timestamps are passed on as they are (RFC 7126). */
static bool
ip_checkoptions(struct stack *s, const struct ip *ip)
{
	const uint8_t *o = (const uint8_t *)(ip + 1);
	uint32_t left = ip_hlen(ip) - IP_HDRLEN;

	while (left > 0 && o[0] != IPOPT_EOL) {
		uint32_t len = 1;

		if (o[0] != IPOPT_NOP) {
			if (left < 2 || o[1] < 2 || o[1] > left) {
				s->s_ip->ips_stat.ips_badoption++;
				return false;
			}
			len = o[1];
		}
		if (o[0] == IPOPT_LSRR || o[0] == IPOPT_SSRR) {
			s->s_ip->ips_stat.ips_srcroute++;
			return false;
		}
		o += len;
		left -= len;
	}
	return true;
}

/* To the transport, and a copy to the raw sockets that want one. */
static void
ip_deliver(struct stack *s, struct mbuf *m)
{
	const struct ip *ip = mtod(m, const struct ip *);
	const struct protosw *pr = &inetsw[s->s_ip_protox[ip->ip_p]];
	int off = (int)ip_hlen(ip);

	m->m_pkthdr.proto = ip->ip_p;
	s->s_ip->ips_stat.ips_delivered++;
	if (pr->pr_input != rip_input && !LIST_EMPTY(&s->s_ripcbinfo->ipi_list)) {
		rip_deliver(s, m, off, ip->ip_p);
	}
	pr->pr_input(s, m, off);
}

void
ip_input(struct stack *s, struct mbuf *m)
{
	struct ip_stat *st = &s->s_ip->ips_stat;
	const struct ifnet *ifp = m->m_pkthdr.rcvif;
	const struct ip *ip;

	st->ips_total++;
	if ((m = ip_check(s, m)) == NULL) {
		return;
	}
	ip = mtod(m, const struct ip *);
	if (ip_martian(s, m, ifp)) {
		ip_drop(m, &st->ips_martian);
		return;
	}
	if (ip_hlen(ip) > IP_HDRLEN && !ip_checkoptions(s, ip)) {
		m_freem(m);
		return;
	}
	switch (ip_whose(s, m, ifp)) {
	case IP_DROP:
		m_freem(m);
		return;
	case IP_FORWARD:
		ip_forward(s, m);
		return;
	case IP_OURS:
		break;
	}
	if ((ip->ip_off & htons(IP_MF | IP_OFFMASK)) != 0) {
		if ((m = ip_reass(s, m)) == NULL) {
			return;
		}
	}
	ip_deliver(s, m);
}
