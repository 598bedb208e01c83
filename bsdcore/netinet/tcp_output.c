/*
 * tcp_output.c - what to send next, and building it.
 *
 * tcp_output() asks the planners below in order until none has anything to
 * send; a plan becomes one segment or, where the interface takes them, one
 * super-segment of many. The state advances only when IP has taken it: what
 * it refuses was never sent, and the retransmission timer asks again.
 *
 * Payload is shared with the send buffer, not copied; headers get an mbuf of
 * their own, into which short payload is copied because that is cheaper.
 */
#include "bsdcore/net/if.h"
#include "bsdcore/netinet/cc/cc.h"
#include "bsdcore/netinet/in_flow.h"
#include "bsdcore/netinet/ip_var.h"

struct tcpsend {
	struct sackhole *se_hole; /* a retransmission from the scoreboard */
	uint32_t se_seq, se_len;
	uint8_t se_flags; /* TH_* */
	bool se_probe;	  /* beyond the window: snd_nxt stays */
	bool se_tlp;
};

/* ---- windows ---- */

/* RFC 9293 3.8.6.2.2: the right edge never moves back, and forward only by
 * something worth having. */
uint32_t
tcp_rcvwindow(const struct tcpcb *tp)
{
	const struct sockbuf *sb = &tp->t_so->so_rcv;
	uint32_t win = sbspace(sb), old = 0;

	if (tp->t_wndclamp != 0) {
		win = u32min(win, tp->t_wndclamp);
	}
	win = u32min(win, TCP_WINMAX << tp->t_rcvscale);
	if (SEQ_GT(tp->rcv_adv, tp->rcv_nxt)) {
		old = tp->rcv_adv - tp->rcv_nxt;
	}
	if (win < old || win - old < u32min(sb->sb_hiwat / 2, tp->t_maxseg)) {
		return old;
	}
	return win;
}

bool
tcp_wndupdate_due(const struct tcpcb *tp)
{
	uint32_t hiwat = tp->t_so->so_rcv.sb_hiwat;
	uint32_t win, old = 0, adv;

	if (!TCPS_HAVEESTABLISHED(tp->t_state) || TCPS_HAVERCVDFIN(tp->t_state)) {
		return false;
	}
	win = tcp_rcvwindow(tp);
	if (SEQ_GT(tp->rcv_adv, tp->rcv_nxt)) {
		old = tp->rcv_adv - tp->rcv_nxt;
	}
	adv = win - old;
	if (adv == 0) {
		return false;
	}
	if (2 * adv >= hiwat || old < tp->t_maxseg) {
		return true;
	}
	return adv >= 2 * tp->t_maxseg && (adv >= hiwat / 4 || old <= hiwat / 8);
}

/* How many bytes more congestion control lets into the network. */
static uint32_t
tcp_cwndspace(const struct tcpcb *tp)
{
	uint32_t cwnd = tp->snd_cwnd, flight;

	if (tcp_sack_on(tp) && tp->t_nholes != 0) {
		flight = tp->t_pipe;
	} else {
		flight = tp->snd_nxt - tp->snd_una;
	}
	/* RFC 3042: a segment more for each of the first two duplicates. */
	if (!tcp_in_recovery(tp) && tp->t_nholes == 0 && tp->t_dupacks > 0 &&
	    TCPTUN(tp->t_tcp, limited_transmit)) {
		cwnd += u32min(tp->t_dupacks, 2) * tp->t_maxseg;
	}
	return cwnd > flight ? cwnd - flight : 0;
}

/* ---- planners: true: *se is to be sent ---- */

static bool
plan_syn(const struct tcpcb *tp, struct tcpsend *se)
{
	if (TCPS_HAVEESTABLISHED(tp->t_state) || tp->snd_nxt != tp->iss) {
		return false;
	}
	se->se_seq = tp->iss;
	se->se_flags = tp->t_state == TCPS_SYN_SENT ? TH_SYN : TH_SYN | TH_ACK;
	return true;
}

/* Where our FIN is in sequence space: behind the last byte. */
static uint32_t
tcp_finpos(const struct tcpcb *tp)
{
	return tp->snd_una + tp->t_so->so_snd.sb_cc;
}

