/*
 * test_tcp_input.c - segment arrival, played segment by segment: what RFC
 * 9293, 5961, 7323, 2018 and 2883 say is answered, and hostile ones.
 */
#include "tests/unit/c/tcpscript.h"

static void
test_synack(void)
{
	struct script sc;
	struct sent st;

	sc_init(&sc);
	be32put(sc.sc_opt, 0x02040000 | 1460);
	be32put(sc.sc_opt + 4, 0x01010402);
	be32put(sc.sc_opt + 8, 0x01030307);
	tcp_ts_put(sc.sc_opt + 12, 77, 0);
	sc.sc_optlen = 24;
	sc_in(&sc, TH_SYN, 0, 0, 5000, NULL, 0);
	st = sc_out(&sc);
	CHECK_EQ(st.flags, TH_SYN | TH_ACK);
	CHECK_EQ(st.opt.to_flags, TOF_MSS | TOF_WSCALE | TOF_SACKOK | TOF_TS);
	CHECK_EQ(st.opt.to_mss, 1460);
	CHECK_EQ(st.opt.to_tsecr, 77);
	/* The SYN,ACK is repeated after 1, 2, 4 s ... and given up. */
	sc_sleep(&sc, 999 * SC_MS);
	sc_silent(&sc);
	sc_sleep(&sc, 2 * SC_MS);
	CHECK_EQ(sc_out(&sc).flags, TH_SYN | TH_ACK);
	sc_sleep(&sc, 100 * SC_SEC);
	CHECK_EQ(sc_pending(&sc), 4);
	CHECK_EQ(tcp_syncache_count(sc.sc_s->s_tcp), 0);
	CHECK_EQ(sc_stat(&sc, "tcp.sc_timeout"), 1);
	sc_close(&sc);
}

/* RFC 5961: RST must hit rcv_nxt, SYN and wild ACKs are asked about. */
static void
test_blind(void)
{
	struct script sc;
	struct sent st;

	sc_open(&sc, SCO_SACK, 20000);
	sc_in(&sc, TH_RST, 2, 0, 0, NULL, 0);
	st = sc_out(&sc);
	CHECK_EQ(st.flags, TH_ACK);
	CHECK_EQ(st.ack, 1);
	sc_in(&sc, TH_RST, 0x40000000, 0, 0, NULL, 0);
	sc_silent(&sc);
	sc_in(&sc, TH_SYN, 100, 0, 20000, NULL, 0);
	CHECK_EQ(sc_out(&sc).flags, TH_ACK);
	sc_in(&sc, TH_ACK, 1, 5000, 20000, NULL, 0);
	CHECK_EQ(sc_out(&sc).flags, TH_ACK);
	sc_in(&sc, TH_ACK, 1, 0x80000000, 20000, NULL, 0);
	CHECK_EQ(sc_out(&sc).flags, TH_ACK);
	for (int i = 0; i < 50; i++) {
		sc_in(&sc, TH_SYN, 100, 0, 20000, NULL, 0);
	}
	CHECK(sc_pending(&sc) < 10); /* challenge ACKs are limited */
	sc.sc_seen = sc.sc_ti->ti_nout;
	sc_in(&sc, TH_RST, 1, 0, 0, NULL, 0);
	sc_silent(&sc);
	CHECK_EQ(bsd_recv(sc.sc_so, &st, 1, 0, NULL, 0), -ECONNRESET);
	sc_close(&sc);
}

