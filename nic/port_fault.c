/*
 * port_fault.c - a port around a port that makes the link between them worse.
 *
 * Each direction is a link of its own. A packet that enters it passes, in this
 * order, the partition, the MTU, independent loss, bursts of loss, duplication,
 * corruption, then the line's rate with its queue, and is held until it is due:
 *
 *	due = when the last bit has left the queue + delay + jitter
 *
 * The delay alone never changes the order of packets, however large the jitter:
 * a packet is due no earlier than the one before it. Only `reorder` does, by
 * holding a packet back while others pass.
 *
 * Time comes in as an argument. Held packets wait in a heap by due time; both
 * po_rx and po_tx release what is due, and po_poll_at says when the next one is.
 *
 * Every impairment draws from a generator of its own, so that turning one on
 * does not change what another does for the same seed.
 *
 * A loss is the loss of one segment. Transmitted super-segments are cut before
 * they get here, since the port offers no segmentation and the door does it;
 * received ones are cut here, before they enter the link.
 *
 * The driver's thread is one; the mutex is for those who change or read the
 * faults of a running port from another.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "nic/api.h"
#include "nic/offload.h"
#include "nic/prng.h"

#define FAULT_TX 0
#define FAULT_RX 1
#define FAULT_BOTH 2
#define FAULT_QUEUE 1000 /* packets, when a rate has no limit of its own */
#define FAULT_QUEUE_MAX (1u << 20) /* packets */
#define FAULT_HELD_MAX (1u << 18)  /* packets waiting in one direction */
#define FAULT_GAP_NS 1000000u	   /* a reordered packet waits, unless told */
#define FAULT_TIME_MAX (3600 * UINT64_C(1000000000)) /* longest delay, ns */
#define FAULT_RATE_MAX UINT64_C(1000000000000)	     /* bits per second */
#define FAULT_RETRY_NS 100000u /* when the lower port took less than was due */
#define FAULT_ROUNDS 16	       /* bursts taken from below in one call */
#define FAULT_PARETO_MOST 64.0 /* longest tail, in units of the jitter */

enum fault_stream {
	FAULT_S_LOSS,
	FAULT_S_STATE,
	FAULT_S_BURST,
	FAULT_S_DUP,
	FAULT_S_CORRUPT,
	FAULT_S_JITTER,
	FAULT_S_REORDER,
	FAULT_NSTREAMS,
};

struct fault_held {
	uint64_t h_due;
	uint64_t h_seq; /* order of entry, among equals */
	struct pkt *h_pkt;
};

struct fault_link {
	struct nic_fault l_cfg;
	struct prng l_rng[FAULT_NSTREAMS];
	bool l_bad;	 /* Gilbert-Elliott: in the bad state */
	uint64_t l_last; /* due time of the last packet kept in order */
	uint64_t l_seq;
	struct fault_held *l_heap;
	uint32_t l_nheld, l_heapcap;
	uint64_t l_free;   /* when the line has sent all it was given */
	uint64_t *l_leave; /* ring: when each queued packet leaves */
	uint32_t l_head, l_nqueued, l_leavecap;
	struct nic_fault_stats l_stats;
};

struct fault_port {
	struct port f_port;
	pthread_mutex_t f_mtx; /* everything below */
	struct fault_link f_link[2];
	struct offload_cut f_cut; /* scratch: segments of one packet */
	uint64_t f_now;		  /* of the last call */
	bool f_stuck;		  /* the lower port left packets that are due */
	bool f_more; /* the lower port has more than one call took */
};

static const struct port_ops fault_ops;

static struct fault_port *
fault_of(struct port *pt)
{
	return CONTAINER_OF(pt, struct fault_port, f_port);
}

/* The nearest fault port at or below pt, or NULL. */
static struct fault_port *
fault_find(struct port *pt)
{
	while (pt != NULL && pt->pt_ops != &fault_ops) {
		pt = pt->pt_lower;
	}
	return pt != NULL ? fault_of(pt) : NULL;
}

/* The heap: the earliest due first, and among equals the earliest entered. */

