#include "fusefs/index.h"

#include "check.h"

#include <string.h>

enum { SLOTS = 50000 };

static uint64_t keys[SLOTS];

static uint64_t hash_of(const void *userdata, uint32_t slot)
{
	check(userdata == keys);
	return keys[slot] * 0x9e3779b97f4a7c15ull >> 20;
}

static uint32_t find(const struct index *index, uint64_t key)
{
	uint32_t slot = index_first(index, key * 0x9e3779b97f4a7c15ull >> 20);

	while (slot && keys[slot] != key)
		slot = index_next(index, slot);
	return slot;
}

static void make(struct index *index)
{
	memset(index, 0, sizeof(*index));
	for (uint32_t slot = 1; slot < SLOTS; slot++)
		keys[slot] = slot * 7ull;
	check(index_init(index, SLOTS, hash_of, keys) == 0);
}

static void everything_is_found_after_it_has_grown(void)
{
	struct index index;
	uint32_t buckets;

	make(&index);
	buckets = index.count;
	for (uint32_t slot = 1; slot < SLOTS; slot++)
		index_add(&index, slot);
	check(index.count > buckets);
	for (uint32_t slot = 1; slot < SLOTS; slot++)
		check(find(&index, keys[slot]) == slot);
	check(find(&index, 3) == 0);
	index_finish(&index);
}

static void what_is_removed_is_not_found_and_the_others_are(void)
{
	struct index index;

	make(&index);
	for (uint32_t slot = 1; slot < SLOTS; slot++)
		index_add(&index, slot);
	for (uint32_t slot = 1; slot < SLOTS; slot += 2)
		index_remove(&index, slot);
	for (uint32_t slot = 1; slot < SLOTS; slot++)
		check(find(&index, keys[slot]) == (slot % 2 ? 0 : slot));
	index_finish(&index);
}

static void what_is_not_there_can_be_removed(void)
{
	struct index index;

	make(&index);
	index_add(&index, 1);
	index_remove(&index, 2);
	check(find(&index, keys[1]) == 1 && index.used == 1);
	index_remove(&index, 1);
	index_remove(&index, 1);
	check(index.used == 0);
	index_finish(&index);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		unit(everything_is_found_after_it_has_grown),
		unit(what_is_removed_is_not_found_and_the_others_are),
		unit(what_is_not_there_can_be_removed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
