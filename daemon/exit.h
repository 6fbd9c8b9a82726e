/*
 * Exit: how mount.hrfs ends, as mount.hrfs(8) lists it.
 *
 * mount(8) passes the number on. 0, 1, 2 and 32 mean what they mean there; 3 to 9 are ours.
 */
#pragma once

enum exit_status {
	STATUS_OK = 0,
	STATUS_USAGE = 1,       /* wrong arguments, an unknown option or a bad value */
	STATUS_SYSTEM = 2,      /* no memory, no process, or a mount that had to be ended */
	STATUS_SOURCE = 3,      /* the source is missing or no directory */
	STATUS_MOUNT_POINT = 4, /* the mount point is missing, no directory, or inside the source */
	STATUS_BUSY = 5,        /* another mount uses this state folder or socket */
	STATUS_STATE = 6,       /* the state folder or the socket cannot be made or written, or is inside the tree */
	STATUS_LOG = 7,         /* the log is damaged, full, or of another version */
	STATUS_FUSE = 8,        /* the kernel's side is missing: /dev/fuse, fusermount3, io_uring, passthrough */
	STATUS_PERMISSION = 9,  /* not allowed to this user */
	STATUS_MOUNT = 32,      /* mounting failed for another reason */

	/* Only between worker and supervisor. */
	STATUS_CANNOT_ADOPT = 100, /* the tables of the worker before cannot be used: mount afresh */
};
