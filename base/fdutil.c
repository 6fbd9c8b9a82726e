/* Fdutil: whole reads and writes, and small facts about descriptors. */
#include "base/fdutil.h"

#include "base/scope.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int fd_write_all(int fd, const void *data, size_t size)
{
	const char *position = data;

	while (size > 0) {
		ssize_t n = write(fd, position, size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		/* No progress and no reason: some devices do that when they are full. */
		if (n == 0)
			return -EIO;
		position += n;
		size -= n;
	}
	return 0;
}

ssize_t fd_read_all(int fd, void *data, size_t size)
{
	size_t done = 0;

	while (done < size) {
		ssize_t n = read(fd, (char *)data + done, size - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += n;
	}
	return done;
}

int fd_set_nonblocking(int fd, bool on)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0)
		return -errno;
	if (fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK) < 0)
		return -errno;
	return 0;
}

int fd_set_cloexec(int fd, bool on)
{
	int flags = fcntl(fd, F_GETFD);

	if (flags < 0)
		return -errno;
	if (fcntl(fd, F_SETFD, on ? flags | FD_CLOEXEC : flags & ~FD_CLOEXEC) < 0)
		return -errno;
	return 0;
}

static bool is_directory(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/*
 * On a read-only or forbidden parent mkdir(2) may say EROFS or EACCES for a directory that
 * exists.
 */
static int make_one(const char *path, mode_t mode)
{
	int r;

	if (mkdir(path, mode) == 0)
		return 0;
	r = -errno;
	if (is_directory(path))
		return 0;
	return r == -EEXIST ? -ENOTDIR : r;
}

int fd_mkdir_all(const char *path, mode_t mode)
{
	scoped(freep) char *copy = strdup(path);
	int r;

	if (!copy)
		return -ENOMEM;
	if (!copy[0])
		return -ENOENT;

	for (char *slash = strchr(copy + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		r = make_one(copy, mode);
		*slash = '/';
		if (r < 0)
			return r;
	}
	return make_one(copy, mode);
}
