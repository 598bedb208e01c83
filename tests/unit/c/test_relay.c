/* Relays between a TCP socket and a host descriptor: two TCP sockets over lo0,
 * stepped by hand in virtual time, and the application's end of a pair. */
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bsdcore/api.h"
#include "tests/unit/c/check.h"

#define MSEC 1000000ull

struct duo {
	struct stack *s;
	struct socket *listener;
	struct socket *a; /* has a relay; NULL: closed */
	struct socket *b; /* its peer */
	int fd;		  /* the application's end */
	uint64_t now;
};

static struct bsd_addr
loopback(unsigned short port)
{
	struct bsd_addr a = {
		.family = AF_INET, .port = port, .addr = { 127, 0, 0, 1 }
	};

	return a;
}

static void
settle(struct duo *d)
{
	for (int i = 0; i < 30; i++) {
		d->now += MSEC;
		(void)bsd_run(d->s, d->now);
	}
}

static void
pass(struct duo *d, uint64_t ms)
{
	for (uint64_t t = 0; t < ms; t += 100) {
		d->now += 100 * MSEC;
		(void)bsd_run(d->s, d->now);
	}
}

static void
open_stack(struct duo *d)
{
	struct bsd_config cfg = { .name = "t",
		.seed = { 1, 2, 3, 4 },
		.virtual_time = 1,
		.start_time = 1000 * MSEC };
	struct bsd_addr me = loopback(80);

	*d = (struct duo){ .now = cfg.start_time, .fd = -1 };
	CHECK_EQ(bsd_stack_new(&cfg, &d->s), 0);
	CHECK_EQ(bsd_socket(d->s, AF_INET, SOCK_STREAM, 0, &d->listener), 0);
	CHECK_EQ(bsd_bind(d->listener, &me), 0);
	CHECK_EQ(bsd_listen(d->listener, 4), 0);
	CHECK_EQ(bsd_socket(d->s, AF_INET, SOCK_STREAM, 0, &d->a), 0);
}

static void
add_relay(struct duo *d, int filler)
{
	char fill[1000] = { 0 };
	int fd[2];

	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
	if (filler > 0) {
		CHECK_EQ(send(fd[0], fill, (size_t)filler, 0), filler);
	}
	d->fd = fd[0];
	CHECK_EQ(bsd_relay(d->a, fd[1], BSD_RELAY_PAIR), 0);
	CHECK_EQ(bsd_relay(d->a, dup(fd[0]), BSD_RELAY_PAIR), -EINVAL);
}

static void
open_duo(struct duo *d)
{
	struct bsd_addr to = loopback(80);

	open_stack(d);
	(void)bsd_connect(d->a, &to, 0);
	settle(d);
	CHECK_EQ(bsd_accept(d->listener, 0, &d->b, NULL), 0);
	add_relay(d, 0);
	settle(d);
}

/* Nothing is left but the listener. */
static void
close_duo(struct duo *d)
{
	struct bsd_memstat m;

	if (d->a != NULL) {
		CHECK_EQ(bsd_close(d->a), 0);
	}
	if (d->fd >= 0) {
		close(d->fd);
	}
	if (d->b != NULL) {
		CHECK_EQ(bsd_close(d->b), 0);
	}
	pass(d, 130000);
	bsd_memstat(d->s, &m);
	CHECK_EQ(m.sockets, 1);
	CHECK_EQ(m.mbufs, 0);
	CHECK_EQ(bsd_close(d->listener), 0);
	bsd_stack_free(d->s);
}

/* Read n bytes, or until nothing comes. */
static size_t
take(struct duo *d, size_t n)
{
	static char buf[65536];
	size_t got = 0;

	for (int idle = 0; got < n && idle < 50;) {
		ssize_t k = recv(d->fd, buf, sizeof(buf), MSG_DONTWAIT);

		if (k > 0) {
			got += (size_t)k;
			idle = 0;
		} else {
			settle(d);
			idle++;
		}
	}
	return got;
}

static int
so_error(struct socket *so)
{
	int error = -1;
	size_t len = sizeof(error);

	CHECK_EQ(bsd_getsockopt(so, SOL_SOCKET, SO_ERROR, &error, &len), 0);
	return error;
}

