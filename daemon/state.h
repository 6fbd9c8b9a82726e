/*
 * State: the folder of a mount's log.
 *
 * Private to the owner of the mount, 0700, and never inside the tree or below the mount, where logging would itself be logged.
 */
#pragma once

#include "daemon/exit.h"

#include <limits.h>
#include <sys/stat.h>

struct state {
	char path[PATH_MAX]; /* absolute, without links */
	int fd;              /* owned; -1: none */
	uid_t owner;         /* of the mount, see state_set_owner() */
	gid_t group;
};

/** What a state folder must be clear of. Borrowed. */
struct state_around {
	const char *source;             /* real path */
	const struct stat *source_stat;
	const struct stat *under_stat;  /* the directory that is mounted over */
};

/** Whose the mount is: run by root the owner of the source, else who runs it. Whoever that is may connect, and own the folder. */
void state_set_owner(struct state *state, const struct stat *source_stat);

/**
 * Find or make the folder @path (NULL: the default for the source) and check that no other daemon uses it. Returns STATUS_OK, or another
 * after having said why.
 */
enum exit_status state_open(struct state *state, const char *path, const struct state_around *around);

/** Close the descriptor. */
void state_close(struct state *state);

/** Run by root: give the folder and what is in it to the owner. Returns 0 or a negative errno. */
int state_give_to_owner(const struct state *state);
