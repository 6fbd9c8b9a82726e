#include "fusefs/look.h"

#include "base/clock.h"
#include "fusefs/follow.h"
#include "fusefs/listings.h"
#include "fusefs/mapped.h"
#include "fusefs/notifier.h"
#include "fusefs/ops.h"
#include "fusefs/streams.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

enum {
	PERIOD_MS = 900,
	REST_MS = 100,          /* while threads are bound to a processor: something may leave them no time there */
	IN_FLIGHT_MS = 100,     /* from when a listing was asked for until the kernel keeps it: together with a period, a second */
	SETTLE_AFTER = 33,      /* periods: half a minute */
};

struct look {
	struct fs *fs;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;  /* on CLOCK_MONOTONIC */
	bool is_awake;           /* guarded by lock: there is something to look at */
	bool is_following;       /* guarded by lock: threads are bound to a processor, or were until a moment ago */
	bool has_pages;          /* guarded by lock: some inode has pages to be dropped */
	bool is_stopping;        /* guarded by lock */
	unsigned settle_in;      /* periods until what could not be settled at the take-over is tried again; 0: it has been */
	int64_t due_ns;          /* guarded by lock; CLOCK_MONOTONIC: the end of the period */
	int64_t rest_ns;         /* guarded by lock: when follow_rest() is due, while is_following */
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

static int64_t after_ms(int64_t ms)
{
	return clock_now_ns() + ms * 1000000;
}

/* When there is something to do: INT64_MAX is when somebody says so. Under the lock. */
static int64_t next_ns(const struct look *look)
{
	int64_t next_ns = look->is_awake || look->settle_in ? look->due_ns : INT64_MAX;

	return look->is_following && look->rest_ns < next_ns ? look->rest_ns : next_ns;
}

/* Until a period ends, or a rest is due. */
static enum reason wait_a_while(struct look *look)
{
	enum reason reason;
	int64_t until_ns;

	pthread_mutex_lock(&look->lock);
	while (!look->is_stopping && !look->has_pages && (until_ns = next_ns(look)) > clock_now_ns()) {
		const struct timespec until = { until_ns / 1000000000, until_ns % 1000000000 };

		if (until_ns == INT64_MAX)
			pthread_cond_wait(&look->changed, &look->lock);
		else
			pthread_cond_timedwait(&look->changed, &look->lock, &until);
	}
	reason = look->is_stopping ? STOPPING : look->has_pages ? PAGES : PERIOD;
	look->has_pages = false;
	pthread_mutex_unlock(&look->lock);
	return reason;
}

static bool has_something(struct fs *fs)
{
	return modes_have_mappable(fs->modes) || !streams_is_empty(fs->streams) ||
	       (fs->listings && !listings_is_empty(fs->listings));
}

/* Under the lock, as in look_around(): who binds threads afterwards says so. */
static void rest(struct look *look)
{
	struct follow *follow = look->fs->follow;

	follow_rest(follow);
	pthread_mutex_lock(&look->lock);
	look->is_following = follow_is_bound(follow);
	look->rest_ns = after_ms(REST_MS);
	pthread_mutex_unlock(&look->lock);
}

static void look_around(struct look *look)
{
	struct fs *fs = look->fs;

	modes_visit_mappable(fs->modes, visit, fs);
	drop_listings(fs);
	streams_close_idle(fs->streams);
	if (look->settle_in && --look->settle_in == 0)
		(void)settle_orphans(fs->options.source_fd, fs->log, fs->resent);
	/* Under the lock: what comes after it was looked for wakes the thread again. */
	pthread_mutex_lock(&look->lock);
	look->is_awake = has_something(fs);
	look->due_ns = after_ms(PERIOD_MS);
	pthread_mutex_unlock(&look->lock);
}

/* What is due. Pages may come all the time. */
static void do_what_is_due(struct look *look)
{
	bool is_rest, is_period;
	int64_t now_ns;

	pthread_mutex_lock(&look->lock);
	now_ns = clock_now_ns();
	is_rest = look->is_following && look->rest_ns <= now_ns;
	is_period = (look->is_awake || look->settle_in) && look->due_ns <= now_ns;
	pthread_mutex_unlock(&look->lock);
	if (is_rest)
		rest(look);
	if (is_period)
		look_around(look);
}

static void *run(void *argument)
{
	struct look *look = argument;
	enum reason reason;

	pthread_setname_np(pthread_self(), "hrfs-look");
	while ((reason = wait_a_while(look)) != STOPPING) {
		if (reason == PAGES)
			modes_visit_mappable(look->fs->modes, drop_pages, look->fs);
		do_what_is_due(look);
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
	look->due_ns = after_ms(PERIOD_MS);
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
		look->due_ns = after_ms(PERIOD_MS);
		pthread_cond_signal(&look->changed);
	}
	pthread_mutex_unlock(&look->lock);
}

void look_follow(struct look *look)
{
	if (!look)
		return;
	pthread_mutex_lock(&look->lock);
	if (!look->is_following) {
		look->is_following = true;
		look->rest_ns = after_ms(REST_MS);
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
