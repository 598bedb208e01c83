/*
 * test_tcp_sack.c - the scoreboard, out-of-order data and option parsing
 * against models that keep one cell per byte; congestion windows against the
 * formulas of their RFCs.
 */
#include <math.h>

#include "bsdcore/netinet/cc/cc.h"
#include "tests/unit/c/tcpscript.h"

#define SPAN 4000u
#define MSS 100u

static uint64_t
rnd(uint64_t *x)
{
	*x = *x * 6364136223846793005ull + 1442695040888963407ull;
	return *x >> 33;
}

/* A control block of a connection that has SPAN bytes out. */
static struct tcpcb *
board(struct script *sc)
{
	struct tcpcb *tp;

	sc_open(sc, SCO_SACK, 60000);
	CHECK_EQ(bsd_sysctl_set(sc->sc_s, "net.inet.tcp.rack", 0), 0);
	tp = sototcpcb(sc->sc_so);
	tp->t_maxseg = MSS;
	tp->snd_una = tp->snd_nxt = tp->snd_max = tp->snd_fack = 0xffffff00u;
	tp->snd_max = tp->snd_nxt = tp->snd_una + SPAN;
	return tp;
}

/* One cell per byte. */
struct model {
	bool sacked[SPAN], again[SPAN], lost[SPAN];
	uint32_t base, una;
};

/* RFC 6675 4; what was lost once stays so when ranges grow together. */
static void
model_lost(struct model *mo)
{
	uint32_t bytes = 0, ranges = 0;

	for (uint32_t i = SPAN; i-- > mo->una;) {
		if (!mo->sacked[i]) {
			mo->lost[i] |= ranges >= 3 || bytes > 2 * MSS;
		} else {
			bytes++;
			ranges += i == 0 || !mo->sacked[i - 1];
		}
	}
}

static void
check_board(struct tcpcb *tp, struct model *mo)
{
	uint32_t pipe = 0, top = mo->una, base = mo->base;
	const struct sackhole *sh = TAILQ_FIRST(&tp->t_holes);

	model_lost(mo);
	for (uint32_t i = mo->una; i < SPAN; i++) {
		if (mo->sacked[i]) {
			top = i + 1;
		} else {
			pipe += !mo->lost[i];
			pipe += mo->again[i];
		}
	}
	CHECK_EQ(tp->snd_fack - base, top);
	CHECK_EQ(tp->t_pipe, pipe);
	for (uint32_t i = mo->una; i < top; i++) {
		bool hole;

		while (sh != NULL && SEQ_LEQ(sh->sh_end, base + i)) {
			sh = TAILQ_NEXT(sh, sh_link);
		}
		hole = sh != NULL && SEQ_LEQ(sh->sh_start, base + i);
		CHECK_EQ(hole, !mo->sacked[i]);
		if (hole) {
			CHECK_EQ(sh->sh_lost, mo->lost[i]);
			CHECK_EQ(SEQ_LT(base + i, sh->sh_rxmit), mo->again[i]);
		}
	}
}

/* Up to three blocks that the receiver may say. */
static void
random_blocks(struct model *mo, struct tcpopt *to, uint64_t *x)
{
	to->to_flags = TOF_SACK;
	to->to_nsacks = (uint8_t)(rnd(x) % 4);
	for (int i = 0; i < to->to_nsacks; i++) {
		uint32_t a =
		    mo->una + 1 + (uint32_t)(rnd(x) % (SPAN - mo->una - 1));
		uint32_t n = u32min(1 + (uint32_t)(rnd(x) % 300), SPAN - a);

		to->to_sacks[i] =
		    (struct sackblk){ mo->base + a, mo->base + a + n };
		memset(mo->sacked + a, 1, n);
	}
}

/* The receiver acknowledges what it has, to the next hole. */
static void
random_ack(struct model *mo, uint64_t *x)
{
	uint32_t n = u32min(mo->una + (uint32_t)(rnd(x) % 200), SPAN - 2);

	while (n < SPAN - 2 && mo->sacked[n]) {
		n++;
	}
	if (!mo->sacked[n]) {
		mo->una = n;
	}
}

