/* Stacks that loops turn, memory that is lent, datagrams in batches: two hosts
 * over a pair of ports, in virtual time, and releases from another thread. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <sys/socket.h>

#include "tests/unit/c/tcpnet.h"

#define NSLOTS 8
#define NDONE 4
#define NSUBS 4
#define NBUF 4096

struct side {
	struct evloop *sd_loop;
	struct bsd_evloopmem sd_mem;
	struct socket *sd_so;
	int sd_slot;
};

static void
side_open(struct side *sd, struct stack *s, struct socket *so)
{
	CHECK_EQ(bsd_evloop_new(s, NSLOTS, NDONE, NSUBS, NBUF, &sd->sd_loop), 0);
	bsd_evloop_mem(sd->sd_loop, &sd->sd_mem);
	sd->sd_so = so;
	sd->sd_slot = bsd_evloop_add(sd->sd_loop, so);
	CHECK(sd->sd_slot >= 0);
}

/* A connected pair over the wire, a loop on each host. */
static void
sides_open(struct tcpnet *tn, struct side sd[2], uint32_t caps)
{
	struct socket *a, *b;
	int on = 1;

	tn_init(tn, 1, caps, 1500, NULL);
	tn_pair(tn, &a, &b);
	CHECK_EQ(bsd_setsockopt(a, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)),
	    0);
	tn_sleep(tn, TN_SEC);
	side_open(&sd[0], tn->tn_s[0], a);
	side_open(&sd[1], tn->tn_s[1], b);
}

static void
sides_close(struct tcpnet *tn, struct side sd[2])
{
	for (int i = 0; i < 2; i++) {
		CHECK_EQ(bsd_evloop_del(sd[i].sd_loop, (unsigned)sd[i].sd_slot),
		    0);
		CHECK_EQ(bsd_abort(sd[i].sd_so), 0);
		bsd_evloop_free(sd[i].sd_loop);
	}
	tn_free(tn);
}

static int
turn(struct tcpnet *tn, struct side *sd)
{
	tn->tn_now += 1000;
	return bsd_turn(sd->sd_loop, tn->tn_now, "", 0, 0);
}

static int
submit(struct tcpnet *tn, struct side *sd, const void *p, uint32_t n)
{
	sd->sd_mem.subs[0] = (uint64_t)sd->sd_slot | (uint64_t)n << 32;
	tn->tn_now += 1000;
	return bsd_turn(sd->sd_loop, tn->tn_now, p, n, 1);
}

/* One message there and one back; the ports are polled by the turns. */
TEST(request_response)
{
	struct tcpnet tn;
	struct side sd[2];

	sides_open(&tn, sd, 0);
	sd[0].sd_mem.slots[sd[0].sd_slot].wish = 100;
	sd[1].sd_mem.slots[sd[1].sd_slot].wish = 100;
	CHECK_EQ(submit(&tn, &sd[0], "ping", 4), 0);
	CHECK_EQ(sd[0].sd_mem.state[BSD_STATE_TAKEN], 1);
	CHECK_EQ(turn(&tn, &sd[1]), 1);
	CHECK_EQ(sd[1].sd_mem.done[0].slot, sd[1].sd_slot);
	CHECK_EQ(sd[1].sd_mem.done[0].events, POLLIN);
	CHECK_EQ(sd[1].sd_mem.done[0].len, 4);
	CHECK_EQ(sd[1].sd_mem.done[0].left, 0);
	CHECK_MEM(sd[1].sd_mem.buf + sd[1].sd_mem.done[0].off, "ping", 4);
	CHECK_EQ(submit(&tn, &sd[1], "pong!", 5), 0);
	CHECK_EQ(turn(&tn, &sd[0]), 1);
	CHECK_EQ(sd[0].sd_mem.done[0].len, 5);
	CHECK(sd[0].sd_mem.state[BSD_STATE_POLL_AT] > tn.tn_now);
	CHECK_EQ(sd[0].sd_mem.state[BSD_STATE_NOW], tn.tn_now);
	sides_close(&tn, sd);
}

