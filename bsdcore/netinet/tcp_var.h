/*
 * tcp_var.h - what the files of TCP share: the control block, a parsed
 * segment, the state of the protocol in one stack, and who calls whom.
 *
 *	tcp_input.c	segment arrival (RFC 9293 3.10.7), fast path
 *	tcp_ack.c	acknowledgments: windows, loss, recovery
 *	tcp_icmp.c	ICMP errors, path MTU
 *	tcp_dooptions.c	reader of TCP options
 *	tcp_reass.c	out-of-order data, SACK blocks to send
 *	tcp_syncache.c	half-open connections of listeners, SYN cookies
 *	tcp_timewait.c	compressed TIME_WAIT
 *	tcp_output.c	what to send next, and building it
 *	tcp_sack.c	scoreboard of what the peer has (RFC 6675)
 *	tcp_rack.c	loss by time (RFC 8985)
 *	tcp_timer.c	retransmission, persist, keepalive, FIN_WAIT_2
 *	tcp_subr.c	life of a control block, ICMP, path MTU, replies
 *	tcp_usrreq.c	what the socket layer asks
 *	tcp_fsm.c	states and their edges
 *	cc/		congestion control
 */
#ifndef BSDCORE_NETINET_TCP_VAR_H
#define BSDCORE_NETINET_TCP_VAR_H

#include "bsdcore/netinet/in_pcb.h"
#include "bsdcore/netinet/tcp.h"
#include "bsdcore/netinet/tcp_fsm.h"
#include "bsdcore/netinet/tcp_seq.h"
#include "bsdcore/netinet/tcp_stat.h"
#include "bsdcore/sys/callout.h"
#include "bsdcore/sys/protosw.h"
#include "bsdcore/sys/socketvar.h"
#include "bsdcore/sys/stack.h"

struct bsd_sockinfo;
struct cc_algo;
struct ctlparam;
struct syncache;
struct tcptw_table;

/* ---- rows of inetsw[] and what other files of netinet/ call ---- */

void tcp_input(struct stack *s, struct mbuf *m, int off);
void tcp_ctlinput(struct stack *s, int cmd, const struct ctlparam *cp);
int tcp_ctloutput(struct socket *so, struct sockopt *sopt);
extern const struct pr_usrreqs tcp_usrreqs;
int tcp_init(struct stack *s); /* makes s_tcbinfo, too */
void tcp_fini(struct stack *s);
void tcp_drain(struct stack *s);
/* Fills state, rxbytes, txbytes, rexmt, srtt_ns, cwnd and timer. */
void tcp_sockinfo(struct socket *so, struct bsd_sockinfo *out);
/* Is a connection of this local port in TIME_WAIT? bind(2) without
 * SO_REUSEADDR refuses such a port. laddr may be any. */
bool tcp_twinuse(struct stack *s, const union inaddr *laddr, uint16_t lport);

/* ---- a segment, after its one reader (tcp_input.c, tcp_dooptions.c) ---- */

#define TOF_MSS 0x01
#define TOF_WSCALE 0x02
#define TOF_SACKOK 0x04
#define TOF_TS 0x08
#define TOF_SACK 0x10
#define TCP_MAXSACK 4 /* blocks in one segment */

struct sackblk {
	uint32_t sb_start, sb_end; /* [start, end) */
};

struct tcpopt {
	uint32_t to_tsval, to_tsecr;
	uint16_t to_mss;
	uint8_t to_wscale;
	uint8_t to_flags; /* TOF_* */
	uint8_t to_nsacks;
	struct sackblk to_sacks[TCP_MAXSACK];
};

