/* The store: rows in, the same events out, and what SQLite's failures become. */
#include "eventlog/store.h"

#include "base/bytes.h"
#include "base/scope.h"
#include "eventlog/eventlog.h"
#include "eventlog/store_reader.h"
#include "proto/event.h"
#include "tests/unit/check.h"

#include <errno.h>
#include <sqlite3.h>
#include <string.h>
#include <sys/stat.h>

static const char id[] = "01234567-89ab-4cde-8f01-23456789abcd";

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

static struct store *make_store(const char *folder)
{
	struct store *store = NULL;

	check(store_open(folder, id, &store) == 0);
	return store;
}

static struct event make_event(uint64_t seq, const char *path)
{
	return (struct event){
		.seq = seq,
		.time_ns = 1000 * seq,
		.op = EVENT_WRITE,
		.path = path,
		.path_length = strlen(path),
	};
}

static void add(struct store *store, const struct event *event)
{
	check(store_begin(store) == 0);
	check(store_append(store, event) == 0);
	check(store_commit(store, event->seq) == 0);
}

/*
 * Run SQL the way the sqlite3 shell does, next to whoever has the database open. Writes the first
 * value as text.
 */
static void shell(const char *folder, const char *sql, char *out, size_t size)
{
	char path[SCRATCH_SIZE];
	sqlite3 *db;
	sqlite3_stmt *statement;

	snprintf(path, sizeof(path), "%s/events.db", folder);
	check(sqlite3_open(path, &db) == SQLITE_OK);
	check(sqlite3_prepare_v2(db, sql, -1, &statement, NULL) == SQLITE_OK);
	if (sqlite3_step(statement) == SQLITE_ROW && out)
		snprintf(out, size, "%s", (const char *)sqlite3_column_text(statement, 0));
	sqlite3_finalize(statement);
	sqlite3_close(db);
}

static bool is_same_string(const char *a, size_t a_length, const char *b, size_t b_length)
{
	return a_length == b_length && (a_length == 0 || memcmp(a, b, a_length) == 0);
}

static bool is_same(const struct event *a, const struct event *b)
{
	return a->seq == b->seq && a->time_ns == b->time_ns && a->op == b->op &&
	       a->origin == b->origin && a->has == b->has && a->offset == b->offset &&
	       a->length == b->length && a->size == b->size && a->ino == b->ino &&
	       a->mode == b->mode && a->flags == b->flags && a->owner_uid == b->owner_uid &&
	       a->owner_gid == b->owner_gid && a->pid == b->pid && a->uid == b->uid &&
	       a->gid == b->gid &&
	       is_same_string(a->path, a->path_length, b->path, b->path_length) &&
	       is_same_string(a->to, a->to_length, b->to, b->to_length) &&
	       is_same_string(a->name, a->name_length, b->name, b->name_length) &&
	       is_same_string(a->comm, a->comm_length, b->comm, b->comm_length);
}

/* The seqs of all events that pass, one after the other as text. */
static void list(const char *folder, const struct eventlog_filter *filter, char *out, size_t size)
{
	scoped(store_reader_closep) struct store_reader *reader = NULL;
	struct bytes batch = { 0 };
	struct event event;
	bool is_end = false;
	uint64_t seq = 1;
	size_t used = 0;

	check(store_reader_open(folder, filter, &reader) == 0);
	out[0] = '\0';
	while (!is_end) {
		check(store_reader_fetch(reader, seq, UINT64_MAX, &batch, &is_end) == 0);
		for (size_t at = 0; at < batch.size;) {
			ssize_t n = event_decode(batch.data + at, batch.size - at, &event);

			check(n > 0);
			at += n;
			seq = event.seq + 1;
			if (used < size)
				used += snprintf(out + used, size - used, "%d ", (int)event.seq);
		}
	}
	bytes_finish(&batch);
}

