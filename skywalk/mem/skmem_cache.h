/*
 * skmem_cache.h - objects of one size, allocated by one thread and freed by any.
 *
 * After Bonwick's slab and magazine allocators. The allocating thread takes from
 * a magazine of its own, without a lock; freed objects fill another one, and full
 * magazines change hands through the depot, so the lock is taken by the
 * allocator once in MAG_ROUNDS objects. Memory is what was once in use at the
 * same time; it goes back when the cache goes.
 */
#ifndef SKYWALK_MEM_SKMEM_CACHE_H
#define SKYWALK_MEM_SKMEM_CACHE_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#define MAG_ROUNDS 16

struct skmem_mag;
struct skmem_slab;

struct skmem_cache {
	size_t sc_size;
	struct skmem_mag *sc_loaded; /* the allocating thread's */

	pthread_mutex_t sc_lock;    /* all below */
	struct skmem_mag *sc_freed; /* being filled */
	struct skmem_mag *sc_full;  /* the depot */
	struct skmem_mag *sc_empty;
	struct skmem_slab *sc_slabs;
	uint32_t sc_nslabs;
};

int skmem_cache_init(struct skmem_cache *sc, size_t size);
/* Every object must have come back. */
void skmem_cache_fini(struct skmem_cache *sc);
/* Aligned for anything, not cleared; NULL: no memory. */
void *skmem_cache_alloc(struct skmem_cache *sc);
void skmem_cache_free(struct skmem_cache *sc, void *obj);

#endif
