/*
 * api_lend.c - payload lent to the application where it lies, and sent from
 * there: uipc_mbpool.c's m_lend() for the outside.
 *
 * A struct bsd_lend is the first mbuf of a chain that has left its socket buffer.
 */
#include "bsdcore/api_sub.h"

#define LEND_MAXSEG 1024u
/* A shorter reservation is given a cluster all the same: it is to be sent by
 * reference, and what lies inside an mbuf is copied. */
#define LEND_CLUSTER (MLEN + 1)

static struct mbuf *
lend_chain(struct bsd_lend *lend)
{
	return (struct mbuf *)(void *)lend;
}

bool
api_maylend(struct stack *s)
{
	if (mbpool_lent(s->s_mb) < (uint64_t)s->s_so->sos_lendmax) {
		return true;
	}
	s->s_so->sos_lendover++;
	return false;
}

void
api_lend(struct stack *s, struct mbuf *m, uint32_t refs, struct bsd_lent *out)
{
	uint32_t charge = 0, count = 0, len = 0;

	for (const struct mbuf *n = m; n != NULL; n = n->m_next) {
		charge += sb_memof(n);
		len += n->m_len;
		count++;
	}
	s->s_so->sos_lentbytes += len;
	m_lend(m, refs != 0 ? refs : count, charge);
	out->lend = (struct bsd_lend *)(void *)m;
	out->base = m->m_data;
	out->len = m->m_len;
	out->count = count;
}

long
bsd_recv_lend(struct socket *so, size_t max, unsigned int maxseg,
    struct bsd_lent *out)
{
	uint32_t want = max < UINT32_MAX ? (uint32_t)max : UINT32_MAX;
	int error = api_enter(so);
	struct mbuf *m = NULL;
	long answer = 0;

	if (error != 0) {
		return -error;
	}
	if (max == 0 || maxseg == 0) {
		error = EINVAL;
	} else if ((so->so_proto->pr_flags & PR_ATOMIC) ||
	    so->so_family == AF_LOCAL) {
		error = EOPNOTSUPP;
	} else if (relay_carries(so)) {
		error = EINTR;
	} else if (!api_maylend(so->so_stack)) {
		error = ENOBUFS;
	} else {
		m = soreceive_mbufs(so, want, u32min(maxseg, LEND_MAXSEG),
		    &error);
	}
	if (m != NULL) {
		answer = (long)m_length(m);
		api_lend(so->so_stack, m, 0, out);
	}
	api_leave(so);
	return error != 0 ? -(long)error : answer;
}

int
bsd_lend_iov(const struct bsd_lend *lend, struct bsd_iovec *v, int n)
{
	const struct mbuf *m = (const struct mbuf *)(const void *)lend;
	int i = 0;

	for (; m != NULL; m = m->m_next, i++) {
		if (i < n) {
			v[i].base = m->m_data;
			v[i].len = m->m_len;
		}
	}
	return i;
}

void
bsd_lend_hold(struct bsd_lend *lend, unsigned int n)
{
	m_lend_hold(lend_chain(lend), n);
}

void
bsd_lend_drop(struct bsd_lend *lend, unsigned int n)
{
	if (n > 0) {
		m_lend_release(lend_chain(lend), n);
	}
}

void
bsd_lend_release(struct bsd_lend *lend, const void *anything)
{
	(void)anything;
	m_lend_release(lend_chain(lend), 1);
}

/* A chain that shares bytes [off, off+len) of m; NULL with *error. */
static struct mbuf *
lend_share(const struct stack *s, const struct mbuf *m, size_t off, size_t len,
    int *error)
{
	uint32_t total = m_length(m);
	struct mbuf *copy = NULL;

	if (off > total || len > total - off || len == 0) {
		*error = EINVAL;
	} else if (m->m_pool != s->s_mb) {
		*error = EXDEV;
	} else {
		copy = m_copym(m, (uint32_t)off, (uint32_t)len);
		*error = copy == NULL ? ENOBUFS : 0;
	}
	if (copy != NULL) {
		copy->m_flags &= (uint16_t)~M_PKTHDR;
	}
	return copy;
}

long
bsd_send_lend(struct socket *so, struct bsd_lend *lend, size_t off, size_t len,
    int flags, const struct bsd_addr *to)
{
	struct sockaddr_storage ss;
	socklen_t tolen = 0;
	struct mbuf *m;
	int error;

	if (to != NULL && (tolen = api_getaddr(to, &ss)) == 0) {
		return -EAFNOSUPPORT;
	}
	error = api_enter(so);
	if (error != 0) {
		return -error;
	}
	if (relay_carries(so)) {
		error = EINTR;
	} else {
		sbwaitlock(so, &so->so_snd);
		m = lend_share(so->so_stack, lend_chain(lend), off, len, &error);
		if (m != NULL) {
			error = sosend_mbufs(so, m,
			    to != NULL ? (const struct sockaddr *)&ss : NULL,
			    tolen, flags);
		}
	}
	api_leave(so);
	return error != 0 ? -(long)error : (long)len;
}

int
bsd_reserve(struct socket *so, size_t n, struct bsd_lent *out)
{
	int error = n == 0 || n > M64KCLBYTES ? EINVAL : api_enter(so);
	struct mbuf *m = NULL;

	if (error != 0) {
		return -error;
	}
	if (api_maylend(so->so_stack)) {
		m = m_getcl(so->so_stack->s_mb, MT_DATA, 0,
		    u32max((uint32_t)n, LEND_CLUSTER));
	}
	if (m != NULL) {
		m->m_len = (uint32_t)n;
		api_lend(so->so_stack, m, 1, out);
	}
	api_leave(so);
	return m != NULL ? 0 : -ENOBUFS;
}
