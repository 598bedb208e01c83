/* Checksums against the plainest algorithm; segments, byte by byte. */
#include "nic/api.h"
#include "tests/unit/c/frames.h"

static uint8_t big[70000];

TEST(sums_of_all_lengths_and_alignments)
{
	static uint8_t b[4096];

	for (size_t i = 0; i < sizeof(b); i++) {
		b[i] = (uint8_t)(i * 197 + (i >> 5));
	}
	for (size_t off = 0; off < 17; off++) {
		for (size_t n = 0; n < 300; n++) {
			uint16_t got = csum_fold(csum_add(b + off, n, 0));

			CHECK_EQ(ntohs(got), naive_sum(b + off, n, 0));
		}
	}
	memset(b, 0xff, sizeof(b));
	CHECK_EQ(csum_fold(csum_add(b, sizeof(b), UINT64_MAX)), 0xffff);
}

TEST(sums_of_chains)
{
	struct pkt_pool *pool = nic_pool_new(16 << 20);

	for (size_t i = 0; i < 1000; i++) {
		big[i] = (uint8_t)(i * 31 + 7);
	}
	for (uint32_t piece = 1; piece < 40; piece++) {
		struct pkt *p = frame_pkt(pool, big, 999, piece);

		for (uint32_t off = 0; off < 50; off++) {
			uint16_t got = csum_fold(csum_pkt(p, off, 999 - off));

			CHECK_EQ(ntohs(got), naive_sum(big + off, 999 - off, 0));
		}
		pkt_free(p);
	}
	nic_pool_free(pool);
}

TEST(finish_in_place)
{
	struct pkt_pool *pool = nic_pool_new(16 << 20);

	for (int v = 4; v <= 6; v += 2) {
		for (uint32_t n = 0; n < 200; n += 7) {
			uint32_t len = frame_make(big, 14, v, 17, n);
			struct pkt *p = frame_pkt(pool, big, len, 0);

			frame_partial(p, 14, v, 17, 0);
			CHECK_EQ(offload_csum(p), 0);
			CHECK_EQ(p->p_flags & PKT_CSUM_PARTIAL, 0);
			frame_verify(p->p_data, len, 14);
			pkt_free(p);
		}
	}
	nic_pool_free(pool);
}

/* A UDP checksum that comes out as 0 is sent as all ones. */
TEST(udp_never_zero)
{
	struct pkt_pool *pool = nic_pool_new(1 << 20);
	uint32_t len = frame_make(big, 0, 4, 17, 2);
	uint16_t sum;
	struct pkt *p;

	put_be16(big + 28, 0);
	sum = naive_sum(big + 20, 10, 0);
	put_be16(big + 28, (uint16_t)~sum);
	p = frame_pkt(pool, big, len, 0);
	frame_partial(p, 0, 4, 17, 0);
	CHECK_EQ(offload_csum(p), 0);
	CHECK_EQ(get_be16(p->p_data + 26), 0xffff);
	pkt_free(p);
	nic_pool_free(pool);
}

TEST(finish_refuses)
{
	struct pkt_pool *pool = nic_pool_new(1 << 20);
	uint32_t len = frame_make(big, 14, 4, 6, 10);
	struct pkt *p = frame_pkt(pool, big, len, 0);

	frame_partial(p, 14, 4, 6, 0);
	p->p_csum_offset = (uint16_t)(len - p->p_csum_start - 1);
	CHECK_EQ(offload_csum(p), -EINVAL);
	p->p_csum_start = p->p_csum_offset = 65535;
	CHECK_EQ(offload_csum(p), -EINVAL);
	frame_partial(p, 14, 4, 6, 0);
	pkt_ext_hold(p->p_ext);
	CHECK_EQ(offload_csum(p), -EBUSY);
	pkt_ext_drop(p->p_ext);
	CHECK_EQ(offload_csum(p), 0);
	pkt_free(p);
	nic_pool_free(pool);
}

struct cut_case {
	uint32_t l2;
	int v, proto;
	uint32_t paylen, mss, piece;
	bool sg, partial;
};

static void
check_tcp(const uint8_t *th, const struct cut_case *c, uint32_t off, uint32_t n)
{
	uint8_t want = 0x10;

	CHECK_EQ(get_be32(th + 4), (uint32_t)(0xffffff00u + off));
	want |= off == 0 ? 0x80 : 0;
	want |= off + n == c->paylen ? 0x09 : 0;
	CHECK_EQ(th[13], want);
}

