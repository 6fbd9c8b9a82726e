/*
 * Fs: making, running and ending a session.
 *
 * Two ways to run. On /dev/fuse (classic) the threads here read requests themselves, because a take-over needs what
 * libfuse does not show: the INIT request, to replay it, and each request's unique id, to know a repeated one. They
 * all read one descriptor; a clone of it would, when its worker dies, answer the requests it had taken with an error.
 * Over io_uring libfuse's own loop runs.
 */
#include "base/log.h"
#include "fusefs/emit.h"
#include "fusefs/execs.h"
#include "fusefs/follow.h"
#include "fusefs/listings.h"
#include "fusefs/look.h"
#include "fusefs/notifier.h"
#include "fusefs/ops.h"
#include "fusefs/resent.h"
#include "fusefs/session.h"
#include "fusefs/streams.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

enum {
	WRITE_MAX = 1 << 20,            /* bytes of data in one request */
	BUFFER_SIZE = WRITE_MAX + 4096, /* and what stands before it */
	THREADS_MIN = 4,
	BACKGROUND_MAX = 64,            /* releases and read-ahead under way at a time */
	REACH_MAX = 4096,               /* descriptors cached at most */
	STREAMS_MAX = 128,              /* directories kept open for who reads them */
	FORGOTTEN_MAX = 4096,           /* inodes that can be found by a file handle after the kernel has forgotten them: some 800 KiB */
	REST_MIN = 16,                  /* descriptors that programs cannot hold by open files */
	REST_MAX = 256,
};

static const char *const opcode_names[FS_OPCODE_MAX] = {
	[FUSE_LOOKUP] = "LOOKUP",
	[FUSE_FORGET] = "FORGET",
	[FUSE_GETATTR] = "GETATTR",
	[FUSE_SETATTR] = "SETATTR",
	[FUSE_READLINK] = "READLINK",
	[FUSE_SYMLINK] = "SYMLINK",
	[FUSE_MKNOD] = "MKNOD",
	[FUSE_MKDIR] = "MKDIR",
	[FUSE_UNLINK] = "UNLINK",
	[FUSE_RMDIR] = "RMDIR",
	[FUSE_LINK] = "LINK",
	[FUSE_OPEN] = "OPEN",
	[FUSE_READ] = "READ",
	[FUSE_WRITE] = "WRITE",
	[FUSE_STATFS] = "STATFS",
	[FUSE_RELEASE] = "RELEASE",
	[FUSE_FSYNC] = "FSYNC",
	[FUSE_SETXATTR] = "SETXATTR",
	[FUSE_GETXATTR] = "GETXATTR",
	[FUSE_LISTXATTR] = "LISTXATTR",
	[FUSE_REMOVEXATTR] = "REMOVEXATTR",
	[FUSE_OPENDIR] = "OPENDIR",
	[FUSE_READDIR] = "READDIR",
	[FUSE_RELEASEDIR] = "RELEASEDIR",
	[FUSE_FSYNCDIR] = "FSYNCDIR",
	[FUSE_CREATE] = "CREATE",
	[FUSE_IOCTL] = "IOCTL",
	[FUSE_BATCH_FORGET] = "BATCH_FORGET",
	[FUSE_FALLOCATE] = "FALLOCATE",
	[FUSE_READDIRPLUS] = "READDIRPLUS",
	[FUSE_RENAME2] = "RENAME",
	[FUSE_LSEEK] = "LSEEK",
	[FUSE_COPY_FILE_RANGE] = "COPY_FILE_RANGE",
	[KERNEL_TMPFILE] = "TMPFILE",
	[KERNEL_STATX] = "STATX",
};

const char *fs_opcode_name(unsigned opcode)
{
	return opcode < FS_OPCODE_MAX ? opcode_names[opcode] : NULL;
}

int fs_tables_create(void)
{
	return tables_create();
}

uint64_t fs_tables_size(void)
{
	return tables_size();
}

int fs_tables_check(int tables_fd)
{
	return tables_check(tables_fd);
}

/* ---- what is agreed with the kernel ---- */

static void want(struct fuse_conn_info *conn, uint64_t capability)
{
	fuse_set_feature_flag(conn, capability);
}

