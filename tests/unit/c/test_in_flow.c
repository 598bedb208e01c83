/* A stack beside others: their common ports, flows held back, next hops, and
 * loop packets that are for somebody else. */
#include "bsdcore/netinet/in_flow.h"
#include "tests/unit/c/tcpnet.h"

/* ---- a namespace that only counts ---- */

struct space {
	int sp_reserved, sp_attached, sp_listening, sp_aborted;
	uint16_t sp_taken;   /* somebody else has it */
	uint16_t sp_lowfree; /* ports below are somebody else's */
	uint32_t sp_nextid;
	struct flow_key sp_last;
	unsigned sp_flags;
	struct flow_adv sp_adv[16];
	struct flow_advtab sp_tab;
};

static int
sp_reserve(void *arg, const struct flow_key *k, unsigned flags)
{
	struct space *sp = arg;

	CHECK_EQ(k->fk_fport, 0);
	if (k->fk_lport == sp->sp_taken || k->fk_lport < sp->sp_lowfree) {
		return EADDRINUSE;
	}
	sp->sp_last = *k;
	sp->sp_flags = flags;
	sp->sp_listening += (flags & FLOW_LISTENER) != 0;
	sp->sp_reserved++;
	return 0;
}

static void
sp_release(void *arg, const struct flow_key *k)
{
	struct space *sp = arg;

	CHECK(k->fk_lport != 0);
	sp->sp_reserved--;
}

static int
sp_attach(void *arg, const struct flow_key *k, unsigned flags, uint32_t *flowid)
{
	struct space *sp = arg;

	(void)flags;
	CHECK(k->fk_lport != 0 && k->fk_fport != 0);
	sp->sp_last = *k;
	sp->sp_attached++;
	*flowid = ++sp->sp_nextid;
	atomic_store(&sp->sp_adv[*flowid & 15].fa_flowid, *flowid);
	atomic_store(&sp->sp_adv[*flowid & 15].fa_flags, FLOWADV_VALID);
	return 0;
}

static void
sp_detach(void *arg, uint32_t flowid, unsigned flags)
{
	struct space *sp = arg;

	CHECK(flowid != 0 && flowid <= sp->sp_nextid);
	sp->sp_attached--;
	sp->sp_aborted += (flags & FLOW_ABORT) != 0;
	atomic_store(&sp->sp_adv[flowid & 15].fa_flowid, 0);
}

static const struct netns_ops sp_ops = { sp_reserve, sp_release, sp_attach,
	sp_detach };

static void
sp_init(struct space *sp, struct stack *s)
{
	memset(sp, 0, sizeof(*sp));
	sp->sp_tab.ft_mask = 15;
	sp->sp_tab.ft_entry = sp->sp_adv;
	CHECK_EQ(bsd_set_netns(s, &sp_ops, sp, &sp->sp_tab), 0);
}

static void
sp_suspend(struct space *sp, const struct socket *so, bool on)
{
	uint32_t id = sotoinpcb(so)->inp_flowid;

	atomic_store(&sp->sp_adv[id & 15].fa_flags,
	    FLOWADV_VALID | (on ? FLOWADV_SUSPENDED : 0));
	if (!on) {
		atomic_fetch_add(&sp->sp_tab.ft_gen, 1);
	}
}

static void
send_all(struct socket *so, size_t n)
{
	static const char data[65536];

	CHECK_EQ(bsd_send(so, data, n, 0, NULL, 0), (long)n);
}

