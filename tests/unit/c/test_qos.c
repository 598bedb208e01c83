/*
 * Service classes from sockets to packets: options, tags, the class of ACKs,
 * DSCP by interface, the ledger, and background senders that stand back.
 */
#include "bsdcore/netinet/in_tclass.h"
#include "nic/flow.h"
#include "nic/pkt_pool.h"
#include "nic/port_impl.h"
#include "tests/unit/c/tcpnet.h"

#define SPY_MAX 65536

/* A port in front of the wire that writes down what leaves. */
struct spied {
	uint32_t sp_len, sp_origin;
	uint8_t sp_svc, sp_flags, sp_tos, sp_proto;
	uint8_t sp_thflags;
	uint32_t sp_payload;
};
struct spy {
	struct port s_port;
	struct spied s_v[SPY_MAX];
	int s_n;
	int s_lose; /* the next packets with payload are lost */
};
static struct spy *spies[2];

static void
spy_note(struct spy *sp, const struct pkt *p)
{
	struct spied *v = &sp->s_v[sp->s_n];
	uint8_t b[54];

	if (p->p_pktlen < 34 || sp->s_n == SPY_MAX) {
		return;
	}
	memset(b, 0, sizeof(b));
	pkt_copyout(p, 0, MIN_OF(p->p_pktlen, 54), b);
	if (b[12] != 8 || b[13] != 0) {
		return; /* ARP */
	}
	*v = (struct spied){ .sp_len = p->p_pktlen - 14,
		.sp_origin = p->p_origin,
		.sp_svc = p->p_svc,
		.sp_flags = p->p_flags,
		.sp_tos = b[15],
		.sp_proto = b[23],
		.sp_thflags = b[47] };
	if (v->sp_proto == 6) {
		v->sp_payload = v->sp_len - 20 - (uint32_t)(b[46] >> 4) * 4;
	}
	sp->s_n++;
}

static int
spy_tx(struct port *pt, struct pkt **v, int n, uint64_t now)
{
	struct spy *sp = CONTAINER_OF(pt, struct spy, s_port);

	for (int i = 0; i < n; i++) {
		struct pkt *p = v[i];

		spy_note(sp, p);
		if (sp->s_lose > 0 && sp->s_v[sp->s_n - 1].sp_payload > 0) {
			sp->s_lose--;
			pkt_free(p);
			continue;
		}
		CHECK_EQ(pt->pt_lower->pt_output(pt->pt_lower, &p, 1, now), 1);
	}
	return n;
}

static int
spy_rx(struct port *pt, struct pkt **v, int n, uint64_t now)
{
	return pt->pt_lower->pt_input(pt->pt_lower, v, n, now);
}

static uint64_t
spy_poll_at(struct port *pt)
{
	return port_poll_at(pt->pt_lower);
}

static void
spy_close(struct port *pt)
{
	port_fini(pt);
	nic_close(pt->pt_lower);
	free(CONTAINER_OF(pt, struct spy, s_port));
}

static const struct port_ops spy_ops = {
	.po_name = "spy",
	.po_rx = spy_rx,
	.po_tx = spy_tx,
	.po_poll_at = spy_poll_at,
	.po_close = spy_close,
};

static void
setup(struct tcpnet *tn)
{
	struct port *pt[2];

	memset(tn, 0, sizeof(*tn));
	tn->tn_now = 1000 * TN_SEC;
	for (int i = 0; i < 2; i++) {
		tn->tn_pool[i] = nic_pool_new(64 << 20);
	}
	CHECK_EQ(nic_feth_open(tn->tn_pool[0], tn->tn_pool[1], 0, 1500, 4096,
		     PORT_SG, 0, &pt[0], &pt[1]),
	    0);
	for (int i = 0; i < 2; i++) {
		struct nic_fault fault = { .delay_ns = 5 * TN_MS };
		struct bsd_addr a = tn_addr(i + 1, 0);
		int ifi;

		CHECK_EQ(nic_fault_wrap(pt[i], 1, &tn->tn_fault[i]), 0);
		CHECK_EQ(nic_fault_set(tn->tn_fault[i], 0, &fault), 0);
		spies[i] = calloc(1, sizeof(*spies[i]));
		port_setup(&spies[i]->s_port, &spy_ops, tn->tn_pool[i], "spy");
		port_inherit(&spies[i]->s_port, tn->tn_fault[i]);
		tn->tn_s[i] = tn_stack(7 + (unsigned)i, tn->tn_now);
		ifi = bsd_if_attach(tn->tn_s[i], &spies[i]->s_port, "en0");
		CHECK(ifi > 0);
		CHECK_EQ(bsd_if_addaddr(tn->tn_s[i], (unsigned)ifi, &a, 24), 0);
	}
}

