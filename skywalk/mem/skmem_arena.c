/*
 * skmem_arena.c - making, mapping and taking away the memory of a channel.
 *
 * A layout is computed from parameters that were copied and checked once, never
 * read again from shared memory: where a region lies cannot be changed by
 * whoever writes there.
 */
#include "skywalk/mem/skmem_arena.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

static bool
pow2(uint32_t x)
{
	return x != 0 && (x & (x - 1)) == 0;
}

int
sk_params_check(struct sk_params *p)
{
	p->slots = p->slots != 0 ? p->slots : 256;
	p->packets = p->packets != 0 ? p->packets : 2 * p->slots;
	p->buffer = p->buffer != 0 ? p->buffer : 2048;
	p->max_frags = p->max_frags != 0 ? p->max_frags : 1;
	p->events = p->events != 0 ? p->events : 32;
	if (!pow2(p->slots) || p->slots < 2 || p->slots > SK_MAX_SLOTS ||
	    p->packets > SK_MAX_PACKETS || p->buffer % 64 != 0 ||
	    p->buffer > SK_MAX_BUFFER || p->buflets > SK_MAX_PACKETS ||
	    p->max_frags > SK_MAX_FRAGS || !pow2(p->events) || p->events < 2 ||
	    p->events > SK_MAX_SLOTS ||
	    (p->flowadv != 0 && !pow2(p->flowadv)) || p->flowadv > 65536) {
		return -EINVAL;
	}
	return 0;
}

uint32_t
skmem_fslots(const struct sk_params *p)
{
	uint32_t slots = 2;

	while (slots <= p->packets) {
		slots *= 2;
	}
	return slots;
}

size_t
skmem_layout(const struct sk_params *p, uint64_t off[SKMEM_NREGIONS])
{
	const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	const uint64_t size[SKMEM_NREGIONS] = {
		[SKMEM_SCHEMA] = sizeof(struct sk_schema),
		[SKMEM_RING] = sizeof(struct sk_heads),
		[SKMEM_TXSD] = (uint64_t)p->slots * sizeof(struct sk_slot),
		[SKMEM_FSD] = (uint64_t)skmem_fslots(p) * sizeof(uint32_t),
		[SKMEM_ESD] = (uint64_t)p->events * sizeof(struct sk_event),
		[SKMEM_UMD] = (uint64_t)p->packets * sizeof(struct sk_umd),
		[SKMEM_UBFT] = (uint64_t)p->buflets * sizeof(struct sk_buflet),
		[SKMEM_FLOWADV] =
		    (uint64_t)p->flowadv * sizeof(struct sk_flowadv),
		[SKMEM_BUF] = ((uint64_t)p->packets + p->buflets) * p->buffer,
	};
	uint64_t at = 0;

	for (int i = 0; i < SKMEM_NREGIONS; i++) {
		off[i] = at;
		at += (size[i] + page - 1) / page * page;
	}
	return (size_t)at;
}

static int
half_create(const struct sk_params *p, int *out)
{
	struct sk_schema schema = { .sc_magic = SKMEM_MAGIC,
		.sc_version = SKMEM_VERSION,
		.sc_flags = SCHEMA_ACTIVE,
		.sc_params = *p };
	size_t len = skmem_layout(p, schema.sc_off);
	int fd, error;

	fd = memfd_create("skywalk", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0) {
		return -errno;
	}
	if (ftruncate(fd, (off_t)len) != 0 ||
	    pwrite(fd, &schema, sizeof(schema), 0) != (ssize_t)sizeof(schema) ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0) {
		error = errno != 0 ? -errno : -EIO;
		close(fd);
		return error;
	}
	*out = fd;
	return 0;
}

int
sk_arena_create(const struct sk_params *params, int memfd[2])
{
	struct sk_params p = *params;
	int error = sk_params_check(&p);

	memfd[0] = memfd[1] = -1;
	if (error == 0) {
		error = half_create(&p, &memfd[0]);
	}
	if (error == 0) {
		error = half_create(&p, &memfd[1]);
		if (error != 0) {
			close(memfd[0]);
			memfd[0] = -1;
		}
	}
	return error;
}

int
skmem_arena_params(int memfd, struct sk_params *p)
{
	struct sk_schema s;

	if (pread(memfd, &s, sizeof(s), 0) != (ssize_t)sizeof(s) ||
	    s.sc_magic != SKMEM_MAGIC || s.sc_version != SKMEM_VERSION) {
		return -EPROTO;
	}
	*p = s.sc_params;
	if (p->slots == 0 || p->packets == 0 || p->buffer == 0 ||
	    p->max_frags == 0 || p->events == 0) {
		return -EPROTO;
	}
	return sk_params_check(p) == 0 ? 0 : -EPROTO;
}

