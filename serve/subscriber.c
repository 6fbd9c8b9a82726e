#include "serve/subscriber.h"

#include "base/loop.h"
#include "eventlog/eventlog.h"
#include "proto/native.h"
#include "serve/feed.h"
#include "serve/hub.h"
#include "serve/lines.h"
#include "serve/request.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void close_now(struct subscriber *subscriber)
{
	if (subscriber->is_closed)
		return;
	subscriber->is_closed = true;
	subscriber->is_subscribed = false;
	hub_stop_waiting(subscriber->hub, subscriber);
	hub_clear_deadline(subscriber->hub, subscriber);
	loop_stream_close(subscriber->stream);
}

/*
 * The last line is in @answers: send no events after it, look at no requests, and do not wait for
 * ever.
 */
static void end(struct subscriber *subscriber)
{
	subscriber->is_ending = true;
	subscriber->is_subscribed = false;
	hub_stop_waiting(subscriber->hub, subscriber);
	bytes_finish(&subscriber->input);
	hub_clear_deadline(subscriber->hub, subscriber);
	hub_set_deadline(subscriber->hub, subscriber);
}

/* ---- Output ---- */

static void send_bytes(struct subscriber *subscriber, const char *data, size_t size)
{
	struct iovec vector = { .iov_base = (char *)data, .iov_len = size };

	subscriber->is_sending = true;
	subscriber->asked = size;
	loop_stream_send(subscriber->stream, &vector, 1);
}

/* Send what is left of begun lines, or else the answers. Returns whether there was anything. */
static bool send_answers(struct subscriber *subscriber)
{
	struct bytes *sending = &subscriber->sending;

	if (sending->size == 0) {
		struct bytes empty = *sending;

		*sending = subscriber->answers;
		subscriber->answers = empty;
		subscriber->sent_of_sending = 0;
	}
	if (sending->size == 0)
		return false;
	send_bytes(subscriber, sending->data + subscriber->sent_of_sending,
		   sending->size - subscriber->sent_of_sending);
	return true;
}

/* Takes over the reference. */
static void send_lines(struct subscriber *subscriber, struct lines *lines)
{
	size_t end_offset = lines_offset(lines, lines_end(lines));

	subscriber->lines = lines;
	subscriber->lines_offset = lines_offset(lines, subscriber->next_seq);
	send_bytes(subscriber, lines_data(lines, subscriber->lines_offset),
		   end_offset - subscriber->lines_offset);
}

static void say_bye(struct subscriber *subscriber)
{
	bytes_append_string(&subscriber->answers, "{\"bye\":{\"reason\":");
	native_write_string(&subscriber->answers, subscriber->hub->reason,
			    strlen(subscriber->hub->reason));
	bytes_append_string(&subscriber->answers, "}}\n");
	end(subscriber);
}

static void say_caught_up(struct subscriber *subscriber)
{
	bytes_append_string(&subscriber->answers, "{\"caught_up\":");
	bytes_append_u64(&subscriber->answers, subscriber->next_seq - 1);
	bytes_append_string(&subscriber->answers, "}\n");
	subscriber->is_caught_up = true;
	if (!subscriber->follows)
		end(subscriber);
}

static void say_gap(struct subscriber *subscriber, uint64_t oldest)
{
	bytes_append_string(&subscriber->answers, "{\"gap\":{\"first\":");
	bytes_append_u64(&subscriber->answers, subscriber->next_seq);
	bytes_append_string(&subscriber->answers, ",\"last\":");
	bytes_append_u64(&subscriber->answers, oldest - 1);
	bytes_append_string(&subscriber->answers, "}}\n");
	subscriber->next_seq = oldest;
}

/* Say what is to be said before the next event. Returns whether something was. */
static bool say_before_event(struct subscriber *subscriber)
{
	const struct hub *hub = subscriber->hub;

	if (subscriber->is_subscribed && subscriber->caught_up_seq && !subscriber->is_caught_up &&
	    subscriber->next_seq >= subscriber->caught_up_seq)
		say_caught_up(subscriber);
	else if (hub->is_ending && !subscriber->job &&
		 (!subscriber->is_subscribed || subscriber->next_seq >= hub->end_seq))
		say_bye(subscriber);
	else
		return false;
	return true;
}

/*
 * Send the next events, or get in the queue for them. Returns whether there is something to say
 * first.
 */
static bool send_events(struct subscriber *subscriber)
{
	struct lines *lines;
	int r;

	r = feed_take(subscriber->hub->feed, subscriber->next_seq, &lines);
	if (r == FEED_BEHIND) {
		hub_wait_behind(subscriber->hub, subscriber);
		return false;
	}
	/* The history is behind it: caught up is who has all that is in the log at this moment. */
	if (!subscriber->caught_up_seq) {
		subscriber->caught_up_seq = eventlog_next_seq(subscriber->hub->log);
		if (r == FEED_LINES)
			lines_unref(lines);
		return true;
	}
	if (r == FEED_LINES)
		send_lines(subscriber, lines);
	else
		hub_wait_at_head(subscriber->hub, subscriber);
	return false;
}

