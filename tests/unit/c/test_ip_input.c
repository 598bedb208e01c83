/* The door of IPv4 and IPv6: what may not pass, forwarding, and sums checked
 * against the plainest algorithm. */
#include "bsdcore/netinet6/ip6.h"
#include "tests/unit/c/inetstack.h"

static uint8_t pkt[65536 + 64];

/* One good packet to a raw socket of protocol 200, made bad in one way. */
static uint32_t
good(void)
{
	uint32_t len = is_ip(pkt, "10.0.0.2", "10.0.0.1", 200, 100);

	memset(pkt + 20, 0x77, 100);
	is_ipsum(pkt);
	return len;
}

static void
dropped(struct stack *s, struct testif *ti, const char *counter, uint32_t len)
{
	uint64_t was = ls_stat(s, counter), in = ls_stat(s, "ip.delivered");

	is_put(s, ti, pkt, len);
	CHECK_EQ(ls_stat(s, counter), was + 1);
	CHECK_EQ(ls_stat(s, "ip.delivered"), in);
}

TEST(lengths)
{
	struct testif *ti;
	struct stack *s = is_new(&ti);
	struct socket *so = is_socket(s, AF_INET, SOCK_RAW, 200);
	uint32_t len = good();
	static uint8_t buf[256];

	is_put(s, ti, pkt, len);
	CHECK_EQ(is_recv(so, buf, sizeof(buf), NULL, NULL, NULL), 120);
	CHECK_MEM(buf, pkt, 120);
	is_put(s, ti, pkt, len + 7); /* padding of the link */
	CHECK_EQ(is_recv(so, buf, sizeof(buf), NULL, NULL, NULL), 120);
	for (uint32_t n = 0; n < 20; n++) {
		dropped(s, ti, "ip.drop.tooshort", n);
	}
	dropped(s, ti, "ip.drop.tooshort", len - 1);
	pkt[0] = 0x55;
	dropped(s, ti, "ip.drop.badvers", len);
	pkt[0] = 0x44;
	dropped(s, ti, "ip.drop.badhlen", len);
	good();
	pkt[0] = 0x4f;
	dropped(s, ti, "ip.drop.badhlen", 40);
	good();
	be16put(pkt + 2, 19);
	is_ipsum(pkt);
	dropped(s, ti, "ip.drop.badlen", len);
	be16put(pkt + 2, 0);
	is_ipsum(pkt);
	dropped(s, ti, "ip.drop.badlen", len);
	for (int bit = 0; bit < 160; bit++) {
		good();
		pkt[bit / 8] ^= (uint8_t)(1 << bit % 8);
		if (bit / 8 != 0) { /* version and length: above */
			dropped(s, ti, "ip.drop.badsum", len);
		}
	}
	soclose(so);
	is_free(s);
}

/* The header in pieces of every size. */
TEST(scattered)
{
	struct testif *ti;
	struct stack *s = is_new(&ti);
	struct socket *so = is_socket(s, AF_INET, SOCK_DGRAM, 0);
	uint32_t len =
	    is_udp(pkt, "10.0.0.2", 9, "10.0.0.1", 5000, "0123456789", 10);
	char buf[32];

	CHECK_EQ(is_bind(so, "0.0.0.0", 5000), 0);
	for (uint32_t cut = 1; cut < len; cut++) {
		ip_input(s, is_mbuf(s, &ti->ti_if, pkt, len, cut));
		CHECK_EQ(is_recv(so, buf, sizeof(buf), NULL, NULL, NULL), 10);
		CHECK_MEM(buf, "0123456789", 10);
	}
	soclose(so);
	is_free(s);
}

TEST(martians)
{
	static const char *const bad[][2] = {
		{ "224.0.0.1", "10.0.0.1" },
		{ "255.255.255.255", "10.0.0.1" },
		{ "240.0.0.1", "10.0.0.1" },
		{ "127.0.0.1", "10.0.0.1" },
		{ "10.0.0.2", "127.0.0.1" },
		{ "0.0.0.0", "10.0.0.1" },
		{ "0.0.0.5", "255.255.255.255" },
		{ "10.0.0.1", "10.0.0.1" }, /* ourselves */
		{ "10.0.0.255", "10.0.0.1" },
	};
	struct testif *ti;
	struct stack *s = is_new(&ti);

	for (size_t i = 0; i < nitems(bad); i++) {
		uint32_t len = is_ip(pkt, bad[i][0], bad[i][1], 200, 8);

		is_ipsum(pkt);
		dropped(s, ti, "ip.drop.martian", len);
	}
	is_ip(pkt, "10.0.0.2", "10.0.0.9", 200, 8);
	is_ipsum(pkt);
	dropped(s, ti, "ip.drop.notours", 28);
	CHECK_EQ(ti->ti_nout, 0);
	is_free(s);
}

