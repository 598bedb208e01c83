/*
 * ip_var.h - the doors of IP and its state, for both families.
 *
 * Transports never build an IP header: they hand ip_output() a packet that
 * starts at the transport header, with MAX_HDR bytes of leading space in the
 * first mbuf, and say what the header shall hold.
 */
#ifndef BSDCORE_NETINET_IP_VAR_H
#define BSDCORE_NETINET_IP_VAR_H

#include "bsdcore/net/route.h"
#include "bsdcore/netinet/in.h"

struct inpcb;
struct ip_moptions;
struct mbuf;
struct socket;
struct sockopt;

struct ip_outargs {
	const union inaddr *ioa_src, *ioa_dst;	/* one family; src may be any */
	struct route	*ioa_route;	/* pcb's cache, or NULL */
	struct ip_moptions *ioa_moptions;
	struct mbuf	*ioa_options;	/* IPv4 options, or NULL; not consumed */
	uint32_t	 ioa_scope;	/* ifindex the packet must leave by, 0 any */
	uint32_t	 ioa_flags;	/* IP_* below */
	uint8_t		 ioa_proto, ioa_ttl, ioa_tos;
};
#define IPO_DF 0x1		/* do not fragment; EMSGSIZE instead */
#define IPO_BCAST 0x2		/* SO_BROADCAST is set */
#define IPO_ROUTETOIF 0x4	/* SO_DONTROUTE */
#define IPO_RAW 0x8		/* m already starts with its IP header (IP_HDRINCL) */
#define IPO_FREEBIND 0x10	/* the source need not be ours (gateway) */
#define IPO_NOMLOOP 0x20

/* Consumes m. errno: EMSGSIZE, EHOSTUNREACH, ENETUNREACH, ENOBUFS, EACCES
 * (broadcast), EADDRNOTAVAIL. csum_flags CSUM_PARTIAL with csum_start 0 =
 * start of the transport header; ip_output moves it past the IP header. */
int ip_output(struct stack *s, struct mbuf *m, const struct ip_outargs *ioa);
/* Which source address and interface a packet to dst would have. */
int ip_route_src(struct stack *s, const union inaddr *dst, uint32_t scope,
    struct route *ro, union inaddr *src, struct ifnet **ifp);
/* Path MTU to dst: the interface's, the route's, 0 unreachable. */
uint32_t ip_pathmtu(struct stack *s, struct route *ro,
    const union inaddr *dst, uint32_t scope, struct ifnet **ifp);

/* Consumes m; m_data at the IP header. */
void ip_input(struct stack *s, struct mbuf *m);		/* IPv4 */
void ip6_input(struct stack *s, struct mbuf *m);
void icmp_input(struct stack *s, struct mbuf *m, int off);
void udp_input(struct stack *s, struct mbuf *m, int off);
void rip_input(struct stack *s, struct mbuf *m, int off);

/* An ICMP error about m (v4; v6 through icmp6_error), rate-limited; consumes
 * m. type, code in ICMPv4 terms. mtu for "fragmentation needed". */
void icmp_error(struct stack *s, struct mbuf *m, int type, int code,
    uint32_t mtu);

/* The folded, uncomplemented pseudo-header sum (RFC 9293 3.1, RFC 8200 8.1). */
uint16_t in_pseudo(const union inaddr *src, const union inaddr *dst,
    uint8_t proto, uint32_t len);
/* Is the transport checksum of a received packet right? Looks at csum_flags
 * first. off: bytes before the transport header; len: its bytes. */
bool in_cksum_ok(const struct mbuf *m, int off, uint32_t len, uint8_t proto);

/* Finish CSUM_PARTIAL in software and clear it (lo0 never needs it). */
void in_delayed_cksum(struct mbuf *m);

int ip_init(struct stack *s);
void ip_fini(struct stack *s);
void ip_drain(struct stack *s);

/* IP level socket options for every Internet protocol (ip_output.c, in_mcast.c):
 * IPPROTO_IP and IPPROTO_IPV6. */
int ip_ctloutput(struct socket *so, struct sockopt *sopt);
/* What IP_RECVTTL, IP_PKTINFO, ... asked for, as cmsgs; NULL none. */
struct mbuf *ip_savecontrol(struct inpcb *inp, const struct mbuf *m);
void ip_freemoptions(struct inpcb *inp);
/* Does a multicast datagram to dst on ifp from src concern this socket? */
bool ip_mcast_wanted(const struct inpcb *inp, const struct ifnet *ifp,
    const union inaddr *dst, const union inaddr *src);

#endif
