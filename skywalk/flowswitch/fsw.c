/*
 * fsw.c - life of a flowswitch, what it does by the clock, and its counters.
 */
#include "skywalk/flowswitch/fsw.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define FSW_HOSTRING 4096
#define FSW_CLIENTRING 2048
#define FSW_BACKLOG 512
#define FSW_RINGMAX (1u << 20)
#define FSW_AGGMIN 16384
#define FSW_STALL 10000000000u /* as in XNU */

/* clang-format off */
static const char *const stat_names[FS_NSTATS] = {
	[FS_RX_PKTS] = "rx_pkts",
	[FS_RX_HOST] = "rx_host",
	[FS_RX_CLIENT] = "rx_client",
	[FS_RX_BAD] = "rx_bad",
	[FS_RX_ICMP] = "rx_icmp",
	[FS_RX_MULTICAST] = "rx_multicast",
	[FS_RX_AGGREGATED] = "rx_aggregated",
	[FS_RX_DST_RING_FULL] = "rx_dst_ring_full",
	[FS_RX_HOST_RING_FULL] = "rx_host_ring_full",
	[FS_RX_LINGER] = "rx_linger",
	[FS_RX_BADLINK] = "rx_badlink",
	[FS_RX_NOBUFS] = "rx_nobufs",
	[FS_RX_STALL] = "rx_stall",
	[FS_FRAG_HELD] = "frag_held",
	[FS_FRAG_DONE] = "frag_done",
	[FS_FRAG_TIMEOUT] = "frag_timeout",
	[FS_FRAG_OVERLAP] = "frag_overlap",
	[FS_FRAG_FULL] = "frag_full",
	[FS_FRAG_BAD] = "frag_bad",
	[FS_TX_PKTS] = "tx_pkts",
	[FS_TX_LOCAL] = "tx_local",
	[FS_TX_WIRE] = "tx_wire",
	[FS_TX_BAD] = "tx_bad",
	[FS_TX_FLOW_BAD_ID] = "tx_flow_bad_id",
	[FS_TX_FLOW_STALE] = "tx_flow_stale",
	[FS_TX_NOT_OWNED] = "tx_not_owned",
	[FS_TX_NO_RESOLVER] = "tx_no_resolver",
	[FS_TX_UNREACH] = "tx_unreach",
	[FS_TX_ROUTE_FULL] = "tx_route_full",
	[FS_TX_ROUTE_TIMEOUT] = "tx_route_timeout",
	[FS_TX_ROUTE_HELD] = "tx_route_held",
	[FS_TX_NOBUFS] = "tx_nobufs",
	[FS_TX_DEV_ERROR] = "tx_dev_error",
	[FS_TX_BACKLOG] = "tx_backlog",
	[FS_TX_BLOCKED] = "tx_blocked",
	[FS_TX_SUSPENDED] = "tx_suspended",
	[FS_TX_RESUMED] = "tx_resumed",
	[FS_TX_RST] = "tx_rst",
	[FS_CLIENTS_DEFUNCT] = "clients_defunct",
};
/* clang-format on */

void
end_setup(struct fsw_end *e, struct fsw *f, const struct port_ops *ops,
    struct pkt_pool *pool, const char *name)
{
	struct port *pt = &e->e_port;

	pt->pt_ops = ops;
	pt->pt_pool = pool;
	pt->pt_mtu = f->f_dev->pt_mtu;
	snprintf(pt->pt_name, sizeof(pt->pt_name), "%s", name);
	e->e_fsw = f;
}

/* HOST's driver is poked through its descriptor, or by whoever knows it. */
static void
end_wake(struct fsw_end *e)
{
	struct fsw *f = e->e_fsw;

	if (e->e_ring.r_fd >= 0) {
		ring_wake(&e->e_ring);
	} else if (f->f_wake != NULL) {
		f->f_wake(f->f_wakearg);
	}
}

void
end_event(struct fsw_end *e)
{
	atomic_store(&e->e_ring.r_event, true);
	if (ring_disarm(&e->e_ring)) {
		end_wake(e);
	}
}

void
fsw_wake_host(struct fsw *f)
{
	if (f->f_host != NULL) {
		end_event(f->f_host);
	}
}

void
fsw_flush(struct fsw *f, struct fsw_end *from)
{
	struct fsw_end *e;

	while ((e = f->f_touched) != NULL) {
		agg_flush(f, e);
		f->f_touched = e->e_touch;
		e->e_touched = false;
		ring_publish(&e->e_ring);
		/* Whoever drives both will look before he sleeps. */
		if (e != from &&
		    (from == NULL || e->e_ring.r_fd < 0 ||
			e->e_ring.r_fd != from->e_ring.r_fd) &&
		    ring_disarm(&e->e_ring)) {
			end_wake(e);
		}
	}
}

bool
fsw_is_own(const struct fsw *f, const uint8_t *addr, bool unknown)
{
	for (size_t i = 0; i < f->f_naddrs; i++) {
		if (addr_eq(f->f_addr[i], addr)) {
			return true;
		}
	}
	return f->f_naddrs == 0 && unknown;
}

