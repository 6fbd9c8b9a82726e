/*
 * Event: one change of the tree, and its bytes in the journal.
 *
 * A record is a header of 96 bytes and four strings. All numbers are little-endian.
 *
 *     offset  size  field
 *          0     4  record_size   bytes of the whole record, a multiple of 8
 *          4     4  checksum      low 32 bits of XXH3_64bits over bytes 8 .. record_size - 1
 *          8     8  seq
 *         16     8  time_ns       signed
 *         24     8  offset
 *         32     8  length
 *         40     8  size
 *         48     8  ino
 *         56     4  mode
 *         60     4  flags
 *         64     4  owner_uid
 *         68     4  owner_gid
 *         72     4  pid
 *         76     4  uid
 *         80     4  gid
 *         84     2  has
 *         86     1  op
 *         87     1  origin
 *         88     2  path_length
 *         90     2  to_length
 *         92     2  name_length
 *         94     1  comm_length
 *         95     1  zero
 *         96        path, to, name, comm: back to back, without terminators
 *                   zeros up to a multiple of 8
 *
 * Every event has one form only: the four lengths give record_size, and what is unused is zero.
 * So a damaged record_size, which the checksum does not cover, contradicts the lengths, which
 * it does. A record of zeros, which is what an untouched part of a journal looks like, is not
 * valid.
 *
 * Fields that `has` does not name are stored all the same: a header of one shape is written
 * faster than a smaller one is chosen. Encoding is on the road of every change, twice: it makes
 * no call but memcpy and the hash, and has no loop.
 */
#include "proto/event.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <string.h>
#include <xxhash.h>

enum {
	AT_RECORD_SIZE = 0,
	AT_CHECKSUM = 4,
	AT_SEQ = 8,
	AT_TIME = 16,
	AT_OFFSET = 24,
	AT_LENGTH = 32,
	AT_SIZE = 40,
	AT_INO = 48,
	AT_MODE = 56,
	AT_FLAGS = 60,
	AT_OWNER_UID = 64,
	AT_OWNER_GID = 68,
	AT_PID = 72,
	AT_UID = 76,
	AT_GID = 80,
	AT_HAS = 84,
	AT_OP = 86,
	AT_ORIGIN = 87,
	AT_PATH_LENGTH = 88,
	AT_TO_LENGTH = 90,
	AT_NAME_LENGTH = 92,
	AT_COMM_LENGTH = 94,
	AT_ZERO = 95,
	HEADER_SIZE = 96,

	ALL_FIELDS = (EVENT_UNCERTAIN << 1) - 1,
};

static_assert(HEADER_SIZE + 2 * EVENT_PATH_MAX + EVENT_NAME_MAX + EVENT_COMM_MAX + 7 <=
		      EVENT_RECORD_MAX,
	      "the largest event fits");
static_assert(EVENT_RECORD_MAX % 8 == 0, "records end on a multiple of 8");
static_assert(EVENT_OP_END - 1 <= UINT8_MAX && EVENT_ORIGIN_END - 1 <= UINT8_MAX,
	      "op and origin fit a byte");

static const char *const op_names[EVENT_OP_END] = {
	[EVENT_CREATE] = "create",
	[EVENT_MKDIR] = "mkdir",
	[EVENT_SYMLINK] = "symlink",
	[EVENT_LINK] = "link",
	[EVENT_MKNOD] = "mknod",
	[EVENT_WRITE] = "write",
	[EVENT_TRUNCATE] = "truncate",
	[EVENT_FALLOCATE] = "fallocate",
	[EVENT_COPY] = "copy",
	[EVENT_RENAME] = "rename",
	[EVENT_UNLINK] = "unlink",
	[EVENT_RMDIR] = "rmdir",
	[EVENT_CHMOD] = "chmod",
	[EVENT_CHOWN] = "chown",
	[EVENT_UTIMENS] = "utimens",
	[EVENT_SETXATTR] = "setxattr",
	[EVENT_REMOVEXATTR] = "removexattr",
	[EVENT_CLOSE] = "close",
	[EVENT_MOUNTED] = "mounted",
	[EVENT_UNMOUNTED] = "unmounted",
	[EVENT_GAP] = "gap",
	[EVENT_MANUAL] = "manual",
};

