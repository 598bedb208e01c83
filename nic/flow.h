/*
 * flow.h - what the stacks of a process and the flowswitch between them have
 * to agree on: the name of a flow, who owns a local port, back-pressure by flow,
 * and the next hop.
 *
 * Whoever plugs them together hands these tables to each; none of them knows
 * the others. No function here takes a lock of its caller's package, so a
 * stack may call netns_ops under its own lock. flow_resolver takes the lock of
 * the stack that implements it: call it with no lock held.
 */
#ifndef NIC_FLOW_H
#define NIC_FLOW_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Addresses are sixteen bytes, IPv4 mapped (::ffff:a.b.c.d); all zero, or
 * ::ffff:0.0.0.0, is any. Ports are in host order, 0 is any. */
struct flow_key {
	uint8_t fk_laddr[16], fk_faddr[16]; /* local and foreign side */
	uint16_t fk_lport, fk_fport;
	uint8_t fk_proto; /* IPPROTO_* */
};

/* flags of no_reserve and no_attach */
#define FLOW_EXCLUSIVE 0x1 /* nobody may share the port */
#define FLOW_LISTENER 0x2
#define FLOW_REUSEPORT 0x4
/* flags of no_detach */
#define FLOW_ABORT 0x8 /* the owner went without closing */

/* One for each owner of ports: a stack. arg is that owner's. Calls answer 0 or
 * an errno. */
struct netns_ops {
	/* A local port (foreign side any) for every address or one: EADDRINUSE. */
	int (*no_reserve)(void *arg, const struct flow_key *k, unsigned flags);
	void (*no_release)(void *arg, const struct flow_key *k);
	/* A connected flow on a port reserved before. *flowid (never 0) goes into
	 * p_flowid of its packets and names its advisory. */
	int (*no_attach)(void *arg, const struct flow_key *k, unsigned flags,
	    uint32_t *flowid);
	void (*no_detach)(void *arg, uint32_t flowid, unsigned flags);
};

/* Back-pressure, one entry for each flow (XNU __flowadv_entry). Written by queues
 * on the way down, read by whoever sends. */
#define FLOWADV_VALID 0x1
#define FLOWADV_SUSPENDED 0x2 /* send nothing until it is cleared */
struct flow_adv {
	atomic_uint fa_flags;
	atomic_uint fa_flowid;
	atomic_uint fa_ce; /* congestion marks that never went on the wire */
};

/* Entry of a flow: flowid & ft_mask, and fa_flowid must equal the flowid. */
struct flow_advtab {
	uint32_t ft_mask;
	atomic_uint ft_gen; /* grows when any flow is resumed */
	struct flow_adv *ft_entry;
	void (*ft_notify)(void *arg); /* a flow was resumed; any thread */
	void *ft_arg;
};

static inline struct flow_adv *
flow_advisory(const struct flow_advtab *t, uint32_t flowid)
{
	struct flow_adv *fa;

	if (t == NULL || flowid == 0) {
		return NULL;
	}
	fa = &t->ft_entry[flowid & t->ft_mask];
	return atomic_load_explicit(&fa->fa_flowid, memory_order_acquire) ==
		flowid ?
	    fa :
	    NULL;
}

static inline bool
flow_suspended(const struct flow_advtab *t, uint32_t flowid)
{
	const struct flow_adv *fa = flow_advisory(t, flowid);

	return fa != NULL &&
	    (atomic_load_explicit(&fa->fa_flags, memory_order_acquire) &
		FLOWADV_SUSPENDED) != 0;
}

/* The next hop of an interface, from its stack's routes and ARP table. */
struct flow_resolver {
	/* 0: *mac; EINPROGRESS: asked for, call again when told; or an error
	 * that says why there is no way (EHOSTUNREACH, ENETUNREACH). */
	int (*fr_resolve)(void *arg, const uint8_t dst[16], uint8_t mac[6]);
	void *fr_arg;
};

#endif
