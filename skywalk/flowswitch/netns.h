/*
 * netns.h - who owns which ports and flows, for all flowswitches of a process.
 *
 * ns_lock is a leaf: under it nothing is called but ring_bell() and the wake
 * function of a HOST. Locks are taken in this order: a stack's, a
 * flowswitch's, the netns's.
 */
#ifndef SKYWALK_FLOWSWITCH_NETNS_H
#define SKYWALK_FLOWSWITCH_NETNS_H

#include <pthread.h>
#include <sys/queue.h>

#include "skywalk/api_fsw.h"
#include "skywalk/flowswitch/flow_key.h"

#define NETNS_FSWS 16 /* flowswitches that share a netns */
#define NETNS_NONE 0xffu

struct fsw_end;
struct hdr;

enum track_state {
	TRACK_NONE,    /* nothing seen */
	TRACK_OPENING, /* SYN seen */
	TRACK_OPEN,    /* data may flow */
	TRACK_CLOSING, /* a FIN seen */
	TRACK_CLOSED,  /* both FINs acknowledged */
	TRACK_RESET,   /* a RST seen: nothing is left */
};

/* TCP as an onlooker sees it: enough for a RST that the peer believes. */
struct track {
	uint32_t tk_txend, tk_rxend; /* highest sequence number sent, got */
	uint32_t tk_txack, tk_rxack; /* what we acknowledged, and the peer */
	uint8_t tk_state;	     /* enum track_state */
	bool tk_tx, tk_rx;	     /* tk_txend, tk_rxend are set */
	bool tk_txacked, tk_rxacked; /* tk_txack, tk_rxack are set */
	bool tk_txfin, tk_rxfin;
};

enum flow_state {
	FLOW_RESERVED, /* a port: no id */
	FLOW_ATTACHED,
	FLOW_LINGER, /* its owner has gone; answers with RST */
};

struct flow {
	struct flow *fl_next;	     /* of the same hash */
	LIST_ENTRY(flow) fl_olink;   /* of its owner, or of those that linger */
	STAILQ_ENTRY(flow) fl_alink; /* wants a RST sent */
	struct netns_owner *fl_owner; /* NULL: lingers */
	struct netns_port *fl_port;   /* what it stands on */
	struct flow_key fl_key;
	uint32_t fl_hash, fl_id;
	uint8_t fl_mask, fl_state; /* enum flow_mask, flow_state */
	uint8_t fl_fsw;		   /* where it was seen last, or NETNS_NONE */
	bool fl_hashed, fl_aborting, fl_hasmac;
	uint8_t fl_mac[6];  /* who sent the last frame */
	uint64_t fl_expire; /* 0: from the next tick on */
	struct track fl_track;
	uint64_t fl_rxpkts, fl_rxbytes, fl_txpkts, fl_txbytes;
};

/* A local port of an owner; fl_key of np_flow names it. */
struct netns_port {
	LIST_ENTRY(netns_port) np_link; /* bucket of ns_ports */
	LIST_ENTRY(netns_port) np_olink;
	struct netns_owner *np_owner; /* NULL: held for flows that linger */
	unsigned np_flags;	      /* FLOW_* */
	uint32_t np_refs;	      /* times reserved */
	uint32_t np_flows;	      /* attached to it, or lingering */
	struct flow np_flow;
};

LIST_HEAD(flow_list, flow);
LIST_HEAD(port_list, netns_port);

/* Ports given up a moment ago: what was queued before may still leave. */
#define NETNS_RECENT 256
struct netns_recent {
	uint16_t nr_port;
	uint8_t nr_proto;
	uint64_t nr_until;
};

struct netns_owner {
	LIST_ENTRY(netns_owner) no_link;
	struct netns *no_ns;
	int no_kind, no_pid;
	uint32_t no_refs; /* the handle and open ports */
	struct flow_list no_flows;
	struct port_list no_ports;
	struct fsw_end *no_end[NETNS_FSWS];
	struct netns_recent no_recent[NETNS_RECENT];
};

