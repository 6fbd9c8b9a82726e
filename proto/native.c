/*
 * Native: events as JSON, written and read. Requests are in native_request.c.
 *
 * Writing an event reserves room for the longest form that it can have, and then only moves a
 * pointer: no call can fail in between and nothing is checked twice. Members stand in a fixed
 * order.
 *
 * Reading goes through a table with a row a member. What native_write_event() writes is read
 * back as the same event; beyond that, members that are not known are passed over, so that a
 * later server may send more.
 */
#include "proto/native.h"

#include "base/bytes.h"
#include "base/scope.h"
#include "proto/event.h"
#include "proto/json.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	TIME_LENGTH = sizeof("2026-11-22T19:40:01.123456789Z") - 1,

	/* Everything in an event but its strings: names of members, numbers at their longest. */
	EVENT_FIXED_MAX = 512,

	SECONDS_A_DAY = 86400,
	NS_A_SECOND = 1000000000,
};

static inline char *put(char *to, const char *text, size_t length)
{
	memcpy(to, text, length);
	return to + length;
}

#define PUT(to, literal) put(to, literal, sizeof(literal) - 1)

/* ---- Numbers ---- */

static const char digit_pairs[] = "00010203040506070809"
				  "10111213141516171819"
				  "20212223242526272829"
				  "30313233343536373839"
				  "40414243444546474849"
				  "50515253545556575859"
				  "60616263646566676869"
				  "70717273747576777879"
				  "80818283848586878889"
				  "90919293949596979899";

/* Two digits of a number below 100. */
static inline char *put_pair(char *to, unsigned number)
{
	return put(to, digit_pairs + 2 * number, 2);
}

static inline unsigned count_digits(uint64_t number)
{
	unsigned digits = 1;

	for (; number >= 10000; number /= 10000)
		digits += 4;
	return digits + (number >= 10) + (number >= 100) + (number >= 1000);
}

static inline char *put_u64(char *to, uint64_t number)
{
	char *end = to + count_digits(number);
	char *at = end;

	for (; number >= 100; number /= 100) {
		at -= 2;
		put_pair(at, number % 100);
	}
	if (number >= 10)
		put_pair(at - 2, number);
	else
		at[-1] = '0' + number;
	return end;
}

/* ---- Time ---- */

/*
 * Days are counted from 1600-03-01: a leap day is then the last day of its year, of its four
 * years and of its four centuries, and everything that 64 bits of nanoseconds reach (1677 to
 * 2262) lies after it.
 */
enum { EPOCH_DAY = 135080, DAYS_4_CENTURIES = 146097, DAYS_4_YEARS = 1461 };

/* Days before the month that is @month months after March: 31 30 31 30 31, again and again. */
static inline unsigned days_before_month(unsigned month)
{
	return (153 * month + 2) / 5;
}

static inline char *put_date(char *to, unsigned day)
{
	unsigned century = (4 * day + 3) / DAYS_4_CENTURIES;
	unsigned day_of_century = day - century * DAYS_4_CENTURIES / 4;
	unsigned year = (4 * day_of_century + 3) / DAYS_4_YEARS;
	unsigned day_of_year = day_of_century - year * DAYS_4_YEARS / 4;
	unsigned month = (5 * day_of_year + 2) / 153;
	bool is_next_year = month >= 10;

	year += 1600 + 100 * century + is_next_year;
	to = put_pair(to, year / 100);
	to = put_pair(to, year % 100);
	*to++ = '-';
	to = put_pair(to, is_next_year ? month - 9 : month + 3);
	*to++ = '-';
	return put_pair(to, day_of_year - days_before_month(month) + 1);
}

static inline char *put_clock(char *to, unsigned second, unsigned ns)
{
	to = put_pair(to, second / 3600);
	*to++ = ':';
	to = put_pair(to, second / 60 % 60);
	*to++ = ':';
	to = put_pair(to, second % 60);
	*to++ = '.';
	*to++ = '0' + ns / 100000000;
	to = put_pair(to, ns / 1000000 % 100);
	to = put_pair(to, ns / 10000 % 100);
	to = put_pair(to, ns / 100 % 100);
	return put_pair(to, ns % 100);
}

