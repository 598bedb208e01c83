/*
 * tcp_reass.c - data that came out of order, and what to tell the peer of it.
 *
 * t_segq holds runs of consecutive bytes, sorted, disjoint, all above
 * rcv_nxt. What is there first stays: bytes that come again are cut off the
 * newcomer, so a peer cannot change its mind about data (RFC 9293 3.10.7.4).
 * Runs and the memory behind them are limited per connection; a segment over
 * the limit is dropped and comes again (SegmentSmack, CVE-2018-5390).
 */
#include "bsdcore/netinet/tcp_var.h"

static uint32_t
tseg_mem(const struct mbuf *m)
{
	uint32_t n = 0;

	for (; m != NULL; m = m->m_next) {
		n += MSIZE;
		if (m->m_flags & M_EXT) {
			n += m->m_ext->x_size;
		}
	}
	return n;
}

static void
tseg_free(struct tcpcb *tp, struct tseg *tq)
{
	TAILQ_REMOVE(&tp->t_segq, tq, tq_link);
	tp->t_segqlen--;
	tp->t_segqmem -= tq->tq_mem;
	m_freem(tq->tq_head);
	free(tq);
}

void
tcp_reass_free(struct tcpcb *tp)
{
	struct tseg *tq;

	while ((tq = TAILQ_FIRST(&tp->t_segq)) != NULL) {
		tseg_free(tp, tq);
	}
	tp->t_nrecent = 0;
}

/* The last run that starts at or before seq. Looked for from the end, where
 * the next one usually belongs. */
static struct tseg *
tseg_before(struct tcpcb *tp, uint32_t seq)
{
	struct tseg *tq;

	TAILQ_FOREACH_REVERSE (tq, &tp->t_segq, tseghead, tq_link) {
		if (SEQ_LEQ(tq->tq_seq, seq)) {
			return tq;
		}
	}
	return NULL;
}

/* Put m's bytes behind those of tq. */
static void
tseg_append(struct tcpcb *tp, struct tseg *tq, struct mbuf *m, uint32_t len,
    uint32_t mem)
{
	tq->tq_tail->m_next = m;
	tq->tq_tail = m_last(m);
	tq->tq_len += len;
	tq->tq_mem += mem;
	tp->t_segqmem += mem;
}

static struct tseg *
tseg_insert(struct tcpcb *tp, struct tseg *after, uint32_t seq, struct mbuf *m,
    uint32_t len, uint32_t mem)
{
	struct tseg *tq;

	if (tp->t_segqlen >= TCPTUN(tp->t_tcp, reass_maxsegs) ||
	    (tq = malloc(sizeof(*tq))) == NULL) {
		return NULL;
	}
	tq->tq_seq = seq;
	tq->tq_len = len;
	tq->tq_mem = mem;
	tq->tq_head = m;
	tq->tq_tail = m_last(m);
	if (after != NULL) {
		TAILQ_INSERT_AFTER(&tp->t_segq, after, tq, tq_link);
	} else {
		TAILQ_INSERT_HEAD(&tp->t_segq, tq, tq_link);
	}
	tp->t_segqlen++;
	tp->t_segqmem += mem;
	return tq;
}

/* Join tq with the run after it if they touch. */
static void
tseg_join(struct tcpcb *tp, struct tseg *tq)
{
	struct tseg *nq = TAILQ_NEXT(tq, tq_link);

	if (nq == NULL || nq->tq_seq != tq->tq_seq + tq->tq_len) {
		return;
	}
	tq->tq_tail->m_next = nq->tq_head;
	tq->tq_tail = nq->tq_tail;
	tq->tq_len += nq->tq_len;
	tq->tq_mem += nq->tq_mem;
	TAILQ_REMOVE(&tp->t_segq, nq, tq_link);
	tp->t_segqlen--;
	free(nq);
}

/* Remember where the newest data are: RFC 2018 4 wants that block first. */
static void
tcp_sack_remember(struct tcpcb *tp, uint32_t seq)
{
	uint32_t n = u32min(tp->t_nrecent, TCP_MAXSACK - 1);

	memmove(tp->t_sackrecent + 1, tp->t_sackrecent,
	    n * sizeof(tp->t_sackrecent[0]));
	tp->t_sackrecent[0] = seq;
	tp->t_nrecent = (uint8_t)(n + 1);
}

void
tcp_dsack(struct tcpcb *tp, uint32_t start, uint32_t end)
{
	if (tcp_sack_on(tp) && TCPTUN(tp->t_tcp, dsack)) {
		tp->t_dsack = (struct sackblk){ start, end };
	}
}

/* Cut what is there already off [*seq, *seq + *len); false: all of it is. A
 * run inside the new range is replaced: a peer filling several holes at once
 * sends the same bytes. */
