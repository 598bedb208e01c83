/*
 * fsw_parse.c - the one reader of what clients and the wire send.
 *
 * Nothing is believed before its length was compared with what is there. What
 * cannot be read is HDR_BAD or HDR_OTHER, and then HOST's to judge.
 */
#include "skywalk/flowswitch/fsw_parse.h"

#define IP_MF 0x2000
#define IP_OFFMASK 0x1fff

uint64_t
fsw_sum(const void *data, size_t len, uint64_t sum)
{
	const uint8_t *b = data;
	uint64_t lane[4] = { 0, 0, 0, 0 };
	uint32_t w[8];

	/* Words of 32 bits in lanes of 64: no carry is lost before 2^32. */
	for (; len >= sizeof(w); len -= sizeof(w), b += sizeof(w)) {
		memcpy(w, b, sizeof(w));
		for (int i = 0; i < 4; i++) {
			lane[i] += (uint64_t)w[i] + w[i + 4];
		}
	}
	for (; len >= 4; len -= 4, b += 4) {
		memcpy(w, b, 4);
		lane[0] += w[0];
	}
	if (len > 0) {
		w[0] = 0;
		memcpy(w, b, len);
		lane[1] += w[0];
	}
	for (int i = 0; i < 4; i++) {
		sum += (lane[i] & 0xffffffff) + (lane[i] >> 32);
	}
	return (sum & 0xffffffff) + (sum >> 32);
}

uint16_t
fsw_fold(uint64_t sum)
{
	while (sum >> 16 != 0) {
		sum = (sum & 0xffff) + (sum >> 16);
	}
	return (uint16_t)sum;
}

uint64_t
fsw_sum_pkt(const struct pkt *p, uint32_t off, uint32_t len)
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
		n = p->p_len - off < len ? p->p_len - off : len;
		part = fsw_fold(fsw_sum(p->p_data + off, n, 0));
		/* What starts with the second byte of a word counts swapped. */
		sum += odd ? (part & 0xff) << 8 | part >> 8 : part;
		odd ^= (n & 1) != 0;
		len -= n;
		off = 0;
	}
	return sum;
}

uint64_t
fsw_sum_pseudo(const uint8_t *ip, int version, uint8_t proto, uint32_t len)
{
	uint8_t tail[8] = { 0 };
	uint64_t sum;

	sum = version == 4 ? fsw_sum(ip + 12, 8, 0) : fsw_sum(ip + 8, 32, 0);
	wr32(tail, len);
	tail[7] = proto;
	return fsw_sum(tail, sizeof(tail), sum);
}

bool
fsw_copyout(const struct pkt *p, uint32_t off, uint32_t len, void *dst)
{
	uint8_t *to = dst;

	for (; p != NULL && len > 0; p = p->p_next) {
		uint32_t n;

		if (off >= p->p_len) {
			off -= p->p_len;
			continue;
		}
		n = p->p_len - off < len ? p->p_len - off : len;
		memcpy(to, p->p_data + off, n);
		to += n;
		len -= n;
		off = 0;
	}
	return len == 0;
}

/* Addresses and header length of the IPv4 header at b, n bytes. 0: bad. */
static uint32_t
parse_ip4(struct hdr *h, const uint8_t *b, uint32_t n, uint8_t *proto)
{
	uint32_t ihl, frag;

	if (n < 20) {
		return 0;
	}
	ihl = (b[0] & 15) * 4u;
	h->h_len = rd16(b + 2);
	if (ihl < 20 || ihl > n || h->h_len < ihl) {
		return 0;
	}
	*proto = b[9];
	frag = rd16(b + 6);
	h->h_more = (frag & IP_MF) != 0;
	h->h_fragoff = (frag & IP_OFFMASK) * 8;
	h->h_isfrag = (frag & (IP_MF | IP_OFFMASK)) != 0;
	h->h_fragid = rd16(b + 4);
	h->h_fraglen = h->h_len - ihl;
	addr_map4(h->h_key.fk_faddr, b + 12);
	addr_map4(h->h_key.fk_laddr, b + 16);
	h->h_multicast = b[16] >= 224;
	return ihl;
}

