/*
 * Operations on extended attributes, and the synthetic ones by which programs find the log.
 *
 * user.hrfs.socket, user.hrfs.log and user.hrfs.seq answer on every inode that may have user attributes,
 * are not listed, and cannot be set.
 */
#include "fusefs/ops.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <linux/xattr.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#define SYNTHETIC_PREFIX "user.hrfs."

enum {
	XATTR_MAX = 65536,
	SMALL_VALUE = 4200, /* bytes; a path, at least */
};

static bool is_synthetic(const char *name)
{
	return strncmp(name, SYNTHETIC_PREFIX, sizeof(SYNTHETIC_PREFIX) - 1) == 0;
}

/* Returns the value's length, or -ENODATA. */
static ssize_t synthetic_value(struct fs *fs, const char *name, char *buffer, size_t size)
{
	const char *key = name + sizeof(SYNTHETIC_PREFIX) - 1;
	const char *value;

	if (strcmp(key, "seq") == 0)
		return snprintf(buffer, size, "%" PRIu64, eventlog_next_seq(fs->log) - 1);
	if (strcmp(key, "socket") == 0)
		value = fs->options.socket_path;
	else if (strcmp(key, "log") == 0)
		value = fs->options.state_path;
	else
		return -ENODATA;
	return snprintf(buffer, size, "%s", value);
}

/* Answers a getxattr or listxattr: the value, or its size when none was asked for. */
static void reply_value(struct op *op, const char *value, ssize_t length, size_t size)
{
	if (length < 0) {
		op_reply_error(op, length);
		return;
	}
	if (size == 0)
		fuse_reply_xattr(op->req, length);
	else if ((size_t)length > size)
		fuse_reply_err(op->req, ERANGE);
	else
		fuse_reply_buf(op->req, value, length);
	op_end(op);
}

/* A path to the inode: its attributes can then be had without opening it. */
static int reach_path(struct op *op, uint64_t nodeid, struct reached *reached, char link[REACH_LINK_SIZE])
{
	int r = reach_get(op->fs->reach, nodeid, reached);

	if (r == 0)
		reach_link(reached->fd, link);
	return r;
}

/* From a descriptor that is open already. Returns the value's length or a negative errno, -EBADF where there is none. */
static ssize_t read_lent(struct op *op, uint64_t nodeid, const char *name, char *value, size_t size)
{
	struct open_inode *inode = mode_ref(op->fs->modes, nodeid);
	ssize_t n = -EBADF;

	if (!inode)
		return n;
	pthread_mutex_lock(&inode->order);
	if (inode->lender) {
		n = fgetxattr(atomic_load(&inode->lender->fd), name, value, size);
		n = n < 0 ? -errno : n;
	}
	pthread_mutex_unlock(&inode->order);
	mode_unref(op->fs->modes, inode);
	return n;
}

static ssize_t read_xattr(struct op *op, uint64_t nodeid, const char *name, char *value, size_t size)
{
	struct reached reached = REACHED_NONE;
	char link[REACH_LINK_SIZE];
	/* The kernel asks for security.capability of each file that is written or given away: most are open. */
	ssize_t n = read_lent(op, nodeid, name, value, size);

	if (n != -EBADF)
		return n;
	n = reach_path(op, nodeid, &reached, link);
	if (n == 0) {
		n = getxattr(link, name, value, size);
		n = n < 0 ? -errno : n;
	}
	reach_put(op->fs->reach, &reached);
	return n;
}

void fs_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	struct op *op = op_start(req, FUSE_GETXATTR);
	char little[SMALL_VALUE], *value = little;
	size_t room = size < XATTR_MAX ? size : XATTR_MAX;
	ssize_t n;

	if (!op)
		return;
	/* getxattr(2) clears as much memory as it is given. */
	if (is_synthetic(name))
		room = sizeof(little);
	if (room > sizeof(little))
		value = malloc(room);
	if (!value)
		n = -ENOMEM;
	else if (is_synthetic(name))
		n = synthetic_value(op->fs, name, value, room);
	else
		n = read_xattr(op, ino, name, value, room);
	reply_value(op, value, n, size);
	if (value != little)
		free(value);
}

/* What a capability is worth to the kernel's own file systems: not in a namespace of users that somebody has made. */
static bool is_in_first_namespace(pid_t tid)
{
	unsigned inside, outside, count;
	char path[32];
	FILE *map;
	bool is_first;

	snprintf(path, sizeof(path), "/proc/%d/uid_map", tid);
	map = fopen(path, "re");
	if (!map)
		return false;
	is_first = fscanf(map, "%u %u %u", &inside, &outside, &count) == 3 && inside == 0 && outside == 0 && count == UINT32_MAX;
	fclose(map);
	return is_first;
}

static bool caller_is_admin(const struct op *op)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3, .pid = op->context->pid };
	struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];

	/* One of another namespace of processes has no number here, and 0 would be ourselves. */
	if (header.pid <= 0 || syscall(SYS_capget, &header, sets) < 0)
		return op->context->uid == 0;
	return sets[CAP_TO_INDEX(CAP_SYS_ADMIN)].effective & CAP_TO_MASK(CAP_SYS_ADMIN) &&
	       is_in_first_namespace(header.pid);
}

static bool is_trusted(const char *name)
{
	return strncmp(name, XATTR_TRUSTED_PREFIX, XATTR_TRUSTED_PREFIX_LEN) == 0;
}

