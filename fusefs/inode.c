/*
 * Inode: slots in shared memory, indexes in private memory.
 *
 * Truth is in the slots (tables.h): inodes, and names that say "parent, bytes -> inode". Everything else is an index that
 * is made again when a worker takes over:
 *
 *     by_key     (dev, ino)        -> inode     see index.h
 *     by_name    (parent, bytes)   -> name
 *     first_name inode             -> its names, most recently looked up first, through name_sibling
 *     children   inode             -> how many name slots have it as parent
 *
 * An inode slot is freed when the kernel holds no lookups and no name has it as parent;
 * then its names go, which may free their parents in turn. The last ones that the kernel has forgotten are
 * kept all the same, while they have a name: a file handle of theirs leads here.
 *
 * A name that is removed leaves by_name at once. If it was the inode's last, its slot stays (NAME_GONE) as the
 * path of a file that is still open.
 */
#include "fusefs/inode.h"

#include "fusefs/index.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum {
	INODE_GONE = 1, /* inode_slot.flags: another inode has its number now */
	NAME_GONE = 1,  /* name_slot.flags */
	DIRECTORIES = 4096,
	DEPTH_MAX = 1 << 15, /* directories above one another; a longer chain is a loop made by a damaged table */
};

struct directory {
	uint32_t epoch;   /* changes with every change of a name */
	uint16_t holds;   /* names are being changed */
	uint16_t waiters;
};

struct inodes {
	pthread_mutex_t lock; /* guards everything below, and the pools of inodes and names */
	struct pool *inodes;
	struct pool *names;
	struct pool *long_names;
	struct index by_key;
	struct index by_name;
	uint32_t *first_name;   /* by inode */
	uint32_t *children;     /* by inode */
	uint32_t *name_sibling; /* by name: the one after it */
	uint32_t *name_before;  /* by name: the one whose sibling it is */
	uint32_t *newer, *older; /* by inode: its neighbours in the list of those that are forgotten */
	uint32_t newest, oldest;
	unsigned forgotten, forgotten_max; /* in that list */
	uint64_t known;          /* inodes with lookups */
	struct directory directories[DIRECTORIES]; /* by nodeid, several to one */
	pthread_cond_t released; /* a hold ended that somebody waits for */
};

static struct inode_slot *inode_at(const struct inodes *inodes, uint32_t index)
{
	return pool_at(inodes->inodes, index);
}

static struct name_slot *name_at(const struct inodes *inodes, uint32_t index)
{
	return pool_at(inodes->names, index);
}

static const char *name_bytes(const struct inodes *inodes, const struct name_slot *name)
{
	if (!name->is_long)
		return name->bytes;
	return ((struct long_name_slot *)pool_at(inodes->long_names, name->at))->bytes;
}

/* The root's nodeid is fixed by the kernel; all others carry their generation. */
static uint32_t find(struct inodes *inodes, uint64_t nodeid)
{
	return nodeid == INODE_ROOT ? 1 : pool_find(inodes->inodes, nodeid);
}

static uint64_t nodeid_of(struct inodes *inodes, uint32_t index)
{
	return index == 1 ? INODE_ROOT : pool_handle(index, pool_generation(inodes->inodes, index));
}

/* ---- indexes ---- */

static uint64_t hash_key(uint64_t dev, uint64_t ino)
{
	uint64_t key[2] = { dev, ino };

	return XXH3_64bits(key, sizeof(key));
}

static uint64_t hash_name(uint64_t parent, const char *bytes, size_t length)
{
	return XXH3_64bits_withSeed(bytes, length, parent);
}

static uint64_t hash_of_inode(const void *userdata, uint32_t slot)
{
	const struct inodes *inodes = userdata;

	return hash_key(inode_at(inodes, slot)->dev, inode_at(inodes, slot)->ino);
}

static uint64_t hash_of_name(const void *userdata, uint32_t slot)
{
	const struct inodes *inodes = userdata;
	const struct name_slot *name = name_at(inodes, slot);

	return hash_name(name->parent, name_bytes(inodes, name), name->length);
}

