#include "fusefs/resent.h"

#include "base/fdutil.h"
#include "fusefs/kernel.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

struct request {
	STAILQ_ENTRY(request) link;
	uint64_t unique;
	void *data; /* owned until it is taken */
	size_t size;
};

STAILQ_HEAD(request_list, request);

struct resent {
	bool is_complete;           /* there are no others */
	struct request_list all;    /* for resent_is_expected(), which is asked before any is taken */
	size_t bytes;
	atomic_uint left;           /* not taken yet */
	pthread_mutex_t lock;       /* guards next */
	struct request *next;
};

static int keep(struct resent *resent, const void *data, size_t size)
{
	const struct fuse_in_header *header = data;
	struct request *request = calloc(1, sizeof(*request));

	if (request)
		request->data = malloc(size);
	if (!request || !request->data) {
		free(request);
		return -ENOMEM;
	}
	memcpy(request->data, data, size);
	request->size = size;
	request->unique = header->unique;
	STAILQ_INSERT_TAIL(&resent->all, request, link);
	resent->bytes += size;
	resent->left++;
	return 0;
}

static bool is_resent(const struct fuse_in_header *header)
{
	return header->unique & FUSE_UNIQUE_RESEND;
}

/* These come before others, whatever waits. */
static bool has_no_answer(const struct fuse_in_header *header)
{
	return header->opcode == FUSE_FORGET || header->opcode == FUSE_BATCH_FORGET || header->opcode == FUSE_INTERRUPT;
}

/* Returns 1 to go on, 0 at the end, or a negative errno. */
static int read_one(struct resent *resent, int fuse_fd, void *buffer, size_t size, resent_serve_fn serve, void *userdata)
{
	const struct fuse_in_header *header = buffer;
	ssize_t n;
	int r;

	if (resent->bytes > RESENT_BYTES_MAX)
		return 0;
	n = read(fuse_fd, buffer, size);
	resent->is_complete = n < 0 && errno == EAGAIN;
	if (resent->is_complete)
		return 0;
	if (n < 0 && (errno == EINTR || errno == ENOENT))
		return 1;
	/* The mount has ended; who reads next learns that. */
	if (n < 0 && (errno == ENODEV || errno == ECONNABORTED))
		return 0;
	if (n < (ssize_t)sizeof(*header))
		return n < 0 ? -errno : -EIO;
	if (has_no_answer(header)) {
		serve(userdata, buffer, n);
		return 1;
	}
	r = keep(resent, buffer, n);
	resent->is_complete = !is_resent(header);
	return r < 0 ? r : !resent->is_complete;
}

int resent_read(int fuse_fd, void *buffer, size_t size, resent_serve_fn serve, void *userdata, struct resent **out)
{
	struct resent *resent = calloc(1, sizeof(*resent));
	int r, restored;

	if (!resent)
		return -ENOMEM;
	STAILQ_INIT(&resent->all);
	pthread_mutex_init(&resent->lock, NULL);
	r = fd_set_nonblocking(fuse_fd, true);
	if (r == 0)
		r = 1;
	while (r > 0)
		r = read_one(resent, fuse_fd, buffer, size, serve, userdata);
	restored = fd_set_nonblocking(fuse_fd, false);
	resent->next = STAILQ_FIRST(&resent->all);
	*out = resent;
	return r < 0 ? r : restored;
}

void resent_destroy(struct resent *resent)
{
	struct request *request;

	if (!resent)
		return;
	while ((request = STAILQ_FIRST(&resent->all))) {
		STAILQ_REMOVE_HEAD(&resent->all, link);
		free(request->data);
		free(request);
	}
	pthread_mutex_destroy(&resent->lock);
	free(resent);
}

bool resent_is_expected(const struct resent *resent, uint64_t unique)
{
	const struct request *request;

	if (!resent)
		return false;
	if (!resent->is_complete)
		return true;
	STAILQ_FOREACH(request, &resent->all, link)
	if (request->unique == (unique | FUSE_UNIQUE_RESEND))
		return true;
	return false;
}

void *resent_take(struct resent *resent, size_t *out_size)
{
	void *data = NULL;

	if (!resent || atomic_load_explicit(&resent->left, memory_order_relaxed) == 0)
		return NULL;
	pthread_mutex_lock(&resent->lock);
	if (resent->next) {
		data = resent->next->data;
		*out_size = resent->next->size;
		resent->next->data = NULL;
		resent->next = STAILQ_NEXT(resent->next, link);
		resent->left--;
	}
	pthread_mutex_unlock(&resent->lock);
	return data;
}
