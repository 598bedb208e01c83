/*
 * A hostile half: each rule broken on purpose by either end, ends that never
 * drain, never give back, or flood. Only their channel ends, with the reason;
 * this end's packets are all its own afterwards.
 */
#include "skywalk/channel/channel_var.h"

#include <errno.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/c/check.h"
#include "tests/unit/c/twoends.h"

static const unsigned char payload[1024];

/* ---- One rule each ---- */

struct broken {
	const char *b_name;
	enum sk_reason b_reason;
	/* bad has sent two packets, of three buflets and of one; break them. */
	void (*b_break)(struct channel *good, struct channel *bad);
};

static struct sk_umd *
umd(struct channel *bad, int i)
{
	return &bad->ch_our->hf_umd[bad->ch_our->hf_txsd[i].sd_idx];
}

static struct sk_buflet *
second(struct channel *bad)
{
	return &bad->ch_our->hf_ubft[umd(bad, 0)->um_next];
}

#define BREAK(name) static void name(struct channel *good, struct channel *bad)
#define HEADS(ch) ((ch)->ch_our->hf_heads)

BREAK(tx_outside)
{
	atomic_store(&HEADS(bad)->sh_tx, good->ch_params.slots);
}

BREAK(rx_outside)
{
	CHECK_EQ(sk_send(good, payload, 1, NULL), 1);
	atomic_store(&HEADS(bad)->sh_rx, 0xffffffff);
	CHECK_EQ(sk_tx_room(good), 0);
}

BREAK(free_outside)
{
	atomic_store(&HEADS(bad)->sh_free, good->ch_arena->ar_fslots);
	CHECK_EQ(sk_channel_sync(good, SK_TX), -ENXIO);
}

BREAK(event_outside)
{
	struct sk_event ev;

	atomic_store(&HEADS(bad)->sh_evtx, good->ch_params.events);
	CHECK_EQ(sk_event_next(good, &ev), -ENXIO);
}

/* Behind what it had given already and this end has not taken. */
BREAK(given_around)
{
	CHECK_EQ(sk_rx_pending(good), 2);
	atomic_store(&HEADS(bad)->sh_tx, 1);
	CHECK_EQ(sk_rx_pending(good), 0);
}

BREAK(taken_too_much)
{
	CHECK_EQ(sk_send(good, payload, 1, NULL), 1);
	atomic_store(&HEADS(bad)->sh_rx, 2);
	CHECK_EQ(sk_tx_room(good), 0);
}

BREAK(events_taken_outside)
{
	const struct sk_event ev = { .type = 1 };

	atomic_store(&HEADS(bad)->sh_evrx, good->ch_params.events);
	for (uint32_t i = 0; i < good->ch_params.events; i++) {
		if (sk_event_post(good, &ev) <= 0) {
			break;
		}
	}
}

BREAK(packet_outside)
{
	bad->ch_our->hf_txsd[0].sd_idx = good->ch_params.packets;
}

BREAK(packet_twice)
{
	(void)good;
	CHECK_EQ(sk_send(bad, payload, 1, NULL), 1);
	bad->ch_our->hf_txsd[2] = bad->ch_our->hf_txsd[1];
}

BREAK(returned_not_given)
{
	bad->ch_our->hf_fsd[0] = 3;
	atomic_store(&HEADS(bad)->sh_free, 1);
	CHECK_EQ(sk_channel_sync(good, SK_TX), -ENXIO);
}

BREAK(returned_outside)
{
	bad->ch_our->hf_fsd[0] = SK_NONE;
	atomic_store(&HEADS(bad)->sh_free, 1);
	CHECK_EQ(sk_channel_sync(good, SK_TX), -ENXIO);
}

BREAK(returned_twice)
{
	struct sk_batch b;

	CHECK_EQ(sk_send(good, payload, 1, NULL), 1);
	CHECK_EQ(sk_receive(bad, &b, 1), 1);
	bad->ch_our->hf_fsd[0] = bad->ch_our->hf_fsd[1] = b.idx[0];
	atomic_store(&HEADS(bad)->sh_free, 2);
	CHECK_EQ(sk_channel_sync(good, SK_TX), -ENXIO);
}

