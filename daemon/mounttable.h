/*
 * Mounttable: what is mounted where, from /proc/self/mountinfo. Reading it asks no file system anything, so a dead or hung
 * mount can be looked up.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum { MOUNTTABLE_OPTIONS_SIZE = 256, MOUNTTABLE_TYPE_SIZE = 64 };

struct mounted {
	unsigned id;     /* of the mount, unique while it exists */
	unsigned minor;  /* of its device; for FUSE the number of the connection */
	bool is_fuse;
	char type[MOUNTTABLE_TYPE_SIZE]; /* "fuse.hrfs"; cut where there is no room */
	char options[MOUNTTABLE_OPTIONS_SIZE]; /* of the mount and of the file system, separated by commas; cut where there is no room */
};

/** The uppermost mount at @path, an absolute path without links. Returns 1, 0 (nothing is mounted just there), or a negative errno. */
int mounttable_find(const char *path, struct mounted *out);

/**
 * Where the FUSE file system is mounted last that names @source, a path, as what is mounted. Returns 1, 0 (nowhere), or a negative errno.
 */
int mounttable_find_source(const char *source, char *out_path, size_t size);
