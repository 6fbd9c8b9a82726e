/*
 * Emit: one struct op a thread, and the five steps.
 *
 * Repeated requests: the kernel sends a request that a dead worker had taken again, with the same unique id. The
 * orphan slots of that id (one, or more when workers died repeatedly) say how many events
 * it had logged, and whether one more was announced. Steps are counted, because one SETATTR can make several events.
 */
#include "fusefs/emit.h"

#include "base/log.h"
#include "fusefs/kernel.h"

#include <errno.h>
#include <linux/securebits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

/* ---- one op a thread ---- */

/*
 * A umask of its own for this thread, and capabilities that stay when its fsuid changes: a file is then made with its
 * caller's owner while the daemon's rights go on applying (the kernel has checked the caller's already).
 */
static void prepare_thread(struct op *op)
{
	op->umask = 0;
	if (unshare(CLONE_FS) < 0)
		log_warning("a thread cannot have its own umask (%s)", strerror(errno));
	umask(0);
	/* Inherited from a main thread that could set it before it dropped the right to. */
	if (op->fs->is_root && !(prctl(PR_GET_SECUREBITS) & SECBIT_NO_SETUID_FIXUP) &&
	    prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP) < 0)
		log_warning("cannot keep capabilities for callers (%s)", strerror(errno));
}

struct op *op_of_thread(struct fs *fs)
{
	struct op *op = pthread_getspecific(fs->op_key);

	if (op)
		return op;
	op = calloc(1, sizeof(*op));
	if (!op)
		return NULL;
	op->fs = fs;
	who_init(&op->who, fs->execs);
	if (writer_open(fs->log, &op->writer) < 0 || pthread_setspecific(fs->op_key, op) != 0) {
		writer_close(op->writer);
		free(op);
		return NULL;
	}
	prepare_thread(op);
	pthread_mutex_lock(&fs->lock);
	op->next = fs->ops;
	fs->ops = op;
	pthread_mutex_unlock(&fs->lock);
	return op;
}

void op_destroy(struct op *op)
{
	writer_close(op->writer);
	who_finish(&op->who);
	free(op);
}

void op_count(struct op *op, unsigned opcode)
{
	__atomic_store_n(&op->requests[opcode], op->requests[opcode] + 1, __ATOMIC_RELAXED);
}

struct op *op_start(fuse_req_t req, unsigned opcode)
{
	struct fs *fs = fuse_req_userdata(req);
	struct op *op = op_of_thread(fs);

	if (!op) {
		fuse_reply_err(req, ENOMEM);
		return NULL;
	}
	op->req = req;
	op->context = fuse_req_ctx(req);
	op->request = op->next_request & ~FUSE_UNIQUE_RESEND;
	op->is_resent = op->next_request & FUSE_UNIQUE_RESEND;
	op->next_request = 0;
	op->step = 0;
	op_count(op, opcode);
	return op;
}

struct op *op_start_own(struct fs *fs)
{
	static const struct fuse_ctx nobody;
	struct op *op = op_of_thread(fs);

	if (!op)
		return NULL;
	op->context = &nobody;
	op->request = 0;
	op->is_resent = false;
	op->step = 0;
	return op;
}

static void resolve_orphans(struct op *op)
{
	struct orphan *orphan;

	while ((orphan = eventlog_find_orphan(op->fs->log, op->request)))
		eventlog_resolve(op->fs->log, orphan);
}

void op_end(struct op *op)
{
	writer_end(op->writer);
	if (op->is_resent)
		resolve_orphans(op);
	op->req = NULL;
}

void op_reply_error(struct op *op, int r)
{
	fuse_reply_err(op->req, r < 0 ? -r : 0);
	op_end(op);
}

/* ---- the event ---- */

static void fill_who(struct op *op)
{
	const struct who_slot *who = who_find(&op->who, op->context->pid, op->is_hot);

	op->is_hot = false;
	op->event.has |= EVENT_HAS_WHO;
	op->event.pid = who->pid;
	op->event.comm = who->comm;
	op->event.comm_length = who->comm_length;
	op->event.uid = op->context->uid;
	op->event.gid = op->context->gid;
}

/* A file without a name (O_TMPFILE, or removed behind the mount) is called by its number. */
static ssize_t fill_path(struct op *op, uint64_t nodeid, const char *name)
{
	ssize_t length = inode_path(op->fs->inodes, nodeid, name, op->path, sizeof(op->path));
	struct inode_view view;

	if (length != -ESTALE || name || inode_get(op->fs->inodes, nodeid, &view) < 0)
		return length;
	return snprintf(op->path, sizeof(op->path), "#%llu", (unsigned long long)view.ino);
}

static void fill_ino(struct op *op, uint64_t nodeid, const char *name)
{
	struct inode_view view;
	int r = name ? inode_child(op->fs->inodes, nodeid, name, &view) :
		       inode_get(op->fs->inodes, nodeid, &view);

	if (r == 0) {
		op->event.has |= EVENT_HAS_INO;
		op->event.ino = view.ino;
	}
}

