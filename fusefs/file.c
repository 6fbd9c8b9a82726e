#include "fusefs/file.h"

#include "fusefs/reach.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct files {
	pthread_mutex_t lock; /* guards the pool */
	struct pool *pool;
	struct file *files;   /* by slot; reserved for the whole pool, touched as it fills */
};

static struct file_slot *slot_at(struct files *files, uint32_t index)
{
	return pool_at(files->pool, index);
}

int files_create(struct tables *tables, struct files **out)
{
	struct files *files = calloc(1, sizeof(*files));
	void *map;

	if (!files)
		return -ENOMEM;
	map = mmap(NULL, tables->files.capacity * sizeof(struct file), PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (map == MAP_FAILED) {
		free(files);
		return -ENOMEM;
	}
	pthread_mutex_init(&files->lock, NULL);
	files->pool = &tables->files;
	files->files = map;
	*out = files;
	return 0;
}

void file_drop_entries(struct file *file)
{
	file->dir_is_ahead = file->dir_is_ahead || file->dir_at < file->dir_used;
	file->dir_used = file->dir_at = 0;
}

void file_init_unasked(struct file *file, uint64_t nodeid)
{
	*file = (struct file){ .nodeid = nodeid, .is_dir = true, .fd = -1 };
}

void file_finish(struct file *file)
{
	int fd = atomic_load(&file->fd);

	if (fd >= 0)
		close(fd);
	free(file->dir_buffer);
	memset(file, 0, sizeof(*file));
}

void files_destroy(struct files *files)
{
	if (!files)
		return;
	for (uint32_t i = 1; i < pool_end(files->pool); i++)
		if (files->files[i].fh)
			file_finish(&files->files[i]);
	munmap(files->files, files->pool->capacity * sizeof(struct file));
	pthread_mutex_destroy(&files->lock);
	free(files);
}

static void fill(struct file *file, struct file_slot *slot, uint64_t fh,
		 struct open_inode *inode, int fd)
{
	*file = (struct file){
		.fh = fh,
		.nodeid = slot->inode,
		.slot = slot,
		.flags = slot->flags,
		.is_dir = slot->is_dir,
		.mode = slot->mode,
		.inode = inode,
		.fd = fd,
	};
}

/* An open for reading in passthrough mode does without. */
static void owe(struct file *file, struct reach *reach)
{
	if (file->is_dir || (file->mode == OPEN_PASSTHROUGH && (file->flags & O_ACCMODE) == O_RDONLY))
		return;
	atomic_store(&file->is_owed, true);
	reach_owe(reach, 1);
}

static void settle(struct file *file, struct reach *reach)
{
	if (atomic_load(&file->is_owed) && atomic_exchange(&file->is_owed, false))
		reach_owe(reach, -1);
}

int files_adopt(struct files *files, struct modes *modes, struct reach *reach)
{
	for (uint32_t i = 1; i < pool_end(files->pool); i++) {
		struct file_slot *slot = slot_at(files, i);
		uint32_t generation = pool_generation(files->pool, i);
		struct open_inode *inode = NULL;

		if (!generation)
			continue;
		if (!slot->is_dir) {
			inode = slot->is_closed ? mode_adopt_mapped(modes, slot->inode) :
						  mode_adopt(modes, slot->inode, slot->mode, slot->flags);
			if (!inode)
				return -ENOMEM;
		}
		fill(&files->files[i], slot, pool_handle(i, generation), inode, -1);
		if (slot->is_closed)
			inode->mapped = &files->files[i];
		else
			owe(&files->files[i], reach);
	}
	modes_sweep(modes);
	return 0;
}

struct file *file_create(struct files *files, uint64_t nodeid, int flags, enum open_mode mode,
			 struct open_inode *inode, int fd, bool is_dir, uint64_t request)
{
	struct file_slot *slot;
	uint32_t index;
	uint64_t fh;

	pthread_mutex_lock(&files->lock);
	index = pool_take(files->pool);
	if (!index) {
		pthread_mutex_unlock(&files->lock);
		return NULL;
	}
	slot = slot_at(files, index);
	slot->inode = nodeid;
	slot->flags = flags;
	slot->mode = mode;
	slot->is_dir = is_dir;
	slot->is_closed = false;
	slot->request = request;
	fh = pool_handle(index, pool_publish(files->pool, index));
	fill(&files->files[index], slot, fh, inode, fd);
	pthread_mutex_unlock(&files->lock);
	return &files->files[index];
}

struct file *file_find(struct files *files, uint64_t fh)
{
	uint32_t index = pool_find(files->pool, fh);

	return index ? &files->files[index] : NULL;
}

struct file *file_find_request(struct files *files, uint64_t request)
{
	for (uint32_t i = 1; i < pool_end(files->pool); i++)
		if (pool_generation(files->pool, i) && slot_at(files, i)->request == request)
			return &files->files[i];
	return NULL;
}

void file_release_fd(struct file *file, struct reach *reach)
{
	int fd = atomic_exchange(&file->fd, -1);

	settle(file, reach);
	if (fd >= 0)
		close(fd);
}

void file_destroy(struct files *files, struct file *file, struct reach *reach)
{
	uint32_t index = (uint32_t)file->fh;

	settle(file, reach);
	file_finish(file);
	pthread_mutex_lock(&files->lock);
	pool_give(files->pool, index);
	pthread_mutex_unlock(&files->lock);
}

static int open_flags(const struct file *file)
{
	int flags = file->flags & ~(O_TRUNC | O_CREAT | O_EXCL | O_NOCTTY);

	return file->is_dir ? O_RDONLY | O_DIRECTORY : flags;
}

int file_fd(struct file *file, struct reach *reach)
{
	struct reached reached = REACHED_NONE;
	int fd = atomic_load(&file->fd), none = -1, r;

	if (fd >= 0)
		return fd;
	r = reach_get(reach, file->nodeid, &reached);
	if (r < 0)
		return r;
	fd = reach_open_anew(reach, reached.fd, open_flags(file));
	reach_put(reach, &reached);
	if (fd < 0)
		return fd;
	/* Two threads may come here for one file: the first one's descriptor counts. */
	if (!atomic_compare_exchange_strong(&file->fd, &none, fd)) {
		close(fd);
		return none;
	}
	settle(file, reach);
	return fd;
}

uint64_t files_count(struct files *files)
{
	uint64_t count;

	pthread_mutex_lock(&files->lock);
	count = files->pool->live;
	pthread_mutex_unlock(&files->lock);
	return count;
}
