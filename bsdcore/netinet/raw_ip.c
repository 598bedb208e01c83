/*
 * raw_ip.c - raw sockets of both families, and ping sockets (SOCK_DGRAM with
 * IPPROTO_ICMP or IPPROTO_ICMPV6: echo requests without privilege).
 *
 * As on Linux, a raw IPv4 socket gets packets with their IP header and a raw
 * IPv6 socket without; a ping socket gets the ICMP message alone. A ping
 * socket's port is its echo identifier.
 */
#include "bsdcore/net/if.h"
#include "bsdcore/net/route.h"
#include "bsdcore/netinet/in_pcb.h"
#include "bsdcore/netinet/ip.h"
#include "bsdcore/netinet/ip_icmp.h"
#include "bsdcore/netinet/ip_var.h"
#include "bsdcore/sys/socketvar.h"

#define SOL_RAW_ 255
#define ICMP_FILTER_ 1
#define ICMP6_FILTER_ 1
#define ICMP6_ECHO_REQUEST 128
#define RAW_SPACE 212992u /* Linux's default buffers */

int
rip_init(struct stack *s)
{
	s->s_ripcbinfo = in_pcbinfo_new(s, IPPROTO_RAW);
	return s->s_ripcbinfo != NULL ? 0 : ENOMEM;
}

void
rip_fini(struct stack *s)
{
	in_pcbinfo_free(s->s_ripcbinfo);
	s->s_ripcbinfo = NULL;
}

/* ---- in ---- */

/* Has the socket asked not to see this type of ICMP message? */
static bool
rip_filtered(const struct inpcb *inp, const struct mbuf *m, int off, bool v4)
{
	uint8_t type;

	if (inp->inp_proto != (v4 ? IPPROTO_ICMP : IPPROTO_ICMPV6) ||
	    m->m_pkthdr.len <= (uint32_t)off) {
		return false;
	}
	m_copydata(m, (uint32_t)off, 1, &type);
	return v4 ? type < 32 && (inp->inp_icmp4filt >> type & 1) :
		    (inp->inp_icmp6filt[type >> 5] >> (type & 31) & 1);
}

static bool
rip_wanted(const struct inpcb *inp, const struct mbuf *m,
    const union inaddr *src, const union inaddr *dst)
{
	const struct ifnet *ifp = m->m_pkthdr.rcvif;

	if (in_pcbconnected(inp) && !in_eq(&inp->inp_faddr, src)) {
		return false;
	}
	if (in_pcbscore(inp, dst, ifp) == 0) {
		return false;
	}
	return !in_ismulticast(dst) || ip_mcast_wanted(inp, ifp, dst, src);
}

/* A copy of m from byte `strip` on to the socket. */
static void
rip_append(struct inpcb *inp, const struct mbuf *m, const union inaddr *src,
    uint32_t strip, uint64_t *full)
{
	struct socket *so = inp->inp_socket;
	struct mbuf *copy = m_copym(m, 0, M_COPYALL), *control;
	struct sockaddr_storage ss;
	socklen_t len;

	if (copy == NULL) {
		(*full)++;
		return;
	}
	control = ip_savecontrol(inp, m);
	len = in_sockaddr_put(so->so_family, src, 0,
	    m->m_pkthdr.rcvif->if_index, &ss);
	m_adj(copy, (int32_t)strip);
	if ((so->so_rcv.sb_state & SBS_CANTRCVMORE) ||
	    sbappendaddr(&so->so_rcv, (struct sockaddr *)&ss, len, copy,
		control) == 0) {
		(*full)++;
		m_freem(control);
		m_freem(copy);
		return;
	}
	sorwakeup(so);
}

bool
rip_deliver(struct stack *s, const struct mbuf *m, int off, uint8_t proto)
{
	union inaddr src, dst;
	struct inpcb *inp;
	bool found = false, v4;

	in_pktaddrs(m, &src, &dst);
	v4 = in_is4(&dst);
	LIST_FOREACH (inp, &s->s_ripcbinfo->ipi_list, inp_list) {
		if (inp->inp_proto != proto ||
		    (inp->inp_socket->so_family == AF_INET) != v4 ||
		    !rip_wanted(inp, m, &src, &dst) ||
		    rip_filtered(inp, m, off, v4)) {
			continue;
		}
		found = true;
		rip_append(inp, m, &src, v4 ? 0 : (uint32_t)off,
		    &s->s_icmp->ic_stat.ics_pingfull);
	}
	return found;
}

