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
	struct journal *journal;   /* borrowed */
	const struct store *store; /* borrowed */
	int state_fd;              /* borrowed */

	_Atomic uint64_t promised;
	_Atomic uint64_t stored;         /* last event committed in the store */
	_Atomic uint64_t stored_durable; /* last event that is durable there */
	atomic_bool is_folder_synced;    /* the names of the files are durable */

	pthread_mutex_t mutex;
	pthread_cond_t finished;
	uint64_t synced; /* last event that is durable; under mutex */
	bool is_syncing; /* a thread syncs; under mutex */
};

int durable_create(struct journal *journal, const struct store *store, int state_fd,
		   uint64_t stored_seq, struct durable **out)
{
	struct durable *durable = calloc(1, sizeof(*durable));

	if (!durable)
		return -ENOMEM;
	durable->journal = journal;
	durable->store = store;
	durable->state_fd = state_fd;
	durable->stored = stored_seq;
	pthread_mutex_init(&durable->mutex, NULL);
	pthread_cond_init(&durable->finished, NULL);
	*out = durable;
	return 0;
}

void durable_destroy(struct durable *durable)
{
	if (!durable)
		return;
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

static int sync_store(struct durable *durable)
{
	uint64_t stored = atomic_load(&durable->stored);
	int r;

	if (stored <= atomic_load(&durable->stored_durable))
		return 0;
	r = store_sync(durable->store);
	if (r < 0)
		return r;
	/*
	 * SQLite makes the WAL with its first write and keeps it until the last connection is
	 * closed.
	 */
	if (!atomic_load(&durable->is_folder_synced)) {
		if (fsync(durable->state_fd) < 0)
			return -errno;
		atomic_store(&durable->is_folder_synced, true);
	}
	raise_to(&durable->stored_durable, stored);
	return 0;
}

static int sync_all(struct durable *durable, uint64_t seq)
{
	int r;

	raise_to(&durable->promised, seq);
	r = journal_sync(durable->journal);
	return r < 0 ? r : sync_store(durable);
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
	return sync_store(durable);
}
