/*
 * channel_event.c - doorbells: who sleeps, who is woken, who has died.
 *
 * Each end has a bell for each direction: an eventfd that the other end writes
 * to and that nobody reads. The end sleeps on an epoll descriptor of its own,
 * in which the bell is edge-triggered and the other process's socket and pidfd
 * lie too. So what the other end does to the eventfd (it shares it, flags and
 * all) can wake this end for nothing, and cannot make it block.
 *
 * Only one end writes a word, so a bell is armed by a number and not by a flag:
 *
 *	sleeper: arm = arm + 1 (F); look at the ring (F)
 *	other:	 publish (E); arm (E) != rung? then rung = arm, write the bell
 *
 * (E) and (F) are sequentially consistent: one of the two sees the other. As
 * long as nobody arms, nobody makes a system call.
 */
#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "skywalk/channel/channel_var.h"

#define EVENT_BELL 0
#define EVENT_DEATH 1

static int
ep_add(int ep, int fd, uint32_t events, uint32_t what)
{
	struct epoll_event ev = { .events = events, .data.u32 = what };

	if (fd < 0) {
		return 0;
	}
	return epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) == 0 ? 0 : -errno;
}

int
channel_event_open(struct channel *ch)
{
	int error = 0;

	for (int dir = 0; dir < 2 && error == 0; dir++) {
		int ep = epoll_create1(EPOLL_CLOEXEC);

		if (ep < 0) {
			return -errno;
		}
		ch->ch_ep[dir] = ep;
		error = ep_add(ep, ch->ch_bell[2 * ch->ch_side + dir],
		    EPOLLIN | EPOLLET, EVENT_BELL);
		if (error == 0) {
			error = ep_add(ep, ch->ch_control, EPOLLRDHUP | EPOLLET,
			    EVENT_DEATH);
		}
		if (error == 0) {
			error = ep_add(ep, ch->ch_pidfd, EPOLLIN | EPOLLET,
			    EVENT_DEATH);
		}
	}
	return error;
}

void
channel_bell(struct channel *ch, int dir)
{
	unsigned arm = atomic_load(&ch->ch_its->hf_heads->sh_arm[dir]); /* (E) */
	atomic_uint *rung = &ch->ch_our->hf_heads->sh_rung[dir];
	const uint64_t one = 1;

	if (ch->ch_kick != NULL) {
		ch->ch_kick(ch->ch_kickarg);
		return;
	}
	if (arm == atomic_load_explicit(rung, memory_order_relaxed) ||
	    atomic_exchange(rung, arm) == arm) {
		return;
	}
	(void)!write(ch->ch_bell[2 * (1 - ch->ch_side) + dir], &one,
	    sizeof(one));
	atomic_fetch_add_explicit(&ch->ch_bells, 1, memory_order_relaxed);
}

void
channel_quieten(struct channel *ch, int dir)
{
	struct epoll_event ev[4];
	int n = epoll_wait(ch->ch_ep[dir], ev, 4, 0);
	int active = SK_ACTIVE;

	for (int i = 0; i < n; i++) {
		if (ev[i].data.u32 == EVENT_DEATH &&
		    (ev[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLIN)) != 0 &&
		    channel_gone(ch) == SK_ACTIVE) {
			/* It did not say goodbye. */
			atomic_compare_exchange_strong(&ch->ch_gone, &active,
			    SK_PEER_DIED);
		}
	}
}

/* Whether dir may go on: 1, 0, or -ENXIO. */
static int
dir_ready(struct channel *ch, int dir)
{
	if (channel_over(ch)) {
		return -ENXIO;
	}
	if (dir == DIR_RX ? channel_rx_ready(ch) : channel_tx_ready(ch)) {
		return 1;
	}
	if (channel_over(ch)) {
		return -ENXIO;
	}
	if (channel_peer_active(ch)) {
		return 0;
	}
	/* Its last packets came before it went. */
	return dir == DIR_RX && channel_rx_ready(ch) ? 1 : -ENXIO;
}

int
sk_channel_arm(struct channel *ch, int dirs)
{
	int dir = dirs == SK_TX ? DIR_TX : DIR_RX;
	struct sk_heads *our = ch->ch_our->hf_heads;
	unsigned arm;
	int ready = dir_ready(ch, dir);

	if (ready != 0) {
		return ready;
	}
	channel_quieten(ch, dir);
	arm = atomic_load_explicit(&our->sh_arm[dir], memory_order_relaxed);
	if (atomic_load(&ch->ch_its->hf_heads->sh_rung[dir]) == arm) {
		atomic_store(&our->sh_arm[dir], arm + 1); /* (F) */
	}
	return dir_ready(ch, dir); /* (F) */
}

int
sk_channel_sync(struct channel *ch, int dirs)
{
	int ended = 0;

	if ((dirs & SK_TX) != 0) {
		channel_quieten(ch, DIR_TX);
		ended |= channel_tx_reap(ch);
		channel_bell(ch, DIR_RX);
	}
	if ((dirs & SK_RX) != 0) {
		channel_quieten(ch, DIR_RX);
		ended |= dir_ready(ch, DIR_RX) < 0 ? -ENXIO : 0;
	}
	return ended;
}

int
sk_channel_wait(struct channel *ch, int dir, int64_t timeout_ns)
{
	struct pollfd pfd = { .events = POLLIN };
	struct timespec ts = { .tv_sec = timeout_ns / 1000000000,
		.tv_nsec = timeout_ns % 1000000000 };
	int ready;

	channel_hold(ch);
	ready = sk_channel_arm(ch, dir);
	if (ready == 0) {
		pfd.fd = ch->ch_ep[dir == SK_TX ? DIR_TX : DIR_RX];
		ready = ppoll(&pfd, 1, timeout_ns < 0 ? NULL : &ts, NULL);
		ready = ready < 0 ? -errno : ready;
	}
	channel_drop(ch);
	return ready;
}
