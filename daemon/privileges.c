#include "daemon/privileges.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BIT(capability) (UINT64_C(1) << (capability))

/*
 * What a worker does for the callers of the file system, whose own rights the kernel has checked: each of these is what some system call of
 * root's succeeds by on the file system underneath. Not CAP_SYS_RESOURCE: it would lift the quotas of all callers.
 */
static const uint64_t worker_set =
	BIT(CAP_CHOWN) | BIT(CAP_DAC_OVERRIDE) | BIT(CAP_FOWNER) | BIT(CAP_FSETID) |
	BIT(CAP_SETUID) | BIT(CAP_SETGID) | /* a new file is its caller's, by setfsuid(2) */
	BIT(CAP_DAC_READ_SEARCH) |          /* open_by_handle_at(2) */
	BIT(CAP_SYS_ADMIN) |                /* passthrough; trusted.* and security.* attributes; perf_event_open(2) */
	BIT(CAP_SETFCAP) |                  /* security.capability */
	BIT(CAP_MKNOD) |
	BIT(CAP_LEASE) |                    /* whether somebody else writes to a file (fusefs/mapped.h) */
	BIT(CAP_LINUX_IMMUTABLE);           /* FS_IOC_SETFLAGS */

/* Over that, to enter the mount namespace of -N. Mounting itself is CAP_SYS_ADMIN's. */
static const uint64_t namespace_set = BIT(CAP_SYS_CHROOT);

static int read_sets(struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3])
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };

	return syscall(SYS_capget, &header, data) < 0 ? -errno : 0;
}

static int write_sets(const struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3])
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };

	return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}

/* Needs CAP_SETPCAP, so it comes before the rest. The kernel may know more capabilities than this program. */
static int bound(uint64_t kept)
{
	for (int capability = 0; prctl(PR_CAPBSET_READ, capability) >= 0; capability++)
		if (!(kept & BIT(capability)) && prctl(PR_CAPBSET_READ, capability) == 1 &&
		    prctl(PR_CAPBSET_DROP, capability) < 0)
			return -errno;
	return 0;
}

static int keep_only(uint64_t kept)
{
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = { 0 };
	int r = read_sets(data);

	if (r < 0)
		return r;
	if (data[0].effective & BIT(CAP_SETPCAP))
		r = bound(kept);
	if (r < 0)
		return r;
	for (size_t i = 0; i < _LINUX_CAPABILITY_U32S_3; i++) {
		data[i].permitted &= (uint32_t)(kept >> (32 * i));
		data[i].effective &= data[i].permitted;
		data[i].inheritable = 0;
	}
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
		return -errno;
	return write_sets(data);
}

static int execute_nothing_greater(void)
{
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0;
}

int privileges_drop_in_supervisor(bool enters_namespace)
{
	int r;

	if (geteuid() != 0)
		return 0;
	r = execute_nothing_greater();
	/* Setting the bits of a worker's threads, and dropping from the bounding set, is the right of CAP_SETPCAP. */
	return r < 0 ? r : keep_only(worker_set | BIT(CAP_SETPCAP) | (enters_namespace ? namespace_set : 0));
}

/* Threads inherit the bits: their capabilities stay when they act with a caller's ids. */
static int keep_over_setfsuid(void)
{
	return prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP) < 0 ? -errno : 0;
}

int privileges_drop_in_worker(void)
{
	int r = execute_nothing_greater();

	if (r < 0 || geteuid() != 0)
		return r;
	/* Where it may not be set, in a container maybe, the threads find out and say so. */
	(void)keep_over_setfsuid();
	return keep_only(worker_set);
}
