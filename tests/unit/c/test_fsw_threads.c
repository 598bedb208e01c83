/*
 * HOST, two clients and the far end of a wire, each in a thread of its own. Data
 * races are for the thread sanitizer; here everything sent must arrive, once
 * and in order, and nobody may sleep through a packet.
 */
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "tests/unit/c/fswnet.h"

#define COUNT 4000
#define WAIT_MS 10000

struct threads {
	struct net *t_net;
	struct port *t_far;
	atomic_bool t_stop;
	int t_hostbell, t_hostgot;
};

static void
host_wake(void *arg)
{
	const uint64_t one = 1;

	CHECK(write(((struct threads *)arg)->t_hostbell, &one, sizeof(one)) ==
	    (ssize_t)sizeof(one));
}

static void *
host_main(void *arg)
{
	struct threads *t = arg;
	struct net *net = t->t_net;
	struct pollfd pfd[2] = { { .fd = port_fd(net->n_host), .events = POLLIN },
		{ .fd = t->t_hostbell, .events = POLLIN } };
	struct pkt *v[PORT_BURST];
	uint64_t rings;
	int k;

	while (!atomic_load(&t->t_stop)) {
		while ((k = net->n_host->pt_input(net->n_host, v, PORT_BURST,
			    SEC)) > 0) {
			for (int i = 0; i < k; i++) {
				pkt_free(v[i]);
				t->t_hostgot++;
			}
		}
		if (port_poll_at(net->n_host) == 0) {
			continue;
		}
		CHECK(poll(pfd, 2, WAIT_MS) > 0);
		if (pfd[1].revents != 0) {
			CHECK(read(t->t_hostbell, &rings, sizeof(rings)) ==
			    (ssize_t)sizeof(rings));
		}
	}
	return NULL;
}

/* Next hops change all the time, and tools look. */
static void
far_pester(const struct net *net)
{
	struct sk_flow_info info[8];
	struct sk_fsw_info fi;

	sk_fsw_route_event(net->n_fsw);
	sk_fsw_info(net->n_fsw, &fi);
	CHECK(sk_netns_flows(net->n_ns, info, 8) <= 8);
}

/* The far end sends back what it gets, addresses and ports turned round. */
static void *
far_main(void *arg)
{
	struct threads *t = arg;
	struct pollfd pfd = { .fd = port_fd(t->t_far), .events = POLLIN };
	struct pkt *v[PORT_BURST];
	int k;

	while (!atomic_load(&t->t_stop)) {
		k = t->t_far->pt_input(t->t_far, v, PORT_BURST, SEC);
		for (int i = 0; i < k; i++) {
			uint8_t b[64], *d = v[i]->p_data;

			CHECK(v[i]->p_len >= 14 + 28);
			memcpy(b, d, 42);
			memcpy(d, b + 6, 6);
			memcpy(d + 6, b, 6);
			memcpy(d + 26, b + 30, 4);
			memcpy(d + 30, b + 26, 4);
			memcpy(d + 34, b + 36, 2);
			memcpy(d + 36, b + 34, 2);
			v[i]->p_flags = 0;
		}
		for (int done = 0; done < k;) {
			int n = t->t_far->pt_output(t->t_far, v + done,
			    k - done, SEC);

			CHECK(n >= 0);
			done += n;
		}
		far_pester(t->t_net);
		if (k == 0) {
			CHECK(poll(&pfd, 1, WAIT_MS) > 0);
		}
	}
	return NULL;
}

struct talker {
	struct threads *k_threads;
	int k_client;
	struct pkt_pool *k_pool;
};

static struct pkt *
talker_packet(struct talker *k, uint32_t number)
{
	struct seg s = { .s_proto = UDP,
		.s_src = 1,
		.s_dst = 2,
		.s_sport = (uint16_t)(700 + k->k_client),
		.s_dport = 9,
		.s_len = 4 };
	struct pkt *p = pkt_alloc(k->k_pool, 128, 64);

	CHECK(p != NULL);
	p->p_len = p->p_pktlen = net_bytes(&s, p->p_data);
	net_put32(p->p_data + 28, number);
	return p;
}

