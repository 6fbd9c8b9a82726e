/*
 * Fs: the FUSE session of one mount, and its table of operations.
 *
 * The session runs on a /dev/fuse descriptor that somebody else mounted, and on tables in shared memory that
 * somebody else keeps, so that it can die and be replaced (design, section 5). Threads: the session's own;
 * fs_stop() and fs_stat() may be called from any.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct eventlog;
struct fs;

enum fs_choice { FS_AUTO, FS_OFF, FS_ON };

enum { FS_OPCODE_MAX = 64 }; /* FUSE opcodes that are counted */

struct fs_options {
	int fuse_fd;                /* taken over: /dev/fuse, mounted */
	int source_fd;              /* borrowed: the source directory, O_PATH or O_RDONLY, opened before an in-place mount */
	int tables_fd;              /* borrowed: memfd from fs_tables_create() */
	const char *state_path;     /* borrowed: answered as user.hrfs.log */
	const char *socket_path;    /* borrowed: answered as user.hrfs.socket */
	bool is_takeover;           /* the kernel has been through INIT: replay it and ask for RESEND */
	bool is_in_place;           /* nothing can go round the mount: long time-outs */
	bool use_uring;             /* FUSE over io_uring; falls back to /dev/fuse where it cannot be had */
	bool gives_way;             /* programs run before the caller's threads, so these may follow them (fusefs/follow.h) */
	enum fs_choice passthrough; /* FS_ON: fail when it cannot be had */
	bool single_thread;         /* -s */
	bool allow_root;            /* mounted with allow_other, for root and the owner only */
	bool default_permissions;   /* the mount was made with it */
	bool sync_always;           /* -o sync: every write is followed by fdatasync and eventlog_sync */
	bool sync_names;            /* -o sync, dirsync: so is every change of a name, by fsync of its directory */
	bool is_unlogged;           /* no event is made: only to measure what events cost */
	bool debug;                 /* libfuse's trace of requests on stderr */
	unsigned max_read;          /* bytes, as given to mount(2); 0: none */
	unsigned threads;           /* of the classic transport; 0: chosen from the number of processors */
	void (*on_ready)(void *userdata); /* called once INIT has been answered; from a session thread */
	void *userdata;
};

/** Create the memory that outlives a worker. Returns a memfd (caller owns it) or a negative errno. */
int fs_tables_create(void);

/** How large a file they are, in bytes; most of it is a hole. */
uint64_t fs_tables_size(void);

/** Whether a session could go on with the tables in @tables_fd. Changes nothing. Returns 0, -EPROTO (of another version), or another negative errno. */
int fs_tables_check(int tables_fd);

/**
 * Have the kernel's table of this process's descriptors grow to its usual size, for which any open descriptor (@any_fd) is needed. It
 * doubles as it fills, and in a process of threads waits for a grace period of RCU each time (expand_fdtable() in the kernel's
 * fs/file.c): milliseconds in the midst of a request, seven times on the way to 4,096. So this is called before there are threads. If it
 * cannot grow now, it does later.
 */
void fs_reserve_descriptors(int any_fd);

/**
 * Make a session. @log is borrowed for its life. Returns 0, -EPERM (passthrough=on without CAP_SYS_ADMIN), or another negative
 * errno; the descriptor is taken over in every case. Then fs_run() fails with -EOPNOTSUPP where passthrough is FS_ON and the kernel has none.
 */
int fs_create(const struct fs_options *options, struct eventlog *log, struct fs **out);

/** Serve until the file system is unmounted (returns 0), fs_stop() (returns 0), or something breaks (negative errno). */
int fs_run(struct fs *fs);

/** Make fs_run() return soon. Any thread. */
void fs_stop(struct fs *fs);

/** After fs_run(): close what is left and free. NULL is fine. */
void fs_destroy(struct fs *fs);

/**
 * Settle the intents that nobody will ask about again (a mount that is gone): looks at the source and logs each change
 * as done (origin recovered), not done (nothing), or uncertain. Before fs_run(), when not taking over. Returns 0 or a negative errno.
 */
int fs_settle_orphans(int source_fd, struct eventlog *log);

struct fs_stat {
	bool uses_uring;
	bool uses_passthrough;
	bool has_handles;                 /* inodes are found by file handle; else by parent and name */
	uint64_t inodes;                  /* known to the kernel now */
	uint64_t open_files;
	uint64_t cached_fds;
	uint64_t memory;                  /* bytes of the tables in use */
	uint64_t requests[FS_OPCODE_MAX]; /* by FUSE opcode */
};

/** Any thread. */
void fs_stat(struct fs *fs, struct fs_stat *out);

/** The name of a FUSE opcode ("LOOKUP"), or NULL. Static. */
const char *fs_opcode_name(unsigned opcode);
