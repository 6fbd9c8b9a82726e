/*
 * bench-latency: from the call of write(2) to the receipt of its event, over and over.
 *
 *     bench-latency KIND FOLDER COUNT GAP_US [SOCKET]
 *
 * One thread appends a byte to FOLDER/probe and waits until the other has been told of it by KIND (see
 * receiver.h); GAP_US microseconds pass between, so that everybody is asleep when the next one comes.
 * Prints a JSON object: samples, lost (no word within two seconds), p50_us, p99_us, p999_us, max_us.
 */
#include "bench/receiver.h"

#include "base/scope.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
	WARM_UP = 50,   /* writes that are not counted */
	PATIENCE_S = 2,
};

struct listener {
	struct receiver *receiver;
	sem_t asked;        /* the writer will write, after a gap in which the listener has gone to sleep */
	sem_t told;         /* received_ns is of that write */
	uint64_t size;      /* of the probe after the write that is waited for */
	int64_t received_ns;
};

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void *listen_for_probe(void *argument)
{
	struct listener *listener = argument;
	int r;

	for (;;) {
		sem_wait(&listener->asked);
		r = receiver_wait(listener->receiver, listener->size);
		if (r < 0)
			errx(1, "receive: %s", strerror(-r));
		listener->received_ns = now_ns();
		sem_post(&listener->told);
	}
	return NULL;
}

/* Returns the nanoseconds that one write took to be received, or -1: it was not. */
static int64_t measure_once(struct listener *listener, int probe_fd, const struct timespec *gap)
{
	struct timespec end;
	int64_t start;

	listener->size++;
	sem_post(&listener->asked);
	nanosleep(gap, NULL);
	start = now_ns();
	if (pwrite(probe_fd, "x", 1, listener->size - 1) != 1)
		err(1, "write");
	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += PATIENCE_S;
	if (sem_timedwait(&listener->told, &end) < 0)
		return -1;
	return listener->received_ns - start;
}

static int compare(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

static double quantile_us(const int64_t *sorted, long count, double q)
{
	long at = q * count;

	return sorted[at < count ? at : count - 1] / 1e3;
}

static void print(const char *kind, int64_t *samples, long count, bool is_lost)
{
	qsort(samples, count, sizeof(*samples), compare);
	printf("{\"kind\":\"%s\",\"samples\":%ld,\"lost\":%d", kind, count, is_lost);
	if (count)
		printf(",\"p50_us\":%.2f,\"p99_us\":%.2f,\"p999_us\":%.2f,\"max_us\":%.2f", quantile_us(samples, count, 0.5),
		       quantile_us(samples, count, 0.99), quantile_us(samples, count, 0.999), samples[count - 1] / 1e3);
	puts("}");
}

/* Fills @samples; returns how many there are. Where one was lost, the listener still waits for it, and all ends. */
static long measure(struct listener *listener, int probe_fd, long count, long gap_us, int64_t *samples)
{
	struct timespec gap = { .tv_sec = gap_us / 1000000, .tv_nsec = gap_us % 1000000 * 1000 };

	for (long i = -WARM_UP; i < count; i++) {
		int64_t ns = measure_once(listener, probe_fd, &gap);

		if (ns < 0)
			return i < 0 ? 0 : i;
		if (i >= 0)
			samples[i] = ns;
	}
	return count;
}

int main(int argc, char **argv)
{
	struct listener listener = { 0 };
	char path[PATH_MAX];
	pthread_t thread;
	long count, measured;
	int r;

	if (argc < 5)
		errx(2, "usage: bench-latency inotify|fanotify|hrfs|watchman FOLDER COUNT GAP_US [SOCKET]");
	count = strtol(argv[3], NULL, 10);
	scoped(freep) int64_t *samples = calloc(count, sizeof(*samples));

	snprintf(path, sizeof(path), "%s/" PROBE, argv[2]);
	scoped(closep) int probe_fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (!samples || probe_fd < 0)
		err(1, "%s", path);
	r = receiver_open(argv[1], argv[2], argc > 5 ? argv[5] : NULL, &listener.receiver);
	if (r < 0)
		errx(1, "%s: %s", argv[1], strerror(-r));
	sem_init(&listener.asked, 0, 0);
	sem_init(&listener.told, 0, 0);
	errno = pthread_create(&thread, NULL, listen_for_probe, &listener);
	if (errno)
		err(1, "thread");
	measured = measure(&listener, probe_fd, count, strtol(argv[4], NULL, 10), samples);
	print(argv[1], samples, measured, measured < count);
	/* The listener may be waiting; it ends with the process. */
	fflush(stdout);
	_exit(0);
}
