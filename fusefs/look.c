#include "fusefs/look.h"

#include "fusefs/ops.h"

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
	bool is_stopping;        /* guarded by lock */
	unsigned settle_in;      /* periods until orphans that nobody asked about again are settled; 0: none */
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

/* Waits one period, or until there is anything to look at. Returns whether to go on. */
static bool wait_a_while(struct look *look)
{
	struct timespec until;
	bool go_on;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += PERIOD_S;
	pthread_mutex_lock(&look->lock);
	if (look->is_awake || look->settle_in) {
		while (!look->is_stopping &&
		       pthread_cond_timedwait(&look->changed, &look->lock, &until) != ETIMEDOUT)
			;
	} else {
		while (!look->is_stopping && !look->is_awake)
			pthread_cond_wait(&look->changed, &look->lock);
	}
	go_on = !look->is_stopping;
	pthread_mutex_unlock(&look->lock);
	return go_on;
}

static void *run(void *argument)
{
	struct look *look = argument;
	struct fs *fs = look->fs;

	pthread_setname_np(pthread_self(), "hrfs-look");
	while (wait_a_while(look)) {
		modes_visit_mappable(fs->modes, visit, fs);
		if (look->settle_in && --look->settle_in == 0)
			(void)fs_settle_orphans(fs->options.source_fd, fs->log);
		pthread_mutex_lock(&look->lock);
		look->is_awake = modes_have_mappable(fs->modes);
		pthread_mutex_unlock(&look->lock);
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
