/*
 * tcp_seq.h - arithmetic on 32-bit sequence numbers and timestamps, modulo
 * 2^32 (RFC 9293 3.4): "less" means less than half the space behind.
 */
#ifndef BSDCORE_NETINET_TCP_SEQ_H
#define BSDCORE_NETINET_TCP_SEQ_H

#include <stdbool.h>
#include <stdint.h>

#define SEQ_LT(a, b) ((int32_t)((uint32_t)(a) - (uint32_t)(b)) < 0)
#define SEQ_LEQ(a, b) ((int32_t)((uint32_t)(a) - (uint32_t)(b)) <= 0)
#define SEQ_GT(a, b) SEQ_LT(b, a)
#define SEQ_GEQ(a, b) SEQ_LEQ(b, a)
#define TSTMP_LT(a, b) SEQ_LT(a, b)

static inline uint32_t
seq_max(uint32_t a, uint32_t b)
{
	return SEQ_GT(a, b) ? a : b;
}

static inline uint32_t
seq_min(uint32_t a, uint32_t b)
{
	return SEQ_LT(a, b) ? a : b;
}

/* Is seq in [lo, lo + len)? */
static inline bool
seq_in(uint32_t seq, uint32_t lo, uint32_t len)
{
	return seq - lo < len;
}

#endif
