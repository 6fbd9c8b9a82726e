/*
 * Handover: what one program leaves to the next that is put into its process with execve(2), under a live mount.
 *
 * Descriptors and numbers go through the environment, options and paths through the command line, all of them resolved: the
 * new program must not look at the tree, which nobody serves in that moment.
 */
#pragma once

#include "daemon/control.h"

struct setup;

struct handover {
	int fuse_fd;
	int tables_fd;
	int watch_fd;      /* -1: none */
	int previous_fd;   /* the program before, O_PATH, for as long as one may have to go back to it; -1: none */
	int guard_fd;      /* see guard.h; -1: none */
	unsigned restarts; /* workers so far */
	char failure[CONTROL_TEXT_SIZE]; /* why the program in between gave up, a sentence without its full stop; "": there was none */
};

/** Remember which program this is, while it is there. Once, at the start, before handover_receive(). Returns 0 or a negative errno. */
int handover_init(void);

/** This program's file, O_PATH, which a program after it may go back to; borrowed. Who closes descriptors leaves it alone. */
int handover_program_fd(void);

/** In a forked process, see rehearsal.h: run the installed program as one that only looks. Returns only when that fails, with a negative errno. */
int handover_exec_rehearsal(const struct setup *setup, const struct handover *handover);

/** Put the installed program into this process. Returns only when that fails, with a negative errno; everything is as before. */
int handover_exec(const struct setup *setup, struct handover *handover);

/** Put the program before, handover->previous_fd, back. Returns only when that fails, with a negative errno. */
int handover_return(const struct setup *setup, struct handover *handover);

/**
 * What the program before left: completes @setup, which has its options. Takes it out of the environment. Returns 1, 0 when there is nothing,
 * -EPROTO (the program before is of another version), or another negative errno.
 */
int handover_receive(struct setup *setup, struct handover *out);
