/*
 * Find: the server and the state folder of a mount, by any path in it.
 *
 * The daemon answers attributes of the name user.hrfs.* on every inode. The kernel, however, asks
 * about user.* only for regular files and directories that the caller may read: for everything
 * else the directory that holds it answers.
 */
#include "client/hrfs.h"

#include "base/scope.h"

#include <errno.h>
#include <libgen.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

/* Returns 0 or a negative errno, -ENOTTY when the path has no such attribute. */
static int get_attribute(const char *path, const char *name, char *buffer, size_t size)
{
	/* With no room at all getxattr() tells the length instead. */
	ssize_t length = size > 1 ? getxattr(path, name, buffer, size - 1) : 0;

	if (length < 0)
		return errno == ENODATA || errno == EOPNOTSUPP ? -ENOTTY : -errno;
	if (size <= 1)
		return -ERANGE;
	buffer[length] = '\0';
	return 0;
}

static bool is_directory(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* @path may be a link out of the tree or into it: what counts is where it leads. */
static int get_attribute_of_parent(const char *path, const char *name, char *buffer, size_t size)
{
	scoped(freep) char *real = realpath(path, NULL);

	if (!real)
		return -errno;
	return get_attribute(dirname(real), name, buffer, size);
}

static int find(const char *path, const char *name, char *buffer, size_t size)
{
	int r = get_attribute(path, name, buffer, size);

	if ((r == -ENOTTY || r == -EACCES) && !is_directory(path))
		r = get_attribute_of_parent(path, name, buffer, size);
	return r;
}

int hrfs_find_socket(const char *path, char *buffer, size_t size)
{
	return find(path, "user.hrfs.socket", buffer, size);
}

int hrfs_find_log(const char *path, char *buffer, size_t size)
{
	return find(path, "user.hrfs.log", buffer, size);
}

int hrfs_connect(const char *path, struct hrfs **out)
{
	char socket_path[4096];
	int r = hrfs_find_socket(path, socket_path, sizeof(socket_path));

	return r < 0 ? r : hrfs_connect_socket(socket_path, out);
}
