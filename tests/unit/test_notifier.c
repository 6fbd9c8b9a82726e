#include "fusefs/notifier.h"

#include "check.h"

#include <errno.h>
#include <linux/fuse.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PATIENCE_MS = 20000 };

struct notice {
	struct fuse_out_header header;
	struct fuse_notify_inval_inode_out body;
};

/* In place of /dev/fuse: what is written at once comes at once. */
static void make_kernel(int ends[2])
{
	check(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
}

static void is_told(int kernel, uint64_t nodeid)
{
	struct pollfd one = { .fd = kernel, .events = POLLIN };
	struct notice notice;

	check(poll(&one, 1, PATIENCE_MS) == 1);
	check(recv(kernel, &notice, sizeof(notice), 0) == sizeof(notice));
	check(notice.header.len == sizeof(notice) && notice.header.unique == 0);
	check(notice.header.error == FUSE_NOTIFY_INVAL_INODE);
	check(notice.body.ino == nodeid && notice.body.off == 0 && notice.body.len == 0);
}

/* The process that was forked last: one of an earlier test may not have been waited for. */
static pid_t child(void)
{
	FILE *list = fopen("/proc/thread-self/children", "re");
	int pid = 0;

	check(list);
	while (fscanf(list, "%d", &pid) == 1)
		;
	fclose(list);
	check(pid > 0);
	return pid;
}

static void the_kernel_is_told_of_each(void)
{
	uint64_t nodeids[NOTIFIER_BATCH];
	struct notifier *notifier;
	int kernel[2];

	make_kernel(kernel);
	check(notifier_start(kernel[1], &notifier) == 0);
	for (uint64_t i = 0; i < NOTIFIER_BATCH; i++)
		nodeids[i] = 1000 + i;
	check(notifier_drop(notifier, nodeids, NOTIFIER_BATCH));
	check(notifier_drop(notifier, nodeids, 1));
	for (uint64_t i = 0; i < NOTIFIER_BATCH; i++)
		is_told(kernel[0], 1000 + i);
	is_told(kernel[0], 1000);
	notifier_stop(notifier);
	close(kernel[0]);
	close(kernel[1]);
}

static void who_is_told_does_not_wait_for_the_kernel(void)
{
	uint64_t nodeids[NOTIFIER_BATCH] = { 0 };
	struct notifier *notifier;
	unsigned told = 0;
	int kernel[2];

	make_kernel(kernel);
	check(notifier_start(kernel[1], &notifier) == 0);
	/* Nobody reads, so the process waits, and at last there is no room. */
	while (notifier_drop(notifier, nodeids, NOTIFIER_BATCH))
		check(++told < 1000 * 1000);
	check(told > 0);
	/* It ends when it gets what it waits for; that is not waited for. */
	notifier_stop(notifier);
	close(kernel[0]);
	close(kernel[1]);
}

static void one_that_was_killed_is_started_again(void)
{
	struct notifier *notifier;
	uint64_t nodeid = 7;
	int kernel[2];

	make_kernel(kernel);
	check(notifier_start(kernel[1], &notifier) == 0);
	check(kill(child(), SIGKILL) == 0);
	for (int i = 0; i < PATIENCE_MS && poll(&(struct pollfd){ .fd = kernel[0], .events = POLLIN }, 1, 1) == 0; i++)
		(void)notifier_drop(notifier, &nodeid, 1);
	is_told(kernel[0], 7);
	notifier_stop(notifier);
	close(kernel[0]);
	close(kernel[1]);
}

static void it_has_no_other_descriptor(void)
{
	char path[64], link[64];
	struct notifier *notifier;
	int kernel[2];
	pid_t pid;

	make_kernel(kernel);
	check(notifier_start(kernel[1], &notifier) == 0);
	pid = child();
	/* When it has told the first thing it has closed the others. */
	check(notifier_drop(notifier, &(uint64_t){ 7 }, 1));
	is_told(kernel[0], 7);
	for (int fd = 0; fd < 64; fd++) {
		snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, fd);
		check((readlink(path, link, sizeof(link)) >= 0) == (fd < 2));
	}
	notifier_stop(notifier);
	/* If it was not waited for already, it ends by itself. */
	check(waitpid(pid, NULL, 0) == pid || errno == ECHILD);
	close(kernel[0]);
	close(kernel[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		unit(the_kernel_is_told_of_each),
		unit(who_is_told_does_not_wait_for_the_kernel),
		unit(one_that_was_killed_is_started_again),
		unit(it_has_no_other_descriptor),
	};

	/* As the worker does. */
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
