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
struct pkt_pool;

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

/* Fill in defaults; -EINVAL: cannot be. */
int sk_params_check(struct sk_params *p);

/* Two memfds, one for each end to write. */
int sk_arena_create(const struct sk_params *p, int memfd[2]);

/* What an end in another process needs. The descriptors are taken over, also
 * on failure; control (a stream socket to the other end's process) and pidfd
 * may be -1. bell[side][0] wakes that side's receiver, [1] its sender. */
struct sk_attach {
	int side;
	int memfd[2];
	int bell[4]; /* 2 * side + direction */
	int control, pidfd;
};
int sk_channel_attach(const struct sk_params *p, const struct sk_attach *a,
    struct channel **out);
/* Both ends in one process, which share one mapping. */
int sk_pipe_open(const struct sk_params *p, struct channel *out[2]);
/* End the channel: this end's calls answer -ENXIO, the other end's too when it
 * has received what was sent. Any thread, any number of times. */
void sk_channel_close(struct channel *ch);
/* Close it and give up the pointer. Memory stays until the last packet lent is
 * released. */
void sk_channel_free(struct channel *ch);
/* Keep the structure, for who only wants to know whether this end is over. */
void sk_channel_hold(struct channel *ch);
void sk_channel_drop(struct channel *ch);
int sk_channel_over(struct channel *ch);
/* Take its memory away: what was shared reads as zeros from now on. */
void sk_channel_defunct(struct channel *ch);
/* In a forked child: give up what belongs to the parent. */
void sk_channel_forked(struct channel *ch);
void sk_channel_info(struct channel *ch, struct sk_info *out);
void sk_channel_stats(struct channel *ch, struct sk_stats *out);
int sk_channel_reason(struct channel *ch);

/* SK_TX: take back what the peer has released. SK_RX: see what it has sent.
 * Both look whether it still lives. 0, or -ENXIO: the channel has ended. */
int sk_channel_sync(struct channel *ch, int dirs);
/* Wait until dir may go on, negative: for ever. 1 it may (or the wait ended for
 * nothing: try), 0 timeout, -EINTR, -ENXIO. */
int sk_channel_wait(struct channel *ch, int dir, int64_t timeout_ns);
/* Whether dir may go on (1); if not (0), its fd will poll readable when it may. */
int sk_channel_arm(struct channel *ch, int dir);

/* Sending: one thread at a time. Counts, 0 for full, or -ENXIO. A packet
 * allocated is the caller's until it is freed or transmitted. */
int sk_packet_alloc(struct channel *ch, uint32_t *idx, uint32_t n);
void sk_packet_free(struct channel *ch, const uint32_t *idx, uint32_t n);
/* The buffer of a packet of ours: SK_PARAMS buffer bytes. */
unsigned char *sk_packet_data(struct channel *ch, uint32_t idx);
/* Give packets of one buffer to the other end, the first len[i] bytes of each;
 * meta may be NULL. Takes the first k and answers k, or -EINVAL: not allocated,
 * or longer than a buffer. */
int sk_transmit(struct channel *ch, const uint32_t *idx, const uint32_t *len,
    const struct sk_meta *meta, uint32_t n);
/* Copy and give: one payload after the other in data, len[i] bytes each. */
int sk_send_batch(struct channel *ch, const unsigned char *data,
    const uint32_t *len, uint32_t n);
/* One packet, of as many buffers as it needs. 1, 0, -EMSGSIZE or -ENXIO. */
int sk_send(struct channel *ch, const unsigned char *data, uint32_t len,
    const struct sk_meta *meta);
/* Slots and packets that can be sent now. */
uint32_t sk_tx_room(struct channel *ch);

/* Receiving: one thread at a time. */
int sk_receive(struct channel *ch, struct sk_batch *b, uint32_t max);
/* Any thread. */
void sk_release(struct channel *ch, const uint32_t *idx, uint32_t n);
/* Piece f of a packet received. */
const unsigned char *sk_packet_frag(struct channel *ch, uint32_t idx,
    uint32_t f, uint32_t *len);
