/* ICMP: echo, errors out and in, rates, redirects, ping and raw sockets. */
#include "bsdcore/netinet6/ip6.h"
#include "tests/unit/c/inetstack.h"

static uint8_t pkt[65536 + 64];

/* An ICMP message of n bytes behind the eight of its header. */
static uint32_t
icmp(const char *src, const char *dst, uint8_t type, uint8_t code,
    uint32_t param, const void *data, uint32_t n)
{
	uint32_t len = is_ip(pkt, src, dst, IPPROTO_ICMP, 8 + n);

	pkt[20] = type;
	pkt[21] = code;
	be16put(pkt + 22, 0);
	be32put(pkt + 24, param);
	memcpy(pkt + 28, data, n);
	be16put(pkt + 22, (uint16_t)~is_sum(pkt + 20, 8 + n, 0));
	is_ipsum(pkt);
	return len;
}

/* An error of the type about what was sent as ti_out[i]. */
static void
complain(struct stack *s, struct testif *ti, int i, const char *from,
    uint8_t type, uint8_t code, uint32_t param, uint32_t quote)
{
	static uint8_t q[1500];
	uint32_t n = u32min(quote, ti->ti_out[i]->op_len);

	memcpy(q, ti->ti_out[i]->op_data, n);
	is_put(s, ti, pkt, icmp(from, "10.0.0.1", type, code, param, q, n));
}

TEST(echo)
{
	struct testif *ti;
	struct stack *s = is_new(&ti);
	static uint8_t data[1400];
	const uint8_t *b;
	uint32_t len;

	for (size_t i = 0; i < sizeof(data); i++) {
		data[i] = (uint8_t)(i * 3);
	}
	for (uint32_t n = 0; n <= sizeof(data); n += 100) {
		len = icmp("10.0.0.2", "10.0.0.1", ICMP_ECHO, 0, 0x12340001,
		    data, n);
		is_put(s, ti, pkt, len);
		CHECK_EQ(ti->ti_nout, 1);
		b = ti->ti_out[0]->op_data;
		CHECK_EQ(ti->ti_out[0]->op_len, len);
		CHECK_EQ(b[20], ICMP_ECHOREPLY);
		CHECK_EQ(is_sum(b, 20, 0), 0xffff);
		CHECK_EQ(is_sum(b + 20, len - 20, 0), 0xffff);
		CHECK_EQ(be32get(b + 12), 0x0a000001);
		CHECK_EQ(be32get(b + 16), 0x0a000002);
		CHECK_MEM(b + 24, pkt + 24, len - 24);
		testif_clear(ti);
	}
	/* not to a broadcast, unless asked to, and then from ourselves */
	len = icmp("10.0.0.2", "10.0.0.255", ICMP_ECHO, 0, 1, data, 8);
	is_put(s, ti, pkt, len);
	CHECK_EQ(ti->ti_nout, 0);
	CHECK_EQ(sysctl_set(s, "net.inet.icmp.bmcastecho", 1), 0);
	is_put(s, ti, pkt, len);
	CHECK_EQ(be32get(ti->ti_out[0]->op_data + 12), 0x0a000001);
	is_free(s);
}

TEST(hostile)
{
	struct testif *ti;
	struct stack *s = is_new(&ti);
	uint32_t len = icmp("10.0.0.2", "10.0.0.1", ICMP_ECHO, 0, 1, "abc", 3);

	pkt[28] ^= 0x40;
	is_put(s, ti, pkt, len);
	CHECK_EQ(ls_stat(s, "icmp.drop.badsum"), 1);
	len = is_ip(pkt, "10.0.0.2", "10.0.0.1", IPPROTO_ICMP, 7);
	is_ipsum(pkt);
	is_put(s, ti, pkt, len);
	CHECK_EQ(ls_stat(s, "icmp.drop.tooshort"), 1);
	/* silence about what must not be answered */
	for (uint32_t type = 0; type < 256; type++) {
		if (type != ICMP_ECHO) {
			is_put(s, ti, pkt,
			    icmp("10.0.0.2", "10.0.0.1", (uint8_t)type, 0, 0,
				"0123456789012345678901234567890", 31));
		}
	}
	CHECK_EQ(ti->ti_nout, 0);
	CHECK_EQ(ls_stat(s, "icmp.drop.quench"), 1);
	CHECK_EQ(ls_stat(s, "icmp.drop.badquote"), 4);
	is_free(s);
}

