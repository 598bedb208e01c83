/*
 * cc.h - congestion control: a row of functions over snd_cwnd and
 * snd_ssthresh, in bytes.
 *
 * Loss detection and recovery are not here: tcp_input.c says when to grow,
 * when something was lost and how much was in flight; an algorithm answers
 * how large the window is then.
 */
#ifndef BSDCORE_NETINET_CC_H
#define BSDCORE_NETINET_CC_H

#include "bsdcore/netinet/tcp_var.h"

#define CC_NAMELEN 16

struct cc_algo {
	const char *cc_name;
	void (*cc_init)(struct tcpcb *tp);
	/* acked new bytes arrived outside recovery, and the window was used. */
	void (*cc_ack)(struct tcpcb *tp, uint32_t acked);
	/* A loss: set snd_ssthresh. The caller sets snd_cwnd. flight: bytes
	 * outstanding when it happened. */
	void (*cc_loss)(struct tcpcb *tp, uint32_t flight);
	/* A round trip of rtt ns was measured; may be NULL. */
	void (*cc_rtt)(struct tcpcb *tp, uint64_t rtt);
	/* The connection was idle, or a timeout has been undone. */
	void (*cc_reset)(struct tcpcb *tp);
};

extern const struct cc_algo cc_newreno;
extern const struct cc_algo cc_cubic;
extern const struct cc_algo cc_ledbat;

/* NULL: no such algorithm. */
const struct cc_algo *cc_byname(const char *name);
const struct cc_algo *cc_default(const struct tcp_state *tcp);
void cc_use(struct tcpcb *tp, const struct cc_algo *cc);

/* RFC 6928: the first window. */
uint32_t cc_initwnd(const struct tcpcb *tp);
/* Slow start by bytes acknowledged (RFC 3465, no limit per ACK: an ACK may
 * stand for a super-segment). Answers the bytes left over beyond ssthresh. */
uint32_t cc_slowstart(struct tcpcb *tp, uint32_t acked);

#endif
