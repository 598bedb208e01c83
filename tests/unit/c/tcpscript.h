/*
 * tcpscript.h - one side of a TCP conversation played by the test, segment by
 * segment, in virtual time. The stack is 10.0.0.1, the test 10.0.0.2; the
 * test's sequence numbers are relative to what it sent in its SYN, the
 * stack's to what it sent in its own.
 */
#ifndef TESTS_UNIT_C_TCPSCRIPT_H
#define TESTS_UNIT_C_TCPSCRIPT_H

#include <poll.h>

#include "bsdcore/api.h"
#include "bsdcore/netinet/tcp_var.h"
#include "tests/unit/c/inetstack.h"

#define SC_MS 1000000ull
#define SC_SEC 1000000000ull
#define PEER_ISS 0xfffffff0u /* wraps soon */
#define PEER_PORT 40000
#define OUR_PORT 80

struct script {
	struct stack *sc_s;
	struct testif *sc_ti;
	struct socket *sc_ls, *sc_so;
	uint32_t sc_iss; /* the stack's */
	int sc_seen;	 /* packets looked at */
	uint64_t sc_now;
	/* The next segment from the test. */
	uint8_t sc_opt[40];
	uint32_t sc_optlen;
	uint16_t sc_urp;
	uint32_t sc_tsval, sc_tsecr;
	bool sc_ts; /* put timestamps into every segment */
};

/* What the stack sent. */
struct sent {
	uint32_t seq, ack; /* relative */
	uint32_t len, win;
	uint16_t mss, urp;
	uint8_t flags;
	struct tcpopt opt;
	const uint8_t *data;
};

static inline void
sc_run(struct script *sc)
{
	int n = 0;

	do {
		CHECK(n++ < 1000);
	} while (bsd_run(sc->sc_s, sc->sc_now) != 0 ||
	    bsd_poll_at(sc->sc_s) <= sc->sc_now);
}

/* Time passes; timers run when they are due. */
static inline void
sc_sleep(struct script *sc, uint64_t ns)
{
	uint64_t end = sc->sc_now + ns, at;

	while ((at = bsd_poll_at(sc->sc_s)) <= end) {
		sc->sc_now = u64max(at, sc->sc_now);
		sc_run(sc);
	}
	sc->sc_now = end;
	sc_run(sc);
}

static inline void
sc_in(struct script *sc, uint8_t flags, uint32_t seq, uint32_t ack,
    uint32_t win, const void *data, uint32_t len)
{
	static uint8_t pkt[70000];
	struct bsd_addr src = { .family = AF_INET };
	union inaddr us = in_map4(htonl(0x0a000001));
	union inaddr peer = in_map4(htonl(0x0a000002));
	uint32_t hlen, tlen;
	uint8_t *th = pkt + 20;
	struct mbuf *m;
	uint16_t sum;

	(void)src;
	if (sc->sc_ts && sc->sc_optlen == 0) {
		sc->sc_optlen =
		    tcp_ts_put(sc->sc_opt, sc->sc_tsval, sc->sc_tsecr);
	}
	hlen = 20 + sc->sc_optlen;
	tlen = hlen + len;
	memset(pkt, 0, 20 + hlen);
	pkt[0] = 0x45;
	be16put(pkt + 2, (uint16_t)(20 + tlen));
	pkt[8] = 64;
	pkt[9] = IPPROTO_TCP;
	memcpy(pkt + 12, &peer.ia_w[3], 4);
	memcpy(pkt + 16, &us.ia_w[3], 4);
	sum = (uint16_t)~in_cksum_fold(in_cksum_add(0, pkt, 20, false));
	memcpy(pkt + 10, &sum, 2);
	be16put(th, PEER_PORT);
	be16put(th + 2, OUR_PORT);
	be32put(th + 4, PEER_ISS + seq);
	be32put(th + 8, flags & TH_ACK ? sc->sc_iss + ack : 0);
	th[12] = (uint8_t)(hlen / 4 << 4);
	th[13] = flags;
	be16put(th + 14, (uint16_t)win);
	be16put(th + 18, sc->sc_urp);
	memcpy(th + 20, sc->sc_opt, sc->sc_optlen);
	if (len > 0) {
		memcpy(th + hlen, data, len);
	}
	sum = (uint16_t)~in_cksum_fold(in_cksum_add(in_pseudo(&peer, &us,
							IPPROTO_TCP, tlen),
	    th, tlen, false));
	memcpy(th + 16, &sum, 2);
	sc->sc_optlen = 0;
	sc->sc_urp = 0;
	stack_enter(sc->sc_s);
	m = is_mbuf(sc->sc_s, &sc->sc_ti->ti_if, pkt, 20 + tlen, 0);
	ip_input(sc->sc_s, m);
	stack_leave(sc->sc_s);
	sc_run(sc);
}

static inline int
sc_pending(const struct script *sc)
{
	return sc->sc_ti->ti_nout - sc->sc_seen;
}

static inline void
sc_silent(struct script *sc)
{
	CHECK_EQ(sc_pending(sc), 0);
}

