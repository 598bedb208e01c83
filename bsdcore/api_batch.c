/*
 * api_batch.c - many datagrams by one call.
 *
 * Out: a run of equally long datagrams to one destination is one UDP_SEGMENT
 * send; whoever is the first on the way down that cannot pass it on as one
 * packet cuts it. In: what came as one packet is one record of the buffer
 * (SB_WHOLE) and is lent in place; single datagrams are copied into one slab,
 * which is cheaper than a view for each.
 */
#include "bsdcore/api_sub.h"

#define SOL_UDP_ 17
#define UDP_SEGMENT_ 103
#define BATCH_MAXRUN 128u     /* datagrams in a packet: udp_usrreq.c */
#define BATCH_MAXBYTES 65507u /* of UDP in one IPv4 packet */
#define BATCH_COPY 2048u      /* a lone datagram up to so long is copied */

/* ---- out ---- */

/* How many datagrams from the first one on can go as one? */
static unsigned int
batch_run(const uint32_t *lens, unsigned int n, const struct bsd_addr *to,
    size_t *bytes)
{
	unsigned int i = 1;

	*bytes = lens[0];
	while (i < n && i < BATCH_MAXRUN && lens[i - 1] == lens[0] &&
	    lens[i] <= lens[0] && lens[i] > 0 &&
	    *bytes + lens[i] <= BATCH_MAXBYTES &&
	    (to == NULL || memcmp(&to[0], &to[i], sizeof(*to)) == 0)) {
		*bytes += lens[i++];
	}
	return i;
}

/* len bytes as datagrams of seg. errno. */
static int
batch_send(struct socket *so, const uint8_t *p, size_t len, uint32_t seg,
    const struct bsd_addr *to)
{
	struct iovec iov = { .iov_len = len };
	struct uio uio = { .uio_iov = &iov, .uio_iovcnt = 1, .uio_resid = len };
	struct sockaddr_storage ss;
	struct mbuf *control = NULL;
	socklen_t tolen = 0;
	size_t done;

	if (to != NULL && (tolen = api_getaddr(to, &ss)) == 0) {
		return EAFNOSUPPORT;
	}
	if (len > seg) {
		uint16_t gso = (uint16_t)seg;

		control = sbcreatecontrol(so->so_stack->s_mb, &gso, sizeof(gso),
		    UDP_SEGMENT_, SOL_UDP_);
		if (control == NULL) {
			return ENOBUFS;
		}
	}
	memcpy(&iov.iov_base, &p, sizeof(p)); /* only read */
	return sosend(so, &uio, to != NULL ? (const struct sockaddr *)&ss : NULL,
	    tolen, control, 0, &done);
}

/* Answers how many were taken; *error why not all. */
static unsigned int
batch_send_all(struct socket *so, const uint8_t *p, const uint32_t *lens,
    unsigned int n, const struct bsd_addr *to, unsigned int nto, int *error)
{
	unsigned int i = 0, single = 0;

	*error = 0;
	while (i < n) {
		const struct bsd_addr *dst = nto == 0 ? NULL :
		    nto == 1			      ? to :
							to + i;
		size_t len = lens[i];
		unsigned int k = i < single ?
		    1 :
		    batch_run(lens + i, n - i, nto > 1 ? dst : NULL, &len);

		*error = batch_send(so, p, len, lens[i], dst);
		if (*error == EINVAL && k > 1) {
			single = i + k; /* too long to be cut: fragments */
			continue;
		}
		if (*error != 0) {
			break;
		}
		p += len;
		i += k;
	}
	return i;
}

int
bsd_send_batch(struct socket *so, const void *buf, const uint32_t *lens,
    unsigned int n, const struct bsd_addr *to, unsigned int nto)
{
	unsigned int sent = 0;
	int error;

	if (nto > 1 && nto != n) {
		return -EINVAL;
	}
	error = api_enter(so);
	if (error != 0) {
		return -error;
	}
	if (so->so_family == AF_LOCAL || so->so_type != SOCK_DGRAM) {
		error = EOPNOTSUPP;
	} else {
		sent = batch_send_all(so, buf, lens, n, to, nto, &error);
	}
	api_leave(so);
	return sent > 0 || error == 0 ? (int)sent : -error;
}

/* ---- in ---- */

/* A record of a datagram socket's buffer. */
struct dgramrec {
	const struct mbuf *dr_name; /* or NULL */
	struct mbuf *dr_data;	    /* the first with a packet header */
	struct mbuf *dr_body;	    /* the only one with bytes in it, or NULL */
	uint32_t dr_len, dr_seg, dr_count;
};

static void
dgramrec_parse(struct mbuf *m, struct dgramrec *dr)
{
	memset(dr, 0, sizeof(*dr));
	if (m->m_type == MT_SONAME) {
		dr->dr_name = m;
		m = m->m_next;
	}
	while (m != NULL && m->m_type == MT_CONTROL) {
		m = m->m_next;
	}
	dr->dr_data = m;
	for (; m != NULL; m = m->m_next) {
		if (m->m_len > 0) {
			dr->dr_body = dr->dr_len == 0 ? m : NULL;
		}
		dr->dr_len += m->m_len;
	}
	dr->dr_seg = dr->dr_len;
	dr->dr_count = 1;
	m = dr->dr_data;
	if (m != NULL && (m->m_flags & M_PKTHDR) &&
	    m->m_pkthdr.tso_segsz != 0 && m->m_pkthdr.tso_segsz < dr->dr_len) {
		dr->dr_seg = m->m_pkthdr.tso_segsz;
		dr->dr_count = (dr->dr_len + dr->dr_seg - 1) / dr->dr_seg;
	}
}

