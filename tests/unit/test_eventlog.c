/* The event log as its users see it: numbers without holes, whoever is killed, full, or slow. */
#include "eventlog/eventlog.h"

#include "base/scope.h"
#include "proto/event.h"
#include "tests/unit/check.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { RING = 1 << 20 };

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

static int try_open(const char *folder, enum eventlog_durability durability, struct eventlog **out,
		    struct eventlog_found *found)
{
	/* The log borrows it for its life, which ends with the process soon enough. */
	int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct eventlog_options options = {
		.state_fd = fd,
		.state_path = folder,
		.journal_size = RING,
		.durability = durability,
	};

	return eventlog_open(&options, out, found);
}

static struct eventlog *open_log(const char *folder)
{
	struct eventlog_found found;
	struct eventlog *log = NULL;

	check(try_open(folder, EVENTLOG_FSYNC, &log, &found) == 0);
	return log;
}

/* Events tell who made them and the how manyth it was. */
static struct event make_event(unsigned thread, uint64_t number, char path[32])
{
	struct event event = {
		.op = EVENT_WRITE,
		.has = EVENT_HAS_OFFSET | EVENT_HAS_WHO,
		.offset = number,
		.pid = thread,
		.path = path,
		.comm = "test",
		.comm_length = 4,
	};

	event.path_length =
		snprintf(path, 32, "t%u/%llu", thread, (unsigned long long)number % 1000);
	return event;
}

static int append(struct writer *writer, unsigned thread, uint64_t number)
{
	char path[32];
	struct event event = make_event(thread, number, path);

	return writer_append(writer, &event);
}

/* Append @count events from one writer. */
static void fill(struct eventlog *log, uint64_t count)
{
	struct writer *writer = NULL;

	check(writer_open(log, &writer) == 0);
	for (uint64_t i = 0; i < count; i++)
		check(append(writer, 1, i) == 0);
	writer_close(writer);
}

/* Read from @seq to the end; every number must be there. Returns the next. */
static uint64_t read_all(struct eventlog *log, uint64_t seq)
{
	struct eventlog_cursor *cursor = NULL;
	struct event event;
	int r;

	check(eventlog_cursor_open(log, seq, &cursor) == 0);
	while ((r = eventlog_cursor_next(cursor, &event)) == 1)
		check(event.seq == seq++);
	check(r == 0);
	eventlog_cursor_close(cursor);
	return seq;
}

static void run_sql(const char *folder, const char *sql)
{
	char path[SCRATCH_SIZE];
	sqlite3 *db;

	snprintf(path, sizeof(path), "%s/events.db", folder);
	check(sqlite3_open(path, &db) == SQLITE_OK);
	check(sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK);
	sqlite3_close(db);
}

static void log_goes_on_where_it_ended(void)
{
	const char *folder = make_folder();
	struct eventlog_found found;
	struct eventlog *log = NULL;
	char id[EVENTLOG_ID_SIZE];

	check(try_open(folder, EVENTLOG_FSYNC, &log, &found) == 0);
	check(found.is_new && !found.was_unclean && found.recovered == 0);
	check(eventlog_next_seq(log) == 1 && eventlog_oldest_seq(log) == 1);
	memcpy(id, eventlog_id(log), sizeof(id));
	fill(log, 100);
	eventlog_close(log);

	check(try_open(folder, EVENTLOG_FSYNC, &log, &found) == 0);
	check(!found.is_new && !found.was_unclean && found.recovered == 0);
	check(eventlog_next_seq(log) == 101 && eventlog_oldest_seq(log) == 1);
	check(strcmp(id, eventlog_id(log)) == 0);
	check(read_all(log, 1) == 101);
	eventlog_close(log);
}

static void second_user_is_refused(void)
{
	const char *folder = make_folder();
	struct eventlog_found found;
	struct eventlog *log = open_log(folder);
	struct eventlog *second = NULL;

	check(try_open(folder, EVENTLOG_FSYNC, &second, &found) == -EBUSY);
	eventlog_close(log);
	check(try_open(folder, EVENTLOG_FSYNC, &second, &found) == 0);
	eventlog_close(second);
}

