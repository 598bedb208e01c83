/*
 * if_ether.c - ARP: which link address a neighbour has (RFC 826, RFC 1122
 * 2.3.2, RFC 5227).
 *
 * An entry is INCOMPLETE while it is asked for, once a second; packets wait in
 * it. Answered, it is REACHABLE. In use, it is confirmed by unicast requests
 * every arp_llreach_base seconds (REFRESH), using the old address meanwhile;
 * unused for max_age seconds it is removed. Without an answer it is DOWN for
 * host_down_time: the packets that waited are given back to their senders as
 * EHOSTUNREACH, new ones are refused at once.
 *
 * What is heard is believed as RFC 826 says: an existing entry is updated by
 * any ARP packet, a new one is made only for who asks for us. Nothing is
 * believed about our own addresses: that is a conflict, counted and, at most
 * every ten seconds, answered by announcing ours (RFC 5227 2.4 (b)).
 *
 * Neighbours of IPv6 have permanent entries only.
 */
#include "bsdcore/net/ethernet.h"
#include "bsdcore/net/if.h"
#include "bsdcore/netinet/in_flow.h"
#include "bsdcore/netinet/ip_var.h"
#include "bsdcore/sys/callout.h"
#include "bsdcore/sys/protosw.h"
#include "bsdcore/sys/sysctl.h"

#define ARP_HASH 256u
#define ARP_RETRY NSEC_PER_SEC /* RFC 1122 2.3.2.1: at most 1 a second */
#define ARP_DEFEND (10 * NSEC_PER_SEC) /* RFC 5227 DEFEND_INTERVAL */

enum lle_state {
	LLE_INCOMPLETE,
	LLE_REACHABLE,
	LLE_REFRESH,
	LLE_DOWN,
	LLE_PERMANENT
};

struct llentry {
	LIST_ENTRY(llentry) lle_link;
	struct ifnet *lle_ifp;
	union inaddr lle_addr;
	uint8_t lle_mac[ETHER_ADDR_LEN];
	enum lle_state lle_state;
	uint32_t lle_asked;	/* requests since the last answer */
	uint64_t lle_used;	/* last packet sent to it */
	uint64_t lle_confirmed; /* last heard of */
	uint64_t lle_until;	/* LLE_DOWN: when it may be asked again */
	struct callout lle_timer;
	struct mbufq lle_hold;
};

struct arpstat {
	uint64_t txrequests, txurequests, txreplies, txannounces;
	uint64_t received, rxrequests, rxreplies;
	uint64_t dupips, txconflicts, timeouts, purged, held, inuse;
	uint64_t badlen, badproto, badsender, invalidreqs, unsolicited;
	uint64_t holdfull, holdtotal, unreach, down, nosource, noneighbour;
	uint64_t reqnobufs, tablefull, permanent;
};

struct arp_state {
	LIST_HEAD(lle_head, llentry) as_hash[ARP_HASH];
	struct llentry *as_last; /* of the last packet sent */
	uint32_t as_nheld;
	uint64_t as_defended; /* when, 0 never */
	int64_t as_maxage, as_downtime, as_reachbase, as_unicastlim;
	int64_t as_maxtries, as_maxhold, as_maxholdtotal, as_maxentries;
	struct arpstat as_stat;
};

/* clang-format off */
#define CTL(name, field) "net.link.ether.inet." name, offsetof(struct arp_state, field)
static const struct sysctl_def arp_ctl[] = {
	{ CTL("max_age", as_maxage), 1200, 1, 86400, "s; an unused entry is removed (XNU)" },
	{ CTL("host_down_time", as_downtime), 20, 0, 3600, "s; silent neighbours are not asked (XNU)" },
	{ CTL("arp_llreach_base", as_reachbase), 120, 1, 86400, "s between confirmations while in use (XNU)" },
	{ CTL("arp_unicast_lim", as_unicastlim), 3, 0, 100, "confirmations asked by unicast (XNU)" },
	{ CTL("maxtries", as_maxtries), 5, 1, 100, "requests before a neighbour is down (XNU)" },
	{ CTL("maxhold", as_maxhold), 16, 1, 1024, "packets that wait for one answer (XNU)" },
	{ CTL("maxhold_total", as_maxholdtotal), 1024, 1, 65536, "packets that wait in all (XNU)" },
	{ CTL("maxentries", as_maxentries), 4096, 1, 1 << 20, "entries in all" },
};
#undef CTL

