/*
 * uipc_usrreq.c - PF_LOCAL: sockets connected inside one stack.
 *
 * Names are opaque bytes in a table of the stack's; there is no file system
 * behind them. What is sent goes straight to the peer's so_rcv. The sender's
 * so_snd holds nothing, but its counts are kept equal to the peer's so_rcv, so
 * sbspace() tells how much more may be sent; pru_rcvd lowers them.
 */
#include <sys/un.h>

#include "bsdcore/sys/kernel.h"
#include "bsdcore/sys/protosw.h"
#include "bsdcore/sys/socketvar.h"

#define UNP_NAMELEN sizeof(((struct sockaddr_un *)0)->sun_path)
#define UNP_HDRLEN offsetof(struct sockaddr_un, sun_path)

struct unpcb {
	struct socket *unp_socket;
	struct unpcb *unp_conn; /* streams: the peer; datagrams: where to */
	LIST_HEAD(, unpcb) unp_refs; /* who has us as unp_conn (datagrams) */
	LIST_ENTRY(unpcb) unp_reflink;
	LIST_ENTRY(unpcb) unp_link; /* us_names, when bound */
	bool unp_bound;
	uint8_t unp_namelen;
	uint8_t unp_name[UNP_NAMELEN];
};

struct unp_state {
	LIST_HEAD(, unpcb) us_names;
};

static struct unpcb *
sotounpcb(const struct socket *so)
{
	return so->so_pcb;
}

static bool
unp_isdgram(const struct socket *so)
{
	return !(so->so_proto->pr_flags & PR_CONNREQUIRED);
}

static int
unp_init(struct stack *s)
{
	s->s_so->sos_unp = calloc(1, sizeof(struct unp_state));
	return s->s_so->sos_unp != NULL ? 0 : ENOMEM;
}

static void
unp_fini(struct stack *s)
{
	free(s->s_so->sos_unp);
	s->s_so->sos_unp = NULL;
}

static struct unpcb *
unp_lookup(struct stack *s, const uint8_t *name, size_t len)
{
	struct unpcb *unp;

	LIST_FOREACH (unp, &s->s_so->sos_unp->us_names, unp_link) {
		if (unp->unp_namelen == len &&
		    memcmp(unp->unp_name, name, len) == 0) {
			return unp;
		}
	}
	return NULL;
}

static int
unp_attach(struct socket *so, int proto)
{
	uint32_t space = (uint32_t)so->so_stack->s_so->sos_local_space;
	struct unpcb *unp;

	if (proto != 0 && proto != PF_LOCAL) {
		return EPROTONOSUPPORT;
	}
	unp = calloc(1, sizeof(*unp));
	if (unp == NULL) {
		return ENOBUFS;
	}
	if (so->so_rcv.sb_hiwat == 0) {
		(void)sbreserve(&so->so_rcv, space);
		(void)sbreserve(&so->so_snd, space);
	}
	LIST_INIT(&unp->unp_refs);
	unp->unp_socket = so;
	so->so_pcb = unp;
	return 0;
}

/* so_snd of `from` mirrors so_rcv of `to`. */
static void
unp_mirror(struct socket *from, const struct socket *to)
{
	from->so_snd.sb_cc = to->so_rcv.sb_cc;
	from->so_snd.sb_mbcnt = to->so_rcv.sb_mbcnt;
}

static void
unp_unrefer(struct unpcb *unp)
{
	LIST_REMOVE(unp, unp_reflink);
	unp->unp_conn = NULL;
	unp->unp_socket->so_snd.sb_cc = 0;
	unp->unp_socket->so_snd.sb_mbcnt = 0;
}

/* Part a stream from its peer; error: what the peer is told. */
static void
unp_part(struct unpcb *unp, int error)
{
	struct unpcb *peer = unp->unp_conn;

	unp->unp_conn = NULL;
	peer->unp_conn = NULL;
	if (error != 0) {
		peer->unp_socket->so_error = error;
	}
	soisdisconnected(unp->unp_socket);
	soisdisconnected(peer->unp_socket);
}

static int
unp_disconnect(struct socket *so)
{
	struct unpcb *unp = sotounpcb(so);

	if (unp->unp_conn == NULL) {
		so->so_state &= ~(uint32_t)SS_ISCONNECTED;
		return ENOTCONN;
	}
	if (unp_isdgram(so)) {
		unp_unrefer(unp);
		so->so_state &= ~(uint32_t)SS_ISCONNECTED;
	} else {
		unp_part(unp, so->so_rcv.sb_cc > 0 ? ECONNRESET : 0);
	}
	return 0;
}

static void
unp_drop(struct socket *so, int error)
{
	struct unpcb *unp = sotounpcb(so), *ref;

	if (unp->unp_conn != NULL) {
		if (unp_isdgram(so)) {
			unp_unrefer(unp);
		} else {
			unp_part(unp, error);
		}
	}
	/* Datagram senders notice at their next send: ECONNREFUSED. */
	while ((ref = LIST_FIRST(&unp->unp_refs)) != NULL) {
		unp_unrefer(ref);
		sowwakeup(ref->unp_socket);
	}
	if (unp->unp_bound) {
		LIST_REMOVE(unp, unp_link);
	}
	so->so_pcb = NULL;
	free(unp);
}

