/*
 * fsw_host.c - the HOST port: what DEV was to the stack, and still seems to be.
 *
 * Its descriptor is DEV's, so all that a stack relies on (readable, writable,
 * level-triggered) stays true. Packets that clients hand it through its ring do
 * not show there; for these po_poll_at answers 0, and the wake function pokes
 * who sleeps. Over a DEV that loops, the descriptor is an eventfd of its own.
 *
 * Counting is done here; what DEV cannot do for the sender its own door does.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>

#include "skywalk/flowswitch/fsw.h"

/* Bursts for clients alone that one call passes on, before HOST's stack gets to
 * do something else. */
#define HOST_BURSTS 16

static struct fsw_end *
end_of(struct port *pt)
{
	return FSW_CONTAINER(pt, struct fsw_end, e_port);
}

/* From DEV: packets for HOST in v, those for clients on their way. */
static int
host_pull(struct fsw *f, struct pkt **v, int n, uint64_t now)
{
	struct port *dev = f->f_dev;
	int k = 0, got;

	f->f_more = false;
	for (int i = 0; i < HOST_BURSTS; i++) {
		got = dev->pt_input(dev, v, n, now);
		if (got <= 0) {
			return got;
		}
		k = fsw_demux(f, v, got);
		if (k > 0) {
			return k;
		}
	}
	f->f_more = true;
	return 0;
}

static int
host_rx(struct port *pt, struct pkt **v, int n, uint64_t now)
{
	struct fsw_end *e = end_of(pt);
	struct fsw *f = e->e_fsw;
	int k;

	if (n <= 0) {
		return 0;
	}
	k = (int)ring_get(&e->e_ring, v, (uint32_t)n);
	if (k > 0) {
		return k;
	}
	pthread_mutex_lock(&f->f_lock);
	fsw_service(f, now);
	if (!f->f_loop) {
		k = host_pull(f, v, n, now);
		fsw_flush(f, e);
	}
	if (f->f_nback > 0) {
		(void)fsw_drain(f);
	}
	pthread_mutex_unlock(&f->f_lock);
	if (k == 0 && ring_arm(&e->e_ring)) {
		k = (int)ring_get(&e->e_ring, v, (uint32_t)n);
	}
	return k;
}

static int
host_input(struct port *pt, struct pkt **v, int n, uint64_t now)
{
	uint64_t bytes = 0;
	int k = host_rx(pt, v, n < PORT_BURST ? n : PORT_BURST, now);

	if (k <= 0) {
		return k;
	}
	for (int i = 0; i < k; i++) {
		bytes += v[i]->p_pktlen;
	}
	fsw_portadd(&pt->pt_stats.ps_rxpkts, (uint64_t)k);
	fsw_portadd(&pt->pt_stats.ps_rxbytes, bytes);
	return k;
}

/* What DEV's door has done for us, and what waits there: HOST must call again. */
static void
host_mirror(struct port *pt, const struct port *dev)
{
	struct port_stats *ps = &pt->pt_stats;

	__atomic_store_n(&ps->ps_swcsum, dev->pt_stats.ps_swcsum,
	    __ATOMIC_RELAXED);
	__atomic_store_n(&ps->ps_swgso, dev->pt_stats.ps_swgso,
	    __ATOMIC_RELAXED);
	pt->pt_npend = dev->pt_npend;
}

static int
host_tx(struct port *pt, struct pkt **v, int n, uint64_t now)
{
	struct fsw_end *e = end_of(pt);
	struct fsw *f = e->e_fsw;
	struct port *dev;
	int k = 0;

	pthread_mutex_lock(&f->f_lock);
	dev = f->f_dev;
	fsw_service(f, now);
	if (f->f_loop) {
		uint32_t room = ring_room(&e->e_ring);

		k = (uint32_t)n < room ? n : (int)room;
		fsw_loop(f, v, k);
		fsw_flush(f, e);
	} else if (f->f_nback == 0 || fsw_drain(f)) {
		k = dev->pt_output(dev, v, n, now);
	}
	host_mirror(pt, dev);
	pthread_mutex_unlock(&f->f_lock);
	return k;
}

static int
host_output(struct port *pt, struct pkt **v, int n, uint64_t now)
{
	uint32_t len[PORT_BURST];
	uint64_t bytes = 0;
	int k;

	n = n < PORT_BURST ? n : PORT_BURST;
	for (int i = 0; i < n; i++) {
		len[i] = v[i]->p_pktlen; /* gone once they are taken */
	}
	k = host_tx(pt, v, n, now);
	for (int i = 0; i < k; i++) {
		bytes += len[i];
	}
	if (k > 0) {
		fsw_portadd(&pt->pt_stats.ps_txpkts, (uint64_t)k);
		fsw_portadd(&pt->pt_stats.ps_txbytes, bytes);
	}
	return k;
}

