/*
 * Streams: directories that programs are reading and that the kernel has opened by itself.
 *
 * A request for entries then names a directory, a position and a thread, and no open file. It is answered from the descriptor that the
 * request before it was answered from, where thread and position tell that it goes on from there: file systems that show an open
 * directory no more than was in it when it was opened (btrfs) do so to keep a program from meeting forever what it renames while it reads.
 * What is not found here, after a seek or a long pause or by another thread, is opened anew. Nobody is given the descriptor of somebody
 * else, who opened the directory earlier.
 *
 * Any thread; one mutex inside, never held across a system call.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct file;
struct streams;

/** @limit: descriptors, 1 or more. Returns 0 or -ENOMEM. */
int streams_create(unsigned limit, struct streams **out);

/** Closes all. NULL is fine. */
void streams_destroy(struct streams *streams);

/** The directory @nodeid as the thread @reader is to read on from @offset; the caller's until streams_put(). NULL without memory. */
struct file *streams_take(struct streams *streams, uint64_t nodeid, pid_t reader, off_t offset);

/**
 * Takes @file over. It is closed when it will not be read on (@is_at_end), else when the thread begins again, when many others came after it,
 * or by streams_close_idle().
 */
void streams_put(struct streams *streams, struct file *file, pid_t reader, bool is_at_end);

/** Close what was not read for a while. */
void streams_close_idle(struct streams *streams);

bool streams_is_empty(struct streams *streams);
