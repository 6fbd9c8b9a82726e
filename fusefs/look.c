#include "fusefs/look.h"

#include "base/clock.h"
#include "fusefs/follow.h"
#include "fusefs/listings.h"
#include "fusefs/mapped.h"
#include "fusefs/notifier.h"
#include "fusefs/ops.h"
#include "fusefs/streams.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

enum {
	PERIOD_MS = 900,
	IN_FLIGHT_MS = 100,     /* from when a listing was asked for until the kernel keeps it: together with a period, a second */
	SETTLE_AFTER = 33,      /* periods: half a minute */
};

struct look {
	struct fs *fs;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;  /* on CLOCK_MONOTONIC */
	bool is_awake;           /* guarded by lock: there is something to look at */
	bool has_pages;          /* guarded by lock: some inode has pages to be dropped */
	bool is_stopping;        /* guarded by lock */
	unsigned settle_in;      /* periods until what could not be settled at the take-over is tried again; 0: it has been */
	int64_t due_ns;          /* CLOCK_MONOTONIC: the end of the period */
};

static void visit(void *userdata, struct open_inode *inode)
{
	struct fs *fs = userdata;
	struct op *op = op_start_own(fs);
	struct reached reached = REACHED_NONE;
	int r;

	if (!op)
		return;
	r = reach_get(fs->reach, inode->nodeid, &reached);
	mapped_look(op, inode, r < 0 ? r : reached.fd);
	reach_put(fs->reach, &reached);
	op_end(op);
}

static void drop_pages(void *userdata, struct open_inode *inode)
{
	struct fs *fs = userdata;

	if (atomic_exchange(&inode->has_pages, false) && !notifier_drop(fs->notifier, &inode->nodeid, 1))
		atomic_store(&inode->has_pages, true);
}

/* Every directory that the kernel may know. Returns whether the notifier was told of all. */
static bool drop_all_listings(struct fs *fs)
{
	uint64_t nodeids[NOTIFIER_BATCH];
	uint32_t position = 0;
	size_t count;

	do {
		for (count = 0; count < NOTIFIER_BATCH && inodes_next_directory(fs->inodes, &position, &nodeids[count]); count++)
			;
		if (count > 0 && !notifier_drop(fs->notifier, nodeids, count))
			return false;
	} while (count == NOTIFIER_BATCH);
	return true;
}

/* What the notifier could not be told is told again in the next period. */
static void drop_listings(struct fs *fs)
{
	const int64_t until_ns = clock_now_ns() - IN_FLIGHT_MS * 1000000ll;
	uint64_t nodeids[NOTIFIER_BATCH];
	size_t count;

	if (!fs->listings)
		return;
	if (listings_take_all(fs->listings, until_ns) && !drop_all_listings(fs)) {
		(void)listings_add_all(fs->listings);
		return;
	}
	while ((count = listings_take(fs->listings, until_ns, nodeids, NOTIFIER_BATCH)) > 0) {
		if (notifier_drop(fs->notifier, nodeids, count))
			continue;
		for (size_t i = 0; i < count; i++)
			(void)listings_add(fs->listings, nodeids[i]);
		return;
	}
}

enum reason { STOPPING, PAGES, PERIOD };

static void begin_period(struct look *look)
{
	look->due_ns = clock_now_ns() + PERIOD_MS * 1000000ll;
}

/* Until the period ends, or, with nothing to look at, for a whole one from when there is something. */
static enum reason wait_a_while(struct look *look)
{
	enum reason reason;
	int r = 0;

	pthread_mutex_lock(&look->lock);
	while (!look->is_stopping && !look->has_pages && r != ETIMEDOUT) {
		if (look->is_awake || look->settle_in) {
			const struct timespec due = { look->due_ns / 1000000000, look->due_ns % 1000000000 };

			r = pthread_cond_timedwait(&look->changed, &look->lock, &due);
		} else {
			pthread_cond_wait(&look->changed, &look->lock);
			begin_period(look);
		}
	}
	reason = look->is_stopping ? STOPPING : look->has_pages ? PAGES : PERIOD;
	look->has_pages = false;
	pthread_mutex_unlock(&look->lock);
	return reason;
}

static bool has_something(struct fs *fs)
{
	return modes_have_mappable(fs->modes) || !streams_is_empty(fs->streams) || follow_is_bound(fs->follow) ||
	       (fs->listings && !listings_is_empty(fs->listings));
}

static void look_around(struct look *look)
{
	struct fs *fs = look->fs;

	modes_visit_mappable(fs->modes, visit, fs);
	drop_listings(fs);
	streams_close_idle(fs->streams);
	follow_rest(fs->follow);
	if (look->settle_in && --look->settle_in == 0)
		(void)settle_orphans(fs->options.source_fd, fs->log, fs->resent);
	/* Under the lock: what comes after it was looked for wakes the thread again. */
	pthread_mutex_lock(&look->lock);
	look->is_awake = has_something(fs);
	pthread_mutex_unlock(&look->lock);
}

static void *run(void *argument)
{
	struct look *look = argument;
	enum reason reason;

	pthread_setname_np(pthread_self(), "hrfs-look");
	begin_period(look);
	while ((reason = wait_a_while(look)) != STOPPING) {
		if (reason == PAGES)
			modes_visit_mappable(look->fs->modes, drop_pages, look->fs);
		/* Pages may come all the time. */
		if (clock_now_ns() < look->due_ns)
			continue;
		look_around(look);
		begin_period(look);
	}
	return NULL;
}

int look_start(struct fs *fs, struct look **out)
{
	struct look *look = calloc(1, sizeof(*look));
	pthread_condattr_t attributes;
	int r;

	if (!look)
		return -ENOMEM;
	look->fs = fs;
	look->is_awake = has_something(fs);
	look->settle_in = fs->options.is_takeover ? SETTLE_AFTER : 0;
	pthread_mutex_init(&look->lock, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&look->changed, &attributes);
	pthread_condattr_destroy(&attributes);
	r = pthread_create(&look->thread, NULL, run, look);
	if (r) {
		free(look);
		return -r;
	}
	*out = look;
	return 0;
}

void look_wake(struct look *look)
{
	if (!look)
		return;
	pthread_mutex_lock(&look->lock);
	if (!look->is_awake) {
		look->is_awake = true;
		pthread_cond_signal(&look->changed);
	}
	pthread_mutex_unlock(&look->lock);
}

void look_drop_pages(struct look *look, struct open_inode *inode)
{
	if (!look || atomic_exchange(&inode->has_pages, true))
		return;
	pthread_mutex_lock(&look->lock);
	look->has_pages = true;
	pthread_cond_signal(&look->changed);
	pthread_mutex_unlock(&look->lock);
}

void look_stop(struct look *look)
{
	if (!look)
		return;
	pthread_mutex_lock(&look->lock);
	look->is_stopping = true;
	pthread_cond_signal(&look->changed);
	pthread_mutex_unlock(&look->lock);
	pthread_join(look->thread, NULL);
	pthread_cond_destroy(&look->changed);
	pthread_mutex_destroy(&look->lock);
	free(look);
}
