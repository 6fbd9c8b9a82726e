/* Options: a table of what -o knows, and getopt(3) for the rest. */
#include "daemon/options.h"

#include "base/bytes.h"
#include "base/scope.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/param.h>

enum {
	WORD_MAX = 32,                /* longest word that is compared with the known ones */
	NEAR_MAX = 2,                 /* letters that may differ */
	JOURNAL_SIZE_MIN = 1 << 20,   /* bytes; as eventlog.h has it */
	JOURNAL_SIZE_MAX = 1 << 30,
	LOG_QUOTA_MIN = 8 << 20,      /* the smallest journal, and a database with some events */
	MAX_READ_MIN = 4096,          /* a page: the kernel reads nothing smaller */
	LETTER_REHEARSE = 256,        /* a long option has no letter */
};

const char options_help[] =
	"Usage: mount.hrfs SOURCE DIR [OPTION]...\n"
	"       mount.hrfs DIR [OPTION]...          (in place: over DIR itself)\n"
	"\n"
	"Mount SOURCE at DIR and log every change that is made through the mount.\n"
	"\n"
	"  -o OPTIONS  a list of mount options, separated by commas\n"
	"  -f          stay in the foreground\n"
	"  -d          show each request on stderr; implies -f\n"
	"  -s          serve requests one at a time\n"
	"  -v          say more\n"
	"  -n          accepted: nothing is written to /etc/mtab anyway\n"
	"  -N NS       mount in this mount namespace (a path, or a process id)\n"
	"  -t TYPE     hrfs or fuse.hrfs\n"
	"  -V          the version\n"
	"  -h          this text\n"
	"\n"
	"Mount options, beside remount, ro, nosuid, nodev, noexec, noatime, sync and their opposites:\n"
	"  state=DIR                         the folder of the log\n"
	"  socket=PATH                       where programs connect\n"
	"  subscribers=GROUP                 who may connect beside the owner and root\n"
	"  passthrough=auto|on|off           whether the kernel reads files by itself\n"
	"  transport=auto|classic|io_uring   how requests come from the kernel\n"
	"  scheduling=auto|normal            whether programs run before the daemon\n"
	"  durability=fsync|always|process   when events are on stable storage\n"
	"  scan=auto|full|off                compare the tree with the log first\n"
	"  journal_size=SIZE                 of the journal, 1M to 1G\n"
	"  log-quota=SIZE                    of the log in all, 8M or more\n"
	"  on-log-full=fail|gap              what becomes of changes that cannot be logged\n"
	"  allow_other, allow_root           who may use the mount (run by root: all)\n"
	"  default_permissions               always on\n"
	"  fsname=NAME, subtype=NAME         what the table of mounts shows\n"
	"  max_read=BYTES                    largest read request\n"
	"  auto_unmount                      unmount when mount.hrfs is killed\n"
	"\n"
	"See mount.hrfs(8).\n";

/* ---- Words ---- */

struct word {
	const char *name;
	int value;
};

/* Not for use, so in no manual: a mount that logs nothing measures what the log costs. */
static const struct word logs[] = {
	{ "on", LOG_ON },
	{ "off", LOG_OFF },
	{ 0 },
};

static const struct word transports[] = {
	{ "auto", TRANSPORT_AUTO },
	{ "classic", TRANSPORT_CLASSIC },
	{ "io_uring", TRANSPORT_IO_URING },
	{ 0 },
};

static const struct word schedulings[] = {
	{ "auto", SCHEDULING_AUTO },
	{ "normal", SCHEDULING_NORMAL },
	{ 0 },
};

static const struct word passthroughs[] = {
	{ "auto", FS_AUTO },
	{ "on", FS_ON },
	{ "off", FS_OFF },
	{ 0 },
};

static const struct word durabilities[] = {
	{ "fsync", EVENTLOG_FSYNC },
	{ "always", EVENTLOG_ALWAYS },
	{ "process", EVENTLOG_PROCESS },
	{ 0 },
};

static const struct word on_fulls[] = {
	{ "fail", EVENTLOG_FAIL },
	{ "gap", EVENTLOG_GAP },
	{ 0 },
};