TEST(ports)
{
	struct tcpnet tn;
	struct space sp;
	struct stack *s;
	struct socket *a, *b;
	struct bsd_addr addr = { .family = AF_INET, .port = 53 };
	struct bsd_addr to = tn_addr(2, 9);

	tn_init(&tn, 1, ~0u, 1500, NULL);
	s = tn.tn_s[0];
	sp_init(&sp, s);
	sp.sp_taken = 53;
	CHECK_EQ(bsd_socket(s, AF_INET, SOCK_DGRAM, 0, &a), 0);
	CHECK_EQ(bsd_socket(s, AF_INET, SOCK_DGRAM, 0, &b), 0);
	CHECK_EQ(bsd_set_netns(s, &sp_ops, &sp, NULL), -EBUSY);
	CHECK_EQ(bsd_bind(a, &addr), -EADDRINUSE);
	addr.port = 54;
	CHECK_EQ(bsd_bind(a, &addr), 0);
	CHECK_EQ(sp.sp_flags, FLOW_EXCLUSIVE);
	CHECK_EQ(sp.sp_last.fk_laddr[10], 0xff);
	CHECK_EQ(sp.sp_last.fk_laddr[12], 0);
	CHECK_EQ(sp.sp_last.fk_proto, IPPROTO_UDP);
	CHECK_EQ(sp.sp_attached, 0);
	/* connected: a flow */
	CHECK_EQ(bsd_connect(b, &to, 0), 0);
	CHECK_EQ(sp.sp_reserved, 2);
	CHECK_EQ(sp.sp_attached, 1);
	CHECK_EQ(sotoinpcb(b)->inp_flowid, 1);
	CHECK_EQ(sp.sp_last.fk_faddr[15], 2);
	CHECK_EQ(sp.sp_last.fk_laddr[15], 1);
	/* another peer: another flow, the same port */
	to.port = 10;
	CHECK_EQ(bsd_connect(b, &to, 0), 0);
	CHECK_EQ(sp.sp_attached, 1);
	CHECK_EQ(sp.sp_reserved, 2);
	CHECK_EQ(sotoinpcb(b)->inp_flowid, 2);
	CHECK_EQ(bsd_close(a), 0);
	CHECK_EQ(bsd_close(b), 0);
	CHECK_EQ(sp.sp_reserved + sp.sp_attached, 0);
	tn_free(&tn);
}

/* Which ports are free is for the namespace to say, too. */
TEST(ephemeral)
{
	struct tcpnet tn;
	struct space sp;
	struct socket *so, *ls;
	struct bsd_addr to = tn_addr(2, 80), me;
	int64_t last;

	tn_init(&tn, 2, ~0u, 1500, NULL);
	sp_init(&sp, tn.tn_s[0]);
	CHECK_EQ(bsd_sysctl_get(tn.tn_s[0], "net.inet.ip.portrange.last", &last),
	    0);
	sp.sp_lowfree = (uint16_t)(last - 2);
	for (int i = 0; i < 3; i++) {
		so = tn_connect(tn.tn_s[0], &to);
		CHECK_EQ(bsd_getsockname(so, &me), 0);
		CHECK(me.port >= last - 2);
		CHECK_EQ(bsd_close(so), 0);
	}
	sp.sp_lowfree = 65535;
	CHECK_EQ(bsd_socket(tn.tn_s[0], AF_INET, SOCK_STREAM, 0, &so), 0);
	CHECK_EQ(bsd_connect(so, &to, 0), -EADDRNOTAVAIL);
	CHECK_EQ(bsd_socket(tn.tn_s[0], AF_INET, SOCK_STREAM, 0, &ls), 0);
	CHECK_EQ(bsd_listen(ls, 1), -EADDRINUSE);
	CHECK_EQ(bsd_close(so), 0);
	CHECK_EQ(bsd_close(ls), 0);
	CHECK_EQ(sp.sp_reserved + sp.sp_attached, 0);
	tn_free(&tn);
}

