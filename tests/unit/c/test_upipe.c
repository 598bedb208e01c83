/*
 * A user pipe: two ends in one process and in two, packets both ways, ends that
 * close, die, and write rubbish.
 */
#include "skywalk/channel/channel_var.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/unit/c/check.h"
#include "tests/unit/c/twoends.h"

static void
pipe_open(uint32_t slots, uint32_t packets, struct channel *ch[2])
{
	struct sk_params p = { .slots = slots,
		.packets = packets,
		.buffer = 256,
		.buflets = 8,
		.max_frags = 4,
		.flowadv = 4 };

	CHECK_EQ(sk_pipe_open(&p, ch), 0);
}

TEST(batches)
{
	struct channel *ch[2];
	unsigned char data[300], got[4096];
	uint32_t len[3] = { 1, 0, 200 }, out[64];

	pipe_open(8, 6, ch);
	for (size_t i = 0; i < sizeof(data); i++) {
		data[i] = (unsigned char)i;
	}
	for (int turn = 0; turn < 50; turn++) {
		for (int side = 0; side < 2; side++) {
			CHECK_EQ(sk_send_batch(ch[side], data, len, 3), 3);
			CHECK_EQ(sk_receive_copy(ch[1 - side], got, sizeof(got),
				     out, 64),
			    3);
			CHECK_EQ(out[0], 1);
			CHECK_EQ(out[1], 0);
			CHECK_EQ(out[2], 200);
			CHECK_MEM(got, data, 201);
			CHECK_EQ(sk_receive_copy(ch[1 - side], got, sizeof(got),
				     out, 64),
			    0);
		}
	}
	CHECK_EQ(sk_channel_sync(ch[0], SK_TX | SK_RX), 0);
	CHECK_EQ(sk_channel_sync(ch[1], SK_TX | SK_RX), 0);
	pool_whole(ch[0]);
	pool_whole(ch[1]);
	sk_channel_free(ch[0]);
	sk_channel_free(ch[1]);
}

TEST(full_and_one_slot_unused)
{
	struct channel *ch[2];
	uint32_t len[16] = { 0 };
	struct sk_batch b;

	pipe_open(8, 16, ch);
	CHECK_EQ(sk_tx_room(ch[0]), 7);
	CHECK_EQ(sk_send_batch(ch[0], (const unsigned char *)"", len, 16), 7);
	CHECK_EQ(sk_send_batch(ch[0], (const unsigned char *)"", len, 16), 0);
	CHECK_EQ(sk_receive(ch[1], &b, 64), 7);
	/* The slots are free, the packets are not. */
	CHECK_EQ(sk_send_batch(ch[0], (const unsigned char *)"", len, 16), 7);
	CHECK_EQ(sk_receive(ch[1], &b, 5), 5);
	CHECK_EQ(sk_send_batch(ch[0], (const unsigned char *)"", len, 16), 2);
	CHECK_EQ(sk_tx_room(ch[0]), 0);
	CHECK_EQ(sk_channel_arm(ch[0], SK_TX), 0);
	sk_release(ch[1], b.idx, 5);
	CHECK_EQ(sk_channel_wait(ch[0], SK_TX, 0), 1);
	CHECK_EQ(sk_tx_room(ch[0]), 3);
	sk_channel_free(ch[0]);
	sk_channel_free(ch[1]);
}