static const struct word scans[] = {
	{ "auto", SCAN_AUTO },
	{ "full", SCAN_FULL },
	{ "off", SCAN_OFF },
	{ 0 },
};

const char *options_durability_name(enum eventlog_durability durability)
{
	for (const struct word *word = durabilities; word->name; word++)
		if (word->value == (int)durability)
			return word->name;
	return NULL;
}

/* ---- Complaints ---- */

__attribute__((format(printf, 2, 3))) static int complain(struct options *options, const char *format, ...)
{
	va_list args;
	int r;

	free(options->complaint);
	va_start(args, format);
	r = vasprintf(&options->complaint, format, args);
	va_end(args);
	if (r < 0) {
		options->complaint = NULL;
		return -ENOMEM;
	}
	return -EINVAL;
}

static void refuse_word(struct options *options, const char *name, const char *value, const struct word *words)
{
	scoped(bytes_finish) struct bytes list = { 0 };

	for (const struct word *word = words; word->name; word++) {
		if (word > words)
			bytes_append_string(&list, word[1].name ? ", " : " or ");
		bytes_append_string(&list, word->name);
	}
	complain(options, "%s=%s: not %.*s", name, value, (int)list.size, list.data);
}

/* ---- The table ---- */

struct option_row;
typedef int (*apply_fn)(struct options *options, const struct option_row *row, const char *value);

/* What may be behind a name. */
enum argument { ARGUMENT_NONE, ARGUMENT_OPTIONAL, ARGUMENT_NEEDED };

struct option_row {
	const char *name;
	enum argument argument;
	apply_fn apply;            /* NULL: mount(8)'s business, nothing for us */
	size_t offset;             /* of the field in struct options */
	long number;               /* mount flags, or the value of a bool */
	const struct word *words;
};

static void *field(struct options *options, const struct option_row *row)
{
	return (char *)options + row->offset;
}

static int apply_set_flags(struct options *options, const struct option_row *row, const char *value)
{
	options->mount_flags |= row->number;
	options->said_flags |= row->number;
	return 0;
}

static int apply_clear_flags(struct options *options, const struct option_row *row, const char *value)
{
	options->mount_flags &= ~row->number;
	options->said_flags |= row->number;
	return 0;
}

/* What an ordinary user may not have, so that it is remembered that it was asked for. */
static int apply_allow(struct options *options, const struct option_row *row, const char *value)
{
	*(bool *)field(options, row) = true;
	return apply_clear_flags(options, row, value);
}

static int apply_forbid(struct options *options, const struct option_row *row, const char *value)
{
	*(bool *)field(options, row) = false;
	return apply_set_flags(options, row, value);
}

static int apply_true(struct options *options, const struct option_row *row, const char *value)
{
	*(bool *)field(options, row) = true;
	return 0;
}

/* What mount(8) repeats from the table of mounts for a remount. */
static int apply_shown(struct options *options, const struct option_row *row, const char *value)
{
	options->shown = row->name;
	return 0;
}

static int apply_string(struct options *options, const struct option_row *row, const char *value)
{
	char **string = field(options, row);

	free(*string);
	*string = strdup(value);
	return *string ? 0 : -ENOMEM;
}

static int apply_word(struct options *options, const struct option_row *row, const char *value)
{
	for (const struct word *word = row->words; word->name; word++) {
		if (strcmp(word->name, value) == 0) {
			*(int *)field(options, row) = word->value;
			return 0;
		}
	}
	refuse_word(options, row->name, value, row->words);
	return options->complaint ? -EINVAL : -ENOMEM;
}

/* A number of bytes: digits, then k, M or G. Returns false when it is none. */
static bool read_size(const char *text, uint64_t *out)
{
	static const char units[] = "kMG";
	const char *unit;
	char *end;
	uint64_t size;

	if (!isdigit((unsigned char)text[0]))
		return false;
	errno = 0;
	size = strtoull(text, &end, 10);
	unit = *end ? strchr(units, *end == 'K' ? 'k' : *end) : NULL;
	/* Far above every limit, and far below what the shift could lose. */
	if (errno || size > INT64_MAX >> 32)
		return false;
	if (unit) {
		size <<= 10 * (unit - units + 1);
		end++;
	}
	*out = size;
	return *end == '\0';
}

