/*
 * Log: messages for the person who runs the program.
 *
 * One line a message on stderr, prefixed with the program's name; when stderr is the
 * journal (JOURNAL_STREAM) the line carries a <N> priority prefix instead. The level is
 * the one global of the tree, set once by main(). Thread-safe: a message is one write(2).
 */
#pragma once

#include <stdbool.h>

enum log_level {
	LOG_ERROR,
	LOG_WARNING,
	LOG_INFO,
	LOG_DEBUG,
};

/** Set the program's name (borrowed for the life of the process) and the most talkative level shown. */
void log_init(const char *program, enum log_level level);

/** Whether messages of @level are shown; to skip expensive arguments. */
bool log_is_shown(enum log_level level);

/** Write one message; printf-like, without the newline. */
void log_message(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_message(LOG_ERROR, __VA_ARGS__)
#define log_warning(...) log_message(LOG_WARNING, __VA_ARGS__)
#define log_info(...) log_message(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_message(LOG_DEBUG, __VA_ARGS__)
