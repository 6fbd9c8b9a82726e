/*
 * Tree_apply: from events to what is known of names.
 *
 * The time of the last modification is in no event. So a change of contents makes it unknown, and keeps when the event
 * was: a file whose change time is not after that has not been changed since. Whatever else moves the change time
 * (a chmod, a rename) moves the event's time with it.
 */
#include "eventlog/tree_apply.h"

#include "eventlog/tree.h"
#include "proto/event.h"

#include <linux/fs.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

/* A name and the directory that it is in. */
struct place {
	int64_t parent;
	const char *name;
	size_t length;
};

/* Returns 1, 0 when the directory is not known, or a negative errno. */
static int find_place(struct tree *tree, const char *path, size_t length, struct place *out)
{
	const char *slash = memrchr(path, '/', length);
	size_t start = slash ? slash - path + 1 : 0;
	struct tree_node directory;
	int r = tree_find_path(tree, path, slash ? start - 1 : 0, &directory);

	if (r > 0)
		*out = (struct place){ directory.id, path + start, length - start };
	return r;
}

/* The file that the event is about: by its path, or, when that has another by now, by its number. */
static int find_subject(struct tree *tree, const struct event *event, struct tree_node *out)
{
	int r = tree_find_path(tree, event->path, event->path_length, out);

	if (r < 0 || !(event->has & EVENT_HAS_INO) || (r > 0 && (out->ino == event->ino || !out->ino)))
		return r;
	return tree_find_ino(tree, event->ino, 0, out);
}

static int touch(struct tree *tree, struct tree_node *node, const struct event *event)
{
	if (node->has_mtime)
		return 0;
	node->event_ns = event->time_ns;
	return tree_update(tree, node);
}

static int touch_subject(struct tree *tree, const struct event *event)
{
	struct tree_node node;
	int r = find_subject(tree, event, &node);

	return r > 0 ? touch(tree, &node, event) : r;
}

/* ---- Making and removing ---- */

static uint32_t made_type(const struct event *event)
{
	switch (event->op) {
	case EVENT_MKDIR:
		return S_IFDIR;
	case EVENT_SYMLINK:
		return S_IFLNK;
	case EVENT_MKNOD:
		return event->mode & S_IFMT ? event->mode & S_IFMT : S_IFREG;
	default:
		return S_IFREG;
	}
}

static int apply_made(struct tree *tree, const struct event *event)
{
	struct place place;
	struct tree_node node = {
		.mode = made_type(event) | (event->mode & 07777),
		.ino = event->ino,
		.size = event->op == EVENT_SYMLINK ? event->to_length : 0,
		.event_ns = event->time_ns,
	};
	int r = find_place(tree, event->path, event->path_length, &place);

	if (r <= 0 || place.length == 0)
		return r < 0 ? r : 0;
	node.parent = place.parent;
	return tree_add(tree, place.name, place.length, &node);
}

static int apply_link(struct tree *tree, const struct event *event)
{
	/* A file that had no name yet, if nothing else is known. */
	struct tree_node node = {
		.mode = S_IFREG | (event->mode & 07777),
		.ino = event->ino,
		.size = event->size,
		.event_ns = event->time_ns,
	};
	struct place place;
	int r = find_subject(tree, event, &node);

	if (r > 0) {
		node.has_links = true;
		node.event_ns = event->time_ns;
		r = tree_update(tree, &node);
	}
	if (r >= 0)
		r = find_place(tree, event->to, event->to_length, &place);
	if (r <= 0 || place.length == 0)
		return r < 0 ? r : 0;
	node.parent = place.parent;
	return tree_add(tree, place.name, place.length, &node);
}

/* Its other names, if there are, have changed as well. */
static int remove_node(struct tree *tree, struct tree_node *node, const struct event *event)
{
	int r = node->has_links ? touch(tree, node, event) : 0;

	return r < 0 ? r : tree_remove(tree, node->id);
}

static int apply_removed(struct tree *tree, const struct event *event)
{
	struct tree_node node;
	int r = tree_find_path(tree, event->path, event->path_length, &node);

	return r > 0 && node.id != TREE_ROOT ? remove_node(tree, &node, event) : r;
}

/* ---- Renaming ---- */

static int apply_exchange(struct tree *tree, const struct event *event, struct tree_node *from, struct tree_node *to)
{
	int r = tree_exchange(tree, from->id, to->id);

	if (r == 0)
		r = touch(tree, from, event);
	return r == 0 ? touch(tree, to, event) : r;
}

