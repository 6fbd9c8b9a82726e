#include "daemon/mountpoint.h"

#include "base/fdutil.h"
#include "base/log.h"
#include "base/scope.h"
#include "daemon/fusermount.h"
#include "daemon/inherit.h"
#include "daemon/mounttable.h"
#include "daemon/options.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#define FUSE_DEVICE "/dev/fuse"
#define FUSE_CONF   "/etc/fuse.conf"

enum { DEAD_MOUNTS_MAX = 16 }; /* that may lie on one another */

static bool is_root(void)
{
	return geteuid() == 0;
}

/* ---- Namespaces ---- */

/* Go there. *@out_cwd_fd is for leave(): the working directory does not come along. Returns 0 or a negative errno. */
static int enter(const struct mountpoint *mountpoint, int *out_cwd_fd)
{
	scoped(closep) int cwd_fd = -1;

	*out_cwd_fd = -1;
	if (mountpoint->namespace_fd < 0)
		return 0;
	cwd_fd = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (cwd_fd < 0 || setns(mountpoint->namespace_fd, CLONE_NEWNS) < 0)
		return -errno;
	*out_cwd_fd = take_fd(cwd_fd);
	return 0;
}

/* Come back. @cwd_fd is taken over. */
static void leave(const struct mountpoint *mountpoint, int cwd_fd)
{
	if (cwd_fd < 0)
		return;
	/* It cannot fail for those who could go there, and to go on elsewhere would be wrong. */
	if (setns(mountpoint->home_fd, CLONE_NEWNS) < 0 || fchdir(cwd_fd) < 0) {
		log_error("cannot come back from the mount namespace: %m");
		_exit(STATUS_SYSTEM);
	}
	close(cwd_fd);
}

static enum exit_status open_namespace(struct mountpoint *mountpoint, const char *namespace)
{
	char path[PATH_MAX];
	int cwd_fd, r;

	if (!namespace)
		return STATUS_OK;
	snprintf(path, sizeof(path), isdigit((unsigned char)namespace[0]) ? "/proc/%s/ns/mnt" : "%s", namespace);
	mountpoint->namespace_fd = open(path, O_RDONLY | O_CLOEXEC);
	mountpoint->home_fd = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	if (mountpoint->namespace_fd < 0 || mountpoint->home_fd < 0) {
		log_error("cannot open the mount namespace '%s': %m", namespace);
		return STATUS_USAGE;
	}
	r = enter(mountpoint, &cwd_fd);
	if (r < 0) {
		log_error("cannot enter the mount namespace '%s': %s", namespace, strerror(-r));
		return r == -EPERM ? STATUS_PERMISSION : STATUS_USAGE;
	}
	leave(mountpoint, cwd_fd);
	return STATUS_OK;
}

enum exit_status mountpoint_go(const char *namespace)
{
	struct mountpoint there = MOUNTPOINT_EMPTY;
	enum exit_status status = open_namespace(&there, namespace);
	int cwd_fd = -1, r = status == STATUS_OK ? enter(&there, &cwd_fd) : 0;

	if (r < 0) {
		log_error("cannot enter the mount namespace '%s': %s", namespace, strerror(-r));
		status = STATUS_SYSTEM;
	}
	closep(&cwd_fd);
	mountpoint_close(&there);
	return status;
}

/* ---- Finding it ---- */

/* The last component can be a dead mount, which cannot be looked at: only what is before is resolved. */
static int resolve_parent(const char *path, char out[PATH_MAX])
{
	char parent_copy[PATH_MAX], name_copy[PATH_MAX], parent[PATH_MAX];
	const char *name;

	if (strlen(path) >= PATH_MAX)
		return -ENAMETOOLONG;
	strcpy(parent_copy, path);
	strcpy(name_copy, path);
	name = basename(name_copy);
	if (!realpath(dirname(parent_copy), parent))
		return -errno;
	if (snprintf(out, PATH_MAX, "%s/%s", strcmp(parent, "/") == 0 ? "" : parent, name) >= PATH_MAX)
		return -ENAMETOOLONG;
	return 0;
}

static int unmount_here(const char *path, bool lazily)
{
	if (!is_root())
		return fusermount_unmount(path, lazily);
	return umount2(path, UMOUNT_NOFOLLOW | (lazily ? MNT_DETACH : 0)) < 0 ? -errno : 0;
}

/* "Transport endpoint is not connected": its daemon died. Returns 0, or a negative errno when it cannot be cleaned away. */
static int clean(const char *path)
{
	char real[PATH_MAX];
	struct mounted mounted;
	struct stat st;
	int r;

	for (int i = 0; i < DEAD_MOUNTS_MAX && stat(path, &st) < 0 && errno == ENOTCONN; i++) {
		r = resolve_parent(path, real);
		if (r == 0)
			r = mounttable_find(real, &mounted);
		if (r <= 0 || !mounted.is_fuse)
			return r < 0 ? r : -ENOTCONN;
		r = unmount_here(real, true);
		if (r < 0)
			return r;
		log_info("cleaned a dead mount away at %s", real);
	}
	return 0;
}

