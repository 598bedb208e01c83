/*
 * The class queue port, in virtual time: which class and flow goes first, who
 * is not starved, the rate, standing queues, senders that are stopped, and that
 * nothing is left over.
 */
#include <errno.h>

#include "nic/port_classq.c"
#include "nic/prng.h"
#include "tests/unit/c/fakeport.h"

#define MS UINT64_C(1000000)
#define SEC UINT64_C(1000000000)
#define MBIT UINT64_C(1000000)
#define FRAME 1514u
#define PATIENT 3600 * SEC /* a target that no packet misses */

static struct pkt_pool *pool;
static struct fake *lower;
static struct port *port;
static bool closed;

static void
setup_caps(struct nic_classq cfg, uint32_t caps)
{
	pool = nic_pool_new(64 << 20);
	lower = fake_open(pool, PORT_ETHER, caps, &closed);
	CHECK_EQ(nic_classq_wrap(&lower->fk_port, &cfg, &port), 0);
}

static void
setup(struct nic_classq cfg)
{
	setup_caps(cfg, PORT_SG);
}

static void
teardown(void)
{
	nic_close(port);
	CHECK(closed);
	CHECK_EQ(pool_active(pool), 0);
	nic_pool_free(pool);
}

static struct nic_classq_stats
stats(int queue)
{
	struct nic_classq_stats st;

	CHECK_EQ(nic_classq_stats(port, queue, &st), 0);
	return st;
}

static struct nic_classq_flow
flow(uint32_t id)
{
	struct nic_classq_flow v[64];
	int n = nic_classq_flows(port, v, 64);

	for (int i = 0; i < n; i++) {
		if (v[i].flowid == id) {
			return v[i];
		}
	}
	CHECK(!"flow known");
	return v[0];
}

static void
send_frame(uint32_t number, unsigned svc, uint32_t flowid, uint32_t len,
    uint64_t now)
{
	struct pkt *p = fake_frame(pool, number, len);

	p->p_svc = (uint8_t)svc;
	p->p_flowid = flowid;
	CHECK_EQ(port->pt_output(port, &p, 1, now), 1);
}

/* From one planned moment to the next, up to `end`. */
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

TEST(an_empty_queue_lets_everything_past)
{
	setup((struct nic_classq){ 0 });
	CHECK_EQ(port_poll_at(port), PORT_NEVER);
	for (uint32_t i = 0; i < 100; i++) {
		send_frame(i, i % SVC_COUNT, i, 100, i);
	}
	CHECK_EQ(lower->fk_nout, 100);
	for (uint32_t i = 0; i < 100; i++) {
		CHECK_EQ(fake_number(lower->fk_out[i]), i);
		CHECK_EQ(lower->fk_out[i]->p_time, 0);
	}
	CHECK_EQ(port_poll_at(port), PORT_NEVER);
	CHECK_EQ(stats(7).txpkts, 10); /* BE: 0, 11, 22, ... 99 */
	CHECK_EQ(stats(7).txbytes, 1000);
	CHECK_EQ(stats(2).txpkts, 18); /* VI and SIG */
	teardown();
}

TEST(what_the_port_leaves_is_queued_and_the_best_class_goes_first)
{
	static const unsigned by_queue[] = { SVC_CTL, SVC_VO, SVC_VI, SVC_RV,
		SVC_AV, SVC_OAM, SVC_RD, SVC_BE, SVC_BK, SVC_BK_SYS };

	setup((struct nic_classq){ 0 });
	lower->fk_room = 0;
	for (uint32_t i = 0; i < NITEMS(by_queue); i++) {
		send_frame(i, by_queue[NITEMS(by_queue) - 1 - i], 7, 100, 0);
	}
	CHECK_EQ(lower->fk_nout, 0);
	CHECK_EQ(port_poll_at(port), CQ_RETRY_NS);
	/* The first was on the point of leaving when the port was full. */
	lower->fk_room = FAKE_MAX;
	run(CQ_RETRY_NS);
	CHECK_EQ(lower->fk_nout, 10);
	CHECK_EQ(lower->fk_out[0]->p_svc, SVC_BK_SYS);
	for (uint32_t i = 0; i < 9; i++) {
		CHECK_EQ(lower->fk_out[1 + i]->p_svc, by_queue[i]);
	}
	CHECK_EQ(port_poll_at(port), PORT_NEVER);
	teardown();
}

