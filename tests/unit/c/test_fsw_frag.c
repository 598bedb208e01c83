/*
 * Fragments go where the first one goes, in order, and never cost more than so
 * much memory.
 */
#include "tests/unit/c/fswnet.h"

static struct seg
part(uint16_t ident, uint32_t off, uint32_t len, bool more)
{
	return (struct seg){ .s_proto = UDP,
		.s_src = 2,
		.s_dst = 1,
		.s_sport = 53,
		.s_dport = 700,
		.s_len = 400 - 8,
		.s_fill = 3,
		.s_ident = ident,
		.s_off = off,
		.s_part = len,
		.s_more = more };
}

static struct net *
frag_open(void)
{
	struct net *net = net_open(PORT_ETHER, 0, NULL, 1);

	CHECK_EQ(net_reserve(net, 0, net_key(4, UDP, 0, 700, 0, 0), 0), 0);
	return net;
}

static uint32_t
held(struct net *net)
{
	struct sk_fsw_info info;

	sk_fsw_info(net->n_fsw, &info);
	return info.fragments;
}

TEST(a_datagram_goes_up_whole_and_in_order)
{
	static const int order[][3] = { { 0, 1, 2 }, { 2, 1, 0 }, { 1, 0, 2 },
		{ 1, 2, 0 } };
	static const uint32_t off[] = { 0, 160, 320 }, len[] = { 160, 160, 80 };

	for (size_t o = 0; o < NITEMS(order); o++) {
		struct net *net = frag_open();
		struct pkt *v[PORT_BURST];

		for (int i = 0; i < 3; i++) {
			int n = order[o][i];

			CHECK_EQ(net_recv(net, 0, NULL), 0);
			net_receives(net, part(9, off[n], len[n], n < 2));
			CHECK_EQ(net_poll(net, NULL), 0);
		}
		CHECK_EQ(net_recv(net, 0, v), 3);
		for (int i = 0; i < 3; i++) {
			CHECK_EQ(get16(v[i]->p_data + 6) & 0x1fff, off[i] / 8);
			CHECK_EQ(v[i]->p_pktlen, 20 + len[i]);
			pkt_free(v[i]);
		}
		CHECK_EQ(held(net), 0);
		CHECK_EQ(net_stat(net, "frag_done"), 1);
		net_close(net);
	}
}

TEST(host_s_fragments_do_not_wait_for_the_last)
{
	struct net *net = frag_open();
	struct seg s = part(9, 160, 160, true);

	s.s_dport = 701;
	net_receives(net, s);
	CHECK_EQ(net_poll(net, NULL), 0); /* whose it is nobody knows yet */
	CHECK_EQ(held(net), 1);
	s = part(9, 0, 160, true);
	s.s_dport = 701;
	net_receives(net, s);
	CHECK_EQ(net_poll(net, NULL), 2);
	net_receives(net, part(9, 320, 80, false));
	CHECK_EQ(net_poll(net, NULL), 1);
	CHECK_EQ(net_recv(net, 0, NULL), 0);
	net_close(net);
}

/* Too short for ports: nobody can say that it is a client's. */
TEST(a_tiny_first_fragment_is_host_s)
{
	struct net *net = frag_open();
	struct seg s = part(9, 0, 8, true);

	s.s_proto = TCP;
	net_receives(net, part(9, 8, 160, true));
	net_receives(net, s);
	s.s_off = 8;
	net_receives(net, s);
	CHECK_EQ(net_poll(net, NULL), 2);
	CHECK_EQ(held(net), 1); /* of another protocol */
	net_close(net);
}

TEST(overlaps_poison_a_datagram)
{
	struct net *net = frag_open();

	net_receives(net, part(9, 0, 160, true));
	net_receives(net, part(9, 0, 160, true)); /* the same again: once */
	CHECK_EQ(net_poll(net, NULL), 0);
	CHECK_EQ(net_stat(net, "frag_overlap"), 1);
	CHECK_EQ(held(net), 1);
	net_receives(net, part(9, 152, 160, true));
	CHECK_EQ(net_poll(net, NULL), 0);
	CHECK_EQ(held(net), 0);
	CHECK_EQ(net_stat(net, "frag_overlap"), 3);
	net_receives(net, part(9, 160, 240, false));
	CHECK_EQ(net_poll(net, NULL), 0);
	CHECK_EQ(net_stat(net, "frag_overlap"), 4);
	CHECK_EQ(net_recv(net, 0, NULL), 0);
	/* A last fragment in the middle. */
	net_receives(net, part(8, 320, 80, true));
	net_receives(net, part(8, 160, 160, false));
	CHECK_EQ(net_poll(net, NULL), 0);
	CHECK_EQ(net_stat(net, "frag_overlap"), 6);
	net_close(net);
}

