/*
 * Received packets go to who owns them, everything else to HOST as it came.
 */
#include "tests/unit/c/fswnet.h"

TEST(everything_is_host_s_without_clients)
{
	struct net *net = net_open(PORT_ETHER, 0, NULL, 0);
	struct pkt *v[PORT_BURST];

	net_receives(net,
	    (struct seg){ .s_proto = TCP, .s_src = 2, .s_dst = 1, .s_len = 9 });
	fake_receives(net->n_dev, fake_frame(net->n_pool, 77, 5));
	CHECK_EQ(net_poll(net, v), 2);
	CHECK_EQ(v[0]->p_pktlen, 14 + 40 + 9);
	CHECK_EQ(fake_number(v[1]), 77);
	pkt_free(v[0]);
	pkt_free(v[1]);
	CHECK_EQ(port_fd(net->n_host), 7);
	CHECK_EQ(net->n_host->pt_stats.ps_rxpkts, 2);
	net_close(net);
}

TEST(host_sends_straight_to_dev)
{
	struct net *net = net_open(PORT_ETHER, 0, NULL, 1);
	struct pkt *v[3];

	for (uint32_t i = 0; i < 3; i++) {
		v[i] = fake_frame(net->n_hostpool, i, 60);
	}
	net->n_dev->fk_room = 2;
	CHECK_EQ(net->n_host->pt_output(net->n_host, v, 3, net->n_now), 2);
	CHECK_EQ(net->n_dev->fk_nout, 2);
	CHECK_EQ(fake_number(net->n_dev->fk_out[1]), 1);
	CHECK_EQ(net->n_host->pt_stats.ps_txpkts, 2);
	pkt_free(v[2]);
	net_close(net);
}

/* DEV's door holds segments: HOST has to know that it must call again. */
TEST(host_sees_segments_that_wait)
{
	struct net *net = net_open(PORT_ETHER, 0, NULL, 0);
	struct pkt *p = fake_packet(net->n_hostpool, 4, 6, 5000, 1000, false);

	net->n_dev->fk_room = 2;
	CHECK_EQ(net->n_host->pt_output(net->n_host, &p, 1, net->n_now), 1);
	CHECK_EQ(net->n_host->pt_npend, 3);
	net->n_dev->fk_room = 10;
	CHECK_EQ(net->n_host->pt_output(net->n_host, &p, 0, net->n_now), 0);
	CHECK_EQ(net->n_host->pt_npend, 0);
	CHECK_EQ(net->n_dev->fk_nout, 5);
	net_close(net);
}

static void
flow_goes_to_its_client(int version)
{
	struct net *net = net_open(PORT_ETHER, 0, NULL, 2);
	struct flow_key k = net_key(version, TCP, 1, 5000, 2, 80);
	uint32_t id = net_attach(net, 1, k);
	struct seg s = { .s_version = version,
		.s_proto = TCP,
		.s_src = 2,
		.s_dst = 1,
		.s_sport = 80,
		.s_dport = 5000,
		.s_flags = ACK,
		.s_len = 100 };
	uint8_t bytes[200], want[200];
	struct pkt *v[PORT_BURST];
	uint32_t n = net_bytes(&s, want);

	net_receives(net, s);
	s.s_dport = 5001;
	net_receives(net, s);
	s.s_dport = 5000;
	s.s_src = 3;
	net_receives(net, s);
	/* The port is the client's, so other peers' segments are too. */
	CHECK_EQ(net_poll(net, NULL), 1);
	CHECK_EQ(net_recv(net, 0, NULL), 0);
	CHECK_EQ(net_recv(net, 1, v), 2);
	CHECK_EQ(v[0]->p_pktlen, n);
	CHECK_EQ(v[0]->p_flowid, id);
	CHECK(pkt_copyout(v[0], 0, n, bytes));
	CHECK_MEM(bytes, want, n);
	CHECK_EQ(v[1]->p_flowid, 0);
	pkt_free(v[0]);
	pkt_free(v[1]);
	CHECK_EQ(net_stat(net, "rx_client"), 2);
	net_close(net);
}

