/*
 * in_pcb.h - the network half of an Internet socket: addresses, ports, lookup.
 */
#ifndef BSDCORE_NETINET_IN_PCB_H
#define BSDCORE_NETINET_IN_PCB_H

#include "bsdcore/net/route.h"
#include "bsdcore/netinet/in.h"
#include "bsdcore/sys/socketvar.h"

struct ip_moptions; /* netinet/in_mcast.c */
struct portres;	    /* netinet/in_flow.h */

struct inpcb {
	LIST_ENTRY(inpcb) inp_hash;	/* by 4-tuple, connected ones */
	LIST_ENTRY(inpcb) inp_porthash; /* on a list of inp_port */
	LIST_ENTRY(inpcb) inp_list;
	LIST_ENTRY(inpcb) inp_wait; /* fl_waiting */
	struct inpcbinfo *inp_info;
	struct socket *inp_socket;
	void *inp_ppcb;		  /* struct tcpcb; NULL for UDP */
	struct inpport *inp_port; /* set while it has a local port */
	struct portres *inp_res;  /* and what holds it among other stacks */
	union inaddr inp_laddr, inp_faddr;
	uint16_t inp_lport, inp_fport; /* host order; 0 unset */
	uint32_t inp_flags;	       /* INP_* */
	uint32_t inp_scope; /* interface of a link-local peer, or SO_BINDTODEVICE */
	uint32_t inp_flowid;
	uint8_t inp_tos, inp_ttl, inp_mttl;
	bool inp_inhash, inp_inporthash;
	bool inp_attached; /* inp_flowid is the namespace's */
	bool inp_waiting;  /* on fl_waiting */
	int16_t inp_hops6; /* -1: default */
	uint8_t inp_tclass6;
	uint8_t inp_proto; /* raw sockets */
	uint16_t inp_gso;  /* UDP_SEGMENT: payload bytes per datagram, 0 off */
	int16_t inp_cksumoff; /* raw IPv6: IPV6_CHECKSUM, -1 none */
	struct route inp_route;
	union inaddr inp_autodst, inp_autosrc; /* last source chosen, */
	uint32_t inp_autogen; /* while inp_route is of this generation */
	struct ip_moptions *inp_moptions;
	struct mbuf *inp_options; /* IPv4 options to send */
	uint32_t inp_icmp4filt;	  /* raw ICMP: types not wanted */
	uint32_t inp_icmp6filt[8];
};

/* inp_flags */
#define INP_V6ONLY 0x0001
#define INP_HDRINCL 0x0002
#define INP_RECVTTL 0x0004
#define INP_RECVTOS 0x0008
#define INP_PKTINFO 0x0010
#define INP_RECVERR 0x0020
#define INP_PMTUDISC_DO 0x0040 /* DF set, EMSGSIZE when too long */
#define INP_PMTUDISC_DONT 0x0080
#define INP_ANYIP 0x0100
#define INP_RECVPKTINFO6 0x0200
#define INP_RECVHOPS6 0x0400
#define INP_RECVTCLASS6 0x0800
#define INP_FREEBIND 0x1000
#define INP_MLOOP 0x2000 /* loop multicast back; default on */
#define INP_RECVORIGDST 0x4000
#define INP_RECVRTHDR6 0x8000
#define INP_RECVHOPOPTS6 0x10000
#define INP_RECVDSTOPTS6 0x20000
#define INP_BOUNDADDR 0x40000 /* the user chose inp_laddr */
#define INP_BOUNDPORT 0x80000 /* the user chose inp_lport */
#define INP_PMTUDISC_PROBE 0x100000
#define INP_RECVOPTS 0x200000
#define INP_MCASTALL 0x400000 /* groups somebody else joined too; default on */
#define INP_DONTFRAG6 0x800000
#define INP_NOPORT 0x1000000 /* IP_BIND_ADDRESS_NO_PORT */
#define INP_RECVPATHMTU6 0x2000000
#define INP_BOUNDMANY 0x4000000 /* inp_laddr is no source: broadcast, group */

LIST_HEAD(inpcbhead, inpcb);

/* A local port in use. */
struct inpport {
	LIST_ENTRY(inpport) pp_link;
	struct inpcbhead pp_bound; /* not connected: lookups by port see these */
	struct inpcbhead pp_conn;  /* connected: only bind() asks for these */
	uint16_t pp_port;
	bool pp_shared; /* connect() chose it: other 4-tuples may join */
};
LIST_HEAD(inpporthead, inpport);

