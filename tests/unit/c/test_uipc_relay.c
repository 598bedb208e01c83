/* A relay between a stream socket of the stack and a host descriptor, stepped
 * by hand in virtual time. */
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bsdcore/api.h"
#include "tests/unit/c/check.h"

#define PIECE 513u  /* too long to be copied into the last buffer's room */
#define PIECES 180u /* more buffers than a relay writes in one turn */

static struct stack *
new_stack(void)
{
	struct bsd_config cfg = { .name = "t",
		.seed = { 1, 2, 3, 4 },
		.virtual_time = 1,
		.start_time = 1000 };
	struct stack *s;

	CHECK_EQ(bsd_stack_new(&cfg, &s), 0);
	return s;
}

static void
settle(struct stack *s)
{
	for (int i = 0; i < 8; i++) {
		(void)bsd_run(s, bsd_now(s));
	}
}

/* Bytes waiting on fd, all taken. */
static size_t
take(int fd)
{
	char buf[4096];
	size_t got = 0;
	ssize_t n;

	while ((n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT)) > 0) {
		got += (size_t)n;
	}
	return got;
}

/* Nothing more may come to wake a relay that has not finished. */
TEST(many_buffers_all_go_down)
{
	struct stack *s = new_stack();
	struct socket *a, *b;
	char piece[PIECE] = { 0 };
	int fd[2], size = 1 << 20;

	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
	CHECK_EQ(setsockopt(fd[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)),
	    0);
	CHECK_EQ(bsd_socketpair(s, AF_UNIX, SOCK_STREAM, &a, &b), 0);
	CHECK_EQ(bsd_setsockopt(b, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)),
	    0);
	for (unsigned i = 0; i < PIECES; i++) {
		CHECK_EQ(bsd_send(a, piece, PIECE, 0, NULL, 0), PIECE);
	}
	CHECK_EQ(bsd_relay(b, fd[1], BSD_RELAY_PAIR), 0);
	settle(s);
	CHECK_EQ(take(fd[0]), PIECE * PIECES);

	CHECK_EQ(bsd_close(b), 0);
	close(fd[0]);
	settle(s);
	CHECK_EQ(bsd_close(a), 0);
	bsd_stack_free(s);
}

TEST(both_ways_and_half_close)
{
	struct stack *s = new_stack();
	struct socket *a, *b;
	char buf[16];
	int fd[2];

	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
	CHECK_EQ(bsd_socketpair(s, AF_UNIX, SOCK_STREAM, &a, &b), 0);
	CHECK_EQ(bsd_relay(b, fd[1], BSD_RELAY_PAIR), 0);
	CHECK_EQ(send(fd[0], "there", 5, 0), 5);
	CHECK_EQ(shutdown(fd[0], SHUT_WR), 0);
	settle(s);
	CHECK_EQ(bsd_recv(a, buf, sizeof(buf), 0, NULL, 0), 5);
	CHECK_MEM(buf, "there", 5);
	CHECK_EQ(bsd_recv(a, buf, sizeof(buf), 0, NULL, 0), 0);
	CHECK_EQ(bsd_send(a, "and back", 8, 0, NULL, 0), 8);
	CHECK_EQ(bsd_shutdown(a, SHUT_WR), 0);
	settle(s);
	CHECK_EQ(recv(fd[0], buf, sizeof(buf), 0), 8);
	CHECK_MEM(buf, "and back", 8);
	CHECK_EQ(recv(fd[0], buf, sizeof(buf), 0), 0);

	CHECK_EQ(bsd_close(b), 0);
	close(fd[0]);
	CHECK_EQ(bsd_close(a), 0);
	bsd_stack_free(s);
}

TESTS(RUN(many_buffers_all_go_down), RUN(both_ways_and_half_close))
