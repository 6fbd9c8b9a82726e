#include "fusefs/inode.h"
#include "tests/unit/check.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static struct tables tables;
static struct inodes *inodes;
static int tables_fd = -1;
static unsigned forgotten_max;

static const struct inode_handle no_handle;
static const struct stat root = { .st_dev = 1, .st_ino = 2, .st_mode = S_IFDIR | 0755 };

static void begin(void)
{
	tables_fd = tables_create();
	check(tables_fd >= 0);
	check(tables_open(tables_fd, &tables) == 0);
	check(inodes_create(&tables, &root, forgotten_max, &inodes) == 0);
}

/* As when a worker dies: private memory goes, shared memory stays. */
static void take_over(void)
{
	inodes_destroy(inodes);
	tables_finish(&tables);
	check(tables_open(tables_fd, &tables) == 0);
	check(inodes_create(&tables, &root, forgotten_max, &inodes) == 0);
}

static void end(void)
{
	inodes_destroy(inodes);
	tables_finish(&tables);
	close(tables_fd);
}

static uint64_t learn(uint64_t parent, const char *name, uint64_t ino, mode_t type)
{
	struct stat attributes = { .st_dev = 1, .st_ino = ino, .st_mode = type | 0644 };
	uint64_t nodeid = 0;

	check(inode_learn(inodes, parent, name, &attributes, &no_handle, NULL, &nodeid) == 0);
	return nodeid;
}

static bool has_path(uint64_t nodeid, const char *name, const char *path)
{
	char buffer[1024];
	ssize_t length = inode_path(inodes, nodeid, name, buffer, sizeof(buffer));

	return length == (ssize_t)strlen(path) && strcmp(buffer, path) == 0;
}

static uint64_t live(void)
{
	uint64_t count, bytes;

	inode_count(inodes, &count, &bytes);
	return count;
}

static void a_path_is_made_of_names(void)
{
	uint64_t a, b;

	begin();
	a = learn(INODE_ROOT, "a", 10, S_IFDIR);
	b = learn(a, "b", 11, S_IFDIR);
	check(has_path(INODE_ROOT, NULL, ""));
	check(has_path(INODE_ROOT, "x", "x"));
	check(has_path(b, NULL, "a/b"));
	check(has_path(b, "new file", "a/b/new file"));
	end();
}

static void a_renamed_directory_takes_its_children_along(void)
{
	uint64_t a, b, file;

	begin();
	a = learn(INODE_ROOT, "a", 10, S_IFDIR);
	b = learn(INODE_ROOT, "b", 11, S_IFDIR);
	file = learn(a, "f", 12, S_IFREG);
	inode_renamed(inodes, INODE_ROOT, "a", b, "moved", false);
	check(has_path(file, NULL, "b/moved/f"));
	check(inode_child(inodes, INODE_ROOT, "a", &(struct inode_view){ 0 }) == -ENOENT);
	end();
}

static void exchanging_swaps_both_names(void)
{
	uint64_t a, b;

	begin();
	a = learn(INODE_ROOT, "a", 10, S_IFREG);
	b = learn(INODE_ROOT, "b", 11, S_IFDIR);
	inode_renamed(inodes, INODE_ROOT, "a", INODE_ROOT, "b", true);
	check(has_path(a, NULL, "b"));
	check(has_path(b, NULL, "a"));
	end();
}

static void a_removed_file_keeps_its_last_path_while_it_is_known(void)
{
	struct inode_view view;
	uint64_t file, other;

	begin();
	file = learn(INODE_ROOT, "f", 10, S_IFREG);
	inode_unlinked(inodes, INODE_ROOT, "f", NULL);
	check(has_path(file, NULL, "f"));
	check(inode_get(inodes, file, &view) == 0 && view.is_gone);
	other = learn(INODE_ROOT, "f", 11, S_IFREG);
	check(other != file);
	check(inode_child(inodes, INODE_ROOT, "f", &view) == 0 && view.nodeid == other);
	inode_forget(inodes, file, 1);
	check(inode_get(inodes, file, &view) == -ESTALE);
	check(has_path(other, NULL, "f"));
	end();
}

