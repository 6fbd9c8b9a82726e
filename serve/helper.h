/*
 * Helper: calls that may block, made on a thread of their own so that the loop never waits.
 *
 * Jobs run one at a time, in the order of submission, and are handed back on the loop's thread.
 */
#pragma once

#include <sys/queue.h>

struct helper;
struct loop;

/** Belongs to the submitter again when @done is called. */
struct helper_job {
	STAILQ_ENTRY(helper_job) link;
	void (*run)(struct helper_job *job);  /* on the helper's thread */
	void (*done)(struct helper_job *job); /* on the loop's thread */
};

/** Returns 0 or a negative errno. @loop is borrowed for the life of the helper; no thread yet. */
int helper_create(struct loop *loop, struct helper **out);

/** Start the thread. Returns 0 or a negative errno. */
int helper_start(struct helper *helper);

/** Hand over a job. On the loop's thread. */
void helper_submit(struct helper *helper, struct helper_job *job);

/**
 * Wait for the job that is running, end the thread, and free. The loop runs no more: jobs that
 * have not been handed back get their @done from here, those that did not run as well. NULL is
 * fine.
 */
void helper_destroy(struct helper *helper);
