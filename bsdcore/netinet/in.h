/*
 * in.h - addresses of both families in one shape.
 *
 * An IPv4 address is held IPv4-mapped (::ffff:a.b.c.d, RFC 4291 2.5.5.2), so
 * tables, pcbs and routes compare sixteen bytes and never ask for the family.
 * The unspecified IPv4 address is ::ffff:0.0.0.0; that of IPv6 is ::.
 */
#ifndef BSDCORE_NETINET_IN_H
#define BSDCORE_NETINET_IN_H

#include <netinet/in.h>

#include "bsdcore/sys/systm.h"

union inaddr {
	uint8_t ia_b[16];
	uint32_t ia_w[4]; /* network order; ia_w[3] is the IPv4 address */
	uint64_t ia_q[2];
};

static inline bool
in_is4(const union inaddr *a)
{
	return a->ia_q[0] == 0 && a->ia_w[2] == htonl(0xffff);
}

static inline union inaddr
in_map4(uint32_t v4) /* network order */
{
	union inaddr a = { .ia_w = { 0, 0, htonl(0xffff), v4 } };

	return a;
}

static inline bool
in_eq(const union inaddr *a, const union inaddr *b)
{
	return a->ia_q[0] == b->ia_q[0] && a->ia_q[1] == b->ia_q[1];
}

static inline bool
in_isany(const union inaddr *a)
{
	return in_is4(a) ? a->ia_w[3] == 0 :
			   (a->ia_q[0] == 0 && a->ia_q[1] == 0);
}

static inline bool
in_ismulticast(const union inaddr *a)
{
	return in_is4(a) ? (ntohl(a->ia_w[3]) >> 28) == 14 : a->ia_b[0] == 0xff;
}

static inline bool
in_isloopback(const union inaddr *a)
{
	return in_is4(a) ?
	    a->ia_b[12] == 127 :
	    (a->ia_q[0] == 0 && a->ia_w[2] == 0 && a->ia_w[3] == htonl(1));
}

static inline bool
in_islinklocal6(const union inaddr *a)
{
	return a->ia_b[0] == 0xfe && (a->ia_b[1] & 0xc0) == 0x80;
}

static inline bool
in_isbroadcast4(const union inaddr *a) /* limited broadcast */
{
	return in_is4(a) && a->ia_w[3] == 0xffffffff;
}

/* sockaddr_in / sockaddr_in6 in and out (in.c). `family` is the socket's:
 * an IPv4 address leaves an AF_INET6 socket in mapped form. *scope may be
 * NULL. in_sockaddr_get: EINVAL short, EAFNOSUPPORT other family or an IPv6
 * address on an AF_INET socket. */
int in_sockaddr_get(int family, const struct sockaddr *sa, socklen_t len,
    union inaddr *addr, uint16_t *port, uint32_t *scope);
socklen_t in_sockaddr_put(int family, const union inaddr *addr, uint16_t port,
    uint32_t scope, struct sockaddr_storage *ss);
/* Text for messages and tables; buf of INET6_ADDRSTRLEN. */
const char *in_ntop(const union inaddr *a, char *buf);

#endif
