/*
 * Schema: what makes a SQLite database an event log (schema.sql).
 *
 * For store.c, which writes it, and store_reader.c. On a connection of the caller's, and on its thread.
 */
#pragma once

#include "eventlog/eventlog.h"
#include "eventlog/sql.h"

enum { SCHEMA_VERSION = 2 };

/** Returns 1: an event log; 0: empty; -EBADMSG (somebody else's), -EPROTO (another version), or another negative errno. */
int schema_check(sqlite3 *db);

/** Make the tables of the log @log_id in an empty database. Returns 0 or a negative errno. */
int schema_create(sqlite3 *db, const char *log_id);

/** Add the names that this program knows and an older one did not. Returns 0 or a negative errno. */
int schema_update_names(sqlite3 *db);

/** The log's UUID. Returns 0, -EBADMSG, or another negative errno. */
int schema_log_id(sqlite3 *db, char out_log_id[EVENTLOG_ID_SIZE]);
