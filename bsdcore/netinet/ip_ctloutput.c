/*
 * ip_ctloutput.c - what users ask of IP: socket options of both families,
 * control messages with a datagram, and how a pcb's wishes become arguments of
 * ip_output(). Names, lengths and errors are Linux's.
 */
#include "bsdcore/net/if.h"
#include "bsdcore/net/route.h"
#include "bsdcore/netinet/in_pcb.h"
#include "bsdcore/netinet/ip.h"
#include "bsdcore/netinet/ip_var.h"
#include "bsdcore/netinet/udp.h"
#include "bsdcore/sys/socketvar.h"

#define SOL_UDP_ 17
#define UDP_SEGMENT_ 103

/* ---- options ---- */

/* Options that are a bit of inp_flags. */
struct flagopt {
	int fo_name;
	uint32_t fo_bit;
};

static const struct flagopt ip_flagopts[] = {
	{ IP_RECVTTL, INP_RECVTTL },
	{ IP_RECVTOS, INP_RECVTOS },
	{ IP_PKTINFO, INP_PKTINFO },
	{ IP_RECVERR, INP_RECVERR },
	{ IP_RECVOPTS, INP_RECVOPTS },
	{ IP_FREEBIND, INP_FREEBIND },
	{ IP_TRANSPARENT, INP_FREEBIND },
	{ IP_RECVORIGDSTADDR, INP_RECVORIGDST },
	{ IP_MULTICAST_LOOP, INP_MLOOP },
	{ IP_MULTICAST_ALL, INP_MCASTALL },
	{ IP_BIND_ADDRESS_NO_PORT, INP_NOPORT },
};

static const struct flagopt ip6_flagopts[] = {
	{ IPV6_RECVPKTINFO, INP_RECVPKTINFO6 },
	{ IPV6_RECVHOPLIMIT, INP_RECVHOPS6 },
	{ IPV6_RECVTCLASS, INP_RECVTCLASS6 },
	{ IPV6_RECVRTHDR, INP_RECVRTHDR6 },
	{ IPV6_RECVHOPOPTS, INP_RECVHOPOPTS6 },
	{ IPV6_RECVDSTOPTS, INP_RECVDSTOPTS6 },
	{ IPV6_RECVPATHMTU, INP_RECVPATHMTU6 },
	{ IPV6_RECVERR, INP_RECVERR },
	{ IPV6_MULTICAST_LOOP, INP_MLOOP },
	{ IPV6_DONTFRAG, INP_DONTFRAG6 },
	{ IPV6_FREEBIND, INP_FREEBIND },
	{ IPV6_TRANSPARENT, INP_FREEBIND },
	{ IPV6_RECVORIGDSTADDR, INP_RECVORIGDST },
	{ IPV6_MULTICAST_ALL, INP_MCASTALL },
};

static uint32_t
flagopt_bit(const struct flagopt *v, size_t n, int name)
{
	for (size_t i = 0; i < n; i++) {
		if (v[i].fo_name == name) {
			return v[i].fo_bit;
		}
	}
	return 0;
}

static uint32_t
opt_bit(const struct sockopt *sopt)
{
	return sopt->sopt_level == IPPROTO_IP ?
	    flagopt_bit(ip_flagopts, nitems(ip_flagopts), sopt->sopt_name) :
	    flagopt_bit(ip6_flagopts, nitems(ip6_flagopts), sopt->sopt_name);
}

/* An int, or (IPPROTO_IP) a single byte. */
static int
opt_getint(const struct sockopt *sopt, int *val)
{
	uint8_t byte;
	int error;

	if (sopt->sopt_level != IPPROTO_IP ||
	    sopt->sopt_valsize >= sizeof(*val)) {
		return sooptint(sopt, val);
	}
	error = sooptcopyin(sopt, &byte, 1, 1);
	*val = byte;
	return error;
}

