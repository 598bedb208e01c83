/*
 * tcp_input.c - segment arrival (RFC 9293 3.10.7).
 *
 * A segment is read once, by tcp_parse(), which checks every length. Then:
 *
 *	no connection	TIME_WAIT entry, listener (tcp_syncache.c), or RST
 *	SYN_SENT	tcp_synsent()				(3.10.7.3)
 *	ESTABLISHED	tcp_fastpath(), if it is what one expects
 *	otherwise	tcp_steps[], in the order of 3.10.7.4
 *
 * The segment owns its payload until a step takes it; what is left at the end
 * is freed in one place.
 */
#include "bsdcore/net/if.h"
#include "bsdcore/netinet/ip_var.h"
#include "bsdcore/netinet/tcp_var.h"

#define PAWS_IDLE (24ull * 86400 * NSEC_PER_SEC) /* RFC 7323 5.5 */
#define TCP_RCVMSS_MIN 536u

/* ---- the door ---- */

/* Header, options and addresses into *sg; m is cut down to the payload. NULL:
 * m was bad and is gone. */
static struct mbuf *
tcp_parse(struct stack *s, struct mbuf *m, uint32_t off, struct tcpseg *sg)
{
	struct tcp_state *tcp = s->s_tcp;
	uint32_t tlen, hlen;
	const uint8_t *th;

	if (m->m_pkthdr.len < off + TCP_HDRLEN) {
		TCPDROP(tcp, short);
		goto drop;
	}
	tlen = m->m_pkthdr.len - off;
	if (m->m_len < off + TCP_HDRLEN &&
	    (m = m_pullup(m, off + TCP_HDRLEN)) == NULL) {
		TCPDROP(tcp, nomem);
		return NULL;
	}
	hlen = (uint32_t)(mtod(m, uint8_t *)[off + TH_OFF_DOFF] >> 4) * 4;
	if (hlen < TCP_HDRLEN || hlen > tlen) {
		TCPDROP(tcp, badoff);
		goto drop;
	}
	if (!in_cksum_ok(m, (int)off, tlen, IPPROTO_TCP)) {
		TCPDROP(tcp, badsum);
		goto drop;
	}
	if (m->m_len < off + hlen && (m = m_pullup(m, off + hlen)) == NULL) {
		TCPDROP(tcp, nomem);
		return NULL;
	}
	th = mtod(m, uint8_t *) + off;
	in_pktaddrs(m, &sg->sg_faddr, &sg->sg_laddr);
	sg->sg_fport = be16get(th + TH_OFF_SPORT);
	sg->sg_lport = be16get(th + TH_OFF_DPORT);
	sg->sg_seq = be32get(th + TH_OFF_SEQ);
	sg->sg_ack = be32get(th + TH_OFF_ACK);
	sg->sg_flags = th[TH_OFF_FLAGS];
	sg->sg_wnd = be16get(th + TH_OFF_WIN);
	sg->sg_urp = be16get(th + TH_OFF_URP);
	sg->sg_len = tlen - hlen;
	tcp_dooptions(&sg->sg_opt, th + TCP_HDRLEN, hlen - TCP_HDRLEN,
	    (sg->sg_flags & TH_SYN) != 0);
	sg->sg_ifp = m->m_pkthdr.rcvif;
	sg->sg_count = u32max(m->m_pkthdr.seg_count, 1);
	sg->sg_segsz = sg->sg_count > 1 ? m->m_pkthdr.tso_segsz : 0;
	sg->sg_iplen = m->m_pkthdr.len;
	sg->sg_svc = (uint8_t)qos_rxsvc(m);
	sg->sg_origin = qos_rxorigin(m);
	sg->sg_ce = tcp_ecn_isce(m);
	sg->sg_needoutput = sg->sg_hasiss = false;
	sg->sg_hdrlen = off + hlen;
	m_adj(m, (int32_t)sg->sg_hdrlen);
	return m;
drop:
	m_freem(m);
	return NULL;
}

