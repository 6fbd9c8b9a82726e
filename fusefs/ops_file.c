/*
 * Operations that open, make and close files.
 */
#include "base/scope.h"
#include "fusefs/look.h"
#include "fusefs/mapped.h"
#include "fusefs/ops.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_for_writing(int flags)
{
	return (flags & O_ACCMODE) != O_RDONLY;
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
	struct file_slot *slot = file->slot;

	static_assert(sizeof(slot->comm) > EVENT_COMM_MAX, "a comm fits");
	slot->pid = who->pid;
	slot->uid = op->context->uid;
	slot->gid = op->context->gid;
	memcpy(slot->comm, who->comm, who->comm_length);
	slot->comm[who->comm_length] = '\0';
}

/* @known: the file's attributes as of now, or NULL. */
static void begin_writing(struct file *file, int fd, const struct stat *known)
{
	struct open_inode *inode = file->inode;
	struct stat now;

	pthread_mutex_lock(&inode->order);
	if (!inode->lender && atomic_load(&file->fd) >= 0)
		inode->lender = file;
	/* Opens of one file may run at the same time: the first to come here takes the baseline, before any is answered. */
	if (!inode->has_size || (!inode->has_baseline && atomic_load(&inode->mappable) > 0)) {
		if (!known && fstatat(fd, "", &now, AT_EMPTY_PATH) == 0)
			known = &now;
		if (known)
			open_inode_set_baseline(inode, known);
	}
	pthread_mutex_unlock(&inode->order);
}

static void end_lending(struct file *file)
{
	struct open_inode *inode = file->inode;

	pthread_mutex_lock(&inode->order);
	if (inode->lender == file)
		inode->lender = NULL;
	pthread_mutex_unlock(&inode->order);
}

/*
 * Makes the open file. Takes over @fd (-1: none needed) when it succeeds; @path_fd is any descriptor of the file. @made: the attributes
 * of a file that was made just now, else NULL.
 */
static int open_file(struct op *op, uint64_t nodeid, int flags, const struct stat *made, int fd, int path_fd,
		     struct file **out)
{
	struct open_inode *inode;
	enum open_mode mode;
	struct file *file;
	int r = mode_open(op->fs->modes, nodeid, flags, made, path_fd, &mode, &inode);

