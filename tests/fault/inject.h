/*
 * Inject: the n-th call of a kind fails, counted over all threads and, in a library that is preloaded, over a
 * daemon's processes.
 *
 * A call can also be the process's last one, or be late. A test program links it; into mount.hrfs it comes through LD_PRELOAD, with HRFS_FAULT=KIND:N, or KIND:N+ when every call
 * from the n-th on fails. Calls on what is no regular file (sockets, eventfd, /dev/fuse) are left alone.
 */
#pragma once

#include <stdbool.h>

enum inject_kind {
	INJECT_NONE,
	INJECT_MEMORY, /* malloc, calloc, realloc: ENOMEM */
	INJECT_WRITE,  /* write, pwrite: EIO for an odd n, else ENOSPC */
	INJECT_SYNC,   /* fsync, fdatasync, msync: EIO */
	INJECT_GROW,   /* mmap: ENOMEM; ftruncate, fallocate, posix_fallocate: ENOSPC */
	INJECT_SQLITE, /* sqlite3_step, sqlite3_exec: SQLITE_IOERR for an odd n, else SQLITE_FULL */
	INJECT_LINK,   /* linkat of a descriptor alone: ENOENT, as before Linux 6.10 without CAP_DAC_READ_SEARCH */
	INJECT_MADE,   /* openat with O_EXCL and a mode that lets nobody write: it makes the file, and the process is killed */
	INJECT_SHORT,  /* an answer (writev) after a pwrite that was cut short: the process is killed before it */
	INJECT_LATE,   /* ftruncate: returns 50 ms after it was done */
	INJECT_KINDS,
};

/** "memory" and so on. Static. */
const char *inject_name(enum inject_kind kind);

/** From now on count calls of @kind from 1, and fail call @n, with @goes_on also those after it. */
void inject_arm(enum inject_kind kind, unsigned long n, bool goes_on);

/** Nothing fails any more. Returns whether something has. */
bool inject_disarm(void);
