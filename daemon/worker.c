#include "daemon/worker.h"

#include "base/bytes.h"
#include "base/log.h"
#include "daemon/control.h"
#include "daemon/inherit.h"
#include "daemon/launch.h"
#include "daemon/privileges.h"
#include "daemon/report.h"
#include "daemon/scheduling.h"
#include "daemon/setup.h"
#include "eventlog/eventlog.h"
#include "eventlog/scan.h"
#include "fusefs/fs.h"
#include "proto/event.h"
#include "serve/server.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	LOCK_TRIES = 200,       /* for the lock of a worker that has just died */
	LOCK_PAUSE_MS = 10,
	GRACE_MS = 2000,        /* for subscribers to take what is in the log */
	ALONE_S = 10,           /* to end in good order after the supervisor's death */
};

struct worker {
	const struct worker_options *options;
	const struct setup *setup;
	struct eventlog *log;
	struct writer *writer; /* the main thread's */
	bool was_unclean;      /* the last user of the log did not close it */
	bool is_log_full;      /* as far as the database goes */
	char state_folder[32]; /* not the path it was given by: somebody may have put another folder there */
	struct fs *fs;
	struct scan *scan;
	struct server *server;
	struct report report;
	pthread_t listener;    /* to the supervisor */
	_Atomic int reason;    /* enum stop_reason */
	atomic_bool has_ended; /* what closes now was closed by us */

	pthread_mutex_t mutex; /* guards what follows */
	pthread_cond_t answered;
	enum { NOT_ASKED, ASKED, GRANTED, REFUSED } restart;
	char refusal[CONTROL_TEXT_SIZE];
};

/* ---- The log ---- */

static enum exit_status refuse_log(const struct worker *worker, int error)
{
	const char *path = worker->setup->state.path;

	switch (error) {
	case -EBUSY:
		log_error("another mount uses the state folder %s; unmount that, or choose another folder with -o state=DIR", path);
		return STATUS_BUSY;
	case -EPROTO:
		log_error("the log in %s is of another version of hrfs", path);
		return STATUS_LOG;
	case -EBADMSG:
		log_error("the log in %s is damaged, or no log", path);
		return STATUS_LOG;
	case -ERANGE:
		log_error("log-quota is too small for the journal of the log in %s; give it more, or a smaller journal_size", path);
		return STATUS_LOG;
	default:
		log_error("cannot open the log in %s: %s", path, strerror(-error));
		return STATUS_STATE;
	}
}

/* The lock of a dead worker goes with its last descriptor, which can be a little after it was seen to be dead. */
static int open_log(struct worker *worker)
{
	const struct timespec pause = { .tv_nsec = LOCK_PAUSE_MS * 1000000 };
	const struct eventlog_options options = {
		.state_fd = worker->setup->state.fd,
		.state_path = worker->state_folder,
		.name = worker->setup->state.path,
		.journal_size = worker->setup->options.journal_size,
		.durability = worker->setup->options.durability,
		.on_full = worker->setup->options.on_full,
		.quota = worker->setup->options.log_quota,
		.is_successor = worker->options->is_successor,
	};
	int tries = worker->options->restarts ? LOCK_TRIES : 1;
	struct eventlog_found found;
	int r;

	while ((r = eventlog_open(&options, &worker->log, &found)) == -EBUSY && --tries)
		nanosleep(&pause, NULL);
	worker->was_unclean = r == 0 && found.was_unclean;
	worker->is_log_full = r == 0 && found.is_full;
	if (worker->was_unclean)
		log_info("the log was not closed; %llu events were recovered", (unsigned long long)found.recovered);
	return r;
}

static struct event make_event(enum event_op op)
{
	return (struct event){ .op = op, .origin = EVENT_VFS, .path = "", .comm = "" };
}

static int append(struct worker *worker, enum event_op op)
{
	struct event event = make_event(op);

	return writer_append(worker->writer, &event);
}

