/*
 * trie.c - longest-prefix match over 128-bit keys.
 */
#include "bsdcore/net/trie.h"

#include <endian.h>

#define TRIE_BITS 128

static void
trie_key(uint64_t out[2], const union inaddr *a, unsigned plen)
{
	out[0] = be64toh(a->ia_q[0]);
	out[1] = be64toh(a->ia_q[1]);
	if (plen < 64) {
		out[0] = plen == 0 ? 0 : out[0] & ~(UINT64_MAX >> plen);
		out[1] = 0;
	} else if (plen < TRIE_BITS) {
		out[1] = plen == 64 ? 0 : out[1] & ~(UINT64_MAX >> (plen - 64));
	}
}

static inline unsigned
trie_bit(const uint64_t key[2], unsigned i)
{
	return (unsigned)(key[i >> 6] >> (63 - (i & 63))) & 1;
}

/* How many leading bits a and b share. */
static inline unsigned
trie_common(const uint64_t a[2], const uint64_t b[2])
{
	uint64_t x = a[0] ^ b[0];

	if (x != 0) {
		return (unsigned)__builtin_clzll(x);
	}
	x = a[1] ^ b[1];
	return x != 0 ? 64 + (unsigned)__builtin_clzll(x) : TRIE_BITS;
}

static struct trie_node *
trie_node_new(struct trie *t, const uint64_t key[2], unsigned plen)
{
	struct trie_node *n = calloc(1, sizeof(*n));

	if (n != NULL) {
		n->tn_key[0] = key[0];
		n->tn_key[1] = key[1];
		n->tn_plen = (uint8_t)plen;
		t->tr_nodes++;
	}
	return n;
}

static void
trie_node_free(struct trie *t, struct trie_node *n)
{
	t->tr_nodes--;
	free(n);
}

void
trie_fini(struct trie *t)
{
	struct trie_node *n = t->tr_root;

	while (n != NULL) {
		struct trie_node *parent = n->tn_parent;

		if (n->tn_child[0] != NULL) {
			n = n->tn_child[0];
		} else if (n->tn_child[1] != NULL) {
			n = n->tn_child[1];
		} else {
			if (parent != NULL) {
				parent->tn_child[parent->tn_child[1] == n] =
				    NULL;
			}
			trie_node_free(t, n);
			n = parent;
		}
	}
	t->tr_root = NULL;
}

/* Where the pointer to n is kept. */
static struct trie_node **
trie_link(struct trie *t, struct trie_node *n)
{
	struct trie_node *parent = n->tn_parent;

	return parent == NULL ? &t->tr_root :
				&parent->tn_child[parent->tn_child[1] == n];
}

static void
trie_adopt(struct trie_node *parent, unsigned bit, struct trie_node *child)
{
	parent->tn_child[bit] = child;
	child->tn_parent = parent;
}

/* Put leaf where old is, old below it or beside it under a new fork. */
static struct trie_node *
trie_split(struct trie *t, struct trie_node *old, struct trie_node *leaf,
    unsigned common)
{
	struct trie_node **link = trie_link(t, old);
	struct trie_node *top = leaf;

	if (common < leaf->tn_plen) {
		union inaddr a = { .ia_q = { htobe64(leaf->tn_key[0]),
				       htobe64(leaf->tn_key[1]) } };
		uint64_t key[2];

		trie_key(key, &a, common);
		top = trie_node_new(t, key, common);
		if (top == NULL) {
			trie_node_free(t, leaf);
			return NULL;
		}
	}
	top->tn_parent = old->tn_parent;
	*link = top;
	trie_adopt(top, trie_bit(old->tn_key, common), old);
	if (top != leaf) {
		trie_adopt(top, trie_bit(leaf->tn_key, common), leaf);
	}
	return leaf;
}