static void
check_segment(struct pkt *p, const struct cut_case *c, uint32_t i)
{
	uint32_t hl = c->l2 + (c->v == 4 ? 20 : 40) + (c->proto == 6 ? 32 : 8);
	uint32_t off = i * c->mss, n = MIN_OF(c->mss, c->paylen - off);
	uint32_t sum = 0;
	uint8_t b[70000];

	CHECK_EQ(p->p_pktlen, hl + n);
	for (struct pkt *q = p; q != NULL; q = q->p_next) {
		sum += q->p_len;
	}
	CHECK_EQ(sum, p->p_pktlen);
	CHECK(c->sg || p->p_next == NULL);
	CHECK_EQ(p->p_gso_type, PKT_GSO_NONE);
	CHECK_EQ((p->p_flags & PKT_CSUM_PARTIAL) != 0, c->partial);
	CHECK_EQ(p->p_flowid, 5);
	if (c->partial) {
		CHECK_EQ(offload_csum(p), 0);
	}
	CHECK(pkt_copyout(p, 0, p->p_pktlen, b));
	frame_verify(b, p->p_pktlen, c->l2);
	if (c->v == 4) {
		CHECK_EQ(get_be16(b + c->l2 + 4), (0xfffe + i) & 0xffff);
	}
	if (c->proto == 6) {
		check_tcp(b + hl - 32, c, off, n);
	} else {
		CHECK_EQ(get_be16(b + hl - 4), n + 8);
	}
	for (uint32_t k = 0; k < n; k++) {
		CHECK_EQ(b[hl + k], (off + k) % 251);
	}
}

static void
cut_one(struct pkt_pool *pool, const struct cut_case *c)
{
	uint32_t len = frame_make(big, c->l2, c->v, c->proto, c->paylen);
	struct pkt *p = frame_pkt(pool, big, len, c->piece);
	struct offload_cut cut = { NULL, 0, 0 };

	frame_partial(p, c->l2, c->v, c->proto, c->mss);
	p->p_flowid = 5;
	CHECK_EQ(offload_cut(p, pool, c->l2, 32, c->sg, c->partial, &cut), 0);
	pkt_free(p); /* what the segments share outlives it */
	CHECK_EQ(cut.sc_n, (c->paylen + c->mss - 1) / c->mss);
	for (uint32_t i = 0; i < cut.sc_n; i++) {
		check_segment(cut.sc_v[i], c, i);
		pkt_free(cut.sc_v[i]);
	}
	free(cut.sc_v);
}

TEST(cut_every_way)
{
	static const uint32_t pays[][2] = { { 1, 1 }, { 100, 100 },
		{ 101, 100 }, { 4344, 1448 }, { 65000, 1448 }, { 999, 7 } };
	static const uint32_t pieces[] = { 0, 40, 1000, 4096, 33 };
	struct pkt_pool *pool = nic_pool_new(64 << 20);
	struct nic_pool_stats s;

	for (uint32_t bits = 0; bits < 32; bits++) {
		for (size_t i = 0; i < NITEMS(pays); i++) {
			struct cut_case c = { bits & 1 ? 14 : 0,
				bits & 2 ? 6 : 4, bits & 4 ? 6 : 17, pays[i][0],
				pays[i][1], pieces[(i + bits) % 5],
				(bits & 8) != 0, (bits & 16) != 0 };

			cut_one(pool, &c);
		}
	}
	nic_pool_stats(pool, &s);
	CHECK_EQ(s.active, 0);
	nic_pool_free(pool);
}

/* What forwarding meets: merged by the receiver, sums already verified. */
TEST(cut_without_partial)
{
	struct pkt_pool *pool = nic_pool_new(1 << 20);
	uint32_t len = frame_make(big, 14, 6, 6, 3000);
	struct pkt *p = frame_pkt(pool, big, len, 0);
	struct offload_cut cut = { NULL, 0, 0 };

	frame_partial(p, 14, 6, 6, 1000);
	p->p_flags = PKT_CSUM_VALID;
	p->p_csum_start = p->p_csum_offset = 0;
	CHECK_EQ(offload_cut(p, pool, 14, 0, false, false, &cut), 0);
	CHECK_EQ(cut.sc_n, 3);
	for (uint32_t i = 0; i < 3; i++) {
		frame_verify(cut.sc_v[i]->p_data, cut.sc_v[i]->p_pktlen, 14);
		pkt_free(cut.sc_v[i]);
	}
	free(cut.sc_v);
	pkt_free(p);
	nic_pool_free(pool);
}

/* Tags between the Ethernet header and IP are carried along. */
TEST(cut_with_vlan_tags)
{
	struct pkt_pool *pool = nic_pool_new(1 << 20);
	uint32_t len = frame_make(big + 8, 14, 4, 6, 3000) + 8;
	struct offload_cut cut = { NULL, 0, 0 };
	struct pkt *p;

	memmove(big, big + 8, 12);
	put_be16(big + 12, 0x88a8);
	put_be16(big + 14, 5);
	put_be16(big + 16, 0x8100);
	put_be16(big + 18, 6);
	p = frame_pkt(pool, big, len, 100);
	frame_partial(p, 22, 4, 6, 1000);
	CHECK_EQ(offload_cut(p, pool, 14, 0, false, false, &cut), 0);
	pkt_free(p);
	CHECK_EQ(cut.sc_n, 3);
	for (uint32_t i = 0; i < 3; i++) {
		CHECK_MEM(cut.sc_v[i]->p_data, big, 22);
		frame_verify(cut.sc_v[i]->p_data, cut.sc_v[i]->p_pktlen, 22);
		pkt_free(cut.sc_v[i]);
	}
	free(cut.sc_v);
	nic_pool_free(pool);
}