/* Sends numbers, and wants them back in order, at most 64 under way. */
static void *
client_main(void *arg)
{
	struct talker *k = arg;
	struct port *pt = k->k_threads->t_net->n_client[k->k_client];
	struct pollfd pfd = { .fd = port_fd(pt), .events = POLLIN };
	struct pkt *v[PORT_BURST];
	uint32_t sent = 0, got = 0;

	while (got < COUNT) {
		int n;

		while (sent < COUNT && sent - got < 64) {
			struct pkt *p = talker_packet(k, sent);

			n = pt->pt_output(pt, &p, 1, SEC);
			CHECK(n >= 0);
			if (n == 0) {
				pkt_free(p);
				break;
			}
			sent++;
		}
		n = pt->pt_input(pt, v, PORT_BURST, SEC);
		CHECK(n >= 0);
		for (int i = 0; i < n; i++) {
			CHECK_EQ(net_get32(v[i]->p_data + 28), got);
			got++;
			pkt_free(v[i]);
		}
		if (n == 0 && port_poll_at(pt) == PORT_NEVER) {
			CHECK(poll(&pfd, 1, WAIT_MS) > 0);
		}
	}
	return NULL;
}

static int
resolve(void *arg, const uint8_t dst[16], uint8_t mac[6])
{
	(void)arg;
	(void)dst;
	memset(mac, 2, 6);
	return 0;
}

/* net_open() with an end of a real pair for DEV. */
static void
open_over(struct net *net, struct port *dev)
{
	struct sk_netns_cfg nc = { .seed = { 1, 2 } };
	struct sk_fsw_cfg fc = { .host_pool = net->n_hostpool };
	uint8_t addr[16];

	net->n_ops = sk_netns_ops();
	CHECK_EQ(sk_netns_new(&nc, &net->n_ns), 0);
	CHECK_EQ(sk_fsw_open(net->n_ns, dev, &fc, &net->n_fsw, &net->n_host), 0);
	CHECK_EQ(sk_netns_owner(net->n_ns, SK_OWNER_HOST, 1, &net->n_hostowner),
	    0);
	net->n_resolver.fr_resolve = resolve;
	sk_fsw_set_resolver(net->n_fsw, &net->n_resolver);
	net_addr(addr, 4, 1);
	CHECK_EQ(sk_fsw_set_addrs(net->n_fsw, addr, 1), 0);
}

TEST(everything_arrives)
{
	struct net *net = calloc(1, sizeof(*net));
	struct threads t = { .t_net = net };
	struct talker k[2];
	struct pkt_pool *pool[2], *farpool = nic_pool_new(64 << 20);
	pthread_t host, far, client[2];
	struct port *dev;
	uint8_t farmac[6];

	net->n_pool = nic_pool_new(64 << 20);
	net->n_hostpool = nic_pool_new(64 << 20);
	net->n_clientpool = nic_pool_new(64 << 20);
	CHECK_EQ(nic_feth_open(net->n_pool, farpool, 0, 1500, 256, ~0u, 1, &dev,
		     &t.t_far),
	    0);
	memcpy(farmac, t.t_far->pt_mac, 6);
	open_over(net, dev);
	t.t_hostbell = eventfd(0, EFD_NONBLOCK);
	sk_fsw_set_wake(net->n_fsw, host_wake, &t);
	for (int i = 0; i < 2; i++) {
		pool[i] = nic_pool_new(64 << 20);
		k[i] = (struct talker){ &t, i, pool[i] };
		CHECK_EQ(sk_netns_owner(net->n_ns, SK_OWNER_CLIENT, i,
			     &net->n_owner[i]),
		    0);
		CHECK_EQ(sk_fsw_client(net->n_fsw, net->n_owner[i], pool[i], -1,
			     &net->n_client[i]),
		    0);
		CHECK_EQ(net_reserve(net, i,
			     net_key(4, UDP, 0, (uint16_t)(700 + i), 0, 0), 0),
		    0);
	}
	CHECK_EQ(pthread_create(&host, NULL, host_main, &t), 0);
	CHECK_EQ(pthread_create(&far, NULL, far_main, &t), 0);
	for (int i = 0; i < 2; i++) {
		CHECK_EQ(pthread_create(&client[i], NULL, client_main, &k[i]),
		    0);
	}
	for (int i = 0; i < 2; i++) {
		CHECK_EQ(pthread_join(client[i], NULL), 0);
	}
	atomic_store(&t.t_stop, true);
	host_wake(&t);
	CHECK_EQ(pthread_join(host, NULL), 0);
	net->n_devclosed = true;
	net_host_close(net); /* which wakes the far end */
	CHECK_EQ(pthread_join(far, NULL), 0);
	t.t_far->pt_ops->po_close(t.t_far);
	net_close(net);
	close(t.t_hostbell);
	for (int i = 0; i < 2; i++) {
		CHECK_EQ(pool_active(pool[i]), 0);
		nic_pool_free(pool[i]);
	}
	CHECK_EQ(pool_active(farpool), 0);
	nic_pool_free(farpool);
}