/* The next segment the stack sent; fails if there is none. */
static inline struct sent
sc_out(struct script *sc)
{
	const struct outpkt *op;
	const uint8_t *th;
	struct sent st;
	uint32_t hlen;

	CHECK(sc_pending(sc) > 0);
	op = sc->sc_ti->ti_out[sc->sc_seen++];
	th = op->op_data + 20;
	hlen = (uint32_t)(th[12] >> 4) * 4;
	CHECK(op->op_len >= 20 + hlen);
	st.flags = th[13];
	if (st.flags & TH_SYN) {
		sc->sc_iss = be32get(th + 4);
	}
	st.seq = be32get(th + 4) - sc->sc_iss;
	st.ack = be32get(th + 8) - PEER_ISS;
	st.win = be16get(th + 14);
	st.urp = be16get(th + 18);
	st.len = op->op_len - 20 - hlen;
	st.data = th + hlen;
	tcp_dooptions(&st.opt, th + 20, hlen - 20, (st.flags & TH_SYN) != 0);
	return st;
}

static inline void
sc_init(struct script *sc)
{
	struct bsd_config cfg = { .name = "script",
		.virtual_time = 1,
		.start_time = 1000 * SC_SEC,
		.seed = { 1, 2, 3, 4 } };
	struct bsd_addr any = { .family = AF_INET, .port = OUR_PORT };

	memset(sc, 0, sizeof(*sc));
	sc->sc_now = cfg.start_time;
	CHECK_EQ(bsd_stack_new(&cfg, &sc->sc_s), 0);
	sc->sc_ti = testif_new(sc->sc_s, "net0", "10.0.0.1", 24);
	CHECK_EQ(bsd_socket(sc->sc_s, AF_INET, SOCK_STREAM, 0, &sc->sc_ls), 0);
	CHECK_EQ(bsd_bind(sc->sc_ls, &any), 0);
	CHECK_EQ(bsd_listen(sc->sc_ls, 5), 0);
}

#define SCO_SACK 1
#define SCO_TS 2
#define SCO_WS 4    /* shift 0, so that windows read plainly */
#define SCO_QUICK 8 /* keep the ACKs at once of the start */

/* A handshake with a peer that offers what `what` says and an MSS of 1000;
 * the connection is sc_so. */
static inline void
sc_open(struct script *sc, int what, uint32_t win)
{
	uint8_t *cp = sc->sc_opt;
	struct sent st;

	sc_init(sc);
	be32put(cp, 0x02040000 | 1000);
	cp += 4;
	if (what & SCO_SACK) {
		be32put(cp, 0x01010402);
		cp += 4;
	}
	if (what & SCO_WS) {
		be32put(cp, 0x01030300);
		cp += 4;
	}
	if (what & SCO_TS) {
		sc->sc_ts = true;
		sc->sc_tsval = 1000;
		cp += tcp_ts_put(cp, sc->sc_tsval, 0);
	}
	sc->sc_optlen = (uint32_t)(cp - sc->sc_opt);
	sc_in(sc, TH_SYN, 0, 0, win, NULL, 0);
	st = sc_out(sc);
	CHECK_EQ(st.flags, TH_SYN | TH_ACK);
	CHECK_EQ(st.ack, 1);
	sc->sc_tsecr = st.opt.to_tsval;
	sc_in(sc, TH_ACK, 1, 1, win, NULL, 0);
	CHECK_EQ(bsd_accept(sc->sc_ls, 0, &sc->sc_so, NULL), 0);
	sc_silent(sc);
	if (!(what & SCO_QUICK)) {
		sototcpcb(sc->sc_so)->t_quickacks = 0;
	}
}

static inline int
sc_discard(struct ifnet *ifp, struct mbuf *m, const union inaddr *gw,
    struct rtentry *rt)
{
	(void)ifp;
	(void)gw;
	(void)rt;
	m_freem(m);
	return 0;
}

/* What goes out from now on is not looked at. */
static inline void
sc_free(struct script *sc)
{
	sc->sc_ti->ti_if.if_output = sc_discard;
	testif_clear(sc->sc_ti);
	bsd_stack_free(sc->sc_s);
}

static inline void
sc_close(struct script *sc)
{
	if (sc->sc_so != NULL) {
		CHECK_EQ(bsd_close(sc->sc_so), 0);
	}
	CHECK_EQ(bsd_close(sc->sc_ls), 0);
	sc_free(sc);
}

static inline void
sc_send(struct script *sc, uint32_t len)
{
	static uint8_t buf[1 << 20];

	for (uint32_t i = 0; i < len; i++) {
		buf[i] = (uint8_t)i;
	}
	CHECK_EQ(bsd_send(sc->sc_so, buf, len, 0, NULL, 0), (long)len);
	sc_run(sc);
}

static inline uint64_t
sc_stat(struct script *sc, const char *name)
{
	const char *n;
	uint64_t v;

	for (int i = 0; bsd_stat(sc->sc_s, i, &n, &v) == 0; i++) {
		if (strcmp(n, name) == 0) {
			return v;
		}
	}
	CHECK(!"no such counter");
	return 0;
}

#endif
