/*
 * Tree: what the log last said of each name, in tree.db beside the log.
 *
 * A database of its own, because its transactions are long: in the log's they would keep the drain waiting. Commits are
 * few and synced; the WAL takes what comes between them.
 *
 * The root is row 1, with the parent 0 and an empty name.
 */
#include "eventlog/tree.h"

#include "base/scope.h"
#include "eventlog/sql.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	TREE_VERSION = 1,
	LAST_PATH_MAX = 512,
};

static const char pragmas[] = "PRAGMA synchronous = FULL;"
			      "PRAGMA journal_size_limit = 1048576;"
			      "PRAGMA cache_size = -8192;";

static const char schema_sql[] =
#include "eventlog/tree_schema.sql.inc"
	;

#define COLUMNS "id, parent, mode, ino, size, mtime, event, has_links"

/* What is prepared once. */
enum statement {
	BEGIN,
	COMMIT,
	SET_PROGRESS,
	GET,
	FIND,
	FIND_INO,
	NAME_OF,
	LIST,
	ADD,
	UPDATE,
	SET_INO,
	UPDATE_LINKS,
	HAS_CHILDREN,
	REMOVE_BELOW,
	REMOVE,
	MOVE,
	STATEMENT_COUNT,
};

static const char *const statement_sql[STATEMENT_COUNT] = {
	[BEGIN] = "BEGIN IMMEDIATE",
	[COMMIT] = "COMMIT",
	[SET_PROGRESS] = "UPDATE progress SET seq = ?, is_known = ?, is_finished = ?, entries = ?, differences = ?, duration_ms = ?",
	[GET] = "SELECT " COLUMNS " FROM node WHERE id = ?",
	[FIND] = "SELECT " COLUMNS " FROM node WHERE parent = ? AND name = ?",
	[FIND_INO] = "SELECT " COLUMNS " FROM node WHERE ino = ? AND id > ? ORDER BY id LIMIT 1",
	[NAME_OF] = "SELECT parent, name FROM node WHERE id = ?",
	[LIST] = "SELECT id, name FROM node WHERE parent = ? AND name > ? ORDER BY name LIMIT ?",
	[ADD] = "INSERT INTO node (parent, name, mode, ino, size, mtime, event, has_links) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
	[UPDATE] = "UPDATE node SET mode = ?1, size = ?3, mtime = ?4, event = ?5, has_links = ?6 WHERE id = ?7",
	[SET_INO] = "UPDATE node SET ino = ? WHERE id = ?",
	/* A row that is left of a file whose number was given again must not change what has it now: 61440 is S_IFMT. */
	[UPDATE_LINKS] = "UPDATE node SET mode = ?1, size = ?3, mtime = ?4, event = ?5, has_links = ?6 WHERE id = ?7 OR"
			 " (ino = ?2 AND has_links = 1 AND (mode & 61440) = (?1 & 61440))",
	[HAS_CHILDREN] = "SELECT 1 FROM node WHERE parent = ? LIMIT 1",
	[REMOVE_BELOW] = "WITH RECURSIVE below (id) AS (SELECT id FROM node WHERE parent = ?1 UNION ALL"
			 " SELECT node.id FROM node JOIN below ON node.parent = below.id)"
			 " DELETE FROM node WHERE id IN (SELECT id FROM below)",
	[REMOVE] = "DELETE FROM node WHERE id = ?",
	[MOVE] = "UPDATE node SET parent = ?, name = ? WHERE id = ?",
};

struct tree {
	sqlite3 *db;
	struct tree_progress progress;
	/* The directory that was found last: events come in groups. Forgotten when a place changes. */
	char last_path[LAST_PATH_MAX];
	size_t last_length;
	int64_t last_id; /* 0: none */
	sqlite3_stmt *statements[STATEMENT_COUNT];
};

/* ---- Opening ---- */

void tree_close(struct tree *tree)
{
	if (!tree)
		return;
	for (int i = 0; i < STATEMENT_COUNT; i++)
		sqlite3_finalize(tree->statements[i]);
	/* Rolls back by itself. */
	sqlite3_close(tree->db);
	free(tree);
}

