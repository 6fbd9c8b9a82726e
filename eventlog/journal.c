/*
 * Journal: a mapped file that holds what is under way (intents) and what is not in the store yet
 * (a ring of events).
 *
 * The file, in bytes; numbers are the machine's own, the file is never moved to another:
 *
 *           0  header, one page           struct journal_header
 *        4096  128 intent slots           struct intent, 18,624 bytes each; see intent.c
 *     2387968  ring                       header.ring_size bytes, whole pages
 *
 * In memory the ring is mapped twice, back to back, so that what starts inside the first mapping
 * is contiguous wherever it ends. Positions count bytes since the file was made; position p is at
 * ring + p % ring_size.
 *
 *         head                              tail        frontier
 *     ------|----------------------------------|------------|-------
 *     free  | events the store does not have   | being      | free
 *           |                                  | written    |
 *
 * Each event in the ring is a frame, 8 bytes: its record's size in the low half, the low half of
 * its seq in the high one; then the record of event_encode(), whose checksum makes it recognisable
 * by itself. All sizes are multiples of 8.
 *
 * A kill can come between any two instructions. What has been stored stays, in program order,
 * since it is in the page cache; so it is enough that the file makes sense after every single
 * store:
 *
 *   append   the intent's seq; frontier; frame and record, in free space; tail (8 bytes, release); last_seq; the
 *            intent's word. Before tail the event does not exist and its intent is BEGUN with a seq that the log does not
 *            hold; after it the event exists and the intent counts as DONE.
 *   lose     the intent's number among the lost; lost; the intent's word. What lost counts beyond lost_told is owed a gap.
 *   gap      lost_telling, gap_seq; an append; lost_told; gap_seq = 0. With gap_seq set, the gap has been told if it is in the ring.
 *   release  drained_seq, then head, after the store has committed. A head that lags shows events that the store has
 *            already: recovery skips them by seq.
 *
 * An eighth of the ring is for what cannot be refused any more (LAST_ROOM). While a gap is owed nothing else
 * is appended but what has its room already; so the gap stands where logging goes on, and one gap tells of all that
 * was lost before.
 *
 * Locks and reservations are in private memory: they die with their holders.
 *
 * A power loss keeps any mixture of old and new pages. Recovery believes only what it can check:
 * see journal_recover.c. What journal_sync() has promised is there; how that promise is kept when
 * room is used again is in durable.c.
 *
 * Readers copy without a lock. The appender stores frontier before it writes over anything, and
 * writes with release stores; a reader copies with acquire loads and looks at frontier afterwards:
 * had it seen one byte of the new contents, it would see the new frontier, too, and throw the copy
 * away. So the ring serves the last ring_size bytes of events, not only those that are not stored.
 */
#include "eventlog/journal.h"

#include "base/bytes.h"
#include "base/fdutil.h"
#include "base/scope.h"
#include "eventlog/intent.h"
#include "eventlog/journal_file.h"
#include "proto/event.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

static const char file_name[] = "journal";
static const char new_name[] = "journal.new";

enum {
	PREFAULT_FACTOR = 4,     /* of what came since the last time */
	PREFAULT_MIN = 64 << 10, /* bytes; a program that saves a file now and then needs no page ahead */
	PREFAULT_MAX = 8 << 20,  /* bytes; nor a storm more than that */
};

void journal_close(struct journal *journal)
{
	if (!journal)
		return;
	if (journal->header)
		munmap(journal->header, journal->mapped_size);
	closep(&journal->fd);
	pthread_mutex_destroy(&journal->mutex);
	pthread_cond_destroy(&journal->room);
	free(journal->scratch);
	free(journal);
}

void journal_closep(struct journal **journal)
{
	journal_close(*journal);
}

/* Takes @fd over, also when it fails. */
static int journal_alloc(int fd, bool is_readonly, struct journal **out)
{
	struct journal *journal = calloc(1, sizeof(*journal));
	pthread_mutexattr_t attributes;

	if (!journal) {
		close(fd);
		return -ENOMEM;
	}
	journal->fd = fd;
	journal->is_readonly = is_readonly;
	pthread_cond_init(&journal->room, NULL);
	/* It is held for about 100 ns: spinning beats sleeping. */
	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ADAPTIVE_NP);
	pthread_mutex_init(&journal->mutex, &attributes);
	pthread_mutexattr_destroy(&attributes);
	*out = journal;
	return 0;
}

