/*
 * hrfs tail: follow the changes, over every interruption.
 *
 * Signals are looked at where that leaves whole lines behind: while events come they are blocked
 * and arrive at a descriptor that is polled along with the connection. While there is none, and
 * with it nothing to cut in two, a handler ends the program at once.
 *
 *                  connect, subscribe -> receive -> lost -> connect, subscribe again -> receive ...
 *     signals to:  handler               descriptor         handler                     descriptor
 */
#include "base/log.h"
#include "base/scope.h"
#include "cli/color.h"
#include "cli/command.h"
#include "cli/format.h"
#include "cli/number.h"
#include "cli/output.h"
#include "cli/text.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

enum { PAUSE_FIRST_MS = 20, PAUSE_LAST_MS = 1000 };

/* Why receiving ended. */
enum ending {
	GO_ON = 0,
	CAUGHT_UP, /* and that was all that was wanted */
	LOST,      /* the connection */
	UNMOUNTED,
	INTERRUPTED,
	READER_GONE,
	FAILED, /* which has been told */
};

struct tail {
	const char *name;           /* of the mount, as it was given */
	char path[PATH_MAX];        /* the same, whatever becomes of the working directory */
	char socket_path[PATH_MAX]; /* where the server was last */
	bool json;
	bool follow;
	struct format format;
	struct output output;
	sigset_t signals;
	int signal_fd;
	struct hrfs *hrfs; /* owned; NULL while there is no connection */
	char log_id[64];   /* of the log that position is in */
	uint64_t position;
	struct tm day; /* of the event that was shown last */
};

/* ---- Signals ---- */

static int tail_open_signals(struct tail *tail)
{
	sigemptyset(&tail->signals);
	sigaddset(&tail->signals, SIGINT);
	sigaddset(&tail->signals, SIGTERM);
	tail->signal_fd = signalfd(-1, &tail->signals, SFD_CLOEXEC | SFD_NONBLOCK);
	return tail->signal_fd < 0 ? -errno : 0;
}

/*
 * From now on signals come through the descriptor, or else end the program: there is no handler, because a system call on a mount that does
 * not answer is ended only by a signal that kills.
 */
static void hold_signals(const struct tail *tail, bool hold)
{
	sigprocmask(hold ? SIG_BLOCK : SIG_UNBLOCK, &tail->signals, NULL);
}

/* ---- Showing ---- */

static bool is_same_day(const struct tm *a, const struct tm *b)
{
	return a->tm_year == b->tm_year && a->tm_yday == b->tm_yday;
}

/* Lines have no date, so one stands between those of two days. */
static void show_day(struct tail *tail, int64_t time_ns)
{
	time_t second = time_ns / 1000000000;
	char text[sizeof("2026-11-22 (Saturday)") + 16];
	struct tm day;

	localtime_r(&second, &day);
	if (is_same_day(&day, &tail->day))
		return;
	tail->day = day;
	strftime(text, sizeof(text), "%Y-%m-%d (%A)", &day);
	bytes_append_format(&tail->output.bytes, "%s-- %s --%s\n",
			    tail->format.color ? COLOR_DIM : "", text,
			    tail->format.color ? COLOR_RESET : "");
}

static void show_event(struct tail *tail, const struct hrfs_event *event)
{
	show_day(tail, event->time_ns);
	format_event(&tail->output.bytes, &tail->format, event);
}

static void show_gap(struct tail *tail, uint64_t first, uint64_t last)
{
	bytes_append_format(&tail->output.bytes,
			    "%s-- events %" PRIu64 " to %" PRIu64 " are no longer kept --%s\n",
			    tail->format.color ? COLOR_BOLD_RED : "", first, last,
			    tail->format.color ? COLOR_RESET : "");
}

static void show_line(struct tail *tail, const char *line, size_t length)
{
	bytes_append(&tail->output.bytes, line, length);
	bytes_append_char(&tail->output.bytes, '\n');
}

static void show(struct tail *tail, int message, const struct hrfs_event *event)
{
	if (tail->json)
		show_line(tail, event->json, event->json_length);
	else if (message == HRFS_EVENT)
		show_event(tail, event);
	else if (message == HRFS_GAP)
		show_gap(tail, tail->position + 1, hrfs_position(tail->hrfs));
}

