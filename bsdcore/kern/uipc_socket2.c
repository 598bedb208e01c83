/*
 * uipc_socket2.c - the states of a socket, as protocols report them, and the
 * queues of a listener.
 *
 * A connection that comes in is made by sonewconn() on its listener's so_incomp
 * (handshake going on) or so_comp (to be accepted), moves from one to the other
 * in soisconnected(), and leaves by soaccept(). Until then nobody but the
 * listener holds it: SS_NOFDREF is set.
 */
#include <poll.h>

#include "bsdcore/sys/kernel.h"
#include "bsdcore/sys/socketvar.h"

#define POLL_READ (POLLIN | POLLPRI | POLLRDHUP | POLLERR | POLLHUP)
#define POLL_WRITE (POLLOUT | POLLERR | POLLHUP)

static bool
so_closed(const struct socket *so)
{
	return (so->so_state &
		   (SS_ISCONNECTED | SS_ISCONNECTING | SS_ISDISCONNECTING)) == 0;
}

static int
sopoll_stream(const struct socket *so, bool rcvshut, bool sndshut)
{
	int ev = 0;

	if ((rcvshut && sndshut) || so_closed(so)) {
		ev |= POLLHUP;
	}
	if (so->so_state & SS_ISCONNECTING) {
		return ev;
	}
	if (so->so_rcv.sb_cc > 0 && so->so_rcv.sb_cc >= so->so_rcv.sb_lowat) {
		ev |= POLLIN;
	}
	if (sndshut || sbwriteable(&so->so_snd)) {
		ev |= POLLOUT;
	}
	if (so->so_hasoob ||
	    ((so->so_options & SOO_OOBINLINE) &&
		(so->so_oobmark != 0 || (so->so_rcv.sb_state & SBS_RCVATMARK)))) {
		ev |= POLLPRI;
	}
	return ev;
}

int
sopoll(struct socket *so)
{
	bool rcvshut = (so->so_rcv.sb_state & SBS_CANTRCVMORE) != 0;
	bool sndshut = (so->so_snd.sb_state & SBS_CANTSENDMORE) != 0;
	int ev = 0;

	if (so->so_options & SOO_ACCEPTCONN) {
		return TAILQ_EMPTY(&so->so_comp) ? 0 : POLLIN;
	}
	if (so->so_proto->pr_flags & PR_ATOMIC) {
		bool conn = (so->so_proto->pr_flags & PR_CONNREQUIRED) != 0;

		if (so->so_rcv.sb_mb != NULL) {
			ev |= POLLIN;
		}
		if ((rcvshut && sndshut) || (conn && so_closed(so))) {
			ev |= POLLHUP;
		}
		if (!(so->so_state & (SS_ISCONNECTING | SS_SUSPENDED)) &&
		    (sndshut || sbspace(&so->so_snd) > 0)) {
			ev |= POLLOUT;
		}
	} else {
		ev = sopoll_stream(so, rcvshut, sndshut);
	}
	if (rcvshut) {
		ev |= POLLIN | POLLRDHUP;
	}
	if (so->so_error != 0) {
		ev |= POLLERR;
	}
	if (so->so_state & SS_DEFUNCT) {
		ev |= POLLIN | POLLOUT | POLLERR | POLLHUP;
	}
	return ev;
}

static void
so_notify(struct socket *so, int mask)
{
	int ev = sopoll(so) & mask;

	if (so->so_relay != NULL) {
		relay_notify(so); /* it has thresholds of its own */
	}
	if (ev == 0) {
		return;
	}
	if (so->so_waiters != NULL) {
		so_wake_waiters(so, ev);
	}
	if (so->so_events != NULL) {
		evq_notify(so, ev);
	}
}

static bool
so_watched(const struct socket *so)
{
	return so->so_waiters != NULL || so->so_events != NULL ||
	    so->so_relay != NULL;
}

void
sorwakeup(struct socket *so)
{
	sbavail_update(so);
	if (so_watched(so)) {
		so_notify(so, POLL_READ);
	}
}

void
sowwakeup(struct socket *so)
{
	sbavail_update(so);
	if (so_watched(so)) {
		so_notify(so, POLL_WRITE);
	}
	if (so->so_snd.sb_cc == 0 && so->so_stack->s_so->sos_drainers != NULL) {
		waitlist_wake(so->so_stack, so->so_stack->s_so->sos_drainers,
		    -1);
	}
}

void
soisconnecting(struct socket *so)
{
	so->so_state &=
	    ~(uint32_t)(SS_ISCONNECTED | SS_ISDISCONNECTING | SS_ISDISCONNECTED);
	so->so_state |= SS_ISCONNECTING;
}

/* accept(2) tells the peer's name even of a connection that was reset while it
 * waited, and by then the pcb has gone. */
static void
so_keeppeer(struct socket *so)
{
	struct sockaddr_storage ss;
	socklen_t len = 0;

	if (so->so_pcb == NULL || PRU(so, peeraddr, &ss, &len) != 0 ||
	    len > (socklen_t)sizeof(*so->so_peer)) {
		return;
	}
	so->so_peer = calloc(1, sizeof(*so->so_peer));
	if (so->so_peer != NULL) {
		memcpy(so->so_peer, &ss, len);
	}
}

static void
so_complete(struct socket *head, struct socket *so)
{
	TAILQ_INSERT_TAIL(&head->so_comp, so, so_list);
	so->so_state |= SS_COMP;
	head->so_qlen++;
	sorwakeup(head);
}

