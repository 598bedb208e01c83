/*
 * api_list.c - what netstat shows: interfaces, routes, neighbours, sockets,
 * memory; and the wait until everything has been sent.
 */
#include "bsdcore/api_sub.h"
#include "bsdcore/net/if.h"
#include "bsdcore/net/route.h"
#include "bsdcore/netinet/tcp_var.h"

static void
addr_out(const union inaddr *ia, struct bsd_addr *a)
{
	memset(a, 0, sizeof(*a));
	if (in_is4(ia)) {
		a->family = AF_INET;
		memcpy(a->addr, &ia->ia_w[3], 4);
	} else {
		a->family = AF_INET6;
		memcpy(a->addr, ia->ia_b, 16);
	}
}

/* Bits of the mapped form to bits of the family. */
static unsigned
plen_out(const union inaddr *ia, unsigned plen)
{
	return in_is4(ia) && plen >= 96 ? plen - 96 : plen;
}

static void
if_fill(const struct ifnet *ifp, struct bsd_ifinfo *v)
{
	const struct ifaddr *ifa;

	memset(v, 0, sizeof(*v));
	snprintf(v->name, sizeof(v->name), "%s", ifp->if_name);
	v->index = ifp->if_index;
	v->flags = ifp->if_flags;
	v->mtu = ifp->if_mtu;
	memcpy(v->lladdr, ifp->if_lladdr, sizeof(v->lladdr));
	v->ipackets = ifp->if_data.ipackets;
	v->ibytes = ifp->if_data.ibytes;
	v->ierrors = ifp->if_data.ierrors;
	v->iqdrops = ifp->if_data.iqdrops;
	v->opackets = ifp->if_data.opackets;
	v->obytes = ifp->if_data.obytes;
	v->oerrors = ifp->if_data.oerrors;
	v->oqdrops = ifp->if_data.oqdrops;
	LIST_FOREACH (ifa, &ifp->if_addrs, ifa_link) {
		if ((size_t)v->naddrs == nitems(v->addrs)) {
			break;
		}
		addr_out(&ifa->ifa_addr, &v->addrs[v->naddrs]);
		v->plen[v->naddrs++] =
		    (unsigned char)plen_out(&ifa->ifa_addr, ifa->ifa_plen);
	}
}

int
bsd_if_list(struct stack *s, struct bsd_ifinfo *v, int n)
{
	const struct ifnet *ifp;
	int count = 0;

	stack_enter(s);
	TAILQ_FOREACH (ifp, &s->s_if->ifs_list, if_link) {
		if (count < n) {
			if_fill(ifp, &v[count]);
		}
		count++;
	}
	stack_leave(s);
	return count;
}

struct rt_fill {
	struct bsd_rtinfo *rf_v;
	int rf_n, rf_count;
};

static bool
rt_fill1(struct rtentry *rt, void *arg)
{
	struct rt_fill *rf = arg;
	struct bsd_rtinfo *v;

	if (rf->rf_count++ >= rf->rf_n) {
		return true;
	}
	v = &rf->rf_v[rf->rf_count - 1];
	memset(v, 0, sizeof(*v));
	addr_out(&rt->rt_dst, &v->dst);
	if (rt->rt_flags & RTF_GATEWAY) {
		addr_out(&rt->rt_gateway, &v->gateway);
	}
	v->plen = plen_out(&rt->rt_dst, rt->rt_plen);
	v->flags = rt->rt_flags;
	v->mtu = rt_getmtu(rt);
	v->use = rt->rt_use;
	v->expire = rt->rt_expire;
	if (rt->rt_ifp != NULL) {
		snprintf(v->ifname, sizeof(v->ifname), "%s",
		    rt->rt_ifp->if_name);
	}
	return true;
}

int
bsd_route_list(struct stack *s, struct bsd_rtinfo *v, int n)
{
	struct rt_fill rf = { v, n, 0 };

	stack_enter(s);
	rt_walk(s, rt_fill1, &rf);
	stack_leave(s);
	return rf.rf_count;
}

struct arp_fill {
	struct bsd_arpinfo *af_v;
	int af_n, af_count;
};

static bool
arp_fill1(const struct arp_entry *ae, void *arg)
{
	struct arp_fill *af = arg;
	struct bsd_arpinfo *v;

	if (af->af_count++ >= af->af_n) {
		return true;
	}
	v = &af->af_v[af->af_count - 1];
	memset(v, 0, sizeof(*v));
	addr_out(&ae->ae_addr, &v->addr);
	memcpy(v->mac, ae->ae_mac, sizeof(v->mac));
	v->state = ae->ae_state;
	snprintf(v->ifname, sizeof(v->ifname), "%s", ae->ae_ifp->if_name);
	return true;
}

