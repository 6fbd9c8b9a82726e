/*
 * Fdutil: whole reads and writes, and small facts about descriptors.
 *
 * All functions restart on EINTR and return a negative errno on failure.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/** Write all @size bytes to @fd. Returns 0 or a negative errno. */
int fd_write_all(int fd, const void *data, size_t size);

/** Read until @size bytes or end of file. Returns the bytes read or a negative errno. */
ssize_t fd_read_all(int fd, void *data, size_t size);

/** Add or remove O_NONBLOCK. Returns 0 or a negative errno. */
int fd_set_nonblocking(int fd, bool on);

/** Add or remove FD_CLOEXEC. Returns 0 or a negative errno. */
int fd_set_cloexec(int fd, bool on);

/**
 * Take the numbers of standard input, output and error where they are closed, so that nothing else
 * that is opened gets them: it would be written to. What is taken cannot be written to, EBADF as
 * before. Returns 0 or a negative errno.
 */
int fd_reserve_stdio(void);

/**
 * Open the regular file @name in @dir_fd with @flags, with mode 0600 when it is made. Neither a link nor a file that has another name as
 * well: what is written is nobody else's. Returns a descriptor, -ELOOP, -EINVAL (no regular file), -EMLINK, or another negative errno.
 */
int fd_open_own(int dir_fd, const char *name, int flags);
