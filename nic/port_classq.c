/*
 * port_classq.c - a port around a port in which packets wait their turn.
 *
 * Without a rate, packets go straight through as long as the lower port takes
 * them, and only what it leaves is queued. With a rate they are queued always
 * and leave when the token bucket says so; po_poll_at tells when that is, and
 * po_rx and po_tx both send what may go by then.
 *
 * A packet taken from the queues that the lower port then does not take waits
 * in p_out, in front of everything. So at most one burst is out of the reach
 * of the scheduler.
 *
 * The port never refuses a packet: a sender that was made to wait could not
 * send its urgent ones past the others. It drops by flow instead, or stops
 * the flow through its advisory (nic/flow.h) and loses nothing.
 *
 * The driver's thread is one; the mutex is for those who configure or read a
 * running port from another. Whoever waits for an advisory is told with the
 * mutex dropped.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "nic/api.h"
#include "nic/classq.h"

#define CQ_TARGET_NS UINT64_C(10000000)
#define CQ_INTERVAL_NS UINT64_C(100000000)
#define CQ_TIME_MAX (3600 * UINT64_C(1000000000))
#define CQ_RATE_MAX UINT64_C(1000000000000) /* bits per second */
#define CQ_LIMIT_MAX (1u << 20)
#define CQ_RETRY_NS 100000u /* when the lower port took less than offered */

struct classq_port {
	struct port p_port;
	pthread_mutex_t p_mtx; /* everything below */
	struct classq p_q;
	struct tbr p_tbr;
	struct pkt *p_out[PORT_BURST]; /* on the point of leaving */
	uint32_t p_nout;
	uint64_t p_now; /* of the last call */
	bool p_stuck;	/* the lower port is full */
	bool p_isnew;	/* p_cfg is to be put into force by the driver */
	struct nic_classq p_cfg;
};

static const struct port_ops classq_ops;

static struct classq_port *
classq_of(struct port *pt)
{
	return CONTAINER_OF(pt, struct classq_port, p_port);
}

/* The nearest class queue at or below pt, or NULL. */
static struct classq_port *
classq_find(struct port *pt)
{
	while (pt != NULL && pt->pt_ops != &classq_ops) {
		pt = pt->pt_lower;
	}
	return pt != NULL ? classq_of(pt) : NULL;
}

static bool
classq_hard(int error)
{
	return error < 0 && error != -EAGAIN && error != -EINTR &&
	    error != -ENOBUFS;
}

/* Fill p_out with what may leave now. */
static void
classq_fill(struct classq_port *cp, uint64_t now)
{
	struct pkt *p;

	while (cp->p_nout < PORT_BURST && tbr_at(&cp->p_tbr) <= now &&
	    (p = classq_get(&cp->p_q, now)) != NULL) {
		tbr_take(&cp->p_tbr, p->p_pktlen, now);
		cp->p_out[cp->p_nout++] = p;
	}
}

/* Send what may go. 0, or the lower port's error. */
static int
classq_drain(struct classq_port *cp, uint64_t now)
{
	struct port *lower = cp->p_port.pt_lower;
	uint32_t took;
	int k;

	for (;;) {
		if (cp->p_nout == 0) {
			classq_fill(cp, now);
		}
		if (cp->p_nout == 0 && lower->pt_npend == 0) {
			cp->p_stuck = false;
			return 0;
		}
		k = lower->pt_output(lower, cp->p_out, (int)cp->p_nout, now);
		took = k > 0 ? (uint32_t)k : 0;
		cp->p_nout -= took;
		cp->p_stuck = cp->p_nout > 0 || lower->pt_npend > 0;
		if (cp->p_stuck) {
			memmove(cp->p_out, cp->p_out + took,
			    cp->p_nout * sizeof(*cp->p_out));
			return classq_hard(k) ? k : 0;
		}
	}
}

/* Put p_cfg into force. */
static void
classq_apply(struct classq_port *cp)
{
	const struct nic_classq *c = &cp->p_cfg;
	struct port *pt = &cp->p_port, *lower = pt->pt_lower;
	uint32_t frame = lower->pt_mtu + port_l2len(lower);

	cp->p_isnew = false;
	tbr_set(&cp->p_tbr, c->rate_bps, c->burst);
	cp->p_q.q_target = c->target_ns != 0 ? c->target_ns : CQ_TARGET_NS;
	cp->p_q.q_interval =
	    c->interval_ns != 0 ? c->interval_ns : CQ_INTERVAL_NS;
	cp->p_q.q_ecn = c->no_ecn == 0;
	cp->p_q.q_l2len = port_l2len(lower);
	cp->p_q.q_quantum = frame;
	pt->pt_caps = lower->pt_caps;
	if (c->rate_bps != 0) {
		pt->pt_caps &= ~(uint32_t)PORT_TSO;
	} else if (lower->pt_caps & PORT_TSO) {
		cp->p_q.q_quantum = lower->pt_gsomax;
	}
}

