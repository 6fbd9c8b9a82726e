#include "proto/native.h"

#include "base/bytes.h"
#include "base/scope.h"
#include "check.h"
#include "event_sample.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { WHO_AND_RANGE = EVENT_HAS_WHO | EVENT_HAS_OFFSET | EVENT_HAS_LENGTH };

/* 2026-11-22T19:40:01.123456789Z */
static const int64_t sample_time = INT64_C(1795376401123456789);

/* ---- Events ---- */

static bool writes(const struct event *event, const char *text)
{
	scoped(bytes_finish) struct bytes bytes = { 0 };

	native_write_event(&bytes, event);
	if (bytes_error(&bytes) == 0 && bytes.size == strlen(text) &&
	    memcmp(bytes.data, text, bytes.size) == 0)
		return true;
	print_error("wrote    %.*s\nexpected %s\n", (int)bytes.size, bytes.data, text);
	return false;
}

/* Parses from memory of the line's exact size. */
static int parse(const char *line, size_t length, struct event *out,
		 struct native_storage **out_storage)
{
	scoped(freep) char *copy = malloc(length + !length);

	memcpy(copy, line, length);
	return native_parse_event(copy, length, out, out_storage);
}

static int parse_result(const char *line)
{
	struct native_storage *storage = NULL;
	struct event event;
	int r = parse(line, strlen(line), &event, &storage);

	native_storage_free(storage);
	return r;
}

static bool comes_back(const struct event *event)
{
	scoped(bytes_finish) struct bytes bytes = { 0 };
	struct native_storage *storage = NULL;
	struct event again;
	bool is_same;

	native_write_event(&bytes, event);
	is_same = parse(bytes.data, bytes.size, &again, &storage) == 0 &&
		  is_same_event(event, &again) && !again.path[again.path_length] &&
		  !again.comm[again.comm_length];
	native_storage_free(storage);
	if (!is_same)
		print_error("not read back: %.*s\n", (int)bytes.size, bytes.data);
	return is_same;
}

static struct event base_event(enum event_op op, uint16_t has)
{
	return (struct event){
		.seq = 12,
		.time_ns = sample_time,
		.op = op,
		.has = has,
		.path = "src/a.c",
		.path_length = 7,
		.comm = has & EVENT_HAS_WHO ? "vim" : "",
		.comm_length = has & EVENT_HAS_WHO ? 3 : 0,
		.pid = has & EVENT_HAS_WHO ? 4242 : 0,
		.uid = has & EVENT_HAS_WHO ? 1000 : 0,
		.gid = has & EVENT_HAS_WHO ? 1000 : 0,
	};
}

#define HEAD(op)                                                                                   \
	"{\"seq\":12,\"time\":\"2026-11-22T19:40:01.123456789Z\",\"op\":\"" op                     \
	"\",\"path\":\"src/a.c\""
#define WHO  ",\"pid\":4242,\"comm\":\"vim\",\"uid\":1000,\"gid\":1000"
#define TAIL ",\"origin\":\"vfs\"}"

static void a_write_is_written_as_documented(void)
{
	struct event event =
		base_event(EVENT_WRITE, WHO_AND_RANGE | EVENT_HAS_SIZE | EVENT_HAS_INO);

	event.length = 120;
	event.size = 120;
	event.ino = 131;
	check(writes(&event, "{\"seq\":12,\"time\":\"2026-11-22T19:40:01.123456789Z\",\"op\":"
			     "\"write\",\"path\":\"src/a.c\","
			     "\"offset\":0,\"length\":120,\"size\":120,\"ino\":131,\"pid\":4242,"
			     "\"comm\":\"vim\",\"uid\":1000,"
			     "\"gid\":1000,\"origin\":\"vfs\"}"));
	check(comes_back(&event));
}

static void an_event_of_nobody_has_no_pid(void)
{
	struct event event = base_event(EVENT_UNMOUNTED, 0);

	check(writes(&event, HEAD("unmounted") TAIL));
	check(comes_back(&event));
}

