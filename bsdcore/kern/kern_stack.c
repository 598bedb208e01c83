/*
 * kern_stack.c - into the stack and out of it: the lock, the time, and what
 * stack_leave() owes (see sys/stack.h).
 */
#include <time.h>

#include "bsdcore/net/if.h"
#include "bsdcore/sys/kernel.h"

uint64_t
stack_clock(struct stack *s)
{
	return s->s_clock != NULL ? s->s_clock(s->s_clock_arg) : s->s_now;
}

void
stack_enter(struct stack *s)
{
	pthread_mutex_lock(&s->s_lock);
	if (s->s_clock != NULL) {
		uint64_t now = s->s_clock(s->s_clock_arg);

		if (now > s->s_now) {
			s->s_now = now;
		}
	}
}

/* Rounds of relay work and the packets it makes; what is left is netisr's. */
#define LEAVE_ROUNDS 8

void
stack_leave(struct stack *s)
{
	struct waiter *list;
	bool kick;

	if (!(s->s_flags & (STACK_DEAD | STACK_GONE))) {
		if_flush(s);
		for (int i = 0; i < LEAVE_ROUNDS && relay_run(s); i++) {
			if_flush(s);
		}
		mbpool_reap(s->s_mb);
		if (mbpool_wantdrain(s->s_mb)) {
			domain_drain(s);
		}
	}
	list = s->s_wakeup;
	s->s_wakeup = NULL;
	kick = (s->s_flags & STACK_THREADED) &&
	    (s->s_relay_work != NULL || netisr_needs_kick(s));
	if (kick || list != NULL) { /* bsd_stack_free() waits for us */
		atomic_fetch_add_explicit(&s->s_kicking, 1,
		    memory_order_relaxed);
	}
	pthread_mutex_unlock(&s->s_lock);
	if (!kick && list == NULL) {
		return;
	}
	waiters_release(s, list);
	if (kick) {
		netisr_kick(s);
	}
	atomic_fetch_sub_explicit(&s->s_kicking, 1, memory_order_release);
}

void
stack_unhold(struct stack *s)
{
	bool last = --s->s_holders == 0;

	pthread_mutex_unlock(&s->s_lock);
	if (last) {
		pthread_mutex_destroy(&s->s_lock);
		free(s);
	}
}
