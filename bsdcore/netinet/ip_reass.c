/*
 * ip_reass.c - putting fragments together (RFC 791 3.2, RFC 1122 3.3.2).
 *
 * Unfinished packets hang in a hash by source and in a list by age. All of one
 * source are in one chain, and their number is limited, so a chain stays short
 * whoever sends. Fragments of a packet are kept in order and never overlap: an
 * exact copy is ignored, any other overlap ends the packet (RFC 5722 says why),
 * so the bytes in hand tell when it is whole. Packets, memory, fragments of a
 * packet and packets of a source are limited; at a limit the oldest goes.
 */
#include "bsdcore/net/if.h"
#include "bsdcore/netinet/ip.h"
#include "bsdcore/netinet/ip_icmp.h"
#include "bsdcore/netinet/ip_var.h"

struct ipq {
	TAILQ_ENTRY(ipq) q_hash, q_age;
	struct ipqhead *q_chain;
	uint32_t q_src, q_dst;
	uint16_t q_id;
	uint8_t q_p;
	struct mbuf *q_frags; /* payloads by offset, through m_nextpkt */
	uint32_t q_nfrags;
	uint32_t q_mem;	  /* bytes of mbufs and storage */
	uint32_t q_have;  /* payload bytes in hand */
	uint32_t q_total; /* payload bytes of the packet; 0 unknown */
	uint64_t q_expire;
	uint32_t q_hlen; /* of the first fragment's header; 0 not here */
	uint8_t q_hdr[IP_HDRLEN + IP_MAXOPTLEN];
};

/* A fragment's place is kept where output keeps csum_start. */
static uint32_t
frag_off(const struct mbuf *m)
{
	return m->m_pkthdr.csum_start;
}

static uint32_t
frag_end(const struct mbuf *m)
{
	return m->m_pkthdr.csum_start + m->m_pkthdr.len;
}

static uint32_t
frag_mem(const struct mbuf *m)
{
	uint32_t n = 0;

	for (; m != NULL; m = m->m_next) {
		n += MSIZE + (m->m_flags & M_EXT ? m->m_ext->x_size : 0);
	}
	return n;
}

static void ip_reass_timeout(struct stack *s, void *arg);

void
ip_reass_init(struct stack *s)
{
	struct ip_state *ips = s->s_ip;

	for (uint32_t i = 0; i < IP_NREASSHASH; i++) {
		TAILQ_INIT(&ips->ips_reass[i]);
	}
	TAILQ_INIT(&ips->ips_reassage);
	callout_init(&ips->ips_reasstimer, ip_reass_timeout, NULL);
}

/* Out of the tables; the fragments stay with q. */
static void
ipq_unlink(struct ip_state *ips, struct ipq *q)
{
	TAILQ_REMOVE(q->q_chain, q, q_hash);
	TAILQ_REMOVE(&ips->ips_reassage, q, q_age);
	ips->ips_nreass--;
	ips->ips_reassbytes -= q->q_mem;
}

static void
ipq_drop(struct ip_state *ips, struct ipq *q, uint64_t *counter)
{
	*counter += q->q_nfrags;
	ipq_unlink(ips, q);
	m_freem_list(q->q_frags);
	free(q);
}

void
ip_reass_drain(struct stack *s)
{
	struct ip_state *ips = s->s_ip;
	struct ipq *q;

	while ((q = TAILQ_FIRST(&ips->ips_reassage)) != NULL) {
		ipq_drop(ips, q, &ips->ips_stat.ips_fragdrained);
	}
	callout_stop(&ips->ips_reasstimer);
}

/* Too old. Whoever sent the first fragment is told (RFC 1122 3.3.2). */
static void
ipq_expire(struct stack *s, struct ipq *q)
{
	struct ip_state *ips = s->s_ip;
	struct mbuf *m = q->q_frags;

	if (q->q_hlen != 0) {
		q->q_frags = m->m_nextpkt;
		m->m_nextpkt = NULL;
		m = m_prepend(m, q->q_hlen);
		if (m != NULL) {
			memcpy(m->m_data, q->q_hdr, q->q_hlen);
			icmp_error(s, m, ICMP_TIMXCEED, ICMP_TIMXCEED_REASS, 0);
		}
	}
	ipq_drop(ips, q, &ips->ips_stat.ips_fragtimeout);
}