/*
 * Whether nothing can follow. A peer that sends no more may have gone, which an idle tree would
 * never show: it still gets what it has asked for, but is not followed for.
 */
static bool is_through(const struct subscriber *subscriber)
{
	if (subscriber->is_ending)
		return true;
	if (!subscriber->has_input_ended || subscriber->job || subscriber->input.size > 0)
		return false;
	return !subscriber->is_subscribed || subscriber->follows;
}

void subscriber_advance(struct subscriber *subscriber)
{
	while (!subscriber->is_closed && !subscriber->is_sending && !subscriber->is_full) {
		if (bytes_error(&subscriber->answers) || bytes_error(&subscriber->sending)) {
			close_now(subscriber);
			return;
		}
		if (send_answers(subscriber))
			return;
		if (is_through(subscriber)) {
			close_now(subscriber);
			return;
		}
		if (say_before_event(subscriber))
			continue;
		if (!subscriber->is_subscribed || subscriber->queue || !send_events(subscriber))
			return;
	}
}

void subscriber_replay(struct subscriber *subscriber, int result, struct lines *lines)
{
	uint64_t oldest;

	if (result == -ENODATA) {
		oldest = eventlog_oldest_seq(subscriber->hub->log);
		if (oldest > subscriber->next_seq)
			say_gap(subscriber, oldest);
		subscriber_advance(subscriber);
	} else if (result < 0) {
		subscriber_fail(subscriber, result, "The log cannot be read.");
	} else if (subscriber->is_sending || subscriber->is_full) {
		/* An answer went first; the turn comes again after it. */
		lines_unref(lines);
	} else {
		send_lines(subscriber, lines);
	}
}

/*
 * The socket has taken @size bytes of the lines: note where that is, and keep the rest of a line.
 */
static void lines_sent(struct subscriber *subscriber, size_t size)
{
	struct lines *lines = subscriber->lines;
	size_t offset = subscriber->lines_offset + size;
	uint64_t seq = lines_seq_at(lines, offset);
	size_t line_begin = lines_offset(lines, seq);

	subscriber->lines = NULL;
	if (offset > line_begin) {
		size_t line_end = lines_offset(lines, ++seq);

		bytes_append(&subscriber->sending, lines_data(lines, offset), line_end - offset);
		subscriber->sent_of_sending = 0;
	}
	subscriber->events += seq - subscriber->next_seq;
	subscriber->next_seq = seq;
	lines_unref(lines);
}

/* Whether events are what comes next, and can be sent. */
static bool is_free(const struct subscriber *subscriber)
{
	return subscriber->is_caught_up && !subscriber->is_sending && !subscriber->is_full && subscriber->sending.size == 0 &&
	       subscriber->answers.size == 0;
}

bool subscriber_send_now(struct subscriber *subscriber)
{
	struct lines *lines;
	size_t offset, size;
	ssize_t n;

	if (!is_free(subscriber) || feed_take(subscriber->hub->feed, subscriber->next_seq, &lines) != FEED_LINES)
		return false;
	offset = lines_offset(lines, subscriber->next_seq);
	size = lines_offset(lines, lines_end(lines)) - offset;
	n = loop_stream_send_now(subscriber->stream, lines_data(lines, offset), size);
	if (n <= 0) {
		lines_unref(lines);
		return false;
	}
	subscriber->lines = lines;
	subscriber->lines_offset = offset;
	lines_sent(subscriber, n);
	return (size_t)n == size && subscriber->next_seq == feed_end(subscriber->hub->feed);
}

static void sending_sent(struct subscriber *subscriber, size_t size)
{
	subscriber->sent_of_sending += size;
	if (subscriber->sent_of_sending < subscriber->sending.size)
		return;
	/* An idle connection holds no memory. */
	bytes_finish(&subscriber->sending);
	subscriber->sent_of_sending = 0;
}

/* ---- Input ---- */

/* One answer at a time. */
static bool is_busy(const struct subscriber *subscriber)
{
	return subscriber->is_closed || subscriber->is_ending || subscriber->job ||
	       subscriber->answers.size > 0;
}

static void read_lines(struct subscriber *subscriber)
{
	struct bytes *input = &subscriber->input;
	size_t begin = 0;
	char *newline;

	while (!is_busy(subscriber) && input->size > begin &&
	       (newline = memchr(input->data + begin, '\n', input->size - begin))) {
		size_t size = newline - (input->data + begin);

		if (size >= NATIVE_LINE_MAX) {
			subscriber_fail(subscriber, -EMSGSIZE, "The request is too long.");
			return;
		}
		request_handle(subscriber, input->data + begin, size);
		begin += size + 1;
	}
	/* A request that failed has done away with the input. */
	if (begin > 0 && input->size > 0)
		bytes_consume(input, begin);
	if (input->size == 0)
		bytes_finish(input);
}

