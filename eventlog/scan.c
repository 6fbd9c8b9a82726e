/*
 * Scan: compares the tree with what the log last said of it.
 *
 * The tree is walked by directories, from the root down, each found by the path that its row has now and checked by its
 * inode number, so that one which is renamed meanwhile is not lost. Within it each name is looked at, then each row that
 * had no name. A look ends in one of three ways: the two agree; or the log has moved on and the look is repeated; or one
 * event is logged that brings the row nearer to the disk, and the look is repeated. The event comes back through the log
 * like any other, so what has been told is known, whenever the worker is killed.
 *
 * Rows without a name wait until everything else has been looked at: their file may turn up under another name, and is
 * then told of as renamed.
 */
#include "eventlog/scan.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/scope.h"
#include "eventlog/compare.h"
#include "eventlog/follow.h"
#include "eventlog/idset.h"
#include "proto/event.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

enum {
	NICE = 5,
	ROWS_AT_ONCE = 64,
	LOOK_TRIES = 20,    /* at a name of which the log tells all the time */
	OPEN_TRIES = 10000, /* at a directory that is being renamed */
};

/* Rows to come back to. */
struct rows {
	int64_t *ids; /* owned */
	size_t count;
	size_t capacity;
};

struct scan {
	struct scan_options options;
	struct compare_rules rules;
	struct follow follow;
	pthread_t thread;
	bool is_started;    /* the owner's */
	int64_t started_ms; /* monotonic */

	struct rows pending; /* directories to walk */
	struct rows missing; /* rows that had no name on the disk */
	struct idset pushed; /* directories that have been in pending */
	char path[EVENT_PATH_MAX + 1];
	char to[EVENT_PATH_MAX + 1];

	atomic_bool is_stopping;
	_Atomic enum scan_state state;
	_Atomic uint64_t entries;
	_Atomic uint64_t differences;
	_Atomic int64_t duration_ms; /* once it has ended */
};

/* A name in a directory, which may itself be gone. */
struct place {
	int64_t parent;
	int fd; /* borrowed; -1: nothing is there */
	const char *name;
	size_t length;
};

/* ---- Rows to come back to ---- */

static int rows_push(struct rows *rows, int64_t id)
{
	if (rows->count == rows->capacity) {
		size_t capacity = rows->capacity ? 2 * rows->capacity : 64;
		int64_t *ids = reallocarray(rows->ids, capacity, sizeof(*ids));

		if (!ids)
			return -ENOMEM;
		rows->ids = ids;
		rows->capacity = capacity;
	}
	rows->ids[rows->count++] = id;
	return 0;
}

static int push_directory(struct scan *scan, int64_t id)
{
	int r = idset_add(&scan->pushed, id);

	return r > 0 ? rows_push(&scan->pending, id) : r;
}

/* ---- The disk ---- */

