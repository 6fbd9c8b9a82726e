#include "eventlog/follow.h"

#include "base/clock.h"
#include "base/log.h"
#include "eventlog/tree_apply.h"
#include "proto/event.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <time.h>

enum {
	SAVE_MS = 10000,  /* between commits of the tree */
	SPINS = 16,       /* looks at a request before sleeping: most end in microseconds */
	PAUSE_NS = 100000,
};

/* Events that are gone cannot be done to the tree, so it is worth nothing. */
static int start_anew(struct follow *follow)
{
	int r = tree_clear(follow->tree);

	log_info("the log no longer holds what the scan needs; it takes the tree as it is");
	follow->progress = (struct tree_progress){ .seq = eventlog_oldest_seq(follow->log) - 1 };
	eventlog_cursor_seek(follow->cursor, follow->progress.seq + 1);
	return r;
}

int follow_init(struct follow *follow, const char *state_path)
{
	int r = tree_open(state_path, eventlog_id(follow->log), eventlog_next_seq(follow->log) - 1, &follow->tree);

	if (r < 0)
		return r;
	follow->progress = tree_progress(follow->tree);
	r = writer_open(follow->log, &follow->writer);
	if (r == 0)
		r = eventlog_cursor_open(follow->log, follow->progress.seq + 1, &follow->cursor);
	if (r == 0)
		r = tree_begin(follow->tree);
	follow->saved_ms = clock_now_ms();
	if (r == 0 && follow->progress.seq + 1 < eventlog_oldest_seq(follow->log))
		r = start_anew(follow);
	return r;
}

void follow_finish(struct follow *follow)
{
	eventlog_cursor_close(follow->cursor);
	writer_close(follow->writer);
	tree_close(follow->tree);
}

int follow_save(struct follow *follow)
{
	/* The tree must not know what a power loss can take from the log. */
	int r = eventlog_sync(follow->log);

	if (r == 0)
		r = tree_commit(follow->tree, &follow->progress);
	if (r == 0)
		r = tree_begin(follow->tree);
	follow->saved_ms = clock_now_ms();
	return r;
}

/* ---- Events ---- */

/* Returns 1 when @path is the name, 0, or a negative errno. */
static int is_name(struct follow *follow, const struct follow_name *name, const char *path, size_t length)
{
	struct tree_node parent;
	size_t at = length - name->length;
	int r;

	if (length < name->length || memcmp(path + at, name->name, name->length) != 0)
		return 0;
	if (at > 0 && path[at - 1] != '/')
		return 0;
	r = tree_find_path(follow->tree, path, at ? at - 1 : 0, &parent);
	return r > 0 ? parent.id == name->parent : r;
}

/* Whether the event, which comes next, may have changed what the look saw. Returns 1, 0, or a negative errno. */
static int concerns(struct follow *follow, const struct follow_name *name, const struct event *event)
{
	int r;

	if (!name || event->seq < name->from)
		return 0;
	if (event->has & EVENT_HAS_INO && event->ino == name->ino)
		return 1;
	r = is_name(follow, name, event->path, event->path_length);
	if (r == 0 && (event->op == EVENT_RENAME || event->op == EVENT_LINK))
		r = is_name(follow, name, event->to, event->to_length);
	return r;
}

static int take_event(struct follow *follow, const struct follow_name *name, const struct event *event)
{
	int touches = concerns(follow, name, event);
	int r = touches < 0 ? touches : tree_apply(follow->tree, event);

	if (r == TREE_MOVED_UNKNOWN) {
		touches = 1;
		r = follow->on_moved(follow->userdata, event->path, event->path_length);
		if (r == 0)
			r = follow->on_moved(follow->userdata, event->to, event->to_length);
	}
	if (r < 0)
		return r;
	if (event->op == EVENT_MOUNTED && !follow->away_ns)
		follow->away_ns = follow->last_ns;
	follow->has_mounted |= event->op == EVENT_MOUNTED;
	follow->last_ns = event->time_ns;
	follow->progress.seq = event->seq;
	return touches;
}

/* ---- Keeping up ---- */

static int wait_for_requests(struct follow *follow)
{
	const struct timespec pause = { .tv_nsec = PAUSE_NS };
	struct eventlog_under_way under_way;

	eventlog_note_under_way(follow->log, &under_way);
	for (int i = 0; !eventlog_have_ended(follow->log, &under_way); i++) {
		if (atomic_load(follow->is_stopping))
			return -ECANCELED;
		if (i < SPINS)
			sched_yield();
		else
			nanosleep(&pause, NULL);
	}
	return 0;
}

int follow_to_end(struct follow *follow, const struct follow_name *name)
{
	int answer = FOLLOW_READY;
	struct event event;
	int r = name ? wait_for_requests(follow) : 0;
	/* In a storm the log has no end; what comes from now on is about what was done after the look. */
	uint64_t end = eventlog_next_seq(follow->log);

	while (r == 0 && follow->progress.seq + 1 < end &&
	       (r = eventlog_cursor_next(follow->cursor, &event)) == 1) {
		r = take_event(follow, name, &event);
		if (r > 0)
			answer = FOLLOW_AGAIN;
		if (r >= 0)
			r = atomic_load(follow->is_stopping) ? -ECANCELED : 0;
	}
	if (r == -ENODATA)
		r = start_anew(follow);
	if (r == 0 && clock_now_ms() - follow->saved_ms > SAVE_MS)
		r = follow_save(follow);
	return r < 0 ? r : answer;
}

int follow_log(struct follow *follow, struct event *event)
{
	int r = writer_append_at(follow->writer, follow->progress.seq + 1, event);

	return r < 0 ? r : r == EVENTLOG_OVERTAKEN ? FOLLOW_AGAIN : FOLLOW_READY;
}
