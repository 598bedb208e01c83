/*
 * uipc_mbpool.c - where mbufs and clusters come from.
 *
 * One pool per stack, used under its lock. mbufs and small clusters are carved
 * from slabs and stay with the pool; 16K and 64K clusters are allocated singly
 * and a bounded number is kept. An mbuf freed together with its unshared
 * cluster stays attached to it on a composite list, since nearly everyone who
 * wants a cluster wants the pair.
 *
 *	m_getcl -> composite list -> (mbuf list + cluster list) -> slab -> limit
 *
 * Chains lent to ports (m_topkt) and to the application (m_lend) are freed by whichever thread drops the last
 * reference; they are pushed on mp_remote, a lock-free stack emptied whole by
 * mbpool_reap(), so there is no ABA. Each lent chain holds a reference on the
 * pool, and the last one out destroys it.
 */
#include "bsdcore/sys/mbuf.h"
#include "bsdcore/sys/stack.h"

#define MB_SLAB 65536u
#define MB_NCLASS 4
#define MEXT_FOREIGN 4
#define MB_COMPOSITE_MAX 512u /* per class: pairs kept together */
#define MB_BIGKEEP                                                             \
	256u /* 16K clusters kept when free; a quarter of that for 64K */

static const uint32_t mb_clsize[MB_NCLASS] = { MCLBYTES, MBIGCLBYTES,
	M16KCLBYTES, M64KCLBYTES };

struct mbslab {
	struct mbslab *sl_next;
	void *sl_mem;
};

struct mbpool {
	struct stack *mp_stack;
	struct mbuf *mp_free;		  /* plain mbufs */
	struct mbuf *mp_pairs[MB_NCLASS]; /* composite mbuf + cluster */
	uint32_t mp_npairs[MB_NCLASS];
	struct mext *mp_cl[MB_NCLASS]; /* plain clusters */
	uint32_t mp_ncl[MB_NCLASS];
	struct mext *mp_ext; /* headers for foreign storage */
	struct mbslab *mp_slabs;
	uint64_t mp_bytes, mp_limit, mp_inuse;
	struct mbstat mp_stat;
	uint64_t mp_drained; /* mbs_fail at the last drain */
	_Atomic(struct mbuf *) mp_remote;
	atomic_uint_fast64_t mp_lent; /* bytes lent to the application */
	atomic_uint mp_refs;
};

struct mbpool *
mbpool_new(struct stack *s, uint64_t limit)
{
	struct mbpool *p = calloc(1, sizeof(*p));

	if (p != NULL) {
		p->mp_stack = s;
		p->mp_limit = limit;
		atomic_init(&p->mp_refs, 1);
		atomic_init(&p->mp_remote, NULL);
		atomic_init(&p->mp_lent, 0);
	}
	return p;
}

static void
mbpool_unref(struct mbpool *p)
{
	struct mbslab *sl;

	if (atomic_fetch_sub_explicit(&p->mp_refs, 1, memory_order_acq_rel) !=
	    1) {
		return;
	}
	mbpool_reap(p);
	for (int c = 2; c < MB_NCLASS; c++) { /* singly allocated ones */
		struct mext *x;
		struct mbuf *m;

		for (m = p->mp_pairs[c]; m != NULL; m = m->m_next) {
			free(m->m_ext->x_buf);
			free(m->m_ext);
		}
		while ((x = p->mp_cl[c]) != NULL) {
			p->mp_cl[c] = x->x_link;
			free(x->x_buf);
			free(x);
		}
	}
	while ((sl = p->mp_slabs) != NULL) {
		p->mp_slabs = sl->sl_next;
		free(sl->sl_mem);
		free(sl);
	}
	free(p);
}

void
mbpool_free(struct mbpool *p)
{
	mbpool_reap(p);
	mbpool_unref(p);
}

void
mbpool_stat(struct mbpool *p, struct mbstat *out)
{
	*out = p->mp_stat;
	out->mbs_bytes = p->mp_bytes;
	out->mbs_limit = p->mp_limit;
}