#define ST(name, field) { "arp." name, offsetof(struct arp_state, as_stat.field) }
static const struct stat_def arp_stats[] = {
	ST("txrequests", txrequests),
	ST("txurequests", txurequests),
	ST("txreplies", txreplies),
	ST("txannounces", txannounces),
	ST("txconflicts", txconflicts),
	ST("received", received),
	ST("rxrequests", rxrequests),
	ST("rxreplies", rxreplies),
	ST("dupips", dupips),
	ST("timeouts", timeouts),
	ST("purged", purged),
	ST("held", held),
	ST("inuse", inuse),
	ST("drop.badlen", badlen),
	ST("drop.badproto", badproto),
	ST("drop.badsender", badsender),
	ST("drop.invalidreqs", invalidreqs),
	ST("drop.unsolicited", unsolicited),
	ST("drop.permanent", permanent),
	ST("drop.holdfull", holdfull),
	ST("drop.holdtotal", holdtotal),
	ST("drop.unreach", unreach),
	ST("drop.down", down),
	ST("drop.nosource", nosource),
	ST("drop.noneighbour", noneighbour),
	ST("drop.reqnobufs", reqnobufs),
	ST("drop.tablefull", tablefull),
};
#undef ST
/* clang-format on */

static void lle_timeout(struct stack *, void *);

static struct arp_state *
arp_of(const struct ifnet *ifp)
{
	return ifp->if_stack->s_if->ifs_arp;
}

int
arp_init(struct stack *s)
{
	struct arp_state *as;
	int error;

	if (s->s_if->ifs_arp != NULL) {
		return 0;
	}
	as = calloc(1, sizeof(*as));
	if (as == NULL) {
		return ENOMEM;
	}
	s->s_if->ifs_arp = as;
	error = sysctl_register(s, arp_ctl, nitems(arp_ctl), as);
	return error != 0 ? error :
			    stat_register(s, arp_stats, nitems(arp_stats), as);
}

static struct lle_head *
lle_bucket(struct arp_state *as, const struct ifnet *ifp, const union inaddr *a)
{
	uint64_t h = (a->ia_q[0] ^ a->ia_q[1]) + ifp->if_index;

	/* A secret multiplier: neighbours do not choose the chain. */
	h *= ifp->if_stack->s_key[2] | 1;
	return &as->as_hash[h >> 56];
}

static struct llentry *
lle_lookup(struct ifnet *ifp, const union inaddr *a)
{
	struct arp_state *as = arp_of(ifp);
	struct llentry *le = as->as_last;

	if (le != NULL && le->lle_ifp == ifp && in_eq(&le->lle_addr, a)) {
		return le;
	}
	LIST_FOREACH (le, lle_bucket(as, ifp, a), lle_link) {
		if (le->lle_ifp == ifp && in_eq(&le->lle_addr, a)) {
			as->as_last = le;
			break;
		}
	}
	return le;
}

static void
lle_dropheld(struct llentry *le)
{
	arp_of(le->lle_ifp)->as_nheld -= le->lle_hold.mq_len;
	mbufq_drain(&le->lle_hold);
}

static void
lle_free(struct llentry *le)
{
	struct stack *s = le->lle_ifp->if_stack;
	struct arp_state *as = s->s_if->ifs_arp;

	if (as->as_last == le) {
		as->as_last = NULL;
	}
	in_flowevent(s);
	lle_dropheld(le);
	callout_drain(s, &le->lle_timer);
	callout_reserve(s, -1);
	LIST_REMOVE(le, lle_link);
	as->as_stat.inuse--;
	free(le);
}

