/* A gateway between a stack and the host's own loopback, stepped by hand: the
 * stacks in virtual time, the host's sockets by non-blocking calls. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bsdcore/api.h"
#include "nic/api.h"
#include "tests/unit/c/check.h"

#define MSEC 1000000ull
#define SEC (1000 * MSEC)

struct net {
	struct pkt_pool *pool;
	struct stack *app, *gw;
	uint64_t now;
};

static struct bsd_addr
addr4(unsigned a, unsigned b, unsigned c, unsigned d, unsigned short port)
{
	struct bsd_addr v = { .family = AF_INET,
		.port = port,
		.addr = { (unsigned char)a, (unsigned char)b, (unsigned char)c,
		    (unsigned char)d } };

	return v;
}

static struct stack *
new_stack(struct port *port, struct bsd_addr me, unsigned flags)
{
	struct bsd_config cfg = { .name = "t",
		.seed = { 1, 2, 3, me.addr[3] },
		.virtual_time = 1,
		.start_time = SEC };
	struct stack *s;
	int i;

	CHECK_EQ(bsd_stack_new(&cfg, &s), 0);
	i = bsd_if_attach(s, port, "en0");
	CHECK(i > 0);
	CHECK_EQ(bsd_if_flags(s, (unsigned)i, BSD_IFF_UP | flags, 0), 0);
	CHECK_EQ(bsd_if_addaddr(s, (unsigned)i, &me, 24), 0);
	return s;
}

/* 10.0.2.15 behind a gateway at 10.0.2.2, which stands for 127.0.0.1; 10.9.9.9
 * is refused. */
static void
net_open(struct net *n, unsigned max_flows)
{
	struct bsd_gwmap maps[] = {
		{ .match = addr4(10, 0, 2, 2, 0),
		    .plen = 32,
		    .to = addr4(127, 0, 0, 1, 0) },
		{ .match = addr4(10, 9, 9, 9, 0), .plen = 32 },
	};
	struct bsd_addr any = addr4(0, 0, 0, 0, 0), gw = addr4(10, 0, 2, 2, 0);
	struct port *a, *b;

	n->pool = nic_pool_new(64 << 20);
	n->now = SEC;
	CHECK_EQ(nic_feth_open(n->pool, n->pool, 0, 1500, 256, ~0u, 0, &a, &b),
	    0);
	n->app = new_stack(a, addr4(10, 0, 2, 15, 0), 0);
	n->gw = new_stack(b, gw, BSD_IFF_PROMISC | BSD_IFF_ANYIP);
	CHECK_EQ(bsd_route_add(n->app, &any, 0, &gw, 0), 0);
	CHECK_EQ(bsd_gateway_start(n->gw, maps, 2, max_flows), 0);
	CHECK_EQ(bsd_gateway_start(n->gw, maps, 2, max_flows), -EALREADY);
}

static void
settle(struct net *n)
{
	for (int i = 0; i < 40; i++) {
		n->now += MSEC;
		(void)bsd_run(n->app, n->now);
		(void)bsd_run(n->gw, n->now);
	}
}

static void
pass(struct net *n, uint64_t time)
{
	for (uint64_t end = n->now + time; n->now < end; n->now += 200 * MSEC) {
		(void)bsd_run(n->app, n->now);
		(void)bsd_run(n->gw, n->now);
	}
	settle(n);
}

/* Every flow is over, and nothing was kept. */
static void
net_close(struct net *n)
{
	struct bsd_memstat m;
	struct bsd_gwstats st;
	struct nic_pool_stats ps;

	pass(n, 130 * SEC);
	bsd_gateway_stats(n->gw, &st);
	CHECK_EQ(st.open, 0);
	bsd_memstat(n->gw, &m);
	CHECK_EQ(m.sockets, 2); /* the gateway's own */
	CHECK_EQ(m.mbufs, 0);
	bsd_memstat(n->app, &m);
	CHECK_EQ(m.sockets, 0);
	bsd_stack_free(n->app);
	bsd_stack_free(n->gw);
	nic_pool_stats(n->pool, &ps);
	CHECK_EQ(ps.active, 0);
	nic_pool_free(n->pool);
}

