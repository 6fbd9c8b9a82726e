/* Moments as people type them. */
#include "cli/when.h"

#include "tests/unit/check.h"

#include <errno.h>
#include <time.h>

#define SECOND INT64_C(1000000000)
#define DAY    (86400 * SECOND)

/* 2026-11-22T19:40:00Z, which in Kolkata is 01:10 of the 23rd. */
static const int64_t now = 1795376400 * SECOND;

static void use_zone(const char *zone)
{
	setenv("TZ", zone, 1);
	tzset();
}

/* What @text means in UTC, or -1. */
static int64_t parse(const char *text)
{
	int64_t ns = -1;

	use_zone("UTC");
	return when_parse(text, now, &ns) == 0 ? ns : -1;
}

static void an_rfc_3339_time_is_read(void)
{
	check(parse("2026-11-22T19:40:00Z") == now);
	check(parse("2026-11-22t19:40:00z") == now);
	check(parse("2026-11-22T19:40:01.123456789Z") == now + SECOND + 123456789);
	check(parse("2026-11-22T19:40:00.5Z") == now + SECOND / 2);
	check(parse("2026-11-22T19:40:00.1234567891Z") == now + 123456789);
	check(parse("2026-11-22T20:40:00+01:00") == now);
	check(parse("2026-11-22 16:10:00-03:30") == now);
}

static void seconds_and_zone_may_be_left_out(void)
{
	check(parse("2026-11-22T19:40:00") == now);
	check(parse("2026-11-22 19:40") == now);
	check(parse("2026-11-22 19:40:30.25") == now + 30 * SECOND + SECOND / 4);
	check(parse("2026-11-22") == now - now % DAY);
}

static void a_clock_alone_is_today(void)
{
	check(parse("19:40") == now);
	check(parse("19:40:01.5") == now + SECOND * 3 / 2);
	check(parse("23:59") == now - now % DAY + (24 * 60 - 1) * 60 * SECOND);
}

static void words_are_read(void)
{
	check(parse("now") == now);
	check(parse("Today") == now - now % DAY);
	check(parse("yesterday") == now - now % DAY - DAY);
}

static void spans_ago_are_read(void)
{
	check(parse("10min ago") == now - 600 * SECOND);
	check(parse("10 minutes ago") == now - 600 * SECOND);
	check(parse("2h ago") == now - 7200 * SECOND);
	check(parse("1h 30min ago") == now - 5400 * SECOND);
	check(parse("1h30m ago") == now - 5400 * SECOND);
	check(parse("3 days ago") == now - 3 * DAY);
	check(parse("1w ago") == now - 7 * DAY);
	check(parse("0s ago") == now);
}

static void local_time_is_meant_without_a_zone(void)
{
	int64_t ns;

	use_zone("Asia/Kolkata");
	check(when_parse("2026-11-23 01:10", now, &ns) == 0 && ns == now);
	check(when_parse("01:10", now, &ns) == 0 && ns == now);
	check(when_parse("today", now, &ns) == 0 && ns == now - 70 * 60 * SECOND);
	check(when_parse("2026-11-22T19:40Z", now, &ns) == 0 && ns == now);
}

/* A day of 25 hours lies between: midnight is midnight all the same. */
static void yesterday_is_a_date_and_not_24_hours(void)
{
	/* 2026-10-26 00:00 UTC: 01:00 in Berlin, where the clock went back on the 25th. */
	int64_t ns, monday = 1792972800 * SECOND;

	use_zone("Europe/Berlin");
	check(when_parse("yesterday", monday, &ns) == 0);
	check(ns == monday - 26 * 3600 * SECOND);
}

static void leap_days_are_known(void)
{
	check(parse("2024-02-29") > 0);
	check(parse("2026-02-29") == -1);
	check(parse("2100-02-29") == -1);
	check(parse("2000-02-29") > 0);
}

static void times_before_1970_are_negative(void)
{
	int64_t ns;

	use_zone("UTC");
	check(when_parse("1969-12-31T23:59:59.5Z", now, &ns) == 0 && ns == -SECOND / 2);
}

static void what_is_no_time_is_refused(void)
{
	static const char *const bad[] = {
		"",
		" ",
		"soon",
		"12",
		"2026",
		"2026-11",
		"2026-13-01",
		"2026-00-01",
		"2026-06-31",
		"2026-11-22T",
		"2026-11-22T24:00",
		"2026-11-22T19:60",
		"2026-11-22T19:40:61",
		"2026-11-22T19:40:00.",
		"2026-11-22T19:40Zx",
		"2026-11-22T19:40+1",
		"2026-11-22T19:40+24:00",
		"2026-11-22x",
		"1:30",
		"19:40 ",
		"19:40Z",
		"1026-11-22",
		"9999-01-01",
		"ago",
		"10 ago",
		"10min",
		"min ago",
		"10min ago ",
		"10 fortnights ago",
		"-10min ago",
		"99999999999999999999s ago",
		"9223372036854775807w ago",
		"300000000000s ago",
		"nows",
		"2026-11-22T19:40:00Z\n",
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		int64_t ns = 42;

		use_zone("UTC");
		if (when_parse(bad[i], now, &ns) != -EINVAL || ns != 42)
			fprintf(stderr, "accepted: '%s'\n", bad[i]);
		check(when_parse(bad[i], now, &ns) == -EINVAL && ns == 42);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		unit(an_rfc_3339_time_is_read),
		unit(seconds_and_zone_may_be_left_out),
		unit(a_clock_alone_is_today),
		unit(words_are_read),
		unit(spans_ago_are_read),
		unit(local_time_is_meant_without_a_zone),
		unit(yesterday_is_a_date_and_not_24_hours),
		unit(leap_days_are_known),
		unit(times_before_1970_are_negative),
		unit(what_is_no_time_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
