#include "fusefs/who.h"

#include "base/clock.h"
#include "fusefs/execs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
	FRESH_NS = 50 * 1000,      /* exec(2) takes longer: the thread that asks again so soon runs the same program */
	HOT_NS = 10 * 1000 * 1000, /* it may give itself another name (prctl(2)), or a processor come that nobody counts: seen after that time */
};

void who_init(struct who *who, const struct execs *execs)
{
	memset(who, 0, sizeof(*who));
	who->execs = execs;
	for (int i = 0; i < WHO_SLOTS; i++)
		who->slots[i].comm_fd = -1;
}

static void forget(struct who_slot *slot)
{
	if (slot->comm_fd >= 0)
		close(slot->comm_fd);
	*slot = (struct who_slot){ .comm_fd = -1 };
}

void who_finish(struct who *who)
{
	for (int i = 0; i < WHO_SLOTS; i++)
		forget(&who->slots[i]);
}

static uint64_t count_execs(const struct who *who)
{
	return who->execs ? execs_count(who->execs) : 0;
}

/* Reads the comm of now. Returns 0, or a negative errno when the thread is gone. */
static int refresh(const struct who *who, struct who_slot *slot)
{
	char comm[EVENT_COMM_MAX + 2];
	uint64_t execs = count_execs(who);
	ssize_t n = pread(slot->comm_fd, comm, sizeof(comm), 0);

	if (n <= 0)
		return n < 0 ? -errno : -ESRCH;
	if (comm[n - 1] == '\n')
		n--;
	if (n > EVENT_COMM_MAX)
		n = EVENT_COMM_MAX;
	memcpy(slot->comm, comm, n);
	slot->comm_length = n;
	slot->checked_ns = slot->asked_ns;
	slot->execs = execs;
	return 0;
}

static pid_t read_tgid(pid_t tid)
{
	char path[32], status[512];
	const char *line;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/status", tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	n = read(fd, status, sizeof(status) - 1);
	close(fd);
	if (n <= 0)
		return 0;
	status[n] = '\0';
	line = strstr(status, "\nTgid:");
	return line ? atoi(line + 6) : 0;
}

/* pidfd_open(2) takes only the leader of a thread group, and is far cheaper than reading status. */
static pid_t process_of(pid_t tid)
{
	int fd = syscall(SYS_pidfd_open, tid, 0);

	if (fd < 0)
		return read_tgid(tid);
	close(fd);
	return tid;
}

static void learn(const struct who *who, struct who_slot *slot, pid_t tid, uint64_t now)
{
	char path[32];

	forget(slot);
	slot->tid = tid;
	slot->asked_ns = now;
	snprintf(path, sizeof(path), "/proc/%d/comm", tid);
	slot->comm_fd = open(path, O_RDONLY | O_CLOEXEC);
	if (slot->comm_fd >= 0 && refresh(who, slot) == 0)
		slot->pid = process_of(tid);
	if (slot->pid == 0)
		forget(slot);
}

/* Whether what is known of the thread is known to hold still, or held a few milliseconds ago and that is enough. */
static bool is_fresh(const struct who *who, const struct who_slot *slot, uint64_t now, bool is_hot)
{
	if (now - slot->checked_ns >= HOT_NS)
		return false;
	return who->execs ? slot->execs == count_execs(who) : is_hot || now - slot->asked_ns < FRESH_NS;
}

const struct who_slot *who_find(struct who *who, pid_t tid, bool is_hot)
{
	struct who_slot *slot = &who->slots[(unsigned)tid % WHO_SLOTS];
	uint64_t now;
	bool is_known;

	if (tid <= 0) {
		static const struct who_slot nobody = { .comm_fd = -1 };

		return &nobody;
	}
	now = clock_now_ns();
	is_known = slot->tid == tid && is_fresh(who, slot, now, is_hot);
	slot->asked_ns = now;
	if (!is_known && (slot->tid != tid || refresh(who, slot) < 0))
		learn(who, slot, tid, now);
	return slot;
}