void tree_closep(struct tree **tree)
{
	tree_close(*tree);
}

static int create_tables(sqlite3 *db, const char *log_id)
{
	scoped(sql_finalizep) sqlite3_stmt *insert = NULL;
	int r = sql_exec(db, "BEGIN IMMEDIATE");

	if (r == 0)
		r = sql_exec(db, schema_sql);
	if (r == 0)
		r = sql_exec(db, "INSERT INTO node VALUES (1, 0, x'', 16384, 0, 0, NULL, 0, 0)");
	if (r == 0)
		r = sql_prepare(db, "INSERT INTO progress VALUES (?, 0, 0, 0, 0, 0, 0)", &insert);
	if (r < 0)
		return r;
	sqlite3_bind_text(insert, 1, log_id, -1, SQLITE_STATIC);
	r = sql_run(insert);
	return r == 0 ? sql_exec(db, "PRAGMA user_version = 1; COMMIT") : r;
}

static int read_progress(sqlite3 *db, const char *log_id, uint64_t last_seq, struct tree_progress *out)
{
	scoped(sql_finalizep) sqlite3_stmt *select = NULL;
	int r = sql_prepare(db, "SELECT * FROM progress", &select);
	int code;

	if (r < 0)
		return r;
	code = sqlite3_step(select);
	if (code != SQLITE_ROW)
		return code == SQLITE_DONE ? -EBADMSG : sql_errno(db, code);
	*out = (struct tree_progress){
		.seq = sqlite3_column_int64(select, 1),
		.is_known = sqlite3_column_int(select, 2),
		.is_finished = sqlite3_column_int(select, 3),
		.entries = sqlite3_column_int64(select, 4),
		.differences = sqlite3_column_int64(select, 5),
		.duration_ms = sqlite3_column_int64(select, 6),
	};
	/* More than the log: a power loss took events, and others will get their numbers. */
	if (strcmp((const char *)sqlite3_column_text(select, 0), log_id) != 0 || out->seq > last_seq)
		return -ESTALE;
	return 0;
}

/* Returns 0, -ESTALE when it is of no use, or another negative errno. */
static int open_tables(struct tree *tree, const char *path, const char *log_id, uint64_t last_seq)
{
	int64_t version = 0;
	int r = sql_open(path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, &tree->db);

	if (r == 0)
		r = sql_query_number(tree->db, "PRAGMA user_version", &version);
	if (r == 0)
		r = sql_set_wal(tree->db);
	if (r == 0)
		r = sql_exec(tree->db, pragmas);
	if (r < 0)
		return r;
	if (version == 0)
		return create_tables(tree->db, log_id);
	if (version != TREE_VERSION)
		return -ESTALE;
	return read_progress(tree->db, log_id, last_seq, &tree->progress);
}

static int prepare_all(struct tree *tree)
{
	int r = 0;

	for (int i = 0; r == 0 && i < STATEMENT_COUNT; i++)
		r = sql_prepare(tree->db, statement_sql[i], &tree->statements[i]);
	return r;
}

static int try_open(const char *path, const char *log_id, uint64_t last_seq, struct tree **out)
{
	scoped(tree_closep) struct tree *tree = calloc(1, sizeof(*tree));
	int r = tree ? open_tables(tree, path, log_id, last_seq) : -ENOMEM;

	if (r == 0)
		r = prepare_all(tree);
	if (r == 0)
		*out = take(tree);
	return r;
}

static int remove_files(const char *path)
{
	static const char *const endings[] = { "", "-wal", "-shm" };

	for (size_t i = 0; i < sizeof(endings) / sizeof(endings[0]); i++) {
		scoped(freep) char *file = NULL;

		if (asprintf(&file, "%s%s", path, endings[i]) < 0) {
			file = NULL;
			return -ENOMEM;
		}
		if (unlink(file) < 0 && errno != ENOENT)
			return -errno;
	}
	return 0;
}