/* A bind() without SO_REUSE* that found no free port. */
struct inpfull {
	uint64_t if_gen; /* ipi_gen then; 0 never */
	union inaddr if_laddr;
	uint32_t if_first, if_last; /* the range */
	int if_family;
	bool if_v6only;
};

struct inpcbinfo {
	struct stack *ipi_stack;
	struct inpcbhead ipi_list;
	struct inpcbhead *ipi_hash;	  /* ipi_mask + 1 chains; grows */
	struct inpporthead *ipi_porthash; /* IN_NPORTHASH chains */
	uint32_t ipi_mask;
	uint32_t ipi_count;
	uint32_t ipi_nconn; /* pcbs in ipi_hash */
	uint64_t ipi_secret[3];
	uint64_t ipi_used[1024]; /* a bit for every port that has a struct inpport */
	uint64_t ipi_gen; /* changes when a local address or port is given up */
	uint64_t ipi_probes; /* looks at ports, or 64 at once, by bind() to port 0 */
	struct inpfull ipi_full;
	uint8_t ipi_ipproto;
};
#define IN_NPORTHASH 1024u

struct inpcbinfo *in_pcbinfo_new(struct stack *s, uint8_t ipproto);
void in_pcbinfo_free(struct inpcbinfo *ipi);

int in_pcballoc(struct socket *so, struct inpcbinfo *ipi, struct inpcb **out);
void in_pcbfree(struct inpcb *inp); /* unbinds, leaves groups, frees */
/* Linux rules of SO_REUSEADDR and SO_REUSEPORT. port 0: random free one
 * (RFC 6056). EADDRINUSE, EADDRNOTAVAIL, EINVAL already bound, EACCES never. */
int in_pcbbind(struct inpcb *inp, const struct sockaddr *sa, socklen_t len);
/* Choose the source address and port, check the 4-tuple is free, hash it. */
int in_pcbconnect(struct inpcb *inp, const struct sockaddr *sa, socklen_t len);
void in_pcbdisconnect(struct inpcb *inp); /* UDP: back to unconnected */
/* listen(): binds first if need be; EADDRINUSE if another socket, let in by
 * SO_REUSEADDR, listens there already. Call before SOO_ACCEPTCONN is set. */
int in_pcblisten(struct inpcb *inp);
/* A child of a listener: set both ends and hash. */
int in_pcbsetpair(struct inpcb *inp, const union inaddr *laddr, uint16_t lport,
    const union inaddr *faddr, uint16_t fport);
/* Exact 4-tuple, then (wildcard) best listener: specific address before any;
 * an IPv6 wildcard without V6ONLY serves IPv4 peers too; INP_ANYIP last. */
struct inpcb *in_pcblookup(struct inpcbinfo *ipi, const union inaddr *faddr,
    uint16_t fport, const union inaddr *laddr, uint16_t lport, bool wildcard,
    const struct ifnet *ifp);
/* The users of a local port; NULL: none. */
struct inpport *in_pcbport(const struct inpcbinfo *ipi, uint16_t port);
/* May a packet to laddr that came in by ifp (NULL any) go to this unconnected
 * pcb? 0 no; the more the better it fits. */
int in_pcbscore(const struct inpcb *inp, const union inaddr *laddr,
    const struct ifnet *ifp);
/* Call fn for every pcb that an ICMP error about (laddr, faddr) concerns. */
void in_pcbnotifyall(struct inpcbinfo *ipi, const union inaddr *faddr,
    int error, void (*fn)(struct inpcb *, int));
/* Addresses for getsockname/getpeername: inp's socket family decides. */
int in_setsockaddr(struct socket *so, struct sockaddr_storage *ss,
    socklen_t *len);
int in_setpeeraddr(struct socket *so, struct sockaddr_storage *ss,
    socklen_t *len); /* ENOTCONN */

static inline bool
in_pcbconnected(const struct inpcb *inp)
{
	return !in_isany(&inp->inp_faddr);
}

/* The interface packets have to use, 0 any. */
static inline uint32_t
in_pcbscope(const struct inpcb *inp)
{
	return inp->inp_socket->so_boundif != 0 ? inp->inp_socket->so_boundif :
						  inp->inp_scope;
}

/* Has it no source address of its own? */
static inline bool
in_pcbnosource(const struct inpcb *inp)
{
	return in_isany(&inp->inp_laddr) || (inp->inp_flags & INP_BOUNDMANY);
}

static inline struct inpcb *
sotoinpcb(const struct socket *so)
{
	return so->so_pcb;
}

/* The addresses of an incoming packet, m_data at its IP header (in.c). */
void in_pktaddrs(const struct mbuf *m, union inaddr *src, union inaddr *dst);

#endif