static uint32_t find_key(struct inodes *inodes, uint64_t dev, uint64_t ino)
{
	uint32_t slot = index_first(&inodes->by_key, hash_key(dev, ino));

	while (slot && (inode_at(inodes, slot)->ino != ino || inode_at(inodes, slot)->dev != dev))
		slot = index_next(&inodes->by_key, slot);
	return slot;
}

static uint32_t find_name(struct inodes *inodes, uint64_t parent, const char *bytes, size_t length)
{
	uint32_t slot = index_first(&inodes->by_name, hash_name(parent, bytes, length));

	for (; slot; slot = index_next(&inodes->by_name, slot)) {
		const struct name_slot *name = name_at(inodes, slot);

		if (name->parent == parent && name->length == length &&
		    memcmp(name_bytes(inodes, name), bytes, length) == 0)
			break;
	}
	return slot;
}

/* ---- names ---- */

static void maybe_free_inode(struct inodes *inodes, uint32_t index);

static void unlink_sibling(struct inodes *inodes, uint32_t inode, uint32_t slot)
{
	uint32_t before = inodes->name_before[slot], next = inodes->name_sibling[slot];

	if (before)
		inodes->name_sibling[before] = next;
	else
		inodes->first_name[inode] = next;
	if (next)
		inodes->name_before[next] = before;
}

static void link_sibling_first(struct inodes *inodes, uint32_t inode, uint32_t slot)
{
	uint32_t first = inodes->first_name[inode];

	inodes->name_before[slot] = 0;
	inodes->name_sibling[slot] = first;
	inodes->first_name[inode] = slot;
	if (first)
		inodes->name_before[first] = slot;
}

/* Gives the slot back; the inode's list must be rid of it already. */
static void free_name(struct inodes *inodes, uint32_t slot)
{
	struct name_slot *name = name_at(inodes, slot);
	uint32_t parent = find(inodes, name->parent);
	uint32_t long_name = name->is_long ? name->at : 0;

	if (!(name->flags & NAME_GONE))
		index_remove(&inodes->by_name, slot);
	/* In this order: a worker that dies in between leaves a long name that rebuild() finds unused. */
	pool_give(inodes->names, slot);
	if (long_name)
		pool_give(inodes->long_names, long_name);
	if (parent) {
		inodes->children[parent]--;
		maybe_free_inode(inodes, parent);
	}
}

/* @slot, or 0. A file can have many names, so that not all are looked at for each. */
static void drop_if_gone(struct inodes *inodes, uint32_t inode, uint32_t slot)
{
	if (slot && name_at(inodes, slot)->flags & NAME_GONE) {
		unlink_sibling(inodes, inode, slot);
		free_name(inodes, slot);
	}
}

/* The name no longer leads to the inode. Its last name is kept as "gone". */
static void remove_name(struct inodes *inodes, uint32_t slot)
{
	struct name_slot *name = name_at(inodes, slot);
	uint32_t inode = find(inodes, name->inode);

	if (inode && inodes->first_name[inode] == slot && !inodes->name_sibling[slot]) {
		index_remove(&inodes->by_name, slot);
		name->flags |= NAME_GONE;
		return;
	}
	if (inode)
		unlink_sibling(inodes, inode, slot);
	free_name(inodes, slot);
}

static int fill_name(struct inodes *inodes, struct name_slot *name, const char *bytes, size_t length)
{
	char *to = name->bytes;

	name->length = length;
	if (length > TABLES_NAME_INLINE) {
		uint32_t at = pool_take(inodes->long_names);

		if (!at)
			return -ENOMEM;
		to = ((struct long_name_slot *)pool_at(inodes->long_names, at))->bytes;
		pool_publish(inodes->long_names, at);
		name->is_long = 1;
		name->at = at;
	}
	memcpy(to, bytes, length);
	return 0;
}

