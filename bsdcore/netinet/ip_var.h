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
#include "bsdcore/sys/protosw.h"
#include "bsdcore/sys/sysctl.h"

struct inpcb;
struct ip;
struct ip_moptions;
struct mbuf;
struct socket;
struct sockopt;

struct ip_stat { /* ip.* and ip6.*; drops name their reason */
	uint64_t ips_total, ips_delivered, ips_forwarded, ips_redirectsent;
	uint64_t ips_tooshort, ips_badvers, ips_badhlen, ips_badsum;
	uint64_t ips_badlen, ips_badsrc, ips_martian, ips_linkbcast;
	uint64_t ips_srcroute, ips_badoption, ips_notours, ips_promisc;
	uint64_t ips_mcastnotours, ips_noproto, ips_ttl, ips_noroute;
	uint64_t ips_cantforward, ips_nomem, ips_toolong;
	uint64_t ips_fragments, ips_reassembled, ips_fragbad;
	uint64_t ips_fragoverlap, ips_fragtoomany, ips_fragfull;
	uint64_t ips_fragtimeout, ips_fragdrained, ips_fragdup;
	uint64_t ips_localout, ips_rawout, ips_ofragments, ips_cantfrag;
	uint64_t ips_onoroute, ips_onosrc, ips_ofailed, ips_hdrinclbad;
	uint64_t ips6_total, ips6_delivered, ips6_tooshort, ips6_badvers;
	uint64_t ips6_badlen, ips6_badsrc, ips6_notours, ips6_badext;
	uint64_t ips6_fragments, ips6_noproto, ips6_localout;
	uint64_t ips6_onoroute, ips6_nomem, ips6_linkbcast;
	uint64_t ips6_optdrop;
};

struct ipq;
TAILQ_HEAD(ipqhead, ipq);
#define IP_NREASSHASH 64u

struct ip_state {
	int64_t ips_forwarding; /* net.inet.ip.forwarding */
	int64_t ips_sendredirects;
	int64_t ips_ttl;
	int64_t ips_portfirst, ips_portlast;
	int64_t ips_maxfrags;	    /* fragments of one packet */
	int64_t ips_maxfragpackets; /* packets being put together */
	int64_t ips_maxfragbytes;   /* memory they may hold */
	int64_t ips_maxfragsrc;	    /* packets of one source */
	int64_t ips_fragttl;	    /* ns */
	int64_t ips_maxmemberships; /* groups of one socket */
	uint64_t ips_idctr;	    /* IP ids, with the keyed hash */
	struct ipqhead ips_reass[IP_NREASSHASH];
	struct ipqhead ips_reassage; /* the oldest first */
	uint32_t ips_nreass;
	uint32_t ips_reassbytes;
	struct callout ips_reasstimer;
	struct ip_stat ips_stat;
};

struct ip_outargs {
	const union inaddr *ioa_src, *ioa_dst; /* one family; src may be any */
	struct route *ioa_route;	       /* pcb's cache, or NULL */
	struct ip_moptions *ioa_moptions;
	struct mbuf *ioa_options; /* IPv4 options, or NULL; not consumed */
	uint32_t ioa_scope;	  /* ifindex the packet must leave by, 0 any */
	uint32_t ioa_flags;	  /* IP_* below */
	uint8_t ioa_proto, ioa_ttl, ioa_tos;
};
#define IPO_DF 0x1	  /* do not fragment; EMSGSIZE instead */
#define IPO_BCAST 0x2	  /* SO_BROADCAST is set */
#define IPO_ROUTETOIF 0x4 /* SO_DONTROUTE */
#define IPO_RAW 0x8	  /* m already starts with its IP header (IP_HDRINCL) */
#define IPO_FREEBIND 0x10 /* the source need not be ours (gateway) */
#define IPO_NOMLOOP 0x20
#define IPO_PMTU 0x40  /* DF set if it fits, else fragments */
#define IPO_PROBE 0x80 /* with IPO_DF: the interface's MTU, not the path's */

/* Consumes m. errno: EMSGSIZE, EHOSTUNREACH, ENETUNREACH, ENOBUFS, EACCES
 * (broadcast), EADDRNOTAVAIL. csum_flags CSUM_PARTIAL with csum_start 0 =
 * start of the transport header; ip_output moves it past the IP header. */
int ip_output(struct stack *s, struct mbuf *m, const struct ip_outargs *ioa);
/* Which source address and interface a packet to dst would have. */
int ip_route_src(struct stack *s, const union inaddr *dst, uint32_t scope,
    struct route *ro, union inaddr *src, struct ifnet **ifp);
/* Path MTU to dst: the interface's, the route's, 0 unreachable. */
uint32_t ip_pathmtu(struct stack *s, struct route *ro, const union inaddr *dst,
    uint32_t scope, struct ifnet **ifp);

/* Consumes m; m_data at the IP header. */
void ip_input(struct stack *s, struct mbuf *m); /* IPv4 */
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

