/*
 * tcp_usrreq.c - what the socket layer asks of TCP: open, send, close,
 * options (RFC 9293 3.9.1 in the words of pr_usrreqs).
 */
#include "bsdcore/net/if.h"
#include "bsdcore/netinet/cc/cc.h"
#include "bsdcore/netinet/ip_var.h"

/* ---- open ---- */

static int
tcp_usr_attach(struct socket *so, int proto)
{
	struct stack *s = so->so_stack;
	struct inpcb *inp;
	int error;

	(void)proto;
	if (so->so_snd.sb_hiwat == 0 || so->so_rcv.sb_hiwat == 0) {
		error = sbreserve(&so->so_snd,
		    (uint32_t)TCPTUN(s->s_tcp, sendspace));
		if (error == 0) {
			error = sbreserve(&so->so_rcv,
			    (uint32_t)TCPTUN(s->s_tcp, recvspace));
		}
		if (error != 0) {
			return error;
		}
		so->so_snd.sb_flags |= SB_AUTOSIZE;
		so->so_rcv.sb_flags |= SB_AUTOSIZE;
	}
	error = in_pcballoc(so, s->s_tcbinfo, &inp);
	if (error != 0) {
		return error;
	}
	so->so_pcb = inp;
	if (tcp_newtcpcb(inp) == NULL) {
		in_pcbfree(inp);
		so->so_pcb = NULL;
		return ENOBUFS;
	}
	return 0;
}

static int
tcp_usr_bind(struct socket *so, const struct sockaddr *sa, socklen_t len)
{
	struct tcpcb *tp = sototcpcb(so);

	return tp->t_state != TCPS_CLOSED ? EINVAL :
					    in_pcbbind(tp->t_inp, sa, len);
}

static int
tcp_usr_listen(struct socket *so, int backlog)
{
	struct tcpcb *tp = sototcpcb(so);
	int error;

	(void)backlog;
	if (tp->t_state != TCPS_CLOSED) {
		return tp->t_state == TCPS_LISTEN ? 0 : EINVAL;
	}
	error = in_pcblisten(tp->t_inp);
	if (error == 0) {
		tcp_setstate(tp, TCPS_LISTEN);
		/* A socket that was connected before starts afresh. */
		so->so_state &= ~(uint32_t)SS_ISDISCONNECTED;
	}
	return error;
}

/* What a SYN asks for. */
static void
tcp_request_options(struct tcpcb *tp)
{
	struct tcp_state *tcp = tp->t_tcp;

	if (TCPTUN(tcp, window_scaling)) {
		tp->t_flags |= TF_REQ_SCALE;
		tp->t_reqscale = tcp_wscale_offer(tcp);
	}
	if (TCPTUN(tcp, timestamps)) {
		tp->t_flags |= TF_REQ_TS;
	}
}

/* Can the SYN ever leave? */
static bool
tcp_hopeless(int error)
{
	return error == EHOSTUNREACH || error == ENETUNREACH ||
	    error == EADDRNOTAVAIL || error == EACCES || error == EPERM;
}

static int
tcp_usr_connect(struct socket *so, const struct sockaddr *sa, socklen_t len)
{
	struct tcpcb *tp = sototcpcb(so);
	struct inpcb *inp = tp->t_inp;
	struct stack *s = so->so_stack;
	uint32_t iss, least;
	int error;

	if (tp->t_state != TCPS_CLOSED) {
		return tp->t_state == TCPS_SYN_SENT ? EALREADY : EISCONN;
	}
	if (tp->iss != 0 && (tp = tcp_renew(tp)) == NULL) {
		return ENOBUFS;
	}
	error = in_pcbconnect(inp, sa, len);
	if (error != 0) {
		return error;
	}
	so->so_rcv.sb_state = so->so_snd.sb_state = 0;
	soisconnecting(so);
	iss = tcp_newiss(s, &inp->inp_laddr, inp->inp_lport, &inp->inp_faddr,
	    inp->inp_fport);
	if (tcp_tw_recycle(tp->t_tcp, inp, &least)) {
		iss = seq_max(iss, least);
	}
	tp->t_tsoff = tcp_newtsoff(s, &inp->inp_laddr, inp->inp_lport,
	    &inp->inp_faddr, inp->inp_fport);
	tcp_request_options(tp);
	tcp_sendseqinit(tp, iss);
	tcp_mss_update(tp);
	tp->snd_cwnd = tp->t_maxseg;
	tcp_setstate(tp, TCPS_SYN_SENT);
	TCPSTAT_INC(tp->t_tcp, connattempt);
	error = tcp_output(tp);
	if (tcp_hopeless(error)) {
		tcp_close(tp);
		return error;
	}
	return 0;
}

