/*
 * Operations on the contents of open files.
 *
 * Writes of one file come one after the other: the kernel holds the inode's lock for a write, a truncation, an
 * allocation and a copy. An open with O_TRUNC comes without it, so "do" and "commit" of
 * changes to the contents are done under the open inode's order as well.
 */
#include "fusefs/look.h"
#include "fusefs/ops.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { COPY_MAX = 64 << 20 }; /* bytes of one copy: a thread must not be away for long, and a short copy is allowed */

/* ---- reading ---- */

/* Where the answer can be read to without another copy: the ring's own buffer, else memory of ours. */
static char *read_buffer(fuse_req_t req, size_t size, char **out_owned)
{
	size_t room;
	char *payload;

	*out_owned = NULL;
	if (fuse_req_is_uring(req) && fuse_req_get_payload(req, &payload, &room, NULL) == 0 && room >= size)
		return payload;
	return *out_owned = malloc(size);
}

/*
 * Whether the kernel asks on behalf of its page cache although the file is passed through: only reads of programs name a
 * lock owner.
 */
static bool is_for_cache(const struct file *file, const struct fuse_file_info *fi)
{
	return file->mode == OPEN_PASSTHROUGH && fi->lock_owner == 0;
}

void fs_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
	struct op *op = op_start(req, FUSE_READ);
	char *owned, *buffer;
	struct file *file;
	ssize_t n;
	int fd;

	if (!op)
		return;
	fd = op_file_fd(op, fi, &file);
	buffer = read_buffer(req, size, &owned);
	if (!buffer)
		n = -ENOMEM;
	else if (fd < 0)
		n = fd;
	else if ((n = pread(fd, buffer, size, offset)) < 0)
		n = -errno;
	if (n < 0) {
		op_reply_error(op, n);
	} else {
		struct open_inode *cached = is_for_cache(file, fi) ? mode_ref(op->fs->modes, ino) : NULL;

		fuse_reply_buf(req, buffer, n);
		if (cached) {
			look_drop_pages(op->fs->look, cached);
			mode_unref(op->fs->modes, cached);
		}
		op_end(op);
	}
	free(owned);
}

/* ---- writing ---- */

/* The kernel puts O_SYNC and O_DSYNC into a single write's flags as well (RWF_SYNC, RWF_DSYNC). */
static bool is_synchronous(const struct fs *fs, const struct file *file, const struct fuse_file_info *fi)
{
	return fs->options.sync_always || (file->flags | fi->flags) & (O_SYNC | O_DSYNC);
}

static int prepare_write(struct op *op, struct file *file, const struct fuse_file_info *fi)
{
	int r;

	op->is_hot = file->inode->last_writer == op->context->pid;
	file->inode->last_writer = op->context->pid;
	r = emit_prepare(op, EVENT_WRITE, file->nodeid, NULL);
	if (r == 0 && fi->writepage) {
		/* The kernel writes mapped pages back on behalf of nobody in particular. */
		op->event.origin = EVENT_MMAP;
		op->event.has &= ~EVENT_HAS_WHO;
	}
	return r;
}

/*
 * The kernel appends at the size it knows, which is old when somebody has appended or truncated (copytruncate of logrotate(8)) behind the
 * mount. It does not tell of RWF_NOAPPEND.
 */
static off_t append_offset(struct op *op, struct file *file, int fd, off_t offset, const struct fuse_file_info *fi)
{
	const struct event *announced = op->is_resent ? emit_announced(op) : NULL;
	struct stat now;

	/* What a dead worker appended must not be appended again. */
	if (announced && announced->op == EVENT_WRITE && announced->has & EVENT_HAS_OFFSET)
		return announced->offset;
	if (!(fi->flags & O_APPEND) || fi->writepage || op->fs->options.is_in_place || fstat(fd, &now) < 0)
		return offset;
	file->inode->size = now.st_size;
	return now.st_size;
}

