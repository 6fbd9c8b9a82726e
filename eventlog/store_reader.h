/*
 * Store reader: events from the database, in order.
 *
 * Any number of them, beside the one who writes (store.h) and in any process; each on one thread at a time.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct bytes;
struct eventlog_filter;
struct store_reader;

/** What stands in the folder @state_path, without changing it: 0, -ENOENT, -EPROTO, -EBADMSG, or another negative errno. */
int store_probe(const char *state_path);

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