/* Make room: of the answered entries, the one not used for longest. */
static bool
lle_evict(struct arp_state *as)
{
	struct llentry *le, *victim = NULL;

	for (unsigned i = 0; i < ARP_HASH; i++) {
		LIST_FOREACH (le, &as->as_hash[i], lle_link) {
			if ((le->lle_state == LLE_REACHABLE ||
				le->lle_state == LLE_DOWN) &&
			    (victim == NULL || le->lle_used < victim->lle_used)) {
				victim = le;
			}
		}
	}
	if (victim == NULL) {
		return false;
	}
	as->as_stat.purged++;
	lle_free(victim);
	return true;
}

static struct llentry *
lle_new(struct ifnet *ifp, const union inaddr *a, enum lle_state state)
{
	struct stack *s = ifp->if_stack;
	struct arp_state *as = arp_of(ifp);
	struct llentry *le;

	if (as->as_stat.inuse >= (uint64_t)as->as_maxentries && !lle_evict(as)) {
		as->as_stat.tablefull++;
		return NULL;
	}
	le = calloc(1, sizeof(*le));
	if (le == NULL) {
		return NULL;
	}
	if (callout_reserve(s, 1) != 0) {
		free(le);
		return NULL;
	}
	le->lle_ifp = ifp;
	le->lle_addr = *a;
	le->lle_state = state;
	le->lle_used = s->s_now;
	callout_init(&le->lle_timer, lle_timeout, le);
	mbufq_init(&le->lle_hold);
	LIST_INSERT_HEAD(lle_bucket(as, ifp, a), le, lle_link);
	as->as_stat.inuse++;
	return le;
}

void
arp_ifdetach(struct ifnet *ifp)
{
	struct arp_state *as = arp_of(ifp);
	struct llentry *le, *next;

	for (unsigned i = 0; as != NULL && i < ARP_HASH; i++) {
		for (le = LIST_FIRST(&as->as_hash[i]); le != NULL; le = next) {
			next = LIST_NEXT(le, lle_link);
			if (le->lle_ifp == ifp) {
				lle_free(le);
			}
		}
	}
}

void
arp_fini(struct stack *s)
{
	struct arp_state *as = s->s_if->ifs_arp;

	if (as != NULL) {
		KASSERT(as->as_stat.inuse == 0);
		free(as);
		s->s_if->ifs_arp = NULL;
	}
}

/* One ARP packet. sip, tip: IPv4 in network order. */
static bool
arp_send(struct ifnet *ifp, unsigned op, uint32_t sip,
    const uint8_t tha[ETHER_ADDR_LEN], uint32_t tip,
    const uint8_t dst[ETHER_ADDR_LEN])
{
	struct mbuf *m = m_gethdr(ifp->if_stack->s_mb, MT_HEADER);
	struct ether_arp *ea;

	if (m == NULL) {
		arp_of(ifp)->as_stat.reqnobufs++;
		return false;
	}
	m->m_data += MAX_HDR;
	m->m_len = m->m_pkthdr.len = sizeof(*ea);
	if (ether_ismulticast(dst)) {
		m->m_flags |= M_BCAST;
	}
	ea = mtod(m, struct ether_arp *);
	be16put(ea->ar_hrd, ARPHRD_ETHER_);
	be16put(ea->ar_pro, ETHERTYPE_IP);
	ea->ar_hln = ETHER_ADDR_LEN;
	ea->ar_pln = 4;
	be16put(ea->ar_op, (uint16_t)op);
	memcpy(ea->arp_sha, ifp->if_lladdr, ETHER_ADDR_LEN);
	memcpy(ea->arp_spa, &sip, 4);
	memcpy(ea->arp_tha, tha, ETHER_ADDR_LEN);
	memcpy(ea->arp_tpa, &tip, 4);
	return ether_frame(ifp, m, dst, ETHERTYPE_ARP) == 0;
}

static const uint8_t arp_nobody[ETHER_ADDR_LEN];
static const uint8_t arp_everybody[ETHER_ADDR_LEN] = { 0xff, 0xff, 0xff, 0xff,
	0xff, 0xff };