/* What no connection may have anything to do with. */
static bool
tcp_sane(struct tcp_state *tcp, const struct tcpseg *sg)
{
	uint16_t mf = sg->sg_m->m_flags;

	if ((mf & (M_BCAST | M_MCAST)) || in_ismulticast(&sg->sg_laddr) ||
	    in_isbroadcast4(&sg->sg_laddr) || in_ismulticast(&sg->sg_faddr) ||
	    in_isbroadcast4(&sg->sg_faddr) || in_isany(&sg->sg_faddr)) {
		TCPDROP(tcp, badaddr); /* MUST-57, MUST-63 */
		return false;
	}
	if ((sg->sg_flags & (TH_SYN | TH_FIN)) == (TH_SYN | TH_FIN) &&
	    TCPTUN(tcp, drop_synfin)) {
		TCPDROP(tcp, synfin);
		return false;
	}
	return true;
}

/* 3.10.7.2, LISTEN: RST, then ACK, then SYN. */
static void
tcp_input_listen(struct tcpcb *ltp, struct tcpseg *sg)
{
	struct tcp_state *tcp = ltp->t_tcp;
	struct tcpcb *tp;
	bool reset = true;

	if (sg->sg_flags & TH_RST) {
		tcp_syncache_rst(tcp, sg);
		return;
	}
	if (sg->sg_flags & TH_ACK) {
		tp = sg->sg_flags & TH_SYN ?
		    NULL :
		    tcp_syncache_expand(ltp, sg, &reset);
		if (tp != NULL) {
			tcp_input_conn(tp, sg);
		} else if (reset) {
			TCPDROP(tcp, badack);
			tcp_reset_segment(tcp->tcs_stack, sg);
		}
		return;
	}
	if ((sg->sg_flags & TH_SYN) == 0) {
		TCPDROP(tcp, listenflags);
		return;
	}
	if (sg->sg_fport == sg->sg_lport && in_eq(&sg->sg_faddr, &sg->sg_laddr)) {
		TCPDROP(tcp, land);
		return;
	}
	tcp_syncache_add(ltp, sg);
}

/* Perhaps another stack of this host has it: the packet as it was. */
static bool
tcp_lomiss(struct stack *s, struct tcpseg *sg)
{
	struct mbuf *m = sg->sg_m;

	if (!(m->m_flags & M_LOOP)) {
		return false;
	}
	m->m_data -= sg->sg_hdrlen;
	m->m_len += sg->sg_hdrlen;
	m->m_pkthdr.len += sg->sg_hdrlen;
	if (lomiss(s, m)) {
		sg->sg_m = NULL;
		return true;
	}
	m_adj(m, (int32_t)sg->sg_hdrlen);
	return false;
}

/* No connection has this pair. */
static void
tcp_input_nopcb(struct stack *s, struct tcpseg *sg)
{
	struct inpcb *inp;

	if (tcp_tw_input(s->s_tcp, sg) == TCPTW_DONE) {
		return;
	}
	inp = in_pcblookup(s->s_tcbinfo, &sg->sg_faddr, sg->sg_fport,
	    &sg->sg_laddr, sg->sg_lport, true, sg->sg_ifp);
	if (inp == NULL || inp->inp_ppcb == NULL ||
	    intotcpcb(inp)->t_state != TCPS_LISTEN) {
		if (!tcp_lomiss(s, sg)) {
			TCPDROP(s->s_tcp, noport);
			tcp_reset_segment(s, sg); /* 3.10.7.1 */
		}
		return;
	}
	tcp_input_listen(intotcpcb(inp), sg);
}

void
tcp_input(struct stack *s, struct mbuf *m, int off)
{
	struct tcpseg sg;
	struct inpcb *inp;

	TCPSTAT_INC(s->s_tcp, rcvtotal);
	sg.sg_m = tcp_parse(s, m, (uint32_t)off, &sg);
	if (sg.sg_m == NULL) {
		return;
	}
	if (tcp_sane(s->s_tcp, &sg)) {
		inp = in_pcblookup(s->s_tcbinfo, &sg.sg_faddr, sg.sg_fport,
		    &sg.sg_laddr, sg.sg_lport, false, sg.sg_ifp);
		if (inp != NULL && inp->inp_ppcb != NULL &&
		    intotcpcb(inp)->t_state >= TCPS_SYN_SENT) {
			tcp_input_conn(intotcpcb(inp), &sg);
		} else {
			tcp_input_nopcb(s, &sg);
		}
	}
	m_freem(sg.sg_m);
}

