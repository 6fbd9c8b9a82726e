/* The tree: events in, what is known of each name out; and what a file on the disk is compared with it. */
#include "eventlog/tree.h"

#include "base/scope.h"
#include "eventlog/compare.h"
#include "eventlog/idset.h"
#include "eventlog/tree_apply.h"
#include "proto/event.h"
#include "tests/unit/check.h"

#include <errno.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/stat.h>

static const char id[] = "01234567-89ab-4cde-8f01-23456789abcd";
static const char other_id[] = "76543210-89ab-4cde-8f01-23456789abcd";

static const char *make_folder(void)
{
	static int count;
	char name[32];
	const char *path;

	snprintf(name, sizeof(name), "folder%d", count++);
	path = scratch(name);
	check(mkdir(path, 0700) == 0);
	return path;
}

static struct tree *open_tree(const char *folder, const char *log_id, uint64_t last_seq)
{
	struct tree *tree = NULL;

	check(tree_open(folder, log_id, last_seq, &tree) == 0);
	check(tree_begin(tree) == 0);
	return tree;
}

static struct event make_event(enum event_op op, const char *path, const char *to, uint64_t ino)
{
	return (struct event){
		.time_ns = 1000,
		.op = op,
		.has = EVENT_HAS_INO | EVENT_HAS_MODE | EVENT_HAS_SIZE,
		.mode = 0644,
		.ino = ino,
		.path = path,
		.path_length = strlen(path),
		.to = to,
		.to_length = to ? strlen(to) : 0,
	};
}

static int apply(struct tree *tree, enum event_op op, const char *path, const char *to, uint64_t ino)
{
	const struct event event = make_event(op, path, to, ino);

	return tree_apply(tree, &event);
}

static bool has(struct tree *tree, const char *path, uint64_t ino)
{
	struct tree_node node;

	return tree_find_path(tree, path, strlen(path), &node) == 1 && node.ino == ino;
}

static bool lacks(struct tree *tree, const char *path)
{
	struct tree_node node;

	return tree_find_path(tree, path, strlen(path), &node) == 0;
}

/* d (2) with d/sub (3), d/sub/file (4) and file (5). */
static void plant(struct tree *tree)
{
	check(apply(tree, EVENT_MKDIR, "d", NULL, 2) == 0);
	check(apply(tree, EVENT_MKDIR, "d/sub", NULL, 3) == 0);
	check(apply(tree, EVENT_CREATE, "d/sub/file", NULL, 4) == 0);
	check(apply(tree, EVENT_CREATE, "file", NULL, 5) == 0);
}

static void what_is_made_is_known_and_what_is_removed_is_not(void)
{
	scoped(tree_closep) struct tree *tree = open_tree(make_folder(), id, 0);

	plant(tree);
	check(has(tree, "d/sub/file", 4) && has(tree, "file", 5));
	check(apply(tree, EVENT_UNLINK, "d/sub/file", NULL, 4) == 0);
	check(apply(tree, EVENT_RMDIR, "d/sub", NULL, 3) == 0);
	check(lacks(tree, "d/sub/file") && lacks(tree, "d/sub") && has(tree, "d", 2));
}

static void a_renamed_directory_takes_along_what_is_below(void)
{
	scoped(tree_closep) struct tree *tree = open_tree(make_folder(), id, 0);
	struct tree_node node;
	char path[64];

	plant(tree);
	check(apply(tree, EVENT_RENAME, "d", "e", 2) == 0);
	check(has(tree, "e/sub/file", 4) && lacks(tree, "d"));
	check(tree_find_path(tree, "e/sub/file", 10, &node) == 1);
	check(tree_path(tree, node.id, path, sizeof(path)) == 10 && memcmp(path, "e/sub/file", 10) == 0);
	check(tree_path(tree, node.id, path, 9) == -ENAMETOOLONG);
	check(tree_path(tree, TREE_ROOT, path, sizeof(path)) == 0);
}

