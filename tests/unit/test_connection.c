/*
 * The library against a server that plays a script.
 *
 * A script is a list of steps: ">" waits for that request line; "<" sends bytes as they stand;
 * "." waits a little, so that what was sent before arrives alone. After the last step the server
 * closes the connection.
 */
#include "client/hrfs.h"

#include "base/scope.h"
#include "tests/unit/check.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>

#define HELLO "{\"hello\":{\"protocol\":1,\"log_id\":\"0b4e\",\"oldest\":1,\"next\":13}}\n"
#define EVENT_13                                                                                               \
	"{\"seq\":13,\"time\":\"2026-11-22T19:40:01.123456789Z\",\"op\":\"write\",\"path\":\"src/a.c\","       \
	"\"offset\":0,\"length\":120,\"size\":120,\"ino\":18446744073709551615,\"pid\":4242,\"comm\":\"vim\"," \
	"\"uid\":1000,\"gid\":1000,\"origin\":\"vfs\"}"
#define EVENT_14                                                                                           \
	"{\"seq\":14,\"time\":\"2026-11-22T19:40:02.000000000Z\",\"op\":\"rename\",\"path\":\"a\\udcff\"," \
	"\"to\":\"b\",\"origin\":\"scan\",\"uncertain\":true}"
#define SUBSCRIBE_12 ">{\"subscribe\":{\"since\":12,\"follow\":true}}"

struct server {
	pthread_t thread;
	int listen_fd;
	const char *const *script;
	char path[SCRATCH_SIZE];
	bool is_satisfied; /* every request came as the script has it */
};

static bool expect_line(int fd, const char *expected)
{
	char line[4096];
	size_t size = 0;

	while (size == 0 || line[size - 1] != '\n') {
		if (size == sizeof(line) || recv(fd, line + size, 1, 0) != 1)
			return false;
		size++;
	}
	line[size - 1] = '\0';
	if (strcmp(line, expected) != 0)
		fprintf(stderr, "requested '%s', expected '%s'\n", line, expected);
	return strcmp(line, expected) == 0;
}

static void *play(void *userdata)
{
	struct server *server = userdata;
	scoped(closep) int fd = accept(server->listen_fd, NULL, NULL);

	server->is_satisfied = fd >= 0;
	for (const char *const *step = server->script; *step && server->is_satisfied; step++) {
		if (**step == '>')
			server->is_satisfied = expect_line(fd, *step + 1);
		else if (**step == '<')
			server->is_satisfied =
				send(fd, *step + 1, strlen(*step + 1), MSG_NOSIGNAL) >= 0;
		else
			usleep(20000);
	}
	return NULL;
}

/* Play @script to the first who connects. */
static void server_start_at(struct server *server, const char *path, const char *const *script)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	server->script = script;
	strcpy(server->path, path);
	strcpy(address.sun_path, path);
	server->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	check(server->listen_fd >= 0);
	check(bind(server->listen_fd, (struct sockaddr *)&address, sizeof(address)) == 0);
	check(listen(server->listen_fd, 8) == 0);
	check(pthread_create(&server->thread, NULL, play, server) == 0);
}

static void server_start(struct server *server, const char *const *script)
{
	const char *path = scratch("socket");

	unlink(path);
	server_start_at(server, path, script);
}

static void server_stop(struct server *server)
{
	pthread_join(server->thread, NULL);
	close(server->listen_fd);
	check(server->is_satisfied);
}

static void hrfs_closep(struct hrfs **hrfs)
{
	hrfs_close(*hrfs);
}

/* Connect to a new server that plays the script, and subscribe after event 12. */
static struct hrfs *subscribe_to(struct server *server, const char *const *script)
{
	struct hrfs *hrfs = NULL;

	server_start(server, script);
	check(hrfs_connect_socket(server->path, &hrfs) == 0);
	check(hrfs_subscribe(hrfs, 12, 1) == 0);
	return hrfs;
}

#define SCRIPT(...)                                                                                \
	(const char *const[])                                                                      \
	{                                                                                          \
		__VA_ARGS__, NULL                                                                  \
	}

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
}