TEST(options)
{
	static const struct {
		uint8_t opt[8];
		const char *drop;
	} cases[] = {
		{ { IPOPT_NOP, IPOPT_NOP, IPOPT_NOP, IPOPT_EOL }, NULL },
		{ { IPOPT_RR, 7, 4, 0, 0, 0, 0, IPOPT_EOL }, NULL },
		{ { IPOPT_RA, 4, 0, 0 }, NULL },
		{ { 222, 4, 1, 2, 222, 2, IPOPT_NOP }, NULL },
		{ { IPOPT_LSRR, 7, 4, 1, 2, 3, 4 }, "ip.drop.srcroute" },
		{ { IPOPT_SSRR, 7, 4, 1, 2, 3, 4 }, "ip.drop.srcroute" },
		{ { IPOPT_RR, 0 }, "ip.drop.badoption" },
		{ { IPOPT_RR, 1 }, "ip.drop.badoption" },
		{ { IPOPT_RR, 9 }, "ip.drop.badoption" },
		{ { IPOPT_NOP, IPOPT_NOP, IPOPT_NOP, IPOPT_NOP, IPOPT_NOP,
		      IPOPT_NOP, IPOPT_NOP, IPOPT_RR },
		    "ip.drop.badoption" },
	};
	struct testif *ti;
	struct stack *s = is_new(&ti);
	struct socket *so = is_socket(s, AF_INET, SOCK_RAW, 200);
	static uint8_t buf[64];

	for (size_t i = 0; i < nitems(cases); i++) {
		uint32_t len = is_ip(pkt, "10.0.0.2", "10.0.0.1", 200, 12);

		pkt[0] = 0x47;
		memcpy(pkt + 20, cases[i].opt, 8);
		is_ipsum(pkt);
		if (cases[i].drop != NULL) {
			dropped(s, ti, cases[i].drop, len);
		} else {
			is_put(s, ti, pkt, len);
			CHECK_EQ(is_recv(so, buf, sizeof(buf), NULL, NULL, NULL),
			    32);
		}
	}
	soclose(so);
	is_free(s);
}

/* A link broadcast that is for one host is not for us (RFC 1122 3.3.6). */
TEST(link_broadcast)
{
	struct testif *ti;
	struct stack *s = is_new(&ti);
	struct mbuf *m = is_mbuf(s, &ti->ti_if, pkt, good(), 0);

	m->m_flags |= M_BCAST;
	ip_input(s, m);
	CHECK_EQ(ls_stat(s, "ip.drop.linkbcast"), 1);
	is_free(s);
}

TEST(unknown_protocol)
{
	struct testif *ti;
	struct stack *s = is_new(&ti);

	is_put(s, ti, pkt, good());
	CHECK_EQ(ti->ti_nout, 1);
	CHECK_EQ(ti->ti_out[0]->op_data[20], ICMP_UNREACH);
	CHECK_EQ(ti->ti_out[0]->op_data[21], ICMP_UNREACH_PROTOCOL);
	is_free(s);
}

/* ---- forwarding ---- */

TEST(forward)
{
	struct testif *ti, *out;
	struct stack *s = is_new(&ti);
	union inaddr net = ls_ip("10.9.0.0"), gw = ls_ip("10.2.0.7");
	uint32_t len;
	const uint8_t *b;

	out = testif_new(s, "net1", "10.2.0.1", 24);
	CHECK_EQ(rt_add(s, &net, 16, &gw, NULL, RTF_STATIC, NULL), 0);
	len = is_udp(pkt, "10.0.0.2", 9, "10.9.1.1", 5000, "data", 4);
	dropped(s, ti, "ip.drop.notours", len);
	CHECK_EQ(sysctl_set(s, "net.inet.ip.forwarding", 1), 0);
	is_put(s, ti, pkt, len);
	CHECK_EQ(out->ti_nout, 1);
	b = out->ti_out[0]->op_data;
	CHECK_EQ(b[8], 63);
	CHECK_EQ(is_sum(b, 20, 0), 0xffff);
	CHECK_MEM(b + 12, pkt + 12, len - 12);
	CHECK(in_eq(&out->ti_out[0]->op_gw, &gw));
	/* out of time */
	pkt[8] = 1;
	is_ipsum(pkt);
	is_put(s, ti, pkt, len);
	CHECK_EQ(ti->ti_nout, 1);
	CHECK_EQ(ti->ti_out[0]->op_data[20], ICMP_TIMXCEED);
	CHECK_EQ(be32get(ti->ti_out[0]->op_data + 12), 0x0a000001);
	/* nowhere to go */
	len = is_udp(pkt, "10.0.0.2", 9, "192.0.2.1", 5000, "data", 4);
	is_put(s, ti, pkt, len);
	CHECK_EQ(ti->ti_nout, 2);
	CHECK_EQ(ti->ti_out[1]->op_data[20], ICMP_UNREACH);
	/* what stays where it is */
	len = is_udp(pkt, "169.254.1.1", 9, "10.9.1.1", 5000, "data", 4);
	dropped(s, ti, "ip.drop.cantforward", len);
	is_free(s);
}