static void a_rename_replaces_and_an_exchange_exchanges(void)
{
	scoped(tree_closep) struct tree *tree = open_tree(make_folder(), id, 0);
	struct event event = make_event(EVENT_RENAME, "file", "d/sub", 5);

	plant(tree);
	event.flags = RENAME_EXCHANGE;
	check(tree_apply(tree, &event) == 0);
	check(has(tree, "file/file", 4) && has(tree, "d/sub", 5));
	check(apply(tree, EVENT_RENAME, "d/sub", "file/file", 5) == 0);
	check(has(tree, "file/file", 5) && lacks(tree, "d/sub"));
}

static void a_name_that_comes_from_the_unknown_is_said_to(void)
{
	scoped(tree_closep) struct tree *tree = open_tree(make_folder(), id, 0);

	plant(tree);
	check(apply(tree, EVENT_RENAME, "never", "d/known", 9) == TREE_MOVED_UNKNOWN);
	check(apply(tree, EVENT_UNLINK, "never", NULL, 9) == TREE_APPLIED);
	check(apply(tree, EVENT_CREATE, "never/file", NULL, 9) == TREE_APPLIED);
	check(lacks(tree, "never/file") && lacks(tree, "d/known"));
}

static void a_write_through_one_name_is_known_of_all(void)
{
	scoped(tree_closep) struct tree *tree = open_tree(make_folder(), id, 0);
	struct event event = make_event(EVENT_WRITE, "file", NULL, 5);
	struct tree_node node;

	plant(tree);
	check(apply(tree, EVENT_LINK, "file", "d/link", 5) == 0);
	event.size = 77;
	check(tree_apply(tree, &event) == 0);
	check(tree_find_path(tree, "d/link", 6, &node) == 1 && node.size == 77 && node.has_links);
	/* Two names of one file: renaming one over the other does nothing. */
	check(apply(tree, EVENT_RENAME, "file", "d/link", 5) == 0);
	check(has(tree, "file", 5) && has(tree, "d/link", 5));
}

/* Its number was given again before its names were known to be gone. */
static void a_name_of_a_file_that_is_gone_changes_no_directory_of_its_number(void)
{
	scoped(tree_closep) struct tree *tree = open_tree(make_folder(), id, 0);
	struct tree_node first, node;

	plant(tree);
	check(apply(tree, EVENT_LINK, "file", "d/link", 5) == 0);
	check(apply(tree, EVENT_MKDIR, "new", NULL, 5) == 0);
	/* Each row of a number is found. */
	check(tree_find_ino(tree, 5, 0, &first) == 1 && tree_find_ino(tree, 5, first.id, &node) == 1);
	check(node.id > first.id && tree_find_ino(tree, 5, node.id, &node) == 1 && tree_find_ino(tree, 5, node.id, &node) == 0);
	check(apply(tree, EVENT_UNLINK, "file", NULL, 5) == 0);
	check(tree_find_path(tree, "new", 3, &node) == 1 && S_ISDIR(node.mode) && !node.has_links);
}

static void what_was_committed_is_there_again_for_the_same_log(void)
{
	const char *folder = make_folder();
	const struct tree_progress progress = { .seq = 4, .is_known = true, .entries = 9 };
	struct tree *tree = open_tree(folder, id, 4);

	plant(tree);
	check(tree_commit(tree, &progress) == 0);
	check(tree_begin(tree) == 0);
	check(apply(tree, EVENT_UNLINK, "file", NULL, 5) == 0);
	tree_close(tree);

	tree = open_tree(folder, id, 4);
	check(has(tree, "file", 5) && tree_progress(tree).seq == 4 && tree_progress(tree).is_known);
	check(tree_progress(tree).entries == 9);
	tree_close(tree);

	/* A power loss took events that the tree knows. */
	tree = open_tree(folder, id, 3);
	check(lacks(tree, "file") && !tree_progress(tree).is_known);
	tree_close(tree);
}

