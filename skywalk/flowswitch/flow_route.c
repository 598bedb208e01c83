/*
 * flow_route.c - next hops of clients' packets on an Ethernet.
 *
 * The host stack knows them (its routes, its ARP and ND tables) and is asked
 * through flow_resolver. It has a lock of its own, so it is asked with ours
 * given up, and only by a client's thread, which holds no lock of that stack.
 * An answer is good for ROUTE_FRESH and until the host stack says that something
 * has changed. While a next hop is being looked for, a few packets wait here.
 */
#include "skywalk/flowswitch/fsw.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ROUTE_FRESH 5000000000u /* ns; asking keeps the ARP entry in use */
#define ROUTE_WAIT 3000000000u	/* ns a packet waits at most */
#define ROUTE_MAX (4 * FSW_ROUTES)

static struct flow_route **
route_bucket(struct fsw *f, const uint8_t *dst)
{
	struct siphash sh;

	sip_begin(&sh, f->f_ns->ns_seed);
	sip_addr(&sh, dst);
	return &f->f_route[sip_end(&sh) % FSW_ROUTES];
}

static struct flow_route *
route_find(struct fsw *f, const uint8_t *dst)
{
	struct flow_route *fr = *route_bucket(f, dst);

	while (fr != NULL && !addr_eq(fr->fr_dst, dst)) {
		fr = fr->fr_next;
	}
	return fr;
}

static void
route_drop(struct fsw *f, struct flow_route *fr, enum fsw_stat why)
{
	for (uint32_t i = 0; i < fr->fr_nheld; i++) {
		fsw_drop(f, fr->fr_held[i], why);
	}
	f->f_nheld -= fr->fr_nheld;
	fr->fr_nheld = 0;
}

/* Forget routes for which no packet waits. */
static void
route_sweep(struct fsw *f)
{
	for (int i = 0; i < FSW_ROUTES; i++) {
		struct flow_route **at = &f->f_route[i], *fr;

		while ((fr = *at) != NULL) {
			if (fr->fr_nheld > 0) {
				at = &fr->fr_next;
				continue;
			}
			*at = fr->fr_next;
			free(fr);
			f->f_nroutes--;
		}
	}
}

static struct flow_route *
route_make(struct fsw *f, const uint8_t *dst)
{
	struct flow_route *fr = route_find(f, dst), **to;

	if (fr != NULL) {
		return fr;
	}
	if (f->f_nroutes >= ROUTE_MAX) {
		route_sweep(f);
	}
	if (f->f_nroutes >= ROUTE_MAX) {
		return NULL;
	}
	fr = calloc(1, sizeof(*fr));
	if (fr == NULL) {
		return NULL;
	}
	memcpy(fr->fr_dst, dst, 16);
	to = route_bucket(f, dst);
	fr->fr_next = *to;
	*to = fr;
	f->f_nroutes++;
	return fr;
}

static uint32_t
route_gen(struct fsw *f)
{
	return atomic_load_explicit(&f->f_routegen, memory_order_acquire);
}

/* Groups have addresses that need no asking (RFC 1112, 6.4; RFC 2464, 7). */
static bool
group_mac(const uint8_t *dst, uint8_t mac[6])
{
	static const uint8_t all4[4] = { 255, 255, 255, 255 };

	if (!addr_is4(dst)) {
		if (dst[0] != 0xff) {
			return false;
		}
		mac[0] = mac[1] = 0x33;
		memcpy(mac + 2, dst + 12, 4);
		return true;
	}
	if (memcmp(dst + 12, all4, 4) == 0) {
		memset(mac, 0xff, 6);
		return true;
	}
	if (dst[12] < 224 || dst[12] > 239) {
		return false;
	}
	mac[0] = 0x01;
	mac[1] = 0x00;
	mac[2] = 0x5e;
	mac[3] = dst[13] & 0x7f;
	mac[4] = dst[14];
	mac[5] = dst[15];
	return true;
}

bool
route_peek(struct fsw *f, const uint8_t *dst, uint8_t mac[6])
{
	const struct flow_route *fr;

	if (group_mac(dst, mac)) {
		return true;
	}
	fr = route_find(f, dst);
	if (fr == NULL || fr->fr_state != ROUTE_READY ||
	    fr->fr_gen != route_gen(f) || f->f_now >= fr->fr_stale ||
	    fr->fr_nheld > 0) {
		return false;
	}
	memcpy(mac, fr->fr_mac, 6);
	return true;
}

/* Ask for fr's next hop, f_lock given up meanwhile. Answers as the resolver;
 * ENXIO: the flowswitch is closed now. fr may be gone. */