static void every_field_comes_back(void)
{
	const char *folder = make_folder();
	scoped(store_closep) struct store *store = make_store(folder);
	scoped(store_reader_closep) struct store_reader *reader = NULL;
	struct bytes batch = { 0 };
	struct event in = {
		.seq = 5,
		.time_ns = 1763840401123456789,
		.op = EVENT_RENAME,
		.origin = EVENT_RECOVERED,
		.has = EVENT_HAS_OFFSET | EVENT_HAS_LENGTH | EVENT_HAS_SIZE | EVENT_HAS_INO |
		       EVENT_HAS_MODE | EVENT_HAS_OWNER | EVENT_HAS_FLAGS | EVENT_HAS_WHO |
		       EVENT_UNCERTAIN,
		.offset = UINT64_MAX,
		.length = 1ull << 40,
		.size = 3,
		.ino = UINT64_MAX - 1,
		.mode = 0104755,
		.flags = UINT32_MAX,
		.owner_uid = UINT32_MAX,
		.owner_gid = 7,
		.pid = 4194304,
		.uid = UINT32_MAX,
		.gid = 0,
		.path = "a\xff/b",
		.path_length = 4,
		.to = "c d",
		.to_length = 3,
		.name = "user.x",
		.name_length = 6,
		.comm = "vi m",
		.comm_length = 4,
	};
	struct event plain = make_event(6, "");
	struct event out;
	bool is_end = false;
	ssize_t size;

	add(store, &in);
	add(store, &plain);
	check(store_reader_open(folder, NULL, &reader) == 0);
	check(store_reader_fetch(reader, 1, UINT64_MAX, &batch, &is_end) == 0);
	check(is_end);
	size = event_decode(batch.data, batch.size, &out);
	check(size > 0 && is_same(&in, &out));
	check(event_decode(batch.data + size, batch.size - size, &out) > 0);
	check(is_same(&plain, &out));
	bytes_finish(&batch);
}

static void same_number_is_stored_once(void)
{
	const char *folder = make_folder();
	scoped(store_closep) struct store *store = make_store(folder);
	struct event first = make_event(1, "first");
	struct event second = make_event(1, "second");
	char text[64];

	add(store, &first);
	add(store, &second);
	shell(folder, "SELECT count(*) || path FROM history", text, sizeof(text));
	check(strcmp(text, "1first") == 0);
}

/* Each event's own path, and the target of those that have one. */
static void check_paths(const char *folder, const char *expected)
{
	char text[64];

	shell(folder,
	      "SELECT count(*)||' '||sum(path = 'path'||seq)||' '||sum(\"to\" = 'to'||seq)||' '||max(seq) FROM history",
	      text, sizeof(text));
	check(strcmp(text, expected) == 0);
}

static int append_named(struct store *store, uint64_t seq)
{
	char path[32], to[32];
	struct event event;

	snprintf(path, sizeof(path), "path%lu", (unsigned long)seq);
	snprintf(to, sizeof(to), "to%lu", (unsigned long)seq);
	event = make_event(seq, path);
	if (seq % 3 == 0) {
		event.op = EVENT_RENAME;
		event.to = to;
		event.to_length = strlen(to);
	}
	return store_append(store, &event);
}

static void add_named(struct store *store, uint64_t first, uint64_t end)
{
	check(store_begin(store) == 0);
	for (uint64_t seq = first; seq < end; seq++)
		check(append_named(store, seq) == 0);
	check(store_commit(store, end - 1) == 0);
}

static void numbers_and_paths_stay_together(void)
{
	const char *folder = make_folder();
	scoped(store_closep) struct store *store = make_store(folder);

	add_named(store, 1, 3001);
	check_paths(folder, "3000 3000 1000 3000");
	/* Where another program took rows away, and added a path. */
	shell(folder, "DELETE FROM events WHERE seq > 2900", NULL, 0);
	shell(folder, "INSERT INTO path (path) VALUES ('foreign')", NULL, 0);
	add_named(store, 3001, 4001);
	check_paths(folder, "3900 3900 1299 4000");
	/* A hole within a transaction, then numbers that are there, then the next ones. */
	check(store_begin(store) == 0);
	for (uint64_t seq = 4101; seq < 4301; seq++)
		check(append_named(store, seq) == 0);
	for (uint64_t seq = 3901; seq < 4001; seq++)
		check(append_named(store, seq) == 0);
	for (uint64_t seq = 4301; seq < 5001; seq++)
		check(append_named(store, seq) == 0);
	check(store_commit(store, 5000) == 0);
	check_paths(folder, "4800 4800 1599 5000");
}

static void the_last_numbers_are_not_given_by_chance(void)
{
	const char *folder = make_folder();
	scoped(store_closep) struct store *store = make_store(folder);
	struct event last = make_event(INT64_MAX - 1, "last");
	char text[64];

	add(store, &last);
	add_named(store, INT64_MAX, (uint64_t)INT64_MAX + 1);
	add_named(store, (uint64_t)INT64_MAX + 1, (uint64_t)INT64_MAX + 2);
	shell(folder, "SELECT group_concat(seq) FROM (SELECT seq FROM events ORDER BY seq)", text, sizeof(text));
	check(strcmp(text, "-9223372036854775808,9223372036854775806,9223372036854775807") == 0);
}