void
rip_input(struct stack *s, struct mbuf *m, int off)
{
	if (rip_deliver(s, m, off, m->m_pkthdr.proto)) {
		m_freem(m);
		return;
	}
	s->s_ip->ips_stat.ips_noproto++;
	icmp_error(s, m, ICMP_UNREACH, ICMP_UNREACH_PROTOCOL, 0);
}

void
ping_deliver(struct stack *s, const struct mbuf *m, int off, uint16_t id)
{
	const struct inpport *pp = in_pcbport(s->s_icmp->ic_ping, id);
	struct icmp_stat *st = &s->s_icmp->ic_stat;
	union inaddr src, dst;
	struct inpcb *inp;

	in_pktaddrs(m, &src, &dst);
	if (pp == NULL) {
		if (LIST_EMPTY(&s->s_ripcbinfo->ipi_list)) {
			st->ics_noping++;
		}
		return;
	}
	for (int i = 0; i < 2; i++) {
		LIST_FOREACH (inp, i == 0 ? &pp->pp_bound : &pp->pp_conn,
		    inp_porthash) {
			if ((inp->inp_socket->so_family == AF_INET) ==
				in_is4(&dst) &&
			    rip_wanted(inp, m, &src, &dst)) {
				rip_append(inp, m, &src, (uint32_t)off,
				    &st->ics_pingfull);
			}
		}
	}
}

/* As Linux: hard errors reach connected sockets; all whoever has IP_RECVERR. */
static void
rip_notify(struct stack *s, struct inpcb *inp, int cmd,
    const struct ctlparam *cp)
{
	struct socket *so = inp->inp_socket;
	bool hard;
	int error = icmp_errno(cp, &hard);

	if (cmd == PRC_MSGSIZE && cp->cp_mtu != 0) {
		rt_setpmtu(s, cp->cp_faddr, cp->cp_mtu);
	}
	if (error != 0 &&
	    ((inp->inp_flags & INP_RECVERR) || (hard && in_pcbconnected(inp)))) {
		so->so_error = error;
		sorwakeup(so);
		sowwakeup(so);
	}
}

void
rip_ctlinput(struct stack *s, int cmd, const struct ctlparam *cp)
{
	struct inpcb *inp;

	LIST_FOREACH (inp, &s->s_ripcbinfo->ipi_list, inp_list) {
		if (in_eq(&inp->inp_faddr, cp->cp_faddr)) {
			rip_notify(s, inp, cmd, cp);
		}
	}
}

void
ping_ctlinput(struct stack *s, int cmd, const struct ctlparam *cp)
{
	const struct inpport *pp =
	    in_pcbport(s->s_icmp->ic_ping, be16get(cp->cp_th + 4));
	struct inpcb *inp;

	rip_ctlinput(s, cmd, cp);
	if (pp == NULL) {
		return;
	}
	LIST_FOREACH (inp, &pp->pp_bound, inp_porthash) {
		rip_notify(s, inp, cmd, cp);
	}
	LIST_FOREACH (inp, &pp->pp_conn, inp_porthash) {
		if (in_eq(&inp->inp_faddr, cp->cp_faddr)) {
			rip_notify(s, inp, cmd, cp);
		}
	}
}

/* ---- out ---- */

/* Where the socket's protocol has a checksum for us to make: its offset, or -1
 * none (RFC 3542 3.1: always for ICMPv6). */
static int
rip_cksumoff(const struct inpcb *inp, bool v4)
{
	if (v4) {
		return -1;
	}
	return inp->inp_proto == IPPROTO_ICMPV6 ? 2 : inp->inp_cksumoff;
}

