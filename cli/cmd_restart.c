/* hrfs restart: have the daemon take over with the installed binary. */
#include "base/log.h"
#include "base/scope.h"
#include "cli/command.h"

#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

enum {
	LOOKS_MAX = 600, /* at how it goes */
	PAUSE_MS = 100,  /* between them */
};

static void decrefp(json_t **value)
{
	json_decref(*value);
}

static int ask(struct hrfs *hrfs, void *userdata)
{
	return hrfs_restart(hrfs);
}

/* Returns 1 when it is over, 0 when it is not, or a negative errno: nobody answers just now. */
static int look(const char *path, int *out_status)
{
	scoped(command_closep) struct hrfs *hrfs = NULL;
	scoped(decrefp) json_t *status = NULL;
	const char *text, *error;
	int r = hrfs_connect(path, &hrfs);

	if (r == 0)
		r = hrfs_status(hrfs, &text);
	if (r < 0)
		return r;
	status = json_loads(text, 0, NULL);
	/* An older daemon says nothing of it. */
	if (json_is_true(json_object_get(status, "on_trial")))
		return 0;
	error = json_string_value(json_object_get(status, "restart_error"));
	if (error)
		log_error("the installed program does not serve: %s; the one before goes on", error);
	*out_status = error ? COMMAND_FAILED : COMMAND_DONE;
	return 1;
}

/* The new program can still fail: it is on trial, and the one before comes back then. */
static int wait_for_verdict(const char *path)
{
	const struct timespec pause = { .tv_nsec = PAUSE_MS * 1000000 };
	int status, r = 0;

	for (unsigned i = 0; i < LOOKS_MAX; i++) {
		r = look(path, &status);
		if (r > 0)
			return status;
		nanosleep(&pause, NULL);
	}
	log_error("no daemon answers after the restart: %s", r < 0 ? strerror(-r) : "it is still on trial");
	return COMMAND_FAILED;
}

static int run(const struct command *command, int argc, char **argv)
{
	static const struct option options[] = { { "help", no_argument, NULL, 'h' }, { 0 } };
	const char *path;
	int option, status;

	while ((option = command_option(command, argc, argv, options)) != -1)
		return command_end(command, option);
	status = command_path(command, argc, argv, &path);
	if (status == COMMAND_DONE)
		status = command_ask(path, ask, NULL);
	return status == COMMAND_DONE ? wait_for_verdict(path) : status;
}

const struct command command_restart = {
	.name = "restart",
	.summary = "have the daemon start again with the installed program, under the live mount",
	.help = "Usage: hrfs restart [PATH]\n"
		"\n"
		"Have the daemon of the mount go on with the program that is installed now. The mount\n"
		"stays where it is, and programs keep their open files. A program that refuses to start,\n"
		"or fails in its first two seconds, leaves the running one in its place: then it is said\n"
		"why, and the exit status is 1.\n"
		"\n"
		"      --help  this text\n",
	.run = run,
};