static bool
fault_before(const struct fault_held *a, const struct fault_held *b)
{
	return a->h_due != b->h_due ? a->h_due < b->h_due : a->h_seq < b->h_seq;
}

/* False if there is no room or no memory; the packet is then the caller's. */
static bool
fault_push(struct fault_link *l, struct fault_held h)
{
	uint32_t i, up;

	if (l->l_nheld == l->l_heapcap) {
		uint32_t cap = l->l_heapcap != 0 ? l->l_heapcap * 2 : 64;
		struct fault_held *heap;

		if (cap > FAULT_HELD_MAX) {
			return false;
		}
		heap = realloc(l->l_heap, cap * sizeof(*heap));
		if (heap == NULL) {
			return false;
		}
		l->l_heap = heap;
		l->l_heapcap = cap;
	}
	for (i = l->l_nheld++; i > 0; i = up) {
		up = (i - 1) / 2;
		if (!fault_before(&h, &l->l_heap[up])) {
			break;
		}
		l->l_heap[i] = l->l_heap[up];
	}
	l->l_heap[i] = h;
	return true;
}

/* Take the first one out; there must be one. */
static struct fault_held
fault_pop(struct fault_link *l)
{
	struct fault_held first = l->l_heap[0];
	struct fault_held last = l->l_heap[--l->l_nheld];
	uint32_t i = 0, kid;

	while ((kid = 2 * i + 1) < l->l_nheld) {
		if (kid + 1 < l->l_nheld &&
		    fault_before(&l->l_heap[kid + 1], &l->l_heap[kid])) {
			kid++;
		}
		if (!fault_before(&l->l_heap[kid], &last)) {
			break;
		}
		l->l_heap[i] = l->l_heap[kid];
		i = kid;
	}
	if (l->l_nheld > 0) {
		l->l_heap[i] = last;
	}
	return first;
}

static bool
fault_due(const struct fault_link *l, uint64_t now)
{
	return l->l_nheld > 0 && l->l_heap[0].h_due <= now;
}

/* The impairments. */

static void
fault_drop(struct fault_port *f, int dir, struct pkt *p, uint64_t *reason)
{
	(*reason)++;
	stat_add(dir == FAULT_TX ? &f->f_port.pt_stats.ps_txdrops :
				   &f->f_port.pt_stats.ps_rxdrops,
	    1);
	pkt_free(p);
}

/* Bursts: the state moves first, then decides (Gilbert 1960, Elliott 1963). */
static bool
fault_burst(struct fault_link *l)
{
	const struct nic_fault *c = &l->l_cfg;
	double loss;

	if (c->ge_p <= 0) {
		l->l_bad = false;
		return false;
	}
	if (prng_chance(&l->l_rng[FAULT_S_STATE], l->l_bad ? c->ge_r : c->ge_p)) {
		l->l_bad = !l->l_bad;
	}
	/* A bad state that loses nothing means nothing: 0 is "not given". */
	loss = !l->l_bad       ? c->ge_loss_good :
	    c->ge_loss_bad > 0 ? c->ge_loss_bad :
				 1;
	return prng_chance(&l->l_rng[FAULT_S_BURST], loss);
}

/*
 * Flip one bit. The checksum is finished first and the packet loses its
 * voucher, so that the receiver checks and sees; storage that somebody shares
 * is copied first. The packet comes back, or NULL (freed) for want of memory.
 */
static struct pkt *
fault_corrupt(struct fault_port *f, struct fault_link *l, struct pkt *p)
{
	struct pkt *own = p;
	uint32_t bit;

	if (p->p_next != NULL || !pkt_writable(p)) {
		own = pkt_flatten(p, f->f_port.pt_pool, f->f_port.pt_headroom);
		pkt_free(p);
		if (own == NULL) {
			return NULL;
		}
	}
	if (own->p_flags & PKT_CSUM_PARTIAL) {
		(void)offload_csum(own);
	}
	own->p_flags &= (uint8_t)~(PKT_CSUM_PARTIAL | PKT_CSUM_VALID);
	if (own->p_len > 0) {
		/* Below 2^29 bytes, hence below 2^32 bits. */
		bit = prng_below(&l->l_rng[FAULT_S_CORRUPT], own->p_len * 8);
		own->p_data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
	}
	return own;
}

