/*
 * History: the log of a state folder, mounted or not, without taking it over.
 *
 * Rows of the store first, filtered by SQLite; then what the journal holds beyond them, filtered
 * here. The journal's owner may be alive: records are copied and checked as cursors do it, and
 * when one has moved to the store meanwhile, the store is asked again. What comes after the open
 * is not shown, so that reading a busy log ends.
 */
#include "eventlog/eventlog.h"

#include "base/bytes.h"
#include "base/scope.h"
#include "eventlog/journal.h"
#include "eventlog/store_reader.h"
#include "proto/event.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

enum source { FROM_STORE, FROM_JOURNAL, FROM_NOWHERE };

struct eventlog_history {
	struct eventlog_filter filter; /* strings are under and comm below */
	char *under;                   /* owned */
	char *comm;                    /* owned */
	struct store_reader *reader;   /* owned */
	struct journal *journal;       /* owned; NULL: there is none */
	uint64_t until;                /* last seq that is shown */

	enum source source;
	uint64_t seq;        /* where to go on */
	uint64_t stored_seq; /* how far the store is read in this round */
	uint64_t position;   /* of seq in the journal */
	struct bytes batch;  /* rows */
	size_t batch_read;   /* bytes of it that are behind us */
	struct bytes record; /* the copy of an event from the journal */
};

void eventlog_history_close(struct eventlog_history *history)
{
	if (!history)
		return;
	store_reader_close(history->reader);
	journal_close(history->journal);
	bytes_finish(&history->batch);
	bytes_finish(&history->record);
	free(history->under);
	free(history->comm);
	free(history);
}

static void closep_history(struct eventlog_history **history)
{
	eventlog_history_close(*history);
}

static int copy_string(const char *string, char **out)
{
	if (!string)
		return 0;
	*out = strdup(string);
	return *out ? 0 : -ENOMEM;
}

static int copy_filter(struct eventlog_history *history, const struct eventlog_filter *filter)
{
	int r = copy_string(filter->under, &history->under);

	if (r == 0)
		r = copy_string(filter->comm, &history->comm);
	history->filter = *filter;
	history->filter.under = history->under;
	history->filter.comm = history->comm;
	return r;
}

