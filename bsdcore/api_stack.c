/*
 * api_stack.c - a stack is made, run, forked and taken down.
 */
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <time.h>

#include "bsdcore/api_sub.h"
#include "bsdcore/net/if.h"
#include "bsdcore/net/route.h"
#include "bsdcore/netinet/in_flow.h"
#include "bsdcore/sys/kernel.h"
#include "bsdcore/sys/sysctl.h"
#include "nic/port.h"

#define MEM_DEFAULT (256ull << 20)

static uint64_t
clock_read(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

static uint64_t
clock_monotonic(void *arg)
{
	(void)arg;
	return clock_read(CLOCK_MONOTONIC);
}

/* A thread that finds the lock taken spins a little: it is held briefly. */
static int
stack_lockinit(struct stack *s)
{
	pthread_mutexattr_t attr;
	int error = pthread_mutexattr_init(&attr);

	if (error != 0) {
		return error;
	}
	(void)pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ADAPTIVE_NP);
	error = pthread_mutex_init(&s->s_lock, &attr);
	pthread_mutexattr_destroy(&attr);
	return error;
}

/* Every layer's state, lowest first; what failed is undone by stack_fini(). */
static int
stack_init(struct stack *s, uint64_t mem)
{
	int error = ctl_sysinit(s);

	if (error == 0) {
		error = callout_sysinit(s);
	}
	if (error == 0) {
		s->s_mb = mbpool_new(s, mem != 0 ? mem : MEM_DEFAULT);
		error = s->s_mb != NULL ? 0 : ENOMEM;
	}
	if (error == 0) {
		error = so_init(s);
	}
	if (error == 0) {
		error = netisr_init(s);
	}
	if (error == 0) {
		error = if_init(s);
	}
	return error == 0 ? domain_init(s) : error;
}

/* Everything but the struct itself and its lock. */
static void
stack_fini(struct stack *s)
{
	if (s->s_if != NULL) {
		domain_fini(s);
		if_fini(s);
	}
	netisr_fini(s);
	if (s->s_so != NULL) {
		so_fini(s);
	}
	if (s->s_mb != NULL) {
		mbpool_free(s->s_mb);
	}
	if (s->s_callouts != NULL) {
		callout_sysfini(s);
	}
	if (s->s_ctl != NULL) {
		ctl_sysfini(s);
	}
}

int
bsd_stack_new(const struct bsd_config *cfg, struct stack **out)
{
	struct stack *s = calloc(1, sizeof(*s));
	int error;

	if (s == NULL) {
		return -ENOMEM;
	}
	error = stack_lockinit(s);
	if (error != 0) {
		free(s);
		return -error;
	}
	snprintf(s->s_name, sizeof(s->s_name), "%s",
	    cfg->name != NULL ? cfg->name : "stack");
	memcpy(s->s_key, cfg->seed, sizeof(s->s_key));
	if (cfg->virtual_time) {
		s->s_now = cfg->start_time;
	} else {
		s->s_clock = cfg->clock != NULL ? cfg->clock : clock_monotonic;
		s->s_clock_arg = cfg->clock_arg;
		s->s_now = stack_clock(s);
	}
	error = stack_init(s, cfg->mem_limit);
	if (error != 0) {
		stack_fini(s);
		pthread_mutex_destroy(&s->s_lock);
		free(s);
		return -error;
	}
	if (s->s_clock == clock_monotonic) { /* for SO_TIMESTAMP */
		s->s_so->sos_walltime = clock_read(CLOCK_REALTIME) - s->s_now;
	}
	*out = s;
	return 0;
}

/* The user still has the pointer: end the connection and wake who waits. */
static void
so_defunct(struct socket *so)
{
	const struct pr_usrreqs *pru = so->so_proto->pr_usrreqs;

	sohold(so);
	so->so_state |= SS_DEFUNCT;
	if (so->so_pcb != NULL && pru->pru_abort != NULL) {
		pru->pru_abort(so);
	}
	if (so->so_pcb != NULL && pru->pru_detach != NULL) {
		pru->pru_detach(so);
	}
	if (so->so_waiters != NULL) {
		so_wake_waiters(so, -1);
	}
	so->so_refs--;
}