bool
mbpool_short(const struct mbpool *p)
{
	return p->mp_inuse > p->mp_limit - p->mp_limit / 8;
}

bool
mbpool_wantdrain(struct mbpool *p)
{
	if (p->mp_stat.mbs_fail == p->mp_drained) {
		return false;
	}
	p->mp_drained = p->mp_stat.mbs_fail;
	p->mp_stat.mbs_drain++;
	return true;
}

static void
mb_big_free(struct mbpool *p, struct mext *x)
{
	p->mp_bytes -= mb_clsize[x->x_class];
	free(x->x_buf);
	free(x);
}

/* May n bytes more be held? At the limit, clusters of which one at a time can
 * be given back, and which lie idle, have to go first. */
static bool
mb_room(struct mbpool *p, uint32_t n)
{
	for (int c = MB_NCLASS - 1; c >= 2; c--) {
		while (p->mp_bytes + n > p->mp_limit) {
			struct mext *x = p->mp_cl[c];
			struct mbuf *m = NULL;

			if (x != NULL) {
				p->mp_cl[c] = x->x_link;
				p->mp_ncl[c]--;
			} else if ((m = p->mp_pairs[c]) != NULL) {
				p->mp_pairs[c] = m->m_next;
				p->mp_npairs[c]--;
				x = m->m_ext;
				m->m_next = p->mp_free;
				p->mp_free = m;
			} else {
				break;
			}
			mb_big_free(p, x);
		}
	}
	return p->mp_bytes + n <= p->mp_limit;
}

/* MB_SLAB bytes kept until the pool goes; NULL at the limit. */
static void *
mb_slab(struct mbpool *p)
{
	struct mbslab *sl;

	if (!mb_room(p, MB_SLAB)) {
		return NULL;
	}
	sl = malloc(sizeof(*sl));
	if (sl == NULL) {
		return NULL;
	}
	sl->sl_mem = aligned_alloc(4096, MB_SLAB);
	if (sl->sl_mem == NULL) {
		free(sl);
		return NULL;
	}
	sl->sl_next = p->mp_slabs;
	p->mp_slabs = sl;
	p->mp_bytes += MB_SLAB;
	return sl->sl_mem;
}

static bool
mb_grow_mbufs(struct mbpool *p)
{
	uint8_t *mem = mb_slab(p);

	if (mem == NULL) {
		return false;
	}
	for (uint32_t off = 0; off + MSIZE <= MB_SLAB; off += MSIZE) {
		struct mbuf *m = (struct mbuf *)(void *)(mem + off);

		m->m_pool = p;
		m->m_flags = M_FREE;
		m->m_next = p->mp_free;
		p->mp_free = m;
	}
	return true;
}

static bool
mb_grow_exts(struct mbpool *p)
{
	struct mext *x = mb_slab(p);

	if (x == NULL) {
		return false;
	}
	for (size_t i = 0; i < MB_SLAB / sizeof(*x); i++) {
		x[i].x_pool = p;
		x[i].x_link = p->mp_ext;
		p->mp_ext = &x[i];
	}
	return true;
}

static struct mext *
mb_ext_get(struct mbpool *p)
{
	struct mext *x;

	if (p->mp_ext == NULL && !mb_grow_exts(p)) {
		return NULL;
	}
	x = p->mp_ext;
	p->mp_ext = x->x_link;
	return x;
}

static void
mb_cl_push(struct mbpool *p, struct mext *x)
{
	x->x_link = p->mp_cl[x->x_class];
	p->mp_cl[x->x_class] = x;
	p->mp_ncl[x->x_class]++;
}

