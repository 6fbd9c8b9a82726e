/*
 * Native request: what a client asks for, one JSON object a line with one member.
 *
 *     {"subscribe":{"since":12,"follow":true}}
 *
 * The line is first checked as a whole, so that what is not JSON, or nests too deep, is told
 * apart from a request that is only wrong. Then a table gives each request the members that it
 * may have.
 */
#include "proto/native.h"

#include "base/scope.h"
#include "proto/event.h"
#include "proto/json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { REQUEST_MEMBERS_MAX = 2 };

/* A member of a request, and what reads its value. */
struct request_member {
	const char *name;
	int (*read)(struct json *json, struct native_request *request, const char **out_message);
};

/* A request: the members that it may have, and what is said about others. */
struct request_form {
	const char *name;
	enum native_request_kind kind;
	struct request_member members[REQUEST_MEMBERS_MAX];
	const char *unknown_member;
};

static int refuse(int error, const char *message, const char **out_message)
{
	*out_message = message;
	return error;
}

static bool is_named(const struct json_string *string, const char *name)
{
	return name && string->length == strlen(name) &&
	       memcmp(string->data, name, string->length) == 0;
}

/* ---- Values ---- */

static int read_since(struct json *json, struct native_request *request, const char **out_message)
{
	static const char wrong[] = "\"since\" is a sequence number, \"now\" or \"oldest\".";
	struct json_string word;

	if (json_peek(json) != '"') {
		request->since = NATIVE_SINCE_SEQ;
		return json_read_u64(json, &request->seq) < 0 ? refuse(-EINVAL, wrong, out_message)
							      : 0;
	}

	if (json_read_string(json, &word) < 0)
		return refuse(-EINVAL, wrong, out_message);
	if (is_named(&word, "now"))
		request->since = NATIVE_SINCE_NOW;
	else if (is_named(&word, "oldest"))
		request->since = NATIVE_SINCE_OLDEST;
	else
		return refuse(-EINVAL, wrong, out_message);
	return 0;
}

static int read_follow(struct json *json, struct native_request *request, const char **out_message)
{
	if (json_read_bool(json, &request->follow) < 0)
		return refuse(-EINVAL, "\"follow\" is true or false.", out_message);
	return 0;
}

/* A string that an event can carry. */
static int read_bytes(struct json *json, struct json_string *out, const char *no_string,
		      const char **out_message)
{
	int r = json_read_string(json, out);

	if (r == -EINVAL)
		return refuse(-EINVAL, "A string has U+0000 or half a surrogate pair in it.",
			      out_message);
	return r < 0 ? refuse(-EINVAL, no_string, out_message) : 0;
}

static int copy_bytes(const struct json_string *string, char **out, const char **out_message)
{
	char *copy = strdup(string->data);

	if (!copy)
		return refuse(-ENOMEM, "Out of memory.", out_message);
	*out = copy;
	return 0;
}

/* Whether @path has the form that paths have in events; "" is the root. */
static bool is_event_path(const char *path)
{
	if (!path[0])
		return true;

	for (;;) {
		size_t part = strcspn(path, "/");

		if (part == 0 || (part == 1 && path[0] == '.') ||
		    (part == 2 && path[0] == '.' && path[1] == '.'))
			return false;
		if (!path[part])
			return true;
		path += part + 1;
	}
}

static int read_path(struct json *json, struct native_request *request, const char **out_message)
{
	struct json_string path;
	int r = read_bytes(json, &path, "\"path\" is a string.", out_message);

	if (r < 0)
		return r;
	if (path.length > EVENT_PATH_MAX)
		return refuse(-EINVAL, "The path is longer than 65535 bytes.", out_message);
	if (!is_event_path(path.data))
		return refuse(
			-EINVAL,
			"The path is relative to the root, without empty parts, \".\" and \"..\".",
			out_message);
	return copy_bytes(&path, &request->path, out_message);
}

static int read_note(struct json *json, struct native_request *request, const char **out_message)
{
	struct json_string note;
	int r = read_bytes(json, &note, "\"note\" is a string.", out_message);

	if (r < 0)
		return r;
	if (note.length > EVENT_NAME_MAX)
		return refuse(-EINVAL, "The note is longer than 255 bytes.", out_message);
	return copy_bytes(&note, &request->note, out_message);
}

/* ---- Requests ---- */

