/*
 * in_tclass.c - service classes: what sockets ask for, what packets get, what
 * goes into the IP header, and the ledger of who sent how much.
 *
 * The class of a packet is, the first that applies (XNU):
 *	1. background, if the socket is in the background by decree
 *	   (SO_TRAFFIC_MGT_BACKGROUND)
 *	2. the class of the message (cmsg; datagrams)
 *	3. the tag in force when the bytes were queued (bsd_set_tag)
 *	4. the socket's: SO_TRAFFIC_CLASS or SO_NET_SERVICE_TYPE, else what
 *	   IP_TOS, IPV6_TCLASS or SO_PRIORITY stands for
 * and pure ACKs and SYNs of a flow that is not in the background are CTL.
 *
 * Tags live in the m_pkthdr of the send buffer's mbufs, which has no other use
 * there; M_TAG says that it is filled in.
 */
#include "bsdcore/netinet/in_tclass.h"

#include "bsdcore/net/if.h"
#include "bsdcore/netinet/ip.h"
#include "bsdcore/netinet/ip_var.h"
#include "bsdcore/sys/sysctl.h"

/* clang-format off */
static const struct sysctl_def qos_tunables[] = {
	{ "net.qos.bg_switch", offsetof(struct qos_state, qs_bgswitch), 2 * (int64_t)NSEC_PER_SEC, 0, 3600 * (int64_t)NSEC_PER_SEC,
	  "ns that foreground traffic holds the background back (XNU TCP_BG_SWITCH_TIME)" },
	{ "net.qos.bg_target", offsetof(struct qos_state, qs_bgtarget), 60 * (int64_t)NSEC_PER_MSEC, (int64_t)NSEC_PER_MSEC, (int64_t)NSEC_PER_SEC,
	  "ns of queueing delay that a background sender aims at (LEDBAT++)" },
};

#define QST(name, member) { name, offsetof(struct qos_state, member) }
static const struct stat_def qos_counters[] = {
	QST("qos.marked", qs_marked),
	QST("qos.clamped", qs_clamped),
	QST("qos.throttled", qs_throttled),
	QST("qos.ledgeroverflow", qs_overflow),
	QST("qos.bgswitches", qs_bgswitches),
};
/* clang-format on */

int
qos_init(struct stack *s)
{
	struct qos_state *qs = calloc(1, sizeof(*qs));
	int error;

	if (qs == NULL) {
		return ENOMEM;
	}
	s->s_qos = qs;
	qs->qs_others.qr_origin = UINT32_MAX;
	error = sysctl_register(s, qos_tunables, nitems(qos_tunables), qs);
	if (error == 0) {
		error = stat_register(s, qos_counters, nitems(qos_counters), qs);
	}
	return error;
}

void
qos_fini(struct stack *s)
{
	struct qos_state *qs = s->s_qos;

	for (uint32_t i = 0; qs != NULL && i < QOS_BUCKETS; i++) {
		struct qos_row *r, *next;

		for (r = qs->qs_bucket[i]; r != NULL; r = next) {
			next = r->qr_next;
			free(r);
		}
	}
	free(qs);
	s->s_qos = NULL;
}

/* ---- sockets ---- */

int
so_svc(const struct socket *so)
{
	if (so->so_qosflags & SOQ_BACKGROUND) {
		return SVC_BK_SYS;
	}
	return so->so_qosflags & SOQ_TAGSVC ? so->so_tagsvc :
					      so->so_traffic_class;
}

int
so_qoscmsg(int type, int val)
{
	if (type == SO_NET_SERVICE_TYPE_) {
		return svc_of_nst(val);
	}
	/* 10002 alone is a class of its own; the rest of that range says
	 * service types. */
	if (val >= SO_TC_NET_SERVICE_OFFSET_) {
		return svc_of_nst(val - SO_TC_NET_SERVICE_OFFSET_);
	}
	return svc_of_sotc(val);
}

