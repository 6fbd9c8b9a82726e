/* Subscribe: a stream of events, in order, each once. */
#include "client/connection.h"
#include "client/hrfs.h"
#include "proto/event.h"
#include "proto/json.h"
#include "proto/native.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

static_assert(HRFS_HAS_OFFSET == EVENT_HAS_OFFSET && HRFS_HAS_LENGTH == EVENT_HAS_LENGTH &&
		      HRFS_HAS_SIZE == EVENT_HAS_SIZE && HRFS_HAS_INO == EVENT_HAS_INO &&
		      HRFS_HAS_MODE == EVENT_HAS_MODE && HRFS_HAS_OWNER == EVENT_HAS_OWNER &&
		      HRFS_HAS_FLAGS == EVENT_HAS_FLAGS && HRFS_HAS_WHO == EVENT_HAS_WHO &&
		      HRFS_UNCERTAIN == EVENT_UNCERTAIN,
	      "the bits are the same inside and outside");

/* ---- Starting ---- */

static void write_since(struct bytes *out, uint64_t since)
{
	if (since == HRFS_SINCE_NOW)
		bytes_append_string(out, "\"now\"");
	else if (since == HRFS_SINCE_OLDEST)
		bytes_append_string(out, "\"oldest\"");
	else
		bytes_append_u64(out, since);
}

/* Where the log begins and ends when the stream starts. */
struct hello {
	uint64_t oldest;
	uint64_t next;
};

static int read_hello_member(struct hrfs *hrfs, struct json *json, const char *key,
			     struct hello *out)
{
	struct json_string value;

	if (strcmp(key, "oldest") == 0)
		return json_read_u64(json, &out->oldest);
	if (strcmp(key, "next") == 0)
		return json_read_u64(json, &out->next);
	if (strcmp(key, "log_id") != 0)
		return json_skip(json, NATIVE_DEPTH_MAX);
	if (json_read_string(json, &value) < 0)
		return -EBADMSG;
	connection_copy(hrfs->log_id, sizeof(hrfs->log_id), value.data);
	return 0;
}

static int read_hello(struct hrfs *hrfs, struct json *json, struct hello *out)
{
	struct json_string key;
	int r;

	if (json_begin_object(json) < 0)
		return -EBADMSG;
	while ((r = json_next_member(json, &key)) == 1)
		if (read_hello_member(hrfs, json, key.data, out) < 0)
			return -EBADMSG;
	return r == 0 && out->oldest > 0 && out->next >= out->oldest ? 0 : -EBADMSG;
}

int hrfs_subscribe(struct hrfs *hrfs, uint64_t since, int follow)
{
	struct hello hello = { 0 };
	struct json json;
	int r;

	if (hrfs->is_subscribed)
		return -EBUSY;

	bytes_append_string(&hrfs->output, "{\"subscribe\":{\"since\":");
	write_since(&hrfs->output, since);
	bytes_append_string(&hrfs->output, follow ? ",\"follow\":true}}" : ",\"follow\":false}}");
	r = connection_send(hrfs);
	if (r < 0)
		return r;
	r = connection_wait_for(hrfs, "hello", &json);
	if (r < 0)
		return r;
	r = read_hello(hrfs, &json, &hello);
	if (r < 0)
		return r;

	hrfs->is_subscribed = true;
	hrfs->position = since;
	if (since == HRFS_SINCE_NOW)
		hrfs->position = hello.next - 1;
	if (since == HRFS_SINCE_OLDEST)
		hrfs->position = hello.oldest - 1;
	return 0;
}

/* ---- Receiving ---- */

/*
 * json.h ends every string that it reads with a NUL, which is what native_parse_event() hands on.
 */
static void fill_event(struct hrfs *hrfs, const struct event *event, struct hrfs_event *out)
{
	out->seq = event->seq;
	out->time_ns = event->time_ns;
	out->op = event_op_name(event->op);
	out->origin = event_origin_name(event->origin);
	out->path = event->path;
	out->path_length = event->path_length;
	out->to = event->to;
	out->to_length = event->to_length;
	out->name = event->name;
	out->comm = event->has & EVENT_HAS_WHO ? event->comm : NULL;
	out->pid = event->pid;
	out->uid = event->uid;
	out->gid = event->gid;
	out->has = event->has;
	out->offset = event->offset;
	out->length = event->length;
	out->size = event->size;
	out->ino = event->ino;
	out->mode = event->mode;
	out->flags = event->flags;
	out->owner_uid = event->owner_uid;
	out->owner_gid = event->owner_gid;
}

static int take_event(struct hrfs *hrfs, struct hrfs_event *out)
{
	struct event event;
	int r;

	native_storage_free(hrfs->storage);
	hrfs->storage = NULL;
	r = native_parse_event(hrfs->line, hrfs->line_length, &event, &hrfs->storage);
	if (r < 0)
		return r;
	fill_event(hrfs, &event, out);
	hrfs->position = event.seq;
	return HRFS_EVENT;
}

/* {"gap":{"first":F,"last":L}}: the stream goes on after the last event that was lost. */
static int take_gap(struct hrfs *hrfs, struct json *json)
{
	struct json_string key;
	uint64_t last = 0;
	int r;

	if (json_begin_object(json) < 0)
		return -EBADMSG;
	while ((r = json_next_member(json, &key)) == 1) {
		bool is_last = strcmp(key.data, "last") == 0;

		r = is_last ? json_read_u64(json, &last) : json_skip(json, NATIVE_DEPTH_MAX);
		if (r < 0)
			return -EBADMSG;
	}
	if (r < 0 || last == 0)
		return -EBADMSG;
	hrfs->position = last;
	return HRFS_GAP;
}

static int take_caught_up(struct hrfs *hrfs, struct json *json)
{
	uint64_t position;

	if (json_read_u64(json, &position) < 0)
		return -EBADMSG;
	hrfs->position = position;
	return HRFS_CAUGHT_UP;
}

/* Returns 0 for a message of a kind that a later server may know. */
static int take_message(struct hrfs *hrfs)
{
	const char *kind;
	struct json json;
	int r;

	r = connection_open_message(hrfs, &json, &kind);
	if (r < 0)
		return r;
	if (strcmp(kind, "caught_up") == 0)
		return take_caught_up(hrfs, &json);
	if (strcmp(kind, "gap") == 0)
		return take_gap(hrfs, &json);
	if (strcmp(kind, "error") == 0)
		return connection_take_error(hrfs, &json);
	if (strcmp(kind, "bye") != 0)
		return 0;
	r = connection_take_bye(hrfs, &json);
	return r < 0 ? r : HRFS_BYE;
}

/* Events begin with their number, whatever else a later server puts into them. */
static bool is_event(const struct hrfs *hrfs)
{
	static const char start[] = "{\"seq\":";

	return hrfs->line_length >= sizeof(start) - 1 &&
	       memcmp(hrfs->line, start, sizeof(start) - 1) == 0;
}

int hrfs_next(struct hrfs *hrfs, struct hrfs_event *out, int timeout_ms)
{
	connection_deadline deadline = connection_deadline_in(timeout_ms);
	int r;

	*out = (struct hrfs_event){ 0 };
	hrfs->error[0] = '\0';
	do {
		r = connection_next_line(hrfs, deadline);
		if (r <= 0)
			return r < 0 ? r : HRFS_NOTHING;
		r = is_event(hrfs) ? take_event(hrfs, out) : take_message(hrfs);
	} while (r == 0);

	out->json = hrfs->line;
	out->json_length = hrfs->line_length;
	return r;
}
