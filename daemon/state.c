#include "daemon/state.h"

#include "base/clock.h"
#include "base/fdutil.h"
#include "base/log.h"
#include "base/scope.h"
#include "base/statedir.h"
#include "base/walk.h"
#include "daemon/ancestry.h"
#include "daemon/mounttable.h"
#include "daemon/patience.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define LOCK_NAME "lock" /* eventlog.h */

/* What the daemon writes in its folder. */
static const char *const file_names[] = {
	LOCK_NAME, "journal", "events.db", "events.db-wal", "events.db-shm", "tree.db", "tree.db-wal", "tree.db-shm", "messages",
};

static bool is_root(void)
{
	return geteuid() == 0;
}

/* ---- Where it will be ---- */

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

static enum exit_status locate(struct state *state, const char *path, const struct state_around *around, struct walk *walk)
{
	char chosen[PATH_MAX];
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
	r = walk_open(chosen, walk);
	if (r == 0)
		r = walk_path(walk, state->path);
	if (r < 0) {
		log_error("cannot use the state folder %s: %s", chosen,
			  r == -ELOOP ? "another user's symbolic link is on the way" : strerror(-r));
		return STATUS_STATE;
	}
	return check_outside(state, walk->fd, around);
}

/* ---- Making it ---- */

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

/* A file that is there must be one of our own, or writing to it would write to another's. *@out_name is the one that is not. */
static bool has_foreign_file(const struct state *state, const char **out_name)
{
	struct stat st;

	for (size_t i = 0; i < sizeof(file_names) / sizeof(file_names[0]); i++) {
		if (fstatat(state->fd, file_names[i], &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		*out_name = file_names[i];
		if (!S_ISREG(st.st_mode) || st.st_nlink != 1 || (st.st_uid != geteuid() && st.st_uid != state->owner))
			return true;
	}
	return false;
}

/* Everybody's things may be in a folder that is not empty; root is not to give those to the owner. */
static bool has_log(const struct state *state)
{
	struct stat st;

	for (size_t i = 0; i < sizeof(file_names) / sizeof(file_names[0]); i++)
		if (fstatat(state->fd, file_names[i], &st, AT_SYMLINK_NOFOLLOW) == 0)
			return true;
	return false;
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
	if (!empty && !has_log(state))
		return -ENOTEMPTY;
	if (!(st.st_mode & 077))
		return 0;
	if (!empty)
		return -EEXIST;
	return fchmod(state->fd, 0700) < 0 ? -errno : 0;
}

/* The owner must be able to pass through what root makes; a user's own folders are nobody else's business. */
static int make(struct state *state, struct walk *walk)
{
	int is_new = walk_make(walk, is_root() ? 0755 : 0700, 0700);
	int r;

	if (is_new < 0)
		return is_new;
	state->fd = openat(walk->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
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

/* Whether who has the lock has said that it is about to let it go; see eventlog_say_ending(). */
static bool is_ending(int lock_fd)
{
	struct stat st;

	return fstat(lock_fd, &st) == 0 && st.st_size > 0;
}

/*
 * The worker takes the lock for good. Here it is only tried, so that a live mount is not covered by one that cannot work. A mount that
 * ends, after umount(8), still has it until its log is at rest.
 */
static int try_lock(const struct state *state)
{
	scoped(closep) int fd = fd_open_own(state->fd, LOCK_NAME, O_RDWR);
	int64_t begin_ms = clock_now_ms(), waited_ms;
	bool has_said = false;

	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK)
			return -errno;
		waited_ms = clock_now_ms() - begin_ms;
		if (waited_ms >= (is_ending(fd) ? PATIENCE_ENDING_MS : PATIENCE_MS))
			return -EBUSY;
		if (waited_ms >= PATIENCE_MS && !has_said)
			log_warning("the mount before has not yet stored its last events in %s; waiting", state->path);
		has_said = waited_ms >= PATIENCE_MS;
		(void)poll(NULL, 0, PATIENCE_PAUSE_MS);
	}
	return 0;
}

/* Who uses it cannot be asked, but nearly always it is a mount of the same source, which the table of mounts shows. */
static enum exit_status refuse_used(const struct state *state, const char *source)
{
	char point[PATH_MAX];

	if (mounttable_find_source(source, point, sizeof(point)) == 1)
		log_error("another mount uses the state folder %s: %s is mounted at %s; unmount that with: umount %s, or choose another folder with -o state=DIR",
			  state->path, source, point, point);
	else
		log_error("another mount uses the state folder %s; unmount that, or choose another folder with -o state=DIR", state->path);
	return STATUS_BUSY;
}

static enum exit_status refuse(const struct state *state, int error)
{
	const char *name;

	if (error == -EPERM)
		log_error("the state folder %s belongs to another user", state->path);
	else if (error == -EMLINK && has_foreign_file(state, &name))
		log_error("%s in the state folder %s is a link, no regular file, or another user's; move it away", name,
			  state->path);
	else if (error == -ENOTEMPTY)
		log_error("the state folder %s is not empty, and holds no log", state->path);
	else if (error == -EEXIST)
		log_error("the state folder %s is open to other users; chmod 700 makes it private", state->path);
	else
		log_error("cannot use the state folder %s: %s", state->path, strerror(-error));
	return STATUS_STATE;
}

void state_set_owner(struct state *state, const struct stat *source_stat)
{
	state->owner = is_root() ? source_stat->st_uid : geteuid();
	state->group = is_root() ? source_stat->st_gid : getegid();
}

enum exit_status state_open(struct state *state, const char *path, const struct state_around *around)
{
	scoped(walk_finish) struct walk walk = { .fd = -1 };
	enum exit_status status;
	const char *name;
	int r;

	state->fd = -1;
	state_set_owner(state, around->source_stat);
	status = locate(state, path, around, &walk);
	if (status != STATUS_OK)
		return status;
	r = make(state, &walk);
	if (r == 0 && has_foreign_file(state, &name))
		r = -EMLINK;
	if (r == 0)
		r = try_lock(state);
	if (r == 0)
		return STATUS_OK;
	status = r == -EBUSY ? refuse_used(state, around->source) : refuse(state, r);
	state_close(state);
	return status;
}

void state_close(struct state *state)
{
	closep(&state->fd);
	state->fd = -1;
}

/* By its descriptor, so that it is the file that was looked at. What is no file of its own stays with whom it belongs to. */
static int give(const struct state *state, const char *name)
{
	scoped(closep) int fd = openat(state->fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_nlink != 1 || st.st_uid != geteuid())
		return 0;
	return fchownat(fd, "", state->owner, state->group, AT_EMPTY_PATH) < 0 ? -errno : 0;
}

int state_give_to_owner(const struct state *state)
{
	int r = 0;

	if (!is_root())
		return 0;
	if (fchown(state->fd, state->owner, state->group) < 0)
		return -errno;
	for (size_t i = 0; i < sizeof(file_names) / sizeof(file_names[0]) && r == 0; i++)
		r = give(state, file_names[i]);
	return r;
}
