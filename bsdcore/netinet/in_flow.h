/*
 * in_flow.h - the stack's half of nic/flow.h: ports taken in a namespace shared
 * with other stacks, flows that may be held back, next hops for others.
 */
#ifndef BSDCORE_NETINET_IN_FLOW_H
#define BSDCORE_NETINET_IN_FLOW_H

#include "bsdcore/netinet/in_pcb.h"
#include "nic/flow.h"

#define IN_NRESERVED 2048u /* chains of fl_reserved */

/* A local port held in the namespace, once however many use it here. */
struct portres {
	LIST_ENTRY(portres) pr_link;
	union inaddr pr_laddr;
	uint16_t pr_port;
	uint8_t pr_proto;
	unsigned pr_flags; /* FLOW_* as reserved */
	uint32_t pr_refs;
};

/* A struct flow_resolver handed out, and for which interface. */
struct flow_hop {
	LIST_ENTRY(flow_hop) fh_link;
	struct flow_resolver fh_resolver;
	struct stack *fh_stack;
	uint32_t fh_ifindex;
};

struct flow_state {
	const struct netns_ops *fl_ops; /* NULL: the ports are all ours */
	void *fl_arg;
	const struct flow_advtab *fl_tab; /* NULL: nothing is ever held back */
	unsigned fl_gen;		  /* of fl_tab, when last looked at */
	struct inpcbhead fl_waiting; /* suspended, with something to send */
	struct callout fl_callout;   /* look again, should nobody tell us */
	LIST_HEAD(, portres) fl_reserved[IN_NRESERVED];
	LIST_HEAD(, flow_hop) fl_hops;
	void (*fl_event)(void *); /* a next hop may have changed */
	void *fl_eventarg;
	uint64_t fl_suspends, fl_resumes, fl_portinuse, fl_noflow;
};

struct flow_state *in_flowstate(struct stack *s); /* made if need be; NULL */
void in_flowfini(struct stack *s);
int in_flowsetns(struct stack *s, const struct netns_ops *ops, void *arg,
    const struct flow_advtab *tab); /* EBUSY: ports are in use */

/* Hold a local port; one that is held here already, for this address or for
 * any, is shared. *out NULL: there is no namespace. EADDRINUSE. */
int in_portreserve(struct inpcbinfo *ipi, const union inaddr *laddr,
    uint16_t port, unsigned flags, struct portres **out);
void in_portref(struct portres *pr);
void in_portrelease(struct stack *s, struct portres *pr);
/* The holder begins to listen. EADDRINUSE. */
int in_portlisten(struct stack *s, struct portres *pr);

/* inp has both ends: into the flow table, *flowid is its name. */
int in_flowattach(struct inpcb *inp, uint32_t *flowid);
void in_flowdetach(struct inpcb *inp);

/* Has the way out asked inp to send nothing? */
static inline bool
in_flowsuspended(const struct inpcb *inp)
{
	const struct flow_state *fl = inp->inp_info->ipi_stack->s_flow;

	return fl != NULL && flow_suspended(fl->fl_tab, inp->inp_flowid);
}

/* Call back when it may: tcp_output(), or POLLOUT for others. */
void in_flowwait(struct inpcb *inp);
void in_flowforget(struct inpcb *inp);

/* Every round: have flows been resumed? */
void in_flowrun(struct stack *s);

int in_flowresolver(struct stack *s, uint32_t ifindex,
    const struct flow_resolver **out);
/* Routes, addresses or neighbours have changed. */
void in_flowevent(struct stack *s);

#endif
