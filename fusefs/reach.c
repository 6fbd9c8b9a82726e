#include "fusefs/reach.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

enum {
	BUCKETS = 4096,
	DEVICES_MAX = 256,
	SPARED_MAX = 64,  /* entries to be kept that an eviction passes over before it takes one all the same */
	RELIEF = 64,      /* descriptors closed when the process has too many */
	MOVING_TRIES = 5, /* to find a file that is being renamed */
	MOVING_PAUSE_NS = 200 * 1000,
};

struct reach_entry {
	uint64_t nodeid;
	int fd;
	unsigned users;    /* borrowed so many times */
	bool is_dropped;   /* out of the cache; closed by the last user */
	bool is_kept;      /* the inode may not be found again */
	bool is_unchecked; /* it may be another file that had the name */
	struct reach_entry *next;              /* in its bucket */
	struct reach_entry *newer, *older;     /* by last use */
};

/* A file system below the source; handles are opened relative to a descriptor on it. */
struct device {
	uint64_t dev;
	int fd; /* O_RDONLY; -1: none can be had */
};

struct reach {
	struct inodes *inodes;
	int source_fd;
	uint64_t source_dev;
	bool has_handles;
	bool has_births; /* where files are on the source's file system itself */

	int held_max;
	atomic_bool is_tight; /* with what is owed, a descriptor with a number from held_max on is held, or was */
	atomic_int owed;      /* see reach_owe() */

	pthread_mutex_t lock; /* guards all below */
	struct reach_entry *buckets[BUCKETS];
	struct reach_entry *newest, *oldest;
	unsigned count, limit;
	struct device devices[DEVICES_MAX];
	unsigned device_count;
};

void reach_link(int fd, char link[REACH_LINK_SIZE])
{
	char digits[12];
	int n = 0;
	size_t at = sizeof("/proc/self/fd/") - 1;

	memcpy(link, "/proc/self/fd/", at);
	do
		digits[n++] = '0' + fd % 10;
	while (fd /= 10);
	while (n)
		link[at++] = digits[--n];
	link[at] = '\0';
}

/* ---- attributes ---- */

static struct timespec time_of(const struct statx_timestamp *time)
{
	return (struct timespec){ .tv_sec = time->tv_sec, .tv_nsec = time->tv_nsec };
}

static struct stat stat_of(const struct statx *found)
{
	return (struct stat){
		.st_dev = makedev(found->stx_dev_major, found->stx_dev_minor),
		.st_ino = found->stx_ino,
		.st_mode = found->stx_mode,
		.st_nlink = found->stx_nlink,
		.st_uid = found->stx_uid,
		.st_gid = found->stx_gid,
		.st_rdev = makedev(found->stx_rdev_major, found->stx_rdev_minor),
		.st_size = found->stx_size,
		.st_blksize = found->stx_blksize,
		.st_blocks = found->stx_blocks,
		.st_atim = time_of(&found->stx_atime),
		.st_mtim = time_of(&found->stx_mtime),
		.st_ctim = time_of(&found->stx_ctime),
	};
}

/* Attributes, and of the handle the time of birth. */
static int look_at(const struct reach *reach, int dir_fd, const char *name, int flags, struct stat *out,
		   struct inode_handle *out_handle)
{
	struct statx found;

	*out_handle = (struct inode_handle){ 0 };
	if (statx(dir_fd, name, flags | AT_NO_AUTOMOUNT, STATX_BASIC_STATS | STATX_BTIME, &found) < 0)
		return -errno;
	*out = stat_of(&found);
	if (reach->has_births && out->st_dev == reach->source_dev && found.stx_mask & STATX_BTIME)
		out_handle->born_ns = found.stx_btime.tv_sec * 1000000000ll + found.stx_btime.tv_nsec;
	return 0;
}

/* Local ones, on which it never changes. On an overlay it does, when the file is copied up. */
static bool has_births(int source_fd)
{
	static const unsigned long known[] = {
		BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, F2FS_SUPER_MAGIC, TMPFS_MAGIC, XFS_SUPER_MAGIC,
	};
	struct statfs source;

	if (fstatfs(source_fd, &source) < 0)
		return false;
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if ((unsigned long)source.f_type == known[i])
			return true;
	return false;
}

/* ---- devices and handles ---- */

