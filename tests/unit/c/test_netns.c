/*
 * Who may have which port, what a dead owner leaves behind, and ids of flows.
 */
#include "tests/unit/c/fswnet.h"

#define HOST (-1)

static int
reserve(struct net *net, int who, int proto, uint8_t addr, uint16_t port,
    unsigned flags)
{
	return net_reserve(net, who, net_key(4, proto, addr, port, 0, 0), flags);
}

static void
release(struct net *net, int who, int proto, uint8_t addr, uint16_t port)
{
	struct flow_key k = net_key(4, proto, addr, port, 0, 0);

	net->n_ops->no_release(who < 0 ? net->n_hostowner : net->n_owner[who],
	    &k);
}

TEST(stacks_exclude_each_other)
{
	struct net *net = net_open(PORT_ETHER, 0, NULL, 3);
	struct flow_key any6 = net_key(4, TCP, 0, 80, 0, 0);

	memset(any6.fk_laddr, 0, 16); /* :: stands for IPv4 too */
	CHECK_EQ(reserve(net, HOST, TCP, 0, 80, 0), 0);
	CHECK_EQ(reserve(net, 0, TCP, 0, 80, 0), EADDRINUSE);
	CHECK_EQ(reserve(net, 0, TCP, 1, 80, FLOW_REUSEPORT), EADDRINUSE);
	CHECK_EQ(net_reserve(net, 0, any6, 0), EADDRINUSE);
	CHECK_EQ(reserve(net, 0, UDP, 0, 80, 0), 0);	/* another protocol */
	CHECK_EQ(reserve(net, HOST, TCP, 1, 80, 0), 0); /* HOST's own affair */
	release(net, HOST, TCP, 0, 80);
	CHECK_EQ(reserve(net, 0, TCP, 0, 80, 0), EADDRINUSE);
	CHECK_EQ(reserve(net, 0, TCP, 2, 80, 0), 0); /* another address */
	release(net, HOST, TCP, 1, 80);
	CHECK_EQ(reserve(net, 0, TCP, 0, 80, 0), 0);
	CHECK_EQ(reserve(net, 1, TCP, 0, 80, 0), EADDRINUSE);
	CHECK_EQ(reserve(net, HOST, TCP, 0, 80, FLOW_REUSEPORT), EADDRINUSE);
	CHECK_EQ(reserve(net, HOST, TCP, 0, 0, 0), EINVAL);
	net_close(net);
}

TEST(reservations_are_counted)
{
	struct net *net = net_open(PORT_ETHER, 0, NULL, 2);

	CHECK_EQ(reserve(net, 0, TCP, 0, 80, 0), 0);
	CHECK_EQ(reserve(net, 0, TCP, 0, 80, 0), 0);
	release(net, 0, TCP, 0, 80);
	CHECK_EQ(reserve(net, 1, TCP, 0, 80, 0), EADDRINUSE);
	release(net, 1, TCP, 0, 80); /* not his */
	CHECK_EQ(reserve(net, 1, TCP, 0, 80, 0), EADDRINUSE);
	release(net, 0, TCP, 0, 80);
	release(net, 0, TCP, 0, 80); /* once too often */
	CHECK_EQ(reserve(net, 1, TCP, 0, 80, 0), 0);
	net_close(net);
}

TEST(clients_share_a_port_if_both_agree)
{
	struct net *net = net_open(PORT_ETHER, 0, NULL, 3);
	struct seg s = { .s_proto = UDP, .s_src = 2, .s_dst = 1, .s_dport = 80 };
	int got[2] = { 0, 0 };

	CHECK_EQ(reserve(net, 0, UDP, 0, 80, FLOW_REUSEPORT), 0);
	CHECK_EQ(reserve(net, 1, UDP, 0, 80, 0), EADDRINUSE);
	CHECK_EQ(reserve(net, 1, UDP, 0, 80, FLOW_REUSEPORT | FLOW_EXCLUSIVE),
	    EADDRINUSE);
	CHECK_EQ(reserve(net, 1, UDP, 0, 80, FLOW_REUSEPORT), 0);
	/* All packets of a flow go to one of them, flows to both. */
	for (uint16_t port = 1; port <= 32; port++) {
		int a, b;

		s.s_sport = port;
		net_receives(net, s);
		net_receives(net, s);
		CHECK_EQ(net_poll(net, NULL), 0);
		a = net_recv(net, 0, NULL);
		b = net_recv(net, 1, NULL);
		CHECK((a == 2 && b == 0) || (a == 0 && b == 2));
		got[a == 0]++;
	}
	CHECK(got[0] > 4 && got[1] > 4);
	net_close(net);
}

