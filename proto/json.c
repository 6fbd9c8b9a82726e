/*
 * Json: the strings we write, and a strict reader of one text in memory.
 *
 * Most strings are plain ASCII with nothing to escape. They are copied eight bytes at a time,
 * in both directions, as long as arithmetic on the whole word finds no byte that needs a look.
 *
 * A string never grows by being read (the shortest escape, two characters, stands for one
 * byte), and its two quotes leave room for the NUL, so the text's own length is room for all
 * strings in it.
 */
#include "proto/json.h"

#include "base/utf8.h"

#include <errno.h>
#include <string.h>

/* ---- Plain text ---- */

/* A byte that stands for itself in JSON and in UTF-8. */
static inline bool is_plain(unsigned char c)
{
	return c >= 0x20 && c < 0x80 && c != '"' && c != '\\';
}

#define EACH_BYTE(c) (UINT64_C(0x0101010101010101) * (c))

/*
 * Nonzero when a byte of @word is below @limit. A subtraction borrows from the byte above only
 * where it has found one, so the answer as to any byte is exact.
 */
static inline uint64_t has_below(uint64_t word, unsigned char limit)
{
	return (word - EACH_BYTE(limit)) & ~word & EACH_BYTE(0x80);
}

static inline bool is_word_plain(uint64_t word)
{
	return !((word & EACH_BYTE(0x80)) | has_below(word, 0x20) |
		 has_below(word ^ EACH_BYTE('"'), 1) | has_below(word ^ EACH_BYTE('\\'), 1));
}

/* Copy what is plain at the start of @from; returns how much. */
static inline size_t copy_plain(char *to, const char *from, size_t length)
{
	size_t done = 0;
	uint64_t word;

	for (; length - done >= sizeof(word); done += sizeof(word)) {
		memcpy(&word, from + done, sizeof(word));
		if (!is_word_plain(word))
			break;
		memcpy(to + done, &word, sizeof(word));
	}
	for (; done < length && is_plain(from[done]); done++)
		to[done] = from[done];
	return done;
}

/* ---- Writing ---- */

/* Escape one unit: a control character, or a byte as a lone surrogate. */
static char *put_escape(char *to, unsigned unit)
{
	static const char digits[] = "0123456789abcdef";

	*to++ = '\\';
	*to++ = 'u';
	for (int shift = 12; shift >= 0; shift -= 4)
		*to++ = digits[unit >> shift & 0xf];
	return to;
}

static char short_escape(char c)
{
	switch (c) {
	case '"':
	case '\\':
		return c;
	case '\b':
		return 'b';
	case '\f':
		return 'f';
	case '\n':
		return 'n';
	case '\r':
		return 'r';
	case '\t':
		return 't';
	default:
		return 0;
	}
}

static char *put_ascii(char *to, char c)
{
	char letter = short_escape(c);

	if (!letter)
		return put_escape(to, c);
	*to++ = '\\';
	*to++ = letter;
	return to;
}

/* Write what stands at *@in and is not plain, and step over it. */
static char *put_special(char *to, const char **in, size_t available)
{
	unsigned char first = **in;
	size_t length = utf8_length(*in, available);

	if (length > 1) {
		memcpy(to, *in, length);
		to += length;
	} else if (length == 1) {
		to = put_ascii(to, first);
	} else {
		to = put_escape(to, 0xdc00 + first);
		length = 1;
	}
	*in += length;
	return to;
}

char *json_put_string(char *to, const char *string, size_t length)
{
	const char *in = string;
	const char *end = string + length;

	*to++ = '"';
	while (in < end) {
		size_t plain = copy_plain(to, in, end - in);

		in += plain;
		to += plain;
		if (in < end)
			to = put_special(to, &in, end - in);
	}
	*to++ = '"';
	return to;
}

/* ---- Reading ---- */

void json_init(struct json *json, const char *text, size_t length, char *storage)
{
	*json = (struct json){ .at = text, .end = text + length, .storage = storage };
}

char json_peek(struct json *json)
{
	while (json->at < json->end) {
		char c = *json->at;

		if (c != ' ' && c != '\t' && c != '\n' && c != '\r')
			return c;
		json->at++;
	}
	return 0;
}