/* RFC 1122 3.2.2: which packets no error is ever sent about. */
TEST(errors_out)
{
	struct testif *ti;
	struct stack *s = is_new(&ti);
	static uint8_t data[1400];
	uint32_t len = is_udp(pkt, "10.0.0.2", 9, "10.0.0.1", 5000, data, 1400);
	const uint8_t *b;

	is_put(s, ti, pkt, len);
	CHECK_EQ(ti->ti_nout, 1);
	b = ti->ti_out[0]->op_data;
	CHECK_EQ(ti->ti_out[0]->op_len, 576);
	CHECK_EQ(b[20], ICMP_UNREACH);
	CHECK_EQ(b[21], ICMP_UNREACH_PORT);
	CHECK_EQ(be32get(b + 24), 0);
	CHECK_EQ(is_sum(b + 20, 556, 0), 0xffff);
	CHECK_MEM(b + 28, pkt, 548);
	testif_clear(ti);
	len = is_udp(pkt, "10.0.0.2", 9, "10.0.0.255", 5000, data, 10);
	is_put(s, ti, pkt, len);
	len = is_udp(pkt, "10.0.0.2", 9, "224.0.0.1", 5000, data, 10);
	is_put(s, ti, pkt, len);
	CHECK_EQ(ti->ti_nout, 0);
	CHECK_EQ(sysctl_set(s, "net.inet.udp.blackhole", 1), 0);
	len = is_udp(pkt, "10.0.0.2", 9, "10.0.0.1", 5000, data, 10);
	is_put(s, ti, pkt, len);
	CHECK_EQ(ti->ti_nout, 0);
	is_free(s);
}

TEST(rate)
{
	struct testif *ti;
	struct stack *s = is_new(&ti);
	uint32_t len = is_udp(pkt, "10.0.0.2", 9, "10.0.0.1", 5000, "x", 1);

	for (int i = 0; i < 500; i++) {
		is_put(s, ti, pkt, len);
	}
	CHECK_EQ(ti->ti_nout, 50); /* the burst */
	CHECK_EQ(ls_stat(s, "icmp.odrop.limited"), 450);
	s->s_now += 10 * NSEC_PER_MSEC;
	for (int i = 0; i < 100; i++) {
		is_put(s, ti, pkt, len);
	}
	CHECK_EQ(ti->ti_nout, 60); /* 1000 a second */
	is_free(s);
}

