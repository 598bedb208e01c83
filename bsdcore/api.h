/*
 * api.h - all of bsdcore that Python (and a C program) may call.
 *
 * Read by the C compiler and, preprocessor lines dropped, by cffi: plain
 * declarations only. Calls answer a count or 0, or a negative errno. Times
 * are nanoseconds; a timeout is relative: < 0 for ever, 0 never wait. A wait
 * that runs out answers -EAGAIN; one ended by a signal -EINTR, with nothing
 * done (seldom without a signal, too: try again). Every call may be made from any thread; no call needs Python.
 */
#ifndef BSDCORE_API_H
#define BSDCORE_API_H

#include <stddef.h>
#include <stdint.h>

struct stack;
struct socket;
struct port;
struct evq;

/* ---- the stack ---- */

struct bsd_config {
	const char *name;
	uint64_t seed[4];    /* all randomness comes from here */
	uint64_t mem_limit;  /* bytes of mbufs and clusters; 0: 256 MiB */
	int virtual_time;    /* nonzero: time moves only by bsd_run() */
	uint64_t start_time; /* virtual_time: the first now */
	uint64_t (*clock)(void *arg); /* NULL: CLOCK_MONOTONIC */
	void *clock_arg;
};

int bsd_stack_new(const struct bsd_config *cfg, struct stack **out);
/* Sockets still open are aborted and become defunct (calls answer -EBADF until closed). */
void bsd_stack_free(struct stack *s);
/* By hand: take packets in, run timers, send what is due. Virtual time: now
 * becomes the time (never backwards). Answers 1 if more is due at once. */
int bsd_run(struct stack *s, uint64_t now);
uint64_t bsd_poll_at(struct stack *s); /* UINT64_MAX: nothing planned */
uint64_t bsd_now(struct stack *s);
/* The netisr thread: all signals blocked, no Python. */
int bsd_start(struct stack *s);
void bsd_stop(struct stack *s);
/* Wait until every send queue is empty and every FIN acknowledged, at most
 * timeout. Answers how many connections still had something to send. */
int bsd_drain(struct stack *s, int64_t timeout);
/* fork(2): prepare takes the lock; parent and child give it back. The child's
 * copy of the stack is dead: calls answer -ECONNABORTED, closing is silent. */
void bsd_fork_prepare(struct stack *s);
void bsd_fork_parent(struct stack *s);
void bsd_fork_child(struct stack *s);

/* ---- interfaces, routes, tunables, counters ---- */

struct bsd_addr {	       /* 28 bytes, no padding */
	unsigned short family; /* AF_INET or AF_INET6 */
	unsigned short port;   /* host order */
	unsigned int flowinfo;
	unsigned int scope_id;
	unsigned char addr[16]; /* network order; IPv4 in the first 4 */
};

struct bsd_ifinfo {
	char name[16];
	unsigned int index, flags, mtu;
	unsigned char lladdr[6];
	uint64_t ipackets, ibytes, ierrors, iqdrops;
	uint64_t opackets, obytes, oerrors, oqdrops;
	int naddrs;
	struct bsd_addr addrs[8];
	unsigned char plen[8];
};

struct bsd_rtinfo {
	struct bsd_addr dst, gateway;
	unsigned int plen, flags, mtu;
	uint64_t use, expire;
	char ifname[16];
};

struct bsd_arpinfo {
	struct bsd_addr addr;
	unsigned char mac[6];
	int state; /* 0 incomplete, 1 reachable, 2 stale, 3 permanent */
	char ifname[16];
};

struct bsd_sockinfo { /* netstat -an */
	unsigned int id;
	int family, type, protocol, state; /* TCPS_* for TCP, else -1 */
	struct bsd_addr local, remote;
	unsigned int rcv_cc, snd_cc, rcv_hiwat, snd_hiwat;
	unsigned int qlen, incqlen, qlimit;
	uint64_t rxbytes, txbytes, rexmt, srtt_ns, cwnd;
	int pid, relay;
	char timer[12];
};

#define BSD_IFF_UP 1
#define BSD_IFF_LOOPBACK 2
#define BSD_IFF_BROADCAST 4
#define BSD_IFF_PROMISC 8
#define BSD_IFF_ANYIP 16