static ssize_t write_all(int fd, const char *data, size_t size, off_t offset)
{
	size_t done = 0;

	while (done < size) {
		ssize_t n = pwrite(fd, data + done, size - done, offset + done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return done ? (ssize_t)done : n < 0 ? -errno : 0;
		done += n;
	}
	return done;
}

/* What a change left behind: the size, and the baseline for stores through a mapping. */
static void note_changed(struct op *op, struct file *file, int fd)
{
	struct stat now;

	if (fstat(fd, &now) < 0)
		return;
	op->event.size = now.st_size;
	op->event.has |= EVENT_HAS_SIZE;
	open_inode_set_baseline(file->inode, &now);
}

/* The same after a write: nobody else can have changed the size but behind the mount. Where stores leave a trace, a baseline is needed. */
static void note_written(struct op *op, struct file *file, int fd, off_t end)
{
	struct open_inode *inode = file->inode;

	if (!inode->has_size || (op->fs->mmap_moves_mtime && atomic_load(&inode->mappable) > 0)) {
		note_changed(op, file, fd);
		return;
	}
	open_inode_note_end(inode, end);
	op->event.size = inode->size;
	op->event.has |= EVENT_HAS_SIZE;
}

static ssize_t write_and_log(struct op *op, struct file *file, int fd, const char *data, size_t size,
			     off_t offset)
{
	ssize_t n;
	int emit;

	op->event.offset = offset;
	op->event.length = size;
	op->event.has |= EVENT_HAS_OFFSET | EVENT_HAS_LENGTH;
	emit = emit_begin(op);
	if (emit < 0)
		return emit;
	if (emit == EMIT_LOGGED)
		return emit_logged_length(op);
	op_charge_caller(op, fd, size);
	n = write_all(fd, data, size, offset);
	op_charge_daemon(op);
	if (n <= 0) {
		emit_rollback(op);
		return n;
	}
	op->event.length = n;
	note_written(op, file, fd, offset + n);
	emit_commit(op);
	return n;
}

static int finish_write(struct op *op, struct file *file, int fd, const struct fuse_file_info *fi)
{
	if (!is_synchronous(op->fs, file, fi))
		return 0;
	/* The descriptor has O_SYNC where the program opened the file so. */
	if (!(file->flags & (O_SYNC | O_DSYNC)) && fdatasync(fd) < 0)
		return -errno;
	return eventlog_sync(op->fs->log);
}

static ssize_t do_write(struct op *op, struct file *file, const char *data, size_t size, off_t offset,
			const struct fuse_file_info *fi)
{
	int fd = file_fd(file, op->fs->reach), r;
	ssize_t n;

	if (fd < 0)
		return fd;
	pthread_mutex_lock(&file->inode->order);
	op_look_for_stores(op, file->inode, fd, false);
	n = fi->kill_suidgid ? op_kill_set_id(op, file->nodeid, fd) : 0;
	if (n == 0)
		n = prepare_write(op, file, fi);
	if (n == 0)
		n = write_and_log(op, file, fd, data, size, append_offset(op, file, fd, offset, fi));
	pthread_mutex_unlock(&file->inode->order);
	if (n <= 0)
		return n;
	r = finish_write(op, file, fd, fi);
	return r < 0 ? r : n;
}

void fs_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t offset,
	      struct fuse_file_info *fi)
{
	struct op *op = op_start(req, FUSE_WRITE);
	struct file *file;
	ssize_t n;

	if (!op)
		return;
	file = file_find(op->fs->files, fi->fh);
	n = file ? do_write(op, file, data, size, offset, fi) : -EBADF;
	if (n < 0) {
		op_reply_error(op, n);
		return;
	}
	fuse_reply_write(req, n);
	op_end(op);
}