struct tcpseg {
	struct mbuf *sg_m; /* payload, headers off; owned by the segment */
	struct ifnet *sg_ifp;
	union inaddr sg_laddr, sg_faddr; /* ours, the sender's */
	uint16_t sg_lport, sg_fport;
	uint32_t sg_seq, sg_ack;
	uint32_t sg_len;    /* payload bytes */
	uint32_t sg_hdrlen; /* IP's and TCP's: in front of sg_m's data */
	uint32_t sg_wnd;    /* as on the wire until scaled */
	uint32_t sg_iplen;  /* bytes with the IP header */
	uint32_t sg_origin; /* qos_rxorigin() */
	uint32_t sg_count;  /* wire segments merged into this one */
	uint16_t sg_segsz;  /* payload of each, 0: just one */
	uint8_t sg_svc;	    /* SVC_* */
	bool sg_ce;	    /* congestion experienced */
	uint16_t sg_urp;
	uint8_t sg_flags;   /* TH_* */
	bool sg_needoutput; /* call tcp_output() when done */
	bool sg_hasiss;	    /* sg_iss: what a new incarnation */
	uint32_t sg_iss;    /* must start at or after */
	struct tcpopt sg_opt;
};

void tcp_dooptions(struct tcpopt *to, const uint8_t *cp, uint32_t cnt, bool syn);

/* ---- the control block ---- */

enum tcp_timer_id {
	TCPT_REXMT,   /* retransmission (RFC 6298) */
	TCPT_PERSIST, /* zero-window probes; corked data */
	TCPT_KEEP,    /* keepalive, and the limit on opening */
	TCPT_2MSL,    /* FIN_WAIT_2 of a closed socket */
	TCPT_DELACK,
	TCPT_PTO, /* tail loss probe, RACK reordering */
	TCPT_NTIMERS
};

/* A range the peer has not got, below the highest it has. */
struct sackhole {
	TAILQ_ENTRY(sackhole) sh_link;
	uint32_t sh_start, sh_end;
	uint32_t sh_rxmit;  /* sent again up to here */
	bool sh_lost;	    /* RFC 6675 IsLost(), or by time */
	uint32_t sh_rxmax;  /* snd_max when it was last sent again */
	uint64_t sh_time;   /* when a later segment was found to have arrived */
	uint64_t sh_rxtime; /* when it was last sent again */
};
TAILQ_HEAD(sackhead, sackhole);

/* Consecutive out-of-order data. */
struct tseg {
	TAILQ_ENTRY(tseg) tq_link;
	uint32_t tq_seq, tq_len;
	uint32_t tq_mem; /* bytes of buffers behind it */
	struct mbuf *tq_head, *tq_tail;
};
TAILQ_HEAD(tseghead, tseg);

#define LEDBAT_MINUTES 4
#define LEDBAT_RECENT 4
struct ledbat {		    /* cc_ledbat.c; round trips in us, 0 unknown */
	uint64_t lb_minute; /* of lb_base[0] */
	uint64_t lb_cutat;  /* when the window may be cut again */
	uint64_t lb_acked;  /* bytes toward the next step */
	uint32_t lb_base[LEDBAT_MINUTES];
	uint32_t lb_recent[LEDBAT_RECENT];
	uint32_t lb_next;
};
struct cubic {			     /* cc_cubic.c */
	uint64_t cu_epoch;	     /* ns; 0: none */
	uint32_t cu_wmax, cu_k;	     /* bytes; ms */
	uint32_t cu_west, cu_wprior; /* bytes */
	uint32_t cu_acked;	     /* bytes not yet credited */
	uint32_t cu_estacked;
};

struct tcpcb {
	struct tcp_state *t_tcp;
	struct stack *t_stack;
	struct inpcb *t_inp;
	struct socket *t_so;
	const struct cc_algo *t_cc;

	uint32_t t_flags;		/* TF_* */
	uint8_t t_state;		/* written by tcp_setstate() only */
	uint8_t t_rxtshift;		/* backoff */
	uint8_t t_sndscale, t_rcvscale; /* in use */
	uint8_t t_reqscale;		/* what we ask for */
	uint8_t t_quickacks;		/* ACKs still sent at once */
	uint8_t t_keepprobes;		/* unanswered */
	uint8_t t_rxtlimit;		/* TCP_SYNCNT, 0 default */

