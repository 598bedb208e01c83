/*
 * socketvar.h - sockets and their buffers.
 *
 * struct socket is what a user of the stack holds; so_pcb is the protocol's.
 * A socket lives until both sides have let go: the user by soclose()
 * (SS_NOFDREF), the protocol by pru_detach()/sofree().
 *
 * Readiness is a function of state (sopoll); sorwakeup() and sowwakeup()
 * are called on every change that may raise it and do the rest: wake the
 * threads that wait in kern_synch.c, mark event queues, drive a relay.
 */
#ifndef BSDCORE_SYS_SOCKETVAR_H
#define BSDCORE_SYS_SOCKETVAR_H

#include "bsdcore/sys/callout.h"
#include "bsdcore/sys/mbuf.h"
#include "bsdcore/sys/protosw.h"
#include "bsdcore/sys/stack.h"
#include "bsdcore/sys/systm.h"

struct evq; /* kern/kern_event.c */
struct evq_entry;
struct relay;	  /* kern/uipc_relay.c */
struct unp_state; /* kern/uipc_usrreq.c */
struct waitpoint; /* kern/kern_synch.c */

struct spin {		  /* has it paid here? kern_synch.c */
	uint16_t sp_skip; /* waits before the next spin */
	uint8_t sp_backoff, sp_good, sp_hand;
};
#define SPIN_INIT { 0, 0, 0, 32 }

struct sockbuf {
	struct mbuf *sb_mb;	/* stream: the chain; datagrams: first record */
	struct mbuf *sb_mbtail; /* last mbuf of the last record */
	struct mbuf *sb_lastrecord;
	struct mbuf *sb_sndptr; /* cursor of tcp_output: an mbuf of the chain */
	uint32_t sb_sndptroff;	/* bytes of the chain before sb_sndptr */
	uint32_t sb_cc;		/* data bytes */
	uint32_t sb_mbcnt;	/* memory held, counting whole buffers */
	uint32_t sb_hiwat, sb_lowat;
	uint32_t sb_mbmax;
	uint32_t sb_ahead; /* most of it that is not sent yet; 0: hiwat alone counts */
	uint32_t sb_sent; /* with sb_ahead: what is on its way; may exceed sb_cc */
	uint16_t sb_flags;
	uint16_t sb_state;
	_Atomic uint32_t
	    sb_avail; /* sb_cc (rcv) or space (snd), for spinning without the lock */
};

/* sb_flags */
#define SB_AUTOSIZE 0x1 /* may grow by itself; cleared by SO_RCVBUF/SO_SNDBUF */
#define SB_WHOLE 0x4	/* datagrams that came as one packet stay one record */
#define SB_LOCK 0x2	/* a copy is under way outside the stack lock */
/* sb_state */
#define SBS_CANTSENDMORE 0x1
#define SBS_CANTRCVMORE 0x2
#define SBS_RCVATMARK 0x4

struct socket {
	struct stack *so_stack;
	const struct protosw *so_proto;
	void *so_pcb;
	int so_family; /* as created: AF_INET, AF_INET6, AF_LOCAL */
	int so_type;
	int so_protocol;
	int so_error;		/* pending, reported once */
	uint32_t so_options;	/* SOO_* */
	uint32_t so_state;	/* SS_* */
	int so_linger;		/* seconds, with SOO_LINGER */
	int so_traffic_class;	/* SVC_* */
	uint32_t so_origin;	/* who is charged, 0 nobody (bsd_set_tag) */
	uint8_t so_tagsvc;	/* with SOQ_TAGSVC */
	uint8_t so_qosflags;	/* SOQ_* */
	uint8_t so_peersvc;	/* accepted: what the peer's handshake was of */
	uint32_t so_peerorigin; /* and who was charged with it there */
	int so_priority, so_mark;
	uint32_t so_boundif; /* ifindex, 0 any */
	uint64_t so_rcvtimeo,
	    so_sndtimeo; /* ns, 0 none; SO_RCVTIMEO as stored */
	struct sockbuf so_rcv, so_snd;

	/* listening */
	struct socket *so_head; /* the listener that made this one */
	TAILQ_HEAD(, socket) so_incomp, so_comp;
	TAILQ_ENTRY(socket) so_list;
	struct sockaddr_in6 *so_peer; /* in so_comp: whose it is, should it die there */
	uint32_t so_incqlen, so_qlen, so_qlimit;

