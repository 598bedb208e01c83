/* The socket calls over TCP on lo0: what Linux answers, in virtual time; then
 * two threads on the real clock. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>

#include "bsdcore/api.h"
#include "tests/unit/c/check.h"

#define POLLALL (POLLIN | POLLOUT | POLLERR | POLLHUP | POLLRDHUP)

static struct stack *
new_stack(int virtual_time)
{
	struct bsd_config cfg = { .name = "t",
		.seed = { 1, 2, 3, 4 },
		.virtual_time = virtual_time,
		.start_time = 1000000000 };
	struct stack *s;

	CHECK_EQ(bsd_stack_new(&cfg, &s), 0);
	return s;
}

/* Let TIME_WAIT and everything else run out; nothing may be left. */
static void
free_stack(struct stack *s)
{
	struct bsd_memstat m;
	uint64_t at;

	while ((at = bsd_poll_at(s)) < bsd_now(s) + 600000000000ull &&
	    bsd_now(s) < 100000000000000ull) {
		bsd_run(s, at);
	}
	bsd_memstat(s, &m);
	CHECK_EQ(m.sockets, 0);
	CHECK_EQ(m.mbufs, 0);
	bsd_stack_free(s);
}

static struct socket *
tcp_socket(struct stack *s)
{
	struct socket *so;

	CHECK_EQ(bsd_socket(s, AF_INET, SOCK_STREAM, 0, &so), 0);
	return so;
}

static struct socket *
listener(struct stack *s, int backlog, struct bsd_addr *at)
{
	struct socket *l = tcp_socket(s);

	memset(at, 0, sizeof(*at));
	at->family = AF_INET;
	at->addr[0] = 127;
	at->addr[3] = 1;
	CHECK_EQ(bsd_bind(l, at), 0);
	CHECK_EQ(bsd_listen(l, backlog), 0);
	CHECK_EQ(bsd_getsockname(l, at), 0);
	return l;
}

static void
pair(struct stack *s, struct socket **a, struct socket **b)
{
	struct bsd_addr at, peer;
	struct socket *l = listener(s, 1, &at);

	*a = tcp_socket(s);
	CHECK_EQ(bsd_connect(*a, &at, 0), -EINPROGRESS);
	CHECK_EQ(bsd_accept(l, 0, b, &peer), 0);
	CHECK_EQ(bsd_connect(*a, &at, 0), 0);
	CHECK_EQ(bsd_close(l), 0);
}

static int
soerror(struct socket *so)
{
	int v = -1;
	size_t len = sizeof(v);

	CHECK_EQ(bsd_getsockopt(so, SOL_SOCKET, SO_ERROR, &v, &len), 0);
	return v;
}

TEST(unconnected)
{
	struct stack *s = new_stack(1);
	struct socket *a = tcp_socket(s), *x;
	struct bsd_addr name;
	char c = 0;

	CHECK_EQ(bsd_poll(a), POLLOUT | POLLHUP);
	CHECK_EQ(bsd_send(a, &c, 1, 0, NULL, 0), -EPIPE);
	CHECK_EQ(bsd_recv(a, &c, 1, 0, NULL, 0), -ENOTCONN);
	CHECK_EQ(bsd_shutdown(a, SHUT_WR), -ENOTCONN);
	CHECK_EQ(bsd_shutdown(a, 5), -EINVAL);
	CHECK_EQ(bsd_getpeername(a, &name), -ENOTCONN);
	CHECK_EQ(bsd_getsockname(a, &name), 0);
	CHECK_EQ(name.port, 0);
	CHECK_EQ(bsd_accept(a, 0, &x, &name), -EINVAL);
	bsd_close(a);
	free_stack(s);
}

