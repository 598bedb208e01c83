/*
 * uipc_token.c - stand-ins for sockets whose data stays in the stack.
 *
 * A poller sees a descriptor become readable because a token lies in it: one
 * byte for datagram sockets, one pending connection for listeners. At most one
 * is out. The application takes it off when it looks (bsd_token_ack) and the
 * next one follows while there is still something to read: level-triggered, as
 * a kernel socket is.
 */
#include <poll.h>
#include <sys/un.h>
#include <unistd.h>

#include "bsdcore/api_sub.h"
#include "bsdcore/kern/uipc_relay.h"

/* A connection that says "look"; the listener's owner accepts and closes it. */
static bool
token_connect(const struct relay *r)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
	    r->r_namelen);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	bool ok;

	if (fd < 0) {
		return false;
	}
	memcpy(sun.sun_path + 1, r->r_name, r->r_namelen);
	ok = connect(fd, (const struct sockaddr *)&sun, len) == 0;
	close(fd);
	return ok;
}

void
token_run(struct stack *s, struct relay *r)
{
	(void)s;
	if (r->r_token || !(sopoll(r->r_so) & (POLLIN | POLLERR | POLLHUP))) {
		return;
	}
	if (r->r_kind == BSD_TOKEN_LISTEN) {
		r->r_token = token_connect(r);
	} else {
		r->r_token = send(r->r_watch.wa_fd, "!", 1,
				 MSG_DONTWAIT | MSG_NOSIGNAL) == 1;
	}
}

int
bsd_token(struct socket *so, int kind, int fd, const void *name, size_t namelen)
{
	struct stack *s = so->so_stack;
	struct relay *r = NULL;
	int error = api_enter(so);

	if (error != 0) {
		if (fd >= 0) {
			close(fd);
		}
		return -error;
	}
	if ((kind != BSD_TOKEN_DGRAM && kind != BSD_TOKEN_LISTEN) ||
	    so->so_relay != NULL || namelen >= sizeof(r->r_name)) {
		error = EINVAL;
	} else if ((r = relay_new(s, so, fd, kind)) == NULL) {
		error = ENOMEM;
	} else {
		r->r_namelen = (uint8_t)namelen;
		if (namelen > 0) {
			memcpy(r->r_name, name, namelen);
		}
		relay_queue(s, r);
	}
	api_leave(so);
	if (error != 0 && fd >= 0) {
		close(fd);
	}
	return -error;
}

int
bsd_token_ack(struct socket *so)
{
	int error = api_enter(so);

	if (error != 0) {
		return -error;
	}
	if (so->so_relay == NULL) {
		error = EINVAL;
	} else {
		so->so_relay->r_token = false;
		relay_queue(so->so_stack, so->so_relay);
	}
	api_leave(so);
	return -error;
}
