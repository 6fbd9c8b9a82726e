#include "base/log.h"

#include "base/scope.h"
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char captured[8192];
static int saved_stderr = -1;

/* Send stderr to a new file; returns it, so that a test can pretend that it is the journal. */
static int capture_start(void)
{
	int fd = open(scratch("stderr"), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	check(fd >= 0);
	saved_stderr = dup(STDERR_FILENO);
	check(dup2(fd, STDERR_FILENO) == STDERR_FILENO);
	return fd;
}

/* What was written; gives stderr back and closes @fd. */
static const char *capture_end(int fd)
{
	ssize_t size = pread(fd, captured, sizeof(captured) - 1, 0);

	dup2(saved_stderr, STDERR_FILENO);
	close(saved_stderr);
	close(fd);
	check(size >= 0);
	captured[size] = '\0';
	return captured;
}

static void a_message_is_a_line_with_the_program_name(void)
{
	int fd = capture_start();

	log_init("unit", LOG_INFO);
	log_error("one %d", 1);
	log_info("two");
	check(strcmp(capture_end(fd), "unit: one 1\nunit: two\n") == 0);
}

static void the_level_decides_what_is_shown(void)
{
	int fd = capture_start();

	log_init("unit", LOG_WARNING);
	log_debug("no");
	log_info("no");
	log_warning("yes");
	check(strcmp(capture_end(fd), "unit: yes\n") == 0);
	check(log_is_shown(LOG_ERROR) && log_is_shown(LOG_WARNING) && !log_is_shown(LOG_INFO));
}

static void quoted_control_characters_cannot_make_lines(void)
{
	int fd = capture_start();

	log_init("unit", LOG_INFO);
	log_error("bad name %s", "a\nunit: b\x1b[31m\xc3\xa9");
	check(strcmp(capture_end(fd), "unit: bad name a?unit: b?[31m\xc3\xa9\n") == 0);
}

static void a_long_message_is_cut_and_stays_a_line(void)
{
	int fd = capture_start();
	const char *text;

	log_init("unit", LOG_INFO);
	log_error("%5000d", 1);
	text = capture_end(fd);
	check(strlen(text) > 1000 && strlen(text) < 5000);
	check(strchr(text, '\n') == text + strlen(text) - 1);
}

static void errno_survives_and_is_known_to_the_format(void)
{
	int fd = capture_start();

	log_init("unit", LOG_INFO);
	errno = ENOENT;
	log_error("it: %m");
	check(errno == ENOENT);
	check(strcmp(capture_end(fd), "unit: it: No such file or directory\n") == 0);
}

static void the_journal_gets_priorities_and_others_do_not(void)
{
	char stream[64];
	struct stat st;
	int fd = capture_start();

	check(fstat(fd, &st) == 0);
	snprintf(stream, sizeof(stream), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
	setenv("JOURNAL_STREAM", stream, 1);
	log_init("unit", LOG_DEBUG);
	log_error("a");
	log_debug("b");

	snprintf(stream, sizeof(stream), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino + 1);
	setenv("JOURNAL_STREAM", stream, 1);
	log_init("unit", LOG_DEBUG);
	log_error("c");
	unsetenv("JOURNAL_STREAM");
	check(strcmp(capture_end(fd), "<3>unit: a\n<7>unit: b\nunit: c\n") == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		unit(a_message_is_a_line_with_the_program_name),
		unit(the_level_decides_what_is_shown),
		unit(quoted_control_characters_cannot_make_lines),
		unit(a_long_message_is_cut_and_stays_a_line),
		unit(errno_survives_and_is_known_to_the_format),
		unit(the_journal_gets_priorities_and_others_do_not),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
