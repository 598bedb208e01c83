/*
 * A CLIENT port of the flowswitch joined to a channel, or to a port that is full.
 */
#include "skywalk/api.h"
#include "tests/unit/c/fswnet.h"

static const struct sk_params params = { .slots = 64,
	.packets = 128,
	.buffer = 2048,
	.buflets = 512,
	.max_frags = 33 };

/* Client 0 of net joined to one end of a channel; far is the other end's port. */
static struct sk_join *
join_channel(struct net *net, struct port **near, struct port **far)
{
	struct channel *ch[2];
	struct sk_join *jn;

	CHECK_EQ(sk_pipe_open(&params, ch), 0);
	CHECK_EQ(sk_channel_port(ch[0], net->n_clientpool, 1, 1500, near), 0);
	CHECK_EQ(sk_channel_port(ch[1], net->n_clientpool, 1, 1500, far), 0);
	CHECK_EQ(sk_join_open(*near, net->n_client[0], &jn), 0);
	return jn;
}

static void
channel_gone(struct sk_join *jn, struct port *near, struct port *far)
{
	sk_join_close(jn);
	near->pt_ops->po_close(near);
	far->pt_ops->po_close(far);
}

static struct seg
seg_in(uint32_t seq, uint32_t len)
{
	return (struct seg){ .s_proto = TCP,
		.s_src = 2,
		.s_dst = 1,
		.s_sport = 80,
		.s_dport = 5000,
		.s_seq = seq,
		.s_flags = ACK,
		.s_len = len,
		.s_fill = seq };
}

static struct seg
seg_out(uint32_t seq)
{
	return (struct seg){ .s_proto = TCP,
		.s_src = 1,
		.s_dst = 2,
		.s_sport = 5000,
		.s_dport = 80,
		.s_seq = seq,
		.s_flags = ACK,
		.s_len = 100 };
}

/* What the switch joined crosses the channel. */
TEST(an_aggregate_crosses)
{
	struct net *net = net_open(PORT_ETHER, 0, NULL, 1);
	struct port *near, *far;
	struct sk_join *jn = join_channel(net, &near, &far);
	struct pkt *v[PORT_BURST];
	uint8_t b[10000];

	CHECK_EQ(net_reserve(net, 0, net_key(4, TCP, 1, 5000, 2, 80), 0), 0);
	for (uint32_t i = 0; i < 6; i++) {
		net_receives(net, seg_in(1 + 1400 * i, 1400));
	}
	CHECK_EQ(net_poll(net, NULL), 0);
	CHECK_EQ(sk_join_run(jn, net->n_now), 0);
	CHECK_EQ(far->pt_input(far, v, PORT_BURST, net->n_now), 1);
	CHECK_EQ(far->pt_stats.ps_rxerrs, 0);
	CHECK_EQ(v[0]->p_pktlen, 40 + 6 * 1400);
	CHECK_EQ(v[0]->p_gso_size, 1400);
	CHECK_EQ(v[0]->p_gso_type, PKT_GSO_TCPV4);
	CHECK(pkt_copyout(v[0], 0, v[0]->p_pktlen, b));
	for (uint32_t i = 0; i < 6 * 1400; i++) {
		CHECK_EQ(b[40 + i], (uint8_t)(1 + i));
	}
	pkt_free(v[0]);
	channel_gone(jn, near, far);
	net_close(net);
}

/* An id of the other process's stack is not taken for one of ours. */
TEST(flow_ids_stay_behind)
{
	struct net *net = net_open(PORT_ETHER, 0, NULL, 2);
	struct port *near, *far;
	struct sk_join *jn = join_channel(net, &near, &far);
	uint32_t id = net_attach(net, 1, net_key(4, TCP, 1, 6000, 2, 80));
	struct seg s = seg_out(1);
	struct pkt *p;

	CHECK_EQ(net_reserve(net, 0, net_key(4, TCP, 1, 5000, 2, 80), 0), 0);
	s.s_flowid = id;
	p = net_packet(net, &s);
	CHECK_EQ(far->pt_output(far, &p, 1, net->n_now), 1);
	CHECK_EQ(sk_join_run(jn, net->n_now), 0);
	CHECK_EQ(net->n_dev->fk_nout, 1);
	CHECK_EQ(net_stat(net, "tx_flow_bad_id"), 0);
	CHECK_EQ(net_stat(net, "tx_flow_stale"), 0);
	channel_gone(jn, near, far);
	net_close(net);
}

