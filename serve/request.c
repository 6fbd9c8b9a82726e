#include "serve/request.h"

#include "base/bytes.h"
#include "base/fdutil.h"
#include "base/scope.h"
#include "eventlog/eventlog.h"
#include "proto/event.h"
#include "proto/native.h"
#include "serve/helper.h"
#include "serve/hub.h"
#include "serve/peer.h"
#include "serve/server.h"
#include "serve/status.h"
#include "serve/subscriber.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct request_job {
	struct helper_job base;
	struct subscriber *subscriber; /* NULL: gone. Not for the helper's thread */
	struct eventlog *log;
	struct peer peer; /* who asked */
	struct native_request request;
	const struct server_hooks *hooks;
	int result;   /* 0 or a negative errno */
	uint64_t seq; /* the answer */
	char refusal[256]; /* why not: a sentence */
};

void request_write_error(struct bytes *out, int error, const char *message)
{
	const char *code = strerrorname_np(-error) ?: "EIO";

	bytes_append_string(out, "{\"error\":{\"code\":");
	native_write_string(out, code, strlen(code));
	bytes_append_string(out, ",\"message\":");
	native_write_string(out, message, strlen(message));
	bytes_append_string(out, "}}\n");
}

/* ---- Subscribe ---- */

static void write_hello(struct bytes *out, struct eventlog *log, uint64_t next_seq)
{
	const char *id = eventlog_id(log);

	bytes_append_string(out, "{\"hello\":{\"protocol\":");
	bytes_append_u64(out, NATIVE_PROTOCOL);
	bytes_append_string(out, ",\"log_id\":");
	native_write_string(out, id, strlen(id));
	bytes_append_string(out, ",\"oldest\":");
	bytes_append_u64(out, eventlog_oldest_seq(log));
	bytes_append_string(out, ",\"next\":");
	bytes_append_u64(out, next_seq);
	bytes_append_string(out, "}}\n");
}

static void subscribe(struct subscriber *subscriber, const struct native_request *request)
{
	struct eventlog *log = subscriber->hub->log;
	uint64_t next_seq = eventlog_next_seq(log);
	uint64_t seq = next_seq;

	if (subscriber->is_subscribed) {
		subscriber_fail(subscriber, -EINVAL, "The connection is subscribed already.");
		return;
	}
	if (request->since == NATIVE_SINCE_SEQ && request->seq >= next_seq) {
		subscriber_fail(subscriber, -ERANGE, "The log has not come to this position.");
		return;
	}
	if (request->since == NATIVE_SINCE_SEQ)
		seq = request->seq + 1;
	else if (request->since == NATIVE_SINCE_OLDEST)
		seq = eventlog_oldest_seq(log);
	write_hello(&subscriber->answers, log, next_seq);
	subscriber_start(subscriber, seq, request->follow);
}

/* ---- Sync, manual, restart: by the helper ---- */

static void explain(struct request_job *job)
{
	if (job->result < 0)
		snprintf(job->refusal, sizeof(job->refusal), "The log cannot be written: %s.", eventlog_reason(job->log, job->result));
}

static void run_sync(struct helper_job *base)
{
	struct request_job *job = (struct request_job *)base;

	job->result = eventlog_flush(job->log, &job->seq);
	explain(job);
}

/*
 * Fills @comm, of EVENT_COMM_MAX + 1 bytes, with the name of process @pid. Returns its length; 0:
 * unknown.
 */