static int
opt_putint(struct sockopt *sopt, int val)
{
	uint8_t byte = (uint8_t)val;

	if (sopt->sopt_level == IPPROTO_IP && sopt->sopt_valsize > 0 &&
	    sopt->sopt_valsize < sizeof(val) && val >= 0 && val <= 255) {
		return sooptcopyout(sopt, &byte, sizeof(byte));
	}
	return sooptcopyout(sopt, &val, sizeof(val));
}

/* IP_MTU_DISCOVER and IPV6_MTU_DISCOVER: DONT, WANT, DO, PROBE. */
static int
opt_setpmtudisc(struct inpcb *inp, int val)
{
	inp->inp_flags &= ~(uint32_t)(INP_PMTUDISC_DO | INP_PMTUDISC_DONT |
	    INP_PMTUDISC_PROBE);
	switch (val) {
	case IP_PMTUDISC_DONT:
		inp->inp_flags |= INP_PMTUDISC_DONT;
		return 0;
	case IP_PMTUDISC_WANT:
		return 0;
	case IP_PMTUDISC_DO:
		inp->inp_flags |= INP_PMTUDISC_DO;
		return 0;
	case IP_PMTUDISC_PROBE:
		inp->inp_flags |= INP_PMTUDISC_DO | INP_PMTUDISC_PROBE;
		return 0;
	default:
		return EINVAL;
	}
}

static int
opt_pmtudisc(const struct inpcb *inp)
{
	return inp->inp_flags & INP_PMTUDISC_PROBE ? IP_PMTUDISC_PROBE :
	    inp->inp_flags & INP_PMTUDISC_DO	   ? IP_PMTUDISC_DO :
	    inp->inp_flags & INP_PMTUDISC_DONT	   ? IP_PMTUDISC_DONT :
						     IP_PMTUDISC_WANT;
}

static int
opt_getmtu(struct inpcb *inp, int *val)
{
	if (!in_pcbconnected(inp)) {
		return ENOTCONN;
	}
	*val = (int)ip_pathmtu(inp->inp_info->ipi_stack, &inp->inp_route,
	    &inp->inp_faddr, in_pcbscope(inp), NULL);
	return *val != 0 ? 0 : ENOTCONN;
}

/* IP_OPTIONS: kept padded, checked like a received list. */
static int
opt_setoptions(struct inpcb *inp, const struct sockopt *sopt)
{
	struct mbuf *m = NULL;
	size_t n = sopt->sopt_valsize;

	if (n > IP_MAXOPTLEN || (n > 0 && sopt->sopt_val == NULL)) {
		return EINVAL;
	}
	if (n > 0) {
		uint8_t *o = sopt->sopt_val;

		for (size_t i = 0; i < n && o[i] != IPOPT_EOL;) {
			size_t len = o[i] == IPOPT_NOP ? 1 :
			    i + 1 < n		       ? o[i + 1] :
							 0;

			if (len == 0 || (o[i] != IPOPT_NOP && len < 2) ||
			    i + len > n || o[i] == IPOPT_LSRR ||
			    o[i] == IPOPT_SSRR) {
				return EINVAL;
			}
			i += len;
		}
		m = m_get(inp->inp_info->ipi_stack->s_mb, MT_DATA);
		if (m == NULL) {
			return ENOBUFS;
		}
		m->m_len = (uint32_t)roundup2(n, (size_t)4);
		memset(m->m_data, IPOPT_EOL, m->m_len);
		memcpy(m->m_data, o, n);
	}
	m_freem(inp->inp_options);
	inp->inp_options = m;
	return 0;
}

static int
opt_getoptions(const struct inpcb *inp, struct sockopt *sopt)
{
	const struct mbuf *m = inp->inp_options;

	if (m == NULL) {
		sopt->sopt_valsize = 0;
		return 0;
	}
	return sooptcopyout(sopt, m->m_data, m->m_len);
}

