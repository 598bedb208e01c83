/*
 * Segments of one burst become one, if cutting it gives them back.
 */
#include "tests/unit/c/fswnet.h"

static struct seg
seg_of(uint32_t seq, uint32_t len, uint8_t flags)
{
	return (struct seg){ .s_proto = TCP,
		.s_src = 2,
		.s_dst = 1,
		.s_sport = 80,
		.s_dport = 5000,
		.s_seq = seq,
		.s_ack = 7,
		.s_flags = flags,
		.s_len = len,
		.s_fill = seq };
}

static struct net *
agg_open(uint32_t caps, const struct sk_fsw_cfg *cfg)
{
	struct net *net = net_open(PORT_ETHER, caps, cfg, 2);

	net_attach(net, 0, net_key(4, TCP, 1, 5000, 2, 80));
	net_attach(net, 1, net_key(6, TCP, 1, 5000, 2, 80));
	return net;
}

static void
joined(int version)
{
	struct net *net = agg_open(0, NULL);
	struct seg s = seg_of(1, 1000, ACK);
	struct pkt *v[PORT_BURST], *p;
	uint32_t l4 = version == 4 ? 20 : 40, total = l4 + 20 + 9500;
	uint8_t *b = calloc(1, total + 14);
	uint16_t sum;

	s.s_version = version;
	for (int i = 0; i < 9; i++) {
		net_receives(net, s);
		s.s_seq += 1000;
		s.s_fill += 1000;
	}
	s.s_len = 500;
	s.s_flags = ACK | PSH;
	net_receives(net, s);
	CHECK_EQ(net_poll(net, NULL), 0);
	CHECK_EQ(net_recv(net, version == 6, v), 1);
	p = v[0];
	CHECK_EQ(p->p_pktlen, total);
	CHECK_EQ(p->p_gso_size, 1000);
	CHECK_EQ(p->p_gso_type, version == 4 ? PKT_GSO_TCPV4 : PKT_GSO_TCPV6);
	CHECK_EQ(p->p_hdrlen, l4 + 20);
	CHECK(p->p_flags & PKT_CSUM_VALID);
	/* Open, as that of any super-segment: it may be sent on. */
	CHECK(p->p_flags & PKT_CSUM_PARTIAL);
	CHECK_EQ(p->p_csum_start, l4);
	CHECK_EQ(p->p_csum_offset, 16);
	CHECK(pkt_copyout(p, 0, total, b));
	memcpy(&sum, b + l4 + 16, 2);
	CHECK_EQ(sum, csum_fold(csum_pseudo(b, version, TCP, total - l4)));
	CHECK_EQ(version == 4 ? get16(b + 2) : get16(b + 4) + 40, total);
	CHECK_EQ(b[l4 + 13], ACK | PSH);
	CHECK_EQ(net_get32(b + l4 + 4), 1);
	if (version == 4) {
		CHECK_EQ(csum_fold(csum_add(b, 20, 0)), 0xffff);
	}
	for (uint32_t i = 0; i < 9500; i++) {
		CHECK_EQ(b[l4 + 20 + i], (uint8_t)(1 + i));
	}
	CHECK_EQ(net_stat(net, "rx_aggregated"), 9);
	pkt_free(p);
	free(b);
	net_close(net);
}

TEST(a_burst_is_joined)
{
	joined(4);
	joined(6);
}

/* How many packets two segments and what is between them become. */
static int
become(struct net *net, struct seg a, struct seg b)
{
	int k;

	net_receives(net, a);
	net_receives(net, b);
	CHECK_EQ(net_poll(net, NULL), 0);
	k = net_recv(net, 0, NULL);
	CHECK_EQ(net_recv(net, 0, NULL), 0);
	return k;
}

TEST(only_neighbours_are_joined)
{
	struct net *net = agg_open(0, NULL);
	struct seg a = seg_of(1, 100, ACK), b = seg_of(101, 100, ACK), c;

	CHECK_EQ(become(net, a, b), 1);
	c = b;
	c.s_seq = 102; /* a hole */
	CHECK_EQ(become(net, a, c), 2);
	c = b;
	c.s_ack = 8;
	CHECK_EQ(become(net, a, c), 2);
	c = b;
	c.s_flags = ACK | 0x40; /* ECE */
	CHECK_EQ(become(net, a, c), 2);
	c = b;
	c.s_len = 101; /* longer than the first */
	CHECK_EQ(become(net, a, c), 2);
	c = b;
	c.s_len = 0; /* a bare acknowledgement */
	CHECK_EQ(become(net, a, c), 2);
	c = b;
	c.s_badsum = true;
	CHECK_EQ(become(net, a, c), 2);
	c = a;
	c.s_flags = ACK | PSH; /* what is pushed does not wait */
	CHECK_EQ(become(net, c, b), 2);
	c = a;
	c.s_badsum = true;
	CHECK_EQ(become(net, c, b), 2);
	c = a;
	c.s_flags = ACK | FIN;
	CHECK_EQ(become(net, c, b), 2);
	net_close(net);
}

