#include "daemon/setup.h"

#include "base/fdutil.h"
#include "base/log.h"
#include "base/scope.h"
#include "daemon/ancestry.h"
#include "daemon/atime.h"
#include "fusefs/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define URING_SWITCH "/sys/module/fuse/parameters/enable_uring"

enum { GROUP_BUFFER_SIZE = 65536 };

/* ---- The source ---- */

static enum exit_status refuse_source(const char *path, int error)
{
	log_error("cannot use the source %s: %s", path, strerror(-error));
	return error == -EACCES ? STATUS_PERMISSION : STATUS_SOURCE;
}

/* Before the mount point, which may be the same. A dead mount is cleaned away there. */
static enum exit_status check_source(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return errno == ENOTCONN ? STATUS_OK : refuse_source(path, -errno);
	return S_ISDIR(st.st_mode) ? STATUS_OK : refuse_source(path, -ENOTDIR);
}

static enum exit_status refuse_atime(int error)
{
	if (error == -EPERM && geteuid() != 0)
		log_error("other times of access than those of the source's mount (noatime, nodiratime, relatime, strictatime) are only for root");
	else
		log_error("cannot keep times of access as noatime, nodiratime, relatime or strictatime says: %s", strerror(-error));
	return error == -EPERM ? STATUS_PERMISSION : STATUS_MOUNT;
}

static enum exit_status open_source(struct setup *setup, const char *path)
{
	struct statvfs numbers;
	int r;

	if (!realpath(path, setup->source))
		return refuse_source(path, -errno);
	setup->source_fd = open(setup->source, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (setup->source_fd < 0 || fstat(setup->source_fd, &setup->source_stat) < 0)
		return refuse_source(path, -errno);
	r = atime_apply(&setup->source_fd, setup->options.mount_flags);
	if (r < 0)
		return refuse_atime(r);
	/* On a source that takes no changes the mount takes none: the kernel then refuses them before it looks at names. */
	if (fstatvfs(setup->source_fd, &numbers) == 0 && numbers.f_flag & ST_RDONLY)
		setup->options.mount_flags |= MS_RDONLY;
	if (faccessat(setup->source_fd, ".", R_OK | X_OK, AT_EACCESS) < 0)
		return refuse_source(path, -errno);
	return STATUS_OK;
}

/* ---- The mount point ---- */

static bool is_over_source(const struct setup *setup)
{
	return setup->mountpoint.under_dev == setup->source_stat.st_dev &&
	       setup->mountpoint.under_ino == setup->source_stat.st_ino;
}

/* A mount inside its own source would show itself in itself, without end. */
static enum exit_status check_not_inside(const struct setup *setup)
{
	int r;

	if (setup->is_in_place || setup->options.mount_namespace)
		return STATUS_OK;
	r = ancestry_of_path_has(setup->mountpoint.path, &setup->source_stat);
	if (r == 0)
		return STATUS_OK;
	if (r < 0)
		log_error("cannot mount at %s: %s", setup->mountpoint.path, strerror(-r));
	else
		log_error("cannot mount at %s: it is inside the source", setup->mountpoint.path);
	return STATUS_MOUNT_POINT;
}

static enum exit_status open_places(struct setup *setup)
{
	const struct options *options = &setup->options;
	const char *root = options->mount_point ? options->mount_point : options->source;
	enum exit_status status = check_source(options->source);

	if (status == STATUS_OK)
		status = mountpoint_open(&setup->mountpoint, root, options->mount_namespace);
	if (status == STATUS_OK)
		status = open_source(setup, options->source);
	if (status != STATUS_OK)
		return status;
	setup->is_in_place = is_over_source(setup);
	return check_not_inside(setup);
}

/* ---- Transport ---- */

/* Returns 1, 0, or a negative errno where the kernel has no such switch. */
static int is_uring_enabled(void)
{
	scoped(closep) int fd = open(URING_SWITCH, O_RDONLY | O_CLOEXEC);
	char value = 'N';

	if (fd < 0)
		return -errno;
	(void)fd_read_all(fd, &value, 1);
	return value == 'Y';
}

/*
 * What "auto" means. The classic transport: only there a worker that dies is replaced without programs losing their open files.
 * io_uring saves little where the worker gives way to programs (docs/performance.md), so it is for those who ask for it.
 */
static bool wants_uring(const struct options *options)
{
	return options->transport == TRANSPORT_IO_URING;
}

static enum exit_status choose_transport(struct setup *setup)
{
	int r;

