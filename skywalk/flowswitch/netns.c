/*
 * netns.c - one space of ports for all stacks of a process.
 *
 * The rules between owners are those of XNU's netns: the BSD stack (HOST) and
 * user-space stacks (CLIENT) exclude each other, and clients exclude clients
 * unless both said FLOW_REUSEPORT. What one owner does among its own sockets is
 * his affair: reservations of equal key are counted.
 *
 * A flow whose owner has gone without closing (FLOW_ABORT) is kept for 2 MSL:
 * its peer is sent a RST, whatever else comes from there is answered with one,
 * and its port stays taken, so that no new connection is mistaken for it. Only
 * a listener with FLOW_REUSEPORT may have the port meanwhile: old flows are
 * found before it.
 *
 * Reservations of clients are entries of the flow table (3- and 2-tuples), like
 * their flows; those of HOST are not, for what is not found is HOST's anyway.
 */
#include "skywalk/flowswitch/netns.h"

#include <errno.h>
#include <stdlib.h>

#include "skywalk/flowswitch/fsw.h"

#define NETNS_GRACE 1000000000u

static struct port_list *
port_bucket(struct netns *ns, uint8_t proto, uint16_t port)
{
	return &ns->ns_ports[netns_porthash(proto, port)];
}

static bool
port_overlaps(const struct flow_key *a, const struct flow_key *b)
{
	return a->fk_proto == b->fk_proto && a->fk_lport == b->fk_lport &&
	    (addr_covers(a->fk_laddr, b->fk_laddr) ||
		addr_covers(b->fk_laddr, a->fk_laddr));
}

/* Whether no may have its port beside np, which overlaps. */
static bool
port_shares(const struct netns_port *np, const struct netns_owner *no,
    unsigned flags)
{
	if (np->np_owner == no) {
		return true;
	}
	if (np->np_owner == NULL) {
		return (flags & FLOW_REUSEPORT) && (flags & FLOW_LISTENER);
	}
	return np->np_owner->no_kind == SK_OWNER_CLIENT &&
	    no->no_kind == SK_OWNER_CLIENT &&
	    (np->np_flags & flags & FLOW_REUSEPORT) != 0 &&
	    ((np->np_flags | flags) & FLOW_EXCLUSIVE) == 0;
}

static struct netns_port *
port_new(struct netns_owner *no, const struct flow_key *k)
{
	struct netns *ns = no->no_ns;
	struct netns_port *np = calloc(1, sizeof(*np));
	struct flow *fl;

	if (np == NULL) {
		return NULL;
	}
	fl = &np->np_flow;
	fl->fl_key = *k;
	memset(fl->fl_key.fk_faddr, 0, 16);
	fl->fl_key.fk_fport = 0;
	fl->fl_owner = np->np_owner = no;
	fl->fl_port = np;
	fl->fl_fsw = NETNS_NONE;
	LIST_INSERT_HEAD(port_bucket(ns, k->fk_proto, k->fk_lport), np, np_link);
	LIST_INSERT_HEAD(&no->no_ports, np, np_olink);
	return np;
}

/* Let packets find a client's port. */
static int
port_show(struct netns_port *np)
{
	struct netns_owner *no = np->np_owner;
	struct flow *fl = &np->np_flow;

	if (fl->fl_hashed || no->no_kind != SK_OWNER_CLIENT) {
		return 0;
	}
	return flow_insert(no->no_ns, fl,
	    addr_any(fl->fl_key.fk_laddr) ? FLOW_2TUPLE : FLOW_3TUPLE);
}

/* Not reserved any more, but flows may stand on it: then it stays taken, and
 * its owner's as long as he lives. */
static void
port_drop(struct netns *ns, struct netns_port *np)
{
	if (np->np_refs > 0) {
		return;
	}
	flow_remove(ns, &np->np_flow);
	if (np->np_flows > 0) {
		return;
	}
	if (np->np_owner != NULL) {
		LIST_REMOVE(np, np_olink);
	}
	LIST_REMOVE(np, np_link);
	free(np);
}

