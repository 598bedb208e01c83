/*
 * uipc_relay.c - a host descriptor carries a stream socket's bytes.
 *
 *	application -- AF_UNIX pair --+              +-- so_snd --> TCP
 *	                              | r_watch.wa_fd|
 *	host TCP socket --------------+              +-- so_rcv <-- TCP
 *
 * Bytes from the descriptor are read straight into clusters and appended to
 * so_snd; bytes of so_rcv are written straight from their mbufs. Each side's
 * back-pressure is the other's: we stop reading the descriptor while so_snd is full,
 * and stop taking from so_rcv (so the window closes) while the descriptor is full.
 *
 * Work runs from stack_leave() (a socket changed) or netisr (the descriptor
 * did), never inside a protocol.
 */
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "bsdcore/api_sub.h"
#include "bsdcore/kern/uipc_relay.h"

#define RELAY_IOV 32
#define RELAY_READ_MIN 4096u
#define RELAY_READ_MAX 262144u
#define RELAY_BUDGET 4 /* reads or writes a relay may make a turn */

static void
relay_event(struct stack *s, struct watch *w, uint32_t revents)
{
	struct relay *r = w->wa_arg;

	if (r->r_kind >= RELAY_ACCEPT) {
		gateway_event(s, r, revents);
		return;
	}
	if (revents & (EPOLLHUP | EPOLLERR)) {
		r->r_fdhup = true;
	}
	if (revents & EPOLLOUT) {
		r->r_wblocked = false;
	}
	relay_queue(s, r);
}

static void
relay_release(struct watch *w)
{
	free(w->wa_arg);
}

struct relay *
relay_new(struct stack *s, struct socket *so, int fd, int kind)
{
	struct relay *r = calloc(1, sizeof(*r));

	if (r == NULL) {
		return NULL;
	}
	r->r_so = so;
	r->r_kind = kind;
	r->r_readsize = RELAY_READ_MIN;
	r->r_watch.wa_fd = fd;
	r->r_watch.wa_fn = relay_event;
	r->r_watch.wa_arg = r;
	r->r_watch.wa_free = relay_release;
	r->r_next = s->s_relays;
	r->r_prevp = &s->s_relays;
	if (r->r_next != NULL) {
		r->r_next->r_prevp = &r->r_next;
	}
	s->s_relays = r;
	if (so != NULL) {
		so->so_relay = r;
	}
	return r;
}

void
relay_want(struct stack *s, struct relay *r, uint32_t events)
{
	if (events == 0) {
		events = EPOLLET; /* a hang-up is told once, not for ever */
	}
	if (r->r_watch.wa_fd < 0 ||
	    (r->r_watched && r->r_watch.wa_events == events)) {
		return;
	}
	if (!r->r_watched) {
		r->r_watched = watch_add(s, &r->r_watch, events) == 0;
	} else {
		watch_mod(s, &r->r_watch, events);
	}
}

void
relay_queue(struct stack *s, struct relay *r)
{
	if (r->r_queued) {
		return;
	}
	r->r_queued = true;
	r->r_wnext = NULL;
	r->r_wprev = s->s_relay_last;
	if (r->r_wprev != NULL) {
		r->r_wprev->r_wnext = r;
	} else {
		s->s_relay_work = r;
	}
	s->s_relay_last = r;
}

void
relay_notify(struct socket *so)
{
	relay_queue(so->so_stack, so->so_relay);
}

static void
relay_unqueue(struct stack *s, struct relay *r)
{
	if (!r->r_queued) {
		return;
	}
	if (r->r_wprev != NULL) {
		r->r_wprev->r_wnext = r->r_wnext;
	} else {
		s->s_relay_work = r->r_wnext;
	}
	if (r->r_wnext != NULL) {
		r->r_wnext->r_wprev = r->r_wprev;
	} else {
		s->s_relay_last = r->r_wprev;
	}
	r->r_queued = false;
}

void
relay_free(struct stack *s, struct relay *r)
{
	int fd = r->r_watch.wa_fd;

	relay_unqueue(s, r);
	if (r->r_gone != NULL) {
		r->r_gone(s, r);
	}
	*r->r_prevp = r->r_next;
	if (r->r_next != NULL) {
		r->r_next->r_prevp = r->r_prevp;
	}
	if (r->r_so != NULL) {
		r->r_so->so_relay = NULL;
		r->r_so = NULL;
	}
	if (r->r_watched) {
		watch_del(s, &r->r_watch);
	} else {
		free(r);
	}
	if (fd >= 0) {
		close(fd);
	}
}

