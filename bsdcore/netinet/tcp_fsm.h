/*
 * tcp_fsm.h - the states of a connection (RFC 9293 3.3.2).
 */
#ifndef BSDCORE_NETINET_TCP_FSM_H
#define BSDCORE_NETINET_TCP_FSM_H

#include <stdbool.h>

struct tcpcb;

/* clang-format off */
enum tcp_fsm {
	TCPS_CLOSED,
	TCPS_LISTEN,
	TCPS_SYN_SENT,
	TCPS_SYN_RECEIVED,
	/* synchronized from here on, as far as RFC 5961 is concerned */
	TCPS_ESTABLISHED,
	TCPS_CLOSE_WAIT,	/* FIN received, the application still sends */
	/* the application has closed its side from here on */
	TCPS_FIN_WAIT_1,
	TCPS_CLOSING,
	TCPS_LAST_ACK,
	/* and its FIN is acknowledged */
	TCPS_FIN_WAIT_2,
	TCPS_TIME_WAIT,
	TCP_NSTATES
};
/* clang-format on */

#define TCPS_HAVERCVDSYN(s) ((s) >= TCPS_SYN_RECEIVED)
#define TCPS_HAVEESTABLISHED(s) ((s) >= TCPS_ESTABLISHED)
#define TCPS_HAVERCVDFIN(s)                                                    \
	((s) == TCPS_CLOSE_WAIT || (s) == TCPS_CLOSING ||                      \
	    (s) == TCPS_LAST_ACK || (s) == TCPS_TIME_WAIT)
#define TCPS_HAVECLOSED(s) ((s) >= TCPS_FIN_WAIT_1)

/* The only writer of t_state. The edge must be in the table. */
void tcp_setstate(struct tcpcb *tp, enum tcp_fsm to);
bool tcp_edge_legal(enum tcp_fsm from, enum tcp_fsm to);
const char *tcp_statename(enum tcp_fsm st);
/* What must hold for every connection; aborts in debug builds. */
void tcp_invariants(const struct tcpcb *tp);

#endif