static void
refuse(struct pkt_pool *pool, uint32_t at, uint8_t value, int type, int mss)
{
	struct offload_cut cut = { NULL, 0, 0 };
	uint32_t len = frame_make(big, 14, 4, 6, 3000);
	struct pkt *p;

	big[at] = value;
	p = frame_pkt(pool, big, len, 0);
	frame_partial(p, 14, 4, 6, 1000);
	p->p_gso_type = (uint8_t)type;
	p->p_gso_size = (uint16_t)mss;
	CHECK_EQ(offload_cut(p, pool, 14, 0, true, true, &cut), -EINVAL);
	CHECK_EQ(cut.sc_n, 0);
	pkt_free(p);
}

TEST(cut_refuses_liars)
{
	struct pkt_pool *pool = nic_pool_new(1 << 20);
	struct nic_pool_stats s;

	refuse(pool, 14, 0x45, PKT_GSO_TCPV6, 1000);
	refuse(pool, 14, 0x45, PKT_GSO_UDP_L4, 1000);
	refuse(pool, 14, 0x45, 9, 1000);
	refuse(pool, 14, 0x45, PKT_GSO_TCPV4, 0);
	refuse(pool, 14, 0x44, PKT_GSO_TCPV4, 1000);   /* IHL too short */
	refuse(pool, 14, 0x65, PKT_GSO_TCPV4, 1000);   /* not the ethertype's */
	refuse(pool, 23, 17, PKT_GSO_TCPV4, 1000);     /* UDP */
	refuse(pool, 20, 0x20, PKT_GSO_TCPV4, 1000);   /* a fragment */
	refuse(pool, 46, 4 << 4, PKT_GSO_TCPV4, 1000); /* data offset 16 */
	refuse(pool, 12, 0x81, PKT_GSO_TCPV4, 1000);
	nic_pool_stats(pool, &s);
	CHECK_EQ(s.active, 0);
	nic_pool_free(pool);
}

TEST(cut_without_memory_leaves_nothing)
{
	struct pkt_pool *pool = nic_pool_new(1 << 20);
	struct pkt_pool *poor = nic_pool_new(8 * 384);
	struct offload_cut cut = { NULL, 0, 0 };
	uint32_t len = frame_make(big, 14, 4, 6, 30000);
	struct pkt *p = frame_pkt(pool, big, len, 0);
	struct nic_pool_stats s;

	frame_partial(p, 14, 4, 6, 1000);
	CHECK_EQ(offload_cut(p, poor, 14, 0, true, true, &cut), -ENOBUFS);
	CHECK_EQ(cut.sc_n, 0);
	nic_pool_stats(poor, &s);
	CHECK_EQ(s.active, 0);
	CHECK(s.fails > 0);
	CHECK(pkt_writable(p));
	pkt_free(p);
	free(cut.sc_v);
	nic_pool_free(poor);
	nic_pool_free(pool);
}

TEST(parse_past_extension_headers)
{
	struct pkt_pool *pool = nic_pool_new(1 << 20);
	uint8_t b[200] = { 0x60 };
	struct offload_hdr oh;
	struct pkt *p;

	b[6] = 0;   /* hop by hop, 8 bytes */
	b[40] = 60; /* destination options, 24 bytes */
	b[48] = 6;
	b[49] = 2;
	b[72 + 12] = 5 << 4;
	p = frame_pkt(pool, b, 200, 0);
	CHECK_EQ(offload_parse(p, 0, &oh), 0);
	CHECK_EQ(oh.oh_l4, 72);
	CHECK_EQ(oh.oh_end, 92);
	p->p_data[49] = 255;
	CHECK_EQ(offload_parse(p, 0, &oh), -EINVAL);
	p->p_data[48] = 44; /* a fragment */
	p->p_data[49] = 2;
	CHECK_EQ(offload_parse(p, 0, &oh), -EINVAL);
	pkt_free(p);
	nic_pool_free(pool);
}

TESTS(RUN(sums_of_all_lengths_and_alignments), RUN(sums_of_chains),
    RUN(finish_in_place), RUN(udp_never_zero), RUN(finish_refuses),
    RUN(cut_every_way), RUN(cut_without_partial), RUN(cut_with_vlan_tags),
    RUN(cut_refuses_liars), RUN(cut_without_memory_leaves_nothing),
    RUN(parse_past_extension_headers))
