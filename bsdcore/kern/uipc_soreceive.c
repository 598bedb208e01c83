/*
 * uipc_soreceive.c - from a socket's buffer into the user's memory.
 *
 * Little is copied under the stack lock. More is taken off the buffer under
 * the lock, the protocol told (its window opens at once), and copied with the
 * lock dropped; SB_LOCK keeps other readers out, so bytes stay in order.
 */
#include <sys/time.h>
#include <time.h>

#include "bsdcore/sys/kernel.h"
#include "bsdcore/sys/socketvar.h"

#define SO_COPYLOCKED 2048u /* bytes copied under the lock */

void
uiocopyout(const void *src, size_t n, struct uio *uio)
{
	const uint8_t *p = src;

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
		memcpy((uint8_t *)v->iov_base + uio->uio_off, p, k);
		p += k;
		n -= k;
		uio->uio_off += k;
		uio->uio_resid -= k;
	}
}

/* Copy up to n data bytes of a chain from byte off. */
static void
so_copychain(const struct mbuf *m, uint32_t off, uint32_t n, struct uio *uio)
{
	for (; m != NULL && n > 0; m = m->m_next) {
		uint32_t k;

		if (off >= m->m_len) {
			off -= m->m_len;
			continue;
		}
		k = u32min(m->m_len - off, n);
		uiocopyout(m->m_data + off, k, uio);
		n -= k;
		off = 0;
	}
}

static int
soreceive_oob(struct socket *so, struct uio *uio, int *flags, size_t *done)
{
	if (so->so_family == AF_LOCAL || (so->so_proto->pr_flags & PR_ATOMIC)) {
		return EOPNOTSUPP;
	}
	if (so->so_options & SOO_ACCEPTCONN) {
		return ENOTCONN;
	}
	if ((so->so_options & SOO_OOBINLINE) || !so->so_hasoob) {
		return EINVAL;
	}
	if (uio->uio_resid > 0) {
		uiocopyout(&so->so_oobbyte, 1, uio);
		*done = 1;
	}
	if (!(*flags & MSG_PEEK)) {
		so->so_hasoob = false;
	}
	*flags |= MSG_OOB;
	return 0;
}

int
soreceive_empty(struct socket *so)
{
	/* As Linux: an end in order stays the end whatever happens later. */
	bool over = (so->so_state & SS_PEERDONE) && so->so_family != AF_LOCAL;

	if (so->so_error != 0 && !over) {
		int error = so->so_error;

		so->so_error = 0;
		return error;
	}
	if (so->so_rcv.sb_state & SBS_CANTRCVMORE) {
		/* As Linux: a datagram socket tells only those who would wait. */
		return so->so_proto->pr_flags & PR_CONNREQUIRED ? 0 :
								  EWOULDBLOCK;
	}
	if ((so->so_proto->pr_flags & PR_CONNREQUIRED) &&
	    !(so->so_state &
		(SS_ISCONNECTED | SS_ISCONNECTING | SS_ISDISCONNECTING))) {
		return so->so_family == AF_LOCAL &&
			!(so->so_proto->pr_flags & PR_ATOMIC) ?
		    EINVAL :
		    ENOTCONN;
	}
	return EWOULDBLOCK;
}

static void
so_rcvd(struct socket *so, int flags)
{
	if ((so->so_proto->pr_flags & PR_WANTRCVD) && so->so_pcb != NULL) {
		(void)PRU(so, rcvd, flags);
	}
}

/* n bytes have left so_rcv: where is the urgent mark now? */
static void
so_oobadvance(struct socket *so, uint32_t n)
{
	if (so->so_oobmark != 0) {
		so->so_oobmark -= n;
		if (so->so_oobmark == 0) {
			so->so_rcv.sb_state |= SBS_RCVATMARK;
		}
	}
}

/* MSG_TRUNC on a stream: n bytes are thrown away (tcp(7)). */
static uint32_t
soreceive_discard(struct socket *so, uint32_t n, struct uio *uio, int flags)
{
	sbdrop(&so->so_rcv, n);
	uio->uio_resid -= n;
	so_oobadvance(so, n);
	sbavail_update(so);
	so_rcvd(so, flags);
	return n;
}

/* Take and copy up to n bytes; answers how many. */
static uint32_t
soreceive_take(struct socket *so, uint32_t n, struct uio *uio, int flags)
{
	struct stack *s = so->so_stack;
	struct sockbuf *sb = &so->so_rcv;
	struct mbuf *m;
	uint32_t before;

	if (flags & MSG_TRUNC) {
		return soreceive_discard(so, n, uio, flags);
	}
	if (n <= SO_COPYLOCKED || stack_alone(s)) {
		so_copychain(sb->sb_mb, 0, n, uio);
		sbdrop(sb, n);
		so_oobadvance(so, n);
		sbavail_update(so);
		so_rcvd(so, flags);
		return n;
	}
	before = sb->sb_cc;
	m = sbtake(sb, n);
	n = before - sb->sb_cc;
	so_oobadvance(so, n);
	sbavail_update(so);
	so_rcvd(so, flags);
	if (m != NULL) {
		sblock(sb);
		stack_leave(s);
		so_copychain(m, 0, n, uio);
		stack_enter(s);
		sbunlock(so, sb);
		m_freem(m);
	}
	return n;
}

