/*
 * Intent: what one writer is about to do, in its slot of the mapped journal.
 *
 * A slot belongs to one thread at a time. It tells, whenever that thread is killed, which request
 * was under way, how many events of it are in the log, and which change is in doubt.
 */
#pragma once

#include "eventlog/eventlog.h"

#include <stdbool.h>
#include <stdint.h>

struct event;
struct intent;

/** Forget what the slot held. */
void intent_clear(struct intent *intent);

/**
 * Announce @event, copied, as step @step of @request, counted from 0. While the slot still holds the
 * same request, which is not 0, the step before stays in it too. An event whose record does not
 * fit into the slot is announced with its path and target cut to 4 KiB each, and is marked cut.
 */
void intent_begin(struct intent *intent, uint64_t request, unsigned step, const struct event *event);

/** The step was not made: back to how it was before intent_begin(). */
void intent_rollback(struct intent *intent);

/** The announced event is about to become event @seq of the log. Before it can be seen there. */
void intent_take_seq(struct intent *intent, uint64_t seq);

/** The announced change is about to be lost number @number. Before it counts as lost. */
void intent_take_lost(struct intent *intent, uint64_t number);

/** The announced event is in the log, or is lost. */
void intent_done(struct intent *intent);

/**
 * After a crash, when the log ends before @next_seq and @lost changes have been lost: make the
 * state agree with that.
 */
void intent_settle(struct intent *intent, uint64_t next_seq, uint64_t lost);

/** Whether the slot is FREE. */
bool intent_is_free(const struct intent *intent);

/**
 * Read a slot. Returns false, and fills nothing, when it is FREE or its bytes were torn by a power
 * loss. out->event becomes @out_event, whose strings point into the slot; one that was cut carries
 * EVENT_UNCERTAIN.
 */
bool intent_read(const struct intent *intent, struct event *out_event, struct orphan *out);
