/* Events as lines for people, and what must never reach a terminal. */
#include "cli/format.h"

#include "base/bytes.h"
#include "base/scope.h"
#include "cli/text.h"
#include "client/hrfs.h"
#include "tests/unit/check.h"

#include <locale.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

static const struct format plain = { .utf8 = true };

static struct hrfs_event sample(const char *op, const char *path)
{
	return (struct hrfs_event){
		.seq = 12,
		.time_ns = INT64_C(1795376401123456789),
		.op = op,
		.origin = "vfs",
		.path = path,
		.path_length = strlen(path),
		.comm = "vim",
		.pid = 4242,
		.has = HRFS_HAS_WHO,
	};
}

/* The line of @event, without its newline. Static. */
static const char *line_of(const struct hrfs_event *event, const struct format *format)
{
	static char line[4096];
	scoped(bytes_finish) struct bytes out = { 0 };

	setenv("TZ", "UTC", 1);
	tzset();
	format_event(&out, format, event);
	check(bytes_error(&out) == 0 && out.size > 0 && out.size < sizeof(line));
	check(out.data[out.size - 1] == '\n');
	check(memchr(out.data, '\n', out.size) == out.data + out.size - 1);
	memcpy(line, out.data, out.size - 1);
	line[out.size - 1] = '\0';
	return line;
}

/* What stands between the path, which is "f", and the writer. */
static const char *what_of(struct hrfs_event event)
{
	static char what[1024];
	const char *line;
	char *end;

	event.path = "f";
	event.path_length = 1;
	line = line_of(&event, &plain);
	strcpy(what, line + strlen("       12  19:40:01.123  ") + 13 + 1);
	end = strstr(what, "  vim[4242]");
	check(end);
	*end = '\0';
	while (end > what && end[-1] == ' ')
		*--end = '\0';
	return what + strspn(what, " ");
}

static bool what_is(struct hrfs_event event, const char *expected)
{
	const char *what = what_of(event);

	if (strcmp(what, expected) != 0)
		fprintf(stderr, "got '%s', expected '%s'\n", what, expected);
	return strcmp(what, expected) == 0;
}

static void a_write_is_one_aligned_line(void)
{
	struct hrfs_event event = sample("write", "src/a.c");

	event.has |= HRFS_HAS_OFFSET | HRFS_HAS_LENGTH | HRFS_HAS_SIZE;
	event.length = 120;
	event.size = 120;
	check(strcmp(line_of(&event, &plain),
		     "       12  19:40:01.123  write        src/a.c"
		     "                           +120 @0 = 120           vim[4242]") == 0);
}

static void a_date_is_shown_where_it_is_wanted(void)
{
	struct hrfs_event event = sample("unlink", "a");
	const struct format format = { .utf8 = true, .with_date = true };

	check(strncmp(line_of(&event, &format),
		      "       12  2026-11-22 19:40:01.123  unlink       a ", 51) == 0);
}

static void a_line_does_not_end_in_blanks(void)
{
	struct hrfs_event event = sample("mounted", "");

	event.has = 0;
	check(strcmp(line_of(&event, &plain), "       12  19:40:01.123  mounted      .") == 0);
}

static void a_long_path_pushes_and_is_not_cut(void)
{
	char path[201] = "";
	struct hrfs_event event;

	memset(path, 'p', 200);
	event = sample("chmod", path);
	event.has |= HRFS_HAS_MODE;
	event.mode = 0755;
	check(strstr(line_of(&event, &plain), path));
	check(strstr(line_of(&event, &plain), "p  0755  "));
}

static void every_op_says_what_matters(void)
{
	struct hrfs_event event = sample("rename", "f");

	event.to = "src/b.c";
	event.to_length = 7;
	check(what_is(event, "-> src/b.c"));
	event.has |= HRFS_HAS_FLAGS;
	event.flags = 2;
	check(what_is(event, "-> src/b.c (exchange)"));

	event = sample("create", "f");
	event.has |= HRFS_HAS_MODE;
	event.mode = 0644;
	check(what_is(event, "0644"));

	event = sample("chown", "f");
	event.has |= HRFS_HAS_OWNER;
	event.owner_uid = 1000;
	event.owner_gid = UINT32_MAX;
	check(what_is(event, "1000:"));
	event.owner_uid = UINT32_MAX;
	event.owner_gid = 0;
	check(what_is(event, ":0"));

	event = sample("setxattr", "f");
	event.name = "user.x";
	check(what_is(event, "user.x"));

	event = sample("fallocate", "f");
	event.has |= HRFS_HAS_MODE | HRFS_HAS_OFFSET | HRFS_HAS_LENGTH | HRFS_HAS_SIZE;
	event.mode = 3;
	event.offset = 4096;
	event.length = 8192;
	event.size = 65536;
	check(what_is(event, "+8192 @4096 = 65536 punch-hole keep-size"));

	event = sample("close", "f");
	event.has |= HRFS_HAS_SIZE;
	event.size = 7;
	check(what_is(event, "= 7"));

	event = sample("gap", "f");
	event.has |= HRFS_HAS_OFFSET | HRFS_HAS_LENGTH;
	event.offset = 10;
	event.length = 3;
	check(what_is(event, "3 events were lost from 10 on"));

	event = sample("manual", "f");
	event.name = "before the upgrade";
	event.origin = "manual";
	check(what_is(event, "before the upgrade"));

	check(what_is(sample("unlink", "f"), ""));
	check(what_is(sample("new_op", "f"), ""));
}

