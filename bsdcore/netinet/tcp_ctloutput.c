/*
 * tcp_ctloutput.c - IPPROTO_TCP socket options, with Linux's numbers, values
 * and errors (tcp(7)), and TCP_INFO.
 */
#include "bsdcore/netinet/cc/cc.h"
#include "bsdcore/netinet/ip_var.h"

#define MAXSEG_MIN 88
#define MAXSEG_MAX 32767
#define KEEP_MAX 32767
#define LINGER2_MAX 120 /* s */
#define CLAMP_MIN 1152

static void
tcp_setflag(struct tcpcb *tp, uint32_t flag, int val)
{
	if (val != 0) {
		tp->t_flags |= flag;
	} else {
		tp->t_flags &= ~flag;
	}
}

static int
tcp_setrange(uint32_t *p, int val, int min, int max)
{
	if (val < min || val > max) {
		return EINVAL;
	}
	*p = (uint32_t)val;
	return 0;
}

static int
tcp_setquickack(struct tcpcb *tp, int val)
{
	tcp_setflag(tp, TF_QUICKACK, val);
	if (val == 0) {
		tp->t_quickacks = 0;
	} else if (tp->t_flags & TF_DELACK) {
		tp->t_flags |= TF_ACKNOW;
		(void)tcp_output(tp);
	}
	return 0;
}

static int
tcp_setclamp(struct tcpcb *tp, int val)
{
	if (val == 0) {
		if (tp->t_state != TCPS_CLOSED) {
			return EINVAL;
		}
		tp->t_wndclamp = 0;
		return 0;
	}
	tp->t_wndclamp = val < CLAMP_MIN ? CLAMP_MIN : (uint32_t)val;
	return 0;
}

static int
tcp_setkeep(struct tcpcb *tp, uint32_t *p, int val, int max)
{
	int error = tcp_setrange(p, val, 1, max);

	if (error == 0) {
		tcp_keep_arm(tp);
	}
	return error;
}

static int
tcp_setint(struct tcpcb *tp, int name, int val)
{
	switch (name) {
	case TCP_NODELAY:
		tcp_setflag(tp, TF_NODELAY, val);
		(void)tcp_output(tp);
		return 0;
	case TCP_CORK:
		tcp_setflag(tp, TF_CORK, val);
		if (val == 0) {
			tp->t_flags &= ~TF_MORETOCOME;
			(void)tcp_output(tp);
		}
		return 0;
	case TCP_MAXSEG:
		return val == 0 ?
		    (tp->t_usermss = 0, 0) :
		    tcp_setrange(&tp->t_usermss, val, MAXSEG_MIN, MAXSEG_MAX);
	case TCP_KEEPIDLE:
		return tcp_setkeep(tp, &tp->t_keepidle, val, KEEP_MAX);
	case TCP_KEEPINTVL:
		return tcp_setkeep(tp, &tp->t_keepintvl, val, KEEP_MAX);
	case TCP_KEEPCNT:
		return tcp_setkeep(tp, &tp->t_keepcnt, val, 127);
	case TCP_SYNCNT:
		if (val < 1 || val > 127) {
			return EINVAL;
		}
		tp->t_rxtlimit = (uint8_t)val;
		return 0;
	case TCP_LINGER2:
		tp->t_linger2 = val < 0 ? -1 :
		    val > LINGER2_MAX	? LINGER2_MAX :
					  val;
		return 0;
	case TCP_DEFER_ACCEPT:
		tp->t_deferaccept = val < 0 ? 0 : (uint32_t)val;
		return 0;
	case TCP_WINDOW_CLAMP:
		return tcp_setclamp(tp, val);
	case TCP_QUICKACK:
		return tcp_setquickack(tp, val);
	case TCP_USER_TIMEOUT:
		return tcp_setrange(&tp->t_usertimeout, val, 0, INT32_MAX);
	case TCP_NOTSENT_LOWAT:
		tp->t_notsentlowat = (uint32_t)val;
		return 0;
	case TCP_FASTOPEN:
		return val < 0 ? EINVAL : 0; /* taken; no cookie is ever given */
	default:
		return ENOPROTOOPT;
	}
}

static int
tcp_setcc(struct tcpcb *tp, const struct sockopt *sopt)
{
	char name[CC_NAMELEN] = "";
	const struct cc_algo *cc;

	if (sopt->sopt_valsize < 1 || sopt->sopt_val == NULL) {
		return EINVAL;
	}
	memcpy(name, sopt->sopt_val,
	    sopt->sopt_valsize < sizeof(name) ? sopt->sopt_valsize :
						sizeof(name) - 1);
	cc = cc_byname(name);
	if (cc == NULL) {
		return ENOENT;
	}
	tp->t_owncc = NULL;
	cc_use(tp, cc);
	return 0;
}

