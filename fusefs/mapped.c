#include "fusefs/mapped.h"

#include "base/scope.h"
#include "fusefs/look.h"
#include "fusefs/ops.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/*
 * Whether the file of @fd has another writer than @fd: with F_WRLCK, where @fd is open for writing, or with F_RDLCK, where it is not. The lease is
 * given back at once; who opens the file in between waits for that, and the signal to us is ignored (daemon/worker.c). An answer
 * that is no answer (no leases here, not our file) counts as none.
 */
static bool has_other_writer(int fd, int lease)
{
	if (fcntl(fd, F_SETLEASE, lease) < 0)
		return errno == EAGAIN;
	(void)fcntl(fd, F_SETLEASE, F_UNLCK);
	return false;
}

static bool is_mappable(const struct file *file)
{
	return file->mode == OPEN_PASSTHROUGH && (file->flags & O_ACCMODE) == O_RDWR;
}

bool mapped_keep(struct op *op, struct file *file)
{
	struct open_inode *inode = file->inode;
	int fd = atomic_load(&file->fd);
	bool is_kept;

	if (!is_mappable(file) || fd < 0)
		return false;
	pthread_mutex_lock(&inode->order);
	is_kept = !inode->mapped && has_other_writer(fd, F_WRLCK);
	if (is_kept) {
		/* In this order: a worker that dies in between leaves a reference too many, not one too few. */
		inode_hold(op->fs->inodes, file->nodeid);
		file->slot->is_closed = true;
		inode->mapped = file;
		if (inode->lender == file)
			inode->lender = NULL;
	}
	pthread_mutex_unlock(&inode->order);
	if (!is_kept)
		return false;
	file_release_fd(file, op->fs->reach);
	mode_close_mapped(op->fs->modes, inode, file->mode);
	look_wake(op->fs->look);
	return true;
}

static bool is_over(struct op *op, int path_fd)
{
	scoped(closep) int fd = -1;

	if (path_fd < 0)
		return path_fd == -ESTALE || path_fd == -ENOENT;
	fd = reach_reopen(op->fs->reach, path_fd, O_RDONLY);
	/* What cannot be opened just now is looked at again. */
	return fd >= 0 && !has_other_writer(fd, F_RDLCK);
}

static void end(struct op *op, struct open_inode *inode, struct file *file)
{
	uint64_t nodeid = file->nodeid;

	/* The reference last, see mapped_keep(). */
	file_destroy(op->fs->files, file, op->fs->reach);
	mode_end_mapped(op->fs->modes, inode);
	op_forget(op->fs, nodeid, 1);
}

void mapped_look(struct op *op, struct open_inode *inode, int fd)
{
	struct file *ended = NULL;

	pthread_mutex_lock(&inode->order);
	/* Asked before the file is looked at: then nothing is stored any more, and what was is seen. */
	if (inode->mapped && is_over(op, fd)) {
		ended = inode->mapped;
		inode->mapped = NULL;
	}
	if (fd >= 0)
		op_look_for_stores(op, inode, fd, ended);
	pthread_mutex_unlock(&inode->order);
	if (ended)
		end(op, inode, ended);
}
