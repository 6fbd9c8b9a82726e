#include "daemon/handover.h"

#include "base/fdutil.h"
#include "daemon/setup.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define NUMBERS     "HRFS_HANDOVER"        /* descriptors and numbers; what follows are paths */
#define STATE_PATH  "HRFS_HANDOVER_STATE"
#define SOCKET_PATH "HRFS_HANDOVER_SOCKET"

enum {
	HANDOVER_VERSION = 1,  /* changes with the list of numbers */
	NUMBERS_SIZE = 512,
	ARGUMENTS_MAX = 16,
	TRY_MS = 5000,
};

extern char **environ;

/* Where this program was installed. What /proc/self/exe says of a file that has been replaced since is of no use. */
static char program[PATH_MAX];

int handover_init(void)
{
	ssize_t size = readlink("/proc/self/exe", program, sizeof(program) - 1);

	if (size < 0)
		return -errno;
	program[size] = '\0';
	return 0;
}

/* ---- Trying ---- */

/* Returns 0 when it exits with 0 in time, else a negative errno. */
static int wait_briefly(pid_t pid)
{
	int pidfd = pidfd_open(pid, 0);
	struct pollfd poll_fd = { .fd = pidfd, .events = POLLIN };
	bool in_time = pidfd >= 0 && poll(&poll_fd, 1, TRY_MS) > 0;
	int status;

	if (pidfd >= 0)
		close(pidfd);
	if (!in_time)
		kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	if (!in_time)
		return -ETIMEDOUT;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -ENOEXEC;
}

int handover_try(void)
{
	char *argv[] = { program, "-V", NULL };
	posix_spawn_file_actions_t actions;
	pid_t pid;
	int r = posix_spawn_file_actions_init(&actions);

	if (r == 0) {
		r = posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
		if (r == 0)
			r = posix_spawn(&pid, program, &actions, NULL, argv, environ);
		posix_spawn_file_actions_destroy(&actions);
	}
	return r == 0 ? wait_briefly(pid) : -r;
}

/* ---- Leaving ---- */

/* The old program's order of the numbers is the new one's. */
static int write_numbers(const struct setup *setup, const struct handover *handover, char out[NUMBERS_SIZE])
{
	const struct mountpoint *mountpoint = &setup->mountpoint;
	const struct listener *listener = &setup->listener;

	return snprintf(out, NUMBERS_SIZE,
			"%d %d %d %d %d %d %d %d %d %u %u %u %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %d %d",
			HANDOVER_VERSION, handover->fuse_fd, handover->tables_fd, handover->watch_fd, setup->source_fd,
			setup->state.fd, listener->fd, mountpoint->namespace_fd, mountpoint->home_fd, handover->restarts,
			mountpoint->mount_id, mountpoint->connection, (uint64_t)mountpoint->under_dev,
			(uint64_t)mountpoint->under_ino, (uint64_t)listener->dev, (uint64_t)listener->ino,
			setup->is_in_place, setup->use_uring);
}

static int set_inherited(const struct setup *setup, const struct handover *handover, bool on)
{
	const int fds[] = {
		handover->fuse_fd, handover->tables_fd, handover->watch_fd, setup->source_fd, setup->state.fd,
		setup->listener.fd, setup->mountpoint.namespace_fd, setup->mountpoint.home_fd,
	};
	int r = 0;

	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]) && r == 0; i++)
		if (fds[i] >= 0)
			r = fd_set_cloexec(fds[i], !on);
	return r;
}

static void clear_environment(void)
{
	unsetenv(NUMBERS);
	unsetenv(STATE_PATH);
	unsetenv(SOCKET_PATH);
}

static int set_environment(const struct setup *setup, const struct handover *handover)
{
	char numbers[NUMBERS_SIZE];

	write_numbers(setup, handover, numbers);
	if (setenv(NUMBERS, numbers, 1) < 0 || setenv(STATE_PATH, setup->state.path, 1) < 0 ||
	    setenv(SOCKET_PATH, setup->listener.path, 1) < 0)
		return -errno;
	return 0;
}

static void fill_arguments(const struct setup *setup, char *argv[ARGUMENTS_MAX])
{
	const struct options *options = &setup->options;
	int count = 0;

	argv[count++] = program;
	if (options->is_foreground)
		argv[count++] = "-f";
	if (options->debug)
		argv[count++] = "-d";
	if (options->single_thread)
		argv[count++] = "-s";
	if (options->is_verbose)
		argv[count++] = "-v";
	argv[count++] = "-o";
	argv[count++] = options->text;
	argv[count++] = "--";
	argv[count++] = (char *)setup->source;
	argv[count++] = (char *)setup->mountpoint.path;
	argv[count] = NULL;
}

int handover_exec(const struct setup *setup, const struct handover *handover)
{
	char *argv[ARGUMENTS_MAX];
	int r = set_environment(setup, handover);

	fill_arguments(setup, argv);
	if (r == 0)
		r = set_inherited(setup, handover, true);
	if (r == 0) {
		execv(program, argv);
		r = -errno;
	}
	(void)set_inherited(setup, handover, false);
	clear_environment();
	return r;
}

/* ---- Receiving ---- */

static int read_numbers(const char *text, struct setup *setup, struct handover *out)
{
	struct mountpoint *mountpoint = &setup->mountpoint;
	struct listener *listener = &setup->listener;
	uint64_t under_dev, under_ino, dev, ino;
	int version, in_place, uring;
	int count = sscanf(text,
			   "%d %d %d %d %d %d %d %d %d %u %u %u %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %d %d",
			   &version, &out->fuse_fd, &out->tables_fd, &out->watch_fd, &setup->source_fd, &setup->state.fd,
			   &listener->fd, &mountpoint->namespace_fd, &mountpoint->home_fd, &out->restarts,
			   &mountpoint->mount_id, &mountpoint->connection, &under_dev, &under_ino, &dev, &ino, &in_place,
			   &uring);

	if (count != 18 || version != HANDOVER_VERSION)
		return -EPROTO;
	mountpoint->under_dev = under_dev;
	mountpoint->under_ino = under_ino;
	listener->dev = dev;
	listener->ino = ino;
	setup->is_in_place = in_place;
	setup->use_uring = uring;
	return 0;
}

static int copy_path(char out[PATH_MAX], const char *path)
{
	if (!path || strlen(path) >= PATH_MAX)
		return -EPROTO;
	strcpy(out, path);
	return 0;
}

static int receive(const char *numbers, struct setup *setup, struct handover *out)
{
	int r = read_numbers(numbers, setup, out);

	if (r == 0)
		r = copy_path(setup->source, setup->options.source);
	if (r == 0)
		r = copy_path(setup->mountpoint.path, setup->options.mount_point);
	if (r == 0)
		r = copy_path(setup->state.path, getenv(STATE_PATH));
	if (r == 0)
		r = copy_path(setup->listener.path, getenv(SOCKET_PATH));
	if (r == 0 && fstat(setup->source_fd, &setup->source_stat) < 0)
		r = -errno;
	if (r == 0)
		r = set_inherited(setup, out, false);
	setup->state.owner = setup->source_stat.st_uid;
	setup->state.group = setup->source_stat.st_gid;
	return r;
}

int handover_receive(struct setup *setup, struct handover *out)
{
	const char *numbers = getenv(NUMBERS);
	int r;

	if (!numbers)
		return 0;
	r = receive(numbers, setup, out);
	clear_environment();
	return r < 0 ? r : 1;
}