static int apply_journal_size(struct options *options, const struct option_row *row, const char *value)
{
	uint64_t size;

	if (!read_size(value, &size) || size < JOURNAL_SIZE_MIN || size > JOURNAL_SIZE_MAX)
		return complain(options, "%s=%s: not a size from 1M to 1G", row->name, value);
	options->journal_size = size;
	return 0;
}

static int apply_log_quota(struct options *options, const struct option_row *row, const char *value)
{
	uint64_t size;

	if (!read_size(value, &size) || size < LOG_QUOTA_MIN)
		return complain(options, "%s=%s: not a size of 8M or more", row->name, value);
	options->log_quota = size;
	return 0;
}

static int apply_max_read(struct options *options, const struct option_row *row, const char *value)
{
	uint64_t size;

	if (!read_size(value, &size) || size > INT_MAX || size < MAX_READ_MIN)
		return complain(options, "%s=%s: not a number of bytes from %d on", row->name, value, MAX_READ_MIN);
	options->max_read = size;
	return 0;
}

#define IGNORED(name, argument)     { name, argument, NULL, 0, 0, NULL }
#define SET(name, flags)            { name, ARGUMENT_NONE, apply_set_flags, 0, flags, NULL }
#define CLEAR(name, flags)          { name, ARGUMENT_NONE, apply_clear_flags, 0, flags, NULL }
#define ALLOW(name, flags, member)  { name, ARGUMENT_NONE, apply_allow, offsetof(struct options, member), flags, NULL }
#define FORBID(name, flags, member) { name, ARGUMENT_NONE, apply_forbid, offsetof(struct options, member), flags, NULL }
#define TRUE(name, member)          { name, ARGUMENT_NONE, apply_true, offsetof(struct options, member), 0, NULL }
#define STRING(name, member)        { name, ARGUMENT_NEEDED, apply_string, offsetof(struct options, member), 0, NULL }
#define WORD(name, member, words)   { name, ARGUMENT_NEEDED, apply_word, offsetof(struct options, member), 0, words }
#define SHOWN(name)                 { name, ARGUMENT_NEEDED, apply_shown, 0, 0, NULL }
#define NUMBER(name, apply)         { name, ARGUMENT_NEEDED, apply, 0, 0, NULL }

/* Each name that -o knows, but x-*. */
static const struct option_row rows[] = {
	/* For mount(8) and what reads fstab. */
	IGNORED("defaults", ARGUMENT_NONE),
	IGNORED("user", ARGUMENT_OPTIONAL),
	IGNORED("users", ARGUMENT_NONE),
	IGNORED("nouser", ARGUMENT_NONE),
	IGNORED("owner", ARGUMENT_NONE),
	IGNORED("group", ARGUMENT_NONE),
	IGNORED("auto", ARGUMENT_NONE),
	IGNORED("noauto", ARGUMENT_NONE),
	IGNORED("_netdev", ARGUMENT_NONE),
	IGNORED("nofail", ARGUMENT_NONE),
	IGNORED("comment", ARGUMENT_OPTIONAL),

	/* Always on. */
	IGNORED("default_permissions", ARGUMENT_NONE),

	TRUE("remount", is_remount),
	SHOWN("user_id"),
	SHOWN("group_id"),
	SHOWN("blksize"),

	SET("ro", MS_RDONLY),
	CLEAR("rw", MS_RDONLY),
	ALLOW("suid", MS_NOSUID, wants_suid),
	FORBID("nosuid", MS_NOSUID, wants_suid),
	ALLOW("dev", MS_NODEV, wants_dev),
	FORBID("nodev", MS_NODEV, wants_dev),
	CLEAR("exec", MS_NOEXEC),
	SET("noexec", MS_NOEXEC),
	CLEAR("atime", MS_NOATIME),
	SET("noatime", MS_NOATIME),
	CLEAR("diratime", MS_NODIRATIME),
	SET("nodiratime", MS_NODIRATIME),
	SET("relatime", MS_RELATIME),
	CLEAR("norelatime", MS_RELATIME),
	SET("strictatime", MS_STRICTATIME),
	CLEAR("nostrictatime", MS_STRICTATIME),
	SET("sync", MS_SYNCHRONOUS),
	CLEAR("async", MS_SYNCHRONOUS),
	SET("dirsync", MS_DIRSYNC),

	TRUE("allow_other", allow_other),
	TRUE("allow_root", allow_root),
	TRUE("auto_unmount", auto_unmount),
	STRING("fsname", fsname),
	STRING("subtype", subtype),
	NUMBER("max_read", apply_max_read),

	STRING("state", state),
	STRING("socket", socket),
	STRING("subscribers", subscribers),
	WORD("passthrough", passthrough, passthroughs),
	WORD("transport", transport, transports),
	WORD("scheduling", scheduling, schedulings),
	WORD("durability", durability, durabilities),
	WORD("scan", scan, scans),
	NUMBER("journal_size", apply_journal_size),
	NUMBER("log-quota", apply_log_quota),
	WORD("on-log-full", on_full, on_fulls),
	WORD("log", log, logs),
};

