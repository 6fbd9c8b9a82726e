/*
 * Receiver: somebody who is told of changes, by hrfs or by what else there is.
 *
 * All are asked for the same: a write to one file, the probe, in a folder in which other things happen as well. A
 * receiver belongs to one thread at a time.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct receiver;

/** The name of the file that matters, in the folder that is watched. */
#define PROBE "probe"

/**
 * Start to watch @folder by @kind: "inotify" (a watch for each folder below), "fanotify" (a mark on the file system),
 * "hrfs" (the mount that it is in) or "watchman" (its server's socket is @socket_path). When it returns, all that
 * happens from then on is received. The caller owns *@out. Returns 0, -EINVAL (no such kind), or another negative
 * errno.
 */
int receiver_open(const char *kind, const char *folder, const char *socket_path, struct receiver **out);

/** Stop and free; NULL is fine. */
void receiver_close(struct receiver *receiver);

/**
 * Wait until it is told that the probe has been written to. @size is the probe's size after the write that is waited
 * for: who is told sizes passes over news of earlier writes by it. Returns 0 or a negative errno.
 */
int receiver_wait(struct receiver *receiver, uint64_t size);