static void a_path_without_a_free_number_is_an_error(void)
{
	const char *folder = make_folder();
	scoped(store_closep) struct store *store = make_store(folder);

	shell(folder, "INSERT INTO path VALUES (9223372036854775807, 'x')", NULL, 0);
	check(store_begin(store) == 0);
	check(append_named(store, 1) == -EBADMSG);
	store_rollback(store);
}

static void rolled_back_paths_are_not_remembered(void)
{
	const char *folder = make_folder();
	scoped(store_closep) struct store *store = make_store(folder);
	struct event lost = make_event(1, "lost");
	struct event other = make_event(1, "other");
	struct event again = make_event(2, "lost");
	char text[64];

	check(store_begin(store) == 0);
	check(store_append(store, &lost) == 0);
	store_rollback(store);
	add(store, &other);
	add(store, &again);
	shell(folder, "SELECT group_concat(path) FROM history", text, sizeof(text));
	check(strcmp(text, "other,lost") == 0);
}

static void numbers_of_deleted_rows_do_not_come_back(void)
{
	const char *folder = make_folder();
	scoped(store_closep) struct store *store = make_store(folder);
	struct event event = make_event(41, "x");
	uint64_t oldest = 9;

	add(store, &event);
	shell(folder, "DELETE FROM events", NULL, 0);
	check(store_oldest_seq(store, &oldest) == 0 && oldest == 0);
	store_close(take(store));
	store = make_store(folder);
	check(store_last_seq(store) == 41);
	check(!store_is_new(store));
	check(strcmp(store_log_id(store), id) == 0);
}

static void view_reads_like_the_event(void)
{
	const char *folder = make_folder();
	scoped(store_closep) struct store *store = make_store(folder);
	struct event event = make_event(1, "dir/file");
	char text[256];

	event.time_ns = 1763840401000000042;
	event.op = EVENT_CHOWN;
	event.has = EVENT_HAS_OWNER | EVENT_HAS_WHO | EVENT_HAS_MODE;
	event.mode = 0640;
	event.owner_uid = UINT32_MAX;
	event.owner_gid = 100;
	event.pid = 12;
	event.comm = "chgrp";
	event.comm_length = 5;
	add(store, &event);
	shell(folder,
	      "SELECT seq||' '||time||' '||op||' '||path||' '||ifnull(owner_uid,'-')||' "
	      "'||owner_gid||' '||mode"
	      "||' '||pid||' '||comm||' '||origin FROM history",
	      text, sizeof(text));
	check(strcmp(text,
		     "1 2025-11-22T19:40:01.000000042Z chown dir/file - 100 0640 12 chgrp vfs") ==
	      0);
	shell(folder, "SELECT group_concat(name) FROM (SELECT name FROM op ORDER BY id LIMIT 3)",
	      text, sizeof(text));
	check(strcmp(text, "create,mkdir,symlink") == 0);
}

static void fill_for_filters(struct store *store)
{
	static const char *const paths[] = {
		"src", "src/a", "src0", "src-x", "src/b/c", "other", ""
	};

	for (unsigned i = 0; i < 7; i++) {
		struct event event = make_event(i + 1, paths[i]);

		event.op = i % 2 ? EVENT_WRITE : EVENT_CREATE;
		event.has = EVENT_HAS_WHO;
		event.pid = 100 + i % 3;
		event.comm = i < 3 ? "vim" : "make";
		event.comm_length = strlen(event.comm);
		if (i == 5) {
			event.op = EVENT_RENAME;
			event.to = "src/new";
			event.to_length = 7;
		}
		add(store, &event);
	}
}

static void filters_let_through_what_they_say(void)
{
	const char *folder = make_folder();
	scoped(store_closep) struct store *store = make_store(folder);
	struct eventlog_filter all = { .pid = -1 };
	struct eventlog_filter filter = all;
	char text[256];

	fill_for_filters(store);
	list(folder, &filter, text, sizeof(text));
	check(strcmp(text, "1 2 3 4 5 6 7 ") == 0);
	filter.under = "src";
	list(folder, &filter, text, sizeof(text));
	check(strcmp(text, "1 2 5 6 ") == 0);
	filter = all;
	filter.ops = 1 << EVENT_CREATE | 1 << EVENT_RENAME;
	list(folder, &filter, text, sizeof(text));
	check(strcmp(text, "1 3 5 6 7 ") == 0);
	filter = all;
	filter.pid = 101;
	filter.comm = "vim";
	list(folder, &filter, text, sizeof(text));
	check(strcmp(text, "2 ") == 0);
	filter.comm = "nobody";
	list(folder, &filter, text, sizeof(text));
	check(strcmp(text, "") == 0);
}