/* DEV is full and says nothing when it no longer is: the join asks for a run. */
TEST(a_refusal_is_tried_again)
{
	struct sk_fsw_cfg cfg = { .backlog = 4 };
	struct net *net = net_open(PORT_ETHER, 0, &cfg, 1);
	struct port *near, *far;
	struct sk_join *jn = join_channel(net, &near, &far);
	uint64_t at;

	CHECK_EQ(net_reserve(net, 0, net_key(4, TCP, 1, 5000, 2, 80), 0), 0);
	CHECK_EQ(sk_join_run(jn, net->n_now), 0);
	CHECK(sk_join_poll_at(jn) == PORT_NEVER);
	net->n_dev->fk_room = 0;
	for (uint32_t i = 0; i < 20; i++) {
		struct seg s = seg_out(1 + 100 * i);
		struct pkt *p = net_packet(net, &s);

		CHECK_EQ(far->pt_output(far, &p, 1, net->n_now), 1);
		CHECK_EQ(sk_join_run(jn, net->n_now), 0);
	}
	CHECK_EQ(net->n_dev->fk_nout, 0);
	net->n_dev->fk_room = FAKE_MAX;
	for (int turn = 0; turn < 20 && net->n_dev->fk_nout < 20; turn++) {
		at = sk_join_poll_at(jn);
		CHECK(at > net->n_now && at <= net->n_now + SEC / 100);
		net->n_now = at;
		CHECK_EQ(sk_join_run(jn, net->n_now), 0);
	}
	CHECK_EQ(net->n_dev->fk_nout, 20);
	for (uint32_t i = 0; i < 20; i++) {
		uint8_t b[54];

		CHECK(pkt_copyout(net->n_dev->fk_out[i], 0, 54, b));
		CHECK_EQ(net_get32(b + 14 + 24), 1 + 100 * i);
	}
	CHECK_EQ(net_stat(net, "tx_nobufs"), 0);
	channel_gone(jn, near, far);
	net_close(net);
}

/* Segments that a port's door has cut are pushed on by the join alone. */
TEST(what_a_door_holds_is_sent)
{
	struct net *net = net_open(PORT_ETHER, 0, NULL, 1);
	struct channel *ch[2];
	struct port *near, *far;
	struct sk_join *jn;
	struct fake *out;
	struct seg s = seg_out(1);
	struct pkt *p;
	bool closed;

	out = fake_open(net->n_pool, PORT_RAWIP, 0, &closed);
	CHECK_EQ(sk_pipe_open(&params, ch), 0);
	CHECK_EQ(sk_channel_port(ch[0], net->n_clientpool, 1, 1500, &near), 0);
	CHECK_EQ(sk_channel_port(ch[1], net->n_clientpool, 1, 1500, &far), 0);
	CHECK_EQ(sk_join_open(near, &out->fk_port, &jn), 0);
	s.s_len = 5000;
	s.s_partial = true;
	p = net_packet(net, &s);
	p->p_gso_type = PKT_GSO_TCPV4;
	p->p_gso_size = 1000;
	p->p_hdrlen = 40;
	CHECK_EQ(far->pt_output(far, &p, 1, net->n_now), 1);
	out->fk_room = 2;
	CHECK_EQ(sk_join_run(jn, net->n_now), 0);
	CHECK_EQ(out->fk_nout, 2);
	CHECK(sk_join_poll_at(jn) > net->n_now);
	CHECK(sk_join_poll_at(jn) != PORT_NEVER);
	out->fk_room = FAKE_MAX;
	CHECK_EQ(sk_join_run(jn, sk_join_poll_at(jn)), 0);
	CHECK_EQ(out->fk_nout, 5);
	CHECK(sk_join_poll_at(jn) == PORT_NEVER);
	channel_gone(jn, near, far);
	out->fk_port.pt_ops->po_close(&out->fk_port);
	CHECK(closed);
	net_close(net);
}

TESTS(RUN(an_aggregate_crosses), RUN(flow_ids_stay_behind),
    RUN(a_refusal_is_tried_again), RUN(what_a_door_holds_is_sent))
