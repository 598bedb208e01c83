/*
 * fsw_frag.c - fragments wait for the one that has the ports.
 *
 * Only the first fragment of a datagram says whose it is. Others are held until
 * it has come; if it is HOST's, they and all that follow go there at once, for
 * HOST reassembles by itself. If it is a client's they are held until none is
 * missing and then go up in order, so that a client never waits for memory that
 * it cannot bound. Fragments that overlap are dropped, all of them (RFC 5722).
 *
 * What is held is bounded, and the oldest datagram makes room.
 */
#include "skywalk/flowswitch/fsw.h"

#include <stdlib.h>

#define FRAG_DATAGRAMS 64
#define FRAG_PACKETS 1024
#define FRAG_WAIT 30000000000u /* ns, RFC 1122: 60 to 120 s; XNU: 30 s */
#define DATAGRAM_MAX 65535

struct fragment {
	struct fragment *fg_next; /* by offset */
	struct pkt *fg_pkt;
	uint32_t fg_off, fg_len;
	uint16_t fg_l3;
	bool fg_more;
};

struct datagram {
	TAILQ_ENTRY(datagram) dg_link; /* oldest first */
	struct flow_key dg_key;	       /* ports only with the first fragment */
	uint32_t dg_id;
	uint64_t dg_since;
	struct fragment *dg_list;
	uint32_t dg_count;
	bool dg_first;	  /* dg_key has ports */
	bool dg_host;	  /* HOST's */
	bool dg_poisoned; /* overlapped: nothing of it is believed */
};

struct frag_table {
	TAILQ_HEAD(, datagram) ft_list;
	uint32_t ft_datagrams;
};

static void
datagram_empty(struct fsw *f, struct datagram *dg, enum fsw_stat why)
{
	struct fragment *fg;

	while ((fg = dg->dg_list) != NULL) {
		dg->dg_list = fg->fg_next;
		fsw_drop(f, fg->fg_pkt, why);
		free(fg);
	}
	f->f_nfrags -= dg->dg_count;
	dg->dg_count = 0;
}

static void
datagram_free(struct fsw *f, struct datagram *dg, enum fsw_stat why)
{
	datagram_empty(f, dg, why);
	TAILQ_REMOVE(&f->f_frags->ft_list, dg, dg_link);
	f->f_frags->ft_datagrams--;
	free(dg);
}

static struct datagram *
datagram_find(struct fsw *f, const struct hdr *h)
{
	struct datagram *dg;

	TAILQ_FOREACH (dg, &f->f_frags->ft_list, dg_link) {
		if (dg->dg_id == h->h_fragid &&
		    dg->dg_key.fk_proto == h->h_key.fk_proto &&
		    addr_eq(dg->dg_key.fk_laddr, h->h_key.fk_laddr) &&
		    addr_eq(dg->dg_key.fk_faddr, h->h_key.fk_faddr)) {
			break;
		}
	}
	return dg;
}

static struct datagram *
datagram_make(struct fsw *f, const struct hdr *h)
{
	struct frag_table *ft = f->f_frags;
	struct datagram *dg = calloc(1, sizeof(*dg));

	if (dg == NULL) {
		return NULL;
	}
	if (ft->ft_datagrams == FRAG_DATAGRAMS) {
		datagram_free(f, TAILQ_FIRST(&ft->ft_list), FS_FRAG_FULL);
	}
	dg->dg_key = h->h_key;
	dg->dg_key.fk_lport = dg->dg_key.fk_fport = 0;
	dg->dg_id = h->h_fragid;
	dg->dg_since = f->f_now;
	TAILQ_INSERT_TAIL(&ft->ft_list, dg, dg_link);
	ft->ft_datagrams++;
	if (f->f_tick > f->f_now + FSW_TICK) {
		f->f_tick = f->f_now + FSW_TICK;
	}
	return dg;
}

/* 1: p is in its place. 0: it repeats what is there. -1: it overlaps. */
static int
datagram_insert(struct datagram *dg, struct fragment *new)
{
	struct fragment **at = &dg->dg_list, *before = NULL;
	uint32_t end = new->fg_off + new->fg_len;

	while (*at != NULL && (*at)->fg_off < new->fg_off) {
		before = *at;
		at = &before->fg_next;
	}
	if (*at != NULL && (*at)->fg_off == new->fg_off &&
	    (*at)->fg_len == new->fg_len && (*at)->fg_more == new->fg_more) {
		return 0;
	}
	if ((before != NULL &&
		(before->fg_off + before->fg_len > new->fg_off ||
		    !before->fg_more)) ||
	    (*at != NULL && (end > (*at)->fg_off || !new->fg_more))) {
		return -1;
	}
	new->fg_next = *at;
	*at = new;
	dg->dg_count++;
	return 1;
}

static bool
datagram_whole(const struct datagram *dg)
{
	uint32_t off = 0;

	for (const struct fragment *fg = dg->dg_list; fg != NULL;
	    fg = fg->fg_next) {
		if (fg->fg_off != off) {
			return false;
		}
		off += fg->fg_len;
		if (fg->fg_next == NULL) {
			return !fg->fg_more;
		}
	}
	return false;
}

