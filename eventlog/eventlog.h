/*
 * Event log: the door to the journal and the store.
 *
 * A change is announced before it is made (writer_begin), committed after (writer_commit),
 * and forgotten once its caller has been told (writer_end). Committing takes the next
 * sequence number and makes the event visible to readers; it is a few stores into a mapped
 * file, no system call but the one that wakes a sleeping reader. The drain thread moves
 * events to the store (SQLite) behind the scenes; a reader does not notice where an event
 * comes from.
 *
 * Files in the state folder: events.db (SQLite, WAL), journal (mapped), lock. Described in
 * docs/log-format.md.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct event;
struct eventlog;
struct eventlog_cursor;
struct eventlog_history;
struct writer;

enum {
	EVENTLOG_ID_SIZE = 37,         /* a UUID in text, with its NUL */
	EVENTLOG_WRITERS_MAX = 128,    /* intent slots in the journal: worker threads at a time */
	EVENTLOG_RECENT_MAX = 1 << 16, /* events a single SQLite transaction holds at the most */
};

/** What fsync through the mount means for the log. */
enum eventlog_durability {
	EVENTLOG_FSYNC,   /* eventlog_sync() brings all events so far to stable storage */
	EVENTLOG_ALWAYS,  /* every event is on stable storage when writer_commit() returns */
	EVENTLOG_PROCESS, /* never synced: survives the daemon's death, not the machine's */
};

/** What becomes of a change that there is no room to log. */
enum eventlog_on_full {
	EVENTLOG_FAIL, /* writer_begin() refuses it */
	EVENTLOG_GAP,  /* it is made and counted; a gap event tells how many once there is room */
};

/** Bytes that a quota leaves to the database at the least. */
#define EVENTLOG_STORE_MIN (4ull << 20)

struct eventlog_options {
	int state_fd;           /* borrowed: the state folder, 0700 */
	const char *state_path; /* borrowed: a path of it; SQLite wants one */
	const char *name;       /* borrowed: how messages call it; NULL: by its path */
	size_t journal_size;    /* bytes of the ring, 1 MiB to 1 GiB; 0: 64 MiB, or less on a small disk */
	enum eventlog_durability durability;
	enum eventlog_on_full on_full;
	uint64_t quota;         /* bytes of events.db, its WAL and the journal together; 0: none */
	bool is_successor;      /* the caller has seen the last user die after it was open: all that it stored is in the page cache */
};

/** What eventlog_open() found. */
struct eventlog_found {
	bool is_new;         /* the log did not exist */
	bool was_unclean;    /* the last user did not close it */
	bool was_set_aside;  /* it was damaged: its files were renamed, and this is another log */
	bool is_full;        /* there is no room to move what the journal holds to the store */
	uint64_t recovered;  /* events that the journal held and the store did not */
};

/**
 * Open the log of a state folder, creating it.
 *
 * Takes the lock, reads the journal, moves what it holds to the store. Intents left BEGUN by
 * a dead writer stay and are found with eventlog_next_orphan(). The files of a damaged log are renamed to NAME.damaged-TIME,
 * which is said aloud, and a new log begins. Returns 0, or -EBUSY (another daemon has it),
 * -EPROTO (a log of another version), -ENOSPC (no room for the journal), -ERANGE (the quota is too small for the journal),
 * or another negative errno.
 */
int eventlog_open(const struct eventlog_options *options, struct eventlog **out, struct eventlog_found *out_found);

/** Start the drain thread. Before it, commits work until the ring is full. Returns 0 or a negative errno. */
int eventlog_start(struct eventlog *log);

/** Write into the file "lock" that eventlog_close() comes soon, for who waits to open the log next. Any thread. */
void eventlog_say_ending(struct eventlog *log);

/** Drain everything, mark the log clean, free. All writers and cursors must be closed. NULL is fine. */
void eventlog_close(struct eventlog *log);

/* ---- Writing: one writer for each thread ---- */

/** What happened to a change when its worker died. */
enum intent_state {
	INTENT_FREE = 0,
	INTENT_BEGUN = 1, /* announced; may have been done, is not logged */
	INTENT_DONE = 2,  /* logged; its caller may not have been told */
};

/** Claim an intent slot for the calling thread. Returns 0 or -EAGAIN (all in use). */
int writer_open(struct eventlog *log, struct writer **out);

/** Give the slot back. NULL is fine. */
void writer_close(struct writer *writer);

