/*
 * in.c - addresses: from and to sockaddrs, text, and the headers of packets.
 */
#include "bsdcore/netinet/in.h"

#include "bsdcore/netinet/in_pcb.h"
#include "bsdcore/netinet/ip.h"

static int
in6_sockaddr_get(int family, const struct sockaddr *sa, socklen_t len,
    union inaddr *addr, uint16_t *port, uint32_t *scope)
{
	struct sockaddr_in6 sin6 = { 0 };

	if (family != AF_INET6) {
		return EAFNOSUPPORT;
	}
	/* RFC 2133's shorter structure has no scope. */
	if (len < offsetof(struct sockaddr_in6, sin6_scope_id)) {
		return EINVAL;
	}
	memcpy(&sin6, sa, len < sizeof(sin6) ? len : sizeof(sin6));
	memcpy(addr, &sin6.sin6_addr, sizeof(*addr));
	*port = ntohs(sin6.sin6_port);
	if (scope != NULL) {
		*scope = in_islinklocal6(addr) || in_ismulticast(addr) ?
		    sin6.sin6_scope_id :
		    0;
	}
	return 0;
}

int
in_sockaddr_get(int family, const struct sockaddr *sa, socklen_t len,
    union inaddr *addr, uint16_t *port, uint32_t *scope)
{
	struct sockaddr_in sin;
	sa_family_t fam;

	if (scope != NULL) {
		*scope = 0;
	}
	if (len < sizeof(fam)) {
		return EINVAL;
	}
	memcpy(&fam, (const char *)sa + offsetof(struct sockaddr, sa_family),
	    sizeof(fam));
	if (fam == AF_INET6) {
		return in6_sockaddr_get(family, sa, len, addr, port, scope);
	}
	if (len < sizeof(sin)) {
		return EINVAL;
	}
	if (fam != AF_INET) {
		return EAFNOSUPPORT;
	}
	memcpy(&sin, sa, sizeof(sin));
	*addr = in_map4(sin.sin_addr.s_addr);
	*port = ntohs(sin.sin_port);
	return 0;
}

socklen_t
in_sockaddr_put(int family, const union inaddr *addr, uint16_t port,
    uint32_t scope, struct sockaddr_storage *ss)
{
	if (family == AF_INET) {
		struct sockaddr_in *sin = (void *)ss;

		memset(sin, 0, sizeof(*sin));
		sin->sin_family = AF_INET;
		sin->sin_port = htons(port);
		sin->sin_addr.s_addr = addr->ia_w[3];
		return sizeof(*sin);
	} else {
		struct sockaddr_in6 *sin6 = (void *)ss;

		memset(sin6, 0, sizeof(*sin6));
		sin6->sin6_family = AF_INET6;
		sin6->sin6_port = htons(port);
		memcpy(&sin6->sin6_addr, addr, sizeof(*addr));
		sin6->sin6_scope_id = in_islinklocal6(addr) ? scope : 0;
		return sizeof(*sin6);
	}
}

const char *
in_ntop(const union inaddr *a, char *buf)
{
	return in_is4(a) ?
	    inet_ntop(AF_INET, &a->ia_w[3], buf, INET6_ADDRSTRLEN) :
	    inet_ntop(AF_INET6, a->ia_b, buf, INET6_ADDRSTRLEN);
}

void
in_pktaddrs(const struct mbuf *m, union inaddr *src, union inaddr *dst)
{
	const uint8_t *h = m->m_data;
	uint32_t v4;

	if ((h[0] >> 4) == 4) {
		memcpy(&v4, h + offsetof(struct ip, ip_src), 4);
		*src = in_map4(v4);
		memcpy(&v4, h + offsetof(struct ip, ip_dst), 4);
		*dst = in_map4(v4);
	} else {
		memcpy(src, h + 8, 16);
		memcpy(dst, h + 24, 16);
	}
}