/* The stack uses the port from now on; it is closed by bsd_stack_free() or
 * bsd_if_detach(). Answers the interface index (> 0). A raw IP port with the name
 * lo0 leads to other stacks over the same addresses: what a packet that this stack
 * sends to itself finds nobody for goes there. */
int bsd_if_attach(struct stack *s, struct port *port, const char *name);
int bsd_if_detach(struct stack *s, unsigned int ifindex);
int bsd_if_flags(struct stack *s, unsigned int ifindex, unsigned int set,
    unsigned int clear);
int bsd_if_mtu(struct stack *s, unsigned int ifindex, unsigned int mtu);
int bsd_if_addaddr(struct stack *s, unsigned int ifindex,
    const struct bsd_addr *addr, unsigned int plen);
int bsd_if_deladdr(struct stack *s, unsigned int ifindex,
    const struct bsd_addr *addr);
int bsd_if_index(struct stack *s, const char *name); /* or -ENXIO */
int bsd_route_add(struct stack *s, const struct bsd_addr *dst,
    unsigned int plen, const struct bsd_addr *gw, unsigned int ifindex);
int bsd_route_del(struct stack *s, const struct bsd_addr *dst,
    unsigned int plen);
/* A permanent link-layer entry. */
int bsd_arp_add(struct stack *s, unsigned int ifindex,
    const struct bsd_addr *addr, const unsigned char *mac);
/* Lists: fill up to n, answer how many there are in all. */
int bsd_if_list(struct stack *s, struct bsd_ifinfo *v, int n);
int bsd_route_list(struct stack *s, struct bsd_rtinfo *v, int n);
int bsd_arp_list(struct stack *s, struct bsd_arpinfo *v, int n);
int bsd_sock_list(struct stack *s, struct bsd_sockinfo *v, int n);

/* ---- beside other stacks (nic/flow.h) ---- */

/* Take ports in a namespace shared with others (struct netns_ops and its
 * argument), and heed its advisory table (struct flow_advtab), which may be
 * NULL. Both outlive the stack. -EBUSY: there are sockets already. */
int bsd_set_netns(struct stack *s, const void *netns_ops, void *arg,
    const void *flow_advtab);
/* *fr: the struct flow_resolver of an Ethernet interface, valid until
 * bsd_stack_free(). It takes the stack's lock. */
int bsd_resolver(struct stack *s, unsigned int ifindex, const void **fr);
/* fn(arg) after a neighbour, route or address has changed, so that a next hop may
 * be another, or known now; under the stack's lock, so it must not call the
 * stack. fn NULL: none. */
void bsd_set_flow_event(struct stack *s, void (*fn)(void *arg), void *arg);
/* Makes netisr look at its ports and at flows that were suspended. From any
 * thread, under any lock; nothing happens to a stack without a thread. */
void bsd_wake(void *stack);

int bsd_sysctl_get(struct stack *s, const char *name, int64_t *out);
int bsd_sysctl_set(struct stack *s, const char *name, int64_t value);
/* i-th tunable or counter; -ENOENT past the end. Strings are static. */
int bsd_sysctl_info(struct stack *s, int i, const char **name, const char **doc,
    int64_t *value, int64_t *min, int64_t *max);
int bsd_stat(struct stack *s, int i, const char **name, uint64_t *value);

struct bsd_memstat {
	uint64_t mbufs, cl2k, cl4k, cl16k, cl64k, foreign;
	uint64_t bytes, limit, fails;
	uint64_t sockets, callouts;
	uint64_t lent; /* bytes that the application holds now */
};
void bsd_memstat(struct stack *s, struct bsd_memstat *out);

/* ---- sockets ---- */

int bsd_socket(struct stack *s, int family, int type, int protocol,
    struct socket **out);
int bsd_socketpair(struct stack *s, int family, int type, struct socket **a,
    struct socket **b);
/* Lets go of the socket: the pointer is dead afterwards. */
int bsd_close(struct socket *so);
int bsd_abort(struct socket *so); /* RST, queued data lost */
int bsd_bind(struct socket *so, const struct bsd_addr *addr);
int bsd_listen(struct socket *so, int backlog);
int bsd_accept(struct socket *so, int64_t timeout, struct socket **out,
    struct bsd_addr *peer);
