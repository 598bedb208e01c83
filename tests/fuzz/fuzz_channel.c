/*
 * The half of a channel that the other end writes, with anything in it: each
 * word may change between any two calls of this end. However it ends, no access
 * leaves the mapping, and this end's packets are all accounted for.
 *
 * Input: records of [operation][a][b]; some read bytes behind them. Byte 0 of
 * the input chooses the parameters.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "nic/pkt.h"
#include "nic/port.h"
#include "skywalk/channel/channel_var.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct world {
	struct channel *good, *bad;
	struct sk_batch held;
	const uint8_t *in;
	size_t left;
};

static void
must(int cond, const char *what)
{
	if (!cond) {
		fprintf(stderr, "fuzz_channel: %s\n", what);
		abort();
	}
}

static uint8_t
next(struct world *w)
{
	if (w->left == 0) {
		return 0;
	}
	w->left--;
	return *w->in++;
}

static void
open_both(struct world *w, const struct sk_params *p)
{
	struct sk_attach a[2];

	must(sk_arena_create(p, a[0].memfd) == 0, "memory");
	for (int i = 0; i < 4; i++) {
		a[0].bell[i] = eventfd(0, EFD_NONBLOCK);
	}
	for (int i = 0; i < 2; i++) {
		a[1].memfd[i] = dup(a[0].memfd[i]);
	}
	for (int i = 0; i < 4; i++) {
		a[1].bell[i] = dup(a[0].bell[i]);
	}
	for (int i = 0; i < 2; i++) {
		a[i].side = i;
		a[i].control = a[i].pidfd = -1;
	}
	must(sk_channel_attach(p, &a[0], &w->good) == 0, "this end");
	must(sk_channel_attach(p, &a[1], &w->bad) == 0, "the other end");
}

/* One of the other end's words. */
static void
scribble(struct world *w)
{
	struct skmem_half *h = w->bad->ch_our;
	uint8_t *region[] = { (uint8_t *)h->hf_heads, (uint8_t *)h->hf_txsd,
		(uint8_t *)h->hf_fsd, (uint8_t *)h->hf_umd,
		(uint8_t *)h->hf_ubft, (uint8_t *)h->hf_esd,
		(uint8_t *)h->hf_schema, (uint8_t *)h->hf_flowadv };
	uint8_t where = next(w), at = next(w), len = next(w) % 16;

	for (uint8_t i = 0; i <= len; i++) {
		region[where % 8][at * 4u + i] = next(w);
	}
}

static void
release(struct world *w)
{
	sk_release(w->good, w->held.idx, w->held.n);
	w->held.n = 0;
}

static void
receive(struct world *w)
{
	unsigned sum = 0;

	release(w);
	if (sk_receive(w->good, &w->held, next(w)) <= 0) {
		w->held.n = 0;
	}
	for (uint32_t i = 0; i < w->held.n; i++) {
		uint32_t total = 0, len;

		for (uint32_t f = 0; f < w->held.nfrags[i]; f++) {
			const unsigned char *piece =
			    sk_packet_frag(w->good, w->held.idx[i], f, &len);

			must(piece != NULL, "a piece");
			for (uint32_t k = 0; k < len; k++) {
				sum += piece[k];
			}
			total += len;
		}
		must(total == w->held.len[i], "pieces do not add up");
	}
	must(sum != 1u << 31, "never");
}

static void
step(struct world *w)
{
	static const unsigned char payload[1024];
	unsigned char out[4096];
	uint32_t len[4];
	struct sk_event ev;

	switch (next(w) % 10) {
	case 0:
	case 1:
	case 2:
		scribble(w);
		break;
	case 3:
		(void)sk_send(w->bad, payload, next(w) * 2u, NULL);
		break;
	case 4:
		(void)sk_send(w->good, payload, next(w) * 2u, NULL);
		break;
	case 5:
		receive(w);
		break;
	case 6:
		release(w);
		(void)sk_receive_copy(w->good, out, sizeof(out), len, 4);
		break;
	case 7:
		(void)sk_channel_arm(w->good, next(w) % 2 ? SK_TX : SK_RX);
		break;
	case 8:
		(void)sk_channel_sync(w->good, SK_TX | SK_RX);
		(void)sk_event_next(w->good, &ev);
		(void)sk_flow_admissible(w->good, next(w));
		break;
	default: /* the other end as it should be */
		(void)sk_receive_copy(w->bad, out, sizeof(out), len, 4);
		break;
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct world w = { .in = data, .left = size };
	struct sk_params p = { .slots = 8,
		.packets = 12,
		.buffer = 128,
		.buflets = 6,
		.events = 4,
		.flowadv = 4 };
	struct sk_stats st;

	p.max_frags = 1u + next(&w) % 4;
	must(sk_params_check(&p) == 0, "parameters");
	open_both(&w, &p);
	while (w.left > 0) {
		step(&w);
	}
	release(&w);
	if (sk_channel_sync(w.good, SK_TX) != 0) {
		sk_channel_stats(w.good, &st);
		must(st.free == p.packets && st.given == 0, "packets are lost");
	}
	sk_channel_stats(w.good, &st);
	must(st.free + st.given + st.held == p.packets, "packets are lost");
	must(st.lent == 0, "packets are kept");
	sk_channel_free(w.good);
	sk_channel_free(w.bad);
	return 0;
}