/* ---- data to the socket ---- */

/* Take the urgent byte, at pos of m, out of the stream: the reader asks for
 * it with MSG_OOB. Answers false if there is no memory to cut it out. */
static bool
tcp_urg_pull(struct tcpcb *tp, struct mbuf **mp, uint32_t pos, uint32_t len)
{
	struct socket *so = tp->t_so;
	struct mbuf *m = *mp, *tail;

	m_copydata(m, pos, 1, &so->so_oobbyte);
	if (pos == 0) {
		m_adj(m, 1);
	} else if (pos == len - 1) {
		m_adj(m, -1);
	} else {
		tail = m_split(m, pos);
		if (tail == NULL) {
			return false;
		}
		m_adj(tail, 1);
		m_cat(m, tail);
	}
	so->so_hasoob = true;
	return true;
}

void
tcp_deliver(struct tcpcb *tp, struct mbuf *m, uint32_t len)
{
	struct socket *so = tp->t_so;
	uint32_t pos;

	TCPSTAT_ADD(tp->t_tcp, rcvbyte, len);
	tp->t_rcvbytes += len;
	m->m_flags &= (uint16_t)~M_PKTHDR;
	if (tp->t_flags & TF_URG_PENDING) {
		pos = tp->rcv_up - 1 - tp->rcv_nxt;
		if (pos < len) {
			tp->t_flags &= ~TF_URG_PENDING;
			if ((so->so_options & SOO_OOBINLINE) == 0) {
				(void)tcp_urg_pull(tp, &m, pos, len);
			}
		}
	}
	tp->rcv_nxt += len;
	/* shutdown(SHUT_RD) does not keep data out, as on Linux. */
	if ((so->so_state & SS_NOFDREF) && so->so_head == NULL) {
		m_freem(m);
	} else {
		sbappendstream(&so->so_rcv, m);
		sorwakeup(so);
	}
}

/* When is the ACK due? At once while the connection is young, and for every
 * second full segment (SHLD-19); a super-segment stands for several. */
static void
tcp_ackpolicy(struct tcpcb *tp, const struct tcpseg *sg)
{
	uint32_t one = sg->sg_segsz != 0 ? sg->sg_segsz : sg->sg_len;

	tp->t_rcvmss = u32max(tp->t_rcvmss, u32max(one, TCP_RCVMSS_MIN));
	tp->t_unacked += sg->sg_len;
	if (tp->t_quickacks > 0 || (tp->t_flags & TF_QUICKACK) ||
	    sg->sg_count > 1 || tp->t_unacked >= 2 * tp->t_rcvmss) {
		tp->t_flags |= TF_ACKNOW;
	} else if ((tp->t_flags & TF_DELACK) == 0) {
		tp->t_flags |= TF_DELACK;
		tcp_timer_arm(tp, TCPT_DELACK,
		    tp->t_stack->s_now +
			(uint64_t)TCPTUN(tp->t_tcp, delack) * NSEC_PER_MSEC);
	}
}

static uint32_t
tcp_rcvspace(const struct tcpcb *tp)
{
	return SEQ_GT(tp->rcv_adv, tp->rcv_nxt) ? tp->rcv_adv - tp->rcv_nxt : 0;
}

/* ---- header prediction ---- */

/* Is this the segment one expects: in order, nothing special about it, and
 * nothing unusual going on? */
static bool
tcp_expected(const struct tcpcb *tp, const struct tcpseg *sg)
{
	return tp->t_state == TCPS_ESTABLISHED &&
	    (sg->sg_flags & (TH_SYN | TH_FIN | TH_RST | TH_URG | TH_ACK)) ==
	    TH_ACK &&
	    sg->sg_seq == tp->rcv_nxt && (sg->sg_opt.to_flags & ~TOF_TS) == 0 &&
	    ((sg->sg_opt.to_flags & TOF_TS) == 0 ||
		!TSTMP_LT(sg->sg_opt.to_tsval, tp->t_tsrecent)) &&
	    sg->sg_len <= tcp_rcvspace(tp) && sg->sg_wnd != 0 &&
	    SEQ_GEQ(sg->sg_ack, tp->snd_una) &&
	    SEQ_LEQ(sg->sg_ack, tp->snd_max) && tp->snd_nxt == tp->snd_max &&
	    tp->t_segqlen == 0 && tp->t_nholes == 0 && tp->t_dupacks == 0 &&
	    (tp->t_flags &
		(TF_FASTRECOVERY | TF_RTORECOVERY | TF_UNDO | TF_URG_PENDING |
		    TF_FINSEEN)) == 0 &&
	    !tcp_timer_active(tp, TCPT_PERSIST);
}

