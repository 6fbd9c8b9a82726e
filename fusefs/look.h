/*
 * Look: a thread that looks about once a second whether files were changed through a mapping.
 *
 * Such stores make no request. The thread compares each file that is open for reading and writing with its baseline; with no such
 * file open it sleeps.
 */
#pragma once

struct fs;
struct look;

/** Returns 0 or a negative errno. @fs is borrowed. */
int look_start(struct fs *fs, struct look **out);

/** There may be something to look at. Any thread; NULL is fine. */
void look_wake(struct look *look);

/** End the thread. NULL is fine. */
void look_stop(struct look *look);