/* A listener, its child, and the port until TIME_WAIT is over. */
TEST(connections)
{
	struct tcpnet tn;
	struct space sp[2];
	struct socket *c, *d;

	tn_init(&tn, 3, ~0u, 1500, NULL);
	sp_init(&sp[0], tn.tn_s[0]);
	sp_init(&sp[1], tn.tn_s[1]);
	tn_pair(&tn, &c, &d); /* its listener is closed */
	CHECK_EQ(sp[0].sp_reserved, 1);
	CHECK_EQ(sp[1].sp_reserved, 1);
	CHECK_EQ(sp[1].sp_listening, 1);
	CHECK_EQ(sp[0].sp_attached, 1);
	CHECK_EQ(sp[1].sp_attached, 1);
	CHECK_EQ(sp[1].sp_last.fk_lport, 80);
	CHECK_EQ(bsd_close(c), 0);
	tn_settle(&tn);
	CHECK_EQ(bsd_close(d), 0);
	tn_settle(&tn);
	CHECK_EQ(sp[0].sp_attached + sp[1].sp_attached, 0);
	CHECK_EQ(sp[1].sp_reserved, 0);
	CHECK_EQ(sp[0].sp_reserved, 1); /* TIME_WAIT */
	tn_sleep(&tn, 300 * TN_SEC);
	CHECK_EQ(sp[0].sp_reserved, 0);
	CHECK_EQ(sp[0].sp_aborted, 0);
	tn_pair(&tn, &c, &d);
	bsd_stack_free(tn.tn_s[0]);
	CHECK_EQ(sp[0].sp_aborted, 1);
	CHECK_EQ(sp[0].sp_reserved + sp[0].sp_attached, 0);
	CHECK_EQ(bsd_close(c), 0);
	CHECK_EQ(bsd_close(d), 0);
	bsd_stack_free(tn.tn_s[1]);
	nic_pool_free(tn.tn_pool[0]);
	nic_pool_free(tn.tn_pool[1]);
}

TEST(tcp_suspended)
{
	struct tcpnet tn;
	struct space sp;
	struct socket *c, *d;
	struct tcpcb *tp;

	tn_init(&tn, 4, ~0u, 1500, NULL);
	sp_init(&sp, tn.tn_s[0]);
	tn_pair(&tn, &c, &d);
	tp = tn_tcpcb(c);
	sp_suspend(&sp, c, true);
	send_all(c, 10000);
	tn_sleep(&tn, 5 * TN_SEC);
	CHECK_EQ(d->so_rcv.sb_cc, 0);
	CHECK_EQ(c->so_snd.sb_cc, 10000);
	CHECK_EQ(tp->t_rexmitpack, 0);
	CHECK_EQ(tn_stat(tn.tn_s[0], "flow.suspends"), 1);
	/* it still acknowledges */
	send_all(d, 3000);
	tn_sleep(&tn, TN_SEC);
	CHECK_EQ(c->so_rcv.sb_cc, 3000);
	CHECK_EQ(d->so_snd.sb_cc, 0);
	sp_suspend(&sp, c, false);
	tn_settle(&tn);
	CHECK_EQ(d->so_rcv.sb_cc, 10000);
	CHECK_EQ(tn_stat(tn.tn_s[0], "flow.resumes"), 1);
	/* without being told, it is noticed in a while */
	sp_suspend(&sp, c, true);
	send_all(c, 10000);
	atomic_store(&sp.sp_adv[sotoinpcb(c)->inp_flowid & 15].fa_flags,
	    FLOWADV_VALID);
	tn_sleep(&tn, 30 * TN_MS);
	CHECK_EQ(d->so_rcv.sb_cc, 20000);
	/* closed while it waits */
	sp_suspend(&sp, c, true);
	send_all(c, 100);
	CHECK_EQ(bsd_abort(c), 0);
	CHECK_EQ(bsd_close(d), 0);
	tn_settle(&tn);
	CHECK_EQ(sp.sp_attached, 0);
	tn_free(&tn);
}