static void
test_scoreboard(uint64_t seed)
{
	struct script sc;
	struct tcpcb *tp = board(&sc);
	struct model mo = { .base = tp->snd_una };

	for (int step = 0; step < 60; step++) {
		struct tcpopt to;
		struct sackhole *sh;
		uint32_t end;

		random_blocks(&mo, &to, &seed);
		if (rnd(&seed) % 4 == 0) {
			random_ack(&mo, &seed);
		}
		(void)tcp_sack_update(tp, &to, mo.base + mo.una);
		tp->snd_una = mo.base + mo.una;
		tcp_sack_setpipe(tp);
		check_board(tp, &mo);
		sh = tcp_sack_nexthole(tp, rnd(&seed) % 2 == 0);
		if (sh != NULL) {
			end = seq_min(sh->sh_rxmit + MSS, sh->sh_end);
			for (uint32_t i = sh->sh_rxmit; i != end; i++) {
				mo.again[i - mo.base] = true;
			}
			tcp_sack_sent(tp, sh, end);
			check_board(tp, &mo);
		}
	}
	tcp_sack_free(tp);
	tp->snd_una = tp->snd_nxt = tp->snd_max = tp->snd_fack;
	sc_close(&sc);
}

/* Blocks that lie, and an acknowledgment inside what was SACKed. */
static void
test_scoreboard_lies(void)
{
	struct script sc;
	struct tcpcb *tp = board(&sc);
	uint32_t b = tp->snd_una;
	struct tcpopt to = { .to_flags = TOF_SACK,
		.to_nsacks = 4,
		.to_sacks = { { b - 50, b + 50 }, { b + 200, b + 200 },
		    { b + 300, b + 250 }, { b + 1, b + SPAN + 1 } } };

	CHECK_EQ(tcp_sack_update(tp, &to, b), 0);
	CHECK_EQ(tp->t_nholes, 0);
	to.to_nsacks = 1;
	to.to_sacks[0] = (struct sackblk){ b + 100, b + 300 };
	CHECK_EQ(tcp_sack_update(tp, &to, b), 200);
	CHECK_EQ(tcp_sack_update(tp, &to, b), 0);
	to.to_nsacks = 0;
	CHECK_EQ(tcp_sack_update(tp, &to, b + 150), 0);
	CHECK_EQ(tp->t_nholes, 0);
	CHECK_EQ(tp->snd_fack, b + 150);
	CHECK_EQ(sc_stat(&sc, "tcp.sack_reneged"), 1);
	tp->snd_una = tp->snd_nxt = tp->snd_max = tp->snd_fack;
	sc_close(&sc);
}

static struct mbuf *
bytes(struct stack *s, uint32_t from, uint32_t len)
{
	struct mbuf *m = m_gethdr(s->s_mb, MT_DATA);

	CHECK(m != NULL && len <= MLEN);
	for (uint32_t i = 0; i < len; i++) {
		m->m_data[i] = (uint8_t)((from + i) * 7);
	}
	m->m_len = m->m_pkthdr.len = len;
	return m;
}