/* A copy to every raw socket it concerns; does not consume m. Was there one? */
bool rip_deliver(struct stack *s, const struct mbuf *m, int off, uint8_t proto);
void udp_ctlinput(struct stack *s, int cmd, const struct ctlparam *cp);
void rip_ctlinput(struct stack *s, int cmd, const struct ctlparam *cp);
void ping_ctlinput(struct stack *s, int cmd, const struct ctlparam *cp);

/* The rows of both families' protocols (in_proto.c). */
extern const struct protosw inetsw[];
uint8_t in_protorow(uint8_t proto);

/* Inside IP. All consume m. */
/* A fragment: the whole packet once the last of it is here, else NULL. */
struct mbuf *ip_reass(struct stack *s, struct mbuf *m);
void ip_reass_init(struct stack *s);
void ip_reass_drain(struct stack *s); /* forget every unfinished packet */
void ip_forward(struct stack *s, struct mbuf *m);
/* The complete IPv4 packet m, header checksum not yet made, to ifp: cut into
 * pieces of mtu if need be. */
int ip_transmit(struct stack *s, struct ifnet *ifp, struct mbuf *m,
    const union inaddr *gw, struct rtentry *rt, uint32_t mtu);
/* An address of our own to send from: dst over ifp. */
bool ip_source(struct stack *s, struct ifnet *ifp, const union inaddr *dst,
    union inaddr *src);
/* For callers without a struct route: errno. ro may be NULL. */
int ip_route(struct stack *s, struct route *ro, const union inaddr *dst,
    uint32_t scope, struct rtentry **rt, struct ifnet **ifp);
void ip_fillsum(struct ip *ip); /* the header checksum */
uint16_t ip_newid(struct stack *s, uint32_t src, uint32_t dst, uint8_t proto);
/* A copy of m, complete with IP header, comes back in as if from ifp. */
void ip_loopback(struct stack *s, struct ifnet *ifp, const struct mbuf *m);

/* What a datagram's control messages and its socket ask for. */
struct ip_sendopts {
	union inaddr is_src; /* any: as the socket has it */
	uint32_t is_scope;   /* 0: as the socket has it */
	int is_ttl, is_tos;  /* -1: as the socket has it */
	int is_svc;	     /* SVC_*, -1: as the socket has it */
	uint16_t is_gso;     /* UDP_SEGMENT */
};
/* EINVAL for a malformed message or a source that is not ours. Does not
 * consume control. */
int ip_getcontrol(const struct inpcb *inp, const struct mbuf *control,
    struct ip_sendopts *is);
/* What a datagram to dst would have as its source, through inp's cache. */
int ip_pcbsource(struct inpcb *inp, const union inaddr *dst, uint32_t scope,
    union inaddr *src);
/* Where a datagram goes: to, or (NULL) the peer. EDESTADDRREQ, EINVAL,
 * EAFNOSUPPORT, ENETUNREACH. */
int ip_pcbdest(const struct inpcb *inp, const struct sockaddr *to,
    socklen_t tolen, union inaddr *dst, uint16_t *port, uint32_t *scope);
/* Output arguments of a datagram from inp to dst: TTL, TOS, flags, scope. */
void ip_pcbargs(struct inpcb *inp, const union inaddr *src,
    const union inaddr *dst, const struct ip_sendopts *is,
    struct ip_outargs *ioa);
/* IPPROTO_IP and IPPROTO_IPV6 names about multicast (in_mcast.c);
 * ENOPROTOOPT: not one of them. */
int ip_mcast_ctloutput(struct inpcb *inp, struct sockopt *sopt);
uint32_t ip_mcast_scope(const struct inpcb *inp); /* IP_MULTICAST_IF */

struct udp_stat {
	uint64_t uds_in, uds_out, uds_inmcast, uds_nosum;
	uint64_t uds_hdrops, uds_badlen, uds_badsum, uds_zerosum6;
	uint64_t uds_noport, uds_noportbcast, uds_fullsock, uds_nomem;
};
struct udp_state {
	int64_t uds_recvspace, uds_sendspace;
	int64_t uds_blackhole; /* no port unreachable */
	struct udp_stat uds_stat;
};
int udp_init(struct stack *s);
void udp_fini(struct stack *s);
int udp_ctloutput(struct socket *so, struct sockopt *sopt);
/* Tell the peer of a connected IPv4 socket that its datagrams reach nobody:
 * ICMP_UNREACH and this code (the gateway has heard so from the host). */
void udp_unreach(struct inpcb *inp, uint8_t code);
extern const struct pr_usrreqs udp_usrreqs;
int rip_init(struct stack *s);
void rip_fini(struct stack *s);
int rip_ctloutput(struct socket *so, struct sockopt *sopt);
extern const struct pr_usrreqs rip_usrreqs;

/* IPv6 (netinet6). */
/* cmsgs of extension headers that inp asked for, put at *tail. */
void ip6_saveexthdrs(const struct inpcb *inp, const struct mbuf *m,
    struct mbuf ***tail);
int ip6_output(struct stack *s, struct mbuf *m, const struct ip_outargs *ioa);
void icmp6_input(struct stack *s, struct mbuf *m, int off);
void icmp6_error(struct stack *s, struct mbuf *m, int type, int code,
    uint32_t param);

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
