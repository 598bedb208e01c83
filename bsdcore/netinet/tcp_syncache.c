/*
 * tcp_syncache.c - half-open connections of listeners.
 *
 * A SYN makes a small entry here, not a socket. The entry answers and repeats
 * the SYN,ACK; the third segment of the handshake turns it into a connection
 * in SYN_RECEIVED, which tcp_input goes on with. Entries wait in one queue
 * per number of retransmissions: within one, all wait equally long, so each
 * is sorted by time and one callout serves them all.
 *
 * When there are too many, SYNs are answered without any state: what is
 * needed comes back in the acknowledgment number and the timestamp (SYN
 * cookies):
 *
 *	iss	time (5) | index into cookie_mss (3) | keyed hash (24)
 *	tsval	...              | SACK (1) | window scale, 15: none (4)
 *
 * An acknowledgment that finds the listener's queue full waits in its entry
 * until the application accepts (tcp_syncache_room).
 *
 * A listener with SOO_HOLDSYN has neither: a SYN makes a socket at once, and
 * the SYN,ACK waits for pru_accept().
 */
#include "bsdcore/net/if.h"
#include "bsdcore/netinet/tcp_var.h"

#define SC_HASH 256u
#define SC_LEVELS 16u /* retransmissions */
#define COOKIE_PERIOD (64 * NSEC_PER_SEC)
#define COOKIE_TSBITS 5
#define COOKIE_NOSCALE 15

struct synent {
	LIST_ENTRY(synent) sc_hash;
	TAILQ_ENTRY(synent) sc_queue;
	struct tcpcb *sc_ltp; /* the listener */
	union inaddr sc_laddr, sc_faddr;
	uint16_t sc_lport, sc_fport;
	uint32_t sc_irs, sc_iss;
	uint32_t sc_tsrecent, sc_tsoff;
	uint32_t sc_scope;
	uint16_t sc_mss;   /* the peer's, TOF_MSS */
	uint16_t sc_offer; /* the window we offered */
	uint8_t sc_wscale; /* the peer's, TOF_WSCALE */
	uint8_t sc_flags;  /* TOF_*: what both want */
	uint8_t sc_rexmts, sc_unreach;
	bool sc_ecn;	       /* RFC 3168: the peer asked and we agree */
	bool sc_deferred;      /* ACK came, data have not */
	struct tcpseg *sc_ack; /* came, but the queue of the listener was full */
	TAILQ_ENTRY(synent) sc_waiting; /* if it did */
	uint64_t sc_time;		/* of the first SYN,ACK */
	uint64_t sc_due;
};

struct syncache {
	struct tcp_state *sy_tcp;
	LIST_HEAD(synent_list, synent) sy_hash[SC_HASH];
	TAILQ_HEAD(synent_queue, synent) sy_queue[SC_LEVELS];
	struct synent_queue sy_waiting; /* for room in their listeners' queues */
	uint32_t sy_count;
	uint64_t sy_cookietime; /* last cookie sent, 0 never */
	struct callout sy_callout;
};

static const uint16_t cookie_mss[8] = { 216, 536, 1220, 1440, 1460, 4312, 8960,
	65483 };

/* ---- table ---- */

static void
sc_tuple(uint8_t v[36], const union inaddr *laddr, uint16_t lport,
    const union inaddr *faddr, uint16_t fport)
{
	memcpy(v, laddr, 16);
	memcpy(v + 16, faddr, 16);
	be16put(v + 32, lport);
	be16put(v + 34, fport);
}

static struct synent_list *
sc_chain(struct syncache *sy, const union inaddr *laddr, uint16_t lport,
    const union inaddr *faddr, uint16_t fport)
{
	uint8_t v[36];

	sc_tuple(v, laddr, lport, faddr, fport);
	return &sy->sy_hash[stack_hash(sy->sy_tcp->tcs_stack, SH_PCB, v, sizeof(v)) %
	    SC_HASH];
}

static struct synent *
sc_find(struct syncache *sy, const union inaddr *laddr, uint16_t lport,
    const union inaddr *faddr, uint16_t fport)
{
	struct synent *sc;

	if (sy->sy_count == 0) {
		return NULL;
	}
	LIST_FOREACH (sc, sc_chain(sy, laddr, lport, faddr, fport), sc_hash) {
		if (sc->sc_lport == lport && sc->sc_fport == fport &&
		    in_eq(&sc->sc_laddr, laddr) && in_eq(&sc->sc_faddr, faddr)) {
			return sc;
		}
	}
	return NULL;
}