struct trie_node *
trie_insert(struct trie *t, const union inaddr *a, unsigned plen)
{
	struct trie_node *n = t->tr_root, *parent = NULL, *leaf;
	uint64_t key[2];
	unsigned common = 0;

	KASSERT(plen <= TRIE_BITS);
	trie_key(key, a, plen);
	while (n != NULL) {
		common = u32min(trie_common(n->tn_key, key),
		    u32min(n->tn_plen, plen));
		if (common < n->tn_plen) {
			break;
		}
		if (n->tn_plen == plen) {
			return n;
		}
		parent = n;
		n = n->tn_child[trie_bit(key, n->tn_plen)];
	}
	leaf = trie_node_new(t, key, plen);
	if (leaf == NULL || n != NULL) {
		return leaf == NULL ? NULL : trie_split(t, n, leaf, common);
	}
	if (parent == NULL) {
		t->tr_root = leaf;
	} else {
		trie_adopt(parent, trie_bit(key, parent->tn_plen), leaf);
	}
	return leaf;
}

/* The deepest node whose prefix covers key and is at most maxlen bits. */
static struct trie_node *
trie_descend(const struct trie *t, const uint64_t key[2], unsigned maxlen)
{
	struct trie_node *n = t->tr_root, *best = NULL;

	while (n != NULL && n->tn_plen <= maxlen &&
	    trie_common(n->tn_key, key) >= n->tn_plen) {
		best = n;
		if (n->tn_plen == TRIE_BITS) {
			break;
		}
		n = n->tn_child[trie_bit(key, n->tn_plen)];
	}
	return best;
}

struct trie_node *
trie_find(const struct trie *t, const union inaddr *a, unsigned plen)
{
	struct trie_node *n;
	uint64_t key[2];

	trie_key(key, a, plen);
	n = trie_descend(t, key, plen);
	return n != NULL && n->tn_plen == plen && n->tn_value != NULL ? n : NULL;
}

struct trie_node *
trie_longest(const struct trie *t, const union inaddr *a)
{
	struct trie_node *n;
	uint64_t key[2];

	trie_key(key, a, TRIE_BITS);
	n = trie_descend(t, key, TRIE_BITS);
	return n == NULL || n->tn_value != NULL ? n : trie_shorter(n);
}

struct trie_node *
trie_shorter(const struct trie_node *n)
{
	struct trie_node *up = n->tn_parent;

	while (up != NULL && up->tn_value == NULL) {
		up = up->tn_parent;
	}
	return up;
}

/* n has no value and at most one child: put the child in its place. */
static void
trie_splice(struct trie *t, struct trie_node *n)
{
	struct trie_node *child =
	    n->tn_child[0] != NULL ? n->tn_child[0] : n->tn_child[1];

	*trie_link(t, n) = child;
	if (child != NULL) {
		child->tn_parent = n->tn_parent;
	}
	trie_node_free(t, n);
}

void
trie_remove(struct trie *t, struct trie_node *n)
{
	struct trie_node *parent = n->tn_parent;

	n->tn_value = NULL;
	if (n->tn_child[0] != NULL && n->tn_child[1] != NULL) {
		return;
	}
	trie_splice(t, n);
	if (parent != NULL && parent->tn_value == NULL &&
	    (parent->tn_child[0] == NULL || parent->tn_child[1] == NULL)) {
		trie_splice(t, parent);
	}
}

struct trie_node *
trie_next(const struct trie *t, const struct trie_node *n)
{
	struct trie_node *next;

	do {
		if (n == NULL) {
			next = t->tr_root;
		} else if (n->tn_child[0] != NULL) {
			next = n->tn_child[0];
		} else if (n->tn_child[1] != NULL) {
			next = n->tn_child[1];
		} else {
			const struct trie_node *up = n->tn_parent;

			while (up != NULL &&
			    (up->tn_child[1] == n || up->tn_child[1] == NULL)) {
				n = up;
				up = up->tn_parent;
			}
			next = up != NULL ? up->tn_child[1] : NULL;
		}
		n = next;
	} while (next != NULL && next->tn_value == NULL);
	return next;
}
