/*
 * in_pcb.c - local and foreign addresses of sockets, and finding the socket
 * that a packet is for.
 *
 * A connected pcb hangs in ipi_hash under its 4-tuple, by a multiplicative
 * hash whose secrets come from the stack's key, so that a peer cannot aim at one
 * chain. Every pcb with a local port hangs at that port's struct inpport too,
 * unconnected ones apart from connected ones: a SYN looks at the listeners of a
 * port and never at their ten thousand children.
 */
#include "bsdcore/netinet/in_pcb.h"

#include "bsdcore/netinet/in_flow.h"
#include "bsdcore/netinet/ip_var.h"
#include "bsdcore/netinet/tcp_var.h"

#define IPI_MINHASH 64u

__extension__ typedef unsigned __int128 uint128;

static inline uint64_t
mulfold(uint64_t a, uint64_t b)
{
	uint128 p = (uint128)a * b;

	return (uint64_t)p ^ (uint64_t)(p >> 64);
}

static inline uint32_t
pcb_hash(const struct inpcbinfo *ipi, const union inaddr *faddr, uint16_t fport,
    const union inaddr *laddr, uint16_t lport)
{
	const uint64_t *k = ipi->ipi_secret;
	uint64_t h = mulfold(faddr->ia_q[1] ^ k[0], laddr->ia_q[1] ^ k[1]);

	h ^= (uint64_t)fport << 16 | lport;
	return (uint32_t)mulfold(h ^ faddr->ia_q[0], laddr->ia_q[0] ^ k[2]);
}

static inline uint32_t
pcb_options(const struct inpcb *inp)
{
	return inp->inp_socket->so_options;
}

/* The unspecified address of the socket's family. */
static union inaddr
pcb_any(const struct inpcb *inp)
{
	union inaddr any6 = { .ia_b = { 0 } };

	return inp->inp_socket->so_family == AF_INET ? in_map4(INADDR_ANY) :
						       any6;
}

struct inpcbinfo *
in_pcbinfo_new(struct stack *s, uint8_t ipproto)
{
	struct inpcbinfo *ipi = calloc(1, sizeof(*ipi));

	if (ipi == NULL) {
		return NULL;
	}
	ipi->ipi_stack = s;
	ipi->ipi_ipproto = ipproto;
	ipi->ipi_mask = IPI_MINHASH - 1;
	ipi->ipi_gen = 1;
	ipi->ipi_hash = calloc(IPI_MINHASH, sizeof(*ipi->ipi_hash));
	ipi->ipi_porthash = calloc(IN_NPORTHASH, sizeof(*ipi->ipi_porthash));
	if (ipi->ipi_hash == NULL || ipi->ipi_porthash == NULL) {
		in_pcbinfo_free(ipi);
		return NULL;
	}
	for (uint8_t i = 0; i < nitems(ipi->ipi_secret); i++) {
		uint8_t salt[2] = { ipproto, i };

		ipi->ipi_secret[i] = stack_hash(s, SH_PCB, salt, sizeof(salt));
	}
	return ipi;
}

void
in_pcbinfo_free(struct inpcbinfo *ipi)
{
	if (ipi == NULL) {
		return;
	}
	KASSERT(LIST_EMPTY(&ipi->ipi_list));
	free(ipi->ipi_hash);
	free(ipi->ipi_porthash);
	free(ipi);
}

int
in_pcballoc(struct socket *so, struct inpcbinfo *ipi, struct inpcb **out)
{
	struct inpcb *inp = calloc(1, sizeof(*inp));

	if (inp == NULL) {
		return ENOBUFS;
	}
	inp->inp_info = ipi;
	inp->inp_socket = so;
	inp->inp_laddr = pcb_any(inp);
	inp->inp_faddr = inp->inp_laddr;
	inp->inp_flags = INP_MLOOP | INP_MCASTALL;
	inp->inp_ttl = (uint8_t)ipi->ipi_stack->s_ip->ips_ttl;
	inp->inp_mttl = 1;
	inp->inp_hops6 = -1;
	inp->inp_cksumoff = -1;
	so->so_pcb = inp;
	LIST_INSERT_HEAD(&ipi->ipi_list, inp, inp_list);
	ipi->ipi_count++;
	*out = inp;
	return 0;
}

