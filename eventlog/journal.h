/*
 * Journal: a mapped file that holds what is under way (intents) and what is not in the store yet
 * (a ring of events).
 *
 * Writers announce and append; one drain thread takes; readers copy without a lock. Whatever has
 * been stored here survives the death of the process at any instant, because it is in the page
 * cache; journal_sync() makes it survive the machine's. The layout, and why it is consistent at
 * any instant, stands in journal.c.
 *
 * Positions count the bytes ever put into the ring; they only grow while the journal is open.
 */
#pragma once

#include "eventlog/eventlog.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct bytes;
struct event;
struct intent;
struct journal;

/** What journal_reserve() answers when there is no room now. */
enum { JOURNAL_FULL = 1 };

enum {
	JOURNAL_RING_MIN = 1 << 20,
	JOURNAL_RING_MAX = 1 << 30,
	JOURNAL_RING_USUAL = 64 << 20,
};

/**
 * Create the journal of @log_id in the folder @dir_fd, replacing one that exists, and open it. The
 * ring has @ring_size bytes, rounded up to pages and into the limits above; 0 means the usual size
 * or, on a small disk, a sixteenth of what is free. The file appears whole or not at all. Returns
 * 0, -ENOSPC, or another negative errno.
 */
int journal_create(int dir_fd, const char *log_id, size_t ring_size, struct journal **out);

/**
 * Open the journal in @dir_fd for journal_recover(). Returns 0, -ENOENT, -EBADMSG, -EPROTO
 * (another version), or another.
 */
int journal_open(int dir_fd, struct journal **out);

/** Open it for journal_copy() only, next to a process that may be writing; like journal_open(). */
int journal_open_readonly(int dir_fd, struct journal **out);

/** Unmap and free. Marks nothing. NULL is fine. */
void journal_close(struct journal *journal);

/** Cleanup for scoped(). */
void journal_closep(struct journal **journal);

/** The log the journal belongs to. Borrowed for the life of the journal. */
const char *journal_log_id(const struct journal *journal);

/** Bytes of the ring. */
size_t journal_ring_size(const struct journal *journal);

/** Bytes of the whole file. */
size_t journal_file_size(const struct journal *journal);

/** Bytes of the largest ring that a file of @file_size bytes can have; 0 when it can have none. */
size_t journal_ring_within(uint64_t file_size);

/** Whether the last user closed it. Before journal_recover(). */
bool journal_is_clean(const struct journal *journal);

/** Whether it holds neither events nor intents, so that it may be replaced. */
bool journal_is_empty(const struct journal *journal);

/** Last event that the drain had moved to the store, as the header says. */
uint64_t journal_drained_seq(const struct journal *journal);

/**
 * Last event appended, as the header says; a reader next to a live writer may see one that is a
 * little old.
 */
uint64_t journal_last_seq(const struct journal *journal);

/**
 * Make the journal ready for writing: find the events after @stored_seq, the last one in the
 * store, cut a torn tail, settle which intents were logged, and mark it in use. @stored_time_ns is
 * the time of that event. @is_coherent: nothing has happened to the file since its last user died, no power loss above all; it is then
 * searched only where the header cannot be true. Returns 0, -EBADMSG (closed, yet events are missing: damaged), or
 * another negative errno.
 */
int journal_recover(struct journal *journal, uint64_t stored_seq, int64_t stored_time_ns, bool is_coherent);

/**
 * Mark it closed and bring it to stable storage. Nobody may use it any more. Returns 0 or a
 * negative errno.
 */
int journal_mark_clean(struct journal *journal);

/** Bring everything in the file to stable storage. Any thread. Returns 0 or a negative errno. */
int journal_sync(struct journal *journal);

/** Sequence number of the next event; those below are in the ring or the store. Any thread. */
uint64_t journal_next_seq(const struct journal *journal);

/** Last event, once none is being appended. Any thread. */
uint64_t journal_whole_seq(struct journal *journal);

/** Bytes of events that the drain has not taken. Any thread. */
uint64_t journal_used(const struct journal *journal);

