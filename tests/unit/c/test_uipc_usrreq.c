/* PF_LOCAL through the public calls, by one thread in virtual time and by two
 * on the real clock. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/socket.h>

#include "bsdcore/api.h"
#include "bsdcore/sys/socketvar.h"
#include "tests/unit/c/check.h"

static struct stack *
new_stack(int virtual_time)
{
	struct bsd_config cfg = { .name = "t",
		.seed = { 1, 2, 3, 4 },
		.virtual_time = virtual_time,
		.start_time = 1000 };
	struct stack *s;

	CHECK_EQ(bsd_stack_new(&cfg, &s), 0);
	return s;
}

static void
free_stack(struct stack *s)
{
	struct bsd_memstat m;

	bsd_memstat(s, &m);
	CHECK_EQ(m.sockets, 0);
	CHECK_EQ(m.mbufs, 0);
	CHECK_EQ(m.cl2k + m.cl4k + m.cl16k + m.cl64k, 0);
	bsd_stack_free(s);
}

static int
sockint(struct socket *so, int name)
{
	int v = -1;
	size_t len = sizeof(v);

	CHECK_EQ(bsd_getsockopt(so, SOL_SOCKET, name, &v, &len), 0);
	CHECK_EQ(len, sizeof(v));
	return v;
}

TEST(stream_pair)
{
	struct stack *s = new_stack(1);
	struct socket *a, *b;
	char buf[16];

	CHECK_EQ(bsd_socketpair(s, AF_UNIX, SOCK_STREAM, &a, &b), 0);
	CHECK_EQ(bsd_poll(a), POLLOUT);
	CHECK_EQ(bsd_recv(b, buf, sizeof(buf), 0, NULL, 0), -EAGAIN);
	/* nobody to wait for in virtual time */
	CHECK_EQ(bsd_recv(b, buf, sizeof(buf), 0, NULL, -1), -EAGAIN);
	CHECK_EQ(bsd_send(a, "hello", 5, 0, NULL, -1), 5);
	CHECK_EQ(bsd_send(a, "world", 5, 0, NULL, -1), 5);
	CHECK_EQ(bsd_poll(b), POLLIN | POLLOUT);
	CHECK_EQ(bsd_recv(b, buf, 3, MSG_PEEK, NULL, 0), 3);
	CHECK_MEM(buf, "hel", 3);
	CHECK_EQ(bsd_recv(b, buf, sizeof(buf), 0, NULL, 0), 10);
	CHECK_MEM(buf, "helloworld", 10);

	CHECK_EQ(bsd_shutdown(a, SHUT_WR), 0);
	CHECK_EQ(bsd_recv(b, buf, 1, 0, NULL, -1), 0);
	CHECK_EQ(bsd_poll(b), POLLIN | POLLOUT | POLLRDHUP);
	CHECK_EQ(bsd_send(a, "x", 1, 0, NULL, 0), -EPIPE);
	CHECK_EQ(bsd_send(b, "y", 1, 0, NULL, 0), 1);
	CHECK_EQ(bsd_recv(a, buf, 1, 0, NULL, 0), 1);
	CHECK_EQ(bsd_close(a), 0);
	CHECK_EQ(bsd_send(b, "z", 1, 0, NULL, 0), -EPIPE);
	CHECK_EQ(bsd_poll(b), POLLIN | POLLOUT | POLLHUP | POLLRDHUP);
	CHECK_EQ(bsd_close(b), 0);
	free_stack(s);
}

