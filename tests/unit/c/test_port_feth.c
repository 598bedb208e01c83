/* The pair in memory and the loopback: order, bounds, doorbell, close. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>

#include "nic/api.h"
#include "nic/port_impl.h"
#include "tests/unit/c/check.h"

static void
nothing_active(struct pkt_pool *pool)
{
	struct nic_pool_stats s;

	nic_pool_stats(pool, &s);
	CHECK_EQ(s.active, 0);
}

static struct pkt *
numbered(struct pkt_pool *pool, uint32_t i)
{
	struct pkt *p = pkt_alloc(pool, 64, 0);

	CHECK(p != NULL);
	memcpy(p->p_data, &i, 4);
	p->p_len = p->p_pktlen = 60;
	return p;
}

static uint32_t
number(const struct pkt *p)
{
	uint32_t i;

	memcpy(&i, p->p_data, 4);
	return i;
}

static short
polled(struct port *pt)
{
	struct pollfd pfd = { .fd = port_fd(pt), .events = POLLIN | POLLOUT };

	CHECK(poll(&pfd, 1, 0) >= 0);
	return pfd.revents;
}

TEST(frames_cross_both_ways)
{
	struct pkt_pool *pool = nic_pool_new(1 << 20);
	struct port *a, *b;
	struct nic_info info;
	struct nic_stats st;
	char buf[100];

	CHECK_EQ(nic_feth_open(pool, pool, 0, 1500, 8, ~0u, 0, &a, &b), 0);
	CHECK_EQ(nic_send(a, "hello", 5, 1), 0);
	CHECK_EQ(nic_send(b, "world!", 6, 1), 0);
	CHECK_EQ(nic_poll_at(b), 0);
	CHECK_EQ(nic_recv(b, buf, sizeof(buf), 2), 5);
	CHECK_MEM(buf, "hello", 5);
	CHECK_EQ(nic_recv(b, buf, sizeof(buf), 2), 0);
	CHECK_EQ((int64_t)nic_poll_at(b), -1);
	CHECK_EQ(nic_recv(a, buf, 3, 2), -EMSGSIZE);
	CHECK_EQ(nic_recv(a, buf, 3, 2), 0);
	nic_info(a, &info);
	CHECK_STR(info.kind, "feth");
	CHECK_EQ(info.fd, -1);
	CHECK_EQ(info.mac[0] & 3, 2);
	CHECK(info.mac[5] != b->pt_mac[5]);
	CHECK_EQ(info.mtu, 1500);
	nic_stats(a, &st);
	CHECK_EQ(st.txpkts, 1);
	CHECK_EQ(st.txbytes, 5);
	CHECK_EQ(st.rxpkts, 1);
	CHECK_EQ(st.rxbytes, 6);
	nic_close(a);
	nic_close(b);
	nothing_active(pool);
	nic_pool_free(pool);
}

TEST(full_ring_takes_what_fits)
{
	struct pkt_pool *pool = nic_pool_new(1 << 20);
	struct port *a, *b;
	struct pkt *v[12], *got[16];

	CHECK_EQ(nic_feth_open(pool, pool, 1, 1500, 10, ~0u, 0, &a, &b), 0);
	for (uint32_t i = 0; i < 12; i++) {
		v[i] = numbered(pool, i);
	}
	CHECK_EQ(a->pt_output(a, v, 12, 0), 10);
	CHECK_EQ(a->pt_output(a, v + 10, 2, 0), 0);
	CHECK_EQ(b->pt_input(b, got, 4, 7), 4);
	CHECK_EQ(a->pt_output(a, v + 10, 2, 0), 2);
	CHECK_EQ(b->pt_input(b, got + 4, 12, 7), 8);
	for (uint32_t i = 0; i < 12; i++) {
		CHECK_EQ(number(got[i]), i);
		CHECK_EQ(got[i]->p_time, 7);
		CHECK(got[i] == v[i]); /* the packet itself, not a copy */
		pkt_free(got[i]);
	}
	nic_close(a);
	nic_close(b);
	nothing_active(pool);
	nic_pool_free(pool);
}

TEST(checksum_left_open_is_valid_in_memory)
{
	struct pkt_pool *pool = nic_pool_new(1 << 20);
	struct port *a, *b;
	struct pkt *p = numbered(pool, 1), *got;

	CHECK_EQ(nic_feth_open(pool, pool, 1, 1500, 10, ~0u, 0, &a, &b), 0);
	p->p_flags = PKT_CSUM_PARTIAL | PKT_TX;
	p->p_csum_start = 20;
	p->p_csum_offset = 6;
	CHECK_EQ(a->pt_output(a, &p, 1, 0), 1);
	CHECK_EQ(b->pt_input(b, &got, 1, 0), 1);
	CHECK_EQ(got->p_flags, PKT_CSUM_PARTIAL | PKT_CSUM_VALID);
	pkt_free(got);
	nic_close(b);
	nic_close(a);
	nic_pool_free(pool);
}

