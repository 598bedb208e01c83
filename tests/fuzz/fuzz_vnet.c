/*
 * What a kernel says about a frame in its virtio-net header, and what is done
 * with a packet it made us believe in: capabilities hidden on the way in,
 * checksums and super-segments finished in software on the way out, or all
 * of it given to a stack.
 *
 * Input: [mode][bytes a buffer], then records of [length 2][virtio header 10]
 * [frame]. Mode: bit 0 to a stack, bit 1 no Ethernet header, bits 2 and 3
 * which capabilities are left.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "bsdcore/api.h"
#include "nic/api.h"
#include "nic/offload.h"
#include "nic/vnet.h"

#define MSEC 1000000ull
#define NPKT 32

struct vport {
	struct port vp_port;
	struct pkt *vp_in[NPKT];
	int vp_n;
};

static void
must(int cond, const char *what)
{
	if (!cond) {
		fprintf(stderr, "fuzz_vnet: %s\n", what);
		abort();
	}
}

static int
vport_rx(struct port *pt, struct pkt **v, int n, uint64_t now)
{
	struct vport *vp = CONTAINER_OF(pt, struct vport, vp_port);
	int k = MIN_OF(n, vp->vp_n);

	(void)now;
	memcpy(v, vp->vp_in, (size_t)k * sizeof(struct pkt *));
	vp->vp_n -= k;
	memmove(vp->vp_in, vp->vp_in + k,
	    (size_t)vp->vp_n * sizeof(struct pkt *));
	return k;
}

/* A port without capabilities is given nothing that asks for one. */
static int
vport_tx(struct port *pt, struct pkt **v, int n, uint64_t now)
{
	(void)now;
	for (int i = 0; i < n; i++) {
		struct vnet_hdr vh;
		uint32_t len = 0;

		vnet_encode(v[i], &vh);
		for (const struct pkt *p = v[i]; p != NULL; p = p->p_next) {
			len += p->p_len;
		}
		must(len == v[i]->p_pktlen, "length of a packet is wrong");
		if ((pt->pt_caps & PORT_TSO) == 0) {
			must(v[i]->p_gso_type == PKT_GSO_NONE, "not cut");
		}
		if ((pt->pt_caps & PORT_TXCSUM) == 0) {
			must((v[i]->p_flags & PKT_CSUM_PARTIAL) == 0,
			    "checksum not finished");
		}
		pkt_free(v[i]);
	}
	return n;
}

static void
vport_close(struct port *pt)
{
	struct vport *vp = CONTAINER_OF(pt, struct vport, vp_port);

	while (vp->vp_n > 0) {
		pkt_free(vp->vp_in[--vp->vp_n]);
	}
	port_fini(pt);
	free(vp);
}

static const struct port_ops vport_ops = {
	.po_name = "vport",
	.po_rx = vport_rx,
	.po_tx = vport_tx,
	.po_close = vport_close,
};

static struct vport *
vport_open(struct pkt_pool *pool, int raw, uint32_t caps)
{
	struct vport *vp = calloc(1, sizeof(*vp));

	must(vp != NULL, "memory");
	port_setup(&vp->vp_port, &vport_ops, pool, "vport0");
	vp->vp_port.pt_link = raw ? PORT_RAWIP : PORT_ETHER;
	vp->vp_port.pt_caps = caps;
	vp->vp_port.pt_mtu = 1500;
	vp->vp_port.pt_gsomax = 65536;
	vp->vp_port.pt_mac[0] = 2;
	return vp;
}

/* A frame in buffers of at most `piece` bytes, as a kernel would hand it over. */
static struct pkt *
packet(struct pkt_pool *pool, const uint8_t *b, uint32_t len, uint32_t piece)
{
	struct pkt *first = NULL, **link = &first;

	for (uint32_t off = 0; off < len; off += piece) {
		uint32_t n = MIN_OF(piece, len - off);
		struct pkt *p = pkt_alloc(pool, n, 0);

		must(p != NULL, "memory");
		memcpy(p->p_data, b + off, n);
		p->p_len = n;
		*link = p;
		link = &p->p_next;
	}
	first->p_pktlen = len;
	return first;
}