static unsigned
en0(const struct tcpnet *tn, int i)
{
	return (unsigned)bsd_if_index(tn->tn_s[i], "en0");
}

static int
setopt(struct socket *so, int level, int name, int val)
{
	return bsd_setsockopt(so, level, name, &val, sizeof(val));
}

static int
getopt1(struct socket *so, int name)
{
	size_t len = sizeof(int);
	int val;

	CHECK_EQ(bsd_getsockopt(so, SOL_SOCKET, name, &val, &len), 0);
	return val;
}

static struct socket *
dgram(const struct tcpnet *tn, int i, unsigned short port)
{
	struct bsd_addr a = tn_addr(i + 1, port);
	struct socket *so;

	CHECK_EQ(bsd_socket(tn->tn_s[i], AF_INET, SOCK_DGRAM, 0, &so), 0);
	CHECK_EQ(bsd_bind(so, &a), 0);
	return so;
}

static struct bsd_ledger
ledger(struct stack *s, uint32_t origin)
{
	static struct bsd_ledger v[QOS_ROWS + 2];
	int n = bsd_ledger_list(s, v, QOS_ROWS + 2);

	for (int i = 0; i < n; i++) {
		if (v[i].origin == origin) {
			return v[i];
		}
	}
	CHECK(!"originator known");
	return v[0];
}

TEST(options_by_number)
{
	struct tcpnet tn;
	struct socket *so;

	setup(&tn);
	so = dgram(&tn, 0, 9);
	CHECK_EQ(getopt1(so, 0x1086), 0);
	for (int sotc = 0; sotc <= 900; sotc += 100) {
		CHECK_EQ(setopt(so, SOL_SOCKET, 0x1086, sotc), 0);
		CHECK_EQ(getopt1(so, 0x1086), sotc);
	}
	CHECK_EQ(setopt(so, SOL_SOCKET, 0x1086, 450), -EINVAL);
	CHECK_EQ(setopt(so, SOL_SOCKET, 0x1086, -1), -EINVAL);
	CHECK_EQ(setopt(so, SOL_SOCKET, 0x1086, 10004), 0);
	CHECK_EQ(getopt1(so, 0x1086), 800);
	for (int nst = 0; nst <= 8; nst++) {
		CHECK_EQ(setopt(so, SOL_SOCKET, 0x1116, nst), 0);
		CHECK_EQ(getopt1(so, 0x1116), nst);
	}
	CHECK_EQ(setopt(so, SOL_SOCKET, 0x1116, 9), -EINVAL);
	CHECK_EQ(setopt(so, SOL_SOCKET, 0x1116, 2), 0);
	CHECK_EQ(getopt1(so, 0x1086), 700); /* signalling, asked by class */
	CHECK_EQ(setopt(so, SOL_SOCKET, 0x1105, 1), 0);
	CHECK_EQ(getopt1(so, 0x1105), 1);
	CHECK_EQ(so_svc(so), SVC_BK_SYS);
	CHECK_EQ(setopt(so, SOL_SOCKET, 0x1105, 4), -EINVAL);
	CHECK_EQ(setopt(so, SOL_SOCKET, 0x1105, 0), 0);
	CHECK_EQ(so_svc(so), SVC_SIG);
	CHECK_EQ(setopt(so, SOL_SOCKET, 0x1999, 0), -ENOPROTOOPT);
	bsd_close(so);
	tn_free(&tn);
}

