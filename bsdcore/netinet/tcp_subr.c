/*
 * tcp_subr.c - the life of a control block, initial numbers, segment sizes,
 * replies outside a connection, and the protocol's life in a stack.
 *
 * A control block lives from pru_attach to the later of tcp_close() and the
 * socket's close. Between the two it is CLOSED but attached, so that options
 * can still be read and the socket may connect again, as on Linux.
 */
#include "bsdcore/api.h"
#include "bsdcore/net/if.h"
#include "bsdcore/netinet/cc/cc.h"
#include "bsdcore/netinet/ip_var.h"
#include "bsdcore/sys/sysctl.h"

/* ---- control blocks ---- */

struct tcpcb *
tcp_newtcpcb(struct inpcb *inp)
{
	struct stack *s = inp->inp_socket->so_stack;
	struct tcpcb *tp;

	if (callout_reserve(s, 1) != 0) {
		return NULL;
	}
	tp = calloc(1, sizeof(*tp));
	if (tp == NULL) {
		(void)callout_reserve(s, -1);
		return NULL;
	}
	tp->t_tcp = s->s_tcp;
	tp->t_stack = s;
	tp->t_inp = inp;
	tp->t_so = inp->inp_socket;
	TAILQ_INIT(&tp->t_holes);
	TAILQ_INIT(&tp->t_segq);
	callout_init(&tp->t_callout, tcp_timer, tp);
	for (int i = 0; i < TCPT_NTIMERS; i++) {
		tp->t_timer[i] = CALLOUT_NEVER;
	}
	tp->t_rto = (uint64_t)TCPTUN(tp->t_tcp, rto_initial) * NSEC_PER_MSEC;
	tp->snd_ssthresh = 1u << 30;
	tp->snd_cwnd = 1;
	tp->t_maxseg = tp->t_mss = TCP_MSS4;
	cc_use(tp, cc_default(tp->t_tcp));
	inp->inp_ppcb = tp;
	return tp;
}

void
tcp_inherit(struct tcpcb *tp, const struct tcpcb *from)
{
	tp->t_flags |= from->t_flags & (TF_NODELAY | TF_CORK);
	tp->t_usermss = from->t_usermss;
	tp->t_keepidle = from->t_keepidle;
	tp->t_keepintvl = from->t_keepintvl;
	tp->t_keepcnt = from->t_keepcnt;
	tp->t_usertimeout = from->t_usertimeout;
	tp->t_linger2 = from->t_linger2;
	tp->t_notsentlowat = from->t_notsentlowat;
	tp->t_wndclamp = from->t_wndclamp;
	tp->t_rxtlimit = from->t_rxtlimit;
	cc_use(tp, from->t_owncc != NULL ? from->t_owncc : from->t_cc);
}

static void
tcp_freetcpcb(struct tcpcb *tp)
{
	tcp_reass_free(tp);
	tcp_sack_free(tp);
	callout_drain(tp->t_stack, &tp->t_callout);
	(void)callout_reserve(tp->t_stack, -1);
	free(tp);
}

struct tcpcb *
tcp_renew(struct tcpcb *tp)
{
	struct tcpcb *ntp = tcp_newtcpcb(tp->t_inp);

	KASSERT(tp->t_state == TCPS_CLOSED);
	if (ntp != NULL) {
		tcp_inherit(ntp, tp);
		tcp_freetcpcb(tp);
	}
	return ntp;
}

void
tcp_discard(struct tcpcb *tp)
{
	struct inpcb *inp = tp->t_inp;
	struct socket *so = tp->t_so;

	tcp_freetcpcb(tp);
	inp->inp_ppcb = NULL;
	in_pcbfree(inp);
	so->so_pcb = NULL;
}

void
tcp_close(struct tcpcb *tp)
{
	struct socket *so = tp->t_so;
	bool listener = tp->t_state == TCPS_LISTEN;

	TCPSTAT_INC(tp->t_tcp, closed);
	tcp_timer_stopall(tp);
	tcp_reass_free(tp);
	if (listener) {
		tcp_syncache_forget(tp);
	}
	if (tp->t_state != TCPS_CLOSED) {
		tcp_setstate(tp, TCPS_CLOSED);
	}
	tcp_sack_free(tp);
	in_pcbdisconnect(tp->t_inp);
	if (!listener) {
		soisdisconnected(so);
	}
	if (so->so_state & SS_NOFDREF) {
		tcp_discard(tp);
		sofree(so);
	}
}

