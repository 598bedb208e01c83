/*
 * in_pcb.h - the network half of an Internet socket: addresses, ports, lookup.
 */
#ifndef BSDCORE_NETINET_IN_PCB_H
#define BSDCORE_NETINET_IN_PCB_H

#include "bsdcore/net/route.h"
#include "bsdcore/netinet/in.h"
#include "bsdcore/sys/socketvar.h"

struct ip_moptions;		/* netinet/in_mcast.c */

struct inpcb {
	LIST_ENTRY(inpcb) inp_hash;	/* by 4-tuple, connected ones */
	LIST_ENTRY(inpcb) inp_porthash;	/* by local port, all bound ones */
	LIST_ENTRY(inpcb) inp_list;
	struct inpcbinfo *inp_info;
	struct socket	*inp_socket;
	void		*inp_ppcb;	/* struct tcpcb; NULL for UDP */
	union inaddr	 inp_laddr, inp_faddr;
	uint16_t	 inp_lport, inp_fport;	/* host order; 0 unset */
	uint32_t	 inp_flags;	/* INP_* */
	uint32_t	 inp_scope;	/* interface of a link-local peer, or SO_BINDTODEVICE */
	uint32_t	 inp_flowid;
	uint8_t		 inp_tos, inp_ttl, inp_mttl;
	bool		 inp_inhash, inp_inporthash;
	int8_t		 inp_hops6;	/* -1: default */
	uint8_t		 inp_tclass6;
	uint8_t		 inp_proto;	/* raw sockets */
	struct route	 inp_route;
	struct ip_moptions *inp_moptions;
	struct mbuf	*inp_options;	/* IPv4 options to send */
	uint32_t	 inp_icmp6filt[8];
};

/* inp_flags */
#define INP_V6ONLY 0x0001
#define INP_HDRINCL 0x0002
#define INP_RECVTTL 0x0004
#define INP_RECVTOS 0x0008
#define INP_PKTINFO 0x0010
#define INP_RECVERR 0x0020
#define INP_PMTUDISC_DO 0x0040	/* DF set, EMSGSIZE when too long */
#define INP_PMTUDISC_DONT 0x0080
#define INP_ANYIP 0x0100
#define INP_RECVPKTINFO6 0x0200
#define INP_RECVHOPS6 0x0400
#define INP_RECVTCLASS6 0x0800
#define INP_FREEBIND 0x1000
#define INP_MLOOP 0x2000	/* loop multicast back; default on */
#define INP_RECVORIGDST 0x4000
#define INP_RECVRTHDR6 0x8000
#define INP_RECVHOPOPTS6 0x10000
#define INP_RECVDSTOPTS6 0x20000

struct inpcbinfo {
	struct stack	*ipi_stack;
	LIST_HEAD(inpcbhead, inpcb) ipi_list;
	struct inpcbhead *ipi_hash;	/* ipi_mask + 1 chains; grows */
	struct inpcbhead *ipi_porthash;	/* 1 << 10 chains */
	uint32_t	 ipi_mask;
	uint32_t	 ipi_count;
	const struct netns_ops *ipi_netns;	/* port namespace handed in, or NULL */
	void		*ipi_netns_arg;
	int64_t		 ipi_portfirst, ipi_portlast;	/* net.inet.ip.portrange.* */
	uint8_t		 ipi_ipproto;
};

/* Port reservations shared with another stack over the same addresses. */
struct netns_ops {
	int	(*reserve)(void *arg, uint8_t proto, const union inaddr *laddr,
		    uint16_t port, bool exclusive);	/* 0, EADDRINUSE */
	void	(*release)(void *arg, uint8_t proto, const union inaddr *laddr,
		    uint16_t port);
};

struct inpcbinfo *in_pcbinfo_new(struct stack *s, uint8_t ipproto);
void in_pcbinfo_free(struct inpcbinfo *ipi);

int in_pcballoc(struct socket *so, struct inpcbinfo *ipi, struct inpcb **out);
void in_pcbfree(struct inpcb *inp);	/* unbinds, leaves groups, frees */
/* Linux rules of SO_REUSEADDR and SO_REUSEPORT. port 0: random free one
 * (RFC 6056). EADDRINUSE, EADDRNOTAVAIL, EINVAL already bound, EACCES never. */
int in_pcbbind(struct inpcb *inp, const struct sockaddr *sa, socklen_t len);
/* Choose the source address and port, check the 4-tuple is free, hash it. */
int in_pcbconnect(struct inpcb *inp, const struct sockaddr *sa,
    socklen_t len);
void in_pcbdisconnect(struct inpcb *inp);	/* UDP: back to unconnected */
/* A child of a listener: set both ends and hash. */
int in_pcbsetpair(struct inpcb *inp, const union inaddr *laddr,
    uint16_t lport, const union inaddr *faddr, uint16_t fport);
/* Exact 4-tuple, then (wildcard) best listener: specific address before any;
 * an IPv6 wildcard without V6ONLY serves IPv4 peers too; INP_ANYIP last. */
struct inpcb *in_pcblookup(struct inpcbinfo *ipi, const union inaddr *faddr,
    uint16_t fport, const union inaddr *laddr, uint16_t lport, bool wildcard,
    const struct ifnet *ifp);
/* Call fn for every pcb that an ICMP error about (laddr, faddr) concerns. */
void in_pcbnotifyall(struct inpcbinfo *ipi, const union inaddr *faddr,
    int error, void (*fn)(struct inpcb *, int));
/* Addresses for getsockname/getpeername: inp's socket family decides. */
int in_setsockaddr(struct socket *so, struct sockaddr_storage *ss,
    socklen_t *len);
int in_setpeeraddr(struct socket *so, struct sockaddr_storage *ss,
    socklen_t *len);	/* ENOTCONN */

static inline struct inpcb *
sotoinpcb(const struct socket *so)
{
	return so->so_pcb;
}

/* The addresses of an incoming packet, m_data at its IP header (in.c). */
void in_pktaddrs(const struct mbuf *m, union inaddr *src, union inaddr *dst);

#endif
