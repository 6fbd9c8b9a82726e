/*
 * Native: the JSON lines of the native dialect, as documented in hrfs-protocol(7).
 *
 * Both directions are by hand (json.h): the writer of events because it is on the way of every
 * event, the readers because JSON libraries know neither bytes that are not UTF-8 nor numbers
 * above 2^63 - 1.
 *
 * Bytes that are not UTF-8: a string is written as it is while its bytes are valid UTF-8; each
 * byte that is no part of valid UTF-8 is written as the lone surrogate U+DC00 + byte
 * ("\udcff"), which is Python's surrogateescape: reversible, and no valid string can look like
 * it. Readers undo it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bytes;
struct event;

enum {
	NATIVE_PROTOCOL = 1,     /* the number in hello */
	NATIVE_LINE_MAX = 65536, /* bytes of a request line, newline included */
	NATIVE_DEPTH_MAX = 16,   /* nesting of a request */
};

/** Append the JSON object of @event, without a newline. */
void native_write_event(struct bytes *out, const struct event *event);

/** Append a JSON string, quotes included, of @length bytes that may not be UTF-8. */
void native_write_string(struct bytes *out, const char *string, size_t length);

/** Append "2026-11-22T19:40:01.123456789Z", quotes included. */
void native_write_time(struct bytes *out, int64_t time_ns);

enum native_request_kind {
	NATIVE_SUBSCRIBE = 1,
	NATIVE_SYNC,
	NATIVE_STATUS,
	NATIVE_MANUAL, /* {"manual":{"path":"...","note":"..."}}: put an event of op manual into the log */
	NATIVE_RESTART, /* {"restart":{}}: take over with the installed binary */
};

/** Where a subscription starts. */
enum native_since { NATIVE_SINCE_SEQ, NATIVE_SINCE_NOW, NATIVE_SINCE_OLDEST };

struct native_request {
	enum native_request_kind kind;
	enum native_since since;
	uint64_t seq; /* with NATIVE_SINCE_SEQ: events after this one */
	bool follow;  /* go on with live events; default true */
	char *path; /* manual; owned, free with native_request_finish(); bytes, escapes undone; as in an event */
	char *note; /* manual; owned; at most EVENT_NAME_MAX bytes; may be NULL */
};

/**
 * Read one request line (without its newline).
 *
 * Returns 0 and fills *@out, or -EBADMSG (not JSON, too deep), -EINVAL (JSON, but a bad value),
 * -ENOSYS (unknown request), -ENOMEM; on failure *@out_message is a static sentence for the
 * error answer. The path of a manual request is checked for its form only ("a/b": no empty
 * part, no "." or "..").
 */
int native_parse_request(const char *line, size_t length, struct native_request *out,
			 const char **out_message);

/** Free what a request owns. A zeroed one is fine. */
void native_request_finish(struct native_request *request);

struct native_storage;

/**
 * Read the JSON object of an event (client side). What native_write_event() wrote gives the
 * same event; members that are not known are passed over. The strings of *@out are
 * NUL-terminated (to and name are NULL when absent, path and comm never are) and point into
 * *@out_storage, which the caller owns and frees with native_storage_free(). Returns 0,
 * -EBADMSG, or -ENOMEM.
 */
int native_parse_event(const char *line, size_t length, struct event *out,
		       struct native_storage **out_storage);

/** Free the strings of an event that was read. NULL is fine. */
void native_storage_free(struct native_storage *storage);