/**
 * Announce a change: @event as far as it is known. @request is the caller's number for it (the FUSE request's unique
 * id), or 0. Reserves room for the event, waiting for the drain when the ring is full. Copies @event.
 * Returns 0 or -ENOSPC: the log cannot grow, and the change must not be made. A close, an unmounting, and stores that were
 * found through a mapping have happened: they are never refused, may use the last eighth of the ring, and are counted for a gap
 * when that is full, too.
 *
 * One request may make several changes one after the other: begin, commit, begin, commit, end. @step says which this
 * is, counted from 0; one that was found unnecessary is counted as well, so that a number always means the same change.
 */
int writer_begin(struct writer *writer, uint64_t request, unsigned step, const struct event *event);

/**
 * The change has been made: log it. Sets event->seq and event->time_ns, and copies the event, which may be longer than
 * what was announced by EVENT_COMMIT_SLACK bytes. Cannot fail; of a change that is lost event->seq is 0. With EVENTLOG_ALWAYS it returns when the event is on stable storage.
 */
void writer_commit(struct writer *writer, struct event *event);

/** The change was not made: give the room back. */
void writer_rollback(struct writer *writer);

/** The caller has been told: forget the request. Without a begin it does nothing. */
void writer_end(struct writer *writer);

/** Log an event that needs no announcement (close, mmap, mounted): begin and commit in one. Returns 0 or -ENOSPC. */
int writer_append(struct writer *writer, struct event *event);

/** What writer_append_at() answers when it did not fail. */
enum { EVENTLOG_APPENDED = 0, EVENTLOG_OVERTAKEN = 1 };

/**
 * Log an event like writer_append(), but only as event @seq: for who has looked at the log up to there and says what
 * follows from it. EVENTLOG_OVERTAKEN: others came before, and nothing was logged.
 */
int writer_append_at(struct writer *writer, uint64_t seq, struct event *event);

/** The requests that are under way at an instant. */
struct eventlog_under_way {
	uint64_t turns[EVENTLOG_WRITERS_MAX]; /* of each slot; 0: it is free */
};

/** Note which requests have announced a change and have not ended yet. Any thread. */
void eventlog_note_under_way(struct eventlog *log, struct eventlog_under_way *out);

/**
 * Whether all of them have ended, so that what they changed before the note is in the log. What a dead worker left
 * counts until it is settled. Any thread.
 */
bool eventlog_have_ended(struct eventlog *log, const struct eventlog_under_way *noted);

/* What a commit adds, and what a path grows by while directories above it are renamed. */
enum { EVENT_COMMIT_SLACK = 1024 };

/* ---- What a dead worker left ---- */

/** A request that was under way when its worker died. Valid until eventlog_resolve(). */
struct orphan {
	uint64_t request;           /* 0: not a resendable request */
	enum intent_state state;
	unsigned steps;             /* that are behind the request, committed or unnecessary; with INTENT_BEGUN the next is in doubt */
	int64_t announced_ns;       /* CLOCK_REALTIME of the last begin */
	uint64_t seq;               /* with INTENT_DONE: of the event that was announced last; 0: it was lost */
	const struct event *event;  /* the last one announced; strings borrowed */
};

/** The orphan after *@position (start with 0), or NULL. Any thread, but one at a time. */
struct orphan *eventlog_next_orphan(struct eventlog *log, unsigned *position);

/** The orphan of a request that the kernel sent again, or NULL. Any thread. */
struct orphan *eventlog_find_orphan(struct eventlog *log, uint64_t request);

/**
 * Whether the log has what @orphan announced all the same: a worker after that one has done it, or has settled it, and died before
 * it could resolve both; or the pages that a power loss leaves are of different ages, and the announcement's is older than the
 * event's. Reads the log from the announcement on. Returns 1, 0, or a negative errno.
 */
int eventlog_has_announced(const struct eventlog *log, const struct orphan *orphan);

/** The orphan is settled: frees its slot. */
void eventlog_resolve(struct eventlog *log, struct orphan *orphan);

/* ---- Reading ---- */

/** Sequence number that the next event will get; all below it can be read. */
uint64_t eventlog_next_seq(const struct eventlog *log);

/** Sequence number of the oldest kept event; next_seq when there is none. */
uint64_t eventlog_oldest_seq(const struct eventlog *log);

/** The log's UUID, as text. Borrowed for the life of the log. */
const char *eventlog_id(const struct eventlog *log);