static bool
tcp_finwanted(const struct tcpcb *tp)
{
	return tp->t_state == TCPS_FIN_WAIT_1 || tp->t_state == TCPS_CLOSING ||
	    tp->t_state == TCPS_LAST_ACK;
}

/* Bytes a super-segment may carry; whole segments. */
static uint32_t
tcp_burst(const struct tcpcb *tp)
{
	if (tp->t_gsomax <= tp->t_maxseg) {
		return tp->t_maxseg;
	}
	return tp->t_gsomax - tp->t_gsomax % tp->t_maxseg;
}

/* Fill *se with what lies in [seq, end), at most max bytes of it. */
static bool
plan_range(const struct tcpcb *tp, struct tcpsend *se, uint32_t seq,
    uint32_t end, uint32_t max)
{
	uint32_t fin = tcp_finpos(tp);
	uint32_t dataend = seq_min(end, fin);

	se->se_seq = seq;
	se->se_flags = TH_ACK;
	se->se_len = SEQ_GT(dataend, seq) ? u32min(dataend - seq, max) : 0;
	if ((tp->t_flags & TF_SENTFIN) && seq + se->se_len == fin &&
	    SEQ_GT(end, fin)) {
		se->se_flags |= TH_FIN;
	}
	return se->se_len > 0 || (se->se_flags & TH_FIN) != 0;
}

/* RFC 6675 NextSeg(): rule 1 with lostonly, rule 3 without. The segment at
 * snd_una may always go once. */
static bool
plan_hole(struct tcpcb *tp, struct tcpsend *se, bool lostonly)
{
	struct sackhole *sh;
	uint32_t space;

	if (!tcp_in_recovery(tp) || tp->t_nholes == 0 ||
	    (sh = tcp_sack_nexthole(tp, lostonly)) == NULL) {
		return false;
	}
	space = tcp_cwndspace(tp);
	if (space < tp->t_maxseg) {
		if (sh->sh_rxmit != tp->snd_una) {
			return false;
		}
		space = tp->t_maxseg;
	}
	space -= space % tp->t_maxseg;
	se->se_hole = sh;
	return plan_range(tp, se, sh->sh_rxmit, sh->sh_end,
	    u32min(space, tcp_burst(tp)));
}

/* RFC 8985 7.3: new data, or the last segment again. */
static bool
plan_tlp(const struct tcpcb *tp, struct tcpsend *se)
{
	uint32_t unsent = tcp_finpos(tp) - tp->snd_max, n;

	if ((tp->t_flags & (TF_FORCE | TF_TLPSENT)) != (TF_FORCE | TF_TLPSENT)) {
		return false;
	}
	if ((int32_t)unsent > 0 && tp->snd_nxt == tp->snd_max &&
	    !in_flowsuspended(tp->t_inp) &&
	    tp->snd_max - tp->snd_una + tp->t_maxseg <= tp->snd_wnd) {
		se->se_seq = tp->snd_nxt;
		se->se_len = u32min(unsent, tp->t_maxseg);
		se->se_flags = TH_ACK;
		return true;
	}
	se->se_tlp = true;
	n = u32min(tp->snd_max - tp->snd_una, tp->t_maxseg);
	return plan_range(tp, se, tp->snd_max - n, tp->snd_max, n);
}

/*
 * Sender's silly window avoidance (RFC 9293 3.8.6.2.1) with Nagle's rule in
 * Minshall's form: a short segment waits only for another short one. last:
 * the segment empties the buffer.
 */
static bool
tcp_short_ok(const struct tcpcb *tp, uint32_t len, bool last)
{
	if (tp->t_flags & TF_FORCE) {
		return true;
	}
	if (SEQ_LT(tp->snd_nxt, tp->snd_max)) {
		return true; /* a retransmission */
	}
	if (last && tcp_finwanted(tp)) {
		return true;
	}
	if (last && (tp->t_flags & (TF_CORK | TF_MORETOCOME)) == 0 &&
	    ((tp->t_flags & TF_NODELAY) ||
		SEQ_LEQ(tp->t_smallend, tp->snd_una))) {
		return true;
	}
	return tp->max_sndwnd > 0 && len >= tp->max_sndwnd / 2 && !last;
}