static void only_so_many_writers(void)
{
	struct eventlog *log = open_log(make_folder());
	struct writer *writers[EVENTLOG_WRITERS_MAX];
	struct writer *more = NULL;

	for (int i = 0; i < EVENTLOG_WRITERS_MAX; i++)
		check(writer_open(log, &writers[i]) == 0);
	check(writer_open(log, &more) == -EAGAIN);
	writer_close(writers[5]);
	check(writer_open(log, &writers[5]) == 0);
	for (int i = 0; i < EVENTLOG_WRITERS_MAX; i++)
		writer_close(writers[i]);
	eventlog_close(log);
}

static void commit_may_say_more_than_begin(void)
{
	struct eventlog *log = open_log(make_folder());
	struct writer *writer = NULL;
	struct eventlog_cursor *cursor = NULL;
	struct event event = { .op = EVENT_CREATE, .path = "a", .path_length = 1 };
	struct event out;

	check(writer_open(log, &writer) == 0);
	check(writer_begin(writer, 1, 0, &event) == 0);
	event.has = EVENT_HAS_INO;
	event.ino = 99;
	event.path = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
	event.path_length = 61;
	writer_commit(writer, &event);
	writer_end(writer);
	check(event.seq == 1 && event.time_ns > 0);
	check(writer_begin(writer, 2, 0, &event) == 0);
	writer_rollback(writer);
	writer_end(writer);
	check(eventlog_next_seq(log) == 2);
	check(eventlog_cursor_open(log, 1, &cursor) == 0);
	check(eventlog_cursor_next(cursor, &out) == 1);
	check(out.ino == 99 && out.path_length == 61);
	check(eventlog_cursor_next(cursor, &out) == 0);
	eventlog_cursor_close(cursor);
	writer_close(writer);
	eventlog_close(log);
}

static void an_event_that_was_overtaken_is_not_logged(void)
{
	struct eventlog *log = open_log(make_folder());
	struct writer *writer = NULL;
	char path[32];
	struct event event = make_event(1, 1, path);

	check(writer_open(log, &writer) == 0);
	check(writer_append_at(writer, 1, &event) == EVENTLOG_APPENDED && event.seq == 1);
	check(append(writer, 1, 2) == 0);
	check(writer_append_at(writer, 2, &event) == EVENTLOG_OVERTAKEN);
	check(eventlog_next_seq(log) == 3);
	check(writer_append_at(writer, 3, &event) == EVENTLOG_APPENDED && event.seq == 3);
	writer_close(writer);
	eventlog_close(log);
}

static void a_request_is_under_way_from_its_announcement_to_its_end(void)
{
	struct eventlog *log = open_log(make_folder());
	struct eventlog_under_way before, noted;
	struct writer *writer = NULL;
	char path[32];
	struct event event = make_event(1, 1, path);

	check(writer_open(log, &writer) == 0);
	eventlog_note_under_way(log, &before);
	check(writer_begin(writer, 1, 0, &event) == 0);
	eventlog_note_under_way(log, &noted);
	check(eventlog_have_ended(log, &before) && !eventlog_have_ended(log, &noted));
	writer_commit(writer, &event);
	check(!eventlog_have_ended(log, &noted));
	writer_end(writer);
	check(eventlog_have_ended(log, &noted));
	/* The next one of the same writer is another. */
	check(writer_begin(writer, 2, 0, &event) == 0);
	check(eventlog_have_ended(log, &noted));
	writer_end(writer);
	writer_close(writer);
	eventlog_close(log);
}

static void full_ring_waits_for_the_drain(void)
{
	struct eventlog *log = open_log(make_folder());
	struct eventlog_stat stat;
	uint64_t seq = 0;

	check(eventlog_start(log) == 0);
	/* About ten rings full. */
	fill(log, 10 * RING / 144);
	check(eventlog_flush(log, &seq) == 0);
	check(seq == 10 * RING / 144);
	eventlog_stat(log, &stat);
	check(stat.stored_seq == seq && stat.journal_used == 0 && stat.journal_size == RING &&
	      stat.error == 0);
	check(stat.store_size > 0 && stat.events_per_s > 0);
	check(read_all(log, 1) == seq + 1);
	eventlog_close(log);
}

