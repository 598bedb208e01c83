/*
 * offload.c - what hardware would do: checksums and cutting super-segments.
 *
 * Sums are taken over words as they lie in memory; the Internet checksum does
 * not care (RFC 1071, 2(B)), so nothing here swaps bytes, and a folded sum is
 * stored as it is.
 */
#include "nic/offload.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define IPPROTO_TCP_ 6
#define IPPROTO_UDP_ 17
#define TH_FIN 0x01
#define TH_PSH 0x08
#define TH_CWR 0x80

/* Two 64-bit lanes: every 64-bit machine has instructions for them, and on
 * others the compiler makes plain ones of it. */
typedef uint64_t csum_vec __attribute__((vector_size(16)));
#define VEC_BYTES sizeof(csum_vec)

static uint16_t
get16(const uint8_t *b)
{
	return (uint16_t)(b[0] << 8 | b[1]);
}

static void
put16(uint8_t *b, uint32_t v)
{
	b[0] = (uint8_t)(v >> 8);
	b[1] = (uint8_t)v;
}

static uint32_t
get32(const uint8_t *b)
{
	return (uint32_t)get16(b) << 16 | get16(b + 2);
}

static void
put32(uint8_t *b, uint32_t v)
{
	put16(b, v >> 16);
	put16(b + 2, v);
}

/* A 16-bit quantity as the sums see it. */
static uint16_t
mem16(uint16_t v)
{
	uint8_t b[2];
	uint16_t m;

	put16(b, v);
	memcpy(&m, b, 2);
	return m;
}

static uint64_t
add_carry(uint64_t a, uint64_t b)
{
	a += b;
	return a + (a < b);
}

/*
 * Every 64-bit lane is split into its 32-bit halves, which are added into
 * 64-bit lanes: no carry is lost before 2^32 additions, and there is no chain
 * of dependent carries. Returns the sum of n vectors at b.
 */
static uint64_t
csum_wide(const uint8_t *b, size_t n)
{
	csum_vec lo[2] = { { 0, 0 }, { 0, 0 } };
	csum_vec hi[2] = { { 0, 0 }, { 0, 0 } };
	const csum_vec low32 = { 0xffffffff, 0xffffffff };
	csum_vec v[4];
	uint64_t sum = 0;

	for (; n >= 4; n -= 4, b += sizeof(v)) {
		memcpy(v, b, sizeof(v));
		lo[0] += v[0] & low32;
		hi[0] += v[0] >> 32;
		lo[1] += v[1] & low32;
		hi[1] += v[1] >> 32;
		lo[0] += v[2] & low32;
		hi[0] += v[2] >> 32;
		lo[1] += v[3] & low32;
		hi[1] += v[3] >> 32;
	}
	for (; n > 0; n--, b += VEC_BYTES) {
		memcpy(v, b, VEC_BYTES);
		lo[0] += v[0] & low32;
		hi[0] += v[0] >> 32;
	}
	lo[0] += lo[1];
	hi[0] += hi[1];
	lo[0] += hi[0];
	sum = add_carry(sum, lo[0][0]);
	return add_carry(sum, lo[0][1]);
}

uint64_t
csum_add(const void *data, size_t len, uint64_t sum)
{
	const uint8_t *b = data;
	uint64_t w;

	if (len >= 2 * VEC_BYTES) {
		size_t n = len / VEC_BYTES;

		sum = add_carry(sum, csum_wide(b, n));
		b += n * VEC_BYTES;
		len -= n * VEC_BYTES;
	}
	for (; len >= 8; len -= 8, b += 8) {
		memcpy(&w, b, 8);
		sum = add_carry(sum, w);
	}
	if (len > 0) {
		w = 0;
		memcpy(&w, b, len);
		sum = add_carry(sum, w);
	}
	return sum;
}

uint16_t
csum_fold(uint64_t sum)
{
	sum = (sum >> 32) + (sum & 0xffffffff);
	sum = (sum >> 32) + (sum & 0xffffffff);
	sum = (sum >> 16) + (sum & 0xffff);
	sum = (sum >> 16) + (sum & 0xffff);
	sum = (sum >> 16) + (sum & 0xffff);
	return (uint16_t)sum;
}