static void
test_order(void)
{
	struct script sc;
	struct sent st;
	char buf[64];

	sc_open(&sc, SCO_SACK, 20000);
	sc_in(&sc, TH_ACK, 11, 1, 20000, "KLMNO", 5);
	st = sc_out(&sc);
	CHECK_EQ(st.ack, 1);
	CHECK_EQ(st.opt.to_nsacks, 1);
	CHECK_EQ(st.opt.to_sacks[0].sb_start - PEER_ISS, 11);
	CHECK_EQ(st.opt.to_sacks[0].sb_end - PEER_ISS, 16);
	sc_in(&sc, TH_ACK, 21, 1, 20000, "UVWXY", 5);
	st = sc_out(&sc);
	CHECK_EQ(st.opt.to_nsacks, 2);
	CHECK_EQ(st.opt.to_sacks[0].sb_start - PEER_ISS, 21); /* newest */
	CHECK_EQ(st.opt.to_sacks[1].sb_start - PEER_ISS, 11);
	/* The same again: DSACK (RFC 2883), then its block, then the others. */
	sc_in(&sc, TH_ACK, 11, 1, 20000, "KLMNO", 5);
	st = sc_out(&sc);
	CHECK_EQ(st.opt.to_nsacks, 3);
	CHECK_EQ(st.opt.to_sacks[0].sb_start - PEER_ISS, 11);
	CHECK_EQ(st.opt.to_sacks[0].sb_end - PEER_ISS, 16);
	CHECK_EQ(st.opt.to_sacks[1].sb_start - PEER_ISS, 11);
	CHECK_EQ(st.opt.to_sacks[2].sb_start - PEER_ISS, 21);
	/* Overlaps keep what came first. */
	sc_in(&sc, TH_ACK, 14, 1, 20000, "xxPQRSTxx", 9);
	st = sc_out(&sc);
	CHECK_EQ(st.opt.to_sacks[st.opt.to_nsacks - 1].sb_start - PEER_ISS, 11);
	sc_in(&sc, TH_ACK | TH_FIN, 26, 1, 20000, "Z", 1);
	CHECK_EQ(sc_out(&sc).ack, 1);
	CHECK_EQ(bsd_poll(sc.sc_so) & POLLIN, 0);
	sc_in(&sc, TH_ACK, 1, 1, 20000, "ABCDEFGHIJ", 10);
	CHECK_EQ(sc_out(&sc).ack, 28); /* all of it, and the FIN */
	CHECK_EQ(bsd_recv(sc.sc_so, buf, sizeof(buf), 0, NULL, 0), 26);
	CHECK(memcmp(buf, "ABCDEFGHIJKLMNOPQRSTUVWXYZ", 26) == 0);
	CHECK_EQ(bsd_recv(sc.sc_so, buf, sizeof(buf), 0, NULL, 0), 0);
	/* The FIN again, and old data: answered. */
	sc_in(&sc, TH_ACK | TH_FIN, 26, 1, 20000, "Z", 1);
	CHECK_EQ(sc_out(&sc).ack, 28);
	sc_close(&sc);
}

/* RFC 7323: old timestamps are dropped and answered. */
static void
test_paws(void)
{
	struct script sc;
	char buf[8];

	sc_open(&sc, SCO_TS | SCO_SACK, 20000);
	sc.sc_tsval = 2000;
	sc_in(&sc, TH_ACK, 1, 1, 20000, "ab", 2);
	sc_sleep(&sc, 50 * SC_MS);
	CHECK_EQ(sc_out(&sc).opt.to_tsecr, 2000);
	sc.sc_tsval = 1500;
	sc_in(&sc, TH_ACK, 3, 1, 20000, "xx", 2);
	CHECK_EQ(sc_out(&sc).ack, 3);
	CHECK_EQ(sc_stat(&sc, "tcp.drop.paws"), 1);
	sc.sc_tsval = 2001;
	sc_in(&sc, TH_ACK, 3, 1, 20000, "cd", 2);
	CHECK_EQ(bsd_recv(sc.sc_so, buf, 8, 0, NULL, 0), 4);
	CHECK(memcmp(buf, "abcd", 4) == 0);
	/* A RST needs no timestamp. */
	sc.sc_ts = false;
	sc_in(&sc, TH_RST, 5, 0, 0, NULL, 0);
	CHECK(bsd_poll(sc.sc_so) & POLLERR);
	sc_close(&sc);
}

static void
test_urgent(bool inl)
{
	struct script sc;
	char buf[16];
	int on = 1;

	sc_open(&sc, 0, 20000);
	if (inl) {
		CHECK_EQ(bsd_setsockopt(sc.sc_so, SOL_SOCKET, SO_OOBINLINE, &on,
			     sizeof(on)),
		    0);
	}
	sc.sc_urp = 4; /* one past "d" */
	sc_in(&sc, TH_ACK | TH_URG, 1, 1, 20000, "abcdef", 6);
	CHECK(bsd_poll(sc.sc_so) & POLLPRI);
	CHECK_EQ(bsd_recv(sc.sc_so, buf, 16, 0, NULL, 0), 3); /* to the mark */
	CHECK(memcmp(buf, "abc", 3) == 0);
	if (inl) {
		CHECK_EQ(bsd_recv(sc.sc_so, buf, 16, MSG_OOB, NULL, 0), -EINVAL);
		CHECK_EQ(bsd_recv(sc.sc_so, buf, 16, 0, NULL, 0), 3);
		CHECK(memcmp(buf, "def", 3) == 0);
	} else {
		CHECK_EQ(bsd_recv(sc.sc_so, buf, 16, MSG_OOB, NULL, 0), 1);
		CHECK_EQ(buf[0], 'd');
		CHECK_EQ(bsd_recv(sc.sc_so, buf, 16, 0, NULL, 0), 2);
		CHECK(memcmp(buf, "ef", 2) == 0);
	}
	/* We send some: the pointer is one past the byte (MUST-62). */
	sc.sc_seen = sc.sc_ti->ti_nout;
	CHECK_EQ(bsd_send(sc.sc_so, "xyz", 3, MSG_OOB, NULL, 0), 3);
	sc_run(&sc);
	CHECK_EQ(sc.sc_ti->ti_out[sc.sc_seen]->op_data[20 + 13] & TH_URG,
	    TH_URG);
	CHECK_EQ(sc_out(&sc).urp, 3);
	sc_close(&sc);
}

