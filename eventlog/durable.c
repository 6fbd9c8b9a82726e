/*
 * Durable: what of the log has been promised to be on stable storage, and keeping that promise.
 *
 * An event is in the journal, and from some time on in the store, too; some time later its room in
 * the journal is written over. The two sides do, each in this order and sequentially consistent:
 *
 *     durable_sync()                           the drain
 *     a  promised = the last event             1  COMMIT
 *     b  fdatasync(journal)                    2  stored = the last event committed   } durable_stored()
 *     c  look at stored; fdatasync(WAL) if     3  look at promised; fdatasync(WAL) if }
 *        it is more than is durable there         something promised is not durable   }
 *                                              4  release the room
 *
 * If 3 sees the promise, the room is released only when the WAL is durable, so b found the event
 * in the journal or the WAL has it. If 3 does not see it, 3 came before a, hence 2 before c: c
 * sees what was stored and syncs it. Either way every promised event is, at every instant, durable
 * in the journal or in the WAL. SQLite itself syncs the WAL before a checkpoint and the database
 * before it starts the WAL anew.
 *
 * A sync that fails is the last word on what it was to write: the kernel takes the pages for clean, tells of the error once for each
 * descriptor, and answers the next sync with 0. So what a failed sync may have lost counts as lost until it is durable elsewhere:
 *
 *     journal    Every event up to the last at the time of the failure; what comes later makes its pages dirty again. The
 *                drain brings them to the store: they are durable when stored_durable has come that far.
 *     store      The WAL as a whole is suspect, and is not believed until all of it has been copied to the database and it
 *                begins anew. Only the drain may do that: durable_stored().
 *
 * Until then every sync that needs them fails with the first error. One descriptor is asked for each file, open since before anything
 * was written to it, and by one thread at a time: else the error could be told to somebody else.
 */
#include "eventlog/durable.h"

#include "eventlog/journal.h"
#include "eventlog/store.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

struct durable {
	struct journal *journal; /* borrowed */
	struct store *store;     /* borrowed; its WAL may be emptied by the drain only */
	int state_fd;            /* borrowed */

	_Atomic uint64_t promised;
	_Atomic uint64_t stored;         /* last event committed in the store */
	_Atomic uint64_t stored_durable; /* last event that is durable there */

	pthread_mutex_t store_mutex; /* held while the store is synced: who waits for it wants just that */
	bool is_folder_synced;       /* the names of the files are durable; under store_mutex */
	int store_error;             /* of the sync since which the WAL is suspect, or 0; under store_mutex */

	uint64_t journal_failed_seq; /* last event that a failed sync may have lost; 0: none; the leader's */
	int journal_error;           /* of that sync; the leader's */

	pthread_mutex_t mutex;
	pthread_cond_t finished;
	uint64_t synced; /* last event that is durable; under mutex */
	bool is_syncing; /* a thread syncs, the leader; under mutex */
};

int durable_create(struct journal *journal, struct store *store, int state_fd,
		   uint64_t stored_seq, struct durable **out)
{
	struct durable *durable = calloc(1, sizeof(*durable));

	if (!durable)
		return -ENOMEM;
	durable->journal = journal;
	durable->store = store;
	durable->state_fd = state_fd;
	durable->stored = stored_seq;
	pthread_mutex_init(&durable->store_mutex, NULL);
	pthread_mutex_init(&durable->mutex, NULL);
	pthread_cond_init(&durable->finished, NULL);
	*out = durable;
	return 0;
}

void durable_destroy(struct durable *durable)
{
	if (!durable)
		return;
	pthread_mutex_destroy(&durable->store_mutex);
	pthread_mutex_destroy(&durable->mutex);
	pthread_cond_destroy(&durable->finished);
	free(durable);
}

static void raise_to(_Atomic uint64_t *number, uint64_t value)
{
	uint64_t old = atomic_load(number);

	while (old < value && !atomic_compare_exchange_weak(number, &old, value))
		;
}

/*
 * SQLite makes the WAL with its first write and keeps it until the last connection is closed. A file system that cannot write a
 * folder goes on failing. Under store_mutex.
 */
static int sync_folder(struct durable *durable)
{
	if (durable->is_folder_synced)
		return 0;
	if (fsync(durable->state_fd) < 0)
		return -errno;
	durable->is_folder_synced = true;
	return 0;
}

/* Under store_mutex. */
static int sync_files(struct durable *durable, bool may_mend)
{
	int r;

	if (durable->store_error && (!may_mend || store_empty_wal(durable->store) < 0))
		return durable->store_error;
	durable->store_error = 0;
	r = store_sync(durable->store);
	if (r == 0)
		r = sync_folder(durable);
	durable->store_error = r;
	return r;
}

/* @may_mend: the caller is the drain. */
static int sync_store(struct durable *durable, bool may_mend)
{
	uint64_t stored;
	int r = 0;

	pthread_mutex_lock(&durable->store_mutex);
	stored = atomic_load(&durable->stored);
	if (stored > atomic_load(&durable->stored_durable))
		r = sync_files(durable, may_mend);
	if (r == 0)
		raise_to(&durable->stored_durable, stored);
	pthread_mutex_unlock(&durable->store_mutex);
	return r;
}

/* The leader only. */
static void sync_journal(struct durable *durable)
{
	int r = journal_sync(durable->journal);

	if (r == 0)
		return;
	durable->journal_error = r;
	/* An event that is half written may be on a page that is clean now. */
	durable->journal_failed_seq = journal_whole_seq(durable->journal);
	/* So that the drain syncs what it stores. */
	raise_to(&durable->promised, durable->journal_failed_seq);
}

static int sync_all(struct durable *durable, uint64_t seq)
{
	int r;

	raise_to(&durable->promised, seq);
	sync_journal(durable);
	r = sync_store(durable, false);
	if (r < 0)
		return r;
	return durable->journal_failed_seq > atomic_load(&durable->stored_durable) ? durable->journal_error : 0;
}

/* Sync for everybody who has come by now. Holds the mutex on entry and return, not in between. */
static int lead(struct durable *durable)
{
	uint64_t seq;
	int r;

	durable->is_syncing = true;
	pthread_mutex_unlock(&durable->mutex);
	seq = journal_next_seq(durable->journal) - 1;
	r = sync_all(durable, seq);
	pthread_mutex_lock(&durable->mutex);
	durable->is_syncing = false;
	if (r == 0 && seq > durable->synced)
		durable->synced = seq;
	pthread_cond_broadcast(&durable->finished);
	return r;
}

int durable_sync(struct durable *durable, uint64_t seq)
{
	int r = 0;

	pthread_mutex_lock(&durable->mutex);
	while (r == 0 && durable->synced < seq) {
		if (durable->is_syncing)
			pthread_cond_wait(&durable->finished, &durable->mutex);
		else
			r = lead(durable);
	}
	pthread_mutex_unlock(&durable->mutex);
	return r;
}

int durable_stored(struct durable *durable, uint64_t seq)
{
	atomic_store(&durable->stored, seq);
	if (atomic_load(&durable->promised) <= atomic_load(&durable->stored_durable))
		return 0;
	return sync_store(durable, true);
}

int durable_finish(struct durable *durable)
{
	return sync_store(durable, true);
}
