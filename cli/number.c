/* Number: what is written in digits on a command line. */
#include "cli/number.h"

bool number_parse(const char *text, uint64_t most, uint64_t *out)
{
	uint64_t number = 0;

	if (!*text)
		return false;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return false;
		if (__builtin_mul_overflow(number, UINT64_C(10), &number) ||
		    __builtin_add_overflow(number, (uint64_t)(*text - '0'), &number))
			return false;
	}
	if (number > most)
		return false;
	*out = number;
	return true;
}
