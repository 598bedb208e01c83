/*
 * kernel.h - what the parts of kern/ owe each other: waiting, waking, the
 * netisr thread and its descriptors.
 */
#ifndef BSDCORE_SYS_KERNEL_H
#define BSDCORE_SYS_KERNEL_H

#include "bsdcore/sys/socketvar.h"
#include "bsdcore/sys/stack.h"

/*
 * Waiting (kern_synch.c). A waiter is on its thread's C stack, linked to the
 * sockets it waits for under the stack lock, and sleeps on a futex word: spin
 * first for kern.ipc.spin ns (adaptive: only where spinning has paid), then
 * futex_wait, which a signal ends with EINTR.
 */
struct waitpoint {
	struct waitpoint *wp_next,
	    **wp_prevp; /* on so_waiters, or evq's, or drainers */
	struct waiter *wp_waiter;
	struct socket *wp_so;
	int wp_events; /* poll bits */
};
struct waiter {
	struct waiter *w_next;	 /* on s_wakeup */
	bool w_driver;		 /* sleeps in netisr's epoll: kick that */
	_Atomic uint32_t w_word; /* 0 spinning, 1 woken, 2 asleep */
	bool w_queued;		 /* on s_wakeup already */
};
/* Lock held on entry and exit, dropped between. Answers 0 when something may
 * have happened (look again), EINTR, or EWOULDBLOCK after deadline (absolute ns of the
 * stack's clock; UINT64_MAX none). In virtual time there is nobody to wait
 * for: EWOULDBLOCK at once. */
int sowait(struct socket *so, int events, uint64_t deadline);
int sowait_many(struct stack *s, struct waitpoint *v, int n, uint64_t deadline);
/* The same on any list of waitpoints; spin may be NULL: do not. */
int waitlist_sleep(struct stack *s, struct waitpoint **list, struct spin *spin,
    uint64_t deadline);
void waitlist_wake(struct stack *s, struct waitpoint *list, int events);
/* wp_events beyond poll's: somebody waits for SB_LOCK. */
#define SOEV_SNDLOCK 0x10000
#define SOEV_RCVLOCK 0x20000
/* From sorwakeup/sowwakeup: queue the waiters of so whose events match. */
void so_wake_waiters(struct socket *so, int events);
/* After the lock is gone: wake what stack_leave took from s_wakeup. */
void waiters_release(struct stack *s, struct waiter *list);

/* Event queues (kern_event.c): told of a change; the socket goes away. */
void evq_notify(struct socket *so, int events);
void evq_forget(struct socket *so);
/* Queues outlive the stack, empty; answers how many there are. */
uint32_t evq_fini(struct stack *s);
/* Does somebody wait in one? They are told to go (STACK_DRAINING). */
bool evq_busy(struct stack *s);

/*
 * Relays (uipc_relay.c): work that a socket's change calls for but that must
 * not run inside the protocol that reported it. relay_notify() only puts the
 * relay on a list; stack_leave() runs the list through relay_run(), which
 * answers whether it did anything.
 */
void relay_notify(struct socket *so);
void relay_forget(struct socket *so); /* from sofree: the socket goes away */
/* The user closes a socket that a relay serves: true if the relay goes on with
 * it (a descriptor of the pair may live elsewhere) and will close it. */
bool relay_adopt(struct socket *so);
/* Its data goes through a descriptor of the application: calls do not wait. */
bool relay_carries(const struct socket *so);
bool relay_run(struct stack *s);
void relay_fini(struct stack *s); /* ends every relay and the gateway */

/*
 * netisr (kern_netisr.c): one thread per stack, epoll over port descriptors,
 * watched descriptors and an eventfd; or bsd_run() doing the same by hand.
 */
int netisr_init(struct stack *s);
void netisr_fini(struct stack *s);
int netisr_start(struct stack *s);
void netisr_stop(struct stack *s);
/* One round: ports in, watched descriptors, callouts, ports out. true: more
 * is due at once. Lock held. */
bool netisr_run(struct stack *s);
uint64_t netisr_poll_at(struct stack *s);
/* From stack_leave, lock held: must the thread be woken for an earlier deadline
 * or a blocked port? If so netisr_kick() after the lock is gone. */
bool netisr_needs_kick(struct stack *s);
void netisr_kick(struct stack *s);
/*
 * A thread that waits for a packet may take the thread's place in epoll, so
 * that the packet wakes it and nobody else. netisr_drive_begin: may it, for a
 * socket whose last wakes came (or not) from a round? netisr_drive sleeps at most
 * until deadline, runs a round and answers 0 or EINTR; lock held on entry and exit.
 */
bool netisr_drive_begin(struct stack *s, uint8_t credit);
int netisr_drive(struct stack *s, uint64_t deadline);
void netisr_drive_end(struct stack *s);
bool netisr_inround(const struct stack *s);
/* Ports come and go (if_attach, if_detach). */
int netisr_add_port(struct ifnet *ifp);
void netisr_del_port(struct ifnet *ifp);
/* The port took less than offered: wait for its fd to become writable. */
void netisr_want_write(struct ifnet *ifp, bool on);

/* Watch any descriptor; fn runs with the lock held, in netisr. */
struct watch {
	int wa_fd;
	uint32_t wa_events; /* EPOLL* */
	void (*wa_fn)(struct stack *, struct watch *, uint32_t revents);
	void *wa_arg;
	bool wa_dead;			 /* deleted inside the round */
	struct watch *wa_next;		 /* dead list */
	void (*wa_free)(struct watch *); /* after the round; may be NULL */
};
int watch_add(struct stack *s, struct watch *w, uint32_t events);
int watch_mod(struct stack *s, struct watch *w, uint32_t events);
/* Forget it; wa_free runs when no round can still hold a pointer to it. */
void watch_del(struct stack *s, struct watch *w);

/* kern_stack.c */
uint64_t stack_clock(struct stack *s); /* fresh time; s_now in virtual time */

/* kern_timeout.c, kern_sysctl.c, kern_random.c: life. */
int callout_sysinit(struct stack *s);
void callout_sysfini(struct stack *s);
uint32_t callout_count(const struct stack *s);
int ctl_sysinit(struct stack *s);
void ctl_sysfini(struct stack *s);
int sysctl_index(struct stack *s, size_t i, const char **name, const char **doc,
    int64_t *value, int64_t *min, int64_t *max);
int stat_index(struct stack *s, size_t i, const char **name, uint64_t *value);

#endif
