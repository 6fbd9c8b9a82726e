#include "serve/peer.h"

#include "base/scope.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

int peer_read(int fd, struct peer *out)
{
	struct ucred credentials;
	socklen_t size = sizeof(credentials);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) < 0)
		return -errno;
	*out = (struct peer){ .pid = credentials.pid,
			      .uid = credentials.uid,
			      .gid = credentials.gid };
	return 0;
}

static bool is_in_supplementary_group(int fd, gid_t group)
{
	scoped(freep) gid_t *groups = NULL;
	socklen_t size = 0;

	/* With no room the kernel answers ERANGE and the size it needs. */
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, NULL, &size) == 0 || errno != ERANGE)
		return false;
	groups = malloc(size);
	if (!groups || getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size) < 0)
		return false;
	for (size_t i = 0; i < size / sizeof(*groups); i++) {
		if (groups[i] == group)
			return true;
	}
	return false;
}

bool peer_is_allowed(const struct peer *peer, int fd, uid_t owner, gid_t group)
{
	if (peer->uid == 0 || peer->uid == owner)
		return true;
	if (group == (gid_t)-1)
		return false;
	return peer->gid == group || is_in_supplementary_group(fd, group);
}
