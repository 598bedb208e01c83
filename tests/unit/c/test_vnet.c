/* virtio-net headers: what is told, and what is not believed. */
#include "nic/api.h"
#include "nic/vnet.h"
#include "tests/unit/c/frames.h"

static uint8_t bytes[70000];

static struct pkt *
tcp(struct pkt_pool *pool, int v, uint32_t paylen, uint32_t mss)
{
	uint32_t len = frame_make(bytes, 14, v, 6, paylen);
	struct pkt *p = frame_pkt(pool, bytes, len, 0);

	frame_partial(p, 14, v, 6, mss);
	return p;
}

static void
blank(struct pkt *p)
{
	p->p_flags = 0;
	p->p_csum_start = p->p_csum_offset = p->p_gso_size = 0;
	p->p_gso_type = 0;
}

TEST(there_and_back)
{
	struct pkt_pool *pool = nic_pool_new(1 << 20);

	for (int v = 4; v <= 6; v += 2) {
		struct pkt *p = tcp(pool, v, 5000, 1448);
		struct vnet_hdr vh;

		vnet_encode(p, &vh);
		CHECK_EQ(vh.vh_flags, 1);
		/* The frame has CWR set, hence the ECN bit. */
		CHECK_EQ(vh.vh_gso_type, (v == 4 ? 1 : 4) | 0x80);
		blank(p);
		CHECK_EQ(vnet_decode(p, 14, &vh), 0);
		CHECK_EQ(p->p_flags, PKT_CSUM_PARTIAL | PKT_CSUM_VALID);
		CHECK_EQ(p->p_csum_start, v == 4 ? 34 : 54);
		CHECK_EQ(p->p_csum_offset, 16);
		CHECK_EQ(p->p_gso_size, 1448);
		CHECK_EQ(p->p_gso_type, v == 4 ? 1 : 4);
		CHECK_EQ(p->p_hdrlen, v == 4 ? 66 : 86);
		pkt_free(p);
	}
	nic_pool_free(pool);
}

TEST(plain_and_verified)
{
	struct pkt_pool *pool = nic_pool_new(1 << 20);
	struct pkt *p = tcp(pool, 4, 50, 0);
	struct vnet_hdr vh = { 0 }, got;

	blank(p);
	CHECK_EQ(vnet_decode(p, 14, &vh), 0);
	CHECK_EQ(p->p_flags, 0);
	vnet_encode(p, &got);
	CHECK_MEM(&got, &vh, sizeof(vh));
	vh.vh_flags = 2;
	vh.vh_hdr_len = 0xffff; /* whatever it says */
	CHECK_EQ(vnet_decode(p, 14, &vh), 0);
	CHECK_EQ(p->p_flags, PKT_CSUM_VALID);
	pkt_free(p);
	nic_pool_free(pool);
}

static void
refuse(struct pkt_pool *pool, struct vnet_hdr vh)
{
	struct pkt *p = tcp(pool, 4, 3000, 1000);

	blank(p);
	CHECK_EQ(vnet_decode(p, 14, &vh), -EINVAL);
	pkt_free(p);
}

TEST(lies_are_refused)
{
	struct pkt_pool *pool = nic_pool_new(1 << 20);

	/* flags, type, hdr_len, gso_size, csum_start, csum_offset */
	refuse(pool, (struct vnet_hdr){ 1, 0, 0, 0, 3066, 16 });
	refuse(pool, (struct vnet_hdr){ 1, 0, 0, 0, 65535, 65535 });
	refuse(pool, (struct vnet_hdr){ 1, 0, 0, 0, 34, 3031 });
	refuse(pool, (struct vnet_hdr){ 1, 0, 0, 0, 33, 16 });
	refuse(pool, (struct vnet_hdr){ 1, 0, 0, 0, 0, 0 });
	refuse(pool, (struct vnet_hdr){ 1, 1, 66, 0, 34, 16 });
	refuse(pool, (struct vnet_hdr){ 1, 4, 66, 1000, 34, 16 });
	refuse(pool, (struct vnet_hdr){ 1, 5, 66, 1000, 34, 16 });
	refuse(pool, (struct vnet_hdr){ 1, 3, 66, 1000, 34, 16 });
	refuse(pool, (struct vnet_hdr){ 1, 2, 66, 1000, 34, 16 });
	refuse(pool, (struct vnet_hdr){ 1, 0x7f, 66, 1000, 34, 16 });
	refuse(pool, (struct vnet_hdr){ 1, 1, 66, 1000, 35, 16 });
	refuse(pool, (struct vnet_hdr){ 1, 1, 66, 1000, 34, 6 });
	nic_pool_free(pool);
}

/* A super-segment of any length that its buffers end at. */
TEST(truncated_frames)
{
	struct pkt_pool *pool = nic_pool_new(1 << 20);
	const struct vnet_hdr vh = { 0, 1, 0, 1000, 0, 0 };

	for (uint32_t len = 1; len < 80; len++) {
		struct pkt *p;

		frame_make(bytes, 14, 4, 6, 3000);
		p = frame_pkt(pool, bytes, len, len / 2 + 1);
		CHECK_EQ(vnet_decode(p, 14, &vh), len > 66 ? 0 : -EINVAL);
		pkt_free(p);
	}
	nic_pool_free(pool);
}

TESTS(RUN(there_and_back), RUN(plain_and_verified), RUN(lies_are_refused),
    RUN(truncated_frames))