static const char *const origin_names[EVENT_ORIGIN_END] = {
	[EVENT_VFS] = "vfs",        [EVENT_MMAP] = "mmap",           [EVENT_SCAN] = "scan",
	[EVENT_BY_HAND] = "manual", [EVENT_RECOVERED] = "recovered",
};

/* Index of @name in @names, whose first @first are not names; -1 when it is none. */
static int find_name(const char *const *names, int first, int end, const char *name, size_t length)
{
	for (int i = first; i < end; i++)
		if (strlen(names[i]) == length && memcmp(names[i], name, length) == 0)
			return i;
	return -1;
}

const char *event_op_name(unsigned op)
{
	return op < EVENT_OP_END ? op_names[op] : NULL;
}

unsigned event_op_from_name(const char *name, size_t length)
{
	int op = find_name(op_names, EVENT_CREATE, EVENT_OP_END, name, length);

	return op < 0 ? 0 : op;
}

const char *event_origin_name(unsigned origin)
{
	return origin < EVENT_ORIGIN_END ? origin_names[origin] : NULL;
}

int event_origin_from_name(const char *name, size_t length)
{
	return find_name(origin_names, 0, EVENT_ORIGIN_END, name, length);
}

static inline void put_u16(char *to, uint16_t value)
{
	value = htole16(value);
	memcpy(to, &value, sizeof(value));
}

static inline void put_u32(char *to, uint32_t value)
{
	value = htole32(value);
	memcpy(to, &value, sizeof(value));
}

static inline void put_u64(char *to, uint64_t value)
{
	value = htole64(value);
	memcpy(to, &value, sizeof(value));
}

static inline uint8_t get_u8(const char *from)
{
	return *(const uint8_t *)from;
}

static inline uint16_t get_u16(const char *from)
{
	uint16_t value;

	memcpy(&value, from, sizeof(value));
	return le16toh(value);
}

static inline uint32_t get_u32(const char *from)
{
	uint32_t value;

	memcpy(&value, from, sizeof(value));
	return le32toh(value);
}

static inline uint64_t get_u64(const char *from)
{
	uint64_t value;

	memcpy(&value, from, sizeof(value));
	return le64toh(value);
}

static inline size_t strings_size(const struct event *event)
{
	return (size_t)event->path_length + event->to_length + event->name_length +
	       event->comm_length;
}

static inline size_t record_size(const struct event *event)
{
	return (HEADER_SIZE + strings_size(event) + 7) & ~(size_t)7;
}

size_t event_encoded_size(const struct event *event)
{
	return record_size(event);
}

static inline void put_header(char *record, const struct event *event)
{
	put_u64(record + AT_SEQ, event->seq);
	put_u64(record + AT_TIME, event->time_ns);
	put_u64(record + AT_OFFSET, event->offset);
	put_u64(record + AT_LENGTH, event->length);
	put_u64(record + AT_SIZE, event->size);
	put_u64(record + AT_INO, event->ino);
	put_u32(record + AT_MODE, event->mode);
	put_u32(record + AT_FLAGS, event->flags);
	put_u32(record + AT_OWNER_UID, event->owner_uid);
	put_u32(record + AT_OWNER_GID, event->owner_gid);
	put_u32(record + AT_PID, event->pid);
	put_u32(record + AT_UID, event->uid);
	put_u32(record + AT_GID, event->gid);
	put_u16(record + AT_HAS, event->has);
	record[AT_OP] = event->op;
	record[AT_ORIGIN] = event->origin;
	put_u16(record + AT_PATH_LENGTH, event->path_length);
	put_u16(record + AT_TO_LENGTH, event->to_length);
	put_u16(record + AT_NAME_LENGTH, event->name_length);
	record[AT_COMM_LENGTH] = event->comm_length;
	record[AT_ZERO] = 0;
}

/* An absent string is NULL, which memcpy() must not see. */
static inline char *put_string(char *to, const char *string, size_t length)
{
	if (length > 0)
		memcpy(to, string, length);
	return to + length;
}

