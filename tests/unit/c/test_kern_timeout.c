/* Callouts against a sorted list, with pushes out, stops and drains. */
#include "bsdcore/sys/kernel.h"
#include "tests/unit/c/check.h"

#define N 300

static struct callout co[N];
static uint64_t due[N];
static int fired[N];
static uint64_t last;

static void
fire(struct stack *s, void *arg)
{
	int i = (int)((struct callout *)arg - co);

	CHECK_EQ(due[i] <= s->s_now, 1);
	CHECK(due[i] >= last);
	last = due[i];
	due[i] = CALLOUT_NEVER;
	fired[i]++;
}

TEST(order_and_laziness)
{
	struct stack s = { .s_now = 0 };
	uint64_t rng = 12345;
	int want = 0, got = 0;

	CHECK_EQ(callout_sysinit(&s), 0);
	CHECK_EQ(callout_reserve(&s, N), 0);
	for (int i = 0; i < N; i++) {
		callout_init(&co[i], fire, &co[i]);
		due[i] = CALLOUT_NEVER;
	}
	for (int step = 0; step < 20000; step++) {
		int i;

		rng = rng * 6364136223846793005ull + 1442695040888963407ull;
		i = (int)((rng >> 33) % N);
		switch ((rng >> 20) % 8) {
		case 0:
			callout_stop(&co[i]);
			want -= due[i] != CALLOUT_NEVER;
			due[i] = CALLOUT_NEVER;
			break;
		case 1:
			callout_drain(&s, &co[i]);
			want -= due[i] != CALLOUT_NEVER;
			due[i] = CALLOUT_NEVER;
			CHECK_EQ(co[i].c_idx, 0);
			break;
		case 2:
			s.s_now += (rng >> 40) % 50;
			last = 0;
			while (callout_run(&s)) {
			}
			break;
		default:
			want += due[i] == CALLOUT_NEVER;
			due[i] = s.s_now + 1 + (rng >> 45) % 5000;
			callout_reset(&s, &co[i], due[i]);
		}
		CHECK(callout_next(&s) > s.s_now || callout_count(&s) > 0);
	}
	s.s_now += 10000;
	last = 0;
	while (callout_run(&s)) {
	}
	for (int i = 0; i < N; i++) {
		got += fired[i];
		CHECK(due[i] == CALLOUT_NEVER);
	}
	CHECK_EQ(got, want);
	CHECK(callout_next(&s) == CALLOUT_NEVER);
	callout_sysfini(&s);
}

static struct callout again;
static int times;

static void
rearm(struct stack *s, void *arg)
{
	(void)arg;
	times++;
	callout_reset(s, &again, s->s_now);
}

TEST(rearming_is_budgeted)
{
	struct stack s = { .s_now = 5 };

	times = 0;
	CHECK_EQ(callout_sysinit(&s), 0);
	CHECK_EQ(callout_reserve(&s, 1), 0);
	callout_init(&again, rearm, NULL);
	callout_reset(&s, &again, 1);
	CHECK(callout_run(&s)); /* more is due: the caller takes a breath */
	CHECK(times > 0 && times < 10000);
	callout_drain(&s, &again);
	callout_sysfini(&s);
}

TESTS(RUN(order_and_laziness), RUN(rearming_is_budgeted))