static void an_event_is_received_whole(void)
{
	struct server server;
	scoped(hrfs_closep) struct hrfs *hrfs =
		subscribe_to(&server, SCRIPT(SUBSCRIBE_12, "<" HELLO, "<" EVENT_13 "\n"));
	struct hrfs_event event;

	check(strcmp(hrfs_log_id(hrfs), "0b4e") == 0);
	check(hrfs_position(hrfs) == 12);
	check(strstr(hrfs_line(hrfs), "\"hello\""));
	check(hrfs_next(hrfs, &event, -1) == HRFS_EVENT);
	check(event.seq == 13 && hrfs_position(hrfs) == 13);
	check(event.time_ns == INT64_C(1795376401123456789));
	check(strcmp(event.op, "write") == 0 && strcmp(event.origin, "vfs") == 0);
	check(strcmp(event.path, "src/a.c") == 0 && event.path_length == 7);
	check(!event.to && event.to_length == 0 && !event.name);
	check(strcmp(event.comm, "vim") == 0 && event.pid == 4242 && event.uid == 1000 &&
	      event.gid == 1000);
	check(event.has ==
	      (HRFS_HAS_OFFSET | HRFS_HAS_LENGTH | HRFS_HAS_SIZE | HRFS_HAS_INO | HRFS_HAS_WHO));
	check(event.offset == 0 && event.length == 120 && event.size == 120 &&
	      event.ino == UINT64_MAX);
	check(strcmp(event.json, EVENT_13) == 0 && event.json_length == strlen(EVENT_13));
	server_stop(&server);
}

static void bytes_that_are_no_text_come_as_bytes(void)
{
	struct server server;
	scoped(hrfs_closep) struct hrfs *hrfs =
		subscribe_to(&server, SCRIPT(SUBSCRIBE_12, "<" HELLO, "<" EVENT_14 "\n"));
	struct hrfs_event event;

	check(hrfs_next(hrfs, &event, -1) == HRFS_EVENT);
	check(event.path_length == 2 && strcmp(event.path, "a\xff") == 0);
	check(strcmp(event.to, "b") == 0 && event.to_length == 1);
	check(event.has == HRFS_UNCERTAIN && !event.comm);
	server_stop(&server);
}

static void lines_may_come_in_any_pieces(void)
{
	struct server server;
	scoped(hrfs_closep) struct hrfs *hrfs = subscribe_to(
		&server,
		SCRIPT(SUBSCRIBE_12, "<" HELLO "{\"seq\":13,\"ti", ".",
		       "<me\":\"2026-11-22T19:40:01.123456789Z\",\"op\":\"unlink\",\"path\":\"a",
		       ".", "<\",\"origin\":\"vfs\"}", ".", "<\n" EVENT_14 "\n{\"caught", ".",
		       "<_up\":14}\n"));
	struct hrfs_event event;

	check(hrfs_next(hrfs, &event, -1) == HRFS_EVENT && event.seq == 13);
	check(hrfs_next(hrfs, &event, -1) == HRFS_EVENT && event.seq == 14);
	check(hrfs_next(hrfs, &event, -1) == HRFS_CAUGHT_UP && hrfs_position(hrfs) == 14);
	check(hrfs_next(hrfs, &event, -1) == -EPIPE);
	check(hrfs_next(hrfs, &event, -1) == -EPIPE);
	server_stop(&server);
}

static void what_came_before_the_end_is_received(void)
{
	struct server server;
	scoped(hrfs_closep) struct hrfs *hrfs =
		subscribe_to(&server, SCRIPT(SUBSCRIBE_12, "<" HELLO EVENT_13 "\n" EVENT_14
							   "\n{\"seq\":15,\"ti"));
	struct hrfs_event event;

	server_stop(&server);
	check(hrfs_next(hrfs, &event, 0) == HRFS_EVENT && event.seq == 13);
	check(hrfs_next(hrfs, &event, 0) == HRFS_EVENT && event.seq == 14);
	check(hrfs_next(hrfs, &event, 0) == -EPIPE);
	check(hrfs_position(hrfs) == 14);
	check(event.seq == 0 && !event.path);
}

static void the_other_messages_are_told_apart(void)
{
	struct server server;
	scoped(hrfs_closep) struct hrfs *hrfs = subscribe_to(
		&server, SCRIPT(SUBSCRIBE_12,
				"<" HELLO "{\"gap\":{\"first\":13,\"last\":20,\"why\":[{}]}}\n",
				"<{\"news\":{\"of\":\"a later version\"}}\n{\"caught_up\":20}\n",
				"<{\"bye\":{\"reason\":\"unmounted\"}}\n"));
	struct hrfs_event event;

	check(hrfs_next(hrfs, &event, -1) == HRFS_GAP && hrfs_position(hrfs) == 20);
	check(hrfs_next(hrfs, &event, -1) == HRFS_CAUGHT_UP);
	check(strcmp(hrfs_bye_reason(hrfs), "") == 0);
	check(hrfs_next(hrfs, &event, -1) == HRFS_BYE);
	check(strcmp(hrfs_bye_reason(hrfs), "unmounted") == 0);
	check(strcmp(event.json, "{\"bye\":{\"reason\":\"unmounted\"}}") == 0);
	server_stop(&server);
}

