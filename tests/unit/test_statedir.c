/* The default state folder of a source directory. */
#include "base/statedir.h"

#include "tests/unit/check.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>

static void environment(const char *xdg_state_home, const char *home)
{
	if (xdg_state_home)
		setenv("XDG_STATE_HOME", xdg_state_home, 1);
	else
		unsetenv("XDG_STATE_HOME");
	if (home)
		setenv("HOME", home, 1);
	else
		unsetenv("HOME");
}

static bool starts_with(const char *text, const char *start)
{
	return strncmp(text, start, strlen(start)) == 0;
}

static void xdg_state_home_comes_first(void)
{
	char out[PATH_MAX];

	environment("/xdg/state", "/home/ann");
	check(statedir_default("/src/project", geteuid(), out, sizeof(out)) == 0);
	check(starts_with(out, "/xdg/state/hrfs/project-"));
	check(statedir_default("/src/project", 0, out, sizeof(out)) == 0);
	check(starts_with(out, "/xdg/state/hrfs/project-"));
}

static void a_relative_xdg_state_home_is_ignored(void)
{
	char out[PATH_MAX];

	environment("state", "/home/ann");
	check(statedir_default("/src/project", 0, out, sizeof(out)) == 0);
	check(starts_with(out, "/var/lib/hrfs/project-"));
}

static void root_without_xdg_uses_the_system_folder(void)
{
	char out[PATH_MAX];

	environment(NULL, "/root");
	check(statedir_default("/src/project", 0, out, sizeof(out)) == 0);
	check(starts_with(out, STATEDIR_SYSTEM "/project-"));
	check(strlen(out) == strlen(STATEDIR_SYSTEM "/project-") + 16);
}

/*
 * The tests may run as root, for whom the system folder comes before a home: the database then
 * answers for another.
 */
static void a_user_without_xdg_uses_the_home(void)
{
	char out[PATH_MAX];

	environment(NULL, "/home/ann");
	if (geteuid() != 0) {
		check(statedir_default("/src/project", geteuid(), out, sizeof(out)) == 0);
		check(starts_with(out, "/home/ann/.local/state/hrfs/project-"));
	} else {
		check(statedir_default("/src/project", 1, out, sizeof(out)) == 0);
		check(strstr(out, "/.local/state/hrfs/project-") && !starts_with(out, "/home/ann"));
	}
}

static void a_user_nobody_knows_has_no_home(void)
{
	char out[PATH_MAX] = "untouched";

	environment(NULL, NULL);
	check(statedir_default("/src/project", 4000000000u, out, sizeof(out)) == -ENOENT);
	check(strcmp(out, "untouched") == 0);
}

static void one_name_in_two_places_has_two_folders(void)
{
	char first[PATH_MAX], second[PATH_MAX], again[PATH_MAX];

	environment("/xdg", NULL);
	check(statedir_default("/a/project", 0, first, sizeof(first)) == 0);
	check(statedir_default("/b/project", 0, second, sizeof(second)) == 0);
	check(statedir_default("/a/project", 0, again, sizeof(again)) == 0);
	check(strcmp(first, second) != 0);
	check(strcmp(first, again) == 0);
}

/* The folder of a source must be found again by later versions. */
static void the_hash_does_not_change(void)
{
	char out[PATH_MAX];

	check(statedir_below("/s", "/a/project", out, sizeof(out)) == 0);
	check(strcmp(out, "/s/project-0f01de2605d30333") == 0);
}

static void the_root_directory_has_a_name_too(void)
{
	char out[PATH_MAX];

	check(statedir_below("/s", "/", out, sizeof(out)) == 0);
	check(starts_with(out, "/s/root-"));
}

static void the_longest_name_makes_a_folder_that_can_exist(void)
{
	char source[NAME_MAX + 2] = "/", out[PATH_MAX];

	memset(source + 1, 'n', NAME_MAX);
	check(statedir_below("/s", source, out, sizeof(out)) == 0);
	check(strlen(strrchr(out, '/') + 1) == NAME_MAX);
}

static void a_name_is_cut_between_characters(void)
{
	char out[PATH_MAX];

	check(statedir_below_cut("/s", "/a/project", 4, out, sizeof(out)) == 0);
	check(strcmp(out, "/s/proj-0f01de2605d30333") == 0);
	check(statedir_below_cut("/s", "/a/project", 7, out, sizeof(out)) == 0);
	check(strcmp(out, "/s/project-0f01de2605d30333") == 0);
	check(statedir_below_cut("/s", "/a/a\u017e\u20ac", 3, out, sizeof(out)) == 0);
	check(starts_with(out, "/s/a\u017e-"));
	check(statedir_below_cut("/s", "/a/a\u017e\u20ac", 2, out, sizeof(out)) == 0);
	check(starts_with(out, "/s/a-"));
	check(statedir_below_cut("/s", "/a/a\u017e\u20ac", 5, out, sizeof(out)) == 0);
	check(starts_with(out, "/s/a\u017e-"));
	/* What is no UTF-8 is not cut to nothing. */
	check(statedir_below_cut("/s", "/a/\x80\x80\x80\x80\x80\x80\x80\x80", 7, out, sizeof(out)) == 0);
	check(starts_with(out, "/s/\x80\x80\x80\x80"));
}

static void what_does_not_fit_is_refused(void)
{
	char out[8] = "full";

	check(statedir_below("/s", "/a/project", out, sizeof(out)) == -ENAMETOOLONG);
	check(statedir_below("/s", "project", out, sizeof(out)) == -EINVAL);
	check(strcmp(out, "full") == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		unit(xdg_state_home_comes_first),
		unit(a_relative_xdg_state_home_is_ignored),
		unit(root_without_xdg_uses_the_system_folder),
		unit(a_user_without_xdg_uses_the_home),
		unit(a_user_nobody_knows_has_no_home),
		unit(one_name_in_two_places_has_two_folders),
		unit(the_hash_does_not_change),
		unit(the_root_directory_has_a_name_too),
		unit(the_longest_name_makes_a_folder_that_can_exist),
		unit(a_name_is_cut_between_characters),
		unit(what_does_not_fit_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
