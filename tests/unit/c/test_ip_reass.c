/* Reassembly: orders, overlaps, lies about length, limits, time. */
#include "tests/unit/c/inetstack.h"

#define DATA 4000u

static uint8_t whole[70000], frag[70000];
static uint32_t wholelen;

/* The datagram the fragments are cut from: UDP to a socket on port 5000. */
static void
whole_make(const char *src)
{
	static uint8_t data[DATA];

	for (uint32_t i = 0; i < DATA; i++) {
		data[i] = (uint8_t)(i * 31 + 7);
	}
	wholelen = is_udp(whole, src, 9, "10.0.0.1", 5000, data, DATA);
}

/* Bytes [off, off+n) of the payload as a fragment; more: another follows. */
static void
put(struct stack *s, struct testif *ti, uint32_t off, uint32_t n, bool more)
{
	memcpy(frag, whole, 20);
	be16put(frag + 2, (uint16_t)(20 + n));
	be16put(frag + 6, (uint16_t)(off / 8 | (more ? IP_MF : 0)));
	memcpy(frag + 20, whole + 20 + off, n);
	is_ipsum(frag);
	is_put(s, ti, frag, 20 + n);
}

static struct socket *
setup(struct stack **s, struct testif **ti)
{
	struct socket *so;

	*s = is_new(ti);
	so = is_socket(*s, AF_INET, SOCK_DGRAM, 0);
	CHECK_EQ(is_bind(so, "0.0.0.0", 5000), 0);
	whole_make("10.0.0.2");
	return so;
}

static void
check_whole(struct socket *so)
{
	static uint8_t buf[DATA + 1];

	CHECK_EQ(is_recv(so, buf, sizeof(buf), NULL, NULL, NULL), (int)DATA);
	CHECK_MEM(buf, whole + 28, DATA);
}

/* Every order of five pieces, each also with one of them sent twice. */
TEST(orders)
{
	enum { N = 5, PIECE = 808 };
	int perm[N] = { 0, 1, 2, 3, 4 };
	struct testif *ti;
	struct stack *s;
	struct socket *so = setup(&s, &ti);
	uint32_t total = wholelen - 20;
	int n = 0;

	for (int r = 0; r < 120; r++) {
		for (int i = 0, k = r; i < N; i++) { /* the r-th order */
			int j = i + k % (N - i), t = perm[i];

			k /= N - i;
			perm[i] = perm[j];
			perm[j] = t;
		}
		for (int i = 0; i < N; i++) {
			uint32_t off = (uint32_t)perm[i] * PIECE;
			bool last = off + PIECE >= total;

			put(s, ti, off, last ? total - off : PIECE, !last);
			if (i == r % (N - 1)) {
				put(s, ti, off, last ? total - off : PIECE,
				    !last);
			}
		}
		check_whole(so);
		n++;
	}
	CHECK_EQ(ls_stat(s, "ip.reassembled"), n);
	CHECK_EQ(ls_stat(s, "ip.fragdup"), n);
	CHECK_EQ(s->s_ip->ips_nreass, 0);
	CHECK_EQ(s->s_ip->ips_reassbytes, 0);
	soclose(so);
	is_free(s);
}

/* Tiny pieces: the transport header itself is cut (RFC 1858). */
TEST(tiny)
{
	struct testif *ti;
	struct stack *s;
	struct socket *so = setup(&s, &ti);
	static uint8_t buf[64];

	wholelen = is_udp(whole, "10.0.0.2", 9, "10.0.0.1", 5000,
	    "0123456789abcdef", 16);
	put(s, ti, 0, 8, true);
	put(s, ti, 16, 8, false);
	put(s, ti, 8, 8, true);
	CHECK_EQ(is_recv(so, buf, sizeof(buf), NULL, NULL, NULL), 16);
	CHECK_MEM(buf, "0123456789abcdef", 16);
	/* a first fragment of eight bytes of TCP is not enough, and no crash */
	wholelen = is_ip(whole, "10.0.0.2", "10.0.0.1", IPPROTO_TCP, 16);
	put(s, ti, 8, 8, false);
	put(s, ti, 0, 8, true);
	CHECK_EQ(s->s_ip->ips_nreass, 0);
	soclose(so);
	is_free(s);
}

