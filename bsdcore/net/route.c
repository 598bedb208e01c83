/*
 * route.c - the routing table: scoped longest-prefix lookup, caches checked by
 * generation, and host routes learned from ICMP that go away by themselves.
 *
 * The table holds one reference on each entry and every cache (struct route)
 * one more. An entry taken out of the table loses RTF_UP and lives on until
 * the last cache has noticed that rs_gen moved.
 */
#include "bsdcore/net/route.h"
#include "bsdcore/net/trie.h"
#include "bsdcore/netinet/in_flow.h"
#include "bsdcore/sys/callout.h"
#include "bsdcore/sys/sysctl.h"

#define IPV4_PREFIX 96	 /* bits of ::ffff:0:0/96 */
#define IPV4_MINMTU 68	 /* RFC 791 */
#define IPV6_MINMTU 1280 /* RFC 8200 */

struct rtstat {
	uint64_t rts_lookups, rts_misses, rts_pmtu, rts_redirects, rts_expired;
	uint64_t rts_badredirect, rts_badpmtu, rts_dynfull;
};

struct route_state {
	struct trie rs_trie;
	uint32_t rs_gen;
	uint32_t rs_ntimed;
	LIST_HEAD(, rtentry) rs_timed;
	struct callout rs_callout;
	int64_t rs_pmtuexpire;
	int64_t rs_minpmtu;
	int64_t rs_redirexpire;
	int64_t rs_maxdyn;
	struct rtstat rs_stat;
};

/* clang-format off */
static const struct sysctl_def route_ctl[] = {
	{ "net.inet.ip.pmtu_expire", offsetof(struct route_state, rs_pmtuexpire),
	    600, 1, 86400, "s; how long a path MTU is remembered (RFC 1191 6.3)" },
	{ "net.inet.ip.min_pmtu", offsetof(struct route_state, rs_minpmtu),
	    552, IPV4_MINMTU, 1500, "bytes; lower IPv4 path MTUs are raised to it" },
	{ "net.inet.ip.redirect_expire", offsetof(struct route_state, rs_redirexpire),
	    600, 1, 86400, "s; how long a redirect is followed" },
	{ "net.inet.ip.maxdynroutes", offsetof(struct route_state, rs_maxdyn),
	    4096, 0, 1 << 20, "host routes made by ICMP at most" },
};

#define ST(name, field) { name, offsetof(struct route_state, rs_stat.field) }
static const struct stat_def route_stats[] = {
	ST("route.lookups", rts_lookups),
	ST("route.misses", rts_misses),
	ST("route.pmtu", rts_pmtu),
	ST("route.redirects", rts_redirects),
	ST("route.expired", rts_expired),
	ST("route.drop.badredirect", rts_badredirect),
	ST("route.drop.badpmtu", rts_badpmtu),
	ST("route.drop.dynfull", rts_dynfull),
};
#undef ST
/* clang-format on */

static void route_expire(struct stack *, void *);

int
route_init(struct stack *s)
{
	struct route_state *rs;
	int error;

	if (s->s_rt != NULL) {
		return 0;
	}
	rs = calloc(1, sizeof(*rs));
	if (rs == NULL) {
		return ENOMEM;
	}
	rs->rs_gen = 1;
	LIST_INIT(&rs->rs_timed);
	callout_init(&rs->rs_callout, route_expire, rs);
	error = callout_reserve(s, 1);
	if (error != 0) {
		free(rs);
		return error;
	}
	s->s_rt = rs;
	error = sysctl_register(s, route_ctl, nitems(route_ctl), rs);
	if (error == 0) {
		error = stat_register(s, route_stats, nitems(route_stats), rs);
	}
	return error;
}

static void
rt_rele(struct rtentry *rt)
{
	KASSERT(rt->rt_refs > 0);
	if (--rt->rt_refs == 0) {
		KASSERT(!(rt->rt_flags & RTF_UP));
		free(rt);
	}
}

