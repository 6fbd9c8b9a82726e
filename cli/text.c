/* Text: bytes that somebody else chose, made fit for a terminal. */
#include "cli/text.h"

#include "base/bytes.h"
#include "base/utf8.h"

#include <langinfo.h>
#include <stdint.h>
#include <string.h>
#include <wchar.h>

bool text_is_utf8(void)
{
	return strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
}

static uint32_t decode(const unsigned char *at, size_t length)
{
	static const unsigned char first_bits[] = { 0, 0x7f, 0x1f, 0x0f, 0x07 };
	uint32_t code_point = at[0] & first_bits[length];

	for (size_t i = 1; i < length; i++)
		code_point = code_point << 6 | (at[i] & 0x3f);
	return code_point;
}

/* What a terminal obeys, or a reader cannot see. */
static bool is_dangerous(uint32_t code_point)
{
	static const struct {
		uint32_t first, last;
	} ranges[] = {
		{ 0x0000, 0x001f },   /* control characters */
		{ 0x007f, 0x009f },   /* more of them */
		{ 0x00ad, 0x00ad },   /* soft hyphen */
		{ 0x061c, 0x061c },   /* Arabic letter mark */
		{ 0x180e, 0x180e },   /* Mongolian vowel separator */
		{ 0x200b, 0x200f },   /* zero width; left-to-right and right-to-left marks */
		{ 0x2028, 0x202e },   /* separators; bidirectional embeddings, overrides */
		{ 0x2060, 0x206f },   /* invisible operators; bidirectional isolates */
		{ 0xfeff, 0xfeff },   /* byte order mark */
		{ 0xfff0, 0xfffb },   /* interlinear annotations */
		{ 0xfffe, 0xffff },   /* no characters */
		{ 0xe0000, 0xe0fff }, /* tags */
	};

	for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++)
		if (code_point >= ranges[i].first && code_point <= ranges[i].last)
			return true;
	return false;
}

/*
 * The length of the character at @at that may be written as it is; 0 when its first byte must be
 * escaped.
 */
static size_t plain_length(const unsigned char *at, size_t available, bool utf8)
{
	size_t length = utf8_length(at, available);

	if (length == 0 || (length > 1 && !utf8) || at[0] == '\\')
		return 0;
	return is_dangerous(decode(at, length)) ? 0 : length;
}

static size_t append_escape(struct bytes *out, unsigned char byte)
{
	static const char letters[][2] = {
		{ '\n', 'n' }, { '\t', 't' }, { '\r', 'r' }, { '\\', '\\' }
	};

	for (size_t i = 0; i < sizeof(letters) / sizeof(letters[0]); i++) {
		if (byte == (unsigned char)letters[i][0]) {
			bytes_append_char(out, '\\');
			bytes_append_char(out, letters[i][1]);
			return 2;
		}
	}
	bytes_append_format(out, "\\x%02x", byte);
	return 4;
}

/* Columns of a character that is no control character: 0 for a combining one, 1, or 2. */
static size_t columns(const unsigned char *at, size_t length)
{
	int width = length == 1 ? 1 : wcwidth(decode(at, length));

	return width < 0 ? 1 : width;
}

size_t text_append(struct bytes *out, const char *text, size_t length, bool utf8)
{
	const unsigned char *at = (const unsigned char *)text;
	const unsigned char *end = at + length;
	size_t width = 0;

	while (at < end) {
		size_t plain = plain_length(at, end - at, utf8);

		if (plain == 0) {
			width += append_escape(out, *at++);
			continue;
		}
		bytes_append(out, at, plain);
		width += columns(at, plain);
		at += plain;
	}
	return width;
}

size_t text_width(const char *text, size_t length, bool utf8)
{
	struct bytes unused = { 0 };
	size_t width = text_append(&unused, text, length, utf8);

	bytes_finish(&unused);
	return width;
}
