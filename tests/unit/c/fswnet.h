/*
 * fswnet.h - a flowswitch over a fake DEV, and packets to send through it.
 *
 * We are 10.0.0.1 (fd00::1), others 10.0.0.x. Ethernet by default. Time is what
 * the test says.
 */
#ifndef TESTS_UNIT_C_FSWNET_H
#define TESTS_UNIT_C_FSWNET_H

#include <errno.h>
#include <poll.h>

#include "nic/flow.h"
#include "skywalk/api_fsw.h"
#include "tests/unit/c/fakeport.h"

#define SEC 1000000000ull
#define NCLIENTS 4
#define TCP 6
#define UDP 17
#define ACK 0x10
#define PSH 0x08
#define RST 0x04
#define SYN 0x02
#define FIN 0x01

struct net {
	struct pkt_pool *n_pool, *n_hostpool, *n_clientpool;
	struct netns *n_ns;
	struct fsw *n_fsw;
	struct fake *n_dev;
	struct port *n_host;
	struct netns_owner *n_hostowner, *n_owner[NCLIENTS];
	struct port *n_client[NCLIENTS];
	const struct netns_ops *n_ops;
	struct flow_resolver n_resolver;
	int n_answer; /* of the resolver */
	int n_asked, n_woken;
	bool n_devclosed;
	uint64_t n_now;
};

/* A packet in words: addresses are the last byte of 10.0.0.x or fd00::x. */
struct seg {
	int s_version; /* 0: 4 */
	int s_proto;
	uint8_t s_src, s_dst;
	uint16_t s_sport, s_dport;
	uint32_t s_seq, s_ack;
	uint8_t s_flags;
	uint32_t s_len;	   /* of the payload */
	uint32_t s_fill;   /* its bytes */
	uint32_t s_flowid; /* when sent by a client */
	/* IPv4 fragments: offset and length of the part sent, ident. */
	uint32_t s_off, s_part;
	uint16_t s_ident;
	bool s_more;
	bool s_badsum, s_split, s_framed, s_partial;
	uint8_t s_mac[6]; /* destination; all 0: ours */
};

static inline void
net_addr(uint8_t *a, int version, uint8_t last)
{
	memset(a, 0, 16);
	if (version == 6) {
		a[0] = 0xfd;
		a[15] = last;
	} else {
		a[10] = a[11] = 0xff;
		if (last != 0) {
			a[12] = 10;
			a[15] = last;
		}
	}
}

static inline struct flow_key
net_key(int version, int proto, uint8_t local, uint16_t lport, uint8_t foreign,
    uint16_t fport)
{
	struct flow_key k;

	memset(&k, 0, sizeof(k));
	net_addr(k.fk_laddr, version, local);
	net_addr(k.fk_faddr, version, foreign);
	k.fk_lport = lport;
	k.fk_fport = fport;
	k.fk_proto = (uint8_t)proto;
	return k;
}

static inline void
net_put32(uint8_t *b, uint32_t v)
{
	put16(b, v >> 16);
	put16(b + 2, v & 0xffff);
}

static inline uint32_t
net_get32(const uint8_t *b)
{
	return get16(b) << 16 | get16(b + 2);
}

/* The IP packet of s; its bytes at b, which has room. Answers its length. */
static inline uint32_t
net_bytes(const struct seg *s, uint8_t *b)
{
	int version = s->s_version == 6 ? 6 : 4;
	uint32_t l4 = version == 4 ? 20 : 40, th = s->s_proto == TCP ? 20 : 8;
	uint32_t body = th + s->s_len, at = l4 + (s->s_proto == TCP ? 16 : 6);
	uint8_t src[16], dst[16];
	uint16_t sum;

	memset(b, 0, l4 + th);
	net_addr(src, version, s->s_src);
	net_addr(dst, version, s->s_dst);
	if (version == 4) {
		b[0] = 0x45;
		put16(b + 2, l4 + body);
		put16(b + 4, s->s_ident);
		b[8] = 64;
		b[9] = (uint8_t)s->s_proto;
		memcpy(b + 12, src + 12, 4);
		memcpy(b + 16, dst + 12, 4);
	} else {
		b[0] = 0x60;
		put16(b + 4, body);
		b[6] = (uint8_t)s->s_proto;
		b[7] = 64;
		memcpy(b + 8, src, 16);
		memcpy(b + 24, dst, 16);
	}
	put16(b + l4, s->s_sport);
	put16(b + l4 + 2, s->s_dport);
	if (s->s_proto == TCP) {
		net_put32(b + l4 + 4, s->s_seq);
		net_put32(b + l4 + 8, s->s_ack);
		b[l4 + 12] = 0x50;
		b[l4 + 13] = s->s_flags;
		put16(b + l4 + 14, 0x1000);
	} else {
		put16(b + l4 + 4, body);
	}
	for (uint32_t i = 0; i < s->s_len; i++) {
		b[l4 + th + i] = (uint8_t)(s->s_fill + i);
	}
	sum = csum_fold(csum_pseudo(b, version, (uint8_t)s->s_proto, body));
	memcpy(b + at, &sum, 2);
	if (!s->s_partial) {
		sum = (uint16_t)~csum_fold(csum_add(b + l4, body, 0));
		sum = s->s_badsum ? (uint16_t)(sum ^ 0x5555) : sum;
		memcpy(b + at, &sum, 2);
	}
	if (s->s_part != 0) { /* cut the fragment out of it */
		memmove(b + l4, b + l4 + s->s_off, s->s_part);
		put16(b + 2, l4 + s->s_part);
		put16(b + 6, s->s_off / 8 | (s->s_more ? 0x2000u : 0));
		body = s->s_part;
	}
	if (version == 4) {
		sum = (uint16_t)~csum_fold(csum_add(b, l4, 0));
		memcpy(b + 10, &sum, 2);
	}
	return l4 + body;
}

