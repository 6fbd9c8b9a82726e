/*
 * Event: one change of the tree, and its bytes in the journal.
 *
 * struct event is how every part of hrfs holds an event in memory. Its strings are borrowed:
 * an event is a view, whoever fills one says how long it lives. event_encode() writes a
 * self-contained record that event_decode() reads back; layout in event.c.
 *
 * Paths are relative to the root of the mount, without a leading slash, "" for the root
 * itself; any byte but NUL may occur.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct bytes;

/** What happened. The numbers are stored in databases: never renumber, only append. */
enum event_op {
	EVENT_CREATE = 1,
	EVENT_MKDIR = 2,
	EVENT_SYMLINK = 3,
	EVENT_LINK = 4,
	EVENT_MKNOD = 5,
	EVENT_WRITE = 6,
	EVENT_TRUNCATE = 7,
	EVENT_FALLOCATE = 8,
	EVENT_COPY = 9,
	EVENT_RENAME = 10,
	EVENT_UNLINK = 11,
	EVENT_RMDIR = 12,
	EVENT_CHMOD = 13,
	EVENT_CHOWN = 14,
	EVENT_UTIMENS = 15,
	EVENT_SETXATTR = 16,
	EVENT_REMOVEXATTR = 17,
	EVENT_CLOSE = 18,
	EVENT_MOUNTED = 19,
	EVENT_UNMOUNTED = 20,
	EVENT_GAP = 21,
	EVENT_MANUAL = 22,
	EVENT_OP_END, /* one past the last */
};

/** How hrfs came to know. Stored; only append. */
enum event_origin {
	EVENT_VFS = 0,       /* a request through the mount */
	EVENT_MMAP = 1,      /* stores through a shared mapping, found afterwards */
	EVENT_SCAN = 2,      /* comparing the tree with the log */
	EVENT_BY_HAND = 3,   /* somebody told us: "manual" */
	EVENT_RECOVERED = 4, /* resolved after a crash */
	EVENT_ORIGIN_END,
};

/** Which optional fields of an event mean something. Stored; only append. */
enum event_field {
	EVENT_HAS_OFFSET = 1 << 0,
	EVENT_HAS_LENGTH = 1 << 1,
	EVENT_HAS_SIZE = 1 << 2,
	EVENT_HAS_INO = 1 << 3,
	EVENT_HAS_MODE = 1 << 4,   /* permission bits (07777); with the type for mknod; fallocate's mode */
	EVENT_HAS_OWNER = 1 << 5,  /* owner_uid and owner_gid: what chown set */
	EVENT_HAS_FLAGS = 1 << 6,  /* rename's flags: RENAME_NOREPLACE ... */
	EVENT_HAS_WHO = 1 << 7,    /* pid, uid, gid, comm */
	EVENT_UNCERTAIN = 1 << 8,  /* may have happened; a reader should look */
};

enum {
	EVENT_COMM_MAX = 15,       /* bytes, without NUL: the kernel's TASK_COMM_LEN - 1 */
	EVENT_NAME_MAX = 255,      /* an xattr's name; XATTR_NAME_MAX */
	EVENT_PATH_MAX = 65535,    /* bytes of a path; a tree may be deeper than PATH_MAX */
	EVENT_RECORD_MAX = 131584, /* bytes of the largest record: two paths, a name, the rest; a multiple of 8 */
};

struct event {
	uint64_t seq;      /* 1, 2, 3 ...; 0 before it has one */
	int64_t time_ns;   /* CLOCK_REALTIME when it was committed */
	uint8_t op;        /* enum event_op */
	uint8_t origin;    /* enum event_origin */
	uint16_t has;      /* enum event_field, or'ed */

	uint64_t offset;   /* bytes; for a gap: its first lost position */
	uint64_t length;   /* bytes; for a gap: how many were lost, where known */
	uint64_t size;     /* bytes: the file's size after the change */
	uint64_t ino;      /* inode number on the backing file system */
	uint32_t mode;
	uint32_t flags;
	uint32_t owner_uid; /* (uint32_t)-1: unchanged */
	uint32_t owner_gid;

	uint32_t pid;      /* the writer's process (thread group); 0: unknown or another pid namespace */
	uint32_t uid;
	uint32_t gid;

	/* Borrowed, not NUL-terminated unless the source says so. */
	const char *path;
	const char *to;    /* rename, link: the new path; symlink: the target; else NULL */
	const char *name;  /* setxattr, removexattr: the attribute; manual: the note; else NULL */
	const char *comm;  /* the writer's name, at most EVENT_COMM_MAX bytes */
	uint16_t path_length;
	uint16_t to_length;
	uint16_t name_length;
	uint16_t comm_length;
};

/** The name of an op as it stands in JSON ("write"); NULL for a number that is none. Static. */
const char *event_op_name(unsigned op);

/** The op of a name of @length bytes, or 0. */
unsigned event_op_from_name(const char *name, size_t length);

/** The name of an origin as it stands in JSON ("vfs"); NULL for a number that is none. Static. */
const char *event_origin_name(unsigned origin);

/** The origin of a name, or -1. */
int event_origin_from_name(const char *name, size_t length);

/** Bytes that event_encode() will write: a multiple of 8, at most EVENT_RECORD_MAX. */
size_t event_encoded_size(const struct event *event);

/** Write the record of @event to @buffer, which has event_encoded_size() bytes. Any thread. */
void event_encode(const struct event *event, void *buffer);

/**
 * Read the record at @buffer, of which @available bytes may be looked at.
 *
 * Returns the record's size and fills *@out, whose strings point into @buffer (to and name are
 * NULL when empty, path and comm never are); or -EBADMSG when the bytes are no whole valid
 * record (length, checksum, ranges). Never reads past @available; safe on hostile bytes.
 */
ssize_t event_decode(const void *buffer, size_t available, struct event *out);
