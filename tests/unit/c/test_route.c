/* The trie against a list; scopes, caches, gateways, what ICMP teaches. */
#include "bsdcore/net/ethernet.h"
#include "bsdcore/net/trie.h"
#include "tests/unit/c/fakeport.h"
#include "tests/unit/c/linkstack.h"

#define NPREFIX 400

static uint64_t rng = 1;

static uint32_t
rnd(void)
{
	rng = rng * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(rng >> 33);
}

struct prefix {
	union inaddr pr_key;
	unsigned pr_plen;
	bool pr_in;
};

static bool
covers(const struct prefix *pr, const union inaddr *a)
{
	for (unsigned i = 0; i < pr->pr_plen; i++) {
		if (((pr->pr_key.ia_b[i / 8] ^ a->ia_b[i / 8]) >> (7 - i % 8)) &
		    1) {
			return false;
		}
	}
	return true;
}

/* Few distinct bits, so that prefixes nest and share. */
static union inaddr
rnd_key(void)
{
	union inaddr a = { { 0 } };

	for (int i = 0; i < 16; i++) {
		a.ia_b[i] = rnd() % 8 == 0 ? (uint8_t)rnd() : 0;
	}
	return a;
}

static void
trie_compare(const struct trie *t, const struct prefix *pr)
{
	union inaddr a = rnd_key();
	const struct prefix *best = NULL;
	struct trie_node *n = trie_longest(t, &a);

	for (int i = 0; i < NPREFIX; i++) {
		if (pr[i].pr_in && covers(&pr[i], &a) &&
		    (best == NULL || pr[i].pr_plen > best->pr_plen)) {
			best = &pr[i];
		}
	}
	CHECK_EQ(n != NULL, best != NULL);
	if (n != NULL) {
		CHECK_EQ(n->tn_plen, best->pr_plen);
		for (n = trie_shorter(n); n != NULL; n = trie_shorter(n)) {
			CHECK(n->tn_value != NULL);
			CHECK(n->tn_plen < best->pr_plen);
		}
	}
}

static uint32_t
trie_count(const struct trie *t)
{
	uint32_t n = 0;

	for (struct trie_node *p = trie_next(t, NULL); p != NULL;
	    p = trie_next(t, p)) {
		CHECK(p->tn_value != NULL);
		n++;
	}
	return n;
}

TEST(trie_against_list)
{
	static struct prefix pr[NPREFIX];
	struct trie t = { 0 };
	uint32_t live = 0;

	for (int step = 0; step < 20000; step++) {
		int i = (int)(rnd() % NPREFIX);

		if (!pr[i].pr_in) {
			struct trie_node *n;

			pr[i].pr_key = rnd_key();
			pr[i].pr_plen = rnd() % 129;
			n = trie_insert(&t, &pr[i].pr_key, pr[i].pr_plen);
			CHECK(n != NULL);
			CHECK_EQ(n->tn_plen, pr[i].pr_plen);
			if (n->tn_value == NULL) {
				n->tn_value = &pr[i];
				pr[i].pr_in = true;
				live++;
			}
		} else {
			struct trie_node *n =
			    trie_find(&t, &pr[i].pr_key, pr[i].pr_plen);

			CHECK(n != NULL);
			CHECK(n->tn_value == &pr[i]);
			trie_remove(&t, n);
			pr[i].pr_in = false;
			live--;
			CHECK(trie_find(&t, &pr[i].pr_key, pr[i].pr_plen) ==
			    NULL);
		}
		trie_compare(&t, pr);
		if (step % 1000 == 0) {
			CHECK_EQ(trie_count(&t), live);
			CHECK(t.tr_nodes <= 2 * live + 1);
		}
	}
	trie_fini(&t);
	CHECK_EQ(t.tr_nodes, 0);
}

/* Two Ethernet interfaces: 10.0.0.1/24 and 10.1.0.1/16. */
struct net {
	struct pkt_pool *n_pool;
	struct fake *n_fake[2];
	struct stack *n_s;
	struct ifnet *n_if[2];
};