static void
tcp_tsrecent(struct tcpcb *tp, const struct tcpseg *sg)
{
	tp->t_tsrecent = sg->sg_opt.to_tsval;
	tp->t_tsrecent_age = tp->t_stack->s_now;
}

static bool
tcp_fastpath(struct tcpcb *tp, struct tcpseg *sg)
{
	struct mbuf *m = sg->sg_m;

	if (!tcp_expected(tp, sg) ||
	    (sg->sg_len == 0 && sg->sg_ack == tp->snd_una &&
		tp->snd_max != tp->snd_una)) {
		return false; /* the last: perhaps a duplicate ACK */
	}
	if ((sg->sg_opt.to_flags & TOF_TS) &&
	    SEQ_LEQ(sg->sg_seq, tp->t_lastacksent)) {
		tcp_tsrecent(tp, sg);
	}
	tcp_ecn_input(tp, sg);
	if (sg->sg_ack != tp->snd_una) {
		TCPSTAT_INC(tp->t_tcp, predack);
		(void)tcp_newack(tp, sg);
	}
	tcp_wndupdate(tp, sg);
	if (sg->sg_len > 0) {
		TCPSTAT_INC(tp->t_tcp, preddat);
		TCPSTAT_ADD(tp->t_tcp, rcvpack, sg->sg_count);
		sg->sg_m = NULL;
		tcp_deliver(tp, m, sg->sg_len);
		tcp_ackpolicy(tp, sg);
	}
	if (sg->sg_needoutput || (tp->t_flags & TF_ACKNOW)) {
		(void)tcp_output(tp);
	}
	return true;
}

/* ---- 3.10.7.3: SYN_SENT ---- */

static enum tcp_verdict
tcp_synsent_acked(struct tcpcb *tp, struct tcpseg *sg)
{
	struct tcp_state *tcp = tp->t_tcp;

	tcp_timer_stop(tp, TCPT_REXMT);
	if (tp->t_rtttime != 0) {
		tcp_rtt_sample(tp, tp->t_stack->s_now - tp->t_rtttime);
		tp->t_rtttime = 0;
	} else {
		/* RFC 6298 5.7: the SYN was lost, its time is unknown. */
		tp->t_rxtshift = 0;
		tp->t_rto = u64max(tp->t_rto,
		    3 * (uint64_t)TCPTUN(tcp, rto_initial) * NSEC_PER_MSEC);
	}
	tp->snd_una = sg->sg_ack;
	tp->snd_fack = tp->snd_recover = tp->t_smallend = tp->snd_una;
	tp->snd_wnd = tp->max_sndwnd = sg->sg_wnd; /* not scaled */
	tp->snd_wl1 = sg->sg_seq;
	tp->snd_wl2 = sg->sg_ack;
	tp->t_flags |= TF_ACKNOW;
	return tcp_established(tp) ? TCP_NEXT : TCP_DROP;
}

/* Both ends opened at once: our SYN goes again, with an ACK (MUST-10). */
static enum tcp_verdict
tcp_synsent_crossed(struct tcpcb *tp, struct tcpseg *sg)
{
	tcp_setstate(tp, TCPS_SYN_RECEIVED);
	tp->snd_wnd = tp->max_sndwnd = sg->sg_wnd;
	tp->snd_wl1 = sg->sg_seq;
	tp->snd_wl2 = tp->snd_una;
	tp->t_rtttime = 0;
	tp->snd_nxt = tp->iss;
	(void)tcp_output(tp);
	return TCP_DROP;
}

