/*
 * Every test runs on io_uring and again on poll(2).
 */
#include "base/loop.h"
#include "base/scope.h"
#include "tests/unit/check.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

static const uint64_t NS_PER_MS = 1000000;

/* check() for other threads than that of the test. */
static void must(bool condition)
{
	if (!condition)
		abort();
}

static void loop_destroyp(struct loop **loop)
{
	loop_destroy(*loop);
}

static struct loop *make_loop(void **state)
{
	struct loop *loop;

	setenv("HRFS_NO_URING", *state ? "1" : "0", 1);
	check(loop_create(&loop) == 0);
	if (*state)
		check(!loop_uses_uring(loop));
	return loop;
}

/* ---- Timers ---- */

struct ticker {
	struct loop *loop;
	struct loop_timer timer;
	struct loop_timer other;
	unsigned count;
	unsigned other_count;
};

static void on_tick(void *userdata)
{
	struct ticker *ticker = userdata;

	if (++ticker->count == 3)
		loop_stop(ticker->loop);
	else
		loop_timer_start(&ticker->timer, 2 * NS_PER_MS);
}

static void timers_fire_once_at_their_time(void **state)
{
	scoped(loop_destroyp) struct loop *loop = make_loop(state);
	struct ticker ticker = { .loop = loop };
	uint64_t begin = loop_now_ns();

	loop_timer_init(&ticker.timer, loop, on_tick, &ticker);
	loop_timer_start(&ticker.timer, 2 * NS_PER_MS);
	check(loop_run(loop) == 0);
	check(ticker.count == 3);
	check(loop_now_ns() - begin >= 6 * NS_PER_MS);
}

static void on_other(void *userdata)
{
	struct ticker *ticker = userdata;

	ticker->other_count++;
}

static void on_stop_other(void *userdata)
{
	struct ticker *ticker = userdata;

	loop_timer_stop(&ticker->other);
	if (++ticker->count == 2)
		loop_stop(ticker->loop);
	else
		loop_timer_start(&ticker->timer, 0);
}

static void a_timer_that_is_due_can_be_stopped_by_another(void **state)
{
	scoped(loop_destroyp) struct loop *loop = make_loop(state);
	struct ticker ticker = { .loop = loop };

	loop_timer_init(&ticker.timer, loop, on_stop_other, &ticker);
	loop_timer_init(&ticker.other, loop, on_other, &ticker);
	loop_timer_start(&ticker.timer, 0);
	loop_timer_start(&ticker.other, 0);
	check(loop_run(loop) == 0);
	check(ticker.count == 2 && ticker.other_count == 0);
}

/* ---- Watches ---- */

struct watcher {
	struct loop *loop;
	int fd;
	atomic_int added;
	int calls;
};

/* The last one to be added has a call after it, or the loop would not end. */
static void on_count(void *userdata)
{
	struct watcher *watcher = userdata;

	watcher->calls++;
	if (atomic_load(&watcher->added) == 1000)
		loop_stop(watcher->loop);
}

static void *add_a_thousand(void *data)
{
	struct watcher *watcher = data;

	for (int i = 0; i < 1000; i++) {
		atomic_fetch_add(&watcher->added, 1);
		eventfd_write(watcher->fd, 1);
	}
	return NULL;
}

static void a_watch_sees_what_another_thread_writes(void **state)
{
	scoped(loop_destroyp) struct loop *loop = make_loop(state);
	scoped(closep) int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct watcher watcher = { .loop = loop, .fd = fd };
	pthread_t thread;

	check(loop_watch(loop, fd, on_count, &watcher) == 0);
	check(pthread_create(&thread, NULL, add_a_thousand, &watcher) == 0);
	check(loop_run(loop) == 0);
	pthread_join(thread, NULL);
	check(watcher.calls > 0 && watcher.calls <= 1000);
}

/* ---- Streams ---- */

/* One end of a connection, and what has happened to it. */
struct end {
	struct loop *loop;
	struct loop_stream *stream;
	unsigned *open; /* streams that are not closed; the last one stops the loop */
	size_t received;
	size_t sent;
	size_t to_send;
	size_t writable;
	int error;      /* the errno that a call was answered with */
	bool has_ended; /* input has */
	bool sends_at_end;
	bool echoes;
	bool is_over; /* closed by us */
	char *data;   /* what to send */
	char answer[LOOP_INPUT_MAX];
};