static void garbage_is_reported_and_harms_nothing(void)
{
	static const char *const bad[] = {
		"<\n",
		"<garbage\n",
		"<[1,2]\n",
		"<{}\n",
		"<{\"seq\":13}\n",
		"<{\"seq\":-1,\n",
		"<{\"caught_up\":{}}\n",
		"<{\"caught_up\":-1}\n",
		"<{\"gap\":{}}\n",
		"<{\"gap\":7}\n",
		"<{\"bye\":\n",
		"<{\"error\":[]}\n",
		"<\xff\xfe\n",
		"<{\"seq\":13,\"time\":\"yesterday\",\"op\":\"write\",\"path\":\"\",\"origin\":\"vfs\"}\n",
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct server server;
		scoped(hrfs_closep) struct hrfs *hrfs = subscribe_to(
			&server, SCRIPT(SUBSCRIBE_12, "<" HELLO, bad[i], "<" EVENT_13 "\n"));
		struct hrfs_event event;
		int r = hrfs_next(hrfs, &event, -1);

		if (r != -EBADMSG)
			fprintf(stderr, "%d for %s", r, bad[i]);
		check(r == -EBADMSG);
		check(hrfs_position(hrfs) == 12);
		check(hrfs_next(hrfs, &event, -1) == HRFS_EVENT && event.seq == 13);
		server_stop(&server);
	}
}

static void an_error_has_the_servers_words(void)
{
	struct server server;
	scoped(hrfs_closep) struct hrfs *hrfs = NULL;

	server_start(&server,
		     SCRIPT(">{\"subscribe\":{\"since\":99,\"follow\":false}}",
			    "<{\"error\":{\"code\":\"ERANGE\",\"message\":\"not that far\"}}\n"));
	check(hrfs_connect_socket(server.path, &hrfs) == 0);
	check(strcmp(hrfs_error(hrfs), "") == 0);
	check(hrfs_subscribe(hrfs, 99, 0) == -EREMOTEIO);
	check(strcmp(hrfs_error(hrfs), "not that far") == 0);
	server_stop(&server);
}

static void an_error_in_the_stream_is_told_and_then_forgotten(void)
{
	struct server server;
	scoped(hrfs_closep) struct hrfs *hrfs = subscribe_to(
		&server, SCRIPT(SUBSCRIBE_12,
				"<" HELLO "{\"error\":{\"message\":\"disk\",\"code\":\"EIO\"}}\n"));
	struct hrfs_event event;

	check(hrfs_next(hrfs, &event, -1) == -EREMOTEIO && strcmp(hrfs_error(hrfs), "disk") == 0);
	check(hrfs_next(hrfs, &event, -1) == -EPIPE && strcmp(hrfs_error(hrfs), "") == 0);
	server_stop(&server);
}

static void the_start_of_a_stream_is_a_position(void)
{
	static const struct {
		uint64_t since;
		const char *request;
		uint64_t position;
	} cases[] = {
		{ HRFS_SINCE_NOW, ">{\"subscribe\":{\"since\":\"now\",\"follow\":true}}", 12 },
		{ HRFS_SINCE_OLDEST, ">{\"subscribe\":{\"since\":\"oldest\",\"follow\":true}}", 0 },
		{ 0, ">{\"subscribe\":{\"since\":0,\"follow\":true}}", 0 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		scoped(hrfs_closep) struct hrfs *hrfs = NULL;
		struct server server;

		server_start(&server, SCRIPT(cases[i].request, "<" HELLO));
		check(hrfs_connect_socket(server.path, &hrfs) == 0);
		check(hrfs_subscribe(hrfs, cases[i].since, 1) == 0);
		check(hrfs_position(hrfs) == cases[i].position);
		check(hrfs_subscribe(hrfs, 0, 1) == -EBUSY);
		server_stop(&server);
	}
}

static void waiting_ends_when_the_time_is_up(void)
{
	struct server server;
	scoped(hrfs_closep) struct hrfs *hrfs =
		subscribe_to(&server, SCRIPT(SUBSCRIBE_12, "<" HELLO "{\"seq\":1", ".", ".", ".",
					     ".", ".", ".", ".", "."));
	struct hrfs_event event;
	int64_t start = now_ms();

	check(hrfs_next(hrfs, &event, 0) == HRFS_NOTHING);
	check(hrfs_next(hrfs, &event, 50) == HRFS_NOTHING);
	check(now_ms() - start >= 50);
	server_stop(&server);
}

static void on_signal(int number)
{
}

static void a_signal_does_not_end_the_wait(void)
{
	const struct sigaction action = { .sa_handler = on_signal };
	const struct itimerval timer = { .it_value.tv_usec = 5000, .it_interval.tv_usec = 5000 };
	const struct itimerval off = { 0 };
	struct server server;
	scoped(hrfs_closep) struct hrfs *hrfs = subscribe_to(
		&server, SCRIPT(SUBSCRIBE_12, "<" HELLO, ".", ".", ".", "<" EVENT_13 "\n"));
	struct hrfs_event event;

	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &timer, NULL);
	check(hrfs_next(hrfs, &event, 20) == HRFS_NOTHING);
	check(hrfs_next(hrfs, &event, -1) == HRFS_EVENT);
	setitimer(ITIMER_REAL, &off, NULL);
	server_stop(&server);
}

