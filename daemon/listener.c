#include "daemon/listener.h"

#include "base/clock.h"
#include "base/fdutil.h"
#include "base/log.h"
#include "base/scope.h"
#include "base/statedir.h"
#include "base/walk.h"
#include "daemon/ancestry.h"
#include "daemon/patience.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/param.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define RUN_DIR "/run/hrfs"

enum {
	BACKLOG = 1024,            /* connections that wait while a worker is replaced */
	ADDRESS_SIZE = sizeof(((struct sockaddr_un *)NULL)->sun_path),
	FD_PATH_SIZE = sizeof("/proc/self/fd/2147483647/") - 1,
	HASH_SIZE = sizeof("-0123456789abcdef.sock") - 1,
};

/* ---- Where it is ---- */

/*
 * How long a name in @parent may be, so that any program can connect to the whole path, and it can be bound. It is as short as can be where that
 * cannot be had: libhrfs(3) connects to a path of any length.
 */
static size_t name_max(const char *parent)
{
	size_t room = ADDRESS_SIZE - 1 - HASH_SIZE, before = strlen(parent) + 1;

	before = MAX(before, FD_PATH_SIZE);
	return before < room ? room - before : 1;
}

/* Root's is where the owner of the source can reach it, which /run/user/0 is not. */
static int choose_default(const struct listener_options *options, char out[PATH_MAX])
{
	const char *runtime_dir = getenv("XDG_RUNTIME_DIR");
	char parent[PATH_MAX], stem[PATH_MAX];
	int r;

	if (geteuid() == 0)
		strcpy(parent, RUN_DIR);
	else if (!runtime_dir || runtime_dir[0] != '/')
		return snprintf(out, PATH_MAX, "%s/socket", options->state_path) < PATH_MAX ? 0 : -ENAMETOOLONG;
	else if (snprintf(parent, sizeof(parent), "%s/hrfs", runtime_dir) >= sizeof(parent))
		return -ENAMETOOLONG;
	r = statedir_below_cut(parent, options->source, name_max(parent), stem, sizeof(stem));
	if (r < 0)
		return r;
	return snprintf(out, PATH_MAX, "%s.sock", stem) < PATH_MAX ? 0 : -ENAMETOOLONG;
}

static int choose(const struct listener_options *options, char out[PATH_MAX])
{
	char cwd[PATH_MAX];

	if (!options->path)
		return choose_default(options, out);
	if (options->path[0] == '/')
		return snprintf(out, PATH_MAX, "%s", options->path) < PATH_MAX ? 0 : -ENAMETOOLONG;
	if (!getcwd(cwd, sizeof(cwd)))
		return -errno;
	return snprintf(out, PATH_MAX, "%s/%s", cwd, options->path) < PATH_MAX ? 0 : -ENAMETOOLONG;
}

/* Go to the directory of @path; *@out_name is the rest. */
static int find_parent(const char *path, struct walk *walk, const char **out_name)
{
	const char *slash = strrchr(path, '/');
	char parent[PATH_MAX];

	if (!slash[1])
		return -EISDIR;
	snprintf(parent, sizeof(parent), "%.*s", slash == path ? 1 : (int)(slash - path), path);
	*out_name = slash + 1;
	return walk_open(parent, walk);
}

static int make_parent(struct walk *walk)
{
	mode_t mode = geteuid() == 0 ? 0755 : 0700;
	int r = walk_make(walk, mode, mode);

	return r < 0 ? r : 0;
}

/* ---- Binding ---- */

static int fill_address(struct sockaddr_un *address, int dir_fd, const char *name)
{
	*address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (snprintf(address->sun_path, sizeof(address->sun_path), "/proc/self/fd/%d/%s", dir_fd, name) >=
	    sizeof(address->sun_path))
		return -ENAMETOOLONG;
	return 0;
}

/* Make way for our own. Returns 0, -EADDRINUSE (somebody listens), -EEXIST (it is no socket), or another negative errno. */
static int remove_stale(int dir_fd, const char *name, const struct sockaddr_un *address)
{
	scoped(closep) int fd = -1;
	struct stat st;

	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	/* Whatever else it answers, EAGAIN for a full queue too, somebody is there. */
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 || errno != ECONNREFUSED)
		return -EADDRINUSE;
	return unlinkat(dir_fd, name, 0) < 0 ? -errno : 0;
}

/* A mount that ends listens for a moment after its lock is free. */
static int make_way(int dir_fd, const char *name, const struct sockaddr_un *address)
{
	int64_t until_ms = clock_now_ms() + PATIENCE_MS;
	int r;

	while ((r = remove_stale(dir_fd, name, address)) == -EADDRINUSE && clock_now_ms() < until_ms)
		(void)poll(NULL, 0, PATIENCE_PAUSE_MS);
	return r;
}

