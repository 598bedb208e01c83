/*
 * cc_newreno.c - slow start and additive increase (RFC 5681), and what all
 * algorithms share.
 */
#include "bsdcore/netinet/cc/cc.h"

static void
newreno_init(struct tcpcb *tp)
{
	tp->t_ccd.ccd_acked = 0;
}

uint32_t
cc_slowstart(struct tcpcb *tp, uint32_t acked)
{
	uint32_t n;

	if (tp->snd_cwnd >= tp->snd_ssthresh) {
		return acked;
	}
	n = u32min(acked, tp->snd_ssthresh - tp->snd_cwnd);
	tp->snd_cwnd += n;
	return acked - n;
}

static void
newreno_ack(struct tcpcb *tp, uint32_t acked)
{
	uint32_t *credit = &tp->t_ccd.ccd_acked;

	acked = cc_slowstart(tp, acked);
	if (acked == 0) {
		return;
	}
	*credit += acked; /* one segment for each window's worth */
	while (*credit >= tp->snd_cwnd) {
		*credit -= tp->snd_cwnd;
		tp->snd_cwnd += tp->t_maxseg;
	}
}

static void
newreno_loss(struct tcpcb *tp, uint32_t flight)
{
	tp->snd_ssthresh = u32max(flight / 2, 2 * tp->t_maxseg);
	tp->t_ccd.ccd_acked = 0;
}

const struct cc_algo cc_newreno = {
	.cc_name = "newreno",
	.cc_init = newreno_init,
	.cc_ack = newreno_ack,
	.cc_loss = newreno_loss,
	.cc_reset = newreno_init,
};

const struct cc_algo *
cc_byname(const char *name)
{
	if (strcmp(name, "cubic") == 0) {
		return &cc_cubic;
	}
	if (strcmp(name, "ledbat") == 0) {
		return &cc_ledbat;
	}
	/* Linux calls its NewReno "reno". */
	if (strcmp(name, "newreno") == 0 || strcmp(name, "reno") == 0) {
		return &cc_newreno;
	}
	return NULL;
}

const struct cc_algo *
cc_default(const struct tcp_state *tcp)
{
	return TCPTUN(tcp, cc) == 0 ? &cc_newreno : &cc_cubic;
}

void
cc_use(struct tcpcb *tp, const struct cc_algo *cc)
{
	tp->t_cc = cc;
	cc->cc_init(tp);
}

uint32_t
cc_initwnd(const struct tcpcb *tp)
{
	uint32_t n = (uint32_t)TCPTUN(tp->t_tcp, init_cwnd);

	/* A lost SYN: one segment (RFC 5681 3.1). */
	if (tp->t_flags & TF_SYNCWND) {
		return tp->t_maxseg;
	}
	return n * tp->t_maxseg;
}
