#include "daemon/inherit.h"

#include "base/scope.h"

#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <unistd.h>

enum { FIRST = STDERR_FILENO + 1 };

/* The smallest of @kept that is at least @from, or -1. */
static int next_kept(const int *kept, size_t count, int from)
{
	int found = -1;

	for (size_t i = 0; i < count; i++)
		if (kept[i] >= from && (found < 0 || kept[i] < found))
			found = kept[i];
	return found;
}

void inherit_only(const int *kept, size_t count)
{
	int from = FIRST, next;

	while ((next = next_kept(kept, count, from)) >= 0) {
		if (next > from)
			close_range(from, next - 1, 0);
		from = next + 1;
	}
	close_range(from, INT_MAX, 0);
}

void inherit_no_stdio(void)
{
	scoped(closep) int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (int stdio = STDIN_FILENO; fd >= 0 && stdio <= STDERR_FILENO; stdio++)
		dup2(fd, stdio);
}