TEST(no_offloads_when_masked)
{
	struct pkt_pool *pool = nic_pool_new(1 << 20);
	struct port *a, *b;

	CHECK_EQ(nic_feth_open(pool, pool, 0, 1500, 10, 0, 0, &a, &b), 0);
	CHECK_EQ(a->pt_caps, PORT_BROADCAST);
	nic_close(a);
	nic_close(b);
	CHECK_EQ(nic_feth_open(pool, pool, 1, 1500, 10, ~(uint32_t)PORT_RXCSUM,
		     0, &a, &b),
	    0);
	CHECK_EQ(a->pt_caps, PORT_SG);
	nic_close(a);
	nic_close(b);
	nic_pool_free(pool);
}

TEST(either_end_may_close_first)
{
	struct pkt_pool *pa = nic_pool_new(1 << 20), *pb = nic_pool_new(1 << 20);
	struct port *end[2];
	int up = -1;

	for (int first = 0; first < 2; first++) {
		struct port *x, *y;
		char buf[64];

		CHECK_EQ(nic_feth_open(pa, pb, 0, 1500, 10, ~0u, 1, &end[0],
			     &end[1]),
		    0);
		x = end[first];
		y = end[1 - first];
		CHECK_EQ(x->pt_ops->po_ctl(x, PORT_CTL_LINK, &up), 0);
		CHECK_EQ(up, 1);
		CHECK_EQ(nic_send(x, "to y", 4, 0), 0);
		CHECK_EQ(nic_send(y, "to x", 4, 0), 0);
		nic_close(x);
		CHECK_EQ(y->pt_ops->po_ctl(y, PORT_CTL_LINK, &up), 0);
		CHECK_EQ(up, 0);
		CHECK_EQ(polled(y) & (POLLIN | POLLHUP | POLLERR), POLLIN);
		CHECK_EQ(nic_send(y, "lost", 4, 0), 0);
		CHECK_EQ(stat_read(&y->pt_stats.ps_txdrops), 1);
		CHECK_EQ(stat_read(&y->pt_stats.ps_txpkts), 1);
		CHECK_EQ(nic_recv(y, buf, sizeof(buf), 0), 4);
		CHECK_EQ(nic_recv(y, buf, sizeof(buf), 0), 0);
		CHECK_EQ(polled(y) & (POLLIN | POLLHUP | POLLERR), 0);
		nic_close(y);
	}
	nothing_active(pa);
	nothing_active(pb);
	nic_pool_free(pa);
	nic_pool_free(pb);
}

/* Readable exactly when something is there; rung once per sleep. */
TEST(doorbell)
{
	struct pkt_pool *pool = nic_pool_new(1 << 20);
	struct port *a, *b;
	char buf[64];

	CHECK_EQ(nic_feth_open(pool, pool, 0, 1500, 10, ~0u, 1, &a, &b), 0);
	CHECK_EQ(polled(a), POLLOUT);
	CHECK_EQ(polled(b), POLLOUT);
	CHECK_EQ(nic_send(a, "1", 1, 0), 0);
	CHECK_EQ(polled(b), POLLIN | POLLOUT);
	CHECK_EQ(polled(a), POLLOUT);
	CHECK_EQ(nic_recv(b, buf, 64, 0), 1);
	CHECK_EQ(nic_send(a, "2", 1, 0), 0);
	CHECK_EQ(polled(b) & POLLIN, POLLIN);
	CHECK_EQ(nic_recv(b, buf, 64, 0), 1);
	CHECK_EQ(nic_recv(b, buf, 64, 0), 0);
	CHECK_EQ(polled(b), POLLOUT);
	CHECK_EQ(nic_recv(b, buf, 64, 0), 0);
	CHECK_EQ(nic_send(a, "3", 1, 0), 0);
	CHECK_EQ(polled(b), POLLIN | POLLOUT);
	nic_close(a);
	nic_close(b);
	nic_pool_free(pool);
}

#define CROSSING 10000

struct crosser {
	struct port *port;
	struct pkt_pool *pool;
	uint32_t sent, received;
};

