/*
 * Any calls in any order on two stacks joined by a lossy wire, in virtual
 * time. However it ends, every packet comes back and every socket is freed.
 *
 * Input: records of [operation][socket][a][b], and for some operations
 * bytes that follow. Byte 0 of the input is the seed of the loss; bit 0 also
 * says whether sockets or stacks go first.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bsdcore/api.h"
#include "nic/api.h"

#define MSEC 1000000ull
#define NSO 12
#define NLENT 8
#define MEMORY (4u << 20)
#define ALL 0xfffu /* every PORT_* capability */

struct world {
	struct stack *stack[2];
	struct pkt_pool *pool;
	struct port *fault;
	struct evq *evq;
	struct evloop *loop; /* of the second stack */
	struct bsd_evloopmem mem;
	struct bsd_lent lent[NLENT];
	struct socket *so[NSO];
	int end[NSO]; /* the application's end of a relay, or -1 */
	uint64_t now;
	const uint8_t *in;
	size_t left;
};

static void
must(int cond, const char *what)
{
	if (!cond) {
		fprintf(stderr, "fuzz_api: %s\n", what);
		abort();
	}
}

static uint8_t
next(struct world *w)
{
	if (w->left == 0) {
		return 0;
	}
	w->left--;
	return *w->in++;
}

/* Ports and addresses are few, so that calls meet. */
static struct bsd_addr
address(uint8_t x)
{
	static const uint8_t host[8][4] = { { 10, 0, 0, 1 }, { 10, 0, 0, 2 },
		{ 127, 0, 0, 1 }, { 0 }, { 224, 0, 0, 5 },
		{ 255, 255, 255, 255 }, { 10, 0, 0, 9 }, { 10, 0, 0, 255 } };
	struct bsd_addr a = { .family = x == 255 ? AF_UNSPEC : AF_INET };

	memcpy(a.addr, host[x & 7], 4);
	a.port = (unsigned short)((x >> 3 & 7) == 7 ? 0 : 1000 + (x >> 3 & 7));
	if ((x & 0xc0) == 0x40) { /* ::1, or mapped */
		uint8_t v4[4];

		memcpy(v4, a.addr, 4);
		a.family = AF_INET6;
		memset(a.addr, 0, sizeof(a.addr));
		if (x & 1) {
			a.addr[15] = 1;
		} else {
			a.addr[10] = a.addr[11] = 0xff;
			memcpy(a.addr + 12, v4, 4);
		}
	}
	return a;
}

static void
open_stack(struct world *w, int i, struct port *port)
{
	struct bsd_config cfg = { .name = i ? "b" : "a",
		.seed = { 1, 2, 3, (uint64_t)i },
		.virtual_time = 1,
		.start_time = 1000 * MSEC,
		.mem_limit = MEMORY };
	struct bsd_addr me = address((uint8_t)i);
	int index;

	must(bsd_stack_new(&cfg, &w->stack[i]) == 0, "stack");
	index = bsd_if_attach(w->stack[i], port, "en0");
	must(index > 0, "attach");
	must(bsd_if_flags(w->stack[i], (unsigned)index, BSD_IFF_UP, 0) == 0,
	    "up");
	must(bsd_if_addaddr(w->stack[i], (unsigned)index, &me, 24) == 0,
	    "address");
}

static void
world_open(struct world *w, uint8_t seed)
{
	struct port *a, *b;

	w->now = 1000 * MSEC;
	w->pool = nic_pool_new(16 << 20);
	for (int i = 0; i < NSO; i++) {
		w->end[i] = -1;
	}
	must(nic_feth_open(w->pool, w->pool, seed >> 1 & 1, 1500, 64,
		 seed & 4 ? ALL : 0, 0, &a, &b) == 0,
	    "feth");
	must(nic_fault_wrap(a, seed, &w->fault) == 0, "fault");
	open_stack(w, 0, w->fault);
	open_stack(w, 1, b);
	must(bsd_evq_new(w->stack[0], &w->evq) == 0, "evq");
	must(bsd_evloop_new(w->stack[1], 16, 4, 8, 4096, &w->loop) == 0, "loop");
	bsd_evloop_mem(w->loop, &w->mem);
}