static int add_whiteout(struct tree *tree, const struct event *event)
{
	struct tree_node node = { .mode = S_IFCHR, .event_ns = event->time_ns };
	struct place place;
	int r = find_place(tree, event->path, event->path_length, &place);

	if (r <= 0)
		return r;
	node.parent = place.parent;
	return tree_add(tree, place.name, place.length, &node);
}

/* To where @old is, or to a free place. */
static int move_to(struct tree *tree, const struct event *event, struct tree_node *node, struct tree_node *old)
{
	struct place place;
	int r = find_place(tree, event->to, event->to_length, &place);

	if (r < 0)
		return r;
	if (r == 0 || place.length == 0) {
		r = tree_remove(tree, node->id);
		return r < 0 ? r : TREE_MOVED_UNKNOWN;
	}
	r = old ? remove_node(tree, old, event) : 0;
	if (r == 0)
		r = tree_move(tree, node->id, place.parent, place.name, place.length);
	if (r == 0)
		r = touch(tree, node, event);
	return r == 0 && event->flags & RENAME_WHITEOUT ? add_whiteout(tree, event) : r;
}

static int apply_rename(struct tree *tree, const struct event *event)
{
	bool exchanges = event->flags & RENAME_EXCHANGE;
	struct tree_node from, to;
	int has_to = tree_find_path(tree, event->to, event->to_length, &to);
	int r = tree_find_path(tree, event->path, event->path_length, &from);

	if (r < 0 || has_to < 0)
		return r < 0 ? r : has_to;
	if (r == 0 || from.id == TREE_ROOT)
		return TREE_MOVED_UNKNOWN;
	/* Two names of one file: rename(2) then does nothing. */
	if (has_to && (from.id == to.id || (!exchanges && from.has_links && to.has_links && from.ino == to.ino)))
		return 0;
	if (exchanges && has_to)
		return apply_exchange(tree, event, &from, &to);
	r = move_to(tree, event, &from, has_to ? &to : NULL);
	return r == 0 && exchanges ? TREE_MOVED_UNKNOWN : r;
}

/* ---- Contents and attributes ---- */

static int apply_content(struct tree *tree, const struct event *event)
{
	struct tree_node node;
	int r = find_subject(tree, event, &node);

	if (r <= 0)
		return r;
	if (event->has & EVENT_HAS_SIZE && S_ISREG(node.mode))
		node.size = event->size;
	node.has_mtime = false;
	node.event_ns = event->time_ns;
	return tree_update(tree, &node);
}

/* The end of an open changes nothing, unless it says that something may have been stored. */
static int apply_close(struct tree *tree, const struct event *event)
{
	struct tree_node node;
	int r;

	if (event->has & EVENT_UNCERTAIN)
		return apply_content(tree, event);
	r = find_subject(tree, event, &node);
	if (r <= 0 || !(event->has & EVENT_HAS_SIZE) || node.size == event->size || !S_ISREG(node.mode))
		return r < 0 ? r : 0;
	return apply_content(tree, event);
}

static int apply_chmod(struct tree *tree, const struct event *event)
{
	struct tree_node node;
	int r = find_subject(tree, event, &node);

	if (r <= 0)
		return r;
	node.mode = (node.mode & S_IFMT) | (event->mode & 07777);
	if (!node.has_mtime)
		node.event_ns = event->time_ns;
	return tree_update(tree, &node);
}

static int apply(struct tree *tree, const struct event *event)
{
	switch (event->op) {
	case EVENT_CREATE:
	case EVENT_MKDIR:
	case EVENT_SYMLINK:
	case EVENT_MKNOD:
		return apply_made(tree, event);
	case EVENT_LINK:
		return apply_link(tree, event);
	case EVENT_UNLINK:
	case EVENT_RMDIR:
		return apply_removed(tree, event);
	case EVENT_RENAME:
		return apply_rename(tree, event);
	case EVENT_WRITE:
	case EVENT_TRUNCATE:
	case EVENT_FALLOCATE:
	case EVENT_COPY:
	case EVENT_UTIMENS:
		return apply_content(tree, event);
	case EVENT_CLOSE:
		return apply_close(tree, event);
	case EVENT_CHMOD:
		return apply_chmod(tree, event);
	case EVENT_CHOWN:
	case EVENT_SETXATTR:
	case EVENT_REMOVEXATTR:
		return touch_subject(tree, event);
	default:
		return 0;
	}
}

int tree_apply(struct tree *tree, const struct event *event)
{
	int r = apply(tree, event);

	return r < 0 ? r : event->op == EVENT_RENAME && r == TREE_MOVED_UNKNOWN ? TREE_MOVED_UNKNOWN : TREE_APPLIED;
}
