/*
 * if.c - interfaces, their addresses and groups, and the list of them.
 *
 * An interface that goes away is emptied and moved to ifs_dead: packets on
 * their way up and routes in caches may still name it, so its memory stays
 * until the stack goes.
 */
#include "bsdcore/net/if.h"

#include "bsdcore/net/ethernet.h"
#include "bsdcore/net/route.h"
#include "bsdcore/netinet/in_flow.h"
#include "bsdcore/sys/kernel.h"
#include "bsdcore/sys/sysctl.h"

#define LOMTU 65535  /* the longest IP packet */
#define IPV4_BITS 96 /* bits of the mapped form before IPv4's */
#define IF_MINMTU 68 /* RFC 791 */
#define IF_MAXMTU 65535

/* Groups that every interface is a member of. */
static const union inaddr if_allhosts4 = {
	.ia_b = { [10] = 0xff, [11] = 0xff, 224, 0, 0, 1 }
};
static const union inaddr if_allnodes6 = { .ia_b = { 0xff, 0x02, [15] = 1 } };

/* clang-format off */
static const struct sysctl_def if_ctl[] = {
	{ "net.link.burst", offsetof(struct ifnet_state, ifs_burst),
	    256, 1, 65536, "packets taken from one interface in a round" },
	{ "net.link.ifqmaxlen", offsetof(struct ifnet_state, ifs_sndmax),
	    4096, 16, 1 << 20, "packets; send queue of an interface attached from now on" },
};

#define ST(name, field) { name, offsetof(struct ifnet_state, ifs_stat.field) }
static const struct stat_def if_stats[] = {
	ST("if.rxmerged", ift_rxmerged),
	ST("if.txgso", ift_txgso),
	ST("if.txblocked", ift_txblocked),
	ST("if.looped", ift_looped),
	ST("if.lomissed", ift_lomissed),
	ST("if.drop.rxnobufs", ift_rxnobufs),
	ST("if.drop.rxdown", ift_rxdown),
	ST("if.drop.rxerror", ift_rxerror),
	ST("if.drop.rxversion", ift_rxversion),
	ST("if.drop.txdown", ift_txdown),
	ST("if.drop.txfull", ift_txfull),
	ST("if.drop.txnobufs", ift_txnobufs),
	ST("if.drop.txerror", ift_txerror),
	ST("if.drop.txmeta", ift_txmeta),
	ST("if.drop.txdetached", ift_txdetached),
	ST("if.drop.lofull", ift_lofull),
	ST("if.drop.loreject", ift_loreject),
	ST("ether.drop.short", ift_ethshort),
	ST("ether.drop.badsource", ift_ethsrc),
	ST("ether.drop.notours", ift_ethdst),
	ST("ether.drop.notmember", ift_ethmcast),
	ST("ether.drop.noproto", ift_ethproto),
	ST("ether.drop.nobufs", ift_ethnobufs),
	ST("ether.drop.nomac", ift_ethnomac),
};
#undef ST
/* clang-format on */

static void
if_insert(struct ifnet_state *ifs, struct ifnet *ifp)
{
	ifp->if_index = ++ifs->ifs_next;
	TAILQ_INSERT_TAIL(&ifs->ifs_list, ifp, if_link);
}

static struct ifnet *
if_alloc(struct stack *s)
{
	struct ifnet *ifp = calloc(1, sizeof(*ifp));

	if (ifp != NULL) {
		ifp->if_stack = s;
		LIST_INIT(&ifp->if_addrs);
		LIST_INIT(&ifp->if_multi);
		mbufq_init(&ifp->if_snd);
		ifp->if_sndmax = (uint32_t)s->s_if->ifs_sndmax;
	}
	return ifp;
}

static int
lo_attach(struct stack *s)
{
	union inaddr v4 = in_map4(htonl(INADDR_LOOPBACK));
	union inaddr v6 = { .ia_w = { 0, 0, 0, htonl(1) } };
	struct ifnet *ifp = if_alloc(s);
	int error;

	if (ifp == NULL) {
		return ENOMEM;
	}
	strcpy(ifp->if_name, "lo0");
	ifp->if_flags = IFF_UP_ | IFF_LOOPBACK_ | IFF_NOARP_;
	ifp->if_mtu = LOMTU;
	ifp->if_gsomax = LOMTU;
	ifp->if_caps = ~0u;
	ifp->if_output = looutput;
	if_insert(s->s_if, ifp);
	s->s_if->ifs_lo = ifp;
	error = if_addaddr(ifp, &v4, 8);
	return error != 0 ? error : if_addaddr(ifp, &v6, 128);
}