BREAK(another_packet)
{
	(void)good;
	umd(bad, 0)->um_idx = umd(bad, 1)->um_idx;
}

BREAK(no_buflets)
{
	(void)good;
	umd(bad, 0)->um_nfrags = 0;
}

BREAK(too_many_buflets)
{
	umd(bad, 0)->um_nfrags = (uint16_t)(good->ch_params.max_frags + 1);
}

BREAK(buflet_outside)
{
	umd(bad, 0)->um_next = good->ch_params.buflets;
}

BREAK(buflet_of_another_name)
{
	(void)good;
	second(bad)->bf_idx++;
}

BREAK(chain_in_a_circle)
{
	(void)good;
	second(bad)->bf_next = umd(bad, 0)->um_next;
}

BREAK(chain_too_long)
{
	(void)good;
	umd(bad, 0)->um_nfrags = 2;
}

BREAK(chain_of_another_packet)
{
	struct sk_umd *um = umd(bad, 1);

	(void)good;
	um->um_nfrags = 3;
	um->um_next = umd(bad, 0)->um_next;
}

BREAK(length_of_slot)
{
	(void)good;
	bad->ch_our->hf_txsd[0].sd_len++;
}

BREAK(offset_outside)
{
	umd(bad, 0)->um_off = good->ch_params.buffer + 1;
}

BREAK(first_piece_outside)
{
	(void)good;
	umd(bad, 0)->um_off = 1;
}

BREAK(first_piece_too_long)
{
	(void)good;
	umd(bad, 1)->um_flen = umd(bad, 1)->um_len + 1;
}

BREAK(buflet_offset_outside)
{
	(void)good;
	second(bad)->bf_off = 0xffffffff;
}

BREAK(buflet_outside_its_buffer)
{
	(void)good;
	second(bad)->bf_off = 1;
}

BREAK(sum_too_small)
{
	(void)good;
	second(bad)->bf_len--;
}

static const struct broken broken[] = {
	{ "tx head outside", SK_HEAD_OOB, tx_outside },
	{ "rx head outside", SK_HEAD_OOB, rx_outside },
	{ "free head outside", SK_HEAD_OOB, free_outside },
	{ "event head outside", SK_HEAD_OOB, event_outside },
	{ "given around", SK_HEAD_OOB_WRAP, given_around },
	{ "taken too much", SK_TAIL_MISMATCH, taken_too_much },
	{ "events taken outside", SK_HEAD_OOB, events_taken_outside },
	{ "packet outside", SK_UNALLOCATED_PKT, packet_outside },
	{ "packet twice", SK_UNALLOCATED_PKT, packet_twice },
	{ "returned, not given", SK_UNALLOCATED_PKT, returned_not_given },
	{ "returned, outside", SK_UNALLOCATED_PKT, returned_outside },
	{ "returned twice", SK_UNALLOCATED_PKT, returned_twice },
	{ "another packet", SK_QUM_IDX_MISMATCH, another_packet },
	{ "no buflets", SK_BAD_BUFLET_CHAIN, no_buflets },
	{ "too many buflets", SK_BAD_BUFLET_CHAIN, too_many_buflets },
	{ "buflet outside", SK_BAD_BUFLET_CHAIN, buflet_outside },
	{ "buflet's name", SK_BAD_BUFLET_CHAIN, buflet_of_another_name },
	{ "circle", SK_BAD_BUFLET_CHAIN, chain_in_a_circle },
	{ "chain too long", SK_BAD_BUFLET_CHAIN, chain_too_long },
	{ "another's chain", SK_BAD_BUFLET_CHAIN, chain_of_another_packet },
	{ "slot's length", SK_INTERNALIZE_FAILED, length_of_slot },
	{ "offset outside", SK_INTERNALIZE_FAILED, offset_outside },
	{ "piece outside", SK_INTERNALIZE_FAILED, first_piece_outside },
	{ "piece too long", SK_INTERNALIZE_FAILED, first_piece_too_long },
	{ "buflet's offset", SK_INTERNALIZE_FAILED, buflet_offset_outside },
	{ "buflet too long", SK_INTERNALIZE_FAILED, buflet_outside_its_buffer },
	{ "sum too small", SK_INTERNALIZE_FAILED, sum_too_small },
};

