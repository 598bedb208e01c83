/*
 * A flowswitch with a HOST and two clients, one of them hostile, time moving:
 * frames from the wire, packets with any metadata from a client, ports and flows
 * that come and go, a DEV that is sometimes full.
 *
 * Input: records of [what 1][argument 1][length 1][bytes]. Bytes of a packet
 * replace the first bytes of a sound one, which is for a flow that exists, so
 * that short inputs get past the door. After the last record everything is
 * closed, in an order the input chooses, and pools must be empty.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nic/api.h"
#include "nic/flow.h"
#include "nic/port.h"
#include "skywalk/api_fsw.h"

#define SEC 1000000000ull
#define PACKET 200

static void
must(int cond, const char *what)
{
	if (!cond) {
		fprintf(stderr, "fuzz_fsw: %s\n", what);
		abort();
	}
}

struct world {
	struct pkt_pool *pool, *hostpool, *clientpool;
	struct netns *ns;
	struct fsw *fsw;
	struct port *far, *host, *client[2];
	struct netns_owner *owner[2];
	const struct netns_ops *ops;
	struct flow_resolver resolver;
	uint32_t id;
	int loop, answer;
	uint64_t now;
};

static int
resolve(void *arg, const uint8_t dst[16], uint8_t mac[6])
{
	memcpy(mac, dst + 10, 6);
	mac[0] &= 0xfe;
	return ((struct world *)arg)->answer;
}

static void
mapped(uint8_t a[16], uint8_t last)
{
	static const uint8_t net[16] = { [10] = 0xff, [11] = 0xff, [12] = 10 };

	memcpy(a, net, 16);
	a[15] = last;
}

static struct flow_key
key(uint8_t proto, uint16_t port, uint16_t fport)
{
	struct flow_key k = {
		.fk_proto = proto, .fk_lport = port, .fk_fport = fport
	};

	mapped(k.fk_laddr, 1);
	mapped(k.fk_faddr, 2);
	return k;
}

static void
world_open(struct world *w, int loop)
{
	struct sk_netns_cfg nc = { .seed = { 1, 2 }, .max_flows = 64 };
	struct sk_fsw_cfg fc = { .backlog = 8, .client_ring = 32 };
	struct port *dev;
	uint8_t addr[16];

	memset(w, 0, sizeof(*w));
	w->loop = loop;
	w->now = SEC;
	w->pool = nic_pool_new(8 << 20);
	w->hostpool = nic_pool_new(8 << 20);
	w->clientpool = nic_pool_new(8 << 20);
	must(sk_netns_new(&nc, &w->ns) == 0, "netns");
	must(nic_feth_open(w->pool, w->hostpool, loop, 1500, 16, 0x40, 0, &dev,
		 &w->far) == 0,
	    "feth");
	fc.flags = loop ? SK_FSW_LOOP : 0;
	fc.host_pool = w->hostpool;
	must(sk_fsw_open(w->ns, dev, &fc, &w->fsw, &w->host) == 0, "open");
	w->resolver.fr_resolve = resolve;
	w->resolver.fr_arg = w;
	sk_fsw_set_resolver(w->fsw, &w->resolver);
	mapped(addr, 1);
	sk_fsw_set_addrs(w->fsw, addr, 1);
	w->ops = sk_netns_ops();
	for (int i = 0; i < 2; i++) {
		struct flow_key k = key(6, (uint16_t)(80 + i), 99);
		struct flow_key any = key(17, (uint16_t)(53 + i), 0);
		uint32_t id;

		must(sk_netns_owner(w->ns, SK_OWNER_CLIENT, i, &w->owner[i]) == 0,
		    "owner");
		must(sk_fsw_client(w->fsw, w->owner[i], w->clientpool, -1,
			 &w->client[i]) == 0,
		    "client");
		must(w->ops->no_reserve(w->owner[i], &k, 0) == 0, "reserve");
		must(w->ops->no_attach(w->owner[i], &k, 0, &id) == 0, "attach");
		memset(any.fk_laddr, 0, 16);
		must(w->ops->no_reserve(w->owner[i], &any, 0) == 0, "reserve");
		w->id = i == 0 ? id : w->id;
	}
}

/* A TCP packet of the flow (out: as client 0 sends it), or a UDP one. */
static struct pkt *
world_packet(struct world *w, int out, int l2, const uint8_t *b, size_t n,
    unsigned kind)
{
	static const uint8_t tcp[] = { 0x45, 0, 0, 50, 0, 1, 0, 0, 64, 6, 0, 0,
		10, 0, 0, 2, 10, 0, 0, 1, 0, 99, 0, 80, 0, 0, 0, 1, 0, 0, 0, 1,
		0x50, 0x10, 1, 0, 0, 0, 0, 0 };
	static const uint8_t frag[] = { 0x45, 0, 0, 44, 0, 7, 0x20, 0, 64, 17,
		0, 0, 10, 0, 0, 2, 10, 0, 0, 1, 0, 99, 0, 53, 0, 200, 0, 0 };
	struct pkt *p =
	    pkt_alloc(out ? w->clientpool : w->hostpool, PACKET + 64, 32);
	uint8_t *d, port[2];

	must(p != NULL, "memory");
	d = p->p_data;
	memset(d, 0, PACKET);
	if (l2) {
		static const uint8_t head[] = { 2, 'f', 'e', 't', 'h', 0, 2,
			'f', 'e', 't', 'h', 1, 8, 0 };

		memcpy(d, head, sizeof(head));
		d += 14;
	}
	memcpy(d, tcp, sizeof(tcp));
	if (kind & 2) {
		memcpy(d, frag, sizeof(frag));
	}
	if (out) { /* turn it round */
		d[15] = 1;
		d[19] = 2;
		memcpy(port, d + 20, 2);
		memcpy(d + 20, d + 22, 2);
		memcpy(d + 22, port, 2);
	}
	p->p_len = p->p_pktlen = (uint32_t)l2 * 14 + ((kind & 2) ? 44 : 50);
	n = n < PACKET ? n : PACKET;
	memcpy((kind & 1) ? p->p_data : d + 6, b,
	    n < PACKET - 20 ? n : PACKET - 20);
	return p;
}