struct handle_buffer {
	struct file_handle header;
	unsigned char bytes[MAX_HANDLE_SZ];
};

static int get_handle(int dir_fd, const char *name, int flags, struct inode_handle *out)
{
	struct handle_buffer buffer = { .header.handle_bytes = TABLES_HANDLE_MAX };
	int mount_id;

	out->type = 0;
	out->size = 0;
	if (name_to_handle_at(dir_fd, name, &buffer.header, &mount_id, flags) < 0)
		return -errno;
	out->type = buffer.header.handle_type;
	out->size = buffer.header.handle_bytes;
	memcpy(out->bytes, buffer.header.f_handle, out->size);
	return 0;
}

static int open_handle(int mount_fd, const struct inode_handle *handle, int flags)
{
	struct handle_buffer buffer = {
		.header.handle_bytes = handle->size,
		.header.handle_type = handle->type,
	};
	int fd;

	memcpy(buffer.header.f_handle, handle->bytes, handle->size);
	fd = open_by_handle_at(mount_fd, &buffer.header, flags);
	return fd < 0 ? -errno : fd;
}

/* The descriptor of a known file system, or -1. */
static int device_fd(struct reach *reach, uint64_t dev)
{
	int fd = -1;

	pthread_mutex_lock(&reach->lock);
	for (unsigned i = 0; i < reach->device_count; i++)
		if (reach->devices[i].dev == dev)
			fd = reach->devices[i].fd;
	pthread_mutex_unlock(&reach->lock);
	return fd;
}

static bool knows_device(struct reach *reach, uint64_t dev)
{
	bool knows = false;

	pthread_mutex_lock(&reach->lock);
	for (unsigned i = 0; i < reach->device_count; i++)
		knows = knows || reach->devices[i].dev == dev;
	pthread_mutex_unlock(&reach->lock);
	return knows;
}

/* Takes over @fd. A table that is full means that files there are reached by name. */
static void add_device(struct reach *reach, uint64_t dev, int fd)
{
	bool added = false;

	pthread_mutex_lock(&reach->lock);
	if (reach->device_count < DEVICES_MAX) {
		reach->devices[reach->device_count++] = (struct device){ .dev = dev, .fd = fd };
		added = true;
	}
	pthread_mutex_unlock(&reach->lock);
	if (!added && fd >= 0)
		close(fd);
}

