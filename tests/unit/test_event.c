#include "proto/event.h"

#include "base/scope.h"
#include "check.h"
#include "event_sample.h"

#include <errno.h>
#include <string.h>
#include <xxhash.h>

enum { HEADER_SIZE = 96, GUARD = 16, OP_AT = 86, ORIGIN_AT = 87, HAS_AT = 84 };

/* Nothing in it is zero, equal to another, or the same in all its bytes. */
static const struct event full_event = {
	.seq = 0x0102030405060708,
	.time_ns = 0x1112131415161718,
	.op = EVENT_RENAME,
	.origin = EVENT_RECOVERED,
	.has = EVENT_HAS_OFFSET | EVENT_HAS_FLAGS | EVENT_UNCERTAIN,
	.offset = 0x2122232425262728,
	.length = 0x3132333435363738,
	.size = 0x4142434445464748,
	.ino = 0x5152535455565758,
	.mode = 0x61626364,
	.flags = 0x65666768,
	.owner_uid = 0x71727374,
	.owner_gid = 0x75767778,
	.pid = 0x81828384,
	.uid = 0x85868788,
	.gid = 0x91929394,
	.path = "from/here",
	.to = "to/there/it/goes",
	.name = "user.name",
	.comm = "program",
	.path_length = 9,
	.to_length = 16,
	.name_length = 9,
	.comm_length = 7,
};

/* A record in memory of exactly its size, so that a sanitizer sees a byte too many. */
static char *encode(const struct event *event, size_t *out_size)
{
	char *record;

	*out_size = event_encoded_size(event);
	record = malloc(*out_size);
	check(record);
	event_encode(event, record);
	return record;
}

/* Make the checksum right, as an attacker would. */
static void sign(char *record, size_t size)
{
	uint32_t sum = htole32((uint32_t)XXH3_64bits(record + 8, size - 8));

	memcpy(record + 4, &sum, sizeof(sum));
}

/* Whatever is accepted is the one form of its event: writing it again gives the same bytes. */
static void check_refused_or_canonical(const char *record, size_t available)
{
	struct event event;
	ssize_t size = event_decode(record, available, &event);

	if (size < 0) {
		check(size == -EBADMSG);
		return;
	}
	check(size <= available);
	check(event_encoded_size(&event) == size);

	scoped(freep) char *again = malloc(size);

	event_encode(&event, again);
	check(memcmp(again, record, size) == 0);
}

static void every_field_comes_back(void)
{
	struct event event;
	size_t size;
	scoped(freep) char *record = encode(&full_event, &size);

	check(size == (HEADER_SIZE + 9 + 16 + 9 + 7 + 7) / 8 * 8);
	check(event_decode(record, size, &event) == size);
	check(is_same_event(&event, &full_event));
}

static void the_bytes_are_those_of_the_layout(void)
{
	static const unsigned char start[] = {
		0x08, 0x07, 0x06, 0x05, 0x04, 0x03, 0x02, 0x01, 0x18, 0x17, 0x16, 0x15, 0x14,
		0x13, 0x12, 0x11, 0x28, 0x27, 0x26, 0x25, 0x24, 0x23, 0x22, 0x21, 0x38, 0x37,
		0x36, 0x35, 0x34, 0x33, 0x32, 0x31, 0x48, 0x47, 0x46, 0x45, 0x44, 0x43, 0x42,
		0x41, 0x58, 0x57, 0x56, 0x55, 0x54, 0x53, 0x52, 0x51, 0x64, 0x63, 0x62, 0x61,
		0x68, 0x67, 0x66, 0x65, 0x74, 0x73, 0x72, 0x71, 0x78, 0x77, 0x76, 0x75, 0x84,
		0x83, 0x82, 0x81, 0x88, 0x87, 0x86, 0x85, 0x94, 0x93, 0x92, 0x91, 0x41, 0x01,
		10,   4,    9,    0,    16,   0,    9,    0,    7,    0,
	};
	size_t size;
	scoped(freep) char *record = encode(&full_event, &size);

	check((unsigned char)record[0] == size && !record[1] && !record[2] && !record[3]);
	check(memcmp(record + 8, start, sizeof(start)) == 0);
	check(memcmp(record + HEADER_SIZE,
		     "from/hereto/there/it/goesuser.nameprogram\0\0\0\0\0\0\0", 48) == 0);
}

