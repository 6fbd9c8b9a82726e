/*
 * When: moments as people type them. Readers here take what they know off the front of a text, or
 * leave it alone.
 */
#include "cli/when.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define NS_A_SECOND INT64_C(1000000000)

/* ---- Pieces ---- */

static bool take_char(const char **text, char wanted)
{
	if (**text != wanted)
		return false;
	(*text)++;
	return true;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Exactly @digits digits. */
static bool take_digits(const char **text, int digits, int *out)
{
	int number = 0;

	for (int i = 0; i < digits; i++) {
		if (!is_digit((*text)[i]))
			return false;
		number = 10 * number + ((*text)[i] - '0');
	}
	*text += digits;
	*out = number;
	return true;
}

/* The fraction of a second; digits beyond the ninth are nanoseconds' own business. */
static bool take_fraction(const char **text, int64_t *out_ns)
{
	int64_t unit = NS_A_SECOND / 10;

	*out_ns = 0;
	if (!take_char(text, '.'))
		return true;
	if (!is_digit(**text))
		return false;
	for (; is_digit(**text); (*text)++, unit /= 10)
		*out_ns += unit * (**text - '0');
	return true;
}

static int days_in_month(int year, int month)
{
	static const char days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	bool is_leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

	return days[month - 1] + (month == 2 && is_leap);
}

/* YYYY-MM-DD. mktime() would take the 31st of June for the 1st of July. */
static bool take_date(const char **text, struct tm *out)
{
	int year, month, day;

	if (!take_digits(text, 4, &year) || !take_char(text, '-') ||
	    !take_digits(text, 2, &month) || !take_char(text, '-') || !take_digits(text, 2, &day))
		return false;
	/* 64 bits of nanoseconds end in 1677 and 2262. */
	if (year < 1678 || year > 2261 || month < 1 || month > 12 || day < 1 ||
	    day > days_in_month(year, month))
		return false;
	out->tm_year = year - 1900;
	out->tm_mon = month - 1;
	out->tm_mday = day;
	return true;
}

/* HH:MM[:SS[.FRACTION]]; 60 is a leap second. */
static bool take_clock(const char **text, struct tm *out, int64_t *out_ns)
{
	*out_ns = 0;
	out->tm_sec = 0;
	if (!take_digits(text, 2, &out->tm_hour) || !take_char(text, ':') ||
	    !take_digits(text, 2, &out->tm_min))
		return false;
	if (take_char(text, ':') &&
	    (!take_digits(text, 2, &out->tm_sec) || !take_fraction(text, out_ns)))
		return false;
	return out->tm_hour < 24 && out->tm_min < 60 && out->tm_sec <= 60;
}

/*
 * Z or +HH:MM. Returns false when something else stands there; *out_is_given tells whether there
 * was one.
 */
static bool take_zone(const char **text, bool *out_is_given, int *out_seconds_east)
{
	int sign, hours, minutes;

	*out_is_given = **text != '\0';
	*out_seconds_east = 0;
	if (!*out_is_given || take_char(text, 'Z') || take_char(text, 'z'))
		return true;
	sign = take_char(text, '+') ? 1 : take_char(text, '-') ? -1 : 0;
	if (sign == 0 || !take_digits(text, 2, &hours) || !take_char(text, ':') ||
	    !take_digits(text, 2, &minutes))
		return false;
	*out_seconds_east = sign * (hours * 3600 + minutes * 60);
	return hours < 24 && minutes < 60;
}

/* ---- Forms ---- */

static struct tm local_day(int64_t now_ns, int days_later)
{
	time_t now = now_ns / NS_A_SECOND;
	struct tm day;

	localtime_r(&now, &day);
	return (struct tm){ .tm_year = day.tm_year,
			    .tm_mon = day.tm_mon,
			    .tm_mday = day.tm_mday + days_later,
			    .tm_isdst = -1 };
}

static int64_t from_local(struct tm local)
{
	local.tm_isdst = -1;
	return mktime(&local) * NS_A_SECOND;
}

static bool parse_word(const char *text, int64_t now_ns, int64_t *out_ns)
{
	if (strcasecmp(text, "now") == 0)
		*out_ns = now_ns;
	else if (strcasecmp(text, "today") == 0)
		*out_ns = from_local(local_day(now_ns, 0));
	else if (strcasecmp(text, "yesterday") == 0)
		*out_ns = from_local(local_day(now_ns, -1));
	else
		return false;
	return true;
}

static bool parse_date(const char *text, int64_t *out_ns)
{
	struct tm tm = { 0 };
	int64_t ns = 0;
	int seconds_east;
	bool has_zone;

	if (!take_date(&text, &tm))
		return false;
	if (*text == '\0') {
		*out_ns = from_local(tm);
		return true;
	}
	if (!take_char(&text, 'T') && !take_char(&text, 't') && !take_char(&text, ' '))
		return false;
	if (!take_clock(&text, &tm, &ns) || !take_zone(&text, &has_zone, &seconds_east) ||
	    *text != '\0')
		return false;
	*out_ns = has_zone ? (timegm(&tm) - seconds_east) * NS_A_SECOND + ns : from_local(tm) + ns;
	return true;
}

static bool parse_clock(const char *text, int64_t now_ns, int64_t *out_ns)
{
	struct tm tm = local_day(now_ns, 0);
	int64_t ns;

	if (!take_clock(&text, &tm, &ns) || *text != '\0')
		return false;
	*out_ns = from_local(tm) + ns;
	return true;
}

/* Seconds of the unit at the front; 0 when there is none. */
static int64_t take_unit(const char **text)
{
	static const struct {
		const char *name;
		int64_t seconds;
	} units[] = {
		{ "s", 1 },         { "sec", 1 },          { "secs", 1 },
		{ "second", 1 },    { "seconds", 1 },      { "m", 60 },
		{ "min", 60 },      { "mins", 60 },        { "minute", 60 },
		{ "minutes", 60 },  { "h", 3600 },         { "hr", 3600 },
		{ "hrs", 3600 },    { "hour", 3600 },      { "hours", 3600 },
		{ "d", 86400 },     { "day", 86400 },      { "days", 86400 },
		{ "w", 7 * 86400 }, { "week", 7 * 86400 }, { "weeks", 7 * 86400 },
	};
	size_t length = strspn(*text, "abcdefghijklmnopqrstuvwxyz");

	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (strlen(units[i].name) == length && strncmp(units[i].name, *text, length) == 0) {
			*text += length;
			return units[i].seconds;
		}
	}
	return 0;
}

