/*
 * Loop: an event loop for one thread.
 *
 * It accepts connections, receives from and sends to stream sockets, watches eventfds, and
 * keeps timers; each of them calls back. Underneath is io_uring: everything that
 * the callbacks of one turn start goes to the kernel in one system call. Where io_uring is
 * refused (containers, an old kernel; or HRFS_NO_URING=1 in the environment, which is for
 * finding faults), the same functions run on poll(2).
 *
 * Callbacks come from loop_run() only, never from inside another function of the loop, so a
 * caller may finish what it is doing. A callback may call any of the functions below.
 *
 * Threads: create the loop on any, then all calls belong to the thread of loop_run(). Another
 * thread wakes the loop by writing to an eventfd that it watches, or takes its place with loop_enter().
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>
#include <sys/uio.h>

struct loop;
struct loop_stream;

enum {
	LOOP_INPUT_MAX = 4096, /* bytes of a single on_input() */
	LOOP_VECTORS_MAX = 2,  /* pieces of a single send */
};

/** Make a loop. Does not fail because io_uring is refused. Returns 0 or a negative errno. */
int loop_create(struct loop **out);

/** Free it, with its listeners and watches. Every stream has been closed before. NULL is fine. */
void loop_destroy(struct loop *loop);

/** Whether it runs on io_uring. */
bool loop_uses_uring(const struct loop *loop);

/**
 * Run until loop_stop(); returns 0 then, or the negative errno of a failed wait. May be called
 * again.
 */
int loop_run(struct loop *loop);

/**
 * For another thread than that of loop_run(), while that one waits: until loop_leave() it may do what a callback may. What
 * it starts is carried out when the loop's thread wakes the next time.
 */
void loop_enter(struct loop *loop);

/** The same, but returns false while the loop's thread, or somebody else, is at work. */
bool loop_try_enter(struct loop *loop);

void loop_leave(struct loop *loop);

/** Make loop_run() return after the current turn. */
void loop_stop(struct loop *loop);

/** CLOCK_MONOTONIC in nanoseconds. */
uint64_t loop_now_ns(void);

/* ---- Listening, watching: these live as long as the loop ---- */

/**
 * @fd: a new connection, taken over by the callee, close-on-exec; or the negative errno that
 * delays accepting.
 */
typedef void (*loop_accept_fn)(void *userdata, int fd);

/**
 * Accept the connections of the listening socket @fd: borrowed; its O_NONBLOCK is set as the loop
 * needs it. Where accepting fails (no free descriptor), it is tried again every
 * LOOP_ACCEPT_RETRY_MS. Returns 0 or -ENOMEM.
 */
int loop_listen(struct loop *loop, int fd, loop_accept_fn on_accept, void *userdata);

enum { LOOP_ACCEPT_RETRY_MS = 100 };

typedef void (*loop_watch_fn)(void *userdata);

/**
 * Call back, at most once a turn, when the eventfd @fd (borrowed) has counted something. The loop reads it, and nobody
 * else does; its O_NONBLOCK is cleared. Returns 0 or a negative errno.
 */
int loop_watch(struct loop *loop, int fd, loop_watch_fn on_count, void *userdata);

/* ---- Timers ---- */

typedef void (*loop_time_fn)(void *userdata);

/** Belongs to the caller, who keeps it while it is running. The fields are the loop's. */
struct loop_timer {
	TAILQ_ENTRY(loop_timer) link;
	struct loop *loop;
	loop_time_fn on_time;
	void *userdata;
	uint64_t deadline_ns;
	bool is_running;
};

void loop_timer_init(struct loop_timer *timer, struct loop *loop, loop_time_fn on_time,
		     void *userdata);

/**
 * Call back once, @delay_ns from now; a running timer is set anew. With 0 that is the end of the
 * current turn or, from a timer's callback, of the next: after everything that has completed by
 * then.
 */
void loop_timer_start(struct loop_timer *timer, uint64_t delay_ns);

/** Do not call back. A timer that is not running is fine. */
void loop_timer_stop(struct loop_timer *timer);

/* ---- Streams: connected sockets ---- */

/** What a stream calls back. After loop_stream_close() only on_closed comes. */
struct loop_stream_calls {
	/**
	 * The answer to loop_stream_receive(): @size bytes at @data, borrowed until the return;
	 * 0: the peer sends no more, but may still read; a negative errno: the connection is
	 * broken. After 0 or less do not receive again.
	 */
	void (*on_input)(void *userdata, const char *data, ssize_t size);
	/**
	 * The answer to loop_stream_send(): @size bytes were taken by the kernel, or a negative
	 * errno. The memory of the vectors is the caller's again. When @size is less than what
	 * was given, because the peer reads too slowly, the caller sends nothing before
	 * on_writable comes.
	 */
	void (*on_sent)(void *userdata, ssize_t size);
	/** The peer has read: there is room again. */
	void (*on_writable)(void *userdata);
	/** The kernel has let go of everything; the stream is freed when this returns. */
	void (*on_closed)(void *userdata);
};

/**
 * Take over the connected socket @fd and clear its O_NONBLOCK; @calls is borrowed. On failure @fd
 * stays the caller's.
 */
int loop_stream_open(struct loop *loop, int fd, const struct loop_stream_calls *calls,
		     void *userdata, struct loop_stream **out);

/** Ask for input, once: on_input answers. A stream that waits for input holds no buffer. */
void loop_stream_receive(struct loop_stream *stream);

/**
 * Send up to LOOP_VECTORS_MAX pieces, one call at a time: on_sent answers within this turn or the
 * next. The vectors are copied, the bytes they name are borrowed until on_sent or on_closed. A
 * send never waits for the peer, so those bytes are never borrowed for long.
 */
void loop_stream_send(struct loop_stream *stream, const struct iovec *vectors, unsigned count);

/**
 * Send at once, when no loop_stream_send() is under way. Returns how many bytes the kernel has taken, or a negative errno;
 * -EAGAIN: the peer reads too slowly. Nothing calls back.
 */
ssize_t loop_stream_send_now(struct loop_stream *stream, const void *data, size_t size);

/** Close: the peer still receives what was sent. on_closed comes soon. Once; NULL is fine. */
void loop_stream_close(struct loop_stream *stream);