static void another_logs_tree_is_thrown_away(void)
{
	const char *folder = make_folder();
	const struct tree_progress progress = { .seq = 4, .is_known = true };
	struct tree *tree = open_tree(folder, id, 4);

	plant(tree);
	check(tree_commit(tree, &progress) == 0);
	tree_close(tree);
	tree = open_tree(folder, other_id, 4);
	check(lacks(tree, "file") && tree_progress(tree).seq == 0);
	tree_close(tree);
}

/* ---- Comparing ---- */

static const struct compare_rules rules = { .started_ns = 1000000000000 };

static struct stat make_stat(int64_t mtime_s, int64_t ctime_s)
{
	return (struct stat){
		.st_mode = S_IFREG | 0644,
		.st_ino = 5,
		.st_nlink = 1,
		.st_size = 10,
		.st_mtim.tv_sec = mtime_s,
		.st_ctim.tv_sec = ctime_s,
	};
}

static void a_file_that_was_looked_at_is_known_by_its_times(void)
{
	struct stat now = make_stat(100, 100);
	struct tree_node node = { 0 };

	compare_take(&node, &now);
	check(compare(&node, &now, &rules) == DIFFERS_NOT);
	now = make_stat(99, 200);
	check(compare(&node, &now, &rules) == DIFFERS_CONTENT);
	/* It is being changed through the mount, maybe. */
	now = make_stat(99, 1001);
	check(compare(&node, &now, &rules) == DIFFERS_NOT && !compare_complete(&node, &now));
	now.st_size++;
	check(compare(&node, &now, &rules) == DIFFERS_CONTENT);
	now.st_mode = S_IFREG | 0600;
	check(compare(&node, &now, &rules) == DIFFERS_MODE);
	now.st_ino++;
	check(compare(&node, &now, &rules) == DIFFERS_FILE);
}

static void after_an_event_only_a_later_change_differs(void)
{
	struct tree_node node = { .mode = S_IFREG | 0644, .ino = 5, .size = 10, .event_ns = 200000000000 };
	struct stat now = make_stat(50, 200);
	struct compare_rules unclean = rules;

	check(compare(&node, &now, &rules) == DIFFERS_NOT);
	now = make_stat(50, 201);
	check(compare(&node, &now, &rules) == DIFFERS_PERHAPS);
	/* The disk has not got what the event tells of. */
	now = make_stat(50, 150);
	unclean.was_unclean = true;
	check(compare(&node, &now, &rules) == DIFFERS_NOT);
	check(compare(&node, &now, &unclean) == DIFFERS_PERHAPS);
	check(compare_complete(&node, &now) && node.has_mtime && node.mtime_ns == 50000000000);
}

static void a_set_has_what_was_added(void)
{
	struct idset set = { 0 };

	check(!idset_has(&set, 1));
	for (uint64_t i = 1; i <= 10000; i++)
		check(idset_add(&set, i << 20 | 1) == 1);
	check(idset_add(&set, 1 << 20 | 1) == 0);
	check(idset_has(&set, 10000ull << 20 | 1) && !idset_has(&set, 2));
	idset_finish(&set);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		unit(what_is_made_is_known_and_what_is_removed_is_not),
		unit(a_renamed_directory_takes_along_what_is_below),
		unit(a_rename_replaces_and_an_exchange_exchanges),
		unit(a_name_that_comes_from_the_unknown_is_said_to),
		unit(a_write_through_one_name_is_known_of_all),
		unit(a_name_of_a_file_that_is_gone_changes_no_directory_of_its_number),
		unit(what_was_committed_is_there_again_for_the_same_log),
		unit(another_logs_tree_is_thrown_away),
		unit(a_file_that_was_looked_at_is_known_by_its_times),
		unit(after_an_event_only_a_later_change_differs),
		unit(a_set_has_what_was_added),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
