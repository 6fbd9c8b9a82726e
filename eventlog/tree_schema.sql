-- What the log last said of each name. docs/log-format.md explains it. PRAGMA user_version counts its versions.

CREATE TABLE progress (
	log_id TEXT NOT NULL,
	seq INTEGER NOT NULL,
	is_known INTEGER NOT NULL,
	is_finished INTEGER NOT NULL,
	entries INTEGER NOT NULL,
	differences INTEGER NOT NULL,
	duration_ms INTEGER NOT NULL
);

CREATE TABLE node (
	id INTEGER PRIMARY KEY,
	parent INTEGER NOT NULL,   -- the directory's id
	name BLOB NOT NULL,
	mode INTEGER NOT NULL,     -- st_mode
	ino INTEGER NOT NULL,
	size INTEGER NOT NULL,
	mtime INTEGER,             -- ns since 1970; NULL: an event changed it since a scan looked
	event INTEGER NOT NULL,    -- ns since 1970: when the last event changed it
	has_links INTEGER NOT NULL -- 1: other names may be the same file
);

CREATE UNIQUE INDEX node_by_name ON node (parent, name);
CREATE INDEX node_by_ino ON node (ino);
