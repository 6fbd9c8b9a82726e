/*
 * Format: an event as a line for people.
 *
 * A line knows the column it has reached. Space is put before a cell, not behind it, so no line
 * ends in blanks. Escape sequences for colour take no columns and never hold text that somebody
 * else chose.
 */
#include "cli/format.h"

#include "base/bytes.h"
#include "cli/color.h"
#include "cli/text.h"
#include "client/hrfs.h"

#include <inttypes.h>
#include <linux/falloc.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum {
	SEQ_WIDTH = 9,
	OP_WIDTH = 11, /* "removexattr" */
	PATH_WIDTH = 32,
	WHAT_WIDTH = 22,
	GAP_WIDTH = 2, /* blanks between cells, at least */

	NS_A_MS = 1000000,
	NS_A_SECOND = 1000000000,
};

struct line {
	struct bytes *out;
	const struct format *format;
	size_t width; /* columns so far */
	size_t start; /* column of the current cell; its first text brings the blanks */
	size_t next;  /* column at which the next one would like to */
};

/* ---- Cells ---- */

/* Begin a cell that is usually @width columns wide. */
static void begin_cell(struct line *line, size_t width)
{
	size_t earliest = line->width > 0 ? line->width + GAP_WIDTH : 0;

	line->start = line->next > earliest ? line->next : earliest;
	line->next += width + GAP_WIDTH;
}

static void reach_cell(struct line *line)
{
	if (line->width >= line->start)
		return;
	bytes_append_format(line->out, "%*s", (int)(line->start - line->width), "");
	line->width = line->start;
}

/* Set what follows apart from what the cell holds already. */
static void begin_piece(struct line *line)
{
	if (line->width > line->start) {
		bytes_append_char(line->out, ' ');
		line->width++;
	}
}

