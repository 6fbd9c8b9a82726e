#include "daemon/rehearsal.h"

#include "base/log.h"
#include "base/scope.h"
#include "daemon/handover.h"
#include "daemon/setup.h"
#include "eventlog/eventlog.h"
#include "fusefs/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { OUTPUT_MAX = 1024 }; /* bytes that are looked at */

/* ---- Beside it ---- */

static void run_installed(const struct setup *setup, const struct handover *handover, int output_fd)
{
	sigset_t none;
	int r;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (dup2(output_fd, STDOUT_FILENO) >= 0 && dup2(output_fd, STDERR_FILENO) >= 0) {
		r = handover_exec_rehearsal(setup, handover);
		dprintf(STDERR_FILENO, "it cannot be executed: %s\n", strerror(-r));
	}
	_exit(STATUS_SYSTEM);
}

int rehearsal_start(struct rehearsal *rehearsal, const struct setup *setup, const struct handover *handover)
{
	int pipe_fds[2];
	pid_t pid;

	/* Not to block on what somebody writes who keeps the other end. */
	if (pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	pid = fork();
	if (pid == 0)
		run_installed(setup, handover, pipe_fds[1]);
	close(pipe_fds[1]);
	if (pid < 0) {
		close(pipe_fds[0]);
		return -EAGAIN;
	}
	*rehearsal = (struct rehearsal){ .pid = pid, .output_fd = pipe_fds[0] };
	return 0;
}

/* The first line, without the name that each message begins with. "" when there is none. */
static const char *first_line(int fd, char *text, size_t size)
{
	static const char name[] = "mount.hrfs: ";
	ssize_t n = read(fd, text, size - 1);

	text[n > 0 ? n : 0] = '\0';
	text[strcspn(text, "\n")] = '\0';
	for (char *at = text; *at; at++)
		if ((unsigned char)*at < ' ')
			*at = ' ';
	return strncmp(text, name, sizeof(name) - 1) == 0 ? text + sizeof(name) - 1 : text;
}

void rehearsal_end(struct rehearsal *rehearsal, int wait_status, char *out, size_t size)
{
	char text[OUTPUT_MAX];
	const char *line = first_line(rehearsal->output_fd, text, sizeof(text));

	if (WIFSIGNALED(wait_status))
		snprintf(out, size, "it was ended by signal %d (%s)", WTERMSIG(wait_status), strsignal(WTERMSIG(wait_status)));
	else if (WEXITSTATUS(wait_status) == 0)
		out[0] = '\0';
	else if (line[0])
		snprintf(out, size, "%s", line);
	else
		snprintf(out, size, "it ended with status %d", WEXITSTATUS(wait_status));
	close(rehearsal->output_fd);
	*rehearsal = (struct rehearsal){ .output_fd = -1 };
}

/* ---- In it ---- */

static bool is_of_type(int fd, mode_t type)
{
	struct stat st;

	return fstat(fd, &st) == 0 && (st.st_mode & S_IFMT) == type;
}

static bool is_listening(int fd)
{
	int value = 0;
	socklen_t size = sizeof(value);

	return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &value, &size) == 0 && value;
}

static bool has_descriptors(const struct setup *setup, const struct handover *handover)
{
	return is_of_type(handover->fuse_fd, S_IFCHR) && is_of_type(setup->source_fd, S_IFDIR) &&
	       is_of_type(setup->state.fd, S_IFDIR) && is_listening(setup->listener.fd);
}

/* The worker has it open: it is only read. */
static int look_at_log(const struct setup *setup)
{
	const struct eventlog_filter everything = { 0 };
	struct eventlog_history *history;
	int r = eventlog_history_open(setup->state.path, &everything, &history);

	if (r == 0)
		eventlog_history_close(history);
	return r;
}

enum exit_status rehearsal_run(struct setup *setup, const struct handover *handover)
{
	enum exit_status status = setup_complete(setup);
	int r;

	if (status != STATUS_OK)
		return status;
	if (!has_descriptors(setup, handover)) {
		log_error("what the running program hands over is not understood");
		return STATUS_SYSTEM;
	}
	r = fs_tables_check(handover->tables_fd);
	if (r < 0) {
		log_error("the tables of the running program cannot be used: %s", strerror(-r));
		return STATUS_CANNOT_ADOPT;
	}
	r = look_at_log(setup);
	if (r < 0) {
		log_error("the log in %s cannot be used: %s", setup->state.path,
			  r == -EPROTO ? "it is of another version of hrfs" : strerror(-r));
		return STATUS_LOG;
	}
	return STATUS_OK;
}
