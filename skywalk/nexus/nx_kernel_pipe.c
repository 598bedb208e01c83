/*
 * nx_kernel_pipe.c - a channel whose other end is a provider's callbacks.
 *
 * The provider holds an end like any other (the kernel end) and is called
 * instead of woken: in one process by whoever publishes or releases at the
 * user's end, there and then; for a user in another process by whoever calls
 * sk_kpipe_run() when the kernel end's descriptors are readable. Callbacks of
 * one pipe never overlap.
 *
 * Order: pre_connect (which may refuse), connected, syncs, pre_disconnect,
 * disconnected.
 */
#include <errno.h>
#include <stdlib.h>

#include "skywalk/channel/channel_var.h"

#define KPIPE_RUNS 64 /* before others get a turn */

struct kpipe {
	atomic_uint kp_refs;
	pthread_mutex_t kp_lock;
	struct channel *kp_end;
	const struct sk_provider_ops *kp_ops; /* NULL: disconnected */
	void *kp_arg;
};

static void
kpipe_drop(void *arg)
{
	struct kpipe *kp = arg;

	if (atomic_fetch_sub_explicit(&kp->kp_refs, 1, memory_order_acq_rel) ==
	    1) {
		channel_drop(kp->kp_end);
		pthread_mutex_destroy(&kp->kp_lock);
		free(kp);
	}
}

static int
kpipe_sync(struct kpipe *kp)
{
	int error = -ENXIO;

	pthread_mutex_lock(&kp->kp_lock);
	if (kp->kp_ops != NULL) {
		error = kp->kp_ops->nxpi_sync_tx(kp->kp_arg, kp->kp_end);
		if (error == 0 && kp->kp_ops->nxpi_sync_rx != NULL) {
			error = kp->kp_ops->nxpi_sync_rx(kp->kp_arg, kp->kp_end);
		}
	}
	pthread_mutex_unlock(&kp->kp_lock);
	return error;
}

int
sk_kpipe_run(struct kpipe *kp)
{
	int error, rx, tx;

	for (int i = 0; i < KPIPE_RUNS; i++) {
		error = kpipe_sync(kp);
		if (error != 0) {
			return error;
		}
		rx = sk_channel_arm(kp->kp_end, SK_RX);
		tx = sk_channel_arm(kp->kp_end, SK_TX);
		if (rx < 0) {
			return rx;
		}
		/* What it left has to wait for the one that is not ready. */
		if (rx == 0 || tx == 0) {
			return 0;
		}
	}
	return 1;
}

static void
kpipe_kick(void *arg)
{
	(void)kpipe_sync(arg);
}

int
sk_kpipe_attach(struct channel *end, const struct sk_provider_ops *ops,
    void *arg, struct kpipe **out)
{
	struct kpipe *kp = calloc(1, sizeof(*kp));
	int error = kp == NULL ? -ENOMEM : 0;

	if (error == 0 && ops->nxpi_pre_connect != NULL) {
		error = ops->nxpi_pre_connect(arg, end);
	}
	if (error != 0) {
		free(kp);
		sk_channel_free(end);
		return error;
	}
	atomic_init(&kp->kp_refs, 1);
	pthread_mutex_init(&kp->kp_lock, NULL);
	kp->kp_end = end;
	kp->kp_ops = ops;
	kp->kp_arg = arg;
	if (ops->nxpi_connected != NULL) {
		ops->nxpi_connected(arg, end);
	}
	*out = kp;
	return 0;
}

int
sk_kpipe_open(const struct sk_params *p, const struct sk_provider_ops *ops,
    void *arg, struct channel **user, struct kpipe **out)
{
	struct channel *ch[2];
	int error = sk_pipe_open(p, ch);

	if (error != 0) {
		return error;
	}
	error = sk_kpipe_attach(ch[SK_SERVER], ops, arg, out);
	if (error != 0) {
		sk_channel_free(ch[SK_CLIENT]);
		return error;
	}
	atomic_fetch_add(&(*out)->kp_refs, 1);
	ch[SK_CLIENT]->ch_kick = kpipe_kick;
	ch[SK_CLIENT]->ch_unkick = kpipe_drop;
	ch[SK_CLIENT]->ch_kickarg = *out;
	*user = ch[SK_CLIENT];
	return 0;
}

struct channel *
sk_kpipe_end(struct kpipe *kp)
{
	return kp->kp_end;
}

void
sk_kpipe_close(struct kpipe *kp)
{
	const struct sk_provider_ops *ops;

	pthread_mutex_lock(&kp->kp_lock);
	ops = kp->kp_ops;
	kp->kp_ops = NULL;
	if (ops != NULL && ops->nxpi_pre_disconnect != NULL) {
		ops->nxpi_pre_disconnect(kp->kp_arg, kp->kp_end);
	}
	sk_channel_close(kp->kp_end);
	if (ops != NULL && ops->nxpi_disconnected != NULL) {
		ops->nxpi_disconnected(kp->kp_arg, kp->kp_end);
	}
	pthread_mutex_unlock(&kp->kp_lock);
	kpipe_drop(kp);
}

/* ---- The loopback provider: what is sent comes back ---- */

static int
loopback_one(struct channel *end, const struct sk_batch *b, uint32_t i)
{
	struct iovec iov[SK_MAX_FRAGS];

	for (uint32_t f = 0; f < b->nfrags[i]; f++) {
		uint32_t len = 0;

		iov[f].iov_base =
		    (void *)(uintptr_t)sk_packet_frag(end, b->idx[i], f, &len);
		iov[f].iov_len = len;
	}
	return channel_sendv(end, iov, (int)b->nfrags[i], b->len[i],
	    &b->meta[i]);
}

/* Packets of one buffer go in batches; of several, one by one, because only
 * the next is known to have the buflets it may need. */
static int
loopback_sync(void *arg, struct channel *end)
{
	struct sk_batch b;
	uint32_t room;
	int n = 0;

	(void)arg;
	while ((room = sk_tx_room(end)) > 0) {
		n = sk_receive(end, &b, end->ch_params.max_frags > 1 ? 1 : room);
		if (n <= 0) {
			break;
		}
		for (int i = 0; i < n; i++) {
			(void)loopback_one(end, &b, (uint32_t)i);
		}
		sk_release(end, b.idx, (uint32_t)n);
	}
	return n < 0 ? n : 0;
}

const struct sk_provider_ops *
sk_loopback_provider(void)
{
	static const struct sk_provider_ops ops = {
		.nxpi_sync_tx = loopback_sync,
	};

	return &ops;
}