static enum tcp_verdict
tcp_synsent(struct tcpcb *tp, struct tcpseg *sg)
{
	bool ack = (sg->sg_flags & TH_ACK) != 0;

	if (ack &&
	    (SEQ_LEQ(sg->sg_ack, tp->iss) || SEQ_GT(sg->sg_ack, tp->snd_max))) {
		TCPDROP(tp->t_tcp, badack);
		return TCP_DROPWITHRESET;
	}
	if (sg->sg_flags & TH_RST) {
		if (ack) {
			tcp_drop(tp, ECONNREFUSED);
		} else {
			TCPDROP(tp->t_tcp, badrst);
		}
		return TCP_DROP;
	}
	if ((sg->sg_flags & TH_SYN) == 0) {
		TCPDROP(tp->t_tcp, badsyn);
		return TCP_DROP;
	}
	tcp_ecn_synsent(tp, sg);
	tcp_rcvseqinit(tp, sg->sg_seq);
	tcp_synoptions(tp, &sg->sg_opt);
	sg->sg_seq++;
	sg->sg_flags &= (uint8_t)~TH_SYN;
	/* What the SYN offered of our window, unscaled. */
	tp->rcv_adv = tp->rcv_nxt + u32min(tp->rcv_wnd, TCP_WINMAX);
	return ack ? tcp_synsent_acked(tp, sg) : tcp_synsent_crossed(tp, sg);
}

/* ---- 3.10.7.4: the steps ---- */

/* A segment out of order in time (RFC 7323 5.3, R1), and what the others say
 * of the peer's clock (R3). */
static enum tcp_verdict
tcp_pawscheck(struct tcpcb *tp, struct tcpseg *sg)
{
	const struct tcpopt *to = &sg->sg_opt;

	if ((tp->t_flags & TF_RCVD_TS) == 0 || (to->to_flags & TOF_TS) == 0 ||
	    (sg->sg_flags & TH_RST)) {
		return TCP_NEXT;
	}
	if (TSTMP_LT(to->to_tsval, tp->t_tsrecent) &&
	    tp->t_stack->s_now - tp->t_tsrecent_age < PAWS_IDLE) {
		TCPDROP(tp->t_tcp, paws);
		return TCP_DROPAFTERACK;
	}
	if (SEQ_LEQ(sg->sg_seq, tp->t_lastacksent)) {
		tcp_tsrecent(tp, sg);
	}
	return TCP_NEXT;
}

/* Cut n bytes off the front of the payload. */
static void
tcp_trimhead(struct tcpseg *sg, uint32_t n)
{
	m_adj(sg->sg_m, (int32_t)n);
	sg->sg_seq += n;
	sg->sg_len -= n;
	if (sg->sg_urp > n) {
		sg->sg_urp = (uint16_t)(sg->sg_urp - n);
	} else {
		sg->sg_flags &= (uint8_t)~TH_URG;
		sg->sg_urp = 0;
	}
}

/* The segment starts before rcv_nxt. What is old is cut off; if all of it is,
 * the ACK it carries still counts, and it is answered. */
static void
tcp_seq_old(struct tcpcb *tp, struct tcpseg *sg)
{
	struct tcp_state *tcp = tp->t_tcp;
	uint32_t old = tp->rcv_nxt - sg->sg_seq;

	if (old > sg->sg_len ||
	    (old == sg->sg_len && (sg->sg_flags & TH_FIN) == 0)) {
		if (sg->sg_len > 0) {
			tcp_dsack(tp, sg->sg_seq, sg->sg_seq + sg->sg_len);
			TCPSTAT_INC(tcp, rcvduppack);
			TCPSTAT_ADD(tcp, rcvdupbyte, sg->sg_len);
		}
		sg->sg_flags &= (uint8_t)~TH_FIN;
		tp->t_flags |= TF_ACKNOW;
		old = sg->sg_len;
		tcp_trimhead(sg, old);
		sg->sg_seq = tp->rcv_nxt;
		return;
	}
	if (old > 0 && sg->sg_len > 0) {
		tcp_dsack(tp, sg->sg_seq, sg->sg_seq + old);
		TCPSTAT_INC(tcp, rcvpartduppack);
		TCPSTAT_ADD(tcp, rcvpartdupbyte, old);
	}
	tcp_trimhead(sg, old);
}