static struct synent *
sc_lookup(struct tcp_state *tcp, const struct tcpseg *sg)
{
	return sc_find(tcp->tcs_syncache, &sg->sg_laddr, sg->sg_lport,
	    &sg->sg_faddr, sg->sg_fport);
}

static void
sc_free(struct syncache *sy, struct synent *sc)
{
	LIST_REMOVE(sc, sc_hash);
	TAILQ_REMOVE(&sy->sy_queue[sc->sc_rexmts], sc, sc_queue);
	if (sc->sc_ack != NULL) {
		TAILQ_REMOVE(&sy->sy_waiting, sc, sc_waiting);
		free(sc->sc_ack);
	}
	sy->sy_count--;
	free(sc);
}

/* Into the queue of its number of retransmissions. */
static void
sc_enqueue(struct syncache *sy, struct synent *sc)
{
	struct tcp_state *tcp = sy->sy_tcp;
	struct stack *s = tcp->tcs_stack;
	uint64_t t = (uint64_t)TCPTUN(tcp, rto_initial) * NSEC_PER_MSEC;

	t = u64min(t << sc->sc_rexmts,
	    (uint64_t)TCPTUN(tcp, rto_max) * NSEC_PER_MSEC);
	sc->sc_due = s->s_now + t;
	TAILQ_INSERT_TAIL(&sy->sy_queue[sc->sc_rexmts], sc, sc_queue);
	if (sc->sc_due < sy->sy_callout.c_time) {
		callout_reset(s, &sy->sy_callout, sc->sc_due);
	}
}

/* ---- the SYN,ACK ---- */

static void
sc_respond(struct tcp_state *tcp, const struct synent *sc, uint32_t tsval)
{
	const struct inpcb *linp = sc->sc_ltp->t_inp;
	struct tcpsynopt so = { .to_flags = sc->sc_flags,
		.to_tsval = tsval,
		.to_tsecr = sc->sc_tsrecent,
		.to_wscale = tcp_wscale_offer(tcp) };
	struct tcpreply tr = {
		.tr_laddr = &sc->sc_laddr,
		.tr_faddr = &sc->sc_faddr,
		.tr_lport = sc->sc_lport,
		.tr_fport = sc->sc_fport,
		.tr_seq = sc->sc_iss,
		.tr_ack = sc->sc_irs + 1,
		.tr_wnd = sc->sc_offer,
		.tr_flags = TH_SYN | TH_ACK | (sc->sc_ecn ? TH_ECE_ : 0),
		.tr_tos = linp->inp_tos,
		.tr_ttl = linp->inp_ttl,
		.tr_scope = sc->sc_scope,
		.tr_freebind =
		    (linp->inp_flags & (INP_ANYIP | INP_FREEBIND)) != 0 ||
		    (sc->sc_ltp->t_so->so_options & SOO_ANYIP) != 0,
	};

	so.to_mss =
	    tcp_mss_offer(tcp->tcs_stack, NULL, &sc->sc_faddr, sc->sc_scope);
	if (sc->sc_ltp->t_usermss != 0) {
		so.to_mss = (uint16_t)u32min(so.to_mss, sc->sc_ltp->t_usermss);
	}
	tr.tr_optlen = (uint8_t)tcp_synopt_put(tcp, &so, tr.tr_opt);
	TCPSTAT_INC(tcp, sndctrl);
	tcp_reply(tcp->tcs_stack, &tr);
}

static void
sc_synack(struct tcp_state *tcp, const struct synent *sc)
{
	sc_respond(tcp, sc, tcp_tsclock(tcp->tcs_stack) + sc->sc_tsoff);
}

/* Does the retransmission wait, because the peer is connected in its own eyes
 * and the application wants data first (TCP_DEFER_ACCEPT)? */
static bool
sc_deferring(const struct tcp_state *tcp, const struct synent *sc)
{
	return sc->sc_deferred &&
	    tcp->tcs_stack->s_now - sc->sc_time <
	    (uint64_t)sc->sc_ltp->t_deferaccept * NSEC_PER_SEC;
}