/* A host socket bound to a free port of 127.0.0.1. */
static int
host_socket(int type, unsigned short *port)
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
		.sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t len = sizeof(sin);
	int fd = socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	CHECK(fd >= 0);
	CHECK_EQ(bind(fd, (struct sockaddr *)&sin, len), 0);
	CHECK_EQ(getsockname(fd, (struct sockaddr *)&sin, &len), 0);
	*port = ntohs(sin.sin_port);
	return fd;
}

static int
host_listener(unsigned short *port)
{
	int fd = host_socket(SOCK_STREAM, port);

	CHECK_EQ(listen(fd, 8), 0);
	return fd;
}

static struct socket *
dial(struct net *n, struct bsd_addr to)
{
	struct socket *so;

	CHECK_EQ(bsd_socket(n->app, AF_INET, SOCK_STREAM, 0, &so), 0);
	CHECK_EQ(bsd_connect(so, &to, 0), -EINPROGRESS);
	settle(n);
	return so;
}

static int
so_error(struct socket *so)
{
	int error = -1;
	size_t len = sizeof(error);

	CHECK_EQ(bsd_getsockopt(so, SOL_SOCKET, SO_ERROR, &error, &len), 0);
	return error;
}

/* An established flow. */
static void
pair(struct net *n, int lfd, unsigned short port, struct socket **so, int *fd)
{
	*so = dial(n, addr4(10, 0, 2, 2, port));
	CHECK_EQ(so_error(*so), 0);
	CHECK((bsd_poll(*so) & POLLOUT) != 0);
	*fd = accept4(lfd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	CHECK(*fd >= 0);
	settle(n);
}

TEST(both_ways_and_half_closes)
{
	struct net n;
	unsigned short port;
	int lfd = host_listener(&port), fd;
	struct bsd_gwstats st;
	struct socket *so;
	char buf[32];

	net_open(&n, 8);
	pair(&n, lfd, port, &so, &fd);
	CHECK_EQ(bsd_send(so, "ping", 4, 0, NULL, 0), 4);
	CHECK_EQ(bsd_shutdown(so, SHUT_WR), 0);
	settle(&n);
	CHECK_EQ(recv(fd, buf, sizeof(buf), 0), 4);
	CHECK_MEM(buf, "ping", 4);
	CHECK_EQ(recv(fd, buf, sizeof(buf), 0), 0);
	CHECK_EQ(send(fd, "and back", 8, 0), 8);
	settle(&n);
	CHECK_EQ(bsd_recv(so, buf, sizeof(buf), 0, NULL, 0), 8);
	CHECK_MEM(buf, "and back", 8);
	CHECK_EQ(bsd_recv(so, buf, sizeof(buf), 0, NULL, 0), -EAGAIN);
	close(fd);
	settle(&n);
	CHECK_EQ(bsd_recv(so, buf, sizeof(buf), 0, NULL, 0), 0);
	CHECK_EQ(bsd_close(so), 0);
	settle(&n);
	bsd_gateway_stats(n.gw, &st);
	CHECK_EQ(st.tcp_flows, 1);
	CHECK_EQ(st.bytes_out, 4);
	CHECK_EQ(st.bytes_in, 8);
	CHECK_EQ(st.open, 0);
	close(lfd);
	net_close(&n);
}

TEST(the_host_closes_first)
{
	struct net n;
	unsigned short port;
	int lfd = host_listener(&port), fd;
	struct socket *so;
	char buf[32];

	net_open(&n, 8);
	pair(&n, lfd, port, &so, &fd);
	CHECK_EQ(send(fd, "bye", 3, 0), 3);
	CHECK_EQ(shutdown(fd, SHUT_WR), 0);
	settle(&n);
	CHECK_EQ(bsd_recv(so, buf, sizeof(buf), 0, NULL, 0), 3);
	CHECK_EQ(bsd_recv(so, buf, sizeof(buf), 0, NULL, 0), 0);
	CHECK_EQ(bsd_send(so, "late", 4, 0, NULL, 0), 4);
	CHECK_EQ(bsd_close(so), 0);
	settle(&n);
	CHECK_EQ(recv(fd, buf, sizeof(buf), 0), 4);
	CHECK_EQ(recv(fd, buf, sizeof(buf), 0), 0);
	close(fd);
	close(lfd);
	net_close(&n);
}

TEST(refusals)
{
	struct net n;
	unsigned short port;
	struct bsd_gwstats st;
	struct socket *so;

	close(host_socket(SOCK_STREAM, &port));
	net_open(&n, 8);
	so = dial(&n, addr4(10, 0, 2, 2, port));
	CHECK_EQ(so_error(so), ECONNREFUSED);
	CHECK_EQ(bsd_close(so), 0);
	so = dial(&n, addr4(10, 9, 9, 9, 80));
	CHECK_EQ(so_error(so), ECONNREFUSED);
	CHECK_EQ(bsd_close(so), 0);
	bsd_gateway_stats(n.gw, &st);
	CHECK_EQ(st.tcp_refused, 2);
	CHECK_EQ(st.open, 0);
	net_close(&n);
}

TEST(resets)
{
	struct linger hard = { 1, 0 };
	struct net n;
	unsigned short port;
	int lfd = host_listener(&port), fd;
	struct socket *so;
	char buf[8];

	net_open(&n, 8);
	pair(&n, lfd, port, &so, &fd);
	CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard)), 0);
	close(fd);
	settle(&n);
	CHECK_EQ(bsd_recv(so, buf, sizeof(buf), 0, NULL, 0), -ECONNRESET);
	CHECK_EQ(bsd_close(so), 0);
	pair(&n, lfd, port, &so, &fd);
	CHECK_EQ(bsd_abort(so), 0);
	settle(&n);
	CHECK_EQ(recv(fd, buf, sizeof(buf), 0), -1);
	CHECK_EQ(errno, ECONNRESET);
	close(fd);
	close(lfd);
	net_close(&n);
}

