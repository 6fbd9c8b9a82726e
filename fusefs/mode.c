#include "fusefs/mode.h"

#include "fusefs/inode.h"
#include "fusefs/kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>

enum { BUCKETS = 4096 };

struct modes {
	struct inodes *inodes;
	int fuse_fd;
	bool use_passthrough; /* as the lock's */
	unsigned mappable;    /* opens for reading and writing; guarded by lock */
	pthread_mutex_t lock; /* guards the buckets and the counts of all inodes in them */
	struct open_inode *buckets[BUCKETS];
};

int modes_create(struct inodes *inodes, int fuse_fd, bool use_passthrough, struct modes **out)
{
	struct modes *modes = calloc(1, sizeof(*modes));

	if (!modes)
		return -ENOMEM;
	modes->inodes = inodes;
	modes->fuse_fd = fuse_fd;
	modes->use_passthrough = use_passthrough;
	pthread_mutex_init(&modes->lock, NULL);
	*out = modes;
	return 0;
}

static void free_inode(struct open_inode *inode)
{
	pthread_mutex_destroy(&inode->order);
	free(inode);
}

void modes_destroy(struct modes *modes)
{
	if (!modes)
		return;
	for (int i = 0; i < BUCKETS; i++) {
		for (struct open_inode *inode = modes->buckets[i], *next; inode; inode = next) {
			next = inode->next;
			free_inode(inode);
		}
	}
	pthread_mutex_destroy(&modes->lock);
	free(modes);
}

bool modes_use_passthrough(const struct modes *modes)
{
	return __atomic_load_n(&modes->use_passthrough, __ATOMIC_RELAXED);
}

void modes_refuse_passthrough(struct modes *modes)
{
	__atomic_store_n(&modes->use_passthrough, false, __ATOMIC_RELAXED);
}

static struct open_inode **bucket_of(struct modes *modes, uint64_t nodeid)
{
	return &modes->buckets[(uint32_t)nodeid % BUCKETS];
}

static struct open_inode *ref_known(struct modes *modes, uint64_t nodeid)
{
	struct open_inode *inode = *bucket_of(modes, nodeid);

	while (inode && inode->nodeid != nodeid)
		inode = inode->next;
	if (inode)
		inode->refs++;
	return inode;
}

static struct open_inode *ref_inode(struct modes *modes, uint64_t nodeid)
{
	struct open_inode **bucket = bucket_of(modes, nodeid);
	struct open_inode *inode = ref_known(modes, nodeid);

	if (inode)
		return inode;
	inode = calloc(1, sizeof(*inode));
	if (!inode)
		return NULL;
	inode->nodeid = nodeid;
	inode->refs = 1;
	pthread_mutex_init(&inode->order, NULL);
	inode->next = *bucket;
	*bucket = inode;
	return inode;
}

static void close_backing(struct modes *modes, struct open_inode *inode)
{
	uint32_t id = inode->backing_id;

	inode->backing_id = 0;
	inode_set_backing_id(modes->inodes, inode->nodeid, 0);
	/* Fails only when the connection is gone, and the id with it. */
	(void)ioctl(modes->fuse_fd, FUSE_DEV_IOC_BACKING_CLOSE, &id);
}

static void unref_inode(struct modes *modes, struct open_inode *inode)
{
	struct open_inode **link = bucket_of(modes, inode->nodeid);

	if (--inode->refs > 0)
		return;
	if (inode->backing_id)
		close_backing(modes, inode);
	while (*link != inode)
		link = &(*link)->next;
	*link = inode->next;
	free_inode(inode);
}

static bool is_mappable(int flags)
{
	return (flags & O_ACCMODE) == O_RDWR;
}

static void count_mappable(struct modes *modes, struct open_inode *inode, int by)
{
	inode->mappable += by;
	modes->mappable += by;
}

static void count(struct modes *modes, struct open_inode *inode, enum open_mode mode, int flags, int by)
{
	inode->opens[mode] += by;
	if (mode == OPEN_PASSTHROUGH && is_mappable(flags))
		count_mappable(modes, inode, by);
}

static int open_backing(struct modes *modes, int path_fd)
{
	struct fuse_backing_map map = { .fd = path_fd };
	int id = ioctl(modes->fuse_fd, FUSE_DEV_IOC_BACKING_OPEN, &map);

	return id < 0 ? -errno : id;
}