int
if_init(struct stack *s)
{
	struct ifnet_state *ifs = calloc(1, sizeof(*ifs));
	int error;

	if (ifs == NULL) {
		return ENOMEM;
	}
	TAILQ_INIT(&ifs->ifs_list);
	TAILQ_INIT(&ifs->ifs_dead);
	mbufq_init(&ifs->ifs_loq);
	s->s_if = ifs;
	error = sysctl_register(s, if_ctl, nitems(if_ctl), ifs);
	if (error == 0) {
		error = stat_register(s, if_stats, nitems(if_stats), ifs);
	}
	if (error == 0) {
		error = route_init(s);
	}
	if (error == 0) {
		error = arp_init(s);
	}
	return error != 0 ? error : lo_attach(s);
}

void
if_fini(struct stack *s)
{
	struct ifnet_state *ifs = s->s_if;
	struct ifnet *ifp;

	if (ifs == NULL) {
		return;
	}
	while ((ifp = TAILQ_FIRST(&ifs->ifs_list)) != NULL) {
		if (ifp == ifs->ifs_lo && TAILQ_NEXT(ifp, if_link) != NULL) {
			ifp = TAILQ_NEXT(ifp, if_link); /* lo0 goes last */
		}
		if_detach(ifp);
	}
	arp_fini(s);
	route_fini(s);
	in_flowfini(s);
	while ((ifp = TAILQ_FIRST(&ifs->ifs_dead)) != NULL) {
		TAILQ_REMOVE(&ifs->ifs_dead, ifp, if_link);
		free(ifp);
	}
	free(ifs);
	s->s_if = NULL;
}

/* "<kind><n>" after the port at the bottom of the wrappers. */
static void
if_autoname(struct stack *s, struct port *pt, char name[IFNAMSIZ_])
{
	unsigned unit = 0;

	while (pt->pt_lower != NULL) {
		pt = pt->pt_lower;
	}
	do {
		snprintf(name, IFNAMSIZ_, "%.5s%u", pt->pt_ops->po_name, unit++);
	} while (if_byname(s, name) != NULL);
}

/* -errno or 0; a port without the command answers -EOPNOTSUPP. */
static int
if_portctl(struct ifnet *ifp, int cmd, void *arg)
{
	const struct port_ops *ops = ifp->if_port->pt_ops;

	return ops->po_ctl != NULL ? ops->po_ctl(ifp->if_port, cmd, arg) :
				     -EOPNOTSUPP;
}

static int
if_portmulti(struct ifnet *ifp, int cmd, const union inaddr *group)
{
	uint8_t mac[ETHER_ADDR_LEN];
	int error;

	if (ifp->if_port == NULL || ifp->if_hdrlen == 0) {
		return 0;
	}
	ether_mapmulti(group, mac);
	error = if_portctl(ifp, cmd, mac);
	return error == -EOPNOTSUPP ? 0 : -error;
}

static void
if_portcaps(struct ifnet *ifp, struct port *pt)
{
	ifp->if_port = pt;
	ifp->if_mtu = u32min(pt->pt_mtu, IF_MAXMTU);
	ifp->if_caps = pt->pt_caps;
	ifp->if_hdrlen = pt->pt_link == PORT_ETHER ? ETHER_HDR_LEN : 0;
	if (pt->pt_gsomax > ifp->if_mtu + ifp->if_hdrlen) {
		ifp->if_gsomax =
		    u32min(pt->pt_gsomax - ifp->if_hdrlen, IF_MAXMTU);
	}
	memcpy(ifp->if_lladdr, pt->pt_mac, sizeof(ifp->if_lladdr));
	ifp->if_flags = IFF_UP_;
	if (pt->pt_link == PORT_ETHER) {
		ifp->if_flags |= IFF_BROADCAST_;
		ifp->if_output = ether_output;
	} else {
		ifp->if_flags |= IFF_NOARP_;
		ifp->if_output = rawip_output;
	}
}

