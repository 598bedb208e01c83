/*
 * icmp6.c - ICMPv6 (RFC 4443): errors out, rate-limited; echo answered;
 * errors in, checked and handed to the transport they concern in the terms of
 * ICMPv4, so that transports know one set of them.
 */
#include "bsdcore/net/if.h"
#include "bsdcore/net/route.h"
#include "bsdcore/netinet/in_pcb.h"
#include "bsdcore/netinet/ip_icmp.h"
#include "bsdcore/netinet6/ip6_var.h"

/* ---- out ---- */

/* RFC 4443 2.4 (e): never about these. */
static bool
icmp6_mayerror(const struct mbuf *m, const union inaddr *src, uint8_t type,
    uint8_t code)
{
	struct ip6_walk w;
	uint8_t quoted;
	bool mcastok = type == ICMP6_PACKET_TOO_BIG ||
	    (type == ICMP6_PARAM_PROB && code == ICMP6_PARAM_OPTION);

	if (in_isany(src) || in_ismulticast(src)) {
		return false;
	}
	if ((m->m_flags & (M_BCAST | M_MCAST)) && !mcastok) {
		return false;
	}
	ip6_walk_start(&w, m, 0, m->m_pkthdr.len);
	while (ip6_walk_look(&w, m) == IP6_EXT) {
		ip6_walk_next(&w, m);
	}
	if (w.iw_nxt == IPPROTO_ICMPV6 && w.iw_off < m->m_pkthdr.len) {
		m_copydata(m, w.iw_off, 1, &quoted);
		return quoted >= ICMP6_INFO && quoted != ICMP6_REDIRECT;
	}
	return true;
}

static void
icmp6_send(struct stack *s, struct mbuf *m, const union inaddr *src,
    const union inaddr *dst, uint32_t scope)
{
	struct ip_outargs ioa = {
		.ioa_src = src,
		.ioa_dst = dst,
		.ioa_scope = in_islinklocal6(dst) ? scope : 0,
		.ioa_proto = IPPROTO_ICMPV6,
		.ioa_ttl = (uint8_t)s->s_ip->ips_ttl,
	};
	struct icmp *icp = mtod(m, struct icmp *);

	icp->icmp_cksum = in_pseudo(src, dst, IPPROTO_ICMPV6, m->m_pkthdr.len);
	m->m_pkthdr.csum_flags = CSUM_PARTIAL;
	m->m_pkthdr.csum_start = 0;
	m->m_pkthdr.csum_stuff = offsetof(struct icmp, icmp_cksum);
	s->s_icmp->ic_stat.ics6_out++;
	ip6_output(s, m, &ioa);
}

/* From the address asked if that is ours alone, else what routing says. */
static bool
icmp6_source(struct stack *s, const union inaddr *asked, const union inaddr *to,
    uint32_t scope, union inaddr *src)
{
	struct ifnet *ifp;

	if (!in_ismulticast(asked) && ifa_ifwithaddr(s, asked) != NULL) {
		*src = *asked;
		return true;
	}
	return ip_route_src(s, to, in_islinklocal6(to) ? scope : 0, NULL, src,
		   &ifp) == 0;
}

void
icmp6_send_error(struct stack *s, struct mbuf *m, uint8_t type, uint8_t code,
    uint32_t param)
{
	struct icmp_state *ic = s->s_icmp;
	const struct ifnet *ifp = m->m_pkthdr.rcvif;
	union inaddr src, dst, from;
	struct mbuf *e = NULL;
	uint32_t n = u32min(m->m_pkthdr.len, IP6_MMTU - IP6_HDRLEN - 8);

	in_pktaddrs(m, &src, &dst);
	if (!icmp6_mayerror(m, &src, type, code) ||
	    !icmp6_source(s, &dst, &src, ifp->if_index, &from)) {
		ic->ic_stat.ics_silent++;
	} else if (!(ifp->if_flags & IFF_LOOPBACK_) &&
	    !ratelimit_take(&ic->ic_limit, s->s_now, (uint64_t)ic->ic_lim,
		(uint64_t)ic->ic_limburst)) {
		ic->ic_stat.ics_limited++;
	} else {
		e = m_getcl(m->m_pool, MT_DATA, M_PKTHDR, MCLBYTES);
		ic->ic_stat.ics_nomem += e == NULL;
	}
	if (e != NULL) {
		e->m_data += MAX_HDR;
		e->m_data[0] = type;
		e->m_data[1] = code;
		be32put(e->m_data + 4, param);
		m_copydata(m, 0, n, e->m_data + 8);
		e->m_len = e->m_pkthdr.len = 8 + n;
		ic->ic_stat.ics_error++;
		icmp6_send(s, e, &from, &src, ifp->if_index);
	}
	m_freem(m);
}

