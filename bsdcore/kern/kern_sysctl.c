/*
 * kern_sysctl.c - the registry of tunables and counters of one stack.
 */
#include "bsdcore/sys/kernel.h"
#include "bsdcore/sys/sysctl.h"

struct ctltab {
	const void *ct_defs;
	size_t ct_n;
	uint8_t *ct_state;
	struct ctltab *ct_next;
};

struct ctlinfo {
	struct ctltab *ci_sysctls, *ci_stats;
};

int
ctl_sysinit(struct stack *s)
{
	s->s_ctl = calloc(1, sizeof(*s->s_ctl));
	return s->s_ctl != NULL ? 0 : ENOMEM;
}

static void
ctl_free(struct ctltab *t)
{
	while (t != NULL) {
		struct ctltab *next = t->ct_next;

		free(t);
		t = next;
	}
}

void
ctl_sysfini(struct stack *s)
{
	if (s->s_ctl != NULL) {
		ctl_free(s->s_ctl->ci_sysctls);
		ctl_free(s->s_ctl->ci_stats);
		free(s->s_ctl);
		s->s_ctl = NULL;
	}
}

static int
ctl_add(struct ctltab **head, const void *defs, size_t n, void *state)
{
	struct ctltab *t = malloc(sizeof(*t));

	if (t == NULL) {
		return ENOMEM;
	}
	*t = (struct ctltab){ .ct_defs = defs, .ct_n = n, .ct_state = state };
	while (*head != NULL) {
		head = &(*head)->ct_next;
	}
	*head = t;
	return 0;
}

int
sysctl_register(struct stack *s, const struct sysctl_def *defs, size_t n,
    void *state)
{
	for (size_t i = 0; i < n; i++) {
		int64_t *v =
		    (int64_t *)(void *)((uint8_t *)state + defs[i].sd_off);

		KASSERT(defs[i].sd_min <= defs[i].sd_def &&
		    defs[i].sd_def <= defs[i].sd_max);
		*v = defs[i].sd_def;
	}
	return ctl_add(&s->s_ctl->ci_sysctls, defs, n, state);
}

int
stat_register(struct stack *s, const struct stat_def *defs, size_t n,
    void *state)
{
	return ctl_add(&s->s_ctl->ci_stats, defs, n, state);
}

static const struct sysctl_def *
sysctl_find(struct stack *s, const char *name, int64_t **value)
{
	for (struct ctltab *t = s->s_ctl->ci_sysctls; t != NULL; t = t->ct_next) {
		const struct sysctl_def *d = t->ct_defs;

		for (size_t i = 0; i < t->ct_n; i++) {
			if (strcmp(d[i].sd_name, name) == 0) {
				*value = (int64_t *)(void *)(t->ct_state +
				    d[i].sd_off);
				return &d[i];
			}
		}
	}
	return NULL;
}

int
sysctl_get(struct stack *s, const char *name, int64_t *out)
{
	int64_t *v;

	if (sysctl_find(s, name, &v) == NULL) {
		return ENOENT;
	}
	*out = *v;
	return 0;
}

int
sysctl_set(struct stack *s, const char *name, int64_t value)
{
	int64_t *v;
	const struct sysctl_def *d = sysctl_find(s, name, &v);

	if (d == NULL) {
		return ENOENT;
	}
	if (value < d->sd_min || value > d->sd_max) {
		return ERANGE;
	}
	*v = value;
	return 0;
}

/* The table that holds the i-th entry, i made relative to it. */
static struct ctltab *
ctl_index(struct ctltab *t, size_t *i)
{
	while (t != NULL && *i >= t->ct_n) {
		*i -= t->ct_n;
		t = t->ct_next;
	}
	return t;
}

int
sysctl_index(struct stack *s, size_t i, const char **name, const char **doc,
    int64_t *value, int64_t *min, int64_t *max)
{
	struct ctltab *t = ctl_index(s->s_ctl->ci_sysctls, &i);
	const struct sysctl_def *d;

	if (t == NULL) {
		return ENOENT;
	}
	d = (const struct sysctl_def *)t->ct_defs + i;
	*name = d->sd_name;
	*doc = d->sd_doc;
	*value = *(int64_t *)(void *)(t->ct_state + d->sd_off);
	*min = d->sd_min;
	*max = d->sd_max;
	return 0;
}

int
stat_index(struct stack *s, size_t i, const char **name, uint64_t *value)
{
	struct ctltab *t = ctl_index(s->s_ctl->ci_stats, &i);
	const struct stat_def *d;

	if (t == NULL) {
		return ENOENT;
	}
	d = (const struct stat_def *)t->ct_defs + i;
	*name = d->st_name;
	*value = *(uint64_t *)(void *)(t->ct_state + d->st_off);
	return 0;
}
