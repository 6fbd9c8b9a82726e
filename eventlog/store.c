/*
 * Store: the event log in SQLite.
 *
 * WAL, so that readers and the writer never wait for each other. synchronous = NORMAL: a
 * checkpoint syncs the WAL before and the database after, so a power loss cannot damage it; only
 * transactions that were never synced may be missing.
 *
 * A row takes few bytes because small integers do, absent fields are NULL, paths and processes are
 * interned, and what few events have is in a table of its own. The number of the last event is kept in meta in the same transaction, so
 * that deleting rows never makes a number come back.
 */
#include "eventlog/store.h"

#include "base/fdutil.h"
#include "base/scope.h"
#include "eventlog/eventlog.h"
#include "eventlog/intern.h"
#include "eventlog/pending.h"
#include "eventlog/schema.h"
#include "eventlog/sql.h"
#include "proto/event.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	PATHS_MAX = 1 << 16, /* interned paths kept in memory */
	WHO_MAX = 1 << 12,   /* and processes */
	PAGE_BYTES = 4096,
	FRAME_BYTES = PAGE_BYTES + 24, /* of a page in the WAL */
	ROW_PAGES = 6,   /* of a table to whose end a row is added, that it can touch */
};

/* Pages of 4 KiB; the WAL is copied back when it has 16 MiB. */
static const char writer_pragmas[] = "PRAGMA synchronous = NORMAL;"
				     "PRAGMA wal_autocheckpoint = 4096;"
				     "PRAGMA journal_size_limit = 33554432;"
				     "PRAGMA cache_size = -16384;";

#define COLUMNS_BUT_SEQ "time, op, path_id, who_id, ino, size, offset, length, mode, owner"

struct store {
	sqlite3 *db;
	char *path;     /* owned */
	char *wal_path; /* owned */
	int wal_fd;     /* owned: our own, so that each error of writing it is told to us as well */
	char log_id[EVENTLOG_ID_SIZE];
	bool is_new;
	uint64_t last_seq;
	uint64_t quota; /* bytes; 0: none */
	uint64_t bound; /* with a quota: bytes that the files have at the most once this transaction is in both */
	struct intern *paths;
	struct intern *who;
	struct pending pending; /* of this transaction, and not in the tables yet */
	int64_t last_row;       /* in events, and */
	int64_t last_path_id;   /* in path; both of this transaction */

	sqlite3_stmt *begin;
	sqlite3_stmt *commit;
	sqlite3_stmt *set_last;
	sqlite3_stmt *insert_events;
	sqlite3_stmt *insert_next_events; /* whose seq SQLite counts on from the last row */
	sqlite3_stmt *insert_paths;
	sqlite3_stmt *insert_who;
	sqlite3_stmt *insert_detail;
	sqlite3_stmt *select_oldest;
	sqlite3_stmt *select_last_row;
	sqlite3_stmt *select_last_path;
};

void store_close(struct store *store)
{
	if (!store)
		return;
	sqlite3_finalize(store->begin);
	sqlite3_finalize(store->commit);
	sqlite3_finalize(store->set_last);
	sqlite3_finalize(store->insert_events);
	sqlite3_finalize(store->insert_next_events);
	sqlite3_finalize(store->insert_paths);
	sqlite3_finalize(store->insert_who);
	sqlite3_finalize(store->insert_detail);
	sqlite3_finalize(store->select_oldest);
	sqlite3_finalize(store->select_last_row);
	sqlite3_finalize(store->select_last_path);
	sqlite3_close(store->db);
	pending_finish(&store->pending);
	intern_destroy(store->paths);
	intern_destroy(store->who);
	closep(&store->wal_fd);
	free(store->path);
	free(store->wal_path);
	free(store);
}

void store_closep(struct store **store)
{
	store_close(*store);
}

