/*
 * Scope: locals that own something and give it back when they leave scope.
 *
 *     scoped(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
 *     ...
 *     *out = take_fd(fd);
 *
 * Built on the compiler's cleanup attribute. A cleanup function receives a pointer to the
 * variable, is called for every way out of the scope, and must accept the variable's empty
 * value (NULL, or -1 for descriptors).
 */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/** Run @function on the address of the variable when it leaves scope. */
#define scoped(function) __attribute__((cleanup(function)))

/** Hand over a scoped pointer: evaluates to its value and leaves NULL behind. */
#define take(pointer)                                \
	({                                           \
		__typeof__(pointer) taken = (pointer); \
		(pointer) = NULL;                    \
		taken;                               \
	})

/** Hand over a scoped descriptor: evaluates to its value and leaves -1 behind. */
#define take_fd(fd)           \
	({                    \
		int taken = (fd); \
		(fd) = -1;    \
		taken;        \
	})

/** Cleanup for memory from malloc(); works on a pointer of any type. */
static inline void freep(void *pointer)
{
	free(*(void **)pointer);
}

/** Cleanup for a file descriptor; -1 is nothing. */
static inline void closep(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

/** Cleanup for a stdio stream; NULL is nothing. */
static inline void fclosep(FILE **stream)
{
	if (*stream)
		fclose(*stream);
}
