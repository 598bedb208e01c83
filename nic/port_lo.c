/*
 * port_lo.c - what is sent is received: bare IP packets, by reference.
 *
 * One queue of a fixed length. Nothing leaves memory, so checksums are not
 * computed and super-segments are not cut.
 */
#include <errno.h>
#include <stdlib.h>

#include "nic/api.h"
#include "nic/port_impl.h"

#define LO_QLEN 1024 /* a power of two */

struct lo {
	struct port l_port;
	uint32_t l_head, l_tail; /* of all that ever passed */
	struct pkt *l_ring[LO_QLEN];
};

static int
lo_rx(struct port *pt, struct pkt **v, int n, uint64_t now)
{
	struct lo *l = CONTAINER_OF(pt, struct lo, l_port);
	int k = 0;

	while (k < n && l->l_head != l->l_tail) {
		v[k] = l->l_ring[l->l_head++ % LO_QLEN];
		port_turn(v[k++], now);
	}
	return k;
}

static int
lo_tx(struct port *pt, struct pkt **v, int n, uint64_t now)
{
	struct lo *l = CONTAINER_OF(pt, struct lo, l_port);
	int k = 0;

	(void)now;
	while (k < n && l->l_tail - l->l_head < LO_QLEN) {
		l->l_ring[l->l_tail++ % LO_QLEN] = v[k++];
	}
	return k;
}

static uint64_t
lo_poll_at(struct port *pt)
{
	struct lo *l = CONTAINER_OF(pt, struct lo, l_port);

	return l->l_head != l->l_tail ? 0 : PORT_NEVER;
}

static int
lo_ctl(struct port *pt, int cmd, void *arg)
{
	(void)pt;
	switch (cmd) {
	case PORT_CTL_LINK:
		*(int *)arg = 1;
		return 0;
	case PORT_CTL_PROMISC:
	case PORT_CTL_MTU:
	case PORT_CTL_MCAST_ADD:
	case PORT_CTL_MCAST_DEL:
		return 0;
	default:
		return -EOPNOTSUPP;
	}
}

static void
lo_close(struct port *pt)
{
	struct lo *l = CONTAINER_OF(pt, struct lo, l_port);

	while (l->l_head != l->l_tail) {
		pkt_free(l->l_ring[l->l_head++ % LO_QLEN]);
	}
	port_fini(pt);
	free(l);
}

static const struct port_ops lo_ops = {
	.po_name = "lo",
	.po_rx = lo_rx,
	.po_tx = lo_tx,
	.po_poll_at = lo_poll_at,
	.po_ctl = lo_ctl,
	.po_close = lo_close,
};

int
nic_lo_open(struct pkt_pool *pool, uint32_t mtu, struct port **out)
{
	struct lo *l;

	if (mtu < 68 || mtu > PORT_IPMAX) {
		return -EINVAL;
	}
	l = malloc(sizeof(*l));
	if (l == NULL) {
		return -ENOMEM;
	}
	port_setup(&l->l_port, &lo_ops, pool, "lo");
	l->l_head = l->l_tail = 0;
	l->l_port.pt_link = PORT_RAWIP;
	l->l_port.pt_mtu = mtu;
	l->l_port.pt_caps = PORT_MEMORY | PORT_OFFLOADS;
	*out = &l->l_port;
	return 0;
}
