/*
 * Statedir: where the log of a source directory is kept when nobody says otherwise.
 *
 * The daemon makes the folder and the command line finds it again, mounted or not, so both ask
 * here. Nothing is created or looked at: the answer depends on the arguments and the environment
 * only.
 *
 *     $XDG_STATE_HOME/hrfs/NAME-HASH          where that is set to an absolute path
 *     /var/lib/hrfs/NAME-HASH                 else for root
 *     ~/.local/state/hrfs/NAME-HASH           else
 *
 * NAME is the last component of the source's path, cut where it is too long, for people; HASH is
 * 16 hexadecimal digits of XXH3_64bits of the whole path, so that two projects of one name have two
 * folders.
 */
#pragma once

#include <stddef.h>
#include <sys/types.h>

/** Where a daemon that runs as root keeps its state. */
#define STATEDIR_SYSTEM "/var/lib/hrfs"

/**
 * Write the state folder of @source_real_path for a daemon that runs as @uid to @out, which has
 * @size bytes.
 *
 * The path is absolute and free of links and trailing slashes, as realpath(3) gives it. The home
 * is $HOME, or what the user database says where that is unset. Returns 0, -EINVAL (the path is
 * not absolute), -ENAMETOOLONG, -ENOENT (no home to be found), or -ENOMEM. On failure @out is
 * untouched. Any thread, as long as none changes the environment.
 */
int statedir_default(const char *source_real_path, uid_t uid, char *out, size_t size);

/** The same below a given folder: "@parent/NAME-HASH". Returns 0, -EINVAL, or -ENAMETOOLONG. */
int statedir_below(const char *parent, const char *source_real_path, char *out, size_t size);

/** The same with a NAME of at most @name_max bytes. */
int statedir_below_cut(const char *parent, const char *source_real_path, size_t name_max,
		       char *out, size_t size);