static void
feed(struct vport *vp, struct pkt_pool *pool, uint32_t piece,
    const uint8_t *data, size_t size)
{
	struct vnet_hdr vh;

	while (size > 12 && vp->vp_n < NPKT) {
		uint32_t len = (uint32_t)(data[0] << 8 | data[1]);
		struct pkt *p;

		memcpy(&vh, data + 2, sizeof(vh));
		data += 12;
		size -= 12;
		len = len < size ? len : (uint32_t)size;
		if (len == 0) {
			continue;
		}
		p = packet(pool, data, len, piece);
		data += len;
		size -= len;
		if (vnet_decode(p, port_l2len(&vp->vp_port), &vh) != 0) {
			pkt_free(p);
			continue;
		}
		vp->vp_in[vp->vp_n++] = p;
	}
}

/* From one port to another that can do nothing. */
static void
travel(struct port *from, struct pkt_pool *pool, int raw)
{
	struct vport *to = vport_open(pool, raw, 0);
	struct pkt *v[4];
	int n;

	while ((n = from->pt_input(from, v, 4, 0)) > 0) {
		for (int i = 0; i < n; i++) {
			struct port *pt = &to->vp_port;

			if (pt->pt_output(pt, &v[i], 1, 0) != 1) {
				pkt_free(v[i]);
			}
		}
	}
	nic_close(&to->vp_port);
	nic_close(from);
}

static void
deliver(struct port *port)
{
	struct bsd_config cfg = { .name = "fuzz",
		.seed = { 1, 2, 3, 4 },
		.virtual_time = 1,
		.start_time = 1000 * MSEC,
		.mem_limit = 16 << 20 };
	struct bsd_addr me = { .family = AF_INET, .addr = { 10, 0, 0, 1 } };
	struct socket *tcp, *udp;
	struct stack *s;
	char buf[64];
	int i;

	must(bsd_stack_new(&cfg, &s) == 0, "stack");
	i = bsd_if_attach(s, port, "en0");
	must(i > 0, "attach");
	must(bsd_if_flags(s, (unsigned)i, BSD_IFF_UP, 0) == 0, "up");
	must(bsd_if_addaddr(s, (unsigned)i, &me, 24) == 0, "address");
	me.port = 80;
	must(bsd_socket(s, AF_INET, SOCK_STREAM, 0, &tcp) == 0 &&
		bsd_bind(tcp, &me) == 0 && bsd_listen(tcp, 5) == 0,
	    "listener");
	me.port = 53;
	must(bsd_socket(s, AF_INET, SOCK_DGRAM, 0, &udp) == 0 &&
		bsd_bind(udp, &me) == 0,
	    "datagrams");
	for (i = 0; i < 8; i++) {
		(void)bsd_run(s, (1000 + (uint64_t)i * 300) * MSEC);
		while (bsd_recv(udp, buf, sizeof(buf), 0, NULL, 0) >= 0) {
		}
	}
	(void)bsd_close(tcp);
	(void)bsd_close(udp);
	bsd_stack_free(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint32_t masks[4] = { 0xfff, PORT_RXCSUM, 0,
		0xfff & ~(uint32_t)PORT_SG };
	struct nic_pool_stats st;
	struct pkt_pool *pool;
	struct port *port;
	struct vport *vp;

	if (size < 2) {
		return 0;
	}
	pool = nic_pool_new(8 << 20);
	vp = vport_open(pool, data[0] >> 1 & 1, PORT_OFFLOADS | PORT_BROADCAST);
	feed(vp, pool, (uint32_t)data[1] * data[1] + 1, data + 2, size - 2);
	must(nic_capoff_wrap(&vp->vp_port, masks[data[0] >> 2 & 3], &port) == 0,
	    "capoff");
	if (data[0] & 1) {
		deliver(port);
	} else {
		travel(port, pool, data[0] >> 1 & 1);
	}
	nic_pool_stats(pool, &st);
	must(st.active == 0, "packets were never given back");
	nic_pool_free(pool);
	return 0;
}
