#include "daemon/report.h"

#include "base/bytes.h"
#include "daemon/setup.h"
#include "eventlog/scan.h"
#include "fusefs/fs.h"
#include "proto/native.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

static void write_text(struct bytes *json, const char *key, const char *text)
{
	bytes_append_format(json, ",\"%s\":", key);
	if (text)
		native_write_string(json, text, strlen(text));
	else
		bytes_append_string(json, "null");
}

static void write_bool(struct bytes *json, const char *key, bool value)
{
	bytes_append_format(json, ",\"%s\":%s", key, value ? "true" : "false");
}

static void write_number(struct bytes *json, const char *key, uint64_t number)
{
	bytes_append_format(json, ",\"%s\":%" PRIu64, key, number);
}

/* Why there is no passthrough; NULL where there is. */
static const char *passthrough_reason(const struct setup *setup, const struct fs_stat *stat)
{
	if (stat->uses_passthrough)
		return NULL;
	if (setup->options.passthrough == FS_OFF)
		return "passthrough=off";
	return geteuid() == 0 ? "the kernel has none" : "it needs CAP_SYS_ADMIN";
}

static void write_requests(struct bytes *json, const struct fs_stat *stat)
{
	const char *comma = "";

	bytes_append_string(json, ",\"requests\":{");
	for (unsigned opcode = 0; opcode < FS_OPCODE_MAX; opcode++) {
		const char *name = fs_opcode_name(opcode);

		if (stat->requests[opcode] == 0)
			continue;
		bytes_append_string(json, comma);
		if (name)
			bytes_append_format(json, "\"%s\"", name);
		else
			bytes_append_format(json, "\"%u\"", opcode);
		bytes_append_format(json, ":%" PRIu64, stat->requests[opcode]);
		comma = ",";
	}
	bytes_append_char(json, '}');
}

static void write_scan(struct bytes *json, const struct scan *scan)
{
	struct scan_stat stat;

	scan_stat(scan, &stat);
	bytes_append_format(json,
			    ",\"scan\":{\"state\":\"%s\",\"entries\":%" PRIu64 ",\"differences\":%" PRIu64
			    ",\"duration_ms\":%" PRId64 "}",
			    scan_state_name(stat.state), stat.entries, stat.differences, stat.duration_ms);
}

static void add_sentence(struct bytes *json, const char **comma, bool applies, const char *sentence)
{
	if (!applies)
		return;
	bytes_append_string(json, *comma);
	native_write_string(json, sentence, strlen(sentence));
	*comma = ",";
}

static void write_missing(struct bytes *json, const struct setup *setup, const struct fs_stat *stat)
{
	const struct options *options = &setup->options;
	bool is_user = geteuid() != 0;
	const char *comma = "";

	bytes_append_string(json, ",\"missing\":[");
	add_sentence(json, &comma, !stat->uses_passthrough && options->passthrough != FS_OFF,
		     "Reads do not bypass the daemon: there is no passthrough.");
	add_sentence(json, &comma, !stat->has_handles,
		     "Files are found by their names: a file that is replaced behind the mount may be taken for the old one.");
	add_sentence(json, &comma, setup->use_uring && !stat->uses_uring,
		     "Requests do not come over io_uring: the kernel did not agree.");
	add_sentence(json, &comma, setup->use_uring,
		     "Over io_uring programs lose their open files when the worker dies.");
	add_sentence(json, &comma, !setup->is_in_place,
		     "Changes that are made to the source directly are not logged.");
	add_sentence(json, &comma, is_user, "Set-user-id programs and device nodes have no effect: the user who mounted is not root.");
	add_sentence(json, &comma, is_user, "Files cannot be given to another owner: the user who mounted is not root.");
	add_sentence(json, &comma, is_user && !options->allow_other && !options->allow_root,
		     "Nobody else may use the mount, not even root: allow_other was not given.");
	add_sentence(json, &comma, is_user && options->allow_root,
		     "Nobody else but root may use the mount: allow_other was not given.");
	add_sentence(json, &comma, is_user && (options->allow_other || options->allow_root),
		     "What others make in the mount belongs to the user who mounted: that user is not root.");
	bytes_append_char(json, ']');
}

void report_write(const struct report *report, struct bytes *json)
{
	const struct setup *setup = report->setup;
	struct fs_stat stat;

	fs_stat(report->fs, &stat);
	write_text(json, "source", setup->source);
	write_text(json, "state", setup->state.path);
	write_text(json, "socket", setup->listener.path);
	write_text(json, "transport", stat.uses_uring ? "io_uring" : "classic");
	write_bool(json, "passthrough", stat.uses_passthrough);
	write_text(json, "passthrough_reason", passthrough_reason(setup, &stat));
	write_text(json, "scheduling", report->is_idle_class ? "idle" : "normal");
	write_bool(json, "handles", stat.has_handles);
	write_bool(json, "in_place", setup->is_in_place);
	write_text(json, "options", setup->options.text);
	write_text(json, "version", HRFS_VERSION);
	write_bool(json, "on_trial", atomic_load(&report->is_on_trial));
	write_text(json, "restart_error", report->upgrade_failure[0] ? report->upgrade_failure : NULL);
	write_number(json, "supervisor_pid", report->supervisor_pid);
	write_number(json, "worker_pid", getpid());
	write_text(json, "durability", options_durability_name(setup->options.durability));
	write_number(json, "restarts", report->restarts);
	write_scan(json, report->scan);
	write_number(json, "inodes", stat.inodes);
	write_number(json, "open_files", stat.open_files);
	write_number(json, "cached_fds", stat.cached_fds);
	write_number(json, "table_memory", stat.memory);
	write_requests(json, &stat);
	write_missing(json, setup, &stat);
}
