/* The socket calls over UDP on lo0: what Linux answers, one thread. */
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include "bsdcore/api.h"
#include "tests/unit/c/check.h"

static struct stack *
new_stack(void)
{
	struct bsd_config cfg = { .name = "t",
		.seed = { 1, 2, 3, 4 },
		.virtual_time = 1,
		.start_time = 1000000000 };
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
	bsd_stack_free(s);
}

static struct bsd_addr
loopback(unsigned short port)
{
	struct bsd_addr a = {
		.family = AF_INET, .port = port, .addr = { 127, 0, 0, 1 }
	};

	return a;
}

static struct socket *
udp_socket(struct stack *s, unsigned short port)
{
	struct bsd_addr a = loopback(port);
	struct socket *so;

	CHECK_EQ(bsd_socket(s, AF_INET, SOCK_DGRAM, 0, &so), 0);
	if (port != 0) {
		CHECK_EQ(bsd_bind(so, &a), 0);
	}
	return so;
}

TEST(udp_unconnected)
{
	struct stack *s = new_stack();
	struct socket *a = udp_socket(s, 0), *b = udp_socket(s, 7);
	struct bsd_addr to = loopback(7), from, name;
	char buf[16];

	CHECK_EQ(bsd_poll(a), POLLOUT);
	CHECK_EQ(bsd_send(a, "x", 1, 0, NULL, 0), -EDESTADDRREQ);
	CHECK_EQ(bsd_recv(a, buf, 1, 0, NULL, 0), -EAGAIN);
	CHECK_EQ(bsd_getpeername(a, &name), -ENOTCONN);
	CHECK_EQ(bsd_send(a, "hello", 5, 0, &to, 0), 5);
	CHECK_EQ(bsd_poll(b), POLLIN | POLLOUT);
	CHECK_EQ(bsd_recv(b, buf, 2, MSG_PEEK, &from, 0), 2);
	CHECK_EQ(bsd_recv(b, buf, 2, MSG_TRUNC, &from, 0), 5);
	CHECK_EQ(bsd_getsockname(a, &name), 0);
	CHECK_EQ(from.family, AF_INET);
	CHECK_EQ(from.port, name.port);
	CHECK_MEM(from.addr, to.addr, 4);
	CHECK_EQ(bsd_send(b, "", 0, 0, &from, 0), 0);
	CHECK_EQ(bsd_poll(a), POLLIN | POLLOUT);
	CHECK_EQ(bsd_recv(a, buf, 16, 0, NULL, 0), 0);
	CHECK_EQ(bsd_poll(a), POLLOUT);
	bsd_close(a);
	bsd_close(b);
	free_stack(s);
}

TEST(udp_connected)
{
	struct stack *s = new_stack();
	struct socket *a = udp_socket(s, 0), *b = udp_socket(s, 7);
	struct bsd_addr to = loopback(7), name;
	struct bsd_addr unspec = { .family = AF_UNSPEC };
	char buf[16];

	CHECK_EQ(bsd_connect(a, &to, 0), 0);
	CHECK_EQ(bsd_connect(a, &to, 0), 0);
	CHECK_EQ(bsd_getpeername(a, &name), 0);
	CHECK_EQ(name.port, 7);
	CHECK_EQ(bsd_send(a, "x", 1, 0, NULL, 0), 1);
	CHECK_EQ(bsd_recv(b, buf, 16, 0, NULL, 0), 1);
	CHECK_EQ(bsd_close(b), 0);
	/* port unreachable comes back at once and is told once */
	CHECK_EQ(bsd_send(a, "x", 1, 0, NULL, 0), 1);
	CHECK_EQ(bsd_poll(a), POLLOUT | POLLERR);
	CHECK_EQ(bsd_recv(a, buf, 16, 0, NULL, 0), -ECONNREFUSED);
	CHECK_EQ(bsd_recv(a, buf, 16, 0, NULL, 0), -EAGAIN);
	CHECK_EQ(bsd_connect(a, &unspec, 0), 0);
	CHECK_EQ(bsd_send(a, "x", 1, 0, NULL, 0), -EDESTADDRREQ);
	bsd_close(a);
	free_stack(s);
}

