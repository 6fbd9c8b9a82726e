#include "fusefs/execs.h"

#include "base/scope.h"

#include <errno.h>
#include <linux/perf_event.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PAGES = 2 }; /* the kernel's page of numbers, and the least that a ring can be */

struct execs {
	long processors;
	struct perf_event_mmap_page *rings[];
};

static size_t ring_size(void)
{
	return PAGES * sysconf(_SC_PAGESIZE);
}

static void execs_closep(struct execs **execs)
{
	execs_close(*execs);
}

/* The mapping keeps the event; its descriptor is not needed. Mapped for reading, the ring is written over when it is full, and never stops. */
static int map_ring(int processor, struct perf_event_mmap_page **out)
{
	struct perf_event_attr attributes = {
		.type = PERF_TYPE_SOFTWARE,
		.size = sizeof(attributes),
		.config = PERF_COUNT_SW_DUMMY,
		.comm = 1, /* exec(2), and PR_SET_NAME of prctl(2) */
		.task = 1, /* fork(2), and the end of a thread: its id can be given again */
	};
	scoped(closep) int fd = syscall(SYS_perf_event_open, &attributes, -1, processor, -1, PERF_FLAG_FD_CLOEXEC);
	void *ring;

	if (fd < 0)
		return -errno;
	ring = mmap(NULL, ring_size(), PROT_READ, MAP_SHARED, fd, 0);
	if (ring == MAP_FAILED)
		return -errno;
	*out = ring;
	return 0;
}

int execs_open(struct execs **out)
{
	long processors = sysconf(_SC_NPROCESSORS_CONF);
	scoped(execs_closep) struct execs *execs = calloc(1, sizeof(*execs) + processors * sizeof(*execs->rings));
	int r;

	if (!execs)
		return -ENOMEM;
	while (execs->processors < processors) {
		r = map_ring(execs->processors, &execs->rings[execs->processors]);
		if (r < 0)
			return r;
		execs->processors++;
	}
	*out = take(execs);
	return 0;
}

uint64_t execs_count(const struct execs *execs)
{
	uint64_t count = 0;

	/* Positions only grow, so no two changes make the same sum. */
	for (long i = 0; i < execs->processors; i++)
		count += __atomic_load_n(&execs->rings[i]->data_head, __ATOMIC_ACQUIRE);
	return count;
}

void execs_close(struct execs *execs)
{
	if (!execs)
		return;
	for (long i = 0; i < execs->processors; i++)
		munmap(execs->rings[i], ring_size());
	free(execs);
}