/* What was sent before and is lost goes again all the same. */
TEST(tcp_suspended_rexmt)
{
	struct nic_fault loss = { .loss = 1.0 }, none = { 0 };
	struct tcpnet tn;
	struct space sp;
	struct socket *c, *d;

	tn_init(&tn, 5, ~0u, 1500, NULL);
	sp_init(&sp, tn.tn_s[0]);
	tn_pair(&tn, &c, &d);
	CHECK_EQ(nic_fault_set(tn.tn_fault[0], 0, &loss), 0);
	send_all(c, 1000);
	tn_settle(&tn);
	CHECK_EQ(nic_fault_set(tn.tn_fault[0], 0, &none), 0);
	sp_suspend(&sp, c, true);
	send_all(c, 50000);
	tn_sleep(&tn, 5 * TN_SEC);
	CHECK_EQ(d->so_rcv.sb_cc, 1000);
	CHECK(tn_tcpcb(c)->t_rexmitpack > 0);
	sp_suspend(&sp, c, false);
	tn_sleep(&tn, TN_SEC);
	CHECK_EQ(d->so_rcv.sb_cc, 51000);
	CHECK_EQ(bsd_close(c), 0);
	CHECK_EQ(bsd_close(d), 0);
	tn_free(&tn);
}

TEST(udp_suspended)
{
	struct tcpnet tn;
	struct space sp;
	struct socket *u;
	struct bsd_addr to = tn_addr(2, 9);

	tn_init(&tn, 6, ~0u, 1500, NULL);
	sp_init(&sp, tn.tn_s[0]);
	CHECK_EQ(bsd_socket(tn.tn_s[0], AF_INET, SOCK_DGRAM, 0, &u), 0);
	CHECK_EQ(bsd_connect(u, &to, 0), 0);
	send_all(u, 10);
	CHECK(bsd_poll(u) & POLLOUT);
	sp_suspend(&sp, u, true);
	CHECK_EQ(bsd_send(u, "x", 1, 0, NULL, 0), -EAGAIN);
	CHECK_EQ(bsd_poll(u) & POLLOUT, 0);
	sp_suspend(&sp, u, false);
	CHECK_EQ(bsd_run(tn.tn_s[0], tn.tn_now), 0);
	CHECK(bsd_poll(u) & POLLOUT);
	send_all(u, 10);
	CHECK_EQ(bsd_close(u), 0);
	tn_free(&tn);
}

/* ---- next hops ---- */

static void
count(void *arg)
{
	++*(int *)arg;
}

TEST(resolver)
{
	struct tcpnet tn;
	struct bsd_addr gw = tn_addr(2, 0), any = { .family = AF_INET };
	const struct flow_resolver *fr;
	const void *p;
	uint8_t mac[6], dst[16] = { [10] = 0xff, 0xff, 10, 0, 0, 2 };
	struct stack *s;
	int events = 0;
	unsigned ifi;

	tn_init(&tn, 7, ~0u, 1500, NULL);
	s = tn.tn_s[0];
	ifi = (unsigned)bsd_if_index(s, "feth0");
	CHECK_EQ(bsd_resolver(s, 99, &p), -ENXIO);
	CHECK_EQ(bsd_resolver(s, 1, &p), -EOPNOTSUPP); /* lo0 */
	CHECK_EQ(bsd_resolver(s, ifi, &p), 0);
	fr = p;
	bsd_set_flow_event(s, count, &events);
	CHECK_EQ(fr->fr_resolve(fr->fr_arg, dst, mac), EINPROGRESS);
	CHECK_EQ(fr->fr_resolve(fr->fr_arg, dst, mac), EINPROGRESS);
	CHECK_EQ(events, 0);
	tn_settle(&tn);
	CHECK_EQ(events, 1);
	CHECK_EQ(fr->fr_resolve(fr->fr_arg, dst, mac), 0);
	CHECK_EQ(memcmp(mac, if_byname(tn.tn_s[1], "feth0")->if_lladdr, 6), 0);
	/* nobody there, and no way */
	dst[15] = 77;
	CHECK_EQ(fr->fr_resolve(fr->fr_arg, dst, mac), EINPROGRESS);
	tn_sleep(&tn, 10 * TN_SEC);
	CHECK_EQ(fr->fr_resolve(fr->fr_arg, dst, mac), EHOSTUNREACH);
	CHECK(events >= 2);
	dst[12] = 192;
	CHECK_EQ(fr->fr_resolve(fr->fr_arg, dst, mac), ENETUNREACH);
	events = 0;
	CHECK_EQ(bsd_route_add(s, &any, 0, &gw, ifi), 0);
	CHECK_EQ(events, 1);
	CHECK_EQ(fr->fr_resolve(fr->fr_arg, dst, mac), 0);
	dst[12] = 224;
	CHECK_EQ(fr->fr_resolve(fr->fr_arg, dst, mac), 0);
	CHECK_EQ(mac[0], 1);
	memset(dst + 12, 255, 4);
	CHECK_EQ(fr->fr_resolve(fr->fr_arg, dst, mac), 0);
	CHECK_EQ(mac[0], 255);
	tn_free(&tn);
}