enum { ROW_COUNT = sizeof(rows) / sizeof(rows[0]) };

static const struct option_row *find_row(const char *name, size_t length)
{
	for (size_t i = 0; i < ROW_COUNT; i++)
		if (strlen(rows[i].name) == length && memcmp(rows[i].name, name, length) == 0)
			return &rows[i];
	return NULL;
}

/* ---- What was meant ---- */

/* Letters to add, leave out or replace; line[j] compares the letters of @a so far with the first j of @b. */
static unsigned distance(const char *a, size_t length, const char *b)
{
	unsigned line[WORD_MAX + 1];
	size_t columns = strlen(b);

	for (size_t j = 0; j <= columns; j++)
		line[j] = j;
	for (size_t i = 0; i < length; i++) {
		unsigned corner = line[0]++;

		for (size_t j = 0; j < columns; j++) {
			unsigned replaced = corner + (a[i] != b[j]);

			corner = line[j + 1];
			line[j + 1] = MIN(replaced, MIN(line[j], corner) + 1);
		}
	}
	return line[columns];
}

static const char *nearest(const char *name, size_t length)
{
	const char *found = NULL;
	unsigned best = NEAR_MAX + 1;

	for (size_t i = 0; i < ROW_COUNT && length <= WORD_MAX; i++) {
		unsigned d = distance(name, length, rows[i].name);

		/* With mistakes in most of its letters anything is near. */
		if (d < best && d * 2 <= length) {
			best = d;
			found = rows[i].name;
		}
	}
	return found;
}

static int refuse_unknown(struct options *options, const char *name, size_t length)
{
	const char *meant = nearest(name, length);

	if (meant)
		return complain(options, "unknown option '%.*s'; is %s meant?", (int)length, name, meant);
	return complain(options, "unknown option '%.*s'", (int)length, name);
}

/* ---- Lists ---- */

/* One element of a list, unescaped. */
static int apply_element(struct options *options, const char *element)
{
	size_t length = strcspn(element, "=");
	const char *value = element[length] ? element + length + 1 : NULL;
	const struct option_row *row = find_row(element, length);

	if (strncmp(element, "x-", 2) == 0)
		return 0;
	if (!row)
		return refuse_unknown(options, element, length);
	if (value && row->argument == ARGUMENT_NONE)
		return complain(options, "option %s takes no value", row->name);
	if (row->argument == ARGUMENT_NEEDED && (!value || !value[0]))
		return complain(options, "option %s needs a value", row->name);
	return row->apply ? row->apply(options, row, value) : 0;
}

/* Copy the element at @list to @out, which has room for all of it, without its backslashes. Returns what follows it. */
static const char *take_element(const char *list, char *out)
{
	while (*list && *list != ',') {
		if (*list == '\\' && list[1])
			list++;
		*out++ = *list++;
	}
	*out = '\0';
	return *list ? list + 1 : list;
}

static int append_text(struct options *options, const char *list)
{
	char *joined;

	if (asprintf(&joined, "%s%s%s", options->text, options->text[0] ? "," : "", list) < 0)
		return -ENOMEM;
	free(options->text);
	options->text = joined;
	return 0;
}

static int apply_list(struct options *options, const char *list)
{
	scoped(freep) char *element = malloc(strlen(list) + 1);
	int r;

	if (!element)
		return -ENOMEM;
	r = append_text(options, list);
	while (r == 0 && *list) {
		list = take_element(list, element);
		if (element[0])
			r = apply_element(options, element);
	}
	return r;
}

