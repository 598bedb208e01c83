/* Options and control messages: Linux's answers, and anything at all. */
#include "tests/unit/c/inetstack.h"

static int
set(struct socket *so, int level, int name, const void *val, size_t len)
{
	struct sockopt sopt = { SOPT_SET, level, name, (void *)(uintptr_t)val,
		len };

	return sosetopt(so, &sopt);
}

static int
get(struct socket *so, int level, int name, void *val, size_t *len)
{
	struct sockopt sopt = { SOPT_GET, level, name, val, *len };
	int error = sogetopt(so, &sopt);

	*len = sopt.sopt_valsize;
	return error;
}

TEST(ints)
{
	static const struct {
		int level, name, val, error;
	} cases[] = {
		{ IPPROTO_IP, IP_TTL, 1, 0 },
		{ IPPROTO_IP, IP_TTL, 255, 0 },
		{ IPPROTO_IP, IP_TTL, 0, EINVAL },
		{ IPPROTO_IP, IP_TTL, 256, EINVAL },
		{ IPPROTO_IP, IP_MULTICAST_TTL, 0, 0 },
		{ IPPROTO_IP, IP_MULTICAST_TTL, 256, EINVAL },
		{ IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE, 0 },
		{ IPPROTO_IP, IP_MTU_DISCOVER, 77, EINVAL },
		{ IPPROTO_IP, IP_HDRINCL, 1, ENOPROTOOPT },
		{ IPPROTO_IP, 99, 1, ENOPROTOOPT },
		{ IPPROTO_IPV6, IPV6_UNICAST_HOPS, 255, 0 },
		{ IPPROTO_IPV6, IPV6_UNICAST_HOPS, 256, EINVAL },
		{ IPPROTO_IPV6, IPV6_UNICAST_HOPS, -2, EINVAL },
		{ IPPROTO_IPV6, IPV6_MULTICAST_HOPS, 0, 0 },
		{ IPPROTO_IPV6, IPV6_TCLASS, 255, 0 },
		{ IPPROTO_IPV6, IPV6_TCLASS, 256, EINVAL },
		{ IPPROTO_IPV6, IPV6_V6ONLY, 1, 0 },
		{ IPPROTO_IPV6, IPV6_CHECKSUM, 2, ENOPROTOOPT },
	};
	struct testif *ti;
	struct stack *s = is_new(&ti);
	struct socket *so = is_socket(s, AF_INET6, SOCK_DGRAM, 0);

	for (size_t i = 0; i < nitems(cases); i++) {
		CHECK_EQ(is_setint(so, cases[i].level, cases[i].name,
			     cases[i].val),
		    cases[i].error);
		if (cases[i].error == 0) {
			CHECK_EQ(is_getint(so, cases[i].level, cases[i].name),
			    cases[i].val);
		}
	}
	CHECK_EQ(is_setint(so, IPPROTO_IPV6, IPV6_UNICAST_HOPS, -1), 0);
	CHECK_EQ(is_getint(so, IPPROTO_IPV6, IPV6_UNICAST_HOPS), 64);
	soclose(so);
	so = is_socket(s, AF_INET, SOCK_DGRAM, 0);
	CHECK_EQ(is_setint(so, IPPROTO_IPV6, IPV6_V6ONLY, 1), ENOPROTOOPT);
	soclose(so);
	is_free(s);
}

/* IPPROTO_IP takes and gives single bytes, too. */
TEST(bytes)
{
	struct testif *ti;
	struct stack *s = is_new(&ti);
	struct socket *so = is_socket(s, AF_INET, SOCK_DGRAM, 0);
	uint8_t b = 9;
	size_t len = 1;

	CHECK_EQ(set(so, IPPROTO_IP, IP_TTL, &b, 1), 0);
	CHECK_EQ(is_getint(so, IPPROTO_IP, IP_TTL), 9);
	b = 0;
	CHECK_EQ(get(so, IPPROTO_IP, IP_TTL, &b, &len), 0);
	CHECK_EQ(len, 1);
	CHECK_EQ(b, 9);
	CHECK_EQ(set(so, IPPROTO_IP, IP_TTL, NULL, 0), EINVAL);
	CHECK_EQ(set(so, IPPROTO_IP, IP_TTL, NULL, 4), EINVAL);
	CHECK_EQ(set(so, IPPROTO_IP, IP_OPTIONS, NULL, 4), EINVAL);
	soclose(so);
	is_free(s);
}

