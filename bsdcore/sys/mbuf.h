/*
 * mbuf.h - the memory of packets and socket buffers.
 *
 * An mbuf holds up to MLEN bytes itself or points at shared external storage
 * (M_EXT): a cluster of 2, 4, 16 or 64 KiB, or memory of somebody else, such
 * as the buffer of a NIC packet, which is wrapped and not copied. m_next links
 * the mbufs of one packet or record, m_nextpkt the packets of a queue.
 *
 * Invariants (m_sanity):
 *	M_EXT:  ext.x_buf <= m_data && m_data + m_len <= ext.x_buf + ext.x_size
 *	!M_EXT: m_dat <= m_data && m_data + m_len <= m_dat + MLEN
 *	M_PKTHDR: m_pkthdr.len == sum of m_len over m_next
 *
 * Ownership. An mbuf has one owner; storage has as many as x_refs says and may
 * be written only while that is one (M_WRITABLE). All of this happens under
 * the owning stack's lock; memory that goes down to a port as a struct pkt
 * comes back through mb_remote_free(), from any thread.
 *
 * Differences from BSD: a pool pointer in every mbuf instead of global
 * zones; no M_WAIT (callers handle NULL).
 */
#ifndef BSDCORE_SYS_MBUF_H
#define BSDCORE_SYS_MBUF_H

#include <stdatomic.h>

#include "bsdcore/sys/systm.h"
#include "nic/pkt.h"

struct stack;
struct ifnet;
struct mbpool;

#ifndef MSIZE
#define MSIZE 512
#endif

#define MCLBYTES 2048
#define MBIGCLBYTES 4096
#define M16KCLBYTES 16384
#define M64KCLBYTES 65536
#define M_COPYALL 1000000000u

/* Room every transport header mbuf leaves in front of itself: link header
 * (14, aligned 16) + IPv6 header (40) + slack. */
#define MAX_HDR 64

/* m_flags */
#define M_EXT 0x0001
#define M_PKTHDR 0x0002
#define M_EOR 0x0004   /* end of record */
#define M_TAG 0x0008   /* in so_snd: m_pkthdr.svc and .origin are the bytes' */
#define M_LOOP 0x0040  /* looped back inside this stack */
#define M_BCAST 0x0100 /* link-level broadcast */
#define M_MCAST 0x0200 /* link-level multicast */
#define M_FRAG 0x0400
#define M_PROMISC 0x2000 /* not for our link address */
#define M_FREE 0x8000	 /* debug builds: on a free list */

/* m_type */
#define MT_FREE 0
#define MT_DATA 1
#define MT_HEADER 2
#define MT_SONAME 8   /* a struct sockaddr_storage-sized name */
#define MT_CONTROL 14 /* cmsg chain */
#define MT_OOBDATA 15

/* m_pkthdr.csum_flags */
/* CSUM_PARTIAL: tx: finish over [csum_start, len), store at
 * csum_start + csum_stuff; the field holds the pseudo sum */
#define CSUM_PARTIAL 0x01
#define CSUM_DATA_VALID 0x02 /* rx: transport checksum is known to be good */
#define CSUM_IP_VALID 0x04   /* rx: IP header checksum is known to be good */
#define CSUM_TSO 0x08 /* tx: tso_segsz payload bytes a segment (TCP or UDP) */

/* m_pkthdr.pkt_flags */
#define PKTF_FLOW_ADV 0x0002 /* sender understands back-pressure */
#define PKTF_ORDERED 0x0004  /* payload of a stream: PKT_ORDERED */
#define PKTF_FORWARDED 0x10000
#define PKTF_TCP_REXMT 0x200000

struct mext { /* shared external storage */
	uint32_t x_refs;
	uint32_t x_size;
	uint8_t *x_buf;
	void (*x_free)(struct mext *); /* at the last reference */
	void *x_arg;
	struct mbpool *x_pool;
	struct mext *x_link; /* free list */
	uint16_t x_class;    /* cluster class, or MEXT_FOREIGN */
	uint16_t x_flags;    /* MEXTF_* */
};
#define MEXTF_RDONLY 0x1 /* shared beyond x_refs: never write */