static void a_rename_has_both_names_and_flags(void)
{
	struct event event =
		base_event(EVENT_RENAME, EVENT_HAS_WHO | EVENT_HAS_FLAGS | EVENT_HAS_INO);

	event.to = "b c";
	event.to_length = 3;
	event.flags = 1;
	event.ino = 5;
	check(writes(&event, HEAD("rename") ",\"to\":\"b c\",\"flags\":1,\"ino\":5" WHO TAIL));
	check(comes_back(&event));
}

static void links_and_symlinks_tell_where_to(void)
{
	struct event event = base_event(EVENT_LINK, 0);

	event.to = "../x";
	event.to_length = 4;
	check(writes(&event, HEAD("link") ",\"to\":\"../x\"" TAIL));
	check(comes_back(&event));
	event.op = EVENT_SYMLINK;
	check(writes(&event, HEAD("symlink") ",\"target\":\"../x\"" TAIL));
	check(comes_back(&event));
}

static void attributes_and_notes_have_their_names(void)
{
	struct event event = base_event(EVENT_SETXATTR, EVENT_HAS_WHO);

	event.name = "user.a";
	event.name_length = 6;
	check(writes(&event, HEAD("setxattr") ",\"name\":\"user.a\"" WHO TAIL));
	event.op = EVENT_REMOVEXATTR;
	check(writes(&event, HEAD("removexattr") ",\"name\":\"user.a\"" WHO TAIL));
	event.op = EVENT_MANUAL;
	event.origin = EVENT_BY_HAND;
	check(writes(&event, HEAD("manual") ",\"note\":\"user.a\"" WHO ",\"origin\":\"manual\"}"));
	check(comes_back(&event));
}

static void mode_is_decimal_and_owner_as_chown_takes_it(void)
{
	struct event event = base_event(EVENT_CHMOD, EVENT_HAS_MODE);

	event.mode = 0755;
	check(writes(&event, HEAD("chmod") ",\"mode\":493" TAIL));
	check(comes_back(&event));

	event = base_event(EVENT_CHOWN, EVENT_HAS_OWNER);
	event.owner_uid = 1000;
	event.owner_gid = 100;
	check(writes(&event, HEAD("chown") ",\"owner\":\"1000:100\"" TAIL));
	check(comes_back(&event));
	event.owner_gid = -1;
	check(writes(&event, HEAD("chown") ",\"owner\":\"1000:\"" TAIL));
	check(comes_back(&event));
	event.owner_uid = -1;
	check(writes(&event, HEAD("chown") ",\"owner\":\":\"" TAIL));
	check(comes_back(&event));
	event.owner_gid = 0;
	check(writes(&event, HEAD("chown") ",\"owner\":\":0\"" TAIL));
	check(comes_back(&event));
}

static void a_gap_has_first_and_count(void)
{
	struct event event = base_event(EVENT_GAP, EVENT_HAS_OFFSET | EVENT_HAS_LENGTH);

	event.path_length = 0;
	event.offset = 7;
	event.length = UINT64_MAX;
	event.origin = EVENT_RECOVERED;
	check(writes(&event,
		     "{\"seq\":12,\"time\":\"2026-11-22T19:40:01.123456789Z\",\"op\":\"gap\","
		     "\"path\":\"\","
		     "\"first\":7,\"count\":18446744073709551615,\"origin\":\"recovered\"}"));
	check(comes_back(&event));
	event.has = EVENT_HAS_OFFSET;
	event.length = 0;
	check(comes_back(&event));
}

static void uncertain_stands_last_and_only_where_so(void)
{
	struct event event = base_event(EVENT_WRITE, EVENT_UNCERTAIN);

	event.origin = EVENT_MMAP;
	check(writes(&event, HEAD("write") ",\"origin\":\"mmap\",\"uncertain\":true}"));
	check(comes_back(&event));
}

static void every_op_and_origin_comes_back(void)
{
	for (unsigned op = 1; op < EVENT_OP_END; op++) {
		for (unsigned origin = 0; origin < EVENT_ORIGIN_END; origin++) {
			struct event event = base_event(op, EVENT_HAS_WHO);

			event.origin = origin;
			check(comes_back(&event));
		}
	}
}

