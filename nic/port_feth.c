/*
 * port_feth.c - two ports joined by a wire in memory (after XNU's feth).
 *
 * Each end owns the receiving side of one ring and the sending side of the
 * other. A ring has one producer and one consumer, which may be two threads:
 *
 *	producer: slot = p; tail (A release)	consumer: tail (B acquire); slot
 *	consumer: slot read; head (C release)	producer: head (D acquire); slot
 *
 * Packets cross by pointer and are nobody's copy; the storage goes back to
 * the pool of whoever made it.
 *
 * The doorbell, with threads, is an eventfd for each end. A consumer that finds
 * its ring empty arms its bell and looks again; who publishes and finds the
 * bell armed disarms it and rings. "Publish, look at the bell" (E) and "arm,
 * look at the ring" (F) are sequentially consistent, so one of the two sees
 * the other, and a consumer may sleep on its fd after any po_rx. While it is
 * awake the bell is disarmed and nobody makes system calls.
 *
 * An eventfd is always writable, so after a short take the sender tries again by
 * and by. A socketpair could be unwritable until there is room, but ringing it
 * costs 1.7 us where this costs 0.5.
 *
 * r_dirty is set after every ring: no read is tried without it, and one tried
 * too much finds nothing.
 *
 * The fds live as long as the pair. An end that closes rings the other, whose
 * link is down then; what it sends is dropped and counted.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "nic/api.h"
#include "nic/port_impl.h"

#define FETH_QMAX (1u << 20)

struct feth_ring {
	/* The producer's. */
	_Alignas(64) atomic_uint r_tail;
	uint32_t r_head_seen;
	/* The consumer's. */
	_Alignas(64) atomic_uint r_head;
	uint32_t r_tail_seen;
	/* Both. */
	_Alignas(64) atomic_bool r_armed;
	atomic_bool r_dirty; /* r_fd was written to */
	struct pkt **r_slot; /* r_mask + 1 */
	uint32_t r_mask, r_qlen;
	int r_fd; /* the consumer sleeps on it; -1: no threads */
};

struct feth_pair;

struct feth {
	struct port f_port;
	struct feth_pair *f_pair;
	struct feth_ring *f_rx, *f_tx;
	atomic_bool *f_closed, *f_gone; /* this end, the other end */
};

struct feth_pair {
	struct feth_ring fp_ring[2]; /* fp_ring[i] is received by end i */
	atomic_uint fp_refs;
	atomic_bool fp_closed[2];
	struct feth fp_end[2];
};

/* Make the consumer's fd readable. */
static void
ring_wake(struct feth_ring *r)
{
	const uint64_t one = 1;

	/* Before, because the woken consumer may have our processor, and would
	 * find its fd readable for as long as we wait for it; and after,
	 * because it may have looked between the two. */
	atomic_store_explicit(&r->r_dirty, true, memory_order_release);
	/* It cannot fail before 2^64 - 1 rings that nobody heard. */
	if (write(r->r_fd, &one, sizeof(one)) == (ssize_t)sizeof(one)) {
		atomic_store_explicit(&r->r_dirty, true, memory_order_release);
	}
}

/* Something is in the ring: wake the consumer if it may be asleep. */
static void
ring_bell(struct feth_ring *r)
{
	if (r->r_fd >= 0 && atomic_load(&r->r_armed) && /* (E) */
	    atomic_exchange_explicit(&r->r_armed, false, memory_order_acq_rel)) {
		ring_wake(r);
	}
}

static uint32_t
ring_push(struct feth_ring *r, struct pkt **v, uint32_t n)
{
	uint32_t tail = atomic_load_explicit(&r->r_tail, memory_order_relaxed);
	uint32_t room = r->r_qlen - (tail - r->r_head_seen);

	if (room < n) {
		r->r_head_seen = atomic_load_explicit(&r->r_head,
		    memory_order_acquire); /* (D) */
		room = r->r_qlen - (tail - r->r_head_seen);
	}
	n = MIN_OF(n, room);
	for (uint32_t i = 0; i < n; i++) {
		r->r_slot[(tail + i) & r->r_mask] = v[i];
	}
	if (r->r_fd >= 0) {
		atomic_store(&r->r_tail, tail + n); /* (A) (E) */
	} else {
		atomic_store_explicit(&r->r_tail, tail + n,
		    memory_order_release); /* (A) */
	}
	return n;
}

