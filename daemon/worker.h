/*
 * Worker: the process that serves a mount: log, session and server.
 *
 * It is forked by the supervisor, may die at any instant, and is then replaced. What has to survive it is in the tables, in the journal and with
 * the supervisor. When the supervisor dies, it ends as well.
 */
#pragma once

#include "daemon/exit.h"

#include <stdbool.h>
#include <sys/types.h>

struct launch;
struct setup;

/** All borrowed. */
struct worker_options {
	const struct setup *setup;
	const struct launch *launch; /* for leaving the terminal before the supervisor tells the caller */
	int control_fd;              /* our end, see control.h */
	int tables_fd;               /* of fs_tables_create() */
	pid_t supervisor_pid;
	bool is_on_trial;            /* the program before is kept until CONTROL_KEPT */
	const char *upgrade_failure; /* why the last restart came to nothing; "": it did not */
	bool is_takeover;            /* the kernel knows this connection: no orphans to settle, no `mounted` event */
	bool is_successor;           /* a worker before this one has served */
	unsigned restarts;           /* workers before this one */
};

/**
 * Serve until the end; in the forked child, which then exits with what is returned. STATUS_OK: the file system was unmounted, or the supervisor
 * wanted it. Everything else has been said on stderr.
 */
enum exit_status worker_run(const struct worker_options *options);
