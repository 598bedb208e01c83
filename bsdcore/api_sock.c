/*
 * api_sock.c - sockets as the outside calls them: life, names, options.
 *
 * Each call takes the stack's lock and a hold on the socket, loops over the
 * non-blocking form and sowait() where it may block, and turns a positive
 * errno into a negative answer; this happens here and in api_data.c only.
 */
#include <poll.h>
#include <sys/un.h>

#include "bsdcore/api_sub.h"
#include "bsdcore/netinet/in.h"

#define UN_HDRLEN offsetof(struct sockaddr_un, sun_path)

int
api_enter(struct socket *so)
{
	struct stack *s = so->so_stack;

	stack_enter(s);
	if (s->s_flags & STACK_DEAD) {
		stack_leave(s);
		return ECONNABORTED;
	}
	if (so->so_state & (SS_DEFUNCT | SS_CLOSING | SS_NOFDREF)) {
		stack_leave(s);
		return EBADF;
	}
	sohold(so);
	return 0;
}

void
api_leave(struct socket *so)
{
	struct stack *s = so->so_stack;

	sorele(so);
	stack_leave(s);
}

socklen_t
api_getaddr(const struct bsd_addr *a, struct sockaddr_storage *ss)
{
	struct sockaddr_in *sin = (struct sockaddr_in *)ss;
	struct sockaddr_in6 *sin6 = (struct sockaddr_in6 *)ss;

	switch (a->family) {
	case AF_INET:
		memset(sin, 0, sizeof(*sin));
		sin->sin_family = AF_INET;
		sin->sin_port = htons(a->port);
		memcpy(&sin->sin_addr, a->addr, 4);
		return sizeof(*sin);
	case AF_INET6:
		memset(sin6, 0, sizeof(*sin6));
		sin6->sin6_family = AF_INET6;
		sin6->sin6_port = htons(a->port);
		sin6->sin6_flowinfo = htonl(a->flowinfo);
		sin6->sin6_scope_id = a->scope_id;
		memcpy(&sin6->sin6_addr, a->addr, 16);
		return sizeof(*sin6);
	case AF_UNSPEC:
		memset(sin, 0, sizeof(*sin));
		return sizeof(*sin);
	default:
		return 0;
	}
}

void
api_putaddr(const struct sockaddr_storage *ss, socklen_t len, struct bsd_addr *a)
{
	const struct sockaddr_in *sin = (const struct sockaddr_in *)ss;
	const struct sockaddr_in6 *sin6 = (const struct sockaddr_in6 *)ss;

	if (a == NULL) {
		return;
	}
	memset(a, 0, sizeof(*a));
	if (len < (socklen_t)sizeof(sa_family_t)) {
		return;
	}
	a->family = ss->ss_family;
	if (ss->ss_family == AF_INET && len >= (socklen_t)sizeof(*sin)) {
		a->port = ntohs(sin->sin_port);
		memcpy(a->addr, &sin->sin_addr, 4);
	} else if (ss->ss_family == AF_INET6 && len >= (socklen_t)sizeof(*sin6)) {
		a->port = ntohs(sin6->sin6_port);
		a->flowinfo = ntohl(sin6->sin6_flowinfo);
		a->scope_id = sin6->sin6_scope_id;
		memcpy(a->addr, &sin6->sin6_addr, 16);
	}
}

int
bsd_socket(struct stack *s, int family, int type, int protocol,
    struct socket **out)
{
	int error = ECONNABORTED;

	stack_enter(s);
	if (!(s->s_flags & STACK_DEAD)) {
		error = socreate(s, family, type, protocol, out);
	}
	stack_leave(s);
	return -error;
}

int
bsd_socketpair(struct stack *s, int family, int type, struct socket **a,
    struct socket **b)
{
	int error = ECONNABORTED;

