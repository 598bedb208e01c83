/* Many threads on two stacks with netisr threads of their own, joined by a
 * pair that lives in both. For the thread sanitizer above all; the waits here
 * are for events, and the numbers small. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bsdcore/api.h"
#include "bsdcore/sys/socketvar.h"
#include "nic/api.h"
#include "tests/unit/c/check.h"

#define NFLOW 4
#define ROUNDS 3
#define BYTES 150000u
#define LONG (20ll * 1000 * 1000 * 1000) /* no wait takes that long */

struct net {
	struct pkt_pool *pool[2];
	struct stack *s[2];
};

static struct bsd_addr
addr4(unsigned char last, unsigned short port)
{
	struct bsd_addr a = {
		.family = AF_INET, .port = port, .addr = { 10, 0, 0, last }
	};

	return a;
}

static void
net_open(struct net *n)
{
	struct port *port[2];

	for (int i = 0; i < 2; i++) {
		n->pool[i] = nic_pool_new(64 << 20);
	}
	CHECK_EQ(nic_feth_open(n->pool[0], n->pool[1], 0, 1500, 512, ~0u, 1,
		     &port[0], &port[1]),
	    0);
	for (int i = 0; i < 2; i++) {
		struct bsd_config cfg = { .name = i ? "b" : "a",
			.seed = { 1, 2, 3, (uint64_t)i } };
		struct bsd_addr me = addr4((unsigned char)(i + 1), 0);
		int index;

		CHECK_EQ(bsd_stack_new(&cfg, &n->s[i]), 0);
		index = bsd_if_attach(n->s[i], port[i], "en0");
		CHECK(index > 0);
		CHECK_EQ(bsd_if_flags(n->s[i], (unsigned)index, BSD_IFF_UP, 0),
		    0);
		CHECK_EQ(bsd_if_addaddr(n->s[i], (unsigned)index, &me, 24), 0);
		CHECK_EQ(bsd_start(n->s[i]), 0);
	}
}

static void
net_close(struct net *n)
{
	struct nic_pool_stats st;

	bsd_stack_free(n->s[0]);
	bsd_stack_free(n->s[1]);
	for (int i = 0; i < 2; i++) {
		nic_pool_stats(n->pool[i], &st);
		CHECK_EQ(st.active, 0);
		nic_pool_free(n->pool[i]);
	}
}

/* Calls that go on after a spurious EINTR (api.h), as the facade's do. */
static long
get(struct socket *so, void *buf, size_t len, int64_t timeout)
{
	long k;

	do {
		k = bsd_recv(so, buf, len, 0, NULL, timeout);
	} while (k == -EINTR);
	return k;
}

static void
put(struct socket *so, const void *buf, size_t len)
{
	size_t done;
	int error;

	do {
		error = bsd_sendall(so, buf, len, 0, LONG, &done);
		buf = (const char *)buf + done;
		len -= done;
	} while (error == -EINTR);
	CHECK_EQ(error, 0);
}

static struct socket *
take(struct socket *lso)
{
	struct socket *so;
	int error;

	do {
		error = bsd_accept(lso, LONG, &so, NULL);
	} while (error == -EINTR);
	CHECK_EQ(error, 0);
	return so;
}

static struct socket *
listener(struct stack *s, unsigned short port)
{
	struct bsd_addr any = { .family = AF_INET, .port = port };
	struct socket *so;

	CHECK_EQ(bsd_socket(s, AF_INET, SOCK_STREAM, 0, &so), 0);
	CHECK_EQ(bsd_bind(so, &any), 0);
	CHECK_EQ(bsd_listen(so, 64), 0);
	return so;
}

static struct socket *
dial(struct stack *s, unsigned short port)
{
	struct bsd_addr to = addr4(2, port);
	struct socket *so;
	int error;

	CHECK_EQ(bsd_socket(s, AF_INET, SOCK_STREAM, 0, &so), 0);
	do {
		error = bsd_connect(so, &to, LONG);
	} while (error == -EINTR);
	CHECK_EQ(error, 0);
	return so;
}

