/*
 * ladder.c - where a frame of unknown length is read into.
 */
#include "nic/ladder.h"

#include "nic/pkt_pool.h"
#include "nic/port_impl.h"

bool
ladder_fill(struct ladder *ld, struct pkt_pool *pool, uint32_t headroom)
{
	static const uint32_t size[LADDER_RUNGS] = { PKT_SMALL, PKT_MEDIUM,
		PKT_BIG };

	for (int i = 0; i < LADDER_RUNGS; i++) {
		if (ld->ld_rung[i] == NULL) {
			ld->ld_rung[i] =
			    pkt_alloc(pool, size[i], i == 0 ? headroom : 0);
		}
		if (ld->ld_rung[i] == NULL) {
			return false;
		}
	}
	return true;
}

static uint32_t
rung_room(const struct pkt *p)
{
	return p->p_size - (uint32_t)(p->p_data - p->p_buf);
}

uint32_t
ladder_iov(const struct ladder *ld, struct iovec iov[LADDER_RUNGS])
{
	uint32_t room = 0;

	for (int i = 0; i < LADDER_RUNGS; i++) {
		iov[i].iov_base = ld->ld_rung[i]->p_data;
		iov[i].iov_len = rung_room(ld->ld_rung[i]);
		room += (uint32_t)iov[i].iov_len;
	}
	return room;
}

struct pkt *
ladder_take(struct ladder *ld, uint32_t len, uint64_t now)
{
	struct pkt *p = ld->ld_rung[0], **link = &p;

	p->p_time = now;
	p->p_pktlen = len;
	for (int i = 0; i < LADDER_RUNGS && (len > 0 || i == 0); i++) {
		struct pkt *rung = ld->ld_rung[i];

		rung->p_len = MIN_OF(len, rung_room(rung));
		len -= rung->p_len;
		*link = rung;
		link = &rung->p_next;
		ld->ld_rung[i] = NULL;
	}
	return p;
}

void
ladder_free(struct ladder *ld)
{
	for (int i = 0; i < LADDER_RUNGS; i++) {
		pkt_free(ld->ld_rung[i]);
		ld->ld_rung[i] = NULL;
	}
}
