/*
 * Mode: passthrough or not, decided in one place.
 *
 * The kernel refuses (EIO) to open an inode in a mode that does not go with the opens it has:
 *
 *   - while one open has a backing id, every other needs the same one;
 *   - an open through the page cache excludes passthrough.
 *
 * Replies of two opens can overtake each other on their way into the kernel, so the rule here is stricter: an inode is
 * open PASSTHROUGH, or DIRECT, or CACHED, and changes only when nothing of another kind is open any more. The kernel lets
 * go of an open before it sends RELEASE, so what is counted here is never less than what the kernel holds.
 *
 *   PASSTHROUGH  read: all in the kernel; write: FOPEN_DIRECT_IO as well, so that each write(2) is a request, while mmap
 *                goes to the backing file
 *   DIRECT       a new file that was created write-only, which saves the backing id: nothing maps it, and who reads it
 *                while it is written asks us
 *   CACHED       no passthrough on this mount: reads from the page cache; writes past it, or through it where the kernel
 *                cannot map a file that is open for direct I/O
 *
 * What is known of an inode while it is open stands here too: its size, and the time stamps after our own last
 * change, by which stores through a mapping are noticed.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

struct file;
struct inodes;
struct modes;

enum open_mode { OPEN_PASSTHROUGH = 1, OPEN_DIRECT = 2, OPEN_CACHED = 3, OPEN_MODE_END };

struct open_inode {
	uint64_t nodeid;
	unsigned opens[OPEN_MODE_END]; /* by mode; guarded by the modes' lock */
	_Atomic unsigned mappable;     /* passthrough opens for reading and writing, and what is kept of one: stores through a mapping are possible */
	_Atomic bool has_pages;        /* the kernel may have cached pages of it that stores through a mapping do not reach */
	unsigned refs;                 /* guarded by the modes' lock */
	int32_t backing_id;            /* while opens[OPEN_PASSTHROUGH] > 0, or kept alive; 0: none */

	/*
	 * Orders "do" and "commit" of changes to one file that the kernel does not order itself (an open with O_TRUNC
	 * against a write). Held across the call on the file, because that is what is ordered.
	 */
	pthread_mutex_t order;
	bool is_adopted;          /* could be mapped before this worker began, which has not looked yet; guarded by order, as is what follows */
	bool has_baseline;        /* mtime is of after our own last change */
	bool has_size;
	bool has_stores;          /* seen through a mapping: a dirty page may have been stored to again, which leaves no trace */
	struct timespec mtime;
	uint64_t size;            /* bytes, after our own last change */
	pid_t last_writer;        /* thread id; its comm need not be looked up again at once */
	struct file *lender;      /* an open file whose descriptor serves for other requests; NULL: none */
	struct file *mapped;      /* one that is closed, and may be mapped still (mapped.h); NULL: none */

	struct open_inode *next;
};

/** @fuse_fd is borrowed; @use_passthrough: whether backing ids may be asked for. Returns 0 or -ENOMEM. */
int modes_create(struct inodes *inodes, int fuse_fd, bool use_passthrough, struct modes **out);
void modes_destroy(struct modes *modes);

/** The new worker counts an open that an old one made. Returns NULL without memory. */
struct open_inode *mode_adopt(struct modes *modes, uint64_t nodeid, enum open_mode mode, int flags);

/** All opens have been adopted: give back the backing ids of inodes that are not open, whose worker died before it could. */
void modes_sweep(struct modes *modes);

/**
 * Decide how @nodeid is opened with @flags of open(2) and count it. @path_fd is any descriptor of the file (O_PATH will do), for the
 * backing id. Returns 0 and sets the mode and the inode, which mode_close() gives back, or a negative errno.
 */
int mode_open(struct modes *modes, uint64_t nodeid, int flags, bool is_new, int path_fd,
	      enum open_mode *out_mode, struct open_inode **out);

/** One open of @mode for reading and writing is gone, its mapping perhaps not: it stays mappable, with a reference, until mode_end_mapped(). */
void mode_close_mapped(struct modes *modes, struct open_inode *inode, enum open_mode mode);
void mode_end_mapped(struct modes *modes, struct open_inode *inode);

/** The new worker counts what an old one had kept with mode_close_mapped(). Returns NULL without memory. */
struct open_inode *mode_adopt_mapped(struct modes *modes, uint64_t nodeid);

/** One open of @mode with @flags is gone. */
void mode_close(struct modes *modes, struct open_inode *inode, enum open_mode mode, int flags);

/**
 * @nodeid is about to lose its last name: if it is open, let the kernel hold it, by a backing id on @path_fd, so that its contents
 * outlive a worker that held the only descriptor. An inode that is not open is left alone.
 */
void mode_keep_alive(struct modes *modes, uint64_t nodeid, int path_fd);

/** The inode if it is open, with a reference that mode_unref() gives back; else NULL. */
struct open_inode *mode_ref(struct modes *modes, uint64_t nodeid);

/** The inode, open or not, for a change that has to be in order with those of others who open it meanwhile. Returns NULL without memory. */
struct open_inode *mode_hold(struct modes *modes, uint64_t nodeid);
void mode_unref(struct modes *modes, struct open_inode *inode);

/** Whether backing ids can be had. */
bool modes_use_passthrough(const struct modes *modes);

/** They cannot be had, from now on. Before the first open. */
void modes_refuse_passthrough(struct modes *modes);

/** Whether an inode is open for reading and writing in passthrough mode. */
bool modes_have_mappable(struct modes *modes);

/** Call @visit for each inode that is open for reading and writing; it may block, and the inode stays until it returns. */
void modes_visit_mappable(struct modes *modes, void (*visit)(void *userdata, struct open_inode *inode),
			  void *userdata);

/** Our own change left the file so: what differs later was stored through a mapping. Holds order. */
void open_inode_set_baseline(struct open_inode *inode, const struct stat *now);

/** Our own write of the bytes before @end can only have made the file longer. What else changed was not looked at. Holds order. */
void open_inode_note_end(struct open_inode *inode, uint64_t end);

/** Whether the file changed behind the requests since the baseline. Holds order. */
bool open_inode_differs(const struct open_inode *inode, const struct stat *now);
