/*
 * Drain: moves events from the journal to the store, on a thread of its own.
 *
 * It works in large transactions: once no event has come for 100 ms, after a second at the latest, at once when an eighth of
 * the ring is full or somebody waits. It sleeps without a time-out when nothing has happened for a while.
 * While the store cannot be written to it says so once, tries again every 200 ms, and lets nobody
 * wait for room; but while another process writes to the database everybody does. Once there is
 * room again it appends the gap that is owed.
 */
#pragma once

#include <stdint.h>

struct drain;
struct durable;
struct journal;
struct store;

/**
 * Make a drain from @journal to @store, all borrowed. @stored_seq is the last event in the store
 * or gone for good. Returns 0 or a negative errno.
 */
int drain_create(struct journal *journal, struct store *store, struct durable *durable,
		 uint64_t stored_seq, struct drain **out);

/** Call @on_gap(@userdata), on the drain's thread, when a gap has been appended. Before drain_start(). */
void drain_on_gap(struct drain *drain, void (*on_gap)(void *userdata), void *userdata);

/** Stop the thread and free. NULL is fine. */
void drain_destroy(struct drain *drain);

/** Start the thread. From then on the store belongs to it. Returns 0 or a negative errno. */
int drain_start(struct drain *drain);

/** End the thread, if it runs, without moving anything more. The store is the caller's again. */
void drain_stop(struct drain *drain);

/**
 * Move everything now. While no thread runs. Returns 0 or a negative errno; what is left stays in
 * the journal.
 */
int drain_run(struct drain *drain);

/**
 * An event was appended and @used bytes are in the ring: wake the drain if it is time. Any thread.
 */
void drain_notice(struct drain *drain, uint64_t used);

/** Make it work now. Any thread. */
void drain_kick(struct drain *drain);

/**
 * Wait until events up to @seq are in the store. Any thread. Returns 0 or the negative errno that
 * keeps the drain from writing, of a try that began after the call.
 */
int drain_flush(struct drain *drain, uint64_t seq);

/** Last event in the store. Any thread. */
uint64_t drain_stored_seq(const struct drain *drain);

/**
 * The oldest event in store or journal; one past the last when there is none. Never goes down. Any
 * thread.
 */
uint64_t drain_oldest_seq(const struct drain *drain);

/** A reader found that nothing before @seq is there any more. Any thread. */
void drain_raise_oldest(struct drain *drain, uint64_t seq);

/** 0, or the negative errno that keeps it from writing. Any thread. */
int drain_error(struct drain *drain);

/** Why the store cannot be written to, and what to do about it: part of a sentence. @error is what keeps it from that. Static. */
const char *drain_reason(const struct drain *drain, int error);

/** Events a second over about the last ten seconds. Any thread. */
double drain_rate(struct drain *drain);
