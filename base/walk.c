#include "base/walk.h"

#include "base/scope.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LINKS_MAX = 40, NAME_SIZE = NAME_MAX + 1 };

#define DIRECTORY (O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

static void replace_fd(int *fd, int with)
{
	close(*fd);
	*fd = with;
}

/* Cut the first name off @path, which has no slash in front. Returns its length, or -ENAMETOOLONG. */
static int take_name(const char *path, char out[NAME_SIZE])
{
	size_t length = strcspn(path, "/");

	if (length >= NAME_SIZE)
		return -ENAMETOOLONG;
	memcpy(out, path, length);
	out[length] = '\0';
	return length;
}

/* Put what the link at @fd says in front of @rest. */
static int follow(int fd, const struct stat *st, const char *rest, char out[PATH_MAX])
{
	char target[PATH_MAX];
	ssize_t size;

	if (st->st_uid != 0 && st->st_uid != geteuid())
		return -ELOOP;
	size = readlinkat(fd, "", target, sizeof(target) - 1);
	if (size < 0)
		return -errno;
	target[size] = '\0';
	return snprintf(out, PATH_MAX, "%s/%s", target, rest) < PATH_MAX ? 0 : -ENAMETOOLONG;
}

/* Go from the directory *@fd to @name in it. Returns 0, or 1 when that is a link: *@pending is then the way from it, which may be absolute. */
static int step(int *fd, const char *name, const char *rest, char pending[PATH_MAX])
{
	scoped(closep) int next = openat(*fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	char way[PATH_MAX];
	struct stat st;
	int r;

	if (next < 0 || fstat(next, &st) < 0)
		return -errno;
	if (S_ISLNK(st.st_mode)) {
		r = follow(next, &st, rest, way);
		if (r < 0)
			return r;
		strcpy(pending, way);
		return 1;
	}
	if (!S_ISDIR(st.st_mode))
		return -ENOTDIR;
	replace_fd(fd, take_fd(next));
	return 0;
}

static bool has_dot_dot(const char *path)
{
	char name[NAME_SIZE];
	int length;

	for (; *path; path += length) {
		path += strspn(path, "/");
		length = take_name(path, name);
		if (length < 0 || strcmp(name, "..") == 0)
			return true;
	}
	return false;
}

/* Down as far as it goes; what is left of @pending is returned in *@out_rest. */
static int descend(int *fd, char pending[PATH_MAX], char **out_rest)
{
	char name[NAME_SIZE];
	char *at = pending;
	unsigned links = 0;

	for (;;) {
		int length, r;

		if (at == pending && *at == '/') {
			int root = open("/", DIRECTORY);

			if (root < 0)
				return -errno;
			replace_fd(fd, root);
		}
		at += strspn(at, "/");
		*out_rest = at;
		if (!*at)
			return 0;
		length = take_name(at, name);
		if (length < 0)
			return length;
		r = step(fd, name, at + length, pending);
		if (r == -ENOENT)
			return has_dot_dot(at) ? -ENOENT : 0;
		if (r < 0)
			return r;
		if (r == 1 && ++links > LINKS_MAX)
			return -ELOOP;
		at = r == 1 ? pending : at + length;
	}
}

int walk_open(const char *path, struct walk *out)
{
	scoped(closep) int fd = -1;
	char pending[PATH_MAX];
	char *rest = pending;
	int r;

	if (!path[0])
		return -ENOENT;
	if (strlen(path) >= sizeof(pending))
		return -ENAMETOOLONG;
	strcpy(pending, path);
	fd = open(".", DIRECTORY);
	if (fd < 0)
		return -errno;
	r = descend(&fd, pending, &rest);
	if (r < 0)
		return r;
	strcpy(out->rest, rest);
	out->fd = take_fd(fd);
	return 0;
}

int walk_make(struct walk *walk, mode_t mode, mode_t last_mode)
{
	const char *at = walk->rest;
	char name[NAME_SIZE];
	int made = 0;

	while (*at) {
		int length = take_name(at, name);
		int next;

		if (length < 0)
			return length;
		at += length;
		at += strspn(at, "/");
		made = mkdirat(walk->fd, name, *at ? mode : last_mode) == 0;
		if (!made && errno != EEXIST)
			return -errno;
		next = openat(walk->fd, name, DIRECTORY);
		if (next < 0)
			return -errno;
		replace_fd(&walk->fd, next);
	}
	walk->rest[0] = '\0';
	return made;
}

int walk_path(const struct walk *walk, char out[PATH_MAX])
{
	char link[32], existing[PATH_MAX];
	ssize_t size;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", walk->fd);
	size = readlink(link, existing, sizeof(existing) - 1);
	if (size < 0)
		return -errno;
	existing[size] = '\0';
	if (snprintf(out, PATH_MAX, "%s%s%s", existing, walk->rest[0] && strcmp(existing, "/") != 0 ? "/" : "",
		     walk->rest) >= PATH_MAX)
		return -ENAMETOOLONG;
	return 0;
}

void walk_finish(struct walk *walk)
{
	closep(&walk->fd);
	walk->fd = -1;
}