/* End every socket. Those of the stack itself and those already closed are
 * freed; the rest stay on the list, defunct. */
static void
stack_endsockets(struct stack *s)
{
	LIST_HEAD(, socket) ended; /* apart, so as not to be looked at again */
	struct socket *so;

	LIST_INIT(&ended);
again:
	LIST_FOREACH (so, &s->s_so->sos_all, so_all) {
		if (so->so_state & SS_NOFDREF) {
			if (so->so_head != NULL) {
				continue; /* goes with its listener */
			}
			if (so->so_pcb == NULL && so->so_refs > 0) {
				continue; /* goes with the last call */
			}
			soabort(so);
			goto again;
		}
		if (!(so->so_state & SS_DEFUNCT)) {
			if (so->so_options & SOO_ACCEPTCONN) {
				(void)soshutdown(so, SHUT_RDWR);
			}
			so_defunct(so);
			LIST_REMOVE(so, so_all);
			LIST_INSERT_HEAD(&ended, so, so_all);
			goto again;
		}
	}
	while ((so = LIST_FIRST(&ended)) != NULL) {
		LIST_REMOVE(so, so_all);
		LIST_INSERT_HEAD(&s->s_so->sos_all, so, so_all);
	}
}

static bool
stack_busy(struct stack *s)
{
	const struct socket *so;

	if (evq_busy(s)) {
		return true;
	}
	LIST_FOREACH (so, &s->s_so->sos_all, so_all) {
		if (so->so_refs > 0) {
			return true;
		}
	}
	return s->s_so->sos_drainers != NULL;
}

/* Cut the defunct sockets loose; bsd_close() frees them. Until then they, and
 * the event queues, keep what is left of the stack. */
static void
stack_releasesockets(struct stack *s)
{
	struct socket *so;

	while ((so = LIST_FIRST(&s->s_so->sos_all)) != NULL) {
		KASSERT(so->so_pcb == NULL && so->so_relay == NULL);
		sbflush(&so->so_rcv);
		sbflush(&so->so_snd);
		LIST_REMOVE(so, so_all);
		s->s_so->sos_count--;
		free(so->so_peer);
		so->so_peer = NULL;
		if (so->so_state & SS_NOFDREF) {
			free(so);
		} else {
			s->s_holders++;
		}
	}
}

void
bsd_stack_free(struct stack *s)
{
	netisr_stop(s);
	if (s->s_flags & STACK_DEAD) {
		return; /* a forked copy: its memory is nobody's to free */
	}
	stack_enter(s);
	s->s_flags |= STACK_DRAINING;
	relay_fini(s);
	stack_endsockets(s);
	if (s->s_so->sos_drainers != NULL) {
		waitlist_wake(s, s->s_so->sos_drainers, -1);
	}
	while (stack_busy(s)) { /* threads on their way out */
		stack_leave(s);
		sched_yield();
		stack_enter(s);
	}
	stack_leave(s); /* the last RSTs leave */
	while (atomic_load_explicit(&s->s_kicking, memory_order_acquire) != 0) {
		sched_yield();
	}
	stack_enter(s);
	s->s_holders = evq_fini(s) + 1; /* and us */
	stack_releasesockets(s);
	s->s_clock = NULL; /* its argument may go with the stack */
	s->s_flags |= STACK_GONE;
	stack_fini(s);
	stack_unhold(s);
}

int
bsd_run(struct stack *s, uint64_t now)
{
	bool more;

	stack_enter(s);
	if (s->s_flags & STACK_DEAD) {
		stack_leave(s);
		return -ECONNABORTED;
	}
	if (s->s_clock == NULL && now > s->s_now) {
		s->s_now = now;
	}
	more = netisr_run(s);
	stack_leave(s);
	return more;
}

uint64_t
bsd_poll_at(struct stack *s)
{
	uint64_t at;

	stack_enter(s);
	at = s->s_flags & STACK_DEAD ? UINT64_MAX : netisr_poll_at(s);
	stack_leave(s);
	return at;
}