static int
ip_setint(struct inpcb *inp, int name, int val)
{
	struct stack *s = inp->inp_info->ipi_stack;

	switch (name) {
	case IP_TTL:
		if (val != -1 && (val < 1 || val > 255)) {
			return EINVAL;
		}
		inp->inp_ttl = (uint8_t)(val == -1 ? s->s_ip->ips_ttl : val);
		return 0;
	case IP_MULTICAST_TTL:
		if (inp->inp_socket->so_type == SOCK_STREAM || val < -1 ||
		    val > 255) {
			return EINVAL;
		}
		inp->inp_mttl = (uint8_t)(val == -1 ? 1 : val);
		return 0;
	case IP_TOS:
		inp->inp_tos = (uint8_t)val;
		so_qostos(inp->inp_socket, val);
		return 0;
	case IP_MTU_DISCOVER:
		return opt_setpmtudisc(inp, val);
	case IP_HDRINCL:
		if (inp->inp_socket->so_type != SOCK_RAW) {
			return ENOPROTOOPT;
		}
		inp->inp_flags &= ~(uint32_t)INP_HDRINCL;
		inp->inp_flags |= val != 0 ? INP_HDRINCL : 0;
		return 0;
	default:
		return ENOPROTOOPT;
	}
}

static int
ip_getint(struct inpcb *inp, int name, int *val)
{
	switch (name) {
	case IP_TTL:
		*val = inp->inp_ttl;
		return 0;
	case IP_MULTICAST_TTL:
		*val = inp->inp_mttl;
		return 0;
	case IP_TOS:
		*val = inp->inp_tos;
		return 0;
	case IP_MTU_DISCOVER:
		*val = opt_pmtudisc(inp);
		return 0;
	case IP_MTU:
		return opt_getmtu(inp, val);
	case IP_HDRINCL:
		*val = (inp->inp_flags & INP_HDRINCL) != 0;
		return 0;
	default:
		return ENOPROTOOPT;
	}
}

/* Extension headers to send (RFC 3542 6 to 9): none can be set. */
static bool
opt_isexthdr(const struct sockopt *sopt)
{
	return sopt->sopt_level == IPPROTO_IPV6 &&
	    (sopt->sopt_name == IPV6_HOPOPTS || sopt->sopt_name == IPV6_RTHDR ||
		sopt->sopt_name == IPV6_RTHDRDSTOPTS ||
		sopt->sopt_name == IPV6_DSTOPTS);
}

static int
ip6_setint(struct inpcb *inp, int name, int val)
{
	switch (name) {
	case IPV6_V6ONLY:
		if (inp->inp_inporthash) {
			return EINVAL;
		}
		inp->inp_flags &= ~(uint32_t)INP_V6ONLY;
		inp->inp_flags |= val != 0 ? INP_V6ONLY : 0;
		return 0;
	case IPV6_UNICAST_HOPS:
		if (val < -1 || val > 255) {
			return EINVAL;
		}
		inp->inp_hops6 = (int16_t)val;
		return 0;
	case IPV6_MULTICAST_HOPS:
		if (inp->inp_socket->so_type == SOCK_STREAM) {
			return ENOPROTOOPT;
		}
		if (val < -1 || val > 255) {
			return EINVAL;
		}
		inp->inp_mttl = (uint8_t)(val == -1 ? 1 : val);
		return 0;
	case IPV6_TCLASS:
		if (val < -1 || val > 255) {
			return EINVAL;
		}
		inp->inp_tclass6 = (uint8_t)(val == -1 ? 0 : val);
		so_qostos(inp->inp_socket, inp->inp_tclass6);
		return 0;
	case IPV6_MTU_DISCOVER:
		return opt_setpmtudisc(inp, val);
	case IPV6_CHECKSUM:
		if (inp->inp_socket->so_type != SOCK_RAW ||
		    inp->inp_proto == IPPROTO_ICMPV6) {
			return inp->inp_socket->so_type == SOCK_RAW ?
			    EINVAL :
			    ENOPROTOOPT;
		}
		if (val > INT16_MAX || (val > 0 && (val & 1))) {
			return EINVAL;
		}
		inp->inp_cksumoff = (int16_t)(val < 0 ? -1 : val);
		return 0;
	default:
		return ENOPROTOOPT;
	}
}