static bool
tseg_trim(struct tcpcb *tp, struct tseg *before, struct mbuf *m, uint32_t *seq,
    uint32_t *len)
{
	struct tseg *tq, *next;
	uint32_t n;

	if (before != NULL && SEQ_GT(before->tq_seq + before->tq_len, *seq)) {
		n = before->tq_seq + before->tq_len - *seq;
		tcp_dsack(tp, *seq, *seq + u32min(n, *len));
		if (n >= *len) {
			return false;
		}
		TCPSTAT_INC(tp->t_tcp, rcvpartduppack);
		m_adj(m, (int32_t)n);
		*seq += n;
		*len -= n;
	}
	tq = before != NULL ? TAILQ_NEXT(before, tq_link) :
			      TAILQ_FIRST(&tp->t_segq);
	for (; tq != NULL && SEQ_LT(tq->tq_seq, *seq + *len); tq = next) {
		next = TAILQ_NEXT(tq, tq_link);
		if (SEQ_LEQ(tq->tq_seq + tq->tq_len, *seq + *len)) {
			tseg_free(tp, tq);
			continue;
		}
		n = *seq + *len - tq->tq_seq;
		tcp_dsack(tp, tq->tq_seq, tq->tq_seq + n);
		m_adj(m, -(int32_t)n);
		*len -= n;
	}
	return true;
}

/* May the connection hold mem more bytes of buffers? Twice the receive
 * buffer, because buffers are seldom full. */
static bool
tcp_reass_room(const struct tcpcb *tp, uint32_t mem)
{
	return tp->t_segqmem + mem <=
	    2 * tp->t_so->so_rcv.sb_hiwat + 2 * M64KCLBYTES;
}

void
tcp_reass(struct tcpcb *tp, struct tcpseg *sg)
{
	struct mbuf *m = sg->sg_m;
	uint32_t seq = sg->sg_seq, len = sg->sg_len, mem;
	struct tseg *before, *tq;

	sg->sg_m = NULL;
	TCPSTAT_ADD(tp->t_tcp, rcvoopack, sg->sg_count);
	TCPSTAT_ADD(tp->t_tcp, rcvoobyte, len);
	before = tseg_before(tp, seq);
	if (!tseg_trim(tp, before, m, &seq, &len)) {
		TCPSTAT_INC(tp->t_tcp, rcvduppack);
		TCPSTAT_ADD(tp->t_tcp, rcvdupbyte, len);
		tcp_sack_remember(tp, seq);
		m_freem(m);
		return;
	}
	m->m_flags &= (uint16_t)~M_PKTHDR;
	mem = tseg_mem(m);
	if (!tcp_reass_room(tp, mem)) {
		TCPDROP(tp->t_tcp, reassfull);
		m_freem(m);
		return;
	}
	if (before != NULL && before->tq_seq + before->tq_len == seq) {
		tseg_append(tp, before, m, len, mem);
		tq = before;
	} else if ((tq = tseg_insert(tp, before, seq, m, len, mem)) == NULL) {
		TCPDROP(tp->t_tcp, reassfull);
		m_freem(m);
		return;
	}
	tseg_join(tp, tq);
	tcp_sack_remember(tp, seq);
}

void
tcp_reass_flush(struct tcpcb *tp)
{
	struct tseg *tq;
	struct mbuf *m;
	uint32_t len, dup;

	while ((tq = TAILQ_FIRST(&tp->t_segq)) != NULL &&
	    SEQ_LEQ(tq->tq_seq, tp->rcv_nxt)) {
		dup = tp->rcv_nxt - tq->tq_seq;
		if (dup >= tq->tq_len) {
			tseg_free(tp, tq);
			continue;
		}
		m = tq->tq_head;
		len = tq->tq_len - dup;
		tq->tq_head = NULL;
		tseg_free(tp, tq);
		if (dup > 0) {
			m_adj(m, (int32_t)dup);
		}
		tcp_deliver(tp, m, len);
	}
	if (tq == NULL) {
		tp->t_nrecent = 0;
	}
}

static bool
sackblk_listed(const struct sackblk *v, int n, uint32_t start)
{
	for (int i = 0; i < n; i++) {
		if (v[i].sb_start == start) {
			return true;
		}
	}
	return false;
}

int
tcp_sackblocks(struct tcpcb *tp, struct sackblk *out, int max)
{
	struct tseg *tq;
	int n = 0, first = 0;

	if (tp->t_dsack.sb_start != tp->t_dsack.sb_end && n < max) {
		out[n++] = tp->t_dsack;
		tp->t_dsack.sb_start = tp->t_dsack.sb_end;
		TCPSTAT_INC(tp->t_tcp, dsack_sent);
		first = 1;
	}
	for (int i = 0; i < tp->t_nrecent && n < max; i++) {
		tq = tseg_before(tp, tp->t_sackrecent[i]);
		if (tq != NULL &&
		    SEQ_LT(tp->t_sackrecent[i], tq->tq_seq + tq->tq_len) &&
		    !sackblk_listed(out + first, n - first, tq->tq_seq)) {
			out[n++] = (struct sackblk){ tq->tq_seq,
				tq->tq_seq + tq->tq_len };
		}
	}
	TCPSTAT_ADD(tp->t_tcp, sack_send_blocks, (uint32_t)n);
	return n;
}
