/*
 * Replaces functions of the C library and of SQLite by their names, which the dynamic linker finds here first. The real ones
 * are looked up with dlsym(RTLD_NEXT), but for the allocators: dlsym() allocates.
 */
#undef _FILE_OFFSET_BITS /* both names of a function are defined here */

#include "tests/fault/inject.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

struct plan {
	_Atomic enum inject_kind kind;
	_Atomic unsigned long at;
	_Atomic unsigned long count;
	_Atomic bool goes_on;
	_Atomic bool was_reached;
};

static struct plan own_plan;
static struct plan *plan = &own_plan; /* in memory that children share, when it was preloaded */

static const char *const names[INJECT_KINDS] = { "none", "memory", "write", "sync", "grow", "sqlite", "link", "made", "short", "late" };

const char *inject_name(enum inject_kind kind)
{
	return names[kind];
}

void inject_arm(enum inject_kind kind, unsigned long n, bool goes_on)
{
	plan->at = n;
	plan->count = 0;
	plan->goes_on = goes_on;
	plan->was_reached = false;
	plan->kind = kind;
}

bool inject_disarm(void)
{
	plan->kind = INJECT_NONE;
	return plan->was_reached;
}

static bool fails(enum inject_kind kind)
{
	unsigned long number;

	if (plan->kind != kind)
		return false;
	number = atomic_fetch_add(&plan->count, 1) + 1;
	if (number != plan->at && !(plan->goes_on && number > plan->at))
		return false;
	plan->was_reached = true;
	return true;
}

static bool fails_with(enum inject_kind kind, int error)
{
	if (!fails(kind))
		return false;
	errno = error;
	return true;
}

static bool is_regular(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

static int write_error(void)
{
	return plan->at % 2 ? EIO : ENOSPC;
}

#define REAL(type, name, ...)                                                                      \
	static type (*real)(__VA_ARGS__);                                                          \
	if (!real)                                                                                 \
		real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

/* ---- Memory ---- */

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *memory, size_t size);

EXPORT void *malloc(size_t size)
{
	return fails_with(INJECT_MEMORY, ENOMEM) ? NULL : __libc_malloc(size);
}

EXPORT void *calloc(size_t count, size_t size)
{
	return fails_with(INJECT_MEMORY, ENOMEM) ? NULL : __libc_calloc(count, size);
}

EXPORT void *realloc(void *memory, size_t size)
{
	return fails_with(INJECT_MEMORY, ENOMEM) ? NULL : __libc_realloc(memory, size);
}

/* ---- Writing ---- */

EXPORT ssize_t write(int fd, const void *data, size_t size)
{
	REAL(ssize_t, "write", int, const void *, size_t);
	return is_regular(fd) && fails_with(INJECT_WRITE, write_error()) ? -1 : real(fd, data, size);
}

static _Thread_local bool was_short;

EXPORT ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
	REAL(ssize_t, "pwrite", int, const void *, size_t, off_t);
	ssize_t n;

	if (is_regular(fd) && fails_with(INJECT_WRITE, write_error()))
		return -1;
	n = real(fd, data, size, offset);
	was_short |= n > 0 && (size_t)n < size;
	return n;
}
EXPORT ssize_t pwrite64(int fd, const void *data, size_t size, off_t offset) __attribute__((alias("pwrite")));

/* ---- Dying ---- */

EXPORT ssize_t writev(int fd, const struct iovec *parts, int count)
{
	REAL(ssize_t, "writev", int, const struct iovec *, int);
	if (was_short && fails(INJECT_SHORT))
		raise(SIGKILL);
	return real(fd, parts, count);
}

EXPORT int openat(int dir_fd, const char *path, int flags, ...)
{
	REAL(int, "openat", int, const char *, int, mode_t);
	va_list more;
	mode_t mode;
	int fd;

	va_start(more, flags);
	mode = flags & O_CREAT ? va_arg(more, mode_t) : 0;
	va_end(more);
	fd = real(dir_fd, path, flags, mode);
	if (fd >= 0 && flags & O_EXCL && !(mode & 0222) && fails(INJECT_MADE))
		raise(SIGKILL);
	return fd;
}
EXPORT int openat64(int dir_fd, const char *path, int flags, ...) __attribute__((alias("openat")));

/* ---- Stable storage ---- */

