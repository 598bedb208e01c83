/*
 * uipc_socket.c - the life of a socket: made, bound, connected, closed.
 *
 * Freed when nobody is left: the user has closed (SS_NOFDREF), the protocol
 * has let go (so_pcb NULL), no call is in flight (so_refs 0), no listener
 * holds it for accept.
 *
 * As on Linux, closing a socket in which another thread still waits takes
 * effect when that call is over (SS_CLOSING).
 */
#include <sched.h>
#include <unistd.h>

#include "bsdcore/sys/kernel.h"
#include "bsdcore/sys/socketvar.h"
#include "bsdcore/sys/sysctl.h"

/* clang-format off */
static const struct sysctl_def so_tunables[] = {
	{ "kern.ipc.maxsockets", offsetof(struct so_state, sos_maxsockets),
	    262144, 1, 1 << 24, "sockets a stack may have" },
	{ "kern.ipc.maxsockbuf", offsetof(struct so_state, sos_sb_max),
	    8 << 20, 4608, 1 << 29, "bytes, upper bound of SO_RCVBUF and SO_SNDBUF" },
	{ "kern.ipc.somaxconn", offsetof(struct so_state, sos_somaxconn),
	    4096, 1, 65535, "upper bound of listen(2)'s backlog" },
	{ "kern.ipc.spin", offsetof(struct so_state, sos_spin),
	    20000, 0, 10000000, "ns a waiting thread spins before it sleeps" },
	{ "kern.ipc.handoff", offsetof(struct so_state, sos_handoff),
	    0, 0, 1000000, "ns a woken spinner leaves the interpreter to its waker" },
	{ "kern.ipc.copychunk", offsetof(struct so_state, sos_chunk),
	    131072, 4096, 1 << 24, "bytes copied at a time outside the lock" },
	{ "kern.ipc.lendmax", offsetof(struct so_state, sos_lendmax),
	    64 << 20, 0, 1ll << 40, "bytes of packet memory the application may hold" },
	{ "net.local.space", offsetof(struct so_state, sos_local_space),
	    212992, 4096, 1 << 28, "bytes, buffer size of PF_LOCAL sockets" },
};
static const struct stat_def so_stats[] = {
	{ "kern.ipc.listen_overflow", offsetof(struct so_state, sos_listen_overflow) },
	{ "kern.ipc.wait.spun", offsetof(struct so_state, sos_spun) },
	{ "kern.ipc.wait.spun_lost", offsetof(struct so_state, sos_spunlost) },
	{ "kern.ipc.wait.handed", offsetof(struct so_state, sos_handed) },
	{ "kern.ipc.wait.handed_lost", offsetof(struct so_state, sos_handlost) },
	{ "kern.ipc.wait.slept", offsetof(struct so_state, sos_slept) },
	{ "kern.ipc.nobufs", offsetof(struct so_state, sos_nobufs) },
	{ "kern.ipc.copyin", offsetof(struct so_state, sos_copyin) },
	{ "kern.ipc.copyout", offsetof(struct so_state, sos_copyout) },
	{ "kern.ipc.byref", offsetof(struct so_state, sos_byref) },
	{ "kern.ipc.lent", offsetof(struct so_state, sos_lentbytes) },
	{ "kern.ipc.lent_refused", offsetof(struct so_state, sos_lendover) },
};
/* clang-format on */

int
so_init(struct stack *s)
{
	struct so_state *sos = calloc(1, sizeof(*sos));
	cpu_set_t cpus;
	int error;

	if (sos == NULL) {
		return ENOMEM;
	}
	s->s_so = sos;
	LIST_INIT(&sos->sos_all);
	LIST_INIT(&sos->sos_evqs);
	sos->sos_pid = (int)getpid();
	sos->sos_uid = getuid();
	sos->sos_gid = getgid();
	sos->sos_ncpu = sched_getaffinity(0, sizeof(cpus), &cpus) == 0 ?
	    CPU_COUNT(&cpus) :
	    1;
	error = sysctl_register(s, so_tunables, nitems(so_tunables), sos);
	if (error == 0) {
		error = stat_register(s, so_stats, nitems(so_stats), sos);
	}
	return error;
}

void
so_fini(struct stack *s)
{
	KASSERT(s->s_so == NULL || LIST_EMPTY(&s->s_so->sos_all));
	free(s->s_so);
	s->s_so = NULL;
}