/* Numbers of packets of each class among the first n sent. */
static void
count_classes(int n, int count[SVC_COUNT])
{
	memset(count, 0, SVC_COUNT * sizeof(*count));
	for (int i = 0; i < n; i++) {
		count[lower->fk_out[i]->p_svc]++;
	}
}

TEST(no_class_starves)
{
	int count[SVC_COUNT];

	setup((struct nic_classq){
	    .rate_bps = 10 * MBIT, .burst = FRAME, .target_ns = PATIENT });
	for (uint32_t i = 0; i < 300; i++) {
		send_frame(i, SVC_VO, 1, FRAME, 0);
		send_frame(i, SVC_BE, 2, FRAME, 0);
		send_frame(i, SVC_BK, 3, FRAME, 0);
	}
	run(UINT64_MAX - 1);
	CHECK_EQ(lower->fk_nout, 900);
	/* One flow each: voice has two quanta a round, the others one. */
	count_classes(400, count);
	CHECK(count[SVC_VO] >= 198 && count[SVC_VO] <= 202);
	CHECK(count[SVC_BE] >= 98 && count[SVC_BE] <= 102);
	CHECK(count[SVC_BK] >= 98 && count[SVC_BK] <= 102);
	teardown();
}

TEST(more_flows_get_a_class_more_up_to_its_maximum)
{
	int count[SVC_COUNT];

	setup((struct nic_classq){
	    .rate_bps = 10 * MBIT, .burst = FRAME, .target_ns = PATIENT });
	for (uint32_t i = 0; i < 800; i++) {
		send_frame(i, SVC_BE, 1 + i % 8, FRAME, 0);
		send_frame(i, SVC_BK, 21 + i % 8, FRAME, 0);
	}
	run(UINT64_MAX - 1);
	/* drr_max: four of best effort, two of background. */
	count_classes(600, count);
	CHECK(count[SVC_BE] >= 396 && count[SVC_BE] <= 404);
	CHECK(count[SVC_BK] >= 196 && count[SVC_BK] <= 204);
	teardown();
}

TEST(flows_of_a_class_share_it_and_a_new_one_goes_first)
{
	int seen[4] = { 0 }, before;

	setup((struct nic_classq){
	    .rate_bps = 10 * MBIT, .burst = FRAME, .target_ns = PATIENT });
	for (uint32_t i = 0; i < 200; i++) {
		send_frame(i, SVC_BE, 1, FRAME, 0);
	}
	for (uint32_t i = 0; i < 200; i++) {
		send_frame(i, SVC_BE, 2, FRAME / 2, 0);
	}
	run(50 * MS);
	before = lower->fk_nout;
	send_frame(9999, SVC_BE, 3, 100, 50 * MS);
	run(53 * MS);
	/* It is the very next. */
	seen[0] = fake_number(lower->fk_out[before]) == 9999;
	CHECK_EQ(seen[0], 1);
	run(UINT64_MAX - 1);
	CHECK_EQ(lower->fk_nout, 401);
	/* Equal bytes, not equal packets. */
	for (int i = 0; i < 90; i++) {
		seen[lower->fk_out[i]->p_flowid]++;
	}
	CHECK(seen[1] >= 29 && seen[1] <= 33);
	CHECK(seen[2] >= 57 && seen[2] <= 61);
	CHECK_EQ(flow(1).txpkts, 200);
	CHECK_EQ(flow(2).txbytes, 200 * (FRAME / 2));
	teardown();
}

