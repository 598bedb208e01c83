/*
 * Rings: who owns which slots, what breaks the rules, and two threads.
 */
#include "skywalk/channel/ring.h"

#include <pthread.h>
#include <sched.h>

#include "tests/unit/c/check.h"

struct pair {
	atomic_uint head[2]; /* of the producer, of the consumer */
	struct channel_ring tx, rx;
	uint32_t slot[8];
};

static void
pair_init(struct pair *p, uint32_t slots)
{
	memset(p, 0, sizeof(*p));
	ring_init(&p->tx, slots, true, &p->head[0], &p->head[1]);
	ring_init(&p->rx, slots, false, &p->head[1], &p->head[0]);
}

TEST(user_owns_head_to_tail)
{
	struct pair p;

	pair_init(&p, 8);
	for (int turn = 0; turn < 30; turn++) {
		CHECK_EQ(ring_prologue(&p.tx), SK_ACTIVE);
		CHECK_EQ(ring_avail(&p.tx), 7);
		CHECK_EQ(ring_prologue(&p.rx), SK_ACTIVE);
		CHECK_EQ(ring_avail(&p.rx), 0);
		for (int i = 0; i < 7; i++) {
			ring_advance(&p.tx);
		}
		/* Nothing is given before it is published. */
		CHECK_EQ(ring_prologue(&p.rx), SK_ACTIVE);
		CHECK_EQ(ring_avail(&p.rx), 0);
		ring_publish(&p.tx);
		CHECK_EQ(ring_avail(&p.tx), 0);
		CHECK_EQ(ring_prologue(&p.rx), SK_ACTIVE);
		CHECK_EQ(ring_avail(&p.rx), 7);
		for (int i = 0; i < 5; i++) {
			ring_advance(&p.rx);
		}
		ring_publish(&p.rx);
		CHECK_EQ(ring_prologue(&p.tx), SK_ACTIVE);
		CHECK_EQ(ring_avail(&p.tx), 5);
		ring_advance(&p.rx);
		ring_advance(&p.rx);
		ring_publish(&p.rx);
	}
}

TEST(a_head_outside_the_ring)
{
	struct pair p;

	for (uint32_t bad = 8; bad != 0; bad *= 2) {
		pair_init(&p, 8);
		atomic_store(&p.head[0], bad);
		CHECK_EQ(ring_prologue(&p.rx), SK_HEAD_OOB);
		CHECK_EQ(ring_avail(&p.rx), 0);
		atomic_store(&p.head[1], bad);
		CHECK_EQ(ring_prologue(&p.tx), SK_HEAD_OOB);
		CHECK_EQ(ring_avail(&p.tx), 7);
	}
}

/* For every position of both heads: the other end may move its own exactly as
 * far as it owns slots. */
TEST(every_move_of_the_other_end)
{
	struct pair p;

	for (uint32_t start = 0; start < 8; start++) {
		for (uint32_t given = 0; given < 8; given++) {
			for (uint32_t to = 0; to < 8; to++) {
				uint32_t taken = (to - start) & 7;

				pair_init(&p, 8);
				p.tx.kr_head = (start + given) & 7;
				p.tx.kr_khead = start;
				ring_publish(&p.tx);
				atomic_store(&p.head[1], to);
				CHECK_EQ(ring_prologue(&p.tx),
				    taken <= given ? SK_ACTIVE :
						     SK_TAIL_MISMATCH);

				pair_init(&p, 8);
				p.rx.kr_head = start;
				p.rx.kr_khead = (start + given) & 7;
				ring_publish(&p.rx);
				atomic_store(&p.head[0], (start + to) & 7);
				CHECK_EQ(ring_prologue(&p.rx),
				    to >= given ? SK_ACTIVE : SK_HEAD_OOB_WRAP);
			}
		}
	}
}

#define PASSED 200000u

static void *
produce(void *arg)
{
	struct pair *p = arg;

	for (uint32_t i = 0; i < PASSED;) {
		CHECK_EQ(ring_prologue(&p->tx), SK_ACTIVE);
		if (ring_avail(&p->tx) == 0) {
			sched_yield();
			continue;
		}
		while (ring_avail(&p->tx) > 0 && i < PASSED) {
			p->slot[p->tx.kr_head] = i++;
			ring_advance(&p->tx);
		}
		ring_publish(&p->tx);
	}
	return NULL;
}

TEST(two_threads)
{
	static struct pair p;
	pthread_t t;

	pair_init(&p, 8);
	CHECK_EQ(pthread_create(&t, NULL, produce, &p), 0);
	for (uint32_t i = 0; i < PASSED;) {
		CHECK_EQ(ring_prologue(&p.rx), SK_ACTIVE);
		if (ring_avail(&p.rx) == 0) {
			sched_yield();
			continue;
		}
		while (ring_avail(&p.rx) > 0) {
			CHECK_EQ(p.slot[p.rx.kr_head], i);
			i++;
			ring_advance(&p.rx);
		}
		ring_publish(&p.rx);
	}
	pthread_join(t, NULL);
}

TESTS(RUN(user_owns_head_to_tail), RUN(a_head_outside_the_ring),
    RUN(every_move_of_the_other_end), RUN(two_threads))
