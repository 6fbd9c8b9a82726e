#include "daemon/state.h"

#include "base/fdutil.h"
#include "base/log.h"
#include "base/scope.h"
#include "base/statedir.h"
#include "daemon/ancestry.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define LOCK_NAME "lock" /* eventlog.h */

static bool is_root(void)
{
	return geteuid() == 0;
}

/* ---- Where it will be ---- */

static bool has_dot_dot(const char *path)
{
	for (const char *at = path; at; at = strchr(at, '/')) {
		at += strspn(at, "/");
		if (strncmp(at, "..", 2) == 0 && (at[2] == '/' || at[2] == '\0'))
			return true;
	}
	return false;
}

/* Cut the last component off, and the slashes around it. Returns false when nothing is left to cut. */
static bool cut_name(char *path)
{
	size_t length = strlen(path);

	while (length > 1 && path[length - 1] == '/')
		length--;
	while (length > 0 && path[length - 1] != '/')
		length--;
	while (length > 1 && path[length - 1] == '/')
		length--;
	if (length == 0 || length == strlen(path))
		return false;
	path[length] = '\0';
	return true;
}

/*
 * The real path of @path, the last components of which need not exist. *@out_existing_fd is the deepest directory that does; the caller
 * owns it.
 */
static int resolve(const char *path, char out[PATH_MAX], int *out_existing_fd)
{
	char whole[PATH_MAX], existing[PATH_MAX], real[PATH_MAX];
	scoped(closep) int fd = -1;
	const char *rest;

	if (snprintf(whole, sizeof(whole), "%s%s", path[0] == '/' ? "" : "./", path) >= sizeof(whole))
		return -ENAMETOOLONG;
	strcpy(existing, whole);
	while ((fd = open(existing, O_PATH | O_DIRECTORY | O_CLOEXEC)) < 0)
		if (errno != ENOENT || !cut_name(existing))
			return -errno;
	rest = whole + strlen(existing);
	rest += strspn(rest, "/");
	if (has_dot_dot(rest))
		return -ENOENT;
	if (!realpath(existing, real))
		return -errno;
	if (snprintf(out, PATH_MAX, "%s%s%s", real, rest[0] && strcmp(real, "/") != 0 ? "/" : "", rest) >= PATH_MAX)
		return -ENAMETOOLONG;
	*out_existing_fd = take_fd(fd);
	return 0;
}

static enum exit_status check_outside(const struct state *state, int existing_fd, const struct state_around *around)
{
	int in_source = ancestry_has(existing_fd, around->source_stat);
	int in_mount = ancestry_has(existing_fd, around->under_stat);

	if (in_source == 0 && in_mount == 0)
		return STATUS_OK;
	if (in_source < 0 || in_mount < 0)
		log_error("cannot use the state folder %s: %s", state->path, strerror(in_source < 0 ? -in_source : -in_mount));
	else
		log_error("the state folder %s is inside the %s", state->path, in_source ? "source" : "mount");
	return STATUS_STATE;
}

static enum exit_status locate(struct state *state, const char *path, const struct state_around *around)
{
	char chosen[PATH_MAX];
	scoped(closep) int existing_fd = -1;
	int r = 0;

	if (path && strlen(path) >= sizeof(chosen))
		r = -ENAMETOOLONG;
	else if (path)
		strcpy(chosen, path);
	else
		r = statedir_default(around->source, geteuid(), chosen, sizeof(chosen));
	if (r < 0) {
		log_error("no place for the state folder: %s; see -o state=DIR", strerror(-r));
		return STATUS_STATE;
	}
	r = resolve(chosen, state->path, &existing_fd);
	if (r < 0) {
		log_error("cannot use the state folder %s: %s", chosen, strerror(-r));
		return STATUS_STATE;
	}
	return check_outside(state, existing_fd, around);
}

/* ---- Making it ---- */