/* The segment ends beyond the window: over bytes too far. */
static enum tcp_verdict
tcp_seq_beyond(struct tcpcb *tp, struct tcpseg *sg, uint32_t over)
{
	struct tcp_state *tcp = tp->t_tcp;

	TCPSTAT_INC(tcp, rcvpackafterwin);
	TCPSTAT_ADD(tcp, rcvbyteafterwin, u32min(over, sg->sg_len));
	tp->t_flags |= TF_ACKNOW;
	if (over >= sg->sg_len) {
		if (sg->sg_seq != tp->rcv_nxt) {
			TCPDROP(tcp, afterwin);
			return TCP_DROPAFTERACK;
		}
		/* A probe of a shut window; its ACK counts (MUST-66). */
		TCPSTAT_INC(tcp, rcvwinprobe);
		over = sg->sg_len;
	}
	m_adj(sg->sg_m, -(int32_t)over);
	sg->sg_len -= over;
	sg->sg_flags &= (uint8_t)~(TH_PUSH | TH_FIN);
	return TCP_NEXT;
}

/* First: the sequence number. RST and SYN are judged by their own steps and
 * keep the number they came with. */
static enum tcp_verdict
tcp_seqcheck(struct tcpcb *tp, struct tcpseg *sg)
{
	uint32_t edge = tp->rcv_nxt + tcp_rcvspace(tp), over;

	if (sg->sg_flags & TH_RST) {
		if (SEQ_LT(sg->sg_seq, tp->t_lastacksent) ||
		    SEQ_GT(sg->sg_seq, edge)) {
			TCPDROP(tp->t_tcp, badrst);
			return TCP_DROP;
		}
		return TCP_NEXT;
	}
	if (sg->sg_flags & TH_SYN) {
		if (tp->t_state != TCPS_SYN_RECEIVED || sg->sg_seq != tp->irs) {
			return TCP_NEXT;
		}
		/* The peer's SYN again, or its answer to ours. */
		sg->sg_flags &= (uint8_t)~TH_SYN;
		sg->sg_seq++;
		tp->t_flags |= TF_ACKNOW;
		if ((sg->sg_flags & TH_ACK) == 0) {
			TCPSTAT_INC(tp->t_tcp, sc_dupsyn);
			return TCP_DROPAFTERACK;
		}
	}
	if (SEQ_LT(sg->sg_seq, tp->rcv_nxt)) {
		tcp_seq_old(tp, sg);
	}
	over = sg->sg_seq + sg->sg_len - edge;
	if ((int32_t)over <= 0) {
		return TCP_NEXT;
	}
	return tcp_seq_beyond(tp, sg, over);
}

/* Second: RST (RFC 5961 3.2: only the very next number resets). */
static enum tcp_verdict
tcp_rstcheck(struct tcpcb *tp, struct tcpseg *sg)
{
	if ((sg->sg_flags & TH_RST) == 0) {
		return TCP_NEXT;
	}
	if (sg->sg_seq != tp->rcv_nxt && sg->sg_seq != tp->t_lastacksent) {
		TCPSTAT_INC(tp->t_tcp, rstchallenge);
		if (!tcp_challenge_ok(tp->t_tcp, tp)) {
			return TCP_DROP;
		}
		return TCP_DROPAFTERACK;
	}
	switch (tp->t_state) {
	case TCPS_SYN_RECEIVED:
		tp->t_so->so_error = ECONNREFUSED;
		break;
	case TCPS_CLOSE_WAIT:
		/* As Linux: the reader keeps its end of stream, the writer
		 * gets EPIPE because nothing can be sent any more. */
		tp->t_so->so_error = EPIPE;
		break;
	case TCPS_CLOSING:
	case TCPS_LAST_ACK:
		break;
	default:
		tp->t_so->so_error = ECONNRESET;
		break;
	}
	TCPSTAT_INC(tp->t_tcp, drops);
	tcp_close(tp);
	return TCP_DROP;
}

/* Fourth: SYN (RFC 5961 4.2: whatever its number, the peer is asked; if it
 * has restarted it answers with the RST that ends this connection). */