TEST(several_buflets)
{
	struct channel *ch[2];
	unsigned char data[1024], got[1024];
	struct sk_meta meta = { .flowid = 7, .svc = 3, .time = 99 };
	struct sk_batch b;
	uint32_t len;

	pipe_open(8, 8, ch);
	for (size_t i = 0; i < sizeof(data); i++) {
		data[i] = (unsigned char)(i * 7);
	}
	CHECK_EQ(sk_send(ch[0], data, 1025, NULL), -EMSGSIZE);
	for (int turn = 0; turn < 20; turn++) {
		CHECK_EQ(sk_send(ch[0], data, 1024, &meta), 1);
		CHECK_EQ(sk_send(ch[0], data, 257, &meta), 1);
		CHECK_EQ(sk_receive(ch[1], &b, 1), 1);
		CHECK_EQ(b.nfrags[0], 4);
		CHECK_EQ(b.len[0], 1024);
		CHECK_EQ(b.meta[0].flowid, 7);
		CHECK_EQ(b.meta[0].time, 99);
		for (uint32_t f = 0; f < 4; f++) {
			const unsigned char *piece =
			    sk_packet_frag(ch[1], b.idx[0], f, &len);

			CHECK_EQ(len, 256);
			CHECK_MEM(piece, data + f * 256, 256);
		}
		sk_release(ch[1], b.idx, 1);
		CHECK_EQ(sk_receive_copy(ch[1], got, sizeof(got), &len, 1), 1);
		CHECK_EQ(len, 257);
		CHECK_MEM(got, data, 257);
	}
	sk_channel_free(ch[0]);
	sk_channel_free(ch[1]);
}

TEST(in_place)
{
	struct channel *ch[2];
	uint32_t idx[4], len[4] = { 5, 256, 257, 1 };
	struct sk_batch b;

	pipe_open(8, 8, ch);
	CHECK_EQ(sk_packet_alloc(ch[0], idx, 4), 4);
	memcpy(sk_packet_data(ch[0], idx[0]), "hello", 5);
	CHECK_EQ(sk_transmit(ch[0], idx, len, NULL, 4), 2);
	CHECK_EQ(sk_transmit(ch[0], idx, len, NULL, 1), -EINVAL);
	CHECK_EQ(sk_transmit(ch[0], idx + 2, len + 2, NULL, 1), -EINVAL);
	sk_packet_free(ch[0], idx, 4);
	CHECK_EQ(sk_receive(ch[1], &b, 64), 2);
	CHECK(b.data[0] == sk_packet_data(ch[0], idx[0]));
	CHECK_MEM(b.data[0], "hello", 5);
	sk_release(ch[1], b.idx, 2);
	sk_release(ch[1], b.idx, 2);
	CHECK_EQ(sk_channel_sync(ch[0], SK_TX), 0);
	pool_whole(ch[0]);
	sk_channel_free(ch[0]);
	sk_channel_free(ch[1]);
}

TEST(closing_lets_the_rest_be_read)
{
	struct channel *ch[2];
	uint32_t len[2] = { 3, 3 };
	struct sk_batch b;

	pipe_open(8, 8, ch);
	CHECK_EQ(sk_send_batch(ch[0], (const unsigned char *)"abcdef", len, 2),
	    2);
	CHECK_EQ(sk_send_batch(ch[1], (const unsigned char *)"abcdef", len, 2),
	    2);
	sk_channel_close(ch[0]);
	CHECK_EQ(sk_receive(ch[0], &b, 64), -ENXIO);
	CHECK_EQ(sk_channel_reason(ch[0]), SK_CLOSED);
	CHECK_EQ(sk_send_batch(ch[1], (const unsigned char *)"abc", len, 1),
	    -ENXIO);
	pool_whole(ch[1]);
	CHECK_EQ(sk_channel_arm(ch[1], SK_RX), 1);
	CHECK_EQ(sk_receive(ch[1], &b, 64), 2);
	CHECK_MEM(b.data[1], "def", 3);
	CHECK_EQ(sk_receive(ch[1], &b, 64), -ENXIO);
	CHECK_EQ(sk_channel_reason(ch[1]), SK_PEER_CLOSED);
	sk_channel_free(ch[0]);
	sk_channel_free(ch[1]);
}