/* Ask for le, by unicast if it is only to be confirmed. */
static void
arp_request(struct llentry *le)
{
	struct ifnet *ifp = le->lle_ifp;
	struct arp_state *as = arp_of(ifp);
	struct ifaddr *ifa = ifa_forsource(ifp, &le->lle_addr);
	bool unicast = le->lle_state == LLE_REFRESH &&
	    le->lle_asked < (uint64_t)as->as_unicastlim;

	le->lle_asked++;
	callout_reset(ifp->if_stack, &le->lle_timer,
	    ifp->if_stack->s_now + ARP_RETRY);
	if (ifa == NULL) {
		as->as_stat.nosource++;
		return;
	}
	if (unicast) {
		as->as_stat.txurequests++;
	} else {
		as->as_stat.txrequests++;
	}
	arp_send(ifp, ARPOP_REQUEST_, ifa->ifa_addr.ia_w[3], arp_nobody,
	    le->lle_addr.ia_w[3], unicast ? le->lle_mac : arp_everybody);
}

void
arp_ifannounce(struct ifnet *ifp, const union inaddr *a)
{
	arp_of(ifp)->as_stat.txannounces++;
	arp_send(ifp, ARPOP_REQUEST_, a->ia_w[3], arp_nobody, a->ia_w[3],
	    arp_everybody);
}

/*
 * Tell the sender of a held packet that its neighbour does not answer: our own
 * transport directly, somebody else by ICMP (RFC 1812 5.2.7.1). Consumes m,
 * which starts at its IP header.
 */
static void
arp_unreach(struct ifnet *ifp, struct mbuf *m)
{
	struct stack *s = ifp->if_stack;
	const struct protosw *pr;
	struct ctlparam cp = { 0 };
	union inaddr src, dst;
	uint32_t hlen;

	arp_of(ifp)->as_stat.unreach++;
	if (m->m_pkthdr.rcvif != NULL) {
		icmp_error(s, m, 3, 1, 0);
		return;
	}
	m = m_pullup(m, 20);
	if (m == NULL) {
		return;
	}
	hlen = (uint32_t)(*mtod(m, uint8_t *) & 0xf) << 2;
	if (m->m_pkthdr.len >= hlen + 8 && (m = m_pullup(m, hlen + 8)) != NULL) {
		in_pktaddrs(m, &src, &dst);
		pr =
		    &inetdomain.dom_protosw[s->s_ip_protox[mtod(m, uint8_t *)[9]]];
		cp.cp_laddr = &src;
		cp.cp_faddr = &dst;
		cp.cp_th = mtod(m, uint8_t *) + hlen;
		cp.cp_thlen = m->m_len - hlen;
		cp.cp_icmp_type = 3;
		cp.cp_icmp_code = 1;
		cp.cp_offender = &src;
		if (pr->pr_ctlinput != NULL) {
			pr->pr_ctlinput(s, PRC_UNREACH_HOST, &cp);
		}
	}
	m_freem(m);
}

/* Nobody answers. What waited goes back, in order; the entry is down. */
static void
lle_down(struct stack *s, struct llentry *le)
{
	struct arp_state *as = s->s_if->ifs_arp;
	struct ifnet *ifp = le->lle_ifp;
	struct mbufq held;
	struct mbuf *m;

	as->as_stat.timeouts++;
	in_flowevent(s);
	le->lle_state = LLE_DOWN;
	le->lle_asked = 0;
	le->lle_until = s->s_now + (uint64_t)as->as_downtime * NSEC_PER_SEC;
	callout_reset(s, &le->lle_timer,
	    le->lle_until + (uint64_t)as->as_maxage * NSEC_PER_SEC);
	mbufq_init(&held);
	while ((m = mbufq_get(&le->lle_hold)) != NULL) {
		mbufq_put(&held, m);
		as->as_nheld--;
	}
	/* What the senders do may change the table: le is not used again. */
	while ((m = mbufq_get(&held)) != NULL) {
		arp_unreach(ifp, m);
	}
}

