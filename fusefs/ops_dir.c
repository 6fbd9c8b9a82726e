/*
 * Operations on names and directories.
 *
 * The kernel holds the directory's lock from before the request until after the reply, so the order in which these are
 * logged is the order in which they happen.
 */
#include "fusefs/listings.h"
#include "fusefs/look.h"
#include "fusefs/ops.h"
#include "fusefs/streams.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum { NAME_ROOM = 64 << 10 }; /* bytes that a directory grows by, at most, for one name */

/* ---- making names ---- */

/* What mknod, mkdir and symlink make. */
struct making {
	mode_t mode;
	dev_t rdev;
	const char *target;
};

static int make(struct op *op, int dir_fd, const char *name, const struct making *making)
{
	int r;

	op_become_caller(op);
	if (making->target)
		r = symlinkat(making->target, dir_fd, name);
	else if (S_ISDIR(making->mode))
		r = mkdirat(dir_fd, name, making->mode & 07777);
	else
		r = mknodat(dir_fd, name, making->mode, making->rdev);
	r = r < 0 ? -errno : 0;
	op_become_daemon(op);
	return r;
}

static void reply_entry(struct op *op, const struct fuse_entry_param *entry)
{
	if (fuse_reply_entry(op->req, entry) != 0)
		inode_forget(op->fs->inodes, entry->ino, 1);
	op_end(op);
}

/*
 * A name that was made is described for the reply; the event gets what only the file system knows. If it cannot be
 * described (memory), the change stands and is logged all the same.
 */
static int describe_made(struct op *op, int emit, uint64_t parent, int dir_fd, const char *name,
			 struct fuse_entry_param *entry)
{
	int r = op_fill_entry_made(op, parent, dir_fd, name, entry);

	if (r == 0) {
		op_note(op, &entry->attr);
		op->event.has |= EVENT_HAS_MODE;
	}
	emit_finish(op, emit, 0);
	return r;
}

static int make_and_describe(struct op *op, int emit, uint64_t parent, int dir_fd, const char *name,
			     const struct making *making, struct fuse_entry_param *entry)
{
	bool is_made = emit == EMIT_LOGGED ||
		       (emit == EMIT_MAYBE && op_was_born_since(dir_fd, name, emit_announced_ns(op)));
	int r = is_made ? 0 : make(op, dir_fd, name, making);

	if (r == 0)
		return describe_made(op, emit, parent, dir_fd, name, entry);
	return emit_finish(op, emit, r);
}

static void do_make(fuse_req_t req, unsigned opcode, enum event_op what, fuse_ino_t parent,
		    const char *name, const struct making *making)
{
	struct op *op = op_start(req, opcode);
	struct reached dir = REACHED_NONE;
	struct fuse_entry_param entry;
	int r, emit = EMIT_GO;

	if (!op)
		return;
	inode_hold_names(op->fs->inodes, parent);
	r = reach_get(op->fs->reach, parent, &dir);
	if (r == 0)
		r = emit_prepare(op, what, parent, name);
	if (r == 0 && making->target) {
		op->event.to = making->target;
		op->event.to_length = strlen(making->target);
	}
	if (r == 0) {
		op->event.mode = making->mode;
		op->event.has |= EVENT_HAS_MODE;
		emit = r = emit_begin(op);
	}
	if (r >= 0)
		r = make_and_describe(op, emit, parent, dir.fd, name, making, &entry);
	inode_release_names(op->fs->inodes, parent);
	if (r == 0)
		op_sync_names(op, &dir);
	reach_put(op->fs->reach, &dir);
	if (r < 0)
		op_reply_error(op, r);
	else
		reply_entry(op, &entry);
}

void fs_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	struct making making = { .mode = mode, .rdev = rdev };

	do_make(req, FUSE_MKNOD, EVENT_MKNOD, parent, name, &making);
}

void fs_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct making making = { .mode = S_IFDIR | mode };

	do_make(req, FUSE_MKDIR, EVENT_MKDIR, parent, name, &making);
}

void fs_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	struct making making = { .mode = S_IFLNK | 0777, .target = target };

	do_make(req, FUSE_SYMLINK, EVENT_SYMLINK, parent, name, &making);
}

/*
 * By the descriptor: the inode may have no name yet (O_TMPFILE), or its name another inode by now. /proc leads to it without
 * CAP_DAC_READ_SEARCH, too, but makes an inode of its own for each descriptor, which takes longer than the link.
 */