TEST(overlap_ends_it)
{
	struct testif *ti;
	struct stack *s;
	struct socket *so = setup(&s, &ti);
	static const struct {
		uint32_t off, n;
	} bad[] = { { 0, 816 }, { 800, 8 }, { 792, 16 }, { 1600, 1600 },
		{ 0, 2400 }, { 8, 792 } };
	uint64_t drops = 0;

	for (size_t i = 0; i < nitems(bad); i++) {
		put(s, ti, 0, 800, true);
		put(s, ti, 1608, 800, true);
		put(s, ti, 800, 808, true);
		CHECK_EQ(s->s_ip->ips_nreass, 1);
		put(s, ti, bad[i].off, bad[i].n, true);
		CHECK_EQ(s->s_ip->ips_nreass, 0);
		drops += 4;
		CHECK_EQ(ls_stat(s, "ip.drop.fragoverlap"), drops);
		CHECK_EQ(s->s_ip->ips_reassbytes, 0);
	}
	soclose(so);
	is_free(s);
}

TEST(lies)
{
	struct testif *ti;
	struct stack *s;
	struct socket *so = setup(&s, &ti);

	put(s, ti, 0, 13, true); /* not a multiple of eight */
	put(s, ti, 8, 0, true);
	put(s, ti, 8, 0, false); /* empty */
	CHECK_EQ(ls_stat(s, "ip.drop.fragbad"), 3);
	CHECK_EQ(s->s_ip->ips_nreass, 0);
	/* ends beyond 65535 */
	put(s, ti, 65528, 8, false);
	CHECK_EQ(s->s_ip->ips_nreass, 0);
	put(s, ti, 65520, 1000, false);
	CHECK_EQ(s->s_ip->ips_nreass, 0);
	/* two ends that differ */
	put(s, ti, 800, 100, false);
	CHECK_EQ(s->s_ip->ips_nreass, 1);
	put(s, ti, 1600, 100, false);
	CHECK_EQ(s->s_ip->ips_nreass, 0);
	/* something behind the end, before and after it is known */
	put(s, ti, 1600, 800, true);
	put(s, ti, 800, 100, false);
	CHECK_EQ(s->s_ip->ips_nreass, 0);
	put(s, ti, 800, 100, false);
	put(s, ti, 1600, 800, true);
	CHECK_EQ(s->s_ip->ips_nreass, 0);
	CHECK_EQ(s->s_ip->ips_reassbytes, 0);
	CHECK_EQ(is_recv(so, frag, sizeof(frag), NULL, NULL, NULL), -EAGAIN);
	soclose(so);
	is_free(s);
}

/* Fragments of packets that differ in one field do not mix. */
TEST(keys)
{
	struct testif *ti;
	struct stack *s;
	struct socket *so = setup(&s, &ti);

	put(s, ti, 0, 2000, true);
	whole[5]++;
	put(s, ti, 2000, wholelen - 2020, false);
	whole[5]--;
	whole[9] = 99;
	put(s, ti, 2000, wholelen - 2020, false);
	whole[9] = 17;
	CHECK_EQ(s->s_ip->ips_nreass, 3);
	put(s, ti, 2000, wholelen - 2020, false);
	check_whole(so);
	CHECK_EQ(s->s_ip->ips_nreass, 2);
	soclose(so);
	is_free(s);
}