/* When a packet of len bytes given to the line now has left it; false: the
 * queue before it is full. */
static bool
fault_line(struct fault_link *l, uint32_t len, uint64_t now, uint64_t *leave)
{
	const struct nic_fault *c = &l->l_cfg;

	*leave = now;
	if (c->rate_bps == 0) {
		return true;
	}
	while (l->l_nqueued > 0 && l->l_leave[l->l_head] <= now) {
		l->l_head = (l->l_head + 1) % l->l_leavecap;
		l->l_nqueued--;
	}
	if (l->l_nqueued == l->l_leavecap) {
		return false;
	}
	if (l->l_free < now) {
		l->l_free = now;
	}
	/* Rounded up, lest the rate be beaten; no overflow below 2 GB. */
	l->l_free +=
	    ((uint64_t)len * 8 * 1000000000u + c->rate_bps - 1) / c->rate_bps;
	l->l_leave[(l->l_head + l->l_nqueued) % l->l_leavecap] = l->l_free;
	l->l_nqueued++;
	*leave = l->l_free;
	return true;
}

/* delay + jitter, never negative. */
static uint64_t
fault_delay(struct fault_link *l)
{
	const struct nic_fault *c = &l->l_cfg;
	struct prng *pr = &l->l_rng[FAULT_S_JITTER];
	double d = (double)c->delay_ns, j = (double)c->jitter_ns;

	if (c->jitter_ns == 0) {
		return c->delay_ns;
	}
	switch (c->jitter_dist) {
	case 0:
		d += j * (2.0 * prng_unit(pr) - 1.0);
		break;
	case 1:
		d += j * prng_normal(pr);
		break;
	default:
		d += j * prng_pareto(pr, FAULT_PARETO_MOST);
		break;
	}
	return d > 0 ? (uint64_t)d : 0;
}

/* Put a packet on the line; consumes it. */
static void
fault_send(struct fault_port *f, int dir, struct pkt *p, uint64_t now)
{
	struct fault_link *l = &f->f_link[dir];
	const struct nic_fault *c = &l->l_cfg;
	struct fault_held h = { .h_seq = l->l_seq++, .h_pkt = p };
	uint64_t leave;

	if (!fault_line(l, p->p_pktlen, now, &leave)) {
		fault_drop(f, dir, p, &l->l_stats.queue);
		return;
	}
	h.h_due = leave + fault_delay(l);
	if (h.h_due < l->l_last) {
		h.h_due = l->l_last;
	}
	if (prng_chance(&l->l_rng[FAULT_S_REORDER], c->reorder)) {
		h.h_due +=
		    c->reorder_gap_ns != 0 ? c->reorder_gap_ns : FAULT_GAP_NS;
		l->l_stats.reordered++;
	} else {
		l->l_last = h.h_due;
	}
	if (!fault_push(l, h)) {
		fault_drop(f, dir, p, &l->l_stats.nomem);
	}
}

/* A packet enters the link; consumes it. */
static void
fault_enter(struct fault_port *f, int dir, struct pkt *p, uint64_t now)
{
	struct fault_link *l = &f->f_link[dir];
	const struct nic_fault *c = &l->l_cfg;
	struct pkt *twin = NULL;

	if (c->partition) {
		fault_drop(f, dir, p, &l->l_stats.partition);
		return;
	}
	if (c->mtu != 0 &&
	    p->p_pktlen > (uint64_t)c->mtu + port_l2len(&f->f_port)) {
		fault_drop(f, dir, p, &l->l_stats.mtu);
		return;
	}
	if (prng_chance(&l->l_rng[FAULT_S_LOSS], c->loss)) {
		fault_drop(f, dir, p, &l->l_stats.lost);
		return;
	}
	if (fault_burst(l)) {
		fault_drop(f, dir, p, &l->l_stats.burst);
		return;
	}
	if (prng_chance(&l->l_rng[FAULT_S_DUP], c->dup)) {
		twin = pkt_flatten(p, f->f_port.pt_pool, f->f_port.pt_headroom);
		if (twin != NULL) {
			l->l_stats.duplicated++;
		}
	}
	if (prng_chance(&l->l_rng[FAULT_S_CORRUPT], c->corrupt)) {
		p = fault_corrupt(f, l, p);
		if (p == NULL) {
			fault_drop(f, dir, NULL, &l->l_stats.nomem);
		} else {
			l->l_stats.corrupted++;
		}
	}
	if (p != NULL) {
		fault_send(f, dir, p, now);
	}
	if (twin != NULL) {
		fault_send(f, dir, twin, now);
	}
}

