/*
 * tcp_dooptions.c - the reader of TCP options.
 *
 * Options come from the wire: every length is checked before use, a bad one
 * ends the reading and keeps what came before it (RFC 9293 MUST-7). Those
 * that belong in a SYN only are ignored elsewhere.
 */
#include "bsdcore/netinet/tcp_var.h"

static void
tcp_opt_sack(struct tcpopt *to, const uint8_t *cp, uint32_t len)
{
	uint32_t n = len / TCPOLEN_SACKBLK;

	if (len == 0 || len % TCPOLEN_SACKBLK != 0) {
		return;
	}
	to->to_flags |= TOF_SACK;
	to->to_nsacks = (uint8_t)u32min(n, TCP_MAXSACK);
	for (uint32_t i = 0; i < to->to_nsacks; i++) {
		to->to_sacks[i].sb_start = be32get(cp + i * TCPOLEN_SACKBLK);
		to->to_sacks[i].sb_end = be32get(cp + i * TCPOLEN_SACKBLK + 4);
	}
}

/* One option of `len` bytes, kind and length included. */
static void
tcp_opt_one(struct tcpopt *to, const uint8_t *cp, uint32_t len, bool syn)
{
	switch (cp[0]) {
	case TCPOPT_KIND_MSS:
		if (syn && len == TCPOLEN_MSS) {
			to->to_flags |= TOF_MSS;
			to->to_mss = be16get(cp + 2);
		}
		break;
	case TCPOPT_KIND_WSCALE:
		if (syn && len == TCPOLEN_WSCALE) {
			to->to_flags |= TOF_WSCALE;
			to->to_wscale = cp[2] > TCP_WSCALEMAX ?
			    TCP_WSCALEMAX :
			    cp[2]; /* RFC 7323 2.3 */
		}
		break;
	case TCPOPT_KIND_SACKOK:
		if (syn && len == TCPOLEN_SACKOK) {
			to->to_flags |= TOF_SACKOK;
		}
		break;
	case TCPOPT_KIND_SACK:
		if (!syn) {
			tcp_opt_sack(to, cp + 2, len - 2);
		}
		break;
	case TCPOPT_KIND_TS:
		if (len == TCPOLEN_TS) {
			to->to_flags |= TOF_TS;
			to->to_tsval = be32get(cp + 2);
			to->to_tsecr = be32get(cp + 6);
		}
		break;
	default:
		break; /* unknown: skipped by its length, MUST-6 */
	}
}

/* Read cnt bytes of options at cp into *to, which is overwritten. */
void
tcp_dooptions(struct tcpopt *to, const uint8_t *cp, uint32_t cnt, bool syn)
{
	to->to_flags = 0;
	to->to_nsacks = 0;
	/* What nearly every segment of a connection carries. */
	if (cnt == TCPOLEN_TSPAD && be32get(cp) == 0x0101080a) {
		to->to_flags = TOF_TS;
		to->to_tsval = be32get(cp + 4);
		to->to_tsecr = be32get(cp + 8);
		return;
	}
	while (cnt > 0 && cp[0] != TCPOPT_KIND_EOL) {
		uint32_t len;

		if (cp[0] == TCPOPT_KIND_NOP) {
			cp++;
			cnt--;
			continue;
		}
		if (cnt < 2 || cp[1] < 2 || cp[1] > cnt) {
			break;
		}
		len = cp[1];
		tcp_opt_one(to, cp, len, syn);
		cp += len;
		cnt -= len;
	}
}