int emit_prepare(struct op *op, enum event_op what, uint64_t nodeid, const char *name)
{
	uint64_t renames = atomic_load(&op->fs->renames);
	ssize_t length = fill_path(op, nodeid, name);

	if (length < 0)
		return length;
	op->renames = renames;
	op->at = (struct emit_place){ nodeid, name };
	op->to_at = (struct emit_place){ 0 };
	op->event = (struct event){
		.op = what,
		.origin = EVENT_VFS,
		.path = op->path,
		.path_length = length,
	};
	fill_ino(op, nodeid, name);
	fill_who(op);
	return 0;
}

int emit_prepare_to(struct op *op, uint64_t nodeid, const char *name)
{
	ssize_t length = inode_path(op->fs->inodes, nodeid, name, op->to, sizeof(op->to));

	if (length < 0)
		return length;
	op->to_at = (struct emit_place){ nodeid, name };
	op->event.to = op->to;
	op->event.to_length = length;
	return 0;
}

/* ---- repeated requests ---- */

/* Steps that earlier workers left behind for this request; the orphan of the one whose outcome is open, if one is. */
static unsigned settled_steps(struct op *op, struct orphan **out_open)
{
	unsigned position = 0, steps = 0;
	struct orphan *orphan;

	*out_open = NULL;
	while ((orphan = eventlog_next_orphan(op->fs->log, &position))) {
		if (orphan->request != op->request || orphan->steps < steps)
			continue;
		if (orphan->steps > steps)
			*out_open = NULL;
		steps = orphan->steps;
		/* When workers died repeatedly, the first announcement is the oldest time it can have been done. */
		if (orphan->state == INTENT_BEGUN &&
		    (!*out_open || orphan->announced_ns < (*out_open)->announced_ns))
			*out_open = orphan;
	}
	return steps;
}

enum emit emit_recall(struct op *op, enum event_op what)
{
	struct orphan *open;
	unsigned steps;

	if (!op->is_resent)
		return EMIT_GO;
	steps = settled_steps(op, &open);
	if (op->step < steps)
		return EMIT_LOGGED;
	return op->step == steps && open && open->event->op == what ? EMIT_MAYBE : EMIT_GO;
}

void emit_skip(struct op *op)
{
	op->step++;
}

int64_t emit_announced_ns(struct op *op)
{
	struct orphan *open;

	settled_steps(op, &open);
	return open ? open->announced_ns : 0;
}

const struct event *emit_announced(struct op *op)
{
	struct orphan *open;

	settled_steps(op, &open);
	return open ? open->event : NULL;
}

uint64_t emit_logged_length(struct op *op)
{
	struct eventlog_cursor *cursor = NULL;
	uint64_t length = op->event.length;
	unsigned position = 0;
	struct orphan *orphan;
	struct event logged;

	while ((orphan = eventlog_next_orphan(op->fs->log, &position))) {
		if (orphan->request != op->request || orphan->seq == 0)
			continue;
		if (eventlog_cursor_open(op->fs->log, orphan->seq, &cursor) < 0)
			continue;
		if (eventlog_cursor_next(cursor, &logged) == 1 && logged.seq == orphan->seq && logged.op == op->event.op)
			length = logged.length;
		eventlog_cursor_close(cursor);
	}
	return length;
}

/* ---- announce, commit ---- */

int emit_begin(struct op *op)
{
	enum emit emit = emit_recall(op, op->event.op);
	int r;

	if (emit == EMIT_LOGGED) {
		emit_skip(op);
		return EMIT_LOGGED;
	}
	r = op->fs->options.is_unlogged ? 0 : writer_begin(op->writer, op->request, op->step, &op->event);
	return r < 0 ? r : (int)emit;
}

/* The path of @place as of now. Returns its length, or a negative errno when it is no longer to be had. */
static ssize_t path_now(struct op *op, const struct emit_place *place, char *buffer)
{
	return inode_path(op->fs->inodes, place->nodeid, place->name, buffer, EVENT_PATH_MAX + 1);
}

/*
 * A directory above was renamed, or the name was removed, and the log will tell so before this event. What was announced left room for paths
 * that grow a little; of one that grows by more the old form stays, and says that it may be wrong.
 */
static void replace_path(struct op *op, const struct emit_place *place, char *path, uint32_t *length)
{
	const ssize_t growth_max = (EVENT_COMMIT_SLACK - 128) / 2;
	char now[EVENT_PATH_MAX + 1];
	ssize_t now_length = place->nodeid ? path_now(op, place, now) : -ENOENT;

	if (now_length < 0)
		return;
	if (now_length > (ssize_t)*length + growth_max) {
		op->event.has |= EVENT_UNCERTAIN;
		return;
	}
	memcpy(path, now, now_length + 1);
	*length = now_length;
}