/* ---- local ports ---- */

struct inpport *
in_pcbport(const struct inpcbinfo *ipi, uint16_t port)
{
	struct inpport *pp;

	LIST_FOREACH (pp, &ipi->ipi_porthash[port % IN_NPORTHASH], pp_link) {
		if (pp->pp_port == port) {
			return pp;
		}
	}
	return NULL;
}

/* Give inp the local port; the caller has ruled out conflicts. */
static int
port_enter(struct inpcb *inp, uint16_t port, bool shared)
{
	struct inpcbinfo *ipi = inp->inp_info;
	struct inpport *pp = in_pcbport(ipi, port);
	int error = in_portreserve(ipi, &inp->inp_laddr, port,
	    pcb_options(inp) & SOO_REUSEPORT ? FLOW_REUSEPORT : FLOW_EXCLUSIVE,
	    &inp->inp_res);

	if (error != 0) {
		return error;
	}
	if (pp == NULL) {
		pp = calloc(1, sizeof(*pp));
		if (pp == NULL) {
			in_portrelease(ipi->ipi_stack, inp->inp_res);
			inp->inp_res = NULL;
			return ENOBUFS;
		}
		pp->pp_port = port;
		pp->pp_shared = shared;
		ipi->ipi_used[port / 64] |= (uint64_t)1 << port % 64;
		LIST_INSERT_HEAD(&ipi->ipi_porthash[port % IN_NPORTHASH], pp,
		    pp_link);
	} else if (!shared) {
		pp->pp_shared = false;
	}
	inp->inp_port = pp;
	inp->inp_lport = port;
	inp->inp_inporthash = true;
	LIST_INSERT_HEAD(&pp->pp_bound, inp, inp_porthash);
	return 0;
}

static void
port_leave(struct inpcb *inp)
{
	struct inpcbinfo *ipi = inp->inp_info;
	struct inpport *pp = inp->inp_port;

	if (!inp->inp_inporthash) {
		return;
	}
	ipi->ipi_gen++;
	in_portrelease(ipi->ipi_stack, inp->inp_res);
	inp->inp_res = NULL;
	LIST_REMOVE(inp, inp_porthash);
	inp->inp_inporthash = false;
	inp->inp_port = NULL;
	inp->inp_lport = 0;
	if (LIST_EMPTY(&pp->pp_bound) && LIST_EMPTY(&pp->pp_conn)) {
		ipi->ipi_used[pp->pp_port / 64] &=
		    ~((uint64_t)1 << pp->pp_port % 64);
		LIST_REMOVE(pp, pp_link);
		free(pp);
	}
}

/* ---- the 4-tuple ---- */

static void
hash_grow(struct inpcbinfo *ipi)
{
	uint32_t n = (ipi->ipi_mask + 1) * 2;
	struct inpcbhead *v = calloc(n, sizeof(*v));

	if (v == NULL) {
		return; /* longer chains, nothing worse */
	}
	for (uint32_t i = 0; i <= ipi->ipi_mask; i++) {
		struct inpcb *inp;

		while ((inp = LIST_FIRST(&ipi->ipi_hash[i])) != NULL) {
			uint32_t h = pcb_hash(ipi, &inp->inp_faddr,
			    inp->inp_fport, &inp->inp_laddr, inp->inp_lport);

			LIST_REMOVE(inp, inp_hash);
			LIST_INSERT_HEAD(&v[h & (n - 1)], inp, inp_hash);
		}
	}
	free(ipi->ipi_hash);
	ipi->ipi_hash = v;
	ipi->ipi_mask = n - 1;
}