/* In ICMPv4's terms: what udp_input() and others say. */
void
icmp6_error(struct stack *s, struct mbuf *m, int type, int code, uint32_t param)
{
	if (type == ICMP_TIMXCEED) {
		icmp6_send_error(s, m, ICMP6_TIME_EXCEEDED, (uint8_t)code, 0);
	} else if (type == ICMP_UNREACH && code == ICMP_UNREACH_NEEDFRAG) {
		icmp6_send_error(s, m, ICMP6_PACKET_TOO_BIG, 0,
		    u32max(param, IP6_MMTU));
	} else if (type == ICMP_UNREACH) {
		icmp6_send_error(s, m, ICMP6_DST_UNREACH,
		    code == ICMP_UNREACH_PORT	  ? ICMP6_UNREACH_NOPORT :
			code == ICMP_UNREACH_HOST ? ICMP6_UNREACH_ADDR :
						    ICMP6_UNREACH_NOROUTE,
		    0);
	} else {
		s->s_icmp->ic_stat.ics_silent++;
		m_freem(m);
	}
}

/* ---- in ---- */

static void
icmp6_reflect(struct stack *s, struct mbuf *m, int off)
{
	struct icmp_state *ic = s->s_icmp;
	uint32_t scope = m->m_pkthdr.rcvif->if_index;
	union inaddr src, dst, from;

	in_pktaddrs(m, &src, &dst);
	if (in_isany(&src) || !icmp6_source(s, &dst, &src, scope, &from)) {
		ic->ic_stat.ics_silent++;
		m_freem(m);
		return;
	}
	m_adj(m, off);
	m = m_makewritable(m, 0, ICMP_MINLEN);
	m = m != NULL ? m_pullup(m, ICMP_MINLEN) : NULL;
	if (m == NULL) {
		ic->ic_stat.ics_nomem++;
		return;
	}
	ic->ic_stat.ics6_echo++;
	m->m_data[0] = ICMP6_ECHO_REPLY;
	m->m_pkthdr.tso_segsz = 0;
	m->m_flags &= (uint16_t)~(M_BCAST | M_MCAST | M_LOOP | M_PROMISC);
	icmp6_send(s, m, &from, &src, scope);
}

/* The ICMPv4 type and code that mean the same to a transport. Answers the
 * PRC_* command, -1 none. */
static int
icmp6_command(const uint8_t *icp, struct ctlparam *cp)
{
	cp->cp_icmp_type = ICMP_UNREACH;
	switch (icp[0]) {
	case ICMP6_DST_UNREACH:
		switch (icp[1]) {
		case ICMP6_UNREACH_NOPORT:
			cp->cp_icmp_code = ICMP_UNREACH_PORT;
			return PRC_UNREACH_PORT;
		case ICMP6_UNREACH_ADMIN:
			cp->cp_icmp_code = ICMP_UNREACH_FILTER_PROHIB;
			return PRC_UNREACH_ADMIN_PROHIB;
		case ICMP6_UNREACH_NOROUTE:
			cp->cp_icmp_code = ICMP_UNREACH_NET;
			return PRC_UNREACH_NET;
		default:
			cp->cp_icmp_code = ICMP_UNREACH_HOST;
			return PRC_UNREACH_HOST;
		}
	case ICMP6_PACKET_TOO_BIG:
		cp->cp_icmp_code = ICMP_UNREACH_NEEDFRAG;
		cp->cp_mtu = be32get(icp + 4);
		return cp->cp_mtu >= IP6_MMTU ? PRC_MSGSIZE : -1;
	case ICMP6_TIME_EXCEEDED:
		cp->cp_icmp_type = ICMP_TIMXCEED;
		cp->cp_icmp_code = icp[1];
		return icp[1] == 0 ? PRC_TIMXCEED_INTRANS : PRC_TIMXCEED_REASS;
	case ICMP6_PARAM_PROB:
		cp->cp_icmp_type = ICMP_PARAMPROB;
		return PRC_PARAMPROB;
	default:
		return -1;
	}
}

