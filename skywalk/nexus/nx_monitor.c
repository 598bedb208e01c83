/*
 * nx_monitor.c - a tap of another channel's rings; see nx_monitor.h.
 */
#include "skywalk/nexus/nx_monitor.h"

#include <errno.h>

int
sk_monitor(struct channel *target, struct channel *tap, int dirs)
{
	struct channel *none = NULL;

	if (target == tap || (dirs & ~(SK_TX | SK_RX)) != 0 || dirs == 0) {
		return -EINVAL;
	}
	channel_hold(tap);
	atomic_store_explicit(&tap->ch_tapdirs, dirs, memory_order_relaxed);
	if (!atomic_compare_exchange_strong_explicit(&target->ch_tap, &none,
		tap, memory_order_release, memory_order_relaxed)) {
		channel_drop(tap);
		return -EBUSY;
	}
	return 0;
}

/* The pieces of a packet: ours when it is being given, else the other's. */
static int
pieces(struct channel *ch, int dir, uint32_t idx, uint32_t len,
    struct iovec *iov)
{
	int n = 0;

	if (dir == SK_TX) {
		return channel_tx_iov(ch, idx, len, iov);
	}
	for (uint32_t f = 0; f < SK_MAX_FRAGS; f++) {
		uint32_t piece;
		const unsigned char *data = sk_packet_frag(ch, idx, f, &piece);

		if (data == NULL) {
			break;
		}
		iov[n++] = (struct iovec){
			.iov_base = (void *)(uintptr_t)data,
			.iov_len = piece,
		};
	}
	return n;
}

void
monitor_copy(struct channel *ch, int dir, uint32_t idx, uint32_t len,
    const struct sk_meta *meta)
{
	struct channel *tap = atomic_load(&ch->ch_tap);
	struct sk_meta m = { 0 };
	struct iovec iov[SK_MAX_FRAGS];
	int n;

	if ((atomic_load_explicit(&tap->ch_tapdirs, memory_order_relaxed) &
		dir) == 0) {
		return;
	}
	n = pieces(ch, dir, idx, len, iov);
	if (meta != NULL) {
		m = *meta;
	}
	m.spare = (uint8_t)dir;
	/* The two directions of the channel may be two threads. */
	pthread_mutex_lock(&tap->ch_taplock);
	if (channel_sendv(tap, iov, n, len, &m) <= 0) {
		stat_add(&tap->ch_tapdropped, 1);
	}
	pthread_mutex_unlock(&tap->ch_taplock);
}
