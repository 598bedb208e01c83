/*
 * pkt_pool.c - buffers by size class, allocated by one thread, freed by all.
 *
 * A block is one allocation that holds a descriptor, the reference count of
 * its storage, and the storage. The descriptor owns one of the references for
 * as long as it is in use, so a block is free exactly when e_refs has fallen
 * to 0: nothing else has to be counted. (For the same reason p_ext of a
 * buffer from ppo_alloc must not be replaced while it lives.) Blocks without
 * storage serve ppo_wrap: there the descriptor is all, and its p_ext belongs
 * to somebody else.
 *
 *	any thread:	free -> c_remote (push by compare-and-swap)
 *	the owner:	c_remote -> c_local (take all, when not empty) -> alloc
 *
 * Nobody but the owner takes from c_remote and it takes everything, so the
 * stack knows no ABA. What was freed last is given out first, still warm.
 *
 * Life. nic_pool_free() leaves a mark in each c_remote; a block that comes
 * back and finds the mark is freed at once, and the last of them frees the
 * pool. Until then a pool never shrinks, except that at the limit a class may
 * eat what the others have idle.
 */
#include "nic/pkt_pool.h"

#include <stdlib.h>
#include <string.h>

#include "nic/api.h"
#include "nic/port_impl.h"

#ifdef XSOCK_DEBUG
#include <stdio.h>
#define POISON 1
#else
#define POISON 0
#endif

#define POOL_NCLASS 6
#define POOL_HUGE POOL_NCLASS /* made to measure, never kept */
#define BLOCK_HDR 128	      /* storage starts on a cache line */

struct block {
	struct pkt b_pkt;
	struct pkt_ext b_ext;
	struct block *b_next; /* on c_local or c_remote */
	uint32_t b_size;      /* of the storage */
	uint32_t b_class;
};

_Static_assert(sizeof(struct block) <= BLOCK_HDR, "a block's head has grown");

struct pool_class {
	/* Written by whoever frees. */
	_Alignas(64) _Atomic(struct block *) c_remote;
	atomic_uint_fast64_t c_frees;
	/* The owner's. */
	_Alignas(64) struct block *c_local;
	uint64_t c_allocs;
};

struct nic_pool {
	struct pkt_pool np_pool;
	uint64_t np_limit;
	uint64_t np_bytes; /* in blocks, free or not */
	uint64_t np_fails;
	uint64_t np_blocks;	     /* made and not unmade by the owner */
	atomic_int_fast64_t np_left; /* after nic_pool_free: blocks out */
	struct pool_class np_class[POOL_NCLASS + 1];
};

static const uint32_t class_size[POOL_NCLASS] = { 0, 256, PKT_SMALL, 4096,
	PKT_MEDIUM, PKT_BIG };

/* Stands in c_remote of a pool whose owner has left. Never dereferenced. */
#define POOL_CLOSED ((struct block *)(uintptr_t)1)

static struct pkt *pool_alloc(struct pkt_pool *, uint32_t, uint32_t);
static struct pkt *pool_wrap(struct pkt_pool *, void *, uint32_t,
    struct pkt_ext *);
static void pool_free1(struct pkt *);

static const struct pkt_pool_ops pool_ops = {
	.ppo_alloc = pool_alloc,
	.ppo_wrap = pool_wrap,
	.ppo_free1 = pool_free1,
};

static uint8_t *
block_storage(struct block *b)
{
	return (uint8_t *)b + BLOCK_HDR;
}

#if POISON
/* In debug builds free storage says so, and who writes into it is caught. */
static void
poison_set(struct block *b)
{
	static const uint8_t dead[4] = { 0xde, 0xad, 0xbe, 0xef };

	for (uint32_t i = 0; i < b->b_size; i++) {
		block_storage(b)[i] = dead[i % 4];
	}
}