/* Step over the punctuation @c. */
static int expect(struct json *json, char c)
{
	if (json_peek(json) != c)
		return -EBADMSG;
	json->at++;
	return 0;
}

int json_begin_object(struct json *json)
{
	int r = expect(json, '{');

	json->is_first = true;
	return r;
}

int json_next_member(struct json *json, struct json_string *out)
{
	bool is_first = json->is_first;
	int r;

	json->is_first = false;
	if (json_peek(json) == '}') {
		json->at++;
		return 0;
	}
	if (!is_first && expect(json, ',') < 0)
		return -EBADMSG;

	r = json_read_string(json, out);
	if (r < 0)
		return r;
	return expect(json, ':') < 0 ? -EBADMSG : 1;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The four digits after "\u". */
static int read_hex(struct json *json, unsigned *out)
{
	unsigned unit = 0;

	if (json->end - json->at < 4)
		return -EBADMSG;
	for (int i = 0; i < 4; i++) {
		int digit = hex_digit(json->at[i]);

		if (digit < 0)
			return -EBADMSG;
		unit = unit << 4 | digit;
	}
	json->at += 4;
	*out = unit;
	return 0;
}

/* Where the escape of the second half of a pair follows, read it and make *@unit the character. */
static int join_surrogates(struct json *json, unsigned *unit)
{
	const char *start = json->at;
	unsigned second;

	if (json->end - json->at < 2 || json->at[0] != '\\' || json->at[1] != 'u')
		return 0;

	json->at += 2;
	if (read_hex(json, &second) < 0)
		return -EBADMSG;
	if (second >= 0xdc00 && second <= 0xdfff)
		*unit = 0x10000 + ((*unit - 0xd800) << 10) + (second - 0xdc00);
	else
		json->at = start;
	return 0;
}

/* What follows "\u", as bytes to *@to. */
static int read_unicode_escape(struct json *json, char **to)
{
	unsigned unit;

	if (read_hex(json, &unit) < 0)
		return -EBADMSG;
	if (unit >= 0xd800 && unit <= 0xdbff && join_surrogates(json, &unit) < 0)
		return -EBADMSG;

	if (unit >= 0xdc80 && unit <= 0xdcff) {
		*(*to)++ = (char)(unit - 0xdc00);
		return 0;
	}
	if (unit == 0 || (unit >= 0xd800 && unit <= 0xdfff))
		return -EINVAL;
	*to += utf8_encode(unit, *to);
	return 0;
}

/* What follows a backslash, as bytes to *@to. */
static int read_escape(struct json *json, char **to)
{
	static const char letters[] = "\"\\/bfnrt";
	static const char meanings[] = "\"\\/\b\f\n\r\t";
	const char *letter;
	char c;

	if (json->at == json->end)
		return -EBADMSG;

	c = *json->at++;
	if (c == 'u')
		return read_unicode_escape(json, to);
	letter = memchr(letters, c, sizeof(letters) - 1);
	if (!letter)
		return -EBADMSG;
	*(*to)++ = meanings[letter - letters];
	return 0;
}

/* What stands before the closing quote and is not plain, as bytes to *@to. */
static int read_special(struct json *json, char **to)
{
	size_t length;

	if (*json->at == '\\') {
		json->at++;
		return read_escape(json, to);
	}

	length = utf8_length(json->at, json->end - json->at);
	if (length < 2)
		return -EBADMSG;
	memcpy(*to, json->at, length);
	json->at += length;
	*to += length;
	return 0;
}

int json_read_string(struct json *json, struct json_string *out)
{
	char *to = json->storage;

	if (expect(json, '"') < 0)
		return -EBADMSG;

	for (;;) {
		size_t plain = copy_plain(to, json->at, json->end - json->at);
		int r;

		json->at += plain;
		to += plain;
		if (json->at == json->end)
			return -EBADMSG;
		if (*json->at == '"')
			break;
		r = read_special(json, &to);
		if (r < 0)
			return r;
	}
	json->at++;

	*out = (struct json_string){ .data = json->storage, .length = to - json->storage };
	*to++ = '\0';
	json->storage = to;
	return 0;
}

static bool is_digit_next(const struct json *json)
{
	return json->at < json->end && *json->at >= '0' && *json->at <= '9';
}

/* Step over @c where it stands right here. */
static bool accept(struct json *json, char c)
{
	if (json->at == json->end || *json->at != c)
		return false;
	json->at++;
	return true;
}

static int skip_digits(struct json *json)
{
	if (!is_digit_next(json))
		return -EBADMSG;
	while (is_digit_next(json))
		json->at++;
	return 0;
}

static int skip_number(struct json *json)
{
	accept(json, '-');
	if (!accept(json, '0') && skip_digits(json) < 0)
		return -EBADMSG;
	if (accept(json, '.') && skip_digits(json) < 0)
		return -EBADMSG;
	if (accept(json, 'e') || accept(json, 'E')) {
		if (!accept(json, '+'))
			accept(json, '-');
		return skip_digits(json);
	}
	return 0;
}

int json_read_u64(struct json *json, uint64_t *out)
{
	const char *start, *digit;
	uint64_t number = 0;

	json_peek(json);
	start = json->at;
	if (skip_number(json) < 0)
		return -EBADMSG;

	/* A sign, a point and an exponent end the loop early. */
	for (digit = start; digit < json->at && *digit >= '0' && *digit <= '9'; digit++)
		if (__builtin_mul_overflow(number, (uint64_t)10, &number) ||
		    __builtin_add_overflow(number, (uint64_t)(*digit - '0'), &number))
			return -EINVAL;
	if (digit < json->at)
		return -EINVAL;
	*out = number;
	return 0;
}

static int skip_word(struct json *json, const char *word)
{
	size_t length = strlen(word);

	json_peek(json);
	if ((size_t)(json->end - json->at) < length || memcmp(json->at, word, length) != 0)
		return -EBADMSG;
	json->at += length;
	return 0;
}

int json_read_bool(struct json *json, bool *out)
{
	bool is_true = json_peek(json) == 't';

	if (skip_word(json, is_true ? "true" : "false") < 0)
		return -EBADMSG;
	*out = is_true;
	return 0;
}

/* Escapes are JSON whether or not a byte string can hold what they mean. */
static int skip_escape(struct json *json)
{
	char nowhere[UTF8_LENGTH_MAX];
	char *to = nowhere;
	int r = read_escape(json, &to);

	return r == -EINVAL ? 0 : r;
}

static int skip_string(struct json *json)
{
	if (expect(json, '"') < 0)
		return -EBADMSG;

	while (!accept(json, '"')) {
		size_t length;

		if (accept(json, '\\')) {
			if (skip_escape(json) < 0)
				return -EBADMSG;
			continue;
		}
		length = utf8_length(json->at, json->end - json->at);
		if (length == 0 || (unsigned char)*json->at < 0x20)
			return -EBADMSG;
		json->at += length;
	}
	return 0;
}

/* The items of an array, or the members of an object, up to @close. */
static int skip_items(struct json *json, char close, unsigned depth_left)
{
	bool is_object = close == '}';

	json->at++;
	if (json_peek(json) == close) {
		json->at++;
		return 0;
	}
	do {
		int r;

		if (is_object && (skip_string(json) < 0 || expect(json, ':') < 0))
			return -EBADMSG;
		r = json_skip(json, depth_left);
		if (r < 0)
			return r;
	} while (expect(json, ',') == 0);
	return expect(json, close);
}

int json_skip(struct json *json, unsigned depth_max)
{
	char c = json_peek(json);

	switch (c) {
	case '{':
	case '[':
		if (depth_max == 0)
			return -E2BIG;
		return skip_items(json, c == '{' ? '}' : ']', depth_max - 1);
	case '"':
		return skip_string(json);
	case 't':
		return skip_word(json, "true");
	case 'f':
		return skip_word(json, "false");
	case 'n':
		return skip_word(json, "null");
	default:
		return skip_number(json);
	}
}

int json_finish(struct json *json)
{
	json_peek(json);
	return json->at == json->end ? 0 : -EBADMSG;
}
