/*
 * kern_netisr.c - the netisr: who takes packets in and runs timers when no
 * caller happens to be inside the stack.
 *
 * One thread per stack, or bsd_run() doing the same by hand. A round
 * (netisr_run) takes bursts from the ports, runs watched descriptors, relays
 * and callouts, and pushes out what came of it, all within budgets. The
 * thread sleeps in epoll until a descriptor is ready or the next deadline
 * comes.
 *
 * Kicks. ni_until is the deadline the thread sleeps for, 0 while it is awake
 * or already kicked; written under the lock. Whoever leaves the stack compares
 * it with the deadline as it is now, and writes the eventfd only if that
 * moved before it. Timers are re-armed lazily (callout.h), so a busy
 * connection kicks once per timeout, not once per packet.
 *
 * Driving. Who sleeps in epoll is the driver: the thread, or one application
 * thread that waits for a packet, or for a moment nobody (vacant). The thread
 * gives the place up when asked (ni_wanted) and parks on a futex; while waiters
 * come and go it looks every NETISR_PARK whether the place has been vacant since
 * its last look, and takes it back. A waiter that stays long lets it sleep on.
 *
 * Watches. What epoll reports is a pointer to a struct watch, fetched without
 * the lock. A watch deleted meanwhile is marked dead and kept on ni_dead until
 * the round that may still hold its pointer is over. Ports and the eventfd
 * are watches too.
 *
 * By hand, ports are simply polled every round and need no descriptor in the
 * epoll set.
 */
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "bsdcore/net/if.h"
#include "bsdcore/netinet/in_flow.h"
#include "bsdcore/sys/kernel.h"
#include "bsdcore/sys/sysctl.h"

#define NETISR_EVENTS 64
/* Turns of relay work a round: two relays joined by lo0 feed each other. */
#define NETISR_RELAYS 16
#define NETISR_STACK (1u << 20) /* bytes of the thread's stack */
/* A port whose descriptor says "ready" and then is not is left alone so long:
 * broken ports must not spin the thread. */
#define NETISR_PAUSE (20 * NSEC_PER_MSEC)
/* A vacant place is filled again after twice this at most: how late a timer or a
 * packet can be when its waiter has just gone. */
#define NETISR_PARK NSEC_PER_MSEC
#define NETISR_CREDIT 16 /* wakes by a round that make driving worth a try */
#define NETISR_TXRETRY (100 * NSEC_PER_USEC)

struct netisr_port {
	struct watch np_watch; /* wa_fd -1: polled */
	LIST_ENTRY(netisr_port) np_link;
	struct ifnet *np_ifp;
	bool np_watched; /* in the epoll set */
	bool np_ready;	 /* may have packets */
	bool np_wantwrite;
	bool np_liar;	     /* polls writable without room: go by the clock */
	uint64_t np_resume;  /* paused until then; 0 not */
	uint64_t np_txretry; /* look for room then; 0 not */
};

enum netisr_driver { DRIVER_THREAD, DRIVER_WAITER, DRIVER_VACANT };

struct netisr {
	struct stack *ni_stack;
	enum netisr_driver ni_driver;
	bool ni_wanted;		  /* the thread shall give its place up */
	bool ni_parked;		  /* it sleeps on ni_word without a limit */
	uint32_t ni_turns;	  /* times a waiter took the place */
	_Atomic uint32_t ni_word; /* bumped to end its sleep */
	int ni_epfd, ni_evfd;	  /* -1: not made yet */
	bool ni_running;	  /* there is a thread */
	bool ni_inround;
	atomic_bool ni_stop;
	uint64_t ni_until;
	uint32_t ni_nwatch; /* watches beside ports and the eventfd */
	pthread_t ni_thread;
	struct watch ni_kick;
	struct watch *ni_dead;
	LIST_HEAD(, netisr_port) ni_ports;
	uint64_t ni_rounds, ni_kicks, ni_events, ni_pauses, ni_drives;
};

/* clang-format off */
static const struct stat_def netisr_stats[] = {
	{ "netisr.rounds", offsetof(struct netisr, ni_rounds) },
	{ "netisr.kicks", offsetof(struct netisr, ni_kicks) },
	{ "netisr.events", offsetof(struct netisr, ni_events) },
	{ "netisr.pauses", offsetof(struct netisr, ni_pauses) },
	{ "netisr.drives", offsetof(struct netisr, ni_drives) },
};
/* clang-format on */