static void a_file_with_two_names_lives_by_the_other_when_one_goes(void)
{
	uint64_t file;

	begin();
	file = learn(INODE_ROOT, "one", 10, S_IFREG);
	check(learn(INODE_ROOT, "two", 10, S_IFREG) == file);
	check(has_path(file, NULL, "two"));
	inode_unlinked(inodes, INODE_ROOT, "two", NULL);
	check(has_path(file, NULL, "one"));
	end();
}

static void lose(unsigned number)
{
	char name[16];

	snprintf(name, sizeof(name), "n%u", number);
	inode_unlinked(inodes, INODE_ROOT, name, NULL);
}

static void of_many_names_each_can_go_first(void)
{
	enum { NAMES = 5 };
	struct inode_view view;

	/* Each beginning and each direction: from the middle, both ends, and the last one left. */
	for (unsigned first = 0; first < NAMES; first++) {
		for (unsigned step = 1; step < NAMES; step++) {
			uint64_t file = 0;

			begin();
			for (unsigned i = 0; i < NAMES; i++) {
				char name[16];

				snprintf(name, sizeof(name), "n%u", i);
				file = learn(INODE_ROOT, name, 10, S_IFREG);
			}
			for (unsigned i = 0; i < NAMES - 1; i++) {
				lose((first + i * step) % NAMES);
				check(inode_get(inodes, file, &view) == 0 && !view.is_gone);
				check(view.has_more_names == (i < NAMES - 2));
				check(inode_child(inodes, INODE_ROOT, view.name, &view) == 0 && view.nodeid == file);
			}
			lose((first + (NAMES - 1) * step) % NAMES);
			check(inode_get(inodes, file, &view) == 0 && view.is_gone);
			learn(INODE_ROOT, "again", 10, S_IFREG);
			check(has_path(file, NULL, "again"));
			check(inode_get(inodes, file, &view) == 0 && !view.is_gone && !view.has_more_names);
			inode_forget(inodes, file, NAMES + 1);
			check(live() == 1);
			end();
		}
	}
}

/* Its worker had added the name, but not yet dropped the one before it, which was gone. */
static void a_name_that_is_gone_does_not_stay_beside_another(void)
{
	struct inode_view view;
	uint64_t file;

	for (unsigned gone = 1; gone <= 2; gone++) {
		begin();
		file = learn(INODE_ROOT, "one", 10, S_IFREG);
		learn(INODE_ROOT, "two", 10, S_IFREG);
		((struct name_slot *)pool_at(&tables.names, gone))->flags = 1; /* NAME_GONE */
		take_over();
		check(tables.names.live == 1);
		check(inode_get(inodes, file, &view) == 0 && !view.is_gone && !view.has_more_names);
		check(has_path(file, NULL, gone == 1 ? "two" : "one"));
		end();
	}
}

static void renaming_over_a_file_replaces_it(void)
{
	struct inode_view view;
	uint64_t old, new;

	begin();
	old = learn(INODE_ROOT, "target", 10, S_IFREG);
	new = learn(INODE_ROOT, "temporary", 11, S_IFREG);
	inode_renamed(inodes, INODE_ROOT, "temporary", INODE_ROOT, "target", false);
	check(has_path(new, NULL, "target"));
	check(inode_get(inodes, old, &view) == 0 && view.is_gone);
	check(inode_child(inodes, INODE_ROOT, "target", &view) == 0 && view.nodeid == new);
	end();
}

static void a_forgotten_directory_stays_while_a_child_needs_it(void)
{
	uint64_t dir, file;

	begin();
	dir = learn(INODE_ROOT, "d", 10, S_IFDIR);
	file = learn(dir, "f", 11, S_IFREG);
	inode_forget(inodes, dir, 1);
	check(has_path(file, NULL, "d/f"));
	inode_forget(inodes, file, 1);
	check(live() == 1);
	end();
}

