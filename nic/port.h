/*
 * port.h - the narrow waist: anything that takes and gives bursts of packets.
 *
 * A NIC backend is a port; so are the capture writer, the fault injector and
 * later the flowswitch's host and client sides. A wrapper is a port that holds
 * another one in pt_lower and closes it with itself.
 *
 * Callers use pt_input and pt_output, never pt_ops directly: these count,
 * and pt_output finishes in software whatever the port cannot do (checksums,
 * segmentation), so a caller may always send what its own tables allow.
 *
 * A port is driven by one thread or lock at a time, except that the two ends
 * of a pair may belong to different threads.
 */
#ifndef NIC_PORT_H
#define NIC_PORT_H

#include "nic/pkt.h"

#define PORT_NAMSIZ 32
#define PORT_BURST 64	      /* packets a call moves at most */
#define PORT_NEVER UINT64_MAX /* po_poll_at: nothing planned */

/* pt_caps: what the port can do for the sender (TX) and vouches for (RX). */
#define PORT_TXCSUM 0x001 /* PKT_CSUM_PARTIAL on transmit, IPv4 and IPv6 */
#define PORT_TSO4 0x002
#define PORT_TSO6 0x004
#define PORT_USO 0x008	  /* UDP_L4, both families */
#define PORT_RXCSUM 0x010 /* may deliver PKT_CSUM_VALID / PARTIAL */
#define PORT_LRO 0x020	  /* may deliver packets longer than the MTU */
#define PORT_SG 0x040	  /* takes chains of buffers without flattening */
#define PORT_MEMORY 0x080 /* never leaves this process: no checksum needed */
#define PORT_BROADCAST 0x100

enum port_link {
	PORT_ETHER, /* frames with an Ethernet header */
	PORT_RAWIP, /* bare IPv4 or IPv6 packets */
};

/* port_ctl commands; arg as noted */
#define PORT_CTL_PROMISC 1   /* const int *: 0 or 1 */
#define PORT_CTL_MTU 2	     /* const uint32_t * */
#define PORT_CTL_MCAST_ADD 3 /* const uint8_t[6] */
#define PORT_CTL_MCAST_DEL 4 /* const uint8_t[6] */
#define PORT_CTL_LINK 5	     /* int * out: 1 the carrier is up */
#define PORT_CTL_MAC 6	     /* const uint8_t[6]: take frames for this one */
#define PORT_CTL_FLOWADV 7 /* struct flow_advtab *, or NULL: where to suspend */

struct port_stats {
	uint64_t ps_rxpkts, ps_rxbytes, ps_rxdrops, ps_rxerrs;
	uint64_t ps_txpkts, ps_txbytes, ps_txdrops, ps_txerrs;
	uint64_t ps_swcsum; /* checksums finished in software */
	uint64_t ps_swgso;  /* super-segments cut in software */
};

struct port;

struct port_ops {
	const char *po_name;
	/* Up to n packets into v; returns how many (0: none now) or -errno. */
	int (*po_rx)(struct port *, struct pkt **v, int n, uint64_t now);
	/* Takes the first k of v and answers k; the caller keeps the rest
	 * and tries again when the fd is writable (or at the next run for a
	 * port without an fd). An fd that is writable although nothing was
	 * taken (feth) says nothing: try again after a while. -errno: none
	 * taken. A packet that can never be sent is taken, freed and
	 * counted. */
	int (*po_tx)(struct port *, struct pkt **v, int n, uint64_t now);
	/* A descriptor that polls readable when po_rx has something; -1 none. */
	int (*po_fd)(struct port *);
	/* When the port itself wants po_rx called (ns), or PORT_NEVER. */
	uint64_t (*po_poll_at)(struct port *);
	int (*po_ctl)(struct port *, int cmd, void *arg);
	void (*po_close)(struct port *); /* frees the port */
};

struct port {
	const struct port_ops *pt_ops;
	/* The doors (set by the nic library when the port is made). Same
	 * contract as po_rx and po_tx. */
	int (*pt_input)(struct port *, struct pkt **v, int n, uint64_t now);
	int (*pt_output)(struct port *, struct pkt **v, int n, uint64_t now);
	struct pkt_pool *pt_pool; /* for whoever builds packets for this port */
	struct port *pt_lower;	  /* the wrapped port, or NULL */
	uint32_t pt_caps;
	uint32_t pt_mtu;    /* IP bytes, link header not counted */
	uint32_t pt_gsomax; /* longest super-segment, link header included */
	enum port_link pt_link;
	uint8_t pt_mac[6];
	uint16_t pt_headroom; /* bytes the port likes before the frame */
	struct port_stats pt_stats;
	struct pkt **pt_pend; /* doors only: segments cut but not yet taken */
	uint32_t pt_npend, pt_pendcap;
	char pt_name[PORT_NAMSIZ];
};

static inline int
port_fd(struct port *pt)
{
	return pt->pt_ops->po_fd != NULL ? pt->pt_ops->po_fd(pt) : -1;
}

static inline uint64_t
port_poll_at(struct port *pt)
{
	return pt->pt_ops->po_poll_at != NULL ? pt->pt_ops->po_poll_at(pt) :
						PORT_NEVER;
}

#endif
