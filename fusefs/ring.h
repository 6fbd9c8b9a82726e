/*
 * Ring: io_uring_submit_and_wait(3) as two system calls, for the threads of libfuse that answer requests over io_uring.
 *
 * The names are the linker's (ld(1), --wrap). Who links ring_dep gets it; nobody calls it.
 */
#pragma once

#include <liburing.h>

/** As io_uring_submit_and_wait(3), on any thread: what is in the submission queue goes to the kernel before anything is waited for. */
int __wrap_io_uring_submit_and_wait(struct io_uring *ring, unsigned wait_nr);

/** liburing's own. */
int __real_io_uring_submit_and_wait(struct io_uring *ring, unsigned wait_nr);
