/*
 * ethernet.h - the wire format of Ethernet II and of ARP over it.
 */
#ifndef BSDCORE_NET_ETHERNET_H
#define BSDCORE_NET_ETHERNET_H

#include "bsdcore/sys/systm.h"

#define ETHER_ADDR_LEN 6
#define ETHER_HDR_LEN 14

#define ETHERTYPE_IP 0x0800
#define ETHERTYPE_ARP 0x0806
#define ETHERTYPE_IPV6 0x86dd

struct ether_header {
	uint8_t ether_dhost[ETHER_ADDR_LEN];
	uint8_t ether_shost[ETHER_ADDR_LEN];
	uint8_t ether_type[2];
};
CTASSERT(sizeof(struct ether_header) == ETHER_HDR_LEN);

/* RFC 826, for Ethernet and IPv4. */
struct ether_arp {
	uint8_t ar_hrd[2];
	uint8_t ar_pro[2];
	uint8_t ar_hln;
	uint8_t ar_pln;
	uint8_t ar_op[2];
	uint8_t arp_sha[ETHER_ADDR_LEN];
	uint8_t arp_spa[4];
	uint8_t arp_tha[ETHER_ADDR_LEN];
	uint8_t arp_tpa[4];
};
CTASSERT(sizeof(struct ether_arp) == 28);

#define ARPHRD_ETHER_ 1
#define ARPOP_REQUEST_ 1
#define ARPOP_REPLY_ 2

static inline bool
ether_ismulticast(const uint8_t a[ETHER_ADDR_LEN])
{
	return a[0] & 1;
}

static inline bool
ether_isbroadcast(const uint8_t a[ETHER_ADDR_LEN])
{
	return (a[0] & a[1] & a[2] & a[3] & a[4] & a[5]) == 0xff;
}

static inline bool
ether_eq(const uint8_t a[ETHER_ADDR_LEN], const uint8_t b[ETHER_ADDR_LEN])
{
	return memcmp(a, b, ETHER_ADDR_LEN) == 0;
}

#endif