TEST(packets_without_a_flow_are_told_apart_by_address)
{
	struct pkt *p;

	setup((struct nic_classq){ .rate_bps = 10 * MBIT, .burst = FRAME });
	for (int i = 0; i < 4; i++) {
		p = fake_packet(pool, i % 2 != 0 ? 6 : 4, 17, 100, 0, false);
		if (i >= 2) {
			p->p_data[i % 2 != 0 ? 14 + 39 : 14 + 19] = 77;
		}
		CHECK_EQ(port->pt_output(port, &p, 1, 0), 1);
	}
	CHECK_EQ(nic_classq_flows(port, NULL, 0), 4);
	teardown();
}

TEST(a_stream_of_several_classes_stays_in_order)
{
	struct pkt *p;

	setup((struct nic_classq){
	    .rate_bps = 10 * MBIT, .burst = 1, .target_ns = PATIENT });
	for (uint32_t i = 0; i < 60; i++) {
		static const uint8_t svc[6] = { SVC_BK, SVC_BK, SVC_VI, SVC_BK,
			SVC_BE, SVC_RD };

		p = fake_frame(pool, i, FRAME);
		p->p_svc = svc[i % 6];
		p->p_flowid = 4;
		p->p_flags = PKT_ORDERED;
		CHECK_EQ(port->pt_output(port, &p, 1, 0), 1);
		send_frame(1000 + i, SVC_BE, 5, FRAME, 0);
	}
	run(UINT64_MAX - 1);
	CHECK_EQ(lower->fk_nout, 120);
	for (uint32_t i = 0, next[2] = { 0, 0 }; i < 120; i++) {
		uint32_t number = fake_number(lower->fk_out[i]);

		CHECK_EQ(number % 1000, next[number / 1000]++);
	}
	for (int i = 0; i < SVC_QUEUES; i++) {
		CHECK_EQ(stats(i).pkts + stats(i).bytes + stats(i).flows, 0);
	}
	teardown();
}

TEST(the_rate_is_kept_after_the_burst)
{
	setup((struct nic_classq){
	    .rate_bps = 8 * MBIT, .burst = 4000, .target_ns = PATIENT });
	/* A quiet second earns one burst, not more. */
	for (uint32_t i = 0; i < 1000; i++) {
		send_frame(i, SVC_BE, 1, 1000, SEC);
	}
	CHECK_EQ(lower->fk_nout, 5);
	CHECK_EQ(port_poll_at(port), SEC + MS);
	run(UINT64_MAX - 1);
	CHECK_EQ(lower->fk_nout, 1000);
	for (int i = 5; i < 1000; i++) {
		/* 1000 bytes take a millisecond. */
		CHECK_EQ(lower->fk_when[i], SEC + (uint64_t)(i - 4) * MS);
	}
	teardown();
}

TEST(a_rate_that_divides_nothing_loses_nothing)
{
	setup((struct nic_classq){
	    .rate_bps = 7777777, .burst = 1, .target_ns = PATIENT });
	for (uint32_t i = 0; i < 1500; i++) {
		send_frame(i, SVC_BE, 1, 777, 0);
	}
	run(UINT64_MAX - 1);
	CHECK_EQ(lower->fk_when[1499], 1499 * UINT64_C(777) * 8 * SEC / 7777777);
	teardown();
}

TEST(a_rate_cuts_super_segments_first)
{
	struct pkt *p;

	setup_caps((struct nic_classq){ .rate_bps = 10 * MBIT, .burst = 1 },
	    PORT_SG | PORT_TXCSUM | PORT_TSO4);
	CHECK_EQ(port->pt_caps & PORT_TSO, 0);
	p = fake_packet(pool, 4, 6, 10000, 1000, true);
	CHECK_EQ(port->pt_output(port, &p, 1, SEC), 1);
	CHECK_EQ(lower->fk_nout, 1);
	run(UINT64_MAX - 1);
	CHECK_EQ(lower->fk_nout, 10);
	for (int i = 0; i < 10; i++) {
		CHECK_EQ(lower->fk_out[i]->p_pktlen, 54 + 1000);
		CHECK_EQ(lower->fk_out[i]->p_flags & PKT_CSUM_PARTIAL,
		    PKT_CSUM_PARTIAL);
	}
	teardown();
}

