/*
 * port_input.c - the door by which packets come in: it counts them.
 *
 * What the packets say is not looked at. Backends check what the outside
 * claims about a frame (nic/vnet.c); the frame itself is the stack's to check.
 */
#include "nic/port_impl.h"

int
port_input(struct port *pt, struct pkt **v, int n, uint64_t now)
{
	uint64_t bytes = 0;
	int k = pt->pt_ops->po_rx(pt, v, MIN_OF(n, PORT_BURST), now);

	if (k <= 0) {
		return k;
	}
	for (int i = 0; i < k; i++) {
		bytes += v[i]->p_pktlen;
	}
	stat_add(&pt->pt_stats.ps_rxpkts, (uint64_t)k);
	stat_add(&pt->pt_stats.ps_rxbytes, bytes);
	return k;
}