struct socket *
soalloc(struct stack *s, const struct protosw *pr, int family)
{
	struct so_state *sos = s->s_so;
	struct socket *so;

	if ((int64_t)sos->sos_count >= sos->sos_maxsockets) {
		return NULL;
	}
	so = calloc(1, sizeof(*so));
	if (so == NULL) {
		return NULL;
	}
	so->so_stack = s;
	so->so_proto = pr;
	so->so_family = family;
	so->so_type = pr->pr_type;
	so->so_protocol = pr->pr_protocol;
	so->so_rcv.sb_lowat = so->so_snd.sb_lowat = 1;
	so->so_spin = (struct spin)SPIN_INIT;
	so->so_pid = sos->sos_pid;
	so->so_user_id = ++sos->sos_next_id;
	TAILQ_INIT(&so->so_incomp);
	TAILQ_INIT(&so->so_comp);
	LIST_INSERT_HEAD(&sos->sos_all, so, so_all);
	sos->sos_count++;
	return so;
}

int
socreate(struct stack *s, int family, int type, int proto, struct socket **out)
{
	const struct protosw *pr;
	struct socket *so;
	int error = 0;

	if (s->s_flags & STACK_DRAINING) {
		return ENETDOWN;
	}
	if (type < 0 || type > SOCK_PACKET || proto < 0) {
		return EINVAL;
	}
	pr = pffindproto(s, family, type, proto, &error);
	if (pr == NULL) {
		return error;
	}
	so = soalloc(s, pr, family);
	if (so == NULL) {
		return ENFILE;
	}
	if (proto != 0) {
		so->so_protocol = proto;
	}
	error = PRU(so, attach, so->so_protocol);
	if (error != 0) {
		so->so_state |= SS_NOFDREF;
		sofree(so);
		return error;
	}
	sbavail_update(so);
	*out = so;
	return 0;
}

void
sofree(struct socket *so)
{
	struct stack *s = so->so_stack;

	if (so->so_pcb != NULL || !(so->so_state & SS_NOFDREF) ||
	    so->so_refs > 0) {
		return;
	}
	if (so->so_head != NULL) {
		if (so->so_state & SS_COMP) {
			return; /* to be accepted all the same */
		}
		soqremove(so);
	}
	evq_forget(so);
	if (so->so_relay != NULL) {
		relay_forget(so);
	}
	sbflush(&so->so_rcv);
	sbflush(&so->so_snd);
	LIST_REMOVE(so, so_all);
	s->s_so->sos_count--;
	free(so->so_peer);
	if (s->s_so->sos_drainers != NULL) {
		waitlist_wake(s, s->s_so->sos_drainers, -1);
	}
	free(so);
}

void
sohold(struct socket *so)
{
	so->so_refs++;
}

void
sorele(struct socket *so)
{
	KASSERT(so->so_refs > 0);
	if (--so->so_refs == 0) {
		if (so->so_state & SS_CLOSING) {
			so->so_state &= ~(uint32_t)SS_CLOSING;
			(void)soclose(so);
		} else {
			sofree(so);
		}
	}
}

int
sobind(struct socket *so, const struct sockaddr *sa, socklen_t len)
{
	return so->so_pcb == NULL ? EINVAL : PRU(so, bind, sa, len);
}

int
solisten(struct socket *so, int backlog)
{
	int64_t max = so->so_stack->s_so->sos_somaxconn;
	int error;

	if (!(so->so_proto->pr_flags & PR_LISTEN)) {
		return EOPNOTSUPP;
	}
	if (so->so_pcb == NULL ||
	    (so->so_state &
		(SS_ISCONNECTED | SS_ISCONNECTING | SS_ISDISCONNECTING |
		    SS_ISDISCONNECTED | SS_CONNPENDING))) {
		return EINVAL;
	}
	if (!(so->so_options & SOO_ACCEPTCONN)) {
		error = PRU(so, listen, backlog);
		if (error != 0) {
			return error;
		}
		so->so_options |= SOO_ACCEPTCONN;
	}
	/* As Linux: negative means as many as allowed. */
	so->so_qlimit =
	    backlog < 0 || backlog > max ? (uint32_t)max : (uint32_t)backlog;
	return 0;
}