static void
sc_timer(struct stack *s, void *arg)
{
	struct syncache *sy = arg;
	struct tcp_state *tcp = sy->sy_tcp;
	uint32_t limit = (uint32_t)TCPTUN(tcp, synack_retries);
	uint64_t next = CALLOUT_NEVER;
	struct synent *sc;

	for (uint32_t i = SC_LEVELS; i-- > 0;) {
		while ((sc = TAILQ_FIRST(&sy->sy_queue[i])) != NULL &&
		    sc->sc_due <= s->s_now) {
			if (i >= limit || i + 1 >= SC_LEVELS) {
				TCPSTAT_INC(tcp, sc_timeout);
				sc_free(sy, sc);
				continue;
			}
			TAILQ_REMOVE(&sy->sy_queue[i], sc, sc_queue);
			sc->sc_rexmts++;
			if (!sc_deferring(tcp, sc)) {
				TCPSTAT_INC(tcp, sc_retransmitted);
				sc_synack(tcp, sc);
			}
			sc_enqueue(sy, sc);
		}
	}
	for (uint32_t i = 0; i < SC_LEVELS; i++) {
		if ((sc = TAILQ_FIRST(&sy->sy_queue[i])) != NULL) {
			next = u64min(next, sc->sc_due);
		}
	}
	if (next != CALLOUT_NEVER) {
		callout_reset(s, &sy->sy_callout, next);
	}
}

/* ---- SYN cookies ---- */

static uint32_t
cookie_hash(const struct tcp_state *tcp, const struct synent *sc,
    uint64_t period, uint32_t idx)
{
	uint8_t v[52];

	sc_tuple(v, &sc->sc_laddr, sc->sc_lport, &sc->sc_faddr, sc->sc_fport);
	be32put(v + 36, sc->sc_irs);
	be32put(v + 40, (uint32_t)(period >> 32));
	be32put(v + 44, (uint32_t)period);
	be32put(v + 48, idx);
	return (uint32_t)stack_hash(tcp->tcs_stack, SH_COOKIE, v, sizeof(v)) &
	    0xffffff;
}

static void
cookie_send(struct tcp_state *tcp, struct synent *sc)
{
	uint64_t period = tcp->tcs_stack->s_now / COOKIE_PERIOD;
	uint32_t idx = 7, ts, bits;

	sc->sc_ecn = false; /* nowhere to keep it */
	while (idx > 0 && cookie_mss[idx] > sc->sc_mss) {
		idx--;
	}
	sc->sc_iss = (uint32_t)(period & 31) << 27 | idx << 24 |
	    cookie_hash(tcp, sc, period, idx);
	if ((sc->sc_flags & TOF_TS) == 0) {
		sc->sc_flags &= TOF_MSS; /* nowhere to keep the rest */
	}
	bits = (sc->sc_flags & TOF_WSCALE ? sc->sc_wscale : COOKIE_NOSCALE) |
	    (sc->sc_flags & TOF_SACKOK ? 16u : 0);
	ts = tcp_tsclock(tcp->tcs_stack) + sc->sc_tsoff;
	if ((ts & 31) < bits) {
		ts -= 32; /* never ahead of the clock */
	}
	ts = (ts & ~31u) | bits;
	tcp->tcs_syncache->sy_cookietime = u64max(tcp->tcs_stack->s_now, 1);
	TCPSTAT_INC(tcp, cookie_sent);
	sc_respond(tcp, sc, ts);
}

