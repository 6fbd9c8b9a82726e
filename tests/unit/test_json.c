#include "proto/json.h"

#include "base/scope.h"
#include "check.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH = 4 };

/* A reader whose text and storage are as small as allowed, so that a sanitizer sees a byte too many. */
struct reader {
	struct json json;
	char *text;
	char *storage;
};

static void reader_finish(struct reader *reader)
{
	free(reader->text);
	free(reader->storage);
}

static struct reader reader_of(const char *text, size_t length)
{
	struct reader reader = { .text = malloc(length + !length),
				 .storage = malloc(length + !length) };

	memcpy(reader.text, text, length);
	json_init(&reader.json, reader.text, length, reader.storage);
	return reader;
}

static int pass_over(const char *text, size_t length)
{
	scoped(reader_finish) struct reader reader = reader_of(text, length);
	int r = json_skip(&reader.json, DEPTH);

	return r < 0 ? r : json_finish(&reader.json);
}

static bool reads_as(const char *text, const char *bytes, size_t length)
{
	scoped(reader_finish) struct reader reader = reader_of(text, strlen(text));
	struct json_string string;

	return json_read_string(&reader.json, &string) == 0 && json_finish(&reader.json) == 0 &&
	       string.length == length && memcmp(string.data, bytes, length + 1) == 0;
}

static int read_string(const char *text)
{
	scoped(reader_finish) struct reader reader = reader_of(text, strlen(text));
	struct json_string string;

	return json_read_string(&reader.json, &string);
}

static int read_u64(const char *text, uint64_t *out)
{
	scoped(reader_finish) struct reader reader = reader_of(text, strlen(text));
	int r = json_read_u64(&reader.json, out);

	return r < 0 ? r : json_finish(&reader.json);
}

static bool is_written(const char *bytes, size_t length, const char *text)
{
	scoped(freep) char *buffer = malloc(JSON_STRING_MAX(length));
	char *end = json_put_string(buffer, bytes, length);

	return (size_t)(end - buffer) == strlen(text) && memcmp(buffer, text, end - buffer) == 0;
}

#define IS_WRITTEN(literal, text) is_written(literal, sizeof(literal) - 1, text)
#define READS_AS(text, literal)   reads_as(text, literal, sizeof(literal) - 1)