/* RST|ACK at the next byte the peer expects. */
static void
tcp_sendrst(struct tcpcb *tp)
{
	struct inpcb *inp = tp->t_inp;
	struct tcpreply tr = {
		.tr_laddr = &inp->inp_laddr,
		.tr_faddr = &inp->inp_faddr,
		.tr_lport = inp->inp_lport,
		.tr_fport = inp->inp_fport,
		.tr_seq = tcp_timer_active(tp, TCPT_PERSIST) ? tp->snd_nxt :
							       tp->snd_max,
		.tr_ack = tp->rcv_nxt,
		.tr_flags = TH_RST | TH_ACK,
		.tr_tos = inp->inp_tos,
		.tr_ttl = inp->inp_ttl,
		.tr_scope = in_pcbscope(inp),
		.tr_freebind =
		    (inp->inp_flags & (INP_ANYIP | INP_FREEBIND)) != 0 ||
		    (tp->t_so->so_options & SOO_ANYIP) != 0,
	};

	TCPSTAT_INC(tp->t_tcp, sndrst);
	tcp_reply(tp->t_stack, &tr);
}

void
tcp_drop(struct tcpcb *tp, int error)
{
	if (TCPS_HAVERCVDSYN(tp->t_state)) {
		TCPSTAT_INC(tp->t_tcp, drops);
		tcp_sendrst(tp);
	} else {
		TCPSTAT_INC(tp->t_tcp, conndrops);
	}
	if (error != 0) {
		tp->t_so->so_error = error;
	}
	tcp_close(tp);
}

/* ---- numbers ---- */

/* A keyed hash of the 4-tuple: as good as random to others, the same for
 * every incarnation of one connection. */
static uint64_t
tcp_tuplehash(struct stack *s, uint32_t purpose, const union inaddr *laddr,
    uint16_t lport, const union inaddr *faddr, uint16_t fport)
{
	uint8_t v[36];

	memcpy(v, laddr->ia_b, 16);
	memcpy(v + 16, faddr->ia_b, 16);
	be16put(v + 32, lport);
	be16put(v + 34, fport);
	return stack_hash(s, purpose, v, sizeof(v));
}

/* RFC 6528: ISN = M + F(4-tuple, secret), M a clock of 4 us. */
uint32_t
tcp_newiss(struct stack *s, const union inaddr *laddr, uint16_t lport,
    const union inaddr *faddr, uint16_t fport)
{
	return (uint32_t)tcp_tuplehash(s, SH_ISN, laddr, lport, faddr, fport) +
	    (uint32_t)(s->s_now / (4 * NSEC_PER_USEC));
}

uint32_t
tcp_newtsoff(struct stack *s, const union inaddr *laddr, uint16_t lport,
    const union inaddr *faddr, uint16_t fport)
{
	return (uint32_t)tcp_tuplehash(s, SH_TSOFF, laddr, lport, faddr, fport);
}

uint32_t
tcp_tsclock(const struct stack *s)
{
	return (uint32_t)(s->s_now / NSEC_PER_MSEC);
}

void
tcp_sendseqinit(struct tcpcb *tp, uint32_t iss)
{
	tp->iss = iss;
	tp->snd_una = tp->snd_nxt = tp->snd_max = tp->snd_up = iss;
	tp->snd_recover = tp->snd_fack = tp->t_smallend = iss;
	tp->t_reodsack = tp->t_ecnrecover = iss;
}

void
tcp_rcvseqinit(struct tcpcb *tp, uint32_t irs)
{
	tp->irs = irs;
	tp->rcv_nxt = tp->rcv_adv = irs + 1;
	tp->rcv_up = tp->rcv_nxt;
	tp->t_lastacksent = tp->rcv_nxt;
}

/* ---- segment sizes ---- */

static uint32_t
tcp_iphdrlen(const union inaddr *faddr)
{
	return in_is4(faddr) ? 20 : 40;
}

