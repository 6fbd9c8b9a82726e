/*
 * Bytes: a growing buffer.
 *
 * The memory belongs to the struct; pointers into it live until the next call that grows it.
 * Not thread-safe. A failed allocation is remembered: later calls do nothing, and
 * bytes_error() tells, so that a writer of many small pieces checks once at the end.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct bytes {
	char *data;      /* owned; not NUL-terminated */
	size_t size;     /* bytes in use */
	size_t capacity; /* bytes allocated */
	int error;       /* 0, or -ENOMEM since an allocation failed */
};

/** Start empty; makes no allocation. A zeroed struct is the same thing. */
void bytes_init(struct bytes *bytes);

/** Free the memory and start empty again. */
void bytes_finish(struct bytes *bytes);

/** Forget the contents and the error, keep the memory. */
void bytes_clear(struct bytes *bytes);

/** Make room for @more bytes beyond the current size. Returns 0 or -ENOMEM. */
int bytes_reserve(struct bytes *bytes, size_t more);

/** Append @size bytes, copied. */
void bytes_append(struct bytes *bytes, const void *data, size_t size);

/** Append a NUL-terminated string without its NUL. */
void bytes_append_string(struct bytes *bytes, const char *string);

/** Append one byte. */
void bytes_append_char(struct bytes *bytes, char c);

/** Append an unsigned number in decimal. */
void bytes_append_u64(struct bytes *bytes, uint64_t number);

/** Append printf-like; for cold paths. */
void bytes_append_format(struct bytes *bytes, const char *format, ...) __attribute__((format(printf, 2, 3)));

/** Drop the first @count bytes, moving the rest down. @count is at most size. */
void bytes_consume(struct bytes *bytes, size_t count);

/** 0, or -ENOMEM if any append since the last clear failed. */
int bytes_error(const struct bytes *bytes);