static int
ip6_getint(struct inpcb *inp, int name, int *val)
{
	switch (name) {
	case IPV6_V6ONLY:
		*val = (inp->inp_flags & INP_V6ONLY) != 0;
		return 0;
	case IPV6_UNICAST_HOPS:
		*val = inp->inp_hops6 >= 0 ?
		    inp->inp_hops6 :
		    (int)inp->inp_info->ipi_stack->s_ip->ips_ttl;
		return 0;
	case IPV6_MULTICAST_HOPS:
		*val = inp->inp_mttl;
		return 0;
	case IPV6_TCLASS:
		*val = inp->inp_tclass6;
		return 0;
	case IPV6_MTU_DISCOVER:
		*val = opt_pmtudisc(inp);
		return 0;
	case IPV6_MTU:
		return opt_getmtu(inp, val);
	case IPV6_CHECKSUM:
		*val = inp->inp_cksumoff;
		return inp->inp_socket->so_type == SOCK_RAW ? 0 : ENOPROTOOPT;
	default:
		return ENOPROTOOPT;
	}
}

static int
ip_optset(struct inpcb *inp, struct sockopt *sopt)
{
	uint32_t bit = opt_bit(sopt);
	int val, error;

	if (sopt->sopt_level == IPPROTO_IP && sopt->sopt_name == IP_OPTIONS) {
		return opt_setoptions(inp, sopt);
	}
	if (opt_isexthdr(sopt)) {
		return sopt->sopt_valsize == 0 ? 0 : EINVAL;
	}
	error = opt_getint(sopt, &val);
	if (error != 0) {
		return error;
	}
	if (bit != 0) {
		inp->inp_flags &= ~bit;
		inp->inp_flags |= val != 0 ? bit : 0;
		return 0;
	}
	return sopt->sopt_level == IPPROTO_IP ?
	    ip_setint(inp, sopt->sopt_name, val) :
	    ip6_setint(inp, sopt->sopt_name, val);
}

static int
ip_optget(struct inpcb *inp, struct sockopt *sopt)
{
	uint32_t bit = opt_bit(sopt);
	int val = 0, error = 0;

	if (sopt->sopt_level == IPPROTO_IP && sopt->sopt_name == IP_OPTIONS) {
		return opt_getoptions(inp, sopt);
	}
	if (opt_isexthdr(sopt)) {
		sopt->sopt_valsize = 0;
		return 0;
	}
	if (bit != 0) {
		val = (inp->inp_flags & bit) != 0;
	} else {
		error = sopt->sopt_level == IPPROTO_IP ?
		    ip_getint(inp, sopt->sopt_name, &val) :
		    ip6_getint(inp, sopt->sopt_name, &val);
	}
	return error != 0 ? error : opt_putint(sopt, val);
}

int
ip_ctloutput(struct socket *so, struct sockopt *sopt)
{
	struct inpcb *inp = sotoinpcb(so);
	int error;

	if (sopt->sopt_level == SOL_SOCKET) {
		return 0; /* told for information */
	}
	if (sopt->sopt_level != IPPROTO_IP &&
	    (sopt->sopt_level != IPPROTO_IPV6 || so->so_family != AF_INET6)) {
		return sopt->sopt_dir == SOPT_GET ? EOPNOTSUPP : ENOPROTOOPT;
	}
	if (inp == NULL) {
		return EINVAL;
	}
	error = ip_mcast_ctloutput(inp, sopt);
	if (error != ENOPROTOOPT) {
		return error;
	}
	return sopt->sopt_dir == SOPT_GET ? ip_optget(inp, sopt) :
					    ip_optset(inp, sopt);
}

