/*
 * udp_usrreq.c - UDP (RFC 768, RFC 1122 4.1, RFC 8200 8.1) and its sockets.
 */
#include "bsdcore/netinet/udp.h"

#include "bsdcore/net/if.h"
#include "bsdcore/net/route.h"
#include "bsdcore/netinet/in_flow.h"
#include "bsdcore/netinet/ip.h"
#include "bsdcore/netinet/ip_icmp.h"
#include "bsdcore/netinet/ip_var.h"
#include "bsdcore/sys/socketvar.h"

#define SOL_UDP_ 17
#define UDP_SEGMENT_ 103
#define UDP_MAXSEGMENTS 128u /* Linux */

/* clang-format off */
#define UDT(name, member, def, min, max, doc)                                  \
	{ "net.inet.udp." name, offsetof(struct udp_state, member), def, min, max, doc }
static const struct sysctl_def udp_tunables[] = {
	UDT("recvspace", uds_recvspace, 212992, 2048, 1 << 28, "bytes of a receive buffer (Linux)"),
	UDT("maxdgram", uds_sendspace, 212992, 2048, 1 << 28, "bytes of a send buffer (Linux)"),
	UDT("blackhole", uds_blackhole, 0, 0, 1, "send no port unreachable"),
};

#define UDS(name, member) { name, offsetof(struct udp_state, uds_stat.member) }
static const struct stat_def udp_counters[] = {
	UDS("udp.in", uds_in),
	UDS("udp.out", uds_out),
	UDS("udp.inmcast", uds_inmcast),
	UDS("udp.nosum", uds_nosum),
	UDS("udp.drop.tooshort", uds_hdrops),
	UDS("udp.drop.badlen", uds_badlen),
	UDS("udp.drop.badsum", uds_badsum),
	UDS("udp.drop.zerosum6", uds_zerosum6),
	UDS("udp.drop.noport", uds_noport),
	UDS("udp.drop.noportbcast", uds_noportbcast),
	UDS("udp.drop.fullsock", uds_fullsock),
	UDS("udp.drop.nomem", uds_nomem),
};
/* clang-format on */

int
udp_init(struct stack *s)
{
	struct udp_state *uds = calloc(1, sizeof(*uds));
	int error;

	if (uds == NULL) {
		return ENOMEM;
	}
	s->s_udp = uds;
	s->s_udbinfo = in_pcbinfo_new(s, IPPROTO_UDP);
	if (s->s_udbinfo == NULL) {
		return ENOMEM;
	}
	error = sysctl_register(s, udp_tunables, nitems(udp_tunables), uds);
	if (error == 0) {
		error =
		    stat_register(s, udp_counters, nitems(udp_counters), uds);
	}
	return error;
}

void
udp_fini(struct stack *s)
{
	in_pcbinfo_free(s->s_udbinfo);
	s->s_udbinfo = NULL;
	free(s->s_udp);
	s->s_udp = NULL;
}

/* ---- in ---- */

/* A datagram as udp_input() has read it. */
struct udp_dgram {
	union inaddr ud_src, ud_dst;
	uint16_t ud_sport, ud_dport;
	int ud_off; /* bytes before the payload */
};

/* What api_batch.c tells of a datagram's IP header. */
static uint16_t
udp_tosttl(const struct mbuf *m)
{
	const uint8_t *p = m->m_data;

	return p[0] >> 4 == 4 ?
	    (uint16_t)(p[1] | p[8] << 8) :
	    (uint16_t)(((p[0] << 4 | p[1] >> 4) & 0xff) | p[7] << 8);
}

