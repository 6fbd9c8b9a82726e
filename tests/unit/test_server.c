/*
 * The server over a real log in a scratch folder. Every test runs on io_uring and again on poll(2).
 */
#include "serve/server.h"

#include "base/bytes.h"
#include "base/loop.h"
#include "base/scope.h"
#include "eventlog/eventlog.h"
#include "proto/event.h"
#include "proto/native.h"
#include "serve/hub.h"
#include "serve/peer.h"
#include "serve/subscriber.h"
#include "tests/unit/check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <poll.h>
#include <sqlite3.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { STORM = 30000, IS_SANITIZED = 1 };
#else
enum { STORM = 200000, IS_SANITIZED = 0 };
#endif

enum { OTHER_UID = 54321, OTHER_GID = 54322, OWNER_UID = 54323 };

/* ---- A log and its server ---- */

struct house {
	char state_path[SCRATCH_SIZE];
	int state_fd;
	struct eventlog *log;
	struct writer *writer;
	struct server *server;
	int listen_fd;
	struct sockaddr_un address;
	socklen_t address_size;
	unsigned restarts;
};

static void write_status(void *userdata, struct bytes *json)
{
	bytes_append_string(json, ",\"transport\":\"none\"");
}

static int restart(void *userdata, char *out_refusal, size_t size)
{
	struct house *house = userdata;

	house->restarts++;
	return 0;
}