/* Class 0 and 1: a slab full of clusters. */
static bool
mb_grow_small(struct mbpool *p, int c)
{
	uint8_t *mem = mb_slab(p);

	if (mem == NULL) {
		return false;
	}
	for (uint32_t off = 0; off < MB_SLAB; off += mb_clsize[c]) {
		struct mext *x = mb_ext_get(p);

		if (x == NULL) {
			return off > 0;
		}
		x->x_buf = mem + off;
		x->x_size = mb_clsize[c];
		x->x_class = (uint16_t)c;
		mb_cl_push(p, x);
	}
	return true;
}

static bool
mb_grow_big(struct mbpool *p, int c)
{
	struct mext *x;

	if (!mb_room(p, mb_clsize[c])) {
		return false;
	}
	x = malloc(sizeof(*x));
	if (x == NULL) {
		return false;
	}
	x->x_buf = malloc(mb_clsize[c]);
	if (x->x_buf == NULL) {
		free(x);
		return false;
	}
	x->x_pool = p;
	x->x_size = mb_clsize[c];
	x->x_class = (uint16_t)c;
	p->mp_bytes += mb_clsize[c];
	mb_cl_push(p, x);
	return true;
}

static struct mbuf *
mb_pair_pop(struct mbpool *p, int c)
{
	struct mbuf *m = p->mp_pairs[c];

	if (m != NULL) {
		p->mp_pairs[c] = m->m_next;
		p->mp_npairs[c]--;
	}
	return m;
}

static struct mext *
mb_cl_get(struct mbpool *p, int c)
{
	struct mext *x;

	if (p->mp_cl[c] == NULL &&
	    !(c < 2 ? mb_grow_small(p, c) : mb_grow_big(p, c))) {
		return NULL;
	}
	x = p->mp_cl[c];
	p->mp_cl[c] = x->x_link;
	p->mp_ncl[c]--;
	x->x_refs = 1;
	x->x_flags = 0;
	return x;
}

/* Break up a pair to get its mbuf. */
static struct mbuf *
mb_steal(struct mbpool *p)
{
	for (int c = 0; c < MB_NCLASS; c++) {
		struct mbuf *m = mb_pair_pop(p, c);

		if (m != NULL) {
			mb_cl_push(p, m->m_ext);
			return m;
		}
	}
	return NULL;
}

static struct mbuf *
mb_get(struct mbpool *p, int type, uint16_t flags)
{
	struct mbuf *m;

	if (p->mp_free == NULL && !mb_grow_mbufs(p)) {
		m = mb_steal(p);
		if (m == NULL) {
			p->mp_stat.mbs_fail++;
			return NULL;
		}
	} else {
		m = p->mp_free;
		p->mp_free = m->m_next;
	}
	KASSERT(m->m_flags & M_FREE);
	m->m_next = m->m_nextpkt = NULL;
	m->m_data = m->m_dat;
	m->m_len = 0;
	m->m_type = (uint16_t)type;
	m->m_flags = flags;
	p->mp_stat.mbs_mbufs++;
	p->mp_inuse += MSIZE;
	return m;
}

static void
mb_pkthdr_init(struct mbuf *m)
{
	memset(&m->m_pkthdr, 0, sizeof(m->m_pkthdr));
	m->m_pkthdr.seg_count = 1;
	m->m_flags |= M_PKTHDR;
}

struct mbuf *
m_get(struct mbpool *p, int type)
{
	return mb_get(p, type, 0);
}

struct mbuf *
m_gethdr(struct mbpool *p, int type)
{
	struct mbuf *m = mb_get(p, type, 0);

	if (m != NULL) {
		mb_pkthdr_init(m);
	}
	return m;
}

static int
mb_class(uint32_t size)
{
	for (int c = 0; c < MB_NCLASS; c++) {
		if (size <= mb_clsize[c]) {
			return c;
		}
	}
	return -1;
}

