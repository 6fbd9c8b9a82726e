/*
 * Request: answers what a client asks for in the native dialect.
 *
 * What may block (sync waits for the store, manual for room in the log, restart for another process) is a job for the helper:
 * the connection looks at no further request until it is answered, everything else goes on.
 */
#pragma once

#include <stddef.h>

struct bytes;
struct request_job;
struct subscriber;

/**
 * Handle one line, without its newline: borrowed. Afterwards the subscriber has an answer, a job,
 * or has failed, in which case its input, which the line may be part of, is gone.
 */
void request_handle(struct subscriber *subscriber, const char *line, size_t size);

/** Append an error line; @error is a negative errno. */
void request_write_error(struct bytes *out, int error, const char *message);

/** The subscriber of @job goes away: nobody wants the answer. */
void request_abandon(struct request_job *job);
