/*
 * Aside: the files of a damaged log out of the way, all of them together and none deleted.
 */
#pragma once

enum { ASIDE_SUFFIX_SIZE = 64 };

/**
 * Rename the database, its WAL and the journal in the folder @dir_fd: to each name a suffix with
 * the time is added, the same for all and new in the folder, which is copied to @out_suffix.
 * Returns 0 or a negative errno.
 */
int aside_set(int dir_fd, char out_suffix[ASIDE_SUFFIX_SIZE]);