static void paths_that_are_not_utf8_come_back(void)
{
	static const char *const paths[] = {
		"\xff",
		"a\x80/b",
		"\xc0\xaf",
		"\xe0\x9f\xbf",
		"\xed\xa0\xbd\xed\xb2\x80",
		"\xed\xbf\xbf",
		"\xf4\x90\x80\x80",
		"\xf8\x88\x80\x80\x80",
		"\xe2\x82",
		"\xf0\x9f\x98",
		"\xc3\xc3\xa9",
		"tab\t\"quote\"\\",
		"\x01\x1f\x7f",
		"\xf0\x9f\x98\x80\xff\xf0\x9f\x98\x80",
		"caf\xc3\xa9/\xe9t\xe9",
	};

	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		struct event event = base_event(EVENT_CREATE, 0);

		event.path = paths[i];
		event.path_length = strlen(paths[i]);
		check(comes_back(&event));
	}
}

static void the_longest_strings_and_numbers_come_back(void)
{
	static char path[EVENT_PATH_MAX];
	struct event event = base_event(EVENT_REMOVEXATTR, (EVENT_UNCERTAIN << 1) - 1);

	memset(path, '\xff', sizeof(path));
	event.seq = event.offset = event.length = event.size = event.ino = UINT64_MAX;
	event.mode = event.flags = event.pid = event.uid = event.gid = UINT32_MAX;
	event.owner_uid = event.owner_gid = UINT32_MAX - 1;
	event.time_ns = INT64_MIN;
	event.path = event.to = event.name = event.comm = path;
	event.path_length = event.to_length = EVENT_PATH_MAX;
	event.name_length = EVENT_NAME_MAX;
	event.comm_length = EVENT_COMM_MAX;
	check(comes_back(&event));
}

static void random_events_come_back(void)
{
	scoped(freep) struct event_sample *sample = malloc(sizeof(*sample));
	uint64_t state = 7;

	for (unsigned i = 0; i < 3000; i++) {
		event_sample_fill(sample, &state);
		check(comes_back(&sample->event));
	}
}

static void events_follow_each_other_in_a_buffer(void)
{
	scoped(bytes_finish) struct bytes bytes = { 0 };
	struct event event = base_event(EVENT_RMDIR, 0);

	for (int i = 0; i < 100; i++) {
		native_write_event(&bytes, &event);
		bytes_append_char(&bytes, '\n');
	}
	check(bytes_error(&bytes) == 0);
	for (size_t i = 0, size = bytes.size / 100; i < 100; i++)
		check(memcmp(bytes.data + i * size, bytes.data, size) == 0);
}

static void members_in_any_order_and_unknown_ones_are_read(void)
{
	static const char line[] =
		" { \"path\" : \"p\" , \"new\":{\"a\":[1,\"\\ud800\"]}, "
		"\"origin\":\"scan\",\"op\":\"mkdir\","
		"\"x\":null,\"\\u0073eq\":3,\"time\":\"1970-01-01T00:00:00.000000000Z\" } ";
	struct native_storage *storage = NULL;
	struct event event;

	check(parse(line, sizeof(line) - 1, &event, &storage) == 0);
	check(event.seq == 3 && event.time_ns == 0 && event.op == EVENT_MKDIR &&
	      event.origin == EVENT_SCAN);
	check(event.has == 0 && strcmp(event.path, "p") == 0 && !event.to && !event.name &&
	      event.comm_length == 0);
	native_storage_free(storage);
}

#define LINE(rest)                                                                                 \
	"{\"seq\":1,\"time\":\"2026-11-22T19:40:01.123456789Z\",\"op\":\"write\",\"origin\":"      \
	"\"vfs\"" rest
#define TIMED(time)                                                                                \
	"{\"seq\":1,\"time\":\"" time "\",\"op\":\"write\",\"origin\":\"vfs\",\"path\":\"p\"}"