static struct net
net_new(void)
{
	static const char *const addr[] = { "10.0.0.1", "10.1.0.1" };
	static const unsigned plen[] = { 24, 16 };
	static bool closed;
	struct net n = { .n_pool = nic_pool_new(1 << 20),
		.n_s = ls_new(1 << 22) };

	for (int i = 0; i < 2; i++) {
		union inaddr a = ls_ip(addr[i]);

		n.n_fake[i] = fake_open(n.n_pool, PORT_ETHER, PORT_SG, &closed);
		n.n_fake[i]->fk_room = 1000;
		CHECK_EQ(if_attach(n.n_s, &n.n_fake[i]->fk_port, NULL,
			     &n.n_if[i]),
		    0);
		CHECK_EQ(if_addaddr(n.n_if[i], &a, plen[i]), 0);
	}
	ls_run(n.n_s, n.n_s->s_now);
	return n;
}

static void
net_free(struct net *n)
{
	ls_free(n->n_s);
	nic_pool_free(n->n_pool);
}

static int
add(struct net *n, const char *dst, unsigned plen, const char *gw,
    struct ifnet *ifp, uint32_t flags)
{
	union inaddr d = ls_ip(dst), g;

	if (gw != NULL) {
		g = ls_ip(gw);
	}
	return rt_add(n->n_s, &d, plen, gw != NULL ? &g : NULL, ifp, flags,
	    NULL);
}

static struct rtentry *
find(struct net *n, const char *dst, uint32_t scope)
{
	union inaddr d = ls_ip(dst);

	return rt_lookup(n->n_s, &d, scope);
}

TEST(connected_and_local)
{
	struct net n = net_new();
	struct rtentry *rt;

	rt = find(&n, "10.0.0.7", 0);
	CHECK(rt != NULL && rt->rt_ifp == n.n_if[0]);
	CHECK_EQ(rt->rt_plen, 96 + 24);
	CHECK_EQ(rt->rt_flags & RTF_GATEWAY, 0);
	rt = find(&n, "10.0.0.1", 0);
	CHECK(rt != NULL && rt->rt_ifp == n.n_s->s_if->ifs_lo);
	CHECK(rt->rt_flags & RTF_LOCAL);
	rt = find(&n, "127.9.9.9", 0);
	CHECK(rt != NULL && (rt->rt_flags & RTF_LOCAL));
	rt = find(&n, "::1", 0);
	CHECK(rt != NULL && (rt->rt_flags & RTF_LOCAL));
	CHECK(find(&n, "192.0.2.1", 0) == NULL);
	CHECK(find(&n, "2001:db8::1", 0) == NULL);
	net_free(&n);
}

TEST(families_do_not_mix)
{
	struct net n = net_new();

	/* A default route of IPv6 covers ::ffff:0:0/96 as bits, not as a
	 * route. */
	CHECK_EQ(add(&n, "::", 0, NULL, n.n_if[0], 0), 0);
	CHECK(find(&n, "192.0.2.1", 0) == NULL);
	CHECK(find(&n, "2001:db8::1", 0) != NULL);
	CHECK_EQ(add(&n, "0.0.0.0", 0, "10.0.0.254", NULL, 0), 0);
	CHECK(find(&n, "192.0.2.1", 0) != NULL);
	CHECK_EQ(find(&n, "192.0.2.1", 0)->rt_plen, 96);
	net_free(&n);
}

TEST(gateway_must_be_a_neighbour)
{
	struct net n = net_new();

	CHECK_EQ(add(&n, "0.0.0.0", 0, "192.0.2.9", NULL, 0), ENETUNREACH);
	CHECK_EQ(add(&n, "0.0.0.0", 0, "10.1.0.9", n.n_if[0], 0), ENETUNREACH);
	CHECK_EQ(add(&n, "0.0.0.0", 0, "10.0.0.1", NULL, 0), ENETUNREACH);
	CHECK_EQ(add(&n, "0.0.0.0", 0, "10.1.0.9", NULL, 0), 0);
	CHECK(find(&n, "192.0.2.1", 0)->rt_ifp == n.n_if[1]);
	CHECK_EQ(add(&n, "0.0.0.0", 0, "10.1.0.8", NULL, 0), EEXIST);
	/* Not through another gateway either. */
	CHECK_EQ(add(&n, "198.51.100.0", 24, "192.0.2.9", NULL, 0), ENETUNREACH);
	CHECK_EQ(add(&n, "10.0.0.0", 33, NULL, n.n_if[0], 0), EINVAL);
	CHECK_EQ(add(&n, "10.0.0.0", 8, NULL, NULL, 0), EINVAL);
	net_free(&n);
}

