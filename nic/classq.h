/*
 * classq.h - the scheduler of a class queue port: ten classes, flows inside
 * each, one packet out at a time.
 *
 * classq.c decides which packet is next, codel.c when a flow's queue stands
 * too long, tbr.c when the line is free. None of them knows a port or a clock.
 */
#ifndef NIC_CLASSQ_H
#define NIC_CLASSQ_H

#include "nic/flow.h"
#include "nic/port_impl.h"
#include "nic/qos.h"

#define CQ_BUCKETS 256	  /* of the flow table */
#define CQ_FLOWS 1024	  /* flows told apart; more share one each class */
#define CQ_LIMIT 2048	  /* packets, unless told */
#define CQ_LARGE 15000u	  /* bytes: a flow that may lose its head for others */
#define CQ_FC_BYTES 7500u /* bytes: less is no reason to stop a sender */
#define CQ_IDLE_NS (3 * UINT64_C(1000000000))
#define CQ_PURGE 4 /* idle flows forgotten at most for each packet */

/* Token bucket regulator: time, not tokens. tb_tat is when the line would be
 * free had everything been sent at the rate; it may lag by the burst. */
struct tbr {
	uint64_t tb_rate;  /* bits per second, 0: none */
	uint64_t tb_burst; /* ns */
	uint64_t tb_tat;
	uint64_t tb_frac; /* of a nanosecond, in units of 1/rate */
};

void tbr_set(struct tbr *tb, uint64_t rate, uint32_t burst);
/* When the next packet may leave; <= now: at once. */
uint64_t tbr_at(const struct tbr *tb);
void tbr_take(struct tbr *tb, uint32_t len, uint64_t now);

struct cq_node {
	struct pkt *n_pkt;
	struct cq_node *n_next;
};

struct cq_flow {
	struct cq_flow *f_hnext; /* of the bucket, or the free list */
	struct cq_flow *f_next;	 /* of the class's list */
	struct cq_flow *f_inext; /* of the idle list */
	struct cq_node *f_head, *f_tail;
	uint32_t f_id; /* p_flowid, or a hash of the addresses */
	uint32_t f_bytes, f_pkts;
	int32_t f_deficit;
	uint16_t f_flags; /* CQF_* */
	uint8_t f_queue;
	/* codel.c */
	uint32_t f_count;    /* signals since the delay rose */
	uint64_t f_ivend;    /* end of the interval, 0: none has begun */
	uint64_t f_min;	     /* least delay seen in it */
	uint64_t f_lastmin;  /* and in the one before */
	uint64_t f_signalat; /* when to signal again */
	uint64_t f_idlesince;
	uint64_t f_txpkts, f_txbytes, f_drops, f_marks, f_suspends;
};
/* f_flags; the first five are XNU's fq_flags */
#define CQF_OLD 0x01
#define CQF_NEW 0x02
#define CQF_LARGE 0x04
#define CQF_DELAY_HIGH 0x08
#define CQF_SUSPENDED 0x10 /* the sender has been told */
#define CQF_SHARED 0x20	   /* of all flows that found no place */
#define CQF_IDLE 0x40	   /* nothing queued, on no list of its class */
#define CQF_ONIDLE 0x80	   /* on the idle list */
#define CQF_BEHIND 0x100   /* older segments wait in a better class */

struct cq_list {
	struct cq_flow *l_head, *l_tail;
};

struct cq_class {
	struct cq_list c_new, c_old;
	struct cq_flow c_shared;
	int64_t c_budget;  /* bytes of this round */
	uint64_t c_round;  /* that c_budget is of */
	uint32_t c_nflows; /* with packets */
	uint32_t c_bytes, c_pkts;
	uint64_t c_maxdelay; /* ns */
	uint64_t c_txpkts, c_txbytes, c_overflow, c_aqm, c_marks, c_suspends;
};

struct classq {
	struct cq_class q_class[SVC_QUEUES];
	struct cq_flow *q_bucket[CQ_BUCKETS];
	struct cq_flow *q_flows, *q_freeflow; /* CQ_FLOWS of them */
	struct cq_list q_idle;
	struct cq_node *q_nodes, *q_freenode; /* q_limit of them */
	struct cq_flow *q_large;	      /* the longest, or nearly */
	struct flow_advtab *q_adv;
	uint64_t q_round;
	uint64_t q_target, q_interval; /* ns */
	uint32_t q_limit, q_pkts;
	uint32_t q_quantum;
	uint32_t q_l2len;
	bool q_ecn;
	bool q_resumed; /* somebody is to be notified */
	uint64_t q_dropped;
};

int classq_init(struct classq *q, uint32_t limit);
void classq_fini(struct classq *q); /* frees what is queued */
/* Takes p, whose class is p_svc. What overflows is dropped and counted. */
void classq_put(struct classq *q, struct pkt *p, uint64_t now);
/* The next packet to send, or NULL. */
struct pkt *classq_get(struct classq *q, uint64_t now);
/* Tell the senders that were stopped to go on, as far as tab concerns them,
 * and use another one. */
void classq_advise(struct classq *q, struct flow_advtab *tab);
/* Count what has gone past the queue. */
void classq_passed(struct classq *q, unsigned svc, uint32_t len);

/* For codel.c. */
struct pkt *cq_pop(struct classq *q, struct cq_flow *f);
void cq_suspend(struct classq *q, struct cq_flow *f);
void cq_resume(struct classq *q, struct cq_flow *f);
bool cq_advisable(const struct classq *q, const struct cq_flow *f);
/* The next packet of f, which is not empty, after the queue's delay has been
 * judged; NULL: all of it was dropped. */
struct pkt *codel_get(struct classq *q, struct cq_flow *f, uint64_t now);
/* Write CE into an ECN-capable packet (RFC 3168); false: it is none, or its
 * storage is shared. */
bool codel_mark(struct pkt *p, uint32_t l2len);

#endif