static void note_device(struct reach *reach, int dir_fd, const char *name, const struct stat *attributes)
{
	if (attributes->st_dev == reach->source_dev || knows_device(reach, attributes->st_dev))
		return;
	/* A single file can be mounted as well; then there is no directory to open. */
	if (S_ISDIR(attributes->st_mode))
		add_device(reach, attributes->st_dev,
			   openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
}

int reach_identify(struct reach *reach, int dir_fd, const char *name, struct stat *out_attributes,
		   struct inode_handle *out_handle)
{
	int r = look_at(reach, dir_fd, name, AT_SYMLINK_NOFOLLOW, out_attributes, out_handle);

	if (r < 0)
		return r;
	note_device(reach, dir_fd, name, out_attributes);
	if (reach->has_handles && !(S_ISREG(out_attributes->st_mode) && out_handle->born_ns))
		(void)get_handle(dir_fd, name, 0, out_handle);
	return 0;
}

int reach_identify_fd(struct reach *reach, int fd, struct stat *out_attributes, struct inode_handle *out_handle)
{
	int r = look_at(reach, fd, "", AT_EMPTY_PATH, out_attributes, out_handle);

	if (r == 0 && reach->has_handles)
		(void)get_handle(fd, "", AT_EMPTY_PATH, out_handle);
	return r;
}

bool reach_has_handles(const struct reach *reach)
{
	return reach->has_handles;
}

/* ---- the cache ---- */

static struct reach_entry **bucket_of(struct reach *reach, uint64_t nodeid)
{
	return &reach->buckets[(uint32_t)nodeid % BUCKETS];
}

static void unlink_age(struct reach *reach, struct reach_entry *entry)
{
	*(entry->newer ? &entry->newer->older : &reach->newest) = entry->older;
	*(entry->older ? &entry->older->newer : &reach->oldest) = entry->newer;
}

static void link_newest(struct reach *reach, struct reach_entry *entry)
{
	entry->newer = NULL;
	entry->older = reach->newest;
	*(reach->newest ? &reach->newest->newer : &reach->oldest) = entry;
	reach->newest = entry;
}

/* Takes the entry out of the cache. Returns it, to be freed outside the lock, unless somebody has it borrowed. */
static struct reach_entry *evict(struct reach *reach, struct reach_entry *entry)
{
	struct reach_entry **link = bucket_of(reach, entry->nodeid);

	while (*link != entry)
		link = &(*link)->next;
	*link = entry->next;
	unlink_age(reach, entry);
	reach->count--;
	if (entry->users == 0)
		return entry;
	entry->is_dropped = true;
	return NULL;
}

/* Closing the last descriptor of a removed file frees its blocks, which may take long. NULL is fine. */
static void free_entry(struct reach_entry *entry)
{
	if (!entry)
		return;
	close(entry->fd);
	free(entry);
}

static struct reach_entry *evict_oldest(struct reach *reach)
{
	for (int i = 0; i < SPARED_MAX && reach->oldest->is_kept; i++) {
		struct reach_entry *spared = reach->oldest;

		unlink_age(reach, spared);
		link_newest(reach, spared);
	}
	return evict(reach, reach->oldest);
}

bool reach_relieve(struct reach *reach)
{
	struct reach_entry *entry;
	int error = errno, closed = 0;

	if (error != EMFILE && error != ENFILE)
		return false;
	while (closed < RELIEF) {
		pthread_mutex_lock(&reach->lock);
		entry = reach->oldest ? evict_oldest(reach) : NULL;
		pthread_mutex_unlock(&reach->lock);
		if (!entry)
			break;
		free_entry(entry);
		closed++;
	}
	errno = error;
	return closed > 0;
}

/* The smallest number that is free, which the next descriptor will have. */
static int next_number(const struct reach *reach)
{
	int fd = fcntl(reach->source_fd, F_DUPFD_CLOEXEC, 0);

	if (fd >= 0)
		close(fd);
	return fd < 0 ? INT_MAX / 2 : fd;
}

/* Out of the cache, with its number: one that is small enough, and that may be missed. NULL: there is none. */
static struct reach_entry *take_small(struct reach *reach)
{
	struct reach_entry *entry, *found = NULL;

	pthread_mutex_lock(&reach->lock);
	for (entry = reach->oldest; entry && !found; entry = entry->newer)
		if (!entry->is_kept && entry->users == 0 && entry->fd < reach->held_max)
			found = entry;
	if (found)
		found = evict(reach, found);
	pthread_mutex_unlock(&reach->lock);
	return found;
}

bool reach_has_room(struct reach *reach)
{
	struct reach_entry *entry;
	bool has_room;

	if (!atomic_load(&reach->is_tight))
		return true;
	while (!(has_room = next_number(reach) + atomic_load(&reach->owed) < reach->held_max) && (entry = take_small(reach)))
		free_entry(entry);
	atomic_store(&reach->is_tight, !has_room);
	return has_room;
}

void reach_note_held(struct reach *reach, int fd)
{
	if (fd >= 0 && fd + atomic_load(&reach->owed) >= reach->held_max)
		atomic_store(&reach->is_tight, true);
}

void reach_owe(struct reach *reach, int count)
{
	atomic_fetch_add(&reach->owed, count);
}

static struct reach_entry *find_entry(struct reach *reach, uint64_t nodeid)
{
	struct reach_entry *entry = *bucket_of(reach, nodeid);

	while (entry && entry->nodeid != nodeid)
		entry = entry->next;
	return entry;
}

static bool is_meant(const struct inode_view *view, const struct stat *attributes, const struct inode_handle *handle)
{
	return attributes->st_ino == view->ino && attributes->st_dev == view->dev &&
	       (attributes->st_mode & S_IFMT) == view->type &&
	       (!handle->born_ns || !view->handle.born_ns || handle->born_ns == view->handle.born_ns);
}

/* Whether @fd is open on the inode. */
static bool leads_to(const struct reach *reach, int fd, const struct inode_view *view)
{
	struct inode_handle handle;
	struct stat attributes;

	return look_at(reach, fd, "", AT_EMPTY_PATH, &attributes, &handle) == 0 && is_meant(view, &attributes, &handle);
}

/* Whether what was borrowed unchecked is the inode; if not, it is given back and dropped. */
static bool confirm(struct reach *reach, uint64_t nodeid, struct reached *reached)
{
	struct inode_view view;
	bool is_right = inode_get(reach->inodes, nodeid, &view) == 0 && leads_to(reach, reached->fd, &view);

	if (!is_right) {
		reach_put(reach, reached);
		reach_drop(reach, nodeid);
		return false;
	}
	pthread_mutex_lock(&reach->lock);
	reached->entry->is_unchecked = false;
	pthread_mutex_unlock(&reach->lock);
	return true;
}

/* The caller holds the lock. */
static void use_entry(struct reach *reach, struct reach_entry *entry)
{
	if (reach->newest == entry)
		return;
	unlink_age(reach, entry);
	link_newest(reach, entry);
}

static bool borrow_cached(struct reach *reach, uint64_t nodeid, struct reached *out)
{
	struct reach_entry *entry;
	bool is_unchecked = false;

	if (nodeid == INODE_ROOT) {
		*out = (struct reached){ .fd = reach->source_fd };
		return true;
	}
	pthread_mutex_lock(&reach->lock);
	entry = find_entry(reach, nodeid);
	if (entry) {
		entry->users++;
		use_entry(reach, entry);
		is_unchecked = entry->is_unchecked;
		*out = (struct reached){ .fd = entry->fd, .entry = entry };
	}
	pthread_mutex_unlock(&reach->lock);
	return entry && (!is_unchecked || confirm(reach, nodeid, out));
}

enum { KEPT = 1, UNCHECKED = 2 };

/*
 * Takes over @fd, and lends it; @how: of the flags above. Two threads may have reached the same inode: the second's is used once and dropped.
 */
static int insert(struct reach *reach, uint64_t nodeid, int fd, unsigned how, struct reached *out)
{
	struct reach_entry *entry = calloc(1, sizeof(*entry)), *old = NULL;

	if (!entry) {
		close(fd);
		return -ENOMEM;
	}
	entry->nodeid = nodeid;
	entry->fd = fd;
	entry->users = 1;
	entry->is_kept = how & KEPT;
	entry->is_unchecked = how & UNCHECKED;
	pthread_mutex_lock(&reach->lock);
	if (find_entry(reach, nodeid)) {
		entry->is_dropped = true;
	} else {
		struct reach_entry **bucket = bucket_of(reach, nodeid);

		entry->next = *bucket;
		*bucket = entry;
		link_newest(reach, entry);
		if (++reach->count > reach->limit)
			old = evict_oldest(reach);
	}
	pthread_mutex_unlock(&reach->lock);
	free_entry(old);
	*out = (struct reached){ .fd = fd, .entry = entry };
	return 0;
}

void reach_put(struct reach *reach, struct reached *reached)
{
	struct reach_entry *entry = reached->entry;
	bool is_last;

	*reached = REACHED_NONE;
	if (!entry)
		return;
	pthread_mutex_lock(&reach->lock);
	is_last = --entry->users == 0 && entry->is_dropped;
	pthread_mutex_unlock(&reach->lock);
	if (is_last)
		free_entry(entry);
}

void reach_spare(struct reach *reach, const struct reached *reached)
{
	if (!reached->entry)
		return;
	pthread_mutex_lock(&reach->lock);
	reached->entry->is_kept = true;
	pthread_mutex_unlock(&reach->lock);
}

void reach_drop(struct reach *reach, uint64_t nodeid)
{
	struct reach_entry *entry;

	pthread_mutex_lock(&reach->lock);
	entry = find_entry(reach, nodeid);
	if (entry)
		entry = evict(reach, entry);
	pthread_mutex_unlock(&reach->lock);
	free_entry(entry);
}

unsigned reach_count(struct reach *reach)
{
	unsigned count;

	pthread_mutex_lock(&reach->lock);
	count = reach->count;
	pthread_mutex_unlock(&reach->lock);
	return count;
}

/* ---- reaching ---- */

static int open_by_handle(struct reach *reach, const struct inode_view *view)
{
	int mount_fd;

	if (!view->handle.size)
		return -ESTALE;
	mount_fd = device_fd(reach, view->dev);
	if (mount_fd < 0)
		return -ESTALE;
	return open_handle(mount_fd, &view->handle, O_PATH | O_NOFOLLOW | O_CLOEXEC);
}

static int open_by_name(const struct reach *reach, const struct inode_view *view, int parent_fd)
{
	int fd = openat(parent_fd, view->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return errno == ENOENT || errno == ENOTDIR ? -ESTALE : -errno;
	if (!leads_to(reach, fd, view)) {
		close(fd);
		return -ESTALE;
	}
	return fd;
}

static int get_now(struct reach *reach, uint64_t nodeid, struct reached *out);

/*
 * By name when the parent's descriptor is at hand, because that is cheapest; else by handle; else by name, reaching for the
 * parent first (which may go up to the root).
 */
static int open_inode(struct reach *reach, const struct inode_view *view)
{
	struct reached parent = REACHED_NONE;
	int fd = -ESTALE;

	if (view->parent && !view->is_gone && borrow_cached(reach, view->parent, &parent))
		fd = open_by_name(reach, view, parent.fd);
	if (fd == -ESTALE)
		fd = open_by_handle(reach, view);
	if (fd == -ESTALE && view->parent && !view->is_gone && parent.fd < 0 &&
	    get_now(reach, view->parent, &parent) == 0)
		fd = open_by_name(reach, view, parent.fd);
	reach_put(reach, &parent);
	return fd;
}

/* As things are at this moment. */
static int get_now(struct reach *reach, uint64_t nodeid, struct reached *out)
{
	struct inode_view view;
	int fd, r;

	if (borrow_cached(reach, nodeid, out))
		return 0;
	r = inode_get(reach->inodes, nodeid, &view);
	if (r < 0)
		return r;
	do {
		fd = open_inode(reach, &view);
		errno = -fd;
	} while (fd < 0 && reach_relieve(reach));
	if (fd < 0)
		return fd;
	/* Who is asked for once may be asked for under a name that was taken away behind the mount. */
	if (!view.handle.size && reach->has_handles && get_handle(fd, "", AT_EMPTY_PATH, &view.handle) == 0)
		inode_set_handle(reach->inodes, nodeid, &view.handle);
	return insert(reach, nodeid, fd, view.is_gone ? KEPT : 0, out);
}

/* What has no handle is found under its name alone. */
static bool may_be_moving(struct reach *reach, uint64_t nodeid)
{
	struct inode_view view;

	return inode_get(reach->inodes, nodeid, &view) == 0 && view.parent && !view.is_gone && !view.handle.size;
}

/*
 * A rename moves the name, then the tables learn of it; who comes in between, or read the tables before, finds neither. The caller may hold names
 * itself, so this does not wait for who does, but looks again a few times.
 */
int reach_get(struct reach *reach, uint64_t nodeid, struct reached *out)
{
	struct timespec pause = { .tv_nsec = MOVING_PAUSE_NS };
	int r = get_now(reach, nodeid, out);

	for (int tries = 0; r == -ESTALE && tries < MOVING_TRIES && may_be_moving(reach, nodeid); tries++) {
		nanosleep(&pause, NULL);
		pause.tv_nsec *= 2;
		r = get_now(reach, nodeid, out);
	}
	return r;
}

/* A directory leads to itself, by a shorter way than /proc; but who may read it may not always search it. */
static int open_again(int path_fd, int flags)
{
	char link[REACH_LINK_SIZE];
	int fd;

	if (flags & O_DIRECTORY) {
		fd = openat(path_fd, ".", flags);
		if (fd >= 0 || errno != EACCES)
			return fd;
	}
	reach_link(path_fd, link);
	return open(link, flags);
}

int reach_reopen(struct reach *reach, int path_fd, int flags)
{
	int fd;

	flags = (flags & ~(O_NOFOLLOW | O_CREAT | O_EXCL | O_DIRECT)) | O_CLOEXEC;
	do
		fd = open_again(path_fd, flags & ~O_APPEND);
	while (fd < 0 && reach_relieve(reach));
	/* A file with the append-only attribute can be opened for writing in no other way. */
	if (fd < 0 && errno == EPERM && flags & O_APPEND)
		fd = open_again(path_fd, flags);
	return fd < 0 ? -errno : fd;
}

int reach_open_anew(struct reach *reach, int path_fd, int flags)
{
	int fd = reach_reopen(reach, path_fd, flags);
	char link[REACH_LINK_SIZE];
	struct stat now;

	/* An owner who is not of the file's group cannot give set-gid back. */
	if (fd != -EACCES || fstat(path_fd, &now) < 0 || !S_ISREG(now.st_mode) || now.st_mode & S_ISGID)
		return fd;
	reach_link(path_fd, link);
	if (chmod(link, (now.st_mode & 07777) | S_IRUSR | S_IWUSR) < 0)
		return fd;
	fd = reach_reopen(reach, path_fd, flags);
	(void)chmod(link, now.st_mode & 07777);
	return fd;
}

void reach_keep(struct reach *reach, uint64_t nodeid, int fd)
{
	struct reached reached;
	int path_fd = reach_reopen(reach, fd, O_PATH);

	if (path_fd >= 0 && insert(reach, nodeid, path_fd, KEPT, &reached) == 0)
		reach_put(reach, &reached);
}

static bool keep_cached(struct reach *reach, uint64_t nodeid)
{
	struct reach_entry *entry;

	pthread_mutex_lock(&reach->lock);
	entry = find_entry(reach, nodeid);
	if (entry) {
		entry->is_kept = true;
		use_entry(reach, entry);
	}
	pthread_mutex_unlock(&reach->lock);
	return entry;
}

void reach_keep_name(struct reach *reach, uint64_t nodeid, int dir_fd, const char *name)
{
	struct reached reached;
	int fd;

	if (keep_cached(reach, nodeid))
		return;
	do
		fd = openat(dir_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	while (fd < 0 && reach_relieve(reach));
	if (fd >= 0 && insert(reach, nodeid, fd, KEPT | UNCHECKED, &reached) == 0)
		reach_put(reach, &reached);
}

int reach_stat(struct reach *reach, uint64_t nodeid, struct stat *out)
{
	struct reached reached = REACHED_NONE;
	struct inode_handle handle;
	struct inode_view view;
	int r;

	if (!borrow_cached(reach, nodeid, &reached)) {
		r = inode_get(reach->inodes, nodeid, &view);
		if (r < 0)
			return r;
		if (view.parent && !view.is_gone && borrow_cached(reach, view.parent, &reached)) {
			r = look_at(reach, reached.fd, view.name, AT_SYMLINK_NOFOLLOW, out, &handle);
			reach_put(reach, &reached);
			if (r == 0 && is_meant(&view, out, &handle))
				return 0;
		}
		r = reach_get(reach, nodeid, &reached);
		if (r < 0)
			return r;
	}
	r = fstatat(reached.fd, "", out, AT_EMPTY_PATH) < 0 ? -errno : 0;
	reach_put(reach, &reached);
	return r;
}

/* ---- beginning and end ---- */

/* A handle that can be made and opened again: both are needed, and both are tried on the root. */
static bool try_handles(int source_fd)
{
	struct inode_handle handle;
	int fd;

	if (get_handle(source_fd, "", AT_EMPTY_PATH, &handle) < 0)
		return false;
	fd = open_handle(source_fd, &handle, O_PATH | O_CLOEXEC);
	if (fd < 0)
		return false;
	close(fd);
	return true;
}

int reach_create(struct inodes *inodes, int source_fd, unsigned limit, unsigned held_max, struct reach **out)
{
	struct reach *reach = calloc(1, sizeof(*reach));
	struct stat root;
	int fd;

	if (!reach)
		return -ENOMEM;
	pthread_mutex_init(&reach->lock, NULL);
	reach->inodes = inodes;
	reach->source_fd = source_fd;
	reach->limit = limit;
	reach->held_max = held_max;
	/* open_by_handle_at(2) does not take an O_PATH descriptor. */
	fd = openat(source_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &root) < 0) {
		int r = -errno;

		if (fd >= 0)
			close(fd);
		reach_destroy(reach);
		return r;
	}
	reach->source_dev = root.st_dev;
	reach->has_handles = try_handles(fd);
	reach->has_births = has_births(fd);
	add_device(reach, root.st_dev, fd);
	*out = reach;
	return 0;
}

void reach_destroy(struct reach *reach)
{
	if (!reach)
		return;
	while (reach->oldest)
		free_entry(evict(reach, reach->oldest));
	for (unsigned i = 0; i < reach->device_count; i++)
		if (reach->devices[i].fd >= 0)
			close(reach->devices[i].fd);
	pthread_mutex_destroy(&reach->lock);
	free(reach);
}