static void skip_blanks(const char **text)
{
	*text += strspn(*text, " ");
}

/* NUMBER UNIT, added to *@seconds. */
static bool take_span(const char **text, int64_t *seconds)
{
	int64_t number = 0, unit;

	if (!is_digit(**text))
		return false;
	for (; is_digit(**text); (*text)++)
		if (__builtin_mul_overflow(number, (int64_t)10, &number) ||
		    __builtin_add_overflow(number, (int64_t)(**text - '0'), &number))
			return false;
	skip_blanks(text);
	unit = take_unit(text);
	skip_blanks(text);
	return unit > 0 && !__builtin_mul_overflow(number, unit, &number) &&
	       !__builtin_add_overflow(*seconds, number, seconds);
}

static bool parse_ago(const char *text, int64_t now_ns, int64_t *out_ns)
{
	int64_t seconds = 0, ns;

	do {
		if (!take_span(&text, &seconds))
			return false;
	} while (strcmp(text, "ago") != 0);
	return !__builtin_mul_overflow(seconds, NS_A_SECOND, &ns) &&
	       !__builtin_sub_overflow(now_ns, ns, out_ns);
}

int when_parse(const char *text, int64_t now_ns, int64_t *out_ns)
{
	int64_t ns;

	if (!parse_word(text, now_ns, &ns) && !parse_date(text, &ns) &&
	    !parse_clock(text, now_ns, &ns) && !parse_ago(text, now_ns, &ns))
		return -EINVAL;
	*out_ns = ns;
	return 0;
}

int64_t when_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec * NS_A_SECOND + now.tv_nsec;
}