struct mbuf *
m_getcl(struct mbpool *p, int type, int flags, uint32_t size)
{
	int c = mb_class(size);
	struct mbuf *m;
	struct mext *x;

	if (c < 0) {
		return NULL;
	}
	m = mb_pair_pop(p, c);
	if (m != NULL) {
		x = m->m_ext;
		x->x_refs = 1;
		x->x_flags = 0;
		m->m_next = m->m_nextpkt = NULL;
		m->m_len = 0;
		m->m_type = (uint16_t)type;
		m->m_flags = 0;
		p->mp_stat.mbs_mbufs++;
		p->mp_inuse += MSIZE;
	} else {
		x = mb_cl_get(p, c);
		if (x == NULL) {
			p->mp_stat.mbs_fail++;
			return NULL;
		}
		m = mb_get(p, type, 0);
		if (m == NULL) {
			mb_cl_push(p, x);
			return NULL;
		}
	}
	m->m_ext = x;
	m->m_data = x->x_buf;
	m->m_flags |= M_EXT;
	p->mp_stat.mbs_clusters[c]++;
	p->mp_inuse += mb_clsize[c];
	if (flags & M_PKTHDR) {
		mb_pkthdr_init(m);
	}
	return m;
}

struct mbuf *
m_getm(struct mbpool *p, uint32_t len, int type, int flags)
{
	struct mbuf *top = NULL, **mp = &top;

	do {
		struct mbuf *m;

		if (len <= MLEN) {
			m = (flags & M_PKTHDR) ? m_gethdr(p, type) :
						 m_get(p, type);
		} else {
			m = m_getcl(p, type, flags, u32min(len, M64KCLBYTES));
		}
		if (m == NULL) {
			m_freem(top);
			return NULL;
		}
		*mp = m;
		mp = &m->m_next;
		flags = 0;
		len -= u32min(len, M_TRAILINGSPACE(m));
	} while (len > 0);
	return top;
}

struct mbuf *
m_getext(struct mbpool *p, void *buf, uint32_t size,
    void (*free_fn)(struct mext *), void *arg)
{
	struct mext *x = mb_ext_get(p);
	struct mbuf *m;

	if (x == NULL) {
		p->mp_stat.mbs_fail++;
		return NULL;
	}
	m = mb_get(p, MT_DATA, 0);
	if (m == NULL) {
		x->x_link = p->mp_ext;
		p->mp_ext = x;
		return NULL;
	}
	x->x_refs = 1;
	x->x_flags = 0;
	x->x_class = MEXT_FOREIGN;
	x->x_buf = buf;
	x->x_size = size;
	x->x_free = free_fn;
	x->x_arg = arg;
	m->m_ext = x;
	m->m_data = buf;
	m->m_flags = M_EXT;
	p->mp_stat.mbs_foreign++;
	return m;
}

/* The last reference on storage is gone. */
static void
mb_ext_free(struct mbpool *p, struct mext *x)
{
	uint32_t c = x->x_class;

	if (c == MEXT_FOREIGN) {
		p->mp_stat.mbs_foreign--;
		x->x_free(x);
		x->x_link = p->mp_ext;
		p->mp_ext = x;
		return;
	}
	p->mp_stat.mbs_clusters[c]--;
	p->mp_inuse -= mb_clsize[c];
#ifdef XSOCK_DEBUG
	memset(x->x_buf, 0xde, u32min(x->x_size, MCLBYTES));
#endif
	if (c >= 2 && p->mp_ncl[c] >= (c == 2 ? MB_BIGKEEP : MB_BIGKEEP / 4)) {
		mb_big_free(p, x);
		return;
	}
	mb_cl_push(p, x);
}

