/* frames.h - TCP and UDP frames for tests, headers right down to the sums. */
#ifndef TESTS_UNIT_C_FRAMES_H
#define TESTS_UNIT_C_FRAMES_H

#include <arpa/inet.h>
#include <errno.h>

#include "nic/offload.h"
#include "tests/unit/c/check.h"

static inline void
put_be16(uint8_t *b, uint32_t v)
{
	b[0] = (uint8_t)(v >> 8);
	b[1] = (uint8_t)v;
}

static inline uint32_t
get_be16(const uint8_t *b)
{
	return (uint32_t)(b[0] << 8 | b[1]);
}

static inline uint32_t
get_be32(const uint8_t *b)
{
	return get_be16(b) << 16 | get_be16(b + 2);
}

/* The plainest sum there is. */
static inline uint16_t
naive_sum(const uint8_t *b, size_t n, uint32_t sum)
{
	for (size_t i = 0; i < n; i++) {
		sum += i % 2 ? b[i] : (uint32_t)b[i] << 8;
		sum = (sum & 0xffff) + (sum >> 16);
	}
	return (uint16_t)sum;
}

static inline uint16_t
naive_pseudo(const uint8_t *ip, uint32_t l4len)
{
	uint8_t tail[4] = { 0, ip[0] >> 4 == 4 ? ip[9] : ip[6] };
	uint32_t sum = ip[0] >> 4 == 4 ? naive_sum(ip + 12, 8, 0) :
					 naive_sum(ip + 8, 32, 0);

	put_be16(tail + 2, l4len);
	return naive_sum(tail, 4, sum);
}

/*
 * A frame with l2 bytes of link header, IP version v, proto 6 or 17 and
 * paylen bytes (value: position modulo 251) behind it, its checksum field
 * holding the pseudo-header sum. Returns its length.
 */
static inline uint32_t
frame_make(uint8_t *b, uint32_t l2, int v, int proto, uint32_t paylen)
{
	uint32_t l4 = l2 + (v == 4 ? 20 : 40), hl = proto == 6 ? 32 : 8;
	uint32_t l4len = hl + paylen;
	uint8_t *ip = b + l2, *th = b + l4;

	memset(b, 0, l4 + hl);
	if (l2 != 0) {
		memcpy(b, "\2ABCDE\2abcde", 12);
		put_be16(b + 12, v == 4 ? 0x0800 : 0x86dd);
	}
	if (v == 4) {
		ip[0] = 0x45;
		put_be16(ip + 2, 20 + l4len);
		put_be16(ip + 4, 0xfffe);
		put_be16(ip + 6, 0x4000);
		ip[8] = 64;
		ip[9] = (uint8_t)proto;
		memcpy(ip + 12, "\12\0\0\1\12\0\0\2", 8);
		put_be16(ip + 10, (uint16_t)~naive_sum(ip, 20, 0));
	} else {
		ip[0] = 0x60;
		put_be16(ip + 4, l4len);
		ip[6] = (uint8_t)proto;
		ip[7] = 64;
		memcpy(ip + 8, "\375\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1", 16);
		memcpy(ip + 24, "\375\0\0\0\0\0\0\0\0\0\0\0\0\0\0\2", 16);
	}
	put_be16(th, 40000);
	put_be16(th + 2, 80);
	if (proto == 6) {
		put_be16(th + 4, 0xffff); /* sequence near its wrap */
		put_be16(th + 6, 0xff00);
		th[12] = 8 << 4;
		th[13] = 0x01 | 0x08 | 0x10 | 0x80; /* FIN PSH ACK CWR */
		put_be16(th + 14, 512);
		memcpy(th + 20, "\1\1\10\12\0\0\0\1\0\0\0\2", 12);
	} else {
		put_be16(th + 4, l4len);
	}
	put_be16(th + (proto == 6 ? 16 : 6), naive_pseudo(ip, l4len));
	for (uint32_t i = 0; i < paylen; i++) {
		b[l4 + hl + i] = (uint8_t)(i % 251);
	}
	return l4 + hl + paylen;
}

/* The sum over a finished transport packet comes out as all ones. */
static inline void
frame_verify(const uint8_t *b, uint32_t len, uint32_t l2)
{
	const uint8_t *ip = b + l2;
	uint32_t l4 = l2 + (ip[0] >> 4 == 4 ? 20 : 40);

	if (ip[0] >> 4 == 4) {
		CHECK_EQ(naive_sum(ip, 20, 0), 0xffff);
		CHECK_EQ(get_be16(ip + 2), len - l2);
	} else {
		CHECK_EQ(get_be16(ip + 4), len - l2 - 40);
	}
	CHECK_EQ(naive_sum(b + l4, len - l4, naive_pseudo(ip, len - l4)),
	    0xffff);
}

/* The frame as a packet in pieces of at most piece bytes (0: one buffer). */
static inline struct pkt *
frame_pkt(struct pkt_pool *pool, const uint8_t *b, uint32_t len, uint32_t piece)
{
	struct pkt *first = NULL, **link = &first;

	piece = piece != 0 ? piece : len;
	for (uint32_t off = 0; off < len; off += piece) {
		uint32_t n = MIN_OF(piece, len - off);
		struct pkt *p = pkt_alloc(pool, n, 0);

		CHECK(p != NULL);
		memcpy(p->p_data, b + off, n);
		p->p_len = n;
		*link = p;
		link = &p->p_next;
	}
	first->p_pktlen = len;
	return first;
}

/* What frame_make() left open, as offload metadata. */
static inline void
frame_partial(struct pkt *p, uint32_t l2, int v, int proto, uint32_t mss)
{
	p->p_flags |= PKT_CSUM_PARTIAL;
	p->p_csum_start = (uint16_t)(l2 + (v == 4 ? 20 : 40));
	p->p_csum_offset = proto == 6 ? 16 : 6;
	if (mss != 0) {
		p->p_gso_size = (uint16_t)mss;
		p->p_gso_type = proto == 17 ? PKT_GSO_UDP_L4 :
		    v == 4		    ? PKT_GSO_TCPV4 :
					      PKT_GSO_TCPV6;
	}
}

#endif