static void lines_that_are_no_event_are_refused(void)
{
	static const char *const wrong[] = {
		"",
		"{}",
		"[]",
		"null",
		"{\"seq\":1}",
		LINE("}"),
		LINE(",\"path\":\"p\""),
		LINE(",\"path\":\"p\"}x"),
		LINE(",\"path\":1}"),
		LINE(",\"path\":\"a\\u0000b\"}"),
		LINE(",\"path\":\"\\ud800\"}"),
		LINE(",\"path\":\"\xff\"}"),
		LINE(",\"path\":\"p\",\"path\":\"p\"}"),
		LINE(",\"path\":\"p\",\"seq\":1}"),
		LINE(",\"path\":\"p\",\"offset\":-1}"),
		LINE(",\"path\":\"p\",\"offset\":18446744073709551616}"),
		LINE(",\"path\":\"p\",\"pid\":4294967296}"),
		LINE(",\"path\":\"p\",\"pid\":1.5}"),
		LINE(",\"path\":\"p\",\"comm\":\"sixteen letters.\"}"),
		LINE(",\"path\":\"p\",\"uncertain\":false}"),
		LINE(",\"path\":\"p\",\"uncertain\":1}"),
		LINE(",\"path\":\"p\",\"owner\":\"\"}"),
		LINE(",\"path\":\"p\",\"owner\":\"1\"}"),
		LINE(",\"path\":\"p\",\"owner\":\"1:2:\"}"),
		LINE(",\"path\":\"p\",\"owner\":\"-1:\"}"),
		LINE(",\"path\":\"p\",\"owner\":\"4294967295:\"}"),
		LINE(",\"path\":\"p\",\"owner\":\"99999999999999999999:\"}"),
		LINE(",\"path\":\"p\",\"op\":\"write\"}"),
		LINE(",\"path\":\"p\",\"new\":}"),
		LINE(",\"path\":\"p\",\"new\":[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]}"),
		"{\"seq\":1,\"time\":\"2026-11-22T19:40:01.123456789Z\",\"op\":\"wrote\",\"path\":"
		"\"p\",\"origin\":\"vfs\"}",
		"{\"seq\":1,\"time\":\"2026-11-22T19:40:01.123456789Z\",\"op\":\"write\",\"path\":"
		"\"p\",\"origin\":\"VFS\"}",
		TIMED(""),
		TIMED("2026-11-22T19:40:01Z"),
		TIMED("2026-11-22T19:40:01.123456789z"),
		TIMED("2026-11-22 19:40:01.123456789Z"),
		TIMED("2026-11-31T19:40:01.123456789Z"),
		TIMED("2026-02-29T19:40:01.123456789Z"),
		TIMED("2026-13-01T19:40:01.123456789Z"),
		TIMED("2026-00-01T19:40:01.123456789Z"),
		TIMED("2026-11-00T19:40:01.123456789Z"),
		TIMED("2026-11-22T24:00:00.123456789Z"),
		TIMED("2026-11-22T19:60:01.123456789Z"),
		TIMED("2026-11-22T19:40:60.123456789Z"),
		TIMED("2026-11-22T19:40:01.12345678xZ"),
		TIMED("0000-01-01T00:00:00.000000000Z"),
		TIMED("9999-12-31T23:59:59.999999999Z"),
		TIMED("1677-09-21T00:12:43.145224191Z"),
		TIMED("2262-04-11T23:47:16.854775808Z"),
		TIMED("+026-11-22T19:40:01.123456789Z"),
	};

	check(parse_result(LINE(",\"path\":\"p\"}")) == 0);
	check(parse_result(LINE(",\"path\":\"p\",\"new\":[[[[]]]]}")) == 0);
	check(parse_result(TIMED("2024-02-29T23:59:59.000000000Z")) == 0);
	check(parse_result(TIMED("1677-09-21T00:12:43.145224192Z")) == 0);
	check(parse_result(TIMED("2262-04-11T23:47:16.854775807Z")) == 0);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		if (parse_result(wrong[i]) != -EBADMSG)
			fail_msg("accepted: %s", wrong[i]);
}