static void absent_strings_come_back_absent(void)
{
	const struct event empty = { .op = EVENT_MOUNTED, .path = "", .comm = "" };
	struct event event;
	size_t size;
	scoped(freep) char *record = encode(&empty, &size);

	check(size == HEADER_SIZE);
	check(event_decode(record, size, &event) == size);
	check(is_same_event(&event, &empty));
	check(!event.to && !event.name && event.path && event.comm);
}

static void the_largest_event_fits(void)
{
	static char path[EVENT_PATH_MAX], name[EVENT_NAME_MAX], comm[EVENT_COMM_MAX];
	const struct event largest = {
		.op = EVENT_RENAME,
		.path = path,
		.to = path,
		.name = name,
		.comm = comm,
		.path_length = sizeof(path),
		.to_length = sizeof(path),
		.name_length = sizeof(name),
		.comm_length = sizeof(comm),
	};
	struct event event;
	size_t size;
	scoped(freep) char *record = encode(&largest, &size);

	check(size <= EVENT_RECORD_MAX && size % 8 == 0);
	check(event_decode(record, size, &event) == size);
	check(is_same_event(&event, &largest));
}

static void random_events_come_back_from_any_alignment(void)
{
	scoped(freep) struct event_sample *sample = malloc(sizeof(*sample));
	scoped(freep) char *buffer = malloc(EVENT_RECORD_MAX + 8 + GUARD);
	uint64_t state = 1;

	for (unsigned i = 0; i < 4000; i++) {
		char *record = buffer + i % 8;
		struct event event;
		size_t size;

		event_sample_fill(sample, &state);
		size = event_encoded_size(&sample->event);
		check(size % 8 == 0 && size <= EVENT_RECORD_MAX);
		memset(record, 0xaa, size + GUARD);
		event_encode(&sample->event, record);
		for (unsigned j = 0; j < GUARD; j++)
			check((unsigned char)record[size + j] == 0xaa);

		check(event_decode(record, size + GUARD, &event) == size);
		check(is_same_event(&event, &sample->event));
	}
}

static void every_changed_byte_is_refused(void)
{
	struct event event;
	size_t size;
	scoped(freep) char *record = encode(&full_event, &size);

	for (size_t i = 0; i < size; i++) {
		char right = record[i];

		for (unsigned change = 1; change < 256; change++) {
			record[i] = right ^ change;
			check(event_decode(record, size, &event) == -EBADMSG);
		}
		record[i] = right;
	}
	check(event_decode(record, size, &event) == size);
}

static void every_changed_byte_with_a_right_checksum_is_refused_or_canonical(void)
{
	size_t size;
	scoped(freep) char *record = encode(&full_event, &size);

	for (size_t i = 0; i < size; i++) {
		char right = record[i];

		for (unsigned change = 1; change < 256; change++) {
			record[i] = right ^ change;
			sign(record, size);
			check_refused_or_canonical(record, size);
		}
		record[i] = right;
	}
}

static void every_truncation_is_refused(void)
{
	size_t size;
	scoped(freep) char *record = encode(&full_event, &size);

	for (size_t i = 0; i < size; i++) {
		scoped(freep) char *part = malloc(i + !i);
		struct event event;

		memcpy(part, record, i);
		check(event_decode(part, i, &event) == -EBADMSG);
	}
}

static void a_failed_decode_leaves_the_result_alone(void)
{
	static const char zeros[256];
	struct event event = full_event;

	check(event_decode(zeros, sizeof(zeros), &event) == -EBADMSG);
	check(is_same_event(&event, &full_event));
}