static int map_at(struct journal *journal, char *address, size_t size, off_t offset)
{
	int protection = journal->is_readonly ? PROT_READ : PROT_READ | PROT_WRITE;

	if (mmap(address, size, protection, MAP_SHARED | MAP_FIXED, journal->fd, offset) ==
	    MAP_FAILED)
		return -errno;
	return 0;
}

static int map_file(struct journal *journal, size_t ring_size)
{
	size_t once = JOURNAL_RING_OFFSET + ring_size;
	size_t size = once + ring_size;
	char *base =
		mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	int r;

	if (base == MAP_FAILED)
		return -errno;
	journal->header = (struct journal_header *)base;
	journal->mapped_size = size;
	journal->intents = (struct intent *)(base + JOURNAL_HEADER_SIZE);
	journal->ring = base + JOURNAL_RING_OFFSET;
	journal->ring_size = ring_size;
	r = map_at(journal, base, once, 0);
	if (r < 0)
		return r;
	return map_at(journal, base + once, ring_size, JOURNAL_RING_OFFSET);
}

static size_t choose_ring_size(int dir_fd, size_t wanted)
{
	size_t page = sysconf(_SC_PAGESIZE);
	struct statvfs disk;

	if (wanted == 0) {
		wanted = JOURNAL_RING_USUAL;
		if (fstatvfs(dir_fd, &disk) == 0 && disk.f_bavail * disk.f_frsize / 16 < wanted)
			wanted = disk.f_bavail * disk.f_frsize / 16;
	}
	if (wanted < JOURNAL_RING_MIN)
		wanted = JOURNAL_RING_MIN;
	if (wanted > JOURNAL_RING_MAX)
		wanted = JOURNAL_RING_MAX;
	return (wanted + page - 1) / page * page;
}

/* Every byte is allocated now: a store into a hole of a full disk would be SIGBUS. */
static int create_file(int dir_fd, size_t ring_size, struct journal **out)
{
	scoped(journal_closep) struct journal *journal = NULL;
	int fd, r;

	/* What an earlier attempt has left, or somebody has put there, is not written to. */
	if (unlinkat(dir_fd, new_name, 0) < 0 && errno != ENOENT)
		return -errno;
	fd = fd_open_own(dir_fd, new_name, O_RDWR | O_CREAT | O_EXCL);
	if (fd < 0)
		return fd;
	r = journal_alloc(fd, false, &journal);
	if (r < 0)
		return r;
	r = -posix_fallocate(fd, 0, JOURNAL_RING_OFFSET + ring_size);
	if (r < 0)
		return r;
	r = map_file(journal, ring_size);
	if (r < 0)
		return r;
	*out = take(journal);
	return 0;
}

static int give_name(struct journal *journal, int dir_fd)
{
	int r = journal_sync(journal);

	if (r < 0)
		return r;
	if (renameat(dir_fd, new_name, dir_fd, file_name) < 0)
		return -errno;
	if (fsync(dir_fd) < 0)
		return -errno;
	return 0;
}

int journal_create(int dir_fd, const char *log_id, size_t ring_size, struct journal **out)
{
	scoped(journal_closep) struct journal *journal = NULL;
	struct journal_header *header;
	int r;

	ring_size = choose_ring_size(dir_fd, ring_size);
	r = create_file(dir_fd, ring_size, &journal);
	if (r < 0)
		goto failed;
	header = journal->header;
	header->magic = JOURNAL_MAGIC;
	header->version = JOURNAL_VERSION;
	header->writers = EVENTLOG_WRITERS_MAX;
	header->ring_size = ring_size;
	memccpy(header->log_id, log_id, '\0', EVENTLOG_ID_SIZE - 1);
	header->is_clean = true;
	r = give_name(journal, dir_fd);
	if (r < 0)
		goto failed;
	*out = take(journal);
	return 0;

failed:
	unlinkat(dir_fd, new_name, 0);
	return r;
}

