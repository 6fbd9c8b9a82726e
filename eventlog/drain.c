/*
 * Drain: moves events from the journal to the store, on a thread of its own.
 *
 * Order of a pass: commit in SQLite, make it durable if something in it was promised (durable.c),
 * stored_seq, then the journal's head. A reader that no longer finds an event in the ring
 * therefore finds it in the store. No lock that a writer takes is held while SQLite works.
 *
 * Waking: `sleep` tells appenders how the thread sleeps. It is stored before the thread looks
 * whether there is news, and read after news has been stored, sequentially consistent both: one of
 * the two sees the other.
 */
#include "eventlog/drain.h"

#include "base/clock.h"
#include "base/log.h"
#include "eventlog/durable.h"
#include "eventlog/eventlog.h"
#include "eventlog/journal.h"
#include "eventlog/store.h"
#include "proto/event.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
	LOOK_MS = 100,    /* without an event: a pause */
	GATHER_MS = 1000, /* and no longer than that without a pause */
	RETRY_MS = 200,
	IDLE_LOOKS = 5, /* looks without news before it sleeps for good */
	SAMPLES = 16,
	SAMPLE_MS = 1000,
	RATE_MS = 10000,
};

enum sleep_state { AWAKE, GATHERING, IDLE };

/* How far the log was at a time. */
struct sample {
	int64_t at_ms; /* CLOCK_MONOTONIC; 0: none */
	uint64_t seq;
};

struct drain {
	struct journal *journal; /* borrowed */
	struct store *store;     /* borrowed; the thread's while it runs */
	struct durable *durable; /* borrowed */
	pthread_t thread;
	bool is_running; /* the owner's */
	void (*on_gap)(void *userdata); /* or NULL */
	void *userdata;

	_Atomic uint64_t stored_seq;
	_Atomic uint64_t oldest_seq;
	_Atomic enum sleep_state sleep;

	pthread_mutex_t mutex;
	pthread_cond_t wake;            /* for the thread */
	pthread_cond_t progress;        /* for those who flush */
	bool is_stopping;               /* under mutex */
	bool is_kicked;                 /* under mutex */
	int error;                      /* of the last pass; under mutex */
	uint64_t passes;                /* that the thread has begun; under mutex */
	uint64_t failed_pass;           /* the last that failed, counted from 1; 0: none; under mutex */
	struct sample samples[SAMPLES]; /* a ring; under mutex */
	unsigned newest;                /* index into it; under mutex */
};

int drain_create(struct journal *journal, struct store *store, struct durable *durable,
		 uint64_t stored_seq, struct drain **out)
{
	struct drain *drain;
	pthread_condattr_t attributes;
	uint64_t oldest = 0;
	int r = store_oldest_seq(store, &oldest);

	if (r < 0)
		return r;
	drain = calloc(1, sizeof(*drain));
	if (!drain)
		return -ENOMEM;
	drain->journal = journal;
	drain->store = store;
	drain->durable = durable;
	drain->stored_seq = stored_seq;
	drain->oldest_seq = oldest ? oldest : stored_seq + 1;
	drain->samples[0] = (struct sample){ clock_now_ms(), journal_next_seq(journal) };
	pthread_mutex_init(&drain->mutex, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&drain->wake, &attributes);
	pthread_cond_init(&drain->progress, NULL);
	pthread_condattr_destroy(&attributes);
	*out = drain;
	return 0;
}

void drain_on_gap(struct drain *drain, void (*on_gap)(void *userdata), void *userdata)
{
	drain->on_gap = on_gap;
	drain->userdata = userdata;
}

void drain_destroy(struct drain *drain)
{
	if (!drain)
		return;
	drain_stop(drain);
	pthread_mutex_destroy(&drain->mutex);
	pthread_cond_destroy(&drain->wake);
	pthread_cond_destroy(&drain->progress);
	free(drain);
}

/* ---- A pass ---- */

/*
 * Add the events at *@position, as many as a transaction may have. Sets *@out_seq to the last.
 * Returns 0, STORE_QUOTA when not one fits, or a negative errno.
 */