struct pkthdr {
	struct ifnet *rcvif;
	uint64_t tstamp; /* ns; rx: arrival */
	uint32_t len;	 /* bytes in the whole packet */
	uint32_t flowid;
	uint32_t origin; /* voucher originator */
	uint32_t pkt_flags;
	uint16_t csum_start; /* tx: from the first byte of the IP header */
	uint16_t csum_stuff; /* tx: from csum_start */
	uint16_t tso_segsz; /* tx: see CSUM_TSO; rx: payload per original segment */
	uint8_t csum_flags;
	uint8_t gso_type; /* PKT_GSO_* */
	uint8_t svc;	  /* service class */
	uint8_t proto;	  /* transport protocol number */
	uint16_t l3off; /* rx: bytes from m_data to the IP header (0 in pr_input);
			 * in so_rcv: TOS | TTL << 8, if the socket wants batches */
	uint32_t seg_count;   /* rx: wire segments merged into this one, >= 1 */
	struct pkt_ext txext; /* keeps the chain alive while a port has it */
	_Atomic(struct mbuf *) remote_next; /* mb_remote_free's list */
};

struct mbuf {
	struct mbuf *m_next;
	struct mbuf *m_nextpkt;
	uint8_t *m_data;
	uint32_t m_len;
	uint16_t m_type;
	uint16_t m_flags;
	struct mbpool *m_pool;
	struct mext *m_ext;	/* M_EXT only */
	struct pkthdr m_pkthdr; /* M_PKTHDR only */
	uint8_t m_dat[];	/* MLEN bytes */
};

#define MLEN ((uint32_t)(MSIZE - offsetof(struct mbuf, m_dat)))
#define MHLEN MLEN
#define MINCLSIZE (MLEN + 1)

#define mtod(m, t) ((t)(void *)((m)->m_data))
#define mtodo(m, o) ((void *)((m)->m_data + (o)))

static inline bool
M_WRITABLE(const struct mbuf *m)
{
	return !(m->m_flags & M_EXT) ||
	    (m->m_ext->x_refs == 1 && !(m->m_ext->x_flags & MEXTF_RDONLY));
}

static inline uint32_t
M_LEADINGSPACE(const struct mbuf *m)
{
	if (m->m_flags & M_EXT) {
		return M_WRITABLE(m) ? (uint32_t)(m->m_data - m->m_ext->x_buf) :
				       0;
	}
	return (uint32_t)(m->m_data - m->m_dat);
}

static inline uint32_t
M_TRAILINGSPACE(const struct mbuf *m)
{
	if (m->m_flags & M_EXT) {
		return M_WRITABLE(m) ?
		    (uint32_t)(m->m_ext->x_buf + m->m_ext->x_size -
			(m->m_data + m->m_len)) :
		    0;
	}
	return (uint32_t)(m->m_dat + MLEN - (m->m_data + m->m_len));
}

struct mbstat {			  /* per class where it says so */
	uint64_t mbs_mbufs;	  /* mbufs in use */
	uint64_t mbs_clusters[4]; /* 2K 4K 16K 64K in use */
	uint64_t mbs_foreign;	  /* foreign storage wrapped */
	uint64_t mbs_bytes;	  /* bytes of memory the pool holds */
	uint64_t mbs_limit;	  /* bytes it may hold */
	uint64_t mbs_fail;	  /* allocations refused */
	uint64_t mbs_drain; /* times protocols were asked to give memory back */
};

/* Pool. limit: bytes of mbufs and clusters together. */
struct mbpool *mbpool_new(struct stack *s, uint64_t limit);
/* Free the pool; memory still lent to ports is waited for by reference, and
 * the pool disappears with the last of it. */
void mbpool_free(struct mbpool *p);
void mbpool_stat(struct mbpool *p, struct mbstat *out);
/* Is the pool short (over 7/8 of its limit)? Whoever may refuse work asks. */
bool mbpool_short(const struct mbpool *p);
/* An allocation failed since the last call: protocols should give back. */
bool mbpool_wantdrain(struct mbpool *p);

/* Allocation: NULL at the limit. Data at the start of the area, not zeroed. */
struct mbuf *m_get(struct mbpool *p, int type);
struct mbuf *m_gethdr(struct mbpool *p, int type);
/* An mbuf with a cluster of at least size bytes (2K..64K; else NULL). */
struct mbuf *m_getcl(struct mbpool *p, int type, int flags, uint32_t size);
/* A chain for len payload bytes, m_len 0 in each, with M_PKTHDR if flags say. */
struct mbuf *m_getm(struct mbpool *p, uint32_t len, int type, int flags);
/* Attach foreign storage; free_fn(x) is called at the last reference. */
struct mbuf *m_getext(struct mbpool *p, void *buf, uint32_t size,
    void (*free_fn)(struct mext *), void *arg);

struct mbuf *m_free(struct mbuf *m); /* frees one, returns m_next */
void m_freem(struct mbuf *m);	     /* the packet; NULL allowed */
void m_freem_list(struct mbuf *m);   /* the m_nextpkt list */