/* Looks before it maps: what is beyond the end of a short file must not be touched. */
static int check_header(int fd, size_t *out_ring_size)
{
	struct journal_header header;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (pread(fd, &header, sizeof(header), 0) != sizeof(header) ||
	    header.magic != JOURNAL_MAGIC)
		return -EBADMSG;
	if (header.version != JOURNAL_VERSION || header.writers != EVENTLOG_WRITERS_MAX)
		return -EPROTO;
	if (header.ring_size < JOURNAL_RING_MIN || header.ring_size > JOURNAL_RING_MAX ||
	    header.ring_size % sysconf(_SC_PAGESIZE) != 0 ||
	    st.st_size != JOURNAL_RING_OFFSET + header.ring_size)
		return -EBADMSG;
	if (memchr(header.log_id, '\0', EVENTLOG_ID_SIZE) != header.log_id + EVENTLOG_ID_SIZE - 1)
		return -EBADMSG;
	*out_ring_size = header.ring_size;
	return 0;
}

static int open_file(int dir_fd, bool is_readonly, struct journal **out)
{
	int fd = fd_open_own(dir_fd, file_name, is_readonly ? O_RDONLY : O_RDWR);
	scoped(journal_closep) struct journal *journal = NULL;
	size_t ring_size;
	int r;

	if (fd < 0)
		return fd;
	r = journal_alloc(fd, is_readonly, &journal);
	if (r < 0)
		return r;
	r = check_header(fd, &ring_size);
	if (r < 0)
		return r;
	/* A copy of the folder may have holes where the original had none. */
	if (!is_readonly)
		r = -posix_fallocate(fd, 0, JOURNAL_RING_OFFSET + ring_size);
	if (r < 0)
		return r;
	r = map_file(journal, ring_size);
	if (r < 0)
		return r;
	*out = take(journal);
	return 0;
}

int journal_open(int dir_fd, struct journal **out)
{
	return open_file(dir_fd, false, out);
}

int journal_open_readonly(int dir_fd, struct journal **out)
{
	return open_file(dir_fd, true, out);
}

const char *journal_log_id(const struct journal *journal)
{
	return journal->header->log_id;
}

size_t journal_ring_size(const struct journal *journal)
{
	return journal->ring_size;
}

size_t journal_file_size(const struct journal *journal)
{
	return JOURNAL_RING_OFFSET + journal->ring_size;
}

size_t journal_ring_within(uint64_t file_size)
{
	uint64_t size = file_size > JOURNAL_RING_OFFSET ? file_size - JOURNAL_RING_OFFSET : 0;

	if (size > JOURNAL_RING_MAX)
		size = JOURNAL_RING_MAX;
	return size - size % sysconf(_SC_PAGESIZE);
}

bool journal_is_clean(const struct journal *journal)
{
	return journal->header->is_clean;
}

bool journal_is_empty(const struct journal *journal)
{
	if (journal->header->head != journal->header->tail || journal_lost(journal) > 0)
		return false;
	for (unsigned i = 0; i < EVENTLOG_WRITERS_MAX; i++)
		if (!intent_is_free(&journal->intents[i]))
			return false;
	return true;
}

uint64_t journal_drained_seq(const struct journal *journal)
{
	return journal->header->drained_seq;
}

uint64_t journal_last_seq(const struct journal *journal)
{
	return journal->header->last_seq;
}

/*
 * Stores through a mapping are part of what fdatasync() writes: one call, one flush of the disk,
 * dirty pages only.
 */
int journal_sync(struct journal *journal)
{
	if (fdatasync(journal->fd) < 0)
		return -errno;
	return 0;
}

int journal_mark_clean(struct journal *journal)
{
	journal->header->is_clean = true;
	return journal_sync(journal);
}

uint64_t journal_next_seq(const struct journal *journal)
{
	return atomic_load(&journal->next_seq);
}

uint64_t journal_whole_seq(struct journal *journal)
{
	uint64_t seq;

	pthread_mutex_lock(&journal->mutex);
	seq = journal_next_seq(journal) - 1;
	pthread_mutex_unlock(&journal->mutex);
	return seq;
}

static uint64_t get_head(const struct journal *journal)
{
	return atomic_load_explicit(&journal->header->head, memory_order_acquire);
}