	stack_enter(s);
	if (!(s->s_flags & STACK_DEAD)) {
		error = socreate(s, family, type, 0, a);
	}
	if (error == 0) {
		error = socreate(s, family, type, 0, b);
		if (error == 0) {
			error = soconnect2(*a, *b);
			if (error != 0) {
				soclose(*b);
			}
		}
		if (error != 0) {
			soclose(*a);
		}
	}
	stack_leave(s);
	return -error;
}

/* SO_LINGER: stay until what was sent is acknowledged. Lock held, so held. */
static void
close_linger(struct socket *so)
{
	struct stack *s = so->so_stack;
	uint64_t deadline = s->s_now + (uint64_t)so->so_linger * NSEC_PER_SEC;

	(void)soshutdown(so, SHUT_WR);
	while (so->so_pcb != NULL && so->so_snd.sb_cc > 0 && so->so_error == 0) {
		if (sowait(so, POLLOUT, deadline) != 0) {
			break;
		}
	}
}

/* The stack has ended the socket: let go of what is left of it. EBADF: that is
 * not what is wrong with it. Not locked. */
static int
close_defunct(struct socket *so)
{
	struct stack *s = so->so_stack;

	stack_enter(s);
	if (!(so->so_state & SS_DEFUNCT) ||
	    (so->so_state & (SS_CLOSING | SS_NOFDREF))) {
		stack_leave(s);
		return EBADF;
	}
	if (s->s_flags & STACK_GONE) {
		free(so);
		stack_unhold(s);
	} else {
		so->so_state |= SS_NOFDREF;
		sofree(so); /* or the last call does, or bsd_stack_free() */
		stack_leave(s);
	}
	return 0;
}

/* 0: locked and held. Else there is nothing to be done, and *answer is the
 * call's. */
static int
close_enter(struct socket *so, int *answer)
{
	int error = api_enter(so);

	*answer = error == EBADF ? -close_defunct(so) : 0;
	return error;
}

int
bsd_close(struct socket *so)
{
	int answer;

	if (close_enter(so, &answer) != 0) {
		return answer;
	}
	if (so->so_relay != NULL && relay_adopt(so)) {
		evq_forget(so);
		api_leave(so);
		return 0;
	}
	if ((so->so_options & SOO_LINGER) && so->so_linger > 0 &&
	    (so->so_state & SS_ISCONNECTED) && so->so_rcv.sb_cc == 0 &&
	    so->so_refs == 1 && (so->so_proto->pr_flags & PR_CONNREQUIRED)) {
		close_linger(so);
	}
	so->so_state |= SS_CLOSING; /* by the last hold */
	evq_forget(so);
	api_leave(so);
	return 0;
}

int
bsd_abort(struct socket *so)
{
	int answer;

	if (close_enter(so, &answer) != 0) {
		return answer;
	}
	if (so->so_relay != NULL) {
		relay_forget(so);
	}
	soabort(so);
	api_leave(so);
	return 0;
}

static int
api_bind(struct socket *so, const struct sockaddr_storage *ss, socklen_t len)
{
	int error = api_enter(so);

	if (error == 0) {
		error = sobind(so, (const struct sockaddr *)ss, len);
		api_leave(so);
	}
	return -error;
}

int
bsd_bind(struct socket *so, const struct bsd_addr *addr)
{
	struct sockaddr_storage ss;
	socklen_t len = api_getaddr(addr, &ss);

	return len == 0 ? -EAFNOSUPPORT : api_bind(so, &ss, len);
}

int
bsd_listen(struct socket *so, int backlog)
{
	int error = api_enter(so);

	if (error == 0) {
		error = solisten(so, backlog);
		api_leave(so);
	}
	return -error;
}

static int
api_peeraddr(struct socket *so, struct sockaddr_storage *ss, socklen_t *len)
{
	return so->so_pcb == NULL ? ENOTCONN : PRU(so, peeraddr, ss, len);
}

/* One connection with its peer's name. One that has been reset while it waited
 * is answered, too; its first use tells. */