static void
dgramrec_fill(const struct dgramrec *dr, uint32_t off, struct bsd_dgrams *d)
{
	const struct mbuf *m = dr->dr_data;

	memset(d, 0, sizeof(*d));
	d->off = off;
	d->len = dr->dr_len;
	d->seg = dr->dr_seg;
	d->count = dr->dr_count;
	if (dr->dr_name != NULL) {
		struct sockaddr_storage ss;

		memcpy(&ss, dr->dr_name->m_data, dr->dr_name->m_len);
		api_putaddr(&ss, dr->dr_name->m_len, &d->from);
	}
	if (m != NULL && (m->m_flags & M_PKTHDR)) {
		d->time = m->m_pkthdr.tstamp;
		d->origin = m->m_pkthdr.origin;
		d->svc = m->m_pkthdr.svc;
		d->tos = (unsigned char)m->m_pkthdr.l3off;
		d->ttl = (unsigned char)(m->m_pkthdr.l3off >> 8);
	}
}

static bool
dgramrec_inplace(const struct dgramrec *dr)
{
	return dr->dr_body != NULL &&
	    (dr->dr_count > 1 || dr->dr_len > BATCH_COPY);
}

/* Does the run b, which lies behind a, continue it? Then a is both. */
static bool
dgrams_join(struct bsd_dgrams *a, const struct bsd_dgrams *b)
{
	if (a->len != a->seg * a->count || a->seg == 0 || b->seg > a->seg ||
	    b->seg == 0 || b->count != 1 || a->tos != b->tos ||
	    a->ttl != b->ttl || a->svc != b->svc || a->origin != b->origin ||
	    memcmp(&a->from, &b->from, sizeof(a->from)) != 0) {
		return false;
	}
	a->len += b->len;
	a->count++;
	return true;
}

/* The first record, lent; the mbufs around its body are freed. */
static void
batch_lend(struct socket *so, const struct dgramrec *dr, struct mbuf *rec,
    struct bsd_lent *out)
{
	while (rec != NULL) {
		struct mbuf *next = rec->m_next;

		if (rec != dr->dr_body) {
			m_free(rec);
		}
		rec = next;
	}
	dr->dr_body->m_next = NULL;
	api_lend(so->so_stack, dr->dr_body, 1, out);
}

/* Records copied into one slab. Answers runs. */
static unsigned int
batch_copy(struct socket *so, struct mbuf *slab, uint32_t room,
    struct bsd_dgrams *v, unsigned int n)
{
	struct sockbuf *sb = &so->so_rcv;
	unsigned int got = 0;
	struct mbuf *m;

	while ((m = sb->sb_mb) != NULL) {
		struct dgramrec dr;
		struct bsd_dgrams d;

		dgramrec_parse(m, &dr);
		if (dr.dr_len > room - slab->m_len ||
		    (got > 0 && dgramrec_inplace(&dr))) {
			break;
		}
		dgramrec_fill(&dr, slab->m_len, &d);
		if (got == 0 || !dgrams_join(&v[got - 1], &d)) {
			if (got == n) {
				break;
			}
			v[got++] = d;
		}
		if (dr.dr_len > 0) {
			m_copydata(dr.dr_data, 0, dr.dr_len,
			    slab->m_data + slab->m_len);
			slab->m_len += dr.dr_len;
		}
		sbdroprecord(sb);
	}
	so->so_stack->s_so->sos_copyout += slab->m_len;
	return got;
}

/* runs, or a negative errno. The receive buffer is not empty. */
static int
batch_take(struct socket *so, struct bsd_dgrams *v, unsigned int n,
    struct bsd_lent *out)
{
	struct sockbuf *sb = &so->so_rcv;
	struct dgramrec dr;
	struct mbuf *slab;
	uint32_t room;
	unsigned int got;

	dgramrec_parse(sb->sb_mb, &dr);
	if (dgramrec_inplace(&dr)) {
		dgramrec_fill(&dr, 0, &v[0]);
		batch_lend(so, &dr, sbtakerecord(sb), out);
		return 1;
	}
	room = u32max(u32min(sb->sb_cc, M64KCLBYTES), dr.dr_len);
	slab = room <= M64KCLBYTES ?
	    m_getcl(so->so_stack->s_mb, MT_DATA, 0, u32max(room, MLEN + 1)) :
	    NULL;
	if (slab == NULL) {
		return -ENOBUFS;
	}
	got = batch_copy(so, slab, room, v, n);
	api_lend(so->so_stack, slab, 1, out);
	return (int)got;
}

int
bsd_recv_batch(struct socket *so, struct bsd_dgrams *v, unsigned int n,
    struct bsd_lent *out)
{
	int answer = n == 0 ? EINVAL : api_enter(so);

	if (answer != 0) {
		return -answer;
	}
	so->so_rcv.sb_flags |= SB_WHOLE;
	if (so->so_family == AF_LOCAL || so->so_type != SOCK_DGRAM) {
		answer = -EOPNOTSUPP;
	} else if (so->so_rcv.sb_mb == NULL || so->so_error != 0) {
		answer = -soreceive_empty(so);
	} else if (!api_maylend(so->so_stack)) {
		answer = -ENOBUFS;
	} else {
		answer = batch_take(so, v, n, out);
		sbavail_update(so);
	}
	api_leave(so);
	return answer;
}
