/*
 * api_loop.c - the side of a stack that an event loop turns.
 *
 * A loop has an event queue without a descriptor: it knows itself when to
 * look. An entry gets onto the ready list as for any queue, by a change
 * of its socket; bsd_turn() takes it off, says what holds now, once, and
 * hands over what the slot's owner wished for. So a turn costs what has
 * happened in it, however many sockets the loop has.
 *
 * The shared memory is the loop's to write between turns and ours during
 * one; what is read from it is read once. The loop is the program itself, so that
 * wrong numbers are its own misfortune, but they never lead outside the
 * memory of the loop.
 */
#include <poll.h>

#include "bsdcore/api_sub.h"
#include "bsdcore/net/if.h"
#include "bsdcore/sys/eventvar.h"

#define LOOP_ALWAYS (POLLIN | POLLPRI | POLLRDHUP | POLLERR | POLLHUP)
/* Times that a turn looks again at what its own reading has set off. */
#define LOOP_ROUNDS 4
#define LOOP_NSTATE 8

struct evloop {
	struct evq el_evq;
	struct bsd_evloopmem el_mem;
	struct evq_entry **el_cell; /* by slot; NULL: its socket is gone */
	bool *el_taken;		    /* by slot: given out */
	uint32_t *el_free;	    /* slots to give out; the last first */
	uint32_t *el_limbo;	    /* ... from the next turn on */
	uint32_t el_nfree, el_nlimbo;
	uint32_t el_top;   /* slots from here on have never been used */
	uint32_t el_ndone; /* of this turn */
	uint32_t el_nbuf;
};

static void
evloop_destroy(struct evloop *el)
{
	free(el->el_mem.slots);
	free(el->el_mem.done);
	free(el->el_mem.subs);
	free(el->el_mem.state);
	free(el->el_mem.buf);
	free(el->el_cell);
	free(el->el_taken);
	free(el->el_free);
	free(el->el_limbo);
	free(el);
}

static bool
evloop_alloc(struct evloop *el)
{
	struct bsd_evloopmem *m = &el->el_mem;

	m->slots = calloc(m->nslots, sizeof(*m->slots));
	m->done = calloc(m->ndone, sizeof(*m->done));
	m->subs = calloc(m->nsubs, sizeof(*m->subs));
	m->state = calloc(LOOP_NSTATE, sizeof(*m->state));
	m->buf = malloc(m->nbuf);
	el->el_cell = calloc(m->nslots, sizeof(struct evq_entry *));
	el->el_taken = calloc(m->nslots, sizeof(*el->el_taken));
	el->el_free = calloc(m->nslots, sizeof(*el->el_free));
	el->el_limbo = calloc(m->nslots, sizeof(*el->el_limbo));
	return m->slots != NULL && m->done != NULL && m->subs != NULL &&
	    m->state != NULL && m->buf != NULL && el->el_cell != NULL &&
	    el->el_taken != NULL && el->el_free != NULL && el->el_limbo != NULL;
}

int
bsd_evloop_new(struct stack *s, size_t nslots, size_t ndone, size_t nsubs,
    size_t nbuf, struct evloop **out)
{
	struct evloop *el;
	int error;

	if (nslots == 0 || nslots > BSD_MAXSLOTS || ndone == 0 ||
	    ndone > INT32_MAX || nsubs == 0 || nsubs > UINT32_MAX ||
	    nbuf == 0 || nbuf > UINT32_MAX) {
		return -EINVAL;
	}
	el = calloc(1, sizeof(*el));
	if (el == NULL) {
		return -ENOMEM;
	}
	el->el_mem.nslots = nslots;
	el->el_mem.ndone = ndone;
	el->el_mem.nsubs = nsubs;
	el->el_mem.nbuf = nbuf;
	el->el_evq.q_fd = -1;
	error = evloop_alloc(el) ? evq_join(&el->el_evq, s) : ENOMEM;
	if (error != 0) {
		evloop_destroy(el);
		return -error;
	}
	el->el_mem.state[BSD_STATE_POLL_AT] = UINT64_MAX;
	stack_enter(s);
	s->s_flags |= STACK_LOOP;
	stack_leave(s);
	*out = el;
	return 0;
}

void
bsd_evloop_free(struct evloop *el)
{
	struct stack *s = el->el_evq.q_stack;

	stack_enter(s);
	s->s_flags &= ~(uint32_t)STACK_LOOP;
	stack_leave(s);
	evq_leave(&el->el_evq);
	evloop_destroy(el);
}