/* The window shuts, is probed and opens; nothing is lost. */
static void
test_window(void)
{
	static uint8_t big[1000], in[5000];
	struct script sc;
	struct sent st;
	uint32_t seq = 1;
	int n = 4096;

	sc_init(&sc);
	CHECK_EQ(bsd_setsockopt(sc.sc_ls, SOL_SOCKET, SO_RCVBUF, &n, sizeof(n)),
	    0);
	sc_in(&sc, TH_SYN, 0, 0, 5000, NULL, 0);
	CHECK_EQ(sc_out(&sc).win, 4096);
	sc_in(&sc, TH_ACK, 1, 1, 5000, NULL, 0);
	CHECK_EQ(bsd_accept(sc.sc_ls, 0, &sc.sc_so, NULL), 0);
	for (; seq < 4001; seq += 1000) {
		sc_in(&sc, TH_ACK, seq, 1, 5000, big, 1000);
		CHECK_EQ(sc_out(&sc).ack, seq + 1000);
	}
	sc_in(&sc, TH_ACK, seq, 1, 5000, big, 1000);
	st = sc_out(&sc);
	CHECK_EQ(st.ack, 4097); /* what fitted */
	CHECK_EQ(st.win, 0);
	sc_in(&sc, TH_ACK, 4097, 1, 5000, big, 1);
	st = sc_out(&sc);
	CHECK_EQ(st.ack, 4097);
	CHECK_EQ(st.win, 0);
	CHECK_EQ(sc_stat(&sc, "tcp.rcvwinprobe"), 1);
	/* Silly window: a little room is not told, all of it is. */
	CHECK_EQ(bsd_recv(sc.sc_so, in, 100, 0, NULL, 0), 100);
	sc_run(&sc);
	sc_silent(&sc);
	CHECK_EQ(bsd_recv(sc.sc_so, in, 5000, 0, NULL, 0), 3996);
	sc_run(&sc);
	CHECK_EQ(sc_out(&sc).win, 4096);
	/* RST counts at a shut window, too (MUST-66). */
	sc_in(&sc, TH_RST, 4097, 0, 0, NULL, 0);
	CHECK_EQ(bsd_recv(sc.sc_so, in, 1, 0, NULL, 0), -ECONNRESET);
	sc_close(&sc);
}

static void
test_noport(void)
{
	struct script sc;
	struct sent st;

	sc_init(&sc);
	CHECK_EQ(bsd_close(sc.sc_ls), 0);
	sc_in(&sc, TH_SYN, 0, 0, 5000, NULL, 0);
	st = sc_out(&sc);
	CHECK_EQ(st.flags, TH_RST | TH_ACK);
	CHECK_EQ(st.ack, 1);
	sc.sc_iss = 0;
	sc_in(&sc, TH_ACK, 5, 1234, 5000, "abc", 3);
	st = sc_out(&sc);
	CHECK_EQ(st.flags, TH_RST);
	CHECK_EQ(st.seq, 1234);
	sc_in(&sc, TH_RST, 5, 1234, 5000, NULL, 0);
	sc_in(&sc, TH_SYN | TH_FIN, 5, 1234, 5000, NULL, 0);
	sc_silent(&sc);
	sc_free(&sc);
}

/* TIME_WAIT: a repeated FIN is answered, a RST ignored (RFC 1337), a newer
 * SYN makes a new connection (MAY-2). */
