/*
 * Ancestry: up through "..", which also crosses from a mount to what it is mounted on. A directory that is bound to a second place
 * is found when its own ancestors are those of the place that was asked about.
 */
#include "daemon/ancestry.h"

#include "base/scope.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <unistd.h>

static bool is_same(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

int ancestry_has(int dir_fd, const struct stat *dir)
{
	struct stat now, before = { 0 };
	scoped(closep) int fd = openat(dir_fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);

	for (;;) {
		if (fd < 0 || fstat(fd, &now) < 0)
			return -errno;
		if (is_same(&now, dir))
			return 1;
		/* The root is its own parent. */
		if (is_same(&now, &before))
			return 0;
		before = now;

		int parent_fd = openat(fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);

		close(fd);
		fd = parent_fd;
	}
}

int ancestry_of_path_has(const char *path, const struct stat *dir)
{
	scoped(closep) int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : ancestry_has(fd, dir);
}
