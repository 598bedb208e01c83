/*
 * tcp_icmp.c - what ICMP errors do to a connection (RFC 5927).
 *
 * An error counts only if the segment it quotes is one that is out now: its
 * sequence number lies in [snd_una, snd_max). Even then an established
 * connection is not ended by it, only told (MUST-56, RFC 5461 for the hard
 * ones); opening ones are. Source Quench is ignored (RFC 6633).
 */
#include "bsdcore/net/route.h"
#include "bsdcore/netinet/tcp_var.h"

/* RFC 1191 7.1, for routers that do not say. */
static uint32_t
tcp_plateau(uint32_t mtu)
{
	static const uint16_t plateau[] = { 32000, 17914, 8166, 4352, 2002,
		1492, 1006, 508 };

	for (size_t i = 0; i < nitems(plateau); i++) {
		if (plateau[i] < mtu) {
			return plateau[i];
		}
	}
	return 0;
}

/* A packet was too big for the path: send what is out again, in smaller
 * pieces, at once. It was not congestion, so the window stays. */
static void
tcp_msgsize(struct tcpcb *tp, uint32_t mtu)
{
	const union inaddr *faddr = &tp->t_inp->inp_faddr;
	uint32_t floor =
	    in_is4(faddr) ? (uint32_t)TCPTUN(tp->t_tcp, minpmtu) : 1280;
	uint32_t old = tp->t_mss;

	if (mtu == 0) {
		mtu = tcp_plateau(tp->t_pmtu);
	}
	mtu = u32max(mtu, floor);
	if (mtu >= tp->t_pmtu) {
		return;
	}
	rt_setpmtu(tp->t_stack, faddr, mtu);
	tcp_mss_update(tp);
	if (tp->t_mss >= old || !TCPS_HAVEESTABLISHED(tp->t_state)) {
		return;
	}
	TCPSTAT_INC(tp->t_tcp, mturesent);
	tp->snd_cwnd = u32max(tp->snd_cwnd, tp->t_maxseg);
	tp->snd_recover = tp->snd_max;
	tp->t_rtttime = 0;
	if (!tcp_sack_on(tp) || tcp_sack_alllost(tp) != 0) {
		tcp_sack_free(tp);
		tp->snd_nxt = tp->snd_una;
	} else {
		tp->t_flags |= TF_RTORECOVERY;
	}
	(void)tcp_output(tp);
}

static void
tcp_unreach(struct tcpcb *tp, int error)
{
	bool opening = tp->t_state == TCPS_SYN_SENT ||
	    (tp->t_state == TCPS_SYN_RECEIVED && (tp->t_flags & TF_PASSIVE) == 0);

	if (opening && TCPTUN(tp->t_tcp, icmp_may_abort)) {
		tcp_drop(tp, error);
	} else {
		tp->t_softerror = error;
	}
}

/* The errno of a command, 0: none of our business. */
static int
tcp_icmperrno(int cmd)
{
	switch (cmd) {
	case PRC_UNREACH_NET:
		return ENETUNREACH;
	case PRC_UNREACH_HOST:
	case PRC_UNREACH_ADMIN_PROHIB:
	case PRC_TIMXCEED_INTRANS:
	case PRC_TIMXCEED_REASS:
		return EHOSTUNREACH;
	case PRC_UNREACH_PROTOCOL:
		return ENOPROTOOPT;
	case PRC_UNREACH_PORT:
		return ECONNREFUSED;
	case PRC_UNREACH_SRCFAIL:
		return EOPNOTSUPP;
	case PRC_PARAMPROB:
		return EPROTO;
	default:
		return 0;
	}
}

void
tcp_ctlinput(struct stack *s, int cmd, const struct ctlparam *cp)
{
	struct inpcb *inp;
	struct tcpcb *tp;
	uint32_t seq;
	int error;

	if (cp->cp_thlen < 8) {
		return;
	}
	inp = in_pcblookup(s->s_tcbinfo, cp->cp_faddr,
	    be16get(cp->cp_th + TH_OFF_DPORT), cp->cp_laddr,
	    be16get(cp->cp_th + TH_OFF_SPORT), false, NULL);
	error = tcp_icmperrno(cmd);
	if (inp == NULL || inp->inp_ppcb == NULL) {
		if (error != 0) {
			tcp_syncache_unreach(s->s_tcp, cp);
		}
		return;
	}
	tp = intotcpcb(inp);
	seq = be32get(cp->cp_th + TH_OFF_SEQ);
	if (tp->t_state < TCPS_SYN_SENT || SEQ_LT(seq, tp->snd_una) ||
	    SEQ_GEQ(seq, tp->snd_max)) {
		TCPDROP(s->s_tcp, icmpseq);
		return;
	}
	if (cmd == PRC_MSGSIZE) {
		tcp_msgsize(tp, cp->cp_mtu);
	} else if (error != 0) {
		tcp_unreach(tp, error);
	}
}