static inline uint32_t checksum(const char *record, size_t size)
{
	return (uint32_t)XXH3_64bits(record + AT_SEQ, size - AT_SEQ);
}

void event_encode(const struct event *event, void *buffer)
{
	char *record = buffer;
	size_t size = record_size(event);
	char *to = record + HEADER_SIZE;

	assert(event->op > 0 && event->op < EVENT_OP_END && event->origin < EVENT_ORIGIN_END);
	assert(event->name_length <= EVENT_NAME_MAX && event->comm_length <= EVENT_COMM_MAX);
	assert((event->has & ~ALL_FIELDS) == 0);

	/*
	 * First the zeros that the strings leave at the end; without strings they are in the
	 * header.
	 */
	put_u64(record + size - 8, 0);
	put_header(record, event);
	to = put_string(to, event->path, event->path_length);
	to = put_string(to, event->to, event->to_length);
	to = put_string(to, event->name, event->name_length);
	put_string(to, event->comm, event->comm_length);

	put_u32(record + AT_RECORD_SIZE, size);
	put_u32(record + AT_CHECKSUM, checksum(record, size));
}

static void get_header(const char *record, struct event *out)
{
	out->seq = get_u64(record + AT_SEQ);
	out->time_ns = get_u64(record + AT_TIME);
	out->offset = get_u64(record + AT_OFFSET);
	out->length = get_u64(record + AT_LENGTH);
	out->size = get_u64(record + AT_SIZE);
	out->ino = get_u64(record + AT_INO);
	out->mode = get_u32(record + AT_MODE);
	out->flags = get_u32(record + AT_FLAGS);
	out->owner_uid = get_u32(record + AT_OWNER_UID);
	out->owner_gid = get_u32(record + AT_OWNER_GID);
	out->pid = get_u32(record + AT_PID);
	out->uid = get_u32(record + AT_UID);
	out->gid = get_u32(record + AT_GID);
	out->has = get_u16(record + AT_HAS);
	out->op = get_u8(record + AT_OP);
	out->origin = get_u8(record + AT_ORIGIN);
	out->path_length = get_u16(record + AT_PATH_LENGTH);
	out->to_length = get_u16(record + AT_TO_LENGTH);
	out->name_length = get_u16(record + AT_NAME_LENGTH);
	out->comm_length = get_u8(record + AT_COMM_LENGTH);
}

static void get_strings(const char *record, struct event *out)
{
	const char *from = record + HEADER_SIZE;

	out->path = from;
	from += out->path_length;
	out->to = out->to_length > 0 ? from : NULL;
	from += out->to_length;
	out->name = out->name_length > 0 ? from : NULL;
	from += out->name_length;
	out->comm = from;
}

/*
 * The zeros behind the strings, 0 to 7 bytes, are the top of the last word; without any there
 * is nothing to look at.
 */
static bool is_padding_zero(const char *record, size_t size, const struct event *event)
{
	size_t padding = size - HEADER_SIZE - strings_size(event);

	return padding == 0 || get_u64(record + size - 8) >> (64 - 8 * padding) == 0;
}

static bool is_header_valid(const char *record, size_t size, const struct event *event)
{
	return record_size(event) == size && event->op > 0 && event->op < EVENT_OP_END &&
	       event->origin < EVENT_ORIGIN_END && (event->has & ~ALL_FIELDS) == 0 &&
	       event->name_length <= EVENT_NAME_MAX && event->comm_length <= EVENT_COMM_MAX &&
	       record[AT_ZERO] == 0;
}

ssize_t event_decode(const void *buffer, size_t available, struct event *out)
{
	const char *record = buffer;
	struct event event;
	size_t size;

	if (available < HEADER_SIZE)
		return -EBADMSG;

	size = get_u32(record + AT_RECORD_SIZE);
	if (size < HEADER_SIZE || size > EVENT_RECORD_MAX || size > available || size % 8 != 0)
		return -EBADMSG;
	if (get_u32(record + AT_CHECKSUM) != checksum(record, size))
		return -EBADMSG;

	get_header(record, &event);
	if (!is_header_valid(record, size, &event) || !is_padding_zero(record, size, &event))
		return -EBADMSG;

	get_strings(record, &event);
	*out = event;
	return size;
}
