/*
 * Listings: directories of which the kernel keeps what it has read, until they are to be read again.
 *
 * Where the source can be changed behind the mount, the kernel compares a listing that it keeps with the directory's time of
 * modification, which it asks for once a second. That is not enough: two changes may have one time where the file system's clock is
 * coarse, and programs set times back. Nor is it fast: entries from memory come without attributes, and each is asked for by itself.
 * So what is kept is dropped when it is a second old (fusefs/look.c), and the attributes that came with it are no longer believed either.
 * Where it is not known which directories those are, or they were too many to be noted, all that the kernel knows are dropped.
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

/** The kernel begins to read directory @nodeid. Returns whether it is the first to be dropped. */
bool listings_add(struct listings *listings, uint64_t nodeid);

/** The kernel may have read any directory. Returns whether it is the first to be dropped. */
bool listings_add_all(struct listings *listings);

/** Take what was added before @until_ns (CLOCK_MONOTONIC), oldest first, @size nodeids at most. Returns how many. */
size_t listings_take(struct listings *listings, int64_t until_ns, uint64_t *nodeids, size_t size);

/**
 * Whether all directories are to be dropped. Taken when the last that was not noted was added before @until_ns, else to be asked for once
 * more.
 */
bool listings_take_all(struct listings *listings, int64_t until_ns);

bool listings_is_empty(struct listings *listings);