TEST(we_close_our_half_first)
{
	struct duo d;
	char buf[16];

	open_duo(&d);
	CHECK_EQ(send(d.fd, "ask", 3, 0), 3);
	CHECK_EQ(shutdown(d.fd, SHUT_WR), 0);
	settle(&d);
	CHECK_EQ(bsd_recv(d.b, buf, sizeof(buf), 0, NULL, 0), 3);
	CHECK_EQ(bsd_recv(d.b, buf, sizeof(buf), 0, NULL, 0), 0);
	CHECK_EQ(bsd_send(d.b, "told", 4, 0, NULL, 0), 4);
	settle(&d);
	CHECK_EQ(recv(d.fd, buf, sizeof(buf), 0), 4);
	CHECK_EQ(recv(d.fd, buf, sizeof(buf), 0), -1);
	CHECK_EQ(bsd_shutdown(d.b, SHUT_WR), 0);
	settle(&d);
	CHECK_EQ(recv(d.fd, buf, sizeof(buf), 0), 0);
	close_duo(&d);
}

TEST(they_close_their_half_first)
{
	struct duo d;
	char buf[16];

	open_duo(&d);
	CHECK_EQ(bsd_send(d.b, "told", 4, 0, NULL, 0), 4);
	CHECK_EQ(bsd_shutdown(d.b, SHUT_WR), 0);
	settle(&d);
	CHECK_EQ(recv(d.fd, buf, sizeof(buf), 0), 4);
	CHECK_EQ(recv(d.fd, buf, sizeof(buf), 0), 0);
	CHECK_EQ(send(d.fd, "ask", 3, 0), 3);
	settle(&d);
	CHECK_EQ(bsd_recv(d.b, buf, sizeof(buf), 0, NULL, 0), 3);
	CHECK_EQ(shutdown(d.fd, SHUT_WR), 0);
	settle(&d);
	CHECK_EQ(bsd_recv(d.b, buf, sizeof(buf), 0, NULL, 0), 0);
	close_duo(&d);
}

/* The application reads no more; it still writes. */
TEST(shut_for_reading)
{
	struct duo d;
	char buf[16];

	open_duo(&d);
	CHECK_EQ(shutdown(d.fd, SHUT_RD), 0);
	CHECK_EQ(bsd_send(d.b, "in vain", 7, 0, NULL, 0), 7);
	settle(&d);
	CHECK_EQ(send(d.fd, "ask", 3, 0), 3);
	CHECK_EQ(bsd_send(d.b, "in vain", 7, 0, NULL, 0), 7);
	settle(&d);
	CHECK_EQ(bsd_recv(d.b, buf, sizeof(buf), 0, NULL, 0), 3);
	CHECK_EQ(bsd_shutdown(d.b, SHUT_WR), 0);
	settle(&d);
	CHECK_EQ(send(d.fd, "more", 4, 0), 4);
	settle(&d);
	CHECK_EQ(bsd_recv(d.b, buf, sizeof(buf), 0, NULL, 0), 4);
	close_duo(&d);
}

/* What came before a reset is still delivered; SO_ERROR says what happened. */
TEST(reset_by_the_peer)
{
	struct duo d;
	char buf[16];

	open_duo(&d);
	CHECK_EQ(bsd_send(d.b, "last", 4, 0, NULL, 0), 4);
	CHECK_EQ(bsd_abort(d.b), 0);
	d.b = NULL;
	settle(&d);
	CHECK_EQ(recv(d.fd, buf, sizeof(buf), 0), 4);
	CHECK_EQ(recv(d.fd, buf, sizeof(buf), 0), 0);
	CHECK_EQ(so_error(d.a), ECONNRESET);
	close_duo(&d);
}

/* The application's end is gone with data on its way to it: Linux resets. */
TEST(gone_with_unread_data)
{
	struct duo d;
	char buf[16];

	open_duo(&d);
	CHECK_EQ(bsd_close(d.a), 0);
	d.a = NULL;
	close(d.fd);
	d.fd = -1;
	CHECK_EQ(bsd_send(d.b, "late", 4, 0, NULL, 0), 4);
	settle(&d);
	CHECK(bsd_recv(d.b, buf, sizeof(buf), 0, NULL, 0) <= 0);
	CHECK(bsd_send(d.b, "late", 4, 0, NULL, 0) < 0);
	close_duo(&d);
}

/* Filler goes, what is written after the connection stands does not. */
TEST(filler_until_connected)
{
	struct bsd_addr to = loopback(80);
	struct duo d;
	char buf[16];

	open_stack(&d);
	add_relay(&d, 1000);
	settle(&d);
	CHECK_EQ(recv(d.fd, buf, sizeof(buf), 0), -1);
	CHECK_EQ(bsd_connect(d.a, &to, 0), -EINPROGRESS);
	settle(&d);
	CHECK_EQ(send(d.fd, "real", 4, 0), 4);
	settle(&d);
	CHECK_EQ(bsd_accept(d.listener, 0, &d.b, NULL), 0);
	CHECK_EQ(bsd_recv(d.b, buf, sizeof(buf), 0, NULL, 0), 4);
	CHECK_MEM(buf, "real", 4);
	close_duo(&d);
}