/* len bytes could go: how many shall? */
static uint32_t
tcp_nagle(const struct tcpcb *tp, uint32_t len, uint32_t avail)
{
	uint32_t burst = tcp_burst(tp), tail;

	if (len > burst) {
		return burst;
	}
	tail = len % tp->t_maxseg;
	if (tail == 0 || tcp_short_ok(tp, tail, len == avail)) {
		return len;
	}
	return len - tail;
}

/* Of len bytes from snd_nxt on, what may go while the flow is suspended: only
 * what went before. */
static uint32_t
tcp_suspend(struct tcpcb *tp, uint32_t len)
{
	uint32_t again = tp->snd_max - tp->snd_nxt;

	if (len <= again || !in_flowsuspended(tp->t_inp)) {
		return len;
	}
	in_flowwait(tp->t_inp);
	return again;
}

static bool
plan_data(struct tcpcb *tp, struct tcpsend *se)
{
	uint32_t off = tp->snd_nxt - tp->snd_una, avail, wnd, len;
	uint32_t cc = tp->t_so->so_snd.sb_cc;

	if (!TCPS_HAVEESTABLISHED(tp->t_state)) {
		return false;
	}
	avail = cc > off ? cc - off : 0;
	wnd = tp->snd_wnd > off ? tp->snd_wnd - off : 0;
	len = tcp_suspend(tp, u32min(avail, u32min(wnd, tcp_cwndspace(tp))));
	se->se_seq = tp->snd_nxt;
	se->se_flags = TH_ACK;
	if (avail > 0 && wnd == 0 && (tp->t_flags & TF_FORCE)) {
		se->se_probe = true;
		se->se_len = 1;
		return true;
	}
	se->se_len = tcp_nagle(tp, len, avail);
	if (tcp_finwanted(tp) && se->se_seq + se->se_len == tcp_finpos(tp)) {
		se->se_flags |= TH_FIN;
		return true;
	}
	return se->se_len > 0;
}

static bool
plan_ack(const struct tcpcb *tp, struct tcpsend *se)
{
	if (tp->t_state == TCPS_SYN_SENT) {
		return false;
	}
	if ((tp->t_flags & TF_ACKNOW) == 0) {
		if (!tcp_wndupdate_due(tp)) {
			return false;
		}
		TCPSTAT_INC(tp->t_tcp, sndwinup);
	}
	/* Not beyond the window of a peer that is being probed. */
	se->se_seq =
	    tcp_timer_active(tp, TCPT_PERSIST) ? tp->snd_nxt : tp->snd_max;
	se->se_flags = TH_ACK;
	return true;
}

static bool
tcp_plan(struct tcpcb *tp, struct tcpsend *se)
{
	memset(se, 0, sizeof(*se));
	if (tcp_qosheld(tp)) {
		return plan_ack(tp, se);
	}
	if (plan_syn(tp, se) || plan_tlp(tp, se) || plan_hole(tp, se, true) ||
	    plan_data(tp, se)) {
		return true;
	}
	memset(se, 0, sizeof(*se));
	if (plan_hole(tp, se, false)) {
		return true;
	}
	memset(se, 0, sizeof(*se));
	return plan_ack(tp, se);
}

/* ---- options ---- */

uint32_t
tcp_ts_put(uint8_t *cp, uint32_t val, uint32_t ecr)
{
	be32put(cp, 0x0101080a); /* NOP NOP TS 10 */
	be32put(cp + 4, val);
	be32put(cp + 8, ecr);
	return TCPOLEN_TSPAD;
}

