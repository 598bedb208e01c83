/*
 * uipc_sosend.c - from the user's memory into a protocol.
 *
 * Short writes are copied under the stack lock. For longer ones the room and
 * the memory are found under the lock, SB_LOCK keeps other writers out, and
 * the bytes are copied with the stack lock dropped, so that the other
 * direction and other sockets go on meanwhile:
 *
 *	lock: room? clusters -> unlock: copy -> lock: still connected? pru_send
 *
 * In virtual time, and where a loop owns the stack, there is one thread and the
 * lock is never dropped.
 */
#include "bsdcore/sys/kernel.h"
#include "bsdcore/sys/socketvar.h"

#define SO_COPYLOCKED 2048u /* bytes copied under the lock */
#define SO_HDRSPACE 80u	    /* MAX_HDR and a UDP header, aligned */
#define SO_OOBSPACE 1024u   /* urgent data may overfill by that */
#define SO_MAXDGRAM 65535u

void
uiocopyin(void *dst, size_t n, struct uio *uio)
{
	uint8_t *p = dst;

	while (n > 0) {
		const struct iovec *v = uio->uio_iov;
		size_t k = v->iov_len - uio->uio_off;

		if (k == 0) {
			uio->uio_iov++;
			uio->uio_iovcnt--;
			uio->uio_off = 0;
			continue;
		}
		k = k < n ? k : n;
		memcpy(p, (const uint8_t *)v->iov_base + uio->uio_off, k);
		p += k;
		n -= k;
		uio->uio_off += k;
		uio->uio_resid -= k;
	}
}

int
sockargs(struct mbpool *p, const void *control, size_t len, struct mbuf **out)
{
	struct mbuf *m;
	size_t off = 0;

	*out = NULL;
	if (len == 0) {
		return 0;
	}
	if (len > M16KCLBYTES) {
		return ENOBUFS;
	}
	m = len <= MLEN ? m_get(p, MT_CONTROL) :
			  m_getcl(p, MT_CONTROL, 0, (uint32_t)len);
	if (m == NULL) {
		return ENOBUFS;
	}
	memcpy(m->m_data, control, len);
	m->m_len = (uint32_t)len;
	while (off + sizeof(struct cmsghdr) <= len) {
		struct cmsghdr c;

		memcpy(&c, m->m_data + off, sizeof(c));
		if (c.cmsg_len < sizeof(c) || c.cmsg_len > len - off) {
			m_free(m);
			return EINVAL;
		}
		off += CMSG_ALIGN(c.cmsg_len);
	}
	*out = m;
	return 0;
}

/* May so send? to: an address was given. */
static int
sosend_check(struct socket *so, bool to)
{
	int pr = so->so_proto->pr_flags;
	bool connected = (so->so_state & SS_ISCONNECTED) != 0;

	if (!(pr & PR_CONNREQUIRED) && !connected && !to) {
		return so->so_family == AF_LOCAL ? ENOTCONN : EDESTADDRREQ;
	}
	if (so->so_error != 0) {
		int error = so->so_error;

		so->so_error = 0;
		return error;
	}
	if ((so->so_snd.sb_state & SBS_CANTSENDMORE) ||
	    (so->so_options & SOO_ACCEPTCONN)) {
		return EPIPE;
	}
	if (connected) {
		return so->so_pcb != NULL ? 0 : EPIPE;
	}
	if (pr & PR_CONNREQUIRED) {
		if (so->so_state & SS_ISCONNECTING) {
			return EWOULDBLOCK;
		}
		return so->so_family == AF_LOCAL ? ENOTCONN : EPIPE;
	}
	return so->so_pcb != NULL ? 0 : EINVAL;
}

/* MSG_DONTROUTE is for one call. */
static int
sosend_pru(struct socket *so, int pruflags, struct mbuf *m,
    const struct sockaddr *to, socklen_t tolen, struct mbuf *control, int flags)
{
	bool once = (flags & MSG_DONTROUTE) && !(so->so_options & SOO_DONTROUTE);
	int error;

	if (so->so_proto->pr_usrreqs->pru_send == NULL) {
		m_freem(m);
		m_freem(control);
		return EOPNOTSUPP;
	}
	if (once) {
		so->so_options |= SOO_DONTROUTE;
	}
	error = so->so_proto->pr_usrreqs->pru_send(so, pruflags, m, to, tolen,
	    control);
	if (once) {
		so->so_options &= ~(uint32_t)SOO_DONTROUTE;
	}
	return error;
}

