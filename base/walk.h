/*
 * Walk: the way down a path, a descriptor at a time.
 *
 * Every component is opened below the directory before it, so what somebody renames or replaces meanwhile leads nowhere else. A symbolic
 * link is followed only when it belongs to root or to ourselves: nobody else chooses where a daemon of root writes.
 */
#pragma once

#include <limits.h>
#include <sys/types.h>

struct walk {
	int fd;              /* owned; O_PATH: the deepest directory that exists */
	char rest[PATH_MAX]; /* what comes below it: names that do not exist; "" when all of the path does */
};

/**
 * Go down @path. Returns 0 and fills *@out, which walk_finish() frees; -ELOOP for a link that is not followed, -ENOENT for .. below what does not
 * exist, -ENOTDIR, or another negative errno.
 */
int walk_open(const char *path, struct walk *out);

/** Make the rest, the last directory with @last_mode. Returns 1 when that one was made, 0 when it was there, or a negative errno. */
int walk_make(struct walk *walk, mode_t mode, mode_t last_mode);

/** Write the path, absolute and without links as far as it exists. Returns 0 or a negative errno. */
int walk_path(const struct walk *walk, char out[PATH_MAX]);

/** Close the descriptor. -1 is fine. */
void walk_finish(struct walk *walk);
