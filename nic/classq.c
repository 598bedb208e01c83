/*
 * classq.c - which packet is next: classes, and flows inside a class.
 *
 * Among classes: a round gives every class with packets a budget of
 * min(drr_max, flows) quanta; the lowest-numbered class with budget left is
 * served first, and when none has any, a new round begins. So a better class
 * goes first as long as it is modest, and no class is starved. A class that was
 * quiet joins the round under way with one quantum, unless it has used up
 * its share of that round.
 *
 * Inside a class: the flow queues of FQ-CoDel (RFC 8290), served by deficit
 * round robin, new flows before old ones. A flow is p_flowid, or for packets
 * that have none (forwarded, answers to nobody) a hash of the addresses.
 *
 * The segments of one stream may be of several classes, but one that overtook
 * an older one would be taken for a loss at the other end. So a PKT_ORDERED
 * packet takes those of its flow that wait in worse classes along into its own,
 * and waits for those that are in better ones.
 *
 * No packet is refused. At the limit the longest flow loses its head, for that
 * is whose fault it is; a sender of this host is stopped before it comes to
 * that.
 */
#include "nic/classq.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* By class queue: quanta a flow gets at a turn, and flows that count. */
static const struct {
	uint8_t quanta, drr_max;
} cq_share[SVC_QUEUES] = {
	{ 2, 8 }, /* CTL */
	{ 2, 8 }, /* VO */
	{ 2, 6 }, /* VI and SIG */
	{ 2, 6 }, /* RV */
	{ 2, 6 }, /* AV */
	{ 1, 4 }, /* OAM */
	{ 1, 4 }, /* RD */
	{ 1, 4 }, /* BE */
	{ 1, 2 }, /* BK */
	{ 1, 2 }, /* BK_SYS */
};

static void
list_put(struct cq_list *l, struct cq_flow *f)
{
	f->f_next = NULL;
	if (l->l_tail != NULL) {
		l->l_tail->f_next = f;
	} else {
		l->l_head = f;
	}
	l->l_tail = f;
}

static struct cq_flow *
list_get(struct cq_list *l)
{
	struct cq_flow *f = l->l_head;

	if (f != NULL) {
		l->l_head = f->f_next;
		if (l->l_head == NULL) {
			l->l_tail = NULL;
		}
		f->f_next = NULL;
	}
	return f;
}

/* ---- advice ---- */

bool
cq_advisable(const struct classq *q, const struct cq_flow *f)
{
	return (f->f_flags & CQF_SHARED) == 0 &&
	    flow_advisory(q->q_adv, f->f_id) != NULL;
}

void
cq_suspend(struct classq *q, struct cq_flow *f)
{
	struct flow_adv *fa = flow_advisory(q->q_adv, f->f_id);

	if (fa == NULL || (f->f_flags & CQF_SUSPENDED)) {
		return;
	}
	f->f_flags |= CQF_SUSPENDED;
	f->f_suspends++;
	q->q_class[f->f_queue].c_suspends++;
	atomic_fetch_add_explicit(&fa->fa_ce, 1, memory_order_relaxed);
	atomic_fetch_or_explicit(&fa->fa_flags, FLOWADV_SUSPENDED,
	    memory_order_release);
}

void
cq_resume(struct classq *q, struct cq_flow *f)
{
	struct flow_adv *fa;

	if ((f->f_flags & CQF_SUSPENDED) == 0) {
		return;
	}
	f->f_flags &= (uint16_t)~CQF_SUSPENDED;
	fa = flow_advisory(q->q_adv, f->f_id);
	if (fa == NULL) {
		return; /* the flow is over */
	}
	atomic_fetch_and_explicit(&fa->fa_flags, ~(unsigned)FLOWADV_SUSPENDED,
	    memory_order_release);
	atomic_fetch_add_explicit(&q->q_adv->ft_gen, 1, memory_order_release);
	q->q_resumed = true;
}

void
classq_advise(struct classq *q, struct flow_advtab *tab)
{
	for (uint32_t i = 0; i < CQ_FLOWS; i++) {
		cq_resume(q, &q->q_flows[i]);
	}
	q->q_adv = tab;
}