uint64_t
csum_pkt(const struct pkt *p, uint32_t off, uint32_t len)
{
	uint64_t sum = 0;
	bool odd = false;

	for (; p != NULL && len > 0; p = p->p_next) {
		uint64_t part;
		uint32_t n;

		if (off >= p->p_len) {
			off -= p->p_len;
			continue;
		}
		n = MIN_OF(p->p_len - off, len);
		part = csum_add(p->p_data + off, n, 0);
		if (odd) {
			/* This piece starts with the second byte of a word:
			 * swapping the bytes of its sum puts that right. */
			part = csum_fold(part);
			part = (part & 0xff) << 8 | part >> 8;
		}
		sum = add_carry(sum, part);
		odd ^= n & 1;
		len -= n;
		off = 0;
	}
	return sum;
}

uint64_t
csum_pseudo(const uint8_t *ip, int version, uint8_t proto, uint32_t plen)
{
	uint8_t tail[8] = { 0 };
	uint64_t sum;

	sum = version == 4 ? csum_add(ip + 12, 8, 0) : csum_add(ip + 8, 32, 0);
	put32(tail, plen);
	tail[7] = proto;
	return csum_add(tail, sizeof(tail), sum);
}

/* Past the extension headers of IPv6. Returns the transport's offset or 0. */
static uint32_t
parse_ip6(const uint8_t *b, uint32_t l3, uint32_t n, uint8_t *proto)
{
	uint32_t off = l3 + 40;
	uint8_t next;

	if (n < off) {
		return 0;
	}
	next = b[l3 + 6];
	while (next == 0 || next == 43 || next == 60) {
		/* Hop-by-hop, routing, destination options. */
		if (n < off + 8) {
			return 0;
		}
		next = b[off];
		off += 8u * (b[off + 1] + 1u);
		if (off > n) {
			return 0;
		}
	}
	*proto = next;
	return off;
}

static bool
is_vlan(uint16_t ethertype)
{
	return ethertype == 0x8100 || ethertype == 0x88a8;
}

int
offload_parse(const struct pkt *p, uint32_t l2len, struct offload_hdr *oh)
{
	uint32_t n = MIN_OF(p->p_pktlen, OFFLOAD_HDRMAX), l3 = l2len, l4, end;
	uint8_t *b = oh->oh_bytes;

	if (!pkt_copyout(p, 0, n, b) || n < l3 + 20) {
		return -EINVAL;
	}
	while (l2len != 0 && is_vlan(get16(b + l3 - 2)) && n >= l3 + 24) {
		l3 += 4;
	}
	oh->oh_version = b[l3] >> 4;
	if (l2len != 0 &&
	    get16(b + l3 - 2) != (oh->oh_version == 4 ? 0x0800 : 0x86dd)) {
		return -EINVAL;
	}
	if (oh->oh_version == 4) {
		uint32_t ihl = (b[l3] & 15) * 4u;

		if (ihl < 20 || n < l3 + ihl || (get16(b + l3 + 6) & 0x3fff)) {
			return -EINVAL;
		}
		oh->oh_proto = b[l3 + 9];
		l4 = l3 + ihl;
	} else if (oh->oh_version == 6) {
		l4 = parse_ip6(b, l3, n, &oh->oh_proto);
		if (l4 == 0) {
			return -EINVAL;
		}
	} else {
		return -EINVAL;
	}
	if (oh->oh_proto == IPPROTO_TCP_ && n >= l4 + 20) {
		end = l4 + (b[l4 + 12] >> 4) * 4u;
		if (end < l4 + 20) {
			return -EINVAL;
		}
	} else if (oh->oh_proto == IPPROTO_UDP_) {
		end = l4 + 8;
	} else {
		return -EINVAL;
	}
	if (end > n) {
		return -EINVAL;
	}
	oh->oh_l3 = (uint16_t)l3;
	oh->oh_l4 = (uint16_t)l4;
	oh->oh_end = (uint16_t)end;
	return 0;
}

int
offload_csum(struct pkt *p)
{
	uint32_t start = p->p_csum_start, at = start + p->p_csum_offset;
	struct pkt *q = p;
	uint16_t sum;

	if (at + 2 > p->p_pktlen) {
		return -EINVAL;
	}
	while (at >= q->p_len) {
		at -= q->p_len;
		q = q->p_next;
	}
	if (at + 2 > q->p_len || !pkt_writable(q)) {
		return -EBUSY;
	}
	sum = (uint16_t)~csum_fold(csum_pkt(p, start, p->p_pktlen - start));
	if (sum == 0 && p->p_csum_offset == 6) {
		sum = 0xffff; /* UDP: 0 says that there is none */
	}
	memcpy(q->p_data + at, &sum, 2);
	p->p_flags &= (uint8_t)~PKT_CSUM_PARTIAL;
	return 0;
}

