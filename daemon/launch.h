/*
 * Launch: going to the background, once there is something to come back for.
 *
 * The process that was called waits; its child becomes the daemon and tells how it went. Until then messages go where the caller
 * sees them; after that to the file "messages" in the state folder, which begins anew when it has grown large.
 */
#pragma once

#include "daemon/exit.h"

#include <stdbool.h>

struct launch {
	int caller_fd; /* owned; to the process that was called; -1: in the foreground, or it has been told */
};

/** Fork unless @is_foreground. Only the daemon returns, with STATUS_OK; on failure the caller does, with another status, having said why. */
enum exit_status launch_begin(struct launch *launch, bool is_foreground);

/**
 * No terminal, no standard input and output, and messages to the file; not in the foreground. For each process of the daemon
 * before the caller is told.
 */
void launch_detach(const struct launch *launch, int state_fd);

/** The mount is live: become a session of our own and let the caller return 0. */
void launch_succeed(struct launch *launch);

/** It was not to be: let the caller return @status. Without launch_succeed() before, else nothing. */
void launch_fail(struct launch *launch, enum exit_status status);
