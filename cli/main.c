/* Main: hrfs, a table of commands. Any path inside a mount names the mount. */
#include "base/fdutil.h"
#include "base/log.h"
#include "cli/command.h"
#include "cli/suggest.h"

#include <errno.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static const struct command *const commands[] = {
	&command_tail, &command_log,    &command_status,
	&command_sync, &command_manual, &command_restart,
};

enum { COMMAND_COUNT = sizeof(commands) / sizeof(commands[0]) };

static int print_help(void)
{
	puts("Usage: hrfs COMMAND [OPTION]... [PATH]\n"
	     "\n"
	     "Follow and read the changes of a tree that is mounted through mount.hrfs(8).\n"
	     "Any PATH inside the mount names it; without one it is the current directory.\n");
	for (size_t i = 0; i < COMMAND_COUNT; i++)
		printf("  %-10s %s\n", commands[i]->name, commands[i]->summary);
	puts("\n"
	     "  hrfs COMMAND --help   what a command does, and its options\n"
	     "  hrfs --version        the version\n"
	     "\n"
	     "The manual is in hrfs(1).");
	return fflush(stdout) == 0 ? COMMAND_DONE : command_written(-errno);
}

static int print_version(void)
{
	puts("hrfs " HRFS_VERSION);
	return fflush(stdout) == 0 ? COMMAND_DONE : command_written(-errno);
}

static const struct command *find_command(const char *name)
{
	for (size_t i = 0; i < COMMAND_COUNT; i++)
		if (strcmp(commands[i]->name, name) == 0)
			return commands[i];
	return NULL;
}

static int refuse(const char *name)
{
	const char *names[COMMAND_COUNT];
	const char *nearest;

	for (size_t i = 0; i < COMMAND_COUNT; i++)
		names[i] = commands[i]->name;
	nearest = suggest_nearest(name, names, COMMAND_COUNT);
	if (nearest)
		log_error("there is no command '%s'; did you mean '%s'? (see: hrfs --help)", name,
			  nearest);
	else
		log_error("there is no %s '%s' (see: hrfs --help)",
			  name[0] == '-' ? "option" : "command", name);
	return COMMAND_MISUSED;
}

static int is_one_of(const char *word, const char *first, const char *second, const char *third)
{
	return strcmp(word, first) == 0 || strcmp(word, second) == 0 || strcmp(word, third) == 0;
}

/* "hrfs help log" is "hrfs log --help". */
static int help(int argc, char **argv)
{
	const struct command *command;

	if (argc < 3)
		return print_help();
	command = find_command(argv[2]);
	return command ? command_end(command, 'h') : refuse(argv[2]);
}

int main(int argc, char **argv)
{
	const struct command *command;

	/* It fails where there is no /dev/null, which is nothing to refuse for. */
	(void)fd_reserve_stdio();
	setlocale(LC_CTYPE, "");
	log_init("hrfs", LOG_INFO);
	/* A reader that has gone is told by EPIPE, whatever we inherited. */
	signal(SIGPIPE, SIG_IGN);

	if (argc < 2) {
		log_error("which command? (see: hrfs --help)");
		return COMMAND_MISUSED;
	}
	if (is_one_of(argv[1], "help", "--help", "-h"))
		return help(argc, argv);
	if (is_one_of(argv[1], "version", "--version", "-V"))
		return print_version();
	command = find_command(argv[1]);
	return command ? command->run(command, argc - 1, argv + 1) : refuse(argv[1]);
}
