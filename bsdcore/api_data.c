/*
 * api_data.c - sending, receiving and waiting, as the outside calls them.
 *
 * A deadline is computed once for a call. EINTR is answered only when nothing
 * was done; what was done is always told.
 */
#include <limits.h>
#include <poll.h>

#include "bsdcore/api_sub.h"

CTASSERT(sizeof(struct bsd_iovec) == sizeof(struct iovec));
CTASSERT(offsetof(struct bsd_iovec, len) == offsetof(struct iovec, iov_len));

/* One call of send or receive on its way. */
struct xfer {
	struct uio x_uio;
	int x_flags;
	int64_t x_timeout;
	uint64_t x_deadline;
	size_t x_done;
};

/* false: too much, or too many. */
static int
xfer_init(struct xfer *x, const struct iovec *iov, int iovcnt, int flags,
    int64_t timeout)
{
	size_t resid = 0;

	if (iovcnt < 0 || iovcnt > IOV_MAX) {
		return EMSGSIZE;
	}
	for (int i = 0; i < iovcnt; i++) {
		if (iov[i].iov_len > (size_t)SSIZE_MAX - resid) {
			return EINVAL;
		}
		resid += iov[i].iov_len;
	}
	x->x_uio = (struct uio){
		.uio_iov = iov, .uio_iovcnt = iovcnt, .uio_resid = resid
	};
	x->x_flags = flags;
	x->x_timeout = (flags & MSG_DONTWAIT) ? 0 : timeout;
	x->x_done = 0;
	return 0;
}

/* Data that goes through a descriptor has an order, and no call may meddle. */
static int
xfer_elsewhere(const struct socket *so, const struct xfer *x)
{
	return !(x->x_flags & MSG_OOB) && relay_carries(so) ? EINTR : 0;
}

/* Wait for more; errno or 0: try again. */
static int
xfer_wait(struct socket *so, struct xfer *x, int events)
{
	int error;

	if (x->x_timeout == 0) {
		return EWOULDBLOCK;
	}
	error = sowait(so, events, x->x_deadline);
	if (error == 0 && (so->so_state & SS_DEFUNCT)) {
		error = EBADF;
	}
	return error != 0 ? error : xfer_elsewhere(so, x);
}

static void
xfer_start(const struct socket *so, struct xfer *x, uint64_t timeo)
{
	if (x->x_timeout < 0 && timeo != 0) {
		x->x_timeout = (int64_t)timeo;
	}
	x->x_deadline = api_deadline(so->so_stack, x->x_timeout);
}

static int
send_loop(struct socket *so, struct xfer *x, const void *control,
    size_t controllen, const struct sockaddr *to, socklen_t tolen)
{
	for (;;) {
		struct mbuf *cm = NULL;
		size_t n;
		int error =
		    sockargs(so->so_stack->s_mb, control, controllen, &cm);

		if (error != 0) {
			return error;
		}
		error = sosend(so, &x->x_uio, to, tolen, cm, x->x_flags, &n);
		x->x_done += n;
		if (error == 0 && x->x_uio.uio_resid == 0) {
			return 0;
		}
		if (error == 0 || error == EWOULDBLOCK) {
			error = xfer_wait(so, x, POLLOUT);
		}
		if (error != 0) {
			return error;
		}
	}
}

/* The whole of a send call: errno; x_done tells how far it came. */
static int
api_send(struct socket *so, struct xfer *x, const void *control,
    size_t controllen, const struct bsd_addr *to)
{
	struct sockaddr_storage ss;
	socklen_t tolen = 0;
	int error;

	if (to != NULL) {
		tolen = api_getaddr(to, &ss);
		if (tolen == 0) {
			return EAFNOSUPPORT;
		}
	}
	error = api_enter(so);
	if (error != 0) {
		return error;
	}
	xfer_start(so, x, so->so_sndtimeo);
	error = xfer_elsewhere(so, x);
	if (error == 0) {
		error = send_loop(so, x, control, controllen,
		    to != NULL ? (const struct sockaddr *)&ss : NULL, tolen);
	}
	api_leave(so);
	return error;
}

static long
xfer_answer(const struct xfer *x, int error)
{
	return x->x_done > 0 || error == 0 ? (long)x->x_done : -(long)error;
}

long
bsd_send(struct socket *so, const void *buf, size_t len, int flags,
    const struct bsd_addr *to, int64_t timeout)
{
	struct iovec iov = { .iov_len = len };
	struct xfer x;
	int error;

	memcpy(&iov.iov_base, &buf, sizeof(buf)); /* only read */
	error = xfer_init(&x, &iov, 1, flags, timeout);
	if (error == 0) {
		error = api_send(so, &x, NULL, 0, to);
	}
	return xfer_answer(&x, error);
}

