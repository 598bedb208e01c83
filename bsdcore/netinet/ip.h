/*
 * ip.h - the IPv4 header (RFC 791 3.1) and its options.
 */
#ifndef BSDCORE_NETINET_IP_H
#define BSDCORE_NETINET_IP_H

#include "bsdcore/sys/systm.h"

struct ip {		/* fields in network order, any alignment */
	uint8_t ip_vhl; /* version << 4 | header length / 4 */
	uint8_t ip_tos;
	uint16_t ip_len;
	uint16_t ip_id;
	uint16_t ip_off; /* IP_RF, IP_DF, IP_MF, offset / 8 */
	uint8_t ip_ttl;
	uint8_t ip_p;
	uint16_t ip_sum;
	uint32_t ip_src, ip_dst;
} __attribute__((packed));
CTASSERT(sizeof(struct ip) == 20);

#define IPTOS_ECN_MASK_ 0x03 /* RFC 3168 5 */
#define IPTOS_ECN_ECT0_ 0x02
#define IPTOS_ECN_CE_ 0x03
#define IP_HDRLEN ((uint32_t)sizeof(struct ip))
#define IP_MAXPACKET 65535u
#define IP_MINMTU 68u /* every link carries this much (RFC 791 3.2) */

#define IP_RF 0x8000
#define IP_DF 0x4000
#define IP_MF 0x2000
#define IP_OFFMASK 0x1fff

/* Options: the type octet. */
#define IPOPT_EOL 0
#define IPOPT_NOP 1
#define IPOPT_RR 7
#define IPOPT_TS 68
#define IPOPT_LSRR 131
#define IPOPT_SSRR 137
#define IPOPT_RA 148
#define IPOPT_COPIED(o) ((o) & 0x80) /* goes into every fragment */
#define IP_MAXOPTLEN 40u

static inline uint32_t
ip_hlen(const struct ip *ip)
{
	return (uint32_t)(ip->ip_vhl & 15) << 2;
}

#endif
