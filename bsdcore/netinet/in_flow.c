/*
 * in_flow.c - where this stack meets others over the same addresses
 * (nic/flow.h): it takes ports in their common namespace, names its flows
 * there, waits when one is held back, and tells them next hops.
 *
 * The namespace hears of a port once: struct portres counts who uses it here,
 * sockets and connections in TIME_WAIT. The rules between sockets of one stack are
 * in_pcb.c's.
 *
 * A pcb that had something to send and found its flow suspended is on
 * fl_waiting. Whoever resumes flows moves ft_gen and wakes the stack; in_flowrun()
 * then lets go whoever may. A callout looks, too, in case the wake-up went
 * astray.
 */
#include "bsdcore/netinet/in_flow.h"

#include "bsdcore/net/ethernet.h"
#include "bsdcore/netinet/tcp_var.h"
#include "bsdcore/sys/kernel.h"
#include "bsdcore/sys/sysctl.h"

#define FLOW_LOOK (20 * NSEC_PER_MSEC)

/* clang-format off */
static const struct stat_def flow_stats[] = {
	{ "flow.suspends", offsetof(struct flow_state, fl_suspends) },
	{ "flow.resumes", offsetof(struct flow_state, fl_resumes) },
	{ "flow.portinuse", offsetof(struct flow_state, fl_portinuse) },
	{ "flow.noflow", offsetof(struct flow_state, fl_noflow) },
};
/* clang-format on */

static void
flow_look(struct stack *s, void *arg)
{
	struct flow_state *fl = arg;

	fl->fl_gen--; /* look at every one */
	in_flowrun(s);
}

struct flow_state *
in_flowstate(struct stack *s)
{
	struct flow_state *fl = s->s_flow;

	if (fl != NULL || (fl = calloc(1, sizeof(*fl))) == NULL) {
		return fl;
	}
	if (callout_reserve(s, 1) != 0) {
		free(fl);
		return NULL;
	}
	if (stat_register(s, flow_stats, nitems(flow_stats), fl) != 0) {
		callout_reserve(s, -1);
		free(fl);
		return NULL;
	}
	callout_init(&fl->fl_callout, flow_look, fl);
	s->s_flow = fl;
	return fl;
}

void
in_flowfini(struct stack *s)
{
	struct flow_state *fl = s->s_flow;
	struct flow_hop *fh;

	if (fl == NULL) {
		return;
	}
	KASSERT(LIST_EMPTY(&fl->fl_waiting));
	for (unsigned i = 0; i < IN_NRESERVED; i++) {
		KASSERT(LIST_EMPTY(&fl->fl_reserved[i]));
	}
	while ((fh = LIST_FIRST(&fl->fl_hops)) != NULL) {
		LIST_REMOVE(fh, fh_link);
		free(fh);
	}
	callout_drain(s, &fl->fl_callout);
	callout_reserve(s, -1);
	free(fl);
	s->s_flow = NULL;
}

int
in_flowsetns(struct stack *s, const struct netns_ops *ops, void *arg,
    const struct flow_advtab *tab)
{
	struct flow_state *fl = in_flowstate(s);

	if (fl == NULL) {
		return ENOMEM;
	}
	if (!LIST_EMPTY(&s->s_tcbinfo->ipi_list) ||
	    !LIST_EMPTY(&s->s_udbinfo->ipi_list) || tcp_tw_count(s->s_tcp) != 0) {
		return EBUSY;
	}
	fl->fl_ops = ops;
	fl->fl_arg = arg;
	fl->fl_tab = tab;
	fl->fl_gen = 0;
	return 0;
}

/* ---- ports ---- */

static struct flow_key
flow_key(uint8_t proto, const union inaddr *laddr, uint16_t lport,
    const union inaddr *faddr, uint16_t fport)
{
	struct flow_key k = {
		.fk_lport = lport, .fk_fport = fport, .fk_proto = proto
	};

	memcpy(k.fk_laddr, laddr->ia_b, sizeof(k.fk_laddr));
	if (faddr != NULL) {
		memcpy(k.fk_faddr, faddr->ia_b, sizeof(k.fk_faddr));
	} else if (in_is4(laddr)) {
		k.fk_faddr[10] = k.fk_faddr[11] = 0xff;
	}
	return k;
}

/* Whoever holds pr's address and port, holds this one, too. */
static bool
portres_covers(const struct portres *pr, const union inaddr *laddr)
{
	if (in_eq(&pr->pr_laddr, laddr)) {
		return true;
	}
	return in_isany(&pr->pr_laddr) &&
	    (!in_is4(&pr->pr_laddr) || in_is4(laddr));
}

