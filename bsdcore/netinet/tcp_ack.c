/*
 * tcp_ack.c - the fifth step of segment arrival: what an acknowledgment says.
 *
 * It may free data and move the left edge (tcp_newack), repeat the old edge
 * and so hint at loss (tcp_dupack), and carry a window. Loss is found by
 * duplicates, by the scoreboard (RFC 6675) or by the timer; then the
 * connection is in one of two recoveries until snd_recover is passed:
 *
 *	TF_FASTRECOVERY	cwnd stays at ssthresh, the pipe rules (RFC 6675), or
 *			duplicates inflate it (NewReno, RFC 6582)
 *	TF_RTORECOVERY	cwnd starts at one segment and grows as ever
 */
#include "bsdcore/netinet/cc/cc.h"
#include "bsdcore/netinet/ip_var.h"

/* ---- recovery ---- */

/* Without SACK: send the segment at snd_una again, and only that. */
static void
tcp_rexmt_one(struct tcpcb *tp)
{
	uint32_t nxt = tp->snd_nxt, cwnd = tp->snd_cwnd;

	tp->snd_nxt = tp->snd_una;
	tp->snd_cwnd = tp->t_maxseg;
	tp->t_rtttime = 0;
	(void)tcp_output(tp);
	tp->snd_cwnd = cwnd;
	tp->snd_nxt = seq_max(tp->snd_nxt, nxt);
}

void
tcp_recovery_enter(struct tcpcb *tp)
{
	uint32_t dup = (uint32_t)TCPTUN(tp->t_tcp, dupthresh);

	tp->t_cc->cc_loss(tp, tp->snd_max - tp->snd_una);
	tp->snd_recover = tp->snd_max;
	tp->t_flags |= TF_FASTRECOVERY;
	tp->t_flags &= ~(TF_UNDO | TF_TLPSENT);
	tp->t_rtttime = 0;
	tcp_timer_stop(tp, TCPT_PTO);
	if (tcp_sack_on(tp) && tp->t_nholes != 0) {
		TCPSTAT_INC(tp->t_tcp, sack_recovery);
		TAILQ_FIRST(&tp->t_holes)->sh_lost = true;
		tp->t_prrdelivered = tp->t_prrout = 0;
		tp->t_prrflight = tp->snd_max - tp->snd_una;
		tcp_sack_setpipe(tp);
		tp->snd_cwnd = tp->t_pipe + tp->t_maxseg;
		return;
	}
	TCPSTAT_INC(tp->t_tcp, newreno_recovery);
	tcp_rexmt_one(tp);
	tp->snd_cwnd = tp->snd_ssthresh + dup * tp->t_maxseg;
}

static void
tcp_recovery_exit(struct tcpcb *tp)
{
	uint32_t flight = tp->snd_max - tp->snd_una;

	/* RFC 6582 3.2 step 3: no burst when the pipe has run dry. */
	if (tp->t_flags & TF_FASTRECOVERY) {
		tp->snd_cwnd = u32min(tp->snd_ssthresh,
		    u32max(flight, tp->t_maxseg) + tp->t_maxseg);
		tp->snd_cwnd = u32max(tp->snd_cwnd, 2 * tp->t_maxseg);
	}
	tp->t_flags &= ~(TF_FASTRECOVERY | TF_RTORECOVERY);
	tp->t_dupacks = 0;
	tcp_rack_recovered(tp);
}

/* New data acknowledged, but not all that was out when the loss was seen. */
static void
tcp_recovery_partial(struct tcpcb *tp, uint32_t acked)
{
	if ((tp->t_flags & TF_FASTRECOVERY) == 0 ||
	    (tcp_sack_on(tp) && tp->t_nholes != 0)) {
		return;
	}
	tcp_rexmt_one(tp); /* RFC 6582 3.2 step 3 */
	tp->snd_cwnd -= u32min(acked, tp->snd_cwnd - tp->t_maxseg);
	if (acked >= tp->t_maxseg) {
		tp->snd_cwnd += tp->t_maxseg;
	}
}

/* The timeout was for nothing: the ACK answers the original (RFC 3522). */
static void
tcp_undo(struct tcpcb *tp)
{
	TCPSTAT_INC(tp->t_tcp, undo);
	tp->snd_cwnd = u32max(tp->snd_cwnd, tp->t_prevcwnd);
	tp->snd_ssthresh = tp->t_prevssthresh;
	tp->t_flags &= ~(TF_RTORECOVERY | TF_UNDO);
	tp->t_rxtshift = 0;
	tcp_sack_free(tp);
	tp->snd_nxt = tp->snd_max;
	tp->t_cc->cc_reset(tp);
}

/* Proportional rate reduction (RFC 6937): while we recover, what is delivered
 * says how much may be sent, so that the window comes down to ssthresh without
 * a pause and many losses are not repaired in one burst. */