static void a_damaged_line_never_breaks_the_reader(void)
{
	scoped(bytes_finish) struct bytes bytes = { 0 };
	struct event event = base_event(EVENT_CHOWN, (EVENT_UNCERTAIN << 1) - 1);
	uint64_t state = 3;

	event.path = "caf\xc3\xa9/\xe9t\xe9\n";
	event.path_length = strlen(event.path);
	native_write_event(&bytes, &event);
	for (size_t i = 0; i < bytes.size; i++) {
		struct native_storage *storage = NULL;
		struct event again;

		check(parse(bytes.data, i, &again, &storage) == -EBADMSG);
	}
	for (unsigned i = 0; i < 30000; i++) {
		size_t at = sample_u64(&state) % bytes.size;
		struct native_storage *storage = NULL;
		char right = bytes.data[at];
		struct event again;

		bytes.data[at] = sample_u64(&state);
		if (parse(bytes.data, bytes.size, &again, &storage) == 0)
			check(comes_back(&again));
		native_storage_free(storage);
		bytes.data[at] = right;
	}
}

/* ---- Time ---- */

static void time_agrees_with_the_c_library(void)
{
	uint64_t state = 11;

	for (unsigned i = 0; i < 50000; i++) {
		int64_t time_ns =
			i % 2 ? (int64_t)sample_u64(&state) : (int64_t)(sample_u64(&state) >> 2);
		int64_t ns = time_ns % 1000000000;
		time_t seconds = time_ns / 1000000000;
		scoped(bytes_finish) struct bytes bytes = { 0 };
		char expected[64], date[48];
		struct tm tm;

		if (ns < 0) {
			ns += 1000000000;
			seconds--;
		}
		gmtime_r(&seconds, &tm);
		strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);
		snprintf(expected, sizeof(expected), "\"%s.%09dZ\"", date, (int)ns);
		native_write_time(&bytes, time_ns);
		check(bytes.size == strlen(expected) &&
		      memcmp(bytes.data, expected, bytes.size) == 0);
	}
}

static void every_day_there_is_comes_back(void)
{
	for (int64_t day = -106751; day <= 106751; day++) {
		struct event event = base_event(EVENT_WRITE, 0);

		/* The first and the last nanosecond, in turn. */
		event.time_ns = day * 86400 * 1000000000 - (day & 1);
		check(comes_back(&event));
	}
}

/* ---- Requests ---- */

static int parse_request(const char *line, struct native_request *out, const char **out_message)
{
	size_t length = strlen(line);
	scoped(freep) char *copy = malloc(length + !length);

	memcpy(copy, line, length);
	*out = (struct native_request){ 0 };
	*out_message = NULL;
	return native_parse_request(copy, length, out, out_message);
}

static void refused(const char *line, int error)
{
	struct native_request request;
	const char *message;
	int r = parse_request(line, &request, &message);

	if (r != error)
		fail_msg("%d instead of %d for: %s", r, error, line);
	check(message && message[strlen(message) - 1] == '.');
	check(request.kind == 0 && !request.path && !request.note);
}

static void subscriptions_start_anywhere(void)
{
	static const struct {
		const char *line;
		enum native_since since;
		uint64_t seq;
		bool follow;
	} cases[] = {
		{ "{\"subscribe\":{\"since\":12,\"follow\":true}}", NATIVE_SINCE_SEQ, 12, true },
		{ "{\"subscribe\":{\"since\":0}}", NATIVE_SINCE_SEQ, 0, true },
		{ "{\"subscribe\":{\"since\":18446744073709551615}}", NATIVE_SINCE_SEQ, UINT64_MAX,
		  true },
		{ "{\"subscribe\":{\"since\":\"now\"}}", NATIVE_SINCE_NOW, 0, true },
		{ " { \"subscribe\" : { \"follow\" : false , \"since\" : \"oldest\" } } \r",
		  NATIVE_SINCE_OLDEST, 0, false },
		{ "{\"subscribe\":{}}", NATIVE_SINCE_NOW, 0, true },
		{ "{\"subscribe\":{\"follow\":false}}", NATIVE_SINCE_NOW, 0, false },
		{ "{\"\\u0073ubscribe\":{\"since\":\"n\\u006fw\"}}", NATIVE_SINCE_NOW, 0, true },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct native_request request;
		const char *message;

		check(parse_request(cases[i].line, &request, &message) == 0);
		check(request.kind == NATIVE_SUBSCRIBE && request.since == cases[i].since);
		check(request.seq == cases[i].seq && request.follow == cases[i].follow);
		native_request_finish(&request);
	}
}

