/*
 * cc_ledbat.c - a background sender that gives way (RFC 6817, with the gain
 * and the multiplicative decrease of LEDBAT++).
 *
 * Queueing delay is the least of the last few round trips above the least of
 * the last minutes. Below the target the window grows by a part of a segment
 * for each round trip, above it shrinks in proportion to the excess, at most by
 * half: long before a queue that others stand in overflows.
 *
 * Round trips serve instead of one-way delays, as in LEDBAT++; its periodic
 * slowdowns are not made, so the base is as good as the quietest moment of the
 * last LEDBAT_MINUTES.
 */
#include "bsdcore/netinet/cc/cc.h"
#include "bsdcore/netinet/in_tclass.h"

#define LEDBAT_MAXGAIN 16u
#define LEDBAT_MINWND 2u /* segments */

static uint32_t
ledbat_us(uint64_t ns)
{
	return (uint32_t)u64min(u64max(ns / NSEC_PER_USEC, 1), UINT32_MAX);
}

static void
ledbat_init(struct tcpcb *tp)
{
	struct ledbat *lb = &tp->t_ccd.ccd_ledbat;

	memset(lb, 0, sizeof(*lb));
	lb->lb_minute = tp->t_stack->s_now / (60 * NSEC_PER_SEC);
	if (tp->t_minrtt != 0) {
		lb->lb_base[0] = ledbat_us(tp->t_minrtt);
	}
}

static void
ledbat_rtt(struct tcpcb *tp, uint64_t rtt)
{
	struct ledbat *lb = &tp->t_ccd.ccd_ledbat;
	uint64_t minute = tp->t_stack->s_now / (60 * NSEC_PER_SEC);
	uint32_t us = ledbat_us(rtt);

	for (; lb->lb_minute < minute; lb->lb_minute++) {
		memmove(lb->lb_base + 1, lb->lb_base,
		    (LEDBAT_MINUTES - 1) * sizeof(lb->lb_base[0]));
		lb->lb_base[0] = us;
		if (minute - lb->lb_minute > LEDBAT_MINUTES) {
			lb->lb_minute = minute - LEDBAT_MINUTES - 1;
		}
	}
	if (lb->lb_base[0] == 0 || us < lb->lb_base[0]) {
		lb->lb_base[0] = us;
	}
	lb->lb_recent[lb->lb_next++ % LEDBAT_RECENT] = us;
}

/* The least of n, those not known yet (0) apart; 0: none is known. */
static uint32_t
ledbat_least(const uint32_t *v, int n)
{
	uint32_t least = 0;

	for (int i = 0; i < n; i++) {
		if (v[i] != 0 && (least == 0 || v[i] < least)) {
			least = v[i];
		}
	}
	return least;
}

/* Too much delay: once a round trip, in proportion. */
static void
ledbat_shrink(struct tcpcb *tp, uint32_t delay, uint32_t target)
{
	struct ledbat *lb = &tp->t_ccd.ccd_ledbat;
	uint64_t cut = (uint64_t)tp->snd_cwnd * (delay - target) / target;
	uint32_t least = LEDBAT_MINWND * tp->t_maxseg;

	if (tp->t_stack->s_now < lb->lb_cutat) {
		return;
	}
	lb->lb_cutat = tp->t_stack->s_now + tp->t_srtt;
	lb->lb_acked = 0;
	tp->snd_cwnd -= (uint32_t)u64min(cut, tp->snd_cwnd / 2);
	tp->snd_cwnd = u32max(tp->snd_cwnd, least);
	tp->snd_ssthresh = tp->snd_cwnd;
}

static void
ledbat_ack(struct tcpcb *tp, uint32_t acked)
{
	struct ledbat *lb = &tp->t_ccd.ccd_ledbat;
	uint32_t target = ledbat_us((uint64_t)tp->t_stack->s_qos->qs_bgtarget);
	uint32_t base = ledbat_least(lb->lb_base, LEDBAT_MINUTES);
	uint32_t recent = ledbat_least(lb->lb_recent, LEDBAT_RECENT);
	uint32_t delay = recent > base ? recent - base : 0, gain = 1;
	uint64_t step;

	if (base != 0) {
		gain = (uint32_t)u64min((2 * (uint64_t)target + base - 1) / base,
		    LEDBAT_MAXGAIN);
		gain = u32max(gain, 1);
	}
	if (delay > target) {
		ledbat_shrink(tp, delay, target);
		return;
	}
	if (tp->snd_cwnd < tp->snd_ssthresh) {
		if (delay > target / 4 * 3) {
			tp->snd_ssthresh = tp->snd_cwnd;
			return;
		}
		tp->snd_cwnd += acked / gain;
		return;
	}
	lb->lb_acked += acked;
	step = (uint64_t)tp->snd_cwnd * gain;
	while (lb->lb_acked >= step) {
		lb->lb_acked -= step;
		tp->snd_cwnd += tp->t_maxseg;
	}
}

static void
ledbat_loss(struct tcpcb *tp, uint32_t flight)
{
	tp->snd_ssthresh = u32max(flight / 2, LEDBAT_MINWND * tp->t_maxseg);
	tp->t_ccd.ccd_ledbat.lb_acked = 0;
}

static void
ledbat_reset(struct tcpcb *tp)
{
	tp->t_ccd.ccd_ledbat.lb_acked = 0;
}

const struct cc_algo cc_ledbat = {
	.cc_name = "ledbat",
	.cc_init = ledbat_init,
	.cc_ack = ledbat_ack,
	.cc_loss = ledbat_loss,
	.cc_reset = ledbat_reset,
	.cc_rtt = ledbat_rtt,
};
