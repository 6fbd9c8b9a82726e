#include "daemon/guard.h"

#include "base/scope.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/pidfd.h>
#include <sys/wait.h>

enum { GUARD_MS = 30000 }; /* longer than a supervisor gives its worker */

/* Returns whether the supervisor has said that all is well. */
static bool hears_well(int word_fd)
{
	char word;

	return read(word_fd, &word, sizeof(word)) == sizeof(word);
}

/* The end of the process closes its end of the pipe as well. One that hangs is ended. */
static void watch(int pidfd, int word_fd)
{
	struct pollfd fds[] = { { .fd = word_fd, .events = POLLIN }, { .fd = pidfd, .events = POLLIN } };
	int n;

	do
		n = poll(fds, sizeof(fds) / sizeof(fds[0]), GUARD_MS);
	while (n < 0 && errno == EINTR);
	if (n > 0 && hears_well(word_fd))
		_exit(0);
	pidfd_send_signal(pidfd, SIGKILL, NULL, 0);
	(void)poll(&fds[1], 1, -1);
}

/* The next program knows nothing of this child, so it becomes nobody's. Returns the process id as fork(2) does. */
static pid_t fork_orphan(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		if (fork() != 0)
			_exit(0);
		return 0;
	}
	while (pid > 0 && waitpid(pid, NULL, 0) < 0)
		if (errno != EINTR)
			return -1;
	return pid;
}

int guard_start(int *out_fd)
{
	scoped(closep) int pidfd = pidfd_open(getpid(), 0);
	scoped(closep) int read_fd = -1;
	scoped(closep) int write_fd = -1;
	int pipe_fds[2];
	pid_t pid;

	if (pidfd < 0 || pipe2(pipe_fds, O_CLOEXEC) < 0)
		return -errno;
	read_fd = pipe_fds[0];
	write_fd = pipe_fds[1];
	pid = fork_orphan();
	if (pid < 0)
		return -errno;
	if (pid > 0) {
		*out_fd = take_fd(write_fd);
		return 0;
	}
	close(take_fd(write_fd));
	watch(pidfd, read_fd);
	return 1;
}

void guard_dismiss(int fd)
{
	if (fd < 0)
		return;
	/* It fails when the guard has been killed, which nobody needs to know. */
	(void)!write(fd, "w", 1);
	close(fd);
}
