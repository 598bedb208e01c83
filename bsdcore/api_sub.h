/*
 * api_sub.h - what the files of the public interface share.
 */
#ifndef BSDCORE_API_SUB_H
#define BSDCORE_API_SUB_H

#include "bsdcore/api.h"
#include "bsdcore/sys/kernel.h"
#include "bsdcore/sys/socketvar.h"

/* Lock the socket's stack and hold the socket: 0, EBADF (closed, or the stack
 * is gone), ECONNABORTED (a forked copy); then nothing is locked or held. */
int api_enter(struct socket *so);
void api_leave(struct socket *so);

/* Absolute time of a relative timeout. */
static inline uint64_t
api_deadline(const struct stack *s, int64_t timeout)
{
	return timeout < 0 ? UINT64_MAX : s->s_now + (uint64_t)timeout;
}

/* struct bsd_addr to and from what the stack speaks. family 0 is AF_UNSPEC.
 * api_getaddr: 0 for a family it does not know. */
socklen_t api_getaddr(const struct bsd_addr *a, struct sockaddr_storage *ss);
void api_putaddr(const struct sockaddr_storage *ss, socklen_t len,
    struct bsd_addr *a);

/* Lend a chain to the outside: refs references, 0: one for each mbuf. Locked. */
void api_lend(struct stack *s, struct mbuf *m, uint32_t refs,
    struct bsd_lent *out);
/* bsd_set_tag(), locked: 0 or EINVAL. */
int api_settag(struct socket *so, int svc, uint32_t origin);
/* May more be lent? Counted if not. */
bool api_maylend(struct stack *s);

#endif
