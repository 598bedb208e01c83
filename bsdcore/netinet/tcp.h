/*
 * tcp.h - the wire format of TCP and the numbers of its socket options.
 *
 * Option and flag numbers come from the system's header, because callers use
 * those. Headers are read and written by byte offset: a segment in the middle
 * of somebody's buffer need not be aligned.
 */
#ifndef BSDCORE_NETINET_TCP_H
#define BSDCORE_NETINET_TCP_H

#include <netinet/tcp.h>

#include "bsdcore/sys/systm.h"

/* Offsets in the header (RFC 9293 3.1). */
#define TH_OFF_SPORT 0
#define TH_OFF_DPORT 2
#define TH_OFF_SEQ 4
#define TH_OFF_ACK 8
#define TH_OFF_DOFF 12 /* high nibble: header length in words */
#define TH_OFF_FLAGS 13
#define TH_OFF_WIN 14
#define TH_OFF_SUM 16
#define TH_OFF_URP 18

#define TH_ECE_ 0x40 /* RFC 3168 6.1 */
#define TH_CWR_ 0x80
#define TCP_HDRLEN 20
#define TCP_MAXHDRLEN 60
#define TCP_MAXOLEN (TCP_MAXHDRLEN - TCP_HDRLEN)

/* Option kinds and their whole lengths. */
#define TCPOPT_KIND_EOL 0
#define TCPOPT_KIND_NOP 1
#define TCPOPT_KIND_MSS 2
#define TCPOPT_KIND_WSCALE 3
#define TCPOPT_KIND_SACKOK 4
#define TCPOPT_KIND_SACK 5
#define TCPOPT_KIND_TS 8
#define TCPOLEN_MSS 4
#define TCPOLEN_WSCALE 3
#define TCPOLEN_SACKOK 2
#define TCPOLEN_SACKBLK 8
#define TCPOLEN_TS 10
#define TCPOLEN_TSPAD 12 /* NOP NOP TS, as sent outside a SYN */

#define TCP_MSS4 536 /* RFC 9293 3.7.1, no MSS option seen */
#define TCP_MSS6 1220
#define TCP_WINMAX 65535u /* before scaling */
#define TCP_WSCALEMAX 14  /* RFC 7323 2.3 */

/* Linux's struct tcp_info in full (include/uapi/linux/tcp.h); the system's
 * header may be older. Shorter buffers get a prefix. */
struct tcpinfo {
	uint8_t tcpi_state, tcpi_ca_state, tcpi_retransmits;
	uint8_t tcpi_probes, tcpi_backoff, tcpi_options;
	uint8_t tcpi_wscale; /* low nibble: the peer's; high: ours */
	uint8_t tcpi_ratelim;
	uint32_t tcpi_rto, tcpi_ato, tcpi_snd_mss, tcpi_rcv_mss;
	uint32_t tcpi_unacked, tcpi_sacked, tcpi_lost, tcpi_retrans;
	uint32_t tcpi_fackets;
	uint32_t tcpi_last_data_sent, tcpi_last_ack_sent;
	uint32_t tcpi_last_data_recv, tcpi_last_ack_recv;
	uint32_t tcpi_pmtu, tcpi_rcv_ssthresh, tcpi_rtt, tcpi_rttvar;
	uint32_t tcpi_snd_ssthresh, tcpi_snd_cwnd, tcpi_advmss;
	uint32_t tcpi_reordering, tcpi_rcv_rtt, tcpi_rcv_space;
	uint32_t tcpi_total_retrans;
	uint64_t tcpi_pacing_rate, tcpi_max_pacing_rate;
	uint64_t tcpi_bytes_acked, tcpi_bytes_received;
	uint32_t tcpi_segs_out, tcpi_segs_in;
	uint32_t tcpi_notsent_bytes, tcpi_min_rtt;
	uint32_t tcpi_data_segs_in, tcpi_data_segs_out;
	uint64_t tcpi_delivery_rate;
	uint64_t tcpi_busy_time, tcpi_rwnd_limited, tcpi_sndbuf_limited;
	uint32_t tcpi_delivered, tcpi_delivered_ce;
	uint64_t tcpi_bytes_sent, tcpi_bytes_retrans;
	uint32_t tcpi_dsack_dups, tcpi_reord_seen, tcpi_rcv_ooopack;
	uint32_t tcpi_snd_wnd;
};
CTASSERT(offsetof(struct tcpinfo, tcpi_pacing_rate) == 104);
CTASSERT(sizeof(struct tcpinfo) == 232);

#endif