TEST(connect_accept)
{
	struct stack *s = new_stack(1);
	struct bsd_addr at, peer, name;
	struct socket *l = listener(s, 5, &at), *a = tcp_socket(s), *b;

	CHECK_EQ(bsd_poll(l), 0);
	CHECK_EQ(bsd_accept(l, 0, &b, &peer), -EAGAIN);
	CHECK_EQ(bsd_connect(a, &at, 0), -EINPROGRESS);
	CHECK_EQ(bsd_poll(a), POLLOUT);
	CHECK_EQ(soerror(a), 0);
	CHECK_EQ(bsd_connect(a, &at, 0), 0);
	CHECK_EQ(bsd_connect(a, &at, 0), -EISCONN);
	CHECK_EQ(bsd_poll(l), POLLIN);
	CHECK_EQ(bsd_accept(l, 0, &b, &peer), 0);
	CHECK_EQ(bsd_getsockname(a, &name), 0);
	CHECK_MEM(&name, &peer, sizeof(peer));
	CHECK_EQ(bsd_getpeername(a, &name), 0);
	CHECK_MEM(&name, &at, sizeof(at));
	CHECK_EQ(bsd_getsockname(b, &name), 0);
	CHECK_MEM(&name, &at, sizeof(at));
	CHECK_EQ(bsd_connect(l, &at, 0), -EISCONN);
	/* shutdown ends the listening */
	CHECK_EQ(bsd_shutdown(l, SHUT_RDWR), 0);
	CHECK_EQ(bsd_accept(l, 0, &b, &peer), -EINVAL);
	bsd_close(l);
	bsd_close(a);
	bsd_close(b);
	free_stack(s);
}

TEST(refused_then_again)
{
	struct stack *s = new_stack(1);
	struct bsd_addr at, peer;
	struct socket *l = listener(s, 5, &at), *a = tcp_socket(s), *b;
	char c;

	bsd_close(l);
	CHECK_EQ(bsd_connect(a, &at, 0), -EINPROGRESS);
	CHECK_EQ(bsd_poll(a), POLLALL);
	CHECK_EQ(soerror(a), ECONNREFUSED);
	CHECK_EQ(soerror(a), 0);
	l = listener(s, 5, &at);
	/* the end of the first attempt has not been told by connect() yet */
	CHECK_EQ(bsd_listen(a, 1), -EINVAL);
	CHECK_EQ(bsd_connect(a, &at, 0), -ECONNABORTED);
	CHECK_EQ(bsd_connect(a, &at, 0), -EINPROGRESS);
	CHECK_EQ(bsd_accept(l, 0, &b, &peer), 0);
	CHECK_EQ(bsd_poll(a), POLLOUT);
	CHECK_EQ(bsd_send(a, "x", 1, 0, NULL, 0), 1);
	CHECK_EQ(bsd_recv(b, &c, 1, 0, NULL, 0), 1);
	bsd_close(a);
	bsd_close(b);
	bsd_close(l);
	/* the error may be told by a second connect instead */
	a = tcp_socket(s);
	CHECK_EQ(bsd_connect(a, &at, 0), -EINPROGRESS);
	CHECK_EQ(bsd_connect(a, &at, 0), -ECONNREFUSED);
	bsd_close(a);
	free_stack(s);
}

TEST(data_and_half_close)
{
	struct stack *s = new_stack(1);
	struct socket *a, *b;
	char buf[32];

	pair(s, &a, &b);
	CHECK_EQ(bsd_recv(b, buf, 32, 0, NULL, 0), -EAGAIN);
	CHECK_EQ(bsd_send(a, "0123456789", 10, 0, NULL, 0), 10);
	CHECK_EQ(bsd_poll(b), POLLIN | POLLOUT);
	CHECK_EQ(bsd_recv(b, buf, 4, MSG_PEEK, NULL, 0), 4);
	CHECK_MEM(buf, "0123", 4);
	CHECK_EQ(bsd_recv(b, buf, 4, MSG_TRUNC, NULL, 0), 4);
	CHECK_EQ(bsd_recv(b, buf, 2, 0, NULL, 0), 2);
	CHECK_MEM(buf, "45", 2);
	/* would wait for all: nobody to wait for, so what there is */
	CHECK_EQ(bsd_recv(b, buf, 32, MSG_WAITALL, NULL, 0), 4);
	CHECK_EQ(bsd_shutdown(a, SHUT_WR), 0);
	CHECK_EQ(bsd_poll(b), POLLIN | POLLOUT | POLLRDHUP);
	CHECK_EQ(bsd_recv(b, buf, 32, 0, NULL, 0), 0);
	CHECK_EQ(bsd_send(a, "x", 1, 0, NULL, 0), -EPIPE);
	CHECK_EQ(bsd_send(b, "back", 4, 0, NULL, 0), 4);
	CHECK_EQ(bsd_recv(a, buf, 32, 0, NULL, 0), 4);
	CHECK_EQ(bsd_shutdown(b, SHUT_WR), 0);
	CHECK_EQ(bsd_recv(a, buf, 32, 0, NULL, 0), 0);
	CHECK_EQ(bsd_poll(a), POLLIN | POLLOUT | POLLHUP | POLLRDHUP);
	bsd_close(a);
	bsd_close(b);
	free_stack(s);
}

