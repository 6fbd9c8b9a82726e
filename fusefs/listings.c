#include "fusefs/listings.h"

#include "base/clock.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

enum { SLOTS = 1 << 15 };

struct listing {
	uint64_t nodeid;
	int64_t begun_ns; /* CLOCK_MONOTONIC */
};

struct listings {
	pthread_mutex_t lock;        /* guards what follows */
	unsigned first, count;
	struct listing slots[SLOTS]; /* a ring, oldest first */
};

int listings_create(struct listings **out)
{
	struct listings *listings = calloc(1, sizeof(*listings));

	if (!listings)
		return -ENOMEM;
	pthread_mutex_init(&listings->lock, NULL);
	*out = listings;
	return 0;
}

void listings_destroy(struct listings *listings)
{
	if (!listings)
		return;
	pthread_mutex_destroy(&listings->lock);
	free(listings);
}

bool listings_add(struct listings *listings, uint64_t nodeid)
{
	struct listing listing = { .nodeid = nodeid, .begun_ns = clock_now_ns() };
	bool is_first;

	pthread_mutex_lock(&listings->lock);
	is_first = listings->count == 0;
	if (listings->count < SLOTS)
		listings->slots[(listings->first + listings->count++) % SLOTS] = listing;
	pthread_mutex_unlock(&listings->lock);
	return is_first;
}

size_t listings_take(struct listings *listings, int64_t until_ns, uint64_t *nodeids, size_t size)
{
	size_t taken = 0;

	pthread_mutex_lock(&listings->lock);
	while (taken < size && listings->count > 0 && listings->slots[listings->first].begun_ns < until_ns) {
		nodeids[taken++] = listings->slots[listings->first].nodeid;
		listings->first = (listings->first + 1) % SLOTS;
		listings->count--;
	}
	pthread_mutex_unlock(&listings->lock);
	return taken;
}

bool listings_is_empty(struct listings *listings)
{
	bool is_empty;

	pthread_mutex_lock(&listings->lock);
	is_empty = listings->count == 0;
	pthread_mutex_unlock(&listings->lock);
	return is_empty;
}
