/*
 * ip_icmp.c - ICMP (RFC 792, RFC 1122 3.2.2): errors out, rate-limited; echo
 * answered; errors in, checked and handed to the transport they concern.
 *
 * An error that comes in is a hint by whoever likes to send one: the quoted
 * packet must be one of ours, and the transport looks for a socket that may
 * have sent it before anything is believed (RFC 5927).
 */
#include "bsdcore/netinet/ip_icmp.h"

#include "bsdcore/net/if.h"
#include "bsdcore/net/route.h"
#include "bsdcore/netinet/in_pcb.h"
#include "bsdcore/netinet/ip.h"
#include "bsdcore/netinet/ip_var.h"

/* clang-format off */
#define ICT(name, member, def, min, max, doc)                                  \
	{ "net.inet.icmp." name, offsetof(struct icmp_state, member), def, min, max, doc }
static const struct sysctl_def icmp_tunables[] = {
	ICT("icmplim", ic_lim, 1000, 0, 1000000, "errors a second, 0 no limit (Linux)"),
	ICT("icmplim_burst", ic_limburst, 50, 1, 100000, "errors at once (Linux)"),
	ICT("quotelen", ic_quotelen, 548, 8, 548, "bytes quoted behind the IP header (RFC 1812 4.3.2.3)"),
	ICT("bmcastecho", ic_bcastecho, 0, 0, 1, "answer echo requests to broadcasts and groups"),
	ICT("drop_redirect", ic_dropredirect, 0, 0, 1, "ignore redirects"),
};

#define ICS(name, member) { name, offsetof(struct icmp_state, ic_stat.member) }
static const struct stat_def icmp_counters[] = {
	ICS("icmp.in", ics_in),
	ICS("icmp.out", ics_out),
	ICS("icmp.error", ics_error),
	ICS("icmp.echo", ics_echo),
	ICS("icmp.echoreply", ics_echoreply),
	ICS("icmp.drop.tooshort", ics_tooshort),
	ICS("icmp.drop.badsum", ics_badsum),
	ICS("icmp.drop.badcode", ics_badcode),
	ICS("icmp.drop.badquote", ics_badquote),
	ICS("icmp.drop.notours", ics_notours),
	ICS("icmp.drop.unknown", ics_unknown),
	ICS("icmp.drop.bcastecho", ics_bcastecho),
	ICS("icmp.drop.quench", ics_quench),
	ICS("icmp.drop.noping", ics_noping),
	ICS("icmp.drop.pingfull", ics_pingfull),
	ICS("icmp.odrop.limited", ics_limited),
	ICS("icmp.odrop.nomem", ics_nomem),
	ICS("icmp.odrop.silent", ics_silent),
	ICS("icmp6.in", ics6_in),
	ICS("icmp6.out", ics6_out),
	ICS("icmp6.echo", ics6_echo),
	ICS("icmp6.drop.tooshort", ics6_tooshort),
	ICS("icmp6.drop.badsum", ics6_badsum),
	ICS("icmp6.drop.badquote", ics6_badquote),
	ICS("icmp6.drop.notours", ics6_notours),
	ICS("icmp6.drop.unknown", ics6_unknown),
};
/* clang-format on */

int
icmp_init(struct stack *s)
{
	struct icmp_state *ic = calloc(1, sizeof(*ic));
	int error;

	if (ic == NULL) {
		return ENOMEM;
	}
	s->s_icmp = ic;
	ic->ic_ping = in_pcbinfo_new(s, IPPROTO_ICMP);
	if (ic->ic_ping == NULL) {
		return ENOMEM;
	}
	error = sysctl_register(s, icmp_tunables, nitems(icmp_tunables), ic);
	if (error == 0) {
		error =
		    stat_register(s, icmp_counters, nitems(icmp_counters), ic);
	}
	return error;
}

void
icmp_fini(struct stack *s)
{
	if (s->s_icmp != NULL) {
		in_pcbinfo_free(s->s_icmp->ic_ping);
		free(s->s_icmp);
		s->s_icmp = NULL;
	}
}

