/*
 * frame_describe.c - one line of text for a frame, in the manner of tcpdump -n.
 *
 * Whatever the bytes are, the answer is a line: what does not parse is named
 * ("truncated-ip") and the line ends there. Nothing beyond `len` is read.
 */
#include <stdarg.h>

#include "bsdcore/api.h"
#include "bsdcore/net/ethernet.h"
#include "bsdcore/netinet/tcp.h"
#include "nic/port.h"

struct line {
	char *l_buf;
	size_t l_len, l_room;
};

static void __attribute__((format(printf, 2, 3)))
put(struct line *l, const char *fmt, ...)
{
	va_list ap;
	int n;

	if (l->l_len >= l->l_room) {
		return;
	}
	va_start(ap, fmt);
	n = vsnprintf(l->l_buf + l->l_len, l->l_room - l->l_len, fmt, ap);
	va_end(ap);
	if (n > 0) {
		l->l_len += (size_t)n;
		if (l->l_len >= l->l_room) {
			l->l_len = l->l_room - 1;
		}
	}
}

/* An IP packet between two addresses, cut to what the header says. */
struct packet {
	int p_family;
	const uint8_t *p_src, *p_dst, *p_data;
	size_t p_len;  /* of p_data */
	size_t p_full; /* as the header has it */
	uint8_t p_proto;
};

static void
put_addr(struct line *l, int family, const uint8_t *a)
{
	char text[INET6_ADDRSTRLEN];

	put(l, "%s", inet_ntop(family, a, text, sizeof(text)));
}

static void
put_ends(struct line *l, const struct packet *p, bool ports)
{
	put_addr(l, p->p_family, p->p_src);
	if (ports) {
		put(l, ".%u", be16get(p->p_data));
	}
	put(l, " > ");
	put_addr(l, p->p_family, p->p_dst);
	if (ports) {
		put(l, ".%u", be16get(p->p_data + 2));
	}
	put(l, ": ");
}

static void
tcp_optional(struct line *l, const uint8_t *o, size_t len)
{
	const char *sep = "";

	put(l, ", options [");
	for (size_t i = 0; i < len && o[i] != TCPOPT_KIND_EOL;) {
		size_t n = o[i] == TCPOPT_KIND_NOP ? 1 :
		    i + 1 < len			   ? o[i + 1] :
						     0;

		if (n == 0 || n > len - i || (o[i] != TCPOPT_KIND_NOP && n < 2)) {
			put(l, "%sbad", sep);
			break;
		}
		if (o[i] == TCPOPT_KIND_NOP) {
			put(l, "%snop", sep);
		} else if (o[i] == TCPOPT_KIND_MSS && n == TCPOLEN_MSS) {
			put(l, "%smss %u", sep, be16get(o + i + 2));
		} else if (o[i] == TCPOPT_KIND_WSCALE && n == TCPOLEN_WSCALE) {
			put(l, "%swscale %u", sep, o[i + 2]);
		} else if (o[i] == TCPOPT_KIND_SACKOK) {
			put(l, "%ssackOK", sep);
		} else if (o[i] == TCPOPT_KIND_TS && n == TCPOLEN_TS) {
			put(l, "%sTS val %u ecr %u", sep, be32get(o + i + 2),
			    be32get(o + i + 6));
		} else if (o[i] == TCPOPT_KIND_SACK) {
			put(l, "%ssack %zu", sep, (n - 2) / TCPOLEN_SACKBLK);
			for (size_t b = 2; b + TCPOLEN_SACKBLK <= n;
			    b += TCPOLEN_SACKBLK) {
				put(l, " {%u:%u}", be32get(o + i + b),
				    be32get(o + i + b + 4));
			}
		} else {
			put(l, "%sunknown-%u", sep, o[i]);
		}
		sep = ",";
		i += n;
	}
	put(l, "]");
}