static void reader_is_woken_when_it_asked(void)
{
	struct eventlog *log = open_log(make_folder());
	struct pollfd news = { .fd = eventlog_news_fd(log), .events = POLLIN };
	uint64_t count;

	fill(log, 1);
	check(poll(&news, 1, 0) == 0);
	check(!eventlog_arm(log, 1));
	check(eventlog_arm(log, 2));
	check(poll(&news, 1, 0) == 0);
	fill(log, 3);
	check(poll(&news, 1, 0) == 1);
	check(read(news.fd, &count, sizeof(count)) == sizeof(count) && count == 1);
	fill(log, 1);
	check(poll(&news, 1, 0) == 0);
	eventlog_close(log);
}

static uint64_t stored_seq(struct eventlog *log)
{
	struct eventlog_stat stat;

	eventlog_stat(log, &stat);
	return stat.stored_seq;
}

/* Nobody waits for them, and they are too few to fill the ring. */
static void events_reach_the_store_by_themselves(void)
{
	struct eventlog *log = open_log(make_folder());
	uint64_t count = 0;

	check(eventlog_start(log) == 0);
	/* Without a pause: the drain does not wait for one for ever, nor until an eighth of the ring is full. */
	while (stored_seq(log) == 0) {
		fill(log, 1);
		count++;
		check(count < 1000);
		usleep(5000);
	}
	/* Then with one. */
	for (int i = 0; stored_seq(log) < count; i++) {
		check(i < 6000);
		usleep(5000);
	}
	/* And after it slept for good. */
	usleep(1000000);
	fill(log, 1);
	for (int i = 0; stored_seq(log) <= count; i++) {
		check(i < 6000);
		usleep(5000);
	}
	eventlog_close(log);
}

/* ---- Many at a time ---- */

enum { BUSY_WRITERS = 3, BUSY_EVENTS = 20000, BUSY_READERS = 3 };

struct busy {
	struct eventlog *log;
	unsigned number;
	atomic_uint *failed;
};

static void *busy_writer(void *argument)
{
	struct busy *busy = argument;
	struct writer *writer = NULL;
	char path[32];

	if (writer_open(busy->log, &writer) < 0)
		atomic_fetch_add(busy->failed, 1);
	for (uint64_t i = 0; writer && i < BUSY_EVENTS; i++) {
		struct event event = make_event(busy->number, i, path);

		if (writer_begin(writer, i + 1, 0, &event) < 0)
			atomic_fetch_add(busy->failed, 1);
		writer_commit(writer, &event);
		writer_end(writer);
	}
	writer_close(writer);
	return NULL;
}

/* Reader 1 is slow, so that it is overtaken and comes back. */
static void *busy_reader(void *argument)
{
	struct busy *busy = argument;
	struct eventlog_cursor *cursor = NULL;
	uint64_t wanted[BUSY_WRITERS] = { 0 };
	struct event event;
	uint64_t seq = 1;

	if (eventlog_cursor_open(busy->log, 1, &cursor) < 0)
		atomic_fetch_add(busy->failed, 1);
	while (cursor && seq <= BUSY_WRITERS * BUSY_EVENTS) {
		int r = eventlog_cursor_next(cursor, &event);

		if (r == 0) {
			usleep(500);
			continue;
		}
		if (r < 0 || event.seq != seq || event.pid >= BUSY_WRITERS ||
		    event.offset != wanted[event.pid]) {
			atomic_fetch_add(busy->failed, 1);
			break;
		}
		wanted[event.pid]++;
		if (busy->number == 1 && seq % 4000 == 0)
			usleep(20000);
		seq++;
	}
	eventlog_cursor_close(cursor);
	return NULL;
}

static void *busy_syncer(void *argument)
{
	struct busy *busy = argument;

	while (eventlog_next_seq(busy->log) <= BUSY_WRITERS * BUSY_EVENTS) {
		if (eventlog_sync(busy->log) < 0)
			atomic_fetch_add(busy->failed, 1);
		usleep(1000);
	}
	return NULL;
}

static void readers_see_every_event_once_while_all_are_busy(void)
{
	struct eventlog *log = open_log(make_folder());
	struct busy busy[BUSY_WRITERS + BUSY_READERS + 1];
	pthread_t threads[BUSY_WRITERS + BUSY_READERS + 1];
	atomic_uint failed = 0;
	unsigned count = 0;

	check(eventlog_start(log) == 0);
	for (; count < BUSY_WRITERS + BUSY_READERS + 1; count++) {
		bool is_writer = count < BUSY_WRITERS;
		bool is_reader = !is_writer && count < BUSY_WRITERS + BUSY_READERS;

		busy[count] =
			(struct busy){ log, is_writer ? count : count - BUSY_WRITERS, &failed };
		check(pthread_create(&threads[count], NULL,
				     is_writer   ? busy_writer
				     : is_reader ? busy_reader
						 : busy_syncer,
				     &busy[count]) == 0);
	}
	while (count-- > 0)
		pthread_join(threads[count], NULL);
	check(failed == 0);
	check(read_all(log, 1) == BUSY_WRITERS * BUSY_EVENTS + 1);
	eventlog_close(log);
}