static void
poison_check(struct block *b)
{
	static const uint8_t dead[4] = { 0xde, 0xad, 0xbe, 0xef };

	for (uint32_t i = 0; i < b->b_size; i++) {
		if (block_storage(b)[i] != dead[i % 4]) {
			fprintf(stderr,
			    "pkt_pool: byte %u of a free buffer "
			    "of %u was written\n",
			    i, b->b_size);
			abort();
		}
	}
}
#else
static void
poison_set(struct block *b)
{
	(void)b;
}

static void
poison_check(struct block *b)
{
	(void)b;
}
#endif

static void
pool_destroy(struct nic_pool *np)
{
	free(np);
}

/*
 * Give a block back, from any thread. After the push the pool may be gone
 * as soon as its owner wants it, so nothing of it is touched any more.
 */
static void
block_free(struct nic_pool *np, struct block *b)
{
	struct pool_class *c = &np->np_class[b->b_class];
	struct block *head;

	poison_set(b);
	atomic_fetch_add_explicit(&c->c_frees, 1, memory_order_relaxed);
	head = atomic_load_explicit(&c->c_remote, memory_order_acquire);
	do {
		if (head == POOL_CLOSED) {
			free(b);
			if (atomic_fetch_sub_explicit(&np->np_left, 1,
				memory_order_acq_rel) == 1) {
				pool_destroy(np);
			}
			return;
		}
		b->b_next = head;
		/* (A) pairs with (B): who takes the block sees its link. */
	} while (!atomic_compare_exchange_weak_explicit(&c->c_remote, &head, b,
	    memory_order_acq_rel, memory_order_acquire));
}

static void
block_ext_free(struct pkt_ext *ext)
{
	struct block *b = CONTAINER_OF(ext, struct block, b_ext);

	block_free(CONTAINER_OF(b->b_pkt.p_pool, struct nic_pool, np_pool), b);
}

/* Move what came back in front of what is there. Owner only. */
static void
class_collect(struct pool_class *c)
{
	struct block *b, *last;

	if (atomic_load_explicit(&c->c_remote, memory_order_relaxed) == NULL) {
		return;
	}
	b = atomic_exchange_explicit(&c->c_remote, NULL,
	    memory_order_acquire); /* (B) */
	if (c->c_local != NULL) {
		for (last = b; last->b_next != NULL; last = last->b_next) {
			continue;
		}
		last->b_next = c->c_local;
	}
	c->c_local = b;
}

static void
pool_account(struct nic_pool *np, const struct block *b, int sign)
{
	uint64_t bytes = (uint64_t)BLOCK_HDR + b->b_size;

	stat_add(&np->np_bytes, sign > 0 ? bytes : 0 - bytes);
	np->np_blocks += sign > 0 ? 1 : (uint64_t)-1;
}

/* Free idle blocks until need bytes fit under the limit. Owner only. */
static bool
pool_reclaim(struct nic_pool *np, uint64_t need)
{
	if (need > np->np_limit) {
		return false;
	}
	for (int i = POOL_HUGE; i >= 0; i--) {
		struct pool_class *c = &np->np_class[i];

		class_collect(c);
		while (np->np_bytes + need > np->np_limit && c->c_local != NULL) {
			struct block *b = c->c_local;

			c->c_local = b->b_next;
			pool_account(np, b, -1);
			free(b);
		}
	}
	return np->np_bytes + need <= np->np_limit;
}

static struct block *
block_make(struct nic_pool *np, uint32_t class, uint32_t size)
{
	uint64_t need = (uint64_t)BLOCK_HDR + size;
	struct block *b;

	if (np->np_bytes + need > np->np_limit && !pool_reclaim(np, need)) {
		return NULL;
	}
	b = aligned_alloc(64, (need + 63) & ~(uint64_t)63);
	if (b == NULL) {
		return NULL;
	}
	b->b_size = size;
	b->b_class = class;
	b->b_ext.e_free = block_ext_free;
	b->b_ext.e_arg = NULL;
	atomic_init(&b->b_ext.e_refs, 0);
	pool_account(np, b, 1);
	return b;
}

