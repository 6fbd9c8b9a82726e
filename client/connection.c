/*
 * Connection: lines to and from the server of one mount.
 *
 * The socket blocks when it is written to, for CONNECTION_ANSWER_MS at most, and is read with
 * MSG_DONTWAIT after poll(2). A signal that arrives meanwhile is not our business: the waiting
 * goes on until the deadline.
 */
#include "client/connection.h"

#include "base/scope.h"
#include "client/hrfs.h"
#include "proto/json.h"
#include "proto/native.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { READ_SIZE = 64 << 10 };

/* ---- Connecting ---- */

/*
 * A path that does not fit in a socket address is reached through a descriptor of the socket's
 * file; *@out_fd keeps it.
 */
static int address_from_path(const char *path, struct sockaddr_un *out, int *out_fd)
{
	out->sun_family = AF_UNIX;
	if (strlen(path) < sizeof(out->sun_path)) {
		strcpy(out->sun_path, path);
		return 0;
	}
	*out_fd = open(path, O_PATH | O_CLOEXEC);
	if (*out_fd < 0)
		return -errno;
	snprintf(out->sun_path, sizeof(out->sun_path), "/proc/self/fd/%d", *out_fd);
	return 0;
}

/* The time-out also bounds connect(2), which waits while the server's queue is full. */
static int connect_to(const char *path, int *out)
{
	const struct timeval timeout = { .tv_sec = CONNECTION_ANSWER_MS / 1000 };
	scoped(closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	scoped(closep) int path_fd = -1;
	struct sockaddr_un address = { 0 };
	int r;

	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) < 0)
		return -errno;
	r = address_from_path(path, &address, &path_fd);
	if (r < 0)
		return r;
	while (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		if (errno != EINTR)
			return errno == EAGAIN ? -ETIMEDOUT : -errno;

	*out = take_fd(fd);
	return 0;
}

int hrfs_connect_socket(const char *socket_path, struct hrfs **out)
{
	struct hrfs *hrfs = calloc(1, sizeof(*hrfs));
	int r;

	if (!hrfs)
		return -ENOMEM;
	r = connect_to(socket_path, &hrfs->fd);
	if (r < 0) {
		free(hrfs);
		return r;
	}
	*out = hrfs;
	return 0;
}

void hrfs_close(struct hrfs *hrfs)
{
	if (!hrfs)
		return;
	close(hrfs->fd);
	bytes_finish(&hrfs->input);
	bytes_finish(&hrfs->output);
	native_storage_free(hrfs->storage);
	free(hrfs->message);
	free(hrfs);
}

/* ---- What a connection knows ---- */

int hrfs_fd(const struct hrfs *hrfs)
{
	return hrfs->fd;
}

uint64_t hrfs_position(const struct hrfs *hrfs)
{
	return hrfs->position;
}

const char *hrfs_log_id(const struct hrfs *hrfs)
{
	return hrfs->log_id;
}

const char *hrfs_error(const struct hrfs *hrfs)
{
	return hrfs->error;
}

const char *hrfs_bye_reason(const struct hrfs *hrfs)
{
	return hrfs->reason;
}

const char *hrfs_line(const struct hrfs *hrfs)
{
	return hrfs->line ? hrfs->line : "";
}

/* ---- Time ---- */

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

connection_deadline connection_deadline_in(int timeout_ms)
{
	return timeout_ms < 0 ? CONNECTION_FOREVER : now_ms() + timeout_ms;
}

static int poll_timeout(connection_deadline deadline)
{
	int64_t left;

	if (deadline == CONNECTION_FOREVER)
		return -1;
	left = deadline - now_ms();
	return left < 0 ? 0 : left > INT32_MAX ? INT32_MAX : left;
}

/* ---- Lines ---- */

/*
 * The newline becomes the NUL that callers of the library are promised. Returns whether there was
 * a whole line.
 */
static bool take_line(struct hrfs *hrfs)
{
	struct bytes *input = &hrfs->input;
	char *line, *newline;

	if (hrfs->searched == input->size)
		return false;
	line = input->data + hrfs->line_end;
	newline = memchr(input->data + hrfs->searched, '\n', input->size - hrfs->searched);
	if (!newline) {
		hrfs->searched = input->size;
		return false;
	}

	*newline = '\0';
	hrfs->line = line;
	hrfs->line_length = newline - line;
	hrfs->line_end = newline + 1 - input->data;
	hrfs->searched = hrfs->line_end;
	return true;
}

/* Lines that were handed out are dropped only here, once a buffer rather than once a line. */
static int make_room(struct hrfs *hrfs)
{
	bytes_consume(&hrfs->input, hrfs->line_end);
	hrfs->searched -= hrfs->line_end;
	hrfs->line_end = 0;
	hrfs->line = NULL;
	if (hrfs->input.size > CONNECTION_LINE_MAX)
		return -EMSGSIZE;
	return bytes_reserve(&hrfs->input, READ_SIZE);
}

