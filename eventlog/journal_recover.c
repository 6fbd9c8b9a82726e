/*
 * Journal recovery: what of the ring and the intents of a dead user counts.
 *
 * An event counts when its frame, checksum and seq are right and so are all between the store's
 * last and it. No word of the header is needed to decide that, which makes one way of recovery do
 * for all that can have happened:
 *
 *   closed     The ring is empty, or a full disk left something in it. The header is exact.
 *   killed     The header is exact but for the last event, which may be whole without tail having moved: it is taken, and its
 *              intent counts as DONE. Where the caller knows that it was no more than that, because it has outlived the user, and
 *              the events lead from head to tail, nothing is looked for elsewhere: programs wait meanwhile.
 *   power loss Pages of the header, the slots and the ring may be of different ages. The event after the store's last
 *              is at the head or, if that is stale, is looked for in the whole ring. A torn event ends the log.
 *
 * Behind a torn event there may be whole ones. If they stayed, an event that takes the place of
 * the torn one could be followed, after the next crash, by one that never happened after it. So
 * every event of a higher number is made unreadable.
 *
 * Recovery may be killed, too. It changes nothing that makes the next attempt see less.
 */
#include "eventlog/journal.h"

#include "eventlog/intent.h"
#include "eventlog/journal_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A stretch of the ring, and the last event in it. */
struct stretch {
	uint64_t start;
	uint64_t end;
	uint64_t last_seq;
	int64_t last_ns;
};

static uint64_t get_frame(const struct journal *journal, uint64_t position)
{
	uint64_t frame;

	memcpy(&frame, journal_at(journal, position), sizeof(frame));
	return frame;
}

static bool is_header_sane(const struct journal *journal)
{
	uint64_t head = journal->header->head;
	uint64_t tail = journal->header->tail;

	return head % 8 == 0 && tail % 8 == 0 && head <= tail && tail < 1ull << 62 &&
	       tail - head <= journal->ring_size;
}

/* From where event @seq stands at @start as far as the events go. */
static struct stretch follow(const struct journal *journal, uint64_t start, uint64_t seq)
{
	struct stretch found = { .start = start, .end = start, .last_seq = seq - 1 };
	struct event event;
	size_t size;

	while ((size = journal_decode_at(journal, found.end, start + journal->ring_size - found.end,
					 found.last_seq + 1, &event)) > 0) {
		found.end += size;
		found.last_seq = event.seq;
		found.last_ns = event.time_ns;
	}
	return found;
}

/*
 * A head that lags shows events that the store has already: event @seq is at or behind it. Returns whether it was found, and how far the
 * events went.
 */
static bool find_from_head(const struct journal *journal, uint64_t seq, uint64_t *out_start, uint64_t *out_end)
{
	uint64_t head = journal->header->head;
	uint64_t position = head;
	struct event event;

	*out_end = head;
	while (position - head + FRAME_SIZE <= journal->ring_size) {
		/* The frame has half of the number, which is @seq or not far below. */
		uint32_t behind = (uint32_t)seq - (uint32_t)(get_frame(journal, position) >> 32);
		size_t size =
			journal_decode_at(journal, position, head + journal->ring_size - position,
					  seq - behind, &event);

		if (size == 0)
			return false;
		if (behind == 0) {
			*out_start = position;
			return true;
		}
		position += size;
		*out_end = position;
	}
	return false;
}

static bool search_ring(const struct journal *journal, uint64_t seq, uint64_t *out_start)
{
	struct event event;

	for (uint64_t position = 0; position < journal->ring_size; position += 8) {
		uint64_t frame;

		/* Most of the ring fails here, before the division of journal_at(). */
		memcpy(&frame, journal->ring + position, sizeof(frame));
		if (frame_is_of(frame, seq) &&
		    journal_decode_at(journal, position, journal->ring_size, seq, &event) > 0) {
			*out_start = position;
			return true;
		}
	}
	return false;
}

static struct stretch find_events(const struct journal *journal, uint64_t stored_seq, bool is_coherent)
{
	bool is_sane = is_header_sane(journal), is_all_stored;
	uint64_t start, end = 0;

	if (is_sane && find_from_head(journal, stored_seq + 1, &start, &end))
		return follow(journal, start, stored_seq + 1);
	is_all_stored = journal->header->is_clean || (is_coherent && is_sane && end >= journal->header->tail);
	if (!is_all_stored && search_ring(journal, stored_seq + 1, &start))
		return follow(journal, start, stored_seq + 1);
	start = is_sane ? journal->header->tail : 0;
	return (struct stretch){ .start = start, .end = start, .last_seq = stored_seq };
}

/* Whether a whole event with a number above @last_seq stands at @at. */
static bool is_beyond(const char *at, uint64_t last_seq)
{
	struct event event;
	uint64_t frame;
	size_t size;

	memcpy(&frame, at, sizeof(frame));
	size = frame_record_size(frame);
	if (size == 0 || size % 8 != 0 || size > EVENT_RECORD_MAX ||
	    (int32_t)((frame >> 32) - last_seq) <= 0)
		return false;
	return event_decode(at + FRAME_SIZE, size, &event) == size;
}

static void forget_beyond(struct journal *journal, const struct stretch *found)
{
	char *at = journal_at(journal, found->end);

	for (uint64_t left = found->start + journal->ring_size - found->end; left > 0; left -= 8) {
		if (is_beyond(at, found->last_seq))
			memset(at, 0, FRAME_SIZE);
		at += 8;
		if (at == journal->ring + journal->ring_size)
			at = journal->ring;
	}
}

static void take_stretch(struct journal *journal, const struct stretch *found)
{
	struct journal_header *header = journal->header;

	header->frontier = found->end;
	header->head = found->start;
	header->tail = found->end;
	header->last_seq = found->last_seq;
}

/* A gap that was being appended tells of its changes when it is there. */
static void settle_gap(struct journal_header *header, uint64_t next_seq)
{
	uint64_t seq = header->gap_seq;

	if (seq != 0 && seq < next_seq && header->lost_telling <= header->lost)
		header->lost_told = header->lost_telling;
	header->gap_seq = 0;
	/* Pages of different ages, after a power loss. */
	if (header->lost_told > header->lost)
		header->lost = (uint64_t)header->lost_told;
}

int journal_recover(struct journal *journal, uint64_t stored_seq, int64_t stored_time_ns, bool is_coherent)
{
	bool is_sane = is_header_sane(journal);
	struct stretch found = find_events(journal, stored_seq, is_coherent);

	if (journal->header->is_clean && found.last_seq < journal->header->last_seq)
		return -EBADMSG;
	journal->scratch = malloc(EVENT_RECORD_MAX);
	if (!journal->scratch)
		return -ENOMEM;

	if (!journal->header->is_clean && !(is_coherent && is_sane && found.end >= journal->header->tail))
		forget_beyond(journal, &found);
	take_stretch(journal, &found);
	/*
	 * It may be ahead of what the store has kept, and would be believed after the next clean
	 * close.
	 */
	journal->header->drained_seq = stored_seq;
	journal->last_ns = found.last_ns > stored_time_ns ? found.last_ns : stored_time_ns;
	atomic_store(&journal->next_seq, found.last_seq + 1);

	settle_gap(journal->header, found.last_seq + 1);
	for (unsigned i = 0; i < EVENTLOG_WRITERS_MAX; i++)
		intent_settle(&journal->intents[i], found.last_seq + 1, journal->header->lost);

	journal->header->is_clean = false;
	journal->seen_tail = atomic_load_explicit(&journal->header->tail, memory_order_relaxed);
	return journal_sync(journal);
}