/* The reservation of no that covers k's local side. */
static struct netns_port *
port_covering(struct netns_owner *no, const struct flow_key *k)
{
	struct netns *ns = no->no_ns;
	struct netns_port *np, *any = NULL;

	LIST_FOREACH (np, port_bucket(ns, k->fk_proto, k->fk_lport), np_link) {
		const struct flow_key *pk = &np->np_flow.fl_key;

		if (np->np_owner != no || pk->fk_proto != k->fk_proto ||
		    pk->fk_lport != k->fk_lport) {
			continue;
		}
		if (addr_eq(pk->fk_laddr, k->fk_laddr)) {
			return np;
		}
		if (addr_covers(pk->fk_laddr, k->fk_laddr)) {
			any = np;
		}
	}
	return any;
}

static int
netns_reserve(void *arg, const struct flow_key *k, unsigned flags)
{
	struct netns_owner *no = arg;
	struct netns *ns = no->no_ns;
	struct netns_port *np, *own = NULL;
	int error = 0;

	if (k->fk_lport == 0) {
		return EINVAL;
	}
	pthread_mutex_lock(&ns->ns_lock);
	LIST_FOREACH (np, port_bucket(ns, k->fk_proto, k->fk_lport), np_link) {
		if (!port_overlaps(&np->np_flow.fl_key, k)) {
			continue;
		}
		if (!port_shares(np, no, flags)) {
			error = EADDRINUSE;
			break;
		}
		if (np->np_owner == no &&
		    addr_eq(np->np_flow.fl_key.fk_laddr, k->fk_laddr)) {
			own = np;
		}
	}
	if (error == 0 && own == NULL) {
		own = port_new(no, k);
		error = own == NULL ? ENOMEM : 0;
	}
	if (error == 0) {
		error = port_show(own);
	}
	if (error == 0) {
		own->np_refs++;
		own->np_flags = flags;
	} else if (own != NULL) {
		port_drop(ns, own);
	}
	pthread_mutex_unlock(&ns->ns_lock);
	return error;
}

bool
netns_owns(struct netns_owner *no, const struct flow_key *k)
{
	return port_covering(no, k) != NULL;
}

void
netns_each(struct netns *ns, const struct flow_key *k,
    void (*fn)(void *arg, struct netns_owner *no), void *arg)
{
	struct netns_port *np;

	LIST_FOREACH (np, port_bucket(ns, k->fk_proto, k->fk_lport), np_link) {
		if (np->np_flow.fl_hashed &&
		    np->np_flow.fl_key.fk_proto == k->fk_proto &&
		    np->np_flow.fl_key.fk_lport == k->fk_lport &&
		    addr_covers(np->np_flow.fl_key.fk_laddr, k->fk_laddr)) {
			fn(arg, np->np_owner);
		}
	}
}

static void
recent_note(struct netns_owner *no, const struct flow_key *k)
{
	struct netns_recent *nr =
	    &no->no_recent[(k->fk_lport ^ k->fk_proto) % NETNS_RECENT];

	nr->nr_port = k->fk_lport;
	nr->nr_proto = k->fk_proto;
	nr->nr_until = no->no_ns->ns_now + NETNS_GRACE;
}

bool
netns_was_owned(const struct netns_owner *no, const struct flow_key *k)
{
	const struct netns_recent *nr =
	    &no->no_recent[(k->fk_lport ^ k->fk_proto) % NETNS_RECENT];

	return nr->nr_port == k->fk_lport && nr->nr_proto == k->fk_proto &&
	    no->no_ns->ns_now <= nr->nr_until;
}

static void
netns_release(void *arg, const struct flow_key *k)
{
	struct netns_owner *no = arg;
	struct netns *ns = no->no_ns;
	struct netns_port *np;

	pthread_mutex_lock(&ns->ns_lock);
	np = port_covering(no, k);
	if (np != NULL && np->np_refs > 0 &&
	    addr_eq(np->np_flow.fl_key.fk_laddr, k->fk_laddr)) {
		np->np_refs--;
		recent_note(no, k);
		port_drop(ns, np);
	}
	pthread_mutex_unlock(&ns->ns_lock);
}

