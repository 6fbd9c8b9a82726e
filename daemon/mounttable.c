/*
 * Mounttable: lines of mountinfo, in the order in which mounts were made:
 *
 *     36 35 0:45 /sub /mnt/point rw,noatime shared:1 - fuse.hrfs /src rw
 *     id    dev       path       options  any words  - type      source options
 *
 * Blanks, tabs, newlines and backslashes in a path stand there as a backslash and three octal digits.
 */
#include "daemon/mounttable.h"

#include "base/scope.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static bool is_octal(const char *digits)
{
	for (int i = 0; i < 3; i++)
		if (digits[i] < '0' || digits[i] > '7')
			return false;
	return true;
}

/* Whether the escaped word at @word, which ends with a blank, is @path. */
static bool is_path(const char *word, const char *path)
{
	for (; *word && *word != ' '; word++, path++) {
		unsigned char c = *word;

		if (c == '\\' && is_octal(word + 1)) {
			c = (word[1] - '0') << 6 | (word[2] - '0') << 3 | (word[3] - '0');
			word += 3;
		}
		if (c != (unsigned char)*path)
			return false;
	}
	return *path == '\0';
}

/* Returns false when there is no room. */
static bool copy_word(const char *word, char *out, size_t size)
{
	for (; *word && *word != ' '; word++) {
		if (size-- <= 1)
			return false;
		if (*word == '\\' && is_octal(word + 1)) {
			*out++ = (word[1] - '0') << 6 | (word[2] - '0') << 3 | (word[3] - '0');
			word += 3;
		} else {
			*out++ = *word;
		}
	}
	*out = '\0';
	return true;
}

/* The word after the path is of the mount, the last one of the line of its file system. */
static void read_options(const char *path, const char *type, struct mounted *out)
{
	const char *options = path + strcspn(path, " ");
	const char *last = strrchr(type, ' ');

	options += strspn(options, " ");
	last = last ? last + 1 : "";
	snprintf(out->options, sizeof(out->options), "%.*s,%.*s", (int)strcspn(options, " "), options, (int)strcspn(last, "\n"), last);
}

static bool is_fuse(const char *type)
{
	return strncmp(type, "fuse ", 5) == 0 || strncmp(type, "fuse.", 5) == 0;
}

static bool read_line(const char *line, const char *path, struct mounted *out)
{
	unsigned id, minor;
	int path_at = 0;
	const char *type;

	if (sscanf(line, "%u %*u %*u:%u %*s %n", &id, &minor, &path_at) != 2 || path_at == 0)
		return false;
	if (!is_path(line + path_at, path))
		return false;
	type = strstr(line + path_at, " - ");
	if (!type)
		return false;
	type += 3;
	out->id = id;
	out->minor = minor;
	out->is_fuse = is_fuse(type);
	snprintf(out->type, sizeof(out->type), "%.*s", (int)strcspn(type, " "), type);
	read_options(line + path_at, type, out);
	return true;
}

int mounttable_find(const char *path, struct mounted *out)
{
	scoped(fclosep) FILE *table = fopen("/proc/self/mountinfo", "re");
	scoped(freep) char *line = NULL;
	size_t size = 0;
	int found = 0;

	if (!table)
		return -errno;
	while (getline(&line, &size, table) >= 0)
		if (read_line(line, path, out))
			found = 1;
	return ferror(table) ? -EIO : found;
}

static bool has_source(const char *line, const char *source, char *out_path, size_t size)
{
	const char *type = strstr(line, " - ");
	int path_at = 0;

	(void)sscanf(line, "%*u %*u %*s %*s %n", &path_at);
	if (!type || path_at == 0 || !is_fuse(type + 3))
		return false;
	type += 3;
	type += strcspn(type, " ");
	return is_path(type + strspn(type, " "), source) && copy_word(line + path_at, out_path, size);
}

int mounttable_find_source(const char *source, char *out_path, size_t size)
{
	scoped(fclosep) FILE *table = fopen("/proc/self/mountinfo", "re");
	scoped(freep) char *line = NULL;
	size_t room = 0;
	int found = 0;

	if (!table)
		return -errno;
	while (getline(&line, &room, table) >= 0)
		if (has_source(line, source, out_path, size))
			found = 1;
	return ferror(table) ? -EIO : found;
}
