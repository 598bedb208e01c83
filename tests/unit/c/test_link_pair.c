/* Two stacks and a wire in virtual time: from socket to socket. */
#include "bsdcore/api.h"
#include "nic/api.h"
#include "nic/port.h"
#include "tests/unit/c/check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

#define SEC 1000000000ull

struct side {
	struct stack *s;
	struct pkt_pool *pool;
	int ifindex;
};

struct pair {
	struct side v[2];
	uint64_t now;
};

static struct bsd_addr
addr(const char *text, unsigned port)
{
	struct bsd_addr a = { .family = AF_INET, .port = (unsigned short)port };

	CHECK_EQ(inet_pton(AF_INET, text, a.addr), 1);
	return a;
}

/* 10.0.0.1 and 10.0.0.2, link 0 Ethernet, 1 raw IP. */
static struct pair
pair_new(int link, unsigned qlen, unsigned caps)
{
	struct pair p = { .now = 5 * SEC };
	struct port *port[2];

	for (int i = 0; i < 2; i++) {
		struct bsd_config cfg = { .name = i ? "b" : "a",
			.seed = { 1, 2, 3, (uint64_t)i },
			.virtual_time = 1,
			.start_time = p.now };

		p.v[i].pool = nic_pool_new(16 << 20);
		CHECK_EQ(bsd_stack_new(&cfg, &p.v[i].s), 0);
	}
	CHECK_EQ(nic_feth_open(p.v[0].pool, p.v[1].pool, link, 1500, qlen, caps,
		     0, &port[0], &port[1]),
	    0);
	for (int i = 0; i < 2; i++) {
		struct bsd_addr a = addr(i ? "10.0.0.2" : "10.0.0.1", 0);

		p.v[i].ifindex = bsd_if_attach(p.v[i].s, port[i], NULL);
		CHECK(p.v[i].ifindex > 0);
		CHECK_EQ(bsd_if_addaddr(p.v[i].s, (unsigned)p.v[i].ifindex, &a,
			     24),
		    0);
	}
	return p;
}

/* Everything that happens up to `end`, stopping at each deadline. */
static void
pair_until(struct pair *p, uint64_t end)
{
	for (;;) {
		uint64_t at = bsd_poll_at(p->v[0].s);
		uint64_t other = bsd_poll_at(p->v[1].s);

		at = other < at ? other : at;
		if (at > end) {
			break;
		}
		p->now = at > p->now ? at : p->now;
		for (int i = 0; i < 2; i++) {
			CHECK(bsd_run(p->v[i].s, p->now) >= 0);
		}
	}
	p->now = end;
	for (int i = 0; i < 2; i++) {
		CHECK(bsd_run(p->v[i].s, p->now) >= 0);
	}
}

static void
pair_free(struct pair *p)
{
	for (int i = 0; i < 2; i++) {
		struct nic_pool_stats st;

		bsd_stack_free(p->v[i].s);
		if (i == 1) {
			for (int k = 0; k < 2; k++) {
				nic_pool_stats(p->v[k].pool, &st);
				CHECK_EQ(st.active, 0);
				nic_pool_free(p->v[k].pool);
			}
		}
	}
}

static uint64_t
stat(struct stack *s, const char *want)
{
	const char *name;
	uint64_t value;

	for (int i = 0; bsd_stat(s, i, &name, &value) == 0; i++) {
		if (strcmp(name, want) == 0) {
			return value;
		}
	}
	fprintf(stderr, "no counter %s\n", want);
	abort();
}

static struct socket *
udp(struct stack *s, const char *text, unsigned port)
{
	struct bsd_addr a = addr(text, port);
	struct socket *so;
	int on = 1;

	CHECK_EQ(bsd_socket(s, AF_INET, SOCK_DGRAM, 0, &so), 0);
	CHECK_EQ(bsd_setsockopt(so, SOL_SOCKET, SO_BROADCAST, &on, sizeof(on)),
	    0);
	CHECK_EQ(bsd_bind(so, &a), 0);
	return so;
}

static void
sends(struct socket *so, const char *text, unsigned port, const void *buf,
    size_t len)
{
	struct bsd_addr to = addr(text, port);

	CHECK_EQ(bsd_send(so, buf, len, 0, &to, 0), (long)len);
}