void
route_fini(struct stack *s)
{
	struct route_state *rs = s->s_rt;
	struct trie_node *n;

	if (rs == NULL) {
		return;
	}
	for (n = trie_next(&rs->rs_trie, NULL); n != NULL;
	    n = trie_next(&rs->rs_trie, n)) {
		struct rtentry *rt = n->tn_value, *next;

		for (; rt != NULL; rt = next) {
			next = rt->rt_next;
			rt->rt_flags &= ~(uint32_t)RTF_UP;
			rt_rele(rt);
		}
	}
	trie_fini(&rs->rs_trie);
	callout_drain(s, &rs->rs_callout);
	callout_reserve(s, -1);
	free(rs);
	s->s_rt = NULL;
}

/* The mapped-form length of a prefix; false: no such prefix. */
static bool
rt_plen(const union inaddr *dst, unsigned *plen)
{
	if (in_is4(dst) && *plen <= 32) {
		*plen += IPV4_PREFIX;
	}
	return *plen <= 128 && (!in_is4(dst) || *plen >= IPV4_PREFIX);
}

static union inaddr
rt_mask(const union inaddr *a, unsigned plen)
{
	union inaddr m = *a;

	for (unsigned i = 0; i < 16; i++) {
		if (plen < 8 * (i + 1)) {
			m.ia_b[i] &= plen <= 8 * i ?
			    0 :
			    (uint8_t)(0xff << (8 * (i + 1) - plen));
		}
	}
	return m;
}

static bool
rt_covers(const struct rtentry *rt, const union inaddr *a)
{
	union inaddr m = rt_mask(a, rt->rt_plen);

	return in_eq(&m, &rt->rt_dst);
}

static void
rt_settimer(struct stack *s, struct rtentry *rt, uint64_t when)
{
	struct route_state *rs = s->s_rt;

	if (rt->rt_expire == 0) {
		LIST_INSERT_HEAD(&rs->rs_timed, rt, rt_timed);
		rs->rs_ntimed++;
	}
	rt->rt_expire = when;
	if (when < rs->rs_callout.c_time) {
		callout_reset(s, &rs->rs_callout, when);
	}
}

static void
rt_cleartimer(struct route_state *rs, struct rtentry *rt)
{
	if (rt->rt_expire != 0) {
		LIST_REMOVE(rt, rt_timed);
		rs->rs_ntimed--;
		rt->rt_expire = 0;
	}
}

static void
rt_unlink(struct route_state *rs, struct trie_node *n, struct rtentry *rt)
{
	struct rtentry *head = n->tn_value;

	if (head == rt) {
		n->tn_value = rt->rt_next;
	} else {
		while (head->rt_next != rt) {
			head = head->rt_next;
		}
		head->rt_next = rt->rt_next;
	}
	if (n->tn_value == NULL) {
		trie_remove(&rs->rs_trie, n);
	}
	rt_cleartimer(rs, rt);
	rt->rt_flags &= ~(uint32_t)RTF_UP;
	rt->rt_next = NULL;
	rs->rs_gen++;
	in_flowevent(rt->rt_ifp->if_stack);
	rt_rele(rt);
}

static void
rt_remove(struct route_state *rs, struct rtentry *rt)
{
	struct trie_node *n = trie_find(&rs->rs_trie, &rt->rt_dst, rt->rt_plen);

	KASSERT(n != NULL);
	rt_unlink(rs, n, rt);
}

/* What ICMP taught us under a prefix is void once the prefix changes. */
static void
rt_purge_dynamic(struct route_state *rs, const struct rtentry *covering)
{
	struct rtentry *rt, *next;

	for (rt = LIST_FIRST(&rs->rs_timed); rt != NULL; rt = next) {
		next = LIST_NEXT(rt, rt_timed);
		if ((rt->rt_flags & RTF_DYNAMIC) &&
		    rt_covers(covering, &rt->rt_dst)) {
			rt_remove(rs, rt);
		}
	}
}

