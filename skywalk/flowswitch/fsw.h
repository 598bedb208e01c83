/*
 * fsw.h - the flowswitch: one DEV port below, HOST and CLIENT ports above.
 *
 *	HOST's stack           clients' stacks
 *	    |      ring <------.  ring   ring
 *	  host_rx, host_tx     |  client_rx, client_tx
 *	    |                  |      |
 *	fsw_demux: parse, look up, deliver       client_sort: parse, judge
 *	    |                                    |            |
 *	    |              fsw_local (own address, lo)   route, encap
 *	    `------------------- DEV --------------------- fsw_tx, backlog
 *
 * Received. Whoever drives HOST drives DEV. A frame is parsed once; with the
 * owner of its flow known, its link header is taken off and it goes onto his
 * ring, by pointer. What nobody owns stays in HOST's burst, unchanged.
 *
 * Sent. HOST's packets go to DEV as they are. A client's must be of its own flows
 * (client_judge); they get the link header of their next hop and go to DEV in
 * the client's own thread.
 *
 * f_lock guards all of it and every call of DEV. Rings are consumed without
 * it. Nothing above is called under it but a wake function that pokes. Locks are
 * taken in the order: a stack's, f_lock, ns_lock. The resolver, which takes the
 * host stack's lock, is called without f_lock and from clients' threads alone.
 */
#ifndef SKYWALK_FLOWSWITCH_FSW_H
#define SKYWALK_FLOWSWITCH_FSW_H

#include "nic/port.h"
#include "skywalk/flowswitch/fsw_parse.h"
#include "skywalk/flowswitch/fsw_ring.h"
#include "skywalk/flowswitch/netns.h"

#define FSW_CONTAINER(ptr, type, member)                                       \
	((type *)(void *)((char *)(ptr) - offsetof(type, member)))

#define ETHER_LEN 14
#define FSW_ADDRS 64
#define FSW_TICK 1000000000u /* ns between looks for what is late */

/* Why packets were dropped, and what else is counted. */
enum fsw_stat {
	/* Received from DEV. */
	FS_RX_PKTS,
	FS_RX_HOST,
	FS_RX_CLIENT,
	FS_RX_BAD, /* unreadable: given to HOST */
	FS_RX_ICMP,
	FS_RX_MULTICAST,  /* copies for clients */
	FS_RX_AGGREGATED, /* segments joined to one before */
	FS_RX_DST_RING_FULL,
	FS_RX_HOST_RING_FULL,
	FS_RX_LINGER, /* for a flow whose owner has gone */
	FS_RX_BADLINK,
	FS_RX_NOBUFS,
	FS_RX_STALL,
	FS_FRAG_HELD,
	FS_FRAG_DONE,
	FS_FRAG_TIMEOUT,
	FS_FRAG_OVERLAP,
	FS_FRAG_FULL,
	FS_FRAG_BAD,
	/* Sent by clients. */
	FS_TX_PKTS,
	FS_TX_LOCAL,
	FS_TX_WIRE,
	FS_TX_BAD,
	FS_TX_FLOW_BAD_ID,
	FS_TX_FLOW_STALE, /* sent nevertheless */
	FS_TX_NOT_OWNED,
	FS_TX_NO_RESOLVER,
	FS_TX_UNREACH,
	FS_TX_ROUTE_FULL,
	FS_TX_ROUTE_TIMEOUT,
	FS_TX_ROUTE_HELD,
	FS_TX_NOBUFS,
	FS_TX_DEV_ERROR,
	FS_TX_BACKLOG, /* had to wait for DEV */
	FS_TX_BLOCKED, /* times a client was refused */
	FS_TX_SUSPENDED,
	FS_TX_RESUMED,
	FS_TX_RST,
	FS_CLIENTS_DEFUNCT,
	FS_NSTATS,
};