/* The tag in force is that of the moment of submission, not of the turn. */
TEST(tags_keep_their_place)
{
	struct bsd_ledger v[8];
	struct tcpnet tn;
	struct side sd[2];
	uint64_t *subs, slot;
	int n;

	sides_open(&tn, sd, 0);
	subs = sd[0].sd_mem.subs;
	slot = (uint64_t)sd[0].sd_slot;
	subs[0] = slot | BSD_SUB_TAG | BSD_SVC_VO << 24 | 7ull << 32;
	subs[1] = slot | 3ull << 32;
	subs[2] = slot | BSD_SUB_TAG | 127 << 24 | 9ull << 32;
	subs[3] = slot | 5ull << 32;
	CHECK_EQ(bsd_turn(sd[0].sd_loop, tn.tn_now, "abcdefgh", 8, 4), 0);
	CHECK_EQ(sd[0].sd_mem.state[BSD_STATE_TAKEN], 4);
	n = bsd_ledger_list(tn.tn_s[0], v, 8);
	CHECK(n <= 8);
	for (int i = 0; i < n; i++) {
		if (v[i].origin == 7) {
			CHECK_EQ(v[i].txpkts[BSD_SVC_VO], 1);
		} else if (v[i].origin == 9) {
			CHECK_EQ(v[i].txpkts[BSD_SVC_BE], 1);
		}
	}
	CHECK(n >= 4);
	subs[0] = 20 | BSD_SUB_TAG; /* no such slot, no such class */
	subs[1] = slot | BSD_SUB_TAG | 99 << 24;
	CHECK(bsd_turn(sd[0].sd_loop, tn.tn_now, "", 0, 2) >= 0);
	CHECK_EQ(sd[0].sd_mem.state[BSD_STATE_TAKEN], 2);
	sides_close(&tn, sd);
}

TEST(bad_submissions)
{
	struct tcpnet tn;
	struct side sd[2];
	struct evloop *el;
	uint64_t *subs;

	sides_open(&tn, sd, 0);
	subs = sd[0].sd_mem.subs;
	CHECK_EQ(bsd_turn(sd[0].sd_loop, tn.tn_now, "", 0, NSUBS + 1), -EINVAL);
	subs[0] = UINT32_MAX;				/* no such slot */
	subs[1] = (uint64_t)sd[0].sd_slot | 9ull << 32; /* more than is there */
	CHECK(bsd_turn(sd[0].sd_loop, tn.tn_now, "abcdefgh", 8, 2) >= 0);
	CHECK_EQ(sd[0].sd_mem.state[BSD_STATE_TAKEN], 1);
	CHECK_EQ(bsd_evloop_del(sd[0].sd_loop, NSLOTS), -EINVAL);
	CHECK_EQ(bsd_evloop_add(sd[0].sd_loop, sd[0].sd_so), -EEXIST);
	CHECK_EQ(bsd_evloop_add(sd[0].sd_loop, sd[1].sd_so), -EBADF);
	CHECK_EQ(bsd_evloop_new(tn.tn_s[0], 0, 1, 1, 1, &el), -EINVAL);
	sides_close(&tn, sd);
}

TEST(slots_run_out)
{
	struct tcpnet tn;
	struct side sd[2];
	struct socket *so[NSLOTS];

	sides_open(&tn, sd, 0);
	for (int i = 0; i < NSLOTS; i++) {
		CHECK_EQ(bsd_socket(tn.tn_s[0], AF_INET, SOCK_DGRAM, 0, &so[i]),
		    0);
		CHECK_EQ(bsd_evloop_add(sd[0].sd_loop, so[i]),
		    i < NSLOTS - 1 ? i + 1 : -EMFILE);
	}
	CHECK_EQ(bsd_evloop_del(sd[0].sd_loop, 3), 0);
	CHECK_EQ(bsd_evloop_del(sd[0].sd_loop, 3), -EINVAL);
	CHECK_EQ(bsd_evloop_add(sd[0].sd_loop, so[NSLOTS - 1]), -EMFILE);
	CHECK(turn(&tn, &sd[0]) >= 0);
	CHECK_EQ(bsd_evloop_add(sd[0].sd_loop, so[NSLOTS - 1]), 3);
	for (int i = 0; i < NSLOTS; i++) {
		bsd_close(so[i]);
	}
	CHECK(turn(&tn, &sd[0]) >= 0);
	sides_close(&tn, sd);
}

