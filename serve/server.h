/*
 * Server: the listening socket and its subscribers, on one thread.
 *
 * Reads the log through a cursor, writes each event's JSON once for all subscribers that are
 * live, and serves those that are behind from the log at their own speed.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct bytes;
struct eventlog;
struct server;

/** What the rest of the daemon does for the server, called on its thread unless it says otherwise. */
struct server_hooks {
	/** Append `"key":value` members (comma before each) to a status object. */
	void (*write_status)(void *userdata, struct bytes *json);
	/**
	 * Have the daemon restart; may block, and is called on a thread for that. Returns 0 when that has begun, or a negative errno
	 * and a sentence, without its full stop, in @out_refusal of @size bytes.
	 */
	int (*restart)(void *userdata, char *out_refusal, size_t size);
	void *userdata;
};

struct server_options {
	int listen_fd;     /* borrowed: listening AF_UNIX stream socket */
	uid_t owner;       /* may connect, as root may */
	gid_t group;       /* members may connect; (gid_t)-1: none */
	const char *root;  /* borrowed: the mount point, for status */
};

/** Returns 0 or a negative errno. @log is borrowed for the life of the server. */
int server_create(const struct server_options *options, const struct server_hooks *hooks, struct eventlog *log,
		  struct server **out);

/** Start the thread. Returns 0 or a negative errno. */
int server_start(struct server *server);

/**
 * Say `bye` with @reason ("unmounted", "restart", "stopped") to everybody after what is in the log has been
 * sent to those who take it within @grace_ms, then end the thread. Once.
 */
void server_stop(struct server *server, const char *reason, unsigned grace_ms);

/** After server_stop(), or never started. NULL is fine. */
void server_destroy(struct server *server);