static void
echo(int link, unsigned caps)
{
	struct pair p = pair_new(link, 64, caps);
	struct socket *a = udp(p.v[0].s, "0.0.0.0", 1000);
	struct socket *b = udp(p.v[1].s, "0.0.0.0", 2000);
	static char out[9000], in[9000];
	struct bsd_addr from;

	for (size_t i = 0; i < sizeof(out); i++) {
		out[i] = (char)(i * 7);
	}
	for (size_t len = 0; len <= sizeof(out); len += 450) {
		sends(a, "10.0.0.2", 2000, out, len);
		pair_until(&p, p.now);
		CHECK_EQ(bsd_recv(b, in, sizeof(in), 0, &from, 0), (long)len);
		CHECK_MEM(in, out, len);
		CHECK_EQ(from.port, 1000);
		CHECK_MEM(from.addr, addr("10.0.0.1", 0).addr, 4);
		CHECK_EQ(bsd_send(b, in, len, 0, &from, 0), (long)len);
		pair_until(&p, p.now);
		CHECK_EQ(bsd_recv(a, in, sizeof(in), 0, &from, 0), (long)len);
		CHECK_MEM(in, out, len);
	}
	CHECK_EQ(stat(p.v[0].s, "arp.txrequests"), link == 0);
	CHECK_EQ(stat(p.v[1].s, "arp.txrequests"), 0);
	bsd_close(a);
	bsd_close(b);
	pair_free(&p);
}

TEST(ether_echo)
{
	echo(0, ~0u);
}

TEST(ether_echo_without_offloads)
{
	echo(0, 0);
}

TEST(rawip_echo)
{
	echo(1, ~0u);
}

/* A burst longer than the wire: all of it arrives, in order. */
TEST(burst_over_a_short_wire)
{
	struct pair p = pair_new(0, 4, ~0u);
	struct socket *a = udp(p.v[0].s, "0.0.0.0", 1000);
	struct socket *b = udp(p.v[1].s, "0.0.0.0", 2000);
	uint32_t got;

	sends(a, "10.0.0.2", 2000, "x", 1);
	pair_until(&p, p.now);
	CHECK_EQ(bsd_recv(b, &got, sizeof(got), 0, NULL, 0), 1);
	for (uint32_t i = 0; i < 200; i++) {
		sends(a, "10.0.0.2", 2000, &i, sizeof(i));
	}
	pair_until(&p, p.now + SEC);
	for (uint32_t i = 0; i < 200; i++) {
		CHECK_EQ(bsd_recv(b, &got, sizeof(got), 0, NULL, 0), 4);
		CHECK_EQ(got, i);
	}
	CHECK(stat(p.v[0].s, "if.txblocked") > 0);
	bsd_close(a);
	bsd_close(b);
	pair_free(&p);
}

/* Nobody there: who wants to hear of it is told, after five requests. As on
 * Linux, a plain datagram socket takes it for a hint. */
TEST(silent_neighbour)
{
	struct pair p = pair_new(0, 64, ~0u);
	struct bsd_addr to = addr("10.0.0.77", 9);
	struct socket *a, *plain;
	int on = 1;
	char c;

	CHECK_EQ(bsd_socket(p.v[0].s, AF_INET, SOCK_DGRAM, 0, &a), 0);
	CHECK_EQ(bsd_setsockopt(a, IPPROTO_IP, IP_RECVERR, &on, sizeof(on)), 0);
	CHECK_EQ(bsd_connect(a, &to, 0), 0);
	CHECK_EQ(bsd_socket(p.v[0].s, AF_INET, SOCK_DGRAM, 0, &plain), 0);
	CHECK_EQ(bsd_connect(plain, &to, 0), 0);
	CHECK_EQ(bsd_send(a, "x", 1, 0, NULL, 0), 1);
	CHECK_EQ(bsd_send(plain, "x", 1, 0, NULL, 0), 1);
	pair_until(&p, p.now + 4 * SEC);
	CHECK_EQ(bsd_recv(a, &c, 1, 0, NULL, 0), -EAGAIN);
	pair_until(&p, p.now + 2 * SEC);
	CHECK_EQ(bsd_recv(a, &c, 1, 0, NULL, 0), -EHOSTUNREACH);
	CHECK_EQ(bsd_recv(plain, &c, 1, 0, NULL, 0), -EAGAIN);
	CHECK_EQ(bsd_send(a, "x", 1, 0, NULL, 0), -EHOSTUNREACH);
	CHECK_EQ(stat(p.v[0].s, "arp.txrequests"), 5);
	bsd_close(a);
	bsd_close(plain);
	pair_free(&p);
}

/* A connection is refused by the silence, as soon as it is certain. */
TEST(connecting_to_nobody)
{
	struct pair p = pair_new(0, 64, ~0u);
	struct bsd_addr to = addr("10.0.0.77", 9);
	struct socket *a;
	int error = 0;
	size_t len = sizeof(error);

	CHECK_EQ(bsd_socket(p.v[0].s, AF_INET, SOCK_STREAM, 0, &a), 0);
	CHECK_EQ(bsd_connect(a, &to, 0), -EINPROGRESS);
	pair_until(&p, p.now + 6 * SEC);
	CHECK_EQ(bsd_getsockopt(a, SOL_SOCKET, SO_ERROR, &error, &len), 0);
	CHECK_EQ(error, EHOSTUNREACH);
	bsd_close(a);
	CHECK_EQ(bsd_socket(p.v[0].s, AF_INET, SOCK_STREAM, 0, &a), 0);
	CHECK_EQ(bsd_connect(a, &to, 0), -EHOSTUNREACH);
	bsd_close(a);
	pair_free(&p);
}

