/*
 * vnet.c - struct virtio_net_hdr both ways (virtio 1.2, section 5.1.6).
 *
 * Everything in a received header is somebody's claim. A checksum must lie
 * inside the frame; a super-segment must be what its type says, down to its
 * transport header. hdr_len is not looked at at all: kernels differ in what
 * they put there, and our own walk over the headers knows better.
 */
#include "nic/vnet.h"

#include <endian.h>
#include <errno.h>

#include "nic/offload.h"

#define VNET_NEEDS_CSUM 1
#define VNET_DATA_VALID 2

#define VNET_GSO_ECN 0x80

#define TCP_FLAGS 13 /* offset in the header */
#define TH_CWR 0x80

void
vnet_encode(const struct pkt *p, struct vnet_hdr *vh)
{
	uint8_t flags;

	*vh = (struct vnet_hdr){ 0 };
	if (p->p_flags & PKT_CSUM_PARTIAL) {
		vh->vh_flags = VNET_NEEDS_CSUM;
		vh->vh_csum_start = htole16(p->p_csum_start);
		vh->vh_csum_offset = htole16(p->p_csum_offset);
	}
	if (p->p_gso_type == PKT_GSO_NONE) {
		return;
	}
	vh->vh_gso_type = p->p_gso_type;
	vh->vh_gso_size = htole16(p->p_gso_size);
	vh->vh_hdr_len = htole16(p->p_hdrlen);
	/* CWR belongs on the first segment alone; say that it is there. */
	if (p->p_gso_type != PKT_GSO_UDP_L4 &&
	    pkt_copyout(p, (uint32_t)p->p_csum_start + TCP_FLAGS, 1, &flags) &&
	    (flags & TH_CWR) != 0) {
		vh->vh_gso_type |= VNET_GSO_ECN;
	}
}

static int
vnet_decode_gso(struct pkt *p, uint32_t l2len, uint8_t type, uint16_t size)
{
	struct offload_hdr oh;
	bool fits;

	if (size == 0 || offload_parse(p, l2len, &oh) != 0 ||
	    p->p_pktlen <= oh.oh_end) {
		return -EINVAL;
	}
	switch (type) {
	case PKT_GSO_TCPV4:
		fits = oh.oh_version == 4 && oh.oh_proto == 6;
		break;
	case PKT_GSO_TCPV6:
		fits = oh.oh_version == 6 && oh.oh_proto == 6;
		break;
	case PKT_GSO_UDP_L4:
		fits = oh.oh_proto == 17;
		break;
	default:
		fits = false; /* among them fragments of UDP: never asked for */
		break;
	}
	if (!fits) {
		return -EINVAL;
	}
	if ((p->p_flags & PKT_CSUM_PARTIAL) != 0 &&
	    (p->p_csum_start != oh.oh_l4 ||
		p->p_csum_offset != (oh.oh_proto == 6 ? 16 : 6))) {
		return -EINVAL;
	}
	p->p_gso_type = type;
	p->p_gso_size = size;
	p->p_hdrlen = oh.oh_end;
	return 0;
}

int
vnet_decode(struct pkt *p, uint32_t l2len, const struct vnet_hdr *vh)
{
	if (vh->vh_flags & VNET_NEEDS_CSUM) {
		uint32_t start = le16toh(vh->vh_csum_start);
		uint32_t offset = le16toh(vh->vh_csum_offset);

		if (start < l2len + 20 || start + offset + 2 > p->p_pktlen) {
			return -EINVAL;
		}
		p->p_csum_start = (uint16_t)start;
		p->p_csum_offset = (uint16_t)offset;
		p->p_flags |= PKT_CSUM_PARTIAL | PKT_CSUM_VALID;
	} else if (vh->vh_flags & VNET_DATA_VALID) {
		p->p_flags |= PKT_CSUM_VALID;
	}
	if ((vh->vh_gso_type & ~VNET_GSO_ECN) == PKT_GSO_NONE) {
		return 0;
	}
	return vnet_decode_gso(p, l2len, vh->vh_gso_type & ~VNET_GSO_ECN,
	    le16toh(vh->vh_gso_size));
}
