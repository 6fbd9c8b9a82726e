#include "serve/feed.h"

#include "base/bytes.h"
#include "base/scope.h"
#include "eventlog/eventlog.h"
#include "proto/event.h"
#include "proto/native.h"
#include "serve/broadcast.h"
#include "serve/lines.h"

#include <errno.h>
#include <stdlib.h>

/*
 * Bytes: a run with less room is full. A line that is read and then does not fit is read twice;
 * so that is rare.
 */
enum { LINE_TYPICAL = 1024 };

/* A cursor for those who are behind, and what it read last: who comes next may want the same. */
struct replay {
	struct eventlog_cursor *cursor; /* owned; NULL: not open */
	uint64_t next_seq;              /* where it stands */
	uint64_t last_use;              /* grows with every use */
	struct lines *lines;            /* a reference, or NULL */
};

struct feed {
	struct eventlog *log;           /* borrowed */
	struct eventlog_cursor *cursor; /* stands at the end of the window */
	struct broadcast *window;
	struct bytes line; /* the event that was read last, as JSON */
	struct replay replays[FEED_CURSORS_MAX];
	uint64_t uses;
};

int feed_create(struct eventlog *log, struct feed **out)
{
	struct feed *feed = calloc(1, sizeof(*feed));
	int r;

	if (!feed)
		return -ENOMEM;
	feed->log = log;
	feed->window = broadcast_create(eventlog_next_seq(log));
	r = feed->window ? eventlog_cursor_open(log, broadcast_end(feed->window), &feed->cursor)
			 : -ENOMEM;
	if (r < 0) {
		feed_destroy(feed);
		return r;
	}
	*out = feed;
	return 0;
}

void feed_destroy(struct feed *feed)
{
	if (!feed)
		return;
	feed_rest(feed);
	broadcast_destroy(feed->window);
	eventlog_cursor_close(feed->cursor);
	bytes_finish(&feed->line);
	free(feed);
}

/* Write the line of @event to feed->line. Returns 0 or -ENOMEM. */
static int write_line(struct feed *feed, const struct event *event)
{
	bytes_clear(&feed->line);
	native_write_event(&feed->line, event);
	bytes_append_char(&feed->line, '\n');
	return bytes_error(&feed->line);
}

/* A single event may have had paths of many kilobytes. */
static void trim_line(struct feed *feed)
{
	if (feed->line.capacity > LINES_SIZE)
		bytes_finish(&feed->line);
}

/* ---- The window ---- */

static void move_window(struct feed *feed, uint64_t seq)
{
	broadcast_reset(feed->window, seq);
	eventlog_cursor_seek(feed->cursor, seq);
}

int feed_take(struct feed *feed, uint64_t seq, struct lines **out)
{
	struct lines *lines;

	if (seq > broadcast_end(feed->window))
		move_window(feed, seq);
	if (seq == broadcast_end(feed->window))
		return FEED_END;
	lines = broadcast_find(feed->window, seq);
	if (!lines)
		return FEED_BEHIND;
	*out = lines_ref(lines);
	return FEED_LINES;
}

/* One event from the log to the window. Returns 1, 0 at the head, or a negative errno. */
static int advance_one(struct feed *feed)
{
	struct event event;
	int r;

	r = eventlog_cursor_next(feed->cursor, &event);
	if (r == -ENODATA) {
		/*
		 * Nobody has asked for so long that this end has been deleted; those who wait
		 * here get a gap.
		 */
		move_window(feed, eventlog_oldest_seq(feed->log));
		r = eventlog_cursor_next(feed->cursor, &event);
	}
	if (r <= 0)
		return r;
	r = write_line(feed, &event);
	if (r == 0)
		r = broadcast_append(feed->window, feed->line.data, feed->line.size);
	if (r < 0) {
		eventlog_cursor_seek(feed->cursor, broadcast_end(feed->window));
		return r;
	}
	return 1;
}

int feed_advance(struct feed *feed)
{
	size_t size = 0;
	int count = 0, r = 0;

	while (count < LINES_COUNT_MAX && size < LINES_SIZE) {
		r = advance_one(feed);
		if (r <= 0)
			break;
		count++;
		size += feed->line.size;
	}
	trim_line(feed);
	return count ? count : r;
}

