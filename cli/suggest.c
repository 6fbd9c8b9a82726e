/*
 * Suggest: the word that somebody meant, by the number of letters that were added, left out, or
 * mistaken.
 */
#include "cli/suggest.h"

#include <string.h>

enum { LENGTH_MAX = 32, DISTANCE_MAX = 2 };

static size_t least(size_t a, size_t b, size_t c)
{
	size_t ab = a < b ? a : b;

	return ab < c ? ab : c;
}

/* Levenshtein's distance; row[j] is that of the letters of @a so far and the first j of @b. */
static size_t distance(const char *a, const char *b)
{
	size_t row[LENGTH_MAX + 1];
	size_t length = strlen(b);

	for (size_t j = 0; j <= length; j++)
		row[j] = j;
	for (size_t i = 0; a[i]; i++) {
		size_t diagonal = row[0];

		row[0] = i + 1;
		for (size_t j = 0; j < length; j++) {
			size_t substituted = diagonal + (a[i] != b[j]);

			diagonal = row[j + 1];
			row[j + 1] = least(row[j] + 1, diagonal + 1, substituted);
		}
	}
	return row[length];
}

const char *suggest_nearest(const char *word, const char *const *words, size_t count)
{
	const char *nearest = NULL;
	size_t best = DISTANCE_MAX + 1;

	if (strlen(word) > LENGTH_MAX)
		return NULL;
	for (size_t i = 0; i < count; i++) {
		size_t d = strlen(words[i]) <= LENGTH_MAX ? distance(word, words[i]) : best;

		/* Nothing is near to a word that shares no letter with it. */
		if (d < best && d < strlen(words[i])) {
			best = d;
			nearest = words[i];
		}
	}
	return nearest;
}
