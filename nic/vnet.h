/*
 * vnet.h - struct virtio_net_hdr, which tap and af_packet put before a frame.
 */
#ifndef NIC_VNET_H
#define NIC_VNET_H

#include "nic/port_impl.h"

/* Ten bytes, fields little-endian. */
struct vnet_hdr {
	uint8_t vh_flags;
	uint8_t vh_gso_type;
	uint16_t vh_hdr_len; /* a hint; never believed */
	uint16_t vh_gso_size;
	uint16_t vh_csum_start; /* from the first byte of the frame */
	uint16_t vh_csum_offset;
};

_Static_assert(sizeof(struct vnet_hdr) == 10, "struct vnet_hdr is packed");

/* What a packet's metadata says, for the kernel. */
void vnet_encode(const struct pkt *p, struct vnet_hdr *vh);

/* What the other side says about the frame in p, checked against it and
 * written into p's metadata. 0, or -EINVAL: it lies; drop the packet. */
int vnet_decode(struct pkt *p, uint32_t l2len, const struct vnet_hdr *vh);

#endif
