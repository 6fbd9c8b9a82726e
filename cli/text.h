/*
 * Text: bytes that somebody else chose, made fit for a terminal.
 *
 * A file may be called anything. Control characters, what reorders or hides other characters
 * (bidirectional and zero-width ones), bytes that are no UTF-8 and the backslash are written as
 * escapes: \n \t \r \\, else \xNN for each byte. The result is one line, cannot steer the
 * terminal, and printf '%b' turns it back.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct bytes;

/** Whether the terminal takes UTF-8, as the locale says. After setlocale(). */
bool text_is_utf8(void);

/**
 * Append @length bytes of @text, made fit. Without @utf8 everything beyond ASCII is escaped.
 * Returns the columns that it takes on the terminal.
 */
size_t text_append(struct bytes *out, const char *text, size_t length, bool utf8);

/** The columns that text_append() would return. */
size_t text_width(const char *text, size_t length, bool utf8);
