/*
 * uipc_gateway.c - carries the flows of a neighbour stack over host sockets,
 * in the manner of slirp and passt.
 *
 * The stack it runs on has a promiscuous interface that takes any address
 * (IFF_PROMISC_, IFF_ANYIP_). A catch-all listener (SOO_ANYIP, SOO_HOLDSYN) is told
 * of every SYN before it is answered: we connect(2) to the mapped address, and
 * only when that stands is the SYN,ACK sent (pru_accept); a refusal becomes a
 * RST. A catch-all datagram socket does the same for UDP: the first datagram
 * of a flow makes a stack socket bound to the address asked for and connected
 * to the sender, so the next ones find that socket by its 4-tuple.
 *
 * Bounds: at most gw_max flows; datagram flows end after GW_UDP_IDLE without
 * traffic (GW_DNS_IDLE for port 53).
 */
#include <fcntl.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "bsdcore/kern/uipc_relay.h"
#include "bsdcore/netinet/in_pcb.h"
#include "bsdcore/netinet/ip_icmp.h"
#include "bsdcore/netinet/ip_var.h"

#define GW_UDP_IDLE (60 * NSEC_PER_SEC)
#define GW_DNS_IDLE (10 * NSEC_PER_SEC)
#define GW_DGRAM_MAX 65536u
#define GW_BATCH 64

struct gwmap {
	union inaddr gm_match, gm_to;
	unsigned gm_plen; /* of the mapped form */
	uint16_t gm_port, gm_toport;
	uint8_t gm_proto;
	bool gm_refuse;
};

struct gateway {
	struct socket *gw_tcp, *gw_udp;
	struct gwmap *gw_maps;
	int gw_nmaps;
	uint32_t gw_max;
	struct bsd_gwstats gw_stats;
	uint8_t gw_buf[GW_DGRAM_MAX];
};

struct gwforward { /* r_name of a RELAY_FORWARD holds one */
	struct bsd_addr gf_to;
};
CTASSERT(sizeof(struct gwforward) <= sizeof(((struct relay *)0)->r_name));

static void
gw_gone(struct stack *s, struct relay *r)
{
	callout_drain(s, &r->r_idle);
	if (r->r_idle.c_fn != NULL) {
		callout_reserve(s, -1);
	}
	s->s_gateway->gw_stats.open--;
}

/* How long a forward waits when there are no descriptors or no memory. */
#define GW_FORWARD_PAUSE (100 * NSEC_PER_MSEC)

static void
gw_forward_gone(struct stack *s, struct relay *r)
{
	callout_drain(s, &r->r_idle);
	callout_reserve(s, -1);
}

static void
gw_forward_again(struct stack *s, void *arg)
{
	relay_want(s, arg, EPOLLIN);
}

/* A relay that counts as a flow; NULL at the limit. */
static struct relay *
gw_flow(struct stack *s, struct socket *so, int kind)
{
	struct gateway *gw = s->s_gateway;
	struct relay *r;

	if (gw->gw_stats.open >= gw->gw_max) {
		gw->gw_stats.limited++;
		return NULL;
	}
	r = relay_new(s, so, -1, kind);
	if (r != NULL) {
		gw->gw_stats.open++;
		r->r_mine = true;
		r->r_gone = gw_gone;
		r->r_idle.c_time = CALLOUT_NEVER;
		r->r_bytes_out = &gw->gw_stats.bytes_out;
		r->r_bytes_in = &gw->gw_stats.bytes_in;
	}
	return r;
}

static bool
gw_prefix(const union inaddr *a, const union inaddr *b, unsigned plen)
{
	unsigned bytes = plen / 8, bits = plen % 8;

	return memcmp(a->ia_b, b->ia_b, bytes) == 0 &&
	    (bits == 0 ||
		((a->ia_b[bytes] ^ b->ia_b[bytes]) >> (8 - bits)) == 0);
}