int
netisr_init(struct stack *s)
{
	struct netisr *ni = calloc(1, sizeof(*ni));
	int error;

	if (ni == NULL) {
		return ENOMEM;
	}
	ni->ni_stack = s;
	ni->ni_epfd = ni->ni_evfd = -1;
	LIST_INIT(&ni->ni_ports);
	error = stat_register(s, netisr_stats, nitems(netisr_stats), ni);
	if (error != 0) {
		free(ni);
		return error;
	}
	s->s_netisr = ni;
	return 0;
}

static void
netisr_bury(struct netisr *ni)
{
	struct watch *w;

	while ((w = ni->ni_dead) != NULL) {
		ni->ni_dead = w->wa_next;
		if (w->wa_free != NULL) {
			w->wa_free(w);
		}
	}
}

void
netisr_fini(struct stack *s)
{
	struct netisr *ni = s->s_netisr;

	if (ni == NULL) {
		return;
	}
	KASSERT(!ni->ni_running);
	netisr_bury(ni);
	if (ni->ni_evfd >= 0) {
		close(ni->ni_evfd);
	}
	if (ni->ni_epfd >= 0) {
		close(ni->ni_epfd);
	}
	free(ni);
	s->s_netisr = NULL;
}

/* Watches. A forked child shares the epoll set with its parent and must not
 * touch it (STACK_DEAD). */
static int
netisr_epoll(struct netisr *ni, int op, struct watch *w, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = w };

	if (ni->ni_stack->s_flags & STACK_DEAD) {
		return 0;
	}
	if (ni->ni_epfd < 0) {
		ni->ni_epfd = epoll_create1(EPOLL_CLOEXEC);
		if (ni->ni_epfd < 0) {
			return errno;
		}
	}
	w->wa_events = events;
	return epoll_ctl(ni->ni_epfd, op, w->wa_fd, &ev) == 0 ? 0 : errno;
}

int
watch_add(struct stack *s, struct watch *w, uint32_t events)
{
	int error = netisr_epoll(s->s_netisr, EPOLL_CTL_ADD, w, events);

	w->wa_dead = false;
	if (error == 0) {
		s->s_netisr->ni_nwatch++;
	}
	return error;
}

int
watch_mod(struct stack *s, struct watch *w, uint32_t events)
{
	return netisr_epoll(s->s_netisr, EPOLL_CTL_MOD, w, events);
}

/* w is out of the epoll set: free it when nobody can hold its pointer. */
static void
watch_retire(struct netisr *ni, struct watch *w)
{
	w->wa_dead = true;
	if (ni->ni_running || ni->ni_inround) {
		w->wa_next = ni->ni_dead;
		ni->ni_dead = w;
	} else if (w->wa_free != NULL) {
		w->wa_free(w);
	}
}

void
watch_del(struct stack *s, struct watch *w)
{
	struct netisr *ni = s->s_netisr;

	if (w->wa_dead) {
		return;
	}
	(void)netisr_epoll(ni, EPOLL_CTL_DEL, w, 0);
	ni->ni_nwatch--;
	watch_retire(ni, w);
}

/* Ports. */

static struct netisr_port *
netisr_port(struct ifnet *ifp)
{
	struct netisr_port *np;

	LIST_FOREACH (np, &ifp->if_stack->s_netisr->ni_ports, np_link) {
		if (np->np_ifp == ifp) {
			break;
		}
	}
	return np;
}

static void
netisr_port_free(struct watch *w)
{
	free(w->wa_arg);
}

static void
netisr_port_event(struct stack *s, struct watch *w, uint32_t revents)
{
	struct netisr_port *np = w->wa_arg;

	if (revents & ~(uint32_t)EPOLLOUT) {
		np->np_ready = true;
	}
	if (np->np_wantwrite) {
		/* Some descriptors are never writable (an epoll one) and turn
		 * readable for this too. */
		if_restart(np->np_ifp);
		if ((revents & EPOLLOUT) &&
		    np->np_ifp->if_txblocked) { /* writable, yet it is not */
			np->np_liar = true;
			(void)netisr_epoll(s->s_netisr, EPOLL_CTL_MOD, w,
			    EPOLLIN);
			np->np_txretry = s->s_now + NETISR_TXRETRY;
		}
	}
}

