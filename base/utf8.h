/*
 * Utf8: what is a character and what is not (RFC 3629).
 *
 * Names of files are bytes; this tells where they can be shown as text.
 */
#pragma once

#include <stddef.h>

enum { UTF8_LENGTH_MAX = 4 };

/**
 * The length of the character that starts at @data, of which @available bytes may be looked at:
 * 1 to 4, or 0 when there is none: a stray or missing continuation byte, an overlong form, a
 * surrogate, above U+10FFFF, or nothing available.
 */
size_t utf8_length(const void *data, size_t available);

/** Write a code point, which is no surrogate and at most U+10FFFF, to @out. Returns its length. */
size_t utf8_encode(unsigned code_point, char out[UTF8_LENGTH_MAX]);