void
relay_forget(struct socket *so)
{
	relay_free(so->so_stack, so->so_relay);
}

bool
relay_carries(const struct socket *so)
{
	return so->so_relay != NULL && so->so_relay->r_kind == BSD_RELAY_PAIR;
}

bool
relay_adopt(struct socket *so)
{
	struct relay *r = so->so_relay;

	if ((r->r_kind != BSD_RELAY_PAIR && r->r_kind != BSD_RELAY_HOST) ||
	    r->r_mine) {
		return false;
	}
	r->r_mine = true;
	relay_queue(so->so_stack, r);
	return true;
}

/* Close what the relay alone holds. */
static void
relay_end(struct stack *s, struct relay *r)
{
	struct socket *so = r->r_so;
	bool mine = r->r_mine;

	relay_free(s, r);
	if (mine) {
		soclose(so);
	}
}

/* Closing sends a RST when the other side of the relay failed. */
static void
fd_reset(int fd)
{
	struct linger l = { .l_onoff = 1, .l_linger = 0 };

	(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
}

void
relay_abort(struct stack *s, struct relay *r)
{
	struct socket *so = r->r_so;
	bool mine = r->r_mine;

	relay_free(s, r);
	if (mine) {
		soabort(so);
	} else {
		soshutdown(so, SHUT_RDWR);
	}
}

/* Throw away the filler bytes; false when they are not all there. */
static bool
relay_discard(struct relay *r)
{
	char buf[4096];

	while (r->r_fill > 0) {
		ssize_t n = recv(r->r_watch.wa_fd, buf,
		    u32min(r->r_fill, sizeof(buf)), MSG_DONTWAIT);

		if (n <= 0) {
			return false;
		}
		r->r_fill -= (uint32_t)n;
	}
	return true;
}

static int
relay_iov(const struct mbuf *m, struct iovec *iov, bool space)
{
	int n = 0;

	for (; m != NULL && n < RELAY_IOV; m = m->m_next) {
		size_t len = space ? M_TRAILINGSPACE(m) : m->m_len;

		if (len > 0) {
			iov[n++] = (struct iovec){ .iov_base = m->m_data,
				.iov_len = len };
		}
	}
	return n;
}

/* n bytes have left so_rcv. The protocol may have let go of it already. */
static void
relay_took(struct socket *so, uint32_t n)
{
	sbdrop(&so->so_rcv, n);
	sbavail_update(so);
	if (so->so_pcb != NULL) {
		(void)PRU(so, rcvd, 0);
	}
}

/* A write was refused. Does the other end only not read any more
 * (shutdown(SHUT_RD)), or is there nobody? */
static bool
relay_halfdead(struct relay *r)
{
	struct pollfd pfd = { .fd = r->r_watch.wa_fd };

	r->r_noreader = !r->r_fdhup && errno == EPIPE && poll(&pfd, 1, 0) == 0;
	return r->r_noreader;
}

/* so_rcv to the descriptor. false: the descriptor failed. */
static bool
relay_down(struct relay *r)
{
	struct socket *so = r->r_so;
	int fd = r->r_watch.wa_fd;

	if (r->r_noreader && so->so_rcv.sb_cc > 0) {
		relay_took(so, so->so_rcv.sb_cc);
	}
	for (int i = 0;
	    i < RELAY_BUDGET && so->so_rcv.sb_cc > 0 && !r->r_wblocked; i++) {
		struct iovec iov[RELAY_IOV];
		struct msghdr mh = { .msg_iov = iov };
		ssize_t n;

		mh.msg_iovlen = (size_t)relay_iov(so->so_rcv.sb_mb, iov, false);
		n = sendmsg(fd, &mh, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0) {
			if (errno != EAGAIN && errno != EINTR &&
			    errno != ENOBUFS) {
				if (!relay_halfdead(r)) {
					return false;
				}
				relay_took(so, so->so_rcv.sb_cc);
				break;
			}
			r->r_wblocked = true;
			break;
		}
		if (r->r_bytes_out != NULL) {
			*r->r_bytes_out += (uint64_t)n;
		}
		relay_took(so, (uint32_t)n);
	}
	if (so->so_rcv.sb_cc > 0 && !r->r_wblocked) {
		/* The budget ended it; nothing else may come to wake us. */
		relay_queue(so->so_stack, r);
	}
	if (so->so_rcv.sb_cc == 0 && !r->r_fdshut &&
	    (so->so_rcv.sb_state & SBS_CANTRCVMORE)) {
		r->r_fdshut = true;
		(void)shutdown(fd, SHUT_WR);
	}
	return true;
}

/* Cut the chain to n bytes spread over its mbufs in order. */
static struct mbuf *
relay_fit(struct mbuf *top, uint32_t n)
{
	top->m_pkthdr.len = n;
	for (struct mbuf *m = top; m != NULL; m = m->m_next) {
		m->m_len = u32min(M_TRAILINGSPACE(m), n);
		n -= m->m_len;
		if (n == 0) {
			m_freem(m->m_next);
			m->m_next = NULL;
		}
	}
	return top;
}

/* One read into so_snd: bytes moved, 0 nothing there now, -1 it failed. */
static int
relay_read1(struct relay *r, uint32_t room)
{
	struct socket *so = r->r_so;
	uint32_t want = u32min(r->r_readsize, room);
	struct mbuf *m = m_getm(so->so_stack->s_mb, want, MT_DATA, M_PKTHDR);
	struct iovec iov[RELAY_IOV];
	struct msghdr mh = { .msg_iov = iov };
	ssize_t n;

	if (m == NULL) {
		return 0;
	}
	mh.msg_iovlen = (size_t)relay_iov(m, iov, true);
	n = recvmsg(r->r_watch.wa_fd, &mh, MSG_DONTWAIT);
	if (n <= 0) {
		m_freem(m);
		if (n == 0) {
			r->r_fdeof = true;
			return 0;
		}
		return errno == EAGAIN || errno == EINTR ? 0 : -1;
	}
	if ((uint32_t)n >= want) {
		r->r_readsize = u32min(RELAY_READ_MAX, r->r_readsize * 2);
	} else if ((uint32_t)n < r->r_readsize / 4) {
		r->r_readsize = u32max(RELAY_READ_MIN, r->r_readsize / 2);
	}
	if (r->r_bytes_in != NULL) {
		*r->r_bytes_in += (uint64_t)n;
	}
	if (so->so_pcb == NULL) {
		m_freem(m);
		return -1;
	}
	if (PRU(so, send, 0, relay_fit(m, (uint32_t)n), NULL, 0, NULL) != 0) {
		return -1;
	}
	return (int)n;
}

static bool
relay_up(struct relay *r)
{
	struct socket *so = r->r_so;

	for (int i = 0; i < RELAY_BUDGET && !r->r_fdeof; i++) {
		uint32_t room = sbspace(&so->so_snd);
		int n;

		if (room < u32min(so->so_snd.sb_hiwat / 8 + 1, 4096) ||
		    (so->so_snd.sb_state & SBS_CANTSENDMORE)) {
			break;
		}
		n = relay_read1(r, room);
		if (n < 0) {
			return false;
		}
		if (n == 0) {
			break;
		}
	}
	if (r->r_fdeof && !(so->so_snd.sb_state & SBS_CANTSENDMORE)) {
		(void)soshutdown(so, SHUT_WR);
	}
	return true;
}

/* What the descriptor must say before there is more to do. */
static uint32_t
relay_interest(const struct relay *r)
{
	const struct socket *so = r->r_so;
	uint32_t ev = 0;

	if (!r->r_fdeof && !(so->so_snd.sb_state & SBS_CANTSENDMORE) &&
	    sbspace(&so->so_snd) >= u32min(so->so_snd.sb_hiwat / 8 + 1, 4096)) {
		ev |= EPOLLIN;
	}
	if (r->r_wblocked && so->so_rcv.sb_cc > 0) {
		ev |= EPOLLOUT;
	}
	return ev;
}

/* A host connect(2) has ended, one way or the other. */
static void
relay_connected(struct stack *s, struct relay *r)
{
	int error = 0;
	socklen_t len = sizeof(error);

	if (getsockopt(r->r_watch.wa_fd, SOL_SOCKET, SO_ERROR, &error, &len) !=
		0 ||
	    error != 0) {
		gateway_connected(s, true);
		relay_abort(s, r);
		return;
	}
	gateway_connected(s, false);
	r->r_connecting = false;
	r->r_fdhup = false;
	(void)PRU0(r->r_so, accept);
}

static bool
relay_dead(const struct socket *so)
{
	return so->so_error != 0 ||
	    ((so->so_state & SS_ISDISCONNECTED) && so->so_rcv.sb_cc == 0 &&
		so->so_snd.sb_cc == 0);
}

static void
relay_pump(struct stack *s, struct relay *r)
{
	struct socket *so = r->r_so;

	if (so->so_error != 0) {
		if (r->r_kind == BSD_RELAY_HOST) {
			fd_reset(r->r_watch.wa_fd);
		} else {
			(void)relay_down(r); /* what came before the error */
		}
		relay_end(s, r);
		return;
	}
	if (!(so->so_state &
		(SS_ISCONNECTED | SS_ISDISCONNECTING | SS_ISDISCONNECTED))) {
		relay_want(s, r, 0); /* HUP is always told */
		if (r->r_fdhup && r->r_mine) {
			relay_end(s, r);
		}
		return;
	}
	if (!relay_discard(r) && !r->r_fdhup) {
		relay_want(s, r, EPOLLIN);
		return;
	}
	if (!relay_down(r) || !relay_up(r)) {
		/* A pair whose end was closed with bytes unread fails, too,
		 * after it gave what was written to it. */
		if (r->r_kind == BSD_RELAY_PAIR && r->r_fdhup &&
		    so->so_rcv.sb_cc == 0) {
			relay_end(s, r);
		} else {
			relay_abort(s, r);
		}
		return;
	}
	if ((r->r_fdeof && r->r_fdshut) || relay_dead(so) ||
	    (r->r_fdhup && r->r_fdeof)) {
		if (so->so_rcv.sb_cc > 0 && !r->r_fdhup) {
			relay_want(s, r, EPOLLOUT);
			return;
		}
		relay_end(s, r);
		return;
	}
	relay_want(s, r, relay_interest(r));
}

static void
relay_work1(struct stack *s, struct relay *r)
{
	switch (r->r_kind) {
	case BSD_RELAY_PAIR:
	case BSD_RELAY_HOST:
		if (!r->r_connecting || r->r_so->so_error != 0 ||
		    r->r_so->so_pcb == NULL) {
			relay_pump(s, r);
		} else if (!r->r_wblocked) {
			relay_connected(s, r);
		}
		return;
	case BSD_TOKEN_DGRAM:
	case BSD_TOKEN_LISTEN:
		token_run(s, r);
		return;
	default:
		gateway_work(s, r);
	}
}

bool
relay_run(struct stack *s)
{
	struct relay *r = s->s_relay_work;
	uint32_t n = 0;

	if (r == NULL) {
		return false;
	}
	for (struct relay *c = r; c != NULL; c = c->r_wnext) {
		n++;
	}
	/* Only those there now: work may queue more. */
	while (n-- > 0 && (r = s->s_relay_work) != NULL) {
		relay_unqueue(s, r);
		relay_work1(s, r);
	}
	return true;
}

void
relay_fini(struct stack *s)
{
	struct relay *r;

	while ((r = s->s_relays) != NULL) {
		struct socket *so = r->r_mine ? r->r_so : NULL;

		relay_free(s, r);
		if (so != NULL) {
			soabort(so);
		}
	}
	gateway_fini(s);
}

int
bsd_relay(struct socket *so, int fd, int kind)
{
	struct stack *s = so->so_stack;
	struct relay *r;
	int fill = 0, error;

	if (kind != BSD_RELAY_PAIR && kind != BSD_RELAY_HOST) {
		close(fd);
		return -EINVAL;
	}
	error = api_enter(so);
	if (error != 0) {
		close(fd);
		return -error;
	}
	if (so->so_relay != NULL || so->so_type != SOCK_STREAM ||
	    (so->so_options & SOO_ACCEPTCONN)) {
		error = EINVAL;
	} else if ((r = relay_new(s, so, fd, kind)) == NULL) {
		error = ENOMEM;
	} else {
		if (kind == BSD_RELAY_PAIR && ioctl(fd, FIONREAD, &fill) == 0 &&
		    fill > 0) {
			r->r_fill = (uint32_t)fill;
		}
		/* Whoever waits for the socket itself is to look at fd. */
		so_wake_waiters(so, -1);
		relay_queue(s, r);
	}
	api_leave(so);
	if (error != 0) {
		close(fd);
	}
	return -error;
}
