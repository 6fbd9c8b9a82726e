/*
 * Broadcast: the newest events as JSON lines, for all who are live.
 *
 * A window of the log without holes, of bounded memory: what is added at its end pushes out what
 * is oldest. Whoever still sends from a run that is pushed out keeps it by reference until that
 * send is over.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct broadcast;
struct lines;

enum {
	BROADCAST_MEMORY_MAX = 4 << 20, /* bytes */
	BROADCAST_RUNS_MAX = 64,        /* a power of two */
};

/** An empty window that stands before event @seq; NULL without memory. */
struct broadcast *broadcast_create(uint64_t seq);

/** NULL is fine. */
void broadcast_destroy(struct broadcast *broadcast);

/** Forget all, and stand before event @seq. */
void broadcast_reset(struct broadcast *broadcast, uint64_t seq);

/** Sequence number of the oldest line; that of the next one when there is none. */
uint64_t broadcast_first(const struct broadcast *broadcast);

/** Sequence number of the next line. */
uint64_t broadcast_end(const struct broadcast *broadcast);

/** Add the line of event broadcast_end(), newline included: copied. Returns 0 or -ENOMEM. */
int broadcast_append(struct broadcast *broadcast, const char *line, size_t size);

/**
 * The run with the line of event @seq, borrowed until the next append or reset; NULL when it is
 * not in the window.
 */
struct lines *broadcast_find(const struct broadcast *broadcast, uint64_t seq);