int
so_qossetopt(struct socket *so, int name, int val)
{
	int svc;

	switch (name) {
	case SO_TRAFFIC_CLASS_:
	case SO_NET_SERVICE_TYPE_:
		svc = so_qoscmsg(name, val);
		if (svc < 0) {
			return EINVAL;
		}
		so->so_traffic_class = svc;
		so->so_qosflags |= SOQ_EXPLICIT;
		return 0;
	case SO_RECV_TRAFFIC_CLASS_:
		so->so_qosflags &= ~SOQ_RECVSVC;
		so->so_qosflags |= val != 0 ? SOQ_RECVSVC : 0;
		return 0;
	case SO_TRAFFIC_MGT_BACKGROUND_:
		/* The receiver's side of it (RECVBG) is accepted; a receiver
		 * here has no window of its own to shrink. */
		if (val &
		    ~(TRAFFIC_MGT_SO_BACKGROUND_ | TRAFFIC_MGT_TCP_RECVBG_)) {
			return EINVAL;
		}
		so->so_qosflags &= ~(SOQ_BACKGROUND | SOQ_RECVBG);
		so->so_qosflags |=
		    val & TRAFFIC_MGT_SO_BACKGROUND_ ? SOQ_BACKGROUND : 0;
		so->so_qosflags |=
		    val & TRAFFIC_MGT_TCP_RECVBG_ ? SOQ_RECVBG : 0;
		return 0;
	default:
		return ENOPROTOOPT;
	}
}

int
so_qosgetopt(const struct socket *so, int name, int *val)
{
	const struct svc_class *c = svc_class(so->so_traffic_class);

	switch (name) {
	case SO_TRAFFIC_CLASS_:
		/* Signalling is interactive video to whoever asks by class. */
		*val = so->so_traffic_class == SVC_SIG ?
		    svc_class(SVC_VI)->sv_sotc :
		    c->sv_sotc;
		return 0;
	case SO_NET_SERVICE_TYPE_:
		*val = c->sv_nst >= 0 ? c->sv_nst : 0;
		return 0;
	case SO_RECV_TRAFFIC_CLASS_:
		*val = (so->so_qosflags & SOQ_RECVSVC) != 0;
		return 0;
	case SO_TRAFFIC_MGT_BACKGROUND_:
		*val = (so->so_qosflags & SOQ_BACKGROUND ?
			       TRAFFIC_MGT_SO_BACKGROUND_ :
			       0) |
		    (so->so_qosflags & SOQ_RECVBG ? TRAFFIC_MGT_TCP_RECVBG_ : 0);
		return 0;
	default:
		return ENOPROTOOPT;
	}
}

/* RFC 4594, RFC 8622 and, where they do not meet, the old meaning of TOS. */
static int
svc_of_tos(int tos)
{
	switch ((tos & 0xff) >> 2) {
	case 1: /* LE */
	case 8: /* CS1 */
	case 10:
	case 12:
	case 14: /* AF1x: high-throughput data */
		return SVC_BK;
	case 4: /* IPTOS_LOWDELAY */
	case 18:
	case 20:
	case 22: /* AF2x */
		return SVC_RD;
	case 16: /* CS2 */
		return SVC_OAM;
	case 24: /* CS3 */
	case 40: /* CS5 */
		return SVC_SIG;
	case 26:
	case 28:
	case 30: /* AF3x */
		return SVC_AV;
	case 32: /* CS4 */
		return SVC_RV;
	case 34:
	case 36:
	case 38: /* AF4x */
		return SVC_VI;
	case 44: /* VOICE-ADMIT */
	case 46: /* EF */
		return SVC_VO;
	case 48:
	case 56: /* CS6, CS7 */
		return SVC_CTL;
	default:
		return SVC_BE;
	}
}

void
so_qostos(struct socket *so, int tos)
{
	if ((so->so_qosflags & SOQ_EXPLICIT) == 0) {
		so->so_traffic_class = svc_of_tos(tos);
	}
}

void
so_qospriority(struct socket *so, int prio)
{
	/* IEEE 802.1D user priorities, as mac80211 reads skb->priority. */
	static const uint8_t svc[8] = { SVC_BE, SVC_BK, SVC_BK, SVC_RD, SVC_AV,
		SVC_VI, SVC_VO, SVC_CTL };

	if ((so->so_qosflags & SOQ_EXPLICIT) == 0) {
		so->so_traffic_class =
		    prio >= 0 && prio < (int)nitems(svc) ? svc[prio] : SVC_BE;
	}
}

void
so_tagchain(const struct socket *so, struct mbuf *m)
{
	if ((so->so_qosflags & SOQ_TAGSVC) == 0 && so->so_origin == 0) {
		return;
	}
	for (; m != NULL; m = m->m_next) {
		m->m_flags |= M_TAG;
		m->m_pkthdr.svc =
		    so->so_qosflags & SOQ_TAGSVC ? so->so_tagsvc : SVC_COUNT;
		m->m_pkthdr.origin = so->so_origin;
	}
}

