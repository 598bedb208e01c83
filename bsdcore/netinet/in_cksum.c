/*
 * in_cksum.c - the Internet checksum (RFC 1071) and its users' helpers.
 *
 * Sums are of 16-bit words as they lie in memory, so a folded sum may be
 * stored into a header as it is, whatever the byte order of the machine.
 */
#include "bsdcore/netinet/in_pcb.h"
#include "bsdcore/netinet/ip.h"
#include "bsdcore/netinet/ip_var.h"
#include "bsdcore/netinet/udp.h"
#include "bsdcore/sys/mbuf.h"

static uint64_t
load64(const uint8_t *p)
{
	uint64_t w;

	memcpy(&w, p, sizeof(w));
	return w;
}

uint16_t
in_cksum_fold(uint64_t sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

/* Words of 32 bits are added into 64, so no carry is lost before 16 GiB. */
uint64_t
in_cksum_add(uint64_t sum, const void *buf, size_t len, bool odd)
{
	const uint8_t *p = buf;
	uint64_t lo = 0, hi = 0, w0, w1, w2, w3;

	for (; len >= 32; len -= 32, p += 32) {
		w0 = load64(p);
		w1 = load64(p + 8);
		w2 = load64(p + 16);
		w3 = load64(p + 24);
		lo += (w0 & 0xffffffff) + (w1 & 0xffffffff) +
		    (w2 & 0xffffffff) + (w3 & 0xffffffff);
		hi += (w0 >> 32) + (w1 >> 32) + (w2 >> 32) + (w3 >> 32);
	}
	for (; len >= 8; len -= 8, p += 8) {
		w0 = load64(p);
		lo += w0 & 0xffffffff;
		hi += w0 >> 32;
	}
	if (len > 0) {
		w0 = 0;
		memcpy(&w0, p, len);
		lo += w0 & 0xffffffff;
		hi += w0 >> 32;
	}
	if (odd) { /* each byte is in the other half of its word */
		uint16_t f = in_cksum_fold(lo + hi);

		return sum + (uint16_t)(f << 8 | f >> 8);
	}
	return sum + lo + hi;
}

uint16_t
in_pseudo(const union inaddr *src, const union inaddr *dst, uint8_t proto,
    uint32_t len)
{
	uint64_t sum = (uint64_t)htonl(len) + htonl(proto);

	if (in_is4(dst)) {
		sum += (uint64_t)src->ia_w[3] + dst->ia_w[3];
	} else {
		for (int i = 0; i < 4; i++) {
			sum += (uint64_t)src->ia_w[i] + dst->ia_w[i];
		}
	}
	return in_cksum_fold(sum);
}

bool
in_cksum_ok(const struct mbuf *m, int off, uint32_t len, uint8_t proto)
{
	union inaddr src, dst;
	uint64_t sum;

	if (m->m_pkthdr.csum_flags & CSUM_DATA_VALID) {
		return true;
	}
	in_pktaddrs(m, &src, &dst);
	sum = in_pseudo(&src, &dst, proto, len);
	sum += m_sum16(m, (uint32_t)off, len);
	return in_cksum_fold(sum) == 0xffff;
}

void
in_delayed_cksum(struct mbuf *m)
{
	uint32_t start = m->m_pkthdr.csum_start;
	uint16_t sum;

	if (!(m->m_pkthdr.csum_flags & CSUM_PARTIAL)) {
		return;
	}
	KASSERT(start + m->m_pkthdr.csum_stuff + 2u <= m->m_pkthdr.len);
	sum = (uint16_t)~m_sum16(m, start, m->m_pkthdr.len - start);
	/* To UDP zero means "no checksum". To the others both zeros are one, but
	 * their sum is never written as 0xffff (RFC 1624), and tools say so. */
	if (sum == 0 &&
	    m->m_pkthdr.csum_stuff == offsetof(struct udphdr, uh_sum)) {
		sum = 0xffff;
	}
	m_copyback(m, start + m->m_pkthdr.csum_stuff, sizeof(sum), &sum);
	m->m_pkthdr.csum_flags &= (uint8_t)~(CSUM_PARTIAL | CSUM_TSO);
}