struct mbuf *
m_free(struct mbuf *m)
{
	struct mbpool *p = m->m_pool;
	struct mbuf *next = m->m_next;
	struct mext *x = (m->m_flags & M_EXT) ? m->m_ext : NULL;

	KASSERT(!(m->m_flags & M_FREE));
	p->mp_stat.mbs_mbufs--;
	p->mp_inuse -= MSIZE;
	if (x != NULL && --x->x_refs == 0) {
		uint32_t c = x->x_class;

		if (c != MEXT_FOREIGN &&
		    p->mp_npairs[c] <
			(c < 2 ? MB_COMPOSITE_MAX : MB_BIGKEEP / 4)) {
			p->mp_stat.mbs_clusters[c]--;
			p->mp_inuse -= mb_clsize[c];
#ifdef XSOCK_DEBUG
			memset(x->x_buf, 0xde, u32min(x->x_size, MCLBYTES));
#endif
			m->m_flags = M_FREE;
			m->m_next = p->mp_pairs[c];
			p->mp_pairs[c] = m;
			p->mp_npairs[c]++;
			return next;
		}
		mb_ext_free(p, x);
	}
#ifdef XSOCK_DEBUG
	memset(m->m_dat, 0xde, MLEN);
#endif
	m->m_flags = M_FREE;
	m->m_next = p->mp_free;
	p->mp_free = m;
	return next;
}

/* ---- to and from NIC packets ---- */

static void
mb_pkt_release(struct mext *x)
{
	struct pkt *pk = x->x_arg;

	pk->p_pool->pp_ops->ppo_free1(pk);
}

/* Small packets are copied: cheaper than wrapping, and the buffer goes home. */
#define MB_COPYBREAK 128u

static struct mbuf *
mb_wrap1(struct mbpool *p, struct pkt *pk)
{
	struct mbuf *m;

	if (pk->p_len <= MB_COPYBREAK) {
		m = m_get(p, MT_DATA);
		if (m != NULL) {
			m->m_data += MAX_HDR;
			memcpy(m->m_data, pk->p_data, pk->p_len);
			m->m_len = pk->p_len;
			pk->p_pool->pp_ops->ppo_free1(pk);
		}
		return m;
	}
	m = m_getext(p, pk->p_buf, pk->p_size, mb_pkt_release, pk);
	if (m != NULL) {
		m->m_data = pk->p_data;
		m->m_len = pk->p_len;
		if (!pkt_writable(pk)) {
			m->m_ext->x_flags |= MEXTF_RDONLY;
		}
	}
	return m;
}
CTASSERT(MSIZE - offsetof(struct mbuf, m_dat) >= MB_COPYBREAK + MAX_HDR);

struct mbuf *
m_frompkt(struct mbpool *p, struct pkt *pk)
{
	struct mbuf *top = NULL, **mp = &top;
	uint64_t tstamp = pk->p_time;
	uint32_t len = pk->p_pktlen, flowid = pk->p_flowid;
	uint16_t gso_size = pk->p_gso_size;
	uint8_t gso = pk->p_gso_type, pflags = pk->p_flags, svc = pk->p_svc;

	while (pk != NULL) {
		struct pkt *next = pk->p_next;
		struct mbuf *m = mb_wrap1(p, pk);

		if (m == NULL) {
			pkt_free(pk);
			m_freem(top);
			return NULL;
		}
		*mp = m;
		mp = &m->m_next;
		pk = next;
	}
	mb_pkthdr_init(top);
	top->m_pkthdr.len = len;
	top->m_pkthdr.tstamp = tstamp;
	top->m_pkthdr.flowid = flowid;
	top->m_pkthdr.svc = svc;
	top->m_pkthdr.gso_type = gso;
	top->m_pkthdr.tso_segsz = gso_size;
	if (pflags & (PKT_CSUM_VALID | PKT_CSUM_PARTIAL)) {
		top->m_pkthdr.csum_flags = CSUM_DATA_VALID;
	}
	return top;
}

/* Any thread: a chain that held a reference on the pool goes home. */
static void
mb_remote_push(struct mbuf *m)
{
	struct mbpool *p = m->m_pool;
	struct mbuf *head =
	    atomic_load_explicit(&p->mp_remote, memory_order_relaxed);

	do {
		atomic_store_explicit(&m->m_pkthdr.remote_next, head,
		    memory_order_relaxed);
	} while (!atomic_compare_exchange_weak_explicit(&p->mp_remote, &head, m,
	    memory_order_release, memory_order_relaxed));
	mbpool_unref(p);
}