/* ---- control messages up ---- */

struct cmsgs {
	struct mbuf *cs_head, **cs_tail;
	struct mbpool *cs_pool;
};

static void
cmsgs_add(struct cmsgs *cs, int level, int type, const void *data, size_t len)
{
	struct mbuf *m = sbcreatecontrol(cs->cs_pool, data, len, type, level);

	if (m != NULL) {
		*cs->cs_tail = m;
		cs->cs_tail = &m->m_next;
	}
}

static void
ip_savepktinfo(struct cmsgs *cs, const struct mbuf *m, const union inaddr *dst)
{
	struct ifnet *ifp = m->m_pkthdr.rcvif;
	struct in_pktinfo pi = { .ipi_ifindex = (int)ifp->if_index };

	pi.ipi_addr.s_addr = dst->ia_w[3];
	pi.ipi_spec_dst.s_addr = dst->ia_w[3];
	if (m->m_flags & (M_BCAST | M_MCAST)) {
		const struct ifaddr *ifa = ifa_forsource(ifp, dst);

		pi.ipi_spec_dst.s_addr =
		    ifa != NULL ? ifa->ifa_addr.ia_w[3] : INADDR_ANY;
	}
	cmsgs_add(cs, IPPROTO_IP, IP_PKTINFO, &pi, sizeof(pi));
}

/* IP_ORIGDSTADDR: where the packet was going, port included. */
static void
ip_saveorigdst(struct cmsgs *cs, const struct mbuf *m, int family,
    const union inaddr *dst, uint32_t off)
{
	struct sockaddr_storage ss;
	uint8_t ports[4] = { 0 };
	socklen_t len;

	if (m->m_pkthdr.len >= off + sizeof(ports)) {
		m_copydata(m, off, sizeof(ports), ports);
	}
	len = in_sockaddr_put(family, dst, be16get(ports + 2),
	    m->m_pkthdr.rcvif->if_index, &ss);
	if (family == AF_INET) {
		cmsgs_add(cs, IPPROTO_IP, IP_RECVORIGDSTADDR, &ss, len);
	} else {
		cmsgs_add(cs, IPPROTO_IPV6, IPV6_RECVORIGDSTADDR, &ss, len);
	}
}

static void
ip_save4(struct cmsgs *cs, const struct inpcb *inp, const struct mbuf *m)
{
	const struct ip *ip = mtod(m, const struct ip *);
	union inaddr dst = in_map4(ip->ip_dst);
	uint32_t hlen = ip_hlen(ip);

	if ((inp->inp_flags & INP_PKTINFO)) {
		ip_savepktinfo(cs, m, &dst);
	}
	if (inp->inp_flags & INP_RECVTTL) {
		int ttl = ip->ip_ttl;

		cmsgs_add(cs, IPPROTO_IP, IP_TTL, &ttl, sizeof(ttl));
	}
	if (inp->inp_flags & INP_RECVTOS) {
		cmsgs_add(cs, IPPROTO_IP, IP_TOS, &ip->ip_tos, 1);
	}
	if ((inp->inp_flags & INP_RECVOPTS) && hlen > IP_HDRLEN) {
		cmsgs_add(cs, IPPROTO_IP, IP_RECVOPTS, ip + 1, hlen - IP_HDRLEN);
	}
	if (inp->inp_flags & INP_RECVORIGDST) {
		ip_saveorigdst(cs, m, AF_INET, &dst, hlen);
	}
}

