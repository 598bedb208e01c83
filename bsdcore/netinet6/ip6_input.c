/*
 * ip6_input.c - the door of IPv6: every packet is checked here, once.
 *
 * Extension headers are walked, their options judged by the rules of RFC 8200
 * 4.2, and skipped. Fragments are counted and dropped, and nothing is
 * forwarded: what is here carries IPv6 within the stack.
 */
#include "bsdcore/net/if.h"
#include "bsdcore/netinet/in_pcb.h"
#include "bsdcore/netinet/tcp_var.h"
#include "bsdcore/netinet6/ip6_var.h"

/* ---- the header chain ---- */

void
ip6_walk_start(struct ip6_walk *w, const struct mbuf *m, uint32_t off,
    uint32_t end)
{
	w->iw_nxtoff = off + offsetof(struct ip6_hdr, ip6_nxt);
	w->iw_off = off + IP6_HDRLEN;
	w->iw_end = end;
	w->iw_len = 0;
	w->iw_count = 0;
	m_copydata(m, w->iw_nxtoff, 1, &w->iw_nxt);
}

enum ip6_step
ip6_walk_look(struct ip6_walk *w, const struct mbuf *m)
{
	uint8_t len;

	if (w->iw_nxt != IPPROTO_HOPOPTS && w->iw_nxt != IPPROTO_ROUTING &&
	    w->iw_nxt != IPPROTO_DSTOPTS) {
		return IP6_UPPER;
	}
	if (w->iw_count++ == IP6_MAXEXT || w->iw_end - w->iw_off < 8) {
		return IP6_BAD;
	}
	m_copydata(m, w->iw_off + 1, 1, &len);
	w->iw_len = ((uint32_t)len + 1) * 8;
	return w->iw_len <= w->iw_end - w->iw_off ? IP6_EXT : IP6_BAD;
}

void
ip6_walk_next(struct ip6_walk *w, const struct mbuf *m)
{
	w->iw_nxtoff = w->iw_off;
	m_copydata(m, w->iw_off, 1, &w->iw_nxt);
	w->iw_off += w->iw_len;
}

void
ip6_saveexthdrs(const struct inpcb *inp, const struct mbuf *m,
    struct mbuf ***tail)
{
	struct ip6_walk w;
	uint8_t buf[2048];

	if (!(inp->inp_flags &
		(INP_RECVRTHDR6 | INP_RECVHOPOPTS6 | INP_RECVDSTOPTS6))) {
		return;
	}
	ip6_walk_start(&w, m, 0, m->m_pkthdr.len);
	while (ip6_walk_look(&w, m) == IP6_EXT) {
		uint32_t bit = w.iw_nxt == IPPROTO_HOPOPTS ? INP_RECVHOPOPTS6 :
		    w.iw_nxt == IPPROTO_ROUTING		   ? INP_RECVRTHDR6 :
							     INP_RECVDSTOPTS6;
		int type = w.iw_nxt == IPPROTO_HOPOPTS ? IPV6_HOPOPTS :
		    w.iw_nxt == IPPROTO_ROUTING	       ? IPV6_RTHDR :
							 IPV6_DSTOPTS;

		if (inp->inp_flags & bit) {
			struct mbuf *c;

			m_copydata(m, w.iw_off, w.iw_len, buf);
			c = sbcreatecontrol(m->m_pool, buf, w.iw_len, type,
			    IPPROTO_IPV6);
			if (c != NULL) {
				**tail = c;
				*tail = &c->m_next;
			}
		}
		ip6_walk_next(&w, m);
	}
}

static void
ip6_drop(struct mbuf *m, uint64_t *counter)
{
	(*counter)++;
	m_freem(m);
}

/* The options of a hop-by-hop or destination header. false: m is gone. */
static bool
ip6_options(struct stack *s, struct mbuf *m, const struct ip6_walk *w)
{
	struct ip_stat *st = &s->s_ip->ips_stat;
	uint32_t at = w->iw_off + 2, end = w->iw_off + w->iw_len;

	while (at < end) {
		uint8_t opt[2] = { 0, 0 };

		m_copydata(m, at, u32min(2, end - at), opt);
		if (opt[0] == IP6OPT_PAD1) {
			at++;
			continue;
		}
		if (end - at < 2 || opt[1] > end - at - 2) {
			st->ips6_badext++;
			icmp6_send_error(s, m, ICMP6_PARAM_PROB,
			    ICMP6_PARAM_HEADER, at);
			return false;
		}
		if (opt[0] != IP6OPT_PADN &&
		    IP6OPT_ACTION(opt[0]) != IP6OPT_SKIP) {
			st->ips6_optdrop++;
			if (IP6OPT_ACTION(opt[0]) == IP6OPT_ICMP ||
			    (IP6OPT_ACTION(opt[0]) == IP6OPT_ICMPUNI &&
				!(m->m_flags & M_MCAST))) {
				icmp6_send_error(s, m, ICMP6_PARAM_PROB,
				    ICMP6_PARAM_OPTION, at);
			} else {
				m_freem(m);
			}
			return false;
		}
		at += 2u + opt[1];
	}
	return true;
}

/* An extension header: false, m is gone. */
static bool
ip6_extension(struct stack *s, struct mbuf *m, const struct ip6_walk *w)
{
	struct ip_stat *st = &s->s_ip->ips_stat;
	uint8_t segleft;

	if (w->iw_nxt == IPPROTO_ROUTING) {
		m_copydata(m, w->iw_off + 3, 1, &segleft);
		if (segleft != 0) { /* no type is followed (RFC 5095) */
			st->ips6_badext++;
			icmp6_send_error(s, m, ICMP6_PARAM_PROB,
			    ICMP6_PARAM_HEADER, w->iw_off + 2);
			return false;
		}
		return true;
	}
	if (w->iw_nxt == IPPROTO_HOPOPTS && w->iw_off != IP6_HDRLEN) {
		st->ips6_badext++;
		icmp6_send_error(s, m, ICMP6_PARAM_PROB, ICMP6_PARAM_NEXTHEADER,
		    w->iw_nxtoff);
		return false;
	}
	return ip6_options(s, m, w);
}