static enum tcp_verdict
tcp_syncheck(struct tcpcb *tp, struct tcpseg *sg)
{
	if ((sg->sg_flags & TH_SYN) == 0) {
		return TCP_NEXT;
	}
	TCPSTAT_INC(tp->t_tcp, synchallenge);
	if (!tcp_challenge_ok(tp->t_tcp, tp)) {
		return TCP_DROP;
	}
	return TCP_DROPAFTERACK;
}

/* Data for a socket nobody will read again: say so (SHLD-3). That is one that
 * was closed, or shut down in both directions. */
static enum tcp_verdict
tcp_orphancheck(struct tcpcb *tp, struct tcpseg *sg)
{
	struct socket *so = tp->t_so;
	bool shut = (so->so_rcv.sb_state & SBS_CANTRCVMORE) &&
	    !(so->so_state & SS_PEERDONE);

	if (sg->sg_len == 0 || !TCPS_HAVECLOSED(tp->t_state) ||
	    !(shut || (so->so_state & SS_NOFDREF))) {
		return TCP_NEXT;
	}
	if (!(so->so_state & SS_NOFDREF)) {
		so->so_error = ECONNRESET;
	}
	TCPDROP(tp->t_tcp, afterclose);
	tcp_close(tp);
	return TCP_DROPWITHRESET;
}

/* Sixth: the urgent pointer, one past the last urgent byte (MUST-62). */
static enum tcp_verdict
tcp_urgcheck(struct tcpcb *tp, struct tcpseg *sg)
{
	struct socket *so = tp->t_so;
	uint32_t up = sg->sg_seq + sg->sg_urp;

	if ((sg->sg_flags & TH_URG) == 0 || sg->sg_urp == 0 ||
	    TCPS_HAVERCVDFIN(tp->t_state)) {
		return TCP_NEXT;
	}
	if (SEQ_LT(tp->rcv_up, tp->rcv_nxt)) {
		tp->rcv_up = tp->rcv_nxt;
	}
	/* A pointer outside the window points at nothing we may get. */
	if (SEQ_LEQ(up, tp->rcv_up) || up - tp->rcv_nxt > tcp_rcvspace(tp) + 1) {
		return TCP_NEXT;
	}
	tp->rcv_up = up;
	tp->t_flags |= TF_URG_PENDING;
	so->so_hasoob = false;
	so->so_rcv.sb_state &= (uint16_t)~SBS_RCVATMARK;
	so->so_oobmark = so->so_rcv.sb_cc + (up - 1 - tp->rcv_nxt);
	if (so->so_oobmark == 0) {
		so->so_rcv.sb_state |= SBS_RCVATMARK;
	}
	sohasoutofband(so);
	return TCP_NEXT;
}

/* Seventh: the data. */
static enum tcp_verdict
tcp_text(struct tcpcb *tp, struct tcpseg *sg)
{
	struct mbuf *m = sg->sg_m;
	uint32_t end = sg->sg_seq + sg->sg_len;

	if (TCPS_HAVERCVDFIN(tp->t_state)) {
		return TCP_NEXT;
	}
	if ((sg->sg_flags & TH_FIN) && end != tp->rcv_nxt &&
	    (tp->t_flags & TF_FINSEEN) == 0) {
		tp->t_flags |= TF_FINSEEN;
		tp->t_finseq = end;
	}
	if (sg->sg_len == 0) {
		if (sg->sg_seq != tp->rcv_nxt) {
			tp->t_flags |= TF_ACKNOW; /* a FIN too early */
		}
		return TCP_NEXT;
	}
	if (sg->sg_seq != tp->rcv_nxt) {
		tcp_reass(tp, sg);
		tp->t_flags |= TF_ACKNOW; /* RFC 5681 4.2 */
		return TCP_NEXT;
	}
	TCPSTAT_ADD(tp->t_tcp, rcvpack, sg->sg_count);
	sg->sg_m = NULL;
	tcp_deliver(tp, m, sg->sg_len);
	if (tp->t_segqlen > 0) {
		tcp_reass_flush(tp);
		tp->t_flags |= TF_ACKNOW;
	} else {
		tcp_ackpolicy(tp, sg);
	}
	return TCP_NEXT;
}