/* Clients come and go while packets are on their way to them. */
struct churn {
	struct net *c_net;
	atomic_bool c_stop;
	struct pkt_pool *c_pool;
};

static void *
churn_main(void *arg)
{
	struct churn *c = arg;
	struct net *net = c->c_net;
	struct talker k = { NULL, 1, c->c_pool };

	for (int i = 0; i < 300; i++) {
		struct netns_owner *no;
		struct flow_key key = net_key(4, UDP, 0, 701, 0, 0);
		struct pkt *p = talker_packet(&k, 0), *v[PORT_BURST];
		struct port *pt;
		int got;

		CHECK_EQ(sk_netns_owner(net->n_ns, SK_OWNER_CLIENT, 1, &no), 0);
		CHECK_EQ(sk_fsw_client(net->n_fsw, no, c->c_pool, -1, &pt), 0);
		CHECK_EQ(net->n_ops->no_reserve(no, &key, 0), 0);
		got = pt->pt_output(pt, &p, 1, SEC);
		CHECK_EQ(got, 1);
		got = pt->pt_input(pt, v, PORT_BURST, SEC);
		CHECK(got >= 0);
		for (int j = 0; j < got; j++) {
			pkt_free(v[j]);
		}
		if (i % 2 == 0) {
			pt->pt_ops->po_close(pt);
			sk_netns_owner_free(no);
		} else {
			sk_netns_owner_free(no);
			pt->pt_ops->po_close(pt);
		}
	}
	atomic_store(&c->c_stop, true);
	return NULL;
}

TEST(clients_come_and_go)
{
	struct sk_fsw_cfg cfg = { .flags = SK_FSW_LOOP };
	struct net *net = net_open(PORT_RAWIP, 0, &cfg, 0);
	struct churn c = { .c_net = net, .c_pool = nic_pool_new(64 << 20) };
	struct seg s = { .s_proto = UDP,
		.s_src = 2,
		.s_dst = 1,
		.s_sport = 9,
		.s_dport = 701,
		.s_len = 4 };
	pthread_t thread;

	CHECK_EQ(pthread_create(&thread, NULL, churn_main, &c), 0);
	while (!atomic_load(&c.c_stop)) {
		struct pkt *p = pkt_alloc(net->n_hostpool, 128, 64);

		p->p_len = p->p_pktlen = net_bytes(&s, p->p_data);
		if (net->n_host->pt_output(net->n_host, &p, 1, SEC) != 1) {
			pkt_free(p);
		}
		(void)net_poll(net, NULL);
	}
	CHECK_EQ(pthread_join(thread, NULL), 0);
	(void)net_poll(net, NULL);
	net_close(net);
	CHECK_EQ(pool_active(c.c_pool), 0);
	nic_pool_free(c.c_pool);
}

TESTS(RUN(everything_arrives), RUN(clients_come_and_go))
