/*
 * Operations on open files.
 *
 * Writes of one file come one after the other: the kernel holds the inode's lock for a write, a truncation, an
 * allocation and a copy. An open with O_TRUNC comes without it, so "do" and "commit" of
 * changes to the contents are done under the open inode's order as well.
 */
#include "fusefs/look.h"
#include "fusefs/ops.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { COPY_MAX = 64 << 20 }; /* bytes of one copy: a thread must not be away for long, and a short copy is allowed */

static bool is_for_writing(int flags)
{
	return (flags & O_ACCMODE) != O_RDONLY;
}

static bool is_synchronous(const struct fs *fs, const struct file *file)
{
	return fs->options.sync_always || file->flags & (O_SYNC | O_DSYNC);
}

/* ---- opening ---- */

static void fill_reply(const struct fs *fs, const struct file *file, struct fuse_file_info *fi)
{
	fi->fh = file->fh;
	/* RELEASE carries the end of an open; nothing needs to be flushed before. */
	fi->noflush = 1;
	switch (file->mode) {
	case OPEN_PASSTHROUGH:
		fi->backing_id = file->inode->backing_id;
		fi->direct_io = is_for_writing(file->flags);
		break;
	case OPEN_DIRECT:
		fi->direct_io = 1;
		break;
	default:
		/* A write through the page cache may be cut at its pages; past it, write(2) is one request. */
		fi->direct_io = is_for_writing(file->flags) && fs->can_map_direct;
		fi->keep_cache = !fi->direct_io;
		break;
	}
}

static void note_opener(struct op *op, struct file *file)
{
	const struct who_slot *who = who_find(&op->who, op->context->pid, true);

	file->pid = who->pid;
	file->uid = op->context->uid;
	file->gid = op->context->gid;
	memcpy(file->comm, who->comm, sizeof(file->comm));
}

static void set_baseline(struct file *file, int fd)
{
	struct stat now;

	pthread_mutex_lock(&file->inode->order);
	if (!file->inode->has_baseline && fstatat(fd, "", &now, AT_EMPTY_PATH) == 0)
		open_inode_set_baseline(file->inode, &now);
	pthread_mutex_unlock(&file->inode->order);
}

/*
 * Makes the open file. Takes over @fd (-1: none needed) when it succeeds; @path_fd is any descriptor of the file.
 */
static int open_file(struct op *op, uint64_t nodeid, int flags, bool is_new, int fd, int path_fd,
		     struct file **out)
{
	struct open_inode *inode;
	enum open_mode mode;
	struct file *file;
	int r = mode_open(op->fs->modes, nodeid, flags, is_new, path_fd, &mode, &inode);

	if (r < 0)
		return r;
	file = file_create(op->fs->files, nodeid, flags, mode, inode, fd, false, op->request);
	if (!file) {
		mode_close(op->fs->modes, inode, mode, flags);
		return -ENOMEM;
	}
	if (is_for_writing(flags)) {
		note_opener(op, file);
		set_baseline(file, path_fd);
	}
	if (mode == OPEN_PASSTHROUGH && (flags & O_ACCMODE) == O_RDWR)
		look_wake(op->fs->look);
	*out = file;
	return 0;
}

static void close_file(struct op *op, struct file *file)
{
	struct open_inode *inode = file->inode;
	enum open_mode mode = file->mode;
	int flags = file->flags;

	/* Descriptor first: what passthrough the inode may have is decided after it. */
	file_destroy(op->fs->files, file);
	mode_close(op->fs->modes, inode, mode, flags);
}

static int truncate_opened(struct op *op, uint64_t nodeid, int path_fd, int fd)
{
	char link[REACH_LINK_SIZE];
	int r = emit_prepare(op, EVENT_TRUNCATE, nodeid, NULL), emit;

	if (r < 0)
		return r;
	op->event.size = 0;
	op->event.has |= EVENT_HAS_SIZE;
	emit = emit_begin(op);
	if (emit < 0)
		return emit;
	reach_link(path_fd, link);
	if (emit != EMIT_LOGGED)
		r = (is_for_writing(fcntl(fd, F_GETFL)) ? ftruncate(fd, 0) : truncate(link, 0)) < 0 ? -errno : 0;
	return emit_finish(op, emit, r);
}