/* Consumes m, which starts behind the IP header unless INP_HDRINCL. */
static int
rip_output(struct inpcb *inp, struct mbuf *m, const union inaddr *dst,
    struct ip_sendopts *is)
{
	union inaddr src = inp->inp_laddr;
	struct ip_outargs ioa;
	int off = rip_cksumoff(inp, in_is4(dst)), error = 0;
	uint16_t sum;

	if (!in_isany(&is->is_src)) {
		src = is->is_src;
	} else if (in_pcbnosource(inp)) {
		error = ip_pcbsource(inp, dst, is->is_scope, &src);
	}
	if (error == 0 && off >= 0 && (uint32_t)off + 2 > m->m_pkthdr.len) {
		error = EINVAL;
	}
	if (error == 0 && off >= 0) {
		sum = in_pseudo(&src, dst, inp->inp_proto, m->m_pkthdr.len);
		error = m_copyback(m, (uint32_t)off, sizeof(sum), &sum);
		m->m_pkthdr.csum_flags = CSUM_PARTIAL;
		m->m_pkthdr.csum_start = 0;
		m->m_pkthdr.csum_stuff = (uint16_t)off;
	}
	if (error != 0) {
		m_freem(m);
		return error;
	}
	ip_pcbargs(inp, &src, dst, is, &ioa);
	ioa.ioa_proto = inp->inp_proto;
	if (inp->inp_flags & INP_HDRINCL) {
		ioa.ioa_flags |= IPO_RAW;
	}
	udp_qostag(inp->inp_socket, is->is_svc, m);
	return ip_output(inp->inp_info->ipi_stack, m, &ioa);
}

/* Control messages and destination; on error m and control are gone. */
static int
rip_prepare(struct inpcb *inp, struct mbuf *m, const struct sockaddr *to,
    socklen_t tolen, struct mbuf *control, union inaddr *dst,
    struct ip_sendopts *is)
{
	uint32_t scope;
	uint16_t port;
	int error = ip_getcontrol(inp, control, is);

	m_freem(control);
	if (error == 0) {
		error = ip_pcbdest(inp, to, tolen, dst, &port, &scope);
	}
	if (error == 0 && m->m_pkthdr.len > IP_MAXPACKET) {
		error = EMSGSIZE;
	}
	if (error != 0) {
		m_freem(m);
		return error;
	}
	if (is->is_scope == 0) {
		is->is_scope = scope;
	}
	return 0;
}

static int
rip_send(struct socket *so, int flags, struct mbuf *m,
    const struct sockaddr *to, socklen_t tolen, struct mbuf *control)
{
	struct inpcb *inp = sotoinpcb(so);
	struct ip_sendopts is;
	union inaddr dst;
	int error;

	if (flags & PRUS_OOB) {
		m_freem(m);
		m_freem(control);
		return EOPNOTSUPP;
	}
	error = rip_prepare(inp, m, to, tolen, control, &dst, &is);
	if (error != 0) {
		return error;
	}
	if (in_is4(&dst) != (so->so_family == AF_INET)) {
		m_freem(m);
		return ENETUNREACH;
	}
	return rip_output(inp, m, &dst, &is);
}

/* An echo request and nothing else; the identifier is the socket's. */
static int
ping_send(struct socket *so, int flags, struct mbuf *m,
    const struct sockaddr *to, socklen_t tolen, struct mbuf *control)
{
	struct inpcb *inp = sotoinpcb(so);
	bool v4 = so->so_family == AF_INET;
	struct ip_sendopts is;
	union inaddr dst;
	struct icmp icp;
	int error;

	if (flags & PRUS_OOB) {
		m_freem(m);
		m_freem(control);
		return EOPNOTSUPP;
	}
	error = rip_prepare(inp, m, to, tolen, control, &dst, &is);
	if (error != 0) {
		return error;
	}
	if (m->m_pkthdr.len < ICMP_MINLEN) {
		error = EINVAL;
	} else {
		m_copydata(m, 0, sizeof(icp), &icp);
		if (icp.icmp_type != (v4 ? ICMP_ECHO : ICMP6_ECHO_REQUEST) ||
		    icp.icmp_code != 0) {
			error = EINVAL;
		}
	}
	if (error == 0 && in_is4(&dst) != v4) {
		error = ENETUNREACH;
	}
	if (error == 0 && !inp->inp_inporthash) {
		error = in_pcbbind(inp, NULL, 0);
	}
	if (error == 0) {
		icp.icmp_id = htons(inp->inp_lport);
		icp.icmp_cksum = 0;
		error = m_copyback(m, 0, sizeof(icp), &icp);
	}
	if (error == 0 && v4) {
		icp.icmp_cksum = (uint16_t)~m_sum16(m, 0, m->m_pkthdr.len);
		error = m_copyback(m, 0, sizeof(icp), &icp);
	}
	if (error != 0) {
		m_freem(m);
		return error;
	}
	return rip_output(inp, m, &dst, &is);
}

