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
#include <sys/statvfs.h>

static uint64_t wanted_attributes(unsigned long mount_flags, uint64_t now)
{
	uint64_t attributes = now;

	if (mount_flags & (MS_NOATIME | MS_STRICTATIME | MS_RELATIME))
		attributes = mount_flags & MS_NOATIME ? MOUNT_ATTR_NOATIME :
			     mount_flags & MS_STRICTATIME ? MOUNT_ATTR_STRICTATIME : MOUNT_ATTR_RELATIME;
	if (mount_flags & MS_NODIRATIME)
		attributes |= MOUNT_ATTR_NODIRATIME;
	return attributes;
}

static int attributes_of(int fd, uint64_t *out)
{
	struct statvfs numbers;

	if (fstatvfs(fd, &numbers) < 0)
		return -errno;
	*out = numbers.f_flag & ST_NOATIME ? MOUNT_ATTR_NOATIME :
	       numbers.f_flag & ST_RELATIME ? MOUNT_ATTR_RELATIME : MOUNT_ATTR_STRICTATIME;
	if (numbers.f_flag & ST_NODIRATIME)
		*out |= MOUNT_ATTR_NODIRATIME;
	return 0;
}

int atime_apply(int *source_fd, unsigned long mount_flags)
{
	struct mount_attr attr = { .attr_clr = MOUNT_ATTR__ATIME | MOUNT_ATTR_NODIRATIME };
	scoped(closep) int fd = -1;
	uint64_t now = 0;
	int r;

	if (!(mount_flags & (MS_NOATIME | MS_NODIRATIME | MS_STRICTATIME | MS_RELATIME)))
		return 0;
	r = attributes_of(*source_fd, &now);
	if (r < 0)
		return r;
	attr.attr_set = wanted_attributes(mount_flags, now);
	if (attr.attr_set == now)
		return 0;
	fd = open_tree(*source_fd, "", AT_EMPTY_PATH | AT_RECURSIVE | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (fd < 0 || mount_setattr(fd, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof(attr)) < 0)
		return -errno;
	closep(source_fd);
	*source_fd = take_fd(fd);
	return 0;
}