/* What good and bad are: either may be the server. */
static void
two_roles(int role, struct channel **good, struct channel **bad)
{
	if (role == SK_SERVER) {
		two_here(good, bad);
	} else {
		two_here(bad, good);
	}
}

/* Another channel of this process, on which nothing may be noticed. */
static void
bystander(struct channel *ch[2])
{
	unsigned char got[1024];
	uint32_t len;

	for (int side = 0; side < 2; side++) {
		CHECK_EQ(sk_send(ch[side], (const unsigned char *)"fine", 4,
			     NULL),
		    1);
		CHECK_EQ(sk_receive_copy(ch[1 - side], got, sizeof(got), &len, 1),
		    1);
		CHECK_EQ(len, 4);
		CHECK_MEM(got, "fine", 4);
	}
}

static void
bystander_open(struct channel *ch[2])
{
	const struct sk_params p = { .slots = 8, .buffer = 256 };

	CHECK_EQ(sk_pipe_open(&p, ch), 0);
}

TEST(each_rule_broken)
{
	struct channel *other[2];

	bystander_open(other);
	for (size_t i = 0; i < 2 * sizeof(broken) / sizeof(*broken); i++) {
		const struct broken *how = &broken[i / 2];
		struct channel *good, *bad;
		struct sk_batch b;
		int n = 0;

		printf("%s, by the %s\n", how->b_name,
		    i % 2 == SK_SERVER ? "client" : "server");
		two_roles((int)i % 2, &good, &bad);
		CHECK_EQ(sk_send(bad, payload, 700, NULL), 1);
		CHECK_EQ(sk_send(bad, payload, 200, NULL), 1);
		how->b_break(good, bad);
		/* Kept, so that what is given twice is here twice. */
		for (int turn = 0; turn < 4 && n >= 0; turn++) {
			n = sk_receive(good, &b, 1);
		}
		CHECK_EQ(n, -ENXIO);
		CHECK_EQ(sk_channel_reason(good), how->b_reason);
		CHECK_EQ(sk_send(good, payload, 1, NULL), -ENXIO);
		pool_whole(good);
		bystander(other);
		sk_channel_free(good);
		sk_channel_free(bad);
	}
	sk_channel_free(other[0]);
	sk_channel_free(other[1]);
}

/* The ring in which packets go home looks at the other end only when it is
 * full as far as this one knows, which takes a lap. */
TEST(home_ring_taken_too_much)
{
	for (int role = 0; role < 2; role++) {
		struct channel *good, *bad;
		struct sk_batch b;
		int n;

		two_roles(role, &good, &bad);
		for (int lap = 0; lap < 200; lap++) {
			(void)sk_send(bad, payload, 1, NULL);
			atomic_store(&HEADS(bad)->sh_alloc,
			    good->ch_arena->ar_fslots - 1);
			n = sk_receive(good, &b, 1);
			if (n < 0) {
				break;
			}
			sk_release(good, b.idx, b.n);
		}
		CHECK(sk_channel_reason(good) != SK_ACTIVE);
		CHECK_EQ(sk_send(good, payload, 1, NULL), -ENXIO);
		pool_whole(good);
		sk_channel_free(good);
		sk_channel_free(bad);
	}
}