static int append_batch(struct drain *drain, uint64_t *position, uint64_t *out_seq)
{
	uint64_t next = *position;
	struct event event;
	int r;

	for (int i = 0; i < EVENTLOG_RECENT_MAX; i++) {
		r = journal_peek(drain->journal, &next, &event);
		if (r <= 0)
			return r;
		r = store_append(drain->store, &event);
		/* What fits is stored; the rest may fit once the WAL is empty. */
		if (r != 0)
			return r == STORE_QUOTA && i > 0 ? 0 : r;
		*position = next;
		*out_seq = event.seq;
	}
	return 0;
}

static int try_batch(struct drain *drain, uint64_t *position, uint64_t *out_seq)
{
	int r = store_begin(drain->store);

	if (r == 0)
		r = append_batch(drain, position, out_seq);
	if (r == 0)
		r = store_commit(drain->store, *out_seq);
	if (r == 0)
		r = durable_stored(drain->durable, *out_seq);
	if (r != 0)
		store_rollback(drain->store);
	return r;
}

static int store_batch(struct drain *drain, uint64_t *position, uint64_t *out_seq)
{
	int r = try_batch(drain, position, out_seq);

	if (r != STORE_QUOTA)
		return r;
	r = store_shrink(drain->store);
	if (r == 0)
		r = try_batch(drain, position, out_seq);
	return r == STORE_QUOTA ? -EDQUOT : r;
}

/*
 * Returns 0 or a negative errno; what had been committed when something failed later is skipped by
 * its seq the next time.
 */
static int pass(struct drain *drain)
{
	uint64_t position = journal_head(drain->journal);
	uint64_t seq = drain_stored_seq(drain);
	uint64_t oldest = 0;
	int r;

	/* What a failed sync has lost is brought to the disk also where nothing follows it. */
	if (journal_used(drain->journal) == 0)
		return durable_stored(drain->durable, seq);
	r = store_batch(drain, &position, &seq);
	if (r < 0)
		return r;
	atomic_store(&drain->stored_seq, seq);
	journal_release(drain->journal, position, seq);

	/* Somebody may have deleted old rows; failing to ask is no failure to write. */
	if (store_oldest_seq(drain->store, &oldest) == 0)
		drain_raise_oldest(drain, oldest);
	return 0;
}

static bool has_events(const struct drain *drain)
{
	return journal_next_seq(drain->journal) - 1 > drain_stored_seq(drain);
}

int drain_run(struct drain *drain)
{
	int r;

	do {
		r = pass(drain);
	} while (r == 0 && journal_used(drain->journal) > 0);
	return r;
}

/* ---- The thread ---- */

static void take_sample(struct drain *drain)
{
	int64_t now_ms = clock_now_ms();

	if (now_ms - drain->samples[drain->newest].at_ms < SAMPLE_MS)
		return;
	drain->newest = (drain->newest + 1) % SAMPLES;
	drain->samples[drain->newest] = (struct sample){ now_ms, journal_next_seq(drain->journal) };
}

const char *drain_reason(const struct drain *drain, int error)
{
	switch (error) {
	case -EBADMSG:
		return "the database is damaged; the next mount sets it aside";
	case -ENOENT:
		return "events.db was removed or replaced; the next mount makes it anew";
	case -ENOSPC:
		return "its disk is full; make room there";
	case -EDQUOT:
		return store_has_quota(drain->store) ? "log-quota is reached; mount with a larger one" :
						       "the quota of its owner on its disk is reached; make room there";
	case -EBUSY:
		return "another program holds a write transaction on it";
	default:
		return strerror(-error);
	}
}

/* Tell those who wait, and once those who run the program. */
static void report(struct drain *drain, int r)
{
	bool was_failing;

	pthread_mutex_lock(&drain->mutex);
	was_failing = drain->error != 0;
	drain->error = r;
	if (r < 0)
		drain->failed_pass = drain->passes;
	take_sample(drain);
	pthread_cond_broadcast(&drain->progress);
	pthread_mutex_unlock(&drain->mutex);

	/* Another process that writes to the database will end: what waits for room loses nothing. */
	journal_set_error(drain->journal, r == -EBUSY ? 0 : r);
	if (r == -EBUSY && !was_failing)
		log_warning("another program holds a write transaction on the log; changes wait when the journal is full");
	else if (r && !was_failing)
		log_error("cannot write to the log: %s", drain_reason(drain, r));
	if (!r && was_failing)
		log_warning("the log can be written to again");
}