/* Waits for the end of the handshake, at most timeout; timeout 0 answers
 * -EINPROGRESS; after a wait that ran out -EAGAIN, after a signal -EINTR,
 * the connecting goes on (call bsd_wait and read SO_ERROR). */
int bsd_connect(struct socket *so, const struct bsd_addr *addr, int64_t timeout);
int bsd_shutdown(struct socket *so, int how);
int bsd_getsockname(struct socket *so, struct bsd_addr *out);
int bsd_getpeername(struct socket *so, struct bsd_addr *out);
/* PF_LOCAL inside the stack: names are opaque bytes, no file system. */
int bsd_bind_local(struct socket *so, const void *name, size_t len);
int bsd_connect_local(struct socket *so, const void *name, size_t len,
    int64_t timeout);
long bsd_localname(struct socket *so, int peer, void *buf, size_t len);

struct bsd_iovec { /* struct iovec */
	void *base;
	size_t len;
};

/* flags are Linux's MSG_* values. MSG_DONTWAIT: as timeout 0. MSG_NOSIGNAL is
 * always so. to, from may be NULL. send answers what it took (all, unless
 * non-blocking or interrupted); sendall loops, *done says how far it came.
 * recv waits for something, with MSG_WAITALL for all; 0 at end of stream. */
long bsd_send(struct socket *so, const void *buf, size_t len, int flags,
    const struct bsd_addr *to, int64_t timeout);
int bsd_sendall(struct socket *so, const void *buf, size_t len, int flags,
    int64_t timeout, size_t *done);
long bsd_recv(struct socket *so, void *buf, size_t len, int flags,
    struct bsd_addr *from, int64_t timeout);
/* control: cmsgs as in recvmsg(2); *controllen in and out; *flags in and out
 * (MSG_TRUNC, MSG_CTRUNC, MSG_EOR). */
long bsd_sendmsg(struct socket *so, const struct bsd_iovec *iov, int iovcnt,
    const void *control, size_t controllen, int flags,
    const struct bsd_addr *to, int64_t timeout);
long bsd_recvmsg(struct socket *so, const struct bsd_iovec *iov, int iovcnt,
    void *control, size_t *controllen, int *flags, struct bsd_addr *from,
    int64_t timeout);

/* Linux's level and option numbers. get: *len in and out. */
int bsd_setsockopt(struct socket *so, int level, int name, const void *val,
    size_t len);
int bsd_getsockopt(struct socket *so, int level, int name, void *val,
    size_t *len);

/* Poll bits are Linux's. bsd_poll looks now; bsd_wait waits for any of
 * events (POLLERR and POLLHUP always), answers the bits or 0 when the time ran
 * out. */
int bsd_poll(struct socket *so);
int bsd_wait(struct socket *so, int events, int64_t timeout);
struct bsd_pollfd {
	struct socket *so;
	int events, revents;
};
int bsd_poll_many(struct bsd_pollfd *v, int n, int64_t timeout);

/* A kqueue-like event queue: level-triggered, one eventfd for all. data is
 * answered with the event. Answers the number of events. */
struct bsd_event {
	uint64_t data;
	int events;
};
int bsd_evq_new(struct stack *s, struct evq **out);
void bsd_evq_free(struct evq *q);
int bsd_evq_fd(struct evq *q);
/* events 0: forget the socket. */
int bsd_evq_ctl(struct evq *q, struct socket *so, int events, uint64_t data);
int bsd_evq_wait(struct evq *q, struct bsd_event *v, int n, int64_t timeout);

/* ---- quality of service ----
 *
 * Service classes, best effort to network control, by index (nic/qos.h); their
 * SO_TRAFFIC_CLASS values are 0, 100, 200, 300 ... 900, signalling none. */