TEST(forward_fragments)
{
	struct testif *ti, *out;
	struct stack *s = is_new(&ti);
	static uint8_t data[1400];
	uint32_t len;

	out = testif_new(s, "net1", "10.2.0.1", 24);
	out->ti_if.if_mtu = 576;
	CHECK_EQ(sysctl_set(s, "net.inet.ip.forwarding", 1), 0);
	len = is_udp(pkt, "10.0.0.2", 9, "10.2.0.9", 5000, data, 1400);
	be16put(pkt + 6, IP_DF);
	is_ipsum(pkt);
	is_put(s, ti, pkt, len);
	CHECK_EQ(out->ti_nout, 0);
	CHECK_EQ(ti->ti_nout, 1);
	CHECK_EQ(ti->ti_out[0]->op_data[20], ICMP_UNREACH);
	CHECK_EQ(ti->ti_out[0]->op_data[21], ICMP_UNREACH_NEEDFRAG);
	CHECK_EQ(be16get(ti->ti_out[0]->op_data + 26), 576);
	/* a fragment is cut again, and its offsets go on from where it was */
	be16put(pkt + 6, IP_MF | 100);
	is_ipsum(pkt);
	is_put(s, ti, pkt, len);
	CHECK_EQ(out->ti_nout, 3);
	CHECK_EQ(be16get(out->ti_out[0]->op_data + 6), IP_MF | 100);
	CHECK_EQ(be16get(out->ti_out[1]->op_data + 6), IP_MF | 169);
	CHECK_EQ(be16get(out->ti_out[2]->op_data + 6), IP_MF | 238);
	CHECK_EQ(out->ti_out[0]->op_len, 572);
	is_free(s);
}

TEST(forward_redirects)
{
	struct testif *ti;
	struct stack *s = is_new(&ti);
	union inaddr net = ls_ip("10.9.0.0"), gw = ls_ip("10.0.0.7");
	uint32_t len = is_udp(pkt, "10.0.0.2", 9, "10.9.1.1", 5000, "data", 4);
	const uint8_t *b;

	CHECK_EQ(rt_add(s, &net, 16, &gw, NULL, RTF_STATIC, NULL), 0);
	CHECK_EQ(sysctl_set(s, "net.inet.ip.forwarding", 1), 0);
	is_put(s, ti, pkt, len);
	CHECK_EQ(ti->ti_nout, 2);
	b = ti->ti_out[0]->op_data;
	CHECK_EQ(b[20], ICMP_REDIRECT);
	CHECK_EQ(be32get(b + 24), 0x0a000007);
	CHECK_EQ(be32get(b + 16), 0x0a000002);
	is_free(s);
}

/* A merged super-segment whose sums were never made leaves to be cut and
 * summed by the outgoing interface. */
TEST(forward_offload)
{
	struct testif *ti, *out;
	struct stack *s = is_new(&ti);
	static uint8_t data[4344];
	uint32_t len;
	struct mbuf *m;

	out = testif_new(s, "net1", "10.2.0.1", 24);
	CHECK_EQ(sysctl_set(s, "net.inet.ip.forwarding", 1), 0);
	len = is_ip(pkt, "10.0.0.2", "10.2.0.9", IPPROTO_TCP, 32 + 4344);
	memset(pkt + 20, 0, 32);
	pkt[32] = 8 << 4;
	memcpy(pkt + 52, data, sizeof(data));
	be16put(pkt + 6, IP_DF);
	is_ipsum(pkt);
	m = is_mbuf(s, &ti->ti_if, pkt, len, 0);
	m->m_pkthdr.tso_segsz = 1448;
	m->m_pkthdr.csum_flags = CSUM_DATA_VALID;
	ip_input(s, m);
	CHECK_EQ(out->ti_nout, 1);
	CHECK_EQ(out->ti_out[0]->op_csum_flags, CSUM_PARTIAL | CSUM_TSO);
	CHECK_EQ(out->ti_out[0]->op_tso, 1448);
	CHECK_EQ(is_l4sum(out->ti_out[0]->op_data, len), 0xffff);
	is_free(s);
}

