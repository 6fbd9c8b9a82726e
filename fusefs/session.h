/*
 * Session: what the operations of one mount share. Private to fusefs/.
 */
#pragma once

#include "fusefs/file.h"
#include "fusefs/fs.h"
#include "fusefs/inode.h"
#include "fusefs/kernel.h"
#include "fusefs/mode.h"
#include "fusefs/reach.h"
#include "fusefs/tables.h"

#include <pthread.h>
#include <stdatomic.h>

#define FUSE_USE_VERSION FUSE_MAKE_VERSION(3, 18)
#include <fuse_lowlevel.h>

struct execs;
struct follow;
struct listings;
struct look;
struct notifier;
struct op;
struct resent;
struct streams;

enum { FS_THREADS_MAX = 16 };

struct fs {
	struct fs_options options;
	struct eventlog *log;
	struct fuse_session *session;
	struct tables tables;
	struct inodes *inodes;
	struct reach *reach;
	struct modes *modes;
	struct files *files;
	struct execs *execs;       /* NULL: they cannot be counted */
	struct follow *follow;     /* NULL: threads run where the scheduler puts them */
	struct listings *listings; /* NULL: what the kernel keeps is never out of date */
	struct streams *streams;
	struct notifier *notifier;
	struct look *look;
	struct resent *resent;     /* what the kernel has sent again; NULL: nothing was to be */

	int64_t started_ns;        /* CLOCK_REALTIME when this worker began */
	double timeout_s;          /* of entries and attributes in the kernel */
	bool is_root;              /* may act as its callers */
	bool opens_no_dirs;        /* the kernel opens directories, and keeps what it has read of them, without us (Linux 5.1) */
	bool can_map_direct;       /* files open for direct I/O can be mapped (Linux 6.6) */
	bool mmap_moves_mtime;     /* the source's file system moves mtime for stores through a mapping */
	bool seek_shows_new;       /* there an open directory shows what is new to who seeks in it (btrfs) */
	_Atomic bool uses_uring;
	_Atomic bool is_stopping;
	int error;                 /* what ended the session; 0: an unmount, or fs_stop() */

	/*
	 * A path in the log is right where it stands: who commits holds this for reading, who
	 * commits a rename and changes the tables by it for writing.
	 */
	pthread_rwlock_t paths;
	_Atomic uint64_t renames;  /* made so far; changes under paths */

	pthread_t threads[FS_THREADS_MAX]; /* on /dev/fuse; filled under the lock, all there once the first one has ended */
	unsigned thread_count;

	pthread_key_t op_key;      /* each thread's struct op */
	pthread_mutex_t lock;      /* guards ops, error, and threads while they start */
	struct op *ops;            /* of all threads, for counting and for the end */
};

/** The operations, one file each for a family. */
void fs_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void fs_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup);
void fs_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets);
void fs_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fs_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set, struct fuse_file_info *fi);
void fs_statx(fuse_req_t req, fuse_ino_t ino, int flags, int mask, struct fuse_file_info *fi);
void fs_readlink(fuse_req_t req, fuse_ino_t ino);
void fs_statfs(fuse_req_t req, fuse_ino_t ino);

void fs_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev);
void fs_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void fs_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name);
void fs_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name);
void fs_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void fs_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void fs_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t to, const char *to_name,
	       unsigned int flags);

void fs_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fs_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi);
void fs_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi);
void fs_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fs_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);

void fs_create_file(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		    struct fuse_file_info *fi);
void fs_tmpfile(fuse_req_t req, fuse_ino_t parent, mode_t mode, struct fuse_file_info *fi);
void fs_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fs_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fs_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi);
void fs_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t offset,
	      struct fuse_file_info *fi);
void fs_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
void fs_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
		  struct fuse_file_info *fi);
void fs_copy_file_range(fuse_req_t req, fuse_ino_t from, off_t from_offset, struct fuse_file_info *from_fi,
			fuse_ino_t to, off_t to_offset, struct fuse_file_info *to_fi, size_t size, int flags);
void fs_lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence, struct fuse_file_info *fi);
void fs_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned int command, void *argument,
	      struct fuse_file_info *fi, unsigned flags, const void *in, size_t in_size, size_t out_size);

void fs_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size);
void fs_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags);
void fs_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size);
void fs_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name);
