#include "fusefs/listings.h"

#include "base/clock.h"
#include "check.h"

#include <stdbool.h>

static void what_was_listed_is_taken_once_and_in_order(void)
{
	struct listings *listings;
	uint64_t nodeids[4];

	check(listings_create(&listings) == 0);
	for (uint64_t nodeid = 1; nodeid <= 6; nodeid++)
		listings_add(listings, nodeid);
	check(listings_take(listings, clock_now_ns() + 1, nodeids, 4) == 4);
	check(nodeids[0] == 1 && nodeids[3] == 4);
	check(listings_take(listings, clock_now_ns() + 1, nodeids, 4) == 2);
	check(nodeids[0] == 5 && nodeids[1] == 6);
	check(listings_take(listings, clock_now_ns() + 1, nodeids, 4) == 0);
	check(listings_is_empty(listings));
	listings_destroy(listings);
}

static void the_first_tells_that_it_is(void)
{
	struct listings *listings;
	uint64_t nodeid;

	check(listings_create(&listings) == 0);
	check(listings_add(listings, 1));
	check(!listings_add(listings, 2));
	check(listings_take(listings, clock_now_ns() + 1, &nodeid, 1) == 1);
	check(!listings_add(listings, 3));
	while (listings_take(listings, clock_now_ns() + 1, &nodeid, 1) == 1)
		;
	check(listings_add(listings, 4));
	listings_destroy(listings);
}

static void what_is_listed_later_stays(void)
{
	struct listings *listings;
	uint64_t nodeids[4];
	int64_t between;

	check(listings_create(&listings) == 0);
	listings_add(listings, 1);
	between = clock_now_ns() + 1;
	while (clock_now_ns() <= between)
		;
	listings_add(listings, 2);
	check(listings_take(listings, between, nodeids, 4) == 1 && nodeids[0] == 1);
	check(!listings_is_empty(listings));
	listings_destroy(listings);
}

static void where_there_is_no_room_all_are_to_be_dropped(void)
{
	struct listings *listings;
	uint64_t nodeids[4];
	unsigned taken = 0;

	check(listings_create(&listings) == 0);
	for (uint64_t nodeid = 1; nodeid <= 100 * 1000; nodeid++)
		listings_add(listings, nodeid);
	for (size_t n; (n = listings_take(listings, clock_now_ns() + 1, nodeids, 4)) > 0; taken += n)
		check(nodeids[0] == taken + 1);
	check(taken == 32768);
	check(!listings_is_empty(listings));
	check(listings_take_all(listings, clock_now_ns() + 1));
	check(!listings_take_all(listings, clock_now_ns() + 1));
	check(listings_is_empty(listings));
	check(listings_add(listings, 1));
	listings_destroy(listings);
}

static void all_are_dropped_once_and_again_for_what_came_later(void)
{
	struct listings *listings;
	int64_t before = clock_now_ns();

	check(listings_create(&listings) == 0);
	check(!listings_take_all(listings, clock_now_ns() + 1));
	check(listings_add_all(listings));
	check(!listings_add(listings, 1));
	check(listings_take_all(listings, before));
	check(listings_take_all(listings, clock_now_ns() + 1));
	check(!listings_take_all(listings, clock_now_ns() + 1));
	check(!listings_is_empty(listings));
	listings_destroy(listings);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		unit(what_was_listed_is_taken_once_and_in_order),
		unit(the_first_tells_that_it_is),
		unit(what_is_listed_later_stays),
		unit(where_there_is_no_room_all_are_to_be_dropped),
		unit(all_are_dropped_once_and_again_for_what_came_later),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