/* One option of a SYN. Answers its bytes, 0: not wanted. */
static uint32_t
synopt_one(const struct tcpsynopt *so, int kind, uint8_t *cp)
{
	switch (kind) {
	case TCPOPT_KIND_MSS:
		cp[0] = TCPOPT_KIND_MSS;
		cp[1] = TCPOLEN_MSS;
		be16put(cp + 2, so->to_mss);
		return TCPOLEN_MSS;
	case TCPOPT_KIND_WSCALE:
		if ((so->to_flags & TOF_WSCALE) == 0) {
			return 0;
		}
		cp[0] = TCPOPT_KIND_WSCALE;
		cp[1] = TCPOLEN_WSCALE;
		cp[2] = so->to_wscale;
		return TCPOLEN_WSCALE;
	case TCPOPT_KIND_SACKOK:
		if ((so->to_flags & TOF_SACKOK) == 0) {
			return 0;
		}
		cp[0] = TCPOPT_KIND_SACKOK;
		cp[1] = TCPOLEN_SACKOK;
		return TCPOLEN_SACKOK;
	case TCPOPT_KIND_TS:
		if ((so->to_flags & TOF_TS) == 0) {
			return 0;
		}
		cp[0] = TCPOPT_KIND_TS;
		cp[1] = TCPOLEN_TS;
		be32put(cp + 2, so->to_tsval);
		be32put(cp + 6, so->to_tsecr);
		return TCPOLEN_TS;
	default:
		cp[0] = TCPOPT_KIND_NOP;
		return 1;
	}
}

uint32_t
tcp_synopt_put(const struct tcp_state *tcp, const struct tcpsynopt *so,
    uint8_t *cp)
{
	int64_t order = TCPTUN(tcp, synopt_order), unit = 1;
	uint8_t one[TCPOLEN_TS];
	uint32_t len = 0, n;

	while (order / unit >= 10) {
		unit *= 10;
	}
	for (; unit > 0; unit /= 10) {
		n = synopt_one(so, (int)(order / unit % 10), one);
		if (len + n > TCP_MAXOLEN) {
			break;
		}
		memcpy(cp + len, one, n);
		len += n;
	}
	while (len % 4 != 0) {
		cp[len++] = TCPOPT_KIND_NOP;
	}
	return len;
}

static uint32_t
tcp_options_syn(struct tcpcb *tp, uint8_t flags, uint8_t *cp)
{
	struct tcpsynopt so = { .to_wscale = tp->t_reqscale };
	bool synack = (flags & TH_ACK) != 0;

	so.to_mss = tcp_mss_offer(tp->t_stack, &tp->t_inp->inp_route,
	    &tp->t_inp->inp_faddr, in_pcbscope(tp->t_inp));
	if (tp->t_usermss != 0) {
		so.to_mss = (uint16_t)u32min(so.to_mss, tp->t_usermss);
	}
	if (tp->t_flags & (synack ? TF_RCVD_SCALE : TF_REQ_SCALE)) {
		so.to_flags |= TOF_WSCALE;
	}
	if (tp->t_flags & (synack ? TF_RCVD_TS : TF_REQ_TS)) {
		so.to_flags |= TOF_TS;
		so.to_tsval = tcp_tsclock(tp->t_stack) + tp->t_tsoff;
		so.to_tsecr = synack ? tp->t_tsrecent : 0;
	}
	if (synack ? tcp_sack_on(tp) : TCPTUN(tp->t_tcp, sack) != 0) {
		so.to_flags |= TOF_SACKOK;
	}
	return tcp_synopt_put(tp->t_tcp, &so, cp);
}

static uint32_t
tcp_options(struct tcpcb *tp, uint8_t flags, uint8_t *cp)
{
	struct sackblk v[TCP_MAXSACK];
	uint32_t len = 0;
	int n;

	if (flags & TH_SYN) {
		return tcp_options_syn(tp, flags, cp);
	}
	if (tp->t_flags & TF_RCVD_TS) {
		len = tcp_ts_put(cp, tcp_tsclock(tp->t_stack) + tp->t_tsoff,
		    tp->t_tsrecent);
	}
	if (!tcp_sack_on(tp) ||
	    (tp->t_segqlen == 0 && tp->t_dsack.sb_start == tp->t_dsack.sb_end)) {
		return len;
	}
	n = tcp_sackblocks(tp, v, len == 0 ? 4 : 3);
	if (n == 0) {
		return len;
	}
	be16put(cp + len, 0x0101);
	cp[len + 2] = TCPOPT_KIND_SACK;
	cp[len + 3] = (uint8_t)(2 + n * TCPOLEN_SACKBLK);
	len += 4;
	for (int i = 0; i < n; i++) {
		be32put(cp + len, v[i].sb_start);
		be32put(cp + len + 4, v[i].sb_end);
		len += TCPOLEN_SACKBLK;
	}
	return len;
}