/* ---- packets ---- */

int
so_svcof(const struct socket *so, const struct mbuf *m)
{
	if (m == NULL || (so->so_qosflags & SOQ_BACKGROUND)) {
		return so_svc(so);
	}
	return (m->m_flags & M_TAG) && m->m_pkthdr.svc < SVC_COUNT ?
	    m->m_pkthdr.svc :
	    so->so_traffic_class;
}

uint32_t
so_tagrun(const struct socket *so, const struct mbuf *m, uint32_t off,
    uint32_t len, uint32_t seg)
{
	const struct mbuf *first = m;
	uint32_t run;

	if (m == NULL || (so->so_qosflags & SOQ_TAGGED) == 0) {
		return len;
	}
	for (run = m->m_len - off; run < len && m->m_next != NULL;
	    run += m->m_len) {
		m = m->m_next;
		if (!sb_sametag(first, m)) {
			return u32min(len, run < seg ? seg : run - run % seg);
		}
	}
	return len;
}

/* The best class of len bytes from off in m on: what is urgent in a segment
 * takes along what is not. */
static int
so_svcbest(const struct socket *so, const struct mbuf *m, uint32_t off,
    uint32_t len)
{
	int best = so_svcof(so, m);

	len += off;
	while (len > m->m_len && (m->m_next != NULL)) {
		int svc;

		len -= m->m_len;
		m = m->m_next;
		svc = so_svcof(so, m);
		if (svc_queue((unsigned)svc) < svc_queue((unsigned)best)) {
			best = svc;
		}
	}
	return best;
}

void
tcp_qostag(const struct socket *so, const struct mbuf *first, uint32_t off,
    uint32_t len, struct mbuf *m)
{
	int svc;

	if (first != NULL) {
		svc = so->so_qosflags & SOQ_TAGGED ?
		    so_svcbest(so, first, off, len) :
		    so_svcof(so, first);
		m->m_pkthdr.pkt_flags |= PKTF_ORDERED;
		m->m_pkthdr.origin =
		    first->m_flags & M_TAG ? first->m_pkthdr.origin : 0;
	} else {
		m->m_pkthdr.origin = so->so_origin;
		/* A throttled interface holds back data, not the peer's. */
		svc = svc_isbackground(so_svc(so)) ? SVC_BK : SVC_CTL;
	}
	m->m_pkthdr.svc = (uint8_t)svc;
}

void
udp_qostag(const struct socket *so, int svc, struct mbuf *m)
{
	if (svc < 0 || (so->so_qosflags & SOQ_BACKGROUND)) {
		svc = so_svc(so);
	}
	m->m_pkthdr.svc = (uint8_t)svc;
	m->m_pkthdr.origin = so->so_origin;
}

/* Did it never leave the process? Then its metadata is its sender's. */
static bool
qos_islocal(const struct mbuf *m)
{
	const struct ifnet *ifp = m->m_pkthdr.rcvif;

	return (m->m_flags & M_LOOP) ||
	    (ifp != NULL && (ifp->if_flags & IFF_LOOPBACK_));
}

uint32_t
qos_rxorigin(const struct mbuf *m)
{
	return qos_islocal(m) ? m->m_pkthdr.origin : 0;
}

int
qos_rxsvc(const struct mbuf *m)
{
	const uint8_t *ip = m->m_data;

	if (qos_islocal(m)) {
		/* From ourselves: it is what its sender said. */
		return m->m_pkthdr.svc < SVC_COUNT ? m->m_pkthdr.svc : SVC_BE;
	}
	if (m->m_len < 2) {
		return SVC_BE;
	}
	return svc_of_dscp(ip[0] >> 4 == 4 ? ip[1] >> 2 :
					     (ip[0] << 8 | ip[1]) >> 6 & 0x3f);
}

static bool
qos_mayallow(const struct ifqos *iq, uint32_t origin)
{
	if (iq->iq_all) {
		return true;
	}
	for (uint32_t i = 0; i < iq->iq_nallow; i++) {
		if (iq->iq_allow[i] == origin) {
			return true;
		}
	}
	return false;
}