/* SQLite would make it 0644 less the umask. Its owner is that of the folder, as for all files there. */
static int create_file(const char *state_path, const char *path)
{
	scoped(closep) int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	struct stat folder;

	if (fd < 0 || stat(state_path, &folder) < 0)
		return -errno;
	if (geteuid() == 0 && fchown(fd, folder.st_uid, folder.st_gid) < 0)
		return -errno;
	return 0;
}

int tree_open(const char *state_path, const char *log_id, uint64_t last_seq, struct tree **out)
{
	scoped(freep) char *path = NULL;
	int r;

	if (asprintf(&path, "%s/tree.db", state_path) < 0) {
		path = NULL;
		return -ENOMEM;
	}
	r = create_file(state_path, path);
	if (r == 0)
		r = try_open(path, log_id, last_seq, out);
	if (r != -ESTALE && r != -EBADMSG)
		return r;
	r = remove_files(path);
	if (r == 0)
		r = create_file(state_path, path);
	return r == 0 ? try_open(path, log_id, last_seq, out) : r;
}

struct tree_progress tree_progress(const struct tree *tree)
{
	return tree->progress;
}

/* ---- Transactions ---- */

int tree_clear(struct tree *tree)
{
	tree->last_id = 0;
	return sql_exec(tree->db, "DELETE FROM node WHERE id <> 1");
}

int tree_begin(struct tree *tree)
{
	return sql_run(tree->statements[BEGIN]);
}

int tree_commit(struct tree *tree, const struct tree_progress *progress)
{
	sqlite3_stmt *set = tree->statements[SET_PROGRESS];
	int r;

	sqlite3_bind_int64(set, 1, progress->seq);
	sqlite3_bind_int(set, 2, progress->is_known);
	sqlite3_bind_int(set, 3, progress->is_finished);
	sqlite3_bind_int64(set, 4, progress->entries);
	sqlite3_bind_int64(set, 5, progress->differences);
	sqlite3_bind_int64(set, 6, progress->duration_ms);
	r = sql_run(set);
	if (r == 0)
		r = sql_run(tree->statements[COMMIT]);
	if (r == 0)
		tree->progress = *progress;
	return r;
}

/* ---- Rows ---- */

static void read_node(sqlite3_stmt *row, struct tree_node *out)
{
	*out = (struct tree_node){
		.id = sqlite3_column_int64(row, 0),
		.parent = sqlite3_column_int64(row, 1),
		.mode = sqlite3_column_int64(row, 2),
		.ino = sqlite3_column_int64(row, 3),
		.size = sqlite3_column_int64(row, 4),
		.has_mtime = sqlite3_column_type(row, 5) != SQLITE_NULL,
		.mtime_ns = sqlite3_column_int64(row, 5),
		.event_ns = sqlite3_column_int64(row, 6),
		.has_links = sqlite3_column_int(row, 7),
	};
}

static int select_node(sqlite3_stmt *statement, struct tree_node *out)
{
	int code = sqlite3_step(statement);
	int r = sql_errno(sqlite3_db_handle(statement), code);

	if (code == SQLITE_ROW)
		read_node(statement, out);
	sqlite3_reset(statement);
	return r < 0 ? r : code == SQLITE_ROW;
}

/* A NULL would be no name; the empty one is the root's. */
static void bind_name(sqlite3_stmt *statement, int index, const char *name, size_t length)
{
	sqlite3_bind_blob(statement, index, length ? name : "", length, SQLITE_STATIC);
}

int tree_get(struct tree *tree, int64_t id, struct tree_node *out)
{
	sqlite3_bind_int64(tree->statements[GET], 1, id);
	return select_node(tree->statements[GET], out);
}

int tree_find(struct tree *tree, int64_t parent, const char *name, size_t length, struct tree_node *out)
{
	sqlite3_bind_int64(tree->statements[FIND], 1, parent);
	bind_name(tree->statements[FIND], 2, name, length);
	return select_node(tree->statements[FIND], out);
}

