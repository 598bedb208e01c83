/*
 * The fault injector: each impairment by itself, in virtual time; and that a
 * seed gives one result, packets keep their order, and nothing is left over.
 */
#include <errno.h>
#include <math.h>

#include "nic/port_fault.c"
#include "tests/unit/c/fakeport.h"

#define MS UINT64_C(1000000)

static struct pkt_pool *pool;
static struct fake *lower;
static struct port *port;
static bool closed;

static void
setup_caps(uint64_t seed, uint32_t caps)
{
	pool = nic_pool_new(64 << 20);
	lower = fake_open(pool, PORT_ETHER, caps, &closed);
	CHECK_EQ(nic_fault_wrap(&lower->fk_port, seed, &port), 0);
}

static void
setup(uint64_t seed)
{
	setup_caps(seed, PORT_SG);
}

static void
teardown(void)
{
	nic_close(port);
	CHECK(closed);
	CHECK_EQ(pool_active(pool), 0);
	nic_pool_free(pool);
}

static void
set(int dir, struct nic_fault cfg)
{
	CHECK_EQ(nic_fault_set(port, dir, &cfg), 0);
}

static struct nic_fault_stats
stats(int dir)
{
	struct nic_fault_stats st;

	CHECK_EQ(nic_fault_stats(port, dir, &st), 0);
	return st;
}

static void
send_frame(uint32_t number, uint32_t len, uint64_t now)
{
	struct pkt *p = fake_frame(pool, number, len);

	CHECK_EQ(port->pt_output(port, &p, 1, now), 1);
}

/* Let time pass from one planned moment to the next, up to `end`. */
static void
run(uint64_t end)
{
	struct pkt *v[PORT_BURST];
	uint64_t at;

	while ((at = port_poll_at(port)) <= end) {
		CHECK_EQ(port->pt_input(port, v, PORT_BURST, at), 0);
		CHECK(port_poll_at(port) > at);
	}
}

TEST(nothing_set_passes_everything)
{
	struct pkt *v[PORT_BURST];
	uint32_t i;

	setup(1);
	CHECK_EQ(port_fd(port), 7);
	for (i = 0; i < 200; i++) {
		send_frame(i, 60 + i, 5);
		fake_receives(lower, fake_frame(pool, 1000 + i, 60));
	}
	CHECK_EQ(lower->fk_nout, 200);
	for (i = 0; i < 200; i++) {
		CHECK_EQ(fake_number(lower->fk_out[i]), i);
		CHECK_EQ(lower->fk_when[i], 5);
	}
	for (i = 0; i < 200; i++) {
		CHECK_EQ(port->pt_input(port, v, 1, 9), 1);
		CHECK_EQ(fake_number(v[0]), 1000 + i);
		CHECK_EQ(v[0]->p_time, 9);
		pkt_free(v[0]);
	}
	CHECK_EQ(port->pt_input(port, v, 1, 9), 0);
	CHECK_EQ(port_poll_at(port), PORT_NEVER);
	CHECK_EQ(port->pt_stats.ps_txpkts, 200);
	CHECK_EQ(port->pt_stats.ps_rxpkts, 200);
	CHECK_EQ(stats(0).passed, 200);
	CHECK_EQ(stats(1).passed, 200);
	teardown();
}

/* What came out of 400 packets through every impairment, as one number. */
static uint64_t
fingerprint(uint64_t seed)
{
	struct nic_fault cfg = { .loss = 0.1,
		.dup = 0.1,
		.corrupt = 0.1,
		.reorder = 0.1,
		.delay_ns = 5 * MS,
		.jitter_ns = 2 * MS,
		.jitter_dist = 1,
		.ge_p = 0.01,
		.ge_r = 0.3 };
	uint64_t print = 0;
	uint32_t i;
	int k;

	setup(seed);
	set(2, cfg);
	for (i = 0; i < 400; i++) {
		run(i * MS);
		send_frame(i, 100, i * MS);
	}
	run(10000 * MS);
	for (k = 0; k < lower->fk_nout; k++) {
		print = print * 31 + lower->fk_when[k];
		print = print * 31 + csum_pkt(lower->fk_out[k], 0, 100);
	}
	CHECK_EQ(stats(0).passed, lower->fk_nout);
	teardown();
	return print;
}