static void
put_tcp(struct line *l, const struct packet *p)
{
	static const char letters[] = "FSRP.UEW";
	const uint8_t *h = p->p_data;
	size_t hlen, data;
	uint32_t seq;
	uint8_t flags;
	bool any = false;

	if (p->p_len < TCP_HDRLEN) {
		put_ends(l, p, p->p_len >= 4);
		put(l, "truncated-tcp");
		return;
	}
	put_ends(l, p, true);
	hlen = (size_t)(h[TH_OFF_DOFF] >> 4) * 4;
	if (hlen < TCP_HDRLEN || hlen > p->p_full) {
		put(l, "tcp, bad header length %zu", hlen);
		return;
	}
	flags = h[TH_OFF_FLAGS];
	put(l, "Flags [");
	for (unsigned i = 0; i < 8; i++) {
		/* S and F first reads best; the ACK dot goes last */
		if (letters[i] != '.' && (flags & 1u << i)) {
			put(l, "%c", letters[i]);
			any = true;
		}
	}
	put(l, "%s]", flags & 0x10 ? "." : any ? "" : "none");
	seq = be32get(h + TH_OFF_SEQ);
	data = p->p_full - hlen;
	if (data > 0) {
		put(l, ", seq %u:%u", seq, seq + (uint32_t)data);
	} else if (flags & 0x07) {
		put(l, ", seq %u", seq);
	}
	if (flags & 0x10) {
		put(l, ", ack %u", be32get(h + TH_OFF_ACK));
	}
	put(l, ", win %u", be16get(h + TH_OFF_WIN));
	if (flags & 0x20) {
		put(l, ", urg %u", be16get(h + TH_OFF_URP));
	}
	if (hlen > TCP_HDRLEN && hlen <= p->p_len) {
		tcp_optional(l, h + TCP_HDRLEN, hlen - TCP_HDRLEN);
	}
	put(l, ", length %zu", data);
}

/* A DNS name without compression: enough for questions. */
static void
put_dnsname(struct line *l, const uint8_t *d, size_t len)
{
	size_t i = 0;

	while (i < len && d[i] != 0 && d[i] <= 63 && i + 1 + d[i] <= len) {
		for (size_t k = 1; k <= d[i]; k++) {
			uint8_t c = d[i + k];

			put(l, "%c", c > 32 && c < 127 ? c : '?');
		}
		put(l, ".");
		i += 1u + d[i];
	}
	if (i + 5 <= len && d[i] == 0) {
		put(l, " type %u", be16get(d + i + 1));
	}
}

static void
put_dns(struct line *l, const uint8_t *d, size_t len)
{
	uint16_t flags = be16get(d + 2);

	put(l, "DNS %u", be16get(d));
	if (flags & 0x8000) {
		put(l, " answer rcode %u, %u records", flags & 0xf,
		    be16get(d + 6));
	} else {
		put(l, " query");
	}
	if (be16get(d + 4) == 1) {
		put(l, " ");
		put_dnsname(l, d + 12, len - 12);
	}
}

static void
put_udp(struct line *l, const struct packet *p)
{
	const uint8_t *h = p->p_data;

	if (p->p_len < 8) {
		put_ends(l, p, p->p_len >= 4);
		put(l, "truncated-udp");
		return;
	}
	put_ends(l, p, true);
	if ((be16get(h) == 53 || be16get(h + 2) == 53) && p->p_len >= 20) {
		put_dns(l, h + 8, p->p_len - 8);
		put(l, ", length %zu", p->p_full - 8);
		return;
	}
	put(l, "UDP, length %zu", p->p_full - 8);
}

static void
put_icmp(struct line *l, const struct packet *p)
{
	static const char *const unreach[] = { "net", "host", "protocol",
		"port", "needs fragmentation" };
	const uint8_t *h = p->p_data;
	bool v6 = p->p_family == AF_INET6;

	put_ends(l, p, false);
	put(l, "%s", v6 ? "ICMP6" : "ICMP");
	if (p->p_len < 8) {
		put(l, ", truncated");
		return;
	}
	if (h[0] == (v6 ? 128 : 8) || h[0] == (v6 ? 129 : 0)) {
		put(l, " echo %s, id %u, seq %u",
		    h[0] == (v6 ? 128 : 8) ? "request" : "reply",
		    be16get(h + 4), be16get(h + 6));
	} else if (!v6 && h[0] == 3) {
		put(l, " unreachable");
		if (h[1] < nitems(unreach)) {
			put(l, ", %s", unreach[h[1]]);
		} else {
			put(l, ", code %u", h[1]);
		}
		if (h[1] == 4) {
			put(l, " (mtu %u)", be16get(h + 6));
		}
	} else if (!v6 && h[0] == 11) {
		put(l, " time exceeded");
	} else {
		put(l, " type %u, code %u", h[0], h[1]);
	}
	put(l, ", length %zu", p->p_full);
}

static void
put_transport(struct line *l, const struct packet *p)
{
	switch (p->p_proto) {
	case IPPROTO_TCP:
		put_tcp(l, p);
		break;
	case IPPROTO_UDP:
		put_udp(l, p);
		break;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		put_icmp(l, p);
		break;
	default:
		put_ends(l, p, false);
		put(l, "ip-proto-%u, length %zu", p->p_proto, p->p_full);
	}
}

