/*
 * Tree: what the log last said of each name, in tree.db beside the log.
 *
 * A row a name, found by its directory and itself, so that renaming a directory changes one row. The tree is the log's
 * up to tree_seq(); tree_apply() (tree_apply.h) brings it on, an event at a time. It can be deleted: then nothing is
 * known, and the next scan takes the tree as it finds it.
 *
 * One thread at a time. What is changed between tree_begin() and tree_commit() is there as a whole, or not.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct tree;

enum { TREE_ROOT = 1 }; /* the id of the root, which is always there */

/** What is known of a name. */
struct tree_node {
	int64_t id;       /* of the row; stays while the name is renamed */
	int64_t parent;   /* 0 for the root */
	uint32_t mode;    /* st_mode: type and permissions */
	uint64_t ino;
	uint64_t size;
	bool has_mtime;   /* false: an event changed it since a scan looked */
	int64_t mtime_ns; /* as a scan saw it */
	int64_t event_ns; /* when the last event changed it; as a scan saw it: 0 */
	bool has_links;   /* other names may be the same file */
};

/** How far the comparison has come; kept with the tree. */
struct tree_progress {
	uint64_t seq;         /* the events that the tree knows: up to here */
	bool is_known;        /* a scan has gone over all of it once, so a name that is not there is new */
	bool is_finished;     /* the last scan came to its end */
	uint64_t entries;     /* of the last scan */
	uint64_t differences;
	int64_t duration_ms;
};

/**
 * Open tree.db in the folder @state_path for the log @log_id, of which @last_seq is the last event. One that is of
 * another log, of another version, damaged, or knows more than the log, is made anew, empty. Returns 0 or a negative
 * errno.
 */
int tree_open(const char *state_path, const char *log_id, uint64_t last_seq, struct tree **out);

/** Close and free; what was not committed is dropped. NULL is fine. */
void tree_close(struct tree *tree);

/** Cleanup for scoped(). */
void tree_closep(struct tree **tree);

/** As of the last commit. */
struct tree_progress tree_progress(const struct tree *tree);

/** Forget all names but the root. Returns 0 or a negative errno. */
int tree_clear(struct tree *tree);

/** Begin to change it. Returns 0 or a negative errno. */
int tree_begin(struct tree *tree);

/** Bring the changes to stable storage, and @progress with them. Returns 0 or a negative errno. */
int tree_commit(struct tree *tree, const struct tree_progress *progress);

/* ---- Rows. All return a negative errno when the database fails ---- */

/** Returns 1 and fills *@out, or 0: there is no such row. */
int tree_get(struct tree *tree, int64_t id, struct tree_node *out);

/** Find @name in @parent. Returns 1 and fills *@out, or 0. */
int tree_find(struct tree *tree, int64_t parent, const char *name, size_t length, struct tree_node *out);

/** Find a path, "" being the root. Returns 1 and fills *@out, or 0. */
int tree_find_path(struct tree *tree, const char *path, size_t length, struct tree_node *out);

/** The name of the inode @ino in the first row after @after_id, which begins with 0. Returns 1 and fills *@out, or 0. */
int tree_find_ino(struct tree *tree, uint64_t ino, int64_t after_id, struct tree_node *out);

/** Write the path of @id to @out, without a NUL. Returns its length, -ENOENT, or -ENAMETOOLONG. */
ssize_t tree_path(struct tree *tree, int64_t id, char *out, size_t size);

/** A name in a directory. */
struct tree_name {
	int64_t id;
	size_t length;
	char name[256]; /* with a NUL */
};

/** The name of @id. Returns 1 and fills *@out, or 0. */
int tree_name_of(struct tree *tree, int64_t id, struct tree_name *out);

/** The first names in @parent after @after (NULL: from the start), in order, @max at most. Returns how many. */
int tree_list(struct tree *tree, int64_t parent, const struct tree_name *after, struct tree_name *out, int max);

/** Add @node as @name in @node->parent; one that is there goes, with all below. Sets node->id. */
int tree_add(struct tree *tree, const char *name, size_t length, struct tree_node *node);

/** Write what is known of node->id, and of the inode's other names where it has_links. Place and ino stay. */
int tree_update(struct tree *tree, const struct tree_node *node);

/** Another inode has the name @id, or its number is known now. */
int tree_set_ino(struct tree *tree, int64_t id, uint64_t ino);

/** Remove @id and all below. */
int tree_remove(struct tree *tree, int64_t id);

/** Give @id another name and directory. The place must be free. */
int tree_move(struct tree *tree, int64_t id, int64_t parent, const char *name, size_t length);

/** Exchange the places of two rows. */
int tree_exchange(struct tree *tree, int64_t a, int64_t b);
