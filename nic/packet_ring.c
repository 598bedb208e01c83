/*
 * packet_ring.c - the receive ring of a packet socket, TPACKET_V2 (packet(7)).
 *
 * Version 2, because it hands over every packet as it comes; version 3 waits
 * for a block to fill or a timer of milliseconds to pass.
 *
 * A slot holds the longest super-frame. Packets are lent to the stack in
 * place, and the slot returns to the kernel when the last reference has gone,
 * in any order. Two kinds of packet are copied out instead:
 *
 *   - the last one there is: the kernel says "readable" as long as the slot
 *     that it filled last has not been given back, new packet or not;
 *   - everything when half the ring is lent, for the kernel drops what comes
 *     while its next slot is away.
 *
 * tp_status of a lent slot still reads as if it had just been filled, so s_lent
 * says which is which; it is cleared after tp_status (A), and looked at before
 * (B).
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

struct ring_slot {
	struct pkt_ext s_ext; /* e_arg: the ring */
	atomic_bool s_lent;
};

struct packet_ring {
	uint8_t *pr_map;
	atomic_uint pr_refs; /* the port, and every slot lent */
	uint32_t pr_next;
	struct ring_slot pr_slot[RING_NSLOTS];
};

static struct tpacket2_hdr *
ring_hdr(struct packet_ring *pr, uint32_t i)
{
	return (struct tpacket2_hdr *)(void *)(pr->pr_map +
	    (size_t)i * RING_SLOT);
}

static void
ring_drop(struct packet_ring *pr)
{
	if (atomic_fetch_sub_explicit(&pr->pr_refs, 1, memory_order_acq_rel) ==
	    1) {
		munmap(pr->pr_map, (size_t)RING_NSLOTS * RING_SLOT);
		free(pr);
	}
}

static void
ring_give_back(struct packet_ring *pr, uint32_t i)
{
	__atomic_store_n(&ring_hdr(pr, i)->tp_status, TP_STATUS_KERNEL,
	    __ATOMIC_RELEASE);
}

/* The last packet that lay in a lent slot has gone. Any thread. */
static void
ring_slot_free(struct pkt_ext *ext)
{
	struct ring_slot *s = CONTAINER_OF(ext, struct ring_slot, s_ext);
	struct packet_ring *pr = ext->e_arg;

	ring_give_back(pr, (uint32_t)(s - pr->pr_slot));
	atomic_store_explicit(&s->s_lent, false, memory_order_release); /*(A)*/
	ring_drop(pr);
}

static bool
ring_filled(struct packet_ring *pr, uint32_t i)
{
	return !atomic_load_explicit(&pr->pr_slot[i].s_lent,
		   memory_order_acquire) && /* (B) */
	    (__atomic_load_n(&ring_hdr(pr, i)->tp_status, __ATOMIC_ACQUIRE) &
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
	    setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &req, sizeof(req)) !=
		0) {
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
	atomic_init(&pr->pr_refs, 1);
	for (uint32_t i = 0; i < RING_NSLOTS; i++) {
		pr->pr_slot[i].s_ext.e_free = ring_slot_free;
		pr->pr_slot[i].s_ext.e_arg = pr;
	}
	*out = pr;
	return 0;
}

void
packet_ring_close(struct packet_ring *pr)
{
	ring_drop(pr);
}

/* Slot i as a packet: in place, or copied and given back. NULL: no memory;
 * the slot is still ours. */
static struct pkt *
ring_packet(struct packet_ring *pr, uint32_t i, struct pkt_pool *pool,
    bool lend)
{
	struct tpacket2_hdr *th = ring_hdr(pr, i);
	struct ring_slot *s = &pr->pr_slot[i];
	uint8_t *frame = (uint8_t *)th + th->tp_mac;
	uint32_t len = th->tp_snaplen;
	struct pkt *p;

	if (!lend) {
		p = pkt_alloc(pool, PORT_RXROOM + ETHER_ALIGN + len,
		    PORT_RXROOM + ETHER_ALIGN);
		if (p != NULL) {
			memcpy(p->p_data, frame, len);
			p->p_len = p->p_pktlen = len;
		}
		return p;
	}
	atomic_store_explicit(&s->s_ext.e_refs, 1, memory_order_relaxed);
	p = pkt_wrap(pool, frame, len, &s->s_ext);
	if (p != NULL) {
		atomic_store_explicit(&s->s_lent, true, memory_order_relaxed);
		atomic_fetch_add_explicit(&pr->pr_refs, 1,
		    memory_order_relaxed);
	}
	return p;
}

/* One filled slot. Returns the packet, or NULL after counting its loss. */
static struct pkt *
ring_take(struct packet_ring *pr, uint32_t i, struct port *pt)
{
	struct tpacket2_hdr *th = ring_hdr(pr, i);
	bool lend = ring_filled(pr, (i + 1) % RING_NSLOTS) &&
	    atomic_load_explicit(&pr->pr_refs, memory_order_relaxed) <=
		RING_NSLOTS / 2;
	struct vnet_hdr vh;
	struct pkt *p;

	if (th->tp_snaplen < th->tp_len || th->tp_mac < sizeof(vh) ||
	    (uint64_t)th->tp_mac + th->tp_snaplen > RING_SLOT ||
	    th->tp_snaplen <= ETHER_HDR_LEN) {
		stat_add(&pt->pt_stats.ps_rxerrs, 1);
		ring_give_back(pr, i);
		return NULL;
	}
	memcpy(&vh, (uint8_t *)th + th->tp_mac - sizeof(vh), sizeof(vh));
	p = ring_packet(pr, i, pt->pt_pool, lend);
	if (p == NULL || !lend) {
		ring_give_back(pr, i);
	}
	if (p == NULL) {
		stat_add(&pt->pt_stats.ps_rxdrops, 1);
	} else if (vnet_decode(p, ETHER_HDR_LEN, &vh) != 0) {
		stat_add(&pt->pt_stats.ps_rxerrs, 1);
		pkt_free(p);
		p = NULL;
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
		pr->pr_next = (pr->pr_next + 1) % RING_NSLOTS;
		if (p != NULL) {
			p->p_time = now;
			v[k++] = p;
		}
	}
	return k;
}
