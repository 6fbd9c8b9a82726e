/*
 * Handover: what one program leaves to the next that is put into its process with execve(2), under a live mount.
 *
 * Descriptors and numbers go through the environment, options and paths through the command line, all of them resolved: the
 * new program must not look at the tree, which nobody serves in that moment.
 */
#pragma once

#include <stdbool.h>

struct setup;

struct handover {
	int fuse_fd;
	int tables_fd;
	int watch_fd;      /* -1: none */
	unsigned restarts; /* workers so far */
};

/** Remember which program this is, while it is there. Once, at the start. Returns 0 or a negative errno. */
int handover_init(void);

/**
 * Try the program that is installed now: whether it starts at all. Waits for it a few seconds. Returns 0 or a negative errno.
 */
int handover_try(void);

/** Put the installed program into this process. Returns only when that fails, with a negative errno; everything is as before. */
int handover_exec(const struct setup *setup, const struct handover *handover);

/**
 * What the program before left: completes @setup, which has its options. Takes it out of the environment. Returns 1, 0 when there is nothing, or
 * a negative errno.
 */
int handover_receive(struct setup *setup, struct handover *out);