static inline char *put_time(char *to, int64_t time_ns)
{
	int64_t second = time_ns / NS_A_SECOND;
	int64_t ns = time_ns % NS_A_SECOND;
	uint64_t since_1600;

	if (ns < 0) {
		ns += NS_A_SECOND;
		second--;
	}
	since_1600 = second + (int64_t)EPOCH_DAY * SECONDS_A_DAY;

	to = put_date(to, since_1600 / SECONDS_A_DAY);
	*to++ = 'T';
	to = put_clock(to, since_1600 % SECONDS_A_DAY, ns);
	*to++ = 'Z';
	return to;
}

/* ---- Writing events ---- */

/* The strings but for the path: what they mean, and are called, depends on the op. */
static inline char *put_strings(char *to, const struct event *event)
{
	if (event->to_length > 0) {
		to = event->op == EVENT_SYMLINK ? PUT(to, ",\"target\":") : PUT(to, ",\"to\":");
		to = json_put_string(to, event->to, event->to_length);
	}
	if (event->has & EVENT_HAS_FLAGS)
		to = put_u64(PUT(to, ",\"flags\":"), event->flags);
	if (event->name_length > 0) {
		to = event->op == EVENT_MANUAL ? PUT(to, ",\"note\":") : PUT(to, ",\"name\":");
		to = json_put_string(to, event->name, event->name_length);
	}
	return to;
}

static inline char *put_offset_and_length(char *to, const struct event *event)
{
	bool is_gap = event->op == EVENT_GAP;

	if (event->has & EVENT_HAS_OFFSET) {
		to = is_gap ? PUT(to, ",\"first\":") : PUT(to, ",\"offset\":");
		to = put_u64(to, event->offset);
	}
	if (event->has & EVENT_HAS_LENGTH) {
		to = is_gap ? PUT(to, ",\"count\":") : PUT(to, ",\"length\":");
		to = put_u64(to, event->length);
	}
	return to;
}

/* As chown(1) takes it: what is left out stays as it was. */
static inline char *put_owner(char *to, const struct event *event)
{
	to = PUT(to, ",\"owner\":\"");
	if (event->owner_uid != UINT32_MAX)
		to = put_u64(to, event->owner_uid);
	*to++ = ':';
	if (event->owner_gid != UINT32_MAX)
		to = put_u64(to, event->owner_gid);
	*to++ = '"';
	return to;
}

static inline char *put_attributes(char *to, const struct event *event)
{
	if (event->has & EVENT_HAS_SIZE)
		to = put_u64(PUT(to, ",\"size\":"), event->size);
	if (event->has & EVENT_HAS_INO)
		to = put_u64(PUT(to, ",\"ino\":"), event->ino);
	if (event->has & EVENT_HAS_MODE)
		to = put_u64(PUT(to, ",\"mode\":"), event->mode);
	if (event->has & EVENT_HAS_OWNER)
		to = put_owner(to, event);
	return to;
}

static inline char *put_who(char *to, const struct event *event)
{
	if (!(event->has & EVENT_HAS_WHO))
		return to;
	to = put_u64(PUT(to, ",\"pid\":"), event->pid);
	to = json_put_string(PUT(to, ",\"comm\":"), event->comm, event->comm_length);
	to = put_u64(PUT(to, ",\"uid\":"), event->uid);
	return put_u64(PUT(to, ",\"gid\":"), event->gid);
}

static inline char *put_event(char *to, const struct event *event)
{
	to = put_u64(PUT(to, "{\"seq\":"), event->seq);
	to = put_time(PUT(to, ",\"time\":\""), event->time_ns);
	to = stpcpy(PUT(to, "\",\"op\":\""), event_op_name(event->op));
	to = json_put_string(PUT(to, "\",\"path\":"), event->path, event->path_length);
	to = put_strings(to, event);
	to = put_offset_and_length(to, event);
	to = put_attributes(to, event);
	to = put_who(to, event);
	to = stpcpy(PUT(to, ",\"origin\":\""), event_origin_name(event->origin));
	*to++ = '"';
	if (event->has & EVENT_UNCERTAIN)
		to = PUT(to, ",\"uncertain\":true");
	*to++ = '}';
	return to;
}