static void tell_gap(struct drain *drain)
{
	if (journal_tell_gap(drain->journal) && drain->on_gap)
		drain->on_gap(drain->userdata);
}

static bool is_full_enough(const struct drain *drain)
{
	return journal_used(drain->journal) > journal_ring_size(drain->journal) / 8;
}

/* Under mutex. */
static bool is_hurried(const struct drain *drain)
{
	return atomic_load(&drain->sleep) == AWAKE || drain->is_stopping;
}

/* Sleep until @until says so or somebody woke us. Under mutex. */
static void sleep_ms(struct drain *drain, int64_t timeout_ms)
{
	int64_t until_ms = clock_now_ms() + timeout_ms;
	struct timespec until = { until_ms / 1000, until_ms % 1000 * 1000000 };

	while (!is_hurried(drain))
		if (pthread_cond_timedwait(&drain->wake, &drain->mutex, &until) == ETIMEDOUT)
			break;
}

static void sleep_idle(struct drain *drain)
{
	atomic_store(&drain->sleep, IDLE);
	while (!is_hurried(drain) && !drain->is_kicked && !has_events(drain))
		pthread_cond_wait(&drain->wake, &drain->mutex);
}

/*
 * Until nothing more has come for a while: who makes the changes then has all of the machine for it. A drain every 50 ms beside a
 * program that writes delayed it by two to five times what the drain itself took (docs/performance.md). Under mutex, but for the
 * making of pages.
 */
static void gather(struct drain *drain)
{
	int64_t end_ms = clock_now_ms() + GATHER_MS;
	uint64_t next;

	do {
		next = journal_next_seq(drain->journal);
		sleep_ms(drain, LOOK_MS);
		if (is_hurried(drain))
			break;
		pthread_mutex_unlock(&drain->mutex);
		journal_prefault(drain->journal);
		pthread_mutex_lock(&drain->mutex);
	} while (!is_hurried(drain) && journal_next_seq(drain->journal) != next && clock_now_ms() < end_ms);
}

/*
 * Wait for work; then, unless somebody is in a hurry, for more of it. Returns false when it is
 * time to stop.
 */
static bool wait_for_work(struct drain *drain, bool is_idle)
{
	bool goes_on;

	pthread_mutex_lock(&drain->mutex);
	if (is_idle)
		sleep_idle(drain);
	atomic_store(&drain->sleep, GATHERING);
	if (!drain->is_kicked && !is_full_enough(drain))
		gather(drain);
	atomic_store(&drain->sleep, AWAKE);
	drain->is_kicked = false;
	goes_on = !drain->is_stopping;
	pthread_mutex_unlock(&drain->mutex);
	return goes_on;
}

/* After a failure nothing but the time, or the end, wakes it. */
static void wait_for_retry(struct drain *drain)
{
	int64_t until_ms = clock_now_ms() + RETRY_MS;
	struct timespec until = { until_ms / 1000, until_ms % 1000 * 1000000 };

	pthread_mutex_lock(&drain->mutex);
	while (!drain->is_stopping)
		if (pthread_cond_timedwait(&drain->wake, &drain->mutex, &until) == ETIMEDOUT)
			break;
	pthread_mutex_unlock(&drain->mutex);
}

static void count_pass(struct drain *drain)
{
	pthread_mutex_lock(&drain->mutex);
	drain->passes++;
	pthread_mutex_unlock(&drain->mutex);
}

static void *drain_main(void *argument)
{
	struct drain *drain = argument;
	int quiet_looks = 0;

	while (wait_for_work(drain, quiet_looks >= IDLE_LOOKS)) {
		int r;

		quiet_looks = has_events(drain) || journal_lost(drain->journal) ? 0 : quiet_looks + 1;
		do {
			count_pass(drain);
			r = pass(drain);
			report(drain, r);
			tell_gap(drain);
			if (r < 0)
				wait_for_retry(drain);
		} while (r == 0 && is_full_enough(drain));
		if (r < 0)
			quiet_looks = 0;
	}
	return NULL;
}

