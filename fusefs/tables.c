/*
 * Tables: layout of the memfd.
 *
 *     0                header: magic, version, counters, saved INIT
 *     HEADER_SIZE      inode slots
 *     ...              name slots, long-name slots, file slots
 *
 * Every pool has room for far more than a machine's memory could fill; the file is sparse.
 * Slot 0 of a pool is never used, so that 0 can mean "none".
 *
 * A chunk of slots in which nothing lives any more is cut out of the file (MADV_REMOVE): forgotten inodes give their
 * memory back. Cut slots read as zero, which is a free slot.
 */
#include "fusefs/tables.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define TABLES_MAGIC 0x6873667462617333ULL /* changes with the layout */

enum {
	HEADER_SIZE = 64 * 1024,
	CHUNK_SLOTS = 4096, /* a multiple of the page size, so that chunks are whole pages */
	INODES_MAX = 1 << 25,
	NAMES_MAX = 1 << 26,
	LONG_NAMES_MAX = 1 << 24,
	FILES_MAX = 1 << 22,
	POOLS = 4,
};

struct header {
	uint64_t magic;
	_Atomic uint32_t next_generation;
	_Atomic uint32_t high[POOLS];
	_Atomic uint32_t init_size;
	char init[TABLES_INIT_MAX];
};
static_assert(sizeof(struct header) <= HEADER_SIZE, "the header fits");

struct shape {
	size_t slot_size;
	uint32_t capacity;
};

static const struct shape shapes[POOLS] = {
	{ sizeof(struct inode_slot), INODES_MAX },
	{ sizeof(struct name_slot), NAMES_MAX },
	{ sizeof(struct long_name_slot), LONG_NAMES_MAX },
	{ sizeof(struct file_slot), FILES_MAX },
};

static size_t shape_size(const struct shape *shape)
{
	return shape->slot_size * shape->capacity;
}

size_t tables_size(void)
{
	size_t size = HEADER_SIZE;

	for (int i = 0; i < POOLS; i++)
		size += shape_size(&shapes[i]);
	return size;
}

int tables_create(void)
{
	struct header header = { .magic = TABLES_MAGIC };
	int fd = memfd_create("hrfs-tables", MFD_CLOEXEC);

	if (fd < 0)
		return -errno;
	/* By chance, so that a number of another mount, in a file handle that somebody kept, is none of ours. */
	if (getrandom(&header.next_generation, sizeof(header.next_generation), 0) < 0)
		header.next_generation = 1;
	if (ftruncate(fd, tables_size()) < 0 ||
	    pwrite(fd, &header, sizeof(header), 0) != sizeof(header)) {
		int r = -errno;

		close(fd);
		return r;
	}
	return fd;
}

int tables_check(int fd)
{
	struct stat st;
	uint64_t magic;

	if (fstat(fd, &st) < 0 || pread(fd, &magic, sizeof(magic), 0) < 0)
		return -errno;
	return magic == TABLES_MAGIC && st.st_size == tables_size() ? 0 : -EPROTO;
}