#define BSD_SVC_BE 0
#define BSD_SVC_BK_SYS 1
#define BSD_SVC_BK 2
#define BSD_SVC_RD 3
#define BSD_SVC_OAM 4
#define BSD_SVC_AV 5
#define BSD_SVC_RV 6
#define BSD_SVC_VI 7
#define BSD_SVC_VO 8
#define BSD_SVC_CTL 9
#define BSD_SVC_SIG 10
#define BSD_SVC_COUNT 11
/* Bytes and datagrams sent on so from now on carry class svc (-1: the socket's
 * own again) and are charged to originator origin (0 nobody), until the next
 * call; so one connection carries several. A segment is of the best
 * class among its bytes, charged to whose the first is. What so receives is charged to origin as well. */
int bsd_set_tag(struct socket *so, int svc, uint32_t origin);
/* A TCP socket's room to send is what is missing to *ahead* bytes not sent yet
 * (bounded by kern.ipc.maxsockbuf); what is on its way does not count, and may
 * grow with the window as in a buffer that SO_SNDBUF has not set. 0: as before.
 * Accepted sockets have it from their listener. */
int bsd_set_ahead(struct socket *so, uint32_t ahead);
/* Under which tag a connection that was accepted came in, as far as it may be
 * known: the class of its handshake (BSD_SVC_CTL or BSD_SVC_BK from inside the process,
 * what the DSCP stands for from outside), and the originator, 0 from outside. */
int bsd_peer_tag(struct socket *so, int *svc, uint32_t *origin);
/* Who sent and received how much: whole IP packets, by class. The first row is
 * nobody's (origin 0), the second of all originators beyond 256. */
#define BSD_ORIGIN_OTHERS 0xffffffff
struct bsd_ledger {
	uint32_t origin;
	uint64_t txpkts[BSD_SVC_COUNT], txbytes[BSD_SVC_COUNT];
	uint64_t rxpkts[BSD_SVC_COUNT], rxbytes[BSD_SVC_COUNT];
	uint64_t rexmtpkts, rexmtbytes; /* of tx: sent again */
	uint64_t pool; /* bytes of memory its sockets' buffers hold now */
};
/* Fill up to n, answer how many there are in all. */
int bsd_ledger_list(struct stack *s, struct bsd_ledger *v, int n);
/* Write classes as DSCP into what leaves by the interface: mode 0 off, 1
 * fastlane, 2 RFC 4594. n >= 0: only these originators (64 at most) may have
 * any class marked; the rest is marked as BE, BK or CTL. n < 0: all may. */
int bsd_if_qosmark(struct stack *s, unsigned int ifindex, int mode,
    const uint32_t *allow, int n);
/* While on, nothing of class BK_SYS leaves by the interface: its connections
 * stand still, datagrams are refused with ENOBUFS. */
int bsd_if_throttle(struct stack *s, unsigned int ifindex, int on);
/* ---- a stack run by an event loop ----
 *
 * One thread, the loop's, runs the stack and makes every call on it and its
 * sockets. It calls bsd_turn() when a port's descriptor is readable, when
 * the state's poll_at has come, and once after any calls that may have caused
 * something (a send to the own stack makes its receiver ready). What goes in and
 * what comes out lies in memory that both sides see (bsd_evloop_mem), so
 * that a loop full of small messages makes one call for all of them:
 *
 *	subs[i] = slot | bytes << 32	in: what to send, in order
 *	subs[i] = slot | BSD_SUB_TAG | (svc & 127) << 24 | origin << 32
 *					in: bsd_set_tag() for what follows
 *	slots[]				in and out: one for each socket
 *	done[]				out: what has happened, once for each change
 */