static int
hash_enter(struct inpcb *inp)
{
	struct inpcbinfo *ipi = inp->inp_info;
	uint32_t h;
	int error;

	KASSERT(!inp->inp_inhash);
	if (ipi->ipi_nconn > ipi->ipi_mask) {
		hash_grow(ipi);
	}
	h = pcb_hash(ipi, &inp->inp_faddr, inp->inp_fport, &inp->inp_laddr,
	    inp->inp_lport);
	inp->inp_flowid = h | 1;
	error = in_flowattach(inp, &inp->inp_flowid);
	if (error != 0) {
		inp->inp_flowid = 0;
		return error;
	}
	LIST_INSERT_HEAD(&ipi->ipi_hash[h & ipi->ipi_mask], inp, inp_hash);
	inp->inp_inhash = true;
	ipi->ipi_nconn++;
	ipi->ipi_gen++; /* bound to any address before, to one now */
	LIST_REMOVE(inp, inp_porthash);
	LIST_INSERT_HEAD(&inp->inp_port->pp_conn, inp, inp_porthash);
	return 0;
}

static void
hash_leave(struct inpcb *inp)
{
	if (!inp->inp_inhash) {
		return;
	}
	in_flowdetach(inp);
	LIST_REMOVE(inp, inp_hash);
	inp->inp_inhash = false;
	inp->inp_info->ipi_nconn--;
	LIST_REMOVE(inp, inp_porthash);
	LIST_INSERT_HEAD(&inp->inp_port->pp_bound, inp, inp_porthash);
}

static struct inpcb *
hash_find(const struct inpcbinfo *ipi, const union inaddr *faddr,
    uint16_t fport, const union inaddr *laddr, uint16_t lport)
{
	uint32_t h = pcb_hash(ipi, faddr, fport, laddr, lport);
	struct inpcb *inp;

	LIST_FOREACH (inp, &ipi->ipi_hash[h & ipi->ipi_mask], inp_hash) {
		if (inp->inp_fport == fport && inp->inp_lport == lport &&
		    in_eq(&inp->inp_faddr, faddr) &&
		    in_eq(&inp->inp_laddr, laddr)) {
			return inp;
		}
	}
	return NULL;
}

/* ---- bind ---- */

/* Could one packet be for both local addresses? */
static bool
bind_overlap(const struct inpcb *a, const struct inpcb *b)
{
	bool a4 = in_is4(&a->inp_laddr), b4 = in_is4(&b->inp_laddr);

	if (a4 == b4) {
		return in_eq(&a->inp_laddr, &b->inp_laddr) ||
		    in_isany(&a->inp_laddr) || in_isany(&b->inp_laddr);
	}
	if (a4) {
		return in_isany(&b->inp_laddr) && !(b->inp_flags & INP_V6ONLY);
	}
	return in_isany(&a->inp_laddr) && !(a->inp_flags & INP_V6ONLY);
}

/*
 * Linux's rules (socket(7), ip(7)): SO_REUSEADDR on both lets TCP sockets in
 * unless one listens, and UDP sockets always; SO_REUSEPORT on both always.
 */
static bool
bind_conflict(const struct inpcb *inp, const struct inpcb *other)
{
	uint32_t both = pcb_options(inp) & pcb_options(other);
	uint32_t a = inp->inp_socket->so_boundif;
	uint32_t b = other->inp_socket->so_boundif;

	if (inp == other || (a != 0 && b != 0 && a != b)) {
		return false;
	}
	if (both & SOO_REUSEPORT) {
		return false;
	}
	if ((both & SOO_REUSEADDR) &&
	    !(inp->inp_info->ipi_ipproto == IPPROTO_TCP &&
		(pcb_options(other) & SOO_ACCEPTCONN))) {
		return false;
	}
	return bind_overlap(inp, other);
}

static bool
port_conflict(const struct inpcb *inp, uint16_t port)
{
	const struct inpport *pp = in_pcbport(inp->inp_info, port);
	const struct inpcb *other;

	/* Connections in TIME_WAIT have no pcb any more. */
	if (inp->inp_info->ipi_ipproto == IPPROTO_TCP && port != 0 &&
	    !(pcb_options(inp) & (SOO_REUSEADDR | SOO_REUSEPORT)) &&
	    tcp_twinuse(inp->inp_info->ipi_stack, &inp->inp_laddr, port)) {
		return true;
	}
	if (pp == NULL) {
		return false;
	}
	LIST_FOREACH (other, &pp->pp_bound, inp_porthash) {
		if (bind_conflict(inp, other)) {
			return true;
		}
	}
	LIST_FOREACH (other, &pp->pp_conn, inp_porthash) {
		if (bind_conflict(inp, other)) {
			return true;
		}
	}
	return false;
}