TEST(udp_limits)
{
	struct stack *s = new_stack();
	struct socket *a = udp_socket(s, 0), *b = udp_socket(s, 7);
	struct bsd_addr to = loopback(7);
	static char big[65536], in[65536];
	int v = 1;
	size_t len = sizeof(v);

	for (size_t i = 0; i < sizeof(big); i++) {
		big[i] = (char)(i % 251);
	}
	CHECK_EQ(bsd_send(a, big, 65508, 0, &to, 0), -EMSGSIZE);
	CHECK_EQ(bsd_send(a, big, sizeof(big), 0, &to, 0), -EMSGSIZE);
	for (size_t n = 1; n <= 65507; n = n * 3 + 1) {
		size_t k = n > 65507 / 3 ? 65507 : n;

		CHECK_EQ(bsd_send(a, big, k, 0, &to, 0), (long)k);
		CHECK_EQ(bsd_recv(b, in, sizeof(in), 0, NULL, 0), (long)k);
		CHECK_MEM(in, big, k);
	}
	CHECK_EQ(bsd_shutdown(a, SHUT_WR), -ENOTCONN);
	CHECK_EQ(bsd_close(a), 0);
	a = udp_socket(s, 0);
	CHECK_EQ(bsd_connect(a, &to, 0), 0);
	CHECK_EQ(bsd_shutdown(a, SHUT_WR), 0);
	CHECK_EQ(bsd_send(a, "x", 1, 0, NULL, 0), -EPIPE);
	CHECK_EQ(bsd_shutdown(b, SHUT_RD), -ENOTCONN);
	CHECK_EQ(bsd_recv(b, in, 1, 0, NULL, 0), -EAGAIN);
	CHECK_EQ(bsd_recv(b, in, 1, 0, NULL, -1), 0);
	CHECK_EQ(bsd_getsockopt(b, SOL_SOCKET, SO_PROTOCOL, &v, &len), 0);
	CHECK_EQ(v, IPPROTO_UDP);
	bsd_close(a);
	bsd_close(b);
	free_stack(s);
}

TEST(cmsg_truncation)
{
	struct stack *s = new_stack();
	struct socket *a = udp_socket(s, 0), *b = udp_socket(s, 7);
	struct bsd_addr to = loopback(7);
	_Alignas(8) char ctl[128];
	char buf[4];
	struct bsd_iovec iov = { buf, sizeof(buf) };
	const size_t whole = CMSG_LEN(sizeof(int));
	int on = 1;

	CHECK_EQ(bsd_setsockopt(b, IPPROTO_IP, IP_RECVTTL, &on, sizeof(on)), 0);
	for (size_t room = 0; room <= 40; room++) {
		struct cmsghdr *c = (struct cmsghdr *)ctl;
		size_t len = room;
		int flags = 0, ttl = 0;

		memset(ctl, 0x55, sizeof(ctl));
		CHECK_EQ(bsd_send(a, "abc", 3, 0, &to, 0), 3);
		CHECK_EQ(bsd_recvmsg(b, &iov, 1, ctl, &len, &flags, NULL, 0), 3);
		CHECK_EQ(flags & MSG_CTRUNC, room < whole ? MSG_CTRUNC : 0);
		CHECK_EQ((unsigned char)ctl[room], 0x55);
		if (room < sizeof(*c)) {
			CHECK_EQ(len, 0);
			continue;
		}
		CHECK_EQ(c->cmsg_level, IPPROTO_IP);
		CHECK_EQ(c->cmsg_type, IP_TTL);
		CHECK_EQ(c->cmsg_len, room < whole ? room : whole);
		CHECK_EQ(len, room < CMSG_SPACE(4) ? room : CMSG_SPACE(4));
		if (room >= whole) {
			memcpy(&ttl, CMSG_DATA(c), sizeof(ttl));
			CHECK_EQ(ttl, 64);
		}
	}
	bsd_close(a);
	bsd_close(b);
	free_stack(s);
}

