/*
 * fsw_ring.h - packets on their way to one port, and the bell beside them.
 *
 * Whoever holds the flowswitch's lock produces, the port's driver consumes
 * without it:
 *
 *	producer: slot = p; tail (A release)	consumer: tail (B acquire); slot
 *	consumer: slot read; head (C release)	producer: head (D acquire); slot
 *
 * The bell is an eventfd. A consumer that finds its ring empty arms it and
 * looks again; who publishes and finds it armed disarms it and rings.
 * "Publish, look at the bell" (E) and "arm, look at the ring" (F) are
 * sequentially consistent, so one of the two sees the other. r_event is
 * published in the same way: a reason to wake up that is no packet. A ring
 * without a descriptor (r_fd -1) has its consumer woken by other means.
 */
#ifndef SKYWALK_FLOWSWITCH_FSW_RING_H
#define SKYWALK_FLOWSWITCH_FSW_RING_H

#include <stdlib.h>
#include <unistd.h>

#include "nic/pkt.h"

struct ring {
	/* The producer's. */
	_Alignas(64) atomic_uint r_tail;
	uint32_t r_next; /* the tail that is published next */
	uint32_t r_head_seen;
	/* The consumer's. */
	_Alignas(64) atomic_uint r_head;
	uint32_t r_tail_seen;
	/* Both. */
	_Alignas(64) atomic_bool r_armed;
	atomic_bool r_event;
	atomic_bool r_dirty; /* r_fd was written to; used if r_ownfd */
	bool r_ownfd;	     /* only we read it */
	int r_fd;	     /* or -1 */
	uint32_t r_mask;
	struct pkt **r_slot;
};

static inline bool
ring_init(struct ring *r, uint32_t want, int fd, bool own)
{
	uint32_t n = 16;

	while (n < want) {
		n *= 2;
	}
	r->r_slot = calloc(n, sizeof(struct pkt *));
	r->r_mask = n - 1;
	r->r_fd = fd;
	r->r_ownfd = own;
	/* Nobody is awake yet. */
	atomic_init(&r->r_armed, true);
	return r->r_slot != NULL;
}

/* Make the consumer's fd readable. r_dirty is set before, because the woken
 * consumer may run first, and after, because it may have looked between. */
static inline void
ring_wake(struct ring *r)
{
	const uint64_t one = 1;

	if (r->r_fd < 0) {
		return;
	}
	atomic_store_explicit(&r->r_dirty, true, memory_order_release);
	if (write(r->r_fd, &one, sizeof(one)) == (ssize_t)sizeof(one)) {
		atomic_store_explicit(&r->r_dirty, true, memory_order_release);
	}
}

/* After ring_publish or an event: true if the consumer may be asleep; then the
 * caller wakes it. */
static inline bool
ring_disarm(struct ring *r)
{
	return atomic_load(&r->r_armed) && /* (E) */
	    atomic_exchange_explicit(&r->r_armed, false, memory_order_acq_rel);
}

/* false: full. Not seen by the consumer before ring_publish(). */
static inline bool
ring_put(struct ring *r, struct pkt *p)
{
	if (r->r_next - r->r_head_seen > r->r_mask) {
		r->r_head_seen = atomic_load_explicit(&r->r_head,
		    memory_order_acquire); /* (D) */
		if (r->r_next - r->r_head_seen > r->r_mask) {
			return false;
		}
	}
	r->r_slot[r->r_next++ & r->r_mask] = p;
	return true;
}

/* Slots that are free for the producer. */
static inline uint32_t
ring_room(struct ring *r)
{
	r->r_head_seen =
	    atomic_load_explicit(&r->r_head, memory_order_acquire); /* (D) */
	return r->r_mask + 1 - (r->r_next - r->r_head_seen);
}

static inline void
ring_publish(struct ring *r)
{
	atomic_store(&r->r_tail, r->r_next); /* (A) (E) */
}

static inline uint32_t
ring_get(struct ring *r, struct pkt **v, uint32_t n)
{
	uint32_t head = atomic_load_explicit(&r->r_head, memory_order_relaxed);

	if (r->r_tail_seen - head < n) {
		r->r_tail_seen = atomic_load_explicit(&r->r_tail,
		    memory_order_acquire); /* (B) */
	}
	if (r->r_tail_seen - head < n) {
		n = r->r_tail_seen - head;
	}
	for (uint32_t i = 0; i < n; i++) {
		v[i] = r->r_slot[(head + i) & r->r_mask];
	}
	if (n > 0) {
		atomic_store_explicit(&r->r_head, head + n,
		    memory_order_release); /* (C) */
	}
	return n;
}

/* Any thread. */
static inline bool
ring_empty(const struct ring *r)
{
	return atomic_load(&r->r_tail) == /* (F) */
	    atomic_load_explicit(&r->r_head, memory_order_relaxed);
}

/* The consumer found nothing: quieten the fd and arm the bell. True when
 * something has come meanwhile; then the bell has rung too. */
static inline bool
ring_arm(struct ring *r)
{
	uint64_t rings;
	ssize_t got;

	if (r->r_ownfd &&
	    atomic_load_explicit(&r->r_dirty, memory_order_relaxed) &&
	    atomic_exchange_explicit(&r->r_dirty, false, memory_order_acq_rel)) {
		got = read(r->r_fd, &rings, sizeof(rings));
		(void)got; /* nothing: read before r_dirty was set */
	}
	if (!atomic_load_explicit(&r->r_armed, memory_order_relaxed)) {
		atomic_store(&r->r_armed, true); /* (F) */
	}
	if (!ring_empty(r)) {
		return true;
	}
	if (atomic_load(&r->r_event) && atomic_exchange(&r->r_event, false) &&
	    r->r_fd >= 0 && ring_disarm(r)) {
		/* Once more round, to see what it is. Without a descriptor
		 * the consumer looks after this call anyhow. */
		ring_wake(r);
	}
	return false;
}

/* Consumer or nobody: free what was never received. */
static inline void
ring_fini(struct ring *r)
{
	struct pkt *p;

	while (r->r_slot != NULL && ring_get(r, &p, 1) == 1) {
		pkt_free(p);
	}
	free(r->r_slot);
	if (r->r_ownfd && r->r_fd >= 0) {
		close(r->r_fd);
	}
}

#endif