	/* Send sequence space, in the words of RFC 9293 3.3.1. */
	uint32_t snd_una, snd_nxt, snd_max;
	uint32_t snd_wnd, snd_wl1, snd_wl2, snd_up, iss;
	uint32_t max_sndwnd;
	uint32_t t_smallend; /* end of the last short segment (Nagle) */
	uint32_t snd_cwnd, snd_ssthresh; /* bytes */
	uint32_t snd_recover;		 /* recovery ends here (RFC 6582) */
	uint32_t t_dupacks;
	uint32_t t_mss;	    /* payload and options of a segment */
	uint32_t t_maxseg;  /* payload, timestamps off */
	uint32_t t_peermss; /* what the peer's option said */
	uint32_t t_usermss; /* TCP_MAXSEG, 0 none */
	uint32_t t_gsomax;  /* payload of the largest super-segment */
	uint32_t t_pmtu;

	/* Receive sequence space. */
	uint32_t rcv_nxt, rcv_wnd, rcv_adv, rcv_up, irs;
	uint32_t t_lastacksent;
	uint32_t t_unacked;  /* bytes received since the last ACK */
	uint32_t t_rcvmss;   /* largest segment seen */
	uint32_t t_wndclamp; /* TCP_WINDOW_CLAMP, 0 none */

	/* Timestamps (RFC 7323). */
	uint32_t t_tsoff, t_tsrecent;
	uint64_t t_tsrecent_age;

	/* Round-trip time and timers; ns. */
	uint64_t t_srtt, t_rttvar, t_rto, t_minrtt;
	uint64_t t_rtttime; /* when the timed byte left, 0 none */
	uint32_t t_rtseq;   /* it is acknowledged beyond this */
	uint32_t t_rexmtts; /* timestamp of the first retransmission */
	uint64_t t_rcvtime, t_sndtime;	/* last segment, last data */
	uint64_t t_stalltime;		/* oldest byte unacknowledged since */
	uint64_t t_timer[TCPT_NTIMERS]; /* CALLOUT_NEVER: off */
	struct callout t_callout;	/* at the earliest of them */

	/* Undo of a spurious timeout. */
	uint32_t t_prevcwnd, t_prevssthresh;

	/* Loss (tcp_sack.c). */
	struct sackhead t_holes;
	uint32_t t_nholes;
	uint32_t t_ecnrecover; /* an ECE up to here has had its answer */
	uint32_t snd_fack;     /* above the highest byte SACKed */
	uint32_t t_pipe;       /* bytes in the network (RFC 6675) */
	uint32_t t_sackedbytes;
	uint32_t t_prrdelivered, t_prrout, t_prrflight; /* RFC 6937 */
	uint8_t t_reowndmult; /* RACK.reo_wnd_mult - 1 */
	uint8_t t_reopersist; /* recoveries it is kept for */
	uint32_t t_reodsack;  /* one DSACK a round trip counts */

	/* Out-of-order data (tcp_reass.c). */
	struct tseghead t_segq;
	uint32_t t_segqlen, t_segqmem;
	uint32_t t_sackrecent[TCP_MAXSACK]; /* starts, newest first */
	uint8_t t_nrecent;
	uint8_t t_challenges; /* in this second */
	uint32_t t_challengesec;
	struct sackblk t_dsack; /* start == end: none */
	uint32_t t_finseq;

	/* Options of the socket. */
	uint32_t t_keepidle, t_keepintvl, t_keepcnt; /* s; 0 default */
	uint32_t t_usertimeout;			     /* ms; 0 none */
	int32_t t_linger2; /* s; 0 default, < 0 none */
	uint32_t t_notsentlowat;
	uint32_t t_deferaccept; /* s */
	int t_softerror;

	/* Receive buffer autotuning. */
	uint64_t t_rcvqtime;
	uint32_t t_rcvqcopied, t_rcvqspace;

