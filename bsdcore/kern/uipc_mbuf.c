/*
 * uipc_mbuf.c - the m_* operations: cutting, joining, copying and checking
 * chains.
 *
 * Contract violations (an offset past the end of a chain) are our bugs and are
 * asserted; running out of memory is an answer.
 */
#include "bsdcore/sys/mbuf.h"

void
m_freem(struct mbuf *m)
{
	while (m != NULL) {
		m = m_free(m);
	}
}

void
m_freem_list(struct mbuf *m)
{
	while (m != NULL) {
		struct mbuf *next = m->m_nextpkt;

		m_freem(m);
		m = next;
	}
}

struct mbuf *
m_last(struct mbuf *m)
{
	while (m->m_next != NULL) {
		m = m->m_next;
	}
	return m;
}

uint32_t
m_length(const struct mbuf *m)
{
	uint32_t len = 0;

	for (; m != NULL; m = m->m_next) {
		len += m->m_len;
	}
	return len;
}

uint32_t
m_fixhdr(struct mbuf *m)
{
	m->m_pkthdr.len = m_length(m);
	return m->m_pkthdr.len;
}

/* The header as it stands, but not the claim on a port (txext): that stays
 * with the mbuf it was made for. */
void
m_copy_pkthdr(struct mbuf *to, const struct mbuf *from)
{
	const struct pkthdr *f = &from->m_pkthdr;

	to->m_pkthdr = (struct pkthdr){
		.rcvif = f->rcvif,
		.tstamp = f->tstamp,
		.len = f->len,
		.flowid = f->flowid,
		.origin = f->origin,
		.pkt_flags = f->pkt_flags,
		.csum_start = f->csum_start,
		.csum_stuff = f->csum_stuff,
		.tso_segsz = f->tso_segsz,
		.csum_flags = f->csum_flags,
		.gso_type = f->gso_type,
		.svc = f->svc,
		.proto = f->proto,
		.l3off = f->l3off,
		.seg_count = f->seg_count,
	};
	to->m_flags = (uint16_t)((to->m_flags & M_EXT) | M_PKTHDR |
	    (from->m_flags &
		(M_EOR | M_LOOP | M_BCAST | M_MCAST | M_FRAG | M_PROMISC)));
}

void
m_move_pkthdr(struct mbuf *to, struct mbuf *from)
{
	m_copy_pkthdr(to, from);
	from->m_flags &= (uint16_t)~M_PKTHDR;
}

void
m_align(struct mbuf *m, uint32_t len)
{
	if (m->m_flags & M_EXT) {
		m->m_data = m->m_ext->x_buf + ((m->m_ext->x_size - len) & ~7u);
	} else {
		m->m_data = m->m_dat + ((MLEN - len) & ~7u);
	}
}

struct mbuf *
m_prepend(struct mbuf *m, uint32_t len)
{
	struct mbuf *n;

	if (M_LEADINGSPACE(m) >= len) {
		m->m_data -= len;
		m->m_len += len;
		if (m->m_flags & M_PKTHDR) {
			m->m_pkthdr.len += len;
		}
		return m;
	}
	n = len <= MLEN ? m_get(m->m_pool, m->m_type) : NULL;
	if (n == NULL) {
		m_freem(m);
		return NULL;
	}
	n->m_next = m;
	n->m_nextpkt = m->m_nextpkt;
	m->m_nextpkt = NULL;
	if (m->m_flags & M_PKTHDR) {
		m_move_pkthdr(n, m);
		n->m_pkthdr.len += len;
	}
	m_align(n, len);
	n->m_len = len;
	return n;
}

struct mbuf *
m_getptr(struct mbuf *m, uint32_t loc, uint32_t *off)
{
	while (m != NULL && loc >= m->m_len) {
		if (m->m_next == NULL && loc == m->m_len) {
			break;
		}
		loc -= m->m_len;
		m = m->m_next;
	}
	*off = loc;
	return m;
}

/* A reference to the same storage, or a copy of inline bytes. */
static struct mbuf *
m_clone1(const struct mbuf *m, uint32_t off, uint32_t len)
{
	struct mbuf *n = m_get(m->m_pool, m->m_type);

	if (n == NULL) {
		return NULL;
	}
	n->m_len = len;
	if (m->m_flags & M_EXT) {
		n->m_ext = m->m_ext;
		n->m_ext->x_refs++;
		n->m_flags |= M_EXT;
		n->m_data = m->m_data + off;
	} else {
		memcpy(n->m_data, m->m_data + off, len);
	}
	return n;
}

