/*
 * check.h - what a C unit test needs: checks that say what they saw, a runner.
 *
 *	TEST(pool_limit)
 *	{
 *		CHECK_EQ(nic_pool_new(0) == NULL, 0);
 *	}
 *
 *	TESTS(RUN(pool_limit), RUN(pool_reuse))
 *
 * TESTS defines main(): it runs every test in order, or only those named on
 * the command line, and returns 0. The first check that fails prints where
 * and why and aborts, so a debugger or a sanitizer shows the stack. Tests
 * that prefer a main() of their own use the checks alone.
 */
#ifndef TESTS_UNIT_C_CHECK_H
#define TESTS_UNIT_C_CHECK_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Noreturn static inline void
check_fail(const char *file, int line, const char *what)
{
	fflush(stdout);
	fprintf(stderr, "%s:%d: failed: %s\n", file, line, what);
	abort();
}

static inline void
check_eq(const char *file, int line, const char *what, long long a, long long b)
{
	if (a != b) {
		fprintf(stderr, "left %lld (0x%llx), right %lld (0x%llx)\n", a,
		    (unsigned long long)a, b, (unsigned long long)b);
		check_fail(file, line, what);
	}
}

static inline void
check_str(const char *file, int line, const char *what, const char *a,
    const char *b)
{
	if (strcmp(a, b) != 0) {
		fprintf(stderr, "left \"%s\", right \"%s\"\n", a, b);
		check_fail(file, line, what);
	}
}

static inline void
check_mem(const char *file, int line, const char *what, const void *a,
    const void *b, size_t len)
{
	const unsigned char *x = a, *y = b;

	for (size_t i = 0; i < len; i++) {
		if (x[i] != y[i]) {
			fprintf(stderr,
			    "byte %zu of %zu: left %02x, right %02x\n", i, len,
			    x[i], y[i]);
			check_fail(file, line, what);
		}
	}
}

#define CHECK(cond) ((cond) ? (void)0 : check_fail(__FILE__, __LINE__, #cond))
/* Integers of any width and sign; pointers with CHECK(a == b). */
#define CHECK_EQ(a, b)                                                         \
	check_eq(__FILE__, __LINE__, #a " == " #b, (long long)(a),             \
	    (long long)(b))
#define CHECK_STR(a, b) check_str(__FILE__, __LINE__, #a " == " #b, (a), (b))
#define CHECK_MEM(a, b, len)                                                   \
	check_mem(__FILE__, __LINE__, #a " == " #b, (a), (b), (len))

struct check_test {
	const char *ct_name;
	void (*ct_run)(void);
};

#define TEST(name) static void test_##name(void)
#define RUN(name) { #name, test_##name }
#define TESTS(...)                                                             \
	int main(int argc, char **argv)                                        \
	{                                                                      \
		static const struct check_test tests[] = { __VA_ARGS__ };      \
                                                                               \
		return check_main(tests, sizeof(tests) / sizeof(tests[0]),     \
		    argc, argv);                                               \
	}

static inline int
check_main(const struct check_test *tests, size_t n, int argc, char **argv)
{
	size_t ran = 0;

	for (size_t i = 0; i < n; i++) {
		int wanted = argc < 2;

		for (int arg = 1; arg < argc; arg++) {
			wanted |= strcmp(argv[arg], tests[i].ct_name) == 0;
		}
		if (wanted) {
			printf("%s\n", tests[i].ct_name);
			fflush(stdout);
			tests[i].ct_run();
			ran++;
		}
	}
	if (ran == 0) {
		fprintf(stderr, "no such test\n");
		return 2;
	}
	return 0;
}

#endif
