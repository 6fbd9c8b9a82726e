/*
 * Privileges: what a daemon of root keeps of root's capabilities.
 *
 * The bounding set goes with the others, so that no program that is executed gets back what was dropped. Nothing is ever gained: a process that has
 * less than this keeps what it has.
 */
#pragma once

#include <stdbool.h>

/**
 * For the supervisor: what it needs itself, what its workers need, and @enters_namespace. One thread, before a worker is made. Run by root it also
 * promises that no program it executes has more; others need set-user-id fusermount3. Returns 0 or a negative errno.
 */
int privileges_drop_in_supervisor(bool enters_namespace);

/** For a worker, before it has threads. Returns 0 or a negative errno. */
int privileges_drop_in_worker(void);