/* May connect() use this port towards inp_faddr? For TCP others that
 * connect() made may have it too, as long as the 4-tuple is new. */
static bool
port_free(const struct inpcb *inp, uint16_t port)
{
	const struct inpcbinfo *ipi = inp->inp_info;
	const struct inpport *pp = in_pcbport(ipi, port);

	if (ipi->ipi_ipproto != IPPROTO_TCP) {
		return !port_conflict(inp, port);
	}
	if (pp == NULL) {
		return true;
	}
	return pp->pp_shared &&
	    hash_find(ipi, &inp->inp_faddr, inp->inp_fport, &inp->inp_laddr,
		port) == NULL;
}

/* What a choice of a port depends on besides the other pcbs; false: on more than
 * could be remembered. */
static bool
port_fullkey(const struct inpcb *inp, uint32_t first, uint32_t last,
    struct inpfull *key)
{
	const struct socket *so = inp->inp_socket;

	memset(key, 0, sizeof(*key));
	key->if_gen = inp->inp_info->ipi_gen;
	key->if_laddr = inp->inp_laddr;
	key->if_first = first;
	key->if_last = last;
	key->if_family = so->so_family;
	key->if_v6only = (inp->inp_flags & INP_V6ONLY) != 0;
	return so->so_boundif == 0 &&
	    !(so->so_options & (SOO_REUSEADDR | SOO_REUSEPORT));
}

static bool
port_isfull(const struct inpfull *a, const struct inpfull *b)
{
	return a->if_gen == b->if_gen && in_eq(&a->if_laddr, &b->if_laddr) &&
	    a->if_first == b->if_first && a->if_last == b->if_last &&
	    a->if_family == b->if_family && a->if_v6only == b->if_v6only;
}

/* The first port from port on, before end, that nobody has; or end. */
static uint32_t
port_unused(struct inpcbinfo *ipi, uint32_t port, uint32_t end)
{
	while (port < end) {
		uint64_t unused = ~ipi->ipi_used[port / 64] >> port % 64;

		ipi->ipi_probes++;
		if (unused != 0) {
			return u32min(port + (uint32_t)__builtin_ctzll(unused),
			    end);
		}
		port += 64 - port % 64;
	}
	return end;
}

/* Take the first port in [port, end) that nobody has. *refused: there is one, but
 * a stack beside us or TIME_WAIT holds it. */
static int
port_takeunused(struct inpcb *inp, uint32_t port, uint32_t end, bool *refused)
{
	int error;

	while ((port = port_unused(inp->inp_info, port, end)) < end) {
		if (!port_conflict(inp, (uint16_t)port) &&
		    (error = port_enter(inp, (uint16_t)port, false)) !=
			EADDRINUSE) {
			return error;
		}
		*refused = true;
		port++;
	}
	return EADDRINUSE;
}

/* For bind(): a port of one's own. Ports nobody has come first. */
static int
port_bindany(struct inpcb *inp, uint32_t first, uint32_t last, uint32_t at)
{
	struct inpcbinfo *ipi = inp->inp_info;
	uint32_t n = last - first + 1;
	struct inpfull key;
	bool plain = port_fullkey(inp, first, last, &key), refused = false;
	int error;

	error = port_takeunused(inp, first + at, last + 1, &refused);
	if (error == EADDRINUSE) {
		error = port_takeunused(inp, first, first + at, &refused);
	}
	if (error != EADDRINUSE || (plain && port_isfull(&ipi->ipi_full, &key))) {
		return error;
	}
	for (uint32_t i = 0; i < n; i++) {
		uint16_t port = (uint16_t)(first + (at + i) % n);

		ipi->ipi_probes++;
		if (port_conflict(inp, port)) {
			continue;
		}
		error = port_enter(inp, port, false);
		if (error != EADDRINUSE) {
			return error;
		}
		refused = true;
	}
	/* The next one would look in vain too, until somebody gives up. */
	if (plain && !refused) {
		ipi->ipi_full = key;
	}
	return EADDRINUSE;
}

