-- The event log in SQLite. docs/log-format.md explains it; PRAGMA user_version counts its versions.
-- The tables op and origin are filled by the program, from the names that it uses everywhere.

CREATE TABLE meta (
	key TEXT PRIMARY KEY NOT NULL, -- log_id, created (ns since 1970), last_seq
	value NOT NULL
) WITHOUT ROWID;

CREATE TABLE op (
	id INTEGER PRIMARY KEY,
	name TEXT NOT NULL
);

CREATE TABLE origin (
	id INTEGER PRIMARY KEY,
	name TEXT NOT NULL
);

-- Paths are bytes, relative to the root of the mount. The targets of symbolic links are here, too.
CREATE TABLE path (
	id INTEGER PRIMARY KEY,
	path BLOB NOT NULL UNIQUE
);

CREATE TABLE comm (
	id INTEGER PRIMARY KEY,
	comm BLOB NOT NULL UNIQUE
);

-- One row an event, in order. NULL: the event does not have it. No second index: it would cost more than all the rest.
CREATE TABLE events (
	seq INTEGER PRIMARY KEY,
	time INTEGER NOT NULL,         -- ns since 1970, never smaller than the row before
	op INTEGER NOT NULL,
	origin INTEGER NOT NULL,
	uncertain INTEGER NOT NULL,    -- 1: may have happened
	path_id INTEGER NOT NULL,
	ino INTEGER,
	pid INTEGER,
	uid INTEGER,
	gid INTEGER,
	comm_id INTEGER,
	size INTEGER,                  -- of the file, after the change
	offset INTEGER,
	length INTEGER,
	mode INTEGER,
	owner INTEGER,                 -- what chown set: uid << 32 | gid, each 4294967295 where unchanged
	flags INTEGER,                 -- rename's
	to_id INTEGER,                 -- rename, link: the new path; symlink: the target
	name BLOB                      -- setxattr, removexattr: the attribute; manual: the note
);

CREATE VIEW history AS
SELECT
	e.seq AS seq,
	strftime('%Y-%m-%dT%H:%M:%S', e.time / 1000000000, 'unixepoch') || printf('.%09dZ', e.time % 1000000000) AS time,
	coalesce(op.name, e.op) AS op,
	CAST(p.path AS TEXT) AS path,
	CAST(t.path AS TEXT) AS "to",
	CAST(e.name AS TEXT) AS name,
	e.offset AS offset,
	e.length AS length,
	e.size AS size,
	e.ino AS ino,
	CASE WHEN e.mode IS NOT NULL THEN printf('%04o', e.mode) END AS mode,
	CASE WHEN (e.owner >> 32) & 4294967295 <> 4294967295 THEN (e.owner >> 32) & 4294967295 END AS owner_uid,
	CASE WHEN e.owner & 4294967295 <> 4294967295 THEN e.owner & 4294967295 END AS owner_gid,
	e.flags AS flags,
	e.pid AS pid,
	CAST(c.comm AS TEXT) AS comm,
	e.uid AS uid,
	e.gid AS gid,
	coalesce(origin.name, e.origin) AS origin,
	e.uncertain AS uncertain
FROM events AS e
LEFT JOIN path AS p ON p.id = e.path_id
LEFT JOIN path AS t ON t.id = e.to_id
LEFT JOIN comm AS c ON c.id = e.comm_id
LEFT JOIN op ON op.id = e.op
LEFT JOIN origin ON origin.id = e.origin;