TEST(unread_data_resets)
{
	struct stack *s = new_stack(1);
	struct socket *a, *b;
	char c;

	pair(s, &a, &b);
	CHECK_EQ(bsd_send(a, "xy", 2, 0, NULL, 0), 2);
	CHECK_EQ(bsd_send(b, "z", 1, 0, NULL, 0), 1);
	bsd_close(b);
	CHECK_EQ(bsd_poll(a), POLLALL);
	/* what came before the reset can be read, then it is told once */
	CHECK_EQ(bsd_recv(a, &c, 1, 0, NULL, 0), 1);
	CHECK_EQ(bsd_recv(a, &c, 1, 0, NULL, 0), -ECONNRESET);
	CHECK_EQ(bsd_recv(a, &c, 1, 0, NULL, 0), 0);
	CHECK_EQ(bsd_send(a, &c, 1, 0, NULL, 0), -EPIPE);
	bsd_close(a);
	free_stack(s);
}

TEST(linger_zero_resets)
{
	struct stack *s = new_stack(1);
	struct socket *a, *b;
	struct linger l = { 1, 0 };
	char c;

	pair(s, &a, &b);
	CHECK_EQ(bsd_setsockopt(b, SOL_SOCKET, SO_LINGER, &l, sizeof(l)), 0);
	bsd_close(b);
	CHECK_EQ(bsd_recv(a, &c, 1, 0, NULL, 0), -ECONNRESET);
	bsd_close(a);
	pair(s, &a, &b);
	bsd_abort(b);
	CHECK_EQ(bsd_send(a, &c, 1, 0, NULL, 0), -ECONNRESET);
	CHECK_EQ(bsd_send(a, &c, 1, 0, NULL, 0), -EPIPE);
	bsd_close(a);
	free_stack(s);
}

TEST(urgent_data)
{
	struct stack *s = new_stack(1);
	struct socket *a, *b;
	char buf[16];
	int on = 1;

	pair(s, &a, &b);
	CHECK_EQ(bsd_recv(b, buf, 1, MSG_OOB, NULL, 0), -EINVAL);
	CHECK_EQ(bsd_send(a, "abc", 3, 0, NULL, 0), 3);
	CHECK_EQ(bsd_send(a, "!", 1, MSG_OOB, NULL, 0), 1);
	CHECK_EQ(bsd_send(a, "def", 3, 0, NULL, 0), 3);
	CHECK(bsd_poll(b) & POLLPRI);
	CHECK_EQ(bsd_recv(b, buf, 16, MSG_OOB, NULL, 0), 1);
	CHECK_EQ(buf[0], '!');
	CHECK_EQ(bsd_recv(b, buf, 1, MSG_OOB, NULL, 0), -EINVAL);
	CHECK_EQ(bsd_recv(b, buf, 16, 0, NULL, 0), 3); /* up to the mark */
	CHECK_MEM(buf, "abc", 3);
	CHECK_EQ(bsd_recv(b, buf, 16, 0, NULL, 0), 3);
	CHECK_MEM(buf, "def", 3);
	CHECK_EQ(bsd_setsockopt(b, SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on)),
	    0);
	CHECK_EQ(bsd_send(a, "ab!", 3, MSG_OOB, NULL, 0), 3);
	CHECK_EQ(bsd_recv(b, buf, 16, MSG_OOB, NULL, 0), -EINVAL);
	CHECK_EQ(bsd_recv(b, buf, 16, 0, NULL, 0), 2);
	CHECK_EQ(bsd_recv(b, buf, 16, 0, NULL, 0), 1);
	CHECK_EQ(buf[0], '!');
	bsd_close(a);
	bsd_close(b);
	free_stack(s);
}