static void numbers_out_of_range_are_refused_whatever_the_checksum(void)
{
	static const struct {
		size_t at;
		unsigned char value;
	} cases[] = {
		{ OP_AT, 0 },
		{ OP_AT, EVENT_OP_END },
		{ OP_AT, 255 },
		{ ORIGIN_AT, EVENT_ORIGIN_END },
		{ ORIGIN_AT, 255 },
		{ HAS_AT + 1, EVENT_UNCERTAIN >> 7 },
		{ HAS_AT + 1, 0x80 },
		{ 94, EVENT_COMM_MAX + 1 },
		{ 95, 1 },
		{ HEADER_SIZE + 41, 1 },
		{ HEADER_SIZE + 47, 1 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct event event;
		size_t size;
		scoped(freep) char *record = encode(&full_event, &size);

		record[cases[i].at] = cases[i].value;
		sign(record, size);
		check(event_decode(record, size, &event) == -EBADMSG);
	}
}

static void sizes_that_cannot_be_are_refused(void)
{
	static const uint32_t sizes[] = {
		0,
		8,
		88,
		95,
		97,
		137,
		136,
		152,
		EVENT_RECORD_MAX + 8,
		UINT32_MAX,
		UINT32_MAX - 7,
		0x80000000,
	};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		scoped(freep) char *record = calloc(1, EVENT_RECORD_MAX + 64);
		uint32_t size = htole32(sizes[i]);
		struct event event;

		event_encode(&full_event, record);
		memcpy(record, &size, sizeof(size));
		if (sizes[i] >= HEADER_SIZE && sizes[i] <= EVENT_RECORD_MAX)
			sign(record, sizes[i]);
		check(event_decode(record, EVENT_RECORD_MAX + 64, &event) == -EBADMSG);
	}
}

static void random_bytes_are_refused_or_canonical(void)
{
	uint64_t state = 42;

	for (unsigned i = 0; i < 200000; i++) {
		char record[HEADER_SIZE + 32];
		uint32_t size = htole32(HEADER_SIZE + sample_u64(&state) % 5 * 8);

		for (size_t j = 0; j < sizeof(record); j += 8) {
			uint64_t word = sample_u64(&state);

			memcpy(record + j, &word, sizeof(word));
		}
		/* Likely enough to be taken for a record to get past the first checks. */
		memcpy(record, &size, sizeof(size));
		record[OP_AT] = sample_u64(&state) % 30;
		record[ORIGIN_AT] = sample_u64(&state) % 8;
		record[HAS_AT + 1] = sample_u64(&state) % 3;
		memset(record + 88, 0, 8);
		record[88] = sample_u64(&state) % 32;
		record[94] = sample_u64(&state) % 20;
		if (i % 2)
			memset(record + HEADER_SIZE, 0, 32);
		sign(record, le32toh(size));
		check_refused_or_canonical(record, sizeof(record));
	}
}

static void names_lead_to_their_numbers_and_back(void)
{
	check(!event_op_name(0) && !event_op_name(EVENT_OP_END) && !event_op_name(UINT32_MAX));
	for (unsigned op = 1; op < EVENT_OP_END; op++)
		check(event_op_from_name(event_op_name(op), strlen(event_op_name(op))) == op);
	for (unsigned origin = 0; origin < EVENT_ORIGIN_END; origin++)
		check(event_origin_from_name(event_origin_name(origin),
					     strlen(event_origin_name(origin))) == origin);
	check(!event_origin_name(EVENT_ORIGIN_END));

	check(event_op_from_name("writes", 5) == EVENT_WRITE);
	check(event_op_from_name("writ", 4) == 0);
	check(event_op_from_name("", 0) == 0);
	check(event_origin_from_name("manual", 6) == EVENT_BY_HAND);
	check(event_origin_from_name("vf", 2) == -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		unit(every_field_comes_back),
		unit(the_bytes_are_those_of_the_layout),
		unit(absent_strings_come_back_absent),
		unit(the_largest_event_fits),
		unit(random_events_come_back_from_any_alignment),
		unit(every_changed_byte_is_refused),
		unit(every_changed_byte_with_a_right_checksum_is_refused_or_canonical),
		unit(every_truncation_is_refused),
		unit(a_failed_decode_leaves_the_result_alone),
		unit(numbers_out_of_range_are_refused_whatever_the_checksum),
		unit(sizes_that_cannot_be_are_refused),
		unit(random_bytes_are_refused_or_canonical),
		unit(names_lead_to_their_numbers_and_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