bool
offload_push(struct offload_cut *cut, struct pkt *p)
{
	if (cut->sc_n == cut->sc_cap) {
		uint32_t cap = cut->sc_cap != 0 ? 2 * cut->sc_cap : PORT_BURST;
		struct pkt **v = realloc(cut->sc_v, cap * sizeof(struct pkt *));

		if (v == NULL) {
			return false;
		}
		cut->sc_v = v;
		cut->sc_cap = cap;
	}
	cut->sc_v[cut->sc_n++] = p;
	return true;
}

/* What one offload_cut() call works on. */
struct cutter {
	const struct pkt *k_from;
	const struct pkt *k_buf; /* where the next payload byte lies */
	uint32_t k_off;		 /* in k_buf */
	struct pkt_pool *k_pool;
	uint32_t k_headroom;
	bool k_sg, k_partial;
	struct offload_hdr k_hdr;
	uint32_t k_paylen; /* whole payload */
	uint64_t k_pseudo; /* pseudo-header sum, length left out */
};

static void
cutter_skip(struct cutter *k, uint32_t n)
{
	while (n >= k->k_buf->p_len - k->k_off) {
		n -= k->k_buf->p_len - k->k_off;
		k->k_off = 0;
		k->k_buf = k->k_buf->p_next;
		if (k->k_buf == NULL) {
			return;
		}
	}
	k->k_off += n;
}

/* The next n bytes of payload behind head: referred to, or copied. */
static int
cutter_payload(struct cutter *k, struct pkt *head, uint32_t n)
{
	struct pkt *last = head;

	head->p_pktlen = head->p_len + n;
	while (n > 0) {
		uint32_t part = MIN_OF(n, k->k_buf->p_len - k->k_off);
		uint8_t *at = k->k_buf->p_data + k->k_off;

		if (!k->k_sg) {
			memcpy(head->p_data + head->p_len, at, part);
			head->p_len += part;
		} else if (part > 0) {
			pkt_ext_hold(k->k_buf->p_ext);
			last->p_next =
			    pkt_wrap(k->k_pool, at, part, k->k_buf->p_ext);
			if (last->p_next == NULL) {
				pkt_ext_drop(k->k_buf->p_ext);
				return -ENOBUFS;
			}
			last = last->p_next;
		}
		cutter_skip(k, part);
		n -= part;
	}
	return 0;
}

/* Lengths and, for IPv4, identification and header checksum. */
static void
cutter_ip(const struct cutter *k, uint8_t *b, uint32_t i, uint32_t len)
{
	const struct offload_hdr *oh = &k->k_hdr;
	uint8_t *ip = b + oh->oh_l3;
	uint16_t sum;

	if (oh->oh_version == 6) {
		put16(ip + 4, len - oh->oh_l3 - 40);
		return;
	}
	put16(ip + 2, len - oh->oh_l3);
	put16(ip + 4, get16(ip + 4) + i);
	put16(ip + 10, 0);
	sum = (uint16_t)~csum_fold(csum_add(ip, oh->oh_l4 - oh->oh_l3, 0));
	memcpy(ip + 10, &sum, 2);
}

/* The transport header of segment i, which starts at payload byte off; its
 * checksum field gets the pseudo-header sum. */
static void
cutter_l4(const struct cutter *k, uint8_t *b, uint32_t off, uint32_t len)
{
	const struct offload_hdr *oh = &k->k_hdr;
	uint32_t l4len = len - oh->oh_l4, paylen = len - oh->oh_end;
	uint8_t *th = b + oh->oh_l4;
	uint16_t sum;

	sum = csum_fold(add_carry(k->k_pseudo, mem16((uint16_t)l4len)));
	if (oh->oh_proto == IPPROTO_UDP_) {
		put16(th + 4, l4len);
		memcpy(th + 6, &sum, 2);
		return;
	}
	put32(th + 4, get32(th + 4) + off);
	if (off + paylen < k->k_paylen) {
		th[13] &= (uint8_t)~(TH_FIN | TH_PSH);
	}
	if (off > 0) {
		th[13] &= (uint8_t)~TH_CWR;
	}
	memcpy(th + 16, &sum, 2);
}