/* ---- flows ---- */

static unsigned
cq_bucket(uint32_t id)
{
	return (id * 2654435761u) >> 24; /* Knuth's hash */
}

static void
cq_unhash(struct classq *q, struct cq_flow *f)
{
	struct cq_flow **fp = &q->q_bucket[cq_bucket(f->f_id)];

	while (*fp != f) {
		fp = &(*fp)->f_hnext;
	}
	*fp = f->f_hnext;
}

/* Forget the flow that has been idle for longest, if it has been for long, or
 * (any) at all. False: there is none. */
static bool
cq_purge1(struct classq *q, uint64_t now, bool any)
{
	struct cq_flow *f;

	while ((f = q->q_idle.l_head) != NULL) {
		bool idle = (f->f_flags & CQF_IDLE) != 0;

		if (idle && !any && now < f->f_idlesince + CQ_IDLE_NS) {
			return false;
		}
		q->q_idle.l_head = f->f_inext;
		if (q->q_idle.l_head == NULL) {
			q->q_idle.l_tail = NULL;
		}
		f->f_flags &= (uint16_t)~CQF_ONIDLE;
		if (idle) {
			cq_unhash(q, f);
			f->f_hnext = q->q_freeflow;
			q->q_freeflow = f;
			if (q->q_large == f) {
				q->q_large = NULL;
			}
			return true;
		}
	}
	return false;
}

static void
cq_setidle(struct classq *q, struct cq_flow *f, uint64_t now)
{
	f->f_flags &=
	    (uint16_t)~(CQF_OLD | CQF_NEW | CQF_LARGE | CQF_DELAY_HIGH);
	f->f_flags |= CQF_IDLE;
	f->f_idlesince = now;
	f->f_ivend = 0;
	f->f_count = 0;
	f->f_signalat = 0;
	cq_resume(q, f);
	if (f->f_flags & (CQF_ONIDLE | CQF_SHARED)) {
		return;
	}
	f->f_flags |= CQF_ONIDLE;
	f->f_inext = NULL;
	if (q->q_idle.l_tail != NULL) {
		q->q_idle.l_tail->f_inext = f;
	} else {
		q->q_idle.l_head = f;
	}
	q->q_idle.l_tail = f;
}

static struct cq_flow *
cq_find(struct classq *q, uint32_t id, unsigned queue, uint64_t now)
{
	struct cq_flow **bucket = &q->q_bucket[cq_bucket(id)], *f;

	for (f = *bucket; f != NULL; f = f->f_hnext) {
		if (f->f_id == id && f->f_queue == queue) {
			return f;
		}
	}
	if (q->q_freeflow == NULL && !cq_purge1(q, now, true)) {
		return &q->q_class[queue].c_shared;
	}
	f = q->q_freeflow;
	q->q_freeflow = f->f_hnext;
	memset(f, 0, sizeof(*f));
	f->f_id = id;
	f->f_queue = (uint8_t)queue;
	f->f_flags = CQF_IDLE;
	f->f_hnext = *bucket;
	*bucket = f;
	return f;
}

/* A flow for a packet that names none: addresses, protocol and, where they are
 * to be seen, ports. The top bit keeps it apart from advisories. */
static uint32_t
cq_hash(const struct pkt *p, uint32_t l2len)
{
	const uint8_t *ip = p->p_data + l2len;
	uint32_t h = 2166136261u, from, n, end; /* FNV-1a */

	if (p->p_len < l2len + 20) {
		return 1u << 31;
	}
	if (ip[0] >> 4 == 4) {
		from = 12;
		n = 8;
		end = (ip[6] & 0x3f) == 0 && ip[7] == 0 ? (ip[0] & 15u) * 4 : 0;
		h = (h ^ ip[9]) * 16777619u;
	} else if (ip[0] >> 4 == 6 && p->p_len >= l2len + 40) {
		from = 8;
		n = 32;
		end = ip[6] == 6 || ip[6] == 17 ? 40 : 0;
		h = (h ^ ip[6]) * 16777619u;
	} else {
		return 1u << 31;
	}
	for (uint32_t i = 0; i < n; i++) {
		h = (h ^ ip[from + i]) * 16777619u;
	}
	for (uint32_t i = 0; end >= 20 && i < 4 && l2len + end + i < p->p_len;
	    i++) {
		h = (h ^ ip[end + i]) * 16777619u;
	}
	return h | 1u << 31;
}

