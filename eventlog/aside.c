#include "eventlog/aside.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* The database goes last: until then its id makes a second attempt find the log damaged, too. */
static const char *const names[] = { "journal", "events.db-wal", "events.db-shm", "events.db" };

enum { NAME_COUNT = sizeof(names) / sizeof(names[0]), ATTEMPTS_MAX = 1000 };

static void make_suffix(unsigned attempt, char suffix[ASIDE_SUFFIX_SIZE])
{
	time_t now = time(NULL);
	struct tm utc;
	size_t length;

	gmtime_r(&now, &utc);
	length = strftime(suffix, ASIDE_SUFFIX_SIZE, ".damaged-%Y%m%dT%H%M%SZ", &utc);
	if (attempt > 0)
		snprintf(suffix + length, ASIDE_SUFFIX_SIZE - length, ".%u", attempt);
}

static bool is_taken(int dir_fd, const char *suffix)
{
	char name[NAME_MAX + 1];

	for (size_t i = 0; i < NAME_COUNT; i++) {
		snprintf(name, sizeof(name), "%s%s", names[i], suffix);
		if (faccessat(dir_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
			return true;
	}
	return false;
}

static int set_one_aside(int dir_fd, const char *name, const char *suffix)
{
	char aside[NAME_MAX + 1];

	snprintf(aside, sizeof(aside), "%s%s", name, suffix);
	if (renameat(dir_fd, name, dir_fd, aside) < 0 && errno != ENOENT)
		return -errno;
	return 0;
}

int aside_set(int dir_fd, char out_suffix[ASIDE_SUFFIX_SIZE])
{
	char suffix[ASIDE_SUFFIX_SIZE];
	unsigned attempt = 0;
	int r = 0;

	do
		make_suffix(attempt, suffix);
	while (is_taken(dir_fd, suffix) && ++attempt < ATTEMPTS_MAX);
	if (attempt == ATTEMPTS_MAX)
		return -EEXIST;
	for (size_t i = 0; r == 0 && i < NAME_COUNT; i++)
		r = set_one_aside(dir_fd, names[i], suffix);
	if (r == 0 && fsync(dir_fd) < 0)
		r = -errno;
	if (r == 0)
		memcpy(out_suffix, suffix, sizeof(suffix));
	return r;
}
