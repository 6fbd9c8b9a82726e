/*
 * Ring: how a thread of libfuse's, over io_uring, hands in its answers and waits for the next request.
 *
 * libfuse does both with one call, and the linker leads that call here (--wrap, fusefs/meson.build; without it, with a libfuse that is a
 * shared library, all works as well, only slower). An answer wakes the program that waits for it, and the program runs first
 * (daemon/scheduling.h), but only once this thread comes back from the kernel: kernels that are not built to be preempted look there.
 * In one call it does not come back. It goes to sleep, for a request that comes a few microseconds later and has to wake it: that is 0.9 of
 * the 11 us of a round trip (docs/performance.md). In two, the program takes the processor between them; it sends its next request
 * to a thread that does not sleep, and by the time it waits, the request is there, and the second call is not made.
 */
#include "fusefs/ring.h"

int __wrap_io_uring_submit_and_wait(struct io_uring *ring, unsigned wait_nr)
{
	int submitted = 0;
	int r;

	if (io_uring_sq_ready(ring) > 0) {
		submitted = io_uring_submit(ring);
		if (submitted < 0)
			return submitted;
	}
	if (io_uring_cq_ready(ring) >= wait_nr)
		return submitted;
	r = __real_io_uring_submit_and_wait(ring, wait_nr);
	return r < 0 ? r : submitted;
}