/* Returns 1 when something was read, 0 when there was nothing to read. */
static int receive(struct hrfs *hrfs)
{
	struct bytes *input = &hrfs->input;
	ssize_t n;

	n = recv(hrfs->fd, input->data + input->size, input->capacity - input->size, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	/* A server that was killed with requests of ours unread resets the connection. */
	if (n == 0 || (n < 0 && errno == ECONNRESET)) {
		hrfs->has_ended = true;
		return -EPIPE;
	}
	if (n < 0)
		return -errno;
	input->size += n;
	return 1;
}

/* Returns 1 when there is something to read, 0 when the time is up. */
static int wait_for_input(struct hrfs *hrfs, connection_deadline deadline)
{
	struct pollfd input = { .fd = hrfs->fd, .events = POLLIN };

	for (;;) {
		int n = poll(&input, 1, poll_timeout(deadline));

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n >= 0)
			return n;
	}
}

int connection_next_line(struct hrfs *hrfs, connection_deadline deadline)
{
	int r;

	while (!take_line(hrfs)) {
		if (hrfs->has_ended)
			return -EPIPE;
		r = make_room(hrfs);
		if (r < 0)
			return r;
		r = receive(hrfs);
		if (r == 0) {
			r = wait_for_input(hrfs, deadline);
			if (r == 0)
				return 0;
		}
		if (r < 0)
			return r;
	}
	return 1;
}

static int send_all(int fd, const char *data, size_t size)
{
	while (size > 0) {
		ssize_t n = send(fd, data, size, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? -ETIMEDOUT : errno == ECONNRESET ? -EPIPE : -errno;
		data += n;
		size -= n;
	}
	return 0;
}

int connection_send(struct hrfs *hrfs)
{
	int r;

	hrfs->error[0] = '\0';
	bytes_append_char(&hrfs->output, '\n');
	r = bytes_error(&hrfs->output);
	if (r == 0)
		r = send_all(hrfs->fd, hrfs->output.data, hrfs->output.size);
	bytes_clear(&hrfs->output);
	return r;
}

/* ---- Messages ---- */

static const char *known_kind(const char *name)
{
	static const char *const kinds[] = {
		"hello", "caught_up", "gap", "bye", "error", "sync", "status", "manual", "restart",
	};

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (strcmp(kinds[i], name) == 0)
			return kinds[i];
	return "";
}

int connection_open_message(struct hrfs *hrfs, struct json *json, const char **out_kind)
{
	struct json_string key;

	free(hrfs->message);
	hrfs->message = malloc(hrfs->line_length + 1);
	if (!hrfs->message)
		return -ENOMEM;

	json_init(json, hrfs->line, hrfs->line_length, hrfs->message);
	if (json_begin_object(json) < 0 || json_next_member(json, &key) != 1)
		return -EBADMSG;
	*out_kind = known_kind(key.data);
	return 0;
}

void connection_copy(char *out, size_t size, const char *text)
{
	snprintf(out, size, "%s", text);
}

/* The value of the member @wanted of the object that @json is at; "" when it has none. */
static int read_text_member(struct json *json, const char *wanted, char *out, size_t size)
{
	struct json_string key, value;
	int r;

	out[0] = '\0';
	if (json_begin_object(json) < 0)
		return -EBADMSG;
	while ((r = json_next_member(json, &key)) == 1) {
		if (strcmp(key.data, wanted) != 0) {
			if (json_skip(json, NATIVE_DEPTH_MAX) < 0)
				return -EBADMSG;
			continue;
		}
		if (json_read_string(json, &value) < 0)
			return -EBADMSG;
		connection_copy(out, size, value.data);
	}
	return r < 0 ? -EBADMSG : 0;
}

int connection_take_error(struct hrfs *hrfs, struct json *json)
{
	int r = read_text_member(json, "message", hrfs->error, sizeof(hrfs->error));

	return r < 0 ? r : -EREMOTEIO;
}

int connection_take_bye(struct hrfs *hrfs, struct json *json)
{
	return read_text_member(json, "reason", hrfs->reason, sizeof(hrfs->reason));
}

int connection_wait_for(struct hrfs *hrfs, const char *kind, struct json *json)
{
	connection_deadline deadline = connection_deadline_in(CONNECTION_ANSWER_MS);
	const char *found;
	int r;

	while ((r = connection_next_line(hrfs, deadline)) == 1) {
		r = connection_open_message(hrfs, json, &found);
		if (r < 0)
			return r;
		if (strcmp(found, kind) == 0)
			return 0;
		if (strcmp(found, "error") == 0)
			return connection_take_error(hrfs, json);
		if (strcmp(found, "bye") == 0) {
			r = connection_take_bye(hrfs, json);
			return r < 0 ? r : -EPIPE;
		}
	}
	return r < 0 ? r : -ETIMEDOUT;
}