TEST(without_a_rate_super_segments_pass)
{
	struct pkt *p;

	setup_caps((struct nic_classq){ 0 }, PORT_SG | PORT_TXCSUM | PORT_TSO4);
	p = fake_packet(pool, 4, 6, 10000, 1000, true);
	CHECK_EQ(port->pt_output(port, &p, 1, 0), 1);
	CHECK_EQ(lower->fk_nout, 1);
	CHECK_EQ(lower->fk_out[0]->p_pktlen, 10054);
	teardown();
}

TEST(at_the_limit_the_longest_flow_loses_its_head)
{
	setup((struct nic_classq){ .rate_bps = MBIT, .burst = 1, .limit = 50 });
	send_frame(0, SVC_BE, 9, FRAME, 0);
	for (uint32_t i = 0; i < 40; i++) {
		send_frame(i, SVC_BK, 1, FRAME, 0);
	}
	for (uint32_t i = 0; i < 30; i++) {
		send_frame(100 + i, SVC_BE, 2, 100, 0);
	}
	CHECK_EQ(stats(8).overflow, 20);
	CHECK_EQ(stats(8).pkts, 20);
	CHECK_EQ(stats(7).pkts, 30);
	CHECK_EQ(stats(7).overflow, 0);
	CHECK_EQ(flow(1).drops, 20);
	CHECK_EQ(port->pt_stats.ps_txdrops, 20);
	run(UINT64_MAX - 1);
	for (int i = 0; i < lower->fk_nout; i++) {
		if (lower->fk_out[i]->p_svc == SVC_BK) {
			CHECK_EQ(fake_number(lower->fk_out[i]), 20);
			break;
		}
	}
	teardown();
}

TEST(a_standing_queue_is_signalled_by_loss_of_its_head)
{
	uint64_t now = SEC;
	uint32_t number = 0;

	/* Twice what the line takes, for two seconds. */
	setup((struct nic_classq){ .rate_bps = 10 * MBIT, .burst = FRAME });
	for (; now < 3 * SEC; now += 606 * 1000) {
		run(now);
		send_frame(number++, SVC_BE, 5, FRAME, now);
		if (now < SEC + 100 * MS) {
			CHECK_EQ(stats(7).aqm, 0); /* not before an interval */
		}
	}
	CHECK(stats(7).aqm > 10);
	CHECK(flow(5).flags & CQF_DELAY_HIGH);
	CHECK_EQ(flow(5).drops, stats(7).aqm + stats(7).overflow);
	CHECK(flow(5).mindelay_ns > 10 * MS);
	teardown();
}

TEST(a_short_burst_is_not_punished)
{
	setup((struct nic_classq){ .rate_bps = 10 * MBIT, .burst = FRAME });
	/* 60 ms of queue, gone before the interval ends. */
	for (uint32_t i = 0; i < 50; i++) {
		send_frame(i, SVC_BE, 5, FRAME, SEC);
	}
	run(UINT64_MAX - 1);
	CHECK_EQ(lower->fk_nout, 50);
	CHECK_EQ(stats(7).aqm, 0);
	CHECK(stats(7).maxdelay_ns > 55 * MS && stats(7).maxdelay_ns < 62 * MS);
	teardown();
}

static void
overload_ect(int version, uint64_t end)
{
	for (uint64_t now = SEC; now < end; now += 400 * 1000) {
		struct pkt *p = fake_packet(pool, version, 6, 946, 0, true);
		uint8_t *ip = p->p_data + 14;
		uint16_t sum;

		p->p_flowid = 5;
		if (version == 4) {
			ip[1] = 0x02; /* ECT(0) */
			memset(ip + 10, 0, 2);
			sum = (uint16_t)~csum_fold(csum_add(ip, 20, 0));
			memcpy(ip + 10, &sum, 2);
		} else {
			ip[1] = 0x20;
		}
		run(now);
		CHECK_EQ(port->pt_output(port, &p, 1, now), 1);
	}
}