TEST(a_seed_is_a_result)
{
	CHECK_EQ(fingerprint(42), fingerprint(42));
	CHECK(fingerprint(42) != fingerprint(43));
}

TEST(loss_has_its_rate_and_its_own_generator)
{
	struct nic_fault cfg = { .loss = 0.25 };
	struct nic_fault more = { .loss = 0.25, .dup = 0.2, .corrupt = 0.2 };
	static bool seen[4000];
	uint32_t i, twice;

	setup(7);
	set(0, cfg);
	for (i = 0; i < 4000; i++) {
		send_frame(i, 60, 0);
	}
	CHECK(stats(0).lost > 850 && stats(0).lost < 1150);
	CHECK_EQ(stats(0).lost, port->pt_stats.ps_txdrops);
	CHECK_EQ(port->pt_stats.ps_txpkts, 4000 - stats(0).lost);
	CHECK_EQ(lower->fk_nout, 4000 - stats(0).lost);
	memset(seen, 0, sizeof(seen));
	for (i = 0; i < (uint32_t)lower->fk_nout; i++) {
		seen[fake_number(lower->fk_out[i])] = true;
	}
	teardown();

	/* The same packets are lost when other things go wrong too. */
	for (twice = 0; twice < 2; twice++) {
		setup(7);
		set(0, more);
		for (i = 0; i < 2000; i++) {
			int had = lower->fk_nout;

			send_frame(i, 60, 0);
			CHECK_EQ(lower->fk_nout > had, seen[i]);
		}
		CHECK(stats(0).duplicated > 200 && stats(0).corrupted > 200);
		teardown();
	}
}

TEST(loss_of_everything_and_of_nothing)
{
	struct nic_fault all = { .loss = 1 }, none = { .loss = 0 };
	struct pkt *v[PORT_BURST];
	uint32_t i;

	setup(1);
	set(1, all);
	for (i = 0; i < 100; i++) {
		fake_receives(lower, fake_frame(pool, i, 60));
	}
	CHECK_EQ(port->pt_input(port, v, 8, 0), 0);
	CHECK_EQ(port->pt_stats.ps_rxdrops, 100);
	CHECK_EQ(stats(1).lost, 100);
	/* A burst that is lost is not the end of what there is. */
	for (i = 0; i < 3 * PORT_BURST; i++) {
		fake_receives(lower, fake_frame(pool, i, 60));
	}
	CHECK_EQ(port->pt_input(port, v, 8, 0), 0);
	CHECK_EQ(lower->fk_inhead, lower->fk_nin);
	set(1, none);
	fake_receives(lower, fake_frame(pool, 5, 60));
	CHECK_EQ(port->pt_input(port, v, 8, 0), 1);
	pkt_free(v[0]);
	teardown();
}

TEST(a_flood_that_is_lost_ends_the_call)
{
	struct nic_fault all = { .loss = 1 };
	struct pkt *v[PORT_BURST];
	int i;

	setup(1);
	set(1, all);
	for (i = 0; i < FAKE_MAX; i++) {
		fake_receives(lower, fake_frame(pool, 0, 60));
	}
	CHECK_EQ(port->pt_input(port, v, 8, 33), 0);
	CHECK_EQ(lower->fk_inhead, FAULT_ROUNDS * PORT_BURST);
	CHECK_EQ(port_poll_at(port), 33); /* there is more */
	teardown();
}