	/* SOO_HOLDSYN: a SYN makes a full socket at once (no SYN cache) and
	 * so_newconn(head, so) is called instead of sending the SYN,ACK;
	 * later pru_accept(so) sends it, or soabort(so) answers RST. */
	void (*so_newconn)(struct socket *head, struct socket *so);
	void *so_newconn_arg;

	/* urgent data */
	uint32_t so_oobmark; /* bytes of so_rcv before the mark */
	uint8_t so_oobbyte;
	bool so_hasoob;

	LIST_ENTRY(socket) so_all;    /* so_state.all */
	struct waitpoint *so_waiters; /* kern_synch.c */
	struct evq_entry *so_events;  /* kern_event.c */
	struct relay *so_relay; /* uipc_relay.c: a host fd carries this socket */
	uint32_t so_refs;	/* calls in flight that dropped the lock */
	struct spin so_spin;
	uint8_t so_rounds;   /* successive wakes by a netisr round */
	uint32_t so_user_id; /* number shown by netstat */
	int so_pid;	     /* for netstat and the ledger */
};

/* so_options */
#define SOO_REUSEADDR 0x0001
#define SOO_REUSEPORT 0x0002
#define SOO_KEEPALIVE 0x0004
#define SOO_BROADCAST 0x0008
#define SOO_LINGER 0x0010
#define SOO_OOBINLINE 0x0020
#define SOO_TIMESTAMP 0x0040
#define SOO_TIMESTAMPNS 0x0080
#define SOO_DONTROUTE 0x0100
#define SOO_ACCEPTCONN 0x0200
#define SOO_ANYIP 0x0400   /* gateway: bind to and accept for any address */
#define SOO_HOLDSYN 0x0800 /* listener: see so_newconn */

/* so_qosflags */
#define SOQ_EXPLICIT 0x01u   /* so_traffic_class was chosen by name */
#define SOQ_TAGSVC 0x02u     /* what is sent now is of so_tagsvc */
#define SOQ_BACKGROUND 0x04u /* in the background by decree */
#define SOQ_RECVBG 0x08u
#define SOQ_RECVSVC 0x10u /* SO_RECV_TRAFFIC_CLASS */
#define SOQ_TAGGED 0x20u  /* there has been a tag */

/* so_state */
#define SS_NOFDREF 0x0001 /* the user closed it */
#define SS_ISCONNECTED 0x0002
#define SS_ISCONNECTING 0x0004
#define SS_ISDISCONNECTING 0x0008
#define SS_ISDISCONNECTED 0x0010 /* was connected, is no more */
#define SS_INCOMP 0x0020	 /* on so_head's so_incomp */
#define SS_COMP 0x0040		 /* on so_head's so_comp */
#define SS_DEFUNCT 0x0080	 /* the stack is gone, or going */
#define SS_CONNPENDING 0x0100	 /* EINPROGRESS was answered, the end not */
#define SS_CLOSING 0x0200	 /* the last call in flight closes */
#define SS_SHUTDOWN 0x0400	 /* the user said shutdown(SHUT_WR) */
#define SS_SUSPENDED 0x0800 /* datagrams: the way out is full, no POLLOUT */
#define SS_PEERDONE 0x1000  /* the peer has ended its stream in order */

/* Keep a socket while the lock is dropped; sorele() may free it, and closes it
 * if the user did meanwhile. */
void sohold(struct socket *so);
void sorele(struct socket *so);

/* Life of a socket (uipc_socket.c). errno or 0. */
int socreate(struct stack *s, int family, int type, int proto,
    struct socket **out);
int sobind(struct socket *so, const struct sockaddr *sa, socklen_t len);
int solisten(struct socket *so, int backlog);
/* EAGAIN: none; else the answer is 0, or what pru_accept said (the socket then
 * is gone). */
int soaccept(struct socket *head, struct socket **out);
int soconnect(struct socket *so, const struct sockaddr *sa, socklen_t len);
int soshutdown(struct socket *so, int how);
int soreuse(struct socket *so); /* its connection is over, that has been told */
int soconnect2(struct socket *a, struct socket *b); /* socketpair */
int soclose(struct socket *so);	 /* always lets go of the socket */
void soabort(struct socket *so); /* the user lets go, RST */
void sofree(struct socket *so);	 /* frees it once nobody needs it */
/* A connection has come in on `head`: a socket like it, its pcb attached, in
 * head's incomplete (or, with SS_ISCONNECTED in state, complete) queue. NULL: full, or
 * no memory. The protocol fills in the pcb. */
