/*
 * callout.h - timers, driven by the stack's notion of now.
 *
 * A 4-ary heap of deadlines. callout_reset() to a later time and
 * callout_stop() do not touch the heap: the entry stays where it is and is put
 * right when it comes up, so re-arming a retransmission timer on every ACK
 * costs one store. Whoever frees the memory of a callout calls callout_drain()
 * first.
 */
#ifndef BSDCORE_SYS_CALLOUT_H
#define BSDCORE_SYS_CALLOUT_H

#include "bsdcore/sys/systm.h"

struct stack;

#define CALLOUT_NEVER UINT64_MAX

struct callout {
	uint64_t c_time; /* when it is due; CALLOUT_NEVER: stopped */
	uint64_t c_key;	 /* where the heap has it; <= c_time */
	uint32_t c_idx;	 /* place in the heap + 1; 0 not in it */
	void (*c_fn)(struct stack *, void *);
	void *c_arg;
};

void callout_init(struct callout *c, void (*fn)(struct stack *, void *),
    void *arg);
/* Arm for the absolute time `when` (ns). Cannot fail: the heap grows when
 * objects are made (callout_reserve), never here. */
void callout_reset(struct stack *s, struct callout *c, uint64_t when);
void callout_stop(struct callout *c);
void callout_drain(struct stack *s, struct callout *c);

static inline bool
callout_pending(const struct callout *c)
{
	return c->c_time != CALLOUT_NEVER;
}

/* Make room for n more callouts (negative: give it back). 0 or ENOBUFS. */
int callout_reserve(struct stack *s, int n);
/* Run what is due at s_now; budgeted, returns true if more is due. */
bool callout_run(struct stack *s);
/* The earliest key in the heap, or CALLOUT_NEVER. */
uint64_t callout_next(const struct stack *s);

#endif