/* (parent, bytes) leads to inode from now on, and is its most recent name. */
static int add_name(struct inodes *inodes, uint32_t parent, const char *bytes, uint32_t inode)
{
	uint64_t parent_id = nodeid_of(inodes, parent);
	uint64_t inode_id = nodeid_of(inodes, inode);
	size_t length = strnlen(bytes, TABLES_NAME_MAX);
	uint32_t slot = find_name(inodes, parent_id, bytes, length);

	if (slot && name_at(inodes, slot)->inode == inode_id) {
		if (inodes->first_name[inode] != slot) {
			unlink_sibling(inodes, inode, slot);
			link_sibling_first(inodes, inode, slot);
		}
		return 0;
	}
	if (slot)
		remove_name(inodes, slot);
	slot = pool_take(inodes->names);
	if (!slot)
		return -ENOMEM;
	name_at(inodes, slot)->parent = parent_id;
	name_at(inodes, slot)->inode = inode_id;
	if (fill_name(inodes, name_at(inodes, slot), bytes, length) < 0) {
		pool_give(inodes->names, slot);
		return -ENOMEM;
	}
	pool_publish(inodes->names, slot);
	index_add(&inodes->by_name, slot);
	link_sibling_first(inodes, inode, slot);
	inodes->children[parent]++;
	/* One that is gone was alone. */
	drop_if_gone(inodes, inode, inodes->name_sibling[slot]);
	return 0;
}

/* ---- inodes ---- */

/* One that is not in the list is fine. */
static void unlink_forgotten(struct inodes *inodes, uint32_t index)
{
	uint32_t newer = inodes->newer[index], older = inodes->older[index];

	if (!newer && inodes->newest != index)
		return;
	*(newer ? &inodes->older[newer] : &inodes->newest) = older;
	*(older ? &inodes->newer[older] : &inodes->oldest) = newer;
	inodes->newer[index] = inodes->older[index] = 0;
	inodes->forgotten--;
}

static void maybe_free_inode(struct inodes *inodes, uint32_t index)
{
	struct inode_slot *slot = inode_at(inodes, index);

	if (index == 1 || slot->lookups > 0 || inodes->children[index] > 0 ||
	    pool_generation(inodes->inodes, index) == 0)
		return;
	unlink_forgotten(inodes, index);
	if (!(slot->flags & INODE_GONE))
		index_remove(&inodes->by_key, index);
	/* Free the slot before its names: they come back here for their parents. */
	pool_give(inodes->inodes, index);
	while (inodes->first_name[index]) {
		uint32_t name = inodes->first_name[index];

		inodes->first_name[index] = inodes->name_sibling[name];
		free_name(inodes, name);
	}
}

/* The same, but not yet: in place of the one that has been forgotten for longest. Parents are not among these: they stay for their children. */
static void retain_inode(struct inodes *inodes, uint32_t index)
{
	uint32_t name = inodes->first_name[index], oldest;

	if (index == 1 || inode_at(inodes, index)->lookups > 0 || inodes->children[index] > 0)
		return;
	if (!name || name_at(inodes, name)->flags & NAME_GONE || inode_at(inodes, index)->flags & INODE_GONE) {
		maybe_free_inode(inodes, index);
		return;
	}
	unlink_forgotten(inodes, index);
	inodes->older[index] = inodes->newest;
	*(inodes->newest ? &inodes->newer[inodes->newest] : &inodes->oldest) = index;
	inodes->newest = index;
	if (++inodes->forgotten > inodes->forgotten_max) {
		oldest = inodes->oldest;
		unlink_forgotten(inodes, oldest);
		maybe_free_inode(inodes, oldest);
	}
}

static bool is_same_handle(const struct inode_slot *slot, const struct inode_handle *handle)
{
	if (slot->born_ns && handle->born_ns && slot->born_ns != handle->born_ns)
		return false;
	if (!slot->handle_size || !handle->size)
		return true;
	return slot->handle_size == handle->size && slot->handle_type == handle->type &&
	       memcmp(slot->handle, handle->bytes, handle->size) == 0;
}

/* A worker that dies in between leaves none. */
static void set_handle(struct inode_slot *slot, const struct inode_handle *handle)
{
	slot->handle_size = 0;
	atomic_signal_fence(memory_order_seq_cst);
	slot->handle_type = handle->type;
	memcpy(slot->handle, handle->bytes, handle->size);
	atomic_signal_fence(memory_order_seq_cst);
	slot->handle_size = handle->size;
}