static void want_passthrough(struct fs *fs, struct fuse_conn_info *conn)
{
	struct statfs source;

	if (!modes_use_passthrough(fs->modes))
		return;
	if (!fuse_set_feature_flag(conn, FUSE_CAP_PASSTHROUGH)) {
		modes_refuse_passthrough(fs->modes);
		if (fs->options.passthrough == FS_ON)
			fs->error = -EOPNOTSUPP;
		return;
	}
	/* Stacking is limited to two: an overlay as source uses one up. Otherwise leave it to an overlay above us. */
	conn->max_backing_stack_depth =
		fstatfs(fs->options.source_fd, &source) == 0 && source.f_type == OVERLAYFS_SUPER_MAGIC;
}

static void fs_init(void *userdata, struct fuse_conn_info *conn)
{
	struct fs *fs = userdata;

	/* Without it the kernel asks for security.capability before each write. */
	want(conn, FUSE_CAP_HANDLE_KILLPRIV_V2);
	want(conn, FUSE_CAP_DONT_MASK);
	want(conn, FUSE_CAP_PARALLEL_DIROPS);
	want(conn, FUSE_CAP_CACHE_SYMLINKS);
	/* The kernel asks for "." of an inode that it has forgotten, when somebody comes with a file handle. */
	want(conn, FUSE_CAP_EXPORT_SUPPORT);
	/* Before it gives a listing from memory the kernel looks, with the second, whether the directory's time has changed. */
	fs->opens_no_dirs = fuse_set_feature_flag(conn, FUSE_CAP_NO_OPENDIR_SUPPORT) &&
			    (fs->options.is_in_place || fuse_set_feature_flag(conn, FUSE_CAP_AUTO_INVAL_DATA));
	fs->can_map_direct = fuse_set_feature_flag(conn, FUSE_CAP_DIRECT_IO_ALLOW_MMAP);
	if (fs->options.default_permissions && fs->is_root)
		want(conn, FUSE_CAP_POSIX_ACL);
	want_passthrough(fs, conn);
	/* Requests are read into our own buffers. */
	fuse_unset_feature_flag(conn, FUSE_CAP_SPLICE_READ);
	conn->max_background = BACKGROUND_MAX;
	conn->congestion_threshold = BACKGROUND_MAX;
	conn->max_read = fs->options.max_read;
	conn->max_write = WRITE_MAX;
	conn->no_interrupt = 1;
	fs->uses_uring = fs->options.use_uring && conn->capable_ext & FUSE_CAP_OVER_IO_URING;
}

static const struct fuse_lowlevel_ops operations = {
	.init = fs_init,
	.lookup = fs_lookup,
	.forget = fs_forget,
	.forget_multi = fs_forget_multi,
	.getattr = fs_getattr,
	.setattr = fs_setattr,
	.statx = fs_statx,
	.readlink = fs_readlink,
	.statfs = fs_statfs,
	.mknod = fs_mknod,
	.mkdir = fs_mkdir,
	.symlink = fs_symlink,
	.link = fs_link,
	.unlink = fs_unlink,
	.rmdir = fs_rmdir,
	.rename = fs_rename,
	.opendir = fs_opendir,
	.readdir = fs_readdir,
	.readdirplus = fs_readdirplus,
	.releasedir = fs_releasedir,
	.fsyncdir = fs_fsyncdir,
	.create = fs_create_file,
	.tmpfile = fs_tmpfile,
	.open = fs_open,
	.release = fs_release,
	.read = fs_read,
	.write = fs_write,
	.fsync = fs_fsync,
	.fallocate = fs_fallocate,
	.copy_file_range = fs_copy_file_range,
	.lseek = fs_lseek,
	.ioctl = fs_ioctl,
	.getxattr = fs_getxattr,
	.setxattr = fs_setxattr,
	.listxattr = fs_listxattr,
	.removexattr = fs_removexattr,
};

/* ---- making ---- */

static int make_session(struct fs *fs)
{
	const struct fs_options *options = &fs->options;
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	char text[32];
	int r = fuse_opt_add_arg(&args, "hrfs");

	if (options->debug)
		r |= fuse_opt_add_arg(&args, "-odebug");
	if (options->use_uring)
		r |= fuse_opt_add_arg(&args, "-oio_uring");
	if (options->allow_root)
		r |= fuse_opt_add_arg(&args, "-oallow_root");
	if (options->max_read) {
		snprintf(text, sizeof(text), "-omax_read=%u", options->max_read);
		r |= fuse_opt_add_arg(&args, text);
	}
	if (r == 0)
		fs->session = fuse_session_new(&args, &operations, sizeof(operations), fs);
	fuse_opt_free_args(&args);
	if (!fs->session)
		return -ENOMEM;
	/* libfuse takes over a mounted descriptor by this name. */
	snprintf(text, sizeof(text), "/dev/fd/%d", options->fuse_fd);
	return fuse_session_mount(fs->session, text) == 0 ? 0 : -EBADF;
}

