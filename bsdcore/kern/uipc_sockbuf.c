/*
 * uipc_sockbuf.c - the queues of a socket.
 *
 * A stream buffer is one chain of mbufs; a datagram buffer is a list of
 * records through m_nextpkt: an optional MT_SONAME, MT_CONTROL mbufs, data.
 *
 *	sb_cc    == sum of m_len over the data mbufs
 *	sb_mbcnt == sum of sb_memof() over all mbufs
 *
 * A PF_LOCAL stream keeps nothing in so_snd; there sb_cc says how much
 * of ours lies in the peer's so_rcv, which makes sbspace() right for it.
 */
#include "bsdcore/sys/kernel.h"
#include "bsdcore/sys/socketvar.h"

#define SB_EFFICIENCY 4	 /* mbmax: memory allowed per byte of hiwat */
#define SB_MINMAX 65536u /* ... and at least this */
#define SB_COMPRESS 512u /* shorter ones are copied into the tail if they fit */

/* Memory an mbuf is charged with. Shared storage is charged to each who holds a
 * piece of it, in proportion, or one cluster cut into segments would
 * count many times over. */
uint32_t
sb_memof(const struct mbuf *m)
{
	if (!(m->m_flags & M_EXT)) {
		return MSIZE;
	}
	return MSIZE + u32min(m->m_ext->x_size, u32max(2 * m->m_len, MCLBYTES));
}

static bool
sb_isdata(const struct mbuf *m)
{
	return m->m_type != MT_SONAME && m->m_type != MT_CONTROL;
}

static void
sballoc(struct sockbuf *sb, const struct mbuf *m)
{
	if (sb_isdata(m)) {
		sb->sb_cc += m->m_len;
	}
	sb->sb_mbcnt += sb_memof(m);
}

static void
sbfree(struct sockbuf *sb, const struct mbuf *m)
{
	if (sb_isdata(m)) {
		sb->sb_cc -= m->m_len;
	}
	sb->sb_mbcnt -= sb_memof(m);
}

uint32_t
sbspace(const struct sockbuf *sb)
{
	uint32_t cc, mem;

	if (sb->sb_cc >= sb->sb_hiwat || sb->sb_mbcnt >= sb->sb_mbmax) {
		return 0;
	}
	cc = sb->sb_hiwat - sb->sb_cc;
	mem = sb->sb_mbmax - sb->sb_mbcnt;
	cc = u32min(cc, mem);
	if (sb->sb_ahead != 0) {
		uint32_t unsent = sb->sb_cc - u32min(sb->sb_sent, sb->sb_cc);

		cc = unsent < sb->sb_ahead ? u32min(cc, sb->sb_ahead - unsent) :
					     0;
	}
	return cc;
}

bool
sbwriteable(const struct sockbuf *sb)
{
	uint32_t space = sbspace(sb);

	if (sb->sb_ahead != 0) {
		return (uint64_t)space * 3 >= sb->sb_ahead;
	}
	/* Linux's tcp_poll(): while a third of the buffer is free. */
	return space > 0 &&
	    (uint64_t)sb->sb_cc * 3 <= (uint64_t)sb->sb_hiwat * 2;
}

int
sbreserve(struct sockbuf *sb, uint32_t cc)
{
	if (cc == 0 || cc > UINT32_MAX / (2 * SB_EFFICIENCY)) {
		return ENOBUFS;
	}
	sb->sb_hiwat = cc;
	sb->sb_mbmax = u32max(cc * SB_EFFICIENCY, SB_MINMAX);
	if (sb->sb_lowat == 0) {
		sb->sb_lowat = 1;
	}
	return 0;
}

void
sbavail_update(struct socket *so)
{
	uint32_t cc = so->so_rcv.sb_cc;

	if (cc == 0 && so->so_rcv.sb_mb != NULL) {
		cc = 1; /* an empty datagram */
	}
	atomic_store_explicit(&so->so_rcv.sb_avail, cc, memory_order_relaxed);
	atomic_store_explicit(&so->so_snd.sb_avail, sbspace(&so->so_snd),
	    memory_order_relaxed);
}

bool
sb_sametag(const struct mbuf *a, const struct mbuf *b)
{
	if (((a->m_flags | b->m_flags) & M_TAG) == 0) {
		return true;
	}
	return (a->m_flags & b->m_flags & M_TAG) != 0 &&
	    a->m_pkthdr.svc == b->m_pkthdr.svc &&
	    a->m_pkthdr.origin == b->m_pkthdr.origin;
}