static struct block *
block_get(struct nic_pool *np, uint32_t class, uint32_t size)
{
	struct pool_class *c = &np->np_class[class];
	struct block *b;

	class_collect(c);
	b = c->c_local;
	if (b != NULL && class == POOL_HUGE) {
		/* Made to measure for somebody else: make room instead. */
		while ((b = c->c_local) != NULL) {
			c->c_local = b->b_next;
			pool_account(np, b, -1);
			free(b);
		}
	}
	if (b != NULL) {
		c->c_local = b->b_next;
		poison_check(b);
	} else {
		b = block_make(np, class, size);
	}
	if (b == NULL) {
		stat_add(&np->np_fails, 1);
		return NULL;
	}
	stat_add(&c->c_allocs, 1);
	memset(&b->b_pkt, 0, sizeof(b->b_pkt));
	b->b_pkt.p_pool = &np->np_pool;
	return b;
}

static struct pkt *
pool_alloc(struct pkt_pool *pool, uint32_t size, uint32_t headroom)
{
	struct nic_pool *np = CONTAINER_OF(pool, struct nic_pool, np_pool);
	uint32_t class = 1;
	struct block *b;

	if (size < headroom) {
		size = headroom;
	}
	while (class < POOL_NCLASS && class_size[class] < size) {
		class++;
	}
	b = block_get(np, class, class < POOL_NCLASS ? class_size[class] : size);
	if (b == NULL) {
		return NULL;
	}
	atomic_store_explicit(&b->b_ext.e_refs, 1, memory_order_relaxed);
	b->b_pkt.p_buf = block_storage(b);
	b->b_pkt.p_size = b->b_size;
	b->b_pkt.p_data = b->b_pkt.p_buf + headroom;
	b->b_pkt.p_ext = &b->b_ext;
	return &b->b_pkt;
}

static struct pkt *
pool_wrap(struct pkt_pool *pool, void *data, uint32_t len, struct pkt_ext *ext)
{
	struct nic_pool *np = CONTAINER_OF(pool, struct nic_pool, np_pool);
	struct block *b = block_get(np, 0, 0);

	if (b == NULL) {
		return NULL;
	}
	b->b_pkt.p_buf = data;
	b->b_pkt.p_data = data;
	b->b_pkt.p_len = len;
	b->b_pkt.p_size = len;
	b->b_pkt.p_pktlen = len;
	b->b_pkt.p_ext = ext;
	return &b->b_pkt;
}

static void
pool_free1(struct pkt *p)
{
	struct block *b = CONTAINER_OF(p, struct block, b_pkt);
	struct nic_pool *np = CONTAINER_OF(p->p_pool, struct nic_pool, np_pool);
	struct pkt_ext *ext = p->p_ext;

	if (ext == &b->b_ext) {
		/* The only holder needs no atomic arithmetic: nobody else is
		 * left who could take another reference. */
		if (pkt_writable(p)) {
			block_free(np, b);
		} else {
			pkt_ext_drop(ext);
		}
		return;
	}
	block_free(np, b);
	if (ext != NULL) {
		pkt_ext_drop(ext);
	}
}

struct pkt_pool *
nic_pool_new(uint64_t limit)
{
	struct nic_pool *np =
	    aligned_alloc(64, (sizeof(*np) + 63) & ~(size_t)63);

	if (np == NULL) {
		return NULL;
	}
	memset(np, 0, sizeof(*np));
	np->np_pool.pp_ops = &pool_ops;
	np->np_limit = limit;
	return &np->np_pool;
}

