/*
 * pkt_pool.h - operations on packets that nic needs beside alloc and free.
 */
#ifndef NIC_PKT_POOL_H
#define NIC_PKT_POOL_H

#include <sys/uio.h>

#include "nic/pkt.h"

/* The longest storage that is kept for reuse: a super-frame and headroom. */
#define PKT_BIG (65536 + 4096)
#define PKT_MEDIUM 16384
#define PKT_SMALL 2048

/* Copy len bytes from offset off; false when the chain is shorter. */
bool pkt_copyout(const struct pkt *p, uint32_t off, uint32_t len, void *dst);
/* Buffers in the chain. */
uint32_t pkt_nbufs(const struct pkt *p);
/* The chain as iovecs; returns how many, or -1 when more than max. */
int pkt_iov(const struct pkt *p, struct iovec *iov, int max);
/* Copy all metadata of one packet to another. */
void pkt_copymeta(struct pkt *to, const struct pkt *from);
/* A copy in one buffer of its own, or NULL; p stays with the caller. */
struct pkt *pkt_flatten(const struct pkt *p, struct pkt_pool *pool,
    uint32_t headroom);

#endif
