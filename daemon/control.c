#include "daemon/control.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Both ends are one program, so the bytes are a struct. */
struct wire {
	uint32_t kind;
	uint32_t reason;
	char text[CONTROL_TEXT_SIZE];
};

union passed_fd {
	struct cmsghdr header;
	char space[CMSG_SPACE(sizeof(int))];
};

int control_create(int *out_supervisor_fd, int *out_worker_fd)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	*out_supervisor_fd = pair[0];
	*out_worker_fd = pair[1];
	return 0;
}

static void attach(struct msghdr *message, union passed_fd *passed, int fd)
{
	message->msg_control = passed;
	message->msg_controllen = sizeof(*passed);
	passed->header.cmsg_level = SOL_SOCKET;
	passed->header.cmsg_type = SCM_RIGHTS;
	passed->header.cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(&passed->header), &fd, sizeof(fd));
}

int control_send(int fd, const struct control_message *message)
{
	struct wire wire = { .kind = message->kind, .reason = message->reason };
	struct iovec vector = { .iov_base = &wire, .iov_len = sizeof(wire) };
	struct msghdr header = { .msg_iov = &vector, .msg_iovlen = 1 };
	union passed_fd passed = { 0 };
	ssize_t n;

	memcpy(wire.text, message->text, sizeof(wire.text));
	if (message->fd >= 0)
		attach(&header, &passed, message->fd);
	do
		n = sendmsg(fd, &header, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

static int detach(struct msghdr *message)
{
	struct cmsghdr *header = CMSG_FIRSTHDR(message);
	int fd;

	if (!header || header->cmsg_type != SCM_RIGHTS || header->cmsg_len != CMSG_LEN(sizeof(fd)))
		return -1;
	memcpy(&fd, CMSG_DATA(header), sizeof(fd));
	return fd;
}

int control_receive(int fd, struct control_message *out)
{
	struct wire wire = { 0 };
	struct iovec vector = { .iov_base = &wire, .iov_len = sizeof(wire) };
	union passed_fd passed = { 0 };
	struct msghdr header = {
		.msg_iov = &vector,
		.msg_iovlen = 1,
		.msg_control = &passed,
		.msg_controllen = sizeof(passed),
	};
	ssize_t n;

	do
		n = recvmsg(fd, &header, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == ECONNRESET ? 0 : -errno;
	if (n == 0)
		return 0;
	out->kind = wire.kind;
	out->reason = wire.reason;
	memcpy(out->text, wire.text, sizeof(out->text));
	out->text[sizeof(out->text) - 1] = '\0';
	out->fd = detach(&header);
	return 1;
}
