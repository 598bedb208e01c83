/*
 * inetstack.h - a stack with sockets and one interface for tests of the
 * Internet layer: packets are put in as bytes and what goes out is kept.
 */
#ifndef TESTS_UNIT_C_INETSTACK_H
#define TESTS_UNIT_C_INETSTACK_H

#include "bsdcore/netinet/in_pcb.h"
#include "bsdcore/netinet/ip.h"
#include "bsdcore/netinet/ip_icmp.h"
#include "bsdcore/netinet/ip_var.h"
#include "bsdcore/netinet/udp.h"
#include "bsdcore/sys/socketvar.h"
#include "tests/unit/c/linkstack.h"

#define IS_MAXOUT 512

struct outpkt {
	uint8_t op_data[65536];
	uint32_t op_len;
	uint8_t op_csum_flags;
	uint16_t op_tso;
	union inaddr op_gw;
};

/* The interface and what it was given, oldest first. */
struct testif {
	struct ifnet ti_if; /* freed by the stack */
	struct outpkt *ti_out[IS_MAXOUT];
	int ti_nout;
};

static inline struct testif *
testif_of(struct ifnet *ifp)
{
	return (struct testif *)(void *)ifp;
}

static inline int
testif_output(struct ifnet *ifp, struct mbuf *m, const union inaddr *gw,
    struct rtentry *rt)
{
	struct testif *ti = testif_of(ifp);
	struct outpkt *op = calloc(1, sizeof(*op));

	(void)rt;
	CHECK(op != NULL && ti->ti_nout < IS_MAXOUT);
	CHECK(m_sanity(m));
	op->op_len = m->m_pkthdr.len;
	op->op_csum_flags = m->m_pkthdr.csum_flags;
	op->op_tso = m->m_pkthdr.tso_segsz;
	op->op_gw = *gw;
	in_delayed_cksum(m);
	m_copydata(m, 0, op->op_len, op->op_data);
	ti->ti_out[ti->ti_nout++] = op;
	m_freem(m);
	return 0;
}

static inline void
testif_clear(struct testif *ti)
{
	while (ti->ti_nout > 0) {
		free(ti->ti_out[--ti->ti_nout]);
	}
}

static inline struct testif *
testif_new(struct stack *s, const char *name, const char *addr, unsigned plen)
{
	struct testif *ti = calloc(1, sizeof(*ti));
	union inaddr a = ls_ip(addr);

	CHECK(ti != NULL);
	ti->ti_if.if_stack = s;
	ti->ti_if.if_mtu = 1500;
	ti->ti_if.if_flags = IFF_UP_ | IFF_BROADCAST_ | IFF_NOARP_;
	ti->ti_if.if_index = ++s->s_if->ifs_next;
	ti->ti_if.if_output = testif_output;
	ti->ti_if.if_sndmax = 16;
	strcpy(ti->ti_if.if_name, name);
	mbufq_init(&ti->ti_if.if_snd);
	LIST_INIT(&ti->ti_if.if_addrs);
	LIST_INIT(&ti->ti_if.if_multi);
	TAILQ_INSERT_TAIL(&s->s_if->ifs_list, &ti->ti_if, if_link);
	CHECK_EQ(if_addaddr(&ti->ti_if, &a, plen), 0);
	return ti;
}

/* 10.0.0.1/24 on net0, and lo0. */
static inline struct stack *
is_new(struct testif **ti)
{
	struct stack *s = calloc(1, sizeof(*s));

	CHECK(s != NULL);
	pthread_mutex_init(&s->s_lock, NULL);
	s->s_now = LS_START;
	for (int i = 0; i < 4; i++) {
		s->s_key[i] = 0x9e3779b97f4a7c15ull * (unsigned)(i + 1);
	}
	s->s_mb = mbpool_new(s, 64 << 20);
	CHECK(s->s_mb != NULL);
	CHECK_EQ(ctl_sysinit(s), 0);
	CHECK_EQ(callout_sysinit(s), 0);
	CHECK_EQ(netisr_init(s), 0);
	CHECK_EQ(so_init(s), 0);
	CHECK_EQ(if_init(s), 0);
	CHECK_EQ(domain_init(s), 0);
	*ti = testif_new(s, "net0", "10.0.0.1", 24);
	return s;
}