static bool is_known(uint64_t nodeid)
{
	return inode_get(inodes, nodeid, &(struct inode_view){ 0 }) == 0;
}

static void the_last_that_were_forgotten_are_found_by_their_number(void)
{
	uint64_t dir, a, b, c, gone;

	forgotten_max = 2;
	begin();
	dir = learn(INODE_ROOT, "d", 10, S_IFDIR);
	a = learn(dir, "a", 11, S_IFREG);
	b = learn(dir, "b", 12, S_IFREG);
	c = learn(INODE_ROOT, "c", 13, S_IFREG);
	gone = learn(INODE_ROOT, "gone", 14, S_IFREG);
	inode_unlinked(inodes, INODE_ROOT, "gone", NULL);
	check(inode_forget(inodes, dir, 1) && inode_forget(inodes, gone, 1));
	check(!is_known(gone));
	check(inode_forget(inodes, a, 1) && inode_forget(inodes, b, 1));
	check(live() == 2);
	check(is_known(a) && has_path(b, NULL, "d/b"));
	inode_forget(inodes, c, 1);
	check(!is_known(a) && is_known(b) && is_known(c) && is_known(dir));
	check(live() == 1);
	take_over();
	check(is_known(b) && is_known(c) && has_path(b, NULL, "d/b"));
	check(live() == 1);
	/* Who comes again is who he was, and is not dropped as the oldest. */
	check(learn(dir, "b", 12, S_IFREG) == b && live() == 2);
	for (uint64_t ino = 20; ino < 24; ino++)
		inode_forget(inodes, learn(INODE_ROOT, "x", ino, S_IFREG), 1);
	check(is_known(b) && !is_known(c));
	inode_forget(inodes, b, 1);
	for (uint64_t ino = 30; ino < 34; ino++) {
		char name[16];

		snprintf(name, sizeof(name), "y%u", (unsigned)ino);
		inode_forget(inodes, learn(INODE_ROOT, name, ino, S_IFREG), 1);
	}
	check(!is_known(b) && !is_known(dir));
	check(tables.inodes.live == 3);
	end();
	forgotten_max = 0;
}

static void who_comes_and_goes_takes_one_place_among_the_forgotten(void)
{
	uint64_t often, once;

	forgotten_max = 2;
	begin();
	often = learn(INODE_ROOT, "often", 10, S_IFREG);
	once = learn(INODE_ROOT, "once", 11, S_IFREG);
	inode_forget(inodes, once, 1);
	for (int i = 0; i < 5; i++) {
		inode_forget(inodes, often, 1);
		check(is_known(once) && is_known(often));
		check(learn(INODE_ROOT, "often", 10, S_IFREG) == often);
	}
	inode_forget(inodes, often, 1);
	check(is_known(often) && live() == 1);
	end();
	forgotten_max = 0;
}

static void a_number_used_again_for_another_handle_is_another_inode(void)
{
	struct stat attributes = { .st_dev = 1, .st_ino = 10, .st_mode = S_IFREG };
	struct inode_handle one = { .type = 1, .size = 4, .bytes = { 1 } };
	struct inode_handle two = { .type = 1, .size = 4, .bytes = { 2 } };
	uint64_t first, second, again;

	begin();
	check(inode_learn(inodes, INODE_ROOT, "f", &attributes, &one, NULL, &first) == 0);
	check(inode_learn(inodes, INODE_ROOT, "f", &attributes, &two, NULL, &second) == 0);
	check(first != second);
	check(inode_learn(inodes, INODE_ROOT, "f", &attributes, &two, NULL, &again) == 0);
	check(again == second);
	inode_forget(inodes, first, 1);
	inode_forget(inodes, second, 2);
	check(live() == 1);
	end();
}