void
soisconnected(struct socket *so)
{
	so->so_state &= ~(uint32_t)(SS_ISCONNECTING | SS_ISDISCONNECTING |
	    SS_ISDISCONNECTED);
	so->so_state |= SS_ISCONNECTED;
	if (so->so_head != NULL && (so->so_state & SS_INCOMP)) {
		TAILQ_REMOVE(&so->so_head->so_incomp, so, so_list);
		so->so_state &= ~(uint32_t)SS_INCOMP;
		so->so_head->so_incqlen--;
		so_keeppeer(so);
		so_complete(so->so_head, so);
	}
	sorwakeup(so);
	sowwakeup(so);
}

void
soisdisconnecting(struct socket *so)
{
	so->so_state &= ~(uint32_t)SS_ISCONNECTING;
	so->so_state |= SS_ISDISCONNECTING;
	so->so_rcv.sb_state |= SBS_CANTRCVMORE;
	so->so_snd.sb_state |= SBS_CANTSENDMORE;
	sorwakeup(so);
	sowwakeup(so);
}

void
soisdisconnected(struct socket *so)
{
	so->so_state &=
	    ~(uint32_t)(SS_ISCONNECTING | SS_ISCONNECTED | SS_ISDISCONNECTING);
	so->so_state |= SS_ISDISCONNECTED;
	so->so_rcv.sb_state |= SBS_CANTRCVMORE;
	so->so_snd.sb_state |= SBS_CANTSENDMORE;
	sbflush(&so->so_snd);
	sorwakeup(so);
	sowwakeup(so);
}

void
socantsendmore(struct socket *so)
{
	so->so_snd.sb_state |= SBS_CANTSENDMORE;
	sowwakeup(so);
}

/* From protocols: the peer will send no more. */
void
socantrcvmore(struct socket *so)
{
	so->so_state |= SS_PEERDONE;
	so->so_rcv.sb_state |= SBS_CANTRCVMORE;
	sorwakeup(so);
}

void
sohasoutofband(struct socket *so)
{
	sorwakeup(so);
}

/* Linux: a listener holds backlog + 1 connections to be accepted. */
bool
soqfull(const struct socket *head)
{
	return head->so_qlen > head->so_qlimit;
}

static void
so_inherit(struct socket *so, const struct socket *head)
{
	so->so_options =
	    head->so_options & ~(uint32_t)(SOO_ACCEPTCONN | SOO_HOLDSYN);
	so->so_linger = head->so_linger;
	so->so_traffic_class = head->so_traffic_class;
	/* A tag is of whoever sends, and nobody has yet. */
	so->so_qosflags =
	    (uint8_t)(head->so_qosflags & ~(unsigned)(SOQ_TAGSVC | SOQ_TAGGED));
	so->so_priority = head->so_priority;
	so->so_mark = head->so_mark;
	so->so_boundif = head->so_boundif;
	so->so_rcv.sb_lowat = head->so_rcv.sb_lowat;
	so->so_snd.sb_lowat = head->so_snd.sb_lowat;
	so->so_rcvtimeo = head->so_rcvtimeo;
	so->so_sndtimeo = head->so_sndtimeo;
}

static void
so_inherit_space(struct socket *so, const struct socket *head)
{
	(void)sbreserve(&so->so_rcv, head->so_rcv.sb_hiwat);
	(void)sbreserve(&so->so_snd, head->so_snd.sb_hiwat);
	so->so_rcv.sb_flags |= head->so_rcv.sb_flags & SB_AUTOSIZE;
	so->so_snd.sb_flags |= head->so_snd.sb_flags & SB_AUTOSIZE;
	so->so_snd.sb_ahead = head->so_snd.sb_ahead;
}

struct socket *
sonewconn(struct socket *head, uint32_t state)
{
	struct so_state *sos = head->so_stack->s_so;
	struct socket *so;

	if (soqfull(head)) {
		sos->sos_listen_overflow++;
		return NULL;
	}
	so = soalloc(head->so_stack, head->so_proto, head->so_family);
	if (so == NULL) {
		return NULL;
	}
	so->so_type = head->so_type;
	so->so_protocol = head->so_protocol;
	so_inherit(so, head);
	so->so_state = SS_NOFDREF;
	if (PRU(so, attach, so->so_protocol) != 0) {
		sofree(so);
		return NULL;
	}
	so_inherit_space(so, head);
	so->so_head = head;
	if (state & SS_ISCONNECTED) {
		so->so_state |= SS_ISCONNECTED;
		so_complete(head, so);
	} else {
		so->so_state |= state | SS_INCOMP;
		TAILQ_INSERT_TAIL(&head->so_incomp, so, so_list);
		head->so_incqlen++;
	}
	sbavail_update(so);
	return so;
}

/* Off its listener's queue. */
void
soqremove(struct socket *so)
{
	struct socket *head = so->so_head;

	if (head == NULL) {
		return;
	}
	if (so->so_state & SS_INCOMP) {
		TAILQ_REMOVE(&head->so_incomp, so, so_list);
		head->so_incqlen--;
	} else if (so->so_state & SS_COMP) {
		TAILQ_REMOVE(&head->so_comp, so, so_list);
		head->so_qlen--;
	}
	so->so_state &= ~(uint32_t)(SS_INCOMP | SS_COMP);
	so->so_head = NULL;
}
