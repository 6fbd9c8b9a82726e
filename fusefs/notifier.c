#include "fusefs/notifier.h"

#include "base/clock.h"
#include "fusefs/kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	PIPE_SIZE = 1 << 20, /* bytes: 131,072 nodeids */
	ROOM_MS = 500,
	END_MS = 100,
	NODEIDS_FD = STDIN_FILENO,  /* in the process */
	KERNEL_FD = STDOUT_FILENO,
};

struct notifier {
	int fuse_fd;
	int nodeids_fd; /* -1: not started */
	pid_t pid;
};

/* ---- in the process: system calls only, because other threads may have held any lock when it was forked ---- */

static void drop_capabilities(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = { 0 };

	(void)syscall(SYS_capset, &header, none);
}

/* Whether the file system is still there. */
static bool notify(uint64_t nodeid)
{
	struct fuse_notify_inval_inode_out body = { .ino = nodeid };
	struct fuse_out_header header = { .len = sizeof(header) + sizeof(body), .error = FUSE_NOTIFY_INVAL_INODE };
	struct iovec parts[] = { { &header, sizeof(header) }, { &body, sizeof(body) } };

	/* An inode that the kernel has forgotten is fine. */
	return writev(KERNEL_FD, parts, 2) >= 0 || (errno != ENODEV && errno != ENOTCONN && errno != EBADF);
}

static _Noreturn void run(int nodeids_fd, int fuse_fd)
{
	uint64_t nodeids[NOTIFIER_BATCH];
	ssize_t n;

	if (dup2(nodeids_fd, NODEIDS_FD) < 0 || dup2(fuse_fd, KERNEL_FD) < 0)
		_exit(EXIT_FAILURE);
	close_range(STDERR_FILENO, UINT_MAX, 0);
	prctl(PR_SET_NAME, "hrfs-notifier");
	drop_capabilities();
	/* What is written at once, and that is whole nodeids, is read at once, or in pieces of a batch. */
	while ((n = read(NODEIDS_FD, nodeids, sizeof(nodeids))) > 0 || (n < 0 && errno == EINTR))
		for (ssize_t i = 0; i < n / (ssize_t)sizeof(nodeids[0]); i++)
			if (!notify(nodeids[i]))
				_exit(EXIT_SUCCESS);
	_exit(EXIT_SUCCESS);
}

/* ---- in the worker ---- */

static int start(struct notifier *notifier)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	(void)fcntl(ends[1], F_SETPIPE_SZ, PIPE_SIZE);
	(void)fcntl(ends[1], F_SETFL, O_NONBLOCK);
	notifier->pid = fork();
	if (notifier->pid == 0)
		run(ends[0], notifier->fuse_fd);
	close(ends[0]);
	if (notifier->pid < 0) {
		int r = -errno;

		close(ends[1]);
		return r;
	}
	notifier->nodeids_fd = ends[1];
	return 0;
}

static void stop(struct notifier *notifier)
{
	int64_t until_ns = clock_now_ns() + END_MS * 1000000ll;

	if (notifier->nodeids_fd < 0)
		return;
	close(notifier->nodeids_fd);
	notifier->nodeids_fd = -1;
	/* One that waits for a page ends when it gets it. */
	while (waitpid(notifier->pid, NULL, WNOHANG) == 0 && clock_now_ns() < until_ns)
		(void)poll(NULL, 0, 1);
}

int notifier_start(int fuse_fd, struct notifier **out)
{
	struct notifier *notifier = calloc(1, sizeof(*notifier));
	int r;

	if (!notifier)
		return -ENOMEM;
	notifier->fuse_fd = fuse_fd;
	notifier->nodeids_fd = -1;
	r = start(notifier);
	if (r < 0) {
		free(notifier);
		return r;
	}
	*out = notifier;
	return 0;
}

void notifier_stop(struct notifier *notifier)
{
	if (!notifier)
		return;
	stop(notifier);
	free(notifier);
}

/* A write of less than PIPE_BUF is done as a whole or not at all. */
static bool tell(const struct notifier *notifier, const uint64_t *nodeids, size_t count)
{
	return write(notifier->nodeids_fd, nodeids, count * sizeof(nodeids[0])) >= 0;
}

bool notifier_drop(struct notifier *notifier, const uint64_t *nodeids, size_t count)
{
	struct pollfd room = { .events = POLLOUT };

	if (notifier->nodeids_fd < 0 && start(notifier) < 0)
		return false;
	if (tell(notifier, nodeids, count))
		return true;
	if (errno == EPIPE) {
		stop(notifier);
		return start(notifier) == 0 && tell(notifier, nodeids, count);
	}
	room.fd = notifier->nodeids_fd;
	return errno == EAGAIN && poll(&room, 1, ROOM_MS) > 0 && tell(notifier, nodeids, count);
}