/* ---- the header ---- */

/* Lengths and version. NULL: dropped and counted. */
static struct mbuf *
ip6_check(struct stack *s, struct mbuf *m)
{
	struct ip_stat *st = &s->s_ip->ips_stat;
	const struct ip6_hdr *ip6;
	uint32_t len;

	if (m->m_pkthdr.len < IP6_HDRLEN) {
		ip6_drop(m, &st->ips6_tooshort);
		return NULL;
	}
	if (m->m_len < IP6_HDRLEN && (m = m_pullup(m, IP6_HDRLEN)) == NULL) {
		st->ips_nomem++;
		return NULL;
	}
	ip6 = mtod(m, const struct ip6_hdr *);
	if ((m->m_data[0] >> 4) != 6) {
		ip6_drop(m, &st->ips6_badvers);
		return NULL;
	}
	len = IP6_HDRLEN + ntohs(ip6->ip6_plen);
	if (len > m->m_pkthdr.len) {
		ip6_drop(m, &st->ips6_badlen);
		return NULL;
	}
	if (len < m->m_pkthdr.len) {
		m_adj(m, -(int32_t)(m->m_pkthdr.len - len));
	}
	return m;
}

/* Addresses that must not be in a packet, or not in one from there. Mapped
 * ones would pass for IPv4 behind the filters of IPv4. */
static bool
ip6_badaddrs(const struct mbuf *m, const struct ifnet *ifp,
    const union inaddr *src, const union inaddr *dst)
{
	if (in_ismulticast(src) || in_is4(src) || in_is4(dst) || in_isany(dst)) {
		return true;
	}
	return !(ifp->if_flags & IFF_LOOPBACK_) && !(m->m_flags & M_LOOP) &&
	    (in_isloopback(src) || in_isloopback(dst));
}

static bool
ip6_ours(struct stack *s, struct mbuf *m, const struct ifnet *ifp,
    const union inaddr *dst)
{
	struct ip_stat *st = &s->s_ip->ips_stat;

	if (in_ismulticast(dst)) {
		m->m_flags |= M_MCAST;
		if (if_hasmulti(ifp, dst)) {
			return true;
		}
		st->ips6_notours++;
		return false;
	}
	if (m->m_flags & (M_BCAST | M_MCAST)) {
		st->ips6_linkbcast++;
		return false;
	}
	if ((ifp->if_flags & (IFF_LOOPBACK_ | IFF_ANYIP_)) ||
	    ifa_ifwithaddr(s, dst) != NULL) {
		return true;
	}
	st->ips6_notours++;
	return false;
}

/* To the transport w is at. */
static void
ip6_deliver(struct stack *s, struct mbuf *m, const struct ip6_walk *w)
{
	struct ip_stat *st = &s->s_ip->ips_stat;
	const struct protosw *pr = &inetsw[s->s_ip_protox[w->iw_nxt]];

	if (w->iw_nxt == IPPROTO_FRAGMENT) {
		ip6_drop(m, &st->ips6_fragments);
		return;
	}
	if (w->iw_nxt == IPPROTO_NONE) {
		ip6_drop(m, &st->ips6_noproto);
		return;
	}
	m->m_pkthdr.proto = w->iw_nxt;
	st->ips6_delivered++;
	if (w->iw_nxt == IPPROTO_ICMPV6) {
		rip_deliver(s, m, (int)w->iw_off, w->iw_nxt);
		icmp6_input(s, m, (int)w->iw_off);
	} else if (pr->pr_input == tcp_input || pr->pr_input == udp_input) {
		rip_deliver(s, m, (int)w->iw_off, w->iw_nxt);
		pr->pr_input(s, m, (int)w->iw_off);
	} else if (rip_deliver(s, m, (int)w->iw_off, w->iw_nxt)) {
		m_freem(m);
	} else {
		st->ips6_noproto++;
		icmp6_send_error(s, m, ICMP6_PARAM_PROB, ICMP6_PARAM_NEXTHEADER,
		    w->iw_nxtoff);
	}
}

void
ip6_input(struct stack *s, struct mbuf *m)
{
	struct ip_stat *st = &s->s_ip->ips_stat;
	const struct ifnet *ifp = m->m_pkthdr.rcvif;
	union inaddr src, dst;
	enum ip6_step step;
	struct ip6_walk w;

	st->ips6_total++;
	if ((m = ip6_check(s, m)) == NULL) {
		return;
	}
	in_pktaddrs(m, &src, &dst);
	if (ip6_badaddrs(m, ifp, &src, &dst)) {
		ip6_drop(m, &st->ips6_badsrc);
		return;
	}
	if (!ip6_ours(s, m, ifp, &dst)) {
		m_freem(m);
		return;
	}
	ip6_walk_start(&w, m, 0, m->m_pkthdr.len);
	while ((step = ip6_walk_look(&w, m)) == IP6_EXT) {
		if (!ip6_extension(s, m, &w)) {
			return;
		}
		ip6_walk_next(&w, m);
	}
	if (step == IP6_BAD || w.iw_off > m->m_pkthdr.len) {
		ip6_drop(m, &st->ips6_badext);
		return;
	}
	ip6_deliver(s, m, &w);
}