static uint32_t new_inode(struct inodes *inodes, const struct stat *attributes,
			  const struct inode_handle *handle)
{
	uint32_t index = pool_take(inodes->inodes);
	struct inode_slot *slot;

	if (!index)
		return 0;
	slot = inode_at(inodes, index);
	slot->dev = attributes->st_dev;
	slot->ino = attributes->st_ino;
	slot->type = attributes->st_mode >> 12;
	slot->born_ns = handle->born_ns;
	set_handle(slot, handle);
	inodes->first_name[index] = 0;
	inodes->children[index] = 0;
	pool_publish(inodes->inodes, index);
	index_add(&inodes->by_key, index);
	return index;
}

/* An inode whose number is in use again, for another file: it is no longer found by its number. */
static void retire(struct inodes *inodes, uint32_t index)
{
	index_remove(&inodes->by_key, index);
	inode_at(inodes, index)->flags |= INODE_GONE;
}

static uint32_t learn(struct inodes *inodes, const struct stat *attributes,
		      const struct inode_handle *handle)
{
	uint32_t index = find_key(inodes, attributes->st_dev, attributes->st_ino);

	if (index && (!is_same_handle(inode_at(inodes, index), handle) ||
		      inode_at(inodes, index)->type != attributes->st_mode >> 12)) {
		retire(inodes, index);
		index = 0;
	}
	return index ? index : new_inode(inodes, attributes, handle);
}

static struct directory *directory_of(struct inodes *inodes, uint64_t nodeid)
{
	return &inodes->directories[(uint32_t)nodeid % DIRECTORIES];
}

void inode_hold_names(struct inodes *inodes, uint64_t parent)
{
	pthread_mutex_lock(&inodes->lock);
	directory_of(inodes, parent)->holds++;
	pthread_mutex_unlock(&inodes->lock);
}

void inode_release_names(struct inodes *inodes, uint64_t parent)
{
	struct directory *directory = directory_of(inodes, parent);

	pthread_mutex_lock(&inodes->lock);
	directory->holds--;
	directory->epoch++;
	if (directory->waiters > 0)
		pthread_cond_broadcast(&inodes->released);
	pthread_mutex_unlock(&inodes->lock);
}

uint32_t inode_epoch(struct inodes *inodes, uint64_t parent)
{
	struct directory *directory = directory_of(inodes, parent);
	uint32_t epoch;

	pthread_mutex_lock(&inodes->lock);
	directory->waiters++;
	while (directory->holds > 0)
		pthread_cond_wait(&inodes->released, &inodes->lock);
	directory->waiters--;
	epoch = directory->epoch;
	pthread_mutex_unlock(&inodes->lock);
	return epoch;
}

/* Whether what was found out since @epoch is still so. The caller holds the lock. */
static bool is_current(struct inodes *inodes, uint64_t parent, const uint32_t *epoch)
{
	const struct directory *directory = directory_of(inodes, parent);

	return !epoch || (directory->holds == 0 && directory->epoch == *epoch);
}

static int learn_as(struct inodes *inodes, uint64_t parent, const char *name,
		    const struct stat *attributes, const struct inode_handle *handle, uint64_t *out)
{
	uint32_t parent_index = parent ? find(inodes, parent) : 0;
	uint32_t index = learn(inodes, attributes, handle);

	if (!index)
		return -ENOMEM;
	/* Counted first: replacing a name may free inodes that nobody holds. */
	if (inode_at(inodes, index)->lookups++ == 0) {
		inodes->known++;
		unlink_forgotten(inodes, index);
	}
	if (parent_index && add_name(inodes, parent_index, name, index) < 0) {
		inodes->known -= --inode_at(inodes, index)->lookups == 0;
		maybe_free_inode(inodes, index);
		return -ENOMEM;
	}
	*out = nodeid_of(inodes, index);
	return 0;
}