static void *always_writer(void *argument)
{
	struct busy *busy = argument;
	struct writer *writer = NULL;

	if (writer_open(busy->log, &writer) < 0)
		atomic_fetch_add(busy->failed, 1);
	for (int i = 0; writer && i < 50; i++)
		if (append(writer, 2, i) < 0)
			atomic_fetch_add(busy->failed, 1);
	writer_close(writer);
	return NULL;
}

static void always_durable_writers_share_their_syncs(void)
{
	const char *folder = make_folder();
	struct eventlog_found found;
	struct eventlog *log = NULL;
	atomic_uint failed = 0;
	struct busy busy = { .failed = &failed };
	pthread_t thread;

	check(try_open(folder, EVENTLOG_ALWAYS, &log, &found) == 0);
	check(eventlog_start(log) == 0);
	busy.log = log;
	check(pthread_create(&thread, NULL, always_writer, &busy) == 0);
	fill(log, 50);
	pthread_join(thread, NULL);
	check(eventlog_sync(log) == 0);
	check(read_all(log, 1) == 101);
	check(failed == 0);
	eventlog_close(log);
}

/* ---- What is gone ---- */

static void deleted_rows_are_a_gap(void)
{
	const char *folder = make_folder();
	struct eventlog *log = open_log(folder);
	struct eventlog_cursor *cursor = NULL;
	struct event event;
	uint64_t seq;

	check(eventlog_start(log) == 0);
	fill(log, 1000);
	check(eventlog_flush(log, &seq) == 0);
	run_sql(folder, "DELETE FROM events WHERE seq <= 400");
	check(eventlog_cursor_open(log, 1, &cursor) == 0);
	check(eventlog_cursor_next(cursor, &event) == -ENODATA);
	check(eventlog_oldest_seq(log) == 401);
	eventlog_cursor_seek(cursor, 401);
	check(eventlog_cursor_next(cursor, &event) == 1 && event.seq == 401);
	run_sql(folder, "DELETE FROM events");
	eventlog_cursor_seek(cursor, 500);
	check(eventlog_cursor_next(cursor, &event) == -ENODATA);
	check(eventlog_oldest_seq(log) == 1001);
	eventlog_cursor_seek(cursor, 1001);
	check(eventlog_cursor_next(cursor, &event) == 0);
	fill(log, 1);
	check(eventlog_cursor_next(cursor, &event) == 1 && event.seq == 1001);
	eventlog_cursor_close(cursor);
	eventlog_close(log);
}

static void lost_files_do_not_make_numbers_come_back(void)
{
	const char *folder = make_folder();
	struct eventlog *log = open_log(folder);
	char id[EVENTLOG_ID_SIZE];
	char path[SCRATCH_SIZE];

	memcpy(id, eventlog_id(log), sizeof(id));
	fill(log, 10);
	eventlog_close(log);
	snprintf(path, sizeof(path), "%s/events.db", folder);
	check(unlink(path) == 0);
	log = open_log(folder);
	check(strcmp(id, eventlog_id(log)) == 0);
	check(eventlog_next_seq(log) == 11 && eventlog_oldest_seq(log) == 11);
	fill(log, 10);
	eventlog_close(log);
	snprintf(path, sizeof(path), "%s/journal", folder);
	check(unlink(path) == 0);
	log = open_log(folder);
	check(strcmp(id, eventlog_id(log)) == 0);
	check(eventlog_next_seq(log) == 21 && eventlog_oldest_seq(log) == 11);
	check(read_all(log, 11) == 21);
	eventlog_close(log);
}

