/* Command: what the commands of hrfs have in common. */
#include "cli/command.h"

#include "base/log.h"
#include "base/scope.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- Options ---- */

int command_misuse(const struct command *command, const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	log_error("%s: %s (see: hrfs %s --help)", command->name, text, command->name);
	return COMMAND_MISUSED;
}

static const struct option *option_of(const struct option *options, int val)
{
	for (; options->name; options++)
		if (options->val == val)
			return options;
	return NULL;
}

/*
 * What getopt_long() did not like: a known option with a value it does not take, or one it does
 * not know.
 */
static void complain(const struct command *command, char **argv, const struct option *options)
{
	const struct option *option = optopt ? option_of(options, optopt) : NULL;

	if (option)
		command_misuse(command, "option --%s takes no value", option->name);
	else if (optopt)
		command_misuse(command, "unknown option -%c", optopt);
	else
		command_misuse(command, "unknown option %s", argv[optind - 1]);
}

int command_option(const struct command *command, int argc, char **argv,
		   const struct option *options)
{
	int option = getopt_long(argc, argv, ":h", options, NULL);

	if (option == ':') {
		command_misuse(command, "option %s needs a value", argv[optind - 1]);
		return '?';
	}
	if (option == '?')
		complain(command, argv, options);
	return option;
}

int command_end(const struct command *command, int option)
{
	if (option != 'h')
		return COMMAND_MISUSED;
	fputs(command->help, stdout);
	return fflush(stdout) == 0 ? COMMAND_DONE : command_written(-errno);
}

int command_path(const struct command *command, int argc, char **argv, const char **out_path)
{
	if (argc - optind > 1)
		return command_misuse(command, "takes one path, but there is also '%s'",
				      argv[optind + 1]);
	*out_path = optind < argc ? argv[optind] : ".";
	return COMMAND_DONE;
}

/* ---- Failures ---- */

/*
 * Who entered a directory before a mount was made over it, or over one above, stays below the
 * mount. The same path from the root leads into it.
 */
static bool is_below_mount(const char *path)
{
	char whole[PATH_MAX], socket_path[4096];
	size_t length;

	if (path[0] == '/' || !getcwd(whole, sizeof(whole)))
		return false;
	length = strlen(whole);
	if (snprintf(whole + length, sizeof(whole) - length, "/%s", path) >= sizeof(whole) - length)
		return false;
	return hrfs_find_socket(whole, socket_path, sizeof(socket_path)) == 0;
}

int command_no_mount(const char *path, int error)
{
	switch (error) {
	case -ENOTTY:
		if (is_below_mount(path)) {
			log_error("%s: a mount lies over this directory, which was entered before; "
				  "go there again with: cd \"$PWD\"",
				  path);
			break;
		}
		log_error("%s is not inside an hrfs mount; make one with: "
			  "mount.hrfs SOURCE MOUNTPOINT",
			  path);
		break;
	case -ENOTCONN:
	case -ECONNABORTED:
		log_error("%s: the daemon of this mount has died; unmount it with: umount -l, "
			  "and mount it again",
			  path);
		break;
	default:
		log_error("%s: %s", path, strerror(-error));
	}
	return COMMAND_FAILED;
}

static void tell_no_connection(const char *path, const char *socket_path, int error)
{
	switch (error) {
	case -EACCES:
	case -EPERM:
		log_error("%s: not allowed to connect to %s; its owner, the group of its subscribers "
			  "and root are",
			  path, socket_path);
		break;
	case -ENOENT:
	case -ECONNREFUSED:
		log_error("%s: no daemon listens at %s", path, socket_path);
		break;
	default:
		log_error("%s: cannot connect to %s: %s", path, socket_path, strerror(-error));
	}
}

int command_connect(const char *path, struct hrfs **out)
{
	char socket_path[4096];
	int r;

	r = hrfs_find_socket(path, socket_path, sizeof(socket_path));
	if (r < 0) {
		command_no_mount(path, r);
		return r;
	}
	r = hrfs_connect_socket(socket_path, out);
	if (r < 0)
		tell_no_connection(path, socket_path, r);
	return r;
}

int command_no_answer(const struct hrfs *hrfs, const char *path, int error)
{
	switch (error) {
	case -EREMOTEIO:
		log_error("%s: the daemon refuses: %s", path, hrfs_error(hrfs));
		break;
	case -EPIPE:
		log_error("%s: the daemon closed the connection without an answer; try again",
			  path);
		break;
	case -ETIMEDOUT:
		log_error("%s: the daemon does not answer", path);
		break;
	case -EBADMSG:
	case -EMSGSIZE:
		log_error("%s: the daemon's answer makes no sense; is it of another version?",
			  path);
		break;
	default:
		log_error("%s: %s", path, strerror(-error));
	}
	return COMMAND_FAILED;
}

int command_ask(const char *path, int (*ask)(struct hrfs *hrfs, void *userdata), void *userdata)
{
	scoped(command_closep) struct hrfs *hrfs = NULL;
	int r;

	if (command_connect(path, &hrfs) < 0)
		return COMMAND_FAILED;
	r = ask(hrfs, userdata);
	return r < 0 ? command_no_answer(hrfs, path, r) : COMMAND_DONE;
}

int command_written(int result)
{
	if (result == 0 || result == -EPIPE)
		return COMMAND_DONE;
	log_error("cannot write: %s", strerror(-result));
	return COMMAND_FAILED;
}