/* Below the root by @path, following no link. Returns a descriptor or a negative errno. */
static int open_below(const struct scan *scan, const char *path, size_t length, int flags)
{
	scoped(closep) int fd = openat(scan->options.source_fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	const char *end = path + length;
	char name[NAME_MAX + 1];
	int next;

	while (fd >= 0 && path < end) {
		const char *slash = memchr(path, '/', end - path);
		size_t part = (slash ? slash : end) - path;

		if (part > NAME_MAX)
			return -ENAMETOOLONG;
		memcpy(name, path, part);
		name[part] = '\0';
		path += part + 1;
		next = openat(fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		closep(&fd);
		fd = next;
	}
	if (fd < 0)
		return -errno;
	next = openat(fd, ".", flags | O_DIRECTORY | O_CLOEXEC);
	return next < 0 ? -errno : next;
}

/* Returns 1, 0 when there is none, or a negative errno: it cannot be looked at. */
static int stat_place(const struct place *place, struct stat *out)
{
	if (place->fd < 0)
		return 0;
	if (fstatat(place->fd, place->name, out, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT) == 0)
		return 1;
	return errno == ENOENT ? 0 : -errno;
}

/* Returns whether there is something. */
static bool stat_path(const struct scan *scan, const char *path, size_t length, struct stat *out)
{
	const char *slash = memrchr(path, '/', length);
	size_t start = slash ? slash - path + 1 : 0;
	char name[NAME_MAX + 1] = { 0 };
	scoped(closep) int fd = open_below(scan, path, slash ? start - 1 : 0, O_PATH);

	if (fd < 0 || length - start > NAME_MAX)
		return false;
	memcpy(name, path + start, length - start);
	return fstatat(fd, name, out, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) == 0;
}

/* Whether @file is what @path leads to. */
static bool is_at(const struct scan *scan, const char *path, size_t length, const struct stat *file)
{
	struct stat now;

	return stat_path(scan, path, length, &now) && now.st_ino == file->st_ino && now.st_dev == file->st_dev;
}

/* ---- What is logged ---- */

static int log_step(struct scan *scan, struct event *event)
{
	int r;

	event->origin = EVENT_SCAN;
	event->comm = "";
	r = follow_log(&scan->follow, event);
	if (r == FOLLOW_READY)
		scan->differences++;
	return r;
}

static void set_ino(struct event *event, uint64_t ino)
{
	event->ino = ino;
	event->has |= ino ? EVENT_HAS_INO : 0;
}

/* The path of @name in the row @parent, in @out, which has room for any. Returns its length or a negative errno. */
static ssize_t path_in(struct scan *scan, int64_t parent, const char *name, size_t length, char *out)
{
	ssize_t at = parent ? tree_path(scan->follow.tree, parent, out, EVENT_PATH_MAX) : 0;

	if (at < 0)
		return at;
	if (at + 1 + length > EVENT_PATH_MAX)
		return -ENAMETOOLONG;
	if (at > 0)
		out[at++] = '/';
	memcpy(out + at, name, length);
	return at + length;
}

static void fill_attributes(struct event *event, const struct stat *now)
{
	set_ino(event, now->st_ino);
	event->mode = now->st_mode & 07777;
	event->has |= EVENT_HAS_MODE;
}

/* A name that the log does not know belongs to a file that it knows by another: renamed, or one of its links. */
static int log_other_name(struct scan *scan, struct event *event, const struct stat *now, const struct tree_node *other)
{
	ssize_t length = tree_path(scan->follow.tree, other->id, scan->to, EVENT_PATH_MAX);
	bool is_there;

	if (length < 0)
		return length;
	is_there = is_at(scan, scan->to, length, now);
	event->op = is_there ? EVENT_LINK : EVENT_RENAME;
	event->to = event->path;
	event->to_length = event->path_length;
	event->path = scan->to;
	event->path_length = length;
	set_ino(event, now->st_ino);
	return log_step(scan, event);
}

/* Whether the file was made since the tree was last mounted, so that its inode number had been another's. */
static bool is_born_since(const struct scan *scan, const struct place *place)
{
	struct statx facts;
	const int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT;

	if (!scan->follow.away_ns || statx(place->fd, place->name, flags, STATX_BTIME, &facts) < 0 ||
	    !(facts.stx_mask & STATX_BTIME))
		return false;
	return facts.stx_btime.tv_sec * 1000000000ll + facts.stx_btime.tv_nsec > scan->follow.away_ns;
}

/* Whether @other, a row of the same inode number, can be told of as the same file. */
static bool is_same_file(struct scan *scan, const struct tree_node *other, const struct place *place,
			 const struct stat *now)
{
	ssize_t length;

	if (other->id == TREE_ROOT || (other->mode & S_IFMT) != (now->st_mode & S_IFMT))
		return false;
	length = tree_path(scan->follow.tree, other->id, scan->to, EVENT_PATH_MAX);
	if (length < 0)
		return false;
	if (is_at(scan, scan->to, length, now))
		return !S_ISDIR(now->st_mode) && now->st_nlink > 1;
	return !is_born_since(scan, place);
}

static int log_created(struct scan *scan, const struct place *place, struct event *event, const struct stat *now)
{
	ssize_t length;

	fill_attributes(event, now);
	switch (now->st_mode & S_IFMT) {
	case S_IFREG:
		/* Empty at first; a write follows. */
		event->op = EVENT_CREATE;
		event->has |= EVENT_HAS_SIZE;
		break;
	case S_IFDIR:
		event->op = EVENT_MKDIR;
		break;
	case S_IFLNK:
		event->op = EVENT_SYMLINK;
		length = readlinkat(place->fd, place->name, scan->to, EVENT_PATH_MAX);
		if (length < 0)
			return FOLLOW_AGAIN;
		event->to = scan->to;
		event->to_length = length;
		event->size = length;
		event->has |= EVENT_HAS_SIZE;
		break;
	default:
		event->op = EVENT_MKNOD;
		event->mode = now->st_mode;
	}
	return log_step(scan, event);
}

/* What is gone goes from below: one name of it. */
static int log_gone(struct scan *scan, struct tree_node *node)
{
	struct tree_name child;
	ssize_t length;
	int r;

	while ((r = tree_list(scan->follow.tree, node->id, NULL, &child, 1)) == 1) {
		r = tree_get(scan->follow.tree, child.id, node);
		if (r <= 0)
			return r < 0 ? r : FOLLOW_AGAIN;
	}
	length = r < 0 ? r : tree_path(scan->follow.tree, node->id, scan->path, EVENT_PATH_MAX);
	if (length < 0)
		return length;
	struct event event = {
		.op = S_ISDIR(node->mode) ? EVENT_RMDIR : EVENT_UNLINK,
		.path = scan->path,
		.path_length = length,
	};
	set_ino(&event, node->ino);
	return log_step(scan, &event);
}

/*
 * Whether @other, a row of an inode number that another file has now, is of one that is gone. On another file system below the source
 * the number may be in use by itself.
 */
static bool is_left_over(struct scan *scan, const struct tree_node *other)
{
	ssize_t length = other->id == TREE_ROOT ? -1 : tree_path(scan->follow.tree, other->id, scan->to, EVENT_PATH_MAX);
	struct stat now;

	if (length < 0)
		return false;
	return !stat_path(scan, scan->to, length, &now) || now.st_ino != other->ino ||
	       (now.st_mode & S_IFMT) != (other->mode & S_IFMT);
}

/* What had the number before goes first, so that rows of a number are names of one file. */
static int log_new(struct scan *scan, const struct place *place, const struct stat *now)
{
	ssize_t length = path_in(scan, place->parent, place->name, place->length, scan->path);
	struct event event = { .path = scan->path, .path_length = length };
	struct tree_node other = { .id = 0 };
	int r;

	if (length < 0)
		return length;
	while ((r = tree_find_ino(scan->follow.tree, now->st_ino, other.id, &other)) > 0) {
		if (is_same_file(scan, &other, place, now))
			return log_other_name(scan, &event, now, &other);
		if (is_left_over(scan, &other))
			return log_gone(scan, &other);
	}
	return r < 0 ? r : log_created(scan, place, &event, now);
}

static int log_changed(struct scan *scan, const struct tree_node *node, const struct stat *now, enum difference what)
{
	ssize_t length = tree_path(scan->follow.tree, node->id, scan->path, EVENT_PATH_MAX);
	struct event event = { .op = EVENT_WRITE, .path = scan->path, .path_length = length };

	if (length < 0)
		return length;
	set_ino(&event, now->st_ino);
	if (what == DIFFERS_MODE) {
		event.op = EVENT_CHMOD;
		fill_attributes(&event, now);
		return log_step(scan, &event);
	}
	event.size = now->st_size;
	event.has |= EVENT_HAS_SIZE | (what == DIFFERS_PERHAPS ? EVENT_UNCERTAIN : 0);
	return log_step(scan, &event);
}

/* ---- A look ---- */

/* Take a name over as it is. */
static int adopt(struct scan *scan, const struct place *place, const struct stat *now)
{
	struct tree_node node = { .parent = place->parent };

	compare_take(&node, now);
	return tree_add(scan->follow.tree, place->name, place->length, &node);
}

static int complete(struct scan *scan, struct tree_node *node, const struct stat *now)
{
	bool has_ino = node->ino == now->st_ino;
	int r;

	if (node->id == TREE_ROOT && !has_ino)
		compare_take(node, now);
	else if (!compare_complete(node, now))
		return 0;
	r = has_ino ? 0 : tree_set_ino(scan->follow.tree, node->id, node->ino);
	return r == 0 ? tree_update(scan->follow.tree, node) : r;
}

static enum difference compare_row(struct scan *scan, const struct tree_node *node, const struct stat *now)
{
	/* Whatever directory it is, it is the root. */
	if (node->id == TREE_ROOT && node->ino != now->st_ino)
		return DIFFERS_NOT;
	return compare(node, now, &scan->rules);
}

/* One event, or row, towards agreement. */
static int make_step(struct scan *scan, const struct place *place, struct tree_node *node, const struct stat *now)
{
	enum difference difference;

	if (!node && !scan->follow.progress.is_known && scan->options.mode != SCAN_FULL)
		return adopt(scan, place, now);
	if (!node)
		return log_new(scan, place, now);
	difference = now ? compare_row(scan, node, now) : DIFFERS_FILE;
	if (difference == DIFFERS_FILE)
		return log_gone(scan, node);
	return log_changed(scan, node, now, difference);
}

/*
 * Whether row and disk agree; then *@out is the row, or has the id 0. Returns 1, 0, or a negative errno.
 */
static int agrees(struct scan *scan, const struct place *place, const struct stat *now, struct tree_node *out)
{
	int r = tree_find(scan->follow.tree, place->parent, place->name, place->length, out);

	if (r < 0)
		return r;
	if (r == 0)
		out->id = 0;
	if (r == 0 || !now)
		return r == 0 && !now;
	if (compare_row(scan, out, now) != DIFFERS_NOT)
		return 0;
	r = complete(scan, out, now);
	return r < 0 ? r : 1;
}

/* Returns 1 when they agree, 0 to look again (*@tries counts on when the log says so), or a negative errno. */
static int look_once(struct scan *scan, const struct place *place, struct tree_node *out, unsigned *tries)
{
	struct follow_name name = {
		.parent = place->parent,
		.name = place->name,
		.length = place->length,
		.from = eventlog_next_seq(scan->follow.log),
	};
	struct stat now;
	int exists = stat_place(place, &now);
	int r = exists < 0 ? exists : agrees(scan, place, exists ? &now : NULL, out);

	if (r != 0)
		return r;
	name.ino = exists ? now.st_ino : out->id ? out->ino : 0;
	r = follow_to_end(&scan->follow, &name);
	if (r != FOLLOW_READY) {
		(*tries)++;
		return r < 0 ? r : 0;
	}
	r = agrees(scan, place, exists ? &now : NULL, out);
	if (r != 0)
		return r;
	r = make_step(scan, place, out->id ? out : NULL, exists ? &now : NULL);
	return r < 0 ? r : 0;
}

/* Is what cannot be looked at, and stays as it was. */
static bool is_of_disk(int r)
{
	return r == -EACCES || r == -EIO || r == -ENAMETOOLONG || r == -ELOOP || r == -ENOTDIR || r == -ESTALE ||
	       r == -ENODEV || r == -EPERM || r == -ETIMEDOUT || r == -EREMOTEIO;
}

/* Bring one name into agreement. Returns 1 and fills *@out, 0: there is no such name, or a negative errno. */
static int look(struct scan *scan, const struct place *place, struct tree_node *out)
{
	struct tree_node parent;
	unsigned tries = 0;
	int r;

	do {
		if (atomic_load(&scan->is_stopping))
			return -ECANCELED;
		/* The requests tell of it, and what they do not the next scan finds. */
		if (tries > LOOK_TRIES && out->id)
			return 1;
		/* The directory may have been removed; what was made there since has been told of. */
		r = place->parent ? tree_get(scan->follow.tree, place->parent, &parent) : 1;
		if (r <= 0)
			return r;
		r = look_once(scan, place, out, &tries);
	} while (r == 0);
	if (r < 0)
		return is_of_disk(r) ? 0 : r;
	return out->id != 0;
}

/* ---- Directories ---- */

/* Returns a descriptor, -ENOENT when it is not where its row says, or another negative errno. */
static int try_directory(struct scan *scan, int64_t id)
{
	ssize_t length = tree_path(scan->follow.tree, id, scan->path, EVENT_PATH_MAX);
	scoped(closep) int fd = -1;
	struct tree_node node;
	struct stat now;
	int r;

	if (length < 0)
		return length;
	fd = open_below(scan, scan->path, length, O_RDONLY);
	if (fd < 0)
		return fd;
	r = tree_get(scan->follow.tree, id, &node);
	if (r <= 0)
		return r < 0 ? r : -ENOENT;
	if (fstat(fd, &now) < 0)
		return -errno;
	return id == TREE_ROOT || !node.ino || now.st_ino == node.ino ? take_fd(fd) : -ENOENT;
}

/* Like try_directory(), but one that is being renamed is looked for again. */
static int open_directory(struct scan *scan, int64_t id)
{
	int fd = -ENOENT, r = 0;

	for (int i = 0; i < OPEN_TRIES && r >= 0; i++) {
		fd = try_directory(scan, id);
		if (fd >= 0 || !is_of_disk(fd == -ENOENT ? -ESTALE : fd))
			return fd;
		r = follow_to_end(&scan->follow, &(struct follow_name){ .parent = id, .name = "" });
	}
	return r < 0 ? r : fd;
}

static uint64_t hash_name(const char *name, size_t length)
{
	/* 0 is no id. */
	return XXH3_64bits(name, length) | 1;
}

static int look_at_entry(struct scan *scan, const struct place *place)
{
	struct tree_node node;
	int r = look(scan, place, &node);

	scan->entries++;
	if (r <= 0)
		return r;
	return S_ISDIR(node.mode) ? push_directory(scan, node.id) : 0;
}

static int look_at_entries(struct scan *scan, int64_t id, DIR *directory, struct idset *names)
{
	const struct dirent *entry;
	int r = 0;

	while (r >= 0 && (errno = 0, entry = readdir(directory))) {
		struct place place = { id, dirfd(directory), entry->d_name, strlen(entry->d_name) };

		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		r = idset_add(names, hash_name(place.name, place.length));
		if (r >= 0)
			r = look_at_entry(scan, &place);
	}
	return r < 0 ? r : -errno;
}

static int note_missing(struct scan *scan, int64_t id, const struct idset *names)
{
	struct tree_name rows[ROWS_AT_ONCE], last = { 0 };
	int count, r = 0;

	do {
		count = tree_list(scan->follow.tree, id, &last, rows, ROWS_AT_ONCE);
		for (int i = 0; i < count && r == 0; i++)
			if (!idset_has(names, hash_name(rows[i].name, rows[i].length)))
				r = rows_push(&scan->missing, rows[i].id);
		if (count > 0)
			last = rows[count - 1];
	} while (r == 0 && count > 0);
	return r < 0 ? r : count;
}

static void closedirp(DIR **directory)
{
	if (*directory)
		closedir(*directory);
}

static void idset_finishp(struct idset *set)
{
	idset_finish(set);
}

static int walk_directory(struct scan *scan, int64_t id)
{
	scoped(idset_finishp) struct idset names = { 0 };
	scoped(closep) int fd = open_directory(scan, id);
	scoped(closedirp) DIR *directory = NULL;
	int r;

	if (fd < 0)
		return fd;
	directory = fdopendir(fd);
	if (!directory)
		return -errno;
	fd = -1;
	r = look_at_entries(scan, id, directory, &names);
	return r == 0 ? note_missing(scan, id, &names) : r;
}

static int look_at_missing(struct scan *scan, int64_t id)
{
	struct tree_node node;
	struct tree_name name;
	int r = tree_get(scan->follow.tree, id, &node);

	/* Renamed, or removed by a request since. */
	if (r > 0)
		r = tree_name_of(scan->follow.tree, id, &name);
	if (r <= 0)
		return r;
	scoped(closep) int fd = open_directory(scan, node.parent);
	struct place place = { node.parent, fd, name.name, name.length };

	return fd < 0 ? fd : look_at_entry(scan, &place);
}

/* Do @work on all @rows, among which may be new ones then. What the disk does not let us see stays as it is. */
static int work_off(struct scan *scan, struct rows *rows, int (*work)(struct scan *scan, int64_t id))
{
	int r = 0;

	while (r == 0 && rows->count > 0) {
		r = work(scan, rows->ids[--rows->count]);
		if (r == -ENOENT || is_of_disk(r))
			r = 0;
	}
	return r;
}

static int look_at_root(struct scan *scan)
{
	struct place place = { 0, scan->options.source_fd, "", 0 };

	return look_at_entry(scan, &place);
}

static int walk(struct scan *scan)
{
	int r = look_at_root(scan);

	/* A missing one may turn out to be there again, and be a directory. */
	while (r == 0 && (scan->pending.count > 0 || scan->missing.count > 0)) {
		r = work_off(scan, &scan->pending, walk_directory);
		if (r == 0)
			r = work_off(scan, &scan->missing, look_at_missing);
	}
	return r;
}

/* ---- The thread ---- */

/* The log says that a name came here, of which nothing is known. What it is, the disk tells. */
static int on_moved(void *data, const char *path, size_t length)
{
	struct scan *scan = data;
	const char *slash = memrchr(path, '/', length);
	size_t start = slash ? slash - path + 1 : 0;
	struct tree_node parent, node;
	char name[NAME_MAX + 1] = { 0 };
	struct stat now;
	int r = tree_find_path(scan->follow.tree, path, slash ? start - 1 : 0, &parent);

	if (r <= 0 || length - start > NAME_MAX || length == start)
		return r < 0 ? r : 0;
	memcpy(name, path + start, length - start);
	scoped(closep) int fd = open_below(scan, path, slash ? start - 1 : 0, O_PATH);
	struct place place = { parent.id, fd, name, length - start };

	r = tree_find(scan->follow.tree, parent.id, name, place.length, &node);
	if (r != 0 || stat_place(&place, &now) <= 0)
		return r < 0 ? r : 0;
	r = adopt(scan, &place, &now);
	if (r == 0 && S_ISDIR(now.st_mode))
		r = tree_find(scan->follow.tree, parent.id, name, place.length, &node);
	return r > 0 ? push_directory(scan, node.id) : r;
}

static void set_numbers(struct scan *scan, bool is_finished)
{
	struct tree_progress *progress = &scan->follow.progress;

	progress->is_known |= is_finished;
	progress->is_finished = is_finished;
	progress->entries = scan->entries;
	progress->differences = scan->differences;
	progress->duration_ms = clock_now_ms() - scan->started_ms;
}

static int compare_all(struct scan *scan)
{
	int r;

	/* Whoever takes over knows from here on that a scan is not finished. */
	set_numbers(scan, false);
	r = follow_save(&scan->follow);
	if (r < 0)
		return r;
	atomic_store(&scan->state, SCAN_RUNNING);
	r = walk(scan);
	if (r < 0)
		return r;
	set_numbers(scan, true);
	return follow_save(&scan->follow);
}

/* What a worker before had finished, in the same mount, is not done again. */
static bool is_done_already(struct scan *scan)
{
	const struct tree_progress *progress = &scan->follow.progress;

	if (!scan->options.is_takeover || scan->options.mode == SCAN_FULL || !progress->is_finished ||
	    scan->follow.has_mounted)
		return false;
	scan->entries = progress->entries;
	scan->differences = progress->differences;
	scan->duration_ms = progress->duration_ms;
	return true;
}

static void end(struct scan *scan, int r)
{
	if (r == -ECANCELED)
		return;
	if (!scan->duration_ms)
		scan->duration_ms = clock_now_ms() - scan->started_ms;
	if (r < 0)
		log_warning("the tree could not be compared with the log: %s", strerror(-r));
	atomic_store(&scan->state, r < 0 ? SCAN_FAILED : SCAN_DONE);
}

static void *run(void *data)
{
	struct scan *scan = data;
	int r;

	pthread_setname_np(pthread_self(), "hrfs-scan");
	/* Of this thread alone, on Linux. */
	(void)setpriority(PRIO_PROCESS, gettid(), NICE);
	scan->follow.on_moved = on_moved;
	scan->follow.userdata = scan;
	scan->follow.is_stopping = &scan->is_stopping;
	r = follow_init(&scan->follow, scan->options.state_path);
	/* Whether anything was renamed on the way does not matter yet: nothing was looked at. */
	if (r == 0)
		r = follow_to_end(&scan->follow, NULL);
	if (r >= 0 && !is_done_already(scan))
		r = compare_all(scan);
	follow_finish(&scan->follow);
	end(scan, r);
	return NULL;
}

int scan_start(const struct scan_options *options, struct eventlog *log, struct scan **out)
{
	struct scan *scan = calloc(1, sizeof(*scan));
	struct timespec now;
	int r;

	if (!scan)
		return -ENOMEM;
	clock_gettime(CLOCK_REALTIME_COARSE, &now);
	scan->options = *options;
	scan->rules.started_ns = now.tv_sec * 1000000000ll + now.tv_nsec;
	scan->rules.was_unclean = options->was_unclean;
	scan->follow.log = log;
	scan->started_ms = clock_now_ms();
	scan->state = options->mode == SCAN_OFF ? SCAN_IS_OFF : SCAN_WAITING;
	if (options->mode != SCAN_OFF) {
		r = -pthread_create(&scan->thread, NULL, run, scan);
		if (r < 0) {
			free(scan);
			return r;
		}
		scan->is_started = true;
	}
	*out = scan;
	return 0;
}

void scan_stop(struct scan *scan)
{
	if (!scan || !scan->is_started)
		return;
	atomic_store(&scan->is_stopping, true);
	pthread_join(scan->thread, NULL);
	scan->is_started = false;
}

void scan_destroy(struct scan *scan)
{
	if (!scan)
		return;
	scan_stop(scan);
	free(scan->pending.ids);
	free(scan->missing.ids);
	idset_finish(&scan->pushed);
	free(scan);
}

void scan_stat(const struct scan *scan, struct scan_stat *out)
{
	*out = (struct scan_stat){
		.state = atomic_load(&scan->state),
		.entries = scan->entries,
		.differences = scan->differences,
		.duration_ms = scan->duration_ms,
	};
	if (out->state == SCAN_WAITING || out->state == SCAN_RUNNING)
		out->duration_ms = clock_now_ms() - scan->started_ms;
}

const char *scan_state_name(enum scan_state state)
{
	static const char *const names[] = {
		[SCAN_IS_OFF] = "off",   [SCAN_WAITING] = "waiting", [SCAN_RUNNING] = "running",
		[SCAN_DONE] = "done",    [SCAN_FAILED] = "failed",
	};

	return names[state];
}
