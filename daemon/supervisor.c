/*
 * Supervisor: a loop over signals, the worker's words, and one deadline.
 *
 *              fork               OPENED: mount, START       LIVE
 *     (begin) ------> STARTING ----------------------------------> SERVING
 *                        ^                                          |
 *                        |  time          the worker dies           |
 *                        +------- PAUSING <-------------------------+
 *                        |                                          |
 *                        |                    SIGHUP, RESTART       |
 *                        +------- RESTARTING <-- REHEARSING <-------+
 *                         exit: exec of the        it refuses ----->+
 *                         new program                               |
 *                                                                   |
 *      (end) <-- exit --- STOPPING <---- SIGTERM, SIGINT -----------+
 *      (end) <-- exit 0, whenever somebody unmounts
 *
 * What becomes of the mount when a worker dies depends on the transport. Classic: the next one takes over the connection, and programs
 * only wait. io_uring: what was in the rings is lost, so the connection is aborted, and the tree mounted afresh once a worker is
 * there for it.
 *
 * A program that has been put in place of another is on trial until its worker has served for a while. When that one fails before, the program
 * of before is put back into the process (handover.h), or, where the new one crashed or hung, its copy goes on (guard.h).
 */
#include "daemon/supervisor.h"

#include "base/log.h"
#include "base/scope.h"
#include "daemon/control.h"
#include "daemon/guard.h"
#include "daemon/handover.h"
#include "daemon/inherit.h"
#include "daemon/launch.h"
#include "daemon/mounttable.h"
#include "daemon/notify.h"
#include "daemon/privileges.h"
#include "daemon/rehearsal.h"
#include "daemon/remount.h"
#include "daemon/setup.h"
#include "daemon/worker.h"
#include "fusefs/fs.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MS 1000000ull

enum {
	YOUNG_MS = 1000,          /* a worker that dies younger than this has failed */
	PAUSE_FIRST_MS = 25,      /* after the first failure; doubled by each further one */
	PAUSE_MAX_MS = 3200,
	FAILURES_MAX = 10,        /* in a row, then the mount is ended */
	UNMOUNT_MS = 5000,        /* for programs to let go of the mount */
	STOP_MS = 15000,          /* for a worker to end that was told to */
	REHEARSAL_MS = 5000,      /* for the installed program to look around */
	TRIAL_START_MS = 15000,   /* for its first worker to be live */
	TRIAL_MS = 2000,          /* for that to serve, until the program before is let go */
};

enum phase { STARTING, SERVING, PAUSING, REHEARSING, RESTARTING, STOPPING, ENDED };

struct supervisor {
	struct setup *setup;
	struct launch *launch;
	enum phase phase;
	enum exit_status result; /* of ENDED */
	bool has_served;         /* some worker was live: from now on deaths are made good */
	bool stops_on_hangup;    /* a terminal's SIGHUP */

	int signal_fd;           /* owned */
	int fuse_fd;             /* owned; -1: not mounted, or given up */
	int tables_fd;           /* owned; of this connection */
	int watch_fd;            /* owned; see mountpoint_watch() */

	pid_t worker_pid;        /* 0: none */
	int control_fd;          /* owned; to the worker; -1: it has closed its end */
	bool takes_over;         /* this worker does */
	bool is_live;            /* this worker is */
	uint64_t started_ns;     /* CLOCK_MONOTONIC */
	unsigned restarts;
	unsigned failures;       /* in a row */

	struct rehearsal rehearsal;
	bool is_rehearsal_late;
	bool is_restart_due;     /* asked for while the worker was not known to be live */
	int previous_fd;         /* owned; on trial: the program before; -1: not on trial */
	int guard_fd;            /* owned; see guard.h; -1: none */
	char failure[CONTROL_TEXT_SIZE]; /* why the last restart came to nothing; "": it did not */

