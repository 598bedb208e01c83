/*
 * tcp_stat.h - tunables and counters of TCP, one line each.
 *
 * The lists make the structures here and the tables that tcp_init() registers
 * ("net.inet.tcp.NAME", "tcp.NAME", "tcp.drop.NAME").
 */
#ifndef BSDCORE_NETINET_TCP_STAT_H
#define BSDCORE_NETINET_TCP_STAT_H

#include <stdint.h>

/* clang-format off */
/* X(name, default, min, max, doc) */
#define TCP_TUNABLES(X)							\
	X(rto_initial, 1000, 10, 60000, "ms before the first RTT sample (RFC 6298 2.1)") \
	X(rto_min, 200, 1, 60000, "ms; floor of the retransmission timeout")	\
	X(rto_max, 64000, 1000, 600000, "ms; ceiling of the retransmission timeout") \
	X(retries, 15, 3, 15, "retransmissions of data before giving up (RFC 9293 R2)") \
	X(syn_retries, 7, 1, 15, "retransmissions of a SYN; 7 is over 3 minutes") \
	X(synack_retries, 5, 1, 15, "retransmissions of a SYN,ACK")		\
	X(keepinit, 240, 1, 3600, "s an opening connection may take")		\
	X(keepidle, 7200, 1, 1000000, "s of silence before a keepalive (RFC 9293 MUST-28)") \
	X(keepintvl, 75, 1, 100000, "s between keepalive probes")		\
	X(keepcnt, 8, 1, 127, "unanswered probes that end a connection")	\
	X(delack, 40, 1, 499, "ms an ACK may wait (RFC 9293 MUST-40)")		\
	X(quickack_start, 16, 0, 255, "ACKs sent at once when a connection starts") \
	X(persist_min, 200, 10, 60000, "ms; first zero-window probe at least")	\
	X(persist_max, 60000, 1000, 600000, "ms; zero-window probes at most")	\
	X(cork_max, 200, 1, 10000, "ms corked data waits for more")		\
	X(msl, 15000, 1, 120000, "ms; TIME_WAIT lasts twice this")		\
	X(finwait2, 60, 1, 3600, "s in FIN_WAIT_2 with the socket closed")	\
	X(maxtw, 32768, 0, 1000000, "TIME_WAIT entries; beyond it the oldest goes") \
	X(sendspace, 262144, 2048, 1 << 26, "bytes; first size of send buffers") \
	X(recvspace, 524288, 2048, 1 << 26, "bytes; first size of receive buffers") \
	X(autosndbuf_max, 4194304, 0, 1 << 28, "bytes send buffers grow to, 0: they do not") \
	X(autorcvbuf_max, 6291456, 0, 1 << 28, "bytes receive buffers grow to, 0: they do not") \
	X(mssdflt, 536, 64, 1460, "bytes; peer without MSS option, IPv4")	\
	X(v6mssdflt, 1220, 1220, 1440, "bytes; peer without MSS option, IPv6") \
	X(minmss, 88, 32, 536, "bytes; smallest MSS taken from a peer")		\
	X(minpmtu, 552, 68, 1280, "bytes; smallest path MTU taken from ICMP, IPv4") \
	X(path_mtu_discovery, 1, 0, 1, "send with DF and follow ICMP")		\
	X(pmtud_blackhole_mss, 1200, 0, 1460, "bytes tried when big segments vanish, 0 off") \
	X(init_cwnd, 10, 1, 100, "segments (RFC 6928)")				\
	X(cc, 1, 0, 1, "congestion control of new sockets: 0 newreno, 1 cubic")	\
	X(window_scaling, 1, 0, 1, "RFC 7323")					\
	X(timestamps, 1, 0, 1, "RFC 7323")					\
	X(sack, 1, 0, 1, "RFC 2018")						\
	X(dsack, 1, 0, 1, "RFC 2883")						\
	X(tso, 1, 0, 1, "send super-segments where the interface takes them")	\
	X(limited_transmit, 1, 0, 1, "RFC 3042")				\
	X(idle_restart, 1, 0, 1, "slow start after an idle RTO (RFC 5681 4.1)")	\
	X(sack_maxholes, 512, 8, 4096, "holes in one scoreboard")		\
	X(reass_maxsegs, 512, 8, 65536, "runs of out-of-order data in one connection") \
	X(synopt_order, 24813, 0, 9999999999999999, "option kinds of a SYN as digits; 1 pads") \
	X(syncache_limit, 8192, 0, 1000000, "half-open connections of all listeners") \
	X(syncookies, 1, 0, 2, "answer SYNs without state: 0 never, 1 when full, 2 always") \
	X(drop_synfin, 1, 0, 1, "drop segments with SYN and FIN")		\
	X(challenge_limit, 1000, 1, 1000000, "challenge ACKs in a second, all connections") \
	X(challenge_percon, 10, 1, 255, "challenge ACKs in a second, one connection") \
	X(icmp_may_abort, 1, 0, 1, "ICMP errors end a connection that is opening") \
	X(dupthresh, 3, 1, 127, "duplicate ACKs that mean loss (RFC 5681)")	\
	X(rack, 1, 0, 1, "find losses by time (RFC 8985)")			\
	X(tlp, 1, 0, 1, "tail loss probes (RFC 8985)")				\
	X(ecn, 2, 0, 2, "RFC 3168: 0 off, 1 ask for it, 2 if asked (Linux tcp_ecn)")

