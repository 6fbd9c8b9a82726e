/*
 * bench-files: loops over files, each a mode of use that a workload of tools/bench is made of.
 *
 *     bench-files LOOP PATH [NUMBER...]
 *
 * Prints the seconds that the loop took, setting-up and tearing-down excluded. The loops and
 * their numbers stand in the table at the end.
 */
#include "base/scope.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

enum {
	PAGE = 4096,
	NUMBERS_MAX = 2,
	THREADS_MAX = 64,
	STORM_FOLDERS = 20,   /* of the tree in which a storm takes place */
	STORM_FILES = 50,     /* in each of them */
	STORM_PAUSE_US = 200,
};

static double now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

static int open_or_die(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC, 0644);

	if (fd < 0)
		err(1, "%s", path);
	return fd;
}

static void *allocate(size_t size)
{
	void *buffer = malloc(size);

	if (!buffer)
		err(1, "memory");
	memset(buffer, 'x', size);
	return buffer;
}

/* The path of file @number in the folder @folder. */
static void name_file(const char *folder, long number, char out[PATH_MAX])
{
	snprintf(out, PATH_MAX, "%s/file%ld", folder, number);
}

/* ---- Data ---- */

static double write_file(const char *path, const long numbers[])
{
	long size = numbers[0], count = numbers[1];
	scoped(freep) char *buffer = allocate(size);
	int fd = open_or_die(path, O_WRONLY | O_CREAT | O_TRUNC);
	double start = now_s();

	for (long i = 0; i < count; i++)
		if (write(fd, buffer, size) != size)
			err(1, "write %s", path);
	if (close(fd) < 0)
		err(1, "close %s", path);
	return now_s() - start;
}

static double read_file(const char *path, const long numbers[])
{
	long size = numbers[0], rounds = numbers[1];
	scoped(freep) char *buffer = allocate(size);
	double start = now_s();
	ssize_t got;

	for (long round = 0; round < rounds; round++) {
		scoped(closep) int fd = open_or_die(path, O_RDONLY);

		while ((got = read(fd, buffer, size)) > 0)
			;
		if (got < 0)
			err(1, "read %s", path);
	}
	return now_s() - start;
}

/* Look at a byte of each page of a mapping, in the order of the file. */
static double read_mapped(const char *path, const long numbers[])
{
	long rounds = numbers[0];
	double start = now_s();
	volatile unsigned sum = 0;

	for (long round = 0; round < rounds; round++) {
		scoped(closep) int fd = open_or_die(path, O_RDONLY);
		struct stat st;
		const unsigned char *bytes;

		if (fstat(fd, &st) < 0)
			err(1, "%s", path);
		bytes = mmap(NULL, st.st_size, PROT_READ, MAP_SHARED, fd, 0);
		if (bytes == MAP_FAILED)
			err(1, "mmap %s", path);
		for (off_t at = 0; at < st.st_size; at += PAGE)
			sum += bytes[at];
		munmap((void *)bytes, st.st_size);
	}
	return now_s() - start;
}

/* ---- Names ---- */

/* Make a tree of @numbers[0] folders with @numbers[1] files of 100 bytes each. */
static double make_tree(const char *path, const long numbers[])
{
	double start = now_s();
	char folder[PATH_MAX - 32], name[PATH_MAX], line[100];

	memset(line, 'x', sizeof(line));
	for (long i = 0; i < numbers[0]; i++) {
		snprintf(folder, sizeof(folder), "%s/folder%ld", path, i);
		if (mkdir(folder, 0755) < 0)
			err(1, "%s", folder);
		for (long j = 0; j < numbers[1]; j++) {
			name_file(folder, j, name);
			scoped(closep) int fd = open_or_die(name, O_WRONLY | O_CREAT | O_EXCL);

			if (write(fd, line, sizeof(line)) != sizeof(line))
				err(1, "write %s", name);
		}
	}
	return now_s() - start;
}

/* Look at each name that make_tree() made. */
static double stat_tree(const char *path, const long numbers[])
{
	double start = now_s();
	char folder[PATH_MAX - 32], name[PATH_MAX];
	struct stat st;

	for (long i = 0; i < numbers[0]; i++) {
		snprintf(folder, sizeof(folder), "%s/folder%ld", path, i);
		for (long j = 0; j < numbers[1]; j++) {
			name_file(folder, j, name);
			if (lstat(name, &st) < 0)
				err(1, "%s", name);
		}
	}
	return now_s() - start;
}

/* Open, read and close each of @numbers[0] small files of a folder, over and over, @numbers[1] times in all. */
static double open_files(const char *path, const long numbers[])
{
	char name[PATH_MAX], buffer[PAGE];
	double start = now_s();

	for (long i = 0; i < numbers[1]; i++) {
		name_file(path, i % numbers[0], name);
		scoped(closep) int fd = open_or_die(name, O_RDONLY);

		if (read(fd, buffer, sizeof(buffer)) <= 0)
			err(1, "read %s", name);
	}
	return now_s() - start;
}

/* Ask @numbers[0] times for an attribute that is not there: one request each time, and the smallest. */
static double ask(const char *path, const long numbers[])
{
	double start = now_s();

	for (long i = 0; i < numbers[0]; i++)
		if (getxattr(path, "security.capability", NULL, 0) >= 0)
			errx(1, "%s has capabilities", path);
	return now_s() - start;
}