TEST(not_finalized_is_only_dropped)
{
	for (int role = 0; role < 2; role++) {
		struct channel *good, *bad;
		struct sk_batch b;
		struct sk_stats st;

		two_roles(role, &good, &bad);
		CHECK_EQ(sk_send(bad, payload, 5, NULL), 1);
		CHECK_EQ(sk_send(bad, payload, 6, NULL), 1);
		umd(bad, 0)->um_flags = 0;
		CHECK_EQ(sk_receive(good, &b, 8), 1);
		CHECK_EQ(b.len[0], 6);
		sk_release(good, b.idx, 1);
		sk_channel_stats(good, &st);
		CHECK_EQ(st.rxdropped, 1);
		CHECK_EQ(sk_channel_sync(bad, SK_TX), 0);
		pool_whole(bad);
		sk_channel_free(good);
		sk_channel_free(bad);
	}
}

TEST(no_arena)
{
	for (int side = 0; side < 2; side++) {
		const uint64_t magic = 1;
		struct two t;
		struct sk_attach a = { .side = side, .control = -1, .pidfd = -1 };
		struct channel *ch;

		two_make(&t);
		CHECK_EQ(pwrite(t.t_memfd[1 - side], &magic, sizeof(magic), 0),
		    sizeof(magic));
		memcpy(a.memfd, t.t_memfd, sizeof(a.memfd));
		memcpy(a.bell, t.t_bell, sizeof(a.bell));
		CHECK_EQ(sk_channel_attach(NULL, &a, &ch), -EPROTO);
		close(t.t_sock[0]);
		close(t.t_sock[1]);
	}
}

/* ---- Who takes nothing, and who gives without end ---- */

TEST(never_drains)
{
	struct channel *other[2];

	bystander_open(other);
	for (int role = 0; role < 2; role++) {
		struct channel *good, *bad;
		struct sk_stats st;
		unsigned sent = 0;

		two_roles(role, &good, &bad);
		for (int turn = 0; turn < 10000; turn++) {
			int n = sk_send(good, payload, 100, NULL);

			CHECK(n == 0 || n == 1);
			sent += (unsigned)n;
			if (turn % 1000 == 0) {
				bystander(other);
			}
		}
		CHECK_EQ(sent, good->ch_params.slots - 1);
		CHECK_EQ(sk_channel_wait(good, SK_TX, 0), 0);
		CHECK_EQ(sk_event_post(good, &(struct sk_event){ .type = 1 }),
		    1);
		sk_channel_stats(good, &st);
		CHECK_EQ(st.given, sent);
		CHECK_EQ(sk_channel_reason(good), SK_ACTIVE);
		sk_channel_close(bad);
		CHECK_EQ(sk_channel_wait(good, SK_TX, -1), -ENXIO);
		CHECK_EQ(sk_channel_sync(good, SK_TX), -ENXIO);
		pool_whole(good);
		bystander(other);
		sk_channel_free(good);
		sk_channel_free(bad);
	}
	sk_channel_free(other[0]);
	sk_channel_free(other[1]);
}

/* Receives everything and keeps it. */
TEST(never_gives_back)
{
	for (int role = 0; role < 2; role++) {
		struct channel *good, *bad;
		struct sk_stats st;
		struct sk_batch b;
		unsigned sent = 0;

		two_roles(role, &good, &bad);
		for (int turn = 0; turn < 1000; turn++) {
			int n = sk_send(good, payload, 100, NULL);

			CHECK(n == 0 || n == 1);
			sent += (unsigned)n;
			CHECK(sk_receive(bad, &b, 64) >= 0);
		}
		CHECK_EQ(sent, good->ch_params.packets);
		CHECK_EQ(sk_channel_wait(good, SK_TX, 0), 0);
		sk_channel_stats(good, &st);
		CHECK_EQ(st.given, sent);
		CHECK_EQ(st.free, 0);
		sk_channel_free(bad);
		CHECK_EQ(sk_send(good, payload, 1, NULL), -ENXIO);
		pool_whole(good);
		sk_channel_free(good);
	}
}