/* Where on the host the flow to (addr, port) goes; false: refused. */
static bool
gw_map(const struct gateway *gw, uint8_t proto, union inaddr *addr,
    uint16_t *port)
{
	for (int i = 0; i < gw->gw_nmaps; i++) {
		const struct gwmap *m = &gw->gw_maps[i];

		if ((m->gm_proto != 0 && m->gm_proto != proto) ||
		    (m->gm_port != 0 && m->gm_port != *port) ||
		    !gw_prefix(addr, &m->gm_match, m->gm_plen)) {
			continue;
		}
		if (m->gm_refuse) {
			return false;
		}
		*addr = m->gm_to;
		if (m->gm_toport != 0) {
			*port = m->gm_toport;
		}
		return true;
	}
	return true;
}

/* A non-blocking host socket on its way to (addr, port); -1: errno. */
static int
gw_host(int type, const union inaddr *addr, uint16_t port, bool *pending)
{
	struct sockaddr_storage ss;
	int family = in_is4(addr) ? AF_INET : AF_INET6, one = 1;
	socklen_t len = in_sockaddr_put(family, addr, port, 0, &ss);
	int fd = socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	*pending = false;
	if (fd < 0) {
		return -1;
	}
	if (type == SOCK_STREAM) {
		(void)setsockopt(fd, IPPROTO_TCP, 1 /* TCP_NODELAY */, &one,
		    sizeof(one));
	}
	if (connect(fd, (const struct sockaddr *)&ss, len) != 0) {
		if (errno != EINPROGRESS) {
			close(fd);
			return -1;
		}
		*pending = true;
	}
	return fd;
}

/* A SYN has come: remember it; the protocol must not be re-entered here. */
static void
gw_newconn(struct socket *head, struct socket *so)
{
	struct stack *s = head->so_stack;
	struct relay *r = gw_flow(s, so, RELAY_NEWCONN);

	if (r == NULL) {
		r = relay_new(s, so, -1, RELAY_REFUSE);
	}
	if (r != NULL) {
		r->r_mine = true;
		relay_queue(s, r);
	}
}

void
gateway_connected(struct stack *s, bool refused)
{
	struct bsd_gwstats *st = &s->s_gateway->gw_stats;

	*(refused ? &st->tcp_refused : &st->tcp_flows) += 1;
}

static void
gw_connect(struct stack *s, struct relay *r)
{
	struct gateway *gw = s->s_gateway;
	struct inpcb *inp = sotoinpcb(r->r_so);
	union inaddr addr = inp->inp_laddr;
	uint16_t port = inp->inp_lport;
	int fd = -1;

	r->r_kind = BSD_RELAY_HOST;
	if (gw_map(gw, IPPROTO_TCP, &addr, &port)) {
		fd = gw_host(SOCK_STREAM, &addr, port, &r->r_connecting);
	}
	if (fd < 0) {
		gw->gw_stats.tcp_refused++;
		relay_abort(s, r);
		return;
	}
	r->r_watch.wa_fd = fd;
	if (r->r_connecting) {
		r->r_wblocked = true; /* until EPOLLOUT says it ended */
		relay_want(s, r, EPOLLOUT);
	} else {
		gateway_connected(s, false);
		(void)PRU0(r->r_so, accept);
		relay_want(s, r, 0);
	}
}

/* The listener's queue only gives up what its relays already serve. */
static void
gw_accept(struct relay *r)
{
	struct socket *so;

	while (!TAILQ_EMPTY(&r->r_so->so_comp)) {
		if (soaccept(r->r_so, &so) == 0 && so->so_relay == NULL) {
			soabort(so);
		}
	}
}

/* ---- datagrams ---- */

static void
gw_idle(struct stack *s, void *arg)
{
	struct relay *r = arg;
	struct socket *so = r->r_so;
	uint64_t idle =
	    sotoinpcb(so)->inp_lport == 53 ? GW_DNS_IDLE : GW_UDP_IDLE;

	if (s->s_now - r->r_active < idle) {
		callout_reset(s, &r->r_idle, r->r_active + idle);
		return;
	}
	relay_free(s, r);
	soclose(so);
}

/*
 * What the host says about a destination, said to the sender in the ICMP codes
 * that its socket hears as the same errno.
 */
static void
gw_unreach(struct socket *so, int error)
{
	switch (error) {
	case ECONNREFUSED:
		udp_unreach(sotoinpcb(so), ICMP_UNREACH_PORT);
		break;
	case ENETUNREACH:
		udp_unreach(sotoinpcb(so), ICMP_UNREACH_NET_UNKNOWN);
		break;
	case EHOSTUNREACH:
	case EACCES:
	case EPERM:
		udp_unreach(sotoinpcb(so), ICMP_UNREACH_HOST_PROHIB);
		break;
	default:
		break;
	}
}