TEST(iovecs)
{
	struct stack *s = new_stack();
	struct socket *a = udp_socket(s, 0), *b = udp_socket(s, 7);
	struct bsd_addr to = loopback(7), from;
	char x[3], y[1], z[8];
	struct bsd_iovec out[] = { { (char[]){ 'a', 'b' }, 2 }, { NULL, 0 },
		{ (char[]){ 'c', 'd', 'e' }, 3 } };
	struct bsd_iovec in[] = { { x, 3 }, { y, 1 }, { z, 0 }, { z, 8 } };
	char bad[24] = { 3 }; /* cmsg_len 3: shorter than its header */
	int flags = 0;

	CHECK_EQ(bsd_sendmsg(a, out, 3, NULL, 0, 0, &to, 0), 5);
	CHECK_EQ(bsd_recvmsg(b, in, 4, NULL, NULL, &flags, &from, 0), 5);
	CHECK_MEM(x, "abc", 3);
	CHECK_MEM(y, "d", 1);
	CHECK_MEM(z, "e", 1);
	CHECK_EQ(flags, 0);
	CHECK_EQ(bsd_sendmsg(a, out, 3, bad, sizeof(bad), 0, &to, 0), -EINVAL);
	CHECK_EQ(bsd_sendmsg(a, out, 5000, NULL, 0, 0, &to, 0), -EMSGSIZE);
	bsd_close(a);
	bsd_close(b);
	free_stack(s);
}

TEST(timestamps)
{
	struct stack *s = new_stack();
	struct socket *a = udp_socket(s, 0), *b = udp_socket(s, 7);
	struct bsd_addr to = loopback(7);
	_Alignas(8) char ctl[128];
	char buf[4];
	struct bsd_iovec iov = { buf, sizeof(buf) };
	struct cmsghdr *c = (struct cmsghdr *)ctl;
	struct timespec ts;
	size_t len = sizeof(ctl);
	int on = 1, flags = 0;

	CHECK_EQ(bsd_setsockopt(b, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof(on)),
	    0);
	bsd_run(s, 5000000007);
	CHECK_EQ(bsd_send(a, "abc", 3, 0, &to, 0), 3);
	CHECK_EQ(bsd_recvmsg(b, &iov, 1, ctl, &len, &flags, NULL, 0), 3);
	CHECK_EQ(len, CMSG_SPACE(sizeof(ts)));
	CHECK_EQ(c->cmsg_type, SCM_TIMESTAMPNS);
	memcpy(&ts, CMSG_DATA(c), sizeof(ts));
	CHECK_EQ(ts.tv_sec, 5);
	CHECK_EQ(ts.tv_nsec, 7);
	bsd_close(a);
	bsd_close(b);
	free_stack(s);
}

TEST(bad_addresses)
{
	struct stack *s = new_stack();
	struct socket *a = udp_socket(s, 0), *b = udp_socket(s, 7);
	struct bsd_addr to = loopback(7);

	CHECK_EQ(bsd_bind(a, &to), -EADDRINUSE);
	to.family = 99;
	CHECK_EQ(bsd_bind(a, &to), -EAFNOSUPPORT);
	CHECK_EQ(bsd_connect(a, &to, 0), -EAFNOSUPPORT);
	to.family = AF_INET;
	to.addr[0] = 203;
	CHECK_EQ(bsd_bind(a, &to), -EADDRNOTAVAIL);
	CHECK_EQ(bsd_connect(a, &to, 0), -ENETUNREACH);
	CHECK_EQ(bsd_listen(a, 1), -EOPNOTSUPP);
	bsd_close(a);
	bsd_close(b);
	free_stack(s);
}

TESTS(RUN(udp_unconnected), RUN(udp_connected), RUN(udp_limits),
    RUN(cmsg_truncation), RUN(iovecs), RUN(timestamps), RUN(bad_addresses))
