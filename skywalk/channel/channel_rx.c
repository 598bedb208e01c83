/*
 * channel_rx.c - packets that the other end has given.
 *
 * What it wrote is hostile. A slot and the metadata behind it are copied once
 * (internalized), checked in the copy, and never read again; afterwards only
 * payload is read from its memory. A packet that it did not finalize is dropped
 * and given back; whatever else does not hold ends this channel with the
 * reason, and nothing but this channel.
 */
#include <errno.h>
#include <string.h>

#include "skywalk/channel/channel_var.h"
#include "skywalk/nexus/nx_monitor.h"

#define RX_DROPPED SK_CLOSED /* of rx_internalize: not finalized */

/* Read shared memory once: the compiler may not go back to it. */
static void
copy_once(void *to, const void *from, size_t len)
{
	memcpy(to, from, len);
	atomic_signal_fence(memory_order_seq_cst);
}

static bool
bft_held(struct channel *ch, uint32_t b)
{
	return atomic_load_explicit(&ch->ch_kbft[b].kb_held,
	    memory_order_relaxed);
}

static void
bft_hold(struct channel *ch, uint32_t b, bool on)
{
	atomic_store_explicit(&ch->ch_kbft[b].kb_held, on, memory_order_relaxed);
}

/* Further buflets of a packet: in range, no one twice, of the right total. */
static enum sk_reason
rx_chain(struct channel *ch, struct sk_kmd *km, uint32_t left)
{
	const uint32_t size = ch->ch_params.buffer;
	uint32_t b = km->km_next;

	for (uint32_t i = 1; i < km->km_nfrags; i++) {
		struct sk_buflet bf;
		struct sk_kbft *kb;

		if (b >= ch->ch_params.buflets || bft_held(ch, b)) {
			return SK_BAD_BUFLET_CHAIN;
		}
		copy_once(&bf, &ch->ch_its->hf_ubft[b], sizeof(bf));
		if (bf.bf_idx != b) {
			return SK_BAD_BUFLET_CHAIN;
		}
		if (bf.bf_off > size || bf.bf_len > size - bf.bf_off ||
		    bf.bf_len > left) {
			return SK_INTERNALIZE_FAILED;
		}
		left -= bf.bf_len;
		kb = &ch->ch_kbft[b];
		kb->kb_next = bf.bf_next;
		kb->kb_off = bf.bf_off;
		kb->kb_len = bf.bf_len;
		bft_hold(ch, b, true);
		b = bf.bf_next;
	}
	if (b != SK_NONE) {
		return SK_BAD_BUFLET_CHAIN;
	}
	return left == 0 ? SK_ACTIVE : SK_INTERNALIZE_FAILED;
}

static enum sk_reason
rx_internalize(struct channel *ch, const struct sk_slot *sd,
    struct sk_meta *meta)
{
	const uint32_t size = ch->ch_params.buffer;
	struct sk_umd um;
	struct sk_kmd *km;

	if (sd->sd_idx >= ch->ch_params.packets ||
	    atomic_load_explicit(&ch->ch_held[sd->sd_idx],
		memory_order_relaxed) != 0) {
		return SK_UNALLOCATED_PKT;
	}
	copy_once(&um, &ch->ch_its->hf_umd[sd->sd_idx], sizeof(um));
	if (um.um_idx != sd->sd_idx) {
		return SK_QUM_IDX_MISMATCH;
	}
	if ((um.um_flags & UMD_FINALIZED) == 0) {
		return RX_DROPPED;
	}
	if (um.um_nfrags == 0 || um.um_nfrags > ch->ch_params.max_frags) {
		return SK_BAD_BUFLET_CHAIN;
	}
	if (um.um_len != sd->sd_len || um.um_off > size ||
	    um.um_flen > size - um.um_off || um.um_flen > um.um_len) {
		return SK_INTERNALIZE_FAILED;
	}
	km = &ch->ch_kmd[sd->sd_idx];
	*km = (struct sk_kmd){
		.km_len = um.um_len,
		.km_nfrags = um.um_nfrags,
		.km_off = um.um_off,
		.km_flen = um.um_flen,
		.km_next = um.um_next,
	};
	*meta = um.um_meta;
	return rx_chain(ch, km, um.um_len - um.um_flen);
}

/* Hand packets back through the FREE ring. */
static void
rx_give_back(struct channel *ch, const uint32_t *idx, uint32_t n)
{
	struct channel_ring *kr = &ch->ch_free;
	enum sk_reason why = SK_ACTIVE;

	if (ring_avail(kr) < n) {
		why = ring_prologue(kr);
		if (why == SK_ACTIVE && ring_avail(kr) < n) {
			/* The ring can hold all packets there are, so it
			 * gave one again that it had not taken back. */
			why = SK_UNALLOCATED_PKT;
		}
	}
	if (why != SK_ACTIVE) {
		channel_end(ch, why);
		return;
	}
	for (uint32_t i = 0; i < n; i++) {
		ch->ch_our->hf_fsd[kr->kr_head] = idx[i];
		ring_advance(kr);
	}
	ring_publish(kr);
	channel_bell(ch, DIR_TX);
}

