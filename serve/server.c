#include "serve/server.h"

#include "base/bytes.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/scope.h"
#include "eventlog/eventlog.h"
#include "proto/native.h"
#include "serve/helper.h"
#include "serve/hub.h"
#include "serve/peer.h"
#include "serve/request.h"
#include "serve/subscriber.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

struct server {
	struct server_options options;
	struct server_hooks hooks;
	struct hub hub;
	pthread_t thread;
	bool has_thread;
	bool has_accept_failed; /* said so; until a connection is accepted again */
	int stop_fd;            /* eventfd: server_stop() has set what follows */
	const char *stop_reason;
	unsigned grace_ms;
	struct loop_timer grace;
};

/* ---- Accepting ---- */

/* A line for somebody who is not served: it fits into the empty socket. */
static void refuse(int fd, const struct bytes *line)
{
	char rest[LOOP_INPUT_MAX];

	if (!bytes_error(line))
		send(fd, line->data, line->size, MSG_NOSIGNAL | MSG_DONTWAIT);
	shutdown(fd, SHUT_RDWR);
	/* A request that nobody has read would turn the peer's end of file into ECONNRESET. */
	while (recv(fd, rest, sizeof(rest), MSG_DONTWAIT) > 0)
		;
	close(fd);
}

static void refuse_with_error(int fd, int error, const char *message)
{
	scoped(bytes_finish) struct bytes line = { 0 };

	request_write_error(&line, error, message);
	refuse(fd, &line);
}

static void refuse_with_bye(int fd, const char *reason)
{
	scoped(bytes_finish) struct bytes line = { 0 };

	bytes_append_string(&line, "{\"bye\":{\"reason\":");
	native_write_string(&line, reason, strlen(reason));
	bytes_append_string(&line, "}}\n");
	refuse(fd, &line);
}

static void serve(struct server *server, int fd)
{
	struct peer peer;
	int r;

	r = peer_read(fd, &peer);
	if (r < 0)
		refuse_with_error(fd, r, "The caller is not known.");
	else if (!peer_is_allowed(&peer, fd, server->options.owner, server->options.group))
		refuse_with_error(fd, -EACCES,
				  "Only root, the owner of the mount and the group of its subscribers may connect.");
	else if (server->hub.is_ending)
		refuse_with_bye(fd, server->hub.reason);
	else if (server->hub.count >= HUB_SUBSCRIBERS_MAX)
		refuse_with_error(fd, -EUSERS, "Too many connections.");
	else if (subscriber_create(&server->hub, fd, &peer) < 0)
		log_warning("no memory for a connection");
}

static void on_accept(void *userdata, int fd)
{
	struct server *server = userdata;

	if (fd >= 0) {
		server->has_accept_failed = false;
		serve(server, fd);
	} else if (!server->has_accept_failed) {
		server->has_accept_failed = true;
		log_warning("cannot accept a connection: %s", strerror(-fd));
	}
}

/* ---- Stopping ---- */

static void on_grace_over(void *userdata)
{
	struct server *server = userdata;

	hub_cut(&server->hub);
}

static void on_stop(void *userdata)
{
	struct server *server = userdata;
	loop_timer_start(&server->grace, server->grace_ms * 1000000ull);
	hub_end(&server->hub, server->stop_reason);
}

void server_stop(struct server *server, const char *reason, unsigned grace_ms)
{
	if (!server->has_thread)
		return;
	eventlog_on_news(server->hub.log, NULL, NULL);
	loop_enter(server->hub.loop);
	server->stop_reason = reason;
	server->grace_ms = grace_ms;
	loop_leave(server->hub.loop);
	eventfd_write(server->stop_fd, 1);
	pthread_join(server->thread, NULL);
	server->has_thread = false;
}

/* ---- Life ---- */

static void *run(void *data)
{
	struct server *server = data;
	int r;

	pthread_setname_np(pthread_self(), "hrfs-serve");
	r = loop_run(server->hub.loop);
	if (r < 0)
		log_error("the subscribers are no longer served: %s", strerror(-r));
	return NULL;
}

static int init(struct server *server, struct eventlog *log)
{
	int r;

	server->stop_fd = eventfd(0, EFD_CLOEXEC);
	if (server->stop_fd < 0)
		return -errno;
	r = hub_init(&server->hub, log, &server->hooks);
	if (r < 0)
		return r;
	server->hub.root = server->options.root;
	server->hub.owner = server->options.owner;
	loop_timer_init(&server->grace, server->hub.loop, on_grace_over, server);
	r = loop_watch(server->hub.loop, server->stop_fd, on_stop, server);
	if (r < 0)
		return r;
	return loop_listen(server->hub.loop, server->options.listen_fd, on_accept, server);
}

int server_create(const struct server_options *options, const struct server_hooks *hooks,
		  struct eventlog *log, struct server **out)
{
	struct server *server = calloc(1, sizeof(*server));
	int r;

	if (!server)
		return -ENOMEM;
	server->options = *options;
	server->hooks = *hooks;
	r = init(server, log);
	if (r < 0) {
		server_destroy(server);
		return r;
	}
	*out = server;
	return 0;
}

static bool deliver(void *userdata)
{
	return hub_deliver(userdata);
}

int server_start(struct server *server)
{
	sigset_t all, before;
	int r;

	/* Signals are for the daemon's main thread. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = helper_start(server->hub.helper);
	if (r == 0)
		r = -pthread_create(&server->thread, NULL, run, server);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	server->has_thread = r == 0;
	if (r == 0)
		eventlog_on_news(server->hub.log, deliver, &server->hub);
	return r;
}

void server_destroy(struct server *server)
{
	if (!server)
		return;
	hub_finish(&server->hub);
	if (server->stop_fd >= 0)
		close(server->stop_fd);
	free(server);
}