static void plain_requests_are_read(void)
{
	struct native_request request;
	const char *message;

	check(parse_request("{\"sync\":{}}", &request, &message) == 0 &&
	      request.kind == NATIVE_SYNC);
	check(parse_request("{\"status\":{}}", &request, &message) == 0 &&
	      request.kind == NATIVE_STATUS);
	check(parse_request("{\"restart\":{ }}", &request, &message) == 0 &&
	      request.kind == NATIVE_RESTART);
	native_request_finish(&request);
	native_request_finish(&request);
}

static void manual_requests_carry_bytes(void)
{
	struct native_request request;
	const char *message;

	check(parse_request("{\"manual\":{\"path\":\"a/b\",\"note\":\"te\\\"xt\"}}", &request,
			    &message) == 0);
	check(request.kind == NATIVE_MANUAL);
	check(strcmp(request.path, "a/b") == 0 && strcmp(request.note, "te\"xt") == 0);
	native_request_finish(&request);
	check(!request.path && !request.note);

	check(parse_request("{\"manual\":{\"path\":\"\\udcff.\\ud83d\\ude00/..x\"}}", &request,
			    &message) == 0);
	check(strcmp(request.path, "\xff.\xf0\x9f\x98\x80/..x") == 0 && !request.note);
	native_request_finish(&request);

	check(parse_request("{\"manual\":{\"note\":\"\",\"path\":\"\"}}", &request, &message) == 0);
	check(strcmp(request.path, "") == 0 && strcmp(request.note, "") == 0);
	native_request_finish(&request);
}

static void lines_that_are_not_json_are_refused(void)
{
	static const char *const lines[] = {
		"",
		"hello",
		"{",
		"{\"sync\":{}",
		"{\"sync\":{}}}",
		"{\"sync\":{}} {}",
		"{'sync':{}}",
		"{\"sync\":{},}",
		"{\"sync\":\xff}",
		"{\"manual\":{\"path\":\"\xff\"}}",
		"{\"unknown\":[1,]}",
		"{\"a\":[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]}",
	};
	char deep[4096];

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		refused(lines[i], -EBADMSG);
	memset(deep, '[', sizeof(deep) - 1);
	deep[sizeof(deep) - 1] = '\0';
	refused(deep, -EBADMSG);
}

static void unknown_requests_are_told_apart(void)
{
	refused("{\"unsubscribe\":{}}", -ENOSYS);
	refused("{\"Sync\":{}}", -ENOSYS);
	refused("{\"\":1}", -ENOSYS);
	refused("{\"a\":[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]}", -ENOSYS);
}