TEST(a_flow_goes_to_its_client)
{
	flow_goes_to_its_client(4);
	flow_goes_to_its_client(6);
}

TEST(narrow_before_wide)
{
	struct net *net = net_open(PORT_ETHER, 0, NULL, 3);
	struct seg s = {
		.s_proto = UDP, .s_src = 2, .s_dst = 1, .s_sport = 9, .s_dport = 700
	};

	CHECK_EQ(net_reserve(net, 0, net_key(4, UDP, 0, 700, 0, 0),
		     FLOW_REUSEPORT),
	    0);
	net_receives(net, s);
	CHECK_EQ(net_poll(net, NULL), 0);
	CHECK_EQ(net_recv(net, 0, NULL), 1);
	CHECK_EQ(net_reserve(net, 1, net_key(4, UDP, 1, 700, 0, 0),
		     FLOW_REUSEPORT),
	    0);
	net_receives(net, s);
	CHECK_EQ(net_poll(net, NULL), 0);
	CHECK_EQ(net_recv(net, 1, NULL), 1);
	/* Not at an address that is not ours: HOST may forward it. */
	s.s_dst = 9;
	net_receives(net, s);
	CHECK_EQ(net_poll(net, NULL), 1);
	/* A frame for somebody else's station. */
	s.s_dst = 1;
	memset(s.s_mac, 0x22, 6);
	net_receives(net, s);
	CHECK_EQ(net_poll(net, NULL), 1);
	CHECK_EQ(net_recv(net, 0, NULL) + net_recv(net, 1, NULL), 0);
	net_close(net);
}

TEST(icmp_errors_go_where_the_flow_is)
{
	struct net *net = net_open(PORT_ETHER, 0, NULL, 1);
	struct seg in = { .s_proto = UDP,
		.s_src = 1,
		.s_dst = 2,
		.s_sport = 700,
		.s_dport = 53,
		.s_len = 4 };
	struct seg s = { .s_proto = UDP, .s_src = 2, .s_dst = 1, .s_len = 32 };

	net_attach(net, 0, net_key(4, UDP, 1, 700, 2, 53));
	for (int i = 0; i < 2; i++) {
		struct pkt *p;
		uint8_t *b;

		s.s_framed = true;
		p = net_packet(net, &s);
		b = p->p_data + 14;
		b[9] = 1; /* ICMP: port unreachable */
		memset(b + 20, 0, 8);
		b[20] = b[21] = 3;
		net_bytes(&in, b + 28);
		fake_receives(net->n_dev, p);
		in.s_sport = 701; /* the second is nobody's */
	}
	CHECK_EQ(net_poll(net, NULL), 1);
	CHECK_EQ(net_recv(net, 0, NULL), 1);
	CHECK_EQ(net_stat(net, "rx_icmp"), 1);
	net_close(net);
}

TEST(groups_are_host_s_and_a_copy_the_client_s)
{
	struct net *net = net_open(PORT_ETHER, 0, NULL, 2);
	struct seg s = { .s_proto = UDP,
		.s_src = 2,
		.s_dst = 255,
		.s_sport = 9,
		.s_dport = 700,
		.s_len = 20,
		.s_mac = { 255, 255, 255, 255, 255, 255 } };
	struct pkt *host[PORT_BURST], *v[PORT_BURST];
	uint8_t bytes[64], want[64];

	CHECK_EQ(net_reserve(net, 1, net_key(4, UDP, 0, 700, 0, 0), 0), 0);
	net_receives(net, s);
	CHECK_EQ(net_poll(net, host), 1);
	CHECK_EQ(net_recv(net, 0, NULL), 0);
	CHECK_EQ(net_recv(net, 1, v), 1);
	CHECK(v[0]->p_data == host[0]->p_data + 14); /* not copied */
	CHECK_EQ(net_bytes(&s, want), 48);
	CHECK(pkt_copyout(v[0], 0, 48, bytes));
	CHECK_MEM(bytes, want, 48);
	pkt_free(v[0]);
	pkt_free(host[0]);
	net_close(net);
}

