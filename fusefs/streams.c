#include "fusefs/streams.h"

#include "base/clock.h"
#include "fusefs/file.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

enum { IDLE_S = 10 };

struct stream {
	struct file *file;  /* owned; NULL: free */
	pid_t reader;
	int64_t used_ns;    /* CLOCK_MONOTONIC */
};

struct streams {
	pthread_mutex_t lock; /* guards what follows */
	unsigned count, limit;
	struct stream slots[];
};

static void close_file(struct file *file)
{
	if (!file)
		return;
	file_finish(file);
	free(file);
}

int streams_create(unsigned limit, struct streams **out)
{
	struct streams *streams = calloc(1, sizeof(*streams) + limit * sizeof(streams->slots[0]));

	if (!streams)
		return -ENOMEM;
	streams->limit = limit;
	pthread_mutex_init(&streams->lock, NULL);
	*out = streams;
	return 0;
}

void streams_destroy(struct streams *streams)
{
	if (!streams)
		return;
	for (unsigned i = 0; i < streams->limit; i++)
		close_file(streams->slots[i].file);
	pthread_mutex_destroy(&streams->lock);
	free(streams);
}

/* The caller holds the lock. NULL is fine. */
static struct file *take_slot(struct streams *streams, struct stream *slot)
{
	struct file *file = slot ? slot->file : NULL;

	if (file) {
		slot->file = NULL;
		streams->count--;
	}
	return file;
}

/* Where the thread has come to in the directory: to @offset, or, for 0, anywhere. */
static struct stream *find(struct streams *streams, uint64_t nodeid, pid_t reader, off_t offset)
{
	for (struct stream *slot = streams->slots; slot < streams->slots + streams->limit; slot++)
		if (slot->file && slot->file->nodeid == nodeid && slot->reader == reader &&
		    (offset == 0 || slot->file->dir_next == offset))
			return slot;
	return NULL;
}

struct file *streams_take(struct streams *streams, uint64_t nodeid, pid_t reader, off_t offset)
{
	struct file *file = NULL;

	pthread_mutex_lock(&streams->lock);
	if (streams->count > 0)
		file = take_slot(streams, find(streams, nodeid, reader, offset));
	pthread_mutex_unlock(&streams->lock);
	/* From the beginning a directory is read as it is now. */
	if (offset == 0) {
		close_file(file);
		file = NULL;
	}
	if (!file) {
		file = malloc(sizeof(*file));
		if (file)
			file_init_unasked(file, nodeid);
	}
	return file;
}

/* A free slot, or the one that was not used for the longest time. */
static struct stream *choose_slot(struct streams *streams)
{
	struct stream *oldest = streams->slots;

	for (struct stream *slot = streams->slots; slot < streams->slots + streams->limit; slot++) {
		if (!slot->file)
			return slot;
		if (slot->used_ns < oldest->used_ns)
			oldest = slot;
	}
	return oldest;
}

void streams_put(struct streams *streams, struct file *file, pid_t reader, bool is_at_end)
{
	struct file *old = file;

	if (!is_at_end) {
		struct stream *slot;

		pthread_mutex_lock(&streams->lock);
		slot = choose_slot(streams);
		old = take_slot(streams, slot);
		*slot = (struct stream){ .file = file, .reader = reader, .used_ns = clock_now_ns() };
		streams->count++;
		pthread_mutex_unlock(&streams->lock);
	}
	close_file(old);
}

static struct file *take_idle(struct streams *streams, int64_t until_ns)
{
	struct file *file = NULL;

	pthread_mutex_lock(&streams->lock);
	for (unsigned i = 0; i < streams->limit && !file; i++)
		if (streams->slots[i].file && streams->slots[i].used_ns < until_ns)
			file = take_slot(streams, &streams->slots[i]);
	pthread_mutex_unlock(&streams->lock);
	return file;
}

void streams_close_idle(struct streams *streams)
{
	int64_t until_ns = clock_now_ns() - IDLE_S * 1000000000ll;
	struct file *file;

	while ((file = take_idle(streams, until_ns)))
		close_file(file);
}

bool streams_is_empty(struct streams *streams)
{
	bool is_empty;

	pthread_mutex_lock(&streams->lock);
	is_empty = streams->count == 0;
	pthread_mutex_unlock(&streams->lock);
	return is_empty;
}