struct socket *sonewconn(struct socket *head, uint32_t state);
/* For this file's neighbours: a bare socket; off a listener's queue. */
struct socket *soalloc(struct stack *s, const struct protosw *pr, int family);
void soqremove(struct socket *so);
bool soqfull(const struct socket *head);

void soisconnecting(struct socket *so);
void soisconnected(struct socket *so); /* moves an incomplete one to complete */
void soisdisconnecting(struct socket *so);
void soisdisconnected(struct socket *so);
void socantsendmore(struct socket *so);
void socantrcvmore(struct socket *so);
void sohasoutofband(struct socket *so);

void sorwakeup(struct socket *so);
void sowwakeup(struct socket *so);
int sopoll(struct socket
	*so); /* POLLIN | POLLOUT | POLLPRI | POLLHUP | POLLERR | POLLRDHUP */

/* Data (uipc_sosend.c, uipc_soreceive.c). Non-blocking; EAGAIN changed nothing. */
struct uio {
	const struct iovec *uio_iov;
	int uio_iovcnt;
	size_t uio_off;	  /* bytes of uio_iov[0] already done */
	size_t uio_resid; /* bytes left in all */
};
/* flags: MSG_OOB, MSG_MORE, MSG_EOR, MSG_DONTROUTE. *done: bytes taken.
 * control: consumed. May drop and retake the lock while it copies. */
int sosend(struct socket *so, struct uio *uio, const struct sockaddr *to,
    socklen_t tolen, struct mbuf *control, int flags, size_t *done);
/* n bytes of a connected stream whatever room there is: all or ENOBUFS. */
int sosend_promised(struct socket *so, const void *buf, uint32_t n, bool more);
/* flags in/out: MSG_PEEK, MSG_OOB, MSG_WAITALL is the caller's loop; out:
 * MSG_TRUNC, MSG_CTRUNC, MSG_EOR. from, control may be NULL. */
int soreceive(struct socket *so, struct uio *uio, struct sockaddr_storage *from,
    socklen_t *fromlen, struct mbuf **control, int *flags, size_t *done);

/* Up to max bytes, at most maxseg mbufs, of a stream as they lie, for m_lend();
 * NULL with *error 0: end of stream. */
struct mbuf *soreceive_mbufs(struct socket *so, uint32_t max, uint32_t maxseg,
    int *error);
/* Send mbufs (no packet header) whatever they are made of; consumed. As long as
 * there is any room, all of it is taken. */
int sosend_mbufs(struct socket *so, struct mbuf *m, const struct sockaddr *to,
    socklen_t tolen, int flags);
/* Nothing to read: why? 0: end of stream. */
int soreceive_empty(struct socket *so);
/* Bytes to and from the user, advancing the uio; n <= uio_resid. */
void uiocopyin(void *dst, size_t n, struct uio *uio);
void uiocopyout(const void *src, size_t n, struct uio *uio);
/* The control bytes of sendmsg(2) as one mbuf, checked. */
int sockargs(struct mbpool *p, const void *control, size_t len,
    struct mbuf **out);

/* Sockbufs (uipc_sockbuf.c). */
uint32_t sbspace(const struct sockbuf *sb);
/* Bound what a stream has queued and not sent, instead of all that is queued;
 * 0: the latter. */
int sosetahead(struct socket *so, uint32_t ahead);
/* Is there room enough for POLLOUT? */
bool sbwriteable(const struct sockbuf *sb);
int sbreserve(struct sockbuf *sb, uint32_t cc); /* sets hiwat and mbmax */
void sbappendstream(struct sockbuf *sb, struct mbuf *m); /* consumes m */
/* One record: name, control, data. 0: no room, nothing consumed. */
int sbappendaddr(struct sockbuf *sb, const struct sockaddr *from,
    socklen_t fromlen, struct mbuf *data, struct mbuf *control);
