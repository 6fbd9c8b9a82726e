/*
 * Remount: changes the flags of a live mount, for mount -o remount.
 *
 * The kernel does it; the daemon is not asked. So only flags that are the kernel's business can change: those that the daemon acts upon (sync,
 * dirsync, noatime and its kind) cannot, and what is not a flag stays as it is.
 */
#pragma once

#include "daemon/exit.h"

struct options;

/** As @options say, for the mount at its mount point. Returns STATUS_OK, or another after having said why. */
enum exit_status remount_run(const struct options *options);

/** The flags of @now where they can change, else those of @before. Of mount(2). */
unsigned long remount_merge(unsigned long before, unsigned long now);
