#include "eventlog/pending.h"

#include "eventlog/sql.h"

#include <errno.h>
#include <stdlib.h>

/* The names of columns do not matter: they are taken by their order. */
static const char declaration[] = "CREATE TABLE pending (seq, time, op, path_id, who_id, ino, size, offset, length, mode, owner)";

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

static int connect_table(sqlite3 *db, void *userdata, int argc, const char *const *argv, sqlite3_vtab **out, char **error)
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

static int is_at_end(sqlite3_vtab_cursor *cursor)
{
	return cursor_of(cursor)->at >= cursor_of(cursor)->pending->count;
}

static int get_column(sqlite3_vtab_cursor *cursor, sqlite3_context *context, int column)
{
	const struct pending_row *row = &cursor_of(cursor)->pending->rows[cursor_of(cursor)->at];

	if (row->has >> column & 1)
		sqlite3_result_int64(context, row->numbers[column]);
	return SQLITE_OK;
}

static int get_rowid(sqlite3_vtab_cursor *cursor, sqlite3_int64 *out)
{
	*out = cursor_of(cursor)->at;
	return SQLITE_OK;
}

/* Without xCreate: it is there without having been made, and in no schema. */
static const sqlite3_module module = {
	.xConnect = connect_table,
	.xBestIndex = plan,
	.xDisconnect = disconnect_table,
	.xOpen = open_cursor,
	.xClose = close_cursor,
	.xFilter = rewind_cursor,
	.xNext = next_row,
	.xEof = is_at_end,
	.xColumn = get_column,
	.xRowid = get_rowid,
};

int pending_register(struct pending *pending, sqlite3 *db)
{
	return sql_errno(db, sqlite3_create_module(db, "pending", &module, pending));
}

struct pending_row *pending_add(struct pending *pending)
{
	struct pending_row *row = &pending->rows[pending->count++];

	row->has = 0;
	return row;
}

bool pending_is_full(const struct pending *pending)
{
	return pending->count == PENDING_MAX;
}

void pending_clear(struct pending *pending)
{
	pending->count = 0;
}
