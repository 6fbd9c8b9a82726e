/*
 * Operations on attributes: setattr in its parts.
 *
 * One SETATTR may ask for several changes; each is an event of its own, in the order of chown, chmod, truncate, utimens. Set-id bits are
 * cleared, with an event of its own, before what clears them.
 */
#include "fusefs/ops.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SET_OWNER = FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID,
       SET_TIMES = FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_ATIME_NOW |
		   FUSE_SET_ATTR_MTIME_NOW };

/* What a SETATTR is about: a descriptor that may be O_PATH, and the open file if the caller named one. */
struct subject {
	uint64_t nodeid;
	int fd;              /* any descriptor */
	int open_fd;         /* one that can be written through, or -1 */
	bool is_path;        /* fd is O_PATH */
	char link[REACH_LINK_SIZE];
};

static int set_owner(struct op *op, const struct subject *subject, const struct stat *attr, int to_set)
{
	uid_t uid = to_set & FUSE_SET_ATTR_UID ? attr->st_uid : (uid_t)-1;
	gid_t gid = to_set & FUSE_SET_ATTR_GID ? attr->st_gid : (gid_t)-1;
	int emit, r = emit_prepare(op, EVENT_CHOWN, subject->nodeid, NULL);

	if (r < 0)
		return r;
	op->event.owner_uid = uid;
	op->event.owner_gid = gid;
	op->event.has |= EVENT_HAS_OWNER;
	emit = emit_begin(op);
	if (emit < 0)
		return emit;
	if (emit != EMIT_LOGGED && fchownat(subject->fd, "", uid, gid, AT_EMPTY_PATH) < 0)
		r = -errno;
	return emit_finish(op, emit, r);
}

static int announce_mode(struct op *op, const struct subject *subject, mode_t mode)
{
	int r = emit_prepare(op, EVENT_CHMOD, subject->nodeid, NULL);

	if (r < 0)
		return r;
	op->event.mode = mode & 07777;
	op->event.has |= EVENT_HAS_MODE;
	return emit_begin(op);
}

/* chmod(2) of an O_PATH descriptor needs its path: fchmodat2(2) is younger than the kernels we run on. */
static int chmod_subject(const struct subject *subject, mode_t mode)
{
	return subject->is_path ? chmod(subject->link, mode) : fchmod(subject->fd, mode);
}

static int change_mode(struct op *op, const struct subject *subject, mode_t mode)
{
	int emit = announce_mode(op, subject, mode), r = 0;

	if (emit < 0)
		return emit;
	if (emit != EMIT_LOGGED && chmod_subject(subject, mode & 07777) < 0)
		r = -errno;
	return emit_finish(op, emit, r);
}

/*
 * What chown(2) leaves of a mode. Without group execution set-gid once meant mandatory locking: root and members of the
 * group keep it.
 */
static mode_t mode_after_chown(const struct op *op, const struct stat *now)
{
	mode_t mode = now->st_mode;

	if (S_ISDIR(mode))
		return mode;
	mode &= ~S_ISUID;
	if (mode & S_ISGID &&
	    (mode & S_IXGRP || (op->context->uid != 0 && !op_caller_is_in_group(op, now->st_gid))))
		mode &= ~S_ISGID;
	return mode;
}

static int change_owner(struct op *op, const struct subject *subject, const struct stat *attr, int to_set)
{
	enum emit known = emit_recall(op, EVENT_CHMOD);
	struct stat before;
	mode_t mode;
	int r = 0;

	if (fstatat(subject->fd, "", &before, AT_EMPTY_PATH) < 0)
		return -errno;
	mode = known == EMIT_MAYBE ? emit_announced(op)->mode : mode_after_chown(op, &before);
	if (known == EMIT_MAYBE || (known == EMIT_GO && mode != before.st_mode))
		r = change_mode(op, subject, mode);
	else
		emit_skip(op);
	return r < 0 ? r : set_owner(op, subject, attr, to_set);
}

static int truncate_subject(const struct subject *subject, off_t size)
{
	int r = subject->open_fd >= 0 ? ftruncate(subject->open_fd, size) : truncate(subject->link, size);

	return r < 0 ? -errno : 0;
}

static int change_size(struct op *op, const struct subject *subject, off_t size, bool kill)
{
	int emit, r = kill ? op_kill_set_id(op, subject->nodeid, subject->fd) : 0;

	if (r == 0)
		r = emit_prepare(op, EVENT_TRUNCATE, subject->nodeid, NULL);
	if (r < 0)
		return r;
	op->event.size = size;
	op->event.has |= EVENT_HAS_SIZE;
	emit = emit_begin(op);
	if (emit < 0)
		return emit;
	if (emit != EMIT_LOGGED)
		r = truncate_subject(subject, size);
	return emit_finish(op, emit, r);
}

