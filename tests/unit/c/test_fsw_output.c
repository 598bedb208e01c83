/*
 * What clients send: only what is theirs, with the link header of the next hop,
 * in order even when DEV is full, and straight to each other.
 */
#include "tests/unit/c/fswnet.h"

static struct seg
out_seg(uint32_t id)
{
	return (struct seg){ .s_proto = TCP,
		.s_src = 1,
		.s_dst = 2,
		.s_sport = 5000,
		.s_dport = 80,
		.s_flags = ACK,
		.s_len = 10,
		.s_flowid = id };
}

static struct flow_key
out_key(void)
{
	return net_key(4, TCP, 1, 5000, 2, 80);
}

TEST(a_link_header_is_put_in_front)
{
	struct net *net = net_open(PORT_ETHER, PORT_SG, NULL, 1);
	struct seg s = out_seg(net_attach(net, 0, out_key()));
	uint8_t bytes[64], want[64];
	const struct pkt *p;

	CHECK_EQ(net_bytes(&s, want), 50);
	CHECK_EQ(net_send(net, 0, s), 1);
	CHECK_EQ(net->n_dev->fk_nout, 1);
	p = net->n_dev->fk_out[0];
	CHECK_EQ(p->p_pktlen, 64);
	CHECK(p->p_next == NULL); /* there was room in front of it */
	CHECK(pkt_copyout(p, 0, 64, bytes));
	CHECK_MEM(bytes, "\x42\x42\x42\x42\x42\x02\x02\0\0\0\0\1\x08\0", 14);
	CHECK_MEM(bytes + 14, want, 50);
	CHECK_EQ(net->n_asked, 1);
	CHECK_EQ(net_send(net, 0, s), 1);
	CHECK_EQ(net->n_asked, 1); /* remembered */
	sk_fsw_route_event(net->n_fsw);
	CHECK_EQ(net_send(net, 0, s), 1);
	CHECK_EQ(net->n_asked, 2); /* but not for longer than it is true */
	net_close(net);
}

/* Storage that others share is left alone. */
TEST(shared_packets_get_a_buffer_for_the_header)
{
	struct net *net = net_open(PORT_ETHER, PORT_SG | PORT_TXCSUM, NULL, 1);
	struct seg s = out_seg(net_attach(net, 0, out_key()));
	struct pkt *p, *q;

	s.s_partial = true;
	p = net_packet(net, &s);
	pkt_ext_hold(p->p_ext);
	q = pkt_wrap(net->n_clientpool, p->p_data, p->p_len, p->p_ext);
	CHECK_EQ(net->n_client[0]->pt_output(net->n_client[0], &p, 1, SEC), 1);
	CHECK_EQ(net->n_dev->fk_nout, 1);
	CHECK(net->n_dev->fk_out[0]->p_next->p_data == q->p_data);
	CHECK_EQ(net->n_dev->fk_out[0]->p_csum_start, 34);
	CHECK(net->n_dev->fk_out[0]->p_flags & PKT_CSUM_PARTIAL);
	pkt_free(q);
	net_close(net);
}

TEST(dev_cuts_what_it_cannot_send)
{
	struct net *net = net_open(PORT_ETHER, 0, NULL, 1);
	struct seg s = out_seg(net_attach(net, 0, out_key()));
	struct pkt *p;

	s.s_partial = true;
	s.s_len = 5000;
	p = net_packet(net, &s);
	p->p_gso_type = PKT_GSO_TCPV4;
	p->p_gso_size = 1000;
	CHECK_EQ(net->n_client[0]->pt_output(net->n_client[0], &p, 1, SEC), 1);
	CHECK_EQ(net->n_dev->fk_nout, 5);
	for (int i = 0; i < 5; i++) {
		uint8_t b[1100];

		CHECK_EQ(net->n_dev->fk_out[i]->p_pktlen, 1054);
		CHECK(pkt_copyout(net->n_dev->fk_out[i], 0, 1054, b));
		CHECK(fake_csum_ok(b, 1054));
	}
	net_close(net);
}