/* What a flush has answered. */
static enum ending ending_of_output(int r)
{
	if (r == 0)
		return GO_ON;
	if (r == -EPIPE)
		return READER_GONE;
	if (r == -EINTR)
		return INTERRUPTED;
	command_written(r);
	return FAILED;
}

/* ---- Receiving ---- */

/* A reader that goes away is noticed although there is nothing to write. */
static enum ending wait_for_news(struct tail *tail)
{
	struct pollfd fds[] = {
		{ .fd = hrfs_fd(tail->hrfs), .events = POLLIN },
		{ .fd = tail->signal_fd, .events = POLLIN },
		{ .fd = STDOUT_FILENO, .events = 0 },
	};

	if (poll(fds, 3, -1) < 0 && errno != EINTR) {
		log_error("cannot wait for events: %s", strerror(errno));
		return FAILED;
	}
	if (fds[1].revents)
		return INTERRUPTED;
	return fds[2].revents & (POLLERR | POLLHUP | POLLNVAL) ? READER_GONE : GO_ON;
}

static enum ending take_message(struct tail *tail, int message, const struct hrfs_event *event)
{
	show(tail, message, event);
	tail->position = hrfs_position(tail->hrfs);

	if (message == HRFS_CAUGHT_UP && !tail->follow)
		return CAUGHT_UP;
	if (message == HRFS_BYE)
		return strcmp(hrfs_bye_reason(tail->hrfs), "unmounted") == 0 ? UNMOUNTED : LOST;
	return ending_of_output(output_flush_batch(&tail->output));
}

/* Everything has been read: let the reader have it, then wait for more. */
static enum ending rest(struct tail *tail)
{
	enum ending ending = ending_of_output(output_flush(&tail->output));

	return ending == GO_ON ? wait_for_news(tail) : ending;
}

static enum ending receive(struct tail *tail)
{
	enum ending ending = GO_ON;
	struct hrfs_event event;

	while (ending == GO_ON) {
		int r = hrfs_next(tail->hrfs, &event, 0);

		if (r == HRFS_NOTHING) {
			ending = rest(tail);
		} else if (r > 0) {
			ending = take_message(tail, r, &event);
		} else if (r == -EPIPE) {
			ending = LOST;
		} else {
			command_no_answer(tail->hrfs, tail->name, r);
			ending = FAILED;
		}
	}
	return ending;
}

/* Receive until that ends, and let the reader have what had come until then. */
static enum ending follow(struct tail *tail)
{
	enum ending ending, writing = GO_ON;

	hold_signals(tail, true);
	ending = receive(tail);
	if (ending != INTERRUPTED && ending != READER_GONE)
		writing = ending_of_output(output_flush(&tail->output));
	if (ending != INTERRUPTED && writing != INTERRUPTED)
		hold_signals(tail, false);
	return writing != GO_ON ? writing : ending;
}

/* ---- Connecting ---- */

static int subscribe(struct tail *tail, uint64_t since)
{
	int r = hrfs_subscribe(tail->hrfs, since, tail->follow);

	if (r < 0)
		return r;
	snprintf(tail->log_id, sizeof(tail->log_id), "%s", hrfs_log_id(tail->hrfs));
	tail->position = hrfs_position(tail->hrfs);
	if (tail->json)
		show_line(tail, hrfs_line(tail->hrfs), strlen(hrfs_line(tail->hrfs)));
	return 0;
}

static int start(struct tail *tail, uint64_t since)
{
	int r;

	if (!realpath(tail->name, tail->path))
		return command_no_mount(tail->name, -errno);
	r = hrfs_find_socket(tail->path, tail->socket_path, sizeof(tail->socket_path));
	if (r < 0)
		return command_no_mount(tail->name, r);
	if (command_connect(tail->path, &tail->hrfs) < 0)
		return COMMAND_FAILED;
	r = subscribe(tail, since);
	return r < 0 ? command_no_answer(tail->hrfs, tail->name, r) : COMMAND_DONE;
}

