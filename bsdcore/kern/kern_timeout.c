/*
 * kern_timeout.c - the heap behind callout.h.
 *
 * A 4-ary min-heap on c_key. c_time may be later than c_key (the timer was
 * pushed out or stopped): such an entry is re-keyed or removed when it reaches
 * the top. Room for every live callout is reserved when its owner is made, so
 * arming never allocates. Equal deadlines fire in the order they were keyed
 * (c_seq), which makes runs repeatable.
 */
#include "bsdcore/sys/kernel.h"

#define HEAP_D 4u
#define CALLOUT_BUDGET 256u /* per turn, so that input is not starved */

struct heapent {
	uint64_t he_key;
	uint64_t he_seq;
	struct callout *he_c;
};

struct callout_heap {
	struct heapent *ch_v;
	uint32_t ch_n; /* entries */
	uint32_t ch_cap;
	uint32_t ch_reserved; /* callouts that may want a place */
	uint64_t ch_seq;
};

int
callout_sysinit(struct stack *s)
{
	s->s_callouts = calloc(1, sizeof(*s->s_callouts));
	return s->s_callouts != NULL ? 0 : ENOMEM;
}

void
callout_sysfini(struct stack *s)
{
	if (s->s_callouts != NULL) {
		free(s->s_callouts->ch_v);
		free(s->s_callouts);
		s->s_callouts = NULL;
	}
}

uint32_t
callout_count(const struct stack *s)
{
	return s->s_callouts->ch_n;
}

int
callout_reserve(struct stack *s, int n)
{
	struct callout_heap *h = s->s_callouts;
	uint32_t want;

	if (n < 0) {
		KASSERT(h->ch_reserved >= (uint32_t)-n);
		h->ch_reserved -= (uint32_t)-n;
		return 0;
	}
	want = h->ch_reserved + (uint32_t)n;
	if (want > h->ch_cap) {
		uint32_t cap = u32max(64, h->ch_cap * 2);
		struct heapent *v;

		cap = u32max(cap, want);
		v = realloc(h->ch_v, cap * sizeof(*v));
		if (v == NULL) {
			return ENOBUFS;
		}
		h->ch_v = v;
		h->ch_cap = cap;
	}
	h->ch_reserved = want;
	return 0;
}

static bool
he_before(const struct heapent *a, const struct heapent *b)
{
	return a->he_key != b->he_key ? a->he_key < b->he_key :
					a->he_seq < b->he_seq;
}

static void
heap_place(struct callout_heap *h, uint32_t i, struct heapent e)
{
	h->ch_v[i] = e;
	e.he_c->c_idx = i + 1;
}

static void
heap_up(struct callout_heap *h, uint32_t i, struct heapent e)
{
	while (i > 0) {
		uint32_t parent = (i - 1) / HEAP_D;

		if (!he_before(&e, &h->ch_v[parent])) {
			break;
		}
		heap_place(h, i, h->ch_v[parent]);
		i = parent;
	}
	heap_place(h, i, e);
}

static void
heap_down(struct callout_heap *h, uint32_t i, struct heapent e)
{
	for (;;) {
		uint32_t first = i * HEAP_D + 1, best;

		if (first >= h->ch_n) {
			break;
		}
		best = first;
		for (uint32_t k = first + 1; k < first + HEAP_D && k < h->ch_n;
		    k++) {
			if (he_before(&h->ch_v[k], &h->ch_v[best])) {
				best = k;
			}
		}
		if (!he_before(&h->ch_v[best], &e)) {
			break;
		}
		heap_place(h, i, h->ch_v[best]);
		i = best;
	}
	heap_place(h, i, e);
}

static void
heap_remove(struct callout_heap *h, uint32_t i)
{
	struct heapent last = h->ch_v[--h->ch_n];

	h->ch_v[i].he_c->c_idx = 0;
	if (i == h->ch_n) {
		return;
	}
	if (i > 0 && he_before(&last, &h->ch_v[(i - 1) / HEAP_D])) {
		heap_up(h, i, last);
	} else {
		heap_down(h, i, last);
	}
}

void
callout_init(struct callout *c, void (*fn)(struct stack *, void *), void *arg)
{
	*c = (struct callout){
		.c_time = CALLOUT_NEVER, .c_fn = fn, .c_arg = arg
	};
}

static void
heap_key(struct callout_heap *h, struct callout *c, uint64_t key)
{
	struct heapent e = { .he_key = key, .he_seq = h->ch_seq++, .he_c = c };

	c->c_key = key;
	if (c->c_idx == 0) {
		KASSERT(h->ch_n < h->ch_cap);
		heap_up(h, h->ch_n++, e);
	} else {
		uint32_t i = c->c_idx - 1;

		if (he_before(&e, &h->ch_v[i])) {
			heap_up(h, i, e);
		} else {
			heap_down(h, i, e);
		}
	}
}

void
callout_reset(struct stack *s, struct callout *c, uint64_t when)
{
	KASSERT(when != CALLOUT_NEVER);
	c->c_time = when;
	if (c->c_idx == 0 || when < c->c_key) {
		heap_key(s->s_callouts, c, when);
	}
}

void
callout_stop(struct callout *c)
{
	c->c_time = CALLOUT_NEVER;
}

void
callout_drain(struct stack *s, struct callout *c)
{
	c->c_time = CALLOUT_NEVER;
	if (c->c_idx != 0) {
		heap_remove(s->s_callouts, c->c_idx - 1);
	}
}

bool
callout_run(struct stack *s)
{
	struct callout_heap *h = s->s_callouts;
	uint64_t now = s->s_now;

	for (uint32_t budget = CALLOUT_BUDGET; h->ch_n > 0; budget--) {
		struct callout *c = h->ch_v[0].he_c;

		if (c->c_key > now) {
			return false;
		}
		if (budget == 0) {
			return true;
		}
		if (c->c_time == CALLOUT_NEVER) {
			heap_remove(h, 0);
		} else if (c->c_time > c->c_key) {
			heap_key(h, c, c->c_time);
		} else {
			heap_remove(h, 0);
			c->c_time = CALLOUT_NEVER;
			c->c_fn(s, c->c_arg);
		}
	}
	return false;
}

uint64_t
callout_next(const struct stack *s)
{
	const struct callout_heap *h = s->s_callouts;

	return h->ch_n > 0 ? h->ch_v[0].he_key : CALLOUT_NEVER;
}