int
soaccept(struct socket *head, struct socket **out)
{
	struct socket *so;
	int error = 0;

	if (!(head->so_options & SOO_ACCEPTCONN)) {
		return head->so_proto->pr_flags & PR_LISTEN ? EINVAL :
							      EOPNOTSUPP;
	}
	so = TAILQ_FIRST(&head->so_comp);
	if (so == NULL) {
		return EAGAIN;
	}
	soqremove(so);
	so->so_state &= ~(uint32_t)SS_NOFDREF;
	if (so->so_pcb != NULL && so->so_proto->pr_usrreqs->pru_accept != NULL) {
		error = PRU0(so, accept);
	}
	if (head->so_pcb != NULL &&
	    head->so_proto->pr_usrreqs->pru_room != NULL) {
		(void)PRU0(head, room);
	}
	if (error != 0) {
		soabort(so);
		return error;
	}
	*out = so;
	return 0;
}

/* A socket whose connection failed or ended may be used again, as on Linux. */
int
soreuse(struct socket *so)
{
	uint32_t rcv = so->so_rcv.sb_hiwat, snd = so->so_snd.sb_hiwat;
	int error = 0;

	if (so->so_pcb == NULL) {
		error = PRU(so, attach, so->so_protocol);
		(void)sbreserve(&so->so_rcv, rcv);
		(void)sbreserve(&so->so_snd, snd);
	}
	if (error == 0) {
		sbflush(&so->so_rcv);
		so->so_state &=
		    ~(uint32_t)(SS_ISDISCONNECTED | SS_SHUTDOWN | SS_PEERDONE);
		so->so_rcv.sb_state = so->so_snd.sb_state = 0;
		so->so_oobmark = 0;
		so->so_hasoob = false;
		so->so_error = 0;
		sbavail_update(so);
	}
	return error;
}

/* A stream's second connect: what became of the first. -1: begin anew. */
static int
so_connect_again(struct socket *so)
{
	bool pending = (so->so_state & SS_CONNPENDING) != 0;

	if (so->so_state & SS_ISCONNECTING) {
		return EALREADY;
	}
	if (pending) {
		so->so_state &= ~(uint32_t)SS_CONNPENDING;
		if (so->so_error != 0) {
			int error = so->so_error;

			(void)soreuse(so);
			return error;
		}
		if (so->so_state & SS_ISCONNECTED) {
			return 0;
		}
		(void)soreuse(so);
		return ECONNABORTED;
	}
	return so->so_state &
		(SS_ISCONNECTED | SS_ISDISCONNECTING | SS_ISDISCONNECTED) ?
	    EISCONN :
	    -1;
}

int
soconnect(struct socket *so, const struct sockaddr *sa, socklen_t len)
{
	int error;

	if (len < (socklen_t)sizeof(sa->sa_family)) {
		return EINVAL;
	}
	if (so->so_options & SOO_ACCEPTCONN) {
		/* inet_stream_connect() with a state other than CLOSE */
		return so->so_family == AF_LOCAL ? EINVAL : EISCONN;
	}
	if (sa->sa_family == AF_UNSPEC) {
		if (so->so_pcb == NULL ||
		    !(so->so_state & (SS_ISCONNECTED | SS_ISCONNECTING))) {
			return 0;
		}
		return PRU0(so, disconnect);
	}
	if (so->so_proto->pr_flags & PR_CONNREQUIRED) {
		error = so_connect_again(so);
		if (error >= 0) {
			return error;
		}
		if (so->so_pcb == NULL) {
			error = soreuse(so);
			if (error != 0) {
				return error;
			}
		}
	} else if (so->so_state & SS_ISCONNECTED) {
		(void)PRU0(so, disconnect);
	}
	return PRU(so, connect, sa, len);
}

int
soconnect2(struct socket *a, struct socket *b)
{
	return PRU(a, connect2, b);
}

/* Let go of everything that waits to be accepted. */
static void
so_dropqueues(struct socket *head)
{
	struct socket *so;

	while ((so = TAILQ_FIRST(&head->so_incomp)) != NULL ||
	    (so = TAILQ_FIRST(&head->so_comp)) != NULL) {
		soqremove(so);
		soabort(so);
	}
}

