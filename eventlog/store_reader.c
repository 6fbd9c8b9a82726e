#include "eventlog/store_reader.h"

#include "base/bytes.h"
#include "base/scope.h"
#include "eventlog/eventlog.h"
#include "eventlog/schema.h"
#include "eventlog/sql.h"
#include "proto/event.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Of one store_reader_fetch(). */
enum {
	BATCH_ROWS = 256,
	BATCH_BYTES = 256 << 10,
};

struct store_reader {
	sqlite3 *db;
	char log_id[EVENTLOG_ID_SIZE];
	char *under; /* owned; NULL: all */
	char *comm;  /* owned; NULL: all */
	sqlite3_stmt *fetch;
	sqlite3_stmt *at;
	sqlite3_stmt *last;
};

/* What FETCH_EVENTS gives, in this order. */
enum field {
	FIELD_SEQ,
	FIELD_TIME,
	FIELD_OP,
	FIELD_ORIGIN,
	FIELD_UNCERTAIN,
	FIELD_PATH,
	FIELD_INO,
	FIELD_PID,
	FIELD_UID,
	FIELD_GID,
	FIELD_COMM,
	FIELD_SIZE,
	FIELD_OFFSET,
	FIELD_LENGTH,
	FIELD_MODE,
	FIELD_OWNER,
	FIELD_FLAGS,
	FIELD_TO,
	FIELD_NAME,
};

#define FETCH_EVENTS                                                                                                   \
	"SELECT e.seq, e.time, e.op, d.origin, d.uncertain, p.path, e.ino, w.pid, w.uid, w.gid, w.comm, "              \
	"e.size, e.offset, e.length, e.mode, e.owner, d.flags, t.path, d.name FROM events AS e "                       \
	"LEFT JOIN detail AS d ON d.seq = e.seq LEFT JOIN path AS p ON p.id = e.path_id "                              \
	"LEFT JOIN path AS t ON t.id = d.to_id LEFT JOIN who AS w ON w.id = e.who_id WHERE e.seq BETWEEN ?1 AND ?2"

/*
 * coalesce() keeps SQLite from turning the joins round: it would begin with the paths, and sort.
 * A path below X is between X/ and X0, the character after the slash.
 */
#define IS_UNDER(path)                                                                             \
	"coalesce(" path ", x'') = ?5 OR (coalesce(" path ", x'') >= ?6 AND coalesce(" path        \
	", x'') < ?7)"

void store_reader_close(struct store_reader *reader)
{
	if (!reader)
		return;
	sqlite3_finalize(reader->fetch);
	sqlite3_finalize(reader->at);
	sqlite3_finalize(reader->last);
	sqlite3_close(reader->db);
	free(reader->under);
	free(reader->comm);
	free(reader);
}

void store_reader_closep(struct store_reader **reader)
{
	store_reader_close(*reader);
}

/* The range of paths below reader->under ends before the character after the slash. */
static int bind_under(sqlite3_stmt *fetch, const char *under)
{
	char *from = sqlite3_mprintf("%s/", under);
	char *end = sqlite3_mprintf("%s0", under);

	if (!from || !end) {
		sqlite3_free(from);
		sqlite3_free(end);
		return -ENOMEM;
	}
	sqlite3_bind_blob(fetch, 5, under, strlen(under), SQLITE_STATIC);
	sqlite3_bind_blob(fetch, 6, from, strlen(from), sqlite3_free);
	sqlite3_bind_blob(fetch, 7, end, strlen(end), sqlite3_free);
	return 0;
}

static int prepare_fetch(struct store_reader *reader, const struct eventlog_filter *filter)
{
	char sql[2048];
	int r;

	snprintf(sql, sizeof(sql), "%s%s%s%s%s ORDER BY e.seq", FETCH_EVENTS,
		 filter && filter->ops ? " AND (?3 >> e.op) & 1" : "",
		 filter && filter->pid >= 0 ? " AND coalesce(w.pid, -1) = ?4" : "",
		 reader->comm ? " AND coalesce(w.comm, x'') = ?8" : "",
		 reader->under
			 ? " AND (" IS_UNDER("p.path") " OR (e.op IN (?9, ?10) AND (" IS_UNDER(
				   "t.path") ")))"
			 : "");
	r = sql_prepare(reader->db, sql, &reader->fetch);
	if (r < 0 || !filter)
		return r;
	sqlite3_bind_int64(reader->fetch, 3, filter->ops);
	sqlite3_bind_int64(reader->fetch, 4, filter->pid);
	if (reader->comm)
		sqlite3_bind_blob(reader->fetch, 8, reader->comm, strlen(reader->comm),
				  SQLITE_STATIC);
	sqlite3_bind_int64(reader->fetch, 9, EVENT_RENAME);
	sqlite3_bind_int64(reader->fetch, 10, EVENT_LINK);
	return reader->under ? bind_under(reader->fetch, reader->under) : 0;
}