/* Pieces in random order, overlapping: the stream comes out whole. */
static void
test_reass(uint64_t seed)
{
	struct script sc;
	struct tcpcb *tp;
	struct sackblk v[TCP_MAXSACK];
	uint32_t base, total = 3000, got = 0;
	bool have[3000] = { false };
	uint8_t buf[3000];
	long k;

	sc_open(&sc, SCO_SACK, 60000);
	tp = sototcpcb(sc.sc_so);
	base = tp->rcv_nxt;
	stack_enter(sc.sc_s);
	while (tp->rcv_nxt - base < total) {
		uint32_t off = (uint32_t)(rnd(&seed) % total);
		uint32_t len = 1 + (uint32_t)(rnd(&seed) % 300);
		struct tcpseg sg = { .sg_count = 1 };
		int n;

		if (rnd(&seed) % 20 == 0) {
			off = tp->rcv_nxt - base;
		}
		len = u32min(len, total - off);
		if (off + len <= tp->rcv_nxt - base) {
			continue;
		}
		if (off < tp->rcv_nxt - base) {
			len -= tp->rcv_nxt - base - off;
			off = tp->rcv_nxt - base;
		}
		memset(have + off, 1, len);
		sg.sg_m = bytes(sc.sc_s, off, len);
		sg.sg_seq = base + off;
		sg.sg_len = len;
		if (sg.sg_seq == tp->rcv_nxt) {
			tcp_deliver(tp, sg.sg_m, len);
			tcp_reass_flush(tp);
		} else {
			tcp_reass(tp, &sg);
		}
		tcp_invariants(tp);
		while (got < total && have[got]) {
			got++;
		}
		CHECK_EQ(tp->rcv_nxt - base, got);
		n = tcp_sackblocks(tp, v, TCP_MAXSACK);
		for (int i = 0; i < n; i++) {
			CHECK(SEQ_LT(v[i].sb_start, v[i].sb_end));
			for (uint32_t q = v[i].sb_start; q != v[i].sb_end; q++) {
				CHECK(have[q - base]);
			}
		}
	}
	CHECK_EQ(tp->t_segqlen, 0);
	CHECK_EQ(tp->t_segqmem, 0);
	stack_leave(sc.sc_s);
	k = bsd_recv(sc.sc_so, buf, sizeof(buf), 0, NULL, 0);
	CHECK_EQ(k, (long)total);
	for (uint32_t i = 0; i < total; i++) {
		CHECK_EQ(buf[i], (uint8_t)(i * 7));
	}
	sc_close(&sc);
}

/* Memory behind out-of-order data is limited (SegmentSmack). */
static void
test_reass_limit(void)
{
	struct script sc;
	struct tcpcb *tp;

	sc_open(&sc, SCO_SACK, 60000);
	tp = sototcpcb(sc.sc_so);
	CHECK_EQ(bsd_sysctl_set(sc.sc_s, "net.inet.tcp.reass_maxsegs", 8), 0);
	for (uint32_t i = 0; i < 50; i++) {
		sc_in(&sc, TH_ACK, 3 + 2 * i, 1, 20000, "x", 1);
	}
	CHECK_EQ(tp->t_segqlen, 8);
	CHECK_EQ(sc_stat(&sc, "tcp.drop.reassfull"), 42);
	sc_close(&sc);
}

static void
test_options(void)
{
	static const uint8_t all[] = { 2, 4, 5, 180, 1, 3, 3, 200, 4, 2, 8, 10,
		1, 2, 3, 4, 5, 6, 7, 8, 77, 3, 0, 0 };
	static const uint8_t bad[][6] = { { 2 }, { 2, 0 }, { 2, 1 },
		{ 2, 7, 1, 1, 1, 1 }, { 5, 2 }, { 8, 2, 1, 1, 1, 1 },
		{ 5, 6, 1, 1, 1, 1 }, { 1, 1, 1, 1, 1, 8 } };
	uint8_t noise[40];
	struct tcpopt to;
	uint64_t x = 5;

	tcp_dooptions(&to, all, sizeof(all), true);
	CHECK_EQ(to.to_flags, TOF_MSS | TOF_WSCALE | TOF_SACKOK | TOF_TS);
	CHECK_EQ(to.to_mss, 1460);
	CHECK_EQ(to.to_wscale, 14); /* RFC 7323 2.3 */
	CHECK_EQ(to.to_tsval, 0x01020304);
	CHECK_EQ(to.to_tsecr, 0x05060708);
	tcp_dooptions(&to, all, sizeof(all), false);
	CHECK_EQ(to.to_flags, TOF_TS); /* the others: SYN only */
	for (size_t i = 0; i < nitems(bad); i++) {
		tcp_dooptions(&to, bad[i], 6, true);
		CHECK_EQ(to.to_flags & ~TOF_SACK, 0);
	}
	for (int i = 0; i < 20000; i++) {
		uint32_t n = (uint32_t)(rnd(&x) % 41);
		uint8_t *copy = malloc(n + 1);

		for (uint32_t k = 0; k < n; k++) {
			noise[k] = (uint8_t)(rnd(&x) % 12);
		}
		memcpy(copy, noise, n); /* the sanitizer guards its end */
		tcp_dooptions(&to, copy, n, i & 1);
		CHECK(to.to_nsacks <= TCP_MAXSACK);
		free(copy);
	}
}

