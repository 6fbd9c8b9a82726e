/* hrfs sync: wait until everything before the call is in the store. */
#include "cli/command.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

static int ask(struct hrfs *hrfs, void *userdata)
{
	return hrfs_sync(hrfs, userdata);
}

static int run(const struct command *command, int argc, char **argv)
{
	static const struct option options[] = { { "help", no_argument, NULL, 'h' }, { 0 } };
	const char *path;
	uint64_t seq;
	int option, status;

	while ((option = command_option(command, argc, argv, options)) != -1)
		return command_end(command, option);
	status = command_path(command, argc, argv, &path);
	if (status == COMMAND_DONE)
		status = command_ask(path, ask, &seq);
	if (status != COMMAND_DONE)
		return status;
	if (printf("%" PRIu64 "\n", seq) < 0 || fflush(stdout) != 0)
		return command_written(-errno);
	return COMMAND_DONE;
}

const struct command command_sync = {
	.name = "sync",
	.summary = "wait until all changes so far are in the log, print the last one's number",
	.help = "Usage: hrfs sync [PATH]\n"
		"\n"
		"Wait until every change that was made before the call is in the log, where 'hrfs log'\n"
		"and other programs see it, and print the sequence number up to which that is so.\n"
		"\n"
		"      --help  this text\n",
	.run = run,
};
