/* Suggest: the word that somebody meant. */
#pragma once

#include <stddef.h>

/** The one of @count @words that differs least from @word, or NULL when none is near. */
const char *suggest_nearest(const char *word, const char *const *words, size_t count);
