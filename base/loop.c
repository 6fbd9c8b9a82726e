/*
 * Loop: streams, listeners, watches and timers, over a back-end (loop_backend.h).
 *
 * A stream may be closed while the kernel still works on its operations. The socket is shut
 * down then, which completes all of them at once, and the stream is freed at the end of the turn in
 * which the last one has.
 */
#include "base/loop.h"

#include "base/fdutil.h"
#include "base/loop_backend.h"
#include "base/scope.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct listener {
	SLIST_ENTRY(listener) link;
	struct loop *loop;
	struct loop_op op;
	struct loop_timer retry;
	loop_accept_fn on_accept;
	void *userdata;
};

struct watch {
	SLIST_ENTRY(watch) link;
	struct loop *loop;
	struct loop_op op;
	loop_watch_fn on_count;
	void *userdata;
};

struct loop_stream {
	TAILQ_ENTRY(loop_stream) link; /* in loop->closing */
	struct loop *loop;
	int fd; /* owned */
	const struct loop_stream_calls *calls;
	void *userdata;
	struct loop_op input;  /* a receive */
	struct loop_op output; /* a send, or after a short one the wait for room */
	bool has_input;        /* that operation is under way */
	bool has_output;
	bool is_closing;
	size_t asked; /* bytes of the current send */
	struct msghdr message;
	struct iovec vectors[LOOP_VECTORS_MAX];
};

TAILQ_HEAD(timer_list, loop_timer);

struct loop {
	pthread_mutex_t mutex; /* of all that follows: held by the thread that runs the loop, but while it waits */
	const struct loop_backend *backend;
	void *backend_state;
	struct loop_op_list started;
	struct timer_list timers; /* few, in no order */
	struct timer_list due;    /* being called back */
	TAILQ_HEAD(, loop_stream) closing;
	SLIST_HEAD(, listener) listeners;
	SLIST_HEAD(, watch) watches;
	bool is_stopped;
};

uint64_t loop_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void start_op(struct loop *loop, struct loop_op *op)
{
	STAILQ_INSERT_TAIL(&loop->started, op, link);
}

/* ---- The loop ---- */

static int create_backend(struct loop *loop)
{
	const char *no_uring = getenv("HRFS_NO_URING");
	int r = -ENOSYS;

	loop->backend = &loop_uring_backend;
	if (!no_uring || strcmp(no_uring, "1") != 0)
		r = loop->backend->create(&loop->backend_state);
	if (r < 0) {
		loop->backend = &loop_poll_backend;
		r = loop->backend->create(&loop->backend_state);
	}
	return r;
}

int loop_create(struct loop **out)
{
	scoped(freep) struct loop *loop = calloc(1, sizeof(*loop));
	int r;

	if (!loop)
		return -ENOMEM;
	STAILQ_INIT(&loop->started);
	TAILQ_INIT(&loop->timers);
	TAILQ_INIT(&loop->due);
	TAILQ_INIT(&loop->closing);
	SLIST_INIT(&loop->listeners);
	SLIST_INIT(&loop->watches);
	pthread_mutex_init(&loop->mutex, NULL);
	r = create_backend(loop);
	if (r < 0)
		return r;
	*out = take(loop);
	return 0;
}

void loop_destroy(struct loop *loop)
{
	if (!loop)
		return;
	loop->backend->destroy(loop->backend_state);
	while (!SLIST_EMPTY(&loop->listeners)) {
		struct listener *listener = SLIST_FIRST(&loop->listeners);

		SLIST_REMOVE_HEAD(&loop->listeners, link);
		free(listener);
	}
	while (!SLIST_EMPTY(&loop->watches)) {
		struct watch *watch = SLIST_FIRST(&loop->watches);

		SLIST_REMOVE_HEAD(&loop->watches, link);
		free(watch);
	}
	pthread_mutex_destroy(&loop->mutex);
	free(loop);
}

bool loop_uses_uring(const struct loop *loop)
{
	return loop->backend == &loop_uring_backend;
}

void loop_stop(struct loop *loop)
{
	loop->is_stopped = true;
}

static uint64_t time_to_next_timer(struct loop *loop)
{
	uint64_t first = UINT64_MAX, now;
	struct loop_timer *timer;

	TAILQ_FOREACH(timer, &loop->timers, link)
	first = timer->deadline_ns < first ? timer->deadline_ns : first;
	if (first == UINT64_MAX)
		return UINT64_MAX;
	now = loop_now_ns();
	return first > now ? first - now : 0;
}