static void what_is_json_is_passed_over(void)
{
	static const char *const texts[] = {
		"{}",
		"[]",
		" [ ] ",
		"0",
		"-0",
		"12",
		"-1.5e+10",
		"1E5",
		"0.25",
		"true",
		"false",
		"null",
		"\"\"",
		"\"\\u0000\\ud800\\\"\"",
		"{\"a\":{\"b\":[1,{}]}}",
		"\t[1 ,\r\n2]",
		"\"\xc3\xa9\xf0\x9f\x98\x80\x7f\"",
		"[[[[]]]]",
		"{\"a\":1,\"a\":2}",
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		check(pass_over(texts[i], strlen(texts[i])) == 0);
}

static void what_is_not_json_is_refused(void)
{
	static const char *const texts[] = {
		"",
		" ",
		"{",
		"}",
		"[",
		"]",
		"[1,]",
		"[,1]",
		"[1 2]",
		"{\"a\"}",
		"{\"a\":}",
		"{\"a\":1,}",
		"{a:1}",
		"{1:1}",
		"{\"a\":1 \"b\":2}",
		"[}",
		"{]",
		"01",
		"+1",
		"-",
		".5",
		"1.",
		"1e",
		"1e+",
		"0x1",
		"tru",
		"nul",
		"True",
		"NaN",
		"'a'",
		"\"",
		"\"a",
		"\"\\",
		"\"\\x\"",
		"\"\\u12\"",
		"\"\\u12g4\"",
		"\"\\ud800\\u\"",
		"\"\n\"",
		"\"\x1f\"",
		"\"\xff\"",
		"\"\xc3\"",
		"\"\xc0\x80\"",
		"\"\xed\xa0\x80\"",
		"{} {}",
		"1 2",
		"\xef\xbb\xbf{}",
		"\v1",
		"// 1",
		"[1]x",
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		check(pass_over(texts[i], strlen(texts[i])) == -EBADMSG);
	check(pass_over("{}\0", 3) == -EBADMSG);
	check(pass_over("\"\0\"", 3) == -EBADMSG);
}

static void too_deep_is_its_own_answer(void)
{
	scoped(freep) char *deep = malloc(1000000);

	check(pass_over("[[[[[]]]]]", 10) == -E2BIG);
	check(pass_over("{\"a\":[{\"a\":[{}]}]}", 18) == -E2BIG);
	memset(deep, '[', 1000000);
	check(pass_over(deep, 1000000) == -E2BIG);
}

static void every_prefix_of_a_text_is_refused(void)
{
	static const char text[] = "{\"a\\n\\u00e9\":[1.5e-3,true,null,\"\\ud83d\\ude00\xc3\xa9\"],"
				   "\"b\":{\"c\":false}}";

	check(pass_over(text, sizeof(text) - 1) == 0);
	for (size_t i = 0; i < sizeof(text) - 1; i++)
		check(pass_over(text, i) == -EBADMSG);
}

static void strings_are_read_with_escapes_undone(void)
{
	check(READS_AS("\"\"", ""));
	check(READS_AS(" \"plain and longer than a word\" ", "plain and longer than a word"));
	check(READS_AS("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t"));
	check(READS_AS("\"\\u0041\\u00e9\\u20AC\\uFFFF\"", "A\xc3\xa9\xe2\x82\xac\xef\xbf\xbf"));
	check(READS_AS("\"\\ud83d\\ude00\"", "\xf0\x9f\x98\x80"));
	check(READS_AS("\"\\udbff\\udfff\"", "\xf4\x8f\xbf\xbf"));
	check(READS_AS("\"\xc3\xa9\x7f\"", "\xc3\xa9\x7f"));
}

static void lone_surrogates_are_bytes_and_pairs_are_characters(void)
{
	check(READS_AS("\"\\udcff\"", "\xff"));
	check(READS_AS("\"a\\udc80\\uDCFEb\"", "a\x80\xfe"
					       "b"));
	check(READS_AS("\"\\ud83d\\udc80\"", "\xf0\x9f\x92\x80"));
	check(READS_AS("\"\\ud83d\\udc80\\udc80\"", "\xf0\x9f\x92\x80\x80"));
	check(READS_AS("\"\\udce2\\udc82\\udcac\"", "\xe2\x82\xac"));
}

static void strings_that_no_bytes_stand_for_are_values_that_cannot_be(void)
{
	static const char *const texts[] = {
		"\"\\u0000\"",  "\"a\\u0000b\"",      "\"\\ud800\"",
		"\"\\udbffx\"", "\"\\ud800\\u0041\"", "\"\\ud800\\ud800\\udc00\"",
		"\"\\udc00\"",  "\"\\udc7f\"",        "\"\\udd00\"",
		"\"\\udfff\"",  "\"\\ud800\\n\"",
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		check(read_string(texts[i]) == -EINVAL);
	check(read_string("12") == -EBADMSG);
	check(read_string("\"open") == -EBADMSG);
	check(read_string("\"\xff\"") == -EBADMSG);
}

static void strings_are_written_with_escapes_where_needed(void)
{
	check(IS_WRITTEN("", "\"\""));
	check(IS_WRITTEN("src/a.c", "\"src/a.c\""));
	check(IS_WRITTEN("\"\\/", "\"\\\"\\\\/\""));
	check(IS_WRITTEN("\b\f\n\r\t", "\"\\b\\f\\n\\r\\t\""));
	check(IS_WRITTEN("\x01\x1f \x7f", "\"\\u0001\\u001f \x7f\""));
	check(IS_WRITTEN("\0", "\"\\u0000\""));
	check(IS_WRITTEN("na\xc3\xafve \xe2\x82\xac \xf0\x9f\x98\x80",
			 "\"na\xc3\xafve \xe2\x82\xac \xf0\x9f\x98\x80\""));
}

static void bytes_that_are_not_utf8_are_written_one_by_one(void)
{
	check(IS_WRITTEN("\x80", "\"\\udc80\""));
	check(IS_WRITTEN("a\xff"
			 "b",
			 "\"a\\udcffb\""));
	check(IS_WRITTEN("\xc0\xaf", "\"\\udcc0\\udcaf\""));
	check(IS_WRITTEN("\xe0\x80\x80", "\"\\udce0\\udc80\\udc80\""));
	check(IS_WRITTEN("\xed\xa0\xbd\xed\xb2\x80",
			 "\"\\udced\\udca0\\udcbd\\udced\\udcb2\\udc80\""));
	check(IS_WRITTEN("\xf4\x90\x80\x80", "\"\\udcf4\\udc90\\udc80\\udc80\""));
	check(IS_WRITTEN("\xf5\xfe", "\"\\udcf5\\udcfe\""));
	check(IS_WRITTEN("\xe2\x82", "\"\\udce2\\udc82\""));
	check(IS_WRITTEN("\xe2\x82"
			 "A",
			 "\"\\udce2\\udc82A\""));
	check(IS_WRITTEN("\xc3\xc3\xa9", "\"\\udcc3\xc3\xa9\""));
}

/* A byte that needs a look, at each place of strings of each length around the word size. */
static void any_byte_at_any_place_comes_back(void)
{
	for (unsigned byte = 1; byte < 256; byte++) {
		for (size_t length = 1; length < 20; length++) {
			for (size_t at = 0; at < length; at++) {
				char bytes[21] = "abcdefghijklmnopqrst";
				char text[JSON_STRING_MAX(20) + 1];

				bytes[length] = '\0';
				bytes[at] = byte;
				*json_put_string(text, bytes, length) = '\0';
				for (const char *c = text; *c; c++)
					check((unsigned char)*c >= 0x20);
				check(reads_as(text, bytes, length));
			}
		}
	}
}

static void numbers_are_whole_and_64_bits(void)
{
	static const char *const wrong[] = {
		"18446744073709551616", "99999999999999999999999", "-1", "-0", "1.0", "1e3", "0.5",
	};
	uint64_t number;

	check(read_u64("0", &number) == 0 && number == 0);
	check(read_u64(" 42 ", &number) == 0 && number == 42);
	check(read_u64("18446744073709551615", &number) == 0 && number == UINT64_MAX);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		check(read_u64(wrong[i], &number) == -EINVAL);
	check(read_u64("", &number) == -EBADMSG);
	check(read_u64("\"1\"", &number) == -EBADMSG);
	check(read_u64("01", &number) == -EBADMSG);
}

static void an_object_is_read_member_by_member(void)
{
	static const char text[] =
		" { \"a\" : 1 , \"b\" : { \"c\" : true, \"d\":{} } , \"e\" : \"x\" } ";
	scoped(reader_finish) struct reader reader = reader_of(text, sizeof(text) - 1);
	struct json *json = &reader.json;
	struct json_string name, inner, value;
	uint64_t number;
	bool is_true;

	check(json_begin_object(json) == 0);
	check(json_next_member(json, &name) == 1 && strcmp(name.data, "a") == 0);
	check(json_read_u64(json, &number) == 0 && number == 1);
	check(json_next_member(json, &name) == 1 && strcmp(name.data, "b") == 0);
	check(json_peek(json) == '{' && json_begin_object(json) == 0);
	check(json_next_member(json, &inner) == 1 && strcmp(inner.data, "c") == 0);
	check(json_read_bool(json, &is_true) == 0 && is_true);
	check(json_next_member(json, &inner) == 1 && strcmp(inner.data, "d") == 0);
	check(json_begin_object(json) == 0 && json_next_member(json, &inner) == 0);
	check(json_next_member(json, &inner) == 0);
	check(json_next_member(json, &name) == 1 && strcmp(name.data, "e") == 0);
	check(json_read_string(json, &value) == 0 && strcmp(value.data, "x") == 0);
	check(strcmp(name.data, "e") == 0);
	check(json_next_member(json, &name) == 0);
	check(json_peek(json) == 0 && json_finish(json) == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		unit(what_is_json_is_passed_over),
		unit(what_is_not_json_is_refused),
		unit(too_deep_is_its_own_answer),
		unit(every_prefix_of_a_text_is_refused),
		unit(strings_are_read_with_escapes_undone),
		unit(lone_surrogates_are_bytes_and_pairs_are_characters),
		unit(strings_that_no_bytes_stand_for_are_values_that_cannot_be),
		unit(strings_are_written_with_escapes_where_needed),
		unit(bytes_that_are_not_utf8_are_written_one_by_one),
		unit(any_byte_at_any_place_comes_back),
		unit(numbers_are_whole_and_64_bits),
		unit(an_object_is_read_member_by_member),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