void fs_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct op *op = op_start(req, FUSE_FSYNC);
	struct file *file;
	int fd, r;

	if (!op)
		return;
	fd = op_file_fd(op, fi, &file);
	r = op_fsync(fd, datasync);
	if (r == 0) {
		pthread_mutex_lock(&file->inode->order);
		op_look_for_stores(op, file->inode, fd, false);
		pthread_mutex_unlock(&file->inode->order);
		r = eventlog_sync(op->fs->log);
	}
	op_reply_error(op, r);
}

/* ---- allocating and copying ---- */

static int allocate_and_log(struct op *op, struct file *file, int fd, int mode, off_t offset, off_t length)
{
	int emit, r = emit_prepare(op, EVENT_FALLOCATE, file->nodeid, NULL);

	if (r < 0)
		return r;
	op->event.mode = mode;
	op->event.offset = offset;
	op->event.length = length;
	op->event.has |= EVENT_HAS_MODE | EVENT_HAS_OFFSET | EVENT_HAS_LENGTH;
	emit = emit_begin(op);
	if (emit < 0 || emit == EMIT_LOGGED)
		return emit < 0 ? emit : 0;
	/* May be done twice: the modes that shift contents do not come through FUSE. */
	op_charge_caller(op, fd, length);
	r = fallocate(fd, mode, offset, length) < 0 ? -errno : 0;
	op_charge_daemon(op);
	if (r == 0)
		note_changed(op, file, fd);
	return emit_finish(op, emit, r);
}

/*
 * The kernel asks for set-id bits to be cleared with writes and truncations only; for these two it is for us to know
 * whether the caller may keep them.
 */
static int kill_set_id_for(struct op *op, uint64_t nodeid, int fd)
{
	return op->context->uid == 0 ? 0 : op_kill_set_id(op, nodeid, fd);
}

void fs_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
		  struct fuse_file_info *fi)
{
	struct op *op = op_start(req, FUSE_FALLOCATE);
	struct file *file;
	int fd, r;

	if (!op)
		return;
	fd = r = op_file_fd(op, fi, &file);
	if (r >= 0) {
		pthread_mutex_lock(&file->inode->order);
		op_look_for_stores(op, file->inode, fd, false);
		r = kill_set_id_for(op, file->nodeid, fd);
		if (r == 0)
			r = allocate_and_log(op, file, fd, mode, offset, length);
		pthread_mutex_unlock(&file->inode->order);
	}
	op_reply_error(op, r);
}

static ssize_t copy_and_log(struct op *op, int from_fd, off_t from_offset, struct file *to, int to_fd,
			    off_t to_offset, size_t size, int flags)
{
	ssize_t n = emit_prepare(op, EVENT_COPY, to->nodeid, NULL);
	int emit;

	if (n < 0)
		return n;
	op->event.offset = to_offset;
	op->event.length = size;
	op->event.has |= EVENT_HAS_OFFSET | EVENT_HAS_LENGTH;
	emit = emit_begin(op);
	if (emit < 0)
		return emit;
	if (emit == EMIT_LOGGED)
		return emit_logged_length(op);
	op_charge_caller(op, to_fd, size);
	n = copy_file_range(from_fd, &from_offset, to_fd, &to_offset, size, flags);
	op_charge_daemon(op);
	if (n <= 0) {
		n = n < 0 ? -errno : 0;
		emit_rollback(op);
		return n;
	}
	op->event.length = n;
	note_written(op, to, to_fd, op->event.offset + n);
	emit_commit(op);
	return n;
}

static ssize_t do_copy(struct op *op, struct file *from, off_t from_offset, struct file *to, off_t to_offset,
		       size_t size, int flags)
{
	int from_fd = file_fd(from, op->fs->reach);
	int to_fd = file_fd(to, op->fs->reach);
	ssize_t n;

	if (from_fd < 0 || to_fd < 0)
		return from_fd < 0 ? from_fd : to_fd;
	pthread_mutex_lock(&to->inode->order);
	op_look_for_stores(op, to->inode, to_fd, false);
	n = kill_set_id_for(op, to->nodeid, to_fd);
	if (n == 0)
		n = copy_and_log(op, from_fd, from_offset, to, to_fd, to_offset, size, flags);
	pthread_mutex_unlock(&to->inode->order);
	return n;
}