bool
ratelimit_take(struct ratelimit *rl, uint64_t now, uint64_t rate, uint64_t burst)
{
	uint64_t one, full;

	if (rate == 0) {
		return true;
	}
	one = NSEC_PER_SEC / rate;
	full = one * burst;
	if (rl->rl_last == 0) {
		rl->rl_tokens = full;
	} else {
		rl->rl_tokens = u64min(full, rl->rl_tokens + now - rl->rl_last);
	}
	rl->rl_last = now != 0 ? now : 1;
	if (rl->rl_tokens < one) {
		return false;
	}
	rl->rl_tokens -= one;
	return true;
}

/* ---- out ---- */

/* May the packet be answered with an error (RFC 1122 3.2.2)? */
static bool
icmp_mayerror(struct stack *s, const struct mbuf *m)
{
	const struct ip *ip = mtod(m, const struct ip *);
	union inaddr src = in_map4(ip->ip_src), dst = in_map4(ip->ip_dst);
	uint8_t type;

	if ((m->m_flags & (M_BCAST | M_MCAST)) || in_isany(&src) ||
	    in_ismulticast(&src) || in_isbroadcast4(&src) ||
	    in_ismulticast(&dst) || in_isbroadcast4(&dst) ||
	    (ip->ip_off & htons(IP_OFFMASK)) != 0) {
		return false;
	}
	if (ip->ip_p == IPPROTO_ICMP) {
		if (m->m_pkthdr.len < ip_hlen(ip) + 1) {
			return false;
		}
		m_copydata(m, ip_hlen(ip), 1, &type);
		if (icmp_iserror(type)) {
			return false;
		}
	}
	(void)s;
	return true;
}

/* Checksum over the whole of m, which starts at the ICMP header. */
static void
icmp_fillsum(struct mbuf *m)
{
	struct icmp *icp = mtod(m, struct icmp *);

	icp->icmp_cksum = 0;
	icp->icmp_cksum = (uint16_t)~m_sum16(m, 0, m->m_pkthdr.len);
}

static void
icmp_send(struct stack *s, struct mbuf *m, const union inaddr *src,
    const union inaddr *dst, uint8_t tos, uint32_t flags)
{
	struct ip_outargs ioa = {
		.ioa_src = src,
		.ioa_dst = dst,
		.ioa_proto = IPPROTO_ICMP,
		.ioa_ttl = (uint8_t)s->s_ip->ips_ttl,
		.ioa_tos = tos,
		.ioa_flags = flags,
	};

	s->s_icmp->ic_stat.ics_out++;
	ip_output(s, m, &ioa);
}

/* The message: header, then the start of the offending packet m. */
static struct mbuf *
icmp_quote(struct stack *s, const struct mbuf *m, int type, int code,
    uint32_t param)
{
	uint32_t hlen = ip_hlen(mtod(m, const struct ip *));
	uint32_t n =
	    u32min(m->m_pkthdr.len, hlen + (uint32_t)s->s_icmp->ic_quotelen);
	struct mbuf *e;
	struct icmp icp = { .icmp_type = (uint8_t)type,
		.icmp_code = (uint8_t)code };

	/* 576 bytes in all, so that any host can take it. */
	n = u32min(n, 576 - IP_HDRLEN - ICMP_MINLEN);
	e = m_getcl(m->m_pool, MT_DATA, M_PKTHDR, MCLBYTES);
	if (e == NULL) {
		return NULL;
	}
	e->m_data += MAX_HDR;
	switch (type) {
	case ICMP_REDIRECT:
		memcpy(&icp.icmp_id, &param, sizeof(param));
		break;
	case ICMP_UNREACH:
		icp.icmp_seq = htons((uint16_t)param);
		break;
	case ICMP_PARAMPROB:
		icp.icmp_id = htons((uint16_t)(param << 8));
		break;
	}
	memcpy(e->m_data, &icp, sizeof(icp));
	m_copydata(m, 0, n, e->m_data + sizeof(icp));
	e->m_len = (uint32_t)sizeof(icp) + n;
	e->m_pkthdr.len = e->m_len;
	icmp_fillsum(e);
	return e;
}