uint64_t
bsd_now(struct stack *s)
{
	uint64_t now;

	stack_enter(s);
	now = s->s_now;
	stack_leave(s);
	return now;
}

int
bsd_start(struct stack *s)
{
	return -netisr_start(s);
}

void
bsd_stop(struct stack *s)
{
	netisr_stop(s);
}

void
bsd_fork_prepare(struct stack *s)
{
	pthread_mutex_lock(&s->s_lock);
}

void
bsd_fork_parent(struct stack *s)
{
	pthread_mutex_unlock(&s->s_lock);
}

void
bsd_fork_child(struct stack *s)
{
	/* The lock's owner is a thread of the parent: begin with a new one. */
	(void)stack_lockinit(s);
	s->s_flags |= STACK_DEAD;
	s->s_flags &= ~(uint32_t)STACK_THREADED;
	s->s_wakeup = NULL;
}

/* ---- interfaces, routes, tunables ---- */

/* 0, or EAFNOSUPPORT. */
static int
addr_in(const struct bsd_addr *a, union inaddr *ia)
{
	uint32_t v4;

	switch (a->family) {
	case AF_INET:
		memcpy(&v4, a->addr, 4);
		*ia = in_map4(v4);
		return 0;
	case AF_INET6:
		memcpy(ia->ia_b, a->addr, 16);
		return 0;
	default:
		return EAFNOSUPPORT;
	}
}

int
bsd_if_attach(struct stack *s, struct port *port, const char *name)
{
	struct ifnet *ifp;
	int answer;

	stack_enter(s);
	answer = name != NULL && strcmp(name, "lo0") == 0 ?
	    -if_attachlo(s, port, &ifp) :
	    -if_attach(s, port, name, &ifp);
	if (answer == 0) {
		answer = (int)ifp->if_index;
	}
	stack_leave(s);
	return answer;
}

int
bsd_if_detach(struct stack *s, unsigned int ifindex)
{
	struct ifnet *ifp;

	stack_enter(s);
	ifp = if_byindex(s, ifindex);
	if (ifp != NULL && ifp != s->s_if->ifs_lo) {
		if_detach(ifp);
	}
	stack_leave(s);
	return ifp != NULL ? 0 : -ENXIO;
}

int
bsd_if_flags(struct stack *s, unsigned int ifindex, unsigned int set,
    unsigned int clear)
{
	struct ifnet *ifp;
	int error = ENXIO;

	stack_enter(s);
	ifp = if_byindex(s, ifindex);
	if (ifp != NULL) {
		error = if_setflags(ifp, set, clear);
	}
	stack_leave(s);
	return -error;
}

int
bsd_if_mtu(struct stack *s, unsigned int ifindex, unsigned int mtu)
{
	struct ifnet *ifp;
	int error = ENXIO;

	stack_enter(s);
	ifp = if_byindex(s, ifindex);
	if (ifp != NULL) {
		error = if_setmtu(ifp, mtu);
	}
	stack_leave(s);
	return -error;
}

int
bsd_if_addaddr(struct stack *s, unsigned int ifindex,
    const struct bsd_addr *addr, unsigned int plen)
{
	union inaddr ia;
	struct ifnet *ifp;
	int error = addr_in(addr, &ia);

	if (error != 0) {
		return -error;
	}
	stack_enter(s);
	ifp = if_byindex(s, ifindex);
	error = ifp != NULL ? if_addaddr(ifp, &ia, plen) : ENXIO;
	stack_leave(s);
	return -error;
}

int
bsd_if_deladdr(struct stack *s, unsigned int ifindex,
    const struct bsd_addr *addr)
{
	union inaddr ia;
	struct ifnet *ifp;
	int error = addr_in(addr, &ia);

	if (error != 0) {
		return -error;
	}
	stack_enter(s);
	ifp = if_byindex(s, ifindex);
	error = ifp != NULL ? if_deladdr(ifp, &ia) : ENXIO;
	stack_leave(s);
	return -error;
}

int
bsd_if_index(struct stack *s, const char *name)
{
	struct ifnet *ifp;
	int answer = -ENXIO;

	stack_enter(s);
	ifp = if_byname(s, name);
	if (ifp != NULL) {
		answer = (int)ifp->if_index;
	}
	stack_leave(s);
	return answer;
}