TEST(bursts_have_their_length)
{
	struct nic_fault cfg = { .ge_p = 0.02, .ge_r = 0.25 };
	uint32_t i, bursts = 0;
	uint64_t lost = 0;

	setup(3);
	set(0, cfg);
	for (i = 0; i < 4000; i++) {
		uint64_t before = stats(0).burst;

		send_frame(i, 60, 0);
		if (stats(0).burst > before) {
			bursts += lost == 0;
			lost = 1;
		} else {
			lost = 0;
		}
	}
	lost = stats(0).burst;
	/* In the bad state p / (p + r) of the time, 1 / r packets at a time. */
	CHECK(lost > 4000 * 0.074 * 0.6 && lost < 4000 * 0.074 * 1.5);
	CHECK((double)lost / bursts > 3 && (double)lost / bursts < 5.5);
	teardown();

	setup(3);
	cfg.ge_loss_bad = 0.5;
	set(0, cfg);
	for (i = 0; i < 4000; i++) {
		send_frame(i, 60, 0);
	}
	CHECK(stats(0).burst > lost / 3 && stats(0).burst < lost * 2 / 3);
	teardown();
}

TEST(delay_is_kept_to_the_nanosecond)
{
	struct nic_fault cfg = { .delay_ns = 20 * MS };
	struct pkt *v[PORT_BURST];

	setup(1);
	set(2, cfg);
	send_frame(1, 60, 3);
	CHECK_EQ(lower->fk_nout, 0);
	CHECK_EQ(stats(0).held, 1);
	CHECK_EQ(port_poll_at(port), 20 * MS + 3);
	CHECK_EQ(port->pt_input(port, v, 8, 20 * MS + 2), 0);
	CHECK_EQ(lower->fk_nout, 0);
	CHECK_EQ(port->pt_input(port, v, 8, 20 * MS + 3), 0);
	CHECK_EQ(lower->fk_nout, 1);
	CHECK_EQ(port_poll_at(port), PORT_NEVER);

	fake_receives(lower, fake_frame(pool, 2, 60));
	CHECK_EQ(port->pt_input(port, v, 8, 100 * MS), 0);
	CHECK_EQ(port_poll_at(port), 120 * MS);
	CHECK_EQ(port->pt_input(port, v, 8, 121 * MS), 1);
	CHECK_EQ(v[0]->p_time, 120 * MS);
	pkt_free(v[0]);
	teardown();
}

TEST(jitter_spreads_but_does_not_reorder)
{
	int dist, i;

	for (dist = 0; dist < 3; dist++) {
		struct nic_fault cfg = { .delay_ns = 50 * MS,
			.jitter_ns = 5 * MS,
			.jitter_dist = dist };
		double sum = 0, square = 0, late;

		setup(11);
		set(0, cfg);
		/* Far apart, so that no packet waits for the one before. */
		for (i = 0; i < 1000; i++) {
			run((uint64_t)i * 1000 * MS);
			send_frame((uint32_t)i, 60, (uint64_t)i * 1000 * MS);
		}
		run(UINT64_C(2000000) * MS);
		CHECK_EQ(lower->fk_nout, 1000);
		for (i = 0; i < 1000; i++) {
			CHECK_EQ(fake_number(lower->fk_out[i]), i);
			late = (double)(lower->fk_when[i] -
				   (uint64_t)i * 1000 * MS) /
				MS -
			    50;
			CHECK(dist != 0 || (late >= -5 && late <= 5));
			CHECK(dist != 2 || (late >= 0 && late <= 64 * 5));
			sum += late;
			square += late * late;
		}
		sum /= 1000;
		square = sqrt(square / 1000);
		if (dist < 2) {
			CHECK(sum > -0.5 && sum < 0.5);
			CHECK(square > (dist ? 4.6 : 2.6));
			CHECK(square < (dist ? 5.4 : 3.2));
		} else {
			CHECK(sum > 3 && sum < 6);
		}
		teardown();

		/* Close together they wait for each other, in order. */
		setup(11);
		cfg.jitter_ns = 40 * MS;
		set(0, cfg);
		for (i = 0; i < 500; i++) {
			send_frame((uint32_t)i, 60, (uint64_t)i * 1000);
		}
		run(UINT64_C(10000) * MS);
		CHECK_EQ(lower->fk_nout, 500);
		for (i = 0; i < 500; i++) {
			CHECK_EQ(fake_number(lower->fk_out[i]), i);
		}
		teardown();
	}
}

