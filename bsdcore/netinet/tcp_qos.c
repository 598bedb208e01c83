/*
 * tcp_qos.c - connections in the background: whose congestion control gives
 * way, and those that stand still while their interface is throttled.
 *
 * System background (BK_SYS) always sends with LEDBAT. Background (BK) does
 * while foreground traffic has left by the same interface within
 * net.qos.bg_switch, and with its own algorithm otherwise; never over loopback.
 */
#include "bsdcore/net/if.h"
#include "bsdcore/netinet/cc/cc.h"

/* Where the connection's packets leave, as far as is known; or NULL. */
static const struct ifnet *
tcp_qosif(const struct tcpcb *tp)
{
	const struct rtentry *rt = tp->t_inp->inp_route.ro_rt;

	return rt != NULL ? rt->rt_ifp : NULL;
}

void
tcp_qoscc(struct tcpcb *tp)
{
	const struct ifnet *ifp = tcp_qosif(tp);
	int svc = so_svc(tp->t_so);
	bool giveway = svc_isbackground(svc) && ifp != NULL &&
	    !(ifp->if_flags & IFF_LOOPBACK_) &&
	    (svc == SVC_BK_SYS || qos_fgactive(tp->t_stack, ifp));
	const struct cc_algo *own = tp->t_owncc;

	if (!giveway && own != NULL) {
		tp->t_owncc = NULL;
		cc_use(tp, own);
	} else if (giveway && tp->t_cc != &cc_ledbat) {
		tp->t_owncc = tp->t_cc;
		cc_use(tp, &cc_ledbat);
		tp->t_stack->s_qos->qs_bgswitches++;
	}
}

bool
tcp_qosheld(struct tcpcb *tp)
{
	const struct ifnet *ifp = tcp_qosif(tp);
	const struct mbuf *m;
	uint32_t moff;

	if (ifp == NULL || !qos_throttled(ifp, SVC_BK_SYS) ||
	    !TCPS_HAVEESTABLISHED(tp->t_state)) {
		return false;
	}
	m = sbsndptr(&tp->t_so->so_snd, tp->snd_nxt - tp->snd_una, &moff);
	return qos_throttled(ifp, so_svcof(tp->t_so, m));
}

uint32_t
tcp_qosrun(struct tcpcb *tp, uint32_t seq, uint32_t len, uint32_t seg)
{
	struct sockbuf *sb = &tp->t_so->so_snd;
	uint32_t off = 0;
	const struct mbuf *m;

	if (len <= seg || (tp->t_so->so_qosflags & SOQ_TAGGED) == 0) {
		return len;
	}
	m = sbsndptr(sb, seq - tp->snd_una, &off);
	return so_tagrun(tp->t_so, m, off, len, seg);
}

void
tcp_qosrelease(struct stack *s)
{
	struct inpcb *inp;

	LIST_FOREACH (inp, &s->s_tcbinfo->ipi_list, inp_list) {
		struct tcpcb *tp = inp->inp_ppcb != NULL ? intotcpcb(inp) : NULL;

		if (tp != NULL && TCPS_HAVEESTABLISHED(tp->t_state)) {
			(void)tcp_output(tp);
		}
	}
}