int
if_attach(struct stack *s, struct port *pt, const char *name, struct ifnet **out)
{
	char text[IFNAMSIZ_];
	struct ifnet *ifp;
	int error;

	if (name == NULL || name[0] == '\0') {
		if_autoname(s, pt, text);
	} else if (strlen(name) >= sizeof(text)) {
		return ENAMETOOLONG;
	} else {
		strcpy(text, name);
	}
	if (pt->pt_mtu < IF_MINMTU) {
		return EINVAL;
	}
	if (if_byname(s, text) != NULL) {
		return EEXIST;
	}
	ifp = if_alloc(s);
	if (ifp == NULL) {
		return ENOMEM;
	}
	ifp->if_txv = calloc(PORT_BURST, sizeof(struct pkt *));
	if (ifp->if_txv == NULL) {
		free(ifp);
		return ENOMEM;
	}
	strcpy(ifp->if_name, text);
	if_portcaps(ifp, pt);
	if_insert(s->s_if, ifp);
	error = netisr_add_port(ifp);
	if (error == 0) {
		error = if_portmulti(ifp, PORT_CTL_MCAST_ADD, &if_allhosts4);
		if (error != 0) {
			netisr_del_port(ifp);
		}
	}
	if (error != 0) {
		TAILQ_REMOVE(&s->s_if->ifs_list, ifp, if_link);
		free(ifp->if_txv);
		free(ifp);
		return error;
	}
	*out = ifp;
	return 0;
}

int
if_attachlo(struct stack *s, struct port *pt, struct ifnet **out)
{
	struct ifnet *lo = s->s_if->ifs_lo;
	int error;

	if (lo == NULL || lo->if_port != NULL) {
		return EEXIST;
	}
	if (pt->pt_link != PORT_RAWIP || pt->pt_mtu < IF_MINMTU) {
		return EINVAL;
	}
	lo->if_txv = calloc(PORT_BURST, sizeof(struct pkt *));
	if (lo->if_txv == NULL) {
		return ENOMEM;
	}
	lo->if_port = pt;
	error = netisr_add_port(lo);
	if (error != 0) {
		lo->if_port = NULL;
		free(lo->if_txv);
		lo->if_txv = NULL;
		return error;
	}
	lo->if_mtu = u32min(pt->pt_mtu, LOMTU);
	*out = lo;
	return 0;
}

static int
if_deadoutput(struct ifnet *ifp, struct mbuf *m, const union inaddr *gw,
    struct rtentry *rt)
{
	(void)gw;
	(void)rt;
	ifp->if_stack->s_if->ifs_stat.ift_txdetached++;
	m_freem(m);
	return ENXIO;
}

void
if_detach(struct ifnet *ifp)
{
	struct stack *s = ifp->if_stack;
	struct ifaddr *ifa;
	struct ifmulti *ifma;

	if (ifp->if_port != NULL) {
		netisr_del_port(ifp);
	}
	arp_ifdetach(ifp);
	while ((ifa = LIST_FIRST(&ifp->if_addrs)) != NULL) {
		if_deladdr(ifp, &ifa->ifa_addr);
	}
	rt_ifdetach(ifp);
	while ((ifma = LIST_FIRST(&ifp->if_multi)) != NULL) {
		ifma->ifma_refs = 1;
		if_delmulti(ifp, &ifma->ifma_addr);
	}
	mbufq_drain(&ifp->if_snd);
	for (uint32_t i = 0; i < ifp->if_txn; i++) {
		pkt_free(ifp->if_txv[i]);
	}
	ifp->if_txn = 0;
	free(ifp->if_txv);
	ifp->if_txv = NULL;
	ifp->if_flags = 0;
	ifp->if_output = if_deadoutput;
	if (ifp->if_port != NULL) {
		ifp->if_port->pt_ops->po_close(ifp->if_port);
		ifp->if_port = NULL;
	}
	if (s->s_if->ifs_lo == ifp) {
		mbufq_drain(&s->s_if->ifs_loq);
		s->s_if->ifs_lo = NULL;
	}
	TAILQ_REMOVE(&s->s_if->ifs_list, ifp, if_link);
	TAILQ_INSERT_TAIL(&s->s_if->ifs_dead, ifp, if_link);
}