/* Put a short m into the free room of the tail; m is freed then. */
static bool
sb_compress(struct sockbuf *sb, struct mbuf *tail, struct mbuf *m)
{
	if (tail == NULL || m->m_len > SB_COMPRESS || !sb_isdata(m) ||
	    !sb_isdata(tail) || (tail->m_flags & M_EOR) || !M_WRITABLE(tail) ||
	    M_TRAILINGSPACE(tail) < m->m_len || !sb_sametag(tail, m)) {
		return false;
	}
	sbfree(sb, tail);
	memcpy(tail->m_data + tail->m_len, m->m_data, m->m_len);
	tail->m_len += m->m_len;
	sballoc(sb, tail);
	m_free(m);
	return true;
}

void
sbappendstream(struct sockbuf *sb, struct mbuf *m)
{
	while (m != NULL) {
		struct mbuf *next = m->m_next;

		m->m_next = NULL;
		m->m_nextpkt = NULL;
		m->m_flags &= (uint16_t)~M_PKTHDR;
		if (m->m_len == 0) {
			m_free(m);
		} else if (!sb_compress(sb, sb->sb_mbtail, m)) {
			if (sb->sb_mbtail != NULL) {
				sb->sb_mbtail->m_next = m;
			} else {
				sb->sb_mb = sb->sb_lastrecord = m;
			}
			sb->sb_mbtail = m;
			sballoc(sb, m);
		}
		m = next;
	}
}

/* Link a complete record at the end. */
static void
sb_linkrecord(struct sockbuf *sb, struct mbuf *m)
{
	struct mbuf *n = m;

	m->m_nextpkt = NULL;
	if (sb->sb_lastrecord != NULL) {
		sb->sb_lastrecord->m_nextpkt = m;
	} else {
		sb->sb_mb = m;
	}
	sb->sb_lastrecord = m;
	for (;;) {
		sballoc(sb, n);
		if (n->m_next == NULL) {
			break;
		}
		n = n->m_next;
	}
	sb->sb_mbtail = n;
}

/* As Linux: what comes is taken as long as the buffer is not full already. */
static bool
sb_full(const struct sockbuf *sb)
{
	return sb->sb_cc >= sb->sb_hiwat || sb->sb_mbcnt >= sb->sb_mbmax;
}

int
sbappendrecord(struct sockbuf *sb, struct mbuf *m)
{
	if (sb_full(sb)) {
		return 0;
	}
	sb_linkrecord(sb, m);
	return 1;
}

int
sbappendaddr(struct sockbuf *sb, const struct sockaddr *from, socklen_t fromlen,
    struct mbuf *data, struct mbuf *control)
{
	struct mbpool *p;
	struct mbuf *name = NULL;

	if (sb_full(sb) || (data == NULL && control == NULL)) {
		return 0;
	}
	p = (data != NULL ? data : control)->m_pool;
	if (from != NULL && fromlen <= sizeof(struct sockaddr_storage)) {
		name = m_get(p, MT_SONAME);
		if (name == NULL) {
			return 0;
		}
		memcpy(name->m_data, from, fromlen);
		name->m_len = (uint32_t)fromlen;
	}
	if (control != NULL) {
		m_last(control)->m_next = data;
		data = control;
	}
	if (name != NULL) {
		name->m_next = data;
		data = name;
	}
	sb_linkrecord(sb, data);
	return 1;
}

/* The head of the chain changes by n bytes; keep tcp_output's cursor right. */
static void
sb_cursor_drop(struct sockbuf *sb, uint32_t n)
{
	if (sb->sb_sndptroff >= n && sb->sb_sndptr != NULL) {
		sb->sb_sndptroff -= n;
	} else {
		sb->sb_sndptr = NULL;
		sb->sb_sndptroff = 0;
	}
}

static void
sb_fixhead(struct sockbuf *sb, struct mbuf *head)
{
	sb->sb_mb = head;
	if (head == NULL) {
		sb->sb_mbtail = sb->sb_lastrecord = NULL;
	} else {
		sb->sb_lastrecord = head;
	}
}

void
sbdrop(struct sockbuf *sb, uint32_t len)
{
	struct mbuf *m = sb->sb_mb;

	KASSERT(len <= sb->sb_cc);
	sb_cursor_drop(sb, len);
	while (len > 0 && m != NULL) {
		sbfree(sb, m);
		if (m->m_len > len) {
			m->m_data += len;
			m->m_len -= len;
			sballoc(sb, m);
			break;
		}
		len -= m->m_len;
		m = m_free(m);
	}
	sb_fixhead(sb, m);
}