static const struct request_form forms[] = {
	{ "subscribe",
	  NATIVE_SUBSCRIBE,
	  { { "since", read_since }, { "follow", read_follow } },
	  "A subscribe request has the members \"since\" and \"follow\" only." },
	{ "sync", NATIVE_SYNC, { { NULL } }, "A sync request has no members." },
	{ "status", NATIVE_STATUS, { { NULL } }, "A status request has no members." },
	{ "manual",
	  NATIVE_MANUAL,
	  { { "path", read_path }, { "note", read_note } },
	  "A manual request has the members \"path\" and \"note\" only." },
	{ "restart", NATIVE_RESTART, { { NULL } }, "A restart request has no members." },
};

static const struct request_form *find_form(const struct json_string *name)
{
	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++)
		if (is_named(name, forms[i].name))
			return &forms[i];
	return NULL;
}

static int find_member(const struct request_form *form, const struct json_string *name)
{
	for (int i = 0; i < REQUEST_MEMBERS_MAX; i++)
		if (is_named(name, form->members[i].name))
			return i;
	return -1;
}

/* What is inside a request of the form @form. */
static int read_members(struct json *json, const struct request_form *form,
			struct native_request *request, const char **out_message)
{
	struct json_string name;
	unsigned seen = 0;
	int r;

	if (json_begin_object(json) < 0)
		return refuse(-EINVAL, "The value of a request is an object.", out_message);

	while ((r = json_next_member(json, &name)) == 1) {
		int index = find_member(form, &name);

		if (index < 0)
			return refuse(-EINVAL, form->unknown_member, out_message);
		if (seen & 1u << index)
			return refuse(-EINVAL, "A member stands twice in the request.",
				      out_message);
		seen |= 1u << index;

		r = form->members[index].read(json, request, out_message);
		if (r < 0)
			return r;
	}
	/* A name that no byte string can hold. */
	if (r < 0)
		return refuse(-EINVAL, form->unknown_member, out_message);
	return 0;
}

/* Whether the line is one JSON value. */
static int check_line(const char *line, size_t length, const char **out_message)
{
	struct json json;
	int r;

	json_init(&json, line, length, NULL);
	r = json_skip(&json, NATIVE_DEPTH_MAX);
	if (r == -E2BIG)
		return refuse(-EBADMSG, "The line nests deeper than 16 levels.", out_message);
	if (r < 0 || json_finish(&json) < 0)
		return refuse(-EBADMSG, "The line is not JSON.", out_message);
	return 0;
}

/* Step up to the value of the only member, and find out what it asks for. */
static int find_request(struct json *json, const struct request_form **out,
			const char **out_message)
{
	static const char wrong[] = "A request is an object with exactly one member.";
	struct json_string name, other;
	struct json ahead;

	if (json_begin_object(json) < 0 || json_next_member(json, &name) != 1)
		return refuse(-EINVAL, wrong, out_message);

	ahead = *json;
	if (json_skip(&ahead, NATIVE_DEPTH_MAX) < 0 || json_next_member(&ahead, &other) != 0)
		return refuse(-EINVAL, wrong, out_message);

	*out = find_form(&name);
	if (!*out)
		return refuse(-ENOSYS,
			      "The request is none of subscribe, sync, status, manual and restart.",
			      out_message);
	return 0;
}

int native_parse_request(const char *line, size_t length, struct native_request *out,
			 const char **out_message)
{
	scoped(native_request_finish) struct native_request request = { .since = NATIVE_SINCE_NOW,
									.follow = true };
	scoped(freep) char *storage = malloc(length + 1);
	const struct request_form *form;
	struct json json;
	int r;

	if (!storage)
		return refuse(-ENOMEM, "Out of memory.", out_message);

	r = check_line(line, length, out_message);
	if (r < 0)
		return r;

	json_init(&json, line, length, storage);
	r = find_request(&json, &form, out_message);
	if (r < 0)
		return r;
	r = read_members(&json, form, &request, out_message);
	if (r < 0)
		return r;
	if (form->kind == NATIVE_MANUAL && !request.path)
		return refuse(-EINVAL, "A manual request needs a \"path\".", out_message);

	request.kind = form->kind;
	*out = request;
	request = (struct native_request){ 0 };
	return 0;
}

void native_request_finish(struct native_request *request)
{
	free(request->path);
	free(request->note);
	*request = (struct native_request){ 0 };
}