static void
run(struct world *w, uint64_t dt)
{
	struct bsd_memstat st;

	w->now += dt;
	for (int turn = 0; turn < 20; turn++) {
		int more = 0;

		for (int i = 0; i < 2; i++) {
			more |= bsd_run(w->stack[i], w->now);
			bsd_memstat(w->stack[i], &st);
			must(st.bytes <= st.limit, "more memory than allowed");
		}
		if (!more && turn > 4) {
			break;
		}
	}
}

static void
drop(struct world *w, int k)
{
	if (w->end[k] >= 0) {
		close(w->end[k]);
		w->end[k] = -1;
	}
	if (w->so[k] != NULL) {
		(void)bsd_evq_ctl(w->evq, w->so[k], 0, 0);
		(void)bsd_close(w->so[k]);
		w->so[k] = NULL;
	}
}

static void
make(struct world *w, int k, uint8_t a, uint8_t b)
{
	static const int family[4] = { AF_INET, AF_INET6, AF_UNIX, AF_INET };
	static const int type[4] = { SOCK_STREAM, SOCK_DGRAM, SOCK_RAW,
		SOCK_SEQPACKET };
	struct socket *so = NULL, *other = NULL;

	drop(w, k);
	if (a & 0x80) {
		if (bsd_socketpair(w->stack[b & 1], AF_UNIX, type[a >> 2 & 3],
			&so, &other) == 0) {
			w->so[k] = so;
			drop(w, (k + 1) % NSO);
			w->so[(k + 1) % NSO] = other;
		}
	} else if (bsd_socket(w->stack[b & 1], family[a & 3], type[a >> 2 & 3],
		       a & 0x40 ? b >> 1 : 0, &so) == 0) {
		w->so[k] = so;
	}
}

static void
relay(struct world *w, int k, uint8_t a)
{
	struct socket *so = w->so[k];
	int fd[2], kind = a % 5;

	if (a & 0x80) {
		(void)bsd_token_ack(so);
		return;
	}
	if (socketpair(AF_UNIX,
		(kind == BSD_TOKEN_DGRAM ? SOCK_DGRAM : SOCK_STREAM) |
		    SOCK_NONBLOCK | SOCK_CLOEXEC,
		0, fd) != 0) {
		return;
	}
	if (a & 0x40) {
		(void)!write(fd[0], "filler", 6);
	}
	if ((kind == BSD_TOKEN_DGRAM ?
		    bsd_token(so, kind, fd[1], NULL, 0) :
		    bsd_relay(so, fd[1], kind == BSD_RELAY_HOST ? 0 : kind)) !=
		0 ||
	    w->end[k] >= 0) {
		close(fd[0]);
		return;
	}
	w->end[k] = fd[0];
}

/* The application's end of a relay. */
static void
poke(struct world *w, int k, uint8_t a, uint8_t b)
{
	static char buf[65536];

	if (w->end[k] < 0) {
		return;
	}
	if (a & 1) {
		(void)!send(w->end[k], buf, (size_t)b << (a >> 5),
		    MSG_DONTWAIT | MSG_NOSIGNAL);
	}
	if (a & 2) {
		(void)!recv(w->end[k], buf, sizeof(buf), MSG_DONTWAIT);
	}
	if (a & 4) {
		(void)shutdown(w->end[k], b % 3);
	}
	if (a & 8) {
		close(w->end[k]);
		w->end[k] = -1;
	}
}

static void
send_some(struct world *w, struct socket *so, uint8_t a, uint8_t b)
{
	static char buf[70000];
	struct bsd_addr to = address(b);
	size_t len = (size_t)(a & 15) << (a >> 4);
	int flags = (b & 0x80) ? next(w) << (next(w) & 15) : 0;

	len = len < sizeof(buf) ? len : sizeof(buf);
	(void)bsd_send(so, buf, len, flags & ~(1 << 30), b & 1 ? &to : NULL, 0);
}

