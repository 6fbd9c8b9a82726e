/* The command line of mount.hrfs: the input's lines are its arguments. */
#include "tests/fuzz/fuzz.h"

#include "daemon/options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { ARGUMENTS_MAX = 32 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct options options = { 0 };
	char *argv[ARGUMENTS_MAX + 2] = { (char *)"mount.hrfs" };
	char *text = strndup((const char *)data, size), *rest = text;
	int argc = 1, r;

	while (rest && argc <= ARGUMENTS_MAX)
		argv[argc++] = strsep(&rest, "\n");
	r = options_parse(argc, argv, &options);
	if (r == -EINVAL && !options.complaint)
		abort();
	options_finish(&options);
	free(text);
	return 0;
}
