/*
 * hrfs status: what the daemon of a mount says about itself.
 *
 * The answer is one JSON object. For people it becomes three tables: facts, a row a member;
 * subscribers; requests by opcode. Members that no row names are shown under their own names, so
 * that an older hrfs hides nothing a newer daemon tells.
 */
#include "base/bytes.h"
#include "base/log.h"
#include "base/scope.h"
#include "cli/color.h"
#include "cli/command.h"
#include "cli/text.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <libsmartcols.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
	OPTION_JSON = COMMAND_OPTION,
	OPTION_COLOR,
};

struct status_options {
	bool json;
	enum color_choice color;
};

static void unref_tablep(struct libscols_table **table)
{
	scols_unref_table(*table);
}

/* ---- Values ---- */

typedef void (*format_value_fn)(struct bytes *out, const json_t *value);

static void format_text(struct bytes *out, const json_t *value)
{
	if (json_is_string(value))
		text_append(out, json_string_value(value), json_string_length(value),
			    text_is_utf8());
	else if (json_is_integer(value))
		bytes_append_format(out, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
	else if (json_is_real(value))
		bytes_append_format(out, "%.1f", json_real_value(value));
	else if (json_is_boolean(value))
		bytes_append_string(out, json_is_true(value) ? "yes" : "no");
	else
		bytes_append_string(out, "-");
}

static void append_size(struct bytes *out, double size)
{
	static const char *const units[] = { "bytes", "KiB", "MiB", "GiB", "TiB" };
	size_t unit = 0;

	for (; size >= 1024 && unit + 1 < sizeof(units) / sizeof(units[0]); unit++)
		size /= 1024;
	bytes_append_format(out, unit == 0 ? "%.0f %s" : "%.1f %s", size, units[unit]);
}

static void format_size(struct bytes *out, const json_t *value)
{
	append_size(out, json_number_value(value));
}

static void format_events(struct bytes *out, const json_t *value)
{
	format_text(out, value);
	bytes_append_string(out, " events");
}

static void format_rate(struct bytes *out, const json_t *value)
{
	bytes_append_format(out, "%.1f events/s", json_number_value(value));
}

static void format_fill(struct bytes *out, const json_t *value)
{
	double size = json_number_value(json_object_get(value, "size"));
	double used = json_number_value(json_object_get(value, "used"));

	bytes_append_format(out, "%.0f%% of ", size > 0 ? 100 * used / size : 0);
	append_size(out, size);
}

static void format_scan(struct bytes *out, const json_t *value)
{
	const char *state = json_string_value(json_object_get(value, "state"));

	bytes_append_string(out, state ? state : "-");
	if (!state || strcmp(state, "off") == 0)
		return;
	bytes_append_format(out,
			    ", %" JSON_INTEGER_FORMAT " names, %" JSON_INTEGER_FORMAT " differences, %.1f s",
			    json_integer_value(json_object_get(value, "entries")),
			    json_integer_value(json_object_get(value, "differences")),
			    json_number_value(json_object_get(value, "duration_ms")) / 1000);
}

/* ---- Facts ---- */

/* A member of the status, in the order in which people want to know. */
struct fact {
	const char *key;
	const char *label;
	format_value_fn format;
};

static const struct fact facts[] = {
	{ "root", "mounted at", format_text },
	{ "source", "source", format_text },
	{ "options", "options", format_text },
	{ "in_place", "in place", format_text },
	{ "transport", "transport", format_text },
	{ "passthrough", "passthrough", format_text },
	{ "passthrough_reason", "passthrough reason", format_text },
	{ "scheduling", "scheduling class", format_text },
	{ "handles", "file handles", format_text },
	{ "version", "version", format_text },
	{ "on_trial", "on trial", format_text },
	{ "restart_error", "last restart failed", format_text },
	{ "supervisor_pid", "supervisor", format_text },
	{ "worker_pid", "worker", format_text },
	{ "restarts", "restarts of the worker", format_text },
	{ "state", "state folder", format_text },
	{ "socket", "socket", format_text },
	{ "log_id", "log", format_text },
	{ "oldest", "oldest event", format_text },
	{ "next", "next event", format_text },
	{ "events_per_s", "rate", format_rate },
	{ "log_size", "log size", format_size },
	{ "log_quota", "log quota", format_size },
	{ "log_error", "log error", format_text },
	{ "lost", "changes not logged", format_events },
	{ "set_aside", "damaged log set aside", format_text },
	{ "durability", "durability", format_text },
	{ "journal", "journal fill", format_fill },
	{ "drain_lag", "drain lag", format_events },
	{ "scan", "scan", format_scan },
	{ "inodes", "inodes known", format_text },
	{ "open_files", "open files", format_text },
	{ "cached_fds", "cached descriptors", format_text },
	{ "table_memory", "memory of the tables", format_size },
};

enum { FACT_COUNT = sizeof(facts) / sizeof(facts[0]) };

static bool is_fact(const char *key)
{
	for (size_t i = 0; i < FACT_COUNT; i++)
		if (strcmp(facts[i].key, key) == 0)
			return true;
	return false;
}

/* ---- Tables ---- */

/* Cells are text that was made fit for a terminal. */
static int set_cell(struct libscols_line *line, size_t column, format_value_fn format,
		    const json_t *value)
{
	scoped(bytes_finish) struct bytes text = { 0 };

	format(&text, value);
	bytes_append_char(&text, '\0');
	if (bytes_error(&text))
		return -ENOMEM;
	return scols_line_set_data(line, column, text.data);
}

static int new_table(bool color, bool headings, struct libscols_table **out)
{
	struct libscols_table *table = scols_new_table();

	if (!table)
		return -ENOMEM;
	scols_table_enable_colors(table, color);
	scols_table_enable_noheadings(table, !headings);
	*out = table;
	return 0;
}

static int add_column(struct libscols_table *table, const char *name, int flags, const char *color)
{
	struct libscols_column *column = scols_table_new_column(table, name, 0, flags);

	/* Text has its escapes already; those of the table would escape the backslash of \x once more. */
	if (!column || scols_column_set_safechars(column, "\\") != 0)
		return -ENOMEM;
	return color ? scols_column_set_color(column, color) : 0;
}

/* What is wrong stands out. */
static const char *color_of(const char *key, const json_t *value)
{
	bool is_reason = strcmp(key, "passthrough_reason") == 0;

	if (strcmp(key, "log_error") == 0 || strcmp(key, "lost") == 0 || strcmp(key, "set_aside") == 0)
		return "red";
	return is_reason || json_is_false(value) ? "yellow" : NULL;
}

/* A fact that there is nothing to say about is left out. */
static int add_fact(struct libscols_table *table, const struct fact *fact, const json_t *value)
{
	const char *color = color_of(fact->key, value);
	struct libscols_line *line;
	int r;

	if (!value || json_is_null(value))
		return 0;
	line = scols_table_new_line(table, NULL);
	if (!line)
		return -ENOMEM;
	r = scols_line_set_data(line, 0, fact->label);
	if (r == 0)
		r = set_cell(line, 1, fact->format, value);
	if (r == 0 && color && strcmp(fact->key, "in_place") != 0)
		r = scols_cell_set_color(scols_line_get_cell(line, 1), color);
	return r;
}

/* Members that no row names; lists and objects have tables of their own. */
static int add_other_facts(struct libscols_table *table, json_t *status)
{
	const char *key;
	json_t *value;
	int r = 0;

	json_object_foreach(status, key, value) {
		const struct fact fact = { .key = key, .label = key, .format = format_text };

		if (r == 0 && !is_fact(key) && !json_is_object(value) && !json_is_array(value))
			r = add_fact(table, &fact, value);
	}
	return r;
}

static int print_facts(json_t *status, bool color)
{
	scoped(unref_tablep) struct libscols_table *table = NULL;
	int r;

	r = new_table(color, false, &table);
	if (r == 0)
		r = add_column(table, "what", 0, "bold");
	if (r == 0)
		r = add_column(table, "value", 0, NULL);
	for (size_t i = 0; r == 0 && i < FACT_COUNT; i++)
		r = add_fact(table, &facts[i], json_object_get(status, facts[i].key));
	if (r == 0)
		r = add_other_facts(table, status);
	return r == 0 ? scols_print_table(table) : r;
}

static int add_row(struct libscols_table *table, const json_t *object, const char *const *keys,
		   size_t count)
{
	struct libscols_line *line = scols_table_new_line(table, NULL);
	int r = line ? 0 : -ENOMEM;

	for (size_t i = 0; r == 0 && i < count; i++)
		r = set_cell(line, i, format_text, json_object_get(object, keys[i]));
	return r;
}

static int print_subscribers(const json_t *subscribers, bool color)
{
	static const char *const keys[] = { "id", "pid", "uid", "position", "behind", "sent" };
	const size_t count = sizeof(keys) / sizeof(keys[0]);
	scoped(unref_tablep) struct libscols_table *table = NULL;
	int r;

	r = new_table(color, true, &table);
	for (size_t i = 0; r == 0 && i < count; i++)
		r = add_column(table, keys[i], SCOLS_FL_RIGHT, NULL);
	for (size_t i = 0; r == 0 && i < json_array_size(subscribers); i++)
		r = add_row(table, json_array_get(subscribers, i), keys, count);
	return r == 0 ? scols_print_table(table) : r;
}

static int print_requests(json_t *requests, bool color)
{
	scoped(unref_tablep) struct libscols_table *table = NULL;
	const char *key;
	json_t *value;
	int r;

	r = new_table(color, false, &table);
	if (r == 0)
		r = add_column(table, "request", 0, NULL);
	if (r == 0)
		r = add_column(table, "count", SCOLS_FL_RIGHT, NULL);
	json_object_foreach(requests, key, value) {
		struct libscols_line *line = r == 0 ? scols_table_new_line(table, NULL) : NULL;

		if (!line || scols_line_set_data(line, 0, key) != 0)
			return -ENOMEM;
		r = set_cell(line, 1, format_text, value);
	}
	return r == 0 ? scols_print_table(table) : r;
}

static void print_heading(const char *heading, bool color)
{
	printf("\n%s%s%s\n", color ? COLOR_BOLD : "", heading, color ? COLOR_RESET : "");
}

static int print_missing(const json_t *missing, bool color)
{
	scoped(bytes_finish) struct bytes text = { 0 };

	for (size_t i = 0; i < json_array_size(missing); i++) {
		bytes_append_string(&text, "  ");
		format_text(&text, json_array_get(missing, i));
		bytes_append_char(&text, '\n');
	}
	if (bytes_error(&text))
		return -ENOMEM;
	printf("%s%.*s%s", color ? COLOR_YELLOW : "", (int)text.size, text.data,
	       color ? COLOR_RESET : "");
	return 0;
}

/* Returns 0 or a negative errno. */
static int print_status(json_t *status, bool color)
{
	json_t *missing = json_object_get(status, "missing");
	json_t *subscribers = json_object_get(status, "subscribers");
	json_t *requests = json_object_get(status, "requests");
	int r;

	r = print_facts(status, color);
	if (r == 0 && json_array_size(missing) > 0) {
		print_heading("What this mount cannot do", color);
		r = print_missing(missing, color);
	}
	if (r == 0 && json_array_size(subscribers) > 0) {
		print_heading("Subscribers", color);
		r = print_subscribers(subscribers, color);
	}
	if (r == 0 && json_object_size(requests) > 0) {
		print_heading("Requests of the kernel", color);
		r = print_requests(requests, color);
	}
	return r;
}

/* ---- The command ---- */

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The unit of the escape \uXXXX at @at; -1 when there is none. */
static int unit_at(const char *at)
{
	int unit = 0;

	if (at[0] != '\\' || at[1] != 'u')
		return -1;
	for (int i = 2; i < 6; i++) {
		if (hex_digit(at[i]) < 0)
			return -1;
		unit = unit << 4 | hex_digit(at[i]);
	}
	return unit;
}

static bool is_high_surrogate(int unit)
{
	return unit >= 0xd800 && unit < 0xdc00;
}

/*
 * Bytes of a path that are no UTF-8 come as lone surrogates, which jansson refuses: show a
 * replacement character instead.
 */
static void replace_lone_surrogates(char *json)
{
	bool is_second = false;

	while (*json) {
		int unit = unit_at(json);

		if (unit >= 0xdc00 && unit < 0xe000 && !is_second)
			memcpy(json, "\\ufffd", 6);
		is_second = is_high_surrogate(unit);
		if (unit >= 0)
			json += 6;
		else
			json += json[0] == '\\' && json[1] ? 2 : 1;
	}
}

static int show_status(const char *text, bool color)
{
	scoped(freep) char *copy = strdup(text);
	scoped(json_decrefp) json_t *status = NULL;

	if (!copy)
		return -ENOMEM;
	replace_lone_surrogates(copy);
	status = json_loads(copy, 0, NULL);
	return status ? print_status(status, color) : -EBADMSG;
}

static int ask(struct hrfs *hrfs, void *userdata)
{
	const struct status_options *options = userdata;
	const char *text;
	int r;

	r = hrfs_status(hrfs, &text);
	if (r < 0)
		return r;
	if (!options->json)
		return show_status(text, color_is_wanted(options->color, STDOUT_FILENO));
	/* What cannot be written is found by the flush. */
	puts(text);
	return 0;
}

static int run(const struct command *command, int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, OPTION_JSON },
		{ "color", required_argument, NULL, OPTION_COLOR },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	struct status_options status_options = { 0 };
	const char *path;
	int option, status;

	while ((option = command_option(command, argc, argv, options)) != -1) {
		if (option == OPTION_JSON)
			status_options.json = true;
		else if (option != OPTION_COLOR)
			return command_end(command, option);
		else if (!color_parse(optarg, &status_options.color))
			return command_misuse(command, "--color '%s' is not auto, always or never",
					      optarg);
	}
	status = command_path(command, argc, argv, &path);
	if (status == COMMAND_DONE)
		status = command_ask(path, ask, &status_options);
	if (status != COMMAND_DONE)
		return status;
	return command_written(fflush(stdout) != 0 || ferror(stdout) ? -errno : 0);
}

const struct command command_status = {
	.name = "status",
	.summary = "show the state of a mount, its log and its subscribers",
	.help = "Usage: hrfs status [OPTION]... [PATH]\n"
		"\n"
		"Show how the tree that PATH is in is mounted, what its log holds, how far each subscriber\n"
		"has come, and what the mount cannot do here.\n"
		"\n"
		"      --json        one JSON object, see hrfs-protocol(7)\n"
		"      --color WHEN  auto, always or never\n"
		"      --help        this text\n",
	.run = run,
};
