/*
 * Sql: what is said to SQLite again and again, with errnos for its codes.
 *
 * For those who have a database open: store.c, store_reader.c, tree.c.
 */
#pragma once

#include <sqlite3.h>
#include <stdint.h>

/** The negative errno of a result @code of @db (NULL: none was opened); 0 for a success. */
int sql_errno(sqlite3 *db, int code);

/** Open @path with SQLite's @flags. On failure *@out may be a handle all the same, to be closed. Returns 0 or a negative errno. */
int sql_open(const char *path, int flags, sqlite3 **out);

/** Run the statements of @sql for their effect. Returns 0 or a negative errno. */
int sql_exec(sqlite3 *db, const char *sql);

/** Prepare a statement that is used often. Returns 0 or a negative errno. */
int sql_prepare(sqlite3 *db, const char *sql, sqlite3_stmt **out);

/** Cleanup for scoped(). */
void sql_finalizep(sqlite3_stmt **statement);

/** Run @statement for its effect and reset it. Returns 0 or a negative errno. */
int sql_run(sqlite3_stmt *statement);

/** The number that @statement selects, which it resets; *@out is untouched when there is no row. Returns 0 or a negative errno. */
int sql_select_number(sqlite3_stmt *statement, int64_t *out);

/** The number that @sql selects, once. Like sql_select_number(). */
int sql_query_number(sqlite3 *db, const char *sql, int64_t *out);

/** Have the database in WAL mode. Returns 0, -EOPNOTSUPP, or another negative errno. */
int sql_set_wal(sqlite3 *db);
