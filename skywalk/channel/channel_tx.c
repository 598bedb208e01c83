/*
 * channel_tx.c - packets on their way to the other end.
 *
 * A packet is allocated from this end's pool, filled in place, described in its
 * metadata and given by a slot of the TX ring. It comes back through the ALLOC
 * ring when the other end has released it. Nothing here reads what this end
 * wrote into shared memory: state and chains are private to the pool.
 */
#include <errno.h>
#include <string.h>

#include "skywalk/channel/channel_var.h"
#include "skywalk/nexus/nx_monitor.h"

/* Where piece f of a packet of ours begins; *next: the piece after it. */
static uint8_t *
frag_data(struct channel *ch, uint32_t idx, uint32_t bft)
{
	return skmem_buffer(ch->ch_arena, ch->ch_side,
	    bft == SK_NONE ? idx : ch->ch_params.packets + bft);
}

void
channel_reclaim(struct channel *ch)
{
	if (!ch->ch_reclaimed) {
		ch->ch_reclaimed = true;
		skmem_pool_reclaim(&ch->ch_pool);
	}
}

/* The sender finds that this end or the other is gone. */
static int
tx_ended(struct channel *ch)
{
	channel_gone(ch);
	channel_reclaim(ch);
	return -ENXIO;
}

static inline bool
tx_active(const struct channel *ch)
{
	return !channel_over(ch) && channel_peer_active(ch);
}

int
channel_tx_reap(struct channel *ch)
{
	struct channel_ring *kr = &ch->ch_alloc;
	enum sk_reason why;

	if (!tx_active(ch)) {
		return tx_ended(ch);
	}
	why = ring_prologue(kr);
	while (why == SK_ACTIVE && ring_avail(kr) > 0) {
		uint32_t idx =
		    ((volatile uint32_t *)ch->ch_its->hf_fsd)[kr->kr_head];

		if (!skmem_pool_is(&ch->ch_pool, idx, PKT_GIVEN)) {
			why = SK_UNALLOCATED_PKT;
			break;
		}
		skmem_pool_put(&ch->ch_pool, idx);
		ring_advance(kr);
	}
	if (why != SK_ACTIVE) {
		channel_end(ch, why);
		return tx_ended(ch);
	}
	if (kr->kr_pub != kr->kr_head) {
		ring_publish(kr);
	}
	return 0;
}

/* Slots for n packets, or how many there are; -ENXIO. */
static int
tx_slots(struct channel *ch, uint32_t n)
{
	struct channel_ring *kr = &ch->ch_tx;
	enum sk_reason why;

	if (ring_avail(kr) < n) {
		why = ring_prologue(kr);
		if (why != SK_ACTIVE) {
			channel_end(ch, why);
			return tx_ended(ch);
		}
	}
	n = ring_avail(kr) < n ? ring_avail(kr) : n;
	return (int)n;
}

/* Free packets, and buflets for the longest one. */
static bool
tx_stocked(const struct channel *ch, uint32_t n)
{
	const struct sk_params *p = &ch->ch_params;
	uint32_t most = p->max_frags - 1;

	most = most < p->buflets ? most : p->buflets;
	return ch->ch_pool.pl_nfree >= n && ch->ch_pool.pl_nbft >= most;
}

bool
channel_tx_ready(struct channel *ch)
{
	if (tx_slots(ch, 1) <= 0) {
		return false;
	}
	return tx_stocked(ch, 1) ||
	    (channel_tx_reap(ch) == 0 && tx_stocked(ch, 1));
}

uint32_t
sk_tx_room(struct channel *ch)
{
	int slots = tx_active(ch) ? tx_slots(ch, ch->ch_tx.kr_mask) : 0;

	if (slots <= 0) {
		return 0;
	}
	if (ch->ch_pool.pl_nfree < (uint32_t)slots && channel_tx_reap(ch) != 0) {
		return 0;
	}
	return ch->ch_pool.pl_nfree < (uint32_t)slots ? ch->ch_pool.pl_nfree :
							(uint32_t)slots;
}

int
sk_packet_alloc(struct channel *ch, uint32_t *idx, uint32_t n)
{
	uint32_t k = 0;

	if (!tx_active(ch)) {
		return tx_ended(ch);
	}
	if (ch->ch_pool.pl_nfree < n && channel_tx_reap(ch) != 0) {
		return -ENXIO;
	}
	while (k < n && ch->ch_pool.pl_nfree > 0) {
		idx[k++] = skmem_pool_alloc(&ch->ch_pool, 0);
	}
	if (k == 0 && n > 0) {
		stat_add(&ch->ch_txfull, 1);
	}
	return (int)k;
}

void
sk_packet_free(struct channel *ch, const uint32_t *idx, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		if (skmem_pool_is(&ch->ch_pool, idx[i], PKT_USER)) {
			skmem_pool_put(&ch->ch_pool, idx[i]);
		}
	}
}

unsigned char *
sk_packet_data(struct channel *ch, uint32_t idx)
{
	return idx < ch->ch_params.packets ? frag_data(ch, idx, SK_NONE) : NULL;
}

