/*
 * fsw_client.c - CLIENT ports: what a user-space stack sees of the flowswitch.
 *
 * Sending, a client's thread goes all the way down to DEV. Every packet is
 * looked at: it must belong to a flow or port of its owner and say so; what it
 * leaves to be done (checksum, segments) must fit its headers. Packets for an
 * owner in this process go straight onto his ring.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "skywalk/flowswitch/fsw.h"

static struct fsw_end *
end_of(struct port *pt)
{
	return FSW_CONTAINER(pt, struct fsw_end, e_port);
}

static bool
end_dead(struct fsw_end *e)
{
	return atomic_load_explicit(&e->e_dead, memory_order_acquire);
}

/* What is left to be done fits the packet. */
static bool
offload_fits(const struct pkt *p, const struct hdr *h)
{
	uint8_t proto = h->h_key.fk_proto;
	uint32_t off = proto == FLOW_IPPROTO_TCP ? 16u :
	    proto == FLOW_IPPROTO_UDP		 ? 6u :
						   2u;

	if ((p->p_flags & PKT_CSUM_PARTIAL) &&
	    (p->p_csum_start != h->h_l4 || p->p_csum_offset != off ||
		h->h_l4 + off + 2 > p->p_pktlen)) {
		return false;
	}
	switch (p->p_gso_type) {
	case PKT_GSO_NONE:
		return p->p_gso_size == 0;
	case PKT_GSO_TCPV4:
	case PKT_GSO_TCPV6:
		if (proto != FLOW_IPPROTO_TCP ||
		    (p->p_gso_type == PKT_GSO_TCPV4) != (h->h_version == 4)) {
			return false;
		}
		break;
	case PKT_GSO_UDP_L4:
		if (proto != FLOW_IPPROTO_UDP) {
			return false;
		}
		break;
	default:
		return false;
	}
	return p->p_gso_size != 0 && (p->p_flags & PKT_CSUM_PARTIAL) != 0 &&
	    !h->h_isfrag;
}

/* Later fragments of what was allowed to be sent. */
static bool
fragment_allowed(const struct fsw_end *e, const struct hdr *h)
{
	return h->h_fragid == e->e_fragid &&
	    addr_eq(h->h_key.fk_laddr, e->e_fragkey.fk_laddr) &&
	    addr_eq(h->h_key.fk_faddr, e->e_fragkey.fk_faddr);
}

/* Whether e may send p; FS_NSTATS: yes. Under ns_lock. */
static enum fsw_stat
client_judge(struct fsw_end *e, const struct pkt *p, const struct hdr *h)
{
	struct fsw *f = e->e_fsw;
	struct netns *ns = f->f_ns;
	struct flow *fl = NULL;

	if (h->h_kind == HDR_BAD || p->p_len == 0) {
		return FS_TX_BAD;
	}
	if (h->h_kind == HDR_FRAGMENT) {
		return fragment_allowed(e, h) ? FS_NSTATS : FS_TX_NOT_OWNED;
	}
	if (h->h_kind != HDR_FLOW) {
		return FS_TX_NOT_OWNED;
	}
	if (!offload_fits(p, h)) {
		return FS_TX_BAD;
	}
	if (p->p_flowid != 0) {
		fl = flow_byid(ns, p->p_flowid);
		if (fl != NULL &&
		    (fl->fl_owner != e->e_owner ||
			!flow_match(&fl->fl_key, &h->h_key,
			    (enum flow_mask)fl->fl_mask))) {
			return FS_TX_FLOW_BAD_ID;
		}
	}
	if (fl == NULL) {
		if (p->p_flowid != 0) {
			fsw_count(f, FS_TX_FLOW_STALE, 1);
		}
		if (!netns_owns(e->e_owner, &h->h_key) &&
		    !netns_was_owned(e->e_owner, &h->h_key)) {
			return p->p_flowid != 0 ? FS_TX_FLOW_BAD_ID :
						  FS_TX_NOT_OWNED;
		}
		if (!f->f_loop && !fsw_is_own(f, h->h_key.fk_laddr, true)) {
			return FS_TX_NOT_OWNED;
		}
		fl = flow_find(ns, &h->h_key, FLOW_5TUPLE);
	}
	if (fl != NULL && fl->fl_owner == e->e_owner) {
		fl->fl_txpkts++;
		fl->fl_txbytes += p->p_pktlen;
		fl->fl_fsw = f->f_index;
		if (h->h_key.fk_proto == FLOW_IPPROTO_TCP) {
			track_segment(&fl->fl_track, h, true);
		}
	}
	if (h->h_isfrag) {
		e->e_fragid = h->h_fragid;
		e->e_fragkey = h->h_key;
	}
	return FS_NSTATS;
}

