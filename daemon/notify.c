#include "daemon/notify.h"

#include "base/scope.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

void notify_send(const char *state)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	size_t length = path ? strlen(path) : 0;

	if (length < 2 || length >= sizeof(address.sun_path) || (path[0] != '/' && path[0] != '@'))
		return;
	memcpy(address.sun_path, path, length);
	/* A name without a file begins with NUL. */
	if (path[0] == '@')
		address.sun_path[0] = '\0';
	scoped(closep) int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd >= 0)
		(void)sendto(fd, state, strlen(state), MSG_NOSIGNAL, (const struct sockaddr *)&address,
			     offsetof(struct sockaddr_un, sun_path) + length);
}

void notify_reloading(void)
{
	char text[80];
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	/* Type=notify-reload does not believe it without the time, in microseconds. */
	snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%" PRIu64,
		 now.tv_sec * UINT64_C(1000000) + now.tv_nsec / 1000);
	notify_send(text);
}
