#include "fusefs/execs.h"

#include "check.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static struct execs *execs;

static void begin(void)
{
	int r = execs_open(&execs);

	if (r == -EACCES || r == -EPERM || r == -ENODEV || r == -ENOSYS) {
		print_message("execs cannot be counted here: %s\n", strerror(-r));
		skip();
	}
	check(r == 0);
}

static void wait_for(pid_t child)
{
	int status = -1;

	check(child > 0 && waitpid(child, &status, 0) == child);
	check(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void an_exec_is_counted_before_the_program_runs(void)
{
	int ready[2], go[2];
	uint64_t before;
	pid_t child;
	char byte;

	begin();
	check(pipe(ready) == 0 && pipe(go) == 0);
	child = fork();
	if (child == 0) {
		if (write(ready[1], "", 1) != 1 || read(go[0], &byte, 1) != 1)
			_exit(1);
		dup2(ready[1], STDOUT_FILENO);
		execl("/bin/sh", "sh", "-c", "echo; read nothing", NULL);
		_exit(1);
	}
	check(read(ready[0], &byte, 1) == 1);
	before = execs_count(execs);
	check(write(go[1], "", 1) == 1);
	check(read(ready[0], &byte, 1) == 1);
	check(execs_count(execs) != before);
	check(kill(child, SIGKILL) == 0 && waitpid(child, NULL, 0) == child);
	execs_close(execs);
}

static void a_new_name_is_counted(void)
{
	uint64_t before;

	begin();
	before = execs_count(execs);
	check(prctl(PR_SET_NAME, "another") == 0);
	check(execs_count(execs) != before);
	execs_close(execs);
}

static void a_process_that_begins_is_counted_before_it_runs(void)
{
	uint64_t before;
	int ready[2];
	pid_t child;
	char byte;

	begin();
	check(pipe(ready) == 0);
	before = execs_count(execs);
	child = fork();
	if (child == 0)
		_exit(write(ready[1], "", 1) != 1);
	check(read(ready[0], &byte, 1) == 1);
	check(execs_count(execs) != before);
	wait_for(child);
	execs_close(execs);
}

/* Else it would be of no use. Others may do such things here at any time, but not all the time. */
static void nothing_is_counted_while_nothing_happens(void)
{
	bool was_still = false;

	begin();
	for (int i = 0; i < 1000 && !was_still; i++) {
		uint64_t before = execs_count(execs);

		usleep(100);
		was_still = execs_count(execs) == before;
	}
	check(was_still);
	execs_close(execs);
}

static void it_goes_on_after_its_ring_is_full(void)
{
	begin();
	for (int i = 0; i < 1000; i++) {
		uint64_t before = execs_count(execs);

		check(prctl(PR_SET_NAME, i % 2 ? "odd" : "even") == 0);
		check(execs_count(execs) != before);
	}
	execs_close(execs);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		unit(an_exec_is_counted_before_the_program_runs),
		unit(a_new_name_is_counted),
		unit(a_process_that_begins_is_counted_before_it_runs),
		unit(nothing_is_counted_while_nothing_happens),
		unit(it_goes_on_after_its_ring_is_full),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