TEST(linux_names_choose_a_class_too)
{
	struct tcpnet tn;
	struct socket *so;

	setup(&tn);
	so = dgram(&tn, 0, 9);
	CHECK_EQ(setopt(so, IPPROTO_IP, IP_TOS, 0xb8), 0);
	CHECK_EQ(so_svc(so), SVC_VO);
	CHECK_EQ(setopt(so, IPPROTO_IP, IP_TOS, 0x20), 0);
	CHECK_EQ(so_svc(so), SVC_BK);
	CHECK_EQ(setopt(so, IPPROTO_IP, IP_TOS, 0x10), 0);
	CHECK_EQ(so_svc(so), SVC_RD);
	CHECK_EQ(setopt(so, SOL_SOCKET, SO_PRIORITY, 5), 0);
	CHECK_EQ(so_svc(so), SVC_VI);
	CHECK_EQ(setopt(so, SOL_SOCKET, SO_PRIORITY, 0), 0);
	CHECK_EQ(so_svc(so), SVC_BE);
	/* What was said by name stays. */
	CHECK_EQ(setopt(so, SOL_SOCKET, 0x1086, 500), 0);
	CHECK_EQ(setopt(so, IPPROTO_IP, IP_TOS, 0xb8), 0);
	CHECK_EQ(setopt(so, SOL_SOCKET, SO_PRIORITY, 1), 0);
	CHECK_EQ(so_svc(so), SVC_AV);
	bsd_close(so);
	tn_free(&tn);
}

static long
sendcmsg(struct socket *so, int port, int type, int val)
{
	struct bsd_addr to = tn_addr(2, (unsigned short)port);
	char data[] = "x";
	struct bsd_iovec iov = { data, 1 };
	union {
		struct cmsghdr c;
		uint8_t b[CMSG_SPACE(sizeof(int))];
	} u = { .c = { .cmsg_len = CMSG_LEN(sizeof(int)),
		    .cmsg_level = SOL_SOCKET,
		    .cmsg_type = type } };

	memcpy(u.b + CMSG_LEN(0), &val, sizeof(val));
	return bsd_sendmsg(so, &iov, 1, &u, sizeof(u), 0, &to, 0);
}

TEST(each_datagram_may_have_its_class)
{
	struct tcpnet tn;
	struct bsd_addr to = tn_addr(2, 9);
	struct socket *a, *b;
	const struct spied *v;
	int first;

	setup(&tn);
	a = dgram(&tn, 0, 9);
	b = dgram(&tn, 1, 9);
	CHECK_EQ(setopt(a, SOL_SOCKET, 0x1086, 300), 0);
	CHECK_EQ(bsd_send(a, "y", 1, 0, &to, 0), 1);
	tn_sleep(&tn, TN_SEC);
	first = spies[0]->s_n;
	CHECK_EQ(bsd_send(a, "y", 1, 0, &to, 0), 1);
	CHECK_EQ(sendcmsg(a, 9, 0x1086, 800), 1);
	CHECK_EQ(sendcmsg(a, 9, 0x1116, 2), 1);
	CHECK_EQ(sendcmsg(a, 9, 0x1086, 801), -EINVAL);
	CHECK_EQ(sendcmsg(a, 9, 0x1087, 1), -EINVAL);
	CHECK_EQ(bsd_set_tag(a, SVC_BK, 77), 0);
	CHECK_EQ(bsd_send(a, "y", 1, 0, &to, 0), 1);
	CHECK_EQ(sendcmsg(a, 9, 0x1086, 600), 1); /* the message's goes first */
	CHECK_EQ(bsd_set_tag(a, -1, 0), 0);
	CHECK_EQ(bsd_send(a, "y", 1, 0, &to, 0), 1);
	CHECK_EQ(setopt(a, SOL_SOCKET, 0x1105, 1), 0);
	CHECK_EQ(sendcmsg(a, 9, 0x1086, 800), 1); /* the decree before all */
	tn_sleep(&tn, TN_SEC);
	v = &spies[0]->s_v[first];
	CHECK_EQ(spies[0]->s_n - first, 7);
	CHECK_EQ(v[0].sp_svc, SVC_RD);
	CHECK_EQ(v[1].sp_svc, SVC_VO);
	CHECK_EQ(v[2].sp_svc, SVC_SIG);
	CHECK_EQ(v[3].sp_svc, SVC_BK);
	CHECK_EQ(v[3].sp_origin, 77);
	CHECK_EQ(v[4].sp_svc, SVC_RV);
	CHECK_EQ(v[4].sp_origin, 77);
	CHECK_EQ(v[5].sp_svc, SVC_RD);
	CHECK_EQ(v[5].sp_origin, 0);
	CHECK_EQ(v[6].sp_svc, SVC_BK_SYS);
	CHECK_EQ(bsd_set_tag(a, SVC_COUNT, 0), -EINVAL);
	CHECK_EQ(bsd_set_tag(a, -2, 0), -EINVAL);
	CHECK_EQ(bsd_set_tag(a, 0, BSD_ORIGIN_OTHERS), -EINVAL);
	CHECK_EQ(ledger(tn.tn_s[0], 77).txpkts[SVC_BK], 1);
	CHECK_EQ(ledger(tn.tn_s[0], 77).txpkts[SVC_RV], 1);
	CHECK_EQ(ledger(tn.tn_s[0], 77).txbytes[SVC_RV], 29);
	bsd_close(a);
	bsd_close(b);
	tn_free(&tn);
}

