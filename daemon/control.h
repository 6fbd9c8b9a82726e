/*
 * Control: what supervisor and worker say to each other, over a pair of sockets that keeps messages whole.
 *
 *     worker                         supervisor
 *     OPENED  the log is open  -->
 *                              <--   START with /dev/fuse, mounted
 *     LIVE    it is served     -->
 *     RESTART somebody asks    -->
 *                              <--   REFUSED: that comes to nothing, and why
 *                              <--   KEPT: the program is no longer on trial
 *                              <--   STOP with a reason
 *
 * An end that closes means that its process has died.
 */
#pragma once

enum control_kind { CONTROL_OPENED = 1, CONTROL_START, CONTROL_LIVE, CONTROL_RESTART, CONTROL_REFUSED, CONTROL_KEPT, CONTROL_STOP };

enum { CONTROL_TEXT_SIZE = 256 };

/** Why a worker is to stop. */
enum stop_reason {
	STOP_NONE,      /* it is not: an end by itself is an unmount */
	STOP_FOR_GOOD,  /* the daemon ends */
	STOP_FOR_OTHER, /* another worker takes over: the mount stays */
};

struct control_message {
	enum control_kind kind;
	enum stop_reason reason; /* of CONTROL_STOP */
	int fd;                  /* of CONTROL_START, owned; else -1 */
	char text[CONTROL_TEXT_SIZE]; /* of CONTROL_REFUSED: a sentence without its full stop */
};

/** Make the two ends, close-on-exec. Returns 0 or a negative errno. */
int control_create(int *out_supervisor_fd, int *out_worker_fd);

/** Send; message->fd is borrowed. Any thread. Returns 0, or a negative errno: the other end has died. */
int control_send(int fd, const struct control_message *message);

/** Wait for the next message. Returns 1, 0 when the other end has died, or a negative errno. */
int control_receive(int fd, struct control_message *out);