/* Describe a packet of ours and put it into the slot at our head. */
static void
tx_place(struct channel *ch, uint32_t idx, uint32_t len,
    const struct sk_meta *meta)
{
	const struct skmem_pool *pl = &ch->ch_pool;
	const uint32_t size = ch->ch_params.buffer;
	struct sk_slot *sd = &ch->ch_our->hf_txsd[ch->ch_tx.kr_head];
	struct sk_umd *um = &ch->ch_our->hf_umd[idx];
	uint32_t left = len, b = pl->pl_chain[idx];

	um->um_idx = idx;
	um->um_len = len;
	um->um_flags = UMD_FINALIZED;
	um->um_nfrags = 1;
	um->um_off = 0;
	um->um_flen = left < size ? left : size;
	um->um_next = b;
	if (meta != NULL) {
		um->um_meta = *meta;
	} else {
		memset(&um->um_meta, 0, sizeof(um->um_meta));
	}
	left -= um->um_flen;
	while (b != SK_NONE) {
		struct sk_buflet *bf = &ch->ch_our->hf_ubft[b];

		bf->bf_idx = b;
		bf->bf_off = 0;
		bf->bf_len = left < size ? left : size;
		bf->bf_next = pl->pl_bnext[b];
		left -= bf->bf_len;
		b = bf->bf_next;
		um->um_nfrags++;
	}
	sd->sd_idx = idx;
	sd->sd_len = len;
	skmem_pool_give(&ch->ch_pool, idx);
	ring_advance(&ch->ch_tx);
	monitor_tap(ch, SK_TX, idx, len, meta);
}

static void
tx_publish(struct channel *ch, uint32_t pkts, uint64_t bytes)
{
	ring_publish(&ch->ch_tx);
	stat_add(&ch->ch_txpkts, pkts);
	stat_add(&ch->ch_txbytes, bytes);
	channel_bell(ch, DIR_RX);
}

/* A packet with room for len bytes, or what stands against it: 0 for full. */
static int
tx_alloc(struct channel *ch, uint32_t len, uint32_t *idx)
{
	const uint32_t size = ch->ch_params.buffer;
	uint32_t more = len > size ? (len - 1) / size : 0;

	if (more >= ch->ch_params.max_frags || more > ch->ch_params.buflets) {
		return -EMSGSIZE;
	}
	*idx = skmem_pool_alloc(&ch->ch_pool, more);
	if (*idx == SK_NONE) {
		if (channel_tx_reap(ch) != 0) {
			return -ENXIO;
		}
		*idx = skmem_pool_alloc(&ch->ch_pool, more);
	}
	return *idx != SK_NONE;
}

int
channel_tx_begin(struct channel *ch, uint32_t len, uint32_t *idx)
{
	int result;

	if (!tx_active(ch)) {
		return tx_ended(ch);
	}
	result = tx_slots(ch, 1);
	return result > 0 ? tx_alloc(ch, len, idx) : result;
}

void
channel_tx_commit(struct channel *ch, uint32_t idx, uint32_t len,
    const struct sk_meta *meta)
{
	tx_place(ch, idx, len, meta);
	stat_add(&ch->ch_txpkts, 1);
	stat_add(&ch->ch_txbytes, len);
	stat_add(&ch->ch_txcopied, len);
}

void
channel_tx_flush(struct channel *ch)
{
	if (ch->ch_tx.kr_pub != ch->ch_tx.kr_head) {
		tx_publish(ch, 0, 0);
	}
}

int
sk_transmit(struct channel *ch, const uint32_t *idx, const uint32_t *len,
    const struct sk_meta *meta, uint32_t n)
{
	uint64_t bytes = 0;
	int room;

	if (!tx_active(ch)) {
		return tx_ended(ch);
	}
	room = tx_slots(ch, n);
	for (int i = 0; i < room; i++) {
		if (!skmem_pool_is(&ch->ch_pool, idx[i], PKT_USER) ||
		    len[i] > ch->ch_params.buffer) {
			room = i > 0 ? i : -EINVAL;
			break;
		}
		tx_place(ch, idx[i], len[i], meta != NULL ? &meta[i] : NULL);
		bytes += len[i];
	}
	if (room > 0) {
		tx_publish(ch, (uint32_t)room, bytes);
	} else if (room == 0 && n > 0) {
		stat_add(&ch->ch_txfull, 1);
	}
	return room;
}

int
channel_tx_iov(struct channel *ch, uint32_t idx, uint32_t len, struct iovec *iov)
{
	const uint32_t size = ch->ch_params.buffer;
	uint32_t b = SK_NONE;
	int n = 0;

	do {
		iov[n].iov_base = frag_data(ch, idx, b);
		iov[n].iov_len = len < size ? len : size;
		len -= (uint32_t)iov[n++].iov_len;
		b = b == SK_NONE ? ch->ch_pool.pl_chain[idx] :
				   ch->ch_pool.pl_bnext[b];
	} while (b != SK_NONE);
	return n;
}