/* The class a datagram came with, or -1: nothing there. */
static int
recvclass(struct socket *so)
{
	char data[64];
	struct bsd_iovec iov = { data, sizeof(data) };
	union {
		struct cmsghdr c;
		uint8_t b[256];
	} u;
	size_t len = sizeof(u);
	int flags = 0, val = -1;

	if (bsd_recvmsg(so, &iov, 1, &u, &len, &flags, NULL, 0) < 0) {
		return -2;
	}
	if (len >= CMSG_LEN(sizeof(val)) && u.c.cmsg_level == SOL_SOCKET &&
	    u.c.cmsg_type == 0x1086) {
		memcpy(&val, u.b + CMSG_LEN(0), sizeof(val));
	}
	return val;
}

TEST(a_receiver_learns_the_class_without_elevation)
{
	struct tcpnet tn;
	struct bsd_addr to = tn_addr(2, 9), lo = tn_loaddr(9);
	struct socket *a, *b, *c;

	setup(&tn);
	a = dgram(&tn, 0, 9);
	b = dgram(&tn, 1, 9);
	CHECK_EQ(bsd_if_qosmark(tn.tn_s[0], en0(&tn, 0), QOSMARK_RFC4594, NULL,
		     -1),
	    0);
	CHECK_EQ(setopt(b, SOL_SOCKET, 0x1087, 1), 0);
	CHECK_EQ(getopt1(b, 0x1087), 1);
	CHECK_EQ(setopt(a, SOL_SOCKET, 0x1086, 800), 0);
	CHECK_EQ(bsd_send(a, "y", 1, 0, &to, 0), 1);
	tn_sleep(&tn, TN_SEC);
	CHECK_EQ(recvclass(b), 0); /* EF gains nothing */
	CHECK_EQ(setopt(a, SOL_SOCKET, 0x1086, 200), 0);
	CHECK_EQ(bsd_send(a, "y", 1, 0, &to, 0), 1);
	tn_sleep(&tn, TN_SEC);
	CHECK_EQ(recvclass(b), 200);
	CHECK_EQ(ledger(tn.tn_s[1], 0).rxpkts[SVC_BK], 1);
	/* Inside a stack the sender's word counts. */
	CHECK_EQ(bsd_socket(tn.tn_s[0], AF_INET, SOCK_DGRAM, 0, &c), 0);
	CHECK_EQ(bsd_bind(c, &lo), 0);
	CHECK_EQ(setopt(c, SOL_SOCKET, 0x1087, 1), 0);
	CHECK_EQ(setopt(c, SOL_SOCKET, 0x1116, 3), 0);
	CHECK_EQ(bsd_set_tag(c, -1, 5), 0);
	CHECK_EQ(bsd_send(c, "y", 1, 0, &lo, 0), 1);
	tn_settle(&tn);
	CHECK_EQ(recvclass(c), 700);
	CHECK_EQ(ledger(tn.tn_s[0], 5).rxpkts[SVC_VI], 1);
	bsd_close(a);
	bsd_close(b);
	bsd_close(c);
	tn_free(&tn);
}

/* Who connects, as the accepting side may know it: all of it inside a stack,
 * nothing that helps the peer from outside. */