TEST(broadcast_reaches_both)
{
	struct pair p = pair_new(0, 64, ~0u);
	struct socket *a = udp(p.v[0].s, "0.0.0.0", 1000);
	struct socket *b = udp(p.v[1].s, "0.0.0.0", 1000);
	char c;

	sends(a, "10.0.0.255", 1000, "x", 1);
	pair_until(&p, p.now);
	CHECK_EQ(bsd_recv(b, &c, 1, 0, NULL, 0), 1);
	CHECK_EQ(bsd_recv(a, &c, 1, 0, NULL, 0), 1);
	CHECK_EQ(bsd_recv(a, &c, 1, 0, NULL, 0), -EAGAIN);
	CHECK_EQ(stat(p.v[0].s, "arp.txrequests"), 0);
	bsd_close(a);
	bsd_close(b);
	pair_free(&p);
}

TEST(multicast_reaches_members)
{
	struct pair p = pair_new(0, 64, ~0u);
	struct socket *a = udp(p.v[0].s, "0.0.0.0", 1000);
	struct socket *b = udp(p.v[1].s, "0.0.0.0", 1000);
	struct bsd_addr group = addr("224.1.2.3", 0);
	struct {
		unsigned char group[4], local[4];
	} mreq;
	char c;

	sends(a, "224.1.2.3", 1000, "x", 1);
	pair_until(&p, p.now);
	CHECK_EQ(stat(p.v[1].s, "ether.drop.notmember"), 1);
	memcpy(mreq.group, group.addr, 4);
	memcpy(mreq.local, addr("10.0.0.2", 0).addr, 4);
	CHECK_EQ(bsd_setsockopt(b, IPPROTO_IP, IP_ADD_MEMBERSHIP, &mreq,
		     sizeof(mreq)),
	    0);
	memcpy(mreq.local, addr("10.0.0.1", 0).addr, 4);
	CHECK_EQ(bsd_setsockopt(a, IPPROTO_IP, IP_ADD_MEMBERSHIP, &mreq,
		     sizeof(mreq)),
	    0);
	sends(a, "224.1.2.3", 1000, "x", 1);
	pair_until(&p, p.now);
	CHECK_EQ(bsd_recv(b, &c, 1, 0, NULL, 0), 1);
	CHECK_EQ(bsd_recv(a, &c, 1, 0, NULL, 0), 1); /* IP_MULTICAST_LOOP */
	bsd_close(a);
	bsd_close(b);
	pair_free(&p);
}

/* All of 127/8 is here, and a neighbour cannot speak for it. */
TEST(loopback)
{
	struct pair p = pair_new(0, 64, ~0u);
	struct socket *a = udp(p.v[0].s, "127.0.0.1", 1000);
	struct socket *b = udp(p.v[0].s, "127.3.2.1", 2000);
	static char big[65507], in[65507];
	struct bsd_addr from;

	sends(a, "127.3.2.1", 2000, big, sizeof(big));
	CHECK_EQ(bsd_recv(b, in, sizeof(in), 0, &from, 0), sizeof(big));
	CHECK_MEM(from.addr, addr("127.0.0.1", 0).addr, 4);
	CHECK_EQ(stat(p.v[0].s, "if.looped"), 1);
	bsd_close(a);
	bsd_close(b);
	pair_free(&p);
}

/* The whole handshake runs inside the call that waits for it. */
TEST(connecting_to_oneself)
{
	struct pair p = pair_new(0, 64, ~0u);
	struct bsd_addr at = addr("127.0.0.1", 4000), peer;
	struct socket *listener, *a, *b;
	char c;

	CHECK_EQ(bsd_socket(p.v[0].s, AF_INET, SOCK_STREAM, 0, &listener), 0);
	CHECK_EQ(bsd_bind(listener, &at), 0);
	CHECK_EQ(bsd_listen(listener, 5), 0);
	CHECK_EQ(bsd_socket(p.v[0].s, AF_INET, SOCK_STREAM, 0, &a), 0);
	CHECK_EQ(bsd_connect(a, &at, SEC), 0);
	CHECK_EQ(bsd_accept(listener, 0, &b, &peer), 0);
	CHECK_EQ(bsd_send(a, "x", 1, 0, NULL, 0), 1);
	CHECK_EQ(bsd_recv(b, &c, 1, 0, NULL, 0), 1);
	bsd_close(a);
	bsd_close(b);
	bsd_close(listener);
	pair_free(&p);
}

TESTS(RUN(ether_echo), RUN(ether_echo_without_offloads), RUN(rawip_echo),
    RUN(burst_over_a_short_wire), RUN(silent_neighbour),
    RUN(connecting_to_nobody), RUN(broadcast_reaches_both),
    RUN(multicast_reaches_members), RUN(loopback), RUN(connecting_to_oneself))
