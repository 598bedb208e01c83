/*
 * api_qos.c - service classes and the ledger, as the outside calls them.
 */
#include "bsdcore/api_sub.h"
#include "bsdcore/net/if.h"
#include "bsdcore/netinet/in_tclass.h"

CTASSERT(BSD_SVC_BE == SVC_BE && BSD_SVC_CTL == SVC_CTL);
CTASSERT(BSD_SVC_BK_SYS == SVC_BK_SYS && BSD_SVC_BK == SVC_BK);
CTASSERT(BSD_SVC_RD == SVC_RD && BSD_SVC_OAM == SVC_OAM);
CTASSERT(BSD_SVC_AV == SVC_AV && BSD_SVC_RV == SVC_RV);
CTASSERT(BSD_SVC_VI == SVC_VI && BSD_SVC_VO == SVC_VO);
CTASSERT(BSD_SVC_SIG == SVC_SIG && BSD_SVC_COUNT == SVC_COUNT);

int
api_settag(struct socket *so, int svc, uint32_t origin)
{
	if (svc < -1 || svc >= SVC_COUNT || origin == BSD_ORIGIN_OTHERS) {
		return EINVAL;
	}
	so->so_origin = origin;
	so->so_qosflags |= SOQ_TAGGED;
	if (svc >= 0) {
		so->so_tagsvc = (uint8_t)svc;
		so->so_qosflags |= SOQ_TAGSVC;
	} else {
		so->so_qosflags &= ~SOQ_TAGSVC;
	}
	return 0;
}

int
bsd_set_tag(struct socket *so, int svc, uint32_t origin)
{
	int error = api_enter(so);

	if (error == 0) {
		error = api_settag(so, svc, origin);
		api_leave(so);
	}
	return -error;
}

int
bsd_peer_tag(struct socket *so, int *svc, uint32_t *origin)
{
	int error = api_enter(so);

	if (error == 0) {
		*svc = so->so_peersvc;
		*origin = so->so_peerorigin;
		api_leave(so);
	}
	return -error;
}

static void
ledger_fill(const struct qos_row *r, struct bsd_ledger *v)
{
	memset(v, 0, sizeof(*v));
	v->origin = r->qr_origin;
	for (int i = 0; i < SVC_COUNT; i++) {
		v->txpkts[i] = r->qr_txpkts[i];
		v->txbytes[i] = r->qr_txbytes[i];
		v->rxpkts[i] = r->qr_rxpkts[i];
		v->rxbytes[i] = r->qr_rxbytes[i];
	}
	v->rexmtpkts = r->qr_rexmtpkts;
	v->rexmtbytes = r->qr_rexmtbytes;
}

/* Memory is charged to whose socket holds it now. */
static void
ledger_pool(const struct stack *s, struct bsd_ledger *v, int n)
{
	const struct socket *so;

	LIST_FOREACH (so, &s->s_so->sos_all, so_all) {
		uint64_t held = so->so_snd.sb_mbcnt + so->so_rcv.sb_mbcnt;
		int at = 1; /* the overflow row */

		if (held == 0) {
			continue;
		}
		for (int i = 0; i < n; i++) {
			if (v[i].origin == so->so_origin) {
				at = i;
				break;
			}
		}
		if (at < n) {
			v[at].pool += held;
		}
	}
}

int
bsd_ledger_list(struct stack *s, struct bsd_ledger *v, int n)
{
	const struct qos_state *qs;
	int count = 2;

	stack_enter(s);
	qs = s->s_qos;
	if (n > 0) {
		ledger_fill(&qs->qs_nobody, &v[0]);
	}
	if (n > 1) {
		ledger_fill(&qs->qs_others, &v[1]);
	}
	for (uint32_t i = 0; i < QOS_BUCKETS; i++) {
		const struct qos_row *r = qs->qs_bucket[i];

		for (; r != NULL; r = r->qr_next) {
			if (count < n) {
				ledger_fill(r, &v[count]);
			}
			count++;
		}
	}
	ledger_pool(s, v, count < n ? count : n);
	stack_leave(s);
	return count;
}

/* The interface's treatment of classes, or NULL. Locks the stack always. */
static struct ifqos *
ifqos_enter(struct stack *s, unsigned int ifindex)
{
	struct ifnet *ifp;

	stack_enter(s);
	ifp = if_byindex(s, ifindex);
	return ifp != NULL ? &ifp->if_qos : NULL;
}

int
bsd_if_qosmark(struct stack *s, unsigned int ifindex, int mode,
    const uint32_t *allow, int n)
{
	struct ifqos *iq;

	if (mode < QOSMARK_OFF || mode > QOSMARK_RFC4594 || n > IFQ_ALLOW ||
	    (n > 0 && allow == NULL)) {
		return -EINVAL;
	}
	iq = ifqos_enter(s, ifindex);
	if (iq != NULL) {
		iq->iq_mode = mode;
		iq->iq_all = n < 0;
		iq->iq_nallow = n > 0 ? (uint32_t)n : 0;
		for (int i = 0; i < n; i++) {
			iq->iq_allow[i] = allow[i];
		}
	}
	stack_leave(s);
	return iq != NULL ? 0 : -ENXIO;
}

int
bsd_if_throttle(struct stack *s, unsigned int ifindex, int on)
{
	struct ifqos *iq = ifqos_enter(s, ifindex);

	if (iq != NULL) {
		iq->iq_throttle = on != 0;
		if (on == 0) {
			tcp_qosrelease(s);
		}
	}
	stack_leave(s);
	return iq != NULL ? 0 : -ENXIO;
}
