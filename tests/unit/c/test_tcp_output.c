/*
 * test_tcp_output.c - when and what TCP sends: acknowledgments, Nagle, cork,
 * retransmission, recovery, probes, keepalive, path MTU.
 */
#include <netinet/tcp.h>

#include "tests/unit/c/tcpscript.h"

#define MSS 1000

static void
setopt(struct script *sc, int level, int name, int val)
{
	CHECK_EQ(bsd_setsockopt(sc->sc_so, level, name, &val, sizeof(val)), 0);
}

/* The next segment is data [seq, seq + len). */
static void
expect(struct script *sc, uint32_t seq, uint32_t len)
{
	struct sent st = sc_out(sc);

	CHECK_EQ(st.seq, seq);
	CHECK_EQ(st.len, len);
	CHECK(st.flags & TH_ACK);
}

/* One ACK for two full segments at once, for less after 40 ms. */
static void
test_delack(void)
{
	static uint8_t data[2 * MSS];
	struct script sc;

	sc_open(&sc, 0, 20000);
	sc_in(&sc, TH_ACK, 1, 1, 20000, data, MSS);
	sc_silent(&sc);
	sc_in(&sc, TH_ACK, 1 + MSS, 1, 20000, data, MSS);
	CHECK_EQ(sc_out(&sc).ack, 1 + 2 * MSS);
	sc_in(&sc, TH_ACK | TH_PUSH, 1 + 2 * MSS, 1, 20000, data, 10);
	sc_sleep(&sc, 39 * SC_MS);
	sc_silent(&sc);
	sc_sleep(&sc, 2 * SC_MS);
	CHECK_EQ(sc_out(&sc).ack, 11 + 2 * MSS);
	/* Or with data that go the other way. */
	sc_in(&sc, TH_ACK | TH_PUSH, 11 + 2 * MSS, 1, 20000, data, 10);
	sc_send(&sc, 5);
	CHECK_EQ(sc_out(&sc).ack, 21 + 2 * MSS);
	sc_sleep(&sc, 100 * SC_MS);
	sc_silent(&sc);
	sc_close(&sc);
}

static void
test_quickack(void)
{
	struct script sc;
	int64_t n;

	sc_open(&sc, SCO_QUICK, 20000);
	CHECK_EQ(bsd_sysctl_get(sc.sc_s, "net.inet.tcp.quickack_start", &n), 0);
	for (uint32_t i = 0; i < n; i++) {
		sc_in(&sc, TH_ACK, 1 + i, 1, 20000, "x", 1);
		CHECK_EQ(sc_out(&sc).ack, 2 + i);
	}
	sc_in(&sc, TH_ACK, 1 + (uint32_t)n, 1, 20000, "x", 1);
	sc_silent(&sc);
	sc_close(&sc);
}

static void
test_nagle(void)
{
	struct script sc;

	sc_open(&sc, 0, 20000);
	sc_send(&sc, 10);
	expect(&sc, 1, 10); /* nothing out: goes */
	sc_send(&sc, 10);
	sc_silent(&sc); /* a short one is out: waits */
	sc_in(&sc, TH_ACK, 1, 11, 20000, NULL, 0);
	expect(&sc, 11, 10);
	sc_send(&sc, 2 * MSS + 5);
	expect(&sc, 21, MSS); /* full ones do not wait */
	expect(&sc, 21 + MSS, MSS);
	sc_silent(&sc);
	setopt(&sc, IPPROTO_TCP, TCP_NODELAY, 1);
	expect(&sc, 21 + 2 * MSS, 5);
	sc_send(&sc, 1);
	expect(&sc, 26 + 2 * MSS, 1);
	sc_in(&sc, TH_ACK, 1, 27 + 2 * MSS, 20000, NULL, 0);
	sc_close(&sc);
}