/* ---- user requests ---- */

static int
raw_attach(struct socket *so, struct inpcbinfo *ipi, int proto)
{
	struct inpcb *inp;
	int error;

	if (proto <= 0 || proto > 255) {
		return EPROTONOSUPPORT;
	}
	error = sbreserve(&so->so_rcv, RAW_SPACE);
	if (error == 0) {
		error = sbreserve(&so->so_snd, RAW_SPACE);
	}
	if (error == 0) {
		error = in_pcballoc(so, ipi, &inp);
	}
	if (error == 0) {
		inp->inp_proto = (uint8_t)proto;
	}
	return error;
}

static int
rip_attach(struct socket *so, int proto)
{
	int error = raw_attach(so, so->so_stack->s_ripcbinfo, proto);

	if (error == 0) {
		/* What getsockname() shows on Linux. */
		sotoinpcb(so)->inp_lport = (uint16_t)proto;
		if (proto == IPPROTO_RAW && so->so_family == AF_INET) {
			sotoinpcb(so)->inp_flags |= INP_HDRINCL;
		}
	}
	return error;
}

static int
ping_attach(struct socket *so, int proto)
{
	return raw_attach(so, so->so_stack->s_icmp->ic_ping, proto);
}

static void
rip_detach(struct socket *so)
{
	in_pcbfree(sotoinpcb(so));
}

static void
rip_abort(struct socket *so)
{
	in_pcbfree(sotoinpcb(so));
	sofree(so);
}

/* Raw sockets have addresses but no ports. */
static int
rip_bind(struct socket *so, const struct sockaddr *sa, socklen_t len)
{
	struct inpcb *inp = sotoinpcb(so);
	union inaddr addr;
	uint32_t scope;
	uint16_t port;
	int error =
	    in_sockaddr_get(so->so_family, sa, len, &addr, &port, &scope);

	if (error != 0) {
		return error;
	}
	if (in_is4(&addr) != (so->so_family == AF_INET) ||
	    (!in_isany(&addr) && !in_ismulticast(&addr) &&
		!in_isbroadcast4(&addr) && !(inp->inp_flags & INP_FREEBIND) &&
		ifa_ifwithaddr(so->so_stack, &addr) == NULL)) {
		return EADDRNOTAVAIL;
	}
	inp->inp_laddr = addr;
	inp->inp_scope = scope;
	inp->inp_flags &= ~(uint32_t)(INP_BOUNDADDR | INP_BOUNDMANY);
	if (!in_isany(&addr)) {
		inp->inp_flags |= INP_BOUNDADDR;
	}
	if (in_ismulticast(&addr) || in_isbroadcast4(&addr)) {
		inp->inp_flags |= INP_BOUNDMANY;
	}
	return 0;
}

static int
rip_connect(struct socket *so, const struct sockaddr *sa, socklen_t len)
{
	struct inpcb *inp = sotoinpcb(so);
	union inaddr dst, src;
	uint32_t scope;
	uint16_t port;
	int error = ip_pcbdest(inp, sa, len, &dst, &port, &scope);

	if (error == 0 && in_is4(&dst) != (so->so_family == AF_INET)) {
		error = ENETUNREACH;
	}
	if (error == 0 && in_isany(&inp->inp_laddr)) {
		error = ip_pcbsource(inp, &dst,
		    scope != 0 ? scope : in_pcbscope(inp), &src);
		if (error == 0) {
			inp->inp_laddr = src;
		}
	}
	if (error == 0) {
		inp->inp_faddr = dst;
		inp->inp_fport = port;
		soisconnected(so);
	}
	return error;
}

