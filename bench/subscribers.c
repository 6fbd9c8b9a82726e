/*
 * bench-subscribers: many subscribers of one mount in one process, which count what they receive.
 *
 *     bench-subscribers SOCKET COUNT SINCE LAST
 *
 * Each of COUNT connections subscribes after event SINCE ("now", "oldest" or a number). "ready" is printed when all
 * are subscribed, and a JSON object when each has received event LAST: a number, or "-", which is then read from
 * stdin as a line, once the storm is over and its end known; until then everything is received.
 *
 *     {"subscribers":10,"events":50000,"seconds":0.4,"cpu_s":0.2,"wrong":0}
 *
 * events: received by the first, seconds: from the first event to the last, cpu_s: of this process, wrong: events whose
 * number was not that of the one before plus one, or which one subscriber has and the first has not; of all connections.
 * A number is read of each line, and nothing else: the server is what is measured.
 */
#include "base/scope.h"

#include <err.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum {
	BUFFER_SIZE = 64 << 10,
	READY_MAX = 64, /* events of one epoll_wait() */
};

#define EVENT_BEGIN "{\"seq\":"
#define HELLO_BEGIN "{\"hello\""

struct subscriber {
	int fd;
	bool is_greeted;
	bool is_done;
	uint64_t seq;    /* last received; 0: none yet */
	uint64_t events; /* received */
	size_t used;     /* bytes in buffer */
	char buffer[BUFFER_SIZE];
};

struct crowd {
	struct subscriber *subscribers;
	long count;
	long greeted;
	long done;
	uint64_t last;  /* the event after which a subscriber is done; UINT64_MAX: not known yet */
	uint64_t wrong;
	double first_s; /* when the first event came; 0: not yet */
	double last_s;
	int epoll_fd;
};