TEST(reorder_holds_a_packet_back)
{
	struct nic_fault cfg = {
		.reorder = 0.2, .reorder_gap_ns = 3 * MS, .delay_ns = 10 * MS
	};
	uint32_t i, late = 0;

	setup(5);
	set(0, cfg);
	for (i = 0; i < 500; i++) {
		run(i * MS);
		send_frame(i, 60, i * MS);
	}
	run(1000 * MS);
	CHECK_EQ(lower->fk_nout, 500);
	for (i = 0; i < 500; i++) {
		uint64_t sent = fake_number(lower->fk_out[i]) * MS;
		uint64_t took = lower->fk_when[i] - sent;

		CHECK(took == 10 * MS || took == 13 * MS);
		late += took == 13 * MS;
	}
	CHECK_EQ(late, stats(0).reordered);
	CHECK(late > 60 && late < 140);
	teardown();
}

TEST(rate_spaces_packets_and_bounds_the_queue)
{
	/* 1000 bytes at 8 Mbit/s are 1 ms. */
	struct nic_fault cfg = {
		.rate_bps = 8000000, .queue_pkts = 10, .delay_ns = 7 * MS
	};
	uint32_t i;

	setup(1);
	set(0, cfg);
	for (i = 0; i < 25; i++) {
		send_frame(i, 1000, 0);
	}
	CHECK_EQ(stats(0).queue, 15);
	CHECK_EQ(stats(0).held, 10);
	run(11 * MS);
	CHECK_EQ(lower->fk_nout, 4);
	/* By then all ten have left the line: there is room again. */
	send_frame(25, 1000, 11 * MS);
	run(1000 * MS);
	CHECK_EQ(lower->fk_nout, 11);
	for (i = 0; i < 10; i++) {
		CHECK_EQ(fake_number(lower->fk_out[i]), i);
		CHECK_EQ(lower->fk_when[i], (i + 1) * MS + 7 * MS);
	}
	CHECK_EQ(lower->fk_when[10], 12 * MS + 7 * MS);
	/* An idle line owes nobody anything. */
	send_frame(26, 500, 5000 * MS);
	run(6000 * MS);
	CHECK_EQ(lower->fk_when[11], 5000 * MS + MS / 2 + 7 * MS);
	teardown();
}

TEST(rate_changes_while_packets_wait)
{
	struct nic_fault cfg = { .rate_bps = 8000000, .queue_pkts = 10 };
	uint32_t i;

	setup(1);
	set(0, cfg);
	for (i = 0; i < 10; i++) {
		send_frame(i, 1000, 0);
	}
	cfg.queue_pkts = 4;
	set(0, cfg);
	send_frame(10, 1000, 0);
	CHECK_EQ(stats(0).queue, 1);
	cfg.queue_pkts = 6;
	set(0, cfg);
	send_frame(11, 1000, 0);
	CHECK_EQ(stats(0).queue, 1);
	cfg.rate_bps = 0;
	set(0, cfg);
	send_frame(12, 1000, 0); /* no line, but no overtaking either */
	run(1000 * MS);
	CHECK_EQ(lower->fk_nout, 12);
	CHECK_EQ(fake_number(lower->fk_out[11]), 12);
	teardown();
}

TEST(a_duplicate_is_a_copy)
{
	struct nic_fault cfg = { .dup = 1 };
	struct pkt *p;

	setup(1);
	set(0, cfg);
	p = fake_packet(pool, 4, 6, 300, 0, true);
	CHECK_EQ(port->pt_output(port, &p, 1, 0), 1);
	CHECK_EQ(lower->fk_nout, 2);
	CHECK(lower->fk_out[0]->p_ext != lower->fk_out[1]->p_ext);
	CHECK(pkt_writable(lower->fk_out[0]) && pkt_writable(lower->fk_out[1]));
	CHECK_EQ(lower->fk_out[1]->p_pktlen, lower->fk_out[0]->p_pktlen);
	CHECK_EQ(lower->fk_out[1]->p_flags, lower->fk_out[0]->p_flags);
	CHECK_EQ(csum_fold(csum_pkt(lower->fk_out[0], 0, 354)),
	    csum_fold(csum_pkt(lower->fk_out[1], 0, 354)));
	CHECK_EQ(stats(0).duplicated, 1);
	teardown();
}