TEST(stream_flow_control)
{
	struct stack *s = new_stack(1);
	struct socket *a, *b;
	static char out[1 << 20], in[1 << 20];
	size_t sent = 0, got = 0;

	for (size_t i = 0; i < sizeof(out); i++) {
		out[i] = (char)(i * 7 + i / 251);
	}
	CHECK_EQ(bsd_socketpair(s, AF_UNIX, SOCK_STREAM, &a, &b), 0);
	while (got < sizeof(in)) {
		long n = bsd_send(a, out + sent, sizeof(out) - sent, 0, NULL, 0);

		CHECK(n > 0 || n == -EAGAIN || sent == sizeof(out));
		sent += n > 0 ? (size_t)n : 0;
		if (sent < sizeof(out)) {
			CHECK_EQ(bsd_send(a, "", 1, 0, NULL, 0), -EAGAIN);
			CHECK(!(bsd_poll(a) & POLLOUT));
		}
		n = bsd_recv(b, in + got, 100000 - got % 777, 0, NULL, 0);
		CHECK(n > 0);
		got += (size_t)n;
	}
	CHECK_MEM(in, out, sizeof(in));
	bsd_close(a);
	bsd_close(b);
	free_stack(s);
}

TEST(unread_data_resets)
{
	struct stack *s = new_stack(1);
	struct socket *a, *b;
	char c;

	CHECK_EQ(bsd_socketpair(s, AF_UNIX, SOCK_STREAM, &a, &b), 0);
	CHECK_EQ(bsd_send(a, "x", 1, 0, NULL, 0), 1);
	bsd_close(b);
	CHECK(bsd_poll(a) & POLLERR);
	CHECK_EQ(bsd_recv(a, &c, 1, 0, NULL, 0), -ECONNRESET);
	CHECK_EQ(bsd_recv(a, &c, 1, 0, NULL, 0), 0);
	bsd_close(a);
	free_stack(s);
}

TEST(datagrams)
{
	struct stack *s = new_stack(1);
	struct socket *a, *b;
	char buf[8];
	struct bsd_iovec iov = { buf, 4 };
	int flags = 0;

	CHECK_EQ(bsd_socketpair(s, AF_UNIX, SOCK_DGRAM, &a, &b), 0);
	CHECK_EQ(bsd_send(a, "abcdef", 6, 0, NULL, 0), 6);
	CHECK_EQ(bsd_send(a, "", 0, 0, NULL, 0), 0);
	CHECK_EQ(bsd_send(a, "gh", 2, 0, NULL, 0), 2);
	CHECK_EQ(bsd_recv(b, buf, 2, MSG_PEEK | MSG_TRUNC, NULL, 0), 6);
	CHECK_EQ(bsd_recvmsg(b, &iov, 1, NULL, NULL, &flags, NULL, 0), 4);
	CHECK_EQ(flags, MSG_TRUNC);
	CHECK_MEM(buf, "abcd", 4);
	CHECK_EQ(bsd_poll(b), POLLIN | POLLOUT);
	CHECK_EQ(bsd_recv(b, buf, 8, 0, NULL, 0), 0);
	CHECK_EQ(bsd_recv(b, buf, 8, 0, NULL, 0), 2);
	CHECK_EQ(bsd_recv(b, buf, 8, 0, NULL, 0), -EAGAIN);
	CHECK_EQ(bsd_close(b), 0);
	CHECK_EQ(bsd_send(a, "x", 1, 0, NULL, 0), -ECONNREFUSED);
	CHECK_EQ(bsd_send(a, "x", 1, 0, NULL, 0), -ENOTCONN);
	bsd_close(a);
	free_stack(s);
}

TEST(seqpacket_keeps_records)
{
	struct stack *s = new_stack(1);
	struct socket *a, *b;
	char buf[8];
	struct bsd_iovec iov = { buf, 8 };
	int flags = 0;

	CHECK_EQ(bsd_socketpair(s, AF_UNIX, SOCK_SEQPACKET, &a, &b), 0);
	CHECK_EQ(bsd_send(a, "abc", 3, 0, NULL, 0), 3);
	CHECK_EQ(bsd_send(a, "de", 2, 0, NULL, 0), 2);
	CHECK_EQ(bsd_recvmsg(b, &iov, 1, NULL, NULL, &flags, NULL, 0), 3);
	CHECK_EQ(flags, MSG_EOR);
	CHECK_EQ(bsd_recv(b, buf, 8, 0, NULL, 0), 2);
	bsd_close(a);
	CHECK_EQ(bsd_recv(b, buf, 8, 0, NULL, 0), 0);
	bsd_close(b);
	free_stack(s);
}