static int copy_filter(struct store_reader *reader, const struct eventlog_filter *filter)
{
	if (filter && filter->under && filter->under[0]) {
		reader->under = strdup(filter->under);
		if (!reader->under)
			return -ENOMEM;
	}
	if (filter && filter->comm) {
		reader->comm = strdup(filter->comm);
		if (!reader->comm)
			return -ENOMEM;
	}
	return 0;
}

static int fill_reader(struct store_reader *reader, const char *name, int flags,
		       const struct eventlog_filter *filter)
{
	int r = sql_open(name, SQLITE_OPEN_READONLY | flags, &reader->db);

	if (r < 0)
		return r;
	r = schema_check(reader->db);
	if (r <= 0)
		return r < 0 ? r : -ENOENT;
	r = schema_log_id(reader->db, reader->log_id);
	if (r < 0)
		return r;
	r = copy_filter(reader, filter);
	if (r < 0)
		return r;
	r = prepare_fetch(reader, filter);
	if (r < 0)
		return r;
	r = sql_prepare(reader->db, "SELECT time, seq FROM events WHERE seq >= ? ORDER BY seq LIMIT 1",
		    &reader->at);
	if (r < 0)
		return r;
	return sql_prepare(reader->db,
		       "SELECT max(coalesce((SELECT max(seq) FROM events), 0),"
		       " coalesce((SELECT value FROM meta WHERE key = 'last_seq'), 0))",
		       &reader->last);
}

static int open_reader(const char *name, int flags, const struct eventlog_filter *filter, struct store_reader **out)
{
	scoped(store_reader_closep) struct store_reader *reader = calloc(1, sizeof(*reader));
	int r;

	if (!reader)
		return -ENOMEM;
	r = fill_reader(reader, name, flags, filter);
	if (r < 0)
		return r;
	*out = take(reader);
	return 0;
}

static bool has_wal(const char *path)
{
	scoped(freep) char *wal_path = NULL;
	struct stat st;

	if (asprintf(&wal_path, "%s-wal", path) < 0) {
		wal_path = NULL;
		return true;
	}
	return stat(wal_path, &st) < 0 ? errno != ENOENT : st.st_size > 0;
}

/* As an URI that says that nobody changes the file. What has a meaning in one is escaped. */
static char *make_immutable_uri(const char *path)
{
	char *uri = NULL;
	size_t size = 0;
	FILE *stream = open_memstream(&uri, &size);

	if (!stream)
		return NULL;
	fputs("file:", stream);
	for (; *path; path++)
		fprintf(stream, strchr("%?#", *path) ? "%%%02x" : "%c", (unsigned char)*path);
	fputs("?immutable=1", stream);
	if (fclose(stream) == 0)
		return uri;
	free(uri);
	return NULL;
}

/*
 * Where nothing can be made beside it, as in a snapshot, SQLite opens no database with a WAL: it wants to make the -shm. It reads one whose
 * WAL is empty or gone if it is told that nobody can change it.
 */
static int open_where_nothing_can_be_made(const char *path, const struct eventlog_filter *filter,
					  struct store_reader **out)
{
	scoped(freep) char *uri = NULL;

	if (has_wal(path))
		return -EROFS;
	uri = make_immutable_uri(path);
	return uri ? open_reader(uri, SQLITE_OPEN_URI, filter, out) : -ENOMEM;
}

static bool may_be_for_want_of_files(int error)
{
	return error == -ENOENT || error == -EROFS || error == -EACCES;
}

int store_reader_open(const char *state_path, const struct eventlog_filter *filter,
		      struct store_reader **out)
{
	scoped(freep) char *path = NULL;
	struct stat st;
	int r;

	if (asprintf(&path, "%s/events.db", state_path) < 0) {
		path = NULL;
		return -ENOMEM;
	}
	if (stat(path, &st) < 0)
		return -errno;
	/* SQLite would wait for the other end of a FIFO. */
	if (!S_ISREG(st.st_mode))
		return -EBADMSG;
	r = open_reader(path, 0, filter, out);
	if (may_be_for_want_of_files(r) && faccessat(AT_FDCWD, state_path, W_OK, AT_EACCESS) < 0)
		r = open_where_nothing_can_be_made(path, filter, out);
	return r;
}

int store_probe(const char *state_path)
{
	struct store_reader *reader = NULL;
	int r = store_reader_open(state_path, NULL, &reader);

	store_reader_close(reader);
	return r;
}

const char *store_reader_log_id(const struct store_reader *reader)
{
	return reader->log_id;
}

int store_reader_last_seq(struct store_reader *reader, uint64_t *out_seq)
{
	int64_t seq = 0;
	int r = sql_select_number(reader->last, &seq);

	if (r == 0)
		*out_seq = seq;
	return r;
}

/*
 * Time grows with seq, so it is found by halving. Rows may be missing: each probe takes the next
 * that there is.
 */