struct mbuf *
m_copym(const struct mbuf *m, uint32_t off, uint32_t len)
{
	struct mbuf *top = NULL, **np = &top;
	const struct mbuf *hdr = off == 0 && (m->m_flags & M_PKTHDR) ? m : NULL;
	uint32_t copied = 0;

	while (m != NULL && off >= m->m_len && (off > 0 || m->m_len == 0)) {
		off -= m->m_len;
		m = m->m_next;
	}
	for (; m != NULL && len > 0; m = m->m_next) {
		uint32_t n = u32min(len, m->m_len - off);

		if (n > 0) {
			*np = m_clone1(m, off, n);
			if (*np == NULL) {
				m_freem(top);
				return NULL;
			}
			np = &(*np)->m_next;
			copied += n;
		}
		off = 0;
		if (len != M_COPYALL) {
			len -= n;
		}
	}
	KASSERT(len == 0 || len == M_COPYALL);
	if (top == NULL && hdr != NULL) {
		top = m_gethdr(hdr->m_pool, hdr->m_type);
		if (top == NULL) {
			return NULL;
		}
	}
	if (hdr != NULL) {
		m_copy_pkthdr(top, hdr);
		top->m_pkthdr.len = copied;
	}
	return top;
}

struct mbuf *
m_dup(const struct mbuf *m)
{
	uint32_t len = m_length(m), off = 0;
	struct mbuf *top =
	    m_getm(m->m_pool, len, m->m_type, m->m_flags & M_PKTHDR);

	if (top == NULL) {
		return NULL;
	}
	for (struct mbuf *n = top; n != NULL && off < len; n = n->m_next) {
		n->m_len = u32min(M_TRAILINGSPACE(n), len - off);
		m_copydata(m, off, n->m_len, n->m_data);
		off += n->m_len;
	}
	if (m->m_flags & M_PKTHDR) {
		m_copy_pkthdr(top, m);
	}
	return top;
}

void
m_copydata(const struct mbuf *m, uint32_t off, uint32_t len, void *cp)
{
	uint8_t *p = cp;

	while (m != NULL && off >= m->m_len && len > 0) {
		off -= m->m_len;
		m = m->m_next;
	}
	while (len > 0) {
		uint32_t n;

		KASSERT(m != NULL);
		n = u32min(len, m->m_len - off);
		memcpy(p, m->m_data + off, n);
		p += n;
		len -= n;
		off = 0;
		m = m->m_next;
	}
}

int
m_copyback(struct mbuf *m0, uint32_t off, uint32_t len, const void *cp)
{
	const uint8_t *p = cp;
	struct mbuf *m = m0;
	uint32_t total = 0;

	while (len > 0) {
		uint32_t n;

		if (off >= m->m_len && m->m_next == NULL) {
			/* grow by zeroes up to off, then by what is copied */
			uint32_t want = off - m->m_len + len;
			uint32_t room = M_TRAILINGSPACE(m);
			uint32_t take = u32min(want, room);

			memset(m->m_data + m->m_len, 0, take);
			m->m_len += take;
			if (take < want) {
				m->m_next = m_get(m->m_pool, m->m_type);
				if (m->m_next == NULL) {
					m_fixhdr(m0);
					return ENOBUFS;
				}
			}
		}
		if (off >= m->m_len) {
			off -= m->m_len;
			total += m->m_len;
			m = m->m_next;
			continue;
		}
		KASSERT(M_WRITABLE(m));
		n = u32min(len, m->m_len - off);
		memcpy(m->m_data + off, p, n);
		p += n;
		off += n;
		len -= n;
	}
	total = m_length(m0);
	if ((m0->m_flags & M_PKTHDR) && m0->m_pkthdr.len < total) {
		m0->m_pkthdr.len = total;
	}
	return 0;
}

void
m_cat(struct mbuf *m, struct mbuf *n)
{
	m = m_last(m);
	while (n != NULL) {
		if ((m->m_flags & M_EXT) || n->m_len > M_TRAILINGSPACE(m)) {
			m->m_next = n;
			return;
		}
		memcpy(m->m_data + m->m_len, n->m_data, n->m_len);
		m->m_len += n->m_len;
		n = m_free(n);
	}
}