static int find(struct mountpoint *mountpoint, const char *path)
{
	struct stat st;
	int r = clean(path);

	if (r < 0)
		return r;
	if (!realpath(path, mountpoint->path) || stat(mountpoint->path, &st) < 0)
		return -errno;
	if (!S_ISDIR(st.st_mode))
		return -ENOTDIR;
	mountpoint->under_dev = st.st_dev;
	mountpoint->under_ino = st.st_ino;
	return 0;
}

static int make_absolute(const char *path, char out[PATH_MAX])
{
	char cwd[PATH_MAX] = "";

	if (path[0] != '/' && !getcwd(cwd, sizeof(cwd)))
		return -errno;
	return snprintf(out, PATH_MAX, "%s%s%s", cwd, cwd[0] ? "/" : "", path) < PATH_MAX ? 0 : -ENAMETOOLONG;
}

static int find_there(struct mountpoint *mountpoint, const char *path)
{
	char absolute[PATH_MAX];
	int cwd_fd = -1, r = make_absolute(path, absolute);

	if (r == 0)
		r = enter(mountpoint, &cwd_fd);
	if (r == 0)
		r = find(mountpoint, absolute);
	leave(mountpoint, cwd_fd);
	return r;
}

enum exit_status mountpoint_open(struct mountpoint *mountpoint, const char *path, const char *namespace)
{
	enum exit_status status;
	int r;

	*mountpoint = MOUNTPOINT_EMPTY;
	status = open_namespace(mountpoint, namespace);
	if (status != STATUS_OK)
		return status;
	r = find_there(mountpoint, path);
	if (r == 0)
		return STATUS_OK;
	log_error("cannot mount at %s: %s", path, strerror(-r));
	return r == -EACCES || r == -EPERM ? STATUS_PERMISSION : STATUS_MOUNT_POINT;
}

void mountpoint_close(struct mountpoint *mountpoint)
{
	closep(&mountpoint->namespace_fd);
	closep(&mountpoint->home_fd);
	*mountpoint = MOUNTPOINT_EMPTY;
}

/* ---- What can be known beforehand ---- */

static enum exit_status check_device(void)
{
	scoped(closep) int fd = open(FUSE_DEVICE, O_RDWR | O_CLOEXEC);

	if (fd >= 0)
		return STATUS_OK;
	log_error("cannot open " FUSE_DEVICE ": %m");
	return errno == EACCES || errno == EPERM ? STATUS_PERMISSION : STATUS_FUSE;
}

/* fusermount3 asks the same file, but only says so after we have mounted half-way. */
static bool may_users_allow_others(void)
{
	scoped(fclosep) FILE *conf = fopen(FUSE_CONF, "re");
	scoped(freep) char *line = NULL;
	size_t size = 0;
	char word[32];

	while (conf && getline(&line, &size, conf) >= 0)
		if (sscanf(line, "%31s", word) == 1 && strcmp(word, "user_allow_other") == 0)
			return true;
	return false;
}

static enum exit_status check_as_user(const struct mountpoint *mountpoint, const struct options *options)
{
	if ((options->allow_other || options->allow_root) && !may_users_allow_others()) {
		log_error("allow_other and allow_root are only for root, unless user_allow_other stands in " FUSE_CONF);
		return STATUS_PERMISSION;
	}
	if (options->wants_suid || options->wants_dev) {
		log_error("option %s is only for root", options->wants_suid ? "suid" : "dev");
		return STATUS_PERMISSION;
	}
	if (faccessat(AT_FDCWD, mountpoint->path, W_OK, AT_EACCESS) < 0) {
		log_error("cannot mount at %s: %m", mountpoint->path);
		return STATUS_PERMISSION;
	}
	return STATUS_OK;
}

enum exit_status mountpoint_check(const struct mountpoint *mountpoint, const struct options *options)
{
	enum exit_status status = check_device();

	if (status == STATUS_OK && !is_root())
		status = check_as_user(mountpoint, options);
	return status;
}

/* ---- Mounting ---- */

static int mount_as_root(const char *path, const char *fsname, const struct options *options)
{
	scoped(closep) int fd = open(FUSE_DEVICE, O_RDWR | O_CLOEXEC);
	char type[PATH_MAX], data[256];
	int length;

	if (fd < 0)
		return -errno;
	if (snprintf(type, sizeof(type), "fuse.%s", options->subtype ? options->subtype : "hrfs") >= sizeof(type))
		return -ENAMETOOLONG;
	length = snprintf(data, sizeof(data), "fd=%d,rootmode=%o,user_id=%u,group_id=%u,allow_other,default_permissions",
			  fd, S_IFDIR, geteuid(), getegid());
	if (options->max_read)
		snprintf(data + length, sizeof(data) - length, ",max_read=%u", options->max_read);
	if (mount(fsname, path, type, options->mount_flags, data) < 0)
		return -errno;
	return take_fd(fd);
}

