/* Pools: classes, limits, shared storage, frees by other threads, life. */
#include <pthread.h>
#include <sched.h>

#include "nic/api.h"
#include "nic/pkt_pool.h"
#include "tests/unit/c/check.h"

static struct nic_pool_stats
stats_of(struct pkt_pool *pool)
{
	struct nic_pool_stats s;

	nic_pool_stats(pool, &s);
	return s;
}

TEST(alloc_gives_room)
{
	static const uint32_t sizes[] = { 0, 1, 256, 257, 2048, 4000, 16384,
		65536, PKT_BIG, PKT_BIG + 1, 1 << 20 };
	struct pkt_pool *pool = nic_pool_new(64 << 20);

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct pkt *p = pkt_alloc(pool, sizes[i], 64);

		CHECK(p != NULL);
		CHECK(p->p_size >= sizes[i] && p->p_size >= 64);
		CHECK(p->p_data == p->p_buf + 64);
		CHECK_EQ(p->p_len, 0);
		CHECK_EQ(p->p_pktlen, 0);
		CHECK_EQ(p->p_flags, 0);
		CHECK_EQ((uintptr_t)p->p_buf % 64, 0);
		CHECK(pkt_writable(p));
		memset(p->p_buf, 0xa5, p->p_size);
		pkt_free(p);
	}
	CHECK_EQ(stats_of(pool).active, 0);
	nic_pool_free(pool);
}

TEST(last_freed_first_used)
{
	struct pkt_pool *pool = nic_pool_new(1 << 20);
	struct pkt *a = pkt_alloc(pool, 2048, 0);
	struct pkt *b = pkt_alloc(pool, 2048, 0);
	struct pkt *again;

	pkt_free(a);
	pkt_free(b);
	again = pkt_alloc(pool, 2048, 0);
	CHECK(again == b);
	CHECK_EQ(stats_of(pool).active, 1);
	pkt_free(again);
	again = pkt_alloc(pool, 2048, 0);
	CHECK(again == b);
	pkt_free(again);
	nic_pool_free(pool);
}

TEST(limit_refuses_and_counts)
{
	struct pkt_pool *pool = nic_pool_new(10000);
	struct pkt *p[8];
	int n = 0;

	while (n < 8 && (p[n] = pkt_alloc(pool, 2048, 0)) != NULL) {
		n++;
	}
	CHECK_EQ(n, 4);
	CHECK_EQ(stats_of(pool).fails, 1);
	CHECK(stats_of(pool).bytes <= 10000);
	CHECK_EQ(stats_of(pool).limit, 10000);
	while (n > 0) {
		pkt_free(p[--n]);
	}
	/* Idle small buffers make way for a larger one. */
	p[0] = pkt_alloc(pool, 4096, 0);
	CHECK(p[0] != NULL);
	CHECK(pkt_alloc(pool, 16384, 0) == NULL);
	pkt_free(p[0]);
	CHECK(stats_of(pool).bytes <= 10000);
	nic_pool_free(pool);
}

TEST(wrap_shares_storage)
{
	struct pkt_pool *pool = nic_pool_new(1 << 20);
	struct pkt_pool *other = nic_pool_new(1 << 20);
	struct pkt *p = pkt_alloc(pool, 2048, 0), *w;

	memset(p->p_data, 'x', 100);
	pkt_ext_hold(p->p_ext);
	w = pkt_wrap(other, p->p_data + 10, 50, p->p_ext);
	CHECK(w != NULL);
	CHECK(!pkt_writable(p) && !pkt_writable(w));
	CHECK_EQ(w->p_pktlen, 50);
	pkt_free(p);
	CHECK_EQ(stats_of(pool).active, 1);
	CHECK(pkt_writable(w));
	CHECK_EQ(w->p_data[49], 'x');
	pkt_free(w);
	CHECK_EQ(stats_of(pool).active, 0);
	CHECK_EQ(stats_of(other).active, 0);
	nic_pool_free(pool);
	nic_pool_free(other);
}

static void
count_free(struct pkt_ext *ext)
{
	++*(int *)ext->e_arg;
}