void
bsd_evloop_mem(struct evloop *el, struct bsd_evloopmem *out)
{
	*out = el->el_mem;
}

/* ---- slots ---- */

/* May bytes be put into its send buffer? */
static bool
evloop_open(const struct socket *so)
{
	return (so->so_state & SS_ISCONNECTED) != 0 && so->so_pcb != NULL &&
	    so->so_error == 0 && !(so->so_snd.sb_state & SBS_CANTSENDMORE) &&
	    !(so->so_proto->pr_flags & PR_ATOMIC);
}

/* How much may be submitted for so before the next turn. */
static uint32_t
evloop_room(const struct socket *so)
{
	return evloop_open(so) ? sbspace(&so->so_snd) : 0;
}

static int
evloop_take(struct evloop *el, struct socket *so)
{
	struct evq_entry *ee = evq_entry_get(&el->el_evq, so);
	uint32_t slot;

	if (ee == NULL) {
		return -ENOMEM;
	}
	if (ee->ee_cell != NULL) {
		return -EEXIST;
	}
	if (el->el_nfree > 0) {
		slot = el->el_free[--el->el_nfree];
	} else if (el->el_top < el->el_mem.nslots) {
		slot = el->el_top++;
	} else {
		evq_drop(ee);
		return -EMFILE;
	}
	el->el_cell[slot] = ee;
	el->el_taken[slot] = true;
	ee->ee_cell = &el->el_cell[slot];
	ee->ee_events = LOOP_ALWAYS;
	el->el_mem.slots[slot] = (struct bsd_slot){ .room = evloop_room(so) };
	if (sopoll(so) & LOOP_ALWAYS) {
		evq_ready(ee);
	}
	return (int)slot;
}

int
bsd_evloop_add(struct evloop *el, struct socket *so)
{
	struct stack *s = el->el_evq.q_stack;
	int answer;

	if (so->so_stack != s) {
		return -EBADF;
	}
	stack_enter(s);
	answer = so->so_state & (SS_DEFUNCT | SS_CLOSING | SS_NOFDREF) ?
	    -EBADF :
	    evloop_take(el, so);
	stack_leave(s);
	return answer;
}

int
bsd_evloop_del(struct evloop *el, unsigned int slot)
{
	struct stack *s = el->el_evq.q_stack;

	stack_enter(s);
	if (slot >= el->el_top || !el->el_taken[slot]) {
		stack_leave(s);
		return -EINVAL;
	}
	el->el_taken[slot] = false;
	if (el->el_cell[slot] != NULL) {
		evq_drop(el->el_cell[slot]);
	}
	el->el_limbo[el->el_nlimbo++] = slot;
	stack_leave(s);
	return 0;
}

/* ---- a turn ---- */

/* One submission; false: no memory, not taken. */
static bool
evloop_submit1(struct evloop *el, uint32_t slot, const uint8_t *p, uint32_t n,
    bool more)
{
	struct evq_entry *ee = slot < el->el_top ? el->el_cell[slot] : NULL;
	struct socket *so;

	if (ee == NULL) {
		return true;
	}
	so = ee->ee_so;
	if (n == 0 || !evloop_open(so)) {
		evq_ready(ee); /* it says what there is */
		return true;
	}
	if (sosend_promised(so, p, n, more) == ENOBUFS) {
		return false;
	}
	el->el_mem.slots[slot].room = evloop_room(so);
	return true;
}

/* Whose the bytes are that follow, and of which class. */
static void
evloop_tag(struct evloop *el, uint32_t word, uint32_t origin)
{
	uint32_t slot = word & (BSD_MAXSLOTS - 1), svc = word >> 24 & 127;

	if (slot < el->el_top && el->el_cell[slot] != NULL) {
		(void)api_settag(el->el_cell[slot]->ee_so,
		    svc == 127 ? -1 : (int)svc, origin);
	}
}

static void
evloop_submit(struct evloop *el, const uint8_t *p, size_t left, uint32_t n)
{
	const uint64_t *sub = el->el_mem.subs;
	uint64_t next = n > 0 ? sub[0] : 0;
	uint32_t i;

	for (i = 0; i < n; i++) {
		uint64_t this = next;
		uint32_t slot = (uint32_t)this;
		uint32_t len = (uint32_t)(this >> 32);

		next = i + 1 < n ? sub[i + 1] : ~this;
		if (slot & BSD_SUB_TAG) {
			evloop_tag(el, slot, len);
			continue;
		}
		if (len > left ||
		    !evloop_submit1(el, slot, p, len,
			(uint32_t)next == slot && next >> 32)) {
			break;
		}
		p += len;
		left -= len;
	}
	el->el_mem.state[BSD_STATE_TAKEN] = i;
}