/* Bells of any number and events until nothing takes them any more. */
TEST(bells_and_events_flood)
{
	for (int role = 0; role < 2; role++) {
		const struct sk_event ev = { .type = 1 };
		const uint64_t most = UINT64_MAX - 1, one = 1;
		struct channel *good, *bad;
		struct sk_event got;
		uint32_t events = 0;

		two_roles(role, &good, &bad);
		CHECK_EQ(sk_channel_wait(bad, SK_RX, 0), 0);
		for (int i = 0; i < 4; i++) {
			CHECK_EQ(write(bad->ch_bell[i], &most, 8), 8);
			CHECK_EQ(write(bad->ch_bell[i], &one, 8), -1);
		}
		while (sk_event_post(bad, &ev) == 1) {
			events++;
		}
		CHECK_EQ(events, good->ch_params.events - 1);
		/* Waking bad cannot block, nor be lost: its bell is rung. */
		CHECK_EQ(sk_send(good, payload, 1, NULL), 1);
		CHECK_EQ(sk_channel_wait(good, SK_RX, 0), 1);
		while (sk_event_next(good, &got) == 1) {
			events--;
		}
		CHECK_EQ(events, 0);
		while (sk_channel_wait(good, SK_RX, 0) == 1) {
			CHECK_EQ(sk_event_next(good, &got), 0);
		}
		CHECK_EQ(sk_channel_reason(good), SK_ACTIVE);
		sk_channel_free(good);
		sk_channel_free(bad);
	}
}

/* A process that sends as fast as it can and never receives. */
static void
flooder(struct channel *ch)
{
	for (;;) {
		if (sk_send(ch, payload, 1000, NULL) <= 0 &&
		    sk_channel_wait(ch, SK_TX, -1) < 0) {
			_exit(0);
		}
	}
}

static void
flooded(struct channel *ch, struct channel *other[2])
{
	struct sk_batch b;
	struct sk_stats st;

	for (int got = 0; got < 20000;) {
		int n = sk_receive(ch, &b, 16);

		CHECK(n >= 0);
		if (n == 0) {
			CHECK(sk_channel_wait(ch, SK_RX, 10000000000) > 0);
			continue;
		}
		CHECK(sk_send(ch, payload, 1000, NULL) >= 0);
		sk_release(ch, b.idx, b.n);
		bystander(other);
		got += n;
	}
	/* It drains nothing: no more is under way than the ring takes. */
	sk_channel_stats(ch, &st);
	CHECK(st.given < ch->ch_params.slots);
	CHECK_EQ(st.lent, 0);
}

TEST(floods_and_dies)
{
	struct channel *other[2];

	bystander_open(other);
	for (int side = 0; side < 2; side++) {
		struct two t;
		struct channel *ch;
		struct sk_batch b;
		pid_t pid;
		int n;

		two_make(&t);
		fflush(stdout);
		pid = fork();
		CHECK(pid >= 0);
		if (pid == 0) {
			flooder(two_attach(&t, 1 - side, -1));
		}
		ch = two_attach(&t, side, (int)syscall(SYS_pidfd_open, pid, 0));
		flooded(ch, other);
		kill(pid, SIGKILL);
		CHECK_EQ(waitpid(pid, NULL, 0), pid);
		/* At most a ring of its packets are left. */
		for (n = 1; n >= 0;) {
			n = sk_receive(ch, &b, 64);
			CHECK(n < (int)ch->ch_params.slots);
			if (n > 0) {
				sk_release(ch, b.idx, b.n);
			} else if (n == 0) {
				(void)sk_channel_wait(ch, SK_RX, -1);
			}
		}
		CHECK_EQ(sk_channel_reason(ch), SK_PEER_DIED);
		CHECK_EQ(sk_channel_sync(ch, SK_TX), -ENXIO);
		pool_whole(ch);
		bystander(other);
		sk_channel_free(ch);
	}
	sk_channel_free(other[0]);
	sk_channel_free(other[1]);
}

TESTS(RUN(each_rule_broken), RUN(home_ring_taken_too_much),
    RUN(not_finalized_is_only_dropped), RUN(no_arena), RUN(never_drains),
    RUN(never_gives_back), RUN(bells_and_events_flood), RUN(floods_and_dies))