TEST(an_accepted_connection_knows_its_peer)
{
	struct tcpnet tn;
	struct bsd_addr at = tn_addr(1, 80);
	uint32_t origin = 7;
	int svc = -1;

	setup(&tn);
	for (int i = 0; i < 2; i++) {
		struct socket *head, *a, *b;

		CHECK_EQ(bsd_socket(tn.tn_s[0], AF_INET, SOCK_STREAM, 0, &head),
		    0);
		CHECK_EQ(bsd_socket(tn.tn_s[i], AF_INET, SOCK_STREAM, 0, &a), 0);
		CHECK_EQ(bsd_bind(head, &at), 0);
		CHECK_EQ(bsd_listen(head, 5), 0);
		CHECK_EQ(bsd_set_tag(a, SVC_BK, 5), 0);
		CHECK_EQ(bsd_connect(a, &at, 0), -EINPROGRESS);
		tn_sleep(&tn, TN_SEC);
		CHECK_EQ(bsd_accept(head, 0, &b, NULL), 0);
		CHECK_EQ(bsd_peer_tag(b, &svc, &origin), 0);
		CHECK_EQ(svc, i == 0 ? SVC_BK : SVC_BE); /* unmarked */
		CHECK_EQ(origin, i == 0 ? 5u : 0u);
		bsd_abort(a);
		bsd_abort(b);
		bsd_close(head);
		tn_sleep(&tn, TN_SEC);
	}
	tn_free(&tn);
}

TEST(marks_by_interface_and_originator)
{
	static const struct {
		int mode, sotc;
		uint32_t origin;
		int dscp;
	} cases[] = {
		{ QOSMARK_OFF, 800, 0, 2 }, /* as IP_TOS has it */
		{ QOSMARK_FASTLANE, 800, 0, 46 },
		{ QOSMARK_FASTLANE, 200, 0, 10 },
		{ QOSMARK_FASTLANE, 10002, 0, 24 },
		{ QOSMARK_FASTLANE, 900, 0, 0 },
		{ QOSMARK_RFC4594, 10002, 0, 40 },
		{ QOSMARK_RFC4594, 900, 0, 48 },
		{ QOSMARK_RFC4594, 100, 0, 8 },
		{ QOSMARK_RFC4594, 0, 0, 0 },
	};
	static const uint32_t allow[] = { 3, 4 };
	struct tcpnet tn;
	struct bsd_addr to = tn_addr(2, 9);
	struct socket *a;

	setup(&tn);
	a = dgram(&tn, 0, 9);
	CHECK_EQ(setopt(a, IPPROTO_IP, IP_TOS, 2 << 2 | 1), 0);
	CHECK_EQ(bsd_send(a, "y", 1, 0, &to, 0), 1);
	tn_sleep(&tn, TN_SEC);
	for (size_t i = 0; i < nitems(cases); i++) {
		CHECK_EQ(bsd_if_qosmark(tn.tn_s[0], en0(&tn, 0), cases[i].mode,
			     NULL, -1),
		    0);
		CHECK_EQ(setopt(a, SOL_SOCKET, 0x1086, cases[i].sotc), 0);
		CHECK_EQ(bsd_send(a, "y", 1, 0, &to, 0), 1);
		tn_settle(&tn);
		CHECK_EQ(spies[0]->s_v[spies[0]->s_n - 1].sp_tos,
		    cases[i].dscp << 2 | 1);
	}
	CHECK_EQ(bsd_if_qosmark(tn.tn_s[0], en0(&tn, 0), QOSMARK_RFC4594, allow,
		     2),
	    0);
	CHECK_EQ(setopt(a, SOL_SOCKET, 0x1086, 800), 0);
	for (uint32_t origin = 2; origin < 6; origin++) {
		const struct spied *v;
		bool may = origin == 3 || origin == 4;

		CHECK_EQ(bsd_set_tag(a, -1, origin), 0);
		CHECK_EQ(bsd_send(a, "y", 1, 0, &to, 0), 1);
		tn_settle(&tn);
		v = &spies[0]->s_v[spies[0]->s_n - 1];
		CHECK_EQ(v->sp_tos >> 2, may ? 46 : 0);
		CHECK_EQ(v->sp_svc, SVC_VO); /* its queue is as before */
	}
	CHECK_EQ(tn_stat(tn.tn_s[0], "qos.clamped"), 2);
	CHECK_EQ(setopt(a, SOL_SOCKET, 0x1086, 200), 0);
	CHECK_EQ(bsd_send(a, "y", 1, 0, &to, 0), 1);
	CHECK_EQ(spies[0]->s_v[spies[0]->s_n - 1].sp_tos >> 2, 8);
	CHECK_EQ(bsd_if_qosmark(tn.tn_s[0], 99, 0, NULL, 0), -ENXIO);
	CHECK_EQ(bsd_if_qosmark(tn.tn_s[0], en0(&tn, 0), 3, NULL, 0), -EINVAL);
	CHECK_EQ(bsd_if_qosmark(tn.tn_s[0], en0(&tn, 0), 1, allow, 65), -EINVAL);
	CHECK_EQ(bsd_if_qosmark(tn.tn_s[0], en0(&tn, 0), 1, NULL, 2), -EINVAL);
	bsd_close(a);
	tn_free(&tn);
}