/* The caller holds fs->paths. */
static void renew_paths(struct op *op)
{
	uint32_t length = op->event.path_length, to_length = op->event.to_length;

	if (op->renames == atomic_load(&op->fs->renames))
		return;
	op->renames = atomic_load(&op->fs->renames);
	replace_path(op, &op->at, op->path, &length);
	replace_path(op, &op->to_at, op->to, &to_length);
	op->event.path_length = length;
	op->event.to_length = to_length;
}

static void commit_holding_paths(struct op *op)
{
	renew_paths(op);
	op->step++;
	if (!op->fs->options.is_unlogged)
		writer_commit(op->writer, &op->event);
}

void emit_commit(struct op *op)
{
	pthread_rwlock_rdlock(&op->fs->paths);
	commit_holding_paths(op);
	pthread_rwlock_unlock(&op->fs->paths);
}

void emit_rollback(struct op *op)
{
	if (!op->fs->options.is_unlogged)
		writer_rollback(op->writer);
}

int emit_finish(struct op *op, int emit, int r)
{
	if (emit == EMIT_LOGGED)
		return r;
	if (r < 0)
		emit_rollback(op);
	else
		emit_commit(op);
	return r;
}

int emit_finish_rename(struct op *op, int emit, int r, bool exchange)
{
	struct fs *fs = op->fs;

	if (r < 0)
		return emit_finish(op, emit, r);
	pthread_rwlock_wrlock(&fs->paths);
	if (emit != EMIT_LOGGED)
		commit_holding_paths(op);
	/* A dead worker may have got anywhere: then the caller looks what is there. */
	if (!op->is_resent)
		inode_renamed(fs->inodes, op->at.nodeid, op->at.name, op->to_at.nodeid, op->to_at.name,
			      exchange);
	atomic_fetch_add(&fs->renames, 1);
	pthread_rwlock_unlock(&fs->paths);
	return r;
}

int emit_finish_removal(struct op *op, int emit, int r, bool has_more_names)
{
	struct fs *fs = op->fs;

	if (r < 0 || !has_more_names) {
		emit_finish(op, emit, r);
		if (r >= 0)
			inode_unlinked(fs->inodes, op->at.nodeid, op->at.name, NULL);
		return r;
	}
	pthread_rwlock_wrlock(&fs->paths);
	if (emit != EMIT_LOGGED)
		commit_holding_paths(op);
	inode_unlinked(fs->inodes, op->at.nodeid, op->at.name, NULL);
	atomic_fetch_add(&fs->renames, 1);
	pthread_rwlock_unlock(&fs->paths);
	return r;
}

void emit_append(struct op *op)
{
	pthread_rwlock_rdlock(&op->fs->paths);
	renew_paths(op);
	if (!op->fs->options.is_unlogged)
		(void)writer_append(op->writer, &op->event);
	pthread_rwlock_unlock(&op->fs->paths);
}

/* ---- acting as the caller ---- */

/* The C library's functions would change all threads; these change the calling one. */
static void set_fs_ids(uid_t uid, gid_t gid)
{
	syscall(SYS_setfsgid, gid);
	syscall(SYS_setfsuid, uid);
}

void op_become_caller(struct op *op)
{
	if (op->umask != op->context->umask) {
		op->umask = op->context->umask;
		umask(op->umask);
	}
	if (op->fs->is_root && (op->context->uid != 0 || op->context->gid != 0))
		set_fs_ids(op->context->uid, op->context->gid);
}

void op_become_daemon(struct op *op)
{
	if (op->fs->is_root && (op->context->uid != 0 || op->context->gid != 0))
		set_fs_ids(0, 0);
}

/* ---- at the caller's cost ---- */

enum { SCARCE_BYTES = 256 << 20 }; /* more than all threads together write in between a look and a write */

/*
 * Whether @size bytes may be more than the file system leaves to everybody. Asking it takes a tenth of the time that changing the user and back
 * takes, and where it has enough it does not matter whose the bytes are.
 */
static bool is_scarce(int fd, uint64_t size)
{
	struct statfs now;

	return fstatfs(fd, &now) < 0 || now.f_bavail * now.f_bsize < size + SCARCE_BYTES;
}

/* Not the group: one that shares what is kept for root (tune2fs -g) is refused like everybody. */
void op_charge_caller(struct op *op, int fd, uint64_t size)
{
	bool has_caller = op->event.has & EVENT_HAS_WHO;

	op->is_charged = op->fs->is_root && has_caller && op->context->uid != 0 && is_scarce(fd, size);
	if (op->is_charged)
		syscall(SYS_setfsuid, op->context->uid);
}

void op_charge_daemon(struct op *op)
{
	int error = errno;

	if (op->is_charged)
		syscall(SYS_setfsuid, 0);
	op->is_charged = false;
	errno = error;
}