/*
 * The server is where it was, or where the mount says that it is now. The mount of a dead daemon
 * may be slow to say.
 */
static int connect_again(struct tail *tail)
{
	char socket_path[PATH_MAX];

	if (hrfs_connect_socket(tail->socket_path, &tail->hrfs) == 0)
		return 0;
	if (hrfs_find_socket(tail->path, socket_path, sizeof(socket_path)) < 0)
		return -ENOTCONN;
	if (hrfs_connect_socket(socket_path, &tail->hrfs) < 0)
		return -ENOTCONN;
	strcpy(tail->socket_path, socket_path);
	return 0;
}

/*
 * A number means nothing in another log: of a state folder that was removed, or a damaged log
 * that was set aside.
 */
static int subscribe_again(struct tail *tail)
{
	const char *status;
	int r;

	r = hrfs_status(tail->hrfs, &status);
	if (r < 0)
		return r;
	if (strcmp(hrfs_log_id(tail->hrfs), tail->log_id) == 0) {
		r = subscribe(tail, tail->position);
		if (r == 0)
			log_info("%s: connected again, going on after event %" PRIu64, tail->name,
				 tail->position);
	} else {
		r = subscribe(tail, HRFS_SINCE_OLDEST);
		if (r == 0)
			log_info("%s: connected again, but to a new log (%s); going on from its "
				 "oldest event",
				 tail->name, tail->log_id);
	}
	return r;
}

/* Returns LOST when it is worth another try. */
static enum ending try_again(struct tail *tail)
{
	int r = connect_again(tail);

	if (r == 0)
		r = subscribe_again(tail);
	if (r == 0)
		return GO_ON;
	if (r == -EREMOTEIO)
		command_no_answer(tail->hrfs, tail->name, r);
	hrfs_close(tail->hrfs);
	tail->hrfs = NULL;
	return r == -EREMOTEIO ? FAILED : LOST;
}

/* Wait for @pause_ms. Returns false when the reader has gone. */
static bool pause_for(int pause_ms)
{
	struct pollfd reader = { .fd = STDOUT_FILENO, .events = 0 };

	return poll(&reader, 1, pause_ms) <= 0;
}

/* For as long as it takes: the mount may be made again. A signal ends it, and the program. */
static enum ending reconnect(struct tail *tail)
{
	int pause_ms = PAUSE_FIRST_MS;
	enum ending ending;

	hrfs_close(tail->hrfs);
	tail->hrfs = NULL;
	log_info("%s: the connection ended after event %" PRIu64 "; waiting for the daemon",
		 tail->name, tail->position);
	while ((ending = try_again(tail)) == LOST) {
		if (!pause_for(pause_ms))
			return READER_GONE;
		pause_ms = pause_ms < PAUSE_LAST_MS / 2 ? 2 * pause_ms : PAUSE_LAST_MS;
	}
	return ending;
}

/* ---- The command ---- */

static int interrupted_status(struct tail *tail)
{
	struct signalfd_siginfo info;

	if (read(tail->signal_fd, &info, sizeof(info)) != sizeof(info))
		return COMMAND_INTERRUPTED;
	return 128 + info.ssi_signo;
}

static int finish(struct tail *tail, enum ending ending)
{
	switch (ending) {
	case INTERRUPTED:
		return interrupted_status(tail);
	case UNMOUNTED:
		log_info("%s: unmounted; the last event was %" PRIu64, tail->name, tail->position);
		return COMMAND_DONE;
	case FAILED:
		return COMMAND_FAILED;
	default:
		return COMMAND_DONE;
	}
}

static int run_tail(struct tail *tail, uint64_t since)
{
	enum ending ending = GO_ON;
	int status;

	status = start(tail, since);
	if (status != COMMAND_DONE)
		return status;
	do {
		ending = follow(tail);
		if (ending == LOST)
			ending = reconnect(tail);
	} while (ending == GO_ON);
	return finish(tail, ending);
}

static void tail_init(struct tail *tail)
{
	time_t now = time(NULL);

	*tail = (struct tail){ .follow = true, .signal_fd = -1 };
	localtime_r(&now, &tail->day);
}

