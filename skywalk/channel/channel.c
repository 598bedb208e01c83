/*
 * channel.c - opening and ending one end of a channel.
 *
 * An end is over when its user closes it, when its memory is taken away, when
 * the other end is gone and all it had sent is received, or when the other end
 * broke a rule. The first reason stays; every call then answers -ENXIO.
 */
#include "skywalk/channel/channel_var.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

static void
fds_close(const int *fd, int n)
{
	for (int i = 0; i < n; i++) {
		if (fd[i] >= 0) {
			close(fd[i]);
		}
	}
}

static void
channel_destroy(struct channel *ch)
{
	struct channel *tap = atomic_load(&ch->ch_tap);

	if (tap != NULL) {
		channel_drop(tap);
	}
	if (ch->ch_unkick != NULL) {
		ch->ch_unkick(ch->ch_kickarg);
	}
	if (ch->ch_arena != NULL) {
		skmem_arena_drop(ch->ch_arena);
	}
	skmem_pool_fini(&ch->ch_pool);
	if (ch->ch_lends.sc_size != 0) {
		skmem_cache_fini(&ch->ch_lends);
	}
	free(ch->ch_kmd);
	free(ch->ch_kbft);
	free(ch->ch_held);
	pthread_mutex_destroy(&ch->ch_freelock);
	pthread_mutex_destroy(&ch->ch_taplock);
	fds_close(ch->ch_bell, 4);
	fds_close(ch->ch_ep, 2);
	fds_close(&ch->ch_control, 1);
	fds_close(&ch->ch_pidfd, 1);
	free(ch);
}

void
channel_hold(struct channel *ch)
{
	atomic_fetch_add_explicit(&ch->ch_refs, 1, memory_order_relaxed);
}

void
channel_drop(struct channel *ch)
{
	if (atomic_fetch_sub_explicit(&ch->ch_refs, 1, memory_order_acq_rel) ==
	    1) {
		channel_destroy(ch);
	}
}

/* The rings of this end over both halves. */
static void
rings_init(struct channel *ch)
{
	struct sk_heads *our = ch->ch_our->hf_heads, *its = ch->ch_its->hf_heads;
	uint32_t slots = ch->ch_params.slots, events = ch->ch_params.events;
	uint32_t fslots = ch->ch_arena->ar_fslots;

	ring_init(&ch->ch_tx, slots, true, &our->sh_tx, &its->sh_rx);
	ring_init(&ch->ch_rx, slots, false, &our->sh_rx, &its->sh_tx);
	ring_init(&ch->ch_free, fslots, true, &our->sh_free, &its->sh_alloc);
	ring_init(&ch->ch_alloc, fslots, false, &our->sh_alloc, &its->sh_free);
	ring_init(&ch->ch_evtx, events, true, &our->sh_evtx, &its->sh_evrx);
	ring_init(&ch->ch_evrx, events, false, &our->sh_evrx, &its->sh_evtx);
}

/* Takes over the reference to the arena and the descriptors of *a, also on
 * failure. */
static int
channel_make(struct skmem_arena *ar, const struct sk_attach *a,
    struct channel **out)
{
	struct channel *ch = aligned_alloc(64, sizeof(*ch));
	const struct sk_params *p = &ar->ar_params;
	int error;