int inode_learn(struct inodes *inodes, uint64_t parent, const char *name,
		const struct stat *attributes, const struct inode_handle *handle, const uint32_t *epoch,
		uint64_t *out)
{
	int r = -EAGAIN;

	pthread_mutex_lock(&inodes->lock);
	if (is_current(inodes, parent, epoch))
		r = learn_as(inodes, parent, name, attributes, handle, out);
	pthread_mutex_unlock(&inodes->lock);
	return r;
}

void inode_hold(struct inodes *inodes, uint64_t nodeid)
{
	uint32_t index;

	pthread_mutex_lock(&inodes->lock);
	index = find(inodes, nodeid);
	if (index && inode_at(inodes, index)->lookups++ == 0) {
		inodes->known++;
		unlink_forgotten(inodes, index);
	}
	pthread_mutex_unlock(&inodes->lock);
}

bool inode_forget(struct inodes *inodes, uint64_t nodeid, uint64_t count)
{
	bool is_forgotten = false;
	uint32_t index;

	pthread_mutex_lock(&inodes->lock);
	index = find(inodes, nodeid);
	if (index && index != 1) {
		struct inode_slot *slot = inode_at(inodes, index);

		inodes->known -= slot->lookups > 0 && slot->lookups <= count;
		slot->lookups -= count < slot->lookups ? count : slot->lookups;
		is_forgotten = slot->lookups == 0;
		retain_inode(inodes, index);
	}
	pthread_mutex_unlock(&inodes->lock);
	return is_forgotten;
}

static void fill_view(struct inodes *inodes, uint32_t index, struct inode_view *view)
{
	const struct inode_slot *slot = inode_at(inodes, index);
	uint32_t name_index = inodes->first_name[index];

	view->nodeid = nodeid_of(inodes, index);
	view->dev = slot->dev;
	view->ino = slot->ino;
	view->type = (mode_t)slot->type << 12;
	view->handle.born_ns = slot->born_ns;
	view->handle.type = slot->handle_type;
	view->handle.size = slot->handle_size;
	memcpy(view->handle.bytes, slot->handle, slot->handle_size);
	view->is_gone = slot->flags & INODE_GONE;
	view->has_more_names = name_index && inodes->name_sibling[name_index];
	view->parent = 0;
	view->name[0] = '\0';
	if (name_index) {
		const struct name_slot *name = name_at(inodes, name_index);

		view->is_gone = view->is_gone || name->flags & NAME_GONE;
		view->parent = name->parent;
		memcpy(view->name, name_bytes(inodes, name), name->length);
		view->name[name->length] = '\0';
	}
}

int inode_get(struct inodes *inodes, uint64_t nodeid, struct inode_view *out)
{
	uint32_t index;

	pthread_mutex_lock(&inodes->lock);
	index = find(inodes, nodeid);
	if (index)
		fill_view(inodes, index, out);
	pthread_mutex_unlock(&inodes->lock);
	return index ? 0 : -ESTALE;
}

int inode_child(struct inodes *inodes, uint64_t parent, const char *name, struct inode_view *out)
{
	uint32_t slot, index = 0;

	pthread_mutex_lock(&inodes->lock);
	slot = find_name(inodes, parent, name, strnlen(name, TABLES_NAME_MAX));
	if (slot)
		index = find(inodes, name_at(inodes, slot)->inode);
	if (index)
		fill_view(inodes, index, out);
	pthread_mutex_unlock(&inodes->lock);
	return index ? 0 : -ENOENT;
}

/* ---- paths ---- */

/* Prepends to what stands at the end of the buffer. */
static char *prepend(char *start, char *at, const char *bytes, size_t length, bool slash)
{
	if ((size_t)(at - start) < length + slash)
		return NULL;
	if (slash)
		*--at = '/';
	at -= length;
	memcpy(at, bytes, length);
	return at;
}