TEST(ecn_capable_packets_are_marked_not_dropped)
{
	for (int version = 4; version <= 6; version += 2) {
		uint32_t marked = 0;

		setup((struct nic_classq){
		    .rate_bps = 10 * MBIT, .burst = FRAME });
		overload_ect(version, 2 * SEC);
		CHECK(stats(7).marks > 3);
		CHECK_EQ(stats(7).aqm, 0);
		for (int i = 0; i < lower->fk_nout; i++) {
			const uint8_t *ip = lower->fk_out[i]->p_data + 14;

			if (version == 4) {
				CHECK_EQ(csum_fold(csum_add(ip, 20, 0)), 0xffff);
				marked += (ip[1] & 3) == 3;
			} else {
				marked += (ip[1] >> 4 & 3) == 3;
			}
		}
		CHECK_EQ(marked, stats(7).marks);
		teardown();
	}
}

TEST(ecn_can_be_switched_off)
{
	setup((struct nic_classq){
	    .rate_bps = 10 * MBIT, .burst = FRAME, .no_ecn = 1 });
	overload_ect(4, 2 * SEC);
	CHECK_EQ(stats(7).marks, 0);
	CHECK(stats(7).aqm > 3);
	teardown();
}

TEST(a_mark_needs_storage_of_its_own)
{
	struct pkt *p;

	setup((struct nic_classq){ 0 });
	p = fake_packet(pool, 4, 6, 10, 0, false);
	CHECK(!codel_mark(p, 14)); /* not ECN-capable */
	p->p_data[15] = 0x01;
	pkt_ext_hold(p->p_ext);
	CHECK(!codel_mark(p, 14));
	pkt_ext_drop(p->p_ext);
	CHECK(codel_mark(p, 14));
	CHECK_EQ(p->p_data[15], 0x03);
	CHECK(codel_mark(p, 14)); /* marked it is already */
	p->p_len = 20;
	CHECK(!codel_mark(p, 14));
	p->p_len = p->p_pktlen;
	p->p_data[12] = 0x81; /* a VLAN tag: not looked into */
	CHECK(!codel_mark(p, 14));
	pkt_free(p);
	teardown();
}

static int notified;

static void
notify(void *arg)
{
	(void)arg;
	notified++;
}

TEST(a_local_sender_is_stopped_and_loses_nothing)
{
	struct flow_adv entry[8] = { 0 };
	struct flow_advtab tab = {
		.ft_mask = 7, .ft_entry = entry, .ft_notify = notify
	};
	uint32_t number = 0;
	uint64_t now = SEC, stopped = 0, worst = 0;

	setup((struct nic_classq){ .rate_bps = 10 * MBIT, .burst = FRAME });
	notified = 0;
	atomic_store(&entry[5].fa_flowid, 5);
	atomic_store(&entry[5].fa_flags, FLOWADV_VALID);
	CHECK_EQ(port->pt_ops->po_ctl(port, PORT_CTL_FLOWADV, &tab), 0);
	for (; now < 5 * SEC; now += 606 * 1000) {
		run(now);
		if (flow_suspended(&tab, 5)) {
			stopped++;
			continue;
		}
		send_frame(number++, SVC_BE, 5, FRAME, now);
		if (now > 2 * SEC && flow(5).bytes > worst) {
			worst = flow(5).bytes;
		}
	}
	run(UINT64_MAX - 1);
	CHECK(stats(7).suspends >= 5);
	CHECK(notified >= 5);
	CHECK_EQ(atomic_load(&tab.ft_gen), (unsigned)notified);
	CHECK(stopped > 1000);
	CHECK_EQ(stats(7).aqm + stats(7).overflow, 0);
	CHECK_EQ(lower->fk_nout, (int)number);
	CHECK(!flow_suspended(&tab, 5));
	/* The line was never left without work: 10 Mbit/s of four seconds. */
	CHECK(number > 3250);
	CHECK(worst < 300000);
	CHECK_EQ(atomic_load(&entry[5].fa_ce), stats(7).suspends);
	teardown();
}

