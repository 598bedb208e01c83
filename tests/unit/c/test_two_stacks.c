/* A stack with a thread and two without share an interface by a flowswitch:
 * all of them talk to a host across the wire, and to each other, at once. For
 * the sanitizers above all; the waits here are for events. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bsdcore/api.h"
#include "nic/api.h"
#include "skywalk/api_fsw.h"
#include "tests/unit/c/check.h"

#define NCLIENT 2
#define ROUNDS 6
#define BYTES 40000u
#define LONG (20ll * 1000 * 1000 * 1000)

struct client {
	struct netns_owner *c_owner;
	struct stack *c_s;
	struct pkt_pool *c_pool[2]; /* lo0, en0 */
	int c_bell, c_id;
	pthread_t c_thread;
	struct net *c_net;
};

struct net {
	struct pkt_pool *n_pool[4]; /* far, dev, host, lo */
	struct stack *n_far, *n_host;
	struct netns *n_ns;
	struct netns_owner *n_owner;
	struct fsw *n_fsw[2]; /* lo0, en0 */
	struct client n_client[NCLIENT];
};

static struct bsd_addr
addr4(unsigned char net, unsigned char last, unsigned short port)
{
	struct bsd_addr a = {
		.family = AF_INET, .port = port, .addr = { net, 0, 0, last }
	};

	return a;
}

/* One secret for all, as those of one host have to have. */
static struct stack *
stack_open(const char *name, uint64_t seed)
{
	struct bsd_config cfg = { .name = name, .seed = { seed, 2, 3, 4 } };
	struct stack *s;

	CHECK_EQ(bsd_stack_new(&cfg, &s), 0);
	return s;
}

static void
stack_join(struct net *n, struct stack *s, int kind, struct netns_owner **out)
{
	CHECK_EQ(sk_netns_owner(n->n_ns, kind, 1, out), 0);
	CHECK_EQ(bsd_set_netns(s, sk_netns_ops(), *out, sk_netns_advtab(n->n_ns)),
	    0);
}

static unsigned
stack_attach(struct stack *s, struct port *pt, const char *name,
    unsigned char last)
{
	struct bsd_addr me = addr4(10, last, 0);
	int index = bsd_if_attach(s, pt, name);

	CHECK(index > 0);
	if (last != 0) {
		CHECK_EQ(bsd_if_addaddr(s, (unsigned)index, &me, 24), 0);
	}
	return (unsigned)index;
}

static void
route_event(void *arg)
{
	sk_fsw_route_event(arg);
}

static void
host_open(struct net *n, struct port *dev)
{
	struct sk_fsw_cfg cfg = { .host_pool = n->n_pool[2] };
	struct port *lo, *pt;
	const void *fr;
	unsigned index;

	n->n_host = stack_open("host", 2);
	stack_join(n, n->n_host, SK_OWNER_HOST, &n->n_owner);
	CHECK_EQ(sk_fsw_open(n->n_ns, dev, &cfg, &n->n_fsw[1], &pt), 0);
	index = stack_attach(n->n_host, pt, "en0", 1);
	CHECK_EQ(bsd_resolver(n->n_host, index, &fr), 0);
	CHECK_EQ(sk_fsw_set_resolver(n->n_fsw[1], fr), 0);
	bsd_set_flow_event(n->n_host, route_event, n->n_fsw[1]);
	cfg.flags = SK_FSW_LOOP;
	CHECK_EQ(nic_lo_open(n->n_pool[3], 65535, &lo), 0);
	CHECK_EQ(sk_fsw_open(n->n_ns, lo, &cfg, &n->n_fsw[0], &pt), 0);
	stack_attach(n->n_host, pt, "lo0", 0);
	for (int i = 0; i < 2; i++) {
		sk_fsw_set_wake(n->n_fsw[i], bsd_wake, n->n_host);
	}
	CHECK_EQ(bsd_start(n->n_host), 0);
}

static void
client_open(struct net *n, struct client *c, int id)
{
	struct port *pt;

	c->c_id = id;
	c->c_net = n;
	c->c_bell = eventfd(0, EFD_NONBLOCK);
	CHECK(c->c_bell >= 0);
	c->c_s = stack_open("client", 10 + (uint64_t)id);
	stack_join(n, c->c_s, SK_OWNER_CLIENT, &c->c_owner);
	for (int i = 0; i < 2; i++) {
		c->c_pool[i] = nic_pool_new(64 << 20);
		CHECK_EQ(sk_fsw_client(n->n_fsw[i], c->c_owner, c->c_pool[i],
			     c->c_bell, &pt),
		    0);
		stack_attach(c->c_s, pt, i ? "en0" : "lo0", i ? 1 : 0);
	}
}