/* ---- building ---- */

/* Room for hdrlen bytes of header and the payload at seq behind them. */
static struct mbuf *
tcp_mkpacket(struct tcpcb *tp, const struct tcpsend *se, uint32_t hdrlen)
{
	struct sockbuf *sb = &tp->t_so->so_snd;
	struct mbuf *m, *n, *data;
	uint32_t moff = 0;

	m = m_gethdr(tp->t_stack->s_mb, MT_HEADER);
	if (m == NULL) {
		return NULL;
	}
	m->m_data += MAX_HDR;
	m->m_len = hdrlen;
	m->m_pkthdr.len = hdrlen + se->se_len;
	if (se->se_len == 0) {
		tcp_qostag(tp->t_so, NULL, 0, 0, m);
		return m;
	}
	data = sbsndptr(sb, se->se_seq - tp->snd_una, &moff);
	tcp_qostag(tp->t_so, data, moff, se->se_len, m);
	if (se->se_len <= MHLEN - MAX_HDR - TCP_MAXHDRLEN) {
		m_copydata(data, moff, se->se_len, mtodo(m, hdrlen));
		m->m_len += se->se_len;
		return m;
	}
	n = m_copym(data, moff, se->se_len);
	if (n == NULL) {
		m_freem(m);
		return NULL;
	}
	n->m_flags &= (uint16_t)~M_PKTHDR;
	m->m_next = n;
	return m;
}

/* The window field, and the promise it makes. */
static uint16_t
tcp_advertise(struct tcpcb *tp, uint8_t flags)
{
	uint32_t win = tcp_rcvwindow(tp), scale;

	scale = flags & TH_SYN ? 0 : tp->t_rcvscale;
	win = u32min(win >> scale, TCP_WINMAX);
	tp->rcv_wnd = win << scale;
	if (flags & TH_ACK) {
		tp->rcv_adv = seq_max(tp->rcv_adv, tp->rcv_nxt + tp->rcv_wnd);
	}
	return (uint16_t)win;
}

/* fresh: it carries payload that was not sent before. */
static void
tcp_mkheader(struct tcpcb *tp, const struct tcpsend *se, uint8_t *th,
    uint32_t hdrlen, bool fresh)
{
	struct inpcb *inp = tp->t_inp;
	uint8_t flags = se->se_flags;

	if (se->se_len > 0 && se->se_seq + se->se_len == tcp_finpos(tp)) {
		flags |= TH_PUSH; /* MUST-61 */
	}
	if ((tp->t_flags & TF_URG_SEND) && SEQ_GT(tp->snd_up, se->se_seq)) {
		flags |= TH_URG;
		be16put(th + TH_OFF_URP,
		    (uint16_t)u32min(tp->snd_up - se->se_seq, 65535));
		TCPSTAT_INC(tp->t_tcp, sndurg);
	} else {
		be16put(th + TH_OFF_URP, 0);
	}
	be16put(th + TH_OFF_SPORT, inp->inp_lport);
	be16put(th + TH_OFF_DPORT, inp->inp_fport);
	be32put(th + TH_OFF_SEQ, se->se_seq);
	be32put(th + TH_OFF_ACK, flags & TH_ACK ? tp->rcv_nxt : 0);
	th[TH_OFF_DOFF] = (uint8_t)(hdrlen / 4 << 4);
	th[TH_OFF_FLAGS] = flags | tcp_ecn_flags(tp, flags, fresh);
	be16put(th + TH_OFF_WIN, tcp_advertise(tp, flags));
}