static size_t read_comm(pid_t pid, char *comm)
{
	char path[64];
	ssize_t size;

	snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	scoped(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (pid <= 0 || fd < 0)
		return 0;
	size = fd_read_all(fd, comm, EVENT_COMM_MAX + 1);
	/* The kernel ends it with a newline. */
	return size > 0 ? size - 1 : 0;
}

static int append_manual(struct request_job *job)
{
	char comm[EVENT_COMM_MAX + 1];
	struct event event = {
		.op = EVENT_MANUAL,
		.origin = EVENT_BY_HAND,
		.has = EVENT_HAS_WHO,
		.path = job->request.path,
		.path_length = strlen(job->request.path),
		.name = job->request.note,
		.name_length = job->request.note ? strlen(job->request.note) : 0,
		.pid = job->peer.pid,
		.uid = job->peer.uid,
		.gid = job->peer.gid,
		.comm = comm,
	};
	struct writer *writer;
	int r;

	event.comm_length = read_comm(job->peer.pid, comm);
	r = writer_open(job->log, &writer);
	if (r < 0)
		return r;
	r = writer_append(writer, &event);
	writer_close(writer);
	job->seq = event.seq;
	return r;
}

static void run_manual(struct helper_job *base)
{
	struct request_job *job = (struct request_job *)base;

	job->result = append_manual(job);
	explain(job);
}

static void run_restart(struct helper_job *base)
{
	struct request_job *job = (struct request_job *)base;

	snprintf(job->refusal, sizeof(job->refusal), "The daemon cannot restart.");
	job->result = job->hooks->restart ?
			      job->hooks->restart(job->hooks->userdata, job->refusal, sizeof(job->refusal)) :
			      -EOPNOTSUPP;
}

static void free_job(struct request_job *job)
{
	native_request_finish(&job->request);
	free(job);
}

static void write_job_answer(struct bytes *out, const struct request_job *job)
{
	bool is_sync = job->request.kind == NATIVE_SYNC;

	if (job->request.kind == NATIVE_RESTART) {
		bytes_append_string(out, "{\"restart\":{}}\n");
		return;
	}
	bytes_append_string(out, is_sync ? "{\"sync\":{\"seq\":" : "{\"manual\":{\"seq\":");
	bytes_append_u64(out, job->seq);
	bytes_append_string(out, "}}\n");
}

static void job_done(struct helper_job *base)
{
	struct request_job *job = (struct request_job *)base;
	struct subscriber *subscriber = job->subscriber;

	if (subscriber) {
		subscriber->job = NULL;
		if (job->result < 0) {
			subscriber_fail(subscriber, job->result, job->refusal);
		} else {
			write_job_answer(&subscriber->answers, job);
			subscriber_answered(subscriber);
		}
	}
	free_job(job);
}

void request_abandon(struct request_job *job)
{
	job->subscriber = NULL;
}

/* Takes over what @request owns, and leaves it empty. */
static void submit(struct subscriber *subscriber, struct native_request *request,
		   void (*run)(struct helper_job *job))
{
	struct request_job *job = calloc(1, sizeof(*job));

	if (!job) {
		subscriber_fail(subscriber, -ENOMEM, "Out of memory.");
		return;
	}
	job->base.run = run;
	job->base.done = job_done;
	job->subscriber = subscriber;
	job->log = subscriber->hub->log;
	job->hooks = subscriber->hub->hooks;
	job->peer = subscriber->peer;
	job->request = *request;
	*request = (struct native_request){ 0 };
	subscriber->job = job;
	helper_submit(subscriber->hub->helper, &job->base);
}

/* ---- Restart ---- */

/* Who may read along may not therefore choose when the daemon starts another program. */
static void restart(struct subscriber *subscriber, struct native_request *request)
{
	uid_t uid = subscriber->peer.uid;

	if (uid != 0 && uid != subscriber->hub->owner)
		subscriber_fail(subscriber, -EACCES, "Only the owner of the mount and root may restart the daemon.");
	else
		submit(subscriber, request, run_restart);
}

/* ---- All ---- */

static void answer(struct subscriber *subscriber, struct native_request *request)
{
	switch (request->kind) {
	case NATIVE_SUBSCRIBE:
		subscribe(subscriber, request);
		break;
	case NATIVE_SYNC:
		submit(subscriber, request, run_sync);
		break;
	case NATIVE_STATUS:
		status_write(&subscriber->answers, subscriber->hub);
		break;
	case NATIVE_MANUAL:
		submit(subscriber, request, run_manual);
		break;
	case NATIVE_RESTART:
		restart(subscriber, request);
		break;
	}
}

void request_handle(struct subscriber *subscriber, const char *line, size_t size)
{
	scoped(native_request_finish) struct native_request request = { 0 };
	const char *message = "";
	int r;

	r = native_parse_request(line, size, &request, &message);
	if (r < 0)
		subscriber_fail(subscriber, r, message);
	else
		answer(subscriber, &request);
}
