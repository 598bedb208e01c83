/*
 * test_tcp_states.c - opening and closing in all the ways there are, over
 * loopback and over a link, in virtual time.
 */
#include <netinet/in.h>

#include "tests/unit/c/tcpnet.h"

/* Run one stack at its time, nothing else happening. */
static void
lo_settle(struct stack *s)
{
	int n = 0;

	do {
		CHECK(n++ < 10000);
	} while (bsd_run(s, bsd_now(s)) != 0 || bsd_poll_at(s) <= bsd_now(s));
}

static void
lo_sleep(struct stack *s, uint64_t ns)
{
	uint64_t end = bsd_now(s) + ns, at;

	lo_settle(s);
	while ((at = bsd_poll_at(s)) <= end) {
		(void)bsd_run(s, at);
		lo_settle(s);
	}
	(void)bsd_run(s, end);
	lo_settle(s);
}

static int
state(struct socket *so)
{
	return tn_tcpcb(so)->t_state;
}

static int
so_error(struct socket *so)
{
	int v = -1;
	size_t len = sizeof(v);

	CHECK_EQ(bsd_getsockopt(so, SOL_SOCKET, SO_ERROR, &v, &len), 0);
	return v;
}

static void
lo_pair(struct stack *s, struct socket **c, struct socket **a)
{
	struct socket *ls = tn_listen(s, 80, 5);
	struct bsd_addr to = tn_loaddr(80);

	*c = tn_connect(s, &to);
	lo_settle(s);
	CHECK_EQ(bsd_accept(ls, 0, a, NULL), 0);
	CHECK_EQ(bsd_close(ls), 0);
	CHECK_EQ(state(*c), TCPS_ESTABLISHED);
	CHECK_EQ(state(*a), TCPS_ESTABLISHED);
}

static void
test_refused(struct stack *s)
{
	struct bsd_addr to = tn_loaddr(81);
	struct socket *so = tn_connect(s, &to), *ls, *a;

	lo_settle(s);
	CHECK_EQ(so_error(so), ECONNREFUSED);
	CHECK(bsd_poll(so) & POLLHUP);
	/* As on Linux, the socket may try again. */
	ls = tn_listen(s, 81, 5);
	CHECK_EQ(bsd_connect(so, &to, 0), -ECONNABORTED);
	CHECK_EQ(bsd_connect(so, &to, 0), -EINPROGRESS);
	lo_settle(s);
	CHECK_EQ(state(so), TCPS_ESTABLISHED);
	CHECK_EQ(so_error(so), 0);
	CHECK_EQ(bsd_accept(ls, 0, &a, NULL), 0);
	CHECK_EQ(bsd_send(so, "hi", 2, 0, NULL, 0), 2);
	CHECK_EQ(bsd_close(so), 0);
	CHECK_EQ(bsd_close(a), 0);
	CHECK_EQ(bsd_close(ls), 0);
	lo_settle(s);
}

/* Half-close, FIN_WAIT_2, CLOSE_WAIT, LAST_ACK, TIME_WAIT. */
static void
test_halfclose(struct stack *s)
{
	struct socket *c, *a;
	char buf[16];

	lo_pair(s, &c, &a);
	CHECK_EQ(bsd_shutdown(c, SHUT_WR), 0);
	lo_settle(s);
	CHECK_EQ(state(c), TCPS_FIN_WAIT_2);
	CHECK_EQ(state(a), TCPS_CLOSE_WAIT);
	CHECK_EQ(bsd_recv(a, buf, sizeof(buf), 0, NULL, 0), 0);
	CHECK_EQ(bsd_send(c, "x", 1, 0, NULL, 0), -EPIPE);
	CHECK_EQ(bsd_send(a, "bye", 3, 0, NULL, 0), 3);
	lo_settle(s);
	CHECK_EQ(bsd_recv(c, buf, sizeof(buf), 0, NULL, 0), 3);
	CHECK_EQ(bsd_send(a, "more", 4, 0, NULL, 0), 4);
	CHECK_EQ(bsd_shutdown(a, SHUT_WR), 0);
	lo_settle(s);
	CHECK_EQ(state(c), TCPS_CLOSED);
	CHECK_EQ(state(a), TCPS_CLOSED);
	CHECK_EQ(tcp_tw_count(s->s_tcp), 1);
	CHECK_EQ(bsd_recv(c, buf, sizeof(buf), 0, NULL, 0), 4);
	CHECK_EQ(bsd_recv(c, buf, sizeof(buf), 0, NULL, 0), 0);
	CHECK_EQ(so_error(c), 0);
	CHECK_EQ(so_error(a), 0);
	CHECK_EQ(bsd_close(c), 0);
	CHECK_EQ(bsd_close(a), 0);
	lo_sleep(s, 31 * TN_SEC);
	CHECK_EQ(tcp_tw_count(s->s_tcp), 0);
}