	/* For TCP_INFO and netstat. */
	uint32_t t_segsin, t_segsout, t_rexmitpack;
	uint64_t t_rcvbytes, t_ackedbytes, t_sentbytes, t_rexmitbytes;

	const struct cc_algo *t_owncc; /* while LEDBAT stands in for it */
	union {
		struct cubic ccd_cubic;
		struct ledbat ccd_ledbat;
		uint32_t ccd_acked; /* newreno: bytes toward the next step */
	} t_ccd;
};
CTASSERT(sizeof(struct tcpcb) <= 1024);

/* t_flags */
#define TF_ACKNOW 0x000001 /* ACK at once */
#define TF_DELACK 0x000002 /* an ACK is owed */
#define TF_NODELAY 0x000004
#define TF_CORK 0x000008
#define TF_MORETOCOME 0x000010 /* the last send said MSG_MORE */
#define TF_SENTFIN 0x000020
#define TF_REQ_SCALE 0x000040
#define TF_RCVD_SCALE 0x000080
#define TF_REQ_TS 0x000100
#define TF_RCVD_TS 0x000200 /* timestamps are in use */
#define TF_SACK_PERMIT 0x000400
#define TF_NEEDFIN 0x000800 /* the user closed before the handshake ended */
#define TF_HELDSYN 0x001000 /* SOO_HOLDSYN: SYN,ACK waits for pru_accept() */
#define TF_FASTRECOVERY 0x002000
#define TF_RTORECOVERY 0x004000
#define TF_FORCE 0x008000   /* send something even if the window is shut */
#define TF_PASSIVE 0x010000 /* opened by a listener (RFC 9293 MUST-11) */
#define TF_URG_SEND 0x020000
#define TF_URG_PENDING 0x040000 /* urgent byte not yet taken from the stream */
#define TF_QUICKACK 0x080000	/* TCP_QUICKACK */
#define TF_FINSEEN 0x100000	/* t_finseq is good: a FIN came out of order */
#define TF_BLACKHOLE 0x200000	/* segment size lowered on suspicion */
#define TF_TLPSENT 0x400000
#define TF_UNDO 0x800000       /* t_prev* are good */
#define TF_ECN 0x8000000       /* both ends know ECN (RFC 3168) */
#define TF_ECNASKED 0x10000000 /* our SYN said that we do */
#define TF_ECNECHO 0x20000000  /* congestion was experienced: tell the peer */
#define TF_ECNCWR 0x40000000   /* tell the peer that the window was cut */
#define TF_REORDER 0x4000000   /* this path has reordered segments */
#define TF_SYNCWND 0x2000000   /* a SYN was lost: initial window of one */

#define intotcpcb(inp) ((struct tcpcb *)(inp)->inp_ppcb)
static inline struct tcpcb *
sototcpcb(const struct socket *so)
{
	return so->so_pcb == NULL ? NULL : intotcpcb(sotoinpcb(so));
}

static inline bool
tcp_sack_on(const struct tcpcb *tp)
{
	return (tp->t_flags & TF_SACK_PERMIT) != 0;
}

static inline bool
tcp_in_recovery(const struct tcpcb *tp)
{
	return (tp->t_flags & (TF_FASTRECOVERY | TF_RTORECOVERY)) != 0;
}

/* ---- the protocol in one stack ---- */

struct tcp_state {
	struct stack *tcs_stack;
	struct tcp_tunables tcs_tun;
	struct tcp_stats tcs_stat;
	struct syncache *tcs_syncache;
	struct tcptw_table *tcs_tw;
	uint64_t tcs_challenge_sec; /* of tcs_challenge_left */
	int64_t tcs_challenge_left;
};

#define TCPSTAT_ADD(tcp, name, n) ((tcp)->tcs_stat.ts_##name += (n))
#define TCPSTAT_INC(tcp, name) TCPSTAT_ADD(tcp, name, 1)
#define TCPDROP(tcp, name) ((tcp)->tcs_stat.td_##name++)
#define TCPTUN(tcp, name) ((tcp)->tcs_tun.tt_##name)