static void
test_cork(void)
{
	struct script sc;

	sc_open(&sc, 0, 20000);
	setopt(&sc, IPPROTO_TCP, TCP_CORK, 1);
	sc_send(&sc, 10);
	sc_silent(&sc);
	sc_send(&sc, MSS);
	expect(&sc, 1, MSS);
	setopt(&sc, IPPROTO_TCP, TCP_CORK, 0);
	expect(&sc, 1 + MSS, 10);
	sc_in(&sc, TH_ACK, 1, 11 + MSS, 20000, NULL, 0);
	/* A cork that is forgotten comes out by itself. */
	setopt(&sc, IPPROTO_TCP, TCP_CORK, 1);
	sc_send(&sc, 10);
	sc_sleep(&sc, 199 * SC_MS);
	sc_silent(&sc);
	sc_sleep(&sc, 2 * SC_MS);
	expect(&sc, 11 + MSS, 10);
	sc_in(&sc, TH_ACK, 1, 21 + MSS, 20000, NULL, 0);
	/* MSG_MORE likewise. */
	setopt(&sc, IPPROTO_TCP, TCP_CORK, 0);
	CHECK_EQ(bsd_send(sc.sc_so, "abc", 3, MSG_MORE, NULL, 0), 3);
	sc_silent(&sc);
	CHECK_EQ(bsd_send(sc.sc_so, "def", 3, 0, NULL, 0), 3);
	expect(&sc, 21 + MSS, 6);
	sc_close(&sc);
}

/* RFC 6298: doubling timeouts; ETIMEDOUT in the end. */
static void
test_rto(void)
{
	struct script sc;
	uint64_t rto, sum = 0, at;
	char c;

	sc_open(&sc, 0, 20000);
	rto = sototcpcb(sc.sc_so)->t_rto;
	CHECK_EQ(rto, 200 * SC_MS); /* the floor: the handshake took no time */
	at = sc.sc_now;
	sc_send(&sc, 100);
	expect(&sc, 1, 100);
	for (int i = 0; i < 6; i++) {
		sum += rto << i;
		sc_sleep(&sc, at + sum - 1 - sc.sc_now);
		sc_silent(&sc);
		sc_sleep(&sc, 1);
		expect(&sc, 1, 100);
	}
	sc_sleep(&sc, 2000 * SC_SEC);
	CHECK_EQ(sototcpcb(sc.sc_so)->t_state, TCPS_CLOSED);
	CHECK_EQ(bsd_recv(sc.sc_so, &c, 1, 0, NULL, 0), -ETIMEDOUT);
	CHECK_EQ(sc_stat(&sc, "tcp.timeoutdrop"), 1);
	sc_close(&sc);
}

static void
test_usertimeout(void)
{
	struct script sc;
	char c;

	sc_open(&sc, 0, 20000);
	setopt(&sc, IPPROTO_TCP, TCP_USER_TIMEOUT, 3000);
	sc_send(&sc, 100);
	sc_sleep(&sc, 2900 * SC_MS);
	CHECK_EQ(sototcpcb(sc.sc_so)->t_state, TCPS_ESTABLISHED);
	sc_sleep(&sc, 5 * SC_SEC);
	CHECK_EQ(bsd_recv(sc.sc_so, &c, 1, 0, NULL, 0), -ETIMEDOUT);
	sc_close(&sc);
}

/* Three duplicates, one retransmission; NewReno goes from hole to hole. */
static void
test_newreno(void)
{
	struct script sc;

	sc_open(&sc, 0, 60000);
	sc_send(&sc, 20 * MSS);
	for (uint32_t i = 0; i < 10; i++) {
		expect(&sc, 1 + i * MSS, MSS); /* IW10 */
	}
	sc_silent(&sc);
	/* 2 and 5 are lost. */
	sc_in(&sc, TH_ACK, 1, 1 + MSS, 60000, NULL, 0);
	expect(&sc, 1 + 10 * MSS, MSS);
	expect(&sc, 1 + 11 * MSS, MSS);
	sc_in(&sc, TH_ACK, 1, 1 + MSS, 60000, NULL, 0);
	expect(&sc, 1 + 12 * MSS, MSS); /* RFC 3042 */
	sc_in(&sc, TH_ACK, 1, 1 + MSS, 60000, NULL, 0);
	expect(&sc, 1 + 13 * MSS, MSS);
	sc_in(&sc, TH_ACK, 1, 1 + MSS, 60000, NULL, 0);
	expect(&sc, 1 + MSS, MSS);
	CHECK(sototcpcb(sc.sc_so)->t_flags & TF_FASTRECOVERY);
	sc.sc_seen = sc.sc_ti->ti_nout;
	sc_in(&sc, TH_ACK, 1, 1 + 4 * MSS, 60000, NULL, 0); /* partial */
	expect(&sc, 1 + 4 * MSS, MSS);
	sc.sc_seen = sc.sc_ti->ti_nout;
	sc_in(&sc, TH_ACK, 1, 1 + 14 * MSS, 60000, NULL, 0);
	CHECK(!tcp_in_recovery(sototcpcb(sc.sc_so)));
	CHECK_EQ(sc_stat(&sc, "tcp.newreno_recovery"), 1);
	CHECK_EQ(sc_stat(&sc, "tcp.rexmttimeo"), 0);
	sc_close(&sc);
}

