/*
 * flow_table.c - flows by key and by id.
 *
 * One hash table for each mask; those that are empty cost a lookup nothing.
 * Several owners may share a port (FLOW_REUSEPORT): their entries are of equal
 * key, and the hash of the packet's 5-tuple says whose turn it is, so that all
 * packets of a flow go the same way.
 */
#include <errno.h>
#include <stdlib.h>

#include "skywalk/flowswitch/netns.h"

#define TABLE_MIN 256
#define GEN_BITS(ns) (~(ns)->ns_advtab.ft_mask)

struct flow *
flow_find(struct netns *ns, const struct flow_key *k, enum flow_mask mask)
{
	const struct flow_table *tb = &ns->ns_table[mask];
	uint32_t hash;
	struct flow *fl;

	if (tb->tb_count == 0) {
		return NULL;
	}
	hash = flow_hash(ns->ns_seed, k, mask);
	for (fl = tb->tb_bucket[hash & tb->tb_mask]; fl != NULL;
	    fl = fl->fl_next) {
		if (fl->fl_hash == hash && flow_match(&fl->fl_key, k, mask)) {
			return fl;
		}
	}
	return NULL;
}

/* Of the entries that match like fl, the one whose turn it is for k. */
static struct flow *
flow_share(struct netns *ns, struct flow *fl, const struct flow_key *k,
    enum flow_mask mask)
{
	uint32_t n = 0, pick;
	struct flow *it;

	for (it = fl; it != NULL; it = it->fl_next) {
		n += it->fl_hash == fl->fl_hash &&
		    flow_match(&it->fl_key, k, mask);
	}
	if (n == 1) {
		return fl;
	}
	pick = flow_hash(ns->ns_seed, k, FLOW_5TUPLE) % n;
	for (it = fl;; it = it->fl_next) {
		if (it->fl_hash == fl->fl_hash &&
		    flow_match(&it->fl_key, k, mask) && pick-- == 0) {
			return it;
		}
	}
}

struct flow *
flow_lookup(struct netns *ns, const struct flow_key *k)
{
	if (ns->ns_entriesof[netns_porthash(k->fk_proto, k->fk_lport)] == 0) {
		return NULL;
	}
	for (int mask = 0; mask < FLOW_NMASKS; mask++) {
		struct flow *fl = flow_find(ns, k, (enum flow_mask)mask);

		if (fl != NULL) {
			return mask == FLOW_5TUPLE ?
			    fl :
			    flow_share(ns, fl, k, (enum flow_mask)mask);
		}
	}
	return NULL;
}

static int
table_grow(struct flow_table *tb)
{
	uint32_t size =
	    tb->tb_bucket == NULL ? TABLE_MIN : 2 * (tb->tb_mask + 1);
	struct flow **bucket = calloc(size, sizeof(struct flow *));

	if (bucket == NULL) {
		return ENOMEM;
	}
	for (uint32_t i = 0; tb->tb_bucket != NULL && i <= tb->tb_mask; i++) {
		struct flow *fl = tb->tb_bucket[i];

		while (fl != NULL) {
			struct flow *next = fl->fl_next;
			struct flow **to = &bucket[fl->fl_hash & (size - 1)];

			fl->fl_next = *to;
			*to = fl;
			fl = next;
		}
	}
	free(tb->tb_bucket);
	tb->tb_bucket = bucket;
	tb->tb_mask = size - 1;
	return 0;
}

int
flow_insert(struct netns *ns, struct flow *fl, enum flow_mask mask)
{
	struct flow_table *tb = &ns->ns_table[mask];
	struct flow **to;

	if ((tb->tb_bucket == NULL || tb->tb_count > tb->tb_mask) &&
	    table_grow(tb) != 0 && tb->tb_bucket == NULL) {
		return ENOMEM;
	}
	fl->fl_mask = (uint8_t)mask;
	fl->fl_hash = flow_hash(ns->ns_seed, &fl->fl_key, mask);
	to = &tb->tb_bucket[fl->fl_hash & tb->tb_mask];
	fl->fl_next = *to;
	*to = fl;
	fl->fl_hashed = true;
	tb->tb_count++;
	ns->ns_entriesof[netns_porthash(fl->fl_key.fk_proto, fl->fl_key.fk_lport)]++;
	atomic_fetch_add_explicit(&ns->ns_entries, 1, memory_order_relaxed);
	return 0;
}

void
flow_remove(struct netns *ns, struct flow *fl)
{
	struct flow_table *tb = &ns->ns_table[fl->fl_mask];
	struct flow **at;

	if (!fl->fl_hashed) {
		return;
	}
	at = &tb->tb_bucket[fl->fl_hash & tb->tb_mask];
	while (*at != fl) {
		at = &(*at)->fl_next;
	}
	*at = fl->fl_next;
	fl->fl_hashed = false;
	tb->tb_count--;
	ns->ns_entriesof[netns_porthash(fl->fl_key.fk_proto, fl->fl_key.fk_lport)]--;
	atomic_fetch_sub_explicit(&ns->ns_entries, 1, memory_order_relaxed);
}

struct flow *
flow_byid(struct netns *ns, uint32_t id)
{
	struct flow *fl = ns->ns_slot[id & ns->ns_advtab.ft_mask];

	return fl != NULL && fl->fl_id == id ? fl : NULL;
}

int
flow_id_new(struct netns *ns, struct flow *fl)
{
	uint32_t mask = ns->ns_advtab.ft_mask, slot, gen;
	struct flow_adv *fa;

	if (ns->ns_nfree > 0) {
		slot = ns->ns_free[--ns->ns_nfree];
	} else if (ns->ns_fresh <= mask) {
		slot = ns->ns_fresh++;
	} else {
		return ENOBUFS;
	}
	gen = ns->ns_gen[slot] + (mask + 1);
	if ((gen & GEN_BITS(ns)) == 0) {
		gen = mask + 1; /* an id is never 0 */
	}
	ns->ns_gen[slot] = gen;
	fl->fl_id = gen | slot;
	ns->ns_slot[slot] = fl;
	fa = &ns->ns_advtab.ft_entry[slot];
	atomic_store_explicit(&fa->fa_ce, 0, memory_order_relaxed);
	atomic_store_explicit(&fa->fa_flags, FLOWADV_VALID,
	    memory_order_relaxed);
	atomic_store_explicit(&fa->fa_flowid, fl->fl_id, memory_order_release);
	return 0;
}

void
flow_id_free(struct netns *ns, struct flow *fl)
{
	uint32_t slot = fl->fl_id & ns->ns_advtab.ft_mask;
	struct flow_adv *fa = &ns->ns_advtab.ft_entry[slot];

	if (fl->fl_id == 0) {
		return;
	}
	atomic_store_explicit(&fa->fa_flowid, 0, memory_order_release);
	atomic_store_explicit(&fa->fa_flags, 0, memory_order_release);
	ns->ns_slot[slot] = NULL;
	ns->ns_free[ns->ns_nfree++] = slot;
	fl->fl_id = 0;
}
