/*
 * udp.h - the UDP header (RFC 768).
 */
#ifndef BSDCORE_NETINET_UDP_H
#define BSDCORE_NETINET_UDP_H

#include "bsdcore/sys/systm.h"

struct udphdr { /* fields in network order, any alignment */
	uint16_t uh_sport, uh_dport;
	uint16_t uh_ulen;
	uint16_t uh_sum; /* 0: none was made (IPv4 only) */
} __attribute__((packed));
CTASSERT(sizeof(struct udphdr) == 8);

#define UDP_HDRLEN ((uint32_t)sizeof(struct udphdr))

#endif