/* Copy len bytes into a new packet and place it. 1, 0 or an error. */
static int
tx_copy(struct channel *ch, const unsigned char *data, uint32_t len)
{
	const uint32_t size = ch->ch_params.buffer;
	uint32_t idx, at, k, b = SK_NONE;
	int result = tx_alloc(ch, len, &idx);

	if (result <= 0) {
		return result;
	}
	for (at = 0; at < len || at == 0; at += k) {
		k = len - at < size ? len - at : size;
		memcpy(frag_data(ch, idx, b), data + at, k);
		b = b == SK_NONE ? ch->ch_pool.pl_chain[idx] :
				   ch->ch_pool.pl_bnext[b];
		if (b == SK_NONE) {
			break;
		}
	}
	tx_place(ch, idx, len, NULL);
	return 1;
}

/* The same from pieces. */
static int
tx_copyv(struct channel *ch, const struct iovec *iov, int n, uint32_t len,
    const struct sk_meta *meta)
{
	struct iovec to[SK_MAX_FRAGS];
	uint32_t idx, j = 0, used = 0;
	int result = tx_alloc(ch, len, &idx);

	if (result <= 0) {
		return result;
	}
	channel_tx_iov(ch, idx, len, to);
	for (int i = 0; i < n; i++) {
		size_t at = 0, k;

		while (at < iov[i].iov_len) {
			if (used == to[j].iov_len) {
				j++;
				used = 0;
			}
			k = to[j].iov_len - used;
			k = k < iov[i].iov_len - at ? k : iov[i].iov_len - at;
			memcpy((uint8_t *)to[j].iov_base + used,
			    (const uint8_t *)iov[i].iov_base + at, k);
			at += k;
			used += (uint32_t)k;
		}
	}
	tx_place(ch, idx, len, meta);
	return 1;
}

int
sk_send_batch(struct channel *ch, const unsigned char *data,
    const uint32_t *len, uint32_t n)
{
	uint64_t bytes = 0;
	int room, sent = 0, result = 1;

	if (!tx_active(ch)) {
		return tx_ended(ch);
	}
	room = tx_slots(ch, n);
	while (sent < room &&
	    (result = tx_copy(ch, data + bytes, len[sent])) > 0) {
		bytes += len[sent++];
	}
	if (sent > 0) {
		stat_add(&ch->ch_txcopied, bytes);
		tx_publish(ch, (uint32_t)sent, bytes);
		return sent;
	}
	if (n > 0 && room >= 0 && result >= 0) {
		stat_add(&ch->ch_txfull, 1);
	}
	return room < 0 ? room : result < 0 ? result : 0;
}

int
channel_sendv(struct channel *ch, const struct iovec *iov, int n, uint32_t len,
    const struct sk_meta *meta)
{
	int result;

	if (!tx_active(ch)) {
		return tx_ended(ch);
	}
	result = tx_slots(ch, 1);
	if (result > 0) {
		result = tx_copyv(ch, iov, n, len, meta);
	}
	if (result > 0) {
		stat_add(&ch->ch_txcopied, len);
		tx_publish(ch, 1, len);
	} else if (result == 0) {
		stat_add(&ch->ch_txfull, 1);
	}
	return result;
}

int
sk_send(struct channel *ch, const unsigned char *data, uint32_t len,
    const struct sk_meta *meta)
{
	struct iovec iov = { .iov_base = (void *)(uintptr_t)data,
		.iov_len = len };

	return channel_sendv(ch, &iov, 1, len, meta);
}

int
sk_event_post(struct channel *ch, const struct sk_event *ev)
{
	struct channel_ring *kr = &ch->ch_evtx;
	enum sk_reason why = SK_ACTIVE;

	if (!tx_active(ch)) {
		return tx_ended(ch);
	}
	if (ring_avail(kr) == 0) {
		why = ring_prologue(kr);
	}
	if (why != SK_ACTIVE) {
		channel_end(ch, why);
		return tx_ended(ch);
	}
	if (ring_avail(kr) == 0) {
		return 0;
	}
	ch->ch_our->hf_esd[kr->kr_head] = *ev;
	ring_advance(kr);
	ring_publish(kr);
	channel_bell(ch, DIR_RX);
	return 1;
}

int
sk_flow_advise(struct channel *ch, uint32_t flowid, unsigned flags)
{
	struct sk_flowadv *fv;

	if (ch->ch_params.flowadv == 0 || flowid == 0) {
		return -EINVAL;
	}
	fv = &ch->ch_our->hf_flowadv[flowid & (ch->ch_params.flowadv - 1)];
	atomic_store(&fv->fv_flags, flags);
	atomic_store(&fv->fv_flowid, flowid);
	channel_bell(ch, DIR_TX);
	return 0;
}

int
sk_flow_admissible(struct channel *ch, uint32_t flowid)
{
	const struct sk_flowadv *fv;

	if (ch->ch_params.flowadv == 0 || flowid == 0) {
		return -EINVAL;
	}
	if (!tx_active(ch)) {
		return -ENXIO;
	}
	fv = &ch->ch_its->hf_flowadv[flowid & (ch->ch_params.flowadv - 1)];
	if (atomic_load(&fv->fv_flowid) != flowid) {
		return -ENOENT;
	}
	return atomic_load(&fv->fv_flags) != 0 ? -ENOBUFS : 0;
}
