/*
 * Recovery of a journal from arbitrary bytes: a scratch file of the right size is scribbled over, opened, recovered, and what
 * it holds is read. A good journal with a few events is the canvas, so that most inputs get past the first check.
 *
 * The input is a list of strokes: where (4 bytes, little-endian), how many bytes (1), the bytes.
 */
#include "tests/fuzz/fuzz.h"

#include "base/bytes.h"
#include "eventlog/intent.h"
#include "eventlog/journal.h"
#include "eventlog/journal_file.h"
#include "proto/event.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { EVENTS = 5, STROKE_HEAD = 5 };

static int folder_fd;
static struct journal_header *canvas; /* header, slots, and the beginning of the ring: the file may be written over */
static char *good;                    /* what is there at first */
static const size_t touched = JOURNAL_RING_OFFSET + 4096;

static void put_events(struct journal *journal)
{
	struct event event = { .op = EVENT_MKDIR, .path = "a/b", .path_length = 3 };

	for (unsigned i = 0; i < EVENTS; i++) {
		size_t room = journal_room_for(&event);
		struct intent *intent = journal_intent(journal, i);

		if (journal_reserve(journal, room, JOURNAL_ANY_ROOM) != 0)
			abort();
		intent_begin(intent, 2 * i + 2, 0, &event);
		/* The last one stays begun. */
		if (i + 1 < EVENTS)
			journal_append(journal, room, intent, &event);
	}
}

static char path[] = "/tmp/hrfs-fuzz-XXXXXX";

static void clean_up(void)
{
	unlinkat(folder_fd, "journal", 0);
	rmdir(path);
}

static void prepare(void)
{
	struct journal *journal = NULL;
	int fd;

	if (!mkdtemp(path))
		abort();
	folder_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (journal_create(folder_fd, "01234567-89ab-4cde-8f01-23456789abcd", JOURNAL_RING_MIN, &journal) < 0 ||
	    journal_recover(journal, 0, 0, false) < 0)
		abort();
	put_events(journal);
	journal_close(journal);
	fd = openat(folder_fd, "journal", O_RDWR | O_CLOEXEC);
	canvas = mmap(NULL, touched, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	good = malloc(touched);
	if (canvas == MAP_FAILED || !good)
		abort();
	memcpy(good, canvas, touched);
	close(fd);
	atexit(clean_up);
}

static void scribble(const uint8_t *data, size_t size)
{
	while (size > STROKE_HEAD) {
		uint32_t where;
		size_t length = data[4];

		memcpy(&where, data, sizeof(where));
		where %= touched;
		data += STROKE_HEAD;
		size -= STROKE_HEAD;
		if (length > size)
			length = size;
		if (length > touched - where)
			length = touched - where;
		memcpy((char *)canvas + where, data, length);
		data += length;
		size -= length;
	}
}

static void read_all(struct journal *journal)
{
	struct bytes buffer = { 0 };
	uint64_t position, copied;
	struct event event;
	struct orphan orphan;

	for (unsigned i = 0; i < EVENTLOG_WRITERS_MAX; i++)
		(void)intent_read(journal_intent(journal, i), &event, &orphan);
	position = copied = journal_head(journal);
	while (journal_peek(journal, &position, &event) == 1)
		if (journal_copy(journal, event.seq, &copied, &buffer, &event) < 0)
			abort();
	bytes_finish(&buffer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct journal *journal = NULL;

	if (!canvas)
		prepare();
	memcpy(canvas, good, touched);
	scribble(data, size);
	if (journal_open(folder_fd, &journal) < 0)
		return 0;
	if (journal_recover(journal, journal_drained_seq(journal), 0, false) == 0)
		read_all(journal);
	journal_close(journal);
	return 0;
}