	pid_t unmounter_pid;     /* 0: none */
	uint64_t deadline_ns;    /* of the phase; UINT64_MAX: none */
	bool was_told;           /* STOPPING: the worker, to stop */
};

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

static void enter(struct supervisor *supervisor, enum phase phase, uint64_t limit_ms)
{
	supervisor->phase = phase;
	supervisor->deadline_ns = limit_ms ? now_ns() + limit_ms * MS : UINT64_MAX;
}

static void end(struct supervisor *supervisor, enum exit_status result)
{
	enter(supervisor, ENDED, 0);
	supervisor->result = result;
}

/* ---- The mount ---- */

/* With a dead worker: whoever waits for it gets an error. The mount stays, so that nobody writes to what is under it. */
static void abort_mount(struct supervisor *supervisor)
{
	closep(&supervisor->watch_fd);
	supervisor->watch_fd = -1;
	if (supervisor->fuse_fd < 0)
		return;
	mountpoint_abort(&supervisor->setup->mountpoint);
	close(take_fd(supervisor->fuse_fd));
}

/* What has been aborted. */
static void remove_mount(struct supervisor *supervisor)
{
	int r = mountpoint_unmount(&supervisor->setup->mountpoint, true);

	if (r < 0)
		log_error("cannot unmount %s: %s", supervisor->setup->mountpoint.path, strerror(-r));
}

/* Returns a status, having said why. */
static enum exit_status mount_tree(struct supervisor *supervisor)
{
	struct setup *setup = supervisor->setup;
	const char *fsname = setup->options.fsname ? setup->options.fsname : setup->source;
	struct options options = setup->options;
	struct mounted before;
	enum exit_status status;

	/* An administrator may have made it read-only since. */
	if (mountpoint_find(&setup->mountpoint, &before))
		options.mount_flags = remount_merge(options.mount_flags, options_flags(before.options));
	remove_mount(supervisor);
	status = mountpoint_mount(&setup->mountpoint, fsname, &options, &supervisor->fuse_fd);
	if (status != STATUS_OK || !setup->options.auto_unmount)
		return status;
	supervisor->watch_fd = mountpoint_watch(&setup->mountpoint);
	if (supervisor->watch_fd >= 0)
		return STATUS_OK;
	log_error("auto_unmount cannot be had: %s", strerror(-supervisor->watch_fd));
	return STATUS_SYSTEM;
}

/* May block for as long as the worker does not answer, so it is a process of its own. */
static void start_unmounter(struct supervisor *supervisor)
{
	const struct mountpoint *mountpoint = &supervisor->setup->mountpoint;
	const int kept[] = { mountpoint->namespace_fd, mountpoint->home_fd };
	sigset_t none;

	supervisor->unmounter_pid = fork();
	if (supervisor->unmounter_pid != 0)
		return;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	inherit_only(kept, sizeof(kept) / sizeof(kept[0]));
	_exit(mountpoint_unmount(mountpoint, false) < 0);
}

/* ---- Workers ---- */

static void close_control(struct supervisor *supervisor)
{
	closep(&supervisor->control_fd);
	supervisor->control_fd = -1;
}

/* A worker gets a connection with its tables, or both are new. */
static int prepare_tables(struct supervisor *supervisor)
{
	int fd;

	supervisor->takes_over = supervisor->fuse_fd >= 0;
	if (supervisor->takes_over)
		return 0;
	fd = fs_tables_create();
	if (fd < 0)
		return fd;
	closep(&supervisor->tables_fd);
	supervisor->tables_fd = fd;
	return 0;
}

static void run_worker(const struct supervisor *supervisor, int control_fd, pid_t supervisor_pid)
{
	const struct worker_options options = {
		.setup = supervisor->setup,
		.launch = supervisor->launch,
		.control_fd = control_fd,
		.tables_fd = supervisor->tables_fd,
		.supervisor_pid = supervisor_pid,
		.is_takeover = supervisor->takes_over,
		.is_on_trial = supervisor->previous_fd >= 0,
		.upgrade_failure = supervisor->failure,
		.is_successor = supervisor->has_served,
		.restarts = supervisor->restarts,
	};

	_exit(worker_run(&options));
}

