/*
 * linkstack.h - a stack in virtual time for tests of the link side: no
 * sockets, time moved by the test, counters read by name.
 */
#ifndef TESTS_UNIT_C_LINKSTACK_H
#define TESTS_UNIT_C_LINKSTACK_H

#include "bsdcore/net/if.h"
#include "bsdcore/net/route.h"
#include "bsdcore/sys/kernel.h"
#include "bsdcore/sys/protosw.h"
#include "bsdcore/sys/sysctl.h"
#include "tests/unit/c/check.h"

#define LS_START (100 * NSEC_PER_SEC)

static inline struct stack *
ls_new(uint64_t mem)
{
	struct stack *s = calloc(1, sizeof(*s));

	CHECK(s != NULL);
	pthread_mutex_init(&s->s_lock, NULL);
	s->s_now = LS_START;
	for (int i = 0; i < 4; i++) {
		s->s_key[i] = 0x9e3779b97f4a7c15ull * (unsigned)(i + 1);
	}
	strcpy(s->s_name, "test");
	s->s_mb = mbpool_new(s, mem);
	CHECK(s->s_mb != NULL);
	CHECK_EQ(ctl_sysinit(s), 0);
	CHECK_EQ(callout_sysinit(s), 0);
	CHECK_EQ(so_init(s), 0);
	CHECK_EQ(netisr_init(s), 0);
	CHECK_EQ(if_init(s), 0);
	CHECK_EQ(domain_init(s), 0);
	return s;
}

/* Checks that nothing is left: the owner of a leak is found here. */
static inline void
ls_free(struct stack *s)
{
	struct mbstat st;

	netisr_stop(s);
	domain_fini(s);
	if_fini(s);
	netisr_fini(s);
	so_fini(s);
	mbpool_reap(s->s_mb);
	mbpool_stat(s->s_mb, &st);
	CHECK_EQ(st.mbs_mbufs, 0);
	CHECK_EQ(st.mbs_foreign, 0);
	CHECK_EQ(callout_count(s), 0);
	mbpool_free(s->s_mb);
	callout_sysfini(s);
	ctl_sysfini(s);
	pthread_mutex_destroy(&s->s_lock);
	free(s);
}

/* Run at the given time until nothing is due at it. */
static inline void
ls_run(struct stack *s, uint64_t now)
{
	stack_enter(s);
	CHECK(now >= s->s_now);
	s->s_now = now;
	while (netisr_run(s)) {
		continue;
	}
	stack_leave(s);
}

/* Run up to the given time, stopping at every deadline on the way. */
static inline void
ls_until(struct stack *s, uint64_t end)
{
	uint64_t at;

	while ((at = netisr_poll_at(s)) <= end) {
		ls_run(s, at > s->s_now ? at : s->s_now);
	}
	ls_run(s, end);
}

static inline uint64_t
ls_stat(struct stack *s, const char *want)
{
	const char *name;
	uint64_t value;

	for (size_t i = 0; stat_index(s, i, &name, &value) == 0; i++) {
		if (strcmp(name, want) == 0) {
			return value;
		}
	}
	fprintf(stderr, "no counter %s\n", want);
	abort();
}

static inline union inaddr
ls_ip(const char *text)
{
	union inaddr a;
	struct in_addr v4;

	if (inet_pton(AF_INET, text, &v4) == 1) {
		return in_map4(v4.s_addr);
	}
	CHECK_EQ(inet_pton(AF_INET6, text, &a), 1);
	return a;
}

#endif