/* For text of ours: plain ASCII. */
static void put(struct line *line, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void put(struct line *line, const char *format, ...)
{
	char text[128];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	reach_cell(line);
	bytes_append_string(line->out, text);
	line->width += strlen(text);
}

/* For text that somebody else chose. */
static void put_foreign(struct line *line, const char *text, size_t length)
{
	reach_cell(line);
	line->width += text_append(line->out, text, length, line->format->utf8);
}

static void put_color(struct line *line, const char *color)
{
	if (!line->format->color)
		return;
	reach_cell(line);
	bytes_append_string(line->out, color);
}

/* ---- When ---- */

static void put_time(struct line *line, int64_t time_ns)
{
	int64_t ns = time_ns % NS_A_SECOND;
	time_t second = time_ns / NS_A_SECOND;
	struct tm local;

	if (ns < 0) {
		ns += NS_A_SECOND;
		second--;
	}
	localtime_r(&second, &local);
	if (line->format->with_date)
		put(line, "%04d-%02d-%02d ", local.tm_year + 1900, local.tm_mon + 1, local.tm_mday);
	put(line, "%02d:%02d:%02d.%03d", local.tm_hour, local.tm_min, local.tm_sec,
	    (int)(ns / NS_A_MS));
}

/* ---- What ---- */

/* A piece of our text. */
static void put_piece(struct line *line, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void put_piece(struct line *line, const char *format, ...)
{
	char text[128];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	begin_piece(line);
	put(line, "%s", text);
}

static void put_mode(struct line *line, const struct hrfs_event *event)
{
	if (event->has & HRFS_HAS_MODE)
		put_piece(line, "%04o", event->mode);
}

/* +LENGTH @OFFSET = SIZE, of which an event may lack any. */
static void put_range(struct line *line, const struct hrfs_event *event)
{
	if (event->has & HRFS_HAS_LENGTH)
		put_piece(line, "+%" PRIu64, event->length);
	if (event->has & HRFS_HAS_OFFSET)
		put_piece(line, "@%" PRIu64, event->offset);
	if (event->has & HRFS_HAS_SIZE)
		put_piece(line, "= %" PRIu64, event->size);
}

static void put_target(struct line *line, const struct hrfs_event *event)
{
	if (!event->to)
		return;
	put_piece(line, "-> ");
	put_foreign(line, event->to, event->to_length);
}

static void put_rename(struct line *line, const struct hrfs_event *event)
{
	static const char *const names[] = { "noreplace", "exchange", "whiteout" };

	put_target(line, event);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (event->has & HRFS_HAS_FLAGS && event->flags & 1u << i)
			put_piece(line, "(%s)", names[i]);
}

static void put_fallocate(struct line *line, const struct hrfs_event *event)
{
	static const struct {
		uint32_t bit;
		const char *name;
	} modes[] = {
		{ FALLOC_FL_PUNCH_HOLE, "punch-hole" },
		{ FALLOC_FL_COLLAPSE_RANGE, "collapse-range" },
		{ FALLOC_FL_ZERO_RANGE, "zero-range" },
		{ FALLOC_FL_INSERT_RANGE, "insert-range" },
		{ FALLOC_FL_UNSHARE_RANGE, "unshare-range" },
		{ FALLOC_FL_KEEP_SIZE, "keep-size" },
	};

	put_range(line, event);
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
		if (event->has & HRFS_HAS_MODE && event->mode & modes[i].bit)
			put_piece(line, "%s", modes[i].name);
}

/* As chown(1) takes it: what is left out stays as it was. */
static void put_owner(struct line *line, const struct hrfs_event *event)
{
	if (!(event->has & HRFS_HAS_OWNER))
		return;
	begin_piece(line);
	if (event->owner_uid != UINT32_MAX)
		put(line, "%" PRIu32, event->owner_uid);
	put(line, ":");
	if (event->owner_gid != UINT32_MAX)
		put(line, "%" PRIu32, event->owner_gid);
}

static void put_name(struct line *line, const struct hrfs_event *event)
{
	if (!event->name)
		return;
	begin_piece(line);
	put_foreign(line, event->name, strlen(event->name));
}

static void put_gap(struct line *line, const struct hrfs_event *event)
{
	if (event->has & HRFS_HAS_LENGTH)
		put_piece(line, "%" PRIu64, event->length);
	put_piece(line, "events were lost");
	if (event->has & HRFS_HAS_OFFSET)
		put_piece(line, "from %" PRIu64 " on", event->offset);
}

/* An op: its colour, and what it has to say. */
struct kind {
	const char *op;
	const char *color;
	void (*put)(struct line *line, const struct hrfs_event *event);
};

static const struct kind kinds[] = {
	{ "write", COLOR_YELLOW, put_range },
	{ "close", COLOR_DIM, put_range },
	{ "create", COLOR_GREEN, put_mode },
	{ "mkdir", COLOR_GREEN, put_mode },
	{ "symlink", COLOR_GREEN, put_target },
	{ "link", COLOR_GREEN, put_target },
	{ "mknod", COLOR_GREEN, put_mode },
	{ "truncate", COLOR_YELLOW, put_range },
	{ "fallocate", COLOR_YELLOW, put_fallocate },
	{ "copy", COLOR_YELLOW, put_range },
	{ "rename", COLOR_CYAN, put_rename },
	{ "unlink", COLOR_RED, NULL },
	{ "rmdir", COLOR_RED, NULL },
	{ "chmod", COLOR_BLUE, put_mode },
	{ "chown", COLOR_BLUE, put_owner },
	{ "utimens", COLOR_BLUE, NULL },
	{ "setxattr", COLOR_BLUE, put_name },
	{ "removexattr", COLOR_BLUE, put_name },
	{ "mounted", COLOR_BOLD, NULL },
	{ "unmounted", COLOR_BOLD, NULL },
	{ "gap", COLOR_BOLD_RED, put_gap },
	{ "manual", COLOR_MAGENTA, put_name },
};

static const struct kind *find_kind(const char *op)
{
	static const struct kind unknown = { "", "", put_range };

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (strcmp(kinds[i].op, op) == 0)
			return &kinds[i];
	return &unknown;
}

static void put_what(struct line *line, const struct kind *kind, const struct hrfs_event *event)
{
	if (kind->put)
		kind->put(line, event);
	/* An event of op manual could have no other origin. */
	if (strcmp(event->origin, "vfs") != 0 && strcmp(event->origin, event->op) != 0)
		put_piece(line, "(%s)", event->origin);
	if (event->has & HRFS_UNCERTAIN) {
		begin_piece(line);
		put_color(line, COLOR_BOLD);
		put(line, "uncertain");
		put_color(line, COLOR_RESET);
	}
}

/* ---- The line ---- */

static void put_who(struct line *line, const struct hrfs_event *event)
{
	if (!(event->has & HRFS_HAS_WHO))
		return;
	begin_cell(line, 0);
	put_color(line, COLOR_DIM);
	if (event->comm)
		put_foreign(line, event->comm, strlen(event->comm));
	put(line, "[%" PRIu32 "]", event->pid);
	put_color(line, COLOR_RESET);
}

void format_event(struct bytes *out, const struct format *format, const struct hrfs_event *event)
{
	struct line line = { .out = out, .format = format };
	const struct kind *kind = find_kind(event->op);

	begin_cell(&line, SEQ_WIDTH);
	put_color(&line, COLOR_DIM);
	put(&line, "%*" PRIu64, SEQ_WIDTH, event->seq);
	begin_cell(&line, strlen(format->with_date ? "2026-11-22 19:40:01.123" : "19:40:01.123"));
	put_time(&line, event->time_ns);
	put_color(&line, COLOR_RESET);

	begin_cell(&line, OP_WIDTH);
	put_color(&line, kind->color);
	put(&line, "%s", event->op);
	put_color(&line, COLOR_RESET);

	begin_cell(&line, PATH_WIDTH);
	put_foreign(&line, event->path_length > 0 ? event->path : ".",
		    event->path_length > 0 ? event->path_length : 1);

	begin_cell(&line, WHAT_WIDTH);
	put_what(&line, kind, event);
	put_who(&line, event);
	bytes_append_char(out, '\n');
}