TEST(a_stopped_sender_goes_on_when_the_table_goes)
{
	struct flow_adv entry[8] = { 0 };
	struct flow_advtab tab = {
		.ft_mask = 7, .ft_entry = entry, .ft_notify = notify
	};

	setup((struct nic_classq){ .rate_bps = MBIT, .burst = 1, .limit = 20 });
	notified = 0;
	atomic_store(&entry[5].fa_flowid, 5);
	CHECK_EQ(port->pt_ops->po_ctl(port, PORT_CTL_FLOWADV, &tab), 0);
	for (uint32_t i = 0; i < 12; i++) {
		send_frame(i, SVC_BE, 5, FRAME, 0);
	}
	CHECK(flow_suspended(&tab, 5)); /* near the limit */
	CHECK_EQ(port->pt_ops->po_ctl(port, PORT_CTL_FLOWADV, NULL), 0);
	CHECK(!flow_suspended(&tab, 5));
	CHECK_EQ(notified, 1);
	teardown();
}

TEST(more_flows_than_there_are_places_share)
{
	setup((struct nic_classq){
	    .rate_bps = MBIT, .burst = 1, .target_ns = PATIENT });
	for (uint32_t i = 0; i < CQ_FLOWS + 100; i++) {
		send_frame(i, SVC_BE, 1 + i, 100, 0);
	}
	CHECK_EQ(nic_classq_flows(port, NULL, 0), CQ_FLOWS);
	run(UINT64_MAX - 1);
	CHECK_EQ(lower->fk_nout, CQ_FLOWS + 100);
	/* Idle ones are forgotten as others come, four at a time. */
	send_frame(1, SVC_BK, 1 << 20, 100, 100 * SEC);
	CHECK(nic_classq_flows(port, NULL, 0) < (int)CQ_FLOWS);
	teardown();
}

TEST(a_new_rate_holds_from_the_next_packet_on)
{
	struct nic_classq cfg = { .rate_bps = 8 * MBIT, .burst = 1 };

	setup((struct nic_classq){ 0 });
	CHECK_EQ(nic_classq_set(port, &cfg), 0);
	CHECK_EQ(port_poll_at(port), 0);
	for (uint32_t i = 0; i < 10; i++) {
		send_frame(i, SVC_BE, 1, 1000, SEC);
	}
	CHECK_EQ(lower->fk_nout, 1);
	cfg.rate_bps = 0;
	CHECK_EQ(nic_classq_set(port, &cfg), 0);
	run(SEC);
	CHECK_EQ(lower->fk_nout, 10);
	cfg.rate_bps = UINT64_MAX;
	CHECK_EQ(nic_classq_set(port, &cfg), -EINVAL);
	CHECK_EQ(nic_classq_set(&lower->fk_port, &cfg), -EINVAL);
	CHECK_EQ(nic_classq_stats(port, 10, NULL), -EINVAL);
	teardown();
}

TEST(a_broken_port_is_told)
{
	struct pkt *p;

	setup((struct nic_classq){ 0 });
	lower->fk_error = -ENETDOWN;
	p = fake_frame(pool, 1, 100);
	CHECK_EQ(port->pt_output(port, &p, 1, 0), -ENETDOWN);
	pkt_free(p);
	lower->fk_error = -ENOBUFS; /* full, that is */
	send_frame(2, SVC_BE, 1, 100, 0);
	lower->fk_error = 0;
	run(SEC);
	CHECK_EQ(lower->fk_nout, 1);
	teardown();
}

TEST(closing_frees_what_waits)
{
	setup((struct nic_classq){ .rate_bps = MBIT, .burst = 1 });
	for (uint32_t i = 0; i < 200; i++) {
		send_frame(i, i % SVC_COUNT, i % 30, FRAME, 0);
	}
	teardown();
}