TEST(ip_options)
{
	struct testif *ti;
	struct stack *s = is_new(&ti);
	struct socket *so = is_socket(s, AF_INET, SOCK_DGRAM, 0);
	static uint8_t data[3000];
	uint8_t opt[7] = { IPOPT_RA, 4, 0, 0, 222, 3, 1 }, back[40];
	uint8_t lsrr[7] = { IPOPT_LSRR, 7, 4, 10, 0, 0, 9 };
	size_t len = sizeof(back);
	const uint8_t *b;

	CHECK_EQ(set(so, IPPROTO_IP, IP_OPTIONS, lsrr, 7), EINVAL);
	opt[1] = 9;
	CHECK_EQ(set(so, IPPROTO_IP, IP_OPTIONS, opt, 7), EINVAL);
	opt[1] = 4;
	CHECK_EQ(set(so, IPPROTO_IP, IP_OPTIONS, opt, 7), 0);
	CHECK_EQ(get(so, IPPROTO_IP, IP_OPTIONS, back, &len), 0);
	CHECK_EQ(len, 8);
	CHECK_MEM(back, opt, 7);
	CHECK_EQ(is_send(so, "data", 4, "10.0.0.2", 9, NULL), 0);
	b = ti->ti_out[0]->op_data;
	CHECK_EQ(b[0], 0x47);
	CHECK_EQ(is_sum(b, 28, 0), 0xffff);
	CHECK_MEM(b + 20, opt, 7);
	CHECK_EQ(be16get(b + 28 + 4), 12);
	CHECK_EQ(is_l4sum(b, 40), 0xffff);
	/* of fragments the first has all, the others what is to be copied */
	CHECK_EQ(is_send(so, data, sizeof(data), "10.0.0.2", 9, NULL), 0);
	CHECK_EQ(ti->ti_nout, 4);
	CHECK_EQ(ti->ti_out[1]->op_data[0], 0x47);
	CHECK_EQ(ti->ti_out[2]->op_data[0], 0x47);
	CHECK_EQ(is_sum(ti->ti_out[2]->op_data, 28, 0), 0xffff);
	opt[0] = IPOPT_RR & 0x7f;
	opt[4] = 22;
	CHECK_EQ(set(so, IPPROTO_IP, IP_OPTIONS, opt, 7), 0);
	testif_clear(ti);
	CHECK_EQ(is_send(so, data, sizeof(data), "10.0.0.2", 9, NULL), 0);
	CHECK_EQ(ti->ti_nout, 3);
	CHECK_EQ(ti->ti_out[0]->op_data[0], 0x47);
	CHECK_EQ(ti->ti_out[1]->op_data[0], 0x45);
	CHECK_EQ(is_sum(ti->ti_out[1]->op_data, 20, 0), 0xffff);
	CHECK_EQ(set(so, IPPROTO_IP, IP_OPTIONS, NULL, 0), 0);
	soclose(so);
	is_free(s);
}

/* Any name, any length, any bytes: an answer, and no more. */
TEST(anything)
{
	static const int levels[] = { IPPROTO_IP, IPPROTO_IPV6, IPPROTO_UDP,
		IPPROTO_ICMPV6, 255 };
	static const size_t sizes[] = { 0, 1, 3, 4, 5, 8, 12, 16, 20, 40, 64,
		136, 264 };
	static const struct {
		int family, type, proto;
	} kinds[] = { { AF_INET, SOCK_DGRAM, 0 }, { AF_INET6, SOCK_DGRAM, 0 },
		{ AF_INET, SOCK_RAW, IPPROTO_ICMP },
		{ AF_INET6, SOCK_RAW, IPPROTO_ICMPV6 },
		{ AF_INET, SOCK_DGRAM, IPPROTO_ICMP } };
	struct testif *ti;
	struct stack *s = is_new(&ti);
	uint8_t buf[512];
	uint64_t x = 88172645463325252ull;

	for (size_t k = 0; k < nitems(kinds); k++) {
		struct socket *so = is_socket(s, kinds[k].family, kinds[k].type,
		    kinds[k].proto);

		for (int i = 0; i < 20000; i++) {
			size_t len = sizes[(x >> 20) % nitems(sizes)];
			int level = levels[(x >> 30) % nitems(levels)];
			int name = (int)(x % 110);

			for (size_t j = 0; j < sizeof(buf); j++) {
				x ^= x << 13;
				x ^= x >> 7;
				x ^= x << 17;
				buf[j] = x & 1 ? (uint8_t)(x >> 50) : 0;
			}
			if (x & 2) { /* a group on our interface */
				be32put(buf, 0xe0000005);
				be32put(buf + 4, 0x0a000001);
				be32put(buf + 8, (uint32_t)(x >> 60));
			}
			(void)set(so, level, name, x & 64 ? buf : NULL, len);
			(void)get(so, level, name, buf, &len);
			CHECK(len <= 264);
		}
		(void)is_send(so, buf, 64, "10.0.0.2", 9, NULL);
		testif_clear(ti);
		soclose(so);
	}
	is_free(s);
}

/* Control messages of any shape. */
TEST(any_control)
{
	struct testif *ti;
	struct stack *s = is_new(&ti);
	struct socket *so = is_socket(s, AF_INET6, SOCK_DGRAM, 0);
	uint64_t x = 88172645463325252ull;

	for (int i = 0; i < 20000; i++) {
		struct mbuf *c = m_get(s->s_mb, MT_CONTROL);
		struct cmsghdr h = { 0 };

		CHECK(c != NULL);
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		memset(c->m_data, (int)(x >> 56), MLEN);
		h.cmsg_len = x % 48;
		h.cmsg_level = x >> 8 & 1 ? IPPROTO_IP :
		    x >> 9 & 1		  ? IPPROTO_IPV6 :
					    IPPROTO_UDP;
		h.cmsg_type = (int)(x >> 16) % 110;
		memcpy(c->m_data, &h, sizeof(h));
		c->m_len = (uint32_t)(x >> 24) % 100;
		(void)is_send(so, "x", 1,
		    x >> 40 & 1 ? "::ffff:10.0.0.2" : "::1", 9, c);
		testif_clear(ti);
		so->so_error = 0;
	}
	soclose(so);
	is_free(s);
}

TESTS(RUN(ints), RUN(bytes), RUN(ip_options), RUN(anything), RUN(any_control))
