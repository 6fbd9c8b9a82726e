/*
 * Mountpoint: the place where the tree is mounted, and mounting there.
 *
 * As root through mount(2), else through fusermount3. The place may be in another mount namespace (-N): it is entered for each call and
 * left again, so paths of everything else are those of our own. One thread: a process with several cannot change its namespace.
 */
#pragma once

#include "daemon/exit.h"

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

struct mounted;
struct options;

struct mountpoint {
	char path[PATH_MAX]; /* absolute, without links */
	dev_t under_dev;     /* of the directory that is mounted over */
	ino_t under_ino;
	int namespace_fd;    /* owned; -1: our own namespace */
	int home_fd;         /* owned; our own namespace, when the other is not -1 */
	unsigned mount_id;   /* of the mount we made; 0: none */
	unsigned connection; /* its number below /sys/fs/fuse/connections */
};

/** An empty one, which mountpoint_close() may have. */
#define MOUNTPOINT_EMPTY ((struct mountpoint){ .namespace_fd = -1, .home_fd = -1 })

/**
 * Find the directory @path and clean a dead FUSE mount there away. @namespace: of -N; NULL: ours. Returns STATUS_OK, or another after having
 * said why.
 */
enum exit_status mountpoint_open(struct mountpoint *mountpoint, const char *path, const char *namespace);

/** Go to the mount namespace @namespace of -N for good; NULL: stay. Returns STATUS_OK, or another after having said why. */
enum exit_status mountpoint_go(const char *namespace);

/** Close its descriptors. Unmounts nothing. */
void mountpoint_close(struct mountpoint *mountpoint);

/** Whether this user may mount there as @options want it. STATUS_OK, or another after having said why. */
enum exit_status mountpoint_check(const struct mountpoint *mountpoint, const struct options *options);

/**
 * Mount. @fsname is what the table of mounts shows as the source. Sets *@out_fuse_fd, which the caller owns, and returns STATUS_OK; or another
 * after having said why.
 */
enum exit_status mountpoint_mount(struct mountpoint *mountpoint, const char *fsname, const struct options *options,
				  int *out_fuse_fd);

/** What the table of mounts says of the mount we made, if that is still the uppermost there. Returns whether it is. */
bool mountpoint_find(const struct mountpoint *mountpoint, struct mounted *out);

/** Whether the mount we made is still the uppermost there. */
bool mountpoint_is_mounted(const struct mountpoint *mountpoint);

/**
 * Unmount what we mounted; without it, nothing. First so that it fails when it is in use, then, after that or with @lazily at once, so that it
 * vanishes from the tree and ends with its last user. May block while the worker does not answer. Returns 0 or a negative errno.
 */
int mountpoint_unmount(const struct mountpoint *mountpoint, bool lazily);

/** Make the kernel answer everything that waits for the worker with an error. Where it cannot be done, closing /dev/fuse does it. */
void mountpoint_abort(const struct mountpoint *mountpoint);

/**
 * Start a process that unmounts when all copies of the returned descriptor are closed, that is when the supervisor has died. It
 * does nothing when the mount is gone by then. Returns the descriptor, close-on-exec, or a negative errno.
 */
int mountpoint_watch(const struct mountpoint *mountpoint);
