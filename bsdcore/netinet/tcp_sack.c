/*
 * tcp_sack.c - the scoreboard: what the peer has of what we sent (RFC 6675).
 *
 * It is kept as holes. Between snd_una and snd_fack everything is SACKed but
 * the holes; above snd_fack nothing is. So:
 *
 *	snd_una                          snd_fack       snd_max
 *	   |  hole  | SACKed | hole | SACKed |  not SACKed  |
 *
 * Invariants: holes are sorted, disjoint and not empty; the first starts at
 * snd_una; start <= rxmit <= end; no holes means snd_fack <= snd_una.
 * Data stay in the send buffer until acknowledged: the peer may forget what
 * it SACKed (RFC 2018 8), and shows it by acknowledging into a SACKed range.
 */
#include "bsdcore/netinet/tcp_var.h"

static struct sackhole *
sackhole_new(struct tcpcb *tp, struct sackhole *after, uint32_t start,
    uint32_t end)
{
	struct sackhole *sh;

	if (tp->t_nholes >= TCPTUN(tp->t_tcp, sack_maxholes)) {
		return NULL;
	}
	sh = malloc(sizeof(*sh));
	if (sh == NULL) {
		return NULL;
	}
	sh->sh_start = sh->sh_rxmit = start;
	sh->sh_end = end;
	sh->sh_lost = false;
	sh->sh_time = tp->t_stack->s_now;
	sh->sh_rxtime = 0;
	sh->sh_rxmax = tp->snd_max;
	if (after != NULL) {
		TAILQ_INSERT_AFTER(&tp->t_holes, after, sh, sh_link);
	} else {
		TAILQ_INSERT_TAIL(&tp->t_holes, sh, sh_link);
	}
	tp->t_nholes++;
	return sh;
}

static void
sackhole_free(struct tcpcb *tp, struct sackhole *sh)
{
	TAILQ_REMOVE(&tp->t_holes, sh, sh_link);
	tp->t_nholes--;
	free(sh);
}

void
tcp_sack_free(struct tcpcb *tp)
{
	struct sackhole *sh;

	while ((sh = TAILQ_FIRST(&tp->t_holes)) != NULL) {
		sackhole_free(tp, sh);
	}
	tp->snd_fack = tp->snd_una;
	tp->t_sackedbytes = 0;
	tp->t_pipe = 0;
}

/* Everything below ack has arrived. */
static void
sack_cumulative(struct tcpcb *tp, uint32_t ack)
{
	struct sackhole *sh;

	while ((sh = TAILQ_FIRST(&tp->t_holes)) != NULL &&
	    SEQ_LEQ(sh->sh_end, ack)) {
		if (SEQ_LT(sh->sh_rxmit, sh->sh_end)) {
			tcp_rack_reordered(tp);
		}
		sackhole_free(tp, sh);
	}
	if (SEQ_LEQ(tp->snd_fack, ack)) {
		tp->snd_fack = ack;
		return;
	}
	if (sh == NULL || SEQ_GT(sh->sh_start, ack)) {
		/* The first byte not acknowledged had been SACKed. */
		TCPSTAT_INC(tp->t_tcp, sack_reneged);
		while ((sh = TAILQ_FIRST(&tp->t_holes)) != NULL) {
			sackhole_free(tp, sh);
		}
		tp->snd_fack = ack;
		return;
	}
	if (SEQ_LT(sh->sh_rxmit, ack)) {
		tcp_rack_reordered(tp);
	}
	sh->sh_start = ack;
	sh->sh_rxmit = seq_max(sh->sh_rxmit, ack);
}

/* [start, end), all below snd_fack, has arrived: cut it out of the holes. A
 * split that finds no memory leaves the hole whole, which only costs a
 * retransmission. Answers the bytes that were holes. */