/* Put the port into the epoll set; only a thread needs it there. */
static int
netisr_port_watch(struct netisr *ni, struct netisr_port *np)
{
	int error;

	if (np->np_watched || np->np_watch.wa_fd < 0 || !ni->ni_running) {
		return 0;
	}
	error = netisr_epoll(ni, EPOLL_CTL_ADD, &np->np_watch,
	    EPOLLIN |
		(np->np_wantwrite && !np->np_liar ? (uint32_t)EPOLLOUT : 0));
	np->np_watched = error == 0;
	return error;
}

static void
netisr_port_unwatch(struct netisr *ni, struct netisr_port *np)
{
	if (np->np_watched) {
		(void)netisr_epoll(ni, EPOLL_CTL_DEL, &np->np_watch, 0);
		np->np_watched = false;
	}
}

int
netisr_add_port(struct ifnet *ifp)
{
	struct netisr *ni = ifp->if_stack->s_netisr;
	struct netisr_port *np = calloc(1, sizeof(*np));
	int error;

	if (np == NULL) {
		return ENOMEM;
	}
	np->np_ifp = ifp;
	np->np_ready = true; /* something may be there already */
	np->np_watch.wa_fd = port_fd(ifp->if_port);
	np->np_watch.wa_fn = netisr_port_event;
	np->np_watch.wa_free = netisr_port_free;
	np->np_watch.wa_arg = np;
	error = netisr_port_watch(ni, np);
	if (error != 0) {
		free(np);
		return error;
	}
	LIST_INSERT_HEAD(&ni->ni_ports, np, np_link);
	return 0;
}

void
netisr_del_port(struct ifnet *ifp)
{
	struct netisr *ni = ifp->if_stack->s_netisr;
	struct netisr_port *np = netisr_port(ifp);

	if (np != NULL) {
		LIST_REMOVE(np, np_link);
		netisr_port_unwatch(ni, np);
		watch_retire(ni, &np->np_watch);
	}
}

void
netisr_want_write(struct ifnet *ifp, bool on)
{
	struct netisr_port *np = netisr_port(ifp);

	if (np == NULL) {
		return;
	}
	np->np_wantwrite = on;
	np->np_txretry = 0;
	if (np->np_liar) {
		np->np_txretry = on ? ifp->if_stack->s_now + NETISR_TXRETRY : 0;
	} else if (np->np_watched) {
		(void)netisr_epoll(ifp->if_stack->s_netisr, EPOLL_CTL_MOD,
		    &np->np_watch, EPOLLIN | (on ? (uint32_t)EPOLLOUT : 0));
	}
}

/* Take packets from one port; true: more may be there. */
static bool
netisr_port_run(struct netisr *ni, struct netisr_port *np)
{
	struct stack *s = ni->ni_stack;
	struct ifnet *ifp = np->np_ifp;
	uint64_t errors = ifp->if_data.ierrors, got = ifp->if_data.ipackets;

	if (np->np_resume != 0) {
		if (s->s_now < np->np_resume) {
			return false;
		}
		np->np_resume = 0;
		np->np_ready = true;
		(void)netisr_port_watch(ni, np);
	}
	if (ifp->if_txblocked &&
	    (!np->np_watched ||
		(np->np_txretry != 0 && s->s_now >= np->np_txretry))) {
		np->np_txretry = 0;
		if_restart(ifp);
	}
	if (np->np_watched && !np->np_ready &&
	    port_poll_at(ifp->if_port) > s->s_now) {
		return false;
	}
	np->np_ready = if_input_poll(ifp);
	if (ni->ni_running && ifp->if_data.ipackets == got &&
	    ifp->if_data.ierrors != errors) {
		netisr_port_unwatch(ni, np);
		np->np_resume = s->s_now + NETISR_PAUSE;
		ni->ni_pauses++;
	}
	return np->np_ready;
}

