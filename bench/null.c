/*
 * bench-null: a file system that does nothing, as fast as it can be answered.
 *
 *     bench-null MOUNTPOINT [-o io_uring]     in the foreground
 *
 * What a request costs here is what FUSE costs: two ways through the kernel and the switches between caller and server. Nobody can be
 * faster, whatever stands behind the requests. There is one file, "probe"; what is written to it is forgotten, and close(2) asks nothing.
 * It gives way to programs as hrfs does (daemon/scheduling.h), which makes the switches cheaper; over io_uring it also waits for requests as
 * hrfs does (fusefs/ring.h). On the classic transport it does not follow programs (fusefs/follow.h), and hrfs can be faster.
 */
#define FUSE_USE_VERSION 318

#include "bench/receiver.h"

#include <err.h>
#include <errno.h>
#include <fuse_lowlevel.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	FILE_INO = 2,
	FOREVER_S = 86400,
};

static struct stat attributes_of(fuse_ino_t ino)
{
	return (struct stat){
		.st_ino = ino,
		.st_mode = ino == FUSE_ROOT_ID ? S_IFDIR | 0755 : S_IFREG | 0644,
		.st_nlink = 1,
	};
}

static void null_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param entry = {
		.ino = FILE_INO,
		.attr = attributes_of(FILE_INO),
		.attr_timeout = FOREVER_S,
		.entry_timeout = FOREVER_S,
	};

	if (strcmp(name, PROBE) == 0)
		fuse_reply_entry(req, &entry);
	else
		fuse_reply_err(req, ENOENT);
}

static void null_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *file)
{
	struct stat attributes = attributes_of(ino);

	fuse_reply_attr(req, &attributes, FOREVER_S);
}

static void null_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	fuse_reply_err(req, ENODATA);
}

static void null_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *file)
{
	file->direct_io = 1;
	file->noflush = 1;
	fuse_reply_open(req, file);
}

static void null_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t offset, struct fuse_file_info *file)
{
	fuse_reply_write(req, size);
}

static void null_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *file)
{
	fuse_reply_err(req, 0);
}

/* A write then asks for no attributes first, and an open that truncates for nothing after it. */
static void null_init(void *userdata, struct fuse_conn_info *connection)
{
	fuse_set_feature_flag(connection, FUSE_CAP_HANDLE_KILLPRIV_V2 | FUSE_CAP_ATOMIC_O_TRUNC);
}

static const struct fuse_lowlevel_ops operations = {
	.init = null_init,
	.lookup = null_lookup,
	.getattr = null_getattr,
	.getxattr = null_getxattr,
	.open = null_open,
	.write = null_write,
	.release = null_release,
};

/* A session of its own is a group of its own to the scheduler: programs go first, and it is not starved by those of another session. */
static void give_way(void)
{
	const struct sched_param none = { 0 };

	if (setsid() >= 0)
		(void)sched_setscheduler(0, SCHED_IDLE, &none);
}

int main(int argc, char **argv)
{
	struct fuse_args arguments = FUSE_ARGS_INIT(argc, argv);
	struct fuse_cmdline_opts options;
	struct fuse_session *session;
	struct fuse_loop_config *config = fuse_loop_cfg_create();

	if (fuse_parse_cmdline(&arguments, &options) < 0 || !options.mountpoint)
		errx(2, "usage: bench-null MOUNTPOINT [-o io_uring]");
	session = fuse_session_new(&arguments, &operations, sizeof(operations), NULL);
	if (!session || fuse_session_mount(session, options.mountpoint) < 0 || fuse_set_signal_handlers(session) < 0)
		errx(1, "cannot mount %s", options.mountpoint);
	give_way();
	fuse_loop_cfg_set_clone_fd(config, 1);
	fuse_session_loop_mt(session, config);
	fuse_loop_cfg_destroy(config);
	fuse_session_unmount(session);
	fuse_session_destroy(session);
	fuse_opt_free_args(&arguments);
	free(options.mountpoint);
	return 0;
}
