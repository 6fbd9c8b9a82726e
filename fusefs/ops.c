#include "fusefs/ops.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/stat.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { GROUPS_MAX = 1024 }; /* of a caller that are looked at */

int op_file_fd(struct op *op, const struct fuse_file_info *fi, struct file **out)
{
	*out = file_find(op->fs->files, fi->fh);
	return *out ? file_fd(*out, op->fs->reach) : -EBADF;
}

int op_fsync(int fd, bool datasync)
{
	if (fd < 0)
		return fd;
	return (datasync ? fdatasync(fd) : fsync(fd)) < 0 ? -errno : 0;
}

bool op_was_born_since(int dir_fd, const char *name, int64_t since_ns)
{
	/* File systems stamp with the time of the last timer tick: at most 10 ms old (CONFIG_HZ=100). */
	const int64_t tick_ns = 10 * 1000 * 1000;
	struct statx now;

	if (statx(dir_fd, name, AT_SYMLINK_NOFOLLOW, STATX_BTIME | STATX_CTIME, &now) < 0)
		return false;
	/* Without a time of birth the last change is what there is. */
	const struct statx_timestamp *born = now.stx_mask & STATX_BTIME ? &now.stx_btime : &now.stx_ctime;

	return born->tv_sec * 1000000000 + born->tv_nsec >= since_ns - tick_ns;
}

bool op_is_ino(int dir_fd, const char *name, uint64_t ino)
{
	struct stat now;

	return fstatat(dir_fd, name, &now, AT_SYMLINK_NOFOLLOW) == 0 && now.st_ino == ino;
}

void op_note(struct op *op, const struct stat *attributes)
{
	struct event *event = &op->event;

	event->ino = attributes->st_ino;
	event->has |= EVENT_HAS_INO;
	if (S_ISREG(attributes->st_mode) || S_ISLNK(attributes->st_mode)) {
		event->size = attributes->st_size;
		event->has |= EVENT_HAS_SIZE;
	}
	if (event->op == EVENT_MKNOD)
		event->mode = attributes->st_mode;
	else if (event->op != EVENT_FALLOCATE)
		event->mode = attributes->st_mode & 07777;
}

static bool caller_is_in_group(const struct op *op, gid_t gid)
{
	gid_t groups[GROUPS_MAX];
	int count;

	if (op->context->gid == gid)
		return true;
	count = fuse_req_getgroups(op->req, GROUPS_MAX, groups);
	for (int i = 0; i < count && i < GROUPS_MAX; i++)
		if (groups[i] == gid)
			return true;
	return false;
}

/*
 * What is left of @mode when somebody without CAP_FSETID changes the file. Without group execution set-gid once meant mandatory
 * locking: members of the group keep it.
 */
static mode_t killed(const struct op *op, const struct stat *now)
{
	mode_t mode = now->st_mode & ~S_ISUID;

	if (mode & S_ISGID && (mode & S_IXGRP || !caller_is_in_group(op, now->st_gid)))
		mode &= ~S_ISGID;
	return mode;
}

int op_kill_set_id(struct op *op, uint64_t nodeid, int fd)
{
	struct stat now;
	mode_t mode;
	int r, emit;

	if (fstat(fd, &now) < 0)
		return -errno;
	mode = killed(op, &now);
	if (mode == now.st_mode)
		return 0;
	r = emit_prepare(op, EVENT_CHMOD, nodeid, NULL);
	if (r < 0)
		return r;
	now.st_mode = mode;
	op_note(op, &now);
	op->event.has = (op->event.has | EVENT_HAS_MODE) & ~EVENT_HAS_SIZE;
	emit = emit_begin(op);
	if (emit < 0)
		return emit;
	return emit_finish(op, emit, fchmod(fd, now.st_mode & 07777) < 0 ? -errno : 0);
}

/* The event of a change that no request told of: it has no author. */
static void log_mapped_stores(struct op *op, uint64_t nodeid, const struct stat *now, bool is_certain)
{
	if (emit_prepare(op, EVENT_WRITE, nodeid, NULL) < 0)
		return;
	op_note(op, now);
	op->event.origin = EVENT_MMAP;
	op->event.has &= ~(EVENT_HAS_WHO | EVENT_HAS_MODE);
	if (!is_certain)
		op->event.has |= EVENT_UNCERTAIN;
	/* No step of the request that noticed it: another worker, repeating that, may notice nothing. */
	(void)writer_append(op->writer, &op->event);
}

void op_look_for_stores(struct op *op, struct open_inode *inode, int fd, bool is_last)
{
	struct stat now;

	/* Without passthrough the kernel writes mapped pages back through requests. */
	if (inode->mappable == 0 || fstatat(fd, "", &now, AT_EMPTY_PATH) < 0)
		return;
	if (open_inode_differs(inode, &now))
		log_mapped_stores(op, inode->nodeid, &now, true);
	else if (is_last && !op->fs->mmap_moves_mtime)
		log_mapped_stores(op, inode->nodeid, &now, false);
	open_inode_set_baseline(inode, &now);
}
