/* The netisr by hand and as a thread: watches, kicks, ports, fork. */
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "nic/api.h"
#include "nic/port_impl.h"
#include "tests/unit/c/linkstack.h"

static uint64_t
monotonic(void *arg)
{
	struct timespec ts;

	(void)arg;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

/* A stack on the real clock, its thread running. */
static struct stack *
live_new(void)
{
	struct stack *s = ls_new(1 << 22);

	s->s_clock = monotonic;
	s->s_now = monotonic(NULL);
	CHECK_EQ(netisr_start(s), 0);
	return s;
}

struct probe {
	struct watch p_watch;
	int p_fd[2];   /* p_fd[0] is watched */
	int p_done[2]; /* the callback writes to p_done[1] */
	int p_calls;
	bool p_freed;
	struct probe *p_kill; /* deleted by the callback */
};

static void
probe_fn(struct stack *s, struct watch *w, uint32_t revents)
{
	struct probe *p = w->wa_arg;
	char c;

	CHECK(revents & EPOLLIN);
	CHECK_EQ(read(p->p_fd[0], &c, 1), 1);
	p->p_calls++;
	if (p->p_kill != NULL) {
		watch_del(s, &p->p_kill->p_watch);
		CHECK(!p->p_kill->p_freed);
		p->p_kill = NULL;
	}
	CHECK_EQ(write(p->p_done[1], &c, 1), 1);
}

static void
probe_free(struct watch *w)
{
	((struct probe *)w->wa_arg)->p_freed = true;
}

static void
probe_new(struct stack *s, struct probe *p)
{
	memset(p, 0, sizeof(*p));
	CHECK_EQ(pipe(p->p_fd), 0);
	CHECK_EQ(pipe(p->p_done), 0);
	p->p_watch.wa_fd = p->p_fd[0];
	p->p_watch.wa_fn = probe_fn;
	p->p_watch.wa_arg = p;
	p->p_watch.wa_free = probe_free;
	stack_enter(s);
	CHECK_EQ(watch_add(s, &p->p_watch, EPOLLIN), 0);
	stack_leave(s);
}

static void
probe_close(struct probe *p)
{
	for (int i = 0; i < 2; i++) {
		close(p->p_fd[i]);
		close(p->p_done[i]);
	}
}

static void
probe_poke(struct probe *p)
{
	CHECK_EQ(write(p->p_fd[1], "x", 1), 1);
}

static void
probe_wait(struct probe *p)
{
	char c;

	CHECK_EQ(read(p->p_done[0], &c, 1), 1);
}

TEST(watching_by_hand)
{
	struct stack *s = ls_new(1 << 22);
	struct probe a, b;
	struct watch file = { .wa_fd = -1 };

	probe_new(s, &a);
	probe_new(s, &b);
	ls_run(s, s->s_now);
	CHECK_EQ(a.p_calls, 0);
	probe_poke(&a);
	ls_run(s, s->s_now);
	CHECK_EQ(a.p_calls, 1);
	CHECK_EQ(b.p_calls, 0);
	CHECK_EQ(watch_mod(s, &a.p_watch, 0), 0);
	probe_poke(&a);
	ls_run(s, s->s_now);
	CHECK_EQ(a.p_calls, 1);
	CHECK_EQ(watch_mod(s, &a.p_watch, EPOLLIN), 0);
	CHECK_EQ(a.p_watch.wa_events, EPOLLIN);
	ls_run(s, s->s_now);
	CHECK_EQ(a.p_calls, 2);
	/* Both ready; whichever runs first takes the other away. */
	a.p_kill = &b;
	b.p_kill = &a;
	probe_poke(&a);
	probe_poke(&b);
	ls_run(s, s->s_now);
	CHECK_EQ(a.p_calls + b.p_calls, 3);
	CHECK_EQ(a.p_freed + b.p_freed, 1);
	watch_del(s, a.p_freed ? &b.p_watch : &a.p_watch);
	CHECK_EQ(a.p_freed + b.p_freed, 2); /* at once, between rounds */
	CHECK_EQ(watch_add(s, &file, EPOLLIN), EBADF);
	ls_run(s, s->s_now);
	probe_close(&a);
	probe_close(&b);
	ls_free(s);
}

TEST(virtual_time_has_no_thread)
{
	struct stack *s = ls_new(1 << 22);

	CHECK_EQ(netisr_start(s), EINVAL);
	CHECK(!netisr_needs_kick(s));
	ls_free(s);
}

TEST(thread_runs_watches)
{
	struct stack *s = live_new();
	struct probe a;

	CHECK_EQ(netisr_start(s), EALREADY);
	probe_new(s, &a);
	for (int i = 0; i < 100; i++) {
		probe_poke(&a);
		probe_wait(&a);
	}
	netisr_stop(s);
	CHECK_EQ(a.p_calls, 100);
	/* By hand meanwhile, then by a thread again. */
	probe_poke(&a);
	stack_enter(s);
	(void)netisr_run(s);
	stack_leave(s);
	CHECK_EQ(a.p_calls, 101);
	probe_wait(&a);
	CHECK_EQ(netisr_start(s), 0);
	probe_poke(&a);
	probe_wait(&a);
	stack_enter(s);
	watch_del(s, &a.p_watch);
	CHECK(!a.p_freed); /* the thread may hold it */
	stack_leave(s);
	netisr_stop(s);
	CHECK(a.p_freed);
	probe_close(&a);
	ls_free(s);
}

static void
co_fire(struct stack *s, void *arg)
{
	(void)s;
	CHECK_EQ(write(*(int *)arg, "x", 1), 1);
}

/* Ask the thread for a round, and wait until it sleeps again. */
static void
settle(struct stack *s, struct probe *p)
{
	probe_poke(p);
	probe_wait(p);
	stack_enter(s); /* its round is over */
	stack_leave(s);
}

TEST(kicks_for_earlier_deadlines_only)
{
	struct stack *s = live_new();
	struct callout far, near;
	struct probe a;
	int done[2];
	char c;
	uint64_t kicks;

	CHECK_EQ(pipe(done), 0);
	CHECK_EQ(callout_reserve(s, 2), 0);
	callout_init(&far, co_fire, &done[1]);
	callout_init(&near, co_fire, &done[1]);
	probe_new(s, &a);
	settle(s, &a);
	stack_enter(s);
	callout_reset(s, &far, s->s_now + 3600 * NSEC_PER_SEC);
	stack_leave(s);
	settle(s, &a);
	kicks = ls_stat(s, "netisr.kicks");
	CHECK(kicks >= 1);
	for (unsigned i = 0; i < 50; i++) { /* later, or gone: no news */
		stack_enter(s);
		callout_reset(s, &far, s->s_now + (3601 + i) * NSEC_PER_SEC);
		stack_leave(s);
	}
	stack_enter(s);
	callout_stop(&far);
	CHECK_EQ(ls_stat(s, "netisr.kicks"), kicks);
	callout_reset(s, &near, s->s_now + NSEC_PER_MSEC);
	stack_leave(s);
	CHECK_EQ(read(done[0], &c, 1), 1);
	stack_enter(s);
	CHECK_EQ(ls_stat(s, "netisr.kicks"), kicks + 1);
	callout_drain(s, &far);
	callout_drain(s, &near);
	callout_reserve(s, -2);
	watch_del(s, &a.p_watch);
	stack_leave(s);
	ls_free(s);
	probe_close(&a);
	close(done[0]);
	close(done[1]);
}

/* An ARP request from 10.0.0.9 for 10.0.0.1. */
static const uint8_t request[42] = { 255, 255, 255, 255, 255, 255, 2, 0, 0, 0,
	0, 9, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 9, 10, 0, 0, 9, 0, 0,
	0, 0, 0, 0, 10, 0, 0, 1 };

static long
receive(struct port *pt, uint8_t *buf, size_t len)
{
	struct pollfd pfd = { .fd = port_fd(pt), .events = POLLIN };
	long n;

	while ((n = nic_recv(pt, buf, len, 0)) == 0) {
		CHECK_EQ(poll(&pfd, 1, 10000), 1);
	}
	return n;
}

TEST(thread_drives_a_port)
{
	struct stack *s = live_new();
	struct pkt_pool *pool[2] = { nic_pool_new(1 << 20),
		nic_pool_new(1 << 20) };
	union inaddr a = ls_ip("10.0.0.1");
	struct port *mine, *theirs;
	struct ifnet *ifp;
	uint8_t buf[128];

	CHECK_EQ(nic_feth_open(pool[0], pool[1], 0, 1500, 64, ~0u, 1, &theirs,
		     &mine),
	    0);
	stack_enter(s);
	CHECK_EQ(if_attach(s, theirs, NULL, &ifp), 0);
	CHECK_EQ(if_addaddr(ifp, &a, 24), 0);
	stack_leave(s);
	CHECK_EQ(receive(mine, buf, sizeof(buf)), 42); /* the announcement */
	for (int i = 0; i < 200; i++) {
		CHECK_EQ(nic_send(mine, request, sizeof(request), 0), 0);
		CHECK_EQ(receive(mine, buf, sizeof(buf)), 42);
		CHECK_EQ(buf[21], 2);
		CHECK_MEM(buf + 28, &a.ia_w[3], 4);
	}
	stack_enter(s);
	if_detach(ifp);
	stack_leave(s);
	ls_free(s);
	nic_close(mine);
	nic_pool_free(pool[0]);
	nic_pool_free(pool[1]);
}

/* More than the wire holds: it blocks, and goes on when there is room. */
TEST(thread_waits_for_room)
{
	struct stack *s = live_new();
	struct pkt_pool *pool[2] = { nic_pool_new(1 << 20),
		nic_pool_new(1 << 20) };
	union inaddr a = ls_ip("10.0.0.1");
	struct port *mine, *theirs;
	struct ifnet *ifp;
	uint8_t buf[128];

	CHECK_EQ(nic_feth_open(pool[0], pool[1], 0, 1500, 8, ~0u, 1, &theirs,
		     &mine),
	    0);
	stack_enter(s);
	CHECK_EQ(if_attach(s, theirs, NULL, &ifp), 0);
	for (int i = 0; i < 300; i++) {
		arp_ifannounce(ifp, &a);
	}
	stack_leave(s);
	for (int i = 0; i < 300; i++) {
		CHECK_EQ(receive(mine, buf, sizeof(buf)), 42);
	}
	stack_enter(s);
	CHECK(ls_stat(s, "if.txblocked") > 0);
	stack_leave(s);
	CHECK_EQ(nic_recv(mine, buf, sizeof(buf), 0), 0);
	ls_free(s);
	nic_close(mine);
	nic_pool_free(pool[0]);
	nic_pool_free(pool[1]);
}

/* A port whose descriptor is always readable but that only fails. */
struct broken {
	struct port b_port;
	int b_fd;
};

static int
broken_rx(struct port *pt, struct pkt **v, int n, uint64_t now)
{
	(void)pt;
	(void)v;
	(void)n;
	(void)now;
	return -EIO;
}

static int
broken_fd(struct port *pt)
{
	return ((struct broken *)(void *)pt)->b_fd;
}

static void
broken_close(struct port *pt)
{
	close(broken_fd(pt));
	port_fini(pt);
}

TEST(broken_port_does_not_spin)
{
	static const struct port_ops ops = { .po_name = "broken",
		.po_rx = broken_rx,
		.po_fd = broken_fd,
		.po_close = broken_close };
	struct stack *s = live_new();
	struct pkt_pool *pool = nic_pool_new(1 << 20);
	struct broken b;
	struct callout co;
	struct ifnet *ifp;
	int done[2];
	char c;

	CHECK_EQ(pipe(done), 0);
	port_setup(&b.b_port, &ops, pool, "broken");
	b.b_port.pt_mtu = 1500;
	b.b_fd = eventfd(1, EFD_CLOEXEC);
	callout_init(&co, co_fire, &done[1]);
	CHECK_EQ(callout_reserve(s, 1), 0);
	stack_enter(s);
	CHECK_EQ(if_attach(s, &b.b_port, NULL, &ifp), 0);
	callout_reset(s, &co, s->s_now + 50 * NSEC_PER_MSEC);
	stack_leave(s);
	CHECK_EQ(read(done[0], &c, 1), 1);
	stack_enter(s);
	CHECK(ls_stat(s, "netisr.pauses") >= 1);
	CHECK(ls_stat(s, "netisr.rounds") < 30);
	callout_drain(s, &co);
	callout_reserve(s, -1);
	stack_leave(s);
	ls_free(s);
	nic_pool_free(pool);
	close(done[0]);
	close(done[1]);
}

/* A child must leave the epoll set it shares with its parent alone. */
TEST(forked_child_touches_nothing)
{
	struct stack *s = live_new();
	struct probe a;
	pid_t child;
	int status;

	probe_new(s, &a);
	pthread_mutex_lock(&s->s_lock);
	child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		s->s_flags |= STACK_DEAD;
		watch_del(s, &a.p_watch);
		pthread_mutex_unlock(&s->s_lock);
		netisr_stop(s);
		_exit(a.p_freed ? 0 : 1);
	}
	pthread_mutex_unlock(&s->s_lock);
	CHECK_EQ(waitpid(child, &status, 0), child);
	CHECK_EQ(status, 0);
	probe_poke(&a);
	probe_wait(&a);
	stack_enter(s);
	watch_del(s, &a.p_watch);
	stack_leave(s);
	ls_free(s);
	probe_close(&a);
}

TESTS(RUN(watching_by_hand), RUN(virtual_time_has_no_thread),
    RUN(thread_runs_watches), RUN(kicks_for_earlier_deadlines_only),
    RUN(thread_drives_a_port), RUN(thread_waits_for_room),
    RUN(broken_port_does_not_spin), RUN(forked_child_touches_nothing))
