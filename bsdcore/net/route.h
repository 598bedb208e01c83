/*
 * route.h - longest-prefix routing table over 128-bit mapped addresses, with
 * scoped routes and caches checked by generation.
 */
#ifndef BSDCORE_NET_ROUTE_H
#define BSDCORE_NET_ROUTE_H

#include "bsdcore/net/if.h"
#include "bsdcore/netinet/in.h"

/* rt_flags */
#define RTF_UP 0x1
#define RTF_GATEWAY 0x2
#define RTF_HOST 0x4
#define RTF_REJECT 0x8 /* EHOSTUNREACH */
#define RTF_BLACKHOLE 0x1000
#define RTF_DYNAMIC 0x10 /* made by a redirect or PMTU discovery */
#define RTF_STATIC 0x800
#define RTF_LOCAL 0x200000
#define RTF_IFSCOPE 0x1000000 /* only for lookups scoped to rt_ifp */

struct rtentry {
	union inaddr rt_dst;
	uint8_t rt_plen; /* bits of the mapped form */
	uint32_t rt_flags;
	uint32_t rt_refs;
	union inaddr rt_gateway; /* RTF_GATEWAY only */
	struct ifnet *rt_ifp;
	uint32_t rt_mtu;    /* 0: the interface's */
	uint64_t rt_expire; /* ns, 0 never; for RTF_DYNAMIC */
	uint64_t rt_use;
	struct rtentry *rt_next;      /* same prefix, other scope */
	LIST_ENTRY(rtentry) rt_timed; /* those with rt_expire */
};

/* A cached lookup, kept by pcbs. */
struct route {
	struct rtentry *ro_rt;
	union inaddr ro_dst;
	uint32_t ro_gen;
	uint32_t ro_scope;
};

int route_init(struct stack *s);
void route_fini(struct stack *s);
/* plen in bits of the family; for IPv4 the bits of the mapped form (96 and
 * more) are understood as well. gw NULL: on-link. ifp NULL: the gateway's. */
int rt_add(struct stack *s, const union inaddr *dst, unsigned plen,
    const union inaddr *gw, struct ifnet *ifp, uint32_t flags,
    struct rtentry **out); /* EEXIST, ENETUNREACH: gateway not on-link */
int rt_delete(struct stack *s, const union inaddr *dst, unsigned plen,
    struct ifnet *ifp); /* ESRCH */
void rt_ifdetach(struct ifnet *ifp);
/* Longest prefix; scope 0: unscoped routes only, else scoped to that ifindex
 * first and unscoped ones out of the same interface next. NULL: none.
 * The answer is valid until the table changes; keep one in a struct route. */
struct rtentry *rt_lookup(struct stack *s, const union inaddr *dst,
    uint32_t scope);
/* Through the cache; takes and drops the reference held in ro. */
struct rtentry *route_get(struct stack *s, struct route *ro,
    const union inaddr *dst, uint32_t scope);
void route_release(struct stack *s, struct route *ro);
/* PMTU discovery: remember for 10 minutes (net.inet.ip.pmtu_expire). */
void rt_setpmtu(struct stack *s, const union inaddr *dst, uint32_t mtu);
void rt_redirect(struct stack *s, const union inaddr *dst,
    const union inaddr *gw, const union inaddr *from, struct ifnet *ifp);
/* Effective MTU towards dst over rt. */
uint32_t rt_getmtu(const struct rtentry *rt);
/* Walk for netstat; fn answers false to stop. */
void rt_walk(struct stack *s, bool (*fn)(struct rtentry *, void *), void *arg);

#endif