/* Whether it can be logged that the tree is mounted, in a full log. Before anything else is said of that, or done to the tree. */
static bool has_room(struct worker *worker)
{
	const struct event event = make_event(EVENT_MOUNTED);
	int r = writer_begin(worker->writer, 0, 0, &event);

	writer_end(worker->writer);
	if (r < 0)
		log_error("the log in %s is full: %s", worker->setup->state.path, eventlog_reason(worker->log, r));
	return r == 0;
}

/* Everything that can be done before the tree is mounted. */
static enum exit_status begin(struct worker *worker)
{
	int r = open_log(worker);

	if (r == 0)
		r = state_give_to_owner(&worker->setup->state);
	if (r == 0)
		r = writer_open(worker->log, &worker->writer);
	if (r == 0 && worker->is_log_full && !worker->options->is_takeover && !has_room(worker))
		return STATUS_LOG;
	if (r == 0)
		r = eventlog_start(worker->log);
	if (r == 0 && !worker->options->is_takeover)
		r = fs_settle_orphans(worker->setup->source_fd, worker->log);
	return r < 0 ? refuse_log(worker, r) : STATUS_OK;
}

/* ---- The supervisor ---- */

static int say(struct worker *worker, enum control_kind kind)
{
	return control_send(worker->options->control_fd, &(struct control_message){ .kind = kind, .fd = -1 });
}

/* Returns /dev/fuse, or a negative errno: the supervisor has changed its mind. */
static int wait_for_start(struct worker *worker)
{
	struct control_message message;
	int r = control_receive(worker->options->control_fd, &message);

	if (r <= 0 || message.kind != CONTROL_START)
		return r < 0 ? r : -ECANCELED;
	return message.fd;
}

/* What becomes of a restart that was asked for; nothing when none was. */
static void settle_restart(struct worker *worker, bool is_granted, const char *refusal)
{
	pthread_mutex_lock(&worker->mutex);
	if (worker->restart == ASKED) {
		worker->restart = is_granted ? GRANTED : REFUSED;
		snprintf(worker->refusal, sizeof(worker->refusal), "%s", refusal);
		pthread_cond_broadcast(&worker->answered);
	}
	pthread_mutex_unlock(&worker->mutex);
}

static void on_message(struct worker *worker, const struct control_message *message)
{
	if (message->kind == CONTROL_REFUSED)
		settle_restart(worker, false, message->text);
	if (message->kind == CONTROL_KEPT)
		atomic_store(&worker->report.is_on_trial, false);
	if (message->kind != CONTROL_STOP)
		return;
	atomic_store(&worker->reason, message->reason);
	/* Whoever asks how it went while this worker still answers does not get the last word. */
	if (message->reason == STOP_FOR_OTHER)
		atomic_store(&worker->report.is_on_trial, true);
	settle_restart(worker, message->reason == STOP_FOR_OTHER, "the mount ends");
	fs_stop(worker->fs);
}

/* Nobody would replace us, kill us, or unmount: end in good order, or else at once. */
static void end_alone(struct worker *worker)
{
	log_error("the supervisor died; so the mount ends");
	alarm(ALONE_S);
	atomic_store(&worker->reason, STOP_FOR_GOOD);
	fs_stop(worker->fs);
}

static void *listen_to_supervisor(void *data)
{
	struct worker *worker = data;
	struct control_message message;

	pthread_setname_np(pthread_self(), "hrfs-control");
	while (control_receive(worker->options->control_fd, &message) > 0)
		on_message(worker, &message);
	if (!atomic_load(&worker->has_ended))
		end_alone(worker);
	return NULL;
}

static void stop_listening(struct worker *worker)
{
	atomic_store(&worker->has_ended, true);
	shutdown(worker->options->control_fd, SHUT_RD);
	pthread_join(worker->listener, NULL);
}

/* ---- Serving ---- */

/* On a session thread. */
static void on_ready(void *data)
{
	struct worker *worker = data;

	launch_detach(worker->options->launch, worker->setup->state.fd);
	/* When it fails the supervisor has died, which the listener sees as well. */
	(void)say(worker, CONTROL_LIVE);
}

static void write_status(void *data, struct bytes *json)
{
	struct worker *worker = data;

	report_write(&worker->report, json);
}

