/*
 * port_capoff.c - hides capabilities of a port, so that both kinds of path can
 * be taken over any of them.
 *
 * Sending needs nothing: the door in front of this port finishes what the
 * remaining capabilities do not cover. Receiving is the same work turned
 * round: without PORT_RXCSUM checksums left open are completed and none is
 * vouched for; without PORT_LRO super-segments are cut, and segments that the
 * caller has no room for wait here.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "nic/api.h"
#include "nic/offload.h"

struct capoff {
	struct port c_port;
	struct port_ops c_ops;	  /* ours, by the name of the port below */
	struct offload_cut c_cut; /* received, cut, not yet delivered */
	uint32_t c_next;	  /* the first of them */
};

static int
capoff_deliver(struct capoff *c, struct pkt **v, int n)
{
	int k = (int)MIN_OF(c->c_cut.sc_n - c->c_next, (uint32_t)n);

	if (k == 0) {
		return 0;
	}
	memcpy(v, c->c_cut.sc_v + c->c_next, (size_t)k * sizeof(struct pkt *));
	c->c_next += (uint32_t)k;
	if (c->c_next == c->c_cut.sc_n) {
		c->c_next = c->c_cut.sc_n = 0;
	}
	return k;
}

/* Complete the checksum of p; a packet in its place, or NULL and an error. */
static struct pkt *
capoff_csum(struct port *pt, struct pkt *p, int *error)
{
	struct pkt *flat = p;

	*error = 0;
	if (p->p_flags & PKT_CSUM_PARTIAL) {
		*error = offload_csum(p);
	}
	if (*error == -EBUSY) {
		flat = pkt_flatten(p, pt->pt_pool, PORT_RXROOM);
		*error = flat != NULL ? offload_csum(flat) : -ENOBUFS;
		pkt_free(p);
	}
	if (*error != 0) {
		pkt_free(flat);
		return NULL;
	}
	flat->p_flags &= (uint8_t)~PKT_CSUM_VALID;
	return flat;
}

/* Queue what p becomes. p is consumed. */
static void
capoff_receive(struct capoff *c, struct pkt *p)
{
	struct port *pt = &c->c_port;
	int error = 0;

	if (p->p_gso_type != PKT_GSO_NONE && (pt->pt_caps & PORT_LRO) == 0) {
		bool partial = (pt->pt_caps & PORT_RXCSUM) != 0;

		error = offload_cut(p, pt->pt_pool, port_l2len(pt),
		    PORT_RXROOM + pt->pt_headroom, true, partial, &c->c_cut);
	} else {
		if ((pt->pt_caps & PORT_RXCSUM) == 0) {
			p = capoff_csum(pt, p, &error);
		}
		if (error == 0 && offload_push(&c->c_cut, p)) {
			return;
		}
		error = error != 0 ? error : -ENOBUFS;
	}
	pkt_free(p);
	if (error != 0) {
		stat_add(error == -ENOBUFS ? &pt->pt_stats.ps_rxdrops :
					     &pt->pt_stats.ps_rxerrs,
		    1);
	}
}

/* Without vouching, a segment's flags must not say that it is valid. */
static void
capoff_unvouch(struct capoff *c, uint32_t from)
{
	if (c->c_port.pt_caps & PORT_RXCSUM) {
		return;
	}
	for (uint32_t i = from; i < c->c_cut.sc_n; i++) {
		c->c_cut.sc_v[i]->p_flags &= (uint8_t)~PKT_CSUM_VALID;
	}
}

static int
capoff_rx(struct port *pt, struct pkt **v, int n, uint64_t now)
{
	struct capoff *c = CONTAINER_OF(pt, struct capoff, c_port);
	struct port *lower = pt->pt_lower;
	struct pkt *got[PORT_BURST];
	uint32_t had;
	int k;

	if (c->c_cut.sc_n > 0) {
		return capoff_deliver(c, v, n);
	}
	k = lower->pt_input(lower, v, n, now);
	if (k <= 0 ||
	    (pt->pt_caps & (PORT_RXCSUM | PORT_LRO)) ==
		(PORT_RXCSUM | PORT_LRO)) {
		return k;
	}
	memcpy(got, v, (size_t)k * sizeof(struct pkt *));
	had = c->c_cut.sc_n;
	for (int i = 0; i < k; i++) {
		capoff_receive(c, got[i]);
	}
	capoff_unvouch(c, had);
	return capoff_deliver(c, v, n);
}

static int
capoff_tx(struct port *pt, struct pkt **v, int n, uint64_t now)
{
	return pt->pt_lower->pt_output(pt->pt_lower, v, n, now);
}

static int
capoff_fd(struct port *pt)
{
	return port_fd(pt->pt_lower);
}

static uint64_t
capoff_poll_at(struct port *pt)
{
	struct capoff *c = CONTAINER_OF(pt, struct capoff, c_port);

	return c->c_cut.sc_n > 0 ? 0 : port_poll_at(pt->pt_lower);
}

static int
capoff_ctl(struct port *pt, int cmd, void *arg)
{
	struct port *lower = pt->pt_lower;

	return lower->pt_ops->po_ctl != NULL ?
	    lower->pt_ops->po_ctl(lower, cmd, arg) :
	    -EOPNOTSUPP;
}

static void
capoff_close(struct port *pt)
{
	struct capoff *c = CONTAINER_OF(pt, struct capoff, c_port);

	for (uint32_t i = c->c_next; i < c->c_cut.sc_n; i++) {
		pkt_free(c->c_cut.sc_v[i]);
	}
	free(c->c_cut.sc_v);
	nic_close(pt->pt_lower);
	port_fini(pt);
	free(c);
}

static const struct port_ops capoff_ops = {
	.po_rx = capoff_rx,
	.po_tx = capoff_tx,
	.po_fd = capoff_fd,
	.po_poll_at = capoff_poll_at,
	.po_ctl = capoff_ctl,
	.po_close = capoff_close,
};

int
nic_capoff_wrap(struct port *lower, uint32_t mask, struct port **out)
{
	struct capoff *c = malloc(sizeof(*c));

	if (c == NULL) {
		nic_close(lower);
		return -ENOMEM;
	}
	c->c_ops = capoff_ops;
	c->c_ops.po_name = lower->pt_ops->po_name;
	port_setup(&c->c_port, &c->c_ops, lower->pt_pool, lower->pt_name);
	port_inherit(&c->c_port, lower);
	/* What a port is cannot be hidden, only what it does for others. */
	c->c_port.pt_caps =
	    port_caps_sane(lower->pt_caps & (mask | PORT_BROADCAST));
	c->c_cut = (struct offload_cut){ NULL, 0, 0 };
	c->c_next = 0;
	*out = &c->c_port;
	return 0;
}