static int
route_ask(struct fsw *f, const uint8_t *dst)
{
	const struct flow_resolver *r = f->f_resolver;
	uint32_t gen = route_gen(f);
	struct flow_route *fr;
	uint8_t to[16], mac[6] = { 0 };
	int error;

	if (r == NULL) {
		return ENETDOWN;
	}
	memcpy(to, dst, 16);
	fsw_flush(f, NULL); /* what was delivered does not wait for us */
	f->f_resolving++;
	pthread_mutex_unlock(&f->f_lock);
	error = r->fr_resolve(r->fr_arg, to, mac);
	pthread_mutex_lock(&f->f_lock);
	if (--f->f_resolving == 0) {
		pthread_cond_broadcast(&f->f_quiet);
	}
	if (f->f_dev == NULL) {
		return ENXIO;
	}
	fr = route_find(f, to);
	if (fr != NULL && (error == 0 || error == EINPROGRESS)) {
		fr->fr_state = error == 0 ? ROUTE_READY : ROUTE_ASKED;
		fr->fr_gen = gen;
		fr->fr_stale = f->f_now + ROUTE_FRESH;
		memcpy(fr->fr_mac, mac, 6);
	}
	return error;
}

static void
route_release(struct fsw *f, struct flow_route *fr)
{
	struct pkt *out[ROUTE_HOLD];
	int n = 0;

	for (uint32_t i = 0; i < fr->fr_nheld; i++) {
		struct pkt *p =
		    fsw_encap(f, fr->fr_held[i], fr->fr_mac, f->f_dev->pt_mac);

		if (p != NULL) {
			out[n++] = p;
		}
	}
	f->f_nheld -= fr->fr_nheld;
	fr->fr_nheld = 0;
	fsw_tx(f, out, n);
}

/* What the answer means for the packets that wait. */
static void
route_settle(struct fsw *f, const uint8_t *dst, int error)
{
	struct flow_route *fr = route_find(f, dst);

	if (fr == NULL || fr->fr_nheld == 0) {
		return;
	}
	if (error == 0) {
		route_release(f, fr);
	} else if (error != EINPROGRESS) {
		route_drop(f, fr,
		    error == ENETDOWN ? FS_TX_NO_RESOLVER : FS_TX_UNREACH);
	}
}

void
route_output(struct fsw *f, struct pkt *p, const uint8_t *dst)
{
	struct flow_route *fr = route_make(f, dst);

	if (fr == NULL) {
		fsw_drop(f, p, FS_TX_NOBUFS);
		return;
	}
	if (fr->fr_nheld == ROUTE_HOLD) {
		fsw_drop(f, p, FS_TX_ROUTE_FULL);
		return;
	}
	if (fr->fr_nheld == 0) {
		fr->fr_since = f->f_now;
		if (f->f_tick > f->f_now + FSW_TICK) {
			f->f_tick = f->f_now + FSW_TICK;
		}
	}
	fr->fr_held[fr->fr_nheld++] = p;
	f->f_nheld++;
	fsw_count(f, FS_TX_ROUTE_HELD, 1);
	if (fr->fr_state == ROUTE_ASKED && fr->fr_gen == route_gen(f) &&
	    f->f_now < fr->fr_stale) {
		return; /* it was told to call again when told */
	}
	route_settle(f, dst, route_ask(f, dst));
}

void
route_retry(struct fsw *f)
{
	uint8_t dst[16][16];
	int n = 0;

	for (int i = 0; i < FSW_ROUTES && f->f_nheld > 0; i++) {
		for (struct flow_route *fr = f->f_route[i];
		    fr != NULL && n < 16; fr = fr->fr_next) {
			if (fr->fr_nheld > 0) {
				memcpy(dst[n++], fr->fr_dst, 16);
			}
		}
	}
	while (n-- > 0 && f->f_dev != NULL) {
		route_settle(f, dst[n], route_ask(f, dst[n]));
	}
}

void
route_expire(struct fsw *f)
{
	for (int i = 0; i < FSW_ROUTES && f->f_nheld > 0; i++) {
		for (struct flow_route *fr = f->f_route[i]; fr != NULL;
		    fr = fr->fr_next) {
			if (fr->fr_nheld > 0 &&
			    f->f_now - fr->fr_since >= ROUTE_WAIT) {
				route_drop(f, fr, FS_TX_ROUTE_TIMEOUT);
			}
		}
	}
}

void
routes_fini(struct fsw *f)
{
	for (int i = 0; i < FSW_ROUTES; i++) {
		for (struct flow_route *fr = f->f_route[i]; fr != NULL;
		    fr = fr->fr_next) {
			route_drop(f, fr, FS_TX_UNREACH);
		}
	}
	route_sweep(f);
}