TEST(errors_in)
{
	static const struct {
		uint8_t type, code;
		int error;
	} cases[] = {
		{ ICMP_UNREACH, ICMP_UNREACH_PORT, ECONNREFUSED },
		{ ICMP_UNREACH, ICMP_UNREACH_PROTOCOL, ENOPROTOOPT },
		{ ICMP_UNREACH, ICMP_UNREACH_HOST_PROHIB, EHOSTUNREACH },
		{ ICMP_UNREACH, ICMP_UNREACH_HOST, 0 }, /* soft */
		{ ICMP_UNREACH, ICMP_UNREACH_NET, 0 },
		{ ICMP_TIMXCEED, 0, 0 },
		{ ICMP_PARAMPROB, 0, EPROTO },
		{ ICMP_UNREACH, 99, 0 },
	};
	struct testif *ti;
	struct stack *s = is_new(&ti);
	struct socket *so = is_socket(s, AF_INET, SOCK_DGRAM, 0);
	struct socket *other = is_socket(s, AF_INET, SOCK_DGRAM, 0);

	CHECK_EQ(is_connect(so, "10.0.0.2", 53), 0);
	CHECK_EQ(is_bind(other, "0.0.0.0", 6000), 0);
	CHECK_EQ(is_send(so, "data", 4, NULL, 0, NULL), 0);
	CHECK_EQ(is_send(other, "data", 4, "10.0.0.2", 53, NULL), 0);
	for (size_t i = 0; i < nitems(cases); i++) {
		complain(s, ti, 0, "10.0.0.9", cases[i].type, cases[i].code, 0,
		    28);
		CHECK_EQ(so->so_error, cases[i].error);
		so->so_error = 0;
		complain(s, ti, 1, "10.0.0.9", cases[i].type, cases[i].code, 0,
		    28);
		CHECK_EQ(other->so_error, 0); /* not connected */
	}
	CHECK_EQ(is_setint(so, IPPROTO_IP, IP_RECVERR, 1), 0);
	complain(s, ti, 0, "10.0.0.9", ICMP_UNREACH, ICMP_UNREACH_HOST, 0, 28);
	CHECK_EQ(so->so_error, EHOSTUNREACH);
	so->so_error = 0;
	/* too short a quote, or of a packet that was not ours */
	complain(s, ti, 0, "10.0.0.9", ICMP_UNREACH, ICMP_UNREACH_PORT, 0, 27);
	CHECK_EQ(so->so_error, 0);
	be32put(ti->ti_out[0]->op_data + 12, 0x0a000063);
	complain(s, ti, 0, "10.0.0.9", ICMP_UNREACH, ICMP_UNREACH_PORT, 0, 28);
	CHECK_EQ(so->so_error, 0);
	CHECK_EQ(ls_stat(s, "icmp.drop.notours"), 1);
	soclose(so);
	soclose(other);
	is_free(s);
}

TEST(path_mtu)
{
	struct testif *ti;
	struct stack *s = is_new(&ti);
	struct socket *so = is_socket(s, AF_INET, SOCK_DGRAM, 0);
	union inaddr net = ls_ip("10.9.0.0"), gw = ls_ip("10.0.0.9");
	static uint8_t data[1400];

	CHECK_EQ(rt_add(s, &net, 16, &gw, NULL, RTF_STATIC, NULL), 0);
	CHECK_EQ(is_connect(so, "10.9.0.1", 53), 0);
	CHECK_EQ(is_getint(so, IPPROTO_IP, IP_MTU), 1500);
	CHECK_EQ(is_send(so, data, 1400, NULL, 0, NULL), 0);
	complain(s, ti, 0, "10.0.0.9", ICMP_UNREACH, ICMP_UNREACH_NEEDFRAG,
	    1000, 28);
	CHECK_EQ(so->so_error, EMSGSIZE);
	so->so_error = 0;
	CHECK_EQ(is_getint(so, IPPROTO_IP, IP_MTU), 1000);
	CHECK_EQ(is_send(so, data, 1400, NULL, 0, NULL), 0);
	CHECK_EQ(ti->ti_nout, 3); /* in two pieces now */
	/* never up, never below what is sane */
	complain(s, ti, 0, "10.0.0.9", ICMP_UNREACH, ICMP_UNREACH_NEEDFRAG,
	    1400, 28);
	CHECK_EQ(is_getint(so, IPPROTO_IP, IP_MTU), 1000);
	complain(s, ti, 0, "10.0.0.9", ICMP_UNREACH, ICMP_UNREACH_NEEDFRAG, 68,
	    28);
	CHECK_EQ(is_getint(so, IPPROTO_IP, IP_MTU), 552);
	so->so_error = 0;
	soclose(so);
	is_free(s);
}

