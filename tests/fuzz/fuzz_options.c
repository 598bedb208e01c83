/*
 * Options of IP and TCP in packets that are right otherwise, to a router with
 * a narrow second link: to its own sockets, and through it in fragments.
 *
 * Input: records of [kind][IP options length][TCP options length][payload /
 * 8][fragment 2], then the options. Kind: bits 0 and 1 UDP to us, UDP through
 * us, SYN, SYN and the ACK that ends the handshake; bit 2 ICMP echo instead
 * of UDP; bits 5 to 7 the time to live less one.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "bsdcore/api.h"
#include "nic/api.h"

#define MSEC 1000000ull
#define MAXLEN 3000

struct router {
	struct stack *stack;
	struct pkt_pool *pool;
	struct port *left, *right;
	struct socket *tcp, *udp;
	uint64_t now;
	uint32_t iss; /* of the last SYN,ACK that came out */
};

static void
must(int cond, const char *what)
{
	if (!cond) {
		fprintf(stderr, "fuzz_options: %s\n", what);
		abort();
	}
}

static void
put16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static uint16_t
sum16(uint32_t sum, const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		sum += i & 1 ? p[i] : (uint32_t)p[i] << 8;
		sum = (sum & 0xffff) + (sum >> 16);
	}
	return (uint16_t)sum;
}

static struct port *
link_up(struct router *r, const char *name, uint8_t net, unsigned mtu)
{
	struct bsd_addr me = { .family = AF_INET, .addr = { 10, 0, net, 1 } };
	struct port *mine, *theirs;
	int i;

	must(nic_feth_open(r->pool, r->pool, 1, mtu, 64, 0, 0, &mine,
		 &theirs) == 0,
	    "feth");
	i = bsd_if_attach(r->stack, mine, name);
	must(i > 0, "attach");
	must(bsd_if_flags(r->stack, (unsigned)i, BSD_IFF_UP, 0) == 0, "up");
	must(bsd_if_addaddr(r->stack, (unsigned)i, &me, 24) == 0, "address");
	return theirs;
}

static void
router_open(struct router *r)
{
	struct bsd_config cfg = { .name = "fuzz",
		.seed = { 1, 2, 3, 4 },
		.virtual_time = 1,
		.start_time = 1000 * MSEC,
		.mem_limit = 16 << 20 };
	struct bsd_addr me = { .family = AF_INET, .port = 80 };
	int one = 1;

	r->now = cfg.start_time;
	r->pool = nic_pool_new(16 << 20);
	must(bsd_stack_new(&cfg, &r->stack) == 0, "stack");
	r->left = link_up(r, "en0", 0, 4000);
	r->right = link_up(r, "en1", 1, 300);
	must(bsd_sysctl_set(r->stack, "net.inet.ip.forwarding", 1) == 0,
	    "forwarding");
	must(bsd_socket(r->stack, AF_INET, SOCK_STREAM, 0, &r->tcp) == 0 &&
		bsd_bind(r->tcp, &me) == 0 && bsd_listen(r->tcp, 5) == 0,
	    "listener");
	must(bsd_socket(r->stack, AF_INET, SOCK_DGRAM, 0, &r->udp) == 0 &&
		bsd_bind(r->udp, &me) == 0,
	    "datagrams");
	for (int name = 6; name < 14; name++) { /* IP_RECVOPTS and others */
		(void)bsd_setsockopt(r->udp, 0, name, &one, sizeof(one));
	}
}

/* A transport header and payload at p, its checksum right: its length. */
static size_t
transport(struct router *r, uint8_t *p, uint8_t kind, const uint8_t *opt,
    size_t optlen, size_t payload)
{
	size_t hl = 8;

	memset(p, 0, 64);
	put16(p, 4242);
	put16(p + 2, 80);
	if ((kind & 2) == 0) {
		if (kind & 4) {
			memcpy(p, "\10\0\0\0\0\1\0\1", 8);
		} else {
			put16(p + 4, (uint32_t)(hl + payload));
		}
	} else {
		hl = 20 + ((optlen + 3) & ~(size_t)3);
		p[12] = (uint8_t)(hl / 4 << 4);
		p[13] = kind & 1 ? 16 : 2;
		p[14] = 32;
		if (kind & 1) {
			p[7] = 1;
			put16(p + 8, (r->iss + 1) >> 16);
			put16(p + 10, r->iss + 1);
		}
		memcpy(p + 20, opt, optlen);
	}
	memset(p + hl, 'x', payload);
	return hl + payload;
}