/* The filler that nobody read makes an error of the end. */
TEST(refused)
{
	struct bsd_addr to = loopback(81);
	struct duo d;
	char c;

	open_stack(&d);
	add_relay(&d, 100);
	CHECK_EQ(bsd_connect(d.a, &to, 0), -EINPROGRESS);
	settle(&d);
	CHECK_EQ(recv(d.fd, &c, 1, 0), -1);
	CHECK_EQ(errno, ECONNRESET);
	CHECK_EQ(so_error(d.a), ECONNREFUSED);
	close_duo(&d);
}

/* Closed by the application at once: everything arrives all the same, by a
 * relay that nobody has the socket of any more. */
TEST(orphan_flushes)
{
	static char out[300000], in[300001];
	struct duo d;
	size_t sent = 0, got = 0;
	long k;

	for (size_t i = 0; i < sizeof(out); i++) {
		out[i] = (char)(i * 31 + i / 255);
	}
	open_duo(&d);
	while (sent < sizeof(out)) {
		ssize_t n =
		    send(d.fd, out + sent, sizeof(out) - sent, MSG_DONTWAIT);

		if (n < 0) {
			(void)bsd_run(d.s, d.now);
		} else {
			sent += (size_t)n;
		}
	}
	CHECK_EQ(bsd_close(d.a), 0);
	d.a = NULL;
	close(d.fd);
	d.fd = -1;
	do {
		settle(&d);
		k = bsd_recv(d.b, in + got, sizeof(in) - got, 0, NULL, 0);
		got += k > 0 ? (size_t)k : 0;
	} while (k > 0);
	CHECK_EQ(k, 0);
	CHECK_EQ(got, sizeof(out));
	CHECK_MEM(in, out, got);
	close_duo(&d);
}

/* An orphan whose stack goes first. */
TEST(orphan_without_a_stack)
{
	struct duo d;
	char c;

	open_duo(&d);
	CHECK_EQ(send(d.fd, "x", 1, 0), 1);
	CHECK_EQ(bsd_close(d.a), 0);
	bsd_stack_free(d.s);
	CHECK_EQ(recv(d.fd, &c, 1, 0), 0);
	close(d.fd);
	CHECK_EQ(bsd_close(d.b), 0);
	CHECK_EQ(bsd_close(d.listener), 0);
}

/* A relay on what a stack left behind. */
TEST(relay_after_the_stack)
{
	struct duo d;
	int fd[2];
	char c;

	open_stack(&d);
	bsd_stack_free(d.s);
	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
	CHECK_EQ(bsd_relay(d.a, fd[1], BSD_RELAY_PAIR), -EBADF);
	CHECK_EQ(recv(fd[0], &c, 1, 0), 0);
	CHECK_EQ(bsd_token(d.listener, BSD_TOKEN_LISTEN, -1, "x", 1), -EBADF);
	CHECK_EQ(bsd_token_ack(d.listener), -EBADF);
	CHECK_EQ(bsd_close(d.a), 0);
	CHECK_EQ(bsd_close(d.listener), 0);
	close(fd[0]);
}

/* A reader that does not read: the window closes, memory is bounded, and in
 * the end nothing is missing. */
TEST(slow_reader)
{
	static char piece[65536];
	struct bsd_memstat m;
	struct duo d;
	size_t sent = 0;

	open_duo(&d);
	for (int i = 0; i < 1000; i++) {
		long k = bsd_send(d.b, piece, sizeof(piece), 0, NULL, 0);

		if (k > 0) {
			sent += (size_t)k;
		}
		settle(&d);
	}
	bsd_memstat(d.s, &m);
	CHECK(sent < 24 << 20);
	CHECK(m.bytes < 48 << 20);
	CHECK_EQ(take(&d, sent), sent);
	close_duo(&d);
}

/* The same for a peer that does not read. */
TEST(slow_peer)
{
	static char piece[65536];
	struct duo d;
	size_t sent = 0, got = 0;

	open_duo(&d);
	for (int i = 0; i < 1000; i++) {
		ssize_t k = send(d.fd, piece, sizeof(piece), MSG_DONTWAIT);

		sent += k > 0 ? (size_t)k : 0;
		settle(&d);
	}
	CHECK(sent < 24 << 20);
	CHECK_EQ(send(d.fd, piece, 1, MSG_DONTWAIT), -1);
	CHECK_EQ(shutdown(d.fd, SHUT_WR), 0);
	for (long k = 1; k != 0;) {
		k = bsd_recv(d.b, piece, sizeof(piece), 0, NULL, 0);
		got += k > 0 ? (size_t)k : 0;
		if (k < 0) {
			CHECK_EQ(k, -EAGAIN);
			settle(&d);
		}
	}
	CHECK_EQ(got, sent);
	close_duo(&d);
}