/* Clusters that fit n bytes without wasting most of the last one. */
static struct mbuf *
sosend_getm(struct mbpool *p, uint32_t n)
{
	struct mbuf *top = NULL, **mp = &top;

	while (n > 0) {
		uint32_t size = n > 3 * M16KCLBYTES ? M64KCLBYTES :
		    n > 3 * MBIGCLBYTES		    ? M16KCLBYTES :
		    n > MCLBYTES		    ? MBIGCLBYTES :
						      MCLBYTES;
		struct mbuf *m = n <= MLEN ? m_get(p, MT_DATA) :
					     m_getcl(p, MT_DATA, 0, size);

		if (m == NULL) {
			break; /* less will do */
		}
		m->m_len = u32min(n, n <= MLEN ? MLEN : size);
		n -= m->m_len;
		*mp = m;
		mp = &m->m_next;
	}
	return top;
}

static void
sosend_fill(struct mbuf *m, struct uio *uio)
{
	for (; m != NULL; m = m->m_next) {
		uiocopyin(m->m_data, m->m_len, uio);
	}
}

/* A message that is more than a cluster: headers go in front of the chain. */
static struct mbuf *
sosend_chain(struct mbpool *p, uint32_t len, uint32_t hdr)
{
	struct mbuf *m = m_gethdr(p, MT_DATA);
	uint32_t got = 0;

	if (m == NULL) {
		return NULL;
	}
	m->m_next = sosend_getm(p, len);
	for (const struct mbuf *n = m->m_next; n != NULL; n = n->m_next) {
		got += n->m_len;
	}
	if (got < len) {
		m_freem(m);
		return NULL;
	}
	m->m_data += hdr;
	return m;
}

/* One message of len bytes as a packet with room for headers. */
static struct mbuf *
sosend_packet(struct socket *so, struct uio *uio)
{
	struct mbpool *p = so->so_stack->s_mb;
	uint32_t len = (uint32_t)uio->uio_resid;
	uint32_t hdr = so->so_family == AF_LOCAL ? 0 : SO_HDRSPACE;
	struct mbuf *m;

	if (len + hdr > M64KCLBYTES) {
		m = sosend_chain(p, len, hdr);
	} else {
		m = len + hdr <= MLEN ? m_gethdr(p, MT_DATA) :
					m_getcl(p, MT_DATA, M_PKTHDR, len + hdr);
		if (m != NULL) {
			m->m_data += hdr;
			m->m_len = len;
		}
	}
	if (m != NULL) {
		m->m_pkthdr.len = len;
		sosend_fill(m, uio);
	}
	return m;
}

static int
sosend_atomic(struct socket *so, struct uio *uio, const struct sockaddr *to,
    socklen_t tolen, struct mbuf *control, int flags, size_t *done)
{
	struct uio saved = *uio;
	uint32_t limit =
	    so->so_family == AF_LOCAL ? so->so_snd.sb_hiwat : SO_MAXDGRAM;
	int pruflags = (flags & MSG_MORE) ? PRUS_MORETOCOME : 0;
	size_t len = uio->uio_resid;
	struct mbuf *m;
	bool oob = (flags & MSG_OOB) && so->so_family != AF_INET6; /* ignored */
	int error = len > limit ? EMSGSIZE :
	    oob			? EOPNOTSUPP :
				  sosend_check(so, to != NULL);

	/* Only PF_LOCAL ever counts anything in a datagram socket's so_snd. */
	if (error == 0 && so->so_snd.sb_cc > 0 && sbspace(&so->so_snd) < len) {
		error = EWOULDBLOCK;
	}
	if (error != 0) {
		m_freem(control);
		return error;
	}
	m = sosend_packet(so, uio);
	if (m == NULL) {
		so->so_stack->s_so->sos_nobufs++;
		m_freem(control);
		return ENOBUFS;
	}
	error = sosend_pru(so, pruflags, m, to, tolen, control, flags);
	if (error != 0) {
		*uio = saved;
		return error;
	}
	*done = len;
	return 0;
}

/* One piece of at most n bytes; EWOULDBLOCK: no memory now. */
static int
sosend_piece(struct socket *so, struct uio *uio, uint32_t n, int pruflags,
    int flags)
{
	struct stack *s = so->so_stack;
	struct mbuf *m = sosend_getm(s->s_mb, n);
	struct uio saved = *uio;
	int error = 0;

	if (m == NULL) {
		s->s_so->sos_nobufs++;
		return so->so_snd.sb_cc > 0 ? EWOULDBLOCK : ENOBUFS;
	}
	if (n <= SO_COPYLOCKED || stack_alone(s)) {
		sosend_fill(m, uio);
	} else {
		sblock(&so->so_snd);
		stack_leave(s);
		sosend_fill(m, uio);
		stack_enter(s);
		sbunlock(so, &so->so_snd);
		error = sosend_check(so, false);
	}
	if (error == 0) {
		if (uio->uio_resid > 0) {
			pruflags |= PRUS_MORETOCOME;
		}
		error = sosend_pru(so, pruflags, m, NULL, 0, NULL, flags);
	} else {
		m_freem(m);
	}
	if (error != 0) {
		*uio = saved;
	}
	return error;
}

