/*
 * channel_load.c - what a user pipe carries, driven from C.
 *
 *	channel_load pps PACKETS	64-byte packets between two threads; Mpps
 *	channel_load bulk BYTES		between two processes, both ways, every
 *					word checked; MiB/s over both ways
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "skywalk/api.h"

#define SIZE 64u
#define WAIT 10000000000

static void
must(int good, const char *what)
{
	if (!good) {
		fprintf(stderr, "channel_load: %s\n", what);
		exit(1);
	}
}

static double
seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

struct load {
	struct channel *ch;
	uint64_t amount;
};

static void *
pps_sender(void *arg)
{
	struct load *load = arg;
	static unsigned char data[SK_BATCH * SIZE];
	uint32_t len[SK_BATCH];

	for (int i = 0; i < SK_BATCH; i++) {
		len[i] = SIZE;
	}
	for (uint64_t sent = 0; sent < load->amount;) {
		uint64_t left = load->amount - sent;
		int n = sk_send_batch(load->ch, data, len,
		    left < SK_BATCH ? (uint32_t)left : SK_BATCH);

		must(n >= 0, "sending");
		sent += (uint64_t)n;
		if (n == 0) {
			must(sk_channel_wait(load->ch, SK_TX, WAIT) > 0,
			    "waiting to send");
		}
	}
	return NULL;
}

static double
pps(uint64_t amount)
{
	const struct sk_params p = { .slots = 2048 };
	struct channel *ch[2];
	struct load load = { .amount = amount };
	struct sk_batch b;
	unsigned sum = 0;
	pthread_t t;
	double start;

	must(sk_pipe_open(&p, ch) == 0, "opening");
	load.ch = ch[0];
	start = seconds();
	must(pthread_create(&t, NULL, pps_sender, &load) == 0, "a thread");
	for (uint64_t got = 0; got < amount;) {
		int n = sk_receive(ch[1], &b, SK_BATCH);

		must(n >= 0, "receiving");
		for (int i = 0; i < n; i++) {
			sum += b.data[i][0] + b.len[i];
		}
		if (n > 0) {
			sk_release(ch[1], b.idx, (uint32_t)n);
		} else {
			must(sk_channel_wait(ch[1], SK_RX, WAIT) > 0,
			    "waiting to receive");
		}
		got += (uint64_t)n;
	}
	start = seconds() - start;
	pthread_join(t, NULL);
	must(sum == (unsigned)(amount * SIZE), "what came");
	sk_channel_free(ch[0]);
	sk_channel_free(ch[1]);
	return (double)amount / start / 1e6;
}

/* Words of a packet: its number, mixed with the word's. */
static void
fill(uint64_t *words, uint32_t n, uint64_t number)
{
	for (uint32_t i = 0; i < n; i++) {
		words[i] = number * 0x9e3779b97f4a7c15ull + i;
	}
}

static void
check(const uint64_t *words, uint32_t n, uint64_t number)
{
	uint64_t wrong = 0;

	for (uint32_t i = 0; i < n; i++) {
		wrong |= words[i] ^ (number * 0x9e3779b97f4a7c15ull + i);
	}
	must(wrong == 0, "a packet is damaged");
}

/* Send amount bytes in place and receive as many. */
static void
exchange(struct channel *ch, uint64_t amount, uint32_t size)
{
	uint64_t out = 0, in = 0, packets = amount / size;
	struct sk_batch b;

	while (out < packets || in < packets) {
		uint32_t idx[SK_BATCH], len[SK_BATCH], room = 0;
		int n = 0, k;

		if (out < packets) {
			room = sk_tx_room(ch);
			room = room < 16 ? room : 16;
			room = room < packets - out ? room :
						      (uint32_t)(packets - out);
			k = sk_packet_alloc(ch, idx, room);
			must(k >= 0, "allocating");
			for (int i = 0; i < k; i++) {
				len[i] = size;
				fill((uint64_t *)(void *)sk_packet_data(ch,
					 idx[i]),
				    size / 8, out + (uint64_t)i);
			}
			must(sk_transmit(ch, idx, len, NULL, (uint32_t)k) == k,
			    "sending");
			out += (uint64_t)k;
		}
		n = sk_receive(ch, &b, 16);
		must(n >= 0 || in == packets, "receiving");
		for (int i = 0; i < n; i++) {
			must(b.len[i] == size, "a length");
			check((const uint64_t *)(const void *)b.data[i],
			    size / 8, in++);
		}
		if (n > 0) {
			sk_release(ch, b.idx, (uint32_t)n);
		} else if (room == 0 && in < packets) {
			must(sk_channel_wait(ch, SK_RX, 1000000) >= 0 ||
				in == packets,
			    "waiting");
		} else if (room == 0) {
			must(sk_channel_wait(ch, SK_TX, WAIT) > 0, "waiting");
		}
	}
}

static double
bulk(uint64_t amount)
{
	struct sk_params p = { .slots = 64, .buffer = 32768 };
	struct sk_attach a[2];
	struct channel *ch;
	int sock[2], status;
	double start;
	pid_t pid;

	must(sk_params_check(&p) == 0, "parameters");
	must(sk_arena_create(&p, a[0].memfd) == 0, "memory");
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, sock) == 0, "a socket");
	for (int i = 0; i < 4; i++) {
		a[0].bell[i] = eventfd(0, EFD_NONBLOCK);
	}
	memcpy(a[1].memfd, a[0].memfd, sizeof(a[0].memfd));
	memcpy(a[1].bell, a[0].bell, sizeof(a[0].bell));
	start = seconds();
	pid = fork();
	must(pid >= 0, "a process");
	for (int i = 0; i < 2; i++) {
		a[i].side = i;
		a[i].control = sock[i];
		a[i].pidfd = -1;
	}
	close(sock[pid == 0 ? 0 : 1]);
	must(sk_channel_attach(&p, &a[pid == 0 ? 1 : 0], &ch) == 0, "a channel");
	exchange(ch, amount / 2, p.buffer);
	if (pid == 0) {
		/* Its packets are read before it goes. */
		while (sk_channel_wait(ch, SK_RX, WAIT) > 0) {
		}
		_exit(0);
	}
	start = seconds() - start;
	sk_channel_free(ch);
	must(waitpid(pid, &status, 0) == pid && status == 0,
	    "the other process");
	return (double)amount / start / (1 << 20);
}

int
main(int argc, char **argv)
{
	must(argc == 3, "usage: channel_load pps|bulk AMOUNT");
	if (strcmp(argv[1], "pps") == 0) {
		printf("%.3f\n", pps(strtoull(argv[2], NULL, 0)));
	} else {
		printf("%.1f\n", bulk(strtoull(argv[2], NULL, 0)));
	}
	return 0;
}