/* To one socket; consumes m, whose m_data is at the IP header. */
static void
udp_append(struct stack *s, struct inpcb *inp, struct mbuf *m,
    const struct udp_dgram *ud)
{
	struct socket *so = inp->inp_socket;
	struct sockaddr_storage ss;
	struct mbuf *control;
	socklen_t len;

	if (so->so_rcv.sb_state & SBS_CANTRCVMORE) {
		m_freem(m);
		return;
	}
	qos_input(so, qos_rxsvc(m), 1, m->m_pkthdr.len);
	control = ip_savecontrol(inp, m);
	len = in_sockaddr_put(so->so_family, &ud->ud_src, ud->ud_sport,
	    m->m_pkthdr.rcvif->if_index, &ss);
	if (so->so_rcv.sb_flags & SB_WHOLE) {
		m->m_pkthdr.l3off = udp_tosttl(m);
	}
	m_adj(m, ud->ud_off);
	if (sbappendaddr(&so->so_rcv, (struct sockaddr *)&ss, len, m,
		control) == 0) {
		s->s_udp->uds_stat.uds_fullsock++;
		m_freem(control);
		m_freem(m);
		return;
	}
	sorwakeup(so);
}

/* The headers of m and n bytes from `at` on. Copied: a reference would charge
 * every datagram with the memory of all. */
static struct mbuf *
udp_segment(const struct mbuf *m, uint32_t hdr, uint32_t at, uint32_t n)
{
	struct mbuf *h = hdr + n <= MHLEN ?
	    m_gethdr(m->m_pool, MT_DATA) :
	    m_getcl(m->m_pool, MT_DATA, M_PKTHDR, hdr + n);

	if (h == NULL) {
		return NULL;
	}
	m_copy_pkthdr(h, m);
	h->m_flags |= m->m_flags & (M_BCAST | M_MCAST | M_LOOP);
	h->m_pkthdr.tso_segsz = 0;
	h->m_len = h->m_pkthdr.len = hdr + n;
	m_copydata(m, 0, hdr, h->m_data);
	m_copydata(m, at, n, h->m_data + hdr);
	return h;
}

/* Segments merged on the way (UDP_SEGMENT, USO) are datagrams again. */
static void
udp_append_gso(struct stack *s, struct inpcb *inp, struct mbuf *m,
    const struct udp_dgram *ud)
{
	uint32_t seg = m->m_pkthdr.tso_segsz, hdr = (uint32_t)ud->ud_off;

	if (seg == 0 || m->m_pkthdr.len <= hdr + seg) {
		m->m_pkthdr.tso_segsz = 0;
		udp_append(s, inp, m, ud);
		return;
	}
	if (inp->inp_socket->so_rcv.sb_flags & SB_WHOLE) {
		udp_append(s, inp, m, ud);
		return;
	}
	for (uint32_t at = hdr; at < m->m_pkthdr.len; at += seg) {
		uint32_t n = u32min(seg, m->m_pkthdr.len - at);
		struct mbuf *h = udp_segment(m, hdr, at, n);

		if (h == NULL) {
			s->s_udp->uds_stat.uds_nomem++;
			break;
		}
		udp_append(s, inp, h, ud);
	}
	m_freem(m);
}

/* Does a broadcast or multicast datagram concern inp? */
static bool
udp_wanted(const struct inpcb *inp, const struct mbuf *m,
    const struct udp_dgram *ud)
{
	const struct ifnet *ifp = m->m_pkthdr.rcvif;

	if (in_pcbconnected(inp) &&
	    (inp->inp_fport != ud->ud_sport ||
		!in_eq(&inp->inp_faddr, &ud->ud_src))) {
		return false;
	}
	if (in_pcbconnected(inp) && !(inp->inp_flags & INP_BOUNDADDR)) {
		uint32_t bound = inp->inp_socket->so_boundif;

		/* connect() chose its address; the group may be another. */
		if (bound != 0 && bound != ifp->if_index) {
			return false;
		}
	} else if (in_pcbscore(inp, &ud->ud_dst, ifp) == 0) {
		return false;
	}
	return !in_ismulticast(&ud->ud_dst) ||
	    ip_mcast_wanted(inp, ifp, &ud->ud_dst, &ud->ud_src);
}

/* A copy to every socket on the list that wants one. *last is the one
 * found before and not served yet. */
