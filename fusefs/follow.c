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
	PATIENCE_MIN = 8,              /* requests of one thread in a row, before it is followed */
	PATIENCE_MAX = 32,             /* binding and letting go cost as much as two or three requests save */
	WORTH = 4,                     /* it was worth it when as many times the patience came in a row */
	APART_NS = 250 * 1000,         /* requests that come more slowly than this in the mean are not worth it */
	LOOK_AGAIN_NS = 1000 * 1000,   /* the scheduler may have moved the program: seen after that time */
	PROCESSOR_FIELD = 39,          /* of /proc/PID/task/TID/stat (proc_pid_stat(5)), counted from 1 */
	POLICY_FIELD = 41,
	STATE_FIELD = 3,               /* the first one behind the name, which may hold anything */
};

struct follow {
	_Atomic pid_t tid;          /* who asked last */
	_Atomic unsigned count;     /* of its requests in a row, since counted_ns */
	_Atomic int64_t counted_ns; /* CLOCK_MONOTONIC, as all here */
	_Atomic unsigned patience;
	_Atomic int processor;      /* what all threads are bound to; -1: nothing */
	_Atomic int64_t look_at_ns; /* when to look where the program is, while they are bound */
	_Atomic bool has_answered;  /* since the last rest, while they are bound */

	pthread_mutex_t lock;       /* guards what follows, and changes of patience and processor; nobody moves itself under it */
	cpu_set_t all;              /* where they may run, as of the last time they were bound or let go */
	unsigned counted;           /* requests in this row before counted_ns */
	unsigned thread_count;
	unsigned limit;
	pthread_t threads[];
};

/* The processors that the first thread of the process may run on, which never joins. Returns whether there is a choice. */
static bool find_all(cpu_set_t *all)
{
	cpu_set_t found;

	/* Fails where the kernel has more processors than the set has room for. */
	if (sched_getaffinity(getpid(), sizeof(found), &found) < 0)
		return false;
	*all = found;
	return CPU_COUNT(all) >= 2;
}

/* Whether /proc tells of the threads that requests name: those of our own namespace. */
static bool has_own_proc(void)
{
	char link[16];
	ssize_t length = readlink("/proc/self", link, sizeof(link) - 1);

	if (length < 0)
		return false;
	link[length] = '\0';
	return atoi(link) == getpid();
}