/* ---- lo0 of two stacks, joined ---- */

static void
twins(struct tcpnet *tn)
{
	struct port *pt[2];

	memset(tn, 0, sizeof(*tn));
	tn->tn_now = 1000 * TN_SEC;
	tn->tn_pool[0] = nic_pool_new(64 << 20);
	tn->tn_pool[1] = nic_pool_new(64 << 20);
	CHECK_EQ(nic_feth_open(tn->tn_pool[0], tn->tn_pool[1], PORT_RAWIP,
		     65535, 4096, ~0u, 0, &pt[0], &pt[1]),
	    0);
	for (int i = 0; i < 2; i++) {
		tn->tn_s[i] = tn_stack((unsigned)i, tn->tn_now);
		CHECK_EQ(bsd_if_attach(tn->tn_s[i], pt[i], "lo0"), 1);
	}
}

TEST(loop_between)
{
	struct tcpnet tn;
	struct socket *ls, *c, *d, *own;
	struct bsd_addr to = tn_loaddr(80), own_to = tn_loaddr(81);

	twins(&tn);
	ls = tn_listen(tn.tn_s[1], 80, 5);
	own = tn_listen(tn.tn_s[0], 81, 5);
	c = tn_connect(tn.tn_s[0], &to);
	tn_settle(&tn);
	CHECK_EQ(bsd_accept(ls, 0, &d, NULL), 0);
	send_all(c, 60000);
	send_all(d, 65536);
	tn_sleep(&tn, TN_SEC);
	CHECK_EQ(d->so_rcv.sb_cc, 60000);
	CHECK_EQ(c->so_rcv.sb_cc, 65536);
	CHECK(tn_stat(tn.tn_s[0], "if.lomissed") > 0);
	CHECK_EQ(tn_stat(tn.tn_s[1], "tcp.drop.badsum"), 0);
	bsd_close(c);
	bsd_close(d);
	tn_settle(&tn);
	/* what is for us stays inside */
	CHECK_EQ(tn_stat(tn.tn_s[0], "if.lomissed") > 0, true);
	c = tn_connect(tn.tn_s[0], &own_to);
	CHECK_EQ(bsd_accept(own, 0, &d, NULL), 0);
	bsd_close(c);
	bsd_close(d);
	/* nobody there: refused from the far side */
	to.port = 82;
	c = tn_connect(tn.tn_s[0], &to);
	tn_settle(&tn);
	CHECK_EQ(bsd_connect(c, &to, 0), -ECONNREFUSED);
	bsd_close(c);
	bsd_close(own);
	bsd_close(ls);
	tn_free(&tn);
}