TEST(listen_accept)
{
	struct stack *s = new_stack(1);
	struct socket *l, *c[4], *a;
	struct bsd_addr peer;
	char buf[16];

	CHECK_EQ(bsd_socket(s, AF_UNIX, SOCK_STREAM, 0, &l), 0);
	CHECK_EQ(bsd_listen(l, 1), -EINVAL);
	CHECK_EQ(bsd_bind_local(l, "name", 4), 0);
	CHECK_EQ(bsd_accept(l, 0, &a, &peer), -EINVAL);
	CHECK_EQ(bsd_listen(l, 1), 0);
	CHECK_EQ(sockint(l, SO_ACCEPTCONN), 1);
	CHECK_EQ(bsd_accept(l, 0, &a, &peer), -EAGAIN);
	for (int i = 0; i < 4; i++) {
		CHECK_EQ(bsd_socket(s, AF_UNIX, SOCK_STREAM, 0, &c[i]), 0);
		CHECK_EQ(bsd_poll(c[i]), POLLOUT | POLLHUP);
	}
	CHECK_EQ(bsd_connect_local(c[0], "none", 4, 0), -ECONNREFUSED);
	CHECK_EQ(bsd_bind_local(c[3], "name", 4), -EADDRINUSE);
	/* backlog + 1, as on Linux */
	CHECK_EQ(bsd_connect_local(c[0], "name", 4, 0), 0);
	CHECK_EQ(bsd_connect_local(c[0], "name", 4, 0), -EISCONN);
	CHECK_EQ(bsd_connect_local(c[1], "name", 4, 0), 0);
	CHECK_EQ(bsd_connect_local(c[2], "name", 4, 0), -EAGAIN);
	CHECK_EQ(bsd_poll(l), POLLIN);
	CHECK_EQ(bsd_accept(l, 0, &a, &peer), 0);
	CHECK_EQ(bsd_localname(a, 0, buf, sizeof(buf)), 4);
	CHECK_MEM(buf, "name", 4);
	CHECK_EQ(bsd_localname(a, 1, buf, sizeof(buf)), 0);
	CHECK_EQ(bsd_localname(c[0], 1, buf, sizeof(buf)), 4);
	CHECK_EQ(bsd_send(c[0], "q", 1, 0, NULL, 0), 1);
	CHECK_EQ(bsd_recv(a, buf, 1, 0, NULL, 0), 1);
	/* the second one is never accepted */
	CHECK_EQ(bsd_close(l), 0);
	CHECK_EQ(bsd_recv(c[1], buf, 1, 0, NULL, 0), -ECONNRESET);
	for (int i = 0; i < 4; i++) {
		bsd_close(c[i]);
	}
	bsd_close(a);
	free_stack(s);
}

TEST(options)
{
	struct stack *s = new_stack(1);
	struct socket *a;
	struct linger l = { 1, 7 };
	size_t len = sizeof(l);
	int v = 4096;
	char c = 1;

	CHECK_EQ(bsd_socket(s, AF_UNIX, SOCK_DGRAM, 0, &a), 0);
	CHECK_EQ(sockint(a, SO_TYPE), SOCK_DGRAM);
	CHECK_EQ(sockint(a, SO_DOMAIN), AF_UNIX);
	CHECK_EQ(sockint(a, SO_ERROR), 0);
	CHECK_EQ(bsd_setsockopt(a, SOL_SOCKET, SO_RCVBUF, &v, sizeof(v)), 0);
	CHECK_EQ(sockint(a, SO_RCVBUF), 8192);
	v = 1;
	CHECK_EQ(bsd_setsockopt(a, SOL_SOCKET, SO_SNDBUF, &v, sizeof(v)), 0);
	CHECK_EQ(sockint(a, SO_SNDBUF), 4608);
	CHECK_EQ(bsd_setsockopt(a, SOL_SOCKET, SO_REUSEADDR, &c, 1), -EINVAL);
	CHECK_EQ(bsd_setsockopt(a, SOL_SOCKET, SO_REUSEADDR, &v, sizeof(v)), 0);
	CHECK_EQ(sockint(a, SO_REUSEADDR), 1);
	CHECK_EQ(bsd_setsockopt(a, SOL_SOCKET, SO_TYPE, &v, sizeof(v)),
	    -ENOPROTOOPT);
	CHECK_EQ(bsd_setsockopt(a, SOL_SOCKET, 9999, &v, sizeof(v)),
	    -ENOPROTOOPT);
	CHECK_EQ(bsd_setsockopt(a, 6, 1, &v, sizeof(v)), -EOPNOTSUPP);
	CHECK_EQ(bsd_setsockopt(a, SOL_SOCKET, SO_LINGER, &l, sizeof(l)), 0);
	memset(&l, 0, sizeof(l));
	CHECK_EQ(bsd_getsockopt(a, SOL_SOCKET, SO_LINGER, &l, &len), 0);
	CHECK_EQ(l.l_linger, 7);
	CHECK_EQ(bsd_listen(a, 1), -EOPNOTSUPP);
	bsd_close(a);
	CHECK_EQ(bsd_socket(s, AF_UNIX, 77, 0, &a), -EINVAL);
	CHECK_EQ(bsd_socket(s, AF_APPLETALK, SOCK_STREAM, 0, &a), -EAFNOSUPPORT);
	free_stack(s);
}