/* A power loss took the WAL's last transactions, whose room in the ring had been used again. */
static void events_lost_with_the_power_leave_no_hole(void)
{
	const char *folder = make_folder();
	struct eventlog *log;
	pid_t pid = fork();

	if (pid == 0) {
		uint64_t seq;

		log = open_log(folder);
		if (eventlog_start(log) < 0)
			_exit(1);
		fill(log, 3 * RING / 144);
		_exit(eventlog_flush(log, &seq));
	}
	check(waitpid(pid, NULL, 0) == pid);
	run_sql(folder, "DELETE FROM events WHERE seq > 100; UPDATE meta SET value = 100 WHERE key "
			"= 'last_seq'");
	for (int i = 0; i < 3; i++) {
		log = open_log(folder);
		check(eventlog_next_seq(log) == 101);
		check(read_all(log, 1) == 101);
		eventlog_close(log);
	}
}

static void journal_of_another_log_is_set_aside_with_its_database(void)
{
	const char *one = make_folder();
	const char *two = make_folder();
	struct eventlog_found found;
	struct eventlog *log = NULL;
	char from[SCRATCH_SIZE], to[SCRATCH_SIZE];

	eventlog_close(open_log(one));
	eventlog_close(open_log(two));
	snprintf(from, sizeof(from), "%s/journal", one);
	snprintf(to, sizeof(to), "%s/journal", two);
	check(rename(from, to) == 0);
	check(try_open(two, EVENTLOG_FSYNC, &log, &found) == 0);
	check(found.was_set_aside && found.was_unclean && eventlog_next_seq(log) == 1);
	eventlog_close(log);
}

/* ---- Kill ---- */

enum { KILL_ROUNDS = 120, KILL_THREADS = 4, SEQ_MAX = 1 << 22 };

/* What the child tells, in shared memory. */
struct told {
	atomic_uchar committed[SEQ_MAX];     /* by seq: writer_commit() had returned */
	_Atomic uint64_t next[KILL_THREADS]; /* the number of the thread's next event */
	_Atomic uint64_t count;              /* of commits that had returned */
};

static struct told *told;
static struct eventlog *victim_log;

/* Requests of one and of two steps, with a rollback now and then. */
static void *victim_writer(void *argument)
{
	unsigned thread = (uintptr_t)argument;
	uint64_t number = told->next[thread];
	struct writer *writer = NULL;
	char path[32];

	if (writer_open(victim_log, &writer) < 0)
		abort();
	for (uint64_t request = 1;; request++) {
		for (unsigned step = 0; step < 1 + request % 2; step++) {
			struct event event = make_event(thread, number, path);

			if (writer_begin(writer, (number - step) << 8 | (thread + 1), step, &event) < 0)
				abort();
			if (request % 7 == 0) {
				writer_rollback(writer);
				break;
			}
			writer_commit(writer, &event);
			atomic_store(&told->committed[event.seq], 1);
			atomic_fetch_add(&told->count, 1);
			number++;
		}
		writer_end(writer);
	}
	return NULL;
}

static void be_victim(const char *folder)
{
	pthread_t threads[KILL_THREADS];

	victim_log = open_log(folder);
	if (eventlog_start(victim_log) < 0)
		abort();
	for (uintptr_t i = 0; i < KILL_THREADS; i++)
		if (pthread_create(&threads[i], NULL, victim_writer, (void *)i))
			abort();
	pause();
	_exit(0);
}

/*
 * Every event is there, once, in order for each thread, and every one whose commit had returned.
 * Returns the next seq.
 */
static uint64_t verify_events(struct eventlog *log, uint64_t seq)
{
	struct eventlog_cursor *cursor = NULL;
	struct event event;
	int r;

	check(eventlog_cursor_open(log, seq, &cursor) == 0);
	while ((r = eventlog_cursor_next(cursor, &event)) == 1) {
		check(event.seq == seq++);
		check(event.pid < KILL_THREADS && event.offset == told->next[event.pid]);
		told->next[event.pid]++;
	}
	check(r == 0 && seq == eventlog_next_seq(log));
	for (uint64_t i = seq; i < SEQ_MAX && i < seq + 100000; i++)
		check(!told->committed[i]);
	eventlog_cursor_close(cursor);
	return seq;
}