/* Copy out and release: payloads one after the other in buf, their lengths in
 * len. Packets, 0 for none, -EMSGSIZE: the first does not fit, or -ENXIO. */
int sk_receive_copy(struct channel *ch, unsigned char *buf, size_t size,
    uint32_t *len, uint32_t max);
uint32_t sk_rx_pending(struct channel *ch);

/* A batch received for a user who shares it out: dropping it releases all its
 * packets and what it holds of the channel. Any thread may drop. */
struct sk_lend;
struct sk_lend *sk_lend_receive(struct channel *ch, uint32_t max, int *error);
const struct sk_batch *sk_lend_batch(const struct sk_lend *l);
const unsigned char *sk_lend_frag(const struct sk_lend *l, uint32_t i,
    uint32_t f, uint32_t *len);
void sk_lend_drop(struct sk_lend *l);

/* Events. */
int sk_event_post(struct channel *ch, const struct sk_event *ev);
int sk_event_next(struct channel *ch, struct sk_event *ev);

/* A flow's advisory as the other end set it: 0, ENOBUFS (suspended), ENOENT
 * (not this flow's), ENXIO, EINVAL, negative. */
int sk_flow_admissible(struct channel *ch, uint32_t flowid);
int sk_flow_advise(struct channel *ch, uint32_t flowid, unsigned flags);

/* Monitor: copies of what crosses target go to tap, an end of another pipe that
 * nobody else sends on, until either is closed; meta.spare tells the direction.
 * dirs: SK_TX | SK_RX. */
int sk_monitor(struct channel *target, struct channel *tap, int dirs);

/* Kernel pipe: the other end is a provider's callbacks, which get the end that
 * they serve. sync_tx: the user has sent, take it; sync_rx (may be NULL): the
 * user may have room. 0 or a negative errno. pre_connect may refuse; all but
 * sync_tx may be NULL. */
struct kpipe;
struct sk_provider_ops {
	int (*nxpi_pre_connect)(void *arg, struct channel *end);
	void (*nxpi_connected)(void *arg, struct channel *end);
	int (*nxpi_sync_tx)(void *arg, struct channel *end);
	int (*nxpi_sync_rx)(void *arg, struct channel *end);
	void (*nxpi_pre_disconnect)(void *arg, struct channel *end);
	void (*nxpi_disconnected)(void *arg, struct channel *end);
};
int sk_kpipe_open(const struct sk_params *p, const struct sk_provider_ops *ops,
    void *arg, struct channel **user, struct kpipe **out);
/* The same over an end whose other end is anywhere; the end is taken over, also
 * on failure. Whoever waits on its descriptors calls sk_kpipe_run. */
int sk_kpipe_attach(struct channel *end, const struct sk_provider_ops *ops,
    void *arg, struct kpipe **out);
/* Serve. 0: wait for a descriptor; 1: call again; -ENXIO: it is over. */
int sk_kpipe_run(struct kpipe *kp);
struct channel *sk_kpipe_end(struct kpipe *kp);
void sk_kpipe_close(struct kpipe *kp);
/* What is sent comes back. */
const struct sk_provider_ops *sk_loopback_provider(void);

/* A port (nic/port.h) over an end, which is taken over, also on failure. link 0
 * ethernet, 1 bare IP; the longest packet of the channel must hold mtu. Payload
 * received is lent in place, its headers copied; closing the port ends the
 * channel. -EINVAL: it does not fit. */
int sk_channel_port(struct channel *ch, struct pkt_pool *pool, int link,
    uint32_t mtu, struct port **out);

/* Two ports back to back. The ports stay the caller's, who closes them after
 * the join and calls run when one of their descriptors is readable or
 * the time that poll_at answers (UINT64_MAX: never) has come. run: 0 wait, 1 call
 * again, or what a port answered. */
struct sk_join;
int sk_join_open(struct port *a, struct port *b, struct sk_join **out);
int sk_join_run(struct sk_join *jn, uint64_t now);
uint64_t sk_join_poll_at(struct sk_join *jn);
void sk_join_close(struct sk_join *jn);

size_t sk_sizeof_pkt(void); /* compared at import against other packages */
size_t sk_sizeof_port(void);

#endif