/* Much data, a host that does not read: memory stays within the buffers. */
TEST(back_pressure)
{
	static char piece[65536];
	struct net n;
	unsigned short port;
	int lfd = host_listener(&port), fd;
	struct bsd_memstat m;
	struct socket *so;
	size_t sent = 0, got = 0;

	net_open(&n, 8);
	pair(&n, lfd, port, &so, &fd);
	for (int i = 0; i < 400; i++) {
		long k = bsd_send(so, piece, sizeof(piece), 0, NULL, 0);

		sent += k > 0 ? (size_t)k : 0;
		settle(&n);
	}
	bsd_memstat(n.gw, &m);
	CHECK(m.bytes < 24 << 20);
	CHECK_EQ(bsd_send(so, piece, 1, 0, NULL, 0), -EAGAIN);
	CHECK_EQ(bsd_shutdown(so, SHUT_WR), 0);
	for (int i = 0; i < 20000; i++) {
		ssize_t k = recv(fd, piece, sizeof(piece), 0);

		if (k == 0) {
			break;
		}
		got += k > 0 ? (size_t)k : 0;
		if (k < 0) {
			settle(&n);
		}
	}
	CHECK_EQ(got, sent);
	CHECK_EQ(bsd_close(so), 0);
	close(fd);
	close(lfd);
	net_close(&n);
}