static void close_end(struct end *end)
{
	if (end->is_over)
		return;
	end->is_over = true;
	loop_stream_close(end->stream);
}

static void send_more(struct end *end)
{
	size_t left = end->to_send - end->sent, half = left / 2;
	struct iovec vectors[2] = {
		{ .iov_base = end->data + end->sent, .iov_len = half },
		{ .iov_base = end->data + end->sent + half, .iov_len = left - half },
	};

	if (left > 0)
		loop_stream_send(end->stream, vectors, 2);
}

static void on_input(void *userdata, const char *data, ssize_t size)
{
	struct end *end = userdata;

	if (size < 0) {
		end->error = -size;
		close_end(end);
		return;
	}
	if (size == 0) {
		end->has_ended = true;
		if (end->sends_at_end)
			send_more(end);
		else
			close_end(end);
		return;
	}
	end->received += size;
	if (!end->echoes) {
		loop_stream_receive(end->stream);
		return;
	}
	memcpy(end->answer, data, size);
	end->data = end->answer;
	end->sent = 0;
	end->to_send = size;
	send_more(end);
}

static void on_sent(void *userdata, ssize_t size)
{
	struct end *end = userdata;
	size_t asked = end->to_send - end->sent;

	if (size < 0) {
		end->error = -size;
		close_end(end);
		return;
	}
	check(size <= asked);
	end->sent += size;
	if (size < asked)
		return;
	if (end->echoes)
		loop_stream_receive(end->stream);
	else
		close_end(end);
}

static void on_writable(void *userdata)
{
	struct end *end = userdata;

	end->writable++;
	send_more(end);
}

static void on_closed(void *userdata)
{
	struct end *end = userdata;

	end->stream = NULL;
	if (--*end->open == 0)
		loop_stop(end->loop);
}

static const struct loop_stream_calls calls = {
	.on_input = on_input,
	.on_sent = on_sent,
	.on_writable = on_writable,
	.on_closed = on_closed,
};

static void open_end(struct end *end, struct loop *loop, int fd, unsigned *count)
{
	end->loop = loop;
	end->open = count;
	++*count;
	check(loop_stream_open(loop, fd, &calls, end, &end->stream) == 0);
}

static void *read_slowly(void *data)
{
	int fd = *(int *)data;
	char buffer[5000];
	ssize_t size;
	size_t total = 0;

	while ((size = read(fd, buffer, sizeof(buffer))) > 0) {
		for (ssize_t i = 0; i < size; i++)
			must(buffer[i] == (char)((total + i) % 251));
		total += size;
	}
	close(fd);
	return (void *)total;
}

static void a_long_send_goes_on_as_the_peer_reads_and_arrives_whole_before_the_close(void **state)
{
	enum { SIZE = 8 << 20 };
	scoped(loop_destroyp) struct loop *loop = make_loop(state);
	scoped(freep) char *data = malloc(SIZE);
	struct end end = { .data = data, .to_send = SIZE };
	unsigned count = 0;
	pthread_t thread;
	void *total;
	int fds[2];

	for (size_t i = 0; i < SIZE; i++)
		data[i] = i % 251;
	check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
	open_end(&end, loop, fds[0], &count);
	check(pthread_create(&thread, NULL, read_slowly, &fds[1]) == 0);
	send_more(&end);
	check(loop_run(loop) == 0);
	pthread_join(thread, &total);
	check((size_t)total == SIZE);
	check(end.writable > 0);
}

static void a_peer_that_sends_no_more_still_receives(void **state)
{
	scoped(loop_destroyp) struct loop *loop = make_loop(state);
	struct end end = { .data = (char[]){ 'b', 'y', 'e' }, .to_send = 3, .sends_at_end = true };
	unsigned count = 0;
	char buffer[8];
	int fds[2];

	/* O_NONBLOCK makes no difference. */
	check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == 0);
	open_end(&end, loop, fds[0], &count);
	loop_stream_receive(end.stream);
	check(write(fds[1], "hello", 5) == 5);
	check(shutdown(fds[1], SHUT_WR) == 0);
	check(loop_run(loop) == 0);
	check(end.received == 5 && end.has_ended && end.error == 0);
	check(read(fds[1], buffer, sizeof(buffer)) == 3);
	close(fds[1]);
}