static int
rip_disconnect(struct socket *so)
{
	struct inpcb *inp = sotoinpcb(so);
	union inaddr any = { .ia_b = { 0 } };

	if (!in_pcbconnected(inp)) {
		return ENOTCONN;
	}
	if (so->so_family == AF_INET) {
		any = in_map4(INADDR_ANY);
	}
	inp->inp_faddr = any;
	inp->inp_fport = 0;
	if (!(inp->inp_flags & INP_BOUNDADDR)) {
		inp->inp_laddr = any;
	}
	so->so_state &= ~(uint32_t)SS_ISCONNECTED;
	return 0;
}

static int
ping_bind(struct socket *so, const struct sockaddr *sa, socklen_t len)
{
	return in_pcbbind(sotoinpcb(so), sa, len);
}

static int
ping_connect(struct socket *so, const struct sockaddr *sa, socklen_t len)
{
	int error;

	if (in_pcbconnected(sotoinpcb(so))) {
		in_pcbdisconnect(sotoinpcb(so));
		so->so_state &= ~(uint32_t)SS_ISCONNECTED;
	}
	error = in_pcbconnect(sotoinpcb(so), sa, len);
	if (error == 0) {
		soisconnected(so);
	}
	return error;
}

static int
ping_disconnect(struct socket *so)
{
	if (!in_pcbconnected(sotoinpcb(so))) {
		return ENOTCONN;
	}
	in_pcbdisconnect(sotoinpcb(so));
	so->so_state &= ~(uint32_t)SS_ISCONNECTED;
	return 0;
}

static int
rip_shutdown(struct socket *so)
{
	socantsendmore(so);
	return 0;
}

const struct pr_usrreqs rip_usrreqs = {
	.pru_attach = rip_attach,
	.pru_detach = rip_detach,
	.pru_bind = rip_bind,
	.pru_connect = rip_connect,
	.pru_disconnect = rip_disconnect,
	.pru_shutdown = rip_shutdown,
	.pru_abort = rip_abort,
	.pru_send = rip_send,
	.pru_sockaddr = in_setsockaddr,
	.pru_peeraddr = in_setpeeraddr,
};

const struct pr_usrreqs ping_usrreqs = {
	.pru_attach = ping_attach,
	.pru_detach = rip_detach,
	.pru_bind = ping_bind,
	.pru_connect = ping_connect,
	.pru_disconnect = ping_disconnect,
	.pru_shutdown = rip_shutdown,
	.pru_abort = rip_abort,
	.pru_send = ping_send,
	.pru_sockaddr = in_setsockaddr,
	.pru_peeraddr = in_setpeeraddr,
};

/* A filter is copied in and out as it is; a short one changes its start. */
static int
rip_filteropt(struct sockopt *sopt, void *filter, size_t len)
{
	return sopt->sopt_dir == SOPT_GET ? sooptcopyout(sopt, filter, len) :
					    sooptcopyin(sopt, filter, len, 1);
}

int
rip_ctloutput(struct socket *so, struct sockopt *sopt)
{
	struct inpcb *inp = sotoinpcb(so);

	if (sopt->sopt_level == SOL_RAW_ && so->so_type == SOCK_RAW &&
	    sopt->sopt_name == ICMP_FILTER_) {
		return inp->inp_proto != IPPROTO_ICMP ?
		    EOPNOTSUPP :
		    rip_filteropt(sopt, &inp->inp_icmp4filt,
			sizeof(inp->inp_icmp4filt));
	}
	if (sopt->sopt_level == IPPROTO_ICMPV6 && so->so_type == SOCK_RAW &&
	    sopt->sopt_name == ICMP6_FILTER_) {
		return inp->inp_proto != IPPROTO_ICMPV6 ?
		    EOPNOTSUPP :
		    rip_filteropt(sopt, inp->inp_icmp6filt,
			sizeof(inp->inp_icmp6filt));
	}
	return ip_ctloutput(so, sopt);
}