struct mbuf *
sbtake(struct sockbuf *sb, uint32_t n)
{
	struct mbuf *m = sb->sb_mb, *last = NULL, *top = m, *part;
	uint32_t got = 0;

	while (m != NULL && got + m->m_len <= n) {
		got += m->m_len;
		sbfree(sb, m);
		last = m;
		m = m->m_next;
	}
	if (last != NULL) {
		last->m_next = NULL;
	} else {
		top = NULL;
	}
	sb_cursor_drop(sb, got);
	sb_fixhead(sb, m);
	if (got == n || m == NULL) {
		return top;
	}
	/* The rest of n is the first part of m: share it. Failing that, hand
	 * out what there is. */
	part = m_copym(m, 0, n - got);
	if (part != NULL) {
		sbdrop(sb, n - got);
		if (last != NULL) {
			last->m_next = part;
		} else {
			top = part;
		}
	}
	return top;
}

struct mbuf *
sbtakerecord(struct sockbuf *sb)
{
	struct mbuf *top = sb->sb_mb;

	if (top == NULL) {
		return NULL;
	}
	for (struct mbuf *m = top; m != NULL; m = m->m_next) {
		sbfree(sb, m);
	}
	sb->sb_mb = top->m_nextpkt;
	if (sb->sb_mb == NULL) {
		sb->sb_mbtail = sb->sb_lastrecord = NULL;
	}
	top->m_nextpkt = NULL;
	return top;
}

void
sbcutrecord(struct sockbuf *sb, uint32_t n)
{
	struct mbuf *m = sb->sb_mb;

	while (!sb_isdata(m)) {
		m = m->m_next;
	}
	if (m->m_flags & M_PKTHDR) {
		m->m_pkthdr.len -= n;
	}
	for (; n > 0; m = m->m_next) {
		uint32_t k = u32min(n, m->m_len);

		sbfree(sb, m);
		m->m_data += k;
		m->m_len -= k;
		sballoc(sb, m);
		n -= k;
	}
}

void
sbdroprecord(struct sockbuf *sb)
{
	m_freem(sbtakerecord(sb));
}

void
sbflush(struct sockbuf *sb)
{
	while (sb->sb_mb != NULL) {
		sbdroprecord(sb);
	}
	sb->sb_cc = 0; /* PF_LOCAL: see above */
	sb->sb_mbcnt = 0;
	sb->sb_sndptr = NULL;
	sb->sb_sndptroff = 0;
}

struct mbuf *
sbsndptr(struct sockbuf *sb, uint32_t off, uint32_t *moff)
{
	struct mbuf *m = sb->sb_sndptr;
	uint32_t base = sb->sb_sndptroff;

	if (m == NULL || off < base) {
		m = sb->sb_mb;
		base = 0;
	}
	while (m != NULL && off - base >= m->m_len) {
		if (m->m_next == NULL) { /* the end: nothing there yet */
			m = NULL;
			break;
		}
		base += m->m_len;
		m = m->m_next;
	}
	if (m != NULL) {
		sb->sb_sndptr = m;
		sb->sb_sndptroff = base;
		*moff = off - base;
	}
	return m;
}

struct mbuf *
sbcreatecontrol(struct mbpool *p, const void *data, size_t len, int type,
    int level)
{
	struct cmsghdr c = { .cmsg_len = CMSG_LEN(len),
		.cmsg_level = level,
		.cmsg_type = type };
	struct mbuf *m;

	if (CMSG_SPACE(len) > MCLBYTES) {
		return NULL;
	}
	m = CMSG_SPACE(len) <= MLEN ? m_get(p, MT_CONTROL) :
				      m_getcl(p, MT_CONTROL, 0, MCLBYTES);
	if (m != NULL) {
		memcpy(m->m_data, &c, sizeof(c));
		memcpy(m->m_data + CMSG_LEN(0), data, len);
		m->m_len = (uint32_t)CMSG_LEN(len);
	}
	return m;
}

static int
sb_lockevent(const struct socket *so, const struct sockbuf *sb)
{
	return sb == &so->so_snd ? SOEV_SNDLOCK : SOEV_RCVLOCK;
}

void
sbwaitlock(struct socket *so, struct sockbuf *sb)
{
	while (sb->sb_flags & SB_LOCK) {
		(void)sowait(so, sb_lockevent(so, sb), UINT64_MAX);
	}
}

void
sblock(struct sockbuf *sb)
{
	KASSERT(!(sb->sb_flags & SB_LOCK));
	sb->sb_flags |= SB_LOCK;
}

void
sbunlock(struct socket *so, struct sockbuf *sb)
{
	KASSERT(sb->sb_flags & SB_LOCK);
	sb->sb_flags &= (uint16_t)~SB_LOCK;
	if (so->so_waiters != NULL) {
		so_wake_waiters(so, sb_lockevent(so, sb));
	}
}