static void
udp_fanout(struct stack *s, const struct inpcbhead *head, struct mbuf *m,
    const struct udp_dgram *ud, struct inpcb **last)
{
	struct inpcb *inp;

	LIST_FOREACH (inp, head, inp_porthash) {
		struct mbuf *copy;

		if (!udp_wanted(inp, m, ud)) {
			continue;
		}
		if (*last != NULL) {
			copy = m_copym(m, 0, M_COPYALL);
			if (copy == NULL) {
				s->s_udp->uds_stat.uds_nomem++;
				return;
			}
			udp_append_gso(s, *last, copy, ud);
		}
		*last = inp;
	}
}

static void
udp_input_many(struct stack *s, struct mbuf *m, const struct udp_dgram *ud)
{
	const uint16_t ports[2] = { ud->ud_dport, 0 }; /* 0: INP_ANYIP */
	struct inpcb *last = NULL;

	s->s_udp->uds_stat.uds_inmcast++;
	for (size_t i = 0; i < nitems(ports) && last == NULL; i++) {
		const struct inpport *pp = in_pcbport(s->s_udbinfo, ports[i]);

		if (pp != NULL) {
			udp_fanout(s, &pp->pp_bound, m, ud, &last);
			udp_fanout(s, &pp->pp_conn, m, ud, &last);
		}
	}
	if (last != NULL) {
		udp_append_gso(s, last, m, ud);
	} else {
		s->s_udp->uds_stat.uds_noportbcast++;
		m_freem(m);
	}
}

/* Header, length and checksum. NULL: dropped and counted. */
static struct mbuf *
udp_check(struct stack *s, struct mbuf *m, int off, struct udp_dgram *ud)
{
	struct udp_stat *st = &s->s_udp->uds_stat;
	const struct udphdr *uh;
	uint32_t len = m->m_pkthdr.len - (uint32_t)off, ulen;
	bool v4;

	if (len < UDP_HDRLEN) {
		st->uds_hdrops++;
		m_freem(m);
		return NULL;
	}
	if (m->m_len < (uint32_t)off + UDP_HDRLEN &&
	    (m = m_pullup(m, (uint32_t)off + UDP_HDRLEN)) == NULL) {
		st->uds_nomem++;
		return NULL;
	}
	uh = mtodo(m, off);
	ulen = ntohs(uh->uh_ulen);
	if (ulen < UDP_HDRLEN || ulen > len) {
		st->uds_badlen++;
		m_freem(m);
		return NULL;
	}
	if (ulen < len) {
		m_adj(m, -(int32_t)(len - ulen));
	}
	in_pktaddrs(m, &ud->ud_src, &ud->ud_dst);
	v4 = in_is4(&ud->ud_dst);
	ud->ud_sport = ntohs(uh->uh_sport);
	ud->ud_dport = ntohs(uh->uh_dport);
	ud->ud_off = off + (int)UDP_HDRLEN;
	if (uh->uh_sum == 0) {
		if (!v4 && !(m->m_pkthdr.csum_flags & CSUM_DATA_VALID)) {
			st->uds_zerosum6++;
			m_freem(m);
			return NULL;
		}
		st->uds_nosum++;
	} else if (!in_cksum_ok(m, off, ulen, IPPROTO_UDP)) {
		st->uds_badsum++;
		m_freem(m);
		return NULL;
	}
	return m;
}

void
udp_input(struct stack *s, struct mbuf *m, int off)
{
	struct udp_stat *st = &s->s_udp->uds_stat;
	struct udp_dgram ud;
	struct inpcb *inp;

	st->uds_in++;
	if ((m = udp_check(s, m, off, &ud)) == NULL) {
		return;
	}
	if (m->m_flags & (M_BCAST | M_MCAST)) {
		udp_input_many(s, m, &ud);
		return;
	}
	inp = in_pcblookup(s->s_udbinfo, &ud.ud_src, ud.ud_sport, &ud.ud_dst,
	    ud.ud_dport, true, m->m_pkthdr.rcvif);
	if (inp != NULL) {
		udp_append_gso(s, inp, m, &ud);
		return;
	}
	if (lomiss(s, m)) {
		return;
	}
	st->uds_noport++;
	if (s->s_udp->uds_blackhole) {
		m_freem(m);
	} else {
		icmp_error(s, m, ICMP_UNREACH, ICMP_UNREACH_PORT, 0);
	}
}