/* true: m has gone on to another stack. */
static bool
icmp6_errorinput(struct stack *s, struct mbuf *m, uint32_t off,
    const uint8_t *icp)
{
	struct icmp_stat *st = &s->s_icmp->ic_stat;
	uint32_t q = off + ICMP_MINLEN;
	union inaddr offender, to, src, dst;
	struct ctlparam cp = { 0 };
	const struct protosw *pr;
	uint8_t th[64], v;
	struct ip6_walk w;
	int cmd = icmp6_command(icp, &cp);

	if (cmd < 0 || m->m_pkthdr.len < q + IP6_HDRLEN + 8) {
		st->ics6_badquote++;
		return false;
	}
	m_copydata(m, q, 1, &v);
	m_copydata(m, q + 8, 16, &src);
	m_copydata(m, q + 24, 16, &dst);
	ip6_walk_start(&w, m, q, m->m_pkthdr.len);
	while (ip6_walk_look(&w, m) == IP6_EXT) {
		ip6_walk_next(&w, m);
	}
	if ((v >> 4) != 6 || w.iw_off + 8 > m->m_pkthdr.len) {
		st->ics6_badquote++;
		return false;
	}
	if (ifa_ifwithaddr(s, &src) == NULL) {
		st->ics6_notours++;
		return false;
	}
	in_pktaddrs(m, &offender, &to);
	cp.cp_thlen = u32min(m->m_pkthdr.len - w.iw_off, sizeof(th));
	m_copydata(m, w.iw_off, cp.cp_thlen, th);
	cp.cp_laddr = &src;
	cp.cp_faddr = &dst;
	cp.cp_th = th;
	cp.cp_offender = &offender;
	if (icmp_lomiss(s, m, w.iw_nxt, &cp)) {
		return true;
	}
	pr = &inetsw[s->s_ip_protox[w.iw_nxt == IPPROTO_ICMPV6 ? IPPROTO_ICMP :
								 w.iw_nxt]];
	if (pr->pr_ctlinput != NULL) {
		pr->pr_ctlinput(s, cmd, &cp);
	}
	return false;
}

void
icmp6_input(struct stack *s, struct mbuf *m, int off)
{
	struct icmp_stat *st = &s->s_icmp->ic_stat;
	uint32_t len = m->m_pkthdr.len - (uint32_t)off;
	uint8_t icp[ICMP_MINLEN];

	st->ics6_in++;
	if (len < ICMP_MINLEN) {
		st->ics6_tooshort++;
		m_freem(m);
		return;
	}
	if (!in_cksum_ok(m, off, len, IPPROTO_ICMPV6)) {
		st->ics6_badsum++;
		m_freem(m);
		return;
	}
	m_copydata(m, (uint32_t)off, ICMP_MINLEN, icp);
	switch (icp[0]) {
	case ICMP6_ECHO_REQUEST:
		icmp6_reflect(s, m, off);
		return;
	case ICMP6_ECHO_REPLY:
		ping_deliver(s, m, off, be16get(icp + 4));
		break;
	case ICMP6_DST_UNREACH:
	case ICMP6_PACKET_TOO_BIG:
	case ICMP6_TIME_EXCEEDED:
	case ICMP6_PARAM_PROB:
		if (icmp6_errorinput(s, m, (uint32_t)off, icp)) {
			return;
		}
		break;
	default:
		st->ics6_unknown++;
		break;
	}
	m_freem(m);
}
