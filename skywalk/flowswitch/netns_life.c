/*
 * netns_life.c - how a namespace and its owners come and go, and who is told
 * that a flow was resumed.
 */
#include <errno.h>
#include <stdlib.h>

#include "skywalk/flowswitch/fsw.h"

#define NETNS_FLOWS (1u << 18)
#define NETNS_LINGER 30000000000u /* 2 * MSL, MSL 15 s as in XNU */

struct flow_advtab *
sk_netns_advtab(struct netns *ns)
{
	return &ns->ns_advtab;
}

/* A flow was resumed: everybody looks. Called from below, any thread. */
static void
netns_notify(void *arg)
{
	struct netns *ns = arg;
	struct netns_owner *no;

	pthread_mutex_lock(&ns->ns_lock);
	LIST_FOREACH (no, &ns->ns_owners, no_link) {
		for (int i = 0; i < NETNS_FSWS; i++) {
			if (no->no_end[i] != NULL) {
				end_event(no->no_end[i]);
				break; /* one doorbell wakes the whole owner */
			}
		}
	}
	netns_wake_hosts(ns);
	pthread_mutex_unlock(&ns->ns_lock);
}

static void
netns_destroy(struct netns *ns)
{
	for (int i = 0; i < FLOW_NMASKS; i++) {
		free(ns->ns_table[i].tb_bucket);
	}
	free(ns->ns_slot);
	free(ns->ns_gen);
	free(ns->ns_free);
	free(ns->ns_advtab.ft_entry);
	pthread_mutex_destroy(&ns->ns_lock);
	free(ns);
}

void
netns_hold(struct netns *ns)
{
	pthread_mutex_lock(&ns->ns_lock);
	ns->ns_refs++;
	pthread_mutex_unlock(&ns->ns_lock);
}

void
netns_unref(struct netns *ns)
{
	uint32_t left;

	pthread_mutex_lock(&ns->ns_lock);
	left = --ns->ns_refs;
	if (left == 0) {
		while (!LIST_EMPTY(&ns->ns_lingering)) {
			flow_free(ns, LIST_FIRST(&ns->ns_lingering));
		}
	}
	pthread_mutex_unlock(&ns->ns_lock);
	if (left == 0) {
		netns_destroy(ns);
	}
}

int
sk_netns_new(const struct sk_netns_cfg *cfg, struct netns **out)
{
	uint32_t want = cfg->max_flows != 0 ? cfg->max_flows : NETNS_FLOWS;
	uint32_t n = 16;
	struct netns *ns;

	if (want > 1u << 24) {
		return -EINVAL;
	}
	ns = calloc(1, sizeof(*ns));
	if (ns == NULL) {
		return -ENOMEM;
	}
	while (n < want) {
		n *= 2;
	}
	pthread_mutex_init(&ns->ns_lock, NULL);
	ns->ns_refs = 1;
	ns->ns_seed[0] = cfg->seed[0];
	ns->ns_seed[1] = cfg->seed[1];
	ns->ns_linger = cfg->linger_ns != 0 ? cfg->linger_ns : NETNS_LINGER;
	ns->ns_expire = UINT64_MAX;
	STAILQ_INIT(&ns->ns_aborts);
	ns->ns_slot = calloc(n, sizeof(struct flow *));
	ns->ns_gen = calloc(n, sizeof(uint32_t));
	ns->ns_free = calloc(n, sizeof(uint32_t));
	ns->ns_advtab.ft_entry = calloc(n, sizeof(struct flow_adv));
	ns->ns_advtab.ft_mask = n - 1;
	ns->ns_advtab.ft_notify = netns_notify;
	ns->ns_advtab.ft_arg = ns;
	if (ns->ns_slot == NULL || ns->ns_gen == NULL || ns->ns_free == NULL ||
	    ns->ns_advtab.ft_entry == NULL) {
		netns_destroy(ns);
		return -ENOMEM;
	}
	*out = ns;
	return 0;
}