/** Open a cursor that stands before event @seq (1 or more). One thread at a time. Returns 0 or a negative errno. */
int eventlog_cursor_open(struct eventlog *log, uint64_t seq, struct eventlog_cursor **out);

/** Close it; NULL is fine. */
void eventlog_cursor_close(struct eventlog_cursor *cursor);

/**
 * The next event. Returns 1 and fills *@out (strings borrowed until the next call), 0 at the
 * end of the log, -ENODATA when the next event is older than the oldest kept (seek to
 * eventlog_oldest_seq()), or another negative errno.
 */
int eventlog_cursor_next(struct eventlog_cursor *cursor, struct event *out);

/** Stand before event @seq. */
void eventlog_cursor_seek(struct eventlog_cursor *cursor, uint64_t seq);

/**
 * An eventfd that counts when there is news. For one reading thread: it calls eventlog_arm() before it
 * sleeps, and reads it (8 bytes) when it may wake, or after poll(2) has woken it. Borrowed.
 */
int eventlog_news_fd(const struct eventlog *log);

/**
 * Call @deliver, with @userdata, from the thread that commits, in place of counting in the descriptor: it can do what the
 * reading thread would wake for. It returns whether it has, and has armed again if it wants to hear of more; if not, the
 * reading thread is woken. It is called after the commit, holds up the program that made the change, and must not
 * commit. NULL: no longer; returns when nobody is in there.
 */
typedef bool (*eventlog_deliver_fn)(void *userdata);
void eventlog_on_news(struct eventlog *log, eventlog_deliver_fn deliver, void *userdata);

/**
 * Ask to be woken by the next commit. Returns false, and does not arm, when an event of @next_seq or
 * above is there already.
 */
bool eventlog_arm(struct eventlog *log, uint64_t next_seq);

/** Wait until everything before the call is in the store (SQLite), where other processes see it. Returns the last such seq. */
int eventlog_flush(struct eventlog *log, uint64_t *out_seq);

/**
 * Why eventlog_flush() or writer_begin() failed with @error, and what to do about it: part of a sentence, after "the log cannot be written: ".
 * Any thread. Static.
 */
const char *eventlog_reason(const struct eventlog *log, int error);

/** P4: wait until everything before the call is on stable storage. Does nothing with EVENTLOG_PROCESS. Returns 0 or a negative errno. */
int eventlog_sync(struct eventlog *log);

struct eventlog_stat {
	uint64_t oldest_seq;
	uint64_t next_seq;
	uint64_t stored_seq;     /* last event in SQLite */
	uint64_t journal_size;   /* bytes of the ring */
	uint64_t journal_used;   /* bytes of events that are not in SQLite yet */
	uint64_t store_size;     /* bytes of events.db and its WAL */
	double events_per_s;     /* over about the last ten seconds */
	uint64_t quota;          /* bytes; 0: none */
	uint64_t lost;           /* changes that were not logged and that no gap event tells of yet */
	bool was_set_aside;      /* the log before this one was damaged when this was opened */
	int error;               /* 0, or the negative errno that keeps the drain from writing */
};

/** Any thread. */
void eventlog_stat(struct eventlog *log, struct eventlog_stat *out);

/* ---- History: the log of a state folder, mounted or not, without taking it over ---- */

struct eventlog_filter {
	uint64_t since_seq;      /* first, inclusive; 0: from the oldest */
	uint64_t until_seq;      /* last, inclusive; 0: to the newest */
	int64_t since_ns;        /* CLOCK_REALTIME; 0: none */
	int64_t until_ns;
	uint64_t ops;            /* bit 1 << op for each wanted op; 0: all */
	const char *under;       /* this path and everything below; NULL or "": all. Borrowed during open */
	int64_t pid;             /* -1: all */
	const char *comm;        /* NULL: all. Borrowed during open */
};

/**
 * Read the events of a state folder that match. Sees the store and what a journal of a dead daemon still holds.
 * Returns 0, -ENOENT (no log there), -EPROTO (another version), -EBADMSG, -EROFS (not closed, and its folder cannot be written to), or
 * another negative errno.
 */
int eventlog_history_open(const char *state_path, const struct eventlog_filter *filter, struct eventlog_history **out);
void eventlog_history_close(struct eventlog_history *history);

/** The log's UUID. Borrowed for the life of the history. */
const char *eventlog_history_id(const struct eventlog_history *history);

/** Returns 1 and fills *@out (strings borrowed until the next call), 0 at the end, or a negative errno. */
int eventlog_history_next(struct eventlog_history *history, struct event *out);