/* A @part-th of what may be open, @max at most. */
static unsigned descriptors(unsigned part, unsigned max)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur / part > max)
		return max;
	return limit.rlim_cur / part;
}

/* Programs' own opens need the rest. */
static unsigned reach_limit(void)
{
	return descriptors(4, REACH_MAX);
}

/* How many may be taken by what programs hold. The rest is for look-ups, listings, and reads of files that are open already. */
static unsigned held_max(void)
{
	unsigned all = descriptors(1, INT_MAX), rest = descriptors(32, REST_MAX);

	if (rest < REST_MIN)
		rest = REST_MIN;
	return all > rest ? all - rest : 0;
}

static unsigned streams_limit(void)
{
	unsigned limit = descriptors(16, STREAMS_MAX);

	return limit ? limit : 1;
}

void fs_reserve_descriptors(int any_fd)
{
	/* And half as many for files that programs open. */
	int fd = fcntl(any_fd, F_DUPFD_CLOEXEC, reach_limit() * 3 / 2);

	if (fd >= 0)
		close(fd);
}

/* tmpfs has no notion of a mapped page becoming dirty; of an overlay one cannot know what is below. */
static bool moves_mtime(int source_fd)
{
	struct statfs source;

	if (fstatfs(source_fd, &source) < 0)
		return false;
	return source.f_type != TMPFS_MAGIC && source.f_type != RAMFS_MAGIC && source.f_type != OVERLAYFS_SUPER_MAGIC;
}

static bool is_btrfs(int source_fd)
{
	struct statfs source;

	return fstatfs(source_fd, &source) == 0 && source.f_type == BTRFS_SUPER_MAGIC;
}

/* The kernel gives backing ids only to CAP_SYS_ADMIN. */
static bool has_admin(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

	return syscall(SYS_capget, &header, data) == 0 && data[0].effective & (1u << CAP_SYS_ADMIN);
}

/* Of which directories the kernel keeps what it has read is not known after a take-over: so all are to be dropped. */
static int make_listings(struct fs *fs)
{
	int r = listings_create(&fs->listings);

	if (r == 0 && fs->options.is_takeover)
		(void)listings_add_all(fs->listings);
	return r;
}

static int make_parts(struct fs *fs)
{
	bool use_passthrough = fs->options.passthrough != FS_OFF && has_admin();
	struct stat root;
	int r;

	if (fs->options.passthrough == FS_ON && !use_passthrough)
		return -EPERM;
	if (fstatat(fs->options.source_fd, "", &root, AT_EMPTY_PATH) < 0)
		return -errno;
	r = notifier_start(fs->options.fuse_fd, &fs->notifier);
	if (r == 0)
		r = tables_open(fs->options.tables_fd, &fs->tables);
	if (r == 0)
		r = inodes_create(&fs->tables, &root, FORGOTTEN_MAX, &fs->inodes);
	if (r == 0)
		r = reach_create(fs->inodes, fs->options.source_fd, reach_limit(), held_max(), &fs->reach);
	if (r == 0)
		r = modes_create(fs->inodes, fs->options.fuse_fd, use_passthrough, &fs->modes);
	if (r == 0)
		r = files_create(&fs->tables, &fs->files);
	if (r == 0 && fs->options.is_takeover)
		r = files_adopt(fs->files, fs->modes, fs->reach);
	if (r == 0)
		r = streams_create(streams_limit(), &fs->streams);
	if (r == 0 && !fs->options.is_in_place)
		r = make_listings(fs);
	if (r == 0)
		r = make_session(fs);
	/* An unprivileged daemon may not count, and does without; so does one that has no processors to choose from. */
	if (r == 0)
		(void)execs_open(&fs->execs);
	if (r == 0 && fs->options.gives_way && !fs->options.use_uring)
		(void)follow_create(FS_THREADS_MAX, &fs->follow);
	return r;
}

