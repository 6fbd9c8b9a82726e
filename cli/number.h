/* Number: what is written in digits on a command line. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/** Read a whole number that is nothing but digits and at most @most. Returns whether it was one. */
bool number_parse(const char *text, uint64_t most, uint64_t *out);
