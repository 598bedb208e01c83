/*
 * ip6.h - the IPv6 header and its extensions (RFC 8200), ICMPv6 (RFC 4443).
 */
#ifndef BSDCORE_NETINET6_IP6_H
#define BSDCORE_NETINET6_IP6_H

#include "bsdcore/netinet/in.h"
#include "bsdcore/sys/systm.h"

struct ip6_hdr {	   /* fields in network order, any alignment */
	uint32_t ip6_flow; /* version, traffic class, flow label */
	uint16_t ip6_plen; /* bytes behind this header */
	uint8_t ip6_nxt;
	uint8_t ip6_hlim;
	uint8_t ip6_src[16], ip6_dst[16];
} __attribute__((packed));
CTASSERT(sizeof(struct ip6_hdr) == 40);

#define IP6_HDRLEN ((uint32_t)sizeof(struct ip6_hdr))
#define IP6_MMTU 1280u /* every link carries this much */

/* Options of hop-by-hop and destination headers: what to do with an unknown
 * one, by its top two bits. */
#define IP6OPT_PAD1 0
#define IP6OPT_PADN 1
#define IP6OPT_ACTION(t) ((t) >> 6)
#define IP6OPT_SKIP 0
#define IP6OPT_DISCARD 1
#define IP6OPT_ICMP 2
#define IP6OPT_ICMPUNI 3 /* unless the packet was for many */

#define ICMP6_DST_UNREACH 1
#define ICMP6_UNREACH_NOROUTE 0
#define ICMP6_UNREACH_ADMIN 1
#define ICMP6_UNREACH_ADDR 3
#define ICMP6_UNREACH_NOPORT 4
#define ICMP6_PACKET_TOO_BIG 2
#define ICMP6_TIME_EXCEEDED 3
#define ICMP6_PARAM_PROB 4
#define ICMP6_PARAM_HEADER 0
#define ICMP6_PARAM_NEXTHEADER 1
#define ICMP6_PARAM_OPTION 2
#define ICMP6_ECHO_REQUEST 128
#define ICMP6_ECHO_REPLY 129
#define ICMP6_REDIRECT 137
#define ICMP6_INFO 128 /* types from here on are not errors */

#endif