/* The stack sees the bad checksum itself. */
TEST(a_bad_checksum_is_not_vouched_for)
{
	struct net *net = agg_open(0, NULL);
	struct seg s = seg_of(1, 100, ACK);
	struct pkt *v[PORT_BURST];

	s.s_badsum = true;
	net_receives(net, s);
	CHECK_EQ(net_poll(net, NULL), 0);
	CHECK_EQ(net_recv(net, 0, v), 1);
	CHECK_EQ(v[0]->p_flags & PKT_CSUM_VALID, 0);
	pkt_free(v[0]);
	net_close(net);
}

/* Packets of others in between do not change the order of a flow's own. */
TEST(two_flows_in_one_burst)
{
	struct net *net = agg_open(0, NULL);
	struct pkt *v[PORT_BURST];
	uint32_t next = 1;
	int k;

	net_attach(net, 0, net_key(4, TCP, 1, 5000, 3, 80));
	for (uint32_t i = 0; i < 6; i++) {
		struct seg s = seg_of(1 + 100 * i, 100, ACK);

		net_receives(net, s);
		if (i % 3 == 2) {
			s.s_src = 3;
			net_receives(net, s);
		}
	}
	CHECK_EQ(net_poll(net, NULL), 0);
	k = net_recv(net, 0, v);
	CHECK(k >= 3 && k < 8);
	for (int i = 0; i < k; i++) {
		if (v[i]->p_data[15] == 2) {
			CHECK_EQ(net_get32(v[i]->p_data + 24), next);
			next += v[i]->p_pktlen - 40;
		}
		pkt_free(v[i]);
	}
	CHECK_EQ(next, 601);
	net_close(net);
}

TEST(the_limit)
{
	struct sk_fsw_cfg cfg = { .agg_max = 16384 };
	struct net *net = agg_open(0, &cfg);
	struct pkt *v[PORT_BURST];
	int k;

	for (uint32_t i = 0; i < 40; i++) {
		net_receives(net, seg_of(1 + 1400 * i, 1400, ACK));
	}
	CHECK_EQ(net_poll(net, NULL), 0);
	k = net_recv(net, 0, v);
	CHECK_EQ(k, 4);
	for (int i = 0; i < k; i++) {
		CHECK(v[i]->p_pktlen <= 16384);
		pkt_free(v[i]);
	}
	net_close(net);
}

TEST(not_if_dev_does_it_or_nobody_wants_it)
{
	struct sk_fsw_cfg cfg = { .flags = SK_FSW_NOAGG };
	struct net *net = agg_open(PORT_RXCSUM | PORT_LRO, NULL);

	CHECK_EQ(become(net, seg_of(1, 9, ACK), seg_of(10, 9, ACK)), 2);
	net_close(net);
	net = agg_open(0, &cfg);
	CHECK_EQ(become(net, seg_of(1, 9, ACK), seg_of(10, 9, ACK)), 2);
	net_close(net);
}

/* Bytes that others may read are not written. */
TEST(shared_headers_are_left_alone)
{
	struct net *net = agg_open(0, NULL);
	struct seg s = seg_of(1, 100, ACK);
	struct pkt *p, *q;

	s.s_framed = true;
	p = net_packet(net, &s);
	pkt_ext_hold(p->p_ext);
	q = pkt_wrap(net->n_clientpool, p->p_data, p->p_len, p->p_ext);
	fake_receives(net->n_dev, p);
	net_receives(net, seg_of(101, 100, ACK));
	CHECK_EQ(net_poll(net, NULL), 0);
	CHECK_EQ(net_recv(net, 0, NULL), 2);
	pkt_free(q);
	net_close(net);
}

TESTS(RUN(a_burst_is_joined), RUN(only_neighbours_are_joined),
    RUN(a_bad_checksum_is_not_vouched_for), RUN(two_flows_in_one_burst),
    RUN(the_limit), RUN(not_if_dev_does_it_or_nobody_wants_it),
    RUN(shared_headers_are_left_alone))
