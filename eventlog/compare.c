/*
 * Compare: whether a file is what the log last said of it.
 *
 * A file that a scan has looked at, and no event has changed since, is known by its time of modification: any other
 * time is a difference. After an event that time is not known; but the event came after the change, so a change time
 * (which nobody can set) that is later than the event tells of another change. Which, remains open.
 *
 * Where time stamps are coarse a change right after the scan's look could hide in the same tick. Since Linux 6.13 a
 * stamp that was looked at is never given out again; before, the tick of 4 ms at the most is accepted.
 */
#include "eventlog/compare.h"

#include "eventlog/tree.h"

#include <stdlib.h>

/* How much older than its event a change may look, for reasons other than a power loss. */
enum { LATE_NS = 2000000000 };

static int64_t to_ns(struct timespec time)
{
	return time.tv_sec * 1000000000ll + time.tv_nsec;
}

static bool has_content(const struct stat *now)
{
	return S_ISREG(now->st_mode) || S_ISLNK(now->st_mode);
}

static bool was_lost(const struct tree_node *node, const struct stat *now, const struct compare_rules *rules)
{
	return rules->was_unclean && node->event_ns < rules->started_ns &&
	       to_ns(now->st_ctim) < node->event_ns - LATE_NS;
}

static enum difference compare_content(const struct tree_node *node, const struct stat *now,
				       const struct compare_rules *rules)
{
	if (node->size != (uint64_t)now->st_size)
		return DIFFERS_CONTENT;
	if (to_ns(now->st_ctim) >= rules->started_ns)
		return DIFFERS_NOT;
	if (node->has_mtime)
		return node->mtime_ns == to_ns(now->st_mtim) ? DIFFERS_NOT : DIFFERS_CONTENT;
	return to_ns(now->st_ctim) > node->event_ns || was_lost(node, now, rules) ? DIFFERS_PERHAPS : DIFFERS_NOT;
}

enum difference compare(const struct tree_node *node, const struct stat *now, const struct compare_rules *rules)
{
	enum difference difference;

	if ((node->mode & S_IFMT) != (now->st_mode & S_IFMT) || (node->ino && node->ino != now->st_ino))
		return DIFFERS_FILE;
	if (!S_ISLNK(now->st_mode) && node->mode != now->st_mode)
		return DIFFERS_MODE;
	if (!has_content(now))
		return DIFFERS_NOT;
	difference = compare_content(node, now, rules);
	/* The target of a symbolic link never changes: it is another one, whose inode had been freed. */
	return difference != DIFFERS_NOT && S_ISLNK(now->st_mode) ? DIFFERS_FILE : difference;
}

bool compare_complete(struct tree_node *node, const struct stat *now)
{
	struct tree_node before = *node;

	/* A later change time means a change that no event has told of yet. */
	if (has_content(now) && !node->has_mtime && to_ns(now->st_ctim) <= node->event_ns) {
		node->has_mtime = true;
		node->mtime_ns = to_ns(now->st_mtim);
	}
	node->ino = now->st_ino;
	node->has_links = node->has_links || (!S_ISDIR(now->st_mode) && now->st_nlink > 1);
	return node->has_mtime != before.has_mtime || node->ino != before.ino || node->has_links != before.has_links;
}

void compare_take(struct tree_node *node, const struct stat *now)
{
	node->mode = now->st_mode;
	node->ino = now->st_ino;
	node->size = has_content(now) ? now->st_size : 0;
	node->has_mtime = has_content(now);
	node->mtime_ns = to_ns(now->st_mtim);
	node->event_ns = 0;
	node->has_links = !S_ISDIR(now->st_mode) && now->st_nlink > 1;
}
