/*
 * Look: a thread that looks about once a second whether files were changed through a mapping.
 *
 * Such stores make no request. The thread compares each file that is open for reading and writing with its baseline; with nothing to
 * look after it sleeps. It also has dropped what the kernel keeps and should not: pages that such stores would make stale, and listings
 * (fusefs/notifier.h). And it closes directories that nobody reads any more, and every tenth of a second, while there is one, lets go
 * of the processor of a program that asks no more (fusefs/follow.h).
 */
#pragma once

struct fs;
struct look;
struct open_inode;

/** Returns 0 or a negative errno. @fs is borrowed. */
int look_start(struct fs *fs, struct look **out);

/** There may be something to look at. Any thread; NULL is fine. */
void look_wake(struct look *look);

/** Threads have been bound to a processor (fusefs/follow.h). Any thread; NULL is fine. */
void look_follow(struct look *look);

/**
 * The kernel was given pages of a file for its cache, where no store through a mapping will change them (splice(2) and sendfile(2)
 * from a descriptor that can write fill it): have them dropped. Any thread; NULL is fine.
 */
void look_drop_pages(struct look *look, struct open_inode *inode);

/** End the thread. NULL is fine. */
void look_stop(struct look *look);