static void
sack_in(struct script *sc, uint32_t ack, int n, const uint32_t *v)
{
	uint8_t *cp = sc->sc_opt;

	be32put(cp, 0x01010500u | (unsigned)(2 + 8 * n));
	for (int i = 0; i < 2 * n; i++) {
		be32put(cp + 4 + 4 * i, sc->sc_iss + v[i]);
	}
	sc->sc_optlen = (uint32_t)(4 + 8 * n);
	sc_in(sc, TH_ACK, 1, ack, 60000, NULL, 0);
}

/* Both holes go in the first round trip (RFC 6675). */
static void
test_sack(void)
{
	struct script sc;
	const struct tcpcb *tp;

	sc_open(&sc, SCO_SACK, 60000);
	CHECK_EQ(bsd_sysctl_set(sc.sc_s, "net.inet.tcp.rack", 0), 0);
	tp = sototcpcb(sc.sc_so);
	sc_send(&sc, 10 * MSS);
	sc.sc_seen += 10;
	/* 0 and 3 are lost; 4.. arrive. */
	sack_in(&sc, 1, 1, (uint32_t[]){ 1 + MSS, 1 + 2 * MSS });
	sack_in(&sc, 1, 1, (uint32_t[]){ 1 + MSS, 1 + 3 * MSS });
	sc_silent(&sc);
	CHECK_EQ(tp->t_nholes, 1);
	sack_in(&sc, 1, 2,
	    (uint32_t[]){ 1 + 4 * MSS, 1 + 5 * MSS, 1 + MSS, 1 + 3 * MSS });
	expect(&sc, 1, MSS); /* three segments above it: lost */
	CHECK(tp->t_flags & TF_FASTRECOVERY);
	sc_silent(&sc);
	sack_in(&sc, 1, 2,
	    (uint32_t[]){ 1 + 4 * MSS, 1 + 8 * MSS, 1 + MSS, 1 + 3 * MSS });
	expect(&sc, 1 + 3 * MSS, MSS);
	sc_silent(&sc);
	sack_in(&sc, 1 + 3 * MSS, 1, (uint32_t[]){ 1 + 4 * MSS, 1 + 10 * MSS });
	sc_in(&sc, TH_ACK, 1, 1 + 10 * MSS, 60000, NULL, 0);
	CHECK(!tcp_in_recovery(tp));
	CHECK_EQ(tp->t_nholes, 0);
	CHECK_EQ(tp->snd_una, tp->snd_max);
	CHECK_EQ(sc_stat(&sc, "tcp.sndrexmitpack"), 2);
	sc_close(&sc);
}

/* A connection whose round trips take 100 ms. */
static const struct tcpcb *
open_slow(struct script *sc, int what)
{
	sc_open(sc, what, 60000);
	sc_send(sc, MSS);
	sc->sc_seen++;
	sc_sleep(sc, 100 * SC_MS);
	sototcpcb(sc->sc_so)->t_srtt = 0; /* forget the handshake */
	sototcpcb(sc->sc_so)->t_minrtt = 0;
	sc_in(sc, TH_ACK, 1, 1 + MSS, 60000, NULL, 0);
	CHECK_EQ(sototcpcb(sc->sc_so)->t_srtt, 100 * SC_MS);
	return sototcpcb(sc->sc_so);
}