static int link_descriptor(struct op *op, int fd, int dir_fd, const char *name)
{
	char link[REACH_LINK_SIZE];
	int r;

	op_charge_caller(op, dir_fd, NAME_ROOM);
	r = linkat(fd, "", dir_fd, name, AT_EMPTY_PATH);
	op_charge_daemon(op);
	if (r == 0)
		return 0;
	if (errno != ENOENT)
		return -errno;
	reach_link(fd, link);
	op_charge_caller(op, dir_fd, NAME_ROOM);
	r = linkat(AT_FDCWD, link, dir_fd, name, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
	op_charge_daemon(op);
	return r;
}

/*
 * By its name in the same directory: this is how a file gets its last name in place of a temporary one, and it takes no descriptor.
 * Where that name turns out to lead to another file, put there behind the mount, the link is taken back. Returns whether it was made.
 */
static bool link_sibling(struct op *op, const struct inode_view *inode, int dir_fd, const char *name, struct stat *out)
{
	int r;

	op_charge_caller(op, dir_fd, NAME_ROOM);
	r = linkat(dir_fd, inode->name, dir_fd, name, 0);
	op_charge_daemon(op);
	if (r < 0)
		return false;
	if (fstatat(dir_fd, name, out, AT_SYMLINK_NOFOLLOW) == 0 && out->st_ino == inode->ino && out->st_dev == inode->dev)
		return true;
	(void)unlinkat(dir_fd, name, 0);
	return false;
}

static int link_inode(struct op *op, const struct inode_view *inode, uint64_t parent, int dir_fd, const char *name,
		      struct stat *out)
{
	struct reached reached = REACHED_NONE;
	int r;

	if (inode->parent == parent && !inode->is_gone && link_sibling(op, inode, dir_fd, name, out))
		return 0;
	r = reach_get(op->fs->reach, inode->nodeid, &reached);
	if (r < 0)
		return r;
	r = link_descriptor(op, reached.fd, dir_fd, name);
	if (r == 0 && fstatat(reached.fd, "", out, AT_EMPTY_PATH) < 0) {
		r = -errno;
		(void)unlinkat(dir_fd, name, 0);
	}
	reach_put(op->fs->reach, &reached);
	return r;
}

static int link_and_log(struct op *op, int emit, const struct inode_view *inode, uint64_t parent, int dir_fd,
			const char *name, struct stat *out)
{
	bool is_made = emit == EMIT_LOGGED || (emit == EMIT_MAYBE && op_is_ino(dir_fd, name, op->event.ino));
	int r;

	if (is_made)
		r = fstatat(dir_fd, name, out, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
	else
		r = link_inode(op, inode, parent, dir_fd, name, out);
	if (r == 0) {
		op_note(op, out);
		op->event.has |= EVENT_HAS_MODE;
	}
	return emit_finish(op, emit, r);
}

/* The caller holds the names of @parent. */
static int do_link(struct op *op, uint64_t nodeid, uint64_t parent, int dir_fd, const char *name,
		   struct fuse_entry_param *entry)
{
	struct inode_view inode;
	struct stat now;
	int r = inode_get(op->fs->inodes, nodeid, &inode), emit;

	if (r == 0)
		r = emit_prepare(op, EVENT_LINK, nodeid, NULL);
	if (r == 0)
		r = emit_prepare_to(op, parent, name);
	if (r < 0)
		return r;
	emit = emit_begin(op);
	if (emit < 0)
		return emit;
	r = link_and_log(op, emit, &inode, parent, dir_fd, name, &now);
	/* Learned after it is logged: the event is about the name that was there before. */
	return r < 0 ? r : op_fill_entry_linked(op, parent, name, &inode, &now, entry);
}

void fs_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
	struct op *op = op_start(req, FUSE_LINK);
	struct reached dir = REACHED_NONE;
	struct fuse_entry_param entry;
	int r;

	if (!op)
		return;
	inode_hold_names(op->fs->inodes, parent);
	r = reach_get(op->fs->reach, parent, &dir);
	if (r == 0)
		r = do_link(op, ino, parent, dir.fd, name, &entry);
	inode_release_names(op->fs->inodes, parent);
	if (r == 0)
		op_sync_names(op, &dir);
	reach_put(op->fs->reach, &dir);
	if (r < 0)
		op_reply_error(op, r);
	else
		reply_entry(op, &entry);
}

/* ---- removing names ---- */

static bool is_removed(int dir_fd, const char *name, const struct event *event)
{
	struct stat now;

	if (fstatat(dir_fd, name, &now, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT;
	return event->has & EVENT_HAS_INO && now.st_ino != event->ino;
}

static int remove_name(struct op *op, int emit, int dir_fd, const char *name, int flags)
{
	if (emit == EMIT_LOGGED || (emit == EMIT_MAYBE && is_removed(dir_fd, name, &op->event)))
		return 0;
	return unlinkat(dir_fd, name, flags) < 0 ? -errno : 0;
}

/* A repeated request must know whom it was about: the name may have been forgotten since. */
static void recall_ino(struct op *op)
{
	const struct event *announced = op->is_resent ? emit_announced(op) : NULL;

	if (announced && announced->has & EVENT_HAS_INO) {
		op->event.has |= EVENT_HAS_INO;
		op->event.ino = announced->ino;
	}
}

/* The inode number goes into the event; the kernel may know the name longer than we do. */
static void require_ino(struct op *op, int dir_fd, const char *name)
{
	struct stat now;

	if (!(op->event.has & EVENT_HAS_INO) && fstatat(dir_fd, name, &now, AT_SYMLINK_NOFOLLOW) == 0) {
		op->event.has |= EVENT_HAS_INO;
		op->event.ino = now.st_ino;
	}
}

/* An open file must outlive this process as well. */
static void keep_open_inode(struct op *op, struct open_inode *inode)
{
	struct reached reached = REACHED_NONE;

	if (reach_get(op->fs->reach, inode->nodeid, &reached) == 0) {
		reach_spare(op->fs->reach, &reached);
		mode_keep_alive(op->fs->modes, inode->nodeid, reached.fd);
	}
	reach_put(op->fs->reach, &reached);
}

/* A name that is known may have been removed behind the mount. */
static bool has_more_links(int dir_fd, const char *name)
{
	struct stat now;

	return fstatat(dir_fd, name, &now, AT_SYMLINK_NOFOLLOW) == 0 && now.st_nlink > 1;
}

/*
 * The inode may be losing its last name, and somebody hold it: an open file, a working directory, an O_PATH descriptor. A cached
 * descriptor keeps it until the kernel forgets it (fs_forget() drops it), which is at once when nobody does.
 */
static void keep_inode(struct op *op, const struct inode_view *victim, int dir_fd, const char *name)
{
	struct open_inode *inode = mode_ref(op->fs->modes, victim->nodeid);

	if (inode) {
		keep_open_inode(op, inode);
		mode_unref(op->fs->modes, inode);
	} else if (!victim->has_more_names || !has_more_links(dir_fd, name)) {
		reach_keep_name(op->fs->reach, victim->nodeid, dir_fd, name);
	}
}

static void do_remove(fuse_req_t req, unsigned opcode, enum event_op what, fuse_ino_t parent,
		      const char *name, int flags)
{
	struct op *op = op_start(req, opcode);
	struct reached dir = REACHED_NONE;
	struct inode_view victim = { 0 };
	int r, emit = EMIT_GO;

	if (!op)
		return;
	inode_hold_names(op->fs->inodes, parent);
	r = reach_get(op->fs->reach, parent, &dir);
	if (r == 0 && inode_child(op->fs->inodes, parent, name, &victim) == 0)
		keep_inode(op, &victim, dir.fd, name);
	if (r == 0)
		r = emit_prepare(op, what, parent, name);
	if (r == 0) {
		recall_ino(op);
		require_ino(op, dir.fd, name);
		emit = r = emit_begin(op);
	}
	if (r >= 0)
		r = emit_finish_removal(op, emit, remove_name(op, emit, dir.fd, name, flags), victim.has_more_names);
	inode_release_names(op->fs->inodes, parent);
	if (r == 0)
		op_sync_names(op, &dir);
	reach_put(op->fs->reach, &dir);
	op_reply_error(op, r);
}

void fs_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	do_remove(req, FUSE_UNLINK, EVENT_UNLINK, parent, name, 0);
}

void fs_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	do_remove(req, FUSE_RMDIR, EVENT_RMDIR, parent, name, AT_REMOVEDIR);
}

/* ---- renaming ---- */

struct renaming {
	uint64_t from, to;
	const char *name, *to_name;
	int from_fd, to_fd;
	unsigned flags;
};

static bool is_renamed(const struct renaming *r, uint64_t ino)
{
	return op_is_ino(r->to_fd, r->to_name, ino) && !op_is_ino(r->from_fd, r->name, ino);
}

static int rename_name(struct op *op, int emit, const struct renaming *renaming)
{
	int r;

	if (emit == EMIT_LOGGED || (emit == EMIT_MAYBE && is_renamed(renaming, op->event.ino)))
		return 0;
	/* The system call rather than renameat2(3): its wrapper is younger than the oldest C library we build with. */
	op_charge_caller(op, renaming->to_fd, NAME_ROOM);
	r = syscall(SYS_renameat2, renaming->from_fd, renaming->name, renaming->to_fd,
		    renaming->to_name, renaming->flags) < 0 ? -errno : 0;
	op_charge_daemon(op);
	return r;
}

static int prepare_rename(struct op *op, const struct renaming *renaming)
{
	int r = emit_prepare(op, EVENT_RENAME, renaming->from, renaming->name);

	if (r == 0)
		r = emit_prepare_to(op, renaming->to, renaming->to_name);
	if (r < 0)
		return r;
	op->event.flags = renaming->flags;
	op->event.has |= EVENT_HAS_FLAGS;
	recall_ino(op);
	require_ino(op, renaming->from_fd, renaming->name);
	return 0;
}

/* What a name is now, by looking: the tables may be from before, from after, or from in between. */
static void learn_again(struct op *op, uint64_t parent, int dir_fd, const char *name)
{
	struct fuse_entry_param entry;

	if (op_fill_entry_made(op, parent, dir_fd, name, &entry) == 0)
		inode_forget(op->fs->inodes, entry.ino, 1);
	else
		inode_unlinked(op->fs->inodes, parent, name, NULL);
}

static int rename_and_log(struct op *op, const struct renaming *renaming)
{
	struct inode_view replaced;
	bool replaces = inode_child(op->fs->inodes, renaming->to, renaming->to_name, &replaced) == 0;
	int r = prepare_rename(op, renaming), emit;

	if (r < 0)
		return r;
	if (replaces)
		keep_inode(op, &replaced, renaming->to_fd, renaming->to_name);
	emit = emit_begin(op);
	if (emit < 0)
		return emit;
	r = emit_finish_rename(op, emit, rename_name(op, emit, renaming), renaming->flags & RENAME_EXCHANGE);
	if (r == 0 && op->is_resent) {
		learn_again(op, renaming->to, renaming->to_fd, renaming->to_name);
		learn_again(op, renaming->from, renaming->from_fd, renaming->name);
	}
	return r;
}

void fs_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t to, const char *to_name,
	       unsigned int flags)
{
	struct op *op = op_start(req, FUSE_RENAME2);
	struct reached from_dir = REACHED_NONE, to_dir = REACHED_NONE;
	int r;

	if (!op)
		return;
	inode_hold_names(op->fs->inodes, parent);
	inode_hold_names(op->fs->inodes, to);
	r = reach_get(op->fs->reach, parent, &from_dir);
	if (r == 0)
		r = reach_get(op->fs->reach, to, &to_dir);
	if (r == 0) {
		struct renaming renaming = { .from = parent, .to = to, .name = name, .to_name = to_name,
					     .from_fd = from_dir.fd, .to_fd = to_dir.fd, .flags = flags };

		r = rename_and_log(op, &renaming);
	}
	inode_release_names(op->fs->inodes, parent);
	inode_release_names(op->fs->inodes, to);
	if (r == 0) {
		op_sync_names(op, &to_dir);
		if (parent != to)
			op_sync_names(op, &from_dir);
	}
	reach_put(op->fs->reach, &from_dir);
	reach_put(op->fs->reach, &to_dir);
	op_reply_error(op, r);
}

