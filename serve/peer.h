/*
 * Peer: who is at the other end of a connection, as the kernel noted when it was made.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

struct peer {
	pid_t pid; /* 0: in another pid namespace */
	uid_t uid;
	gid_t gid;
};

/** Ask about the connected Unix socket @fd. Returns 0 or a negative errno. */
int peer_read(int fd, struct peer *out);

/** Whether the peer at @fd is root, @owner, or a member of @group ((gid_t)-1: none). */
bool peer_is_allowed(const struct peer *peer, int fd, uid_t owner, gid_t group);
