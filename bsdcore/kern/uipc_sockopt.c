/*
 * uipc_sockopt.c - SOL_SOCKET options, with Linux's numbers and values
 * (socket(7)). Other levels are the protocol's (pr_ctloutput).
 */
#include <sys/time.h>

#include "bsdcore/net/if.h"
#include "bsdcore/netinet/in_tclass.h"
#include "bsdcore/sys/kernel.h"
#include "bsdcore/sys/socketvar.h"

#define SNDBUF_MIN 2304u /* half of Linux's SOCK_MIN_SNDBUF */
#define RCVBUF_MIN 1152u

int
sooptcopyin(const struct sockopt *sopt, void *buf, size_t len, size_t minlen)
{
	if (sopt->sopt_valsize < minlen || sopt->sopt_val == NULL) {
		return EINVAL;
	}
	memcpy(buf, sopt->sopt_val,
	    sopt->sopt_valsize < len ? sopt->sopt_valsize : len);
	return 0;
}

int
sooptcopyout(struct sockopt *sopt, const void *buf, size_t len)
{
	if (sopt->sopt_valsize > len) {
		sopt->sopt_valsize = len;
	}
	if (sopt->sopt_valsize > 0) {
		memcpy(sopt->sopt_val, buf, sopt->sopt_valsize);
	}
	return 0;
}

int
sooptint(const struct sockopt *sopt, int *out)
{
	return sooptcopyin(sopt, out, sizeof(*out), sizeof(*out));
}

/* Options that are a bit of so_options. */
static uint32_t
so_optbit(int name)
{
	static const struct {
		int name;
		uint32_t bit;
	} bits[] = {
		{ SO_REUSEADDR, SOO_REUSEADDR },
		{ SO_REUSEPORT, SOO_REUSEPORT },
		{ SO_KEEPALIVE, SOO_KEEPALIVE },
		{ SO_BROADCAST, SOO_BROADCAST },
		{ SO_OOBINLINE, SOO_OOBINLINE },
		{ SO_TIMESTAMP, SOO_TIMESTAMP },
		{ SO_TIMESTAMPNS, SOO_TIMESTAMPNS },
		{ SO_DONTROUTE, SOO_DONTROUTE },
	};

	for (size_t i = 0; i < nitems(bits); i++) {
		if (bits[i].name == name) {
			return bits[i].bit;
		}
	}
	return 0;
}

/* The protocol may care (keepalive timer, cached route); its answer does not. */
static void
so_tellproto(struct socket *so, struct sockopt *sopt)
{
	if (so->so_pcb != NULL && so->so_proto->pr_ctloutput != NULL) {
		(void)so->so_proto->pr_ctloutput(so, sopt);
	}
}

static int
so_setbuf(struct socket *so, struct sockbuf *sb, int val, bool force)
{
	uint64_t max = (uint64_t)so->so_stack->s_so->sos_sb_max;
	uint32_t min = sb == &so->so_snd ? SNDBUF_MIN : RCVBUF_MIN;
	uint64_t want = val < 0 ? (force ? 0 : max) : (uint64_t)val;
	int error;

	if (!force && want > max) {
		want = max;
	}
	error = sbreserve(sb, u32max((uint32_t)want, min));
	if (error == 0) {
		sb->sb_flags &= (uint16_t)~SB_AUTOSIZE;
		sbavail_update(so);
		sowwakeup(so);
	}
	return error;
}

int
sosetahead(struct socket *so, uint32_t ahead)
{
	struct sockbuf *sb = &so->so_snd;
	uint64_t max = (uint64_t)so->so_stack->s_so->sos_sb_max;
	int error = 0;

	if (so->so_proto->pr_flags & PR_ATOMIC || so->so_family == AF_LOCAL) {
		return EOPNOTSUPP;
	}
	if (ahead != 0) {
		ahead = u32max((uint32_t)u64min(ahead, max), SNDBUF_MIN);
	}
	if (ahead > sb->sb_hiwat) {
		error = sbreserve(sb, ahead);
	}
	if (error == 0) {
		sb->sb_ahead = ahead;
		sowwakeup(so);
	}
	return error;
}

static int
so_settime(const struct sockopt *sopt, uint64_t *out)
{
	struct timeval tv;
	int error = sooptcopyin(sopt, &tv, sizeof(tv), sizeof(tv));

	if (error != 0) {
		return error;
	}
	if (tv.tv_usec < 0 || tv.tv_usec >= 1000000) {
		return EDOM;
	}
	if (tv.tv_sec < 0 || tv.tv_sec > 1000000000) {
		*out = 0;
	} else {
		*out = (uint64_t)tv.tv_sec * NSEC_PER_SEC +
		    (uint64_t)tv.tv_usec * NSEC_PER_USEC;
	}
	return 0;
}