/* ---- reading directories ---- */

enum {
	DIR_BUFFER = 32768,
	DIR_BUFFER_MIN = 512, /* the longest entry fits */
	PLUS_FACTOR = 4,      /* an entry with attributes is that much longer, about */
};

/* As getdents64(2) writes it. */
struct dirent64_record {
	uint64_t ino;
	int64_t next;
	uint16_t size;
	uint8_t type;
	char name[];
};

static int open_dir(struct op *op, uint64_t nodeid, struct file **out)
{
	struct reached dir = REACHED_NONE;
	int r = reach_get(op->fs->reach, nodeid, &dir), fd;

	if (r < 0)
		return r;
	fd = reach_reopen(op->fs->reach, dir.fd, O_RDONLY | O_DIRECTORY);
	reach_put(op->fs->reach, &dir);
	if (fd < 0)
		return fd;
	*out = file_create(op->fs->files, nodeid, O_RDONLY | O_DIRECTORY, 0, NULL, fd, true, op->request);
	if (!*out)
		close(fd);
	return *out ? 0 : -ENOMEM;
}

void fs_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct op *op = op_start(req, FUSE_OPENDIR);
	struct file *file = NULL;
	int r = 0;

	if (!op)
		return;
	if (op->is_resent)
		file = file_find_request(op->fs->files, op->request);
	/* The kernel asks once, and then never again. */
	if (!file)
		r = op->fs->opens_no_dirs ? -ENOSYS : open_dir(op, ino, &file);
	if (r < 0) {
		op_reply_error(op, r);
		return;
	}
	fi->fh = file->fh;
	if (fuse_reply_open(req, fi) != 0)
		file_destroy(op->fs->files, file, op->fs->reach);
	op_end(op);
}