TEST(bells_ring_only_for_sleepers)
{
	struct channel *ch[2];
	uint32_t len[1] = { 1 };
	struct sk_batch b;
	struct sk_stats st;

	pipe_open(8, 8, ch);
	CHECK_EQ(sk_channel_wait(ch[1], SK_RX, 0), 0);
	for (int i = 0; i < 7; i++) {
		CHECK_EQ(sk_send_batch(ch[0], (const unsigned char *)"a", len, 1),
		    1);
	}
	sk_channel_stats(ch[0], &st);
	CHECK_EQ(st.bells, 1);
	CHECK_EQ(sk_channel_wait(ch[1], SK_RX, -1), 1);
	CHECK_EQ(sk_receive(ch[1], &b, 64), 7);
	sk_release(ch[1], b.idx, b.n);
	/* Nobody sleeps: no call. */
	CHECK_EQ(sk_send_batch(ch[0], (const unsigned char *)"a", len, 1), 1);
	sk_channel_stats(ch[0], &st);
	CHECK_EQ(st.bells, 1);
	CHECK_EQ(sk_receive(ch[1], &b, 64), 1);
	CHECK_EQ(sk_channel_wait(ch[1], SK_RX, 0), 0);
	CHECK_EQ(sk_channel_wait(ch[1], SK_RX, 0), 0);
	sk_channel_free(ch[0]);
	sk_channel_free(ch[1]);
}

TEST(events_and_advisories)
{
	struct channel *ch[2];
	struct sk_event ev = { .type = SK_EVENT_TRANSMIT_STATUS, .token = 77 };

	pipe_open(8, 8, ch);
	CHECK_EQ(sk_event_next(ch[1], &ev), 0);
	CHECK_EQ(sk_channel_arm(ch[1], SK_RX), 0);
	for (uint64_t i = 0; i < 31; i++) {
		ev.token = i;
		CHECK_EQ(sk_event_post(ch[0], &ev), 1);
	}
	CHECK_EQ(sk_event_post(ch[0], &ev), 0);
	CHECK_EQ(sk_channel_wait(ch[1], SK_RX, -1), 1);
	for (uint64_t i = 0; i < 31; i++) {
		CHECK_EQ(sk_event_next(ch[1], &ev), 1);
		CHECK_EQ(ev.token, i);
	}
	CHECK_EQ(sk_event_next(ch[1], &ev), 0);
	CHECK_EQ(sk_flow_admissible(ch[1], 5), -ENOENT);
	CHECK_EQ(sk_flow_advise(ch[0], 5, 0), 0);
	CHECK_EQ(sk_flow_admissible(ch[1], 5), 0);
	CHECK_EQ(sk_flow_advise(ch[0], 5, 2), 0);
	CHECK_EQ(sk_flow_admissible(ch[1], 5), -ENOBUFS);
	CHECK_EQ(sk_flow_admissible(ch[1], 9), -ENOENT);
	sk_channel_close(ch[0]);
	CHECK_EQ(sk_flow_admissible(ch[1], 5), -ENXIO);
	sk_channel_free(ch[0]);
	sk_channel_free(ch[1]);
}

/* ---- Two threads ---- */

#define EXCHANGED 20000

static void *
sender(void *arg)
{
	struct channel *ch = arg;
	uint64_t seed = 5;

	for (uint32_t i = 0; i < EXCHANGED;) {
		unsigned char data[8 * 4];
		uint32_t len[8], n = (uint32_t)next_random(&seed) % 8 + 1;
		int sent;

		n = n < EXCHANGED - i ? n : EXCHANGED - i;
		for (uint32_t k = 0; k < n; k++) {
			uint32_t mark = i + k;

			memcpy(data + 4 * k, &mark, 4);
			len[k] = 4;
		}
		sent = sk_send_batch(ch, data, len, n);
		CHECK(sent >= 0);
		if (sent == 0) {
			CHECK(sk_channel_wait(ch, SK_TX, 10000000000) > 0);
		}
		i += (uint32_t)sent;
	}
	return NULL;
}

static void *
receiver(void *arg)
{
	struct channel *ch = arg;
	struct sk_batch b;

	for (uint32_t i = 0; i < EXCHANGED;) {
		int got = sk_receive(ch, &b, 64);

		CHECK(got >= 0);
		for (int k = 0; k < got; k++, i++) {
			uint32_t mark;

			memcpy(&mark, b.data[k], 4);
			CHECK_EQ(mark, i);
		}
		if (got > 0) {
			sk_release(ch, b.idx, (uint32_t)got);
		} else {
			CHECK(sk_channel_wait(ch, SK_RX, 10000000000) > 0);
		}
	}
	return NULL;
}

