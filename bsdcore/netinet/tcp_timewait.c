/*
 * tcp_timewait.c - TIME_WAIT without a socket.
 *
 * All that the state has to do (answer a repeated FIN, keep old segments from
 * a new incarnation) needs some hundred bytes, so that is what stays. Entries
 * are hashed by 4-tuple and queued by age: 2 MSL is the same for all. Their
 * number is limited; beyond it the oldest goes early.
 */
#include "bsdcore/net/if.h"
#include "bsdcore/netinet/in_flow.h"
#include "bsdcore/netinet/tcp_var.h"

#define TW_MINHASH 64u
/* A new incarnation starts this far beyond the old one's numbers. */
#define TW_ISSGAP 65537u

struct tcptw {
	LIST_ENTRY(tcptw) tw_hash;
	TAILQ_ENTRY(tcptw) tw_age;
	union inaddr tw_laddr, tw_faddr;
	uint16_t tw_lport, tw_fport;
	uint32_t tw_snd_nxt, tw_rcv_nxt;
	uint32_t tw_tsrecent, tw_tsoff;
	uint32_t tw_scope;
	struct portres *tw_res; /* keeps the port from other stacks */
	uint16_t tw_wnd;	/* as last advertised */
	uint8_t tw_tos, tw_ttl;
	bool tw_ts; /* timestamps were in use */
	bool tw_freebind;
	uint64_t tw_expire;
};
CTASSERT(sizeof(struct tcptw) <= 128);

LIST_HEAD(tcptw_list, tcptw);

struct tcptw_table {
	struct tcp_state *tt_tcp;
	struct tcptw_list *tt_hash; /* tt_mask + 1 chains */
	uint32_t tt_mask, tt_count;
	TAILQ_HEAD(, tcptw) tt_age; /* the oldest first */
	struct callout tt_callout;  /* at the oldest's end */
};

static uint32_t
tw_hashval(const struct tcptw_table *tt, const union inaddr *laddr,
    uint16_t lport, const union inaddr *faddr, uint16_t fport)
{
	uint8_t v[36];

	memcpy(v, laddr, 16);
	memcpy(v + 16, faddr, 16);
	be16put(v + 32, lport);
	be16put(v + 34, fport);
	return (uint32_t)stack_hash(tt->tt_tcp->tcs_stack, SH_PCB, v, sizeof(v));
}

static struct tcptw_list *
tw_chain(struct tcptw_table *tt, const struct tcptw *tw)
{
	return &tt->tt_hash[tw_hashval(tt, &tw->tw_laddr, tw->tw_lport,
				&tw->tw_faddr, tw->tw_fport) &
	    tt->tt_mask];
}

static struct tcptw *
tw_find(const struct tcptw_table *tt, const union inaddr *laddr, uint16_t lport,
    const union inaddr *faddr, uint16_t fport)
{
	struct tcptw *tw;
	uint32_t h;

	if (tt->tt_count == 0) {
		return NULL;
	}
	h = tw_hashval(tt, laddr, lport, faddr, fport);
	LIST_FOREACH (tw, &tt->tt_hash[h & tt->tt_mask], tw_hash) {
		if (tw->tw_lport == lport && tw->tw_fport == fport &&
		    in_eq(&tw->tw_laddr, laddr) && in_eq(&tw->tw_faddr, faddr)) {
			return tw;
		}
	}
	return NULL;
}

/* Twice the chains; if there is no memory the old ones get longer. */
static void
tw_grow(struct tcptw_table *tt)
{
	uint32_t n = (tt->tt_mask + 1) * 2;
	struct tcptw_list *v = calloc(n, sizeof(*v));
	struct tcptw *tw;

	if (v == NULL) {
		return;
	}
	free(tt->tt_hash);
	tt->tt_hash = v;
	tt->tt_mask = n - 1;
	TAILQ_FOREACH (tw, &tt->tt_age, tw_age) {
		LIST_INSERT_HEAD(tw_chain(tt, tw), tw, tw_hash);
	}
}

static void
tw_free(struct tcptw_table *tt, struct tcptw *tw)
{
	LIST_REMOVE(tw, tw_hash);
	TAILQ_REMOVE(&tt->tt_age, tw, tw_age);
	tt->tt_count--;
	tt->tt_tcp->tcs_stack->s_tcbinfo->ipi_gen++; /* bind() may have it */
	in_portrelease(tt->tt_tcp->tcs_stack, tw->tw_res);
	free(tw);
}