static uint64_t get_tail(const struct journal *journal)
{
	return atomic_load_explicit(&journal->header->tail, memory_order_acquire);
}

uint64_t journal_used(const struct journal *journal)
{
	/* In this order: head never passes a tail that is read later. */
	uint64_t head = get_head(journal);

	return get_tail(journal) - head;
}

/* ---- Room ---- */

size_t journal_room_for(const struct event *event)
{
	return FRAME_SIZE + event_encoded_size(event) + EVENT_COMMIT_SLACK;
}

uint64_t journal_lost(const struct journal *journal)
{
	/* In this order: what is told is never more than what is lost later. */
	uint64_t told = atomic_load(&journal->header->lost_told);

	return atomic_load(&journal->header->lost) - told;
}

static bool has_room(const struct journal *journal, size_t room, enum journal_room kind)
{
	uint64_t kept = kind == JOURNAL_ANY_ROOM ? journal->ring_size / JOURNAL_LAST_PART : 0;

	if (journal_lost(journal) > 0)
		return false;
	return journal_used(journal) + journal->reserved + room + kept <= journal->ring_size;
}

int journal_reserve(struct journal *journal, size_t room, enum journal_room kind)
{
	int r = 0;

	pthread_mutex_lock(&journal->mutex);
	if (has_room(journal, room, kind))
		journal->reserved += room;
	else
		r = journal->error ? -ENOSPC : JOURNAL_FULL;
	pthread_mutex_unlock(&journal->mutex);
	return r;
}

int journal_reserve_wait(struct journal *journal, size_t room, enum journal_room kind)
{
	int r = 0;

	pthread_mutex_lock(&journal->mutex);
	journal->waiting++;
	while (!has_room(journal, room, kind) && !journal->error)
		pthread_cond_wait(&journal->room, &journal->mutex);
	journal->waiting--;
	if (has_room(journal, room, kind))
		journal->reserved += room;
	else
		r = -ENOSPC;
	pthread_mutex_unlock(&journal->mutex);
	return r;
}

static void wake_waiting(struct journal *journal)
{
	if (journal->waiting > 0)
		pthread_cond_broadcast(&journal->room);
}

void journal_unreserve(struct journal *journal, size_t room)
{
	pthread_mutex_lock(&journal->mutex);
	journal->reserved -= room;
	wake_waiting(journal);
	pthread_mutex_unlock(&journal->mutex);
}

static void stamp(struct journal *journal, struct event *event)
{
	struct timespec now;
	int64_t now_ns;

	clock_gettime(CLOCK_REALTIME, &now);
	now_ns = now.tv_sec * 1000000000ll + now.tv_nsec;
	/* The clock may be set back; the log's time is not, so that it can be searched by time. */
	if (now_ns > journal->last_ns)
		journal->last_ns = now_ns;
	event->time_ns = journal->last_ns;
	event->seq = atomic_load_explicit(&journal->next_seq, memory_order_relaxed);
}

/* The writer's half of the reader's protocol at the top: release stores, word by word. */
static void copy_in(char *ring, uint64_t frame, const char *record, size_t size)
{
	_Atomic uint64_t *to = (_Atomic uint64_t *)ring;
	uint64_t word;

	atomic_store_explicit(to++, frame, memory_order_release);
	for (size_t i = 0; i < size; i += sizeof(word)) {
		memcpy(&word, record + i, sizeof(word));
		atomic_store_explicit(to++, word, memory_order_release);
	}
}

static void publish(struct journal *journal, const struct event *event)
{
	struct journal_header *header = journal->header;
	uint64_t tail = atomic_load_explicit(&header->tail, memory_order_relaxed);
	size_t size = event_encoded_size(event);
	uint64_t end = tail + FRAME_SIZE + size;

	event_encode(event, journal->scratch);
	atomic_store_explicit(&header->frontier, end, memory_order_relaxed);
	copy_in(journal_at(journal, tail), frame_make(size, event->seq), journal->scratch, size);
	atomic_store_explicit(&header->tail, end, memory_order_release);
	atomic_store_explicit(&header->last_seq, event->seq, memory_order_release);
}

