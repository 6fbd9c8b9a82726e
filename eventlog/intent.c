/*
 * Intent: what one writer is about to do, in its slot of the mapped journal.
 *
 * The word is the slot: state, which of the two steps counts, whether the other is a step before it, and
 * how many are behind, changed by one 8-byte store. What it refers to is written before it (release), so a kill between any two
 * instructions leaves either the old meaning or the new one:
 *
 *     FREE            --begin-->     BEGUN(step 0)   request and step 0 are written while FREE
 *     BEGUN(step i)   --take_seq-->  same word       step i's seq is set; then the event appears in the ring
 *     BEGUN(step i)   --done-->      DONE(step i)    steps + 1
 *     DONE(step i)    --begin-->     BEGUN(step 1-i) the same request goes on; step i stays whole meanwhile
 *     BEGUN(step i)   --rollback-->  DONE(step 1-i), or FREE when there is none before it
 *
 * After a crash BEGUN with a seq that the log holds means DONE, and that is all there is to decide.
 */
#include "eventlog/intent.h"

#include "eventlog/journal_file.h"

#include <string.h>
#include <time.h>

static uint64_t make_word(enum intent_state state, unsigned which, bool goes_on, uint32_t steps)
{
	return (uint64_t)state | (uint64_t)which << 8 | (uint64_t)goes_on << 9 | (uint64_t)steps << 32;
}

static enum intent_state word_state(uint64_t word)
{
	return (uint8_t)word;
}

static unsigned word_which(uint64_t word)
{
	return (word >> 8) & 1;
}

/* Whether the other step is the one before, and done. */
static bool word_goes_on(uint64_t word)
{
	return (word >> 9) & 1;
}

static uint32_t word_steps(uint64_t word)
{
	return word >> 32;
}

static uint64_t get_word(const struct intent *intent)
{
	return atomic_load_explicit(&intent->word, memory_order_acquire);
}

static void set_word(struct intent *intent, enum intent_state state, unsigned which, bool goes_on,
		     uint32_t steps)
{
	atomic_store_explicit(&intent->word, make_word(state, which, goes_on, steps),
			      memory_order_release);
	/*
	 * Release lets later stores move up. The compiler must not; a processor that is
	 * interrupted does not.
	 */
	atomic_signal_fence(memory_order_seq_cst);
}

void intent_clear(struct intent *intent)
{
	set_word(intent, INTENT_FREE, 0, false, 0);
}

static uint16_t cut_length(uint16_t length)
{
	return length < INTENT_PATH_MAX ? length : INTENT_PATH_MAX;
}

static void write_step(struct intent_step *step, const struct event *event)
{
	struct event announced = *event;
	struct timespec now;

	/*
	 * Later than every event before it, which eventlog_has_announced() relies on. File systems stamp files with the coarse clock,
	 * which is behind this one by a tick: who compares the two allows for that.
	 */
	clock_gettime(CLOCK_REALTIME, &now);
	step->announced_ns = now.tv_sec * 1000000000ll + now.tv_nsec;
	step->is_cut = 0;
	step->record_size = event_encoded_size(&announced);
	if (step->record_size > INTENT_RECORD_MAX) {
		announced.path_length = cut_length(announced.path_length);
		announced.to_length = cut_length(announced.to_length);
		step->is_cut = 1;
		step->record_size = event_encoded_size(&announced);
	}
	event_encode(&announced, step->record);
	atomic_store_explicit(&step->seq, 0, memory_order_release);
}

void intent_begin(struct intent *intent, uint64_t request, unsigned step, const struct event *event)
{
	uint64_t word = get_word(intent);
	bool goes_on =
		word_state(word) == INTENT_DONE && request != 0 && intent->request == request;
	unsigned which = goes_on ? !word_which(word) : 0;

	if (!goes_on) {
		intent_clear(intent);
		intent->request = request;
	}
	write_step(&intent->step[which], event);
	set_word(intent, INTENT_BEGUN, which, goes_on, step);
}

void intent_rollback(struct intent *intent)
{
	uint64_t word = get_word(intent);

	if (word_goes_on(word))
		set_word(intent, INTENT_DONE, !word_which(word), false, word_steps(word));
	else
		intent_clear(intent);
}

void intent_take_seq(struct intent *intent, uint64_t seq)
{
	struct intent_step *step = &intent->step[word_which(get_word(intent))];

	atomic_store_explicit(&step->seq, seq, memory_order_release);
}

void intent_take_lost(struct intent *intent, uint64_t number)
{
	intent_take_seq(intent, number | INTENT_LOST);
}

void intent_done(struct intent *intent)
{
	uint64_t word = get_word(intent);

	set_word(intent, INTENT_DONE, word_which(word), false, word_steps(word) + 1);
}

static bool is_counted(uint64_t seq, uint64_t next_seq, uint64_t lost)
{
	if (seq & INTENT_LOST)
		return (seq & ~INTENT_LOST) <= lost;
	return seq != 0 && seq < next_seq;
}

void intent_settle(struct intent *intent, uint64_t next_seq, uint64_t lost)
{
	uint64_t word = get_word(intent);
	struct intent_step *step = &intent->step[word_which(word)];
	uint64_t seq = atomic_load_explicit(&step->seq, memory_order_acquire);
	bool is_logged = is_counted(seq, next_seq, lost);

	if (word_state(word) == INTENT_FREE)
		return;
	if (word_state(word) == INTENT_BEGUN && is_logged)
		intent_done(intent);
	/* Only a power loss takes a logged event away again. */
	if (word_state(word) == INTENT_DONE && !is_logged)
		set_word(intent, INTENT_BEGUN, word_which(word), false, word_steps(word) - 1);
	/* Another event will get that number. */
	if (!is_logged)
		atomic_store_explicit(&step->seq, 0, memory_order_release);
}

bool intent_is_free(const struct intent *intent)
{
	return word_state(get_word(intent)) == INTENT_FREE;
}

bool intent_read(const struct intent *intent, struct event *out_event, struct orphan *out)
{
	uint64_t word = get_word(intent);
	const struct intent_step *step = &intent->step[word_which(word)];
	enum intent_state state = word_state(word);
	uint64_t seq = atomic_load_explicit(&step->seq, memory_order_relaxed);

	if (state != INTENT_BEGUN && state != INTENT_DONE)
		return false;
	if (step->record_size > INTENT_RECORD_MAX ||
	    event_decode(step->record, step->record_size, out_event) < 0)
		return false;
	if (step->is_cut)
		out_event->has |= EVENT_UNCERTAIN;
	*out = (struct orphan){
		.request = intent->request,
		.state = state,
		.steps = word_steps(word),
		.announced_ns = step->announced_ns,
		.seq = state == INTENT_DONE && !(seq & INTENT_LOST) ? seq : 0,
		.event = out_event,
	};
	return true;
}