static uint8_t block[100000];

/* All of what is sent reaches the other end. */
static void
pass(struct tcpnet *tn, struct socket *from, struct socket *to, size_t len)
{
	uint64_t end = tn->tn_now + 3600 * TN_SEC;
	static uint8_t buf[65536];
	size_t sent = 0, got = 0;

	while (got < len) {
		long n = sent < len ?
		    bsd_send(from, block, MIN_OF(len - sent, sizeof(block)), 0,
			NULL, 0) :
		    0;

		CHECK(n >= 0 || n == -EAGAIN);
		sent += n > 0 ? (size_t)n : 0;
		while ((n = bsd_recv(to, buf, sizeof(buf), 0, NULL, 0)) > 0) {
			got += (size_t)n;
		}
		CHECK_EQ(n, -EAGAIN);
		CHECK(got == len || tn_step(tn, end));
	}
}

TEST(one_connection_carries_several_classes)
{
	struct tcpnet tn;
	struct socket *a, *b;
	uint64_t bytes[SVC_COUNT] = { 0 }, origin[3] = { 0 };
	struct bsd_ledger row;

	setup(&tn);
	tn_pair(&tn, &a, &b);
	pass(&tn, a, b, 20000);
	CHECK_EQ(bsd_set_tag(a, SVC_BK, 1), 0);
	CHECK_EQ(bsd_send(a, block, 20000, 0, NULL, 0), 20000);
	CHECK_EQ(bsd_set_tag(a, SVC_VI, 2), 0);
	CHECK_EQ(bsd_send(a, block, 300, 0, NULL, 0), 300);
	CHECK_EQ(bsd_send(a, block, 300, 0, NULL, 0), 300);
	CHECK_EQ(bsd_set_tag(a, -1, 0), 0);
	CHECK_EQ(bsd_send(a, block, 1000, 0, NULL, 0), 1000);
	row = ledger(tn.tn_s[0], 0); /* the socket's, whoever queued the bytes */
	CHECK(row.pool >= 20000);
	tn_sleep(&tn, 10 * TN_SEC);
	for (int i = 0; i < spies[0]->s_n; i++) {
		const struct spied *v = &spies[0]->s_v[i];

		if (v->sp_payload > 0) {
			bytes[v->sp_svc] += v->sp_payload;
			origin[v->sp_origin] += v->sp_payload;
			CHECK(v->sp_svc != SVC_BK || v->sp_origin == 1);
		} else {
			CHECK_EQ(v->sp_svc, SVC_CTL);
		}
	}
	/* A segment with urgent bytes is urgent, whatever else is in it. */
	CHECK(bytes[SVC_BK] > 20000 - 1460 && bytes[SVC_BK] <= 20000);
	CHECK(bytes[SVC_VI] >= 600 && bytes[SVC_VI] < 600 + 2 * 1460);
	CHECK_EQ(bytes[SVC_BE] + bytes[SVC_BK] + bytes[SVC_VI], 41600);
	CHECK_EQ(origin[0] + origin[1] + origin[2], 41600);
	row = ledger(tn.tn_s[0], 1);
	CHECK_EQ(row.txpkts[SVC_BK], 13);
	CHECK_EQ(row.txbytes[SVC_BK], 13 * 1500);
	CHECK_EQ(row.rexmtpkts, 0);
	/* What the peer received was nobody's. */
	CHECK(ledger(tn.tn_s[1], 0).rxbytes[SVC_BE] > 41600);
	bsd_close(a);
	bsd_close(b);
	tn_free(&tn);
}

