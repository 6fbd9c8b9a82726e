/*
 * Kernel: the FUSE protocol as the kernel's header has it, and what older copies of that header lack.
 *
 * Values from include/uapi/linux/fuse.h of Linux 6.9 (protocol 7.40).
 */
#pragma once

#include <linux/fuse.h>
#include <stdint.h>
#include <sys/ioctl.h>

/* An id for a backing file, for FOPEN_PASSTHROUGH. */
#ifndef FUSE_DEV_IOC_BACKING_OPEN
struct fuse_backing_map {
	int32_t fd;
	uint32_t flags;
	uint64_t padding;
};
#define FUSE_DEV_IOC_BACKING_OPEN _IOW(FUSE_DEV_IOC_MAGIC, 1, struct fuse_backing_map)
#define FUSE_DEV_IOC_BACKING_CLOSE _IOW(FUSE_DEV_IOC_MAGIC, 2, uint32_t)
#endif

/* Ask for all unanswered requests once more; they come back with this bit in their unique id. */
#ifndef FUSE_UNIQUE_RESEND
#define FUSE_UNIQUE_RESEND (1ULL << 63)
#endif
enum { KERNEL_NOTIFY_RESEND = 7 };

/* Opcodes after those that every kernel header has. */
enum {
	KERNEL_SYNCFS = 50,
	KERNEL_TMPFILE = 51,
	KERNEL_STATX = 52,
};
