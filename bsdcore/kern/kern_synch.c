/*
 * kern_synch.c - waiting for a socket, and being woken.
 *
 * A waiter lives on the C stack of its thread. It registers under the stack
 * lock, so nothing that happens after the look that found the socket not
 * ready is missed, and sleeps on w_word:
 *
 *	0 spinning --(A) waker--> 1 woken
 *	0 --(B) waiter--> 2 asleep --(A)--> 1, and the waker calls futex_wake
 *
 * Wakers collect waiters on s_wakeup under the lock; stack_leave() takes the
 * list and waiters_release() does (A) after the lock is gone, so a woken thread
 * does not run into it. From then on the waiter's memory belongs to its thread
 * again. A waiter that gives up by itself (deadline, signal) while it is
 * on a list taken already waits for (A), which is imminent.
 *
 * A thread that waits alone for a peer on a wire does not sleep on its word
 * but in netisr's place (waiter_drive): one wake-up instead of two.
 *
 * Spinning is worth it where answers come within microseconds and there is a
 * core to spare; where the partner needs the core it costs dearly. A spin in
 * vain doubles the number of waits before the socket's next one; a run of
 * spins that paid forgets that.
 *
 * Handing over (kern.ipc.handoff, off by default) is for interpreters with one
 * big lock. The thread that woke us is on its way back to its interpreter; if we
 * went back at once, we would take the big lock just before it wants it, it would
 * sleep for it, and each exchange would cost two sleeps. So a spinning waiter
 * that has been woken stays until some thread has come to wait here, which is
 * when that thread has let go of its big lock; but at most the time given, and
 * only where it has paid.
 *
 * The sleep is a raw futex call and not a condition variable because a signal
 * has to end it. A signal whose handler ran during the spin would be missed
 * by that, so the first sleep after a spin is short, and answers EINTR.
 */
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "bsdcore/net/if.h"
#include "bsdcore/sys/kernel.h"

#define SPIN_BACKOFF 12 /* waits skipped after spins in vain: 2^n at most */
#define SPIN_STEP 3	/* added to n by each */
#define SPIN_GOOD 64	/* spins that paid, in a row, to forget those */
#define HAND_FULL 64	/* the same for handing over; a wakeup without it */
#define HAND_MIN 32	/* earns one, so that it is tried now and then */
#define HAND_COST 16
#define SPIN_PAUSES 32 /* looks between two readings of the clock */
#define FIRST_SLEEP (20 * NSEC_PER_MSEC)
#define LONGEST_SLEEP (3600 * NSEC_PER_SEC)

static uint64_t
synch_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

static inline void
cpu_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

static int
futex_sleep(_Atomic uint32_t *word, uint64_t ns)
{
	struct timespec ts = { (time_t)(ns / NSEC_PER_SEC),
		(long)(ns % NSEC_PER_SEC) };

	return syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, 2, &ts, NULL, 0) ==
		-1 ?
	    errno :
	    0;
}

void
waiters_release(struct stack *s, struct waiter *list)
{
	while (list != NULL) {
		struct waiter *w = list;
		uint32_t old;

		bool driver = w->w_driver;

		list = w->w_next;
		/* (A) w may be gone once the word is 1; its address may still be
		 * passed to futex_wake, which at worst wakes nobody. */
		old = atomic_exchange_explicit(&w->w_word, 1,
		    memory_order_acq_rel);
		if (driver) {
			netisr_kick(s);
		} else if (old == 2) {
			syscall(SYS_futex, &w->w_word, FUTEX_WAKE_PRIVATE, 1,
			    NULL, NULL, 0);
		}
	}
}

void
waitlist_wake(struct stack *s, struct waitpoint *list, int events)
{
	for (struct waitpoint *wp = list; wp != NULL; wp = wp->wp_next) {
		struct waiter *w = wp->wp_waiter;

		if ((wp->wp_events & events) != 0 && !w->w_queued) {
			w->w_queued = true;
			w->w_next = s->s_wakeup;
			s->s_wakeup = w;
		}
	}
}

void
so_wake_waiters(struct socket *so, int events)
{
	if (so->so_waiters != NULL) {
		so->so_rounds = netisr_inround(so->so_stack) ?
		    (uint8_t)u32min(so->so_rounds + 1u, UINT8_MAX) :
		    0;
	}
	waitlist_wake(so->so_stack, so->so_waiters, events);
}