/* The same packet as its receiver sees it. */
static void
hdr_turn(struct hdr *h)
{
	struct flow_key k = h->h_key;

	memcpy(h->h_key.fk_laddr, k.fk_faddr, 16);
	memcpy(h->h_key.fk_faddr, k.fk_laddr, 16);
	h->h_key.fk_lport = k.fk_fport;
	h->h_key.fk_fport = k.fk_lport;
}

/* The allowed of v that go to the wire stay in v, with their destinations in
 * dst; answers how many. */
static int
client_sort(struct fsw_end *e, struct pkt **v, int n, uint8_t (*dst)[16])
{
	struct fsw *f = e->e_fsw;
	struct hdr h;
	int kept = 0;

	pthread_mutex_lock(&f->f_ns->ns_lock);
	netns_time(f->f_ns, f->f_now);
	for (int i = 0; i < n; i++) {
		enum fsw_stat why;

		hdr_parse(v[i], 0, true, &h);
		why = client_judge(e, v[i], &h);
		if (why != FS_NSTATS) {
			fsw_drop(f, v[i], why);
			fsw_portadd(&e->e_port.pt_stats.ps_txdrops, 1);
			continue;
		}
		if (f->f_loop || fsw_is_own(f, h.h_key.fk_faddr, false)) {
			fsw_count(f, FS_TX_LOCAL, 1);
			hdr_turn(&h);
			fsw_local(f, v[i], &h);
			continue;
		}
		memcpy(dst[kept], h.h_key.fk_faddr, 16);
		v[kept++] = v[i];
	}
	pthread_mutex_unlock(&f->f_ns->ns_lock);
	fsw_replies(f);
	return kept;
}

/* Packets to the wire, in order; f_lock may be given up on the way. */
static void
client_wire(struct fsw *f, struct pkt **v, int n, uint8_t (*dst)[16])
{
	struct pkt *out[PORT_BURST], *p;
	uint8_t mac[6];
	int k = 0;

	for (int i = 0; i < n; i++) {
		if (f->f_dev == NULL) {
			fsw_drop(f, v[i], FS_TX_UNREACH);
			continue;
		}
		if (f->f_l2 == 0) {
			out[k++] = v[i];
			continue;
		}
		if (route_peek(f, dst[i], mac)) {
			p = fsw_encap(f, v[i], mac, f->f_dev->pt_mac);
			if (p != NULL) {
				out[k++] = p;
			}
			continue;
		}
		fsw_tx(f, out, k);
		k = 0;
		route_output(f, v[i], dst[i]);
	}
	if (k > 0) {
		fsw_tx(f, out, k);
	}
}

/* How many of n packets there is room for. */
static int
client_room(struct fsw *f, int n)
{
	uint32_t room;

	if (f->f_loop || (f->f_nback == 0 && f->f_dev->pt_npend == 0) ||
	    fsw_drain(f)) {
		return n;
	}
	room = f->f_backcap - f->f_nback;
	if ((uint32_t)n > room) {
		fsw_count(f, FS_TX_BLOCKED, 1);
		n = (int)room;
	}
	return n;
}

/* Retry what waits here, for want of a next hop or of room in DEV. */
static void
client_retry(struct fsw_end *e, uint64_t now)
{
	struct fsw *f = e->e_fsw;

	e->e_routegen =
	    atomic_load_explicit(&f->f_routegen, memory_order_acquire);
	pthread_mutex_lock(&f->f_lock);
	if (f->f_dev != NULL) {
		fsw_service(f, now);
		if (f->f_nback > 0 || f->f_dev->pt_npend > 0) {
			(void)fsw_drain(f);
		}
		if (f->f_nheld > 0) {
			route_retry(f);
		}
		fsw_flush(f, e);
	}
	pthread_mutex_unlock(&f->f_lock);
}

