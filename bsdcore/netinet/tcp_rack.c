/*
 * tcp_rack.c - loss by time instead of by counting (RFC 8985).
 *
 * RACK says: a segment is lost if one that was sent later has arrived, and it
 * has not although the path had time enough for a little reordering. The RFC
 * keeps a time for every segment; we keep times for the holes of the
 * scoreboard only, which is where the question is asked:
 *
 *	not sent again	later ones have arrived since sh_time;
 *			lost at sh_time + reo_wnd
 *	sent again	data beyond sh_rxmax, sent after it, have arrived;
 *			lost once more at sh_rxtime + srtt + reo_wnd
 *
 * sh_time is at or after the moment at which the RFC would begin to count, so
 * we are never hastier than it. reo_wnd is a quarter of the smallest round
 * trip, more after DSACKs say that we were too hasty, and nothing while the
 * path has never reordered and loss is plain (6.2 step 4).
 */
#include "bsdcore/netinet/tcp_var.h"

#define RACK_MINWND (2 * NSEC_PER_MSEC) /* on paths of next to no delay */
#define RACK_PERSIST 16 /* recoveries a larger window is kept for */

static bool
tcp_rack_on(const struct tcpcb *tp)
{
	return TCPTUN(tp->t_tcp, rack) != 0 && tp->t_srtt != 0;
}

bool
tcp_rack_countdups(const struct tcpcb *tp)
{
	return !tcp_rack_on(tp) || (tp->t_flags & TF_REORDER) == 0;
}

static uint64_t
tcp_rack_reownd(const struct tcpcb *tp)
{
	if ((tp->t_flags & TF_REORDER) == 0 &&
	    (tcp_in_recovery(tp) ||
		tp->t_dupacks >= (uint32_t)TCPTUN(tp->t_tcp, dupthresh))) {
		return 0;
	}
	return u64max(RACK_MINWND,
	    u64min(tp->t_srtt, (tp->t_reowndmult + 1) * (tp->t_minrtt / 4)));
}

void
tcp_rack_mark(struct tcpcb *tp)
{
	uint64_t now = tp->t_stack->s_now, wnd, due, next = CALLOUT_NEVER;
	struct sackhole *sh;

	if (!tcp_rack_on(tp)) {
		return;
	}
	wnd = tcp_rack_reownd(tp);
	TAILQ_FOREACH (sh, &tp->t_holes, sh_link) {
		if (!sh->sh_lost) {
			due = sh->sh_time + wnd;
			if (due <= now) {
				TCPSTAT_INC(tp->t_tcp, rack_lost);
				sh->sh_lost = true;
				continue;
			}
		} else if (sh->sh_rxmit != sh->sh_start &&
		    SEQ_GT(tp->snd_fack, sh->sh_rxmax)) {
			due = sh->sh_rxtime + tp->t_srtt + wnd;
			if (due <= now) {
				TCPSTAT_INC(tp->t_tcp, rack_relost);
				sh->sh_rxmit = sh->sh_start;
				continue;
			}
		} else {
			continue;
		}
		next = u64min(next, due);
	}
	if (next != CALLOUT_NEVER) {
		tcp_timer_arm(tp, TCPT_PTO, next);
	} else if (tp->t_nholes != 0) {
		tcp_timer_stop(tp, TCPT_PTO);
	}
}

void
tcp_rack_reordered(struct tcpcb *tp)
{
	TCPSTAT_INC(tp->t_tcp, reordered);
	tp->t_flags |= TF_REORDER;
}

/* Something was sent again for nothing: wait longer, by a quarter of the
 * round trip at a time, at most once in one (6.2 step 3). */
void
tcp_rack_dsack(struct tcpcb *tp)
{
	if (SEQ_LT(tp->snd_una, tp->t_reodsack)) {
		return;
	}
	tp->t_reodsack = tp->snd_max;
	tp->t_reopersist = RACK_PERSIST;
	if (tp->t_reowndmult < UINT8_MAX) {
		tp->t_reowndmult++;
	}
}

void
tcp_rack_recovered(struct tcpcb *tp)
{
	if (tp->t_reopersist > 0 && --tp->t_reopersist == 0) {
		tp->t_reowndmult = 0;
	}
}