static int
so_setdevice(struct socket *so, const struct sockopt *sopt)
{
	char name[IFNAMSIZ_] = "";
	struct ifnet *ifp;

	if (sopt->sopt_val != NULL) {
		size_t n = sopt->sopt_valsize < sizeof(name) - 1 ?
		    sopt->sopt_valsize :
		    sizeof(name) - 1;

		memcpy(name, sopt->sopt_val, n);
	}
	if (name[0] == '\0') {
		so->so_boundif = 0;
		return 0;
	}
	ifp = if_byname(so->so_stack, name);
	if (ifp == NULL) {
		return ENODEV;
	}
	so->so_boundif = ifp->if_index;
	return 0;
}

static int
so_setlinger(struct socket *so, const struct sockopt *sopt)
{
	struct linger l;
	int error = sooptcopyin(sopt, &l, sizeof(l), sizeof(l));

	if (error != 0) {
		return error;
	}
	so->so_linger = l.l_linger < 0 ? INT32_MAX : l.l_linger;
	if (l.l_onoff != 0) {
		so->so_options |= SOO_LINGER;
	} else {
		so->so_options &= ~(uint32_t)SOO_LINGER;
	}
	return 0;
}

static int
so_setint(struct socket *so, int name, int val)
{
	switch (name) {
	case SO_DEBUG:
	case SO_NO_CHECK:
	case SO_PASSCRED:
	case SO_RXQ_OVFL:
		return 0; /* accepted, without effect */
	case SO_SNDBUF:
	case SO_SNDBUFFORCE:
		return so_setbuf(so, &so->so_snd, val, name == SO_SNDBUFFORCE);
	case SO_RCVBUF:
	case SO_RCVBUFFORCE:
		return so_setbuf(so, &so->so_rcv, val, name == SO_RCVBUFFORCE);
	case SO_RCVLOWAT:
		so->so_rcv.sb_lowat = val < 0 ? INT32_MAX :
		    val == 0		      ? 1 :
						(uint32_t)val;
		sorwakeup(so);
		return 0;
	case SO_PRIORITY:
		so->so_priority = val;
		so_qospriority(so, val);
		return 0;
	case SO_MARK:
		so->so_mark = val;
		return 0;
	case SO_BINDTOIFINDEX:
		if (val < 0) {
			return EINVAL;
		}
		if (val != 0 && if_byindex(so->so_stack, (uint32_t)val) == NULL) {
			return ENODEV;
		}
		so->so_boundif = (uint32_t)val;
		return 0;
	default:
		return so_qossetopt(so, name, val);
	}
}

static int
so_setsol(struct socket *so, struct sockopt *sopt)
{
	uint32_t bit = so_optbit(sopt->sopt_name);
	int val, error;

	switch (sopt->sopt_name) {
	case SO_LINGER:
		return so_setlinger(so, sopt);
	case SO_RCVTIMEO:
		return so_settime(sopt, &so->so_rcvtimeo);
	case SO_SNDTIMEO:
		return so_settime(sopt, &so->so_sndtimeo);
	case SO_BINDTODEVICE:
		error = so_setdevice(so, sopt);
		if (error == 0) {
			so_tellproto(so, sopt);
		}
		return error;
	default:
		break;
	}
	error = sooptint(sopt, &val);
	if (error != 0) {
		return error;
	}
	if (bit == 0) {
		error = so_setint(so, sopt->sopt_name, val);
	} else if (val != 0) {
		so->so_options |= bit;
	} else {
		so->so_options &= ~bit;
	}
	if (error == 0) {
		so_tellproto(so, sopt);
	}
	return error;
}

int
sosetopt(struct socket *so, struct sockopt *sopt)
{
	if (sopt->sopt_level == SOL_SOCKET) {
		return so_setsol(so, sopt);
	}
	if (so->so_proto->pr_ctloutput == NULL) {
		return EOPNOTSUPP;
	}
	if (so->so_pcb == NULL) {
		return EINVAL;
	}
	return so->so_proto->pr_ctloutput(so, sopt);
}

static int
so_getbuf(const struct sockbuf *sb)
{
	uint64_t val = 2 * (uint64_t)sb->sb_hiwat; /* as Linux tells it */

	return val > INT32_MAX ? INT32_MAX : (int)val;
}

