/*
 * port_impl.h - what every backend and wrapper inside nic is made with.
 *
 * A backend fills its struct port by port_setup() in its open function and
 * calls port_fini() in po_close before it frees the memory around it.
 */
#ifndef NIC_PORT_IMPL_H
#define NIC_PORT_IMPL_H

#include <sys/uio.h>

#include "nic/port.h"

#define CONTAINER_OF(ptr, type, member)                                        \
	((type *)(void *)((char *)(ptr) - offsetof(type, member)))
#define NITEMS(a) (sizeof(a) / sizeof((a)[0]))
#define MIN_OF(a, b) ((a) < (b) ? (a) : (b))

#define ETHER_HDR_LEN 14
#define ETHER_ADDR_LEN 6
#define ETHER_ALIGN 2	 /* in front of a frame: its IP header lies on a word */
#define PORT_RXROOM 64	 /* headroom of received packets, for forwarding */
#define PORT_IPMAX 65535 /* the longest IPv4 packet */
#define PORT_TSO (PORT_TSO4 | PORT_TSO6 | PORT_USO)
#define PORT_OFFLOADS                                                          \
	(PORT_TXCSUM | PORT_TSO | PORT_RXCSUM | PORT_LRO | PORT_SG)

/*
 * Counters have one writer, the driver of the port, and may be read by any
 * thread at any time; a relaxed store costs what a plain one does.
 */
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

/* Zero *pt and set ops, doors, pool and name (cut to fit). */
void port_setup(struct port *pt, const struct port_ops *ops,
    struct pkt_pool *pool, const char *name);
/* Free what the doors hold. */
void port_fini(struct port *pt);

/* The doors: port_setup() puts them into pt_input and pt_output. */
int port_input(struct port *pt, struct pkt **v, int n, uint64_t now);
int port_output(struct port *pt, struct pkt **v, int n, uint64_t now);

/* For po_tx: the packet cannot be sent; free and count it. */
void port_txdrop(struct port *pt, struct pkt *p);
void port_txerr(struct port *pt, struct pkt *p);

/* Bytes of link header before the IP header. */
static inline uint32_t
port_l2len(const struct port *pt)
{
	return pt->pt_link == PORT_ETHER ? ETHER_HDR_LEN : 0;
}

/* What was sent in memory is now received: its checksum needs no check, and
 * stays to be completed should it travel on. */
static inline void
port_turn(struct pkt *p, uint64_t now)
{
	p->p_time = now;
	p->p_flags &= (uint8_t)~PKT_TX;
	if (p->p_flags & PKT_CSUM_PARTIAL) {
		p->p_flags |= PKT_CSUM_VALID;
	}
}

/* Offloads that make no sense without others are not offered. */
static inline uint32_t
port_caps_sane(uint32_t caps)
{
	if ((caps & PORT_TXCSUM) == 0) {
		caps &= ~(uint32_t)PORT_TSO;
	}
	if ((caps & PORT_RXCSUM) == 0) {
		caps &= ~(uint32_t)PORT_LRO;
	}
	return caps;
}

/* A wrapper takes over what callers see of the port it stands in front of. */
void port_inherit(struct port *pt, struct port *lower);

#endif