/* Fill until it blocks, read some, go on; every byte in order. */
TEST(flow_control)
{
	struct stack *s = new_stack(1);
	struct socket *a, *b;
	static unsigned char out[4 << 20], in[300000];
	size_t sent = 0, got = 0;

	for (size_t i = 0; i < sizeof(out); i++) {
		out[i] = (unsigned char)(i * 31 + i / 65521);
	}
	pair(s, &a, &b);
	while (got < sizeof(out)) {
		size_t want = 1 + (got * 7 + 13) % sizeof(in);
		long n = sent < sizeof(out) ?
		    bsd_send(a, out + sent, sizeof(out) - sent, 0, NULL, 0) :
		    0;

		CHECK(n >= 0 || n == -EAGAIN);
		sent += n > 0 ? (size_t)n : 0;
		n = bsd_recv(b, in, want, 0, NULL, 0);
		if (n == -EAGAIN) {
			bsd_run(s, bsd_poll_at(s));
			continue;
		}
		CHECK(n > 0);
		CHECK_MEM(in, out + got, (size_t)n);
		got += (size_t)n;
	}
	bsd_close(a);
	bsd_close(b);
	free_stack(s);
}

TEST(close_sends_what_is_queued)
{
	struct stack *s = new_stack(1);
	struct socket *a, *b;
	static char out[1 << 20], in[65536];
	size_t sent = 0, got = 0;
	long n;

	pair(s, &a, &b);
	while ((n = bsd_send(a, out, sizeof(out), 0, NULL, 0)) > 0) {
		sent += (size_t)n;
	}
	CHECK_EQ(n, -EAGAIN);
	CHECK(!(bsd_poll(a) & POLLOUT));
	CHECK_EQ(bsd_drain(s, 0), 1);
	bsd_close(a);
	CHECK_EQ(bsd_drain(s, 0), 1);
	for (int i = 0; i < 100000; i++) {
		n = bsd_recv(b, in, sizeof(in), 0, NULL, 0);
		if (n == -EAGAIN) {
			bsd_run(s, bsd_poll_at(s));
			continue;
		}
		if (n <= 0) {
			break;
		}
		got += (size_t)n;
	}
	CHECK_EQ(n, 0);
	CHECK_EQ(got, sent);
	CHECK_EQ(bsd_drain(s, 0), 0);
	bsd_close(b);
	free_stack(s);
}

TEST(backlog)
{
	struct stack *s = new_stack(1);
	struct bsd_addr at, peer;
	struct socket *l = listener(s, 2, &at), *c[6], *b;
	int done = 0;
	char x;

	for (int i = 0; i < 6; i++) {
		c[i] = tcp_socket(s);
		CHECK_EQ(bsd_connect(c[i], &at, 0), -EINPROGRESS);
	}
	while (bsd_accept(l, 0, &b, &peer) == 0) { /* backlog + 1 */
		done++;
		bsd_close(b);
	}
	CHECK_EQ(done, 3);
	bsd_close(l);
	for (int i = 0; i < 3; i++) {
		CHECK_EQ(bsd_recv(c[i], &x, 1, 0, NULL, 0), 0);
	}
	for (int i = 0; i < 6; i++) {
		bsd_close(c[i]);
	}
	free_stack(s);
}

TEST(listener_goes_with_connections_waiting)
{
	struct stack *s = new_stack(1);
	struct bsd_addr at;
	struct socket *l = listener(s, 5, &at), *a = tcp_socket(s);
	char c;

	CHECK_EQ(bsd_connect(a, &at, 0), -EINPROGRESS);
	CHECK_EQ(bsd_close(l), 0);
	CHECK_EQ(bsd_recv(a, &c, 1, 0, NULL, 0), -ECONNRESET);
	bsd_close(a);
	free_stack(s);
}

TEST(client_gone_before_accept)
{
	struct stack *s = new_stack(1);
	struct bsd_addr at, peer;
	struct socket *l = listener(s, 5, &at), *a = tcp_socket(s), *b;
	char c;

	/* gone with FIN: it is accepted and at its end */
	CHECK_EQ(bsd_connect(a, &at, 0), -EINPROGRESS);
	CHECK_EQ(bsd_send(a, "q", 1, 0, NULL, 0), 1);
	bsd_close(a);
	CHECK_EQ(bsd_accept(l, 0, &b, &peer), 0);
	CHECK_EQ(bsd_recv(b, &c, 1, 0, NULL, 0), 1);
	CHECK_EQ(bsd_recv(b, &c, 1, 0, NULL, 0), 0);
	bsd_close(b);
	/* gone with RST: it is accepted, and its first use tells */
	a = tcp_socket(s);
	CHECK_EQ(bsd_connect(a, &at, 0), -EINPROGRESS);
	CHECK_EQ(bsd_getsockname(a, &at), 0);
	bsd_abort(a);
	CHECK_EQ(bsd_poll(l), POLLIN);
	CHECK_EQ(bsd_accept(l, 0, &b, &peer), 0);
	CHECK_MEM(&peer, &at, sizeof(at));
	CHECK_EQ(bsd_poll(b), POLLALL);
	CHECK_EQ(bsd_recv(b, &c, 1, 0, NULL, 0), -ECONNRESET);
	CHECK_EQ(bsd_recv(b, &c, 1, 0, NULL, 0), 0);
	CHECK_EQ(bsd_send(b, &c, 1, 0, NULL, 0), -EPIPE);
	CHECK_EQ(bsd_getpeername(b, &peer), -ENOTCONN);
	bsd_close(b);
	bsd_close(l);
	free_stack(s);
}

