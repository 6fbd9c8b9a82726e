#include "fusefs/listed.h"

#include <time.h>

enum { RECENT_NS = 500 * 1000 * 1000 };

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ll + now.tv_nsec;
}

void listed_add(struct listed *listed, uint64_t nodeid)
{
	listed->slots[nodeid % LISTED_SLOTS] = (struct listed_slot){ .nodeid = nodeid, .told_ns = now_ns() };
}

bool listed_is_recent(const struct listed *listed, uint64_t nodeid)
{
	const struct listed_slot *slot = &listed->slots[nodeid % LISTED_SLOTS];

	return slot->nodeid == nodeid && now_ns() - slot->told_ns < RECENT_NS;
}