int
bsd_sendall(struct socket *so, const void *buf, size_t len, int flags,
    int64_t timeout, size_t *done)
{
	struct iovec iov = { .iov_len = len };
	struct xfer x = { .x_done = 0 };
	int error;

	memcpy(&iov.iov_base, &buf, sizeof(buf)); /* only read */
	error = xfer_init(&x, &iov, 1, flags, timeout);
	if (error == 0) {
		error = api_send(so, &x, NULL, 0, NULL);
	}
	if (done != NULL) {
		*done = x.x_done;
	}
	return -error;
}

long
bsd_sendmsg(struct socket *so, const struct bsd_iovec *iov, int iovcnt,
    const void *control, size_t controllen, int flags,
    const struct bsd_addr *to, int64_t timeout)
{
	struct xfer x = { .x_done = 0 };
	int error =
	    xfer_init(&x, (const struct iovec *)iov, iovcnt, flags, timeout);

	if (error == 0) {
		error = api_send(so, &x, control, controllen, to);
	}
	return xfer_answer(&x, error);
}

/* Where a received message's other parts go. */
struct rcvparts {
	struct sockaddr_storage rp_from;
	socklen_t rp_fromlen;
	struct mbuf *rp_control;
	bool rp_wantcontrol;
	int rp_flags; /* out */
};

/* Is the stream at its end, or broken, with nothing left to read? */
static bool
recv_over(const struct socket *so)
{
	return so->so_rcv.sb_cc == 0 &&
	    (so->so_error != 0 || (so->so_rcv.sb_state & SBS_CANTRCVMORE) ||
		so->so_pcb == NULL);
}

static int
recv_loop(struct socket *so, struct xfer *x, struct rcvparts *rp)
{
	const struct uio start = x->x_uio;
	bool atomic = (so->so_proto->pr_flags & PR_ATOMIC) != 0;
	size_t len = start.uio_resid, lowat = so->so_rcv.sb_lowat;
	size_t target = (x->x_flags & MSG_WAITALL) || len < lowat ? len : lowat;

	for (;;) {
		size_t n;
		int flags = x->x_flags, error;

		if (x->x_flags & MSG_PEEK) {
			x->x_uio = start;
			x->x_done = 0;
		}
		error = soreceive(so, &x->x_uio, &rp->rp_from, &rp->rp_fromlen,
		    rp->rp_wantcontrol ? &rp->rp_control : NULL, &flags, &n);
		x->x_done += n;
		if (error == 0) {
			rp->rp_flags = flags;
			if (atomic || (flags & MSG_OOB) || n == 0 ||
			    x->x_done >= target || recv_over(so) ||
			    (so->so_rcv.sb_state & SBS_RCVATMARK)) {
				return 0;
			}
			error = EWOULDBLOCK;
		}
		if (error == EWOULDBLOCK && atomic && x->x_timeout != 0 &&
		    (so->so_rcv.sb_state & SBS_CANTRCVMORE)) {
			return 0;
		}
		if (error == EWOULDBLOCK) {
			error = xfer_wait(so, x, POLLIN);
		}
		if (error != 0) {
			return error;
		}
		if (x->x_done > 0 && recv_over(so) && !(x->x_flags & MSG_PEEK)) {
			return 0; /* the reason is the next call's */
		}
	}
}

static int
api_recv(struct socket *so, struct xfer *x, struct rcvparts *rp)
{
	int error = api_enter(so);

	if (error != 0) {
		return error;
	}
	xfer_start(so, x, so->so_rcvtimeo);
	error = xfer_elsewhere(so, x);
	if (error == 0) {
		error = recv_loop(so, x, rp);
	}
	api_leave(so);
	return error;
}

long
bsd_recv(struct socket *so, void *buf, size_t len, int flags,
    struct bsd_addr *from, int64_t timeout)
{
	struct iovec iov = { .iov_base = buf, .iov_len = len };
	struct rcvparts rp;
	struct xfer x = { .x_done = 0 };
	int error = xfer_init(&x, &iov, 1, flags, timeout);

	rp.rp_fromlen = 0;
	rp.rp_wantcontrol = false;
	if (error == 0) {
		error = api_recv(so, &x, &rp);
	}
	if (error == 0) {
		api_putaddr(&rp.rp_from, rp.rp_fromlen, from);
	}
	return xfer_answer(&x, error);
}

/* cmsgs as put_cmsg(): whole ones padded, the last cut to what fits. Answers the
 * bytes used; *flags gets MSG_CTRUNC. Frees nothing. */
static size_t
put_control(const struct mbuf *m, uint8_t *buf, size_t room, int *flags)
{
	size_t used = 0;

	for (; m != NULL; m = m->m_next) {
		size_t len = m->m_len, left = room - used, space;
		struct cmsghdr c;

		if (left < sizeof(c)) {
			*flags |= MSG_CTRUNC;
			break;
		}
		if (len > left) {
			*flags |= MSG_CTRUNC;
			len = left;
		}
		memcpy(&c, m->m_data, sizeof(c));
		c.cmsg_len = len;
		memcpy(buf + used, &c, sizeof(c));
		memcpy(buf + used + sizeof(c), m->m_data + sizeof(c),
		    len - sizeof(c));
		space = CMSG_ALIGN(len);
		if (space > left) {
			space = left;
		}
		memset(buf + used + len, 0, space - len);
		used += space;
	}
	return used;
}