/* SQLite would make it 0644 less the umask; the WAL takes over the mode of the database. */
static int create_file(const char *path)
{
	int fd = fd_open_own(AT_FDCWD, path, O_RDWR | O_CREAT);

	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

static int open_schema(struct store *store, const char *log_id)
{
	int r = schema_check(store->db);

	if (r < 0)
		return r;
	store->is_new = r == 0;
	r = sql_set_wal(store->db);
	if (r < 0)
		return r;
	r = sql_exec(store->db, writer_pragmas);
	if (r < 0)
		return r;
	if (store->is_new)
		r = schema_create(store->db, log_id);
	if (r < 0)
		return r;
	r = schema_update_names(store->db);
	if (r < 0)
		return r;
	return schema_log_id(store->db, store->log_id);
}

static int prepare_writer(struct store *store)
{
	const struct {
		const char *sql;
		sqlite3_stmt **out;
	} statements[] = {
		{ "BEGIN IMMEDIATE", &store->begin },
		{ "COMMIT", &store->commit },
		{ "UPDATE meta SET value = ? WHERE key = 'last_seq'", &store->set_last },
		{ "INSERT OR IGNORE INTO events (" COLUMNS_BUT_SEQ ", seq) SELECT " COLUMNS_BUT_SEQ ", seq FROM pending_events",
		  &store->insert_events },
		{ "INSERT OR ROLLBACK INTO events (" COLUMNS_BUT_SEQ ") SELECT " COLUMNS_BUT_SEQ " FROM pending_events",
		  &store->insert_next_events },
		{ "INSERT OR ROLLBACK INTO path SELECT * FROM pending_paths", &store->insert_paths },
		{ "INSERT INTO who (pid, uid, gid, comm) VALUES (?, ?, ?, ?)", &store->insert_who },
		{ "INSERT OR IGNORE INTO detail VALUES (?, ?, ?, ?, ?, ?)", &store->insert_detail },
		{ "SELECT min(seq) FROM events", &store->select_oldest },
		{ "SELECT max(seq) FROM events", &store->select_last_row },
		{ "SELECT max(id) FROM path", &store->select_last_path },
	};

	for (size_t i = 0; i < sizeof(statements) / sizeof(statements[0]); i++) {
		int r = sql_prepare(store->db, statements[i].sql, statements[i].out);

		if (r < 0)
			return r;
	}
	return 0;
}

/* A database whose meta was lost or edited still has its rows. */
static int read_last_seq(struct store *store)
{
	int64_t meta = 0;
	int64_t rows = 0;
	int r = sql_query_number(store->db, "SELECT value FROM meta WHERE key = 'last_seq'", &meta);

	if (r < 0)
		return r;
	r = sql_select_number(store->select_last_row, &rows);
	if (r < 0)
		return r;
	store->last_seq = meta > rows ? meta : rows;
	return 0;
}

/* The WAL of a database that turns out to be damaged is not copied into it by closing it. */
static void keep_as_found(sqlite3 *db, bool is_kept)
{
	sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, (int)is_kept, NULL);
}

/*
 * SQLite has made the WAL by now, and keeps it until the last connection is closed. Closing our descriptor drops no lock: SQLite locks the
 * database and its -shm, not the WAL.
 */
static int open_wal(struct store *store)
{
	store->wal_fd = open(store->wal_path, O_RDWR | O_CLOEXEC);
	return store->wal_fd < 0 ? -errno : 0;
}

static int open_store(struct store *store, const char *state_path, const char *log_id)
{
	int r;

	if (asprintf(&store->path, "%s/events.db", state_path) < 0) {
		store->path = NULL;
		return -ENOMEM;
	}
	if (asprintf(&store->wal_path, "%s-wal", store->path) < 0) {
		store->wal_path = NULL;
		return -ENOMEM;
	}
	r = intern_create(PATHS_MAX, &store->paths);
	if (r < 0)
		return r;
	r = intern_create(WHO_MAX, &store->who);
	if (r < 0)
		return r;
	r = create_file(store->path);
	if (r < 0)
		return r;
	r = sql_open(store->path, SQLITE_OPEN_READWRITE, &store->db);
	if (r < 0)
		return r;
	keep_as_found(store->db, true);
	r = open_schema(store, log_id);
	if (r < 0)
		return r;
	r = pending_register(&store->pending, store->db);
	if (r < 0)
		return r;
	r = prepare_writer(store);
	if (r < 0)
		return r;
	r = read_last_seq(store);
	if (r == 0)
		r = open_wal(store);
	if (r == 0)
		keep_as_found(store->db, false);
	return r;
}

int store_open(const char *state_path, const char *log_id, struct store **out)
{
	scoped(store_closep) struct store *store = calloc(1, sizeof(*store));
	int r;

	if (!store)
		return -ENOMEM;
	store->wal_fd = -1;
	r = open_store(store, state_path, log_id);
	if (r < 0)
		return r;
	*out = take(store);
	return 0;
}

bool store_is_new(const struct store *store)
{
	return store->is_new;
}

const char *store_log_id(const struct store *store)
{
	return store->log_id;
}

uint64_t store_last_seq(const struct store *store)
{
	return store->last_seq;
}

int store_last_time(struct store *store, int64_t *out_ns)
{
	*out_ns = 0;
	return sql_query_number(store->db, "SELECT time FROM events ORDER BY seq DESC LIMIT 1", out_ns);
}

int store_oldest_seq(struct store *store, uint64_t *out_seq)
{
	int64_t seq = 0;
	int r = sql_select_number(store->select_oldest, &seq);

	if (r == 0)
		*out_seq = seq;
	return r;
}

void store_set_quota(struct store *store, uint64_t bytes)
{
	store->quota = bytes;
}

bool store_has_quota(const struct store *store)
{
	return store->quota > 0;
}

