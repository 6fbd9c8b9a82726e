/*
 * Hub: what the connections of a server share, and whose turn it is.
 *
 * Those who stand at the head of the log wait for news together. Those who are behind stand in a
 * queue and are given lines from the log a few at a time, between which everybody else goes on.
 * Whoever makes the server wait (half a line, an answer that is not read) has a deadline. The
 * loop's thread only.
 */
#pragma once

#include "base/loop.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

struct bytes;
struct eventlog;
struct feed;
struct helper;
struct hub;
struct server_hooks;
struct subscriber;

TAILQ_HEAD(subscriber_list, subscriber);

/* A queue in which a subscriber waits for its turn: in one at a time. */
struct hub_queue {
	struct subscriber_list list;
	unsigned count;
};

struct hub {
	struct loop *loop;                /* owned, as is what it runs */
	struct eventlog *log;             /* borrowed, for the life of the hub */
	const struct server_hooks *hooks; /* borrowed */
	uid_t owner;      /* who may ask for a restart, beside root */
	const char *root; /* borrowed: the mount point, for status; NULL: not told */
	struct feed *feed;
	struct helper *helper;

	struct subscriber_list all;
	unsigned count;
	uint64_t last_id;

	struct hub_queue at_head;         /* want events that are not in memory yet */
	unsigned credit;                  /* what hub_deliver() may still do; see HUB_DIRECT_BURST */
	uint64_t credit_ns;               /* CLOCK_MONOTONIC, when it was last counted */
	struct hub_queue behind;          /* want older events */
	struct subscriber_list deadlines; /* the earliest first: all are given the same time */
	uint64_t patience_ms;             /* that time: HUB_PATIENCE_MS */

	struct loop_timer advance; /* read on at the head */
	struct loop_timer replay;  /* serve the next who are behind */
	struct loop_timer rest;    /* nobody has been behind for a while */
	struct loop_timer deadline;

	bool is_ending; /* say bye to whoever has the events below end_seq */
	uint64_t end_seq;
	const char *reason; /* borrowed; in bye */
};

enum {
	HUB_SUBSCRIBERS_MAX = 4096,
	HUB_REPLAYS_A_TURN = 4, /* reads from the log for those behind, each of some 64 KiB */
	HUB_PATIENCE_MS =
		30000,      /* for the rest of a line; for an answer to be read before closing */
	HUB_REST_MS = 1000, /* after it the cursors for those behind are closed */
	HUB_DIRECT_MAX = 4, /* subscribers that a program waits for when it has changed something */
	HUB_DIRECT_BURST = 8, /* changes in a row of which that is true, and */
	HUB_DIRECT_US = 250,  /* microseconds until it is true of one more */
};

/** Make the loop and what runs on it. Returns 0 or a negative errno; hub_finish() either way. */
int hub_init(struct hub *hub, struct eventlog *log, const struct server_hooks *hooks);

/** After the loop has ended. */
void hub_finish(struct hub *hub);

/** A new connection. */
void hub_add(struct hub *hub, struct subscriber *subscriber);

/** A connection that is gone. The last one ends the loop when the hub is ending. */
void hub_remove(struct hub *hub, struct subscriber *subscriber);

/** @subscriber has all lines in memory: call subscriber_advance() when there is more. */
void hub_wait_at_head(struct hub *hub, struct subscriber *subscriber);

/**
 * Send the news to those who wait at the head, in place of the loop's thread: waking that takes longer than the sending
 * does. Only while few wait, and after a quiet time: in a storm the loop's thread sends many at once.
 * Returns whether all is done, and the log has been asked to call again. Any thread.
 */
bool hub_deliver(struct hub *hub);

/** @subscriber wants older lines: call subscriber_replay() when they have been read. */
void hub_wait_behind(struct hub *hub, struct subscriber *subscriber);

/** @subscriber waits for neither. */
void hub_stop_waiting(struct hub *hub, struct subscriber *subscriber);

/** Call subscriber_expire() after patience_ms; a deadline that is set stays. */
void hub_set_deadline(struct hub *hub, struct subscriber *subscriber);

void hub_clear_deadline(struct hub *hub, struct subscriber *subscriber);

/**
 * Say bye to everybody who has received what is in the log now, and end the loop when all have.
 * @reason is borrowed.
 */
void hub_end(struct hub *hub, const char *reason);

/** The grace is over: say bye to the rest, and close those who do not take it. */
void hub_cut(struct hub *hub);
