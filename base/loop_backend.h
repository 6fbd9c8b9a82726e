/*
 * Loop back-end: what loop.c asks of io_uring or poll(2).
 *
 * Everything the loop does is an operation that the back-end carries out once and then completes.
 * Starting one only puts it on the loop's list: the back-end takes from there at the beginning of
 * its turn and leaves what it has no room for, so starting cannot fail. An operation may be
 * started again from its own completion.
 */
#pragma once

#include "base/loop.h"

#include <sys/socket.h>

enum loop_op_kind {
	LOOP_ACCEPT,  /* completes with a descriptor, maybe many times */
	LOOP_RECEIVE, /* completes with a size and the bytes */
	LOOP_SEND,    /* completes at once with a size, or -EAGAIN */
	LOOP_POLL,    /* completes when @events are there, or an error or a hang-up */
	LOOP_COUNT,   /* completes when an eventfd, not non-blocking, has been read and is 0 again */
};

struct loop_op {
	STAILQ_ENTRY(loop_op) link;
	enum loop_op_kind kind;
	int fd;
	union {
		const struct msghdr *message; /* LOOP_SEND */
		short events;                 /* LOOP_POLL */
	};
	/*
	 * @is_last: the operation is over; else (LOOP_ACCEPT) more completions come. @data:
	 * LOOP_RECEIVE's bytes.
	 */
	void (*complete)(struct loop_op *op, int result, const char *data, bool is_last);
};

STAILQ_HEAD(loop_op_list, loop_op);

struct loop_backend {
	/* Returns 0 and sets *@out_state, or a negative errno. */
	int (*create)(void **out_state);
	void (*destroy)(void *state);
	/* A turn is these three. Start what is in @list; returns whether there is no time to wait. */
	bool (*start)(void *state, struct loop_op_list *list);
	/*
	 * Wait for completions, up to @timeout_ns (UINT64_MAX: for ever). Other threads may put operations in the list
	 * meanwhile. Returns 0 or a negative errno.
	 */
	int (*wait)(void *state, uint64_t timeout_ns);
	/* Deliver what has completed. */
	void (*deliver)(void *state, struct loop_op_list *list);
	/* Whether a listening socket has O_NONBLOCK. */
	bool wants_nonblocking_listener;
};

extern const struct loop_backend loop_uring_backend;
extern const struct loop_backend loop_poll_backend;