TEST(corruption_is_one_bit_that_shows)
{
	struct nic_fault cfg = { .corrupt = 1 };
	struct pkt *p, *kept;
	uint8_t before[400], after[400];
	int i, round, bits;

	setup_caps(1, PORT_SG | PORT_TXCSUM | PORT_RXCSUM | PORT_MEMORY);
	set(2, cfg);
	for (round = 0; round < 50; round++) {
		p = fake_packet(pool, 4, 6, 300, 0, round & 1);
		p->p_flags |= PKT_CSUM_VALID;
		/* Somebody else holds the storage: a sender that may have to
		 * send it again. */
		pkt_ext_hold(p->p_ext);
		kept = pkt_wrap(pool, p->p_data, p->p_len, p->p_ext);
		CHECK(pkt_copyout(p, 0, 354, before));
		CHECK_EQ(port->pt_output(port, &p, 1, 0), 1);
		CHECK_MEM(kept->p_data, before, kept->p_len);
		pkt_free(kept);

		p = lower->fk_out[round];
		CHECK_EQ(p->p_flags & (PKT_CSUM_PARTIAL | PKT_CSUM_VALID), 0);
		CHECK(pkt_copyout(p, 0, 354, after));
		kept = fake_packet(pool, 4, 6, 300, 0, false);
		CHECK_EQ(offload_csum(kept), 0);
		for (bits = 0, i = 0; i < 354; i++) {
			bits += __builtin_popcount((unsigned)(after[i] ^
			    kept->p_data[i]));
		}
		CHECK_EQ(bits, 1);
		pkt_free(kept);
	}
	CHECK_EQ(stats(0).corrupted, 50);
	teardown();
}

TEST(mtu_counts_ip_bytes)
{
	struct nic_fault cfg = { .mtu = 1400 };

	setup(1);
	set(0, cfg);
	send_frame(1, 1414, 0);
	send_frame(2, 1415, 0);
	CHECK_EQ(lower->fk_nout, 1);
	CHECK_EQ(fake_number(lower->fk_out[0]), 1);
	CHECK_EQ(stats(0).mtu, 1);
	teardown();
}

TEST(a_partition_cuts_also_what_is_on_its_way)
{
	struct nic_fault cfg = { .delay_ns = 10 * MS }, cut = cfg;

	setup(1);
	cut.partition = 1;
	set(2, cfg);
	send_frame(1, 60, 0);
	set(2, cut);
	send_frame(2, 60, 1);
	run(20 * MS);
	CHECK_EQ(lower->fk_nout, 0);
	CHECK_EQ(stats(0).partition, 2);
	CHECK_EQ(port->pt_stats.ps_txdrops, 2);
	set(2, cfg);
	send_frame(3, 60, 30 * MS);
	run(50 * MS);
	CHECK_EQ(lower->fk_nout, 1);
	teardown();
}