static int fork_worker(struct supervisor *supervisor)
{
	scoped(closep) int ours = -1;
	scoped(closep) int theirs = -1;
	pid_t self = getpid();
	int r = prepare_tables(supervisor);

	if (r == 0)
		r = control_create(&ours, &theirs);
	if (r < 0)
		return r;
	supervisor->worker_pid = fork();
	if (supervisor->worker_pid < 0) {
		supervisor->worker_pid = 0;
		return -errno;
	}
	if (supervisor->worker_pid == 0)
		run_worker(supervisor, theirs, self);
	supervisor->control_fd = take_fd(ours);
	return 0;
}

static bool is_on_trial(const struct supervisor *supervisor)
{
	return supervisor->previous_fd >= 0;
}

static void fail(struct supervisor *supervisor);
static void go_back(struct supervisor *supervisor, const char *why);

static void start_worker(struct supervisor *supervisor)
{
	int r;

	enter(supervisor, STARTING, is_on_trial(supervisor) ? TRIAL_START_MS : 0);
	supervisor->is_live = false;
	supervisor->started_ns = now_ns();
	r = fork_worker(supervisor);
	if (r == 0)
		return;
	log_error("cannot start a worker: %s", strerror(-r));
	if (is_on_trial(supervisor))
		go_back(supervisor, "no worker can be started");
	else if (supervisor->has_served)
		fail(supervisor);
	else
		end(supervisor, STATUS_SYSTEM);
}

static void give_up(struct supervisor *supervisor)
{
	log_error("%u workers in a row died at once; the mount at %s is ended", supervisor->failures,
		  supervisor->setup->mountpoint.path);
	end(supervisor, STATUS_SYSTEM);
}

/* One more worker that did not get to serve. */
static void fail(struct supervisor *supervisor)
{
	uint64_t pause_ms = PAUSE_FIRST_MS;

	supervisor->failures++;
	if (supervisor->failures >= FAILURES_MAX) {
		give_up(supervisor);
		return;
	}
	for (unsigned i = 1; i < supervisor->failures && pause_ms < PAUSE_MAX_MS; i++)
		pause_ms *= 2;
	enter(supervisor, PAUSING, pause_ms);
}

/* Killed from outside while it served, it has not failed; nor when it lived for a while. */
static bool has_failed(const struct supervisor *supervisor, int wait_status)
{
	bool was_killed = WIFSIGNALED(wait_status) && WTERMSIG(wait_status) == SIGKILL;

	if (!supervisor->is_live)
		return true;
	return !was_killed && now_ns() - supervisor->started_ns < YOUNG_MS * MS;
}

static void say_how_it_died(int wait_status)
{
	if (WIFSIGNALED(wait_status))
		log_warning("the worker was ended by signal %d (%s); another follows", WTERMSIG(wait_status),
			    strsignal(WTERMSIG(wait_status)));
	else
		log_warning("the worker ended with status %d; another follows", WEXITSTATUS(wait_status));
}

static void replace_worker(struct supervisor *supervisor, int wait_status)
{
	bool cannot_adopt = WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == STATUS_CANNOT_ADOPT;

	say_how_it_died(wait_status);
	supervisor->restarts++;
	if (supervisor->setup->use_uring || cannot_adopt)
		abort_mount(supervisor);
	if (has_failed(supervisor, wait_status)) {
		fail(supervisor);
		return;
	}
	supervisor->failures = 0;
	start_worker(supervisor);
}

/* ---- Restart ---- */

static void tell_to_stop(struct supervisor *supervisor, enum stop_reason reason)
{
	const struct control_message message = { .kind = CONTROL_STOP, .reason = reason, .fd = -1 };

	/* It fails when the worker has died, which its exit tells. */
	if (supervisor->control_fd >= 0)
		(void)control_send(supervisor->control_fd, &message);
}