struct evloop;
struct bsd_slot {
	/* The loop's: hand over up to so many bytes with the next event; set
	 * to 0 when that happens. What would be more than BSD_HAND_MAX is only told
	 * of, as left: it is worth a call of its own. Streams only. */
	uint32_t wish;
	/* Bytes of a stream that may be submitted. The loop subtracts what it
	 * submits; a turn that submits for the slot or answers for it sets it. */
	uint32_t room;
	/* The loop's: POLLOUT, to be told once when there is room (or the
	 * connection stands); to be followed by a submission, of 0 bytes
	 * if need be. Everything else is told always. */
	uint32_t want;
	uint32_t spare;
};
struct bsd_done {
	uint32_t slot;
	uint32_t events;   /* poll bits, all that hold now */
	uint32_t off, len; /* what was wished for: bytes of buf */
	uint32_t left; /* bytes not handed over: ask for them, no event will come */
	int32_t error; /* the socket's pending error, errno or 0 */
};
struct bsd_evloopmem {
	struct bsd_slot *slots;
	struct bsd_done *done;
	uint64_t *subs;
	uint64_t *state; /* after a turn: poll_at, submissions taken, now */
	unsigned char *buf;
	size_t nslots, ndone, nsubs, nbuf;
};
#define BSD_SUB_TAG 0x80000000u
#define BSD_MAXSLOTS 0x1000000
#define BSD_HAND_MAX 16384
#define BSD_STATE_POLL_AT 0 /* UINT64_MAX: nothing planned */
#define BSD_STATE_TAKEN 1
#define BSD_STATE_NOW 2
/* The stack belongs to the loop until bsd_evloop_free(). nbuf: bytes of all
 * data handed over in a turn. */
int bsd_evloop_new(struct stack *s, size_t nslots, size_t ndone, size_t nsubs,
    size_t nbuf, struct evloop **out);
void bsd_evloop_free(struct evloop *el);
void bsd_evloop_mem(struct evloop *el, struct bsd_evloopmem *out);
/* Answers the slot. bsd_evloop_del: no event for it any more; the number is
 * not given out again before the next turn. Closing a socket stops its
 * events, but the slot has to be given back all the same. */
int bsd_evloop_add(struct evloop *el, struct socket *so);
int bsd_evloop_del(struct evloop *el, unsigned int slot);
/* One wake-up: take nsubs submissions, whose bytes lie end to end in bytes, packets
 * in, timers, packets out, events. now as for bsd_run(). Answers how many of
 * done are filled. Submissions are all taken unless memory is short: then
 * submit the rest again. What is submitted to a broken connection is lost, and the
 * event tells. No memory is allocated and, unless a port does, nothing is
 * asked of the system. */
int bsd_turn(struct evloop *el, uint64_t now, const void *bytes, size_t nbytes,
    unsigned int nsubs);

/* ---- memory lent: payload where it lies ----
 *
 * A lend is a piece of packet memory that the caller looks at in place. It
 * starts with one reference; with the last one the memory goes back. Holding and
 * releasing may happen in any thread and after the stack is gone: the memory stays
 * valid until then. What is lent counts against kern.ipc.lendmax; beyond
 * that calls answer -ENOBUFS, and the caller copies, or leaves the data
 * where the peer's window feels it. */
struct bsd_lend;
struct bsd_lent {
	struct bsd_lend *lend;
	unsigned char *base; /* the first segment */
	size_t len;
	unsigned int count; /* segments in all */
};
/* Take up to max bytes, at most maxseg segments, of a stream off the receive
 * buffer; the window opens as by a read. Never waits. Answers the bytes, 0 at end of
 * stream. Every segment may be freed by itself: out->count references. */
long bsd_recv_lend(struct socket *so, size_t max, unsigned int maxseg,
    struct bsd_lent *out);
/* Fill up to n segments, answer how many there are. */
int bsd_lend_iov(const struct bsd_lend *lend, struct bsd_iovec *v, int n);
void bsd_lend_hold(struct bsd_lend *lend, unsigned int n);
void bsd_lend_drop(struct bsd_lend *lend, unsigned int n); /* n references */
/* One reference. anything is ignored: room for the argument of a destructor. */
void bsd_lend_release(struct bsd_lend *lend, const void *anything);
/* Send bytes [off, off+len) of lent memory without copying them. All of it,
 * if there is any room at all, else -EAGAIN; -EXDEV: the memory of another stack.
 * The lend stays the caller's; who writes into it now changes what is sent. */
long bsd_send_lend(struct socket *so, struct bsd_lend *lend, size_t off,
    size_t len, int flags, const struct bsd_addr *to);
/* n bytes (to 65536), writable, in one piece, to be sent by bsd_send_lend(). */
int bsd_reserve(struct socket *so, size_t n, struct bsd_lent *out);

/* ---- datagrams in batches ---- */

