/*
 * fsw_parse.h - what a flowswitch wants to know of a packet, read once.
 */
#ifndef SKYWALK_FLOWSWITCH_FSW_PARSE_H
#define SKYWALK_FLOWSWITCH_FSW_PARSE_H

#include "nic/pkt.h"
#include "skywalk/flowswitch/flow_key.h"

#define HDR_MAX 192 /* bytes looked at: more of extension headers is HOST's */

#define TH_FIN 0x01
#define TH_SYN 0x02
#define TH_RST 0x04
#define TH_PSH 0x08
#define TH_ACK 0x10
#define TH_URG 0x20
#define TH_ECE 0x40
#define TH_CWR 0x80

enum hdr_kind {
	HDR_FLOW,	/* TCP or UDP, ports in h_key; a first fragment too */
	HDR_FRAGMENT,	/* a later fragment: no ports */
	HDR_ICMP_ERROR, /* h_key is that of the packet it is about */
	HDR_OTHER,	/* IP, but nothing that has a flow */
	HDR_BAD,	/* cut short, or lies about its lengths */
};

struct hdr {
	enum hdr_kind h_kind;
	const uint8_t *h_ip; /* IP header on, contiguous for h_n bytes */
	uint32_t h_n;
	uint16_t h_l3, h_l4, h_end; /* offsets in the packet; h_end: payload */
	uint32_t h_len;		    /* from the IP header, as it says */
	uint8_t h_version;
	bool h_multicast; /* destination is a group or broadcast address */
	/* Fragments: offset in bytes, last one, identification. */
	bool h_isfrag, h_more;
	uint32_t h_fragoff, h_fragid, h_fraglen;
	/* The sender is the foreign side (received); turned round when sent. */
	struct flow_key h_key;
	/* TCP */
	uint32_t h_seq, h_ack, h_paylen;
	uint16_t h_win;
	uint8_t h_flags;
	uint8_t h_copy[HDR_MAX]; /* h_ip points here when p was in pieces */
};

/* Read p, whose IP header starts at l3. sent: the local side is the source. */
void hdr_parse(const struct pkt *p, uint32_t l3, bool sent, struct hdr *h);

/* Checksums, as nic computes them: sums of words as they lie in memory. */
uint64_t fsw_sum(const void *data, size_t len, uint64_t sum);
uint16_t fsw_fold(uint64_t sum);
/* Sum over [off, off + len) of a chain. */
uint64_t fsw_sum_pkt(const struct pkt *p, uint32_t off, uint32_t len);
/* Sum of the pseudo header of an IP header with addresses in place. */
uint64_t fsw_sum_pseudo(const uint8_t *ip, int version, uint8_t proto,
    uint32_t len);
/* Copy from a chain; false: it is shorter. */
bool fsw_copyout(const struct pkt *p, uint32_t off, uint32_t len, void *dst);

#endif