/* A HOST or CLIENT port. */
struct fsw_end {
	struct port e_port;
	struct fsw *e_fsw;
	struct netns_owner *e_owner; /* NULL: HOST */
	LIST_ENTRY(fsw_end) e_link;
	struct fsw_end *e_touch; /* next of those to be told */
	bool e_host, e_touched;
	atomic_bool e_dead;
	uint32_t e_routegen; /* its driver's: the last that it acted on */
	/* The datagram whose later fragments it may send. */
	struct flow_key e_fragkey;
	uint32_t e_fragid;
	/* The last packet, while segments may still be joined to it. */
	struct pkt *e_agg, *e_aggtail;
	uint32_t e_aggseq, e_aggmss;
	uint16_t e_aggl4, e_aggend;
	bool e_aggshut;
	/* The watchdog's: the head it saw, and since when. */
	uint32_t e_stallhead;
	uint64_t e_stallsince;
	struct ring e_ring;
};

#define FSW_ROUTES 256 /* buckets; at most four times as many routes */
#define ROUTE_HOLD 32  /* packets that wait for one next hop */

enum route_state { ROUTE_NEW, ROUTE_ASKED, ROUTE_READY };

struct flow_route {
	struct flow_route *fr_next;
	uint8_t fr_dst[16];
	uint8_t fr_mac[6];
	uint8_t fr_state;  /* enum route_state */
	uint32_t fr_gen;   /* of f_routegen when it was asked */
	uint64_t fr_stale; /* ask again then */
	uint64_t fr_since; /* packets wait */
	uint32_t fr_nheld;
	struct pkt *fr_held[ROUTE_HOLD];
};

struct frag_table;

struct fsw {
	pthread_mutex_t f_lock;
	pthread_cond_t f_quiet; /* f_resolving fell to 0 */
	uint32_t f_refs;
	struct netns *f_ns;
	uint8_t f_index; /* in ns_fsw */
	bool f_loop, f_noagg, f_more;
	uint32_t f_l2, f_mtu;
	struct port *f_dev; /* NULL: HOST has closed it */
	struct pkt_pool *f_pool;
	struct fsw_end *f_host;
	LIST_HEAD(, fsw_end) f_clients;
	uint32_t f_nclients, f_ringsize;
	struct fsw_end *f_touched;
	uint64_t f_now, f_tick, f_stall;
	uint32_t f_aggmax;
	/* When a client should call again for the sake of what waits here. */
	_Atomic uint64_t f_clientat;
	/* Packets that DEV had no room for, a ring. */
	struct pkt **f_back;
	uint32_t f_backcap, f_backhead, f_nback;
	uint32_t *f_susp; /* ids of flows suspended for it */
	uint32_t f_nsusp;
	/* Next hops. */
	atomic_uint f_routegen;
	struct flow_route *f_route[FSW_ROUTES];
	uint32_t f_nroutes, f_nheld, f_resolving;
	const struct flow_resolver *f_resolver;
	struct frag_table *f_frags;
	uint32_t f_nfrags; /* packets held there */
	/* RSTs to be sent when ns_lock is given back. */
	struct {
		struct pkt *rp_pkt;
		uint8_t rp_mac[6];
		bool rp_hasmac;
	} f_reply[PORT_BURST];
	uint32_t f_nreplies;
	uint8_t f_addr[FSW_ADDRS][16];
	size_t f_naddrs;
	void (*f_wake)(void *); /* written under f_lock and ns_lock */
	void *f_wakearg;
	uint64_t f_stat[FS_NSTATS];
	char f_name[PORT_NAMSIZ];
};

static inline void
fsw_count(struct fsw *f, enum fsw_stat what, uint64_t n)
{
	uint64_t *c = &f->f_stat[what];

	__atomic_store_n(c, *c + n, __ATOMIC_RELAXED);
}

/* Counters of a port have one writer, its driver. */
static inline void
fsw_portadd(uint64_t *c, uint64_t n)
{
	__atomic_store_n(c, *c + n, __ATOMIC_RELAXED);
}

static inline void
fsw_drop(struct fsw *f, struct pkt *p, enum fsw_stat why)
{
	fsw_count(f, why, 1);
	pkt_free(p);
}

/* fsw.c */
void fsw_hold(struct fsw *f);	   /* under f_lock */
void fsw_unref(struct fsw *f);	   /* not under f_lock */
void fsw_wake_host(struct fsw *f); /* under ns_lock or f_lock */
/* Wake who drives e, though there is no packet. Under ns_lock or f_lock. */
void end_event(struct fsw_end *e);
void end_setup(struct fsw_end *e, struct fsw *f, const struct port_ops *ops,
    struct pkt_pool *pool, const char *name);
