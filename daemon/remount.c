#include "daemon/remount.h"

#include "base/log.h"
#include "daemon/mountpoint.h"
#include "daemon/mounttable.h"
#include "daemon/options.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

static const unsigned long changeable = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC;

/* What the daemon knows from the beginning. relatime is how it is without an option. */
static const struct {
	unsigned long flag;
	const char *name;
} fixed[] = {
	{ MS_SYNCHRONOUS, "sync" },
	{ MS_DIRSYNC, "dirsync" },
	{ MS_NOATIME, "noatime" },
	{ MS_NODIRATIME, "nodiratime" },
	{ MS_STRICTATIME, "strictatime" },
};

/* The table of mounts has no word for strictatime. */
static unsigned long flags_of(const struct mounted *mounted)
{
	unsigned long flags = options_flags(mounted->options);

	return flags & (MS_RELATIME | MS_NOATIME) ? flags : flags | MS_STRICTATIME;
}

/* What is not said stays as it is. Of the times of access one word decides. */
static unsigned long wanted_flags(const struct options *options, unsigned long now)
{
	const unsigned long kinds = MS_NOATIME | MS_RELATIME | MS_STRICTATIME;
	unsigned long said = options->said_flags;

	if (options->mount_flags & kinds)
		said |= kinds;
	return (now & ~said) | (options->mount_flags & said);
}

unsigned long remount_merge(unsigned long before, unsigned long now)
{
	return (before & ~changeable) | (now & changeable);
}

static enum exit_status refuse_change(const char *path, unsigned long changes)
{
	for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++) {
		if (changes & fixed[i].flag) {
			log_error("%s: option %s cannot change while it is mounted; unmount it first", path, fixed[i].name);
			return STATUS_USAGE;
		}
	}
	return STATUS_OK;
}

static bool is_ours(const struct mounted *mounted, const struct options *options)
{
	char type[MOUNTTABLE_TYPE_SIZE];

	snprintf(type, sizeof(type), "fuse.%s", options->subtype ? options->subtype : "hrfs");
	return strcmp(mounted->type, type) == 0;
}

enum exit_status remount_run(const struct options *options)
{
	enum exit_status status = mountpoint_go(options->mount_namespace);
	unsigned long now, wanted;
	struct mounted mounted;
	char path[PATH_MAX];

	if (status != STATUS_OK)
		return status;
	if (!realpath(options->mount_point, path)) {
		log_error("cannot remount %s: %m", options->mount_point);
		return STATUS_MOUNT_POINT;
	}
	if (mounttable_find(path, &mounted) <= 0 || !is_ours(&mounted, options)) {
		log_error("cannot remount %s: hrfs is not mounted there", path);
		return STATUS_MOUNT_POINT;
	}
	now = flags_of(&mounted);
	wanted = wanted_flags(options, now);
	status = refuse_change(path, now ^ wanted);
	if (status != STATUS_OK)
		return status;
	if (mount(NULL, path, NULL, MS_REMOUNT | wanted, NULL) == 0)
		return STATUS_OK;
	if (errno == EBUSY)
		log_error("cannot remount %s: a file is open for writing", path);
	else
		log_error("cannot remount %s: %m", path);
	return errno == EPERM ? STATUS_PERMISSION : STATUS_MOUNT;
}