/* A received packet enters, in segments if it is a super-segment that can be
 * cut; consumes it. */
static void
fault_receive(struct fault_port *f, struct pkt *p, uint64_t now)
{
	struct port *pt = &f->f_port;
	uint32_t i;

	f->f_cut.sc_n = 0;
	if (p->p_gso_type == PKT_GSO_NONE ||
	    offload_cut(p, pt->pt_pool, port_l2len(pt), PORT_RXROOM, false,
		(p->p_flags & PKT_CSUM_PARTIAL) != 0, &f->f_cut) != 0) {
		fault_enter(f, FAULT_RX, p, now);
		return;
	}
	pkt_free(p);
	for (i = 0; i < f->f_cut.sc_n; i++) {
		fault_enter(f, FAULT_RX, f->f_cut.sc_v[i], now);
	}
}

/* Up to n packets that are due, each with its due time, into h. */
static int
fault_leave(struct fault_port *f, int dir, struct fault_held *h, int n,
    uint64_t now)
{
	struct fault_link *l = &f->f_link[dir];
	int k = 0;

	while (k < n && fault_due(l, now)) {
		h[k] = fault_pop(l);
		if (l->l_cfg.partition) {
			/* Cut while on the way. */
			fault_drop(f, dir, h[k].h_pkt, &l->l_stats.partition);
			continue;
		}
		k++;
	}
	return k;
}

/* Hand down what is due. 0, or the lower port's error if it took nothing. */
static int
fault_release(struct fault_port *f, uint64_t now)
{
	struct fault_link *l = &f->f_link[FAULT_TX];
	struct port *lower = f->f_port.pt_lower;
	struct fault_held h[PORT_BURST];
	struct pkt *v[PORT_BURST];
	int i, n, took;

	f->f_stuck = false;
	while ((n = fault_leave(f, FAULT_TX, h, PORT_BURST, now)) > 0) {
		for (i = 0; i < n; i++) {
			v[i] = h[i].h_pkt;
		}
		took = lower->pt_output(lower, v, n, now);
		for (i = took > 0 ? took : 0; i < n; i++) {
			/* There is room: they were in there just now. */
			(void)fault_push(l, h[i]);
			f->f_stuck = true;
		}
		l->l_stats.passed += (uint64_t)(took > 0 ? took : 0);
		if (f->f_stuck) {
			return took < 0 ? took : 0;
		}
	}
	return 0;
}

static int
fault_tx(struct port *pt, struct pkt **v, int n, uint64_t now)
{
	struct fault_port *f = fault_of(pt);
	int i, error;

	pthread_mutex_lock(&f->f_mtx);
	f->f_now = now;
	error = fault_release(f, now);
	if (f->f_stuck) {
		/* What is due goes first; the sender waits with its own. */
		pthread_mutex_unlock(&f->f_mtx);
		return error;
	}
	for (i = 0; i < n; i++) {
		fault_enter(f, FAULT_TX, v[i], now);
	}
	(void)fault_release(f, now);
	pthread_mutex_unlock(&f->f_mtx);
	return n;
}

