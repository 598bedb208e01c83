/*
 * uipc_domain.c - the families and their protocols: a walk over tables.
 */
#include "bsdcore/sys/protosw.h"
#include "bsdcore/sys/stack.h"

static const struct domain *const domains[] = {
	&inetdomain,
	&inet6domain,
	&localdomain,
};

int
domain_init(struct stack *s)
{
	for (size_t d = 0; d < nitems(domains); d++) {
		const struct domain *dom = domains[d];
		int error = dom->dom_init != NULL ? dom->dom_init(s) : 0;

		for (size_t i = 0; error == 0 && i < dom->dom_nprotosw; i++) {
			const struct protosw *pr = &dom->dom_protosw[i];

			if (pr->pr_init != NULL) {
				error = pr->pr_init(s);
			}
		}
		if (error != 0) {
			return error;
		}
	}
	return 0;
}

void
domain_fini(struct stack *s)
{
	for (size_t d = nitems(domains); d-- > 0;) {
		const struct domain *dom = domains[d];

		for (size_t i = dom->dom_nprotosw; i-- > 0;) {
			const struct protosw *pr = &dom->dom_protosw[i];

			if (pr->pr_fini != NULL) {
				pr->pr_fini(s);
			}
		}
		if (dom->dom_fini != NULL) {
			dom->dom_fini(s);
		}
	}
}

void
domain_drain(struct stack *s)
{
	for (size_t d = 0; d < nitems(domains); d++) {
		const struct domain *dom = domains[d];

		for (size_t i = 0; i < dom->dom_nprotosw; i++) {
			if (dom->dom_protosw[i].pr_drain != NULL) {
				dom->dom_protosw[i].pr_drain(s);
			}
		}
	}
}

static const struct domain *
pffinddomain(int family)
{
	for (size_t d = 0; d < nitems(domains); d++) {
		if (domains[d]->dom_family == family) {
			return domains[d];
		}
	}
	return NULL;
}

const struct protosw *
pffindproto(struct stack *s, int family, int type, int proto, int *errp)
{
	const struct domain *dom = pffinddomain(family);
	bool sawtype = false;

	(void)s;
	if (dom == NULL) {
		*errp = EAFNOSUPPORT;
		return NULL;
	}
	for (size_t i = 0; i < dom->dom_nprotosw; i++) {
		const struct protosw *pr = &dom->dom_protosw[i];

		if (pr->pr_type != type || pr->pr_usrreqs == NULL) {
			continue;
		}
		sawtype = true;
		if (proto == pr->pr_protocol || pr->pr_protocol == 0 ||
		    (proto == 0 && type != SOCK_RAW)) {
			return pr;
		}
	}
	*errp = sawtype ? EPROTONOSUPPORT : ESOCKTNOSUPPORT;
	return NULL;
}
