/*
 * Bytes: a growing buffer.
 *
 * The capacity doubles, so appending costs a constant on average. size <= capacity always; after
 * an error nothing is appended until the next clear, so a text is whole or known to be not.
 */
#include "base/bytes.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CAPACITY_MIN = 256 };

void bytes_init(struct bytes *bytes)
{
	*bytes = (struct bytes){ 0 };
}

void bytes_finish(struct bytes *bytes)
{
	free(bytes->data);
	bytes_init(bytes);
}

void bytes_clear(struct bytes *bytes)
{
	bytes->size = 0;
	bytes->error = 0;
}

/* Out of line: the callers' usual way, room to spare, stays short. */
static __attribute__((noinline)) int grow(struct bytes *bytes, size_t more)
{
	size_t needed, capacity;
	char *data;

	if (__builtin_add_overflow(bytes->size, more, &needed))
		goto failed;

	if (__builtin_mul_overflow(bytes->capacity, (size_t)2, &capacity) || capacity < needed)
		capacity = needed;
	if (capacity < CAPACITY_MIN)
		capacity = CAPACITY_MIN;

	data = realloc(bytes->data, capacity);
	if (!data)
		goto failed;

	bytes->data = data;
	bytes->capacity = capacity;
	return 0;

failed:
	bytes->error = -ENOMEM;
	return -ENOMEM;
}

int bytes_reserve(struct bytes *bytes, size_t more)
{
	if (bytes->error)
		return bytes->error;
	if (more <= bytes->capacity - bytes->size)
		return 0;
	return grow(bytes, more);
}

void bytes_append(struct bytes *bytes, const void *data, size_t size)
{
	if (size == 0 || bytes_reserve(bytes, size) < 0)
		return;
	memcpy(bytes->data + bytes->size, data, size);
	bytes->size += size;
}

void bytes_append_string(struct bytes *bytes, const char *string)
{
	bytes_append(bytes, string, strlen(string));
}

void bytes_append_char(struct bytes *bytes, char c)
{
	if (bytes_reserve(bytes, 1) < 0)
		return;
	bytes->data[bytes->size++] = c;
}

void bytes_append_u64(struct bytes *bytes, uint64_t number)
{
	char digits[20];
	char *end = digits + sizeof(digits);
	char *start = end;

	do {
		*--start = '0' + number % 10;
		number /= 10;
	} while (number);
	bytes_append(bytes, start, end - start);
}

void bytes_append_format(struct bytes *bytes, const char *format, ...)
{
	va_list args, again;
	int length;

	if (bytes->error)
		return;

	va_start(args, format);
	va_copy(again, args);
	length = vsnprintf(NULL, 0, format, args);
	va_end(args);

	/*
	 * vsnprintf() wants room for a NUL that is not counted. It fails for lack of memory, or
	 * over INT_MAX bytes.
	 */
	if (length < 0) {
		bytes->error = -ENOMEM;
	} else if (bytes_reserve(bytes, (size_t)length + 1) == 0) {
		vsnprintf(bytes->data + bytes->size, (size_t)length + 1, format, again);
		bytes->size += length;
	}
	va_end(again);
}

void bytes_consume(struct bytes *bytes, size_t count)
{
	assert(count <= bytes->size);

	bytes->size -= count;
	if (count > 0 && bytes->size > 0)
		memmove(bytes->data, bytes->data + count, bytes->size);
}

int bytes_error(const struct bytes *bytes)
{
	return bytes->error;
}