static void
unp_detach(struct socket *so)
{
	unp_drop(so, so->so_rcv.sb_cc > 0 ? ECONNRESET : 0);
}

static void
unp_abort(struct socket *so)
{
	unp_drop(so, ECONNRESET);
	soisdisconnected(so);
}

static int
unp_name(const struct sockaddr *sa, socklen_t len, const uint8_t **name,
    size_t *namelen)
{
	if (len <= (socklen_t)UNP_HDRLEN || len > UNP_HDRLEN + UNP_NAMELEN) {
		return EINVAL;
	}
	if (sa->sa_family != AF_LOCAL) {
		return EINVAL;
	}
	*name = (const uint8_t *)sa + UNP_HDRLEN;
	*namelen = len - UNP_HDRLEN;
	return 0;
}

static int
unp_bind(struct socket *so, const struct sockaddr *sa, socklen_t len)
{
	struct unpcb *unp = sotounpcb(so);
	const uint8_t *name;
	size_t n;
	int error = unp_name(sa, len, &name, &n);

	if (error != 0) {
		return error;
	}
	if (unp->unp_namelen != 0) {
		return EINVAL;
	}
	if (unp_lookup(so->so_stack, name, n) != NULL) {
		return EADDRINUSE;
	}
	memcpy(unp->unp_name, name, n);
	unp->unp_namelen = (uint8_t)n;
	unp->unp_bound = true;
	LIST_INSERT_HEAD(&so->so_stack->s_so->sos_unp->us_names, unp, unp_link);
	return 0;
}

static int
unp_listen(struct socket *so, int backlog)
{
	(void)backlog;
	return sotounpcb(so)->unp_bound ? 0 : EINVAL;
}

static void
unp_pair(struct unpcb *a, struct unpcb *b)
{
	a->unp_conn = b;
	b->unp_conn = a;
}

static void
unp_refer(struct unpcb *unp, struct unpcb *to)
{
	unp->unp_conn = to;
	LIST_INSERT_HEAD(&to->unp_refs, unp, unp_reflink);
	unp_mirror(unp->unp_socket, to->unp_socket);
}

static int
unp_connect(struct socket *so, const struct sockaddr *sa, socklen_t len)
{
	struct unpcb *unp = sotounpcb(so), *peer;
	struct socket *head, *child;
	const uint8_t *name;
	size_t n;
	int error = unp_name(sa, len, &name, &n);

	if (error != 0) {
		return error;
	}
	peer = unp_lookup(so->so_stack, name, n);
	if (peer == NULL) {
		return ECONNREFUSED;
	}
	head = peer->unp_socket;
	if (head->so_type != so->so_type) {
		return EPROTOTYPE;
	}
	if (unp_isdgram(so)) {
		unp_refer(unp, peer);
		soisconnected(so);
		return 0;
	}
	if (!(head->so_options & SOO_ACCEPTCONN)) {
		return ECONNREFUSED;
	}
	if (soqfull(head)) {
		return EAGAIN;
	}
	child = sonewconn(head, 0);
	if (child == NULL) {
		return ECONNREFUSED;
	}
	memcpy(sotounpcb(child)->unp_name, name, n);
	sotounpcb(child)->unp_namelen = (uint8_t)n;
	unp_pair(unp, sotounpcb(child));
	soisconnected(child);
	soisconnected(so);
	return 0;
}

static int
unp_connect2(struct socket *a, struct socket *b)
{
	struct unpcb *ua = sotounpcb(a), *ub = sotounpcb(b);

	if (a->so_type != b->so_type) {
		return EPROTOTYPE;
	}
	if (unp_isdgram(a)) {
		unp_refer(ua, ub);
		unp_refer(ub, ua);
	} else {
		unp_pair(ua, ub);
	}
	soisconnected(a);
	soisconnected(b);
	return 0;
}

static int
unp_shutdown(struct socket *so)
{
	struct unpcb *peer = sotounpcb(so)->unp_conn;

	if (peer != NULL && !unp_isdgram(so)) {
		socantrcvmore(peer->unp_socket);
	}
	return 0;
}

/* A datagram from so to wherever it goes; consumes nothing on error. */
static int
unp_send_dgram(struct socket *so, struct mbuf *m, const struct sockaddr *to,
    socklen_t tolen)
{
	struct unpcb *unp = sotounpcb(so), *peer = unp->unp_conn;
	struct sockaddr_un from = { .sun_family = AF_LOCAL };
	struct socket *dst;

	if (to != NULL) {
		const uint8_t *name;
		size_t n;
		int error = unp_name(to, tolen, &name, &n);

		if (error != 0) {
			return error;
		}
		peer = unp_lookup(so->so_stack, name, n);
	}
	if (peer == NULL) {
		if (to == NULL) { /* it has gone */
			so->so_state &= ~(uint32_t)SS_ISCONNECTED;
		}
		return ECONNREFUSED;
	}
	dst = peer->unp_socket;
	if (dst->so_type != so->so_type) {
		return EPROTOTYPE;
	}
	if (dst->so_rcv.sb_state & SBS_CANTRCVMORE) {
		return EPIPE;
	}
	memcpy(from.sun_path, unp->unp_name, unp->unp_namelen);
	if (!sbappendaddr(&dst->so_rcv, (struct sockaddr *)&from,
		(socklen_t)UNP_HDRLEN + unp->unp_namelen, m, NULL)) {
		return EWOULDBLOCK;
	}
	if (peer == unp->unp_conn) {
		unp_mirror(so, dst);
		sbavail_update(so);
	}
	sorwakeup(dst);
	return 0;
}