static void
ip_save6(struct cmsgs *cs, const struct inpcb *inp, const struct mbuf *m)
{
	const uint8_t *h = m->m_data;
	int val;

	if (inp->inp_flags & INP_RECVHOPS6) {
		val = h[7];
		cmsgs_add(cs, IPPROTO_IPV6, IPV6_HOPLIMIT, &val, sizeof(val));
	}
	if (inp->inp_flags & INP_RECVTCLASS6) {
		val = (be32get(h) >> 20) & 255;
		cmsgs_add(cs, IPPROTO_IPV6, IPV6_TCLASS, &val, sizeof(val));
	}
	ip6_saveexthdrs(inp, m, &cs->cs_tail);
	if (inp->inp_flags & INP_RECVORIGDST) {
		union inaddr src, dst;

		in_pktaddrs(m, &src, &dst);
		ip_saveorigdst(cs, m, AF_INET6, &dst, 40);
	}
}

#define INP_CONTROL                                                            \
	(INP_PKTINFO | INP_RECVTTL | INP_RECVTOS | INP_RECVOPTS |              \
	    INP_RECVORIGDST | INP_RECVPKTINFO6 | INP_RECVHOPS6 |               \
	    INP_RECVTCLASS6 | INP_RECVRTHDR6 | INP_RECVHOPOPTS6 |              \
	    INP_RECVDSTOPTS6)

struct mbuf *
ip_savecontrol(struct inpcb *inp, const struct mbuf *m)
{
	struct cmsgs cs = { .cs_pool = m->m_pool };
	union inaddr src, dst;
	bool svc = (inp->inp_socket->so_qosflags & SOQ_RECVSVC) != 0;

	if (!(inp->inp_flags & INP_CONTROL) && !svc) {
		return NULL;
	}
	cs.cs_tail = &cs.cs_head;
	if (svc) {
		int sotc = svc_class(qos_rxsvc(m))->sv_sotc;

		cmsgs_add(&cs, SOL_SOCKET, SO_TRAFFIC_CLASS_, &sotc,
		    sizeof(sotc));
	}
	if (inp->inp_flags & INP_RECVPKTINFO6) {
		struct in6_pktinfo pi;

		in_pktaddrs(m, &src, &dst);
		memcpy(&pi.ipi6_addr, &dst, sizeof(dst));
		pi.ipi6_ifindex = m->m_pkthdr.rcvif->if_index;
		cmsgs_add(&cs, IPPROTO_IPV6, IPV6_PKTINFO, &pi, sizeof(pi));
	}
	if ((m->m_data[0] >> 4) == 4) {
		ip_save4(&cs, inp, m);
	} else {
		ip_save6(&cs, inp, m);
	}
	return cs.cs_head;
}

/* ---- control messages down ---- */

/* May inp send from src? */
static bool
ip_maysource(const struct inpcb *inp, const union inaddr *src)
{
	return in_isany(src) || (inp->inp_flags & INP_FREEBIND) ||
	    (inp->inp_socket->so_options & SOO_ANYIP) ||
	    ifa_ifwithaddr(inp->inp_info->ipi_stack, src) != NULL;
}

static int
ip_cmsg4(const struct inpcb *inp, int type, const uint8_t *data, size_t len,
    struct ip_sendopts *is)
{
	struct in_pktinfo pi;
	int val = 0;

	switch (type) {
	case IP_PKTINFO:
		if (len != sizeof(pi)) {
			return EINVAL;
		}
		memcpy(&pi, data, sizeof(pi));
		is->is_scope = (uint32_t)pi.ipi_ifindex;
		is->is_src = in_map4(pi.ipi_spec_dst.s_addr);
		return ip_maysource(inp, &is->is_src) ? 0 : EINVAL;
	case IP_TTL:
	case IP_TOS:
		if (len == 1 && type == IP_TOS) {
			val = data[0];
		} else if (len == sizeof(val)) {
			memcpy(&val, data, sizeof(val));
		} else {
			return EINVAL;
		}
		if (val < (type == IP_TTL) || val > 255) {
			return EINVAL;
		}
		*(type == IP_TTL ? &is->is_ttl : &is->is_tos) = val;
		return 0;
	default:
		return EINVAL;
	}
}