struct flow_table {
	struct flow **tb_bucket;
	uint32_t tb_mask, tb_count;
};

#define NETNS_PORTHASH 4096

struct netns {
	pthread_mutex_t ns_lock;
	uint32_t ns_refs;
	uint64_t ns_seed[2];
	uint64_t ns_now; /* the latest time that anybody brought */
	uint64_t ns_linger;
	struct flow_table ns_table[FLOW_NMASKS];
	/* Entries by local port: most packets that are HOST's are known by it. */
	uint32_t ns_entriesof[NETNS_PORTHASH];
	struct port_list ns_ports[NETNS_PORTHASH];
	LIST_HEAD(, netns_owner) ns_owners;
	struct flow_list ns_lingering;
	uint64_t ns_expire; /* no lingering flow expires before */
	STAILQ_HEAD(, flow) ns_aborts;
	atomic_uint ns_naborts;
	atomic_bool ns_due;	/* somebody has begun to linger: tick */
	atomic_uint ns_entries; /* in all tables: 0, everything is HOST's */
	struct fsw *ns_fsw[NETNS_FSWS];
	/* Ids: fl_id & ns_advtab.ft_mask is the slot, the rest a generation. */
	struct flow **ns_slot;
	uint32_t *ns_gen;
	uint32_t *ns_free; /* stack of slots given back */
	uint32_t ns_nfree, ns_fresh;
	struct flow_advtab ns_advtab;
};

/* All under ns_lock. */

/* Who owns packets of k: the narrowest entry, or NULL: HOST. */
struct flow *flow_lookup(struct netns *ns, const struct flow_key *k);
static inline uint32_t
netns_porthash(uint8_t proto, uint16_t port)
{
	return (port ^ (uint32_t)proto << 5) % NETNS_PORTHASH;
}

static inline void
netns_time(struct netns *ns, uint64_t now)
{
	if (now > ns->ns_now) {
		ns->ns_now = now;
	}
}

/* The entry with exactly this key and mask. */
struct flow *flow_find(struct netns *ns, const struct flow_key *k,
    enum flow_mask mask);
struct flow *flow_byid(struct netns *ns, uint32_t id);
int flow_insert(struct netns *ns, struct flow *fl, enum flow_mask mask);
void flow_remove(struct netns *ns, struct flow *fl);
int flow_id_new(struct netns *ns, struct flow *fl);
void flow_id_free(struct netns *ns, struct flow *fl);

/* Forget fl, and the port that it was the last to stand on. */
void flow_free(struct netns *ns, struct flow *fl);
void netns_wake_hosts(struct netns *ns);
/* Whether no has k's local side reserved. */
bool netns_owns(struct netns_owner *no, const struct flow_key *k);
/* Call fn for every client that has k's local port, at any address or k's. */
void netns_each(struct netns *ns, const struct flow_key *k,
    void (*fn)(void *arg, struct netns_owner *no), void *arg);
/* Whether no may send from k's local port although nothing of his is found for
 * it: he gave it up within the last second. */
bool netns_was_owned(const struct netns_owner *no, const struct flow_key *k);
/* Note the time; let what has lingered long enough go. Answers when the next
 * does, or UINT64_MAX. */
uint64_t netns_tick(struct netns *ns, uint64_t now);
/* Every flow and port of an owner that has gone. */
void netns_owner_abort(struct netns_owner *no);
/* The flowswitch at index is closing: its RSTs will not be sent. */
void netns_forget(struct netns *ns, uint8_t index);
/* Drop a reference on the owner; frees it with the last. */
void netns_owner_unref(struct netns_owner *no);

/* Takes ns_lock. */
void netns_unref(struct netns *ns);
void netns_hold(struct netns *ns);

/* TCP seen from outside; sent: by our side. */
void track_segment(struct track *tk, const struct hdr *h, bool sent);
/* Whether the peer still believes in the connection. */
bool track_alive(const struct track *tk);

#endif
