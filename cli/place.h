/*
 * Place: which log a path on the command line means, and what the path is called in it.
 *
 * In a mount the daemon answers. Elsewhere the path may be a state folder, or lie in a directory
 * that has been mounted from and whose log is in the default place.
 */
#pragma once

#include <limits.h>
#include <stdbool.h>

struct place {
	bool is_mounted;
	char state[PATH_MAX];    /* the state folder */
	char within[PATH_MAX];   /* relative to the root of the tree; "" for the root */
	char existing[PATH_MAX]; /* absolute: the longest part of the path that exists */
};

/**
 * Find the place of @path, the last components of which need not exist. A link at its end is
 * followed only when @follow says so: else the link itself is meant. Returns 0, -ENOTTY (no log has
 * to do with it), -EACCES (there is one for somebody else), -ENOTCONN (a mount whose daemon has
 * died), or another negative errno.
 */
int place_find(const char *path, bool follow, struct place *out);

/**
 * The path of @path as the tree of @place has it, to @out: @path leads into the tree, or else is
 * relative to its root. A link at its end is meant itself. Returns 0, -EXDEV (it leads elsewhere),
 * or -ENAMETOOLONG.
 */
int place_resolve(const struct place *place, const char *path, char out[PATH_MAX]);