static inline struct pkt *
net_packet(struct net *net, const struct seg *s)
{
	static const uint8_t none[6];
	uint8_t bytes[70000], *b;
	uint32_t n = net_bytes(s, bytes), l2 = s->s_framed ? 14 : 0;
	uint32_t first = s->s_split ? 40 : n;
	struct pkt *p = pkt_alloc(s->s_framed ? net->n_pool : net->n_clientpool,
	    first + l2 + 32, 32);

	CHECK(p != NULL);
	b = p->p_data;
	if (l2 != 0) {
		memcpy(b,
		    memcmp(s->s_mac, none, 6) != 0 ? s->s_mac :
						     net->n_dev->fk_port.pt_mac,
		    6);
		memset(b + 6, 0x42, 6);
		put16(b + 12, s->s_version == 6 ? 0x86dd : 0x0800);
	}
	memcpy(b + l2, bytes, first);
	p->p_len = first + l2;
	if (first < n) {
		p->p_next = pkt_alloc(net->n_clientpool, n - first, 0);
		memcpy(p->p_next->p_data, bytes + first, n - first);
		p->p_next->p_len = n - first;
	}
	p->p_pktlen = n + l2;
	p->p_flowid = s->s_flowid;
	if (s->s_partial) {
		p->p_flags |= PKT_CSUM_PARTIAL;
		p->p_csum_start = (uint16_t)(l2 + (s->s_version == 6 ? 40 : 20));
		p->p_csum_offset = s->s_proto == TCP ? 16 : 6;
	}
	return p;
}

static inline int
net_resolve(void *arg, const uint8_t dst[16], uint8_t mac[6])
{
	struct net *net = arg;

	net->n_asked++;
	memset(mac, 0x42, 6);
	mac[5] = dst[15];
	return net->n_answer;
}

static inline void
net_wake(void *arg)
{
	((struct net *)arg)->n_woken++;
}

static inline uint64_t
net_stat(struct net *net, const char *name)
{
	uint64_t v[64];
	size_t n = sk_fsw_stats(net->n_fsw, v, 64);

	for (size_t i = 0; i < n; i++) {
		if (strcmp(sk_fsw_stat_name(i), name) == 0) {
			return v[i];
		}
	}
	check_fail(__FILE__, __LINE__, name);
}

/* From the wire; HOST's driver takes it in. Answers packets for HOST, freed,
 * or kept in v. */
static inline int
net_poll(struct net *net, struct pkt **v)
{
	struct pkt *got[PORT_BURST];
	int total = 0, k;

	while ((k = net->n_host->pt_input(net->n_host, got, PORT_BURST,
		    net->n_now)) > 0) {
		for (int i = 0; i < k; i++) {
			if (v != NULL) {
				v[total] = got[i];
			} else {
				pkt_free(got[i]);
			}
			total++;
		}
	}
	CHECK_EQ(k, 0);
	return total;
}

static inline void
net_receives(struct net *net, struct seg s)
{
	s.s_framed = net->n_dev->fk_port.pt_link == PORT_ETHER;
	fake_receives(net->n_dev, net_packet(net, &s));
}

/* What client i gets; v NULL: freed. */
static inline int
net_recv(struct net *net, int i, struct pkt **v)
{
	struct pkt *got[PORT_BURST];
	int k = net->n_client[i]->pt_input(net->n_client[i], got, PORT_BURST,
	    net->n_now);

	for (int j = 0; j < k; j++) {
		if (v != NULL) {
			v[j] = got[j];
		} else {
			pkt_free(got[j]);
		}
	}
	return k;
}