void fs_copy_file_range(fuse_req_t req, fuse_ino_t from, off_t from_offset, struct fuse_file_info *from_fi,
			fuse_ino_t to, off_t to_offset, struct fuse_file_info *to_fi, size_t size, int flags)
{
	struct op *op = op_start(req, FUSE_COPY_FILE_RANGE);
	struct file *from_file, *to_file;
	ssize_t n = -EBADF;

	if (!op)
		return;
	from_file = file_find(op->fs->files, from_fi->fh);
	to_file = file_find(op->fs->files, to_fi->fh);
	if (from_file && to_file)
		n = do_copy(op, from_file, from_offset, to_file, to_offset, size < COPY_MAX ? size : COPY_MAX,
			    flags);
	if (n < 0) {
		op_reply_error(op, n);
		return;
	}
	fuse_reply_write(req, n);
	op_end(op);
}

/* ---- looking ---- */

void fs_lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence, struct fuse_file_info *fi)
{
	struct op *op = op_start(req, FUSE_LSEEK);
	struct file *file;
	off_t at;
	int fd;

	if (!op)
		return;
	fd = op_file_fd(op, fi, &file);
	at = fd < 0 ? fd : lseek(fd, offset, whence);
	if (fd >= 0 && at < 0)
		at = -errno;
	if (at < 0) {
		op_reply_error(op, at);
		return;
	}
	fuse_reply_lseek(req, at);
	op_end(op);
}

/* The inode flags that lsattr and chattr know; all else stays with the kernel's own file systems. */
static int do_ioctl(int fd, unsigned int command, const void *in, size_t in_size, void *out, size_t out_size)
{
	int flags;

	switch (command) {
	case FS_IOC_GETFLAGS:
	case FS_IOC_GETVERSION:
		if (out_size < sizeof(flags) || ioctl(fd, command, &flags) < 0)
			return out_size < sizeof(flags) ? -EINVAL : -errno;
		memcpy(out, &flags, sizeof(flags));
		return sizeof(flags);
	case FS_IOC_SETFLAGS:
		if (in_size < sizeof(flags))
			return -EINVAL;
		memcpy(&flags, in, sizeof(flags));
		return ioctl(fd, command, &flags) < 0 ? -errno : 0;
	case FS_IOC_FSGETXATTR:
		if (out_size < sizeof(struct fsxattr))
			return -EINVAL;
		return ioctl(fd, command, out) < 0 ? -errno : (int)sizeof(struct fsxattr);
	case FS_IOC_FSSETXATTR:
		if (in_size < sizeof(struct fsxattr))
			return -EINVAL;
		return ioctl(fd, command, in) < 0 ? -errno : 0;
	default:
		return -ENOTTY;
	}
}

void fs_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned int command, void *argument,
	      struct fuse_file_info *fi, unsigned flags, const void *in, size_t in_size, size_t out_size)
{
	struct op *op = op_start(req, FUSE_IOCTL);
	char out[sizeof(struct fsxattr)];
	struct file *file, unasked;
	int fd, r;

	if (!op)
		return;
	file = op_find_file(op, ino, fi, &unasked);
	fd = file ? file_fd(file, op->fs->reach) : -EBADF;
	r = fd < 0 ? fd : do_ioctl(fd, command, in, in_size, out, out_size);
	file_finish(&unasked);
	if (r < 0) {
		op_reply_error(op, r);
		return;
	}
	if (command == FS_IOC_SETFLAGS || command == FS_IOC_FSSETXATTR)
		op_drop_attributes(op, ino);
	fuse_reply_ioctl(req, 0, out, r);
	op_end(op);
}