/* Without memory a submission waits; nothing is lost and nothing is sent twice. */
TEST(short_of_memory)
{
	struct bsd_config cfg = { .name = "small",
		.virtual_time = 1,
		.start_time = TN_SEC,
		.mem_limit = 1 << 20 };
	struct bsd_addr at = tn_loaddr(80), peer;
	struct socket *a, *b, *l;
	struct bsd_lent hog[64], got;
	struct bsd_slot *sl;
	struct side sd;
	struct stack *s;
	static unsigned char data[30000];
	int n = 0;

	CHECK_EQ(bsd_stack_new(&cfg, &s), 0);
	l = tn_listen(s, 80, 1);
	a = tn_connect(s, &at);
	CHECK_EQ(bsd_accept(l, 0, &b, &peer), 0);
	side_open(&sd, s, a);
	sl = &sd.sd_mem.slots[sd.sd_slot];
	CHECK(sl->room > sizeof(data));
	while (n < 64 && bsd_reserve(a, 65536, &hog[n]) == 0) {
		n++;
	}
	CHECK(n > 4 && n < 64);
	sd.sd_mem.subs[0] = (uint64_t)sd.sd_slot | (uint64_t)sizeof(data) << 32;
	CHECK_EQ(bsd_turn(sd.sd_loop, TN_SEC, data, sizeof(data), 1), 0);
	CHECK_EQ(sd.sd_mem.state[BSD_STATE_TAKEN], 0);
	while (n > 0) {
		bsd_lend_release(hog[--n].lend, NULL);
	}
	(void)bsd_run(s, TN_SEC); /* they come home */
	sd.sd_mem.subs[0] = (uint64_t)sd.sd_slot | (uint64_t)sizeof(data) << 32;
	CHECK(bsd_turn(sd.sd_loop, TN_SEC, data, sizeof(data), 1) >= 0);
	CHECK_EQ(sd.sd_mem.state[BSD_STATE_TAKEN], 1);
	CHECK_EQ(bsd_recv_lend(b, 1 << 20, 64, &got), sizeof(data));
	for (unsigned i = 0; i < got.count; i++) {
		bsd_lend_release(got.lend, NULL);
	}
	bsd_close(a);
	bsd_close(b);
	bsd_close(l);
	bsd_evloop_free(sd.sd_loop);
	bsd_stack_free(s);
}

/* A stream that comes in segments is lent in segments, each its own. */
TEST(lend_segments)
{
	static unsigned char data[20000], seen[sizeof(data)];
	struct bsd_iovec v[64];
	struct bsd_memstat m;
	struct tcpnet tn;
	struct side sd[2];
	struct bsd_lent lent;
	size_t at = 0;
	long n;

	for (size_t i = 0; i < sizeof(data); i++) {
		data[i] = (unsigned char)(i * 7 >> 3);
	}
	sides_open(&tn, sd, 0);
	CHECK_EQ(bsd_recv_lend(sd[1].sd_so, 10, 1, &lent), -EAGAIN);
	CHECK_EQ(bsd_recv_lend(sd[1].sd_so, 0, 1, &lent), -EINVAL);
	CHECK_EQ(bsd_send(sd[0].sd_so, data, sizeof(data), 0, NULL, 0),
	    sizeof(data));
	while (at < sizeof(data)) {
		int k;

		tn_sleep(&tn, TN_MS);
		while ((n = bsd_recv_lend(sd[1].sd_so, 5000, 3, &lent)) > 0) {
			CHECK(n <= 5000);
			CHECK(lent.count <= 3);
			k = bsd_lend_iov(lent.lend, v, 64);
			CHECK_EQ(k, lent.count);
			CHECK(v[0].base == lent.base && v[0].len == lent.len);
			for (int i = 0; i < k; i++) {
				memcpy(seen + at, v[i].base, v[i].len);
				at += v[i].len;
				bsd_lend_release(lent.lend, v[i].base);
			}
		}
		CHECK_EQ(n, -EAGAIN);
	}
	CHECK_EQ(at, sizeof(data));
	CHECK_MEM(seen, data, sizeof(data));
	bsd_memstat(tn.tn_s[1], &m);
	CHECK_EQ(m.lent, 0);
	CHECK_EQ(bsd_shutdown(sd[0].sd_so, SHUT_WR), 0);
	tn_sleep(&tn, TN_MS);
	CHECK_EQ(bsd_recv_lend(sd[1].sd_so, 5000, 3, &lent), 0);
	sides_close(&tn, sd);
}