int follow_create(unsigned limit, struct follow **out)
{
	struct follow *follow = calloc(1, sizeof(*follow) + limit * sizeof(follow->threads[0]));

	if (!follow)
		return -ENOMEM;
	if (!has_own_proc() || !find_all(&follow->all)) {
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

/* The value of a field that comes after @at, which is in the field @from. Returns -1 if there is none. */
static int field_of(const char *at, int from, int field)
{
	for (; at && from < field; from++)
		at = strchr(at + 1, ' ');
	return at ? atoi(at) : -1;
}

/* Next to one that runs in real time nobody has a turn until it waits. */
static bool leaves_time(int policy)
{
	return policy != SCHED_FIFO && policy != SCHED_RR && policy != SCHED_DEADLINE;
}

/* Where the program's thread runs, or ran before it began to wait. Returns -1 if that cannot be had, or is not to be shared. */
static int processor_of(pid_t tid)
{
	scoped(closep) int fd = -1;
	char text[1024];
	const char *name_end;
	ssize_t length;

	/* /proc/TID/stat adds up the times of all threads of its process. */
	snprintf(text, sizeof(text), "/proc/%d/task/%d/stat", tid, tid);
	fd = open(text, O_RDONLY | O_CLOEXEC);
	length = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (length < 0)
		return -1;
	text[length] = '\0';
	name_end = strrchr(text, ')');
	if (!leaves_time(field_of(name_end, STATE_FIELD - 1, POLICY_FIELD)))
		return -1;
	return field_of(name_end, STATE_FIELD - 1, PROCESSOR_FIELD);
}

static void fill(struct follow *follow, int processor, cpu_set_t *set)
{
	*set = follow->all;
	if (processor < 0)
		return;
	CPU_ZERO(set);
	CPU_SET(processor, set);
}

static void be_more_patient(struct follow *follow)
{
	if (follow->patience < PATIENCE_MAX)
		follow->patience *= 2;
}

/*
 * All but the caller, who goes along after it has let go of the lock, and sees then whether one can. The processor is stored first: a thread
 * that is on its way somewhere else sees it when it is there.
 */
static void send_others(struct follow *follow, int processor)
{
	cpu_set_t set;

	if (processor == follow->processor)
		return;
	follow->processor = processor;
	if (processor < 0)
		(void)find_all(&follow->all);
	fill(follow, processor, &set);
	for (unsigned i = 0; i < follow->thread_count; i++)
		if (!pthread_equal(follow->threads[i], pthread_self()))
			(void)pthread_setaffinity_np(follow->threads[i], sizeof(set), &set);
}

/* The processor has been taken away from us meanwhile (cpuset(7)). */
static void give_up(struct follow *follow, int processor)
{
	pthread_mutex_lock(&follow->lock);
	if (follow->processor == processor) {
		be_more_patient(follow);
		send_others(follow, -1);
	}
	pthread_mutex_unlock(&follow->lock);
}

/* It may wait for that processor, so it is done without the lock, and until nothing has changed. */
void follow_go_along(struct follow *follow)
{
	cpu_set_t set;
	int processor;

	if (!follow)
		return;
	do {
		pthread_mutex_lock(&follow->lock);
		processor = follow->processor;
		fill(follow, processor, &set);
		pthread_mutex_unlock(&follow->lock);
		if (sched_setaffinity(0, sizeof(set), &set) < 0 && processor >= 0)
			give_up(follow, processor);
	} while (processor != follow->processor);
}

void follow_join(struct follow *follow)
{
	if (!follow)
		return;
	pthread_mutex_lock(&follow->lock);
	if (follow->thread_count < follow->limit)
		follow->threads[follow->thread_count++] = pthread_self();
	pthread_mutex_unlock(&follow->lock);
	if (follow_is_bound(follow))
		follow_go_along(follow);
}

void follow_leave(struct follow *follow)
{
	if (!follow)
		return;
	pthread_mutex_lock(&follow->lock);
	for (unsigned i = 0; i < follow->thread_count; i++)
		if (pthread_equal(follow->threads[i], pthread_self()))
			follow->threads[i--] = follow->threads[--follow->thread_count];
	pthread_mutex_unlock(&follow->lock);
}

/* Another one asks, after so many requests that were counted last. Returns whether the others have been let go. */
static bool let_go(struct follow *follow, unsigned count)
{
	bool was_bound;

	/* Who has it may have to wait for that processor. The next look or rest is soon. */
	if (pthread_mutex_trylock(&follow->lock) != 0)
		return false;
	was_bound = follow->processor >= 0;
	if (was_bound) {
		if ((follow->counted + count) / WORTH >= follow->patience)
			follow->patience = PATIENCE_MIN;
		else
			be_more_patient(follow);
		send_others(follow, -1);
	}
	follow->counted = 0;
	pthread_mutex_unlock(&follow->lock);
	return was_bound;
}

static void count_anew(struct follow *follow)
{
	int64_t now_ns = clock_now_ns();

	atomic_store_explicit(&follow->count, 0, memory_order_relaxed);
	atomic_store_explicit(&follow->counted_ns, now_ns, memory_order_relaxed);
	atomic_store_explicit(&follow->look_at_ns, now_ns + LOOK_AGAIN_NS, memory_order_relaxed);
}

/* Returns whether the others have been sent somewhere. */
static bool look(struct follow *follow, pid_t tid, unsigned count, int64_t now_ns)
{
	bool is_fast = now_ns - follow->counted_ns <= count * (int64_t)APART_NS;
	int processor = is_fast ? processor_of(tid) : -1;
	int before;

	/* Somebody else does it. */
	if (pthread_mutex_trylock(&follow->lock) != 0)
		return false;
	before = follow->processor;
	if (before < 0 && processor >= 0 && !find_all(&follow->all))
		processor = -1;
	if (processor >= CPU_SETSIZE || (processor >= 0 && !CPU_ISSET(processor, &follow->all)))
		processor = -1;
	if (is_fast && processor < 0)
		be_more_patient(follow);
	send_others(follow, processor);
	processor = follow->processor;
	follow->counted = processor >= 0 ? follow->counted + count : 0;
	pthread_mutex_unlock(&follow->lock);
	count_anew(follow);
	return processor != before;
}

bool follow_answered(struct follow *follow, pid_t tid)
{
	bool is_bound;
	unsigned count;
	int64_t now_ns;

	if (!follow)
		return false;
	is_bound = follow_is_bound(follow);
	if (tid == 0 || atomic_load_explicit(&follow->tid, memory_order_relaxed) != tid) {
		atomic_store_explicit(&follow->tid, tid, memory_order_relaxed);
		atomic_store_explicit(&follow->counted_ns, clock_now_ns(), memory_order_relaxed);
		count = atomic_exchange_explicit(&follow->count, 1, memory_order_relaxed);
		return is_bound && let_go(follow, count);
	}
	count = atomic_fetch_add_explicit(&follow->count, 1, memory_order_relaxed) + 1;
	if (is_bound)
		atomic_store_explicit(&follow->has_answered, true, memory_order_relaxed);
	else if (count < atomic_load_explicit(&follow->patience, memory_order_relaxed))
		return false;
	now_ns = clock_now_ns();
	if (is_bound && now_ns < atomic_load_explicit(&follow->look_at_ns, memory_order_relaxed))
		return false;
	return look(follow, tid, count, now_ns);
}

void follow_rest(struct follow *follow)
{
	/* Who has the lock is at it just now. */
	if (!follow || pthread_mutex_trylock(&follow->lock) != 0)
		return;
	if (!atomic_exchange(&follow->has_answered, false)) {
		send_others(follow, -1);
		follow->counted = 0;
	}
	pthread_mutex_unlock(&follow->lock);
}

bool follow_is_bound(struct follow *follow)
{
	return follow && atomic_load_explicit(&follow->processor, memory_order_relaxed) >= 0;
}
