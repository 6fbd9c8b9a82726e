/*
 * Log: one line a message, one write(2) a line.
 *
 * A message is put together in a buffer on the stack and cut when it is longer. It may quote
 * what an outsider chose (a path, a line of a protocol): control characters become '?', so a
 * message stays one line and cannot steer a terminal.
 */
#include "base/log.h"

#include "base/fdutil.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 2048 };

static struct {
	const char *program;
	enum log_level level;
	bool to_journal;
} logger = { .program = "hrfs", .level = LOG_INFO };

/*
 * $JOURNAL_STREAM is inherited by programs whose stderr has been redirected since, so the inode
 * decides.
 */
static bool is_stderr_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	uintmax_t device, inode;
	struct stat st;

	if (!stream || sscanf(stream, "%ju:%ju", &device, &inode) != 2)
		return false;
	return fstat(STDERR_FILENO, &st) == 0 && st.st_dev == device && st.st_ino == inode;
}

void log_init(const char *program, enum log_level level)
{
	logger.program = program;
	logger.level = level;
	logger.to_journal = is_stderr_journal();
}

bool log_is_shown(enum log_level level)
{
	return level <= logger.level;
}

/* The priorities are syslog(3)'s. */
static int write_prefix(char *line, size_t size, enum log_level level)
{
	static const char *const priorities[] = {
		[LOG_ERROR] = "<3>",
		[LOG_WARNING] = "<4>",
		[LOG_INFO] = "<6>",
		[LOG_DEBUG] = "<7>",
	};

	return snprintf(line, size, "%s%.64s: ", logger.to_journal ? priorities[level] : "",
			logger.program);
}

static void hide_control_characters(char *text, size_t size)
{
	for (size_t i = 0; i < size; i++)
		if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
			text[i] = '?';
}

void log_message(enum log_level level, const char *format, ...)
{
	int saved_errno = errno;
	char line[LINE_MAX_BYTES];
	size_t size;
	va_list args;
	int written;

	if (!log_is_shown(level))
		return;

	size = write_prefix(line, sizeof(line), level);

	/* %m in a format means the errno of the caller. */
	errno = saved_errno;
	va_start(args, format);
	written = vsnprintf(line + size, sizeof(line) - size, format, args);
	va_end(args);

	if (written > 0) {
		size_t room = sizeof(line) - size - 1;
		size_t length = (size_t)written < room ? (size_t)written : room;

		hide_control_characters(line + size, length);
		size += length;
	}
	line[size++] = '\n';

	/* There is nobody to tell when stderr fails. */
	(void)fd_write_all(STDERR_FILENO, line, size);
	errno = saved_errno;
}