static void
recv_some(struct world *w, struct socket *so, uint8_t a, uint8_t b)
{
	static char buf[70000];
	struct bsd_addr from;
	size_t len = (size_t)(a & 15) << (a >> 4);
	int flags = (b & 0x80) ? next(w) << (next(w) & 15) : 0;

	len = len < sizeof(buf) ? len : sizeof(buf);
	must(bsd_recv(so, buf, len, flags, b & 1 ? &from : NULL, 0) <=
		(flags & MSG_TRUNC ? 1 << 30 : (long)len),
	    "more read than asked for");
}

/* Up to 64 bytes of the input, in a block of just that size. */
static uint8_t *
block(struct world *w, size_t *len)
{
	uint8_t *p;

	*len = next(w) % 65;
	p = malloc(*len);
	for (size_t i = 0; i < *len; i++) {
		p[i] = next(w);
	}
	return p;
}

static void
message(struct world *w, struct socket *so, uint8_t a, uint8_t b)
{
	struct bsd_addr peer = address(b);
	size_t len[3], clen;
	uint8_t *v[3], *control = block(w, &clen);
	struct bsd_iovec iov[3];
	int flags = a & 0x40 ? MSG_PEEK : 0, n = a % 4;

	for (int i = 0; i < 3; i++) {
		v[i] = block(w, &len[i]);
		iov[i] = (struct bsd_iovec){ v[i], len[i] };
	}
	if (a & 0x80) {
		(void)bsd_recvmsg(so, iov, n, control, &clen, &flags, &peer, 0);
	} else {
		if (clen >= sizeof(struct cmsghdr) && (a & 0x20)) {
			struct cmsghdr c;

			memcpy(&c, control, sizeof(c));
			c.cmsg_len = clen;
			c.cmsg_level = a & 0x10 ? 0 : 41;
			c.cmsg_type &= 127;
			memcpy(control, &c, sizeof(c));
		}
		(void)bsd_sendmsg(so, iov, n, control, clen, 0,
		    b & 1 ? &peer : NULL, 0);
	}
	for (int i = 0; i < 3; i++) {
		free(v[i]);
	}
	free(control);
}

static void
option(struct world *w, struct socket *so, uint8_t a, uint8_t b)
{
	static const int level[8] = { SOL_SOCKET, 0, 6, 17, 41, 1, 255, 58 };
	size_t len;
	uint8_t *val = block(w, &len);

	if (a & 0x80) {
		(void)bsd_getsockopt(so, level[a & 7], b, val, &len);
	} else {
		(void)bsd_setsockopt(so, level[a & 7], b, val, len);
	}
	free(val);
}

/* Tunables to anything they allow. */
static void
tune(struct world *w, uint8_t a, uint8_t b)
{
	const char *name, *doc;
	int64_t value, min, max;

	if (bsd_sysctl_info(w->stack[b & 1], a, &name, &doc, &value, &min,
		&max) == 0) {
		value = b & 2 ? min : b & 4 ? max : min + (b >> 3);
		(void)bsd_sysctl_set(w->stack[b & 1], name, value);
	}
}

static void
network(struct world *w, uint8_t a, uint8_t b)
{
	struct stack *s = w->stack[b & 1];
	struct bsd_addr addr = address(b >> 1);
	struct nic_fault f = { .loss = (a & 3) / 8.0,
		.dup = (a >> 2 & 3) / 8.0,
		.corrupt = (a >> 4 & 3) / 16.0,
		.reorder = (a >> 6) / 8.0,
		.reorder_gap_ns = MSEC,
		.delay_ns = b * MSEC / 4 };

	switch (b >> 5) {
	case 0:
		(void)nic_fault_set(w->fault, a & 1 ? 2 : 0, &f);
		break;
	case 1:
		(void)bsd_if_mtu(s, 2, (unsigned)a * 16);
		break;
	case 2:
		(void)bsd_if_addaddr(s, 2, &addr, a % 40);
		break;
	case 3:
		(void)bsd_if_deladdr(s, 2, &addr);
		break;
	case 4:
		(void)bsd_route_add(s, &addr, a % 40, NULL, 2);
		break;
	case 5:
		(void)bsd_route_del(s, &addr, a % 40);
		break;
	case 6:
		(void)bsd_if_flags(s, 2, BSD_IFF_UP, 0);
		break;
	default:
		(void)bsd_if_flags(s, 2, a & 0x1e, a >> 4 & 1);
	}
}