/* Both close at once. */
static void
test_simclose(struct tcpnet *tn)
{
	struct socket *c, *a;
	struct tcpcb *tc, *ta;

	tn_pair(tn, &c, &a);
	tc = tn_tcpcb(c);
	ta = tn_tcpcb(a);
	CHECK_EQ(bsd_shutdown(c, SHUT_WR), 0);
	CHECK_EQ(bsd_shutdown(a, SHUT_WR), 0);
	CHECK_EQ(tc->t_state, TCPS_FIN_WAIT_1);
	CHECK_EQ(ta->t_state, TCPS_FIN_WAIT_1);
	tn_sleep(tn, TN_SEC);
	CHECK_EQ(tc->t_state, TCPS_CLOSED);
	CHECK_EQ(ta->t_state, TCPS_CLOSED);
	CHECK_EQ(tcp_tw_count(tn->tn_s[0]->s_tcp), 1);
	CHECK_EQ(tcp_tw_count(tn->tn_s[1]->s_tcp), 1);
	CHECK_EQ(bsd_close(c), 0);
	CHECK_EQ(bsd_close(a), 0);
	tn_sleep(tn, 31 * TN_SEC);
	CHECK_EQ(tcp_tw_count(tn->tn_s[0]->s_tcp), 0);
}

/* Both open at once (MUST-10). */
static void
test_simopen(struct tcpnet *tn)
{
	struct socket *so[2];
	struct bsd_addr me, to;
	char buf[8];

	for (int i = 0; i < 2; i++) {
		me = tn_addr(i + 1, 7777);
		CHECK_EQ(bsd_socket(tn->tn_s[i], AF_INET, SOCK_STREAM, 0, &so[i]),
		    0);
		CHECK_EQ(bsd_bind(so[i], &me), 0);
	}
	for (int i = 0; i < 2; i++) {
		to = tn_addr(2 - i, 7777);
		CHECK_EQ(bsd_connect(so[i], &to, 0), -EINPROGRESS);
	}
	tn_sleep(tn, 3 * TN_SEC);
	CHECK_EQ(state(so[0]), TCPS_ESTABLISHED);
	CHECK_EQ(state(so[1]), TCPS_ESTABLISHED);
	CHECK_EQ(bsd_send(so[0], "ab", 2, 0, NULL, 0), 2);
	tn_sleep(tn, TN_SEC);
	CHECK_EQ(bsd_recv(so[1], buf, 8, 0, NULL, 0), 2);
	/* Linger 0: RST. */
	CHECK_EQ(bsd_setsockopt(so[0], SOL_SOCKET, SO_LINGER,
		     &(struct linger){ 1, 0 }, sizeof(struct linger)),
	    0);
	CHECK_EQ(bsd_close(so[0]), 0);
	tn_sleep(tn, TN_SEC);
	CHECK_EQ(state(so[1]), TCPS_CLOSED);
	CHECK_EQ(bsd_recv(so[1], buf, 8, 0, NULL, 0), -ECONNRESET);
	CHECK_EQ(bsd_close(so[1]), 0);
}

/* A socket connected to itself. */
static void
test_selfconnect(struct stack *s)
{
	struct bsd_addr me = tn_loaddr(999);
	struct socket *so;
	char buf[8];

	CHECK_EQ(bsd_socket(s, AF_INET, SOCK_STREAM, 0, &so), 0);
	CHECK_EQ(bsd_bind(so, &me), 0);
	CHECK_EQ(bsd_connect(so, &me, 0), -EINPROGRESS);
	lo_settle(s);
	CHECK_EQ(state(so), TCPS_ESTABLISHED);
	CHECK_EQ(bsd_send(so, "me", 2, 0, NULL, 0), 2);
	lo_settle(s);
	CHECK_EQ(bsd_recv(so, buf, 8, 0, NULL, 0), 2);
	CHECK_EQ(bsd_close(so), 0);
	lo_sleep(s, 100 * TN_SEC);
}