static int
client_tx(struct port *pt, struct pkt **v, int n, uint64_t now)
{
	struct fsw_end *e = end_of(pt);
	struct fsw *f = e->e_fsw;
	uint8_t dst[PORT_BURST][16];

	pthread_mutex_lock(&f->f_lock);
	if (f->f_dev == NULL || end_dead(e)) {
		pthread_mutex_unlock(&f->f_lock);
		return -ENXIO;
	}
	fsw_service(f, now);
	n = client_room(f, n < PORT_BURST ? n : PORT_BURST);
	fsw_count(f, FS_TX_PKTS, (uint64_t)n);
	client_wire(f, v, client_sort(e, v, n, dst), dst);
	fsw_flush(f, e);
	pthread_mutex_unlock(&f->f_lock);
	return n;
}

static int
client_output(struct port *pt, struct pkt **v, int n, uint64_t now)
{
	uint32_t len[PORT_BURST];
	uint64_t bytes = 0, lost = pt->pt_stats.ps_txdrops;
	int k;

	n = n < PORT_BURST ? n : PORT_BURST;
	for (int i = 0; i < n; i++) {
		len[i] = v[i]->p_pktlen; /* gone once they are taken */
	}
	k = client_tx(pt, v, n, now);
	for (int i = 0; i < k; i++) {
		bytes += len[i];
	}
	if (k > 0) {
		lost = pt->pt_stats.ps_txdrops - lost;
		fsw_portadd(&pt->pt_stats.ps_txpkts, (uint64_t)k - lost);
		fsw_portadd(&pt->pt_stats.ps_txbytes, bytes);
	}
	return k;
}

static int
client_rx(struct port *pt, struct pkt **v, int n, uint64_t now)
{
	struct fsw_end *e = end_of(pt);
	struct fsw *f = e->e_fsw;
	int k;

	if (n <= 0) {
		return 0;
	}
	if (e->e_routegen !=
		atomic_load_explicit(&f->f_routegen, memory_order_acquire) ||
	    now >= atomic_load_explicit(&f->f_clientat, memory_order_relaxed)) {
		client_retry(e, now);
	}
	k = (int)ring_get(&e->e_ring, v, (uint32_t)n);
	if (k == 0 && ring_arm(&e->e_ring)) {
		k = (int)ring_get(&e->e_ring, v, (uint32_t)n);
	}
	if (k == 0 && end_dead(e)) {
		return -ENXIO;
	}
	return k;
}

