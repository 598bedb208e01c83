/*
 * test_tcp_usrreq.c - opening a connection from our side, answered segment by
 * segment, and the limits on what comes in.
 */
#include "tests/unit/c/tcpscript.h"

/* connect() from OUR_PORT to the test; the SYN is answered by *syn. */
static struct sent
sc_connect(struct script *sc)
{
	struct bsd_addr me = { .family = AF_INET, .port = OUR_PORT };
	struct bsd_addr to = {
		.family = AF_INET, .port = PEER_PORT, .addr = { 10, 0, 0, 2 }
	};
	struct sent syn;

	sc_init(sc);
	CHECK_EQ(bsd_close(sc->sc_ls), 0);
	CHECK_EQ(bsd_socket(sc->sc_s, AF_INET, SOCK_STREAM, 0, &sc->sc_ls), 0);
	CHECK_EQ(bsd_socket(sc->sc_s, AF_INET, SOCK_STREAM, 0, &sc->sc_so), 0);
	CHECK_EQ(bsd_bind(sc->sc_so, &me), 0);
	CHECK_EQ(bsd_connect(sc->sc_so, &to, 0), -EINPROGRESS);
	CHECK_EQ(bsd_connect(sc->sc_so, &to, 0), -EALREADY);
	sc_run(sc);
	syn = sc_out(sc);
	CHECK_EQ(syn.flags, TH_SYN);
	CHECK_EQ(syn.opt.to_flags, TOF_MSS | TOF_WSCALE | TOF_SACKOK | TOF_TS);
	CHECK_EQ(syn.opt.to_mss, 1460);
	CHECK_EQ(syn.opt.to_tsecr, 0);
	return syn;
}

static int
so_error(struct script *sc)
{
	int v = -1;
	size_t len = sizeof(v);

	CHECK_EQ(bsd_getsockopt(sc->sc_so, SOL_SOCKET, SO_ERROR, &v, &len), 0);
	return v;
}

/* RFC 9293 3.10.7.3. */
static void
test_synsent(void)
{
	struct script sc;
	struct sent st;
	char buf[8];

	(void)sc_connect(&sc);
	sc_in(&sc, TH_SYN | TH_ACK, 0, 2, 5000, NULL, 0); /* bad ACK */
	st = sc_out(&sc);
	CHECK_EQ(st.flags, TH_RST);
	CHECK_EQ(st.seq, 2);
	sc_in(&sc, TH_RST | TH_ACK, 0, 7, 0, NULL, 0);
	sc_in(&sc, TH_RST, 0, 0, 0, NULL, 0);
	sc_in(&sc, TH_ACK, 1, 1, 5000, NULL, 0);
	sc_silent(&sc);
	CHECK_EQ(sototcpcb(sc.sc_so)->t_state, TCPS_SYN_SENT);
	/* A plain peer: no options; data and FIN come along. */
	sc_in(&sc, TH_SYN | TH_ACK, 0, 1, 5000, "hi", 2);
	st = sc_out(&sc);
	CHECK_EQ(st.flags, TH_ACK);
	CHECK_EQ(st.ack, 3);
	CHECK_EQ(st.opt.to_flags, 0);
	CHECK_EQ(sototcpcb(sc.sc_so)->t_mss, TCP_MSS4); /* MUST-15 */
	CHECK_EQ(bsd_recv(sc.sc_so, buf, 8, 0, NULL, 0), 2);
	sc_close(&sc);
}

static void
test_refused(void)
{
	struct script sc;

	(void)sc_connect(&sc);
	sc_in(&sc, TH_RST | TH_ACK, 0, 1, 0, NULL, 0);
	sc_silent(&sc);
	CHECK_EQ(so_error(&sc), ECONNREFUSED);
	sc_close(&sc);
}

/* The SYN is repeated with growing gaps; a lost one means a window of one
 * segment and a timeout of three seconds (RFC 5681 3.1, RFC 6298 5.7). */
static void
test_synlost(void)
{
	struct script sc;

	(void)sc_connect(&sc);
	for (uint64_t gap = 1; gap <= 4; gap *= 2) {
		sc_sleep(&sc, gap * SC_SEC - 1);
		sc_silent(&sc);
		sc_sleep(&sc, 1);
		CHECK_EQ(sc_out(&sc).flags, TH_SYN);
	}
	sc_in(&sc, TH_SYN | TH_ACK, 0, 1, 5000, NULL, 0);
	CHECK_EQ(sc_out(&sc).flags, TH_ACK);
	CHECK_EQ(sototcpcb(sc.sc_so)->snd_cwnd, sototcpcb(sc.sc_so)->t_maxseg);
	CHECK_EQ(sototcpcb(sc.sc_so)->t_rto, 3 * SC_SEC);
	sc_close(&sc);
}

/* What ICMP says while a connection opens ends it; a quoted segment that is
 * not ours does not. */
