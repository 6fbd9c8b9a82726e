/*
 * Fuzz: what the targets share. Each is a program of libFuzzer's: it takes arbitrary bytes, and nothing that the
 * sanitizers call an error may come of them.
 *
 *     tools/fuzz                    all targets, for a minute each
 *     tools/fuzz journal 600        one of them
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/** What libFuzzer calls. Returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
