/*
 * Inode: what the kernel knows of the tree, and by which names.
 *
 * Maps a nodeid (the kernel's number for an inode: index and generation, the root is 1) to an
 * inode of the backing file system and to its names, and (directory, name) to an inode. The path
 * of an event is made from here, never from the file system. A nodeid lives while the kernel holds references
 * (lookups) or a known name below it needs it.
 *
 * Any thread; one mutex inside, held for memory accesses only, never across a system call.
 */
#pragma once

#include "fusefs/tables.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

struct inodes;

enum { INODE_ROOT = 1 };

/** How an inode is found again, and told from a later one that was given its number. */
struct inode_handle {
	int64_t born_ns; /* CLOCK_REALTIME; 0: the file system does not say, or not reliably */
	int32_t type;
	uint8_t size; /* bytes; 0: none, or not taken yet */
	uint8_t bytes[TABLES_HANDLE_MAX];
};

/** A copy of what is known of an inode. */
struct inode_view {
	uint64_t nodeid;
	uint64_t dev;
	uint64_t ino;
	mode_t type;               /* S_IFREG ... */
	bool is_gone;              /* its last known name was removed */
	bool has_more_names;       /* than the one below */
	struct inode_handle handle;
	uint64_t parent;           /* nodeid of the directory of its best name; 0: the root, or no name known */
	char name[TABLES_NAME_MAX + 1];
};

/**
 * Make the index over @tables, which stay the caller's. @root is the source directory. Tables that a dead
 * worker filled are taken over. The last @forgotten_max inodes that the kernel has forgotten, or fewer, stay known here, with their directories.
 * Returns 0 or a negative errno.
 */
int inodes_create(struct tables *tables, const struct stat *root, unsigned forgotten_max, struct inodes **out);
void inodes_destroy(struct inodes *inodes);

/**
 * Names in @parent are about to be changed: until inode_release_names() nothing is learned of it but by who changes it. From before the
 * change is made until the log and the tables tell of it, so that nobody acts on a name whose event is still to come. Holds may
 * overlap, and their holders never wait for one another.
 */
void inode_hold_names(struct inodes *inodes, uint64_t parent);
void inode_release_names(struct inodes *inodes, uint64_t parent);

/**
 * A number that changes with every name made, removed or renamed in @parent. Taken before the file system is asked about a name,
 * it tells inode_learn() whether the answer may be out of date. Waits while names there are held.
 */
uint32_t inode_epoch(struct inodes *inodes, uint64_t parent);

/**
 * The kernel is about to be told of an inode: find or make its nodeid, and count one lookup. @parent and @name
 * say where it was found; @parent 0: nowhere. What @name named before is forgotten if it is another inode. @epoch: from
 * inode_epoch(), or NULL when the caller holds the names and has just made this one.
 * Returns 0 and sets *@out, -EAGAIN (the directory changed meanwhile: ask the file system again), or -ENOMEM.
 */
int inode_learn(struct inodes *inodes, uint64_t parent, const char *name,
		const struct stat *attributes, const struct inode_handle *handle, const uint32_t *epoch,
		uint64_t *out);

/** One lookup more, which is ours: it goes with inode_forget(). */
void inode_hold(struct inodes *inodes, uint64_t nodeid);

/** The kernel drops @count lookups. Returns whether it holds none any more. */
bool inode_forget(struct inodes *inodes, uint64_t nodeid, uint64_t count);

/** Copy what is known. Returns 0 or -ESTALE. */
int inode_get(struct inodes *inodes, uint64_t nodeid, struct inode_view *out);

/** The inode that @name in @parent is known to be. Returns 0, or -ENOENT when nothing is known. */
int inode_child(struct inodes *inodes, uint64_t parent, const char *name, struct inode_view *out);

/**
 * Write the path of @nodeid, or of @name in it, relative to the root and NUL-terminated, to @buffer.
 * Returns its length, or -ESTALE, or -ENAMETOOLONG. With several names it is the one looked up last; of an inode without
 * names it is the last it had.
 */
ssize_t inode_path(struct inodes *inodes, uint64_t nodeid, const char *name, char *buffer, size_t size);

/** @name in @parent has been removed; or is not there: then with @epoch, and only if nothing changed in the directory since. */
void inode_unlinked(struct inodes *inodes, uint64_t parent, const char *name, const uint32_t *epoch);

/** What @name in @parent named now has the name @to_name in @to; with @exchange the other way round too. */
void inode_renamed(struct inodes *inodes, uint64_t parent, const char *name, uint64_t to,
		   const char *to_name, bool exchange);

/** The inode can be found by @handle from now on. */
void inode_set_handle(struct inodes *inodes, uint64_t nodeid, const struct inode_handle *handle);

/** Call @visit for each inode that has a backing id. It must not call back into here. */
void inodes_visit_backing(struct inodes *inodes, void (*visit)(void *userdata, uint64_t nodeid), void *userdata);

/** The next directory that the kernel knows after *@position, which begins with 0 and is moved on. Returns false when there is none. */
bool inodes_next_directory(struct inodes *inodes, uint32_t *position, uint64_t *out);

/** The backing id of an inode's passthrough, kept here because it outlives a worker; 0: none. */
int32_t inode_backing_id(struct inodes *inodes, uint64_t nodeid);
void inode_set_backing_id(struct inodes *inodes, uint64_t nodeid, int32_t backing_id);

/** Inodes that the kernel knows, and bytes of the tables and indexes in use. */
void inode_count(struct inodes *inodes, uint64_t *out_inodes, uint64_t *out_bytes);