static uint32_t
sack_carve(struct tcpcb *tp, uint32_t start, uint32_t end)
{
	struct sackhole *sh, *next, *right;
	uint32_t n = 0;

	for (sh = TAILQ_FIRST(&tp->t_holes); sh != NULL; sh = next) {
		next = TAILQ_NEXT(sh, sh_link);
		if (SEQ_LEQ(sh->sh_end, start)) {
			continue;
		}
		if (SEQ_GEQ(sh->sh_start, end)) {
			break;
		}
		if (SEQ_LT(sh->sh_rxmit, seq_min(end, sh->sh_end))) {
			tcp_rack_reordered(tp);
		}
		if (SEQ_GEQ(sh->sh_start, start)) {
			n += seq_min(end, sh->sh_end) - sh->sh_start;
			if (SEQ_GEQ(end, sh->sh_end)) {
				sackhole_free(tp, sh);
				continue;
			}
			sh->sh_start = end;
			sh->sh_rxmit = seq_max(sh->sh_rxmit, end);
			continue;
		}
		if (SEQ_LT(end, sh->sh_end)) {
			right = sackhole_new(tp, sh, end, sh->sh_end);
			if (right == NULL) {
				continue;
			}
			right->sh_rxmit = seq_max(sh->sh_rxmit, end);
			right->sh_lost = sh->sh_lost;
			right->sh_time = sh->sh_time;
			right->sh_rxtime = sh->sh_rxtime;
			right->sh_rxmax = sh->sh_rxmax;
		}
		n += seq_min(end, sh->sh_end) - start;
		sh->sh_end = start;
		sh->sh_rxmit = seq_min(sh->sh_rxmit, start);
	}
	return n;
}

/* One block, inside [ack, snd_max]. */
static uint32_t
sack_block(struct tcpcb *tp, uint32_t start, uint32_t end)
{
	uint32_t n = 0;

	if (SEQ_LT(start, tp->snd_fack)) {
		n = sack_carve(tp, start, seq_min(end, tp->snd_fack));
		start = tp->snd_fack;
	}
	if (SEQ_GEQ(start, end)) {
		return n;
	}
	if (SEQ_GT(start, tp->snd_fack) &&
	    sackhole_new(tp, NULL, tp->snd_fack, start) == NULL) {
		return n;
	}
	n += end - start;
	tp->snd_fack = end;
	return n;
}

/* The first block says that data came twice (RFC 2883 4). */
static bool
sack_isdsack(const struct tcpopt *to, uint32_t ack)
{
	const struct sackblk *b = to->to_sacks;

	if (SEQ_LEQ(b[0].sb_end, ack)) {
		return true;
	}
	return to->to_nsacks > 1 && SEQ_GEQ(b[0].sb_start, b[1].sb_start) &&
	    SEQ_LEQ(b[0].sb_end, b[1].sb_end);
}

uint32_t
tcp_sack_update(struct tcpcb *tp, const struct tcpopt *to, uint32_t ack)
{
	struct sackblk v[TCP_MAXSACK], tmp;
	uint32_t n = 0, cnt = 0;

	if (tp->t_nholes == 0) {
		tp->snd_fack = ack;
	} else {
		sack_cumulative(tp, ack);
	}
	if ((to->to_flags & TOF_SACK) == 0) {
		return 0;
	}
	TCPSTAT_ADD(tp->t_tcp, sack_rcv_blocks, to->to_nsacks);
	if (sack_isdsack(to, ack)) {
		TCPSTAT_INC(tp->t_tcp, dsack_recvd);
		tcp_rack_dsack(tp);
	}
	for (int i = 0; i < to->to_nsacks; i++) {
		const struct sackblk *b = &to->to_sacks[i];

		/* Each bound against each: a block may be longer than half
		 * of all numbers, and then two comparisons prove nothing. */
		if (SEQ_LT(b->sb_start, b->sb_end) && SEQ_GT(b->sb_start, ack) &&
		    SEQ_LT(b->sb_start, tp->snd_max) &&
		    SEQ_GT(b->sb_end, ack) && SEQ_LEQ(b->sb_end, tp->snd_max)) {
			v[cnt++] = *b;
		}
	}
	/* Ascending, so that holes are appended in order. */
	for (uint32_t i = 1; i < cnt; i++) {
		for (uint32_t j = i;
		    j > 0 && SEQ_LT(v[j].sb_start, v[j - 1].sb_start); j--) {
			tmp = v[j];
			v[j] = v[j - 1];
			v[j - 1] = tmp;
		}
	}
	for (uint32_t i = 0; i < cnt; i++) {
		n += sack_block(tp, v[i].sb_start, v[i].sb_end);
	}
	return n;
}

