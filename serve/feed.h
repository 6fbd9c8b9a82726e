/*
 * Feed: turns the log into JSON lines for the subscribers.
 *
 * Near the head each event is read and written once, into a window that all share (broadcast.h).
 * The window goes on only when somebody stands at its end and asks for more, so that a log nobody
 * follows costs nothing. Who stands before the window is behind, and is served through one of a
 * few cursors that those behind share in turns.
 *
 * Invariant: the window only ever moves towards newer events.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct eventlog;
struct feed;
struct lines;

enum { FEED_CURSORS_MAX = 4 }; /* open in the log for those who are behind */

/** What feed_take() answers. */
enum {
	FEED_END = 0,    /* nothing newer has been read from the log: feed_advance() */
	FEED_LINES = 1,  /* *out holds the event */
	FEED_BEHIND = 2, /* older than the window: feed_replay() */
};

/** Returns 0 or a negative errno. @log is borrowed for the life of the feed. */
int feed_create(struct eventlog *log, struct feed **out);

/** NULL is fine. */
void feed_destroy(struct feed *feed);

/**
 * The lines from event @seq on that are in memory. With FEED_LINES the caller gets a reference in
 * *@out.
 */
int feed_take(struct feed *feed, uint64_t seq, struct lines **out);

/**
 * Read on at the end of the window, a bounded amount. Returns the number of events, 0 at the head
 * of the log, or a negative errno.
 */
int feed_advance(struct feed *feed);

/** The event behind the window: who waits at the head waits for this one. */
uint64_t feed_end(const struct feed *feed);

/**
 * Ask that eventlog_news_fd() tells of events behind the window. Returns false when there are
 * some already.
 */
bool feed_arm(struct feed *feed);

/**
 * Read the lines from event @seq on from the log, a bounded amount. Returns 0 and a reference in
 * *@out; -ENODATA when the event is older than the oldest kept; or another negative errno.
 */
int feed_replay(struct feed *feed, uint64_t seq, struct lines **out);

/** Nobody has been behind for a while: close the cursors for those. */
void feed_rest(struct feed *feed);

/** Nobody is left: forget the lines in memory too. */
void feed_forget(struct feed *feed);
