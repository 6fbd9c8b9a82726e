/*
 * Tables that a dead worker has left, whatever is in them: they are taken over, looked at, used, and let go.
 *
 * The input is a list of strokes over good tables: where (4 bytes, little-endian: pool, slot, offset), how many bytes (1),
 * the bytes.
 */
#include "tests/fuzz/fuzz.h"

#include "fusefs/inode.h"
#include "fusefs/tables.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { STROKE_HEAD = 5, SLOTS = 16, DIRECTORIES = 4, FILES = 6, FORGOTTEN_MAX = 3 };

static const struct stat root = { .st_mode = S_IFDIR | 0755, .st_dev = 1, .st_ino = 1 };

static uint64_t learn(struct inodes *inodes, uint64_t parent, const char *name, mode_t type, ino_t ino)
{
	const struct stat attributes = { .st_mode = type | 0644, .st_dev = 1, .st_ino = ino };
	const struct inode_handle handle = { .type = 1, .size = 8, .bytes = { ino } };
	uint64_t nodeid = 0;

	inode_hold_names(inodes, parent);
	if (inode_learn(inodes, parent, name, &attributes, &handle, NULL, &nodeid) < 0)
		nodeid = 0;
	inode_release_names(inodes, parent);
	return nodeid;
}

static void fill(struct inodes *inodes)
{
	uint64_t parent = INODE_ROOT;
	char name[128];

	for (int i = 0; i < DIRECTORIES; i++) {
		snprintf(name, sizeof(name), "directory%d", i);
		parent = learn(inodes, parent, name, S_IFDIR, 10 + i);
	}
	for (int i = 0; i < FILES; i++) {
		/* Every other name is a long one. */
		snprintf(name, sizeof(name), "%0*d", i % 2 ? 100 : 1, i);
		learn(inodes, parent, name, S_IFREG, 20 + i);
	}
}

static void scribble(struct tables *tables, const uint8_t *data, size_t size)
{
	const struct pool *pools[] = { &tables->inodes, &tables->names, &tables->long_names, &tables->files };

	while (size > STROKE_HEAD) {
		const struct pool *pool = pools[data[0] % 4];
		size_t offset = (data[2] | data[3] << 8) % pool->slot_size;
		size_t length = data[4];
		char *slot = pool_at(pool, 1 + data[1] % SLOTS);

		data += STROKE_HEAD;
		size -= STROKE_HEAD;
		if (length > size)
			length = size;
		if (length > pool->slot_size - offset)
			length = pool->slot_size - offset;
		memcpy(slot + offset, data, length);
		data += length;
		size -= length;
	}
}

/* Everything that a worker does with an inode. */
static void use(struct tables *tables, struct inodes *inodes)
{
	char path[8192];

	for (uint32_t i = 1; i < pool_end(&tables->inodes); i++) {
		uint64_t nodeid = i == 1 ? INODE_ROOT : pool_handle(i, pool_generation(&tables->inodes, i));
		struct inode_view view;

		if (inode_get(inodes, nodeid, &view) < 0)
			continue;
		(void)inode_path(inodes, nodeid, NULL, path, sizeof(path));
		(void)inode_path(inodes, nodeid, "x", path, sizeof(path));
	}
	inode_renamed(inodes, INODE_ROOT, "directory0", INODE_ROOT, "other", false);
	inode_renamed(inodes, INODE_ROOT, "other", INODE_ROOT, "directory0", false);
	learn(inodes, INODE_ROOT, "new", S_IFREG, 99);
	inode_unlinked(inodes, INODE_ROOT, "new", NULL);
	for (uint32_t i = 2; i < pool_end(&tables->inodes); i++)
		inode_forget(inodes, pool_handle(i, pool_generation(&tables->inodes, i)), UINT64_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tables tables;
	struct inodes *inodes = NULL;
	int fd = tables_create();

	if (fd < 0 || tables_open(fd, &tables) < 0 || inodes_create(&tables, &root, FORGOTTEN_MAX, &inodes) < 0)
		abort();
	fill(inodes);
	inodes_destroy(inodes);
	scribble(&tables, data, size);
	tables_finish(&tables);

	if (tables_open(fd, &tables) == 0) {
		if (inodes_create(&tables, &root, FORGOTTEN_MAX, &inodes) == 0) {
			use(&tables, inodes);
			inodes_destroy(inodes);
		}
		tables_finish(&tables);
	}
	close(fd);
	return 0;
}