TEST(super_segments_are_cut_on_both_ways)
{
	struct nic_fault cfg = { .delay_ns = MS };
	struct pkt *p, *v[PORT_BURST];
	uint8_t b[1600];
	int i;

	setup_caps(1,
	    PORT_SG | PORT_TXCSUM | PORT_RXCSUM | PORT_TSO4 | PORT_TSO6 |
		PORT_USO | PORT_LRO);
	CHECK_EQ(port->pt_caps & PORT_TSO, 0);
	set(2, cfg);
	p = fake_packet(pool, 4, 6, 5000, 1000, true);
	CHECK_EQ(port->pt_output(port, &p, 1, 0), 1);
	run(MS);
	CHECK_EQ(lower->fk_nout, 5);
	CHECK_EQ(port->pt_stats.ps_swgso, 1);

	p = fake_packet(pool, 6, 6, 5000, 1000, false);
	p->p_flags |= PKT_CSUM_VALID;
	fake_receives(lower, p);
	p = fake_packet(pool, 4, 17, 3000, 1000, false);
	p->p_flags = PKT_CSUM_VALID;
	fake_receives(lower, p);
	CHECK_EQ(port->pt_input(port, v, PORT_BURST, 2 * MS), 0);
	CHECK_EQ(port->pt_input(port, v, PORT_BURST, 3 * MS), 8);
	for (i = 0; i < 8; i++) {
		CHECK_EQ(v[i]->p_gso_type, PKT_GSO_NONE);
		CHECK_EQ((v[i]->p_flags & PKT_CSUM_PARTIAL) != 0, i < 5);
		if (i < 5) {
			CHECK_EQ(offload_csum(v[i]), 0);
		}
		CHECK(pkt_copyout(v[i], 0, v[i]->p_pktlen, b));
		CHECK(fake_csum_ok(b, v[i]->p_pktlen));
		pkt_free(v[i]);
	}
	teardown();
}

TEST(a_super_segment_that_cannot_be_cut_is_one_unit)
{
	struct pkt *p, *v[PORT_BURST];

	setup_caps(1, PORT_LRO);
	p = fake_packet(pool, 4, 6, 5000, 1000, false);
	p->p_data[14] = 0x15; /* IP version 1 */
	fake_receives(lower, p);
	CHECK_EQ(port->pt_input(port, v, PORT_BURST, 0), 1);
	CHECK(v[0] == p);
	pkt_free(p);
	teardown();
}

TEST(a_full_lower_port_makes_the_sender_wait)
{
	struct pkt *v[4];
	uint32_t i;

	setup(1);
	lower->fk_room = 1;
	for (i = 0; i < 4; i++) {
		v[i] = fake_frame(pool, i, 60);
	}
	/* One burst is taken in; then the line is busy with it. */
	CHECK_EQ(port->pt_output(port, v, 3, 0), 3);
	CHECK_EQ(lower->fk_nout, 1);
	CHECK_EQ(port->pt_output(port, v + 3, 1, 0), 0);
	CHECK_EQ(port_poll_at(port), FAULT_RETRY_NS);
	lower->fk_error = -ENETDOWN;
	CHECK_EQ(port->pt_output(port, v + 3, 1, 1), -ENETDOWN);
	lower->fk_error = 0;
	lower->fk_room = 10;
	CHECK_EQ(port->pt_output(port, v + 3, 1, 2), 1);
	CHECK_EQ(lower->fk_nout, 4);
	for (i = 0; i < 4; i++) {
		CHECK_EQ(fake_number(lower->fk_out[i]), i);
	}
	CHECK_EQ(port_poll_at(port), PORT_NEVER);
	teardown();
}

TEST(errors_from_below_are_passed_on)
{
	struct pkt *v[1];

	setup(1);
	lower->fk_error = -ENETDOWN;
	CHECK_EQ(port->pt_input(port, v, 1, 0), -ENETDOWN);
	lower->fk_error = 0;
	CHECK_EQ(nic_set_promisc(port, 1), 0);
	CHECK_EQ(lower->fk_ctl, PORT_CTL_PROMISC);
	CHECK_EQ(nic_set_mtu(port, 1280), 0);
	CHECK_EQ(port->pt_mtu, 1280);
	teardown();
}

TEST(what_is_held_is_bounded)
{
	struct nic_fault cfg = { .delay_ns = MS };
	struct fault_link *l;
	uint32_t i;

	setup(1);
	set(0, cfg);
	l = &CONTAINER_OF(port, struct fault_port, f_port)->f_link[0];
	send_frame(0, 60, 0);
	/* The heap cannot grow past its limit: pretend it is there. */
	for (i = 1; i < 64; i++) {
		send_frame(i, 60, 0);
	}
	CHECK_EQ(l->l_heapcap, 64);
	l->l_heapcap = l->l_nheld = FAULT_HELD_MAX;
	send_frame(64, 60, 0);
	l->l_heapcap = l->l_nheld = 64;
	CHECK_EQ(stats(0).nomem, 1);
	CHECK_EQ(port->pt_stats.ps_txdrops, 1);
	teardown();
}