/* The owner must be able to pass through what root makes; a user's own folders are nobody else's business. */
static int make_parents(const char *path)
{
	char parent[PATH_MAX];

	strcpy(parent, path);
	return cut_name(parent) ? fd_mkdir_all(parent, is_root() ? 0755 : 0700) : 0;
}

static int is_empty(int fd)
{
	scoped(closep) int copy_fd = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = copy_fd < 0 ? NULL : fdopendir(copy_fd);
	const struct dirent *entry;
	int empty = 1;

	if (!dir)
		return -errno;
	(void)take_fd(copy_fd);
	while (empty && (entry = readdir(dir)))
		empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
	closedir(dir);
	return empty;
}

/* A folder that was there before: it must be ours, and what is in it must have been private all the time. */
static int adopt(const struct state *state)
{
	struct stat st;
	int empty = is_empty(state->fd);

	if (empty < 0 || fstat(state->fd, &st) < 0)
		return empty < 0 ? empty : -errno;
	if (st.st_uid != geteuid() && !(is_root() && st.st_uid == state->owner) && !(is_root() && empty))
		return -EPERM;
	if (!(st.st_mode & 077))
		return 0;
	if (!empty)
		return -EEXIST;
	return fchmod(state->fd, 0700) < 0 ? -errno : 0;
}

static int make(struct state *state)
{
	bool is_new;
	int r = make_parents(state->path);

	if (r < 0)
		return r;
	is_new = mkdir(state->path, 0700) == 0;
	if (!is_new && errno != EEXIST)
		return -errno;
	state->fd = open(state->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (state->fd < 0)
		return -errno;
	r = is_new ? 0 : adopt(state);
	if (r == 0)
		r = state_give_to_owner(state);
	if (r == 0 && faccessat(state->fd, ".", W_OK | X_OK, AT_EACCESS) < 0)
		r = -errno;
	return r;
}

/* ---- Who uses it ---- */

/* The worker takes the lock for good. Here it is only tried, so that a live mount is not covered by one that cannot work. */
static int try_lock(const struct state *state)
{
	scoped(closep) int fd = openat(state->fd, LOCK_NAME, O_RDWR | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? -EBUSY : -errno;
	return 0;
}

static enum exit_status refuse(const struct state *state, int error)
{
	if (error == -EBUSY) {
		log_error("another mount uses the state folder %s", state->path);
		return STATUS_BUSY;
	}
	if (error == -EPERM)
		log_error("the state folder %s belongs to another user", state->path);
	else if (error == -EEXIST)
		log_error("the state folder %s is open to other users; chmod 700 makes it private", state->path);
	else
		log_error("cannot use the state folder %s: %s", state->path, strerror(-error));
	return STATUS_STATE;
}

enum exit_status state_open(struct state *state, const char *path, const struct state_around *around)
{
	enum exit_status status;
	int r;

	state->fd = -1;
	state->owner = around->source_stat->st_uid;
	state->group = around->source_stat->st_gid;
	status = locate(state, path, around);
	if (status != STATUS_OK)
		return status;
	r = make(state);
	if (r == 0)
		r = try_lock(state);
	if (r == 0)
		return STATUS_OK;
	state_close(state);
	return refuse(state, r);
}

void state_close(struct state *state)
{
	closep(&state->fd);
	state->fd = -1;
}

int state_give_to_owner(const struct state *state)
{
	const struct dirent *entry;
	DIR *dir;
	int fd, r = 0;

	if (!is_root())
		return 0;
	if (fchown(state->fd, state->owner, state->group) < 0)
		return -errno;
	fd = openat(state->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir) {
		r = -errno;
		closep(&fd);
		return r;
	}
	while (r == 0 && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		if (fchownat(dirfd(dir), entry->d_name, state->owner, state->group, AT_SYMLINK_NOFOLLOW) < 0 && errno != ENOENT)
			r = -errno;
	}
	closedir(dir);
	return r;
}
