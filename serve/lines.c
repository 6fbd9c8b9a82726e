#include "serve/lines.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct lines {
	unsigned references;
	unsigned count;
	uint64_t first_seq;
	size_t capacity;                /* bytes of data */
	uint32_t ends[LINES_COUNT_MAX]; /* offset behind each line */
	char data[];
};

struct lines *lines_create(uint64_t first_seq, size_t size)
{
	size_t capacity = size > LINES_SIZE ? size : LINES_SIZE;
	struct lines *lines = malloc(sizeof(*lines) + capacity);

	if (!lines)
		return NULL;
	lines->references = 1;
	lines->count = 0;
	lines->first_seq = first_seq;
	lines->capacity = capacity;
	return lines;
}

struct lines *lines_ref(struct lines *lines)
{
	lines->references++;
	return lines;
}

void lines_unref(struct lines *lines)
{
	if (lines && --lines->references == 0)
		free(lines);
}

static size_t used(const struct lines *lines)
{
	return lines->count ? lines->ends[lines->count - 1] : 0;
}

bool lines_have_room(const struct lines *lines, size_t size)
{
	return lines->count < LINES_COUNT_MAX && size <= lines->capacity - used(lines);
}

void lines_append(struct lines *lines, const char *line, size_t size)
{
	size_t offset = used(lines);

	assert(lines_have_room(lines, size));
	memcpy(lines->data + offset, line, size);
	lines->ends[lines->count++] = offset + size;
}

uint64_t lines_first(const struct lines *lines)
{
	return lines->first_seq;
}

uint64_t lines_end(const struct lines *lines)
{
	return lines->first_seq + lines->count;
}

size_t lines_memory(const struct lines *lines)
{
	return sizeof(*lines) + lines->capacity;
}

bool lines_contain(const struct lines *lines, uint64_t seq)
{
	return seq >= lines->first_seq && seq < lines_end(lines);
}

size_t lines_offset(const struct lines *lines, uint64_t seq)
{
	assert(seq >= lines->first_seq && seq <= lines_end(lines));
	return seq == lines->first_seq ? 0 : lines->ends[seq - lines->first_seq - 1];
}

const char *lines_data(const struct lines *lines, size_t offset)
{
	return lines->data + offset;
}

uint64_t lines_seq_at(const struct lines *lines, size_t offset)
{
	unsigned low = 0, high = lines->count;

	/* The first line that ends behind @offset. */
	while (low < high) {
		unsigned middle = low + (high - low) / 2;

		if (lines->ends[middle] > offset)
			high = middle;
		else
			low = middle + 1;
	}
	return lines->first_seq + low;
}
