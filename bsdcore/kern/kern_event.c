/*
 * kern_event.c - event queues: many sockets, one descriptor.
 *
 * An entry ties a socket to a queue. When a watched event may have come up,
 * sorwakeup() and sowwakeup() put the entry on the queue's ready list, once;
 * a socket on which nothing happens costs nothing. evq_wait looks at every
 * ready entry with sopoll(): what is ready is reported and stays on the list
 * (level-triggered), what is not leaves it. The eventfd is readable while the
 * ready list is not empty, so a queue can be put into epoll or select.
 */
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "bsdcore/api.h"
#include "bsdcore/sys/eventvar.h"

void
evq_ready(struct evq_entry *ee)
{
	struct evq *q = ee->ee_evq;

	if (!ee->ee_isready) {
		ee->ee_isready = true;
		TAILQ_INSERT_TAIL(&q->q_ready, ee, ee_ready);
	}
	if (!q->q_signalled && q->q_fd >= 0) {
		uint64_t one = 1;

		q->q_signalled =
		    write(q->q_fd, &one, sizeof(one)) == (ssize_t)sizeof(one);
	}
	if (q->q_waiters != NULL) {
		waitlist_wake(q->q_stack, q->q_waiters, -1);
	}
}

void
evq_unready(struct evq_entry *ee)
{
	if (ee->ee_isready) {
		ee->ee_isready = false;
		TAILQ_REMOVE(&ee->ee_evq->q_ready, ee, ee_ready);
	}
}

/* Nothing is ready any more: the descriptor says so too. */
static void
evq_settle(struct evq *q)
{
	uint64_t n;

	if (q->q_signalled && TAILQ_EMPTY(&q->q_ready)) {
		if (read(q->q_fd, &n, sizeof(n)) == (ssize_t)sizeof(n)) {
			q->q_signalled = false;
		}
	}
}

void
evq_notify(struct socket *so, int events)
{
	for (struct evq_entry *ee = so->so_events; ee != NULL;
	    ee = ee->ee_sonext) {
		if (events & (ee->ee_events | POLLERR | POLLHUP)) {
			evq_ready(ee);
		}
	}
}

void
evq_drop(struct evq_entry *ee)
{
	struct evq_entry **p = &ee->ee_so->so_events;

	while (*p != ee) {
		p = &(*p)->ee_sonext;
	}
	*p = ee->ee_sonext;
	evq_unready(ee);
	LIST_REMOVE(ee, ee_all);
	if (ee->ee_cell != NULL) {
		*ee->ee_cell = NULL;
	}
	free(ee);
}

void
evq_forget(struct socket *so)
{
	while (so->so_events != NULL) {
		struct evq *q = so->so_events->ee_evq;

		evq_drop(so->so_events);
		evq_settle(q);
	}
}

bool
evq_busy(struct stack *s)
{
	struct evq *q;
	bool busy = false;

	LIST_FOREACH (q, &s->s_so->sos_evqs, q_link) {
		if (q->q_waiters != NULL) {
			waitlist_wake(s, q->q_waiters, -1);
			busy = true;
		}
	}
	return busy;
}

/* The descriptor stays readable, so that who polls it comes and is told. */
uint32_t
evq_fini(struct stack *s)
{
	struct evq *q;
	uint64_t one = 1;
	uint32_t n = 0;

	while ((q = LIST_FIRST(&s->s_so->sos_evqs)) != NULL) {
		while (!LIST_EMPTY(&q->q_all)) {
			evq_drop(LIST_FIRST(&q->q_all));
		}
		LIST_REMOVE(q, q_link);
		if (q->q_fd >= 0) {
			q->q_signalled = write(q->q_fd, &one, sizeof(one)) ==
			    (ssize_t)sizeof(one);
		}
		n++;
	}
	return n;
}

int
evq_join(struct evq *q, struct stack *s)
{
	int error = 0;

	q->q_stack = s;
	q->q_spin = (struct spin)SPIN_INIT;
	LIST_INIT(&q->q_all);
	TAILQ_INIT(&q->q_ready);
	stack_enter(s);
	if (s->s_flags & (STACK_DEAD | STACK_DRAINING)) {
		error = ECONNABORTED;
	} else {
		LIST_INSERT_HEAD(&s->s_so->sos_evqs, q, q_link);
	}
	stack_leave(s);
	return error;
}

void
evq_leave(struct evq *q)
{
	struct stack *s = q->q_stack;

	stack_enter(s);
	if (s->s_flags & STACK_GONE) {
		stack_unhold(s);
		return;
	}
	while (!LIST_EMPTY(&q->q_all)) {
		evq_drop(LIST_FIRST(&q->q_all));
	}
	LIST_REMOVE(q, q_link);
	stack_leave(s);
}