static void poll_and_next_agree(void)
{
	struct server server;
	scoped(hrfs_closep) struct hrfs *hrfs =
		subscribe_to(&server, SCRIPT(SUBSCRIBE_12, "<" HELLO EVENT_13 "\n" EVENT_14 "\n",
					     ".", "<{\"caught_up\":14}\n"));
	struct pollfd input = { .fd = hrfs_fd(hrfs), .events = POLLIN };
	struct hrfs_event event;
	int received = 0;

	while (received < 3) {
		int r;

		while ((r = hrfs_next(hrfs, &event, 0)) != HRFS_NOTHING && r > 0)
			received++;
		check(r == HRFS_NOTHING || received == 3);
		if (received < 3)
			check(poll(&input, 1, 5000) == 1);
	}
	server_stop(&server);
}

static void an_endless_line_is_refused(void)
{
	static char line[(5 << 20) + 2] = "<";
	struct hrfs_event event;
	struct server server;

	memset(line + 1, 'x', sizeof(line) - 2);
	scoped(hrfs_closep) struct hrfs *hrfs =
		subscribe_to(&server, SCRIPT(SUBSCRIBE_12, "<" HELLO, line));
	check(hrfs_next(hrfs, &event, -1) == -EMSGSIZE);
	hrfs_close(take(hrfs));
	pthread_join(server.thread, NULL);
	close(server.listen_fd);
}

static void a_long_event_is_received(void)
{
	static char line[400000];
	struct hrfs_event event;
	struct server server;
	char *to = line;

	to += sprintf(
		to,
		"<{\"seq\":13,\"time\":\"2026-11-22T19:40:01.123456789Z\",\"op\":\"unlink\",\"path\":\"");
	for (int i = 0; i < 65535; i++)
		to = stpcpy(to, "\\udcff");
	strcpy(to, "\",\"origin\":\"vfs\"}\n");
	scoped(hrfs_closep) struct hrfs *hrfs =
		subscribe_to(&server, SCRIPT(SUBSCRIBE_12, "<" HELLO, line));
	check(hrfs_next(hrfs, &event, -1) == HRFS_EVENT);
	check(event.path_length == 65535 && strlen(event.path) == 65535);
	server_stop(&server);
}

static void requests_are_answered(void)
{
	scoped(hrfs_closep) struct hrfs *hrfs = NULL;
	struct server server;
	const char *json;
	uint64_t seq = 0;

	server_start(
		&server,
		SCRIPT(">{\"sync\":{}}", "<{\"sync\":{\"seq\":41}}\n", ">{\"status\":{}}",
		       "<{\"status\":{\"log_id\":\"77\",\"subscribers\":[{\"id\":1}],\"missing\":[]}}\n",
		       ">{\"manual\":{\"path\":\"a\\udcff\",\"note\":\"say \\\"x\\\"\"}}",
		       "<{\"manual\":{\"seq\":42}}\n", ">{\"manual\":{\"path\":\"\"}}",
		       "<{\"manual\":{\"seq\":43}}\n", ">{\"restart\":{}}", "<{\"restart\":{}}\n",
		       ">{\"restart\":{}}", "<{\"bye\":{\"reason\":\"restart\"}}\n"));
	check(hrfs_connect_socket(server.path, &hrfs) == 0);
	check(hrfs_sync(hrfs, &seq) == 0 && seq == 41);
	check(hrfs_status(hrfs, &json) == 0);
	check(strcmp(json, "{\"log_id\":\"77\",\"subscribers\":[{\"id\":1}],\"missing\":[]}") == 0);
	check(strcmp(hrfs_log_id(hrfs), "77") == 0);
	check(hrfs_manual(hrfs, "a\xff", "say \"x\"") == 0);
	check(hrfs_manual(hrfs, "", NULL) == 0);
	check(hrfs_restart(hrfs) == 0);
	check(hrfs_restart(hrfs) == 0);
	check(hrfs_sync(hrfs, &seq) == -EPIPE);
	server_stop(&server);
}