TEST(four_threads)
{
	struct channel *ch[2];
	pthread_t t[4];

	pipe_open(16, 24, ch);
	for (int i = 0; i < 2; i++) {
		CHECK_EQ(pthread_create(&t[2 * i], NULL, sender, ch[i]), 0);
		CHECK_EQ(pthread_create(&t[2 * i + 1], NULL, receiver, ch[i]),
		    0);
	}
	for (int i = 0; i < 4; i++) {
		pthread_join(t[i], NULL);
	}
	for (int i = 0; i < 2; i++) {
		CHECK_EQ(sk_channel_sync(ch[i], SK_TX), 0);
		pool_whole(ch[i]);
	}
	sk_channel_free(ch[0]);
	sk_channel_free(ch[1]);
}

/* ---- Two processes ---- */

/* Send and receive until the other end is gone. */
static void
babble(struct channel *ch, uint64_t seed)
{
	unsigned char data[1024] = { 0 };
	struct sk_batch b;

	for (;;) {
		uint32_t len = (uint32_t)next_random(&seed) % 900;
		int sent = sk_send(ch, data, len, NULL);
		int got = sk_receive(ch, &b, 64);

		if (got > 0) {
			sk_release(ch, b.idx, (uint32_t)got);
		} else if (got < 0 ||
		    (sent <= 0 && sk_channel_wait(ch, SK_RX, -1) < 0)) {
			return;
		}
	}
}

/* Two processes babble and the one at the other side is killed. */
static void
kill_one(int side, uint64_t *seed)
{
	struct two t;
	struct channel *ch, *again[2];
	struct timespec ts = { .tv_nsec = (long)(next_random(seed) % 2000000) };
	pid_t pid, killer;

	two_make(&t);
	fflush(stdout);
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		babble(two_attach(&t, 1 - side, -1), *seed);
		_exit(0);
	}
	killer = fork();
	CHECK(killer >= 0);
	if (killer == 0) {
		nanosleep(&ts, NULL);
		kill(pid, SIGKILL);
		_exit(0);
	}
	ch = two_attach(&t, side, (int)syscall(SYS_pidfd_open, pid, 0));
	babble(ch, *seed + 1);
	CHECK_EQ(sk_channel_reason(ch), SK_PEER_DIED);
	CHECK_EQ(sk_channel_sync(ch, SK_TX), -ENXIO);
	CHECK_EQ(sk_send(ch, (const unsigned char *)"x", 1, NULL), -ENXIO);
	pool_whole(ch);
	/* Who is left opens another one at once. */
	pipe_open(8, 8, again);
	CHECK_EQ(sk_send(again[0], (const unsigned char *)"x", 1, NULL), 1);
	CHECK_EQ(sk_rx_pending(again[1]), 1);
	sk_channel_free(again[0]);
	sk_channel_free(again[1]);
	sk_channel_free(ch);
	CHECK_EQ(waitpid(pid, NULL, 0), pid);
	CHECK_EQ(waitpid(killer, NULL, 0), killer);
}

TEST(killed_at_any_point)
{
	uint64_t seed = seed_given(20261122);

	for (int turn = 0; turn < 40; turn++) {
		kill_one(turn % 2 == 0 ? SK_SERVER : SK_CLIENT, &seed);
	}
}

TEST(a_half_has_one_writer)
{
	struct two t;
	struct channel *ch;
	struct sk_batch b;
	int fd;

	two_make(&t);
	fd = dup(t.t_memfd[0]);
	ch = two_attach(&t, SK_SERVER, -1);
	CHECK_EQ(ftruncate(fd, 0), -1);
	CHECK_EQ(errno, EPERM);
	CHECK_EQ(pwrite(fd, "x", 1, 0), -1);
	CHECK(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) ==
	    MAP_FAILED);
	close(fd);
	/* The other end's socket is closed: it is dead. */
	CHECK_EQ(sk_channel_wait(ch, SK_RX, 0), -ENXIO);
	CHECK_EQ(sk_receive(ch, &b, 1), -ENXIO);
	CHECK_EQ(sk_channel_reason(ch), SK_PEER_DIED);
	sk_channel_free(ch);
}