static int
unp_send_conn(struct socket *so, struct mbuf *m)
{
	struct unpcb *peer = sotounpcb(so)->unp_conn;
	struct socket *dst = peer != NULL ? peer->unp_socket : NULL;

	if (dst == NULL || (dst->so_rcv.sb_state & SBS_CANTRCVMORE)) {
		return EPIPE;
	}
	if (so->so_proto->pr_flags & PR_ATOMIC) {
		m_last(m)->m_flags |= M_EOR;
		if (!sbappendrecord(&dst->so_rcv, m)) {
			return EWOULDBLOCK;
		}
	} else {
		sbappendstream(&dst->so_rcv, m);
	}
	unp_mirror(so, dst);
	sbavail_update(so);
	sorwakeup(dst);
	return 0;
}

static int
unp_send(struct socket *so, int flags, struct mbuf *m,
    const struct sockaddr *to, socklen_t tolen, struct mbuf *control)
{
	int error;

	(void)flags;
	m_freem(control); /* descriptors and credentials stay where they are */
	error = unp_isdgram(so) ? unp_send_dgram(so, m, to, tolen) :
				  unp_send_conn(so, m);
	if (error != 0) {
		m_freem(m);
	}
	return error;
}

/* flags -1: so will read no more (SHUT_RD). */
static int
unp_rcvd(struct socket *so, int flags)
{
	struct unpcb *unp = sotounpcb(so), *ref;

	if (unp_isdgram(so)) {
		LIST_FOREACH (ref, &unp->unp_refs, unp_reflink) {
			unp_mirror(ref->unp_socket, so);
			sowwakeup(ref->unp_socket);
		}
	} else if (unp->unp_conn != NULL) {
		struct socket *peer = unp->unp_conn->unp_socket;

		unp_mirror(peer, so);
		if (flags == -1) {
			socantsendmore(peer);
		}
		sowwakeup(peer);
	}
	return 0;
}

static int
unp_putname(const struct unpcb *unp, struct sockaddr_storage *ss, socklen_t *len)
{
	struct sockaddr_un un = { .sun_family = AF_LOCAL };

	memcpy(un.sun_path, unp->unp_name, unp->unp_namelen);
	memcpy(ss, &un, sizeof(un));
	*len = (socklen_t)UNP_HDRLEN + unp->unp_namelen;
	return 0;
}

static int
unp_sockaddr(struct socket *so, struct sockaddr_storage *ss, socklen_t *len)
{
	return unp_putname(sotounpcb(so), ss, len);
}

static int
unp_peeraddr(struct socket *so, struct sockaddr_storage *ss, socklen_t *len)
{
	const struct unpcb *peer = sotounpcb(so)->unp_conn;

	return peer == NULL ? ENOTCONN : unp_putname(peer, ss, len);
}

static const struct pr_usrreqs unp_usrreqs = {
	.pru_attach = unp_attach,
	.pru_detach = unp_detach,
	.pru_bind = unp_bind,
	.pru_listen = unp_listen,
	.pru_connect = unp_connect,
	.pru_connect2 = unp_connect2,
	.pru_disconnect = unp_disconnect,
	.pru_shutdown = unp_shutdown,
	.pru_abort = unp_abort,
	.pru_send = unp_send,
	.pru_rcvd = unp_rcvd,
	.pru_sockaddr = unp_sockaddr,
	.pru_peeraddr = unp_peeraddr,
};

static const struct protosw localsw[] = {
	{ .pr_type = SOCK_STREAM,
	    .pr_domain = PF_LOCAL,
	    .pr_flags = PR_CONNREQUIRED | PR_WANTRCVD | PR_LISTEN,
	    .pr_usrreqs = &unp_usrreqs },
	{ .pr_type = SOCK_DGRAM,
	    .pr_domain = PF_LOCAL,
	    .pr_flags = PR_ATOMIC | PR_ADDR | PR_WANTRCVD,
	    .pr_usrreqs = &unp_usrreqs },
	{ .pr_type = SOCK_SEQPACKET,
	    .pr_domain = PF_LOCAL,
	    .pr_flags = PR_ATOMIC | PR_CONNREQUIRED | PR_WANTRCVD | PR_LISTEN,
	    .pr_usrreqs = &unp_usrreqs },
};

const struct domain localdomain = {
	.dom_family = PF_LOCAL,
	.dom_name = "local",
	.dom_protosw = localsw,
	.dom_nprotosw = nitems(localsw),
	.dom_init = unp_init,
	.dom_fini = unp_fini,
};
