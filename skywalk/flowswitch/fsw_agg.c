/*
 * fsw_agg.c - segments of one TCP flow that came in one burst become one.
 *
 * As hardware would do it (LRO): only segments that follow each other and whose
 * headers differ in nothing but what must differ are joined, so that cutting
 * the result again gives them back. Payload is chained, not copied. Checksums
 * are verified here, for nobody can do that later; an aggregate's is left open
 * (PKT_CSUM_PARTIAL), as a super-segment's must be, so that it may be sent on.
 */
#include "skywalk/flowswitch/fsw.h"

/* The IP header is a plain one. */
static bool
ip_plain(const struct hdr *h, const struct pkt *p)
{
	uint32_t l4 = (uint32_t)h->h_l4 - h->h_l3;

	return l4 == (h->h_version == 4 ? 20u : 40u) && p->p_pktlen == h->h_len;
}

/* p, its link header gone, may begin an aggregate or be joined to one. */
static bool
agg_fit(const struct pkt *p, const struct hdr *h)
{
	uint32_t hdrlen = (uint32_t)h->h_end - h->h_l3;

	return h->h_kind == HDR_FLOW && !h->h_isfrag &&
	    h->h_key.fk_proto == FLOW_IPPROTO_TCP &&
	    p->p_gso_type == PKT_GSO_NONE &&
	    (p->p_flags & PKT_CSUM_PARTIAL) == 0 && h->h_paylen > 0 &&
	    (h->h_flags & ~TH_PSH) == TH_ACK && ip_plain(h, p) &&
	    p->p_len > hdrlen;
}

static bool
csum_good(struct pkt *p, const struct hdr *h)
{
	uint32_t l4 = (uint32_t)h->h_l4 - h->h_l3;
	uint64_t sum;

	if (p->p_flags & PKT_CSUM_VALID) {
		return true;
	}
	sum = fsw_fold(fsw_sum_pkt(p, l4, p->p_pktlen - l4)) +
	    fsw_sum_pseudo(p->p_data, h->h_version, FLOW_IPPROTO_TCP,
		p->p_pktlen - l4);
	if (fsw_fold(sum) != 0xffff) {
		return false;
	}
	p->p_flags |= PKT_CSUM_VALID;
	return true;
}

/* Headers at a and b are those of neighbours: everything is equal but lengths,
 * identification, checksums, sequence number and PSH. */
static bool
same_headers(const uint8_t *a, const uint8_t *b, uint32_t l4, uint32_t end)
{
	const uint8_t *ta = a + l4, *tb = b + l4;

	if (l4 == 20 ? (a[1] != b[1] || memcmp(a + 6, b + 6, 4) != 0 ||
			   memcmp(a + 12, b + 12, 8) != 0) :
		       (memcmp(a, b, 4) != 0 || memcmp(a + 6, b + 6, 34) != 0)) {
		return false;
	}
	return memcmp(ta, tb, 4) == 0 && memcmp(ta + 8, tb + 8, 5) == 0 &&
	    ((ta[13] ^ tb[13]) & ~TH_PSH) == 0 &&
	    memcmp(ta + 14, tb + 14, 2) == 0 &&
	    memcmp(ta + 18, tb + 18, end - l4 - 18) == 0;
}

static bool
agg_continues(const struct fsw *f, const struct fsw_end *e, const struct pkt *p,
    const struct hdr *h)
{
	const struct pkt *a = e->e_agg;
	uint32_t l4 = (uint32_t)h->h_l4 - h->h_l3;
	uint32_t end = (uint32_t)h->h_end - h->h_l3;

	return a != NULL && !e->e_aggshut && a->p_flowid == p->p_flowid &&
	    h->h_seq == e->e_aggseq && l4 == e->e_aggl4 && end == e->e_aggend &&
	    h->h_paylen <= e->e_aggmss &&
	    a->p_pktlen + h->h_paylen <= f->f_aggmax && a->p_svc == p->p_svc &&
	    same_headers(a->p_data, p->p_data, l4, end);
}

static struct pkt *
last_of(struct pkt *p)
{
	while (p->p_next != NULL) {
		p = p->p_next;
	}
	return p;
}

static void
agg_append(struct fsw *f, struct fsw_end *e, struct pkt *p, const struct hdr *h)
{
	struct pkt *a = e->e_agg;
	uint32_t end = (uint32_t)h->h_end - h->h_l3;

	if (e->e_aggtail == NULL) {
		a->p_gso_size = (uint16_t)e->e_aggmss;
		a->p_gso_type =
		    h->h_version == 4 ? PKT_GSO_TCPV4 : PKT_GSO_TCPV6;
		a->p_hdrlen = (uint16_t)end;
		e->e_aggtail = last_of(a);
	}
	a->p_data[e->e_aggl4 + 13] |= h->h_flags & TH_PSH;
	a->p_pktlen += h->h_paylen;
	p->p_data += end;
	p->p_len -= end;
	e->e_aggtail->p_next = p;
	e->e_aggtail = last_of(p);
	e->e_aggseq += h->h_paylen;
	e->e_aggshut = (h->h_flags & TH_PSH) || h->h_paylen < e->e_aggmss;
	fsw_count(f, FS_RX_AGGREGATED, 1);
}

void
agg_flush(struct fsw *f, struct fsw_end *e)
{
	struct pkt *a = e->e_agg;
	uint32_t l4 = e->e_aggl4;
	uint16_t sum;

	if (a == NULL) {
		return;
	}
	e->e_agg = NULL;
	if (e->e_aggtail != NULL) {
		if (l4 == 20) {
			wr16(a->p_data + 2, a->p_pktlen);
			wr16(a->p_data + 10, 0);
			sum = (uint16_t)~fsw_fold(fsw_sum(a->p_data, 20, 0));
			memcpy(a->p_data + 10, &sum, 2);
		} else {
			wr16(a->p_data + 4, a->p_pktlen - 40);
		}
		sum = fsw_fold(fsw_sum_pseudo(a->p_data, l4 == 20 ? 4 : 6,
		    FLOW_IPPROTO_TCP, a->p_pktlen - l4));
		memcpy(a->p_data + l4 + 16, &sum, 2);
		a->p_csum_start = (uint16_t)l4;
		a->p_csum_offset = 16;
		a->p_flags |= PKT_CSUM_PARTIAL;
		e->e_aggtail = NULL;
	}
	fsw_push(f, e, a);
}

bool
agg_join(struct fsw *f, struct fsw_end *e, struct pkt *p, const struct hdr *h)
{
	bool fit = !f->f_noagg && agg_fit(p, h) && csum_good(p, h);

	if (fit && agg_continues(f, e, p, h)) {
		agg_append(f, e, p, h);
		return true;
	}
	agg_flush(f, e);
	if (!fit || (h->h_flags & TH_PSH) || !pkt_writable(p)) {
		return false;
	}
	e->e_agg = p;
	e->e_aggtail = NULL;
	e->e_aggmss = h->h_paylen;
	e->e_aggseq = h->h_seq + h->h_paylen;
	e->e_aggl4 = (uint16_t)(h->h_l4 - h->h_l3);
	e->e_aggend = (uint16_t)(h->h_end - h->h_l3);
	e->e_aggshut = false;
	fsw_touch(f, e);
	return true;
}