/* RFC 8985: with one segment SACKed above it, a hole is lost a quarter of
 * the round trip later; on a path that reorders, not before either. */
static void
test_rack(void)
{
	struct script sc;
	const struct tcpcb *tp = open_slow(&sc, SCO_SACK);
	uint32_t b = 1 + MSS;

	sc_send(&sc, 2 * MSS);
	sc.sc_seen += 2;
	sc_sleep(&sc, 100 * SC_MS);
	sack_in(&sc, b, 1, (uint32_t[]){ b + MSS, b + 2 * MSS });
	sc_sleep(&sc, 24 * SC_MS);
	sc_silent(&sc);
	sc_sleep(&sc, 2 * SC_MS);
	expect(&sc, b, MSS);
	CHECK(tp->t_flags & TF_FASTRECOVERY);
	CHECK_EQ(sc_stat(&sc, "tcp.rexmttimeo"), 0);
	b += 2 * MSS;
	sc_in(&sc, TH_ACK, 1, b, 60000, NULL, 0);
	/* The second comes late, not lost: the path reorders. */
	sc_send(&sc, 6 * MSS);
	sc.sc_seen += 6;
	sc_sleep(&sc, 100 * SC_MS);
	sack_in(&sc, b, 1, (uint32_t[]){ b + MSS, b + 2 * MSS });
	sc_in(&sc, TH_ACK, 1, b + 2 * MSS, 60000, NULL, 0);
	CHECK(tp->t_flags & TF_REORDER);
	b += 2 * MSS;
	for (uint32_t i = 2; i <= 4; i++) {
		sack_in(&sc, b, 1, (uint32_t[]){ b + MSS, b + i * MSS });
	}
	sc_silent(&sc); /* three do not mean loss any more */
	sc_sleep(&sc, 30 * SC_MS);
	expect(&sc, b, MSS);
	sc_in(&sc, TH_ACK, 1, b + 4 * MSS, 60000, NULL, 0);
	sc_silent(&sc);
	sc_close(&sc);
}

/* The retransmission is lost, too: data sent after it arrive. */
static void
test_relost(void)
{
	struct script sc;
	const struct tcpcb *tp = open_slow(&sc, SCO_SACK);
	uint32_t b = 1 + MSS;

	sc_send(&sc, 40 * MSS);
	sc.sc_seen = sc.sc_ti->ti_nout;
	sc_sleep(&sc, 100 * SC_MS);
	sack_in(&sc, b, 1, (uint32_t[]){ b + MSS, b + 8 * MSS });
	expect(&sc, b, MSS);
	sc.sc_seen = sc.sc_ti->ti_nout; /* and new data */
	CHECK(SEQ_GT(tp->snd_max - sc.sc_iss, b + 8 * MSS));
	sc_sleep(&sc, 50 * SC_MS);
	sack_in(&sc, b, 1, (uint32_t[]){ b + MSS, b + 11 * MSS });
	sc.sc_seen = sc.sc_ti->ti_nout;
	sc_sleep(&sc, 55 * SC_MS);
	sack_in(&sc, b, 1, (uint32_t[]){ b + MSS, tp->snd_max - sc.sc_iss });
	expect(&sc, b, MSS);
	CHECK_EQ(sc_stat(&sc, "tcp.rack_relost"), 1);
	CHECK_EQ(sc_stat(&sc, "tcp.rexmttimeo"), 0);
	sc_close(&sc);
}

/* RFC 8985 7: the last of several is lost; a probe shows it. */
static void
test_tlp(void)
{
	struct script sc;
	uint32_t b = 1 + MSS;

	(void)open_slow(&sc, SCO_SACK);
	sototcpcb(sc.sc_so)->t_rto = SC_SEC;
	sc_send(&sc, 3 * MSS);
	sc.sc_seen += 3;
	sc_sleep(&sc, 241 * SC_MS);
	sc_silent(&sc);
	sc_sleep(&sc, 3 * SC_MS);
	expect(&sc, b + 2 * MSS, MSS);
	CHECK_EQ(sc_stat(&sc, "tcp.pto"), 1);
	sc_sleep(&sc, 500 * SC_MS); /* one only */
	sc_silent(&sc);
	sack_in(&sc, b, 1, (uint32_t[]){ b + 2 * MSS, b + 3 * MSS });
	sc_sleep(&sc, 30 * SC_MS);
	expect(&sc, b, MSS);
	CHECK_EQ(sc_stat(&sc, "tcp.rexmttimeo"), 0);
	sc_close(&sc);
}

