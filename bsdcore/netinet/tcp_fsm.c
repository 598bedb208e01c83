/*
 * tcp_fsm.c - the states of a connection, and the only code that changes them.
 *
 * Rule 1: t_state is written by tcp_setstate() and by nothing else.
 * Rule 2: an edge missing from tcp_edge[] is our bug, never the peer's.
 */
#include "bsdcore/netinet/tcp_var.h"

#define TO(s) (1u << TCPS_##s)

/* clang-format off */
static const uint16_t tcp_edge[] = {			/* RFC 9293, 3.3.2 */
	[TCPS_CLOSED]       = TO(LISTEN) | TO(SYN_SENT) | TO(SYN_RECEIVED),	/* child */
	[TCPS_LISTEN]       = TO(CLOSED),		/* children leave from CLOSED */
	[TCPS_SYN_SENT]     = TO(ESTABLISHED) | TO(SYN_RECEIVED) | TO(CLOSED),
	[TCPS_SYN_RECEIVED] = TO(ESTABLISHED) | TO(CLOSED),
	[TCPS_ESTABLISHED]  = TO(FIN_WAIT_1) | TO(CLOSE_WAIT) | TO(CLOSED),
	[TCPS_CLOSE_WAIT]   = TO(LAST_ACK) | TO(CLOSED),
	[TCPS_FIN_WAIT_1]   = TO(FIN_WAIT_2) | TO(CLOSING) | TO(TIME_WAIT) | TO(CLOSED),
	[TCPS_CLOSING]      = TO(TIME_WAIT) | TO(CLOSED),
	[TCPS_LAST_ACK]     = TO(CLOSED),
	[TCPS_FIN_WAIT_2]   = TO(TIME_WAIT) | TO(CLOSED),
	[TCPS_TIME_WAIT]    = TO(CLOSED),
};

static const char *const tcp_names[] = {
	[TCPS_CLOSED] = "CLOSED", [TCPS_LISTEN] = "LISTEN",
	[TCPS_SYN_SENT] = "SYN_SENT", [TCPS_SYN_RECEIVED] = "SYN_RECEIVED",
	[TCPS_ESTABLISHED] = "ESTABLISHED", [TCPS_CLOSE_WAIT] = "CLOSE_WAIT",
	[TCPS_FIN_WAIT_1] = "FIN_WAIT_1", [TCPS_CLOSING] = "CLOSING",
	[TCPS_LAST_ACK] = "LAST_ACK", [TCPS_FIN_WAIT_2] = "FIN_WAIT_2",
	[TCPS_TIME_WAIT] = "TIME_WAIT",
};
/* clang-format on */
CTASSERT(nitems(tcp_edge) == TCP_NSTATES);
CTASSERT(nitems(tcp_names) == TCP_NSTATES);

bool
tcp_edge_legal(enum tcp_fsm from, enum tcp_fsm to)
{
	return (tcp_edge[from] & (1u << to)) != 0;
}

const char *
tcp_statename(enum tcp_fsm st)
{
	return tcp_names[st];
}

void
tcp_setstate(struct tcpcb *tp, enum tcp_fsm to)
{
	KASSERT(tcp_edge_legal((enum tcp_fsm)tp->t_state, to));
	tp->t_state = (uint8_t)to;
	tcp_invariants(tp);
}

#ifdef XSOCK_DEBUG
static void
tcp_invariant_holes(const struct tcpcb *tp)
{
	const struct sackhole *sh;
	uint32_t prev = tp->snd_una, n = 0;

	TAILQ_FOREACH (sh, &tp->t_holes, sh_link) {
		KASSERT(n != 0 || sh->sh_start == tp->snd_una);
		KASSERT(SEQ_GEQ(sh->sh_start, prev));
		KASSERT(SEQ_LT(sh->sh_start, sh->sh_end));
		KASSERT(SEQ_GEQ(sh->sh_rxmit, sh->sh_start));
		KASSERT(SEQ_LEQ(sh->sh_rxmit, sh->sh_end));
		prev = sh->sh_end;
		n++;
	}
	KASSERT(n == tp->t_nholes);
	KASSERT(n == 0 || SEQ_LEQ(prev, tp->snd_fack));
	KASSERT(n == 0 || SEQ_LEQ(tp->snd_fack, tp->snd_max));
}

static void
tcp_invariant_segq(const struct tcpcb *tp)
{
	const struct tseg *tq;
	uint32_t prev = tp->rcv_nxt, n = 0;

	TAILQ_FOREACH (tq, &tp->t_segq, tq_link) {
		KASSERT(tq->tq_len > 0);
		KASSERT(SEQ_GT(tq->tq_seq, prev));
		prev = tq->tq_seq + tq->tq_len;
		n++;
	}
	KASSERT(n == tp->t_segqlen);
}

void
tcp_invariants(const struct tcpcb *tp)
{
	KASSERT(tp->t_state < TCP_NSTATES);
	KASSERT(!(tcp_timer_active(tp, TCPT_REXMT) &&
	    tcp_timer_active(tp, TCPT_PERSIST)));
	if (tp->t_state == TCPS_CLOSED || tp->t_state == TCPS_LISTEN) {
		return;
	}
	KASSERT(SEQ_LEQ(tp->snd_una, tp->snd_nxt));
	KASSERT(SEQ_LEQ(tp->snd_nxt, tp->snd_max));
	/* A SYN and a FIN take a number each beside the buffered bytes. */
	KASSERT(tp->t_so == NULL ||
	    tp->snd_max - tp->snd_una <= tp->t_so->so_snd.sb_cc + 2);
	KASSERT(tp->snd_cwnd >= 1 || tp->t_maxseg == 0);
	if (TCPS_HAVERCVDSYN(tp->t_state)) {
		KASSERT(SEQ_LEQ(tp->t_lastacksent, tp->rcv_nxt));
		tcp_invariant_segq(tp);
	}
	tcp_invariant_holes(tp);
}
#else
void
tcp_invariants(const struct tcpcb *tp)
{
	(void)tp;
}
#endif
