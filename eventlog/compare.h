/* Compare: whether a file is what the log last said of it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

struct tree_node;

/** What decides beside the two. */
struct compare_rules {
	int64_t started_ns; /* when the scan began: contents that changed later are the mount's to tell of */
	bool was_unclean;   /* what the log tells of may not have reached the disk */
};

enum difference {
	DIFFERS_NOT,
	DIFFERS_FILE,    /* another file has the name now */
	DIFFERS_MODE,    /* its permissions */
	DIFFERS_CONTENT, /* its size, or when it was modified */
	DIFFERS_PERHAPS, /* something of it was changed that size and time of modification do not show */
};

/** The first in the order above by which @now is not @node. */
enum difference compare(const struct tree_node *node, const struct stat *now, const struct compare_rules *rules);

/**
 * Take over into @node, which DIFFERS_NOT, what it did not know of @now. Returns whether that was anything.
 */
bool compare_complete(struct tree_node *node, const struct stat *now);

/** Make @node, but for its place, what @now is. */
void compare_take(struct tree_node *node, const struct stat *now);