/* Returns the id of the directory @path, 0, or a negative errno. */
static int64_t find_directory(struct tree *tree, const char *path, size_t length)
{
	struct tree_node node = { .id = TREE_ROOT };
	const char *at = path;
	const char *end = path + length;
	int r = 1;

	if (tree->last_id && tree->last_length == length && memcmp(tree->last_path, path, length) == 0)
		return tree->last_id;
	while (r > 0 && at < end) {
		const char *slash = memchr(at, '/', end - at);
		size_t part = (slash ? slash : end) - at;

		r = tree_find(tree, node.id, at, part, &node);
		at += slash ? part + 1 : part;
	}
	if (r > 0 && length <= sizeof(tree->last_path)) {
		memcpy(tree->last_path, path, length);
		tree->last_length = length;
		tree->last_id = node.id;
	}
	return r > 0 ? node.id : r;
}

int tree_find_path(struct tree *tree, const char *path, size_t length, struct tree_node *out)
{
	const char *slash = memrchr(path, '/', length);
	size_t start = slash ? slash - path + 1 : 0;
	int64_t parent;

	if (length == 0)
		return tree_get(tree, TREE_ROOT, out);
	parent = find_directory(tree, path, slash ? start - 1 : 0);
	return parent > 0 ? tree_find(tree, parent, path + start, length - start, out) : parent;
}

int tree_find_ino(struct tree *tree, uint64_t ino, int64_t after_id, struct tree_node *out)
{
	sqlite3_bind_int64(tree->statements[FIND_INO], 1, ino);
	sqlite3_bind_int64(tree->statements[FIND_INO], 2, after_id);
	return select_node(tree->statements[FIND_INO], out);
}

/* Returns whether the name fits. */
static bool read_name(sqlite3_stmt *row, int column, struct tree_name *out)
{
	size_t length = sqlite3_column_bytes(row, column);

	if (length >= sizeof(out->name))
		return false;
	out->length = length;
	/* An empty blob is NULL. */
	if (length > 0)
		memcpy(out->name, sqlite3_column_blob(row, column), length);
	out->name[length] = '\0';
	return true;
}

int tree_name_of(struct tree *tree, int64_t id, struct tree_name *out)
{
	sqlite3_stmt *select = tree->statements[NAME_OF];
	int code, r;

	sqlite3_bind_int64(select, 1, id);
	code = sqlite3_step(select);
	r = sql_errno(tree->db, code);
	if (code == SQLITE_ROW) {
		out->id = id;
		r = read_name(select, 1, out);
	}
	sqlite3_reset(select);
	return r;
}

/* Put the name of *@id before @at in @out; *@id becomes its directory. Returns the new start, or a negative errno. */
static ssize_t prepend_name(struct tree *tree, int64_t *id, char *out, size_t at, bool is_last)
{
	sqlite3_stmt *select = tree->statements[NAME_OF];
	ssize_t start = -ENOENT;
	size_t length;
	int code;

	sqlite3_bind_int64(select, 1, *id);
	code = sqlite3_step(select);
	if (code == SQLITE_ROW) {
		length = sqlite3_column_bytes(select, 1);
		start = length + !is_last <= at ? (ssize_t)(at - length - !is_last) : -ENAMETOOLONG;
		*id = sqlite3_column_int64(select, 0);
	}
	if (start >= 0) {
		memcpy(out + start, sqlite3_column_blob(select, 1), length);
		if (!is_last)
			out[start + length] = '/';
	}
	sqlite3_reset(select);
	return start;
}

ssize_t tree_path(struct tree *tree, int64_t id, char *out, size_t size)
{
	ssize_t at = size;
	bool is_last = true;

	while (at >= 0 && id != TREE_ROOT) {
		at = prepend_name(tree, &id, out, at, is_last);
		is_last = false;
	}
	if (at < 0)
		return at;
	memmove(out, out + at, size - at);
	return size - at;
}

int tree_list(struct tree *tree, int64_t parent, const struct tree_name *after, struct tree_name *out, int max)
{
	sqlite3_stmt *list = tree->statements[LIST];
	int count = 0, code, r;

	sqlite3_bind_int64(list, 1, parent);
	bind_name(list, 2, after ? after->name : "", after ? after->length : 0);
	sqlite3_bind_int(list, 3, max);
	while ((code = sqlite3_step(list)) == SQLITE_ROW) {
		out[count].id = sqlite3_column_int64(list, 0);
		count += read_name(list, 1, &out[count]);
	}
	r = sql_errno(tree->db, code);
	sqlite3_reset(list);
	return r < 0 ? r : count;
}

