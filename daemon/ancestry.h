/* Ancestry: whether a directory is inside another, by what they are and not by what they are called. */
#pragma once

#include <sys/stat.h>

/** Whether @dir is the directory @dir_fd (O_PATH will do) or one above it. Returns 1, 0, or a negative errno. */
int ancestry_has(int dir_fd, const struct stat *dir);

/** The same for a path. */
int ancestry_of_path_has(const char *path, const struct stat *dir);