static void
look(struct world *w, struct socket *so, uint8_t a, uint8_t b)
{
	struct bsd_sockinfo v[4];
	struct bsd_event ev[4];
	struct bsd_addr addr;
	struct bsd_pollfd pfd = { .so = so, .events = b };
	char name[200];

	(void)bsd_sock_list(w->stack[a & 1], v, 4);
	(void)bsd_poll(so);
	(void)bsd_wait(so, b, 0);
	(void)bsd_poll_many(&pfd, 1, b & 1 ? -1 : 0);
	(void)bsd_evq_ctl(w->evq, so, a & 0x1f, b);
	(void)bsd_evq_wait(w->evq, ev, 4, 0);
	(void)bsd_getsockname(so, &addr);
	(void)bsd_getpeername(so, &addr);
	(void)bsd_localname(so, a & 1, name, b);
	(void)bsd_poll_at(w->stack[a & 1]);
}

static void
local(struct world *w, struct socket *so, uint8_t a)
{
	size_t len;
	uint8_t *name = block(w, &len);

	if ((a & 0x80) && len > 2) {
		len = 2; /* names that meet */
		memset(name, 'x', len);
	}
	if (a & 1) {
		(void)bsd_bind_local(so, name, len);
	} else {
		(void)bsd_connect_local(so, name, len, 0);
	}
	free(name);
}

/* A turn with whatever submissions. */
static void
loop_turn(struct world *w, int k, uint8_t a, uint8_t b)
{
	static uint8_t bytes[4096];
	unsigned n = a % 9;
	int got;

	if (w->so[k] != NULL && (b & 1)) {
		(void)bsd_evloop_add(w->loop, w->so[k]);
	}
	if (b & 2) {
		(void)bsd_evloop_del(w->loop, b >> 4);
	}
	for (unsigned i = 0; i < n; i++) {
		uint8_t x = next(w);

		w->mem.subs[i] =
		    (uint64_t)(x % 18) | (uint64_t)(x >> 5) << (b >> 5) << 32;
		w->mem.slots[x % 16].wish = x & 8 ? 1u << (x >> 4) : 0;
		w->mem.slots[x % 16].want = x & 16 ? x : 0;
	}
	got = bsd_turn(w->loop, w->now, bytes, sizeof(bytes), n);
	must(got >= 0 && got <= 4, "events of a turn");
	for (int i = 0; i < got; i++) {
		const struct bsd_done *d = &w->mem.done[i];

		must(d->slot < 16, "slot");
		must(d->len <= 4096 && d->off + d->len <= 4096, "bytes");
	}
}

static void
lent_drop(struct bsd_lent *l)
{
	if (l->count > 0) {
		bsd_lend_drop(l->lend, l->count);
		l->count = 0;
	}
}

static void
lent_touch(const struct bsd_lent *l)
{
	struct bsd_iovec v[16];
	int n = bsd_lend_iov(l->lend, v, 16);
	unsigned sum = 0;

	for (int i = 0; i < n && i < 16; i++) {
		for (size_t j = 0; j < v[i].len; j++) {
			sum += ((uint8_t *)v[i].base)[j];
		}
	}
	must(sum != UINT32_MAX, "impossible");
}

static void
lend(struct world *w, struct socket *so, uint8_t a, uint8_t b)
{
	struct bsd_lent *l = &w->lent[b % NLENT];
	struct bsd_addr to = address(a);
	struct bsd_dgrams run[4];
	uint32_t lens[16];
	static uint8_t bytes[16 * 4096];

	if (b & 0x80) {
		if (l->count > 0) {
			lent_touch(l);
			(void)bsd_send_lend(so, l->lend, a & 15,
			    (size_t)a << (b >> 4 & 7), a & 16 ? MSG_MORE : 0,
			    b & 8 ? &to : NULL);
		}
		return;
	}
	if ((b >> 5) == 3) {
		for (int i = 0; i < 16; i++) {
			lens[i] = a & 1 ? next(w) << (a >> 5) : (uint32_t)a * 4;
			lens[i] = lens[i] < 4096 ? lens[i] : 4096;
		}
		(void)bsd_send_batch(so, bytes, lens, 1 + a % 16, &to,
		    b & 8 ? 1 : 0);
		return;
	}
	lent_drop(l);
	if ((b >> 5) == 0) {
		(void)(bsd_recv_lend(so, (size_t)a << (b >> 3 & 3), 1 + a % 15,
			   l) > 0 ||
		    (l->count = 0));
	} else if ((b >> 5) == 1) {
		(void)(bsd_reserve(so, (size_t)a << 8, l) == 0 ||
		    (l->count = 0));
		if (l->count > 0) {
			memset(l->base, a, l->len);
		}
	} else if (bsd_recv_batch(so, run, 1 + a % 4, l) <= 0) {
		l->count = 0;
	}
}