TEST(scoped_lookup)
{
	struct net n = net_new();
	uint32_t i0 = n.n_if[0]->if_index, i1 = n.n_if[1]->if_index;

	CHECK_EQ(add(&n, "0.0.0.0", 0, "10.0.0.254", NULL, 0), 0);
	CHECK(find(&n, "192.0.2.1", i0)->rt_ifp == n.n_if[0]);
	CHECK(find(&n, "192.0.2.1", i1) == NULL);
	CHECK_EQ(add(&n, "0.0.0.0", 0, "10.1.0.254", n.n_if[1], RTF_IFSCOPE), 0);
	CHECK(find(&n, "192.0.2.1", 0)->rt_ifp == n.n_if[0]);
	CHECK(find(&n, "192.0.2.1", i1)->rt_ifp == n.n_if[1]);
	CHECK_EQ(add(&n, "0.0.0.0", 0, "10.1.0.253", n.n_if[1], RTF_IFSCOPE),
	    EEXIST);
	/* The longer prefix wins over the scoped shorter one. */
	CHECK_EQ(find(&n, "10.1.5.5", i1)->rt_flags & RTF_GATEWAY, 0);
	/* An interface that is down carries nothing. */
	CHECK_EQ(if_setflags(n.n_if[0], 0, IFF_UP_), 0);
	CHECK(find(&n, "192.0.2.1", 0) == NULL);
	net_free(&n);
}

TEST(shared_prefix_is_promoted)
{
	struct net n = net_new();
	union inaddr b = ls_ip("10.0.0.2"), a = ls_ip("10.0.0.1");

	CHECK_EQ(if_addaddr(n.n_if[1], &b, 24), 0);
	CHECK(find(&n, "10.0.0.9", 0)->rt_ifp == n.n_if[0]);
	CHECK(find(&n, "10.0.0.9", n.n_if[1]->if_index)->rt_ifp == n.n_if[1]);
	CHECK_EQ(if_deladdr(n.n_if[0], &a), 0);
	CHECK(find(&n, "10.0.0.9", 0)->rt_ifp == n.n_if[1]);
	CHECK(find(&n, "10.0.0.1", 0)->rt_ifp == n.n_if[1]);
	CHECK(ifa_ifwithaddr(n.n_s, &a) == NULL);
	net_free(&n);
}

TEST(cache_follows_the_table)
{
	struct net n = net_new();
	struct route ro = { 0 };
	union inaddr d = ls_ip("192.0.2.1"), net24 = ls_ip("192.0.2.0");
	uint64_t lookups;

	CHECK_EQ(add(&n, "0.0.0.0", 0, "10.0.0.254", NULL, 0), 0);
	CHECK(route_get(n.n_s, &ro, &d, 0)->rt_ifp == n.n_if[0]);
	lookups = ls_stat(n.n_s, "route.lookups");
	for (int i = 0; i < 100; i++) {
		CHECK(route_get(n.n_s, &ro, &d, 0)->rt_ifp == n.n_if[0]);
	}
	CHECK_EQ(ls_stat(n.n_s, "route.lookups"), lookups);
	CHECK_EQ(add(&n, "192.0.2.0", 24, "10.1.0.254", NULL, 0), 0);
	CHECK(route_get(n.n_s, &ro, &d, 0)->rt_ifp == n.n_if[1]);
	/* The entry deleted under the cache stays readable until it is
	 * asked again. */
	CHECK_EQ(rt_delete(n.n_s, &net24, 24, NULL), 0);
	CHECK_EQ(rt_delete(n.n_s, &net24, 24, NULL), ESRCH);
	CHECK_EQ(ro.ro_rt->rt_flags & RTF_UP, 0);
	CHECK(route_get(n.n_s, &ro, &d, 0)->rt_ifp == n.n_if[0]);
	if_detach(n.n_if[0]);
	CHECK(route_get(n.n_s, &ro, &d, 0) == NULL);
	route_release(n.n_s, &ro);
	net_free(&n);
}

