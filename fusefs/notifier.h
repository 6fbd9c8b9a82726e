/*
 * Notifier: a process that has the kernel drop the pages it keeps of an inode.
 *
 * The kernel waits for a page that is locked, in a way that no signal ends, not even SIGKILL. A page can be locked for as long as somebody
 * likes (while a listing is copied to a program, and its memory is a file of another network or FUSE file system), or until a request is
 * answered. A worker with a thread that waits there could be killed but not be waited for, so no other would take its place, and the mount
 * would stand still. So a process does nothing but this. It has the FUSE descriptor, a pipe of nodeids and no capability, and ends with
 * the worker.
 *
 * One thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct notifier;

enum { NOTIFIER_BATCH = 64 };

/** Fork it. @fuse_fd is borrowed. Best called while the caller is small: the process keeps a copy of its memory. Returns 0 or a negative errno. */
int notifier_start(int fuse_fd, struct notifier **out);

/** Ends it, and waits for that a little while. NULL is fine. */
void notifier_stop(struct notifier *notifier);

/**
 * Have the pages of @count inodes, NOTIFIER_BATCH at most, dropped soon. Waits for half a second where there is no room. A process that was
 * killed is started again. Returns whether it was told.
 */
bool notifier_drop(struct notifier *notifier, const uint64_t *nodeids, size_t count);