TEST(timeout_tells)
{
	struct testif *ti;
	struct stack *s;
	struct socket *so = setup(&s, &ti);
	const uint8_t *b;

	put(s, ti, 0, 800, true);
	ls_until(s, s->s_now + 30 * NSEC_PER_SEC);
	whole[5]++;
	put(s, ti, 800, 800, true); /* no first fragment: no answer */
	whole[5]--;
	ls_until(s, s->s_now + 29 * NSEC_PER_SEC);
	CHECK_EQ(ti->ti_nout, 0);
	CHECK_EQ(s->s_ip->ips_nreass, 2);
	ls_until(s, s->s_now + 2 * NSEC_PER_SEC);
	CHECK_EQ(s->s_ip->ips_nreass, 1);
	CHECK_EQ(ti->ti_nout, 1);
	b = ti->ti_out[0]->op_data;
	CHECK_EQ(b[20], ICMP_TIMXCEED);
	CHECK_EQ(b[21], ICMP_TIMXCEED_REASS);
	CHECK_EQ(is_sum(b + 20, ti->ti_out[0]->op_len - 20, 0), 0xffff);
	CHECK_EQ(be32get(b + 16), 0x0a000002);
	CHECK_EQ(be32get(b + 28 + 12), 0x0a000002); /* quoted */
	CHECK_MEM(b + 28 + 20, whole + 20, 100);
	ls_until(s, s->s_now + 60 * NSEC_PER_SEC);
	CHECK_EQ(s->s_ip->ips_nreass, 0);
	CHECK_EQ(ti->ti_nout, 1);
	CHECK_EQ(ls_stat(s, "ip.drop.fragtimeout"), 2);
	soclose(so);
	is_free(s);
}

/* Whatever is sent, what is held stays below the limits. */
TEST(limits)
{
	struct testif *ti;
	struct stack *s;
	struct socket *so = setup(&s, &ti);
	struct ip_state *ips = s->s_ip;
	char src[32];

	/* of one packet */
	for (uint32_t i = 0; i < 128; i++) {
		put(s, ti, i * 16, 8, true);
	}
	CHECK_EQ(ls_stat(s, "ip.drop.fragtoomany"), 128);
	CHECK_EQ(ips->ips_nreass, 0);
	/* of one source */
	for (uint16_t id = 0; id < 1000; id++) {
		be16put(whole + 4, id);
		put(s, ti, 0, 800, true);
		CHECK(ips->ips_nreass <= ips->ips_maxfragsrc);
	}
	/* of all */
	for (uint32_t i = 0; i < 5000; i++) {
		snprintf(src, sizeof(src), "10.1.%u.%u", i / 250, i % 250 + 1);
		whole_make(src);
		put(s, ti, 0, 800, true);
		CHECK(ips->ips_nreass <= ips->ips_maxfragpackets);
		CHECK(ips->ips_reassbytes <= ips->ips_maxfragbytes);
	}
	CHECK(ls_stat(s, "ip.drop.fragfull") > 3000);
	ip_drain(s);
	CHECK_EQ(ips->ips_nreass, 0);
	CHECK_EQ(ips->ips_reassbytes, 0);
	CHECK_EQ(sysctl_set(s, "net.inet.ip.maxfragpackets", 0), 0);
	put(s, ti, 0, 800, true);
	CHECK_EQ(ips->ips_nreass, 0);
	soclose(so);
	is_free(s);
}

/* Random fragments of random packets: no crash, nothing kept for ever, and
 * what is delivered passed UDP's checksum. */
TEST(storm)
{
	struct testif *ti;
	struct stack *s;
	struct socket *so = setup(&s, &ti);
	uint64_t x = 88172645463325252ull;

	for (int i = 0; i < 20000; i++) {
		uint32_t off, n;

		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		be16put(whole + 4, (uint16_t)(x % 16));
		off = (uint32_t)(x >> 8) % 500 * 8;
		n = (uint32_t)(x >> 24) % 60 * 8;
		if (off + n > wholelen - 20) {
			n = wholelen - 20 - off;
		}
		put(s, ti, off, n, (x >> 40) % 4 != 0);
	}
	ls_until(s, s->s_now + 61 * NSEC_PER_SEC);
	CHECK_EQ(s->s_ip->ips_nreass, 0);
	CHECK_EQ(s->s_ip->ips_reassbytes, 0);
	soclose(so);
	is_free(s);
}

TESTS(RUN(orders), RUN(tiny), RUN(overlap_ends_it), RUN(lies), RUN(keys),
    RUN(timeout_tells), RUN(limits), RUN(storm))
