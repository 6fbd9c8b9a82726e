/*
 * Utf8: what is a character and what is not.
 *
 * The second byte alone tells overlong forms, surrogates and code points that are too large
 * apart from characters, so each first byte has a range for it:
 *
 *     first       second      then
 *     C2..DF      80..BF
 *     E0          A0..BF      80..BF
 *     E1..EF      80..BF      80..BF      (but ED: second 80..9F)
 *     F0          90..BF      80..BF 80..BF
 *     F1..F3      80..BF      80..BF 80..BF
 *     F4          80..8F      80..BF 80..BF
 */
#include "base/utf8.h"

#include <stdbool.h>

/* The length that a first byte promises; 0 for a byte that starts nothing. */
static size_t promised_length(unsigned char first)
{
	if (first < 0x80)
		return 1;
	if (first < 0xc2)
		return 0;
	if (first < 0xe0)
		return 2;
	if (first < 0xf0)
		return 3;
	return first < 0xf5 ? 4 : 0;
}

static bool is_second(unsigned char first, unsigned char second)
{
	unsigned char low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
	unsigned char high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;

	return second >= low && second <= high;
}

size_t utf8_length(const void *data, size_t available)
{
	const unsigned char *bytes = data;
	size_t length;

	if (available == 0)
		return 0;

	length = promised_length(bytes[0]);
	if (length > available)
		return 0;
	if (length > 1 && !is_second(bytes[0], bytes[1]))
		return 0;
	for (size_t i = 2; i < length; i++)
		if ((bytes[i] & 0xc0) != 0x80)
			return 0;
	return length;
}

size_t utf8_encode(unsigned code_point, char out[UTF8_LENGTH_MAX])
{
	size_t length = code_point < 0x80      ? 1
			: code_point < 0x800   ? 2
			: code_point < 0x10000 ? 3
					       : 4;
	static const unsigned char marks[] = { 0, 0, 0xc0, 0xe0, 0xf0 };

	for (size_t i = length; i-- > 1; code_point >>= 6)
		out[i] = 0x80 | (code_point & 0x3f);
	out[0] = marks[length] | code_point;
	return length;
}
