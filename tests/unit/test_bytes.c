#include "base/bytes.h"

#include "check.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

static bool holds(const struct bytes *bytes, const char *text)
{
	return bytes->size == strlen(text) && memcmp(bytes->data, text, bytes->size) == 0;
}

static void a_new_buffer_is_empty_and_owns_nothing(void)
{
	struct bytes bytes;

	bytes_init(&bytes);
	check(bytes.size == 0 && bytes.capacity == 0 && !bytes.data);
	check(bytes_error(&bytes) == 0);
	bytes_consume(&bytes, 0);
	bytes_append(&bytes, NULL, 0);
	check(bytes.size == 0);
	bytes_finish(&bytes);
	bytes_finish(&bytes);
}

static void pieces_follow_each_other(void)
{
	struct bytes bytes = { 0 };

	bytes_append_string(&bytes, "ab");
	bytes_append_char(&bytes, '-');
	bytes_append(&bytes, "c\0d", 3);
	bytes_append_u64(&bytes, 7);
	bytes_append_format(&bytes, "%s=%d", "x", -1);
	check(bytes.size == 11);
	check(memcmp(bytes.data, "ab-c\0d7x=-1", 11) == 0);
	bytes_finish(&bytes);
}

static void numbers_are_decimal_at_both_ends(void)
{
	static const struct {
		uint64_t number;
		const char *text;
	} cases[] = {
		{ 0, "0" },
		{ 9, "9" },
		{ 10, "10" },
		{ 1000000, "1000000" },
		{ UINT64_MAX, "18446744073709551615" },
	};
	struct bytes bytes = { 0 };

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		bytes_clear(&bytes);
		bytes_append_u64(&bytes, cases[i].number);
		check(holds(&bytes, cases[i].text));
	}
	bytes_finish(&bytes);
}

static void what_was_written_survives_growing(void)
{
	struct bytes bytes = { 0 };

	for (unsigned i = 0; i < 100000; i++)
		bytes_append_char(&bytes, i % 251);
	check(bytes_error(&bytes) == 0);
	check(bytes.size == 100000 && bytes.capacity >= bytes.size);
	for (unsigned i = 0; i < 100000; i++)
		check((unsigned char)bytes.data[i] == i % 251);
	bytes_finish(&bytes);
}

static void formats_longer_than_the_room_are_whole(void)
{
	struct bytes bytes = { 0 };

	bytes_append_format(&bytes, "%5000d|", 42);
	check(bytes.size == 5001);
	check(memcmp(bytes.data + 4996, "  42|", 5) == 0);
	bytes_append_format(&bytes, "%s", "");
	check(bytes.size == 5001);
	bytes_finish(&bytes);
}

static void reserved_room_is_not_moved(void)
{
	struct bytes bytes = { 0 };
	const char *data;

	check(bytes_reserve(&bytes, 10000) == 0);
	check(bytes.capacity >= 10000 && bytes.size == 0);
	data = bytes.data;
	for (int i = 0; i < 10000; i++)
		bytes_append_char(&bytes, 'x');
	check(bytes.data == data);
	bytes_finish(&bytes);
}

static void consuming_moves_the_rest_down(void)
{
	struct bytes bytes = { 0 };

	bytes_append_string(&bytes, "first\nsecond");
	bytes_consume(&bytes, 6);
	check(holds(&bytes, "second"));
	bytes_consume(&bytes, 0);
	check(holds(&bytes, "second"));
	bytes_consume(&bytes, 6);
	check(bytes.size == 0);
	bytes_finish(&bytes);
}

static void a_failed_allocation_is_remembered_until_the_next_clear(void)
{
	struct bytes bytes = { 0 };

	bytes_append_string(&bytes, "kept");
	check(bytes_reserve(&bytes, SIZE_MAX) == -ENOMEM);
	check(bytes_error(&bytes) == -ENOMEM);

	bytes_append_char(&bytes, 'x');
	bytes_append_string(&bytes, "x");
	bytes_append_u64(&bytes, 1);
	bytes_append_format(&bytes, "x");
	check(bytes_reserve(&bytes, 1) == -ENOMEM);
	check(holds(&bytes, "kept"));

	bytes_clear(&bytes);
	check(bytes_error(&bytes) == 0);
	bytes_append_string(&bytes, "new");
	check(holds(&bytes, "new"));
	bytes_finish(&bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		unit(a_new_buffer_is_empty_and_owns_nothing),
		unit(pieces_follow_each_other),
		unit(numbers_are_decimal_at_both_ends),
		unit(what_was_written_survives_growing),
		unit(formats_longer_than_the_room_are_whole),
		unit(reserved_room_is_not_moved),
		unit(consuming_moves_the_rest_down),
		unit(a_failed_allocation_is_remembered_until_the_next_clear),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
