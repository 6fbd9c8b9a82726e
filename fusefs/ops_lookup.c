/*
 * Operations that find and describe: lookup, forget, getattr, readlink, statfs.
 */
#include "fusefs/ops.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

enum { FORGET_PAUSE_NS = 1000 * 1000 };

static void fill_times(struct fs *fs, struct fuse_entry_param *entry)
{
	entry->attr_timeout = fs->timeout_s;
	entry->entry_timeout = fs->timeout_s;
}

void op_fill_known(struct op *op, uint64_t nodeid, struct fuse_entry_param *entry)
{
	entry->ino = nodeid;
	entry->generation = nodeid >> 32;
	fill_times(op->fs, entry);
}

int op_fill_entry(struct op *op, uint64_t parent, int dir_fd, const char *name, struct fuse_entry_param *entry)
{
	struct inode_handle handle;
	uint64_t nodeid;
	uint32_t epoch;
	int r;

	memset(entry, 0, sizeof(*entry));
	/* The kernel does not lock the directory when it looks whether an old entry is still right. */
	do {
		epoch = inode_epoch(op->fs->inodes, parent);
		r = reach_identify(op->fs->reach, dir_fd, name, &entry->attr, &handle);
		if (r == 0)
			r = inode_learn(op->fs->inodes, parent, name, &entry->attr, &handle, &epoch, &nodeid);
	} while (r == -EAGAIN);
	if (r == -ENOENT)
		inode_unlinked(op->fs->inodes, parent, name, &epoch);
	if (r == 0)
		op_fill_known(op, nodeid, entry);
	return r;
}

int op_fill_entry_made(struct op *op, uint64_t parent, int dir_fd, const char *name, struct fuse_entry_param *entry)
{
	struct inode_handle handle;
	uint64_t nodeid;
	int r;

	memset(entry, 0, sizeof(*entry));
	r = reach_identify(op->fs->reach, dir_fd, name, &entry->attr, &handle);
	if (r == 0)
		r = inode_learn(op->fs->inodes, parent, name, &entry->attr, &handle, NULL, &nodeid);
	if (r == 0)
		op_fill_known(op, nodeid, entry);
	return r;
}

int op_fill_entry_linked(struct op *op, uint64_t parent, const char *name, const struct inode_view *inode,
			 const struct stat *attributes, struct fuse_entry_param *entry)
{
	uint64_t nodeid;
	int r = inode_learn(op->fs->inodes, parent, name, attributes, &inode->handle, NULL, &nodeid);

	if (r < 0)
		return r;
	*entry = (struct fuse_entry_param){ .attr = *attributes };
	op_fill_known(op, nodeid, entry);
	return 0;
}

int op_fill_entry_fd(struct op *op, uint64_t parent, const char *name, int fd, struct fuse_entry_param *entry)
{
	struct inode_handle handle;
	uint64_t nodeid;
	int r;

	memset(entry, 0, sizeof(*entry));
	r = reach_identify_fd(op->fs->reach, fd, &entry->attr, &handle);
	if (r == 0)
		r = inode_learn(op->fs->inodes, parent, name, &entry->attr, &handle, NULL, &nodeid);
	if (r == 0)
		op_fill_known(op, nodeid, entry);
	return r;
}

void op_forget(struct fs *fs, uint64_t nodeid, uint64_t count)
{
	/* A descriptor that was kept for speed, or for an inode without a name, must not outlive its inode. */
	if (inode_forget(fs->inodes, nodeid, count))
		reach_drop(fs->reach, nodeid);
}

static int look_up_name(struct op *op, uint64_t parent, const char *name, struct fuse_entry_param *entry)
{
	struct reached dir = REACHED_NONE;
	int r = reach_get(op->fs->reach, parent, &dir);

	if (r == 0)
		r = op_fill_entry(op, parent, dir.fd, name, entry);
	reach_put(op->fs->reach, &dir);
	return r;
}

/* By its number, which the kernel has from a file handle. */
static int look_up_known(struct op *op, uint64_t nodeid, struct fuse_entry_param *entry)
{
	struct reached reached = REACHED_NONE;
	int r = reach_get(op->fs->reach, nodeid, &reached);

	if (r == 0)
		r = op_fill_entry_fd(op, 0, NULL, reached.fd, entry);
	reach_put(op->fs->reach, &reached);
	/* The number was used again behind the mount. */
	if (r == 0 && entry->ino != nodeid) {
		op_forget(op->fs, entry->ino, 1);
		r = -ESTALE;
	}
	return r;
}

static int look_up_parent(struct op *op, uint64_t nodeid, struct fuse_entry_param *entry)
{
	struct inode_view view;
	int r = inode_get(op->fs->inodes, nodeid, &view);

	if (r < 0)
		return r;
	return view.parent ? look_up_known(op, view.parent, entry) : -ESTALE;
}