void
nic_pool_free(struct pkt_pool *pool)
{
	struct nic_pool *np;
	int_fast64_t home = 1;

	if (pool == NULL) {
		return;
	}
	np = CONTAINER_OF(pool, struct nic_pool, np_pool);
	/* The extra one is this function's own hold on the pool. */
	atomic_store_explicit(&np->np_left, (int_fast64_t)np->np_blocks + 1,
	    memory_order_release);
	for (int i = 0; i <= POOL_HUGE; i++) {
		struct pool_class *c = &np->np_class[i];
		struct block *list[2] = { c->c_local,
			atomic_exchange_explicit(&c->c_remote, POOL_CLOSED,
			    memory_order_acq_rel) };

		c->c_local = NULL;
		for (int j = 0; j < 2; j++) {
			while (list[j] != NULL) {
				struct block *b = list[j];

				list[j] = b->b_next;
				free(b);
				home++;
			}
		}
	}
	if (atomic_fetch_sub_explicit(&np->np_left, home,
		memory_order_acq_rel) == home) {
		pool_destroy(np);
	}
}

void
nic_pool_stats(struct pkt_pool *pool, struct nic_pool_stats *out)
{
	struct nic_pool *np = CONTAINER_OF(pool, struct nic_pool, np_pool);
	uint64_t active = 0;

	for (int i = 0; i <= POOL_HUGE; i++) {
		struct pool_class *c = &np->np_class[i];
		/* Frees first: a difference taken while others work may be
		 * too large by what they did meanwhile, never negative. */
		uint64_t frees =
		    atomic_load_explicit(&c->c_frees, memory_order_acquire);

		active += stat_read(&c->c_allocs) - frees;
	}
	out->active = active;
	out->bytes = stat_read(&np->np_bytes);
	out->limit = np->np_limit;
	out->fails = stat_read(&np->np_fails);
}

bool
pkt_copyout(const struct pkt *p, uint32_t off, uint32_t len, void *dst)
{
	uint8_t *to = dst;

	for (; p != NULL && len > 0; p = p->p_next) {
		uint32_t n;

		if (off >= p->p_len) {
			off -= p->p_len;
			continue;
		}
		n = MIN_OF(p->p_len - off, len);
		memcpy(to, p->p_data + off, n);
		to += n;
		len -= n;
		off = 0;
	}
	return len == 0;
}

uint32_t
pkt_nbufs(const struct pkt *p)
{
	uint32_t n = 0;

	for (; p != NULL; p = p->p_next) {
		n++;
	}
	return n;
}

int
pkt_iov(const struct pkt *p, struct iovec *iov, int max)
{
	int n = 0;

	for (; p != NULL; p = p->p_next) {
		if (p->p_len == 0) {
			continue;
		}
		if (n == max) {
			return -1;
		}
		iov[n].iov_base = p->p_data;
		iov[n].iov_len = p->p_len;
		n++;
	}
	return n;
}

void
pkt_copymeta(struct pkt *to, const struct pkt *from)
{
	to->p_time = from->p_time;
	to->p_pktlen = from->p_pktlen;
	to->p_flowid = from->p_flowid;
	to->p_origin = from->p_origin;
	to->p_csum_start = from->p_csum_start;
	to->p_csum_offset = from->p_csum_offset;
	to->p_gso_size = from->p_gso_size;
	to->p_hdrlen = from->p_hdrlen;
	to->p_gso_type = from->p_gso_type;
	to->p_flags = from->p_flags;
	to->p_svc = from->p_svc;
}

struct pkt *
pkt_flatten(const struct pkt *p, struct pkt_pool *pool, uint32_t headroom)
{
	struct pkt *flat;

	if (p->p_pktlen > UINT32_MAX - headroom) {
		return NULL;
	}
	flat = pkt_alloc(pool, headroom + p->p_pktlen, headroom);
	if (flat == NULL) {
		return NULL;
	}
	if (!pkt_copyout(p, 0, p->p_pktlen, flat->p_data)) {
		pkt_free(flat);
		return NULL;
	}
	pkt_copymeta(flat, p);
	flat->p_len = p->p_pktlen;
	return flat;
}
