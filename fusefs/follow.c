#include "fusefs/follow.h"

#include "base/clock.h"
#include "base/scope.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	PATIENCE_MIN = 8,                /* requests in a row by one thread, before it is followed */
	PATIENCE_MAX = 32,               /* binding and letting go cost as much as two or three requests save */
	WORTH = 4,                       /* it was worth it when as many times the patience came in a row */
	LOOK_AGAIN_NS = 4 * 1000 * 1000, /* the scheduler may have moved the program: seen after that time */
	PROCESSOR_FIELD = 39,            /* of /proc/PID/stat (proc_pid_stat(5)), counted from 1 */
	STATE_FIELD = 3,                 /* the first one behind the name, which may hold anything */
};

struct follow {
	_Atomic pid_t tid;           /* who asked last */
	_Atomic unsigned in_a_row;   /* and how often */
	_Atomic unsigned patience;
	_Atomic int processor;       /* what all threads are bound to; -1: nothing */
	_Atomic int64_t looked_ns;   /* at the program's processor; CLOCK_MONOTONIC */

	pthread_mutex_t lock;        /* guards what follows, and changes of processor */
	cpu_set_t all;               /* where they may run */
	unsigned rested_at;          /* in_a_row at the last rest */
	unsigned count;
	unsigned limit;
	pthread_t threads[];
};

int follow_create(unsigned limit, struct follow **out)
{
	struct follow *follow = calloc(1, sizeof(*follow) + limit * sizeof(follow->threads[0]));

	if (!follow)
		return -ENOMEM;
	/* The kernel has more processors than the set has room for (EINVAL), or there is nothing to choose. */
	if (sched_getaffinity(0, sizeof(follow->all), &follow->all) < 0 || CPU_COUNT(&follow->all) < 2) {
		free(follow);
		return -EOPNOTSUPP;
	}
	follow->limit = limit;
	follow->patience = PATIENCE_MIN;
	follow->processor = -1;
	pthread_mutex_init(&follow->lock, NULL);
	*out = follow;
	return 0;
}

void follow_destroy(struct follow *follow)
{
	if (!follow)
		return;
	pthread_mutex_destroy(&follow->lock);
	free(follow);
}

void follow_join(struct follow *follow)
{
	if (!follow)
		return;
	pthread_mutex_lock(&follow->lock);
	if (follow->count < follow->limit)
		follow->threads[follow->count++] = pthread_self();
	pthread_mutex_unlock(&follow->lock);
}

void follow_leave(struct follow *follow)
{
	if (!follow)
		return;
	pthread_mutex_lock(&follow->lock);
	for (unsigned i = 0; i < follow->count; i++)
		if (pthread_equal(follow->threads[i], pthread_self()))
			follow->threads[i--] = follow->threads[--follow->count];
	pthread_mutex_unlock(&follow->lock);
}

/* Where the program's thread runs, or ran before it began to wait. Returns -1 if that cannot be had. */
static int processor_of(pid_t tid)
{
	scoped(closep) int fd = -1;
	char text[1024], *at;
	ssize_t length;

	snprintf(text, sizeof(text), "/proc/%d/stat", tid);
	fd = open(text, O_RDONLY | O_CLOEXEC);
	length = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (length < 0)
		return -1;
	text[length] = '\0';
	at = strrchr(text, ')');
	for (int field = STATE_FIELD - 1; at && field < PROCESSOR_FIELD; field++)
		at = strchr(at + 1, ' ');
	return at ? atoi(at) : -1;
}

/* The caller last: it is moved at once, and only then goes on. */
static void bind_threads(struct follow *follow, const cpu_set_t *set)
{
	bool has_joined = false;

	for (unsigned i = 0; i < follow->count; i++)
		if (pthread_equal(follow->threads[i], pthread_self()))
			has_joined = true;
		else
			(void)pthread_setaffinity_np(follow->threads[i], sizeof(*set), set);
	if (has_joined)
		(void)pthread_setaffinity_np(pthread_self(), sizeof(*set), set);
}

static void go_to(struct follow *follow, int processor)
{
	cpu_set_t set;

	if (processor == follow->processor)
		return;
	CPU_ZERO(&set);
	if (processor >= 0)
		CPU_SET(processor, &set);
	bind_threads(follow, processor >= 0 ? &set : &follow->all);
	follow->processor = processor;
}

static void be_more_patient(struct follow *follow)
{
	if (follow->patience < PATIENCE_MAX)
		follow->patience *= 2;
}

/* Another one asks. */
static void let_go(struct follow *follow, unsigned in_a_row)
{
	pthread_mutex_lock(&follow->lock);
	if (follow->processor >= 0) {
		if (in_a_row / WORTH >= follow->patience)
			follow->patience = PATIENCE_MIN;
		else
			be_more_patient(follow);
		go_to(follow, -1);
	}
	pthread_mutex_unlock(&follow->lock);
}

/* Returns whether threads are bound that were not. */
static bool look(struct follow *follow, pid_t tid, int64_t now_ns)
{
	int processor;
	bool was_bound, is_bound;

	/* Somebody else does it. */
	if (pthread_mutex_trylock(&follow->lock) != 0)
		return false;
	was_bound = follow->processor >= 0;
	processor = processor_of(tid);
	if (processor >= CPU_SETSIZE || (processor >= 0 && !CPU_ISSET(processor, &follow->all)))
		processor = -1;
	if (processor < 0) {
		be_more_patient(follow);
		follow->in_a_row = 0;
	}
	go_to(follow, processor);
	is_bound = follow->processor >= 0;
	follow->looked_ns = now_ns;
	pthread_mutex_unlock(&follow->lock);
	return is_bound && !was_bound;
}

bool follow_asked(struct follow *follow, pid_t tid)
{
	unsigned in_a_row;
	int64_t now_ns;

	if (!follow || tid == 0)
		return false;
	if (atomic_load_explicit(&follow->tid, memory_order_relaxed) != tid) {
		atomic_store_explicit(&follow->tid, tid, memory_order_relaxed);
		in_a_row = atomic_exchange_explicit(&follow->in_a_row, 1, memory_order_relaxed);
		if (atomic_load_explicit(&follow->processor, memory_order_relaxed) >= 0)
			let_go(follow, in_a_row);
		return false;
	}
	in_a_row = atomic_fetch_add_explicit(&follow->in_a_row, 1, memory_order_relaxed) + 1;
	if (in_a_row < atomic_load_explicit(&follow->patience, memory_order_relaxed))
		return false;
	now_ns = clock_now_ns();
	if (atomic_load_explicit(&follow->processor, memory_order_relaxed) >= 0 &&
	    now_ns - atomic_load_explicit(&follow->looked_ns, memory_order_relaxed) < LOOK_AGAIN_NS)
		return false;
	return look(follow, tid, now_ns);
}

void follow_rest(struct follow *follow)
{
	if (!follow)
		return;
	pthread_mutex_lock(&follow->lock);
	if (follow->in_a_row == follow->rested_at)
		go_to(follow, -1);
	follow->rested_at = follow->in_a_row;
	pthread_mutex_unlock(&follow->lock);
}

bool follow_is_bound(struct follow *follow)
{
	return follow && follow->processor >= 0;
}