void
fsw_defunct(struct fsw *f, struct fsw_end *e)
{
	fsw_count(f, FS_CLIENTS_DEFUNCT, 1);
	atomic_store_explicit(&e->e_dead, true, memory_order_release);
	pthread_mutex_lock(&f->f_ns->ns_lock);
	e->e_owner->no_end[f->f_index] = NULL;
	netns_owner_abort(e->e_owner);
	pthread_mutex_unlock(&f->f_ns->ns_lock);
	end_wake(e);
}

/* Clients that do not take what they were given. */
static void
fsw_watchdog(struct fsw *f)
{
	struct fsw_end *e;

	LIST_FOREACH (e, &f->f_clients, e_link) {
		uint32_t head = atomic_load_explicit(&e->e_ring.r_head,
		    memory_order_relaxed);

		if (atomic_load_explicit(&e->e_dead, memory_order_relaxed)) {
			continue;
		}
		if (ring_empty(&e->e_ring) || head != e->e_stallhead ||
		    e->e_stallsince == 0) {
			e->e_stallhead = head;
			e->e_stallsince = f->f_now;
		} else if (f->f_now - e->e_stallsince >= f->f_stall) {
			fsw_count(f, FS_RX_STALL, 1);
			fsw_defunct(f, e);
		}
	}
}

void
fsw_service(struct fsw *f, uint64_t now)
{
	struct netns *ns = f->f_ns;
	struct fsw_end *e;
	uint64_t next;

	if (now > f->f_now) {
		f->f_now = now;
	}
	if (f->f_now >= f->f_tick ||
	    atomic_load_explicit(&ns->ns_due, memory_order_relaxed)) {
		pthread_mutex_lock(&ns->ns_lock);
		next = netns_tick(ns, f->f_now);
		pthread_mutex_unlock(&ns->ns_lock);
		frag_expire(f, false);
		route_expire(f);
		fsw_watchdog(f);
		LIST_FOREACH (e, &f->f_clients, e_link) {
			if (!ring_empty(&e->e_ring)) {
				next = f->f_now + FSW_TICK;
			}
		}
		if ((f->f_frags != NULL || f->f_nheld > 0) &&
		    next > f->f_now + FSW_TICK) {
			next = f->f_now + FSW_TICK;
		}
		f->f_tick = next;
	}
	if (atomic_load_explicit(&ns->ns_naborts, memory_order_relaxed) > 0) {
		fsw_aborts(f);
		fsw_flush(f, NULL);
	}
}

void
fsw_hold(struct fsw *f)
{
	f->f_refs++;
}

void
fsw_unref(struct fsw *f)
{
	uint32_t left;

	pthread_mutex_lock(&f->f_lock);
	left = --f->f_refs;
	pthread_mutex_unlock(&f->f_lock);
	if (left > 0) {
		return;
	}
	netns_unref(f->f_ns);
	pthread_cond_destroy(&f->f_quiet);
	pthread_mutex_destroy(&f->f_lock);
	free(f->f_back);
	free(f->f_susp);
	free(f);
}

/* A place in the netns; false: there are too many flowswitches. */
static bool
fsw_register(struct fsw *f)
{
	struct netns *ns = f->f_ns;
	int i = 0;

	pthread_mutex_lock(&ns->ns_lock);
	while (i < NETNS_FSWS && ns->ns_fsw[i] != NULL) {
		i++;
	}
	if (i < NETNS_FSWS) {
		ns->ns_fsw[i] = f;
		f->f_index = (uint8_t)i;
		ns->ns_refs++;
	}
	pthread_mutex_unlock(&ns->ns_lock);
	return i < NETNS_FSWS;
}

static struct fsw *
fsw_make(struct netns *ns, struct port *dev, const struct sk_fsw_cfg *cfg)
{
	struct fsw *f = calloc(1, sizeof(*f));

	if (f == NULL) {
		return NULL;
	}
	f->f_ns = ns;
	f->f_refs = 2; /* the handle and HOST */
	f->f_dev = dev;
	f->f_pool = dev->pt_pool;
	f->f_loop = (cfg->flags & SK_FSW_LOOP) != 0;
	f->f_noagg =
	    (cfg->flags & SK_FSW_NOAGG) != 0 || (dev->pt_caps & PORT_LRO) != 0;
	f->f_mtu = dev->pt_mtu;
	f->f_l2 = dev->pt_link == PORT_ETHER ? ETHER_LEN : 0;
	f->f_ringsize =
	    cfg->client_ring != 0 ? cfg->client_ring : FSW_CLIENTRING;
	f->f_stall = cfg->stall_ns != 0 ? cfg->stall_ns : FSW_STALL;
	f->f_aggmax = cfg->agg_max != 0 ? cfg->agg_max : UINT16_MAX;
	f->f_aggmax = f->f_aggmax < FSW_AGGMIN ? FSW_AGGMIN :
	    f->f_aggmax > UINT16_MAX	       ? UINT16_MAX :
						 f->f_aggmax;
	f->f_backcap = cfg->backlog != 0 ? cfg->backlog : FSW_BACKLOG;
	f->f_back = calloc(f->f_backcap, sizeof(struct pkt *));
	f->f_susp = calloc(f->f_backcap, sizeof(uint32_t));
	f->f_tick = UINT64_MAX;
	atomic_init(&f->f_clientat, PORT_NEVER);
	LIST_INIT(&f->f_clients);
	pthread_mutex_init(&f->f_lock, NULL);
	pthread_cond_init(&f->f_quiet, NULL);
	snprintf(f->f_name, sizeof(f->f_name), "%s", dev->pt_name);
	return f;
}