TEST(acks_and_syns_are_control_unless_in_the_background)
{
	for (int background = 0; background < 2; background++) {
		struct tcpnet tn;
		struct socket *a, *b, *ls;
		struct bsd_addr to = tn_addr(2, 80);
		int want = background ? SVC_BK : SVC_CTL;
		int acks = 0;

		setup(&tn);
		ls = tn_listen(tn.tn_s[1], 80, 5);
		CHECK_EQ(bsd_socket(tn.tn_s[0], AF_INET, SOCK_STREAM, 0, &a), 0);
		CHECK_EQ(setopt(a, SOL_SOCKET, 0x1086, background ? 200 : 300),
		    0);
		CHECK_EQ(setopt(ls, SOL_SOCKET, 0x1086, background ? 200 : 300),
		    0);
		CHECK_EQ(bsd_set_tag(ls, -1, 3), 0);
		CHECK_EQ(bsd_connect(a, &to, 0), -EINPROGRESS);
		tn_sleep(&tn, TN_SEC);
		CHECK_EQ(bsd_accept(ls, 0, &b, NULL), 0);
		CHECK_EQ(getopt1(b, 0x1086), background ? 200 : 300);
		CHECK_EQ(b->so_origin, 0); /* the class, not the tag */
		CHECK_EQ(spies[0]->s_v[0].sp_thflags & TH_SYN, TH_SYN);
		CHECK_EQ(spies[0]->s_v[0].sp_svc, want);
		pass(&tn, a, b, 50000);
		for (int i = 1; i < spies[1]->s_n; i++) {
			CHECK_EQ(spies[1]->s_v[i].sp_payload, 0);
			CHECK_EQ(spies[1]->s_v[i].sp_svc, want);
			acks++;
		}
		CHECK(acks > 10);
		bsd_close(a);
		bsd_close(b);
		bsd_close(ls);
		tn_free(&tn);
	}
}

TEST(what_is_sent_again_says_so_and_is_charged)
{
	struct tcpnet tn;
	struct socket *a, *b;
	struct bsd_ledger row;
	uint64_t again = 0;

	setup(&tn);
	tn_pair(&tn, &a, &b);
	CHECK_EQ(bsd_set_tag(a, SVC_RD, 9), 0);
	spies[0]->s_lose = 2;
	pass(&tn, a, b, 50000);
	for (int i = 0; i < spies[0]->s_n; i++) {
		const struct spied *v = &spies[0]->s_v[i];

		if (v->sp_flags & PKT_REXMT) {
			CHECK_EQ(v->sp_svc, SVC_RD);
			CHECK_EQ(v->sp_origin, 9);
			again++;
		}
	}
	row = ledger(tn.tn_s[0], 9);
	CHECK(again >= 2);
	CHECK_EQ(row.rexmtpkts, again);
	CHECK(row.rexmtbytes >= 2 * 1500);
	bsd_close(a);
	bsd_close(b);
	tn_free(&tn);
}

TEST(the_ledger_is_bounded)
{
	struct tcpnet tn;
	struct bsd_addr to = tn_addr(2, 9);
	struct socket *a;
	struct bsd_ledger v[2];
	uint64_t others;

	setup(&tn);
	a = dgram(&tn, 0, 9);
	for (uint32_t i = 1; i <= QOS_ROWS + 50; i++) {
		CHECK_EQ(bsd_set_tag(a, SVC_BE, i), 0);
		CHECK_EQ(bsd_send(a, "y", 1, 0, &to, 0), 1);
		tn_sleep(&tn, TN_MS);
	}
	CHECK_EQ(bsd_ledger_list(tn.tn_s[0], NULL, 0), QOS_ROWS + 2);
	CHECK_EQ(bsd_ledger_list(tn.tn_s[0], v, 2), QOS_ROWS + 2);
	CHECK_EQ(v[0].origin, 0);
	CHECK_EQ(v[1].origin, BSD_ORIGIN_OTHERS);
	others = v[1].txpkts[SVC_BE];
	CHECK_EQ(others, 50);
	CHECK_EQ(ledger(tn.tn_s[0], QOS_ROWS).txpkts[SVC_BE], 1);
	bsd_close(a);
	tn_free(&tn);
}

/* ---- flows that a class queue stops ---- */

struct space {
	struct flow_adv sp_adv[16];
	struct flow_advtab sp_tab;
	uint32_t sp_next;
};

static int
sp_reserve(void *arg, const struct flow_key *k, unsigned flags)
{
	(void)arg;
	(void)k;
	(void)flags;
	return 0;
}

static void
sp_release(void *arg, const struct flow_key *k)
{
	(void)arg;
	(void)k;
}