TEST(wrap_of_foreign_memory)
{
	struct pkt_pool *pool = nic_pool_new(1 << 20);
	int freed = 0;
	struct pkt_ext ext = {
		.e_refs = 1, .e_free = count_free, .e_arg = &freed
	};
	char bytes[64];
	struct pkt *p = pkt_wrap(pool, bytes, sizeof(bytes), &ext);

	CHECK_EQ(p->p_len, 64);
	CHECK_EQ(freed, 0);
	pkt_free(p);
	CHECK_EQ(freed, 1);
	nic_pool_free(pool);
}

TEST(pool_lives_until_the_last_packet)
{
	struct pkt_pool *pool = nic_pool_new(1 << 20);
	struct pkt *a = pkt_alloc(pool, 2048, 0);
	struct pkt *b = pkt_alloc(pool, 65536, 0);

	a->p_next = b;
	nic_pool_free(pool);
	memset(b->p_buf, 1, b->p_size);
	pkt_free(a); /* a sanitizer says if this was too late or too soon */
}

#define HANDED 20000

struct handover {
	struct pkt *_Atomic slot[64];
	atomic_int done;
};

static void *
freer(void *arg)
{
	struct handover *h = arg;
	int n = 0;

	while (n < HANDED) {
		struct pkt *p = atomic_exchange(&h->slot[n % 64], NULL);

		if (p != NULL) {
			pkt_free(p);
			n++;
		} else {
			sched_yield();
		}
	}
	return NULL;
}

/* One allocates, another frees, and the pool goes before its packets. */
TEST(frees_from_another_thread)
{
	struct pkt_pool *pool = nic_pool_new(8 << 20);
	static struct handover h;
	pthread_t thread;

	CHECK_EQ(pthread_create(&thread, NULL, freer, &h), 0);
	for (int n = 0; n < HANDED; n++) {
		struct pkt *p, *none = NULL;

		while ((p = pkt_alloc(pool, n % 3 ? 2048 : 100, 0)) == NULL) {
			sched_yield();
		}
		p->p_buf[0] = 1;
		while (!atomic_compare_exchange_strong(&h.slot[n % 64], &none,
		    p)) {
			none = NULL;
			sched_yield();
		}
	}
	nic_pool_free(pool);
	pthread_join(thread, NULL);
}

TEST(copies_and_chains)
{
	struct pkt_pool *pool = nic_pool_new(1 << 20);
	struct pkt *a = pkt_alloc(pool, 100, 10), *flat;
	struct iovec iov[2];
	char got[6];

	memcpy(a->p_data, "abc", 3);
	a->p_len = 3;
	a->p_next = pkt_alloc(pool, 100, 0);
	a->p_next->p_next = pkt_alloc(pool, 100, 0);
	memcpy(a->p_next->p_next->p_data, "def", 3);
	a->p_next->p_next->p_len = 3;
	a->p_pktlen = 6;
	a->p_flowid = 77;
	CHECK_EQ(pkt_nbufs(a), 3);
	CHECK_EQ(pkt_iov(a, iov, 2), 2);
	CHECK_EQ(pkt_iov(a, iov, 1), -1);
	CHECK(pkt_copyout(a, 1, 4, got));
	CHECK_MEM(got, "bcde", 4);
	CHECK(!pkt_copyout(a, 3, 4, got));
	flat = pkt_flatten(a, pool, 32);
	CHECK_EQ(flat->p_len, 6);
	CHECK_EQ(flat->p_pktlen, 6);
	CHECK_EQ(flat->p_flowid, 77);
	CHECK_MEM(flat->p_data, "abcdef", 6);
	pkt_free(a);
	pkt_free(flat);
	CHECK_EQ(stats_of(pool).active, 0);
	nic_pool_free(pool);
}

TESTS(RUN(alloc_gives_room), RUN(last_freed_first_used),
    RUN(limit_refuses_and_counts), RUN(wrap_shares_storage),
    RUN(wrap_of_foreign_memory), RUN(pool_lives_until_the_last_packet),
    RUN(frees_from_another_thread), RUN(copies_and_chains))