void fs_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct op *op = op_start(req, FUSE_RELEASEDIR);
	struct file *file;

	if (!op)
		return;
	file = file_find(op->fs->files, fi->fh);
	if (file)
		file_destroy(op->fs->files, file, op->fs->reach);
	op_reply_error(op, 0);
}

/*
 * The entry after @offset, from the buffer where it goes on from there; else @size bytes of entries are read. Returns 1, 0 at the end, or a
 * negative errno.
 */
static int next_entry(struct file *file, int fd, off_t offset, size_t size, struct dirent64_record **out)
{
	ssize_t n;

	if (!file->dir_buffer) {
		file->dir_buffer = malloc(DIR_BUFFER);
		if (!file->dir_buffer)
			return -ENOMEM;
	}
	if (file->dir_at >= file->dir_used || file->dir_next != offset) {
		/* Always, not only after a seek: rewinddir(3) must see what is new. */
		if ((file->dir_next != offset || offset == 0 || file->dir_is_ahead) && lseek(fd, offset, SEEK_SET) < 0)
			return -errno;
		file->dir_is_ahead = file->dir_is_old = false;
		n = syscall(SYS_getdents64, fd, file->dir_buffer, size);
		if (n <= 0) {
			file->dir_used = file->dir_at = 0;
			file->dir_next = offset;
			return n < 0 ? -errno : 0;
		}
		file->dir_used = n;
		file->dir_at = 0;
	}
	*out = (struct dirent64_record *)(file->dir_buffer + file->dir_at);
	return 1;
}

