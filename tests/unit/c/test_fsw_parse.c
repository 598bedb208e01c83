/*
 * Headers are read as far as they go, and no further.
 */
#include "skywalk/flowswitch/fsw_parse.h"

#include "tests/unit/c/fswnet.h"

/* An IPv6 packet of UDP behind the extension headers at ext. */
static uint32_t
ip6(uint8_t *b, uint8_t first, const uint8_t *ext, uint32_t extlen,
    uint32_t paylen)
{
	memset(b, 0, 40);
	b[0] = 0x60;
	put16(b + 4, extlen + 8 + paylen);
	b[6] = first;
	b[7] = 64;
	net_addr(b + 8, 6, 2);
	net_addr(b + 24, 6, 1);
	memcpy(b + 40, ext, extlen);
	memset(b + 40 + extlen, 0, 8 + paylen);
	put16(b + 40 + extlen, 53);
	put16(b + 40 + extlen + 2, 700);
	put16(b + 40 + extlen + 4, 8 + paylen);
	return 48 + extlen + paylen;
}

static struct hdr
parsed(const uint8_t *b, uint32_t n, uint32_t first)
{
	struct pkt_pool *pool = nic_pool_new(1 << 20);
	struct pkt *p = pkt_alloc(pool, n, 0);
	struct hdr h;

	memcpy(p->p_data, b, first < n ? first : n);
	p->p_len = first < n ? first : n;
	if (first < n) {
		p->p_next = pkt_alloc(pool, n, 0);
		memcpy(p->p_next->p_data, b + first, n - first);
		p->p_next->p_len = n - first;
	}
	p->p_pktlen = n;
	hdr_parse(p, 0, false, &h);
	pkt_free(p);
	nic_pool_free(pool);
	return h;
}

TEST(extension_headers)
{
	static const uint8_t ext[] = { 60, 0, 1, 4, 0, 0, 0, 0, 43, 1, 0, 0, 0,
		0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0, 0 };
	uint8_t b[256];
	uint32_t n = ip6(b, 0, ext, sizeof(ext), 5);

	for (uint32_t first = 1; first <= n; first++) {
		struct hdr h = parsed(b, n, first);

		CHECK_EQ(h.h_kind, HDR_FLOW);
		CHECK_EQ(h.h_l4, 40 + sizeof(ext));
		CHECK_EQ(h.h_end, 48 + sizeof(ext));
		CHECK_EQ(h.h_paylen, 5);
		CHECK_EQ(h.h_key.fk_lport, 700);
		CHECK_EQ(h.h_key.fk_fport, 53);
		CHECK_EQ(h.h_key.fk_proto, 17);
		CHECK(!h.h_isfrag);
	}
	for (uint32_t cut = 1; cut < n; cut++) {
		CHECK_EQ(parsed(b, cut, cut).h_kind, HDR_BAD);
	}
	b[41] = 200; /* reaches over the end */
	CHECK_EQ(parsed(b, n, n).h_kind, HDR_BAD);
}

TEST(fragments_of_ipv6)
{
	uint8_t ext[] = { 17, 0, 0, 1, 0, 0, 0, 9 }, b[256];
	uint32_t n = ip6(b, 44, ext, sizeof(ext), 16);
	struct hdr h = parsed(b, n, n);

	CHECK_EQ(h.h_kind, HDR_FLOW);
	CHECK(h.h_isfrag && h.h_more);
	CHECK_EQ(h.h_fragid, 9);
	CHECK_EQ(h.h_fraglen, 24);
	put16(ext + 2, 24); /* the next and last one */
	n = ip6(b, 44, ext, sizeof(ext), 16);
	h = parsed(b, n, 20);
	CHECK_EQ(h.h_kind, HDR_FRAGMENT);
	CHECK(h.h_isfrag && !h.h_more);
	CHECK_EQ(h.h_fragoff, 24);
	CHECK_EQ(h.h_key.fk_lport, 0);
}

TEST(headers_too_long_to_be_read)
{
	uint8_t ext[240], b[400];
	uint32_t n;

	memset(ext, 0, sizeof(ext));
	ext[0] = 17;
	ext[1] = sizeof(ext) / 8 - 1;
	n = ip6(b, 60, ext, sizeof(ext), 5);
	CHECK_EQ(parsed(b, n, n).h_kind, HDR_FLOW); /* all in one piece */
	CHECK_EQ(parsed(b, n, 100).h_kind, HDR_BAD);
}

TEST(other_things)
{
	uint8_t b[64] = { 0x45, 0, 0, 24, 0, 0, 0, 0, 64, 47, 0, 0, 10, 0, 0, 2,
		10, 0, 0, 1 };

	CHECK_EQ(parsed(b, 24, 24).h_kind, HDR_OTHER);
	b[9] = 1; /* an echo request */
	put16(b + 2, 28);
	b[20] = 8;
	CHECK_EQ(parsed(b, 28, 28).h_kind, HDR_OTHER);
	b[16] = 224;
	CHECK(parsed(b, 28, 28).h_multicast);
	b[0] = 0x55;
	CHECK_EQ(parsed(b, 28, 28).h_kind, HDR_BAD);
	CHECK_EQ(parsed(b, 1, 1).h_kind, HDR_BAD);
}

TEST(sums)
{
	uint8_t b[100];

	for (uint32_t i = 0; i < sizeof(b); i++) {
		b[i] = (uint8_t)(i * 37 + 11);
	}
	for (uint32_t n = 0; n <= sizeof(b); n++) {
		CHECK_EQ(fsw_fold(fsw_sum(b, n, 7)),
		    csum_fold(csum_add(b, n, 7)));
	}
	memset(b, 0xff, sizeof(b));
	CHECK_EQ(fsw_fold(fsw_sum(b, sizeof(b), 0)), 0xffff);
}

TESTS(RUN(extension_headers), RUN(fragments_of_ipv6),
    RUN(headers_too_long_to_be_read), RUN(other_things), RUN(sums))