/* ---- Room, any thread ---- */

/**
 * Bytes of the ring that @event takes, however commit completes it by up to EVENT_COMMIT_SLACK
 * bytes.
 */
size_t journal_room_for(const struct event *event);

/** Which part of the ring may be used. */
enum journal_room {
	JOURNAL_ANY_ROOM,  /* all but the last eighth */
	JOURNAL_LAST_ROOM, /* all: for what has happened already, and cannot be refused */
};

/**
 * Set @room bytes aside. While a gap is owed there is no room. Returns 0, JOURNAL_FULL, or -ENOSPC
 * (full, and the drain is failing).
 */
int journal_reserve(struct journal *journal, size_t room, enum journal_room kind);

/** Like journal_reserve(), but sleep until there is room. Returns 0 or -ENOSPC. */
int journal_reserve_wait(struct journal *journal, size_t room, enum journal_room kind);

/** Give @room bytes back that were not used. */
void journal_unreserve(struct journal *journal, size_t room);

/**
 * Append @event, whose bytes fit into the @room that was set aside and which is given back with
 * it. Sets event->seq and event->time_ns. @intent, unless NULL, is BEGUN and becomes DONE. Makes
 * no system call. Returns the bytes in use.
 */
uint64_t journal_append(struct journal *journal, size_t room, struct intent *intent,
			struct event *event);

/* ---- Changes that could not be logged, any thread ---- */

/** A change was made for which there was no room: count it. @intent is as for journal_append(). */
void journal_lose(struct journal *journal, struct intent *intent);

/** Lost changes that no gap in the log tells of yet. Also before journal_recover(). */
uint64_t journal_lost(const struct journal *journal);

/**
 * Append the gap that is owed, if one is and there is room to go on: half of the ring, and a drain
 * that works. Returns whether it did.
 */
bool journal_tell_gap(struct journal *journal);

/**
 * Append @event like journal_append() if it becomes event @seq. Returns false, and has done nothing, when others were
 * appended before.
 */
bool journal_append_at(struct journal *journal, uint64_t seq, size_t room, struct event *event,
		       uint64_t *out_used);

/**
 * The intent in slot @index, 0 to EVENTLOG_WRITERS_MAX - 1; see intent.h. Borrowed for the life of
 * the journal.
 */
struct intent *journal_intent(struct journal *journal, unsigned index);

/* ---- Taking, the drain thread only ---- */

/** Where the first event stands that has not been taken. */
uint64_t journal_head(const struct journal *journal);

/**
 * Have the pages made that the next events will be stored to, as many as four times what came since the last call. A page's first store
 * costs its writer 13 us on ext4 (Linux 6.18), under the lock that all writers take; made here, many at a time, it costs them nothing.
 * Not more, because a page that is made is written to the disk once more. Without MADV_POPULATE_WRITE (Linux 5.14) it does nothing.
 */
void journal_prefault(struct journal *journal);

/**
 * The event at *@position, which moves behind it. Returns 1 and fills *@out (strings borrowed
 * until journal_release()), 0 at the end, or -EBADMSG when the ring has been damaged from outside.
 */
int journal_peek(const struct journal *journal, uint64_t *position, struct event *out);

/** Everything before @position, up to event @seq, is in the store: its room is free again. */
void journal_release(struct journal *journal, uint64_t position, uint64_t seq);

/** While @error is not 0 nobody waits for room: a full ring answers -ENOSPC. */
void journal_set_error(struct journal *journal, int error);

/* ---- Reading, any thread, without a lock ---- */

/**
 * Find event @seq, searching from the head. Returns true and sets *@out_position; false when it is
 * not in the ring.
 */
bool journal_find(const struct journal *journal, uint64_t seq, uint64_t *out_position);

/**
 * Copy event @seq, said to stand at *@position, to @buffer; *@position moves behind it. Returns 1
 * and fills *@out (strings point into @buffer), 0 when it is not, or no longer, there, or -ENOMEM.
 */
int journal_copy(const struct journal *journal, uint64_t seq, uint64_t *position,
		 struct bytes *buffer, struct event *out);