TEST(event_queue)
{
	struct stack *s = new_stack(1);
	struct socket *a, *b;
	struct evq *q;
	struct bsd_event ev[4];
	struct pollfd pfd = { .events = POLLIN };
	char c;

	CHECK_EQ(bsd_socketpair(s, AF_UNIX, SOCK_STREAM, &a, &b), 0);
	CHECK_EQ(bsd_evq_new(s, &q), 0);
	pfd.fd = bsd_evq_fd(q);
	CHECK_EQ(bsd_evq_ctl(q, b, 0, 0), -ENOENT);
	CHECK_EQ(bsd_evq_ctl(q, b, POLLIN, 42), 0);
	CHECK_EQ(bsd_evq_wait(q, ev, 4, 0), 0);
	CHECK_EQ(poll(&pfd, 1, 0), 0);
	bsd_send(a, "xy", 2, 0, NULL, 0);
	CHECK_EQ(poll(&pfd, 1, 0), 1);
	for (int i = 0; i < 2; i++) { /* level-triggered */
		CHECK_EQ(bsd_evq_wait(q, ev, 4, 0), 1);
		CHECK_EQ(ev[0].data, 42);
		CHECK_EQ(ev[0].events, POLLIN);
	}
	CHECK_EQ(bsd_recv(b, &c, 1, 0, NULL, 0), 1);
	CHECK_EQ(bsd_evq_wait(q, ev, 4, 0), 1);
	CHECK_EQ(bsd_recv(b, &c, 1, 0, NULL, 0), 1);
	CHECK_EQ(bsd_evq_wait(q, ev, 4, 0), 0);
	CHECK_EQ(poll(&pfd, 1, 0), 0);
	CHECK_EQ(bsd_evq_ctl(q, b, POLLOUT, 43), 0);
	CHECK_EQ(bsd_evq_ctl(q, a, POLLOUT, 44), 0);
	CHECK_EQ(bsd_evq_wait(q, ev, 4, 0), 2);
	bsd_close(a); /* forgotten; b hangs up */
	CHECK_EQ(bsd_evq_wait(q, ev, 4, 0), 1);
	CHECK_EQ(ev[0].data, 43);
	CHECK_EQ(ev[0].events, POLLOUT | POLLHUP);
	bsd_close(b);
	CHECK_EQ(poll(&pfd, 1, 0), 0);
	bsd_evq_free(q);
	free_stack(s);
}

/* ---- two threads on the real clock ---- */

struct side {
	struct socket *so;
	size_t total;
	long answer;
	int64_t timeout;
};

static void *
echo(void *arg)
{
	struct side *me = arg;
	char buf[64];
	long n;

	while ((n = bsd_recv(me->so, buf, sizeof(buf), 0, NULL, -1)) != 0) {
		if (n == -EINTR) {
			continue;
		}
		CHECK(n > 0);
		CHECK_EQ(bsd_send(me->so, buf, (size_t)n, 0, NULL, -1), n);
	}
	return NULL;
}

