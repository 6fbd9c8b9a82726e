#include "fusefs/index.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { BUCKETS_MIN = 1 << 12 };

uint32_t *index_array(size_t count)
{
	void *map = mmap(NULL, count * sizeof(uint32_t), PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return map == MAP_FAILED ? NULL : map;
}

void index_array_free(uint32_t *array, size_t count)
{
	if (array)
		munmap(array, count * sizeof(uint32_t));
}

int index_init(struct index *index, uint32_t capacity, index_hash_fn hash, const void *userdata)
{
	index->hash = hash;
	index->userdata = userdata;
	index->capacity = capacity;
	index->count = BUCKETS_MIN;
	index->buckets = calloc(index->count, sizeof(uint32_t));
	index->next = index_array(capacity);
	return index->buckets && index->next ? 0 : -ENOMEM;
}

void index_finish(struct index *index)
{
	free(index->buckets);
	index_array_free(index->next, index->capacity);
	memset(index, 0, sizeof(*index));
}

static void grow(struct index *index)
{
	uint32_t count = index->count * 2;
	uint32_t *buckets = calloc(count, sizeof(uint32_t));

	if (!buckets)
		return;
	for (uint32_t i = 0; i < index->count; i++) {
		for (uint32_t slot = index->buckets[i], next; slot; slot = next) {
			uint32_t *bucket = &buckets[index->hash(index->userdata, slot) & (count - 1)];

			next = index->next[slot];
			index->next[slot] = *bucket;
			*bucket = slot;
		}
	}
	free(index->buckets);
	index->buckets = buckets;
	index->count = count;
}

static uint32_t *bucket_of(struct index *index, uint32_t slot)
{
	return &index->buckets[index->hash(index->userdata, slot) & (index->count - 1)];
}

void index_add(struct index *index, uint32_t slot)
{
	uint32_t *bucket;

	if (index->used >= index->count)
		grow(index);
	bucket = bucket_of(index, slot);
	index->next[slot] = *bucket;
	*bucket = slot;
	index->used++;
}

void index_remove(struct index *index, uint32_t slot)
{
	uint32_t *link = bucket_of(index, slot);

	while (*link && *link != slot)
		link = &index->next[*link];
	if (!*link)
		return;
	*link = index->next[slot];
	index->used--;
}
