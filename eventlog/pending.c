#include "eventlog/pending.h"

#include "eventlog/sql.h"

#include <errno.h>
#include <stdlib.h>

enum { PATHS_AN_EVENT = 2 };

/* The names of columns do not matter: they are taken by their order. */
static const char events_declaration[] =
	"CREATE TABLE pending_events (seq, time, op, path_id, who_id, ino, size, offset, length, mode, owner)";
static const char paths_declaration[] = "CREATE TABLE pending_paths (id, path)";

struct pending_table {
	sqlite3_vtab base;
	const struct pending *pending;
};

struct pending_cursor {
	sqlite3_vtab_cursor base;
	const struct pending *pending;
	unsigned at;
};

static struct pending_cursor *cursor_of(sqlite3_vtab_cursor *base)
{
	return (struct pending_cursor *)base;
}

static int connect_table(sqlite3 *db, const char *declaration, void *userdata, sqlite3_vtab **out)
{
	struct pending_table *table;
	int code = sqlite3_declare_vtab(db, declaration);

	if (code != SQLITE_OK)
		return code;
	table = calloc(1, sizeof(*table));
	if (!table)
		return SQLITE_NOMEM;
	table->pending = userdata;
	*out = &table->base;
	return SQLITE_OK;
}

static int connect_events(sqlite3 *db, void *userdata, int argc, const char *const *argv, sqlite3_vtab **out, char **error)
{
	return connect_table(db, events_declaration, userdata, out);
}

static int connect_paths(sqlite3 *db, void *userdata, int argc, const char *const *argv, sqlite3_vtab **out, char **error)
{
	return connect_table(db, paths_declaration, userdata, out);
}

static int disconnect_table(sqlite3_vtab *table)
{
	free(table);
	return SQLITE_OK;
}

static int plan(sqlite3_vtab *table, sqlite3_index_info *info)
{
	return SQLITE_OK;
}

static int open_cursor(sqlite3_vtab *table, sqlite3_vtab_cursor **out)
{
	struct pending_cursor *cursor = calloc(1, sizeof(*cursor));

	if (!cursor)
		return SQLITE_NOMEM;
	cursor->pending = ((struct pending_table *)table)->pending;
	*out = &cursor->base;
	return SQLITE_OK;
}

static int close_cursor(sqlite3_vtab_cursor *cursor)
{
	free(cursor);
	return SQLITE_OK;
}

static int rewind_cursor(sqlite3_vtab_cursor *cursor, int plan_number, const char *plan_text, int argc, sqlite3_value **argv)
{
	cursor_of(cursor)->at = 0;
	return SQLITE_OK;
}

static int next_row(sqlite3_vtab_cursor *cursor)
{
	cursor_of(cursor)->at++;
	return SQLITE_OK;
}

static int is_behind_events(sqlite3_vtab_cursor *cursor)
{
	return cursor_of(cursor)->at >= cursor_of(cursor)->pending->count;
}

static int is_behind_paths(sqlite3_vtab_cursor *cursor)
{
	return cursor_of(cursor)->at >= cursor_of(cursor)->pending->path_count;
}

static int get_event_column(sqlite3_vtab_cursor *cursor, sqlite3_context *context, int column)
{
	const struct pending_row *row = &cursor_of(cursor)->pending->rows[cursor_of(cursor)->at];

	if (row->has >> column & 1)
		sqlite3_result_int64(context, row->numbers[column]);
	return SQLITE_OK;
}

static int get_path_column(sqlite3_vtab_cursor *cursor, sqlite3_context *context, int column)
{
	const struct pending *pending = cursor_of(cursor)->pending;
	const struct pending_path *path = &pending->paths[cursor_of(cursor)->at];

	if (column == 0)
		sqlite3_result_int64(context, path->id);
	else if (path->length == 0)
		sqlite3_result_zeroblob(context, 0);
	else
		/* The statement has ended before the bytes move or go. */
		sqlite3_result_blob(context, pending->path_bytes.data + path->offset, path->length, SQLITE_STATIC);
	return SQLITE_OK;
}

static int get_rowid(sqlite3_vtab_cursor *cursor, sqlite3_int64 *out)
{
	*out = cursor_of(cursor)->at;
	return SQLITE_OK;
}

/* Without xCreate: they are there without having been made, and in no schema. */
static const sqlite3_module events_module = {
	.xConnect = connect_events,
	.xBestIndex = plan,
	.xDisconnect = disconnect_table,
	.xOpen = open_cursor,
	.xClose = close_cursor,
	.xFilter = rewind_cursor,
	.xNext = next_row,
	.xEof = is_behind_events,
	.xColumn = get_event_column,
	.xRowid = get_rowid,
};

static const sqlite3_module paths_module = {
	.xConnect = connect_paths,
	.xBestIndex = plan,
	.xDisconnect = disconnect_table,
	.xOpen = open_cursor,
	.xClose = close_cursor,
	.xFilter = rewind_cursor,
	.xNext = next_row,
	.xEof = is_behind_paths,
	.xColumn = get_path_column,
	.xRowid = get_rowid,
};

int pending_register(struct pending *pending, sqlite3 *db)
{
	int r = sql_errno(db, sqlite3_create_module(db, "pending_events", &events_module, pending));

	if (r < 0)
		return r;
	return sql_errno(db, sqlite3_create_module(db, "pending_paths", &paths_module, pending));
}

void pending_finish(struct pending *pending)
{
	bytes_finish(&pending->path_bytes);
}

struct pending_row *pending_add(struct pending *pending)
{
	struct pending_row *row = &pending->rows[pending->count++];

	row->has = 0;
	return row;
}

int pending_add_path(struct pending *pending, int64_t id, const void *path, size_t length)
{
	size_t offset = pending->path_bytes.size;
	int r;

	bytes_append(&pending->path_bytes, path, length);
	r = bytes_error(&pending->path_bytes);
	if (r == 0)
		pending->paths[pending->path_count++] = (struct pending_path){ id, offset, length };
	return r;
}

bool pending_is_full(const struct pending *pending)
{
	return pending->count == PENDING_MAX || pending->path_count > PENDING_MAX - PATHS_AN_EVENT;
}

void pending_clear(struct pending *pending)
{
	pending->count = 0;
	pending->path_count = 0;
	bytes_clear(&pending->path_bytes);
}
