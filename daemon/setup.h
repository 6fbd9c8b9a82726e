/*
 * Setup: what a mount needs, checked and opened before anything is changed.
 *
 * Everything that a user can get wrong is found here, in the process that was called, so that it is said on its stderr and in its exit
 * status. The supervisor and each worker read it; nobody changes it once it is complete, but the mount point, which knows its mount.
 */
#pragma once

#include "daemon/exit.h"
#include "daemon/listener.h"
#include "daemon/mountpoint.h"
#include "daemon/options.h"
#include "daemon/state.h"

#include <limits.h>
#include <stdbool.h>
#include <sys/stat.h>

struct setup {
	struct options options; /* owned */
	char source[PATH_MAX];  /* absolute, without links */
	struct stat source_stat;
	int source_fd;          /* owned; O_PATH; opened before the mount, so that an in-place mount does not hide it */
	bool is_in_place;
	bool use_uring;
	gid_t subscribers;      /* (gid_t)-1: none */
	struct mountpoint mountpoint;
	struct state state;
	struct listener listener;
};

/** An empty one, which setup_close() may have. */
#define SETUP_EMPTY                                                                                          \
	((struct setup){ .source_fd = -1,                                                                    \
			 .subscribers = (gid_t)-1,                                                           \
			 .mountpoint = MOUNTPOINT_EMPTY,                                                     \
			 .state = { .fd = -1 },                                                              \
			 .listener = { .fd = -1 } })

/** Check and open what setup->options says. Returns STATUS_OK, or another after having said why; setup_close() in either case. */
enum exit_status setup_open(struct setup *setup);

/** The part of it that a program before does not leave: what options mean. Returns STATUS_OK, or another after having said why. */
enum exit_status setup_complete(struct setup *setup);

/** Close everything, remove the socket, free the options. */
void setup_close(struct setup *setup);
