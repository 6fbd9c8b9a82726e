/*
 * Loop on poll(2): sends are made at once, everything else waits in one array of descriptors and
 * is made when poll(2) says so.
 */
#include "base/loop_backend.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>

struct poll_state {
	struct pollfd
		*fds; /* the two arrays go together; an operation leaves them before it completes */
	struct loop_op **ops;
	unsigned count;
	unsigned capacity;
	int ready; /* of fds, by the last wait */
};

static int poll_create(void **out_state)
{
	struct poll_state *state = calloc(1, sizeof(*state));

	if (!state)
		return -ENOMEM;
	*out_state = state;
	return 0;
}

static void poll_destroy(void *data)
{
	struct poll_state *state = data;

	free(state->fds);
	free(state->ops);
	free(state);
}

static int grow(struct poll_state *state)
{
	unsigned capacity = state->capacity ? state->capacity * 2 : 16;
	struct pollfd *fds;
	struct loop_op **ops;

	fds = realloc(state->fds, capacity * sizeof(*fds));
	if (!fds)
		return -ENOMEM;
	state->fds = fds;
	ops = realloc(state->ops, capacity * sizeof(*ops));
	if (!ops)
		return -ENOMEM;
	state->ops = ops;
	state->capacity = capacity;
	return 0;
}

static int add(struct poll_state *state, struct loop_op *op)
{
	if (state->count == state->capacity && grow(state) < 0)
		return -ENOMEM;
	state->ops[state->count] = op;
	state->fds[state->count++] = (struct pollfd){
		.fd = op->fd,
		.events = op->kind == LOOP_POLL ? op->events : POLLIN,
	};
	return 0;
}

static void remove_at(struct poll_state *state, unsigned i)
{
	state->count--;
	state->ops[i] = state->ops[state->count];
	state->fds[i] = state->fds[state->count];
}

static void send_now(struct loop_op *op)
{
	ssize_t size = sendmsg(op->fd, op->message, MSG_NOSIGNAL | MSG_DONTWAIT);

	op->complete(op, size < 0 ? -errno : (int)size, NULL, true);
}

/*
 * Leaves in @list what there is no memory for, and what the completions of sends started. Returns
 * whether something has completed.
 */
static bool start_all(struct poll_state *state, struct loop_op_list *list)
{
	struct loop_op_list started = STAILQ_HEAD_INITIALIZER(started);
	bool has_completed = false;

	STAILQ_CONCAT(&started, list);
	while (!STAILQ_EMPTY(&started)) {
		struct loop_op *op = STAILQ_FIRST(&started);

		STAILQ_REMOVE_HEAD(&started, link);
		if (op->kind == LOOP_SEND) {
			send_now(op);
			has_completed = true;
		} else if (add(state, op) < 0) {
			STAILQ_INSERT_TAIL(list, op, link);
		}
	}
	return has_completed;
}

static void accept_all(struct loop_op *op, struct loop_op_list *list)
{
	int fd;

	while ((fd = accept4(op->fd, NULL, NULL, SOCK_CLOEXEC)) >= 0)
		op->complete(op, fd, NULL, false);
	if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED)
		STAILQ_INSERT_TAIL(list, op, link);
	else
		op->complete(op, -errno, NULL, true);
}

static void receive_now(struct loop_op *op, struct loop_op_list *list)
{
	char buffer[LOOP_INPUT_MAX];
	ssize_t size = recv(op->fd, buffer, sizeof(buffer), MSG_DONTWAIT);

	if (size < 0 && (errno == EAGAIN || errno == EINTR))
		STAILQ_INSERT_TAIL(list, op, link);
	else
		op->complete(op, size < 0 ? -errno : (int)size, buffer, true);
}

static void count_now(struct loop_op *op)
{
	eventfd_t count;

	op->complete(op, eventfd_read(op->fd, &count) < 0 ? -errno : 0, NULL, true);
}

static void make(struct loop_op *op, short events, struct loop_op_list *list)
{
	switch (op->kind) {
	case LOOP_ACCEPT:
		accept_all(op, list);
		break;
	case LOOP_RECEIVE:
		receive_now(op, list);
		break;
	case LOOP_COUNT:
		count_now(op);
		break;
	default:
		op->complete(op, events, NULL, true);
	}
}

static bool poll_start(void *data, struct loop_op_list *list)
{
	bool has_completed = start_all(data, list);

	return has_completed || !STAILQ_EMPTY(list);
}

static int poll_wait(void *data, uint64_t timeout_ns)
{
	struct poll_state *state = data;
	struct timespec timeout = {
		.tv_sec = timeout_ns / 1000000000,
		.tv_nsec = timeout_ns % 1000000000,
	};

	state->ready = ppoll(state->fds, state->count, timeout_ns == UINT64_MAX ? NULL : &timeout, NULL);
	return state->ready < 0 && errno != EINTR && errno != ENOMEM ? -errno : 0;
}

static void poll_deliver(void *data, struct loop_op_list *list)
{
	struct poll_state *state = data;

	/* What takes the place of a removed entry is looked at next; nothing is added in here. */
	for (unsigned i = 0; state->ready > 0 && i < state->count;) {
		struct loop_op *op = state->ops[i];
		short events = state->fds[i].revents;

		if (!events) {
			i++;
			continue;
		}
		state->ready--;
		remove_at(state, i);
		make(op, events, list);
	}
}

const struct loop_backend loop_poll_backend = {
	.create = poll_create,
	.destroy = poll_destroy,
	.start = poll_start,
	.wait = poll_wait,
	.deliver = poll_deliver,
	.wants_nonblocking_listener = true,
};