/* Under mutex. */
static void append(struct journal *journal, struct intent *intent, struct event *event)
{
	stamp(journal, event);
	if (intent)
		intent_take_seq(intent, event->seq);
	publish(journal, event);
	/* Sequentially consistent: whoever sleeps on news looks at it after saying so. */
	atomic_store(&journal->next_seq, event->seq + 1);
	if (intent)
		intent_done(intent);
}

/* Under mutex. Returns the bytes in use. */
static uint64_t append_reserved(struct journal *journal, size_t room, struct intent *intent,
				struct event *event)
{
	assert(FRAME_SIZE + event_encoded_size(event) <= room);
	append(journal, intent, event);
	journal->reserved -= room;
	wake_waiting(journal);
	return journal_used(journal);
}

uint64_t journal_append(struct journal *journal, size_t room, struct intent *intent,
			struct event *event)
{
	uint64_t used;

	pthread_mutex_lock(&journal->mutex);
	used = append_reserved(journal, room, intent, event);
	pthread_mutex_unlock(&journal->mutex);
	return used;
}

bool journal_append_at(struct journal *journal, uint64_t seq, size_t room, struct event *event,
		       uint64_t *out_used)
{
	bool is_next;

	pthread_mutex_lock(&journal->mutex);
	is_next = journal_next_seq(journal) == seq;
	if (is_next)
		*out_used = append_reserved(journal, room, NULL, event);
	pthread_mutex_unlock(&journal->mutex);
	return is_next;
}

void journal_lose(struct journal *journal, struct intent *intent)
{
	uint64_t number;

	pthread_mutex_lock(&journal->mutex);
	number = atomic_load(&journal->header->lost) + 1;
	if (intent)
		intent_take_lost(intent, number);
	atomic_store(&journal->header->lost, number);
	if (intent)
		intent_done(intent);
	pthread_mutex_unlock(&journal->mutex);
}

/* Under mutex. */
static void append_gap(struct journal *journal)
{
	struct journal_header *header = journal->header;
	uint64_t lost = atomic_load(&header->lost);
	struct event gap = {
		.op = EVENT_GAP,
		.has = EVENT_HAS_OFFSET | EVENT_HAS_LENGTH,
		.offset = journal_next_seq(journal),
		.length = journal_lost(journal),
		.path = "",
		.comm = "",
	};

	atomic_store(&header->lost_telling, lost);
	atomic_store(&header->gap_seq, gap.offset);
	append(journal, NULL, &gap);
	atomic_store(&header->lost_told, lost);
	atomic_store(&header->gap_seq, 0);
}

/* With little room the next change would be lost again, and there would be a gap for each. */
static bool can_go_on(const struct journal *journal)
{
	return !journal->error &&
	       journal_used(journal) + journal->reserved <= journal->ring_size / 2;
}

bool journal_tell_gap(struct journal *journal)
{
	bool tells;

	pthread_mutex_lock(&journal->mutex);
	tells = journal_lost(journal) > 0 && can_go_on(journal);
	if (tells) {
		append_gap(journal);
		wake_waiting(journal);
	}
	pthread_mutex_unlock(&journal->mutex);
	return tells;
}

struct intent *journal_intent(struct journal *journal, unsigned index)
{
	assert(index < EVENTLOG_WRITERS_MAX);
	return &journal->intents[index];
}

/* ---- Taking ---- */

size_t journal_decode_at(const struct journal *journal, uint64_t position, uint64_t limit,
			 uint64_t seq, struct event *out)
{
	const char *at = journal_at(journal, position);
	uint64_t frame;
	ssize_t size;

	if (limit < FRAME_SIZE)
		return 0;
	memcpy(&frame, at, sizeof(frame));
	size = frame_record_size(frame);
	if (!frame_is_of(frame, seq) || size > limit - FRAME_SIZE)
		return 0;
	if (event_decode(at + FRAME_SIZE, size, out) != size || out->seq != seq)
		return 0;
	return FRAME_SIZE + size;
}

uint64_t journal_head(const struct journal *journal)
{
	return get_head(journal);
}