/* One packet is no longer here. False: it was not. */
static bool
rx_unhold(struct channel *ch, uint32_t idx)
{
	struct sk_kmd *km;
	uint32_t b;

	if (idx >= ch->ch_params.packets ||
	    atomic_load_explicit(&ch->ch_held[idx], memory_order_relaxed) == 0) {
		return false;
	}
	km = &ch->ch_kmd[idx];
	b = km->km_next;
	for (uint32_t i = 1; i < km->km_nfrags; i++) {
		bft_hold(ch, b, false);
		b = ch->ch_kbft[b].kb_next;
	}
	atomic_store_explicit(&ch->ch_held[idx], 0, memory_order_relaxed);
	atomic_fetch_sub_explicit(&ch->ch_lent, 1, memory_order_relaxed);
	return true;
}

void
sk_release(struct channel *ch, const uint32_t *idx, uint32_t n)
{
	uint32_t back[SK_BATCH], k;

	pthread_mutex_lock(&ch->ch_freelock);
	for (uint32_t i = 0; i < n;) {
		for (k = 0; k < SK_BATCH && i < n; i++) {
			if (rx_unhold(ch, idx[i])) {
				back[k++] = idx[i];
			}
		}
		if (k > 0 && !channel_over(ch)) {
			rx_give_back(ch, back, k);
		}
	}
	pthread_mutex_unlock(&ch->ch_freelock);
}

/* Column entries for a packet just internalized. */
static void
rx_lend(struct channel *ch, struct sk_batch *b, uint32_t idx)
{
	const struct sk_kmd *km = &ch->ch_kmd[idx];
	uint32_t i = b->n++;

	atomic_store_explicit(&ch->ch_held[idx], 1, memory_order_relaxed);
	b->idx[i] = idx;
	b->len[i] = km->km_len;
	b->first[i] = km->km_flen;
	b->nfrags[i] = km->km_nfrags;
	b->data[i] =
	    skmem_buffer(ch->ch_arena, 1 - ch->ch_side, idx) + km->km_off;
	monitor_tap(ch, SK_RX, idx, km->km_len, &b->meta[i]);
}

/* Take up to n packets from the ring into b. SK_ACTIVE, or what is wrong with
 * the next one. */
static enum sk_reason
rx_take(struct channel *ch, struct sk_batch *b, uint32_t n)
{
	struct channel_ring *kr = &ch->ch_rx;
	enum sk_reason why = SK_ACTIVE;

	for (; n > 0; n--) {
		struct sk_slot sd;

		copy_once(&sd, &ch->ch_its->hf_txsd[kr->kr_head], sizeof(sd));
		why = rx_internalize(ch, &sd, &b->meta[b->n]);
		if (why == RX_DROPPED) {
			stat_add(&ch->ch_rxdropped, 1);
			pthread_mutex_lock(&ch->ch_freelock);
			rx_give_back(ch, &sd.sd_idx, 1);
			pthread_mutex_unlock(&ch->ch_freelock);
			why = SK_ACTIVE;
		} else if (why == SK_ACTIVE) {
			rx_lend(ch, b, sd.sd_idx);
		} else {
			break;
		}
		ring_advance(kr);
	}
	return why;
}

/* Packets in the ring after a look at it, at most n; -ENXIO. */
static int
rx_look(struct channel *ch, uint32_t n)
{
	struct channel_ring *kr = &ch->ch_rx;
	enum sk_reason why, gone;

	if (channel_over(ch)) {
		return -ENXIO;
	}
	if (ring_avail(kr) < n) {
		/* Before the ring: what it sent, it sent before it went. */
		gone = channel_gone(ch);
		why = ring_prologue(kr);
		if (why == SK_ACTIVE && ring_avail(kr) == 0) {
			why = gone;
		}
		if (why != SK_ACTIVE) {
			channel_end(ch, why);
			return -ENXIO;
		}
	}
	return (int)(ring_avail(kr) < n ? ring_avail(kr) : n);
}

int
sk_receive(struct channel *ch, struct sk_batch *b, uint32_t max)
{
	enum sk_reason why;
	uint64_t bytes = 0;
	int n = rx_look(ch, max < SK_BATCH ? max : SK_BATCH);

	b->n = 0;
	if (n <= 0) {
		return n;
	}
	why = rx_take(ch, b, (uint32_t)n);
	if (why != SK_ACTIVE && b->n == 0) {
		channel_end(ch, why);
		return -ENXIO;
	}
	atomic_fetch_add_explicit(&ch->ch_lent, b->n, memory_order_relaxed);
	for (uint32_t i = 0; i < b->n; i++) {
		bytes += b->len[i];
	}
	stat_add(&ch->ch_rxpkts, b->n);
	stat_add(&ch->ch_rxbytes, bytes);
	ring_publish(&ch->ch_rx);
	channel_bell(ch, DIR_TX);
	return (int)b->n;
}