static void
route_expire(struct stack *s, void *arg)
{
	struct route_state *rs = arg;
	struct rtentry *rt, *next;
	uint64_t soonest = CALLOUT_NEVER;

	for (rt = LIST_FIRST(&rs->rs_timed); rt != NULL; rt = next) {
		next = LIST_NEXT(rt, rt_timed);
		if (rt->rt_expire > s->s_now) {
			soonest = u64min(soonest, rt->rt_expire);
			continue;
		}
		rs->rs_stat.rts_expired++;
		if (rt->rt_flags & RTF_DYNAMIC) {
			rt_remove(rs, rt);
		} else {
			rt->rt_mtu = 0;
			rt_cleartimer(rs, rt);
		}
	}
	if (soonest != CALLOUT_NEVER) {
		callout_reset(s, &rs->rs_callout, soonest);
	}
}

/* The interface behind an on-link gateway; ifp NULL: any. */
static struct ifnet *
rt_gwif(struct stack *s, const union inaddr *gw, struct ifnet *ifp)
{
	struct rtentry *rt = rt_lookup(s, gw, ifp != NULL ? ifp->if_index : 0);

	if (rt == NULL ||
	    (rt->rt_flags &
		(RTF_GATEWAY | RTF_REJECT | RTF_BLACKHOLE | RTF_LOCAL)) ||
	    (ifp != NULL && rt->rt_ifp != ifp)) {
		return NULL;
	}
	return rt->rt_ifp;
}

static bool
rt_samescope(const struct rtentry *rt, uint32_t flags, const struct ifnet *ifp)
{
	if ((rt->rt_flags ^ flags) & RTF_IFSCOPE) {
		return false;
	}
	return !(flags & RTF_IFSCOPE) || rt->rt_ifp == ifp;
}

/* Into the table; the entry's reference is the table's. */
static int
rt_insert(struct route_state *rs, struct rtentry *rt)
{
	struct trie_node *n =
	    trie_insert(&rs->rs_trie, &rt->rt_dst, rt->rt_plen);
	struct rtentry *other;

	if (n == NULL) {
		return ENOMEM;
	}
	for (other = n->tn_value; other != NULL; other = other->rt_next) {
		if (rt_samescope(other, rt->rt_flags, rt->rt_ifp)) {
			return EEXIST;
		}
	}
	rt->rt_next = n->tn_value;
	n->tn_value = rt;
	rs->rs_gen++;
	in_flowevent(rt->rt_ifp->if_stack);
	return 0;
}

int
rt_add(struct stack *s, const union inaddr *dst, unsigned plen,
    const union inaddr *gw, struct ifnet *ifp, uint32_t flags,
    struct rtentry **out)
{
	struct route_state *rs = s->s_rt;
	struct rtentry *rt;
	int error;

	if (!rt_plen(dst, &plen) || (gw != NULL && in_is4(gw) != in_is4(dst))) {
		return EINVAL;
	}
	if (gw != NULL) {
		flags |= RTF_GATEWAY;
		ifp = rt_gwif(s, gw, ifp);
	}
	if (ifp == NULL) {
		return gw != NULL ? ENETUNREACH : EINVAL;
	}
	rt = calloc(1, sizeof(*rt));
	if (rt == NULL) {
		return ENOMEM;
	}
	rt->rt_dst = rt_mask(dst, plen);
	rt->rt_plen = (uint8_t)plen;
	rt->rt_flags = flags | RTF_UP | (plen == 128 ? RTF_HOST : 0);
	rt->rt_refs = 1;
	rt->rt_ifp = ifp;
	if (gw != NULL) {
		rt->rt_gateway = *gw;
	}
	error = rt_insert(rs, rt);
	if (error != 0) {
		free(rt);
		return error;
	}
	if (!(flags & RTF_DYNAMIC)) {
		rt_purge_dynamic(rs, rt);
	}
	if (out != NULL) {
		*out = rt;
	}
	return 0;
}

int
rt_delete(struct stack *s, const union inaddr *dst, unsigned plen,
    struct ifnet *ifp)
{
	struct route_state *rs = s->s_rt;
	struct trie_node *n;
	struct rtentry *rt;

