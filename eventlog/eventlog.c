/*
 * Event log: the door to the journal and the store.
 *
 * Opening: the lock; the store and the journal, either of which makes the other anew when it is
 * missing, with the same log id; recovery of the journal from where the store ends; draining what
 * is left. Only then may anybody write. When either of the two is damaged, both are set aside: numbers of a log whose end is
 * not known must not be given out again, so what follows is another log.
 *
 * Committing makes no system call: the reader's eventfd is written only after it said that it
 * sleeps, the drain is woken only when it sleeps and there is enough to do.
 */
#include "eventlog/eventlog.h"

#include "base/log.h"
#include "base/fdutil.h"
#include "base/scope.h"
#include "eventlog/aside.h"
#include "eventlog/cursor.h"
#include "eventlog/drain.h"
#include "eventlog/durable.h"
#include "eventlog/intent.h"
#include "eventlog/journal.h"
#include "eventlog/store.h"
#include "eventlog/store_reader.h"
#include "proto/event.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/random.h>

/* Who has a slot. */
enum slot_use { SLOT_UNUSED, SLOT_WRITER, SLOT_ORPHAN };

struct writer {
	struct eventlog *log;
	struct intent *intent;
	uint64_t request;
	bool has_begun; /* and has neither committed nor rolled back */
	size_t room;    /* set aside by that begin; 0: the change will be lost */
	unsigned index;
	atomic_ulong turn; /* counts requests, from 1 */
};

struct slot {
	enum slot_use use; /* under the log's mutex */
	struct writer writer;
	struct orphan orphan;
	struct event event; /* the orphan's */
};

struct eventlog {
	int lock_fd;      /* owned; its lock dies with the process */
	int news_fd;      /* owned */
	char *state_path; /* owned */
	char *name;       /* owned: of the state folder, in messages */
	enum eventlog_durability durability;
	enum eventlog_on_full on_full;
	uint64_t quota;     /* 0: none */
	bool was_set_aside; /* what this log replaces */
	bool is_successor;  /* of a user that was only killed */
	struct store *store;
	struct journal *journal;
	struct durable *durable;
	struct drain *drain;
	bool is_started;
	int found_error; /* what kept the store from being written to when it was opened; 0: nothing */

	atomic_bool is_armed;           /* the reader wants a write to news_fd */
	pthread_mutex_t deliver_mutex;  /* held while deliver is called; guards both */
	eventlog_deliver_fn deliver;
	void *deliver_userdata;
	atomic_bool has_failed_to_sync; /* has been said; until it works again */

	pthread_mutex_t mutex; /* not on the road of a change */
	struct slot slots[EVENTLOG_WRITERS_MAX];
};

static void tell_reader(void *userdata);

/* ---- Opening ---- */

static void close_files(struct eventlog *log);

static void free_log(struct eventlog *log)
{
	close_files(log);
	free(log->state_path);
	free(log->name);
	closep(&log->news_fd);
	closep(&log->lock_fd);
	pthread_mutex_destroy(&log->mutex);
	free(log);
}

static void free_logp(struct eventlog **log)
{
	if (*log)
		free_log(*log);
}

static int alloc_log(const struct eventlog_options *options, struct eventlog **out)
{
	scoped(free_logp) struct eventlog *log = calloc(1, sizeof(*log));

	if (!log)
		return -ENOMEM;
	log->lock_fd = -1;
	log->news_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	log->durability = options->durability;
	log->on_full = options->on_full;
	log->quota = options->quota;
	log->is_successor = options->is_successor;
	pthread_mutex_init(&log->mutex, NULL);
	pthread_mutex_init(&log->deliver_mutex, NULL);
	if (log->news_fd < 0)
		return -errno;
	log->state_path = strdup(options->state_path);
	log->name = strdup(options->name ? options->name : options->state_path);
	if (!log->state_path || !log->name)
		return -ENOMEM;
	*out = take(log);
	return 0;
}

