/*
 * if_ethersubr.c - Ethernet II frames: the checks at the door on the way in,
 * the link header on the way out.
 */
#include "bsdcore/net/ethernet.h"
#include "bsdcore/net/if.h"
#include "bsdcore/netinet/ip_var.h"

static const uint8_t ether_broadcast[ETHER_ADDR_LEN] = { 0xff, 0xff, 0xff, 0xff,
	0xff, 0xff };

void
ether_mapmulti(const union inaddr *group, uint8_t mac[6])
{
	if (in_is4(group)) {
		mac[0] = 0x01;
		mac[1] = 0x00;
		mac[2] = 0x5e;
		mac[3] = group->ia_b[13] & 0x7f;
		mac[4] = group->ia_b[14];
		mac[5] = group->ia_b[15];
	} else {
		mac[0] = 0x33;
		mac[1] = 0x33;
		memcpy(mac + 2, group->ia_b + 12, 4);
	}
}

/* Does a group joined on ifp, or one that everybody is in, have this address? */
static bool
ether_member(const struct ifnet *ifp, const uint8_t dst[ETHER_ADDR_LEN])
{
	static const uint8_t allhosts[] = { 0x01, 0x00, 0x5e, 0, 0, 1 };
	static const uint8_t allnodes[] = { 0x33, 0x33, 0, 0, 0, 1 };
	uint8_t mac[ETHER_ADDR_LEN];
	const struct ifmulti *ifma;

	if (ether_eq(dst, allhosts) || ether_eq(dst, allnodes)) {
		return true;
	}
	LIST_FOREACH (ifma, &ifp->if_multi, ifma_link) {
		ether_mapmulti(&ifma->ifma_addr, mac);
		if (ether_eq(dst, mac)) {
			return true;
		}
	}
	return false;
}

/* Is the frame for us? Sets M_BCAST, M_MCAST or M_PROMISC. */
static bool
ether_accept(struct ifnet *ifp, struct mbuf *m, const struct ether_header *eh)
{
	struct ifstat *st = &ifp->if_stack->s_if->ifs_stat;
	bool promisc = (ifp->if_flags & IFF_PROMISC_) != 0;

	m->m_flags &= (uint16_t)~(M_BCAST | M_MCAST | M_PROMISC | M_LOOP);
	if (ether_ismulticast(eh->ether_shost)) {
		st->ift_ethsrc++;
		ifp->if_data.ierrors++;
		return false;
	}
	if (ether_eq(eh->ether_dhost, ifp->if_lladdr)) {
		return true;
	}
	if (ether_isbroadcast(eh->ether_dhost)) {
		m->m_flags |= M_BCAST;
		return true;
	}
	if (ether_ismulticast(eh->ether_dhost)) {
		ifp->if_data.imcasts++;
		if (!promisc && !ether_member(ifp, eh->ether_dhost)) {
			st->ift_ethmcast++;
			return false;
		}
		m->m_flags |= M_MCAST;
		return true;
	}
	if (!promisc) {
		st->ift_ethdst++;
		return false;
	}
	m->m_flags |= M_PROMISC;
	return true;
}

void
ether_input(struct ifnet *ifp, struct mbuf *m)
{
	struct stack *s = ifp->if_stack;
	struct ifstat *st = &s->s_if->ifs_stat;
	const struct ether_header *eh;
	unsigned type;

	if (m->m_pkthdr.len < ETHER_HDR_LEN) {
		st->ift_ethshort++;
		ifp->if_data.ierrors++;
		m_freem(m);
		return;
	}
	if (m->m_len < ETHER_HDR_LEN &&
	    (m = m_pullup(m, ETHER_HDR_LEN)) == NULL) {
		st->ift_ethnobufs++;
		return;
	}
	eh = mtod(m, const struct ether_header *);
	if (!ether_accept(ifp, m, eh)) {
		m_freem(m);
		return;
	}
	type = be16get(eh->ether_type);
	if (type == ETHERTYPE_ARP) {
		arp_input(ifp, m); /* looks at the link header too */
		return;
	}
	m->m_data += ETHER_HDR_LEN;
	m->m_len -= ETHER_HDR_LEN;
	m->m_pkthdr.len -= ETHER_HDR_LEN;
	m->m_pkthdr.l3off = 0;
	switch (type) {
	case ETHERTYPE_IP:
		ip_input(s, m);
		break;
	case ETHERTYPE_IPV6:
		ip6_input(s, m);
		break;
	default:
		st->ift_ethproto++;
		ifp->if_data.noproto++;
		m_freem(m);
		break;
	}
}

int
ether_frame(struct ifnet *ifp, struct mbuf *m, const uint8_t dst[6],
    uint16_t type)
{
	struct ether_header *eh;

	if (M_LEADINGSPACE(m) >= ETHER_HDR_LEN) {
		m->m_data -= ETHER_HDR_LEN;
		m->m_len += ETHER_HDR_LEN;
		m->m_pkthdr.len += ETHER_HDR_LEN;
	} else {
		m = m_prepend(m, ETHER_HDR_LEN);
		if (m == NULL) {
			ifp->if_stack->s_if->ifs_stat.ift_ethnobufs++;
			return ENOBUFS;
		}
	}
	eh = mtod(m, struct ether_header *);
	memcpy(eh->ether_dhost, dst, ETHER_ADDR_LEN);
	memcpy(eh->ether_shost, ifp->if_lladdr, ETHER_ADDR_LEN);
	be16put(eh->ether_type, type);
	return if_enqueue(ifp, m);
}

int
ether_output(struct ifnet *ifp, struct mbuf *m, const union inaddr *gw,
    struct rtentry *rt)
{
	uint8_t mac[ETHER_ADDR_LEN];
	int error;

	(void)rt;
	if (in_ismulticast(gw)) {
		m->m_flags |= M_MCAST;
		ether_mapmulti(gw, mac);
	} else if (in_broadcast(ifp, gw)) {
		m->m_flags |= M_BCAST;
		memcpy(mac, ether_broadcast, sizeof(mac));
	} else {
		error = arp_resolve(ifp, gw, m, mac);
		if (error != 0) {
			return error == EJUSTRETURN_ ? 0 : error;
		}
	}
	return ether_frame(ifp, m, mac,
	    in_is4(gw) ? ETHERTYPE_IP : ETHERTYPE_IPV6);
}