static int
api_accept1(struct socket *head, struct socket **out, struct bsd_addr *peer)
{
	struct sockaddr_storage ss;
	struct socket *so = NULL;
	socklen_t len = 0;
	int error;

	do {
		error = soaccept(head, &so);
	} while (error == ECONNABORTED || error == ECONNRESET);
	if (error != 0) {
		return error;
	}
	if (api_peeraddr(so, &ss, &len) != 0) {
		len = 0;
		if (so->so_peer != NULL) {
			len = sizeof(*so->so_peer);
			memcpy(&ss, so->so_peer, len);
		}
	}
	api_putaddr(&ss, len, peer);
	free(so->so_peer);
	so->so_peer = NULL;
	*out = so;
	return 0;
}

int
bsd_accept(struct socket *so, int64_t timeout, struct socket **out,
    struct bsd_addr *peer)
{
	int error = api_enter(so);
	uint64_t deadline;

	if (error != 0) {
		return -error;
	}
	if (timeout < 0 && so->so_rcvtimeo != 0) {
		timeout = (int64_t)so->so_rcvtimeo;
	}
	deadline = api_deadline(so->so_stack, timeout);
	while ((error = api_accept1(so, out, peer)) == EWOULDBLOCK &&
	    timeout != 0) {
		error = sowait(so, POLLIN, deadline);
		if (error != 0) {
			break;
		}
		if (so->so_state & SS_DEFUNCT) {
			error = EBADF;
			break;
		}
	}
	api_leave(so);
	return -error;
}

/* Wait for the end of a handshake that was begun. */
static int
connect_wait(struct socket *so, int64_t timeout, uint64_t deadline)
{
	int error;

	while (so->so_state & SS_ISCONNECTING) {
		so->so_state |= SS_CONNPENDING;
		if (timeout == 0) {
			return EINPROGRESS;
		}
		error = sowait(so, POLLOUT, deadline);
		if (error != 0) {
			return error;
		}
	}
	so->so_state &= ~(uint32_t)SS_CONNPENDING;
	if (so->so_state & SS_DEFUNCT) {
		return EBADF;
	}
	error = so->so_error;
	so->so_error = 0;
	if (error == 0 && !(so->so_state & SS_ISCONNECTED)) {
		error = ECONNABORTED;
	}
	if (error != 0) {
		(void)soreuse(so);
	}
	return error;
}

static int
api_connect(struct socket *so, const struct sockaddr_storage *ss, socklen_t len,
    int64_t timeout)
{
	int error = api_enter(so);
	uint64_t deadline;

	if (error != 0) {
		return -error;
	}
	if (timeout < 0 && so->so_sndtimeo != 0) {
		timeout = (int64_t)so->so_sndtimeo;
	}
	deadline = api_deadline(so->so_stack, timeout);
	error = soconnect(so, (const struct sockaddr *)ss, len);
	if (error == EALREADY && timeout != 0) {
		error = 0; /* as Linux: wait with whoever began */
	}
	if (error == 0 && ss->ss_family != AF_UNSPEC &&
	    (so->so_proto->pr_flags & PR_CONNREQUIRED)) {
		error = connect_wait(so, timeout, deadline);
	}
	api_leave(so);
	return -error;
}

int
bsd_connect(struct socket *so, const struct bsd_addr *addr, int64_t timeout)
{
	struct sockaddr_storage ss;
	socklen_t len = api_getaddr(addr, &ss);

	return len == 0 ? -EAFNOSUPPORT : api_connect(so, &ss, len, timeout);
}

int
bsd_shutdown(struct socket *so, int how)
{
	int error = api_enter(so);

	if (error == 0) {
		error = soshutdown(so, how);
		api_leave(so);
	}
	return -error;
}