void
tcp_mss_update(struct tcpcb *tp)
{
	struct inpcb *inp = tp->t_inp;
	uint32_t hdr = tcp_iphdrlen(&inp->inp_faddr), mss;
	struct ifnet *ifp = NULL;

	tp->t_pmtu = ip_pathmtu(tp->t_stack, &inp->inp_route, &inp->inp_faddr,
	    in_pcbscope(inp), &ifp);
	if (tp->t_pmtu == 0) {
		tp->t_pmtu = in_is4(&inp->inp_faddr) ? 576 : 1280;
	}
	if (inp->inp_options != NULL) {
		hdr += inp->inp_options->m_len;
	}
	mss = tp->t_pmtu > hdr + TCP_HDRLEN + 64 ?
	    tp->t_pmtu - hdr - TCP_HDRLEN :
	    64;
	if (tp->t_peermss == 0) {
		tp->t_peermss = (uint32_t)(in_is4(&inp->inp_faddr) ?
			TCPTUN(tp->t_tcp, mssdflt) :
			TCPTUN(tp->t_tcp, v6mssdflt));
	}
	mss = u32min(mss, tp->t_peermss);
	if (tp->t_usermss != 0) {
		mss = u32min(mss, tp->t_usermss);
	}
	if (tp->t_flags & TF_BLACKHOLE) {
		mss = u32min(mss,
		    (uint32_t)TCPTUN(tp->t_tcp, pmtud_blackhole_mss));
	}
	tp->t_mss = mss;
	tp->t_maxseg = tp->t_flags & TF_RCVD_TS ? mss - TCPOLEN_TSPAD : mss;
	tp->t_gsomax = 0;
	if (ifp != NULL && TCPTUN(tp->t_tcp, tso) &&
	    ifp->if_gsomax > hdr + TCP_MAXHDRLEN + mss) {
		tp->t_gsomax =
		    u32min(ifp->if_gsomax, 65535) - hdr - TCP_MAXHDRLEN;
	}
}

uint16_t
tcp_mss_offer(struct stack *s, struct route *ro, const union inaddr *faddr,
    uint32_t scope)
{
	struct ifnet *ifp = NULL;
	uint32_t hdr = tcp_iphdrlen(faddr) + TCP_HDRLEN;

	if (ip_pathmtu(s, ro, faddr, scope, &ifp) == 0 || ifp == NULL ||
	    ifp->if_mtu <= hdr) {
		return in_is4(faddr) ? TCP_MSS4 : TCP_MSS6;
	}
	return (uint16_t)u32min(ifp->if_mtu - hdr, 65535);
}

/* Enough for the largest receive buffer there may be. */
uint8_t
tcp_wscale_offer(const struct tcp_state *tcp)
{
	uint64_t max = u64max((uint64_t)TCPTUN(tcp, autorcvbuf_max),
	    (uint64_t)tcp->tcs_stack->s_so->sos_sb_max);
	uint8_t n = 0;

	while (n < TCP_WSCALEMAX && ((uint64_t)TCP_WINMAX << n) < max) {
		n++;
	}
	return n;
}

void
tcp_synoptions(struct tcpcb *tp, const struct tcpopt *to)
{
	struct tcp_state *tcp = tp->t_tcp;

	if ((to->to_flags & TOF_WSCALE) && (tp->t_flags & TF_REQ_SCALE)) {
		tp->t_flags |= TF_RCVD_SCALE;
		tp->t_sndscale = to->to_wscale;
		tp->t_rcvscale = tp->t_reqscale;
	}
	if ((to->to_flags & TOF_TS) && (tp->t_flags & TF_REQ_TS)) {
		tp->t_flags |= TF_RCVD_TS;
		tp->t_tsrecent = to->to_tsval;
		tp->t_tsrecent_age = tp->t_stack->s_now;
	}
	if ((to->to_flags & TOF_SACKOK) && TCPTUN(tcp, sack)) {
		tp->t_flags |= TF_SACK_PERMIT;
	}
	if (to->to_flags & TOF_MSS) {
		tp->t_peermss =
		    u32max(to->to_mss, (uint32_t)TCPTUN(tcp, minmss));
	}
	tcp_mss_update(tp);
}

bool
tcp_established(struct tcpcb *tp)
{
	tcp_setstate(tp, TCPS_ESTABLISHED);
	TCPSTAT_INC(tp->t_tcp, connects);
	tcp_timer_stop(tp, TCPT_KEEP);
	tcp_mss_update(tp);
	tp->snd_cwnd = cc_initwnd(tp);
	tp->t_quickacks = (uint8_t)TCPTUN(tp->t_tcp, quickack_start);
	tp->t_rcvqtime = tp->t_stack->s_now;
	tp->t_rcvqspace = tp->t_maxseg * 10;
	tp->t_softerror = 0;
	soisconnected(tp->t_so);
	tcp_keep_arm(tp);
	if (tp->t_flags & TF_NEEDFIN) {
		tp->t_flags &= ~TF_NEEDFIN;
		return tcp_usrclosed(tp);
	}
	return true;
}