#define TCP_STATS(X)							\
	X(connattempt) X(accepts) X(connects) X(drops) X(conndrops)		\
	X(closed) X(segstimed) X(rttupdated) X(delack) X(timeoutdrop)		\
	X(rexmttimeo) X(persisttimeo) X(keeptimeo) X(keepprobe)		\
	X(keepdrops) X(sndtotal) X(sndpack) X(sndbyte) X(sndrexmitpack)	\
	X(sndrexmitbyte) X(sndacks) X(sndprobe) X(sndurg) X(sndwinup)		\
	X(sndctrl) X(sndrst) X(sndfail) X(rcvtotal) X(rcvpack) X(rcvbyte)	\
	X(rcvduppack) X(rcvdupbyte) X(rcvpartduppack) X(rcvpartdupbyte)	\
	X(rcvoopack) X(rcvoobyte) X(rcvpackafterwin) X(rcvbyteafterwin)	\
	X(rcvwinprobe) X(rcvdupack) X(rcvackpack) X(rcvackbyte)		\
	X(rcvwinupd) X(predack) X(preddat) X(persistdrop)			\
	X(synchallenge) X(rstchallenge) X(ackchallenge)			\
	X(challengelimited) X(sack_recovery) X(newreno_recovery)		\
	X(sack_rexmits) X(sack_rcv_blocks) X(sack_send_blocks)		\
	X(sack_reneged) X(reordered) X(rack_lost) X(rack_relost)		\
	X(limited_txt) X(undo) X(pto) X(mturesent)				\
	X(pmtudbh) X(pmtudbh_reverted) X(dsack_sent) X(dsack_recvd)		\
	X(timewait) X(tw_recycled) X(tw_overflow) X(finwait2_timeout)	\
	X(sc_added) X(sc_completed) X(sc_retransmitted) X(sc_timeout)		\
	X(sc_overflow) X(sc_reset) X(sc_unreach) X(sc_dupsyn)			\
	X(cookie_sent) X(cookie_recv)						\
	X(ecn_on) X(ecn_ce) X(ecn_ece) X(ecn_cwr)

/* Segments thrown away, by reason. */
#define TCP_DROPS(X)							\
	X(short) X(badoff) X(badsum) X(badaddr) X(synfin) X(land)		\
	X(noport) X(listenflags) X(listenoverflow) X(cookiebad)		\
	X(nomem) X(badack) X(badrst) X(badsyn) X(paws) X(noack)		\
	X(afterwin) X(afterclose) X(reassfull) X(acktoomuch)		\
	X(timewait) X(defer) X(icmpseq)
/* clang-format on */

struct tcp_tunables {
#define X(name, def, min, max, doc) int64_t tt_##name;
	TCP_TUNABLES(X)
#undef X
};

struct tcp_stats {
#define X(name) uint64_t ts_##name;
	TCP_STATS(X)
#undef X
#define X(name) uint64_t td_##name;
	TCP_DROPS(X)
#undef X
};

#endif
