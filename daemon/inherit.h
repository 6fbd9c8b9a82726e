/* Inherit: what a process that was forked keeps of its parent's descriptors. */
#pragma once

#include <stddef.h>

/** Close all descriptors from 3 on but the @count in @kept, where -1 is nothing. */
void inherit_only(const int *kept, size_t count);

/** Replace stdin, stdout and stderr by /dev/null. */
void inherit_no_stdio(void);
