#include "eventlog/schema.h"

#include "base/scope.h"
#include "proto/event.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static const char schema_sql[] =
#include "eventlog/schema.sql.inc"
	;

int schema_log_id(sqlite3 *db, char out_log_id[EVENTLOG_ID_SIZE])
{
	scoped(sql_finalizep) sqlite3_stmt *statement = NULL;
	int r = sql_prepare(db, "SELECT value FROM meta WHERE key = 'log_id'", &statement);
	int code;

	if (r < 0)
		return r;
	code = sqlite3_step(statement);
	if (code == SQLITE_ROW && sqlite3_column_bytes(statement, 0) == EVENTLOG_ID_SIZE - 1) {
		memcpy(out_log_id, sqlite3_column_text(statement, 0), EVENTLOG_ID_SIZE);
		return 0;
	}
	r = sql_errno(db, code);
	return r < 0 ? r : -EBADMSG;
}

int schema_check(sqlite3 *db)
{
	int64_t version = 0;
	int64_t tables = 0;
	int r = sql_query_number(db, "PRAGMA user_version", &version);

	if (r < 0)
		return r;
	r = sql_query_number(db, "SELECT count(*) FROM sqlite_schema", &tables);
	if (r < 0)
		return r;
	if (tables == 0)
		return 0;
	/* Somebody else's database has version 0 as a rule. */
	if (version == 0)
		return -EBADMSG;
	return version == SCHEMA_VERSION ? 1 : -EPROTO;
}

static int write_names(sqlite3 *db, const char *sql, const char *(*name_of)(unsigned),
		       unsigned first, unsigned end)
{
	scoped(sql_finalizep) sqlite3_stmt *statement = NULL;
	int r = sql_prepare(db, sql, &statement);

	for (unsigned i = first; r == 0 && i < end; i++) {
		sqlite3_bind_int(statement, 1, i);
		sqlite3_bind_text(statement, 2, name_of(i), -1, SQLITE_STATIC);
		r = sql_run(statement);
	}
	return r;
}

static int write_meta(sqlite3 *db, const char *log_id)
{
	scoped(sql_finalizep) sqlite3_stmt *statement = NULL;
	struct timespec now;
	int r = sql_prepare(db,
			"INSERT INTO meta VALUES ('log_id', ?1), ('created', ?2), ('last_seq', 0)",
			&statement);

	if (r < 0)
		return r;
	clock_gettime(CLOCK_REALTIME, &now);
	sqlite3_bind_text(statement, 1, log_id, -1, SQLITE_STATIC);
	sqlite3_bind_int64(statement, 2, now.tv_sec * 1000000000ll + now.tv_nsec);
	return sql_run(statement);
}

int schema_create(sqlite3 *db, const char *log_id)
{
	char version[64];
	int r = sql_exec(db, "BEGIN IMMEDIATE");

	if (r < 0)
		return r;
	r = sql_exec(db, schema_sql);
	if (r < 0)
		return r;
	r = write_meta(db, log_id);
	if (r < 0)
		return r;
	snprintf(version, sizeof(version), "PRAGMA user_version = %d; COMMIT", SCHEMA_VERSION);
	return sql_exec(db, version);
}

int schema_update_names(sqlite3 *db)
{
	int64_t ops = 0;
	int64_t origins = 0;
	int r = sql_query_number(db, "SELECT count(*) FROM op", &ops);

	if (r < 0)
		return r;
	r = sql_query_number(db, "SELECT count(*) FROM origin", &origins);
	if (r < 0)
		return r;
	if (ops < EVENT_OP_END - 1)
		r = write_names(db, "INSERT OR IGNORE INTO op VALUES (?, ?)", event_op_name, 1,
				EVENT_OP_END);
	if (r < 0)
		return r;
	if (origins < EVENT_ORIGIN_END)
		r = write_names(db, "INSERT OR IGNORE INTO origin VALUES (?, ?)", event_origin_name,
				0, EVENT_ORIGIN_END);
	return r;
}
