/*
 * Loop on io_uring: a turn is one io_uring_enter(2), which submits what was started, runs the
 * sends, and waits.
 *
 * Input comes into buffers of a ring shared with the kernel, which takes one only when there are
 * bytes: thousands of idle connections hold none. A buffer goes back as soon as its bytes have
 * been looked at. When all are taken, a receive fails with ENOBUFS and is repeated.
 */
#include "base/loop_backend.h"

#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <sys/mman.h>

enum {
	ENTRIES = 256,      /* submissions of one system call */
	COMPLETIONS = 8192, /* what may be under way: a receive and a send for 4,096 connections */
	INPUT_BUFFERS = 32, /* a power of two */
	INPUT_GROUP = 0,
};

/* What eventfds had counted. Nobody's in particular, so that it is there for as long as the kernel may write it. */
static uint64_t ignored_count;

struct uring {
	struct io_uring ring;
	struct io_uring_buf_ring *buffer_ring; /* shared with the kernel */
	char *buffers;                         /* INPUT_BUFFERS times LOOP_INPUT_MAX */
};

static void give_buffer(struct uring *uring, unsigned id)
{
	io_uring_buf_ring_add(uring->buffer_ring, uring->buffers + (size_t)id * LOOP_INPUT_MAX,
			      LOOP_INPUT_MAX, id, io_uring_buf_ring_mask(INPUT_BUFFERS), 0);
	io_uring_buf_ring_advance(uring->buffer_ring, 1);
}

static size_t buffer_ring_size(void)
{
	return INPUT_BUFFERS * sizeof(struct io_uring_buf);
}

static int create_buffers(struct uring *uring)
{
	struct io_uring_buf_reg registration = { .ring_entries = INPUT_BUFFERS,
						 .bgid = INPUT_GROUP };
	void *memory;
	int r;

	uring->buffers = malloc((size_t)INPUT_BUFFERS * LOOP_INPUT_MAX);
	memory = mmap(NULL, buffer_ring_size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		      -1, 0);
	if (memory != MAP_FAILED)
		uring->buffer_ring = memory;
	if (!uring->buffers || !uring->buffer_ring)
		return -ENOMEM;

	registration.ring_addr = (uintptr_t)memory;
	r = io_uring_register_buf_ring(&uring->ring, &registration, 0);
	if (r < 0)
		return r;
	io_uring_buf_ring_init(uring->buffer_ring);
	for (unsigned id = 0; id < INPUT_BUFFERS; id++)
		give_buffer(uring, id);
	return 0;
}

static int create_ring(struct uring *uring)
{
	/*
	 * Without COOP_TASKRUN the kernel interrupts the thread for completions it would see
	 * anyway.
	 */
	struct io_uring_params params = {
		.flags = IORING_SETUP_CQSIZE | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_CLAMP,
		.cq_entries = COMPLETIONS,
	};
	int r;

	r = io_uring_queue_init_params(ENTRIES, &uring->ring, &params);
	if (r < 0)
		return r;
	/* A kernel that has all of this also has multishot accept. */
	if (!(params.features & IORING_FEAT_EXT_ARG))
		r = -ENOSYS;
	else
		r = create_buffers(uring);
	if (r < 0)
		io_uring_queue_exit(&uring->ring);
	return r;
}

static void free_memory(struct uring *uring)
{
	if (uring->buffer_ring)
		munmap(uring->buffer_ring, buffer_ring_size());
	free(uring->buffers);
	free(uring);
}

static int uring_create(void **out_state)
{
	struct uring *uring;
	int r;

	uring = calloc(1, sizeof(*uring));
	if (!uring)
		return -ENOMEM;
	r = create_ring(uring);
	if (r < 0) {
		free_memory(uring);
		return r;
	}
	*out_state = uring;
	return 0;
}

static void uring_destroy(void *state)
{
	struct uring *uring = state;

	io_uring_queue_exit(&uring->ring);
	free_memory(uring);
}

