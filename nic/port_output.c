/*
 * port_output.c - the door by which packets leave: it finishes what the port
 * cannot do, and counts.
 *
 * A packet that the port can send as it is goes down in the caller's array;
 * so does one whose checksum could be completed in place. What must become
 * other packets (segments of a super-segment, a flat copy of a chain) is taken
 * from the caller first and then waits in pt_pend, in order, until the port
 * has room: nothing behind it is sent before. So a caller sees the usual
 * contract: the first k are taken, the rest is still his, unchanged but for
 * completed checksums.
 *
 * Without memory for the new packets the old one is dropped and counted, as
 * a full queue would do.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "nic/offload.h"

/* What stands between a packet and the port. */
enum verdict { READY, CUT, FLATTEN, BAD };

static uint32_t
gso_cap(uint8_t type)
{
	switch (type) {
	case PKT_GSO_TCPV4:
		return PORT_TSO4;
	case PKT_GSO_TCPV6:
		return PORT_TSO6;
	case PKT_GSO_UDP_L4:
		return PORT_USO;
	default:
		return 0;
	}
}

static enum verdict
output_judge(struct port *pt, struct pkt *p)
{
	if (p->p_gso_type != PKT_GSO_NONE) {
		uint32_t cap = gso_cap(p->p_gso_type);

		if (cap == 0) {
			return BAD;
		}
		if ((pt->pt_caps & cap) == 0 || p->p_pktlen > pt->pt_gsomax) {
			return CUT;
		}
	}
	if (p->p_next != NULL && (pt->pt_caps & PORT_SG) == 0) {
		return FLATTEN;
	}
	if ((p->p_flags & PKT_CSUM_PARTIAL) != 0 &&
	    (pt->pt_caps & PORT_TXCSUM) == 0) {
		switch (offload_csum(p)) {
		case 0:
			stat_add(&pt->pt_stats.ps_swcsum, 1);
			break;
		case -EBUSY:
			return FLATTEN;
		default:
			return BAD;
		}
	}
	return READY;
}

/* At most PORT_BURST packets into the port. */
static int
output_send(struct port *pt, struct pkt **v, int n, uint64_t now)
{
	struct port_stats *ps = &pt->pt_stats;
	uint64_t lost = ps->ps_txdrops + ps->ps_txerrs, bytes = 0;
	uint32_t len[PORT_BURST];
	int k;

	for (int i = 0; i < n; i++) {
		len[i] = v[i]->p_pktlen; /* gone once they are taken */
	}
	k = pt->pt_ops->po_tx(pt, v, n, now);
	if (k <= 0) {
		return k;
	}
	for (int i = 0; i < k; i++) {
		bytes += len[i];
	}
	lost = ps->ps_txdrops + ps->ps_txerrs - lost;
	stat_add(&ps->ps_txpkts, (uint64_t)k - MIN_OF(lost, (uint64_t)k));
	stat_add(&ps->ps_txbytes, bytes);
	return k;
}

/* Send what waits: 1 when nothing is left, 0 when the port is full, -errno. */
static int
output_pending(struct port *pt, uint64_t now)
{
	uint32_t sent = 0;
	int k = 0;

	while (sent < pt->pt_npend) {
		int n = (int)MIN_OF(pt->pt_npend - sent, PORT_BURST);

		k = output_send(pt, pt->pt_pend + sent, n, now);
		if (k > 0) {
			sent += (uint32_t)k;
		}
		if (k < n) {
			break;
		}
	}
	pt->pt_npend -= sent;
	if (pt->pt_npend == 0) {
		return 1;
	}
	memmove(pt->pt_pend, pt->pt_pend + sent,
	    pt->pt_npend * sizeof(struct pkt *));
	return k < 0 ? k : 0;
}

static int
output_flatten(struct port *pt, struct pkt *p, struct offload_cut *cut)
{
	struct pkt *flat = pkt_flatten(p, pt->pt_pool, pt->pt_headroom);
	int error = 0;

	if (flat == NULL) {
		return -ENOBUFS;
	}
	if ((flat->p_flags & PKT_CSUM_PARTIAL) != 0 &&
	    (pt->pt_caps & PORT_TXCSUM) == 0) {
		error = offload_csum(flat);
		stat_add(&pt->pt_stats.ps_swcsum, error == 0);
	}
	if (error == 0 && !offload_push(cut, flat)) {
		error = -ENOBUFS;
	}
	if (error != 0) {
		pkt_free(flat);
	}
	return error;
}

/* Turn p into packets for the port; p is consumed. */
static void
output_rewrite(struct port *pt, struct pkt *p, enum verdict what)
{
	struct offload_cut cut = { pt->pt_pend, pt->pt_npend, pt->pt_pendcap };
	bool partial = (pt->pt_caps & PORT_TXCSUM) != 0;
	bool sg = (pt->pt_caps & PORT_SG) != 0;
	uint32_t had = cut.sc_n;
	int error = -EINVAL;

	if (what == CUT) {
		error = offload_cut(p, pt->pt_pool, port_l2len(pt),
		    pt->pt_headroom, sg, partial, &cut);
		if (error == 0) {
			stat_add(&pt->pt_stats.ps_swgso, 1);
			stat_add(&pt->pt_stats.ps_swcsum,
			    partial ? 0 : cut.sc_n - had);
		}
	} else if (what == FLATTEN) {
		error = output_flatten(pt, p, &cut);
	}
	pt->pt_pend = cut.sc_v;
	pt->pt_npend = cut.sc_n;
	pt->pt_pendcap = cut.sc_cap;
	if (error == 0) {
		pkt_free(p);
	} else if (error == -ENOBUFS) {
		port_txdrop(pt, p);
	} else {
		port_txerr(pt, p);
	}
}

int
port_output(struct port *pt, struct pkt **v, int n, uint64_t now)
{
	int done = 0, k = 1;

	if (pt->pt_npend > 0) {
		k = output_pending(pt, now);
	}
	while (k > 0 && done < n) {
		enum verdict what = READY;
		int run = 0;

		while (done + run < n && run < PORT_BURST &&
		    (what = output_judge(pt, v[done + run])) == READY) {
			run++;
		}
		if (run > 0) {
			k = output_send(pt, v + done, run, now);
			done += k > 0 ? k : 0;
			if (k < run) {
				break;
			}
		}
		if (what != READY) {
			output_rewrite(pt, v[done], what);
			done++;
			k = output_pending(pt, now);
		}
	}
	return done > 0 || k > 0 ? done : k;
}