static void skip_entry(struct file *file, const struct dirent64_record *entry)
{
	file->dir_next = entry->next;
	file->dir_at += entry->size;
}

static bool is_dots(const char *name)
{
	return name[0] == '.' && (name[1] == '\0' || (name[1] == '.' && name[2] == '\0'));
}

static size_t add_plain(struct op *op, char *buffer, size_t size, const struct dirent64_record *entry)
{
	struct stat attributes = { .st_ino = entry->ino, .st_mode = (mode_t)entry->type << 12 };

	return fuse_add_direntry(op->req, buffer, size, entry->name, &attributes, entry->next);
}

/* An entry that vanished, or cannot be described, is listed without attributes: the kernel then asks by itself. */
static size_t add_plus(struct op *op, uint64_t dir, int fd, char *buffer, size_t size,
		       const struct dirent64_record *entry, bool describes)
{
	struct fuse_entry_param param = { .attr = { .st_ino = entry->ino,
						    .st_mode = (mode_t)entry->type << 12 } };
	size_t used;

	/* Asked first whether it fits, because describing counts a lookup. */
	used = fuse_add_direntry_plus(op->req, NULL, 0, entry->name, &param, entry->next);
	if (used > size)
		return used;
	if (describes && !is_dots(entry->name) && op_fill_entry(op, dir, fd, entry->name, &param) < 0)
		param = (struct fuse_entry_param){ .attr = { .st_ino = entry->ino,
							     .st_mode = (mode_t)entry->type << 12 } };
	return fuse_add_direntry_plus(op->req, buffer, size, entry->name, &param, entry->next);
}

/* WITH_ROOM: for attributes, as it was asked for, but without them. */
enum listing { NAMES_ONLY, WITH_ROOM, WITH_ATTRIBUTES };

/* Bytes of entries, for a reply of @room: what does not fit into it is read again with the next one. */
static size_t worth_reading(size_t room, enum listing form)
{
	size_t size = form == NAMES_ONLY ? room : room / PLUS_FACTOR;

	return size < DIR_BUFFER_MIN ? DIR_BUFFER_MIN : size > DIR_BUFFER ? DIR_BUFFER : size;
}

