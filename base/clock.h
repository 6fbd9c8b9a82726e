/*
 * Clock: the time that passes.
 */
#pragma once

#include <stdint.h>
#include <time.h>

/** CLOCK_MONOTONIC. Any thread; makes no system call where the C library need not. */
static inline int64_t clock_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ll + now.tv_nsec;
}

/** The same in milliseconds. */
static inline int64_t clock_now_ms(void)
{
	return clock_now_ns() / 1000000;
}
