/*
 * Who: from the thread id of a request to the process behind it.
 *
 * FUSE names the thread; an event names the process and its comm. Finding those means reading /proc, so what was
 * found is remembered per thread id together with an open /proc/<tid>/comm: that file stays bound to the thread
 * it was opened for, so one pread() both gives the comm of now (an exec changes it) and tells whether
 * the id has been given to somebody else. It costs as much as the change that is logged, and is left out while no thread of the
 * machine has become another program (execs.h); where that cannot be known, when the same thread asks again before it can have.
 *
 * One struct for each worker thread; no locks.
 */
#pragma once

#include "proto/event.h"

#include <stdint.h>
#include <sys/types.h>

struct execs;

enum { WHO_SLOTS = 32 };

struct who_slot {
	pid_t tid;
	pid_t pid;
	int comm_fd;
	uint64_t asked_ns;     /* CLOCK_MONOTONIC of the last who_find() */
	uint64_t checked_ns;   /* of the one that read comm_fd last */
	uint64_t execs;        /* their count before that */
	char comm[EVENT_COMM_MAX + 1];
	uint8_t comm_length;
};

struct who {
	const struct execs *execs;
	struct who_slot slots[WHO_SLOTS];
};

/** @execs is borrowed; NULL: they are not counted. */
void who_init(struct who *who, const struct execs *execs);
void who_finish(struct who *who);

/**
 * The process of thread @tid. Returns a slot whose pid, comm and comm_length are filled, valid until the next call; pid 0 and an
 * empty comm for @tid 0 (another pid namespace) or a thread that is gone. Where execs are not counted, with @is_hot an answer of the
 * last few milliseconds is good enough: a thread that goes on writing to one file.
 */
const struct who_slot *who_find(struct who *who, pid_t tid, bool is_hot);
