/*
 * Place: which log a path on the command line means, and what the path is called in it.
 *
 * Where a mount is, and what part of it (a container may see a subdirectory only), stands in
 * /proc/self/mountinfo:
 *
 *     36 35 0:45 /sub /mnt/point rw,noatime shared:1 - fuse.hrfs /src rw
 *     id         root mount point
 *
 * So /mnt/point/dir is called sub/dir in the log. Blanks, tabs, newlines and backslashes stand
 * there as \ and three octal digits.
 */
#include "cli/place.h"

#include "base/scope.h"
#include "base/statedir.h"
#include "client/hrfs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- Paths ---- */

static int copy_path(char out[PATH_MAX], const char *path)
{
	if (strlen(path) >= PATH_MAX)
		return -ENAMETOOLONG;
	strcpy(out, path);
	return 0;
}

/* Append a component. */
static int append_name(char path[PATH_MAX], const char *name)
{
	size_t length = strlen(path);
	const char *slash = length > 0 && path[length - 1] != '/' ? "/" : "";

	if (length + strlen(slash) + strlen(name) >= PATH_MAX)
		return -ENAMETOOLONG;
	strcpy(stpcpy(path + length, slash), name);
	return 0;
}

static bool is_link(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0 && S_ISLNK(st.st_mode);
}

/* Without "." components, doubled slashes, and a slash at the end. */
static int copy_tidily(char out[PATH_MAX], const char *path)
{
	out[0] = '\0';
	while (*path) {
		size_t length = strcspn(path, "/");
		char name[PATH_MAX];

		if (length >= sizeof(name))
			return -ENAMETOOLONG;
		memcpy(name, path, length);
		name[length] = '\0';
		if (length > 0 && strcmp(name, ".") != 0 && append_name(out, name) < 0)
			return -ENAMETOOLONG;
		path += length + strspn(path + length, "/");
	}
	return 0;
}

/*
 * Cut the last component, and the slashes before it, off @path. Returns it, or NULL where it is
 * none that can be set aside: "", "." and "..". *@out_parent is what is left: @path, "/", or ".".
 */