/* ---- tcp_subr.c ---- */

struct tcpcb *tcp_newtcpcb(struct inpcb *inp); /* NULL: no memory */
/* Options of the socket that a child has from its listener, and a socket that
 * connects again from its former self. */
void tcp_inherit(struct tcpcb *tp, const struct tcpcb *from);
/* An unused control block in place of a used, closed one; NULL: no memory. */
struct tcpcb *tcp_renew(struct tcpcb *tp);
/* The connection is over. Frees the control block if the socket's user has
 * gone, else leaves it CLOSED: either way the caller forgets tp. */
void tcp_close(struct tcpcb *tp);
void tcp_discard(struct tcpcb *tp); /* frees tp and its inpcb */
/* Abort: RST if the peer knows of us, error to the user, close. */
void tcp_drop(struct tcpcb *tp, int error);
uint32_t tcp_newiss(struct stack *s, const union inaddr *laddr, uint16_t lport,
    const union inaddr *faddr, uint16_t fport);
uint32_t tcp_newtsoff(struct stack *s, const union inaddr *laddr,
    uint16_t lport, const union inaddr *faddr, uint16_t fport);
uint32_t tcp_tsclock(const struct stack *s); /* ms */
void tcp_sendseqinit(struct tcpcb *tp, uint32_t iss);
void tcp_rcvseqinit(struct tcpcb *tp, uint32_t irs);
/* Segment size from the path, the peer's option (0: none came) and the user's
 * wish; sets t_mss, t_maxseg, t_gsomax. */
void tcp_mss_update(struct tcpcb *tp);
uint16_t tcp_mss_offer(struct stack *s, struct route *ro,
    const union inaddr *faddr, uint32_t scope);
uint8_t tcp_wscale_offer(const struct tcp_state *tcp);
/* Negotiated options of a SYN (or of a syncache entry). */
void tcp_synoptions(struct tcpcb *tp, const struct tcpopt *to);
/* The handshake is done: congestion window, timers, tell the socket. false:
 * tp is gone. */
bool tcp_established(struct tcpcb *tp);
/* May one more challenge ACK be sent (RFC 5961 7)? */
bool tcp_challenge_ok(struct tcp_state *tcp, struct tcpcb *tp);

/* A segment without a control block behind it, or outside its flow. */
struct tcpreply {
	const union inaddr *tr_laddr, *tr_faddr;
	uint16_t tr_lport, tr_fport;
	uint32_t tr_seq, tr_ack;
	uint16_t tr_wnd;
	uint8_t tr_flags, tr_tos, tr_ttl;
	bool tr_freebind;
	uint32_t tr_scope;
	uint8_t tr_optlen;
	uint8_t tr_opt[TCP_MAXOLEN];
};
void tcp_reply(struct stack *s, const struct tcpreply *tr);
/* RST in answer to a segment that belongs nowhere (RFC 9293 3.10.7.1). */
void tcp_reset_segment(struct stack *s, const struct tcpseg *sg);

/* ---- tcp_ecn.c ---- */

struct mbuf;
/* Is congestion experienced written in a packet that starts at its IP header? */
bool tcp_ecn_isce(const struct mbuf *m);
/* Does a SYN ask for ECN, and do we want it? */
bool tcp_ecn_offered(const struct tcp_state *tcp, const struct tcpseg *sg);
void tcp_ecn_on(struct tcpcb *tp);
/* The answer to our SYN; an acceptable segment of a connection. */
void tcp_ecn_synsent(struct tcpcb *tp, const struct tcpseg *sg);
void tcp_ecn_input(struct tcpcb *tp, const struct tcpseg *sg);
/* ECE and CWR of a segment with these flags; the traffic class of its packet. */
uint8_t tcp_ecn_flags(struct tcpcb *tp, uint8_t flags, bool fresh);
uint8_t tcp_ecn_tos(const struct tcpcb *tp, uint8_t tos, bool fresh);