static int
host_fd(struct port *pt)
{
	struct fsw_end *e = end_of(pt);

	return e->e_fsw->f_loop ? e->e_ring.r_fd : port_fd(e->e_fsw->f_dev);
}

static uint64_t
host_poll_at(struct port *pt)
{
	struct fsw_end *e = end_of(pt);
	struct fsw *f = e->e_fsw;
	uint64_t at = PORT_NEVER;

	if (!ring_empty(&e->e_ring) ||
	    atomic_load_explicit(&f->f_ns->ns_due, memory_order_relaxed) ||
	    atomic_load_explicit(&f->f_ns->ns_naborts, memory_order_relaxed) >
		0) {
		return 0;
	}
	pthread_mutex_lock(&f->f_lock);
	if (!f->f_loop) {
		at = f->f_more ? 0 : port_poll_at(f->f_dev);
	}
	if (f->f_tick < at) {
		at = f->f_tick;
	}
	if (f->f_nback > 0) {
		/* Its sender may be gone. */
		uint64_t retry =
		    atomic_load_explicit(&f->f_clientat, memory_order_relaxed);

		at = retry < at ? retry : at;
	}
	pthread_mutex_unlock(&f->f_lock);
	return at;
}

static int
host_ctl(struct port *pt, int cmd, void *arg)
{
	struct fsw_end *e = end_of(pt);
	struct fsw *f = e->e_fsw;
	struct port *dev = f->f_dev;
	int error = -EOPNOTSUPP;

	pthread_mutex_lock(&f->f_lock);
	if (dev->pt_ops->po_ctl != NULL) {
		error = dev->pt_ops->po_ctl(dev, cmd, arg);
	}
	if (error == 0 && cmd == PORT_CTL_MTU) {
		dev->pt_mtu = f->f_mtu = *(const uint32_t *)arg;
	}
	if ((error == 0 || error == -EOPNOTSUPP) && cmd == PORT_CTL_MAC) {
		memcpy(dev->pt_mac, arg, sizeof(dev->pt_mac));
	}
	pthread_mutex_unlock(&f->f_lock);
	return error;
}

/* Clients find out by -ENXIO. */
static void
host_close(struct port *pt)
{
	struct fsw_end *e = end_of(pt), *c;
	struct fsw *f = e->e_fsw;
	struct netns *ns = f->f_ns;

	pthread_mutex_lock(&f->f_lock);
	fsw_aborts(f);
	fsw_flush(f, e);
	pthread_mutex_lock(&ns->ns_lock);
	netns_forget(ns, f->f_index);
	f->f_host = NULL;
	pthread_mutex_unlock(&ns->ns_lock);
	fsw_backlog_fini(f);
	routes_fini(f);
	frag_expire(f, true);
	f->f_dev->pt_ops->po_close(f->f_dev);
	f->f_dev = NULL;
	LIST_FOREACH (c, &f->f_clients, e_link) {
		atomic_store_explicit(&c->e_dead, true, memory_order_release);
		end_event(c);
	}
	pthread_mutex_unlock(&f->f_lock);
	ring_fini(&e->e_ring);
	free(e);
	fsw_unref(f);
}

static const struct port_ops host_ops = {
	.po_name = "fsw-host",
	.po_rx = host_rx,
	.po_tx = host_tx,
	.po_fd = host_fd,
	.po_poll_at = host_poll_at,
	.po_ctl = host_ctl,
	.po_close = host_close,
};

int
host_open(struct fsw *f, struct pkt_pool *pool, uint32_t ring)
{
	struct fsw_end *e = aligned_alloc(64, sizeof(*e));
	struct port *pt, *dev = f->f_dev;
	int fd = -1;

	if (e == NULL) {
		return -ENOMEM;
	}
	memset(e, 0, sizeof(*e));
	if (f->f_loop) {
		fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		if (fd < 0) {
			free(e);
			return -errno;
		}
	}
	f->f_host = e;
	if (!ring_init(&e->e_ring, ring, fd, true)) {
		return -ENOMEM; /* the caller frees f_host */
	}
	end_setup(e, f, &host_ops, pool, dev->pt_name);
	pt = &e->e_port;
	pt->pt_input = host_input;
	pt->pt_output = host_output;
	/* Clients send it what DEV might not. */
	pt->pt_caps = dev->pt_caps | PORT_RXCSUM | PORT_LRO;
	pt->pt_gsomax = dev->pt_gsomax;
	pt->pt_link = dev->pt_link;
	pt->pt_lower = dev; /* for tools that look for a wrapper */
	memcpy(pt->pt_mac, dev->pt_mac, sizeof(pt->pt_mac));
	pt->pt_headroom = dev->pt_headroom;
	e->e_host = true;
	return 0;
}
