/*
 * Subscriber: one connection; what it has asked for and where in the log it stands.
 *
 * Output is whole lines from three places, in this order whenever the socket is free: what is
 * left of lines that were begun (@sending), answers (@answers), events. Events are sent straight
 * out of shared memory (lines.h); only the rest of a line that the socket took half of is copied.
 * A connection that does not read therefore holds one line and one answer at the most, and costs
 * no time: the next attempt is made when it has read.
 *
 * The next request is looked at when the answer to the one before is on its way.
 */
#pragma once

#include "base/bytes.h"
#include "serve/peer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

struct hub;
struct hub_queue;
struct lines;
struct loop_stream;
struct request_job;

struct subscriber {
	struct hub *hub;
	TAILQ_ENTRY(subscriber) link;          /* in hub->all */
	TAILQ_ENTRY(subscriber) turn_link;     /* in @queue */
	TAILQ_ENTRY(subscriber) deadline_link; /* in hub->deadlines, while deadline_ns is set */
	struct hub_queue *queue;               /* where it waits, or NULL */
	uint64_t deadline_ns;                  /* CLOCK_MONOTONIC; 0: none */

	uint64_t id; /* counts connections */
	struct peer peer;
	struct loop_stream *stream;

	struct bytes input;   /* requests, whole or not, that have not been looked at */
	struct bytes answers; /* whole lines */
	struct bytes sending; /* whole lines but for its beginning, which may be the rest of one */
	size_t sent_of_sending;  /* bytes of it that are gone */
	size_t asked;            /* bytes of the send that is under way */
	struct lines *lines;     /* a reference: that send is of events, from here */
	size_t lines_offset;     /* where that send began */
	struct request_job *job; /* the answer comes from the helper; see request.h */

	uint64_t next_seq;      /* the next event to send */
	uint64_t caught_up_seq; /* caught up when next_seq gets here; 0: not in sight yet */
	uint64_t events;        /* sent */

	bool is_subscribed;
	bool follows;
	bool is_caught_up;    /* has been told so */
	bool is_sending;      /* a send is under way */
	bool is_full;         /* the socket is */
	bool is_receiving;    /* input has been asked for */
	bool is_ending;       /* close once everything has been sent */
	bool is_cut;          /* close at once when the socket does not take everything */
	bool is_closed;       /* only waits for the loop to let go */
	bool has_input_ended; /* the peer sends no more requests */
	bool has_begun;       /* the first byte has been looked at */
};

/** Serve the connection @fd: taken over. Returns 0 or a negative errno, @fd being closed then. */
int subscriber_create(struct hub *hub, int fd, const struct peer *peer);

/** Start the subscription before event @seq. The hello has been answered. */
void subscriber_start(struct subscriber *subscriber, uint64_t seq, bool follows);

/** Send what comes next, if the socket is free. */
void subscriber_advance(struct subscriber *subscriber);

/**
 * Send the next events at once to one that waits at the head. Returns false when something is left to be done by
 * subscriber_advance().
 */
bool subscriber_send_now(struct subscriber *subscriber);

/** What feed_replay() has answered for next_seq; a reference in @lines is taken over. */
void subscriber_replay(struct subscriber *subscriber, int result, struct lines *lines);

/** The answer to a request is complete in @answers: send it, and go on with the next request. */
void subscriber_answered(struct subscriber *subscriber);

/**
 * Send an error (@error: a negative errno; @message: a sentence, copied) as the last line, then
 * close.
 */
void subscriber_fail(struct subscriber *subscriber, int error, const char *message);

/** The deadline has passed. */
void subscriber_expire(struct subscriber *subscriber);

/** The hub is ending: say bye after the events below hub->end_seq. */
void subscriber_end(struct subscriber *subscriber);

/** The hub is through: say bye now, to a socket that takes it now. */
void subscriber_cut(struct subscriber *subscriber);
