/*
 * flow_track.c - what an onlooker knows of a TCP connection.
 *
 * Only so much that, when the owner dies, the peer can be sent a RST that it
 * believes, and that a connection which is over is left in peace. What comes
 * from the wire is believed loosely: a segment must acknowledge something that
 * was sent, and a RST lie near what we expect.
 */
#include "skywalk/flowswitch/fsw_parse.h"
#include "skywalk/flowswitch/netns.h"

#define SEQ_GT(a, b) ((int32_t)((a) - (b)) > 0)
#define SEQ_NEAR (1 << 24) /* a window that anybody may have */

static bool
track_plausible(const struct track *tk, const struct hdr *h)
{
	int32_t off;

	if ((h->h_flags & TH_ACK) && tk->tk_tx &&
	    SEQ_GT(h->h_ack, tk->tk_txend)) {
		return false;
	}
	if (tk->tk_txacked) {
		off = (int32_t)(h->h_seq - tk->tk_txack);
		return off > -SEQ_NEAR && off < SEQ_NEAR;
	}
	return !(h->h_flags & TH_RST) || (h->h_flags & TH_ACK);
}

void
track_segment(struct track *tk, const struct hdr *h, bool sent)
{
	uint32_t end = h->h_seq + h->h_paylen + ((h->h_flags & TH_SYN) != 0) +
	    ((h->h_flags & TH_FIN) != 0);
	uint32_t *top = sent ? &tk->tk_txend : &tk->tk_rxend;
	bool *seen = sent ? &tk->tk_tx : &tk->tk_rx;

	if (!sent && !track_plausible(tk, h)) {
		return;
	}
	if (h->h_flags & TH_RST) {
		tk->tk_state = TRACK_RESET;
		return;
	}
	if (!*seen || SEQ_GT(end, *top)) {
		*top = end;
		*seen = true;
	}
	if (h->h_flags & TH_ACK) {
		uint32_t *ack = sent ? &tk->tk_txack : &tk->tk_rxack;
		bool *acked = sent ? &tk->tk_txacked : &tk->tk_rxacked;

		if (!*acked || SEQ_GT(h->h_ack, *ack)) {
			*ack = h->h_ack;
			*acked = true;
		}
	}
	if (h->h_flags & TH_SYN) {
		if (tk->tk_state == TRACK_NONE) {
			tk->tk_state = TRACK_OPENING;
		}
	} else if (tk->tk_state < TRACK_OPEN) {
		tk->tk_state = TRACK_OPEN;
	}
	if (h->h_flags & TH_FIN) {
		*(sent ? &tk->tk_txfin : &tk->tk_rxfin) = true;
		if (tk->tk_state < TRACK_CLOSING) {
			tk->tk_state = TRACK_CLOSING;
		}
	}
	if (tk->tk_txfin && tk->tk_rxfin && tk->tk_rxack == tk->tk_txend &&
	    tk->tk_txack == tk->tk_rxend) {
		tk->tk_state = TRACK_CLOSED;
	}
}

bool
track_alive(const struct track *tk)
{
	return tk->tk_state > TRACK_NONE && tk->tk_state < TRACK_CLOSED;
}