static enum exit_status status_of(int error)
{
	switch (error) {
	case -EPERM:
	case -EACCES:
		return STATUS_PERMISSION;
	case -ENODEV:
		return STATUS_FUSE;
	default:
		return STATUS_MOUNT;
	}
}

static enum exit_status refuse(const struct mountpoint *mountpoint, int error, const char *words)
{
	if (!is_root() && error == -ENOENT) {
		log_error("fusermount3 is not installed; without it only root can mount");
		return STATUS_FUSE;
	}
	if (words[0]) {
		log_error("cannot mount at %s: %s", mountpoint->path, words);
		return STATUS_MOUNT;
	}
	log_error("cannot mount at %s: %s", mountpoint->path, strerror(-error));
	return status_of(error);
}

static void note_mount(struct mountpoint *mountpoint)
{
	struct mounted mounted;

	if (mounttable_find(mountpoint->path, &mounted) <= 0)
		return;
	mountpoint->mount_id = mounted.id;
	mountpoint->connection = mounted.minor;
}

enum exit_status mountpoint_mount(struct mountpoint *mountpoint, const char *fsname, const struct options *options,
				  int *out_fuse_fd)
{
	char words[FUSERMOUNT_WORDS_MAX] = "";
	int cwd_fd, fd, r = enter(mountpoint, &cwd_fd);

	if (r < 0)
		return refuse(mountpoint, r, words);
	if (is_root())
		fd = mount_as_root(mountpoint->path, fsname, options);
	else
		fd = fusermount_mount(mountpoint->path, fsname, options, words);
	if (fd >= 0)
		note_mount(mountpoint);
	leave(mountpoint, cwd_fd);
	if (fd < 0)
		return refuse(mountpoint, fd, words);
	*out_fuse_fd = fd;
	return STATUS_OK;
}

/* ---- Unmounting ---- */

static bool find_here(const struct mountpoint *mountpoint, struct mounted *out)
{
	return mountpoint->mount_id && mounttable_find(mountpoint->path, out) > 0 && out->id == mountpoint->mount_id;
}

static bool is_mounted_here(const struct mountpoint *mountpoint)
{
	struct mounted mounted;

	return find_here(mountpoint, &mounted);
}

bool mountpoint_find(const struct mountpoint *mountpoint, struct mounted *out)
{
	bool is_mounted;
	int cwd_fd;

	if (enter(mountpoint, &cwd_fd) < 0)
		return false;
	is_mounted = find_here(mountpoint, out);
	leave(mountpoint, cwd_fd);
	return is_mounted;
}

bool mountpoint_is_mounted(const struct mountpoint *mountpoint)
{
	struct mounted mounted;

	return mountpoint_find(mountpoint, &mounted);
}

int mountpoint_unmount(const struct mountpoint *mountpoint, bool lazily)
{
	int cwd_fd, r = enter(mountpoint, &cwd_fd);

	if (r < 0)
		return r;
	if (is_mounted_here(mountpoint))
		r = unmount_here(mountpoint->path, lazily);
	if (r < 0 && !lazily && is_mounted_here(mountpoint))
		r = unmount_here(mountpoint->path, true);
	/* Somebody else may have been quicker. */
	if (r < 0 && !is_mounted_here(mountpoint))
		r = 0;
	leave(mountpoint, cwd_fd);
	return r;
}

void mountpoint_abort(const struct mountpoint *mountpoint)
{
	char path[64];

	/* The number of a connection that has ended may be another's by now. */
	if (!mountpoint_is_mounted(mountpoint))
		return;
	snprintf(path, sizeof(path), "/sys/fs/fuse/connections/%u/abort", mountpoint->connection);
	scoped(closep) int fd = open(path, O_WRONLY | O_CLOEXEC);
	/* Not mounted there, or not allowed: see the header. */
	if (fd >= 0)
		(void)fd_write_all(fd, "1", 1);
}

/* ---- When the supervisor dies ---- */

/* It outlives the supervisor, so it holds nothing that ends with it: neither its terminal nor the connection. */
static void watch(const struct mountpoint *mountpoint, int pipe_fd)
{
	const int kept[] = { pipe_fd, mountpoint->namespace_fd, mountpoint->home_fd };
	sigset_t none;
	char byte;

	setsid();
	inherit_no_stdio();
	inherit_only(kept, sizeof(kept) / sizeof(kept[0]));
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	(void)fd_read_all(pipe_fd, &byte, 1);
	mountpoint_unmount(mountpoint, true);
	_exit(STATUS_OK);
}

int mountpoint_watch(const struct mountpoint *mountpoint)
{
	int pipe_fds[2];
	pid_t pid;

	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
		return -errno;
	pid = fork();
	if (pid < 0) {
		int r = -errno;

		close(pipe_fds[0]);
		close(pipe_fds[1]);
		return r;
	}
	if (pid == 0) {
		closep(&pipe_fds[1]);
		watch(mountpoint, pipe_fds[0]);
	}
	close(pipe_fds[0]);
	return pipe_fds[1];
}