/* ---- the queues ---- */

int
classq_init(struct classq *q, uint32_t limit)
{
	memset(q, 0, sizeof(*q));
	q->q_limit = limit;
	q->q_round = 1;
	q->q_flows = calloc(CQ_FLOWS, sizeof(*q->q_flows));
	q->q_nodes = calloc(limit, sizeof(*q->q_nodes));
	if (q->q_flows == NULL || q->q_nodes == NULL) {
		free(q->q_flows);
		free(q->q_nodes);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < CQ_FLOWS; i++) {
		q->q_flows[i].f_hnext = q->q_freeflow;
		q->q_freeflow = &q->q_flows[i];
	}
	for (uint32_t i = 0; i < limit; i++) {
		q->q_nodes[i].n_next = q->q_freenode;
		q->q_freenode = &q->q_nodes[i];
	}
	for (unsigned i = 0; i < SVC_QUEUES; i++) {
		q->q_class[i].c_shared.f_queue = (uint8_t)i;
		q->q_class[i].c_shared.f_flags = CQF_SHARED | CQF_IDLE;
	}
	return 0;
}

static void
cq_flush(struct classq *q, struct cq_flow *f)
{
	struct pkt *p;

	while ((p = cq_pop(q, f)) != NULL) {
		pkt_free(p);
	}
}

void
classq_fini(struct classq *q)
{
	classq_advise(q, NULL);
	for (uint32_t i = 0; i < CQ_FLOWS; i++) {
		cq_flush(q, &q->q_flows[i]);
	}
	for (unsigned i = 0; i < SVC_QUEUES; i++) {
		cq_flush(q, &q->q_class[i].c_shared);
	}
	free(q->q_flows);
	free(q->q_nodes);
}

struct pkt *
cq_pop(struct classq *q, struct cq_flow *f)
{
	struct cq_class *c = &q->q_class[f->f_queue];
	struct cq_node *n = f->f_head;
	struct pkt *p;

	if (n == NULL) {
		return NULL;
	}
	p = n->n_pkt;
	f->f_head = n->n_next;
	if (f->f_head == NULL) {
		f->f_tail = NULL;
		c->c_nflows--;
		cq_resume(q, f); /* whatever became of the last packet */
	}
	n->n_next = q->q_freenode;
	q->q_freenode = n;
	f->f_pkts--;
	f->f_bytes -= p->p_pktlen;
	c->c_pkts--;
	c->c_bytes -= p->p_pktlen;
	q->q_pkts--;
	if (f->f_bytes < CQ_LARGE) {
		f->f_flags &= (uint16_t)~CQF_LARGE;
	}
	return p;
}

static void
cq_longest(struct cq_flow *f, struct cq_flow **best)
{
	if (*best == NULL || f->f_bytes > (*best)->f_bytes) {
		*best = f;
	}
}

/* The flow at whose cost there is room; there is one with packets. */
static struct cq_flow *
cq_victim(struct classq *q)
{
	struct cq_flow *best = q->q_large;

	if (best != NULL && (best->f_flags & CQF_LARGE)) {
		return best;
	}
	best = NULL;
	for (uint32_t i = 0; i < CQ_FLOWS; i++) {
		cq_longest(&q->q_flows[i], &best);
	}
	for (unsigned i = 0; i < SVC_QUEUES; i++) {
		cq_longest(&q->q_class[i].c_shared, &best);
	}
	q->q_large = best;
	return best;
}

static void
cq_overflow(struct classq *q)
{
	struct cq_flow *f = cq_victim(q);

	cq_suspend(q, f);
	pkt_free(cq_pop(q, f));
	f->f_drops++;
	q->q_class[f->f_queue].c_overflow++;
	q->q_dropped++;
}