static long
recv_again(struct socket *so, void *buf, size_t len, int flags)
{
	long n;

	do {
		n = bsd_recv(so, buf, len, flags, NULL, -1);
	} while (n == -EINTR);
	return n;
}

static void
exchange(int64_t handoff)
{
	struct stack *s = new_stack(0);
	struct side b = { 0 };
	struct socket *a;
	pthread_t t;
	char out[64], in[64];

	CHECK_EQ(bsd_sysctl_set(s, "kern.ipc.handoff", handoff), 0);
	CHECK_EQ(bsd_socketpair(s, AF_UNIX, SOCK_STREAM, &a, &b.so), 0);
	CHECK_EQ(pthread_create(&t, NULL, echo, &b), 0);
	for (int i = 0; i < 5000; i++) {
		memset(out, i, sizeof(out));
		CHECK_EQ(bsd_send(a, out, sizeof(out), 0, NULL, -1),
		    sizeof(out));
		CHECK_EQ(recv_again(a, in, sizeof(in), MSG_WAITALL), sizeof(in));
		CHECK_MEM(in, out, sizeof(in));
	}
	bsd_shutdown(a, SHUT_WR);
	pthread_join(t, NULL);
	bsd_close(a);
	bsd_close(b.so);
	free_stack(s);
}

TEST(threads_rr)
{
	exchange(0);
}

TEST(threads_rr_handing_over)
{
	exchange(20000);
}

static void *
sink(void *arg)
{
	struct side *me = arg;
	static char buf[100000];
	uint64_t at = 0;
	long n;

	while ((n = recv_again(me->so, buf, sizeof(buf), 0)) > 0) {
		for (long i = 0; i < n; i++, at++) {
			CHECK_EQ((unsigned char)buf[i], at % 253);
		}
	}
	CHECK_EQ(n, 0);
	me->total = at;
	return NULL;
}

TEST(threads_bulk)
{
	struct stack *s = new_stack(0);
	struct side b = { 0 };
	struct socket *a;
	pthread_t t;
	const size_t len = 253 * 1000;
	char *out = malloc(len);

	for (size_t i = 0; i < len; i++) {
		out[i] = (char)(i % 253);
	}
	CHECK_EQ(bsd_socketpair(s, AF_UNIX, SOCK_STREAM, &a, &b.so), 0);
	CHECK_EQ(pthread_create(&t, NULL, sink, &b), 0);
	for (int i = 0; i < 200; i++) {
		size_t done = 0;

		while (done < len) {
			size_t n;
			int error =
			    bsd_sendall(a, out + done, len - done, 0, -1, &n);

			CHECK(error == 0 || error == -EINTR);
			done += n;
		}
	}
	bsd_close(a);
	pthread_join(t, NULL);
	CHECK_EQ(b.total, 200 * len);
	bsd_close(b.so);
	free(out);
	free_stack(s);
}

static volatile sig_atomic_t signalled;

static void *
receive_one(void *arg)
{
	struct side *me = arg;
	char c;

	do {
		me->answer = bsd_recv(me->so, &c, 1, 0, NULL, me->timeout);
	} while (me->answer == -EINTR && !signalled);
	return NULL;
}

/* Wait until somebody sleeps on so. */
static void
until_waiting(struct side *me)
{
	struct stack *s = me->so->so_stack;
	bool waiting = false;

	while (!waiting) {
		sched_yield();
		stack_enter(s);
		waiting = me->so->so_waiters != NULL;
		stack_leave(s);
	}
}

