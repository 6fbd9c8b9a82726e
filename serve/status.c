#include "serve/status.h"

#include "base/bytes.h"
#include "eventlog/eventlog.h"
#include "proto/native.h"
#include "serve/hub.h"
#include "serve/server.h"
#include "serve/subscriber.h"

#include <inttypes.h>
#include <string.h>

/* null: there is nothing to say about it. */
static void write_count(struct bytes *out, const char *key, uint64_t count)
{
	bytes_append_format(out, ",\"%s\":", key);
	if (count)
		bytes_append_u64(out, count);
	else
		bytes_append_string(out, "null");
}

static void write_room(struct bytes *out, const struct eventlog_stat *stat)
{
	write_count(out, "log_quota", stat->quota);
	write_count(out, "lost", stat->lost);
	bytes_append_format(out, ",\"set_aside\":%s", stat->was_set_aside ? "true" : "null");
}

static void write_log(struct bytes *out, struct hub *hub, const struct eventlog_stat *stat)
{
	const char *id = eventlog_id(hub->log);

	bytes_append_string(out, "\"log_id\":");
	native_write_string(out, id, strlen(id));
	bytes_append_format(out,
			    ",\"oldest\":%" PRIu64 ",\"next\":%" PRIu64 ",\"events_per_s\":%.1f"
			    ",\"journal\":{\"size\":%" PRIu64 ",\"used\":%" PRIu64 "}"
			    ",\"drain_lag\":%" PRIu64 ",\"log_size\":%" PRIu64,
			    stat->oldest_seq, stat->next_seq, stat->events_per_s,
			    stat->journal_size, stat->journal_used,
			    stat->next_seq - 1 - stat->stored_seq, stat->store_size);
	write_room(out, stat);
	bytes_append_string(out, ",\"log_error\":");
	if (stat->error)
		bytes_append_format(out, "\"%s\"", strerrorname_np(-stat->error) ?: "EIO");
	else
		bytes_append_string(out, "null");
	if (hub->root) {
		bytes_append_string(out, ",\"root\":");
		native_write_string(out, hub->root, strlen(hub->root));
	}
}

static void write_subscriber(struct bytes *out, const struct subscriber *subscriber,
			     uint64_t next_seq)
{
	bytes_append_format(out,
			    "{\"id\":%" PRIu64 ",\"pid\":%d,\"uid\":%u,\"position\":%" PRIu64
			    ",\"behind\":%" PRIu64 ",\"sent\":%" PRIu64 "}",
			    subscriber->id, subscriber->peer.pid, subscriber->peer.uid,
			    subscriber->next_seq - 1,
			    /* It may have received what came after @next_seq was looked up. */
			    next_seq > subscriber->next_seq ? next_seq - subscriber->next_seq : 0,
			    subscriber->events);
}

static void write_subscribers(struct bytes *out, struct hub *hub, uint64_t next_seq)
{
	const struct subscriber *subscriber;
	const char *comma = "";

	bytes_append_string(out, ",\"subscribers\":[");
	TAILQ_FOREACH(subscriber, &hub->all, link)
	{
		if (!subscriber->is_subscribed)
			continue;
		bytes_append_string(out, comma);
		write_subscriber(out, subscriber, next_seq);
		comma = ",";
	}
	bytes_append_char(out, ']');
}

void status_write(struct bytes *out, struct hub *hub)
{
	struct eventlog_stat stat;

	eventlog_stat(hub->log, &stat);
	bytes_append_string(out, "{\"status\":{");
	write_log(out, hub, &stat);
	write_subscribers(out, hub, stat.next_seq);
	if (hub->hooks->write_status)
		hub->hooks->write_status(hub->hooks->userdata, out);
	bytes_append_string(out, "}}\n");
}