/* NIC packets. m_frompkt takes the packet, wrapping its buffers; NULL: the
 * packet has been freed. m_topkt takes the mbuf chain (M_PKTHDR) and answers a
 * packet for pool `pp` sharing its memory; NULL: the chain has been freed. The
 * chain comes home through mb_remote_free when the port is done. */
struct mbuf *m_frompkt(struct mbpool *p, struct pkt *pk);
struct pkt *m_topkt(struct mbuf *m, struct pkt_pool *pp);
/* Take home what ports, and those to whom memory was lent, have finished with. */
void mbpool_reap(struct mbpool *p);

/* Lend a chain to the application, which holds refs references; lock held. The
 * chain must not be changed any more but may be copied from (m_copym). The last
 * m_lend_release(), in any thread, sends it home. charge is counted as
 * lent until then. */
void m_lend(struct mbuf *m, uint32_t refs, uint32_t charge);
void m_lend_hold(struct mbuf *m, uint32_t refs);
void m_lend_release(struct mbuf *m, uint32_t refs);
uint64_t mbpool_lent(const struct mbpool *p); /* bytes */

/* The m_* family. Those that answer an mbuf have freed the chain when they
 * answer NULL, except m_copym, m_dup, m_split and m_defrag, which leave it. */
struct mbuf *m_prepend(struct mbuf *m, uint32_t len); /* adjusts pkthdr.len */
struct mbuf *m_copym(const struct mbuf *m, uint32_t off, uint32_t len);
struct mbuf *m_dup(const struct mbuf *m);
void m_copydata(const struct mbuf *m, uint32_t off, uint32_t len, void *cp);
int m_copyback(struct mbuf *m, uint32_t off, uint32_t len, const void *cp);
void m_cat(struct mbuf *m, struct mbuf *n); /* does not touch pkthdr.len */
void m_adj(struct mbuf *m, int32_t len);    /* > 0 head, < 0 tail */
struct mbuf *m_pullup(struct mbuf *m, uint32_t len);
struct mbuf *m_copyup(struct mbuf *m, uint32_t len, uint32_t dstoff);
/* A window of len contiguous bytes at off; *offp is where it starts in the
 * mbuf answered. */
struct mbuf *m_pulldown(struct mbuf *m, uint32_t off, uint32_t len,
    uint32_t *offp);
struct mbuf *m_split(struct mbuf *m, uint32_t len); /* answers the tail */
struct mbuf *m_defrag(struct mbuf *m);
struct mbuf *m_makewritable(struct mbuf *m, uint32_t off, uint32_t len);
int m_append(struct mbuf *m, uint32_t len, const void *cp);
struct mbuf *m_getptr(struct mbuf *m, uint32_t loc, uint32_t *off);
struct mbuf *m_last(struct mbuf *m);
uint32_t m_length(const struct mbuf *m); /* walks the chain */
uint32_t m_fixhdr(struct mbuf *m);
void m_move_pkthdr(struct mbuf *to, struct mbuf *from);
void m_copy_pkthdr(struct mbuf *to, const struct mbuf *from);
void m_align(struct mbuf *m, uint32_t len); /* data at the end of the area */
bool m_sanity(const struct mbuf *m);	    /* aborts in debug builds */

/* One's complement sum over [off, off+len), folded to 16 bits, not inverted. */
uint16_t m_sum16(const struct mbuf *m, uint32_t off, uint32_t len);
/* The same over plain memory, unfolded and to be continued. */
uint64_t in_cksum_add(uint64_t sum, const void *buf, size_t len, bool odd);
uint16_t in_cksum_fold(uint64_t sum);

/* A queue of packets through m_nextpkt. */
struct mbufq {
	struct mbuf *mq_head, **mq_tailp;
	uint32_t mq_len;
};

static inline void
mbufq_init(struct mbufq *q)
{
	q->mq_head = NULL;
	q->mq_tailp = &q->mq_head;
	q->mq_len = 0;
}

static inline void
mbufq_put(struct mbufq *q, struct mbuf *m)
{
	m->m_nextpkt = NULL;
	*q->mq_tailp = m;
	q->mq_tailp = &m->m_nextpkt;
	q->mq_len++;
}

static inline struct mbuf *
mbufq_get(struct mbufq *q)
{
	struct mbuf *m = q->mq_head;

	if (m != NULL) {
		q->mq_head = m->m_nextpkt;
		if (q->mq_head == NULL) {
			q->mq_tailp = &q->mq_head;
		}
		m->m_nextpkt = NULL;
		q->mq_len--;
	}
	return m;
}

static inline void
mbufq_drain(struct mbufq *q)
{
	struct mbuf *m;

	while ((m = mbufq_get(q)) != NULL) {
		m_freem(m);
	}
}

#endif
