/* The way down a path. */
#include "base/walk.h"

#include "base/scope.h"
#include "tests/unit/check.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SOMEBODY = 54321 };

static int path_of(const char *path, char out[PATH_MAX])
{
	scoped(walk_finish) struct walk walk = { .fd = -1 };
	int r = walk_open(path, &walk);

	return r < 0 ? r : walk_path(&walk, out);
}

static mode_t mode_of(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISDIR(st.st_mode) ? st.st_mode & 07777 : 0;
}

static void what_is_missing_is_made(void)
{
	scoped(walk_finish) struct walk walk = { .fd = -1 };
	scoped(walk_finish) struct walk again = { .fd = -1 };

	check(walk_open(scratch("a//b/c/"), &walk) == 0);
	check(walk_make(&walk, 0755, 0700) == 1);
	check(mode_of(scratch("a/b")) == 0755 && mode_of(scratch("a/b/c")) == 0700);
	check(walk_open(scratch("a/b/c"), &again) == 0 && !again.rest[0]);
	check(walk_make(&again, 0755, 0755) == 0);
	check(mode_of(scratch("a/b/c")) == 0700);
}

static void the_path_has_no_links_and_no_dots(void)
{
	char expected[PATH_MAX], out[PATH_MAX];

	check(mkdir(scratch("real"), 0700) == 0);
	check(symlink("real", scratch("link")) == 0);
	check(symlink("../link", scratch("real/up")) == 0);
	check(realpath(scratch("real"), expected));
	check(path_of(scratch("./link/../link/up/."), out) == 0 && strcmp(out, expected) == 0);
	strcat(expected, "/new/er");
	check(path_of(scratch("link/new/er"), out) == 0 && strcmp(out, expected) == 0);
	check(path_of("/", out) == 0 && strcmp(out, "/") == 0);
	check(path_of("/no-such-folder", out) == 0 && strcmp(out, "/no-such-folder") == 0);
	check(path_of(scratch("link/new/../er"), out) == -ENOENT);
	check(path_of("", out) == -ENOENT);
}

static void what_is_no_directory_ends_it(void)
{
	scoped(closep) int fd = open(scratch("file"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	char out[PATH_MAX];

	check(fd >= 0);
	check(path_of(scratch("file/below"), out) == -ENOTDIR);
	check(symlink("circle", scratch("circle")) == 0);
	check(path_of(scratch("circle"), out) == -ELOOP);
}

static void a_link_of_somebody_else_is_not_followed(void)
{
	char out[PATH_MAX];

	if (geteuid() != 0)
		skip();
	check(mkdir(scratch("theirs"), 0700) == 0);
	check(symlink("theirs", scratch("foreign")) == 0);
	check(path_of(scratch("foreign"), out) == 0);
	check(lchown(scratch("foreign"), SOMEBODY, SOMEBODY) == 0);
	check(path_of(scratch("foreign"), out) == -ELOOP);
	check(path_of(scratch("foreign/below"), out) == -ELOOP);
	/* Their folder is no way out. */
	check(lchown(scratch("theirs"), SOMEBODY, SOMEBODY) == 0);
	check(path_of(scratch("theirs/below"), out) == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		unit(what_is_missing_is_made),
		unit(the_path_has_no_links_and_no_dots),
		unit(what_is_no_directory_ends_it),
		unit(a_link_of_somebody_else_is_not_followed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
