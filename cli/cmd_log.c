/*
 * hrfs log: read the log, mounted or not.
 *
 * It reads the store itself, as any program may. A mounted log is synced before, so that nothing
 * that happened before the call is missing.
 */
#include "base/log.h"
#include "base/scope.h"
#include "cli/color.h"
#include "cli/command.h"
#include "cli/format.h"
#include "cli/number.h"
#include "cli/output.h"
#include "cli/place.h"
#include "cli/suggest.h"
#include "cli/text.h"
#include "cli/when.h"
#include "eventlog/eventlog.h"
#include "proto/event.h"
#include "proto/native.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
	OPTION_SINCE = COMMAND_OPTION,
	OPTION_UNTIL,
	OPTION_OP,
	OPTION_UNDER,
	OPTION_PID,
	OPTION_COMM,
	OPTION_JSON,
	OPTION_COLOR,
};

struct log_options {
	struct eventlog_filter filter;
	const char *under; /* as it was given; NULL: everything */
	bool is_empty;     /* what is asked for ends before it begins */
	bool json;
	enum color_choice color;
};

static void historyp(struct eventlog_history **history)
{
	eventlog_history_close(*history);
}

/* ---- Options ---- */

static int parse_since(const struct command *command, const char *text, struct log_options *out)
{
	uint64_t seq;

	if (strcmp(text, "oldest") == 0)
		return COMMAND_DONE;
	if (number_parse(text, UINT64_MAX - 1, &seq)) {
		out->filter.since_seq = seq + 1;
		return COMMAND_DONE;
	}
	if (when_parse(text, when_now(), &out->filter.since_ns) == 0)
		return COMMAND_DONE;
	return command_misuse(
		command,
		"--since '%s' is neither a sequence number nor a time, as 19:40 or '10min ago'",
		text);
}

/* In a filter 0 means no limit, so what ends at 0 or before is empty by our own account. */
static int parse_until(const struct command *command, const char *text, struct log_options *out)
{
	if (number_parse(text, UINT64_MAX, &out->filter.until_seq)) {
		out->is_empty |= out->filter.until_seq == 0;
		return COMMAND_DONE;
	}
	if (when_parse(text, when_now(), &out->filter.until_ns) == 0) {
		out->is_empty |= out->filter.until_ns <= 0;
		return COMMAND_DONE;
	}
	return command_misuse(
		command,
		"--until '%s' is neither a sequence number nor a time, as 19:40 or '10min ago'",
		text);
}

static int refuse_op(const struct command *command, const char *op, size_t length)
{
	const char *names[EVENT_OP_END - EVENT_CREATE];
	const char *nearest;
	char copy[64];

	for (unsigned i = EVENT_CREATE; i < EVENT_OP_END; i++)
		names[i - EVENT_CREATE] = event_op_name(i);
	snprintf(copy, sizeof(copy), "%.*s", (int)length, op);
	nearest = suggest_nearest(copy, names, EVENT_OP_END - EVENT_CREATE);
	if (nearest)
		return command_misuse(command, "there is no op '%s'; did you mean '%s'?", copy,
				      nearest);
	return command_misuse(command, "there is no op '%s'", copy);
}

/* Names with commas between them. */
static int parse_ops(const struct command *command, const char *text, uint64_t *out)
{
	for (;;) {
		size_t length = strcspn(text, ",");
		unsigned op = event_op_from_name(text, length);

		if (op == 0)
			return refuse_op(command, text, length < INT_MAX ? length : INT_MAX);
		*out |= UINT64_C(1) << op;
		if (text[length] == '\0')
			return COMMAND_DONE;
		text += length + 1;
	}
}

static int parse_pid(const struct command *command, const char *text, int64_t *out)
{
	uint64_t pid;

	if (!number_parse(text, UINT32_MAX, &pid))
		return command_misuse(command, "--pid '%s' is not a process id", text);
	*out = pid;
	return COMMAND_DONE;
}

static int parse_comm(const struct command *command, const char *text, const char **out)
{
	if (strlen(text) > EVENT_COMM_MAX)
		return command_misuse(
			command,
			"--comm '%s' is longer than %d bytes, which the kernel cuts names to", text,
			EVENT_COMM_MAX);
	*out = text;
	return COMMAND_DONE;
}