struct ifnet *
if_byindex(struct stack *s, uint32_t index)
{
	struct ifnet *ifp;

	TAILQ_FOREACH (ifp, &s->s_if->ifs_list, if_link) {
		if (ifp->if_index == index) {
			break;
		}
	}
	return ifp;
}

struct ifnet *
if_byname(struct stack *s, const char *name)
{
	struct ifnet *ifp;

	TAILQ_FOREACH (ifp, &s->s_if->ifs_list, if_link) {
		if (strcmp(ifp->if_name, name) == 0) {
			break;
		}
	}
	return ifp;
}

int
if_setflags(struct ifnet *ifp, uint32_t set, uint32_t clear)
{
	const uint32_t may = IFF_UP_ | IFF_PROMISC_ | IFF_ANYIP_ | IFF_NOARP_;
	uint32_t flags = (ifp->if_flags | set) & ~clear;
	int on = (flags & IFF_PROMISC_) != 0;

	if ((set | clear) & ~may) {
		return EINVAL;
	}
	if (((flags ^ ifp->if_flags) & IFF_PROMISC_) && ifp->if_port != NULL &&
	    ifp->if_hdrlen != 0) {
		int error = if_portctl(ifp, PORT_CTL_PROMISC, &on);

		if (error != 0 && error != -EOPNOTSUPP) {
			return -error;
		}
	}
	ifp->if_flags = flags;
	return 0;
}

int
if_setmtu(struct ifnet *ifp, uint32_t mtu)
{
	if (mtu < IF_MINMTU || mtu > IF_MAXMTU) {
		return EINVAL;
	}
	if (ifp->if_port != NULL && mtu != ifp->if_mtu) {
		int error = if_portctl(ifp, PORT_CTL_MTU, &mtu);

		/* A port that cannot change still carries shorter packets. */
		if (error != 0 &&
		    (error != -EOPNOTSUPP || mtu > ifp->if_port->pt_mtu)) {
			return error == -EOPNOTSUPP ? EINVAL : -error;
		}
	}
	ifp->if_mtu = mtu;
	return 0;
}

static union inaddr
ifa_broadcast(const union inaddr *a, unsigned plen)
{
	union inaddr b = *a;

	b.ia_w[3] |= htonl(UINT32_MAX >> (plen - IPV4_BITS));
	return b;
}

/* The connected prefix: unscoped for the first interface that has it. */
static int
ifa_addroute(struct ifaddr *ifa)
{
	struct ifnet *ifp = ifa->ifa_ifp;
	struct stack *s = ifp->if_stack;
	uint32_t flags = ifp->if_flags & IFF_LOOPBACK_ ? RTF_LOCAL : 0;
	int error;

	if (ifa->ifa_plen == 128) {
		return 0;
	}
	error = rt_add(s, &ifa->ifa_addr, ifa->ifa_plen, NULL, ifp, flags, NULL);
	if (error == EEXIST) {
		error = rt_add(s, &ifa->ifa_addr, ifa->ifa_plen, NULL, ifp,
		    flags | RTF_IFSCOPE, NULL);
	}
	return error == EEXIST ? 0 : error;
}

static struct ifaddr *
ifa_find(const struct ifnet *ifp, const union inaddr *a)
{
	struct ifaddr *ifa;

	LIST_FOREACH (ifa, &ifp->if_addrs, ifa_link) {
		if (in_eq(&ifa->ifa_addr, a)) {
			break;
		}
	}
	return ifa;
}

/* Behind the others: the first address is the one to be known by. */
static void
ifa_append(struct ifnet *ifp, struct ifaddr *ifa)
{
	struct ifaddr *last = LIST_FIRST(&ifp->if_addrs);

	if (last == NULL) {
		LIST_INSERT_HEAD(&ifp->if_addrs, ifa, ifa_link);
		return;
	}
	while (LIST_NEXT(last, ifa_link) != NULL) {
		last = LIST_NEXT(last, ifa_link);
	}
	LIST_INSERT_AFTER(last, ifa, ifa_link);
}