/* A rename that waits goes before commits that come later: there is always another commit. */
static void init_paths(struct fs *fs)
{
	pthread_rwlockattr_t attributes;

	pthread_rwlockattr_init(&attributes);
	pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&fs->paths, &attributes);
	pthread_rwlockattr_destroy(&attributes);
}

int fs_create(const struct fs_options *options, struct eventlog *log, struct fs **out)
{
	/* The kernel's answer to "when must I ask again". Nothing goes round an in-place mount, so there never. */
	const double behind_s = 1.0, in_place_s = 3600.0;
	struct fs *fs = calloc(1, sizeof(*fs));
	struct timespec now;
	int r;

	if (!fs)
		return -ENOMEM;
	fs->options = *options;
	fs->log = log;
	clock_gettime(CLOCK_REALTIME, &now);
	fs->started_ns = now.tv_sec * 1000000000ll + now.tv_nsec;
	fs->timeout_s = options->is_in_place ? in_place_s : behind_s;
	fs->is_root = geteuid() == 0;
	fs->mmap_moves_mtime = moves_mtime(options->source_fd);
	fs->seek_shows_new = is_btrfs(options->source_fd);
	pthread_mutex_init(&fs->lock, NULL);
	init_paths(fs);
	r = -pthread_key_create(&fs->op_key, NULL);
	if (r == 0)
		r = make_parts(fs);
	if (r < 0) {
		fs_destroy(fs);
		return r;
	}
	*out = fs;
	return 0;
}

void fs_destroy(struct fs *fs)
{
	if (!fs)
		return;
	notifier_stop(fs->notifier);
	if (fs->session)
		fuse_session_destroy(fs->session);
	else
		close(fs->options.fuse_fd);
	for (struct op *op = fs->ops, *next; op; op = next) {
		next = op->next;
		op_destroy(op);
	}
	files_destroy(fs->files);
	modes_destroy(fs->modes);
	reach_destroy(fs->reach);
	inodes_destroy(fs->inodes);
	resent_destroy(fs->resent);
	execs_close(fs->execs);
	follow_destroy(fs->follow);
	listings_destroy(fs->listings);
	streams_destroy(fs->streams);
	tables_finish(&fs->tables);
	pthread_key_delete(fs->op_key);
	pthread_rwlock_destroy(&fs->paths);
	pthread_mutex_destroy(&fs->lock);
	free(fs);
}

/* ---- running on /dev/fuse ---- */

static void ready(struct fs *fs)
{
	if (fs->options.on_ready)
		fs->options.on_ready(fs->options.userdata);
}

static void process(struct fs *fs, void *request, size_t size)
{
	struct fuse_buf buffer = { .mem = request, .size = size };

	fuse_session_process_buf(fs->session, &buffer);
}

/* Kept for the worker after this one, which must agree on the same with the same words. */
static void save_init(struct fs *fs, const void *request, size_t size)
{
	if (size > TABLES_INIT_MAX)
		return;
	memcpy(fs->tables.init, request, size);
	atomic_store(fs->tables.init_size, size);
}

static void *run_thread(void *argument);

static void set_error(struct fs *fs, int r)
{
	pthread_mutex_lock(&fs->lock);
	fs->error = r;
	pthread_mutex_unlock(&fs->lock);
}

static unsigned thread_count(const struct fs *fs)
{
	long processors = sysconf(_SC_NPROCESSORS_ONLN);

	if (fs->options.single_thread)
		return 1;
	if (fs->options.threads)
		return fs->options.threads < FS_THREADS_MAX ? fs->options.threads : FS_THREADS_MAX;
	processors *= 2;
	return processors < THREADS_MIN ? THREADS_MIN : processors > FS_THREADS_MAX ? FS_THREADS_MAX : processors;
}

/*
 * Returns 0 or a negative errno: then those that run are told to stop. Locked, since the first thread can get here by way
 * of INIT before it has been counted by who started it.
 */
static int start_threads(struct fs *fs, unsigned count)
{
	int r = 0;

	pthread_mutex_lock(&fs->lock);
	while (fs->thread_count < count && r == 0) {
		r = -pthread_create(&fs->threads[fs->thread_count], NULL, run_thread, fs);
		if (r == 0)
			fs->thread_count++;
	}
	pthread_mutex_unlock(&fs->lock);
	if (r < 0)
		fs_stop(fs);
	return r;
}