static uint32_t
ring_pop(struct feth_ring *r, struct pkt **v, uint32_t n)
{
	uint32_t head = atomic_load_explicit(&r->r_head, memory_order_relaxed);

	if (r->r_tail_seen - head < n) {
		r->r_tail_seen = atomic_load_explicit(&r->r_tail,
		    memory_order_acquire); /* (B) */
	}
	n = MIN_OF(n, r->r_tail_seen - head);
	for (uint32_t i = 0; i < n; i++) {
		v[i] = r->r_slot[(head + i) & r->r_mask];
	}
	atomic_store_explicit(&r->r_head, head + n,
	    memory_order_release); /* (C) */
	return n;
}

static bool
feth_gone(struct feth *f)
{
	return atomic_load_explicit(f->f_gone, memory_order_acquire);
}

static bool
ring_empty(struct feth_ring *r)
{
	return atomic_load(&r->r_tail) == /* (F) */
	    atomic_load_explicit(&r->r_head, memory_order_relaxed);
}

/* The consumer found nothing: quieten the fd and arm the bell. True when
 * something has come meanwhile; then the bell has rung too. */
static bool
feth_arm(struct feth *f)
{
	struct feth_ring *r = f->f_rx;
	uint64_t rings;
	ssize_t got;

	if (r->r_fd < 0) {
		return false;
	}
	if (atomic_load_explicit(&r->r_dirty, memory_order_relaxed) &&
	    atomic_exchange_explicit(&r->r_dirty, false, memory_order_acq_rel)) {
		got = read(r->r_fd, &rings, sizeof(rings));
		(void)got; /* nothing: read before r_dirty was set */
	}
	if (atomic_load_explicit(&r->r_armed, memory_order_relaxed)) {
		return false;
	}
	atomic_store(&r->r_armed, true); /* (F) */
	if (ring_empty(r)) {
		return false;
	}
	ring_bell(r);
	return true;
}

static int
feth_rx(struct port *pt, struct pkt **v, int n, uint64_t now)
{
	struct feth *f = CONTAINER_OF(pt, struct feth, f_port);
	uint32_t k;

	if (n <= 0) {
		return 0;
	}
	k = ring_pop(f->f_rx, v, (uint32_t)n);
	if (k == 0 && feth_arm(f)) {
		k = ring_pop(f->f_rx, v, (uint32_t)n);
	}
	for (uint32_t i = 0; i < k; i++) {
		port_turn(v[i], now);
	}
	return (int)k;
}

static int
feth_tx(struct port *pt, struct pkt **v, int n, uint64_t now)
{
	struct feth *f = CONTAINER_OF(pt, struct feth, f_port);
	uint32_t k;

	(void)now;
	if (n <= 0) {
		return 0;
	}
	if (feth_gone(f)) {
		for (int i = 0; i < n; i++) {
			port_txdrop(pt, v[i]);
		}
		return n;
	}
	k = ring_push(f->f_tx, v, (uint32_t)n);
	if (k > 0) {
		ring_bell(f->f_tx);
	}
	return (int)k;
}

static int
feth_fd(struct port *pt)
{
	return CONTAINER_OF(pt, struct feth, f_port)->f_rx->r_fd;
}

static uint64_t
feth_poll_at(struct port *pt)
{
	struct feth *f = CONTAINER_OF(pt, struct feth, f_port);

	return ring_empty(f->f_rx) ? PORT_NEVER : 0;
}

static int
feth_ctl(struct port *pt, int cmd, void *arg)
{
	struct feth *f = CONTAINER_OF(pt, struct feth, f_port);

	switch (cmd) {
	case PORT_CTL_LINK:
		*(int *)arg = !feth_gone(f);
		return 0;
	case PORT_CTL_PROMISC:
	case PORT_CTL_MTU:
	case PORT_CTL_MCAST_ADD:
	case PORT_CTL_MCAST_DEL:
	case PORT_CTL_MAC:
		return 0;
	default:
		return -EOPNOTSUPP;
	}
}

/* Free what nobody has received. Only for the consumer. */
static void
ring_purge(struct feth_ring *r)
{
	struct pkt *p;

	while (ring_pop(r, &p, 1) == 1) {
		pkt_free(p);
	}
}

static void
pair_drop(struct feth_pair *fp)
{
	if (atomic_fetch_sub_explicit(&fp->fp_refs, 1, memory_order_acq_rel) !=
	    1) {
		return;
	}
	for (int i = 0; i < 2; i++) {
		struct feth_ring *r = &fp->fp_ring[i];

		if (r->r_slot != NULL) {
			ring_purge(r);
			free(r->r_slot);
		}
		if (r->r_fd >= 0) {
			close(r->r_fd);
		}
	}
	free(fp);
}