static void a_bad_answer_is_no_answer(void)
{
	static const char *const bad[] = { "<{\"sync\":{}}\n", "<{\"sync\":41}\n",
					   "<{\"sync\":{\"seq\":\"x\"}}\n", "<nonsense\n" };

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		scoped(hrfs_closep) struct hrfs *hrfs = NULL;
		struct server server;
		uint64_t seq = 7;

		server_start(&server, SCRIPT(">{\"sync\":{}}", bad[i]));
		check(hrfs_connect_socket(server.path, &hrfs) == 0);
		check(hrfs_sync(hrfs, &seq) == -EBADMSG && seq == 7);
		server_stop(&server);
	}
}

static void requests_and_a_stream_do_not_mix(void)
{
	struct server server;
	scoped(hrfs_closep) struct hrfs *hrfs =
		subscribe_to(&server, SCRIPT(SUBSCRIBE_12, "<" HELLO));
	uint64_t seq;

	check(hrfs_sync(hrfs, &seq) == -EBUSY);
	check(hrfs_restart(hrfs) == -EBUSY);
	server_stop(&server);
}

static void nobody_listening_is_an_error(void)
{
	struct hrfs *hrfs = NULL;

	check(hrfs_connect_socket(scratch("nothing"), &hrfs) == -ENOENT);
	check(!hrfs);
	hrfs_close(NULL);
}

/* A socket's address has room for 107 bytes; the name in a deep folder is longer. */
static void a_long_socket_path_is_reached(void)
{
	char folder[200], old[SCRATCH_SIZE * 2], path[SCRATCH_SIZE * 2];
	scoped(hrfs_closep) struct hrfs *hrfs = NULL;
	struct server server;

	memset(folder, 'f', sizeof(folder) - 1);
	folder[sizeof(folder) - 1] = '\0';
	check(mkdir(scratch(folder), 0700) == 0);
	snprintf(old, sizeof(old), "%s", scratch("short"));
	snprintf(path, sizeof(path), "%s/socket", scratch(folder));
	server_start_at(&server, old, SCRIPT(">{\"restart\":{}}", "<{\"restart\":{}}\n"));
	check(rename(old, path) == 0);
	check(hrfs_connect_socket(path, &hrfs) == 0);
	check(hrfs_restart(hrfs) == 0);
	server_stop(&server);
}

static void what_is_no_mount_is_told(void)
{
	char buffer[256] = "untouched";
	struct hrfs *hrfs = NULL;

	check(hrfs_find_socket("/", buffer, sizeof(buffer)) == -ENOTTY);
	check(hrfs_find_log("/dev/null", buffer, sizeof(buffer)) == -ENOTTY);
	check(hrfs_find_socket("/does/not/exist", buffer, sizeof(buffer)) == -ENOENT);
	check(strcmp(buffer, "untouched") == 0);
	check(hrfs_connect("/", &hrfs) == -ENOTTY && !hrfs);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		unit(an_event_is_received_whole),
		unit(bytes_that_are_no_text_come_as_bytes),
		unit(lines_may_come_in_any_pieces),
		unit(what_came_before_the_end_is_received),
		unit(the_other_messages_are_told_apart),
		unit(garbage_is_reported_and_harms_nothing),
		unit(an_error_has_the_servers_words),
		unit(an_error_in_the_stream_is_told_and_then_forgotten),
		unit(the_start_of_a_stream_is_a_position),
		unit(waiting_ends_when_the_time_is_up),
		unit(a_signal_does_not_end_the_wait),
		unit(poll_and_next_agree),
		unit(an_endless_line_is_refused),
		unit(a_long_event_is_received),
		unit(requests_are_answered),
		unit(a_bad_answer_is_no_answer),
		unit(requests_and_a_stream_do_not_mix),
		unit(nobody_listening_is_an_error),
		unit(a_long_socket_path_is_reached),
		unit(what_is_no_mount_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
