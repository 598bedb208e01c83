/*
 * pkt.h - one packet on its way between a NIC and whoever speaks to it.
 *
 * A packet is a chain of buffers linked by p_next. The first buffer carries
 * the packet's metadata; the metadata of later buffers is unused.
 *
 *	p_buf        p_data        p_data + p_len      p_buf + p_size
 *	  | headroom   |   bytes        |    tailroom     |
 *
 * Invariant: p_pktlen of the first == sum of p_len over the chain.
 *
 * Ownership. A packet has one owner at a time; a burst call that takes it
 * becomes the owner. Storage is shared by reference: every buffer holds one
 * reference on its p_ext, and the last one to go calls e_free. A descriptor
 * and its storage may be freed by any thread; a pool allocates for one
 * thread (or one lock) at a time.
 *
 * Whoever is given a packet may change bytes of a buffer only if
 * pkt_writable() says that nobody shares the storage.
 *
 * Nothing here is a function of the nic library: other packages reach the
 * pool through its table of operations, so no C symbol crosses packages.
 */
#ifndef NIC_PKT_H
#define NIC_PKT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pkt;
struct pkt_pool;

/* Storage shared by reference. e_refs may be changed by any thread. */
struct pkt_ext {
	atomic_uint e_refs;
	void (*e_free)(struct pkt_ext *); /* when e_refs falls to 0 */
	void *e_arg;
};

/* p_flags */
/* PKT_CSUM_PARTIAL: the field at csum_start + csum_offset holds the folded,
 * uncomplemented pseudo-header sum; finish it over [p_csum_start, p_pktlen) */
#define PKT_CSUM_PARTIAL 0x01
#define PKT_CSUM_VALID 0x02 /* transport checksum good, or never needed */
#define PKT_TX 0x04	    /* direction, for captures: sent by us */
#define PKT_BCAST 0x08
#define PKT_MCAST 0x10
#define PKT_REXMT 0x20	 /* carries retransmitted payload (ledger) */
#define PKT_ORDERED 0x40 /* not to be overtaken by others of its flow */

/* p_gso_type: the numbers of virtio_net_hdr */
#define PKT_GSO_NONE 0
#define PKT_GSO_TCPV4 1
#define PKT_GSO_TCPV6 4
#define PKT_GSO_UDP_L4 5

struct pkt {
	struct pkt *p_next;	 /* next buffer of this packet */
	uint8_t *p_data;	 /* first valid byte */
	uint32_t p_len;		 /* valid bytes in this buffer */
	uint32_t p_size;	 /* bytes of storage at p_buf */
	uint8_t *p_buf;		 /* storage */
	struct pkt_ext *p_ext;	 /* who owns the storage */
	struct pkt_pool *p_pool; /* where the descriptor goes back to */

	/* The packet's metadata: valid in the first buffer only. */
	uint64_t p_time;	/* ns; rx: arrival; tx: 0 */
	uint32_t p_pktlen;	/* bytes in the whole chain */
	uint32_t p_flowid;	/* flow of the sender, 0 unknown */
	uint32_t p_origin;	/* voucher originator, 0 none */
	uint16_t p_csum_start;	/* from the first byte of the frame */
	uint16_t p_csum_offset; /* from p_csum_start */
	uint16_t p_gso_size;	/* payload bytes per segment */
	uint16_t p_hdrlen; /* link+ip+transport header bytes; a hint on rx */
	uint8_t p_gso_type;
	uint8_t p_flags;
	uint8_t p_svc; /* service class, MBUF_SC_* / PKT_SC_* order */
	uint8_t p_spare;
};

struct pkt_pool_ops {
	/* One buffer with at least `size` bytes of storage, p_data at
	 * p_buf + headroom, p_len 0; metadata zeroed. NULL at the limit. */
	struct pkt *(*ppo_alloc)(struct pkt_pool *, uint32_t size,
	    uint32_t headroom);
	/* A descriptor over [data, data+len) kept alive by ext, on which the
	 * caller already holds the reference that the packet takes over. */
	struct pkt *(*ppo_wrap)(struct pkt_pool *, void *data, uint32_t len,
	    struct pkt_ext *);
	/* Free one buffer (not the chain): drop the storage, return the
	 * descriptor. Any thread. */
	void (*ppo_free1)(struct pkt *);
};

/* The public head of every pool. */
struct pkt_pool {
	const struct pkt_pool_ops *pp_ops;
};

static inline struct pkt *
pkt_alloc(struct pkt_pool *pool, uint32_t size, uint32_t headroom)
{
	return pool->pp_ops->ppo_alloc(pool, size, headroom);
}

static inline struct pkt *
pkt_wrap(struct pkt_pool *pool, void *data, uint32_t len, struct pkt_ext *ext)
{
	return pool->pp_ops->ppo_wrap(pool, data, len, ext);
}

/* Free a whole packet. NULL is allowed. */
static inline void
pkt_free(struct pkt *p)
{
	while (p != NULL) {
		struct pkt *next = p->p_next;

		p->p_pool->pp_ops->ppo_free1(p);
		p = next;
	}
}

static inline void
pkt_ext_hold(struct pkt_ext *ext)
{
	atomic_fetch_add_explicit(&ext->e_refs, 1, memory_order_relaxed);
}

static inline void
pkt_ext_drop(struct pkt_ext *ext)
{
	if (atomic_fetch_sub_explicit(&ext->e_refs, 1, memory_order_acq_rel) ==
	    1) {
		ext->e_free(ext);
	}
}

static inline bool
pkt_writable(const struct pkt *p)
{
	return atomic_load_explicit(&p->p_ext->e_refs, memory_order_acquire) ==
	    1;
}

#endif