/* As Linux: hard errors reach connected sockets, once; others only whoever
 * asked with IP_RECVERR. */
void
udp_ctlinput(struct stack *s, int cmd, const struct ctlparam *cp)
{
	struct inpcb *inp;
	struct socket *so;
	bool hard;
	int error;

	inp = in_pcblookup(s->s_udbinfo, cp->cp_faddr, be16get(cp->cp_th + 2),
	    cp->cp_laddr, be16get(cp->cp_th), true, NULL);
	if (inp == NULL) {
		return;
	}
	error = icmp_errno(cp, &hard);
	if (cmd == PRC_MSGSIZE) {
		if (cp->cp_mtu != 0) {
			rt_setpmtu(s, cp->cp_faddr, cp->cp_mtu);
		}
		if (inp->inp_flags & INP_PMTUDISC_DONT) {
			return;
		}
		hard = true;
	}
	so = inp->inp_socket;
	if (error == 0 ||
	    (!(inp->inp_flags & INP_RECVERR) && !(hard && in_pcbconnected(inp)))) {
		return;
	}
	so->so_error = error;
	sorwakeup(so);
	sowwakeup(so);
}

/* The datagram a refusal is about, as far as anybody remembers: headers. */
static void
udp_refused(struct stack *s, const struct inpcb *inp, uint8_t b[28])
{
	struct ip ip = { .ip_vhl = 0x45,
		.ip_len = htons(28),
		.ip_ttl = (uint8_t)s->s_ip->ips_ttl,
		.ip_p = IPPROTO_UDP,
		.ip_src = inp->inp_faddr.ia_w[3],
		.ip_dst = inp->inp_laddr.ia_w[3] };
	struct udphdr uh = { .uh_sport = htons(inp->inp_fport),
		.uh_dport = htons(inp->inp_lport),
		.uh_ulen = htons(UDP_HDRLEN) };

	ip_fillsum(&ip);
	memcpy(b, &ip, sizeof(ip));
	memcpy(b + sizeof(ip), &uh, sizeof(uh));
}

void
udp_unreach(struct inpcb *inp, uint8_t code)
{
	struct stack *s = inp->inp_info->ipi_stack;
	struct ifnet *ifp = NULL;
	struct mbuf *m;

	if (!in_pcbconnected(inp) || !in_is4(&inp->inp_faddr) ||
	    ip_pathmtu(s, &inp->inp_route, &inp->inp_faddr, in_pcbscope(inp),
		&ifp) == 0) {
		return;
	}
	m = m_gethdr(s->s_mb, MT_DATA);
	if (m == NULL) {
		s->s_udp->uds_stat.uds_nomem++;
		return;
	}
	m->m_len = m->m_pkthdr.len = IP_HDRLEN + UDP_HDRLEN;
	udp_refused(s, inp, m->m_data);
	m->m_pkthdr.rcvif = ifp;
	icmp_error(s, m, ICMP_UNREACH, code, 0);
}

/* ---- out ---- */