static void
ip_reass_timeout(struct stack *s, void *arg)
{
	struct ip_state *ips = s->s_ip;
	struct ipq *q;

	(void)arg;
	while ((q = TAILQ_FIRST(&ips->ips_reassage)) != NULL &&
	    q->q_expire <= s->s_now) {
		ipq_expire(s, q);
	}
	if (q != NULL) {
		callout_reset(s, &ips->ips_reasstimer, q->q_expire);
	}
}

/* The packet a fragment belongs to, a new one if need be; NULL no memory. */
static struct ipq *
ipq_find(struct stack *s, const struct ip *ip)
{
	struct ip_state *ips = s->s_ip;
	uint32_t src = ip->ip_src;
	uint64_t h = stack_hash(s, SH_FRAG, &src, sizeof(src));
	struct ipqhead *chain = &ips->ips_reass[h % IP_NREASSHASH];
	struct ipq *q, *oldest = NULL;
	int64_t nsrc = 0;

	TAILQ_FOREACH (q, chain, q_hash) {
		if (q->q_src != src) {
			continue;
		}
		if (q->q_dst == ip->ip_dst && q->q_id == ip->ip_id &&
		    q->q_p == ip->ip_p) {
			return q;
		}
		oldest = oldest != NULL ? oldest : q;
		nsrc++;
	}
	if (nsrc >= ips->ips_maxfragsrc) {
		ipq_drop(ips, oldest, &ips->ips_stat.ips_fragfull);
	}
	q = ips->ips_maxfragpackets > 0 ? calloc(1, sizeof(*q)) : NULL;
	if (q == NULL) {
		return NULL;
	}
	q->q_chain = chain;
	q->q_src = src;
	q->q_dst = ip->ip_dst;
	q->q_id = ip->ip_id;
	q->q_p = ip->ip_p;
	q->q_expire = s->s_now + (uint64_t)ips->ips_fragttl;
	TAILQ_INSERT_TAIL(chain, q, q_hash);
	TAILQ_INSERT_TAIL(&ips->ips_reassage, q, q_age);
	ips->ips_nreass++;
	if (!callout_pending(&ips->ips_reasstimer)) {
		callout_reset(s, &ips->ips_reasstimer, q->q_expire);
	}
	return q;
}

enum frag_fit { FRAG_IN, FRAG_DUP, FRAG_OVERLAP };

/* Put m in its place among the fragments of q. */
static enum frag_fit
ipq_insert(struct ipq *q, struct mbuf *m)
{
	struct mbuf **p = &q->q_frags, *prev = NULL;

	while (*p != NULL && frag_off(*p) < frag_off(m)) {
		prev = *p;
		p = &prev->m_nextpkt;
	}
	if (*p != NULL && frag_off(*p) == frag_off(m) &&
	    frag_end(*p) == frag_end(m)) {
		return FRAG_DUP;
	}
	if ((prev != NULL && frag_end(prev) > frag_off(m)) ||
	    (*p != NULL && frag_off(*p) < frag_end(m))) {
		return FRAG_OVERLAP;
	}
	m->m_nextpkt = *p;
	*p = m;
	q->q_nfrags++;
	q->q_have += m->m_pkthdr.len;
	return FRAG_IN;
}

/* All is here: one packet with the first fragment's header; frees q. */
static struct mbuf *
ipq_finish(struct stack *s, struct ipq *q)
{
	struct ip_state *ips = s->s_ip;
	struct mbuf *m = q->q_frags, *next, *last, *n;
	struct ip *ip;

	ipq_unlink(ips, q);
	next = m->m_nextpkt;
	m->m_nextpkt = NULL;
	last = m_last(m);
	while ((n = next) != NULL) {
		next = n->m_nextpkt;
		n->m_nextpkt = NULL;
		m->m_pkthdr.len += n->m_pkthdr.len;
		n->m_flags &= (uint16_t)~M_PKTHDR;
		last->m_next = n;
		last = m_last(n);
	}
	m->m_pkthdr.csum_start = 0;
	m->m_pkthdr.csum_flags = CSUM_IP_VALID;
	m->m_flags |= M_FRAG;
	m = m_prepend(m, q->q_hlen);
	if (m == NULL) {
		ips->ips_stat.ips_nomem++;
		free(q);
		return NULL;
	}
	memcpy(m->m_data, q->q_hdr, q->q_hlen);
	ip = mtod(m, struct ip *);
	ip->ip_len = htons((uint16_t)m->m_pkthdr.len);
	ip->ip_off = 0;
	ip->ip_sum = 0;
	ips->ips_stat.ips_reassembled++;
	free(q);
	return m;
}

