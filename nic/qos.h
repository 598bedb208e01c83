/*
 * qos.h - the ten service classes, and every number that stands for one.
 *
 * A packet carries its class in p_svc as an index of this table (SVC_*), which
 * is XNU's SCIDX; signalling, which shares queue and code point with
 * interactive video inside XNU, has an index of its own here because its DSCP
 * differs. Whoever makes packets says the class; class queues schedule by it.
 *
 * Inbound code points give a class for information only, and never more than
 * best effort's rights: a peer may ask for less, not for more.
 */
#ifndef NIC_QOS_H
#define NIC_QOS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SVC_BE 0     /* best effort */
#define SVC_BK_SYS 1 /* background that nobody waits for */
#define SVC_BK 2     /* background */
#define SVC_RD 3     /* responsive data */
#define SVC_OAM 4    /* operations, administration, management */
#define SVC_AV 5     /* streaming audio and video */
#define SVC_RV 6     /* responsive audio and video */
#define SVC_VI 7     /* interactive video */
#define SVC_VO 8     /* interactive voice */
#define SVC_CTL 9    /* network control */
#define SVC_SIG 10   /* signalling; queued as VI */
#define SVC_COUNT 11
#define SVC_QUEUES 10 /* class queues; 0 is served first */

/* How an interface writes classes into IP headers. */
#define QOSMARK_OFF 0
#define QOSMARK_FASTLANE 1
#define QOSMARK_RFC4594 2

/* Access categories of IEEE 802.11e. */
#define WMM_BE 0
#define WMM_BK 1
#define WMM_VI 2
#define WMM_VO 3

struct svc_class {
	const char *sv_name;
	uint32_t sv_sc;	     /* MBUF_SC_*, PKT_SC_* */
	int16_t sv_sotc;     /* SO_TRAFFIC_CLASS */
	int8_t sv_nst;	     /* SO_NET_SERVICE_TYPE, -1: has none */
	uint8_t sv_queue;    /* class queue */
	uint8_t sv_wmm;	     /* WMM_* */
	uint8_t sv_fastlane; /* DSCP */
	uint8_t sv_rfc4594;  /* DSCP */
};

/* By SVC_*; NULL: no such class. */
static inline const struct svc_class *
svc_class(int svc)
{
	/* clang-format off */
	static const struct svc_class classes[SVC_COUNT] = {
		[SVC_BE]     = { "BE",     0x00000000,     0,  0, 7, WMM_BE,  0,  0 },
		[SVC_BK_SYS] = { "BK_SYS", 0x00080090,   100, -1, 9, WMM_BK, 10,  8 },
		[SVC_BK]     = { "BK",     0x00100080,   200,  1, 8, WMM_BK, 10,  8 },
		[SVC_RD]     = { "RD",     0x00180010,   300,  8, 6, WMM_BE, 18, 18 },
		[SVC_OAM]    = { "OAM",    0x00200020,   400,  7, 5, WMM_BE, 16, 16 },
		[SVC_AV]     = { "AV",     0x00280120,   500,  6, 4, WMM_VI, 26, 26 },
		[SVC_RV]     = { "RV",     0x00300110,   600,  5, 3, WMM_VI, 32, 32 },
		[SVC_VI]     = { "VI",     0x00380100,   700,  3, 2, WMM_VI, 34, 34 },
		[SVC_VO]     = { "VO",     0x00400180,   800,  4, 1, WMM_VO, 46, 46 },
		[SVC_CTL]    = { "CTL",    0x00480190,   900, -1, 0, WMM_VO,  0, 48 },
		[SVC_SIG]    = { "SIG",    0x00380130, 10002,  2, 2, WMM_VI, 24, 40 },
	};
	/* clang-format on */

	return svc >= 0 && svc < SVC_COUNT ? &classes[svc] : NULL;
}

/* The class queue of a packet; what makes no sense is best effort. */
static inline unsigned
svc_queue(unsigned svc)
{
	return svc_class(svc < SVC_COUNT ? (int)svc : SVC_BE)->sv_queue;
}

/* SVC_* of a SO_TRAFFIC_CLASS value, or -1. */
static inline int
svc_of_sotc(int sotc)
{
	for (int i = 0; i < SVC_COUNT; i++) {
		if (svc_class(i)->sv_sotc == sotc) {
			return i;
		}
	}
	return -1;
}

/* SVC_* of a SO_NET_SERVICE_TYPE value, or -1. */
static inline int
svc_of_nst(int nst)
{
	for (int i = 0; i < SVC_COUNT && nst >= 0; i++) {
		if (svc_class(i)->sv_nst == nst) {
			return i;
		}
	}
	return -1;
}

/* The code point of a class under a marking mode (QOSMARK_*). */
static inline uint8_t
svc_dscp(int svc, int mode)
{
	const struct svc_class *c = svc_class(svc);

	if (c == NULL || mode == QOSMARK_OFF) {
		return 0;
	}
	return mode == QOSMARK_FASTLANE ? c->sv_fastlane : c->sv_rfc4594;
}

/* Access category of a received code point (XNU's default map). */
static inline unsigned
svc_wmm_of_dscp(unsigned dscp)
{
	switch ((dscp & 0x3f) >> 3) {
	case 1:
	case 2:
		return WMM_BK;
	case 4:
	case 5:
		return WMM_VI;
	case 6:
	case 7:
		return WMM_VO;
	default:
		return WMM_BE;
	}
}

/* The class that a received code point may stand for: BK or BE, for the
 * sender cannot raise itself here. */
static inline int
svc_of_dscp(unsigned dscp)
{
	return svc_wmm_of_dscp(dscp) == WMM_BK ? SVC_BK : SVC_BE;
}

/* What is left of a class for somebody who may not mark: BE, BK or CTL. */
static inline int
svc_clamp(int svc)
{
	switch (svc) {
	case SVC_BK_SYS:
	case SVC_BK:
		return SVC_BK;
	case SVC_CTL:
		return SVC_CTL;
	default:
		return SVC_BE;
	}
}

static inline bool
svc_isbackground(int svc)
{
	return svc == SVC_BK || svc == SVC_BK_SYS;
}

#endif