static struct timespec pick_time(int to_set, int set, int now, const struct timespec *time)
{
	if (to_set & now)
		return (struct timespec){ .tv_nsec = UTIME_NOW };
	if (to_set & set)
		return *time;
	return (struct timespec){ .tv_nsec = UTIME_OMIT };
}

static int change_times(struct op *op, const struct subject *subject, const struct stat *attr, int to_set)
{
	struct timespec times[2] = {
		pick_time(to_set, FUSE_SET_ATTR_ATIME, FUSE_SET_ATTR_ATIME_NOW, &attr->st_atim),
		pick_time(to_set, FUSE_SET_ATTR_MTIME, FUSE_SET_ATTR_MTIME_NOW, &attr->st_mtim),
	};
	int emit, r = emit_prepare(op, EVENT_UTIMENS, subject->nodeid, NULL);

	if (r < 0)
		return r;
	emit = emit_begin(op);
	if (emit < 0)
		return emit;
	if (emit != EMIT_LOGGED && utimensat(subject->fd, "", times, AT_EMPTY_PATH) < 0)
		r = -errno;
	return emit_finish(op, emit, r);
}

static int change(struct op *op, const struct subject *subject, const struct stat *attr, int to_set)
{
	int r = 0;

	/* chown(2) that changes neither owner comes with nothing set, and clears set-id bits all the same. */
	if (to_set & SET_OWNER || to_set == 0)
		r = change_owner(op, subject, attr, to_set);
	if (r == 0 && to_set & FUSE_SET_ATTR_MODE)
		r = change_mode(op, subject, attr->st_mode);
	if (r == 0 && to_set & FUSE_SET_ATTR_SIZE)
		r = change_size(op, subject, attr->st_size, to_set & FUSE_SET_ATTR_KILL_SUID);
	if (r == 0 && to_set & SET_TIMES)
		r = change_times(op, subject, attr, to_set);
	return r;
}

/* Find a descriptor: of the open file that the caller named, of one that is open for writing, or a cached one. */
static int find_subject(struct op *op, const struct open_inode *inode, struct file *file, struct subject *subject,
			struct reached *reached)
{
	int r = 0;

	if (file)
		subject->fd = subject->open_fd = file_fd(file, op->fs->reach);
	if (subject->fd < 0 && inode->lender)
		subject->fd = atomic_load(&inode->lender->fd);
	if (subject->fd < 0) {
		r = reach_get(op->fs->reach, subject->nodeid, reached);
		subject->fd = reached->fd;
		subject->is_path = true;
	}
	if (r == 0)
		reach_link(subject->fd, subject->link);
	return r;
}

static int change_and_look(struct op *op, struct open_inode *inode, const struct subject *subject,
			   const struct stat *attr, int to_set, struct stat *out)
{
	int r;

	op_look_for_stores(op, inode, subject->fd, false);
	op->is_hot = inode->last_writer == op->context->pid;
	r = change(op, subject, attr, to_set);
	if (r == 0 && fstatat(subject->fd, "", out, AT_EMPTY_PATH) < 0)
		r = -errno;
	if (r == 0)
		open_inode_set_baseline(inode, out);
	return r;
}

/* In order with the changes of who opens the file meanwhile; and what we changed ourselves is no store through a mapping. */
static int change_in_order(struct op *op, uint64_t nodeid, struct file *file, const struct stat *attr, int to_set,
			   struct stat *out)
{
	struct open_inode *inode = mode_hold(op->fs->modes, nodeid);
	struct subject subject = { .nodeid = nodeid, .fd = -1, .open_fd = -1 };
	struct reached reached = REACHED_NONE;
	int r;

	if (!inode)
		return -ENOMEM;
	pthread_mutex_lock(&inode->order);
	r = find_subject(op, inode, file, &subject, &reached);
	if (r == 0)
		r = change_and_look(op, inode, &subject, attr, to_set, out);
	pthread_mutex_unlock(&inode->order);
	mode_unref(op->fs->modes, inode);
	reach_put(op->fs->reach, &reached);
	return r;
}

void fs_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set, struct fuse_file_info *fi)
{
	struct op *op = op_start(req, FUSE_SETATTR);
	struct stat now;
	int r;

	if (!op)
		return;
	r = change_in_order(op, ino, fi ? file_find(op->fs->files, fi->fh) : NULL, attr, to_set, &now);
	if (r < 0) {
		op_reply_error(op, r);
		return;
	}
	fuse_reply_attr(req, &now, op->fs->timeout_s);
	op_end(op);
}