static void a_number_used_again_by_one_born_later_is_another_inode(void)
{
	struct stat attributes = { .st_dev = 1, .st_ino = 10, .st_mode = S_IFREG };
	struct inode_handle one = { .born_ns = 1000 }, two = { .born_ns = 2000 };
	struct inode_view view;
	uint64_t first, second, again;

	begin();
	check(inode_learn(inodes, INODE_ROOT, "f", &attributes, &one, NULL, &first) == 0);
	check(inode_get(inodes, first, &view) == 0 && view.handle.born_ns == 1000);
	check(inode_learn(inodes, INODE_ROOT, "f", &attributes, &two, NULL, &second) == 0);
	check(first != second);
	/* Where it is not said, it is the one that was there last. */
	check(inode_learn(inodes, INODE_ROOT, "f", &attributes, &no_handle, NULL, &again) == 0);
	check(again == second);
	/* Its handle is taken later, and its birth stays. */
	inode_set_handle(inodes, second, &(struct inode_handle){ .type = 1, .size = 1, .bytes = { 7 } });
	check(inode_get(inodes, second, &view) == 0 && view.handle.born_ns == 2000 && view.handle.size == 1);
	inode_forget(inodes, first, 1);
	inode_forget(inodes, second, 2);
	check(live() == 1);
	end();
}

static void an_answer_from_before_a_change_is_refused(void)
{
	struct stat attributes = { .st_dev = 1, .st_ino = 10, .st_mode = S_IFREG };
	uint64_t nodeid = 0;
	uint32_t epoch;

	begin();
	learn(INODE_ROOT, "f", 10, S_IFREG);
	epoch = inode_epoch(inodes, INODE_ROOT);
	inode_unlinked(inodes, INODE_ROOT, "f", NULL);
	check(inode_learn(inodes, INODE_ROOT, "f", &attributes, &no_handle, &epoch, &nodeid) == -EAGAIN);
	epoch = inode_epoch(inodes, INODE_ROOT);
	inode_hold_names(inodes, INODE_ROOT);
	learn(INODE_ROOT, "f", 11, S_IFREG);
	inode_release_names(inodes, INODE_ROOT);
	inode_unlinked(inodes, INODE_ROOT, "f", &epoch);
	check(inode_child(inodes, INODE_ROOT, "f", &(struct inode_view){ 0 }) == 0);
	end();
}

static void nothing_is_learned_of_held_names_but_by_their_holder(void)
{
	struct stat attributes = { .st_dev = 1, .st_ino = 10, .st_mode = S_IFREG };
	uint64_t nodeid = 0;
	uint32_t epoch;

	begin();
	learn(INODE_ROOT, "f", 10, S_IFREG);
	epoch = inode_epoch(inodes, INODE_ROOT);
	inode_hold_names(inodes, INODE_ROOT);
	check(inode_learn(inodes, INODE_ROOT, "g", &attributes, &no_handle, &epoch, &nodeid) == -EAGAIN);
	inode_unlinked(inodes, INODE_ROOT, "f", &epoch);
	check(inode_child(inodes, INODE_ROOT, "f", &(struct inode_view){ 0 }) == 0);
	inode_renamed(inodes, INODE_ROOT, "f", INODE_ROOT, "h", false);
	inode_release_names(inodes, INODE_ROOT);
	check(has_path(learn(INODE_ROOT, "h", 10, S_IFREG), NULL, "h"));
	end();
}

/* Its worker died between the two steps: the new name was there, and the old one still. */
static void a_half_made_rename_is_finished_by_repeating_it(void)
{
	uint64_t dir;

	begin();
	dir = learn(INODE_ROOT, "old", 10, S_IFDIR);
	learn(INODE_ROOT, "new", 10, S_IFDIR);
	learn(INODE_ROOT, "old", 10, S_IFDIR);
	take_over();
	inode_renamed(inodes, INODE_ROOT, "old", INODE_ROOT, "new", false);
	check(has_path(dir, "f", "new/f"));
	check(inode_child(inodes, INODE_ROOT, "old", &(struct inode_view){ 0 }) == -ENOENT);
	end();
}