/* All of g, which is of the same stream, behind what f holds. */
static void
cq_move(struct classq *q, struct cq_flow *f, struct cq_flow *g)
{
	struct cq_class *c = &q->q_class[f->f_queue];
	struct cq_class *worse = &q->q_class[g->f_queue];

	if (f->f_tail != NULL) {
		f->f_tail->n_next = g->f_head;
	} else {
		f->f_head = g->f_head;
		c->c_nflows++;
	}
	f->f_tail = g->f_tail;
	g->f_head = g->f_tail = NULL;
	worse->c_nflows--;
	worse->c_pkts -= g->f_pkts;
	worse->c_bytes -= g->f_bytes;
	c->c_pkts += g->f_pkts;
	c->c_bytes += g->f_bytes;
	f->f_pkts += g->f_pkts;
	f->f_bytes += g->f_bytes;
	g->f_pkts = g->f_bytes = 0;
	f->f_flags |= g->f_flags & CQF_SUSPENDED;
	g->f_flags &= (uint16_t)~(CQF_SUSPENDED | CQF_LARGE);
}

/*
 * What f's stream has waiting in worse classes goes into f. So a stream's
 * packets in a worse class are always younger than those in a better one, and
 * the best of the worse classes has the oldest.
 */
static void
cq_takealong(struct classq *q, struct cq_flow *f)
{
	struct cq_flow *g = q->q_bucket[cq_bucket(f->f_id)];
	struct cq_flow *worse[SVC_QUEUES] = { NULL };

	for (; g != NULL; g = g->f_hnext) {
		if (g->f_id != f->f_id || g->f_pkts == 0) {
			continue;
		}
		if (g->f_queue < f->f_queue) {
			f->f_flags |= CQF_BEHIND;
		} else if (g != f) {
			worse[g->f_queue] = g;
		}
	}
	for (unsigned i = 0; i < SVC_QUEUES; i++) {
		if (worse[i] != NULL) {
			cq_move(q, f, worse[i]);
		}
	}
}

/* A class gets its first packet: join the round. */
static void
cq_join(struct classq *q, struct cq_class *c, unsigned queue)
{
	if (c->c_pkts == 0 && c->c_round != q->q_round) {
		c->c_round = q->q_round;
		c->c_budget = MIN_OF(c->c_budget, 0) +
		    (int64_t)q->q_quantum * cq_share[queue].quanta;
	}
}

void
classq_put(struct classq *q, struct pkt *p, uint64_t now)
{
	unsigned queue = svc_queue(p->p_svc);
	struct cq_class *c = &q->q_class[queue];
	uint32_t id = p->p_flowid != 0 ? p->p_flowid : cq_hash(p, q->q_l2len);
	struct cq_flow *f;
	struct cq_node *n;

	if (q->q_pkts == q->q_limit) {
		cq_overflow(q);
	}
	cq_join(q, c, queue);
	f = cq_find(q, id, queue, now);
	if ((p->p_flags & PKT_ORDERED) && !(f->f_flags & CQF_SHARED)) {
		cq_takealong(q, f);
	}
	n = q->q_freenode;
	q->q_freenode = n->n_next;
	n->n_pkt = p;
	n->n_next = NULL;
	p->p_time = now;
	if (f->f_tail != NULL) {
		f->f_tail->n_next = n;
	} else {
		f->f_head = n;
		c->c_nflows++;
	}
	f->f_tail = n;
	f->f_pkts++;
	f->f_bytes += p->p_pktlen;
	c->c_pkts++;
	c->c_bytes += p->p_pktlen;
	q->q_pkts++;
	if (f->f_flags & CQF_IDLE) {
		f->f_flags &= (uint16_t)~CQF_IDLE;
		f->f_flags |= CQF_NEW;
		f->f_deficit = (int32_t)q->q_quantum * cq_share[queue].quanta;
		list_put(&c->c_new, f);
	}
	if (f->f_bytes >= CQ_LARGE) {
		f->f_flags |= CQF_LARGE;
		if (q->q_large == NULL || f->f_bytes > q->q_large->f_bytes) {
			q->q_large = f;
		}
		/* Better to stop a sender than to lose its packets. */
		if (q->q_pkts >= q->q_limit / 2) {
			cq_suspend(q, f);
		}
	}
}