/* The same for IPv6, past the extension headers. */
static uint32_t
parse_ip6(struct hdr *h, const uint8_t *b, uint32_t n, uint8_t *proto)
{
	uint32_t off = 40;
	uint8_t next;

	if (n < 40) {
		return 0;
	}
	h->h_len = 40u + rd16(b + 4);
	memcpy(h->h_key.fk_faddr, b + 8, 16);
	memcpy(h->h_key.fk_laddr, b + 24, 16);
	h->h_multicast = b[24] == 0xff;
	next = b[6];
	/* Hop-by-hop, routing, fragment, destination options (RFC 8200). */
	while (next == 0 || next == 43 || next == 44 || next == 60) {
		if (n < off + 8) {
			return 0;
		}
		if (next == 44) {
			if (h->h_isfrag) {
				return 0;
			}
			h->h_isfrag = true;
			h->h_fragoff = rd16(b + off + 2) & 0xfff8u;
			h->h_more = (b[off + 3] & 1) != 0;
			h->h_fragid = rd32(b + off + 4);
			next = b[off];
			off += 8;
			h->h_fraglen = h->h_len > off ? h->h_len - off : 0;
			if (h->h_fragoff != 0) {
				break; /* what follows is payload */
			}
			continue;
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

/* The packet that an ICMP error at b is about: it was ours, so its source is
 * the local side. */
static bool
parse_inner(struct hdr *h, const uint8_t *b, uint32_t n)
{
	struct hdr in;
	uint32_t l4;
	uint8_t proto = 0;
	int version = n > 0 ? b[0] >> 4 : 0;

	memset(&in, 0, offsetof(struct hdr, h_copy));
	l4 = version == 4 ? parse_ip4(&in, b, n, &proto) :
	    version == 6  ? parse_ip6(&in, b, n, &proto) :
			    0;
	if (l4 == 0 || l4 + 4 > n || (in.h_isfrag && in.h_fragoff != 0) ||
	    (proto != FLOW_IPPROTO_TCP && proto != FLOW_IPPROTO_UDP)) {
		return false;
	}
	memcpy(h->h_key.fk_laddr, in.h_key.fk_faddr, 16);
	memcpy(h->h_key.fk_faddr, in.h_key.fk_laddr, 16);
	h->h_key.fk_lport = rd16(b + l4);
	h->h_key.fk_fport = rd16(b + l4 + 2);
	h->h_key.fk_proto = proto;
	return true;
}

/* Errors of ICMP (RFC 792, 1122) and ICMPv6 (RFC 4443: types below 128). */
static bool
is_icmp_error(uint8_t proto, uint8_t type)
{
	if (proto == FLOW_IPPROTO_ICMPV6) {
		return type < 128;
	}
	return type == 3 || type == 4 || type == 11 || type == 12;
}

/* The transport header is not all there. Of a datagram in pieces that is HOST's
 * to judge when it has put them together. */
static enum hdr_kind
short_header(const struct hdr *h)
{
	return h->h_isfrag ? HDR_OTHER : HDR_BAD;
}

static enum hdr_kind
parse_tcp(struct hdr *h, const uint8_t *th, uint32_t n)
{
	uint32_t off;

	if (n < 20) {
		return short_header(h);
	}
	off = (th[12] >> 4) * 4u;
	if (off < 20 || off > n) {
		return short_header(h);
	}
	h->h_seq = rd32(th + 4);
	h->h_ack = rd32(th + 8);
	h->h_flags = th[13];
	h->h_win = rd16(th + 14);
	h->h_end = (uint16_t)(h->h_l4 + off);
	return HDR_FLOW;
}

/* b[0..n): the packet from its IP header; total: bytes of the whole. */
static enum hdr_kind
parse(struct hdr *h, const uint8_t *b, uint32_t n, uint32_t total)
{
	uint8_t proto = 0;
	uint32_t l4 = 0, left;

	h->h_version = n > 0 ? b[0] >> 4 : 0;
	if (h->h_version == 4) {
		l4 = parse_ip4(h, b, n, &proto);
	} else if (h->h_version == 6) {
		l4 = parse_ip6(h, b, n, &proto);
	}
	if (l4 == 0 || l4 > total) {
		return HDR_BAD;
	}
	h->h_key.fk_proto = proto;
	h->h_l4 = (uint16_t)(h->h_l3 + l4);
	h->h_end = h->h_l4;
	if (h->h_isfrag && h->h_fragoff != 0) {
		return HDR_FRAGMENT;
	}
	left = n - l4;
	switch (proto) {
	case FLOW_IPPROTO_TCP:
	case FLOW_IPPROTO_UDP:
		if (left < 8) {
			return short_header(h);
		}
		h->h_key.fk_fport = rd16(b + l4);
		h->h_key.fk_lport = rd16(b + l4 + 2);
		if (proto == FLOW_IPPROTO_TCP) {
			return parse_tcp(h, b + l4, left);
		}
		h->h_end = (uint16_t)(h->h_l4 + 8);
		return HDR_FLOW;
	case FLOW_IPPROTO_ICMP:
	case FLOW_IPPROTO_ICMPV6:
		if (left >= 8 && is_icmp_error(proto, b[l4]) && !h->h_isfrag &&
		    parse_inner(h, b + l4 + 8, left - 8)) {
			return HDR_ICMP_ERROR;
		}
		return HDR_OTHER;
	default:
		return HDR_OTHER;
	}
}

/* The local side is the one that sent. */
static void
turn_key(struct flow_key *k)
{
	uint8_t a[16];
	uint16_t port = k->fk_lport;

	memcpy(a, k->fk_laddr, 16);
	memcpy(k->fk_laddr, k->fk_faddr, 16);
	memcpy(k->fk_faddr, a, 16);
	k->fk_lport = k->fk_fport;
	k->fk_fport = port;
}

void
hdr_parse(const struct pkt *p, uint32_t l3, bool sent, struct hdr *h)
{
	uint32_t total, n;

	memset(h, 0, offsetof(struct hdr, h_copy));
	h->h_kind = HDR_BAD;
	h->h_l3 = (uint16_t)l3;
	if (p->p_pktlen <= l3) {
		return;
	}
	total = p->p_pktlen - l3;
	n = p->p_len > l3 ? p->p_len - l3 : 0;
	if (n > 0) {
		h->h_ip = p->p_data + l3;
		h->h_n = n;
		h->h_kind = parse(h, h->h_ip, n, total);
	}
	if (h->h_kind != HDR_FLOW && p->p_next != NULL && n < HDR_MAX) {
		/* The first buffer may have been too short. */
		n = total < HDR_MAX ? total : HDR_MAX;
		memset(h, 0, offsetof(struct hdr, h_copy));
		h->h_l3 = (uint16_t)l3;
		h->h_kind = HDR_BAD;
		if (!fsw_copyout(p, l3, n, h->h_copy)) {
			return;
		}
		h->h_ip = h->h_copy;
		h->h_n = n;
		h->h_kind = parse(h, h->h_ip, n, total);
	}
	/* The lengths of super-segments are those of a segment, or too long
	 * to be written down: whoever cuts them knows. */
	if (p->p_gso_type == PKT_GSO_NONE && h->h_len > total) {
		h->h_kind = HDR_BAD;
	}
	if (h->h_kind == HDR_FLOW) {
		uint32_t end =
		    p->p_gso_type == PKT_GSO_NONE ? l3 + h->h_len : p->p_pktlen;

		if (h->h_end > end) {
			h->h_kind = HDR_BAD;
			return;
		}
		h->h_paylen = end - h->h_end;
	}
	if (sent && h->h_kind != HDR_BAD && h->h_kind != HDR_ICMP_ERROR) {
		turn_key(&h->h_key);
	}
}
