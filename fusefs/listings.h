/*
 * Listings: directories of which the kernel keeps what it has read, until they are to be read again.
 *
 * Where the source can be changed behind the mount, the kernel compares a listing that it keeps with the directory's time of
 * modification, which it asks for once a second. That is not enough: two changes may have one time where the file system's clock is
 * coarse, and programs set times back. Nor is it fast: entries from memory come without attributes, and each is asked for by itself.
 * So all that is kept is dropped once a second (fusefs/look.c), when the attributes that came with it are no longer believed either.
 *
 * Any thread; one mutex inside, held for memory accesses only.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct listings;

/** Returns 0 or -ENOMEM. */
int listings_create(struct listings **out);

/** NULL is fine. */
void listings_destroy(struct listings *listings);

/**
 * The kernel begins to read directory @nodeid. Of more than 32,768 in a second, what comes later is left to what the kernel compares.
 * Returns whether it is the first to be dropped.
 */
bool listings_add(struct listings *listings, uint64_t nodeid);

/** Take what was added before @until_ns (CLOCK_MONOTONIC), oldest first, @size nodeids at most. Returns how many. */
size_t listings_take(struct listings *listings, int64_t until_ns, uint64_t *nodeids, size_t size);

bool listings_is_empty(struct listings *listings);
