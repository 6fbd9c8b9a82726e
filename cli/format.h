/*
 * Format: an event as a line for people.
 *
 *         12  19:40:01.123  write        src/a.c               +120 @0 = 120           vim[4242]
 *        seq  local time    op           path                  what                    who
 *
 * Columns are as wide as is usual; what is longer pushes the rest of its own line to the right.
 * Nothing in an event can steer the terminal, see text.h.
 */
#pragma once

#include <stdbool.h>

struct bytes;
struct hrfs_event;

struct format {
	bool color;
	bool utf8;      /* the terminal takes UTF-8 */
	bool with_date; /* in front of the time */
};

/** Append the line of @event, newline included. */
void format_event(struct bytes *out, const struct format *format, const struct hrfs_event *event);