int sbappendrecord(struct sockbuf *sb, struct mbuf *m);
void sbdrop(struct sockbuf *sb, uint32_t len);
void sbdroprecord(struct sockbuf *sb);
void sbflush(struct sockbuf *sb);
/* The chain mbuf that holds byte `off`, and where in it, remembering the
 * place for the next call (O(1) when called in order). */
struct mbuf *sbsndptr(struct sockbuf *sb, uint32_t off, uint32_t *moff);
/* Are their bytes of one tag (bsd_set_tag)? */
bool sb_sametag(const struct mbuf *a, const struct mbuf *b);
/* A cmsg to hand up with a datagram: level, type as in <netinet/in.h>. */
struct mbuf *sbcreatecontrol(struct mbpool *p, const void *data, size_t len,
    int type, int level);
/* Call after any change of sb_cc, hiwat or state. */
void sbavail_update(struct socket *so);
/* Take the first mbufs of a stream, n bytes in all, off the buffer; they
 * stay counted nowhere. NULL: no mbufs to split with. */
struct mbuf *sbtake(struct sockbuf *sb, uint32_t n);
uint32_t sb_memof(const struct mbuf *m); /* what an mbuf is charged with */
/* n data bytes off the first record, which has more. */
void sbcutrecord(struct sockbuf *sb, uint32_t n);
/* Take the first record off. */
struct mbuf *sbtakerecord(struct sockbuf *sb);
/* SB_LOCK: wait for it (the lock may be dropped), take it, give it back. */
void sbwaitlock(struct socket *so, struct sockbuf *sb);
void sblock(struct sockbuf *sb);
void sbunlock(struct socket *so, struct sockbuf *sb);

/* Socket options: one struct for get and set. */
struct sockopt {
	enum { SOPT_GET, SOPT_SET } sopt_dir;
	int sopt_level, sopt_name;
	void *sopt_val;
	size_t sopt_valsize; /* in: room or length; out (get): length */
};
int sosetopt(struct socket *so, struct sockopt *sopt);
int sogetopt(struct socket *so, struct sockopt *sopt);
int sooptcopyin(const struct sockopt *sopt, void *buf, size_t len,
    size_t minlen); /* EINVAL if shorter than minlen */
int sooptcopyout(struct sockopt *sopt, const void *buf, size_t len);
int sooptint(const struct sockopt *sopt, int *out);

/* Tunables and the list of all sockets. */
struct so_state {
	LIST_HEAD(, socket) sos_all;
	uint32_t sos_count;
	uint32_t sos_next_id;
	int64_t sos_maxsockets; /* kern.ipc.maxsockets */
	int64_t sos_sb_max;	/* kern.ipc.maxsockbuf */
	int64_t sos_somaxconn;	/* kern.ipc.somaxconn */
	int64_t sos_spin;	/* kern.ipc.spin: ns a waiter spins */
	int64_t sos_handoff;	/* kern.ipc.handoff: ns a woken spinner stays */
	int64_t sos_chunk;	/* kern.ipc.copychunk: bytes copied at a time */
	int64_t sos_local_space; /* net.local.space: buffer sizes of PF_LOCAL */
	uint64_t sos_listen_overflow; /* kern.ipc.listen_overflow */
	uint64_t sos_nobufs; /* kern.ipc.nobufs: sends refused for memory */
	int64_t sos_lendmax; /* kern.ipc.lendmax */
	uint64_t sos_lentbytes, sos_lendover; /* lent in all; refused */
	uint64_t sos_copyin, sos_copyout;     /* payload bytes copied */
	uint64_t sos_byref; /* payload bytes sent by reference */
	struct unp_state *sos_unp;
	LIST_HEAD(, evq) sos_evqs;
	struct waitpoint *sos_drainers;	 /* bsd_drain */
	uint64_t sos_spun, sos_spunlost; /* spins that paid, that did not */
	uint64_t sos_handed, sos_handlost;
	uint64_t sos_slept;
	_Atomic uint32_t sos_waits; /* times a thread came to wait */
	int sos_ncpu;		    /* spinning needs two */
	uint64_t sos_walltime;	    /* ns to add to s_now for the time of day */
	int sos_pid;
	uid_t sos_uid; /* for SO_PEERCRED */
	gid_t sos_gid;
};
int so_init(struct stack *s);
void so_fini(struct stack *s);

#endif
