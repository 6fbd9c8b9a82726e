/* The journal: what it keeps, what recovery believes, and who waits for whom. */
#include "eventlog/journal.h"

#include "base/bytes.h"
#include "base/scope.h"
#include "eventlog/intent.h"
#include "eventlog/journal_file.h"
#include "proto/event.h"
#include "tests/unit/check.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

static const char id[] = "01234567-89ab-4cde-8f01-23456789abcd";

/* A folder for one test, empty. */
static int make_folder(void)
{
	static int count;
	char name[32];
	const char *path;

	snprintf(name, sizeof(name), "folder%d", count++);
	path = scratch(name);
	check(mkdir(path, 0700) == 0);
	return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static struct journal *make_journal(int folder)
{
	struct journal *journal = NULL;

	check(journal_create(folder, id, JOURNAL_RING_MIN, &journal) == 0);
	check(journal_recover(journal, 0, 0, false) == 0);
	return journal;
}

/* Whether who opens it again knows that nothing but a kill has come between. */
static bool is_coherent;

/* Without closing it properly, as a kill does. */
static struct journal *reopen(int folder, struct journal *journal, uint64_t stored)
{
	struct journal *again = NULL;

	journal_close(journal);
	check(journal_open(folder, &again) == 0);
	check(journal_recover(again, stored, 0, is_coherent) == 0);
	return again;
}

static char letters[60000];

/* An event whose path has @length letters. */
static struct event make_event(size_t length)
{
	memset(letters, 'p', sizeof(letters));
	return (struct event){ .op = EVENT_WRITE, .path = letters, .path_length = length };
}

static uint64_t append(struct journal *journal, struct intent *intent, size_t length)
{
	struct event event = make_event(length);
	size_t room = journal_room_for(&event);
	struct orphan before = { .steps = 0 };
	struct event read;

	check(journal_reserve(journal, room, JOURNAL_ANY_ROOM) == 0);
	if (intent) {
		intent_read(intent, &read, &before);
		intent_begin(intent, 7, before.steps, &event);
	}
	journal_append(journal, room, intent, &event);
	return event.seq;
}

static unsigned drain_all(struct journal *journal)
{
	uint64_t position = journal_head(journal);
	struct event event = { 0 };
	unsigned count = 0;

	while (journal_peek(journal, &position, &event) == 1)
		count++;
	if (count > 0)
		journal_release(journal, position, event.seq);
	return count;
}

static void appended_events_come_out_in_order(void)
{
	scoped(closep) int folder = make_folder();
	scoped(journal_closep) struct journal *journal = make_journal(folder);
	uint64_t position = journal_head(journal);
	struct event event;

	for (size_t i = 1; i <= 100; i++)
		check(append(journal, NULL, i) == i);
	for (size_t i = 1; i <= 100; i++) {
		check(journal_peek(journal, &position, &event) == 1);
		check(event.seq == i && event.path_length == i);
	}
	check(journal_peek(journal, &position, &event) == 0);
}

static void odd_sizes_survive_many_laps(void)
{
	scoped(closep) int folder = make_folder();
	scoped(journal_closep) struct journal *journal = make_journal(folder);
	uint64_t position = 0;
	uint64_t seq = 0;
	struct event event;

	for (size_t i = 0; i < 5000; i++) {
		size_t length = i * 7919 % 3001;

		check(append(journal, NULL, length) == ++seq);
		check(journal_peek(journal, &position, &event) == 1);
		check(event.seq == seq && event.path_length == length);
		check(length == 0 || memcmp(event.path, letters, length) == 0);
		/* The rest stays, so that a reopened ring holds something that may wrap. */
		if (i % 300 == 0) {
			journal_release(journal, position, seq);
			append(journal, NULL, length);
			journal = reopen(folder, journal, seq++);
			check(journal_next_seq(journal) == seq + 1);
			check(drain_all(journal) == 1);
			position = journal_head(journal);
		}
		journal_release(journal, position, seq);
	}
	check(seq > 5000);
}

static long count_faults(void)
{
	struct rusage usage;

	check(getrusage(RUSAGE_THREAD, &usage) == 0);
	return usage.ru_minflt + usage.ru_majflt;
}

static long count_faults_of_a_quarter(struct journal *journal)
{
	long before = count_faults();

	for (int i = 0; i < 64; i++)
		append(journal, NULL, JOURNAL_RING_MIN / 4 / 64 - 512);
	return count_faults() - before;
}

static void pages_made_ahead_cost_the_writer_nothing(void)
{
	scoped(closep) int folder = make_folder();
	scoped(journal_closep) struct journal *journal = make_journal(folder);
	long pages = JOURNAL_RING_MIN / 4 / sysconf(_SC_PAGESIZE);

	/* A lap first, for what is the test's own; then no page is there any more. */
	for (int i = 0; i < 4; i++) {
		count_faults_of_a_quarter(journal);
		drain_all(journal);
		journal_prefault(journal);
	}
	check(madvise(journal->ring, 2 * journal->ring_size, MADV_DONTNEED) == 0);
	append(journal, NULL, 8);
	journal_prefault(journal); /* nothing tells that more will come */
	check(count_faults_of_a_quarter(journal) > pages / 2);
	drain_all(journal);
	journal_prefault(journal);
	check(count_faults_of_a_quarter(journal) < pages / 4);
}

static void time_never_goes_back(void)
{
	scoped(closep) int folder = make_folder();
	scoped(journal_closep) struct journal *journal = NULL;
	struct event event = make_event(3);
	int64_t later = 5000000000000000000;

	check(journal_create(folder, id, JOURNAL_RING_MIN, &journal) == 0);
	check(journal_recover(journal, 0, later, false) == 0);
	check(journal_reserve(journal, journal_room_for(&event), JOURNAL_ANY_ROOM) == 0);
	journal_append(journal, journal_room_for(&event), NULL, &event);
	check(event.time_ns == later);
}

static void full_ring_has_room_again_once_drained(void)
{
	scoped(closep) int folder = make_folder();
	scoped(journal_closep) struct journal *journal = make_journal(folder);
	struct event event = make_event(1000);
	size_t room = journal_room_for(&event);
	unsigned count = 0;

	while (journal_reserve(journal, room, JOURNAL_ANY_ROOM) == 0) {
		journal_append(journal, room, NULL, &event);
		count++;
	}
	check(journal_reserve(journal, room, JOURNAL_ANY_ROOM) == JOURNAL_FULL);
	check(count > 800);
	check(drain_all(journal) == count);
	check(journal_reserve(journal, room, JOURNAL_ANY_ROOM) == 0);
	journal_unreserve(journal, room);
}

static void full_ring_of_a_failing_drain_is_an_error(void)
{
	scoped(closep) int folder = make_folder();
	scoped(journal_closep) struct journal *journal = make_journal(folder);

	check(journal_reserve(journal, JOURNAL_RING_MIN, JOURNAL_LAST_ROOM) == 0);
	check(journal_reserve(journal, 8, JOURNAL_ANY_ROOM) == JOURNAL_FULL);
	journal_set_error(journal, -ENOSPC);
	check(journal_reserve(journal, 8, JOURNAL_ANY_ROOM) == -ENOSPC);
	check(journal_reserve_wait(journal, 8, JOURNAL_ANY_ROOM) == -ENOSPC);
	journal_set_error(journal, 0);
	check(journal_reserve(journal, 8, JOURNAL_ANY_ROOM) == JOURNAL_FULL);
}

static void what_cannot_be_refused_has_the_last_part_of_the_ring(void)
{
	scoped(closep) int folder = make_folder();
	scoped(journal_closep) struct journal *journal = make_journal(folder);
	size_t room = JOURNAL_RING_MIN / JOURNAL_LAST_PART;

	check(journal_reserve(journal, JOURNAL_RING_MIN - room, JOURNAL_ANY_ROOM) == 0);
	check(journal_reserve(journal, 8, JOURNAL_ANY_ROOM) == JOURNAL_FULL);
	check(journal_reserve(journal, room, JOURNAL_LAST_ROOM) == 0);
	check(journal_reserve(journal, 8, JOURNAL_LAST_ROOM) == JOURNAL_FULL);
}

static void lose(struct journal *journal, struct intent *intent)
{
	struct event event = make_event(10);

	intent_begin(intent, 7, 0, &event);
	journal_lose(journal, intent);
}

static void one_gap_counts_what_was_lost_also_before_a_kill(void)
{
	scoped(closep) int folder = make_folder();
	scoped(journal_closep) struct journal *journal = make_journal(folder);
	uint64_t position;
	struct event event;

	append(journal, NULL, 10);
	lose(journal, journal_intent(journal, 0));
	lose(journal, journal_intent(journal, 1));
	journal = reopen(folder, journal, 0);
	lose(journal, journal_intent(journal, 2));
	check(journal_lost(journal) == 3);
	check(journal_reserve(journal, 8, JOURNAL_LAST_ROOM) == JOURNAL_FULL);

	check(journal_tell_gap(journal) && !journal_tell_gap(journal));
	check(journal_lost(journal) == 0);
	check(append(journal, NULL, 10) == 3);
	position = journal_head(journal);
	check(journal_peek(journal, &position, &event) == 1 && event.seq == 1);
	check(journal_peek(journal, &position, &event) == 1 && event.op == EVENT_GAP);
	check(event.seq == 2 && event.offset == 2 && event.length == 3);
}

static void no_gap_is_told_while_the_next_change_would_be_lost_again(void)
{
	scoped(closep) int folder = make_folder();
	scoped(journal_closep) struct journal *journal = make_journal(folder);

	lose(journal, journal_intent(journal, 0));
	journal_set_error(journal, -ENOSPC);
	check(!journal_tell_gap(journal));
	journal_set_error(journal, 0);
	check(journal_tell_gap(journal));
	check(journal_reserve(journal, JOURNAL_RING_MIN / 2 + 8, JOURNAL_ANY_ROOM) == 0);
	lose(journal, journal_intent(journal, 0));
	check(!journal_tell_gap(journal));
}

/* A kill between the append of the gap and the note that it has been told. */
static void a_gap_is_told_once_however_a_kill_comes(void)
{
	scoped(closep) int folder = make_folder();
	scoped(journal_closep) struct journal *journal = make_journal(folder);

	lose(journal, journal_intent(journal, 0));
	check(journal_tell_gap(journal));
	journal->header->lost_told = 0;
	journal->header->gap_seq = 1;
	journal = reopen(folder, journal, 0);
	check(journal_lost(journal) == 0);

	/* And one before it. */
	lose(journal, journal_intent(journal, 0));
	journal->header->lost_telling = journal->header->lost;
	journal->header->gap_seq = 2;
	journal = reopen(folder, journal, 0);
	check(journal_lost(journal) == 1);
}

/* The number that it took tells whether it was counted. */
static void a_lost_change_is_counted_once_however_a_kill_comes(void)
{
	scoped(closep) int folder = make_folder();
	scoped(journal_closep) struct journal *journal = make_journal(folder);
	struct event event = make_event(10), read;
	struct orphan orphan;

	intent_begin(journal_intent(journal, 0), 7, 0, &event);
	intent_take_lost(journal_intent(journal, 0), 1);
	intent_begin(journal_intent(journal, 1), 8, 0, &event);
	intent_take_lost(journal_intent(journal, 1), 2);
	journal->header->lost = 1;
	journal = reopen(folder, journal, 0);
	check(intent_read(journal_intent(journal, 0), &read, &orphan));
	check(orphan.state == INTENT_DONE && orphan.steps == 1);
	check(intent_read(journal_intent(journal, 1), &read, &orphan));
	check(orphan.state == INTENT_BEGUN && orphan.steps == 0);
}

static void *give_room(void *argument)
{
	usleep(20000);
	journal_unreserve(argument, JOURNAL_RING_MIN);
	return NULL;
}

static void waiting_for_room_ends_when_there_is_some(void)
{
	scoped(closep) int folder = make_folder();
	scoped(journal_closep) struct journal *journal = make_journal(folder);
	pthread_t thread;

	check(journal_reserve(journal, JOURNAL_RING_MIN, JOURNAL_LAST_ROOM) == 0);
	check(pthread_create(&thread, NULL, give_room, journal) == 0);
	check(journal_reserve_wait(journal, 4096, JOURNAL_ANY_ROOM) == 0);
	pthread_join(thread, NULL);
}

static void killed_user_leaves_all_events(void)
{
	scoped(closep) int folder = make_folder();
	scoped(journal_closep) struct journal *journal = make_journal(folder);

	for (int i = 0; i < 10; i++)
		append(journal, NULL, 50);
	journal = reopen(folder, journal, 4);
	check(journal_next_seq(journal) == 11);
	check(drain_all(journal) == 6);
}

static void event_whose_tail_was_not_moved_counts(void)
{
	scoped(closep) int folder = make_folder();
	scoped(journal_closep) struct journal *journal = make_journal(folder);
	struct intent *intent;
	struct orphan orphan;
	struct event event;
	uint64_t before;

	append(journal, NULL, 50);
	before = journal->header->tail;
	append(journal, journal_intent(journal, 3), 60);
	/* As if killed just before these stores. */
	journal->header->tail = before;
	journal->header->last_seq = 1;
	journal_intent(journal, 3)->word = INTENT_BEGUN;
	journal = reopen(folder, journal, 0);
	check(journal_next_seq(journal) == 3);
	intent = journal_intent(journal, 3);
	check(intent_read(intent, &event, &orphan));
	check(orphan.state == INTENT_DONE && orphan.steps == 1 && orphan.request == 7);
}

/* Everything is stored, and the last note of that was not made. */
static void stored_events_at_a_head_that_lags_do_not_come_again(void)
{
	scoped(closep) int folder = make_folder();
	scoped(journal_closep) struct journal *journal = make_journal(folder);

	for (int i = 0; i < 10; i++)
		append(journal, NULL, 50);
	journal = reopen(folder, journal, 10);
	check(journal_next_seq(journal) == 11);
	check(drain_all(journal) == 0);
	check(append(journal, NULL, 50) == 11);
	journal = reopen(folder, journal, 10);
	check(drain_all(journal) == 1);
}

/* An event that stands where the header knows of none: only the pages of a power loss can be so. */
static void whole_ring_is_searched_unless_it_was_only_a_kill(void)
{
	scoped(closep) int folder = make_folder();
	scoped(journal_closep) struct journal *journal = make_journal(folder);
	uint64_t place;

	append(journal, NULL, 50);
	drain_all(journal);
	place = journal->header->tail;
	append(journal, NULL, 50);
	memcpy(journal_at(journal, place + 4096), journal_at(journal, place), journal->header->tail - place);
	memset(journal_at(journal, place), 0, FRAME_SIZE);
	journal->header->tail = place;
	journal->header->last_seq = 1;
	journal = reopen(folder, journal, 1);
	check(journal_next_seq(journal) == (is_coherent ? 2 : 3));
}

static void header_that_cannot_be_true_is_not_believed(void)
{
	scoped(closep) int folder = make_folder();
	scoped(journal_closep) struct journal *journal = make_journal(folder);
	uint64_t end;

	for (int i = 0; i < 10; i++)
		append(journal, NULL, 50);
	end = journal->header->tail;
	journal->header->head = end + 800;
	journal->header->tail = end + 1600;
	journal = reopen(folder, journal, 4);
	check(journal_next_seq(journal) == 11);
	check(journal->header->tail == end);
}

static void torn_tail_is_cut_after_power_loss(void)
{
	scoped(closep) int folder = make_folder();
	scoped(journal_closep) struct journal *journal = make_journal(folder);
	uint64_t third, position;
	struct event event;

	append(journal, NULL, 50);
	append(journal, NULL, 50);
	third = journal->header->tail;
	for (int i = 0; i < 3; i++)
		append(journal, NULL, 50);
	journal_at(journal, third)[100] ^= 1;
	journal = reopen(folder, journal, 0);
	check(journal_next_seq(journal) == 3);

	/* What stood behind the cut never comes back, though it would fit exactly. */
	check(append(journal, NULL, 50) == 3);
	journal = reopen(folder, journal, 0);
	check(journal_next_seq(journal) == 4);
	check(journal_find(journal, 1, &position));
	check(journal_peek(journal, &position, &event) == 1 && event.seq == 1);
}

static void damage_of_a_closed_journal_is_an_error(void)
{
	scoped(closep) int folder = make_folder();
	scoped(journal_closep) struct journal *journal = make_journal(folder);

	append(journal, NULL, 50);
	append(journal, NULL, 50);
	journal_at(journal, 0)[100] ^= 1;
	check(journal_mark_clean(journal) == 0);
	journal_close(take(journal));
	check(journal_open(folder, &journal) == 0);
	check(journal_recover(journal, 0, 0, false) == -EBADMSG);
}

static void events_are_found_with_a_stale_head(void)
{
	scoped(closep) int folder = make_folder();
	scoped(journal_closep) struct journal *journal = make_journal(folder);
	uint64_t stored;

	/* Several laps, then ten events that the store does not have. */
	for (int i = 0; i < 9000; i++) {
		append(journal, NULL, i % 500);
		drain_all(journal);
	}
	stored = journal_next_seq(journal) - 1;
	for (int i = 0; i < 10; i++)
		append(journal, NULL, 77);
	journal->header->head = 4096;
	journal->header->tail = 8192;
	journal = reopen(folder, journal, stored);
	check(journal_next_seq(journal) == stored + 11);
	check(drain_all(journal) == 10);
}

static void random_damage_never_breaks_recovery(void)
{
	scoped(closep) int folder = make_folder();

	srand(1);
	for (int round = 0; round < 50; round++) {
		scoped(journal_closep) struct journal *journal = make_journal(folder);
		uint64_t next;

		for (int i = 0; i < 200; i++)
			append(journal, journal_intent(journal, i % 5), rand() % 2000);
		for (int i = 0; i < 20; i++)
			((char *)journal->header)[4096 + rand() % (JOURNAL_SLOTS_SIZE + 400000)] =
				rand();
		journal->header->head = rand();
		journal->header->tail = rand();
		journal = reopen(folder, journal, 0);
		next = journal_next_seq(journal);
		check(next >= 1 && next <= 201);
		check(drain_all(journal) == next - 1);
	}
}

static void intents_survive_in_every_state(void)
{
	scoped(closep) int folder = make_folder();
	scoped(journal_closep) struct journal *journal = make_journal(folder);
	struct event event = make_event(20);
	struct event read;
	struct orphan orphan;

	intent_begin(journal_intent(journal, 0), 11, 0, &event);
	append(journal, journal_intent(journal, 1), 30);
	append(journal, journal_intent(journal, 2), 30);
	append(journal, journal_intent(journal, 2), 40);
	event.path_length = 21;
	intent_begin(journal_intent(journal, 2), 7, 2, &event);
	append(journal, journal_intent(journal, 4), 30);
	intent_clear(journal_intent(journal, 4));
	journal = reopen(folder, journal, 0);

	check(intent_read(journal_intent(journal, 0), &read, &orphan));
	check(orphan.state == INTENT_BEGUN && orphan.steps == 0 && orphan.request == 11 &&
	      read.path_length == 20);
	check(orphan.announced_ns > 0);
	check(intent_read(journal_intent(journal, 1), &read, &orphan));
	check(orphan.state == INTENT_DONE && orphan.steps == 1 && orphan.request == 7 &&
	      read.path_length == 30);
	check(intent_read(journal_intent(journal, 2), &read, &orphan));
	check(orphan.state == INTENT_BEGUN && orphan.steps == 2 && read.path_length == 21);
	check(!intent_read(journal_intent(journal, 3), &read, &orphan));
	check(!intent_read(journal_intent(journal, 4), &read, &orphan));
}

static void rollback_returns_to_the_step_before(void)
{
	scoped(closep) int folder = make_folder();
	scoped(journal_closep) struct journal *journal = make_journal(folder);
	struct intent *intent = journal_intent(journal, 0);
	struct event event = make_event(20);
	struct event read;
	struct orphan orphan;

	intent_begin(intent, 7, 0, &event);
	intent_rollback(intent);
	check(intent_is_free(intent));
	/* The step before was unnecessary, so there is nothing to return to. */
	intent_begin(intent, 7, 1, &event);
	intent_rollback(intent);
	check(intent_is_free(intent));
	append(journal, intent, 33);
	intent_begin(intent, 7, 1, &event);
	intent_rollback(intent);
	check(intent_read(intent, &read, &orphan));
	check(orphan.state == INTENT_DONE && orphan.steps == 1 && read.path_length == 33);
	intent_begin(intent, 8, 0, &event);
	check(intent_read(intent, &read, &orphan));
	check(orphan.state == INTENT_BEGUN && orphan.steps == 0 && orphan.request == 8);
}

static void number_of_a_lost_event_does_not_settle_a_later_intent(void)
{
	scoped(closep) int folder = make_folder();
	scoped(journal_closep) struct journal *journal = make_journal(folder);
	struct event event = make_event(20);
	struct event read;
	struct orphan orphan;

	/* Killed after the intent took number 1, before event 1 was there. */
	intent_begin(journal_intent(journal, 0), 9, 0, &event);
	intent_take_seq(journal_intent(journal, 0), 1);
	journal = reopen(folder, journal, 0);
	check(append(journal, NULL, 5) == 1);
	journal = reopen(folder, journal, 0);
	check(intent_read(journal_intent(journal, 0), &read, &orphan));
	check(orphan.state == INTENT_BEGUN);
}

static void intent_of_an_event_lost_with_the_power_is_in_doubt_again(void)
{
	scoped(closep) int folder = make_folder();
	scoped(journal_closep) struct journal *journal = make_journal(folder);
	struct event read;
	struct orphan orphan;

	append(journal, journal_intent(journal, 0), 30);
	append(journal, journal_intent(journal, 0), 31);
	memset(journal_at(journal, 0), 0, 4096);
	journal = reopen(folder, journal, 1);
	check(intent_read(journal_intent(journal, 0), &read, &orphan));
	check(orphan.state == INTENT_BEGUN && orphan.steps == 1 && read.path_length == 31);
}

static void long_announcement_is_cut_and_marked(void)
{
	scoped(closep) int folder = make_folder();
	scoped(journal_closep) struct journal *journal = make_journal(folder);
	struct event event = make_event(50000);
	struct event read;
	struct orphan orphan;

	event.to = letters;
	event.to_length = 100;
	intent_begin(journal_intent(journal, 0), 9, 0, &event);
	check(intent_read(journal_intent(journal, 0), &read, &orphan));
	check(read.path_length == 4096 && read.to_length == 100 && read.has & EVENT_UNCERTAIN);
	event.path_length = 4096;
	event.to_length = 4096;
	intent_begin(journal_intent(journal, 0), 9, 0, &event);
	check(intent_read(journal_intent(journal, 0), &read, &orphan));
	check(read.path_length == 4096 && read.to_length == 4096 && !(read.has & EVENT_UNCERTAIN));
}

static void overtaken_reader_is_told(void)
{
	scoped(closep) int folder = make_folder();
	scoped(journal_closep) struct journal *journal = make_journal(folder);
	struct bytes buffer = { 0 };
	struct event event;
	uint64_t position = 0;

	append(journal, NULL, 1000);
	check(journal_copy(journal, 1, &position, &buffer, &event) == 1 &&
	      event.path_length == 1000);
	check(journal_copy(journal, 2, &position, &buffer, &event) == 0);
	for (int i = 0; i < 2000; i++) {
		append(journal, NULL, 1000);
		drain_all(journal);
	}
	position = 0;
	check(journal_copy(journal, 1, &position, &buffer, &event) == 0);
	check(!journal_find(journal, 1, &position));
	bytes_finish(&buffer);
}

static void put_byte(int folder, off_t offset, char byte)
{
	scoped(closep) int fd = openat(folder, "journal", O_RDWR | O_CLOEXEC);

	check(pwrite(fd, &byte, 1, offset) == 1);
}

static void foreign_files_are_refused(void)
{
	scoped(closep) int folder = make_folder();
	struct journal *journal = NULL;

	check(journal_open(folder, &journal) == -ENOENT);
	journal_close(make_journal(folder));
	put_byte(folder, 8, 99);
	check(journal_open(folder, &journal) == -EPROTO);
	put_byte(folder, 0, 'x');
	check(journal_open(folder, &journal) == -EBADMSG);
	journal_close(make_journal(folder));
	{
		scoped(closep) int fd = openat(folder, "journal", O_RDWR | O_CLOEXEC);

		check(ftruncate(fd, 100000) == 0);
	}
	check(journal_open(folder, &journal) == -EBADMSG);
}

static void closed_journal_is_clean(void)
{
	scoped(closep) int folder = make_folder();
	scoped(journal_closep) struct journal *journal = make_journal(folder);

	check(!journal_is_clean(journal));
	check(journal_mark_clean(journal) == 0);
	journal_close(take(journal));
	check(journal_open(folder, &journal) == 0);
	check(journal_is_clean(journal));
	check(strcmp(journal_log_id(journal), id) == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		unit(appended_events_come_out_in_order),
		unit(odd_sizes_survive_many_laps),
		unit(pages_made_ahead_cost_the_writer_nothing),
		unit(time_never_goes_back),
		unit(full_ring_has_room_again_once_drained),
		unit(full_ring_of_a_failing_drain_is_an_error),
		unit(what_cannot_be_refused_has_the_last_part_of_the_ring),
		unit(one_gap_counts_what_was_lost_also_before_a_kill),
		unit(no_gap_is_told_while_the_next_change_would_be_lost_again),
		unit(a_gap_is_told_once_however_a_kill_comes),
		unit(a_lost_change_is_counted_once_however_a_kill_comes),
		unit(waiting_for_room_ends_when_there_is_some),
		unit(killed_user_leaves_all_events),
		unit(event_whose_tail_was_not_moved_counts),
		unit(stored_events_at_a_head_that_lags_do_not_come_again),
		unit(whole_ring_is_searched_unless_it_was_only_a_kill),
		unit(header_that_cannot_be_true_is_not_believed),
		unit(torn_tail_is_cut_after_power_loss),
		unit(damage_of_a_closed_journal_is_an_error),
		unit(events_are_found_with_a_stale_head),
		unit(random_damage_never_breaks_recovery),
		unit(intents_survive_in_every_state),
		unit(rollback_returns_to_the_step_before),
		unit(number_of_a_lost_event_does_not_settle_a_later_intent),
		unit(intent_of_an_event_lost_with_the_power_is_in_doubt_again),
		unit(long_announcement_is_cut_and_marked),
		unit(overtaken_reader_is_told),
		unit(foreign_files_are_refused),
		unit(closed_journal_is_clean),
	};

	const struct CMUnitTest kills[] = {
		unit(odd_sizes_survive_many_laps),
		unit(one_gap_counts_what_was_lost_also_before_a_kill),
		unit(a_gap_is_told_once_however_a_kill_comes),
		unit(a_lost_change_is_counted_once_however_a_kill_comes),
		unit(killed_user_leaves_all_events),
		unit(event_whose_tail_was_not_moved_counts),
		unit(stored_events_at_a_head_that_lags_do_not_come_again),
		unit(whole_ring_is_searched_unless_it_was_only_a_kill),
		unit(header_that_cannot_be_true_is_not_believed),
		unit(events_are_found_with_a_stale_head),
		unit(random_damage_never_breaks_recovery),
		unit(intents_survive_in_every_state),
		unit(rollback_returns_to_the_step_before),
		unit(number_of_a_lost_event_does_not_settle_a_later_intent),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	is_coherent = true;
	return failed + cmocka_run_group_tests(kills, NULL, NULL);
}
