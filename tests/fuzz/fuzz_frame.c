/*
 * Whole frames into a stack with a listener, a connection and UDP sockets,
 * time moving between them.
 *
 * Input: records of [length 2][time step 1][bytes]. Byte 0 of the first
 * record chooses whether checksums are verified. When they are not, the IPv4
 * and ICMP checksums are made right, and the segment that an ICMP error quotes
 * gets the sequence number of our last one, so that inputs get past the door.
 * A destination address that begins with 0 becomes the interface's.
 * After the last record the stack is closed and its pools must be empty.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "bsdcore/api.h"
#include "nic/api.h"

#define MSEC 1000000ull
#define TRUST 0xfffu /* every PORT_* capability: checksums count as verified */

static void
must(int cond, const char *what)
{
	if (!cond) {
		fprintf(stderr, "fuzz_frame: %s\n", what);
		abort();
	}
}

struct host {
	struct stack *stack;
	struct port *wire;
	struct pkt_pool *pool;
	struct socket *so[4];
	uint8_t mac[6];
	uint32_t seq; /* of the last segment the stack sent, as it was sent */
	uint64_t now;
};

static struct bsd_addr
addr4(unsigned char last, unsigned short port)
{
	struct bsd_addr a = {
		.family = AF_INET, .port = port, .addr = { 10, 0, 0, last }
	};

	return a;
}

static void
host_open(struct host *h, uint32_t caps)
{
	struct bsd_config cfg = { .name = "fuzz",
		.seed = { 1, 2, 3, 4 },
		.virtual_time = 1,
		.start_time = 1000 * MSEC,
		.mem_limit = 16 << 20 };
	struct bsd_addr me = addr4(1, 0), any = { .family = AF_INET };
	struct bsd_addr peer = addr4(2, 4242);
	unsigned char mac[6] = { 2, 0, 0, 0, 0, 0x99 };
	struct nic_info info;
	struct port *mine;
	int i;

	h->pool = nic_pool_new(32 << 20);
	must(nic_feth_open(h->pool, h->pool, 0, 1500, 256, caps, 0, &mine,
		 &h->wire) == 0,
	    "feth");
	nic_info(mine, &info);
	memcpy(h->mac, info.mac, 6);
	must(bsd_stack_new(&cfg, &h->stack) == 0, "stack");
	i = bsd_if_attach(h->stack, mine, "en0");
	must(i > 0, "attach");
	must(bsd_if_flags(h->stack, (unsigned)i, BSD_IFF_UP, 0) == 0, "up");
	must(bsd_if_addaddr(h->stack, (unsigned)i, &me, 24) == 0, "address");
	(void)bsd_arp_add(h->stack, (unsigned)i, &peer, mac);
	must(bsd_socket(h->stack, AF_INET, SOCK_STREAM, 0, &h->so[0]) == 0,
	    "socket");
	any.port = 80;
	must(bsd_bind(h->so[0], &any) == 0, "bind");
	must(bsd_listen(h->so[0], 4) == 0, "listen");
	must(bsd_socket(h->stack, AF_INET, SOCK_DGRAM, 0, &h->so[1]) == 0,
	    "socket");
	any.port = 53;
	must(bsd_bind(h->so[1], &any) == 0, "bind");
	must(bsd_socket(h->stack, AF_INET, SOCK_STREAM, 0, &h->so[2]) == 0,
	    "socket");
	any.port = 999;
	must(bsd_bind(h->so[2], &any) == 0, "bind");
	(void)bsd_connect(h->so[2], &peer, 0);
	h->now = cfg.start_time;
}