static int
ip_cmsg6(const struct inpcb *inp, int type, const uint8_t *data, size_t len,
    struct ip_sendopts *is)
{
	struct in6_pktinfo pi;
	int val = 0;

	if (type == IPV6_PKTINFO) {
		if (len < sizeof(pi)) {
			return EINVAL;
		}
		memcpy(&pi, data, sizeof(pi));
		is->is_scope = pi.ipi6_ifindex;
		memcpy(&is->is_src, &pi.ipi6_addr, sizeof(is->is_src));
		return ip_maysource(inp, &is->is_src) ? 0 : EINVAL;
	}
	if (type != IPV6_HOPLIMIT && type != IPV6_TCLASS) {
		return EINVAL;
	}
	if (len != sizeof(val)) {
		return EINVAL;
	}
	memcpy(&val, data, sizeof(val));
	if (val < -1 || val > 255) {
		return EINVAL;
	}
	*(type == IPV6_HOPLIMIT ? &is->is_ttl : &is->is_tos) = val;
	return 0;
}

static int
ip_cmsgsol(int type, const uint8_t *data, size_t len, struct ip_sendopts *is)
{
	int val;

	if ((type != SO_TRAFFIC_CLASS_ && type != SO_NET_SERVICE_TYPE_) ||
	    len != sizeof(val)) {
		return EINVAL;
	}
	memcpy(&val, data, sizeof(val));
	is->is_svc = so_qoscmsg(type, val);
	return is->is_svc >= 0 ? 0 : EINVAL;
}

static int
ip_cmsg(const struct inpcb *inp, const struct cmsghdr *c, const uint8_t *data,
    struct ip_sendopts *is)
{
	size_t len = c->cmsg_len - CMSG_LEN(0);
	bool v6 = inp->inp_socket->so_family == AF_INET6;

	if (c->cmsg_level == IPPROTO_IP) {
		return ip_cmsg4(inp, c->cmsg_type, data, len, is);
	}
	if (c->cmsg_level == IPPROTO_IPV6 && v6) {
		return ip_cmsg6(inp, c->cmsg_type, data, len, is);
	}
	if (c->cmsg_level == SOL_UDP_ && c->cmsg_type == UDP_SEGMENT_) {
		if (len != sizeof(is->is_gso)) {
			return EINVAL;
		}
		memcpy(&is->is_gso, data, sizeof(is->is_gso));
		return 0;
	}
	if (c->cmsg_level == SOL_SOCKET) {
		return ip_cmsgsol(c->cmsg_type, data, len, is);
	}
	return 0;
}

int
ip_getcontrol(const struct inpcb *inp, const struct mbuf *control,
    struct ip_sendopts *is)
{
	memset(is, 0, sizeof(*is));
	is->is_ttl = is->is_tos = is->is_svc = -1;
	for (; control != NULL; control = control->m_next) {
		uint32_t off = 0;

		while (off + sizeof(struct cmsghdr) <= control->m_len) {
			struct cmsghdr c;
			int error;

			memcpy(&c, control->m_data + off, sizeof(c));
			if (c.cmsg_len < CMSG_LEN(0) ||
			    c.cmsg_len > control->m_len - off) {
				return EINVAL;
			}
			error = ip_cmsg(inp, &c,
			    control->m_data + off + CMSG_LEN(0), is);
			if (error != 0) {
				return error;
			}
			off += (uint32_t)CMSG_ALIGN(c.cmsg_len);
		}
	}
	return 0;
}

/* ---- from a pcb to ip_output ---- */

int
ip_pcbdest(const struct inpcb *inp, const struct sockaddr *to, socklen_t tolen,
    union inaddr *dst, uint16_t *port, uint32_t *scope)
{
	int error;