static void
netisr_dispatch(struct netisr *ni, const struct epoll_event *ev, int n)
{
	for (int i = 0; i < n; i++) {
		struct watch *w = ev[i].data.ptr;

		if (!w->wa_dead) {
			ni->ni_events++;
			w->wa_fn(ni->ni_stack, w, ev[i].events);
		}
	}
}

bool
netisr_run(struct stack *s)
{
	struct netisr *ni = s->s_netisr;
	struct netisr_port *np, *next;
	bool more = false;

	ni->ni_rounds++;
	ni->ni_inround = true;
	for (np = LIST_FIRST(&ni->ni_ports); np != NULL; np = next) {
		next = LIST_NEXT(np, np_link);
		more |= netisr_port_run(ni, np);
	}
	if (!ni->ni_running && ni->ni_nwatch > 0) {
		struct epoll_event ev[NETISR_EVENTS];
		int n = epoll_wait(ni->ni_epfd, ev, NETISR_EVENTS, 0);

		netisr_dispatch(ni, ev, n);
		more |= n == NETISR_EVENTS;
	}
	more |= callout_run(s);
	in_flowrun(s);
	if_flush(s);
	for (int i = 0; i < NETISR_RELAYS && relay_run(s); i++) {
		if_flush(s);
	}
	more |= s->s_relay_work != NULL;
	if (s->s_if->ifs_lo != NULL) {
		more |= s->s_if->ifs_loq.mq_head != NULL;
	}
	ni->ni_inround = false;
	if (!ni->ni_running) {
		netisr_bury(ni);
	}
	return more;
}

uint64_t
netisr_poll_at(struct stack *s)
{
	struct netisr_port *np;
	uint64_t at = callout_next(s);

	if (s->s_if->ifs_lo != NULL) {
		at = u64min(at, if_poll_at(s->s_if->ifs_lo));
	}
	LIST_FOREACH (np, &s->s_netisr->ni_ports, np_link) {
		at = u64min(at,
		    np->np_resume != 0 ? np->np_resume : if_poll_at(np->np_ifp));
		if (np->np_txretry != 0) {
			at = u64min(at, np->np_txretry);
		}
	}
	return at;
}

bool
netisr_needs_kick(struct stack *s)
{
	struct netisr *ni = s->s_netisr;

	if (!ni->ni_running || ni->ni_until == 0 ||
	    (ni->ni_dead == NULL && netisr_poll_at(s) >= ni->ni_until)) {
		return false;
	}
	ni->ni_until = 0;
	ni->ni_kicks++;
	return true;
}

void
netisr_kick(struct stack *s)
{
	const uint64_t one = 1;
	ssize_t n;

	if (s->s_netisr->ni_evfd < 0) {
		return; /* run by hand: its owner knows */
	}
	do {
		n = write(s->s_netisr->ni_evfd, &one, sizeof(one));
	} while (n < 0 && errno == EINTR);
}

static void
netisr_kicked(struct stack *s, struct watch *w, uint32_t revents)
{
	uint64_t count;
	ssize_t n = read(w->wa_fd, &count, sizeof(count));

	(void)s;
	(void)n;
	(void)revents;
}

/* Sleep at most delay ns for events. */
static int
netisr_sleep(struct netisr *ni, struct epoll_event *ev, uint64_t delay)
{
	struct timespec ts = { .tv_sec = (time_t)(delay / NSEC_PER_SEC),
		.tv_nsec = (long)(delay % NSEC_PER_SEC) };
	const struct timespec *tsp = delay == UINT64_MAX ? NULL : &ts;
	struct pollfd pfd = { .fd = ni->ni_epfd, .events = POLLIN };
	int n;

	if (delay == 0) {
		return epoll_wait(ni->ni_epfd, ev, NETISR_EVENTS, 0);
	}
	n = epoll_pwait2(ni->ni_epfd, ev, NETISR_EVENTS, tsp, NULL);
	if (n >= 0 || errno != ENOSYS) {
		return n;
	}
	/* Linux before 5.11 */
	n = ppoll(&pfd, 1, tsp, NULL);
	return n <= 0 ? n : epoll_wait(ni->ni_epfd, ev, NETISR_EVENTS, 0);
}

/* ---- whose place it is ---- */