static ssize_t path_of(struct inodes *inodes, uint64_t nodeid, const char *name, char *buffer,
		       size_t size)
{
	char *at = buffer + size - 1;
	uint32_t index = find(inodes, nodeid);
	size_t length;

	*at = '\0';
	if (name)
		at = prepend(buffer, at, name, strlen(name), false);
	for (int depth = 0; at && index != 1; depth++) {
		uint32_t slot = index ? inodes->first_name[index] : 0;
		const struct name_slot *step;

		if (!slot || depth > DEPTH_MAX)
			return -ESTALE;
		step = name_at(inodes, slot);
		at = prepend(buffer, at, name_bytes(inodes, step), step->length, *at != '\0');
		index = find(inodes, step->parent);
	}
	if (!at)
		return -ENAMETOOLONG;
	length = buffer + size - 1 - at;
	memmove(buffer, at, length + 1);
	return length;
}

ssize_t inode_path(struct inodes *inodes, uint64_t nodeid, const char *name, char *buffer, size_t size)
{
	ssize_t length;

	pthread_mutex_lock(&inodes->lock);
	length = path_of(inodes, nodeid, name, buffer, size);
	pthread_mutex_unlock(&inodes->lock);
	return length;
}

/* ---- changes ---- */

static uint32_t lookup_name(struct inodes *inodes, uint64_t parent, const char *name)
{
	return find_name(inodes, parent, name, strnlen(name, TABLES_NAME_MAX));
}

void inode_unlinked(struct inodes *inodes, uint64_t parent, const char *name, const uint32_t *epoch)
{
	uint32_t slot;

	pthread_mutex_lock(&inodes->lock);
	slot = is_current(inodes, parent, epoch) ? lookup_name(inodes, parent, name) : 0;
	if (slot) {
		directory_of(inodes, parent)->epoch++;
		remove_name(inodes, slot);
	}
	pthread_mutex_unlock(&inodes->lock);
}

static uint32_t named_inode(struct inodes *inodes, uint32_t slot)
{
	return slot ? find(inodes, name_at(inodes, slot)->inode) : 0;
}

/*
 * New names are made before old ones go, so that a worker dying in between leaves an inode with a
 * name too many (the next lookup puts that right) and never with none.
 */
void inode_renamed(struct inodes *inodes, uint64_t parent, const char *name, uint64_t to,
		   const char *to_name, bool exchange)
{
	uint32_t from_slot, to_slot, moved, replaced, from_dir, to_dir;

	pthread_mutex_lock(&inodes->lock);
	from_dir = find(inodes, parent);
	to_dir = find(inodes, to);
	from_slot = lookup_name(inodes, parent, name);
	to_slot = lookup_name(inodes, to, to_name);
	moved = named_inode(inodes, from_slot);
	replaced = named_inode(inodes, to_slot);
	if (from_slot == to_slot && from_slot) {
		/* A name renamed to itself. */
	} else if (moved && moved == replaced && !exchange) {
		/*
		 * A worker died between the two steps below. (Or one link was renamed over another of the
		 * same file, which does nothing; then the name is learned again when it is looked up.)
		 */
		unlink_sibling(inodes, moved, from_slot);
		free_name(inodes, from_slot);
	} else if (!moved || moved != replaced) {
		if (moved && to_dir && add_name(inodes, to_dir, to_name, moved) == 0) {
			unlink_sibling(inodes, moved, from_slot);
			free_name(inodes, from_slot);
		} else if (from_slot)
			remove_name(inodes, from_slot);
		if (!moved && to_slot)
			remove_name(inodes, to_slot);
		if (exchange && replaced && from_dir)
			(void)add_name(inodes, from_dir, name, replaced);
	}
	pthread_mutex_unlock(&inodes->lock);
}

void inode_set_handle(struct inodes *inodes, uint64_t nodeid, const struct inode_handle *handle)
{
	uint32_t index;

	pthread_mutex_lock(&inodes->lock);
	index = find(inodes, nodeid);
	if (index)
		set_handle(inode_at(inodes, index), handle);
	pthread_mutex_unlock(&inodes->lock);
}

void inodes_visit_backing(struct inodes *inodes, void (*visit)(void *userdata, uint64_t nodeid), void *userdata)
{
	pthread_mutex_lock(&inodes->lock);
	for (uint32_t i = 1; i < pool_end(inodes->inodes); i++)
		if (pool_generation(inodes->inodes, i) && inode_at(inodes, i)->backing_id)
			visit(userdata, nodeid_of(inodes, i));
	pthread_mutex_unlock(&inodes->lock);
}