static void where_it_comes_from_is_said_when_unusual(void)
{
	struct hrfs_event event = sample("write", "f");

	event.origin = "mmap";
	event.has |= HRFS_UNCERTAIN;
	check(what_is(event, "(mmap) uncertain"));
}

static void colors_do_not_move_anything(void)
{
	const struct format colored = { .utf8 = true, .color = true };
	struct hrfs_event event = sample("write", "f");
	char without[4096] = "", *to = without;
	const char *line = line_of(&event, &colored);

	check(strstr(line, "\033[33mwrite\033[0m"));
	for (; *line; line++) {
		if (*line != '\033')
			*to++ = *line;
		else
			line = strchr(line, 'm');
	}
	*to = '\0';
	check(strcmp(without, line_of(&event, &plain)) == 0);
}

static void a_name_cannot_steer_the_terminal(void)
{
	static const char path[] = "a\033[2Jb\nc\x9b\xc2\x9b\xe2\x80\xae\\";
	struct hrfs_event event = sample("create", path);
	const char *line;

	event.comm = "\033]0;x\a";
	event.to = "\r";
	event.to_length = 1;
	line = line_of(&event, &plain);
	check(strstr(line, "a\\x1b[2Jb\\nc\\x9b\\xc2\\x9b\\xe2\\x80\\xae\\\\"));
	check(strstr(line, "\\x1b]0;x\\x07[4242]"));
	for (; *line; line++)
		check((unsigned char)*line >= 0x20 && (unsigned char)*line < 0x7f);
}

static size_t escape(const char *text, bool utf8, char *out)
{
	scoped(bytes_finish) struct bytes bytes = { 0 };
	size_t width = text_append(&bytes, text, strlen(text), utf8);

	bytes_append_char(&bytes, '\0');
	strcpy(out, bytes.data);
	check(width == text_width(text, strlen(text), utf8));
	return width;
}

static void characters_stay_where_the_terminal_takes_them(void)
{
	char out[256];

	setlocale(LC_CTYPE, "C.UTF-8");
	check(escape("na\xc3\xafve", true, out) == 5 && strcmp(out, "na\xc3\xafve") == 0);
	check(escape("\xe6\x97\xa5", true, out) == 2 && strcmp(out, "\xe6\x97\xa5") == 0);
	check(escape("na\xc3\xafve", false, out) == 12 && strcmp(out, "na\\xc3\\xafve") == 0);
	check(escape("\xff\xc3", true, out) == 8 && strcmp(out, "\\xff\\xc3") == 0);
	check(escape("", true, out) == 0);
}

/* All of the lowest plane: nothing that a terminal obeys may pass. */
static void no_control_character_passes_in_any_encoding(void)
{
	for (unsigned c = 1; c < 0xa0; c++) {
		char text[3] = { c, '\0', '\0' }, out[64];

		if (c >= 0x80) {
			text[0] = 0xc2;
			text[1] = c;
		}
		escape(text, true, out);
		for (const char *at = out; *at; at++)
			check((unsigned char)*at >= 0x20 && (unsigned char)*at < 0x7f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		unit(a_write_is_one_aligned_line),
		unit(a_date_is_shown_where_it_is_wanted),
		unit(a_line_does_not_end_in_blanks),
		unit(a_long_path_pushes_and_is_not_cut),
		unit(every_op_says_what_matters),
		unit(where_it_comes_from_is_said_when_unusual),
		unit(colors_do_not_move_anything),
		unit(a_name_cannot_steer_the_terminal),
		unit(characters_stay_where_the_terminal_takes_them),
		unit(no_control_character_passes_in_any_encoding),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
