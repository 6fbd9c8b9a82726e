/*
 * The event log while the n-th call of each kind fails, for n = 1, 2, 3 ... until nothing is left to fail.
 *
 * One life of a log: open, write, drain, sync, close, open again, read. Any call may fail. But nothing crashes or hangs, and
 * once the fault is over the log opens, and has every event that was acknowledged, and no other.
 *
 * From the 100th call on not every n is taken, unless HRFS_FAULT_ALL is set.
 */
#include "base/log.h"
#include "base/scope.h"
#include "eventlog/eventlog.h"
#include "proto/event.h"
#include "tests/fault/inject.h"
#include "tests/unit/check.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

enum { EVENTS = 1000, LIMIT_S = 100, DENSE = 100 };

static const char *folder; /* of one life */
static int folder_fd;

static void make_folder(void)
{
	static int count;
	char name[32];

	snprintf(name, sizeof(name), "log%d", count++);
	folder = scratch(name);
	check(mkdir(folder, 0700) == 0);
	folder_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	check(folder_fd >= 0);
}

static void remove_folder(void)
{
	check(nftw(folder, scratch_remove_one, 8, FTW_DEPTH | FTW_PHYS) == 0);
	close(folder_fd);
}

static int open_log(struct eventlog **out)
{
	struct eventlog_options options = {
		.state_fd = folder_fd,
		.state_path = folder,
		.journal_size = 1 << 20,
	};
	struct eventlog_found found;

	*out = NULL;
	return eventlog_open(&options, out, &found);
}

/* Returns the last number that was given. */
static uint64_t write_events(struct eventlog *log)
{
	struct writer *writer = NULL;
	uint64_t last = eventlog_next_seq(log) - 1;

	if (writer_open(log, &writer) < 0)
		return last;
	for (int i = 0; i < EVENTS; i++) {
		char path[32];
		struct event event = { .op = EVENT_WRITE, .has = EVENT_HAS_OFFSET, .offset = i, .path = path };

		event.path_length = snprintf(path, sizeof(path), "d/%d", i % 100);
		if (writer_begin(writer, i + 1, 0, &event) < 0)
			continue;
		writer_commit(writer, &event);
		check(event.seq == last + 1);
		last = event.seq;
		writer_end(writer);
		/* Half-way the store gets some, so that the ring and the store hold a part each. */
		if (i == EVENTS / 2)
			(void)eventlog_flush(log, &(uint64_t){ 0 });
	}
	writer_close(writer);
	return last;
}

/* Every event from 1 on, or as far as an error lets us. Returns how many, or 0 after an error. */
static uint64_t count_events(struct eventlog *log)
{
	struct eventlog_cursor *cursor = NULL;
	struct event event;
	uint64_t count = 0;
	int r = eventlog_cursor_open(log, 1, &cursor);

	while (r >= 0 && (r = eventlog_cursor_next(cursor, &event)) == 1)
		check(event.seq == ++count);
	eventlog_cursor_close(cursor);
	return r < 0 ? 0 : count;
}

/* Returns how many events were acknowledged. */
static uint64_t live(void)
{
	struct eventlog *log;
	uint64_t acknowledged;

	if (open_log(&log) < 0)
		return 0;
	acknowledged = write_events(log);
	(void)eventlog_sync(log);
	(void)eventlog_flush(log, &(uint64_t){ 0 });
	eventlog_close(log);

	if (open_log(&log) == 0) {
		uint64_t count = count_events(log);

		check(count == 0 || count == acknowledged);
		eventlog_close(log);
	}
	return acknowledged;
}

/* Returns whether the fault was reached. */
static bool live_with_fault(enum inject_kind kind, unsigned long n, bool goes_on)
{
	struct eventlog *log;
	uint64_t acknowledged;
	bool was_reached;
	int r;

	make_folder();
	alarm(LIMIT_S);
	inject_arm(kind, n, goes_on);
	acknowledged = live();
	was_reached = inject_disarm();

	r = open_log(&log);
	if (r < 0 || count_events(log) != acknowledged)
		fail_msg("after fault %s:%lu%s: %s", inject_name(kind), n, goes_on ? "+" : "",
			 r < 0 ? strerror(-r) : "other events than were acknowledged");
	eventlog_close(log);
	remove_folder();
	return was_reached;
}

static void every_fault(enum inject_kind kind, bool goes_on)
{
	bool takes_all = getenv("HRFS_FAULT_ALL") != NULL;
	unsigned long n = 1;

	while (live_with_fault(kind, n, goes_on))
		n += takes_all || n < DENSE ? 1 : n / 8;
	print_message("%s: %lu calls\n", inject_name(kind), n - 1);
	check(n > 1);
}

static void log_outlives_a_failed_allocation(void)
{
	every_fault(INJECT_MEMORY, false);
}

static void log_outlives_a_failed_write(void)
{
	every_fault(INJECT_WRITE, false);
}

static void log_outlives_a_disk_that_takes_no_more_writes(void)
{
	every_fault(INJECT_WRITE, true);
}

static void log_outlives_a_failed_sync(void)
{
	every_fault(INJECT_SYNC, false);
}

static void log_outlives_a_failed_growth(void)
{
	every_fault(INJECT_GROW, false);
}

static void log_outlives_a_failed_step_of_sqlite(void)
{
	every_fault(INJECT_SQLITE, false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		unit(log_outlives_a_failed_allocation),
		unit(log_outlives_a_failed_write),
		unit(log_outlives_a_disk_that_takes_no_more_writes),
		unit(log_outlives_a_failed_sync),
		unit(log_outlives_a_failed_growth),
		unit(log_outlives_a_failed_step_of_sqlite),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
