/*
 * Durable: what of the log has been promised to be on stable storage, and keeping that promise.
 *
 * Many threads may ask at a time; one of them syncs for all that came before it began.
 */
#pragma once

#include <stdint.h>

struct durable;
struct journal;
struct store;

/**
 * Keep promises about @journal and @store, in the folder @state_fd; all are borrowed. @stored_seq
 * is the last event in the store. Returns 0 or -ENOMEM.
 */
int durable_create(struct journal *journal, const struct store *store, int state_fd,
		   uint64_t stored_seq, struct durable **out);

/** Free it; NULL is fine. */
void durable_destroy(struct durable *durable);

/**
 * Wait until every event up to @seq is on stable storage. Any thread. Returns 0 or a negative
 * errno.
 */
int durable_sync(struct durable *durable, uint64_t seq);

/**
 * The store has committed up to @seq, and the journal's room for it is about to be released. Syncs
 * the store when something in it has been promised. The drain only. Returns 0 or a negative errno:
 * then the room must be kept.
 */
int durable_stored(struct durable *durable, uint64_t seq);
