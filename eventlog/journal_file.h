/*
 * Journal file: the structs of the mapped journal, for journal.c, journal_recover.c and intent.c
 * alone.
 *
 * Fields that are written while others may look, or while a kill may come, are atomic. The essay
 * is in journal.c.
 */
#pragma once

#include "eventlog/eventlog.h"
#include "proto/event.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	JOURNAL_VERSION = 1,
	JOURNAL_HEADER_SIZE = 4096,
	INTENT_RECORD_MAX = 9216, /* two paths of 4 KiB, a name, the rest */
	INTENT_PATH_MAX = 4096,   /* bytes of a path or target that had to be cut */
	JOURNAL_SLOTS_SIZE = EVENTLOG_WRITERS_MAX * (64 + 2 * (64 + INTENT_RECORD_MAX)),
	JOURNAL_RING_OFFSET = JOURNAL_HEADER_SIZE + JOURNAL_SLOTS_SIZE,
	JOURNAL_LAST_PART = 8, /* of the ring, as a divisor: for what cannot be refused */
};

#define JOURNAL_MAGIC 0x4c4e524a53465248ull /* "HRFSJRNL" */

struct journal_header {
	/* Written once, before the file has its name. */
	uint64_t magic;
	uint32_t version;
	uint32_t writers; /* EVENTLOG_WRITERS_MAX */
	uint64_t ring_size;
	char log_id[EVENTLOG_ID_SIZE];
	char pad[64 - EVENTLOG_ID_SIZE + 40];
	/* Written, and synced, when it is opened and closed. */
	_Atomic uint64_t is_clean; /* 1: closed, and nothing has been changed since */
	char pad2[56];
	/* The drain's. */
	_Atomic uint64_t head; /* position of the first event that is not in the store; may lag */
	_Atomic uint64_t drained_seq; /* the last event that is; may lag */
	char pad3[48];
	/* The appender's. */
	_Atomic uint64_t
		tail; /* position behind the last event: the store that makes an event exist */
	_Atomic uint64_t last_seq; /* the last event, for readers in other processes; may lag */
	_Atomic uint64_t
		frontier; /* no byte of the ring at or beyond frontier - ring_size is being written over */
	char pad4[40];
	/* Changes that were made and could not be logged. The appender's, too. */
	_Atomic uint64_t lost;         /* how many, ever */
	_Atomic uint64_t lost_told;    /* how many of them a gap in the log tells of */
	_Atomic uint64_t gap_seq;      /* a gap is being appended under this number; 0: none */
	_Atomic uint64_t lost_telling; /* what lost_told will be once it is there */
	char pad5[32];
};

static_assert(offsetof(struct journal_header, magic) == 0, "layout");
static_assert(offsetof(struct journal_header, version) == 8, "layout");
static_assert(offsetof(struct journal_header, writers) == 12, "layout");
static_assert(offsetof(struct journal_header, ring_size) == 16, "layout");
static_assert(offsetof(struct journal_header, log_id) == 24, "layout");
static_assert(offsetof(struct journal_header, is_clean) == 128, "layout");
static_assert(offsetof(struct journal_header, head) == 192, "layout");
static_assert(offsetof(struct journal_header, drained_seq) == 200, "layout");
static_assert(offsetof(struct journal_header, tail) == 256, "layout");
static_assert(offsetof(struct journal_header, last_seq) == 264, "layout");
static_assert(offsetof(struct journal_header, frontier) == 272, "layout");
static_assert(offsetof(struct journal_header, lost) == 320, "layout");
static_assert(offsetof(struct journal_header, lost_told) == 328, "layout");
static_assert(offsetof(struct journal_header, gap_seq) == 336, "layout");
static_assert(offsetof(struct journal_header, lost_telling) == 344, "layout");
static_assert(sizeof(struct journal_header) == 384, "layout");

#define INTENT_LOST (1ull << 63)

/*
 * One announced step. A slot has two, so that the next can be written while the last one still
 * counts.
 */
struct intent_step {
	/*
	 * What the event got, stored before it exists; 0: not yet. Of a change that was lost,
	 * INTENT_LOST and which of the lost ones it is.
	 */
	_Atomic uint64_t seq;
	int64_t announced_ns;
	uint32_t record_size; /* bytes of record in use */
	uint32_t is_cut;
	char pad[40];
	char record[INTENT_RECORD_MAX];
};

static_assert(offsetof(struct intent_step, seq) == 0, "layout");
static_assert(offsetof(struct intent_step, announced_ns) == 8, "layout");
static_assert(offsetof(struct intent_step, record_size) == 16, "layout");
static_assert(offsetof(struct intent_step, is_cut) == 20, "layout");
static_assert(offsetof(struct intent_step, record) == 64, "layout");
static_assert(sizeof(struct intent_step) == 64 + INTENT_RECORD_MAX, "layout");

struct intent {
	_Atomic uint64_t word; /* state | which step << 8 | steps << 32 */
	uint64_t request;      /* written while FREE only */
	char pad[48];
	struct intent_step step[2];
};

static_assert(offsetof(struct intent, word) == 0, "layout");
static_assert(offsetof(struct intent, request) == 8, "layout");
static_assert(offsetof(struct intent, step) == 64, "layout");
static_assert(sizeof(struct intent) * EVENTLOG_WRITERS_MAX == JOURNAL_SLOTS_SIZE, "layout");
static_assert(JOURNAL_RING_OFFSET % 4096 == 0, "the ring starts on a page");

/* What stands before each record in the ring: its size, and the low half of its seq. */
enum { FRAME_SIZE = 8 };

static inline uint64_t frame_make(size_t record_size, uint64_t seq)
{
	return (uint64_t)(uint32_t)record_size | seq << 32;
}

static inline size_t frame_record_size(uint64_t frame)
{
	return (uint32_t)frame;
}

/* Whether a frame may be that of event @seq. */
static inline bool frame_is_of(uint64_t frame, uint64_t seq)
{
	size_t size = frame_record_size(frame);

	return (uint32_t)(frame >> 32) == (uint32_t)seq && size > 0 && size % 8 == 0 &&
	       size <= EVENT_RECORD_MAX;
}

struct journal {
	int fd; /* owned */
	bool is_readonly;
	size_t ring_size;
	size_t mapped_size;            /* header, slots, and the ring twice */
	struct journal_header *header; /* the mapping */
	struct intent *intents;
	char *ring;

	/* Private memory, since a lock in the file would outlive its holder. */
	pthread_mutex_t mutex;
	pthread_cond_t room;
	uint64_t reserved; /* bytes set aside; under mutex */
	unsigned waiting;  /* threads on room; under mutex */
	int error;         /* of the drain; under mutex */
	int64_t last_ns;   /* time of the last event; under mutex */
	char *scratch; /* owned, EVENT_RECORD_MAX bytes: a record before it is copied; under mutex */

	_Atomic uint64_t next_seq;

	/* Positions, the drain thread's: */
	uint64_t seen_tail;  /* at the last journal_prefault() */
	uint64_t prefaulted; /* pages were made ahead up to here */
};

/** The ring's bytes from @position; contiguous for the whole ring's size. */
static inline char *journal_at(const struct journal *journal, uint64_t position)
{
	return journal->ring + position % journal->ring_size;
}

/**
 * Decode the record of event @seq at @position, in place. Returns its size with the frame, or 0
 * when it is not there. @limit is how many bytes from @position may belong to it.
 */
size_t journal_decode_at(const struct journal *journal, uint64_t position, uint64_t limit,
			 uint64_t seq, struct event *out);
