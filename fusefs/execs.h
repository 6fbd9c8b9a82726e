/*
 * Execs: a number that changes whenever some thread of the machine becomes another program, gives itself another name, begins or
 * ends.
 *
 * While it stays the same, what was read of a thread in /proc still holds. The kernel counts by itself (perf_event_open(2)): for each
 * processor it writes a record of every such moment to a mapped ring, before the thread goes on. The records are never read; where
 * the next one will be written says enough, and reading that is a load from memory. A child of fork(2) does not have the mapping.
 */
#pragma once

#include <stdint.h>

struct execs;

/**
 * Begin to count. Returns 0 and sets *@out, or a negative errno: -EACCES or -EPERM without CAP_PERFMON or CAP_SYS_ADMIN, -ENODEV
 * when a processor is offline and could come without being counted, or another.
 */
int execs_open(struct execs **out);

/** The number. Any thread; makes no system call. */
uint64_t execs_count(const struct execs *execs);

/** NULL is fine. */
void execs_close(struct execs *execs);