static void
net_open(struct net *n)
{
	struct sk_netns_cfg cfg = { .seed = { 1, 2 } };
	struct port *port[2];

	for (int i = 0; i < 4; i++) {
		n->n_pool[i] = nic_pool_new(64 << 20);
	}
	CHECK_EQ(sk_netns_new(&cfg, &n->n_ns), 0);
	CHECK_EQ(nic_feth_open(n->n_pool[0], n->n_pool[1], 0, 1500, 512, ~0u, 1,
		     &port[0], &port[1]),
	    0);
	n->n_far = stack_open("far", 1);
	stack_attach(n->n_far, port[0], "en0", 2);
	CHECK_EQ(bsd_start(n->n_far), 0);
	host_open(n, port[1]);
	for (int i = 0; i < NCLIENT; i++) {
		client_open(n, &n->n_client[i], i);
	}
}

static void
pool_close(struct pkt_pool *pool)
{
	struct nic_pool_stats st;

	nic_pool_stats(pool, &st);
	CHECK_EQ(st.active, 0);
	nic_pool_free(pool);
}

static void
net_close(struct net *n)
{
	for (int i = 0; i < NCLIENT; i++) {
		struct client *c = &n->n_client[i];

		bsd_stack_free(c->c_s);
		sk_netns_owner_free(c->c_owner);
		close(c->c_bell);
	}
	bsd_set_flow_event(n->n_host, NULL, NULL);
	for (int i = 0; i < 2; i++) {
		sk_fsw_set_wake(n->n_fsw[i], NULL, NULL);
		CHECK_EQ(sk_fsw_set_resolver(n->n_fsw[i], NULL), 0);
	}
	bsd_stack_free(n->n_host);
	bsd_stack_free(n->n_far);
	for (int i = 0; i < 2; i++) {
		sk_fsw_free(n->n_fsw[i]);
	}
	sk_netns_owner_free(n->n_owner);
	sk_netns_free(n->n_ns);
	for (int i = 0; i < NCLIENT; i++) {
		pool_close(n->n_client[i].c_pool[0]);
		pool_close(n->n_client[i].c_pool[1]);
	}
	for (int i = 0; i < 4; i++) {
		pool_close(n->n_pool[i]);
	}
}

/* Calls that go on after a spurious EINTR, as the facade's do. */
static long
recv_all(struct socket *so, unsigned char *buf, size_t len)
{
	size_t got = 0;
	long n;

	while (got < len) {
		n = bsd_recv(so, buf + got, len - got, 0, NULL, LONG);
		if (n == 0) {
			break;
		}
		CHECK(n > 0 || n == -EINTR);
		got += n > 0 ? (size_t)n : 0;
	}
	return (long)got;
}

/* Send back what comes, of `rounds` connections, on a stack with a thread. */
struct server {
	struct stack *sv_s;
	unsigned short sv_port;
	int sv_rounds;
	pthread_t sv_thread;
	struct socket *sv_listener;
};

static void *
server_main(void *arg)
{
	struct server *sv = arg;
	unsigned char *buf = malloc(BYTES);
	struct socket *so;

	for (int i = 0; i < sv->sv_rounds; i++) {
		size_t done = 0;
		int error;

		do {
			error = bsd_accept(sv->sv_listener, LONG, &so, NULL);
		} while (error == -EINTR);
		CHECK_EQ(error, 0);
		CHECK_EQ(recv_all(so, buf, BYTES), (long)BYTES);
		while (done < BYTES) {
			size_t n = 0;

			error = bsd_sendall(so, buf + done, BYTES - done, 0,
			    LONG, &n);
			CHECK(error == 0 || error == -EINTR);
			done += n;
		}
		CHECK_EQ(bsd_close(so), 0);
	}
	free(buf);
	return NULL;
}

static void
server_start(struct server *sv, struct stack *s, unsigned short port, int rounds)
{
	struct bsd_addr any = { .family = AF_INET, .port = port };

	sv->sv_s = s;
	sv->sv_port = port;
	sv->sv_rounds = rounds;
	CHECK_EQ(bsd_socket(s, AF_INET, SOCK_STREAM, 0, &sv->sv_listener), 0);
	CHECK_EQ(bsd_bind(sv->sv_listener, &any), 0);
	CHECK_EQ(bsd_listen(sv->sv_listener, 16), 0);
	CHECK_EQ(pthread_create(&sv->sv_thread, NULL, server_main, sv), 0);
}