/* To the young end of the queue, for another 2 MSL. */
static void
tw_restart(struct tcptw_table *tt, struct tcptw *tw)
{
	struct stack *s = tt->tt_tcp->tcs_stack;

	tw->tw_expire =
	    s->s_now + 2 * (uint64_t)TCPTUN(tt->tt_tcp, msl) * NSEC_PER_MSEC;
	TAILQ_INSERT_TAIL(&tt->tt_age, tw, tw_age);
	if (!callout_pending(&tt->tt_callout)) {
		callout_reset(s, &tt->tt_callout, tw->tw_expire);
	}
}

static void
tw_timer(struct stack *s, void *arg)
{
	struct tcptw_table *tt = arg;
	struct tcptw *tw;

	while ((tw = TAILQ_FIRST(&tt->tt_age)) != NULL &&
	    tw->tw_expire <= s->s_now) {
		tw_free(tt, tw);
	}
	if (tw != NULL) {
		callout_reset(s, &tt->tt_callout, tw->tw_expire);
	}
}

int
tcp_tw_init(struct tcp_state *tcp)
{
	struct tcptw_table *tt;

	if (callout_reserve(tcp->tcs_stack, 1) != 0) {
		return ENOMEM;
	}
	tt = calloc(1, sizeof(*tt));
	if (tt == NULL) {
		return ENOMEM;
	}
	tt->tt_tcp = tcp;
	tt->tt_mask = TW_MINHASH - 1;
	tt->tt_hash = calloc(TW_MINHASH, sizeof(*tt->tt_hash));
	TAILQ_INIT(&tt->tt_age);
	callout_init(&tt->tt_callout, tw_timer, tt);
	tcp->tcs_tw = tt;
	return tt->tt_hash == NULL ? ENOMEM : 0;
}

void
tcp_tw_fini(struct tcp_state *tcp)
{
	struct tcptw_table *tt = tcp->tcs_tw;
	struct tcptw *tw;

	if (tt == NULL) {
		return;
	}
	while ((tw = TAILQ_FIRST(&tt->tt_age)) != NULL) {
		tw_free(tt, tw);
	}
	callout_drain(tcp->tcs_stack, &tt->tt_callout);
	(void)callout_reserve(tcp->tcs_stack, -1);
	free(tt->tt_hash);
	free(tt);
	tcp->tcs_tw = NULL;
}

uint32_t
tcp_tw_count(const struct tcp_state *tcp)
{
	return tcp->tcs_tw->tt_count;
}

static void
tw_fill(struct tcptw *tw, const struct tcpcb *tp)
{
	const struct inpcb *inp = tp->t_inp;

	tw->tw_laddr = inp->inp_laddr;
	tw->tw_faddr = inp->inp_faddr;
	tw->tw_lport = inp->inp_lport;
	tw->tw_fport = inp->inp_fport;
	tw->tw_res = inp->inp_res;
	in_portref(tw->tw_res);
	tw->tw_snd_nxt = tp->snd_max;
	tw->tw_rcv_nxt = tp->rcv_nxt;
	tw->tw_wnd = (uint16_t)u32min(tp->rcv_wnd >> tp->t_rcvscale, TCP_WINMAX);
	tw->tw_tos = inp->inp_tos;
	tw->tw_ttl = inp->inp_ttl;
	tw->tw_scope = in_pcbscope(inp);
	tw->tw_ts = (tp->t_flags & TF_RCVD_TS) != 0;
	tw->tw_tsrecent = tp->t_tsrecent;
	tw->tw_tsoff = tp->t_tsoff;
	tw->tw_freebind = (inp->inp_flags & (INP_ANYIP | INP_FREEBIND)) != 0 ||
	    (tp->t_so->so_options & SOO_ANYIP) != 0;
}

void
tcp_tw_start(struct tcpcb *tp)
{
	struct tcptw_table *tt = tp->t_tcp->tcs_tw;
	int64_t max = TCPTUN(tp->t_tcp, maxtw);
	struct tcptw *tw = NULL;

	if (max > 0) {
		if (tt->tt_count >= max) {
			TCPSTAT_INC(tp->t_tcp, tw_overflow);
			tw_free(tt, TAILQ_FIRST(&tt->tt_age));
		}
		tw = calloc(1, sizeof(*tw));
	}
	if (tw != NULL) {
		TCPSTAT_INC(tp->t_tcp, timewait);
		tw_fill(tw, tp);
		if (tt->tt_count > 2 * tt->tt_mask) {
			tw_grow(tt);
		}
		LIST_INSERT_HEAD(tw_chain(tt, tw), tw, tw_hash);
		tt->tt_count++;
		tw_restart(tt, tw);
	}
	tcp_setstate(tp, TCPS_TIME_WAIT);
	tcp_close(tp);
}

