/*
 * Segments of an established connection, well formed but for what the input
 * says: sequence and acknowledgement numbers near the window, any flags,
 * options and payload. The connection may die of it; nothing else may.
 *
 * Input: records of [flags][seq][ack][wnd][options length][payload][step],
 * one byte each, then the options.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "bsdcore/api.h"
#include "nic/api.h"

#define MSEC 1000000ull

static void
must(int cond, const char *what)
{
	if (!cond) {
		fprintf(stderr, "fuzz_tcp: %s\n", what);
		abort();
	}
}

struct wire {
	struct stack *stack;
	struct port *port;
	struct pkt_pool *pool;
	struct socket *listener, *so;
	uint32_t snd, rcv; /* the peer's (our) sequence numbers */
	uint64_t now;
};

static void
put16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static void
put32(uint8_t *p, uint32_t v)
{
	put16(p, v >> 16);
	put16(p + 2, v);
}

static uint32_t
sum16(uint32_t sum, const uint8_t *p, size_t n)
{
	for (size_t i = 0; i + 1 < n; i += 2) {
		sum += (uint32_t)p[i] << 8 | p[i + 1];
	}
	if (n & 1) {
		sum += (uint32_t)p[n - 1] << 8;
	}
	while (sum >> 16) {
		sum = (sum & 0xffff) + (sum >> 16);
	}
	return sum;
}

/* A raw IP segment from 10.0.0.2:4242 to 10.0.0.1:80. */
static void
segment(struct wire *w, uint8_t flags, uint32_t seq, uint32_t ack, uint16_t wnd,
    const uint8_t *opt, size_t optlen, size_t len)
{
	uint8_t p[20 + 60 + 256] = { 0x45 };
	size_t hl = 20 + ((optlen + 3) & ~(size_t)3), total = 20 + hl + len;
	uint32_t sum;

	put16(p + 2, (uint32_t)total);
	p[8] = 64;
	p[9] = 6;
	memcpy(p + 12, "\x0a\0\0\x02\x0a\0\0\x01", 8);
	put16(p + 10, ~sum16(0, p, 20) & 0xffff);
	put16(p + 20, 4242);
	put16(p + 22, 80);
	put32(p + 24, seq);
	put32(p + 28, ack);
	p[32] = (uint8_t)(hl / 4 << 4);
	p[33] = flags;
	put16(p + 34, wnd);
	put16(p + 38, seq & 0xff); /* urgent pointer */
	if (optlen > 0) {
		memcpy(p + 40, opt, optlen);
	}
	memset(p + 20 + hl, 'x', len);
	sum = sum16((uint32_t)(6 + hl + len), p + 12, 8);
	put16(p + 36, ~sum16(sum, p + 20, hl + len) & 0xffff);
	(void)nic_send(w->port, p, total, w->now);
	(void)bsd_run(w->stack, w->now);
}

/* Learn what the stack has sent last; the numbers to aim at. */
static void
listen_in(struct wire *w)
{
	uint8_t p[70000];
	long n;

	while ((n = nic_recv(w->port, p, sizeof(p), w->now)) > 0) {
		if (n >= 40 && p[9] == 6) {
			w->rcv = (uint32_t)p[24] << 24 | (uint32_t)p[25] << 16 |
			    (uint32_t)p[26] << 8 | p[27];
			w->rcv += (uint32_t)n - 20 - (p[32] >> 4) * 4u;
			w->rcv += (p[33] & 3) != 0;
		}
	}
}

static void
establish(struct wire *w)
{
	struct bsd_config cfg = { .name = "fuzz",
		.seed = { 5, 6, 7, 8 },
		.virtual_time = 1,
		.start_time = 1000 * MSEC,
		.mem_limit = 16 << 20 };
	struct bsd_addr me = { .family = AF_INET, .addr = { 10, 0, 0, 1 } };
	struct port *mine;
	int i;

	w->pool = nic_pool_new(32 << 20);
	must(nic_feth_open(w->pool, w->pool, 1, 1500, 256, 0, 0, &mine,
		 &w->port) == 0,
	    "feth");
	must(bsd_stack_new(&cfg, &w->stack) == 0, "stack");
	i = bsd_if_attach(w->stack, mine, "en0");
	must(i > 0 && bsd_if_flags(w->stack, (unsigned)i, BSD_IFF_UP, 0) == 0,
	    "interface");
	must(bsd_if_addaddr(w->stack, (unsigned)i, &me, 24) == 0, "address");
	must(bsd_socket(w->stack, AF_INET, SOCK_STREAM, 0, &w->listener) == 0,
	    "socket");
	me.port = 80;
	must(bsd_bind(w->listener, &me) == 0, "bind");
	must(bsd_listen(w->listener, 4) == 0, "listen");
	w->now = cfg.start_time;
	w->snd = 1000;
	segment(w, 2, w->snd++, 0, 8192,
	    (const uint8_t *)"\2\4\5\xb4\4\2\1\3\3\2", 10, 0);
	listen_in(w);
	segment(w, 16, w->snd, w->rcv, 8192, NULL, 0, 0);
	must(bsd_accept(w->listener, 0, &w->so, NULL) == 0, "no connection");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wire w = { .stack = NULL };
	struct nic_pool_stats st;
	char buf[4096] = { 0 };

	establish(&w);
	while (size >= 7) {
		uint8_t f = data[0];
		uint32_t seq = w.snd +
		    (uint32_t)((int8_t)data[1]) * (data[1] & 1 ? 1u : 300u);
		uint32_t ack = w.rcv +
		    (uint32_t)((int8_t)data[2]) * (data[2] & 1 ? 1u : 300u);
		size_t optlen = data[4] % 41, len = data[5] % 200, left;

		left = size - 7;
		optlen = optlen < left ? optlen : left;
		segment(&w, f, seq, ack, (uint16_t)(data[3] * 257), data + 7,
		    optlen, len);
		if (seq == w.snd) {
			w.snd += (uint32_t)len;
		}
		(void)bsd_send(w.so, buf, (size_t)data[6] * 16, MSG_DONTWAIT,
		    NULL, 0);
		if (data[6] & 1) {
			(void)bsd_recv(w.so, buf, sizeof(buf), MSG_DONTWAIT,
			    NULL, 0);
		}
		if (data[6] == 255) {
			(void)bsd_shutdown(w.so, SHUT_WR);
		}
		w.now += (uint64_t)data[6] * data[6] * MSEC;
		(void)bsd_run(w.stack, w.now);
		listen_in(&w);
		data += 7 + optlen;
		size -= 7 + optlen;
	}
	(void)bsd_close(w.so);
	(void)bsd_close(w.listener);
	bsd_stack_free(w.stack);
	nic_close(w.port);
	nic_pool_stats(w.pool, &st);
	must(st.active == 0, "packets were never given back");
	nic_pool_free(w.pool);
	return 0;
}
