/* The checks themselves: what is equal passes, what is not ends the program. */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/c/check.h"

/* How a child that runs fn ends: the signal, or 0. */
static int
ends_by(void (*fn)(void))
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		if (freopen("/dev/null", "w", stderr) == NULL) {
			_exit(2);
		}
		fn();
		_exit(0);
	}
	CHECK(pid > 0);
	CHECK(waitpid(pid, &status, 0) == pid);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void
unequal(void)
{
	CHECK_EQ(1, 2);
}

static void
different(void)
{
	CHECK_MEM("ab", "ac", 2);
}

TEST(equal_passes)
{
	CHECK_EQ(UINT32_MAX, 0xffffffffL);
	CHECK_EQ(-1, -1L);
	CHECK_STR("a", "a");
	CHECK_MEM("ab", "ac", 1);
}

TEST(unequal_aborts)
{
	CHECK_EQ(ends_by(unequal), SIGABRT);
	CHECK_EQ(ends_by(different), SIGABRT);
}

TESTS(RUN(equal_passes), RUN(unequal_aborts))