static void
test_unreach(void)
{
	struct script sc;
	union inaddr us = in_map4(htonl(0x0a000001));
	union inaddr peer = in_map4(htonl(0x0a000002));
	uint8_t th[8];
	struct ctlparam cp = {
		.cp_laddr = &us, .cp_faddr = &peer, .cp_th = th, .cp_thlen = 8
	};

	(void)sc_connect(&sc);
	be16put(th, OUR_PORT);
	be16put(th + 2, PEER_PORT);
	be32put(th + 4, sc.sc_iss + 1);
	stack_enter(sc.sc_s);
	tcp_ctlinput(sc.sc_s, PRC_UNREACH_HOST, &cp);
	CHECK_EQ(sototcpcb(sc.sc_so)->t_state, TCPS_SYN_SENT);
	be32put(th + 4, sc.sc_iss);
	tcp_ctlinput(sc.sc_s, PRC_QUENCH, &cp); /* MUST-55 */
	CHECK_EQ(sototcpcb(sc.sc_so)->t_state, TCPS_SYN_SENT);
	tcp_ctlinput(sc.sc_s, PRC_UNREACH_HOST, &cp);
	stack_leave(sc.sc_s);
	CHECK_EQ(so_error(&sc), EHOSTUNREACH);
	sc_silent(&sc);
	sc_close(&sc);
}

/* Crossing SYNs, played (MUST-10). */
static void
test_crossed(void)
{
	struct script sc;
	struct sent st;

	(void)sc_connect(&sc);
	sc_in(&sc, TH_SYN, 0, 0, 5000, NULL, 0);
	st = sc_out(&sc);
	CHECK_EQ(st.flags, TH_SYN | TH_ACK);
	CHECK_EQ(st.seq, 0);
	CHECK_EQ(st.ack, 1);
	sc_in(&sc, TH_SYN | TH_ACK, 0, 1, 5000, NULL, 0);
	CHECK_EQ(sototcpcb(sc.sc_so)->t_state, TCPS_ESTABLISHED);
	CHECK_EQ(sc_out(&sc).flags, TH_ACK);
	sc_close(&sc);
}

/* Half-open connections are bounded; beyond the bound there are cookies, and
 * without those nothing. */
static void
test_flood(void)
{
	struct script sc;
	int answers = 0;

	sc_init(&sc);
	CHECK_EQ(bsd_sysctl_set(sc.sc_s, "net.inet.tcp.syncache_limit", 0), 0);
	CHECK_EQ(bsd_sysctl_set(sc.sc_s, "net.inet.tcp.syncookies", 0), 0);
	sc_in(&sc, TH_SYN, 0, 0, 5000, NULL, 0);
	sc_silent(&sc);
	CHECK_EQ(sc_stat(&sc, "tcp.sc_overflow"), 1);
	CHECK_EQ(bsd_sysctl_set(sc.sc_s, "net.inet.tcp.syncookies", 1), 0);
	for (int i = 0; i < 20; i++) {
		sc_in(&sc, TH_SYN, (uint32_t)i * 1000, 0, 5000, NULL, 0);
		answers += sc_out(&sc).flags == (TH_SYN | TH_ACK);
	}
	CHECK_EQ(answers, 20);
	CHECK_EQ(tcp_syncache_count(sc.sc_s->s_tcp), 0);
	/* A forged answer is refused, the right one is a connection. */
	sc_in(&sc, TH_ACK, 19001, 12345, 5000, NULL, 0);
	CHECK_EQ(sc_out(&sc).flags, TH_RST);
	CHECK_EQ(sc_stat(&sc, "tcp.drop.cookiebad"), 1);
	sc_in(&sc, TH_ACK, 19001, 1, 5000, NULL, 0);
	CHECK_EQ(bsd_accept(sc.sc_ls, 0, &sc.sc_so, NULL), 0);
	CHECK_EQ(sototcpcb(sc.sc_so)->t_mss, 536);
	sc_close(&sc);
	/* A cookie does not keep for ever. */
	sc.sc_so = NULL;
	sc_init(&sc);
	CHECK_EQ(bsd_sysctl_set(sc.sc_s, "net.inet.tcp.syncookies", 2), 0);
	sc_in(&sc, TH_SYN, 0, 0, 5000, NULL, 0);
	(void)sc_out(&sc);
	sc_sleep(&sc, 200 * SC_SEC);
	sc_in(&sc, TH_ACK, 1, 1, 5000, NULL, 0);
	CHECK_EQ(sc_out(&sc).flags, TH_RST);
	sc_close(&sc);
}

/* TCP_DEFER_ACCEPT: the connection appears with its first data. */
static void
test_defer(void)
{
	struct script sc;
	int v = 5;
	char c;

	sc_init(&sc);
	CHECK_EQ(bsd_setsockopt(sc.sc_ls, IPPROTO_TCP, TCP_DEFER_ACCEPT, &v,
		     sizeof(v)),
	    0);
	sc_in(&sc, TH_SYN, 0, 0, 5000, NULL, 0);
	(void)sc_out(&sc);
	sc_in(&sc, TH_ACK, 1, 1, 5000, NULL, 0);
	CHECK_EQ(bsd_accept(sc.sc_ls, 0, &sc.sc_so, NULL), -EAGAIN);
	sc_in(&sc, TH_ACK, 1, 1, 5000, "x", 1);
	CHECK_EQ(bsd_accept(sc.sc_ls, 0, &sc.sc_so, NULL), 0);
	CHECK_EQ(bsd_recv(sc.sc_so, &c, 1, 0, NULL, 0), 1);
	sc_close(&sc);
}

int
main(void)
{
	test_synsent();
	test_refused();
	test_synlost();
	test_unreach();
	test_crossed();
	test_flood();
	test_defer();
	return 0;
}