int
if_addaddr(struct ifnet *ifp, const union inaddr *a, unsigned plen)
{
	struct stack *s = ifp->if_stack;
	struct ifaddr *ifa;
	int error;

	if (plen > (in_is4(a) ? 32u : 128u) || in_isany(a) ||
	    in_ismulticast(a) || in_isbroadcast4(a)) {
		return EINVAL;
	}
	if (ifa_find(ifp, a) != NULL) {
		return EEXIST;
	}
	ifa = calloc(1, sizeof(*ifa));
	if (ifa == NULL) {
		return ENOMEM;
	}
	ifa->ifa_addr = *a;
	ifa->ifa_plen = (uint8_t)(in_is4(a) ? plen + IPV4_BITS : plen);
	ifa->ifa_ifp = ifp;
	if (in_is4(a) && plen <= 30 && (ifp->if_flags & IFF_BROADCAST_)) {
		ifa->ifa_broadaddr = ifa_broadcast(a, ifa->ifa_plen);
	}
	error = rt_add(s, a, 128, NULL, s->s_if->ifs_lo, RTF_LOCAL, NULL);
	if (error == 0 || error == EEXIST) {
		error = ifa_addroute(ifa);
	}
	if (error != 0) {
		if (ifa_ifwithaddr(s, a) == NULL) {
			rt_delete(s, a, 128, s->s_if->ifs_lo);
		}
		free(ifa);
		return error;
	}
	ifa_append(ifp, ifa);
	if (in_is4(a) && (ifp->if_flags & IFF_BROADCAST_) &&
	    !(ifp->if_flags & IFF_NOARP_)) {
		arp_ifannounce(ifp, a);
	}
	return 0;
}

int
if_deladdr(struct ifnet *ifp, const union inaddr *a)
{
	struct stack *s = ifp->if_stack;
	struct ifaddr *ifa = ifa_find(ifp, a), *other;
	struct ifnet *oifp;

	if (ifa == NULL) {
		return EADDRNOTAVAIL;
	}
	LIST_REMOVE(ifa, ifa_link);
	if (ifa_ifwithaddr(s, a) == NULL) {
		rt_delete(s, a, 128, s->s_if->ifs_lo);
	}
	rt_delete(s, a, ifa->ifa_plen, ifp);
	TAILQ_FOREACH (oifp, &s->s_if->ifs_list, if_link) {
		LIST_FOREACH (other, &oifp->if_addrs, ifa_link) {
			ifa_addroute(other); /* it may share the prefix */
		}
	}
	free(ifa);
	return 0;
}

struct ifaddr *
ifa_ifwithaddr(struct stack *s, const union inaddr *a)
{
	struct ifnet *ifp;
	struct ifaddr *ifa;

	TAILQ_FOREACH (ifp, &s->s_if->ifs_list, if_link) {
		ifa = ifa_find(ifp, a);
		if (ifa != NULL) {
			return ifa;
		}
	}
	/* RFC 1122 3.2.1.3 (g): all of 127/8 is ours. */
	if (in_is4(a) && in_isloopback(a) && s->s_if->ifs_lo != NULL) {
		LIST_FOREACH (ifa, &s->s_if->ifs_lo->if_addrs, ifa_link) {
			if (in_is4(&ifa->ifa_addr) &&
			    in_isloopback(&ifa->ifa_addr)) {
				return ifa;
			}
		}
	}
	return NULL;
}

bool
in_broadcast(const struct ifnet *ifp, const union inaddr *a)
{
	const struct ifaddr *ifa;

	if (!in_is4(a) || !(ifp->if_flags & IFF_BROADCAST_)) {
		return false;
	}
	if (in_isbroadcast4(a)) {
		return true;
	}
	LIST_FOREACH (ifa, &ifp->if_addrs, ifa_link) {
		if (in_eq(&ifa->ifa_broadaddr, a)) {
			return true;
		}
	}
	return false;
}

/* RFC 6724 3.1 and 3.2, as numbers that compare: the wider the larger. */
static int
in_scope(const union inaddr *a)
{
	if (in_is4(a)) {
		return in_isloopback(a) ||
			(a->ia_b[12] == 169 && a->ia_b[13] == 254) ?
		    2 :
		    14;
	}
	if (a->ia_b[0] == 0xff) {
		return a->ia_b[1] & 0xf;
	}
	return in_islinklocal6(a) || in_isloopback(a) ? 2 : 14;
}

