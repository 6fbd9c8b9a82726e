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
int durable_create(struct journal *journal, struct store *store, int state_fd,
		   uint64_t stored_seq, struct durable **out);

/** Free it; NULL is fine. */
void durable_destroy(struct durable *durable);

/**
 * Wait until every event up to @seq is on stable storage. Any thread. Returns 0 or a negative
 * errno; after one, the drain's next pass may bring what a failed sync has lost to the store.
 */
int durable_sync(struct durable *durable, uint64_t seq);

/**
 * The store has committed up to @seq, and the journal's room for it is about to be released. Syncs
 * the store when something in it has been promised; a WAL that a failed sync has made suspect is emptied before. The drain only. Returns 0 or a negative errno:
 * then the room must be kept.
 */
int durable_stored(struct durable *durable, uint64_t seq);

/** Bring all of the store to stable storage. While no drain runs. Returns 0 or a negative errno. */
int durable_finish(struct durable *durable);