/* DSCP into the header; its checksum is made later. ECN stays. */
static void
qos_mark(struct qos_state *qs, const struct ifqos *iq, struct mbuf *m)
{
	uint8_t *ip = mtod(m, uint8_t *);
	int svc = m->m_pkthdr.svc;
	unsigned dscp;

	if (!qos_mayallow(iq, m->m_pkthdr.origin)) {
		qs->qs_clamped += (uint64_t)(svc_clamp(svc) != svc);
		svc = svc_clamp(svc);
	}
	dscp = svc_dscp(svc, iq->iq_mode);
	if (ip[0] >> 4 == 4) {
		ip[1] = (uint8_t)(dscp << 2 | (ip[1] & 3));
	} else {
		ip[0] = (uint8_t)(0x60 | dscp >> 2);
		ip[1] = (uint8_t)((dscp & 3) << 6 | (ip[1] & 0x3f));
	}
	qs->qs_marked++;
}

/* The row of an originator, made if need be. */
static struct qos_row *
qos_row(struct qos_state *qs, uint32_t origin)
{
	struct qos_row **bucket, *r;

	if (origin == 0) {
		return &qs->qs_nobody;
	}
	bucket = &qs->qs_bucket[origin % QOS_BUCKETS];
	for (r = *bucket; r != NULL; r = r->qr_next) {
		if (r->qr_origin == origin) {
			return r;
		}
	}
	r = qs->qs_nrows < QOS_ROWS ? calloc(1, sizeof(*r)) : NULL;
	if (r == NULL) {
		qs->qs_overflow++;
		return &qs->qs_others;
	}
	qs->qs_nrows++;
	r->qr_origin = origin;
	r->qr_next = *bucket;
	*bucket = r;
	return r;
}

/* Header bytes of a super-segment that starts at its IP header. */
static uint32_t
qos_hdrlen(const struct mbuf *m)
{
	const struct pkthdr *h = &m->m_pkthdr;

	if (h->gso_type == PKT_GSO_UDP_L4) {
		return h->csum_start + 8u;
	}
	if (m->m_len <= h->csum_start + 12u) {
		return h->csum_start + 20u;
	}
	return h->csum_start +
	    (uint32_t)(m->m_data[h->csum_start + 12] >> 4) * 4;
}

void
qos_output(struct stack *s, struct ifnet *ifp, struct mbuf *m, bool mark)
{
	const struct pkthdr *h = &m->m_pkthdr;
	struct qos_row *r = qos_row(s->s_qos, h->origin);
	unsigned svc = h->svc < SVC_COUNT ? h->svc : SVC_BE;
	uint32_t n = 1, len = h->len;

	if ((h->csum_flags & CSUM_TSO) && h->tso_segsz != 0) {
		uint32_t hdr = u32min(qos_hdrlen(m), len);

		n = u32max((len - hdr + h->tso_segsz - 1) / h->tso_segsz, 1);
		len += (n - 1) * hdr; /* as it will be on the wire */
	}
	r->qr_txpkts[svc] += n;
	r->qr_txbytes[svc] += len;
	if (h->pkt_flags & PKTF_TCP_REXMT) {
		r->qr_rexmtpkts += n;
		r->qr_rexmtbytes += len;
	}
	if (ifp->if_flags & IFF_LOOPBACK_) {
		return;
	}
	if (!svc_isbackground((int)svc)) {
		ifp->if_qos.iq_fgsent = s->s_now;
	}
	if (mark && ifp->if_qos.iq_mode != QOSMARK_OFF) {
		qos_mark(s->s_qos, &ifp->if_qos, m);
	}
}

void
qos_input(struct socket *so, int svc, uint32_t n, uint32_t len)
{
	struct qos_row *r = qos_row(so->so_stack->s_qos, so->so_origin);

	r->qr_rxpkts[svc] += n;
	r->qr_rxbytes[svc] += len;
}

bool
qos_throttled(const struct ifnet *ifp, int svc)
{
	return svc == SVC_BK_SYS && ifp->if_qos.iq_throttle;
}

bool
qos_refuse(struct stack *s, const struct ifnet *ifp, const struct mbuf *m)
{
	if (!qos_throttled(ifp, m->m_pkthdr.svc)) {
		return false;
	}
	s->s_qos->qs_throttled++;
	return true;
}

bool
qos_fgactive(const struct stack *s, const struct ifnet *ifp)
{
	uint64_t sent = ifp->if_qos.iq_fgsent;

	return sent != 0 && s->s_now - sent < (uint64_t)s->s_qos->qs_bgswitch;
}