static bool is_gone(int dir_fd, const char *name)
{
	struct stat now;

	return fstatat(dir_fd, name, &now, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT;
}

static ssize_t fill_entries(struct op *op, uint64_t dir, struct file *file, int fd, char *buffer,
			    size_t size, off_t offset, enum listing form)
{
	struct dirent64_record *entry = NULL;
	size_t filled = 0;
	int r;

	while ((r = next_entry(file, fd, offset, worth_reading(size - filled, form), &entry)) > 0) {
		size_t used;

		if (file->dir_is_old && is_gone(fd, entry->name)) {
			offset = entry->next;
			skip_entry(file, entry);
			continue;
		}
		used = form == NAMES_ONLY ? add_plain(op, buffer + filled, size - filled, entry) :
					    add_plus(op, dir, fd, buffer + filled, size - filled, entry,
						     form == WITH_ATTRIBUTES);
		if (used > size - filled)
			break;
		filled += used;
		offset = entry->next;
		skip_entry(file, entry);
	}
	/* What was filled counts; an error comes up again with the next request. */
	return filled ? (ssize_t)filled : r < 0 ? r : 0;
}

/* The kernel keeps what it reads from here on; see listings.h. */
static void note_listing(struct fs *fs, uint64_t nodeid)
{
	if (fs->opens_no_dirs && fs->listings && listings_add(fs->listings, nodeid))
		look_wake(fs->look);
}

/* The open directory that @fi names, or the stream of one that was opened without us. */
static struct file *begin_reading(struct op *op, uint64_t nodeid, off_t offset, const struct fuse_file_info *fi)
{
	return fi->fh ? file_find(op->fs->files, fi->fh) :
			streams_take(op->fs->streams, nodeid, op->context->pid, offset);
}

static void end_reading(struct op *op, struct file *file, const struct fuse_file_info *fi, bool is_at_end)
{
	if (fi->fh)
		return;
	/* What was read ahead is read again when it is asked for, but where that would not be going on from there. */
	if (op->fs->seek_shows_new)
		file->dir_is_old = true;
	else
		file_drop_entries(file);
	streams_put(op->fs->streams, file, op->context->pid, is_at_end);
	if (!is_at_end)
		look_wake(op->fs->look);
}

static ssize_t read_entries(struct op *op, uint64_t dir, char *buffer, size_t size, off_t offset,
			    const struct fuse_file_info *fi, enum listing form)
{
	struct file *file = begin_reading(op, dir, offset, fi);
	ssize_t n;
	int fd;

	if (!file)
		return fi->fh ? -EBADF : -ENOMEM;
	fd = file_fd(file, op->fs->reach);
	n = fd < 0 ? fd : fill_entries(op, dir, file, fd, buffer, size, offset, form);
	end_reading(op, file, fi, n <= 0);
	return n;
}

static void do_readdir(fuse_req_t req, unsigned opcode, fuse_ino_t ino, size_t size, off_t offset,
		       struct fuse_file_info *fi, enum listing form)
{
	struct op *op = op_start(req, opcode);
	char *buffer;
	ssize_t n;

	if (!op)
		return;
	buffer = malloc(size);
	if (offset == 0)
		note_listing(op->fs, ino);
	if (form == WITH_ATTRIBUTES && offset == 0 && listed_is_recent(&op->listed, ino))
		form = WITH_ROOM;
	n = buffer ? read_entries(op, ino, buffer, size, offset, fi, form) : -ENOMEM;
	if (n < 0) {
		op_reply_error(op, n);
	} else {
		if (form == WITH_ATTRIBUTES && offset == 0)
			listed_add(&op->listed, ino);
		fuse_reply_buf(req, buffer, n);
		op_end(op);
	}
	free(buffer);
}

void fs_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
	do_readdir(req, FUSE_READDIR, ino, size, offset, fi, NAMES_ONLY);
}

void fs_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
	do_readdir(req, FUSE_READDIRPLUS, ino, size, offset, fi, WITH_ATTRIBUTES);
}

void fs_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct op *op = op_start(req, FUSE_FSYNCDIR);
	struct file *file, unasked;
	int r;

	if (!op)
		return;
	file = op_find_file(op, ino, fi, &unasked);
	r = file ? op_fsync(file_fd(file, op->fs->reach), datasync) : -EBADF;
	file_finish(&unasked);
	if (r == 0)
		r = eventlog_sync(op->fs->log);
	op_reply_error(op, r);
}