int store_shrink(struct store *store)
{
	return sql_exec(store->db, "PRAGMA wal_checkpoint(TRUNCATE)");
}

/* The database grows to all of its pages when the WAL is copied back. */
static int measure(struct store *store)
{
	struct stat wal = { 0 };
	int64_t pages = 0;
	int r = sql_query_number(store->db, "PRAGMA page_count", &pages);

	if (r < 0)
		return r;
	if (stat(store->wal_path, &wal) < 0 && errno != ENOENT)
		return -errno;
	store->bound = pages * PAGE_BYTES + wal.st_size;
	return 0;
}

/* Each page that an event touches may be new, and is written to the WAL and to the database. */
static uint64_t largest_cost(const struct event *event)
{
	/* Of events, detail, who, and of path twice. */
	uint64_t pages = 5 * ROW_PAGES;

	pages += (event->path_length + event->to_length) / (PAGE_BYTES / 2) + 2;
	return pages * (FRAME_BYTES + PAGE_BYTES);
}

static bool is_within_quota(struct store *store, const struct event *event)
{
	if (!store->quota)
		return true;
	store->bound += largest_cost(event);
	return store->bound <= store->quota;
}

/* SQLite would go on with a file that has no name any more. */
static bool has_moved(struct store *store)
{
	int moved = 0;

	return sqlite3_file_control(store->db, "main", SQLITE_FCNTL_HAS_MOVED, &moved) == SQLITE_OK && moved;
}

int store_begin(struct store *store)
{
	int r;

	if (has_moved(store))
		return -ENOENT;
	r = sql_run(store->begin);
	/* Asked each time: nobody keeps another program from writing between two transactions. */
	if (r == 0)
		r = sql_select_number(store->select_last_row, &store->last_row);
	if (r == 0)
		r = sql_select_number(store->select_last_path, &store->last_path_id);
	if (r == 0 && store->quota)
		r = measure(store);
	return r;
}

/* The id of a path: from memory, or a new row. */
static int get_path_id(struct store *store, const char *path, size_t length, int64_t *out)
{
	int r;

	if (!path)
		path = "";
	*out = intern_get(store->paths, path, length);
	if (*out)
		return 0;
	if (store->last_path_id == INT64_MAX)
		return -EBADMSG;
	r = pending_add_path(&store->pending, store->last_path_id + 1, path, length);
	if (r < 0)
		return r;
	*out = ++store->last_path_id;
	intern_put(store->paths, path, length, *out);
	return 0;
}

/* The id of who did it, in the same way. */
static int get_who_id(struct store *store, const struct event *event, int64_t *out)
{
	struct {
		uint32_t pid, uid, gid;
		char comm[EVENT_COMM_MAX];
	} who = { .pid = event->pid, .uid = event->uid, .gid = event->gid };
	size_t size = offsetof(typeof(who), comm) + event->comm_length;
	int r;

	if (event->comm_length > 0)
		memcpy(who.comm, event->comm, event->comm_length);
	*out = intern_get(store->who, &who, size);
	if (*out)
		return 0;
	sqlite3_bind_int64(store->insert_who, 1, event->pid);
	sqlite3_bind_int64(store->insert_who, 2, event->uid);
	sqlite3_bind_int64(store->insert_who, 3, event->gid);
	if (event->comm_length > 0)
		sqlite3_bind_blob(store->insert_who, 4, event->comm, event->comm_length, SQLITE_STATIC);
	else
		sqlite3_bind_null(store->insert_who, 4);
	r = sql_run(store->insert_who);
	if (r < 0)
		return r;
	*out = sqlite3_last_insert_rowid(store->db);
	intern_put(store->who, &who, size, *out);
	return 0;
}

static void set_numbers(struct pending_row *row, const struct event *event)
{
	const struct {
		uint16_t field;
		uint16_t column;
		int64_t value;
	} numbers[] = {
		{ EVENT_HAS_INO, COLUMN_INO, event->ino },
		{ EVENT_HAS_SIZE, COLUMN_SIZE, event->size },
		{ EVENT_HAS_OFFSET, COLUMN_OFFSET, event->offset },
		{ EVENT_HAS_LENGTH, COLUMN_LENGTH, event->length },
		{ EVENT_HAS_MODE, COLUMN_MODE, event->mode },
		{ EVENT_HAS_OWNER, COLUMN_OWNER, (uint64_t)event->owner_uid << 32 | event->owner_gid },
	};

	pending_set(row, COLUMN_SEQ, event->seq);
	pending_set(row, COLUMN_TIME, event->time_ns);
	pending_set(row, COLUMN_OP, event->op);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		if (event->has & numbers[i].field)
			pending_set(row, numbers[i].column, numbers[i].value);
}