/* On the server's thread for what may block: it waits for the supervisor's word. */
static int restart(void *data, char *out_refusal, size_t size)
{
	struct worker *worker = data;
	int r;

	pthread_mutex_lock(&worker->mutex);
	worker->restart = ASKED;
	pthread_mutex_unlock(&worker->mutex);
	snprintf(out_refusal, size, "the mount ends");
	/* Whoever stops us afterwards settles it. */
	if (atomic_load(&worker->has_ended))
		return -ECANCELED;
	r = say(worker, CONTROL_RESTART);
	if (r < 0)
		return r;
	pthread_mutex_lock(&worker->mutex);
	while (worker->restart == ASKED)
		pthread_cond_wait(&worker->answered, &worker->mutex);
	r = worker->restart == GRANTED ? 0 : -ECANCELED;
	snprintf(out_refusal, size, "%s", worker->refusal);
	worker->restart = NOT_ASKED;
	pthread_mutex_unlock(&worker->mutex);
	return r;
}

static enum exit_status refuse_session(const struct worker *worker, int error)
{
	bool insists = worker->setup->options.passthrough == FS_ON;

	if (insists && (error == -EPERM || error == -EOPNOTSUPP)) {
		log_error("passthrough=on: %s", error == -EPERM ? "it needs CAP_SYS_ADMIN" : "the kernel has none");
		return STATUS_FUSE;
	}
	log_error("cannot serve the file system: %s", strerror(-error));
	/* Of another version, maybe. */
	return worker->options->is_takeover && error == -EPROTO ? STATUS_CANNOT_ADOPT : STATUS_SYSTEM;
}

static int create_fs(struct worker *worker, int fuse_fd)
{
	const struct setup *setup = worker->setup;
	const struct fs_options options = {
		.fuse_fd = fuse_fd,
		.source_fd = setup->source_fd,
		.tables_fd = worker->options->tables_fd,
		.state_path = setup->state.path,
		.socket_path = setup->listener.path,
		.is_takeover = worker->options->is_takeover,
		.is_in_place = setup->is_in_place,
		.use_uring = setup->use_uring,
		.gives_way = worker->report.is_idle_class,
		.passthrough = setup->options.passthrough,
		.single_thread = setup->options.single_thread,
		.allow_root = setup->options.allow_root,
		.default_permissions = true,
		.sync_always = setup->options.mount_flags & MS_SYNCHRONOUS,
		.sync_names = setup->options.mount_flags & (MS_SYNCHRONOUS | MS_DIRSYNC),
		.is_unlogged = setup->options.log == LOG_OFF,
		.debug = setup->options.debug,
		.max_read = setup->options.max_read,
		.on_ready = on_ready,
		.userdata = worker,
	};

	return fs_create(&options, worker->log, &worker->fs);
}

static int start_scan(struct worker *worker)
{
	const struct setup *setup = worker->setup;
	const struct scan_options options = {
		.mode = setup->options.scan,
		.source_fd = setup->source_fd,
		.state_path = worker->state_folder,
		.is_takeover = worker->options->is_takeover,
		.was_unclean = worker->was_unclean,
	};

	return scan_start(&options, worker->log, &worker->scan);
}

static int start_server(struct worker *worker)
{
	const struct setup *setup = worker->setup;
	const struct server_options options = {
		.listen_fd = setup->listener.fd,
		.owner = setup->state.owner,
		.group = setup->subscribers,
		.root = setup->mountpoint.path,
	};
	const struct server_hooks hooks = {
		.write_status = write_status,
		.restart = restart,
		.userdata = worker,
	};
	int r;

	worker->report.fs = worker->fs;
	worker->report.scan = worker->scan;
	r = server_create(&options, &hooks, worker->log, &worker->server);
	return r == 0 ? server_start(worker->server) : r;
}

/* The server does not end before those whom it answers have their word. */
static void end_restarts(struct worker *worker)
{
	atomic_store(&worker->has_ended, true);
	settle_restart(worker, atomic_load(&worker->reason) == STOP_FOR_OTHER, "the mount ends");
}

static void stop_at_once(struct worker *worker)
{
	end_restarts(worker);
	server_stop(worker->server, "stopped", 0);
}

