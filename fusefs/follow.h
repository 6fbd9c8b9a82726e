/*
 * Follow: the threads that answer run on the processor of the program that asks.
 *
 * A request on /dev/fuse wakes whichever thread waits the longest, and the scheduler looks for an idle processor for it. There nearly always
 * is one, so each request wakes a sleeping processor, and so does its answer; that takes longer than all the rest of it. A program that waits
 * for its answer leaves its own processor idle. So while one program asks many times in a row, and fast, all threads are bound to the processor that it
 * is on, unless it runs in real time, and when another one asks, to none. The program stays there as long as the threads give way to it (daemon/scheduling.h), which is
 * for the caller to see to. docs/performance.md has the figures.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

struct follow;

/** For at most @limit threads. Returns 0, -EOPNOTSUPP (there is one processor only, or no /proc of our PID namespace), or another negative errno. */
int follow_create(unsigned limit, struct follow **out);

/** No thread is joined any more. NULL is fine. */
void follow_destroy(struct follow *follow);

/** The calling thread is one of those that answer, until it leaves. */
void follow_join(struct follow *follow);
void follow_leave(struct follow *follow);

/**
 * By a joined thread: it has answered the program's thread @tid, as the header of a request names it (0: one of another PID namespace),
 * and not what nobody waits for, like a RELEASE. Costs some ten nanoseconds, and twenty microseconds once a millisecond. NULL is fine. Returns
 * whether the other threads have just been bound, or let go: then the caller is to follow_go_along(), and while they are bound follow_rest() is due.
 */
bool follow_answered(struct follow *follow, pid_t tid);

/**
 * By a joined thread: to where the others are. It may wait for as long as something else has that processor, so who sees after follow_rest() is told
 * before. NULL is fine.
 */
void follow_go_along(struct follow *follow);

/**
 * About ten times a second while threads are bound, by any thread that has not joined: lets them go if nobody was answered since the last time,
 * so between one and two of these periods after the last answer. There may be nobody who asks, or something on that processor that leaves no time to
 * answer. NULL is fine.
 */
void follow_rest(struct follow *follow);

/** Any thread. NULL is fine. */
bool follow_is_bound(struct follow *follow);