static void
world_drain(struct world *w)
{
	struct pkt *v[64];
	struct port *pt[4] = { w->host, w->client[1], w->far, NULL };

	for (int i = 0; pt[i] != NULL; i++) {
		int k;

		while ((k = pt[i]->pt_input(pt[i], v, 64, w->now)) > 0) {
			for (int j = 0; j < k; j++) {
				struct pkt *q = v[j];
				uint32_t sum = 0;

				for (; q != NULL; q = q->p_next) {
					sum += q->p_len;
				}
				must(sum == v[j]->p_pktlen, "p_pktlen");
				must(v[j]->p_csum_start <= v[j]->p_pktlen ||
					!(v[j]->p_flags & PKT_CSUM_PARTIAL),
				    "csum_start");
				pkt_free(v[j]);
			}
		}
	}
}

/* Client 0 sends with metadata that the input chooses. */
static void
client_sends(struct world *w, unsigned arg, const uint8_t *b, size_t n)
{
	struct pkt *p = world_packet(w, 1, 0, b, n, arg);

	if ((arg & 4) && n >= 12) {
		memcpy(&p->p_csum_start, b, 2);
		memcpy(&p->p_csum_offset, b + 2, 2);
		memcpy(&p->p_gso_size, b + 4, 2);
		p->p_gso_type = b[6];
		p->p_flags = b[7];
		memcpy(&p->p_flowid, b + 8, 4);
	} else if (arg & 8) {
		p->p_flowid = w->id;
	}
	if ((arg & 16) && p->p_len > 30) { /* in pieces */
		struct pkt *q = pkt_alloc(w->clientpool, PACKET, 0);
		uint32_t cut = arg >> 5;

		memcpy(q->p_data, p->p_data + cut, p->p_len - cut);
		q->p_len = p->p_len - cut;
		p->p_len = cut;
		p->p_next = q;
	}
	if (w->client[0]->pt_output(w->client[0], &p, 1, w->now) != 1) {
		pkt_free(p);
	}
}