/* The thread's events are numbered from 0 without a hole: the log has those below told->next. */
static unsigned verify_orphans(struct eventlog *log)
{
	unsigned position = 0;
	unsigned count = 0;
	struct orphan *orphan;

	while ((orphan = eventlog_next_orphan(log, &position))) {
		unsigned thread = (orphan->request & 0xff) - 1;
		uint64_t first = orphan->request >> 8;
		uint64_t logged = told->next[thread];

		check(thread < KILL_THREADS && orphan->event->pid == thread);
		check(eventlog_find_orphan(log, orphan->request) == orphan);
		check(first + orphan->steps == logged);
		if (orphan->state == INTENT_DONE)
			check(orphan->steps > 0 && orphan->event->offset == logged - 1);
		else
			check(orphan->state == INTENT_BEGUN && orphan->event->offset == logged);
		eventlog_resolve(log, orphan);
		count++;
	}
	check(count <= KILL_THREADS);
	return count;
}

/* Some are killed while they open the log, the others while they write. */
static void wait_for_the_moment(int round)
{
	uint64_t before = told->count;

	for (int i = 0; round % 4 && told->count == before && i < 10000; i++)
		usleep(1000);
	usleep(rand() % 12000);
}

static void kill_loses_nothing_and_repeats_nothing(void)
{
	const char *folder = make_folder();
	uint64_t seq = 1;
	unsigned orphans = 0;

	told = mmap(NULL, sizeof(*told), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	check(told != MAP_FAILED);
	srand(getpid());
	for (int round = 0; round < KILL_ROUNDS; round++) {
		pid_t pid = fork();
		struct eventlog_found found;
		struct eventlog *log = NULL;

		if (pid == 0)
			be_victim(folder);
		wait_for_the_moment(round);
		check(kill(pid, SIGKILL) == 0 && waitpid(pid, NULL, 0) == pid);
		check(try_open(folder, EVENTLOG_FSYNC, &log, &found) == 0);
		seq = verify_events(log, seq);
		orphans += verify_orphans(log);
		eventlog_close(log);
		check(seq < SEQ_MAX - 200000);
	}
	print_message("%d kills, %llu events, %u orphans\n", KILL_ROUNDS,
		      (unsigned long long)seq - 1, orphans);
	check(seq > KILL_ROUNDS && orphans > 0);
	munmap(told, sizeof(*told));
}

static void orphans_keep_their_slots_until_resolved(void)
{
	const char *folder = make_folder();
	struct event event = { .op = EVENT_UNLINK, .path = "gone", .path_length = 4 };
	struct eventlog_found found;
	struct eventlog *log = NULL;
	struct orphan *orphan;
	pid_t pid = fork();

	if (pid == 0) {
		struct writer *writer = NULL;

		log = open_log(folder);
		if (writer_open(log, &writer) < 0 || writer_begin(writer, 77, 0, &event) < 0)
			_exit(1);
		_exit(0);
	}
	check(waitpid(pid, NULL, 0) == pid);
	for (int round = 0; round < 2; round++) {
		struct writer *writers[EVENTLOG_WRITERS_MAX - 1];
		struct writer *more = NULL;

		check(try_open(folder, EVENTLOG_FSYNC, &log, &found) == 0);
		check(found.was_unclean == (round == 0));
		for (int i = 0; i < EVENTLOG_WRITERS_MAX - 1; i++)
			check(writer_open(log, &writers[i]) == 0);
		check(writer_open(log, &more) == -EAGAIN);
		orphan = eventlog_find_orphan(log, 77);
		check(orphan && orphan->state == INTENT_BEGUN && orphan->event->op == EVENT_UNLINK);
		check(!eventlog_find_orphan(log, 78));
		if (round == 1) {
			eventlog_resolve(log, orphan);
			check(!eventlog_find_orphan(log, 77));
			check(writer_open(log, &more) == 0);
			writer_close(more);
		}
		for (int i = 0; i < EVENTLOG_WRITERS_MAX - 1; i++)
			writer_close(writers[i]);
		eventlog_close(log);
	}
}

static void begin_without_end(const char *folder)
{
	struct event logged = { .op = EVENT_MKDIR, .has = EVENT_HAS_WHO, .path = "logged", .path_length = 6, .pid = 5 };
	struct event lost = { .op = EVENT_MKDIR, .has = EVENT_HAS_WHO, .path = "lost", .path_length = 4, .pid = 5 };
	struct writer *writers[4] = { NULL };
	struct eventlog *log = open_log(folder);

	for (int i = 0; i < 4; i++)
		if (writer_open(log, &writers[i]) < 0)
			_exit(1);
	/* Logged before the announcement: that was another one. */
	if (writer_append(writers[3], &lost) < 0)
		_exit(1);
	if (writer_begin(writers[0], 70, 0, &logged) < 0 || writer_begin(writers[1], 71, 0, &lost) < 0 ||
	    writer_begin(writers[2], 72, 0, &logged) < 0)
		_exit(1);
	writer_commit(writers[2], &logged);
	_exit(0);
}

/* Another writer's event stands for one whose announcement the disk has kept in an older form. */
static void announcement_older_than_its_event_is_recognized(void)
{
	const char *folder = make_folder();
	struct eventlog *log;
	pid_t pid = fork();

	if (pid == 0)
		begin_without_end(folder);
	check(waitpid(pid, NULL, 0) == pid);
	log = open_log(folder);
	check(eventlog_find_orphan(log, 70)->state == INTENT_BEGUN);
	check(eventlog_has_announced(log, eventlog_find_orphan(log, 70)) == 1);
	check(eventlog_find_orphan(log, 71)->state == INTENT_BEGUN);
	check(eventlog_has_announced(log, eventlog_find_orphan(log, 71)) == 0);
	eventlog_close(log);
}

/* ---- A full disk ---- */

static bool mount_small_disk(const char *folder)
{
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("none", folder, "tmpfs", 0, "size=12m,mode=0700") < 0) {
		print_message("skipped: a tmpfs cannot be mounted here: %s\n", strerror(errno));
		return false;
	}
	return true;
}