/* What the scheduler counts agrees with what it holds. */
static void
check_counts(void)
{
	const struct classq *q = &classq_of(port)->p_q;
	uint32_t pkts = 0, free = 0;

	for (const struct cq_node *n = q->q_freenode; n != NULL; n = n->n_next) {
		free++;
	}
	for (unsigned i = 0; i < SVC_QUEUES; i++) {
		const struct cq_class *c = &q->q_class[i];
		uint32_t held = c->c_shared.f_pkts, bytes = c->c_shared.f_bytes;
		uint32_t flows = held > 0;

		for (uint32_t k = 0; k < CQ_FLOWS; k++) {
			const struct cq_flow *f = &q->q_flows[k];

			if (f->f_queue == i && f->f_pkts > 0) {
				CHECK(!(f->f_flags & CQF_IDLE));
				held += f->f_pkts;
				bytes += f->f_bytes;
				flows++;
			}
		}
		CHECK_EQ(c->c_pkts, held);
		CHECK_EQ(c->c_bytes, bytes);
		CHECK_EQ(c->c_nflows, flows);
		pkts += held;
	}
	CHECK_EQ(q->q_pkts, pkts);
	CHECK_EQ(free + pkts, q->q_limit);
}

static void
play(uint64_t seed)
{
	enum { STREAMS = 12, TOTAL = 3500 };
	uint32_t last[STREAMS] = { 0 }, sent = 0;
	struct flow_adv entry[16] = { 0 };
	struct flow_advtab tab = {
		.ft_mask = 15, .ft_entry = entry, .ft_notify = notify
	};
	struct nic_classq_stats st;
	uint64_t now = SEC, dropped = 0;
	struct prng r;

	prng_init(&r, seed, 0);
	setup((struct nic_classq){ .rate_bps = (1 + prng_below(&r, 50)) * MBIT,
	    .limit = 16 + prng_below(&r, 400) });
	for (uint32_t i = 1; i < 16; i += 2) {
		atomic_store(&entry[i].fa_flowid, i);
	}
	CHECK_EQ(port->pt_ops->po_ctl(port, PORT_CTL_FLOWADV, &tab), 0);
	while (sent < TOTAL) {
		uint32_t flowid = 1 + prng_below(&r, STREAMS);
		uint32_t burst = prng_below(&r, 20);

		for (uint32_t i = 0; i < burst && sent < TOTAL; i++) {
			struct pkt *p = fake_frame(pool, ++sent,
			    60 + prng_below(&r, FRAME - 60));

			p->p_svc = (uint8_t)prng_below(&r, SVC_COUNT + 2);
			p->p_flowid = flowid;
			p->p_flags = flowid % 3 != 0 ? PKT_ORDERED : 0;
			CHECK_EQ(port->pt_output(port, &p, 1, now), 1);
		}
		now += prng_below(&r, 4) == 0 ? prng_below(&r, 200) * MS :
						prng_below(&r, 1000) * 1000;
		lower->fk_room = prng_below(&r, 3) == 0 ? 0 : FAKE_MAX;
		(void)port->pt_input(port, (struct pkt *[1]){ NULL }, 1, now);
		if (sent % 8 == 0) {
			check_counts();
		}
	}
	lower->fk_room = FAKE_MAX;
	run(now + 3600 * SEC);
	check_counts();
	for (int i = 0; i < SVC_QUEUES; i++) {
		CHECK_EQ(nic_classq_stats(port, i, &st), 0);
		CHECK_EQ(st.pkts, 0);
		dropped += st.overflow + st.aqm;
	}
	CHECK_EQ((uint64_t)lower->fk_nout + dropped, sent);
	CHECK_EQ(port->pt_stats.ps_txdrops, dropped);
	for (int i = 0; i < lower->fk_nout; i++) {
		uint32_t number = fake_number(lower->fk_out[i]);
		uint32_t *prev = &last[lower->fk_out[i]->p_flowid - 1];

		if (lower->fk_out[i]->p_flags & PKT_ORDERED) {
			CHECK(number > *prev); /* whatever the classes */
			*prev = number;
		}
	}
	for (uint32_t i = 1; i < 16; i++) {
		CHECK(!flow_suspended(&tab, i));
	}
	teardown();
}