TEST(redirect)
{
	struct testif *ti;
	struct stack *s = is_new(&ti);
	struct socket *so = is_socket(s, AF_INET, SOCK_DGRAM, 0);
	union inaddr net = ls_ip("10.9.0.0"), gw = ls_ip("10.0.0.9");
	union inaddr better = ls_ip("10.0.0.8");

	CHECK_EQ(rt_add(s, &net, 16, &gw, NULL, RTF_STATIC, NULL), 0);
	CHECK_EQ(is_send(so, "x", 1, "10.9.0.1", 53, NULL), 0);
	CHECK(in_eq(&ti->ti_out[0]->op_gw, &gw));
	/* only from the first hop */
	complain(s, ti, 0, "10.0.0.7", ICMP_REDIRECT, 1, 0x0a000008, 28);
	CHECK_EQ(is_send(so, "x", 1, "10.9.0.1", 53, NULL), 0);
	CHECK(in_eq(&ti->ti_out[1]->op_gw, &gw));
	complain(s, ti, 0, "10.0.0.9", ICMP_REDIRECT, 1, 0x0a000008, 28);
	CHECK_EQ(is_send(so, "x", 1, "10.9.0.1", 53, NULL), 0);
	CHECK(in_eq(&ti->ti_out[2]->op_gw, &better));
	CHECK_EQ(is_send(so, "x", 1, "10.9.0.2", 53, NULL), 0);
	CHECK(in_eq(&ti->ti_out[3]->op_gw, &gw));
	soclose(so);
	is_free(s);
}

TEST(ping_socket)
{
	struct testif *ti;
	struct stack *s = is_new(&ti);
	struct socket *so = is_socket(s, AF_INET, SOCK_DGRAM, IPPROTO_ICMP);
	struct socket *lo = is_socket(s, AF_INET, SOCK_DGRAM, IPPROTO_ICMP);
	uint8_t req[12] = { ICMP_ECHO, 0, 0, 0, 0xaa, 0xaa, 0, 7, 'd', 'a', 't',
		'a' };
	union inaddr from, peer = ls_ip("10.0.0.2");
	uint8_t buf[64];
	const uint8_t *b;

	CHECK_EQ(is_send(so, req, sizeof(req), "10.0.0.2", 0, NULL), 0);
	b = ti->ti_out[0]->op_data;
	CHECK_EQ(b[9], IPPROTO_ICMP);
	CHECK_EQ(is_sum(b + 20, sizeof(req), 0), 0xffff);
	CHECK_EQ(be16get(b + 24), is_port(so)); /* the socket's, not ours */
	CHECK_EQ(be16get(b + 26), 7);
	is_put(s, ti, pkt,
	    icmp("10.0.0.2", "10.0.0.1", ICMP_ECHOREPLY, 0,
		(uint32_t)is_port(so) << 16 | 7, "data", 4));
	CHECK_EQ(is_recv(so, buf, sizeof(buf), &from, NULL, NULL), 12);
	CHECK_EQ(buf[0], ICMP_ECHOREPLY);
	CHECK_MEM(buf + 8, "data", 4);
	CHECK(in_eq(&from, &peer));
	is_put(s, ti, pkt,
	    icmp("10.0.0.2", "10.0.0.1", ICMP_ECHOREPLY, 0,
		(uint32_t)(is_port(so) ^ 1u) << 16 | 7, "data", 4));
	CHECK_EQ(is_recv(so, buf, sizeof(buf), NULL, NULL, NULL), -EAGAIN);
	/* nothing but echo requests */
	req[0] = ICMP_REDIRECT;
	CHECK_EQ(is_send(so, req, sizeof(req), "10.0.0.2", 0, NULL), EINVAL);
	CHECK_EQ(is_send(so, req, 7, "10.0.0.2", 0, NULL), EINVAL);
	/* to oneself and back, whole way */
	req[0] = ICMP_ECHO;
	CHECK_EQ(is_send(lo, req, sizeof(req), "127.0.0.1", 0, NULL), 0);
	CHECK_EQ(is_recv(lo, buf, sizeof(buf), NULL, NULL, NULL), 12);
	soclose(so);
	soclose(lo);
	is_free(s);
}

