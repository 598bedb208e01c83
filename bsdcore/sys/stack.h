/*
 * stack.h - one instance of the whole stack; everything hangs off it.
 *
 * Locking. s_lock protects all of it. Public calls (api.c) bracket their work
 * with stack_enter() and stack_leave(); the netisr thread does the same.
 * Inside, code runs with the lock held, may assume s_now is fresh, and must
 * not block. stack_leave() does what was put off: it delivers looped-back
 * packets, pushes queued frames down to the ports, takes home memory, wakes
 * waiters after the lock is gone, and kicks netisr if the next deadline moved
 * before the one it sleeps for.
 *
 * Time. s_now is set by stack_enter() from s_clock, or, without a clock
 * (virtual time), by bsd_run(now) alone.
 */
#ifndef BSDCORE_SYS_STACK_H
#define BSDCORE_SYS_STACK_H

#include <pthread.h>

#include "bsdcore/sys/callout.h"
#include "bsdcore/sys/mbuf.h"
#include "bsdcore/sys/systm.h"

struct bsd_config;
struct callout_heap;
struct ctlinfo;
struct domain;
struct ifnet_state; /* net/if.h */
struct ip_state;    /* netinet/ip_var.h */
struct icmp_state;
struct inpcbinfo;
struct flow_state;  /* netinet/in_flow.h */
struct gateway;	    /* kern/uipc_gateway.c */
struct netisr;	    /* kern/kern_netisr.c */
struct qos_state;   /* netinet/in_tclass.h */
struct relay;	    /* kern/uipc_relay.h */
struct route_state; /* net/route.h */
struct so_state;    /* sys/socketvar.h */
struct tcp_state;   /* netinet/tcp_var.h */
struct udp_state;
struct waiter; /* kern/kern_synch.c */

struct stack {
	pthread_mutex_t s_lock;
	uint64_t s_now;		     /* ns; monotonic */
	uint64_t (*s_clock)(void *); /* NULL: virtual time */
	void *s_clock_arg;

	struct mbpool *s_mb;
	struct callout_heap *s_callouts; /* kern_timeout.c */
	struct ctlinfo *s_ctl;		 /* kern_sysctl.c */
	uint64_t s_key[4]; /* secrets: [0,1] random stream, [2,3] hashes */
	uint64_t s_random_ctr;

	struct domain **s_domains; /* uipc_domain.c: NULL-terminated */
	uint8_t s_ip_protox[256];  /* index into inetsw[] by protocol number */

	struct ifnet_state *s_if;
	struct route_state *s_rt;
	struct ip_state *s_ip;
	struct icmp_state *s_icmp;
	struct so_state *s_so;
	struct qos_state *s_qos;
	struct inpcbinfo *s_tcbinfo;
	struct inpcbinfo *s_udbinfo;
	struct inpcbinfo *s_ripcbinfo;
	struct tcp_state *s_tcp;
	struct udp_state *s_udp;
	struct netisr *s_netisr;
	struct flow_state *s_flow; /* NULL: nobody shares our addresses */

	struct relay *s_relay_work; /* to be run by stack_leave(); the first */
	struct relay *s_relay_last;
	struct relay *s_relays; /* all of them */
	struct gateway *s_gateway;

	struct waiter *s_wakeup; /* to be woken by stack_leave() */
	_Atomic uint32_t s_kicking; /* threads past the lock, before netisr_kick() */
	uint32_t s_holders; /* STACK_GONE: sockets and queues not closed yet */
	uint32_t s_flags;
	char s_name[32];
};

/* s_flags */
#define STACK_THREADED 0x1 /* netisr runs */
#define STACK_DEAD 0x2	   /* after fork, or being freed */
#define STACK_DRAINING 0x4 /* closing down: no new sockets */
#define STACK_LOOP 0x10	   /* one thread makes every call (api_loop.c) */
#define STACK_GONE 0x8	   /* freed but for this struct: s_lock, s_holders */

/* Is there nobody to let in while something long is copied? */
static inline bool
stack_alone(const struct stack *s)
{
	return s->s_clock == NULL || (s->s_flags & STACK_LOOP) != 0;
}

void stack_enter(struct stack *s);
void stack_leave(struct stack *s);
/* STACK_GONE, lock held: the user let go of one more thing. Unlocks; the last
 * one frees the struct. */
void stack_unhold(struct stack *s);

/* 64 unpredictable bits from the seeded stream (SipHash-2-4 in counter mode). */
uint64_t stack_random(struct stack *s);
/* Keyed hash (SipHash-2-4) of len bytes; `purpose` separates uses (ISN, ports,
 * timestamps, IP id, hash tables). */
uint64_t stack_hash(const struct stack *s, uint32_t purpose, const void *p,
    size_t len);
#define SH_ISN 1
#define SH_TSOFF 2
#define SH_PORT 3
#define SH_IPID 4
#define SH_PCB 5
#define SH_COOKIE 6
#define SH_FRAG 7

#endif
