/*
 * bench-log: make a log of many events through the event log's own door, and say how fast it went.
 *
 *     bench-log STATE COUNT PATHS
 *
 * STATE is an empty folder; the log in it can then be read by `hrfs log STATE`. The events are what
 * builds and editors do to a tree of PATHS files: create, write, write, close, chmod, with
 * one rename and one unlink in a hundred.
 *
 * Prints one JSON object: events, seconds (from the first to the moment all were in the store), drain_cpu_s
 * (of the drain thread: all of the process but the thread that appends), bytes (of the database).
 */
#include "base/scope.h"
#include "eventlog/eventlog.h"
#include "proto/event.h"

#include <err.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
	FILES_A_FOLDER = 24,
	FOLDERS_A_PROJECT = 40,
	RARE = 100, /* files of which one is renamed and another is unlinked */
	PATH_SIZE = 128,
};

/* Five events are a file's life, in this order. */
static const enum event_op life[] = { EVENT_CREATE, EVENT_WRITE, EVENT_WRITE, EVENT_CLOSE, EVENT_CHMOD };

enum { LIFE_LENGTH = sizeof(life) / sizeof(life[0]) };

static double now_s(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

/* Names as long as a real project's: about 40 bytes. Returns the length. */
static int name_file(unsigned long number, const char *suffix, char out[PATH_SIZE])
{
	unsigned long folder = number / FILES_A_FOLDER;

	return snprintf(out, PATH_SIZE, "packages/project%lu/src/module%lu/component%lu.%s", folder / FOLDERS_A_PROJECT,
			folder % FOLDERS_A_PROJECT, number % FILES_A_FOLDER, suffix);
}

static void fill(struct event *event, enum event_op op, unsigned long file, const char *path, int length)
{
	*event = (struct event){
		.op = op,
		.origin = EVENT_VFS,
		.has = EVENT_HAS_INO | EVENT_HAS_WHO,
		.ino = 1000 + file,
		.pid = 4000 + file / RARE,
		.uid = 1000,
		.gid = 1000,
		.path = path,
		.path_length = length,
		.comm = "cc1",
		.comm_length = 3,
	};
	if (op == EVENT_WRITE) {
		event->has |= EVENT_HAS_OFFSET | EVENT_HAS_LENGTH | EVENT_HAS_SIZE;
		event->length = 4096;
		event->size = 4096;
	}
	if (op == EVENT_CREATE || op == EVENT_CHMOD) {
		event->has |= EVENT_HAS_MODE;
		event->mode = 0644;
	}
	if (op == EVENT_CLOSE) {
		event->has |= EVENT_HAS_SIZE;
		event->size = 4096;
	}
}

static void append(struct writer *writer, struct event *event)
{
	int r = writer_append(writer, event);

	if (r < 0)
		errx(1, "append: %s", strerror(-r));
}

/* Event @number of the storm; numbers go through the files one life after the other. */
static void append_number(struct writer *writer, unsigned long number, unsigned long paths)
{
	unsigned long file = number / LIFE_LENGTH % paths;
	enum event_op op = life[number % LIFE_LENGTH];
	char path[PATH_SIZE], to[PATH_SIZE];
	struct event event;

	if (op == EVENT_CHMOD && file % RARE == 0)
		op = EVENT_RENAME;
	if (op == EVENT_CHMOD && file % RARE == 1)
		op = EVENT_UNLINK;
	fill(&event, op, file, path, name_file(file, "c", path));
	if (op == EVENT_RENAME) {
		event.to = to;
		event.to_length = name_file(file, "bak", to);
	}
	append(writer, &event);
}

static void make_log(struct eventlog *log, unsigned long count, unsigned long paths)
{
	struct writer *writer;
	double start, process_start, thread_start, seconds, process_s, thread_s;
	struct eventlog_stat stat;
	uint64_t seq;

	if (eventlog_start(log) < 0 || writer_open(log, &writer) < 0)
		errx(1, "the log does not start");
	start = now_s(CLOCK_MONOTONIC);
	process_start = now_s(CLOCK_PROCESS_CPUTIME_ID);
	thread_start = now_s(CLOCK_THREAD_CPUTIME_ID);
	for (unsigned long i = 0; i < count; i++)
		append_number(writer, i, paths);
	if (eventlog_flush(log, &seq) < 0)
		errx(1, "the log cannot be flushed");
	seconds = now_s(CLOCK_MONOTONIC) - start;
	process_s = now_s(CLOCK_PROCESS_CPUTIME_ID) - process_start;
	thread_s = now_s(CLOCK_THREAD_CPUTIME_ID) - thread_start;
	writer_close(writer);
	eventlog_stat(log, &stat);
	printf("{\"events\":%lu,\"last\":%lu,\"seconds\":%.6f,\"drain_cpu_s\":%.6f,\"bytes\":%lu}\n", count,
	       (unsigned long)seq, seconds, process_s - thread_s, (unsigned long)stat.store_size);
}

int main(int argc, char **argv)
{
	struct eventlog_options options = { .durability = EVENTLOG_FSYNC };
	struct eventlog_found found;
	struct eventlog *log;
	int r;

	if (argc != 4)
		errx(2, "usage: bench-log STATE COUNT PATHS");
	scoped(closep) int state_fd = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (state_fd < 0)
		err(1, "%s", argv[1]);
	options.state_fd = state_fd;
	options.state_path = argv[1];
	r = eventlog_open(&options, &log, &found);
	if (r < 0)
		errx(1, "%s: %s", argv[1], strerror(-r));
	make_log(log, strtoul(argv[2], NULL, 10), strtoul(argv[3], NULL, 10));
	eventlog_close(log);
	return 0;
}