static int take_lock(int state_fd, int *out_fd)
{
	scoped(closep) int fd = fd_open_own(state_fd, "lock", O_RDWR | O_CREAT);

	if (fd < 0)
		return fd;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? -EBUSY : -errno;
	/* What eventlog_say_ending() of the process before has left. */
	(void)!ftruncate(fd, 0);
	*out_fd = take_fd(fd);
	return 0;
}

static int make_id(char id[EVENTLOG_ID_SIZE])
{
	unsigned char b[16];

	if (getrandom(b, sizeof(b), 0) != sizeof(b))
		return -errno;
	/* RFC 4122: version 4, variant 1. */
	b[6] = (b[6] & 0x0f) | 0x40;
	b[8] = (b[8] & 0x3f) | 0x80;
	snprintf(id, EVENTLOG_ID_SIZE,
		 "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1],
		 b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14],
		 b[15]);
	return 0;
}

/* The wanted size of the ring differs: only an empty journal can be replaced. */
static bool should_replace(const struct journal *journal, size_t size)
{
	return size != 0 && journal_is_clean(journal) && journal_is_empty(journal) &&
	       (journal_ring_size(journal) < size || journal_ring_size(journal) - size >= 65536);
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* The database gets three quarters of a quota, more when the journal's usual size is less, and of a small one what it needs. */
static size_t wanted_journal_size(const struct eventlog_options *options)
{
	uint64_t size, most;

	if (options->journal_size != 0 || options->quota == 0)
		return options->journal_size;
	most = journal_ring_within(options->quota > EVENTLOG_STORE_MIN ? options->quota - EVENTLOG_STORE_MIN : 0);
	size = smaller(smaller(options->quota / 4, most), JOURNAL_RING_USUAL);
	return size < JOURNAL_RING_MIN ? JOURNAL_RING_MIN : size;
}

/* Those that the journal still has come back by recovery. */
static void tell_what_is_gone(const struct eventlog *log)
{
	uint64_t last = journal_drained_seq(log->journal);

	if (store_is_new(log->store) && last > 0)
		log_warning("events.db in %s is missing or empty, and made anew: events up to %llu are gone", log->name,
			    (unsigned long long)last);
}

/* Either file knows the log's id when the other is gone. */
static int open_files(struct eventlog *log, const struct eventlog_options *options,
		      struct eventlog_found *found)
{
	char id[EVENTLOG_ID_SIZE];
	int r = make_id(id);

	if (r < 0)
		return r;
	r = journal_open(options->state_fd, &log->journal);
	if (r == -EBADMSG && store_probe(log->state_path) == -EPROTO)
		return -EPROTO;
	if (r < 0 && r != -ENOENT)
		return r;
	r = store_open(log->state_path, log->journal ? journal_log_id(log->journal) : id,
		       &log->store);
	if (r < 0)
		return r;
	found->is_new = store_is_new(log->store) && !log->journal;
	/* Nobody knows what a journal held that is gone. */
	found->was_unclean = !log->journal && !found->is_new;
	if (!log->journal)
		return journal_create(options->state_fd, store_log_id(log->store),
				      wanted_journal_size(options), &log->journal);

	found->was_unclean = !journal_is_clean(log->journal) || store_is_new(log->store);
	if (strcmp(journal_log_id(log->journal), store_log_id(log->store)) != 0)
		return -EBADMSG;
	tell_what_is_gone(log);
	return 0;
}

/*
 * With the state of the old journal taken over by the store, a new one of the wanted size starts
 * empty.
 */
static int replace_journal(struct eventlog *log, const struct eventlog_options *options)
{
	size_t size = wanted_journal_size(options);

	if (!should_replace(log->journal, size))
		return 0;
	if (journal_drained_seq(log->journal) > store_last_seq(log->store))
		return 0;
	journal_close(log->journal);
	log->journal = NULL;
	return journal_create(options->state_fd, store_log_id(log->store), size, &log->journal);
}

/*
 * The last event that is, or has been, in the store. When the database is gone, the journal knows
 * which numbers it had. After a power loss the journal may also say more than the database has
 * kept; what the ring still holds of that is wanted, so the database decides.
 */
static uint64_t last_stored(const struct eventlog *log)
{
	uint64_t stored = store_last_seq(log->store);
	uint64_t drained = journal_drained_seq(log->journal);
	bool knows_better = store_is_new(log->store) || journal_is_clean(log->journal);

	return knows_better && drained > stored ? drained : stored;
}

static void collect_orphans(struct eventlog *log)
{
	for (unsigned i = 0; i < EVENTLOG_WRITERS_MAX; i++) {
		struct slot *slot = &log->slots[i];
		struct intent *intent = journal_intent(log->journal, i);

		if (intent_read(intent, &slot->event, &slot->orphan))
			slot->use = SLOT_ORPHAN;
		else
			intent_clear(intent);
	}
}

static bool is_full(int error)
{
	return error == -ENOSPC || error == -EDQUOT;
}

static int recover(struct eventlog *log, int state_fd, bool is_coherent, struct eventlog_found *found)
{
	uint64_t stored = last_stored(log);
	uint64_t appended = journal_last_seq(log->journal);
	int64_t stored_ns;
	int r = store_last_time(log->store, &stored_ns);

	if (r < 0)
		return r;
	r = journal_recover(log->journal, stored, stored_ns, is_coherent);
	if (r < 0)
		return r;
	found->recovered = journal_next_seq(log->journal) - 1 - stored;
	if (appended >= journal_next_seq(log->journal))
		log_warning("the log ends at %llu: the last %llu events had not reached the disk "
			    "when the power failed",
			    (unsigned long long)journal_next_seq(log->journal) - 1,
			    (unsigned long long)(appended - journal_next_seq(log->journal) + 1));
	collect_orphans(log);
	r = durable_create(log->journal, log->store, state_fd, stored, &log->durable);
	if (r < 0)
		return r;
	r = drain_create(log->journal, log->store, log->durable, stored, &log->drain);
	if (r < 0)
		return r;
	drain_on_gap(log->drain, tell_reader, log);
	r = drain_run(log->drain);
	if (r == 0)
		journal_tell_gap(log->journal);
	if (!is_full(r) && r != -EBUSY)
		return r;
	/* A full disk or a busy database can wait: the events are safe where they are. */
	log->found_error = r;
	found->is_full = is_full(r);
	if (found->is_full)
		journal_set_error(log->journal, r);
	return 0;
}

static int set_quota(struct eventlog *log)
{
	uint64_t journal_size = journal_file_size(log->journal);

	if (log->quota == 0)
		return 0;
	if (log->quota < journal_size + EVENTLOG_STORE_MIN)
		return -ERANGE;
	store_set_quota(log->store, log->quota - journal_size);
	return 0;
}

static int open_log(struct eventlog *log, const struct eventlog_options *options,
		    struct eventlog_found *found)
{
	int r = open_files(log, options, found);

	if (r == 0)
		r = replace_journal(log, options);
	if (r == 0)
		r = set_quota(log);
	if (r == 0)
		r = recover(log, options->state_fd, options->is_successor, found);
	return r;
}

static void close_files(struct eventlog *log)
{
	drain_destroy(log->drain);
	durable_destroy(log->durable);
	store_close(log->store);
	journal_close(log->journal);
	log->drain = NULL;
	log->durable = NULL;
	log->store = NULL;
	log->journal = NULL;
	memset(log->slots, 0, sizeof(log->slots));
}

static int replace_damaged(struct eventlog *log, const struct eventlog_options *options,
			   struct eventlog_found *found)
{
	char suffix[ASIDE_SUFFIX_SIZE];
	int r;

	close_files(log);
	r = aside_set(options->state_fd, suffix);
	if (r < 0)
		return r;
	log_warning("the log in %s was damaged: its files were renamed to *%s, and a new log begins", log->name, suffix);
	log->was_set_aside = true;
	*found = (struct eventlog_found){ 0 };
	r = open_log(log, options, found);
	found->was_set_aside = true;
	found->was_unclean = true;
	return r;
}

int eventlog_open(const struct eventlog_options *options, struct eventlog **out,
		  struct eventlog_found *out_found)
{
	scoped(free_logp) struct eventlog *log = NULL;
	struct eventlog_found found = { 0 };
	int r;

	r = alloc_log(options, &log);
	if (r < 0)
		return r;
	r = take_lock(options->state_fd, &log->lock_fd);
	if (r < 0)
		return r;
	r = open_log(log, options, &found);
	if (r == -EBADMSG)
		r = replace_damaged(log, options, &found);
	if (r < 0)
		return r;
	*out = take(log);
	*out_found = found;
	return 0;
}

int eventlog_start(struct eventlog *log)
{
	int r = drain_start(log->drain);

	if (r == 0)
		log->is_started = true;
	return r;
}

/*
 * The journal's header is believed by the next open, after a reboot, too; so the store must not
 * lose what it says is there.
 */
static int finish_files(struct eventlog *log)
{
	int drained = drain_run(log->drain);
	bool is_known = drain_error(log->drain) || log->found_error;
	int r = durable_finish(log->durable);

	store_close(log->store);
	log->store = NULL;
	if (r == 0)
		r = journal_mark_clean(log->journal);
	/* Events that wait in the journal for room are in the log; that there is none has been said. */
	return r < 0 || (is_full(drained) && is_known) ? r : drained;
}

void eventlog_say_ending(struct eventlog *log)
{
	static const char text[] = "ending\n";

	/* Without room who waits has less patience. */
	(void)pwrite(log->lock_fd, text, sizeof(text) - 1, 0);
}

void eventlog_close(struct eventlog *log)
{
	int r;

	if (!log)
		return;
	drain_stop(log->drain);
	r = finish_files(log);
	if (r < 0)
		log_error("the log was not closed cleanly: %s", strerror(-r));
	free_log(log);
}

/* ---- Writing ---- */

/* Under the log's mutex: who looks at all slots finds them whole. */
static struct writer *claim_slot(struct eventlog *log)
{
	for (unsigned i = 0; i < EVENTLOG_WRITERS_MAX; i++) {
		struct slot *slot = &log->slots[i];

		if (slot->use != SLOT_UNUSED)
			continue;
		slot->use = SLOT_WRITER;
		slot->writer = (struct writer){
			.log = log,
			.intent = journal_intent(log->journal, i),
			.index = i,
			.turn = 1,
		};
		return &slot->writer;
	}
	return NULL;
}

static void free_slot(struct eventlog *log, unsigned index)
{
	pthread_mutex_lock(&log->mutex);
	intent_clear(journal_intent(log->journal, index));
	log->slots[index].use = SLOT_UNUSED;
	pthread_mutex_unlock(&log->mutex);
}

int writer_open(struct eventlog *log, struct writer **out)
{
	struct writer *writer;

	pthread_mutex_lock(&log->mutex);
	writer = claim_slot(log);
	pthread_mutex_unlock(&log->mutex);
	if (!writer)
		return -EAGAIN;
	*out = writer;
	return 0;
}

void writer_close(struct writer *writer)
{
	if (!writer)
		return;
	if (writer->has_begun)
		writer_rollback(writer);
	free_slot(writer->log, writer->index);
}

/* What tells of something that happened before anybody asked. */
static bool cannot_be_refused(const struct event *event)
{
	return event->op == EVENT_CLOSE || event->op == EVENT_UNMOUNTED || event->origin == EVENT_MMAP;
}

static int reserve(struct eventlog *log, const struct event *event, size_t room)
{
	enum journal_room kind = cannot_be_refused(event) ? JOURNAL_LAST_ROOM : JOURNAL_ANY_ROOM;
	int r = journal_reserve(log->journal, room, kind);

	if (r == 0)
		return 0;
	if (journal_tell_gap(log->journal))
		tell_reader(log);
	if (r == JOURNAL_FULL)
		drain_kick(log->drain);
	return journal_reserve_wait(log->journal, room, kind);
}

/* A note, or what a scan has found, is no change that is about to be made: it can come again. */
static bool can_be_lost(const struct eventlog *log, const struct event *event)
{
	if (cannot_be_refused(event))
		return true;
	return log->on_full == EVENTLOG_GAP && event->op != EVENT_MANUAL && event->origin != EVENT_SCAN;
}

/* Sets *@out_room to 0 when the change is to be made, and will be lost. */
static int reserve_or_lose(struct eventlog *log, const struct event *event, size_t *out_room)
{
	size_t room = journal_room_for(event);
	int r = reserve(log, event, room);

	if (r < 0 && !can_be_lost(log, event))
		return r;
	*out_room = r < 0 ? 0 : room;
	return 0;
}

int writer_begin(struct writer *writer, uint64_t request, unsigned step, const struct event *event)
{
	int r;

	if (writer->has_begun)
		writer_rollback(writer);
	r = reserve_or_lose(writer->log, event, &writer->room);
	if (r < 0)
		return r;
	writer->has_begun = true;
	intent_begin(writer->intent, request, step, event);
	return 0;
}

/* Returns whether the reader had asked to be woken. */
static bool disarm(struct eventlog *log)
{
	return atomic_load(&log->is_armed) && atomic_exchange(&log->is_armed, false);
}

static void wake_reader(struct eventlog *log)
{
	uint64_t one = 1;

	/* It fails only when the counter is full, and then it is readable. */
	if (write(log->news_fd, &one, sizeof(one)) < 0)
		return;
}

static void tell_reader(void *userdata)
{
	struct eventlog *log = userdata;

	if (disarm(log))
		wake_reader(log);
}

static bool is_delivered(struct eventlog *log)
{
	bool is_done;

	pthread_mutex_lock(&log->deliver_mutex);
	is_done = log->deliver && log->deliver(log->deliver_userdata);
	pthread_mutex_unlock(&log->deliver_mutex);
	return is_done;
}

void eventlog_on_news(struct eventlog *log, eventlog_deliver_fn deliver, void *userdata)
{
	pthread_mutex_lock(&log->deliver_mutex);
	log->deliver = deliver;
	log->deliver_userdata = userdata;
	pthread_mutex_unlock(&log->deliver_mutex);
}

/* Who runs the program is told, once. The drain may bring to the database what is lost in the journal. */
static int sync_up_to(struct eventlog *log, uint64_t seq)
{
	int r = durable_sync(log->durable, seq);

	if (r < 0 && !atomic_exchange(&log->has_failed_to_sync, true))
		log_error("cannot bring the log to stable storage: %s; fsync fails until it is there", strerror(-r));
	else if (r == 0 && atomic_load(&log->has_failed_to_sync) && atomic_exchange(&log->has_failed_to_sync, false))
		log_warning("the log is on stable storage again");
	if (r < 0 && log->is_started)
		drain_kick(log->drain);
	return r;
}

static void after_append(struct eventlog *log, uint64_t used, uint64_t seq)
{
	drain_notice(log->drain, used);
	if (disarm(log) && !is_delivered(log))
		wake_reader(log);
	if (log->durability == EVENTLOG_ALWAYS)
		/* The event is in the log, whatever the disk says. */
		(void)sync_up_to(log, seq);
}

static void append(struct eventlog *log, size_t room, struct intent *intent, struct event *event)
{
	uint64_t used = journal_append(log->journal, room, intent, event);

	after_append(log, used, event->seq);
}

static void append_or_lose(struct eventlog *log, size_t room, struct intent *intent,
			   struct event *event)
{
	event->seq = 0;
	if (room > 0)
		append(log, room, intent, event);
	else
		journal_lose(log->journal, intent);
}

void writer_commit(struct writer *writer, struct event *event)
{
	struct eventlog *log = writer->log;
	size_t room = writer->room;

	assert(writer->has_begun);
	writer->has_begun = false;
	/* A gap may have been told since: then this change is not part of it. */
	if (room == 0 && journal_reserve(log->journal, journal_room_for(event), JOURNAL_ANY_ROOM) == 0)
		room = journal_room_for(event);
	append_or_lose(log, room, writer->intent, event);
}

void writer_rollback(struct writer *writer)
{
	assert(writer->has_begun);
	writer->has_begun = false;
	intent_rollback(writer->intent);
	journal_unreserve(writer->log->journal, writer->room);
}

void writer_end(struct writer *writer)
{
	if (writer->has_begun)
		writer_rollback(writer);
	/* Of this thread alone; who waits for the end of a request sees the turn, or the free slot. */
	atomic_store_explicit(&writer->turn, writer->turn + 1, memory_order_release);
	intent_clear(writer->intent);
}

int writer_append(struct writer *writer, struct event *event)
{
	size_t room;
	int r = reserve_or_lose(writer->log, event, &room);

	if (r == 0)
		append_or_lose(writer->log, room, NULL, event);
	return r;
}

int writer_append_at(struct writer *writer, uint64_t seq, struct event *event)
{
	struct eventlog *log = writer->log;
	size_t room = journal_room_for(event);
	uint64_t used;
	int r = reserve(log, event, room);

	if (r < 0)
		return r;
	if (!journal_append_at(log->journal, seq, room, event, &used)) {
		journal_unreserve(log->journal, room);
		return EVENTLOG_OVERTAKEN;
	}
	after_append(log, used, event->seq);
	return EVENTLOG_APPENDED;
}

/* The turn of a slot that is in the middle of a request; 0: it is not. Under the log's mutex. */
static uint64_t turn_of(const struct slot *slot)
{
	uint64_t turn;

	if (slot->use == SLOT_ORPHAN)
		return UINT64_MAX;
	if (slot->use == SLOT_UNUSED)
		return 0;
	turn = atomic_load_explicit(&slot->writer.turn, memory_order_acquire);
	return intent_is_free(slot->writer.intent) ? 0 : turn;
}

void eventlog_note_under_way(struct eventlog *log, struct eventlog_under_way *out)
{
	pthread_mutex_lock(&log->mutex);
	for (unsigned i = 0; i < EVENTLOG_WRITERS_MAX; i++)
		out->turns[i] = turn_of(&log->slots[i]);
	pthread_mutex_unlock(&log->mutex);
}

bool eventlog_have_ended(struct eventlog *log, const struct eventlog_under_way *noted)
{
	bool have_ended = true;

	pthread_mutex_lock(&log->mutex);
	for (unsigned i = 0; i < EVENTLOG_WRITERS_MAX && have_ended; i++)
		have_ended = noted->turns[i] == 0 || turn_of(&log->slots[i]) != noted->turns[i];
	pthread_mutex_unlock(&log->mutex);
	return have_ended;
}

/* ---- What a dead worker left ---- */

struct orphan *eventlog_next_orphan(struct eventlog *log, unsigned *position)
{
	struct orphan *found = NULL;

	pthread_mutex_lock(&log->mutex);
	while (!found && *position < EVENTLOG_WRITERS_MAX) {
		struct slot *slot = &log->slots[(*position)++];

		if (slot->use == SLOT_ORPHAN)
			found = &slot->orphan;
	}
	pthread_mutex_unlock(&log->mutex);
	return found;
}

struct orphan *eventlog_find_orphan(struct eventlog *log, uint64_t request)
{
	struct orphan *orphan = NULL;
	unsigned position = 0;

	if (request == 0)
		return NULL;
	do {
		orphan = eventlog_next_orphan(log, &position);
	} while (orphan && orphan->request != request);
	return orphan;
}

static bool is_same_text(const char *a, size_t a_length, const char *b, size_t b_length)
{
	return a_length == b_length && (a_length == 0 || memcmp(a, b, a_length) == 0);
}

/* What is not known before the change, as the inode number of a new file, does not count. */
static bool is_announced(const struct event *event, const struct event *announced)
{
	return event->op == announced->op && event->pid == announced->pid &&
	       is_same_text(event->path, event->path_length, announced->path, announced->path_length) &&
	       is_same_text(event->to, event->to_length, announced->to, announced->to_length) &&
	       is_same_text(event->name, event->name_length, announced->name, announced->name_length) &&
	       (event->op != EVENT_WRITE || event->offset == announced->offset);
}

int eventlog_has_announced(const struct eventlog *log, const struct orphan *orphan)
{
	const struct eventlog_filter filter = {
		.since_ns = orphan->announced_ns,
		.ops = UINT64_C(1) << orphan->event->op,
		.pid = -1,
	};
	struct eventlog_history *history;
	struct event event;
	int r;

	r = eventlog_history_open(log->state_path, &filter, &history);
	if (r < 0)
		return r;
	while ((r = eventlog_history_next(history, &event)) == 1)
		if (is_announced(&event, orphan->event))
			break;
	eventlog_history_close(history);
	return r;
}

void eventlog_resolve(struct eventlog *log, struct orphan *orphan)
{
	for (unsigned i = 0; i < EVENTLOG_WRITERS_MAX; i++)
		if (&log->slots[i].orphan == orphan)
			free_slot(log, i);
}

/* ---- Reading ---- */

uint64_t eventlog_next_seq(const struct eventlog *log)
{
	return journal_next_seq(log->journal);
}

uint64_t eventlog_oldest_seq(const struct eventlog *log)
{
	return drain_oldest_seq(log->drain);
}

const char *eventlog_id(const struct eventlog *log)
{
	return journal_log_id(log->journal);
}

int eventlog_cursor_open(struct eventlog *log, uint64_t seq, struct eventlog_cursor **out)
{
	return cursor_create(log->journal, log->drain, log->state_path, seq, out);
}

int eventlog_news_fd(const struct eventlog *log)
{
	return log->news_fd;
}

bool eventlog_arm(struct eventlog *log, uint64_t next_seq)
{
	/* Armed first, then looked: a commit in between either is seen here or sees it. */
	atomic_store(&log->is_armed, true);
	if (journal_next_seq(log->journal) <= next_seq)
		return true;
	atomic_store(&log->is_armed, false);
	return false;
}

int eventlog_flush(struct eventlog *log, uint64_t *out_seq)
{
	uint64_t seq = journal_next_seq(log->journal) - 1;
	int r = log->is_started ? drain_flush(log->drain, seq) : drain_run(log->drain);

	if (r == 0)
		*out_seq = seq;
	return r;
}

int eventlog_sync(struct eventlog *log)
{
	if (log->durability == EVENTLOG_PROCESS)
		return 0;
	return sync_up_to(log, journal_next_seq(log->journal) - 1);
}

const char *eventlog_reason(const struct eventlog *log, int error)
{
	int cause = log->is_started ? drain_error(log->drain) : log->found_error;

	return drain_reason(log->drain, cause ? cause : error);
}

void eventlog_stat(struct eventlog *log, struct eventlog_stat *out)
{
	*out = (struct eventlog_stat){
		.oldest_seq = drain_oldest_seq(log->drain),
		.stored_seq = drain_stored_seq(log->drain),
		.next_seq = journal_next_seq(log->journal),
		.journal_size = journal_ring_size(log->journal),
		.journal_used = journal_used(log->journal),
		.store_size = store_size(log->store),
		.events_per_s = drain_rate(log->drain),
		.quota = log->quota,
		.lost = journal_lost(log->journal),
		.was_set_aside = log->was_set_aside,
		.error = drain_error(log->drain),
	};
}