/* Read everything, so that buffers move. */
static void
host_read(struct host *h)
{
	char buf[2048];
	struct socket *child;

	while (bsd_recv(h->so[1], buf, sizeof(buf), MSG_DONTWAIT, NULL, 0) > 0) {
	}
	if (bsd_recv(h->so[2], buf, sizeof(buf), MSG_DONTWAIT, NULL, 0) > 0) {
		(void)bsd_send(h->so[2], buf, 100, MSG_DONTWAIT, NULL, 0);
	}
	while (bsd_accept(h->so[0], 0, &child, NULL) == 0) {
		(void)bsd_send(child, buf, 10, MSG_DONTWAIT, NULL, 0);
		if (h->so[3] != NULL) {
			(void)bsd_close(h->so[3]);
		}
		h->so[3] = child;
	}
	if (h->so[3] != NULL) {
		(void)bsd_recv(h->so[3], buf, sizeof(buf), MSG_DONTWAIT, NULL,
		    0);
	}
}

/* Drop what the stack says, but for a sequence number. */
static void
host_drain(struct host *h)
{
	uint8_t buf[70000];
	long n;

	while ((n = nic_recv(h->wire, buf, sizeof(buf), h->now)) > 0) {
		if (n >= 54 && buf[12] == 8 && buf[14] == 0x45 &&
		    buf[23] == 6 && buf[34] == 999 >> 8) {
			memcpy(&h->seq, buf + 38, 4);
		}
	}
}

static void
host_close(struct host *h)
{
	struct nic_pool_stats st;

	for (int i = 0; i < 4; i++) {
		if (h->so[i] != NULL) {
			(void)bsd_close(h->so[i]);
		}
	}
	bsd_stack_free(h->stack);
	nic_close(h->wire);
	nic_pool_stats(h->pool, &st);
	must(st.active == 0, "packets were never given back");
	nic_pool_free(h->pool);
}

static uint16_t
sum16(const uint8_t *p, size_t n)
{
	uint32_t sum = 0;

	for (size_t i = 0; i < n; i++) {
		sum += i & 1 ? p[i] : (uint32_t)p[i] << 8;
		sum = (sum & 0xffff) + (sum >> 16);
	}
	return (uint16_t)sum;
}

static void
fix_icmp(const struct host *h, uint8_t *icmp, size_t len)
{
	uint16_t sum;

	if (len < 8) {
		return;
	}
	if (len >= 36 && icmp[0] != 8 && icmp[8] == 0x45 && icmp[17] == 6) {
		memcpy(icmp + 32, &h->seq, 4);
	}
	icmp[2] = icmp[3] = 0;
	sum = (uint16_t)~sum16(icmp, len);
	icmp[2] = (uint8_t)(sum >> 8);
	icmp[3] = (uint8_t)sum;
}

static void
fix_ip(const struct host *h, uint8_t *f, size_t len)
{
	uint16_t sum;
	size_t hl;

	if (len < 34 || f[12] != 8 || f[13] != 0) {
		return;
	}
	hl = (size_t)(f[14] & 15) * 4;
	if (hl < 20 || 14 + hl > len) {
		return;
	}
	if (f[23] == 1) {
		fix_icmp(h, f + 14 + hl, len - 14 - hl);
	}
	f[24] = f[25] = 0;
	sum = (uint16_t)~sum16(f + 14, hl);
	f[24] = (uint8_t)(sum >> 8);
	f[25] = (uint8_t)sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct host h = { .stack = NULL };
	int trust = size > 0 && (data[0] & 1);

	host_open(&h, trust ? TRUST : 0);
	while (size >= 3) {
		size_t len = (size_t)(data[0] << 8 | data[1]) % 1600;
		uint64_t step = data[2];
		uint8_t frame[1600];

		data += 3;
		size -= 3;
		len = len < size ? len : size;
		memcpy(frame, data, len);
		data += len;
		size -= len;
		if (len >= 6 && frame[0] == 0) {
			memcpy(frame, h.mac, 6);
		}
		if (trust) {
			fix_ip(&h, frame, len);
		}
		if (len > 0) {
			(void)nic_send(h.wire, frame, len, h.now);
		}
		h.now += step * step * step * MSEC / 50;
		(void)bsd_run(h.stack, h.now);
		host_read(&h);
		host_drain(&h);
	}
	host_close(&h);
	return 0;
}
