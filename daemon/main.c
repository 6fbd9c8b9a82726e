/*
 * mount.hrfs: mounts a directory so that every change to it is logged. See mount.hrfs(8).
 *
 * A tour of the tree, from the bottom up; docs/architecture.md says how it works together:
 *
 *     base/      knows nothing about hrfs: owning locals, messages, buffers, descriptors, the event loop
 *     proto/     bytes that cross a boundary: the event's record, the JSON lines
 *     eventlog/  the log: a journal in a mapped file, SQLite behind it, and the door to both, eventlog.h
 *     fusefs/    the FUSE session: inodes, open files, operations, and how each becomes an event
 *     serve/     the socket and its subscribers
 *     daemon/    this program: options, checks, the supervisor that mounts, the worker that serves
 *     client/    libhrfs, for programs that follow the log
 *     cli/       hrfs, the command for people
 *     docs/      how it is made, what is on disk, man pages
 *     tests/     unit tests, and integration tests that drive the real mount
 *     bench/     programs that print numbers
 *     tools/     try, test, build, set up, and what only developers run
 *
 * Here: options.h reads the command line, setup.h checks and opens what it names, launch.h goes to the background,
 * and supervisor.h keeps a worker.h alive until the end.
 */
#include "base/fdutil.h"
#include "base/log.h"
#include "base/scope.h"
#include "daemon/handover.h"
#include "daemon/inherit.h"
#include "daemon/launch.h"
#include "daemon/options.h"
#include "daemon/rehearsal.h"
#include "daemon/remount.h"
#include "daemon/setup.h"
#include "daemon/supervisor.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * Who starts us may ignore this: then no child that ends would be heard of. Others that are ignored come all the same, because the
 * supervisor blocks them and reads them. What is not ignored is not set anew, which after a restart would throw away what is pending.
 */
static void heed_children(void)
{
	const struct sigaction heed = { .sa_handler = SIG_DFL };
	struct sigaction now;

	if (sigaction(SIGCHLD, NULL, &now) == 0 && now.sa_handler == SIG_IGN)
		sigaction(SIGCHLD, &heed, NULL);
}

static void set_process(const struct options *options)
{
	const struct sigaction ignore = { .sa_handler = SIG_IGN };

	heed_children();
	log_init("mount.hrfs", options->debug ? LOG_DEBUG : options->is_verbose ? LOG_INFO : LOG_WARNING);
	/* A peer that went away is an error of the write to it. */
	sigaction(SIGPIPE, &ignore, NULL);
	/* So is a file that is larger than we may make one. */
	sigaction(SIGXFSZ, &ignore, NULL);
	umask(022);
}

static enum exit_status print(const char *text)
{
	/* A reader that has gone is no failure. */
	if ((fputs(text, stdout) >= 0 && fflush(stdout) == 0) || errno == EPIPE)
		return STATUS_OK;
	log_error("cannot write: %m");
	return STATUS_SYSTEM;
}

/* Relative paths have been resolved, and no place is kept busy by us. */
static enum exit_status leave_place(void)
{
	if (chdir("/") == 0)
		return STATUS_OK;
	log_error("cannot go to /: %m");
	return STATUS_SYSTEM;
}

static enum exit_status run_new(struct setup *setup)
{
	const int kept[] = { handover_program_fd() };
	struct launch launch = { .caller_fd = -1 };
	enum exit_status status;

	/* Somebody would wait for the end of a pipe that a daemon holds by accident. */
	if (!setup->options.is_foreground)
		inherit_only(kept, 1);
	status = setup_open(setup);
	if (status == STATUS_OK)
		status = leave_place();
	if (status == STATUS_OK)
		status = launch_begin(&launch, setup->options.is_foreground);
	if (status == STATUS_OK)
		status = supervisor_run(setup, &launch, NULL);
	setup_close(setup);
	/* Last, so that the caller can try again at once. */
	launch_fail(&launch, status);
	return status;
}

static enum exit_status refuse_handover(int error)
{
	log_error("cannot take over from the program before: %s",
		  error == -EPROTO ? "it is of another version of hrfs" : strerror(-error));
	return STATUS_SYSTEM;
}

/* What is handed over belongs to a live mount: on failure nothing of it is closed, because closing removes the socket. */
static enum exit_status run_next(struct setup *setup, const struct handover *handover)
{
	struct launch launch = { .caller_fd = -1 };
	enum exit_status status = setup_complete(setup);

	if (status != STATUS_OK)
		return status;
	status = supervisor_run(setup, &launch, handover);
	setup_close(setup);
	return status;
}

/* Nothing of a live mount is closed here either. */
static enum exit_status rehearse(struct setup *setup, const struct handover *handover)
{
	enum exit_status status = rehearsal_run(setup, handover);

	options_finish(&setup->options);
	return status;
}

static enum exit_status run(struct setup *setup)
{
	struct handover handover;
	int r = handover_init();

	if (r == 0)
		r = handover_receive(setup, &handover);
	if (r < 0 || (r == 0 && setup->options.is_rehearsal))
		return refuse_handover(r < 0 ? r : -EINVAL);
	if (setup->options.is_rehearsal)
		return rehearse(setup, &handover);
	return r == 0 ? run_new(setup) : run_next(setup, &handover);
}

int main(int argc, char **argv)
{
	struct setup setup = SETUP_EMPTY;
	enum exit_status status;
	int r;

	/* It fails where there is no /dev/null, which is nothing to refuse for. */
	(void)fd_reserve_stdio();
	r = options_parse(argc, argv, &setup.options);

	set_process(&setup.options);
	if (r == OPTIONS_MOUNT && !setup.options.is_remount)
		return run(&setup);
	if (r == OPTIONS_MOUNT)
		status = remount_run(&setup.options);
	else if (r == OPTIONS_HELP)
		status = print(options_help);
	else if (r == OPTIONS_VERSION)
		status = print("mount.hrfs " HRFS_VERSION "\n");
	else {
		log_error("%s", r == -EINVAL ? setup.options.complaint : strerror(-r));
		status = r == -EINVAL ? STATUS_USAGE : STATUS_SYSTEM;
	}
	options_finish(&setup.options);
	return status;
}