/*
 * Gives the inode a backing id. Held under the lock: the call looks up a descriptor and
 * allocates a number, it does not wait for a disk.
 */
static int begin_passthrough(struct modes *modes, struct open_inode *inode, int path_fd)
{
	int id = open_backing(modes, path_fd);

	if (id < 0)
		return id;
	inode->backing_id = id;
	inode_set_backing_id(modes->inodes, inode->nodeid, id);
	return 0;
}

/*
 * A file that cannot have a backing id (its file system is stacked too deep, memory is short) is opened DIRECT, where
 * every read and write is a request; only mappings of it then go through the page cache. A daemon without CAP_SYS_ADMIN
 * in the first user namespace is refused with EPERM: then nothing is ever passed through.
 */
static enum open_mode try_passthrough(struct modes *modes, struct open_inode *inode, int path_fd)
{
	int r = begin_passthrough(modes, inode, path_fd);

	if (r != -EPERM)
		return r < 0 ? OPEN_DIRECT : OPEN_PASSTHROUGH;
	modes_refuse_passthrough(modes);
	return OPEN_CACHED;
}

static enum open_mode choose(struct modes *modes, struct open_inode *inode, int flags, bool is_new,
			     int path_fd)
{
	if (!modes->use_passthrough)
		return OPEN_CACHED;
	if (inode->opens[OPEN_DIRECT] > 0)
		return OPEN_DIRECT;
	if (inode->opens[OPEN_PASSTHROUGH] > 0)
		return OPEN_PASSTHROUGH;
	if (is_new && (flags & O_ACCMODE) == O_WRONLY)
		return OPEN_DIRECT;
	return try_passthrough(modes, inode, path_fd);
}

int mode_open(struct modes *modes, uint64_t nodeid, int flags, bool is_new, int path_fd,
	      enum open_mode *out_mode, struct open_inode **out)
{
	struct open_inode *inode;

	pthread_mutex_lock(&modes->lock);
	inode = ref_inode(modes, nodeid);
	if (inode) {
		*out_mode = choose(modes, inode, flags, is_new, path_fd);
		count(modes, inode, *out_mode, flags, 1);
		*out = inode;
	}
	pthread_mutex_unlock(&modes->lock);
	return inode ? 0 : -ENOMEM;
}

struct open_inode *mode_adopt(struct modes *modes, uint64_t nodeid, enum open_mode mode, int flags)
{
	struct open_inode *inode;

	pthread_mutex_lock(&modes->lock);
	inode = ref_inode(modes, nodeid);
	if (inode) {
		count(modes, inode, mode, flags, 1);
		inode->backing_id = inode_backing_id(modes->inodes, nodeid);
		inode->is_adopted |= mode == OPEN_PASSTHROUGH && is_mappable(flags);
	}
	pthread_mutex_unlock(&modes->lock);
	return inode;
}

struct sweep {
	struct modes *modes;
	uint64_t nodeids[256];
	unsigned count;
};

static void note_unused(void *userdata, uint64_t nodeid)
{
	struct sweep *sweep = userdata;
	struct open_inode *inode = ref_known(sweep->modes, nodeid);

	if (inode)
		inode->refs--;
	else if (sweep->count < sizeof(sweep->nodeids) / sizeof(*sweep->nodeids))
		sweep->nodeids[sweep->count++] = nodeid;
}

void modes_sweep(struct modes *modes)
{
	struct sweep sweep;

	do {
		sweep = (struct sweep){ .modes = modes };
		inodes_visit_backing(modes->inodes, note_unused, &sweep);
		for (unsigned i = 0; i < sweep.count; i++) {
			struct open_inode unused = { .nodeid = sweep.nodeids[i] };

			unused.backing_id = inode_backing_id(modes->inodes, unused.nodeid);
			close_backing(modes, &unused);
		}
	} while (sweep.count > 0);
}

void mode_close(struct modes *modes, struct open_inode *inode, enum open_mode mode, int flags)
{
	pthread_mutex_lock(&modes->lock);
	count(modes, inode, mode, flags, -1);
	if (inode->backing_id && inode->opens[mode] == 0)
		close_backing(modes, inode);
	unref_inode(modes, inode);
	pthread_mutex_unlock(&modes->lock);
}

