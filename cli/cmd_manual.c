/* hrfs manual: put an event into the log by hand. */
#include "cli/command.h"
#include "cli/place.h"

#include <errno.h>
#include <string.h>

enum { NOTE_MAX = 255 }; /* bytes; what an event has room for */

struct entry {
	const char *path; /* relative to the root */
	const char *note; /* or NULL */
};

static int ask(struct hrfs *hrfs, void *userdata)
{
	const struct entry *entry = userdata;

	return hrfs_manual(hrfs, entry->path, entry->note);
}

/*
 * The path may be gone: what is left of it, up to its first missing component, leads to the
 * mount.
 */
static int put(const char *path, const char *note)
{
	struct place place;
	int r = place_find(path, false, &place);

	if (r == 0 && !place.is_mounted)
		r = -ENOTTY;
	if (r < 0)
		return command_no_mount(path, r);
	return command_ask(place.existing, ask,
			   &(struct entry){ .path = place.within, .note = note });
}

static int run(const struct command *command, int argc, char **argv)
{
	static const struct option options[] = { { "help", no_argument, NULL, 'h' }, { 0 } };
	const char *path, *note;
	int option;

	while ((option = command_option(command, argc, argv, options)) != -1)
		return command_end(command, option);
	if (argc - optind > 2)
		return command_misuse(
			command, "takes a path and a note, but there is also '%s'; quote the note",
			argv[optind + 2]);
	path = optind < argc ? argv[optind] : ".";
	note = optind + 1 < argc ? argv[optind + 1] : NULL;
	if (note && strlen(note) > NOTE_MAX)
		return command_misuse(command, "the note is longer than %d bytes", NOTE_MAX);
	return put(path, note);
}

const struct command command_manual = {
	.name = "manual",
	.summary = "put a mark with a note into the log",
	.help = "Usage: hrfs manual [PATH [NOTE]]\n"
		"\n"
		"Put an event of op 'manual' for PATH into the log: a mark for those who read it, with a\n"
		"NOTE of up to 255 bytes. PATH itself is not changed, and need not exist any more.\n"
		"\n"
		"      --help  this text\n",
	.run = run,
};
