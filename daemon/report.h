/* Report: what the daemon adds to the status that the server answers. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

struct bytes;
struct fs;
struct scan;
struct setup;

struct report {
	const struct setup *setup; /* borrowed */
	struct fs *fs;             /* borrowed */
	const struct scan *scan;   /* borrowed */
	pid_t supervisor_pid;
	unsigned restarts;         /* workers before this one */
	bool is_idle_class;        /* what scheduling_yield() said */
	const char *upgrade_failure; /* borrowed: why the last restart came to nothing; "": it did not */
	atomic_bool is_on_trial;   /* of a restart: the program before can still come back, or has not gone yet */
};

/** Append the members, each with a comma before it. Any thread. */
void report_write(const struct report *report, struct bytes *json);
