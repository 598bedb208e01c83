/*
 * uipc_relay.h - what a relay is, for uipc_relay.c, uipc_token.c and
 * uipc_gateway.c.
 */
#ifndef BSDCORE_KERN_UIPC_RELAY_H
#define BSDCORE_KERN_UIPC_RELAY_H

#include "bsdcore/api.h"
#include "bsdcore/sys/kernel.h"

struct relay {
	struct watch r_watch; /* the descriptor; wa_fd -1: none */
	struct socket *r_so;  /* NULL: gone */
	int r_kind;	      /* BSD_RELAY_*, BSD_TOKEN_*, RELAY_ACCEPT */
	struct relay *r_next, **r_prevp; /* s_relays */
	struct relay *r_wnext, *r_wprev; /* s_relay_work */
	bool r_queued;			 /* on s_relay_work */
	bool r_watched;
	bool r_connecting; /* fd: connect(2) under way */
	bool r_mine;	   /* nobody else has the socket: close it at the end */
	bool r_fdeof;	   /* fd will give no more */
	bool r_fdshut;	   /* we will write no more to fd */
	bool r_fdhup;	   /* nobody has the other end any more */
	bool r_wblocked;   /* fd took less than offered */
	bool r_noreader;   /* the other end reads no more: throw away */
	bool r_token;	   /* a token is out */
	uint32_t r_fill;   /* filler bytes to discard */
	uint32_t r_readsize; /* adapts to what comes */
	uint64_t r_active;   /* ns, last datagram */
	/* Datagram relays: forget the flow. Forwards: accept again. */
	struct callout r_idle;
	uint8_t r_namelen;
	char r_name[107]; /* BSD_TOKEN_LISTEN */
	/* Counts bytes moved: to fd, from fd. May be NULL. */
	uint64_t *r_bytes_out, *r_bytes_in;
	void (*r_gone)(struct stack *, struct relay *); /* before it is freed */
};

#define RELAY_ACCEPT                                                           \
	5 /* a gateway's listener: take the established off its queue */
#define RELAY_DGRAM 6 /* connected datagram socket <-> connected host socket */
#define RELAY_NEWDGRAM 7 /* a gateway's catch-all datagram socket */
#define RELAY_NEWCONN 8	 /* a SYN held back: to be connected on the host */
#define RELAY_FORWARD 9	 /* a host listener: r_so is NULL */
#define RELAY_REFUSE 10	 /* a SYN held back beyond the limit: RST */

/* A relay of so (may be NULL) with fd (may be -1). NULL: no memory; nothing owned. */
struct relay *relay_new(struct stack *s, struct socket *so, int fd, int kind);
void relay_queue(struct stack *s, struct relay *r);
/* Let go of the descriptor and the relay; the socket is the caller's again. */
void relay_free(struct stack *s, struct relay *r);
/* The host side failed: RST to the peer in the stack. */
void relay_abort(struct stack *s, struct relay *r);
void relay_want(struct stack *s, struct relay *r, uint32_t events);
void token_run(struct stack *s, struct relay *r);
void gateway_work(struct stack *s, struct relay *r);
void gateway_event(struct stack *s, struct relay *r, uint32_t revents);
/* A host connect(2) of a flow has ended. */
void gateway_connected(struct stack *s, bool refused);
void gateway_fini(struct stack *s);

#endif