TEST(only_what_is_one_s_own_may_be_sent)
{
	struct net *net = net_open(PORT_ETHER, 0, NULL, 2);
	uint32_t id = net_attach(net, 0, out_key());
	uint32_t other = net_attach(net, 1, net_key(4, TCP, 1, 6000, 2, 80));
	struct seg s = out_seg(0), bad;

	CHECK_EQ(net_send(net, 0, s), 1); /* without an id: by its port */
	CHECK_EQ(net->n_dev->fk_nout, 1);
	bad = s;
	bad.s_sport = 6000;
	CHECK_EQ(net_send(net, 0, bad), 1);
	CHECK_EQ(net_stat(net, "tx_not_owned"), 1);
	bad.s_sport = 7000;
	CHECK_EQ(net_send(net, 0, bad), 1);
	CHECK_EQ(net_stat(net, "tx_not_owned"), 2);
	bad = s;
	bad.s_flowid = other; /* not its flow */
	CHECK_EQ(net_send(net, 0, bad), 1);
	CHECK_EQ(net_stat(net, "tx_flow_bad_id"), 1);
	bad = out_seg(id);
	bad.s_dport = 81; /* its flow, another packet */
	CHECK_EQ(net_send(net, 0, bad), 1);
	CHECK_EQ(net_stat(net, "tx_flow_bad_id"), 2);
	bad = out_seg(0);
	bad.s_src = 9; /* its port, a borrowed address */
	CHECK_EQ(net_send(net, 0, bad), 1);
	CHECK_EQ(net_stat(net, "tx_flow_bad_id") + net_stat(net, "tx_not_owned"),
	    5);
	CHECK_EQ(net->n_dev->fk_nout, 1);
	CHECK_EQ(net->n_client[0]->pt_stats.ps_txpkts, 1);
	CHECK_EQ(net->n_client[0]->pt_stats.ps_txdrops, 5);
	net_close(net);
}

/* What a closing socket sent last may still be on its way down. */
TEST(an_id_just_given_back)
{
	struct net *net = net_open(PORT_ETHER, 0, NULL, 1);
	struct flow_key k = out_key();
	struct seg s = out_seg(net_attach(net, 0, k));

	net_detach(net, 0, s.s_flowid, 0);
	net->n_ops->no_release(net->n_owner[0], &k);
	CHECK_EQ(net_send(net, 0, s), 1);
	CHECK_EQ(net->n_dev->fk_nout, 1);
	CHECK_EQ(net_stat(net, "tx_flow_stale"), 1);
	net->n_now += 2 * SEC;
	CHECK_EQ(net_send(net, 0, s), 1);
	CHECK_EQ(net->n_dev->fk_nout, 1);
	CHECK_EQ(net_stat(net, "tx_flow_bad_id"), 1);
	net_close(net);
}

TEST(offloads_must_fit)
{
	struct net *net = net_open(PORT_ETHER, 0, NULL, 1);
	struct seg s = out_seg(net_attach(net, 0, out_key()));

	s.s_partial = true;
	for (int i = 0; i < 6; i++) {
		struct pkt *p = net_packet(net, &s);

		switch (i) {
		case 0:
			p->p_csum_start = 4000;
			break;
		case 1:
			p->p_csum_offset = 6;
			break;
		case 2:
			p->p_gso_type = PKT_GSO_TCPV6;
			p->p_gso_size = 4;
			break;
		case 3:
			p->p_gso_type = PKT_GSO_TCPV4;
			break;
		case 4:
			p->p_gso_type = 77;
			p->p_gso_size = 4;
			break;
		default:
			p->p_gso_type = PKT_GSO_TCPV4;
			p->p_gso_size = 4;
			p->p_flags = 0;
			break;
		}
		CHECK_EQ(net->n_client[0]->pt_output(net->n_client[0], &p, 1,
			     SEC),
		    1);
		CHECK_EQ(net_stat(net, "tx_bad"), i + 1);
	}
	CHECK_EQ(net->n_dev->fk_nout, 0);
	net_close(net);
}