	if (!rt_plen(dst, &plen)) {
		return EINVAL;
	}
	n = trie_find(&rs->rs_trie, dst, plen);
	for (rt = n != NULL ? n->tn_value : NULL; rt != NULL; rt = rt->rt_next) {
		if (ifp == NULL || rt->rt_ifp == ifp) {
			rt->rt_refs++;
			rt_unlink(rs, n, rt);
			rt_purge_dynamic(rs, rt);
			rt_rele(rt);
			return 0;
		}
	}
	return ESRCH;
}

void
rt_ifdetach(struct ifnet *ifp)
{
	struct route_state *rs = ifp->if_stack->s_rt;
	struct trie_node *n = rs != NULL ? trie_next(&rs->rs_trie, NULL) : NULL;

	while (n != NULL) {
		struct rtentry *rt = n->tn_value;

		while (rt != NULL && rt->rt_ifp != ifp) {
			rt = rt->rt_next;
		}
		if (rt == NULL) {
			n = trie_next(&rs->rs_trie, n);
		} else {
			rt_unlink(rs, n, rt);
			n = trie_next(&rs->rs_trie, NULL);
		}
	}
}

/* Of the entries of one prefix, the one a lookup of that scope may use. */
static struct rtentry *
rt_inscope(struct rtentry *rt, uint32_t scope)
{
	struct rtentry *best = NULL;

	for (; rt != NULL; rt = rt->rt_next) {
		if (!(rt->rt_ifp->if_flags & IFF_UP_)) {
			continue;
		}
		if (rt->rt_flags & RTF_IFSCOPE) {
			if (scope != 0 && rt->rt_ifp->if_index == scope) {
				return rt;
			}
		} else if (scope == 0 || rt->rt_ifp->if_index == scope ||
		    (rt->rt_flags & RTF_LOCAL)) {
			best = rt;
		}
	}
	return best;
}

struct rtentry *
rt_lookup(struct stack *s, const union inaddr *dst, uint32_t scope)
{
	struct route_state *rs = s->s_rt;
	unsigned least = in_is4(dst) ? IPV4_PREFIX : 0;
	struct trie_node *n;

	rs->rs_stat.rts_lookups++;
	for (n = trie_longest(&rs->rs_trie, dst);
	    n != NULL && n->tn_plen >= least; n = trie_shorter(n)) {
		struct rtentry *rt = rt_inscope(n->tn_value, scope);

		if (rt != NULL) {
			return rt;
		}
	}
	rs->rs_stat.rts_misses++;
	return NULL;
}

struct rtentry *
route_get(struct stack *s, struct route *ro, const union inaddr *dst,
    uint32_t scope)
{
	struct route_state *rs = s->s_rt;

	if (ro->ro_rt != NULL) {
		if (ro->ro_gen == rs->rs_gen && ro->ro_scope == scope &&
		    in_eq(&ro->ro_dst, dst) &&
		    (ro->ro_rt->rt_ifp->if_flags & IFF_UP_)) {
			ro->ro_rt->rt_use++;
			return ro->ro_rt;
		}
		route_release(s, ro);
	}
	ro->ro_rt = rt_lookup(s, dst, scope);
	if (ro->ro_rt != NULL) {
		ro->ro_rt->rt_refs++;
		ro->ro_rt->rt_use++;
		ro->ro_dst = *dst;
		ro->ro_scope = scope;
		ro->ro_gen = rs->rs_gen;
	}
	return ro->ro_rt;
}

void
route_release(struct stack *s, struct route *ro)
{
	(void)s;
	if (ro->ro_rt != NULL) {
		rt_rele(ro->ro_rt);
		ro->ro_rt = NULL;
	}
}

/* The host route for dst that ICMP may write to, made like `like`. */
static struct rtentry *
rt_hostroute(struct stack *s, const union inaddr *dst, struct rtentry *like,
    const union inaddr *gw)
{
	struct route_state *rs = s->s_rt;
	struct rtentry *rt;

	if (rs->rs_ntimed >= (uint64_t)rs->rs_maxdyn) {
		rs->rs_stat.rts_dynfull++;
		return NULL;
	}
	if (rt_add(s, dst, 128, gw, like->rt_ifp, RTF_DYNAMIC, &rt) != 0) {
		return NULL;
	}
	return rt;
}

