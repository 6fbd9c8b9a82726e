#include "eventlog/idset.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { CAPACITY_MIN = 64 };

/* The slot where @id is, or would be. */
static uint64_t *find(const struct idset *set, uint64_t id)
{
	/* Ids that follow each other are spread by the golden ratio. */
	size_t at = (id * 0x9e3779b97f4a7c15) >> 20 & (set->capacity - 1);

	while (set->slots[at] && set->slots[at] != id)
		at = (at + 1) & (set->capacity - 1);
	return &set->slots[at];
}

static int grow(struct idset *set)
{
	struct idset larger = { .capacity = set->capacity ? 2 * set->capacity : CAPACITY_MIN };

	larger.slots = calloc(larger.capacity, sizeof(*larger.slots));
	if (!larger.slots)
		return -ENOMEM;
	for (size_t i = 0; i < set->capacity; i++)
		if (set->slots[i])
			*find(&larger, set->slots[i]) = set->slots[i];
	larger.count = set->count;
	free(set->slots);
	*set = larger;
	return 0;
}

int idset_add(struct idset *set, uint64_t id)
{
	uint64_t *slot;

	if (4 * set->count >= 3 * set->capacity && grow(set) < 0)
		return -ENOMEM;
	slot = find(set, id);
	if (*slot)
		return 0;
	*slot = id;
	set->count++;
	return 1;
}

bool idset_has(const struct idset *set, uint64_t id)
{
	return set->count > 0 && *find(set, id);
}

void idset_finish(struct idset *set)
{
	free(set->slots);
	*set = (struct idset){ 0 };
}