/*
 * Take note of the file that bind(2) has made, and give it to whom it is for. In a folder of somebody else's the name may lead elsewhere by now, so it
 * is looked at once, through a descriptor: only a socket of our own, without a second name, is ours to give away.
 */
static int give_to_owner(struct listener *listener, int dir_fd, const char *name, const struct listener_options *options)
{
	scoped(closep) int fd = openat(dir_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISSOCK(st.st_mode) || st.st_uid != geteuid() || st.st_nlink != 1)
		return -EEXIST;
	listener->dev = st.st_dev;
	listener->ino = st.st_ino;
	if (options->group == (gid_t)-1 && geteuid() != 0)
		return 0;
	return fchownat(fd, "", geteuid() == 0 ? options->owner : (uid_t)-1, options->group, AT_EMPTY_PATH) < 0 ? -errno : 0;
}

/* To connect one needs the right to write, which the file is made with. The server asks again who it is. */
static int bind_with_mode(int fd, const struct sockaddr_un *address, mode_t mode)
{
	mode_t before = umask(~mode & 0777);
	int r = bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 ? -errno : 0;

	umask(before);
	return r;
}

/* A socket is no longer one when it is looked at through the mount. */
static int check_outside(int dir_fd, const struct listener_options *options)
{
	int in_source = ancestry_has(dir_fd, options->source_stat);
	int in_mount = ancestry_has(dir_fd, options->under_stat);

	if (in_source < 0 || in_mount < 0)
		return in_source < 0 ? in_source : in_mount;
	return in_source || in_mount ? -EXDEV : 0;
}

static int bind_here(struct listener *listener, int dir_fd, const char *name, const struct listener_options *options)
{
	struct sockaddr_un address;
	int r = check_outside(dir_fd, options);

	if (r == 0)
		r = fill_address(&address, dir_fd, name);
	if (r == 0)
		r = make_way(dir_fd, name, &address);
	if (r < 0)
		return r;
	listener->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (listener->fd < 0)
		return -errno;
	r = bind_with_mode(listener->fd, &address, options->group == (gid_t)-1 ? 0600 : 0660);
	if (r == 0)
		r = give_to_owner(listener, dir_fd, name, options);
	if (r < 0)
		return r;
	return listen(listener->fd, BACKLOG) < 0 ? -errno : 0;
}

static enum exit_status refuse(const struct listener *listener, int error)
{
	if (error == -EADDRINUSE) {
		log_error("another mount, or another program, listens at the socket %s; -o socket=PATH chooses another", listener->path);
		return STATUS_BUSY;
	}
	if (error == -ENAMETOOLONG)
		log_error("the name of the socket %s is too long; a shorter one can be given with -o socket=PATH", listener->path);
	else if (error == -ELOOP)
		log_error("cannot make the socket %s: another user's symbolic link is on the way", listener->path);
	else if (error == -EXDEV)
		log_error("the socket %s would be inside the tree", listener->path);
	else
		log_error("cannot make the socket %s: %s", listener->path, strerror(-error));
	return STATUS_STATE;
}

enum exit_status listener_open(struct listener *listener, const struct listener_options *options)
{
	scoped(walk_finish) struct walk walk = { .fd = -1 };
	const char *name = NULL;
	int r;

	*listener = (struct listener){ .fd = -1 };
	r = choose(options, listener->path);
	if (r < 0) {
		if (r == -ENAMETOOLONG)
			log_error("the path of the socket is too long; a shorter one can be given with -o socket=PATH");
		else
			log_error("no place for the socket: %s; see -o socket=PATH", strerror(-r));
		return STATUS_STATE;
	}
	r = find_parent(listener->path, &walk, &name);
	if (r == 0)
		r = make_parent(&walk);
	if (r == 0)
		r = bind_here(listener, walk.fd, name, options);
	if (r == 0)
		return STATUS_OK;
	listener_close(listener);
	return refuse(listener, r);
}

void listener_close(struct listener *listener)
{
	scoped(walk_finish) struct walk walk = { .fd = -1 };
	const char *name;
	struct stat st;

	/* While it listens: a mount that comes next takes a name where nobody does, and that would then be its own. */
	if (listener->ino && find_parent(listener->path, &walk, &name) == 0 && !walk.rest[0] &&
	    fstatat(walk.fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_dev == listener->dev &&
	    st.st_ino == listener->ino)
		unlinkat(walk.fd, name, 0);
	listener->ino = 0;
	closep(&listener->fd);
	listener->fd = -1;
}