/* Is sg the answer to a cookie of ours? Fills in *sc. */
static bool
cookie_check(struct tcp_state *tcp, const struct tcpseg *sg, struct synent *sc)
{
	uint64_t now = tcp->tcs_stack->s_now, period = now / COOKIE_PERIOD;
	uint64_t last = tcp->tcs_syncache->sy_cookietime;
	uint32_t iss = sg->sg_ack - 1, idx = iss >> 24 & 7, bits;

	if (last == 0 || now - last > 2 * COOKIE_PERIOD ||
	    (sg->sg_flags & TH_SYN)) {
		return false;
	}
	if ((period & 31) != iss >> 27) {
		period--; /* the one before is good, too */
	}
	sc->sc_irs = sg->sg_seq - 1;
	if ((period & 31) != iss >> 27 ||
	    cookie_hash(tcp, sc, period, idx) != (iss & 0xffffff)) {
		TCPDROP(tcp, cookiebad);
		return false;
	}
	TCPSTAT_INC(tcp, cookie_recv);
	sc->sc_iss = iss;
	sc->sc_mss = cookie_mss[idx];
	sc->sc_flags = TOF_MSS;
	if (sg->sg_opt.to_flags & TOF_TS) {
		bits = sg->sg_opt.to_tsecr & 31;
		sc->sc_flags |= TOF_TS;
		sc->sc_tsrecent = sg->sg_opt.to_tsval;
		if ((bits & 15) != COOKIE_NOSCALE) {
			sc->sc_flags |= TOF_WSCALE;
			sc->sc_wscale = bits & 15;
		}
		if (bits & 16) {
			sc->sc_flags |= TOF_SACKOK;
		}
	}
	return true;
}

/* ---- making a connection ---- */

/* What a child has from its listener's network half. */
static void
sc_inherit(struct inpcb *inp, const struct inpcb *linp, uint32_t scope)
{
	inp->inp_flags |= linp->inp_flags &
	    (INP_V6ONLY | INP_PMTUDISC_DO | INP_PMTUDISC_DONT | INP_FREEBIND |
		INP_RECVERR);
	if (linp->inp_flags & INP_ANYIP) {
		inp->inp_flags |= INP_FREEBIND;
	}
	inp->inp_tos = linp->inp_tos;
	inp->inp_ttl = linp->inp_ttl;
	inp->inp_hops6 = linp->inp_hops6;
	inp->inp_tclass6 = linp->inp_tclass6;
	if (in_islinklocal6(&inp->inp_faddr)) {
		inp->inp_scope = scope;
	}
}

/* A socket and a control block for sc, in SYN_RECEIVED, nothing sent as far
 * as it knows. NULL: no room, or no memory. */
static struct tcpcb *
sc_connection(const struct synent *sc)
{
	struct tcpcb *ltp = sc->sc_ltp, *tp;
	struct tcp_state *tcp = ltp->t_tcp;
	struct tcpopt to = { .to_flags = sc->sc_flags,
		.to_mss = sc->sc_mss,
		.to_wscale = sc->sc_wscale,
		.to_tsval = sc->sc_tsrecent };
	struct socket *so = sonewconn(ltp->t_so, 0);
	struct inpcb *inp;

	if (so == NULL) {
		return NULL;
	}
	inp = sotoinpcb(so);
	tp = intotcpcb(inp);
	if (in_pcbsetpair(inp, &sc->sc_laddr, sc->sc_lport, &sc->sc_faddr,
		sc->sc_fport) != 0) {
		soabort(so);
		return NULL;
	}
	sc_inherit(inp, ltp->t_inp, sc->sc_scope);
	tcp_inherit(tp, ltp);
	tp->t_flags |= TF_PASSIVE | TF_REQ_SCALE | TF_REQ_TS;
	tp->t_reqscale = tcp_wscale_offer(tcp);
	if (sc->sc_ecn) {
		tcp_ecn_on(tp);
	}
	tp->t_tsoff = sc->sc_tsoff;
	tcp_sendseqinit(tp, sc->sc_iss);
	tcp_rcvseqinit(tp, sc->sc_irs);
	tcp_synoptions(tp, &to);
	tp->rcv_wnd = sc->sc_offer;
	tp->rcv_adv = tp->rcv_nxt + sc->sc_offer;
	tp->snd_cwnd = tp->t_maxseg;
	tcp_setstate(tp, TCPS_SYN_RECEIVED);
	TCPSTAT_INC(tcp, accepts);
	return tp;
}

/* Whose work the connection is: the handshake's last segment says. */
static void
sc_peertag(struct tcpcb *tp, const struct tcpseg *sg)
{
	tp->t_so->so_peersvc = sg->sg_svc;
	tp->t_so->so_peerorigin = sg->sg_origin;
}