int drain_start(struct drain *drain)
{
	int r = pthread_create(&drain->thread, NULL, drain_main, drain);

	if (r)
		return -r;
	drain->is_running = true;
	return 0;
}

void drain_stop(struct drain *drain)
{
	if (!drain->is_running)
		return;
	pthread_mutex_lock(&drain->mutex);
	drain->is_stopping = true;
	pthread_cond_signal(&drain->wake);
	pthread_mutex_unlock(&drain->mutex);
	pthread_join(drain->thread, NULL);
	drain->is_running = false;
	drain->is_stopping = false;
}

/* ---- From other threads ---- */

void drain_notice(struct drain *drain, uint64_t used)
{
	enum sleep_state sleep = atomic_load(&drain->sleep);

	if (sleep == AWAKE || (sleep == GATHERING && used <= journal_ring_size(drain->journal) / 8))
		return;
	/* Of many appenders one makes the call. */
	if (atomic_exchange(&drain->sleep, AWAKE) == AWAKE)
		return;
	pthread_mutex_lock(&drain->mutex);
	pthread_cond_signal(&drain->wake);
	pthread_mutex_unlock(&drain->mutex);
}

static void kick_locked(struct drain *drain)
{
	drain->is_kicked = true;
	atomic_store(&drain->sleep, AWAKE);
	pthread_cond_signal(&drain->wake);
}

void drain_kick(struct drain *drain)
{
	pthread_mutex_lock(&drain->mutex);
	kick_locked(drain);
	pthread_mutex_unlock(&drain->mutex);
}

int drain_flush(struct drain *drain, uint64_t seq)
{
	uint64_t passes;
	int r;

	pthread_mutex_lock(&drain->mutex);
	/* One that was under way, or had failed, says nothing of now. */
	passes = drain->passes;
	while (drain_stored_seq(drain) < seq && !(drain->error && drain->failed_pass > passes)) {
		kick_locked(drain);
		pthread_cond_wait(&drain->progress, &drain->mutex);
	}
	r = drain_stored_seq(drain) < seq ? drain->error : 0;
	pthread_mutex_unlock(&drain->mutex);
	return r;
}

uint64_t drain_stored_seq(const struct drain *drain)
{
	return atomic_load(&drain->stored_seq);
}

uint64_t drain_oldest_seq(const struct drain *drain)
{
	return atomic_load(&drain->oldest_seq);
}

void drain_raise_oldest(struct drain *drain, uint64_t seq)
{
	uint64_t old = atomic_load(&drain->oldest_seq);

	while (old < seq && !atomic_compare_exchange_weak(&drain->oldest_seq, &old, seq))
		;
}

int drain_error(struct drain *drain)
{
	int error;

	pthread_mutex_lock(&drain->mutex);
	error = drain->error;
	pthread_mutex_unlock(&drain->mutex);
	return error;
}

/*
 * The oldest sample that is not older than the span; when all are, the newest: it has been quiet
 * since. Under mutex.
 */
static struct sample rate_base(const struct drain *drain, int64_t now_ms)
{
	struct sample base = drain->samples[drain->newest];

	for (int i = 0; i < SAMPLES; i++) {
		struct sample sample = drain->samples[i];

		if (sample.at_ms > 0 && now_ms - sample.at_ms <= RATE_MS &&
		    sample.at_ms < base.at_ms)
			base = sample;
	}
	return base;
}

double drain_rate(struct drain *drain)
{
	int64_t now_ms = clock_now_ms();
	struct sample base;

	pthread_mutex_lock(&drain->mutex);
	base = rate_base(drain, now_ms);
	take_sample(drain);
	pthread_mutex_unlock(&drain->mutex);
	if (now_ms <= base.at_ms)
		return 0;
	return (journal_next_seq(drain->journal) - base.seq) * 1000.0 / (now_ms - base.at_ms);
}
