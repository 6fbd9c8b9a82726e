/* Atime: reads through the mount set the source's times of access as the mount's options say. */
#pragma once

/**
 * Put in place of @source_fd, an O_PATH descriptor of a directory, one of the same directory on a mount of its own, which no path leads to,
 * with the times of access as @mount_flags (MS_NOATIME and its like, of mount(2)) want them. Mounts below it come along, and are held until the
 * last descriptor is closed; later ones do not. Where times are kept like that already nothing is done. Returns 0 or a negative errno
 * (-EPERM: it takes CAP_SYS_ADMIN), with @source_fd as it was.
 */
int atime_apply(int *source_fd, unsigned long mount_flags);
