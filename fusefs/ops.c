#include "fusefs/ops.h"

#include "base/fdutil.h"
#include "base/log.h"
#include "base/scope.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/stat.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { GROUPS_MAX = 1024 }; /* of a caller that are looked at */

struct file *op_find_file(struct op *op, uint64_t nodeid, const struct fuse_file_info *fi, struct file *unasked)
{
	file_init_unasked(unasked, nodeid);
	return fi->fh ? file_find(op->fs->files, fi->fh) : unasked;
}

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

/* A daemon without capabilities may change a directory that it may not read. */
static int sync_source(const struct fs *fs)
{
	scoped(closep) int fd = openat(fs->options.source_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 || syncfs(fd) < 0 ? -errno : 0;
}

void op_sync_names(struct op *op, const struct reached *dir)
{
	static atomic_bool has_said;
	scoped(closep) int fd = -1;
	int r;

	if (!op->fs->options.sync_names)
		return;
	fd = reach_reopen(op->fs->reach, dir->fd, O_RDONLY | O_DIRECTORY);
	r = fd == -EACCES ? sync_source(op->fs) : op_fsync(fd, false);
	if (r == 0)
		r = eventlog_sync(op->fs->log);
	if (r < 0 && !atomic_exchange(&has_said, true))
		log_warning("cannot bring a directory to stable storage, as sync and dirsync want it: %s", strerror(-r));
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

bool op_caller_is_in_group(const struct op *op, gid_t gid)
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

	if (mode & S_ISGID && (mode & S_IXGRP || !op_caller_is_in_group(op, now->st_gid)))
		mode &= ~S_ISGID;
	return mode;
}

void op_drop_attributes(struct op *op, uint64_t nodeid)
{
	(void)fuse_lowlevel_notify_inval_inode(op->fs->session, nodeid, -1, 0);
}

static int clear_bits(struct op *op, uint64_t nodeid, int fd, mode_t mode)
{
	int r = emit_prepare(op, EVENT_CHMOD, nodeid, NULL), emit;
	char link[REACH_LINK_SIZE];

	if (r < 0)
		return r;
	op->event.mode = mode & 07777;
	op->event.has |= EVENT_HAS_MODE;
	emit = emit_begin(op);
	if (emit < 0)
		return emit;
	/* By its path, because the descriptor may be one that fchmod(2) does not take. */
	reach_link(fd, link);
	r = emit_finish(op, emit, chmod(link, mode & 07777) < 0 ? -errno : 0);
	/* After a write it forgets the times and the size alone. */
	op_drop_attributes(op, nodeid);
	return r;
}

int op_kill_set_id(struct op *op, uint64_t nodeid, int fd)
{
	enum emit known = emit_recall(op, EVENT_CHMOD);
	struct stat now;
	mode_t mode;

	if (known == EMIT_LOGGED) {
		emit_skip(op);
		return 0;
	}
	if (known == EMIT_MAYBE)
		return clear_bits(op, nodeid, fd, emit_announced(op)->mode);
	if (fstatat(fd, "", &now, AT_EMPTY_PATH) < 0)
		return -errno;
	mode = killed(op, &now);
	if (mode != now.st_mode)
		return clear_bits(op, nodeid, fd, mode);
	emit_skip(op);
	return 0;
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
	emit_append(op);
}

/* Whether a file that was mapped while nobody looked (a worker had died) was changed at that time. */
static bool may_have_stores(const struct fs *fs, const struct stat *now)
{
	/* The dead worker had looked in its last second; the kernel's time of a store may be a tick older. */
	const int64_t unwatched_ns = 2 * 1000000000ll;

	return fs->mmap_moves_mtime &&
	       now->st_mtim.tv_sec * 1000000000 + now->st_mtim.tv_nsec >= fs->started_ns - unwatched_ns;
}

void op_look_for_stores(struct op *op, struct open_inode *inode, int fd, bool is_last)
{
	struct stat now;

	/* Without passthrough the kernel writes mapped pages back through requests. And where stores leave no trace there is none to find. */
	if (atomic_load(&inode->mappable) == 0 || (!is_last && !op->fs->mmap_moves_mtime))
		return;
	if (fstatat(fd, "", &now, AT_EMPTY_PATH) < 0)
		return;
	if (inode->is_adopted && may_have_stores(op->fs, &now)) {
		log_mapped_stores(op, inode->nodeid, &now, false);
		op_drop_attributes(op, inode->nodeid);
		inode->has_stores = true;
	} else if (open_inode_differs(inode, &now)) {
		log_mapped_stores(op, inode->nodeid, &now, true);
		/* Not the pages, which are the file's own. */
		op_drop_attributes(op, inode->nodeid);
		inode->has_stores = true;
	} else if (is_last && (!op->fs->mmap_moves_mtime || inode->has_stores)) {
		log_mapped_stores(op, inode->nodeid, &now, false);
	}
	if (is_last && atomic_load(&inode->mappable) == 1)
		inode->has_stores = false;
	inode->is_adopted = false;
	open_inode_set_baseline(inode, &now);
}