TEST(path_mtu)
{
	struct net n = net_new();
	union inaddr d = ls_ip("192.0.2.1");
	struct rtentry *rt;

	CHECK_EQ(add(&n, "0.0.0.0", 0, "10.0.0.254", NULL, 0), 0);
	rt_setpmtu(n.n_s, &d, 1400);
	rt = find(&n, "192.0.2.1", 0);
	CHECK_EQ(rt_getmtu(rt), 1400);
	CHECK_EQ(rt->rt_flags & (RTF_DYNAMIC | RTF_HOST | RTF_GATEWAY),
	    RTF_DYNAMIC | RTF_HOST | RTF_GATEWAY);
	CHECK_EQ(rt_getmtu(find(&n, "192.0.2.2", 0)), 1500);
	rt_setpmtu(n.n_s, &d, 1450); /* never up */
	CHECK_EQ(rt_getmtu(rt), 1400);
	rt_setpmtu(n.n_s, &d, 100); /* the floor */
	CHECK_EQ(rt_getmtu(rt), 552);
	rt_setpmtu(n.n_s, &d, 60); /* below what IPv4 allows */
	CHECK_EQ(ls_stat(n.n_s, "route.drop.badpmtu"), 1);
	ls_until(n.n_s, n.n_s->s_now + 599 * NSEC_PER_SEC);
	CHECK_EQ(rt_getmtu(find(&n, "192.0.2.1", 0)), 552);
	ls_until(n.n_s, n.n_s->s_now + 2 * NSEC_PER_SEC);
	CHECK_EQ(rt_getmtu(find(&n, "192.0.2.1", 0)), 1500);
	CHECK_EQ(ls_stat(n.n_s, "route.expired"), 1);
	/* A new route takes what was learned under the old one away. */
	rt_setpmtu(n.n_s, &d, 1000);
	CHECK_EQ(add(&n, "192.0.2.0", 24, "10.1.0.254", NULL, 0), 0);
	CHECK(find(&n, "192.0.2.1", 0)->rt_ifp == n.n_if[1]);
	CHECK_EQ(rt_getmtu(find(&n, "192.0.2.1", 0)), 1500);
	net_free(&n);
}

TEST(dynamic_routes_are_bounded)
{
	struct net n = net_new();

	CHECK_EQ(add(&n, "0.0.0.0", 0, "10.0.0.254", NULL, 0), 0);
	CHECK_EQ(sysctl_set(n.n_s, "net.inet.ip.maxdynroutes", 50), 0);
	for (uint32_t i = 0; i < 200; i++) {
		union inaddr d = in_map4(htonl(0xc6336400u + i));

		rt_setpmtu(n.n_s, &d, 1000);
	}
	CHECK_EQ(ls_stat(n.n_s, "route.pmtu"), 50);
	CHECK_EQ(ls_stat(n.n_s, "route.drop.dynfull"), 150);
	net_free(&n);
}

TEST(redirects)
{
	struct net n = net_new();
	union inaddr d = ls_ip("192.0.2.1"), gw = ls_ip("10.0.0.254"),
		     better = ls_ip("10.0.0.253"), far = ls_ip("10.1.0.7"),
		     us = ls_ip("10.0.0.1");
	struct rtentry *rt;

	CHECK_EQ(add(&n, "0.0.0.0", 0, "10.0.0.254", NULL, 0), 0);
	rt_redirect(n.n_s, &d, &better, &better, n.n_if[0]); /* not our hop */
	rt_redirect(n.n_s, &d, &far, &gw, n.n_if[0]);	     /* no neighbour */
	rt_redirect(n.n_s, &d, &us, &gw, n.n_if[0]);
	rt_redirect(n.n_s, &d, &better, &gw, n.n_if[1]); /* wrong side */
	CHECK_EQ(ls_stat(n.n_s, "route.drop.badredirect"), 4);
	rt = find(&n, "192.0.2.1", 0);
	CHECK(in_eq(&rt->rt_gateway, &gw));
	rt_redirect(n.n_s, &d, &better, &gw, n.n_if[0]);
	rt = find(&n, "192.0.2.1", 0);
	CHECK(in_eq(&rt->rt_gateway, &better));
	CHECK(rt->rt_flags & RTF_DYNAMIC);
	CHECK(in_eq(&find(&n, "192.0.2.2", 0)->rt_gateway, &gw));
	ls_until(n.n_s, n.n_s->s_now + 601 * NSEC_PER_SEC);
	CHECK(in_eq(&find(&n, "192.0.2.1", 0)->rt_gateway, &gw));
	net_free(&n);
}