/* Nobody is answered before it is known that the mount is live: a worker that is killed from then on is replaced. */
static void open_up(struct fs *fs)
{
	int r;

	ready(fs);
	r = start_threads(fs, thread_count(fs));
	if (r < 0)
		set_error(fs, r);
}

static void serve(struct fs *fs, void *request, size_t size)
{
	const struct fuse_in_header *header = request;
	struct op *op = pthread_getspecific(fs->op_key);

	op->next_request = header->unique;
	if (header->opcode == FUSE_INIT)
		save_init(fs, request, size);
	process(fs, request, size);
	if (header->opcode == FUSE_INIT && fs->error)
		atomic_store(&fs->is_stopping, true);
	else if (header->opcode == FUSE_INIT)
		open_up(fs);
}

/* What was read for the worker before. Returns whether there was any. */
static bool serve_resent(struct fs *fs)
{
	size_t size;
	void *request = resent_take(fs->resent, &size);

	if (!request)
		return false;
	serve(fs, request, size);
	free(request);
	return true;
}

/* Whether a program does, which the kernel then names. */
static bool is_waited_for(uint32_t opcode)
{
	switch (opcode) {
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_RELEASE:
	case FUSE_RELEASEDIR:
	case FUSE_INTERRUPT:
		return false;
	default:
		return true;
	}
}

/* Who lets us go from a processor that has no time for us is told before we go there. */
static void go_along(struct fs *fs)
{
	if (follow_is_bound(fs->follow))
		look_follow(fs->look);
	follow_go_along(fs->follow);
}

/* One request. Returns 1, 0 when the session is over, or a negative errno. */
static int serve_next(struct fs *fs, void *buffer)
{
	ssize_t n;

	if (serve_resent(fs))
		return 1;
	n = read(fs->options.fuse_fd, buffer, BUFFER_SIZE);
	if (n >= (ssize_t)sizeof(struct fuse_in_header)) {
		const struct fuse_in_header header = *(struct fuse_in_header *)buffer;

		serve(fs, buffer, n);
		if (is_waited_for(header.opcode) && follow_answered(fs->follow, header.pid))
			go_along(fs);
		return 1;
	}
	if (n >= 0)
		return -EIO;
	switch (errno) {
	case EINTR:
	case EAGAIN:
	case ENOENT: /* the request was taken back while we read it */
		return !atomic_load(&fs->is_stopping);
	case ENODEV:
	case ECONNABORTED: /* it was being unmounted when we had just been given a request */
		return 0;
	default:
		return -errno;
	}
}

/*
 * Touched, every page: the kernel copies a request to pages that are there without asking anything. For one that is not it
 * looks whether the thread is being killed, and then fails the request (EIO) instead of keeping it for the next worker.
 */
static void *make_buffer(void)
{
	void *buffer = aligned_alloc(4096, BUFFER_SIZE);

	if (buffer)
		memset(buffer, 0, BUFFER_SIZE);
	return buffer;
}

static void *run_thread(void *argument)
{
	struct fs *fs = argument;
	const struct op *op = op_of_thread(fs);
	void *buffer = make_buffer();
	int r = buffer && op ? 1 : -ENOMEM;

	pthread_setname_np(pthread_self(), "hrfs-fs");
	follow_join(fs->follow);
	while (r > 0 && !atomic_load(&fs->is_stopping))
		r = serve_next(fs, buffer);
	follow_leave(fs->follow);
	free(buffer);
	if (r < 0)
		set_error(fs, r);
	atomic_store(&fs->is_stopping, true);
	return NULL;
}

static void interrupt(int signal)
{
}

/* Ends a thread's read(2). Not restarted: that is its purpose. */
static void set_interrupt(void)
{
	struct sigaction action = { .sa_handler = interrupt };

	sigaction(SIGUSR1, &action, NULL);
}

/* A signal can come just before a thread blocks again, so it is repeated until the thread has ended. */
static void join_interrupting(struct fs *fs, pthread_t thread)
{
	struct timespec until;

	for (;;) {
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_nsec += 100 * 1000 * 1000;
		if (until.tv_nsec >= 1000000000) {
			until.tv_nsec -= 1000000000;
			until.tv_sec++;
		}
		if (pthread_timedjoin_np(thread, NULL, &until) == 0)
			return;
		if (atomic_load(&fs->is_stopping))
			pthread_kill(thread, SIGUSR1);
	}
}