/* SOO_HOLDSYN. */
static void
sc_hold(struct tcpcb *ltp, const struct synent *sc)
{
	struct tcp_state *tcp = ltp->t_tcp;
	struct tcpcb *tp = sc_connection(sc);

	if (tp == NULL) {
		TCPDROP(tcp, listenoverflow);
		return;
	}
	tp->t_flags |= TF_HELDSYN;
	tcp_timer_arm(tp, TCPT_KEEP,
	    tcp->tcs_stack->s_now +
		(uint64_t)TCPTUN(tcp, keepinit) * NSEC_PER_SEC);
	if (ltp->t_so->so_newconn != NULL) {
		ltp->t_so->so_newconn(ltp->t_so, tp->t_so);
	}
}

/* ---- what tcp_input asks ---- */

static void
sc_fill(struct synent *sc, struct tcpcb *ltp, const struct tcpseg *sg)
{
	struct tcp_state *tcp = ltp->t_tcp;
	const struct tcpopt *to = &sg->sg_opt;

	memset(sc, 0, sizeof(*sc));
	sc->sc_ltp = ltp;
	sc->sc_laddr = sg->sg_laddr;
	sc->sc_faddr = sg->sg_faddr;
	sc->sc_lport = sg->sg_lport;
	sc->sc_fport = sg->sg_fport;
	sc->sc_irs = sg->sg_seq;
	sc->sc_tsoff = tcp_newtsoff(tcp->tcs_stack, &sc->sc_laddr, sc->sc_lport,
	    &sc->sc_faddr, sc->sc_fport);
	sc->sc_offer = (uint16_t)u32min(sbspace(&ltp->t_so->so_rcv), TCP_WINMAX);
	sc->sc_time = tcp->tcs_stack->s_now;
	if (in_islinklocal6(&sg->sg_faddr) && sg->sg_ifp != NULL) {
		sc->sc_scope = sg->sg_ifp->if_index;
	}
	sc->sc_flags = to->to_flags & TOF_MSS;
	sc->sc_mss = to->to_mss;
	sc->sc_ecn = tcp_ecn_offered(tcp, sg);
	if ((to->to_flags & TOF_WSCALE) && TCPTUN(tcp, window_scaling)) {
		sc->sc_flags |= TOF_WSCALE;
		sc->sc_wscale = to->to_wscale;
	}
	if ((to->to_flags & TOF_TS) && TCPTUN(tcp, timestamps)) {
		sc->sc_flags |= TOF_TS;
		sc->sc_tsrecent = to->to_tsval;
	}
	if ((to->to_flags & TOF_SACKOK) && TCPTUN(tcp, sack)) {
		sc->sc_flags |= TOF_SACKOK;
	}
	if ((sc->sc_flags & TOF_MSS) == 0) {
		sc->sc_flags |= TOF_MSS;
		sc->sc_mss =
		    (uint16_t)(in_is4(&sc->sc_faddr) ? TCPTUN(tcp, mssdflt) :
						       TCPTUN(tcp, v6mssdflt));
	}
}

void
tcp_syncache_add(struct tcpcb *ltp, struct tcpseg *sg)
{
	struct tcp_state *tcp = ltp->t_tcp;
	struct syncache *sy = tcp->tcs_syncache;
	struct synent *sc = sc_lookup(tcp, sg), tmp;

	if (sc != NULL) {
		/* Again, or another one: the first is answered until it is
		 * refused (RFC 5961 4). */
		TCPSTAT_INC(tcp, sc_dupsyn);
		/* Asked again without: it counts on no answer to that. */
		sc->sc_ecn &= tcp_ecn_offered(tcp, sg);
		if (tcp_challenge_ok(tcp, NULL)) {
			sc_synack(tcp, sc);
		}
		return;
	}
	if (soqfull(ltp->t_so)) {
		TCPDROP(tcp, listenoverflow);
		return;
	}
	sc_fill(&tmp, ltp, sg);
	tmp.sc_iss = tcp_newiss(tcp->tcs_stack, &tmp.sc_laddr, tmp.sc_lport,
	    &tmp.sc_faddr, tmp.sc_fport);
	if (sg->sg_hasiss) {
		tmp.sc_iss = seq_max(tmp.sc_iss, sg->sg_iss);
	}
	if (ltp->t_so->so_options & SOO_HOLDSYN) {
		sc_hold(ltp, &tmp);
		return;
	}
	if (sy->sy_count >= TCPTUN(tcp, syncache_limit) ||
	    TCPTUN(tcp, syncookies) == 2 || (sc = malloc(sizeof(*sc))) == NULL) {
		if (TCPTUN(tcp, syncookies) == 0) {
			TCPSTAT_INC(tcp, sc_overflow);
			return;
		}
		cookie_send(tcp, &tmp);
		return;
	}
	*sc = tmp;
	TCPSTAT_INC(tcp, sc_added);
	sy->sy_count++;
	LIST_INSERT_HEAD(sc_chain(sy, &sc->sc_laddr, sc->sc_lport,
			     &sc->sc_faddr, sc->sc_fport),
	    sc, sc_hash);
	sc_enqueue(sy, sc);
	sc_synack(tcp, sc);
}