static void open_log(struct house *house)
{
	struct eventlog_options options = { .state_path = house->state_path,
					    .journal_size = 2 << 20 };
	struct eventlog_found found;

	house->state_fd = open(house->state_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	check(house->state_fd >= 0);
	options.state_fd = house->state_fd;
	check(eventlog_open(&options, &house->log, &found) == 0);
	check(eventlog_start(house->log) == 0);
	check(writer_open(house->log, &house->writer) == 0);
}

static void close_log(struct house *house)
{
	writer_close(house->writer);
	eventlog_close(house->log);
	close(house->state_fd);
}

/* An abstract address: no permission of a folder is in the way. */
static void open_listener(struct house *house)
{
	static unsigned count;

	house->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	house->address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	house->address_size = offsetof(struct sockaddr_un, sun_path) + 1 +
			      snprintf(house->address.sun_path + 1, 100, "hrfs-test-server-%d-%u",
				       getpid(), count++);
	check(bind(house->listen_fd, (struct sockaddr *)&house->address, house->address_size) == 0);
	check(listen(house->listen_fd, SOMAXCONN) == 0);
}

static void open_server(struct house *house)
{
	const struct server_hooks hooks = { .write_status = write_status,
					    .restart = restart,
					    .userdata = house };
	struct server_options options = { .owner = OWNER_UID,
					  .group = OTHER_GID,
					  .root = "/nowhere" };

	open_listener(house);
	options.listen_fd = house->listen_fd;
	check(server_create(&options, &hooks, house->log, &house->server) == 0);
	check(server_start(house->server) == 0);
}

static void close_server(struct house *house)
{
	if (house->server)
		server_stop(house->server, "unmounted", 1000);
	server_destroy(house->server);
	house->server = NULL;
	close(house->listen_fd);
}

static void make_state_folder(struct house *house)
{
	static unsigned count;
	char name[32];

	snprintf(name, sizeof(name), "state-%u", count++);
	snprintf(house->state_path, sizeof(house->state_path), "%s", scratch(name));
	check(mkdir(house->state_path, 0700) == 0);
}

static struct house *build(void **state)
{
	struct house *house = calloc(1, sizeof(*house));

	setenv("HRFS_NO_URING", *state ? "1" : "0", 1);
	make_state_folder(house);
	open_log(house);
	open_server(house);
	return house;
}

/* Not after a failed check: cmocka jumps over it. */
static void demolish(struct house *house)
{
	close_server(house);
	close_log(house);
	free(house);
}

static void log_write(struct house *house, const char *path, size_t path_length)
{
	struct event event = {
		.op = EVENT_WRITE,
		.has = EVENT_HAS_OFFSET | EVENT_HAS_LENGTH | EVENT_HAS_SIZE | EVENT_HAS_INO |
		       EVENT_HAS_WHO,
		.offset = 4096,
		.length = 120,
		.size = 4216,
		.ino = 1234567,
		.path = path,
		.path_length = path_length,
		.comm = "cc1plus",
		.comm_length = 7,
		.pid = 4242,
		.uid = 1000,
		.gid = 1000,
	};

	check(writer_append(house->writer, &event) == 0);
}

static void log_writes(struct house *house, unsigned count)
{
	while (count--)
		log_write(house, "src/some/folder/file.c", 22);
}

/* ---- A client ---- */

struct client {
	int fd;
	struct bytes input; /* not looked at yet */
	size_t begin;
	char *line; /* the last one, NUL-terminated; owned */
};

static int connect_to(const struct house *house)
{
	const struct timeval patience = { .tv_sec = 20 };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	check(connect(fd, (const struct sockaddr *)&house->address, house->address_size) == 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	return fd;
}

static void say(struct client *client, const char *text)
{
	check(send(client->fd, text, strlen(text), MSG_NOSIGNAL) == strlen(text));
}

static struct client *visit(const struct house *house, const char *request)
{
	struct client *client = calloc(1, sizeof(*client));

	client->fd = connect_to(house);
	if (request)
		say(client, request);
	return client;
}

static void leave(struct client *client)
{
	close(client->fd);
	bytes_finish(&client->input);
	free(client->line);
	free(client);
}

/* Cut the next whole line off what has come: NULL when there is none. */
static const char *cut_line(struct client *client)
{
	char *begin = client->input.data + client->begin;
	size_t size = client->input.size - client->begin;
	char *newline = size ? memchr(begin, '\n', size) : NULL;

	if (!newline)
		return NULL;
	free(client->line);
	client->line = strndup(begin, newline - begin);
	client->begin += newline - begin + 1;
	return client->line;
}

/* Take what has come. Returns the size, 0 at the end, -1 when nothing has come. */
static ssize_t take_input(struct client *client, int flags)
{
	ssize_t size;

	bytes_consume(&client->input, client->begin);
	client->begin = 0;
	bytes_reserve(&client->input, 65536);
	/* The end of a ring interrupts the thread that has freed it. */
	do
		size = recv(client->fd, client->input.data + client->input.size, 65536, flags);
	while (size < 0 && errno == EINTR);
	if (size > 0)
		client->input.size += size;
	return size;
}

/*
 * Wait for the next line; NULL at the end. The server never ends with half a line, or by
 * ECONNRESET.
 */
static const char *next_line(struct client *client)
{
	const char *line;
	ssize_t size;

	while (!(line = cut_line(client))) {
		size = take_input(client, 0);
		check(size >= 0);
		if (size == 0) {
			check(client->input.size == 0);
			return NULL;
		}
	}
	return line;
}

static bool starts_with(const char *line, const char *start)
{
	return line && strncmp(line, start, strlen(start)) == 0;
}

static bool next_starts(struct client *client, const char *start)
{
	const char *line = next_line(client);

	if (!starts_with(line, start))
		print_error("got %s\nnot %s\n", line ?: "the end", start);
	return starts_with(line, start);
}

/* The sequence number of an event line; 0: another line. */
static uint64_t line_seq(const char *line)
{
	return starts_with(line, "{\"seq\":") ? strtoull(line + 7, NULL, 10) : 0;
}

static bool next_is_event(struct client *client, uint64_t seq)
{
	const char *line = next_line(client);

	if (line_seq(line) != seq)
		print_error("got %s\nnot event %" PRIu64 "\n", line ?: "the end", seq);
	return line_seq(line) == seq;
}

static bool next_are_events(struct client *client, uint64_t first, uint64_t last)
{
	for (uint64_t seq = first; seq <= last; seq++) {
		if (!next_is_event(client, seq))
			return false;
	}
	return true;
}

static bool is_at_end(struct client *client)
{
	return !next_line(client);
}

/* ---- Subscriptions ---- */

static void a_subscriber_gets_the_past_then_caught_up_then_live_events(void **state)
{
	struct house *house = build(state);
	struct client *client;
	char hello[200];

	log_writes(house, 3);
	client = visit(house, "{\"subscribe\":{\"since\":1}}\n");
	snprintf(hello, sizeof(hello),
		 "{\"hello\":{\"protocol\":1,\"log_id\":\"%s\",\"oldest\":1,\"next\":4}}",
		 eventlog_id(house->log));
	check(next_starts(client, hello));
	check(next_are_events(client, 2, 3));
	check(next_starts(client, "{\"caught_up\":3}"));
	for (int i = 0; i < 100; i++) {
		log_writes(house, 1);
		check(next_is_event(client, 4 + i));
	}
	check(strcmp(client->line + strlen(client->line) - 1, "}") == 0);
	leave(client);
	demolish(house);
}

static void since_now_oldest_and_the_last_event_are_positions(void **state)
{
	struct house *house = build(state);
	struct client *now, *oldest, *last;

	log_writes(house, 2);
	now = visit(house, "{\"subscribe\":{\"since\":\"now\"}}\n");
	oldest = visit(house, "{\"subscribe\":{\"since\":\"oldest\"}}\n");
	last = visit(house, "{\"subscribe\":{\"since\":2}}\n");
	check(next_starts(now, "{\"hello\":") && next_starts(now, "{\"caught_up\":2}"));
	check(next_starts(oldest, "{\"hello\":") && next_are_events(oldest, 1, 2));
	check(next_starts(oldest, "{\"caught_up\":2}"));
	check(next_starts(last, "{\"hello\":") && next_starts(last, "{\"caught_up\":2}"));
	log_writes(house, 1);
	check(next_is_event(now, 3) && next_is_event(oldest, 3) && next_is_event(last, 3));
	leave(now);
	leave(oldest);
	leave(last);
	demolish(house);
}

static void an_empty_log_is_caught_up_with_at_zero(void **state)
{
	struct house *house = build(state);
	struct client *client = visit(house, "{\"subscribe\":{\"since\":0}}\n");

	check(next_starts(client, "{\"hello\":") && next_starts(client, "{\"caught_up\":0}"));
	log_writes(house, 1);
	check(next_is_event(client, 1));
	leave(client);
	demolish(house);
}

static void without_follow_the_connection_ends_when_caught_up(void **state)
{
	struct house *house = build(state);
	struct client *client;

	log_writes(house, 5000);
	client = visit(house, "{\"subscribe\":{\"since\":\"oldest\",\"follow\":false}}\n");
	/* As a shell's pipe does. */
	shutdown(client->fd, SHUT_WR);
	check(next_starts(client, "{\"hello\":") && next_are_events(client, 1, 5000));
	check(next_starts(client, "{\"caught_up\":5000}") && is_at_end(client));
	leave(client);
	demolish(house);
}

static void a_position_before_the_oldest_kept_event_is_answered_with_a_gap(void **state)
{
	struct house *house = build(state);
	struct client *client;
	char path[SCRATCH_SIZE + 16];
	sqlite3 *db;

	log_writes(house, 100);
	close_server(house);
	close_log(house);
	snprintf(path, sizeof(path), "%s/events.db", house->state_path);
	check(sqlite3_open(path, &db) == SQLITE_OK);
	check(sqlite3_exec(db, "DELETE FROM events WHERE seq <= 40", NULL, NULL, NULL) ==
	      SQLITE_OK);
	check(sqlite3_close(db) == SQLITE_OK);
	open_log(house);
	open_server(house);

	client = visit(house, "{\"subscribe\":{\"since\":10}}\n");
	check(next_starts(client, "{\"hello\":"));
	check(next_starts(client, "{\"gap\":{\"first\":11,\"last\":40}}"));
	check(next_are_events(client, 41, 100) && next_starts(client, "{\"caught_up\":100}"));
	leave(client);
	client = visit(house, "{\"subscribe\":{\"since\":\"oldest\"}}\n");
	check(next_starts(client, "{\"hello\":") && next_are_events(client, 41, 100));
	leave(client);
	demolish(house);
}

/* A line of some 360 kB: more than a run of lines, or a socket, holds. */
static void events_with_very_long_paths_arrive_whole(void **state)
{
	enum { LENGTH = 60000 };
	struct house *house = build(state);
	scoped(freep) char *path = malloc(LENGTH);
	struct client *live, *behind;

	memset(path, 1, LENGTH);
	live = visit(house, "{\"subscribe\":{\"since\":\"now\"}}\n");
	check(next_starts(live, "{\"hello\":") && next_starts(live, "{\"caught_up\":"));
	for (int i = 0; i < 40; i++) {
		log_writes(house, 3);
		log_write(house, path, LENGTH);
	}
	behind = visit(house, "{\"subscribe\":{\"since\":\"oldest\"}}\n{\"status\":{}}\n");
	check(next_are_events(live, 1, 160));
	check(strlen(live->line) > 6 * LENGTH);
	check(next_starts(behind, "{\"hello\":"));
	for (uint64_t seq = 1; seq <= 160;) {
		const char *line = next_line(behind);

		check(line_seq(line) == seq || starts_with(line, "{\"status\":{"));
		if (line_seq(line))
			seq++;
	}
	check(strcmp(live->line, behind->line) == 0);
	leave(live);
	leave(behind);
	demolish(house);
}

/* ---- Sending by who commits ---- */

static void pause_us(unsigned us)
{
	const struct timespec time = { .tv_nsec = us * 1000 };

	nanosleep(&time, NULL);
}

/* The text of a thread's file in /proc; empty when it is gone. */
static void read_thread_file(const char *thread, const char *name, char out[4096])
{
	char path[64];
	ssize_t size = -1;

	snprintf(path, sizeof(path), "/proc/self/task/%.16s/%.16s", thread, name);
	scoped(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd >= 0)
		size = read(fd, out, 4095);
	out[size > 0 ? size : 0] = '\0';
}

/* How often the server's thread has gone to sleep. */
static unsigned long count_sleeps(void)
{
	const char *field = "\nvoluntary_ctxt_switches:";
	DIR *threads = opendir("/proc/self/task");
	unsigned long count = 0;
	struct dirent *entry;
	char text[4096];

	check(threads != NULL);
	while ((entry = readdir(threads))) {
		read_thread_file(entry->d_name, "comm", text);
		if (strcmp(text, "hrfs-serve\n") != 0)
			continue;
		read_thread_file(entry->d_name, "status", text);
		check(strstr(text, field) != NULL);
		count = strtoul(strstr(text, field) + strlen(field), NULL, 10);
	}
	closedir(threads);
	check(count > 0);
	return count;
}

static void after_a_quiet_time_who_commits_sends(void **state)
{
	struct house *house = build(state);
	struct client *client = visit(house, "{\"subscribe\":{\"since\":\"now\"}}\n");
	unsigned long before;

	check(next_starts(client, "{\"hello\":") && next_starts(client, "{\"caught_up\":"));
	log_writes(house, 1);
	check(next_is_event(client, 1));
	pause_us(100000);
	before = count_sleeps();
	for (int i = 0; i < 20; i++) {
		pause_us(2 * HUB_DIRECT_US);
		log_writes(house, 1);
	}
	check(next_are_events(client, 2, 21));
	check(count_sleeps() - before < 5);
	leave(client);
	demolish(house);
}

/* Who begins at the end of the log may know of an event that those who wait there have not been sent. */
static void who_waits_gets_an_event_that_comes_while_another_begins(void **state)
{
	struct house *house = build(state);
	struct client *client = visit(house, "{\"subscribe\":{\"since\":\"now\"}}\n");

	check(next_starts(client, "{\"hello\":") && next_starts(client, "{\"caught_up\":"));
	for (uint64_t seq = 1; seq <= 1000; seq++) {
		struct client *other = visit(house, "{\"subscribe\":{\"since\":\"now\"}}\n");

		pause_us(seq % 50);
		log_writes(house, 1);
		check(next_is_event(client, seq));
		leave(other);
	}
	leave(client);
	demolish(house);
}

/* The socket takes a part of a line, and then nothing for a while. */
static void who_reads_slowly_gets_whole_lines_from_whoever_sends(void **state)
{
	enum { LENGTH = 60000, COUNT = 60 };
	struct house *house = build(state);
	scoped(freep) char *path = malloc(LENGTH);
	struct client *clients[2];

	memset(path, 1, LENGTH);
	for (int i = 0; i < 2; i++) {
		clients[i] = visit(house, "{\"subscribe\":{\"since\":\"now\"}}\n");
		check(next_starts(clients[i], "{\"hello\":") && next_starts(clients[i], "{\"caught_up\":"));
	}
	for (int i = 0; i < COUNT; i++) {
		pause_us(HUB_DIRECT_US);
		log_write(house, path, LENGTH - i);
		check(take_input(clients[0], 0) > 0);
	}
	for (int i = 0; i < 2; i++) {
		check(next_are_events(clients[i], 1, COUNT));
		leave(clients[i]);
	}
	demolish(house);
}

/* ---- The storm ---- */

enum { SUBSCRIBERS = 50, STOPPED = 7, RESUMING = 11, ASKING = 13 };

struct follower {
	struct client *client;
	uint64_t next_seq; /* that is to come */
	unsigned answers;
	bool is_wrong;
};

/* Look at every line that has come. */
static void follow(struct follower *follower)
{
	const char *line;

	while ((line = cut_line(follower->client))) {
		uint64_t seq = line_seq(line);

		if (seq)
			follower->is_wrong |= seq != follower->next_seq++;
		else if (starts_with(line, "{\"status\":"))
			follower->answers++;
		else
			follower->is_wrong |= !starts_with(line, "{\"hello\":") &&
					      !starts_with(line, "{\"caught_up\":");
	}
}

static void read_what_has_come(struct follower *followers)
{
	for (int i = 0; i < SUBSCRIBERS; i++) {
		if (i != STOPPED && take_input(followers[i].client, MSG_DONTWAIT) > 0)
			follow(&followers[i]);
	}
}

static void disconnect_and_resume(struct house *house, struct follower *follower)
{
	char request[100];

	/* The rest of a line, and what the socket still holds, is lost with the connection. */
	leave(follower->client);
	snprintf(request, sizeof(request), "{\"subscribe\":{\"since\":%" PRIu64 "}}\n",
		 follower->next_seq - 1);
	follower->client = visit(house, request);
}

/* Bytes resident, without what SQLite holds: its page cache fills up to the size the store gave it. */
static size_t memory_in_use(void)
{
	char line[200];
	size_t kilobytes = 0;
	scoped(fclosep) FILE *file = fopen("/proc/self/status", "re");

	while (file && fgets(line, sizeof(line), file))
		sscanf(line, "VmRSS: %zu kB", &kilobytes);
	return kilobytes * 1024 - sqlite3_memory_used();
}

static void finish_reading(struct follower *follower)
{
	while (follower->next_seq <= STORM && !follower->is_wrong) {
		if (take_input(follower->client, 0) <= 0)
			follower->is_wrong = true;
		follow(follower);
	}
}

static void each_of_fifty_subscribers_gets_every_event_once_in_order(void **state)
{
	struct house *house = build(state);
	struct follower followers[SUBSCRIBERS];
	size_t early = 0, late;

	for (int i = 0; i < SUBSCRIBERS; i++)
		followers[i] = (struct follower){
			.client = visit(house, "{\"subscribe\":{\"since\":\"oldest\"}}\n"),
			.next_seq = 1,
		};
	for (int n = 1; n <= STORM; n++) {
		log_writes(house, 1);
		if (n % 200 == 0)
			read_what_has_come(followers);
		if (n % 1000 == 0)
			say(followers[ASKING].client, "{\"status\":{}}\n");
		if (n % 5000 == 0)
			disconnect_and_resume(house, &followers[RESUMING]);
		if (n == STORM / 4)
			early = memory_in_use();
	}
	late = memory_in_use();
	for (int i = 0; i < SUBSCRIBERS; i++) {
		finish_reading(&followers[i]);
		check(!followers[i].is_wrong && followers[i].next_seq == STORM + 1);
	}
	check(followers[ASKING].answers > 0);
	if (!IS_SANITIZED)
		check(late < early + (8 << 20));
	for (int i = 0; i < SUBSCRIBERS; i++)
		leave(followers[i].client);
	demolish(house);
}

static void a_thousand_idle_subscribers_take_little_memory(void **state)
{
	enum { COUNT = 1000 };
	struct house *house = build(state);
	struct client *clients[COUNT];
	size_t before = memory_in_use();
	struct rlimit limit;

	check(getrlimit(RLIMIT_NOFILE, &limit) == 0);
	limit.rlim_cur = limit.rlim_max;
	check(setrlimit(RLIMIT_NOFILE, &limit) == 0);
	for (int i = 0; i < COUNT; i++) {
		clients[i] = visit(house, "{\"subscribe\":{\"since\":\"now\"}}\n");
		check(next_starts(clients[i], "{\"hello\":") &&
		      next_starts(clients[i], "{\"caught_up\":0}"));
		/* The client's own memory is not what is measured. */
		bytes_finish(&clients[i]->input);
		clients[i]->begin = 0;
	}
	if (!IS_SANITIZED)
		check(memory_in_use() < before + COUNT * 4096);
	log_writes(house, 1);
	for (int i = 0; i < COUNT; i++) {
		check(next_is_event(clients[i], 1));
		leave(clients[i]);
	}
	demolish(house);
}

/* ---- Errors ---- */

static bool is_refused(struct house *house, const char *request, const char *code)
{
	struct client *client = visit(house, request);
	char start[64];
	bool is_so;

	snprintf(start, sizeof(start), "{\"error\":{\"code\":\"%s\",\"message\":\"", code);
	is_so = next_starts(client, start) && is_at_end(client);
	leave(client);
	return is_so;
}

static void a_bad_request_gets_an_error_and_ends_only_its_connection(void **state)
{
	struct house *house = build(state);
	struct client *other = visit(house, "{\"subscribe\":{\"since\":\"now\"}}\n");

	check(next_starts(other, "{\"hello\":") && next_starts(other, "{\"caught_up\":0}"));
	check(is_refused(house, "{\"subscribe\":\n", "EBADMSG"));
	check(is_refused(house, "{\"fly\":{}}\n", "ENOSYS"));
	check(is_refused(house, "{\"subscribe\":{\"since\":-1}}\n", "EINVAL"));
	check(is_refused(house, "{\"subscribe\":{\"since\":1}}\n", "ERANGE"));
	check(is_refused(house, "[\"version\"]\n", "EBADMSG"));
	check(is_refused(house, "\n", "EBADMSG"));
	check(is_refused(house, "GET / HTTP/1.0\r\n\r\n", "EBADMSG"));
	check(is_refused(house, "{\"manual\":{\"path\":\"../etc\"}}\n", "EINVAL"));
	check(is_refused(house, "{\"manual\":{\"path\":\"/etc\"}}\n", "EINVAL"));
	check(is_refused(house, "{\"manual\":{\"path\":\"a/../b\"}}\n", "EINVAL"));
	check(is_refused(house, "{\"manual\":{\"path\":\"a//b\"}}\n", "EINVAL"));
	log_writes(house, 1);
	check(next_is_event(other, 1));
	leave(other);
	demolish(house);
}

static void a_second_subscribe_is_an_error(void **state)
{
	struct house *house = build(state);
	struct client *client = visit(house, "{\"subscribe\":{\"since\":\"now\"}}\n");

	check(next_starts(client, "{\"hello\":") && next_starts(client, "{\"caught_up\":0}"));
	say(client, "{\"subscribe\":{\"since\":\"now\"}}\n");
	check(next_starts(client, "{\"error\":{\"code\":\"EINVAL\"") && is_at_end(client));
	leave(client);
	demolish(house);
}

static void a_line_over_the_limit_is_refused_and_one_at_the_limit_is_not(void **state)
{
	struct house *house = build(state);
	scoped(freep) char *line = malloc(NATIVE_LINE_MAX + 2);

	memset(line, ' ', NATIVE_LINE_MAX + 1);
	memcpy(line, "{\"status\":{}}", 13);
	line[NATIVE_LINE_MAX + 1] = '\0';
	check(is_refused(house, line, "EMSGSIZE"));

	line[NATIVE_LINE_MAX - 1] = '\n';
	line[NATIVE_LINE_MAX] = '\0';
	struct client *client = visit(house, line);
	check(next_starts(client, "{\"status\":{"));
	leave(client);
	demolish(house);
}

static void a_request_may_come_in_pieces_and_several_at_once(void **state)
{
	static const char request[] = "{\"status\":{}}\n{\"sync\":{}}\n{\"status\":{}}\n";
	struct house *house = build(state);
	struct client *client = visit(house, NULL);

	for (const char *c = request; *c; c++) {
		check(send(client->fd, c, 1, 0) == 1);
		if (*c == ':')
			usleep(1000);
	}
	check(next_starts(client, "{\"status\":") && next_starts(client, "{\"sync\":{\"seq\":0}}"));
	check(next_starts(client, "{\"status\":"));
	scoped(bytes_finish) struct bytes many = { 0 };
	for (int i = 0; i < 1000; i++)
		bytes_append_string(&many, "{\"sync\":{}}\n");
	check(send(client->fd, many.data, many.size, 0) == many.size);
	for (int i = 0; i < 1000; i++)
		check(next_starts(client, "{\"sync\":{\"seq\":0}}"));
	leave(client);
	demolish(house);
}

struct waiter {
	struct loop_timer timer;
	struct hub *hub;
};

/* Look every millisecond whether everybody has gone. */
static void stop_when_empty(void *userdata)
{
	struct waiter *waiter = userdata;

	if (waiter->hub->count == 0)
		loop_stop(waiter->hub->loop);
	else
		loop_timer_start(&waiter->timer, 1000000);
}

static void the_rest_of_half_a_line_is_not_waited_for_for_ever(void **state)
{
	const struct server_hooks hooks = { 0 };
	const struct peer peer = { 0 };
	struct house *house = build(state);
	struct client client = { 0 };
	struct hub hub;
	int fds[2];

	close_server(house);
	check(hub_init(&hub, house->log, &hooks) == 0);
	hub.patience_ms = 10;
	check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
	check(subscriber_create(&hub, fds[0], &peer) == 0);
	client.fd = fds[1];
	say(&client, "{\"status\":{}}\n{\"sta");
	struct waiter waiter = { .hub = &hub };
	loop_timer_init(&waiter.timer, hub.loop, stop_when_empty, &waiter);
	stop_when_empty(&waiter);
	check(loop_run(hub.loop) == 0);
	hub_finish(&hub);
	check(next_starts(&client, "{\"status\":{"));
	check(next_starts(&client, "{\"error\":{\"code\":\"ETIMEDOUT\"") && is_at_end(&client));
	close(client.fd);
	bytes_finish(&client.input);
	free(client.line);
	open_listener(house);
	demolish(house);
}

/*
 * In a child that is somebody else: the first line it gets. Exits 0 when that starts with @start.
 */
static void expect_as(struct house *house, uid_t uid, gid_t group, const char *start)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		char buffer[512] = "";
		int fd;

		if (setgroups(1, &group) < 0 || setgid(uid) < 0 || setuid(uid) < 0)
			_exit(2);
		fd = socket(AF_UNIX, SOCK_STREAM, 0);
		if (connect(fd, (struct sockaddr *)&house->address, house->address_size) < 0)
			_exit(3);
		send(fd, "{\"status\":{}}\n", 14, MSG_NOSIGNAL);
		if (read(fd, buffer, sizeof(buffer) - 1) <= 0)
			_exit(4);
		_exit(starts_with(buffer, start) ? 0 : 1);
	}
	check(waitpid(pid, &status, 0) == pid);
	check(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void only_root_the_owner_and_the_group_are_served(void **state)
{
	struct house *house;

	if (geteuid() != 0) {
		skip();
		return;
	}
	house = build(state);
	expect_as(house, 0, 0, "{\"status\":{");
	expect_as(house, OWNER_UID, OTHER_UID, "{\"status\":{");
	expect_as(house, OTHER_UID, OTHER_GID, "{\"status\":{");
	expect_as(house, OTHER_GID, OTHER_UID, "{\"status\":{");
	expect_as(house, OTHER_UID, OTHER_UID, "{\"error\":{\"code\":\"EACCES\"");
	demolish(house);
}

/* ---- Requests ---- */

static void sync_answers_when_all_before_it_is_in_the_store(void **state)
{
	struct house *house = build(state);
	struct client *client = visit(house, NULL);
	struct eventlog_stat stat;

	for (unsigned n = 1; n <= 20; n++) {
		char expected[64];

		log_writes(house, 100);
		say(client, "{\"sync\":{}}\n");
		snprintf(expected, sizeof(expected), "{\"sync\":{\"seq\":%u}}", n * 100);
		check(next_starts(client, expected));
		eventlog_stat(house->log, &stat);
		check(stat.stored_seq >= n * 100);
	}
	leave(client);
	demolish(house);
}

static void status_shows_the_log_the_subscribers_and_what_the_daemon_adds(void **state)
{
	struct house *house = build(state);
	struct client *follower = visit(house, "{\"subscribe\":{\"since\":\"oldest\"}}\n");
	struct client *client;
	char expected[200];

	log_writes(house, 10);
	check(next_starts(follower, "{\"hello\":"));
	for (uint64_t seq = 1; seq <= 10;)
		seq += line_seq(next_line(follower)) > 0;
	client = visit(house, "{\"status\":{}}\n");
	check(next_starts(client, "{\"status\":{\"log_id\":\""));
	check(strstr(client->line, "\"oldest\":1,\"next\":11,\"events_per_s\":"));
	check(strstr(client->line, "\"journal\":{\"size\":"));
	check(strstr(client->line,
		     "\"log_error\":null,\"root\":\"/nowhere\",\"subscribers\":[{\"id\":1,"));
	snprintf(expected, sizeof(expected),
		 "\"pid\":%d,\"uid\":%u,\"position\":10,\"behind\":0,\"sent\":10}]", getpid(),
		 getuid());
	check(strstr(client->line, expected));
	check(strstr(client->line, ",\"transport\":\"none\"}}"));
	leave(client);
	leave(follower);
	demolish(house);
}

static void a_manual_event_is_logged_with_who_asked(void **state)
{
	struct house *house = build(state);
	struct client *client = visit(house, "{\"subscribe\":{\"since\":\"now\"}}\n");
	char expected[64];

	check(next_starts(client, "{\"hello\":") && next_starts(client, "{\"caught_up\":0}"));
	say(client, "{\"manual\":{\"path\":\"src/a.c\",\"note\":\"rebuild\"}}\n");
	/* The answer and the event come in either order. */
	for (int i = 0; i < 2; i++) {
		const char *line = next_line(client);

		if (starts_with(line, "{\"manual\":{\"seq\":1}}"))
			continue;
		check(line_seq(line) == 1);
		check(strstr(line, "\"op\":\"manual\"") && strstr(line, "\"origin\":\"manual\""));
		check(strstr(line, "\"path\":\"src/a.c\"") && strstr(line, "\"note\":\"rebuild\""));
		snprintf(expected, sizeof(expected), "\"pid\":%d,\"comm\":\"", getpid());
		check(strstr(line, expected));
	}
	leave(client);
	demolish(house);
}

static void restart_asks_the_daemon(void **state)
{
	struct house *house = build(state);
	struct client *client = visit(house, "{\"restart\":{}}\n");

	check(next_starts(client, "{\"restart\":{}}"));
	leave(client);
	close_server(house);
	check(house->restarts == 1);
	open_listener(house);
	demolish(house);
}

/* ---- The end ---- */

static void bye_is_the_last_line_after_all_events(void **state)
{
	struct house *house = build(state);
	struct client *follower = visit(house, "{\"subscribe\":{\"since\":\"now\"}}\n");
	struct client *idle = visit(house, "{\"status\":{}}\n");

	check(next_starts(follower, "{\"hello\":") && next_starts(follower, "{\"caught_up\":0}"));
	check(next_starts(idle, "{\"status\":"));
	/* What fits into a socket: nobody reads while the server stops. */
	log_writes(house, 100);
	server_stop(house->server, "unmounted", 10000);
	check(next_are_events(follower, 1, 100));
	check(next_starts(follower, "{\"bye\":{\"reason\":\"unmounted\"}}") && is_at_end(follower));
	check(next_starts(idle, "{\"bye\":{\"reason\":\"unmounted\"}}") && is_at_end(idle));
	leave(follower);
	leave(idle);
	demolish(house);
}

static void one_who_does_not_read_does_not_hold_up_the_end(void **state)
{
	struct house *house = build(state);
	struct client *client;
	uint64_t begin, took;

	log_writes(house, 20000);
	client = visit(house, "{\"subscribe\":{\"since\":\"oldest\"}}\n");
	check(next_starts(client, "{\"hello\":"));
	begin = loop_now_ns();
	server_stop(house->server, "unmounted", 50);
	took = loop_now_ns() - begin;
	check(took >= 50000000 && took < 30000000000);
	leave(client);
	demolish(house);
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
		on_both(a_subscriber_gets_the_past_then_caught_up_then_live_events),
		on_both(since_now_oldest_and_the_last_event_are_positions),
		on_both(an_empty_log_is_caught_up_with_at_zero),
		on_both(without_follow_the_connection_ends_when_caught_up),
		on_both(a_position_before_the_oldest_kept_event_is_answered_with_a_gap),
		on_both(events_with_very_long_paths_arrive_whole),
		on_both(after_a_quiet_time_who_commits_sends),
		on_both(who_waits_gets_an_event_that_comes_while_another_begins),
		on_both(who_reads_slowly_gets_whole_lines_from_whoever_sends),
		on_both(each_of_fifty_subscribers_gets_every_event_once_in_order),
		on_both(a_thousand_idle_subscribers_take_little_memory),
		on_both(a_bad_request_gets_an_error_and_ends_only_its_connection),
		on_both(a_second_subscribe_is_an_error),
		on_both(a_line_over_the_limit_is_refused_and_one_at_the_limit_is_not),
		on_both(a_request_may_come_in_pieces_and_several_at_once),
		on_both(the_rest_of_half_a_line_is_not_waited_for_for_ever),
		on_both(only_root_the_owner_and_the_group_are_served),
		on_both(sync_answers_when_all_before_it_is_in_the_store),
		on_both(status_shows_the_log_the_subscribers_and_what_the_daemon_adds),
		on_both(a_manual_event_is_logged_with_who_asked),
		on_both(restart_asks_the_daemon),
		on_both(bye_is_the_last_line_after_all_events),
		on_both(one_who_does_not_read_does_not_hold_up_the_end),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
