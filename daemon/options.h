/*
 * Options: what the command line of mount.hrfs says.
 *
 * Nothing is looked up or opened here, so an answer depends on the arguments alone. The grammar is mount(8)'s:
 * -o takes a list separated by commas; a backslash takes the special meaning from the next character.
 */
#pragma once

#include "eventlog/eventlog.h"
#include "eventlog/scan.h"
#include "fusefs/fs.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum options_log { LOG_ON, LOG_OFF };

enum options_scheduling { SCHEDULING_AUTO, SCHEDULING_NORMAL };

enum options_transport { TRANSPORT_AUTO, TRANSPORT_CLASSIC, TRANSPORT_IO_URING };

/** Strings are owned. Start with a zeroed struct; options_finish() frees it. */
struct options {
	char *source;         /* as given */
	char *mount_point;    /* as given; NULL: in place */
	char *mount_namespace; /* -N: a path, or a process id; NULL: ours */
	char *state;          /* NULL: the default */
	char *socket;         /* NULL: the default */
	char *subscribers;    /* a group, by name or number; NULL: none */
	char *fsname;         /* NULL: the source's path */
	char *subtype;        /* NULL: "hrfs" */
	char *text;           /* the lists of all -o, as given; "" without */

	unsigned long mount_flags; /* MS_RDONLY and its like, of mount(2) */
	unsigned long said_flags;  /* those that were said, for or against */
	bool wants_suid;           /* -o suid was said aloud */
	bool wants_dev;            /* -o dev */

	bool is_remount;           /* -o remount: change mount_flags of a live mount */
	const char *shown;         /* the last of the options that only the table of mounts has, as given; NULL: none */

	bool is_foreground; /* -f, -d */
	bool is_verbose;    /* -v */
	bool debug;         /* -d */
	bool single_thread; /* -s */
	bool is_rehearsal;  /* --rehearse, which is not for people: see rehearsal.h */

	bool allow_other;
	bool allow_root;
	bool auto_unmount;
	unsigned max_read; /* bytes; 0: the kernel's own limit */

	enum options_transport transport;
	enum options_scheduling scheduling;
	enum fs_choice passthrough;
	enum eventlog_durability durability;
	enum scan_mode scan;
	enum options_log log; /* no help tells of it: to measure what the log costs */
	size_t journal_size; /* bytes; 0: the log's default */
	enum eventlog_on_full on_full;
	uint64_t log_quota;  /* bytes; 0: none */

	char *complaint; /* after -EINVAL: what is wrong, a sentence without its full stop */
};

/** What the command line asks for. */
enum { OPTIONS_MOUNT = 0, OPTIONS_HELP = 1, OPTIONS_VERSION = 2 };

/**
 * Read the command line into @options. Returns one of the above, -EINVAL with options->complaint, or -ENOMEM. In every case
 * options_finish() has something to free.
 */
int options_parse(int argc, char **argv, struct options *options);

/** The flags of mount(2) that @list, as the table of mounts has it, sets. Words without one are nothing. */
unsigned long options_flags(const char *list);

/** Free the strings. A zeroed struct is fine. */
void options_finish(struct options *options);

/** "auto", "classic", "fsync" and so on, as they are given to -o. Static. */
const char *options_durability_name(enum eventlog_durability durability);

/** The text for -h. Static. */
extern const char options_help[];
