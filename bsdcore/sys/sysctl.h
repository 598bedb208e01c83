/*
 * sysctl.h - tunables and counters, by dotted name, per stack.
 *
 * A module declares its tunables and counters as tables of offsets into its
 * state and registers them in its init; nothing else in bsdcore looks at
 * names.
 */
#ifndef BSDCORE_SYS_SYSCTL_H
#define BSDCORE_SYS_SYSCTL_H

#include "bsdcore/sys/systm.h"

struct stack;

struct sysctl_def {
	const char *sd_name; /* "net.inet.tcp.rto_min" */
	uint32_t sd_off;     /* of an int64_t in the module's state */
	int64_t sd_def, sd_min, sd_max;
	const char *sd_doc; /* unit and source */
};

struct stat_def {
	const char *st_name; /* "tcp.rcvpack"; "tcp.drop.badsum" for drops */
	uint32_t st_off;     /* of a uint64_t in the module's state */
};

/* Tables live as long as the stack. 0 or ENOMEM. Sets the defaults. */
int sysctl_register(struct stack *s, const struct sysctl_def *defs, size_t n,
    void *state);
int stat_register(struct stack *s, const struct stat_def *defs, size_t n,
    void *state);

/* ENOENT unknown name, ERANGE outside [min, max]. */
int sysctl_get(struct stack *s, const char *name, int64_t *out);
int sysctl_set(struct stack *s, const char *name, int64_t value);

#endif