TEST(whatever_comes_is_sent_or_counted_and_streams_keep_their_order)
{
	for (uint64_t seed = 1; seed <= 20; seed++) {
		play(seed);
	}
}

TEST(the_class_table_agrees_with_itself)
{
	for (int i = 0; i < SVC_COUNT; i++) {
		const struct svc_class *c = svc_class(i);

		CHECK_EQ(svc_of_sotc(c->sv_sotc), i);
		CHECK(c->sv_nst < 0 || svc_of_nst(c->sv_nst) == i);
		CHECK(c->sv_queue < SVC_QUEUES);
		/* The decode rules of the 32-bit codes. */
		if (i != SVC_SIG) {
			CHECK_EQ((c->sv_sc >> 16 & 0xff) >> 3, i);
		}
		CHECK_EQ((c->sv_sc & 0xffff) >> 7, c->sv_wmm);
		CHECK_EQ(svc_dscp(i, QOSMARK_OFF), 0);
	}
	CHECK(svc_class(SVC_COUNT) == NULL);
	CHECK_EQ(svc_of_sotc(450), -1);
	CHECK_EQ(svc_of_nst(9), -1);
	CHECK_EQ(svc_queue(200), 7);
	CHECK_EQ(svc_dscp(SVC_VO, QOSMARK_FASTLANE), 46);
	CHECK_EQ(svc_dscp(SVC_CTL, QOSMARK_FASTLANE), 0);
	CHECK_EQ(svc_dscp(SVC_SIG, QOSMARK_RFC4594), 40);
	CHECK_EQ(svc_wmm_of_dscp(46), WMM_VI);
	CHECK_EQ(svc_wmm_of_dscp(48), WMM_VO);
	CHECK_EQ(svc_wmm_of_dscp(8), WMM_BK);
	CHECK_EQ(svc_of_dscp(46), SVC_BE); /* no elevation */
	CHECK_EQ(svc_of_dscp(10), SVC_BK);
	CHECK_EQ(svc_clamp(SVC_VO), SVC_BE);
	CHECK_EQ(svc_clamp(SVC_BK_SYS), SVC_BK);
}

TESTS(RUN(an_empty_queue_lets_everything_past),
    RUN(what_the_port_leaves_is_queued_and_the_best_class_goes_first),
    RUN(no_class_starves), RUN(more_flows_get_a_class_more_up_to_its_maximum),
    RUN(flows_of_a_class_share_it_and_a_new_one_goes_first),
    RUN(packets_without_a_flow_are_told_apart_by_address),
    RUN(a_stream_of_several_classes_stays_in_order),
    RUN(the_rate_is_kept_after_the_burst),
    RUN(a_rate_that_divides_nothing_loses_nothing),
    RUN(a_rate_cuts_super_segments_first),
    RUN(without_a_rate_super_segments_pass),
    RUN(at_the_limit_the_longest_flow_loses_its_head),
    RUN(a_standing_queue_is_signalled_by_loss_of_its_head),
    RUN(a_short_burst_is_not_punished),
    RUN(ecn_capable_packets_are_marked_not_dropped),
    RUN(ecn_can_be_switched_off), RUN(a_mark_needs_storage_of_its_own),
    RUN(a_local_sender_is_stopped_and_loses_nothing),
    RUN(a_stopped_sender_goes_on_when_the_table_goes),
    RUN(more_flows_than_there_are_places_share),
    RUN(a_new_rate_holds_from_the_next_packet_on), RUN(a_broken_port_is_told),
    RUN(closing_frees_what_waits),
    RUN(whatever_comes_is_sent_or_counted_and_streams_keep_their_order),
    RUN(the_class_table_agrees_with_itself))