TEST(a_flow_stands_on_a_port)
{
	struct net *net = net_open(PORT_ETHER, 0, NULL, 2);
	struct flow_key k = net_key(4, TCP, 1, 5000, 2, 80);
	uint32_t id, again;

	CHECK_EQ(net->n_ops->no_attach(net->n_owner[0], &k, 0, &id),
	    EADDRNOTAVAIL);
	CHECK_EQ(id, 0);
	id = net_attach(net, 0, k);
	CHECK_EQ(net->n_ops->no_attach(net->n_owner[0], &k, 0, &again),
	    EADDRINUSE);
	/* The port stays taken while the flow lives, and is the owner's. */
	release(net, 0, TCP, 1, 5000);
	CHECK_EQ(reserve(net, 1, TCP, 1, 5000, 0), EADDRINUSE);
	CHECK_EQ(reserve(net, 0, TCP, 1, 5000, 0), 0);
	release(net, 0, TCP, 1, 5000);
	net_detach(net, 1, id, 0); /* not his */
	CHECK_EQ(reserve(net, 1, TCP, 1, 5000, 0), EADDRINUSE);
	net_detach(net, 0, id, 0);
	CHECK_EQ(reserve(net, 1, TCP, 1, 5000, 0), 0);
	net_close(net);
}

TEST(ids_are_not_reused_at_once)
{
	struct net *net = net_open(PORT_ETHER, 0, NULL, 1);
	struct flow_advtab *ft = sk_netns_advtab(net->n_ns);
	struct flow_key k = net_key(4, TCP, 1, 5000, 2, 80);
	uint32_t first = net_attach(net, 0, k), id = first;

	CHECK(flow_advisory(ft, first) != NULL);
	for (int i = 0; i < 5000; i++) {
		net_detach(net, 0, id, 0);
		CHECK_EQ(net->n_ops->no_attach(net->n_owner[0], &k, 0, &id), 0);
		CHECK(id != first);
	}
	CHECK(flow_advisory(ft, first) == NULL);
	CHECK(!flow_suspended(ft, first));
	CHECK(flow_advisory(ft, id) != NULL);
	net_close(net);
}

TEST(there_are_so_many_ids_and_no_more)
{
	struct net *net = net_open(PORT_ETHER, 0, NULL, 1);
	struct flow_key k = net_key(4, UDP, 1, 5000, 2, 0);
	struct sk_flow_info *info = calloc(2000, sizeof(*info));
	uint32_t id = 0;
	int error = 0;
	size_t n = 0;

	CHECK_EQ(net_reserve(net, 0, k, 0), 0);
	for (k.fk_fport = 1; error == 0; k.fk_fport++) {
		error = net->n_ops->no_attach(net->n_owner[0], &k, 0, &id);
		n += error == 0;
	}
	CHECK_EQ(error, ENOBUFS);
	CHECK_EQ(n, 1024);
	CHECK_EQ(sk_netns_flows(net->n_ns, info, 2000), 1025);
	CHECK_EQ(info[0].lport, 5000);
	CHECK_EQ(info[0].pid, 10);
	free(info);
	net_close(net);
}

/* HOST's flows have ids, and packets that nobody else claims. */
TEST(host_flows)
{
	struct net *net = net_open(PORT_ETHER, 0, NULL, 0);
	struct flow_key k = net_key(4, TCP, 1, 5000, 2, 80);
	uint32_t id = 0;

	CHECK_EQ(net_reserve(net, HOST, k, 0), 0);
	CHECK_EQ(net->n_ops->no_attach(net->n_hostowner, &k, 0, &id), 0);
	CHECK(flow_advisory(sk_netns_advtab(net->n_ns), id) != NULL);
	net->n_ops->no_detach(net->n_hostowner, id, 0);
	CHECK(flow_advisory(sk_netns_advtab(net->n_ns), id) == NULL);
	net_close(net);
}