TEST(shutdown_wakes_close_does_not)
{
	struct stack *s = new_stack(0);
	struct side b = { .timeout = -1 };
	struct socket *a;
	pthread_t t;

	CHECK_EQ(bsd_socketpair(s, AF_UNIX, SOCK_STREAM, &a, &b.so), 0);
	CHECK_EQ(pthread_create(&t, NULL, receive_one, &b), 0);
	until_waiting(&b);
	CHECK_EQ(bsd_shutdown(b.so, SHUT_RD), 0);
	pthread_join(t, NULL);
	CHECK_EQ(b.answer, 0);
	bsd_close(a);
	bsd_close(b.so);

	CHECK_EQ(bsd_socketpair(s, AF_UNIX, SOCK_STREAM, &a, &b.so), 0);
	CHECK_EQ(pthread_create(&t, NULL, receive_one, &b), 0);
	until_waiting(&b);
	CHECK_EQ(bsd_close(b.so), 0);
	CHECK_EQ(bsd_send(a, "x", 1, 0, NULL, 0), 1);
	pthread_join(t, NULL);
	CHECK_EQ(b.answer, 1);
	bsd_close(a);
	free_stack(s);
}

TEST(timeout_runs_out)
{
	struct stack *s = new_stack(0);
	struct socket *a, *b;
	char c;
	uint64_t t0;

	CHECK_EQ(bsd_socketpair(s, AF_UNIX, SOCK_STREAM, &a, &b), 0);
	t0 = bsd_now(s);
	CHECK_EQ(bsd_recv(a, &c, 1, 0, NULL, 5000000), -EAGAIN);
	CHECK(bsd_now(s) - t0 >= 5000000);
	CHECK_EQ(bsd_wait(a, POLLIN, 1000000), 0);
	CHECK_EQ(bsd_wait(a, POLLIN | POLLOUT, -1), POLLOUT);
	bsd_close(a);
	bsd_close(b);
	free_stack(s);
}

static void
on_signal(int sig)
{
	(void)sig;
	signalled = 1;
}

TEST(signal_ends_a_wait)
{
	struct stack *s = new_stack(0);
	struct side b = { .timeout = -1 };
	struct sigaction sa = { .sa_handler = on_signal,
		.sa_flags = SA_RESTART };
	struct socket *a;
	pthread_t t;

	signalled = 0;
	CHECK_EQ(sigaction(SIGUSR1, &sa, NULL), 0);
	CHECK_EQ(bsd_socketpair(s, AF_UNIX, SOCK_STREAM, &a, &b.so), 0);
	CHECK_EQ(pthread_create(&t, NULL, receive_one, &b), 0);
	until_waiting(&b);
	pthread_kill(t, SIGUSR1);
	pthread_join(t, NULL);
	CHECK_EQ(b.answer, -EINTR);
	signalled = 0;
	bsd_close(a);
	bsd_close(b.so);
	free_stack(s);
}

TEST(stack_goes_first)
{
	struct stack *s = new_stack(0);
	struct side b = { .timeout = -1 };
	struct socket *a;
	struct evq *q;
	pthread_t t;
	char c;

	CHECK_EQ(bsd_socketpair(s, AF_UNIX, SOCK_STREAM, &a, &b.so), 0);
	CHECK_EQ(bsd_evq_new(s, &q), 0);
	CHECK_EQ(bsd_evq_ctl(q, a, POLLIN, 1), 0);
	CHECK_EQ(pthread_create(&t, NULL, receive_one, &b), 0);
	until_waiting(&b);
	bsd_stack_free(s);
	pthread_join(t, NULL);
	CHECK(b.answer == -EBADF || b.answer == -ECONNRESET);
	CHECK_EQ(bsd_recv(a, &c, 1, 0, NULL, 0), -EBADF);
	CHECK_EQ(bsd_poll(a), POLLNVAL);
	CHECK_EQ(bsd_close(a), 0);
	CHECK_EQ(bsd_close(b.so), 0);
	bsd_evq_free(q);
}

TESTS(RUN(stream_pair), RUN(stream_flow_control), RUN(unread_data_resets),
    RUN(datagrams), RUN(seqpacket_keeps_records), RUN(listen_accept),
    RUN(options), RUN(event_queue), RUN(threads_rr),
    RUN(threads_rr_handing_over), RUN(threads_bulk),
    RUN(shutdown_wakes_close_does_not), RUN(timeout_runs_out),
    RUN(signal_ends_a_wait), RUN(stack_goes_first))