/* Eighth: FIN, once everything before it is here. */
static enum tcp_verdict
tcp_fincheck(struct tcpcb *tp, struct tcpseg *sg)
{
	bool fin = (tp->t_flags & TF_FINSEEN) && tp->t_finseq == tp->rcv_nxt;

	if ((sg->sg_flags & TH_FIN) && sg->sg_seq + sg->sg_len == tp->rcv_nxt) {
		fin = true;
	}
	if (!fin || TCPS_HAVERCVDFIN(tp->t_state)) {
		return TCP_NEXT;
	}
	tp->t_flags &= ~TF_FINSEEN;
	tp->rcv_nxt++;
	tp->rcv_adv = seq_max(tp->rcv_adv, tp->rcv_nxt);
	tp->t_flags |= TF_ACKNOW;
	tcp_reass_free(tp); /* nothing comes after a FIN */
	switch (tp->t_state) {
	case TCPS_ESTABLISHED:
		tcp_setstate(tp, TCPS_CLOSE_WAIT);
		socantrcvmore(tp->t_so);
		return TCP_NEXT;
	case TCPS_FIN_WAIT_1:
		tcp_setstate(tp, TCPS_CLOSING);
		socantrcvmore(tp->t_so);
		return TCP_NEXT;
	default:
		KASSERT(tp->t_state == TCPS_FIN_WAIT_2);
		socantrcvmore(tp->t_so);
		(void)tcp_output(tp);
		tcp_tw_start(tp);
		return TCP_DROP;
	}
}

typedef enum tcp_verdict tcp_step(struct tcpcb *, struct tcpseg *);

/* clang-format off */
/* A segment that missed the fast path: RFC 9293, 3.10.7.4, in its order. */
static tcp_step *const tcp_steps[] = {
	tcp_pawscheck,	/* before the first: RFC 7323 5.3 */
	tcp_seqcheck,	/* first */
	tcp_rstcheck,	/* second; the third, security, we do not do */
	tcp_syncheck,	/* fourth */
	tcp_orphancheck,
	tcp_ackcheck,	/* fifth */
	tcp_urgcheck,	/* sixth */
	tcp_text,	/* seventh */
	tcp_fincheck,	/* eighth */
};
/* In SYN_SENT only what may follow an acceptable SYN,ACK is left to do. */
static tcp_step *const tcp_synsent_steps[] = {
	tcp_synsent,
	tcp_urgcheck,
	tcp_text,
	tcp_fincheck,
};
/* clang-format on */

static enum tcp_verdict
tcp_run(struct tcpcb *tp, struct tcpseg *sg, tcp_step *const *steps, size_t n)
{
	enum tcp_verdict v = TCP_NEXT;

	for (size_t i = 0; i < n && v == TCP_NEXT; i++) {
		v = steps[i](tp, sg);
	}
	return v;
}

void
tcp_input_conn(struct tcpcb *tp, struct tcpseg *sg)
{
	struct stack *s = tp->t_stack;
	enum tcp_verdict v;

	tp->t_segsin += sg->sg_count;
	qos_input(tp->t_so, sg->sg_svc, sg->sg_count, sg->sg_iplen);
	tp->t_rcvtime = s->s_now;
	tp->t_keepprobes = 0;
	if ((sg->sg_flags & TH_SYN) == 0) {
		sg->sg_wnd <<= tp->t_sndscale;
	}
	if (tcp_fastpath(tp, sg)) {
		return;
	}
	v = tp->t_state == TCPS_SYN_SENT ?
	    tcp_run(tp, sg, tcp_synsent_steps, nitems(tcp_synsent_steps)) :
	    tcp_run(tp, sg, tcp_steps, nitems(tcp_steps));
	switch (v) {
	case TCP_NEXT:
		if (sg->sg_needoutput || (tp->t_flags & TF_ACKNOW)) {
			(void)tcp_output(tp);
		}
		tcp_invariants(tp);
		break;
	case TCP_DROPAFTERACK:
		/* Two that find each other unacceptable would do so for ever. */
		if (sg->sg_len > 0 || tcp_challenge_ok(s->s_tcp, tp)) {
			tp->t_flags |= TF_ACKNOW;
			(void)tcp_output(tp);
		}
		break;
	case TCP_DROPWITHRESET:
		tcp_reset_segment(s, sg);
		break;
	case TCP_DROP:
		break;
	}
}