static void sending_to_a_peer_that_has_gone_fails(void **state)
{
	scoped(loop_destroyp) struct loop *loop = make_loop(state);
	struct end end = { .data = (char[]){ 'b', 'y', 'e' }, .to_send = 3 };
	unsigned count = 0;
	int fds[2];

	check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
	open_end(&end, loop, fds[0], &count);
	close(fds[1]);
	send_more(&end);
	check(loop_run(loop) == 0);
	check(end.error == EPIPE);
}

static void closing_with_unread_input_lets_the_peer_read_to_the_end(void **state)
{
	scoped(loop_destroyp) struct loop *loop = make_loop(state);
	struct end end = { .data = (char[]){ 'b', 'y', 'e' }, .to_send = 3 };
	unsigned count = 0;
	char buffer[8];
	int fds[2];

	check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
	open_end(&end, loop, fds[0], &count);
	check(write(fds[1], "never read", 10) == 10);
	send_more(&end);
	check(loop_run(loop) == 0);
	check(read(fds[1], buffer, sizeof(buffer)) == 3);
	check(read(fds[1], buffer, sizeof(buffer)) == 0);
	close(fds[1]);
}

static void a_stream_closes_while_it_waits_for_a_peer_that_does_not_read(void **state)
{
	enum { SIZE = 4 << 20 };
	scoped(loop_destroyp) struct loop *loop = make_loop(state);
	scoped(freep) char *data = calloc(1, SIZE);
	struct end end = { .data = data, .to_send = SIZE };
	unsigned count = 0;
	int fds[2];

	check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
	open_end(&end, loop, fds[0], &count);
	loop_stream_receive(end.stream);
	send_more(&end);

	struct ticker ticker = { .loop = loop, .count = 1 };
	loop_timer_init(&ticker.timer, loop, on_stop_other, &ticker);
	loop_timer_init(&ticker.other, loop, on_other, &ticker);
	loop_timer_start(&ticker.timer, 20 * NS_PER_MS);
	check(loop_run(loop) == 0);
	check(end.sent > 0 && end.sent < SIZE);
	close_end(&end);
	/* on_closed stops the loop; loop_run() notices at the end of each turn. */
	while (count > 0)
		check(loop_run(loop) == 0);
	close(fds[1]);
}

/* ---- Listening ---- */

enum { CLIENTS = 300 };

struct host {
	struct loop *loop;
	struct end ends[CLIENTS];
	unsigned accepted;
	unsigned open;
	unsigned errors;
};