/* Checks that nothing is left. */
static inline void
is_free(struct stack *s)
{
	struct ifnet *ifp;
	struct mbstat st;

	CHECK(LIST_EMPTY(&s->s_so->sos_all));
	TAILQ_FOREACH (ifp, &s->s_if->ifs_list, if_link) {
		if (ifp->if_output == testif_output) {
			testif_clear(testif_of(ifp));
		}
	}
	netisr_stop(s);
	domain_fini(s);
	if_fini(s);
	so_fini(s);
	netisr_fini(s);
	mbpool_stat(s->s_mb, &st);
	CHECK_EQ(st.mbs_mbufs, 0);
	CHECK_EQ(callout_count(s), 0);
	mbpool_free(s->s_mb);
	callout_sysfini(s);
	ctl_sysfini(s);
	pthread_mutex_destroy(&s->s_lock);
	free(s);
}

/* Bytes as a packet; cut: bytes in the first mbuf (0: all). */
static inline struct mbuf *
is_mbuf(struct stack *s, struct ifnet *ifp, const void *data, uint32_t len,
    uint32_t cut)
{
	struct mbuf *m, *n;

	cut = cut == 0 || cut > len ? len : cut;
	m = m_getcl(s->s_mb, MT_DATA, M_PKTHDR, cut > 2048 ? 65536 : 2048);
	CHECK(m != NULL);
	memcpy(m->m_data, data, cut);
	m->m_len = cut;
	if (cut < len) {
		n = m_getcl(s->s_mb, MT_DATA, 0,
		    len - cut > 2048 ? 65536 : 2048);
		CHECK(n != NULL);
		memcpy(n->m_data, (const uint8_t *)data + cut, len - cut);
		n->m_len = len - cut;
		m->m_next = n;
	}
	m->m_pkthdr.len = len;
	m->m_pkthdr.rcvif = ifp;
	return m;
}

static inline void
is_put(struct stack *s, struct testif *ti, const void *data, uint32_t len)
{
	struct mbuf *m = is_mbuf(s, &ti->ti_if, data, len, 0);

	if ((m->m_data[0] >> 4) == 6) {
		ip6_input(s, m);
	} else {
		ip_input(s, m);
	}
	if_flush(s);
}

/* The plainest checksum there is, in the order of the wire. */
static inline uint16_t
is_sum(const uint8_t *b, size_t n, uint32_t sum)
{
	for (size_t i = 0; i < n; i++) {
		sum += i % 2 ? b[i] : (uint32_t)b[i] << 8;
		sum = (sum & 0xffff) + (sum >> 16);
	}
	return (uint16_t)sum;
}

/* An IPv4 packet with a right header checksum around what is at b + 20. */
static inline uint32_t
is_ip(uint8_t *b, const char *src, const char *dst, uint8_t proto,
    uint32_t paylen)
{
	union inaddr s = ls_ip(src), d = ls_ip(dst);

	memset(b, 0, 20);
	b[0] = 0x45;
	be16put(b + 2, (uint16_t)(20 + paylen));
	be16put(b + 4, 0x1234);
	b[8] = 64;
	b[9] = proto;
	memcpy(b + 12, &s.ia_w[3], 4);
	memcpy(b + 16, &d.ia_w[3], 4);
	return 20 + paylen;
}

static inline void
is_ipsum(uint8_t *b)
{
	be16put(b + 10, 0);
	be16put(b + 10, (uint16_t)~is_sum(b, (size_t)(b[0] & 15) * 4, 0));
}

/* The sum of transport header and data with IPv4's pseudo-header. */
static inline uint16_t
is_l4sum(const uint8_t *b, uint32_t len)
{
	uint32_t hl = (uint32_t)(b[0] & 15) * 4;
	uint32_t sum = is_sum(b + 12, 8, 0);

	sum += b[9] + (len - hl);
	sum = (sum & 0xffff) + (sum >> 16);
	return is_sum(b + hl, len - hl, sum);
}