bool inodes_next_directory(struct inodes *inodes, uint32_t *position, uint64_t *out)
{
	bool is_found = false;

	pthread_mutex_lock(&inodes->lock);
	while (!is_found && ++*position < pool_end(inodes->inodes))
		is_found = pool_generation(inodes->inodes, *position) &&
			   inode_at(inodes, *position)->lookups > 0 &&
			   inode_at(inodes, *position)->type == S_IFDIR >> 12;
	if (is_found)
		*out = nodeid_of(inodes, *position);
	pthread_mutex_unlock(&inodes->lock);
	return is_found;
}

int32_t inode_backing_id(struct inodes *inodes, uint64_t nodeid)
{
	int32_t backing_id = 0;
	uint32_t index;

	pthread_mutex_lock(&inodes->lock);
	index = find(inodes, nodeid);
	if (index)
		backing_id = inode_at(inodes, index)->backing_id;
	pthread_mutex_unlock(&inodes->lock);
	return backing_id;
}

void inode_set_backing_id(struct inodes *inodes, uint64_t nodeid, int32_t backing_id)
{
	uint32_t index;

	pthread_mutex_lock(&inodes->lock);
	index = find(inodes, nodeid);
	if (index)
		inode_at(inodes, index)->backing_id = backing_id;
	pthread_mutex_unlock(&inodes->lock);
}

void inode_count(struct inodes *inodes, uint64_t *out_inodes, uint64_t *out_bytes)
{
	pthread_mutex_lock(&inodes->lock);
	*out_inodes = inodes->known;
	*out_bytes = (uint64_t)inodes->inodes->live * (sizeof(struct inode_slot) + 4 * sizeof(uint32_t)) +
		     (uint64_t)inodes->names->live * (sizeof(struct name_slot) + 4 * sizeof(uint32_t)) +
		     (uint64_t)inodes->long_names->live * sizeof(struct long_name_slot) +
		     ((uint64_t)inodes->by_key.count + inodes->by_name.count) * sizeof(uint32_t);
	pthread_mutex_unlock(&inodes->lock);
}

/* ---- beginning and end ---- */

/* Long names that no name refers to: a worker died while it made or freed one. Without memory they stay. */
static void sweep_long_names(struct inodes *inodes)
{
	uint32_t end = pool_end(inodes->long_names);
	bool *is_used = calloc(end, sizeof(*is_used));

	if (!is_used)
		return;
	for (uint32_t i = 1; i < pool_end(inodes->names); i++) {
		const struct name_slot *name = name_at(inodes, i);

		if (pool_generation(inodes->names, i) && name->is_long && name->at < end)
			is_used[name->at] = true;
	}
	for (uint32_t i = 1; i < end; i++)
		if (pool_generation(inodes->long_names, i) && !is_used[i])
			pool_give(inodes->long_names, i);
	free(is_used);
}

/* A worker that died of its own fault may have left anything: a length that cannot be is not believed. */
static bool is_name_sane(const struct inodes *inodes, const struct name_slot *name)
{
	if (!name->is_long)
		return name->length <= TABLES_NAME_INLINE;
	return name->length <= TABLES_NAME_MAX && name->at > 0 && name->at < pool_end(inodes->long_names);
}

/* Without its handle an inode is reached by its name. */
static void drop_bad_handles(struct inodes *inodes)
{
	for (uint32_t i = 1; i < pool_end(inodes->inodes); i++)
		if (inode_at(inodes, i)->handle_size > TABLES_HANDLE_MAX)
			inode_at(inodes, i)->handle_size = 0;
}

/* A worker died when it had added a name, before it dropped the one that was gone. */
static void drop_gone_beside_others(struct inodes *inodes)
{
	for (uint32_t i = 1; i < pool_end(inodes->inodes); i++) {
		uint32_t slot = inodes->first_name[i], next;

		/* In a damaged table one may take the inode along, and all its names. */
		for (; slot && pool_generation(inodes->names, slot) &&
		       (inodes->name_before[slot] || inodes->name_sibling[slot]); slot = next) {
			next = inodes->name_sibling[slot];
			drop_if_gone(inodes, i, slot);
		}
	}
}