static void call_due_timers(struct loop *loop)
{
	struct loop_timer *timer, *next;
	uint64_t now;

	if (TAILQ_EMPTY(&loop->timers))
		return;
	now = loop_now_ns();
	for (timer = TAILQ_FIRST(&loop->timers); timer; timer = next) {
		next = TAILQ_NEXT(timer, link);
		if (timer->deadline_ns > now)
			continue;
		TAILQ_REMOVE(&loop->timers, timer, link);
		TAILQ_INSERT_TAIL(&loop->due, timer, link);
	}
	/*
	 * A callback may stop a due timer, or start it anew for a later turn: either takes it off
	 * the list.
	 */
	while ((timer = TAILQ_FIRST(&loop->due))) {
		loop_timer_stop(timer);
		timer->on_time(timer->userdata);
	}
}

static void free_closed_streams(struct loop *loop)
{
	struct loop_stream *stream, *next;

	for (stream = TAILQ_FIRST(&loop->closing); stream; stream = next) {
		next = TAILQ_NEXT(stream, link);
		if (stream->has_input || stream->has_output)
			continue;
		TAILQ_REMOVE(&loop->closing, stream, link);
		close(stream->fd);
		stream->calls->on_closed(stream->userdata);
		free(stream);
	}
}

static int wait_unlocked(struct loop *loop, uint64_t timeout_ns)
{
	int r;

	pthread_mutex_unlock(&loop->mutex);
	r = loop->backend->wait(loop->backend_state, timeout_ns);
	pthread_mutex_lock(&loop->mutex);
	return r;
}

static int turn(struct loop *loop)
{
	bool is_busy = loop->backend->start(loop->backend_state, &loop->started);
	int r = wait_unlocked(loop, is_busy ? 0 : time_to_next_timer(loop));

	if (r < 0)
		return r;
	loop->backend->deliver(loop->backend_state, &loop->started);
	call_due_timers(loop);
	free_closed_streams(loop);
	return 0;
}

int loop_run(struct loop *loop)
{
	int r = 0;

	pthread_mutex_lock(&loop->mutex);
	while (r == 0 && !loop->is_stopped)
		r = turn(loop);
	loop->is_stopped = false;
	pthread_mutex_unlock(&loop->mutex);
	return r;
}

void loop_enter(struct loop *loop)
{
	pthread_mutex_lock(&loop->mutex);
}

bool loop_try_enter(struct loop *loop)
{
	return pthread_mutex_trylock(&loop->mutex) == 0;
}

void loop_leave(struct loop *loop)
{
	pthread_mutex_unlock(&loop->mutex);
}

/* ---- Listening, watching ---- */

static void on_accepted(struct loop_op *op, int result, const char *data, bool is_last)
{
	struct listener *listener = (struct listener *)((char *)op - offsetof(struct listener, op));
	bool is_passing = result == -ECONNABORTED || result == -EINTR || result == -EAGAIN;

	if (is_last && (result >= 0 || is_passing))
		start_op(listener->loop, op);
	else if (is_last)
		loop_timer_start(&listener->retry, LOOP_ACCEPT_RETRY_MS * 1000000ull);
	if (!is_passing)
		listener->on_accept(listener->userdata, result);
}

static void accept_again(void *userdata)
{
	struct listener *listener = userdata;

	start_op(listener->loop, &listener->op);
}

int loop_listen(struct loop *loop, int fd, loop_accept_fn on_accept, void *userdata)
{
	scoped(freep) struct listener *listener = calloc(1, sizeof(*listener));
	int r;

	if (!listener)
		return -ENOMEM;
	/* io_uring would answer EAGAIN instead of waiting. */
	r = fd_set_nonblocking(fd, loop->backend->wants_nonblocking_listener);
	if (r < 0)
		return r;
	listener->loop = loop;
	listener->on_accept = on_accept;
	listener->userdata = userdata;
	listener->op = (struct loop_op){ .kind = LOOP_ACCEPT, .fd = fd, .complete = on_accepted };
	loop_timer_init(&listener->retry, loop, accept_again, listener);
	start_op(loop, &listener->op);
	SLIST_INSERT_HEAD(&loop->listeners, listener, link);
	take(listener);
	return 0;
}

/* What the callee starts comes first: waiting for the next count can wait. */
static void on_counted(struct loop_op *op, int result, const char *data, bool is_last)
{
	struct watch *watch = (struct watch *)((char *)op - offsetof(struct watch, op));

	watch->on_count(watch->userdata);
	start_op(watch->loop, op);
}

int loop_watch(struct loop *loop, int fd, loop_watch_fn on_count, void *userdata)
{
	scoped(freep) struct watch *watch = calloc(1, sizeof(*watch));
	int r;

	if (!watch)
		return -ENOMEM;
	/* A read of io_uring would answer EAGAIN instead of waiting. */
	r = fd_set_nonblocking(fd, false);
	if (r < 0)
		return r;
	watch->loop = loop;
	watch->on_count = on_count;
	watch->userdata = userdata;
	watch->op = (struct loop_op){ .kind = LOOP_COUNT, .fd = fd, .complete = on_counted };
	start_op(loop, &watch->op);
	SLIST_INSERT_HEAD(&loop->watches, watch, link);
	take(watch);
	return 0;
}