/* A read that ends inside a segment, and the urgent mark, cut what is lent. */
TEST(lend_cut)
{
	struct tcpnet tn;
	struct side sd[2];
	struct bsd_lent a, b, c;

	sides_open(&tn, sd, 0);
	CHECK_EQ(bsd_send(sd[0].sd_so, "abcdefgh", 8, 0, NULL, 0), 8);
	CHECK_EQ(bsd_send(sd[0].sd_so, "!", 1, MSG_OOB, NULL, 0), 1);
	CHECK_EQ(bsd_send(sd[0].sd_so, "ij", 2, 0, NULL, 0), 2);
	tn_sleep(&tn, 500 * TN_MS);
	CHECK_EQ(bsd_recv_lend(sd[1].sd_so, 3, 1, &a), 3);
	CHECK_EQ(bsd_recv_lend(sd[1].sd_so, 100, 9, &b), 5);
	CHECK_EQ(bsd_recv_lend(sd[1].sd_so, 100, 9, &c), 2);
	CHECK_MEM(a.base, "abc", 3);
	CHECK_MEM(b.base, "defgh", 5);
	CHECK_MEM(c.base, "ij", 2);
	bsd_lend_release(b.lend, NULL);
	CHECK_MEM(a.base, "abc", 3);
	bsd_lend_release(a.lend, NULL);
	bsd_lend_release(c.lend, NULL);
	sides_close(&tn, sd);
}

static void *
release_all(void *arg)
{
	struct bsd_lent *v = arg;

	for (int i = 0; i < 100; i++) {
		CHECK_EQ(v[i].base[0], i);
		bsd_lend_hold(v[i].lend, 1);
		bsd_lend_release(v[i].lend, NULL);
		bsd_lend_release(v[i].lend, NULL);
	}
	return NULL;
}

/* The stack, its loops and its ports go first; the memory stays. */
TEST(lent_memory_outlives_all)
{
	struct bsd_lent v[100];
	struct tcpnet tn;
	struct side sd[2];
	pthread_t thread;

	sides_open(&tn, sd, 0);
	for (int i = 0; i < 100; i++) {
		unsigned char data[300];

		memset(data, i, sizeof(data));
		CHECK(submit(&tn, &sd[0], data, sizeof(data)) >= 0);
		CHECK_EQ(turn(&tn, &sd[1]), 1);
		CHECK_EQ(bsd_recv_lend(sd[1].sd_so, 1000, 1, &v[i]), 300);
	}
	sides_close(&tn, sd);
	CHECK_EQ(pthread_create(&thread, NULL, release_all, v), 0);
	CHECK_EQ(pthread_join(thread, NULL), 0);
}

#define HANDED 2000

struct handing {
	struct bsd_lent hd_lent[HANDED];
	_Atomic int hd_n; /* so many are the other thread's */
};

static void *
release_handed(void *arg)
{
	struct handing *hd = arg;

	for (int i = 0; i < HANDED; i++) {
		while (atomic_load_explicit(&hd->hd_n, memory_order_acquire) <=
		    i) {
			sched_yield();
		}
		CHECK_EQ(hd->hd_lent[i].base[299], i & 0xff);
		bsd_lend_release(hd->hd_lent[i].lend, NULL);
	}
	return NULL;
}

/* The loop goes on while another thread gives memory back. */
TEST(released_by_another_thread)
{
	static struct handing hd;
	struct bsd_memstat m;
	struct tcpnet tn;
	struct side sd[2];
	pthread_t thread;

	sides_open(&tn, sd, 0);
	CHECK_EQ(pthread_create(&thread, NULL, release_handed, &hd), 0);
	for (int i = 0; i < HANDED; i++) {
		unsigned char data[300];

		memset(data, i, sizeof(data));
		CHECK(submit(&tn, &sd[0], data, sizeof(data)) >= 0);
		CHECK_EQ(turn(&tn, &sd[1]), 1);
		CHECK_EQ(bsd_recv_lend(sd[1].sd_so, 1000, 1, &hd.hd_lent[i]),
		    300);
		atomic_store_explicit(&hd.hd_n, i + 1, memory_order_release);
	}
	CHECK_EQ(pthread_join(thread, NULL), 0);
	(void)turn(&tn, &sd[1]);
	bsd_memstat(tn.tn_s[1], &m);
	CHECK_EQ(m.lent, 0);
	sides_close(&tn, sd);
}