static bool has_trusted(const char *list, ssize_t size)
{
	for (ssize_t at = 0; at < size; at += strlen(list + at) + 1)
		if (is_trusted(list + at))
			return true;
	return false;
}

/* Names that only who has CAP_SYS_ADMIN may see are cut out, as the kernel does it for its own file systems. */
static ssize_t hide_trusted(char *list, ssize_t size)
{
	ssize_t kept = 0;

	for (ssize_t at = 0, length; at < size; at += length) {
		length = strlen(list + at) + 1;
		if (is_trusted(list + at))
			continue;
		memmove(list + kept, list + at, length);
		kept += length;
	}
	return kept;
}

void fs_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	struct op *op = op_start(req, FUSE_LISTXATTR);
	struct reached reached = REACHED_NONE;
	char link[REACH_LINK_SIZE];
	char *list;
	ssize_t n;

	if (!op)
		return;
	list = malloc(XATTR_MAX);
	n = list ? reach_path(op, ino, &reached, link) : -ENOMEM;
	if (n == 0) {
		n = listxattr(link, list, XATTR_MAX);
		n = n < 0 ? -errno : n;
	}
	if (n > 0 && has_trusted(list, n) && !caller_is_admin(op))
		n = hide_trusted(list, n);
	reach_put(op->fs->reach, &reached);
	reply_value(op, list, n, size);
	free(list);
}

static int prepare(struct op *op, enum event_op what, uint64_t nodeid, const char *name)
{
	int r = is_synthetic(name) ? -EPERM : emit_prepare(op, what, nodeid, NULL);

	if (r == 0) {
		op->event.name = name;
		op->event.name_length = strlen(name);
	}
	return r;
}

/* Who may not give a file set-gid for its group loses it by setting an access ACL. */
static mode_t mode_after_acl(const struct op *op, const struct stat *now)
{
	if (op->context->uid == 0 || op_caller_is_in_group(op, now->st_gid))
		return now->st_mode;
	return now->st_mode & ~S_ISGID;
}

/* Setting an access ACL changes the mode as well; whoever replays the log must hear of it. @before: 0 when it is not known any more. */
static int note_acl_mode(struct op *op, uint64_t nodeid, const char *link, mode_t before)
{
	struct stat now;
	mode_t mode;
	int emit, r;

	if (stat(link, &now) < 0)
		return -errno;
	mode = mode_after_acl(op, &now);
	if (mode == before || emit_recall(op, EVENT_CHMOD) == EMIT_LOGGED) {
		emit_skip(op);
		return 0;
	}
	r = emit_prepare(op, EVENT_CHMOD, nodeid, NULL);
	if (r < 0)
		return r;
	op->event.mode = mode & 07777;
	op->event.has |= before ? EVENT_HAS_MODE : EVENT_HAS_MODE | EVENT_UNCERTAIN;
	emit = emit_begin(op);
	if (emit < 0)
		return emit;
	return emit_finish(op, emit, mode != now.st_mode && chmod(link, mode & 07777) < 0 ? -errno : 0);
}

static int set(struct op *op, int fd, const char *link, const char *name, const char *value, size_t size, int flags)
{
	int r;

	op_charge_caller(op, fd, XATTR_MAX);
	r = setxattr(link, name, value, size, flags) < 0 ? -errno : 0;
	op_charge_daemon(op);
	return r;
}

static int set_and_log(struct op *op, uint64_t nodeid, int fd, const char *link, const char *name, const char *value,
		       size_t size, int flags)
{
	bool is_acl = strcmp(name, "system.posix_acl_access") == 0;
	struct stat before = { 0 };
	int emit, r = prepare(op, EVENT_SETXATTR, nodeid, name);

	if (r < 0)
		return r;
	if (is_acl && stat(link, &before) < 0)
		return -errno;
	emit = emit_begin(op);
	if (emit < 0)
		return emit;
	/* The first time may have done it already, so XATTR_CREATE and XATTR_REPLACE say nothing now. */
	if (emit == EMIT_MAYBE)
		flags = 0;
	if (emit != EMIT_LOGGED)
		r = set(op, fd, link, name, value, size, flags);
	r = emit_finish(op, emit, r);
	return r == 0 && is_acl ? note_acl_mode(op, nodeid, link, emit == EMIT_GO ? before.st_mode : 0) : r;
}

void fs_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags)
{
	struct op *op = op_start(req, FUSE_SETXATTR);
	struct reached reached = REACHED_NONE;
	char link[REACH_LINK_SIZE];
	int r;

	if (!op)
		return;
	r = reach_path(op, ino, &reached, link);
	if (r == 0)
		r = set_and_log(op, ino, reached.fd, link, name, value, size, flags);
	reach_put(op->fs->reach, &reached);
	op_reply_error(op, r);
}

void fs_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	struct op *op = op_start(req, FUSE_REMOVEXATTR);
	struct reached reached = REACHED_NONE;
	char link[REACH_LINK_SIZE];
	int r, emit = EMIT_GO;

	if (!op)
		return;
	r = reach_path(op, ino, &reached, link);
	if (r == 0)
		r = prepare(op, EVENT_REMOVEXATTR, ino, name);
	if (r == 0)
		emit = r = emit_begin(op);
	if (r >= 0) {
		r = emit == EMIT_LOGGED || removexattr(link, name) == 0 ? 0 : -errno;
		if (emit == EMIT_MAYBE && r == -ENODATA)
			r = 0;
		r = emit_finish(op, emit, r);
	}
	reach_put(op->fs->reach, &reached);
	op_reply_error(op, r);
}