/* What O_TRUNC does, in order with writes through other opens of the file. */
static int truncate_on_open(struct op *op, uint64_t nodeid, int path_fd, int fd, bool kill)
{
	struct open_inode *inode = mode_ref(op->fs->modes, nodeid);
	struct stat now;
	int r;

	if (inode) {
		pthread_mutex_lock(&inode->order);
		op_look_for_stores(op, inode, fd, false);
	}
	r = truncate_opened(op, nodeid, path_fd, fd);
	if (r == 0 && kill)
		r = op_kill_set_id(op, nodeid, fd);
	if (inode) {
		if (fstat(fd, &now) == 0)
			open_inode_set_baseline(inode, &now);
		pthread_mutex_unlock(&inode->order);
		mode_unref(op->fs->modes, inode);
	}
	return r;
}

static int daemon_flags(int flags)
{
	/* O_DIRECT would ask for aligned buffers; O_APPEND would take the offset out of our hands. */
	return flags & ~(O_CREAT | O_EXCL | O_TRUNC | O_NOCTTY | O_DIRECT | O_APPEND | O_NOFOLLOW);
}

/* Reading in passthrough mode needs no descriptor of ours. */
static bool needs_fd(struct op *op, int flags)
{
	return is_for_writing(flags) || flags & O_TRUNC || !modes_use_passthrough(op->fs->modes);
}

static int open_existing(struct op *op, uint64_t nodeid, int path_fd, const struct fuse_file_info *fi,
			 struct file **out)
{
	int fd = -1, r = 0;

	if (needs_fd(op, fi->flags)) {
		fd = reach_reopen(path_fd, fi->flags & ~(O_TRUNC | O_NOCTTY));
		if (fd < 0)
			return fd;
	}
	if (fi->flags & O_TRUNC)
		r = truncate_on_open(op, nodeid, path_fd, fd, fi->kill_suidgid);
	if (r == 0)
		r = open_file(op, nodeid, fi->flags, false, fd, path_fd, out);
	if (r < 0 && fd >= 0)
		close(fd);
	return r;
}

void fs_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct op *op = op_start(req, FUSE_OPEN);
	struct reached reached = REACHED_NONE;
	struct file *file = NULL;
	int r = 0;

	if (!op)
		return;
	/* An open that was made but not answered is found again, or it would stay open for ever. */
	if (op->is_resent)
		file = file_find_request(op->fs->files, op->request);
	if (!file)
		r = reach_get(op->fs->reach, ino, &reached);
	if (!file && r == 0)
		r = open_existing(op, ino, reached.fd, fi, &file);
	reach_put(op->fs->reach, &reached);
	if (r < 0) {
		op_reply_error(op, r);
		return;
	}
	fill_reply(op->fs, file, fi);
	if (fuse_reply_open(req, fi) != 0)
		close_file(op, file);
	op_end(op);
}

/* ---- creating ---- */