long
bsd_recvmsg(struct socket *so, const struct bsd_iovec *iov, int iovcnt,
    void *control, size_t *controllen, int *flags, struct bsd_addr *from,
    int64_t timeout)
{
	struct rcvparts rp = { .rp_wantcontrol = true };
	struct xfer x = { .x_done = 0 };
	int error =
	    xfer_init(&x, (const struct iovec *)iov, iovcnt, *flags, timeout);
	size_t used = 0;

	if (error == 0) {
		error = api_recv(so, &x, &rp);
	}
	*flags = 0;
	if (error == 0) {
		*flags =
		    rp.rp_flags & (MSG_TRUNC | MSG_CTRUNC | MSG_EOR | MSG_OOB);
		api_putaddr(&rp.rp_from, rp.rp_fromlen, from);
	}
	if (rp.rp_control != NULL) {
		struct stack *s = so->so_stack;

		used = put_control(rp.rp_control, control,
		    controllen != NULL && control != NULL ? *controllen : 0,
		    flags);
		stack_enter(s);
		m_freem(rp.rp_control);
		stack_leave(s);
	}
	if (controllen != NULL) {
		*controllen = used;
	}
	return xfer_answer(&x, error);
}

int
bsd_poll(struct socket *so)
{
	int error = api_enter(so), ev;

	if (error != 0) {
		return error == EBADF ? POLLNVAL : POLLERR | POLLHUP;
	}
	ev = sopoll(so);
	api_leave(so);
	return ev;
}

int
bsd_wait(struct socket *so, int events, int64_t timeout)
{
	int error = api_enter(so), ev, want = events | POLLERR | POLLHUP;
	uint64_t deadline;

	if (error != 0) {
		return -error;
	}
	deadline = api_deadline(so->so_stack, timeout);
	while ((ev = sopoll(so) & want) == 0 && timeout != 0) {
		error = sowait(so, events, deadline);
		if (error != 0) {
			break;
		}
	}
	api_leave(so);
	return ev != 0 || error == EWOULDBLOCK ? ev : -error;
}

#define POLL_FEW 16

/* What is ready now? */
static int
poll_look(struct bsd_pollfd *v, int n)
{
	int ready = 0;

	for (int i = 0; i < n; i++) {
		v[i].revents = v[i].so == NULL ?
		    0 :
		    sopoll(v[i].so) & (v[i].events | POLLERR | POLLHUP);
		ready += v[i].revents != 0;
	}
	return ready;
}

static int
poll_points(struct waitpoint *w, const struct bsd_pollfd *v, int n)
{
	int used = 0;

	for (int i = 0; i < n; i++) {
		if (v[i].so != NULL) {
			w[used].wp_so = v[i].so;
			w[used++].wp_events = v[i].events | POLLERR | POLLHUP;
		}
	}
	return used;
}

static int
poll_loop(struct stack *s, struct bsd_pollfd *v, int n, struct waitpoint *w,
    int64_t timeout)
{
	uint64_t deadline = api_deadline(s, timeout);
	int ready, error;

	while ((ready = poll_look(v, n)) == 0 && timeout != 0) {
		error = sowait_many(s, w, poll_points(w, v, n), deadline);
		if (s->s_flags & (STACK_DEAD | STACK_DRAINING)) {
			error = EBADF;
		}
		if (error == EWOULDBLOCK) {
			return poll_look(v, n);
		}
		if (error != 0) {
			return -error;
		}
	}
	return ready;
}

static int
poll_held(struct stack *s, struct bsd_pollfd *v, int n, struct waitpoint *w,
    int64_t timeout)
{
	int answer;

	for (int i = 0; i < n; i++) {
		if (v[i].so != NULL) {
			sohold(v[i].so);
		}
	}
	answer = poll_loop(s, v, n, w, timeout);
	for (int i = 0; i < n; i++) {
		if (v[i].so != NULL) {
			sorele(v[i].so);
		}
	}
	return answer;
}

int
bsd_poll_many(struct bsd_pollfd *v, int n, int64_t timeout)
{
	struct waitpoint few[POLL_FEW], *w = few;
	struct stack *s = NULL;
	int answer;

	for (int i = 0; i < n; i++) {
		if (v[i].so == NULL) {
			continue;
		}
		if (s != NULL && v[i].so->so_stack != s) {
			return -EXDEV; /* one lock, one stack */
		}
		s = v[i].so->so_stack;
	}
	if (s == NULL) {
		return -EINVAL;
	}
	if (n > POLL_FEW) {
		w = calloc((size_t)n, sizeof(*w));
		if (w == NULL) {
			return -ENOMEM;
		}
	}
	stack_enter(s);
	answer =
	    s->s_flags & STACK_GONE ? -EBADF : poll_held(s, v, n, w, timeout);
	stack_leave(s);
	if (w != few) {
		free(w);
	}
	return answer;
}
