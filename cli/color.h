/* Color: whether to use it, and which. */
#pragma once

#include <stdbool.h>

enum color_choice { COLOR_AUTO, COLOR_ALWAYS, COLOR_NEVER };

/** Read "auto", "always" or "never". Returns whether it was one of them. */
bool color_parse(const char *text, enum color_choice *out);

/**
 * Whether to colour what goes to @fd. COLOR_AUTO: on a terminal that is not dumb, unless NO_COLOR
 * is set and not empty.
 */
bool color_is_wanted(enum color_choice choice, int fd);

#define COLOR_RESET    "\033[0m"
#define COLOR_BOLD     "\033[1m"
#define COLOR_DIM      "\033[2m"
#define COLOR_RED      "\033[31m"
#define COLOR_BOLD_RED "\033[1;31m"
#define COLOR_GREEN    "\033[32m"
#define COLOR_YELLOW   "\033[33m"
#define COLOR_BLUE     "\033[34m"
#define COLOR_MAGENTA  "\033[35m"
#define COLOR_CYAN     "\033[36m"