static int
client_input(struct port *pt, struct pkt **v, int n, uint64_t now)
{
	uint64_t bytes = 0;
	int k = client_rx(pt, v, n < PORT_BURST ? n : PORT_BURST, now);

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

static int
client_fd(struct port *pt)
{
	return end_of(pt)->e_ring.r_fd;
}

static uint64_t
client_poll_at(struct port *pt)
{
	struct fsw_end *e = end_of(pt);

	return ring_empty(&e->e_ring) ?
	    atomic_load_explicit(&e->e_fsw->f_clientat, memory_order_relaxed) :
	    0;
}

static int
client_ctl(struct port *pt, int cmd, void *arg)
{
	struct fsw_end *e = end_of(pt);
	struct fsw *f = e->e_fsw;
	int error = 0;

	switch (cmd) {
	case PORT_CTL_LINK:
		pthread_mutex_lock(&f->f_lock);
		*(int *)arg = f->f_dev != NULL && !end_dead(e);
		if (*(int *)arg && f->f_dev->pt_ops->po_ctl != NULL) {
			error = f->f_dev->pt_ops->po_ctl(f->f_dev, cmd, arg);
		}
		pthread_mutex_unlock(&f->f_lock);
		return error;
	case PORT_CTL_MTU:
		pthread_mutex_lock(&f->f_lock);
		/* DEV's is HOST's to change. */
		error = *(const uint32_t *)arg <= f->f_mtu ? 0 : -EINVAL;
		pthread_mutex_unlock(&f->f_lock);
		return error;
	default:
		return -EOPNOTSUPP;
	}
}

static void
client_close(struct port *pt)
{
	struct fsw_end *e = end_of(pt);
	struct fsw *f = e->e_fsw;
	struct netns *ns = f->f_ns;

	pthread_mutex_lock(&f->f_lock);
	fsw_flush(f, e);
	LIST_REMOVE(e, e_link);
	f->f_nclients--;
	if (f->f_nback > 0) {
		fsw_wake_host(f); /* what we left is HOST's to send */
	}
	pthread_mutex_lock(&ns->ns_lock);
	if (e->e_owner->no_end[f->f_index] == e) {
		e->e_owner->no_end[f->f_index] = NULL;
	}
	netns_owner_unref(e->e_owner);
	pthread_mutex_unlock(&ns->ns_lock);
	pthread_mutex_unlock(&f->f_lock);
	ring_fini(&e->e_ring);
	free(e);
	fsw_unref(f);
}

static const struct port_ops client_ops = {
	.po_name = "fsw-client",
	.po_rx = client_rx,
	.po_tx = client_tx,
	.po_fd = client_fd,
	.po_poll_at = client_poll_at,
	.po_ctl = client_ctl,
	.po_close = client_close,
};

static int
client_make(struct fsw *f, int doorbell, struct fsw_end **out)
{
	struct fsw_end *e = aligned_alloc(64, sizeof(*e));
	int fd = doorbell;

	if (e == NULL) {
		return -ENOMEM;
	}
	memset(e, 0, sizeof(*e));
	if (doorbell < 0) {
		fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		if (fd < 0) {
			free(e);
			return -errno;
		}
	}
	if (!ring_init(&e->e_ring, f->f_ringsize, fd, doorbell < 0)) {
		ring_fini(&e->e_ring);
		free(e);
		return -ENOMEM;
	}
	*out = e;
	return 0;
}

static void
client_setup(struct fsw *f, struct fsw_end *e, struct pkt_pool *pool)
{
	struct port *pt = &e->e_port, *dev = f->f_dev;

	end_setup(e, f, &client_ops, pool, f->f_name);
	pt->pt_input = client_input;
	pt->pt_output = client_output;
	/* DEV's door finishes what DEV cannot do. */
	pt->pt_caps = PORT_TXCSUM | PORT_TSO4 | PORT_TSO6 | PORT_USO |
	    PORT_RXCSUM | PORT_LRO | PORT_SG |
	    (dev->pt_caps & PORT_MEMORY ? (uint32_t)PORT_MEMORY : 0);
	pt->pt_gsomax = UINT16_MAX;
	pt->pt_link = PORT_RAWIP;
	pt->pt_headroom = (uint16_t)(dev->pt_headroom + f->f_l2);
	e->e_routegen =
	    atomic_load_explicit(&f->f_routegen, memory_order_acquire);
}

int
sk_fsw_client(struct fsw *f, struct netns_owner *no, struct pkt_pool *pool,
    int doorbell, struct port **out)
{
	struct netns *ns = f->f_ns;
	struct fsw_end *e;
	int error;

	if (no->no_ns != ns || no->no_kind != SK_OWNER_CLIENT) {
		return -EINVAL;
	}
	error = client_make(f, doorbell, &e);
	if (error != 0) {
		return error;
	}
	pthread_mutex_lock(&f->f_lock);
	if (f->f_dev == NULL) {
		error = -ENXIO;
		goto out;
	}
	pthread_mutex_lock(&ns->ns_lock);
	if (no->no_end[f->f_index] != NULL) {
		error = -EBUSY;
	} else {
		no->no_end[f->f_index] = e;
		no->no_refs++;
	}
	pthread_mutex_unlock(&ns->ns_lock);
	if (error == 0) {
		e->e_owner = no;
		client_setup(f, e, pool);
		LIST_INSERT_HEAD(&f->f_clients, e, e_link);
		f->f_nclients++;
		fsw_hold(f);
		*out = &e->e_port;
	}
out:
	pthread_mutex_unlock(&f->f_lock);
	if (error != 0) {
		ring_fini(&e->e_ring);
		free(e);
	}
	return error;
}
