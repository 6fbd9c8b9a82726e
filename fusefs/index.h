/*
 * Index: a hash table over the slots of a pool (tables.h), in private memory.
 *
 * Slots are chained by their numbers, so that it holds no pointers and takes four bytes for each slot and each bucket. What is looked
 * for is compared by the caller:
 *
 *     for (slot = index_first(index, hash); slot; slot = index_next(index, slot))
 *             if (is_it(slot)) ...
 *
 * Not thread-safe: its owner has a lock.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/** The hash of what stands in @slot. */
typedef uint64_t (*index_hash_fn)(const void *userdata, uint32_t slot);

struct index {
	index_hash_fn hash;
	const void *userdata;
	uint32_t *buckets;
	uint32_t *next;     /* by slot */
	uint32_t capacity;  /* slots */
	uint32_t count;     /* of buckets, a power of two */
	uint32_t used;
};

/** Start with a zeroed struct, for slots below @capacity. @userdata is borrowed. Returns 0 or -ENOMEM. */
int index_init(struct index *index, uint32_t capacity, index_hash_fn hash, const void *userdata);

/** A zeroed or half-made one is fine. */
void index_finish(struct index *index);

/** Once for each slot, when it has what it is hashed by. Without memory for more buckets the chains just grow longer. */
void index_add(struct index *index, uint32_t slot);

/** Before what it is hashed by changes. One that is not there is fine. */
void index_remove(struct index *index, uint32_t slot);

/** The first slot that may have the hash @hash, and those after it; 0: no more. */
static inline uint32_t index_first(const struct index *index, uint64_t hash)
{
	return index->buckets[hash & (index->count - 1)];
}

static inline uint32_t index_next(const struct index *index, uint32_t slot)
{
	return index->next[slot];
}

/** Zeroed numbers for @count slots; memory is taken as they are written to. Returns NULL without address space. */
uint32_t *index_array(size_t count);

/** NULL is fine. */
void index_array_free(uint32_t *array, size_t count);
