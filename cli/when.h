/*
 * When: moments as people type them.
 *
 *     2026-11-22T19:40:01.123456789Z      RFC 3339; also with +01:00, and with a blank for the T
 *     2026-11-22T19:40:01                 local time; seconds and their fraction may be left out
 *     2026-11-22                          local midnight
 *     19:40, 19:40:01.5                   today
 *     now, today, yesterday               the latter two at local midnight
 *     10min ago, 1h 30min ago, 2 days ago s, m or min, h, d, w, and long names; a day is 24 hours
 */
#pragma once

#include <stdint.h>

/**
 * Read @text at the moment @now_ns. Times are nanoseconds since 1970, UTC. Returns 0, or -EINVAL
 * when it is none of the above.
 */
int when_parse(const char *text, int64_t now_ns, int64_t *out_ns);

/** The moment now. */
int64_t when_now(void);