void native_write_event(struct bytes *out, const struct event *event)
{
	size_t most = EVENT_FIXED_MAX + JSON_STRING_MAX(event->path_length) +
		      JSON_STRING_MAX(event->to_length) + JSON_STRING_MAX(event->name_length) +
		      JSON_STRING_MAX(event->comm_length);

	assert(event_op_name(event->op) && event_origin_name(event->origin));

	if (bytes_reserve(out, most) == 0)
		out->size = put_event(out->data + out->size, event) - out->data;
}

void native_write_string(struct bytes *out, const char *string, size_t length)
{
	if (bytes_reserve(out, JSON_STRING_MAX(length)) == 0)
		out->size = json_put_string(out->data + out->size, string, length) - out->data;
}

void native_write_time(struct bytes *out, int64_t time_ns)
{
	char text[TIME_LENGTH + 2];

	text[0] = '"';
	put_time(text + 1, time_ns)[0] = '"';
	bytes_append(out, text, sizeof(text));
}

/* ---- Reading events ---- */

/* How the value of a member is written. */
enum form {
	FORM_U64,
	FORM_U32,
	FORM_STRING,
	FORM_TIME,
	FORM_OP,
	FORM_ORIGIN,
	FORM_OWNER,
	FORM_TRUE
};

/* A member of an event: where its value goes, and the bit of `has` that it stands for. */
struct member {
	const char *key;
	size_t key_length;
	enum form form;
	uint16_t has;
	size_t value;      /* offset in struct event */
	size_t length;     /* of a string: offset of its length in struct event */
	size_t length_max; /* of a string: bytes */
};

#define MEMBER(key, form, field, has)                                                              \
	{                                                                                          \
		key, sizeof(key) - 1, form, has, offsetof(struct event, field), 0, 0               \
	}
