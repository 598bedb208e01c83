/*
 * tcp_timer.c - the timers of a connection.
 *
 * A connection has TCPT_NTIMERS deadlines and one callout, armed for the
 * earliest. Moving a deadline later or off costs a store (callout.h), so
 * timers that are set and cleared with every segment leave the heap alone.
 *
 * A handler that ends the connection answers false; tp is gone then.
 */
#include "bsdcore/netinet/cc/cc.h"

#define MS(n) ((uint64_t)(n) * NSEC_PER_MSEC)
#define SEC(n) ((uint64_t)(n) * NSEC_PER_SEC)

static void
tcp_timer_sched(struct tcpcb *tp)
{
	uint64_t min = CALLOUT_NEVER;

	for (int i = 0; i < TCPT_NTIMERS; i++) {
		min = u64min(min, tp->t_timer[i]);
	}
	if (min == CALLOUT_NEVER) {
		callout_stop(&tp->t_callout);
	} else if (min != tp->t_callout.c_time) {
		callout_reset(tp->t_stack, &tp->t_callout, min);
	}
}

void
tcp_timer_arm(struct tcpcb *tp, enum tcp_timer_id id, uint64_t when)
{
	tp->t_timer[id] = when;
	tcp_timer_sched(tp);
}

void
tcp_timer_stop(struct tcpcb *tp, enum tcp_timer_id id)
{
	if (tp->t_timer[id] != CALLOUT_NEVER) {
		tp->t_timer[id] = CALLOUT_NEVER;
		tcp_timer_sched(tp);
	}
}

void
tcp_timer_stopall(struct tcpcb *tp)
{
	for (int i = 0; i < TCPT_NTIMERS; i++) {
		tp->t_timer[i] = CALLOUT_NEVER;
	}
	callout_stop(&tp->t_callout);
}

/* For netstat: the timer that is due next. */
const char *
tcp_timer_name(const struct tcpcb *tp)
{
	static const char *const names[] = { "rexmt", "persist", "keep", "2msl",
		"delack", "pto" };
	int best = -1;

	for (int i = 0; i < TCPT_NTIMERS; i++) {
		if (tp->t_timer[i] != CALLOUT_NEVER &&
		    (best < 0 || tp->t_timer[i] < tp->t_timer[best])) {
			best = i;
		}
	}
	return best < 0 ? "" : names[best];
}

/* ---- round-trip time (RFC 6298) ---- */

static void
tcp_rto_set(struct tcpcb *tp)
{
	uint64_t rto = tp->t_srtt + u64max(NSEC_PER_MSEC, 4 * tp->t_rttvar);

	rto = u64max(rto, MS(TCPTUN(tp->t_tcp, rto_min)));
	tp->t_rto = u64min(rto, MS(TCPTUN(tp->t_tcp, rto_max)));
}

/* One measurement, ns, of a segment sent once (Karn) or told apart by its
 * timestamp. */
void
tcp_rtt_sample(struct tcpcb *tp, uint64_t rtt)
{
	uint64_t delta;

	rtt = u64max(rtt, 1);
	TCPSTAT_INC(tp->t_tcp, rttupdated);
	if (tp->t_srtt == 0) {
		tp->t_srtt = rtt;
		tp->t_rttvar = rtt / 2;
	} else {
		delta = rtt > tp->t_srtt ? rtt - tp->t_srtt : tp->t_srtt - rtt;
		tp->t_rttvar = tp->t_rttvar - tp->t_rttvar / 4 + delta / 4;
		tp->t_srtt = tp->t_srtt - tp->t_srtt / 8 + rtt / 8;
	}
	if (tp->t_minrtt == 0 || rtt < tp->t_minrtt) {
		tp->t_minrtt = rtt;
	}
	if (tp->t_cc->cc_rtt != NULL) {
		tp->t_cc->cc_rtt(tp, rtt);
	}
	tp->t_rxtshift = 0;
	tcp_rto_set(tp);
}

uint64_t
tcp_rexmt_timeout(const struct tcpcb *tp)
{
	return u64min(tp->t_rto << u32min(tp->t_rxtshift, 20),
	    MS(TCPTUN(tp->t_tcp, rto_max)));
}

void
tcp_rexmt_arm(struct tcpcb *tp)
{
	tcp_timer_arm(tp, TCPT_REXMT,
	    tp->t_stack->s_now + tcp_rexmt_timeout(tp));
}

/* ---- retransmission ---- */

