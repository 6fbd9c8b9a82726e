/*
 * File: the open files and directories, and their fh numbers.
 *
 * What a new worker must know stands in shared memory (tables.h); the descriptor and what was learned on the way stand
 * here. A descriptor is opened when it is first needed: an open for reading in passthrough mode
 * never needs one, and after a take-over all are opened again on first use.
 *
 * The kernel sends RELEASE only when nothing else is under way on an fh, so a struct file needs no reference
 * count.
 */
#pragma once

#include "fusefs/mode.h"
#include "fusefs/tables.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct files;
struct reach;

struct file {
	uint64_t fh;
	uint64_t nodeid;
	struct file_slot *slot;    /* what a new worker will know of it */
	int flags;                 /* of open(2) */
	bool is_dir;
	enum open_mode mode;
	struct open_inode *inode;  /* NULL for a directory */
	_Atomic int fd;            /* -1: not opened yet */
	atomic_bool is_owed;       /* it was open before this worker, and will need a descriptor */
	char *dir_buffer;          /* directories: entries read ahead */
	uint32_t dir_used, dir_at; /* bytes in dir_buffer, and where the next entry stands */
	int64_t dir_next;          /* d_off of the entry before dir_at: what the kernel asks for next */
	bool dir_is_ahead;         /* the descriptor stands behind dir_next */
	bool dir_is_old;           /* the buffer is of an earlier request: what it has may be gone */
};

/** Make the table over @tables. Returns 0 or -ENOMEM. */
int files_create(struct tables *tables, struct files **out);
/** Closes all descriptors. */
void files_destroy(struct files *files);

/** Count the opens an earlier worker made with @modes, and with @reach the descriptors that they need; tidy up behind it. Returns 0 or -ENOMEM. */
int files_adopt(struct files *files, struct modes *modes, struct reach *reach);

/**
 * A new open file. @fd is taken over, -1 for none; @inode comes from mode_open(). @request is the FUSE request, by which files_find_request()
 * finds it. Returns it, or NULL without memory (then @fd stays the caller's).
 */
struct file *file_create(struct files *files, uint64_t nodeid, int flags, enum open_mode mode,
			 struct open_inode *inode, int fd, bool is_dir, uint64_t request);

/** The file of @fh, or NULL. */
struct file *file_find(struct files *files, uint64_t fh);

/** The file that a repeated OPEN, OPENDIR, CREATE or TMPFILE has made already, or NULL. Slow: looks at all. */
struct file *file_find_request(struct files *files, uint64_t request);

/** A directory that the kernel has opened without asking: it is in no table. file_finish() ends it. */
void file_init_unasked(struct file *file, uint64_t nodeid);

/** Closes the descriptor. One that is zero but for fd = -1 is fine. */
void file_finish(struct file *file);

/** What was read ahead of a directory is not to be given any more. */
void file_drop_entries(struct file *file);

/** Close the descriptor; the file stays. */
void file_release_fd(struct file *file, struct reach *reach);

/** Close and forget. The open_inode stays the caller's to close. */
void file_destroy(struct files *files, struct file *file, struct reach *reach);

/**
 * The descriptor, opened on first use: with the flags the file was opened with.
 * Returns it (borrowed) or a negative errno.
 */
int file_fd(struct file *file, struct reach *reach);

/** Files open now. */
uint64_t files_count(struct files *files);