static int set_row(struct store *store, struct pending_row *row, const struct event *event)
{
	int64_t id = 0;
	int r;

	set_numbers(row, event);
	r = get_path_id(store, event->path, event->path_length, &id);
	if (r < 0)
		return r;
	pending_set(row, COLUMN_PATH, id);
	if (!(event->has & EVENT_HAS_WHO))
		return 0;
	r = get_who_id(store, event, &id);
	if (r == 0)
		pending_set(row, COLUMN_WHO, id);
	return r;
}

static bool has_detail(const struct event *event)
{
	return event->origin != EVENT_VFS || event->has & (EVENT_UNCERTAIN | EVENT_HAS_FLAGS) || event->to_length > 0 ||
	       event->name_length > 0;
}

static int insert_detail(struct store *store, const struct event *event)
{
	sqlite3_stmt *insert = store->insert_detail;
	int64_t to_id = 0;
	int r;

	if (event->to_length > 0) {
		r = get_path_id(store, event->to, event->to_length, &to_id);
		if (r < 0)
			return r;
	}
	/* What is not bound is NULL. */
	sqlite3_clear_bindings(insert);
	sqlite3_bind_int64(insert, 1, event->seq);
	sqlite3_bind_int64(insert, 2, event->origin);
	sqlite3_bind_int64(insert, 3, !!(event->has & EVENT_UNCERTAIN));
	if (event->has & EVENT_HAS_FLAGS)
		sqlite3_bind_int64(insert, 4, event->flags);
	if (event->to_length > 0)
		sqlite3_bind_int64(insert, 5, to_id);
	if (event->name_length > 0)
		sqlite3_bind_blob(insert, 6, event->name, event->name_length, SQLITE_STATIC);
	return sql_run(insert);
}

/*
 * Whether the pending events are the next ones, without a hole. Then SQLite can count: looking for the place of each seq costs a
 * seventh of the time of the drain.
 */
static bool is_next(const struct store *store)
{
	uint64_t expected = (uint64_t)store->last_row + 1;

	/* Where numbers end SQLite would take any that is free. */
	if (expected + store->pending.count > INT64_MAX)
		return false;
	for (unsigned i = 0; i < store->pending.count; i++)
		if ((uint64_t)store->pending.rows[i].numbers[COLUMN_SEQ] != expected++)
			return false;
	return true;
}

static int insert_events(struct store *store)
{
	int r = sql_run(is_next(store) ? store->insert_next_events : store->insert_events);

	for (unsigned i = 0; i < store->pending.count; i++)
		if (store->pending.rows[i].numbers[COLUMN_SEQ] > store->last_row)
			store->last_row = store->pending.rows[i].numbers[COLUMN_SEQ];
	return r;
}

static int insert_pending(struct store *store)
{
	int r = store->pending.path_count > 0 ? sql_run(store->insert_paths) : 0;

	if (r == 0 && store->pending.count > 0)
		r = insert_events(store);
	pending_clear(&store->pending);
	return r;
}

int store_append(struct store *store, const struct event *event)
{
	int r;

	if (!is_within_quota(store, event))
		return STORE_QUOTA;
	r = set_row(store, pending_add(&store->pending), event);
	if (r == 0 && has_detail(event))
		r = insert_detail(store, event);
	if (r < 0)
		return r;
	return pending_is_full(&store->pending) ? insert_pending(store) : 0;
}

int store_commit(struct store *store, uint64_t last_seq)
{
	int r;

	r = insert_pending(store);
	if (r < 0)
		return r;
	sqlite3_bind_int64(store->set_last, 1, last_seq);
	r = sql_run(store->set_last);
	if (r < 0)
		return r;
	r = sql_run(store->commit);
	if (r < 0)
		return r;
	store->last_seq = last_seq;
	return 0;
}

void store_rollback(struct store *store)
{
	/* A full disk makes SQLite roll back by itself. */
	if (!sqlite3_get_autocommit(store->db))
		sql_exec(store->db, "ROLLBACK");
	pending_clear(&store->pending);
	intern_clear(store->paths);
	intern_clear(store->who);
}

int store_sync(const struct store *store)
{
	return fdatasync(store->wal_fd) < 0 ? -errno : 0;
}

/* A WAL whose end is lost would, after a power loss, put old pages in front of newer ones of the database: so its end at 0 is synced, too. */
int store_empty_wal(struct store *store)
{
	int code = sqlite3_wal_checkpoint_v2(store->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);

	return code == SQLITE_OK ? store_sync(store) : sql_errno(store->db, code);
}

uint64_t store_size(const struct store *store)
{
	struct stat db = { 0 };
	struct stat wal = { 0 };

	if (stat(store->path, &db) < 0)
		return 0;
	if (stat(store->wal_path, &wal) < 0)
		return db.st_size;
	return db.st_size + wal.st_size;
}