#define STRING(key, field, has, max)                                                               \
	{                                                                                          \
		key, sizeof(key) - 1, FORM_STRING, has, offsetof(struct event, field),             \
			offsetof(struct event, field##_length), max                                \
	}

/*
 * First those that every event has; all others in the order in which they are written, see
 * find_member().
 */
static const struct member members[] = {
	MEMBER("seq", FORM_U64, seq, 0),
	MEMBER("time", FORM_TIME, time_ns, 0),
	MEMBER("op", FORM_OP, op, 0),
	MEMBER("origin", FORM_ORIGIN, origin, 0),
	STRING("path", path, 0, EVENT_PATH_MAX),
	STRING("to", to, 0, EVENT_PATH_MAX),
	STRING("target", to, 0, EVENT_PATH_MAX),
	MEMBER("flags", FORM_U32, flags, EVENT_HAS_FLAGS),
	STRING("name", name, 0, EVENT_NAME_MAX),
	STRING("note", name, 0, EVENT_NAME_MAX),
	MEMBER("offset", FORM_U64, offset, EVENT_HAS_OFFSET),
	MEMBER("first", FORM_U64, offset, EVENT_HAS_OFFSET),
	MEMBER("length", FORM_U64, length, EVENT_HAS_LENGTH),
	MEMBER("count", FORM_U64, length, EVENT_HAS_LENGTH),
	MEMBER("size", FORM_U64, size, EVENT_HAS_SIZE),
	MEMBER("ino", FORM_U64, ino, EVENT_HAS_INO),
	MEMBER("mode", FORM_U32, mode, EVENT_HAS_MODE),
	MEMBER("owner", FORM_OWNER, owner_uid, EVENT_HAS_OWNER),
	MEMBER("pid", FORM_U32, pid, EVENT_HAS_WHO),
	STRING("comm", comm, EVENT_HAS_WHO, EVENT_COMM_MAX),
	MEMBER("uid", FORM_U32, uid, EVENT_HAS_WHO),
	MEMBER("gid", FORM_U32, gid, EVENT_HAS_WHO),
	MEMBER("uncertain", FORM_TRUE, has, EVENT_UNCERTAIN),
};

enum {
	MEMBER_COUNT = sizeof(members) / sizeof(members[0]),
	MEMBERS_REQUIRED = (1 << 5) - 1, /* seq, time, op, origin, path */
};

static_assert(MEMBER_COUNT <= 31, "a bit for each member fits an int");

struct native_storage {
	char strings[0]; /* as many bytes as the line */
};

/*
 * The member called @key, or -1. Looks first at those after @last, the one before it on the
 * line.
 */
static int find_member(const struct json_string *key, int last)
{
	for (int i = 1; i <= MEMBER_COUNT; i++) {
		int index = (last + i) % MEMBER_COUNT;
		const struct member *member = &members[index];

		if (member->key_length == key->length &&
		    memcmp(member->key, key->data, key->length) == 0)
			return index;
	}
	return -1;
}

/* The number that fills @digits at @text; -1 when there is something else. */
static int parse_digits(const char *text, unsigned digits)
{
	int number = 0;

	for (unsigned i = 0; i < digits; i++) {
		if (text[i] < '0' || text[i] > '9')
			return -1;
		number = 10 * number + (text[i] - '0');
	}
	return number;
}

/*
 * Seconds since 1970 of a date and a clock, every part of it a number but perhaps out of its
 * range.
 */
static int64_t seconds_from_parts(int year, int month, int day, int hour, int minute, int second)
{
	bool is_before_march = month < 3;
	int64_t years = year - is_before_march - 1600;
	int64_t days = 365 * years + years / 4 - years / 100 + years / 400 +
		       days_before_month(is_before_march ? month + 9 : month - 3) + day - 1 -
		       EPOCH_DAY;

	return days * SECONDS_A_DAY + hour * 3600 + minute * 60 + second;
}

/* Whether second * NS_A_SECOND + ns fits, which it may although the product alone does not. */
static bool join_time(int64_t second, int64_t ns, int64_t *out)
{
	if (second < 0) {
		second++;
		ns -= NS_A_SECOND;
	}
	return !__builtin_mul_overflow(second, (int64_t)NS_A_SECOND, &second) &&
	       !__builtin_add_overflow(second, ns, out);
}

/*
 * Writing the result again must give the same text: this is what finds the 31st of June and a
 * wrong separator.
 */
static int parse_time(const struct json_string *text, int64_t *out)
{
	static const struct {
		unsigned at, digits;
	} parts[] = { { 0, 4 }, { 5, 2 }, { 8, 2 }, { 11, 2 }, { 14, 2 }, { 17, 2 }, { 20, 9 } };
	int values[sizeof(parts) / sizeof(parts[0])];
	char again[TIME_LENGTH];
	int64_t time_ns;

	if (text->length != TIME_LENGTH)
		return -EBADMSG;
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		values[i] = parse_digits(text->data + parts[i].at, parts[i].digits);
		if (values[i] < 0)
			return -EBADMSG;
	}
	if (values[1] < 1 || values[1] > 12)
		return -EBADMSG;
	if (!join_time(seconds_from_parts(values[0], values[1], values[2], values[3], values[4],
					  values[5]),
		       values[6], &time_ns))
		return -EBADMSG;

	put_time(again, time_ns);
	if (memcmp(again, text->data, TIME_LENGTH) != 0)
		return -EBADMSG;
	*out = time_ns;
	return 0;
}

/* Half of an owner, from *@text up to @end; nothing there means unchanged. */
static int parse_id(const char **text, const char *end, uint32_t *out)
{
	uint64_t id = 0;
	const char *at = *text;

	for (; at < end && *at >= '0' && *at <= '9'; at++) {
		id = 10 * id + (*at - '0');
		if (id >= UINT32_MAX)
			return -EBADMSG;
	}
	*out = at == *text ? UINT32_MAX : id;
	*text = at;
	return 0;
}