static int
api_name(struct socket *so, bool peer, struct sockaddr_storage *ss,
    socklen_t *len)
{
	int error = api_enter(so);

	if (error != 0) {
		return error;
	}
	*len = 0;
	if (peer) {
		error = so->so_state & SS_ISCONNECTED ?
		    api_peeraddr(so, ss, len) :
		    ENOTCONN;
	} else if (so->so_pcb == NULL) { /* the connection is over */
		memset(ss, 0, sizeof(*ss));
		ss->ss_family = (sa_family_t)so->so_family;
		*len = sizeof(*ss);
	} else {
		error = PRU(so, sockaddr, ss, len);
	}
	api_leave(so);
	return error;
}

int
bsd_getsockname(struct socket *so, struct bsd_addr *out)
{
	struct sockaddr_storage ss;
	socklen_t len;
	int error = api_name(so, false, &ss, &len);

	if (error == 0) {
		api_putaddr(&ss, len, out);
	}
	return -error;
}

int
bsd_getpeername(struct socket *so, struct bsd_addr *out)
{
	struct sockaddr_storage ss;
	socklen_t len;
	int error = api_name(so, true, &ss, &len);

	if (error == 0) {
		api_putaddr(&ss, len, out);
	}
	return -error;
}

static socklen_t
local_addr(const void *name, size_t len, struct sockaddr_storage *ss)
{
	struct sockaddr_un *un = (struct sockaddr_un *)ss;

	if (len > sizeof(un->sun_path)) {
		return 0;
	}
	memset(un, 0, sizeof(*un));
	un->sun_family = AF_LOCAL;
	memcpy(un->sun_path, name, len);
	return (socklen_t)(UN_HDRLEN + len);
}

int
bsd_bind_local(struct socket *so, const void *name, size_t len)
{
	struct sockaddr_storage ss;
	socklen_t sslen = local_addr(name, len, &ss);

	return sslen == 0 ? -EINVAL : api_bind(so, &ss, sslen);
}

int
bsd_connect_local(struct socket *so, const void *name, size_t len,
    int64_t timeout)
{
	struct sockaddr_storage ss;
	socklen_t sslen = local_addr(name, len, &ss);

	return sslen == 0 ? -EINVAL : api_connect(so, &ss, sslen, timeout);
}

long
bsd_localname(struct socket *so, int peer, void *buf, size_t len)
{
	struct sockaddr_storage ss;
	socklen_t sslen;
	size_t n;
	int error = api_name(so, peer != 0, &ss, &sslen);

	if (error != 0) {
		return -error;
	}
	if (ss.ss_family != AF_LOCAL) {
		return -EAFNOSUPPORT;
	}
	n = sslen > UN_HDRLEN ? sslen - UN_HDRLEN : 0;
	memcpy(buf, ((struct sockaddr_un *)&ss)->sun_path, n < len ? n : len);
	return (long)n;
}

static int
api_sockopt(struct socket *so, struct sockopt *sopt)
{
	int error = api_enter(so);

	if (error == 0) {
		error = sopt->sopt_dir == SOPT_SET ? sosetopt(so, sopt) :
						     sogetopt(so, sopt);
		api_leave(so);
	}
	return -error;
}

int
bsd_setsockopt(struct socket *so, int level, int name, const void *val,
    size_t len)
{
	struct sockopt sopt = { .sopt_dir = SOPT_SET,
		.sopt_level = level,
		.sopt_name = name,
		.sopt_valsize = len };

	memcpy(&sopt.sopt_val, &val, sizeof(val)); /* only read */
	return api_sockopt(so, &sopt);
}

int
bsd_set_ahead(struct socket *so, uint32_t ahead)
{
	int error = api_enter(so);

	if (error == 0) {
		error = sosetahead(so, ahead);
		api_leave(so);
	}
	return -error;
}

int
bsd_getsockopt(struct socket *so, int level, int name, void *val, size_t *len)
{
	struct sockopt sopt = { .sopt_dir = SOPT_GET,
		.sopt_level = level,
		.sopt_name = name,
		.sopt_val = val,
		.sopt_valsize = *len };
	int error = api_sockopt(so, &sopt);

	if (error == 0) {
		*len = sopt.sopt_valsize;
	}
	return error;
}
