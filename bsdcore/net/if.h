/*
 * if.h - network interfaces and their addresses.
 */
#ifndef BSDCORE_NET_IF_H
#define BSDCORE_NET_IF_H

#include "bsdcore/netinet/in.h"
#include "bsdcore/netinet/in_tclass.h"
#include "bsdcore/sys/mbuf.h"
#include "bsdcore/sys/stack.h"
#include "bsdcore/sys/systm.h"
#include "nic/port.h"

struct rtentry;

struct ifaddr {
	LIST_ENTRY(ifaddr) ifa_link;
	union inaddr ifa_addr;
	union inaddr ifa_broadaddr; /* IPv4 directed broadcast, else any */
	uint8_t ifa_plen; /* bits of the 128-bit mapped form: IPv4 /24 is 120 */
	uint8_t ifa_flags; /* IFA_* */
	struct ifnet *ifa_ifp;
};
#define IFA_TENTATIVE 0x1
#define IFA_DUPLICATED 0x2

struct ifmulti {
	LIST_ENTRY(ifmulti) ifma_link;
	union inaddr ifma_addr;
	uint32_t ifma_refs;
};

/* if_flags */
#define IFF_UP_ 0x1
#define IFF_LOOPBACK_ 0x2
#define IFF_BROADCAST_ 0x4
#define IFF_PROMISC_ 0x8 /* takes frames for any link address (gateway) */
#define IFF_ANYIP_ 0x10	 /* takes packets for any IP address (gateway) */
#define IFF_NOARP_ 0x20

#define IFNAMSIZ_ 16

struct ifnet {
	TAILQ_ENTRY(ifnet) if_link;
	struct stack *if_stack;
	struct port *if_port; /* NULL: lo0, unless it leads to other stacks */
	char if_name[IFNAMSIZ_];
	uint32_t if_index; /* from 1 */
	uint32_t if_flags;
	uint32_t if_mtu;
	uint32_t if_gsomax; /* longest IP packet to hand down as one, 0: no TSO */
	uint32_t if_caps;   /* PORT_* of the port; lo0: all */
	uint8_t if_lladdr[6];
	uint8_t if_hdrlen; /* 14 or 0 */
	LIST_HEAD(, ifaddr) if_addrs;
	LIST_HEAD(, ifmulti) if_multi;
	/* Takes an IP packet and the next hop; consumes m. errno or 0;
	 * ENOBUFS when the queue is full. */
	int (*if_output)(struct ifnet *, struct mbuf *m, const union inaddr *gw,
	    struct rtentry *rt);
	struct mbufq if_snd; /* frames for the port */
	uint32_t if_sndmax;
	bool if_txblocked;   /* the port took less than offered */
	struct pkt **if_txv; /* burst not taken yet */
	uint32_t if_txn;
	struct ifqos if_qos;
	struct {
		uint64_t ipackets, ibytes, ierrors, iqdrops, noproto;
		uint64_t opackets, obytes, oerrors, oqdrops, collisions;
		uint64_t imcasts, omcasts;
	} if_data;
};

/* Counters of the whole link side: "if.*", "ether.*". */
struct ifstat {
	uint64_t ift_rxmerged, ift_txgso, ift_txblocked, ift_looped;
	uint64_t ift_rxnobufs, ift_rxdown, ift_rxerror, ift_rxversion;
	uint64_t ift_txdown, ift_txfull, ift_txnobufs, ift_txerror, ift_txmeta;
	uint64_t ift_txdetached;
	uint64_t ift_lomissed;
	uint64_t ift_lofull, ift_loreject;
	uint64_t ift_ethshort, ift_ethsrc, ift_ethdst, ift_ethmcast;
	uint64_t ift_ethproto, ift_ethnobufs, ift_ethnomac;
};

struct ifnet_state {
	TAILQ_HEAD(, ifnet) ifs_list;
	TAILQ_HEAD(, ifnet)
	ifs_dead; /* detached; packets may still name them */
	struct ifnet *ifs_lo;
	struct mbufq ifs_loq; /* lo0's packets on their way up */
	uint32_t ifs_next;
	struct arp_state *ifs_arp; /* netinet/if_ether.c */
	int64_t ifs_burst;	   /* net.link.burst: packets per input round */
	int64_t ifs_sndmax;	   /* net.link.ifqmaxlen */
	struct ifstat ifs_stat;
};

int if_init(struct stack *s); /* makes lo0, 127.0.0.1/8 and ::1/128 */
void if_fini(struct stack *s);
/* Other stacks over the same addresses are behind pt, a raw IP port: what nobody
 * here wants of lo0's packets goes there (lomiss), what comes from it comes in by lo0. */