/* An established connection: v[0] in stack 0, v[1] in stack 1. */
static void
couple(struct net *n, struct socket *lso, struct socket **v)
{
	v[0] = dial(n->s[0], 80);
	v[1] = take(lso);
}

/* ---- echo ---- */

struct flow {
	struct net *net;
	struct socket *lso, *so;
	pthread_t client, server, reader;
};

static void *
echo_server(void *arg)
{
	struct flow *f = arg;
	static _Thread_local char buf[20000];

	for (int i = 0; i < ROUNDS; i++) {
		struct socket *so = take(f->lso);
		long k;

		while ((k = get(so, buf, sizeof(buf), LONG)) > 0) {
			put(so, buf, (size_t)k);
		}
		CHECK_EQ(k, 0);
		CHECK_EQ(bsd_close(so), 0);
	}
	return NULL;
}

static void *
echo_reader(void *arg)
{
	struct flow *f = arg;
	static _Thread_local unsigned char buf[7000];
	size_t got = 0;
	long k;

	while ((k = get(f->so, buf, sizeof(buf), LONG)) > 0) {
		for (long i = 0; i < k; i++, got++) {
			CHECK_EQ(buf[i], (unsigned char)(got * 7 + got / 251));
		}
	}
	CHECK_EQ(k, 0);
	CHECK_EQ(got, BYTES);
	return NULL;
}

static void *
echo_client(void *arg)
{
	struct flow *f = arg;
	unsigned char *out = malloc(BYTES);

	for (size_t i = 0; i < BYTES; i++) {
		out[i] = (unsigned char)(i * 7 + i / 251);
	}
	for (int i = 0; i < ROUNDS; i++) {
		f->so = dial(f->net->s[0], 80);
		CHECK_EQ(pthread_create(&f->reader, NULL, echo_reader, f), 0);
		put(f->so, out, BYTES);
		CHECK_EQ(bsd_shutdown(f->so, SHUT_WR), 0);
		pthread_join(f->reader, NULL);
		CHECK_EQ(bsd_close(f->so), 0);
	}
	free(out);
	return NULL;
}

TEST(echo)
{
	struct net n;
	struct flow f[NFLOW];
	struct socket *lso;
	struct bsd_sockinfo info[8];

	net_open(&n);
	lso = listener(n.s[1], 80);
	for (int i = 0; i < NFLOW; i++) {
		f[i] = (struct flow){ .net = &n, .lso = lso };
		CHECK_EQ(pthread_create(&f[i].server, NULL, echo_server, &f[i]),
		    0);
		CHECK_EQ(pthread_create(&f[i].client, NULL, echo_client, &f[i]),
		    0);
	}
	for (int i = 0; i < 50; i++) { /* somebody looks on */
		(void)bsd_sock_list(n.s[i & 1], info, 8);
		sched_yield();
	}
	for (int i = 0; i < NFLOW; i++) {
		pthread_join(f[i].client, NULL);
		pthread_join(f[i].server, NULL);
	}
	CHECK_EQ(bsd_close(lso), 0);
	CHECK_EQ(bsd_drain(n.s[0], LONG), 0);
	CHECK_EQ(bsd_drain(n.s[1], LONG), 0);
	net_close(&n);
}

/* ---- waiting while things go ---- */

struct wait {
	struct stack *s;
	struct socket *so, *out;
	struct evq *q;
	pthread_t thread;
	atomic_int up;
	long answer;
	enum { W_RECV, W_ACCEPT, W_EVQ, W_POLL, W_SEND, W_DRAIN } what;
};

