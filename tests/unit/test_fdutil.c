#include "base/fdutil.h"

#include "base/scope.h"
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

enum { MUCH = 1 << 20 }; /* more than a pipe holds */

static void do_nothing(int signal)
{
}

/* Interrupt system calls all the time, without SA_RESTART. */
static void start_interrupting(void)
{
	const struct sigaction action = { .sa_handler = do_nothing };
	const struct itimerval often = { .it_interval.tv_usec = 200, .it_value.tv_usec = 200 };

	check(sigaction(SIGALRM, &action, NULL) == 0);
	check(setitimer(ITIMER_REAL, &often, NULL) == 0);
}

static void stop_interrupting(void)
{
	setitimer(ITIMER_REAL, &(struct itimerval){ 0 }, NULL);
}

static char pattern[MUCH];

static void *write_slowly(void *userdata)
{
	int fd = *(int *)userdata;

	for (size_t done = 0; done < sizeof(pattern); done += sizeof(pattern) / 16) {
		usleep(2000);
		if (fd_write_all(fd, pattern + done, sizeof(pattern) / 16) < 0)
			break;
	}
	close(fd);
	return NULL;
}

static void reads_and_writes_are_whole_through_short_ones_and_signals(void)
{
	static char received[MUCH];
	pthread_t writer;
	int fds[2];

	for (size_t i = 0; i < sizeof(pattern); i++)
		pattern[i] = i * 7 + (i >> 8);
	check(pipe2(fds, O_CLOEXEC) == 0);
	start_interrupting();
	check(pthread_create(&writer, NULL, write_slowly, &fds[1]) == 0);

	check(fd_read_all(fds[0], received, sizeof(received)) == MUCH);
	check(memcmp(received, pattern, sizeof(pattern)) == 0);
	check(fd_read_all(fds[0], received, 1) == 0);

	pthread_join(writer, NULL);
	stop_interrupting();
	close(fds[0]);
}

static void a_read_ends_at_the_end_of_the_file(void)
{
	scoped(closep) int fd = open(scratch("short"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	char buffer[16];

	check(fd >= 0);
	check(fd_write_all(fd, "hello", 5) == 0);
	check(fd_write_all(fd, NULL, 0) == 0);
	check(lseek(fd, 0, SEEK_SET) == 0);
	check(fd_read_all(fd, buffer, sizeof(buffer)) == 5);
	check(memcmp(buffer, "hello", 5) == 0);
}

static void failures_are_negative_errnos(void)
{
	scoped(closep) int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
	char c = 0;

	check(fd_write_all(full, &c, 1) == -ENOSPC);
	check(fd_write_all(-1, &c, 1) == -EBADF);
	check(fd_read_all(-1, &c, 1) == -EBADF);
	check(fd_set_nonblocking(-1, true) == -EBADF);
	check(fd_set_cloexec(-1, true) == -EBADF);
}

static void flags_go_on_and_off_and_others_stay(void)
{
	int fds[2];

	check(pipe2(fds, O_DIRECT) == 0);
	check(fd_set_nonblocking(fds[1], true) == 0);
	check((fcntl(fds[1], F_GETFL) & (O_NONBLOCK | O_DIRECT)) == (O_NONBLOCK | O_DIRECT));
	check(fd_set_nonblocking(fds[1], false) == 0);
	check((fcntl(fds[1], F_GETFL) & (O_NONBLOCK | O_DIRECT)) == O_DIRECT);

	check(fd_set_cloexec(fds[1], true) == 0);
	check(fcntl(fds[1], F_GETFD) == FD_CLOEXEC);
	check(fd_set_cloexec(fds[1], false) == 0);
	check(fcntl(fds[1], F_GETFD) == 0);
	close(fds[0]);
	close(fds[1]);
}

static void a_file_is_opened_only_when_it_is_of_its_own(void)
{
	scoped(closep) int dir_fd = open(scratch("."), O_PATH | O_DIRECTORY | O_CLOEXEC);
	scoped(closep) int fd = fd_open_own(dir_fd, "file", O_RDWR | O_CREAT);

	check(fd >= 0);
	check(linkat(dir_fd, "file", dir_fd, "second", 0) == 0);
	check(fd_open_own(dir_fd, "file", O_RDWR) == -EMLINK);
	check(symlinkat("file", dir_fd, "link") == 0);
	check(fd_open_own(dir_fd, "link", O_RDWR | O_CREAT) == -ELOOP);
	check(mkfifoat(dir_fd, "pipe", 0600) == 0);
	check(fd_open_own(dir_fd, "pipe", O_RDWR) == -EINVAL);
	check(fd_open_own(dir_fd, "pipe", O_WRONLY) == -ENXIO);
	check(fd_open_own(dir_fd, "missing", O_RDWR) == -ENOENT);
}

static void closed_standard_descriptors_are_taken_and_cannot_be_written_to(void)
{
	int saved[3];
	char c = 0;
	int r;

	for (int fd = 0; fd < 3; fd++) {
		saved[fd] = fcntl(fd, F_DUPFD_CLOEXEC, 3);
		check(saved[fd] >= 0);
	}
	close(STDIN_FILENO);
	close(STDOUT_FILENO);
	r = fd_reserve_stdio();
	if (r == 0)
		r = fd_write_all(STDOUT_FILENO, &c, 1);
	for (int fd = 0; fd < 3; fd++) {
		dup2(saved[fd], fd);
		close(saved[fd]);
	}
	check(r == -EBADF);
	/* What is open stays what it is. */
	r = fcntl(STDERR_FILENO, F_GETFL);
	check(fd_reserve_stdio() == 0);
	check(fcntl(STDERR_FILENO, F_GETFL) == r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		unit(reads_and_writes_are_whole_through_short_ones_and_signals),
		unit(a_read_ends_at_the_end_of_the_file),
		unit(failures_are_negative_errnos),
		unit(flags_go_on_and_off_and_others_stay),
		unit(a_file_is_opened_only_when_it_is_of_its_own),
		unit(closed_standard_descriptors_are_taken_and_cannot_be_written_to),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