static void
lle_timeout(struct stack *s, void *arg)
{
	struct llentry *le = arg;
	struct arp_state *as = s->s_if->ifs_arp;
	uint64_t age = (uint64_t)as->as_maxage * NSEC_PER_SEC;

	switch (le->lle_state) {
	case LLE_INCOMPLETE:
	case LLE_REFRESH:
		if (le->lle_asked < (uint64_t)as->as_maxtries) {
			arp_request(le);
		} else {
			lle_down(s, le);
		}
		break;
	case LLE_REACHABLE:
		if (s->s_now < le->lle_used + age) {
			callout_reset(s, &le->lle_timer, le->lle_used + age);
			break;
		}
		/* FALLTHROUGH */
	case LLE_DOWN:
		as->as_stat.purged++;
		lle_free(le);
		break;
	case LLE_PERMANENT:
		break;
	}
}

/* Let m wait in le. */
static int
arp_hold(struct arp_state *as, struct llentry *le, struct mbuf *m)
{
	if (le->lle_hold.mq_len >= (uint64_t)as->as_maxhold) {
		m_freem(mbufq_get(&le->lle_hold)); /* the latest counts most */
		as->as_nheld--;
		as->as_stat.holdfull++;
	} else if (as->as_nheld >= (uint64_t)as->as_maxholdtotal) {
		as->as_stat.holdtotal++;
		m_freem(m);
		return ENOBUFS;
	}
	mbufq_put(&le->lle_hold, m);
	as->as_nheld++;
	as->as_stat.held++;
	return EJUSTRETURN_;
}

/* An address without a usable entry: start asking (EINPROGRESS), or refuse. */
static int
arp_miss(struct ifnet *ifp, const union inaddr *gw, struct llentry **lep)
{
	struct arp_state *as = arp_of(ifp);
	struct llentry *le = *lep;

	if (!in_is4(gw) || (ifp->if_flags & IFF_NOARP_)) {
		as->as_stat.noneighbour++;
		return EHOSTUNREACH;
	}
	if (le == NULL) {
		*lep = le = lle_new(ifp, gw, LLE_INCOMPLETE);
		if (le == NULL) {
			return ENOBUFS;
		}
		arp_request(le);
	} else if (le->lle_state == LLE_DOWN) {
		if (ifp->if_stack->s_now < le->lle_until) {
			as->as_stat.down++;
			return EHOSTUNREACH;
		}
		le->lle_state = LLE_INCOMPLETE;
		arp_request(le);
	}
	return EINPROGRESS;
}

/* 0 and *mac, or why not; EINPROGRESS: *lep is asked for. */
static int
arp_find(struct ifnet *ifp, const union inaddr *gw, struct llentry **lep,
    uint8_t mac[6])
{
	struct stack *s = ifp->if_stack;
	struct arp_state *as = arp_of(ifp);
	struct llentry *le = *lep = lle_lookup(ifp, gw);

	if (le == NULL || le->lle_state == LLE_INCOMPLETE ||
	    le->lle_state == LLE_DOWN) {
		return arp_miss(ifp, gw, lep);
	}
	memcpy(mac, le->lle_mac, ETHER_ADDR_LEN);
	le->lle_used = s->s_now;
	if (le->lle_state == LLE_REACHABLE &&
	    s->s_now - le->lle_confirmed >=
		(uint64_t)as->as_reachbase * NSEC_PER_SEC) {
		le->lle_state = LLE_REFRESH;
		le->lle_asked = 0;
		arp_request(le);
	}
	return 0;
}

int
arp_resolve(struct ifnet *ifp, const union inaddr *gw, struct mbuf *m,
    uint8_t mac[6])
{
	struct llentry *le;
	int error = arp_find(ifp, gw, &le, mac);

	if (error == EINPROGRESS) {
		return arp_hold(arp_of(ifp), le, m);
	}
	if (error != 0) {
		m_freem(m);
	}
	return error;
}

int
arp_query(struct ifnet *ifp, const union inaddr *gw, uint8_t mac[6])
{
	struct llentry *le;

	return arp_find(ifp, gw, &le, mac);
}