/* Write the same page @numbers[0] times. */
static double write_over(const char *path, const long numbers[])
{
	scoped(closep) int fd = open_or_die(path, O_WRONLY);
	char buffer[PAGE] = { 0 };
	double start = now_s();

	for (long i = 0; i < numbers[0]; i++)
		if (pwrite(fd, buffer, sizeof(buffer), 0) != sizeof(buffer))
			err(1, "write %s", path);
	return now_s() - start;
}

static double open_and_close(const char *path, const long numbers[])
{
	double start = now_s();

	for (long i = 0; i < numbers[0]; i++)
		close(open_or_die(path, O_RDONLY));
	return now_s() - start;
}

/*
 * A storm at a given speed, so that it is the same for all who watch it: rewrite files of a tree that make_tree() made,
 * @numbers[1] a second, for @numbers[0] seconds.
 */
static double rewrite_files(const char *path, const long numbers[])
{
	char folder[PATH_MAX - 32], name[PATH_MAX], buffer[PAGE] = { 0 };
	double start = now_s();

	for (long i = 0; now_s() - start < numbers[0]; i++) {
		snprintf(folder, sizeof(folder), "%s/folder%ld", path, i % STORM_FOLDERS);
		name_file(folder, i / STORM_FOLDERS % STORM_FILES, name);
		scoped(closep) int fd = open_or_die(name, O_WRONLY | O_TRUNC);

		if (write(fd, buffer, sizeof(buffer)) != sizeof(buffer))
			err(1, "write %s", name);
		while (now_s() - start < (double)i / numbers[1])
			usleep(STORM_PAUSE_US);
	}
	return now_s() - start;
}

struct mixer {
	const char *path;
	int number;
	long rounds;
	pthread_t thread;
};

static void check(int r, const char *what, const char *path)
{
	if (r < 0)
		err(1, "%s %s", what, path);
}

/* One thread's share: in its own folder, so that threads meet in the file system and not at a name. */
static void *mix_metadata(void *argument)
{
	struct mixer *mixer = argument;
	char folder[PATH_MAX - 32], name[PATH_MAX], other[PATH_MAX];
	struct stat st;

	snprintf(folder, sizeof(folder), "%s/thread%d", mixer->path, mixer->number);
	check(mkdir(folder, 0755), "mkdir", folder);
	for (long i = 0; i < mixer->rounds; i++) {
		name_file(folder, i, name);
		name_file(folder, i + mixer->rounds, other);
		close(open_or_die(name, O_WRONLY | O_CREAT | O_EXCL));
		check(stat(name, &st), "stat", name);
		check(chmod(name, 0600), "chmod", name);
		check(rename(name, other), "rename", name);
		check(stat(other, &st), "stat", other);
		if (stat(name, &st) == 0)
			errx(1, "%s is still there", name);
		check(unlink(other), "unlink", other);
	}
	return NULL;
}

static double mix_in_threads(const char *path, const long numbers[])
{
	struct mixer mixers[THREADS_MAX];
	long threads = numbers[0];
	double start = now_s();

	if (threads > THREADS_MAX)
		errx(2, "at most %d threads", THREADS_MAX);
	for (int i = 0; i < threads; i++) {
		mixers[i] = (struct mixer){ .path = path, .number = i, .rounds = numbers[1] };
		errno = pthread_create(&mixers[i].thread, NULL, mix_metadata, &mixers[i]);
		if (errno)
			err(1, "thread");
	}
	for (int i = 0; i < threads; i++)
		pthread_join(mixers[i].thread, NULL);
	return now_s() - start;
}

/* ---- The table ---- */

typedef double (*loop_fn)(const char *path, const long numbers[]);

static const struct {
	const char *name;
	int count;       /* of numbers */
	loop_fn run;     /* returns seconds */
	const char *numbers;
} loops[] = {
	{ "write", 2, write_file, "SIZE COUNT" },
	{ "read", 2, read_file, "SIZE ROUNDS" },
	{ "mmap", 1, read_mapped, "ROUNDS" },
	{ "make-tree", 2, make_tree, "FOLDERS FILES" },
	{ "stat-tree", 2, stat_tree, "FOLDERS FILES" },
	{ "open", 2, open_files, "FILES COUNT" },
	{ "ask", 1, ask, "COUNT" },
	{ "write-over", 1, write_over, "COUNT" },
	{ "open-close", 1, open_and_close, "COUNT" },
	{ "storm", 2, rewrite_files, "SECONDS FILES_A_SECOND" },
	{ "metadata", 2, mix_in_threads, "THREADS ROUNDS" },
};

enum { LOOP_COUNT = sizeof(loops) / sizeof(loops[0]) };

int main(int argc, char **argv)
{
	long numbers[NUMBERS_MAX] = { 0 };

	for (int i = 0; i < LOOP_COUNT && argc >= 3; i++) {
		if (strcmp(argv[1], loops[i].name) != 0 || argc != 3 + loops[i].count)
			continue;
		for (int j = 0; j < loops[i].count; j++)
			numbers[j] = strtol(argv[3 + j], NULL, 10);
		printf("%.9f\n", loops[i].run(argv[2], numbers));
		return 0;
	}
	for (int i = 0; i < LOOP_COUNT; i++)
		fprintf(stderr, "usage: bench-files %s PATH %s\n", loops[i].name, loops[i].numbers);
	return 2;
}
