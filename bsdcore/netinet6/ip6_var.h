/*
 * ip6_var.h - what the files of netinet6 share.
 */
#ifndef BSDCORE_NETINET6_IP6_VAR_H
#define BSDCORE_NETINET6_IP6_VAR_H

#include "bsdcore/netinet/ip_var.h"
#include "bsdcore/netinet6/ip6.h"

/* A walk along the header chain. */
struct ip6_walk {
	uint32_t iw_off;    /* of the header iw_nxt names */
	uint32_t iw_nxtoff; /* of the octet that named it */
	uint32_t iw_len;    /* bytes of that header, extensions only */
	uint32_t iw_end;    /* of the packet, or of what is quoted */
	int iw_count;
	uint8_t iw_nxt;
};
#define IP6_MAXEXT 8 /* extension headers of one packet */

enum ip6_step {
	IP6_EXT,   /* at an extension header that is all there */
	IP6_UPPER, /* at a transport, a fragment or "no next header" */
	IP6_BAD,   /* truncated, or too many */
};

/* Start at the IPv6 header `off` bytes into m, of which end - off are there. */
void ip6_walk_start(struct ip6_walk *w, const struct mbuf *m, uint32_t off,
    uint32_t end);
/* What is at w; ip6_walk_next() steps over an extension. */
enum ip6_step ip6_walk_look(struct ip6_walk *w, const struct mbuf *m);
void ip6_walk_next(struct ip6_walk *w, const struct mbuf *m);

/* Error about m, in ICMPv6's own terms; consumes m. param: MTU or pointer. */
void icmp6_send_error(struct stack *s, struct mbuf *m, uint8_t type,
    uint8_t code, uint32_t param);

#endif
