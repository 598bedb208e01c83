/*
 * IPv4 and IPv6 packets that get past the first checks: lengths, the header
 * checksum and the destination are put right, all else is as the input says.
 * Options, extension headers, fragments, ICMP with its quotes, UDP and raw
 * delivery, and forwarding see hostile bytes; at the end nothing may be left.
 *
 * Input: records of [flags][length][packet]. flags: 1 IPv6, 2 the transport
 * checksum is taken for granted, 4 the destination is left alone, 8 a second
 * passes, 16 in two buffers, 32 forwarding on, 64 off, 128 an echo of what was
 * last sent comes back in an ICMP error.
 */
#include "tests/unit/c/inetstack.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct feed {
	struct stack *s;
	struct testif *ti;
	struct socket *so[6];
	uint8_t pkt[512];
};

static void
feed_sockets(struct feed *f)
{
	union inaddr v6 = ls_ip("fd00::1");
	struct socket **so = f->so;

	CHECK_EQ(if_addaddr(&f->ti->ti_if, &v6, 64), 0);
	so[0] = is_socket(f->s, AF_INET6, SOCK_DGRAM, 0);
	so[1] = is_socket(f->s, AF_INET, SOCK_RAW, IPPROTO_ICMP);
	so[2] = is_socket(f->s, AF_INET6, SOCK_RAW, IPPROTO_ICMPV6);
	so[3] = is_socket(f->s, AF_INET, SOCK_DGRAM, IPPROTO_ICMP);
	so[4] = is_socket(f->s, AF_INET, SOCK_DGRAM, 0);
	so[5] = is_socket(f->s, AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6);
	CHECK_EQ(is_bind(so[0], "::", 0x3030), 0);
	CHECK_EQ(is_bind(so[3], "0.0.0.0", 0x3030), 0);
	CHECK_EQ(is_bind(so[5], "::", 0x3130), 0);
	CHECK_EQ(is_connect(so[4], "10.0.0.2", 0x3030), 0);
	for (int opt = IPV6_RECVPKTINFO; opt <= IPV6_RECVTCLASS; opt++) {
		(void)is_setint(so[0], IPPROTO_IPV6, opt, 1);
		(void)is_setint(so[2], IPPROTO_IPV6, opt, 1);
	}
	CHECK_EQ(is_setint(so[0], IPPROTO_IP, IP_RECVOPTS, 1), 0);
	CHECK_EQ(is_setint(so[0], IPPROTO_IP, IP_PKTINFO, 1), 0);
	CHECK_EQ(is_setint(so[0], IPPROTO_IP, IP_RECVORIGDSTADDR, 1), 0);
}

/* Right enough to be looked at further. */
static void
feed_fix(struct feed *f, uint8_t flags, uint32_t len)
{
	union inaddr v6 = ls_ip("fd00::1");
	uint8_t *b = f->pkt;

	if (flags & 1) {
		b[0] = (uint8_t)(0x60 | (b[0] & 15));
		be16put(b + 4, (uint16_t)(len - 40));
		if (!(flags & 4)) {
			memcpy(b + 24, &v6, 16);
		}
		return;
	}
	b[0] = (uint8_t)(0x40 | (b[0] & 15));
	be16put(b + 2, (uint16_t)len);
	if (!(flags & 4)) {
		be32put(b + 16, 0x0a000001);
	}
	if (b[0] >= 0x45 && (uint32_t)(b[0] & 15) * 4 <= len) {
		is_ipsum(b);
	}
}

/* The last packet sent, quoted in an error of the type in b[20]. */
static uint32_t
feed_quote(struct feed *f, uint32_t len)
{
	const struct outpkt *op;
	uint32_t n;

	if (f->ti->ti_nout == 0 || len < 28) {
		return len;
	}
	op = f->ti->ti_out[f->ti->ti_nout - 1];
	n = u32min(op->op_len, (uint32_t)sizeof(f->pkt) - 28);
	memcpy(f->pkt + 28, op->op_data, n);
	f->pkt[0] = 0x45;
	f->pkt[9] = IPPROTO_ICMP;
	be16put(f->pkt + 6, 0);
	return 28 + n;
}

static void
feed_one(struct feed *f, uint8_t flags, uint32_t len)
{
	struct mbuf *m;

	if (flags & 128) {
		flags |= 2;
		flags &= (uint8_t)~1;
		len = feed_quote(f, len);
	}
	if (len < (flags & 1 ? 40u : 20u)) {
		return;
	}
	feed_fix(f, flags, len);
	if (flags & (32 | 64)) {
		CHECK_EQ(sysctl_set(f->s, "net.inet.ip.forwarding",
			     (flags & 32) != 0),
		    0);
	}
	m = is_mbuf(f->s, &f->ti->ti_if, f->pkt, len, flags & 16 ? 33 : 0);
	m->m_pkthdr.csum_flags = flags & 2 ? CSUM_DATA_VALID : 0;
	if (flags & 1) {
		ip6_input(f->s, m);
	} else {
		ip_input(f->s, m);
	}
	if_flush(f->s);
	if (f->ti->ti_nout > IS_MAXOUT / 2) {
		testif_clear(f->ti);
	}
	if (flags & 8) {
		ls_until(f->s, f->s->s_now + NSEC_PER_SEC);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct feed f = { 0 };

	f.s = is_new(&f.ti);
	feed_sockets(&f);
	CHECK_EQ(is_send(f.so[4], "data", 4, NULL, 0, NULL), 0);
	while (size >= 2) {
		uint8_t flags = data[0];
		uint32_t len = data[1];

		data += 2;
		size -= 2;
		len = len < size ? len : (uint32_t)size;
		memcpy(f.pkt, data, len);
		data += len;
		size -= len;
		feed_one(&f, flags, len);
	}
	CHECK(f.s->s_ip->ips_reassbytes <= f.s->s_ip->ips_maxfragbytes);
	ls_until(f.s, f.s->s_now + 61 * NSEC_PER_SEC);
	CHECK_EQ(f.s->s_ip->ips_nreass, 0);
	for (size_t i = 0; i < nitems(f.so); i++) {
		soclose(f.so[i]);
	}
	is_free(f.s);
	return 0;
}