/* ---- owners that die ---- */

static struct seg
seg_in(uint32_t seq, uint32_t ack, uint8_t flags, uint32_t len)
{
	return (struct seg){ .s_proto = TCP,
		.s_src = 2,
		.s_dst = 1,
		.s_sport = 80,
		.s_dport = 5000,
		.s_seq = seq,
		.s_ack = ack,
		.s_flags = flags,
		.s_len = len };
}

static struct seg
seg_out(uint32_t id, uint32_t seq, uint32_t ack, uint8_t flags, uint32_t len)
{
	return (struct seg){ .s_proto = TCP,
		.s_src = 1,
		.s_dst = 2,
		.s_sport = 5000,
		.s_dport = 80,
		.s_seq = seq,
		.s_ack = ack,
		.s_flags = flags,
		.s_len = len,
		.s_flowid = id };
}

/* A connection of client 0, open: 1000.. ours, 9000.. the peer's. */
static uint32_t
connected(struct net *net)
{
	uint32_t id = net_attach(net, 0, net_key(4, TCP, 1, 5000, 2, 80));

	net_send(net, 0, seg_out(id, 1000, 0, SYN, 0));
	net_receives(net, seg_in(9000, 1001, SYN | ACK, 0));
	CHECK_EQ(net_poll(net, NULL), 0);
	net_send(net, 0, seg_out(id, 1001, 9001, ACK, 100));
	net_receives(net, seg_in(9001, 1101, ACK, 50));
	CHECK_EQ(net_poll(net, NULL), 0);
	net_send(net, 0, seg_out(id, 1101, 9051, ACK, 7));
	CHECK_EQ(net_recv(net, 0, NULL), 2);
	return id;
}

static void
is_rst(struct net *net, int i, uint32_t seq, uint8_t flags, uint32_t ack)
{
	uint8_t b[54];

	CHECK(i < net->n_dev->fk_nout);
	CHECK_EQ(net->n_dev->fk_out[i]->p_pktlen, 54);
	CHECK(pkt_copyout(net->n_dev->fk_out[i], 0, 54, b));
	CHECK_EQ(get16(b + 34), 5000);
	CHECK_EQ(get16(b + 36), 80);
	CHECK_EQ(net_get32(b + 38), seq);
	CHECK_EQ(net_get32(b + 42), ack);
	CHECK_EQ(b[47], flags);
	CHECK(fake_csum_ok(b, 54));
	CHECK_EQ(csum_fold(csum_add(b + 14, 20, 0)), 0xffff);
}

static void
an_orphan_is_reset(bool owner_dies)
{
	struct net *net = net_open(PORT_ETHER, 0, NULL, 2);
	uint32_t id = connected(net);
	int sent = net->n_dev->fk_nout;

	CHECK_EQ(sent, 3);
	CHECK_EQ(net_poll(net, NULL), 0); /* HOST may sleep */
	if (owner_dies) {
		net_client_close(net, 0);
		sk_netns_owner_free(net->n_owner[0]);
		net->n_owner[0] = NULL;
	} else {
		net_detach(net, 0, id, FLOW_ABORT);
		release(net, 0, TCP, 1, 5000);
	}
	CHECK(net->n_woken > 0);
	CHECK_EQ(port_poll_at(net->n_host), 0);
	net->n_now += 10 * SEC; /* nothing has happened for a while */
	CHECK_EQ(net_poll(net, NULL), 0);
	CHECK_EQ(net->n_dev->fk_nout, sent + 1);
	is_rst(net, sent, 1101, RST | ACK, 9051);
	/* It knew better and sends a challenge. */
	net_receives(net, seg_in(9051, 1108, ACK, 0));
	CHECK_EQ(net_poll(net, NULL), 0);
	is_rst(net, sent + 1, 1108, RST, 0);
	net_receives(net, seg_in(9051, 1108, RST, 0));
	CHECK_EQ(net_poll(net, NULL), 0);
	CHECK_EQ(net->n_dev->fk_nout, sent + 2);
	/* The port is held, but for a listener that knows what it does. */
	CHECK_EQ(reserve(net, 1, TCP, 1, 5000, 0), EADDRINUSE);
	CHECK_EQ(reserve(net, HOST, TCP, 0, 5000, 0), EADDRINUSE);
	net->n_now = port_poll_at(net->n_host) - 1;
	CHECK_EQ(net_poll(net, NULL), 0);
	CHECK_EQ(reserve(net, HOST, TCP, 0, 5000, 0), EADDRINUSE);
	net->n_now++;
	CHECK_EQ(net->n_now, 41 * SEC);
	CHECK_EQ(net_poll(net, NULL), 0);
	CHECK_EQ(reserve(net, HOST, TCP, 0, 5000, 0), 0);
	net_receives(net, seg_in(9051, 1108, ACK, 0));
	CHECK_EQ(net_poll(net, NULL), 1);
	net_close(net);
}