int
bsd_evq_new(struct stack *s, struct evq **out)
{
	struct evq *q = calloc(1, sizeof(*q));
	int error;

	if (q == NULL) {
		return -ENOMEM;
	}
	q->q_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	error = q->q_fd < 0 ? errno : evq_join(q, s);
	if (error != 0) {
		if (q->q_fd >= 0) {
			close(q->q_fd);
		}
		free(q);
		return -error;
	}
	*out = q;
	return 0;
}

void
bsd_evq_free(struct evq *q)
{
	evq_leave(q);
	close(q->q_fd);
	free(q);
}

int
bsd_evq_fd(struct evq *q)
{
	return q->q_fd;
}

static struct evq_entry *
evq_find(struct evq *q, struct socket *so)
{
	struct evq_entry *ee = so->so_events;

	while (ee != NULL && ee->ee_evq != q) {
		ee = ee->ee_sonext;
	}
	return ee;
}

struct evq_entry *
evq_entry_get(struct evq *q, struct socket *so)
{
	struct evq_entry *ee = evq_find(q, so);

	if (ee != NULL) {
		return ee;
	}
	ee = calloc(1, sizeof(*ee));
	if (ee != NULL) {
		ee->ee_so = so;
		ee->ee_evq = q;
		ee->ee_sonext = so->so_events;
		so->so_events = ee;
		LIST_INSERT_HEAD(&q->q_all, ee, ee_all);
	}
	return ee;
}

static int
evq_set(struct evq *q, struct socket *so, int events, uint64_t data)
{
	struct evq_entry *ee;

	if (events == 0) {
		ee = evq_find(q, so);
		if (ee == NULL) {
			return ENOENT;
		}
		evq_drop(ee);
		evq_settle(q);
		return 0;
	}
	ee = evq_entry_get(q, so);
	if (ee == NULL) {
		return ENOMEM;
	}
	ee->ee_events = events;
	ee->ee_data = data;
	if (sopoll(so) & (events | POLLERR | POLLHUP)) {
		evq_ready(ee);
	} else {
		evq_unready(ee);
		evq_settle(q);
	}
	return 0;
}

int
bsd_evq_ctl(struct evq *q, struct socket *so, int events, uint64_t data)
{
	struct stack *s = q->q_stack;
	int error;

	if (so->so_stack != s) {
		return -EBADF;
	}
	stack_enter(s);
	error = so->so_state & (SS_DEFUNCT | SS_CLOSING | SS_NOFDREF) ?
	    EBADF :
	    evq_set(q, so, events, data);
	stack_leave(s);
	return -error;
}

/* Up to n ready ones into v. One that was reported goes to the end, so that
 * none starves. */
static int
evq_collect(struct evq *q, struct bsd_event *v, int n)
{
	struct evq_entry *last = TAILQ_LAST(&q->q_ready, evq_readyhead);
	struct evq_entry *ee, *next;
	int got = 0;

	for (ee = TAILQ_FIRST(&q->q_ready); ee != NULL && got < n; ee = next) {
		int ev = sopoll(ee->ee_so) & (ee->ee_events | POLLERR | POLLHUP);

		next = ee == last ? NULL : TAILQ_NEXT(ee, ee_ready);
		if (ev == 0) {
			evq_unready(ee);
			continue;
		}
		v[got].data = ee->ee_data;
		v[got++].events = ev;
		TAILQ_REMOVE(&q->q_ready, ee, ee_ready);
		TAILQ_INSERT_TAIL(&q->q_ready, ee, ee_ready);
	}
	evq_settle(q);
	return got;
}

int
bsd_evq_wait(struct evq *q, struct bsd_event *v, int n, int64_t timeout)
{
	struct stack *s = q->q_stack;
	uint64_t deadline;
	int got, error = 0;

	if (n <= 0) {
		return -EINVAL;
	}
	stack_enter(s);
	if (s->s_flags & STACK_DRAINING) {
		stack_leave(s);
		return -EBADF;
	}
	deadline = timeout < 0 ? UINT64_MAX : s->s_now + (uint64_t)timeout;
	while ((got = evq_collect(q, v, n)) == 0 && error == 0 && timeout != 0) {
		error = waitlist_sleep(s, &q->q_waiters, &q->q_spin, deadline);
		if (s->s_flags & STACK_DEAD) {
			error = ECONNABORTED;
		} else if (s->s_flags & STACK_DRAINING) {
			error = EBADF;
		}
	}
	stack_leave(s);
	if (got > 0 || error == EWOULDBLOCK) {
		return got;
	}
	return -error;
}