uint64_t feed_end(const struct feed *feed)
{
	return broadcast_end(feed->window);
}

bool feed_arm(struct feed *feed)
{
	return eventlog_arm(feed->log, broadcast_end(feed->window));
}

void feed_forget(struct feed *feed)
{
	move_window(feed, broadcast_end(feed->window));
}

/* ---- Those who are behind ---- */

static struct lines *find_replayed(struct feed *feed, uint64_t seq)
{
	for (unsigned i = 0; i < FEED_CURSORS_MAX; i++) {
		struct replay *replay = &feed->replays[i];

		if (replay->lines && lines_contain(replay->lines, seq))
			return replay->lines;
	}
	return NULL;
}

/* The one that stands at @seq, so that it reads straight on; else the one unused for longest. */
static struct replay *choose_replay(struct feed *feed, uint64_t seq)
{
	struct replay *oldest = &feed->replays[0];

	for (unsigned i = 0; i < FEED_CURSORS_MAX; i++) {
		struct replay *replay = &feed->replays[i];

		if (replay->cursor && replay->next_seq == seq)
			return replay;
		if (replay->last_use < oldest->last_use)
			oldest = replay;
	}
	return oldest;
}

static int stand_before(struct feed *feed, struct replay *replay, uint64_t seq)
{
	int r = 0;

	if (!replay->cursor)
		r = eventlog_cursor_open(feed->log, seq, &replay->cursor);
	else if (replay->next_seq != seq)
		eventlog_cursor_seek(replay->cursor, seq);
	replay->next_seq = seq;
	return r;
}

/*
 * One event from the log to @replay's lines. Returns 1, 0 when they are full or the log ends, or
 * a negative errno.
 */
static int replay_one(struct feed *feed, struct replay *replay)
{
	struct event event;
	int r;

	r = eventlog_cursor_next(replay->cursor, &event);
	if (r <= 0)
		return r;
	r = write_line(feed, &event);
	if (r < 0)
		return r;
	if (!replay->lines)
		replay->lines = lines_create(replay->next_seq, feed->line.size);
	if (!replay->lines)
		return -ENOMEM;
	if (!lines_have_room(replay->lines, feed->line.size)) {
		/* Read too far: the next turn begins with this event. */
		eventlog_cursor_seek(replay->cursor, replay->next_seq);
		return 0;
	}
	lines_append(replay->lines, feed->line.data, feed->line.size);
	replay->next_seq++;
	return 1;
}

static void close_replay(struct replay *replay)
{
	eventlog_cursor_close(replay->cursor);
	lines_unref(replay->lines);
	*replay = (struct replay){ 0 };
}

static int read_replay(struct feed *feed, struct replay *replay, uint64_t seq)
{
	int r;

	replay->last_use = ++feed->uses;
	lines_unref(replay->lines);
	replay->lines = NULL;
	r = stand_before(feed, replay, seq);
	while (r >= 0 && (!replay->lines || lines_have_room(replay->lines, LINE_TYPICAL))) {
		r = replay_one(feed, replay);
		if (r == 0)
			break;
	}
	trim_line(feed);
	if (r < 0 && !replay->lines)
		return r;
	if (r < 0)
		eventlog_cursor_seek(replay->cursor, replay->next_seq);
	/* The caller knows of newer events: a log that ends here contradicts itself. */
	return replay->lines ? 0 : -EIO;
}

int feed_replay(struct feed *feed, uint64_t seq, struct lines **out)
{
	struct lines *lines = find_replayed(feed, seq);

	if (!lines) {
		struct replay *replay = choose_replay(feed, seq);
		int r = read_replay(feed, replay, seq);

		if (r < 0) {
			close_replay(replay);
			return r;
		}
		lines = replay->lines;
	}
	*out = lines_ref(lines);
	return 0;
}

void feed_rest(struct feed *feed)
{
	for (unsigned i = 0; i < FEED_CURSORS_MAX; i++)
		close_replay(&feed->replays[i]);
}