static int
tcp_ipout(struct tcpcb *tp, struct mbuf *m, bool fresh)
{
	struct inpcb *inp = tp->t_inp;
	struct socket *so = tp->t_so;
	bool v4 = in_is4(&inp->inp_faddr);
	struct ip_outargs ioa = {
		.ioa_src = &inp->inp_laddr,
		.ioa_dst = &inp->inp_faddr,
		.ioa_route = &inp->inp_route,
		.ioa_options = inp->inp_options,
		.ioa_scope = in_pcbscope(inp),
		.ioa_proto = IPPROTO_TCP,
		.ioa_ttl = v4 || inp->inp_hops6 < 0 ? inp->inp_ttl :
						      (uint8_t)inp->inp_hops6,
		.ioa_tos = tcp_ecn_tos(tp, v4 ? inp->inp_tos : inp->inp_tclass6,
		    fresh),
	};

	if (TCPTUN(tp->t_tcp, path_mtu_discovery) &&
	    (inp->inp_flags & INP_PMTUDISC_DONT) == 0 &&
	    (tp->t_flags & TF_BLACKHOLE) == 0) {
		ioa.ioa_flags |= IPO_DF;
	}
	if ((inp->inp_flags & (INP_ANYIP | INP_FREEBIND)) ||
	    (so->so_options & SOO_ANYIP)) {
		ioa.ioa_flags |= IPO_FREEBIND;
	}
	if (so->so_options & SOO_DONTROUTE) {
		ioa.ioa_flags |= IPO_ROUTETOIF;
	}
	m->m_pkthdr.flowid = inp->inp_flowid;
	m->m_pkthdr.proto = IPPROTO_TCP;
	return ip_output(tp->t_stack, m, &ioa);
}

/* Leave the sum, and the cutting into segments, to whoever can do it. */
static void
tcp_offload(struct tcpcb *tp, struct mbuf *m, uint32_t len, uint32_t segsz)
{
	struct inpcb *inp = tp->t_inp;
	uint16_t sum = in_pseudo(&inp->inp_laddr, &inp->inp_faddr, IPPROTO_TCP,
	    m->m_pkthdr.len);

	memcpy(mtodo(m, TH_OFF_SUM), &sum, sizeof(sum));
	m->m_pkthdr.csum_flags = CSUM_PARTIAL;
	m->m_pkthdr.csum_start = 0;
	m->m_pkthdr.csum_stuff = TH_OFF_SUM;
	if (len > segsz) {
		m->m_pkthdr.csum_flags |= CSUM_TSO;
		m->m_pkthdr.tso_segsz = (uint16_t)segsz;
		m->m_pkthdr.gso_type =
		    in_is4(&inp->inp_faddr) ? PKT_GSO_TCPV4 : PKT_GSO_TCPV6;
	}
}

/* ---- after it went ---- */

static void
tcp_count_sent(struct tcpcb *tp, const struct tcpsend *se, uint32_t segsz,
    bool rexmt)
{
	struct tcp_state *tcp = tp->t_tcp;
	uint32_t n = se->se_len > segsz ? (se->se_len + segsz - 1) / segsz : 1;

	TCPSTAT_ADD(tcp, sndtotal, n);
	tp->t_segsout += n;
	if (se->se_probe) {
		TCPSTAT_INC(tcp, sndprobe);
	} else if (se->se_flags & (TH_SYN | TH_FIN | TH_RST)) {
		TCPSTAT_INC(tcp, sndctrl);
	} else if (se->se_len == 0) {
		TCPSTAT_INC(tcp, sndacks);
	}
	tp->t_sentbytes += se->se_len;
	if (rexmt) {
		TCPSTAT_ADD(tcp, sndrexmitpack, n);
		TCPSTAT_ADD(tcp, sndrexmitbyte, se->se_len);
		tp->t_rexmitpack += n;
		tp->t_rexmitbytes += se->se_len;
		if (se->se_hole != NULL) {
			TCPSTAT_ADD(tcp, sack_rexmits, n);
		}
	} else if (se->se_len > 0) {
		TCPSTAT_ADD(tcp, sndpack, n);
		TCPSTAT_ADD(tcp, sndbyte, se->se_len);
	}
}

/* What every segment does: it carries an ACK. */
static void
tcp_acksent(struct tcpcb *tp)
{
	if (tp->t_quickacks > 0 && (tp->t_flags & (TF_ACKNOW | TF_DELACK))) {
		tp->t_quickacks--;
	}
	tp->t_flags &= ~(TF_ACKNOW | TF_DELACK);
	tp->t_unacked = 0;
	tp->t_lastacksent = tp->rcv_nxt;
	tcp_timer_stop(tp, TCPT_DELACK);
}