/* le has this link address: send what waited for it. */
static void
lle_answered(struct stack *s, struct llentry *le,
    const uint8_t mac[ETHER_ADDR_LEN])
{
	struct arp_state *as = s->s_if->ifs_arp;
	struct ifnet *ifp = le->lle_ifp;
	struct mbuf *m;

	if ((le->lle_state != LLE_REACHABLE && le->lle_state != LLE_REFRESH) ||
	    !ether_eq(le->lle_mac, mac)) {
		in_flowevent(s);
	}
	memcpy(le->lle_mac, mac, ETHER_ADDR_LEN);
	le->lle_state = LLE_REACHABLE;
	le->lle_asked = 0;
	le->lle_confirmed = s->s_now;
	callout_reset(s, &le->lle_timer,
	    s->s_now + (uint64_t)as->as_maxage * NSEC_PER_SEC);
	while ((m = mbufq_get(&le->lle_hold)) != NULL) {
		as->as_nheld--;
		le->lle_used = s->s_now;
		ether_frame(ifp, m, mac, ETHERTYPE_IP);
	}
}

/* Copy the ARP part out; false: dropped and counted. */
static bool
arp_parse(struct ifnet *ifp, const struct mbuf *m, struct ether_arp *ea)
{
	struct arpstat *st = &arp_of(ifp)->as_stat;

	if (m->m_pkthdr.len < ETHER_HDR_LEN + sizeof(*ea)) {
		st->badlen++;
		return false;
	}
	m_copydata(m, ETHER_HDR_LEN, sizeof(*ea), ea);
	if (be16get(ea->ar_hrd) != ARPHRD_ETHER_ ||
	    be16get(ea->ar_pro) != ETHERTYPE_IP ||
	    ea->ar_hln != ETHER_ADDR_LEN || ea->ar_pln != 4) {
		st->badproto++;
		return false;
	}
	if (ether_ismulticast(ea->arp_sha) || ether_eq(ea->arp_sha, arp_nobody) ||
	    ether_eq(ea->arp_sha, ifp->if_lladdr)) {
		st->badsender++;
		return false;
	}
	return true;
}

/* Somebody else uses our address. */
static void
arp_conflict(struct ifnet *ifp, const union inaddr *a)
{
	struct stack *s = ifp->if_stack;
	struct arp_state *as = arp_of(ifp);

	as->as_stat.dupips++;
	if (as->as_defended == 0 || s->s_now - as->as_defended >= ARP_DEFEND) {
		as->as_defended = s->s_now;
		as->as_stat.txconflicts++;
		arp_ifannounce(ifp, a);
	}
}

static bool
arp_ours(const struct ifnet *ifp, const union inaddr *a)
{
	const struct ifaddr *ifa;

	LIST_FOREACH (ifa, &ifp->if_addrs, ifa_link) {
		if (in_eq(&ifa->ifa_addr, a)) {
			return !(ifa->ifa_flags &
			    (IFA_TENTATIVE | IFA_DUPLICATED));
		}
	}
	return false;
}

/* Is a on a network of ifp's? */
static bool
arp_onlink(const struct ifnet *ifp, const union inaddr *a)
{
	const struct ifaddr *ifa;

	LIST_FOREACH (ifa, &ifp->if_addrs, ifa_link) {
		uint64_t differ = ntohl(a->ia_w[3] ^ ifa->ifa_addr.ia_w[3]);

		if (in_is4(&ifa->ifa_addr) &&
		    differ >> (128 - ifa->ifa_plen) == 0) {
			return true;
		}
	}
	return (ifp->if_flags & IFF_ANYIP_) != 0;
}

/* RFC 826: what the packet says about its sender. forus: it asks for us. */
static void
arp_learn(struct ifnet *ifp, const union inaddr *sip,
    const uint8_t sha[ETHER_ADDR_LEN], bool forus)
{
	struct arpstat *st = &arp_of(ifp)->as_stat;
	struct llentry *le = lle_lookup(ifp, sip);

	if (le == NULL) {
		if (!forus || !arp_onlink(ifp, sip)) {
			return;
		}
		le = lle_new(ifp, sip, LLE_REACHABLE);
		if (le == NULL) {
			return;
		}
	}
	if (le->lle_state == LLE_PERMANENT) {
		st->permanent += !ether_eq(le->lle_mac, sha);
		return;
	}
	lle_answered(ifp->if_stack, le, sha);
}

