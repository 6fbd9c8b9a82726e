/*
 * Emit: from an operation to its event.
 *
 * Each thread of the session has one struct op, which carries an operation from its request to its reply. Every
 * operation that changes something takes the same five steps:
 *
 *     op = op_start(req, opcode);             find inodes, fill op->event
 *     r = emit_begin(op);                     announce
 *     if (r == EMIT_GO) ...                   do
 *     emit_commit(op) or emit_rollback(op);   commit
 *     fuse_reply_...; op_end(op);             reply
 *
 * A worker that dies between these steps leaves an intent. The kernel then sends the request
 * again, and emit_begin() says what is known of the first time (see enum emit).
 */
#pragma once

#include "eventlog/eventlog.h"
#include "fusefs/listed.h"
#include "fusefs/session.h"
#include "fusefs/who.h"
#include "proto/event.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

/** A place in the tree: an inode, or a name in a directory. */
struct emit_place {
	uint64_t nodeid; /* 0: none */
	const char *name;
};

struct op {
	struct fs *fs;
	struct writer *writer;
	fuse_req_t req;
	const struct fuse_ctx *context;
	uint64_t request;        /* the FUSE request's unique id without the resend bit; 0: cannot be sent again */
	bool is_resent;          /* a worker died on it */
	bool is_hot;             /* the caller goes on with what it did: its comm need not be read again; reset by emit_prepare() */
	unsigned step;           /* events of this request so far, and those it could do without; see writer_begin() */
	struct event event;      /* the one being made; strings point into the buffers below */
	struct emit_place at;    /* what event.path is of */
	struct emit_place to_at; /* what event.to is of, where it is a path */
	uint64_t renames;        /* fs->renames when the paths were made */
	struct who who;
	struct listed listed;
	mode_t umask;            /* of this thread, which has one of its own */
	bool is_charged;         /* what this thread stores is its caller's; see op_charge_caller() */
	uint64_t requests[FS_OPCODE_MAX];
	struct op *next;
	uint64_t next_request;   /* set by the session loop before an operation is called */
	char path[EVENT_PATH_MAX + 1];
	char to[EVENT_PATH_MAX + 1];
};

/** What is known of a change when it is announced. */
enum emit {
	EMIT_GO = 0,     /* nothing: make it */
	EMIT_LOGGED = 1, /* it was made and logged before a worker died: do not make it, do not commit */
	EMIT_MAYBE = 2,  /* it was announced before a worker died: look whether it was made; commit either way once it is */
};

/** The calling thread's op, made on its first request; NULL without memory or intent slots. */
struct op *op_of_thread(struct fs *fs);

/** Count a request, for who looks at the numbers meanwhile. op_start() does it. */
void op_count(struct op *op, unsigned opcode);

/** Begin an operation. Returns NULL after having answered the request with an error. */
struct op *op_start(fuse_req_t req, unsigned opcode);

/** Begin what no request asked for: log on the daemon's own account. NULL without memory. */
struct op *op_start_own(struct fs *fs);

/** The request has been answered. */
void op_end(struct op *op);

/** Answer with @r (0 or a negative errno) and end. */
void op_reply_error(struct op *op, int r);

/** Forget the thread's op; for the end of the session. */
void op_destroy(struct op *op);

/**
 * Start op->event: @op_code on @nodeid, or on @name in it. Fills path, ino where the table knows it, and who. Returns 0, or -ESTALE.
 */
int emit_prepare(struct op *op, enum event_op what, uint64_t nodeid, const char *name);

/** event->to is the path of @name in @nodeid. After emit_prepare(). Returns 0 or a negative errno. */
int emit_prepare_to(struct op *op, uint64_t nodeid, const char *name);

/** What emit_begin() will say when the next event is a @what: for steps that are not always needed. */
enum emit emit_recall(struct op *op, enum event_op what);

/** The next step is not needed, or EMIT_LOGGED already. */
void emit_skip(struct op *op);

/** Announce op->event. Returns an enum emit, or a negative errno: the change must not be made. */
int emit_begin(struct op *op);

/** The change was made. */
void emit_commit(struct op *op);

/** The change was not made. */
void emit_rollback(struct op *op);

/** Commit when @r is 0 or more, else roll back; not when it was logged before (@emit). Returns @r. */
int emit_finish(struct op *op, int emit, int r);

/**
 * The same for a rename of event->path to event->to, which from then on changes the paths of other events. The tables follow, but not for a
 * repeated request: the caller learns both names anew.
 */
int emit_finish_rename(struct op *op, int emit, int r, bool exchange);

/**
 * The same for the removal of event->path, one of several names where @has_more_names: other events of the inode are then called by another
 * one. The tables follow.
 */
int emit_finish_removal(struct op *op, int emit, int r, bool has_more_names);

/** Log op->event without an announcement, as no step of the request. One for which there is no room is counted for a gap. */
void emit_append(struct op *op);

/** CLOCK_REALTIME of the announcement whose outcome is open; for EMIT_MAYBE. */
int64_t emit_announced_ns(struct op *op);

/**
 * Bytes that the change took in, for EMIT_LOGGED of a request's last step: as it was logged, which can be less than what was asked for and
 * announced. That is what is left to say of an event that was lost.
 */
uint64_t emit_logged_length(struct op *op);

/** The event as announced then (strings borrowed until op_end()), or NULL. */
const struct event *emit_announced(struct op *op);

/* ---- Acting as the caller ---- */

/** Files made between these calls belong to the request's caller and its umask. */
void op_become_caller(struct op *op);
void op_become_daemon(struct op *op);

/**
 * What is stored between these calls, at most @size bytes in the file system of @fd (any descriptor), takes no room that is kept for root, unless
 * the caller is. After emit_prepare(): an event without EVENT_HAS_WHO has no caller. The second one leaves errno alone.
 */
void op_charge_caller(struct op *op, int fd, uint64_t size);
void op_charge_daemon(struct op *op);
