/*
 * Settle: what became of changes whose worker died and whose request never comes again.
 *
 * The intent says what was going to happen and to which inode; the tree says what is. Names answer exactly: a file of that
 * name, born since, was made; a name that is gone, or belongs to another inode, was removed. Contents and attributes
 * answer only "not touched since" (the change time is older than the announcement) or "perhaps". What the log has already is
 * not logged again.
 */
#include "fusefs/ops.h"
#include "fusefs/resent.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A place in the tree: the directory, and the last component. */
struct place {
	int dir_fd; /* -1: the directory is not there */
	char name[TABLES_NAME_MAX + 1];
};

static int open_beneath(int root_fd, const char *path)
{
	struct open_how how = {
		.flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
	};

	return syscall(SYS_openat2, root_fd, path, &how, sizeof(how));
}

static void find_place(int root_fd, const char *path, size_t length, struct place *place)
{
	const char *slash = memrchr(path, '/', length);
	size_t dir_length = slash ? (size_t)(slash - path) : 0;
	size_t name_length = slash ? length - dir_length - 1 : length;
	char dir[EVENT_PATH_MAX + 1] = ".";

	place->dir_fd = -1;
	if (name_length > TABLES_NAME_MAX)
		return;
	memcpy(place->name, path + length - name_length, name_length);
	place->name[name_length] = '\0';
	if (dir_length) {
		memcpy(dir, path, dir_length);
		dir[dir_length] = '\0';
	}
	place->dir_fd = open_beneath(root_fd, dir);
}

static bool stat_place(const struct place *place, struct stat *out)
{
	return place->dir_fd >= 0 &&
	       fstatat(place->dir_fd, place->name, out, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) == 0;
}

static bool holds(const struct place *place, const struct event *event, struct stat *out)
{
	return stat_place(place, out) && (!(event->has & EVENT_HAS_INO) || out->st_ino == event->ino);
}

static enum probe probe_made(const struct place *at, int64_t announced_ns, struct stat *now)
{
	if (!stat_place(at, now) || !op_was_born_since(at->dir_fd, at->name, announced_ns))
		return PROBE_NOT_DONE;
	return PROBE_DONE;
}

static enum probe probe_touched(const struct place *at, const struct event *event, int64_t announced_ns,
				struct stat *now)
{
	const int64_t tick_ns = 10 * 1000 * 1000;

	if (!holds(at, event, now))
		return PROBE_UNCERTAIN;
	if (now->st_ctim.tv_sec * 1000000000 + now->st_ctim.tv_nsec < announced_ns - tick_ns)
		return PROBE_NOT_DONE;
	return PROBE_UNCERTAIN;
}

static enum probe probe_places(const struct place *at, const struct place *to, const struct event *event,
			       int64_t announced_ns, struct stat *now)
{
	switch (event->op) {
	case EVENT_CREATE:
	case EVENT_MKDIR:
	case EVENT_SYMLINK:
	case EVENT_MKNOD:
		return probe_made(at, announced_ns, now);
	case EVENT_UNLINK:
	case EVENT_RMDIR:
		return holds(at, event, now) ? PROBE_NOT_DONE : PROBE_DONE;
	case EVENT_LINK:
		return holds(to, event, now) ? PROBE_DONE : PROBE_NOT_DONE;
	case EVENT_RENAME:
		if (holds(at, event, now))
			return PROBE_NOT_DONE;
		return holds(to, event, now) ? PROBE_DONE : PROBE_UNCERTAIN;
	case EVENT_CLOSE:
		return PROBE_DONE;
	default:
		return probe_touched(at, event, announced_ns, now);
	}
}

enum probe probe_event(int root_fd, const struct event *event, int64_t announced_ns, struct stat *out_attributes)
{
	struct place at, to = { .dir_fd = -1 };
	enum probe probe;

	memset(out_attributes, 0, sizeof(*out_attributes));
	find_place(root_fd, event->path, event->path_length, &at);
	if (event->to && event->op != EVENT_SYMLINK)
		find_place(root_fd, event->to, event->to_length, &to);
	probe = probe_places(&at, &to, event, announced_ns, out_attributes);
	if (at.dir_fd >= 0)
		close(at.dir_fd);
	if (to.dir_fd >= 0)
		close(to.dir_fd);
	return probe;
}

static void note_recovered(struct event *event, const struct stat *now, enum probe probe)
{
	event->origin = EVENT_RECOVERED;
	if (probe == PROBE_UNCERTAIN)
		event->has |= EVENT_UNCERTAIN;
	if (!now->st_ino)
		return;
	event->ino = now->st_ino;
	event->has |= EVENT_HAS_INO;
	if (S_ISREG(now->st_mode) || S_ISLNK(now->st_mode)) {
		event->size = now->st_size;
		event->has |= EVENT_HAS_SIZE;
	}
	if (event->op == EVENT_CREATE || event->op == EVENT_MKDIR || event->op == EVENT_SYMLINK) {
		event->mode = now->st_mode & 07777;
		event->has |= EVENT_HAS_MODE;
	}
}

static int settle(int source_fd, const struct eventlog *log, struct writer *writer, const struct orphan *orphan)
{
	struct event event = *orphan->event;
	struct stat now;
	enum probe probe = probe_event(source_fd, &event, orphan->announced_ns, &now);
	int r;

	if (probe == PROBE_NOT_DONE)
		return 0;
	r = eventlog_has_announced(log, orphan);
	if (r != 0)
		return r < 0 ? r : 0;
	note_recovered(&event, &now, probe);
	return writer_append(writer, &event);
}

int settle_orphans(int source_fd, struct eventlog *log, const struct resent *expected)
{
	struct writer *writer = NULL;
	struct orphan *orphan;
	unsigned position = 0;
	int r = writer_open(log, &writer);

	while (r == 0 && (orphan = eventlog_next_orphan(log, &position))) {
		if (resent_is_expected(expected, orphan->request))
			continue;
		if (orphan->state == INTENT_BEGUN)
			r = settle(source_fd, log, writer, orphan);
		if (r == 0)
			eventlog_resolve(log, orphan);
	}
	writer_close(writer);
	return r;
}

int fs_settle_orphans(int source_fd, struct eventlog *log)
{
	return settle_orphans(source_fd, log, NULL);
}
