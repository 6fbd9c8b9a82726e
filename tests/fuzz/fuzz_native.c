/* The native dialect: a request line as the server reads it, and an event as a client does. What is written is read again. */
#include "tests/fuzz/fuzz.h"

#include "base/bytes.h"
#include "proto/event.h"
#include "proto/native.h"

#include <stdlib.h>

static void read_request(const char *line, size_t size)
{
	struct native_request request = { 0 };
	const char *message = NULL;
	int r = native_parse_request(line, size, &request, &message);

	if (r < 0 && !message)
		abort();
	native_request_finish(&request);
}

static void read_event(const char *line, size_t size)
{
	struct native_storage *storage = NULL, *again = NULL;
	struct bytes written = { 0 };
	struct event event, copy;

	if (native_parse_event(line, size, &event, &storage) < 0)
		return;
	if (event.op > 0 && event.op < EVENT_OP_END && event.origin < EVENT_ORIGIN_END) {
		native_write_event(&written, &event);
		if (written.error == 0 && native_parse_event(written.data, written.size, &copy, &again) < 0)
			abort();
	}
	native_storage_free(again);
	native_storage_free(storage);
	bytes_finish(&written);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size > NATIVE_LINE_MAX)
		return 0;
	read_request((const char *)data, size);
	read_event((const char *)data, size);
	return 0;
}
