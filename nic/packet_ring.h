/*
 * packet_ring.h - the receive ring of a packet socket, TPACKET_V2.
 */
#ifndef NIC_PACKET_RING_H
#define NIC_PACKET_RING_H

#include "nic/port_impl.h"

struct packet_ring;

/* Give socket fd a ring; PACKET_VNET_HDR has been set, bind() comes later.
 * 0 or -errno. */
int packet_ring_open(int fd, struct packet_ring **out);
/* Up to n packets; checks and counts like a backend's po_rx for pt. */
int packet_ring_rx(struct packet_ring *pr, struct port *pt, struct pkt **v,
    int n, uint64_t now);
void packet_ring_close(struct packet_ring *pr);

#endif