static struct pkt *
cutter_segment(struct cutter *k, uint32_t i, uint32_t n)
{
	const struct offload_hdr *oh = &k->k_hdr;
	const struct pkt *from = k->k_from;
	uint32_t len = oh->oh_end + n;
	struct pkt *p = pkt_alloc(k->k_pool,
	    k->k_headroom + (k->k_sg ? oh->oh_end : len), k->k_headroom);

	if (p == NULL) {
		return NULL;
	}
	pkt_copymeta(p, from);
	memcpy(p->p_data, oh->oh_bytes, oh->oh_end);
	p->p_len = oh->oh_end;
	p->p_gso_type = PKT_GSO_NONE;
	p->p_gso_size = 0;
	p->p_hdrlen = oh->oh_end;
	p->p_csum_start = oh->oh_l4;
	p->p_csum_offset = oh->oh_proto == IPPROTO_TCP_ ? 16 : 6;
	p->p_flags |= PKT_CSUM_PARTIAL;
	if (cutter_payload(k, p, n) != 0) {
		pkt_free(p);
		return NULL;
	}
	cutter_ip(k, p->p_data, i, len);
	cutter_l4(k, p->p_data, i * from->p_gso_size, len);
	if (!k->k_partial) {
		(void)offload_csum(p); /* our own header: cannot fail */
	}
	return p;
}

/* Headers read and found to fit the kind of packet that p says it is. */
static int
cutter_init(struct cutter *k, uint32_t l2len)
{
	const struct pkt *p = k->k_from;
	struct offload_hdr *oh = &k->k_hdr;
	uint32_t l4len;
	int error;

	error = offload_parse(p, l2len, oh);
	if (error != 0 || p->p_gso_size == 0) {
		return -EINVAL;
	}
	if (p->p_gso_type == PKT_GSO_UDP_L4 ? oh->oh_proto != IPPROTO_UDP_ :
					      oh->oh_proto != IPPROTO_TCP_ ||
		    (p->p_gso_type == PKT_GSO_TCPV4) != (oh->oh_version == 4)) {
		return -EINVAL;
	}
	k->k_paylen = p->p_pktlen - oh->oh_end;
	l4len = p->p_pktlen - oh->oh_l4;
	if (k->k_paylen == 0 || l4len > PORT_IPMAX ||
	    (k->k_paylen - 1) / p->p_gso_size >= OFFLOAD_SEGMAX) {
		return -EINVAL;
	}
	if (p->p_flags & PKT_CSUM_PARTIAL) {
		uint16_t field;

		/* Take the length out of what the sender summed: he knows
		 * the final destination also behind a routing header. */
		if (p->p_csum_start != oh->oh_l4) {
			return -EINVAL;
		}
		memcpy(&field,
		    oh->oh_bytes + oh->oh_l4 +
			(oh->oh_proto == IPPROTO_TCP_ ? 16 : 6),
		    2);
		k->k_pseudo =
		    (uint64_t)field + (uint16_t)~mem16((uint16_t)l4len);
	} else {
		k->k_pseudo = csum_pseudo(oh->oh_bytes + oh->oh_l3,
		    oh->oh_version, oh->oh_proto, 0);
	}
	k->k_buf = p;
	k->k_off = 0;
	cutter_skip(k, oh->oh_end);
	return 0;
}

int
offload_cut(const struct pkt *p, struct pkt_pool *pool, uint32_t l2len,
    uint32_t headroom, bool sg, bool partial, struct offload_cut *cut)
{
	struct cutter k = { .k_from = p,
		.k_pool = pool,
		.k_headroom = headroom,
		.k_sg = sg,
		.k_partial = partial };
	uint32_t had = cut->sc_n, off = 0;
	int error = cutter_init(&k, l2len);

	if (error != 0) {
		return error;
	}
	for (uint32_t i = 0; off < k.k_paylen; i++) {
		uint32_t n = MIN_OF(k.k_paylen - off, p->p_gso_size);
		struct pkt *seg = cutter_segment(&k, i, n);

		if (seg == NULL || !offload_push(cut, seg)) {
			pkt_free(seg);
			goto nobufs;
		}
		off += n;
	}
	return 0;

nobufs:
	while (cut->sc_n > had) {
		pkt_free(cut->sc_v[--cut->sc_n]);
	}
	return -ENOBUFS;
}