/* Spin until woken or ns have passed; true: woken. */
static bool
waiter_spin(struct waiter *w, uint64_t ns)
{
	uint64_t end = synch_now() + ns;

	do {
		for (int i = 0; i < SPIN_PAUSES; i++) {
			if (atomic_load_explicit(&w->w_word,
				memory_order_acquire) == 1) {
				return true;
			}
			cpu_pause();
		}
	} while (synch_now() < end);
	return false;
}

/* Woken: stay until somebody else waits, at most ns. true: somebody does. */
static bool
waiter_handover(struct so_state *sos, uint32_t waits, uint64_t ns)
{
	uint64_t end = synch_now() + ns;

	do {
		for (int i = 0; i < SPIN_PAUSES; i++) {
			if (atomic_load_explicit(&sos->sos_waits,
				memory_order_relaxed) != waits) {
				return true;
			}
			cpu_pause();
		}
	} while (synch_now() < end);
	return false;
}

/* Sleep once; 0 woken, else EINTR or EWOULDBLOCK. No lock held. */
static int
waiter_sleep(struct stack *s, struct waiter *w, uint64_t deadline, bool spun)
{
	uint32_t word = 0;

	if (!atomic_compare_exchange_strong_explicit(&w->w_word, &word, 2,
		memory_order_acq_rel, memory_order_acquire)) { /* (B) */
		return 0;
	}
	for (;;) {
		uint64_t now = stack_clock(s), ns;
		int error;

		if (now >= deadline) {
			return EWOULDBLOCK;
		}
		ns = u64min(deadline - now, spun ? FIRST_SLEEP : LONGEST_SLEEP);
		error = futex_sleep(&w->w_word, ns);
		if (atomic_load_explicit(&w->w_word, memory_order_acquire) == 1) {
			return 0;
		}
		if (error == EINTR ||
		    (error == ETIMEDOUT && spun && ns == FIRST_SLEEP)) {
			return EINTR;
		}
	}
}

static void
spin_account(struct spin *sp, bool paid)
{
	if (!paid) {
		sp->sp_good = 0;
		sp->sp_backoff =
		    (uint8_t)u32min(SPIN_BACKOFF, sp->sp_backoff + SPIN_STEP);
		sp->sp_skip = (uint16_t)(1u << sp->sp_backoff);
	} else if (sp->sp_good < SPIN_GOOD) {
		sp->sp_good++;
	} else {
		sp->sp_backoff = 0;
	}
}

/* Shall this wait begin with a spin? */
static bool
spin_wanted(const struct so_state *sos, struct spin *sp)
{
	if (sp == NULL || sos->sos_spin == 0 || sos->sos_ncpu < 2) {
		return false;
	}
	if (sp->sp_skip > 0) {
		sp->sp_skip--;
		return false;
	}
	return true;
}

static void
hand_account(uint8_t *credit, bool tried, bool paid)
{
	if (paid) {
		*credit = HAND_FULL;
	} else if (tried) {
		*credit -= (uint8_t)u32min(*credit, HAND_COST);
	} else if (*credit < HAND_MIN) {
		(*credit)++;
	}
}

/* Drop the lock, wait for w, retake it. */
static int
waiter_wait(struct stack *s, struct waiter *w, struct spin *spin,
    uint64_t deadline)
{
	struct so_state *sos = s->s_so;
	uint64_t budget = (uint64_t)sos->sos_spin;
	uint64_t hand = (uint64_t)sos->sos_handoff;
	bool spun = spin_wanted(sos, spin), woken = false;
	bool handed = false, tried = false;
	uint32_t waits = 1 +
	    atomic_fetch_add_explicit(&sos->sos_waits, 1, memory_order_relaxed);
	int error = 0;

	stack_leave(s);
	if (spun) {
		woken = waiter_spin(w, budget);
		if (woken && hand > 0 && spin->sp_hand >= HAND_MIN) {
			tried = true;
			handed = waiter_handover(sos, waits, hand);
		}
	}
	if (!woken) {
		error = waiter_sleep(s, w, deadline, spun);
	}
	stack_enter(s);
	sos->sos_slept += !woken;
	if (spun) {
		sos->sos_spun += woken;
		sos->sos_spunlost += !woken;
		sos->sos_handed += handed;
		sos->sos_handlost += tried && !handed;
		spin_account(spin, woken);
		hand_account(&spin->sp_hand, tried, handed);
	}
	return error;
}