void
icmp_error(struct stack *s, struct mbuf *m, int type, int code, uint32_t mtu)
{
	struct icmp_state *ic = s->s_icmp;
	const struct ip *ip = mtod(m, const struct ip *);
	const struct ifnet *ifp = m->m_pkthdr.rcvif;
	union inaddr src, dst;
	struct mbuf *e;

	if ((ip->ip_vhl >> 4) == 6) {
		icmp6_error(s, m, type, code, mtu);
		return;
	}
	in_pktaddrs(m, &src, &dst);
	if (!icmp_mayerror(s, m)) {
		ic->ic_stat.ics_silent++;
		m_freem(m);
		return;
	}
	if (!(ifp != NULL && (ifp->if_flags & IFF_LOOPBACK_)) &&
	    !ratelimit_take(&ic->ic_limit, s->s_now, (uint64_t)ic->ic_lim,
		(uint64_t)ic->ic_limburst)) {
		ic->ic_stat.ics_limited++;
		m_freem(m);
		return;
	}
	e = icmp_quote(s, m, type, code, mtu);
	if (e == NULL) {
		ic->ic_stat.ics_nomem++;
		m_freem(m);
		return;
	}
	/* From the address asked if it is ours, else from that towards the
	 * sender. A gateway that takes any address speaks for it. */
	if (ifa_ifwithaddr(s, &dst) == NULL &&
	    !(type == ICMP_UNREACH && code == ICMP_UNREACH_PORT &&
		ifp != NULL && (ifp->if_flags & IFF_ANYIP_))) {
		dst = in_map4(INADDR_ANY);
	}
	m_freem(m);
	ic->ic_stat.ics_error++;
	icmp_send(s, e, &dst, &src, 0xc0, 0);
}

/* ---- in ---- */

/* Turn the request around in place (RFC 1122 3.2.2.6): the same data, from
 * the address that was asked. */
static void
icmp_reflect(struct stack *s, struct mbuf *m, int off)
{
	struct icmp_state *ic = s->s_icmp;
	union inaddr src, dst;
	uint8_t tos = mtod(m, const struct ip *)->ip_tos;
	struct icmp *icp;

	if (m->m_flags & (M_BCAST | M_MCAST)) {
		if (!ic->ic_bcastecho) {
			ic->ic_stat.ics_bcastecho++;
			m_freem(m);
			return;
		}
	}
	in_pktaddrs(m, &src, &dst);
	if (m->m_flags & (M_BCAST | M_MCAST)) {
		dst = in_map4(INADDR_ANY);
	}
	m_adj(m, off);
	m = m_makewritable(m, 0, ICMP_MINLEN);
	m = m != NULL ? m_pullup(m, ICMP_MINLEN) : NULL;
	if (m == NULL) {
		ic->ic_stat.ics_nomem++;
		return;
	}
	ic->ic_stat.ics_echo++;
	icp = mtod(m, struct icmp *);
	icp->icmp_type = ICMP_ECHOREPLY;
	m->m_pkthdr.csum_flags = 0;
	m->m_pkthdr.tso_segsz = 0;
	m->m_flags &=
	    (uint16_t)~(M_BCAST | M_MCAST | M_LOOP | M_FRAG | M_PROMISC);
	icmp_fillsum(m);
	icmp_send(s, m, &dst, &src, tos, 0);
}

/* The command for a type and code, -1 none. */
static int
icmp_command(uint8_t type, uint8_t code)
{
	static const int8_t unreach[] = {
		PRC_UNREACH_NET,
		PRC_UNREACH_HOST,
		PRC_UNREACH_PROTOCOL,
		PRC_UNREACH_PORT,
		PRC_MSGSIZE,
		PRC_UNREACH_SRCFAIL,
		PRC_UNREACH_NET,
		PRC_UNREACH_HOST,
		PRC_UNREACH_NET,
		PRC_UNREACH_ADMIN_PROHIB,
		PRC_UNREACH_ADMIN_PROHIB,
		PRC_UNREACH_NET,
		PRC_UNREACH_HOST,
		PRC_UNREACH_ADMIN_PROHIB,
		PRC_UNREACH_ADMIN_PROHIB,
		PRC_UNREACH_ADMIN_PROHIB,
	};

	switch (type) {
	case ICMP_UNREACH:
		return code < nitems(unreach) ? unreach[code] : -1;
	case ICMP_TIMXCEED:
		return code == 0 ? PRC_TIMXCEED_INTRANS :
		    code == 1	 ? PRC_TIMXCEED_REASS :
				   -1;
	case ICMP_PARAMPROB:
		return PRC_PARAMPROB;
	default:
		return -1;
	}
}

