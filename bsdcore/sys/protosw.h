/*
 * protosw.h - a protocol is a row of data.
 *
 * An unset entry means EOPNOTSUPP; the tables are constant, so callers go
 * through PRU(), which answers that.
 * Errors inside bsdcore are 0 or a positive errno.
 */
#ifndef BSDCORE_SYS_PROTOSW_H
#define BSDCORE_SYS_PROTOSW_H

#include "bsdcore/sys/mbuf.h"
#include "bsdcore/sys/systm.h"

struct socket;
struct sockopt;
struct stack;
union inaddr;

/* pr_flags */
#define PR_ATOMIC 0x01 /* a message is a packet */
#define PR_ADDR 0x02   /* records carry the sender's address */
#define PR_CONNREQUIRED 0x04
#define PR_WANTRCVD 0x08 /* wants pru_rcvd when data is taken */
#define PR_RIGHTS 0x10
#define PR_LISTEN 0x20 /* may listen */

/* pr_ctlinput commands (XNU numbers) */
#define PRC_QUENCH 4
#define PRC_MSGSIZE 5
#define PRC_UNREACH_NET 8
#define PRC_UNREACH_HOST 9
#define PRC_UNREACH_PROTOCOL 10
#define PRC_UNREACH_PORT 11
#define PRC_UNREACH_SRCFAIL 13
#define PRC_REDIRECT_NET 14
#define PRC_REDIRECT_HOST 15
#define PRC_TIMXCEED_INTRANS 18
#define PRC_TIMXCEED_REASS 19
#define PRC_PARAMPROB 20
#define PRC_UNREACH_ADMIN_PROHIB 21

/* What an ICMP error says about one of our packets; checked by icmp_input. */
struct ctlparam {
	const union inaddr *cp_laddr; /* our address in the quoted packet */
	const union inaddr *cp_faddr; /* the peer */
	const uint8_t *cp_th;	      /* the quoted transport header */
	uint32_t cp_thlen;	      /* bytes of it that are there, >= 8 */
	uint32_t cp_mtu;	      /* PRC_MSGSIZE: next-hop MTU, 0 unknown */
	uint8_t cp_icmp_type, cp_icmp_code;
	const union inaddr *cp_offender; /* who sent the error */
};

/* flags of pru_send */
#define PRUS_OOB 0x1
#define PRUS_EOF 0x2
#define PRUS_MORETOCOME 0x4 /* MSG_MORE, or sosend has more right away */

struct pr_usrreqs {
	int (*pru_attach)(struct socket *, int proto);
	void (*pru_detach)(struct socket *);
	int (*pru_bind)(struct socket *, const struct sockaddr *, socklen_t);
	int (*pru_listen)(struct socket *, int backlog);
	int (*pru_accept)(struct socket *); /* send the SYN,ACK held back */
	int (*pru_room)(struct socket *);   /* of a listener: in its queue */
	int (*pru_connect)(struct socket *, const struct sockaddr *, socklen_t);
	int (*pru_connect2)(struct socket *, struct socket *);
	int (*pru_disconnect)(struct socket *);
	int (*pru_shutdown)(struct socket *); /* no more will be sent */
	void (*pru_abort)(struct socket *);
	/* Consumes m and control. to: NULL when connected. */
	int (*pru_send)(struct socket *, int flags, struct mbuf *m,
	    const struct sockaddr *to, socklen_t tolen, struct mbuf *control);
	int (*pru_rcvd)(struct socket *, int flags);
	int (*pru_sockaddr)(struct socket *, struct sockaddr_storage *,
	    socklen_t *);
	int (*pru_peeraddr)(struct socket *, struct sockaddr_storage *,
	    socklen_t *);
};

/* PRU(so, connect, sa, len): the user request, or EOPNOTSUPP. */
#define PRU(so, req, ...)                                                      \
	((so)->so_proto->pr_usrreqs->pru_##req != NULL ?                       \
		(so)->so_proto->pr_usrreqs->pru_##req((so), __VA_ARGS__) :     \
		EOPNOTSUPP)
#define PRU0(so, req)                                                          \
	((so)->so_proto->pr_usrreqs->pru_##req != NULL ?                       \
		(so)->so_proto->pr_usrreqs->pru_##req(so) :                    \
		EOPNOTSUPP)

struct protosw {
	int pr_type;	 /* SOCK_* */
	int pr_domain;	 /* PF_* */
	int pr_protocol; /* IPPROTO_* */
	int pr_flags;
	/* m_data is at the IP header, `off` bytes of headers before the
	 * transport header; consumes m. */
	void (*pr_input)(struct stack *, struct mbuf *m, int off);
	void (*pr_ctlinput)(struct stack *, int cmd, const struct ctlparam *);
	int (*pr_ctloutput)(struct socket *, struct sockopt *);
	const struct pr_usrreqs *pr_usrreqs;
	int (*pr_init)(struct stack *);
	void (*pr_fini)(struct stack *);  /* sockets are gone by then */
	void (*pr_drain)(struct stack *); /* memory is short */
};

struct domain {
	int dom_family;
	const char *dom_name;
	const struct protosw *dom_protosw;
	size_t dom_nprotosw;
	int (*dom_init)(struct stack *);
	void (*dom_fini)(struct stack *);
};

/* The tables: one row each in in_proto.c (inetdomain, inet6domain; both over
 * the same inetsw rows) and uipc_usrreq.c (localdomain). */
extern const struct domain inetdomain;
extern const struct domain inet6domain;
extern const struct domain localdomain;

int domain_init(struct stack *s); /* every pr_init once; 0 or errno */
void domain_fini(struct stack *s);
void domain_drain(struct stack *s);
/* proto 0: the default of the type. NULL and *errp: EAFNOSUPPORT,
 * EPROTONOSUPPORT, EPROTOTYPE, ESOCKTNOSUPPORT as Linux answers. */
const struct protosw *pffindproto(struct stack *s, int family, int type,
    int proto, int *errp);

#endif
