/*
 * api.h - all of skywalk that Python (and a C program) may call: memory and
 * channels here, the flowswitch in api_fsw.h.
 *
 * Read by the C compiler and, preprocessor lines dropped, by cffi: plain
 * declarations only. Errors are negative errno. Times are nanoseconds.
 */
#ifndef SKYWALK_API_H
#define SKYWALK_API_H

#include <stddef.h>
#include <stdint.h>

struct channel;
struct port;

/* A packet is found by its number; of its bytes at most SK_MAX_FRAGS pieces. */
#define SK_BATCH 64	/* packets that one call moves at most */
#define SK_MAX_FRAGS 64 /* buflets of a packet */
#define SK_MAX_SLOTS 16384
#define SK_MAX_PACKETS 65536
#define SK_MAX_BUFFER 65536
#define SK_NONE 0xffffffff /* no packet, no buflet */

/* The two ends of a pipe. */
#define SK_SERVER 0
#define SK_CLIENT 1

/* Directions, for sync and wait. */
#define SK_TX 1
#define SK_RX 2

/* What one end of a channel is made of; 0 is the default. Both ends are alike,
 * and each writes only its own half of the arena. */
struct sk_params {
	uint32_t slots;	    /* of the TX ring, a power of two; 256 */
	uint32_t packets;   /* that this end may have under way; 2 * slots */
	uint32_t buffer;    /* bytes of a buffer, a multiple of 64; 2048 */
	uint32_t buflets;   /* more buffers, for packets of several; 0 */
	uint32_t max_frags; /* buffers of one packet; 1 */
	uint32_t events;    /* slots of the event ring, a power of two; 32 */
	uint32_t flowadv;   /* flow advisories, a power of two; 0 */
};

/* Why a channel has ended; 0: it has not. */
enum sk_reason {
	SK_ACTIVE = 0,
	SK_CLOSED,	/* by this end */
	SK_PEER_CLOSED, /* by the other end */
	SK_PEER_DIED,	/* the other process is gone */
	SK_DEFUNCT,	/* its memory was taken away */
	/* The other end broke the rules. */
	SK_SCHEMA_BAD,	      /* not an arena, or of another version */
	SK_HEAD_OOB,	      /* a ring index outside the ring */
	SK_HEAD_OOB_WRAP,     /* slots given that it did not own */
	SK_TAIL_MISMATCH,     /* slots taken that were not given */
	SK_UNALLOCATED_PKT,   /* a packet that is not the other end's to give */
	SK_QUM_IDX_MISMATCH,  /* metadata of another packet */
	SK_BAD_BUFLET_CHAIN,  /* buflets that are not there, or too many */
	SK_INTERNALIZE_FAILED /* lengths that do not fit the buffers */
};

/* The metadata that travels with a packet: the fields of struct pkt. */
struct sk_meta {
	uint64_t time;
	uint32_t flowid, origin;
	uint16_t csum_start, csum_offset, gso_size, hdrlen;
	uint8_t gso_type, flags, svc, spare;
};

/* Packets received, column by column. data is the first piece of each; a packet
 * with nfrags > 1 has more (sk_packet_frag). Valid until released. */
struct sk_batch {
	uint32_t n;
	uint32_t idx[SK_BATCH];
	uint32_t len[SK_BATCH];	   /* bytes of the packet */
	uint32_t first[SK_BATCH];  /* bytes of its first piece */
	uint32_t nfrags[SK_BATCH]; /* pieces */
	const unsigned char *data[SK_BATCH];
	struct sk_meta meta[SK_BATCH];
};

struct sk_event {
	uint32_t type; /* SK_EVENT_* */
	uint32_t status;
	uint64_t token;
};
#define SK_EVENT_TRANSMIT_STATUS 1
#define SK_EVENT_TRANSMIT_EXPIRED 2

struct sk_info {
	struct sk_params params;
	int side; /* SK_SERVER or SK_CLIENT */
	int reason;
	int rx_fd,
	    tx_fd;	/* poll readable when receive, or transmit, may go on */
	uint64_t arena; /* bytes of shared memory, both halves */
};

struct sk_stats {
	uint64_t txpkts, txbytes, rxpkts, rxbytes;
	uint64_t rxdropped;   /* given without having been finalized */
	uint64_t txfull;      /* no slot or no packet when one was wanted */
	uint64_t bells;	      /* times the other end had to be woken */
	uint64_t copied;      /* payload bytes copied in or out by this end */
	uint64_t mondropped;  /* packets that a monitor had no room for */
	uint32_t free, held;  /* own packets: in the pool; with the user */
	uint32_t given, lent; /* own packets the peer has; its packets here */
};

size_t sk_sizeof_pkt(void); /* compared at import against other packages */
size_t sk_sizeof_port(void);

#endif