void fs_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct op *op = op_start(req, FUSE_LOOKUP);
	struct fuse_entry_param entry;
	int r;

	if (!op)
		return;
	if (strcmp(name, ".") == 0)
		r = look_up_known(op, parent, &entry);
	else if (strcmp(name, "..") == 0)
		r = look_up_parent(op, parent, &entry);
	else
		r = look_up_name(op, parent, name, &entry);
	if (r == -ENOENT) {
		/* Number 0 lets the kernel remember that there is no such name. */
		memset(&entry, 0, sizeof(entry));
		fill_times(op->fs, &entry);
		r = 0;
	}
	if (r < 0) {
		op_reply_error(op, r);
		return;
	}
	if (fuse_reply_entry(req, &entry) != 0 && entry.ino)
		op_forget(op->fs, entry.ino, 1);
	op_end(op);
}

/*
 * Over io_uring one thread does nothing but this and interrupts, because all else comes by the ring. While it sleeps what there is to
 * forget gathers, and is read at once: removing many files woke it for each one, which took the processor from the requests.
 */
static void let_gather(const struct fs *fs)
{
	static const struct timespec pause = { .tv_nsec = FORGET_PAUSE_NS };

	if (fs->uses_uring)
		nanosleep(&pause, NULL);
}

void fs_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
	struct op *op = op_of_thread(fuse_req_userdata(req));

	if (op) {
		op_count(op, FUSE_FORGET);
		op_forget(op->fs, ino, nlookup);
		let_gather(op->fs);
	}
	fuse_reply_none(req);
}

void fs_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	struct op *op = op_of_thread(fuse_req_userdata(req));

	if (op) {
		op_count(op, FUSE_BATCH_FORGET);
		for (size_t i = 0; i < count; i++)
			op_forget(op->fs, forgets[i].ino, forgets[i].nlookup);
		let_gather(op->fs);
	}
	fuse_reply_none(req);
}

int op_stat(struct op *op, uint64_t nodeid, struct file *file, struct stat *out)
{
	int fd = file ? atomic_load(&file->fd) : -1;

	if (fd >= 0)
		return fstat(fd, out) < 0 ? -errno : 0;
	return reach_stat(op->fs->reach, nodeid, out);
}

void fs_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct op *op = op_start(req, FUSE_GETATTR);
	struct stat attributes;
	int r;

	if (!op)
		return;
	r = op_stat(op, ino, fi ? file_find(op->fs->files, fi->fh) : NULL, &attributes);
	if (r < 0) {
		op_reply_error(op, r);
		return;
	}
	fuse_reply_attr(req, &attributes, op->fs->timeout_s);
	op_end(op);
}

/* What getattr cannot say: the time of birth. */
void fs_statx(fuse_req_t req, fuse_ino_t ino, int flags, int mask, struct fuse_file_info *fi)
{
	struct op *op = op_start(req, KERNEL_STATX);
	struct reached reached = REACHED_NONE;
	struct statx attributes;
	int r;

	if (!op)
		return;
	r = reach_get(op->fs->reach, ino, &reached);
	if (r == 0 && statx(reached.fd, "", AT_EMPTY_PATH | (flags & AT_STATX_SYNC_TYPE), mask, &attributes) < 0)
		r = -errno;
	reach_put(op->fs->reach, &reached);
	if (r < 0) {
		op_reply_error(op, r);
		return;
	}
	fuse_reply_statx(req, 0, &attributes, op->fs->timeout_s);
	op_end(op);
}

void fs_readlink(fuse_req_t req, fuse_ino_t ino)
{
	struct op *op = op_start(req, FUSE_READLINK);
	struct reached reached = REACHED_NONE;
	char target[PATH_MAX + 1];
	ssize_t n;
	int r;

	if (!op)
		return;
	r = reach_get(op->fs->reach, ino, &reached);
	if (r == 0) {
		n = readlinkat(reached.fd, "", target, PATH_MAX);
		if (n < 0)
			r = -errno;
		else
			target[n] = '\0';
	}
	reach_put(op->fs->reach, &reached);
	if (r < 0) {
		op_reply_error(op, r);
		return;
	}
	fuse_reply_readlink(req, target);
	op_end(op);
}

void fs_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct op *op = op_start(req, FUSE_STATFS);
	struct reached reached = REACHED_NONE;
	struct statvfs numbers;
	int r;

	if (!op)
		return;
	r = reach_get(op->fs->reach, ino, &reached);
	if (r == 0 && fstatvfs(reached.fd, &numbers) < 0)
		r = -errno;
	reach_put(op->fs->reach, &reached);
	if (r < 0) {
		op_reply_error(op, r);
		return;
	}
	fuse_reply_statfs(req, &numbers);
	op_end(op);
}
