#include "daemon/launch.h"

#include "base/fdutil.h"
#include "base/log.h"
#include "base/scope.h"
#include "daemon/inherit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

enum { MESSAGES_MAX = 1 << 20 }; /* bytes after which the file begins anew */

/* Returns how the daemon came up. One that dies first has said nothing. */
static enum exit_status wait_for_daemon(int fd)
{
	uint8_t status;

	if (fd_read_all(fd, &status, sizeof(status)) == sizeof(status))
		return status;
	log_error("the daemon died at its start");
	return STATUS_SYSTEM;
}

enum exit_status launch_begin(struct launch *launch, bool is_foreground)
{
	scoped(closep) int ours = -1;
	scoped(closep) int theirs = -1;
	int pipe_fds[2];
	pid_t pid;

	launch->caller_fd = -1;
	if (is_foreground)
		return STATUS_OK;
	if (pipe2(pipe_fds, O_CLOEXEC) < 0) {
		log_error("cannot make a pipe: %m");
		return STATUS_SYSTEM;
	}
	ours = pipe_fds[0];
	theirs = pipe_fds[1];
	pid = fork();
	if (pid < 0) {
		log_error("cannot make a process: %m");
		return STATUS_SYSTEM;
	}
	if (pid == 0) {
		launch->caller_fd = take_fd(theirs);
		return STATUS_OK;
	}
	close(take_fd(theirs));
	/* Not exit(3): what the daemon removes at its end is not ours. */
	_exit(wait_for_daemon(ours));
}

static int open_messages(int state_fd)
{
	int fd = fd_open_own(state_fd, "messages", O_WRONLY | O_CREAT | O_APPEND);
	struct stat st;

	if (fd >= 0 && fstat(fd, &st) == 0 && st.st_size > MESSAGES_MAX && ftruncate(fd, 0) < 0)
		log_warning("the file of messages cannot begin anew: %m");
	return fd;
}

void launch_detach(const struct launch *launch, int state_fd)
{
	scoped(closep) int fd = -1;

	if (launch->caller_fd < 0)
		return;
	inherit_no_stdio();
	fd = open_messages(state_fd);
	if (fd >= 0)
		dup2(fd, STDERR_FILENO);
}

/* Messages carry no time, so each beginning does. */
static void write_heading(void)
{
	time_t now = time(NULL);
	char text[64];
	struct tm tm;

	if (gmtime_r(&now, &tm) && strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ mounted\n", &tm))
		(void)fd_write_all(STDERR_FILENO, text, strlen(text));
}

static void tell(struct launch *launch, enum exit_status status)
{
	uint8_t byte = status;

	/* The caller may have been killed; the mount goes on without it. */
	(void)fd_write_all(launch->caller_fd, &byte, sizeof(byte));
	close(take_fd(launch->caller_fd));
}

void launch_succeed(struct launch *launch)
{
	if (launch->caller_fd < 0)
		return;
	setsid();
	write_heading();
	tell(launch, STATUS_OK);
}

void launch_fail(struct launch *launch, enum exit_status status)
{
	if (launch->caller_fd >= 0)
		tell(launch, status);
}
