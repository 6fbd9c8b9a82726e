/* hrfs restart: have the daemon take over with the installed binary. */
#include "cli/command.h"

static int ask(struct hrfs *hrfs, void *userdata)
{
	return hrfs_restart(hrfs);
}

static int run(const struct command *command, int argc, char **argv)
{
	static const struct option options[] = { { "help", no_argument, NULL, 'h' }, { 0 } };
	const char *path;
	int option, status;

	while ((option = command_option(command, argc, argv, options)) != -1)
		return command_end(command, option);
	status = command_path(command, argc, argv, &path);
	return status == COMMAND_DONE ? command_ask(path, ask, NULL) : status;
}

const struct command command_restart = {
	.name = "restart",
	.summary = "have the daemon start again with the installed program, under the live mount",
	.help = "Usage: hrfs restart [PATH]\n"
		"\n"
		"Ask the daemon of the mount to start again with the program that is installed now. The\n"
		"mount stays where it is. The answer means that the daemon has begun to do so.\n"
		"\n"
		"      --help  this text\n",
	.run = run,
};