/* May sg complete sc? false: *reset says whether to refuse it. */
static bool
sc_acceptable(struct tcp_state *tcp, struct synent *sc, const struct tcpseg *sg,
    bool *reset)
{
	*reset = sg->sg_ack != sc->sc_iss + 1;
	if (*reset) {
		return false;
	}
	if (!seq_in(sg->sg_seq, sc->sc_irs + 1, u32max(sc->sc_offer, 1))) {
		TCPDROP(tcp, afterwin);
		if (tcp_challenge_ok(tcp, NULL)) {
			sc_synack(tcp, sc);
		}
		return false;
	}
	if ((sc->sc_flags & TOF_TS) && (sg->sg_opt.to_flags & TOF_TS) &&
	    TSTMP_LT(sg->sg_opt.to_tsval, sc->sc_tsrecent)) {
		TCPDROP(tcp, paws);
		return false;
	}
	if (sc->sc_ltp->t_deferaccept != 0 && sg->sg_len == 0 &&
	    (sg->sg_flags & TH_FIN) == 0) {
		sc->sc_deferred = true;
		if (sc_deferring(tcp, sc)) {
			TCPDROP(tcp, defer);
			return false;
		}
	}
	return true;
}

/* The handshake is done, but the listener's queue is full. The peer believes
 * itself connected and repeats what it sends ever more rarely, many peers in
 * step: remember the acknowledgment, and go on when there is room. */
static void
sc_wait(struct syncache *sy, struct synent *sc, const struct tcpseg *sg)
{
	if (sc->sc_ack != NULL || (sc->sc_ack = malloc(sizeof(*sg))) == NULL) {
		return;
	}
	*sc->sc_ack = *sg;
	sc->sc_ack->sg_m = NULL;
	sc->sc_ack->sg_ifp = NULL;
	sc->sc_ack->sg_seq = sc->sc_irs + 1;
	sc->sc_ack->sg_len = sc->sc_ack->sg_segsz = sc->sc_ack->sg_urp = 0;
	sc->sc_ack->sg_flags = TH_ACK;
	sc->sc_ack->sg_opt.to_tsecr = 0; /* the wait is not the network's */
	TAILQ_INSERT_TAIL(&sy->sy_waiting, sc, sc_waiting);
}

void
tcp_syncache_room(struct tcpcb *ltp)
{
	struct syncache *sy = ltp->t_tcp->tcs_syncache;
	struct synent *sc, *next;
	struct tcpseg sg;
	struct tcpcb *tp;

	for (sc = TAILQ_FIRST(&sy->sy_waiting); sc != NULL; sc = next) {
		next = TAILQ_NEXT(sc, sc_waiting);
		if (sc->sc_ltp != ltp) {
			continue;
		}
		tp = soqfull(ltp->t_so) ? NULL : sc_connection(sc);
		if (tp == NULL) {
			return;
		}
		tp->snd_nxt = tp->snd_max = tp->iss + 1;
		if (sc->sc_rexmts > 1) {
			tp->t_flags |= TF_SYNCWND;
		}
		sg = *sc->sc_ack;
		sc_peertag(tp, &sg);
		sc_free(sy, sc);
		TCPSTAT_INC(ltp->t_tcp, sc_completed);
		tcp_input_conn(tp, &sg);
	}
}