/* Every call of the driver begins so. */
static void
classq_begin(struct classq_port *cp, uint64_t now)
{
	cp->p_now = now;
	if (cp->p_isnew) {
		classq_apply(cp);
	}
}

/* Nothing is queued and nothing holds packets back. */
static bool
classq_idle(const struct classq_port *cp)
{
	return cp->p_tbr.tb_rate == 0 && cp->p_q.q_pkts == 0 && cp->p_nout == 0;
}

/* Past the empty queues, as far as the lower port takes them: how many went,
 * or its error. */
static int
classq_pass(struct classq_port *cp, struct pkt **v, int n, uint64_t now)
{
	struct port *lower = cp->p_port.pt_lower;
	uint32_t len[PORT_BURST];
	uint8_t svc[PORT_BURST];
	int k;

	n = MIN_OF(n, PORT_BURST);
	for (int i = 0; i < n; i++) {
		len[i] = v[i]->p_pktlen; /* gone once they are taken */
		svc[i] = v[i]->p_svc;
	}
	k = lower->pt_output(lower, v, n, now);
	for (int i = 0; i < k; i++) {
		classq_passed(&cp->p_q, svc[i], len[i]);
	}
	cp->p_stuck = k < n || lower->pt_npend > 0;
	return k;
}

/* Unlock, and tell those who wait for an advisory. */
static void
classq_unlock(struct classq_port *cp)
{
	struct flow_advtab *tab = cp->p_q.q_adv;
	bool tell = cp->p_q.q_resumed;

	cp->p_q.q_resumed = false;
	pthread_mutex_unlock(&cp->p_mtx);
	if (tell && tab != NULL && tab->ft_notify != NULL) {
		tab->ft_notify(tab->ft_arg);
	}
}

static int
classq_tx(struct port *pt, struct pkt **v, int n, uint64_t now)
{
	struct classq_port *cp = classq_of(pt);
	uint64_t dropped;
	int done = 0, k = 0;

	pthread_mutex_lock(&cp->p_mtx);
	classq_begin(cp, now);
	dropped = cp->p_q.q_dropped;
	if (classq_idle(cp) && !cp->p_stuck) {
		do {
			k = classq_pass(cp, v + done, n - done, now);
			done += k > 0 ? k : 0;
		} while (k > 0 && !cp->p_stuck && done < n);
	} else {
		k = classq_drain(cp, now);
	}
	if (done == 0 && classq_hard(k)) {
		classq_unlock(cp);
		return k;
	}
	for (int i = done; i < n; i++) {
		classq_put(&cp->p_q, v[i], now);
	}
	if (done < n) {
		(void)classq_drain(cp, now);
	}
	stat_add(&pt->pt_stats.ps_txdrops, cp->p_q.q_dropped - dropped);
	classq_unlock(cp);
	return n;
}

static int
classq_rx(struct port *pt, struct pkt **v, int n, uint64_t now)
{
	struct classq_port *cp = classq_of(pt);
	struct port *lower = pt->pt_lower;
	uint64_t dropped;

	pthread_mutex_lock(&cp->p_mtx);
	classq_begin(cp, now);
	if (cp->p_stuck || !classq_idle(cp)) {
		dropped = cp->p_q.q_dropped;
		(void)classq_drain(cp, now);
		stat_add(&pt->pt_stats.ps_txdrops, cp->p_q.q_dropped - dropped);
	}
	classq_unlock(cp);
	return lower->pt_input(lower, v, n, now);
}

static uint64_t
classq_poll_at(struct port *pt)
{
	struct classq_port *cp = classq_of(pt);
	uint64_t at = port_poll_at(pt->pt_lower), own = PORT_NEVER;

	pthread_mutex_lock(&cp->p_mtx);
	if (cp->p_isnew) {
		own = 0;
	} else if (cp->p_stuck) {
		own = cp->p_now + CQ_RETRY_NS;
	} else if (cp->p_q.q_pkts > 0) {
		own = tbr_at(&cp->p_tbr);
	}
	pthread_mutex_unlock(&cp->p_mtx);
	return MIN_OF(at, own);
}

static int
classq_fd(struct port *pt)
{
	return port_fd(pt->pt_lower);
}

static int
classq_ctl(struct port *pt, int cmd, void *arg)
{
	struct classq_port *cp = classq_of(pt);
	struct port *lower = pt->pt_lower;

	if (cmd == PORT_CTL_FLOWADV) {
		struct flow_advtab *old;

		pthread_mutex_lock(&cp->p_mtx);
		old = cp->p_q.q_adv;
		classq_advise(&cp->p_q, arg);
		cp->p_q.q_resumed = false;
		pthread_mutex_unlock(&cp->p_mtx);
		if (old != NULL && old != arg && old->ft_notify != NULL) {
			old->ft_notify(old->ft_arg);
		}
		return 0;
	}
	return lower->pt_ops->po_ctl != NULL ?
	    lower->pt_ops->po_ctl(lower, cmd, arg) :
	    -EOPNOTSUPP;
}