TEST(too_many_flows)
{
	struct net n;
	unsigned short port, uport;
	int lfd = host_listener(&port), ufd = host_socket(SOCK_DGRAM, &uport);
	struct bsd_addr to = addr4(10, 0, 2, 2, uport);
	struct bsd_gwstats st;
	struct bsd_memstat m;
	struct socket *so[5];

	net_open(&n, 2);
	for (int i = 0; i < 5; i++) {
		so[i] = dial(&n, addr4(10, 0, 2, 2, port));
		CHECK_EQ(so_error(so[i]), i < 2 ? 0 : ECONNREFUSED);
	}
	bsd_gateway_stats(n.gw, &st);
	CHECK_EQ(st.limited, 3);
	CHECK_EQ(st.open, 2);
	bsd_memstat(n.gw, &m);
	CHECK_EQ(m.sockets, 2 + 2);
	for (int i = 0; i < 5; i++) {
		CHECK_EQ(bsd_close(so[i]), 0);
	}
	settle(&n);
	/* Datagrams beyond the limit leave nothing behind either. */
	so[0] = dial(&n, addr4(10, 0, 2, 2, port));
	so[1] = dial(&n, addr4(10, 0, 2, 2, port));
	bsd_gateway_stats(n.gw, &st);
	CHECK_EQ(bsd_socket(n.app, AF_INET, SOCK_DGRAM, 0, &so[2]), 0);
	for (int i = 0; i < 4; i++) {
		CHECK_EQ(bsd_send(so[2], "x", 1, 0, &to, 0), 1);
	}
	settle(&n);
	CHECK_EQ(recv(ufd, &m, 1, 0), st.open < 2 ? 1 : -1);
	for (int i = 0; i < 3; i++) {
		CHECK_EQ(bsd_close(so[i]), 0);
	}
	close(lfd);
	close(ufd);
	net_close(&n);
}

TEST(datagrams)
{
	struct net n;
	unsigned short port;
	int fd = host_socket(SOCK_DGRAM, &port);
	struct bsd_addr to = addr4(10, 0, 2, 2, port), from;
	struct sockaddr_in peer;
	socklen_t len = sizeof(peer);
	struct bsd_gwstats st;
	struct socket *so;
	char buf[2000] = { 0 };

	net_open(&n, 8);
	CHECK_EQ(bsd_socket(n.app, AF_INET, SOCK_DGRAM, 0, &so), 0);
	/* A burst: every datagram of it arrives, in one flow. */
	for (int i = 0; i < 3; i++) {
		CHECK_EQ(bsd_send(so, "abc", (size_t)i, 0, &to, 0), i);
	}
	settle(&n);
	for (int i = 0; i < 3; i++) {
		CHECK_EQ(recvfrom(fd, buf, sizeof(buf), 0,
			     (struct sockaddr *)&peer, &len),
		    i);
	}
	CHECK_EQ(sendto(fd, "answer", 6, 0, (struct sockaddr *)&peer, len), 6);
	CHECK_EQ(sendto(fd, "", 0, 0, (struct sockaddr *)&peer, len), 0);
	CHECK_EQ(sendto(fd, buf, 2000, 0, (struct sockaddr *)&peer, len), 2000);
	settle(&n);
	CHECK_EQ(bsd_recv(so, buf, sizeof(buf), 0, &from, 0), 6);
	CHECK_MEM(buf, "answer", 6);
	CHECK_MEM(&from, &to, sizeof(to));
	CHECK_EQ(bsd_recv(so, buf, sizeof(buf), 0, NULL, 0), 0);
	CHECK_EQ(bsd_recv(so, buf, sizeof(buf), 0, NULL, 0), 2000);
	bsd_gateway_stats(n.gw, &st);
	CHECK_EQ(st.udp_flows, 1);
	CHECK_EQ(st.open, 1);
	pass(&n, 50 * SEC); /* traffic keeps the flow */
	CHECK_EQ(bsd_send(so, "on", 2, 0, &to, 0), 2);
	pass(&n, 50 * SEC);
	bsd_gateway_stats(n.gw, &st);
	CHECK_EQ(st.open, 1);
	pass(&n, 20 * SEC);
	bsd_gateway_stats(n.gw, &st);
	CHECK_EQ(st.open, 0);
	CHECK_EQ(recv(fd, buf, sizeof(buf), 0), 2);
	CHECK_EQ(bsd_close(so), 0);
	close(fd);
	net_close(&n);
}