unsigned long options_flags(const char *list)
{
	unsigned long flags = 0;

	for (size_t length; *list; list += length + (list[length] == ',')) {
		const struct option_row *row;

		length = strcspn(list, ",");
		row = find_row(list, length);
		if (row && (row->apply == apply_set_flags || row->apply == apply_forbid))
			flags |= row->number;
	}
	return flags;
}

/* ---- The command line ---- */

static int apply_type(struct options *options, const char *type)
{
	if (strcmp(type, "hrfs") == 0 || strcmp(type, "fuse.hrfs") == 0)
		return 0;
	return complain(options, "type '%s' is not hrfs", type);
}

static int replace_string(char **string, const char *value)
{
	free(*string);
	*string = strdup(value);
	return *string ? 0 : -ENOMEM;
}

static int refuse_letter(struct options *options, char **argv)
{
	if (optopt == 0)
		return complain(options, "unknown option '%s'", argv[optind - 1]);
	if (strchr("Nto", optopt))
		return complain(options, "option -%c needs a value", optopt);
	return complain(options, "unknown option '-%c'", optopt);
}

/* Returns OPTIONS_MOUNT to go on. */
static int apply_letter(struct options *options, int letter, char **argv)
{
	switch (letter) {
	case 's':
		options->single_thread = true;
		return 0;
	case 'f':
		options->is_foreground = true;
		return 0;
	case 'n':
		return 0;
	case 'v':
		options->is_verbose = true;
		return 0;
	case 'd':
		options->debug = true;
		options->is_foreground = true;
		return 0;
	case 'N':
		return replace_string(&options->mount_namespace, optarg);
	case 't':
		return apply_type(options, optarg);
	case 'o':
		return apply_list(options, optarg);
	case 'V':
		return OPTIONS_VERSION;
	case 'h':
		return OPTIONS_HELP;
	case LETTER_REHEARSE:
		options->is_rehearsal = true;
		return 0;
	default:
		return refuse_letter(options, argv);
	}
}

static int apply_places(struct options *options, int count, char **places)
{
	if (count == 0)
		return complain(options, "no directory is given; see mount.hrfs -h");
	if (count > 2)
		return complain(options, "'%s' is one argument too many; see mount.hrfs -h", places[2]);
	for (int i = 0; i < count; i++)
		if (places[i][0] == '\0')
			return complain(options, "the name of the %s is empty", i == 0 ? "source" : "directory");
	options->source = strdup(places[0]);
	if (!options->source)
		return -ENOMEM;
	return count == 2 ? replace_string(&options->mount_point, places[1]) : 0;
}

static int check_together(struct options *options)
{
	if (options->allow_other && options->allow_root)
		return complain(options, "allow_other and allow_root exclude each other");
	if (options->shown && !options->is_remount)
		return complain(options, "option %s is only for remount", options->shown);
	if (options->is_remount && !options->mount_point)
		return complain(options, "remount needs the source and the directory, as mount(8) gives them");
	return 0;
}

int options_parse(int argc, char **argv, struct options *options)
{
	static const struct option long_options[] = {
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ "rehearse", no_argument, NULL, LETTER_REHEARSE },
		{ 0 },
	};
	int letter, r = 0;

	options->text = strdup("");
	if (!options->text)
		return -ENOMEM;
	opterr = 0;
	/* 0 makes getopt start anew, which matters to those who call this twice. */
	optind = 0;
	while (r == 0 && (letter = getopt_long(argc, argv, "sfnvdN:t:o:Vh", long_options, NULL)) != -1)
		r = apply_letter(options, letter, argv);
	if (r == 0)
		r = apply_places(options, argc - optind, argv + optind);
	if (r == 0)
		r = check_together(options);
	return r;
}

void options_finish(struct options *options)
{
	free(options->source);
	free(options->mount_point);
	free(options->mount_namespace);
	free(options->state);
	free(options->socket);
	free(options->subscribers);
	free(options->fsname);
	free(options->subtype);
	free(options->text);
	free(options->complaint);
	memset(options, 0, sizeof(*options));
}
