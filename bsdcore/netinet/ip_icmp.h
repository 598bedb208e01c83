/*
 * ip_icmp.h - ICMP messages (RFC 792) and the state behind them.
 */
#ifndef BSDCORE_NETINET_IP_ICMP_H
#define BSDCORE_NETINET_IP_ICMP_H

#include "bsdcore/netinet/in.h"
#include "bsdcore/sys/mbuf.h"
#include "bsdcore/sys/protosw.h"
#include "bsdcore/sys/systm.h"

struct icmp { /* the eight octets every message starts with */
	uint8_t icmp_type, icmp_code;
	uint16_t icmp_cksum;
	uint16_t icmp_id;  /* echo; unused in errors */
	uint16_t icmp_seq; /* echo; next-hop MTU of "fragmentation needed" */
} __attribute__((packed));
CTASSERT(sizeof(struct icmp) == 8);

#define ICMP_MINLEN 8u

#define ICMP_ECHOREPLY 0
#define ICMP_UNREACH 3
#define ICMP_UNREACH_NET 0
#define ICMP_UNREACH_HOST 1
#define ICMP_UNREACH_PROTOCOL 2
#define ICMP_UNREACH_PORT 3
#define ICMP_UNREACH_NEEDFRAG 4
#define ICMP_UNREACH_SRCFAIL 5
#define ICMP_UNREACH_NET_UNKNOWN 6
#define ICMP_UNREACH_HOST_UNKNOWN 7
#define ICMP_UNREACH_ISOLATED 8
#define ICMP_UNREACH_NET_PROHIB 9
#define ICMP_UNREACH_HOST_PROHIB 10
#define ICMP_UNREACH_TOSNET 11
#define ICMP_UNREACH_TOSHOST 12
#define ICMP_UNREACH_FILTER_PROHIB 13
#define ICMP_UNREACH_HOST_PRECEDENCE 14
#define ICMP_UNREACH_PRECEDENCE_CUTOFF 15
#define ICMP_SOURCEQUENCH 4
#define ICMP_REDIRECT 5
#define ICMP_REDIRECT_HOST 1
#define ICMP_ECHO 8
#define ICMP_TIMXCEED 11
#define ICMP_TIMXCEED_INTRANS 0
#define ICMP_TIMXCEED_REASS 1
#define ICMP_PARAMPROB 12
#define ICMP_TSTAMP 13
#define ICMP_TSTAMPREPLY 14

/* Errors are about a packet that is quoted in them. */
static inline bool
icmp_iserror(uint8_t type)
{
	return type == ICMP_UNREACH || type == ICMP_SOURCEQUENCH ||
	    type == ICMP_REDIRECT || type == ICMP_TIMXCEED ||
	    type == ICMP_PARAMPROB;
}

/* A token bucket: tokens are counted in nanoseconds of the refill. */
struct ratelimit {
	uint64_t rl_last;   /* when rl_tokens was right */
	uint64_t rl_tokens; /* ns saved up */
};
/* May one more go out now, at `rate` a second with bursts of `burst`? */
bool ratelimit_take(struct ratelimit *rl, uint64_t now, uint64_t rate,
    uint64_t burst);

struct icmp_stat {
	uint64_t ics_in, ics_out, ics_error, ics_echo, ics_echoreply;
	uint64_t ics_tooshort, ics_badsum, ics_badcode, ics_badquote;
	uint64_t ics_notours, ics_unknown, ics_bcastecho, ics_quench;
	uint64_t ics_limited, ics_nomem, ics_silent, ics_noping;
	uint64_t ics_pingfull;
	uint64_t ics6_in, ics6_out, ics6_echo, ics6_tooshort, ics6_badsum;
	uint64_t ics6_unknown, ics6_badquote, ics6_notours;
};

struct icmp_state {
	struct inpcbinfo *ic_ping; /* SOCK_DGRAM sockets; inp_lport is the id */
	struct ratelimit ic_limit;
	int64_t ic_lim;		 /* net.inet.icmp.icmplim */
	int64_t ic_limburst;	 /* net.inet.icmp.icmplim_burst */
	int64_t ic_quotelen;	 /* net.inet.icmp.quotelen */
	int64_t ic_bcastecho;	 /* net.inet.icmp.bmcastecho */
	int64_t ic_dropredirect; /* net.inet.icmp.drop_redirect */
	struct icmp_stat ic_stat;
};

int icmp_init(struct stack *s);
void icmp_fini(struct stack *s);

/* An ICMPv4 type and code as errno for the socket, and is it a hard error
 * (one that ends an unconnected user's patience too)? 0: nothing to report. */
int icmp_errno(const struct ctlparam *cp, bool *hard);
/* An answer to an echo request goes to the ping socket it is for; does not
 * consume m. off: bytes before the ICMP header. */
void ping_deliver(struct stack *s, const struct mbuf *m, int off, uint16_t id);
extern const struct pr_usrreqs ping_usrreqs;

/* m, from lo0, quotes a packet of a transport (cp) that nobody here has sent:
 * to the stacks behind lo0. Consumes m if it answers true. */
bool icmp_lomiss(struct stack *s, struct mbuf *m, uint8_t proto,
    const struct ctlparam *cp);

#endif
