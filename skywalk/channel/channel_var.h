/*
 * channel_var.h - one end of a channel, as its own process sees it.
 *
 * Everything here is private: what the other end can write is reached through
 * ch_arena and copied before it is believed. A member belongs to the thread
 * that sends, to the thread that receives, or says otherwise.
 */
#ifndef SKYWALK_CHANNEL_CHANNEL_VAR_H
#define SKYWALK_CHANNEL_CHANNEL_VAR_H

#include <pthread.h>
#include <sys/uio.h>

#include "skywalk/channel/ring.h"
#include "skywalk/mem/skmem_arena.h"
#include "skywalk/mem/skmem_cache.h"
#include "skywalk/mem/skmem_pool.h"

#define DIR_RX 0 /* index of bells, arms and descriptors */
#define DIR_TX 1

/* A received packet's metadata and its further buflets, internalized. */
struct sk_kmd {
	uint32_t km_len, km_nfrags;
	uint32_t km_off, km_flen, km_next;
};

struct sk_kbft {
	uint32_t kb_next, kb_off, kb_len;
	atomic_bool kb_held;
};

/* A batch received and shared out. */
struct sk_lend {
	struct channel *l_ch;
	struct sk_batch l_batch;
};

struct channel {
	struct skmem_arena *ch_arena;
	struct skmem_half *ch_our, *ch_its;
	struct sk_params ch_params;
	int ch_side;
	atomic_int ch_reason; /* enum sk_reason: this end is over */
	atomic_int ch_gone;   /* enum sk_reason: the other end is */
	atomic_uint ch_refs;
	int ch_bell[4]; /* 2 * side + direction */
	int ch_ep[2];	/* what this end sleeps on, by direction */
	int ch_control, ch_pidfd;
	/* A kernel pipe's provider is called where others are woken; set
	 * before the channel is used. */
	void (*ch_kick)(void *), (*ch_unkick)(void *);
	void *ch_kickarg;
	_Atomic(struct channel *) ch_tap; /* the monitor of this one */
	atomic_int ch_tapdirs;		  /* as a monitor: what it copies */

	/* The sender's. */
	_Alignas(64) struct channel_ring ch_tx;
	struct channel_ring ch_alloc;
	struct channel_ring ch_evtx;
	struct skmem_pool ch_pool;
	uint64_t ch_txpkts, ch_txbytes, ch_txfull, ch_txcopied;
	bool ch_reclaimed;

	/* The receiver's. */
	_Alignas(64) struct channel_ring ch_rx;
	struct channel_ring ch_evrx;
	struct sk_kmd *ch_kmd;
	struct sk_kbft *ch_kbft;
	struct skmem_cache ch_lends; /* freed by any thread */
	uint64_t ch_rxpkts, ch_rxbytes, ch_rxdropped, ch_rxcopied;

	/* Any thread's that releases, under ch_freelock. */
	_Alignas(64) pthread_mutex_t ch_freelock;
	struct channel_ring ch_free;
	atomic_uchar *ch_held; /* of its packets: here now */
	atomic_uint ch_lent;
	/* A monitor's end: whoever gives or takes at the one it watches. */
	pthread_mutex_t ch_taplock;
	uint64_t ch_tapdropped;
	_Atomic uint64_t ch_bells;
};

/* Counters have one writer and any reader. */
static inline void
stat_add(uint64_t *counter, uint64_t v)
{
	__atomic_store_n(counter,
	    __atomic_load_n(counter, __ATOMIC_RELAXED) + v, __ATOMIC_RELAXED);
}

static inline uint64_t
stat_read(const uint64_t *counter)
{
	return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

static inline bool
channel_over(const struct channel *ch)
{
	return atomic_load_explicit(&ch->ch_reason, memory_order_acquire) !=
	    SK_ACTIVE;
}

/* The other end still says that it is there. */
static inline bool
channel_peer_active(const struct channel *ch)
{
	return (atomic_load_explicit(&ch->ch_its->hf_schema->sc_flags,
		    memory_order_acquire) &
		   SCHEMA_ACTIVE) != 0 &&
	    atomic_load_explicit(&ch->ch_gone, memory_order_acquire) ==
	    SK_ACTIVE;
}

void channel_hold(struct channel *ch);
void channel_drop(struct channel *ch);
/* The first reason stays. Wakes whoever waits, here and there. */
void channel_end(struct channel *ch, enum sk_reason why);
/* Why the other end is not active. */
enum sk_reason channel_gone(struct channel *ch);

/* Wake the other end's thread for that direction, if it may be asleep. */
void channel_bell(struct channel *ch, int dir);
/* Quieten our descriptor for dir and see whether the other process is alive. */
void channel_quieten(struct channel *ch, int dir);
int channel_event_open(struct channel *ch);

/* Slots and packets in hand after a look: whether there is one of each. */
bool channel_tx_ready(struct channel *ch);
/* Take back what was released. 0 or -ENXIO. */
int channel_tx_reap(struct channel *ch);
/* A packet or an event has come. */
bool channel_rx_ready(struct channel *ch);
/* Copy one packet out of pieces and give it. 1, 0 or an error. */
int channel_sendv(struct channel *ch, const struct iovec *iov, int n,
    uint32_t len, const struct sk_meta *meta);
/* The pieces of a packet of ours that is len bytes long. */
int channel_tx_iov(struct channel *ch, uint32_t idx, uint32_t len,
    struct iovec *iov);
/* For who copies by himself: begin (1, 0: full, or an error) allocates, commit
 * puts into a slot, flush publishes. */
int channel_tx_begin(struct channel *ch, uint32_t len, uint32_t *idx);
void channel_tx_commit(struct channel *ch, uint32_t idx, uint32_t len,
    const struct sk_meta *meta);
void channel_tx_flush(struct channel *ch);
/* Own packets that the other end has are ours again: it is gone. */
void channel_reclaim(struct channel *ch);

#endif