TEST(packets_wait_for_a_next_hop)
{
	struct net *net = net_open(PORT_ETHER, 0, NULL, 1);
	struct seg s = out_seg(net_attach(net, 0, out_key()));

	CHECK_EQ(net_recv(net, 0, NULL), 0);
	net->n_answer = EINPROGRESS;
	for (uint32_t i = 0; i < 40; i++) {
		s.s_fill = i;
		CHECK_EQ(net_send(net, 0, s), 1);
	}
	CHECK_EQ(net->n_asked, 1);
	CHECK_EQ(net->n_dev->fk_nout, 0);
	CHECK_EQ(net_stat(net, "tx_route_full"), 8);
	net->n_answer = 0;
	sk_fsw_route_event(net->n_fsw);
	CHECK_EQ(net->n_dev->fk_nout, 0); /* not in that thread */
	CHECK_EQ(net_recv(net, 0, NULL), 0);
	CHECK_EQ(net->n_dev->fk_nout, 32);
	for (int i = 0; i < 32; i++) {
		uint8_t b[64];

		CHECK(pkt_copyout(net->n_dev->fk_out[i], 0, 64, b));
		CHECK_EQ(b[54], i);
	}
	net->n_answer = EHOSTUNREACH;
	sk_fsw_route_event(net->n_fsw);
	CHECK_EQ(net_send(net, 0, s), 1);
	CHECK_EQ(net_stat(net, "tx_unreach"), 1);
	/* Nobody ever answers. */
	net->n_answer = EINPROGRESS;
	CHECK_EQ(net_send(net, 0, s), 1);
	net->n_now += 5 * SEC;
	CHECK_EQ(net_poll(net, NULL), 0);
	CHECK_EQ(net_stat(net, "tx_route_timeout"), 1);
	net_close(net);
}

TEST(a_full_dev_is_back_pressure)
{
	struct sk_fsw_cfg cfg = { .backlog = 8 };
	struct net *net = net_open(PORT_ETHER, 0, &cfg, 2);
	struct seg s = out_seg(net_attach(net, 0, out_key()));
	struct flow_advtab *ft = sk_netns_advtab(net->n_ns);
	struct pollfd pfd = { .fd = port_fd(net->n_client[0]),
		.events = POLLIN };
	uint32_t gen = atomic_load(&ft->ft_gen);
	struct pkt *host = fake_frame(net->n_hostpool, 1, 60);

	CHECK_EQ(net_recv(net, 0, NULL), 0);
	net->n_dev->fk_room = 2;
	for (uint32_t i = 0; i < 10; i++) {
		s.s_fill = i;
		CHECK_EQ(net_send(net, 0, s), 1);
		CHECK_EQ(flow_suspended(ft, s.s_flowid), i >= 2);
	}
	CHECK_EQ(net_send(net, 0, s), 0); /* who does not stop is stopped */
	CHECK_EQ(net_stat(net, "tx_blocked"), 1);
	CHECK_EQ(net->n_host->pt_output(net->n_host, &host, 1, SEC), 0);
	CHECK(port_poll_at(net->n_client[0]) <= net->n_now + SEC / 1000);
	CHECK_EQ(poll(&pfd, 1, 0), 0);
	net->n_dev->fk_room = 100;
	net->n_now += SEC / 1000;
	CHECK_EQ(net->n_host->pt_output(net->n_host, &host, 1, net->n_now), 1);
	CHECK(!flow_suspended(ft, s.s_flowid));
	CHECK(atomic_load(&ft->ft_gen) != gen);
	CHECK_EQ(poll(&pfd, 1, 0), 1);
	CHECK(net->n_woken > 0);
	CHECK_EQ(net->n_dev->fk_nout, 11);
	for (int i = 0; i < 10; i++) {
		uint8_t b[64];

		CHECK(pkt_copyout(net->n_dev->fk_out[i], 0, 64, b));
		CHECK_EQ(b[54], i);
	}
	CHECK_EQ(port_poll_at(net->n_client[0]), PORT_NEVER);
	net_close(net);
}

TEST(what_a_client_leaves_behind_is_sent)
{
	struct net *net = net_open(PORT_ETHER, 0, NULL, 1);
	struct seg s = out_seg(net_attach(net, 0, out_key()));

	CHECK_EQ(net_poll(net, NULL), 0);
	net->n_dev->fk_room = 0;
	CHECK_EQ(net_send(net, 0, s), 1);
	net_client_close(net, 0);
	CHECK(net->n_woken > 0);
	CHECK(port_poll_at(net->n_host) <= net->n_now + SEC / 1000);
	net->n_dev->fk_room = 10;
	net->n_now += SEC / 1000;
	CHECK_EQ(net_poll(net, NULL), 0);
	CHECK_EQ(net->n_dev->fk_nout, 1);
	net_close(net);
}