/* How often may this be sent again before the connection is given up (R2)? */
static uint32_t
tcp_rexmt_limit(const struct tcpcb *tp)
{
	switch (tp->t_state) {
	case TCPS_SYN_SENT:
		return tp->t_rxtlimit != 0 ?
		    tp->t_rxtlimit :
		    (uint32_t)TCPTUN(tp->t_tcp, syn_retries);
	case TCPS_SYN_RECEIVED:
		return (uint32_t)TCPTUN(tp->t_tcp, synack_retries);
	default:
		return (uint32_t)TCPTUN(tp->t_tcp, retries);
	}
}

static bool
tcp_giveup(struct tcpcb *tp)
{
	uint64_t stalled = tp->t_stack->s_now - tp->t_stalltime;

	if (tp->t_usertimeout != 0 && TCPS_HAVEESTABLISHED(tp->t_state)) {
		return stalled >= MS(tp->t_usertimeout);
	}
	return tp->t_rxtshift >= tcp_rexmt_limit(tp);
}

static void
tcp_timedout(struct tcpcb *tp)
{
	TCPSTAT_INC(tp->t_tcp, timeoutdrop);
	tcp_drop(tp, tp->t_softerror != 0 ? tp->t_softerror : ETIMEDOUT);
}

/* Big segments may be vanishing without an ICMP message (RFC 2923 2.1): try
 * smaller ones after two timeouts, go back if it was not that. */
static void
tcp_blackhole(struct tcpcb *tp)
{
	uint32_t small = (uint32_t)TCPTUN(tp->t_tcp, pmtud_blackhole_mss);

	if (small == 0 || tp->t_state != TCPS_ESTABLISHED) {
		return;
	}
	if (tp->t_rxtshift == 2 && tp->t_mss > small &&
	    (tp->t_flags & TF_BLACKHOLE) == 0) {
		tp->t_flags |= TF_BLACKHOLE;
		TCPSTAT_INC(tp->t_tcp, pmtudbh);
		tcp_mss_update(tp);
	} else if (tp->t_rxtshift == 5 && (tp->t_flags & TF_BLACKHOLE)) {
		tp->t_flags &= ~TF_BLACKHOLE;
		TCPSTAT_INC(tp->t_tcp, pmtudbh_reverted);
		tcp_mss_update(tp);
	}
}

/* The windows after a timeout (RFC 5681 3.1, equation 4). */
static void
tcp_rexmt_window(struct tcpcb *tp)
{
	uint32_t flight = tp->snd_max - tp->snd_una;

	if (tp->t_rxtshift == 1 && !tcp_in_recovery(tp)) {
		tp->t_prevcwnd = tp->snd_cwnd;
		tp->t_prevssthresh = tp->snd_ssthresh;
		tp->t_flags |= TF_UNDO;
		tp->t_rexmtts = tcp_tsclock(tp->t_stack) + tp->t_tsoff;
	} else {
		tp->t_flags &= ~TF_UNDO;
	}
	/* ssthresh is not lowered again while the same segment is repeated. */
	if (tp->t_rxtshift == 1) {
		tp->t_cc->cc_loss(tp, flight);
	}
	tp->snd_cwnd = tp->t_maxseg;
	tp->t_dupacks = 0;
	tp->snd_recover = tp->snd_max;
	tp->t_flags &= ~(TF_FASTRECOVERY | TF_TLPSENT);
	tp->t_flags |= TF_RTORECOVERY;
}

static bool
tcp_timer_rexmt(struct tcpcb *tp)
{
	if (tcp_qosheld(tp)) {
		tcp_rexmt_arm(tp); /* it may not go again now */
		return true;
	}
	TCPSTAT_INC(tp->t_tcp, rexmttimeo);
	if (tcp_giveup(tp)) {
		tcp_timedout(tp);
		return false;
	}
	tp->t_rxtshift++;
	tp->t_rtttime = 0;
	if (tp->snd_max == tp->snd_una) {
		/* IP refused to take anything; ask it again. */
		tcp_rexmt_arm(tp);
		(void)tcp_output(tp);
		return true;
	}
	if (!TCPS_HAVEESTABLISHED(tp->t_state)) {
		tp->t_flags |= TF_SYNCWND;
		tp->snd_nxt = tp->snd_una;
	} else {
		tcp_blackhole(tp);
		tcp_rexmt_window(tp);
		if (!tcp_sack_on(tp) || tcp_sack_alllost(tp) != 0) {
			tcp_sack_free(tp);
			tp->snd_nxt = tp->snd_una;
		}
	}
	if (tp->t_rxtshift == 4) {
		/* R1: ask for another route (RFC 9293 3.8.3). */
		route_release(tp->t_stack, &tp->t_inp->inp_route);
	}
	tcp_rexmt_arm(tp);
	(void)tcp_output(tp);
	return true;
}

/* ---- persist: a shut window, or corked data ---- */