TEST(nonsense_is_refused)
{
	static const struct nic_fault bad[] = {
		{ .loss = -0.1 },
		{ .loss = 1.1 },
		{ .loss = NAN },
		{ .dup = INFINITY },
		{ .ge_p = 2 },
		{ .jitter_dist = 3 },
		{ .delay_ns = UINT64_MAX },
		{ .jitter_ns = UINT64_MAX },
		{ .reorder_gap_ns = UINT64_MAX },
		{ .rate_bps = UINT64_MAX },
		{ .rate_bps = 1, .queue_pkts = FAULT_QUEUE_MAX + 1 },
	};
	struct nic_fault good = { .loss = 0 };
	struct nic_fault_stats st;
	size_t i;

	setup(1);
	for (i = 0; i < NITEMS(bad); i++) {
		CHECK_EQ(nic_fault_set(port, 2, &bad[i]), -EINVAL);
	}
	CHECK_EQ(nic_fault_set(port, 3, &good), -EINVAL);
	CHECK_EQ(nic_fault_set(port, -1, &good), -EINVAL);
	CHECK_EQ(nic_fault_set(&lower->fk_port, 2, &good), -EINVAL);
	CHECK_EQ(nic_fault_stats(&lower->fk_port, 0, &st), -EINVAL);
	CHECK_EQ(nic_fault_stats(port, 2, &st), -EINVAL);
	teardown();
}

TEST(closing_frees_what_is_held)
{
	struct nic_fault cfg = { .delay_ns = MS };
	struct pkt *v[1];
	uint32_t i;

	setup(1);
	set(2, cfg);
	for (i = 0; i < 100; i++) {
		send_frame(i, 60, 0);
		fake_receives(lower, fake_frame(pool, i, 60));
	}
	CHECK_EQ(port->pt_input(port, v, 1, 0), 0);
	CHECK_EQ(stats(0).held, 100);
	CHECK_EQ(stats(1).held, 100);
	teardown();
}

TEST(the_generator_is_the_published_one)
{
	/* splitmix64 from 0 and xoshiro256** from 1, 2, 3, 4. */
	uint64_t state = 0;
	struct prng pr = { { 1, 2, 3, 4 } };

	CHECK_EQ(prng_splitmix(&state), 0xe220a8397b1dcdaf);
	CHECK_EQ(prng_splitmix(&state), 0x6e789e6aa1b965f4);
	CHECK_EQ(prng_next(&pr), 11520);
	CHECK_EQ(prng_next(&pr), 0);
	CHECK_EQ(prng_next(&pr), 1509978240);
	CHECK_EQ(prng_next(&pr), 1215971899390074240);
}

TESTS(RUN(nothing_set_passes_everything), RUN(a_seed_is_a_result),
    RUN(loss_has_its_rate_and_its_own_generator),
    RUN(loss_of_everything_and_of_nothing),
    RUN(a_flood_that_is_lost_ends_the_call), RUN(bursts_have_their_length),
    RUN(delay_is_kept_to_the_nanosecond),
    RUN(jitter_spreads_but_does_not_reorder), RUN(reorder_holds_a_packet_back),
    RUN(rate_spaces_packets_and_bounds_the_queue),
    RUN(rate_changes_while_packets_wait), RUN(a_duplicate_is_a_copy),
    RUN(corruption_is_one_bit_that_shows), RUN(mtu_counts_ip_bytes),
    RUN(a_partition_cuts_also_what_is_on_its_way),
    RUN(super_segments_are_cut_on_both_ways),
    RUN(a_super_segment_that_cannot_be_cut_is_one_unit),
    RUN(a_full_lower_port_makes_the_sender_wait),
    RUN(errors_from_below_are_passed_on), RUN(what_is_held_is_bounded),
    RUN(nonsense_is_refused), RUN(closing_frees_what_is_held),
    RUN(the_generator_is_the_published_one))