	if (r < 0)
		return r;
	file = file_create(op->fs->files, nodeid, flags, mode, inode, fd, false, op->request);
	if (!file) {
		mode_close(op->fs->modes, inode, mode, flags);
		return -ENOMEM;
	}
	reach_note_held(op->fs->reach, fd);
	if (is_for_writing(flags)) {
		note_opener(op, file);
		begin_writing(file, path_fd, made);
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

	if (is_for_writing(flags))
		end_lending(file);
	/* Descriptor first: what passthrough the inode may have is decided after it. */
	file_destroy(op->fs->files, file, op->fs->reach);
	mode_close(op->fs->modes, inode, mode, flags);
}

/*
 * As open(2) does it where @fd is not for writing: truncate(2) leaves the times alone of a file that is empty already (tmpfs). With access mode 3 a file is
 * open for neither.
 */
static int truncate_file(struct op *op, int path_fd, int fd)
{
	int access = fcntl(fd, F_GETFL) & O_ACCMODE, again;

	if (access == O_WRONLY || access == O_RDWR)
		return ftruncate(fd, 0) < 0 ? -errno : 0;
	again = reach_reopen(op->fs->reach, path_fd, O_RDONLY | O_TRUNC);
	if (again >= 0)
		close(again);
	return again < 0 ? again : 0;
}

static int truncate_opened(struct op *op, uint64_t nodeid, int path_fd, int fd)
{
	int r = emit_prepare(op, EVENT_TRUNCATE, nodeid, NULL), emit;

	if (r < 0)
		return r;
	op->event.size = 0;
	op->event.has |= EVENT_HAS_SIZE;
	emit = emit_begin(op);
	if (emit < 0)
		return emit;
	if (emit != EMIT_LOGGED)
		r = truncate_file(op, path_fd, fd);
	return emit_finish(op, emit, r);
}

/* What O_TRUNC does, in order with writes through other opens of the file. */
static int truncate_on_open(struct op *op, uint64_t nodeid, int path_fd, int fd, bool kill)
{
	struct open_inode *inode = mode_hold(op->fs->modes, nodeid);
	struct stat now;
	int r;

	if (!inode)
		return -ENOMEM;
	pthread_mutex_lock(&inode->order);
	op_look_for_stores(op, inode, fd, false);
	r = kill ? op_kill_set_id(op, nodeid, fd) : 0;
	if (r == 0)
		r = truncate_opened(op, nodeid, path_fd, fd);
	if (fstat(fd, &now) == 0)
		open_inode_set_baseline(inode, &now);
	pthread_mutex_unlock(&inode->order);
	mode_unref(op->fs->modes, inode);
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
		if (!reach_has_room(op->fs->reach))
			return -ENFILE;
		fd = reach_reopen(op->fs->reach, path_fd, fi->flags & ~(O_TRUNC | O_NOCTTY));
		if (fd < 0)
			return fd;
	}
	if (fi->flags & O_TRUNC)
		r = truncate_on_open(op, nodeid, path_fd, fd, fi->kill_suidgid);
	if (r == 0)
		r = open_file(op, nodeid, fi->flags, NULL, fd, path_fd, out);
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
	do
		fd = openat(dir_fd, name, daemon_flags(flags) | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
	while (fd < 0 && reach_relieve(op->fs->reach));
	if (fd < 0)
		fd = -errno;
	op_become_daemon(op);
	return fd;
}

static int open_name(struct op *op, int dir_fd, const char *name, int flags)
{
	int fd;

	do
		fd = openat(dir_fd, name, daemon_flags(flags) | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	while (fd < 0 && reach_relieve(op->fs->reach));
	return fd < 0 ? -errno : fd;
}

/* What a dead worker has made, open as it had it. */
static int open_made(struct op *op, int dir_fd, const char *name, int flags)
{
	int fd = open_name(op, dir_fd, name, flags);
	scoped(closep) int path_fd = -1;

	if (fd != -EACCES)
		return fd;
	path_fd = openat(dir_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	return path_fd < 0 ? fd : reach_open_anew(op->fs->reach, path_fd, daemon_flags(flags));
}

/*
 * The new file, or with *@is_new false one that was there without the kernel knowing. Logs the creation. Returns a
 * descriptor or a negative errno.
 */
static int create_and_log(struct op *op, uint64_t parent, int dir_fd, const char *name, mode_t mode,
			  const struct fuse_file_info *fi, struct fuse_entry_param *entry, bool *is_new)
{
	int emit, fd, r = emit_prepare(op, EVENT_CREATE, parent, name);
	bool was_made;

	if (r < 0)
		return r;
	emit = emit_begin(op);
	if (emit < 0)
		return emit;
	was_made = emit == EMIT_LOGGED || (emit == EMIT_MAYBE && op_was_born_since(dir_fd, name, emit_announced_ns(op)));
	fd = was_made ? open_made(op, dir_fd, name, fi->flags) : create_name(op, dir_fd, name, fi->flags, mode);
	if (fd < 0) {
		/* What was made is an event, whether it can be opened again or not. */
		emit_finish(op, emit, was_made ? 0 : fd);
		return fd;
	}
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
	int fd = open_name(op, dir_fd, name, fi->flags), r;

	if (fd < 0)
		return fd;
	r = op_fill_entry_fd(op, parent, name, fd, entry);
	if (r < 0) {
		close(fd);
		return r;
	}
	if (!S_ISREG(entry->attr.st_mode))
		r = -EEXIST;
	if (r == 0 && fi->flags & O_TRUNC) {
		r = truncate_on_open(op, entry->ino, fd, fd, fi->kill_suidgid);
		entry->attr.st_size = 0;
	}
	if (r < 0) {
		inode_forget(op->fs->inodes, entry->ino, 1);
		close(fd);
	}
	return r < 0 ? r : fd;
}

static int create_or_open(struct op *op, uint64_t parent, int dir_fd, const char *name, mode_t mode,
			  const struct fuse_file_info *fi, struct fuse_entry_param *entry, struct file **out)
{
	bool is_new = false;
	int fd, r;

	/* What was made already is answered in any case. */
	if (!op->is_resent && !reach_has_room(op->fs->reach))
		return -ENFILE;
	fd = create_and_log(op, parent, dir_fd, name, mode, fi, entry, &is_new);
	if (fd == -EEXIST && !(fi->flags & O_EXCL)) {
		is_new = false;
		fd = open_unexpected(op, parent, dir_fd, name, fi, entry);
	}
	if (fd < 0)
		return fd;
	r = open_file(op, entry->ino, fi->flags, is_new ? &entry->attr : NULL, fd, fd, out);
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

/* A dead worker made the open file and counted the lookup, but its answer did not arrive. */
static int describe_again(struct op *op, struct file *file, struct fuse_entry_param *entry)
{
	int r;

	memset(entry, 0, sizeof(*entry));
	r = op_stat(op, file->nodeid, file, &entry->attr);
	if (r == 0)
		op_fill_known(op, file->nodeid, entry);
	return r;
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
	inode_hold_names(op->fs->inodes, parent);
	r = reach_get(op->fs->reach, parent, &dir);
	if (r == 0 && op->is_resent)
		file = file_find_request(op->fs->files, op->request);
	if (file)
		r = describe_again(op, file, &entry);
	else if (r == 0)
		r = create_or_open(op, parent, dir.fd, name, mode, fi, &entry, &file);
	inode_release_names(op->fs->inodes, parent);
	if (r == 0)
		op_sync_names(op, &dir);
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

	if (!reach_has_room(op->fs->reach))
		return -ENFILE;
	op_become_caller(op);
	do
		fd = openat(dir_fd, ".", daemon_flags(fi->flags) | O_TMPFILE | (fi->flags & O_EXCL) | O_CLOEXEC, mode);
	while (fd < 0 && reach_relieve(op->fs->reach));
	r = fd < 0 ? -errno : 0;
	op_become_daemon(op);
	if (r < 0)
		return r;
	r = op_fill_entry_fd(op, 0, NULL, fd, entry);
	if (r == 0) {
		reach_keep(op->fs->reach, entry->ino, fd);
		r = open_file(op, entry->ino, fi->flags & ~O_TMPFILE, NULL, fd, fd, out);
		if (r < 0)
			inode_forget(op->fs->inodes, entry->ino, 1);
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
	struct file *file = NULL;
	int r;

	if (!op)
		return;
	if (op->is_resent)
		file = file_find_request(op->fs->files, op->request);
	r = file ? describe_again(op, file, &entry) : reach_get(op->fs->reach, parent, &dir);
	if (r == 0 && !file)
		r = make_tmpfile(op, dir.fd, mode, fi, &entry, &file);
	reach_put(op->fs->reach, &dir);
	if (r < 0)
		op_reply_error(op, r);
	else
		reply_create(op, &entry, file, fi);
}

/* ---- closing ---- */

/* The size as we know it (who could map the file has just looked at it), else as it is. The caller holds order. */
static void note_size(struct op *op, struct file *file)
{
	const struct open_inode *inode = file->inode;
	struct stat now;

	if (inode->has_size && (atomic_load(&inode->mappable) == 0 || inode->has_baseline)) {
		op->event.size = inode->size;
		op->event.has |= EVENT_HAS_SIZE;
	} else if (op_stat(op, file->nodeid, file, &now) == 0) {
		op_note(op, &now);
		op->event.has &= ~EVENT_HAS_MODE;
	}
}

static int prepare_close(struct op *op, struct file *file)
{
	int r = emit_prepare(op, EVENT_CLOSE, file->nodeid, NULL);

	if (r < 0)
		return r;
	note_size(op, file);
	op->event.pid = file->slot->pid;
	op->event.uid = file->slot->uid;
	op->event.gid = file->slot->gid;
	op->event.comm = file->slot->comm;
	op->event.comm_length = strnlen(file->slot->comm, EVENT_COMM_MAX);
	return 0;
}

static void log_close(struct op *op, struct file *file)
{
	int fd = file_fd(file, op->fs->reach);
	int emit;

	/* Until it is committed, or it would tell an old size after a newer write. */
	pthread_mutex_lock(&file->inode->order);
	if (fd >= 0 && (file->flags & O_ACCMODE) == O_RDWR)
		op_look_for_stores(op, file->inode, fd, true);
	if (prepare_close(op, file) == 0) {
		emit = emit_begin(op);
		if (emit >= 0)
			emit_finish(op, emit, 0);
	}
	pthread_mutex_unlock(&file->inode->order);
}

static void release(struct op *op, struct file *file)
{
	if (is_for_writing(file->flags))
		log_close(op, file);
	if (!mapped_keep(op, file))
		close_file(op, file);
}

void fs_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct op *op = op_start(req, FUSE_RELEASE);
	struct file *file;

	if (!op)
		return;
	file = file_find(op->fs->files, fi->fh);
	/* A request that is repeated may have been carried out so far. */
	if (file && !file->slot->is_closed)
		release(op, file);
	op_reply_error(op, 0);
}