int
sk_fsw_open(struct netns *ns, struct port *dev, const struct sk_fsw_cfg *cfg,
    struct fsw **out, struct port **host)
{
	uint32_t ring = cfg->host_ring != 0 ? cfg->host_ring : FSW_HOSTRING;
	struct fsw *f = NULL;
	int error = -EINVAL;

	if (ring > FSW_RINGMAX || cfg->client_ring > FSW_RINGMAX ||
	    cfg->backlog > FSW_RINGMAX ||
	    ((cfg->flags & SK_FSW_LOOP) && dev->pt_link != PORT_RAWIP)) {
		goto close;
	}
	error = -ENOMEM;
	f = fsw_make(ns, dev, cfg);
	if (f == NULL) {
		goto close;
	}
	netns_hold(ns);
	if (f->f_back == NULL || f->f_susp == NULL) {
		goto drop;
	}
	error = host_open(f,
	    cfg->host_pool != NULL ? cfg->host_pool : dev->pt_pool, ring);
	if (error != 0) {
		goto drop;
	}
	if (!fsw_register(f)) {
		error = -ENFILE;
		goto drop;
	}
	netns_unref(ns); /* fsw_register() has taken one */
	if (!f->f_loop && dev->pt_ops->po_ctl != NULL) {
		/* A queue below may suspend flows by itself. */
		(void)dev->pt_ops->po_ctl(dev, PORT_CTL_FLOWADV, &ns->ns_advtab);
	}
	*out = f;
	*host = &f->f_host->e_port;
	return 0;

drop:
	if (f->f_host != NULL) {
		ring_fini(&f->f_host->e_ring);
		free(f->f_host);
	}
	f->f_refs = 1;
	fsw_unref(f);
close:
	dev->pt_ops->po_close(dev);
	return error;
}

void
sk_fsw_free(struct fsw *f)
{
	if (f != NULL) {
		fsw_unref(f);
	}
}

int
sk_fsw_set_resolver(struct fsw *f, const struct flow_resolver *r)
{
	pthread_mutex_lock(&f->f_lock);
	f->f_resolver = r;
	while (r == NULL && f->f_resolving > 0) {
		pthread_cond_wait(&f->f_quiet, &f->f_lock);
	}
	pthread_mutex_unlock(&f->f_lock);
	sk_fsw_route_event(f);
	return 0;
}

void
sk_fsw_route_event(struct fsw *f)
{
	struct fsw_end *e;

	pthread_mutex_lock(&f->f_lock);
	atomic_fetch_add_explicit(&f->f_routegen, 1, memory_order_release);
	if (f->f_nheld > 0) {
		LIST_FOREACH (e, &f->f_clients, e_link) {
			end_event(e);
		}
	}
	pthread_mutex_unlock(&f->f_lock);
}

int
sk_fsw_set_addrs(struct fsw *f, const unsigned char *addrs, size_t n)
{
	if (n > FSW_ADDRS) {
		return -E2BIG;
	}
	pthread_mutex_lock(&f->f_lock);
	memcpy(f->f_addr, addrs, n * 16);
	f->f_naddrs = n;
	pthread_mutex_unlock(&f->f_lock);
	return 0;
}

void
sk_fsw_set_wake(struct fsw *f, void (*fn)(void *), void *arg)
{
	pthread_mutex_lock(&f->f_lock);
	pthread_mutex_lock(&f->f_ns->ns_lock);
	f->f_wake = fn;
	f->f_wakearg = arg;
	pthread_mutex_unlock(&f->f_ns->ns_lock);
	pthread_mutex_unlock(&f->f_lock);
}

void
sk_fsw_info(struct fsw *f, struct sk_fsw_info *out)
{
	memset(out, 0, sizeof(*out));
	pthread_mutex_lock(&f->f_lock);
	memcpy(out->name, f->f_name, sizeof(out->name));
	out->link = f->f_l2 == 0;
	out->alive = f->f_dev != NULL;
	out->mtu = f->f_mtu;
	out->clients = f->f_nclients;
	out->backlog = f->f_nback;
	out->routes = f->f_nroutes;
	out->fragments = f->f_nfrags;
	pthread_mutex_unlock(&f->f_lock);
}

const char *
sk_fsw_stat_name(size_t index)
{
	return index < FS_NSTATS ? stat_names[index] : NULL;
}

size_t
sk_fsw_stats(struct fsw *f, uint64_t *out, size_t n)
{
	for (size_t i = 0; i < n && i < FS_NSTATS; i++) {
		out[i] = __atomic_load_n(&f->f_stat[i], __ATOMIC_RELAXED);
	}
	return FS_NSTATS;
}
