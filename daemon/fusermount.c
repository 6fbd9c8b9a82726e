/*
 * Fusermount: its protocol. It finds the number of a connected socket in _FUSE_COMMFD and sends the mounted
 * descriptor of /dev/fuse over it with one byte of data; refusing, it says why on stderr and exits 1.
 */
#include "daemon/fusermount.h"

#include "base/bytes.h"
#include "base/fdutil.h"
#include "base/scope.h"
#include "daemon/options.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/wait.h>

extern char **environ;

#define PROGRAM "fusermount3"
#define COMMFD  "_FUSE_COMMFD"

enum { CHILD_FD = 3 };

/* ---- Running it ---- */

/* The child has nothing but stdio and @comm_fd, which becomes CHILD_FD. -1: /dev/null in its place. */
static int add_descriptors(posix_spawn_file_actions_t *actions, int comm_fd, int stderr_fd)
{
	int r = 0;

	if (stderr_fd >= 0)
		r = posix_spawn_file_actions_adddup2(actions, stderr_fd, STDERR_FILENO);
	else
		r = posix_spawn_file_actions_addopen(actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
	if (r == 0 && comm_fd >= 0)
		r = posix_spawn_file_actions_adddup2(actions, comm_fd, CHILD_FD);
	if (r == 0)
		r = posix_spawn_file_actions_addclosefrom_np(actions, comm_fd >= 0 ? CHILD_FD + 1 : CHILD_FD);
	return r;
}

/* The supervisor blocks the signals that it reads; a child must not inherit that. */
static int reset_signals(posix_spawnattr_t *attributes)
{
	sigset_t none, all;
	int r;

	sigemptyset(&none);
	sigfillset(&all);
	r = posix_spawnattr_setsigmask(attributes, &none);
	if (r == 0)
		r = posix_spawnattr_setsigdefault(attributes, &all);
	if (r == 0)
		r = posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	return r;
}

/* Returns 0 and the child, or a negative errno. */
static int spawn(char *const *argv, char *const *environment, int comm_fd, int stderr_fd, pid_t *out)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	int r = posix_spawn_file_actions_init(&actions);

	if (r != 0)
		return -r;
	r = posix_spawnattr_init(&attributes);
	if (r != 0) {
		posix_spawn_file_actions_destroy(&actions);
		return -r;
	}
	r = add_descriptors(&actions, comm_fd, stderr_fd);
	if (r == 0)
		r = reset_signals(&attributes);
	if (r == 0)
		r = posix_spawnp(out, PROGRAM, &actions, &attributes, argv, environment);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&actions);
	return -r;
}

/* Returns 0 when it exited with 0, -EPERM when not, or another negative errno. */
static int wait_for(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EPERM;
}

/* ---- Mounting ---- */

/* MS_RELATIME is the kernel's default. fusermount3 refuses, in its words, what it does not know. */
static const struct {
	unsigned long flag;
	const char *name;
} flag_names[] = {
	{ MS_RDONLY, "ro" },
	{ MS_NOEXEC, "noexec" },
	{ MS_SYNCHRONOUS, "sync" },
	{ MS_DIRSYNC, "dirsync" },
	{ MS_NOATIME, "noatime" },
	{ MS_NODIRATIME, "nodiratime" },
	{ MS_STRICTATIME, "strictatime" },
};

/* A backslash takes the meaning from commas and backslashes. */
static void append_escaped(struct bytes *out, const char *text)
{
	for (; *text; text++) {
		if (*text == ',' || *text == '\\')
			bytes_append_char(out, '\\');
		bytes_append_char(out, *text);
	}
}

static void write_options(struct bytes *out, const char *fsname, const struct options *options)
{
	bytes_append_string(out, "default_permissions");
	if (options->allow_other || options->allow_root)
		bytes_append_string(out, ",allow_other");
	if (options->max_read)
		bytes_append_format(out, ",max_read=%u", options->max_read);
	for (size_t i = 0; i < sizeof(flag_names) / sizeof(flag_names[0]); i++)
		if (options->mount_flags & flag_names[i].flag)
			bytes_append_format(out, ",%s", flag_names[i].name);
	bytes_append_string(out, ",subtype=");
	append_escaped(out, options->subtype ? options->subtype : "hrfs");
	bytes_append_string(out, ",fsname=");
	append_escaped(out, fsname);
	bytes_append_char(out, '\0');
}

