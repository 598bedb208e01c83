/*
 * cc_cubic.c - CUBIC (RFC 9438), in integers.
 *
 *	W(t) = C (t - K)^3 + W_max,	K = cbrt((W_max - cwnd_epoch) / C)
 *
 * with C = 0.4 segments/s^3 and beta = 0.7. Windows are bytes, times are ms.
 * Beside it runs W_est, what Reno would have (4.3); the larger one counts.
 */
#include "bsdcore/netinet/cc/cc.h"

#define CUBIC_BETA_NUM 7u /* over 10 */
#define CUBIC_MAXDT 30000 /* ms; keeps the cube in 64 bits */

/* The integer cube root. */
static uint32_t
cubic_root(uint64_t x)
{
	uint64_t y = 0, b;

	for (int s = 63; s >= 0; s -= 3) {
		y <<= 1;
		b = 3 * y * (y + 1) + 1;
		if ((x >> s) >= b) {
			x -= b << s;
			y++;
		}
	}
	return (uint32_t)y;
}

static void
cubic_init(struct tcpcb *tp)
{
	memset(&tp->t_ccd.ccd_cubic, 0, sizeof(tp->t_ccd.ccd_cubic));
}

/* A stage of growth begins at the present window (4.2, 4.8). */
static void
cubic_epoch(struct tcpcb *tp, struct cubic *cu)
{
	uint64_t diff;

	cu->cu_epoch = u64max(tp->t_stack->s_now, 1);
	cu->cu_acked = cu->cu_estacked = 0;
	cu->cu_west = tp->snd_cwnd;
	if (cu->cu_wmax <= tp->snd_cwnd) {
		cu->cu_wmax = tp->snd_cwnd;
		cu->cu_k = 0;
		return;
	}
	/* ms: cbrt(segments / 0.4 s^-3) * 1000. */
	diff = cu->cu_wmax - tp->snd_cwnd;
	cu->cu_k = cubic_root(diff * 2500000000ull / tp->t_maxseg);
}

/* W_cubic at ms after the epoch, in bytes. */
static uint32_t
cubic_window(const struct tcpcb *tp, const struct cubic *cu, uint64_t ms)
{
	int64_t dt = (int64_t)u64min(ms, 1u << 30) - (int64_t)cu->cu_k;
	int64_t w;

	if (dt > CUBIC_MAXDT) {
		dt = CUBIC_MAXDT;
	} else if (dt < -CUBIC_MAXDT) {
		dt = -CUBIC_MAXDT;
	}
	w = dt * dt * dt / 1000000 * 4 * (int64_t)tp->t_maxseg / 10000;
	w += cu->cu_wmax;
	if (w < (int64_t)(2 * tp->t_maxseg)) {
		return 2 * tp->t_maxseg;
	}
	return w > (1 << 30) ? 1u << 30 : (uint32_t)w;
}

/* 4.3: alpha = 3 (1 - beta) / (1 + beta) = 9/17 of a segment a window, and a
 * whole one once back at the window before the loss. */
static void
cubic_reno(struct tcpcb *tp, struct cubic *cu, uint32_t acked)
{
	uint32_t step = tp->t_maxseg;

	if (cu->cu_west < cu->cu_wprior) {
		step = tp->t_maxseg * 9 / 17;
	}
	cu->cu_estacked += acked;
	while (cu->cu_estacked >= tp->snd_cwnd) {
		cu->cu_estacked -= tp->snd_cwnd;
		cu->cu_west += step;
	}
}

static void
cubic_ack(struct tcpcb *tp, uint32_t acked)
{
	struct cubic *cu = &tp->t_ccd.ccd_cubic;
	uint64_t ms, grow;
	uint32_t target;

	acked = cc_slowstart(tp, acked);
	if (acked == 0) {
		return;
	}
	if (cu->cu_epoch == 0) {
		cubic_epoch(tp, cu);
	}
	cubic_reno(tp, cu, acked);
	ms = (tp->t_stack->s_now - cu->cu_epoch + tp->t_srtt) / NSEC_PER_MSEC;
	target = cubic_window(tp, cu, ms);
	if (target < cu->cu_west) {
		tp->snd_cwnd = u32max(tp->snd_cwnd, cu->cu_west);
		return;
	}
	/* 4.4: (target - cwnd)/cwnd of a segment for each one acknowledged,
	 * at most half a window a round trip. */
	target = u32min(target, tp->snd_cwnd + tp->snd_cwnd / 2);
	if (target <= tp->snd_cwnd) {
		return;
	}
	grow = (uint64_t)(target - tp->snd_cwnd) * acked + cu->cu_acked;
	cu->cu_acked = (uint32_t)(grow % tp->snd_cwnd);
	tp->snd_cwnd += (uint32_t)(grow / tp->snd_cwnd);
}

static void
cubic_loss(struct tcpcb *tp, uint32_t flight)
{
	struct cubic *cu = &tp->t_ccd.ccd_cubic;
	uint32_t cwnd = tp->snd_cwnd;

	cu->cu_wprior = cwnd;
	if (cwnd < cu->cu_wmax) {
		/* 4.7, fast convergence: leave room for newcomers. */
		cu->cu_wmax = (uint32_t)((uint64_t)cwnd * 17 / 20);
	} else {
		cu->cu_wmax = cwnd;
	}
	cu->cu_epoch = 0;
	tp->snd_ssthresh =
	    u32max((uint32_t)((uint64_t)flight * CUBIC_BETA_NUM / 10),
		2 * tp->t_maxseg);
}

static void
cubic_reset(struct tcpcb *tp)
{
	tp->t_ccd.ccd_cubic.cu_epoch = 0;
}

const struct cc_algo cc_cubic = {
	.cc_name = "cubic",
	.cc_init = cubic_init,
	.cc_ack = cubic_ack,
	.cc_loss = cubic_loss,
	.cc_reset = cubic_reset,
};
