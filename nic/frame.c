/*
 * frame.c - frames by copy whose checksum or segmentation is left to others.
 *
 * For tests and tools: what a stack does with struct pkt, for those who have
 * bytes. Frames with nothing left to do go through nic_send() and nic_recv().
 */
#include <errno.h>
#include <string.h>

#include "nic/api.h"
#include "nic/offload.h"

static bool
frame_valid(size_t len, const struct nic_offload *todo)
{
	if (todo->gso_size > UINT16_MAX || todo->csum_start > UINT16_MAX ||
	    todo->csum_offset > UINT16_MAX) {
		return false;
	}
	if (todo->csum &&
	    (uint64_t)todo->csum_start + todo->csum_offset + 2 > len) {
		return false;
	}
	switch (todo->gso_type) {
	case PKT_GSO_NONE:
		return todo->gso_size == 0;
	case PKT_GSO_TCPV4:
	case PKT_GSO_TCPV6:
	case PKT_GSO_UDP_L4:
		/* Segments need a checksum each, so somebody must do it. */
		return todo->gso_size != 0 && todo->csum;
	default:
		return false;
	}
}

int
nic_send_offload(struct port *port, const void *frame, size_t len,
    const struct nic_offload *todo, uint64_t now)
{
	struct pkt *p;
	int k;

	if (len == 0 || len + port->pt_headroom > PKT_BIG) {
		return -EMSGSIZE;
	}
	if (!frame_valid(len, todo)) {
		return -EINVAL;
	}
	p = pkt_alloc(port->pt_pool, (uint32_t)len + port->pt_headroom,
	    port->pt_headroom);
	if (p == NULL) {
		return -ENOBUFS;
	}
	memcpy(p->p_data, frame, len);
	p->p_len = p->p_pktlen = (uint32_t)len;
	p->p_flags = PKT_TX;
	if (todo->csum) {
		p->p_flags |= PKT_CSUM_PARTIAL;
		p->p_csum_start = (uint16_t)todo->csum_start;
		p->p_csum_offset = (uint16_t)todo->csum_offset;
	}
	p->p_gso_type = (uint8_t)todo->gso_type;
	p->p_gso_size = (uint16_t)todo->gso_size;
	if (todo->gso_type != PKT_GSO_NONE) {
		struct offload_hdr oh;

		if (offload_parse(p, port_l2len(port), &oh) != 0) {
			pkt_free(p);
			return -EINVAL;
		}
		p->p_hdrlen = oh.oh_end;
	}
	k = port->pt_output(port, &p, 1, now);
	if (k == 1) {
		return 0;
	}
	pkt_free(p);
	return k < 0 ? k : -EAGAIN;
}

long
nic_recv_offload(struct port *port, void *buf, size_t len,
    struct nic_offload *todo, uint64_t now)
{
	struct pkt *p;
	long ret;
	int k = port->pt_input(port, &p, 1, now);

	if (k <= 0) {
		return k;
	}
	memset(todo, 0, sizeof(*todo));
	todo->csum = (p->p_flags & PKT_CSUM_PARTIAL) != 0;
	todo->csum_ok = (p->p_flags & PKT_CSUM_VALID) != 0;
	if (todo->csum) {
		todo->csum_start = p->p_csum_start;
		todo->csum_offset = p->p_csum_offset;
	}
	todo->gso_type = p->p_gso_type;
	todo->gso_size = p->p_gso_size;
	ret = (long)p->p_pktlen;
	if (p->p_pktlen > len) {
		ret = -EMSGSIZE;
	} else {
		(void)pkt_copyout(p, 0, p->p_pktlen, buf);
	}
	pkt_free(p);
	return ret;
}