/* ---- reading ---- */

static int
tcp_getint(const struct tcpcb *tp, int name, int *val)
{
	const struct tcp_state *tcp = tp->t_tcp;

	switch (name) {
	case TCP_NODELAY:
		*val = (tp->t_flags & TF_NODELAY) != 0;
		return 0;
	case TCP_CORK:
		*val = (tp->t_flags & TF_CORK) != 0;
		return 0;
	case TCP_MAXSEG:
		*val = (int)(tp->t_state <= TCPS_LISTEN && tp->t_usermss != 0 ?
			tp->t_usermss :
			tp->t_maxseg);
		return 0;
	case TCP_KEEPIDLE:
		*val = (int)(tp->t_keepidle != 0 ? tp->t_keepidle :
						   TCPTUN(tcp, keepidle));
		return 0;
	case TCP_KEEPINTVL:
		*val = (int)(tp->t_keepintvl != 0 ? tp->t_keepintvl :
						    TCPTUN(tcp, keepintvl));
		return 0;
	case TCP_KEEPCNT:
		*val = (int)(tp->t_keepcnt != 0 ? tp->t_keepcnt :
						  TCPTUN(tcp, keepcnt));
		return 0;
	case TCP_SYNCNT:
		*val = (int)(tp->t_rxtlimit != 0 ? tp->t_rxtlimit :
						   TCPTUN(tcp, syn_retries));
		return 0;
	case TCP_LINGER2:
		*val = tp->t_linger2 != 0 ? tp->t_linger2 :
					    (int)TCPTUN(tcp, finwait2);
		return 0;
	case TCP_DEFER_ACCEPT:
		*val = (int)tp->t_deferaccept;
		return 0;
	case TCP_WINDOW_CLAMP:
		*val = (int)tp->t_wndclamp;
		return 0;
	case TCP_QUICKACK:
		*val = tp->t_quickacks > 0 || (tp->t_flags & TF_QUICKACK);
		return 0;
	case TCP_USER_TIMEOUT:
		*val = (int)tp->t_usertimeout;
		return 0;
	case TCP_NOTSENT_LOWAT:
		*val = (int)tp->t_notsentlowat;
		return 0;
	case TCP_FASTOPEN:
		*val = 0;
		return 0;
	default:
		return ENOPROTOOPT;
	}
}

static uint8_t
tcp_linuxstate(const struct tcpcb *tp)
{
	/* clang-format off */
	static const uint8_t st[] = {
		[TCPS_CLOSED] = TCP_CLOSE, [TCPS_LISTEN] = TCP_LISTEN,
		[TCPS_SYN_SENT] = TCP_SYN_SENT, [TCPS_SYN_RECEIVED] = TCP_SYN_RECV,
		[TCPS_ESTABLISHED] = TCP_ESTABLISHED,
		[TCPS_CLOSE_WAIT] = TCP_CLOSE_WAIT, [TCPS_FIN_WAIT_1] = TCP_FIN_WAIT1,
		[TCPS_CLOSING] = TCP_CLOSING, [TCPS_LAST_ACK] = TCP_LAST_ACK,
		[TCPS_FIN_WAIT_2] = TCP_FIN_WAIT2, [TCPS_TIME_WAIT] = TCP_TIME_WAIT,
	};
	/* clang-format on */

	return st[tp->t_state];
}

static uint32_t
tcp_ms_since(const struct tcpcb *tp, uint64_t t)
{
	return t == 0 ? 0 : (uint32_t)((tp->t_stack->s_now - t) / NSEC_PER_MSEC);
}

static void
tcp_info_send(const struct tcpcb *tp, struct tcpinfo *ti)
{
	uint32_t mss = u32max(tp->t_maxseg, 1);
	uint32_t out = tp->snd_max - tp->snd_una;

	ti->tcpi_snd_mss = tp->t_maxseg;
	ti->tcpi_unacked = (out + mss - 1) / mss;
	ti->tcpi_sacked = tp->t_nholes == 0 ? 0 : tp->t_sackedbytes / mss;
	for (const struct sackhole *sh = TAILQ_FIRST(&tp->t_holes); sh != NULL;
	    sh = TAILQ_NEXT(sh, sh_link)) {
		if (sh->sh_lost) {
			ti->tcpi_lost +=
			    (sh->sh_end - sh->sh_start + mss - 1) / mss;
		}
		ti->tcpi_retrans += (sh->sh_rxmit - sh->sh_start) / mss;
	}
	ti->tcpi_snd_ssthresh =
	    tp->snd_ssthresh >= 1u << 30 ? INT32_MAX : tp->snd_ssthresh / mss;
	ti->tcpi_snd_cwnd = tp->snd_cwnd / mss;
	ti->tcpi_total_retrans = tp->t_rexmitpack;
	ti->tcpi_segs_out = tp->t_segsout;
	ti->tcpi_bytes_acked = tp->t_ackedbytes;
	ti->tcpi_bytes_sent = tp->t_sentbytes;
	ti->tcpi_bytes_retrans = tp->t_rexmitbytes;
	ti->tcpi_notsent_bytes =
	    tp->t_so->so_snd.sb_cc > out ? tp->t_so->so_snd.sb_cc - out : 0;
	ti->tcpi_snd_wnd = tp->snd_wnd;
}