static void *reserve(size_t size)
{
	void *map = mmap(NULL, size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return map == MAP_FAILED ? NULL : map;
}

static size_t chunks_of(const struct pool *pool)
{
	return (pool->capacity + CHUNK_SLOTS - 1) / CHUNK_SLOTS;
}

/* Walks downwards so that low slots are taken first and the table stays dense. */
static void rebuild_free_list(struct pool *pool)
{
	for (uint32_t i = pool_end(pool); i-- > 1;) {
		if (pool_generation(pool, i)) {
			pool->live++;
			pool->chunk_live[i / CHUNK_SLOTS]++;
		} else {
			pool->next_free[i] = pool->first_free;
			pool->first_free = i;
		}
	}
}

static int pool_open(struct pool *pool, const struct shape *shape, char *base,
		     _Atomic uint32_t *high, _Atomic uint32_t *next_generation)
{
	pool->base = base;
	pool->slot_size = shape->slot_size;
	pool->capacity = shape->capacity;
	pool->high = high;
	pool->next_generation = next_generation;
	pool->next_free = reserve(pool->capacity * sizeof(uint32_t));
	pool->chunk_live = reserve(chunks_of(pool) * sizeof(uint16_t));
	if (!pool->next_free || !pool->chunk_live)
		return -ENOMEM;
	if (atomic_load(high) > pool->capacity)
		return -EPROTO;
	if (atomic_load(high) == 0)
		atomic_store(high, 1);
	rebuild_free_list(pool);
	return 0;
}

static void pool_finish(struct pool *pool)
{
	if (pool->next_free)
		munmap(pool->next_free, pool->capacity * sizeof(uint32_t));
	if (pool->chunk_live)
		munmap(pool->chunk_live, chunks_of(pool) * sizeof(uint16_t));
}

int tables_open(int fd, struct tables *tables)
{
	struct pool *pools[POOLS] = { &tables->inodes, &tables->names, &tables->long_names,
				      &tables->files };
	struct header *header;
	size_t offset = HEADER_SIZE;

	memset(tables, 0, sizeof(*tables));
	tables->size = tables_size();
	header = mmap(NULL, tables->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (header == MAP_FAILED)
		return -errno;
	tables->map = header;
	if (header->magic != TABLES_MAGIC) {
		tables_finish(tables);
		return -EPROTO;
	}
	tables->init_size = &header->init_size;
	tables->init = header->init;
	for (int i = 0; i < POOLS; i++) {
		int r = pool_open(pools[i], &shapes[i], (char *)header + offset, &header->high[i],
				  &header->next_generation);

		if (r < 0) {
			tables_finish(tables);
			return r;
		}
		offset += shape_size(&shapes[i]);
	}
	return 0;
}

void tables_finish(struct tables *tables)
{
	pool_finish(&tables->inodes);
	pool_finish(&tables->names);
	pool_finish(&tables->long_names);
	pool_finish(&tables->files);
	if (tables->map)
		munmap(tables->map, tables->size);
	memset(tables, 0, sizeof(*tables));
}

uint32_t pool_take(struct pool *pool)
{
	uint32_t index = pool->first_free;

	if (index) {
		pool->first_free = pool->next_free[index];
	} else {
		index = pool_end(pool);
		if (index >= pool->capacity)
			return 0;
		atomic_store_explicit(pool->high, index + 1, memory_order_release);
	}
	memset(pool_at(pool, index), 0, pool->slot_size);
	pool->live++;
	pool->chunk_live[index / CHUNK_SLOTS]++;
	return index;
}

uint32_t pool_publish(struct pool *pool, uint32_t index)
{
	uint32_t generation;

	do
		generation = atomic_fetch_add_explicit(pool->next_generation, 1, memory_order_relaxed);
	while (generation == 0);
	atomic_store_explicit((_Atomic uint32_t *)pool_at(pool, index), generation,
			      memory_order_release);
	return generation;
}

/* HEADER_SIZE and the pools are whole pages, so a chunk begins and ends on one. */
static void cut_chunk(struct pool *pool, uint32_t chunk)
{
	/* Where it cannot be done (never on a memfd) the memory just stays. */
	(void)madvise(pool_at(pool, chunk * CHUNK_SLOTS), CHUNK_SLOTS * pool->slot_size, MADV_REMOVE);
}

void pool_give(struct pool *pool, uint32_t index)
{
	atomic_store_explicit((_Atomic uint32_t *)pool_at(pool, index), 0, memory_order_release);
	pool->next_free[index] = pool->first_free;
	pool->first_free = index;
	pool->live--;
	/* The first chunk stays: a file that is opened and closed must not cost a system call. */
	if (--pool->chunk_live[index / CHUNK_SLOTS] == 0 && index >= CHUNK_SLOTS)
		cut_chunk(pool, index / CHUNK_SLOTS);
}
