/*
 * channel_load.c - what a user pipe carries, driven from C.
 *
 *	channel_load pps PACKETS	64-byte packets between two threads; Mpps
 *	channel_load bulk BYTES		between two processes, both ways, every
 *					word checked; MiB/s over both ways
 *	channel_load kill BYTES		the same, while one or the other of the
 *					two is killed at moments that XSOCK_SEED
 *					gives; a new pair takes over until all
 *					bytes have been received and checked
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
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

/* ---- With kills ---- */

#define KILL_PACKETS 16u /* of a burst */

/* What the pairs have done, in memory that outlives them. */
struct tally {
	_Atomic uint64_t received[2]; /* bytes checked, by side */
	atomic_int survived; /* an end saw the other die, and was whole */
};

/* Send and receive until enough is received on both sides: 1, or 0: the other
 * process is gone. */
static int
burst(struct channel *ch, int side, uint64_t amount, struct tally *tally,
    uint32_t size)
{
	uint32_t idx[KILL_PACKETS], len[KILL_PACKETS];
	uint64_t out = 0, in = 0;
	struct sk_batch b;

	while (tally->received[0] + tally->received[1] < amount) {
		int k = sk_packet_alloc(ch, idx, KILL_PACKETS), sent = 0, n;

		for (int i = 0; i < k; i++) {
			len[i] = size;
			fill((uint64_t *)(void *)sk_packet_data(ch, idx[i]),
			    size / 8, out + (uint64_t)i);
		}
		if (k > 0) {
			sent = sk_transmit(ch, idx, len, NULL, (uint32_t)k);
			sk_packet_free(ch, idx, (uint32_t)k);
		}
		out += sent > 0 ? (uint64_t)sent : 0;
		n = sk_receive(ch, &b, KILL_PACKETS);
		if (n < 0) {
			return 0;
		}
		for (int i = 0; i < n; i++) {
			must(b.len[i] == size, "a length");
			check((const uint64_t *)(const void *)b.data[i],
			    size / 8, in++);
		}
		if (n > 0) {
			sk_release(ch, b.idx, (uint32_t)n);
			tally->received[side] += (uint64_t)n * size;
		} else if (sent <= 0) {
			(void)sk_channel_wait(ch, SK_RX, 1000000);
		}
	}
	return 1;
}

/* A process that is one end. */
static pid_t
end_start(const struct sk_params *p, const struct sk_attach *both, int side,
    uint64_t amount, struct tally *tally)
{
	struct sk_attach a = both[side];
	struct sk_stats st;
	struct channel *ch;
	pid_t pid = fork();

	must(pid >= 0, "a process");
	if (pid != 0) {
		return pid;
	}
	close(both[1 - side].control);
	must(sk_channel_attach(p, &a, &ch) == 0, "a channel");
	if (!burst(ch, side, amount, tally, p->buffer)) {
		int why = sk_channel_reason(ch);

		/* It may also have reached the end before this one looked. */
		must(why == SK_PEER_DIED || why == SK_PEER_CLOSED, "a reason");
		must(sk_channel_sync(ch, SK_TX) == -ENXIO, "an end");
		sk_channel_stats(ch, &st);
		must(st.free == p->packets && st.held == 0 && st.given == 0,
		    "the pool is not whole");
		tally->survived += why == SK_PEER_DIED;
	}
	_exit(0);
}

static uint64_t
next_random(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15ull);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	return z ^ (z >> 27);
}

/* One pair, one of which is killed after some time, unless they were done. */
static void
pair_run(uint64_t amount, struct tally *tally, uint64_t *seed)
{
	struct sk_params p = { .slots = 64, .buffer = 32768 };
	uint64_t ns = next_random(seed) % 400000000;
	int victim = (int)(next_random(seed) % 2), sock[2], status;
	const struct timespec ts = { .tv_nsec = (long)ns };
	struct sk_attach a[2];
	pid_t pid[2];

	must(sk_params_check(&p) == 0, "parameters");
	must(sk_arena_create(&p, a[0].memfd) == 0, "memory");
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, sock) == 0, "a socket");
	for (int i = 0; i < 4; i++) {
		a[0].bell[i] = eventfd(0, EFD_NONBLOCK);
	}
	a[1] = a[0];
	for (int i = 0; i < 2; i++) {
		a[i].side = i;
		a[i].control = sock[i];
		a[i].pidfd = -1;
	}
	for (int i = 0; i < 2; i++) {
		pid[i] = end_start(&p, a, i, amount, tally);
	}
	for (int i = 0; i < 2; i++) {
		close(a[0].memfd[i]);
		close(sock[i]);
	}
	for (int i = 0; i < 4; i++) {
		close(a[0].bell[i]);
	}
	nanosleep(&ts, NULL);
	kill(pid[victim], SIGKILL);
	must(waitpid(pid[victim], &status, 0) == pid[victim] &&
		(status == 0 || WIFSIGNALED(status)),
	    "the one that is killed");
	must(waitpid(pid[1 - victim], &status, 0) == pid[1 - victim] &&
		status == 0,
	    "the one that survives");
}

static double
kills(uint64_t amount)
{
	const char *given = getenv("XSOCK_SEED");
	uint64_t seed = given != NULL ? strtoull(given, NULL, 0) : 20261122;
	struct tally *tally = mmap(NULL, sizeof(*tally), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	double start = seconds();
	int pairs = 0, survived;

	must(tally != MAP_FAILED, "memory");
	fprintf(stderr, "XSOCK_SEED=%llu\n", (unsigned long long)seed);
	while (tally->received[0] + tally->received[1] < amount) {
		pair_run(amount, tally, &seed);
		pairs++;
	}
	start = seconds() - start;
	amount = tally->received[0] + tally->received[1];
	survived = tally->survived;
	fprintf(stderr,
	    "%d pairs, %d ends saw the other one killed and were whole, "
	    "%llu bytes checked in %.1f s\n",
	    pairs, survived, (unsigned long long)amount, start);
	must(survived >= pairs - 1, "not every survivor was told");
	munmap(tally, sizeof(*tally));
	return (double)amount / start / (1 << 20);
}

int
main(int argc, char **argv)
{
	must(argc == 3, "usage: channel_load pps|bulk|kill AMOUNT");
	if (strcmp(argv[1], "pps") == 0) {
		printf("%.3f\n", pps(strtoull(argv[2], NULL, 0)));
	} else if (strcmp(argv[1], "kill") == 0) {
		printf("%.1f\n", kills(strtoull(argv[2], NULL, 0)));
	} else {
		printf("%.1f\n", bulk(strtoull(argv[2], NULL, 0)));
	}
	return 0;
}