void mode_close_mapped(struct modes *modes, struct open_inode *inode, enum open_mode mode)
{
	pthread_mutex_lock(&modes->lock);
	/* The backing id would be a writer itself. */
	if (--inode->opens[mode] == 0 && inode->backing_id)
		close_backing(modes, inode);
	pthread_mutex_unlock(&modes->lock);
}

void mode_end_mapped(struct modes *modes, struct open_inode *inode)
{
	pthread_mutex_lock(&modes->lock);
	count_mappable(modes, inode, -1);
	unref_inode(modes, inode);
	pthread_mutex_unlock(&modes->lock);
}

struct open_inode *mode_adopt_mapped(struct modes *modes, uint64_t nodeid)
{
	struct open_inode *inode;

	pthread_mutex_lock(&modes->lock);
	inode = ref_inode(modes, nodeid);
	if (inode) {
		count_mappable(modes, inode, 1);
		inode->is_adopted = true;
	}
	pthread_mutex_unlock(&modes->lock);
	return inode;
}

/* A reference alone is no open: the last one may be closing just now, or a change of a closed file under way. */
static bool is_open(const struct open_inode *inode)
{
	return inode->opens[OPEN_PASSTHROUGH] || inode->opens[OPEN_DIRECT] || inode->opens[OPEN_CACHED];
}

void mode_keep_alive(struct modes *modes, uint64_t nodeid, int path_fd)
{
	struct open_inode *inode;

	pthread_mutex_lock(&modes->lock);
	inode = ref_known(modes, nodeid);
	if (inode) {
		/* Without passthrough it cannot be done, and nothing else can. */
		if (modes->use_passthrough && !inode->backing_id && is_open(inode))
			(void)begin_passthrough(modes, inode, path_fd);
		unref_inode(modes, inode);
	}
	pthread_mutex_unlock(&modes->lock);
}

struct open_inode *mode_ref(struct modes *modes, uint64_t nodeid)
{
	struct open_inode *inode;

	pthread_mutex_lock(&modes->lock);
	inode = ref_known(modes, nodeid);
	if (inode && !is_open(inode)) {
		unref_inode(modes, inode);
		inode = NULL;
	}
	pthread_mutex_unlock(&modes->lock);
	return inode;
}

struct open_inode *mode_hold(struct modes *modes, uint64_t nodeid)
{
	struct open_inode *inode;

	pthread_mutex_lock(&modes->lock);
	inode = ref_inode(modes, nodeid);
	pthread_mutex_unlock(&modes->lock);
	return inode;
}

void mode_unref(struct modes *modes, struct open_inode *inode)
{
	pthread_mutex_lock(&modes->lock);
	unref_inode(modes, inode);
	pthread_mutex_unlock(&modes->lock);
}

bool modes_have_mappable(struct modes *modes)
{
	bool have;

	pthread_mutex_lock(&modes->lock);
	have = modes->mappable > 0;
	pthread_mutex_unlock(&modes->lock);
	return have;
}

/* The lock is let go around each visit; the reference keeps the inode, and its place in the chain. */
void modes_visit_mappable(struct modes *modes, void (*visit)(void *userdata, struct open_inode *inode),
			  void *userdata)
{
	pthread_mutex_lock(&modes->lock);
	for (int i = 0; i < BUCKETS; i++) {
		for (struct open_inode *inode = modes->buckets[i], *next; inode; inode = next) {
			if (inode->mappable > 0) {
				inode->refs++;
				pthread_mutex_unlock(&modes->lock);
				visit(userdata, inode);
				pthread_mutex_lock(&modes->lock);
				next = inode->next;
				unref_inode(modes, inode);
			} else {
				next = inode->next;
			}
		}
	}
	pthread_mutex_unlock(&modes->lock);
}

void open_inode_set_baseline(struct open_inode *inode, const struct stat *now)
{
	inode->has_baseline = true;
	inode->has_size = true;
	inode->mtime = now->st_mtim;
	inode->size = now->st_size;
}

void open_inode_note_end(struct open_inode *inode, uint64_t end)
{
	inode->has_baseline = false;
	if (inode->size < end)
		inode->size = end;
}

static bool is_same_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

bool open_inode_differs(const struct open_inode *inode, const struct stat *now)
{
	return inode->has_baseline && (!is_same_time(&inode->mtime, &now->st_mtim) ||
				       inode->size != (uint64_t)now->st_size);
}