/* shutdown(SHUT_RD) of a listener ends the listening. */
static int
so_unlisten(struct socket *so, int how)
{
	if (how == SHUT_WR) {
		return 0;
	}
	so_dropqueues(so);
	so->so_options &= ~(uint32_t)SOO_ACCEPTCONN;
	if (so->so_pcb != NULL) {
		(void)PRU0(so, disconnect);
	}
	sorwakeup(so); /* who waits to accept sees EINVAL */
	return 0;
}

int
soshutdown(struct socket *so, int how)
{
	bool stream = (so->so_proto->pr_flags & PR_CONNREQUIRED) != 0;
	int error = 0;

	if (how != SHUT_RD && how != SHUT_WR && how != SHUT_RDWR) {
		return EINVAL;
	}
	if (so->so_options & SOO_ACCEPTCONN) {
		return so_unlisten(so, how);
	}
	if (!(so->so_state & (SS_ISCONNECTED | SS_ISDISCONNECTING))) {
		if (so->so_state & SS_ISCONNECTING) {
			/* Linux gives the connecting up. */
			(void)PRU0(so, disconnect);
			return 0;
		}
		error = ENOTCONN; /* inet_shutdown() does it and complains */
	}
	if (so->so_state & SS_ISCONNECTED) {
		so->so_state &= ~(uint32_t)SS_CONNPENDING;
	}
	if (how != SHUT_WR) {
		so->so_rcv.sb_state |= SBS_CANTRCVMORE;
		sorwakeup(so);
		if (so->so_pcb != NULL && so->so_family == AF_LOCAL) {
			(void)PRU(so, rcvd, -1);
		}
	}
	if (how != SHUT_RD && !(so->so_state & SS_SHUTDOWN)) {
		so->so_state |= SS_SHUTDOWN;
		if (so->so_pcb != NULL && !(stream && error != 0) &&
		    !(so->so_snd.sb_state & SBS_CANTSENDMORE) &&
		    so->so_proto->pr_usrreqs->pru_shutdown != NULL) {
			int e = PRU0(so, shutdown);

			error = error != 0 ? error : e;
		}
		socantsendmore(so);
	}
	return so->so_family == AF_LOCAL ? 0 : error;
}

/* How a connected socket goes: politely, or with RST when data is lost (RFC
 * 9293 3.10.4 asks for it, RFC 2525 2.17) or linger 0 says so. */
static void
so_disconnect(struct socket *so)
{
	const struct protosw *pr = so->so_proto;
	bool lost = (pr->pr_flags & PR_CONNREQUIRED) && so->so_rcv.sb_cc > 0;
	bool hard = (so->so_options & SOO_LINGER) && so->so_linger == 0;

	if ((lost || hard) && pr->pr_usrreqs->pru_abort != NULL &&
	    so->so_family != AF_LOCAL && (pr->pr_flags & PR_CONNREQUIRED)) {
		pr->pr_usrreqs->pru_abort(so);
	} else if (!(so->so_state & SS_ISDISCONNECTING)) {
		(void)PRU0(so, disconnect);
	}
}

int
soclose(struct socket *so)
{
	const struct pr_usrreqs *pru = so->so_proto->pr_usrreqs;

	if (so->so_refs > 0) {
		so->so_state |= SS_CLOSING;
		return 0;
	}
	sohold(so);
	evq_forget(so);
	if (so->so_options & SOO_ACCEPTCONN) {
		so_dropqueues(so);
	}
	so->so_state |= SS_NOFDREF;
	if (so->so_pcb != NULL && (so->so_state & SS_ISCONNECTED)) {
		so_disconnect(so);
	}
	if (so->so_pcb != NULL && pru->pru_detach != NULL) {
		pru->pru_detach(so);
	}
	/* What the user will not read any more need not be kept. */
	if (so->so_rcv.sb_mb != NULL) {
		sbflush(&so->so_rcv);
	}
	sorele(so);
	return 0;
}

void
soabort(struct socket *so)
{
	const struct pr_usrreqs *pru = so->so_proto->pr_usrreqs;

	if (so->so_options & SOO_ACCEPTCONN) {
		so_dropqueues(so);
	}
	sohold(so);
	evq_forget(so);
	so->so_state |= SS_NOFDREF;
	if (so->so_pcb != NULL) {
		if (pru->pru_abort != NULL) {
			pru->pru_abort(so);
		} else if (pru->pru_detach != NULL) {
			pru->pru_detach(so);
		}
	}
	sorele(so);
}