static void
test_timewait(void)
{
	struct script sc;
	struct sent st;
	uint32_t old;

	sc_open(&sc, 0, 20000);
	CHECK_EQ(bsd_close(sc.sc_so), 0);
	sc.sc_so = NULL;
	sc_run(&sc);
	CHECK_EQ(sc_out(&sc).flags, TH_FIN | TH_ACK);
	sc_in(&sc, TH_FIN | TH_ACK, 1, 2, 20000, NULL, 0);
	CHECK_EQ(sc_out(&sc).ack, 2);
	CHECK_EQ(tcp_tw_count(sc.sc_s->s_tcp), 1);
	sc_in(&sc, TH_FIN | TH_ACK, 1, 2, 20000, NULL, 0);
	CHECK_EQ(sc_out(&sc).ack, 2);
	sc_in(&sc, TH_RST, 2, 2, 20000, NULL, 0);
	sc_silent(&sc);
	CHECK_EQ(tcp_tw_count(sc.sc_s->s_tcp), 1);
	sc_in(&sc, TH_SYN, 0, 0, 20000, NULL, 0); /* not newer */
	CHECK_EQ(sc_out(&sc).flags, TH_ACK);
	old = sc.sc_iss;
	sc_in(&sc, TH_SYN, 1000, 0, 20000, NULL, 0);
	st = sc_out(&sc);
	CHECK_EQ(st.flags, TH_SYN | TH_ACK);
	CHECK_EQ(st.ack, 1001);
	CHECK(SEQ_GT(sc.sc_iss, old + 2));
	CHECK_EQ(tcp_tw_count(sc.sc_s->s_tcp), 0);
	sc_close(&sc);
}

/* Noise: random segments near what would be right, in every state, while the
 * application reads, writes and closes. The invariants are checked inside. */
static void
test_noise(uint64_t seed)
{
	struct script sc;
	uint64_t x = seed * 0x9e3779b97f4a7c15ull + 1;
	uint8_t data[3000] = { 0 };

	sc_open(&sc, (int)(seed & 7), 20000);
	for (int i = 0; i < 3000; i++) {
		const struct tcpcb *tp =
		    sc.sc_so == NULL ? NULL : sototcpcb(sc.sc_so);
		uint32_t seq = tp == NULL ? 1 : tp->rcv_nxt - PEER_ISS;
		uint32_t ack = tp == NULL ? 1 : tp->snd_una - sc.sc_iss;
		uint32_t out = tp == NULL ? 1 : tp->snd_max - tp->snd_una + 1;
		uint8_t flags = TH_ACK;
		uint32_t r;

		x = x * 6364136223846793005ull + 1442695040888963407ull;
		r = (uint32_t)(x >> 33);
		if (r % 7 == 0) {
			flags = (uint8_t)(r >> 8);
		}
		if (r % 5 == 0) {
			sc.sc_optlen = (r >> 4 & 7) * 4;
			for (uint32_t k = 0; k < sc.sc_optlen; k++) {
				sc.sc_opt[k] = (uint8_t)(x >> (k % 8 * 8));
			}
			if (r % 3 == 0 && sc.sc_optlen >= 12) {
				be32put(sc.sc_opt, 0x0101050a);
				be32put(sc.sc_opt + 4,
				    sc.sc_iss + ack + r % (out + 2));
				be32put(sc.sc_opt + 8,
				    sc.sc_iss + ack + (r >> 3) % (out + 2));
			}
		}
		sc.sc_urp = (uint16_t)(r % 11 == 0 ? r >> 7 : 0);
		seq += r % 3 == 0 ? (r >> 5) % 8000 - 2000 : 0;
		ack += (r >> 9) % out - (r % 13 == 0);
		sc_in(&sc, flags, seq, ack,
		    (r >> 11) % 4 == 0 ? r % 3000 : 20000, data,
		    (r >> 6) % 4 == 0 ? r % 3000 : 0);
		if (sc.sc_so != NULL && r % 6 == 0) {
			(void)bsd_send(sc.sc_so, data, r % 3000,
			    MSG_DONTWAIT | (r % 17 == 0 ? MSG_OOB : 0), NULL, 0);
		}
		if (sc.sc_so != NULL && r % 4 == 0) {
			(void)bsd_recv(sc.sc_so, data, r % 3000, MSG_DONTWAIT,
			    NULL, 0);
		}
		if (r % 50 == 0) {
			sc_sleep(&sc, (r >> 4) % 1000 * SC_MS);
		}
		if (r % 997 == 0 && sc.sc_so != NULL) {
			(void)bsd_shutdown(sc.sc_so, SHUT_WR);
		}
		if (r % 1499 == 0 && sc.sc_so != NULL) {
			CHECK_EQ(bsd_close(sc.sc_so), 0);
			sc.sc_so = NULL;
		}
		if (sc.sc_so == NULL) {
			(void)bsd_accept(sc.sc_ls, 0, &sc.sc_so, NULL);
		}
		testif_clear(sc.sc_ti);
		sc.sc_seen = 0;
	}
	sc_close(&sc);
}

int
main(void)
{
	test_synack();
	test_blind();
	test_order();
	test_paws();
	test_urgent(false);
	test_urgent(true);
	test_window();
	test_noport();
	test_timewait();
	for (uint64_t seed = 0; seed < 64; seed++) {
		test_noise(seed);
	}
	return 0;
}