int if_attachlo(struct stack *s, struct port *pt, struct ifnet **out);
/* name NULL: "<port kind><n>", e.g. en0. own: close the port with us. */
int if_attach(struct stack *s, struct port *pt, const char *name,
    struct ifnet **out);
void if_detach(struct ifnet *ifp);
struct ifnet *if_byindex(struct stack *s, uint32_t index);
struct ifnet *if_byname(struct stack *s, const char *name);
int if_setflags(struct ifnet *ifp, uint32_t set, uint32_t clear);
int if_setmtu(struct ifnet *ifp, uint32_t mtu);
/* plen in bits of the family (0..32 or 0..128). Adds the connected route. */
int if_addaddr(struct ifnet *ifp, const union inaddr *a, unsigned plen);
int if_deladdr(struct ifnet *ifp, const union inaddr *a);
/* Is it one of ours (any interface)? NULL no. */
struct ifaddr *ifa_ifwithaddr(struct stack *s, const union inaddr *a);
/* Directed or limited broadcast on ifp? */
bool in_broadcast(const struct ifnet *ifp, const union inaddr *a);
/* The source address for dst out of ifp (RFC 6724 rules as far as they
 * apply); NULL: ifp has none of the family. */
struct ifaddr *ifa_forsource(struct ifnet *ifp, const union inaddr *dst);
int if_addmulti(struct ifnet *ifp, const union inaddr *group);
int if_delmulti(struct ifnet *ifp, const union inaddr *group);
bool if_hasmulti(const struct ifnet *ifp, const union inaddr *group);

/* if_port.c: bursts from and to the port. true: more may be there. */
bool if_input_poll(struct ifnet *ifp);
void if_start(struct ifnet *ifp); /* push if_snd down; not while if_txblocked */
void if_restart(struct ifnet *ifp); /* the port may have room again */
int if_enqueue(struct ifnet *ifp, struct mbuf *frame); /* consumes; ENOBUFS */
/* All interfaces: used by stack_leave and netisr. */
void if_flush(struct stack *s); /* lo0's queue up, every if_snd down */
bool if_poll_all(struct stack *s);
/* When ifp wants to be run: its port's time, its queue, or a retry. */
uint64_t if_poll_at(struct ifnet *ifp);

/* Doors. All consume m. */
void ether_input(struct ifnet *ifp, struct mbuf *m);
int ether_output(struct ifnet *ifp, struct mbuf *m, const union inaddr *gw,
    struct rtentry *rt);
int rawip_output(struct ifnet *ifp, struct mbuf *m, const union inaddr *gw,
    struct rtentry *rt);
int looutput(struct ifnet *ifp, struct mbuf *m, const union inaddr *gw,
    struct rtentry *rt);
/* A packet to ourselves that nobody here waits for, m_data at the IP header: to
 * the other stacks, if there are any. Consumes m if it answers true. */
bool lomiss(struct stack *s, struct mbuf *m);
void arp_input(struct ifnet *ifp, struct mbuf *m);
/* Resolve gw on ifp: 0 and mac filled; EJUSTRETURN_: m is held until an answer
 * comes (or dropped later, telling the sender EHOSTUNREACH); else errno, m freed. */
int arp_resolve(struct ifnet *ifp, const union inaddr *gw, struct mbuf *m,
    uint8_t mac[6]);
/* The same for somebody who keeps the packet: EINPROGRESS, asked for. */
int arp_query(struct ifnet *ifp, const union inaddr *gw, uint8_t mac[6]);
void arp_ifannounce(struct ifnet *ifp, const union inaddr *a);
void arp_ifdetach(struct ifnet *ifp);
/* A permanent entry (both families). EINVAL: no unicast addresses. */
int arp_setstatic(struct ifnet *ifp, const union inaddr *a,
    const uint8_t mac[6]);
struct arp_entry {
	union inaddr ae_addr;
	uint8_t ae_mac[6];
	int ae_state; /* of struct bsd_arpinfo */
	struct ifnet *ae_ifp;
};
/* fn answers false to stop. */
void arp_walk(struct stack *s, bool (*fn)(const struct arp_entry *, void *),
    void *arg);
/* Link addresses of groups: RFC 1112 6.4, RFC 2464 7. */
void ether_mapmulti(const union inaddr *group, uint8_t mac[6]);
/* Put the link header before an IP packet and queue it. Consumes m. */
int ether_frame(struct ifnet *ifp, struct mbuf *m, const uint8_t dst[6],
    uint16_t type);
int arp_init(struct stack *s);
void arp_fini(struct stack *s);
#define EJUSTRETURN_ (-2)

#endif