/* One datagram (or, with gso, several in one): header, and down. */
static int
udp_output1(struct inpcb *inp, struct mbuf *m, const union inaddr *src,
    const union inaddr *dst, uint16_t fport, const struct ip_sendopts *is,
    uint16_t gso)
{
	struct stack *s = inp->inp_info->ipi_stack;
	struct ip_outargs ioa;
	struct udphdr *uh;
	uint32_t len = m->m_pkthdr.len + UDP_HDRLEN;

	m = m_prepend(m, UDP_HDRLEN);
	if (m == NULL) {
		return ENOBUFS;
	}
	uh = mtod(m, struct udphdr *);
	uh->uh_sport = htons(inp->inp_lport);
	uh->uh_dport = htons(fport);
	uh->uh_ulen = htons((uint16_t)len);
	uh->uh_sum = in_pseudo(src, dst, IPPROTO_UDP, len);
	m->m_pkthdr.csum_flags = CSUM_PARTIAL;
	m->m_pkthdr.csum_start = 0;
	m->m_pkthdr.csum_stuff = offsetof(struct udphdr, uh_sum);
	m->m_pkthdr.flowid = inp->inp_flowid;
	udp_qostag(inp->inp_socket, is->is_svc, m);
	if (gso != 0) {
		m->m_pkthdr.csum_flags |= CSUM_TSO;
		m->m_pkthdr.tso_segsz = gso;
		m->m_pkthdr.gso_type = PKT_GSO_UDP_L4;
	}
	ip_pcbargs(inp, src, dst, is, &ioa);
	ioa.ioa_proto = IPPROTO_UDP;
	s->s_udp->uds_stat.uds_out++;
	return ip_output(s, m, &ioa);
}

/* UDP_SEGMENT: one long packet if the interface takes it, else cut here. */
static int
udp_output_gso(struct inpcb *inp, struct mbuf *m, const union inaddr *src,
    const union inaddr *dst, uint16_t fport, const struct ip_sendopts *is,
    uint16_t gso)
{
	struct stack *s = inp->inp_info->ipi_stack;
	uint32_t hdr = UDP_HDRLEN + (in_is4(dst) ? IP_HDRLEN : 40), mtu;
	struct ifnet *ifp = NULL;
	int error = 0;

	mtu = ip_pathmtu(s, &inp->inp_route, dst, is->is_scope, &ifp);
	if ((m->m_pkthdr.len + gso - 1) / gso > UDP_MAXSEGMENTS ||
	    gso + hdr > mtu) {
		m_freem(m);
		return mtu == 0 ? ENETUNREACH : EINVAL;
	}
	if (m->m_pkthdr.len + hdr <= ifp->if_gsomax) {
		return udp_output1(inp, m, src, dst, fport, is, gso);
	}
	while (m != NULL && error == 0) {
		struct mbuf *rest = NULL;

		if (m->m_pkthdr.len > gso) {
			rest = m_split(m, gso);
			if (rest == NULL) {
				m_freem(m);
				return ENOBUFS;
			}
		}
		error = udp_output1(inp, m, src, dst, fport, is, 0);
		m = rest;
	}
	m_freem(m);
	return error;
}

static int
udp_output(struct inpcb *inp, struct mbuf *m, const union inaddr *dst,
    uint16_t fport, struct ip_sendopts *is)
{
	union inaddr src = inp->inp_laddr;
	uint32_t max = IP_MAXPACKET - UDP_HDRLEN - (in_is4(dst) ? IP_HDRLEN : 0);
	uint16_t gso = is->is_gso;
	int error = 0;

	if (m->m_pkthdr.len > max) {
		m_freem(m);
		return EMSGSIZE;
	}
	if (!in_isany(&is->is_src)) {
		src = is->is_src;
	} else if (in_pcbnosource(inp)) {
		error = ip_pcbsource(inp, dst, is->is_scope, &src);
	}
	if (error == 0 && in_is4(&src) != in_is4(dst)) {
		error = ENETUNREACH;
	}
	if (error == 0 && !inp->inp_inporthash) {
		error = in_pcbbind(inp, NULL, 0);
	}
	if (error != 0) {
		m_freem(m);
		return error;
	}
	return gso != 0 && m->m_pkthdr.len > gso ?
	    udp_output_gso(inp, m, &src, dst, fport, is, gso) :
	    udp_output1(inp, m, &src, dst, fport, is, 0);
}

