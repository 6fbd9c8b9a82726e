/*
 * Cursor: reads the log in order, from the journal's ring while an event is there, else from the
 * store.
 *
 * It takes no lock that a writer takes. Once it is in the ring it goes from record to record; when
 * it has been overtaken it opens a connection to the store, reads batches of rows, and closes it
 * again when the next event is found behind the ring's head. The drain commits before it moves the
 * head, so an event that has just left the one place is in the other.
 */
#include "eventlog/cursor.h"

#include "base/bytes.h"
#include "eventlog/drain.h"
#include "eventlog/eventlog.h"
#include "eventlog/journal.h"
#include "eventlog/store_reader.h"
#include "proto/event.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

/* An event changes its place once; more looks than this mean that it is in neither. */
enum { LOOKS_MAX = 8 };

struct eventlog_cursor {
	const struct journal *journal; /* borrowed */
	struct drain *drain;           /* borrowed */
	const char *state_path;        /* borrowed */
	uint64_t seq;                  /* of the next event */

	bool is_in_ring; /* position is where seq is, or will be */
	uint64_t position;
	struct bytes record; /* the copy of the last event from the ring */

	struct store_reader *reader; /* owned; NULL while in the ring */
	struct bytes batch;          /* records from the store */
	size_t batch_read;           /* bytes of it that are behind us */
};

int cursor_create(const struct journal *journal, struct drain *drain, const char *state_path,
		  uint64_t seq, struct eventlog_cursor **out)
{
	struct eventlog_cursor *cursor = calloc(1, sizeof(*cursor));

	if (!cursor)
		return -ENOMEM;
	cursor->journal = journal;
	cursor->drain = drain;
	cursor->state_path = state_path;
	cursor->seq = seq;
	*out = cursor;
	return 0;
}

static void leave_store(struct eventlog_cursor *cursor)
{
	store_reader_close(cursor->reader);
	cursor->reader = NULL;
	bytes_finish(&cursor->batch);
	cursor->batch_read = 0;
}

void eventlog_cursor_close(struct eventlog_cursor *cursor)
{
	if (!cursor)
		return;
	leave_store(cursor);
	bytes_finish(&cursor->record);
	free(cursor);
}

void eventlog_cursor_seek(struct eventlog_cursor *cursor, uint64_t seq)
{
	cursor->seq = seq;
	cursor->is_in_ring = false;
	bytes_clear(&cursor->batch);
	cursor->batch_read = 0;
}

static bool has_batch(const struct eventlog_cursor *cursor)
{
	return cursor->batch_read < cursor->batch.size;
}

/* Returns 1, 0 when it is not there, or a negative errno. */
static int read_ring(struct eventlog_cursor *cursor, struct event *out)
{
	int r;

	if (!cursor->is_in_ring && !journal_find(cursor->journal, cursor->seq, &cursor->position))
		return 0;
	r = journal_copy(cursor->journal, cursor->seq, &cursor->position, &cursor->record, out);
	cursor->is_in_ring = r == 1;
	if (r == 1 && cursor->reader)
		leave_store(cursor);
	return r;
}

/* Nothing is left before @seq: say so, once everybody can ask where to go on. */
static int fall_off(struct eventlog_cursor *cursor, uint64_t seq)
{
	eventlog_cursor_seek(cursor, cursor->seq);
	drain_raise_oldest(cursor->drain, seq);
	return -ENODATA;
}

static int read_batch(struct eventlog_cursor *cursor, struct event *out)
{
	ssize_t size = event_decode(cursor->batch.data + cursor->batch_read,
				    cursor->batch.size - cursor->batch_read, out);

	if (size < 0)
		return size;
	if (out->seq != cursor->seq)
		return fall_off(cursor, out->seq);
	cursor->batch_read += size;
	return 1;
}

/*
 * Returns 1, 0 when it is not there yet, -ENODATA when it is no longer there, or another negative
 * errno.
 */
static int read_store(struct eventlog_cursor *cursor, struct event *out)
{
	uint64_t stored = drain_stored_seq(cursor->drain);
	bool is_end;
	int r;

	if (cursor->seq > stored)
		return 0;
	if (!cursor->reader) {
		r = store_reader_open(cursor->state_path, NULL, &cursor->reader);
		if (r < 0)
			return r;
	}
	cursor->batch_read = 0;
	r = store_reader_fetch(cursor->reader, cursor->seq, stored, &cursor->batch, &is_end);
	if (r < 0) {
		bytes_clear(&cursor->batch);
		return r;
	}
	if (!has_batch(cursor))
		return fall_off(cursor, stored + 1);
	return read_batch(cursor, out);
}

static int read_next(struct eventlog_cursor *cursor, struct event *out)
{
	if (has_batch(cursor))
		return read_batch(cursor, out);
	for (int i = 0; i < LOOKS_MAX; i++) {
		int r = read_ring(cursor, out);

		if (r == 0)
			r = read_store(cursor, out);
		if (r != 0)
			return r;
	}
	return -EBADMSG;
}

int eventlog_cursor_next(struct eventlog_cursor *cursor, struct event *out)
{
	struct event event;
	int r;

	if (cursor->seq >= journal_next_seq(cursor->journal))
		return 0;
	r = read_next(cursor, &event);
	if (r == 1) {
		cursor->seq++;
		*out = event;
	}
	return r;
}
