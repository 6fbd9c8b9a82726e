/*
 * Fusermount: mounting and unmounting as an ordinary user, through the set-user-id program fusermount3.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct options;

enum { FUSERMOUNT_WORDS_MAX = 512 }; /* bytes of what fusermount3 says, NUL included */

/**
 * Mount at @path. @fsname: what the table of mounts shows as the source. Returns a descriptor of /dev/fuse, close-on-exec, which the
 * caller owns; -ENOENT (there is no fusermount3), -EPERM (it refused, and @words has the first line it said), or another negative errno.
 */
int fusermount_mount(const char *path, const char *fsname, const struct options *options,
		     char words[FUSERMOUNT_WORDS_MAX]);

/** Unmount @path; @lazily: also when it is in use. Says nothing. Returns 0, -ENOENT, -EBUSY (it refused), or another negative errno. */
int fusermount_unmount(const char *path, bool lazily);
