/*
 * kern_random.c - unpredictable numbers from the stack's seed: SipHash-2-4
 * (Aumasson and Bernstein, 2012) as a keyed hash and, in counter mode, as a
 * stream. The same seed gives the same numbers.
 */
#include "bsdcore/sys/stack.h"

static inline uint64_t
rotl64(uint64_t x, int b)
{
	return x << b | x >> (64 - b);
}

static inline void
sipround(uint64_t v[4])
{
	v[0] += v[1];
	v[1] = rotl64(v[1], 13) ^ v[0];
	v[0] = rotl64(v[0], 32);
	v[2] += v[3];
	v[3] = rotl64(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = rotl64(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = rotl64(v[1], 17) ^ v[2];
	v[2] = rotl64(v[2], 32);
}

static inline uint64_t
le64(const uint8_t *p, size_t n)
{
	uint64_t x = 0;

	for (size_t i = 0; i < n; i++) {
		x |= (uint64_t)p[i] << (8 * i);
	}
	return x;
}

static uint64_t
siphash24(const uint64_t key[2], const uint8_t *p, size_t len)
{
	uint64_t v[4] = { 0x736f6d6570736575ull ^ key[0],
		0x646f72616e646f6dull ^ key[1], 0x6c7967656e657261ull ^ key[0],
		0x7465646279746573ull ^ key[1] };
	uint64_t last = (uint64_t)len << 56;

	for (; len >= 8; len -= 8, p += 8) {
		uint64_t m = le64(p, 8);

		v[3] ^= m;
		sipround(v);
		sipround(v);
		v[0] ^= m;
	}
	last |= le64(p, len);
	v[3] ^= last;
	sipround(v);
	sipround(v);
	v[0] ^= last;
	v[2] ^= 0xff;
	for (int i = 0; i < 4; i++) {
		sipround(v);
	}
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

uint64_t
stack_random(struct stack *s)
{
	uint64_t ctr = s->s_random_ctr++;

	return siphash24(&s->s_key[0], (const uint8_t *)&ctr, sizeof(ctr));
}

uint64_t
stack_hash(const struct stack *s, uint32_t purpose, const void *p, size_t len)
{
	uint64_t key[2] = { s->s_key[2] + purpose, s->s_key[3] };

	return siphash24(key, p, len);
}
