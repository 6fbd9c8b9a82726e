#include "serve/broadcast.h"

#include "serve/lines.h"

#include <errno.h>
#include <stdlib.h>

struct broadcast {
	uint64_t next_seq;
	size_t memory;   /* bytes of all runs */
	unsigned oldest; /* both count up for ever; the run of n is at n % BROADCAST_RUNS_MAX */
	unsigned end;
	struct lines *runs[BROADCAST_RUNS_MAX];
};

struct broadcast *broadcast_create(uint64_t seq)
{
	struct broadcast *broadcast = calloc(1, sizeof(*broadcast));

	if (broadcast)
		broadcast->next_seq = seq;
	return broadcast;
}

void broadcast_destroy(struct broadcast *broadcast)
{
	if (!broadcast)
		return;
	broadcast_reset(broadcast, 0);
	free(broadcast);
}

static struct lines *run_at(const struct broadcast *broadcast, unsigned n)
{
	return broadcast->runs[n % BROADCAST_RUNS_MAX];
}

static void drop_oldest(struct broadcast *broadcast)
{
	struct lines *lines = run_at(broadcast, broadcast->oldest++);

	broadcast->memory -= lines_memory(lines);
	lines_unref(lines);
}

void broadcast_reset(struct broadcast *broadcast, uint64_t seq)
{
	while (broadcast->oldest != broadcast->end)
		drop_oldest(broadcast);
	broadcast->next_seq = seq;
}

uint64_t broadcast_first(const struct broadcast *broadcast)
{
	if (broadcast->oldest == broadcast->end)
		return broadcast->next_seq;
	return lines_first(run_at(broadcast, broadcast->oldest));
}

uint64_t broadcast_end(const struct broadcast *broadcast)
{
	return broadcast->next_seq;
}

static int add_run(struct broadcast *broadcast, size_t size)
{
	struct lines *lines = lines_create(broadcast->next_seq, size);

	if (!lines)
		return -ENOMEM;
	while (broadcast->oldest != broadcast->end &&
	       (broadcast->end - broadcast->oldest == BROADCAST_RUNS_MAX ||
		broadcast->memory + lines_memory(lines) > BROADCAST_MEMORY_MAX))
		drop_oldest(broadcast);
	broadcast->runs[broadcast->end++ % BROADCAST_RUNS_MAX] = lines;
	broadcast->memory += lines_memory(lines);
	return 0;
}

int broadcast_append(struct broadcast *broadcast, const char *line, size_t size)
{
	if (broadcast->oldest == broadcast->end ||
	    !lines_have_room(run_at(broadcast, broadcast->end - 1), size)) {
		int r = add_run(broadcast, size);

		if (r < 0)
			return r;
	}
	lines_append(run_at(broadcast, broadcast->end - 1), line, size);
	broadcast->next_seq++;
	return 0;
}

struct lines *broadcast_find(const struct broadcast *broadcast, uint64_t seq)
{
	/* Mostly it is the newest. */
	for (unsigned n = broadcast->end; n != broadcast->oldest; n--) {
		struct lines *lines = run_at(broadcast, n - 1);

		if (lines_contain(lines, seq))
			return lines;
	}
	return NULL;
}
