/*
 * flow_key.h - names of flows: bytes of the network, addresses, keyed hashes.
 *
 * What is hashed comes from the wire, so the hash is keyed: SipHash-1-3
 * (Aumasson and Bernstein) over words.
 */
#ifndef SKYWALK_FLOWSWITCH_FLOW_KEY_H
#define SKYWALK_FLOWSWITCH_FLOW_KEY_H

#include <string.h>

#include "nic/flow.h"

#define FLOW_IPPROTO_ICMP 1
#define FLOW_IPPROTO_TCP 6
#define FLOW_IPPROTO_UDP 17
#define FLOW_IPPROTO_ICMPV6 58

static inline uint16_t
rd16(const uint8_t *b)
{
	return (uint16_t)(b[0] << 8 | b[1]);
}

static inline uint32_t
rd32(const uint8_t *b)
{
	return (uint32_t)rd16(b) << 16 | rd16(b + 2);
}

static inline void
wr16(uint8_t *b, uint32_t v)
{
	b[0] = (uint8_t)(v >> 8);
	b[1] = (uint8_t)v;
}

static inline void
wr32(uint8_t *b, uint32_t v)
{
	wr16(b, v >> 16);
	wr16(b + 2, v);
}

static inline uint64_t
ldword(const uint8_t *b)
{
	uint64_t w;

	memcpy(&w, b, sizeof(w));
	return w;
}

/* An address in sixteen bytes from the four of IPv4. */
static inline void
addr_map4(uint8_t a[16], const uint8_t *ip4)
{
	static const uint8_t prefix[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff,
		0xff };

	memcpy(a, prefix, sizeof(prefix));
	memcpy(a + 12, ip4, 4);
}

static inline bool
addr_is4(const uint8_t *a)
{
	static const uint8_t prefix[4] = { 0, 0, 0xff, 0xff };

	return ldword(a) == 0 && memcmp(a + 8, prefix, 4) == 0;
}

static inline bool
addr_eq(const uint8_t *a, const uint8_t *b)
{
	return ((ldword(a) ^ ldword(b)) | (ldword(a + 8) ^ ldword(b + 8))) == 0;
}

/* Any address of one family, or of both (all zero). */
static inline bool
addr_any(const uint8_t *a)
{
	static const uint8_t any4[8] = { 0, 0, 0xff, 0xff };

	return ldword(a) == 0 &&
	    (ldword(a + 8) == 0 || memcmp(a + 8, any4, 8) == 0);
}

/* a, which may be any, stands for b too. */
static inline bool
addr_covers(const uint8_t *a, const uint8_t *b)
{
	if (!addr_any(a)) {
		return addr_eq(a, b);
	}
	return !addr_is4(a) || addr_is4(b) || addr_any(b);
}

#define SIP_ROTL(x, b) ((x) << (b) | (x) >> (64 - (b)))

struct siphash {
	uint64_t sh_v[4];
};

static inline void
sip_round(struct siphash *sh)
{
	uint64_t *v = sh->sh_v;

	v[0] += v[1];
	v[1] = SIP_ROTL(v[1], 13) ^ v[0];
	v[0] = SIP_ROTL(v[0], 32);
	v[2] += v[3];
	v[3] = SIP_ROTL(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = SIP_ROTL(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = SIP_ROTL(v[1], 17) ^ v[2];
	v[2] = SIP_ROTL(v[2], 32);
}

static inline void
sip_begin(struct siphash *sh, const uint64_t seed[2])
{
	sh->sh_v[0] = seed[0] ^ 0x736f6d6570736575u;
	sh->sh_v[1] = seed[1] ^ 0x646f72616e646f6du;
	sh->sh_v[2] = seed[0] ^ 0x6c7967656e657261u;
	sh->sh_v[3] = seed[1] ^ 0x7465646279746573u;
}

static inline void
sip_word(struct siphash *sh, uint64_t w)
{
	sh->sh_v[3] ^= w;
	sip_round(sh);
	sh->sh_v[0] ^= w;
}

static inline uint32_t
sip_end(struct siphash *sh)
{
	uint64_t *v = sh->sh_v, h;

	v[2] ^= 0xff;
	sip_round(sh);
	sip_round(sh);
	sip_round(sh);
	h = v[0] ^ v[1] ^ v[2] ^ v[3];
	return (uint32_t)(h ^ h >> 32);
}

static inline void
sip_addr(struct siphash *sh, const uint8_t *a)
{
	sip_word(sh, ldword(a));
	sip_word(sh, ldword(a + 8));
}

/* What a key is compared by, in the order of lookup (XNU's flow masks). */
enum flow_mask {
	FLOW_5TUPLE, /* all of it */
	FLOW_4TUPLE, /* without the foreign address */
	FLOW_3TUPLE, /* local address and port */
	FLOW_2TUPLE, /* local port */
	FLOW_NMASKS,
};

static inline uint32_t
flow_hash(const uint64_t seed[2], const struct flow_key *k, enum flow_mask mask)
{
	struct siphash sh;
	uint64_t ports = (uint64_t)mask << 40 | (uint64_t)k->fk_proto << 32 |
	    (uint32_t)k->fk_lport << 16 |
	    (mask <= FLOW_4TUPLE ? k->fk_fport : 0u);

	sip_begin(&sh, seed);
	sip_word(&sh, ports);
	if (mask == FLOW_5TUPLE && addr_is4(k->fk_laddr)) {
		sip_word(&sh,
		    (uint64_t)rd32(k->fk_laddr + 12) << 32 |
			rd32(k->fk_faddr + 12));
		return sip_end(&sh);
	}
	if (mask <= FLOW_3TUPLE) {
		sip_addr(&sh, k->fk_laddr);
	}
	if (mask == FLOW_5TUPLE) {
		sip_addr(&sh, k->fk_faddr);
	}
	return sip_end(&sh);
}

/* Whether the entry's key e, under mask, is that of k, a packet's. */
static inline bool
flow_match(const struct flow_key *e, const struct flow_key *k,
    enum flow_mask mask)
{
	if (e->fk_lport != k->fk_lport || e->fk_proto != k->fk_proto) {
		return false;
	}
	switch (mask) {
	case FLOW_5TUPLE:
		return e->fk_fport == k->fk_fport &&
		    addr_eq(e->fk_faddr, k->fk_faddr) &&
		    addr_eq(e->fk_laddr, k->fk_laddr);
	case FLOW_4TUPLE:
		return e->fk_fport == k->fk_fport &&
		    addr_eq(e->fk_laddr, k->fk_laddr);
	case FLOW_3TUPLE:
		return addr_eq(e->fk_laddr, k->fk_laddr);
	default:
		return addr_covers(e->fk_laddr, k->fk_laddr);
	}
}

#endif
