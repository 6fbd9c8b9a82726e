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
	int64_t all_ns;              /* the last that was not noted began; 0: none */
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

/* The caller holds the lock. */
static bool has_none(const struct listings *listings)
{
	return listings->count == 0 && listings->all_ns == 0;
}

bool listings_add(struct listings *listings, uint64_t nodeid)
{
	int64_t now_ns;
	bool is_first;

	pthread_mutex_lock(&listings->lock);
	now_ns = clock_now_ns();
	is_first = has_none(listings);
	if (listings->count < SLOTS)
		listings->slots[(listings->first + listings->count++) % SLOTS] =
			(struct listing){ .nodeid = nodeid, .begun_ns = now_ns };
	else
		listings->all_ns = now_ns;
	pthread_mutex_unlock(&listings->lock);
	return is_first;
}

bool listings_add_all(struct listings *listings)
{
	bool is_first;

	pthread_mutex_lock(&listings->lock);
	is_first = has_none(listings);
	listings->all_ns = clock_now_ns();
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

bool listings_take_all(struct listings *listings, int64_t until_ns)
{
	bool are_all;

	pthread_mutex_lock(&listings->lock);
	are_all = listings->all_ns != 0;
	if (listings->all_ns < until_ns)
		listings->all_ns = 0;
	pthread_mutex_unlock(&listings->lock);
	return are_all;
}

bool listings_is_empty(struct listings *listings)
{
	bool is_empty;

	pthread_mutex_lock(&listings->lock);
	is_empty = has_none(listings);
	pthread_mutex_unlock(&listings->lock);
	return is_empty;
}
