/* Receiver: inotify, fanotify, hrfs and watchman behind the same two verbs. */
#include "bench/receiver.h"

#include "base/scope.h"
#include "client/hrfs.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum {
	BUFFER_SIZE = 64 << 10,
	WALK_FDS = 32,
};

/* What a program that follows a tree by inotify has to ask for. */
#define WATCHED (IN_MODIFY | IN_ATTRIB | IN_CLOSE_WRITE | IN_MOVE | IN_CREATE | IN_DELETE | IN_ONLYDIR)

struct kind {
	const char *name;
	int (*open)(struct receiver *receiver, const char *folder, const char *socket_path);
	/* Returns 1: that was it, 0: something else, or a negative errno. */
	int (*next)(struct receiver *receiver, uint64_t size);
};

struct receiver {
	const struct kind *kind;
	int fd;            /* inotify, fanotify */
	int root_watch;    /* inotify: the folder's own */
	char *buffer;      /* inotify, fanotify: what was read */
	size_t used, at;   /* bytes in buffer, and how far it has been looked through */
	struct hrfs *hrfs;
	FILE *stream;      /* watchman */
};

/* ---- inotify ---- */

/* nftw(3) has no argument for its caller's data. */
static int walk_fd;

static int add_watch(const char *path, const struct stat *st, int type, struct FTW *place)
{
	return type == FTW_D && inotify_add_watch(walk_fd, path, WATCHED) < 0 ? -1 : 0;
}

static int open_inotify(struct receiver *receiver, const char *folder, const char *socket_path)
{
	walk_fd = receiver->fd = inotify_init1(IN_CLOEXEC);
	if (receiver->fd < 0)
		return -errno;
	receiver->root_watch = inotify_add_watch(receiver->fd, folder, WATCHED);
	if (receiver->root_watch < 0 || nftw(folder, add_watch, WALK_FDS, FTW_PHYS) < 0)
		return -errno;
	return 0;
}

static int fill_buffer(struct receiver *receiver)
{
	ssize_t got = read(receiver->fd, receiver->buffer, BUFFER_SIZE);

	if (got <= 0)
		return got < 0 ? -errno : -EPIPE;
	receiver->used = got;
	receiver->at = 0;
	return 0;
}

static int next_inotify(struct receiver *receiver, uint64_t size)
{
	const struct inotify_event *event;
	int r;

	if (receiver->at >= receiver->used) {
		r = fill_buffer(receiver);
		if (r < 0)
			return r;
	}
	event = (const void *)(receiver->buffer + receiver->at);
	receiver->at += sizeof(*event) + event->len;
	return event->wd == receiver->root_watch && event->mask & IN_MODIFY && event->len && strcmp(event->name, PROBE) == 0;
}

/* ---- fanotify ---- */

static int open_fanotify(struct receiver *receiver, const char *folder, const char *socket_path)
{
	receiver->fd = fanotify_init(FAN_CLASS_NOTIF | FAN_CLOEXEC | FAN_REPORT_DFID_NAME, O_RDONLY);
	if (receiver->fd < 0)
		return -errno;
	if (fanotify_mark(receiver->fd, FAN_MARK_ADD | FAN_MARK_FILESYSTEM, FAN_MODIFY, AT_FDCWD, folder) < 0)
		return -errno;
	return 0;
}

/* The name stands behind the folder's handle in the record that follows the event's head. */
static bool names_probe(const struct fanotify_event_metadata *event)
{
	const struct fanotify_event_info_fid *info = (const void *)((const char *)event + event->metadata_len);
	const struct file_handle *handle = (const void *)info->handle;

	if (event->event_len <= event->metadata_len || info->hdr.info_type != FAN_EVENT_INFO_TYPE_DFID_NAME)
		return false;
	return strcmp((const char *)handle->f_handle + handle->handle_bytes, PROBE) == 0;
}

static int next_fanotify(struct receiver *receiver, uint64_t size)
{
	const struct fanotify_event_metadata *event;
	int r;

	if (receiver->at >= receiver->used) {
		r = fill_buffer(receiver);
		if (r < 0)
			return r;
	}
	event = (const void *)(receiver->buffer + receiver->at);
	receiver->at += event->event_len;
	return names_probe(event);
}

/* ---- hrfs ---- */

static int open_hrfs(struct receiver *receiver, const char *folder, const char *socket_path)
{
	int r = hrfs_connect(folder, &receiver->hrfs);

	if (r < 0)
		return r;
	return hrfs_subscribe(receiver->hrfs, HRFS_SINCE_NOW, 1);
}