/* A DEV that loops: lo. */
TEST(loop)
{
	struct sk_fsw_cfg cfg = { .flags = SK_FSW_LOOP };
	struct net *net = net_open(PORT_RAWIP, 0, &cfg, 2);
	struct seg s = { .s_proto = UDP,
		.s_src = 1,
		.s_dst = 1,
		.s_sport = 7,
		.s_dport = 8,
		.s_partial = true,
		.s_len = 3 };
	struct pollfd pfd = { .fd = port_fd(net->n_host), .events = POLLIN };
	struct pkt *p, *v[PORT_BURST];

	CHECK_EQ(net_reserve(net, 0, net_key(4, UDP, 0, 7, 0, 0), 0), 0);
	CHECK_EQ(net_reserve(net, 1, net_key(4, UDP, 0, 8, 0, 0), 0), 0);
	CHECK_EQ(net_recv(net, 0, NULL), 0);
	CHECK_EQ(net_poll(net, NULL), 0);
	/* Client to client: the same packet, nothing copied. */
	p = net_packet(net, &s);
	CHECK_EQ(net->n_client[0]->pt_output(net->n_client[0], &p, 1, SEC), 1);
	CHECK_EQ(net_recv(net, 1, v), 1);
	CHECK(v[0] == p);
	CHECK_EQ(p->p_flags, PKT_CSUM_PARTIAL | PKT_CSUM_VALID);
	pkt_free(p);
	/* To itself: it need not be woken. */
	s.s_dport = 7;
	CHECK_EQ(net_send(net, 0, s), 1);
	pfd.fd = port_fd(net->n_client[0]);
	CHECK_EQ(poll(&pfd, 1, 0), 0);
	CHECK_EQ(port_poll_at(net->n_client[0]), 0);
	CHECK_EQ(net_recv(net, 0, NULL), 1);
	/* To HOST, and HOST to a client and to itself. */
	s.s_dport = 9;
	CHECK_EQ(net_send(net, 0, s), 1);
	pfd.fd = port_fd(net->n_host);
	CHECK_EQ(poll(&pfd, 1, 0), 1);
	CHECK_EQ(net_poll(net, NULL), 1);
	CHECK_EQ(poll(&pfd, 1, 0), 0);
	p = net_packet(net, &s);
	CHECK_EQ(net->n_host->pt_output(net->n_host, &p, 1, SEC), 1);
	CHECK_EQ(poll(&pfd, 1, 0), 0);
	CHECK_EQ(port_poll_at(net->n_host), 0);
	CHECK_EQ(net_poll(net, v), 1);
	CHECK(v[0] == p);
	pkt_free(p);
	s.s_dport = 8;
	p = net_packet(net, &s);
	CHECK_EQ(net->n_host->pt_output(net->n_host, &p, 1, SEC), 1);
	CHECK_EQ(net_recv(net, 1, NULL), 1);
	CHECK_EQ(net->n_dev->fk_nout, 0);
	net_close(net);
}

/* Over an Ethernet, to an address of our own. */
TEST(own_addresses_stay_inside)
{
	struct net *net = net_open(PORT_ETHER, 0, NULL, 2);
	struct seg s = { .s_proto = UDP,
		.s_src = 1,
		.s_dst = 1,
		.s_sport = 7,
		.s_dport = 8,
		.s_len = 3 };
	struct pkt *v[PORT_BURST];

	CHECK_EQ(net_reserve(net, 0, net_key(4, UDP, 0, 7, 0, 0), 0), 0);
	CHECK_EQ(net_reserve(net, 1, net_key(4, UDP, 0, 8, 0, 0), 0), 0);
	CHECK_EQ(net_poll(net, NULL), 0);
	CHECK_EQ(net_send(net, 0, s), 1);
	CHECK_EQ(net_recv(net, 1, NULL), 1);
	s.s_dport = 9;
	CHECK_EQ(net_send(net, 0, s), 1);
	CHECK_EQ(net->n_woken, 1);
	CHECK_EQ(port_poll_at(net->n_host), 0);
	CHECK_EQ(net_poll(net, v), 1);
	CHECK_EQ(v[0]->p_pktlen, 14 + 28 + 3);
	CHECK_MEM(v[0]->p_data, net->n_dev->fk_port.pt_mac, 6);
	pkt_free(v[0]);
	CHECK_EQ(net->n_dev->fk_nout, 0);
	net_close(net);
}

TESTS(RUN(a_link_header_is_put_in_front),
    RUN(shared_packets_get_a_buffer_for_the_header),
    RUN(dev_cuts_what_it_cannot_send), RUN(only_what_is_one_s_own_may_be_sent),
    RUN(an_id_just_given_back), RUN(offloads_must_fit),
    RUN(packets_wait_for_a_next_hop), RUN(a_full_dev_is_back_pressure),
    RUN(what_a_client_leaves_behind_is_sent), RUN(loop),
    RUN(own_addresses_stay_inside))
