/*
 * Arenas and pools: where things lie, what may be mapped, and that every packet
 * is in one place.
 */
#include "skywalk/channel/channel_var.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/c/check.h"

static struct sk_params
params(void)
{
	struct sk_params p = { .slots = 16,
		.packets = 20,
		.buffer = 128,
		.buflets = 6,
		.max_frags = 4,
		.flowadv = 8 };

	CHECK_EQ(sk_params_check(&p), 0);
	return p;
}

TEST(regions_do_not_overlap)
{
	struct sk_params p = params();
	uint64_t off[SKMEM_NREGIONS];
	size_t len = skmem_layout(&p, off);

	CHECK_EQ(off[0], 0);
	for (int i = 0; i < SKMEM_NREGIONS; i++) {
		uint64_t next = i + 1 < SKMEM_NREGIONS ? off[i + 1] : len;

		CHECK_EQ(off[i] % 4096, 0);
		CHECK(next >= off[i]);
	}
	CHECK(len - off[SKMEM_BUF] >= 26u * 128);
	CHECK(skmem_fslots(&p) > p.packets);
}

TEST(pool_gives_each_packet_once)
{
	struct skmem_pool pl;
	uint32_t got[20], seen = 0;

	CHECK_EQ(skmem_pool_init(&pl, 20, 6), 0);
	for (int turn = 0; turn < 3; turn++) {
		seen = 0;
		for (int i = 0; i < 20; i++) {
			got[i] = skmem_pool_alloc(&pl, i < 3 ? 2 : 0);
			CHECK(got[i] < 20);
			CHECK_EQ(seen >> got[i] & 1, 0);
			seen |= 1u << got[i];
			CHECK(skmem_pool_is(&pl, got[i], PKT_USER));
		}
		CHECK_EQ(skmem_pool_alloc(&pl, 0), SK_NONE);
		CHECK_EQ(pl.pl_nbft, 0);
		for (int i = 0; i < 10; i++) {
			skmem_pool_give(&pl, got[i]);
		}
		CHECK_EQ(pl.pl_ngiven, 10);
		for (int i = 10; i < 20; i++) {
			skmem_pool_put(&pl, got[i]);
		}
		CHECK_EQ(skmem_pool_reclaim(&pl), 10);
		CHECK_EQ(skmem_pool_reclaim(&pl), 0);
		CHECK_EQ(pl.pl_nfree, 20);
		CHECK_EQ(pl.pl_nbft, 6);
		CHECK_EQ(pl.pl_ngiven, 0);
	}
	CHECK(!skmem_pool_is(&pl, 20, PKT_FREE));
	CHECK_EQ(skmem_pool_alloc(&pl, 7), SK_NONE);
	CHECK_EQ(pl.pl_nfree, 20);
	skmem_pool_fini(&pl);
}

TEST(only_arenas_are_mapped)
{
	struct sk_params p = params(), other;
	struct skmem_arena *ar;
	int fd[2], file;

	CHECK_EQ(sk_arena_create(&p, fd), 0);
	CHECK_EQ(skmem_arena_params(fd[0], &other), 0);
	CHECK_MEM(&p, &other, sizeof(p));
	CHECK_EQ(skmem_arena_map(&p, fd, 3, &ar), 0);
	skmem_arena_drop(ar);
	/* Who has written once is the last who can. */
	CHECK_EQ(skmem_arena_map(&p, fd, 1, &ar), -EPERM);
	CHECK_EQ(skmem_arena_map(&p, fd, 0, &ar), 0);
	skmem_arena_drop(ar);
	/* Not the size that the parameters make. */
	other.packets++;
	other.buffer *= 2;
	CHECK_EQ(skmem_arena_map(&other, fd, 0, &ar), -EPROTO);
	/* A file that may shrink under us. */
	close(fd[1]);
	fd[1] = memfd_create("x", MFD_ALLOW_SEALING);
	CHECK_EQ(ftruncate(fd[1], 1 << 20), 0);
	CHECK_EQ(skmem_arena_map(&p, fd, 0, &ar), -EPROTO);
	CHECK_EQ(skmem_arena_params(fd[1], &other), -EPROTO);
	file = open("/dev/zero", O_RDWR);
	CHECK_EQ(skmem_arena_params(file, &other), -EPROTO);
	close(file);
	close(fd[0]);
	close(fd[1]);
}

/* Whether touching the address is fatal. */
static int
faults(volatile uint8_t *at, int write)
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		close(STDERR_FILENO);
		if (write) {
			*at = 1;
		} else {
			(void)*at;
		}
		_exit(0);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

TEST(guards_and_read_only_halves)
{
	struct sk_params p = params();
	struct skmem_arena *ar;
	uint8_t *base[2];
	int fd[2];

	CHECK_EQ(sk_arena_create(&p, fd), 0);
	CHECK_EQ(skmem_arena_map(&p, fd, 1, &ar), 0);
	base[0] = ar->ar_half[0].hf_base;
	base[1] = ar->ar_half[1].hf_base;
	CHECK(!faults(base[0], 1));
	CHECK(faults(base[0] - 1, 0));
	CHECK(faults(base[0] + ar->ar_halflen, 0));
	CHECK(!faults(base[1], 0));
	CHECK(faults(base[1], 1));
	CHECK(faults(base[1] + ar->ar_halflen, 0));
	skmem_arena_redirect(ar);
	CHECK_EQ(base[0][0], 0);
	CHECK(!faults(base[0], 1));
	CHECK(faults(base[1], 1));
	for (size_t i = 0; i < ar->ar_halflen; i++) {
		CHECK_EQ(base[0][i] | base[1][i], 0);
	}
	skmem_arena_drop(ar);
	close(fd[0]);
	close(fd[1]);
}

#define OBJECTS 100

static void *
free_some(void *arg)
{
	void **obj = arg;
	struct skmem_cache *sc = obj[0];

	for (int i = 1; i <= OBJECTS; i++) {
		skmem_cache_free(sc, obj[i]);
	}
	return NULL;
}

TEST(cache)
{
	struct skmem_cache sc;
	void *obj[OBJECTS + 1] = { &sc };

	CHECK_EQ(skmem_cache_init(&sc, 40), 0);
	for (int turn = 0; turn < 20; turn++) {
		pthread_t t;

		for (int i = 1; i <= OBJECTS; i++) {
			obj[i] = skmem_cache_alloc(&sc);
			CHECK(obj[i] != NULL);
			CHECK_EQ((uintptr_t)obj[i] % _Alignof(max_align_t), 0);
			memset(obj[i], i, 40);
		}
		for (int i = 1; i <= OBJECTS; i++) {
			CHECK_EQ(((uint8_t *)obj[i])[0], i);
			CHECK_EQ(((uint8_t *)obj[i])[39], i);
		}
		CHECK_EQ(pthread_create(&t, NULL, free_some, obj), 0);
		if (turn % 2 == 0) {
			/* While the other frees. */
			void *mine = skmem_cache_alloc(&sc);

			CHECK(mine != NULL);
			skmem_cache_free(&sc, mine);
		}
		pthread_join(t, NULL);
	}
	/* What was in use at once, and not more with every turn. */
	CHECK(sc.sc_nslabs <= OBJECTS / MAG_ROUNDS + 3);
	skmem_cache_fini(&sc);
}

TESTS(RUN(cache), RUN(regions_do_not_overlap), RUN(pool_gives_each_packet_once),
    RUN(only_arenas_are_mapped), RUN(guards_and_read_only_halves))