/* Leading bits that a and b share, at most plen. */
static unsigned
in_matchlen(const union inaddr *a, const union inaddr *b, unsigned plen)
{
	unsigned n = 0;

	while (n < plen && a->ia_b[n / 8] == b->ia_b[n / 8]) {
		n += 8;
	}
	if (n < plen) {
		n += (unsigned)__builtin_clz((unsigned)(a->ia_b[n / 8] ^
			 b->ia_b[n / 8])) -
		    24;
	}
	return u32min(n, plen);
}

/* Rules 1 (the same), 2 (scope) and 8 (prefix) of RFC 6724 section 5. */
static bool
ifa_better(const struct ifaddr *x, const struct ifaddr *than,
    const union inaddr *dst)
{
	int sx, st, sd;

	if (than == NULL || in_eq(&x->ifa_addr, dst)) {
		return true;
	}
	if (in_eq(&than->ifa_addr, dst)) {
		return false;
	}
	sx = in_scope(&x->ifa_addr);
	st = in_scope(&than->ifa_addr);
	sd = in_scope(dst);
	if (sx != st) {
		return sx < st ? sx >= sd : st < sd;
	}
	return in_matchlen(&x->ifa_addr, dst, x->ifa_plen) >
	    in_matchlen(&than->ifa_addr, dst, than->ifa_plen);
}

struct ifaddr *
ifa_forsource(struct ifnet *ifp, const union inaddr *dst)
{
	struct ifaddr *ifa, *best = NULL;
	bool v4 = in_is4(dst);

	LIST_FOREACH (ifa, &ifp->if_addrs, ifa_link) {
		if (in_is4(&ifa->ifa_addr) == v4 &&
		    !(ifa->ifa_flags & (IFA_TENTATIVE | IFA_DUPLICATED)) &&
		    ifa_better(ifa, best, dst)) {
			best = ifa;
		}
	}
	return best;
}

static struct ifmulti *
ifma_find(const struct ifnet *ifp, const union inaddr *group)
{
	struct ifmulti *ifma;

	LIST_FOREACH (ifma, &ifp->if_multi, ifma_link) {
		if (in_eq(&ifma->ifma_addr, group)) {
			break;
		}
	}
	return ifma;
}

int
if_addmulti(struct ifnet *ifp, const union inaddr *group)
{
	struct ifmulti *ifma = ifma_find(ifp, group);
	int error;

	if (!in_ismulticast(group)) {
		return EINVAL;
	}
	if (ifma != NULL) {
		ifma->ifma_refs++;
		return 0;
	}
	ifma = calloc(1, sizeof(*ifma));
	if (ifma == NULL) {
		return ENOMEM;
	}
	error = if_portmulti(ifp, PORT_CTL_MCAST_ADD, group);
	if (error != 0) {
		free(ifma);
		return error;
	}
	ifma->ifma_addr = *group;
	ifma->ifma_refs = 1;
	LIST_INSERT_HEAD(&ifp->if_multi, ifma, ifma_link);
	return 0;
}

/* Does another joined group share the link address of this one? */
static bool
if_multishared(const struct ifnet *ifp, const struct ifmulti *than)
{
	uint8_t mac[ETHER_ADDR_LEN], other[ETHER_ADDR_LEN];
	const struct ifmulti *ifma;

	ether_mapmulti(&than->ifma_addr, mac);
	LIST_FOREACH (ifma, &ifp->if_multi, ifma_link) {
		ether_mapmulti(&ifma->ifma_addr, other);
		if (ifma != than && ether_eq(mac, other)) {
			return true;
		}
	}
	return false;
}

int
if_delmulti(struct ifnet *ifp, const union inaddr *group)
{
	struct ifmulti *ifma = ifma_find(ifp, group);
	int error = 0;

	if (ifma == NULL) {
		return EADDRNOTAVAIL;
	}
	if (--ifma->ifma_refs == 0) {
		if (!if_multishared(ifp, ifma)) {
			error = if_portmulti(ifp, PORT_CTL_MCAST_DEL, group);
		}
		LIST_REMOVE(ifma, ifma_link);
		free(ifma);
	}
	return error;
}

bool
if_hasmulti(const struct ifnet *ifp, const union inaddr *group)
{
	return in_eq(group, &if_allhosts4) || in_eq(group, &if_allnodes6) ||
	    ifma_find(ifp, group) != NULL;
}