/* PTO: twice the round trip, and time for an ACK that is delayed: little where
 * several segments are out, as long as a peer may take (WCDelAckT) for a lone
 * one (RFC 8985 7.2). Only where SACK tells what happened. */
void
tcp_pto_arm(struct tcpcb *tp)
{
	uint64_t pto = 2 * tp->t_srtt +
	    (uint64_t)(TCPTUN(tp->t_tcp, delack) + 2) * NSEC_PER_MSEC;

	if (tp->snd_max - tp->snd_una <= tp->t_maxseg) {
		pto += 200 * NSEC_PER_MSEC;
	}
	if (tp->t_nholes != 0) {
		return; /* the timer is tcp_rack_mark()'s */
	}
	if (!tcp_sack_on(tp) || !TCPTUN(tp->t_tcp, tlp) || tp->t_srtt == 0 ||
	    tcp_in_recovery(tp) || (tp->t_flags & TF_TLPSENT) ||
	    tp->t_state == TCPS_SYN_RECEIVED || pto >= tcp_rexmt_timeout(tp)) {
		tcp_timer_stop(tp, TCPT_PTO); /* of an earlier segment */
	} else {
		tcp_timer_arm(tp, TCPT_PTO, tp->t_stack->s_now + pto);
	}
}

/* Sequence numbers and timers, for a segment that took some. */
static void
tcp_sent(struct tcpcb *tp, const struct tcpsend *se, bool rexmt)
{
	uint64_t now = tp->t_stack->s_now;
	uint32_t end = se->se_seq + se->se_len;

	if (se->se_flags & (TH_SYN | TH_FIN)) {
		end++;
		if (se->se_flags & TH_FIN) {
			tp->t_flags |= TF_SENTFIN;
		}
	}
	if (se->se_hole != NULL) {
		tcp_sack_sent(tp, se->se_hole, end);
	} else if (!se->se_probe && !se->se_tlp) {
		tp->snd_nxt = end;
		tp->t_pipe += end - se->se_seq;
	}
	tp->t_prrout += se->se_len;
	tp->t_sndtime = now;
	if (SEQ_LEQ(tp->snd_max, tp->snd_una)) {
		tp->t_stalltime = now;
	}
	tp->snd_max = seq_max(tp->snd_max, end);
	if (se->se_len > 0 && se->se_len % tp->t_maxseg != 0) {
		tp->t_smallend = end;
	}
	if (se->se_probe) {
		return;
	}
	if (!rexmt && tp->t_rtttime == 0) {
		tp->t_rtttime = now;
		tp->t_rtseq = se->se_seq;
		TCPSTAT_INC(tp->t_tcp, segstimed);
	}
	if (tcp_timer_active(tp, TCPT_PERSIST)) {
		tcp_timer_stop(tp, TCPT_PERSIST);
		tp->t_rxtshift = 0;
	}
	if (!tcp_timer_active(tp, TCPT_REXMT)) {
		tcp_rexmt_arm(tp);
	}
	if (!rexmt) {
		tcp_pto_arm(tp);
	}
}

/* IP did not take it. What was to be sent waits for the timer. */
static int
tcp_send_failed(struct tcpcb *tp, const struct tcpsend *se, int error)
{
	TCPSTAT_INC(tp->t_tcp, sndfail);
	if ((se->se_len > 0 || (se->se_flags & (TH_SYN | TH_FIN))) &&
	    !tcp_timer_active(tp, TCPT_REXMT) &&
	    !tcp_timer_active(tp, TCPT_PERSIST)) {
		tcp_rexmt_arm(tp);
	}
	if (error == EMSGSIZE) {
		tcp_mss_update(tp);
	} else if (error != ENOBUFS && TCPS_HAVERCVDSYN(tp->t_state)) {
		tp->t_softerror = error;
	}
	return error;
}

