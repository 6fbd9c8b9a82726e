/*
 * Scan: compares the tree with what the log last said of it, on a thread of its own and of low priority.
 *
 * What differs is logged with the origin `scan`, in an order in which it could have happened. What a request through
 * the mount changes meanwhile is never reported.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct eventlog;
struct scan;

/** When a tree is scanned. */
enum scan_mode {
	SCAN_AUTO, /* when it was not under the eyes of a mount; where nothing is known yet, it is taken as it is */
	SCAN_FULL, /* always; where nothing is known yet, all of it is reported */
	SCAN_OFF,
};

struct scan_options {
	enum scan_mode mode;
	int source_fd;          /* borrowed: the tree underneath; may be O_PATH */
	const char *state_path; /* borrowed: the state folder */
	bool is_takeover;       /* the mount went on without a break, only the worker is another */
	bool was_unclean;       /* the last mount did not end in good order */
};

enum scan_state {
	SCAN_IS_OFF,
	SCAN_WAITING, /* reads the log first */
	SCAN_RUNNING,
	SCAN_DONE,
	SCAN_FAILED,
};

struct scan_stat {
	enum scan_state state;
	uint64_t entries;     /* names that were looked at */
	uint64_t differences; /* events that were logged */
	int64_t duration_ms;
};

/** Begin, if the mode wants it. @log outlives the scan. Returns 0 or a negative errno. */
int scan_start(const struct scan_options *options, struct eventlog *log, struct scan **out);

/** End it, finished or not, at once. What scan_stat() says stays. NULL is fine. */
void scan_stop(struct scan *scan);

/** Stop and free. NULL is fine. */
void scan_destroy(struct scan *scan);

/** Any thread. */
void scan_stat(const struct scan *scan, struct scan_stat *out);

/** "running" and so on. Static. */
const char *scan_state_name(enum scan_state state);
