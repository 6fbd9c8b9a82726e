/*
 * Lines: a run of consecutive events as JSON lines, made once and shared by reference.
 *
 * The memory is allocated as a whole at the start and never moves: lines may be added behind
 * while those in front are being sent. One thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct lines;

enum {
	LINES_SIZE = 65536,    /* bytes of a run, unless its first line alone is longer */
	LINES_COUNT_MAX = 512, /* lines of a run */
};

/**
 * An empty run that begins with event @first_seq, with one reference; NULL without memory. @size:
 * of its first line.
 */
struct lines *lines_create(uint64_t first_seq, size_t size);

struct lines *lines_ref(struct lines *lines);

/** Frees with the last reference. NULL is fine. */
void lines_unref(struct lines *lines);

/** Whether a line of @size bytes fits behind. */
bool lines_have_room(const struct lines *lines, size_t size);

/** Add the line of event lines_end(), newline included: copied. There is room. */
void lines_append(struct lines *lines, const char *line, size_t size);

/** Sequence number of the first line. */
uint64_t lines_first(const struct lines *lines);

/** Sequence number after that of the last line. */
uint64_t lines_end(const struct lines *lines);

/** Bytes of memory. */
size_t lines_memory(const struct lines *lines);

/** Whether the line of event @seq is in here. */
bool lines_contain(const struct lines *lines, uint64_t seq);

/** Where the line of event @seq begins, of lines_first() to lines_end(): bytes from the start. */
size_t lines_offset(const struct lines *lines, uint64_t seq);

/** The bytes from @offset on, up to the end; borrowed as long as the reference. */
const char *lines_data(const struct lines *lines, size_t offset);

/** The event whose line the byte at @offset is part of; lines_end() behind the last. */
uint64_t lines_seq_at(const struct lines *lines, size_t offset);