/* The port is done with a chain. */
static void
mb_remote_free(struct pkt_ext *ext)
{
	mb_remote_push(ext->e_arg);
}

void
m_lend(struct mbuf *m, uint32_t refs, uint32_t charge)
{
	struct mbpool *p = m->m_pool;

	m->m_pkthdr.txext.e_arg = (void *)(uintptr_t)charge;
	atomic_store_explicit(&m->m_pkthdr.txext.e_refs, refs,
	    memory_order_relaxed);
	atomic_fetch_add_explicit(&p->mp_lent, charge, memory_order_relaxed);
	atomic_fetch_add_explicit(&p->mp_refs, 1, memory_order_relaxed);
}

void
m_lend_hold(struct mbuf *m, uint32_t refs)
{
	atomic_fetch_add_explicit(&m->m_pkthdr.txext.e_refs, refs,
	    memory_order_relaxed);
}

void
m_lend_release(struct mbuf *m, uint32_t refs)
{
	struct pkt_ext *ext = &m->m_pkthdr.txext;

	if (atomic_fetch_sub_explicit(&ext->e_refs, refs,
		memory_order_acq_rel) == refs) {
		atomic_fetch_sub_explicit(&m->m_pool->mp_lent,
		    (uintptr_t)ext->e_arg, memory_order_relaxed);
		mb_remote_push(m);
	}
}

uint64_t
mbpool_lent(const struct mbpool *p)
{
	return atomic_load_explicit(&p->mp_lent, memory_order_relaxed);
}

void
mbpool_reap(struct mbpool *p)
{
	struct mbuf *m;

	if (atomic_load_explicit(&p->mp_remote, memory_order_relaxed) == NULL) {
		return;
	}
	m = atomic_exchange_explicit(&p->mp_remote, NULL, memory_order_acquire);
	while (m != NULL) {
		struct mbuf *next =
		    atomic_load_explicit(&m->m_pkthdr.remote_next,
			memory_order_relaxed);

		m_freem(m);
		m = next;
	}
}

static uint32_t
mb_count(const struct mbuf *m)
{
	uint32_t n = 0;

	for (; m != NULL; m = m->m_next) {
		n += m->m_len > 0;
	}
	return n;
}

struct pkt *
m_topkt(struct mbuf *m, struct pkt_pool *pp)
{
	struct pkthdr *ph = &m->m_pkthdr;
	uint32_t n = mb_count(m);
	struct pkt *top = NULL, **pkp = &top;

	KASSERT(m->m_flags & M_PKTHDR);
	if (n == 0) {
		m_freem(m);
		return NULL;
	}
	ph->txext.e_free = mb_remote_free;
	ph->txext.e_arg = m;
	atomic_store_explicit(&ph->txext.e_refs, n, memory_order_relaxed);
	atomic_fetch_add_explicit(&m->m_pool->mp_refs, 1, memory_order_relaxed);
	for (struct mbuf *n0 = m; n0 != NULL; n0 = n0->m_next) {
		struct pkt *pk;

		if (n0->m_len == 0) {
			continue;
		}
		pk = pkt_wrap(pp, n0->m_data, n0->m_len, &ph->txext);
		if (pk == NULL) {
			uint32_t left = n;

			for (pk = top; pk != NULL; pk = pk->p_next) {
				left--;
			}
			pkt_free(top);
			while (left-- > 0) {
				pkt_ext_drop(&ph->txext);
			}
			return NULL;
		}
		*pkp = pk;
		pkp = &pk->p_next;
	}
	top->p_pktlen = ph->len;
	top->p_flowid = ph->flowid;
	top->p_origin = ph->origin;
	top->p_svc = ph->svc;
	top->p_flags = PKT_TX;
	if (ph->pkt_flags & PKTF_TCP_REXMT) {
		top->p_flags |= PKT_REXMT;
	}
	return top;
}