static void on_accept(void *userdata, int fd)
{
	struct host *host = userdata;

	if (fd < 0) {
		host->errors++;
		return;
	}
	check(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	struct end *end = &host->ends[host->accepted++];
	end->echoes = true;
	open_end(end, host->loop, fd, &host->open);
	loop_stream_receive(end->stream);
}

static int listen_abstract(struct sockaddr_un *address, socklen_t *size)
{
	/*
	 * The kernel lets go of a ring, and of the socket that it listens on, some time after its
	 * end.
	 */
	static unsigned count;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	*address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	*size = offsetof(struct sockaddr_un, sun_path) + 1 +
		snprintf(address->sun_path + 1, 100, "hrfs-test-loop-%d-%u", getpid(), count++);
	check(bind(fd, (struct sockaddr *)address, *size) == 0);
	check(listen(fd, SOMAXCONN) == 0);
	return fd;
}

struct visitors {
	struct sockaddr_un address;
	socklen_t size;
	int fds[CLIENTS];
};

static void *visit(void *data)
{
	struct visitors *visitors = data;
	char buffer[8];

	for (int i = 0; i < CLIENTS; i++) {
		visitors->fds[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		must(connect(visitors->fds[i], (struct sockaddr *)&visitors->address,
			     visitors->size) == 0);
		must(write(visitors->fds[i], "ping", 4) == 4);
	}
	for (int i = 0; i < CLIENTS; i++)
		must(read(visitors->fds[i], buffer, sizeof(buffer)) == 4);
	for (int i = 0; i < CLIENTS; i++)
		close(visitors->fds[i]);
	return NULL;
}

static void hundreds_of_connections_are_accepted_and_echoed(void **state)
{
	scoped(loop_destroyp) struct loop *loop = make_loop(state);
	scoped(freep) struct host *host = calloc(1, sizeof(*host));
	struct visitors visitors;
	scoped(closep) int fd = listen_abstract(&visitors.address, &visitors.size);
	pthread_t thread;

	host->loop = loop;
	/* So that the loop runs until the last of all has been closed. */
	host->open = 1;
	check(loop_listen(loop, fd, on_accept, host) == 0);
	check(pthread_create(&thread, NULL, visit, &visitors) == 0);

	struct ticker ticker = { .loop = loop, .count = 1 };
	loop_timer_init(&ticker.timer, loop, on_stop_other, &ticker);
	loop_timer_init(&ticker.other, loop, on_other, &ticker);
	while (host->accepted < CLIENTS || host->open > 1) {
		ticker.count = 1;
		loop_timer_start(&ticker.timer, 5 * NS_PER_MS);
		check(loop_run(loop) == 0);
	}
	pthread_join(thread, NULL);
	for (int i = 0; i < CLIENTS; i++)
		check(host->ends[i].received == 4);
}

static void accepting_goes_on_when_descriptors_are_free_again(void **state)
{
	scoped(loop_destroyp) struct loop *loop = make_loop(state);
	scoped(freep) struct host *host = calloc(1, sizeof(*host));
	struct sockaddr_un address;
	socklen_t size;
	scoped(closep) int fd = listen_abstract(&address, &size);
	scoped(closep) int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct rlimit before, none;
	struct ticker ticker = { .loop = loop };

	host->loop = loop;
	host->open = 1;
	check(loop_listen(loop, fd, on_accept, host) == 0);
	check(connect(client, (struct sockaddr *)&address, size) == 0);

	check(getrlimit(RLIMIT_NOFILE, &before) == 0);
	none = before;
	none.rlim_cur = 3;
	check(setrlimit(RLIMIT_NOFILE, &none) == 0);
	loop_timer_init(&ticker.timer, loop, on_stop_other, &ticker);
	loop_timer_init(&ticker.other, loop, on_other, &ticker);
	ticker.count = 1;
	loop_timer_start(&ticker.timer, 150 * NS_PER_MS);
	check(loop_run(loop) == 0);
	check(setrlimit(RLIMIT_NOFILE, &before) == 0);
	check(host->accepted == 0);
	/* A few tries, not a busy loop. */
	check(host->errors >= 1 && host->errors <= 3);

	shutdown(client, SHUT_RDWR);
	while (host->accepted < 1 || host->open > 1) {
		ticker.count = 1;
		loop_timer_start(&ticker.timer, 5 * NS_PER_MS);
		check(loop_run(loop) == 0);
	}
	check(host->accepted == 1);
}

#define on_both(test)                                                                              \
	{ .name = #test ", on io_uring", .test_func = test, .initial_state = NULL },               \
	{                                                                                          \
		.name = #test ", on poll", .test_func = test, .initial_state = (void *)1           \
	}

/* An argument chooses tests, with * as in a shell. */
int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		on_both(timers_fire_once_at_their_time),
		on_both(a_timer_that_is_due_can_be_stopped_by_another),
		on_both(a_watch_sees_what_another_thread_writes),
		on_both(a_long_send_goes_on_as_the_peer_reads_and_arrives_whole_before_the_close),
		on_both(a_peer_that_sends_no_more_still_receives),
		on_both(sending_to_a_peer_that_has_gone_fails),
		on_both(closing_with_unread_input_lets_the_peer_read_to_the_end),
		on_both(a_stream_closes_while_it_waits_for_a_peer_that_does_not_read),
		on_both(hundreds_of_connections_are_accepted_and_echoed),
		on_both(accepting_goes_on_when_descriptors_are_free_again),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