void
rt_setpmtu(struct stack *s, const union inaddr *dst, uint32_t mtu)
{
	struct route_state *rs = s->s_rt;
	struct rtentry *rt = rt_lookup(s, dst, 0);
	uint32_t least = in_is4(dst) ? IPV4_MINMTU : IPV6_MINMTU;

	if (rt == NULL || mtu < least ||
	    (rt->rt_flags & (RTF_LOCAL | RTF_REJECT | RTF_BLACKHOLE))) {
		rs->rs_stat.rts_badpmtu++;
		return;
	}
	if (in_is4(dst)) {
		mtu = u32max(mtu, (uint32_t)rs->rs_minpmtu);
	}
	if (mtu > rt_getmtu(rt) || mtu >= rt->rt_ifp->if_mtu) {
		return; /* never raised before it expires */
	}
	if (!(rt->rt_flags & RTF_HOST)) {
		rt = rt_hostroute(s, dst, rt,
		    rt->rt_flags & RTF_GATEWAY ? &rt->rt_gateway : NULL);
		if (rt == NULL) {
			return;
		}
	}
	rt->rt_mtu = mtu;
	rt_settimer(s, rt,
	    s->s_now + (uint64_t)rs->rs_pmtuexpire * NSEC_PER_SEC);
	rs->rs_stat.rts_pmtu++;
}

/* RFC 1122 3.2.2.2: only from the first hop in use, to a neighbour. */
void
rt_redirect(struct stack *s, const union inaddr *dst, const union inaddr *gw,
    const union inaddr *from, struct ifnet *ifp)
{
	struct route_state *rs = s->s_rt;
	struct rtentry *rt = rt_lookup(s, dst, 0);

	if (rt == NULL || !(rt->rt_flags & RTF_GATEWAY) ||
	    !in_eq(&rt->rt_gateway, from) || rt->rt_ifp != ifp ||
	    in_is4(gw) != in_is4(dst) || in_ismulticast(gw) ||
	    rt_gwif(s, gw, ifp) == NULL || ifa_ifwithaddr(s, gw) != NULL) {
		rs->rs_stat.rts_badredirect++;
		return;
	}
	if (in_eq(gw, &rt->rt_gateway)) {
		return;
	}
	if ((rt->rt_flags & (RTF_HOST | RTF_DYNAMIC)) ==
	    (RTF_HOST | RTF_DYNAMIC)) {
		rt->rt_gateway = *gw;
		rs->rs_gen++;
		in_flowevent(s);
	} else if (!(rt->rt_flags & RTF_HOST)) {
		rt = rt_hostroute(s, dst, rt, gw);
	} else {
		rt = NULL; /* a static host route stays as it is */
	}
	if (rt == NULL) {
		rs->rs_stat.rts_badredirect++;
		return;
	}
	rt_settimer(s, rt,
	    s->s_now + (uint64_t)rs->rs_redirexpire * NSEC_PER_SEC);
	rs->rs_stat.rts_redirects++;
}

uint32_t
rt_getmtu(const struct rtentry *rt)
{
	uint32_t mtu = rt->rt_ifp->if_mtu;

	return rt->rt_mtu != 0 ? u32min(rt->rt_mtu, mtu) : mtu;
}

void
rt_walk(struct stack *s, bool (*fn)(struct rtentry *, void *), void *arg)
{
	struct route_state *rs = s->s_rt;
	struct trie_node *n;

	for (n = trie_next(&rs->rs_trie, NULL); n != NULL;
	    n = trie_next(&rs->rs_trie, n)) {
		struct rtentry *rt;

		for (rt = n->tn_value; rt != NULL; rt = rt->rt_next) {
			if (!fn(rt, arg)) {
				return;
			}
		}
	}
}