	*scope = 0;
	if (to == NULL) {
		if (!in_pcbconnected(inp)) {
			return EDESTADDRREQ;
		}
		*dst = inp->inp_faddr;
		*port = inp->inp_fport;
		return 0;
	}
	error = in_sockaddr_get(inp->inp_socket->so_family, to, tolen, dst,
	    port, scope);
	if (error != 0) {
		return error;
	}
	if (in_isany(dst)) { /* this host */
		union inaddr lo6 = { .ia_b = { [15] = 1 } };

		*dst = in_is4(dst) ? in_map4(htonl(INADDR_LOOPBACK)) : lo6;
	}
	if (in_is4(dst) && (inp->inp_flags & INP_V6ONLY)) {
		return ENETUNREACH;
	}
	return 0;
}

int
ip_pcbsource(struct inpcb *inp, const union inaddr *dst, uint32_t scope,
    union inaddr *src)
{
	struct route *ro = &inp->inp_route;
	struct rtentry *rt;
	struct ifnet *ifp;
	int error;

	if (scope == 0) {
		scope = in_pcbscope(inp);
	}
	if (scope == 0 && in_ismulticast(dst)) {
		scope = ip_mcast_scope(inp);
	}
	error = ip_route(inp->inp_info->ipi_stack, ro, dst, scope, &rt, &ifp);
	if (error != 0) {
		return error;
	}
	if (rt != NULL && ro->ro_gen == inp->inp_autogen &&
	    in_eq(dst, &inp->inp_autodst)) {
		*src = inp->inp_autosrc;
		return 0;
	}
	if (!ip_source(inp->inp_info->ipi_stack, ifp, dst, src)) {
		return EADDRNOTAVAIL;
	}
	inp->inp_autogen = rt != NULL ? ro->ro_gen : 0;
	inp->inp_autodst = *dst;
	inp->inp_autosrc = *src;
	return 0;
}

void
ip_pcbargs(struct inpcb *inp, const union inaddr *src, const union inaddr *dst,
    const struct ip_sendopts *is, struct ip_outargs *ioa)
{
	const struct socket *so = inp->inp_socket;
	bool v4 = in_is4(dst), mcast = in_ismulticast(dst);
	uint32_t flags = inp->inp_flags & INP_PMTUDISC_DO ? IPO_DF :
	    inp->inp_flags & INP_PMTUDISC_DONT		  ? 0 :
							    IPO_PMTU;

	if (inp->inp_flags & INP_PMTUDISC_PROBE) {
		flags |= IPO_PROBE;
	}
	if (!v4 && (inp->inp_flags & INP_DONTFRAG6)) {
		flags |= IPO_DF;
	}
	flags |= so->so_options & SOO_BROADCAST ? IPO_BCAST : 0;
	flags |= so->so_options & SOO_DONTROUTE ? IPO_ROUTETOIF : 0;
	flags |= inp->inp_flags & INP_MLOOP ? 0 : IPO_NOMLOOP;
	ioa->ioa_src = src;
	ioa->ioa_dst = dst;
	ioa->ioa_route = &inp->inp_route;
	ioa->ioa_moptions = inp->inp_moptions;
	ioa->ioa_options = v4 ? inp->inp_options : NULL;
	ioa->ioa_scope = is->is_scope != 0 ? is->is_scope : in_pcbscope(inp);
	if (mcast && ioa->ioa_scope == 0) {
		ioa->ioa_scope = ip_mcast_scope(inp);
	}
	ioa->ioa_flags = flags;
	ioa->ioa_ttl = is->is_ttl >= 0 ? (uint8_t)is->is_ttl :
	    mcast		       ? inp->inp_mttl :
	    v4 || inp->inp_hops6 < 0   ? inp->inp_ttl :
					 (uint8_t)inp->inp_hops6;
	ioa->ioa_tos = is->is_tos >= 0 ? (uint8_t)is->is_tos :
	    v4			       ? inp->inp_tos :
					 inp->inp_tclass6;
}