/* May a stream be read now? errno; 0 with *end: it is over. */
static int
soreceive_ready(struct socket *so, bool *end)
{
	*end = false;
	if (so->so_options & SOO_ACCEPTCONN) {
		return so->so_family == AF_LOCAL ? EINVAL : ENOTCONN;
	}
	if (so->so_rcv.sb_cc > 0) {
		return 0;
	}
	*end = true;
	return soreceive_empty(so);
}

/* How much of a stream lies before the urgent mark, at most n. Passes the
 * mark if it is here. */
static uint32_t
so_tomark(struct socket *so, uint32_t n)
{
	struct sockbuf *sb = &so->so_rcv;

	if (sb->sb_state & SBS_RCVATMARK) {
		sb->sb_state &= (uint16_t)~SBS_RCVATMARK;
		so->so_hasoob = false; /* passed over unread */
	}
	n = u32min(n, sb->sb_cc);
	return so->so_oobmark != 0 ? u32min(n, so->so_oobmark) : n;
}

struct mbuf *
soreceive_mbufs(struct socket *so, uint32_t max, uint32_t maxseg, int *error)
{
	struct sockbuf *sb = &so->so_rcv;
	uint32_t n = 0, before;
	struct mbuf *m;
	bool end;

	sbwaitlock(so, sb);
	*error = soreceive_ready(so, &end);
	if (*error != 0 || end) {
		return NULL;
	}
	max = so_tomark(so, max);
	for (m = sb->sb_mb; m != NULL && n < max && maxseg > 0; m = m->m_next) {
		n += m->m_len;
		maxseg--;
	}
	before = sb->sb_cc;
	m = sbtake(sb, u32min(n, max));
	so_oobadvance(so, before - sb->sb_cc);
	sbavail_update(so);
	so_rcvd(so, 0);
	*error = m == NULL ? ENOBUFS : 0;
	return m;
}

static int
soreceive_stream(struct socket *so, struct uio *uio, int *flags, size_t *done)
{
	struct sockbuf *sb = &so->so_rcv;
	size_t before = uio->uio_resid;
	bool first = true;

	sbwaitlock(so, sb);
	if (so->so_options & SOO_ACCEPTCONN) {
		return so->so_family == AF_LOCAL ? EINVAL : ENOTCONN;
	}
	if (sb->sb_cc == 0) {
		return uio->uio_resid == 0 && so->so_error == 0 ?
		    0 :
		    soreceive_empty(so);
	}
	while (uio->uio_resid > 0 && sb->sb_cc > 0) {
		uint32_t n = uio->uio_resid < sb->sb_cc ?
		    (uint32_t)uio->uio_resid :
		    sb->sb_cc;

		if (so->so_oobmark != 0) {
			n = u32min(n, so->so_oobmark);
		}
		if (*flags & MSG_PEEK) {
			so_copychain(sb->sb_mb, 0, n, uio);
			break;
		}
		if (!first && (sb->sb_state & SBS_RCVATMARK)) {
			break; /* a read never crosses the mark */
		}
		if (sb->sb_state & SBS_RCVATMARK) {
			sb->sb_state &= (uint16_t)~SBS_RCVATMARK;
			so->so_hasoob = false; /* passed over unread */
		}
		first = false;
		n = u32min(n, (uint32_t)so->so_stack->s_so->sos_chunk);
		if (soreceive_take(so, n, uio, *flags) == 0) {
			break;
		}
	}
	*done = before - uio->uio_resid;
	return *done > 0 || before == 0 ? 0 : ENOBUFS;
}

/* SO_TIMESTAMP, SO_TIMESTAMPNS: when the datagram came. */
static struct mbuf *
so_timestamp(const struct socket *so, uint64_t tstamp)
{
	struct mbpool *p = so->so_stack->s_mb;
	uint64_t t = tstamp + so->so_stack->s_so->sos_walltime;
	struct timespec ts = { (time_t)(t / NSEC_PER_SEC),
		(long)(t % NSEC_PER_SEC) };
	struct timeval tv = { ts.tv_sec, ts.tv_nsec / 1000 };

	return so->so_options & SOO_TIMESTAMPNS ?
	    sbcreatecontrol(p, &ts, sizeof(ts), SCM_TIMESTAMPNS, SOL_SOCKET) :
	    sbcreatecontrol(p, &tv, sizeof(tv), SCM_TIMESTAMP, SOL_SOCKET);
}