static void a_long_name_that_no_name_uses_is_freed_by_the_next_worker(void)
{
	char name[TABLES_NAME_MAX + 1];

	begin();
	memset(name, 'n', TABLES_NAME_MAX);
	name[TABLES_NAME_MAX] = '\0';
	learn(INODE_ROOT, name, 10, S_IFREG);
	check(pool_publish(&tables.long_names, pool_take(&tables.long_names)) > 0);
	check(tables.long_names.live == 2);
	take_over();
	check(tables.long_names.live == 1);
	end();
}

static void long_names_are_kept_whole(void)
{
	char name[TABLES_NAME_MAX + 1];
	uint64_t file;

	begin();
	memset(name, 'n', TABLES_NAME_MAX);
	name[TABLES_NAME_MAX] = '\0';
	file = learn(INODE_ROOT, name, 10, S_IFREG);
	check(has_path(file, NULL, name));
	take_over();
	check(has_path(file, NULL, name));
	end();
}

static void another_worker_finds_everything(void)
{
	uint64_t dir, file, gone;
	struct inode_view view;

	begin();
	dir = learn(INODE_ROOT, "d", 10, S_IFDIR);
	file = learn(dir, "f", 11, S_IFREG);
	learn(dir, "link", 11, S_IFREG);
	gone = learn(dir, "gone", 12, S_IFREG);
	inode_unlinked(inodes, dir, "gone", NULL);
	inode_set_backing_id(inodes, file, 7);
	take_over();
	check(has_path(dir, NULL, "d"));
	check(has_path(file, NULL, "d/link") || has_path(file, NULL, "d/f"));
	check(inode_child(inodes, dir, "f", &view) == 0 && view.nodeid == file);
	check(inode_child(inodes, dir, "gone", &view) == -ENOENT);
	check(has_path(gone, NULL, "d/gone"));
	check(inode_backing_id(inodes, file) == 7);
	inode_forget(inodes, file, 2);
	inode_forget(inodes, gone, 1);
	inode_forget(inodes, dir, 1);
	check(live() == 1);
	end();
}

static void a_million_inodes_take_at_most_250_bytes_each(void)
{
	enum { MANY = 1000000 };
	uint64_t count, bytes, dir = 0;
	char name[32];

	begin();
	for (int i = 0; i < MANY; i++) {
		if (i % 1000 == 0) {
			snprintf(name, sizeof(name), "directory-%d", i);
			dir = learn(INODE_ROOT, name, 10000000 + i, S_IFDIR);
		}
		snprintf(name, sizeof(name), "some-source-file-%d.c", i);
		learn(dir, name, 100 + i, S_IFREG);
	}
	inode_count(inodes, &count, &bytes);
	check(count >= MANY);
	check(bytes / count <= 250);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		unit(a_path_is_made_of_names),
		unit(a_renamed_directory_takes_its_children_along),
		unit(exchanging_swaps_both_names),
		unit(a_removed_file_keeps_its_last_path_while_it_is_known),
		unit(a_file_with_two_names_lives_by_the_other_when_one_goes),
		unit(of_many_names_each_can_go_first),
		unit(a_name_that_is_gone_does_not_stay_beside_another),
		unit(renaming_over_a_file_replaces_it),
		unit(a_forgotten_directory_stays_while_a_child_needs_it),
		unit(the_last_that_were_forgotten_are_found_by_their_number),
		unit(who_comes_and_goes_takes_one_place_among_the_forgotten),
		unit(a_number_used_again_for_another_handle_is_another_inode),
		unit(a_number_used_again_by_one_born_later_is_another_inode),
		unit(an_answer_from_before_a_change_is_refused),
		unit(nothing_is_learned_of_held_names_but_by_their_holder),
		unit(a_half_made_rename_is_finished_by_repeating_it),
		unit(long_names_are_kept_whole),
		unit(a_long_name_that_no_name_uses_is_freed_by_the_next_worker),
		unit(another_worker_finds_everything),
		unit(a_million_inodes_take_at_most_250_bytes_each),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