static void
m_adj_tail(struct mbuf *m0, uint32_t len)
{
	uint32_t keep = m_length(m0);

	keep -= u32min(keep, len);
	if (m0->m_flags & M_PKTHDR) {
		m0->m_pkthdr.len = keep;
	}
	for (struct mbuf *m = m0; m != NULL; m = m->m_next) {
		m->m_len = u32min(m->m_len, keep);
		keep -= m->m_len;
		if (keep == 0) {
			m_freem(m->m_next);
			m->m_next = NULL;
		}
	}
}

void
m_adj(struct mbuf *m0, int32_t req)
{
	uint32_t len, gone = 0;

	if (req < 0) {
		m_adj_tail(m0, (uint32_t)-(int64_t)req);
		return;
	}
	len = (uint32_t)req;
	for (struct mbuf *m = m0; m != NULL && gone < len; m = m->m_next) {
		uint32_t n = u32min(m->m_len, len - gone);

		m->m_data += n;
		m->m_len -= n;
		gone += n;
	}
	if (m0->m_flags & M_PKTHDR) {
		m0->m_pkthdr.len -= gone;
	}
}

/* Move bytes from n and what follows into m until it has len. */
static struct mbuf *
m_gather(struct mbuf *m, struct mbuf *n, uint32_t len)
{
	while (n != NULL && m->m_len < len) {
		uint32_t k = u32min(n->m_len, len - m->m_len);

		memcpy(m->m_data + m->m_len, n->m_data, k);
		m->m_len += k;
		n->m_data += k;
		n->m_len -= k;
		if (n->m_len == 0) {
			n = m_free(n);
		}
	}
	return n;
}

struct mbuf *
m_pullup(struct mbuf *m, uint32_t len)
{
	if (m->m_len >= len) {
		return m;
	}
	if (m->m_len + M_TRAILINGSPACE(m) >= len) {
		m->m_next = m_gather(m, m->m_next, len);
		if (m->m_len >= len) {
			return m;
		}
		m_freem(m);
		return NULL;
	}
	return m_copyup(m, len, len + MAX_HDR <= MLEN ? MAX_HDR : 0);
}

struct mbuf *
m_copyup(struct mbuf *m, uint32_t len, uint32_t dstoff)
{
	struct mbuf *n = NULL;

	if (len + dstoff <= M64KCLBYTES) {
		n = len + dstoff <= MLEN ?
		    m_get(m->m_pool, m->m_type) :
		    m_getcl(m->m_pool, m->m_type, 0, len + dstoff);
	}
	if (n == NULL) {
		m_freem(m);
		return NULL;
	}
	n->m_nextpkt = m->m_nextpkt;
	m->m_nextpkt = NULL;
	n->m_data += dstoff;
	if (m->m_flags & M_PKTHDR) {
		m_move_pkthdr(n, m);
	}
	n->m_next = m_gather(n, m, len);
	if (n->m_len < len) {
		m_freem(n);
		return NULL;
	}
	return n;
}

struct mbuf *
m_pulldown(struct mbuf *m0, uint32_t off, uint32_t len, uint32_t *offp)
{
	struct mbuf *m = m0, *o, *prev = NULL;

	while (m != NULL && off >= m->m_len) {
		off -= m->m_len;
		prev = m;
		m = m->m_next;
	}
	if (m == NULL) {
		m_freem(m0);
		return NULL;
	}
	*offp = off;
	if (off + len <= m->m_len) {
		return m;
	}
	/* cut m at off; what follows becomes the window */
	if (off > 0) {
		o = m_clone1(m, off, m->m_len - off);
		if (o == NULL) {
			m_freem(m0);
			return NULL;
		}
		o->m_next = m->m_next;
		m->m_len = off;
		prev = m;
	} else {
		o = m;
	}
	if (prev != NULL) {
		prev->m_next = NULL;
	}
	o = m_pullup(o, len);
	if (o == NULL) {
		if (prev != NULL) {
			m_freem(m0);
		}
		return NULL;
	}
	if (prev != NULL) {
		prev->m_next = o;
	}
	*offp = 0;
	return o;
}

