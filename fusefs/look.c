#include "fusefs/look.h"

#include "base/clock.h"
#include "fusefs/listings.h"
#include "fusefs/ops.h"
#include "fusefs/streams.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

enum { PERIOD_S = 1, SETTLE_AFTER_S = 30 };

struct look {
	struct fs *fs;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;  /* on CLOCK_MONOTONIC */
	bool is_awake;           /* guarded by lock: there is something to look at */
	bool has_pages;          /* guarded by lock: some inode has pages to be dropped */
	bool is_stopping;        /* guarded by lock */
	unsigned settle_in;      /* periods until what could not be settled at the take-over is tried again; 0: it has been */
};

static void visit(void *userdata, struct open_inode *inode)
{
	struct fs *fs = userdata;
	struct op *op = op_start_own(fs);
	struct reached reached;
	bool differs;

	if (!op || reach_get(fs->reach, inode->nodeid, &reached) < 0)
		return;
	pthread_mutex_lock(&inode->order);
	differs = op_look_for_stores(op, inode, reached.fd, false);
	pthread_mutex_unlock(&inode->order);
	reach_put(fs->reach, &reached);
	op_end(op);
	/* In place the kernel would believe the old time stamps for an hour. Only attributes: the pages are the file's own. */
	if (differs && fs->options.is_in_place)
		(void)fuse_lowlevel_notify_inval_inode(fs->session, inode->nodeid, -1, 0);
}

static void drop_pages(void *userdata, struct open_inode *inode)
{
	struct fs *fs = userdata;

	if (atomic_exchange(&inode->has_pages, false))
		(void)fuse_lowlevel_notify_inval_inode(fs->session, inode->nodeid, 0, 0);
}

/* Not by who answers requests: a page is locked while its names are copied to a program, which may need an answer for that. */
static void drop_listings(struct fs *fs)
{
	const int64_t until_ns = clock_now_ns();
	uint64_t nodeids[64];
	size_t count;

	while (fs->listings && (count = listings_take(fs->listings, until_ns, nodeids, 64)) > 0)
		for (size_t i = 0; i < count; i++)
			(void)fuse_lowlevel_notify_inval_inode(fs->session, nodeids[i], 0, 0);
}

static bool has_listings(struct fs *fs)
{
	return fs->listings && !listings_is_empty(fs->listings);
}

enum reason { STOPPING, PAGES, PERIOD };

static void begin_period(struct timespec *until)
{
	clock_gettime(CLOCK_MONOTONIC, until);
	until->tv_sec += PERIOD_S;
}

/* Waits until @until, or, with nothing to look at, for a whole period from when there is something. */
static enum reason wait_a_while(struct look *look, struct timespec *until)
{
	enum reason reason;
	int r = 0;

	pthread_mutex_lock(&look->lock);
	while (!look->is_stopping && !look->has_pages && r != ETIMEDOUT) {
		if (look->is_awake || look->settle_in) {
			r = pthread_cond_timedwait(&look->changed, &look->lock, until);
		} else {
			pthread_cond_wait(&look->changed, &look->lock);
			begin_period(until);
		}
	}
	reason = look->is_stopping ? STOPPING : look->has_pages ? PAGES : PERIOD;
	look->has_pages = false;
	pthread_mutex_unlock(&look->lock);
	return reason;
}

static void look_around(struct look *look)
{
	struct fs *fs = look->fs;
	bool are_reading;

	modes_visit_mappable(fs->modes, visit, fs);
	drop_listings(fs);
	are_reading = streams_close_idle(fs->streams);
	if (look->settle_in && --look->settle_in == 0)
		(void)settle_orphans(fs->options.source_fd, fs->log, fs->resent);
	pthread_mutex_lock(&look->lock);
	look->is_awake = modes_have_mappable(fs->modes) || has_listings(fs) || are_reading;
	pthread_mutex_unlock(&look->lock);
}

static void *run(void *argument)
{
	struct look *look = argument;
	struct timespec until;
	enum reason reason;

	pthread_setname_np(pthread_self(), "hrfs-look");
	begin_period(&until);
	while ((reason = wait_a_while(look, &until)) != STOPPING) {
		if (reason == PAGES) {
			modes_visit_mappable(look->fs->modes, drop_pages, look->fs);
		} else {
			look_around(look);
			begin_period(&until);
		}
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
	look->is_awake = true;
	look->settle_in = fs->options.is_takeover ? SETTLE_AFTER_S / PERIOD_S : 0;
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
