/*
 * Resent: what the kernel sends again to a worker that has taken over, read before anything of it is answered.
 *
 * On KERNEL_NOTIFY_RESEND the kernel puts all requests that were read and not answered before those that nobody has read
 * (fuse_resend() in its fs/fuse/dev.c). So when there is nothing more to read, or something else comes, the requests of dead
 * workers that can still come are known, all of them: what is left of any other has been answered, or never will be.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct resent;

enum { RESENT_BYTES_MAX = 64 << 20 }; /* no more is read ahead: programs may have any number of requests under way */

/** What to do at once with a request that is not sent again and has no answer (FORGET, INTERRUPT). */
typedef void (*resent_serve_fn)(void *userdata, void *request, size_t size);

/**
 * Read what has come from @fuse_fd into @buffer of @size bytes, and keep it. Nobody else reads meanwhile. Returns 0 or a
 * negative errno.
 */
int resent_read(int fuse_fd, void *buffer, size_t size, resent_serve_fn serve, void *userdata, struct resent **out);

/** NULL is fine. Requests that have not been taken are forgotten: the kernel sends them to the next worker. */
void resent_destroy(struct resent *resent);

/** Whether a request of a dead worker, by its unique id without FUSE_UNIQUE_RESEND, may still come. NULL: it may not. */
bool resent_is_expected(const struct resent *resent, uint64_t request);

/**
 * The next one that was read, in the order of reading; NULL when there is none, or no @resent. The caller frees it. Any
 * thread; costs a load when there is none.
 */
void *resent_take(struct resent *resent, size_t *out_size);