int store_reader_find_time(struct store_reader *reader, int64_t time_ns, uint64_t *out_seq)
{
	uint64_t low = 1;
	uint64_t high = 0;
	int r = store_reader_last_seq(reader, &high);

	if (r < 0)
		return r;
	high++;
	while (low < high) {
		uint64_t middle = low + (high - low) / 2;
		int64_t time = INT64_MAX;

		sqlite3_bind_int64(reader->at, 1, middle);
		r = sql_select_number(reader->at, &time);
		if (r < 0)
			return r;
		if (time < time_ns)
			low = middle + 1;
		else
			high = middle;
	}
	*out_seq = low;
	return 0;
}

static void read_string(sqlite3_stmt *row, enum field field, size_t max, const char **out,
			uint16_t *out_length)
{
	size_t size = sqlite3_column_bytes(row, field);

	*out = sqlite3_column_blob(row, field);
	*out_length = size < max ? size : max;
}

static bool is_set(sqlite3_stmt *row, enum field field)
{
	return sqlite3_column_type(row, field) != SQLITE_NULL;
}

static void read_numbers(sqlite3_stmt *row, struct event *out)
{
	uint64_t owner = sqlite3_column_int64(row, FIELD_OWNER);

	*out = (struct event){
		.seq = sqlite3_column_int64(row, FIELD_SEQ),
		.time_ns = sqlite3_column_int64(row, FIELD_TIME),
		.op = sqlite3_column_int64(row, FIELD_OP),
		.origin = sqlite3_column_int64(row, FIELD_ORIGIN),
		.offset = sqlite3_column_int64(row, FIELD_OFFSET),
		.length = sqlite3_column_int64(row, FIELD_LENGTH),
		.size = sqlite3_column_int64(row, FIELD_SIZE),
		.ino = sqlite3_column_int64(row, FIELD_INO),
		.mode = sqlite3_column_int64(row, FIELD_MODE),
		.flags = sqlite3_column_int64(row, FIELD_FLAGS),
		.owner_uid = owner >> 32,
		.owner_gid = owner,
		.pid = sqlite3_column_int64(row, FIELD_PID),
		.uid = sqlite3_column_int64(row, FIELD_UID),
		.gid = sqlite3_column_int64(row, FIELD_GID),
	};
	out->has = (is_set(row, FIELD_OFFSET) ? EVENT_HAS_OFFSET : 0) |
		   (is_set(row, FIELD_LENGTH) ? EVENT_HAS_LENGTH : 0) |
		   (is_set(row, FIELD_SIZE) ? EVENT_HAS_SIZE : 0) |
		   (is_set(row, FIELD_INO) ? EVENT_HAS_INO : 0) |
		   (is_set(row, FIELD_MODE) ? EVENT_HAS_MODE : 0) |
		   (is_set(row, FIELD_OWNER) ? EVENT_HAS_OWNER : 0) |
		   (is_set(row, FIELD_FLAGS) ? EVENT_HAS_FLAGS : 0) |
		   (is_set(row, FIELD_PID) ? EVENT_HAS_WHO : 0) |
		   (sqlite3_column_int64(row, FIELD_UNCERTAIN) ? EVENT_UNCERTAIN : 0);
}

/* A row may have been edited by hand: what event_encode() takes for granted is looked at. */
static int append_row(sqlite3_stmt *row, struct bytes *batch)
{
	struct event event;
	size_t size;
	int r;

	read_numbers(row, &event);
	if (event.op == 0 || event.op >= EVENT_OP_END || event.origin >= EVENT_ORIGIN_END)
		return -EBADMSG;
	read_string(row, FIELD_PATH, EVENT_PATH_MAX, &event.path, &event.path_length);
	read_string(row, FIELD_TO, EVENT_PATH_MAX, &event.to, &event.to_length);
	read_string(row, FIELD_NAME, EVENT_NAME_MAX, &event.name, &event.name_length);
	read_string(row, FIELD_COMM, EVENT_COMM_MAX, &event.comm, &event.comm_length);
	size = event_encoded_size(&event);
	r = bytes_reserve(batch, size);
	if (r < 0)
		return r;
	event_encode(&event, batch->data + batch->size);
	batch->size += size;
	return 0;
}

int store_reader_fetch(struct store_reader *reader, uint64_t seq, uint64_t until,
		       struct bytes *out_batch, bool *out_end)
{
	int code = SQLITE_ROW;
	int r = 0;

	bytes_clear(out_batch);
	sqlite3_bind_int64(reader->fetch, 1, seq);
	sqlite3_bind_int64(reader->fetch, 2, until < INT64_MAX ? until : INT64_MAX);
	for (int rows = 0; r == 0 && rows < BATCH_ROWS && out_batch->size < BATCH_BYTES; rows++) {
		code = sqlite3_step(reader->fetch);
		if (code != SQLITE_ROW)
			break;
		r = append_row(reader->fetch, out_batch);
	}
	if (r == 0)
		r = sql_errno(reader->db, code);
	/* An open read would keep the WAL from being reused. */
	sqlite3_reset(reader->fetch);
	if (r == 0)
		*out_end = code == SQLITE_DONE;
	return r;
}
