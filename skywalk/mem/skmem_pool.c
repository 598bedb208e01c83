/*
 * skmem_pool.c - packets of one end; see skmem_pool.h.
 */
#include "skywalk/mem/skmem_pool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Counters have one writer and are read by whoever asks for statistics. */
static void
count(uint32_t *counter, uint32_t value)
{
	__atomic_store_n(counter, value, __ATOMIC_RELAXED);
}

int
skmem_pool_init(struct skmem_pool *pl, uint32_t packets, uint32_t buflets)
{
	memset(pl, 0, sizeof(*pl));
	pl->pl_packets = packets;
	pl->pl_buflets = buflets;
	pl->pl_free = malloc(packets * sizeof(*pl->pl_free));
	pl->pl_chain = malloc(packets * sizeof(*pl->pl_chain));
	pl->pl_state = calloc(packets, sizeof(*pl->pl_state));
	pl->pl_bft = malloc(((size_t)buflets + 1) * sizeof(*pl->pl_bft));
	pl->pl_bnext = malloc(((size_t)buflets + 1) * sizeof(*pl->pl_bnext));
	if (pl->pl_free == NULL || pl->pl_chain == NULL ||
	    pl->pl_state == NULL || pl->pl_bft == NULL || pl->pl_bnext == NULL) {
		skmem_pool_fini(pl);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < packets; i++) {
		pl->pl_free[i] = packets - 1 - i;
		pl->pl_chain[i] = SK_NONE;
	}
	for (uint32_t i = 0; i < buflets; i++) {
		pl->pl_bft[i] = buflets - 1 - i;
	}
	pl->pl_nfree = packets;
	pl->pl_nbft = buflets;
	return 0;
}

void
skmem_pool_fini(struct skmem_pool *pl)
{
	free(pl->pl_free);
	free(pl->pl_chain);
	free(pl->pl_state);
	free(pl->pl_bft);
	free(pl->pl_bnext);
	memset(pl, 0, sizeof(*pl));
}

uint32_t
skmem_pool_alloc(struct skmem_pool *pl, uint32_t nbft)
{
	uint32_t idx;

	if (pl->pl_nfree == 0 || pl->pl_nbft < nbft) {
		return SK_NONE;
	}
	count(&pl->pl_nfree, pl->pl_nfree - 1);
	idx = pl->pl_free[pl->pl_nfree];
	pl->pl_state[idx] = PKT_USER;
	while (nbft-- > 0) {
		uint32_t b = pl->pl_bft[--pl->pl_nbft];

		pl->pl_bnext[b] = pl->pl_chain[idx];
		pl->pl_chain[idx] = b;
	}
	return idx;
}

void
skmem_pool_put(struct skmem_pool *pl, uint32_t idx)
{
	uint32_t b = pl->pl_chain[idx];

	while (b != SK_NONE) {
		pl->pl_bft[pl->pl_nbft++] = b;
		b = pl->pl_bnext[b];
	}
	pl->pl_chain[idx] = SK_NONE;
	if (pl->pl_state[idx] == PKT_GIVEN) {
		count(&pl->pl_ngiven, pl->pl_ngiven - 1);
	}
	pl->pl_state[idx] = PKT_FREE;
	pl->pl_free[pl->pl_nfree] = idx;
	count(&pl->pl_nfree, pl->pl_nfree + 1);
}

uint32_t
skmem_pool_reclaim(struct skmem_pool *pl)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < pl->pl_packets; i++) {
		if (pl->pl_state[i] == PKT_GIVEN) {
			skmem_pool_put(pl, i);
			n++;
		}
	}
	return n;
}
