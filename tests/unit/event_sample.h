/*
 * Event sample: events for tests, from a reproducible stream of random numbers, and the
 * question whether two are the same.
 */
#pragma once

#include "proto/event.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* xorshift64*; @state is not 0. */
static inline uint64_t sample_u64(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * UINT64_C(0x2545f4914f6cdd1d);
}

/* Numbers of all magnitudes. */
static inline uint64_t sample_number(uint64_t *state)
{
	return sample_u64(state) >> sample_u64(state) % 64;
}

/* Fill @buffer with up to @most bytes, none of them NUL; most often short. Returns how many. */
static inline size_t sample_bytes(uint64_t *state, char *buffer, size_t most)
{
	size_t length = sample_number(state) % (most + 1);
	bool is_text = sample_u64(state) % 2;

	for (size_t i = 0; i < length; i++)
		buffer[i] = is_text ? 'a' + sample_u64(state) % 26 : 1 + sample_u64(state) % 255;
	return length;
}

/** What a sampled event's strings are in. */
struct event_sample {
	char path[EVENT_PATH_MAX];
	char to[EVENT_PATH_MAX];
	char name[EVENT_NAME_MAX];
	char comm[EVENT_COMM_MAX];
	struct event event;
};

/** An event with random everything; optional fields are 0 where `has` does not name them. */
static inline void event_sample_fill(struct event_sample *sample, uint64_t *state)
{
	uint16_t has = sample_u64(state) % (EVENT_UNCERTAIN << 1);
	struct event *event = &sample->event;

	*event = (struct event){
		.seq = sample_number(state),
		.time_ns = sample_u64(state),
		.op = 1 + sample_u64(state) % (EVENT_OP_END - 1),
		.origin = sample_u64(state) % EVENT_ORIGIN_END,
		.has = has,
		.offset = has & EVENT_HAS_OFFSET ? sample_number(state) : 0,
		.length = has & EVENT_HAS_LENGTH ? sample_number(state) : 0,
		.size = has & EVENT_HAS_SIZE ? sample_number(state) : 0,
		.ino = has & EVENT_HAS_INO ? sample_number(state) : 0,
		.mode = has & EVENT_HAS_MODE ? sample_number(state) : 0,
		.flags = has & EVENT_HAS_FLAGS ? sample_number(state) : 0,
		.owner_uid = has & EVENT_HAS_OWNER ? sample_number(state) : 0,
		.owner_gid =
			has & EVENT_HAS_OWNER ? sample_number(state) | -(sample_u64(state) % 2) : 0,
		.pid = has & EVENT_HAS_WHO ? sample_number(state) : 0,
		.uid = has & EVENT_HAS_WHO ? sample_number(state) : 0,
		.gid = has & EVENT_HAS_WHO ? sample_number(state) : 0,
		.path = sample->path,
		.path_length = sample_bytes(state, sample->path, EVENT_PATH_MAX),
		.comm = sample->comm,
	};
	if (has & EVENT_HAS_WHO)
		event->comm_length = sample_bytes(state, sample->comm, EVENT_COMM_MAX);
	if (sample_u64(state) % 2)
		event->to_length = sample_bytes(state, sample->to, EVENT_PATH_MAX);
	if (sample_u64(state) % 2)
		event->name_length = sample_bytes(state, sample->name, EVENT_NAME_MAX);
	event->to = event->to_length > 0 ? sample->to : NULL;
	event->name = event->name_length > 0 ? sample->name : NULL;
}

static inline bool is_same_string(const char *a, size_t a_length, const char *b, size_t b_length)
{
	return a_length == b_length && !a == !b && (a_length == 0 || memcmp(a, b, a_length) == 0);
}

/** Whether all fields of two events are equal, strings by their bytes. */
static inline bool is_same_event(const struct event *a, const struct event *b)
{
	return a->seq == b->seq && a->time_ns == b->time_ns && a->op == b->op &&
	       a->origin == b->origin && a->has == b->has && a->offset == b->offset &&
	       a->length == b->length && a->size == b->size && a->ino == b->ino &&
	       a->mode == b->mode && a->flags == b->flags && a->owner_uid == b->owner_uid &&
	       a->owner_gid == b->owner_gid && a->pid == b->pid && a->uid == b->uid &&
	       a->gid == b->gid &&
	       is_same_string(a->path, a->path_length, b->path, b->path_length) &&
	       is_same_string(a->to, a->to_length, b->to, b->to_length) &&
	       is_same_string(a->name, a->name_length, b->name, b->name_length) &&
	       is_same_string(a->comm, a->comm_length, b->comm, b->comm_length);
}