TEST(what_cannot_be_a_fragment)
{
	struct net *net = frag_open();

	net_receives(net, part(9, 0, 158, true)); /* not a multiple of 8 */
	CHECK_EQ(net_poll(net, NULL), 0);
	CHECK_EQ(net_stat(net, "frag_bad"), 1);
	for (int i = 0; i < 2; i++) {
		struct seg s = part(9, 0, 160, false);
		struct pkt *p;
		uint16_t sum;

		s.s_framed = true;
		p = net_packet(net, &s);
		put16(p->p_data + 14 + 6, 0x1fff); /* past 65535 */
		put16(p->p_data + 14 + 10, 0);
		sum = (uint16_t)~csum_fold(csum_add(p->p_data + 14, 20, 0));
		memcpy(p->p_data + 14 + 10, &sum, 2);
		fake_receives(net->n_dev, p);
	}
	CHECK_EQ(net_poll(net, NULL), 0);
	CHECK_EQ(net_stat(net, "frag_bad"), 3);
	CHECK_EQ(held(net), 0);
	net_close(net);
}

TEST(memory_is_bounded_and_time_too)
{
	struct net *net = frag_open();

	for (uint32_t i = 0; i < 300; i++) {
		net_receives(net, part((uint16_t)i, 160, 160, true));
	}
	CHECK_EQ(net_poll(net, NULL), 0);
	CHECK_EQ(held(net), 64);
	CHECK_EQ(net_stat(net, "frag_full"), 300 - 64);
	CHECK(port_poll_at(net->n_host) <= net->n_now + SEC);
	net->n_now += 29 * SEC;
	CHECK_EQ(net_poll(net, NULL), 0);
	CHECK_EQ(held(net), 64);
	net->n_now += 2 * SEC;
	CHECK_EQ(net_poll(net, NULL), 0);
	CHECK_EQ(held(net), 0);
	CHECK_EQ(net_stat(net, "frag_timeout"), 64);
	/* Many pieces of a few datagrams. */
	for (uint32_t i = 0; i < 1200; i++) {
		net_receives(net,
		    part((uint16_t)(i / 48), 8 + 8 * (i % 48), 8, true));
	}
	CHECK_EQ(net_poll(net, NULL), 0);
	CHECK(held(net) <= 1024);
	net_close(net);
}

/* Datagrams longer than the MTU of lo, between stacks. */
TEST(over_loopback)
{
	struct sk_fsw_cfg cfg = { .flags = SK_FSW_LOOP };
	struct net *net = net_open(PORT_RAWIP, 0, &cfg, 2);
	struct seg s;

	CHECK_EQ(net_reserve(net, 0, net_key(4, UDP, 0, 700, 0, 0), 0), 0);
	CHECK_EQ(net_reserve(net, 1, net_key(4, UDP, 0, 53, 0, 0), 0), 0);
	s = part(4, 320, 80, false);
	CHECK_EQ(net_send(net, 1, s), 1);
	CHECK_EQ(net_stat(net, "tx_not_owned"), 1); /* of nothing */
	CHECK_EQ(net_send(net, 1, part(4, 0, 160, true)), 1);
	CHECK_EQ(net_send(net, 1, part(4, 160, 160, true)), 1);
	CHECK_EQ(net_recv(net, 0, NULL), 0);
	CHECK_EQ(net_send(net, 1, s), 1);
	CHECK_EQ(net_recv(net, 0, NULL), 3);
	net_close(net);
}

TESTS(RUN(a_datagram_goes_up_whole_and_in_order),
    RUN(host_s_fragments_do_not_wait_for_the_last),
    RUN(a_tiny_first_fragment_is_host_s), RUN(overlaps_poison_a_datagram),
    RUN(what_cannot_be_a_fragment), RUN(memory_is_bounded_and_time_too),
    RUN(over_loopback))