/* Subscribers see the last event before they are told good-bye. */
static void say_goodbye(struct worker *worker)
{
	static const char *const reasons[] = {
		[STOP_NONE] = "unmounted",
		[STOP_FOR_GOOD] = "stopped",
		[STOP_FOR_OTHER] = "restart",
	};
	enum stop_reason reason = atomic_load(&worker->reason);
	int r = 0;

	end_restarts(worker);

	if (reason != STOP_FOR_OTHER)
		r = append(worker, EVENT_UNMOUNTED);
	if (r < 0)
		log_warning("the end of the mount could not be logged: %s", strerror(-r));
	server_stop(worker->server, reasons[reason], GRACE_MS);
}

static int serve(struct worker *worker)
{
	int r = start_scan(worker);

	if (r == 0)
		r = start_server(worker);
	if (r < 0)
		return r;
	r = -pthread_create(&worker->listener, NULL, listen_to_supervisor, worker);
	if (r < 0) {
		server_stop(worker->server, "stopped", 0);
		return r;
	}
	r = fs_run(worker->fs);
	eventlog_say_ending(worker->log);
	scan_stop(worker->scan);
	if (r == 0)
		say_goodbye(worker);
	else
		stop_at_once(worker);
	stop_listening(worker);
	return r;
}

static enum exit_status run(struct worker *worker)
{
	enum exit_status status = begin(worker);
	int fuse_fd, r;

	if (status != STATUS_OK)
		return status;
	if (say(worker, CONTROL_OPENED) < 0)
		return STATUS_OK;
	fuse_fd = wait_for_start(worker);
	if (fuse_fd < 0)
		return STATUS_OK;
	r = create_fs(worker, fuse_fd);
	if (r == 0 && !worker->options->is_takeover)
		r = append(worker, EVENT_MOUNTED);
	if (r == 0)
		r = serve(worker);
	return r < 0 ? refuse_session(worker, r) : STATUS_OK;
}

/* ---- The process ---- */

/* A terminal and a service manager signal all processes alike. Ours is told by the supervisor. SIGIO is of leases (fusefs/mapped.c). */
static void set_signals(void)
{
	static const int ignored[] = { SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGIO };
	const struct sigaction ignore = { .sa_handler = SIG_IGN };
	sigset_t none;

	for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
		sigaction(ignored[i], &ignore, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Whether the worker gives way to programs. A session of its own keeps it apart from those of the terminal, for the scheduler too. */
static bool choose_scheduling(const struct options *options)
{
	return setsid() >= 0 && options->scheduling == SCHEDULING_AUTO && scheduling_yield();
}

static void keep_own_descriptors(const struct worker_options *options)
{
	const int kept[] = {
		options->control_fd, options->tables_fd, options->setup->source_fd,
		options->setup->state.fd, options->setup->listener.fd,
	};

	inherit_only(kept, sizeof(kept) / sizeof(kept[0]));
}

enum exit_status worker_run(const struct worker_options *options)
{
	struct worker worker = {
		.options = options,
		.setup = options->setup,
		.report = {
			.setup = options->setup,
			.supervisor_pid = options->supervisor_pid,
			.restarts = options->restarts,
			.upgrade_failure = options->upgrade_failure,
			.is_on_trial = options->is_on_trial,
		},
		.mutex = PTHREAD_MUTEX_INITIALIZER,
		.answered = PTHREAD_COND_INITIALIZER,
	};
	enum exit_status status;
	int r = privileges_drop_in_worker();

	if (r < 0) {
		log_error("cannot drop privileges: %s", strerror(-r));
		return STATUS_SYSTEM;
	}
	snprintf(worker.state_folder, sizeof(worker.state_folder), "/proc/self/fd/%d", options->setup->state.fd);
	set_signals();
	keep_own_descriptors(options);
	fs_reserve_descriptors(options->control_fd);
	worker.report.is_idle_class = choose_scheduling(&options->setup->options);
	status = run(&worker);
	server_destroy(worker.server);
	scan_destroy(worker.scan);
	fs_destroy(worker.fs);
	writer_close(worker.writer);
	eventlog_close(worker.log);
	return status;
}
