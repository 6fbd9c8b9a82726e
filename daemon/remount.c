#include "daemon/remount.h"

#include "base/log.h"
#include "daemon/mounttable.h"
#include "daemon/options.h"

#include <errno.h>
#include <limits.h>
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

/* Not said is as it is. */
static unsigned long difference(unsigned long now, unsigned long wanted)
{
	return wanted & (MS_RELATIME | MS_NOATIME | MS_STRICTATIME) ? now ^ wanted : (now ^ wanted) & ~(MS_STRICTATIME);
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

enum exit_status remount_run(const struct options *options)
{
	unsigned long wanted = options->mount_flags;
	struct mounted mounted;
	enum exit_status status;
	char path[PATH_MAX];

	if (!realpath(options->mount_point, path)) {
		log_error("cannot remount %s: %m", options->mount_point);
		return STATUS_MOUNT_POINT;
	}
	if (mounttable_find(path, &mounted) <= 0 || !mounted.is_fuse) {
		log_error("cannot remount %s: no such mount is there", path);
		return STATUS_MOUNT_POINT;
	}
	status = refuse_change(path, difference(flags_of(&mounted), wanted));
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