static int
tcp_usr_accept(struct socket *so)
{
	struct tcpcb *tp = sototcpcb(so);

	if (tp->t_flags & TF_HELDSYN) {
		tp->t_flags &= ~TF_HELDSYN;
		(void)tcp_output(tp);
	}
	return 0;
}

static int
tcp_usr_room(struct socket *so)
{
	tcp_syncache_room(sototcpcb(so));
	return 0;
}

/* ---- close ---- */

bool
tcp_usrclosed(struct tcpcb *tp)
{
	switch (tp->t_state) {
	case TCPS_LISTEN:
	case TCPS_SYN_SENT:
		tcp_close(tp);
		return false;
	case TCPS_SYN_RECEIVED:
		tp->t_flags |= TF_NEEDFIN;
		break;
	case TCPS_ESTABLISHED:
		tcp_setstate(tp, TCPS_FIN_WAIT_1);
		break;
	case TCPS_CLOSE_WAIT:
		tcp_setstate(tp, TCPS_LAST_ACK);
		break;
	case TCPS_FIN_WAIT_2:
		tcp_fin_timeout(tp);
		break;
	default:
		break;
	}
	return true;
}

static int
tcp_usr_disconnect(struct socket *so)
{
	struct tcpcb *tp = sototcpcb(so);

	if (tp->t_state == TCPS_CLOSED) {
		return 0;
	}
	if (!TCPS_HAVEESTABLISHED(tp->t_state) &&
	    tp->t_state != TCPS_SYN_RECEIVED) {
		tcp_close(tp);
		return 0;
	}
	if (tp->t_state == TCPS_SYN_RECEIVED && (tp->t_flags & TF_HELDSYN)) {
		tcp_drop(tp, ECONNABORTED);
		return 0;
	}
	tp->t_flags &= ~(TF_CORK | TF_MORETOCOME);
	soisdisconnecting(so);
	if (tcp_usrclosed(tp)) {
		(void)tcp_output(tp);
	}
	return 0;
}

static void
tcp_usr_detach(struct socket *so)
{
	struct tcpcb *tp = sototcpcb(so);

	switch (tp->t_state) {
	case TCPS_CLOSED:
		tcp_discard(tp);
		break;
	case TCPS_LISTEN:
	case TCPS_SYN_SENT:
	case TCPS_SYN_RECEIVED:
	case TCPS_ESTABLISHED:
	case TCPS_CLOSE_WAIT:
		(void)tcp_usr_disconnect(so);
		break;
	default:
		tcp_fin_timeout(tp);
		break;
	}
}

static int
tcp_usr_shutdown(struct socket *so)
{
	struct tcpcb *tp = sototcpcb(so);

	socantsendmore(so);
	tp->t_flags &= ~(TF_CORK | TF_MORETOCOME);
	if (tcp_usrclosed(tp)) {
		(void)tcp_output(tp);
	}
	return 0;
}

static void
tcp_usr_abort(struct socket *so)
{
	struct tcpcb *tp = sototcpcb(so);

	if (tp->t_state != TCPS_CLOSED) {
		tcp_drop(tp, ECONNABORTED);
	}
	if (so->so_pcb != NULL) {
		tcp_discard(sototcpcb(so));
	}
}

/* ---- data ---- */

