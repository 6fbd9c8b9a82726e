/*
 * Mounttable: what is mounted where, from /proc/self/mountinfo. Reading it asks no file system anything, so a dead or hung
 * mount can be looked up.
 */
#pragma once

#include <stdbool.h>

struct mounted {
	unsigned id;     /* of the mount, unique while it exists */
	unsigned minor;  /* of its device; for FUSE the number of the connection */
	bool is_fuse;
};

/** The uppermost mount at @path, an absolute path without links. Returns 1, 0 (nothing is mounted just there), or a negative errno. */
int mounttable_find(const char *path, struct mounted *out);