/*
 * RFC 6675 4: a byte is lost if DupThresh SACKed ranges, or more than
 * DupThresh - 1 segments' worth of SACKed bytes, lie above it. The pipe is
 * what is neither SACKed nor lost, and what has been sent again.
 */
void
tcp_sack_setpipe(struct tcpcb *tp)
{
	struct sackhole *sh;
	uint32_t top = tp->snd_fack, above = 0, ranges = 0;
	uint32_t dup = (uint32_t)TCPTUN(tp->t_tcp, dupthresh);
	bool count = tcp_rack_countdups(tp);

	tcp_rack_mark(tp);
	tp->t_pipe = SEQ_GT(tp->snd_max, tp->snd_fack) ?
	    tp->snd_max - seq_max(tp->snd_fack, tp->snd_una) :
	    0;
	TAILQ_FOREACH_REVERSE (sh, &tp->t_holes, sackhead, sh_link) {
		if (top != sh->sh_end) {
			above += top - sh->sh_end;
			ranges++;
		}
		if (count &&
		    (ranges >= dup || above > (dup - 1) * tp->t_maxseg)) {
			sh->sh_lost = true;
		}
		if (!sh->sh_lost) {
			tp->t_pipe += sh->sh_end - sh->sh_start;
		}
		tp->t_pipe += sh->sh_rxmit - sh->sh_start;
		top = sh->sh_start;
	}
	tp->t_sackedbytes = above;
}

bool
tcp_sack_lost(const struct tcpcb *tp)
{
	const struct sackhole *sh = TAILQ_FIRST(&tp->t_holes);

	return sh != NULL && sh->sh_lost;
}

struct sackhole *
tcp_sack_nexthole(struct tcpcb *tp, bool lostonly)
{
	struct sackhole *sh;

	TAILQ_FOREACH (sh, &tp->t_holes, sh_link) {
		if (SEQ_LT(sh->sh_rxmit, sh->sh_end) &&
		    (sh->sh_lost || !lostonly)) {
			return sh;
		}
	}
	return NULL;
}

int
tcp_sack_alllost(struct tcpcb *tp)
{
	struct sackhole *sh;

	if (tp->t_nholes == 0) {
		tp->snd_fack = tp->snd_una;
	}
	if (SEQ_LT(tp->snd_fack, tp->snd_max)) {
		sh = TAILQ_LAST(&tp->t_holes, sackhead);
		if (sh != NULL && sh->sh_end == tp->snd_fack) {
			sh->sh_end = tp->snd_max;
		} else if (sackhole_new(tp, NULL, tp->snd_fack, tp->snd_max) ==
		    NULL) {
			return ENOMEM;
		}
		tp->snd_fack = tp->snd_max;
	}
	TAILQ_FOREACH (sh, &tp->t_holes, sh_link) {
		sh->sh_lost = true;
		sh->sh_rxmit = sh->sh_start;
	}
	tcp_sack_setpipe(tp);
	return 0;
}

void
tcp_sack_sent(struct tcpcb *tp, struct sackhole *sh, uint32_t end)
{
	tp->t_pipe += end - sh->sh_rxmit;
	sh->sh_rxmit = end;
	sh->sh_rxtime = tp->t_stack->s_now;
	sh->sh_rxmax = tp->snd_max;
}