static void
gw_dgram_out(struct gateway *gw, struct relay *r, size_t n)
{
	if (send(r->r_watch.wa_fd, gw->gw_buf, n,
		MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) {
		gw->gw_stats.bytes_out += n;
	} else {
		gw_unreach(r->r_so, errno);
	}
}

/* Datagrams of the stack socket to the host. Errors are the network's. */
static void
gw_dgram_down(struct stack *s, struct relay *r)
{
	struct gateway *gw = s->s_gateway;

	for (int i = 0; i < GW_BATCH; i++) {
		struct iovec iov = { .iov_base = gw->gw_buf,
			.iov_len = sizeof(gw->gw_buf) };
		struct uio uio = { .uio_iov = &iov,
			.uio_iovcnt = 1,
			.uio_resid = sizeof(gw->gw_buf) };
		int flags = 0;
		size_t n = 0;

		if (r->r_so->so_rcv.sb_mb == NULL) {
			r->r_so->so_error = 0; /* nobody there; it may come */
			return;
		}
		if (soreceive(r->r_so, &uio, NULL, NULL, NULL, &flags, &n) != 0) {
			continue;
		}
		r->r_active = s->s_now;
		gw_dgram_out(gw, r, n);
	}
	relay_queue(s, r);
}

static void
gw_dgram_up(struct stack *s, struct relay *r)
{
	struct gateway *gw = s->s_gateway;

	for (int i = 0; i < GW_BATCH; i++) {
		ssize_t n = recv(r->r_watch.wa_fd, gw->gw_buf,
		    sizeof(gw->gw_buf), MSG_DONTWAIT);
		struct mbuf *m;

		if (n < 0) {
			gw_unreach(r->r_so, errno); /* told once */
			return;
		}
		r->r_active = s->s_now;
		m = m_getm(s->s_mb, (uint32_t)n + MAX_HDR, MT_DATA, M_PKTHDR);
		if (m == NULL) {
			continue;
		}
		m->m_data += MAX_HDR;
		if (m_append(m, (uint32_t)n, gw->gw_buf) != 0) {
			m_freem(m);
			continue;
		}
		gw->gw_stats.bytes_in += (uint64_t)n;
		(void)PRU(r->r_so, send, 0, m, NULL, 0, NULL);
	}
}

/* A stack socket from (laddr, lport), whoever owns that, to the sender. */
static struct socket *
gw_dgram_socket(struct stack *s, const union inaddr *laddr, uint16_t lport,
    const struct sockaddr_storage *peer, socklen_t peerlen)
{
	struct sockaddr_storage ss;
	socklen_t len = in_sockaddr_put(peer->ss_family, laddr, lport, 0, &ss);
	struct socket *so;

	if (socreate(s, peer->ss_family, SOCK_DGRAM, 0, &so) != 0) {
		return NULL;
	}
	so->so_options |= SOO_ANYIP | SOO_REUSEADDR;
	if (sobind(so, (const struct sockaddr *)&ss, len) != 0 ||
	    soconnect(so, (const struct sockaddr *)peer, peerlen) != 0) {
		soclose(so);
		return NULL;
	}
	return so;
}

/* Later datagrams of a burst whose first has made the flow meanwhile. */
static bool
gw_dgram_again(struct stack *s, const union inaddr *dst, uint16_t dport,
    const struct sockaddr_storage *peer, size_t n)
{
	union inaddr faddr;
	uint16_t fport;
	uint32_t scope;
	struct inpcb *inp;
	struct relay *r;

	if (in_sockaddr_get(peer->ss_family, (const struct sockaddr *)peer,
		sizeof(*peer), &faddr, &fport, &scope) != 0) {
		return false;
	}
	inp = in_pcblookup(s->s_udbinfo, &faddr, fport, dst, dport, 0, NULL);
	if (inp == NULL || inp->inp_fport != fport ||
	    (r = inp->inp_socket->so_relay) == NULL || r->r_kind != RELAY_DGRAM) {
		return false;
	}
	gw_dgram_out(s->s_gateway, r, n);
	return true;
}

/* A flow over so and fd, which are then its own; NULL: they are not. */
static struct relay *
gw_dgram_flow(struct stack *s, struct socket *so, int fd, uint16_t dport)
{
	struct relay *r;

	if (callout_reserve(s, 1) != 0) {
		return NULL;
	}
	r = gw_flow(s, so, RELAY_DGRAM);
	if (r == NULL) {
		callout_reserve(s, -1);
		return NULL;
	}
	r->r_watch.wa_fd = fd;
	callout_init(&r->r_idle, gw_idle, r);
	r->r_active = s->s_now;
	callout_reset(s, &r->r_idle,
	    s->s_now + (dport == 53 ? GW_DNS_IDLE : GW_UDP_IDLE));
	relay_want(s, r, EPOLLIN);
	return r;
}

static void
gw_dgram_new(struct stack *s, const union inaddr *dst, uint16_t dport,
    const struct sockaddr_storage *peer, socklen_t peerlen, size_t n)
{
	struct gateway *gw = s->s_gateway;
	union inaddr to = *dst;
	uint16_t port = dport;
	struct socket *so;
	struct relay *r;
	bool pending;
	int fd = -1, error = EACCES;

	if (gw_dgram_again(s, dst, dport, peer, n)) {
		return;
	}
	if (gw_map(gw, IPPROTO_UDP, &to, &port)) {
		fd = gw_host(SOCK_DGRAM, &to, port, &pending);
		error = fd < 0 ? errno : 0;
	}
	so = gw_dgram_socket(s, dst, dport, peer, peerlen);
	r = fd >= 0 && so != NULL ? gw_dgram_flow(s, so, fd, dport) : NULL;
	if (r == NULL) {
		gw->gw_stats.udp_refused++;
		if (so != NULL) {
			gw_unreach(so, error);
			soclose(so);
		}
		if (fd >= 0) {
			close(fd);
		}
		return;
	}
	gw->gw_stats.udp_flows++;
	gw_dgram_out(gw, r, n);
}

/* Where a datagram was sent, from the IP_RECVORIGDSTADDR control data. */
static bool
gw_origdst(const struct mbuf *control, union inaddr *dst, uint16_t *port)
{
	struct sockaddr_in sin;

	for (; control != NULL; control = control->m_next) {
		const struct cmsghdr *h = (const void *)control->m_data;

		if (control->m_len < CMSG_LEN(sizeof(sin)) ||
		    h->cmsg_level != IPPROTO_IP || h->cmsg_type != 20) {
			continue;
		}
		memcpy(&sin, CMSG_DATA(h), sizeof(sin));
		*dst = in_map4(sin.sin_addr.s_addr);
		*port = ntohs(sin.sin_port);
		return true;
	}
	return false;
}

static void
gw_dgram_catch(struct stack *s, struct relay *r)
{
	struct gateway *gw = s->s_gateway;

	for (int i = 0; i < GW_BATCH; i++) {
		struct iovec iov = { .iov_base = gw->gw_buf,
			.iov_len = sizeof(gw->gw_buf) };
		struct uio uio = { .uio_iov = &iov,
			.uio_iovcnt = 1,
			.uio_resid = sizeof(gw->gw_buf) };
		struct sockaddr_storage peer;
		socklen_t peerlen = sizeof(peer);
		struct mbuf *control = NULL;
		union inaddr dst;
		uint16_t port;
		int flags = 0;
		size_t n = 0;

		if (r->r_so->so_rcv.sb_mb == NULL) {
			r->r_so->so_error = 0;
			return;
		}
		if (soreceive(r->r_so, &uio, &peer, &peerlen, &control, &flags,
			&n) != 0) {
			continue;
		}
		if (gw_origdst(control, &dst, &port)) {
			gw_dgram_new(s, &dst, port, &peer, peerlen, n);
		}
		m_freem(control);
	}
	relay_queue(s, r);
}

/* ---- connections from the host ---- */

static void
gw_forward(struct stack *s, struct relay *r, int fd)
{
	struct gwforward gf;
	struct sockaddr_storage ss;
	union inaddr to;
	struct socket *so;
	struct relay *flow;
	socklen_t len;

	memcpy(&gf, r->r_name, sizeof(gf));
	if (gf.gf_to.family == AF_INET) {
		uint32_t v4;

		memcpy(&v4, gf.gf_to.addr, 4);
		to = in_map4(v4);
	} else {
		memcpy(to.ia_b, gf.gf_to.addr, 16);
	}
	len = in_sockaddr_put(gf.gf_to.family, &to, gf.gf_to.port, 0, &ss);
	if (socreate(s, gf.gf_to.family, SOCK_STREAM, 0, &so) != 0) {
		close(fd);
		return;
	}
	flow = gw_flow(s, so, BSD_RELAY_HOST);
	if (flow == NULL) {
		soclose(so);
		close(fd);
		return;
	}
	flow->r_watch.wa_fd = fd;
	if (soconnect(so, (const struct sockaddr *)&ss, len) != 0) {
		s->s_gateway->gw_stats.tcp_refused++;
		relay_abort(s, flow);
		return;
	}
	s->s_gateway->gw_stats.tcp_flows++;
	relay_queue(s, flow);
}

void
gateway_event(struct stack *s, struct relay *r, uint32_t revents)
{
	if (r->r_kind == RELAY_FORWARD) {
		for (int i = 0; i < GW_BATCH; i++) {
			int fd = accept4(r->r_watch.wa_fd, NULL, NULL,
			    SOCK_NONBLOCK | SOCK_CLOEXEC);

			if (fd < 0) {
				if (errno != EAGAIN && errno != EINTR &&
				    errno != ECONNABORTED) {
					relay_want(s, r, 0);
					callout_reset(s, &r->r_idle,
					    s->s_now + GW_FORWARD_PAUSE);
				}
				return;
			}
			gw_forward(s, r, fd);
		}
	} else if (r->r_kind == RELAY_DGRAM && revents != 0) {
		gw_dgram_up(s, r);
	}
}

void
gateway_work(struct stack *s, struct relay *r)
{
	switch (r->r_kind) {
	case RELAY_NEWCONN:
		gw_connect(s, r);
		return;
	case RELAY_REFUSE:
		relay_abort(s, r);
		return;
	case RELAY_ACCEPT:
		gw_accept(r);
		return;
	case RELAY_NEWDGRAM:
		gw_dgram_catch(s, r);
		return;
	case RELAY_DGRAM:
		gw_dgram_down(s, r);
		return;
	default:
		return;
	}
}

/* ---- life ---- */

static bool
gw_addr(const struct bsd_addr *a, union inaddr *out)
{
	uint32_t v4;

	switch (a->family) {
	case AF_INET:
		memcpy(&v4, a->addr, 4);
		*out = in_map4(v4);
		return true;
	case AF_INET6:
		memcpy(out->ia_b, a->addr, 16);
		return true;
	default:
		return false;
	}
}

static int
gw_setmaps(struct gateway *gw, const struct bsd_gwmap *maps, int n)
{
	gw->gw_maps = calloc((size_t)n + 1, sizeof(*gw->gw_maps));
	if (gw->gw_maps == NULL) {
		return ENOMEM;
	}
	for (int i = 0; i < n; i++) {
		struct gwmap *m = &gw->gw_maps[i];
		const struct bsd_gwmap *b = &maps[i];
		bool four = b->match.family == AF_INET;

		m->gm_refuse = b->to.family == 0;
		if (!gw_addr(&b->match, &m->gm_match) ||
		    b->plen > (four ? 32u : 128u) ||
		    (!m->gm_refuse && !gw_addr(&b->to, &m->gm_to))) {
			return EINVAL;
		}
		m->gm_plen = b->plen + (four ? 96 : 0);
		m->gm_port = b->match.port;
		m->gm_toport = b->to.port;
		m->gm_proto = (uint8_t)b->protocol;
	}
	gw->gw_nmaps = n;
	return 0;
}

/* A socket that takes whatever no other one does. */
static int
gw_catchall(struct stack *s, int type, int kind, struct socket **out)
{
	struct sockaddr_in sin = { .sin_family = AF_INET };
	struct socket *so;
	struct relay *r;
	int error = socreate(s, AF_INET, type, 0, &so);

	if (error != 0) {
		return error;
	}
	so->so_options |= SOO_ANYIP;
	error = sobind(so, (const struct sockaddr *)&sin, sizeof(sin));
	if (error == 0 && (r = relay_new(s, so, -1, kind)) == NULL) {
		error = ENOMEM;
	}
	if (error != 0) {
		soclose(so);
		return error;
	}
	r->r_mine = true;
	*out = so;
	return 0;
}

static int
gw_start(struct stack *s, struct gateway *gw)
{
	int one = 1;
	struct sockopt sopt = { .sopt_dir = SOPT_SET,
		.sopt_level = IPPROTO_IP,
		.sopt_name = 20 /* IP_RECVORIGDSTADDR */,
		.sopt_val = &one,
		.sopt_valsize = sizeof(one) };
	int error = gw_catchall(s, SOCK_STREAM, RELAY_ACCEPT, &gw->gw_tcp);

	if (error != 0) {
		return error;
	}
	gw->gw_tcp->so_options |= SOO_HOLDSYN;
	gw->gw_tcp->so_newconn = gw_newconn;
	error = solisten(gw->gw_tcp, 1 << 16);
	if (error == 0) {
		error = gw_catchall(s, SOCK_DGRAM, RELAY_NEWDGRAM, &gw->gw_udp);
	}
	if (error == 0) {
		error = sosetopt(gw->gw_udp, &sopt);
	}
	if (error == 0) {
		(void)sbreserve(&gw->gw_udp->so_rcv, 1 << 20);
	}
	return error;
}

/* The relays are gone. */
void
gateway_fini(struct stack *s)
{
	if (s->s_gateway != NULL) {
		free(s->s_gateway->gw_maps);
		free(s->s_gateway);
		s->s_gateway = NULL;
	}
}

/* It did not start. */
static void
gw_stillborn(struct stack *s)
{
	struct gateway *gw = s->s_gateway;

	if (gw->gw_tcp != NULL) {
		soclose(gw->gw_tcp);
	}
	if (gw->gw_udp != NULL) {
		soclose(gw->gw_udp);
	}
	gateway_fini(s);
}

int
bsd_gateway_start(struct stack *s, const struct bsd_gwmap *maps, int n,
    unsigned int max_flows)
{
	struct gateway *gw;
	int error = EALREADY;

	if (n < 0 || max_flows == 0) {
		return -EINVAL;
	}
	stack_enter(s);
	if (s->s_gateway == NULL) {
		gw = calloc(1, sizeof(*gw));
		error = ENOMEM;
		if (gw != NULL) {
			gw->gw_max = max_flows;
			s->s_gateway = gw;
			error = gw_setmaps(gw, maps, n);
			if (error == 0) {
				error = gw_start(s, gw);
			}
			if (error != 0) {
				gw_stillborn(s);
			}
		}
	}
	stack_leave(s);
	return -error;
}

void
bsd_gateway_stats(struct stack *s, struct bsd_gwstats *out)
{
	stack_enter(s);
	*out = (struct bsd_gwstats){ 0 };
	if (s->s_gateway != NULL) {
		*out = s->s_gateway->gw_stats;
	}
	stack_leave(s);
}

int
bsd_gateway_forward(struct stack *s, int fd, const struct bsd_addr *to)
{
	struct gwforward gf = { .gf_to = *to };
	union inaddr a;
	struct relay *r = NULL;
	int error = 0;

	stack_enter(s);
	if (s->s_gateway == NULL || !gw_addr(to, &a) || to->port == 0) {
		error = EINVAL;
	} else if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) != 0) {
		error = errno;
	} else if (callout_reserve(s, 1) != 0) {
		error = ENOMEM;
	} else if ((r = relay_new(s, NULL, fd, RELAY_FORWARD)) == NULL) {
		callout_reserve(s, -1);
		error = ENOMEM;
	} else {
		memcpy(r->r_name, &gf, sizeof(gf));
		callout_init(&r->r_idle, gw_forward_again, r);
		r->r_gone = gw_forward_gone;
		relay_want(s, r, EPOLLIN);
		if (!r->r_watched) {
			r->r_watch.wa_fd = -1;
			relay_free(s, r);
			error = ENOMEM;
		}
	}
	stack_leave(s);
	if (error != 0) {
		close(fd);
	}
	return -error;
}
