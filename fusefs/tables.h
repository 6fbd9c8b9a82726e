/*
 * Tables: the memory that outlives a worker.
 *
 * One memfd, mapped whole and sparse: only touched pages cost memory. It holds the inode
 * table, the names, the open files and the kernel's INIT request, in three pools of
 * fixed-size slots. The supervisor keeps the descriptor, a worker maps it; after a crash the
 * next worker finds everything that was published, and rebuilds what is only an index.
 *
 * A slot is live while its generation is not 0. It is filled first and its generation
 * stored last, with release order, so a worker that dies half-way leaves a free slot.
 * Generations come from one counter for all slots and never repeat within 2^32 uses.
 */
#pragma once

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	TABLES_INIT_MAX = 4096,   /* bytes of the saved INIT request */
	TABLES_HANDLE_MAX = 40,   /* bytes of a file handle; ext4 8, tmpfs 12, xfs 16, btrfs 20 */
	TABLES_NAME_INLINE = 40,  /* bytes of a name kept in its slot; longer ones in a long-name slot */
	TABLES_NAME_MAX = 255,
};

/** One inode that the kernel knows, or that a known name leads through. */
struct inode_slot {
	_Atomic uint32_t generation;
	int32_t handle_type;      /* of name_to_handle_at(2) */
	uint64_t dev;             /* st_dev and st_ino on the backing file system */
	uint64_t ino;
	uint64_t lookups;         /* references the kernel holds */
	int32_t backing_id;       /* of the passthrough, 0: none */
	uint8_t handle_size;      /* 0: no handle, reached by parent and name */
	uint8_t type;             /* S_IFMT >> 12 */
	uint8_t flags;            /* INODE_GONE */
	uint8_t reserved;
	uint8_t handle[TABLES_HANDLE_MAX];
	int64_t born_ns;          /* time of birth; 0: unknown */
};
static_assert(sizeof(struct inode_slot) == 88, "layout");

/** One name: a directory entry. */
struct name_slot {
	_Atomic uint32_t generation;
	uint16_t length;
	uint8_t flags;            /* NAME_GONE: removed, kept as the last known path of an open file */
	uint8_t is_long;          /* the name stands in long-name slot `at` */
	uint64_t inode;           /* nodeid of what it names */
	uint64_t parent;          /* nodeid of the directory */
	union {
		char bytes[TABLES_NAME_INLINE];
		uint32_t at;
	};
};
static_assert(sizeof(struct name_slot) == 64, "layout");

/** A name of more than TABLES_NAME_INLINE bytes. */
struct long_name_slot {
	_Atomic uint32_t generation;
	char bytes[TABLES_NAME_MAX + 1];
	uint32_t reserved;
};
static_assert(sizeof(struct long_name_slot) == 264, "layout");

/** One open file or directory. */
struct file_slot {
	_Atomic uint32_t generation;
	int32_t flags;            /* of open(2) */
	uint64_t inode;           /* nodeid */
	uint64_t request;         /* FUSE request that opened it: a repeated one finds it again */
	uint8_t mode;             /* enum open_mode */
	uint8_t is_dir;
	uint8_t is_closed;        /* by its program, but perhaps it is still mapped (mapped.h) */
	uint8_t reserved[5];
	uint32_t pid, uid, gid;   /* who opened it for writing: RELEASE does not say who closes */
	char comm[20];            /* NUL-terminated */
};
static_assert(sizeof(struct file_slot) == 64, "layout");

/** Slots of one kind. Not thread-safe: its owner has a lock. */
struct pool {
	char *base;
	size_t slot_size;
	uint32_t capacity;
	_Atomic uint32_t *high;    /* in shared memory: slots ever used are below */
	_Atomic uint32_t *next_generation;
	uint32_t *next_free;       /* private: list through free slots */
	uint32_t first_free;
	uint32_t live;
	uint16_t *chunk_live;      /* private: live slots of each chunk */
};

struct tables {
	void *map;
	size_t size;
	_Atomic uint32_t *init_size; /* bytes of the saved INIT; 0 before */
	char *init;
	struct pool inodes;
	struct pool names;
	struct pool long_names;
	struct pool files;
};

/** Make the memory. Returns a memfd or a negative errno. */
int tables_create(void);

/** Bytes of that memory, nearly all of which is a hole. */
size_t tables_size(void);

/** Whether @fd has tables that tables_open() can use; nothing is changed. Returns 0, -EPROTO, or another negative errno. */
int tables_check(int fd);

/** Map @fd, which stays the caller's. Free lists are rebuilt from what is live. Returns 0 or a negative errno. */
int tables_open(int fd, struct tables *tables);

/** Unmap. A zeroed struct is fine. */
void tables_finish(struct tables *tables);

/** A free slot's index (1 or more), or 0 when there is none. Its content is 0; the caller fills it and calls pool_publish(). */
uint32_t pool_take(struct pool *pool);

/** The slot is complete: give it a generation, which is returned. */
uint32_t pool_publish(struct pool *pool, uint32_t index);

/** Free a slot. Memory of chunks that hold nothing goes back to the system. */
void pool_give(struct pool *pool, uint32_t index);

/** Address of a slot, whether live or not. @index is below capacity. */
static inline void *pool_at(const struct pool *pool, uint32_t index)
{
	return pool->base + (size_t)index * pool->slot_size;
}

/** One past the highest index that may be live. */
static inline uint32_t pool_end(const struct pool *pool)
{
	return atomic_load_explicit(pool->high, memory_order_relaxed);
}

/** Generation of a slot; 0: free. */
static inline uint32_t pool_generation(const struct pool *pool, uint32_t index)
{
	return atomic_load_explicit((_Atomic uint32_t *)pool_at(pool, index), memory_order_acquire);
}

/** A handle for the kernel: generation above, index below. */
static inline uint64_t pool_handle(uint32_t index, uint32_t generation)
{
	return (uint64_t)generation << 32 | index;
}

/** The index of @handle when it is live and of this generation, else 0. */
static inline uint32_t pool_find(const struct pool *pool, uint64_t handle)
{
	uint32_t index = (uint32_t)handle;

	if (index == 0 || index >= pool_end(pool) || pool_generation(pool, index) != handle >> 32)
		return 0;
	return index;
}
