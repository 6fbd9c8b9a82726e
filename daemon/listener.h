/*
 * Listener: the socket to which programs connect.
 *
 * An address of a socket is at most 107 bytes long, a path 4095: a longer one is bound through its directory's descriptor.
 */
#pragma once

#include "daemon/exit.h"

#include <limits.h>
#include <sys/stat.h>

struct listener {
	char path[PATH_MAX]; /* absolute */
	int fd;              /* owned; listening; -1: none */
	dev_t dev;           /* of the socket's file: it is removed only while it is ours */
	ino_t ino;
};

/** Who may connect, and where the default place is. Borrowed. */
struct listener_options {
	const char *path;       /* NULL: the default */
	const struct stat *source_stat; /* not in there, and */
	const struct stat *under_stat;  /* not where the mount will hide it */
	const char *source;     /* real path, which the default is named after */
	const char *state_path; /* where the default is without XDG_RUNTIME_DIR */
	uid_t owner;
	gid_t group;            /* may connect as well; (gid_t)-1: none */
};

/**
 * Bind the socket and listen. The file of a daemon that died is replaced. Returns STATUS_OK, or another (STATUS_BUSY: somebody listens there)
 * after having said why.
 */
enum exit_status listener_open(struct listener *listener, const struct listener_options *options);

/** Close the socket and remove its file. -1 is fine. */
void listener_close(struct listener *listener);
