/*
 * Output: standard output, so that it can be interrupted.
 *
 * Text is collected and written when the caller says so. A reader that has gone, and a signal
 * that arrives while a slow reader makes us wait, are answers. One thread.
 */
#pragma once

#include "base/bytes.h"

enum { OUTPUT_BATCH = 64 << 10 }; /* bytes that are always worth a write */

struct output {
	struct bytes bytes; /* what is not written yet; append here */
	size_t enough;      /* bytes worth a write: few at first, so that the first answer comes at once */
	int fd;             /* borrowed */
	int stop_fd;        /* borrowed: stop writing once it is readable; -1: none */
};

/** Start with nothing to write. SIGPIPE must be ignored. */
void output_init(struct output *output, int fd, int stop_fd);

/** Free; what is not written is dropped. */
void output_finish(struct output *output);

/**
 * Write everything. Returns 0, -EPIPE (the reader has gone), -EINTR (told to stop), or another
 * negative errno.
 */
int output_flush(struct output *output);

/** output_flush(), if there is enough to be worth it. */
int output_flush_batch(struct output *output);