TEST(loop_udp)
{
	struct tcpnet tn;
	struct socket *a, *b;
	struct bsd_addr to = tn_loaddr(53);
	char buf[16];

	twins(&tn);
	CHECK_EQ(bsd_socket(tn.tn_s[0], AF_INET, SOCK_DGRAM, 0, &a), 0);
	CHECK_EQ(bsd_socket(tn.tn_s[1], AF_INET, SOCK_DGRAM, 0, &b), 0);
	CHECK_EQ(bsd_bind(b, &to), 0);
	CHECK_EQ(bsd_connect(a, &to, 0), 0);
	CHECK_EQ(bsd_send(a, "ping", 4, 0, NULL, 0), 4);
	tn_settle(&tn);
	CHECK_EQ(bsd_recv(b, buf, sizeof(buf), 0, NULL, 0), 4);
	bsd_close(b);
	CHECK_EQ(bsd_send(a, "ping", 4, 0, NULL, 0), 4);
	tn_settle(&tn);
	CHECK_EQ(bsd_recv(a, buf, sizeof(buf), 0, NULL, 0), -ECONNREFUSED);
	bsd_close(a);
	tn_free(&tn);
}

/* A stack without link layer and ARP: bare packets, everything by one route. */
TEST(rawip_client)
{
	struct tcpnet tn;
	struct port *pt[2];
	struct bsd_addr any = { .family = AF_INET }, to = tn_addr(2, 80);
	struct bsd_addr frag = to;
	struct socket *ls, *c, *d;
	union inaddr peer = in_map4(htonl(0x0a000002));

	memset(&tn, 0, sizeof(tn));
	tn.tn_now = 1000 * TN_SEC;
	tn.tn_pool[0] = nic_pool_new(64 << 20);
	tn.tn_pool[1] = nic_pool_new(64 << 20);
	CHECK_EQ(nic_feth_open(tn.tn_pool[0], tn.tn_pool[1], PORT_RAWIP, 1500,
		     4096, ~0u, 0, &pt[0], &pt[1]),
	    0);
	for (int i = 0; i < 2; i++) {
		struct bsd_addr a = tn_addr(i + 1, 0);

		tn.tn_s[i] = tn_stack((unsigned)i, tn.tn_now);
		CHECK_EQ(bsd_if_attach(tn.tn_s[i], pt[i], "en0"), 2);
		CHECK_EQ(bsd_if_addaddr(tn.tn_s[i], 2, &a, 32), 0);
		a.addr[0] = 172;
		CHECK_EQ(bsd_if_addaddr(tn.tn_s[i], 2, &a, 32), 0);
		CHECK_EQ(bsd_route_add(tn.tn_s[i], &any, 0, NULL, 2), 0);
	}
	ls = tn_listen(tn.tn_s[1], 80, 5);
	c = tn_connect(tn.tn_s[0], &to);
	tn_settle(&tn);
	CHECK_EQ(bsd_accept(ls, 0, &d, NULL), 0);
	/* the way gets narrower */
	CHECK_EQ(tn_tcpcb(c)->t_pmtu, 1500);
	rt_setpmtu(tn.tn_s[0], &peer, 1000);
	tcp_mss_update(tn_tcpcb(c));
	CHECK_EQ(tn_tcpcb(c)->t_pmtu, 1000);
	send_all(c, 20000);
	tn_sleep(&tn, TN_SEC);
	CHECK_EQ(d->so_rcv.sb_cc, 20000);
	bsd_close(c);
	bsd_close(d);
	frag.port = 81;
	c = tn_connect(tn.tn_s[0], &frag);
	tn_settle(&tn);
	CHECK_EQ(bsd_connect(c, &frag, 0), -ECONNREFUSED);
	bsd_close(c);
	bsd_close(ls);
	tn_free(&tn);
}

TESTS(RUN(ports), RUN(ephemeral), RUN(connections), RUN(tcp_suspended),
    RUN(tcp_suspended_rexmt), RUN(udp_suspended), RUN(resolver),
    RUN(loop_between), RUN(loop_udp), RUN(rawip_client))