static struct handover what_is_left(const struct supervisor *supervisor)
{
	struct handover handover = {
		.fuse_fd = supervisor->fuse_fd,
		.tables_fd = supervisor->tables_fd,
		.watch_fd = supervisor->watch_fd,
		.previous_fd = -1,
		.guard_fd = supervisor->guard_fd,
		.restarts = supervisor->restarts + 1,
	};

	memcpy(handover.failure, supervisor->failure, sizeof(supervisor->failure));
	return handover;
}

static void refuse_restart(struct supervisor *supervisor, const char *why)
{
	struct control_message message = { .kind = CONTROL_REFUSED, .fd = -1 };

	log_warning("no restart: %s", why);
	snprintf(message.text, sizeof(message.text), "%s", why);
	/* It may have died, or nobody may have asked but a signal. */
	if (supervisor->control_fd >= 0)
		(void)control_send(supervisor->control_fd, &message);
}

static void begin_restart(struct supervisor *supervisor)
{
	const struct handover handover = what_is_left(supervisor);
	int r;

	/* A worker serves a moment before it can say so. In the other phases, whoever asked is answered by what comes of them. */
	supervisor->is_restart_due = supervisor->phase == STARTING;
	if (supervisor->phase != SERVING)
		return;
	if (supervisor->setup->use_uring) {
		refuse_restart(supervisor, "over io_uring programs would lose their open files");
		return;
	}
	if (is_on_trial(supervisor) || supervisor->rehearsal.pid > 0) {
		refuse_restart(supervisor, "the last one is not over yet; try again in a few seconds");
		return;
	}
	r = rehearsal_start(&supervisor->rehearsal, supervisor->setup, &handover);
	if (r < 0) {
		refuse_restart(supervisor, strerror(-r));
		return;
	}
	supervisor->is_rehearsal_late = false;
	supervisor->failure[0] = '\0';
	enter(supervisor, REHEARSING, REHEARSAL_MS);
}

/* Something else has come up. */
static void drop_rehearsal(struct supervisor *supervisor)
{
	if (supervisor->phase != REHEARSING)
		return;
	kill(supervisor->rehearsal.pid, SIGKILL);
	enter(supervisor, SERVING, 0);
}

static void on_rehearsed(struct supervisor *supervisor, int wait_status)
{
	char why[CONTROL_TEXT_SIZE - 64], text[CONTROL_TEXT_SIZE];

	rehearsal_end(&supervisor->rehearsal, wait_status, why, sizeof(why));
	if (supervisor->phase != REHEARSING)
		return;
	if (why[0]) {
		snprintf(text, sizeof(text), "the installed program refuses to start: %s",
			 supervisor->is_rehearsal_late ? "it did not answer in time" : why);
		enter(supervisor, SERVING, 0);
		refuse_restart(supervisor, text);
		return;
	}
	notify_reloading();
	tell_to_stop(supervisor, STOP_FOR_OTHER);
	enter(supervisor, RESTARTING, STOP_MS);
}

/* This program goes on. */
static void resume(struct supervisor *supervisor, const char *why)
{
	log_warning("the installed program does not serve: %s; the one before goes on", why);
	snprintf(supervisor->failure, sizeof(supervisor->failure), "%s", why);
	supervisor->restarts++;
	start_worker(supervisor);
}

/* The worker has ended, in good order or not: what it left is what any dead worker leaves. */
static void restart(struct supervisor *supervisor)
{
	struct handover handover;
	int r = guard_start(&supervisor->guard_fd);

	if (r > 0) {
		resume(supervisor, "it crashed, or hung");
		return;
	}
	handover = what_is_left(supervisor);
	if (r == 0)
		r = handover_exec(supervisor->setup, &handover);
	guard_dismiss(take_fd(supervisor->guard_fd));
	resume(supervisor, strerror(-r));
}

