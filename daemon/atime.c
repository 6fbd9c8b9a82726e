/*
 * Atime: reads through the mount set the source's times of access as the mount's options say.
 *
 * The kernel leaves the time of access to a FUSE daemon, and its own reads in passthrough set that of the file behind. What both obey is the mount
 * that the daemon's descriptors are of, see open_tree(2) and mount_setattr(2).
 */
#include "daemon/atime.h"

#include "base/fdutil.h"
#include "base/scope.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/mount.h>

static void choose(struct mount_attr *attr, unsigned long mount_flags)
{
	if (mount_flags & (MS_NOATIME | MS_STRICTATIME | MS_RELATIME | MS_RDONLY))
		attr->attr_clr = MOUNT_ATTR__ATIME;
	/* A mount that takes no changes sets no time of access either. */
	if (mount_flags & (MS_NOATIME | MS_RDONLY))
		attr->attr_set = MOUNT_ATTR_NOATIME;
	else if (mount_flags & MS_STRICTATIME)
		attr->attr_set = MOUNT_ATTR_STRICTATIME;
	if (mount_flags & MS_NODIRATIME)
		attr->attr_set |= MOUNT_ATTR_NODIRATIME;
}

int atime_apply(int *source_fd, unsigned long mount_flags)
{
	struct mount_attr attr = { 0 };
	scoped(closep) int fd = -1;

	choose(&attr, mount_flags);
	if (attr.attr_clr == 0 && attr.attr_set == 0)
		return 0;
	fd = open_tree(*source_fd, "", AT_EMPTY_PATH | AT_RECURSIVE | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (fd < 0 || mount_setattr(fd, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof(attr)) < 0)
		return mount_flags & (MS_NOATIME | MS_NODIRATIME | MS_STRICTATIME) ? -errno : 0;
	closep(source_fd);
	*source_fd = take_fd(fd);
	return 0;
}