TEST(raw_socket)
{
	struct testif *ti;
	struct stack *s = is_new(&ti);
	struct socket *so = is_socket(s, AF_INET, SOCK_RAW, IPPROTO_ICMP);
	struct socket *inc;
	uint32_t filter = 1u << ICMP_ECHO;
	struct sockopt f = { SOPT_SET, 255, 1, &filter, sizeof(filter) };
	uint8_t buf[128];
	uint32_t len = icmp("10.0.0.2", "10.0.0.1", ICMP_ECHO, 0, 1, "ab", 2);
	struct socket *none;

	CHECK_EQ(socreate(s, AF_INET, SOCK_RAW, 0, &none), EPROTONOSUPPORT);
	is_put(s, ti, pkt, len);
	CHECK_EQ(is_recv(so, buf, sizeof(buf), NULL, NULL, NULL), (int)len);
	CHECK_MEM(buf, pkt, len);
	CHECK_EQ(ti->ti_nout, 1); /* and it was answered */
	CHECK_EQ(sosetopt(so, &f), 0);
	is_put(s, ti, pkt, len);
	CHECK_EQ(is_recv(so, buf, sizeof(buf), NULL, NULL, NULL), -EAGAIN);
	/* connected: its peer's packets alone */
	filter = 0;
	CHECK_EQ(sosetopt(so, &f), 0);
	CHECK_EQ(is_connect(so, "10.0.0.3", 0), 0);
	is_put(s, ti, pkt, len);
	CHECK_EQ(is_recv(so, buf, sizeof(buf), NULL, NULL, NULL), -EAGAIN);
	/* with the user's own header */
	inc = is_socket(s, AF_INET, SOCK_RAW, IPPROTO_RAW);
	CHECK_EQ(is_getint(inc, IPPROTO_IP, IP_HDRINCL), 1);
	testif_clear(ti);
	len = is_ip(pkt, "0.0.0.0", "10.0.0.2", 99, 8);
	be16put(pkt + 2, 1); /* ip(7): always filled in */
	CHECK_EQ(is_send(inc, pkt, len, "10.0.0.2", 0, NULL), 0);
	CHECK_EQ(ti->ti_nout, 1);
	CHECK_EQ(be16get(ti->ti_out[0]->op_data + 2), 28);
	CHECK_EQ(be32get(ti->ti_out[0]->op_data + 12), 0x0a000001);
	CHECK_EQ(ti->ti_out[0]->op_data[9], 99);
	CHECK_EQ(is_sum(ti->ti_out[0]->op_data, 20, 0), 0xffff);
	pkt[0] = 0x4f;
	CHECK_EQ(is_send(inc, pkt, len, "10.0.0.2", 0, NULL), EINVAL);
	CHECK_EQ(is_send(inc, pkt, 19, "10.0.0.2", 0, NULL), EINVAL);
	soclose(so);
	soclose(inc);
	is_free(s);
}

TEST(icmp6)
{
	struct testif *ti;
	struct stack *s = is_new(&ti);
	struct socket *so = is_socket(s, AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6);
	struct socket *raw = is_socket(s, AF_INET6, SOCK_RAW, IPPROTO_ICMPV6);
	uint8_t req[12] = { ICMP6_ECHO_REQUEST, 0, 0, 0, 0, 0, 0, 7, 'd', 'a',
		't', 'a' };
	uint8_t buf[64];

	CHECK_EQ(is_send(so, req, sizeof(req), "::1", 0, NULL), 0);
	CHECK_EQ(is_recv(so, buf, sizeof(buf), NULL, NULL, NULL), 12);
	CHECK_EQ(buf[0], ICMP6_ECHO_REPLY);
	CHECK_MEM(buf + 8, "data", 4);
	CHECK_EQ(be16get(buf + 4), is_port(so));
	CHECK_EQ(ls_stat(s, "icmp6.echo"), 1);
	/* the raw one saw both */
	CHECK_EQ(is_recv(raw, buf, sizeof(buf), NULL, NULL, NULL), 12);
	CHECK_EQ(buf[0], ICMP6_ECHO_REQUEST);
	CHECK_EQ(is_recv(raw, buf, sizeof(buf), NULL, NULL, NULL), 12);
	CHECK_EQ(buf[0], ICMP6_ECHO_REPLY);
	soclose(so);
	soclose(raw);
	is_free(s);
}

TESTS(RUN(echo), RUN(hostile), RUN(errors_out), RUN(rate), RUN(errors_in),
    RUN(path_mtu), RUN(redirect), RUN(ping_socket), RUN(raw_socket), RUN(icmp6))
