/*
 * api_fsw.h - the flowswitch and the port namespace, as Python and C call them.
 *
 * Read by the C compiler and by cffi like api.h, which includes it: plain
 * declarations only. Errors are negative errno, times nanoseconds.
 *
 * Lifetimes. A netns, an owner and a flowswitch live until their handle is
 * given back and nothing refers to them any more; handles may be given back in
 * any order. Ports are closed through pt_ops->po_close by whoever drives them.
 * The HOST port closes DEV with itself: from then on CLIENT ports answer
 * -ENXIO, and their owners close them when they like.
 *
 * Threads. HOST is driven by one thread or lock, each CLIENT by one thread;
 * all of them may run at once. Everything else here may be called by any
 * thread. Nothing here calls a stack, but for the resolver (no lock of ours
 * held, from a CLIENT's pt_input and pt_output alone) and the wake function.
 */
#ifndef SKYWALK_API_FSW_H
#define SKYWALK_API_FSW_H

#include <stddef.h>
#include <stdint.h>

struct port;
struct pkt_pool;
struct netns_ops;     /* nic/flow.h */
struct flow_advtab;   /* nic/flow.h */
struct flow_resolver; /* nic/flow.h */

struct netns;
struct netns_owner;
struct fsw;

/* ---- netns: one space of ports and flows for all stacks of a process ---- */

struct sk_netns_cfg {
	uint64_t seed[2];   /* of the hashes; take them from the system */
	uint32_t max_flows; /* flows with an id; 0: 262144 */
	uint64_t linger_ns; /* 2 MSL: an orphan's port is held; 0: 30 s */
};
int sk_netns_new(const struct sk_netns_cfg *cfg, struct netns **out);
void sk_netns_free(struct netns *ns);

/* The BSD stack. Its flows get ids and advisories; packets reach it because
 * no client owns them. */
#define SK_OWNER_HOST 0
/* A user-space stack: packets of what it has reserved or attached go to it. */
#define SK_OWNER_CLIENT 1
/* An owner of ports. sk_netns_ops() with the owner as arg is what the stack is
 * given; sk_netns_advtab() is the same for all stacks. */
int sk_netns_owner(struct netns *ns, int kind, int pid,
    struct netns_owner **out);
/* The owner has gone. What it has not detached is aborted: TCP peers get a
 * RST, and its ports are held for linger_ns. */
void sk_netns_owner_free(struct netns_owner *owner);
/* The same, but the handle stays good, for a stack that may still call. */
void sk_netns_owner_abort(struct netns_owner *owner);
const struct netns_ops *sk_netns_ops(void);
/* no_reserve and no_release for those who are no stack: port of laddr (sixteen
 * bytes, IPv4 mapped; zeros for any), flags FLOW_* of nic/flow.h. */
int sk_netns_reserve(struct netns_owner *owner, int proto,
    const unsigned char *laddr, uint16_t port, unsigned int flags);
void sk_netns_release(struct netns_owner *owner, int proto,
    const unsigned char *laddr, uint16_t port);
struct flow_advtab *sk_netns_advtab(struct netns *ns);

/* ---- the flowswitch of one interface ---- */

/* DEV loops: what is sent is received, so nothing is sent to DEV at all; it
 * lends its pool, MTU and name. HOST has a descriptor of its own then. */
#define SK_FSW_LOOP 0x1
/* Leave bursts of TCP segments as they come. */
#define SK_FSW_NOAGG 0x2

struct sk_fsw_cfg {
	uint32_t flags;		    /* SK_FSW_* */
	uint32_t host_ring;	    /* packets; 0: 4096 */
	uint32_t client_ring;	    /* packets; 0: 2048 */
	uint32_t backlog;	    /* packets DEV has no room for; 0: 512 */
	uint32_t agg_max;	    /* bytes of an aggregate; 0: 65535 */
	uint64_t stall_ns;	    /* undrained so long: dead; 0: 10 s */
	struct pkt_pool *host_pool; /* what HOST's stack allocates from: not
				     * DEV's pool, which clients use too */
};
/* dev is the flowswitch's from then on, also on failure. HOST has the link type,
 * MTU and address of DEV. */
int sk_fsw_open(struct netns *ns, struct port *dev,
    const struct sk_fsw_cfg *cfg, struct fsw **fsw, struct port **host);
void sk_fsw_free(struct fsw *fsw);

/*
 * A CLIENT port: bare IP packets (PORT_RAWIP), at most one for each owner and
 * flowswitch. pool is the client's own; doorbell is an eventfd that is written
 * when there is something to receive (or a flow was resumed) while the client
 * may be asleep, or -1: the port makes one.
 *
 * A doorbell may serve several ports. Then its owner reads it, before he polls
 * the ports; the ports do not. A port with a doorbell of its own reads it.
 * What a client sends to itself, or to a port with the same doorbell, does not
 * ring: po_poll_at answers 0 then.
 */
int sk_fsw_client(struct fsw *fsw, struct netns_owner *owner,
    struct pkt_pool *pool, int doorbell, struct port **out);

/* The next hops of an Ethernet DEV: r is kept, NULL takes it away. A caller
 * that takes it away waits for calls that are under way. */
int sk_fsw_set_resolver(struct fsw *fsw, const struct flow_resolver *r);
/* Answers of the resolver may have changed. Any thread, under any lock but
 * those that pt_output of HOST is called without. */
void sk_fsw_route_event(struct fsw *fsw);
/* The interface's own addresses, sixteen bytes each (IPv4 mapped): packets for
 * them do not go to the wire. Replaces those of before; at most 64. */
int sk_fsw_set_addrs(struct fsw *fsw, const unsigned char *addrs, size_t n);
/* Wakes who drives HOST when something waits in memory and HOST's descriptor is
 * DEV's, which does not show it: fn(arg) only pokes, and is called by any thread
 * under our locks. */
void sk_fsw_set_wake(struct fsw *fsw, void (*fn)(void *arg), void *arg);

/* ---- for tools ---- */

struct sk_fsw_info {
	char name[32];
	int link; /* of DEV: 0 ethernet, 1 raw ip */
	uint32_t mtu, clients, backlog, routes, fragments;
	int alive; /* HOST is open */
};
void sk_fsw_info(struct fsw *fsw, struct sk_fsw_info *out);

/* Counters in the order of their names; index out of range: NULL. */
const char *sk_fsw_stat_name(size_t index);
size_t sk_fsw_stats(struct fsw *fsw, uint64_t *out, size_t n);

struct sk_flow_info {
	unsigned char laddr[16], faddr[16];
	uint16_t lport, fport;
	uint8_t proto;
	uint8_t kind;  /* SK_OWNER_* */
	uint8_t state; /* 0 reserved, 1 attached, 2 lingering */
	uint8_t tcp; /* 0 nothing seen, 1 opening, 2 open, 3 closing, 4 closed */
	uint32_t flowid, suspended;
	int pid;
	uint64_t rxpkts, rxbytes, txpkts, txbytes;
};
/* Fills at most n; answers how many there are. */
size_t sk_netns_flows(struct netns *ns, struct sk_flow_info *out, size_t n);

#endif
