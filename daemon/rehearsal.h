/*
 * Rehearsal: the installed program, run beside the live one, before it is put in its place.
 *
 * It gets what it would get, as handover.h has it, and looks whether it could go on with that: descriptors, options, tables and log.
 * It changes nothing, and exits with 0 or says in one line why not.
 */
#pragma once

#include "daemon/exit.h"

#include <stddef.h>
#include <sys/types.h>

struct handover;
struct setup;

/** A rehearsal that is under way. */
struct rehearsal {
	pid_t pid;     /* 0: none */
	int output_fd; /* owned; what it prints */
};

/** Start it. Returns 0 or a negative errno. Its exit is the caller's to wait for. */
int rehearsal_start(struct rehearsal *rehearsal, const struct setup *setup, const struct handover *handover);

/** It has ended with @wait_status: write to @out why it refuses, and forget it. "": it does not. */
void rehearsal_end(struct rehearsal *rehearsal, int wait_status, char *out, size_t size);

/** The other side: look at everything. Returns STATUS_OK, or another after having said why. */
enum exit_status rehearsal_run(struct setup *setup, const struct handover *handover);
