/*
 * Store: the event log in SQLite.
 *
 * One connection writes (struct store: the drain's thread), any number read (struct store_reader,
 * each on one thread at a time). SQLite's own types and codes stay in store.c; the schema is
 * schema.sql.
 *
 * What has been committed survives the process. A power loss may take the last transactions,
 * whole, unless store_sync() came after them.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bytes;
struct event;
struct eventlog_filter;
struct store;
struct store_reader;

enum { STORE_VERSION = 2 };

/** What store_append() answers when the event does not fit into the quota. */
enum { STORE_QUOTA = 1 };

/**
 * Open events.db in the folder @state_path for writing, creating it for the log @log_id. Returns
 * 0, -EPROTO (another version), -EBADMSG (damaged, or not a log), -ENOSPC, or another negative
 * errno.
 */
int store_open(const char *state_path, const char *log_id, struct store **out);

/** What stands in the folder @state_path, without changing it: 0, -ENOENT, -EPROTO, -EBADMSG, or another negative errno. */
int store_probe(const char *state_path);

/** Close and free. An open transaction is rolled back. NULL is fine. */
void store_close(struct store *store);

/** Cleanup for scoped(). */
void store_closep(struct store **store);

/**
 * From now on the database and its WAL stay below @bytes: store_append() then answers STORE_QUOTA. 0: no quota. An estimate that is
 * never too low decides, so the last few hundred KiB may stay unused.
 */
void store_set_quota(struct store *store, uint64_t bytes);

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

/** Bring what has been committed to stable storage. Any thread. Returns 0 or a negative errno. */
int store_sync(const struct store *store);

/** Bytes of the database and its WAL. Any thread. */
uint64_t store_size(const struct store *store);

/**
 * Open events.db for reading what @filter lets through; NULL: all. Copies the filter. Returns 0,
 * -ENOENT, or like store_open().
 */
int store_reader_open(const char *state_path, const struct eventlog_filter *filter,
		      struct store_reader **out);

/** Close and free. NULL is fine. */
void store_reader_close(struct store_reader *reader);

/** Cleanup for scoped(). */
void store_reader_closep(struct store_reader **reader);

/** The log's UUID. Borrowed for the life of the reader. */
const char *store_reader_log_id(const struct store_reader *reader);

/** Last event committed by now. Returns 0 or a negative errno. */
int store_reader_last_seq(struct store_reader *reader, uint64_t *out_seq);

/**
 * The first seq at or after @time_ns; one past the last row when there is none. Returns 0 or a
 * negative errno.
 */
int store_reader_find_time(struct store_reader *reader, int64_t time_ns, uint64_t *out_seq);

/**
 * Read a batch of events from @seq to @until at most: @out_batch receives records of
 * event_encode(), one after the other. *@out_end tells that there are no more now. Returns 0 or a
 * negative errno. Holds no transaction when it returns.
 */
int store_reader_fetch(struct store_reader *reader, uint64_t seq, uint64_t until,
		       struct bytes *out_batch, bool *out_end);