/* After a loss at 100 segments, with round trips so long that what Reno would
 * have does not count. */
static void
test_cubic(void)
{
	struct script sc;
	struct tcpcb *tp;
	double k, w, t;

	sc_open(&sc, 0, 60000);
	tp = sototcpcb(sc.sc_so);
	cc_use(tp, &cc_cubic);
	tp->t_maxseg = 1000;
	tp->t_srtt = 200 * SC_MS;
	tp->snd_cwnd = 100000;
	tp->t_cc->cc_loss(tp, 100000);
	CHECK_EQ(tp->snd_ssthresh, 70000); /* beta 0.7 */
	tp->snd_cwnd = tp->snd_ssthresh;
	k = cbrt(30 / 0.4);
	for (t = 0; t < 8; t += 0.2) {
		tp->t_stack->s_now = (uint64_t)(1e12 + t * 1e9);
		for (uint32_t n = tp->snd_cwnd / 2000; n > 0; n--) {
			tp->t_cc->cc_ack(tp, 2000);
		}
		w = 0.4 * pow(t - k, 3) + 100;
		if (t > 1) {
			CHECK(fabs(tp->snd_cwnd / 1000.0 - w) < 5);
		}
	}
	/* Fast convergence: a second loss lower down gives room. */
	tp->snd_cwnd = 80000;
	tp->t_ccd.ccd_cubic.cu_wmax = 100000;
	tp->t_cc->cc_loss(tp, 80000);
	CHECK_EQ(tp->t_ccd.ccd_cubic.cu_wmax, 68000);
	tp->t_stack->s_now = 1000 * SC_SEC;
	sc_close(&sc);
}

static void
test_newreno(void)
{
	struct script sc;
	struct tcpcb *tp;

	sc_open(&sc, 0, 60000);
	tp = sototcpcb(sc.sc_so);
	cc_use(tp, &cc_newreno);
	tp->t_maxseg = 1000;
	CHECK_EQ(cc_initwnd(tp), 10000);
	tp->snd_cwnd = 10000;
	tp->snd_ssthresh = 20000;
	tp->t_cc->cc_ack(tp, 5000);
	CHECK_EQ(tp->snd_cwnd, 15000); /* slow start */
	tp->t_cc->cc_ack(tp, 5000);
	CHECK_EQ(tp->snd_cwnd, 20000);
	for (int i = 0; i < 10; i++) {
		tp->t_cc->cc_ack(tp, 2000);
	}
	CHECK_EQ(tp->snd_cwnd, 21000); /* a segment a round trip */
	tp->t_cc->cc_loss(tp, 21000);
	CHECK_EQ(tp->snd_ssthresh, 10500);
	tp->t_cc->cc_loss(tp, 1000);
	CHECK_EQ(tp->snd_ssthresh, 2000);
	CHECK(cc_byname("cubic") == &cc_cubic);
	CHECK(cc_byname("reno") == &cc_newreno);
	CHECK(cc_byname("bbr") == NULL);
	sc_close(&sc);
}

int
main(void)
{
	for (uint64_t seed = 1; seed < 200; seed++) {
		test_scoreboard(seed);
	}
	for (uint64_t seed = 1; seed < 50; seed++) {
		test_reass(seed);
	}
	test_scoreboard_lies();
	test_reass_limit();
	test_options();
	test_cubic();
	test_newreno();
	return 0;
}