/* Sent by reference, over the wire: retransmitted from the same memory. */
TEST(send_by_reference)
{
	struct nic_fault lossy = { .loss = 0.2 };
	struct bsd_lent lent, got;
	struct tcpnet tn;
	struct side sd[2];
	size_t at = 0;
	long n;

	sides_open(&tn, sd, 0);
	CHECK_EQ(nic_fault_set(tn.tn_fault[0], 0, &lossy), 0);
	CHECK_EQ(bsd_reserve(sd[0].sd_so, 65537, &lent), -EINVAL);
	CHECK_EQ(bsd_reserve(sd[0].sd_so, 0, &lent), -EINVAL);
	CHECK_EQ(bsd_reserve(sd[0].sd_so, 50000, &lent), 0);
	for (size_t i = 0; i < lent.len; i++) {
		lent.base[i] = (unsigned char)(i * 11 >> 4);
	}
	CHECK_EQ(bsd_send_lend(sd[0].sd_so, lent.lend, 50000, 1, 0, NULL),
	    -EINVAL);
	CHECK_EQ(bsd_send_lend(sd[0].sd_so, lent.lend, 100, 40000, 0, NULL),
	    40000);
	CHECK_EQ(bsd_send_lend(sd[1].sd_so, lent.lend, 0, 1, 0, NULL), -EXDEV);
	while (at < 40000) {
		CHECK(tn_step(&tn, tn.tn_now + 100 * TN_SEC) || at > 0);
		while ((n = bsd_recv_lend(sd[1].sd_so, 70000, 1, &got)) > 0) {
			CHECK_MEM(got.base, lent.base + 100 + at, (size_t)n);
			at += (size_t)n;
			bsd_lend_release(got.lend, NULL);
		}
	}
	CHECK_EQ(at, 40000);
	CHECK_EQ(tn_stat(tn.tn_s[0], "kern.ipc.byref"), 40000);
	CHECK_EQ(tn_stat(tn.tn_s[0], "kern.ipc.copyin"), 0);
	CHECK_EQ(tn_stat(tn.tn_s[1], "kern.ipc.copyout"), 0);
	CHECK(tn_stat(tn.tn_s[0], "tcp.sndrexmitpack") > 0);
	bsd_lend_release(lent.lend, NULL);
	sides_close(&tn, sd);
}

/* What does not fit the send buffer is refused whole, or taken whole. */
TEST(send_by_reference_blocks)
{
	struct bsd_lent lent;
	struct tcpnet tn;
	struct side sd[2];
	int n = 0;

	sides_open(&tn, sd, 0);
	CHECK_EQ(bsd_reserve(sd[0].sd_so, 65536, &lent), 0);
	memset(lent.base, 0, lent.len);
	while (bsd_send_lend(sd[0].sd_so, lent.lend, 0, 65536, 0, NULL) > 0) {
		CHECK(++n < 10000);
	}
	CHECK(n > 0);
	CHECK_EQ(bsd_send_lend(sd[0].sd_so, lent.lend, 0, 1, 0, NULL), -EAGAIN);
	bsd_lend_release(lent.lend, NULL);
	sides_close(&tn, sd);
}

struct udp {
	struct tcpnet u_net;
	struct socket *u_so[2];
	struct bsd_dgrams u_run[8];
	struct bsd_lent u_lent;
};

static void
udp_open(struct udp *u, uint32_t caps)
{
	struct bsd_addr at = tn_addr(2, 9);

	tn_init(&u->u_net, 3, caps, 1500, NULL);
	for (int i = 0; i < 2; i++) {
		CHECK_EQ(bsd_socket(u->u_net.tn_s[i], AF_INET, SOCK_DGRAM, 0,
			     &u->u_so[i]),
		    0);
	}
	CHECK_EQ(bsd_bind(u->u_so[1], &at), 0);
	CHECK_EQ(bsd_connect(u->u_so[0], &at, 0), 0);
	CHECK_EQ(bsd_recv_batch(u->u_so[1], u->u_run, 8, &u->u_lent), -EAGAIN);
}

