/*
 * Mapped: files that are closed, and may be mapped still.
 *
 * With passthrough a mapping holds the file underneath and not the one of the mount: the kernel sends RELEASE at close(2), while stores go on
 * until munmap(2), of which it tells nobody. But to the file underneath the mapping is a writer, and as long as it has another one than us a
 * lease on it is refused (fcntl(2), F_SETLEASE). So such a file stays in the tables, marked as closed, and is looked at with
 * those that are open (look.h), until a lease can be had. It has no descriptor meanwhile, and a new worker takes it over as it is.
 *
 * Where the file system has no leases it cannot be told, and the file is done with when it is closed.
 */
#pragma once

#include <stdbool.h>

struct file;
struct op;
struct open_inode;

/**
 * At RELEASE of @file, whose descriptor is open. Returns whether it is kept here, because somebody else than us can write to what is underneath;
 * else it is the caller's to close. One file is kept of an inode: those that are closed after it have nothing to add.
 */
bool mapped_keep(struct op *op, struct file *file);

/**
 * Look at an inode that is or was open for reading and writing; @fd (O_PATH will do) is open on it, or a negative errno when it cannot be reached any
 * more. Logs what was stored, and closes what was kept of it once nobody can store any more.
 */
void mapped_look(struct op *op, struct open_inode *inode, int fd);
