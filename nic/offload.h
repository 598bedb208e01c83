/*
 * offload.h - what hardware would do: checksums and cutting super-segments.
 */
#ifndef NIC_OFFLOAD_H
#define NIC_OFFLOAD_H

#include "nic/pkt_pool.h"
#include "nic/port_impl.h"

#define OFFLOAD_HDRMAX 256  /* link + ip + transport headers we cut */
#define OFFLOAD_SEGMAX 4096 /* segments of one packet */

/* Where the headers of a frame are. */
struct offload_hdr {
	uint8_t oh_bytes[OFFLOAD_HDRMAX];
	uint16_t oh_l3, oh_l4, oh_end; /* offsets in the frame */
	uint8_t oh_version;	       /* 4 or 6 */
	uint8_t oh_proto;	       /* 6 TCP, 17 UDP */
};

/* Segments, oldest first; sc_v grows by realloc. */
struct offload_cut {
	struct pkt **sc_v;
	uint32_t sc_n, sc_cap;
};

/* Sum of 16-bit words in memory order, not folded to 16 bits; start with 0.
 * Sums of pieces may be added when every piece but the last is even. */
uint64_t csum_add(const void *data, size_t len, uint64_t sum);
/* To 16 bits, not complemented. */
uint16_t csum_fold(uint64_t sum);
/* The same over [off, off + len) of a chain, whatever its pieces. */
uint64_t csum_pkt(const struct pkt *p, uint32_t off, uint32_t len);
/* Pseudo-header sum over the addresses of an IP header; plen includes the
 * transport header. */
uint64_t csum_pseudo(const uint8_t *ip, int version, uint8_t proto,
    uint32_t plen);

/* Read the headers of an unfragmented TCP or UDP packet: 0, or -EINVAL when it
 * is something else or lies about its lengths. */
int offload_parse(const struct pkt *p, uint32_t l2len, struct offload_hdr *oh);

/* Complete PKT_CSUM_PARTIAL in place. 0; -EINVAL: its fields are nonsense;
 * -EBUSY: the checksum lies in storage that others share. */
int offload_csum(struct pkt *p);

/*
 * Cut p into packets of p_gso_size payload, appended to cut. p stays with
 * the caller and is unchanged. sg: segments are chains that share p's
 * storage, else one buffer each. partial: leave their checksums to the port.
 * 0, or -errno with cut as it was (-EINVAL: not a packet that can be cut).
 */
int offload_cut(const struct pkt *p, struct pkt_pool *pool, uint32_t l2len,
    uint32_t headroom, bool sg, bool partial, struct offload_cut *cut);

/* Append one packet; false: no memory, p stays with the caller. */
bool offload_push(struct offload_cut *cut, struct pkt *p);

#endif