/* Up to n received packets that are due. */
static int
fault_deliver(struct fault_port *f, struct pkt **v, int n, uint64_t now)
{
	struct fault_held h[PORT_BURST];
	int i, k;

	k = fault_leave(f, FAULT_RX, h, n < PORT_BURST ? n : PORT_BURST, now);
	for (i = 0; i < k; i++) {
		v[i] = h[i].h_pkt;
		/* It arrived when the link let go of it. */
		if (v[i]->p_time < h[i].h_due) {
			v[i]->p_time = h[i].h_due;
		}
	}
	f->f_link[FAULT_RX].l_stats.passed += (uint64_t)k;
	return k;
}

static int
fault_rx(struct port *pt, struct pkt **v, int n, uint64_t now)
{
	struct fault_port *f = fault_of(pt);
	struct port *lower = pt->pt_lower;
	struct pkt *in[PORT_BURST];
	int i, k = 0, got, round;

	pthread_mutex_lock(&f->f_mtx);
	f->f_now = now;
	(void)fault_release(f, now);
	got = fault_deliver(f, v, n, now);
	/*
	 * All of a burst may be lost or held, which must not look like a port
	 * with nothing more: go on until something can be given or nothing is
	 * left, but not for ever.
	 */
	for (round = 0; got < n && round < FAULT_ROUNDS; round++) {
		k = lower->pt_input(lower, in, PORT_BURST, now);
		for (i = 0; i < k; i++) {
			fault_receive(f, in[i], now);
		}
		if (k > 0) {
			got += fault_deliver(f, v + got, n - got, now);
		}
		if (k <= 0 || got > 0) {
			break;
		}
	}
	f->f_more = k > 0;
	pthread_mutex_unlock(&f->f_mtx);
	return got == 0 && k < 0 ? k : got;
}

static int
fault_ctl(struct port *pt, int cmd, void *arg)
{
	struct port *lower = pt->pt_lower;

	return lower->pt_ops->po_ctl != NULL ?
	    lower->pt_ops->po_ctl(lower, cmd, arg) :
	    -EOPNOTSUPP;
}

static int
fault_fd(struct port *pt)
{
	return port_fd(pt->pt_lower);
}

static uint64_t
fault_poll_at(struct port *pt)
{
	struct fault_port *f = fault_of(pt);
	uint64_t at = port_poll_at(pt->pt_lower);
	int dir;

	pthread_mutex_lock(&f->f_mtx);
	for (dir = 0; dir < 2; dir++) {
		struct fault_link *l = &f->f_link[dir];
		uint64_t due = PORT_NEVER;

		if (l->l_nheld > 0) {
			due = l->l_heap[0].h_due;
		}
		if (dir == FAULT_TX && f->f_stuck) {
			due = f->f_now + FAULT_RETRY_NS;
		}
		at = due < at ? due : at;
	}
	if (f->f_more && f->f_now < at) {
		at = f->f_now;
	}
	pthread_mutex_unlock(&f->f_mtx);
	return at;
}

static void
fault_close(struct port *pt)
{
	struct fault_port *f = fault_of(pt);
	int dir;

	for (dir = 0; dir < 2; dir++) {
		struct fault_link *l = &f->f_link[dir];

		while (l->l_nheld > 0) {
			pkt_free(l->l_heap[--l->l_nheld].h_pkt);
		}
		free(l->l_heap);
		free(l->l_leave);
	}
	free(f->f_cut.sc_v);
	port_fini(pt);
	nic_close(pt->pt_lower);
	pthread_mutex_destroy(&f->f_mtx);
	free(f);
}

static const struct port_ops fault_ops = {
	.po_name = "fault",
	.po_rx = fault_rx,
	.po_tx = fault_tx,
	.po_fd = fault_fd,
	.po_poll_at = fault_poll_at,
	.po_ctl = fault_ctl,
	.po_close = fault_close,
};