static void
put_ip4(struct line *l, const uint8_t *d, size_t len)
{
	struct packet p = { .p_family = AF_INET };
	size_t hlen, total;
	unsigned off;

	put(l, "IP ");
	if (len < 20 || (d[0] >> 4) != 4) {
		put(l, "truncated-ip");
		return;
	}
	hlen = (size_t)(d[0] & 15) * 4;
	total = be16get(d + 2);
	if (total == 0) {
		total = len; /* a super-segment beyond 64 KiB */
	}
	if (hlen < 20 || hlen > len || total < hlen) {
		put(l, "bad-hlen %zu", hlen);
		return;
	}
	p.p_src = d + 12;
	p.p_dst = d + 16;
	p.p_data = d + hlen;
	p.p_full = total - hlen;
	p.p_len = (len < total ? len : total) - hlen;
	p.p_proto = d[9];
	off = (be16get(d + 6) & 0x1fffu) * 8;
	if (off != 0) {
		put_ends(l, &p, false);
		put(l, "ip-proto-%u, fragment at %u, length %zu", p.p_proto,
		    off, p.p_full);
		return;
	}
	put_transport(l, &p);
	if (be16get(d + 6) & 0x2000) {
		put(l, " (first fragment)");
	}
}

static void
put_ip6(struct line *l, const uint8_t *d, size_t len)
{
	struct packet p = { .p_family = AF_INET6 };
	size_t total;

	put(l, "IP6 ");
	if (len < 40) {
		put(l, "truncated-ip6");
		return;
	}
	total = be16get(d + 4);
	if (total == 0) {
		total = len - 40;
	}
	p.p_src = d + 8;
	p.p_dst = d + 24;
	p.p_data = d + 40;
	p.p_full = total;
	p.p_len = len - 40 < total ? len - 40 : total;
	p.p_proto = d[6];
	put_transport(l, &p);
}

static void
put_mac(struct line *l, const uint8_t *a)
{
	put(l, "%02x:%02x:%02x:%02x:%02x:%02x", a[0], a[1], a[2], a[3], a[4],
	    a[5]);
}

static void
put_arp(struct line *l, const uint8_t *d, size_t len)
{
	const struct ether_arp *a = (const struct ether_arp *)d;

	put(l, "ARP, ");
	if (len < sizeof(*a)) {
		put(l, "truncated");
		return;
	}
	if (be16get(a->ar_op) == ARPOP_REQUEST_) {
		put(l, "Request who-has ");
		put_addr(l, AF_INET, a->arp_tpa);
		put(l, " tell ");
		put_addr(l, AF_INET, a->arp_spa);
	} else {
		put(l, "%s ",
		    be16get(a->ar_op) == ARPOP_REPLY_ ? "Reply" : "op");
		put_addr(l, AF_INET, a->arp_spa);
		put(l, " is-at ");
		put_mac(l, a->arp_sha);
	}
	put(l, ", length %zu", len);
}

static void
put_ether(struct line *l, const uint8_t *d, size_t len)
{
	const struct ether_header *eh = (const struct ether_header *)d;
	uint16_t type;

	if (len < sizeof(*eh)) {
		put(l, "truncated-ether");
		return;
	}
	type = be16get(eh->ether_type);
	d += sizeof(*eh);
	len -= sizeof(*eh);
	switch (type) {
	case ETHERTYPE_IP:
		put_ip4(l, d, len);
		break;
	case ETHERTYPE_IPV6:
		put_ip6(l, d, len);
		break;
	case ETHERTYPE_ARP:
		put_arp(l, d, len);
		break;
	default:
		put_mac(l, eh->ether_shost);
		put(l, " > ");
		put_mac(l, eh->ether_dhost);
		put(l, ", ethertype 0x%04x, length %zu", type, len);
	}
}

/* link: enum port_link. Answers the length of the text, or -EINVAL. */
int
bsd_describe(const void *frame, size_t len, int link, char *buf, size_t buflen)
{
	struct line l = { buf, 0, buflen };
	const uint8_t *d = frame;

	if (buflen == 0 || (frame == NULL && len > 0)) {
		return -EINVAL;
	}
	buf[0] = '\0';
	if (link == PORT_ETHER) {
		put_ether(&l, d, len);
	} else if (len > 0 && (d[0] >> 4) == 6) {
		put_ip6(&l, d, len);
	} else {
		put_ip4(&l, d, len);
	}
	return (int)l.l_len;
}