static bool
count_routes(struct rtentry *rt, void *arg)
{
	CHECK(rt->rt_flags & RTF_UP);
	return --*(int *)arg > 0;
}

TEST(walk_stops_when_told)
{
	struct net n = net_new();
	int left = 3;

	rt_walk(n.n_s, count_routes, &left);
	CHECK_EQ(left, 0);
	left = 1000;
	rt_walk(n.n_s, count_routes, &left);
	CHECK_EQ(1000 - left, 7); /* 3 of lo0, 2 of each other */
	net_free(&n);
}

TEST(source_address)
{
	struct net n = net_new();
	union inaddr a = ls_ip("10.0.0.130"), ll = ls_ip("169.254.1.1"),
		     b = ls_ip("10.0.0.200"), far = ls_ip("192.0.2.1"),
		     llpeer = ls_ip("169.254.9.9"), near6 = ls_ip("fe80::2"),
		     ll6 = ls_ip("fe80::1"), g6 = ls_ip("2001:db8::1"),
		     peer6 = ls_ip("2001:db8:1::1");
	struct ifnet *ifp = n.n_if[0];

	CHECK(ifa_forsource(ifp, &peer6) == NULL);
	CHECK_EQ(if_addaddr(ifp, &ll, 16), 0);
	CHECK_EQ(if_addaddr(ifp, &a, 25), 0);
	CHECK_EQ(if_addaddr(ifp, &ll6, 64), 0);
	CHECK_EQ(if_addaddr(ifp, &g6, 64), 0);
	CHECK(in_eq(&ifa_forsource(ifp, &b)->ifa_addr, &a));
	CHECK(in_eq(&ifa_forsource(ifp, &llpeer)->ifa_addr, &ll));
	CHECK(!in_eq(&ifa_forsource(ifp, &far)->ifa_addr, &ll));
	CHECK(in_eq(&ifa_forsource(ifp, &near6)->ifa_addr, &ll6));
	CHECK(in_eq(&ifa_forsource(ifp, &peer6)->ifa_addr, &g6));
	CHECK(in_eq(&ifa_forsource(ifp, &ll)->ifa_addr, &ll));
	net_free(&n);
}

TEST(broadcast_addresses)
{
	struct net n = net_new();
	union inaddr directed = ls_ip("10.0.0.255"),
		     limited = ls_ip("255.255.255.255"),
		     host = ls_ip("10.0.1.255"), p2p = ls_ip("10.9.0.1"),
		     end = ls_ip("10.9.0.1");

	CHECK(in_broadcast(n.n_if[0], &directed));
	CHECK(in_broadcast(n.n_if[0], &limited));
	CHECK(!in_broadcast(n.n_if[0], &host));
	CHECK(!in_broadcast(n.n_s->s_if->ifs_lo, &limited));
	CHECK_EQ(if_addaddr(n.n_if[0], &p2p, 31), 0); /* RFC 3021 */
	CHECK(!in_broadcast(n.n_if[0], &end));
	CHECK_EQ(if_addaddr(n.n_if[0], &limited, 24), EINVAL);
	CHECK_EQ(if_addaddr(n.n_if[0], &p2p, 31), EEXIST);
	CHECK_EQ(if_deladdr(n.n_if[0], &host), EADDRNOTAVAIL);
	net_free(&n);
}

TESTS(RUN(trie_against_list), RUN(connected_and_local), RUN(families_do_not_mix),
    RUN(gateway_must_be_a_neighbour), RUN(scoped_lookup),
    RUN(shared_prefix_is_promoted), RUN(cache_follows_the_table), RUN(path_mtu),
    RUN(dynamic_routes_are_bounded), RUN(redirects), RUN(walk_stops_when_told),
    RUN(source_address), RUN(broadcast_addresses))