static int parse_option(const struct command *command, int option, struct log_options *out)
{
	switch (option) {
	case OPTION_SINCE:
		return parse_since(command, optarg, out);
	case OPTION_UNTIL:
		return parse_until(command, optarg, out);
	case OPTION_OP:
		return parse_ops(command, optarg, &out->filter.ops);
	case OPTION_UNDER:
		out->under = optarg;
		return COMMAND_DONE;
	case OPTION_PID:
		return parse_pid(command, optarg, &out->filter.pid);
	case OPTION_COMM:
		return parse_comm(command, optarg, &out->filter.comm);
	case OPTION_JSON:
		out->json = true;
		return COMMAND_DONE;
	case OPTION_COLOR:
		if (color_parse(optarg, &out->color))
			return COMMAND_DONE;
		return command_misuse(command, "--color '%s' is not auto, always or never", optarg);
	default:
		return command_end(command, option);
	}
}

/* ---- Reading ---- */

/* Without an answer the log can still be read, as far as it has been stored. */
static void sync_first(const char *path)
{
	scoped(command_closep) struct hrfs *hrfs = NULL;
	uint64_t seq;
	int r;

	r = hrfs_connect(path, &hrfs);
	if (r == 0)
		r = hrfs_sync(hrfs, &seq);
	if (r < 0)
		log_warning("%s: the daemon cannot be asked (%s); the newest events may be missing",
			    path, r == -EREMOTEIO ? hrfs_error(hrfs) : strerror(-r));
}

/*
 * The event as the library shows it. Strings that are not terminated are copied to @name and
 * @comm.
 */
static void convert(const struct event *event, char name[EVENT_NAME_MAX + 1],
		    char comm[EVENT_COMM_MAX + 1], struct hrfs_event *out)
{
	snprintf(name, EVENT_NAME_MAX + 1, "%.*s", event->name_length,
		 event->name ? event->name : "");
	snprintf(comm, EVENT_COMM_MAX + 1, "%.*s", event->comm_length,
		 event->comm ? event->comm : "");
	*out = (struct hrfs_event){
		.seq = event->seq,
		.time_ns = event->time_ns,
		.op = event_op_name(event->op),
		.origin = event_origin_name(event->origin),
		.path = event->path,
		.path_length = event->path_length,
		.to = event->to,
		.to_length = event->to_length,
		.name = event->name ? name : NULL,
		.comm = comm,
		.pid = event->pid,
		.uid = event->uid,
		.gid = event->gid,
		.has = event->has,
		.offset = event->offset,
		.length = event->length,
		.size = event->size,
		.ino = event->ino,
		.mode = event->mode,
		.flags = event->flags,
		.owner_uid = event->owner_uid,
		.owner_gid = event->owner_gid,
	};
}

static void write_event(struct bytes *out, const struct format *format, const struct event *event)
{
	char name[EVENT_NAME_MAX + 1], comm[EVENT_COMM_MAX + 1];
	struct hrfs_event shown;

	convert(event, name, comm, &shown);
	format_event(out, format, &shown);
}

static void write_json(struct bytes *out, const struct event *event)
{
	native_write_event(out, event);
	bytes_append_char(out, '\n');
}

static int print_events(struct eventlog_history *history, const struct log_options *options,
			const char *path)
{
	const struct format format = {
		.color = color_is_wanted(options->color, STDOUT_FILENO),
		.utf8 = text_is_utf8(),
		.with_date = true,
	};
	scoped(output_finish) struct output output;
	struct event event;
	int r, written = 0;

	output_init(&output, STDOUT_FILENO, -1);
	while ((r = eventlog_history_next(history, &event)) == 1 && written == 0) {
		if (options->json)
			write_json(&output.bytes, &event);
		else
			write_event(&output.bytes, &format, &event);
		written = output_flush_batch(&output);
	}
	if (written == 0)
		written = output_flush(&output);
	if (r < 0) {
		log_error("%s: reading the log failed: %s", path, strerror(-r));
		return COMMAND_FAILED;
	}
	return command_written(written);
}