/* ---- Timers ---- */

void loop_timer_init(struct loop_timer *timer, struct loop *loop, loop_time_fn on_time,
		     void *userdata)
{
	*timer = (struct loop_timer){ .loop = loop, .on_time = on_time, .userdata = userdata };
}

void loop_timer_start(struct loop_timer *timer, uint64_t delay_ns)
{
	loop_timer_stop(timer);
	timer->deadline_ns = loop_now_ns() + delay_ns;
	timer->is_running = true;
	TAILQ_INSERT_TAIL(&timer->loop->timers, timer, link);
}

void loop_timer_stop(struct loop_timer *timer)
{
	struct loop_timer *due;

	if (!timer->is_running)
		return;
	timer->is_running = false;
	TAILQ_FOREACH(due, &timer->loop->due, link)
	{
		if (due == timer) {
			TAILQ_REMOVE(&timer->loop->due, timer, link);
			return;
		}
	}
	TAILQ_REMOVE(&timer->loop->timers, timer, link);
}

/* ---- Streams ---- */

static void on_input_done(struct loop_op *op, int result, const char *data, bool is_last)
{
	struct loop_stream *stream =
		(struct loop_stream *)((char *)op - offsetof(struct loop_stream, input));

	stream->has_input = false;
	if (!stream->is_closing)
		stream->calls->on_input(stream->userdata, data, result);
}

static void wait_for_room(struct loop_stream *stream)
{
	stream->output.kind = LOOP_POLL;
	stream->output.events = POLLOUT;
	stream->has_output = true;
	start_op(stream->loop, &stream->output);
}

static void on_output_done(struct loop_op *op, int result, const char *data, bool is_last)
{
	struct loop_stream *stream =
		(struct loop_stream *)((char *)op - offsetof(struct loop_stream, output));

	stream->has_output = false;
	if (stream->is_closing)
		return;
	if (op->kind == LOOP_POLL) {
		stream->calls->on_writable(stream->userdata);
		return;
	}
	if (result == -EAGAIN || result == -EINTR || result == -ENOBUFS)
		result = 0;
	if (result >= 0 && result < stream->asked)
		wait_for_room(stream);
	stream->calls->on_sent(stream->userdata, result);
}

int loop_stream_open(struct loop *loop, int fd, const struct loop_stream_calls *calls,
		     void *userdata, struct loop_stream **out)
{
	struct loop_stream *stream;
	int r;

	/*
	 * A receive of io_uring would answer EAGAIN instead of waiting. Sends never wait,
	 * whatever the flag.
	 */
	r = fd_set_nonblocking(fd, false);
	if (r < 0)
		return r;
	stream = calloc(1, sizeof(*stream));
	if (!stream)
		return -ENOMEM;
	stream->loop = loop;
	stream->fd = fd;
	stream->calls = calls;
	stream->userdata = userdata;
	stream->input =
		(struct loop_op){ .kind = LOOP_RECEIVE, .fd = fd, .complete = on_input_done };
	stream->output = (struct loop_op){ .fd = fd, .complete = on_output_done };
	stream->message.msg_iov = stream->vectors;
	*out = stream;
	return 0;
}

void loop_stream_receive(struct loop_stream *stream)
{
	assert(!stream->has_input && !stream->is_closing);
	stream->has_input = true;
	start_op(stream->loop, &stream->input);
}

void loop_stream_send(struct loop_stream *stream, const struct iovec *vectors, unsigned count)
{
	assert(!stream->has_output && !stream->is_closing && count <= LOOP_VECTORS_MAX);
	stream->asked = 0;
	for (unsigned i = 0; i < count; i++) {
		stream->vectors[i] = vectors[i];
		stream->asked += vectors[i].iov_len;
	}
	stream->message.msg_iovlen = count;
	stream->output.kind = LOOP_SEND;
	stream->output.message = &stream->message;
	stream->has_output = true;
	start_op(stream->loop, &stream->output);
}

ssize_t loop_stream_send_now(struct loop_stream *stream, const void *data, size_t size)
{
	ssize_t n;

	assert(!stream->has_output && !stream->is_closing);
	n = send(stream->fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
	return n < 0 ? -errno : n;
}

void loop_stream_close(struct loop_stream *stream)
{
	char rest[LOOP_INPUT_MAX];

	if (!stream)
		return;
	assert(!stream->is_closing);
	stream->is_closing = true;
	shutdown(stream->fd, SHUT_RDWR);
	/*
	 * Closing a Unix socket with unread input would end the peer's reading with ECONNRESET.
	 * No more can come.
	 */
	while (recv(stream->fd, rest, sizeof(rest), MSG_DONTWAIT) > 0)
		;
	TAILQ_INSERT_TAIL(&stream->loop->closing, stream, link);
}