static void
server_join(struct server *sv)
{
	pthread_join(sv->sv_thread, NULL);
	CHECK_EQ(bsd_close(sv->sv_listener), 0);
}

/* The loop of a stack without a thread, until so has one of events. */
static void
client_wait(struct client *c, struct socket *so, int events)
{
	struct pollfd pfd = { .fd = c->c_bell, .events = POLLIN };
	uint64_t at, now, bell;

	for (;;) {
		while (bsd_run(c->c_s, 0) > 0) {
			continue;
		}
		if (bsd_poll(so) & events) {
			return;
		}
		at = bsd_poll_at(c->c_s);
		now = bsd_now(c->c_s);
		at = at > now ? (at - now) / 1000000 + 1 : 0;
		CHECK(poll(&pfd, 1, at < 20000 ? (int)at : 20000) >= 0);
		if (pfd.revents != 0) {
			CHECK_EQ(read(c->c_bell, &bell, sizeof(bell)),
			    (long)sizeof(bell));
		}
	}
}

static void
client_talk(struct client *c, const struct bsd_addr *to, unsigned char *out,
    unsigned char *in)
{
	size_t sent = 0, got = 0;
	struct socket *so;
	int error;

	for (size_t i = 0; i < BYTES; i++) {
		out[i] = (unsigned char)(i * 31 + (size_t)c->c_id + to->port);
	}
	CHECK_EQ(bsd_socket(c->c_s, AF_INET, SOCK_STREAM, 0, &so), 0);
	error = bsd_connect(so, to, 0);
	CHECK(error == 0 || error == -EINPROGRESS);
	while (got < BYTES) {
		long n;

		client_wait(c, so, POLLIN | (sent < BYTES ? POLLOUT : 0));
		n = bsd_recv(so, in + got, BYTES - got, 0, NULL, 0);
		CHECK(n > 0 || n == -EAGAIN);
		got += n > 0 ? (size_t)n : 0;
		if (sent < BYTES && (bsd_poll(so) & POLLOUT)) {
			n = bsd_send(so, out + sent, BYTES - sent, 0, NULL, 0);
			CHECK(n > 0 || n == -EAGAIN);
			sent += n > 0 ? (size_t)n : 0;
		}
	}
	CHECK_EQ(memcmp(in, out, BYTES), 0);
	CHECK_EQ(bsd_close(so), 0);
	while (bsd_run(c->c_s, 0) > 0) {
		continue;
	}
}

/* By turns: across the wire, and to the host by both its addresses. */
static void *
client_main(void *arg)
{
	const struct bsd_addr to[3] = { addr4(10, 2, 80), addr4(127, 1, 81),
		addr4(10, 1, 81) };
	unsigned char *buf = malloc(2 * BYTES);

	for (int i = 0; i < ROUNDS; i++) {
		client_talk(arg, &to[i % 3], buf, buf + BYTES);
	}
	free(buf);
	return NULL;
}

TEST(all_at_once)
{
	struct net n;
	struct server far, host;
	struct bsd_addr to = addr4(10, 2, 80);
	unsigned char *buf = malloc(BYTES);

	memset(&n, 0, sizeof(n));
	memset(buf, 'x', BYTES);
	net_open(&n);
	server_start(&far, n.n_far, 80, ROUNDS + NCLIENT * ROUNDS / 3);
	server_start(&host, n.n_host, 81, NCLIENT * ROUNDS * 2 / 3);
	for (int i = 0; i < NCLIENT; i++) {
		CHECK_EQ(pthread_create(&n.n_client[i].c_thread, NULL,
			     client_main, &n.n_client[i]),
		    0);
	}
	for (int i = 0; i < ROUNDS; i++) {
		struct socket *so;
		size_t done = 0;
		int error;

		CHECK_EQ(bsd_socket(n.n_host, AF_INET, SOCK_STREAM, 0, &so), 0);
		error = bsd_connect(so, &to, LONG);
		CHECK(error == 0 || error == -EINTR);
		while (done < BYTES) {
			size_t k = 0;

			error = bsd_sendall(so, buf + done, BYTES - done, 0,
			    LONG, &k);
			CHECK(error == 0 || error == -EINTR);
			done += k;
		}
		CHECK_EQ(recv_all(so, buf, BYTES), (long)BYTES);
		CHECK_EQ(bsd_close(so), 0);
	}
	for (int i = 0; i < NCLIENT; i++) {
		pthread_join(n.n_client[i].c_thread, NULL);
	}
	server_join(&far);
	server_join(&host);
	net_close(&n);
	free(buf);
}

TESTS(RUN(all_at_once))