/* Closing with unread data resets (RFC 2525 2.17). */
static void
test_unread(struct stack *s)
{
	struct socket *c, *a;
	char buf[8];

	lo_pair(s, &c, &a);
	CHECK_EQ(bsd_send(c, "data", 4, 0, NULL, 0), 4);
	lo_settle(s);
	CHECK_EQ(bsd_close(a), 0);
	lo_settle(s);
	CHECK_EQ(bsd_recv(c, buf, 8, 0, NULL, 0), -ECONNRESET);
	CHECK_EQ(bsd_close(c), 0);
	lo_settle(s);
}

/* Data for a closed socket are refused. */
static void
test_orphan(struct stack *s)
{
	struct socket *c, *a;
	char buf[8];

	lo_pair(s, &c, &a);
	CHECK_EQ(bsd_close(a), 0);
	lo_settle(s);
	CHECK_EQ(state(c), TCPS_CLOSE_WAIT);
	CHECK_EQ(bsd_send(c, "data", 4, 0, NULL, 0), 4);
	lo_settle(s);
	CHECK_EQ(state(c), TCPS_CLOSED);
	CHECK_EQ(bsd_recv(c, buf, 8, 0, NULL, 0), 0);
	CHECK_EQ(bsd_send(c, "data", 4, 0, NULL, 0), -EPIPE);
	CHECK_EQ(bsd_close(c), 0);
	lo_settle(s);
}

/* FIN_WAIT_2 with nobody there ends; with somebody there it does not. */
static void
test_finwait2(struct stack *s)
{
	struct socket *c, *a;
	struct bsd_memstat ms;

	lo_pair(s, &c, &a);
	CHECK_EQ(bsd_shutdown(c, SHUT_WR), 0);
	lo_sleep(s, 200 * TN_SEC);
	CHECK_EQ(state(c), TCPS_FIN_WAIT_2);
	CHECK_EQ(bsd_close(c), 0);
	lo_sleep(s, 61 * TN_SEC);
	bsd_memstat(s, &ms);
	CHECK_EQ(ms.sockets, 1);
	CHECK_EQ(tn_stat(s, "tcp.finwait2_timeout"), 1);
	CHECK_EQ(bsd_close(a), 0);
	lo_sleep(s, TN_SEC);
	bsd_memstat(s, &ms);
	CHECK_EQ(ms.sockets, 0);
}

static void
test_backlog(struct stack *s)
{
	struct socket *ls = tn_listen(s, 80, 1), *c[4], *a;
	struct bsd_addr to = tn_loaddr(80);

	for (int i = 0; i < 4; i++) {
		c[i] = tn_connect(s, &to);
		lo_settle(s);
	}
	CHECK_EQ(state(c[1]), TCPS_ESTABLISHED);
	CHECK_EQ(state(c[2]), TCPS_SYN_SENT);
	CHECK_EQ(bsd_accept(ls, 0, &a, NULL), 0);
	CHECK_EQ(bsd_close(a), 0);
	CHECK_EQ(bsd_accept(ls, 0, &a, NULL), 0);
	CHECK_EQ(bsd_close(a), 0);
	lo_sleep(s, 4 * TN_SEC); /* the SYNs come again */
	CHECK_EQ(state(c[2]), TCPS_ESTABLISHED);
	CHECK_EQ(state(c[3]), TCPS_ESTABLISHED);
	/* A listener that goes takes what waits along. */
	CHECK_EQ(bsd_close(ls), 0);
	lo_settle(s);
	CHECK_EQ(so_error(c[3]), ECONNRESET);
	for (int i = 0; i < 4; i++) {
		CHECK_EQ(bsd_close(c[i]), 0);
	}
	lo_sleep(s, 100 * TN_SEC);
}