	if (ch == NULL) {
		skmem_arena_drop(ar);
		fds_close(a->bell, 4);
		fds_close(&a->control, 1);
		fds_close(&a->pidfd, 1);
		return -ENOMEM;
	}
	memset(ch, 0, sizeof(*ch));
	atomic_init(&ch->ch_refs, 1);
	pthread_mutex_init(&ch->ch_freelock, NULL);
	pthread_mutex_init(&ch->ch_taplock, NULL);
	ch->ch_arena = ar;
	ch->ch_params = *p;
	ch->ch_side = a->side;
	ch->ch_our = &ar->ar_half[a->side];
	ch->ch_its = &ar->ar_half[1 - a->side];
	memcpy(ch->ch_bell, a->bell, sizeof(ch->ch_bell));
	ch->ch_control = a->control;
	ch->ch_pidfd = a->pidfd;
	ch->ch_ep[0] = ch->ch_ep[1] = -1;
	ch->ch_kmd = calloc(p->packets, sizeof(*ch->ch_kmd));
	ch->ch_kbft = calloc((size_t)p->buflets + 1, sizeof(*ch->ch_kbft));
	ch->ch_held = calloc(p->packets, sizeof(*ch->ch_held));
	error =
	    ch->ch_kmd == NULL || ch->ch_kbft == NULL || ch->ch_held == NULL ?
	    -ENOMEM :
	    skmem_pool_init(&ch->ch_pool, p->packets, p->buflets);
	if (error == 0) {
		error = skmem_cache_init(&ch->ch_lends, sizeof(struct sk_lend));
		ch->ch_lends.sc_size = error == 0 ? ch->ch_lends.sc_size : 0;
	}
	if (error == 0) {
		error = channel_event_open(ch);
	}
	if (error != 0) {
		channel_drop(ch);
		return error;
	}
	rings_init(ch);
	/* Nobody is awake yet. */
	for (int dir = 0; dir < 2; dir++) {
		atomic_store(&ch->ch_our->hf_heads->sh_arm[dir], 1);
	}
	*out = ch;
	return 0;
}

static int
attach_params(const struct sk_params *given, const struct sk_attach *a,
    struct sk_params *p)
{
	if (a->side != SK_SERVER && a->side != SK_CLIENT) {
		return -EINVAL;
	}
	if (given != NULL) {
		*p = *given;
		return sk_params_check(p);
	}
	return skmem_arena_params(a->memfd[1 - a->side], p);
}

int
sk_channel_attach(const struct sk_params *params, const struct sk_attach *a,
    struct channel **out)
{
	struct skmem_arena *ar = NULL;
	struct sk_params p;
	int error = attach_params(params, a, &p);

	if (error == 0) {
		error = skmem_arena_map(&p, a->memfd, 1u << a->side, &ar);
	}
	fds_close(a->memfd, 2);
	if (error != 0) {
		fds_close(a->bell, 4);
		fds_close(&a->control, 1);
		fds_close(&a->pidfd, 1);
		return error;
	}
	return channel_make(ar, a, out);
}

/* Descriptors of one end of a pipe: its own copies of the bells. */
static int
bells_dup(const int bell[4], struct sk_attach *a)
{
	for (int i = 0; i < 4; i++) {
		a->bell[i] = dup(bell[i]);
		if (a->bell[i] < 0) {
			int error = -errno;

			fds_close(a->bell, i);
			return error;
		}
	}
	return 0;
}

static int
pipe_end(struct skmem_arena *ar, const int bell[4], int side,
    struct channel **out)
{
	struct sk_attach a = { .side = side, .control = -1, .pidfd = -1 };
	int error = bells_dup(bell, &a);

	if (error != 0) {
		return error;
	}
	skmem_arena_hold(ar);
	return channel_make(ar, &a, out);
}