static void bad_values_are_refused(void)
{
	static const char *const lines[] = {
		"{}",
		"[]",
		"1",
		"\"sync\"",
		"null",
		"{\"sync\":{},\"status\":{}}",
		"{\"sync\":{},\"sync\":{}}",
		"{\"\\ud800\":1}",
		"{\"sync\":1}",
		"{\"sync\":[]}",
		"{\"sync\":null}",
		"{\"sync\":{\"a\":1}}",
		"{\"status\":{\"since\":1}}",
		"{\"restart\":{\"now\":true}}",
		"{\"subscribe\":\"now\"}",
		"{\"subscribe\":{\"since\":-1}}",
		"{\"subscribe\":{\"since\":1.5}}",
		"{\"subscribe\":{\"since\":18446744073709551616}}",
		"{\"subscribe\":{\"since\":\"12\"}}",
		"{\"subscribe\":{\"since\":\"\"}}",
		"{\"subscribe\":{\"since\":null}}",
		"{\"subscribe\":{\"since\":true}}",
		"{\"subscribe\":{\"since\":\"\\u0000\"}}",
		"{\"subscribe\":{\"follow\":1}}",
		"{\"subscribe\":{\"follow\":\"true\"}}",
		"{\"subscribe\":{\"follow\":null}}",
		"{\"subscribe\":{\"since\":1,\"since\":1}}",
		"{\"subscribe\":{\"path\":\"a\"}}",
		"{\"subscribe\":{\"\\ud800\":1}}",
		"{\"manual\":{}}",
		"{\"manual\":{\"note\":\"n\"}}",
		"{\"manual\":{\"path\":1}}",
		"{\"manual\":{\"path\":null}}",
		"{\"manual\":{\"path\":\"a\\u0000b\"}}",
		"{\"manual\":{\"path\":\"\\ud800\"}}",
		"{\"manual\":{\"path\":\"\\udc00\"}}",
		"{\"manual\":{\"path\":\"/a\"}}",
		"{\"manual\":{\"path\":\"a/\"}}",
		"{\"manual\":{\"path\":\"a//b\"}}",
		"{\"manual\":{\"path\":\".\"}}",
		"{\"manual\":{\"path\":\"a/..\"}}",
		"{\"manual\":{\"path\":\"../a\"}}",
		"{\"manual\":{\"path\":\"a/./b\"}}",
		"{\"manual\":{\"path\":\"a\",\"path\":\"b\"}}",
		"{\"manual\":{\"path\":\"a\",\"note\":2}}",
		"{\"manual\":{\"path\":\"a\",\"note\":\"b\",\"x\":1}}",
	};

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		refused(lines[i], -EINVAL);
}

static void a_note_has_a_limit(void)
{
	struct native_request request;
	const char *message;
	char line[512];

	snprintf(line, sizeof(line), "{\"manual\":{\"path\":\"a\",\"note\":\"%0*d\"}}",
		 EVENT_NAME_MAX, 0);
	check(parse_request(line, &request, &message) == 0);
	check(strlen(request.note) == EVENT_NAME_MAX);
	native_request_finish(&request);
	snprintf(line, sizeof(line), "{\"manual\":{\"path\":\"a\",\"note\":\"%0*d\"}}",
		 EVENT_NAME_MAX + 1, 0);
	refused(line, -EINVAL);
}

static void the_message_names_the_problem(void)
{
	struct native_request request;
	const char *message;

	check(parse_request("{\"subscribe\":{\"from\":1}}", &request, &message) == -EINVAL);
	check(strstr(message, "\"since\" and \"follow\""));
	check(parse_request("{\"subscribe\":{\"follow\":1}}", &request, &message) == -EINVAL);
	check(strstr(message, "\"follow\""));
	check(parse_request("{\"manual\":{\"path\":\"a\\u0000\"}}", &request, &message) == -EINVAL);
	check(strstr(message, "U+0000"));
	check(parse_request("[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]", &request, &message) == -EBADMSG);
	check(strstr(message, "deep"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		unit(a_write_is_written_as_documented),
		unit(an_event_of_nobody_has_no_pid),
		unit(a_rename_has_both_names_and_flags),
		unit(links_and_symlinks_tell_where_to),
		unit(attributes_and_notes_have_their_names),
		unit(mode_is_decimal_and_owner_as_chown_takes_it),
		unit(a_gap_has_first_and_count),
		unit(uncertain_stands_last_and_only_where_so),
		unit(every_op_and_origin_comes_back),
		unit(paths_that_are_not_utf8_come_back),
		unit(the_longest_strings_and_numbers_come_back),
		unit(random_events_come_back),
		unit(events_follow_each_other_in_a_buffer),
		unit(members_in_any_order_and_unknown_ones_are_read),
		unit(lines_that_are_no_event_are_refused),
		unit(a_damaged_line_never_breaks_the_reader),
		unit(time_agrees_with_the_c_library),
		unit(every_day_there_is_comes_back),
		unit(subscriptions_start_anywhere),
		unit(plain_requests_are_read),
		unit(manual_requests_carry_bytes),
		unit(lines_that_are_not_json_are_refused),
		unit(unknown_requests_are_told_apart),
		unit(bad_values_are_refused),
		unit(a_note_has_a_limit),
		unit(the_message_names_the_problem),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
