/* Tree_apply: from events to what is known of names, see tree.h. */
#pragma once

#include <stdint.h>

struct event;
struct tree;

/** What tree_apply() answers when it did not fail. */
enum { TREE_APPLIED = 0, TREE_MOVED_UNKNOWN = 1 };

/**
 * Do to the tree what @event tells. What cannot be done, because a name is not known yet, or was never there (an event
 * may be uncertain), is left undone. TREE_MOVED_UNKNOWN: a name came to event->to, and nothing is known of it. Returns a
 * negative errno when the database fails.
 */
int tree_apply(struct tree *tree, const struct event *event);