static void rebuild(struct inodes *inodes)
{
	drop_bad_handles(inodes);
	for (uint32_t i = 1; i < pool_end(inodes->inodes); i++)
		if (pool_generation(inodes->inodes, i) && !(inode_at(inodes, i)->flags & INODE_GONE))
			index_add(&inodes->by_key, i);
	for (uint32_t i = 1; i < pool_end(inodes->names); i++) {
		struct name_slot *name = name_at(inodes, i);
		uint32_t parent, inode;

		if (!pool_generation(inodes->names, i))
			continue;
		parent = find(inodes, name->parent);
		inode = find(inodes, name->inode);
		if (!parent || !inode || !is_name_sane(inodes, name)) {
			pool_give(inodes->names, i);
			continue;
		}
		if (!(name->flags & NAME_GONE))
			index_add(&inodes->by_name, i);
		link_sibling_first(inodes, inode, i);
		inodes->children[parent]++;
	}
	drop_gone_beside_others(inodes);
	sweep_long_names(inodes);
	for (uint32_t i = 1; i < pool_end(inodes->inodes); i++) {
		if (!pool_generation(inodes->inodes, i))
			continue;
		inodes->known += inode_at(inodes, i)->lookups > 0;
		retain_inode(inodes, i);
	}
}

static int make_root(struct inodes *inodes, const struct stat *root)
{
	static const struct inode_handle none;
	uint32_t index;

	if (pool_end(inodes->inodes) > 1) {
		rebuild(inodes);
		return 0;
	}
	index = new_inode(inodes, root, &none);
	if (index != 1)
		return -ENOMEM;
	inode_at(inodes, 1)->lookups = 1;
	inodes->known = 1;
	return 0;
}

int inodes_create(struct tables *tables, const struct stat *root, unsigned forgotten_max, struct inodes **out)
{
	struct inodes *inodes = calloc(1, sizeof(*inodes));
	int r = -ENOMEM;

	if (!inodes)
		return -ENOMEM;
	pthread_mutex_init(&inodes->lock, NULL);
	pthread_cond_init(&inodes->released, NULL);
	inodes->inodes = &tables->inodes;
	inodes->names = &tables->names;
	inodes->long_names = &tables->long_names;
	inodes->first_name = index_array(tables->inodes.capacity);
	inodes->children = index_array(tables->inodes.capacity);
	inodes->name_sibling = index_array(tables->names.capacity);
	inodes->name_before = index_array(tables->names.capacity);
	inodes->newer = index_array(tables->inodes.capacity);
	inodes->older = index_array(tables->inodes.capacity);
	inodes->forgotten_max = forgotten_max;
	if (inodes->first_name && inodes->children && inodes->name_sibling && inodes->name_before &&
	    inodes->newer && inodes->older &&
	    index_init(&inodes->by_key, tables->inodes.capacity, hash_of_inode, inodes) == 0 &&
	    index_init(&inodes->by_name, tables->names.capacity, hash_of_name, inodes) == 0)
		r = make_root(inodes, root);
	if (r < 0) {
		inodes_destroy(inodes);
		return r;
	}
	*out = inodes;
	return 0;
}

void inodes_destroy(struct inodes *inodes)
{
	if (!inodes)
		return;
	index_finish(&inodes->by_key);
	index_finish(&inodes->by_name);
	index_array_free(inodes->first_name, inodes->inodes->capacity);
	index_array_free(inodes->children, inodes->inodes->capacity);
	index_array_free(inodes->name_sibling, inodes->names->capacity);
	index_array_free(inodes->name_before, inodes->names->capacity);
	index_array_free(inodes->newer, inodes->inodes->capacity);
	index_array_free(inodes->older, inodes->inodes->capacity);
	pthread_cond_destroy(&inodes->released);
	pthread_mutex_destroy(&inodes->lock);
	free(inodes);
}
