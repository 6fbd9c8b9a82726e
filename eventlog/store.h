/*
 * Store: the event log in SQLite.
 *
 * One connection writes: the drain's thread. Any number read (store_reader.h). SQLite's own types and
 * codes stay behind these two and sql.h; the schema is schema.sql.
 *
 * What has been committed survives the process. A power loss may take the last transactions,
 * whole, unless store_sync() came after them.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct event;
struct store;

/** What store_append() answers when the event does not fit into the quota. */
enum { STORE_QUOTA = 1 };

/**
 * Open events.db in the folder @state_path for writing, creating it for the log @log_id. Returns
 * 0, -EPROTO (another version), -EBADMSG (damaged, or not a log), -ENOSPC, or another negative
 * errno.
 */
int store_open(const char *state_path, const char *log_id, struct store **out);

/** Close and free. An open transaction is rolled back. NULL is fine. */
void store_close(struct store *store);

/** Cleanup for scoped(). */
void store_closep(struct store **store);

/**
 * From now on the database and its WAL stay below @bytes: store_append() then answers STORE_QUOTA. 0: no quota. An estimate that is
 * never too low decides, so the last few hundred KiB may stay unused.
 */
void store_set_quota(struct store *store, uint64_t bytes);

/** Whether there is one. */
bool store_has_quota(const struct store *store);

/** Empty the WAL, outside of a transaction. Returns 0 or a negative errno. */
int store_shrink(struct store *store);

/** Whether store_open() created it. */
bool store_is_new(const struct store *store);

/** The log's UUID. Borrowed for the life of the store. */
const char *store_log_id(const struct store *store);

/** Last event committed, even if its row has been deleted since; 0: none. */
uint64_t store_last_seq(const struct store *store);

/** Time of the last row; 0 when there is none. Returns 0 or a negative errno. */
int store_last_time(struct store *store, int64_t *out_ns);

/** The smallest seq; 0 when there is no row. Returns 0 or a negative errno. */
int store_oldest_seq(struct store *store, uint64_t *out_seq);

/**
 * Begin a transaction. Returns 0 or a negative errno; -EBUSY: another process writes; -ENOENT: the
 * file was removed or replaced.
 */
int store_begin(struct store *store);

/**
 * Add an event. One whose seq is there already is left alone. Returns 0, STORE_QUOTA (nothing was added; what was
 * added before may be committed), or a negative errno: then roll back.
 */
int store_append(struct store *store, const struct event *event);

/**
 * End the transaction; @last_seq is the last event in it. Returns 0, or a negative errno: then
 * roll back.
 */
int store_commit(struct store *store, uint64_t last_seq);

/** Drop the transaction, if there is one. */
void store_rollback(struct store *store);

/**
 * Bring what has been committed to stable storage. Any thread, one at a time. Returns 0 or a negative errno: what it was to write may be
 * lost, and another call does not tell so.
 */
int store_sync(const struct store *store);

/**
 * Copy all of the WAL to the database, which SQLite then syncs, and begin it anew, so that nothing of what it had counts any more.
 * Outside of a transaction. Returns 0 or a negative errno; -EBUSY: somebody reads what is in it.
 */
int store_empty_wal(struct store *store);

/** Bytes of the database and its WAL. Any thread. */
uint64_t store_size(const struct store *store);