/* Copies of the MT_CONTROL mbufs of a record, for the caller. */
static struct mbuf *
so_takecontrol(const struct socket *so, const struct mbuf *m)
{
	struct mbuf *top = NULL, **mp = &top;

	for (; m != NULL && m->m_type == MT_CONTROL; m = m->m_next) {
		*mp = m_copym(m, 0, m->m_len);
		if (*mp == NULL) {
			return top;
		}
		(*mp)->m_type = MT_CONTROL;
		mp = &(*mp)->m_next;
	}
	if (m != NULL && (m->m_flags & M_PKTHDR) &&
	    (so->so_options & (SOO_TIMESTAMP | SOO_TIMESTAMPNS))) {
		struct mbuf *t = so_timestamp(so, m->m_pkthdr.tstamp);

		if (t != NULL) {
			t->m_next = top;
			top = t;
		}
	}
	return top;
}

static void
so_copyname(const struct mbuf *m, struct sockaddr_storage *from,
    socklen_t *fromlen)
{
	if (from != NULL && m->m_len <= sizeof(*from)) {
		memcpy(from, m->m_data, m->m_len);
		*fromlen = (socklen_t)m->m_len;
	}
}

/* SB_WHOLE: bytes of the first of several datagrams in a record, else 0. */
static uint32_t
so_firstdgram(const struct socket *so, const struct mbuf *m)
{
	if (!(so->so_rcv.sb_flags & SB_WHOLE)) {
		return 0;
	}
	while (m != NULL && (m->m_type == MT_SONAME || m->m_type == MT_CONTROL)) {
		m = m->m_next;
	}
	if (m == NULL || !(m->m_flags & M_PKTHDR) ||
	    m->m_pkthdr.tso_segsz >= m->m_pkthdr.len) {
		return 0;
	}
	return m->m_pkthdr.tso_segsz;
}

static int
soreceive_record(struct socket *so, struct uio *uio,
    struct sockaddr_storage *from, socklen_t *fromlen, struct mbuf **control,
    int *flags, size_t *done)
{
	bool peek = (*flags & MSG_PEEK) != 0, eor = false;
	struct mbuf *rec = so->so_rcv.sb_mb, *m = rec;
	uint32_t len = 0, n, first;

	if (so->so_options & SOO_ACCEPTCONN) {
		return EINVAL;
	}
	/* A pending error comes first, as in Linux's __skb_recv_datagram. */
	if (rec == NULL || so->so_error != 0) {
		return soreceive_empty(so);
	}
	first = so_firstdgram(so, rec);
	if (!peek && first == 0) {
		m = rec = sbtakerecord(&so->so_rcv);
	}
	if (m->m_type == MT_SONAME) {
		so_copyname(m, from, fromlen);
		m = m->m_next;
	}
	if (control != NULL) {
		*control = so_takecontrol(so, m);
	}
	while (m != NULL && m->m_type == MT_CONTROL) {
		m = m->m_next;
	}
	for (struct mbuf *d = m; d != NULL; d = d->m_next) {
		len += d->m_len;
		eor = eor || (d->m_flags & M_EOR);
	}
	if (first != 0) {
		len = first;
	}
	n = uio->uio_resid < len ? (uint32_t)uio->uio_resid : len;
	so_copychain(m, 0, n, uio);
	*done = (*flags & MSG_TRUNC) ? len : n;
	*flags &= ~(MSG_TRUNC | MSG_EOR);
	*flags |= (n < len ? MSG_TRUNC : 0) | (eor ? MSG_EOR : 0);
	if (!peek) {
		if (first != 0) {
			sbcutrecord(&so->so_rcv, first);
		} else {
			m_freem(rec);
		}
		sbavail_update(so);
		so_rcvd(so, *flags);
	}
	return 0;
}

int
soreceive(struct socket *so, struct uio *uio, struct sockaddr_storage *from,
    socklen_t *fromlen, struct mbuf **control, int *flags, size_t *done)
{
	int error;

	*done = 0;
	if (control != NULL) {
		*control = NULL;
	}
	if (fromlen != NULL) {
		*fromlen = 0;
	}
	if ((*flags & MSG_OOB) &&
	    (so->so_family == AF_LOCAL ||
		!(so->so_proto->pr_flags & PR_ATOMIC))) {
		return soreceive_oob(so, uio, flags, done);
	}
	error = so->so_proto->pr_flags & PR_ATOMIC ?
	    soreceive_record(so, uio, from, fromlen, control, flags, done) :
	    soreceive_stream(so, uio, flags, done);
	so->so_stack->s_so->sos_copyout += *done;
	return error;
}