int
sosend_promised(struct socket *so, const void *buf, uint32_t n, bool more)
{
	struct iovec iov = { .iov_len = n };
	struct uio uio = { .uio_iov = &iov, .uio_iovcnt = 1, .uio_resid = n };
	struct mbuf *m = sosend_getm(so->so_stack->s_mb, n);

	if (m_length(m) < n) {
		so->so_stack->s_so->sos_nobufs++;
		m_freem(m);
		return ENOBUFS;
	}
	memcpy(&iov.iov_base, &buf, sizeof(buf)); /* only read */
	sosend_fill(m, &uio);
	so->so_stack->s_so->sos_copyin += n;
	return sosend_pru(so, more ? PRUS_MORETOCOME : 0, m, NULL, 0, NULL, 0);
}

int
sosend_mbufs(struct socket *so, struct mbuf *m, const struct sockaddr *to,
    socklen_t tolen, int flags)
{
	bool atomic = (so->so_proto->pr_flags & PR_ATOMIC) != 0;
	uint32_t len = m_length(m);
	int error = (flags & MSG_OOB)	? EOPNOTSUPP :
	    atomic && len > SO_MAXDGRAM ? EMSGSIZE :
	    atomic || to == NULL	? sosend_check(so, to != NULL) :
					  EISCONN;

	if (error == 0 && so->so_family == AF_LOCAL) {
		error = EOPNOTSUPP;
	}
	if (error == 0 && !atomic && sbspace(&so->so_snd) == 0) {
		error = EWOULDBLOCK;
	}
	if (error == 0 && atomic) {
		struct mbuf *h = m_gethdr(so->so_stack->s_mb, MT_DATA);

		if (h != NULL) {
			h->m_data += SO_HDRSPACE;
			h->m_next = m;
			h->m_pkthdr.len = len;
			m = h;
		} else {
			error = ENOBUFS;
		}
	}
	if (error != 0) {
		m_freem(m);
		return error;
	}
	error = sosend_pru(so, (flags & MSG_MORE) ? PRUS_MORETOCOME : 0, m, to,
	    tolen, NULL, flags);
	if (error == 0) {
		so->so_stack->s_so->sos_byref += len;
	}
	return error;
}

static int
sosend_stream(struct socket *so, struct uio *uio, int flags, size_t *done)
{
	uint32_t chunk = (uint32_t)so->so_stack->s_so->sos_chunk;
	int pruflags = ((flags & MSG_MORE) ? PRUS_MORETOCOME : 0) |
	    ((flags & MSG_OOB) ? PRUS_OOB : 0);
	size_t before = uio->uio_resid;
	int error;

	sbwaitlock(so, &so->so_snd);
	error = sosend_check(so, false);
	while (error == 0 && uio->uio_resid > 0) {
		uint32_t space = sbspace(&so->so_snd);

		if (flags & MSG_OOB) {
			space += SO_OOBSPACE;
		}
		if (space == 0) {
			error = EWOULDBLOCK;
			break;
		}
		space = u32min(space, chunk);
		error = sosend_piece(so, uio,
		    uio->uio_resid < space ? (uint32_t)uio->uio_resid : space,
		    pruflags, flags);
	}
	*done = before - uio->uio_resid;
	return error;
}

int
sosend(struct socket *so, struct uio *uio, const struct sockaddr *to,
    socklen_t tolen, struct mbuf *control, int flags, size_t *done)
{
	int error;

	*done = 0;
	if (so->so_proto->pr_flags & PR_ATOMIC) {
		error = sosend_atomic(so, uio, to, tolen, control, flags, done);
		so->so_stack->s_so->sos_copyin += *done;
		return error;
	}
	m_freem(control); /* streams carry none */
	if (to != NULL && so->so_family == AF_LOCAL) {
		return so->so_state & SS_ISCONNECTED ? EISCONN : EOPNOTSUPP;
	}
	if ((flags & MSG_OOB) && so->so_family == AF_LOCAL) {
		return EOPNOTSUPP;
	}
	error = sosend_stream(so, uio, flags, done);
	so->so_stack->s_so->sos_copyin += *done;
	if (*done > 0 && error != 0 && error != EWOULDBLOCK) {
		/* What was taken is told now, the error by the next call. */
		if (error != EPIPE && so->so_error == 0) {
			so->so_error = error;
		}
		error = 0;
	}
	return *done > 0 ? 0 : error;
}