/* Client i sends s; answers what its port says. */
static inline int
net_send(struct net *net, int i, struct seg s)
{
	struct pkt *p = net_packet(net, &s);
	int k = net->n_client[i]->pt_output(net->n_client[i], &p, 1, net->n_now);

	if (k != 1) {
		pkt_free(p);
	}
	return k;
}

static inline int
net_reserve(struct net *net, int i, struct flow_key k, unsigned flags)
{
	k.fk_fport = 0;
	memset(k.fk_faddr, 0, 16);
	return net->n_ops->no_reserve(i < 0 ? net->n_hostowner : net->n_owner[i],
	    &k, flags);
}

static inline uint32_t
net_attach(struct net *net, int i, struct flow_key k)
{
	uint32_t id = 0;

	CHECK_EQ(net_reserve(net, i, k, 0), 0);
	CHECK_EQ(net->n_ops->no_attach(net->n_owner[i], &k, 0, &id), 0);
	CHECK(id != 0);
	return id;
}

static inline void
net_detach(struct net *net, int i, uint32_t id, unsigned flags)
{
	net->n_ops->no_detach(net->n_owner[i], id, flags);
}

static inline struct net *
net_open(enum port_link link, uint32_t caps, const struct sk_fsw_cfg *cfg,
    int clients)
{
	struct sk_netns_cfg nc = { .seed = { 1, 2 }, .max_flows = 1024 };
	struct sk_fsw_cfg fc = { 0 };
	struct net *net = calloc(1, sizeof(*net));
	uint8_t addrs[2][16];

	CHECK(net != NULL);
	net->n_now = SEC;
	net->n_pool = nic_pool_new(64 << 20);
	net->n_hostpool = nic_pool_new(64 << 20);
	net->n_clientpool = nic_pool_new(64 << 20);
	net->n_ops = sk_netns_ops();
	CHECK_EQ(sk_netns_new(&nc, &net->n_ns), 0);
	net->n_dev = fake_open(net->n_pool, link, caps, &net->n_devclosed);
	if (cfg != NULL) {
		fc = *cfg;
	}
	fc.host_pool = net->n_hostpool;
	CHECK_EQ(sk_fsw_open(net->n_ns, &net->n_dev->fk_port, &fc, &net->n_fsw,
		     &net->n_host),
	    0);
	CHECK_EQ(sk_netns_owner(net->n_ns, SK_OWNER_HOST, 1, &net->n_hostowner),
	    0);
	net->n_resolver.fr_resolve = net_resolve;
	net->n_resolver.fr_arg = net;
	sk_fsw_set_resolver(net->n_fsw, &net->n_resolver);
	sk_fsw_set_wake(net->n_fsw, net_wake, net);
	net_addr(addrs[0], 4, 1);
	net_addr(addrs[1], 6, 1);
	if ((fc.flags & SK_FSW_LOOP) == 0) {
		CHECK_EQ(sk_fsw_set_addrs(net->n_fsw, addrs[0], 2), 0);
	}
	for (int i = 0; i < clients; i++) {
		CHECK_EQ(sk_netns_owner(net->n_ns, SK_OWNER_CLIENT, 10 + i,
			     &net->n_owner[i]),
		    0);
		CHECK_EQ(sk_fsw_client(net->n_fsw, net->n_owner[i],
			     net->n_clientpool, -1, &net->n_client[i]),
		    0);
	}
	return net;
}

static inline void
net_client_close(struct net *net, int i)
{
	if (net->n_client[i] != NULL) {
		net->n_client[i]->pt_ops->po_close(net->n_client[i]);
		net->n_client[i] = NULL;
	}
}

static inline void
net_host_close(struct net *net)
{
	if (net->n_host != NULL) {
		net->n_host->pt_ops->po_close(net->n_host);
		net->n_host = NULL;
		CHECK(net->n_devclosed);
	}
}

/* Nothing may be left. */
static inline void
net_close(struct net *net)
{
	for (int i = 0; i < NCLIENTS; i++) {
		net_client_close(net, i);
		sk_netns_owner_free(net->n_owner[i]);
	}
	net_host_close(net);
	sk_netns_owner_free(net->n_hostowner);
	sk_fsw_free(net->n_fsw);
	sk_netns_free(net->n_ns);
	CHECK_EQ(pool_active(net->n_pool), 0);
	CHECK_EQ(pool_active(net->n_hostpool), 0);
	CHECK_EQ(pool_active(net->n_clientpool), 0);
	nic_pool_free(net->n_pool);
	nic_pool_free(net->n_hostpool);
	nic_pool_free(net->n_clientpool);
	free(net);
}

#endif