/* After a timeout what has been SACKed is not sent again. */
static void
test_sackrto(void)
{
	struct script sc;

	sc_open(&sc, SCO_SACK, 60000);
	CHECK_EQ(bsd_sysctl_set(sc.sc_s, "net.inet.tcp.rack", 0), 0);
	CHECK_EQ(bsd_sysctl_set(sc.sc_s, "net.inet.tcp.tlp", 0), 0);
	sc_send(&sc, 4 * MSS);
	sc.sc_seen += 4;
	sack_in(&sc, 1, 1, (uint32_t[]){ 1 + MSS, 1 + 2 * MSS });
	sc_sleep(&sc, 201 * SC_MS);
	expect(&sc, 1, MSS);
	sc_silent(&sc);
	sack_in(&sc, 1 + 2 * MSS, 0, NULL);
	expect(&sc, 1 + 2 * MSS, MSS);
	expect(&sc, 1 + 3 * MSS, MSS);
	sc_in(&sc, TH_ACK, 1, 1 + 4 * MSS, 60000, NULL, 0);
	CHECK(!tcp_in_recovery(sototcpcb(sc.sc_so)));
	sc_close(&sc);
}

/* A timeout whose ACK answers the original is undone (RFC 3522). */
static void
test_undo(void)
{
	struct script sc;
	uint32_t cwnd;

	sc_open(&sc, SCO_TS | SCO_SACK, 60000);
	CHECK_EQ(bsd_sysctl_set(sc.sc_s, "net.inet.tcp.tlp", 0), 0);
	sc_send(&sc, 4 * MSS);
	cwnd = sototcpcb(sc.sc_so)->snd_cwnd;
	sc_sleep(&sc, 250 * SC_MS);
	CHECK_EQ(sc_stat(&sc, "tcp.rexmttimeo"), 1);
	CHECK(sototcpcb(sc.sc_so)->snd_cwnd < cwnd);
	sc_in(&sc, TH_ACK, 1, 1 + 4 * MSS, 60000, NULL, 0); /* old tsecr */
	CHECK_EQ(sc_stat(&sc, "tcp.undo"), 1);
	CHECK(sototcpcb(sc.sc_so)->snd_cwnd >= cwnd);
	CHECK(!tcp_in_recovery(sototcpcb(sc.sc_so)));
	sc_close(&sc);
}

/* A shut window is probed for ever, ever more slowly. */
static void
test_persist(void)
{
	struct script sc;
	int probes = 0;

	sc_open(&sc, 0, 2 * MSS);
	sc_send(&sc, 3 * MSS);
	expect(&sc, 1, MSS);
	expect(&sc, 1 + MSS, MSS);
	sc_in(&sc, TH_ACK, 1, 1 + 2 * MSS, 0, NULL, 0);
	sc_silent(&sc);
	for (int i = 0; i < 2000; i++) {
		sc_sleep(&sc, SC_SEC);
		while (sc_pending(&sc) > 0) {
			expect(&sc, 1 + 2 * MSS, 1);
			sc_in(&sc, TH_ACK, 1, 1 + 2 * MSS, 0, NULL, 0);
			probes++;
		}
	}
	CHECK(probes > 30 && probes < 60);
	CHECK_EQ(sototcpcb(sc.sc_so)->t_state, TCPS_ESTABLISHED);
	sc_in(&sc, TH_ACK, 1, 1 + 2 * MSS, 20000, NULL, 0);
	expect(&sc, 1 + 2 * MSS, MSS);
	sc_in(&sc, TH_ACK, 1, 1 + 3 * MSS, 20000, NULL, 0);
	sc_close(&sc);
}