/* ---- tcp_input.c ---- */

/* In-order data to the socket. Advances rcv_nxt; consumes m. */
void tcp_deliver(struct tcpcb *tp, struct mbuf *m, uint32_t len);
/* A segment for connection tp; sg_m is consumed, tp may be gone after. */
void tcp_input_conn(struct tcpcb *tp, struct tcpseg *sg);

/* ---- tcp_ack.c: the fifth step ---- */

/* each step answers what becomes of the segment */
enum tcp_verdict {
	TCP_NEXT,
	TCP_DROP, /* dealt with; tp may be gone */
	TCP_DROPAFTERACK,
	TCP_DROPWITHRESET
};
enum tcp_verdict tcp_ackcheck(struct tcpcb *tp, struct tcpseg *sg);
/* Enter fast recovery; tcp_output() is to be called. */
void tcp_recovery_enter(struct tcpcb *tp);
/* sg_ack, in (snd_una, snd_max], acknowledges new bytes. Answers true when
 * our FIN is among what has been acknowledged. */
bool tcp_newack(struct tcpcb *tp, struct tcpseg *sg);
/* RFC 9293 3.10.7.4: take the window if the segment is not older than the one
 * it was last taken from. */
void tcp_wndupdate(struct tcpcb *tp, struct tcpseg *sg);

/* ---- tcp_reass.c ---- */

/* Keep data beyond rcv_nxt. Takes sg_m. */
void tcp_reass(struct tcpcb *tp, struct tcpseg *sg);
/* Deliver what has become in order. */
void tcp_reass_flush(struct tcpcb *tp);
void tcp_reass_free(struct tcpcb *tp);
/* Blocks to report, DSACK first; at most max. */
int tcp_sackblocks(struct tcpcb *tp, struct sackblk *out, int max);
void tcp_dsack(struct tcpcb *tp, uint32_t start, uint32_t end);

/* ---- tcp_sack.c ---- */

/* Take an ACK's news into the scoreboard. Answers the bytes newly SACKed. */
uint32_t tcp_sack_update(struct tcpcb *tp, const struct tcpopt *to,
    uint32_t ack);
void tcp_sack_setpipe(struct tcpcb *tp);    /* IsLost() and SetPipe() */
bool tcp_sack_lost(const struct tcpcb *tp); /* is the first hole lost? */
/* NextSeg() rules 1 and 3: the hole to send from next, or NULL. */
struct sackhole *tcp_sack_nexthole(struct tcpcb *tp, bool lostonly);
/* A timeout: everything not SACKed is lost. ENOMEM: go back N instead. */
int tcp_sack_alllost(struct tcpcb *tp);
void tcp_sack_sent(struct tcpcb *tp, struct sackhole *sh, uint32_t end);
void tcp_sack_free(struct tcpcb *tp);

/* ---- tcp_rack.c ---- */

/* Mark holes lost by time and lost retransmissions to be sent again; arms the
 * timer for the rest. */
void tcp_rack_mark(struct tcpcb *tp);
void tcp_rack_reordered(struct tcpcb *tp); /* a hole filled by itself */
void tcp_rack_dsack(struct tcpcb *tp);
void tcp_rack_recovered(struct tcpcb *tp); /* a recovery has ended */
/* May duplicates be counted? Not where segments come in any order. */
bool tcp_rack_countdups(const struct tcpcb *tp);

/* ---- tcp_syncache.c ---- */

int tcp_syncache_init(struct tcp_state *tcp);
void tcp_syncache_fini(struct tcp_state *tcp);
void tcp_syncache_drain(struct tcp_state *tcp);
/* A SYN for listener ltp. */
void tcp_syncache_add(struct tcpcb *ltp, struct tcpseg *sg);
/* A segment with ACK for a listener: the third of a handshake? Answers the
 * new connection, in SYN_RECEIVED, for tcp_input to go on with; NULL: the
 * segment has been dealt with, or *reset tells the caller to refuse it. */