/* On trial, and found wanting. */
static void go_back(struct supervisor *supervisor, const char *why)
{
	struct handover handover;
	int r;

	snprintf(supervisor->failure, sizeof(supervisor->failure), "%s", why);
	handover = what_is_left(supervisor);
	handover.previous_fd = supervisor->previous_fd;
	r = handover_return(supervisor->setup, &handover);

	/* Then this one has to do. */
	log_error("the program before cannot be put back: %s", strerror(-r));
	closep(&supervisor->previous_fd);
	supervisor->previous_fd = -1;
	fail(supervisor);
}

static void go_back_after_death(struct supervisor *supervisor, int wait_status)
{
	char why[CONTROL_TEXT_SIZE];

	if (WIFSIGNALED(wait_status))
		snprintf(why, sizeof(why), "its worker was ended by signal %d (%s)", WTERMSIG(wait_status),
			 strsignal(WTERMSIG(wait_status)));
	else
		snprintf(why, sizeof(why), "its worker ended with status %d", WEXITSTATUS(wait_status));
	go_back(supervisor, why);
}

/* The program that runs is the one that stays. */
static void end_trial(struct supervisor *supervisor)
{
	const struct control_message message = { .kind = CONTROL_KEPT, .fd = -1 };

	guard_dismiss(take_fd(supervisor->guard_fd));
	closep(&supervisor->previous_fd);
	supervisor->previous_fd = -1;
	if (supervisor->control_fd >= 0)
		(void)control_send(supervisor->control_fd, &message);
}

/* ---- Stopping ---- */

static void stop_worker(struct supervisor *supervisor)
{
	supervisor->was_told = true;
	tell_to_stop(supervisor, STOP_FOR_GOOD);
	supervisor->deadline_ns = now_ns() + STOP_MS * MS;
}

/* The worker sees the unmount and ends by itself. */
static void begin_stop(struct supervisor *supervisor)
{
	if (supervisor->phase == STOPPING) {
		stop_worker(supervisor);
		return;
	}
	drop_rehearsal(supervisor);
	notify_send("STOPPING=1");
	enter(supervisor, STOPPING, UNMOUNT_MS);
	if (!supervisor->has_served)
		log_error("stopped before the mount was live");
	if (supervisor->worker_pid == 0)
		end(supervisor, STATUS_OK);
	else if (supervisor->fuse_fd >= 0)
		start_unmounter(supervisor);
	else
		/* It waits for a mount, or will, and learns so that none comes. */
		close_control(supervisor);
}

/* ---- What happens ---- */

static void on_opened(struct supervisor *supervisor)
{
	struct control_message message = { .kind = CONTROL_START };
	enum exit_status status = STATUS_OK;

	/* Told to stop meanwhile, it is needed all the same: it answers what is left, and ends when it is unmounted. */
	if (supervisor->phase != STARTING && supervisor->phase != STOPPING)
		return;
	if (supervisor->fuse_fd < 0 && supervisor->phase == STARTING)
		status = mount_tree(supervisor);
	message.fd = supervisor->fuse_fd;
	if (status == STATUS_OK && control_send(supervisor->control_fd, &message) == 0)
		return;
	/* A worker that has died in the meantime is heard of by its exit. */
	if (status == STATUS_OK)
		return;
	close_control(supervisor);
	supervisor->result = status;
}

static void on_live(struct supervisor *supervisor)
{
	if (supervisor->phase != STARTING)
		return;
	enter(supervisor, SERVING, is_on_trial(supervisor) ? TRIAL_MS : 0);
	supervisor->is_live = true;
	if (!is_on_trial(supervisor) && supervisor->guard_fd >= 0)
		end_trial(supervisor);
	if (!supervisor->has_served) {
		supervisor->has_served = true;
		launch_detach(supervisor->launch, supervisor->setup->state.fd);
		launch_succeed(supervisor->launch);
	}
	/* Also at the end of a restart. Where nothing has changed it changes nothing. */
	notify_send("READY=1");
	if (supervisor->is_restart_due)
		begin_restart(supervisor);
}