/* Take a random free port: RFC 6056 3.3.1, algorithm 1. EADDRINUSE: there is
 * none. */
static int
port_choose(struct inpcb *inp, bool connecting)
{
	const struct inpcbinfo *ipi = inp->inp_info;
	const struct ip_state *ips = ipi->ipi_stack->s_ip;
	uint32_t first = (uint32_t)ips->ips_portfirst;
	uint32_t last = (uint32_t)ips->ips_portlast;
	uint32_t n, at;
	int error;

	if (first > last) {
		n = first;
		first = last;
		last = n;
	}
	n = last - first + 1;
	at = (uint32_t)(stack_random(ipi->ipi_stack) % n);
	if (!connecting) {
		return port_bindany(inp, first, last, at);
	}
	for (uint32_t i = 0; i < n; i++) {
		uint16_t port = (uint16_t)(first + (at + i) % n);

		if (port_free(inp, port) &&
		    (error = port_enter(inp, port, true)) != EADDRINUSE) {
			return error;
		}
	}
	return EADDRINUSE;
}

/* For many: a group, or a broadcast of any interface. */
static bool
bind_ismany(const struct stack *s, const union inaddr *a)
{
	const struct ifnet *ifp;

	if (in_ismulticast(a) || in_isbroadcast4(a)) {
		return true;
	}
	if (in_is4(a)) {
		TAILQ_FOREACH (ifp, &s->s_if->ifs_list, if_link) {
			if (in_broadcast(ifp, a)) {
				return true;
			}
		}
	}
	return false;
}

/* Is it an address a socket may be bound to? */
static int
bind_checkaddr(const struct inpcb *inp, const union inaddr *a, uint32_t scope)
{
	const struct socket *so = inp->inp_socket;

	if (in_is4(a) && so->so_family == AF_INET6 &&
	    (inp->inp_flags & INP_V6ONLY)) {
		return EINVAL;
	}
	if (in_islinklocal6(a) && scope == 0 && so->so_boundif == 0) {
		return EINVAL;
	}
	if (in_isany(a) || ifa_ifwithaddr(so->so_stack, a) != NULL ||
	    (so->so_options & SOO_ANYIP) || (inp->inp_flags & INP_FREEBIND)) {
		return 0;
	}
	return bind_ismany(so->so_stack, a) ? 0 : EADDRNOTAVAIL;
}

int
in_pcbbind(struct inpcb *inp, const struct sockaddr *sa, socklen_t len)
{
	struct socket *so = inp->inp_socket;
	union inaddr addr = inp->inp_laddr, old = inp->inp_laddr;
	uint32_t scope = 0;
	uint16_t port = 0;
	int error;

	if (inp->inp_inporthash) {
		return sa == NULL ? 0 : EINVAL;
	}
	if (sa != NULL) {
		error = in_sockaddr_get(so->so_family, sa, len, &addr, &port,
		    &scope);
		if (error == 0) {
			error = bind_checkaddr(inp, &addr, scope);
		}
		if (error != 0) {
			return error;
		}
	}
	inp->inp_laddr = addr;
	if (port == 0 && sa != NULL && (inp->inp_flags & INP_NOPORT)) {
		/* connect() will choose one, which may be shared. */
		inp->inp_flags |= in_isany(&addr) ? 0 : INP_BOUNDADDR;
		return 0;
	}
	if (port == 0 && sa != NULL && (so->so_options & SOO_ANYIP) &&
	    in_isany(&addr)) {
		inp->inp_flags |= INP_ANYIP;
		error = port_conflict(inp, 0) ? EADDRINUSE :
						port_enter(inp, 0, false);
	} else if (port == 0) {
		error = port_choose(inp, false);
	} else {
		inp->inp_flags |= INP_BOUNDPORT;
		error = port_conflict(inp, port) ? EADDRINUSE :
						   port_enter(inp, port, false);
	}
	if (error != 0) {
		inp->inp_laddr = old;
		inp->inp_flags &= ~(uint32_t)(INP_ANYIP | INP_BOUNDPORT);
		return error;
	}
	if (sa != NULL && !in_isany(&addr)) {
		inp->inp_flags |= INP_BOUNDADDR;
		if (bind_ismany(so->so_stack, &addr)) {
			inp->inp_flags |= INP_BOUNDMANY;
		}
	}
	if (sa != NULL) {
		/* Even port 0 was the user's wish to have one and keep it. */
		inp->inp_flags |= INP_BOUNDPORT;
		inp->inp_scope = scope;
	}
	return 0;
}

