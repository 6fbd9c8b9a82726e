/*
 * Connection: lines to and from the server of one mount.
 *
 * What hrfs.h promises is made of the functions here: a request is one line, an answer is the
 * next line of its kind. The input is read into one buffer, from which lines are handed out in
 * place:
 *
 *     input.data   |  handed out  |  line line line li |  room  |
 *                  0              line_end              size     capacity
 *
 * A line is valid until the next one is asked for. A connection belongs to one thread at a time.
 */
#pragma once

#include "base/bytes.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json;
struct native_storage;

enum {
	/*
	 * The longest line that a server may send: an event with two paths of which every byte is
	 * escaped is shorter.
	 */
	CONNECTION_LINE_MAX = 4 << 20,

	/*
	 * How long a request may go unanswered: the server may be waiting for its disk, or be
	 * replaced.
	 */
	CONNECTION_ANSWER_MS = 30 * 1000,
};

struct hrfs {
	int fd; /* owned; blocks, but is only read when there is something */
	bool is_subscribed;
	bool has_ended; /* the server closed its end */
	uint64_t position;
	struct bytes input;
	size_t line_end;  /* offset in input behind the last line that was handed out */
	size_t searched;  /* offset in input before which, from line_end on, there is no newline */
	const char *line; /* the last one, NUL-terminated in input; NULL before there is one */
	size_t line_length;
	struct bytes output;            /* the request being put together */
	struct native_storage *storage; /* owned: strings of the last event */
	char *message;                  /* owned: strings of the last line that is no event */
	char log_id[64];
	char reason[64]; /* of bye */
	char error[512]; /* what the server said; "" */
};

/** A moment on the monotonic clock, in ms, or CONNECTION_FOREVER. */
typedef int64_t connection_deadline;

#define CONNECTION_FOREVER INT64_MAX

/** The moment that is @timeout_ms (-1: for ever) from now. */
connection_deadline connection_deadline_in(int timeout_ms);

/**
 * Hand out the next line, in hrfs->line, without its newline. Lines that were received before the
 * deadline are handed out after it, too. Returns 1, 0 when the time is up, -EPIPE (the connection
 * ended; what is left is no whole line), -EMSGSIZE (longer than CONNECTION_LINE_MAX), or another
 * negative errno.
 */
int connection_next_line(struct hrfs *hrfs, connection_deadline deadline);

/**
 * Send hrfs->output and a newline, and forget what the last request left behind. Returns 0,
 * -EPIPE, or another negative errno.
 */
int connection_send(struct hrfs *hrfs);

/**
 * Start to read hrfs->line as a message: an object with one member, which is an object. Returns
 * 0, copies its name to *@out_kind (static, or "" for a kind that is not known here), and leaves
 * @json at the value; or -EBADMSG, or -ENOMEM.
 */
int connection_open_message(struct hrfs *hrfs, struct json *json, const char **out_kind);

/**
 * Note what {"error":{...}} says, with @json at its value. Returns -EREMOTEIO, -EBADMSG, or
 * -ENOMEM.
 */
int connection_take_error(struct hrfs *hrfs, struct json *json);

/** Note the reason of {"bye":{...}}, with @json at its value. Returns 0 or -EBADMSG. */
int connection_take_bye(struct hrfs *hrfs, struct json *json);

/**
 * Wait for the message @kind, for CONNECTION_ANSWER_MS, passing over others, with @json at its
 * value. Returns 0, -ETIMEDOUT, -EREMOTEIO when an error came instead, -EPIPE when the end or a
 * bye came, or another negative errno.
 */
int connection_wait_for(struct hrfs *hrfs, const char *kind, struct json *json);

/** Copy a string that was read to @out, of @size bytes, cut where it is too long. */
void connection_copy(char *out, size_t size, const char *text);