static int next_hrfs(struct receiver *receiver, uint64_t size)
{
	struct hrfs_event event;
	int r = hrfs_next(receiver->hrfs, &event, -1);

	if (r < 0)
		return r;
	if (r == HRFS_BYE)
		return -EPIPE;
	if (r != HRFS_EVENT || strcmp(event.op, "write") != 0 || !event.path)
		return 0;
	return strcmp(event.path, PROBE) == 0 && event.offset + event.length >= size;
}

/* ---- watchman ---- */

static int ask_watchman(struct receiver *receiver, const char *command, const char *folder, const char *rest)
{
	scoped(freep) char *line = NULL;
	size_t room = 0;
	json_t *answer;
	int r;

	if (fprintf(receiver->stream, "[\"%s\",\"%s\"%s]\n", command, folder, rest) < 0 || fflush(receiver->stream) != 0)
		return -errno;
	if (getline(&line, &room, receiver->stream) < 0)
		return -EPIPE;
	answer = json_loads(line, 0, NULL);
	r = answer && !json_object_get(answer, "error") ? 0 : -EREMOTEIO;
	json_decref(answer);
	return r;
}

static int open_watchman(struct receiver *receiver, const char *folder, const char *socket_path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd, r;

	if (!socket_path || strlen(socket_path) >= sizeof(address.sun_path))
		return -EINVAL;
	strcpy(address.sun_path, socket_path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		r = -errno;
		close(fd);
		return r;
	}
	receiver->stream = fdopen(fd, "r+");
	if (!receiver->stream) {
		close(fd);
		return -ENOMEM;
	}
	r = ask_watchman(receiver, "watch", folder, "");
	if (r < 0)
		return r;
	return ask_watchman(receiver, "subscribe", folder,
			    ",\"bench\",{\"fields\":[\"name\",\"size\"],\"empty_on_fresh_instance\":true}");
}

static bool has_probe(json_t *message, uint64_t size)
{
	json_t *file;
	size_t i;

	json_array_foreach(json_object_get(message, "files"), i, file) {
		const char *name = json_string_value(json_object_get(file, "name"));

		if (name && strcmp(name, PROBE) == 0)
			return json_integer_value(json_object_get(file, "size")) >= size;
	}
	return false;
}

static int next_watchman(struct receiver *receiver, uint64_t size)
{
	scoped(freep) char *line = NULL;
	size_t room = 0;
	json_t *message;
	bool is_it;

	if (getline(&line, &room, receiver->stream) < 0)
		return -EPIPE;
	message = json_loads(line, 0, NULL);
	is_it = has_probe(message, size);
	json_decref(message);
	return is_it;
}

/* ---- The door ---- */

static const struct kind kinds[] = {
	{ "inotify", open_inotify, next_inotify },
	{ "fanotify", open_fanotify, next_fanotify },
	{ "hrfs", open_hrfs, next_hrfs },
	{ "watchman", open_watchman, next_watchman },
};

enum { KIND_COUNT = sizeof(kinds) / sizeof(kinds[0]) };

static const struct kind *find_kind(const char *name)
{
	for (int i = 0; i < KIND_COUNT; i++)
		if (strcmp(kinds[i].name, name) == 0)
			return &kinds[i];
	return NULL;
}

static void receiver_closep(struct receiver **receiver)
{
	receiver_close(*receiver);
}

int receiver_open(const char *kind, const char *folder, const char *socket_path, struct receiver **out)
{
	scoped(receiver_closep) struct receiver *receiver = calloc(1, sizeof(*receiver));
	int r;

	if (!receiver)
		return -ENOMEM;
	receiver->fd = -1;
	receiver->kind = find_kind(kind);
	if (!receiver->kind)
		return -EINVAL;
	receiver->buffer = malloc(BUFFER_SIZE);
	if (!receiver->buffer)
		return -ENOMEM;
	r = receiver->kind->open(receiver, folder, socket_path);
	if (r < 0)
		return r;
	*out = take(receiver);
	return 0;
}

void receiver_close(struct receiver *receiver)
{
	if (!receiver)
		return;
	closep(&receiver->fd);
	if (receiver->stream)
		fclose(receiver->stream);
	hrfs_close(receiver->hrfs);
	free(receiver->buffer);
	free(receiver);
}

int receiver_wait(struct receiver *receiver, uint64_t size)
{
	int r;

	while ((r = receiver->kind->next(receiver, size)) == 0)
		;
	return r < 0 ? r : 0;
}