static void time_finds_its_seq(void)
{
	const char *folder = make_folder();
	scoped(store_closep) struct store *store = make_store(folder);
	scoped(store_reader_closep) struct store_reader *reader = NULL;
	uint64_t seq = 0;

	for (uint64_t i = 1; i <= 1000; i++) {
		struct event event = make_event(i, "x");

		event.time_ns = i / 10 * 100;
		add(store, &event);
	}
	shell(folder, "DELETE FROM events WHERE seq < 500 OR seq = 700", NULL, 0);
	check(store_reader_open(folder, NULL, &reader) == 0);
	check(store_reader_find_time(reader, 6000, &seq) == 0 && seq == 600);
	check(store_reader_find_time(reader, 6001, &seq) == 0 && seq == 610);
	check(store_reader_find_time(reader, 10000, &seq) == 0 && seq == 1000);
	check(store_reader_find_time(reader, 10001, &seq) == 0 && seq == 1001);
	check(store_reader_last_seq(reader, &seq) == 0 && seq == 1000);
}

static void other_databases_are_refused(void)
{
	const char *folder = make_folder();
	struct store *store = NULL;
	struct store_reader *reader = NULL;
	char path[SCRATCH_SIZE];
	FILE *file;

	check(store_reader_open(folder, NULL, &reader) == -ENOENT);
	shell(folder, "CREATE TABLE foreign_table (x)", NULL, 0);
	check(store_open(folder, id, &store) == -EBADMSG);
	shell(folder, "PRAGMA user_version = 77", NULL, 0);
	check(store_open(folder, id, &store) == -EPROTO);
	check(store_reader_open(folder, NULL, &reader) == -EPROTO);
	snprintf(path, sizeof(path), "%s/events.db", folder);
	file = fopen(path, "w");
	for (int i = 0; i < 5000; i++)
		fputs("no database", file);
	fclose(file);
	check(store_open(folder, id, &store) == -EBADMSG);
}

static void files_are_the_owners_alone(void)
{
	const char *folder = make_folder();
	scoped(store_closep) struct store *store = make_store(folder);
	struct event event = make_event(1, "x");
	char path[SCRATCH_SIZE];
	struct stat st;

	add(store, &event);
	snprintf(path, sizeof(path), "%s/events.db", folder);
	check(stat(path, &st) == 0 && (st.st_mode & 0777) == 0600);
	snprintf(path, sizeof(path), "%s/events.db-wal", folder);
	check(stat(path, &st) == 0 && (st.st_mode & 0777) == 0600);
	check(store_sync(store) == 0);
	check(store_size(store) > 4096);
}

static void readers_do_not_keep_the_wal_growing(void)
{
	const char *folder = make_folder();
	scoped(store_closep) struct store *store = make_store(folder);
	scoped(store_reader_closep) struct store_reader *reader = NULL;
	struct bytes batch = { 0 };
	char path[SCRATCH_SIZE];
	struct stat st;
	bool is_end;
	uint64_t seq = 1;

	for (int round = 0; round < 60; round++) {
		check(store_begin(store) == 0);
		for (int i = 0; i < 20000; i++) {
			struct event event = make_event(seq++, "some/path/that/stays/the/same");

			check(store_append(store, &event) == 0);
		}
		check(store_commit(store, seq - 1) == 0);
		if (!reader)
			check(store_reader_open(folder, NULL, &reader) == 0);
		check(store_reader_fetch(reader, seq - 300, UINT64_MAX, &batch, &is_end) == 0);
	}
	snprintf(path, sizeof(path), "%s/events.db-wal", folder);
	check(stat(path, &st) == 0 && st.st_size < 32 << 20);
	bytes_finish(&batch);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		unit(every_field_comes_back),
		unit(same_number_is_stored_once),
		unit(numbers_and_paths_stay_together),
		unit(the_last_numbers_are_not_given_by_chance),
		unit(a_path_without_a_free_number_is_an_error),
		unit(rolled_back_paths_are_not_remembered),
		unit(numbers_of_deleted_rows_do_not_come_back),
		unit(view_reads_like_the_event),
		unit(filters_let_through_what_they_say),
		unit(time_finds_its_seq),
		unit(other_databases_are_refused),
		unit(files_are_the_owners_alone),
		unit(readers_do_not_keep_the_wal_growing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