/* ---- challenge ACKs (RFC 5961 7) ---- */

/* The limit over all connections varies, or it could be probed from outside
 * (CVE-2016-5696). */
static bool
tcp_challenge_global(struct tcp_state *tcp)
{
	uint64_t sec = tcp->tcs_stack->s_now / NSEC_PER_SEC;
	int64_t limit = TCPTUN(tcp, challenge_limit);

	if (sec != tcp->tcs_challenge_sec || tcp->tcs_challenge_left < 0) {
		tcp->tcs_challenge_sec = sec;
		tcp->tcs_challenge_left = (limit + 1) / 2 +
		    (int64_t)(stack_random(tcp->tcs_stack) %
			(uint64_t)(limit + 1));
	}
	if (tcp->tcs_challenge_left == 0) {
		return false;
	}
	tcp->tcs_challenge_left--;
	return true;
}

bool
tcp_challenge_ok(struct tcp_state *tcp, struct tcpcb *tp)
{
	uint32_t sec = (uint32_t)(tcp->tcs_stack->s_now / NSEC_PER_SEC) + 1;

	if (tp != NULL) {
		if (tp->t_challengesec != sec) {
			tp->t_challengesec = sec;
			tp->t_challenges = 0;
		}
		if (tp->t_challenges >= TCPTUN(tcp, challenge_percon)) {
			TCPSTAT_INC(tcp, challengelimited);
			return false;
		}
		tp->t_challenges++;
	}
	if (!tcp_challenge_global(tcp)) {
		TCPSTAT_INC(tcp, challengelimited);
		return false;
	}
	return true;
}

/* ---- segments outside a connection ---- */

void
tcp_reply(struct stack *s, const struct tcpreply *tr)
{
	uint32_t hdrlen = TCP_HDRLEN + tr->tr_optlen;
	struct ip_outargs ioa = {
		.ioa_src = tr->tr_laddr,
		.ioa_dst = tr->tr_faddr,
		.ioa_scope = tr->tr_scope,
		.ioa_proto = IPPROTO_TCP,
		.ioa_ttl = tr->tr_ttl != 0 ? tr->tr_ttl : 64,
		.ioa_tos = tr->tr_tos,
		.ioa_flags = IPO_DF | (tr->tr_freebind ? IPO_FREEBIND : 0),
	};
	struct mbuf *m = m_gethdr(s->s_mb, MT_HEADER);
	uint16_t sum;
	uint8_t *th;

	if (m == NULL) {
		TCPSTAT_INC(s->s_tcp, sndfail);
		return;
	}
	m->m_data += MAX_HDR;
	m->m_len = m->m_pkthdr.len = hdrlen;
	m->m_pkthdr.proto = IPPROTO_TCP;
	m->m_pkthdr.svc = SVC_CTL;
	th = mtod(m, uint8_t *);
	be16put(th + TH_OFF_SPORT, tr->tr_lport);
	be16put(th + TH_OFF_DPORT, tr->tr_fport);
	be32put(th + TH_OFF_SEQ, tr->tr_seq);
	be32put(th + TH_OFF_ACK, tr->tr_flags & TH_ACK ? tr->tr_ack : 0);
	th[TH_OFF_DOFF] = (uint8_t)(hdrlen / 4 << 4);
	th[TH_OFF_FLAGS] = tr->tr_flags;
	be16put(th + TH_OFF_WIN, tr->tr_wnd);
	be16put(th + TH_OFF_URP, 0);
	memcpy(th + TCP_HDRLEN, tr->tr_opt, tr->tr_optlen);
	sum = in_pseudo(tr->tr_laddr, tr->tr_faddr, IPPROTO_TCP, hdrlen);
	memcpy(th + TH_OFF_SUM, &sum, sizeof(sum));
	m->m_pkthdr.csum_flags = CSUM_PARTIAL;
	m->m_pkthdr.csum_stuff = TH_OFF_SUM;
	TCPSTAT_INC(s->s_tcp, sndtotal);
	if (ip_output(s, m, &ioa) != 0) {
		TCPSTAT_INC(s->s_tcp, sndfail);
	}
}