int
in_pcblisten(struct inpcb *inp)
{
	struct inpcb *other;
	int error;

	if (!inp->inp_inporthash) {
		error = in_pcbbind(inp, NULL, 0);
		if (error != 0) {
			return error;
		}
	}
	LIST_FOREACH (other, &inp->inp_port->pp_bound, inp_porthash) {
		if ((pcb_options(other) & SOO_ACCEPTCONN) &&
		    bind_conflict(inp, other)) {
			return EADDRINUSE;
		}
	}
	return in_portlisten(inp->inp_info->ipi_stack, inp->inp_res);
}

/* ---- connect ---- */

/* The peer's address as the socket may use it; any means this host. */
static int
connect_checkaddr(struct inpcb *inp, union inaddr *faddr, uint32_t *scope)
{
	const struct socket *so = inp->inp_socket;
	bool bound = !in_isany(&inp->inp_laddr);

	if (in_isany(faddr)) {
		union inaddr lo6 = { .ia_b = { [15] = 1 } };

		*faddr = in_is4(faddr) ? in_map4(htonl(INADDR_LOOPBACK)) : lo6;
	}
	if (in_is4(faddr)) {
		if ((inp->inp_flags & INP_V6ONLY) ||
		    (bound && !in_is4(&inp->inp_laddr))) {
			return ENETUNREACH;
		}
	} else if (in_is4(&inp->inp_laddr)) {
		return bound ? ENETUNREACH : EAFNOSUPPORT;
	}
	if (*scope == 0) {
		*scope = in_pcbscope(inp);
	}
	if (in_islinklocal6(faddr) && *scope == 0) {
		return EINVAL;
	}
	if (so->so_proto->pr_flags & PR_CONNREQUIRED) {
		return in_ismulticast(faddr) || in_isbroadcast4(faddr) ?
		    ENETUNREACH :
		    0;
	}
	return 0;
}

/* Broadcast needs leave; asked once the interface is known. */
static int
connect_checkbcast(const struct inpcb *inp, const union inaddr *faddr,
    const struct ifnet *ifp)
{
	const struct socket *so = inp->inp_socket;

	if (!in_isbroadcast4(faddr) && !(ifp->if_flags & IFF_BROADCAST_)) {
		return 0;
	}
	if (!in_isbroadcast4(faddr) && !in_broadcast(ifp, faddr)) {
		return 0;
	}
	if (so->so_proto->pr_flags & PR_CONNREQUIRED) {
		return ENETUNREACH;
	}
	return so->so_options & SOO_BROADCAST ? 0 : EACCES;
}