/* Linux's icmp_err_convert[]. */
int
icmp_errno(const struct ctlparam *cp, bool *hard)
{
	static const struct {
		uint8_t err;
		bool fatal;
	} unreach[] = {
		{ ENETUNREACH, false },
		{ EHOSTUNREACH, false },
		{ ENOPROTOOPT, true },
		{ ECONNREFUSED, true },
		{ EMSGSIZE, false },
		{ EOPNOTSUPP, false },
		{ ENETUNREACH, true },
		{ EHOSTDOWN, true },
		{ ENONET, true },
		{ ENETUNREACH, true },
		{ EHOSTUNREACH, true },
		{ ENETUNREACH, false },
		{ EHOSTUNREACH, false },
		{ EHOSTUNREACH, true },
		{ EHOSTUNREACH, true },
		{ EHOSTUNREACH, true },
	};

	switch (cp->cp_icmp_type) {
	case ICMP_UNREACH:
		if (cp->cp_icmp_code < nitems(unreach)) {
			*hard = unreach[cp->cp_icmp_code].fatal;
			return unreach[cp->cp_icmp_code].err;
		}
		*hard = false;
		return EHOSTUNREACH;
	case ICMP_TIMXCEED:
		*hard = false;
		return EHOSTUNREACH;
	case ICMP_PARAMPROB:
		*hard = true;
		return EPROTO;
	default:
		*hard = false;
		return 0;
	}
}

/* RFC 1191 7.1: what to try when a router does not name its MTU. */
static uint32_t
icmp_plateau(uint32_t len)
{
	static const uint16_t plateau[] = { 32000, 17914, 8166, 4352, 2002,
		1492, 1006, 508, 296, 68 };

	for (size_t i = 0; i < nitems(plateau); i++) {
		if (plateau[i] < len) {
			return plateau[i];
		}
	}
	return IP_MINMTU;
}

/* What the quoted header says of the packet that went wrong. */
struct quote {
	struct ip q_ip;
	union inaddr q_src, q_dst;
	uint8_t q_th[64]; /* transport header, as much as there is */
	uint32_t q_thlen;
};

/* Read the quoted packet behind `off` bytes of m; false: no use. */
static bool
icmp_readquote(struct stack *s, const struct mbuf *m, uint32_t off,
    struct quote *q)
{
	struct icmp_stat *st = &s->s_icmp->ic_stat;
	uint32_t left = m->m_pkthdr.len - off, hlen;

	if (left < IP_HDRLEN + 8) {
		st->ics_badquote++;
		return false;
	}
	m_copydata(m, off, IP_HDRLEN, &q->q_ip);
	hlen = ip_hlen(&q->q_ip);
	if ((q->q_ip.ip_vhl >> 4) != 4 || hlen < IP_HDRLEN || left < hlen + 8 ||
	    (q->q_ip.ip_off & htons(IP_OFFMASK)) != 0) {
		st->ics_badquote++;
		return false;
	}
	q->q_src = in_map4(q->q_ip.ip_src);
	q->q_dst = in_map4(q->q_ip.ip_dst);
	q->q_thlen = u32min(left - hlen, sizeof(q->q_th));
	m_copydata(m, off + hlen, q->q_thlen, q->q_th);
	if (ifa_ifwithaddr(s, &q->q_src) == NULL &&
	    !(m->m_pkthdr.rcvif->if_flags & IFF_ANYIP_)) {
		st->ics_notours++;
		return false;
	}
	return true;
}

bool
icmp_lomiss(struct stack *s, struct mbuf *m, uint8_t proto,
    const struct ctlparam *cp)
{
	struct inpcbinfo *ipi = proto == IPPROTO_TCP ? s->s_tcbinfo :
	    proto == IPPROTO_UDP		     ? s->s_udbinfo :
						       NULL;

	if (!(m->m_flags & M_LOOP) || ipi == NULL ||
	    in_pcblookup(ipi, cp->cp_faddr, be16get(cp->cp_th + 2),
		cp->cp_laddr, be16get(cp->cp_th), true, NULL) != NULL) {
		return false;
	}
	return lomiss(s, m);
}