static int
udp_take(struct udp *u)
{
	tn_sleep(&u->u_net, 10 * TN_MS);
	return bsd_recv_batch(u->u_so[1], u->u_run, 8, &u->u_lent);
}

static void
udp_close(struct udp *u)
{
	bsd_close(u->u_so[0]);
	bsd_close(u->u_so[1]);
	tn_free(&u->u_net);
}

/* 40 datagrams of 100 bytes over a wire with and without segmentation. */
static void
batch_over(uint32_t caps)
{
	unsigned char data[4000];
	uint32_t lens[40];
	uint32_t got = 0;
	struct udp u;
	int n;

	for (int i = 0; i < 40; i++) {
		lens[i] = 100;
		memset(data + 100 * i, i, 100);
	}
	udp_open(&u, caps);
	CHECK_EQ(bsd_send_batch(u.u_so[0], data, lens, 40, NULL, 0), 40);
	while ((n = udp_take(&u)) > 0) {
		for (int i = 0; i < n; i++) {
			struct bsd_dgrams *d = &u.u_run[i];

			CHECK_EQ(d->seg, 100);
			CHECK_EQ(d->len, 100 * d->count);
			CHECK_EQ(d->ttl, 64);
			CHECK_EQ(d->from.family, AF_INET);
			CHECK_EQ(d->from.addr[3], 1);
			CHECK_MEM(u.u_lent.base + d->off, data + 100 * got,
			    d->len);
			got += d->count;
		}
		CHECK_EQ(u.u_lent.count, 1);
		bsd_lend_release(u.u_lent.lend, NULL);
	}
	CHECK_EQ(n, -EAGAIN);
	CHECK_EQ(got, 40);
	udp_close(&u);
}

TEST(batch_segmented)
{
	batch_over(0xfff);
}

TEST(batch_cut)
{
	batch_over(0);
}

TEST(batch_to_many)
{
	uint32_t lens[5] = { 3, 3, 3, 1, 2000 };
	static unsigned char data[2010] = "aaabbbcccd";
	struct bsd_addr to[5] = { tn_addr(2, 9), tn_addr(2, 9), tn_addr(2, 10),
		tn_addr(2, 9), tn_addr(2, 9) };
	struct udp u;

	udp_open(&u, 0);
	CHECK_EQ(bsd_send_batch(u.u_so[0], data, lens, 5, to, 2), -EINVAL);
	CHECK_EQ(bsd_send_batch(u.u_so[0], data, lens, 5, to, 5), 5);
	CHECK_EQ(udp_take(&u), 2);
	CHECK_EQ(u.u_run[0].count, 3); /* aaa bbb d */
	CHECK_EQ(u.u_run[0].len, 7);
	CHECK_MEM(u.u_lent.base, "aaabbbd", 7);
	CHECK_EQ(u.u_run[1].len, 2000); /* fragments, put together */
	bsd_lend_release(u.u_lent.lend, NULL);
	CHECK_EQ(bsd_recv_lend(u.u_so[1], 10, 1, &u.u_lent), -EOPNOTSUPP);
	udp_close(&u);
}

TEST(batch_errors)
{
	uint32_t lens[2] = { 70000, 1 };
	static unsigned char data[70001];
	struct udp u;

	udp_open(&u, 0);
	CHECK_EQ(bsd_send_batch(u.u_so[0], data, lens, 2, NULL, 0), -EMSGSIZE);
	CHECK_EQ(bsd_send_batch(u.u_so[1], data, lens + 1, 1, NULL, 0),
	    -EDESTADDRREQ);
	CHECK_EQ(bsd_recv_batch(u.u_so[1], u.u_run, 0, &u.u_lent), -EINVAL);
	CHECK_EQ(bsd_send_batch(u.u_so[0], data, lens + 1, 1, NULL, 0), 1);
	CHECK_EQ(udp_take(&u), 1); /* the neighbour is known now */
	bsd_lend_release(u.u_lent.lend, NULL);
	/* One packet, were it not too long to be cut. */
	lens[0] = 60000;
	lens[1] = 3;
	CHECK_EQ(bsd_send_batch(u.u_so[0], data, lens, 2, NULL, 0), 2);
	CHECK_EQ(udp_take(&u), 1);
	CHECK_EQ(u.u_run[0].len, 60003); /* copied, so one run */
	CHECK_EQ(u.u_run[0].seg, 60000);
	CHECK_EQ(u.u_run[0].count, 2);
	bsd_lend_release(u.u_lent.lend, NULL);
	udp_close(&u);
}