static void
send_one(struct router *r, uint8_t kind, const uint8_t *ipopt, size_t ipoptlen,
    const uint8_t *opt, size_t optlen, size_t payload, uint32_t frag)
{
	uint8_t p[MAXLEN] = { 0 };
	uint8_t proto = kind & 2 ? 6 : kind & 4 ? 1 : 17, *th;
	size_t ihl = 20 + ((ipoptlen + 3) & ~(size_t)3), len, at;

	th = p + ihl;
	len = transport(r, th, kind, opt, optlen, payload);
	p[0] = (uint8_t)(0x40 | ihl / 4);
	put16(p + 2, (uint32_t)(ihl + len));
	p[5] = 7;
	put16(p + 6, frag);
	p[8] = (uint8_t)(1 + (kind >> 5));
	p[9] = proto;
	memcpy(p + 12, "\12\0\0\2\12\0\0\1", 8);
	p[18] = (kind & 3) == 1 ? 1 : 0;
	p[19] = (kind & 3) == 1 ? 2 : 1;
	memcpy(p + 20, ipopt, ipoptlen);
	put16(p + 10, (uint16_t)~sum16(0, p, ihl));
	at = proto == 6 ? 16 : proto == 1 ? 2 : 6;
	put16(th + at,
	    (uint16_t)~sum16(proto == 1 ?
		    0 :
		    sum16((uint32_t)(proto + len), p + 12, 8),
		th, len));
	(void)nic_send(r->left, p, ihl + len, r->now);
}

static void
drain(struct router *r)
{
	uint8_t p[5000];
	long n;

	while ((n = nic_recv(r->left, p, sizeof(p), r->now)) > 0) {
		if (n >= 40 && p[0] == 0x45 && p[9] == 6 && p[33] == 18) {
			r->iss = (uint32_t)p[24] << 24 | (uint32_t)p[25] << 16 |
			    (uint32_t)p[26] << 8 | p[27];
		}
	}
	while ((n = nic_recv(r->right, p, sizeof(p), r->now)) > 0) {
		must(n <= 300, "longer than the link takes");
		must(sum16(0, p, (size_t)(p[0] & 15) * 4) == 0xffff,
		    "header checksum of what was forwarded");
	}
}

static void
run(struct router *r)
{
	char buf[4096], control[256];
	struct bsd_iovec iov = { buf, sizeof(buf) };
	struct bsd_addr from;
	struct socket *so;
	size_t len = sizeof(control);
	int flags = 0;

	(void)bsd_run(r->stack, r->now);
	while (bsd_recvmsg(r->udp, &iov, 1, control, &len, &flags, &from, 0) >=
	    0) {
		(void)bsd_sendmsg(r->udp, &iov, 1, NULL, 0, 0, &from, 0);
		len = sizeof(control);
		flags = 0;
	}
	while (bsd_accept(r->tcp, 0, &so, NULL) == 0) {
		len = sizeof(control);
		(void)bsd_getsockopt(so, 6, 11 /* TCP_INFO */, control, &len);
		(void)bsd_send(so, buf, 1000, 0, NULL, 0);
		(void)bsd_abort(so);
	}
	(void)bsd_run(r->stack, r->now);
	drain(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct router r = { .stack = NULL };
	struct nic_pool_stats st;

	router_open(&r);
	while (size > 6) {
		size_t ipoptlen = data[1] % 41, optlen = data[2] % 41;
		const uint8_t *in = data;

		data += 6;
		size -= 6;
		ipoptlen = ipoptlen < size ? ipoptlen : size;
		optlen = optlen < size - ipoptlen ? optlen : size - ipoptlen;
		send_one(&r, in[0], data, ipoptlen, data + ipoptlen, optlen,
		    (size_t)in[3] * 8, (uint32_t)(in[4] << 8 | in[5]));
		data += ipoptlen + optlen;
		size -= ipoptlen + optlen;
		r.now += 10 * MSEC;
		run(&r);
	}
	(void)bsd_close(r.tcp);
	(void)bsd_close(r.udp);
	bsd_stack_free(r.stack);
	nic_close(r.left);
	nic_close(r.right);
	nic_pool_stats(r.pool, &st);
	must(st.active == 0, "packets were never given back");
	nic_pool_free(r.pool);
	return 0;
}