void journal_prefault(struct journal *journal)
{
	uint64_t tail = get_tail(journal), from = journal->prefaulted > tail ? journal->prefaulted : tail;
	uint64_t ahead = (tail - journal->seen_tail) * PREFAULT_FACTOR;
	size_t most = journal->ring_size / 4 < PREFAULT_MAX ? journal->ring_size / 4 : PREFAULT_MAX;

	journal->seen_tail = tail;
	if (ahead > most)
		ahead = most;
	if (ahead < PREFAULT_MIN || from >= tail + ahead)
		return;
	from -= from % sysconf(_SC_PAGESIZE);
	journal->prefaulted = tail + ahead;
	/* Where it fails, or goes beyond the end of the ring and so into the second mapping of its beginning, the first store makes the page. */
	(void)madvise(journal_at(journal, from), journal->prefaulted - from, MADV_POPULATE_WRITE);
}

int journal_peek(const struct journal *journal, uint64_t *position, struct event *out)
{
	uint64_t left = get_tail(journal) - *position;
	const char *at = journal_at(journal, *position);
	uint64_t frame;
	ssize_t size;

	if (left < FRAME_SIZE)
		return 0;
	memcpy(&frame, at, sizeof(frame));
	size = frame_record_size(frame);
	if (size > left - FRAME_SIZE || event_decode(at + FRAME_SIZE, size, out) != size)
		return -EBADMSG;
	*position += FRAME_SIZE + size;
	return 1;
}

void journal_release(struct journal *journal, uint64_t position, uint64_t seq)
{
	atomic_store_explicit(&journal->header->drained_seq, seq, memory_order_release);
	atomic_store_explicit(&journal->header->head, position, memory_order_release);

	pthread_mutex_lock(&journal->mutex);
	wake_waiting(journal);
	pthread_mutex_unlock(&journal->mutex);
}

void journal_set_error(struct journal *journal, int error)
{
	pthread_mutex_lock(&journal->mutex);
	journal->error = error;
	if (error)
		wake_waiting(journal);
	pthread_mutex_unlock(&journal->mutex);
}

/* ---- Reading ---- */

static uint64_t load_word(const char *at)
{
	return atomic_load_explicit((const _Atomic uint64_t *)at, memory_order_acquire);
}

/*
 * Whether what was copied from @position was whole: nobody had begun to write over it. After the
 * copy.
 */
static bool is_kept(const struct journal *journal, uint64_t position)
{
	return atomic_load_explicit(&journal->header->frontier, memory_order_acquire) <=
	       position + journal->ring_size;
}

bool journal_find(const struct journal *journal, uint64_t seq, uint64_t *out_position)
{
	uint64_t position = get_head(journal);

	while (position < get_tail(journal)) {
		uint64_t frame = load_word(journal_at(journal, position));
		int32_t ahead = (uint32_t)seq - (uint32_t)(frame >> 32);

		if (!is_kept(journal, position) || ahead < 0 ||
		    frame_record_size(frame) > EVENT_RECORD_MAX ||
		    frame_record_size(frame) % 8 != 0 || frame == 0)
			return false;
		if (ahead == 0) {
			*out_position = position;
			return true;
		}
		position += FRAME_SIZE + frame_record_size(frame);
	}
	return false;
}

static int copy_out(const char *ring, size_t size, struct bytes *buffer)
{
	int r;

	bytes_clear(buffer);
	r = bytes_reserve(buffer, size);
	if (r < 0)
		return r;
	for (size_t i = 0; i < size; i += sizeof(uint64_t)) {
		uint64_t word = load_word(ring + i);

		memcpy(buffer->data + i, &word, sizeof(word));
	}
	buffer->size = size;
	return 0;
}

int journal_copy(const struct journal *journal, uint64_t seq, uint64_t *position,
		 struct bytes *buffer, struct event *out)
{
	const char *at = journal_at(journal, *position);
	uint64_t frame;
	ssize_t size;
	int r;

	if (*position >= get_tail(journal))
		return 0;
	frame = load_word(at);
	size = frame_record_size(frame);
	if (!frame_is_of(frame, seq) || size > journal->ring_size - FRAME_SIZE)
		return 0;
	r = copy_out(at + FRAME_SIZE, size, buffer);
	if (r < 0)
		return r;
	if (!is_kept(journal, *position) || event_decode(buffer->data, size, out) != size ||
	    out->seq != seq)
		return 0;
	*position += FRAME_SIZE + size;
	return 1;
}