struct mbuf *
m_split(struct mbuf *m0, uint32_t len0)
{
	struct mbuf *m = m0, *n;
	uint32_t off = len0, total = m_length(m0);

	KASSERT(len0 <= total);
	while (m->m_next != NULL && off >= m->m_len) {
		off -= m->m_len;
		m = m->m_next;
	}
	if (off > 0 && off == m->m_len) {
		n = m_gethdr(m0->m_pool, m0->m_type);
	} else {
		n = m_clone1(m, off, m->m_len - off);
	}
	if (n == NULL) {
		return NULL;
	}
	if (m0->m_flags & M_PKTHDR) {
		m_copy_pkthdr(n, m0);
		n->m_pkthdr.len = total - len0;
		m0->m_pkthdr.len = len0;
	}
	m->m_len = off;
	n->m_next = m->m_next;
	m->m_next = NULL;
	return n;
}

struct mbuf *
m_defrag(struct mbuf *m)
{
	struct mbuf *n = m_dup(m);

	if (n != NULL) {
		m_freem(m);
	}
	return n;
}

struct mbuf *
m_makewritable(struct mbuf *m0, uint32_t off, uint32_t len)
{
	struct mbuf **mp = &m0;

	for (struct mbuf *m = m0; m != NULL && len > 0; m = *mp) {
		if (off < m->m_len && !M_WRITABLE(m)) {
			struct mbuf *rest = m->m_next, *n;

			m->m_next = NULL;
			n = m_dup(m);
			m->m_next = rest;
			if (n == NULL) {
				m_freem(m0);
				return NULL;
			}
			n->m_nextpkt = m->m_nextpkt;
			m_last(n)->m_next = rest;
			if (m->m_flags & M_PKTHDR) {
				n->m_pkthdr.len = m->m_pkthdr.len;
			}
			m_free(m);
			*mp = n;
			m = n;
		}
		if (off < m->m_len) {
			len -= u32min(len, m->m_len - off);
			off = 0;
		} else {
			off -= m->m_len;
		}
		mp = &m->m_next;
	}
	return m0;
}

int
m_append(struct mbuf *m0, uint32_t len, const void *cp)
{
	struct mbuf *m = m_last(m0);
	const uint8_t *p = cp;
	uint32_t n = u32min(len, M_TRAILINGSPACE(m));
	struct mbuf *more = NULL;

	if (n < len) {
		more = m_getm(m->m_pool, len - n, m->m_type, 0);
		if (more == NULL) {
			return ENOBUFS;
		}
	}
	memcpy(m->m_data + m->m_len, p, n);
	m->m_len += n;
	m->m_next = more;
	if (m0->m_flags & M_PKTHDR) {
		m0->m_pkthdr.len += len;
	}
	for (; more != NULL; more = more->m_next) {
		p += n;
		len -= n;
		n = u32min(len, M_TRAILINGSPACE(more));
		memcpy(more->m_data, p, n);
		more->m_len = n;
	}
	return 0;
}

uint16_t
m_sum16(const struct mbuf *m, uint32_t off, uint32_t len)
{
	uint64_t sum = 0;
	bool odd = false;

	while (m != NULL && off >= m->m_len && len > 0) {
		off -= m->m_len;
		m = m->m_next;
	}
	for (; m != NULL && len > 0; m = m->m_next) {
		uint32_t n = u32min(len, m->m_len - off);

		sum = in_cksum_add(sum, m->m_data + off, n, odd);
		odd ^= n & 1;
		off = 0;
		len -= n;
	}
	KASSERT(len == 0);
	return in_cksum_fold(sum);
}

static bool
m_sane1(const struct mbuf *m)
{
	if (m->m_flags & M_FREE) {
		return false;
	}
	if (m->m_flags & M_EXT) {
		const struct mext *x = m->m_ext;

		return x->x_refs > 0 && x->x_buf <= m->m_data &&
		    m->m_data + m->m_len <= x->x_buf + x->x_size;
	}
	return m->m_dat <= m->m_data && m->m_data + m->m_len <= m->m_dat + MLEN;
}

bool
m_sanity(const struct mbuf *m)
{
	bool ok = !(m->m_flags & M_PKTHDR) || m->m_pkthdr.len == m_length(m);

	for (; m != NULL && ok; m = m->m_next) {
		ok = m_sane1(m);
	}
	KASSERT(ok);
	return ok;
}