struct tcpcb *tcp_syncache_expand(struct tcpcb *ltp, struct tcpseg *sg,
    bool *reset);
void tcp_syncache_rst(struct tcp_state *tcp, const struct tcpseg *sg);
/* The listener goes away. */
void tcp_syncache_forget(struct tcpcb *ltp);
/* The listener's queue has room again: complete what waited for it. */
void tcp_syncache_room(struct tcpcb *ltp);
void tcp_syncache_unreach(struct tcp_state *tcp, const struct ctlparam *cp);
uint32_t tcp_syncache_count(const struct tcp_state *tcp);

/* ---- tcp_timewait.c ---- */

int tcp_tw_init(struct tcp_state *tcp);
void tcp_tw_fini(struct tcp_state *tcp);
/* Enter TIME_WAIT: leave a compressed entry behind and close tp. */
void tcp_tw_start(struct tcpcb *tp);
enum tcp_twverdict { TCPTW_NONE, TCPTW_DONE, TCPTW_REUSE };
/* NONE: no such entry. DONE: dealt with. REUSE: a new incarnation may start;
 * the entry is gone, sg_iss is beyond what the old one sent. */
enum tcp_twverdict tcp_tw_input(struct tcp_state *tcp, struct tcpseg *sg);
/* Connecting over an old pair: take the entry out; true: *iss is set. */
bool tcp_tw_recycle(struct tcp_state *tcp, const struct inpcb *inp,
    uint32_t *iss);
uint32_t tcp_tw_count(const struct tcp_state *tcp);

/* ---- tcp_output.c ---- */

/* Send what may be sent now. errno of the last ip_output(), for tests; most
 * callers do not care, timers do. */
int tcp_output(struct tcpcb *tp);
void tcp_pto_arm(struct tcpcb *tp); /* tail loss probe, if one is due */
/* The pieces of a SYN's options, in the order of net.inet.tcp.synopt_order.
 * Answers their length, a multiple of 4. */
struct tcpsynopt {
	uint32_t to_tsval, to_tsecr;
	uint16_t to_mss;
	uint8_t to_wscale, to_flags;
};
uint32_t tcp_synopt_put(const struct tcp_state *tcp, const struct tcpsynopt *so,
    uint8_t *cp);
uint32_t tcp_ts_put(uint8_t *cp, uint32_t val, uint32_t ecr);
uint32_t tcp_rcvwindow(const struct tcpcb *tp); /* to be advertised, bytes */
/* Is an update of the window worth a segment? */
bool tcp_wndupdate_due(const struct tcpcb *tp);

/* ---- tcp_timer.c ---- */

void tcp_timer(struct stack *s, void *arg);
void tcp_timer_arm(struct tcpcb *tp, enum tcp_timer_id id, uint64_t when);
void tcp_timer_stop(struct tcpcb *tp, enum tcp_timer_id id);
void tcp_timer_stopall(struct tcpcb *tp);
static inline bool
tcp_timer_active(const struct tcpcb *tp, enum tcp_timer_id id)
{
	return tp->t_timer[id] != CALLOUT_NEVER;
}
const char *tcp_timer_name(const struct tcpcb *tp);
void tcp_rexmt_arm(struct tcpcb *tp); /* now + RTO, backed off */
uint64_t tcp_rexmt_timeout(const struct tcpcb *tp);
void tcp_persist_arm(struct tcpcb *tp);
void tcp_keep_arm(struct tcpcb *tp); /* after SO_KEEPALIVE has changed, too */
void tcp_rtt_sample(struct tcpcb *tp, uint64_t rtt);
void tcp_fin_timeout(struct tcpcb *tp); /* FIN_WAIT_2 with nobody there */

/* ---- tcp_usrreq.c ---- */

/* The user will send no more: queue a FIN. false: tp is gone. */
bool tcp_usrclosed(struct tcpcb *tp);

#endif