/* The first thread reads INIT, and then starts the others. A worker that takes over has had it already. */
static int run_classic(struct fs *fs)
{
	bool has_init = fs->options.is_takeover && atomic_load(fs->tables.init_size) > 0;
	int r;

	set_interrupt();
	r = start_threads(fs, has_init ? thread_count(fs) : 1);
	if (r == 0)
		join_interrupting(fs, fs->threads[0]);
	for (unsigned i = r == 0; i < fs->thread_count; i++)
		join_interrupting(fs, fs->threads[i]);
	return r;
}

/* ---- taking over ---- */

/* The kernel ignores the second answer to INIT; it is for libfuse to know what was agreed. */
static int replay_init(struct fs *fs)
{
	size_t size = atomic_load(fs->tables.init_size);
	struct op *op = op_of_thread(fs);
	void *copy;

	if (!op)
		return -ENOMEM;
	/* The first worker died before it read INIT: it will come by the usual way. */
	if (size == 0)
		return 0;
	copy = malloc(size);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, fs->tables.init, size);
	process(fs, copy, size);
	free(copy);
	return fs->error;
}

static void serve_at_once(void *userdata, void *request, size_t size)
{
	serve(userdata, request, size);
}

/*
 * Reads what comes again, and settles what dead workers left of anything else: nobody will ask about that any more. Where
 * the log is full, that is tried again later (fusefs/look.c).
 */
static int read_resent(struct fs *fs)
{
	void *buffer = make_buffer();
	int r = buffer ? resent_read(fs->options.fuse_fd, buffer, BUFFER_SIZE, serve_at_once, fs, &fs->resent) : -ENOMEM;

	free(buffer);
	if (r == 0)
		(void)settle_orphans(fs->options.source_fd, fs->log, fs->resent);
	return r;
}

static int ask_to_resend(struct fs *fs)
{
	struct fuse_out_header notify = { .len = sizeof(notify), .error = KERNEL_NOTIFY_RESEND };

	if (atomic_load(fs->tables.init_size) == 0)
		return 0;
	if (write(fs->options.fuse_fd, &notify, sizeof(notify)) < 0)
		return errno == ENODEV ? 0 : -errno;
	ready(fs);
	return read_resent(fs);
}

/* ---- running over io_uring ---- */

static int run_uring(struct fs *fs)
{
	struct fuse_loop_config *config = fuse_loop_cfg_create();
	int r;

	if (!config)
		return -ENOMEM;
	fuse_loop_cfg_set_clone_fd(config, 0);
	fuse_loop_cfg_set_max_threads(config, THREADS_MIN);
	/* The mount answers requests from INIT on; those that come earlier wait in the kernel. */
	ready(fs);
	r = fuse_session_loop_mt(fs->session, config);
	fuse_loop_cfg_destroy(config);
	/* As in serve_next(). */
	return r == -ECONNABORTED ? 0 : r;
}

int fs_run(struct fs *fs)
{
	int r = 0;

	if (fs->options.is_takeover)
		r = replay_init(fs);
	if (r == 0 && fs->options.is_takeover)
		r = ask_to_resend(fs);
	if (r == 0)
		r = look_start(fs, &fs->look);
	if (r == 0)
		r = fs->options.use_uring ? run_uring(fs) : run_classic(fs);
	look_stop(fs->look);
	fs->look = NULL;
	return r < 0 ? r : fs->error;
}

void fs_stop(struct fs *fs)
{
	atomic_store(&fs->is_stopping, true);
	fuse_session_exit(fs->session);
}

/* ---- numbers ---- */

void fs_stat(struct fs *fs, struct fs_stat *out)
{
	memset(out, 0, sizeof(*out));
	out->uses_uring = fs->uses_uring;
	out->uses_passthrough = modes_use_passthrough(fs->modes);
	out->has_handles = reach_has_handles(fs->reach);
	inode_count(fs->inodes, &out->inodes, &out->memory);
	out->open_files = files_count(fs->files);
	out->cached_fds = reach_count(fs->reach);
	pthread_mutex_lock(&fs->lock);
	for (struct op *op = fs->ops; op; op = op->next)
		for (int i = 0; i < FS_OPCODE_MAX; i++)
			out->requests[i] += __atomic_load_n(&op->requests[i], __ATOMIC_RELAXED);
	pthread_mutex_unlock(&fs->lock);
}