static void *
waiter(void *arg)
{
	static _Thread_local char buf[100000];
	struct wait *w = arg;
	struct bsd_pollfd pfd = { .so = w->so, .events = POLLIN };
	struct bsd_event ev;

	atomic_store(&w->up, 1);
again:
	switch (w->what) {
	case W_RECV:
		w->answer = bsd_recv(w->so, buf, 1, 0, NULL, -1);
		break;
	case W_ACCEPT:
		w->answer = bsd_accept(w->so, -1, &w->out, NULL);
		break;
	case W_EVQ:
		w->answer = bsd_evq_wait(w->q, &ev, 1, -1);
		break;
	case W_POLL:
		w->answer = bsd_poll_many(&pfd, 1, -1);
		break;
	case W_SEND:
		do {
			w->answer =
			    bsd_send(w->so, buf, sizeof(buf), 0, NULL, -1);
		} while (w->answer > 0);
		break;
	default:
		w->answer = bsd_drain(w->s, -1);
	}
	if (w->answer == -EINTR) {
		goto again;
	}
	return NULL;
}

/* Is a thread inside a call on so, asleep? */
static bool
is_waiting(struct socket *so)
{
	bool yes;

	stack_enter(so->so_stack);
	yes = so->so_waiters != NULL;
	stack_leave(so->so_stack);
	return yes;
}

/* The peer of a sender takes no more, now and later. */
static bool
is_full(struct socket *so)
{
	bool yes;

	stack_enter(so->so_stack);
	yes = sbspace(&so->so_rcv) < 1460;
	stack_leave(so->so_stack);
	return yes;
}

static bool
is_draining(struct stack *s)
{
	bool yes;

	stack_enter(s);
	yes = s->s_so->sos_drainers != NULL;
	stack_leave(s);
	return yes;
}

static void
wait_start(struct wait *w)
{
	CHECK_EQ(pthread_create(&w->thread, NULL, waiter, w), 0);
	while (atomic_load(&w->up) == 0) {
		sched_yield();
	}
}

/* A socket closed under a reader goes when the reader is done, as on Linux. */
TEST(close_under_a_reader)
{
	struct net n;
	struct socket *lso;

	net_open(&n);
	lso = listener(n.s[1], 80);
	for (int i = 0; i < 20; i++) {
		struct wait w = { .what = W_RECV };
		struct socket *v[2];

		couple(&n, lso, v);
		w.so = v[0];
		wait_start(&w);
		while (!is_waiting(v[0])) {
			sched_yield();
		}
		CHECK_EQ(bsd_close(v[0]), 0);
		put(v[1], "x", 1);
		pthread_join(w.thread, NULL);
		CHECK_EQ(w.answer, 1);
		CHECK_EQ(bsd_close(v[1]), 0);
	}
	CHECK_EQ(bsd_close(lso), 0);
	net_close(&n);
}

/* The stack goes while threads wait in every way there is. */
TEST(free_under_waiters)
{
	for (int turn = 0; turn < 10; turn++) {
		struct net n;
		int size = 32768;
		struct bsd_event ev;
		struct socket *lso, *v[2], *u[2];
		struct evq *q;
		struct wait w[6] = { { .what = W_RECV }, { .what = W_ACCEPT },
			{ .what = W_EVQ }, { .what = W_POLL },
			{ .what = W_SEND }, { .what = W_DRAIN } };

		net_open(&n);
		lso = listener(n.s[1], 80);
		couple(&n, lso, v);
		couple(&n, lso, u);
		CHECK_EQ(bsd_setsockopt(u[0], SOL_SOCKET, SO_RCVBUF, &size,
			     sizeof(size)),
		    0);
		CHECK_EQ(bsd_evq_new(n.s[1], &q), 0);
		CHECK_EQ(bsd_evq_ctl(q, lso, POLLIN, 1), 0);
		w[0].so = w[3].so = v[1];
		w[1].so = lso;
		w[2].q = q;
		w[4].so = u[1];
		w[5].s = n.s[1];
		for (int i = 0; i < 5; i++) {
			wait_start(&w[i]);
		}
		/* A drain has no socket that keeps the stack: be sure that it
		 * is inside. It stays there while something is unsent. */
		while (!is_full(u[0]) || !is_waiting(u[1])) {
			sched_yield();
		}
		wait_start(&w[5]);
		while (!is_draining(n.s[1])) {
			sched_yield();
		}
		bsd_stack_free(n.s[1]);
		for (int i = 0; i < 6; i++) {
			pthread_join(w[i].thread, NULL);
		}
		/* Those who wait for events may be told of the end as one. */
		CHECK(w[0].answer < 0 && w[1].answer < 0 && w[4].answer < 0);
		CHECK_EQ(bsd_evq_wait(q, &ev, 1, -1), -EBADF);
		bsd_evq_free(q);
		CHECK_EQ(bsd_close(lso), 0);
		for (int i = 0; i < 2; i++) {
			CHECK_EQ(bsd_close(v[i]), 0);
			CHECK_EQ(bsd_close(u[i]), 0);
		}
		bsd_stack_free(n.s[0]);
		nic_pool_free(n.pool[0]);
		nic_pool_free(n.pool[1]);
	}
}