EXPORT int fsync(int fd)
{
	REAL(int, "fsync", int);
	return fails_with(INJECT_SYNC, EIO) ? -1 : real(fd);
}

EXPORT int fdatasync(int fd)
{
	REAL(int, "fdatasync", int);
	return fails_with(INJECT_SYNC, EIO) ? -1 : real(fd);
}

EXPORT int msync(void *address, size_t size, int flags)
{
	REAL(int, "msync", void *, size_t, int);
	return fails_with(INJECT_SYNC, EIO) ? -1 : real(address, size, flags);
}

/* ---- Growing ---- */

EXPORT void *mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset)
{
	REAL(void *, "mmap", void *, size_t, int, int, int, off_t);
	return fails_with(INJECT_GROW, ENOMEM) ? MAP_FAILED : real(address, size, protection, flags, fd, offset);
}
EXPORT void *mmap64(void *address, size_t size, int protection, int flags, int fd, off_t offset)
	__attribute__((alias("mmap")));

EXPORT int ftruncate(int fd, off_t size)
{
	REAL(int, "ftruncate", int, off_t);
	int r = fails_with(INJECT_GROW, ENOSPC) ? -1 : real(fd, size);

	if (r == 0 && fails(INJECT_LATE))
		usleep(50 * 1000);
	return r;
}
EXPORT int ftruncate64(int fd, off_t size) __attribute__((alias("ftruncate")));

EXPORT int fallocate(int fd, int mode, off_t offset, off_t size)
{
	REAL(int, "fallocate", int, int, off_t, off_t);
	return fails_with(INJECT_GROW, ENOSPC) ? -1 : real(fd, mode, offset, size);
}
EXPORT int fallocate64(int fd, int mode, off_t offset, off_t size) __attribute__((alias("fallocate")));

EXPORT int posix_fallocate(int fd, off_t offset, off_t size)
{
	REAL(int, "posix_fallocate", int, off_t, off_t);
	return fails(INJECT_GROW) ? ENOSPC : real(fd, offset, size);
}
EXPORT int posix_fallocate64(int fd, off_t offset, off_t size) __attribute__((alias("posix_fallocate")));

/* ---- Links ---- */

EXPORT int linkat(int old_fd, const char *old_path, int new_fd, const char *new_path, int flags)
{
	REAL(int, "linkat", int, const char *, int, const char *, int);
	return flags & AT_EMPTY_PATH && fails_with(INJECT_LINK, ENOENT) ? -1 : real(old_fd, old_path, new_fd, new_path, flags);
}

/* ---- SQLite ---- */

static int sqlite_error(void)
{
	return plan->at % 2 ? SQLITE_IOERR : SQLITE_FULL;
}

/* SQLite calls itself, and does not always look at the answer: a real failure in there shows in the outer call. */
static _Thread_local unsigned depth;

static bool fails_here(void)
{
	return depth == 0 && fails(INJECT_SQLITE);
}

EXPORT int sqlite3_step(sqlite3_stmt *statement)
{
	REAL(int, "sqlite3_step", sqlite3_stmt *);
	int code;

	if (fails_here())
		return sqlite_error();
	depth++;
	code = real(statement);
	depth--;
	return code;
}

EXPORT int sqlite3_exec(sqlite3 *db, const char *sql, int (*callback)(void *, int, char **, char **), void *argument,
			char **out_message)
{
	REAL(int, "sqlite3_exec", sqlite3 *, const char *, int (*)(void *, int, char **, char **), void *, char **);
	int code;

	if (fails_here())
		return sqlite_error();
	depth++;
	code = real(db, sql, callback, argument, out_message);
	depth--;
	return code;
}

/* ---- Preloaded ---- */

static enum inject_kind find_kind(const char *name, size_t length)
{
	for (int kind = 1; kind < INJECT_KINDS; kind++)
		if (strlen(names[kind]) == length && strncmp(names[kind], name, length) == 0)
			return kind;
	return INJECT_NONE;
}

__attribute__((constructor)) static void arm_from_environment(void)
{
	const char *text = getenv("HRFS_FAULT");
	const char *colon = text ? strchr(text, ':') : NULL;
	void *shared;
	char *end;
	unsigned long n;

	if (!colon)
		return;
	shared = mmap(NULL, sizeof(*plan), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		abort();
	plan = shared;
	n = strtoul(colon + 1, &end, 10);
	inject_arm(find_kind(text, colon - text), n, *end == '+');
}