TEST(an_orphan_is_reset)
{
	an_orphan_is_reset(false);
	an_orphan_is_reset(true);
}

/* What was closed in order is left in peace; what was reset leaves nothing. */
TEST(what_is_over_is_not_reset)
{
	for (int how = 0; how < 3; how++) {
		struct net *net = net_open(PORT_ETHER, 0, NULL, 1);
		uint32_t id = connected(net);
		int sent;

		if (how == 0) {
			net_send(net, 0, seg_out(id, 1108, 9051, FIN | ACK, 0));
			net_receives(net, seg_in(9051, 1109, FIN | ACK, 0));
			CHECK_EQ(net_poll(net, NULL), 0);
			net_send(net, 0, seg_out(id, 1109, 9052, ACK, 0));
		} else if (how == 1) {
			net_send(net, 0, seg_out(id, 1108, 0, RST, 0));
		} else {
			net_receives(net, seg_in(9051, 0, RST, 0));
			CHECK_EQ(net_poll(net, NULL), 0);
		}
		sent = net->n_dev->fk_nout;
		net_detach(net, 0, id, FLOW_ABORT);
		release(net, 0, TCP, 1, 5000);
		CHECK_EQ(net_poll(net, NULL), 0);
		CHECK_EQ(net->n_dev->fk_nout, sent);
		CHECK_EQ(reserve(net, HOST, TCP, 0, 5000, 0),
		    how == 0 ? EADDRINUSE : 0);
		net_close(net);
	}
}

/* A RST from far away says nothing. */
TEST(a_forged_reset_is_not_believed)
{
	struct net *net = net_open(PORT_ETHER, 0, NULL, 1);
	uint32_t id = connected(net);
	int sent = net->n_dev->fk_nout;

	net_receives(net, seg_in(9051 + (1u << 30), 0, RST, 0));
	net_receives(net, seg_in(9051, 1108 + 5000, ACK, 10));
	CHECK_EQ(net_poll(net, NULL), 0);
	net_detach(net, 0, id, FLOW_ABORT);
	CHECK_EQ(net_poll(net, NULL), 0);
	is_rst(net, sent, 1101, RST | ACK, 9051);
	net_close(net);
}

TEST(a_client_that_never_drains_is_given_up)
{
	struct sk_fsw_cfg cfg = { .client_ring = 16 };
	struct net *net = net_open(PORT_ETHER, 0, &cfg, 2);
	int sent;

	connected(net);
	sent = net->n_dev->fk_nout;
	CHECK_EQ(reserve(net, 1, UDP, 0, 70, 0), 0);
	for (int i = 0; i < 12; i++) {
		struct seg s = {
			.s_proto = UDP, .s_src = 2, .s_dst = 1, .s_dport = 70
		};

		net_receives(net, seg_in(9051, 1108, ACK, 10));
		net_receives(net, s);
		net->n_now += SEC;
		CHECK_EQ(net_poll(net, NULL), 0);
		CHECK_EQ(net_recv(net, 1, NULL), 1);
	}
	CHECK_EQ(net_stat(net, "rx_stall"), 1);
	CHECK_EQ(net_stat(net, "clients_defunct"), 1);
	is_rst(net, sent, 1108, RST | ACK, 9051);
	CHECK_EQ(net_send(net, 0, seg_out(0, 0, 0, ACK, 0)), -ENXIO);
	CHECK(net_recv(net, 0, NULL) > 0); /* what is in the ring is its own */
	CHECK_EQ(net_recv(net, 0, NULL), -ENXIO);
	CHECK_EQ(reserve(net, 1, TCP, 0, 5000, 0), EADDRINUSE);
	net_close(net);
}