int
in_portreserve(struct inpcbinfo *ipi, const union inaddr *laddr, uint16_t port,
    unsigned flags, struct portres **out)
{
	struct flow_state *fl = ipi->ipi_stack->s_flow;
	struct flow_key k;
	struct portres *pr;
	int error;

	*out = NULL;
	if (fl == NULL || fl->fl_ops == NULL || port == 0) {
		return 0;
	}
	LIST_FOREACH (pr, &fl->fl_reserved[port % IN_NRESERVED], pr_link) {
		if (pr->pr_port == port && pr->pr_proto == ipi->ipi_ipproto &&
		    portres_covers(pr, laddr)) {
			pr->pr_refs++;
			*out = pr;
			return 0;
		}
	}
	pr = calloc(1, sizeof(*pr));
	if (pr == NULL) {
		return ENOBUFS;
	}
	k = flow_key(ipi->ipi_ipproto, laddr, port, NULL, 0);
	error = fl->fl_ops->no_reserve(fl->fl_arg, &k, flags);
	if (error != 0) {
		fl->fl_portinuse++;
		free(pr);
		return error;
	}
	pr->pr_laddr = *laddr;
	pr->pr_port = port;
	pr->pr_proto = ipi->ipi_ipproto;
	pr->pr_flags = flags;
	pr->pr_refs = 1;
	LIST_INSERT_HEAD(&fl->fl_reserved[port % IN_NRESERVED], pr, pr_link);
	*out = pr;
	return 0;
}

void
in_portref(struct portres *pr)
{
	if (pr != NULL) {
		pr->pr_refs++;
	}
}

void
in_portrelease(struct stack *s, struct portres *pr)
{
	struct flow_state *fl = s->s_flow;
	struct flow_key k;

	if (pr == NULL || --pr->pr_refs > 0) {
		return;
	}
	LIST_REMOVE(pr, pr_link);
	k = flow_key(pr->pr_proto, &pr->pr_laddr, pr->pr_port, NULL, 0);
	fl->fl_ops->no_release(fl->fl_arg, &k);
	free(pr);
}

int
in_portlisten(struct stack *s, struct portres *pr)
{
	struct flow_state *fl = s->s_flow;
	struct flow_key k;
	int error;

	if (pr == NULL || (pr->pr_flags & FLOW_LISTENER)) {
		return 0;
	}
	k = flow_key(pr->pr_proto, &pr->pr_laddr, pr->pr_port, NULL, 0);
	error = fl->fl_ops->no_reserve(fl->fl_arg, &k,
	    pr->pr_flags | FLOW_LISTENER);
	if (error == 0) { /* counted twice now */
		fl->fl_ops->no_release(fl->fl_arg, &k);
		pr->pr_flags |= FLOW_LISTENER;
	}
	return error;
}

/* ---- flows ---- */

int
in_flowattach(struct inpcb *inp, uint32_t *flowid)
{
	struct flow_state *fl = inp->inp_info->ipi_stack->s_flow;
	struct flow_key k;
	int error;

	if (fl == NULL || fl->fl_ops == NULL || inp->inp_lport == 0) {
		return 0;
	}
	k = flow_key(inp->inp_info->ipi_ipproto, &inp->inp_laddr,
	    inp->inp_lport, &inp->inp_faddr, inp->inp_fport);
	error = fl->fl_ops->no_attach(fl->fl_arg, &k, 0, flowid);
	if (error != 0) {
		fl->fl_noflow++;
		return error;
	}
	inp->inp_attached = true;
	return 0;
}

void
in_flowdetach(struct inpcb *inp)
{
	struct stack *s = inp->inp_info->ipi_stack;

	in_flowforget(inp);
	if (inp->inp_attached) {
		inp->inp_attached = false;
		s->s_flow->fl_ops->no_detach(s->s_flow->fl_arg, inp->inp_flowid,
		    s->s_flags & STACK_DRAINING ? FLOW_ABORT : 0);
	}
}

/* ---- back-pressure ---- */

void
in_flowwait(struct inpcb *inp)
{
	struct stack *s = inp->inp_info->ipi_stack;
	struct flow_state *fl = s->s_flow;

	if (inp->inp_waiting) {
		return;
	}
	inp->inp_waiting = true;
	inp->inp_socket->so_state |= SS_SUSPENDED;
	LIST_INSERT_HEAD(&fl->fl_waiting, inp, inp_wait);
	fl->fl_suspends++;
	if (!callout_pending(&fl->fl_callout)) {
		callout_reset(s, &fl->fl_callout, s->s_now + FLOW_LOOK);
	}
}