/* ---- two threads ---- */

struct flow {
	struct stack *f_stack;
	struct bsd_addr f_at;
	struct socket *f_listener;
	size_t f_total;
};

static long
recv_some(struct socket *so, void *buf, size_t len)
{
	long n;

	do {
		n = bsd_recv(so, buf, len, 0, NULL, -1);
	} while (n == -EINTR);
	return n;
}

static void *
reader(void *arg)
{
	struct flow *f = arg;
	static unsigned char buf[200000];
	struct bsd_addr peer;
	struct socket *so;
	uint64_t at = 0;
	long n;

	CHECK_EQ(bsd_accept(f->f_listener, 5000000000, &so, &peer), 0);
	while ((n = recv_some(so, buf, 1 + at % sizeof(buf))) > 0) {
		for (long i = 0; i < n; i++, at++) {
			CHECK_EQ(buf[i], at % 253);
		}
	}
	CHECK_EQ(n, 0);
	f->f_total = at;
	bsd_close(so);
	return NULL;
}

TEST(threads_bulk)
{
	struct flow f = { .f_stack = new_stack(0) };
	const size_t len = 253 * 1024;
	unsigned char *out = malloc(len);
	struct socket *a = tcp_socket(f.f_stack);
	pthread_t t;
	int error;

	for (size_t i = 0; i < len; i++) {
		out[i] = (unsigned char)(i % 253);
	}
	CHECK_EQ(bsd_start(f.f_stack), 0);
	f.f_listener = listener(f.f_stack, 1, &f.f_at);
	CHECK_EQ(pthread_create(&t, NULL, reader, &f), 0);
	do {
		error = bsd_connect(a, &f.f_at, -1);
	} while (error == -EINTR || error == -EALREADY);
	CHECK_EQ(error, 0);
	for (int i = 0; i < 200; i++) {
		size_t done = 0, n;

		while (done < len) {
			error =
			    bsd_sendall(a, out + done, len - done, 0, -1, &n);
			CHECK(error == 0 || error == -EINTR);
			done += n;
		}
	}
	CHECK_EQ(bsd_close(a), 0);
	pthread_join(t, NULL);
	CHECK_EQ(f.f_total, 200 * len);
	CHECK_EQ(bsd_drain(f.f_stack, 1000000000), 0);
	bsd_close(f.f_listener);
	bsd_stack_free(f.f_stack);
	free(out);
}

static void *
acceptor(void *arg)
{
	struct flow *f = arg;
	struct bsd_addr peer;
	struct socket *so;
	int error;

	do {
		error = bsd_accept(f->f_listener, -1, &so, &peer);
	} while (error == -EINTR);
	CHECK_EQ(error, -EINVAL);
	return NULL;
}

TEST(shutdown_wakes_accept)
{
	struct flow f = { .f_stack = new_stack(0) };
	pthread_t t;

	f.f_listener = listener(f.f_stack, 1, &f.f_at);
	CHECK_EQ(pthread_create(&t, NULL, acceptor, &f), 0);
	CHECK_EQ(bsd_shutdown(f.f_listener, SHUT_RD), 0);
	pthread_join(t, NULL);
	bsd_close(f.f_listener);
	bsd_stack_free(f.f_stack);
}

TESTS(RUN(unconnected), RUN(connect_accept), RUN(refused_then_again),
    RUN(data_and_half_close), RUN(unread_data_resets), RUN(linger_zero_resets),
    RUN(urgent_data), RUN(flow_control), RUN(close_sends_what_is_queued),
    RUN(backlog), RUN(listener_goes_with_connections_waiting),
    RUN(client_gone_before_accept), RUN(threads_bulk),
    RUN(shutdown_wakes_accept))