/* ---- the stack goes while threads work ---- */

static void *
worker(void *arg)
{
	struct wait *w = arg;
	char buf[3000] = { 0 };
	long k;

	atomic_store(&w->up, 1);
	for (;;) {
		k = bsd_send(w->so, buf, sizeof(buf), 0, NULL, 0);
		if (k >= 0 || k == -EAGAIN) {
			k = bsd_recv(w->so, buf, sizeof(buf), 0, NULL, 1000);
		}
		if (k < 0 && k != -EAGAIN && k != -EINTR) {
			break;
		}
	}
	w->answer = k;
	CHECK_EQ(bsd_close(w->so), 0);
	return NULL;
}

TEST(free_under_workers)
{
	for (int turn = 0; turn < 5; turn++) {
		struct net n;
		struct socket *lso, *v[2];
		struct wait w[6];

		net_open(&n);
		lso = listener(n.s[1], 80);
		for (int i = 0; i < 6; i += 2) {
			couple(&n, lso, v);
			for (int j = 0; j < 2; j++) {
				w[i + j] = (struct wait){ .so = v[j] };
				CHECK_EQ(pthread_create(&w[i + j].thread, NULL,
					     worker, &w[i + j]),
				    0);
			}
		}
		for (int i = 0; i < 6; i++) {
			while (atomic_load(&w[i].up) == 0) {
				sched_yield();
			}
		}
		for (int i = 0; i < turn * 40; i++) {
			sched_yield();
		}
		bsd_stack_free(n.s[turn & 1]);
		bsd_stack_free(n.s[!(turn & 1)]);
		for (int i = 0; i < 6; i++) {
			pthread_join(w[i].thread, NULL);
			CHECK(w[i].answer < 0);
		}
		CHECK_EQ(bsd_close(lso), 0);
		nic_pool_free(n.pool[0]);
		nic_pool_free(n.pool[1]);
	}
}

/* ---- relays: netisr and the application on the two ends of a pair ---- */

struct pump {
	int fd;
	size_t count;
	pthread_t thread;
};

static void *
pump_out(void *arg)
{
	struct pump *p = arg;
	static _Thread_local char buf[9000];

	for (size_t left = p->count; left > 0;) {
		ssize_t k = send(p->fd, buf,
		    left < sizeof(buf) ? left : sizeof(buf), MSG_NOSIGNAL);

		CHECK(k > 0);
		left -= (size_t)k;
	}
	CHECK_EQ(shutdown(p->fd, SHUT_WR), 0);
	return NULL;
}

static void *
pump_in(void *arg)
{
	struct pump *p = arg;
	static _Thread_local char buf[9000];
	ssize_t k;

	while ((k = recv(p->fd, buf, sizeof(buf), 0)) > 0) {
		p->count += (size_t)k;
	}
	CHECK_EQ(k, 0);
	return NULL;
}