/* A whole UDP packet, sums right; answers its length. */
static inline uint32_t
is_udp(uint8_t *b, const char *src, uint16_t sport, const char *dst,
    uint16_t dport, const void *data, uint32_t n)
{
	uint32_t len = is_ip(b, src, dst, IPPROTO_UDP, 8 + n);
	uint16_t sum;

	be16put(b + 20, sport);
	be16put(b + 22, dport);
	be16put(b + 24, (uint16_t)(8 + n));
	be16put(b + 26, 0);
	memcpy(b + 28, data, n);
	sum = (uint16_t)~is_l4sum(b, len);
	be16put(b + 26, sum != 0 ? sum : 0xffff);
	is_ipsum(b);
	return len;
}

/* ---- sockets ---- */

static inline socklen_t
is_sa(struct sockaddr_storage *ss, const char *addr, uint16_t port)
{
	union inaddr a = ls_ip(addr);

	return in_sockaddr_put(strchr(addr, ':') != NULL ? AF_INET6 : AF_INET,
	    &a, port, 0, ss);
}

static inline struct socket *
is_socket(struct stack *s, int family, int type, int proto)
{
	struct socket *so;

	CHECK_EQ(socreate(s, family, type, proto, &so), 0);
	return so;
}

static inline int
is_bind(struct socket *so, const char *addr, uint16_t port)
{
	struct sockaddr_storage ss;
	socklen_t len = is_sa(&ss, addr, port);

	return sobind(so, (struct sockaddr *)&ss, len);
}

static inline int
is_connect(struct socket *so, const char *addr, uint16_t port)
{
	struct sockaddr_storage ss;
	socklen_t len = is_sa(&ss, addr, port);

	return soconnect(so, (struct sockaddr *)&ss, len);
}

/* addr NULL: connected. */
static inline int
is_send(struct socket *so, const void *data, size_t n, const char *addr,
    uint16_t port, struct mbuf *control)
{
	struct iovec iov = { (void *)(uintptr_t)data, n };
	struct uio uio = { .uio_iov = &iov, .uio_iovcnt = 1, .uio_resid = n };
	struct sockaddr_storage ss;
	socklen_t len = addr != NULL ? is_sa(&ss, addr, port) : 0;
	size_t done;
	int error =
	    sosend(so, &uio, addr != NULL ? (struct sockaddr *)&ss : NULL, len,
		control, 0, &done);

	if_flush(so->so_stack);
	return error;
}

/* Bytes, or -errno. port, control may be NULL. */
static inline int
is_recv(struct socket *so, void *buf, size_t n, union inaddr *from,
    uint16_t *port, struct mbuf **control)
{
	struct iovec iov = { buf, n };
	struct uio uio = { .uio_iov = &iov, .uio_iovcnt = 1, .uio_resid = n };
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	uint16_t p;
	size_t done = 0;
	int flags = 0;
	int error = soreceive(so, &uio, &ss, &len, control, &flags, &done);

	if (error == 0 && from != NULL) {
		CHECK_EQ(in_sockaddr_get(AF_INET6, (struct sockaddr *)&ss, len,
			     from, &p, NULL),
		    0);
		if (port != NULL) {
			*port = p;
		}
	}
	return error != 0 ? -error : (int)done;
}

static inline uint16_t
is_port(struct socket *so)
{
	return sotoinpcb(so)->inp_lport;
}

static inline int
is_setint(struct socket *so, int level, int name, int val)
{
	struct sockopt sopt = { SOPT_SET, level, name, &val, sizeof(val) };

	return sosetopt(so, &sopt);
}

static inline int
is_getint(struct socket *so, int level, int name)
{
	int val = 0;
	struct sockopt sopt = { SOPT_GET, level, name, &val, sizeof(val) };

	CHECK_EQ(sogetopt(so, &sopt), 0);
	return val;
}

#endif