TEST(defunct_reads_zero)
{
	struct channel *ch[2];
	uint32_t len[1] = { 4 };
	struct sk_lend *l;
	const unsigned char *data;
	int error;

	pipe_open(8, 8, ch);
	CHECK_EQ(sk_send_batch(ch[0], (const unsigned char *)"abcd", len, 1), 1);
	l = sk_lend_receive(ch[1], 64, &error);
	CHECK(l != NULL);
	data = sk_lend_batch(l)->data[0];
	CHECK_MEM(data, "abcd", 4);
	sk_channel_defunct(ch[1]);
	CHECK_MEM(data, "\0\0\0\0", 4);
	CHECK_EQ(sk_send_batch(ch[1], (const unsigned char *)"abcd", len, 1),
	    -ENXIO);
	CHECK_EQ(sk_channel_reason(ch[1]), SK_DEFUNCT);
	CHECK_EQ(sk_send_batch(ch[0], (const unsigned char *)"abcd", len, 1),
	    -ENXIO);
	pool_whole(ch[0]);
	sk_channel_free(ch[0]);
	sk_channel_free(ch[1]);
	CHECK_MEM(data, "\0\0\0\0", 4);
	sk_lend_drop(l);
}

/* ---- Rubbish ---- */

/* One word of the other half, or a run of bytes. */
static void
scribble(struct channel *bad, uint64_t *seed)
{
	struct skmem_arena *ar = bad->ch_arena;
	uint8_t *base = bad->ch_our->hf_base;
	size_t control = (size_t)(bad->ch_our->hf_buf - base);
	uint64_t r = next_random(seed);
	uint32_t small = (uint32_t)(r >> 32) % 40;

	switch (r % 4) {
	case 0: /* rings */
		memcpy((uint8_t *)bad->ch_our->hf_heads + (r >> 8) % 8 * 64,
		    &small, sizeof(small));
		break;
	case 1: /* slots and metadata, with likely values */
		memcpy(base + ar->ar_page * 2 +
			(r >> 8) % (control - 2 * ar->ar_page - 4) / 4 * 4,
		    &small, sizeof(small));
		break;
	default:
		for (int i = 0; i < 8; i++) {
			base[next_random(seed) % control] =
			    (uint8_t)next_random(seed);
		}
	}
}

TEST(rubbish_ends_only_the_channel)
{
	uint64_t seed = seed_given(42);
	unsigned seen = 0;

	for (int turn = 0; turn < 2000; turn++) {
		unsigned char data[1024], got[2048];
		struct channel *good, *bad;
		uint32_t n[2];
		int result = 0;

		if (turn % 2 == 0) {
			two_here(&good, &bad);
		} else {
			two_here(&bad, &good);
		}
		memset(data, 1, sizeof(data));
		for (int step = 0; step < 40 && result >= 0; step++) {
			uint32_t len = (uint32_t)next_random(&seed) % 1000;

			(void)sk_send(bad, data, len, NULL);
			(void)sk_send(good, data, len, NULL);
			scribble(bad, &seed);
			result = sk_receive_copy(good, got, sizeof(got), n, 2);
			if (result >= 0) {
				result = sk_channel_arm(good, SK_TX);
			}
		}
		if (sk_channel_reason(good) != SK_ACTIVE) {
			seen |= 1u << sk_channel_reason(good);
			CHECK_EQ(sk_channel_sync(good, SK_TX), -ENXIO);
			pool_whole(good);
		}
		sk_channel_free(good);
		sk_channel_free(bad);
	}
	/* The others need luck; test_hostile.c makes them happen. */
	CHECK((seen >> SK_HEAD_OOB & 1) != 0);
	CHECK((seen >> SK_UNALLOCATED_PKT & 1) != 0);
}

TESTS(RUN(batches), RUN(full_and_one_slot_unused), RUN(several_buflets),
    RUN(in_place), RUN(closing_lets_the_rest_be_read),
    RUN(bells_ring_only_for_sleepers), RUN(events_and_advisories),
    RUN(four_threads), RUN(killed_at_any_point), RUN(a_half_has_one_writer),
    RUN(defunct_reads_zero), RUN(rubbish_ends_only_the_channel))