TEST(relays)
{
	struct net n;
	struct socket *lso, *v[2 * NFLOW];
	struct pump out[NFLOW], in[NFLOW];

	net_open(&n);
	lso = listener(n.s[1], 80);
	for (int i = 0; i < NFLOW; i++) {
		int fd[2][2];

		couple(&n, lso, v + 2 * i);
		for (int j = 0; j < 2; j++) {
			CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fd[j]), 0);
			CHECK_EQ(bsd_relay(v[2 * i + j], fd[j][1],
				     BSD_RELAY_PAIR),
			    0);
		}
		out[i] = (struct pump){ .fd = fd[0][0], .count = 400000 };
		in[i] = (struct pump){ .fd = fd[1][0] };
		CHECK_EQ(pthread_create(&out[i].thread, NULL, pump_out, &out[i]),
		    0);
		CHECK_EQ(pthread_create(&in[i].thread, NULL, pump_in, &in[i]),
		    0);
		CHECK_EQ(bsd_close(v[2 * i]), 0); /* orphans from the start */
	}
	for (int i = 0; i < NFLOW; i++) {
		pthread_join(out[i].thread, NULL);
		pthread_join(in[i].thread, NULL);
		CHECK_EQ(in[i].count, 400000);
		CHECK_EQ(bsd_close(v[2 * i + 1]), 0);
		close(out[i].fd);
		close(in[i].fd);
	}
	CHECK_EQ(bsd_close(lso), 0);
	net_close(&n);
}

/* Threads poll one queue while sockets come, go and become ready. */
struct crowd {
	struct net *net;
	struct evq *q;
	struct socket *lso;
	atomic_int left;
};

static void *
crowd_server(void *arg)
{
	struct crowd *c = arg;
	struct bsd_event ev[8];

	while (atomic_load(&c->left) > 0) {
		int k = bsd_evq_wait(c->q, ev, 8, 1000000);

		CHECK(k >= 0 || k == -EINTR);
		for (int i = 0; i < k; i++) {
			struct socket *so;

			CHECK_EQ(ev[i].data, 99);
			while (bsd_accept(c->lso, 0, &so, NULL) == 0) {
				CHECK_EQ(bsd_evq_ctl(c->q, so, POLLPRI, 1), 0);
				put(so, "hi", 2);
				CHECK_EQ(bsd_close(so), 0);
			}
		}
	}
	return NULL;
}

static void *
crowd_client(void *arg)
{
	struct crowd *c = arg;
	char buf[4];

	for (int i = 0; i < 20; i++) {
		struct socket *so = dial(c->net->s[0], 80);

		for (int n = 0; n < 2; n++) {
			CHECK_EQ(get(so, buf, 1, LONG), 1);
		}
		CHECK_EQ(get(so, buf, 1, LONG), 0);
		CHECK_EQ(bsd_close(so), 0);
		atomic_fetch_sub(&c->left, 1);
	}
	return NULL;
}

TEST(event_queue)
{
	struct net n;
	struct crowd c = { .net = &n };
	pthread_t client[NFLOW], server[2];

	net_open(&n);
	c.lso = listener(n.s[1], 80);
	c.left = NFLOW * 20;
	CHECK_EQ(bsd_evq_new(n.s[1], &c.q), 0);
	CHECK_EQ(bsd_evq_ctl(c.q, c.lso, POLLIN, 99), 0);
	for (int i = 0; i < NFLOW; i++) {
		CHECK_EQ(pthread_create(&client[i], NULL, crowd_client, &c), 0);
	}
	for (int i = 0; i < 2; i++) {
		CHECK_EQ(pthread_create(&server[i], NULL, crowd_server, &c), 0);
	}
	for (int i = 0; i < NFLOW; i++) {
		pthread_join(client[i], NULL);
	}
	for (int i = 0; i < 2; i++) {
		pthread_join(server[i], NULL);
	}
	bsd_evq_free(c.q);
	CHECK_EQ(bsd_close(c.lso), 0);
	net_close(&n);
}

TESTS(RUN(echo), RUN(close_under_a_reader), RUN(free_under_waiters),
    RUN(free_under_workers), RUN(relays), RUN(event_queue))