	setup->use_uring = wants_uring(&setup->options);
	if (!setup->use_uring)
		return STATUS_OK;
	r = is_uring_enabled();
	if (r > 0)
		return STATUS_OK;
	if (r < 0)
		log_error("transport=io_uring: this kernel has no FUSE over io_uring (" URING_SWITCH ": %s)", strerror(-r));
	else
		log_error("transport=io_uring is switched off; root enables it: echo Y > " URING_SWITCH);
	return STATUS_FUSE;
}

/* Known before mounting, so that nothing is mounted in vain. What the kernel lacks shows only later. */
static enum exit_status check_passthrough(const struct options *options)
{
	if (options->passthrough != FS_ON || geteuid() == 0)
		return STATUS_OK;
	log_error("passthrough=on needs CAP_SYS_ADMIN");
	return STATUS_FUSE;
}

/* ---- Subscribers ---- */

/* By number where there is no such name. Returns 0, -ENOENT, or another negative errno. */
static int find_group(const char *name, gid_t *out)
{
	scoped(freep) char *buffer = malloc(GROUP_BUFFER_SIZE);
	struct group entry, *found = NULL;
	unsigned long number;
	char *end;
	int r;

	if (!buffer)
		return -ENOMEM;
	r = getgrnam_r(name, &entry, buffer, GROUP_BUFFER_SIZE, &found);
	if (found) {
		*out = found->gr_gid;
		return 0;
	}
	number = strtoul(name, &end, 10);
	if (name[0] < '0' || name[0] > '9' || *end || number >= (gid_t)-1)
		return r == 0 ? -ENOENT : -r;
	*out = number;
	return 0;
}

/* Who has no privileges gives a file to groups of his own only. Where that cannot be known, making the socket tells. */
static bool can_give_to(gid_t group)
{
	scoped(freep) gid_t *groups = NULL;
	int count = getgroups(0, NULL);

	if (geteuid() == 0 || group == getegid() || count < 0)
		return true;
	groups = malloc((count + 1) * sizeof(*groups));
	if (!groups)
		return true;
	count = getgroups(count, groups);
	for (int i = 0; i < count; i++)
		if (groups[i] == group)
			return true;
	return count < 0;
}

static enum exit_status find_subscribers(struct setup *setup)
{
	const char *name = setup->options.subscribers;
	int r;

	if (!name)
		return STATUS_OK;
	r = find_group(name, &setup->subscribers);
	if (r == 0 && can_give_to(setup->subscribers))
		return STATUS_OK;
	if (r == 0) {
		log_error("subscribers=%s: this user is not in that group, and so cannot give it the socket", name);
		return STATUS_PERMISSION;
	}
	log_error("subscribers=%s: %s", name, r == -ENOENT ? "no such group" : strerror(-r));
	return STATUS_USAGE;
}

/* ---- All ---- */

/*
 * The soft limit is low for the sake of programs that use select(2), which we do not. More descriptors let the worker keep more files
 * at hand; with fewer it works as well, so failing is no matter.
 */
static void raise_file_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &limit);
}

/*
 * Ours would bound what every program writes. Theirs, the kernel holds before it asks us. An ordinary user raises it to the hard limit alone:
 * beyond that a change fails with EFBIG, and so would the tables, which the supervisor makes for each connection.
 */
static enum exit_status raise_size_limit(void)
{
	struct rlimit limit = { .rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY };

	if (setrlimit(RLIMIT_FSIZE, &limit) == 0 || getrlimit(RLIMIT_FSIZE, &limit) < 0)
		return STATUS_OK;
	limit.rlim_cur = limit.rlim_max;
	(void)setrlimit(RLIMIT_FSIZE, &limit);
	if (limit.rlim_max >= fs_tables_size())
		return STATUS_OK;
	log_error("the limit on the size of files (ulimit -f) is %" PRIu64 " KiB; hrfs needs %" PRIu64,
		  (uint64_t)limit.rlim_max >> 10, fs_tables_size() >> 10);
	return STATUS_PERMISSION;
}

static enum exit_status open_state(struct setup *setup)
{
	struct stat under = { .st_dev = setup->mountpoint.under_dev, .st_ino = setup->mountpoint.under_ino };
	const struct state_around around = {
		.source = setup->source,
		.source_stat = &setup->source_stat,
		.under_stat = &under,
	};
	enum exit_status status = state_open(&setup->state, setup->options.state, &around);
	const struct listener_options listener_options = {
		.path = setup->options.socket,
		.source_stat = &setup->source_stat,
		.under_stat = &under,
		.source = setup->source,
		.state_path = setup->state.path,
		.owner = setup->state.owner,
		.group = setup->subscribers,
	};

	return status == STATUS_OK ? listener_open(&setup->listener, &listener_options) : status;
}

enum exit_status setup_open(struct setup *setup)
{
	enum exit_status status;

	raise_file_limit();
	status = raise_size_limit();
	if (status == STATUS_OK)
		status = check_passthrough(&setup->options);
	if (status == STATUS_OK)
		status = choose_transport(setup);
	if (status == STATUS_OK)
		status = find_subscribers(setup);
	if (status == STATUS_OK)
		status = open_places(setup);
	if (status == STATUS_OK)
		status = mountpoint_check(&setup->mountpoint, &setup->options);
	return status == STATUS_OK ? open_state(setup) : status;
}

enum exit_status setup_complete(struct setup *setup)
{
	return find_subscribers(setup);
}

void setup_close(struct setup *setup)
{
	listener_close(&setup->listener);
	state_close(&setup->state);
	mountpoint_close(&setup->mountpoint);
	closep(&setup->source_fd);
	options_finish(&setup->options);
	*setup = SETUP_EMPTY;
}
