#include "base/utf8.h"

#include "check.h"

#include <string.h>

static size_t length_of(const char *text)
{
	return utf8_length(text, strlen(text));
}

static void every_code_point_but_surrogates_is_a_character(void)
{
	char bytes[UTF8_LENGTH_MAX];

	for (unsigned code_point = 0; code_point <= 0x10ffff; code_point++) {
		size_t length;

		if (code_point == 0xd800)
			code_point = 0xe000;
		length = utf8_encode(code_point, bytes);
		check(length == (code_point < 0x80      ? 1
				 : code_point < 0x800   ? 2
				 : code_point < 0x10000 ? 3
							: 4));
		check(utf8_length(bytes, length) == length);
		check(utf8_length(bytes, length - 1) == 0);
	}
}

static void no_other_two_or_three_bytes_are_characters(void)
{
	unsigned characters[4] = { 0 };

	for (unsigned i = 0; i < 1 << 24; i++) {
		const unsigned char bytes[] = { i >> 16, i >> 8, i };

		characters[utf8_length(bytes, sizeof(bytes))]++;
	}
	/* One byte and any two after it; two bytes and any one after it; three. */
	check(characters[1] == 0x80 << 16);
	check(characters[2] == (0x800 - 0x80) << 8);
	check(characters[3] == 0x10000 - 0x800 - 0x800);
}

static void overlong_forms_surrogates_and_large_numbers_are_none(void)
{
	static const char *const wrong[] = {
		"\x80",
		"\xbf",
		"\xc0\x80",
		"\xc1\xbf",
		"\xe0\x9f\xbf",
		"\xf0\x8f\xbf\xbf",
		"\xed\xa0\x80",
		"\xed\xbf\xbf",
		"\xf4\x90\x80\x80",
		"\xf5\x80\x80\x80",
		"\xfe",
		"\xff",
		"\xc3",
		"\xc3(",
		"\xe2\x82",
		"\xe2\x82(",
		"\xf0\x9f\x98",
		"\xf0\x9f\x98(",
		"",
	};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		check(length_of(wrong[i]) == 0);
	check(length_of("\xed\x9f\xbf") == 3);
	check(length_of("\xf4\x8f\xbf\xbf") == 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		unit(every_code_point_but_surrogates_is_a_character),
		unit(no_other_two_or_three_bytes_are_characters),
		unit(overlong_forms_surrogates_and_large_numbers_are_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
