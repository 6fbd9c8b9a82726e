/*
 * Follow: keeps the tree up with the log while a scan looks at the disk, and says when the two can be compared.
 *
 * What was seen on the disk is compared with the log at one place of it. Between the look and that place no event may be
 * about the name, and no request may be under way that had changed it when it was looked at: follow_to_end() waits for
 * those and tells. follow_log() then logs an event only at that very place. So a scan never tells what a request told,
 * or is about to.
 *
 * One thread.
 */
#pragma once

#include "eventlog/eventlog.h"
#include "eventlog/tree.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct event;
struct idset;

/** A name as it is found on the disk. */
struct follow_name {
	int64_t parent;  /* the row of its directory */
	const char *name;
	size_t length;
	uint64_t ino;    /* 0: there is no such name */
	uint64_t from;   /* the log's next seq before the look */
};

/** Called for a name about which the log said that it came, but not what it is. Returns 0 or a negative errno. */
typedef int (*follow_moved_fn)(void *userdata, const char *path, size_t length);

struct follow {
	struct eventlog *log;           /* borrowed */
	struct eventlog_cursor *cursor; /* owned */
	struct writer *writer;          /* owned */
	struct tree *tree;              /* owned */
	const atomic_bool *is_stopping; /* borrowed */
	follow_moved_fn on_moved;
	void *userdata;
	struct tree_progress progress;  /* seq: what the tree knows; the rest is the caller's */
	bool has_mounted;               /* the tree was mounted anew since it was last compared */
	int64_t last_ns;                /* of the last event; 0: not known */
	int64_t away_ns;                /* of the last one before the first time unmounted; 0: not known */
	int64_t saved_ms;
};

/** What follow_to_end() and follow_log() answer when they did not fail. */
enum { FOLLOW_READY = 0, FOLLOW_AGAIN = 1 };

/**
 * Open the tree of @log in @state_path. What has to be known of it, or forgotten, is. The other members of @follow are
 * set by the caller; follow_finish() frees in either case. Returns 0 or a negative errno.
 */
int follow_init(struct follow *follow, const char *state_path);
void follow_finish(struct follow *follow);

/**
 * Bring the tree to the end of the log; @name (NULL: none) has been looked at. FOLLOW_AGAIN: look at it again. Returns
 * -ECANCELED when stopping, or another negative errno.
 */
int follow_to_end(struct follow *follow, const struct follow_name *name);

/**
 * Log @event if nothing has been logged since follow_to_end(). FOLLOW_AGAIN: something has. Returns a negative errno.
 */
int follow_log(struct follow *follow, struct event *event);

/** Commit the tree, and what of the log it is made from. Returns 0 or a negative errno. */
int follow_save(struct follow *follow);
