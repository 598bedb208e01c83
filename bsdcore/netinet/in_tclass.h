/*
 * in_tclass.h - the service class of a packet, who is charged for it, and what
 * that means for its IP header and for background senders.
 */
#ifndef BSDCORE_NETINET_IN_TCLASS_H
#define BSDCORE_NETINET_IN_TCLASS_H

#include "bsdcore/sys/socketvar.h"
#include "nic/qos.h"

struct ifnet;
struct inpcb;
struct tcpcb;

/* XNU's option numbers at SOL_SOCKET; Linux's end far below. */
#define SO_TRAFFIC_CLASS_ 0x1086
#define SO_RECV_TRAFFIC_CLASS_ 0x1087
#define SO_TRAFFIC_MGT_BACKGROUND_ 0x1105
#define SO_NET_SERVICE_TYPE_ 0x1116
#define SO_TC_NET_SERVICE_OFFSET_ 10000
#define TRAFFIC_MGT_SO_BACKGROUND_ 1
#define TRAFFIC_MGT_TCP_RECVBG_ 2

#define QOS_ROWS 256	/* originators told apart */
#define QOS_BUCKETS 64u /* of their hash table */

struct qos_row {
	struct qos_row *qr_next; /* of the bucket */
	uint32_t qr_origin;
	uint64_t qr_txpkts[SVC_COUNT], qr_txbytes[SVC_COUNT];
	uint64_t qr_rxpkts[SVC_COUNT], qr_rxbytes[SVC_COUNT];
	uint64_t qr_rexmtpkts, qr_rexmtbytes;
};

struct qos_state {
	int64_t qs_bgswitch; /* ns that foreground traffic is remembered */
	int64_t qs_bgtarget; /* ns of queueing a background sender aims at */
	struct qos_row *qs_bucket[QOS_BUCKETS];
	struct qos_row qs_nobody; /* originator 0 */
	struct qos_row qs_others; /* those that found no row */
	uint32_t qs_nrows;
	uint64_t qs_marked, qs_clamped, qs_throttled, qs_overflow, qs_bgswitches;
};

/* How an interface treats classes (if_qos). */
#define IFQ_ALLOW 64
struct ifqos {
	uint64_t iq_fgsent; /* when foreground traffic last left, 0 never */
	int iq_mode;	    /* QOSMARK_* */
	bool iq_throttle;   /* opportunistic: system background is not sent */
	bool iq_all;	    /* everybody may mark */
	uint32_t iq_nallow;
	uint32_t iq_allow[IFQ_ALLOW]; /* else these originators */
};

int qos_init(struct stack *s);
void qos_fini(struct stack *s);

/* The class that bytes queued now have: background by decree, the tag of this
 * send, or the socket's own. */
int so_svc(const struct socket *so);
/* The options above; ENOPROTOOPT: none of them. */
int so_qossetopt(struct socket *so, int name, int val);
int so_qosgetopt(const struct socket *so, int name, int *val);
/* IP_TOS, IPV6_TCLASS and SO_PRIORITY choose a class unless one was chosen by
 * name. */
void so_qostos(struct socket *so, int tos);
void so_qospriority(struct socket *so, int prio);
/* A per-message class (SO_TRAFFIC_CLASS, SO_NET_SERVICE_TYPE cmsg): SVC_* or
 * -1, no such class. */
int so_qoscmsg(int type, int val);
/* Bytes on their way into so's send buffer carry the tag of the moment. */
void so_tagchain(const struct socket *so, struct mbuf *m);

/* The class of the bytes in m, an mbuf of so's send buffer; NULL: of what is
 * queued next. */
int so_svcof(const struct socket *so, const struct mbuf *m);

/* How much of a super-segment of len bytes from off in m on goes at once, in
 * segments of seg: all, or, where another tag comes, up to the segment that it
 * is in. */
uint32_t so_tagrun(const struct socket *so, const struct mbuf *m, uint32_t off,
    uint32_t len, uint32_t seg);

/* Class and originator of a segment of len bytes from off in first on (NULL: no
 * payload). */
void tcp_qostag(const struct socket *so, const struct mbuf *first, uint32_t off,
    uint32_t len, struct mbuf *m);
/* The same of a datagram; svc -1: the socket's. */
void udp_qostag(const struct socket *so, int svc, struct mbuf *m);

/* A packet with its IP header leaves by ifp: mark it, charge for it. */
void qos_output(struct stack *s, struct ifnet *ifp, struct mbuf *m, bool mark);
/* n packets, len bytes with their IP headers, arrived for so. */
void qos_input(struct socket *so, int svc, uint32_t n, uint32_t len);
/* The class of a received packet as the receiver may know it; m_data at
 * its IP header. */
int qos_rxsvc(const struct mbuf *m);
/* Who is charged with it; 0 for what came from outside the process. */
uint32_t qos_rxorigin(const struct mbuf *m);

/* System background traffic is not to be sent by ifp now: m is to be refused
 * with ENOBUFS. */
bool qos_refuse(struct stack *s, const struct ifnet *ifp, const struct mbuf *m);
bool qos_throttled(const struct ifnet *ifp, int svc);
/* Foreground traffic left by ifp a moment ago. */
bool qos_fgactive(const struct stack *s, const struct ifnet *ifp);

/* tcp_qos.c: the congestion control that a connection's class asks for. */
void tcp_qoscc(struct tcpcb *tp);
/* What would go next stays, since the interface is throttled. */
bool tcp_qosheld(struct tcpcb *tp);
/* so_tagrun() of len bytes at sequence number seq. */
uint32_t tcp_qosrun(struct tcpcb *tp, uint32_t seq, uint32_t len, uint32_t seg);
void tcp_qosrelease(struct stack *s); /* it is no more */

#endif
