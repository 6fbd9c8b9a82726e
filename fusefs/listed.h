/*
 * Listed: the directories of whose entries the kernel has just been told everything.
 *
 * The kernel asks for attributes with the first entries of every listing, though it may still know them: rm(1), for one, reads
 * each directory twice. It believes what it was told for a second; for the first half of that a listing needs no more than
 * names. What the kernel has forgotten since, it asks for.
 *
 * One struct for each worker thread; no locks.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum { LISTED_SLOTS = 512 };

struct listed_slot {
	uint64_t nodeid;
	int64_t told_ns; /* CLOCK_MONOTONIC */
};

/** Start with a zeroed struct. */
struct listed {
	struct listed_slot slots[LISTED_SLOTS];
};

/** The first entries of directory @nodeid were told with their attributes. May forget another directory. */
void listed_add(struct listed *listed, uint64_t nodeid);

/** Whether that was in the last half of a second. */
bool listed_is_recent(const struct listed *listed, uint64_t nodeid);