static void
flow_unabort(struct netns *ns, struct flow *fl)
{
	if (fl->fl_aborting) {
		STAILQ_REMOVE(&ns->ns_aborts, fl, flow, fl_alink);
		fl->fl_aborting = false;
		atomic_fetch_sub_explicit(&ns->ns_naborts, 1,
		    memory_order_relaxed);
	}
}

void
netns_forget(struct netns *ns, uint8_t index)
{
	struct flow *fl, *next;

	ns->ns_fsw[index] = NULL;
	for (fl = STAILQ_FIRST(&ns->ns_aborts); fl != NULL; fl = next) {
		next = STAILQ_NEXT(fl, fl_alink);
		if (fl->fl_fsw == index) {
			flow_unabort(ns, fl);
		}
	}
}

void
flow_free(struct netns *ns, struct flow *fl)
{
	struct netns_port *np = fl->fl_port;

	flow_remove(ns, fl);
	flow_id_free(ns, fl);
	LIST_REMOVE(fl, fl_olink);
	flow_unabort(ns, fl);
	free(fl);
	if (np != NULL) {
		np->np_flows--;
		port_drop(ns, np);
	}
}

/* What a flow is looked up by. */
static enum flow_mask
attach_mask(const struct flow_key *k)
{
	return addr_any(k->fk_faddr) ? FLOW_4TUPLE : FLOW_5TUPLE;
}

static int
attach(struct netns_owner *no, const struct flow_key *k, struct flow *fl)
{
	struct netns *ns = no->no_ns;
	struct netns_port *np = port_covering(no, k);
	int error;

	if (no->no_kind == SK_OWNER_CLIENT) {
		if (np == NULL) {
			return EADDRNOTAVAIL;
		}
		if (flow_find(ns, k, attach_mask(k)) != NULL) {
			return EADDRINUSE;
		}
	}
	fl->fl_key = *k;
	fl->fl_owner = no;
	fl->fl_state = FLOW_ATTACHED;
	fl->fl_fsw = NETNS_NONE;
	error = flow_id_new(ns, fl);
	if (error == 0 && no->no_kind == SK_OWNER_CLIENT) {
		error = flow_insert(ns, fl, attach_mask(k));
		if (error != 0) {
			flow_id_free(ns, fl);
		}
	}
	if (error == 0) {
		fl->fl_port = np;
		if (np != NULL) {
			np->np_flows++;
		}
		LIST_INSERT_HEAD(&no->no_flows, fl, fl_olink);
	}
	return error;
}

static int
netns_attach(void *arg, const struct flow_key *k, unsigned flags,
    uint32_t *flowid)
{
	struct netns_owner *no = arg;
	struct netns *ns = no->no_ns;
	struct flow *fl;
	int error;

	(void)flags;
	*flowid = 0;
	if (k->fk_lport == 0 || k->fk_fport == 0) {
		return EINVAL;
	}
	fl = calloc(1, sizeof(*fl));
	if (fl == NULL) {
		return ENOMEM;
	}
	pthread_mutex_lock(&ns->ns_lock);
	error = attach(no, k, fl);
	*flowid = fl->fl_id;
	pthread_mutex_unlock(&ns->ns_lock);
	if (error != 0) {
		free(fl);
	}
	return error;
}

/* The owner has gone and the peer does not know. */
static void
flow_linger(struct netns *ns, struct flow *fl)
{
	LIST_REMOVE(fl, fl_olink);
	LIST_INSERT_HEAD(&ns->ns_lingering, fl, fl_olink);
	fl->fl_owner = NULL;
	fl->fl_state = FLOW_LINGER;
	fl->fl_expire = 0;
	ns->ns_expire = 0;
	atomic_store_explicit(&ns->ns_due, true, memory_order_release);
	if (track_alive(&fl->fl_track) && fl->fl_fsw != NETNS_NONE &&
	    ns->ns_fsw[fl->fl_fsw] != NULL) {
		fl->fl_aborting = true;
		STAILQ_INSERT_TAIL(&ns->ns_aborts, fl, fl_alink);
		atomic_fetch_add_explicit(&ns->ns_naborts, 1,
		    memory_order_relaxed);
	}
}