/* The columns from mode on, from parameter @first on. */
static void bind_facts(sqlite3_stmt *statement, int first, const struct tree_node *node)
{
	sqlite3_bind_int64(statement, first, node->mode);
	sqlite3_bind_int64(statement, first + 1, node->ino);
	sqlite3_bind_int64(statement, first + 2, node->size);
	if (node->has_mtime)
		sqlite3_bind_int64(statement, first + 3, node->mtime_ns);
	else
		sqlite3_bind_null(statement, first + 3);
	sqlite3_bind_int64(statement, first + 4, node->event_ns);
	sqlite3_bind_int(statement, first + 5, node->has_links);
}

int tree_add(struct tree *tree, const char *name, size_t length, struct tree_node *node)
{
	sqlite3_stmt *add = tree->statements[ADD];
	struct tree_node old;
	int r = tree_find(tree, node->parent, name, length, &old);

	if (r > 0)
		r = tree_remove(tree, old.id);
	if (r < 0)
		return r;
	sqlite3_bind_int64(add, 1, node->parent);
	bind_name(add, 2, name, length);
	bind_facts(add, 3, node);
	r = sql_run(add);
	if (r == 0)
		node->id = sqlite3_last_insert_rowid(tree->db);
	return r;
}

int tree_update(struct tree *tree, const struct tree_node *node)
{
	bool for_all = node->has_links && node->ino;
	sqlite3_stmt *update = tree->statements[for_all ? UPDATE_LINKS : UPDATE];

	bind_facts(update, 1, node);
	sqlite3_bind_int64(update, 7, node->id);
	return sql_run(update);
}

int tree_set_ino(struct tree *tree, int64_t id, uint64_t ino)
{
	sqlite3_stmt *set = tree->statements[SET_INO];

	sqlite3_bind_int64(set, 1, ino);
	sqlite3_bind_int64(set, 2, id);
	return sql_run(set);
}

int tree_remove(struct tree *tree, int64_t id)
{
	int64_t has_children = 0;
	int r;

	tree->last_id = 0;
	sqlite3_bind_int64(tree->statements[HAS_CHILDREN], 1, id);
	r = sql_select_number(tree->statements[HAS_CHILDREN], &has_children);
	if (r == 0 && has_children) {
		sqlite3_bind_int64(tree->statements[REMOVE_BELOW], 1, id);
		r = sql_run(tree->statements[REMOVE_BELOW]);
	}
	if (r < 0)
		return r;
	sqlite3_bind_int64(tree->statements[REMOVE], 1, id);
	return sql_run(tree->statements[REMOVE]);
}

int tree_move(struct tree *tree, int64_t id, int64_t parent, const char *name, size_t length)
{
	sqlite3_stmt *move = tree->statements[MOVE];

	tree->last_id = 0;
	sqlite3_bind_int64(move, 1, parent);
	bind_name(move, 2, name, length);
	sqlite3_bind_int64(move, 3, id);
	return sql_run(move);
}

int tree_exchange(struct tree *tree, int64_t a, int64_t b)
{
	/* No row has the parent -1, so the place is free. */
	const int64_t aside = -1;
	struct tree_name name_a, name_b;
	struct tree_node node_a, node_b;
	int r = tree_get(tree, a, &node_a);

	if (r > 0)
		r = tree_get(tree, b, &node_b);
	if (r > 0)
		r = tree_name_of(tree, a, &name_a);
	if (r > 0)
		r = tree_name_of(tree, b, &name_b);
	if (r <= 0)
		return r < 0 ? r : -ENOENT;
	r = tree_move(tree, a, aside, name_a.name, name_a.length);
	if (r == 0)
		r = tree_move(tree, b, node_a.parent, name_a.name, name_a.length);
	return r == 0 ? tree_move(tree, a, node_b.parent, name_b.name, name_b.length) : r;
}