/* A log without a journal, or with one that is not its own, is read all the same. */
static int open_journal(struct eventlog_history *history, const char *state_path)
{
	scoped(closep) int state_fd = open(state_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (state_fd < 0)
		return -errno;
	r = journal_open_readonly(state_fd, &history->journal);
	if (r == -ENOENT)
		return 0;
	if (r == 0 &&
	    strcmp(journal_log_id(history->journal), store_reader_log_id(history->reader)) != 0) {
		journal_close(history->journal);
		history->journal = NULL;
	}
	return r;
}

/* Turn the filter's bounds, and the log's end, into the first and the last seq. */
static int set_bounds(struct eventlog_history *history)
{
	const struct eventlog_filter *filter = &history->filter;
	uint64_t first = 1;
	uint64_t last;
	int r = store_reader_last_seq(history->reader, &last);

	if (r == 0 && filter->since_ns)
		r = store_reader_find_time(history->reader, filter->since_ns, &first);
	if (r < 0)
		return r;
	history->seq = filter->since_seq > first ? filter->since_seq : first;
	history->until = last;
	if (history->journal && journal_last_seq(history->journal) > last)
		history->until = journal_last_seq(history->journal);
	if (filter->until_seq && filter->until_seq < history->until)
		history->until = filter->until_seq;
	if (filter->until_ns && filter->until_ns < INT64_MAX) {
		r = store_reader_find_time(history->reader, filter->until_ns + 1, &first);
		if (r < 0)
			return r;
		/*
		 * One past the last row says nothing about the journal; those are looked at one by
		 * one.
		 */
		if (first <= last && first - 1 < history->until)
			history->until = first - 1;
	}
	return 0;
}

/* Begin a round: the store as far as it is now. */
static int begin_round(struct eventlog_history *history)
{
	history->source = FROM_STORE;
	return store_reader_last_seq(history->reader, &history->stored_seq);
}

int eventlog_history_open(const char *state_path, const struct eventlog_filter *filter,
			  struct eventlog_history **out)
{
	scoped(closep_history) struct eventlog_history *history = calloc(1, sizeof(*history));
	int r;

	if (!history)
		return -ENOMEM;
	r = copy_filter(history, filter);
	if (r < 0)
		return r;
	r = store_reader_open(state_path, filter, &history->reader);
	if (r < 0)
		return r;
	r = open_journal(history, state_path);
	if (r < 0)
		return r;
	r = set_bounds(history);
	if (r < 0)
		return r;
	r = begin_round(history);
	if (r < 0)
		return r;
	*out = take(history);
	return 0;
}

const char *eventlog_history_id(const struct eventlog_history *history)
{
	return store_reader_log_id(history->reader);
}

static bool is_under(const char *path, size_t length, const char *under)
{
	size_t under_length = strlen(under);

	if (length < under_length || memcmp(path, under, under_length) != 0)
		return false;
	return length == under_length || path[under_length] == '/';
}

static bool event_is_under(const struct event *event, const char *under)
{
	if (is_under(event->path, event->path_length, under))
		return true;
	return (event->op == EVENT_RENAME || event->op == EVENT_LINK) && event->to &&
	       is_under(event->to, event->to_length, under);
}

/* What store_reader_fetch() does for rows. The bounds of seq are the caller's. */
static bool matches(const struct eventlog_filter *filter, const struct event *event)
{
	if (filter->since_ns && event->time_ns < filter->since_ns)
		return false;
	if (filter->until_ns && event->time_ns > filter->until_ns)
		return false;
	if (filter->ops && !(filter->ops >> event->op & 1))
		return false;
	if (filter->pid >= 0 && (!(event->has & EVENT_HAS_WHO) || event->pid != filter->pid))
		return false;
	if (filter->comm && (event->comm_length != strlen(filter->comm) ||
			     memcmp(event->comm, filter->comm, event->comm_length) != 0))
		return false;
	return !filter->under || !filter->under[0] || event_is_under(event, filter->under);
}

static int next_in_batch(struct eventlog_history *history, struct event *out)
{
	ssize_t size;

	if (history->batch_read == history->batch.size)
		return 0;
	size = event_decode(history->batch.data + history->batch_read,
			    history->batch.size - history->batch_read, out);
	if (size < 0)
		return size;
	history->batch_read += size;
	history->seq = out->seq + 1;
	return 1;
}

/* Returns 1, 0 when this round's store is read, or a negative errno. */
static int next_in_store(struct eventlog_history *history, struct event *out)
{
	uint64_t until =
		history->stored_seq < history->until ? history->stored_seq : history->until;
	bool is_end;
	int r = next_in_batch(history, out);

	if (r != 0 || history->seq > until)
		return r;
	history->batch_read = 0;
	r = store_reader_fetch(history->reader, history->seq, until, &history->batch, &is_end);
	if (r < 0) {
		bytes_clear(&history->batch);
		return r;
	}
	/* What the filter kept back is behind us, too. */
	r = next_in_batch(history, out);
	if (r == 0)
		history->seq = until + 1;
	return r;
}

/* Returns 1, or 0 when the journal does not have the next one. */
static int next_in_journal(struct eventlog_history *history, struct event *out)
{
	while (history->seq <= history->until) {
		int r = journal_copy(history->journal, history->seq, &history->position,
				     &history->record, out);

		if (r <= 0)
			return r;
		history->seq++;
		if (matches(&history->filter, out))
			return 1;
	}
	return 0;
}

/* One source is read: choose the next. */
static int change_source(struct eventlog_history *history)
{
	uint64_t stored = history->stored_seq;
	int r;

	if (history->seq > history->until || !history->journal) {
		history->source = FROM_NOWHERE;
		return 0;
	}
	if (history->source == FROM_STORE &&
	    journal_find(history->journal, history->seq, &history->position)) {
		history->source = FROM_JOURNAL;
		return 0;
	}
	r = begin_round(history);
	if (r == 0 && history->stored_seq == stored)
		history->source = FROM_NOWHERE;
	return r;
}

int eventlog_history_next(struct eventlog_history *history, struct event *out)
{
	struct event event;
	int r = 0;

	while (history->source != FROM_NOWHERE) {
		r = history->source == FROM_STORE ? next_in_store(history, &event)
						  : next_in_journal(history, &event);
		if (r != 0)
			break;
		r = change_source(history);
		if (r < 0)
			break;
	}
	if (r == 1)
		*out = event;
	return r;
}
