/*
 * Cursor: reads the log in order, from the journal's ring while an event is there, else from the
 * store.
 *
 * The rest of its functions are in eventlog.h.
 */
#pragma once

#include <stdint.h>

struct drain;
struct eventlog_cursor;
struct journal;

/**
 * Make a cursor that stands before event @seq. @journal, @drain and @state_path are borrowed for
 * its life. Returns 0 or -ENOMEM.
 */
int cursor_create(const struct journal *journal, struct drain *drain, const char *state_path,
		  uint64_t seq, struct eventlog_cursor **out);