struct tcpcb *
tcp_syncache_expand(struct tcpcb *ltp, struct tcpseg *sg, bool *reset)
{
	struct tcp_state *tcp = ltp->t_tcp;
	struct synent *sc = sc_lookup(tcp, sg), tmp;
	struct tcpcb *tp;
	bool cookie = sc == NULL;

	if (cookie) {
		sc = &tmp;
		sc_fill(sc, ltp, sg);
		*reset = true;
		if (!cookie_check(tcp, sg, sc)) {
			return NULL;
		}
	} else if (!sc_acceptable(tcp, sc, sg, reset)) {
		return NULL;
	}
	*reset = false;
	tp = sc_connection(sc);
	if (tp == NULL) {
		TCPDROP(tcp, listenoverflow); /* it will be sent again */
		if (!cookie) {
			sc_wait(tcp->tcs_syncache, sc, sg);
		}
		return NULL;
	}
	sc_peertag(tp, sg);
	tp->snd_nxt = tp->snd_max = tp->iss + 1;
	if (!cookie) {
		tp->t_rtttime = sc->sc_rexmts == 0 ? sc->sc_time : 0;
		if (sc->sc_rexmts > 1) {
			tp->t_flags |= TF_SYNCWND;
		}
		sc_free(tcp->tcs_syncache, sc);
	}
	TCPSTAT_INC(tcp, sc_completed);
	return tp;
}

void
tcp_syncache_rst(struct tcp_state *tcp, const struct tcpseg *sg)
{
	struct synent *sc = sc_lookup(tcp, sg);

	if (sc == NULL || sg->sg_seq != sc->sc_irs + 1) {
		TCPDROP(tcp, badrst);
		return;
	}
	TCPSTAT_INC(tcp, sc_reset);
	sc_free(tcp->tcs_syncache, sc);
}

/* An ICMP error about a SYN,ACK. One may be a passing trouble. */
void
tcp_syncache_unreach(struct tcp_state *tcp, const struct ctlparam *cp)
{
	struct synent *sc = sc_find(tcp->tcs_syncache, cp->cp_laddr,
	    be16get(cp->cp_th + TH_OFF_SPORT), cp->cp_faddr,
	    be16get(cp->cp_th + TH_OFF_DPORT));

	if (sc == NULL || be32get(cp->cp_th + TH_OFF_SEQ) != sc->sc_iss) {
		return;
	}
	if (++sc->sc_unreach >= 3 && sc->sc_rexmts >= 3) {
		TCPSTAT_INC(tcp, sc_unreach);
		sc_free(tcp->tcs_syncache, sc);
	}
}

/* Remove what ltp waits for; NULL: everything. */
static void
sc_purge(struct syncache *sy, const struct tcpcb *ltp)
{
	struct synent *sc, *next;

	for (uint32_t i = 0; i < SC_LEVELS && sy->sy_count > 0; i++) {
		for (sc = TAILQ_FIRST(&sy->sy_queue[i]); sc != NULL; sc = next) {
			next = TAILQ_NEXT(sc, sc_queue);
			if (ltp == NULL || sc->sc_ltp == ltp) {
				sc_free(sy, sc);
			}
		}
	}
}

void
tcp_syncache_forget(struct tcpcb *ltp)
{
	sc_purge(ltp->t_tcp->tcs_syncache, ltp);
}

void
tcp_syncache_drain(struct tcp_state *tcp)
{
	sc_purge(tcp->tcs_syncache, NULL);
}

uint32_t
tcp_syncache_count(const struct tcp_state *tcp)
{
	return tcp->tcs_syncache->sy_count;
}

int
tcp_syncache_init(struct tcp_state *tcp)
{
	struct syncache *sy;

	if (callout_reserve(tcp->tcs_stack, 1) != 0) {
		return ENOMEM;
	}
	sy = calloc(1, sizeof(*sy));
	if (sy == NULL) {
		return ENOMEM;
	}
	sy->sy_tcp = tcp;
	for (uint32_t i = 0; i < SC_LEVELS; i++) {
		TAILQ_INIT(&sy->sy_queue[i]);
	}
	TAILQ_INIT(&sy->sy_waiting);
	callout_init(&sy->sy_callout, sc_timer, sy);
	tcp->tcs_syncache = sy;
	return 0;
}

void
tcp_syncache_fini(struct tcp_state *tcp)
{
	struct syncache *sy = tcp->tcs_syncache;

	if (sy == NULL) {
		return;
	}
	sc_purge(sy, NULL);
	callout_drain(tcp->tcs_stack, &sy->sy_callout);
	(void)callout_reserve(tcp->tcs_stack, -1);
	free(sy);
	tcp->tcs_syncache = NULL;
}
