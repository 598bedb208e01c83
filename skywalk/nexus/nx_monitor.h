/*
 * nx_monitor.h - what the data path of a channel knows of its monitor.
 *
 * The monitor gets a copy (XNU's COPY mode) of what the channel gives and
 * takes; a monitor that does not keep up loses packets and is told how many,
 * and the channel it watches never waits for it.
 */
#ifndef SKYWALK_NEXUS_NX_MONITOR_H
#define SKYWALK_NEXUS_NX_MONITOR_H

#include "skywalk/channel/channel_var.h"

void monitor_copy(struct channel *ch, int dir, uint32_t idx, uint32_t len,
    const struct sk_meta *meta);

static inline void
monitor_tap(struct channel *ch, int dir, uint32_t idx, uint32_t len,
    const struct sk_meta *meta)
{
	if (atomic_load_explicit(&ch->ch_tap, memory_order_acquire) != NULL) {
		monitor_copy(ch, dir, idx, len, meta);
	}
}

#endif