int
in_pcbconnect(struct inpcb *inp, const struct sockaddr *sa, socklen_t len)
{
	struct stack *s = inp->inp_info->ipi_stack;
	union inaddr faddr, laddr, old = inp->inp_laddr;
	struct ifnet *ifp = NULL;
	bool hadport = inp->inp_inporthash;
	uint32_t scope;
	uint16_t fport;
	int error;

	KASSERT(!inp->inp_inhash);
	error = in_sockaddr_get(inp->inp_socket->so_family, sa, len, &faddr,
	    &fport, &scope);
	if (error == 0) {
		error = connect_checkaddr(inp, &faddr, &scope);
	}
	if (error == 0) {
		if (scope == 0 && in_ismulticast(&faddr)) {
			scope = ip_mcast_scope(inp);
		}
		error = ip_route_src(s, &faddr, scope, &inp->inp_route, &laddr,
		    &ifp);
		/* A gateway answers in the name of others. */
		if (error == EADDRNOTAVAIL && !in_isany(&old)) {
			error = 0;
		}
	}
	if (error == 0 && in_is4(&faddr)) {
		error = connect_checkbcast(inp, &faddr, ifp);
	}
	if (error != 0) {
		return error;
	}
	if (fport == 0 && inp->inp_info->ipi_ipproto == IPPROTO_TCP) {
		return ECONNREFUSED; /* nobody can listen there */
	}
	if (in_isany(&old)) {
		inp->inp_laddr = laddr;
	}
	inp->inp_faddr = faddr;
	inp->inp_fport = fport;
	if (!hadport) {
		error = port_choose(inp, true);
		error = error == EADDRINUSE ? EADDRNOTAVAIL : error;
	} else if (inp->inp_info->ipi_ipproto == IPPROTO_TCP &&
	    hash_find(inp->inp_info, &faddr, fport, &inp->inp_laddr,
		inp->inp_lport) != NULL) {
		error = EADDRNOTAVAIL;
	}
	if (error == 0) {
		error = hash_enter(inp);
	}
	if (error != 0) {
		if (!hadport) {
			port_leave(inp);
		}
		inp->inp_laddr = old;
		inp->inp_faddr = pcb_any(inp);
		inp->inp_fport = 0;
		return error;
	}
	if (!in_islinklocal6(&old)) {
		inp->inp_scope =
		    in_islinklocal6(&faddr) ? ifp->if_index : inp->inp_scope;
	}
	return 0;
}

void
in_pcbdisconnect(struct inpcb *inp)
{
	hash_leave(inp);
	inp->inp_faddr = pcb_any(inp);
	inp->inp_fport = 0;
	inp->inp_flowid = 0;
	if (!(inp->inp_flags & INP_BOUNDADDR)) {
		inp->inp_laddr = pcb_any(inp);
	}
	/* A datagram socket that connects anew keeps its port. */
	if (!(inp->inp_flags & INP_BOUNDPORT) &&
	    inp->inp_info->ipi_ipproto == IPPROTO_TCP) {
		port_leave(inp);
	}
	route_release(inp->inp_info->ipi_stack, &inp->inp_route);
}

int
in_pcbsetpair(struct inpcb *inp, const union inaddr *laddr, uint16_t lport,
    const union inaddr *faddr, uint16_t fport)
{
	int error;

	if (hash_find(inp->inp_info, faddr, fport, laddr, lport) != NULL) {
		return EADDRINUSE;
	}
	inp->inp_laddr = *laddr;
	inp->inp_faddr = *faddr;
	inp->inp_fport = fport;
	error = port_enter(inp, lport, false);
	return error != 0 ? error : hash_enter(inp);
}

void
in_pcbfree(struct inpcb *inp)
{
	struct inpcbinfo *ipi = inp->inp_info;

	hash_leave(inp);
	port_leave(inp);
	ip_freemoptions(inp);
	route_release(ipi->ipi_stack, &inp->inp_route);
	m_freem(inp->inp_options);
	LIST_REMOVE(inp, inp_list);
	ipi->ipi_count--;
	if (inp->inp_socket != NULL && inp->inp_socket->so_pcb == inp) {
		inp->inp_socket->so_pcb = NULL;
	}
	free(inp);
}

/* ---- lookup ---- */

int
in_pcbscore(const struct inpcb *inp, const union inaddr *laddr,
    const struct ifnet *ifp)
{
	uint32_t bound = inp->inp_socket->so_boundif;
	int score = 1;

	if (bound != 0 && ifp != NULL) {
		if (ifp->if_index != bound) {
			return 0;
		}
		score += 2;
	}
	if (in_eq(&inp->inp_laddr, laddr)) {
		return score + 8;
	}
	if (!in_isany(&inp->inp_laddr)) {
		return 0;
	}
	if (in_is4(&inp->inp_laddr) != in_is4(laddr)) {
		/* :: takes IPv4 in unless told not to; never the reverse */
		return in_is4(laddr) && !(inp->inp_flags & INP_V6ONLY) ? score :
									 0;
	}
	return score + 1;
}

