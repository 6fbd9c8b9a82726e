/*
 * Reach: from a nodeid to a descriptor on the backing file system.
 *
 * No inode owns a descriptor. An O_PATH descriptor is made when one is needed (from the parent's descriptor and
 * the name, from the file handle, whichever is at hand) and kept in a bounded cache, least recently used out
 * first. What is reached is checked to be the inode that was meant: a name may have been given to another file behind
 * the mount, and its number, too. A regular file has no handle until it is made or reached where it can be told by its time of birth:
 * most files of a tree never are, and are found by directory and name.
 *
 * Any thread; one mutex inside, never held across a system call.
 */
#pragma once

#include "fusefs/inode.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

struct reach;
struct reach_entry;

/** A borrowed O_PATH descriptor; give it back with reach_put(). */
struct reached {
	int fd;
	struct reach_entry *entry; /* NULL: the fd is the root's */
};

enum { REACH_NONE_FD = -1 };
#define REACHED_NONE ((struct reached){ .fd = REACH_NONE_FD })

/**
 * @source_fd is borrowed: the root. @limit: descriptors the cache may hold. @held_max: numbers from this on are for descriptors that are
 * closed again, see reach_has_room(). Returns 0 or a negative errno.
 */
int reach_create(struct inodes *inodes, int source_fd, unsigned limit, unsigned held_max, struct reach **out);
void reach_destroy(struct reach *reach);

/** Whether file handles can be opened here (CAP_DAC_READ_SEARCH, a file system that has them). */
bool reach_has_handles(const struct reach *reach);

/** Get a descriptor of @nodeid. Returns 0, -ESTALE when it is no longer to be found, or another negative errno. */
int reach_get(struct reach *reach, uint64_t nodeid, struct reached *out);

/** Give it back. REACHED_NONE is fine. */
void reach_put(struct reach *reach, struct reached *reached);

/** Attributes of @nodeid, the cheapest way. Returns 0 or a negative errno. */
int reach_stat(struct reach *reach, uint64_t nodeid, struct stat *out);

/**
 * Attributes and handle (of a regular file its time of birth alone, where there is one) of @name in the directory @dir_fd, and what is needed
 * to reach it later: notes a file system that is mounted there. Returns 0 or a negative errno.
 */
int reach_identify(struct reach *reach, int dir_fd, const char *name, struct stat *out_attributes,
		   struct inode_handle *out_handle);

/** The same of an open descriptor, with the handle of a regular file as well: it may lose its name while it is open. */
int reach_identify_fd(struct reach *reach, int fd, struct stat *out_attributes, struct inode_handle *out_handle);

/**
 * Cache a descriptor of @nodeid made from @fd, which is open on it: for an inode that nobody could find again (it has no name, and
 * not every file system opens a handle of such a one). It goes out of the cache long after the others.
 */
void reach_keep(struct reach *reach, uint64_t nodeid, int fd);

/**
 * The same for @nodeid, which is about to lose its last name, @name in @dir_fd. Whether that name leads to it is looked at when the
 * descriptor is used, which is hardly ever. A failure is none: the inode is looked for in other ways then.
 */
void reach_keep_name(struct reach *reach, uint64_t nodeid, int dir_fd, const char *name);

/** What is borrowed is about to lose its name: it goes out of the cache long after the others. */
void reach_spare(struct reach *reach, const struct reached *reached);

/** Drop a cached descriptor, so that a removed file's blocks are freed. */
void reach_drop(struct reach *reach, uint64_t nodeid);

/**
 * Open the file of @path_fd with @flags. O_APPEND is left out, because the kernel computes offsets, where the file allows it. Returns a
 * descriptor or a negative errno.
 */
int reach_reopen(struct reach *reach, int path_fd, int flags);

/**
 * The same for what a program has open already, from a worker that died: the file's mode may forbid it now, or may have from the start
 * (git makes its objects for writing, and read-only). A daemon of an ordinary user, who owns the file, allows itself for a moment.
 */
int reach_open_anew(struct reach *reach, int path_fd, int flags);

/**
 * After an open that failed: close cached descriptors if it was for too many (errno is EMFILE or ENFILE). Returns whether it is worth
 * another try. Keeps errno.
 */
bool reach_relieve(struct reach *reach);

/**
 * Whether there is room for one more descriptor that stays open for as long as a program likes. Some are left for what takes one for a moment, so that
 * a program with many files does not keep all others from looking at theirs. Closes cached descriptors if that helps.
 */
bool reach_has_room(struct reach *reach);

/** @fd, -1 for none, is to stay open. */
void reach_note_held(struct reach *reach, int fd);

/** @count more descriptors, or fewer, will be held as soon as they are needed: of files that were open before this worker. */
void reach_owe(struct reach *reach, int count);

/** Writes "/proc/self/fd/N": a path that leads to the file of any descriptor. */
enum { REACH_LINK_SIZE = 32 };
void reach_link(int fd, char link[REACH_LINK_SIZE]);

/** Descriptors in the cache. */
unsigned reach_count(struct reach *reach);