TEST(rubbish_is_host_s)
{
	struct net *net = net_open(PORT_ETHER, 0, NULL, 1);
	struct seg s = { .s_proto = TCP,
		.s_src = 2,
		.s_dst = 1,
		.s_dport = 700,
		.s_len = 40,
		.s_framed = true };
	struct pkt *p;
	int sent = 0;

	CHECK_EQ(net_reserve(net, 0, net_key(4, TCP, 0, 700, 0, 0), 0), 0);
	for (uint32_t len = 1; len < 14 + 80; len++) {
		p = net_packet(net, &s);
		p->p_len = p->p_pktlen = len;
		fake_receives(net->n_dev, p);
		sent++;
	}
	p = net_packet(net, &s);
	p->p_data[14] = 0x4f; /* options that reach over the TCP header */
	fake_receives(net->n_dev, p);
	p = net_packet(net, &s);
	p->p_data[14 + 20 + 12] = 0x10; /* a TCP header of 4 bytes */
	fake_receives(net->n_dev, p);
	CHECK_EQ(net_poll(net, NULL), sent + 2);
	CHECK_EQ(net_recv(net, 0, NULL), 0);
	CHECK(net_stat(net, "rx_bad") > 50);
	net_close(net);
}

TEST(a_full_ring_drops_its_tail)
{
	struct sk_fsw_cfg cfg = { .client_ring = 16 };
	struct net *net = net_open(PORT_ETHER, 0, &cfg, 2);
	struct pkt *v[PORT_BURST];

	CHECK_EQ(net_reserve(net, 0, net_key(4, UDP, 0, 700, 0, 0), 0), 0);
	CHECK_EQ(net_reserve(net, 1, net_key(4, UDP, 0, 701, 0, 0), 0), 0);
	for (uint32_t i = 0; i < 40; i++) {
		net_receives(net,
		    (struct seg){ .s_proto = UDP,
			.s_src = 2,
			.s_dst = 1,
			.s_dport = (uint16_t)(i < 20 ? 700 : 701),
			.s_fill = i % 20,
			.s_len = 1 });
	}
	CHECK_EQ(net_poll(net, NULL), 0);
	CHECK_EQ(net_stat(net, "rx_dst_ring_full"), 8);
	CHECK_EQ(net->n_client[1]->pt_stats.ps_rxdrops, 4);
	for (int c = 0; c < 2; c++) {
		CHECK_EQ(net_recv(net, c, v), 16);
		for (int i = 0; i < 16; i++) {
			CHECK_EQ(v[i]->p_data[28], i);
			pkt_free(v[i]);
		}
	}
	net_close(net);
}

/* The bell rings once, only for who may be asleep. */
TEST(the_bell)
{
	struct net *net = net_open(PORT_ETHER, 0, NULL, 1);
	struct pollfd pfd = { .fd = port_fd(net->n_client[0]),
		.events = POLLIN };
	struct seg s = { .s_proto = UDP, .s_src = 2, .s_dst = 1, .s_dport = 7 };

	CHECK_EQ(net_reserve(net, 0, net_key(4, UDP, 0, 7, 0, 0), 0), 0);
	CHECK_EQ(net_recv(net, 0, NULL), 0);
	CHECK_EQ(poll(&pfd, 1, 0), 0);
	CHECK_EQ(port_poll_at(net->n_client[0]), PORT_NEVER);
	net_receives(net, s);
	CHECK_EQ(net_poll(net, NULL), 0);
	CHECK_EQ(poll(&pfd, 1, 0), 1);
	CHECK_EQ(port_poll_at(net->n_client[0]), 0);
	CHECK_EQ(net_recv(net, 0, NULL), 1);
	CHECK_EQ(poll(&pfd, 1, 0), 1); /* not yet known to be empty */
	net_receives(net, s);
	CHECK_EQ(net_poll(net, NULL), 0);
	CHECK_EQ(net_recv(net, 0, NULL), 1);
	CHECK_EQ(net_recv(net, 0, NULL), 0);
	CHECK_EQ(poll(&pfd, 1, 0), 0);
	net_close(net);
}