/* Both have closed, the connection is gone, and the application reads then. */
TEST(read_after_the_end)
{
	static char piece[65536];
	struct duo d;
	size_t sent = 0, left, got;

	open_duo(&d);
	CHECK_EQ(shutdown(d.fd, SHUT_WR), 0);
	settle(&d);
	for (int i = 0; i < 40; i++) {
		long k = bsd_send(d.b, piece, sizeof(piece), 0, NULL, 0);

		sent += k > 0 ? (size_t)k : 0;
		settle(&d);
	}
	/* All but what the pair does not take: the peer's part is done, and
	 * the rest waits in the socket for the application. */
	left = sent > 300000 ? 300000 : sent / 2;
	got = take(&d, sent - left);
	CHECK_EQ(bsd_close(d.b), 0);
	d.b = NULL;
	pass(&d, 130000);
	got += take(&d, sent - got);
	CHECK_EQ(got, sent);
	CHECK_EQ(recv(d.fd, piece, 1, MSG_DONTWAIT), 0);
	close_duo(&d);
}

/* Both ends of a connection are relays: no round of the stack lasts for ever,
 * however fast their applications are. */
TEST(two_relays_back_to_back)
{
	static char piece[65536];
	struct duo d;
	int fd[2], mine;
	size_t sent = 0, got = 0;

	open_duo(&d);
	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
	mine = fd[0];
	CHECK_EQ(bsd_relay(d.b, fd[1], BSD_RELAY_PAIR), 0);
	while (sent < 4 << 20) {
		ssize_t k = send(mine, piece, sizeof(piece), MSG_DONTWAIT);

		sent += k > 0 ? (size_t)k : 0;
		(void)bsd_run(d.s, d.now += MSEC / 10);
		k = recv(d.fd, piece, sizeof(piece), MSG_DONTWAIT);
		got += k > 0 ? (size_t)k : 0;
	}
	CHECK_EQ(shutdown(mine, SHUT_WR), 0);
	got += take(&d, sent - got);
	CHECK_EQ(got, sent);
	CHECK_EQ(recv(d.fd, piece, 1, MSG_DONTWAIT), 0);
	close(mine);
	close_duo(&d);
}

/* Tokens: one at a time, as long as there is something to read. */
TEST(datagram_token)
{
	struct bsd_addr me = loopback(53);
	struct socket *in, *out;
	struct duo d;
	int fd[2];
	char c[4];

	open_stack(&d);
	CHECK_EQ(bsd_socket(d.s, AF_INET, SOCK_DGRAM, 0, &in), 0);
	CHECK_EQ(bsd_bind(in, &me), 0);
	CHECK_EQ(bsd_socket(d.s, AF_INET, SOCK_DGRAM, 0, &out), 0);
	CHECK_EQ(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, fd), 0);
	CHECK_EQ(bsd_token(in, BSD_TOKEN_DGRAM, fd[1], NULL, 0), 0);
	CHECK_EQ(recv(fd[0], c, 4, 0), -1);
	for (int i = 0; i < 3; i++) {
		CHECK_EQ(bsd_send(out, "x", 1, 0, &me, 0), 1);
	}
	settle(&d);
	for (int i = 0; i < 3; i++) {
		CHECK_EQ(recv(fd[0], c, 4, 0), 1);
		CHECK_EQ(recv(fd[0], c, 4, 0), -1);
		CHECK_EQ(bsd_recv(in, c, 4, 0, NULL, 0), 1);
		CHECK_EQ(bsd_token_ack(in), 0);
	}
	settle(&d);
	CHECK_EQ(recv(fd[0], c, 4, 0), -1);
	CHECK_EQ(bsd_close(in), 0);
	CHECK_EQ(bsd_close(out), 0);
	close(fd[0]);
	close_duo(&d);
}

TESTS(RUN(we_close_our_half_first), RUN(they_close_their_half_first),
    RUN(shut_for_reading), RUN(reset_by_the_peer), RUN(gone_with_unread_data),
    RUN(filler_until_connected), RUN(refused), RUN(orphan_flushes),
    RUN(orphan_without_a_stack), RUN(relay_after_the_stack), RUN(slow_reader),
    RUN(slow_peer), RUN(read_after_the_end), RUN(two_relays_back_to_back),
    RUN(datagram_token))