static int
udp_send(struct socket *so, int flags, struct mbuf *m,
    const struct sockaddr *to, socklen_t tolen, struct mbuf *control)
{
	struct inpcb *inp = sotoinpcb(so);
	struct ip_sendopts is;
	union inaddr dst;
	uint32_t scope;
	uint16_t port;
	int error;

	if (flags & PRUS_OOB) {
		error = EOPNOTSUPP;
	} else {
		error = ip_getcontrol(inp, control, &is);
	}
	m_freem(control);
	if (error == 0) {
		error = ip_pcbdest(inp, to, tolen, &dst, &port, &scope);
	}
	if (error == 0 && port == 0) {
		error = EINVAL;
	}
	if (error != 0) {
		m_freem(m);
		return error;
	}
	if (is.is_scope == 0) {
		is.is_scope = scope;
	}
	if (is.is_gso == 0) {
		is.is_gso = inp->inp_gso;
	}
	if (in_flowsuspended(inp)) {
		in_flowwait(inp);
		m_freem(m);
		return EWOULDBLOCK;
	}
	return udp_output(inp, m, &dst, port, &is);
}

/* ---- user requests ---- */

static int
udp_attach(struct socket *so, int proto)
{
	struct udp_state *uds = so->so_stack->s_udp;
	struct inpcb *inp;
	int error;

	(void)proto;
	error = sbreserve(&so->so_rcv, (uint32_t)uds->uds_recvspace);
	if (error == 0) {
		error = sbreserve(&so->so_snd, (uint32_t)uds->uds_sendspace);
	}
	return error != 0 ? error :
			    in_pcballoc(so, so->so_stack->s_udbinfo, &inp);
}

static void
udp_detach(struct socket *so)
{
	in_pcbfree(sotoinpcb(so));
}

static void
udp_abort(struct socket *so)
{
	in_pcbfree(sotoinpcb(so));
	sofree(so);
}

static int
udp_bind(struct socket *so, const struct sockaddr *sa, socklen_t len)
{
	return in_pcbbind(sotoinpcb(so), sa, len);
}

static int
udp_disconnect(struct socket *so)
{
	struct inpcb *inp = sotoinpcb(so);

	if (!in_pcbconnected(inp)) {
		return ENOTCONN;
	}
	in_pcbdisconnect(inp);
	so->so_state &= ~(uint32_t)SS_ISCONNECTED;
	return 0;
}

static int
udp_connect(struct socket *so, const struct sockaddr *sa, socklen_t len)
{
	struct inpcb *inp = sotoinpcb(so);
	int error;

	if (in_pcbconnected(inp)) {
		udp_disconnect(so);
	}
	error = in_pcbconnect(inp, sa, len);
	if (error == 0) {
		soisconnected(so);
	}
	return error;
}

static int
udp_shutdown(struct socket *so)
{
	socantsendmore(so);
	return 0;
}

const struct pr_usrreqs udp_usrreqs = {
	.pru_attach = udp_attach,
	.pru_detach = udp_detach,
	.pru_bind = udp_bind,
	.pru_connect = udp_connect,
	.pru_disconnect = udp_disconnect,
	.pru_shutdown = udp_shutdown,
	.pru_abort = udp_abort,
	.pru_send = udp_send,
	.pru_sockaddr = in_setsockaddr,
	.pru_peeraddr = in_setpeeraddr,
};

int
udp_ctloutput(struct socket *so, struct sockopt *sopt)
{
	struct inpcb *inp = sotoinpcb(so);
	int val, error;

	if (sopt->sopt_level != SOL_UDP_) {
		return ip_ctloutput(so, sopt);
	}
	if (sopt->sopt_name != UDP_SEGMENT_) {
		return ENOPROTOOPT;
	}
	if (sopt->sopt_dir == SOPT_GET) {
		val = inp->inp_gso;
		return sooptcopyout(sopt, &val, sizeof(val));
	}
	error = sooptint(sopt, &val);
	if (error == 0 && (val < 0 || val > UINT16_MAX)) {
		error = EINVAL;
	}
	if (error == 0) {
		inp->inp_gso = (uint16_t)val;
	}
	return error;
}
