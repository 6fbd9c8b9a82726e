/* Request: questions with one answer, on a connection without subscription. */
#include "client/connection.h"
#include "client/hrfs.h"
#include "proto/json.h"
#include "proto/native.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

/* Send {"@kind":@value} and wait until @json is at the value of the answer. */
static int ask(struct hrfs *hrfs, const char *kind, struct json *json)
{
	int r;

	if (hrfs->is_subscribed)
		return -EBUSY;
	r = connection_send(hrfs);
	return r < 0 ? r : connection_wait_for(hrfs, kind, json);
}

int hrfs_sync(struct hrfs *hrfs, uint64_t *out_seq)
{
	struct json_string key;
	struct json json;
	int r;

	bytes_append_string(&hrfs->output, "{\"sync\":{}}");
	r = ask(hrfs, "sync", &json);
	if (r < 0)
		return r;
	if (json_begin_object(&json) < 0)
		return -EBADMSG;
	while ((r = json_next_member(&json, &key)) == 1) {
		if (strcmp(key.data, "seq") == 0)
			return json_read_u64(&json, out_seq) < 0 ? -EBADMSG : 0;
		if (json_skip(&json, NATIVE_DEPTH_MAX) < 0)
			return -EBADMSG;
	}
	return -EBADMSG;
}

/* A status tells the log's identity, as hello does. */
static int take_log_id(struct hrfs *hrfs, struct json *json)
{
	struct json_string key, value;
	int r;

	if (json_begin_object(json) < 0)
		return -EBADMSG;
	while ((r = json_next_member(json, &key)) == 1) {
		bool is_log_id = strcmp(key.data, "log_id") == 0;

		r = is_log_id ? json_read_string(json, &value) : json_skip(json, NATIVE_DEPTH_MAX);
		if (r < 0)
			return -EBADMSG;
		if (is_log_id)
			connection_copy(hrfs->log_id, sizeof(hrfs->log_id), value.data);
	}
	return r < 0 ? -EBADMSG : 0;
}

int hrfs_status(struct hrfs *hrfs, const char **out_json)
{
	struct json json;
	const char *start;
	int r;

	bytes_append_string(&hrfs->output, "{\"status\":{}}");
	r = ask(hrfs, "status", &json);
	if (r < 0)
		return r;

	/*
	 * The value stands as it came between the colon and the brace that closes the message,
	 * where it gets its NUL.
	 */
	if (json_peek(&json) != '{')
		return -EBADMSG;
	start = json.at;
	if (take_log_id(hrfs, &json) < 0)
		return -EBADMSG;
	hrfs->input.data[json.at - hrfs->input.data] = '\0';
	hrfs->line = NULL;
	*out_json = start;
	return 0;
}

int hrfs_manual(struct hrfs *hrfs, const char *path, const char *note)
{
	struct json json;

	bytes_append_string(&hrfs->output, "{\"manual\":{\"path\":");
	native_write_string(&hrfs->output, path, strlen(path));
	if (note) {
		bytes_append_string(&hrfs->output, ",\"note\":");
		native_write_string(&hrfs->output, note, strlen(note));
	}
	bytes_append_string(&hrfs->output, "}}");
	return ask(hrfs, "manual", &json);
}

int hrfs_restart(struct hrfs *hrfs)
{
	struct json json;
	int r;

	bytes_append_string(&hrfs->output, "{\"restart\":{}}");
	r = ask(hrfs, "restart", &json);

	/*
	 * The new daemon may be quicker than the old one's answer: a good-bye for that reason is
	 * one, too.
	 */
	return r == -EPIPE && strcmp(hrfs->reason, "restart") == 0 ? 0 : r;
}