/* Copy up to wish bytes for the loop; answers how many. */
static uint32_t
evloop_hand(struct evloop *el, struct socket *so, uint32_t wish)
{
	struct iovec iov = { el->el_mem.buf + el->el_nbuf, wish };
	struct uio uio = { .uio_iov = &iov, .uio_iovcnt = 1, .uio_resid = wish };
	int flags = 0;
	size_t n = 0;

	if (so->so_relay != NULL ||
	    soreceive(so, &uio, NULL, NULL, NULL, &flags, &n) != 0) {
		return 0;
	}
	return (uint32_t)n;
}

/* What is to be said of an entry that is off the ready list now; false: there
 * is no room for what was wished for. */
static bool
evloop_report(struct evloop *el, struct evq_entry *ee)
{
	uint32_t slot = (uint32_t)(ee->ee_cell - el->el_cell);
	struct bsd_slot *sl = &el->el_mem.slots[slot];
	struct bsd_done *d = &el->el_mem.done[el->el_ndone];
	uint32_t wish = sl->wish, want = sl->want & POLLOUT;
	struct socket *so = ee->ee_so;
	int ev = sopoll(so) & (LOOP_ALWAYS | (int)want);

	d->len = 0;
	wish = u32min(wish, so->so_rcv.sb_cc);
	if (wish > 0 && !(so->so_proto->pr_flags & PR_ATOMIC)) {
		uint32_t room = (uint32_t)el->el_mem.nbuf - el->el_nbuf;

		if (wish <= BSD_HAND_MAX) {
			if (wish > room && el->el_nbuf > 0) {
				return false;
			}
			d->off = el->el_nbuf;
			d->len = evloop_hand(el, so, u32min(wish, room));
			el->el_nbuf += d->len;
		}
		sl->wish = 0;
	}
	sl->want &= ~(uint32_t)ev;
	sl->room = evloop_room(so);
	ee->ee_events = LOOP_ALWAYS | (int)(sl->want & POLLOUT);
	if (ev != 0) {
		d->slot = slot;
		d->events = (uint32_t)ev;
		d->left = so->so_rcv.sb_cc;
		d->error = so->so_error;
		el->el_ndone++;
	}
	return true;
}

/* Work through the ready list; false: done or buf is full. */
static bool
evloop_collect(struct evloop *el)
{
	struct evq_entry *ee;

	while ((ee = TAILQ_FIRST(&el->el_evq.q_ready)) != NULL) {
		if (el->el_ndone == el->el_mem.ndone) {
			return false;
		}
		evq_unready(ee);
		if (!evloop_report(el, ee)) {
			evq_ready(ee);
			return false;
		}
	}
	return true;
}

static void
evloop_turn(struct evloop *el, struct stack *s)
{
	bool more;

	while (el->el_nlimbo > 0) {
		el->el_free[el->el_nfree++] = el->el_limbo[--el->el_nlimbo];
	}
	el->el_ndone = el->el_nbuf = 0;
	more = netisr_run(s);
	for (int i = 0; i < LOOP_ROUNDS && evloop_collect(el); i++) {
		if_flush(s); /* reading opens windows */
		if (TAILQ_EMPTY(&el->el_evq.q_ready)) {
			break;
		}
	}
	el->el_mem.state[BSD_STATE_NOW] = s->s_now;
	el->el_mem.state[BSD_STATE_POLL_AT] =
	    more || !TAILQ_EMPTY(&el->el_evq.q_ready) ? s->s_now :
							netisr_poll_at(s);
}

int
bsd_turn(struct evloop *el, uint64_t now, const void *bytes, size_t nbytes,
    unsigned int nsubs)
{
	struct stack *s = el->el_evq.q_stack;
	int answer = -EBADF;

	if (nsubs > el->el_mem.nsubs) {
		return -EINVAL;
	}
	stack_enter(s);
	if (s->s_flags & STACK_DEAD) {
		answer = -ECONNABORTED;
	} else if (!(s->s_flags & STACK_DRAINING)) {
		if (s->s_clock == NULL && now > s->s_now) {
			s->s_now = now;
		}
		evloop_submit(el, bytes, nbytes, nsubs);
		evloop_turn(el, s);
		answer = (int)el->el_ndone;
	}
	stack_leave(s);
	return answer;
}
