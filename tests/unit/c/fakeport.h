/*
 * fakeport.h - a port that receives what a test says and keeps what is sent.
 *
 * Unlike a pair in memory it takes as few packets as it is told to, fails on
 * request, and says what it was called with.
 */
#ifndef TESTS_UNIT_C_FAKEPORT_H
#define TESTS_UNIT_C_FAKEPORT_H

#include "nic/api.h"
#include "nic/offload.h"
#include "tests/unit/c/check.h"

#define FAKE_MAX 4096

struct fake {
	struct port fk_port;
	struct pkt *fk_in[FAKE_MAX]; /* to be received */
	int fk_nin, fk_inhead;
	struct pkt *fk_out[FAKE_MAX]; /* sent, oldest first */
	uint64_t fk_when[FAKE_MAX];   /* and when */
	int fk_nout;
	int fk_room;  /* packets it takes until told otherwise */
	int fk_error; /* answered instead */
	int fk_ctl;   /* last command */
	bool *fk_closed;
};

static struct fake *
fake_of(struct port *pt)
{
	return CONTAINER_OF(pt, struct fake, fk_port);
}

static int
fake_rx(struct port *pt, struct pkt **v, int n, uint64_t now)
{
	struct fake *fk = fake_of(pt);
	int k = 0;

	if (fk->fk_error != 0) {
		return fk->fk_error;
	}
	while (k < n && fk->fk_inhead < fk->fk_nin) {
		v[k] = fk->fk_in[fk->fk_inhead++];
		v[k++]->p_time = now;
	}
	return k;
}

static int
fake_tx(struct port *pt, struct pkt **v, int n, uint64_t now)
{
	struct fake *fk = fake_of(pt);
	int k = 0;

	if (fk->fk_error != 0) {
		return fk->fk_error;
	}
	while (k < n && fk->fk_room > 0) {
		CHECK(fk->fk_nout < FAKE_MAX);
		fk->fk_when[fk->fk_nout] = now;
		fk->fk_out[fk->fk_nout++] = v[k++];
		fk->fk_room--;
	}
	return k;
}

static int
fake_fd(struct port *pt)
{
	(void)pt;
	return 7;
}

static int
fake_ctl(struct port *pt, int cmd, void *arg)
{
	(void)arg;
	fake_of(pt)->fk_ctl = cmd;
	return 0;
}

static void
fake_close(struct port *pt)
{
	struct fake *fk = fake_of(pt);

	while (fk->fk_nout > 0) {
		pkt_free(fk->fk_out[--fk->fk_nout]);
	}
	while (fk->fk_inhead < fk->fk_nin) {
		pkt_free(fk->fk_in[fk->fk_inhead++]);
	}
	*fk->fk_closed = true;
	port_fini(pt);
	free(fk);
}

static const struct port_ops fake_ops = {
	.po_name = "fake",
	.po_rx = fake_rx,
	.po_tx = fake_tx,
	.po_fd = fake_fd,
	.po_ctl = fake_ctl,
	.po_close = fake_close,
};

static struct fake *
fake_open(struct pkt_pool *pool, enum port_link link, uint32_t caps,
    bool *closed)
{
	struct fake *fk = calloc(1, sizeof(*fk));

	CHECK(fk != NULL);
	port_setup(&fk->fk_port, &fake_ops, pool, "fake0");
	fk->fk_port.pt_link = link;
	fk->fk_port.pt_caps = caps;
	fk->fk_port.pt_mtu = 1500;
	fk->fk_port.pt_headroom = 32;
	fk->fk_port.pt_mac[0] = 2;
	fk->fk_port.pt_mac[5] = 1;
	fk->fk_room = FAKE_MAX;
	fk->fk_closed = closed;
	*closed = false;
	return fk;
}

/* A frame of len bytes, each of them fill; its first four are a number. */
static inline struct pkt *
fake_frame(struct pkt_pool *pool, uint32_t number, uint32_t len)
{
	struct pkt *p = pkt_alloc(pool, len + 32, 32);

	CHECK(p != NULL);
	memset(p->p_data, 0x5a, len);
	memcpy(p->p_data, &number, sizeof(number));
	p->p_len = p->p_pktlen = len;
	return p;
}