void
sk_netns_free(struct netns *ns)
{
	if (ns != NULL) {
		netns_unref(ns);
	}
}

int
sk_netns_owner(struct netns *ns, int kind, int pid, struct netns_owner **out)
{
	struct netns_owner *no;

	if (kind != SK_OWNER_HOST && kind != SK_OWNER_CLIENT) {
		return -EINVAL;
	}
	no = calloc(1, sizeof(*no));
	if (no == NULL) {
		return -ENOMEM;
	}
	no->no_ns = ns;
	no->no_kind = kind;
	no->no_pid = pid;
	no->no_refs = 1;
	LIST_INIT(&no->no_flows);
	LIST_INIT(&no->no_ports);
	pthread_mutex_lock(&ns->ns_lock);
	LIST_INSERT_HEAD(&ns->ns_owners, no, no_link);
	ns->ns_refs++;
	pthread_mutex_unlock(&ns->ns_lock);
	*out = no;
	return 0;
}

void
netns_owner_unref(struct netns_owner *no)
{
	if (--no->no_refs == 0) {
		LIST_REMOVE(no, no_link);
		free(no);
	}
}

void
sk_netns_owner_free(struct netns_owner *no)
{
	struct netns *ns;

	if (no == NULL) {
		return;
	}
	ns = no->no_ns;
	pthread_mutex_lock(&ns->ns_lock);
	netns_owner_abort(no);
	netns_owner_unref(no);
	pthread_mutex_unlock(&ns->ns_lock);
	netns_unref(ns);
}

void
sk_netns_owner_abort(struct netns_owner *no)
{
	pthread_mutex_lock(&no->no_ns->ns_lock);
	netns_owner_abort(no);
	pthread_mutex_unlock(&no->no_ns->ns_lock);
}

static void
flow_describe(struct netns *ns, const struct flow *fl, int kind, int pid,
    struct sk_flow_info *out)
{
	memset(out, 0, sizeof(*out));
	memcpy(out->laddr, fl->fl_key.fk_laddr, 16);
	memcpy(out->faddr, fl->fl_key.fk_faddr, 16);
	out->lport = fl->fl_key.fk_lport;
	out->fport = fl->fl_key.fk_fport;
	out->proto = fl->fl_key.fk_proto;
	out->kind = (uint8_t)kind;
	out->state = fl->fl_state;
	out->tcp = fl->fl_track.tk_state < TRACK_CLOSED ? fl->fl_track.tk_state :
							  TRACK_CLOSED;
	out->flowid = fl->fl_id;
	out->suspended = flow_suspended(&ns->ns_advtab, fl->fl_id);
	out->pid = pid;
	out->rxpkts = fl->fl_rxpkts;
	out->rxbytes = fl->fl_rxbytes;
	out->txpkts = fl->fl_txpkts;
	out->txbytes = fl->fl_txbytes;
}

size_t
sk_netns_flows(struct netns *ns, struct sk_flow_info *out, size_t n)
{
	struct netns_owner *no;
	struct netns_port *np;
	struct flow *fl;
	size_t k = 0;

	pthread_mutex_lock(&ns->ns_lock);
	LIST_FOREACH (no, &ns->ns_owners, no_link) {
		LIST_FOREACH (np, &no->no_ports, np_olink) {
			if (k++ < n) {
				flow_describe(ns, &np->np_flow, no->no_kind,
				    no->no_pid, &out[k - 1]);
			}
		}
		LIST_FOREACH (fl, &no->no_flows, fl_olink) {
			if (k++ < n) {
				flow_describe(ns, fl, no->no_kind, no->no_pid,
				    &out[k - 1]);
			}
		}
	}
	LIST_FOREACH (fl, &ns->ns_lingering, fl_olink) {
		if (k++ < n) {
			flow_describe(ns, fl, SK_OWNER_CLIENT, 0, &out[k - 1]);
		}
	}
	pthread_mutex_unlock(&ns->ns_lock);
	return k;
}
