#include "daemon/handover.h"

#include "base/fdutil.h"
#include "daemon/setup.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NUMBERS      "HRFS_HANDOVER"        /* version, descriptors and numbers; what follows are paths and a sentence */
#define STATE_PATH   "HRFS_HANDOVER_STATE"
#define SOCKET_PATH  "HRFS_HANDOVER_SOCKET"
#define PROGRAM_PATH "HRFS_HANDOVER_PROGRAM"
#define FAILURE      "HRFS_HANDOVER_FAILURE"

/* The number changes with the list behind it: a program of another one is refused by its rehearsal. */
#define VERSION_WORD "hrfs-handover/2"

enum { NUMBERS_SIZE = 512, ARGUMENTS_MAX = 16 };

extern char **environ;

/*
 * Where this program was installed, and the file itself. The name may be another file's by now, and what /proc/self/exe says of a file that
 * has been replaced is of no use, so the name goes from program to program.
 */
static char program[PATH_MAX];
static int self_fd = -1;

int handover_init(void)
{
	const char *before = getenv(PROGRAM_PATH);
	ssize_t size;

	self_fd = open("/proc/self/exe", O_PATH | O_CLOEXEC);
	if (self_fd < 0)
		return -errno;
	if (before && strlen(before) < sizeof(program)) {
		strcpy(program, before);
		return 0;
	}
	size = readlink("/proc/self/exe", program, sizeof(program) - 1);
	if (size < 0)
		return -errno;
	program[size] = '\0';
	return 0;
}

int handover_program_fd(void)
{
	return self_fd;
}

/* ---- Leaving ---- */

/* The old program's order of the numbers is the new one's. */
static int write_numbers(const struct setup *setup, const struct handover *handover, char out[NUMBERS_SIZE])
{
	const struct mountpoint *mountpoint = &setup->mountpoint;
	const struct listener *listener = &setup->listener;

	return snprintf(out, NUMBERS_SIZE,
			VERSION_WORD " %d %d %d %d %d %d %d %d %d %d %u %u %u %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64
			" %d %d",
			handover->fuse_fd, handover->tables_fd, handover->watch_fd, handover->previous_fd,
			handover->guard_fd, setup->source_fd, setup->state.fd, listener->fd, mountpoint->namespace_fd,
			mountpoint->home_fd, handover->restarts,
			mountpoint->mount_id, mountpoint->connection, (uint64_t)mountpoint->under_dev,
			(uint64_t)mountpoint->under_ino, (uint64_t)listener->dev, (uint64_t)listener->ino,
			setup->is_in_place, setup->use_uring);
}

static int set_inherited(const struct setup *setup, const struct handover *handover, bool on)
{
	const int fds[] = {
		handover->fuse_fd, handover->tables_fd, handover->watch_fd, handover->previous_fd, handover->guard_fd,
		setup->source_fd, setup->state.fd, setup->listener.fd, setup->mountpoint.namespace_fd,
		setup->mountpoint.home_fd,
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
	unsetenv(PROGRAM_PATH);
	unsetenv(FAILURE);
}

static int set_environment(const struct setup *setup, const struct handover *handover)
{
	char numbers[NUMBERS_SIZE];

	write_numbers(setup, handover, numbers);
	if (setenv(NUMBERS, numbers, 1) < 0 || setenv(STATE_PATH, setup->state.path, 1) < 0 ||
	    setenv(SOCKET_PATH, setup->listener.path, 1) < 0 || setenv(PROGRAM_PATH, program, 1) < 0 ||
	    setenv(FAILURE, handover->failure, 1) < 0)
		return -errno;
	return 0;
}

static void fill_arguments(const struct setup *setup, bool is_rehearsal, char *argv[ARGUMENTS_MAX])
{
	const struct options *options = &setup->options;
	int count = 0;

	argv[count++] = program;
	if (is_rehearsal)
		argv[count++] = "--rehearse";
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

/* @fd: the program's file; -1: what is installed now. */
static int exec(const struct setup *setup, const struct handover *handover, int fd, bool is_rehearsal)
{
	char *argv[ARGUMENTS_MAX];
	int r = set_environment(setup, handover);

	fill_arguments(setup, is_rehearsal, argv);
	if (r == 0)
		r = set_inherited(setup, handover, true);
	if (r == 0) {
		if (fd >= 0)
			execveat(fd, "", argv, environ, AT_EMPTY_PATH);
		else
			execv(program, argv);
		r = -errno;
	}
	(void)set_inherited(setup, handover, false);
	clear_environment();
	return r;
}

int handover_exec_rehearsal(const struct setup *setup, const struct handover *handover)
{
	return exec(setup, handover, -1, true);
}

int handover_exec(const struct setup *setup, struct handover *handover)
{
	handover->previous_fd = self_fd;
	return exec(setup, handover, -1, false);
}

int handover_return(const struct setup *setup, struct handover *handover)
{
	int previous_fd = handover->previous_fd;

	/* Which has nobody to go back to, being known to work. */
	handover->previous_fd = -1;
	return exec(setup, handover, previous_fd, false);
}

/* ---- Receiving ---- */

static int read_numbers(const char *text, struct setup *setup, struct handover *out)
{
	struct mountpoint *mountpoint = &setup->mountpoint;
	struct listener *listener = &setup->listener;
	uint64_t under_dev, under_ino, dev, ino;
	int in_place, uring;
	int count = sscanf(text,
			   VERSION_WORD " %d %d %d %d %d %d %d %d %d %d %u %u %u %" SCNu64 " %" SCNu64 " %" SCNu64
			   " %" SCNu64 " %d %d",
			   &out->fuse_fd, &out->tables_fd, &out->watch_fd, &out->previous_fd, &out->guard_fd,
			   &setup->source_fd, &setup->state.fd, &listener->fd, &mountpoint->namespace_fd,
			   &mountpoint->home_fd, &out->restarts, &mountpoint->mount_id, &mountpoint->connection, &under_dev,
			   &under_ino, &dev, &ino, &in_place, &uring);

	if (count != 19)
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
	const char *failure = getenv(FAILURE);
	int r = read_numbers(numbers, setup, out);

	snprintf(out->failure, sizeof(out->failure), "%s", failure ? failure : "");
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
	state_set_owner(&setup->state, &setup->source_stat);
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