/* Do offset and length make sense, alone and with what q knows? */
static bool
frag_check(const struct ipq *q, const struct ip *ip, uint32_t off, uint32_t len,
    bool more)
{
	uint32_t hlen = q->q_hlen != 0 ? q->q_hlen : ip_hlen(ip);

	if (off + len + hlen > IP_MAXPACKET) {
		return false;
	}
	if (q->q_total != 0) {
		return more ? off + len < q->q_total : off + len == q->q_total;
	}
	if (!more) { /* the end must be behind all others */
		const struct mbuf *m = q->q_frags;

		while (m != NULL && m->m_nextpkt != NULL) {
			m = m->m_nextpkt;
		}
		return m == NULL || frag_end(m) <= off;
	}
	return true;
}

/* Make room at the limits, but never by dropping q itself. */
static void
reass_limit(struct stack *s, const struct ipq *q)
{
	struct ip_state *ips = s->s_ip;
	struct ipq *old;

	while ((old = TAILQ_FIRST(&ips->ips_reassage)) != NULL && old != q &&
	    (ips->ips_nreass > ips->ips_maxfragpackets ||
		ips->ips_reassbytes > ips->ips_maxfragbytes)) {
		ipq_drop(ips, old, &ips->ips_stat.ips_fragfull);
	}
}

static struct mbuf *
reass_add(struct stack *s, struct ipq *q, struct mbuf *m)
{
	struct ip_state *ips = s->s_ip;
	struct ip ip;
	uint32_t hlen, off, len, mem;
	bool more;

	memcpy(&ip, m->m_data, sizeof(ip));
	hlen = ip_hlen(&ip);
	off = (uint32_t)(ntohs(ip.ip_off) & IP_OFFMASK) << 3;
	more = (ip.ip_off & htons(IP_MF)) != 0;
	len = m->m_pkthdr.len - hlen;
	if (!frag_check(q, &ip, off, len, more)) {
		ips->ips_stat.ips_fragbad++;
		m_freem(m);
		ipq_drop(ips, q, &ips->ips_stat.ips_fragbad);
		return NULL;
	}
	if (off == 0 && q->q_hlen == 0) {
		memcpy(q->q_hdr, m->m_data, hlen);
	}
	m_adj(m, (int32_t)hlen);
	m->m_pkthdr.csum_start = (uint16_t)off;
	switch (ipq_insert(q, m)) {
	case FRAG_DUP:
		ips->ips_stat.ips_fragdup++;
		m_freem(m);
		return NULL;
	case FRAG_OVERLAP:
		ips->ips_stat.ips_fragoverlap++;
		m_freem(m);
		ipq_drop(ips, q, &ips->ips_stat.ips_fragoverlap);
		return NULL;
	case FRAG_IN:
		break;
	}
	if (off == 0) {
		q->q_hlen = hlen;
	}
	if (!more) {
		q->q_total = off + len;
	}
	mem = frag_mem(m);
	q->q_mem += mem;
	ips->ips_reassbytes += mem;
	if (q->q_total != 0 && q->q_have == q->q_total) {
		return ipq_finish(s, q);
	}
	if (q->q_nfrags >= ips->ips_maxfrags) {
		ipq_drop(ips, q, &ips->ips_stat.ips_fragtoomany);
		return NULL;
	}
	reass_limit(s, q);
	if (ips->ips_reassbytes > ips->ips_maxfragbytes) {
		ipq_drop(ips, q, &ips->ips_stat.ips_fragfull);
	}
	return NULL;
}

struct mbuf *
ip_reass(struct stack *s, struct mbuf *m)
{
	struct ip_state *ips = s->s_ip;
	const struct ip *ip = mtod(m, const struct ip *);
	uint32_t len = m->m_pkthdr.len - ip_hlen(ip);
	struct ipq *q;

	ips->ips_stat.ips_fragments++;
	if (len == 0 || ((ip->ip_off & htons(IP_MF)) != 0 && len % 8 != 0)) {
		ips->ips_stat.ips_fragbad++;
		m_freem(m);
		return NULL;
	}
	q = ipq_find(s, ip);
	if (q == NULL) {
		ips->ips_stat.ips_fragfull++;
		m_freem(m);
		return NULL;
	}
	return reass_add(s, q, m);
}