void
tcp_persist_arm(struct tcpcb *tp)
{
	struct tcp_state *tcp = tp->t_tcp;
	uint64_t t;

	if (tp->snd_wnd > 0 && tp->t_rxtshift == 0) {
		t = MS(TCPTUN(tcp, cork_max));
	} else {
		t = u64max(tp->t_rto, MS(TCPTUN(tcp, persist_min)));
		t = u64min(t << u32min(tp->t_rxtshift, 20),
		    MS(TCPTUN(tcp, persist_max)));
	}
	tcp_timer_arm(tp, TCPT_PERSIST, tp->t_stack->s_now + t);
}

/* A probe is answered by a window or not at all. The peer may keep its window
 * shut for ever (MUST-37), but it must answer, and a socket that nobody holds
 * is not kept for it. */
static bool
tcp_persist_giveup(const struct tcpcb *tp)
{
	uint64_t silence =
	    tp->t_stack->s_now - u64max(tp->t_rcvtime, tp->t_stalltime);

	if (tp->t_usertimeout != 0 && silence >= MS(tp->t_usertimeout)) {
		return true;
	}
	if (tp->t_rxtshift < TCPTUN(tp->t_tcp, retries)) {
		return false;
	}
	return silence >= tcp_rexmt_timeout(tp) ||
	    (tp->t_so->so_state & SS_NOFDREF) != 0;
}

static bool
tcp_timer_persist(struct tcpcb *tp)
{
	if (tcp_qosheld(tp)) {
		tcp_persist_arm(tp);
		return true;
	}
	TCPSTAT_INC(tp->t_tcp, persisttimeo);
	if (tcp_persist_giveup(tp)) {
		TCPSTAT_INC(tp->t_tcp, persistdrop);
		tcp_timedout(tp);
		return false;
	}
	if (tp->snd_wnd == 0 && tp->t_rxtshift < 30) {
		tp->t_rxtshift++;
	}
	tp->t_flags |= TF_FORCE;
	(void)tcp_output(tp);
	tp->t_flags &= ~TF_FORCE;
	return true;
}

/* ---- keepalive ---- */

static uint64_t
tcp_keepidle(const struct tcpcb *tp)
{
	return SEC(tp->t_keepidle != 0 ? tp->t_keepidle :
					 TCPTUN(tp->t_tcp, keepidle));
}

void
tcp_keep_arm(struct tcpcb *tp)
{
	if (!TCPS_HAVEESTABLISHED(tp->t_state)) {
		return;
	}
	if ((tp->t_so->so_options & SOO_KEEPALIVE) == 0) {
		tcp_timer_stop(tp, TCPT_KEEP);
		return;
	}
	tp->t_keepprobes = 0;
	tcp_timer_arm(tp, TCPT_KEEP, tp->t_rcvtime + tcp_keepidle(tp));
}

/* An octet the peer has acknowledged already, without data (SHLD-12). */
static void
tcp_keep_probe(struct tcpcb *tp)
{
	struct inpcb *inp = tp->t_inp;
	struct tcpreply tr = {
		.tr_laddr = &inp->inp_laddr,
		.tr_faddr = &inp->inp_faddr,
		.tr_lport = inp->inp_lport,
		.tr_fport = inp->inp_fport,
		.tr_seq = tp->snd_una - 1,
		.tr_ack = tp->rcv_nxt,
		.tr_wnd =
		    (uint16_t)u32min(tp->rcv_wnd >> tp->t_rcvscale, TCP_WINMAX),
		.tr_flags = TH_ACK,
		.tr_tos = inp->inp_tos,
		.tr_ttl = inp->inp_ttl,
		.tr_scope = in_pcbscope(inp),
		.tr_freebind =
		    (inp->inp_flags & (INP_ANYIP | INP_FREEBIND)) != 0,
	};

	if (tp->t_flags & TF_RCVD_TS) {
		tr.tr_optlen = (uint8_t)tcp_ts_put(tr.tr_opt,
		    tcp_tsclock(tp->t_stack) + tp->t_tsoff, tp->t_tsrecent);
	}
	TCPSTAT_INC(tp->t_tcp, keepprobe);
	tp->t_keepprobes++;
	tcp_reply(tp->t_stack, &tr);
}

