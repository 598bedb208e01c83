/*
 * packet_ring.c - the receive ring of a packet socket, TPACKET_V2 (packet(7)).
 *
 * Version 2, because it hands over every packet as it comes; version 3 waits
 * for a block to fill or a timer of milliseconds to pass.
 *
 * A slot holds the longest super-frame and is given back as soon as its frame
 * has been copied. Lending slots to the stack in place was tried and is wrong:
 * the kernel fills slots strictly in turn, so a single packet that somebody
 * keeps, in a socket that nobody reads, would stop the whole ring.
 */
#include "nic/packet_ring.h"

#include <errno.h>
#include <linux/if_packet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "nic/pkt_pool.h"
#include "nic/vnet.h"

#define RING_SLOT (72 * 1024) /* headers, 64 KiB, and whole pages */
#define RING_PERBLOCK 16
#define RING_NSLOTS 256

struct packet_ring {
	uint8_t *pr_map;
	uint32_t pr_next;
};

static struct tpacket2_hdr *
ring_hdr(struct packet_ring *pr, uint32_t i)
{
	return (struct tpacket2_hdr *)(void *)(pr->pr_map +
	    (size_t)i * RING_SLOT);
}

static void
ring_give_back(struct packet_ring *pr, uint32_t i)
{
	__atomic_store_n(&ring_hdr(pr, i)->tp_status, TP_STATUS_KERNEL,
	    __ATOMIC_RELEASE);
}

static bool
ring_filled(struct packet_ring *pr, uint32_t i)
{
	return (__atomic_load_n(&ring_hdr(pr, i)->tp_status, __ATOMIC_ACQUIRE) &
		   TP_STATUS_USER) != 0;
}

int
packet_ring_open(int fd, struct packet_ring **out)
{
	struct tpacket_req req = {
		.tp_block_size = RING_SLOT * RING_PERBLOCK,
		.tp_block_nr = RING_NSLOTS / RING_PERBLOCK,
		.tp_frame_size = RING_SLOT,
		.tp_frame_nr = RING_NSLOTS,
	};
	int version = TPACKET_V2, error;
	struct packet_ring *pr = calloc(1, sizeof(*pr));

	if (pr == NULL) {
		return -ENOMEM;
	}
	if (setsockopt(fd, SOL_PACKET, PACKET_VERSION, &version,
		sizeof(version)) != 0 ||
	    setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &req, sizeof(req)) != 0) {
		error = -errno;
		free(pr);
		return error;
	}
	pr->pr_map = mmap(NULL, (size_t)RING_NSLOTS * RING_SLOT,
	    PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (pr->pr_map == MAP_FAILED) {
		error = -errno;
		free(pr);
		return error;
	}
	*out = pr;
	return 0;
}

void
packet_ring_close(struct packet_ring *pr)
{
	munmap(pr->pr_map, (size_t)RING_NSLOTS * RING_SLOT);
	free(pr);
}

/* One filled slot. Returns the packet, or NULL after counting its loss. */
static struct pkt *
ring_take(struct packet_ring *pr, uint32_t i, struct port *pt)
{
	struct tpacket2_hdr *th = ring_hdr(pr, i);
	const uint8_t *frame = (const uint8_t *)th + th->tp_mac;
	uint32_t len = th->tp_snaplen;
	struct vnet_hdr vh;
	struct pkt *p;

	if (len < th->tp_len || len <= ETHER_HDR_LEN ||
	    th->tp_mac < sizeof(vh) || (uint64_t)th->tp_mac + len > RING_SLOT) {
		stat_add(&pt->pt_stats.ps_rxerrs, 1);
		return NULL;
	}
	p = pkt_alloc(pt->pt_pool, PORT_RXROOM + ETHER_ALIGN + len,
	    PORT_RXROOM + ETHER_ALIGN);
	if (p == NULL) {
		stat_add(&pt->pt_stats.ps_rxdrops, 1);
		return NULL;
	}
	memcpy(p->p_data, frame, len);
	p->p_len = p->p_pktlen = len;
	memcpy(&vh, frame - sizeof(vh), sizeof(vh));
	if (vnet_decode(p, ETHER_HDR_LEN, &vh) != 0) {
		stat_add(&pt->pt_stats.ps_rxerrs, 1);
		pkt_free(p);
		return NULL;
	}
	return p;
}

int
packet_ring_rx(struct packet_ring *pr, struct port *pt, struct pkt **v, int n,
    uint64_t now)
{
	int k = 0;

	for (int tries = 0; k < n && tries < RING_NSLOTS; tries++) {
		struct pkt *p;

		if (!ring_filled(pr, pr->pr_next)) {
			break;
		}
		p = ring_take(pr, pr->pr_next, pt);
		ring_give_back(pr, pr->pr_next);
		pr->pr_next = (pr->pr_next + 1) % RING_NSLOTS;
		if (p != NULL) {
			p->p_time = now;
			v[k++] = p;
		}
	}
	return k;
}