/* Nobody there is no end to a datagram flow. */
TEST(datagrams_refused)
{
	struct net n;
	unsigned short port;
	int fd = host_socket(SOCK_DGRAM, &port);
	struct bsd_addr to = addr4(10, 0, 2, 2, port),
			no = addr4(10, 9, 9, 9, 7);
	struct sockaddr_in sin = { .sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr = { htonl(INADDR_LOOPBACK) } };
	struct bsd_gwstats st;
	struct socket *so;
	char buf[8];

	close(fd);
	net_open(&n, 8);
	CHECK_EQ(bsd_socket(n.app, AF_INET, SOCK_DGRAM, 0, &so), 0);
	CHECK_EQ(bsd_send(so, "1", 1, 0, &no, 0), 1);
	CHECK_EQ(bsd_send(so, "2", 1, 0, &to, 0), 1);
	settle(&n);
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	CHECK_EQ(bind(fd, (struct sockaddr *)&sin, sizeof(sin)), 0);
	CHECK_EQ(bsd_send(so, "3", 1, 0, &to, 0), 1);
	CHECK_EQ(bsd_send(so, "4", 1, 0, &to, 0), 1);
	settle(&n);
	CHECK_EQ(recv(fd, buf, sizeof(buf), 0), 1);
	CHECK_EQ(recv(fd, buf, sizeof(buf), 0), 1);
	CHECK_EQ(buf[0], '4');
	bsd_gateway_stats(n.gw, &st);
	CHECK_EQ(st.udp_refused, 1);
	CHECK_EQ(st.open, 1);
	CHECK_EQ(bsd_close(so), 0);
	close(fd);
	net_close(&n);
}

TEST(forwarded_from_the_host)
{
	struct net n;
	unsigned short port;
	struct bsd_addr to = addr4(10, 0, 2, 15, 8080), any;
	struct sockaddr_in sin = { .sin_family = AF_INET,
		.sin_addr = { htonl(INADDR_LOOPBACK) } };
	struct socket *lso, *so;
	int lfd = host_listener(&port), fd;
	char buf[8];

	net_open(&n, 8);
	any = addr4(0, 0, 0, 0, 8080);
	CHECK_EQ(bsd_socket(n.app, AF_INET, SOCK_STREAM, 0, &lso), 0);
	CHECK_EQ(bsd_bind(lso, &any), 0);
	CHECK_EQ(bsd_listen(lso, 4), 0);
	CHECK_EQ(bsd_gateway_forward(n.gw, lfd, &to), 0);
	sin.sin_port = htons(port);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK_EQ(connect(fd, (struct sockaddr *)&sin, sizeof(sin)), 0);
	CHECK_EQ(send(fd, "hello", 5, 0), 5);
	settle(&n);
	CHECK_EQ(bsd_accept(lso, 0, &so, NULL), 0);
	CHECK_EQ(bsd_recv(so, buf, sizeof(buf), 0, NULL, 0), 5);
	CHECK_EQ(bsd_send(so, "you", 3, 0, NULL, 0), 3);
	CHECK_EQ(bsd_close(so), 0);
	settle(&n);
	CHECK_EQ(recv(fd, buf, sizeof(buf), 0), 3);
	CHECK_EQ(recv(fd, buf, sizeof(buf), 0), 0);
	close(fd);
	/* Nobody listens any more: the host's side is told. */
	CHECK_EQ(bsd_close(lso), 0);
	settle(&n);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK_EQ(connect(fd, (struct sockaddr *)&sin, sizeof(sin)), 0);
	settle(&n);
	CHECK_EQ(recv(fd, buf, sizeof(buf), 0), -1);
	CHECK_EQ(errno, ECONNRESET);
	close(fd);
	net_close(&n);
}