static void
tcp_prr(struct tcpcb *tp, uint32_t delivered)
{
	uint32_t room, limit, want;

	tp->t_prrdelivered += delivered;
	if (tp->t_pipe > tp->snd_ssthresh) {
		want = (uint32_t)((uint64_t)tp->t_prrdelivered *
		    tp->snd_ssthresh / u32max(tp->t_prrflight, 1));
		room = want > tp->t_prrout ? want - tp->t_prrout : 0;
	} else {
		limit = tp->t_prrdelivered > tp->t_prrout ?
		    tp->t_prrdelivered - tp->t_prrout :
		    0;
		limit = u32max(limit, delivered) + tp->t_maxseg;
		room = u32min(tp->snd_ssthresh - tp->t_pipe, limit);
	}
	tp->snd_cwnd = u32max(tp->t_pipe + room, tp->t_maxseg);
}

static void
tcp_dupack(struct tcpcb *tp, struct tcpseg *sg, uint32_t sacked)
{
	bool dup;

	if (tp->snd_max == tp->snd_una) {
		tp->t_dupacks = 0;
		return;
	}
	if (tcp_sack_on(tp)) {
		tcp_sack_setpipe(tp);
		dup = sacked > 0;
	} else {
		/* RFC 5681 2 */
		dup = sg->sg_len == 0 && sg->sg_wnd == tp->snd_wnd &&
		    (sg->sg_flags & (TH_SYN | TH_FIN)) == 0;
	}
	if (!dup) {
		return;
	}
	TCPSTAT_INC(tp->t_tcp, rcvdupack);
	tp->t_dupacks++;
	sg->sg_needoutput = true;
	if (tcp_in_recovery(tp)) {
		if ((tp->t_flags & TF_FASTRECOVERY) && !tcp_sack_on(tp)) {
			tp->snd_cwnd += tp->t_maxseg;
		}
		return;
	}
	if (tcp_sack_lost(tp) ||
	    (tcp_rack_countdups(tp) &&
		tp->t_dupacks >= (uint32_t)TCPTUN(tp->t_tcp, dupthresh))) {
		tcp_recovery_enter(tp);
	} else if (TCPTUN(tp->t_tcp, limited_transmit)) {
		TCPSTAT_INC(tp->t_tcp, limited_txt);
	}
}

/* ---- new data acknowledged ---- */

static void
tcp_ack_rtt(struct tcpcb *tp, const struct tcpseg *sg)
{
	const struct tcpopt *to = &sg->sg_opt;
	uint64_t now = tp->t_stack->s_now;
	uint32_t ms;

	if (tp->t_rtttime != 0 && SEQ_GT(sg->sg_ack, tp->t_rtseq)) {
		tcp_rtt_sample(tp, now - tp->t_rtttime);
		tp->t_rtttime = 0;
		return;
	}
	/* Timestamps are coarse; they are for when Karn's rule leaves nothing
	 * to measure. */
	if ((tp->t_flags & TF_RCVD_TS) && (to->to_flags & TOF_TS) &&
	    to->to_tsecr != 0 && (tp->t_rxtshift > 0 || tp->t_srtt == 0)) {
		ms = tcp_tsclock(tp->t_stack) + tp->t_tsoff - to->to_tsecr;
		if (ms < 1u << 20) {
			tcp_rtt_sample(tp,
			    u32max(ms, 1) * (uint64_t)NSEC_PER_MSEC);
		}
	}
}

/* Was the window what held us back? Only then does it grow (RFC 7661 in
 * short): a window that was never filled has proved nothing. */
static bool
tcp_cwnd_used(const struct tcpcb *tp, uint32_t flight)
{
	if (tp->snd_cwnd < tp->snd_ssthresh) {
		return flight >= tp->snd_cwnd / 2;
	}
	return flight + tp->t_maxseg >= tp->snd_cwnd;
}

/* Take acked sequence numbers off the send buffer. true: our FIN was the last
 * of them. */
static bool
tcp_ack_free(struct tcpcb *tp, uint32_t acked)
{
	struct socket *so = tp->t_so;
	uint32_t cc = so->so_snd.sb_cc;

	TCPSTAT_ADD(tp->t_tcp, rcvackbyte, acked);
	tp->t_ackedbytes += acked;
	if (acked > cc) {
		KASSERT(tp->t_flags & TF_SENTFIN);
		sbdrop(&so->so_snd, cc);
		tp->t_ackedbytes--;
	} else {
		sbdrop(&so->so_snd, acked);
	}
	return acked > cc;
}

/* Grow the send buffer with the window, so that the buffer is never what
 * limits a long fat path. */
