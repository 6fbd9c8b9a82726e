/*
 * Intern: a bounded memory of which bytes have which id in a table.
 *
 * Sets of four entries; the hash chooses the set. A new entry goes to the front of its set and the
 * one at the back is forgotten, which keeps what is in use: the events of a file come together.
 */
#include "eventlog/intern.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum { WAYS = 4 };

struct entry {
	uint64_t hash;
	int64_t id; /* 0: empty */
	char *data; /* owned */
	size_t size;
};

struct intern {
	size_t sets; /* a power of two */
	struct entry entries[];
};

int intern_create(size_t entries, struct intern **out)
{
	struct intern *intern;
	size_t sets = 1;

	while (sets * WAYS < entries)
		sets *= 2;
	intern = calloc(1, sizeof(*intern) + sets * WAYS * sizeof(struct entry));
	if (!intern)
		return -ENOMEM;
	intern->sets = sets;
	*out = intern;
	return 0;
}

void intern_destroy(struct intern *intern)
{
	if (intern)
		intern_clear(intern);
	free(intern);
}

void intern_clear(struct intern *intern)
{
	for (size_t i = 0; i < intern->sets * WAYS; i++) {
		free(intern->entries[i].data);
		intern->entries[i] = (struct entry){ 0 };
	}
}

static size_t set_of(const struct intern *intern, uint64_t hash)
{
	return (hash & (intern->sets - 1)) * WAYS;
}

int64_t intern_get(const struct intern *intern, const void *data, size_t size)
{
	uint64_t hash = XXH3_64bits(data, size);
	const struct entry *set = &intern->entries[set_of(intern, hash)];

	for (int i = 0; i < WAYS; i++)
		if (set[i].id && set[i].hash == hash && set[i].size == size &&
		    memcmp(set[i].data, data, size) == 0)
			return set[i].id;
	return 0;
}

void intern_put(struct intern *intern, const void *data, size_t size, int64_t id)
{
	uint64_t hash = XXH3_64bits(data, size);
	struct entry *set = &intern->entries[set_of(intern, hash)];
	char *copy = malloc(size > 0 ? size : 1);

	if (!copy)
		return;
	memcpy(copy, data, size);
	free(set[WAYS - 1].data);
	memmove(set + 1, set, (WAYS - 1) * sizeof(*set));
	set[0] = (struct entry){ .hash = hash, .id = id, .data = copy, .size = size };
}