/* Send and receive CROSSING packets, sleeping whenever nothing goes. */
static void *
cross(void *arg)
{
	struct crosser *c = arg;
	struct pkt *next = NULL, *v[16];

	while (c->sent < CROSSING || c->received < CROSSING) {
		struct pollfd pfd = { .fd = port_fd(c->port), .events = POLLIN };
		int k;

		while (c->sent < CROSSING) {
			next = next != NULL ? next : numbered(c->pool, c->sent);
			if (c->port->pt_output(c->port, &next, 1, 0) == 0) {
				pfd.events |= POLLOUT;
				break;
			}
			next = NULL;
			c->sent++;
		}
		while ((k = c->port->pt_input(c->port, v, 16, 0)) > 0) {
			for (int i = 0; i < k; i++) {
				CHECK_EQ(number(v[i]), c->received++);
				pkt_free(v[i]);
			}
		}
		if (c->received < CROSSING || c->sent < CROSSING) {
			CHECK(poll(&pfd, 1, 20000) == 1);
		}
	}
	return NULL;
}

TEST(two_threads)
{
	struct crosser c[2] = { 0 };
	pthread_t thread;

	for (int i = 0; i < 2; i++) {
		c[i].pool = nic_pool_new(8 << 20);
	}
	CHECK_EQ(nic_feth_open(c[0].pool, c[1].pool, 0, 1500, 64, ~0u, 1,
		     &c[0].port, &c[1].port),
	    0);
	CHECK_EQ(pthread_create(&thread, NULL, cross, &c[0]), 0);
	cross(&c[1]);
	pthread_join(thread, NULL);
	for (int i = 0; i < 2; i++) {
		nic_close(c[i].port);
		nothing_active(c[i].pool);
		nic_pool_free(c[i].pool);
	}
}

TEST(bad_arguments)
{
	struct pkt_pool *pool = nic_pool_new(1 << 20);
	struct port *a, *b;

	CHECK_EQ(nic_feth_open(pool, pool, 0, 67, 10, 0, 0, &a, &b), -EINVAL);
	CHECK_EQ(nic_feth_open(pool, pool, 0, 65536, 10, 0, 0, &a, &b), -EINVAL);
	CHECK_EQ(nic_feth_open(pool, pool, 0, 1500, 0, 0, 0, &a, &b), -EINVAL);
	CHECK_EQ(nic_feth_open(pool, pool, 2, 1500, 10, 0, 0, &a, &b), -EINVAL);
	CHECK_EQ(nic_feth_open(pool, pool, 0, 1500, 10, 0, 0, &a, &b), 0);
	CHECK_EQ(nic_set_mtu(a, 9000), 0);
	CHECK_EQ(a->pt_mtu, 9000);
	CHECK_EQ(nic_set_mtu(a, 1), -EINVAL);
	CHECK_EQ(nic_set_mac(a, (const unsigned char *)"\1\0\0\0\0\1"),
	    -EADDRNOTAVAIL);
	CHECK_EQ(nic_set_mac(a, (const unsigned char *)"\2\0\0\0\0\1"), 0);
	CHECK_EQ(a->pt_mac[5], 1);
	CHECK_EQ(nic_set_promisc(a, 1), 0);
	CHECK_EQ(nic_send(a, "", 0, 0), -EMSGSIZE);
	nic_close(a);
	nic_close(b);
	nic_pool_free(pool);
}

TEST(loopback)
{
	struct pkt_pool *pool = nic_pool_new(16 << 20);
	struct port *lo;
	char buf[64];
	int n = 0;

	CHECK_EQ(nic_lo_open(pool, 65535, &lo), 0);
	CHECK_EQ(lo->pt_link, PORT_RAWIP);
	CHECK_EQ((int64_t)nic_poll_at(lo), -1);
	CHECK_EQ(nic_send(lo, "round", 5, 0), 0);
	CHECK_EQ(nic_poll_at(lo), 0);
	CHECK_EQ(nic_recv(lo, buf, 64, 9), 5);
	while (nic_send(lo, "fill", 4, 0) == 0) {
		n++;
	}
	CHECK_EQ(n, 1024);
	nic_close(lo);
	nothing_active(pool);
	nic_pool_free(pool);
}

TESTS(RUN(frames_cross_both_ways), RUN(full_ring_takes_what_fits),
    RUN(checksum_left_open_is_valid_in_memory), RUN(no_offloads_when_masked),
    RUN(either_end_may_close_first), RUN(doorbell), RUN(two_threads),
    RUN(bad_arguments), RUN(loopback))