/* Look at what has come, answer as far as that goes, and ask for more. */
static void process(struct subscriber *subscriber)
{
	const struct bytes *input = &subscriber->input;

	read_lines(subscriber);
	if (!is_busy(subscriber)) {
		/* No whole line is left. */
		if (input->size >= NATIVE_LINE_MAX)
			subscriber_fail(subscriber, -EMSGSIZE, "The request is too long.");
		else if (subscriber->has_input_ended)
			bytes_finish(&subscriber->input);
		else if (input->size > 0)
			hub_set_deadline(subscriber->hub, subscriber);
		else
			hub_clear_deadline(subscriber->hub, subscriber);
	} else if (!subscriber->is_ending && !subscriber->is_closed) {
		hub_clear_deadline(subscriber->hub, subscriber);
	}
	if (!is_busy(subscriber) && !subscriber->is_receiving && !subscriber->has_input_ended) {
		subscriber->is_receiving = true;
		loop_stream_receive(subscriber->stream);
	}
	subscriber_advance(subscriber);
}

static void on_input(void *userdata, const char *data, ssize_t size)
{
	struct subscriber *subscriber = userdata;

	subscriber->is_receiving = false;
	if (size < 0) {
		close_now(subscriber);
		return;
	}
	if (size == 0)
		subscriber->has_input_ended = true;
	if (subscriber->is_ending)
		return;
	if (size > 0 && !subscriber->has_begun && data[0] != '{') {
		subscriber_fail(subscriber, -EBADMSG, "A request is a JSON object on a line.");
		return;
	}
	subscriber->has_begun = true;
	if (size > 0)
		bytes_append(&subscriber->input, data, size);
	if (bytes_error(&subscriber->input))
		close_now(subscriber);
	else
		process(subscriber);
}

static void on_sent(void *userdata, ssize_t size)
{
	struct subscriber *subscriber = userdata;

	subscriber->is_sending = false;
	if (size < 0) {
		close_now(subscriber);
		return;
	}
	subscriber->is_full = size < subscriber->asked;
	if (subscriber->lines)
		lines_sent(subscriber, size);
	else
		sending_sent(subscriber, size);
	if (bytes_error(&subscriber->sending) || (subscriber->is_cut && subscriber->is_full))
		close_now(subscriber);
	else
		process(subscriber);
}

static void on_writable(void *userdata)
{
	struct subscriber *subscriber = userdata;

	subscriber->is_full = false;
	subscriber_advance(subscriber);
}

/* ---- Life ---- */

static void subscriber_free(struct subscriber *subscriber)
{
	if (subscriber->job)
		request_abandon(subscriber->job);
	lines_unref(subscriber->lines);
	bytes_finish(&subscriber->input);
	bytes_finish(&subscriber->answers);
	bytes_finish(&subscriber->sending);
	free(subscriber);
}

static void on_closed(void *userdata)
{
	struct subscriber *subscriber = userdata;

	hub_remove(subscriber->hub, subscriber);
	subscriber_free(subscriber);
}

static const struct loop_stream_calls stream_calls = {
	.on_input = on_input,
	.on_sent = on_sent,
	.on_writable = on_writable,
	.on_closed = on_closed,
};

int subscriber_create(struct hub *hub, int fd, const struct peer *peer)
{
	struct subscriber *subscriber = calloc(1, sizeof(*subscriber));
	int r = -ENOMEM;

	if (subscriber)
		r = loop_stream_open(hub->loop, fd, &stream_calls, subscriber, &subscriber->stream);
	if (r < 0) {
		free(subscriber);
		close(fd);
		return r;
	}
	subscriber->hub = hub;
	subscriber->peer = *peer;
	hub_add(hub, subscriber);
	process(subscriber);
	return 0;
}

void subscriber_start(struct subscriber *subscriber, uint64_t seq, bool follows)
{
	subscriber->is_subscribed = true;
	subscriber->next_seq = seq;
	subscriber->follows = follows;
}

void subscriber_answered(struct subscriber *subscriber)
{
	process(subscriber);
}

void subscriber_fail(struct subscriber *subscriber, int error, const char *message)
{
	if (subscriber->is_ending || subscriber->is_closed)
		return;
	request_write_error(&subscriber->answers, error, message);
	end(subscriber);
	subscriber_advance(subscriber);
}

void subscriber_expire(struct subscriber *subscriber)
{
	if (subscriber->is_ending)
		close_now(subscriber);
	else
		subscriber_fail(subscriber, -ETIMEDOUT, "The rest of the request did not come.");
}

void subscriber_end(struct subscriber *subscriber)
{
	hub_stop_waiting(subscriber->hub, subscriber);
	subscriber_advance(subscriber);
}

void subscriber_cut(struct subscriber *subscriber)
{
	if (subscriber->is_closed)
		return;
	if (subscriber->is_full) {
		close_now(subscriber);
		return;
	}
	subscriber->is_cut = true;
	if (!subscriber->is_ending)
		say_bye(subscriber);
	subscriber_advance(subscriber);
}
