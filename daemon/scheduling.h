/*
 * Scheduling: where the programs run that the worker answers.
 *
 * A request is two switches, from the program to a thread of ours and back. When ours wakes the program, the scheduler looks for an idle
 * processor, since ours is not idle yet; if there is one, the program moves there, and waking a sleeping processor costs more than
 * everything else of the request (docs/performance.md has figures). A processor that runs nothing but SCHED_IDLE counts as idle, so with threads of that
 * class the program stays where it is, and its caches with it.
 *
 * SCHED_IDLE gives way to every other thread of the same scheduling group, and would starve there. In a group of its own it does not: groups share a
 * processor alike, whatever is in them (sched(7), "The autogroup feature"; cgroups(7), cpu.weight). So the class is taken only there.
 */
#pragma once

#include <stdbool.h>

/**
 * Whether no process but this one and its parent is in its scheduling group, as far as the kernel's files say that lie below @root_fd, the
 * directory "/". The caller leads a session.
 */
bool scheduling_group_is_own(int root_fd);

/**
 * Take SCHED_IDLE for the calling thread, and those it starts from then on, if the caller leads a session and its scheduling group is its own.
 * The priority of I/O stays what it was. Returns whether it did.
 */
bool scheduling_yield(void);
