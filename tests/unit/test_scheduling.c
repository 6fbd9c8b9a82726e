#include "daemon/scheduling.h"

#include "base/scope.h"
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What the kernel says of this process, laid out below a folder of the test's. */
static int root_fd;

/* Make the folders above @path, then the file with @text. */
static void put(const char *path, const char *text)
{
	scoped(freep) char *copy = strdup(path);
	scoped(closep) int fd = -1;

	for (char *slash = copy; (slash = strchr(slash, '/')); *slash++ = '/') {
		*slash = '\0';
		check(mkdirat(root_fd, copy, 0700) == 0 || errno == EEXIST);
	}
	fd = openat(root_fd, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	check(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
}

static void put_processes(const char *path, pid_t other)
{
	char text[64];

	snprintf(text, sizeof(text), "%d\n%d\n", getpid(), other);
	put(path, text);
}

/* A kernel with groups by session, and with @line for our cgroup. */
static void begin(const char *name, const char *line)
{
	const char *folder = scratch(name);

	check(mkdir(folder, 0700) == 0);
	root_fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	check(root_fd >= 0);
	put("proc/sys/kernel/sched_autogroup_enabled", "1\n");
	put("proc/self/cgroup", line);
	put("proc/self/ns/pid", "");
	check(symlinkat("cgroup:[4026531835]", root_fd, "proc/self/ns/cgroup") == 0);
}

static void a_session_is_a_group_in_the_root_of_the_first_version(void)
{
	begin(__func__, "4:memory:/a\n2:cpuacct:/b\n1:cpu:/\n0::/c\n");
	check(scheduling_group_is_own(root_fd));
	put("proc/sys/kernel/sched_autogroup_enabled", "0\n");
	check(!scheduling_group_is_own(root_fd));
	close(root_fd);
}

static void a_session_is_none_elsewhere_in_the_first_version(void)
{
	begin(__func__, "3:memory:/\n2:cpu,cpuacct:/user.slice\n0::/\n");
	check(!scheduling_group_is_own(root_fd));
	close(root_fd);
}

static void the_root_of_a_container_is_not_the_root(void)
{
	begin(__func__, "1:cpu:/\n");
	check(unlinkat(root_fd, "proc/self/ns/cgroup", 0) == 0);
	check(symlinkat("cgroup:[4026532835]", root_fd, "proc/self/ns/cgroup") == 0);
	check(!scheduling_group_is_own(root_fd));
	close(root_fd);
}

static void a_session_is_a_group_where_the_second_version_does_not_weigh(void)
{
	begin(__func__, "0::/user.slice/session-1.scope\n");
	check(!scheduling_group_is_own(root_fd)); /* /sys/fs/cgroup is something else */
	put("sys/fs/cgroup/cgroup.controllers", "cpu memory\n");
	put("sys/fs/cgroup/user.slice/session-1.scope/cgroup.procs", "1\n2\n");
	check(scheduling_group_is_own(root_fd));
	/* Then all below the slice are one group. */
	put("sys/fs/cgroup/user.slice/cpu.weight", "100\n");
	check(!scheduling_group_is_own(root_fd));
	close(root_fd);
}

static void a_cgroup_that_weighs_must_be_ours_alone(void)
{
	begin(__func__, "0::/system.slice/hrfs.service\n");
	put("sys/fs/cgroup/cgroup.controllers", "cpu memory\n");
	put("sys/fs/cgroup/system.slice/cpu.weight", "100\n");
	put("sys/fs/cgroup/system.slice/hrfs.service/cpu.weight", "100\n");
	check(!scheduling_group_is_own(root_fd)); /* who is in it cannot be read */
	put_processes("sys/fs/cgroup/system.slice/hrfs.service/cgroup.procs", getppid());
	check(scheduling_group_is_own(root_fd));
	put_processes("sys/fs/cgroup/system.slice/hrfs.service/cgroup.procs", 1 + (getppid() == 1));
	check(!scheduling_group_is_own(root_fd));
	close(root_fd);
}

static void without_proc_nothing_is_ours(void)
{
	begin(__func__, "");
	put("sys/fs/cgroup/cgroup.controllers", "cpu\n");
	check(!scheduling_group_is_own(root_fd));
	check(unlinkat(root_fd, "proc/self/cgroup", 0) == 0);
	check(!scheduling_group_is_own(root_fd));
	close(root_fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		unit(a_session_is_a_group_in_the_root_of_the_first_version),
		unit(a_session_is_none_elsewhere_in_the_first_version),
		unit(the_root_of_a_container_is_not_the_root),
		unit(a_session_is_a_group_where_the_second_version_does_not_weigh),
		unit(a_cgroup_that_weighs_must_be_ours_alone),
		unit(without_proc_nothing_is_ours),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