TEST(batch_ipv6)
{
	struct bsd_addr at = {
		.family = AF_INET6, .port = 9, .addr = { [15] = 1 }
	};
	uint32_t lens[3] = { 20, 20, 20 };
	struct stack *s = tn_stack(1, TN_SEC);
	struct bsd_dgrams run[2];
	struct socket *a, *b;
	struct bsd_lent lent;
	int tclass = 0x28;

	CHECK_EQ(bsd_socket(s, AF_INET6, SOCK_DGRAM, 0, &a), 0);
	CHECK_EQ(bsd_socket(s, AF_INET6, SOCK_DGRAM, 0, &b), 0);
	CHECK_EQ(bsd_bind(b, &at), 0);
	CHECK_EQ(bsd_setsockopt(a, IPPROTO_IPV6, IPV6_TCLASS, &tclass,
		     sizeof(tclass)),
	    0);
	CHECK_EQ(bsd_recv_batch(b, run, 2, &lent), -EAGAIN);
	CHECK_EQ(bsd_send_batch(a,
		     "aaaaaaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbbbbb"
		     "cccccccccccccccccccc",
		     lens, 3, &at, 1),
	    3);
	CHECK_EQ(bsd_recv_batch(b, run, 2, &lent), 1);
	CHECK_EQ(run[0].count, 3);
	CHECK_EQ(run[0].tos, 0x28);
	CHECK_EQ(run[0].ttl, 64);
	CHECK_EQ(run[0].from.family, AF_INET6);
	CHECK_EQ(run[0].from.addr[15], 1);
	bsd_lend_drop(lent.lend, 1);
	bsd_close(a);
	bsd_close(b);
	bsd_stack_free(s);
}

/* A lent datagram goes on to somebody else as it lies. */
TEST(datagram_forwarded)
{
	struct bsd_addr at = tn_addr(1, 5);
	uint32_t lens[2] = { 1000, 1000 };
	unsigned char data[2000], back[2000];
	struct socket *sink;
	struct udp u;

	memset(data, 'q', sizeof(data));
	udp_open(&u, 0xfff);
	CHECK_EQ(bsd_socket(u.u_net.tn_s[0], AF_INET, SOCK_DGRAM, 0, &sink), 0);
	CHECK_EQ(bsd_bind(sink, &at), 0);
	CHECK_EQ(bsd_send_batch(u.u_so[0], data, lens, 2, NULL, 0), 2);
	CHECK_EQ(udp_take(&u), 1);
	CHECK_EQ(u.u_run[0].count, 2);
	CHECK_EQ(bsd_send_lend(u.u_so[1], u.u_lent.lend, 1000, 1000, 0, &at),
	    1000);
	bsd_lend_release(u.u_lent.lend, NULL);
	tn_sleep(&u.u_net, 10 * TN_MS);
	CHECK_EQ(bsd_recv(sink, back, sizeof(back), 0, NULL, 0), 1000);
	CHECK_MEM(back, data, 1000);
	bsd_close(sink);
	udp_close(&u);
}

TESTS(RUN(request_response), RUN(tags_keep_their_place), RUN(bad_submissions),
    RUN(slots_run_out), RUN(short_of_memory), RUN(lend_segments), RUN(lend_cut),
    RUN(lent_memory_outlives_all), RUN(released_by_another_thread),
    RUN(send_by_reference), RUN(send_by_reference_blocks), RUN(batch_segmented),
    RUN(batch_cut), RUN(batch_to_many), RUN(batch_errors), RUN(batch_ipv6),
    RUN(datagram_forwarded))