static bool
tcp_timer_keep(struct tcpcb *tp)
{
	uint64_t now = tp->t_stack->s_now, idle = now - tp->t_rcvtime;
	uint32_t cnt = tp->t_keepcnt != 0 ? tp->t_keepcnt :
					    (uint32_t)TCPTUN(tp->t_tcp, keepcnt);
	uint64_t intvl =
	    SEC(tp->t_keepintvl != 0 ? tp->t_keepintvl :
				       TCPTUN(tp->t_tcp, keepintvl));

	TCPSTAT_INC(tp->t_tcp, keeptimeo);
	if (!TCPS_HAVEESTABLISHED(tp->t_state)) {
		tcp_timedout(tp); /* opening took too long */
		return false;
	}
	if (idle < tcp_keepidle(tp)) {
		tp->t_keepprobes = 0;
		tcp_timer_arm(tp, TCPT_KEEP, tp->t_rcvtime + tcp_keepidle(tp));
		return true;
	}
	/* Only with nothing outstanding (MUST-26): the retransmission timer
	 * watches the peer otherwise. */
	if (tp->snd_max != tp->snd_una) {
		tcp_timer_arm(tp, TCPT_KEEP, now + intvl);
		return true;
	}
	if (tp->t_usertimeout != 0 ?
		(tp->t_keepprobes > 0 && idle >= MS(tp->t_usertimeout)) :
		tp->t_keepprobes >= cnt) {
		TCPSTAT_INC(tp->t_tcp, keepdrops);
		tcp_timedout(tp);
		return false;
	}
	tcp_keep_probe(tp);
	tcp_timer_arm(tp, TCPT_KEEP, now + intvl);
	return true;
}

/* ---- the others ---- */

/* The socket is closed and the peer does not close its side: wait only so
 * long. A socket that is still held waits for ever. */
void
tcp_fin_timeout(struct tcpcb *tp)
{
	uint64_t t = SEC(TCPTUN(tp->t_tcp, finwait2));

	if (tp->t_state != TCPS_FIN_WAIT_2 ||
	    (tp->t_so->so_state & SS_NOFDREF) == 0) {
		return;
	}
	if (tp->t_linger2 != 0) {
		t = tp->t_linger2 < 0 ? 0 : SEC(tp->t_linger2);
	}
	tcp_timer_arm(tp, TCPT_2MSL, tp->t_stack->s_now + t);
}

static bool
tcp_timer_2msl(struct tcpcb *tp)
{
	TCPSTAT_INC(tp->t_tcp, finwait2_timeout);
	tcp_close(tp);
	return false;
}

static bool
tcp_timer_delack(struct tcpcb *tp)
{
	if (tp->t_flags & TF_DELACK) {
		tp->t_flags = (tp->t_flags & ~TF_DELACK) | TF_ACKNOW;
		TCPSTAT_INC(tp->t_tcp, delack);
		(void)tcp_output(tp);
	}
	return true;
}

/* A hole has been waited for long enough (RFC 8985 6.3). */
static void
tcp_timer_reorder(struct tcpcb *tp)
{
	tcp_sack_setpipe(tp);
	if (!tcp_in_recovery(tp) && tcp_sack_lost(tp)) {
		tcp_recovery_enter(tp);
	}
	(void)tcp_output(tp);
}

/* Tail loss probe (RFC 8985 7): one segment, so that its ACK or SACK shows
 * what was lost before the retransmission timer has to. */
static bool
tcp_timer_pto(struct tcpcb *tp)
{
	if (tp->t_nholes != 0) {
		tcp_timer_reorder(tp);
		return true;
	}
	TCPSTAT_INC(tp->t_tcp, pto);
	if (tp->snd_max == tp->snd_una || tcp_in_recovery(tp)) {
		return true;
	}
	tp->t_flags |= TF_TLPSENT | TF_FORCE;
	tp->t_rtttime = 0;
	(void)tcp_output(tp);
	tp->t_flags &= ~TF_FORCE;
	tcp_rexmt_arm(tp);
	return true;
}

/* clang-format off */
static bool (*const tcp_timer_fn[])(struct tcpcb *) = {
	[TCPT_REXMT] = tcp_timer_rexmt,
	[TCPT_PERSIST] = tcp_timer_persist,
	[TCPT_KEEP] = tcp_timer_keep,
	[TCPT_2MSL] = tcp_timer_2msl,
	[TCPT_DELACK] = tcp_timer_delack,
	[TCPT_PTO] = tcp_timer_pto,
};
/* clang-format on */
CTASSERT(nitems(tcp_timer_fn) == TCPT_NTIMERS);

/* The callout: run what is due. */
void
tcp_timer(struct stack *s, void *arg)
{
	struct tcpcb *tp = arg;

	for (int i = 0; i < TCPT_NTIMERS; i++) {
		if (tp->t_timer[i] > s->s_now) {
			continue;
		}
		tp->t_timer[i] = CALLOUT_NEVER;
		if (!tcp_timer_fn[i](tp)) {
			return;
		}
	}
	tcp_timer_sched(tp);
	tcp_invariants(tp);
}
