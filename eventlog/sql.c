#include "eventlog/sql.h"

#include "base/scope.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { BUSY_MS = 1000 }; /* how long another process's write lock is waited for */

int sql_errno(sqlite3 *db, int code)
{
	int system = db ? sqlite3_system_errno(db) : 0;

	switch (code & 0xff) {
	case SQLITE_OK:
	case SQLITE_ROW:
	case SQLITE_DONE:
		return 0;
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return -EBUSY;
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return -EBADMSG;
	/* A sound database whose tables are not this program's: no damage, and nothing to set aside. */
	case SQLITE_ERROR:
		return -EPROTO;
	case SQLITE_READONLY:
		return -EROFS;
	case SQLITE_PERM:
	case SQLITE_AUTH:
		return -EACCES;
	case SQLITE_CANTOPEN:
	case SQLITE_IOERR:
		/* The file is shorter than it says. */
		if (db && sqlite3_extended_errcode(db) == SQLITE_IOERR_SHORT_READ)
			return -EBADMSG;
		return system > 0 ? -system : -EIO;
	default:
		return -EIO;
	}
}

int sql_run(sqlite3_stmt *statement)
{
	int code = sqlite3_step(statement);
	int r = sql_errno(sqlite3_db_handle(statement), code);

	sqlite3_reset(statement);
	return r;
}

int sql_exec(sqlite3 *db, const char *sql)
{
	return sql_errno(db, sqlite3_exec(db, sql, NULL, NULL, NULL));
}

int sql_prepare(sqlite3 *db, const char *sql, sqlite3_stmt **out)
{
	return sql_errno(db, sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, out, NULL));
}

void sql_finalizep(sqlite3_stmt **statement)
{
	sqlite3_finalize(*statement);
}

int sql_select_number(sqlite3_stmt *statement, int64_t *out)
{
	int code = sqlite3_step(statement);
	int r = sql_errno(sqlite3_db_handle(statement), code);

	if (code == SQLITE_ROW)
		*out = sqlite3_column_int64(statement, 0);
	sqlite3_reset(statement);
	return r;
}

int sql_query_number(sqlite3 *db, const char *sql, int64_t *out)
{
	scoped(sql_finalizep) sqlite3_stmt *statement = NULL;
	int r = sql_prepare(db, sql, &statement);

	return r < 0 ? r : sql_select_number(statement, out);
}

/*
 * SQLite's own file system, but for one thing: a path is used as it is given. SQLite would replace every link in it by what that says at
 * this moment, and so look the folder up anew by name, where the daemon names it by its descriptor (/proc/self/fd/N). Of the file itself it follows
 * no link in any case.
 */
static sqlite3_vfs vfs;

static int keep_path(sqlite3_vfs *self, const char *path, int size, char *out)
{
	return snprintf(out, size, "%s", path) < size ? SQLITE_OK : SQLITE_CANTOPEN;
}

static void set_up(void)
{
	const sqlite3_vfs *usual;

	/* Nobody asks how much memory it has; counting takes a lock for each piece. */
	sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
	usual = sqlite3_vfs_find("unix");
	if (!usual)
		return;
	vfs = *usual;
	vfs.pNext = NULL;
	vfs.zName = "hrfs";
	vfs.xFullPathname = keep_path;
	sqlite3_vfs_register(&vfs, false);
}

int sql_open(const char *path, int flags, sqlite3 **out)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	int r;

	pthread_once(&once, set_up);
	r = sql_errno(NULL, sqlite3_open_v2(path, out, flags | SQLITE_OPEN_NOMUTEX, "hrfs"));
	if (r < 0)
		return *out ? sql_errno(*out, sqlite3_errcode(*out)) : r;
	sqlite3_busy_timeout(*out, BUSY_MS);
	return sql_exec(*out, "PRAGMA temp_store = MEMORY");
}

/* SQLite answers with the mode that it has then. */
int sql_set_wal(sqlite3 *db)
{
	scoped(sql_finalizep) sqlite3_stmt *statement = NULL;
	int r = sql_prepare(db, "PRAGMA journal_mode = WAL", &statement);
	int code;

	if (r < 0)
		return r;
	code = sqlite3_step(statement);
	if (code != SQLITE_ROW)
		return sql_errno(db, code);
	if (strcmp((const char *)sqlite3_column_text(statement, 0), "wal") != 0)
		return -EOPNOTSUPP;
	return 0;
}
