#include "fusefs/streams.h"

#include "base/clock.h"
#include "fusefs/file.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

enum { STREAMS_MAX = 128, IDLE_S = 10 };

struct stream {
	struct file *file;  /* owned; NULL: free */
	int64_t used_ns;    /* CLOCK_MONOTONIC */
};

struct streams {
	pthread_mutex_t lock; /* guards what follows */
	unsigned count;
	struct stream slots[STREAMS_MAX];
};

static void close_file(struct file *file)
{
	if (!file)
		return;
	file_finish(file);
	free(file);
}

int streams_create(struct streams **out)
{
	struct streams *streams = calloc(1, sizeof(*streams));

	if (!streams)
		return -ENOMEM;
	pthread_mutex_init(&streams->lock, NULL);
	*out = streams;
	return 0;
}

void streams_destroy(struct streams *streams)
{
	if (!streams)
		return;
	for (unsigned i = 0; i < STREAMS_MAX; i++)
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

static struct stream *find(struct streams *streams, uint64_t nodeid, off_t offset)
{
	for (struct stream *slot = streams->slots; slot < streams->slots + STREAMS_MAX; slot++)
		if (slot->file && slot->file->nodeid == nodeid && slot->file->dir_next == offset)
			return slot;
	return NULL;
}

struct file *streams_take(struct streams *streams, uint64_t nodeid, off_t offset)
{
	struct file *file = NULL;

	/* From the beginning a directory is read as it is now. */
	if (offset != 0) {
		pthread_mutex_lock(&streams->lock);
		if (streams->count > 0)
			file = take_slot(streams, find(streams, nodeid, offset));
		pthread_mutex_unlock(&streams->lock);
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

	for (struct stream *slot = streams->slots; slot < streams->slots + STREAMS_MAX; slot++) {
		if (!slot->file)
			return slot;
		if (slot->used_ns < oldest->used_ns)
			oldest = slot;
	}
	return oldest;
}

void streams_put(struct streams *streams, struct file *file, bool is_at_end)
{
	struct file *old = file;

	if (!is_at_end) {
		struct stream *slot;

		pthread_mutex_lock(&streams->lock);
		slot = choose_slot(streams);
		old = take_slot(streams, slot);
		*slot = (struct stream){ .file = file, .used_ns = clock_now_ns() };
		streams->count++;
		pthread_mutex_unlock(&streams->lock);
	}
	close_file(old);
}

static struct file *take_idle(struct streams *streams, int64_t until_ns)
{
	struct file *file = NULL;

	pthread_mutex_lock(&streams->lock);
	for (unsigned i = 0; i < STREAMS_MAX && !file; i++)
		if (streams->slots[i].file && streams->slots[i].used_ns < until_ns)
			file = take_slot(streams, &streams->slots[i]);
	pthread_mutex_unlock(&streams->lock);
	return file;
}

bool streams_close_idle(struct streams *streams)
{
	int64_t until_ns = clock_now_ns() - IDLE_S * 1000000000ll;
	struct file *file;
	bool are_left;

	while ((file = take_idle(streams, until_ns)))
		close_file(file);
	pthread_mutex_lock(&streams->lock);
	are_left = streams->count > 0;
	pthread_mutex_unlock(&streams->lock);
	return are_left;
}
