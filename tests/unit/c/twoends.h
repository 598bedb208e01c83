/*
 * twoends.h - the two ends of a user pipe as two processes have them: each with
 * a mapping and descriptors of its own.
 */
#ifndef TESTS_UNIT_C_TWOENDS_H
#define TESTS_UNIT_C_TWOENDS_H

#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "skywalk/channel/channel_var.h"
#include "tests/unit/c/check.h"

static inline uint64_t
next_random(uint64_t *s)
{
	uint64_t z = (*s += 0x9e3779b97f4a7c15ull);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

/* XSOCK_SEED, or this one; printed, so that a run can be had again. */
static inline uint64_t
seed_given(uint64_t seed)
{
	const char *given = getenv("XSOCK_SEED");

	seed = given != NULL ? strtoull(given, NULL, 0) : seed;
	printf("XSOCK_SEED=%llu\n", (unsigned long long)seed);
	return seed;
}

static inline void
pool_whole(struct channel *ch)
{
	struct sk_stats st;

	sk_channel_stats(ch, &st);
	CHECK_EQ(st.free, ch->ch_params.packets);
	CHECK_EQ(st.held, 0);
	CHECK_EQ(st.given, 0);
}

struct two {
	struct sk_params t_params;
	int t_memfd[2], t_bell[4], t_sock[2];
};

static inline void
two_make(struct two *t)
{
	t->t_params = (struct sk_params){ .slots = 16,
		.packets = 24,
		.buffer = 256,
		.buflets = 8,
		.max_frags = 4 };
	CHECK_EQ(sk_params_check(&t->t_params), 0);
	CHECK_EQ(sk_arena_create(&t->t_params, t->t_memfd), 0);
	for (int i = 0; i < 4; i++) {
		t->t_bell[i] = eventfd(0, EFD_NONBLOCK);
		CHECK(t->t_bell[i] >= 0);
	}
	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, t->t_sock), 0);
}

static inline struct channel *
two_attach(struct two *t, int side, int pidfd)
{
	struct sk_attach a = {
		.side = side, .control = t->t_sock[side], .pidfd = pidfd
	};
	struct channel *ch;

	memcpy(a.memfd, t->t_memfd, sizeof(a.memfd));
	memcpy(a.bell, t->t_bell, sizeof(a.bell));
	if (t->t_sock[1 - side] >= 0) {
		close(t->t_sock[1 - side]);
	}
	CHECK_EQ(sk_channel_attach(side == SK_SERVER ? &t->t_params : NULL, &a,
		     &ch),
	    0);
	return ch;
}

/* Both ends here, but each with a mapping of its own. */
static inline void
two_here(struct channel **server, struct channel **client)
{
	struct two t, u;

	two_make(&t);
	u = t;
	for (int i = 0; i < 2; i++) {
		u.t_memfd[i] = dup(t.t_memfd[i]);
		close(t.t_sock[i]);
		u.t_sock[i] = t.t_sock[i] = -1;
	}
	for (int i = 0; i < 4; i++) {
		u.t_bell[i] = dup(t.t_bell[i]);
	}
	*server = two_attach(&t, SK_SERVER, -1);
	*client = two_attach(&u, SK_CLIENT, -1);
}

#endif