static void
tcp_sndbuf_grow(struct tcpcb *tp)
{
	struct sockbuf *sb = &tp->t_so->so_snd;
	uint64_t max = (uint64_t)TCPTUN(tp->t_tcp, autosndbuf_max);
	uint64_t want = 2ull * tp->snd_cwnd;

	if ((sb->sb_flags & SB_AUTOSIZE) == 0 || sb->sb_hiwat >= max ||
	    want <= sb->sb_hiwat ||
	    (sb->sb_ahead == 0 && sb->sb_cc < sb->sb_hiwat / 8 * 5) ||
	    mbpool_short(tp->t_stack->s_mb)) {
		return;
	}
	(void)sbreserve(sb,
	    (uint32_t)u64min(max, u64min(want, 2ull * sb->sb_hiwat)));
}

static void
tcp_ack_timers(struct tcpcb *tp)
{
	tp->t_flags &= ~TF_TLPSENT;
	if (tp->snd_una == tp->snd_max) {
		tcp_timer_stop(tp, TCPT_REXMT);
		tcp_timer_stop(tp, TCPT_PTO);
		return;
	}
	tp->t_stalltime = tp->t_stack->s_now;
	if (!tcp_timer_active(tp, TCPT_PERSIST)) {
		tcp_rexmt_arm(tp); /* RFC 6298 5.3 */
		tcp_pto_arm(tp);
	}
}

bool
tcp_newack(struct tcpcb *tp, struct tcpseg *sg)
{
	uint32_t acked = sg->sg_ack - tp->snd_una;
	uint32_t flight = tp->snd_max - tp->snd_una;
	bool finacked;

	TCPSTAT_ADD(tp->t_tcp, rcvackpack, sg->sg_count);
	if ((tp->t_flags & TF_UNDO) && tp->t_rxtshift == 1 &&
	    (sg->sg_opt.to_flags & TOF_TS) && sg->sg_opt.to_tsecr != 0 &&
	    TSTMP_LT(sg->sg_opt.to_tsecr, tp->t_rexmtts)) {
		tcp_undo(tp);
	}
	tp->t_flags &= ~TF_UNDO;
	tcp_ack_rtt(tp, sg);
	if ((tp->t_flags & TF_FASTRECOVERY) == 0 && tcp_cwnd_used(tp, flight)) {
		tcp_qoscc(tp);
		tp->t_cc->cc_ack(tp, acked);
		tp->snd_cwnd = u32min(tp->snd_cwnd, 1u << 30);
	}
	finacked = tcp_ack_free(tp, acked);
	tp->snd_una = sg->sg_ack;
	tp->snd_nxt = seq_max(tp->snd_nxt, tp->snd_una);
	if (tp->t_nholes == 0) {
		tp->snd_fack = tp->snd_una;
	} else {
		tcp_sack_setpipe(tp);
	}
	if (SEQ_GT(tp->snd_una, tp->snd_up)) {
		tp->t_flags &= ~TF_URG_SEND;
	}
	tcp_ack_timers(tp);
	if (!tcp_in_recovery(tp)) {
		tp->t_dupacks = 0;
	} else if (SEQ_GEQ(tp->snd_una, tp->snd_recover)) {
		tcp_recovery_exit(tp);
	} else {
		tcp_recovery_partial(tp, acked);
	}
	tcp_sndbuf_grow(tp);
	tp->t_so->so_snd.sb_sent = tp->snd_max - tp->snd_una;
	sowwakeup(tp->t_so);
	if (tp->t_so->so_snd.sb_cc > tp->snd_nxt - tp->snd_una ||
	    tp->t_nholes != 0) {
		sg->sg_needoutput = true;
	}
	return finacked;
}

void
tcp_wndupdate(struct tcpcb *tp, struct tcpseg *sg)
{
	if (!(SEQ_LT(tp->snd_wl1, sg->sg_seq) ||
		(tp->snd_wl1 == sg->sg_seq &&
		    (SEQ_LT(tp->snd_wl2, sg->sg_ack) ||
			(tp->snd_wl2 == sg->sg_ack &&
			    sg->sg_wnd > tp->snd_wnd))))) {
		return;
	}
	if (sg->sg_wnd > tp->snd_wnd) {
		if (sg->sg_len == 0 && tp->snd_wl2 == sg->sg_ack) {
			TCPSTAT_INC(tp->t_tcp, rcvwinupd);
		}
		if (tp->t_so->so_snd.sb_cc > tp->snd_nxt - tp->snd_una) {
			sg->sg_needoutput = true;
		}
	}
	tp->snd_wnd = sg->sg_wnd;
	tp->max_sndwnd = u32max(tp->max_sndwnd, tp->snd_wnd);
	tp->snd_wl1 = sg->sg_seq;
	tp->snd_wl2 = sg->sg_ack;
	if (tp->snd_wnd > 0 && tcp_timer_active(tp, TCPT_PERSIST)) {
		tcp_timer_stop(tp, TCPT_PERSIST);
		tp->t_rxtshift = 0;
		if (tp->snd_max != tp->snd_una) {
			tcp_rexmt_arm(tp);
		}
		sg->sg_needoutput = true;
	}
}

