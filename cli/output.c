/*
 * Output: standard output, so that it can be interrupted.
 *
 * Standard output is shared with other programs and so stays blocking. poll(2) promises room for
 * PIPE_BUF bytes of a pipe, and no more than that is written at a time: write(2) never waits,
 * poll(2) does.
 */
#include "cli/output.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <unistd.h>

void output_init(struct output *output, int fd, int stop_fd)
{
	bytes_init(&output->bytes);
	output->enough = 1;
	output->fd = fd;
	output->stop_fd = stop_fd;
}

void output_finish(struct output *output)
{
	bytes_finish(&output->bytes);
}

/* Until there is room, the reader has gone, or we are to stop. */
static int wait_for_room(const struct output *output)
{
	/* A descriptor of -1 is passed over. */
	struct pollfd fds[] = {
		{ .fd = output->fd, .events = POLLOUT },
		{ .fd = output->stop_fd, .events = POLLIN },
	};

	while (poll(fds, 2, -1) < 0)
		if (errno != EINTR)
			return -errno;
	return fds[1].revents ? -EINTR : 0;
}

static int write_all(const struct output *output)
{
	size_t done = 0;

	while (done < output->bytes.size) {
		size_t left = output->bytes.size - done;
		ssize_t n;
		int r;

		r = wait_for_room(output);
		if (r < 0)
			return r;
		n = write(output->fd, output->bytes.data + done, left < PIPE_BUF ? left : PIPE_BUF);
		if (n < 0 && errno != EINTR && errno != EAGAIN)
			return -errno;
		if (n > 0)
			done += n;
	}
	return 0;
}

int output_flush(struct output *output)
{
	int r = bytes_error(&output->bytes);

	if (r == 0)
		r = write_all(output);
	bytes_clear(&output->bytes);
	return r;
}

int output_flush_batch(struct output *output)
{
	if (output->bytes.size < output->enough && bytes_error(&output->bytes) == 0)
		return 0;
	if (output->enough < OUTPUT_BATCH)
		output->enough *= 2;
	return output_flush(output);
}