/* Many at once do not keep HOST from its other work. */
TEST(orphans_are_reset_in_portions)
{
	struct net *net = net_open(PORT_ETHER, 0, NULL, 1);
	struct flow_key k = net_key(4, TCP, 1, 5000, 2, 0);
	int sent = 0;

	CHECK_EQ(net_reserve(net, 0, k, 0), 0);
	for (k.fk_fport = 1; k.fk_fport <= 1000; k.fk_fport++) {
		struct seg s = seg_out(0, 1, 0, SYN, 0), r;

		CHECK_EQ(net->n_ops->no_attach(net->n_owner[0], &k, 0,
			     &s.s_flowid),
		    0);
		s.s_dport = k.fk_fport;
		CHECK_EQ(net_send(net, 0, s), 1);
		r = seg_in(9, 2, SYN | ACK, 0);
		r.s_sport = k.fk_fport;
		net_receives(net, r);
		CHECK_EQ(net_poll(net, NULL), 0);
		CHECK_EQ(net_recv(net, 0, NULL), 1);
		sent++;
	}
	sk_netns_owner_free(net->n_owner[0]);
	net->n_owner[0] = NULL;
	CHECK_EQ(net->n_host->pt_output(net->n_host, NULL, 0, net->n_now), 0);
	CHECK_EQ(net->n_dev->fk_nout, sent + 512);
	CHECK_EQ(port_poll_at(net->n_host), 0);
	CHECK_EQ(net_poll(net, NULL), 0);
	CHECK_EQ(net->n_dev->fk_nout, sent + 1000);
	CHECK(port_poll_at(net->n_host) > net->n_now);
	net_close(net);
}

TEST(rst_over_loopback)
{
	struct sk_fsw_cfg cfg = { .flags = SK_FSW_LOOP };
	struct net *net = net_open(PORT_RAWIP, 0, &cfg, 2);
	struct flow_key a = net_key(4, TCP, 1, 5000, 2, 80);
	struct flow_key b = net_key(4, TCP, 2, 80, 1, 5000);
	uint32_t id = net_attach(net, 0, a);
	struct pkt *v[PORT_BURST];

	CHECK_EQ(net_reserve(net, 1, net_key(4, TCP, 0, 80, 0, 0), 0), 0);
	net_attach(net, 1, b);
	net_send(net, 0, seg_out(id, 1000, 0, SYN, 0));
	CHECK_EQ(net_recv(net, 1, NULL), 1);
	net_send(net, 1, seg_in(9000, 1001, SYN | ACK, 0));
	CHECK_EQ(net_recv(net, 0, NULL), 1);
	net_send(net, 0, seg_out(id, 1001, 9001, ACK, 0));
	CHECK_EQ(net_recv(net, 1, NULL), 1);
	net_client_close(net, 0);
	sk_netns_owner_free(net->n_owner[0]);
	net->n_owner[0] = NULL;
	CHECK_EQ(net_poll(net, NULL), 0);
	CHECK_EQ(net_recv(net, 1, v), 1);
	CHECK_EQ(v[0]->p_data[33], RST | ACK);
	CHECK_EQ(net_get32(v[0]->p_data + 24), 1001);
	pkt_free(v[0]);
	net_close(net);
}

TESTS(RUN(stacks_exclude_each_other), RUN(reservations_are_counted),
    RUN(clients_share_a_port_if_both_agree), RUN(a_flow_stands_on_a_port),
    RUN(ids_are_not_reused_at_once), RUN(there_are_so_many_ids_and_no_more),
    RUN(host_flows), RUN(an_orphan_is_reset), RUN(what_is_over_is_not_reset),
    RUN(a_forged_reset_is_not_believed),
    RUN(a_client_that_never_drains_is_given_up),
    RUN(orphans_are_reset_in_portions), RUN(rst_over_loopback))