/* No descriptors: a forward waits instead of spinning, then goes on. */
TEST(forward_without_descriptors)
{
	struct net n;
	unsigned short port;
	struct bsd_addr to = addr4(10, 0, 2, 15, 8080);
	struct sockaddr_in sin = { .sin_family = AF_INET,
		.sin_addr = { htonl(INADDR_LOOPBACK) } };
	struct rlimit old, low;
	struct bsd_gwstats st;
	int lfd = host_listener(&port), fd;

	net_open(&n, 8);
	CHECK_EQ(bsd_gateway_forward(n.gw, lfd, &to), 0);
	(void)bsd_run(n.gw, n.now);
	sin.sin_port = htons(port);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK_EQ(connect(fd, (struct sockaddr *)&sin, sizeof(sin)), 0);
	CHECK_EQ(getrlimit(RLIMIT_NOFILE, &old), 0);
	low = old;
	low.rlim_cur = (rlim_t)fd + 1;
	CHECK_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
	(void)bsd_run(n.gw, n.now);
	CHECK(bsd_poll_at(n.gw) > n.now);
	CHECK(bsd_poll_at(n.gw) <= n.now + SEC);
	CHECK_EQ(bsd_run(n.gw, n.now), 0);
	CHECK_EQ(setrlimit(RLIMIT_NOFILE, &old), 0);
	pass(&n, SEC);
	bsd_gateway_stats(n.gw, &st);
	CHECK_EQ(st.tcp_flows, 1);
	close(fd);
	net_close(&n);
}

/* Stacks go while flows of every kind are under way. */
TEST(the_stack_goes_first)
{
	struct net n;
	unsigned short port, uport;
	int lfd = host_listener(&port), ufd = host_socket(SOCK_DGRAM, &uport);
	struct bsd_addr to = addr4(10, 0, 2, 2, uport);
	struct socket *so, *half, *u;
	struct nic_pool_stats ps;
	char buf[8];
	int fd;

	net_open(&n, 8);
	pair(&n, lfd, port, &so, &fd);
	CHECK_EQ(bsd_socket(n.app, AF_INET, SOCK_DGRAM, 0, &u), 0);
	CHECK_EQ(bsd_send(u, "x", 1, 0, &to, 0), 1);
	settle(&n);
	CHECK_EQ(bsd_socket(n.app, AF_INET, SOCK_STREAM, 0, &half), 0);
	to.port = port;
	CHECK_EQ(bsd_connect(half, &to, 0), -EINPROGRESS);
	(void)bsd_run(n.gw, n.now);
	bsd_stack_free(n.gw);
	bsd_stack_free(n.app);
	CHECK_EQ(recv(fd, buf, sizeof(buf), 0), 0);
	CHECK_EQ(bsd_close(so), 0);
	CHECK_EQ(bsd_close(half), 0);
	CHECK_EQ(bsd_close(u), 0);
	close(fd);
	close(lfd);
	close(ufd);
	nic_pool_stats(n.pool, &ps);
	CHECK_EQ(ps.active, 0);
	nic_pool_free(n.pool);
}

TEST(bad_arguments)
{
	struct bsd_config cfg = { .name = "t", .virtual_time = 1 };
	struct bsd_gwmap bad = { .match = addr4(1, 2, 3, 4, 0), .plen = 33 };
	struct bsd_gwmap good = { .match = addr4(1, 2, 3, 4, 0), .plen = 9 };
	struct bsd_addr to = addr4(1, 2, 3, 4, 0);
	struct bsd_gwstats st;
	struct stack *s;
	unsigned short port;

	CHECK_EQ(bsd_stack_new(&cfg, &s), 0);
	CHECK_EQ(bsd_gateway_start(s, &bad, 1, 5), -EINVAL);
	CHECK_EQ(bsd_gateway_start(s, &good, -1, 5), -EINVAL);
	CHECK_EQ(bsd_gateway_start(s, &good, 1, 0), -EINVAL);
	bsd_gateway_stats(s, &st);
	CHECK_EQ(st.open, 0);
	CHECK_EQ(bsd_gateway_forward(s, host_listener(&port), &to), -EINVAL);
	CHECK_EQ(bsd_gateway_start(s, &good, 1, 5), 0);
	CHECK_EQ(bsd_gateway_forward(s, host_listener(&port), &to), -EINVAL);
	bsd_stack_free(s);
}

TESTS(RUN(both_ways_and_half_closes), RUN(the_host_closes_first), RUN(refusals),
    RUN(resets), RUN(back_pressure), RUN(too_many_flows), RUN(datagrams),
    RUN(datagrams_refused), RUN(forwarded_from_the_host),
    RUN(forward_without_descriptors), RUN(the_stack_goes_first),
    RUN(bad_arguments))