void
tcp_reset_segment(struct stack *s, const struct tcpseg *sg)
{
	struct tcpreply tr = {
		.tr_laddr = &sg->sg_laddr,
		.tr_faddr = &sg->sg_faddr,
		.tr_lport = sg->sg_lport,
		.tr_fport = sg->sg_fport,
		.tr_freebind = true,
	};

	if (sg->sg_flags & TH_RST) {
		return;
	}
	if (sg->sg_flags & TH_ACK) {
		tr.tr_seq = sg->sg_ack;
		tr.tr_flags = TH_RST;
	} else {
		tr.tr_ack = sg->sg_seq + sg->sg_len +
		    ((sg->sg_flags & TH_SYN) != 0) +
		    ((sg->sg_flags & TH_FIN) != 0);
		tr.tr_flags = TH_RST | TH_ACK;
	}
	if (in_islinklocal6(&sg->sg_faddr) && sg->sg_ifp != NULL) {
		tr.tr_scope = sg->sg_ifp->if_index;
	}
	TCPSTAT_INC(s->s_tcp, sndrst);
	tcp_reply(s, &tr);
}

/* ---- the protocol in a stack ---- */

/* clang-format off */
static const struct sysctl_def tcp_tunables[] = {
#define X(name, def, min, max, doc)					\
	{ "net.inet.tcp." #name,					\
	  offsetof(struct tcp_state, tcs_tun.tt_##name), def, min, max, doc },
	TCP_TUNABLES(X)
#undef X
};

static const struct stat_def tcp_counters[] = {
#define X(name) { "tcp." #name, offsetof(struct tcp_state, tcs_stat.ts_##name) },
	TCP_STATS(X)
#undef X
#define X(name) { "tcp.drop." #name, offsetof(struct tcp_state, tcs_stat.td_##name) },
	TCP_DROPS(X)
#undef X
};
/* clang-format on */

int
tcp_init(struct stack *s)
{
	struct tcp_state *tcp = calloc(1, sizeof(*tcp));
	int error;

	if (tcp == NULL) {
		return ENOMEM;
	}
	tcp->tcs_stack = s;
	tcp->tcs_challenge_left = -1;
	s->s_tcp = tcp;
	s->s_tcbinfo = in_pcbinfo_new(s, IPPROTO_TCP);
	if (s->s_tcbinfo == NULL) {
		return ENOMEM;
	}
	error = sysctl_register(s, tcp_tunables, nitems(tcp_tunables), tcp);
	if (error == 0) {
		error =
		    stat_register(s, tcp_counters, nitems(tcp_counters), tcp);
	}
	if (error == 0) {
		error = tcp_syncache_init(tcp);
	}
	if (error == 0) {
		error = tcp_tw_init(tcp);
	}
	return error;
}

void
tcp_fini(struct stack *s)
{
	struct tcp_state *tcp = s->s_tcp;

	if (tcp == NULL) {
		return;
	}
	tcp_syncache_fini(tcp);
	tcp_tw_fini(tcp);
	if (s->s_tcbinfo != NULL) {
		in_pcbinfo_free(s->s_tcbinfo);
		s->s_tcbinfo = NULL;
	}
	free(tcp);
	s->s_tcp = NULL;
}

/* Memory is short: out-of-order data can come again (RFC 2018 8 allows it),
 * half-open connections, too. */
void
tcp_drain(struct stack *s)
{
	struct inpcb *inp;

	LIST_FOREACH (inp, &s->s_tcbinfo->ipi_list, inp_list) {
		if (inp->inp_ppcb != NULL) {
			tcp_reass_free(intotcpcb(inp));
		}
	}
	tcp_syncache_drain(s->s_tcp);
}

void
tcp_sockinfo(struct socket *so, struct bsd_sockinfo *out)
{
	const struct tcpcb *tp = sototcpcb(so);

	if (tp == NULL) {
		out->state = TCPS_CLOSED;
		return;
	}
	out->state = tp->t_state;
	out->rxbytes = tp->t_rcvbytes;
	out->txbytes = tp->t_sentbytes;
	out->rexmt = tp->t_rexmitpack;
	out->srtt_ns = tp->t_srtt;
	out->cwnd = tp->snd_cwnd;
	snprintf(out->timer, sizeof(out->timer), "%s", tcp_timer_name(tp));
}