static void
test_keepalive(void)
{
	struct script sc;
	struct sent st;
	char c;

	sc_open(&sc, 0, 20000);
	sc_sleep(&sc, 3 * 7200 * SC_SEC);
	sc_silent(&sc); /* off by default (MUST-25) */
	CHECK_EQ(bsd_poll_at(sc.sc_s), UINT64_MAX); /* and no work */
	setopt(&sc, IPPROTO_TCP, TCP_KEEPIDLE, 10);
	setopt(&sc, IPPROTO_TCP, TCP_KEEPINTVL, 5);
	setopt(&sc, IPPROTO_TCP, TCP_KEEPCNT, 3);
	sc_in(&sc, TH_ACK, 1, 1, 20000, NULL, 0);
	setopt(&sc, SOL_SOCKET, SO_KEEPALIVE, 1);
	sc_sleep(&sc, 9 * SC_SEC);
	sc_silent(&sc);
	sc_sleep(&sc, 2 * SC_SEC);
	st = sc_out(&sc);
	CHECK_EQ(st.seq, 0);
	CHECK_EQ(st.len, 0);
	sc_in(&sc, TH_ACK, 1, 1, 20000, NULL, 0); /* alive */
	sc_sleep(&sc, 11 * SC_SEC);
	CHECK_EQ(sc_out(&sc).seq, 0);
	sc_sleep(&sc, 60 * SC_SEC);
	CHECK_EQ(bsd_recv(sc.sc_so, &c, 1, 0, NULL, 0), -ETIMEDOUT);
	CHECK_EQ(sc_stat(&sc, "tcp.keepprobe"), 4);
	sc_close(&sc);
}

static void
icmp(struct script *sc, int cmd, uint32_t mtu, uint32_t seq)
{
	union inaddr us = in_map4(htonl(0x0a000001));
	union inaddr peer = in_map4(htonl(0x0a000002));
	uint8_t th[8];
	struct ctlparam cp = { .cp_laddr = &us,
		.cp_faddr = &peer,
		.cp_th = th,
		.cp_thlen = 8,
		.cp_mtu = mtu };

	be16put(th, OUR_PORT);
	be16put(th + 2, PEER_PORT);
	be32put(th + 4, sc->sc_iss + seq);
	stack_enter(sc->sc_s);
	tcp_ctlinput(sc->sc_s, cmd, &cp);
	stack_leave(sc->sc_s);
	sc_run(sc);
}

/* RFC 1191 and 5927. */
static void
test_pmtu(void)
{
	struct script sc;

	sc_open(&sc, SCO_SACK, 60000);
	sc_send(&sc, 2 * MSS);
	sc.sc_seen += 2;
	icmp(&sc, PRC_MSGSIZE, 600, 5000); /* nothing of ours */
	sc_silent(&sc);
	CHECK_EQ(sc_stat(&sc, "tcp.drop.icmpseq"), 1);
	icmp(&sc, PRC_MSGSIZE, 600, 1);
	expect(&sc, 1, 560);
	expect(&sc, 561, 560);
	expect(&sc, 1121, 560);
	expect(&sc, 1681, 320);
	sc_in(&sc, TH_ACK, 1, 2001, 60000, NULL, 0);
	sc_send(&sc, 10);
	sc.sc_seen++;
	icmp(&sc, PRC_MSGSIZE, 68, 2001); /* not below the floor */
	CHECK_EQ(sototcpcb(sc.sc_so)->t_mss, 552 - 40);
	/* Hard errors do not end what is established. */
	icmp(&sc, PRC_UNREACH_PORT, 0, 2001);
	CHECK_EQ(sototcpcb(sc.sc_so)->t_state, TCPS_ESTABLISHED);
	sc_close(&sc);
}

static void
test_blackhole(void)
{
	struct script sc;
	static uint8_t data[4000];

	sc_init(&sc);
	be32put(sc.sc_opt, 0x02040000 | 1460);
	sc.sc_optlen = 4;
	sc_in(&sc, TH_SYN, 0, 0, 60000, NULL, 0);
	(void)sc_out(&sc);
	sc_in(&sc, TH_ACK, 1, 1, 60000, NULL, 0);
	CHECK_EQ(bsd_accept(sc.sc_ls, 0, &sc.sc_so, NULL), 0);
	CHECK_EQ(bsd_send(sc.sc_so, data, 4000, 0, NULL, 0), 4000);
	expect(&sc, 1, 1460);
	sc.sc_seen = sc.sc_ti->ti_nout;
	sc_sleep(&sc, 250 * SC_MS);
	expect(&sc, 1, 1460);
	sc_sleep(&sc, 400 * SC_MS);
	expect(&sc, 1, 1200); /* perhaps it is the size */
	CHECK_EQ(sc_stat(&sc, "tcp.pmtudbh"), 1);
	sc_close(&sc);
}

