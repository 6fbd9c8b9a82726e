#include "fusefs/streams.h"

#include "check.h"
#include "fusefs/file.h"

#include <fcntl.h>
#include <stdbool.h>
#include <unistd.h>

enum { MANY = 1000, LIMIT = 128, US = 4711, OTHERS };

/* The descriptor stands for the open directory. */
static struct file *begin(struct streams *streams, uint64_t nodeid)
{
	struct file *file = streams_take(streams, nodeid, US, 0);

	check(file && file->nodeid == nodeid && file->is_dir && file->fd == -1);
	file->fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	check(file->fd >= 0);
	return file;
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

static void what_is_read_on_is_the_same_open_directory(void)
{
	struct streams *streams;
	struct file *file;
	int fd;

	check(streams_create(LIMIT, &streams) == 0);
	file = begin(streams, 7);
	fd = file->fd;
	file->dir_next = 100;
	streams_put(streams, file, US, false);
	file = streams_take(streams, 7, US, 100);
	check(file->fd == fd && is_open(fd));
	streams_put(streams, file, US, true);
	check(!is_open(fd));
	streams_destroy(streams);
}

static void another_position_directory_or_thread_is_another_stream(void)
{
	struct streams *streams;
	struct file *file;

	check(streams_create(LIMIT, &streams) == 0);
	file = begin(streams, 7);
	file->dir_next = 100;
	streams_put(streams, file, US, false);
	for (int i = 0; i < 3; i++) {
		file = streams_take(streams, i == 0 ? 8 : 7, i == 2 ? OTHERS : US, i == 1 ? 101 : 100);
		check(file->fd == -1);
		streams_put(streams, file, US, true);
	}
	file = streams_take(streams, 7, US, 100);
	check(file->fd >= 0);
	streams_put(streams, file, US, true);
	streams_destroy(streams);
}

static void who_begins_again_reads_on_from_the_new_beginning(void)
{
	struct streams *streams;
	struct file *file;
	int first_fd, second_fd;

	check(streams_create(LIMIT, &streams) == 0);
	file = begin(streams, 7);
	first_fd = file->fd;
	file->dir_next = 100;
	streams_put(streams, file, US, false);
	/* The same thread: what it read before is over. */
	file = begin(streams, 7);
	second_fd = file->fd;
	file->dir_next = 100;
	streams_put(streams, file, US, false);
	file = streams_take(streams, 7, US, 100);
	check(file->fd == second_fd && (first_fd == second_fd || !is_open(first_fd)));
	streams_put(streams, file, US, true);
	check(streams_is_empty(streams));
	streams_destroy(streams);
}

static void many_are_not_all_kept_open(void)
{
	struct streams *streams;
	unsigned open_count = 0;
	int fds[MANY];

	check(streams_create(LIMIT, &streams) == 0);
	for (unsigned i = 0; i < MANY; i++) {
		struct file *file = begin(streams, 1 + i);

		fds[i] = file->fd;
		file->dir_next = 1;
		streams_put(streams, file, US, false);
	}
	for (unsigned i = 1; i <= MANY; i++) {
		struct file *file = streams_take(streams, i, US, 1);

		open_count += file->fd >= 0;
		/* The latest are those that are left. */
		check(file->fd == -1 || i > MANY - LIMIT);
		streams_put(streams, file, US, true);
	}
	check(open_count == LIMIT);
	streams_destroy(streams);
	for (unsigned i = 0; i < MANY; i++)
		check(!is_open(fds[i]));
}

static void what_was_just_read_is_not_idle(void)
{
	struct streams *streams;
	struct file *file;

	check(streams_create(LIMIT, &streams) == 0);
	check(streams_is_empty(streams));
	file = begin(streams, 7);
	file->dir_next = 1;
	streams_put(streams, file, US, false);
	streams_close_idle(streams);
	check(!streams_is_empty(streams));
	file = streams_take(streams, 7, US, 1);
	check(file->fd >= 0);
	streams_put(streams, file, US, true);
	streams_destroy(streams);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		unit(what_is_read_on_is_the_same_open_directory),
		unit(another_position_directory_or_thread_is_another_stream),
		unit(who_begins_again_reads_on_from_the_new_beginning),
		unit(many_are_not_all_kept_open),
		unit(what_was_just_read_is_not_idle),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