static int parse_owner(const struct json_string *text, struct event *event)
{
	const char *at = text->data;
	const char *end = text->data + text->length;

	if (parse_id(&at, end, &event->owner_uid) < 0)
		return -EBADMSG;
	if (at == end || *at++ != ':')
		return -EBADMSG;
	if (parse_id(&at, end, &event->owner_gid) < 0)
		return -EBADMSG;
	return at == end ? 0 : -EBADMSG;
}

static int read_number(struct json *json, const struct member *member, struct event *event)
{
	char *value = (char *)event + member->value;
	uint64_t number;

	if (json_read_u64(json, &number) < 0)
		return -EBADMSG;
	if (member->form == FORM_U64) {
		*(uint64_t *)value = number;
		return 0;
	}
	if (number > UINT32_MAX)
		return -EBADMSG;
	*(uint32_t *)value = number;
	return 0;
}

static int store_string(const struct json_string *text, const struct member *member,
			struct event *event)
{
	if (text->length > member->length_max)
		return -EBADMSG;
	*(const char **)((char *)event + member->value) = text->data;
	*(uint16_t *)((char *)event + member->length) = text->length;
	return 0;
}

static int store_op(const struct json_string *text, struct event *event)
{
	event->op = event_op_from_name(text->data, text->length);
	return event->op ? 0 : -EBADMSG;
}

static int store_origin(const struct json_string *text, struct event *event)
{
	int origin = event_origin_from_name(text->data, text->length);

	if (origin < 0)
		return -EBADMSG;
	event->origin = origin;
	return 0;
}

/* A value that is written as a string, whatever it is. */
static int read_text(struct json *json, const struct member *member, struct event *event)
{
	struct json_string text;

	if (json_read_string(json, &text) < 0)
		return -EBADMSG;

	switch (member->form) {
	case FORM_TIME:
		return parse_time(&text, &event->time_ns);
	case FORM_OP:
		return store_op(&text, event);
	case FORM_ORIGIN:
		return store_origin(&text, event);
	case FORM_OWNER:
		return parse_owner(&text, event);
	default:
		return store_string(&text, member, event);
	}
}

static int read_true(struct json *json)
{
	bool is_true;

	return json_read_bool(json, &is_true) == 0 && is_true ? 0 : -EBADMSG;
}

static int read_member(struct json *json, const struct member *member, struct event *event)
{
	event->has |= member->has;

	switch (member->form) {
	case FORM_U64:
	case FORM_U32:
		return read_number(json, member, event);
	case FORM_TRUE:
		return read_true(json);
	default:
		return read_text(json, member, event);
	}
}

/* Each member once; "to" and "target" are two, of which an event has one. */
static int read_members(struct json *json, struct event *event)
{
	struct json_string key;
	unsigned seen = 0;
	int last = -1;
	int r;

	while ((r = json_next_member(json, &key)) == 1) {
		int index = find_member(&key, last);

		if (index < 0) {
			if (json_skip(json, NATIVE_DEPTH_MAX) < 0)
				return -EBADMSG;
			continue;
		}
		if (seen & 1u << index || read_member(json, &members[index], event) < 0)
			return -EBADMSG;
		seen |= 1u << index;
		last = index;
	}
	if (r < 0)
		return -EBADMSG;
	return (seen & MEMBERS_REQUIRED) == MEMBERS_REQUIRED ? 0 : -EBADMSG;
}

int native_parse_event(const char *line, size_t length, struct event *out,
		       struct native_storage **out_storage)
{
	scoped(freep) struct native_storage *storage = malloc(length + 1);
	struct event event = { .comm = "" };
	struct json json;

	if (!storage)
		return -ENOMEM;

	json_init(&json, line, length, storage->strings);
	if (json_begin_object(&json) < 0 || read_members(&json, &event) < 0 ||
	    json_finish(&json) < 0)
		return -EBADMSG;

	*out = event;
	*out_storage = take(storage);
	return 0;
}

void native_storage_free(struct native_storage *storage)
{
	free(storage);
}