static void
tcp_info(const struct tcpcb *tp, struct tcpinfo *ti)
{
	memset(ti, 0, sizeof(*ti));
	ti->tcpi_state = tcp_linuxstate(tp);
	ti->tcpi_ca_state = tp->t_flags & TF_RTORECOVERY ? TCP_CA_Loss :
	    tp->t_flags & TF_FASTRECOVERY		 ? TCP_CA_Recovery :
							   TCP_CA_Open;
	ti->tcpi_retransmits = ti->tcpi_backoff = tp->t_rxtshift;
	ti->tcpi_probes = tp->t_keepprobes;
	ti->tcpi_options =
	    (uint8_t)((tp->t_flags & TF_RCVD_TS ? TCPI_OPT_TIMESTAMPS : 0) |
		(tcp_sack_on(tp) ? TCPI_OPT_SACK : 0) |
		(tp->t_flags & TF_RCVD_SCALE ? TCPI_OPT_WSCALE : 0));
	ti->tcpi_wscale = (uint8_t)(tp->t_sndscale | tp->t_rcvscale << 4);
	ti->tcpi_rto = (uint32_t)(tp->t_rto / NSEC_PER_USEC);
	ti->tcpi_ato = (uint32_t)TCPTUN(tp->t_tcp, delack) * 1000;
	ti->tcpi_rcv_mss = tp->t_rcvmss != 0 ? tp->t_rcvmss : TCP_MSS4;
	ti->tcpi_last_data_sent = tcp_ms_since(tp, tp->t_sndtime);
	ti->tcpi_last_data_recv = tcp_ms_since(tp, tp->t_rcvtime);
	ti->tcpi_last_ack_recv = ti->tcpi_last_data_recv;
	ti->tcpi_pmtu = tp->t_pmtu;
	ti->tcpi_rtt = (uint32_t)(tp->t_srtt / NSEC_PER_USEC);
	ti->tcpi_rttvar = (uint32_t)(tp->t_rttvar / NSEC_PER_USEC);
	ti->tcpi_min_rtt = (uint32_t)(tp->t_minrtt / NSEC_PER_USEC);
	ti->tcpi_advmss = tp->t_maxseg;
	ti->tcpi_reordering = (uint32_t)TCPTUN(tp->t_tcp, dupthresh);
	ti->tcpi_rcv_space = tp->t_so->so_rcv.sb_hiwat;
	ti->tcpi_rcv_ssthresh = tp->rcv_wnd;
	ti->tcpi_segs_in = tp->t_segsin;
	ti->tcpi_bytes_received = tp->t_rcvbytes;
	if (tp->t_state >= TCPS_ESTABLISHED) {
		tcp_info_send(tp, ti);
	}
}

static int
tcp_getopt(struct tcpcb *tp, struct sockopt *sopt)
{
	struct tcpinfo ti;
	char name[CC_NAMELEN] = "";
	int val, error;

	switch (sopt->sopt_name) {
	case TCP_INFO:
		tcp_info(tp, &ti);
		return sooptcopyout(sopt, &ti, sizeof(ti));
	case TCP_CONGESTION:
		snprintf(name, sizeof(name), "%s", tp->t_cc->cc_name);
		return sooptcopyout(sopt, name, sizeof(name));
	default:
		error = tcp_getint(tp, sopt->sopt_name, &val);
		return error != 0 ? error :
				    sooptcopyout(sopt, &val, sizeof(val));
	}
}

int
tcp_ctloutput(struct socket *so, struct sockopt *sopt)
{
	struct tcpcb *tp = sototcpcb(so);
	int val, error;

	if (sopt->sopt_level == SOL_SOCKET) {
		/* Told after the fact. */
		if (sopt->sopt_name == SO_KEEPALIVE) {
			tcp_keep_arm(tp);
		}
		return 0;
	}
	if (sopt->sopt_level != IPPROTO_TCP) {
		return ip_ctloutput(so, sopt);
	}
	if (sopt->sopt_dir == SOPT_GET) {
		return tcp_getopt(tp, sopt);
	}
	if (sopt->sopt_name == TCP_CONGESTION) {
		return tcp_setcc(tp, sopt);
	}
	error = sooptint(sopt, &val);
	return error != 0 ? error : tcp_setint(tp, sopt->sopt_name, val);
}