static void
wire_sends(struct world *w, unsigned arg, const uint8_t *b, size_t n)
{
	struct pkt *p;

	if (w->loop) {
		p = world_packet(w, 0, 0, b, n, arg);
		if (w->host->pt_output(w->host, &p, 1, w->now) != 1) {
			pkt_free(p);
		}
		return;
	}
	p = world_packet(w, 0, 1, b, n, arg);
	if (w->far->pt_output(w->far, &p, 1, w->now) != 1) {
		pkt_free(p);
	}
}

static void
namespace_call(struct world *w, unsigned arg, const uint8_t *b, size_t n)
{
	struct flow_key k = key(n > 0 ? b[0] : 6, (uint16_t)(80 + arg % 4),
	    (uint16_t)(99 + (arg >> 4)));
	uint32_t id = w->id;

	if (n >= 17) {
		memcpy(k.fk_laddr, b + 1, 16);
	}
	switch (arg / 4 % 4) {
	case 0:
		(void)w->ops->no_reserve(w->owner[0], &k, n > 17 ? b[17] : 0);
		break;
	case 1:
		w->ops->no_release(w->owner[0], &k);
		break;
	case 2:
		if (w->ops->no_attach(w->owner[0], &k, 0, &id) == 0) {
			w->id = id;
		}
		break;
	default:
		w->ops->no_detach(w->owner[0], id, arg & 64 ? FLOW_ABORT : 0);
		break;
	}
}

static void
world_record(struct world *w, unsigned what, unsigned arg, const uint8_t *b,
    size_t n)
{
	struct pkt *v[64];
	int k;

	switch (what % 7) {
	case 0:
		wire_sends(w, arg, b, n);
		break;
	case 1:
	case 2:
		client_sends(w, arg, b, n);
		break;
	case 3:
		namespace_call(w, arg, b, n);
		break;
	case 4:
		w->now += SEC / 16 * arg;
		world_drain(w);
		break;
	case 5:
		w->answer = arg % 3 == 0 ? 0 :
		    arg % 3 == 1	 ? EINPROGRESS :
					   EHOSTUNREACH;
		sk_fsw_route_event(w->fsw);
		break;
	default:
		k = w->client[0]->pt_input(w->client[0], v, 64, w->now);
		for (int i = 0; i < k; i++) {
			pkt_free(v[i]);
		}
		break;
	}
	(void)port_poll_at(w->host);
	(void)port_poll_at(w->client[0]);
}

static void
world_close(struct world *w, unsigned order)
{
	struct port *pt[3] = { w->host, w->client[0], w->client[1] };
	struct nic_pool_stats st[3];

	if (order & 1) {
		sk_netns_owner_free(w->owner[0]);
	}
	for (unsigned i = 0; i < 3; i++) {
		struct port *p = pt[(i + order / 2) % 3];

		p->pt_ops->po_close(p);
	}
	if (!(order & 1)) {
		sk_netns_owner_free(w->owner[0]);
	}
	sk_netns_owner_free(w->owner[1]);
	sk_fsw_free(w->fsw);
	sk_netns_free(w->ns);
	w->far->pt_ops->po_close(w->far);
	nic_pool_stats(w->pool, &st[0]);
	nic_pool_stats(w->hostpool, &st[1]);
	nic_pool_stats(w->clientpool, &st[2]);
	must(st[0].active + st[1].active + st[2].active == 0,
	    "packets were never given back");
	nic_pool_free(w->pool);
	nic_pool_free(w->hostpool);
	nic_pool_free(w->clientpool);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct world w;
	unsigned order;

	if (size < 2) {
		return 0;
	}
	order = data[0];
	world_open(&w, (data[1] & 1) != 0);
	data += 2;
	size -= 2;
	while (size >= 3) {
		size_t n = data[2] < size - 3 ? data[2] : size - 3;

		world_record(&w, data[0], data[1], data + 3, n);
		data += 3 + n;
		size -= 3 + n;
	}
	world_drain(&w);
	world_close(&w, order);
	return 0;
}