/* The class to serve, or NULL: nothing is queued. */
static struct cq_class *
cq_pick(struct classq *q, unsigned *queue)
{
	while (q->q_pkts > 0) {
		for (unsigned i = 0; i < SVC_QUEUES; i++) {
			struct cq_class *c = &q->q_class[i];

			if (c->c_pkts > 0 && c->c_budget > 0) {
				*queue = i;
				return c;
			}
		}
		q->q_round++;
		for (unsigned i = 0; i < SVC_QUEUES; i++) {
			struct cq_class *c = &q->q_class[i];
			uint32_t n = MIN_OF(c->c_nflows, cq_share[i].drr_max);

			if (c->c_pkts > 0) {
				c->c_round = q->q_round;
				c->c_budget += (int64_t)n * q->q_quantum *
				    cq_share[i].quanta;
			}
		}
	}
	return NULL;
}

/* Does f wait for older segments of its stream? */
static bool
cq_isbehind(const struct classq *q, struct cq_flow *f)
{
	const struct cq_flow *g = q->q_bucket[cq_bucket(f->f_id)];

	if (!(f->f_flags & CQF_BEHIND)) {
		return false;
	}
	for (; g != NULL; g = g->f_hnext) {
		if (g->f_id == f->f_id && g->f_queue < f->f_queue &&
		    g->f_pkts > 0) {
			return true;
		}
	}
	f->f_flags &= (uint16_t)~CQF_BEHIND;
	return false;
}

/* The next packet of a class; NULL: those it had were dropped, or wait for
 * others in better classes. */
static struct pkt *
cq_serve(struct classq *q, struct cq_class *c, unsigned queue, uint64_t now)
{
	uint32_t behind = 0;

	for (;;) {
		struct cq_list *l =
		    c->c_new.l_head != NULL ? &c->c_new : &c->c_old;
		struct cq_flow *f = l->l_head;
		struct pkt *p;

		if (f == NULL) {
			return NULL;
		}
		if (f->f_deficit <= 0) {
			f->f_deficit +=
			    (int32_t)q->q_quantum * cq_share[queue].quanta;
			f->f_flags &= (uint16_t)~CQF_NEW;
			f->f_flags |= CQF_OLD;
			list_put(&c->c_old, list_get(l));
			continue;
		}
		if (f->f_pkts > 0 && cq_isbehind(q, f)) {
			list_put(&c->c_old, list_get(l));
			if (++behind < c->c_nflows) {
				continue;
			}
			/* All of them: let the better classes have theirs. */
			c->c_budget = MIN_OF(c->c_budget, 0);
			return NULL;
		}
		p = f->f_pkts > 0 ? codel_get(q, f, now) : NULL;
		if (p != NULL) {
			f->f_deficit -= (int32_t)p->p_pktlen;
			f->f_txpkts++;
			f->f_txbytes += p->p_pktlen;
			return p;
		}
		(void)list_get(l);
		if (l == &c->c_new && c->c_old.l_head != NULL) {
			/* Once through the old ones, lest it be new for ever. */
			f->f_flags &= (uint16_t)~CQF_NEW;
			f->f_flags |= CQF_OLD;
			list_put(&c->c_old, f);
		} else {
			cq_setidle(q, f, now);
		}
	}
}

void
classq_passed(struct classq *q, unsigned svc, uint32_t len)
{
	struct cq_class *c = &q->q_class[svc_queue(svc)];

	c->c_txpkts++;
	c->c_txbytes += len;
}

struct pkt *
classq_get(struct classq *q, uint64_t now)
{
	struct cq_class *c;
	unsigned queue = 0;

	for (int i = 0; i < CQ_PURGE && cq_purge1(q, now, false); i++) {
	}
	while ((c = cq_pick(q, &queue)) != NULL) {
		struct pkt *p = cq_serve(q, c, queue, now);

		if (p != NULL) {
			c->c_budget -= (int64_t)p->p_pktlen;
			p->p_time = 0;
			classq_passed(q, p->p_svc, p->p_pktlen);
			return p;
		}
	}
	return NULL;
}
