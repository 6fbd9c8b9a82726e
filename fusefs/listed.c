#include "fusefs/listed.h"

#include "base/clock.h"

enum { RECENT_NS = 500 * 1000 * 1000 };

void listed_add(struct listed *listed, uint64_t nodeid)
{
	listed->slots[nodeid % LISTED_SLOTS] = (struct listed_slot){ .nodeid = nodeid, .told_ns = clock_now_ns() };
}

bool listed_is_recent(const struct listed *listed, uint64_t nodeid)
{
	const struct listed_slot *slot = &listed->slots[nodeid % LISTED_SLOTS];

	return slot->nodeid == nodeid && clock_now_ns() - slot->told_ns < RECENT_NS;
}