static int
sp_attach(void *arg, const struct flow_key *k, unsigned flags, uint32_t *flowid)
{
	struct space *sp = arg;

	(void)k;
	(void)flags;
	*flowid = ++sp->sp_next;
	atomic_store(&sp->sp_adv[*flowid & 15].fa_flowid, *flowid);
	atomic_store(&sp->sp_adv[*flowid & 15].fa_flags, FLOWADV_VALID);
	return 0;
}

static void
sp_detach(void *arg, uint32_t flowid, unsigned flags)
{
	struct space *sp = arg;

	(void)flags;
	atomic_store(&sp->sp_adv[flowid & 15].fa_flowid, 0);
}

static const struct netns_ops sp_ops = { sp_reserve, sp_release, sp_attach,
	sp_detach };

/* Two hosts, 5 ms apart; the first sends through class queues. Answers them. */
static struct port *
setup_shaped(struct tcpnet *tn, struct nic_classq cfg, struct space *sp)
{
	struct nic_fault fault = { .delay_ns = 5 * TN_MS };
	struct port *pt[2];

	memset(tn, 0, sizeof(*tn));
	memset(sp, 0, sizeof(*sp));
	tn->tn_now = 1000 * TN_SEC;
	for (int i = 0; i < 2; i++) {
		tn->tn_pool[i] = nic_pool_new(64 << 20);
	}
	CHECK_EQ(nic_feth_open(tn->tn_pool[0], tn->tn_pool[1], 0, 1500, 4096,
		     PORT_SG, 0, &pt[0], &pt[1]),
	    0);
	CHECK_EQ(nic_fault_wrap(pt[0], 1, &pt[0]), 0);
	CHECK_EQ(nic_fault_set(pt[0], 2, &fault), 0);
	CHECK_EQ(nic_classq_wrap(pt[0], &cfg, &pt[0]), 0);
	for (int i = 0; i < 2; i++) {
		struct bsd_addr a = tn_addr(i + 1, 0);
		int ifi;

		tn->tn_s[i] = tn_stack(7 + (unsigned)i, tn->tn_now);
		ifi = bsd_if_attach(tn->tn_s[i], pt[i], "en0");
		CHECK(ifi > 0);
		CHECK_EQ(bsd_if_addaddr(tn->tn_s[i], (unsigned)ifi, &a, 24), 0);
	}
	sp->sp_tab.ft_mask = 15;
	sp->sp_tab.ft_entry = sp->sp_adv;
	CHECK_EQ(bsd_set_netns(tn->tn_s[0], &sp_ops, sp, &sp->sp_tab), 0);
	CHECK_EQ(pt[0]->pt_ops->po_ctl(pt[0], PORT_CTL_FLOWADV, &sp->sp_tab), 0);
	return pt[0];
}

TEST(a_class_queue_stops_its_own_senders_and_drops_nothing)
{
	struct tcpnet tn;
	struct space sp;
	struct socket *a, *b;
	struct nic_classq_stats st;
	struct port *port =
	    setup_shaped(&tn, (struct nic_classq){ .rate_bps = 10000000 }, &sp);
	uint64_t begin;

	tn_pair(&tn, &a, &b);
	begin = tn.tn_now;
	pass(&tn, a, b, 10 << 20);
	CHECK_EQ(nic_classq_stats(port, 7, &st), 0);
	CHECK(st.suspends > 3);
	CHECK_EQ(st.aqm + st.overflow + st.marks, 0);
	CHECK_EQ(tn_stat(tn.tn_s[0], "tcp.sndrexmitpack"), 0);
	CHECK(tn_stat(tn.tn_s[0], "flow.resumes") > 3);
	/* 10 MiB at 10 Mbit/s, headers apart: the line was kept busy. */
	CHECK(tn.tn_now - begin < 9500 * TN_MS);
	bsd_close(a);
	bsd_close(b);
	tn_sleep(&tn, 100 * TN_SEC);
	tn_free(&tn);
}

TESTS(RUN(options_by_number), RUN(linux_names_choose_a_class_too),
    RUN(each_datagram_may_have_its_class),
    RUN(a_receiver_learns_the_class_without_elevation),
    RUN(an_accepted_connection_knows_its_peer),
    RUN(marks_by_interface_and_originator),
    RUN(one_connection_carries_several_classes),
    RUN(acks_and_syns_are_control_unless_in_the_background),
    RUN(what_is_sent_again_says_so_and_is_charged), RUN(the_ledger_is_bounded),
    RUN(a_class_queue_stops_its_own_senders_and_drops_nothing))
