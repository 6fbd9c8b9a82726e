#include "daemon/scheduling.h"

#include "base/scope.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/ioprio.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What the namespace is called in which paths of cgroups are whole: CGROUP_NS_INIT_INO in nsfs.h of Linux 6.18. */
#define INITIAL_NAMESPACE "cgroup:[4026531835]"

enum hierarchy { NO_HIERARCHY, FIRST_VERSION, SECOND_VERSION };

struct cgroup {
	enum hierarchy hierarchy;
	char path[PATH_MAX];
};

/* Returns NULL if the file, named from the root, cannot be read. */
__attribute__((format(printf, 2, 3))) static FILE *open_file(int root_fd, const char *format, ...)
{
	scoped(closep) int fd = -1;
	char *path;
	va_list args;
	FILE *stream;
	int r;

	va_start(args, format);
	r = vasprintf(&path, format, args);
	va_end(args);
	if (r < 0)
		return NULL;
	fd = openat(root_fd, path, O_RDONLY | O_CLOEXEC);
	free(path);
	stream = fd < 0 ? NULL : fdopen(fd, "r");
	if (stream)
		(void)take_fd(fd);
	return stream;
}

static bool exists(FILE *stream)
{
	if (stream)
		fclose(stream);
	return stream != NULL;
}

static bool has_word(const char *list, const char *word)
{
	size_t length = strlen(word);

	for (const char *at = list; (at = strstr(at, word)); at += length)
		if ((at == list || at[-1] == ',') && (at[length] == ',' || at[length] == '\0'))
			return true;
	return false;
}

/* The cgroup that decides about processors, from lines "ID:CONTROLLERS:PATH". The second version has the ID 0, and the first goes before it. */
static void find_cgroup(int root_fd, struct cgroup *cgroup)
{
	scoped(fclosep) FILE *stream = open_file(root_fd, "proc/self/cgroup");
	scoped(freep) char *line = NULL;
	size_t size = 0;

	cgroup->hierarchy = NO_HIERARCHY;
	while (stream && cgroup->hierarchy != FIRST_VERSION && getline(&line, &size, stream) > 0) {
		char *rest = line, *id = strsep(&rest, ":"), *controllers = strsep(&rest, ":"), *path = strsep(&rest, "\n");

		if (!path || strlen(path) >= sizeof(cgroup->path))
			continue;
		if (has_word(controllers, "cpu"))
			cgroup->hierarchy = FIRST_VERSION;
		else if (strcmp(id, "0") == 0)
			cgroup->hierarchy = SECOND_VERSION;
		else
			continue;
		strcpy(cgroup->path, path);
	}
}

/* Whether the scheduler has a group for the first @length bytes of @path. Not for the root: who is there is in no group. */
static bool has_weight(int root_fd, const char *path, size_t length)
{
	return exists(open_file(root_fd, "sys/fs/cgroup%.*s/cpu.weight", (int)length, path));
}

static bool holds_only_us(int root_fd, const char *path)
{
	scoped(fclosep) FILE *stream = open_file(root_fd, "sys/fs/cgroup%s/cgroup.procs", path);
	long pid;
	int n;

	if (!stream)
		return false;
	while ((n = fscanf(stream, "%ld", &pid)) == 1)
		if (pid != getpid() && pid != getppid())
			return false;
	return n == EOF;
}

static bool is_initial_namespace(int root_fd)
{
	char name[sizeof(INITIAL_NAMESPACE)];
	ssize_t length = readlinkat(root_fd, "proc/self/ns/cgroup", name, sizeof(name));

	return length == sizeof(name) - 1 && memcmp(name, INITIAL_NAMESPACE, length) == 0;
}

/* The kernel makes a group of each session, for those whom no cgroup has put in one already. */
static bool is_grouped_by_session(int root_fd, const struct cgroup *cgroup)
{
	scoped(fclosep) FILE *stream = open_file(root_fd, "proc/sys/kernel/sched_autogroup_enabled");

	if (!stream || getc(stream) != '1' || !is_initial_namespace(root_fd))
		return false;
	return strcmp(cgroup->path, "/") == 0 ||
	       (cgroup->hierarchy == SECOND_VERSION && !has_weight(root_fd, cgroup->path, 1 + strcspn(cgroup->path + 1, "/")));
}

bool scheduling_group_is_own(int root_fd)
{
	struct cgroup cgroup;

	find_cgroup(root_fd, &cgroup);
	if (cgroup.hierarchy == NO_HIERARCHY)
		return false;
	if (cgroup.hierarchy == SECOND_VERSION && !exists(open_file(root_fd, "sys/fs/cgroup/cgroup.controllers")))
		return false;
	if (cgroup.hierarchy == SECOND_VERSION && has_weight(root_fd, cgroup.path, strlen(cgroup.path)))
		return holds_only_us(root_fd, cgroup.path);
	return is_grouped_by_session(root_fd, &cgroup);
}

/* Without a priority of its own a thread's I/O follows its class, and would come after everybody's. */
static bool keep_io_priority(void)
{
	long priority = syscall(SYS_ioprio_get, IOPRIO_WHO_PROCESS, 0);

	if (priority >= 0 && IOPRIO_PRIO_CLASS(priority) == IOPRIO_CLASS_NONE)
		priority = IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, IOPRIO_BE_NORM);
	return priority >= 0 && syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, (int)priority) == 0;
}

bool scheduling_yield(void)
{
	const struct sched_param none = { 0 };
	scoped(closep) int root_fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

	return getsid(0) == getpid() && scheduling_group_is_own(root_fd) && keep_io_priority() &&
	       sched_setscheduler(0, SCHED_IDLE, &none) == 0;
}