int
bsd_arp_list(struct stack *s, struct bsd_arpinfo *v, int n)
{
	struct arp_fill af = { v, n, 0 };

	stack_enter(s);
	arp_walk(s, arp_fill1, &af);
	stack_leave(s);
	return af.af_count;
}

static bool
so_istcp(const struct socket *so)
{
	return so->so_type == SOCK_STREAM && so->so_family != AF_LOCAL;
}

static void
so_fill(struct socket *so, struct bsd_sockinfo *v)
{
	struct sockaddr_storage ss;
	socklen_t len;

	memset(v, 0, sizeof(*v));
	v->id = so->so_user_id;
	v->family = so->so_family;
	v->type = so->so_type;
	v->protocol = so->so_protocol;
	v->state = -1;
	v->rcv_cc = so->so_rcv.sb_cc;
	v->snd_cc = so->so_snd.sb_cc;
	v->rcv_hiwat = so->so_rcv.sb_hiwat;
	v->snd_hiwat = so->so_snd.sb_hiwat;
	v->qlen = so->so_qlen;
	v->incqlen = so->so_incqlen;
	v->qlimit = so->so_qlimit;
	v->pid = so->so_pid;
	v->relay = so->so_relay != NULL;
	if (so->so_pcb == NULL) {
		if (so_istcp(so)) {
			v->state = 0; /* CLOSED */
		}
		return;
	}
	if (PRU(so, sockaddr, &ss, &len) == 0) {
		api_putaddr(&ss, len, &v->local);
	}
	if (PRU(so, peeraddr, &ss, &len) == 0) {
		api_putaddr(&ss, len, &v->remote);
	}
	if (so_istcp(so)) {
		tcp_sockinfo(so, v);
	}
}

int
bsd_sock_list(struct stack *s, struct bsd_sockinfo *v, int n)
{
	struct socket *so;
	int count = 0;

	stack_enter(s);
	LIST_FOREACH (so, &s->s_so->sos_all, so_all) {
		if (count < n) {
			so_fill(so, &v[count]);
		}
		count++;
	}
	stack_leave(s);
	return count;
}

void
bsd_memstat(struct stack *s, struct bsd_memstat *out)
{
	struct mbstat st;

	stack_enter(s);
	mbpool_stat(s->s_mb, &st);
	out->mbufs = st.mbs_mbufs;
	out->cl2k = st.mbs_clusters[0];
	out->cl4k = st.mbs_clusters[1];
	out->cl16k = st.mbs_clusters[2];
	out->cl64k = st.mbs_clusters[3];
	out->foreign = st.mbs_foreign;
	out->bytes = st.mbs_bytes;
	out->limit = st.mbs_limit;
	out->fails = st.mbs_fail;
	out->sockets = s->s_so->sos_count;
	out->callouts = callout_count(s);
	out->lent = mbpool_lent(s->s_mb);
	stack_leave(s);
}

/* Has this connection data or a FIN that the peer has not acknowledged? */
static bool
so_unsent(struct socket *so)
{
	struct bsd_sockinfo v = { .state = 0 };

	if (so->so_pcb == NULL || !so_istcp(so) ||
	    (so->so_options & SOO_ACCEPTCONN)) {
		return false;
	}
	if (so->so_state & SS_ISCONNECTING) {
		return so->so_snd.sb_cc > 0;
	}
	if (so->so_snd.sb_cc > 0) {
		return true;
	}
	tcp_sockinfo(so, &v);
	return v.state == TCPS_FIN_WAIT_1 || v.state == TCPS_CLOSING ||
	    v.state == TCPS_LAST_ACK;
}

static int
count_unsent(struct stack *s)
{
	struct socket *so;
	int n = 0;

	LIST_FOREACH (so, &s->s_so->sos_all, so_all) {
		n += so_unsent(so);
	}
	return n;
}

int
bsd_drain(struct stack *s, int64_t timeout)
{
	uint64_t deadline;
	int n = 0;

	stack_enter(s);
	deadline = api_deadline(s, timeout);
	while (!(s->s_flags & (STACK_DEAD | STACK_DRAINING)) &&
	    (n = count_unsent(s)) > 0 && timeout != 0) {
		int error =
		    waitlist_sleep(s, &s->s_so->sos_drainers, NULL, deadline);

		if (error == EWOULDBLOCK) {
			n = count_unsent(s);
			break;
		}
		if (error != 0) {
			break;
		}
	}
	if (s->s_flags & (STACK_DEAD | STACK_DRAINING)) {
		n = 0;
	}
	stack_leave(s);
	return n;
}