static void
flow_detach(struct netns *ns, struct flow *fl, unsigned flags)
{
	const struct track *tk = &fl->fl_track;

	if ((flags & FLOW_ABORT) && fl->fl_hashed &&
	    fl->fl_key.fk_proto == FLOW_IPPROTO_TCP &&
	    (track_alive(tk) || tk->tk_state == TRACK_CLOSED)) {
		flow_linger(ns, fl);
	} else {
		flow_free(ns, fl);
	}
}

/* RSTs are sent by who drives the HOST ports. */
void
netns_wake_hosts(struct netns *ns)
{
	for (int i = 0; i < NETNS_FSWS; i++) {
		if (ns->ns_fsw[i] != NULL) {
			fsw_wake_host(ns->ns_fsw[i]);
		}
	}
}

static void
netns_detach(void *arg, uint32_t flowid, unsigned flags)
{
	struct netns_owner *no = arg;
	struct netns *ns = no->no_ns;
	struct flow *fl;

	pthread_mutex_lock(&ns->ns_lock);
	fl = flow_byid(ns, flowid);
	if (fl != NULL && fl->fl_owner == no) {
		recent_note(no, &fl->fl_key);
		flow_detach(ns, fl, flags);
		if (ns->ns_expire == 0) {
			netns_wake_hosts(ns);
		}
	}
	pthread_mutex_unlock(&ns->ns_lock);
}

void
netns_owner_abort(struct netns_owner *no)
{
	struct netns *ns = no->no_ns;
	struct netns_port *np;

	while (!LIST_EMPTY(&no->no_flows)) {
		flow_detach(ns, LIST_FIRST(&no->no_flows), FLOW_ABORT);
	}
	while ((np = LIST_FIRST(&no->no_ports)) != NULL) {
		LIST_REMOVE(np, np_olink);
		np->np_owner = np->np_flow.fl_owner = NULL;
		np->np_refs = 0;
		port_drop(ns, np);
	}
	if (ns->ns_expire == 0) {
		netns_wake_hosts(ns);
	}
}

uint64_t
netns_tick(struct netns *ns, uint64_t now)
{
	uint64_t next = UINT64_MAX;
	struct flow *fl, *after;

	netns_time(ns, now);
	if (ns->ns_now < ns->ns_expire) {
		return ns->ns_expire;
	}
	atomic_store_explicit(&ns->ns_due, false, memory_order_relaxed);
	for (fl = LIST_FIRST(&ns->ns_lingering); fl != NULL; fl = after) {
		after = LIST_NEXT(fl, fl_olink);
		if (fl->fl_expire == 0) {
			fl->fl_expire = ns->ns_now + ns->ns_linger;
		}
		if (fl->fl_expire <= ns->ns_now && !fl->fl_aborting) {
			flow_free(ns, fl);
		} else if (fl->fl_expire < next) {
			next = fl->fl_expire;
		}
	}
	ns->ns_expire = next;
	return next;
}

static const struct netns_ops netns_owner_ops = {
	.no_reserve = netns_reserve,
	.no_release = netns_release,
	.no_attach = netns_attach,
	.no_detach = netns_detach,
};

const struct netns_ops *
sk_netns_ops(void)
{
	return &netns_owner_ops;
}

static struct flow_key
local_key(int proto, const unsigned char *laddr, uint16_t port)
{
	struct flow_key k;

	memset(&k, 0, sizeof(k));
	memcpy(k.fk_laddr, laddr, 16);
	k.fk_lport = port;
	k.fk_proto = (uint8_t)proto;
	return k;
}

int
sk_netns_reserve(struct netns_owner *no, int proto, const unsigned char *laddr,
    uint16_t port, unsigned int flags)
{
	struct flow_key k = local_key(proto, laddr, port);

	return -netns_reserve(no, &k, flags);
}

void
sk_netns_release(struct netns_owner *no, int proto, const unsigned char *laddr,
    uint16_t port)
{
	struct flow_key k = local_key(proto, laddr, port);

	netns_release(no, &k);
}