int
nic_fault_wrap(struct port *lower, uint64_t seed, struct port **out)
{
	struct fault_port *f = calloc(1, sizeof(*f));
	int dir, s;

	if (f == NULL) {
		nic_close(lower);
		return -ENOMEM;
	}
	pthread_mutex_init(&f->f_mtx, NULL);
	for (dir = 0; dir < 2; dir++) {
		for (s = 0; s < FAULT_NSTREAMS; s++) {
			prng_init(&f->f_link[dir].l_rng[s], seed,
			    (uint64_t)(dir * FAULT_NSTREAMS + s));
		}
	}
	port_setup(&f->f_port, &fault_ops, lower->pt_pool, lower->pt_name);
	port_inherit(&f->f_port, lower);
	f->f_port.pt_caps &= ~(uint32_t)PORT_TSO;
	*out = &f->f_port;
	return 0;
}

/* A probability; false for what is no number. */
static bool
fault_is_chance(double p)
{
	return p >= 0 && p <= 1;
}

static bool
fault_valid(const struct nic_fault *c)
{
	return fault_is_chance(c->loss) && fault_is_chance(c->ge_p) &&
	    fault_is_chance(c->ge_r) && fault_is_chance(c->ge_loss_bad) &&
	    fault_is_chance(c->ge_loss_good) && fault_is_chance(c->dup) &&
	    fault_is_chance(c->corrupt) && fault_is_chance(c->reorder) &&
	    c->reorder_gap_ns <= FAULT_TIME_MAX &&
	    c->delay_ns <= FAULT_TIME_MAX && c->jitter_ns <= FAULT_TIME_MAX &&
	    c->jitter_dist >= 0 && c->jitter_dist <= 2 &&
	    c->rate_bps <= FAULT_RATE_MAX && c->queue_pkts <= FAULT_QUEUE_MAX;
}

/*
 * The link as configured from now on. Packets on their way keep their due
 * times; of those queued for the line, the ones a shorter queue has no place
 * for are no longer counted in it. leave is a ring of cap entries.
 */
static void
fault_apply(struct fault_link *l, const struct nic_fault *c, uint64_t *leave,
    uint32_t cap)
{
	uint32_t i, n = l->l_nqueued < cap ? l->l_nqueued : cap;
	uint32_t skip = l->l_nqueued - n;

	for (i = 0; i < n; i++) {
		leave[i] = l->l_leave[(l->l_head + skip + i) % l->l_leavecap];
	}
	free(l->l_leave);
	l->l_leave = leave;
	l->l_leavecap = cap;
	l->l_head = 0;
	l->l_nqueued = n;
	l->l_cfg = *c;
}

int
nic_fault_set(struct port *fault, int dir, const struct nic_fault *cfg)
{
	struct fault_port *f = fault_find(fault);
	uint32_t cap = cfg->queue_pkts != 0 ? cfg->queue_pkts : FAULT_QUEUE;
	uint64_t *leave[2] = { NULL, NULL };
	int d, last = dir == FAULT_BOTH ? FAULT_RX : dir;
	int first = dir == FAULT_BOTH ? FAULT_TX : dir;

	if (f == NULL || dir < FAULT_TX || dir > FAULT_BOTH ||
	    !fault_valid(cfg)) {
		return -EINVAL;
	}
	if (cfg->rate_bps == 0) {
		cap = 0;
	}
	for (d = first; d <= last && cap != 0; d++) {
		leave[d] = calloc(cap, sizeof(*leave[d]));
		if (leave[d] == NULL) {
			free(leave[FAULT_TX]);
			return -ENOMEM;
		}
	}
	pthread_mutex_lock(&f->f_mtx);
	for (d = first; d <= last; d++) {
		fault_apply(&f->f_link[d], cfg, leave[d], cap);
	}
	pthread_mutex_unlock(&f->f_mtx);
	return 0;
}

int
nic_fault_stats(struct port *fault, int dir, struct nic_fault_stats *out)
{
	struct fault_port *f = fault_find(fault);

	if (f == NULL || (dir != FAULT_TX && dir != FAULT_RX)) {
		return -EINVAL;
	}
	pthread_mutex_lock(&f->f_mtx);
	*out = f->f_link[dir].l_stats;
	out->held = f->f_link[dir].l_nheld;
	pthread_mutex_unlock(&f->f_mtx);
	return 0;
}