int
sk_pipe_open(const struct sk_params *params, struct channel *out[2])
{
	struct sk_params p = *params;
	struct skmem_arena *ar = NULL;
	int memfd[2], bell[4] = { -1, -1, -1, -1 };
	int error = sk_params_check(&p);

	if (error != 0 || (error = sk_arena_create(&p, memfd)) != 0) {
		return error;
	}
	for (int i = 0; i < 4 && error == 0; i++) {
		bell[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		error = bell[i] < 0 ? -errno : 0;
	}
	if (error == 0) {
		error = skmem_arena_map(&p, memfd, 3, &ar);
	}
	if (error == 0) {
		error = pipe_end(ar, bell, SK_SERVER, &out[0]);
		if (error == 0 &&
		    (error = pipe_end(ar, bell, SK_CLIENT, &out[1])) != 0) {
			sk_channel_free(out[0]);
		}
		skmem_arena_drop(ar);
	}
	fds_close(memfd, 2);
	fds_close(bell, 4);
	return error;
}

void
channel_end(struct channel *ch, enum sk_reason why)
{
	struct sk_schema *our = ch->ch_our->hf_schema;
	const uint64_t one = 1;
	int active = SK_ACTIVE;

	if (!atomic_compare_exchange_strong(&ch->ch_reason, &active, (int)why)) {
		return;
	}
	atomic_store_explicit(&our->sc_reason, (unsigned)why,
	    memory_order_relaxed);
	atomic_fetch_and_explicit(&our->sc_flags, ~(unsigned)SCHEMA_ACTIVE,
	    memory_order_release);
	if (why >= SK_DEFUNCT) {
		skmem_arena_redirect(ch->ch_arena);
	}
	for (int i = 0; i < 4; i++) {
		(void)!write(ch->ch_bell[i], &one, sizeof(one));
	}
	if (ch->ch_control >= 0) {
		shutdown(ch->ch_control, SHUT_RDWR);
	}
}

enum sk_reason
channel_gone(struct channel *ch)
{
	int active = SK_ACTIVE;

	if (channel_peer_active(ch)) {
		return SK_ACTIVE;
	}
	atomic_compare_exchange_strong(&ch->ch_gone, &active, SK_PEER_CLOSED);
	return (enum sk_reason)atomic_load(&ch->ch_gone);
}

void
sk_channel_close(struct channel *ch)
{
	channel_end(ch, SK_CLOSED);
}

void
sk_channel_free(struct channel *ch)
{
	channel_end(ch, SK_CLOSED);
	channel_drop(ch);
}

void
sk_channel_hold(struct channel *ch)
{
	channel_hold(ch);
}

void
sk_channel_drop(struct channel *ch)
{
	channel_drop(ch);
}

int
sk_channel_over(struct channel *ch)
{
	return channel_over(ch);
}

void
sk_channel_defunct(struct channel *ch)
{
	channel_end(ch, SK_DEFUNCT);
}

void
sk_channel_forked(struct channel *ch)
{
	/* The parent's end must not notice: nothing is written or rung. */
	atomic_store(&ch->ch_reason, SK_DEFUNCT);
	skmem_arena_redirect(ch->ch_arena);
	/* Nor may the child's copy hide that the parent has died. */
	fds_close(&ch->ch_control, 1);
	ch->ch_control = -1;
}

int
sk_channel_reason(struct channel *ch)
{
	int why = atomic_load(&ch->ch_reason);

	return why != SK_ACTIVE ? why : (int)channel_gone(ch);
}

void
sk_channel_info(struct channel *ch, struct sk_info *out)
{
	*out = (struct sk_info){
		.params = ch->ch_params,
		.side = ch->ch_side,
		.reason = sk_channel_reason(ch),
		.rx_fd = ch->ch_ep[DIR_RX],
		.tx_fd = ch->ch_ep[DIR_TX],
		.arena = 2 * ch->ch_arena->ar_halflen,
	};
}

void
sk_channel_stats(struct channel *ch, struct sk_stats *out)
{
	*out = (struct sk_stats){
		.txpkts = stat_read(&ch->ch_txpkts),
		.txbytes = stat_read(&ch->ch_txbytes),
		.rxpkts = stat_read(&ch->ch_rxpkts),
		.rxbytes = stat_read(&ch->ch_rxbytes),
		.rxdropped = stat_read(&ch->ch_rxdropped),
		.txfull = stat_read(&ch->ch_txfull),
		.bells =
		    atomic_load_explicit(&ch->ch_bells, memory_order_relaxed),
		.copied =
		    stat_read(&ch->ch_txcopied) + stat_read(&ch->ch_rxcopied),
		.free = __atomic_load_n(&ch->ch_pool.pl_nfree, __ATOMIC_RELAXED),
		.given =
		    __atomic_load_n(&ch->ch_pool.pl_ngiven, __ATOMIC_RELAXED),
		.mondropped = stat_read(&ch->ch_tapdropped),
		.lent = atomic_load_explicit(&ch->ch_lent, memory_order_relaxed),
	};
	out->held = ch->ch_params.packets - out->free - out->given;
}