/* ---- the step ---- */

/* SYN_RECEIVED: the handshake's third segment. */
static enum tcp_verdict
tcp_ack_synrcvd(struct tcpcb *tp, struct tcpseg *sg)
{
	if (SEQ_LEQ(sg->sg_ack, tp->snd_una) || SEQ_GT(sg->sg_ack, tp->snd_max)) {
		TCPDROP(tp->t_tcp, badack);
		return TCP_DROPWITHRESET;
	}
	if (tp->t_rtttime != 0) {
		tcp_rtt_sample(tp, tp->t_stack->s_now - tp->t_rtttime);
		tp->t_rtttime = 0;
	}
	tp->snd_una = tp->iss + 1; /* the SYN */
	tp->snd_nxt = seq_max(tp->snd_nxt, tp->snd_una);
	tp->snd_fack = tp->snd_recover = tp->t_smallend = tp->snd_una;
	tp->t_rxtshift = 0;
	tcp_timer_stop(tp, TCPT_REXMT);
	tp->snd_wnd = sg->sg_wnd;
	tp->max_sndwnd = u32max(tp->max_sndwnd, tp->snd_wnd);
	tp->snd_wl1 = sg->sg_seq - 1;
	return tcp_established(tp) ? TCP_NEXT : TCP_DROP;
}

/* RFC 5961 5.2: an ACK from outside [snd_una - max window, snd_max]. */
static bool
tcp_ack_sane(const struct tcpcb *tp, uint32_t ack)
{
	return SEQ_LEQ(ack, tp->snd_max) &&
	    SEQ_GEQ(ack, tp->snd_una - u32max(tp->max_sndwnd, 1));
}

/* Our FIN is acknowledged. */
static enum tcp_verdict
tcp_finacked(struct tcpcb *tp)
{
	switch (tp->t_state) {
	case TCPS_FIN_WAIT_1:
		tcp_setstate(tp, TCPS_FIN_WAIT_2);
		tcp_fin_timeout(tp);
		return TCP_NEXT;
	case TCPS_CLOSING:
		tcp_tw_start(tp);
		return TCP_DROP;
	case TCPS_LAST_ACK:
		tcp_close(tp);
		return TCP_DROP;
	default:
		return TCP_NEXT;
	}
}

enum tcp_verdict
tcp_ackcheck(struct tcpcb *tp, struct tcpseg *sg)
{
	enum tcp_verdict v;
	uint32_t sacked = 0, una, had;

	if ((sg->sg_flags & TH_ACK) == 0) {
		TCPDROP(tp->t_tcp, noack);
		return TCP_DROP;
	}
	if (tp->t_state == TCPS_SYN_RECEIVED) {
		v = tcp_ack_synrcvd(tp, sg);
		if (v != TCP_NEXT) {
			return v;
		}
	}
	if (!tcp_ack_sane(tp, sg->sg_ack)) {
		TCPDROP(tp->t_tcp, acktoomuch);
		TCPSTAT_INC(tp->t_tcp, ackchallenge);
		return tcp_challenge_ok(tp->t_tcp, tp) ? TCP_DROPAFTERACK :
							 TCP_DROP;
	}
	tcp_ecn_input(tp, sg);
	if (SEQ_LT(sg->sg_ack, tp->snd_una)) {
		return TCP_NEXT; /* old; its data may be new */
	}
	una = tp->snd_una;
	had = tp->t_nholes != 0 ? tp->t_sackedbytes : 0;
	if (tcp_sack_on(tp) &&
	    (tp->t_nholes != 0 || (sg->sg_opt.to_flags & TOF_SACK))) {
		sacked = tcp_sack_update(tp, &sg->sg_opt, sg->sg_ack);
	}
	if (sg->sg_ack == tp->snd_una) {
		tcp_dupack(tp, sg, sacked);
	} else if (tcp_newack(tp, sg)) {
		v = tcp_finacked(tp);
		if (v != TCP_NEXT) {
			return v;
		}
	}
	if ((tp->t_flags & TF_FASTRECOVERY) && tp->t_nholes != 0) {
		tcp_prr(tp, tp->snd_una - una + tp->t_sackedbytes - had);
	}
	if (!tcp_in_recovery(tp) && tcp_sack_lost(tp)) {
		tcp_recovery_enter(tp); /* seen in an ACK of new data */
		sg->sg_needoutput = true;
	}
	tcp_wndupdate(tp, sg);
	return TCP_NEXT;
}
