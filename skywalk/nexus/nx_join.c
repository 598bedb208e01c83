/*
 * nx_join.c - two ports joined back to back: what one receives the other sends.
 *
 * So a stack in another process, on a channel's port, gets a CLIENT port of
 * the flowswitch in this one: here the other end of its channel is joined to
 * that port. Packets are handed on by reference. What a port does not take
 * waits here, and meanwhile nothing more is received for it: a side that does
 * not drain holds one burst and what its own ring holds. Not every port shows
 * by its descriptor that it has room again, so a refusal is also tried again
 * after a while.
 *
 * A flow's id has a meaning only between a stack and the switch that gave it:
 * on the other side it could be that of somebody else's flow. None is handed on.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "nic/port.h"
#include "skywalk/api.h"

#define JOIN_RUNS 16	    /* bursts each way before others get a turn */
#define JOIN_RETRY 1000000u /* ns after which a refusal is tried again */

struct sk_join {
	struct port *jn_port[2];
	struct pkt *jn_wait[2][PORT_BURST]; /* received by i, for the other */
	int jn_nwait[2];
	uint64_t jn_now; /* of the last run */
};

int
sk_join_open(struct port *a, struct port *b, struct sk_join **out)
{
	struct sk_join *jn;

	if (a == b || a->pt_link != b->pt_link) {
		return -EINVAL;
	}
	jn = calloc(1, sizeof(*jn));
	if (jn == NULL) {
		return -ENOMEM;
	}
	jn->jn_port[0] = a;
	jn->jn_port[1] = b;
	*out = jn;
	return 0;
}

/* One burst from port i. Whether anything moved, or a port's error. */
static int
join_burst(struct sk_join *jn, int i, uint64_t now)
{
	struct port *from = jn->jn_port[i], *to = jn->jn_port[1 - i];
	struct pkt **v = jn->jn_wait[i];
	int n = jn->jn_nwait[i], taken;

	if (n == 0) {
		n = from->pt_input(from, v, PORT_BURST, now);
		if (n == 0 && to->pt_npend > 0) {
			n = to->pt_output(to, v, 0, now);
			return n == -EAGAIN || n == -ENOBUFS ? 0 : n;
		}
		if (n <= 0) {
			return n;
		}
		for (int k = 0; k < n; k++) {
			v[k]->p_flags |= PKT_TX;
			v[k]->p_flowid = 0;
		}
	}
	taken = to->pt_output(to, v, n, now);
	if (taken < 0 && taken != -EAGAIN && taken != -ENOBUFS) {
		jn->jn_nwait[i] = n;
		return taken;
	}
	taken = taken < 0 ? 0 : taken;
	memmove(v, v + taken, (size_t)(n - taken) * sizeof(*v));
	jn->jn_nwait[i] = n - taken;
	return taken > 0;
}

int
sk_join_run(struct sk_join *jn, uint64_t now)
{
	jn->jn_now = now;
	for (int turn = 0; turn < JOIN_RUNS; turn++) {
		int a = join_burst(jn, 0, now), b = join_burst(jn, 1, now);

		if (a < 0 || b < 0) {
			return a < 0 ? a : b;
		}
		if (a == 0 && b == 0) {
			return 0;
		}
	}
	return 1;
}

uint64_t
sk_join_poll_at(struct sk_join *jn)
{
	uint64_t at = PORT_NEVER;

	for (int i = 0; i < 2; i++) {
		bool refused =
		    jn->jn_nwait[i] > 0 || jn->jn_port[1 - i]->pt_npend > 0;
		uint64_t t = refused ? jn->jn_now + JOIN_RETRY :
				       port_poll_at(jn->jn_port[i]);

		at = t < at ? t : at;
	}
	return at;
}

void
sk_join_close(struct sk_join *jn)
{
	for (int i = 0; i < 2; i++) {
		for (int k = 0; k < jn->jn_nwait[i]; k++) {
			pkt_free(jn->jn_wait[i][k]);
		}
	}
	free(jn);
}