/* true: m has gone on to another stack. */
static bool
icmp_errorinput(struct stack *s, struct mbuf *m, uint32_t off,
    const struct icmp *icp)
{
	struct ctlparam cp = { 0 };
	union inaddr offender, to;
	struct quote q;
	const struct protosw *pr;
	int cmd = icmp_command(icp->icmp_type, icp->icmp_code);

	if (cmd < 0) {
		s->s_icmp->ic_stat.ics_badcode++;
		return false;
	}
	if (!icmp_readquote(s, m, off + ICMP_MINLEN, &q)) {
		return false;
	}
	in_pktaddrs(m, &offender, &to);
	cp.cp_laddr = &q.q_src;
	cp.cp_faddr = &q.q_dst;
	cp.cp_th = q.q_th;
	cp.cp_thlen = q.q_thlen;
	cp.cp_icmp_type = icp->icmp_type;
	cp.cp_icmp_code = icp->icmp_code;
	cp.cp_offender = &offender;
	if (cmd == PRC_MSGSIZE) {
		cp.cp_mtu = ntohs(icp->icmp_seq);
		if (cp.cp_mtu < IP_MINMTU) {
			cp.cp_mtu = icmp_plateau(ntohs(q.q_ip.ip_len));
		}
	}
	if (icmp_lomiss(s, m, q.q_ip.ip_p, &cp)) {
		return true;
	}
	pr = &inetsw[s->s_ip_protox[q.q_ip.ip_p]];
	if (pr->pr_ctlinput != NULL) {
		pr->pr_ctlinput(s, cmd, &cp);
	}
	return false;
}

static void
icmp_redirect(struct stack *s, const struct mbuf *m, uint32_t off,
    const struct icmp *icp)
{
	union inaddr from, to, gw;
	struct quote q;
	uint32_t v4;

	if (s->s_icmp->ic_dropredirect || s->s_ip->ips_forwarding ||
	    icp->icmp_code > 3) {
		s->s_icmp->ic_stat.ics_badcode++;
		return;
	}
	if (!icmp_readquote(s, m, off + ICMP_MINLEN, &q)) {
		return;
	}
	in_pktaddrs(m, &from, &to);
	memcpy(&v4, &icp->icmp_id, sizeof(v4));
	gw = in_map4(v4);
	rt_redirect(s, &q.q_dst, &gw, &from, m->m_pkthdr.rcvif);
}

void
icmp_input(struct stack *s, struct mbuf *m, int off)
{
	struct icmp_stat *st = &s->s_icmp->ic_stat;
	uint32_t len = m->m_pkthdr.len - (uint32_t)off;
	struct icmp icp;

	st->ics_in++;
	if (len < ICMP_MINLEN) {
		st->ics_tooshort++;
		m_freem(m);
		return;
	}
	if (!(m->m_pkthdr.csum_flags & CSUM_DATA_VALID) &&
	    m_sum16(m, (uint32_t)off, len) != 0xffff) {
		st->ics_badsum++;
		m_freem(m);
		return;
	}
	m_copydata(m, (uint32_t)off, ICMP_MINLEN, &icp);
	switch (icp.icmp_type) {
	case ICMP_ECHO:
		icmp_reflect(s, m, off);
		return;
	case ICMP_ECHOREPLY:
		st->ics_echoreply++;
		ping_deliver(s, m, off, ntohs(icp.icmp_id));
		break;
	case ICMP_UNREACH:
	case ICMP_TIMXCEED:
	case ICMP_PARAMPROB:
		if (icmp_errorinput(s, m, (uint32_t)off, &icp)) {
			return;
		}
		break;
	case ICMP_REDIRECT:
		icmp_redirect(s, m, (uint32_t)off, &icp);
		break;
	case ICMP_SOURCEQUENCH: /* RFC 6633 */
		st->ics_quench++;
		break;
	default:
		st->ics_unknown++;
		break;
	}
	m_freem(m);
}