static void
classq_close(struct port *pt)
{
	struct classq_port *cp = classq_of(pt);

	for (uint32_t i = 0; i < cp->p_nout; i++) {
		pkt_free(cp->p_out[i]);
	}
	classq_fini(&cp->p_q);
	port_fini(pt);
	nic_close(pt->pt_lower);
	pthread_mutex_destroy(&cp->p_mtx);
	free(cp);
}

static const struct port_ops classq_ops = {
	.po_name = "classq",
	.po_rx = classq_rx,
	.po_tx = classq_tx,
	.po_fd = classq_fd,
	.po_poll_at = classq_poll_at,
	.po_ctl = classq_ctl,
	.po_close = classq_close,
};

static bool
classq_valid(const struct nic_classq *c)
{
	return c->rate_bps <= CQ_RATE_MAX && c->limit <= CQ_LIMIT_MAX &&
	    c->burst <= INT32_MAX && c->target_ns <= CQ_TIME_MAX &&
	    c->interval_ns <= CQ_TIME_MAX;
}

int
nic_classq_wrap(struct port *lower, const struct nic_classq *cfg,
    struct port **out)
{
	struct classq_port *cp = calloc(1, sizeof(*cp));
	int error = -EINVAL;

	if (cp == NULL) {
		nic_close(lower);
		return -ENOMEM;
	}
	if (!classq_valid(cfg) ||
	    (error = classq_init(&cp->p_q,
		 cfg->limit != 0 ? cfg->limit : CQ_LIMIT)) != 0) {
		nic_close(lower);
		free(cp);
		return error;
	}
	pthread_mutex_init(&cp->p_mtx, NULL);
	port_setup(&cp->p_port, &classq_ops, lower->pt_pool, lower->pt_name);
	port_inherit(&cp->p_port, lower);
	cp->p_cfg = *cfg;
	classq_apply(cp);
	*out = &cp->p_port;
	return 0;
}

int
nic_classq_set(struct port *classq, const struct nic_classq *cfg)
{
	struct classq_port *cp = classq_find(classq);

	if (cp == NULL || !classq_valid(cfg)) {
		return -EINVAL;
	}
	pthread_mutex_lock(&cp->p_mtx);
	cp->p_cfg = *cfg;
	cp->p_isnew = true;
	pthread_mutex_unlock(&cp->p_mtx);
	return 0;
}

int
nic_classq_stats(struct port *classq, int queue, struct nic_classq_stats *out)
{
	struct classq_port *cp = classq_find(classq);
	const struct cq_class *c;

	if (cp == NULL || queue < 0 || queue >= SVC_QUEUES) {
		return -EINVAL;
	}
	pthread_mutex_lock(&cp->p_mtx);
	c = &cp->p_q.q_class[queue];
	*out = (struct nic_classq_stats){
		.txpkts = c->c_txpkts,
		.txbytes = c->c_txbytes,
		.overflow = c->c_overflow,
		.aqm = c->c_aqm,
		.marks = c->c_marks,
		.suspends = c->c_suspends,
		.pkts = c->c_pkts,
		.bytes = c->c_bytes,
		.flows = c->c_nflows,
		.maxdelay_ns = c->c_maxdelay,
	};
	pthread_mutex_unlock(&cp->p_mtx);
	return 0;
}

static void
classq_flow_out(const struct cq_flow *f, struct nic_classq_flow *out)
{
	*out = (struct nic_classq_flow){
		.flowid = f->f_id,
		.queue = f->f_queue,
		.flags = f->f_flags & 0x1f,
		.pkts = f->f_pkts,
		.bytes = f->f_bytes,
		.mindelay_ns = f->f_lastmin,
		.txpkts = f->f_txpkts,
		.txbytes = f->f_txbytes,
		.drops = f->f_drops,
		.marks = f->f_marks,
		.suspends = f->f_suspends,
	};
}

int
nic_classq_flows(struct port *classq, struct nic_classq_flow *v, int n)
{
	struct classq_port *cp = classq_find(classq);
	int count = 0;

	if (cp == NULL || n < 0) {
		return -EINVAL;
	}
	pthread_mutex_lock(&cp->p_mtx);
	for (unsigned b = 0; b < CQ_BUCKETS; b++) {
		const struct cq_flow *f = cp->p_q.q_bucket[b];

		for (; f != NULL; f = f->f_hnext, count++) {
			if (count < n) {
				classq_flow_out(f, &v[count]);
			}
		}
	}
	pthread_mutex_unlock(&cp->p_mtx);
	return count;
}