static const char *split_name(char *path, const char **out_parent)
{
	char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;

	if (name[0] == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return NULL;
	while (slash && slash > path && slash[-1] == '/')
		slash--;
	*out_parent = !slash ? "." : slash == path ? "/" : path;
	if (slash && slash != path)
		*slash = '\0';
	return name;
}

static void strip_slashes(char *path)
{
	for (size_t length = strlen(path); length > 1 && path[length - 1] == '/'; length--)
		path[length - 1] = '\0';
}

/*
 * The real path of @path, the last components of which need not exist. Without @follow a link at
 * the end is kept unless a slash follows. @out_existing receives the longest part of it that
 * exists.
 */
static int real_path(const char *path, bool follow, char out[PATH_MAX],
		     char out_existing[PATH_MAX])
{
	char whole[PATH_MAX], cut[PATH_MAX], rest[PATH_MAX];
	bool keeps_name = !follow && is_link(path);
	const char *parent = cut, *name = "";
	int r;

	r = copy_path(whole, path);
	if (r < 0)
		return r;
	strip_slashes(whole);
	strcpy(cut, whole);

	while (keeps_name || !realpath(parent, out_existing)) {
		if (!keeps_name && (errno != ENOENT || parent != cut))
			return -errno;
		keeps_name = false;
		name = split_name(cut, &parent);
		if (!name)
			return -ENOENT;
		name = whole + (name - cut);
	}

	strcpy(out, out_existing);
	r = copy_tidily(rest, name);
	return r < 0 || rest[0] == '\0' ? r : append_name(out, rest);
}

/* What is left of @path below @directory, "" for itself; NULL when it is not below. */
static const char *path_below(const char *path, const char *directory)
{
	size_t length = strlen(directory);

	if (strcmp(directory, "/") == 0)
		return path + 1;
	if (strncmp(path, directory, length) != 0)
		return NULL;
	if (path[length] == '\0')
		return path + length;
	return path[length] == '/' ? path + length + 1 : NULL;
}

/* ---- In a mount ---- */

static bool is_octal(const char *digits)
{
	for (int i = 0; i < 3; i++)
		if (digits[i] < '0' || digits[i] > '7')
			return false;
	return true;
}

static void undo_escapes(char *text)
{
	char *to = text;

	for (const char *from = text; *from;) {
		if (from[0] == '\\' && is_octal(from + 1)) {
			*to++ = (from[1] - '0') << 6 | (from[2] - '0') << 3 | (from[3] - '0');
			from += 4;
		} else {
			*to++ = *from++;
		}
	}
	*to = '\0';
}

/* The root and the mount point of the mount @id. The line they are in becomes theirs. */
static bool parse_mount(char *line, uint64_t id, char **out_root, char **out_point)
{
	char *end;

	if (strtoull(line, &end, 10) != id || end == line)
		return false;
	for (int field = 1; field <= 4; field++) {
		end = strchr(end, ' ');
		if (!end)
			return false;
		*end++ = '\0';
		if (field == 3)
			*out_root = end;
	}
	*out_point = end;
	end = strchr(end, ' ');
	if (!end)
		return false;
	*end = '\0';
	undo_escapes(*out_root);
	undo_escapes(*out_point);
	return true;
}

/* @real in the mount whose line of mountinfo is given. */
static int within_mount(const char *real, const char *root, const char *point, char out[PATH_MAX])
{
	const char *rest = path_below(real, point);

	/* Another mount has been put over a part of the path meanwhile. */
	if (!rest)
		return -ESTALE;
	out[0] = '\0';
	if (root[1] != '\0' && append_name(out, root + 1) < 0)
		return -ENAMETOOLONG;
	return rest[0] != '\0' ? append_name(out, rest) : 0;
}

static int find_within_mount(const char *real, const char *existing, char out[PATH_MAX])
{
	scoped(fclosep) FILE *mounts = fopen("/proc/self/mountinfo", "re");
	scoped(freep) char *line = NULL;
	char *root, *point;
	size_t size = 0;
	struct statx stx;

	if (!mounts)
		return -errno;
	if (statx(AT_FDCWD, existing, AT_SYMLINK_NOFOLLOW, STATX_MNT_ID, &stx) < 0)
		return -errno;
	if (!(stx.stx_mask & STATX_MNT_ID))
		return -EOPNOTSUPP;

	while (getline(&line, &size, mounts) >= 0)
		if (parse_mount(line, stx.stx_mnt_id, &root, &point))
			return within_mount(real, root, point, out);
	return -ESTALE;
}

/* ---- Elsewhere ---- */

/* Returns 0 when @folder has a log, -ENOENT, or -EACCES. */
static int look_for_log(const char *folder)
{
	char database[PATH_MAX];

	if (copy_path(database, folder) < 0 || append_name(database, "events.db") < 0)
		return -ENOENT;
	if (access(database, R_OK) == 0)
		return 0;
	return errno == EACCES ? -EACCES : -ENOENT;
}

/* A mount may have been made by root for a directory of ours. */
static int look_for_log_of_source(const char *source, char out[PATH_MAX])
{
	int r = -ENOENT;

	if (statedir_default(source, geteuid(), out, PATH_MAX) == 0)
		r = look_for_log(out);
	if (r == -ENOENT && statedir_below(STATEDIR_SYSTEM, source, out, PATH_MAX) == 0)
		r = look_for_log(out);
	return r;
}

static int find_unmounted(const char *real, struct place *out)
{
	char source[PATH_MAX];
	const char *parent = source;
	int here = look_for_log(real);

	if (here == 0) {
		out->within[0] = '\0';
		return copy_path(out->state, real);
	}

	strcpy(source, real);
	for (;;) {
		int r = look_for_log_of_source(parent, out->state);

		if (r == 0)
			return copy_path(out->within, path_below(real, parent));
		if (r == -EACCES)
			return r;
		/* What cannot be looked into may be a state folder. */
		if (strcmp(parent, "/") == 0 || !split_name(source, &parent))
			return here == -EACCES ? -EACCES : -ENOTTY;
	}
}

int place_find(const char *path, bool follow, struct place *out)
{
	struct place place = { 0 };
	char real[PATH_MAX];
	int r;

	r = real_path(path, follow, real, place.existing);
	if (r < 0)
		return r;

	r = hrfs_find_log(place.existing, place.state, sizeof(place.state));
	if (r == 0) {
		place.is_mounted = true;
		r = find_within_mount(real, place.existing, place.within);
	} else if (r == -ENOTTY || r == -EACCES) {
		r = find_unmounted(real, &place);
	}
	if (r < 0)
		return r;
	*out = place;
	return 0;
}

static bool has_parent_component(const char *path)
{
	while (*path) {
		size_t length = strcspn(path, "/");

		if (length == 2 && path[0] == '.' && path[1] == '.')
			return true;
		path += length + strspn(path + length, "/");
	}
	return false;
}

int place_resolve(const struct place *place, const char *path, char out[PATH_MAX])
{
	struct place found;

	if (place_find(path, false, &found) == 0 && strcmp(found.state, place->state) == 0)
		return copy_path(out, found.within);
	/* From the root of the tree nothing leads up. */
	if (path[0] == '/' || has_parent_component(path))
		return -EXDEV;
	return copy_tidily(out, path);
}