void
arp_input(struct ifnet *ifp, struct mbuf *m)
{
	struct arpstat *st = &arp_of(ifp)->as_stat;
	struct ether_arp ea;
	union inaddr sip, tip;
	uint32_t v4[2];
	bool request, ours, probe;

	st->received++;
	if (!arp_parse(ifp, m, &ea)) {
		m_freem(m);
		return;
	}
	m_freem(m);
	memcpy(&v4[0], ea.arp_spa, 4);
	memcpy(&v4[1], ea.arp_tpa, 4);
	sip = in_map4(v4[0]);
	tip = in_map4(v4[1]);
	request = be16get(ea.ar_op) == ARPOP_REQUEST_;
	probe = v4[0] == 0; /* RFC 5227 2.1.1 */
	if ((!request && be16get(ea.ar_op) != ARPOP_REPLY_) ||
	    in_ismulticast(&sip) || in_broadcast(ifp, &sip) ||
	    in_isloopback(&sip) || (probe && !request)) {
		st->invalidreqs++;
		return;
	}
	if (arp_ours(ifp, &sip)) {
		arp_conflict(ifp, &sip);
		return;
	}
	/* A gateway that takes any address answers for all but those that the
	 * asker has, wants (a probe) or announces. */
	ours = arp_ours(ifp, &tip) ||
	    ((ifp->if_flags & IFF_ANYIP_) && !probe && v4[0] != v4[1] &&
		!in_isany(&tip) && !in_ismulticast(&tip));
	if (request) {
		st->rxrequests++;
	} else {
		st->rxreplies++;
		if (lle_lookup(ifp, &sip) == NULL) {
			st->unsolicited++;
			return;
		}
	}
	if (!probe) {
		arp_learn(ifp, &sip, ea.arp_sha, request && ours);
	}
	if (request && ours && !(ifp->if_flags & IFF_NOARP_)) {
		st->txreplies++;
		arp_send(ifp, ARPOP_REPLY_, v4[1], ea.arp_sha, v4[0],
		    ea.arp_sha);
	}
}

int
arp_setstatic(struct ifnet *ifp, const union inaddr *a, const uint8_t mac[6])
{
	struct llentry *le;

	if (in_ismulticast(a) || in_isany(a) || ether_ismulticast(mac) ||
	    ifp->if_hdrlen == 0) {
		return EINVAL;
	}
	le = lle_lookup(ifp, a);
	if (le == NULL) {
		le = lle_new(ifp, a, LLE_PERMANENT);
		if (le == NULL) {
			return ENOBUFS;
		}
	}
	lle_answered(ifp->if_stack, le, mac);
	le->lle_state = LLE_PERMANENT;
	callout_stop(&le->lle_timer);
	return 0;
}

/* As struct bsd_arpinfo has it: 0 incomplete, 1 reachable, 2 stale, 3 permanent. */
static int
lle_shown(const struct llentry *le)
{
	switch (le->lle_state) {
	case LLE_REACHABLE:
		return 1;
	case LLE_REFRESH:
		return 2;
	case LLE_PERMANENT:
		return 3;
	default:
		return 0;
	}
}

void
arp_walk(struct stack *s, bool (*fn)(const struct arp_entry *, void *),
    void *arg)
{
	struct arp_state *as = s->s_if->ifs_arp;
	struct llentry *le;

	for (unsigned i = 0; i < ARP_HASH; i++) {
		LIST_FOREACH (le, &as->as_hash[i], lle_link) {
			struct arp_entry ae = { .ae_addr = le->lle_addr,
				.ae_state = lle_shown(le),
				.ae_ifp = le->lle_ifp };

			memcpy(ae.ae_mac, le->lle_mac, ETHER_ADDR_LEN);
			if (!fn(&ae, arg)) {
				return;
			}
		}
	}
}
