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

-- The daemon remembers the ids of what it has seen lately. What it has forgotten gets another row, so these two are not unique:
-- an index that finds the old one would take as much room as the paths, and a third of the time.

-- Paths are bytes, relative to the root of the mount. The targets of symbolic links are here, too.
CREATE TABLE path (
	id INTEGER PRIMARY KEY,
	path BLOB NOT NULL
);

-- Who did it.
CREATE TABLE who (
	id INTEGER PRIMARY KEY,
	pid INTEGER NOT NULL,
	uid INTEGER NOT NULL,
	gid INTEGER NOT NULL,
	comm BLOB
);

-- One row an event, in order. NULL: the event does not have it. No second index: it would cost more than all the rest.
-- Each column costs every row a byte and 50 ns, so those that few events have are in detail. seq is the last one: what is inserted
-- without it is then in the order of the columns, and SQLite makes rows of it without copying it first (an eighth of the time).
CREATE TABLE events (
	time INTEGER NOT NULL,         -- ns since 1970, never smaller than the row before
	op INTEGER NOT NULL,
	path_id INTEGER NOT NULL,
	who_id INTEGER,
	ino INTEGER,
	size INTEGER,                  -- of the file, after the change
	offset INTEGER,
	length INTEGER,
	mode INTEGER,
	owner INTEGER,                 -- what chown set: uid << 32 | gid, each 4294967295 where unchanged
	seq INTEGER PRIMARY KEY
);

-- More of an event, where there is more.
CREATE TABLE detail (
	seq INTEGER PRIMARY KEY,
	origin INTEGER NOT NULL,       -- without a row: 0, vfs
	uncertain INTEGER NOT NULL,    -- 1: may have happened; without a row: 0
	flags INTEGER,                 -- rename's
	to_id INTEGER,                 -- rename, link: the new path; symlink: the target
	name BLOB                      -- setxattr, removexattr: the attribute; manual: the note
);

CREATE TRIGGER events_delete AFTER DELETE ON events BEGIN
	DELETE FROM detail WHERE seq = old.seq;
END;

CREATE VIEW history AS
SELECT
	e.seq AS seq,
	strftime('%Y-%m-%dT%H:%M:%S', e.time / 1000000000, 'unixepoch') || printf('.%09dZ', e.time % 1000000000) AS time,
	coalesce(op.name, e.op) AS op,
	CAST(p.path AS TEXT) AS path,
	CAST(t.path AS TEXT) AS "to",
	CAST(d.name AS TEXT) AS name,
	e.offset AS offset,
	e.length AS length,
	e.size AS size,
	e.ino AS ino,
	CASE WHEN e.mode IS NOT NULL THEN printf('%04o', e.mode) END AS mode,
	CASE WHEN (e.owner >> 32) & 4294967295 <> 4294967295 THEN (e.owner >> 32) & 4294967295 END AS owner_uid,
	CASE WHEN e.owner & 4294967295 <> 4294967295 THEN e.owner & 4294967295 END AS owner_gid,
	d.flags AS flags,
	w.pid AS pid,
	CAST(w.comm AS TEXT) AS comm,
	w.uid AS uid,
	w.gid AS gid,
	coalesce(origin.name, d.origin) AS origin,
	coalesce(d.uncertain, 0) AS uncertain
FROM events AS e
LEFT JOIN detail AS d ON d.seq = e.seq
LEFT JOIN path AS p ON p.id = e.path_id
LEFT JOIN path AS t ON t.id = d.to_id
LEFT JOIN who AS w ON w.id = e.who_id
LEFT JOIN op ON op.id = e.op
LEFT JOIN origin ON origin.id = coalesce(d.origin, 0);