static int
tcp_send(struct tcpcb *tp, struct tcpsend *se)
{
	uint8_t opt[TCP_MAXOLEN];
	uint32_t optlen = tcp_options(tp, se->se_flags, opt);
	uint32_t segsz = tp->t_mss > optlen + 32 ? tp->t_mss - optlen : 32;
	bool rexmt = se->se_hole != NULL || se->se_tlp ||
	    SEQ_LT(se->se_seq, tp->snd_max);
	uint32_t len = tcp_qosrun(tp, se->se_seq, se->se_len, segsz);
	bool fresh = se->se_len > 0 && !rexmt && !se->se_probe;
	struct mbuf *m;
	uint8_t *th;
	int error;

	if (len > segsz &&
	    (tp->t_gsomax <= tp->t_maxseg || (tp->t_flags & TF_ECNCWR))) {
		len = segsz;
	}
	if (len < se->se_len) {
		se->se_len = len;
		se->se_flags &= (uint8_t)~TH_FIN;
	}
	m = tcp_mkpacket(tp, se, TCP_HDRLEN + optlen);
	if (m == NULL) {
		return tcp_send_failed(tp, se, ENOBUFS);
	}
	th = mtod(m, uint8_t *);
	memcpy(th + TCP_HDRLEN, opt, optlen);
	tcp_mkheader(tp, se, th, TCP_HDRLEN + optlen, fresh);
	tcp_offload(tp, m, se->se_len, segsz);
	if (rexmt && se->se_len > 0) {
		m->m_pkthdr.pkt_flags |= PKTF_TCP_REXMT;
	}
	error = tcp_ipout(tp, m, fresh);
	if (error != 0) {
		return tcp_send_failed(tp, se, error);
	}
	tcp_count_sent(tp, se, segsz, rexmt && se->se_len > 0);
	if (se->se_len > 0 || (se->se_flags & (TH_SYN | TH_FIN))) {
		tcp_sent(tp, se, rexmt);
	}
	if (se->se_flags & TH_ACK) {
		tcp_acksent(tp);
	}
	return 0;
}

/* ---- the door ---- */

/* RFC 5681 4.1: after an idle RTO the window is no longer known to fit. */
static void
tcp_idlecheck(struct tcpcb *tp)
{
	if (tp->snd_max != tp->snd_una || tp->t_sndtime == 0 ||
	    !TCPTUN(tp->t_tcp, idle_restart) ||
	    tp->t_stack->s_now - tp->t_sndtime < tp->t_rto) {
		return;
	}
	tp->snd_cwnd = u32min(tp->snd_cwnd, cc_initwnd(tp));
	tp->t_cc->cc_reset(tp);
}

/* Data that may not go yet, and no timer to come back to them: a shut window
 * or a cork. */
static void
tcp_stuckcheck(struct tcpcb *tp)
{
	if (TCPS_HAVEESTABLISHED(tp->t_state) && !tp->t_inp->inp_waiting &&
	    tp->t_so->so_snd.sb_cc > tp->snd_nxt - tp->snd_una &&
	    !tcp_timer_active(tp, TCPT_REXMT) &&
	    !tcp_timer_active(tp, TCPT_PERSIST)) {
		if (tp->snd_wnd > 0) {
			tp->t_rxtshift = 0;
		}
		tcp_persist_arm(tp);
	}
}

/* What has gone makes room for whoever may only be so far ahead of it. */
static void
tcp_sndbuf_sent(struct tcpcb *tp)
{
	struct sockbuf *sb = &tp->t_so->so_snd;
	bool full = !sbwriteable(sb);

	sb->sb_sent = tp->snd_max - tp->snd_una;
	if (full && sbwriteable(sb)) {
		sowwakeup(tp->t_so);
	}
}

int
tcp_output(struct tcpcb *tp)
{
	struct tcpsend se;
	int error = 0;

	if (tp->t_state == TCPS_CLOSED || tp->t_state == TCPS_LISTEN ||
	    (tp->t_flags & TF_HELDSYN)) {
		return 0;
	}
	tcp_idlecheck(tp);
	while (error == 0 && tcp_plan(tp, &se)) {
		error = tcp_send(tp, &se);
		if (tp->t_flags & TF_FORCE && se.se_len == 1 && se.se_probe) {
			break;
		}
		if (se.se_tlp || (tp->t_flags & TF_TLPSENT)) {
			tp->t_flags &= ~TF_FORCE;
		}
	}
	if (tp->t_so->so_snd.sb_ahead != 0) {
		tcp_sndbuf_sent(tp);
	}
	tcp_stuckcheck(tp);
	tcp_invariants(tp);
	return error;
}