/* Many more clients than the backlog has room for: all are served. */
static void
test_crowd(struct tcpnet *tn)
{
	enum { N = 200 };
	static struct socket *c[N];
	static bool sent[N], got[N];
	struct socket *ls = tn_listen(tn->tn_s[1], 80, 5), *a;
	struct bsd_addr to = tn_addr(2, 80);
	uint64_t end = tn->tn_now + 60 * TN_SEC;
	int served = 0, done = 0;
	char buf[8];

	for (int i = 0; i < N; i++) {
		c[i] = tn_connect(tn->tn_s[0], &to);
	}
	while (done < N && tn_step(tn, end)) {
		for (int i = 0; i < N; i++) {
			if (!sent[i] && state(c[i]) == TCPS_ESTABLISHED) {
				CHECK_EQ(bsd_send(c[i], "GET", 3, 0, NULL, 0),
				    3);
				sent[i] = true;
			}
			if (sent[i] && !got[i] &&
			    bsd_recv(c[i], buf, 8, MSG_DONTWAIT, NULL, 0) > 0) {
				got[i] = true;
				done++;
			}
		}
		while (bsd_accept(ls, 0, &a, NULL) == 0) {
			served++;
			CHECK_EQ(bsd_send(a, "OK", 2, 0, NULL, 0), 2);
			CHECK_EQ(bsd_shutdown(a, SHUT_WR), 0);
			(void)bsd_recv(a, buf, 8, MSG_DONTWAIT, NULL, 0);
			CHECK_EQ(bsd_close(a), 0);
		}
	}
	CHECK_EQ(served, N);
	CHECK_EQ(done, N);
	for (int i = 0; i < N; i++) {
		CHECK_EQ(bsd_close(c[i]), 0);
	}
	CHECK_EQ(bsd_close(ls), 0);
	tn_sleep(tn, 100 * TN_SEC);
}

static void
test_cookies(struct stack *s)
{
	struct socket *c, *a;

	CHECK_EQ(bsd_sysctl_set(s, "net.inet.tcp.syncookies", 2), 0);
	lo_pair(s, &c, &a);
	CHECK_EQ(tn_stat(s, "tcp.cookie_sent"), 1);
	CHECK_EQ(tn_stat(s, "tcp.cookie_recv"), 1);
	CHECK(tcp_sack_on(tn_tcpcb(a)));
	CHECK_EQ(tn_tcpcb(a)->t_sndscale, tn_tcpcb(c)->t_rcvscale);
	CHECK_EQ(tn_tcpcb(a)->t_rcvscale, tn_tcpcb(c)->t_sndscale);
	CHECK_EQ(bsd_sysctl_set(s, "net.inet.tcp.syncookies", 1), 0);
	CHECK_EQ(bsd_close(c), 0);
	CHECK_EQ(bsd_close(a), 0);
	lo_sleep(s, 100 * TN_SEC);
}

/* A SYN to nowhere is given up after R2 (MUST-23: three minutes). */
static void
test_synretries(struct tcpnet *tn)
{
	struct bsd_addr to = tn_addr(2, 80);
	struct nic_fault dead = { .partition = 1 };
	struct socket *so, *a;
	uint64_t start;

	tn_pair(tn, &so, &a); /* the neighbour is known, */
	CHECK_EQ(bsd_close(so), 0);
	CHECK_EQ(bsd_close(a), 0);
	tn_sleep(tn, 100 * TN_MS);
	CHECK_EQ(nic_fault_set(tn->tn_fault[1], 0, &dead), 0); /* but silent */
	so = tn_connect(tn->tn_s[0], &to);
	start = tn->tn_now;
	while (state(so) == TCPS_SYN_SENT) {
		CHECK(tn_step(tn, start + 1000 * TN_SEC));
	}
	CHECK(tn->tn_now - start >= 180 * TN_SEC);
	CHECK(tn->tn_now - start <= 260 * TN_SEC);
	CHECK_EQ(so_error(so), ETIMEDOUT);
	CHECK_EQ(bsd_close(so), 0);
}

/* The same machine under both families; :: takes IPv4, too. */
static void
test_v6(struct stack *s)
{
	struct bsd_addr any6 = { .family = AF_INET6, .port = 606 };
	struct bsd_addr lo6 = {
		.family = AF_INET6, .port = 606, .addr = { [15] = 1 }
	};
	struct bsd_addr lo4 = tn_loaddr(606), who;
	struct socket *ls, *c6, *c4, *a6, *a4;
	char buf[8];

	CHECK_EQ(bsd_socket(s, AF_INET6, SOCK_STREAM, 0, &ls), 0);
	CHECK_EQ(bsd_bind(ls, &any6), 0);
	CHECK_EQ(bsd_listen(ls, 5), 0);
	CHECK_EQ(bsd_socket(s, AF_INET6, SOCK_STREAM, 0, &c6), 0);
	CHECK_EQ(bsd_connect(c6, &lo6, 0), -EINPROGRESS);
	lo_settle(s);
	CHECK_EQ(bsd_accept(ls, 0, &a6, &who), 0);
	CHECK_EQ(who.family, AF_INET6);
	CHECK_EQ(who.addr[15], 1);
	c4 = tn_connect(s, &lo4);
	lo_settle(s);
	CHECK_EQ(bsd_accept(ls, 0, &a4, &who), 0);
	CHECK_EQ(who.family, AF_INET6);
	CHECK_EQ(who.addr[10], 0xff); /* ::ffff:127.0.0.1 */
	CHECK_EQ(who.addr[12], 127);
	CHECK_EQ(bsd_send(c6, "six", 3, 0, NULL, 0), 3);
	CHECK_EQ(bsd_send(a4, "four", 4, 0, NULL, 0), 4);
	lo_settle(s);
	CHECK_EQ(bsd_recv(a6, buf, 8, 0, NULL, 0), 3);
	CHECK_EQ(bsd_recv(c4, buf, 8, 0, NULL, 0), 4);
	CHECK_EQ(bsd_close(c6), 0);
	CHECK_EQ(bsd_close(c4), 0);
	CHECK_EQ(bsd_close(a6), 0);
	CHECK_EQ(bsd_close(a4), 0);
	CHECK_EQ(bsd_close(ls), 0);
	lo_sleep(s, 100 * TN_SEC);
}

