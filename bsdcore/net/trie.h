/*
 * trie.h - longest-prefix match over 128-bit keys.
 *
 * A binary trie with compressed paths. A node stands for one prefix; those
 * without a value are forks and have two children, so n prefixes need at most
 * 2n - 1 nodes. Keys are held as two 64-bit words in host order, bits past
 * the prefix zero.
 */
#ifndef BSDCORE_NET_TRIE_H
#define BSDCORE_NET_TRIE_H

#include "bsdcore/netinet/in.h"
#include "bsdcore/sys/systm.h"

struct trie_node {
	struct trie_node *tn_child[2];
	struct trie_node *tn_parent;
	uint64_t tn_key[2];
	void *tn_value;	 /* NULL: a fork */
	uint8_t tn_plen; /* 0..128 */
};

struct trie {
	struct trie_node *tr_root;
	uint32_t tr_nodes;
};

/* Frees the nodes; values are the caller's. */
void trie_fini(struct trie *t);
/* The node of that prefix, made if need be; the caller sets tn_value before
 * the next call. NULL: no memory. */
struct trie_node *trie_insert(struct trie *t, const union inaddr *key,
    unsigned plen);
/* The node of exactly that prefix if it has a value. */
struct trie_node *trie_find(const struct trie *t, const union inaddr *key,
    unsigned plen);
/* The longest prefix of key that has a value, and the next shorter one. */
struct trie_node *trie_longest(const struct trie *t, const union inaddr *key);
struct trie_node *trie_shorter(const struct trie_node *n);
/* Take the value away and every node that is not needed any more. */
void trie_remove(struct trie *t, struct trie_node *n);
/* In order of keys, short prefixes before the longer ones they cover; n NULL:
 * the first. */
struct trie_node *trie_next(const struct trie *t, const struct trie_node *n);

#endif
