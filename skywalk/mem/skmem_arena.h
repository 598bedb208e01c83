/*
 * skmem_arena.h - the memory that the two ends of a channel share.
 *
 * An arena is two halves, one for each end, and a half has one writer: its end
 * maps it for reading and writing, the other end for reading only. All that is
 * shared lies in a half as offsets from its beginning; pointers are private.
 *
 *	guard | half 0 (written by the server) | guard | half 1 | guard
 *
 * Each half is a memfd of its own: once its writer has mapped it, it is sealed
 * against further writable mappings, and from the start against shrinking, so
 * no access of the other end ever faults.
 */
#ifndef SKYWALK_MEM_SKMEM_ARENA_H
#define SKYWALK_MEM_SKMEM_ARENA_H

#include <stdatomic.h>
#include <stdbool.h>

#include "skywalk/api.h"

#define SKMEM_MAGIC 0x31616e6572616b73ull /* "skarena1" */
#define SKMEM_VERSION 1
#define SCHEMA_ACTIVE 0x1

/* Regions of a half, in this order, each from a page of its own. */
enum skmem_region {
	SKMEM_SCHEMA,
	SKMEM_RING,    /* struct sk_heads */
	SKMEM_TXSD,    /* slots of the TX ring */
	SKMEM_FSD,     /* slots of the FREE ring */
	SKMEM_ESD,     /* slots of the event ring */
	SKMEM_UMD,     /* metadata of packets */
	SKMEM_UBFT,    /* further buflets */
	SKMEM_FLOWADV, /* flow advisories */
	SKMEM_BUF,     /* buffers: of packets, then of buflets */
	SKMEM_NREGIONS
};

struct sk_schema {
	uint64_t sc_magic;
	uint32_t sc_version;
	atomic_uint sc_flags;  /* SCHEMA_ACTIVE until the writer ends it */
	atomic_uint sc_reason; /* then: why */
	struct sk_params sc_params;
	uint64_t sc_off[SKMEM_NREGIONS];
};

/* What the writer of a half says about rings; see channel/ring.h. Direction 0
 * is receiving, 1 sending, of the end that writes. */
struct sk_heads {
	_Alignas(64) atomic_uint sh_tx; /* giving packets */
	_Alignas(64) atomic_uint sh_rx; /* taking packets */
	_Alignas(64) atomic_uint sh_alloc;
	_Alignas(64) atomic_uint sh_free;
	_Alignas(64) atomic_uint sh_evtx;
	atomic_uint sh_evrx;
	_Alignas(64) atomic_uint sh_arm[2];  /* wants to be woken: a number */
	_Alignas(64) atomic_uint sh_rung[2]; /* the other's number we rang for */
};

struct sk_slot {
	uint32_t sd_idx;
	uint32_t sd_len;
};

#define UMD_FINALIZED 0x1

/* Metadata of a packet with its first buflet. */
struct sk_umd {
	uint32_t um_idx; /* of this very packet */
	uint32_t um_len; /* bytes over all buflets */
	uint16_t um_flags;
	uint16_t um_nfrags;
	uint32_t um_off, um_flen; /* first buflet, in buffer um_idx */
	uint32_t um_next;	  /* further buflet, or SK_NONE */
	uint32_t um_spare;
	struct sk_meta um_meta;
};

/* Further buflet i has buffer packets + i. */
struct sk_buflet {
	uint32_t bf_idx;
	uint32_t bf_next;
	uint32_t bf_off, bf_len;
};

struct sk_flowadv {
	atomic_uint fv_flowid;
	atomic_uint fv_flags;
};

_Static_assert(sizeof(struct sk_meta) == 32, "a packet's metadata");
_Static_assert(sizeof(struct sk_umd) == 64, "one line for each packet");

struct skmem_half {
	uint8_t *hf_base;
	struct sk_schema *hf_schema;
	struct sk_heads *hf_heads;
	struct sk_slot *hf_txsd;
	uint32_t *hf_fsd;
	struct sk_event *hf_esd;
	struct sk_umd *hf_umd;
	struct sk_buflet *hf_ubft;
	struct sk_flowadv *hf_flowadv;
	uint8_t *hf_buf;
};

struct skmem_arena {
	atomic_uint ar_refs;
	struct sk_params ar_params;
	uint32_t ar_fslots; /* slots of a FREE ring */
	uint8_t *ar_map;    /* with the guards */
	size_t ar_maplen, ar_halflen, ar_page;
	unsigned ar_writable; /* bit i: half i */
	struct skmem_half ar_half[2];
};

/* Bytes of a half, and where its regions lie. */
size_t skmem_layout(const struct sk_params *p, uint64_t off[SKMEM_NREGIONS]);
/* Slots of the FREE ring: it can hold every packet. */
uint32_t skmem_fslots(const struct sk_params *p);

/* Map both halves, the ones in writable for writing; then no one can map
 * those for writing any more. The descriptors stay the caller's. */
int skmem_arena_map(const struct sk_params *p, const int memfd[2],
    unsigned writable, struct skmem_arena **out);
/* The parameters that half memfd claims to have, checked. */
int skmem_arena_params(int memfd, struct sk_params *p);
/* Put zeros in place of all that is shared, in this mapping. */
void skmem_arena_redirect(struct skmem_arena *ar);
void skmem_arena_hold(struct skmem_arena *ar);
void skmem_arena_drop(struct skmem_arena *ar);

static inline uint8_t *
skmem_buffer(const struct skmem_arena *ar, int half, uint32_t i)
{
	return ar->ar_half[half].hf_buf + (size_t)i * ar->ar_params.buffer;
}

#endif