static struct socket *held;

static void
on_newconn(struct socket *head, struct socket *so)
{
	(void)head;
	held = so;
}

/* The gateway's listeners: any address, SYN,ACK held back. */
static void
test_listen_holdsyn(struct stack *s)
{
	struct socket *ls = tn_listen(s, 80, 5), *c, *a;
	struct bsd_addr to = tn_loaddr(80);

	ls->so_options |= SOO_HOLDSYN;
	ls->so_newconn = on_newconn;
	c = tn_connect(s, &to);
	lo_sleep(s, TN_SEC);
	CHECK(held != NULL);
	CHECK_EQ(state(c), TCPS_SYN_SENT);
	CHECK_EQ(state(held), TCPS_SYN_RECEIVED);
	stack_enter(s);
	CHECK_EQ(held->so_proto->pr_usrreqs->pru_accept(held), 0);
	stack_leave(s);
	lo_settle(s);
	CHECK_EQ(state(c), TCPS_ESTABLISHED);
	CHECK_EQ(bsd_accept(ls, 0, &a, NULL), 0);
	CHECK(a == held);
	CHECK_EQ(bsd_close(a), 0);
	CHECK_EQ(bsd_close(c), 0);
	lo_settle(s);
	/* Refused. */
	held = NULL;
	c = tn_connect(s, &to);
	lo_sleep(s, TN_SEC);
	CHECK(held != NULL);
	stack_enter(s);
	soabort(held);
	stack_leave(s);
	lo_settle(s);
	CHECK_EQ(so_error(c), ECONNREFUSED);
	CHECK_EQ(bsd_close(c), 0);
	CHECK_EQ(bsd_close(ls), 0);
	lo_sleep(s, 100 * TN_SEC);
}

static void
test_edges(void)
{
	int n = 0;

	for (int from = 0; from < TCP_NSTATES; from++) {
		for (int to = 0; to < TCP_NSTATES; to++) {
			if (tcp_edge_legal((enum tcp_fsm)from,
				(enum tcp_fsm)to)) {
				n++;
				CHECK(from != to);
			}
		}
		CHECK(from == TCPS_CLOSED ||
		    tcp_edge_legal((enum tcp_fsm)from, TCPS_CLOSED));
	}
	CHECK_EQ(n, 24);
	CHECK(!tcp_edge_legal(TCPS_ESTABLISHED, TCPS_SYN_SENT));
	CHECK(!tcp_edge_legal(TCPS_FIN_WAIT_2, TCPS_ESTABLISHED));
	CHECK(strcmp(tcp_statename(TCPS_TIME_WAIT), "TIME_WAIT") == 0);
}

int
main(void)
{
	struct stack *s = tn_stack(1, 1000 * TN_SEC);
	struct nic_fault link = { .delay_ns = 10 * TN_MS };
	struct bsd_memstat ms;
	struct tcpnet tn;

	test_edges();
	test_refused(s);
	test_halfclose(s);
	test_selfconnect(s);
	test_unread(s);
	test_orphan(s);
	test_finwait2(s);
	test_backlog(s);
	test_cookies(s);
	test_v6(s);
	test_listen_holdsyn(s);
	bsd_memstat(s, &ms);
	CHECK_EQ(ms.sockets, 0);
	bsd_stack_free(s);

	tn_init(&tn, 1, 0, 1500, &link);
	test_simclose(&tn);
	test_crowd(&tn);
	test_simopen(&tn);
	test_synretries(&tn);
	tn_free(&tn);
	return 0;
}