static void on_control(struct supervisor *supervisor)
{
	struct control_message message;
	int r = control_receive(supervisor->control_fd, &message);

	if (r <= 0) {
		close_control(supervisor);
		return;
	}
	if (message.fd >= 0)
		close(message.fd);
	if (message.kind == CONTROL_OPENED)
		on_opened(supervisor);
	else if (message.kind == CONTROL_LIVE)
		on_live(supervisor);
	else if (message.kind == CONTROL_RESTART)
		begin_restart(supervisor);
}

/* The first worker's word is what the caller hears: it has said why. */
static enum exit_status first_failure(const struct supervisor *supervisor, int wait_status)
{
	if (supervisor->result != STATUS_OK)
		return supervisor->result;
	if (WIFEXITED(wait_status))
		return WEXITSTATUS(wait_status) ? WEXITSTATUS(wait_status) : STATUS_SYSTEM;
	log_error("the worker was ended by signal %d (%s)", WTERMSIG(wait_status), strsignal(WTERMSIG(wait_status)));
	return STATUS_SYSTEM;
}

/* How the daemon ends when it was told to. */
static enum exit_status last_status(const struct supervisor *supervisor, int wait_status)
{
	if (!supervisor->has_served)
		return STATUS_SYSTEM;
	if (WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 0)
		return STATUS_OK;
	log_error("the worker did not end well; what it had not moved to the log is recovered by the next mount");
	return STATUS_SYSTEM;
}

static void on_worker_exit(struct supervisor *supervisor, int wait_status)
{
	bool is_well = WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 0;

	supervisor->worker_pid = 0;
	close_control(supervisor);
	drop_rehearsal(supervisor);
	if (supervisor->phase == RESTARTING)
		restart(supervisor);
	else if (supervisor->phase == STOPPING)
		end(supervisor, last_status(supervisor, wait_status));
	else if (!supervisor->has_served)
		end(supervisor, first_failure(supervisor, wait_status));
	else if (is_well && supervisor->result == STATUS_OK)
		end(supervisor, STATUS_OK);
	else if (is_on_trial(supervisor) && has_failed(supervisor, wait_status))
		go_back_after_death(supervisor, wait_status);
	else if (supervisor->setup->use_uring && !mountpoint_is_mounted(&supervisor->setup->mountpoint))
		end(supervisor, STATUS_SYSTEM);
	else
		replace_worker(supervisor, wait_status);
}

static void reap(struct supervisor *supervisor)
{
	int status;

	if (supervisor->unmounter_pid > 0 && waitpid(supervisor->unmounter_pid, &status, WNOHANG) > 0)
		supervisor->unmounter_pid = 0;
	if (supervisor->rehearsal.pid > 0 && waitpid(supervisor->rehearsal.pid, &status, WNOHANG) > 0)
		on_rehearsed(supervisor, status);
	if (supervisor->worker_pid > 0 && waitpid(supervisor->worker_pid, &status, WNOHANG) > 0)
		on_worker_exit(supervisor, status);
}

static void on_signal(struct supervisor *supervisor)
{
	struct signalfd_siginfo info;

	if (read(supervisor->signal_fd, &info, sizeof(info)) != sizeof(info))
		return;
	if (info.ssi_signo == SIGCHLD)
		reap(supervisor);
	else if (info.ssi_signo == SIGHUP && !supervisor->stops_on_hangup)
		begin_restart(supervisor);
	else
		begin_stop(supervisor);
}