/* ---- IPv6 ---- */

static uint32_t
ip6(uint8_t nxt, const char *src, const char *dst, uint32_t n)
{
	union inaddr s = ls_ip(src), d = ls_ip(dst);

	memset(pkt, 0, 40);
	pkt[0] = 0x60;
	be16put(pkt + 4, (uint16_t)n);
	pkt[6] = nxt;
	pkt[7] = 64;
	memcpy(pkt + 8, &s, 16);
	memcpy(pkt + 24, &d, 16);
	return 40 + n;
}

static void
dropped6(struct stack *s, struct testif *ti, const char *counter, uint32_t len)
{
	uint64_t was = ls_stat(s, counter), in = ls_stat(s, "ip6.delivered");

	is_put(s, ti, pkt, len);
	CHECK_EQ(ls_stat(s, counter), was + 1);
	CHECK_EQ(ls_stat(s, "ip6.delivered"), in);
}

TEST(ip6_door)
{
	struct testif *ti;
	struct stack *s = is_new(&ti);
	union inaddr a = ls_ip("fd00::1");
	struct socket *so = is_socket(s, AF_INET6, SOCK_RAW, 200);
	static uint8_t buf[256];
	uint32_t len;

	CHECK_EQ(if_addaddr(&ti->ti_if, &a, 64), 0);
	len = ip6(200, "fd00::2", "fd00::1", 60);
	memset(pkt + 40, 0x33, 60);
	is_put(s, ti, pkt, len);
	/* a raw IPv6 socket has no header in front */
	CHECK_EQ(is_recv(so, buf, sizeof(buf), NULL, NULL, NULL), 60);
	CHECK_MEM(buf, pkt + 40, 60);
	for (uint32_t n = 1; n < 40; n++) {
		dropped6(s, ti, "ip6.drop.tooshort", n);
	}
	dropped6(s, ti, "ip6.drop.badlen", len - 1);
	ip6(200, "ff02::1", "fd00::1", 60);
	dropped6(s, ti, "ip6.drop.badsrc", len);
	ip6(200, "::ffff:10.0.0.2", "fd00::1", 60);
	dropped6(s, ti, "ip6.drop.badsrc", len);
	ip6(200, "::1", "fd00::1", 60);
	dropped6(s, ti, "ip6.drop.badsrc", len);
	ip6(200, "fd00::2", "::1", 60);
	dropped6(s, ti, "ip6.drop.badsrc", len);
	ip6(200, "fd00::2", "fd00::9", 60);
	dropped6(s, ti, "ip6.drop.notours", len);
	ip6(IPPROTO_FRAGMENT, "fd00::2", "fd00::1", 60);
	dropped6(s, ti, "ip6.drop.fragment", len);
	ip6(IPPROTO_NONE, "fd00::2", "fd00::1", 60);
	dropped6(s, ti, "ip6.drop.noproto", len);
	soclose(so);
	is_free(s);
}

