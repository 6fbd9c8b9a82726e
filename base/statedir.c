/* Statedir: where the log of a source directory is kept. */
#include "base/statedir.h"

#include "base/scope.h"

#include <errno.h>
#include <limits.h>
#include <pwd.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

enum { PASSWD_BUFFER_SIZE = 16384, HASH_SIZE = 1 + 16 };

/*
 * A path in the environment; NULL unless it is absolute, as the XDG base directory specification
 * wants it.
 */
static const char *absolute_from_environment(const char *name)
{
	const char *path = getenv(name);

	return path && path[0] == '/' ? path : NULL;
}

static int home_from_database(uid_t uid, char *out, size_t size)
{
	scoped(freep) char *buffer = malloc(PASSWD_BUFFER_SIZE);
	struct passwd entry, *found = NULL;

	if (!buffer)
		return -ENOMEM;
	if (getpwuid_r(uid, &entry, buffer, PASSWD_BUFFER_SIZE, &found) != 0 || !found)
		return -ENOENT;
	if (entry.pw_dir[0] != '/')
		return -ENOENT;
	if (strlen(entry.pw_dir) >= size)
		return -ENAMETOOLONG;
	strcpy(out, entry.pw_dir);
	return 0;
}

/* The home of the daemon's user; $HOME is only believed when it speaks of the same one. */
static int find_home(uid_t uid, char *out, size_t size)
{
	const char *home = absolute_from_environment("HOME");

	if (!home || uid != geteuid())
		return home_from_database(uid, out, size);
	if (strlen(home) >= size)
		return -ENAMETOOLONG;
	strcpy(out, home);
	return 0;
}

/*
 * How much of @name is kept. In UTF-8, whole characters: the bytes of one that follow its first are
 * 10xxxxxx, three at most.
 */
static int cut(const char *name, size_t max)
{
	size_t length = strnlen(name, max + 1);
	int back = 0;

	if (length <= max)
		return length;
	while (back < 3 && back < max && (name[max - back] & 0xc0) == 0x80)
		back++;
	return (name[max - back] & 0xc0) == 0x80 ? max : max - back;
}

/*
 * The name may be up to NAME_MAX bytes: what does not fit beside the hash is cut, which the hash
 * makes good.
 */
int statedir_below(const char *parent, const char *source_real_path, char *out, size_t size)
{
	return statedir_below_cut(parent, source_real_path, NAME_MAX - HASH_SIZE, out, size);
}

int statedir_below_cut(const char *parent, const char *source_real_path, size_t name_max,
		       char *out, size_t size)
{
	char path[PATH_MAX];
	const char *name;
	int length;

	if (source_real_path[0] != '/')
		return -EINVAL;

	name = strrchr(source_real_path, '/') + 1;
	if (!name[0])
		name = "root";
	length = snprintf(
		path, sizeof(path), "%s/%.*s-%016llx", parent, cut(name, name_max), name,
		(unsigned long long)XXH3_64bits(source_real_path, strlen(source_real_path)));
	if (length >= sizeof(path) || length >= size)
		return -ENAMETOOLONG;
	memcpy(out, path, length + 1);
	return 0;
}

int statedir_default(const char *source_real_path, uid_t uid, char *out, size_t size)
{
	const char *xdg = absolute_from_environment("XDG_STATE_HOME");
	char home[PATH_MAX], parent[PATH_MAX];
	int length, r;

	if (!xdg && uid == 0)
		return statedir_below(STATEDIR_SYSTEM, source_real_path, out, size);
	if (!xdg) {
		r = find_home(uid, home, sizeof(home));
		if (r < 0)
			return r;
	}
	length = snprintf(parent, sizeof(parent), "%s%s", xdg ? xdg : home,
			  xdg ? "/hrfs" : "/.local/state/hrfs");
	if (length >= sizeof(parent))
		return -ENAMETOOLONG;
	return statedir_below(parent, source_real_path, out, size);
}
