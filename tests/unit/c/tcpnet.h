/*
 * tcpnet.h - two stacks over a pair of ports with faults between them, in
 * virtual time, for tests of TCP by its public calls.
 */
#ifndef TESTS_UNIT_C_TCPNET_H
#define TESTS_UNIT_C_TCPNET_H

#include <poll.h>

#include "bsdcore/api.h"
#include "bsdcore/netinet/tcp_var.h"
#include "bsdcore/sys/kernel.h"
#include "bsdcore/sys/sysctl.h"
#include "nic/api.h"
#include "nic/port.h"
#include "tests/unit/c/check.h"

#define TN_MS 1000000ull
#define TN_SEC 1000000000ull

struct tcpnet {
	struct stack *tn_s[2];
	struct pkt_pool *tn_pool[2];
	struct port *tn_fault[2]; /* freed with the stacks */
	uint64_t tn_now;
	uint64_t tn_packets; /* handed on by both faults, and a hash */
	uint64_t tn_steps;
};

static inline struct stack *
tn_stack(uint64_t seed, uint64_t start)
{
	struct bsd_config cfg = {
		.name = "test", .virtual_time = 1, .start_time = start
	};
	struct stack *s;

	for (int i = 0; i < 4; i++) {
		cfg.seed[i] = seed * 0x9e3779b97f4a7c15ull + (unsigned)i;
	}
	CHECK_EQ(bsd_stack_new(&cfg, &s), 0);
	return s;
}

static inline struct bsd_addr
tn_addr(int host, unsigned short port)
{
	struct bsd_addr a = { .family = AF_INET,
		.port = port,
		.addr = { 10, 0, 0, (unsigned char)host } };

	return a;
}

static inline struct bsd_addr
tn_loaddr(unsigned short port)
{
	struct bsd_addr a = {
		.family = AF_INET, .port = port, .addr = { 127, 0, 0, 1 }
	};

	return a;
}

/* Hosts 10.0.0.1 and 10.0.0.2. caps: PORT_* of the pair. */
static inline void
tn_init(struct tcpnet *tn, uint64_t seed, uint32_t caps, unsigned mtu,
    const struct nic_fault *fault)
{
	struct port *pt[2];

	memset(tn, 0, sizeof(*tn));
	tn->tn_now = 1000 * TN_SEC;
	tn->tn_pool[0] = nic_pool_new(64 << 20);
	tn->tn_pool[1] = nic_pool_new(64 << 20);
	CHECK_EQ(nic_feth_open(tn->tn_pool[0], tn->tn_pool[1], 0, mtu, 4096,
		     caps, 0, &pt[0], &pt[1]),
	    0);
	for (int i = 0; i < 2; i++) {
		struct bsd_addr a = tn_addr(i + 1, 0);
		int ifi;

		tn->tn_s[i] = tn_stack(seed * 2 + (unsigned)i, tn->tn_now);
		CHECK_EQ(nic_fault_wrap(pt[i], seed * 7 + (unsigned)i,
			     &tn->tn_fault[i]),
		    0);
		if (fault != NULL) {
			CHECK_EQ(nic_fault_set(tn->tn_fault[i], 0, fault), 0);
		}
		ifi = bsd_if_attach(tn->tn_s[i], tn->tn_fault[i], NULL);
		CHECK(ifi > 0);
		CHECK_EQ(bsd_if_addaddr(tn->tn_s[i], (unsigned)ifi, &a, 24), 0);
	}
}

static inline void
tn_free(struct tcpnet *tn)
{
	for (int i = 0; i < 2; i++) {
		bsd_stack_free(tn->tn_s[i]);
	}
	for (int i = 0; i < 2; i++) {
		nic_pool_free(tn->tn_pool[i]);
	}
}

/* Everything that is due now, on both sides. */
static inline void
tn_settle(struct tcpnet *tn)
{
	for (int n = 0; n < 100000; n++) {
		int more = bsd_run(tn->tn_s[0], tn->tn_now);

		more |= bsd_run(tn->tn_s[1], tn->tn_now);
		tn->tn_steps++;
		if (!more && bsd_poll_at(tn->tn_s[0]) > tn->tn_now &&
		    bsd_poll_at(tn->tn_s[1]) > tn->tn_now) {
			return;
		}
	}
	CHECK(!"the stacks never come to rest");
}

/* On to the next thing that happens; false: nothing does before `until`, and
 * it is that time now. */
static inline bool
tn_step(struct tcpnet *tn, uint64_t until)
{
	uint64_t at;

	tn_settle(tn);
	at = u64min(bsd_poll_at(tn->tn_s[0]), bsd_poll_at(tn->tn_s[1]));
	if (at > until) {
		tn->tn_now = until;
		tn_settle(tn);
		return false;
	}
	tn->tn_now = at;
	tn_settle(tn);
	return true;
}

static inline void
tn_sleep(struct tcpnet *tn, uint64_t ns)
{
	uint64_t end = tn->tn_now + ns;

	while (tn_step(tn, end)) {
		continue;
	}
}

static inline uint64_t
tn_stat(struct stack *s, const char *name)
{
	const char *n;
	uint64_t v;

	for (int i = 0; bsd_stat(s, i, &n, &v) == 0; i++) {
		if (strcmp(n, name) == 0) {
			return v;
		}
	}
	CHECK(!"no such counter");
	return 0;
}

static inline struct socket *
tn_listen(struct stack *s, unsigned short port, int backlog)
{
	struct bsd_addr a = { .family = AF_INET, .port = port };
	struct socket *so;

	CHECK_EQ(bsd_socket(s, AF_INET, SOCK_STREAM, 0, &so), 0);
	CHECK_EQ(bsd_bind(so, &a), 0);
	CHECK_EQ(bsd_listen(so, backlog), 0);
	return so;
}

static inline struct socket *
tn_connect(struct stack *s, const struct bsd_addr *to)
{
	struct socket *so;

	CHECK_EQ(bsd_socket(s, AF_INET, SOCK_STREAM, 0, &so), 0);
	CHECK_EQ(bsd_connect(so, to, 0), -EINPROGRESS);
	return so;
}

/* A connection from host 1 to a listener of host 2. */
static inline void
tn_pair(struct tcpnet *tn, struct socket **client, struct socket **server)
{
	struct bsd_addr to = tn_addr(2, 80);
	struct socket *ls = tn_listen(tn->tn_s[1], 80, 5);
	uint64_t end = tn->tn_now + 100 * TN_SEC;

	*client = tn_connect(tn->tn_s[0], &to);
	while (!(bsd_poll(ls) & POLLIN) && tn_step(tn, end)) {
		continue;
	}
	CHECK_EQ(bsd_accept(ls, 0, server, NULL), 0);
	tn_settle(tn);
	CHECK_EQ(bsd_close(ls), 0);
}

static inline struct tcpcb *
tn_tcpcb(struct socket *so)
{
	return sototcpcb(so);
}

#endif