static void tail_finish(struct tail *tail)
{
	hrfs_close(tail->hrfs);
	output_finish(&tail->output);
	closep(&tail->signal_fd);
}

static bool parse_since(const char *text, uint64_t *out)
{
	if (strcmp(text, "now") == 0)
		*out = HRFS_SINCE_NOW;
	else if (strcmp(text, "oldest") == 0)
		*out = HRFS_SINCE_OLDEST;
	else
		return number_parse(text, HRFS_SINCE_OLDEST - 1, out);
	return true;
}

enum {
	OPTION_SINCE = COMMAND_OPTION,
	OPTION_JSON,
	OPTION_UNTIL_CAUGHT_UP,
	OPTION_COLOR,
};

struct tail_options {
	uint64_t since;
	bool has_since;
	bool json;
	bool until_caught_up;
	enum color_choice color;
};

static int parse_option(const struct command *command, int option, struct tail_options *out)
{
	switch (option) {
	case OPTION_SINCE:
		out->has_since = true;
		if (parse_since(optarg, &out->since))
			return COMMAND_DONE;
		return command_misuse(
			command, "--since '%s' is not a sequence number, oldest or now", optarg);
	case OPTION_JSON:
		out->json = true;
		return COMMAND_DONE;
	case OPTION_UNTIL_CAUGHT_UP:
		out->until_caught_up = true;
		return COMMAND_DONE;
	case OPTION_COLOR:
		if (color_parse(optarg, &out->color))
			return COMMAND_DONE;
		return command_misuse(command, "--color '%s' is not auto, always or never", optarg);
	default:
		return command_end(command, option);
	}
}

static int run_with(const struct tail_options *options, const char *path)
{
	/* To be caught up with now is to have nothing to do. */
	uint64_t since_default = options->until_caught_up ? HRFS_SINCE_OLDEST : HRFS_SINCE_NOW;
	scoped(tail_finish) struct tail tail;
	int r;

	tail_init(&tail);
	tail.name = path;
	tail.json = options->json;
	tail.follow = !options->until_caught_up;
	tail.format.color = color_is_wanted(options->color, STDOUT_FILENO);
	tail.format.utf8 = text_is_utf8();
	r = tail_open_signals(&tail);
	if (r < 0) {
		log_error("cannot watch for signals: %s", strerror(-r));
		return COMMAND_FAILED;
	}
	output_init(&tail.output, STDOUT_FILENO, tail.signal_fd);
	return run_tail(&tail, options->has_since ? options->since : since_default);
}

static int run(const struct command *command, int argc, char **argv)
{
	static const struct option options[] = {
		{ "since", required_argument, NULL, OPTION_SINCE },
		{ "json", no_argument, NULL, OPTION_JSON },
		{ "until-caught-up", no_argument, NULL, OPTION_UNTIL_CAUGHT_UP },
		{ "color", required_argument, NULL, OPTION_COLOR },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	struct tail_options tail_options = { 0 };
	const char *path;
	int option, status;

	while ((option = command_option(command, argc, argv, options)) != -1) {
		status = parse_option(command, option, &tail_options);
		if (status != COMMAND_DONE || option == 'h')
			return status;
	}
	status = command_path(command, argc, argv, &path);
	return status == COMMAND_DONE ? run_with(&tail_options, path) : status;
}

const struct command command_tail = {
	.name = "tail",
	.summary = "follow the changes as they happen",
	.help = "Usage: hrfs tail [OPTION]... [PATH]\n"
		"\n"
		"Print every change of the tree that PATH is in, as it happens. When the connection to the\n"
		"daemon ends it is made again, and goes on after the last event. Ends with the mount.\n"
		"\n"
		"      --since N|oldest|now  begin after event N, with the oldest one, or with the next (default)\n"
		"      --until-caught-up     end when everything up to now has been printed; begins with the\n"
		"                            oldest event unless --since says otherwise\n"
		"      --json                the server's lines as they come, see hrfs-protocol(7)\n"
		"      --color WHEN          auto, always or never\n"
		"      --help                this text\n",
	.run = run,
};