int
bsd_route_add(struct stack *s, const struct bsd_addr *dst, unsigned int plen,
    const struct bsd_addr *gw, unsigned int ifindex)
{
	union inaddr d, g;
	bool via = gw != NULL && gw->family != 0;
	struct ifnet *ifp;
	struct rtentry *rt;
	int error = addr_in(dst, &d);

	if (error == 0 && via) {
		error = addr_in(gw, &g);
	}
	if (error != 0) {
		return -error;
	}
	stack_enter(s);
	ifp = if_byindex(s, ifindex);
	if (ifindex != 0 && ifp == NULL) {
		error = ENXIO;
	} else {
		error = rt_add(s, &d, plen, via ? &g : NULL, ifp,
		    RTF_STATIC | (via ? RTF_GATEWAY : 0), &rt);
	}
	stack_leave(s);
	return -error;
}

int
bsd_route_del(struct stack *s, const struct bsd_addr *dst, unsigned int plen)
{
	union inaddr d;
	int error = addr_in(dst, &d);

	if (error != 0) {
		return -error;
	}
	stack_enter(s);
	error = rt_delete(s, &d, plen, NULL);
	stack_leave(s);
	return -error;
}

int
bsd_arp_add(struct stack *s, unsigned int ifindex, const struct bsd_addr *addr,
    const unsigned char *mac)
{
	union inaddr a;
	struct ifnet *ifp;
	int error = addr_in(addr, &a);

	if (error != 0) {
		return -error;
	}
	stack_enter(s);
	ifp = if_byindex(s, ifindex);
	error = ifp != NULL ? arp_setstatic(ifp, &a, mac) : ENXIO;
	stack_leave(s);
	return -error;
}

int
bsd_set_netns(struct stack *s, const void *netns_ops, void *arg,
    const void *flow_advtab)
{
	int error;

	stack_enter(s);
	error = in_flowsetns(s, netns_ops, arg, flow_advtab);
	stack_leave(s);
	return -error;
}

int
bsd_resolver(struct stack *s, unsigned int ifindex, const void **fr)
{
	const struct flow_resolver *out;
	int error;

	stack_enter(s);
	error = in_flowresolver(s, ifindex, &out);
	stack_leave(s);
	if (error == 0) {
		*fr = out;
	}
	return -error;
}

void
bsd_set_flow_event(struct stack *s, void (*fn)(void *arg), void *arg)
{
	struct flow_state *fl;

	stack_enter(s);
	fl = in_flowstate(s);
	if (fl != NULL) {
		fl->fl_event = fn;
		fl->fl_eventarg = arg;
	}
	stack_leave(s);
}

void
bsd_wake(void *stack)
{
	netisr_kick(stack);
}

int
bsd_sysctl_get(struct stack *s, const char *name, int64_t *out)
{
	int error;

	stack_enter(s);
	error = sysctl_get(s, name, out);
	stack_leave(s);
	return -error;
}

int
bsd_sysctl_set(struct stack *s, const char *name, int64_t value)
{
	int error;

	stack_enter(s);
	error = sysctl_set(s, name, value);
	stack_leave(s);
	return -error;
}

int
bsd_sysctl_info(struct stack *s, int i, const char **name, const char **doc,
    int64_t *value, int64_t *min, int64_t *max)
{
	int error = ENOENT;

	stack_enter(s);
	if (i >= 0) {
		error = sysctl_index(s, (size_t)i, name, doc, value, min, max);
	}
	stack_leave(s);
	return -error;
}

int
bsd_stat(struct stack *s, int i, const char **name, uint64_t *value)
{
	int error = ENOENT;

	stack_enter(s);
	if (i >= 0) {
		error = stat_index(s, (size_t)i, name, value);
	}
	stack_leave(s);
	return -error;
}

size_t
bsd_sizeof_pkt(void)
{
	return sizeof(struct pkt);
}

size_t
bsd_sizeof_port(void)
{
	return sizeof(struct port);
}
