/*
 * tbr.c - the token bucket of a shaped port, kept as a time.
 *
 * Every packet moves the theoretical arrival time on by what it takes at the
 * rate; a packet may leave when that time has come. A port that was quiet
 * lets the time lag behind by as much as the burst takes, and no more.
 */
#include "nic/classq.h"

#define NSEC_PER_SEC UINT64_C(1000000000)
#define TBR_BURST_NS UINT64_C(1000000) /* unless told: what a timer may miss */
#define TBR_BURST_MIN 3028u	       /* bytes: two full frames */

void
tbr_set(struct tbr *tb, uint64_t rate, uint32_t burst)
{
	uint64_t least;

	tb->tb_rate = rate;
	tb->tb_frac = 0;
	if (rate == 0) {
		tb->tb_tat = tb->tb_burst = 0;
		return;
	}
	if (burst != 0) {
		tb->tb_burst = (uint64_t)burst * 8 * NSEC_PER_SEC / rate;
		return;
	}
	least = TBR_BURST_MIN * 8 * NSEC_PER_SEC / rate;
	tb->tb_burst = least > TBR_BURST_NS ? least : TBR_BURST_NS;
}

uint64_t
tbr_at(const struct tbr *tb)
{
	return tb->tb_rate == 0 ? 0 : tb->tb_tat;
}

void
tbr_take(struct tbr *tb, uint32_t len, uint64_t now)
{
	uint64_t bits;

	if (tb->tb_rate == 0) {
		return;
	}
	if (tb->tb_tat + tb->tb_burst < now) {
		tb->tb_tat = now - tb->tb_burst;
		tb->tb_frac = 0;
	}
	/* Below 2^31 bytes no overflow. */
	bits = (uint64_t)len * 8 * NSEC_PER_SEC + tb->tb_frac;
	tb->tb_tat += bits / tb->tb_rate;
	tb->tb_frac = bits % tb->tb_rate;
}
