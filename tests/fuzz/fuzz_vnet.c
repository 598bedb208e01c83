/*
 * fuzz_vnet.c - a frame and its virtio-net header from outside, and all that
 * nic does with what it let in: completing its checksum, cutting it.
 *
 * Input: how the frame is cut into buffers, options, the header, the frame.
 */
#include <stdlib.h>
#include <string.h>

#include "nic/api.h"
#include "nic/offload.h"
#include "nic/vnet.h"

#define NEED(cond) ((cond) ? (void)0 : abort())

static struct pkt *
frame_in_pieces(struct pkt_pool *pool, const uint8_t *b, size_t len,
    uint32_t piece)
{
	struct pkt *first = NULL, **link = &first;

	for (size_t off = 0; off < len; off += piece) {
		uint32_t n = (uint32_t)MIN_OF((size_t)piece, len - off);
		struct pkt *p = pkt_alloc(pool, n, 0);

		NEED(p != NULL);
		memcpy(p->p_data, b + off, n);
		p->p_len = n;
		*link = p;
		link = &p->p_next;
	}
	first->p_pktlen = (uint32_t)len;
	return first;
}

/* Segments add up to the packet, and none is longer than it may be. */
static void
cut(struct pkt_pool *pool, struct pkt *p, uint32_t l2len, uint8_t options)
{
	struct offload_cut made = { NULL, 0, 0 };
	uint64_t payload = 0;

	if (offload_cut(p, pool, l2len, 16, options & 2, options & 4, &made) !=
	    0) {
		NEED(made.sc_n == 0);
		free(made.sc_v);
		return;
	}
	NEED(made.sc_n > 0);
	for (uint32_t i = 0; i < made.sc_n; i++) {
		struct pkt *seg = made.sc_v[i];
		uint32_t n = 0;

		for (const struct pkt *q = seg; q != NULL; q = q->p_next) {
			n += q->p_len;
		}
		NEED(n == seg->p_pktlen);
		NEED(n <= (uint32_t)seg->p_hdrlen + p->p_gso_size);
		payload += n - seg->p_hdrlen;
		pkt_free(seg);
	}
	NEED(payload == p->p_pktlen - p->p_hdrlen);
	free(made.sc_v);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct nic_pool_stats stats;
	struct pkt_pool *pool;
	struct vnet_hdr vh;
	uint32_t l2len;
	struct pkt *p;

	if (size < 3 + sizeof(vh) || size > 65536) {
		return 0;
	}
	pool = nic_pool_new(64 << 20);
	NEED(pool != NULL);
	l2len = data[1] & 1 ? ETHER_HDR_LEN : 0;
	memcpy(&vh, data + 2, sizeof(vh));
	p = frame_in_pieces(pool, data + 2 + sizeof(vh), size - 2 - sizeof(vh),
	    data[0] + 1u);
	if (vnet_decode(p, l2len, &vh) == 0) {
		if (p->p_gso_type != PKT_GSO_NONE) {
			cut(pool, p, l2len, data[1]);
		}
		vnet_encode(p, &vh);
		if (p->p_flags & PKT_CSUM_PARTIAL) {
			/* Its own field and the sum may lie anywhere inside. */
			(void)offload_csum(p);
		}
	}
	pkt_free(p);
	nic_pool_stats(pool, &stats);
	NEED(stats.active == 0);
	nic_pool_free(pool);
	return 0;
}