static void fill_disk(const char *path)
{
	scoped(closep) int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	static const char zeros[4096];

	while (write(fd, zeros, sizeof(zeros)) > 0)
		;
}

static void wait_until_writable(struct writer *writer, uint64_t number)
{
	for (int i = 0; append(writer, 1, number) < 0; i++) {
		check(i < 1000);
		usleep(10000);
	}
}

static void full_disk_is_told_before_the_change_and_loses_nothing(void)
{
	const char *folder = make_folder();
	struct eventlog *log = NULL;
	struct writer *writer = NULL;
	struct eventlog_stat stat;
	char filler[SCRATCH_SIZE];
	uint64_t count = 0;
	uint64_t seq = 0;

	if (!mount_small_disk(folder))
		skip();
	log = open_log(folder);
	check(eventlog_start(log) == 0);
	check(writer_open(log, &writer) == 0);
	snprintf(filler, sizeof(filler), "%s/filler", folder);
	fill_disk(filler);
	while (append(writer, 1, count) == 0)
		count++;
	check(append(writer, 1, count) == -ENOSPC);
	eventlog_stat(log, &stat);
	check(stat.error < 0 && stat.next_seq == count + 1);
	check(eventlog_flush(log, &seq) < 0);

	/* A new worker can take over while the disk is full. */
	writer_close(writer);
	eventlog_close(log);
	log = open_log(folder);
	check(eventlog_next_seq(log) == count + 1);
	check(eventlog_start(log) == 0);
	check(writer_open(log, &writer) == 0);

	check(unlink(filler) == 0);
	wait_until_writable(writer, count);
	check(eventlog_flush(log, &seq) == 0 && seq == count + 1);
	check(read_all(log, 1) == count + 2);
	writer_close(writer);
	eventlog_close(log);
	umount2(folder, MNT_DETACH);
}

/* ---- History ---- */

static uint64_t count_history(const char *folder, const struct eventlog_filter *filter,
			      uint64_t *out_first)
{
	struct eventlog_history *history = NULL;
	struct event event;
	uint64_t count = 0;
	uint64_t last = 0;
	int r;

	check(eventlog_history_open(folder, filter, &history) == 0);
	*out_first = 0;
	while ((r = eventlog_history_next(history, &event)) == 1) {
		check(event.seq > last);
		last = event.seq;
		if (!count++)
			*out_first = event.seq;
	}
	check(r == 0);
	eventlog_history_close(history);
	return count;
}

