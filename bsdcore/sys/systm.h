/*
 * systm.h - what every file of bsdcore needs: assertions, small arithmetic,
 * byte order.
 */
#ifndef BSDCORE_SYS_SYSTM_H
#define BSDCORE_SYS_SYSTM_H

#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/types.h>

#define CTASSERT(x) _Static_assert(x, #x)
#define nitems(a) (sizeof(a) / sizeof((a)[0]))
#define roundup2(x, y) (((x) + ((y) - 1)) & ~((__typeof__(x))(y) - 1))

/* A thing that cannot happen. Checked in debug builds (-DXSOCK_DEBUG), which
 * is what the tests, the sanitizers and the fuzzers run. */
#ifdef XSOCK_DEBUG
#define KASSERT(x)                                                             \
	do {                                                                   \
		if (!(x)) {                                                    \
			fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, \
			    __func__, #x);                                     \
			abort();                                               \
		}                                                              \
	} while (0)
#else
#define KASSERT(x) ((void)sizeof(x))
#endif

#define NSEC_PER_SEC 1000000000ull
#define NSEC_PER_MSEC 1000000ull
#define NSEC_PER_USEC 1000ull

static inline uint32_t
u32min(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

static inline uint32_t
u32max(uint32_t a, uint32_t b)
{
	return a > b ? a : b;
}

static inline uint64_t
u64min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t
u64max(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* Unaligned big-endian fields of the wire. */
static inline uint16_t
be16get(const void *p)
{
	const uint8_t *b = p;

	return (uint16_t)(b[0] << 8 | b[1]);
}

static inline uint32_t
be32get(const void *p)
{
	const uint8_t *b = p;

	return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 |
	    (uint32_t)b[2] << 8 | b[3];
}

static inline void
be16put(void *p, uint16_t v)
{
	uint8_t *b = p;

	b[0] = (uint8_t)(v >> 8);
	b[1] = (uint8_t)v;
}

static inline void
be32put(void *p, uint32_t v)
{
	uint8_t *b = p;

	b[0] = (uint8_t)(v >> 24);
	b[1] = (uint8_t)(v >> 16);
	b[2] = (uint8_t)(v >> 8);
	b[3] = (uint8_t)v;
}

#endif
