/*
 * ladder.h - where a frame of unknown length is read into.
 *
 * A read is given buffers of rising size; those that the frame does not reach
 * stay for the next. So an ordinary frame costs a small buffer, and nothing
 * is ever cut or copied.
 */
#ifndef NIC_LADDER_H
#define NIC_LADDER_H

#include <sys/uio.h>

#include "nic/pkt.h"

#define LADDER_RUNGS 3

struct ladder {
	struct pkt *ld_rung[LADDER_RUNGS];
};

/* Make all rungs; false: no memory for one. */
bool ladder_fill(struct ladder *ld, struct pkt_pool *pool, uint32_t headroom);
/* One iovec for each rung; returns the bytes they hold. */
uint32_t ladder_iov(const struct ladder *ld, struct iovec iov[LADDER_RUNGS]);
/* The first len bytes, which must fit, as a packet. */
struct pkt *ladder_take(struct ladder *ld, uint32_t len, uint64_t now);
void ladder_free(struct ladder *ld);

#endif