static double now_s(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

static void subscribe(struct crowd *crowd, struct subscriber *subscriber, const char *path, const char *since)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct epoll_event wanted = { .events = EPOLLIN, .data.ptr = subscriber };
	bool is_number = strspn(since, "0123456789") == strlen(since);
	const char *quote = is_number ? "" : "\"";
	char request[128];
	int length;

	if (strlen(path) >= sizeof(address.sun_path))
		errx(2, "%s: too long for a socket", path);
	strcpy(address.sun_path, path);
	subscriber->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (subscriber->fd < 0 || connect(subscriber->fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		err(1, "%s", path);
	length = snprintf(request, sizeof(request), "{\"subscribe\":{\"since\":%s%s%s,\"follow\":true}}\n", quote, since,
			  quote);
	if (write(subscriber->fd, request, length) != length)
		err(1, "subscribe");
	if (epoll_ctl(crowd->epoll_fd, EPOLL_CTL_ADD, subscriber->fd, &wanted) < 0)
		err(1, "epoll");
}

static void take_event(struct crowd *crowd, struct subscriber *subscriber, const char *line)
{
	uint64_t seq = strtoull(line + strlen(EVENT_BEGIN), NULL, 10);

	if (subscriber->seq && seq != subscriber->seq + 1)
		crowd->wrong++;
	subscriber->seq = seq;
	subscriber->events++;
}

/* A line without its newline. */
static void take_line(struct crowd *crowd, struct subscriber *subscriber, const char *line)
{
	if (strncmp(line, EVENT_BEGIN, strlen(EVENT_BEGIN)) == 0) {
		take_event(crowd, subscriber, line);
	} else if (strncmp(line, HELLO_BEGIN, strlen(HELLO_BEGIN)) == 0 && !subscriber->is_greeted) {
		subscriber->is_greeted = true;
		crowd->greeted++;
	} else if (strstr(line, "\"error\"") || strstr(line, "\"bye\"")) {
		errx(1, "the server says %.200s", line);
	}
}

static void note_end(struct crowd *crowd, struct subscriber *subscriber)
{
	if (subscriber->is_done || subscriber->seq < crowd->last)
		return;
	subscriber->is_done = true;
	crowd->done++;
}

static void receive(struct crowd *crowd, struct subscriber *subscriber)
{
	char *buffer = subscriber->buffer, *line = buffer, *newline;
	ssize_t got = recv(subscriber->fd, buffer + subscriber->used, BUFFER_SIZE - subscriber->used, MSG_DONTWAIT);

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got <= 0)
		errx(1, "the server closed a connection");
	subscriber->used += got;
	while ((newline = memchr(line, '\n', buffer + subscriber->used - line))) {
		*newline = '\0';
		take_line(crowd, subscriber, line);
		line = newline + 1;
	}
	subscriber->used -= line - buffer;
	memmove(buffer, line, subscriber->used);
	if (!subscriber->events)
		return;
	crowd->last_s = now_s(CLOCK_MONOTONIC);
	if (crowd->first_s == 0)
		crowd->first_s = crowd->last_s;
	note_end(crowd, subscriber);
}

/* The number of the last event has come, as a line. */
static void learn_last(struct crowd *crowd)
{
	char line[32];

	if (!fgets(line, sizeof(line), stdin))
		errx(1, "no last event");
	crowd->last = strtoull(line, NULL, 10);
	epoll_ctl(crowd->epoll_fd, EPOLL_CTL_DEL, STDIN_FILENO, NULL);
	for (long i = 0; i < crowd->count; i++)
		note_end(crowd, &crowd->subscribers[i]);
}

static void take_turn(struct crowd *crowd)
{
	struct epoll_event ready[READY_MAX];
	int count = epoll_wait(crowd->epoll_fd, ready, READY_MAX, -1);

	for (int i = 0; i < count; i++) {
		if (ready[i].data.ptr)
			receive(crowd, ready[i].data.ptr);
		else
			learn_last(crowd);
	}
}

static void wait_for_last(struct crowd *crowd, const char *last)
{
	struct epoll_event wanted = { .events = EPOLLIN, .data.ptr = NULL };

	crowd->last = strcmp(last, "-") == 0 ? UINT64_MAX : strtoull(last, NULL, 10);
	if (crowd->last == UINT64_MAX && epoll_ctl(crowd->epoll_fd, EPOLL_CTL_ADD, STDIN_FILENO, &wanted) < 0)
		err(1, "stdin");
	for (long i = 0; i < crowd->count; i++)
		note_end(crowd, &crowd->subscribers[i]);
	while (crowd->done < crowd->count)
		take_turn(crowd);
	for (long i = 1; i < crowd->count; i++)
		if (crowd->subscribers[i].events != crowd->subscribers[0].events)
			crowd->wrong++;
}

int main(int argc, char **argv)
{
	struct crowd crowd = { .last = UINT64_MAX };

	if (argc != 5)
		errx(2, "usage: bench-subscribers SOCKET COUNT SINCE LAST");
	crowd.count = strtol(argv[2], NULL, 10);
	crowd.subscribers = calloc(crowd.count, sizeof(*crowd.subscribers));
	crowd.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (crowd.count < 1 || !crowd.subscribers || crowd.epoll_fd < 0)
		err(1, "set-up");
	for (long i = 0; i < crowd.count; i++)
		subscribe(&crowd, &crowd.subscribers[i], argv[1], argv[3]);
	while (crowd.greeted < crowd.count)
		take_turn(&crowd);
	puts("ready");
	fflush(stdout);
	wait_for_last(&crowd, argv[4]);
	printf("{\"subscribers\":%ld,\"events\":%lu,\"seconds\":%.6f,\"cpu_s\":%.6f,\"wrong\":%lu}\n", crowd.count,
	       (unsigned long)crowd.subscribers[0].events, crowd.last_s - crowd.first_s, now_s(CLOCK_PROCESS_CPUTIME_ID),
	       (unsigned long)crowd.wrong);
	free(crowd.subscribers);
	return 0;
}
