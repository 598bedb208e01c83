/*
 * ring.h - a ring between two ends that do not trust each other.
 *
 * A ring has slots in the half of its producer and two heads: the producer's,
 * in its half, and the consumer's, in the other. Each end calls its own slots
 * [head, tail-1]; its tail is where the other end's begin. One slot is always
 * unused, so that an empty ring and a full one differ:
 *
 *	producer: head = next slot to fill,  tail = consumer's head - 1
 *	consumer: head = next slot to empty, tail = producer's head
 *
 *	fill slots; head (A release)		head (B acquire); read slots
 *	head (D acquire); fill again		slots read; head (C release)
 *
 * A slot belongs to one end at a time: (A, B) hands it over filled, (C, D)
 * empty. An end reads the other's head once for each look (the snapshot), and
 * checks that it moved over slots that were the other's to give. So the three
 * rules that can be broken are HEAD_OOB, HEAD_OOB_WRAP and TAIL_MISMATCH.
 *
 * The same two functions make all rings of a channel; a ring of one end is,
 * slots swapped, one of the other's:
 *
 *	TX <-> RX	packets given
 *	ALLOC <-> FREE	the same packets coming back
 *	EVENT <-> EVENT	small messages
 */
#ifndef SKYWALK_CHANNEL_RING_H
#define SKYWALK_CHANNEL_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "skywalk/api.h"

struct channel_ring {
	uint32_t kr_mask;	   /* slots - 1 */
	uint32_t kr_head;	   /* ours, perhaps not yet published */
	uint32_t kr_tail;	   /* first slot that is not ours */
	uint32_t kr_khead;	   /* the other's head, when last looked at */
	uint32_t kr_pub;	   /* our head, as the other sees it */
	atomic_uint *kr_mine;	   /* where ours is published */
	const atomic_uint *kr_its; /* where the other publishes its */
	bool kr_producer;
};

static inline void
ring_init(struct channel_ring *kr, uint32_t slots, bool producer,
    atomic_uint *mine, const atomic_uint *its)
{
	*kr = (struct channel_ring){
		.kr_mask = slots - 1,
		.kr_tail = producer ? slots - 1 : 0,
		.kr_mine = mine,
		.kr_its = its,
		.kr_producer = producer,
	};
}

/* Slots that are ours now. */
static inline uint32_t
ring_avail(const struct channel_ring *kr)
{
	return (kr->kr_tail - kr->kr_head) & kr->kr_mask;
}

/* Look at the other's head. SK_ACTIVE, or the rule that it broke. */
static inline enum sk_reason
ring_prologue(struct channel_ring *kr)
{
	uint32_t head = atomic_load(kr->kr_its); /* (B) (D) (F) */
	uint32_t moved = (head - kr->kr_khead) & kr->kr_mask, most;

	if (head > kr->kr_mask) {
		return SK_HEAD_OOB;
	}
	if (kr->kr_producer) {
		/* It takes what we published and nothing else. */
		most = (kr->kr_pub - kr->kr_khead) & kr->kr_mask;
		if (moved > most) {
			return SK_TAIL_MISMATCH;
		}
		kr->kr_tail = (head - 1) & kr->kr_mask;
	} else {
		/* It fills up to the slot before our head. */
		most = (kr->kr_pub - 1 - kr->kr_khead) & kr->kr_mask;
		if (moved > most) {
			return SK_HEAD_OOB_WRAP;
		}
		kr->kr_tail = head;
	}
	kr->kr_khead = head;
	return SK_ACTIVE;
}

static inline void
ring_advance(struct channel_ring *kr)
{
	kr->kr_head = (kr->kr_head + 1) & kr->kr_mask;
}

/* Let the other have the slots before our head. This and the look at its head
 * are sequentially consistent for the doorbell's (E) and (F): channel_event.c. */
static inline void
ring_publish(struct channel_ring *kr)
{
	kr->kr_pub = kr->kr_head;
	atomic_store(kr->kr_mine, kr->kr_head); /* (A) (C) (E) */
}

#endif
