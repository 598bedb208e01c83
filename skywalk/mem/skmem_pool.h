/*
 * skmem_pool.h - the packets of one end: which are free, which its user has,
 * and which the other end has.
 *
 * Private to the end that owns the packets. The other end can say only "here is
 * number i back", and that is checked against pl_state: nothing it writes makes
 * a packet free twice or takes one that it was not given. When it dies, what it
 * had is known and taken back.
 */
#ifndef SKYWALK_MEM_SKMEM_POOL_H
#define SKYWALK_MEM_SKMEM_POOL_H

#include <stdbool.h>
#include <stdint.h>

#include "skywalk/api.h"

enum skmem_state {
	PKT_FREE,  /* in the pool */
	PKT_USER,  /* allocated, not yet given */
	PKT_GIVEN, /* in a slot or with the other end */
};

struct skmem_pool {
	uint32_t pl_packets, pl_buflets;
	uint32_t pl_nfree, pl_ngiven, pl_nbft;
	uint32_t *pl_free;  /* a stack: the last one freed is warm */
	uint32_t *pl_bft;   /* the same for buflets */
	uint32_t *pl_chain; /* first further buflet of a packet */
	uint32_t *pl_bnext; /* of a buflet */
	uint8_t *pl_state;
};

int skmem_pool_init(struct skmem_pool *pl, uint32_t packets, uint32_t buflets);
void skmem_pool_fini(struct skmem_pool *pl);
/* A packet with nbft buflets behind its own buffer, or SK_NONE. */
uint32_t skmem_pool_alloc(struct skmem_pool *pl, uint32_t nbft);
/* A packet and its buflets become free, whatever they were. */
void skmem_pool_put(struct skmem_pool *pl, uint32_t idx);
/* All given packets become free: how many. */
uint32_t skmem_pool_reclaim(struct skmem_pool *pl);

static inline bool
skmem_pool_is(const struct skmem_pool *pl, uint32_t idx, enum skmem_state st)
{
	return idx < pl->pl_packets && pl->pl_state[idx] == st;
}

static inline void
skmem_pool_give(struct skmem_pool *pl, uint32_t idx)
{
	pl->pl_state[idx] = PKT_GIVEN;
	__atomic_store_n(&pl->pl_ngiven, pl->pl_ngiven + 1, __ATOMIC_RELAXED);
}

#endif
