/*
 * Check: what the unit tests share, on top of cmocka.
 *
 *     static void a_new_buffer_is_empty(void)
 *     {
 *             check(bytes.size == 0);
 *     }
 *
 *     int main(void)
 *     {
 *             const struct CMUnitTest tests[] = {
 *                     unit(a_new_buffer_is_empty),
 *             };
 *
 *             return cmocka_run_group_tests(tests, NULL, NULL);
 *     }
 */
#pragma once

#include <ftw.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

enum { SCRATCH_SIZE = 512, SCRATCH_KEPT = 16 };

/**
 * End the test as failed, naming the condition and its line. On the thread that runs the test
 * only.
 */
#define check(condition) _assert_true((condition) ? 1 : 0, #condition, __FILE__, __LINE__)

/** One row of the table of tests: a function that takes nothing. */
#define unit(function) { #function, check_run, NULL, NULL, (void *)(function) }

static inline void check_run(void **state)
{
	void (*test)(void) = (void (*)(void))*state;

	test();
}

static char scratch_folder[SCRATCH_SIZE / 2];
static pid_t scratch_owner;

static inline int scratch_remove_one(const char *path, const struct stat *st, int type, struct FTW *position)
{
	return remove(path);
}

/* A child that exits must leave its parent's files alone. */
static inline void scratch_remove(void)
{
	if (getpid() == scratch_owner)
		nftw(scratch_folder, scratch_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static inline void scratch_create(void)
{
	const char *parent = getenv("TMPDIR");

	snprintf(scratch_folder, sizeof(scratch_folder), "%s/hrfs-unit-XXXXXX", parent ? parent : "/tmp");
	if (!mkdtemp(scratch_folder)) {
		perror(scratch_folder);
		abort();
	}
	scratch_owner = getpid();
	atexit(scratch_remove);
}

/**
 * The path of @name in a folder of this process that is empty at first and removed at exit. The
 * string is static and outlives SCRATCH_KEPT - 1 further calls. One thread.
 */
static inline const char *scratch(const char *name)
{
	static char kept[SCRATCH_KEPT][SCRATCH_SIZE];
	static unsigned next;
	char *path = kept[next++ % SCRATCH_KEPT];

	if (!scratch_owner)
		scratch_create();
	snprintf(path, SCRATCH_SIZE, "%s/%s", scratch_folder, name);
	return path;
}