/* HOST is poked each time anew, whatever was there to see in between. */
TEST(host_is_woken_again)
{
	struct net *net = net_open(PORT_ETHER, 0, NULL, 1);
	struct flow_advtab *ft = sk_netns_advtab(net->n_ns);

	for (int i = 1; i <= 3; i++) {
		ft->ft_notify(ft->ft_arg); /* HOST may be awake */
		CHECK_EQ(net_poll(net, NULL), 0);
		net->n_woken = 0;
		ft->ft_notify(ft->ft_arg);
		CHECK_EQ(net->n_woken, 1);
		ft->ft_notify(ft->ft_arg);
		CHECK_EQ(net->n_woken, 1);
	}
	net_close(net);
}

TEST(a_flow_to_any_address_of_a_peer)
{
	struct net *net = net_open(PORT_ETHER, 0, NULL, 2);
	struct flow_key k = net_key(4, UDP, 1, 700, 0, 53);
	struct pkt *v[PORT_BURST];
	uint32_t id = net_attach(net, 0, k);

	for (uint16_t port = 53; port < 55; port++) {
		net_receives(net,
		    (struct seg){ .s_proto = UDP,
			.s_src = (uint8_t)port,
			.s_dst = 1,
			.s_sport = port,
			.s_dport = 700 });
	}
	CHECK_EQ(net_poll(net, NULL), 0);
	CHECK_EQ(net_recv(net, 0, v), 2);
	CHECK_EQ(v[0]->p_flowid, id);
	CHECK_EQ(v[1]->p_flowid, 0); /* by the port alone */
	pkt_free(v[0]);
	pkt_free(v[1]);
	net_close(net);
}

TEST(ports_close_in_any_order)
{
	for (int order = 0; order < 3; order++) {
		struct net *net = net_open(PORT_ETHER, 0, NULL, 2);
		struct seg s = { .s_proto = UDP, .s_src = 2, .s_dst = 1 };

		s.s_dport = 700;
		CHECK_EQ(net_reserve(net, 0, net_key(4, UDP, 0, 700, 0, 0), 0),
		    0);
		net_receives(net, s);
		CHECK_EQ(net_poll(net, NULL), 0);
		if (order == 1) {
			sk_fsw_free(net->n_fsw);
			net->n_fsw = NULL;
		}
		if (order > 0) {
			net_host_close(net);
			/* What was received is still there. */
			CHECK_EQ(net_recv(net, 0, NULL), 1);
			CHECK_EQ(net_recv(net, 0, NULL), -ENXIO);
			CHECK_EQ(net_send(net, 0, s), -ENXIO);
		} else {
			net_client_close(net, 0);
			net_receives(net, s);
			CHECK_EQ(net_poll(net, NULL), 1);
		}
		net_close(net);
	}
}

TESTS(RUN(everything_is_host_s_without_clients), RUN(host_sends_straight_to_dev),
    RUN(host_sees_segments_that_wait), RUN(a_flow_goes_to_its_client),
    RUN(narrow_before_wide), RUN(icmp_errors_go_where_the_flow_is),
    RUN(groups_are_host_s_and_a_copy_the_client_s), RUN(rubbish_is_host_s),
    RUN(a_full_ring_drops_its_tail), RUN(the_bell), RUN(host_is_woken_again),
    RUN(a_flow_to_any_address_of_a_peer), RUN(ports_close_in_any_order))
