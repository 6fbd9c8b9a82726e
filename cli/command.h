/*
 * Command: what the commands of hrfs have in common.
 *
 * A command reads its own options through command_option(), which answers --help and what is
 * wrong, and takes one path, which is "." when it is left out. Whoever finds out that something
 * is wrong says so, in one line on stderr, and returns the exit status.
 */
#pragma once

#include "client/hrfs.h"

#include <getopt.h>

/** Exit statuses. */
enum {
	COMMAND_DONE = 0,
	COMMAND_FAILED = 1,
	COMMAND_MISUSED = 2,
	COMMAND_INTERRUPTED = 130, /* 128 + SIGINT, as a shell has it */
};

/**
 * The first val of a command's own options. None is a letter: getopt_long() tells of a letter that
 * it does not know, and of a long option, by the same number.
 */
enum { COMMAND_OPTION = 256 };

struct command {
	const char *name;
	const char *summary; /* for the list of commands */
	const char *help;    /* whole text for --help */
	int (*run)(const struct command *command, int argc, char **argv);
};

extern const struct command command_log, command_manual, command_restart, command_status,
	command_sync, command_tail;

/** Cleanup for a connection; NULL is nothing. */
static inline void command_closep(struct hrfs **hrfs)
{
	hrfs_close(*hrfs);
}

/**
 * The next option: its val, or -1 behind the last. 'h' and '?' are not the command's: it returns
 * command_end() of them. All options are long, but for -h.
 */
int command_option(const struct command *command, int argc, char **argv,
		   const struct option *options);

/**
 * Print the help for 'h'; for '?', command_option() has said what is wrong. Returns the exit
 * status.
 */
int command_end(const struct command *command, int option);

/** Complain, printf-like, and point to --help. Returns COMMAND_MISUSED. */
int command_misuse(const struct command *command, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/**
 * The only operand left, or "." into *@out_path (borrowed). Returns COMMAND_DONE, or
 * COMMAND_MISUSED when there are more.
 */
int command_path(const struct command *command, int argc, char **argv, const char **out_path);

/**
 * Connect to the server of @path. Returns 0, or a negative errno, which it has told about. The
 * caller owns *@out.
 */
int command_connect(const char *path, struct hrfs **out);

/**
 * Tell why @path leads to no mount, or to no log: @error is a negative errno. Returns
 * COMMAND_FAILED.
 */
int command_no_mount(const char *path, int error);

/** Tell why a request failed: @error is a negative errno. Returns COMMAND_FAILED. */
int command_no_answer(const struct hrfs *hrfs, const char *path, int error);

/**
 * Connect to the server of @path, and let @ask talk to it; the answer of that, a negative errno,
 * is told about. Returns the exit status.
 */
int command_ask(const char *path, int (*ask)(struct hrfs *hrfs, void *userdata), void *userdata);

/**
 * The end of a command that has written to stdout; @result as from output_flush(): a reader that
 * has gone is no failure.
 */
int command_written(int result);
