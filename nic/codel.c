/*
 * codel.c - when a flow stands in its queue for too long, and what is done.
 *
 * Not textbook CoDel (RFC 8289) but XNU's form of it: for each interval the
 * least delay of the flow's packets is kept, and a flow whose least delay was
 * above the target has a standing queue. A sender of this host, which has an
 * advisory, is then stopped and nothing is lost; it goes on when a packet has
 * waited no longer than the target. Anybody else is sent a signal, again after
 * interval / sqrt(signals) while the delay lasts: congestion experienced, where
 * the packet is ECN-capable, else the loss of it.
 */
#include "nic/classq.h"

#define ECN_MASK 0x03
#define ECN_CE 0x03

/* interval / sqrt(count), without floating point: Newton's integer root of
 * count scaled by 2^16. */
static uint64_t
codel_step(uint64_t interval, uint32_t count)
{
	uint64_t v = (uint64_t)count << 16, root = v, next;

	if (count <= 1) {
		return interval;
	}
	for (next = (root + 1) / 2; next < root; next = (root + v / root) / 2) {
		root = next;
	}
	return (interval << 8) / root;
}

static void
codel_calm(struct classq *q, struct cq_flow *f)
{
	f->f_flags &= (uint16_t)~CQF_DELAY_HIGH;
	f->f_count = 0;
	f->f_signalat = 0;
	cq_resume(q, f);
}

/* A packet of f leaves after delay. */
static void
codel_judge(struct classq *q, struct cq_flow *f, uint64_t delay, uint64_t now)
{
	struct cq_class *c = &q->q_class[f->f_queue];

	if (delay > c->c_maxdelay) {
		c->c_maxdelay = delay;
	}
	if (f->f_ivend == 0 || now >= f->f_ivend + q->q_interval) {
		/* The first, or the first after a pause. */
		f->f_ivend = now + q->q_interval;
		f->f_min = delay;
	} else if (now >= f->f_ivend) {
		f->f_lastmin = f->f_min < delay ? f->f_min : delay;
		if (f->f_lastmin > q->q_target) {
			f->f_flags |= CQF_DELAY_HIGH;
		}
		f->f_ivend = now + q->q_interval;
		f->f_min = delay;
	} else if (delay < f->f_min) {
		f->f_min = delay;
	}
	if (delay <= q->q_target ||
	    ((f->f_flags & CQF_SUSPENDED) && f->f_bytes < CQ_FC_BYTES)) {
		/* A stopped sender has to be back before its queue is empty. */
		codel_calm(q, f);
	}
}

/* Is a signal due now? Then *again is set. */
static bool
codel_due(struct classq *q, struct cq_flow *f, uint64_t now)
{
	if (!(f->f_flags & CQF_DELAY_HIGH) || now < f->f_signalat) {
		return false;
	}
	if (cq_advisable(q, f)) {
		if (f->f_bytes >= CQ_FC_BYTES) {
			cq_suspend(q, f);
		}
		return false;
	}
	f->f_count++;
	f->f_signalat = now + codel_step(q->q_interval, f->f_count);
	return true;
}

/* The header checksum after the byte pair at `at` went from old to new
 * (RFC 1624, eqn. 3). */
static void
codel_fixsum(uint8_t *ip, uint16_t old, uint16_t new)
{
	uint32_t sum = (uint32_t)ip[10] << 8 | ip[11];

	sum = (~sum & 0xffff) + (~(uint32_t)old & 0xffff) + new;
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = ~sum & 0xffff;
	ip[10] = (uint8_t)(sum >> 8);
	ip[11] = (uint8_t)sum;
}

bool
codel_mark(struct pkt *p, uint32_t l2len)
{
	uint8_t *ip = p->p_data + l2len;
	uint16_t old;

	if (p->p_len < l2len + 20) {
		return false;
	}
	if (l2len != 0 && !(ip[-2] == 0x08 && ip[-1] == 0x00) &&
	    !(ip[-2] == 0x86 && ip[-1] == 0xdd)) {
		return false;
	}
	if (ip[0] >> 4 == 4) {
		if ((ip[1] & ECN_MASK) == 0 || !pkt_writable(p)) {
			return (ip[1] & ECN_MASK) == ECN_CE;
		}
		old = (uint16_t)(ip[0] << 8 | ip[1]);
		ip[1] |= ECN_CE;
		codel_fixsum(ip, old, (uint16_t)(ip[0] << 8 | ip[1]));
		return true;
	}
	if (ip[0] >> 4 == 6) {
		if ((ip[1] & ECN_MASK << 4) == 0 || !pkt_writable(p)) {
			return (ip[1] >> 4 & ECN_MASK) == ECN_CE;
		}
		ip[1] |= ECN_CE << 4;
		return true;
	}
	return false;
}

struct pkt *
codel_get(struct classq *q, struct cq_flow *f, uint64_t now)
{
	struct cq_class *c = &q->q_class[f->f_queue];
	struct pkt *p;

	while ((p = cq_pop(q, f)) != NULL) {
		codel_judge(q, f, now > p->p_time ? now - p->p_time : 0, now);
		if (!codel_due(q, f, now)) {
			return p;
		}
		if (q->q_ecn && codel_mark(p, q->q_l2len)) {
			f->f_marks++;
			c->c_marks++;
			return p;
		}
		if (f->f_pkts == 0) {
			return p; /* the last one says nothing by its loss */
		}
		f->f_drops++;
		c->c_aqm++;
		q->q_dropped++;
		pkt_free(p);
	}
	return NULL;
}