void
in_flowforget(struct inpcb *inp)
{
	if (inp->inp_waiting) {
		inp->inp_waiting = false;
		LIST_REMOVE(inp, inp_wait);
		if (inp->inp_socket != NULL) {
			inp->inp_socket->so_state &= ~(uint32_t)SS_SUSPENDED;
		}
	}
}

/* inp's turn: it is not on the list any more. */
static void
flow_resume(struct inpcb *inp)
{
	struct socket *so = inp->inp_socket;

	if (inp->inp_ppcb != NULL) {
		(void)tcp_output(intotcpcb(inp));
	} else {
		sowwakeup(so);
	}
}

void
in_flowrun(struct stack *s)
{
	struct flow_state *fl = s->s_flow;
	struct inpcb *inp, *next;
	struct inpcbhead free_to_go = LIST_HEAD_INITIALIZER(free_to_go);
	unsigned gen;

	if (fl == NULL || LIST_EMPTY(&fl->fl_waiting)) {
		return;
	}
	gen = atomic_load_explicit(&fl->fl_tab->ft_gen, memory_order_acquire);
	if (gen == fl->fl_gen) {
		return;
	}
	fl->fl_gen = gen;
	for (inp = LIST_FIRST(&fl->fl_waiting); inp != NULL; inp = next) {
		next = LIST_NEXT(inp, inp_wait);
		if (!in_flowsuspended(inp)) {
			LIST_REMOVE(inp, inp_wait);
			LIST_INSERT_HEAD(&free_to_go, inp, inp_wait);
		}
	}
	/* What one does may end another: take them from the list one by one. */
	while ((inp = LIST_FIRST(&free_to_go)) != NULL) {
		in_flowforget(inp);
		fl->fl_resumes++;
		flow_resume(inp);
	}
	if (!LIST_EMPTY(&fl->fl_waiting)) {
		callout_reset(s, &fl->fl_callout, s->s_now + FLOW_LOOK);
	}
}

/* ---- next hops ---- */

/* fr_resolve. */
static int
flow_nexthop(void *arg, const uint8_t dst[16], uint8_t mac[6])
{
	const struct flow_hop *fh = arg;
	struct stack *s = fh->fh_stack;
	struct ifnet *ifp;
	struct rtentry *rt;
	union inaddr a;
	int error = ENETUNREACH;

	memcpy(a.ia_b, dst, sizeof(a.ia_b));
	stack_enter(s);
	ifp = if_byindex(s, fh->fh_ifindex);
	if (ifp == NULL || !(ifp->if_flags & IFF_UP_)) {
		error = ENETDOWN;
	} else if (in_ismulticast(&a)) {
		ether_mapmulti(&a, mac);
		error = 0;
	} else if (in_broadcast(ifp, &a)) {
		memset(mac, 0xff, ETHER_ADDR_LEN);
		error = 0;
	} else if ((rt = rt_lookup(s, &a, fh->fh_ifindex)) != NULL &&
	    rt->rt_ifp == ifp) {
		if (rt->rt_flags & (RTF_REJECT | RTF_BLACKHOLE)) {
			error = EHOSTUNREACH;
		} else {
			error = arp_query(ifp,
			    rt->rt_flags & RTF_GATEWAY ? &rt->rt_gateway : &a,
			    mac);
		}
	}
	stack_leave(s);
	return error;
}

int
in_flowresolver(struct stack *s, uint32_t ifindex,
    const struct flow_resolver **out)
{
	struct flow_state *fl = in_flowstate(s);
	struct ifnet *ifp = if_byindex(s, ifindex);
	struct flow_hop *fh;

	if (ifp == NULL || ifp->if_hdrlen == 0) {
		return ifp == NULL ? ENXIO : EOPNOTSUPP;
	}
	fh = fl != NULL ? calloc(1, sizeof(*fh)) : NULL;
	if (fh == NULL) {
		return ENOMEM;
	}
	fh->fh_stack = s;
	fh->fh_ifindex = ifindex;
	fh->fh_resolver.fr_resolve = flow_nexthop;
	fh->fh_resolver.fr_arg = fh;
	LIST_INSERT_HEAD(&fl->fl_hops, fh, fh_link);
	*out = &fh->fh_resolver;
	return 0;
}

void
in_flowevent(struct stack *s)
{
	const struct flow_state *fl = s->s_flow;

	if (fl != NULL && fl->fl_event != NULL &&
	    !(s->s_flags & STACK_DRAINING)) {
		fl->fl_event(fl->fl_eventarg);
	}
}