static void
tw_ack(struct tcp_state *tcp, const struct tcptw *tw)
{
	struct tcpreply tr = {
		.tr_laddr = &tw->tw_laddr,
		.tr_faddr = &tw->tw_faddr,
		.tr_lport = tw->tw_lport,
		.tr_fport = tw->tw_fport,
		.tr_seq = tw->tw_snd_nxt,
		.tr_ack = tw->tw_rcv_nxt,
		.tr_wnd = tw->tw_wnd,
		.tr_flags = TH_ACK,
		.tr_tos = tw->tw_tos,
		.tr_ttl = tw->tw_ttl,
		.tr_scope = tw->tw_scope,
		.tr_freebind = tw->tw_freebind,
	};

	if (tw->tw_ts) {
		tr.tr_optlen = (uint8_t)tcp_ts_put(tr.tr_opt,
		    tcp_tsclock(tcp->tcs_stack) + tw->tw_tsoff, tw->tw_tsrecent);
	}
	tcp_reply(tcp->tcs_stack, &tr);
}

/* MAY-2 and RFC 6191: is this SYN certainly newer than what we remember? */
static bool
tw_newer(const struct tcptw *tw, const struct tcpseg *sg)
{
	if (tw->tw_ts && (sg->sg_opt.to_flags & TOF_TS) &&
	    sg->sg_opt.to_tsval != tw->tw_tsrecent) {
		return TSTMP_LT(tw->tw_tsrecent, sg->sg_opt.to_tsval);
	}
	return SEQ_GT(sg->sg_seq, tw->tw_rcv_nxt);
}

enum tcp_twverdict
tcp_tw_input(struct tcp_state *tcp, struct tcpseg *sg)
{
	struct tcptw_table *tt = tcp->tcs_tw;
	struct tcptw *tw = tw_find(tt, &sg->sg_laddr, sg->sg_lport,
	    &sg->sg_faddr, sg->sg_fport);

	if (tw == NULL) {
		return TCPTW_NONE;
	}
	if (sg->sg_flags & TH_RST) {
		TCPDROP(tcp, timewait); /* RFC 1337 */
		return TCPTW_DONE;
	}
	if ((sg->sg_flags & (TH_SYN | TH_ACK)) == TH_SYN && tw_newer(tw, sg)) {
		TCPSTAT_INC(tcp, tw_recycled);
		sg->sg_iss = tw->tw_snd_nxt + TW_ISSGAP;
		sg->sg_hasiss = true;
		tw_free(tt, tw);
		return TCPTW_REUSE;
	}
	TCPDROP(tcp, timewait);
	if ((sg->sg_flags & TH_FIN) &&
	    sg->sg_seq + sg->sg_len + 1 == tw->tw_rcv_nxt) {
		TAILQ_REMOVE(&tt->tt_age, tw, tw_age);
		tw_restart(tt, tw);
		tw_ack(tcp, tw);
	} else if ((sg->sg_len > 0 || sg->sg_seq != tw->tw_rcv_nxt ||
		       (sg->sg_flags & (TH_SYN | TH_FIN))) &&
	    tcp_challenge_ok(tcp, NULL)) {
		tw_ack(tcp, tw);
	}
	return TCPTW_DONE;
}

bool
tcp_tw_recycle(struct tcp_state *tcp, const struct inpcb *inp, uint32_t *iss)
{
	struct tcptw_table *tt = tcp->tcs_tw;
	struct tcptw *tw = tw_find(tt, &inp->inp_laddr, inp->inp_lport,
	    &inp->inp_faddr, inp->inp_fport);

	if (tw == NULL) {
		return false;
	}
	TCPSTAT_INC(tcp, tw_recycled);
	*iss = tw->tw_snd_nxt + TW_ISSGAP;
	tw_free(tt, tw);
	return true;
}

bool
tcp_twinuse(struct stack *s, const union inaddr *laddr, uint16_t lport)
{
	const struct tcptw *tw;

	TAILQ_FOREACH (tw, &s->s_tcp->tcs_tw->tt_age, tw_age) {
		if (tw->tw_lport == lport &&
		    (in_isany(laddr) || in_eq(laddr, &tw->tw_laddr))) {
			return true;
		}
	}
	return false;
}