uint32_t
sk_rx_pending(struct channel *ch)
{
	int n = rx_look(ch, ch->ch_rx.kr_mask);

	return n > 0 ? (uint32_t)n : 0;
}

bool
channel_rx_ready(struct channel *ch)
{
	struct channel_ring *ev = &ch->ch_evrx;
	enum sk_reason why;

	if (rx_look(ch, 1) > 0) {
		return true;
	}
	if (channel_over(ch)) {
		return false;
	}
	if (ring_avail(ev) == 0 && (why = ring_prologue(ev)) != SK_ACTIVE) {
		channel_end(ch, why);
	}
	return ring_avail(ev) > 0;
}

const unsigned char *
sk_packet_frag(struct channel *ch, uint32_t idx, uint32_t f, uint32_t *len)
{
	const struct sk_kmd *km;
	const struct sk_kbft *kb;
	uint32_t b;

	if (idx >= ch->ch_params.packets ||
	    atomic_load_explicit(&ch->ch_held[idx], memory_order_relaxed) == 0 ||
	    f >= ch->ch_kmd[idx].km_nfrags) {
		return NULL;
	}
	km = &ch->ch_kmd[idx];
	if (f == 0) {
		*len = km->km_flen;
		return skmem_buffer(ch->ch_arena, 1 - ch->ch_side, idx) +
		    km->km_off;
	}
	for (b = km->km_next; f > 1; f--) {
		b = ch->ch_kbft[b].kb_next;
	}
	kb = &ch->ch_kbft[b];
	*len = kb->kb_len;
	return skmem_buffer(ch->ch_arena, 1 - ch->ch_side,
		   ch->ch_params.packets + b) +
	    kb->kb_off;
}

/* All pieces of packet i of b to *to. */
static unsigned char *
rx_copyout(struct channel *ch, const struct sk_batch *b, uint32_t i,
    unsigned char *to)
{
	memcpy(to, b->data[i], b->first[i]);
	to += b->first[i];
	for (uint32_t f = 1; f < b->nfrags[i]; f++) {
		uint32_t len;
		const unsigned char *data =
		    sk_packet_frag(ch, b->idx[i], f, &len);

		memcpy(to, data, len);
		to += len;
	}
	return to;
}

int
sk_receive_copy(struct channel *ch, unsigned char *buf, size_t size,
    uint32_t *len, uint32_t max)
{
	const size_t most =
	    (size_t)ch->ch_params.buffer * ch->ch_params.max_frags;
	struct sk_batch b;
	unsigned char *to = buf;
	int n;

	/* Only as many as certainly fit. */
	if (size < most) {
		return -EMSGSIZE;
	}
	if (max > size / most) {
		max = (uint32_t)(size / most);
	}
	n = sk_receive(ch, &b, max);
	for (int i = 0; i < n; i++) {
		to = rx_copyout(ch, &b, (uint32_t)i, to);
		len[i] = b.len[i];
	}
	if (n > 0) {
		stat_add(&ch->ch_rxcopied, (uint64_t)(to - buf));
		sk_release(ch, b.idx, (uint32_t)n);
	}
	return n;
}

int
sk_event_next(struct channel *ch, struct sk_event *ev)
{
	struct channel_ring *kr = &ch->ch_evrx;
	enum sk_reason why = SK_ACTIVE;

	if (channel_over(ch)) {
		return -ENXIO;
	}
	if (ring_avail(kr) == 0) {
		why = ring_prologue(kr);
	}
	if (why != SK_ACTIVE) {
		channel_end(ch, why);
		return -ENXIO;
	}
	if (ring_avail(kr) == 0) {
		return 0;
	}
	copy_once(ev, &ch->ch_its->hf_esd[kr->kr_head], sizeof(*ev));
	ring_advance(kr);
	ring_publish(kr);
	return 1;
}

/* ---- Lending ---- */

struct sk_lend *
sk_lend_receive(struct channel *ch, uint32_t max, int *error)
{
	struct sk_lend *l = skmem_cache_alloc(&ch->ch_lends);
	int n;

	if (l == NULL) {
		*error = -ENOMEM;
		return NULL;
	}
	n = sk_receive(ch, &l->l_batch, max);
	if (n <= 0) {
		*error = n;
		skmem_cache_free(&ch->ch_lends, l);
		return NULL;
	}
	channel_hold(ch);
	l->l_ch = ch;
	*error = 0;
	return l;
}

const struct sk_batch *
sk_lend_batch(const struct sk_lend *l)
{
	return &l->l_batch;
}

const unsigned char *
sk_lend_frag(const struct sk_lend *l, uint32_t i, uint32_t f, uint32_t *len)
{
	if (i >= l->l_batch.n) {
		return NULL;
	}
	return sk_packet_frag(l->l_ch, l->l_batch.idx[i], f, len);
}

void
sk_lend_drop(struct sk_lend *l)
{
	struct channel *ch = l->l_ch;

	sk_release(ch, l->l_batch.idx, l->l_batch.n);
	skmem_cache_free(&ch->ch_lends, l);
	channel_drop(ch);
}