static int create_name(struct op *op, int dir_fd, const char *name, int flags, mode_t mode)
{
	int fd;

	op_become_caller(op);
	fd = openat(dir_fd, name, daemon_flags(flags) | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
	if (fd < 0)
		fd = -errno;
	op_become_daemon(op);
	return fd;
}

static int open_name(int dir_fd, const char *name, int flags)
{
	int fd = openat(dir_fd, name, daemon_flags(flags) | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/*
 * The new file, or with *@is_new false one that was there without the kernel knowing. Logs the creation. Returns a
 * descriptor or a negative errno.
 */
static int create_and_log(struct op *op, uint64_t parent, int dir_fd, const char *name, mode_t mode,
			  const struct fuse_file_info *fi, struct fuse_entry_param *entry, bool *is_new)
{
	int emit, fd, r = emit_prepare(op, EVENT_CREATE, parent, name);

	if (r < 0)
		return r;
	emit = emit_begin(op);
	if (emit < 0)
		return emit;
	*is_new = emit != EMIT_MAYBE || !op_was_born_since(dir_fd, name, emit_announced_ns(op));
	if (emit == EMIT_LOGGED || !*is_new)
		fd = open_name(dir_fd, name, fi->flags);
	else
		fd = create_name(op, dir_fd, name, fi->flags, mode);
	if (fd < 0)
		return emit_finish(op, emit, fd);
	*is_new = true;
	r = op_fill_entry_fd(op, parent, name, fd, entry);
	if (r == 0)
		op_note(op, &entry->attr);
	op->event.has |= EVENT_HAS_MODE;
	emit_finish(op, emit, 0);
	if (r < 0)
		close(fd);
	return r < 0 ? r : fd;
}

/* The name exists after all: made behind the mount. An open like any other, by its name. */
static int open_unexpected(struct op *op, uint64_t parent, int dir_fd, const char *name,
			   const struct fuse_file_info *fi, struct fuse_entry_param *entry)
{
	int fd = open_name(dir_fd, name, fi->flags), r;

	if (fd < 0)
		return fd;
	r = op_fill_entry_fd(op, parent, name, fd, entry);
	if (r == 0 && !S_ISREG(entry->attr.st_mode))
		r = -EEXIST;
	if (r == 0 && fi->flags & O_TRUNC) {
		r = truncate_on_open(op, entry->ino, fd, fd, fi->kill_suidgid);
		entry->attr.st_size = 0;
	}
	if (r < 0)
		close(fd);
	return r < 0 ? r : fd;
}

static int create_or_open(struct op *op, uint64_t parent, int dir_fd, const char *name, mode_t mode,
			  const struct fuse_file_info *fi, struct fuse_entry_param *entry, struct file **out)
{
	bool is_new = false;
	int fd, r;

	fd = create_and_log(op, parent, dir_fd, name, mode, fi, entry, &is_new);
	if (fd == -EEXIST && !(fi->flags & O_EXCL)) {
		is_new = false;
		fd = open_unexpected(op, parent, dir_fd, name, fi, entry);
	}
	if (fd < 0)
		return fd;
	r = open_file(op, entry->ino, fi->flags, is_new, fd, fd, out);
	if (r < 0) {
		inode_forget(op->fs->inodes, entry->ino, 1);
		close(fd);
	}
	return r;
}

static void reply_create(struct op *op, const struct fuse_entry_param *entry, struct file *file,
			 struct fuse_file_info *fi)
{
	fill_reply(op->fs, file, fi);
	if (fuse_reply_create(op->req, entry, fi) != 0) {
		close_file(op, file);
		inode_forget(op->fs->inodes, entry->ino, 1);
	}
	op_end(op);
}

void fs_create_file(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		    struct fuse_file_info *fi)
{
	struct op *op = op_start(req, FUSE_CREATE);
	struct reached dir = REACHED_NONE;
	struct fuse_entry_param entry;
	struct file *file = NULL;
	int r;

	if (!op)
		return;
	r = reach_get(op->fs->reach, parent, &dir);
	if (r == 0 && op->is_resent)
		file = file_find_request(op->fs->files, op->request);
	if (file)
		r = op_fill_entry(op, parent, dir.fd, name, &entry);
	else if (r == 0)
		r = create_or_open(op, parent, dir.fd, name, mode, fi, &entry, &file);
	reach_put(op->fs->reach, &dir);
	if (r < 0)
		op_reply_error(op, r);
	else
		reply_create(op, &entry, file, fi);
}

/* A file without a name is no change of the tree; LINK gives it one, and its writes are logged as "#INO". */
static int make_tmpfile(struct op *op, int dir_fd, mode_t mode, const struct fuse_file_info *fi,
			struct fuse_entry_param *entry, struct file **out)
{
	int fd, r;

	op_become_caller(op);
	fd = openat(dir_fd, ".", daemon_flags(fi->flags) | O_TMPFILE | (fi->flags & O_EXCL) | O_CLOEXEC, mode);
	r = fd < 0 ? -errno : 0;
	op_become_daemon(op);
	if (r < 0)
		return r;
	r = op_fill_entry_fd(op, 0, NULL, fd, entry);
	if (r == 0) {
		reach_keep(op->fs->reach, entry->ino, fd);
		r = open_file(op, entry->ino, fi->flags & ~O_TMPFILE, false, fd, fd, out);
	}
	if (r < 0)
		close(fd);
	return r;
}

void fs_tmpfile(fuse_req_t req, fuse_ino_t parent, mode_t mode, struct fuse_file_info *fi)
{
	struct op *op = op_start(req, KERNEL_TMPFILE);
	struct reached dir = REACHED_NONE;
	struct fuse_entry_param entry;
	struct file *file;
	int r;

	if (!op)
		return;
	r = reach_get(op->fs->reach, parent, &dir);
	if (r == 0)
		r = make_tmpfile(op, dir.fd, mode, fi, &entry, &file);
	reach_put(op->fs->reach, &dir);
	if (r < 0)
		op_reply_error(op, r);
	else
		reply_create(op, &entry, file, fi);
}

/* ---- closing ---- */

static int prepare_close(struct op *op, struct file *file)
{
	struct stat now;
	int r = emit_prepare(op, EVENT_CLOSE, file->nodeid, NULL);

	if (r < 0)
		return r;
	if (op_stat(op, file->nodeid, file, &now) == 0)
		op_note(op, &now);
	op->event.has &= ~EVENT_HAS_MODE;
	op->event.pid = file->pid;
	op->event.uid = file->uid;
	op->event.gid = file->gid;
	op->event.comm = file->comm;
	op->event.comm_length = strlen(file->comm);
	return 0;
}

static void log_close(struct op *op, struct file *file)
{
	int fd = file_fd(file, op->fs->reach);
	int emit;

	if (fd >= 0 && (file->flags & O_ACCMODE) == O_RDWR) {
		pthread_mutex_lock(&file->inode->order);
		op_look_for_stores(op, file->inode, fd, true);
		pthread_mutex_unlock(&file->inode->order);
	}
	if (prepare_close(op, file) < 0)
		return;
	emit = emit_begin(op);
	if (emit >= 0)
		emit_finish(op, emit, 0);
}

void fs_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct op *op = op_start(req, FUSE_RELEASE);
	struct file *file;

	if (!op)
		return;
	file = file_find(op->fs->files, fi->fh);
	if (file) {
		if (is_for_writing(file->flags))
			log_close(op, file);
		close_file(op, file);
	}
	op_reply_error(op, 0);
}

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

void fs_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
	struct op *op = op_start(req, FUSE_READ);
	char *owned, *buffer;
	struct file *file;
	ssize_t n = -EBADF;

	if (!op)
		return;
	file = file_find(op->fs->files, fi->fh);
	buffer = read_buffer(req, size, &owned);
	if (!buffer) {
		n = -ENOMEM;
	} else if (file) {
		int fd = file_fd(file, op->fs->reach);

		n = fd < 0 ? fd : pread(fd, buffer, size, offset);
		if (fd >= 0 && n < 0)
			n = -errno;
	}
	if (n < 0) {
		op_reply_error(op, n);
	} else {
		fuse_reply_buf(req, buffer, n);
		op_end(op);
	}
	free(owned);
}

/* ---- writing ---- */

static int prepare_write(struct op *op, struct file *file, const struct fuse_file_info *fi)
{
	int r;

	op->is_hot = file->last_writer == op->context->pid;
	file->last_writer = op->context->pid;
	r = emit_prepare(op, EVENT_WRITE, file->nodeid, NULL);
	if (r == 0 && fi->writepage) {
		/* The kernel writes mapped pages back on behalf of nobody in particular. */
		op->event.origin = EVENT_MMAP;
		op->event.has &= ~EVENT_HAS_WHO;
	}
	return r;
}

/* The kernel appends at the size it knows, which is old when somebody has appended behind the mount. */
static off_t append_offset(struct op *op, int fd, off_t offset, const struct fuse_file_info *fi)
{
	struct stat now;

	if (!(fi->flags & O_APPEND) || fi->writepage || op->fs->options.is_in_place || fstat(fd, &now) < 0)
		return offset;
	return now.st_size > offset ? now.st_size : offset;
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

/* Fills what the write left behind: the size, and the baseline for stores through a mapping. */
static void note_written(struct op *op, struct file *file, int fd)
{
	struct stat now;

	if (fstat(fd, &now) < 0)
		return;
	op->event.size = now.st_size;
	op->event.has |= EVENT_HAS_SIZE;
	open_inode_set_baseline(file->inode, &now);
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
		return size;
	n = write_all(fd, data, size, offset);
	if (n <= 0) {
		emit_rollback(op);
		return n;
	}
	op->event.length = n;
	note_written(op, file, fd);
	emit_commit(op);
	return n;
}

static int finish_write(struct op *op, struct file *file, int fd, const struct fuse_file_info *fi)
{
	int r = fi->kill_suidgid ? op_kill_set_id(op, file->nodeid, fd) : 0;

	if (r == 0 && is_synchronous(op->fs, file)) {
		/* The descriptor has O_SYNC where the program asked for it. */
		if (op->fs->options.sync_always && fdatasync(fd) < 0)
			return -errno;
		r = eventlog_sync(op->fs->log);
	}
	return r;
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
	n = prepare_write(op, file, fi);
	if (n == 0)
		n = write_and_log(op, file, fd, data, size, append_offset(op, fd, offset, fi));
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
	int r = -EBADF, fd;

	if (!op)
		return;
	file = file_find(op->fs->files, fi->fh);
	if (file) {
		fd = file_fd(file, op->fs->reach);
		r = fd < 0 ? fd : (datasync ? fdatasync(fd) : fsync(fd)) < 0 ? -errno : 0;
	}
	if (r == 0) {
		pthread_mutex_lock(&file->inode->order);
		op_look_for_stores(op, file->inode, fd, false);
		pthread_mutex_unlock(&file->inode->order);
		r = eventlog_sync(op->fs->log);
	}
	op_reply_error(op, r);
}

/* ---- allocating and copying ---- */

/* Shifting contents is the one thing that must not be done twice; the size tells. */
static bool is_shifted(struct op *op, int mode, int fd)
{
	const struct event *announced = emit_announced(op);
	struct stat now;

	return mode & (FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE) && announced && fstat(fd, &now) == 0 &&
	       (uint64_t)now.st_size != announced->size;
}

static int allocate_and_log(struct op *op, struct file *file, int fd, int mode, off_t offset, off_t length)
{
	struct stat before;
	int emit, r = emit_prepare(op, EVENT_FALLOCATE, file->nodeid, NULL);

	if (r == 0 && fstat(fd, &before) < 0)
		r = -errno;
	if (r < 0)
		return r;
	op->event.mode = mode;
	op->event.offset = offset;
	op->event.length = length;
	op->event.size = before.st_size;
	op->event.has |= EVENT_HAS_MODE | EVENT_HAS_OFFSET | EVENT_HAS_LENGTH | EVENT_HAS_SIZE;
	emit = emit_begin(op);
	if (emit < 0 || emit == EMIT_LOGGED)
		return emit < 0 ? emit : 0;
	if (emit != EMIT_MAYBE || !is_shifted(op, mode, fd))
		r = fallocate(fd, mode, offset, length) < 0 ? -errno : 0;
	if (r == 0)
		note_written(op, file, fd);
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
	int r = -EBADF, fd;

	if (!op)
		return;
	file = file_find(op->fs->files, fi->fh);
	if (file) {
		fd = r = file_fd(file, op->fs->reach);
		if (r >= 0) {
			pthread_mutex_lock(&file->inode->order);
			op_look_for_stores(op, file->inode, fd, false);
			r = allocate_and_log(op, file, fd, mode, offset, length);
			pthread_mutex_unlock(&file->inode->order);
		}
		if (r == 0)
			r = kill_set_id_for(op, file->nodeid, fd);
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
		return size;
	n = copy_file_range(from_fd, &from_offset, to_fd, &to_offset, size, flags);
	if (n <= 0) {
		n = n < 0 ? -errno : 0;
		emit_rollback(op);
		return n;
	}
	op->event.length = n;
	note_written(op, to, to_fd);
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
	n = copy_and_log(op, from_fd, from_offset, to, to_fd, to_offset, size, flags);
	pthread_mutex_unlock(&to->inode->order);
	if (n > 0) {
		int r = kill_set_id_for(op, to->nodeid, to_fd);

		n = r < 0 ? r : n;
	}
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
	off_t at = -EBADF;

	if (!op)
		return;
	file = file_find(op->fs->files, fi->fh);
	if (file) {
		int fd = file_fd(file, op->fs->reach);

		at = fd < 0 ? fd : lseek(fd, offset, whence);
		if (fd >= 0 && at < 0)
			at = -errno;
	}
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
	struct file *file;
	int r = -EBADF, fd;

	if (!op)
		return;
	file = file_find(op->fs->files, fi->fh);
	if (file) {
		fd = file_fd(file, op->fs->reach);
		r = fd < 0 ? fd : do_ioctl(fd, command, in, in_size, out, out_size);
	}
	if (r < 0) {
		op_reply_error(op, r);
		return;
	}
	fuse_reply_ioctl(req, 0, out, r);
	op_end(op);
}
