/*
 * eventvar.h - what an event queue is made of (kern/kern_event.c, api_loop.c).
 */
#ifndef BSDCORE_SYS_EVENTVAR_H
#define BSDCORE_SYS_EVENTVAR_H

#include "bsdcore/sys/kernel.h"
#include "bsdcore/sys/socketvar.h"

struct evq_entry {
	struct evq_entry *ee_sonext; /* so_events */
	struct socket *ee_so;
	struct evq *ee_evq;
	LIST_ENTRY(evq_entry) ee_all;
	TAILQ_ENTRY(evq_entry) ee_ready;
	uint64_t ee_data;
	struct evq_entry **ee_cell; /* NULLed when the entry goes; may be NULL */
	int ee_events;
	bool ee_isready;
};

struct evq {
	struct stack *q_stack;
	LIST_ENTRY(evq) q_link; /* sos_evqs */
	LIST_HEAD(, evq_entry) q_all;
	TAILQ_HEAD(evq_readyhead, evq_entry) q_ready;
	struct waitpoint *q_waiters;
	int q_fd;	  /* -1: whoever owns it comes by itself (api_loop.c) */
	bool q_signalled; /* q_fd is readable */
	struct spin q_spin;
};

/* Lock held. On to the ready list, or off it. */
void evq_ready(struct evq_entry *ee);
void evq_unready(struct evq_entry *ee);
/* The entry of so on q, made if need be; NULL: no memory. */
struct evq_entry *evq_entry_get(struct evq *q, struct socket *so);
void evq_drop(struct evq_entry *ee);
/* On and off the stack's list; evq_join answers errno. evq_leave takes the
 * lock itself; afterwards q is the caller's to free. */
int evq_join(struct evq *q, struct stack *s);
void evq_leave(struct evq *q);

#endif
