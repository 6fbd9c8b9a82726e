/* Idset: a set of 64-bit numbers. A zeroed struct is an empty one. One thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct idset {
	uint64_t *slots; /* owned; 0: free */
	size_t capacity; /* a power of two, or 0 */
	size_t count;
};

/** Add @id, which is not 0. Returns 1 when it was not there, 0 when it was, or -ENOMEM. */
int idset_add(struct idset *set, uint64_t id);

/** Whether @id is there. */
bool idset_has(const struct idset *set, uint64_t id);

/** Free the memory and start empty again. */
void idset_finish(struct idset *set);
