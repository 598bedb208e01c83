/* m_* operations against a plain array of bytes, at random, and the pool. */
#include "bsdcore/sys/mbuf.h"
#include "tests/unit/c/check.h"

#define LIMIT (8u << 20)

static uint64_t rng = 0x9e3779b97f4a7c15ull;

static uint32_t
rnd(uint32_t n)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (uint32_t)(rng >> 33) % n;
}

/* A chain of len random bytes in buffers of random sizes, copied to ref. */
static struct mbuf *
make(struct mbpool *p, uint32_t len, uint8_t *ref)
{
	struct mbuf *top = m_gethdr(p, MT_DATA), *m = top;
	uint32_t done = 0;

	top->m_data += rnd(32);
	while (done < len) {
		uint32_t n = u32min(len - done, 1 + rnd(700));

		if (rnd(2) == 0 || n > MLEN / 2) {
			m->m_next = m_getcl(p, MT_DATA, 0, n + 100);
		} else {
			m->m_next = m_get(p, MT_DATA);
		}
		m = m->m_next;
		m->m_data += rnd(64);
		n = u32min(n, M_TRAILINGSPACE(m));
		for (uint32_t i = 0; i < n; i++) {
			ref[done + i] = m->m_data[i] = (uint8_t)rnd(256);
		}
		m->m_len = n;
		done += n;
	}
	m_fixhdr(top);
	CHECK_EQ(top->m_pkthdr.len, len);
	return top;
}

static void
same(const struct mbuf *m, const uint8_t *ref, uint32_t len)
{
	uint8_t buf[20000];

	CHECK_EQ(m_length(m), len);
	m_copydata(m, 0, len, buf);
	CHECK_MEM(buf, ref, len);
	CHECK(m_sanity(m));
}

static void
empty(struct mbpool *p)
{
	struct mbstat st;

	mbpool_stat(p, &st);
	CHECK_EQ(st.mbs_mbufs, 0);
	CHECK_EQ(st.mbs_foreign, 0);
	for (int c = 0; c < 4; c++) {
		CHECK_EQ(st.mbs_clusters[c], 0);
	}
	mbpool_free(p);
}

/* One random operation; answers the chain, ref and len changed alike. */
static struct mbuf *
mutate(struct mbuf *m, uint8_t *ref, uint32_t *lenp)
{
	uint32_t len = *lenp, n = rnd(len), k = 1 + rnd(200), off;
	struct mbuf *o;

	switch (rnd(9)) {
	case 0:
		m_adj(m, (int32_t)n);
		memmove(ref, ref + n, len - n);
		*lenp = len - n;
		return m;
	case 1:
		m_adj(m, -(int32_t)n);
		*lenp = len - n;
		return m;
	case 2:
		m = m_prepend(m, u32min(k, MLEN));
		memset(m->m_data, 0x5a, u32min(k, MLEN));
		memmove(ref + u32min(k, MLEN), ref, len);
		memset(ref, 0x5a, u32min(k, MLEN));
		*lenp = len + u32min(k, MLEN);
		return m;
	case 3:
		return m_pullup(m, u32min(len, k));
	case 4:
		o = m_pulldown(m, n, u32min(len - n, k), &off);
		CHECK(o != NULL && off + u32min(len - n, k) <= o->m_len);
		CHECK_MEM(o->m_data + off, ref + n, u32min(len - n, k));
		return m;
	case 5:
		o = m_split(m, n);
		same(m, ref, n);
		same(o, ref + n, len - n);
		CHECK_EQ(o->m_pkthdr.len, len - n);
		o->m_flags &= (uint16_t)~M_PKTHDR;
		m_cat(m, o);
		m_fixhdr(m);
		return m;
	case 6:
		o = m_copym(m, n, len - n);
		same(o, ref + n, len - n);
		m = m_makewritable(m, n, len - n);
		memset(ref + n, 0x11, u32min(len - n, k));
		CHECK_EQ(m_copyback(m, n, u32min(len - n, k), ref + n), 0);
		m_freem(o);
		return m;
	case 7:
		CHECK_EQ(m_append(m, k, ref), 0);
		memmove(ref + len, ref, k);
		*lenp = len + k;
		return m;
	default:
		return m_defrag(m);
	}
}

TEST(random_operations)
{
	struct mbpool *p = mbpool_new(NULL, LIMIT);
	static uint8_t ref[40000];

	for (int round = 0; round < 400; round++) {
		uint32_t len = 1 + rnd(6000);
		struct mbuf *m = make(p, len, ref);

		for (int i = 0; i < 12 && len > 1 && len < 15000; i++) {
			m = mutate(m, ref, &len);
			CHECK(m != NULL);
			CHECK_EQ(m->m_pkthdr.len, len);
			same(m, ref, len);
		}
		m_freem(m);
	}
	empty(p);
}

TEST(copy_shares_clusters)
{
	struct mbpool *p = mbpool_new(NULL, LIMIT);
	struct mbuf *m = m_getcl(p, MT_DATA, M_PKTHDR, M64KCLBYTES), *n;

	m->m_len = m->m_pkthdr.len = 60000;
	n = m_copym(m, 100, 50000);
	CHECK(n->m_data == m->m_data + 100);
	CHECK(!M_WRITABLE(m) && !M_WRITABLE(n));
	CHECK_EQ(M_LEADINGSPACE(n), 0);
	m_freem(m);
	CHECK(M_WRITABLE(n));
	m_freem(n);
	empty(p);
}

TEST(limit_is_kept)
{
	struct mbpool *p = mbpool_new(NULL, 1u << 20);
	struct mbuf *list = NULL, *m;
	struct mbstat st;

	while ((m = m_getcl(p, MT_DATA, 0, MCLBYTES)) != NULL) {
		m->m_nextpkt = list;
		list = m;
	}
	mbpool_stat(p, &st);
	CHECK(st.mbs_bytes <= st.mbs_limit);
	CHECK_EQ(st.mbs_fail, 1);
	CHECK(mbpool_wantdrain(p) && !mbpool_wantdrain(p));
	CHECK(m_getm(p, 1u << 20, MT_DATA, M_PKTHDR) == NULL);
	m_freem_list(list);
	m = m_getcl(p, MT_DATA, 0, MCLBYTES);
	CHECK(m != NULL);
	m_freem(m);
	empty(p);
}

static int released;

static void
release(struct mext *x)
{
	CHECK(x->x_arg == &released);
	released++;
}

TEST(foreign_storage)
{
	struct mbpool *p = mbpool_new(NULL, LIMIT);
	static uint8_t mem[3000];
	struct mbuf *m = m_getext(p, mem, sizeof(mem), release, &released), *n;

	m->m_len = sizeof(mem);
	n = m_copym(m, 0, M_COPYALL);
	m_freem(m);
	CHECK_EQ(released, 0);
	m_freem(n);
	CHECK_EQ(released, 1);
	empty(p);
}

TEST(getm_has_room)
{
	struct mbpool *p = mbpool_new(NULL, LIMIT);

	for (uint32_t len = 0; len < 300000; len = len * 2 + 1) {
		struct mbuf *m = m_getm(p, len, MT_DATA, M_PKTHDR);
		uint32_t room = 0;

		for (struct mbuf *n = m; n != NULL; n = n->m_next) {
			room += M_TRAILINGSPACE(n);
		}
		CHECK(room >= len);
		m_freem(m);
	}
	empty(p);
}

TESTS(RUN(random_operations), RUN(copy_shares_clusters), RUN(limit_is_kept),
    RUN(foreign_storage), RUN(getm_has_room))