static void
feth_close(struct port *pt)
{
	struct feth *f = CONTAINER_OF(pt, struct feth, f_port);

	atomic_store_explicit(f->f_closed, true, memory_order_release);
	ring_purge(f->f_rx);
	port_fini(pt);
	if (f->f_tx->r_fd >= 0) {
		ring_wake(f->f_tx);
	}
	pair_drop(f->f_pair);
}

static const struct port_ops feth_ops = {
	.po_name = "feth",
	.po_rx = feth_rx,
	.po_tx = feth_tx,
	.po_fd = feth_fd,
	.po_poll_at = feth_poll_at,
	.po_ctl = feth_ctl,
	.po_close = feth_close,
};

/* What an end sends the other receives, so offers depend on each other. */
static uint32_t
feth_caps(uint32_t mask, int link)
{
	uint32_t caps = (PORT_MEMORY | PORT_OFFLOADS) & mask;

	if ((caps & PORT_RXCSUM) == 0) {
		caps &= ~(uint32_t)(PORT_MEMORY | PORT_TXCSUM);
	}
	caps = port_caps_sane(caps);
	if ((caps & PORT_LRO) == 0) {
		caps &= ~(uint32_t)PORT_TSO;
	}
	return caps | (link == 0 ? PORT_BROADCAST : 0);
}

static void
feth_setup(struct feth_pair *fp, int i, struct pkt_pool *pool, int link)
{
	struct feth *f = &fp->fp_end[i];
	const uint8_t mac[ETHER_ADDR_LEN] = { 0x02, 'f', 'e', 't', 'h',
		(uint8_t)i };

	port_setup(&f->f_port, &feth_ops, pool, i == 0 ? "feth0" : "feth1");
	f->f_port.pt_link = link == 0 ? PORT_ETHER : PORT_RAWIP;
	f->f_port.pt_gsomax = PORT_IPMAX + port_l2len(&f->f_port);
	if (link == 0) {
		f->f_port.pt_headroom = ETHER_ALIGN;
		memcpy(f->f_port.pt_mac, mac, sizeof(mac));
	}
	f->f_pair = fp;
	f->f_rx = &fp->fp_ring[i];
	f->f_tx = &fp->fp_ring[1 - i];
	f->f_closed = &fp->fp_closed[i];
	f->f_gone = &fp->fp_closed[1 - i];
}

static int
ring_init(struct feth_ring *r, uint32_t qlen, int threads)
{
	uint32_t slots = 1;

	while (slots < qlen) {
		slots *= 2;
	}
	r->r_qlen = qlen;
	r->r_mask = slots - 1;
	r->r_fd = -1;
	/* Nobody is awake yet. */
	atomic_init(&r->r_armed, true);
	r->r_slot = calloc(slots, sizeof(struct pkt *));
	if (r->r_slot == NULL) {
		return -ENOMEM;
	}
	if (threads) {
		r->r_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		return r->r_fd >= 0 ? 0 : -errno;
	}
	return 0;
}

static int
pair_make(uint32_t qlen, int threads, struct feth_pair **out)
{
	struct feth_pair *fp = aligned_alloc(64, sizeof(*fp));
	int error;

	if (fp == NULL) {
		return -ENOMEM;
	}
	memset(fp, 0, sizeof(*fp));
	atomic_init(&fp->fp_refs, 1);
	fp->fp_ring[1].r_fd = -1;
	error = ring_init(&fp->fp_ring[0], qlen, threads);
	if (error == 0) {
		error = ring_init(&fp->fp_ring[1], qlen, threads);
	}
	if (error != 0) {
		pair_drop(fp);
		return error;
	}
	*out = fp;
	return 0;
}

int
nic_feth_open(struct pkt_pool *pool_a, struct pkt_pool *pool_b, int link,
    uint32_t mtu, uint32_t qlen, uint32_t caps_mask, int threads,
    struct port **a, struct port **b)
{
	struct pkt_pool *pool[2] = { pool_a, pool_b };
	struct feth_pair *fp;
	int error;

	if (mtu < 68 || mtu > PORT_IPMAX || qlen == 0 || qlen > FETH_QMAX ||
	    link < 0 || link > 1) {
		return -EINVAL;
	}
	error = pair_make(qlen, threads, &fp);
	if (error != 0) {
		return error;
	}
	atomic_store_explicit(&fp->fp_refs, 2, memory_order_relaxed);
	for (int i = 0; i < 2; i++) {
		feth_setup(fp, i, pool[i], link);
		fp->fp_end[i].f_port.pt_mtu = mtu;
		fp->fp_end[i].f_port.pt_caps = feth_caps(caps_mask, link);
	}
	*a = &fp->fp_end[0].f_port;
	*b = &fp->fp_end[1].f_port;
	return 0;
}
