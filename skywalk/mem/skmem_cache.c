/*
 * skmem_cache.c - see skmem_cache.h.
 *
 * A slab brings MAG_ROUNDS objects and the magazine for them; two more magazines
 * are there from the start. With s slabs there are s + 2 magazines, and at most
 * s of them are full, so freeing finds room for its object without allocating.
 */
#include "skywalk/mem/skmem_cache.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct skmem_mag {
	struct skmem_mag *mg_next;
	uint32_t mg_n;
	void *mg_round[MAG_ROUNDS];
};

struct skmem_slab {
	struct skmem_slab *sl_next;
	struct skmem_mag sl_mag;
	_Alignas(max_align_t) uint8_t sl_mem[];
};

int
skmem_cache_init(struct skmem_cache *sc, size_t size)
{
	const size_t align = sizeof(max_align_t);

	memset(sc, 0, sizeof(*sc));
	sc->sc_size = (size + align - 1) / align * align;
	sc->sc_loaded = calloc(1, sizeof(*sc->sc_loaded));
	sc->sc_freed = calloc(1, sizeof(*sc->sc_freed));
	pthread_mutex_init(&sc->sc_lock, NULL);
	if (sc->sc_loaded == NULL || sc->sc_freed == NULL) {
		skmem_cache_fini(sc);
		return -ENOMEM;
	}
	return 0;
}

/* The magazines that came with slabs are part of them. */
static void
mag_free(const struct skmem_cache *sc, struct skmem_mag *mg)
{
	const struct skmem_slab *sl;

	for (sl = sc->sc_slabs; sl != NULL; sl = sl->sl_next) {
		if (&sl->sl_mag == mg) {
			return;
		}
	}
	free(mg);
}

static void
mags_free(const struct skmem_cache *sc, struct skmem_mag *mg)
{
	while (mg != NULL) {
		struct skmem_mag *next = mg->mg_next;

		mag_free(sc, mg);
		mg = next;
	}
}

void
skmem_cache_fini(struct skmem_cache *sc)
{
	mags_free(sc, sc->sc_full);
	mags_free(sc, sc->sc_empty);
	mag_free(sc, sc->sc_loaded);
	mag_free(sc, sc->sc_freed);
	while (sc->sc_slabs != NULL) {
		struct skmem_slab *sl = sc->sc_slabs;

		sc->sc_slabs = sl->sl_next;
		free(sl);
	}
	pthread_mutex_destroy(&sc->sc_lock);
}

static void
mag_push(struct skmem_mag **list, struct skmem_mag *mg)
{
	mg->mg_next = *list;
	*list = mg;
}

static struct skmem_mag *
mag_pop(struct skmem_mag **list)
{
	struct skmem_mag *mg = *list;

	*list = mg->mg_next;
	return mg;
}

/* A full magazine of new objects, or NULL. Under sc_lock. */
static struct skmem_mag *
slab_new(struct skmem_cache *sc)
{
	struct skmem_slab *sl = malloc(sizeof(*sl) + MAG_ROUNDS * sc->sc_size);

	if (sl == NULL) {
		return NULL;
	}
	sl->sl_next = sc->sc_slabs;
	sc->sc_slabs = sl;
	sc->sc_nslabs++;
	sl->sl_mag.mg_n = MAG_ROUNDS;
	for (uint32_t i = 0; i < MAG_ROUNDS; i++) {
		sl->sl_mag.mg_round[i] = sl->sl_mem + i * sc->sc_size;
	}
	return &sl->sl_mag;
}

/* The loaded magazine is empty: get another. */
static int
cache_reload(struct skmem_cache *sc)
{
	struct skmem_mag *mg;

	pthread_mutex_lock(&sc->sc_lock);
	if (sc->sc_full != NULL) {
		mg = mag_pop(&sc->sc_full);
		mag_push(&sc->sc_empty, sc->sc_loaded);
	} else if (sc->sc_freed->mg_n > 0) {
		mg = sc->sc_freed;
		sc->sc_freed = sc->sc_loaded;
	} else {
		mg = slab_new(sc);
		if (mg != NULL) {
			mag_push(&sc->sc_empty, sc->sc_loaded);
		}
	}
	if (mg != NULL) {
		sc->sc_loaded = mg;
	}
	pthread_mutex_unlock(&sc->sc_lock);
	return mg != NULL ? 0 : -ENOMEM;
}

void *
skmem_cache_alloc(struct skmem_cache *sc)
{
	if (sc->sc_loaded->mg_n == 0 && cache_reload(sc) != 0) {
		return NULL;
	}
	return sc->sc_loaded->mg_round[--sc->sc_loaded->mg_n];
}

void
skmem_cache_free(struct skmem_cache *sc, void *obj)
{
	pthread_mutex_lock(&sc->sc_lock);
	if (sc->sc_freed->mg_n == MAG_ROUNDS) {
		mag_push(&sc->sc_full, sc->sc_freed);
		sc->sc_freed = mag_pop(&sc->sc_empty);
	}
	sc->sc_freed->mg_round[sc->sc_freed->mg_n++] = obj;
	pthread_mutex_unlock(&sc->sc_lock);
}
