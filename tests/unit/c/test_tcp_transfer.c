/*
 * test_tcp_transfer.c - bytes from one stack to another over bad networks:
 * all of them, in order, and the same way twice for the same seed.
 */
#include "tests/unit/c/tcpnet.h"

/* Byte i of the stream a side sends. */
static uint8_t
pattern(uint64_t i, int side)
{
	return (uint8_t)((i * 2654435761u) >> 13 ^ (i >> 20) ^
	    (unsigned)side * 91);
}

struct flow {
	struct socket *so;
	uint64_t sent, rcvd, total;
	int side;
	bool shut, eof;
};

static void
flow_send(struct flow *f)
{
	uint8_t buf[20000];

	while (f->sent < f->total) {
		size_t n = sizeof(buf);
		long k;

		if (n > f->total - f->sent) {
			n = f->total - f->sent;
		}
		for (size_t i = 0; i < n; i++) {
			buf[i] = pattern(f->sent + i, f->side);
		}
		k = bsd_send(f->so, buf, n, MSG_DONTWAIT, NULL, 0);
		if (k == -EAGAIN) {
			return;
		}
		CHECK(k > 0);
		f->sent += (uint64_t)k;
	}
	if (!f->shut) {
		f->shut = true;
		CHECK_EQ(bsd_shutdown(f->so, SHUT_WR), 0);
	}
}

static void
flow_recv(struct flow *f)
{
	uint8_t buf[20000];
	long k;

	while (!f->eof) {
		k = bsd_recv(f->so, buf, sizeof(buf), MSG_DONTWAIT, NULL, 0);
		if (k == -EAGAIN) {
			return;
		}
		CHECK(k >= 0);
		if (k == 0) {
			f->eof = true;
			return;
		}
		for (long i = 0; i < k; i++) {
			CHECK_EQ(buf[i],
			    pattern(f->rcvd + (uint64_t)i, !f->side));
		}
		f->rcvd += (uint64_t)k;
	}
}

struct outcome {
	uint64_t when, sent[2], rexmt[2], timeouts[2];
};

static struct outcome
transfer(uint64_t seed, uint32_t caps, unsigned mtu,
    const struct nic_fault *fault, uint64_t total, const char *knob)
{
	struct tcpnet tn;
	struct flow f[2] = { { .side = 0, .total = total },
		{ .side = 1, .total = total } };
	struct outcome out;
	uint64_t start, end;

	tn_init(&tn, seed, caps, mtu, fault);
	for (int i = 0; i < 2 && knob != NULL; i++) {
		CHECK_EQ(bsd_sysctl_set(tn.tn_s[i], knob, 0), 0);
	}
	tn_pair(&tn, &f[0].so, &f[1].so);
	start = tn.tn_now;
	end = start + 3600 * TN_SEC;
	while (!f[0].eof || !f[1].eof) {
		for (int i = 0; i < 2; i++) {
			flow_send(&f[i]);
			flow_recv(&f[i]);
		}
		CHECK(tn_step(&tn, end));
	}
	for (int i = 0; i < 2; i++) {
		CHECK_EQ(f[i].rcvd, total);
		out.sent[i] = tn_stat(tn.tn_s[i], "tcp.sndtotal");
		out.rexmt[i] = tn_stat(tn.tn_s[i], "tcp.sndrexmitpack");
		out.timeouts[i] = tn_stat(tn.tn_s[i], "tcp.rexmttimeo");
		CHECK_EQ(bsd_close(f[i].so), 0);
	}
	out.when = tn.tn_now - start;
	tn_sleep(&tn, 300 * TN_SEC);
	for (int i = 0; i < 2; i++) {
		struct bsd_memstat ms;

		bsd_memstat(tn.tn_s[i], &ms);
		CHECK_EQ(ms.sockets, 0);
	}
	tn_free(&tn);
	printf("  %.3f s, sent %lu %lu, again %lu %lu, timeouts %lu %lu\n",
	    (double)out.when / 1e9, out.sent[0], out.sent[1], out.rexmt[0],
	    out.rexmt[1], out.timeouts[0], out.timeouts[1]);
	return out;
}

int
main(void)
{
	struct nic_fault clean = { .delay_ns = 5 * TN_MS };
	struct nic_fault bad = { .delay_ns = 10 * TN_MS,
		.loss = 0.01,
		.reorder = 0.01,
		.reorder_gap_ns = 3 * TN_MS,
		.dup = 0.01 };
	struct nic_fault awful = { .delay_ns = 20 * TN_MS,
		.loss = 0.1,
		.jitter_ns = 5 * TN_MS,
		.corrupt = 0.01 };
	struct nic_fault far = { .delay_ns = 50 * TN_MS };
	struct nic_fault narrow = {
		.delay_ns = 10 * TN_MS, .rate_bps = 100000000, .queue_pkts = 50
	};
	struct outcome a, b;

	/* A queue far shorter than the path: losses are many at a time, and
	 * are not repaired in bursts that lose again (RFC 6937). */
	a = transfer(20, 0, 1500, &narrow, 5 << 20, NULL);
	CHECK(a.when < 2 * TN_SEC);
	CHECK(a.rexmt[0] + a.rexmt[1] < 4000);
	CHECK_EQ(a.timeouts[0] + a.timeouts[1], 0);

	/* A long fat path: buffers and windows grow to fill it. */
	a = transfer(10, ~0u, 1500, &far, 40 << 20, NULL);
	CHECK(a.when < 5 * TN_SEC);
	CHECK_EQ(a.rexmt[0] + a.rexmt[1], 0);
	(void)transfer(1, ~0u, 1500, &clean, 10 << 20, NULL);
	(void)transfer(2, 0, 1500, &clean, 10 << 20, NULL);
	a = transfer(3, 0, 1500, &bad, 10 << 20, NULL);
	b = transfer(3, 0, 1500, &bad, 10 << 20, NULL);
	CHECK(memcmp(&a, &b, sizeof(a)) == 0);
	(void)transfer(4, ~0u, 1500, &bad, 10 << 20, NULL);
	(void)transfer(5, 0, 1500, &bad, 2 << 20, "net.inet.tcp.sack");
	(void)transfer(6, 0, 1500, &bad, 2 << 20, "net.inet.tcp.timestamps");
	(void)transfer(7, 0, 1500, &bad, 1 << 20, "net.inet.tcp.window_scaling");
	(void)transfer(8, 0, 9000, &bad, 4 << 20, "net.inet.tcp.cc");
	(void)transfer(9, 0, 576, &awful, 256 << 10, NULL);
	return 0;
}