static inline uint32_t
fake_number(const struct pkt *p)
{
	uint32_t number;

	CHECK(pkt_copyout(p, 0, sizeof(number), &number));
	return number;
}

static inline void
fake_receives(struct fake *fk, struct pkt *p)
{
	CHECK(fk->fk_nin < FAKE_MAX);
	fk->fk_in[fk->fk_nin++] = p;
}

static inline void
put16(uint8_t *b, uint32_t v)
{
	b[0] = (uint8_t)(v >> 8);
	b[1] = (uint8_t)v;
}

static inline uint32_t
get16(const uint8_t *b)
{
	return (uint32_t)b[0] << 8 | b[1];
}

/*
 * An Ethernet frame with a TCP (proto 6) or UDP (17) packet of version 4 or 6
 * and len bytes of payload, checksum left to the port, in two buffers when
 * split. gso: payload per segment, 0 for a plain packet. Lengths are those of
 * the first segment, as some senders leave them.
 */
static inline struct pkt *
fake_packet(struct pkt_pool *pool, int version, int proto, uint32_t len,
    uint16_t gso, bool split)
{
	uint32_t l4 = 14 + (version == 4 ? 20 : 40), th = proto == 6 ? 20 : 8;
	uint32_t hdr = l4 + th, at = l4 + (proto == 6 ? 16 : 6), i;
	uint32_t first = gso != 0 ? gso : len;
	struct pkt *p = pkt_alloc(pool, hdr + (split ? 0 : len) + 32, 32), *q;
	uint8_t *b = p->p_data, *ip = b + 14;
	uint16_t sum;

	memset(b, 0, hdr);
	b[0] = b[6] = 2;
	put16(b + 12, version == 4 ? 0x0800 : 0x86dd);
	if (version == 4) {
		ip[0] = 0x45;
		put16(ip + 2, 20 + th + first);
		ip[8] = 64;
		ip[9] = (uint8_t)proto;
		memcpy(ip + 12, "\12\0\0\1\12\0\0\2", 8);
		sum = (uint16_t)~csum_fold(csum_add(ip, 20, 0));
		memcpy(ip + 10, &sum, 2);
	} else {
		ip[0] = 0x60;
		put16(ip + 4, th + first);
		ip[6] = (uint8_t)proto;
		ip[7] = 64;
		ip[8] = ip[24] = 0xfd;
		ip[23] = 1;
		ip[39] = 2;
	}
	put16(b + l4, 1234);
	put16(b + l4 + 2, 80);
	if (proto == 6) {
		b[l4 + 12] = 0x50;
		b[l4 + 13] = 0x18;
	} else {
		put16(b + l4 + 4, th + first);
	}
	sum = csum_fold(csum_pseudo(ip, version, (uint8_t)proto, th + len));
	memcpy(b + at, &sum, 2);
	p->p_len = hdr;
	q = p;
	if (split) {
		q = p->p_next = pkt_alloc(pool, len, 0);
	}
	for (i = 0; i < len; i++) {
		q->p_data[q->p_len++] = (uint8_t)(i * 7);
	}
	p->p_pktlen = hdr + len;
	p->p_csum_start = (uint16_t)l4;
	p->p_csum_offset = (uint16_t)(at - l4);
	p->p_flags = PKT_CSUM_PARTIAL;
	p->p_hdrlen = (uint16_t)hdr;
	if (gso != 0) {
		p->p_gso_size = gso;
		p->p_gso_type = proto == 17 ? PKT_GSO_UDP_L4 :
		    version == 4	    ? PKT_GSO_TCPV4 :
					      PKT_GSO_TCPV6;
	}
	return p;
}

/* The transport checksum of a whole frame in memory is right. */
static inline bool
fake_csum_ok(const uint8_t *b, uint32_t len)
{
	int version = b[14] >> 4;
	uint32_t l4 = 14 + (version == 4 ? 20 : 40);
	uint8_t proto = version == 4 ? b[14 + 9] : b[14 + 6];
	uint64_t sum = csum_pseudo(b + 14, version, proto, len - l4);

	return csum_fold(csum_add(b + l4, len - l4, csum_fold(sum))) == 0xffff;
}

static inline uint64_t
pool_active(struct pkt_pool *pool)
{
	struct nic_pool_stats stats;

	nic_pool_stats(pool, &stats);
	return stats.active;
}

#endif
