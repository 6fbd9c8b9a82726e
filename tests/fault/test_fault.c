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
#include <unistd.h>

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

/* ---- A sync that failed is not forgotten ---- */

/* Any error of the writer's is one of the test. Returns the last seq. */
static uint64_t write_some(struct eventlog *log, unsigned count)
{
	struct writer *writer = NULL;
	struct event event = { .op = EVENT_MKDIR, .path = "d", .path_length = 1 };

	check(writer_open(log, &writer) == 0);
	while (count-- > 0)
		check(writer_append(writer, &event) == 0);
	writer_close(writer);
	return event.seq;
}

static int sync_with_fault(struct eventlog *log, unsigned long n)
{
	int r;

	inject_arm(INJECT_SYNC, n, false);
	r = eventlog_sync(log);
	check(inject_disarm());
	return r;
}

static struct eventlog *begin_log(void)
{
	struct eventlog *log;

	make_folder();
	check(open_log(&log) == 0);
	return log;
}

static void end_log(struct eventlog *log, uint64_t last)
{
	eventlog_close(log);
	check(open_log(&log) == 0);
	check(count_events(log) == last);
	eventlog_close(log);
	remove_folder();
}

static void events_of_a_journal_that_failed_are_synced_once_they_are_in_the_store(void)
{
	struct eventlog *log = begin_log();
	uint64_t last = write_some(log, 10), seq;

	check(sync_with_fault(log, 1) == -EIO);
	check(eventlog_sync(log) == -EIO);
	last = write_some(log, 10);
	check(eventlog_sync(log) == -EIO);
	check(eventlog_flush(log, &seq) == 0 && seq == last);
	check(eventlog_sync(log) == 0);
	end_log(log, last);
}

static void events_of_a_store_that_failed_are_synced_once_its_wal_begins_anew(void)
{
	struct eventlog *log = begin_log();
	uint64_t last = write_some(log, 10), seq;
	char wal[256];
	struct stat st;

	check(eventlog_flush(log, &seq) == 0);
	/* The journal is the first that is synced. */
	check(sync_with_fault(log, 2) == -EIO);
	check(eventlog_sync(log) == -EIO);
	last = write_some(log, 10);
	check(eventlog_sync(log) == -EIO);
	/* Neither does the drain believe in it while it cannot be emptied. */
	inject_arm(INJECT_SYNC, 1, true);
	check(eventlog_flush(log, &seq) == -EIO);
	check(inject_disarm());
	check(eventlog_sync(log) == -EIO);
	check(eventlog_flush(log, &seq) == 0 && seq == last);
	snprintf(wal, sizeof(wal), "%s/events.db-wal", folder);
	check(stat(wal, &st) == 0 && st.st_size == 0);
	check(eventlog_sync(log) == 0);
	end_log(log, last);
}

static void a_log_that_failed_to_sync_mends_itself_while_nothing_happens(void)
{
	for (unsigned long n = 1; n <= 2; n++) {
		struct eventlog *log = begin_log();
		uint64_t last = write_some(log, 10), seq;

		check(eventlog_start(log) == 0);
		if (n == 2)
			check(eventlog_flush(log, &seq) == 0);
		check(sync_with_fault(log, n) == -EIO);
		while (eventlog_sync(log) < 0)
			usleep(1000);
		end_log(log, last);
	}
}

static void a_log_closed_while_its_store_is_suspect_counts_as_closed_only_when_it_is_whole(void)
{
	struct eventlog *log = begin_log();
	uint64_t last = write_some(log, 10), seq;
	struct eventlog_found found;
	const struct eventlog_options options = { .state_fd = folder_fd, .state_path = folder };

	check(eventlog_flush(log, &seq) == 0);
	inject_arm(INJECT_SYNC, 2, true);
	check(eventlog_sync(log) == -EIO);
	eventlog_close(log);
	check(inject_disarm());
	check(eventlog_open(&options, &log, &found) == 0 && found.was_unclean);
	end_log(log, last);
}

/* ---- An error that is over ---- */

static void a_flush_is_answered_by_a_pass_that_came_after_it(void)
{
	struct eventlog *log = begin_log();
	uint64_t last, seq;

	check(eventlog_start(log) == 0);
	last = write_some(log, 10);
	inject_arm(INJECT_SQLITE, 1, true);
	check(eventlog_flush(log, &seq) < 0);
	check(inject_disarm());
	/* The drain has not tried again yet. */
	check(eventlog_flush(log, &seq) == 0 && seq == last);
	end_log(log, last);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		unit(events_of_a_journal_that_failed_are_synced_once_they_are_in_the_store),
		unit(events_of_a_store_that_failed_are_synced_once_its_wal_begins_anew),
		unit(a_log_that_failed_to_sync_mends_itself_while_nothing_happens),
		unit(a_log_closed_while_its_store_is_suspect_counts_as_closed_only_when_it_is_whole),
		unit(a_flush_is_answered_by_a_pass_that_came_after_it),
		unit(log_outlives_a_failed_allocation),
		unit(log_outlives_a_failed_write),
		unit(log_outlives_a_disk_that_takes_no_more_writes),
		unit(log_outlives_a_failed_sync),
		unit(log_outlives_a_failed_growth),
		unit(log_outlives_a_failed_step_of_sqlite),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