/* Everything held goes up: to fl's owner, or to HOST. */
static void
datagram_release(struct fsw *f, struct datagram *dg, struct flow *fl)
{
	struct fragment *fg;
	struct hdr h;

	memset(&h, 0, offsetof(struct hdr, h_copy));
	h.h_kind = HDR_FRAGMENT;
	h.h_key = dg->dg_key;
	f->f_nfrags -= dg->dg_count;
	dg->dg_count = 0;
	while ((fg = dg->dg_list) != NULL) {
		dg->dg_list = fg->fg_next;
		h.h_l3 = fg->fg_l3;
		if (fl == NULL || !fsw_deliver(f, fl, fg->fg_pkt, &h)) {
			fsw_tohost(f, fg->fg_pkt, fg->fg_l3 != 0);
		}
		free(fg);
	}
}

/* Whether the ring of fl's owner has room for all of dg. */
static bool
datagram_fits(struct fsw *f, const struct datagram *dg, const struct flow *fl)
{
	struct fsw_end *e =
	    fl->fl_owner != NULL ? fl->fl_owner->no_end[f->f_index] : NULL;

	if (e == NULL) {
		return true;
	}
	agg_flush(f, e);
	return ring_room(&e->e_ring) >= dg->dg_count;
}

/* Look what dg has become. */
static void
datagram_settle(struct fsw *f, struct datagram *dg)
{
	struct hdr h;
	struct flow *fl;

	if (!dg->dg_first) {
		return;
	}
	memset(&h, 0, offsetof(struct hdr, h_copy));
	h.h_key = dg->dg_key;
	fl = dg->dg_key.fk_lport != 0 ? fsw_owner(f, &h) : NULL;
	if (fl == NULL) {
		dg->dg_host = true;
		datagram_release(f, dg, NULL);
		return;
	}
	if (!datagram_whole(dg)) {
		return;
	}
	if (!datagram_fits(f, dg, fl)) {
		datagram_free(f, dg, FS_RX_DST_RING_FULL);
		return;
	}
	fsw_count(f, FS_FRAG_DONE, 1);
	datagram_release(f, dg, fl);
	datagram_free(f, dg, FS_FRAG_DONE);
}

/* p becomes part of dg, or is dropped. */
static void
datagram_add(struct fsw *f, struct datagram *dg, struct pkt *p,
    const struct hdr *h)
{
	struct fragment *fg = calloc(1, sizeof(*fg));
	int how;

	if (fg == NULL) {
		fsw_drop(f, p, FS_FRAG_FULL);
		return;
	}
	fg->fg_pkt = p;
	fg->fg_off = h->h_fragoff;
	fg->fg_len = h->h_fraglen;
	fg->fg_l3 = h->h_l3;
	fg->fg_more = h->h_more;
	how = datagram_insert(dg, fg);
	if (how <= 0) {
		free(fg);
		fsw_drop(f, p, FS_FRAG_OVERLAP);
		if (how < 0) {
			datagram_empty(f, dg, FS_FRAG_OVERLAP);
			dg->dg_poisoned = true;
		}
		return;
	}
	f->f_nfrags++;
	fsw_count(f, FS_FRAG_HELD, 1);
	if (h->h_fragoff == 0) {
		dg->dg_first = true;
		if (h->h_kind == HDR_FLOW) {
			dg->dg_key = h->h_key;
		}
	}
	datagram_settle(f, dg);
}

void
frag_input(struct fsw *f, struct pkt *p, const struct hdr *h)
{
	struct datagram *dg;

	if (h->h_fraglen == 0 || (h->h_more && h->h_fraglen % 8 != 0) ||
	    h->h_fragoff + h->h_fraglen > DATAGRAM_MAX) {
		fsw_drop(f, p, FS_FRAG_BAD);
		return;
	}
	if (f->f_frags == NULL) {
		f->f_frags = calloc(1, sizeof(*f->f_frags));
		if (f->f_frags == NULL) {
			fsw_drop(f, p, FS_FRAG_FULL);
			return;
		}
		TAILQ_INIT(&f->f_frags->ft_list);
	}
	dg = datagram_find(f, h);
	while (f->f_nfrags >= FRAG_PACKETS) {
		struct datagram *old = TAILQ_FIRST(&f->f_frags->ft_list);

		dg = old == dg ? NULL : dg;
		datagram_free(f, old, FS_FRAG_FULL);
	}
	if (dg == NULL) {
		dg = datagram_make(f, h);
	}
	if (dg == NULL || dg->dg_poisoned) {
		fsw_drop(f, p, dg == NULL ? FS_FRAG_FULL : FS_FRAG_OVERLAP);
	} else if (dg->dg_host) {
		fsw_tohost(f, p, h->h_l3 != 0);
	} else {
		datagram_add(f, dg, p, h);
	}
}

void
frag_expire(struct fsw *f, bool all)
{
	struct datagram *dg;

	if (f->f_frags == NULL) {
		return;
	}
	while ((dg = TAILQ_FIRST(&f->f_frags->ft_list)) != NULL &&
	    (all || f->f_now - dg->dg_since >= FRAG_WAIT)) {
		datagram_free(f, dg, FS_FRAG_TIMEOUT);
	}
	if (TAILQ_EMPTY(&f->f_frags->ft_list)) {
		free(f->f_frags);
		f->f_frags = NULL;
	}
}