/* Datagrams of one sender, end to end: seg bytes each, the last may be shorter. */
struct bsd_dgrams {
	struct bsd_addr from;
	uint32_t off, len; /* bytes of the slab */
	uint32_t seg, count;
	uint32_t origin;
	uint64_t time; /* of arrival, ns of the stack's clock */
	unsigned char tos, ttl, svc, spare[5];
};
/* n datagrams of lens[i] bytes each, end to end in buf. nto 0: connected, 1: all
 * to *to, n: each to its own. Equal ones to one destination travel as one
 * packet as far as the path allows. Answers how many were taken; an error only if
 * none was. */
int bsd_send_batch(struct socket *so, const void *buf, const uint32_t *lens,
    unsigned int n, const struct bsd_addr *to, unsigned int nto);
/* Datagrams received, at most n runs, in one slab of memory lent (out has one
 * segment and one reference). From the first call on the socket keeps datagrams that came
 * as one packet together. Never waits. Answers how many runs of v are filled. */
int bsd_recv_batch(struct socket *so, struct bsd_dgrams *v, unsigned int n,
    struct bsd_lent *out);

/* ---- relays: a host descriptor carries a socket ----
 *
 * The stack moves bytes both ways between a connected or connecting stream
 * socket and fd, non-blocking, which it owns from the call on, also when it fails.
 * Half-closes are carried over. When the socket fails, fd is closed and SO_ERROR
 * of the socket tells why. bsd_close() of a socket with a relay lets the relay
 * go on until every copy of the other end is closed.
 *
 * BSD_RELAY_PAIR: fd is one end of an AF_UNIX stream pair; the application has
 * the other. Bytes that wait in fd when the relay starts are filler: they
 * keep the application's end from polling writable (64 KiB do) and are thrown
 * away once the socket is connected. Sending and receiving on the socket itself
 * answers -EINTR from then on, but for MSG_OOB; so do calls that were waiting. */
#define BSD_RELAY_PAIR 1
#define BSD_RELAY_HOST 2 /* fd is a host socket, perhaps still connecting */
int bsd_relay(struct socket *so, int fd, int kind);
/* A stand-in for a datagram socket or a listener, which keep their data in the
 * stack: one token is put where a poller sees it when the socket is readable.
 * BSD_TOKEN_DGRAM: fd is our end of an AF_UNIX datagram pair; the token is a byte.
 * BSD_TOKEN_LISTEN: the token is a connection to the listening AF_UNIX socket
 * with the abstract name given (without its leading NUL). */
#define BSD_TOKEN_DGRAM 3
#define BSD_TOKEN_LISTEN 4
int bsd_token(struct socket *so, int kind, int fd, const void *name,
    size_t namelen);
/* The application has taken the token; the next comes while still readable. */
int bsd_token_ack(struct socket *so);

/* ---- the gateway: carries flows of a neighbour stack over host sockets ----
 *
 * Attached to a stack whose interface is promiscuous and takes any address. A
 * SYN or a first datagram makes a host socket; the SYN,ACK goes out when the host
 * connection stands, a refusal becomes a RST. */
struct bsd_gwmap {	       /* first match wins; none: the address itself */
	struct bsd_addr match; /* port 0: any */
	unsigned int plen;
	int protocol;	    /* IPPROTO_TCP, _UDP, 0 both */
	struct bsd_addr to; /* family 0: refuse; port 0: keep */
};
struct bsd_gwstats {
	uint64_t tcp_flows, tcp_refused, udp_flows, udp_refused, limited;
	uint64_t bytes_out, bytes_in, open;
};
int bsd_gateway_start(struct stack *s, const struct bsd_gwmap *maps, int n,
    unsigned int max_flows);
void bsd_gateway_stats(struct stack *s, struct bsd_gwstats *out);
/* Connections to a listening host TCP socket are carried to `to`, a neighbour
 * of the stack. The fd is owned from the call on. */
int bsd_gateway_forward(struct stack *s, int fd, const struct bsd_addr *to);

/* Frame text for traces: one line, NUL-terminated, like tcpdump's. */
int bsd_describe(const void *frame, size_t len, int link, char *buf,
    size_t buflen);

size_t bsd_sizeof_pkt(void); /* compared at import with nic's */
size_t bsd_sizeof_port(void);

#endif
