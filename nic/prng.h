/*
 * prng.h - a small seeded generator whose output is the same on every machine.
 *
 * xoshiro256** seeded through splitmix64 (Blackman and Vigna, both in the
 * public domain). Everything is integer arithmetic or the four IEEE operations,
 * so a seed gives the same run with every compiler and C library. Not for
 * secrets.
 */
#ifndef NIC_PRNG_H
#define NIC_PRNG_H

#include <stdint.h>

struct prng {
	uint64_t pr_s[4];
};

static inline uint64_t
prng_splitmix(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

/* Streams of one seed are independent of each other. */
static inline void
prng_init(struct prng *pr, uint64_t seed, uint64_t stream)
{
	uint64_t state = stream;
	int i;

	/* Mix the stream first: seed 1 stream 0 is not seed 0 stream 1. */
	state = prng_splitmix(&state) ^ seed;
	for (i = 0; i < 4; i++) {
		pr->pr_s[i] = prng_splitmix(&state);
	}
}

static inline uint64_t
prng_rotl(uint64_t x, int k)
{
	return (x << k) | (x >> (64 - k));
}

static inline uint64_t
prng_next(struct prng *pr)
{
	uint64_t *s = pr->pr_s;
	uint64_t result = prng_rotl(s[1] * 5, 7) * 9;
	uint64_t t = s[1] << 17;

	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = prng_rotl(s[3], 45);
	return result;
}

/* Uniform in [0, 1), a multiple of 2^-53. */
static inline double
prng_unit(struct prng *pr)
{
	return (double)(prng_next(pr) >> 11) * 0x1.0p-53;
}

/* True with probability p: never at 0, always at 1. */
static inline int
prng_chance(struct prng *pr, double p)
{
	return prng_unit(pr) < p;
}

/* Uniform in [0, n), n > 0; the high half of a 64 by 32 bit product. */
static inline uint32_t
prng_below(struct prng *pr, uint32_t n)
{
	return (uint32_t)(((prng_next(pr) >> 32) * n) >> 32);
}

/* Mean 0, deviation 1, within 6 deviations: twelve uniforms summed. */
static inline double
prng_normal(struct prng *pr)
{
	double sum = -6.0;
	int i;

	for (i = 0; i < 12; i++) {
		sum += prng_unit(pr);
	}
	return sum;
}

/*
 * A Pareto tail of shape 2 starting at 0: u^(-1/2) - 1, mean 1 but for the cut
 * at `most` (without which its variance, and one packet's wait, has no bound).
 * The square root is Newton's, since libm's may differ in the last bit.
 */
static inline double
prng_pareto(struct prng *pr, double most)
{
	double u = 1.0 - prng_unit(pr), r = 1.0; /* u in (0, 1] */
	int i;

	if (u * (most + 1.0) * (most + 1.0) <= 1.0) {
		return most;
	}
	/* From above, r falls towards sqrt(u); the error halves, then squares. */
	for (i = 0; i < 16; i++) {
		r = 0.5 * (r + u / r);
	}
	return 1.0 / r - 1.0;
}

#endif