static void prepare(struct io_uring_sqe *sqe, struct loop_op *op)
{
	switch (op->kind) {
	case LOOP_ACCEPT:
		io_uring_prep_multishot_accept(sqe, op->fd, NULL, NULL, SOCK_CLOEXEC);
		break;
	case LOOP_RECEIVE:
		io_uring_prep_recv(sqe, op->fd, NULL, LOOP_INPUT_MAX, 0);
		io_uring_sqe_set_flags(sqe, IOSQE_BUFFER_SELECT);
		sqe->buf_group = INPUT_GROUP;
		break;
	case LOOP_SEND:
		/* DONTWAIT: or the kernel would keep the bytes until the peer reads. */
		io_uring_prep_sendmsg(sqe, op->fd, op->message, MSG_NOSIGNAL | MSG_DONTWAIT);
		break;
	case LOOP_POLL:
		io_uring_prep_poll_add(sqe, op->fd, op->events);
		break;
	case LOOP_COUNT:
		/* One call less than polling and then reading. */
		io_uring_prep_read(sqe, op->fd, &ignored_count, sizeof(ignored_count), 0);
		break;
	}
	io_uring_sqe_set_data(sqe, op);
}

/* Leaves in @list what the ring has no room for. */
static void prepare_all(struct uring *uring, struct loop_op_list *list)
{
	while (!STAILQ_EMPTY(list)) {
		struct loop_op *op = STAILQ_FIRST(list);
		struct io_uring_sqe *sqe = io_uring_get_sqe(&uring->ring);

		if (!sqe) {
			io_uring_submit(&uring->ring);
			sqe = io_uring_get_sqe(&uring->ring);
		}
		if (!sqe)
			return;
		STAILQ_REMOVE_HEAD(list, link);
		prepare(sqe, op);
	}
}

static void deliver(struct uring *uring, struct loop_op_list *list, const struct io_uring_cqe *cqe)
{
	struct loop_op *op = io_uring_cqe_get_data(cqe);
	bool has_buffer = cqe->flags & IORING_CQE_F_BUFFER;
	unsigned id = cqe->flags >> IORING_CQE_BUFFER_SHIFT;

	if (op->kind == LOOP_RECEIVE && cqe->res == -ENOBUFS) {
		STAILQ_INSERT_TAIL(list, op, link);
		return;
	}
	op->complete(op, cqe->res, has_buffer ? uring->buffers + (size_t)id * LOOP_INPUT_MAX : NULL,
		     !(cqe->flags & IORING_CQE_F_MORE));
	if (has_buffer)
		give_buffer(uring, id);
}

static bool uring_start(void *state, struct loop_op_list *list)
{
	prepare_all(state, list);
	return !STAILQ_EMPTY(list);
}

static int uring_wait(void *state, uint64_t timeout_ns)
{
	struct uring *uring = state;
	struct __kernel_timespec timeout = {
		.tv_sec = timeout_ns / 1000000000,
		.tv_nsec = timeout_ns % 1000000000,
	};
	struct io_uring_cqe *first;
	int r;

	r = io_uring_submit_and_wait_timeout(&uring->ring, &first, 1, timeout_ns == UINT64_MAX ? NULL : &timeout, NULL);
	/* EBUSY and EAGAIN: the kernel is short of something until completions are taken. */
	return r < 0 && r != -ETIME && r != -EINTR && r != -EBUSY && r != -EAGAIN ? r : 0;
}

static void uring_deliver(void *state, struct loop_op_list *list)
{
	struct uring *uring = state;
	/* Those that come while these are delivered are for the next turn. */
	unsigned count = io_uring_cq_ready(&uring->ring);

	while (count--) {
		struct io_uring_cqe *cqe;

		if (io_uring_peek_cqe(&uring->ring, &cqe) < 0)
			break;
		deliver(uring, list, cqe);
		io_uring_cqe_seen(&uring->ring, cqe);
	}
}

const struct loop_backend loop_uring_backend = {
	.create = uring_create,
	.destroy = uring_destroy,
	.start = uring_start,
	.wait = uring_wait,
	.deliver = uring_deliver,
	.wants_nonblocking_listener = false,
};
