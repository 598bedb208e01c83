/*
 * nx_monitor.h - what the data path of a channel knows of its monitor.
 */
#ifndef SKYWALK_NEXUS_NX_MONITOR_H
#define SKYWALK_NEXUS_NX_MONITOR_H

#include "skywalk/channel/channel_var.h"

static inline void
monitor_tap(struct channel *ch, int dir, int half, uint32_t idx, uint32_t len,
    const struct sk_meta *meta)
{
	(void)ch;
	(void)dir;
	(void)half;
	(void)idx;
	(void)len;
	(void)meta;
}

#endif
