/*
 * Json: the strings we write, and a strict reader (RFC 8259) of one text in memory.
 *
 * The reader makes no tree: the caller says what it expects next, and asks json_peek() where
 * several things may stand. After a failure the reader is of no more use.
 *
 * Two things that JSON libraries refuse are needed here: numbers up to 2^64 - 1 (inode
 * numbers), and bytes that are not UTF-8, which stand as lone surrogates U+DC80 to U+DCFF (see
 * native.h). A surrogate is lone when it is not the second of a pair of escapes, as in
 * "\ud83d\udc80", which is one character.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** Bytes that a string of @length bytes takes at most when it is written. */
#define JSON_STRING_MAX(length) (6 * (size_t)(length) + 2)

/**
 * Write @length bytes as a JSON string, quotes included, to @to, which has JSON_STRING_MAX
 * bytes. Returns the end.
 */
char *json_put_string(char *to, const char *string, size_t length);

struct json {
	const char *at; /* what is read next; borrowed */
	const char *end;
	char *storage; /* where the next string goes; borrowed */
	bool is_first; /* the next member is the first of its object */
};

/**
 * A string that was read: escapes undone, NUL-terminated, in the reader's storage. Has no NUL
 * inside.
 */
struct json_string {
	const char *data;
	size_t length;
};

/**
 * Start to read @text. It and @storage, which has as many bytes as the text and receives
 * the strings that are read, are borrowed.
 */
void json_init(struct json *json, const char *text, size_t length, char *storage);

/**
 * What the next value looks like: its first character ('"', '{', '[', a digit or '-', 't', 'f',
 * 'n'), or 0 at the end.
 */
char json_peek(struct json *json);

/** Step into an object. Returns 0 or -EBADMSG (there is none). */
int json_begin_object(struct json *json);

/**
 * The name of the next member of the object that was stepped into last; its value is read next.
 * Returns 1, 0 when the object has ended (and the one around it goes on), -EBADMSG, or -EINVAL
 * as json_read_string().
 */
int json_next_member(struct json *json, struct json_string *out);

/**
 * Read a string. Returns 0, -EBADMSG (no string, or not JSON), or -EINVAL (JSON, but U+0000, or
 * a lone surrogate that stands for no byte).
 */
int json_read_string(struct json *json, struct json_string *out);

/**
 * Read a whole number from 0 to 2^64 - 1. Returns 0, -EBADMSG (no number), or -EINVAL (a
 * number, but not such a one).
 */
int json_read_u64(struct json *json, uint64_t *out);

/** Read true or false. Returns 0 or -EBADMSG. */
int json_read_bool(struct json *json, bool *out);

/**
 * Pass over any value. Returns 0, -EBADMSG (there is none, or it is not JSON), or -E2BIG (it
 * nests deeper than @depth_max).
 */
int json_skip(struct json *json, unsigned depth_max);

/** Nothing but white space is left. Returns 0 or -EBADMSG. */
int json_finish(struct json *json);