static int tell_no_history(const char *path, const struct place *place, int error)
{
	switch (error) {
	case -ENOENT:
		log_error("%s: there is no log in %s", path, place->state);
		break;
	case -EPROTO:
		log_error("%s: the log in %s is of another version of hrfs", path, place->state);
		break;
	case -EBADMSG:
		log_error("%s: the log in %s is damaged", path, place->state);
		break;
	case -EROFS:
		log_error("%s: the log in %s was not closed, and can only be read where files can be made beside it: copy the folder",
			  path, place->state);
		break;
	default:
		log_error("%s: cannot read the log in %s: %s", path, place->state,
			  strerror(-error));
	}
	return COMMAND_FAILED;
}

static int find_place(const char *path, struct place *out)
{
	int r = place_find(path, true, out);

	if (r == -ENOTTY) {
		log_error("there is no log for %s: it is not inside an hrfs mount, no source of one "
			  "whose state is in the default place, and no state folder",
			  path);
		return COMMAND_FAILED;
	}
	if (r == -EACCES) {
		log_error("%s: permission denied; a log is only for its owner and root", path);
		return COMMAND_FAILED;
	}
	return r < 0 ? command_no_mount(path, r) : COMMAND_DONE;
}

static int print_log(const struct command *command, const char *path, struct log_options *options)
{
	scoped(historyp) struct eventlog_history *history = NULL;
	char under[PATH_MAX];
	struct place place;
	int r;

	if (find_place(path, &place) != COMMAND_DONE)
		return COMMAND_FAILED;
	if (options->under) {
		r = place_resolve(&place, options->under, under);
		if (r < 0)
			return command_misuse(command, "--under %s: %s", options->under,
					      r == -EXDEV ? "not in this tree" : strerror(-r));
		options->filter.under = under;
	}
	if (place.is_mounted)
		sync_first(place.existing);

	r = eventlog_history_open(place.state, &options->filter, &history);
	if (r < 0)
		return tell_no_history(path, &place, r);
	return options->is_empty ? COMMAND_DONE : print_events(history, options, path);
}

static int run(const struct command *command, int argc, char **argv)
{
	static const struct option options[] = {
		{ "since", required_argument, NULL, OPTION_SINCE },
		{ "until", required_argument, NULL, OPTION_UNTIL },
		{ "op", required_argument, NULL, OPTION_OP },
		{ "under", required_argument, NULL, OPTION_UNDER },
		{ "pid", required_argument, NULL, OPTION_PID },
		{ "comm", required_argument, NULL, OPTION_COMM },
		{ "json", no_argument, NULL, OPTION_JSON },
		{ "color", required_argument, NULL, OPTION_COLOR },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	struct log_options log_options = { .filter.pid = -1 };
	const char *path;
	int option, status;

	while ((option = command_option(command, argc, argv, options)) != -1) {
		status = parse_option(command, option, &log_options);
		if (status != COMMAND_DONE || option == 'h')
			return status;
	}
	status = command_path(command, argc, argv, &path);
	return status == COMMAND_DONE ? print_log(command, path, &log_options) : status;
}

const struct command command_log = {
	.name = "log",
	.summary = "print the changes that are in the log, mounted or not",
	.help = "Usage: hrfs log [OPTION]... [PATH]\n"
		"\n"
		"Print the changes of the tree that PATH is in. Not mounted, PATH may be in the directory\n"
		"that was mounted, or be the state folder itself.\n"
		"\n"
		"      --since N|TIME    only what came after event N, or at TIME and later\n"
		"      --until N|TIME    only up to event N, or up to TIME\n"
		"      --op OP[,OP]...   only these ops: create, mkdir, symlink, link, mknod, write, truncate,\n"
		"                        fallocate, copy, rename, unlink, rmdir, chmod, chown, utimens, setxattr,\n"
		"                        removexattr, close, mounted, unmounted, gap, manual\n"
		"      --under DIR       only DIR and what is below; a path in the tree, or relative to its root\n"
		"      --pid N           only what this process did\n"
		"      --comm NAME       only what processes of this name did\n"
		"      --json            one JSON object a line, as in hrfs-protocol(7)\n"
		"      --color WHEN      auto, always or never\n"
		"      --help            this text\n"
		"\n"
		"TIME: 2026-11-22T19:40:01.5Z, 2026-11-22, '2026-11-22 19:40', 19:40, '10min ago', yesterday, now\n",
	.run = run,
};
