/*
 * Ops: small things that several families of operations need. Private to fusefs/.
 */
#pragma once

#include "fusefs/emit.h"

/**
 * Fill @entry for @name in @parent, whose descriptor is @dir_fd, and count a lookup. Returns 0, or a negative errno (-ENOENT: no such
 * name, and what was known of it is forgotten).
 */
int op_fill_entry(struct op *op, uint64_t parent, int dir_fd, const char *name, struct fuse_entry_param *entry);

/** The same for a name that this operation has made, and whose directory's names it holds. */
int op_fill_entry_made(struct op *op, uint64_t parent, int dir_fd, const char *name, struct fuse_entry_param *entry);

/** The same for an open descriptor; @parent 0: it has no name. */
int op_fill_entry_fd(struct op *op, uint64_t parent, const char *name, int fd, struct fuse_entry_param *entry);

/** The same for a name that was given to @inode, whose attributes are now @attributes. Makes no system call. */
int op_fill_entry_linked(struct op *op, uint64_t parent, const char *name, const struct inode_view *inode,
			 const struct stat *attributes, struct fuse_entry_param *entry);

/** What @entry says of @nodeid besides its attributes. Counts nothing. */
void op_fill_known(struct op *op, uint64_t nodeid, struct fuse_entry_param *entry);

/** @count lookups are dropped. With the last one goes what is kept for the inode. */
void op_forget(struct fs *fs, uint64_t nodeid, uint64_t count);

/** Attributes of @nodeid; @file, or NULL, is an open file of it whose descriptor serves. Returns 0 or a negative errno. */
int op_stat(struct op *op, uint64_t nodeid, struct file *file, struct stat *out);

/** The open file that @fi names; of a directory that was opened without us it is @unasked, which file_finish() ends in any case. NULL: none. */
struct file *op_find_file(struct op *op, uint64_t nodeid, const struct fuse_file_info *fi, struct file *unasked);

/** The open file that @fi names, and its descriptor (borrowed), or a negative errno. */
int op_file_fd(struct op *op, const struct fuse_file_info *fi, struct file **out);

/** fsync(2) or fdatasync(2) of @fd, which may be a negative errno already. Returns 0 or a negative errno. */
int op_fsync(int fd, bool datasync);

/**
 * After a change of a name in @dir: with the options sync and dirsync it and its event come to stable storage. The change stands in any case, and is
 * what the answer tells of, so an error is said in the daemon's own messages.
 */
void op_sync_names(struct op *op, const struct reached *dir);

/** Whether @name in @dir_fd was made at @since_ns (CLOCK_REALTIME) or later: by the worker that died. */
bool op_was_born_since(int dir_fd, const char *name, int64_t since_ns);

/** Whether @name in @dir_fd is inode @ino. */
bool op_is_ino(int dir_fd, const char *name, uint64_t ino);

/** Fill ino, size and mode of op->event from @attributes. */
void op_note(struct op *op, const struct stat *attributes);

/**
 * Clear the set-id bits of @fd (O_PATH will do) if they are there, as a change by somebody without CAP_FSETID does, with its own chmod
 * event. A kernel that negotiated KILLPRIV_V2 leaves this to us. Called before the change, as the kernel does it. Always one step.
 * Returns 0 or a negative errno.
 */
int op_kill_set_id(struct op *op, uint64_t nodeid, int fd);

/**
 * Have the kernel forget the attributes of @nodeid, which changed in a way that the answer to this request does not tell. At once. The
 * kernel takes no lock for it that it holds for a request, so the caller may hold what he likes.
 */
void op_drop_attributes(struct op *op, uint64_t nodeid);

/** Whether the caller is a member of @gid. */
bool op_caller_is_in_group(const struct op *op, gid_t gid);

/**
 * Look whether stores through a mapping changed @inode since its baseline, log that, and have the kernel forget the attributes from before.
 * The caller holds the inode's order. @fd is open on it. @is_last: an open that could map it ends; where stores leave no trace (tmpfs, or a page
 * that was stored to before) that is logged as uncertain.
 */
void op_look_for_stores(struct op *op, struct open_inode *inode, int fd, bool is_last);

/** Settle, by looking at the tree, whether an announced event happened. @root_fd is the source. */
enum probe { PROBE_NOT_DONE, PROBE_DONE, PROBE_UNCERTAIN };
enum probe probe_event(int root_fd, const struct event *event, int64_t announced_ns, struct stat *out_attributes);

/** fs_settle_orphans(), but for those whose request is @expected. */
int settle_orphans(int source_fd, struct eventlog *log, const struct resent *expected);