static void
test_options(void)
{
	struct script sc;
	struct tcpinfo ti;
	size_t len = sizeof(ti);
	char cc[16] = "newreno";
	int v;

	sc_open(&sc, SCO_SACK | SCO_TS | SCO_WS, 20000);
	CHECK_EQ(bsd_getsockopt(sc.sc_so, IPPROTO_TCP, TCP_INFO, &ti, &len), 0);
	CHECK_EQ(len, sizeof(ti));
	CHECK_EQ(ti.tcpi_state, TCP_ESTABLISHED);
	CHECK_EQ(ti.tcpi_options,
	    TCPI_OPT_TIMESTAMPS | TCPI_OPT_SACK | TCPI_OPT_WSCALE);
	CHECK_EQ(ti.tcpi_snd_mss, MSS - 12);
	CHECK_EQ(ti.tcpi_snd_cwnd, 10);
	CHECK_EQ(bsd_setsockopt(sc.sc_so, IPPROTO_TCP, TCP_CONGESTION, cc, 7),
	    0);
	len = sizeof(cc);
	CHECK_EQ(bsd_getsockopt(sc.sc_so, IPPROTO_TCP, TCP_CONGESTION, cc, &len),
	    0);
	CHECK(strcmp(cc, "newreno") == 0);
	CHECK_EQ(bsd_setsockopt(sc.sc_so, IPPROTO_TCP, TCP_CONGESTION, "nix", 3),
	    -ENOENT);
	v = 0;
	CHECK_EQ(bsd_setsockopt(sc.sc_so, IPPROTO_TCP, TCP_KEEPIDLE, &v,
		     sizeof(v)),
	    -EINVAL);
	v = 30;
	CHECK_EQ(bsd_setsockopt(sc.sc_so, IPPROTO_TCP, TCP_MAXSEG, &v, sizeof(v)),
	    -EINVAL);
	CHECK_EQ(bsd_setsockopt(sc.sc_so, IPPROTO_TCP, 9999, &v, sizeof(v)),
	    -ENOPROTOOPT);
	sc_close(&sc);
}

/* The order of a SYN's options is a tunable. */
static void
test_synopts(void)
{
	struct tcp_state tcp = { .tcs_tun.tt_synopt_order = 24813 };
	struct tcpsynopt so = { .to_mss = 1460,
		.to_wscale = 7,
		.to_tsval = 1,
		.to_flags = TOF_WSCALE | TOF_SACKOK | TOF_TS };
	static const uint8_t lin[20] = { 2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1,
		0, 0, 0, 0, 1, 3, 3, 7 };
	static const uint8_t xnu[24] = { 2, 4, 5, 180, 1, 3, 3, 7, 1, 1, 8, 10,
		0, 0, 0, 1, 0, 0, 0, 0, 4, 2, 1, 1 };
	uint8_t buf[TCP_MAXOLEN];

	CHECK_EQ(tcp_synopt_put(&tcp, &so, buf), 20);
	CHECK(memcmp(buf, lin, 20) == 0);
	tcp.tcs_tun.tt_synopt_order = 2131184;
	CHECK_EQ(tcp_synopt_put(&tcp, &so, buf), 24);
	CHECK(memcmp(buf, xnu, 24) == 0);
}

int
main(void)
{
	test_delack();
	test_quickack();
	test_nagle();
	test_cork();
	test_rto();
	test_usertimeout();
	test_newreno();
	test_sack();
	test_rack();
	test_relost();
	test_tlp();
	test_sackrto();
	test_undo();
	test_persist();
	test_keepalive();
	test_pmtu();
	test_blackhole();
	test_options();
	test_synopts();
	return 0;
}
