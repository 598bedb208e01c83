/*
 * tcp_ecn.c - explicit congestion notification (RFC 3168 6.1).
 *
 * The receiver echoes a mark (ECE) in every segment until the sender says that
 * it has cut its window (CWR); the sender does that at most once for each
 * window of data, as for a loss, but sends nothing again. Only payload that
 * was not sent before is sent as ECN-capable. A SYN that is sent again does not
 * ask any more: something on the way may not like the question.
 */
#include "bsdcore/netinet/cc/cc.h"
#include "bsdcore/netinet/ip.h"

bool
tcp_ecn_isce(const struct mbuf *m)
{
	const uint8_t *ip = m->m_data;
	unsigned ecn = ip[0] >> 4 == 4 ? ip[1] : (unsigned)ip[1] >> 4;

	return (ecn & IPTOS_ECN_MASK_) == IPTOS_ECN_CE_;
}

bool
tcp_ecn_offered(const struct tcp_state *tcp, const struct tcpseg *sg)
{
	return TCPTUN(tcp, ecn) != 0 &&
	    (sg->sg_flags & (TH_ECE_ | TH_CWR_)) == (TH_ECE_ | TH_CWR_);
}

void
tcp_ecn_on(struct tcpcb *tp)
{
	tp->t_flags |= TF_ECN;
	TCPSTAT_INC(tp->t_tcp, ecn_on);
}

void
tcp_ecn_synsent(struct tcpcb *tp, const struct tcpseg *sg)
{
	/* Both set is the question come back, from somebody who copies. */
	if ((tp->t_flags & TF_ECNASKED) && (sg->sg_flags & TH_ACK) &&
	    (sg->sg_flags & (TH_ECE_ | TH_CWR_)) == TH_ECE_) {
		tcp_ecn_on(tp);
	}
}

/* Once for each window: what was out when the last answer was given has to be
 * acknowledged first. */
static void
tcp_ecn_react(struct tcpcb *tp, const struct tcpseg *sg)
{
	if (!SEQ_GT(sg->sg_ack, tp->t_ecnrecover) || tcp_in_recovery(tp) ||
	    SEQ_GT(sg->sg_ack, tp->snd_max)) {
		return;
	}
	tp->t_cc->cc_loss(tp, tp->snd_max - tp->snd_una);
	tp->snd_cwnd = u32min(tp->snd_cwnd, tp->snd_ssthresh);
	tp->t_ecnrecover = tp->snd_max;
	tp->t_flags |= TF_ECNCWR;
	TCPSTAT_INC(tp->t_tcp, ecn_ece);
}

void
tcp_ecn_input(struct tcpcb *tp, const struct tcpseg *sg)
{
	if ((tp->t_flags & TF_ECN) == 0) {
		return;
	}
	if (sg->sg_flags & TH_CWR_) {
		tp->t_flags &= ~TF_ECNECHO;
	}
	if (sg->sg_ce && sg->sg_len > 0) {
		tp->t_flags |= TF_ECNECHO | TF_ACKNOW;
		TCPSTAT_INC(tp->t_tcp, ecn_ce);
	}
	if (sg->sg_flags & TH_ECE_) {
		tcp_ecn_react(tp, sg);
	}
}

uint8_t
tcp_ecn_flags(struct tcpcb *tp, uint8_t flags, bool fresh)
{
	uint8_t ecn = 0;

	if (flags & TH_SYN) {
		if (flags & TH_ACK) {
			return tp->t_flags & TF_ECN ? TH_ECE_ : 0;
		}
		tp->t_flags &= ~TF_ECNASKED;
		if (TCPTUN(tp->t_tcp, ecn) == 1 && tp->t_rxtshift == 0) {
			tp->t_flags |= TF_ECNASKED;
			ecn = TH_ECE_ | TH_CWR_;
		}
		return ecn;
	}
	if ((tp->t_flags & TF_ECN) == 0) {
		return 0;
	}
	if (tp->t_flags & TF_ECNECHO) {
		ecn |= TH_ECE_;
	}
	if (fresh && (tp->t_flags & TF_ECNCWR)) {
		tp->t_flags &= ~TF_ECNCWR;
		ecn |= TH_CWR_;
		TCPSTAT_INC(tp->t_tcp, ecn_cwr);
	}
	return ecn;
}

uint8_t
tcp_ecn_tos(const struct tcpcb *tp, uint8_t tos, bool fresh)
{
	/* The bits are ours, whatever IP_TOS says (Linux). */
	tos &= (uint8_t)~IPTOS_ECN_MASK_;
	return fresh && (tp->t_flags & TF_ECN) ? tos | IPTOS_ECN_ECT0_ : tos;
}