/* The best listener (TCP) or unconnected socket of a port. Among equals with
 * SO_REUSEPORT the 4-tuple's hash decides, so a flow stays with one. */
static struct inpcb *
port_lookup(const struct inpcbinfo *ipi, uint16_t port,
    const union inaddr *faddr, uint16_t fport, const union inaddr *laddr,
    uint16_t lport, const struct ifnet *ifp)
{
	const struct inpport *pp = in_pcbport(ipi, port);
	struct inpcb *inp, *best = NULL;
	uint32_t need = ipi->ipi_ipproto == IPPROTO_TCP ? SOO_ACCEPTCONN : 0;
	uint32_t equals = 0, pick;
	int bestscore = 0, score;

	if (pp == NULL) {
		return NULL;
	}
	LIST_FOREACH (inp, &pp->pp_bound, inp_porthash) {
		if ((pcb_options(inp) & need) != need) {
			continue;
		}
		score = in_pcbscore(inp, laddr, ifp);
		if (score > bestscore) {
			best = inp;
			bestscore = score;
			equals = 1;
		} else if (score == bestscore && score != 0 &&
		    (pcb_options(inp) & SOO_REUSEPORT)) {
			equals++;
		}
	}
	if (equals < 2 || !(pcb_options(best) & SOO_REUSEPORT)) {
		return best;
	}
	pick = pcb_hash(ipi, faddr, fport, laddr, lport) % equals;
	LIST_FOREACH (inp, &pp->pp_bound, inp_porthash) {
		if ((pcb_options(inp) & (need | SOO_REUSEPORT)) ==
			(need | SOO_REUSEPORT) &&
		    in_pcbscore(inp, laddr, ifp) == bestscore && pick-- == 0) {
			return inp;
		}
	}
	return best;
}

struct inpcb *
in_pcblookup(struct inpcbinfo *ipi, const union inaddr *faddr, uint16_t fport,
    const union inaddr *laddr, uint16_t lport, bool wildcard,
    const struct ifnet *ifp)
{
	struct inpcb *inp = NULL;

	if (ipi->ipi_nconn > 0) {
		inp = hash_find(ipi, faddr, fport, laddr, lport);
		if (inp != NULL &&
		    (ifp == NULL || inp->inp_socket->so_boundif == 0 ||
			inp->inp_socket->so_boundif == ifp->if_index)) {
			return inp;
		}
	}
	if (!wildcard) {
		return NULL;
	}
	inp = port_lookup(ipi, lport, faddr, fport, laddr, lport, ifp);
	if (inp == NULL && lport != 0) { /* INP_ANYIP */
		inp = port_lookup(ipi, 0, faddr, fport, laddr, lport, ifp);
	}
	return inp;
}

void
in_pcbnotifyall(struct inpcbinfo *ipi, const union inaddr *faddr, int error,
    void (*fn)(struct inpcb *, int))
{
	struct inpcb *inp, *next;

	for (inp = LIST_FIRST(&ipi->ipi_list); inp != NULL; inp = next) {
		next = LIST_NEXT(inp, inp_list);
		if (in_eq(&inp->inp_faddr, faddr)) {
			fn(inp, error);
		}
	}
}

int
in_setsockaddr(struct socket *so, struct sockaddr_storage *ss, socklen_t *len)
{
	const struct inpcb *inp = sotoinpcb(so);

	if (inp == NULL) {
		return EINVAL;
	}
	*len = in_sockaddr_put(so->so_family, &inp->inp_laddr, inp->inp_lport,
	    inp->inp_scope, ss);
	return 0;
}

int
in_setpeeraddr(struct socket *so, struct sockaddr_storage *ss, socklen_t *len)
{
	const struct inpcb *inp = sotoinpcb(so);

	if (inp == NULL || !in_pcbconnected(inp)) {
		return ENOTCONN;
	}
	*len = in_sockaddr_put(so->so_family, &inp->inp_faddr, inp->inp_fport,
	    inp->inp_scope, ss);
	return 0;
}