static void on_deadline(struct supervisor *supervisor)
{
	supervisor->deadline_ns = UINT64_MAX;
	if (supervisor->phase == PAUSING) {
		start_worker(supervisor);
	} else if (supervisor->phase == SERVING) {
		end_trial(supervisor);
	} else if (supervisor->phase == REHEARSING) {
		supervisor->is_rehearsal_late = true;
		kill(supervisor->rehearsal.pid, SIGKILL);
	} else if (supervisor->phase == STOPPING && !supervisor->was_told) {
		stop_worker(supervisor);
	} else if (supervisor->worker_pid > 0) {
		log_warning("the worker does not end; it is killed");
		kill(supervisor->worker_pid, SIGKILL);
	}
}

/* ---- The loop ---- */

static int timeout_ms(const struct supervisor *supervisor)
{
	uint64_t now = now_ns();

	if (supervisor->deadline_ns == UINT64_MAX)
		return -1;
	return supervisor->deadline_ns <= now ? 0 : (supervisor->deadline_ns - now) / MS + 1;
}

static void turn(struct supervisor *supervisor)
{
	struct pollfd fds[] = {
		{ .fd = supervisor->signal_fd, .events = POLLIN },
		{ .fd = supervisor->control_fd, .events = POLLIN },
	};

	if (poll(fds, sizeof(fds) / sizeof(fds[0]), timeout_ms(supervisor)) < 0)
		return;
	/* What a worker said before it died comes first. */
	if (fds[1].revents)
		on_control(supervisor);
	else if (fds[0].revents)
		on_signal(supervisor);
	else if (supervisor->deadline_ns <= now_ns())
		on_deadline(supervisor);
}

/* Children are not to inherit these as ignored. */
static int block_signals(void)
{
	sigset_t signals;
	int fd;

	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGHUP);
	sigaddset(&signals, SIGCHLD);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

static void adopt(struct supervisor *supervisor, const struct handover *handover)
{
	supervisor->fuse_fd = handover->fuse_fd;
	supervisor->tables_fd = handover->tables_fd;
	supervisor->watch_fd = handover->watch_fd;
	supervisor->previous_fd = handover->previous_fd;
	supervisor->guard_fd = handover->guard_fd;
	memcpy(supervisor->failure, handover->failure, sizeof(supervisor->failure));
	if (supervisor->failure[0])
		log_warning("the installed program does not serve: %s; the one before goes on", supervisor->failure);
	supervisor->restarts = handover->restarts;
	supervisor->has_served = true;
}

static void finish(struct supervisor *supervisor)
{
	abort_mount(supervisor);
	remove_mount(supervisor);
	guard_dismiss(supervisor->guard_fd);
	closep(&supervisor->previous_fd);
	closep(&supervisor->tables_fd);
	closep(&supervisor->signal_fd);
}

enum exit_status supervisor_run(struct setup *setup, struct launch *launch, const struct handover *handover)
{
	struct supervisor supervisor = {
		.setup = setup,
		.launch = launch,
		.stops_on_hangup = setup->options.is_foreground && isatty(STDIN_FILENO),
		.signal_fd = block_signals(),
		.fuse_fd = -1,
		.tables_fd = -1,
		.watch_fd = -1,
		.control_fd = -1,
		.previous_fd = -1,
		.guard_fd = -1,
		.deadline_ns = UINT64_MAX,
	};
	int r;

	if (supervisor.signal_fd < 0) {
		log_error("cannot wait for signals: %s", strerror(-supervisor.signal_fd));
		return STATUS_SYSTEM;
	}
	r = privileges_drop_in_supervisor(setup->mountpoint.namespace_fd >= 0);
	if (r < 0) {
		log_error("cannot drop privileges: %s", strerror(-r));
		closep(&supervisor.signal_fd);
		return STATUS_SYSTEM;
	}
	if (handover)
		adopt(&supervisor, handover);
	start_worker(&supervisor);
	while (supervisor.phase != ENDED)
		turn(&supervisor);
	finish(&supervisor);
	return supervisor.result;
}