/* What is due: RSTs of orphans, timeouts, the watchdog. Under f_lock. */
void fsw_service(struct fsw *f, uint64_t now);
/* Whether one of the interface's own addresses, or nothing is known of them. */
bool fsw_is_own(const struct fsw *f, const uint8_t *addr, bool unknown);
/* e's client is beyond hope: it answers -ENXIO, its flows are aborted. */
void fsw_defunct(struct fsw *f, struct fsw_end *e);

/* fsw_host.c, fsw_client.c */
int host_open(struct fsw *f, struct pkt_pool *pool, uint32_t ring);

/* fsw_input.c, under f_lock. */
/* Packets of DEV go where they belong; those for HOST stay in v, packed.
 * Answers how many. */
int fsw_demux(struct fsw *f, struct pkt **v, int n);
/* An IP packet without link header, sent in memory, goes to its owner. h was
 * parsed with the sender as the foreign side. Under ns_lock. */
void fsw_local(struct fsw *f, struct pkt *p, const struct hdr *h);
/* Packets of HOST, or our own, for a DEV that loops. */
void fsw_loop(struct fsw *f, struct pkt **v, int n);
/* p for fl's owner, l2 bytes of link header taken off. Under ns_lock. false: he
 * has no port here, p is the caller's. */
bool fsw_deliver(struct fsw *f, struct flow *fl, struct pkt *p,
    const struct hdr *h);
/* Frame or packet for HOST that was not received just now. */
void fsw_tohost(struct fsw *f, struct pkt *p, bool framed);
/* Publish what was delivered, and ring; from is who did it. */
void fsw_flush(struct fsw *f, struct fsw_end *from);
/* e is to be told at the next flush. */
void fsw_touch(struct fsw *f, struct fsw_end *e);
/* Onto e's ring, or dropped. */
void fsw_push(struct fsw *f, struct fsw_end *e, struct pkt *p);
/* Whether a received packet is for a flow: its owner's now, or NULL. */
struct flow *fsw_owner(struct fsw *f, const struct hdr *h);

/* fsw_agg.c */
/* Join p, a TCP segment for e described by h, to the one before; false: p is
 * to be delivered by itself. What was held is on its way then. */
bool agg_join(struct fsw *f, struct fsw_end *e, struct pkt *p,
    const struct hdr *h);
void agg_flush(struct fsw *f, struct fsw_end *e);

/* fsw_frag.c, under ns_lock. */
/* Hold p, a fragment, until its datagram is whole. framed: it has a link
 * header, of h_l3 bytes. */
void frag_input(struct fsw *f, struct pkt *p, const struct hdr *h);
void frag_expire(struct fsw *f, bool all);

/* fsw_output.c, under f_lock. */
/* Frames for DEV, in order; all are consumed. */
void fsw_tx(struct fsw *f, struct pkt **v, int n);
/* Try again what waits; true: nothing does. */
bool fsw_drain(struct fsw *f);
void fsw_backlog_fini(struct fsw *f);
/* Send the RSTs that wait in f_reply. */
void fsw_replies(struct fsw *f);
/* Answer in, for the lingering flow fl, with a RST. */
void fsw_reply(struct fsw *f, const struct flow *fl, const struct hdr *in);
/* A link header in front of p; NULL: no memory, p was dropped. */
struct pkt *fsw_encap(struct fsw *f, struct pkt *p, const uint8_t dst[6],
    const uint8_t src[6]);
/* RSTs for flows that were aborted. */
void fsw_aborts(struct fsw *f);

/* flow_route.c, under f_lock, which may be given up for a while. */
void route_output(struct fsw *f, struct pkt *p, const uint8_t *dst);
/* Ask again for next hops that packets wait for. Only a client's thread. */
void route_retry(struct fsw *f);
void route_expire(struct fsw *f);
void routes_fini(struct fsw *f);
/* The link-layer address, if it is known without asking. */
bool route_peek(struct fsw *f, const uint8_t *dst, uint8_t mac[6]);

#endif
