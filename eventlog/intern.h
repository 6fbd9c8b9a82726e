/*
 * Intern: a bounded memory of which bytes have which id in a table.
 *
 * It forgets when it is full: a miss never means that the table does not have them. One thread.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct intern;

/** Make room for about @entries of them. Returns 0 or -ENOMEM. */
int intern_create(size_t entries, struct intern **out);

/** Free it; NULL is fine. */
void intern_destroy(struct intern *intern);

/** The id of @size bytes at @data, 1 or more; 0 when it is not known here. */
int64_t intern_get(const struct intern *intern, const void *data, size_t size);

/** Remember the id of bytes that intern_get() did not know, copied. Without memory it does not. */
void intern_put(struct intern *intern, const void *data, size_t size, int64_t id);

/** Forget all: what was remembered may have been rolled back. */
void intern_clear(struct intern *intern);