static void history_sees_store_and_journal(void)
{
	const char *folder = make_folder();
	struct eventlog_filter filter = { .pid = -1 };
	uint64_t first;
	pid_t pid = fork();

	if (pid == 0) {
		struct eventlog *log = open_log(folder);
		uint64_t seq;

		fill(log, 700);
		eventlog_flush(log, &seq);
		fill(log, 300);
		_exit(0);
	}
	check(waitpid(pid, NULL, 0) == pid);
	check(count_history(folder, &filter, &first) == 1000 && first == 1);
	filter.since_seq = 650;
	filter.until_seq = 800;
	check(count_history(folder, &filter, &first) == 151 && first == 650);
	filter = (struct eventlog_filter){ .pid = -1, .under = "t1/5" };
	check(count_history(folder, &filter, &first) == 2);
	filter = (struct eventlog_filter){ .pid = 1, .comm = "test", .ops = 1 << EVENT_WRITE };
	check(count_history(folder, &filter, &first) == 1000);
	filter.comm = "tes";
	check(count_history(folder, &filter, &first) == 0);
	filter = (struct eventlog_filter){ .pid = -1, .since_ns = INT64_MAX };
	check(count_history(folder, &filter, &first) == 0);
	filter = (struct eventlog_filter){ .pid = -1, .since_ns = 1, .until_ns = INT64_MAX };
	check(count_history(folder, &filter, &first) == 1000);
	eventlog_close(open_log(folder));
	check(count_history(folder, &filter, &first) == 1000 && first == 1);
}

static void time_bounds_are_exact(void)
{
	const char *folder = make_folder();
	struct eventlog *log = open_log(folder);
	struct eventlog_filter filter = { .pid = -1 };
	struct writer *writer = NULL;
	int64_t times[40];
	uint64_t first, seq;

	check(writer_open(log, &writer) == 0);
	for (int i = 0; i < 40; i++) {
		char path[32];
		struct event event = make_event(1, i, path);

		usleep(100);
		check(writer_append(writer, &event) == 0);
		times[i] = event.time_ns;
		if (i == 20)
			check(eventlog_flush(log, &seq) == 0);
	}
	filter.since_ns = times[10];
	filter.until_ns = times[15];
	check(count_history(folder, &filter, &first) == 6 && first == 11);
	filter.until_ns = times[30];
	check(count_history(folder, &filter, &first) == 21);
	filter.since_ns = times[25] + 1;
	check(count_history(folder, &filter, &first) == 5 && first == 27);
	writer_close(writer);
	eventlog_close(log);
}

static void history_next_to_a_live_writer_has_no_hole(void)
{
	const char *folder = make_folder();
	struct eventlog *log = open_log(folder);
	struct eventlog_filter filter = { .pid = -1 };
	atomic_uint failed = 0;
	struct busy busy = { log, 0, &failed };
	pthread_t thread;
	uint64_t first;

	check(eventlog_start(log) == 0);
	fill(log, 1);
	check(pthread_create(&thread, NULL, busy_writer, &busy) == 0);
	while (eventlog_next_seq(log) < BUSY_EVENTS) {
		uint64_t before = eventlog_next_seq(log) - 1;
		uint64_t count = count_history(folder, &filter, &first);

		check(first == 1 && count >= before);
	}
	pthread_join(thread, NULL);
	eventlog_close(log);
}

static void no_log_is_no_history(void)
{
	struct eventlog_filter filter = { .pid = -1 };
	struct eventlog_history *history = NULL;

	check(eventlog_history_open(make_folder(), &filter, &history) == -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		unit(log_goes_on_where_it_ended),
		unit(second_user_is_refused),
		unit(only_so_many_writers),
		unit(commit_may_say_more_than_begin),
		unit(an_event_that_was_overtaken_is_not_logged),
		unit(a_request_is_under_way_from_its_announcement_to_its_end),
		unit(full_ring_waits_for_the_drain),
		unit(reader_is_woken_when_it_asked),
		unit(events_reach_the_store_by_themselves),
		unit(readers_see_every_event_once_while_all_are_busy),
		unit(always_durable_writers_share_their_syncs),
		unit(deleted_rows_are_a_gap),
		unit(lost_files_do_not_make_numbers_come_back),
		unit(events_lost_with_the_power_leave_no_hole),
		unit(journal_of_another_log_is_set_aside_with_its_database),
		unit(kill_loses_nothing_and_repeats_nothing),
		unit(orphans_keep_their_slots_until_resolved),
		unit(announcement_older_than_its_event_is_recognized),
		unit(full_disk_is_told_before_the_change_and_loses_nothing),
		unit(history_sees_store_and_journal),
		unit(time_bounds_are_exact),
		unit(history_next_to_a_live_writer_has_no_hole),
		unit(no_log_is_no_history),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