/* Our environment, with @entry before all. The caller frees the array alone. */
static char **environment_with(char *entry)
{
	size_t count = 0;
	char **copy;

	while (environ[count])
		count++;
	copy = malloc((count + 2) * sizeof(*copy));
	if (!copy)
		return NULL;
	copy[0] = entry;
	count = 1;
	for (char **from = environ; *from; from++)
		if (strncmp(*from, COMMFD "=", sizeof(COMMFD)) != 0)
			copy[count++] = *from;
	copy[count] = NULL;
	return copy;
}

/* Returns the descriptor, or -EPERM when the other end closed without one. */
static int receive_fd(int socket_fd)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control;
	char byte;
	struct iovec vector = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr message = {
		.msg_iov = &vector,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *header;
	ssize_t n;
	int fd;

	do
		n = recvmsg(socket_fd, &message, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	header = CMSG_FIRSTHDR(&message);
	if (n == 0 || !header || header->cmsg_type != SCM_RIGHTS || header->cmsg_len != CMSG_LEN(sizeof(int)))
		return -EPERM;
	memcpy(&fd, CMSG_DATA(header), sizeof(fd));
	return fd;
}

/* The first line of what it said, without its name. */
static void read_words(int fd, char words[FUSERMOUNT_WORDS_MAX])
{
	static const char name[] = PROGRAM ": ";
	ssize_t size = fd_read_all(fd, words, FUSERMOUNT_WORDS_MAX - 1);
	size_t skip = sizeof(name) - 1;
	size_t length;

	words[size > 0 ? size : 0] = '\0';
	length = strcspn(words, "\n");
	words[length] = '\0';
	if (length >= skip && memcmp(words, name, skip) == 0)
		memmove(words, words + skip, length - skip + 1);
}

/* Takes over @theirs, its end of the socket. */
static int mount_through(const char *path, char *list, int ours, int theirs, char words[FUSERMOUNT_WORDS_MAX])
{
	char *argv[] = { PROGRAM, "-o", list, "--", (char *)path, NULL };
	char entry[sizeof(COMMFD) + 16];
	scoped(freep) char **environment = NULL;
	scoped(closep) int comm_fd = theirs;
	scoped(closep) int words_fd = -1;
	scoped(closep) int their_words_fd = -1;
	int pipe_fds[2], fd, r;
	pid_t pid;

	snprintf(entry, sizeof(entry), COMMFD "=%d", CHILD_FD);
	environment = environment_with(entry);
	if (!environment)
		return -ENOMEM;
	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
		return -errno;
	words_fd = pipe_fds[0];
	their_words_fd = pipe_fds[1];
	r = spawn(argv, environment, comm_fd, their_words_fd, &pid);
	/* Our copies would keep us waiting for the end of what comes. */
	close(take_fd(comm_fd));
	close(take_fd(their_words_fd));
	if (r < 0)
		return r;
	fd = receive_fd(ours);
	read_words(words_fd, words);
	r = wait_for(pid);
	if (r < 0 && fd >= 0)
		close(fd);
	return r < 0 ? r : fd;
}

int fusermount_mount(const char *path, const char *fsname, const struct options *options,
		     char words[FUSERMOUNT_WORDS_MAX])
{
	scoped(bytes_finish) struct bytes list = { 0 };
	scoped(closep) int ours = -1;
	int pair[2];

	words[0] = '\0';
	write_options(&list, fsname, options);
	if (bytes_error(&list))
		return -ENOMEM;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	ours = pair[0];
	return mount_through(path, list.data, ours, pair[1], words);
}

int fusermount_unmount(const char *path, bool lazily)
{
	char *argv[] = { PROGRAM, "-q", lazily ? "-uz" : "-u", "--", (char *)path, NULL };
	pid_t pid;
	int r = spawn(argv, environ, -1, -1, &pid);

	if (r < 0)
		return r;
	r = wait_for(pid);
	return r == -EPERM ? -EBUSY : r;
}