static void
netisr_unpark(struct netisr *ni)
{
	ni->ni_parked = false;
	atomic_fetch_add_explicit(&ni->ni_word, 1, memory_order_release);
	syscall(SYS_futex, &ni->ni_word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

bool
netisr_inround(const struct stack *s)
{
	return s->s_netisr->ni_inround;
}

bool
netisr_drive_begin(struct stack *s, uint8_t credit)
{
	struct netisr *ni = s->s_netisr;

	if (credit < NETISR_CREDIT || !ni->ni_running ||
	    ni->ni_driver == DRIVER_WAITER || LIST_EMPTY(&ni->ni_ports)) {
		return false;
	}
	if (ni->ni_driver == DRIVER_THREAD) {
		ni->ni_wanted = true; /* it sees that when it wakes next */
		return false;
	}
	ni->ni_driver = DRIVER_WAITER;
	ni->ni_turns++;
	ni->ni_drives++;
	return true;
}

int
netisr_drive(struct stack *s, uint64_t deadline)
{
	struct netisr *ni = s->s_netisr;
	struct epoll_event ev[NETISR_EVENTS];
	uint64_t now = s->s_now, until = netisr_poll_at(s);
	int n, error;

	if (s->s_relay_work != NULL) {
		until = 0;
	}
	ni->ni_until = until > now ? until : 0;
	until = u64min(until, deadline);
	stack_leave(s);
	n = netisr_sleep(ni, ev,
	    until == CALLOUT_NEVER ? UINT64_MAX :
		until > now	   ? until - now :
				     0);
	error = n < 0 ? errno : 0;
	stack_enter(s);
	ni->ni_until = 0;
	ni->ni_inround = true;
	netisr_dispatch(ni, ev, n);
	(void)netisr_run(s);
	netisr_bury(ni);
	return error == EINTR ? EINTR : 0;
}

void
netisr_drive_end(struct stack *s)
{
	struct netisr *ni = s->s_netisr;

	ni->ni_driver = DRIVER_VACANT;
	if (ni->ni_parked) {
		netisr_unpark(ni);
	}
}

/* The thread sleeps while others drive; lock held on entry and exit. true:
 * the place is its own again. */
static bool
netisr_park(struct netisr *ni)
{
	const struct timespec tick = { .tv_nsec = NETISR_PARK };
	uint32_t turns = ni->ni_turns;
	uint32_t word = atomic_load_explicit(&ni->ni_word, memory_order_acquire);
	bool parked = ni->ni_parked;

	ni->ni_wanted = false;
	stack_leave(ni->ni_stack);
	syscall(SYS_futex, &ni->ni_word, FUTEX_WAIT_PRIVATE, word,
	    parked ? NULL : &tick, NULL, 0);
	stack_enter(ni->ni_stack);
	if (ni->ni_turns != turns) {
		ni->ni_parked = false;
		return false;
	}
	if (ni->ni_driver == DRIVER_WAITER) {
		ni->ni_parked = true; /* it is long over its work */
		return false;
	}
	ni->ni_parked = false;
	ni->ni_driver = DRIVER_THREAD;
	return true;
}

static void *
netisr_main(void *arg)
{
	struct netisr *ni = arg;
	struct stack *s = ni->ni_stack;
	struct epoll_event ev[NETISR_EVENTS];
	uint64_t until, now;
	int n = 0;

	prctl(PR_SET_TIMERSLACK, 1ul, 0ul, 0ul, 0ul);
	while (!atomic_load_explicit(&ni->ni_stop, memory_order_acquire)) {
		stack_enter(s);
		ni->ni_until = 0;
		ni->ni_inround = true;
		netisr_dispatch(ni, ev, n);
		if (ni->ni_wanted || ni->ni_driver != DRIVER_THREAD) {
			if (ni->ni_driver == DRIVER_THREAD) {
				ni->ni_driver = DRIVER_VACANT;
			}
			(void)netisr_run(s);
			netisr_bury(ni);
			while (!atomic_load_explicit(&ni->ni_stop,
				   memory_order_acquire) &&
			    !netisr_park(ni)) {
			}
		}
		until = netisr_run(s) ? 0 : netisr_poll_at(s);
		netisr_bury(ni);
		now = s->s_now;
		ni->ni_until = until > now ? until : 0;
		stack_leave(s);
		if (atomic_load_explicit(&ni->ni_stop, memory_order_acquire)) {
			break; /* unparked to stop: the kick may be the waiter's */
		}
		if (until > now && until != CALLOUT_NEVER) {
			now = stack_clock(s);
		}
		n = netisr_sleep(ni, ev,
		    until == CALLOUT_NEVER ? UINT64_MAX :
			until > now	   ? until - now :
					     0);
	}
	return NULL;
}

static int
netisr_thread(struct netisr *ni)
{
	char name[16];
	pthread_attr_t attr;
	sigset_t all, old;
	int error;

	error = pthread_attr_init(&attr);
	if (error != 0) {
		return error;
	}
	pthread_attr_setstacksize(&attr, NETISR_STACK);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	error = pthread_create(&ni->ni_thread, &attr, netisr_main, ni);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	if (error == 0) {
		snprintf(name, sizeof(name), "netisr/%.8s",
		    ni->ni_stack->s_name);
		pthread_setname_np(ni->ni_thread, name);
	}
	return error;
}

/* Everything the thread needs in its epoll set. */
static int
netisr_prepare(struct netisr *ni)
{
	struct netisr_port *np;
	int error = 0;

	if (ni->ni_evfd < 0) {
		ni->ni_evfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (ni->ni_evfd < 0) {
			return errno;
		}
		ni->ni_kick.wa_fd = ni->ni_evfd;
		ni->ni_kick.wa_fn = netisr_kicked;
		error = netisr_epoll(ni, EPOLL_CTL_ADD, &ni->ni_kick, EPOLLIN);
		if (error != 0) {
			close(ni->ni_evfd);
			ni->ni_evfd = -1;
			return error;
		}
	}
	LIST_FOREACH (np, &ni->ni_ports, np_link) {
		if (error == 0) {
			error = netisr_port_watch(ni, np);
		}
		np->np_ready = true;
	}
	return error;
}

static void
netisr_unprepare(struct netisr *ni)
{
	struct netisr_port *np;

	ni->ni_running = false;
	ni->ni_stack->s_flags &= ~(uint32_t)STACK_THREADED;
	ni->ni_until = 0;
	ni->ni_wanted = ni->ni_parked = false;
	if (ni->ni_driver != DRIVER_WAITER) { /* he does not know of it */
		ni->ni_driver = DRIVER_THREAD;
	}
	LIST_FOREACH (np, &ni->ni_ports, np_link) {
		netisr_port_unwatch(ni, np);
		np->np_resume = np->np_txretry = 0;
	}
	netisr_bury(ni);
}

int
netisr_start(struct stack *s)
{
	struct netisr *ni = s->s_netisr;
	int error;

	pthread_mutex_lock(&s->s_lock);
	if (ni->ni_running) {
		pthread_mutex_unlock(&s->s_lock);
		return EALREADY;
	}
	if (s->s_clock == NULL || (s->s_flags & STACK_DEAD)) {
		pthread_mutex_unlock(&s->s_lock);
		return EINVAL; /* virtual time moves by bsd_run() alone */
	}
	ni->ni_running = true;
	ni->ni_until = 0;
	atomic_store(&ni->ni_stop, false);
	error = netisr_prepare(ni);
	if (error == 0) {
		s->s_flags |= STACK_THREADED;
		error = netisr_thread(ni);
	}
	if (error != 0) {
		netisr_unprepare(ni);
	}
	pthread_mutex_unlock(&s->s_lock);
	return error;
}

/* The lock is not held; not from the thread itself. */
void
netisr_stop(struct stack *s)
{
	struct netisr *ni = s->s_netisr;

	if (ni == NULL || !ni->ni_running) {
		return;
	}
	if (!(s->s_flags & STACK_DEAD)) { /* else it stayed in the parent */
		atomic_store_explicit(&ni->ni_stop, true, memory_order_release);
		pthread_mutex_lock(&s->s_lock);
		netisr_unpark(ni);
		pthread_mutex_unlock(&s->s_lock);
		netisr_kick(s);
		pthread_join(ni->ni_thread, NULL);
	}
	pthread_mutex_lock(&s->s_lock);
	netisr_unprepare(ni);
	pthread_mutex_unlock(&s->s_lock);
}