static void
step(struct world *w)
{
	uint8_t op = next(w), kk = next(w), a = next(w), b = next(w);
	int k = kk % NSO;
	struct socket *so = w->so[k], *child;
	struct bsd_addr addr = address(a);

	switch (op % 25) {
	case 0:
	case 1:
		make(w, k, a, b);
		return;
	case 2:
		run(w, (uint64_t)a * MSEC);
		return;
	case 3:
		run(w, (uint64_t)a * b * MSEC);
		return;
	case 4:
		tune(w, a, b);
		return;
	case 5:
		network(w, a, b);
		return;
	case 6:
		poke(w, k, a, b);
		return;
	case 22:
		loop_turn(w, k, a, b);
		return;
	default:
		break;
	}
	if (so == NULL) {
		return;
	}
	switch (op % 25) {
	case 7:
		(void)bsd_bind(so, &addr);
		break;
	case 8:
		(void)bsd_listen(so, (int8_t)a);
		break;
	case 9:
		(void)bsd_connect(so, &addr, b & 1 ? -1 : 0);
		break;
	case 10:
		if (bsd_accept(so, 0, &child, &addr) == 0) {
			drop(w, (k + 1 + a) % NSO == k ? k : (k + 1 + a) % NSO);
			w->so[(k + 1 + a) % NSO] = child;
		}
		break;
	case 11:
	case 12:
		send_some(w, so, a, b);
		break;
	case 13:
	case 14:
		recv_some(w, so, a, b);
		break;
	case 15:
		message(w, so, a, b);
		break;
	case 16:
		option(w, so, a, b);
		break;
	case 17:
		(void)bsd_shutdown(so, a % 4);
		break;
	case 18:
		drop(w, k);
		break;
	case 19:
		look(w, so, a, b);
		break;
	case 20:
		if (a & 1) {
			local(w, so, b);
		} else if (a & 2) {
			w->so[k] = NULL;
			(void)bsd_abort(so);
		}
		break;
	case 21:
		relay(w, k, a);
		break;
	default:
		lend(w, so, a, b);
	}
}

static void
close_sockets(struct world *w)
{
	for (int i = 0; i < NSO; i++) {
		if (w->end[i] >= 0) {
			close(w->end[i]);
		}
		w->end[i] = -1;
		if (w->so[i] != NULL) {
			(void)bsd_close(w->so[i]);
		}
		w->so[i] = NULL;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct world w = { .in = data, .left = size };
	struct nic_pool_stats st;
	uint8_t seed = next(&w);

	world_open(&w, seed);
	for (int i = 0; i < 200 && w.left > 0; i++) {
		step(&w);
	}
	if (seed & 1) {
		close_sockets(&w);
		run(&w, 1000 * MSEC);
	}
	bsd_stack_free(w.stack[0]);
	bsd_stack_free(w.stack[1]);
	close_sockets(&w);
	bsd_evq_free(w.evq);
	bsd_evloop_free(w.loop);
	for (int i = 0; i < NLENT; i++) { /* they outlive all */
		if (w.lent[i].count > 0) {
			lent_touch(&w.lent[i]);
		}
		lent_drop(&w.lent[i]);
	}
	nic_pool_stats(w.pool, &st);
	must(st.active == 0, "packets were never given back");
	nic_pool_free(w.pool);
	return 0;
}