/* 0 and *val, or ENOPROTOOPT. */
static int
so_getint(struct socket *so, int name, int *val)
{
	switch (name) {
	case SO_TYPE:
		*val = so->so_type;
		return 0;
	case SO_DOMAIN:
		*val = so->so_family;
		return 0;
	case SO_PROTOCOL:
		*val = so->so_protocol;
		return 0;
	case SO_ERROR:
		*val = so->so_error;
		so->so_error = 0;
		return 0;
	case SO_ACCEPTCONN:
		*val = (so->so_options & SOO_ACCEPTCONN) != 0;
		return 0;
	case SO_SNDBUF:
		*val = so_getbuf(&so->so_snd);
		return 0;
	case SO_RCVBUF:
		*val = so_getbuf(&so->so_rcv);
		return 0;
	case SO_RCVLOWAT:
		*val = (int)so->so_rcv.sb_lowat;
		return 0;
	case SO_SNDLOWAT:
		*val = 1;
		return 0;
	case SO_PRIORITY:
		*val = so->so_priority;
		return 0;
	case SO_MARK:
		*val = so->so_mark;
		return 0;
	case SO_BINDTOIFINDEX:
		*val = (int)so->so_boundif;
		return 0;
	case SO_DEBUG:
	case SO_NO_CHECK:
	case SO_PASSCRED:
	case SO_RXQ_OVFL:
		*val = 0;
		return 0;
	default:
		return so_qosgetopt(so, name, val);
	}
}

static int
so_gettime(struct sockopt *sopt, uint64_t ns)
{
	struct timeval tv = { (time_t)(ns / NSEC_PER_SEC),
		(suseconds_t)(ns % NSEC_PER_SEC / NSEC_PER_USEC) };

	return sooptcopyout(sopt, &tv, sizeof(tv));
}

static int
so_getdevice(struct socket *so, struct sockopt *sopt)
{
	struct ifnet *ifp = so->so_boundif != 0 ?
	    if_byindex(so->so_stack, so->so_boundif) :
	    NULL;

	if (ifp == NULL) {
		sopt->sopt_valsize = 0;
		return 0;
	}
	if (sopt->sopt_valsize < IFNAMSIZ_) {
		return EINVAL;
	}
	return sooptcopyout(sopt, ifp->if_name, strlen(ifp->if_name) + 1);
}

static int
so_getpeercred(struct socket *so, struct sockopt *sopt)
{
	struct ucred cred = { 0, (uid_t)-1, (gid_t)-1 };

	if (so->so_family != AF_LOCAL) {
		return sooptcopyout(sopt, &cred, sizeof(cred));
	}
	if (so->so_state & SS_ISCONNECTED) {
		/* Both ends are in this process. */
		cred.pid = so->so_pid;
		cred.uid = so->so_stack->s_so->sos_uid;
		cred.gid = so->so_stack->s_so->sos_gid;
	}
	return sooptcopyout(sopt, &cred, sizeof(cred));
}

static int
so_getsol(struct socket *so, struct sockopt *sopt)
{
	uint32_t bit = so_optbit(sopt->sopt_name);
	int val = bit != 0 ? (so->so_options & bit) != 0 : 0;
	int error = 0;

	switch (sopt->sopt_name) {
	case SO_LINGER: {
		struct linger l = { (so->so_options & SOO_LINGER) != 0,
			so->so_linger };

		return sooptcopyout(sopt, &l, sizeof(l));
	}
	case SO_RCVTIMEO:
		return so_gettime(sopt, so->so_rcvtimeo);
	case SO_SNDTIMEO:
		return so_gettime(sopt, so->so_sndtimeo);
	case SO_BINDTODEVICE:
		return so_getdevice(so, sopt);
	case SO_PEERCRED:
		return so_getpeercred(so, sopt);
	default:
		break;
	}
	if (bit == 0) {
		error = so_getint(so, sopt->sopt_name, &val);
	}
	return error != 0 ? error : sooptcopyout(sopt, &val, sizeof(val));
}

int
sogetopt(struct socket *so, struct sockopt *sopt)
{
	if (sopt->sopt_level == SOL_SOCKET) {
		return so_getsol(so, sopt);
	}
	if (so->so_proto->pr_ctloutput == NULL) {
		return EOPNOTSUPP;
	}
	if (so->so_pcb == NULL) {
		return EINVAL;
	}
	return so->so_proto->pr_ctloutput(so, sopt);
}
