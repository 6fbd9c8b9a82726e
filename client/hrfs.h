/*
 * libhrfs: follow the changes of a tree that is mounted through hrfs. See libhrfs(3).
 *
 * All functions return 0 or a positive answer when they succeed and a negative errno when not. A
 * connection belongs to one thread at a time. Symbols and structs are stable within a major
 * version; new fields are only ever added at the end of a struct that the library itself
 * allocates.
 */
#ifndef HRFS_H
#define HRFS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct hrfs;

/**
 * One change. Strings are NUL-terminated, owned by the connection, valid until the next call on
 * it. NULL where an event has none.
 */
struct hrfs_event {
	uint64_t seq;
	int64_t time_ns;       /* nanoseconds since 1970, UTC */
	const char *op;        /* "create", "write", ... */
	const char *origin;    /* "vfs", "mmap", "scan", "manual", "recovered" */
	const char *path;      /* relative to the root of the mount; raw bytes; "" is the root */
	size_t path_length;
	const char *to;        /* rename, link: new path; symlink: target */
	size_t to_length;
	const char *name;      /* setxattr, removexattr: attribute; manual: note */
	const char *comm;
	uint32_t pid, uid, gid;
	uint64_t has;          /* HRFS_HAS_... */
	uint64_t offset, length, size, ino;
	uint32_t mode, flags, owner_uid, owner_gid;
	const char *json;      /* of any message: the line as it came, without newline */
	size_t json_length;
};

#define HRFS_HAS_OFFSET (1u << 0)
#define HRFS_HAS_LENGTH (1u << 1)
#define HRFS_HAS_SIZE (1u << 2)
#define HRFS_HAS_INO (1u << 3)
#define HRFS_HAS_MODE (1u << 4)
#define HRFS_HAS_OWNER (1u << 5)
#define HRFS_HAS_FLAGS (1u << 6)
#define HRFS_HAS_WHO (1u << 7)
#define HRFS_UNCERTAIN (1u << 8)

/** Positions for hrfs_subscribe(); any other value: the events after that sequence number. */
#define HRFS_SINCE_NOW UINT64_MAX
#define HRFS_SINCE_OLDEST (UINT64_MAX - 1)

/** What hrfs_next() answers. */
enum hrfs_message {
	HRFS_EVENT = 1,     /* *out is filled */
	HRFS_CAUGHT_UP = 2, /* all up to hrfs_position() has come; live events follow */
	HRFS_GAP = 3,       /* events up to hrfs_position() were lost: re-read the tree */
	HRFS_BYE = 4,       /* the server ends, see hrfs_bye_reason() */
	HRFS_NOTHING = 5,   /* the time is up */
};

/**
 * Find the server of the mount that @path is in. Writes its socket's path to @buffer of @size
 * bytes. Returns 0, -ENOTTY (not inside an hrfs mount), -ERANGE, or what getxattr(2) failed with.
 */
int hrfs_find_socket(const char *path, char *buffer, size_t size);

/** The state folder of the mount that @path is in; like hrfs_find_socket(). */
int hrfs_find_log(const char *path, char *buffer, size_t size);

/** Connect to the server of the mount that @path is in. The caller owns *@out. */
int hrfs_connect(const char *path, struct hrfs **out);

/** Connect to a socket. */
int hrfs_connect_socket(const char *socket_path, struct hrfs **out);

/** Close and free. NULL is fine. */
void hrfs_close(struct hrfs *hrfs);

/**
 * The descriptor, to poll for input. Call hrfs_next() with timeout 0 until HRFS_NOTHING before
 * polling.
 */
int hrfs_fd(const struct hrfs *hrfs);

/**
 * Start receiving the events after @since, and wait for the server's hello: hrfs_log_id(),
 * hrfs_position() and hrfs_line() tell where the stream begins. With @follow 0 the stream ends
 * with HRFS_CAUGHT_UP. Once a connection (-EBUSY). Returns 0 or a negative errno, -EREMOTEIO when
 * the server refused.
 */
int hrfs_subscribe(struct hrfs *hrfs, uint64_t since, int follow);

/**
 * Wait up to @timeout_ms (-1: for ever) for a message; signals do not end the wait. Returns an
 * enum hrfs_message, -EPIPE when the connection ended, -EBADMSG, or another negative errno; after
 * -EREMOTEIO hrfs_error() has the server's words. Whatever is left of *@out by a message that is
 * no event is zero or NULL.
 */
int hrfs_next(struct hrfs *hrfs, struct hrfs_event *out, int timeout_ms);

/** Last sequence number received, or where the stream stands after a gap. */
uint64_t hrfs_position(const struct hrfs *hrfs);

/** The log's UUID from hello or the last status, or "". */
const char *hrfs_log_id(const struct hrfs *hrfs);

/**
 * The line that the server sent last, without the newline: hello after hrfs_subscribe(). Valid
 * until the next call. "" before there is one.
 */
const char *hrfs_line(const struct hrfs *hrfs);

/** After HRFS_BYE: "unmounted", "restart" or "stopped". "" before. */
const char *hrfs_bye_reason(const struct hrfs *hrfs);

/**
 * The sequence number up to which everything before the call is in the store. On a connection
 * without subscription.
 */
int hrfs_sync(struct hrfs *hrfs, uint64_t *out_seq);

/** The status as one JSON object. The string belongs to the connection until the next call. */
int hrfs_status(struct hrfs *hrfs, const char **out_json);

/** Put an event of op manual for @path (relative to the root) into the log. */
int hrfs_manual(struct hrfs *hrfs, const char *path, const char *note);

/**
 * Have the daemon take over with the installed binary: 0 when that has begun. The binary is then on trial, see restart in
 * hrfs-protocol(7).
 */
int hrfs_restart(struct hrfs *hrfs);

/**
 * The server's error message of the last -EREMOTEIO, on one line; "" when there is none. Valid
 * until the next call.
 */
const char *hrfs_error(const struct hrfs *hrfs);

#ifdef __cplusplus
}
#endif

#endif