static int
tcp_usr_send(struct socket *so, int flags, struct mbuf *m,
    const struct sockaddr *to, socklen_t tolen, struct mbuf *control)
{
	struct tcpcb *tp = sototcpcb(so);

	(void)to; /* connected: Linux ignores it, too */
	(void)tolen;
	m_freem(control);
	if (!TCPS_HAVEESTABLISHED(tp->t_state) || TCPS_HAVECLOSED(tp->t_state)) {
		m_freem(m);
		return EPIPE;
	}
	so_tagchain(so, m);
	sbappendstream(&so->so_snd, m);
	sbavail_update(so);
	if (flags & PRUS_OOB) {
		tp->snd_up = tp->snd_una + so->so_snd.sb_cc;
		tp->t_flags |= TF_URG_SEND;
	}
	if (flags & PRUS_MORETOCOME) {
		tp->t_flags |= TF_MORETOCOME;
	} else {
		tp->t_flags &= ~TF_MORETOCOME;
	}
	(void)tcp_output(tp);
	if ((flags & PRUS_EOF) && tcp_usrclosed(tp)) {
		socantsendmore(so);
		(void)tcp_output(tp);
	}
	return 0;
}

/* Grow the receive buffer to twice what the reader takes in a round trip, so
 * that the window never limits a sender in slow start. */
static void
tcp_rcvbuf_grow(struct tcpcb *tp)
{
	struct sockbuf *sb = &tp->t_so->so_rcv;
	uint64_t now = tp->t_stack->s_now, want;
	uint32_t taken = (uint32_t)tp->t_rcvbytes - sb->sb_cc, copied;

	if (now - tp->t_rcvqtime < u64max(tp->t_srtt, NSEC_PER_MSEC)) {
		return;
	}
	copied = taken - tp->t_rcvqcopied;
	tp->t_rcvqtime = now;
	tp->t_rcvqcopied = taken;
	if (copied <= tp->t_rcvqspace) {
		return;
	}
	tp->t_rcvqspace = copied;
	want = u64min(2ull * copied + 16ull * tp->t_maxseg,
	    (uint64_t)TCPTUN(tp->t_tcp, autorcvbuf_max));
	if ((sb->sb_flags & SB_AUTOSIZE) && want > sb->sb_hiwat &&
	    !mbpool_short(tp->t_stack->s_mb)) {
		(void)sbreserve(sb, (uint32_t)want);
	}
}

static int
tcp_usr_rcvd(struct socket *so, int flags)
{
	struct tcpcb *tp = sototcpcb(so);

	(void)flags;
	if (!TCPS_HAVEESTABLISHED(tp->t_state)) {
		return 0;
	}
	tcp_rcvbuf_grow(tp);
	if (tcp_wndupdate_due(tp)) {
		(void)tcp_output(tp);
	}
	return 0;
}

static int
tcp_usr_peeraddr(struct socket *so, struct sockaddr_storage *ss, socklen_t *len)
{
	const struct tcpcb *tp = sototcpcb(so);

	if (tp->t_state == TCPS_CLOSED || tp->t_state == TCPS_SYN_SENT) {
		return ENOTCONN;
	}
	return in_setpeeraddr(so, ss, len);
}

const struct pr_usrreqs tcp_usrreqs = {
	.pru_attach = tcp_usr_attach,
	.pru_detach = tcp_usr_detach,
	.pru_bind = tcp_usr_bind,
	.pru_listen = tcp_usr_listen,
	.pru_accept = tcp_usr_accept,
	.pru_room = tcp_usr_room,
	.pru_connect = tcp_usr_connect,
	.pru_disconnect = tcp_usr_disconnect,
	.pru_shutdown = tcp_usr_shutdown,
	.pru_abort = tcp_usr_abort,
	.pru_send = tcp_usr_send,
	.pru_rcvd = tcp_usr_rcvd,
	.pru_sockaddr = in_setsockaddr,
	.pru_peeraddr = tcp_usr_peeraddr,
};