/* The file can be mapped without a fault to come. */
static int
half_check(int fd, size_t len)
{
	const int want = F_SEAL_SHRINK | F_SEAL_GROW;
	struct stat st;
	int seals = fcntl(fd, F_GET_SEALS);

	if (seals < 0 || (seals & want) != want || fstat(fd, &st) != 0 ||
	    st.st_size < 0 || (size_t)st.st_size != len) {
		return -EPROTO;
	}
	return 0;
}

static int
half_map(struct skmem_arena *ar, int i, int fd, const uint64_t *off)
{
	struct skmem_half *h = &ar->ar_half[i];
	bool writable = (ar->ar_writable >> i & 1) != 0;
	int prot = PROT_READ | (writable ? PROT_WRITE : 0);

	if (half_check(fd, ar->ar_halflen) != 0) {
		return -EPROTO;
	}
	h->hf_base = mmap(ar->ar_map + ar->ar_page +
		(size_t)i * (ar->ar_halflen + ar->ar_page),
	    ar->ar_halflen, prot, MAP_SHARED | MAP_FIXED, fd, 0);
	if (h->hf_base == MAP_FAILED) {
		return -errno;
	}
	/* From now on nobody can write here who does not already. An old
	 * kernel knows no such seal and answers EINVAL. */
	if (writable &&
	    fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) != 0 &&
	    errno != EINVAL && errno != EPERM) {
		return -errno;
	}
	h->hf_schema = (void *)(h->hf_base + off[SKMEM_SCHEMA]);
	h->hf_heads = (void *)(h->hf_base + off[SKMEM_RING]);
	h->hf_txsd = (void *)(h->hf_base + off[SKMEM_TXSD]);
	h->hf_fsd = (void *)(h->hf_base + off[SKMEM_FSD]);
	h->hf_esd = (void *)(h->hf_base + off[SKMEM_ESD]);
	h->hf_umd = (void *)(h->hf_base + off[SKMEM_UMD]);
	h->hf_ubft = (void *)(h->hf_base + off[SKMEM_UBFT]);
	h->hf_flowadv = (void *)(h->hf_base + off[SKMEM_FLOWADV]);
	h->hf_buf = h->hf_base + off[SKMEM_BUF];
	return 0;
}

int
skmem_arena_map(const struct sk_params *p, const int memfd[2],
    unsigned writable, struct skmem_arena **out)
{
	struct skmem_arena *ar = calloc(1, sizeof(*ar));
	uint64_t off[SKMEM_NREGIONS];
	int error = 0;

	if (ar == NULL) {
		return -ENOMEM;
	}
	atomic_init(&ar->ar_refs, 1);
	ar->ar_params = *p;
	ar->ar_fslots = skmem_fslots(p);
	ar->ar_page = (size_t)sysconf(_SC_PAGESIZE);
	ar->ar_halflen = skmem_layout(p, off);
	ar->ar_writable = writable;
	ar->ar_maplen = 2 * ar->ar_halflen + 3 * ar->ar_page;
	ar->ar_map = mmap(NULL, ar->ar_maplen, PROT_NONE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (ar->ar_map == MAP_FAILED) {
		free(ar);
		return -ENOMEM;
	}
	for (int i = 0; i < 2 && error == 0; i++) {
		error = half_map(ar, i, memfd[i], off);
	}
	if (error != 0) {
		skmem_arena_drop(ar);
		return error;
	}
	*out = ar;
	return 0;
}

void
skmem_arena_redirect(struct skmem_arena *ar)
{
	for (int i = 0; i < 2; i++) {
		bool writable = (ar->ar_writable >> i & 1) != 0;

		/* It replaces in one step: no thread sees a hole. Should the
		 * kernel have no memory for it, what was there stays. */
		(void)!mmap(ar->ar_half[i].hf_base, ar->ar_halflen,
		    PROT_READ | (writable ? PROT_WRITE : 0),
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1,
		    0);
	}
}

void
skmem_arena_hold(struct skmem_arena *ar)
{
	atomic_fetch_add_explicit(&ar->ar_refs, 1, memory_order_relaxed);
}

void
skmem_arena_drop(struct skmem_arena *ar)
{
	if (atomic_fetch_sub_explicit(&ar->ar_refs, 1, memory_order_acq_rel) ==
	    1) {
		munmap(ar->ar_map, ar->ar_maplen);
		free(ar);
	}
}