/* The same in netisr's place: the packet that w waits for wakes this thread. */
static int
waiter_drive(struct stack *s, struct waiter *w, uint64_t deadline)
{
	int error = 0;

	w->w_driver = true;
	while (!w->w_queued && error == 0) {
		error = s->s_now >= deadline ? EWOULDBLOCK :
					       netisr_drive(s, deadline);
	}
	netisr_drive_end(s);
	return error;
}

/* w has given up; see to it that nobody will touch it any more. Lock held.
 * true: it was woken all the same. */
static bool
waiter_retire(struct stack *s, struct waiter *w)
{
	if (!w->w_queued) {
		return false;
	}
	for (struct waiter **wp = &s->s_wakeup; *wp != NULL;
	    wp = &(*wp)->w_next) {
		if (*wp == w) {
			*wp = w->w_next;
			return true;
		}
	}
	while (atomic_load_explicit(&w->w_word, memory_order_acquire) != 1) {
		sched_yield();
	}
	return true;
}

static void
waitpoint_add(struct waitpoint **list, struct waitpoint *wp)
{
	wp->wp_next = *list;
	wp->wp_prevp = list;
	if (*list != NULL) {
		(*list)->wp_prevp = &wp->wp_next;
	}
	*list = wp;
}

static void
waitpoint_del(struct waitpoint *wp)
{
	*wp->wp_prevp = wp->wp_next;
	if (wp->wp_next != NULL) {
		wp->wp_next->wp_prevp = wp->wp_prevp;
	}
}

static bool
waiter_pointless(const struct stack *s, uint64_t deadline)
{
	return s->s_clock == NULL || s->s_now >= deadline;
}

int
waitlist_sleep(struct stack *s, struct waitpoint **list, struct spin *spin,
    uint64_t deadline)
{
	struct waiter w = { .w_next = NULL };
	struct waitpoint wp = { .wp_waiter = &w, .wp_events = -1 };
	int error;

	if (waiter_pointless(s, deadline)) {
		return EWOULDBLOCK;
	}
	waitpoint_add(list, &wp);
	error = waiter_wait(s, &w, spin, deadline);
	waitpoint_del(&wp);
	return waiter_retire(s, &w) ? 0 : error;
}

/* What we sent ourselves may be what we wait for. true: look again. */
static bool
sowait_flush(struct stack *s)
{
	const struct ifnet *lo = s->s_if->ifs_lo;

	if (lo == NULL || s->s_if->ifs_loq.mq_head == NULL) {
		return false;
	}
	if_flush(s);
	return true;
}

int
sowait_many(struct stack *s, struct waitpoint *v, int n, uint64_t deadline)
{
	struct waiter w = { .w_next = NULL };
	struct spin *spin = n == 1 ? &v[0].wp_so->so_spin : NULL;
	int error;

	if (sowait_flush(s)) {
		return 0;
	}
	if (waiter_pointless(s, deadline)) {
		return EWOULDBLOCK;
	}
	for (int i = 0; i < n; i++) {
		v[i].wp_waiter = &w;
		sohold(v[i].wp_so);
		waitpoint_add(&v[i].wp_so->so_waiters, &v[i]);
	}
	if (n == 1 && netisr_drive_begin(s, v[0].wp_so->so_rounds)) {
		error = waiter_drive(s, &w, deadline);
	} else {
		error = waiter_wait(s, &w, spin, deadline);
	}
	for (int i = 0; i < n; i++) {
		waitpoint_del(&v[i]);
	}
	for (int i = 0; i < n; i++) {
		sorele(v[i].wp_so);
	}
	return waiter_retire(s, &w) ? 0 : error;
}

int
sowait(struct socket *so, int events, uint64_t deadline)
{
	struct waitpoint wp = { .wp_so = so,
		.wp_events = events | POLLERR | POLLHUP };

	return sowait_many(so->so_stack, &wp, 1, deadline);
}