/* Chains of headers that lead nowhere, lie about their length, or go on. */
TEST(ip6_extensions)
{
	struct testif *ti;
	struct stack *s = is_new(&ti);
	union inaddr a = ls_ip("fd00::1");
	struct socket *so = is_socket(s, AF_INET6, SOCK_RAW, 200);
	static uint8_t buf[256];
	uint32_t len;

	CHECK_EQ(if_addaddr(&ti->ti_if, &a, 64), 0);
	len = ip6(IPPROTO_HOPOPTS, "fd00::2", "fd00::1", 24);
	memset(pkt + 40, 0, 24);
	pkt[40] = IPPROTO_DSTOPTS;
	pkt[42] = 0x1e; /* unknown, to be skipped */
	pkt[43] = 4;
	pkt[48] = 200;
	pkt[50] = IP6OPT_PADN;
	pkt[51] = 4;
	is_put(s, ti, pkt, len);
	CHECK_EQ(is_recv(so, buf, sizeof(buf), NULL, NULL, NULL), 8);
	pkt[42] = 0x5e; /* to be dropped */
	dropped6(s, ti, "ip6.drop.option", len);
	CHECK_EQ(ti->ti_nout, 0);
	pkt[42] = 0x9e; /* and to be told */
	dropped6(s, ti, "ip6.drop.option", len);
	CHECK_EQ(ti->ti_nout, 1);
	CHECK_EQ(ti->ti_out[0]->op_data[40], ICMP6_PARAM_PROB);
	CHECK_EQ(ti->ti_out[0]->op_data[41], ICMP6_PARAM_OPTION);
	CHECK_EQ(be32get(ti->ti_out[0]->op_data + 44), 42);
	pkt[42] = 0x1e;
	pkt[43] = 5; /* past the end of its header */
	dropped6(s, ti, "ip6.drop.badext", len);
	pkt[43] = 4;
	pkt[41] = 200; /* past the end of the packet */
	dropped6(s, ti, "ip6.drop.badext", len);
	pkt[41] = 0;
	pkt[40] = IPPROTO_HOPOPTS; /* not the first */
	dropped6(s, ti, "ip6.drop.badext", len);
	len = ip6(IPPROTO_DSTOPTS, "fd00::2", "fd00::1", 160);
	for (uint32_t i = 40; i < 200; i += 8) { /* for ever */
		memset(pkt + i, 0, 8);
		pkt[i] = IPPROTO_DSTOPTS;
		pkt[i + 2] = IP6OPT_PADN;
		pkt[i + 3] = 4;
	}
	dropped6(s, ti, "ip6.drop.badext", len);
	len = ip6(IPPROTO_ROUTING, "fd00::2", "fd00::1", 16);
	memset(pkt + 40, 0, 16);
	pkt[40] = 200;
	is_put(s, ti, pkt, len);
	CHECK_EQ(is_recv(so, buf, sizeof(buf), NULL, NULL, NULL), 8);
	pkt[43] = 1; /* segments left */
	dropped6(s, ti, "ip6.drop.badext", len);
	soclose(so);
	is_free(s);
}

/* ---- sums ---- */

TEST(checksums)
{
	static uint8_t buf[5000];
	struct testif *ti;
	struct stack *s = is_new(&ti);

	for (size_t i = 0; i < sizeof(buf); i++) {
		buf[i] = (uint8_t)(i * i * 7 + i / 3);
	}
	for (uint32_t off = 0; off < 9; off++) {
		for (uint32_t len = 0; len < 300; len++) {
			uint16_t want = is_sum(buf + off, len, 0);
			uint16_t got = in_cksum_fold(in_cksum_add(0, buf + off,
			    len, false));
			uint32_t cut = len * 2 / 3;
			uint64_t sum = in_cksum_add(0, buf + off, cut, false);

			CHECK_EQ(ntohs(got), want);
			sum = in_cksum_add(sum, buf + off + cut, len - cut,
			    cut & 1);
			CHECK_EQ(in_cksum_fold(sum), got);
		}
	}
	for (uint32_t cut = 1; cut < 200; cut++) {
		struct mbuf *m = is_mbuf(s, &ti->ti_if, buf, 200, cut);

		CHECK_EQ(ntohs(m_sum16(m, 3, 190)), is_sum(buf + 3, 190, 0));
		m_freem(m);
	}
	memset(buf, 0xff, sizeof(buf));
	CHECK_EQ(in_cksum_fold(in_cksum_add(0, buf, sizeof(buf), false)),
	    0xffff);
	is_free(s);
}

/* Any bytes at all may come in. */
TEST(noise)
{
	struct testif *ti;
	struct stack *s = is_new(&ti);
	uint64_t x = 88172645463325252ull;

	for (int i = 0; i < 30000; i++) {
		uint32_t len;

		for (int j = 0; j < 20; j++) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			memcpy(pkt + j * 8, &x, 8);
		}
		len = (uint32_t)(x >> 20) % 160 + 1;
		if (i % 2 == 0) { /* plausible enough to get in */
			pkt[0] = 0x45 + (uint8_t)(x % 3);
			be16put(pkt + 2, (uint16_t)len);
			be16put(pkt + 6, x % 5 == 0 ? 0x2000 : 0);
			be32put(pkt + 12, 0x0a000002);
			be32put(pkt + 16, 0x0a000001);
			pkt[9] = (uint8_t)((x >> 32) % 4 * 5 + 1);
			is_ipsum(pkt);
		} else {
			pkt[0] = 0x60;
		}
		is_put(s, ti, pkt, len);
		testif_clear(ti);
	}
	ip_drain(s);
	is_free(s);
}

TESTS(RUN(lengths), RUN(scattered), RUN(martians), RUN(options),
    RUN(link_broadcast), RUN(unknown_protocol), RUN(forward),
    RUN(forward_fragments), RUN(forward_redirects), RUN(forward_offload),
    RUN(ip6_door), RUN(ip6_extensions), RUN(checksums), RUN(noise))
